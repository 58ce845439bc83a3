//! Time, as far as it was handed in: what the moment is, what waits for one, and whether time counts.

use crate::base::time::{Duration, Time};
use crate::core::slots::{ConnectionId, SessionId};
use crate::core::wheel::{TimerId, Wheel};

/// What the broker knows of time.
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

    /// Arms a timer for so long from now.
    pub(super) fn arm(&mut self, after: Duration, timer: Timer) -> TimerId {
        self.wheel.arm(self.now + after, timer)
    }
}

/// The time for which timers stand still, because the broker was held up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Respite {
    /// When the broker was no longer held up, the last time that it was.
    pub(super) began: Time,
    pub(super) ends: Time,
    pub(super) prolonged: u8,
}

impl Respite {
    /// When timers fire again; a moment that has passed, if they do.
    pub(super) const fn ends(&self) -> Time {
        self.ends
    }
}

/// What waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// The connect timeout, the Keep Alive or the linger time of a connection.
    Connection(ConnectionId),
    /// The redelivery of a connected session; the Will or the end of one whose client is away.
    Session(SessionId),
    /// The search for expired retained messages.
    Sweep,
    /// What the broker tells of itself.
    System,
    /// What a peak has left behind.
    Peak,
    /// Wills of sessions that are over, which had to wait.
    Endings,
    /// What was left in the store and found no member of a Shared Subscription that had room.
    Legacies,
}
