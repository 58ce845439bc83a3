//! The deterministic simulator: the real core and the real codec, model clients of all versions, links with faults, a
//! disk that is slow or full, crashes of the broker and of its machine, and clocks that are moved, all drawn from a
//! seed; an oracle checks after every step.
//!
//! `make sim SEEDS=n SEED=k` runs `n` seeds from `k` on; `cargo test` runs a few hundred.

mod chance;
mod device;
mod disk;
mod ledger;
mod machine;
mod oracle;
mod plan;
mod run;
mod store;
#[path = "../memory/truth.rs"]
#[expect(dead_code, reason = "the ledger is begun and compared in its own way")]
mod truth;
mod volume;
mod world;

use run::{Replay, run};

/// Seeds of a plain `cargo test`.
const SEEDS: u64 = 200;
/// One seed in so many is run twice.
const REPEATED: u64 = 10;
/// One in so many is about large volumes, too.
const LARGE: u64 = 50;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().filter(|text| !text.is_empty()).map(|text| text.parse().expect("a number"))
}

#[test]
fn whatever_happens_the_promises_are_kept() {
    let first = number("SEED").unwrap_or(0);
    let count = number("SEEDS").unwrap_or(SEEDS);
    let (mut deliveries, mut spans) = (0, 0);
    for seed in first..first + count {
        let _replay = Replay(seed);
        let outcome = run(seed, count == 1);
        deliveries += outcome.deliveries;
        spans += outcome.spans;
        if seed % LARGE == 7 {
            deliveries += volume::run(seed, count == 1);
        }
        if seed % REPEATED == 0 {
            assert_eq!(run(seed, false).trace, outcome.trace, "the same seed gives the same bytes");
        }
    }
    println!("{count} seeds from {first} on, {deliveries} deliveries, {spans} times more than a turn");
    assert!(count < SEEDS || (deliveries > count && spans > count / 2), "it is about something");
}
