//! Runs the simulator against a core with deliberate faults: a test that finds nothing in a broken broker proves
//! nothing. Each fault must be found within a limited number of seeds, and the same seeds pass without it.

mod chance;
mod device;
mod disk;
mod machine;
mod oracle;
mod plan;
#[expect(dead_code, reason = "the ways through the core are compared by the simulator itself")]
mod run;
mod store;
#[expect(dead_code, reason = "as above")]
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use brooklet::base::planted::{Fault, plant};

/// A fault that hides for longer would hide for ever.
const SEEDS: u64 = 2_000;

const FAULTS: [Fault; 33] = [
    Fault::LostPubrel,
    Fault::SkippedDup,
    Fault::WrongWildcard,
    Fault::ForgottenDirty,
    Fault::RepeatedDelivery,
    Fault::RetainedNotReplaced,
    Fault::QueueReordered,
    Fault::WillNotCancelled,
    Fault::WindowOffByOne,
    Fault::ExpiredDelivered,
    Fault::NoLocalIgnored,
    Fault::IdentifierReused,
    Fault::SessionNotDiscarded,
    Fault::FirstQoSWins,
    Fault::StaleMatches,
    Fault::ForgottenTimer,
    Fault::RetainedForLastOnly,
    Fault::RetainedTwice,
    Fault::RefusedDelivered,
    Fault::EarlyAnswer,
    Fault::EarlyPubrel,
    Fault::IdentifierNotDurable,
    Fault::NeverSettled,
    Fault::EarlyPubcomp,
    Fault::EarlySuback,
    Fault::EarlyConnack,
    Fault::RetainedNotKept,
    Fault::UnmarkedRepeat,
    Fault::ExpiryBeginsAnew,
    Fault::RecipientSkipped,
    Fault::AnsweredBeforeLast,
    Fault::ReplayResumedLate,
    Fault::NewerReplayed,
];

/// The first seed that fails with this fault planted.
fn first_find(fault: Fault) -> Option<u64> {
    plant(Some(fault));
    let found = (0..SEEDS).find(|&seed| catch_unwind(AssertUnwindSafe(|| run::run(seed, false))).is_err());
    plant(None);
    found
}

#[test]
fn every_planted_fault_is_found() {
    // The messages of the failures are not needed here.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let finds = FAULTS.map(|fault| (fault, first_find(fault)));
    std::panic::set_hook(hook);
    println!("{finds:?}");
    let missed: Vec<Fault> =
        finds.iter().filter(|(_, seed)| seed.is_none()).map(|(fault, _)| *fault).collect();
    assert!(missed.is_empty(), "not found in {SEEDS} seeds: {missed:?}");
    let farthest = finds.iter().filter_map(|(_, seed)| *seed).max().unwrap_or(0);
    for seed in 0..=farthest {
        let _replay = run::Replay(seed);
        let outcome = run::run(seed, false);
        let is_plausible = outcome.trace != 0 && outcome.deliveries.max(outcome.spans) < u64::MAX;
        assert!(is_plausible, "seed {seed}");
    }
}
