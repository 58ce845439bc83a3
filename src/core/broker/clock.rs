//! Time, as far as it was handed in: the current moment, the timers, and whether they stand still.

use super::Broker;
use crate::base::time::{Duration, Time};
use crate::core::slots::{ConnectionId, SessionId};
use crate::core::wheel::{TimerId, Wheel};

/// The broker's view of time.
#[derive(Debug)]
pub(super) struct Clock {
    pub(super) now: Time,
    /// When the broker began.
    pub(super) began: Time,
    pub(super) wheel: Wheel<Timer>,
    pub(super) respite: Respite,
}

impl Clock {
    pub(super) fn new(now: Time) -> Self {
        Self { now, began: now, wheel: Wheel::new(now), respite: Respite::default() }
    }

    /// Arms a timer that is due after this time.
    pub(super) fn arm(&mut self, after: Duration, timer: Timer) -> TimerId {
        self.wheel.arm(self.now + after, timer)
    }
}

impl Broker {
    /// Returns the current time.
    #[inline]
    pub(super) const fn now(&self) -> Time {
        self.clock.now
    }
}

/// The time for which timers stand still, because the broker was held up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Respite {
    /// When the broker was last no longer held up.
    pub(super) began: Time,
    pub(super) ends: Time,
    pub(super) prolonged: u8,
}

impl Respite {
    /// When timers fire again; a moment in the past if they do.
    pub(super) const fn ends(&self) -> Time {
        self.ends
    }
}

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// The connect timeout, the Keep Alive or the linger time of a connection.
    Connection(ConnectionId),
    /// The redelivery of a connected session; the Will or the end of a disconnected one.
    Session(SessionId),
    /// The search for expired retained messages.
    Sweep,
    /// The publication of `$SYS` topics.
    System,
    /// The release of memory that was kept for speed in a peak.
    Peak,
    /// Wills of sessions that are over, which had to wait.
    Endings,
    /// Messages that were left in the store and for which no member of a Shared Subscription had room.
    Legacies,
}
