//! The deterministic simulator: the real core and codec, model clients of all versions, links with faults, a disk that
//! is slow or full, crashes of the broker and of its machine, and clocks that are changed, all derived from a seed; an
//! oracle checks every step.
//!
//! `make sim SEEDS=n SEED=k` runs `n` seeds from `k` on; `cargo test` runs a few hundred.

#[cfg(feature = "bridge")]
mod bridges;
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

use std::sync::{Mutex, MutexGuard, PoisonError};

use run::{Replay, run, run_on};
use world::Course;

/// Seeds of a plain `cargo test`.
const SEEDS: u64 = 200;
/// One seed in this many is run twice.
const REPEATED: u64 = 10;
/// One seed in this many also runs with large volumes.
const LARGE: u64 = 50;

/// Seeds of a plain `cargo test` with a bridge.
#[cfg(feature = "bridge")]
const BRIDGED: u64 = 80;

/// Seeds of a plain `cargo test` that are run on several courses.
const COMPARED: u64 = 100;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().filter(|text| !text.is_empty()).map(|text| text.parse().expect("a number"))
}

/// The memory of the whole process is counted, so one test runs at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn whatever_happens_every_promise_holds() {
    let _alone = alone();
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

/// Two brokers and the bridge between them.
#[cfg(feature = "bridge")]
#[test]
fn a_bridge_delivers_what_was_promised() {
    let _alone = alone();
    let first = number("SEED").unwrap_or(0);
    let count = number("SEEDS").unwrap_or(BRIDGED);
    let (mut crossed, mut connects) = (0, 0);
    for seed in first..first + count {
        let _replay = Replay(seed);
        let outcome = bridges::run(seed, count == 1);
        crossed += outcome.crossed;
        connects += outcome.connects;
        if seed % REPEATED == 0 {
            assert_eq!(
                bridges::run(seed, false).trace,
                outcome.trace,
                "the same seed gives the same messages"
            );
        }
    }
    println!("{count} seeds from {first} on, {crossed} messages over the bridge in {connects} connections");
    assert!(count < BRIDGED || (crossed > 10 * count && connects > 2 * count), "it is about something");
}

/// Fast paths through the core, long ones, and questions that are granted lead to the same bytes for each connection,
/// and to the same counts. The order in which connections are written in a turn may differ: several answers to one
/// client leave together, so they may leave after the message to a receiver of the second one.
#[test]
fn every_path_gives_the_same_bytes() {
    let _alone = alone();
    let first = number("SEED").unwrap_or(0);
    let count = number("SEEDS").unwrap_or(COMPARED);
    for seed in first..first + count {
        let _replay = Replay(seed);
        let short = run_on(seed, Course::Short, false);
        for course in [Course::InFull, Course::Asked] {
            // A client that waits for a decision is served later.
            if course == Course::Asked && short.waits_for_decisions {
                continue;
            }
            let other = run_on(seed, course, false);
            for (connection, bytes) in &short.heard {
                let others = other.heard.get(connection);
                assert_eq!(Some(bytes), others, "connection {connection:?}, {course:?}");
            }
            assert_eq!(short.heard.len(), other.heard.len(), "{course:?}");
            assert_eq!(short.statistics, other.statistics, "{course:?}");
        }
    }
}
