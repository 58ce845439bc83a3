//! Acknowledged data outlives the broker: the real binary is killed again and again while clients publish, subscribe
//! and leave, and an oracle knows what every client was promised.
//!
//! `make crash ROUNDS=n SEED=k` runs `n` rounds from seed `k` on; `cargo test` runs a few. The actions of the clients
//! follow from the seed; when the broker sees them, and where the kill hits it, do not. So a round that fails prints
//! its seed, keeps its directory with the broker's file, logs and the clients' story, and is tried several times.

#[cfg(feature = "bridge")]
mod bridged;
mod broker;
#[path = "../simulation/chance.rs"]
#[expect(dead_code, reason = "the simulator uses the rest")]
mod chance;
#[expect(dead_code, reason = "the tests of clusters use the rest")]
mod client;
#[cfg(feature = "system")]
mod damage;
mod disk;
mod full;
mod ledger;
mod link;
mod migration;
#[path = "../hostile/peer.rs"]
#[expect(dead_code, reason = "the hostile tests use the rest")]
mod peer;
mod refusals;
#[cfg(feature = "bridge")]
mod relay;
mod round;
#[path = "../clients/server.rs"]
#[expect(dead_code, reason = "the clients' tests use the rest")]
mod server;
#[path = "../conformance/wire.rs"]
#[expect(dead_code, reason = "the conformance tests use the rest")]
mod wire;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};

use round::{Outcome, Round};

/// Rounds of a plain `cargo test`, without and with power cuts or a bridge.
const ROUNDS: u64 = 10;
const RUNS: u64 = 1;
/// A broker that never flushes is detected within this many rounds.
const RUNS_WITHOUT_FLUSHES: u64 = 20;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().filter(|text| !text.is_empty()).map(|text| text.parse().expect("a number"))
}

/// Runs rounds one after another and prints a summary.
fn run(count: u64, round: impl Fn(u64) -> Outcome) {
    let first = number("SEED").unwrap_or(0);
    let mut sum = Outcome::default();
    for seed in first..first + count {
        sum.add(&round(seed));
    }
    println!("{count} rounds from {first} on: {sum:?}");
    assert!(sum.deliveries > sum.kills, "the rounds are about something");
    assert_eq!(sum.false_alarms, 0, "the end of the process or the power damages nothing");
}

#[test]
fn what_was_acknowledged_outlives_the_broker() {
    run(number("ROUNDS").unwrap_or(ROUNDS), |seed| Round::new("kill", seed).run());
}

#[cfg(feature = "bridge")]
#[test]
fn what_was_acknowledged_outlives_both_brokers_of_a_bridge() {
    run(number("RUNS").unwrap_or(RUNS), |seed| bridged::Round::new(seed).run());
}

#[test]
fn what_was_acknowledged_outlives_a_power_cut() {
    if has_strace() {
        run(number("RUNS").unwrap_or(RUNS), |seed| Round::new("cut", seed).run_with_power_cuts(true));
    }
}

#[test]
#[ignore = "it takes its time, and what it proves changes with the harness alone"]
fn a_disk_that_flushes_nothing_is_found_out() {
    let is_fine = |seed| {
        let round = AssertUnwindSafe(|| Round::new("no-flush", seed).run_with_power_cuts(false));
        catch_unwind(round).is_ok()
    };
    assert!(has_strace() && !(0..RUNS_WITHOUT_FLUSHES).all(is_fine));
}

fn has_strace() -> bool {
    let traced =
        Command::new("strace").args(["-D", "-o", "/dev/null", "true"]).stderr(Stdio::null()).status();
    let is_there = traced.is_ok_and(|status| status.success());
    if !is_there {
        println!(
            "SKIPPED, because strace, which records what the broker does to its disk, is missing or not permitted"
        );
    }
    is_there
}
