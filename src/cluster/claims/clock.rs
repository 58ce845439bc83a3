//! The time of the cluster, as a node knows it.

use std::fmt;

use crate::base::time::{Duration, Time};

/// How far a node moves its time forward at most, beyond that of its system when it has started: a hundred years, since
/// a machine without a clock begins in 1970.
const FORWARD_MAXIMUM: u64 = 100 * 366 * 24 * 60 * 60 * 1_000;

/// The time of a message is impossible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooFar;

impl fmt::Display for TooFar {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("its time is more than two hundred years ahead")
    }
}

/// Milliseconds since 1970, according to the fastest clock that was heard of.
#[derive(Debug)]
pub(super) struct ClusterClock {
    /// The time of the cluster at the time zero of this broker.
    offset: u64,
    /// The greatest offset that is believed.
    offset_maximum: u64,
}

impl ClusterClock {
    pub(super) fn new(wall: Duration, now: Time) -> Self {
        let offset = wall.milliseconds().saturating_sub(now.milliseconds());
        Self { offset, offset_maximum: offset.saturating_add(FORWARD_MAXIMUM) }
    }

    /// The time of the cluster at a moment of this broker.
    pub(super) const fn at(&self, moment: Time) -> u64 {
        self.offset.saturating_add(moment.milliseconds())
    }

    /// Another node says that it is so late now.
    pub(super) fn hear(&mut self, time: u64, now: Time) -> Result<(), TooFar> {
        let offset = time.saturating_sub(now.milliseconds());
        // A node whose own time is at its limit is not refused by one whose clock is slower.
        if offset > self.offset_maximum.saturating_add(FORWARD_MAXIMUM) {
            return Err(TooFar);
        }
        self.offset = self.offset.max(offset.min(self.offset_maximum));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: u64 = 1_800_000_000_000;

    fn at(milliseconds: u64) -> Time {
        Time::from_milliseconds(milliseconds)
    }

    fn clock(wall: u64, now: u64) -> ClusterClock {
        ClusterClock::new(Duration::from_milliseconds(wall), at(now))
    }

    #[test]
    fn it_goes_on_and_follows_a_faster_one_but_no_slower_one() {
        let mut clock = clock(WALL, 500);
        assert_eq!((clock.at(at(500)), clock.at(at(1_500))), (WALL, WALL + 1_000));
        assert_eq!(clock.hear(WALL - 3_600_000, at(600)), Ok(()));
        assert_eq!(clock.at(at(1_500)), WALL + 1_000);
        assert_eq!(clock.hear(WALL + 3_600_000, at(1_500)), Ok(()));
        assert_eq!(clock.at(at(1_600)), WALL + 3_600_100);
    }

    #[test]
    fn a_machine_without_a_clock_comes_as_far_as_the_others() {
        for now in [0, 1 << 40] {
            let mut clock = clock(0, now);
            assert_eq!(clock.hear(WALL, at(now)), Ok(()));
            assert_eq!(clock.at(at(now + 7)), WALL + 7);
        }
    }

    /// After an impossible time, those that have heard it and those that start later still agree.
    #[test]
    fn an_impossible_time_does_harm_to_none() {
        let (mut one, mut other) = (clock(WALL, 0), clock(WALL + 3, 1_000));
        assert_eq!(one.hear(u64::MAX, at(0)), Err(TooFar));
        assert_eq!(one.at(at(0)), WALL);
        assert_eq!(one.hear(WALL + FORWARD_MAXIMUM + 1_000_000, at(0)), Ok(()));
        assert_eq!(other.hear(one.at(at(50)), at(1_050)), Ok(()));
        assert_eq!(one.hear(other.at(at(1_050)), at(50)), Ok(()));
        let (one, other) = (one.at(at(70)), other.at(at(1_070)));
        assert!(one.abs_diff(other) <= 3, "{one} {other}");
    }
}
