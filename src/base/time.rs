//! Moments and durations: whole milliseconds since an origin that the caller chooses.
//!
//! Nothing below the server reads a clock. The server passes in the milliseconds of a monotonic clock; a test or a
//! simulation passes in any values.

use std::ops::{Add, Sub};

/// A moment, in milliseconds since the broker's origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(u64);

impl Time {
    /// The origin itself.
    pub const ZERO: Self = Self(0);
    /// Later than every other moment.
    pub const NEVER: Self = Self(u64::MAX);

    /// The moment `milliseconds` after the origin.
    pub const fn from_milliseconds(milliseconds: u64) -> Self {
        Self(milliseconds)
    }

    /// Milliseconds since the origin.
    pub const fn milliseconds(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to this moment; zero if `earlier` is the later one.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    /// Saturates at [`Time::NEVER`], so a far expiry cannot wrap around into the past.
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration.0))
    }
}

impl Sub<Duration> for Time {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(duration.0))
    }
}

/// A duration in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration(u64);

impl Duration {
    /// The duration zero.
    pub const ZERO: Self = Self(0);

    /// The duration of this number of milliseconds.
    pub const fn from_milliseconds(milliseconds: u64) -> Self {
        Self(milliseconds)
    }

    /// The duration of this number of seconds, the unit of every interval on the wire. Saturates.
    pub const fn from_seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// The duration in milliseconds.
    pub const fn milliseconds(self) -> u64 {
        self.0
    }

    /// The duration in seconds, rounded down.
    pub const fn seconds(self) -> u64 {
        self.0 / 1000
    }

    /// The duration doubled `times` times, at most 32. Saturates.
    pub const fn doubled(self, times: u32) -> Self {
        Self(self.0.saturating_mul(1u64 << if times > 32 { 32 } else { times }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn far_moments_do_not_wrap() {
        assert_eq!(Time::from_milliseconds(5) + Duration::from_seconds(u64::MAX), Time::NEVER);
        assert_eq!(Time::ZERO.since(Time::NEVER), Duration::ZERO);
        assert_eq!(Duration::from_milliseconds(3).doubled(2).milliseconds(), 12);
        assert_eq!(Duration::from_milliseconds(3).doubled(200), Duration::from_milliseconds(3 << 32));
    }
}
