//! The only clock of the broker, and the only chance.

use std::hash::{BuildHasher, RandomState};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::time::{Duration, Time};

/// A monotonic clock that starts at zero.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    origin: Instant,
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "the server is where time comes from")]
    pub(super) fn start() -> Self {
        Self { origin: Instant::now() }
    }

    pub(super) fn now(self) -> Time {
        Time::from_milliseconds(u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

/// The time since 1970, as a clock on the wall shows it.
#[expect(clippy::disallowed_methods, reason = "the server is where time comes from")]
pub fn wall() -> Duration {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    Duration::from_milliseconds(u64::try_from(since).unwrap_or(u64::MAX))
}

/// A number that nobody can foresee: the keys of the standard library's hash maps are drawn from the system.
pub(super) fn seed() -> u64 {
    RandomState::new().hash_one("a seed")
}
