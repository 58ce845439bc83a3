//! The broker's only clock and only source of randomness.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration as SystemDuration, Instant, SystemTime, UNIX_EPOCH};

use crate::base::time::{Duration, Time};
#[cfg(feature = "persistence")]
use crate::storage::timeline::{Boot, Clocks};

/// A clock that starts at zero and never goes back. It counts the time that the machine sleeps, where the system can
/// tell: clients are silent and sessions age during that time as well.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    origin: Instant,
    /// The same moment, as reported by [`since_boot`].
    booted: Option<SystemDuration>,
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "the server is where time comes from")]
    pub(super) fn start() -> Self {
        Self { origin: Instant::now(), booted: since_boot() }
    }

    pub(super) fn now(self) -> Time {
        let elapsed = self.booted.and_then(|origin| since_boot()?.checked_sub(origin));
        let elapsed = elapsed.unwrap_or_else(|| self.origin.elapsed());
        Time::from_milliseconds(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
    }
}

/// How long the machine has been running, sleep included.
#[cfg(any(feature = "system", feature = "persistence"))]
fn since_boot() -> Option<SystemDuration> {
    use nix::time::{ClockId, clock_gettime};
    clock_gettime(ClockId::CLOCK_BOOTTIME).ok().map(SystemDuration::from)
}

#[cfg(not(any(feature = "system", feature = "persistence")))]
const fn since_boot() -> Option<SystemDuration> {
    None
}

/// The wall-clock time since 1970.
#[expect(clippy::disallowed_methods, reason = "the server is where time comes from")]
pub fn wall() -> Duration {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    Duration::from_milliseconds(u64::try_from(since).unwrap_or(u64::MAX))
}

/// All clocks of the machine, for stored data.
#[cfg(feature = "persistence")]
#[derive(Clone, Copy, Debug)]
pub struct AllClocks {
    own: Clock,
    /// The identifier of this boot of the machine; `None` where the system does not provide one.
    boot: Option<u128>,
}

#[cfg(feature = "persistence")]
impl AllClocks {
    /// All clocks, with this one for the broker.
    pub(super) fn of(own: Clock) -> Self {
        Self { own, boot: boot() }
    }

    /// All clocks, with a new one for the broker.
    pub fn start() -> Self {
        Self::of(Clock::start())
    }

    /// Reads all clocks.
    pub fn read(self) -> Clocks {
        let boot = self.boot.zip(since_boot()).map(|(id, uptime)| {
            let uptime = u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX);
            Boot { id, uptime: Time::from_milliseconds(uptime) }
        });
        Clocks { now: self.own.now(), boot, wall: wall().milliseconds() }
    }
}

/// The identifier that the system assigns to each boot.
#[cfg(feature = "persistence")]
fn boot() -> Option<u128> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    u128::from_str_radix(&text.trim_end().replace('-', ""), 16).ok()
}

/// An unpredictable number: the system seeds the hash maps of the standard library.
pub(super) fn seed() -> u64 {
    RandomState::new().hash_one("a seed")
}

/// The same for a node of a cluster, different for each name. Machines that start with the same image may have nothing to
/// be unpredictable with, and only their names tell them apart.
#[cfg(feature = "cluster")]
pub(super) fn seed_of_node(name: &str) -> u64 {
    seed_with(&RandomState::new(), name)
}

#[cfg(feature = "cluster")]
fn seed_with(state: &RandomState, name: &str) -> u64 {
    state.hash_one(("the seed of a node", name))
}

#[cfg(all(test, feature = "cluster"))]
mod seeds {
    use super::*;

    #[test]
    fn nodes_differ_even_if_nothing_is_random() {
        let state = RandomState::new();
        let seeds = ["a", "b", "ab", ""].map(|name| seed_with(&state, name));
        let different: std::collections::BTreeSet<u64> = seeds.into();
        assert_eq!(different.len(), seeds.len());
        assert_ne!(seed_of_node("a"), seed_of_node("a"), "each start differs as well");
    }
}

#[cfg(all(test, any(feature = "system", feature = "persistence")))]
mod tests {
    use super::*;

    /// The system reports the same in a file, with sleep included.
    #[expect(clippy::disallowed_methods, reason = "it is the system that is asked")]
    fn uptime() -> SystemDuration {
        let bytes = std::fs::read("/proc/uptime").expect("the system has it");
        let text = String::from_utf8(bytes).expect("it is a text");
        let seconds = text.split(' ').next().and_then(|text| text.parse().ok());
        SystemDuration::from_secs_f64(seconds.expect("it begins with a number"))
    }

    #[test]
    fn it_is_the_clock_that_goes_on_while_the_machine_sleeps() {
        let (before, found, after) = (uptime(), since_boot().expect("there is such a clock"), uptime());
        // The file has hundredths of a second.
        let is_between = before <= found && found <= after + SystemDuration::from_millis(10);
        assert!(is_between, "{before:?} {found:?} {after:?}");
    }
}
