//! Which batch gathers, which one is with the store, and which are durable.

use super::{Pace, Urgency};
use crate::base::time::{Duration, Time};

/// The batches, by their numbers.
#[derive(Debug)]
pub(super) struct Batches {
    pace: Pace,
    /// The number of the batch that gathers.
    open: u64,
    /// All batches up to this one are durable.
    durable: u64,
    /// Bytes of the batch that is with the store.
    closed_bytes: usize,
    /// When the open batch is to be closed; [`Time::NEVER`] while there is nothing in it.
    due: Time,
}

impl Batches {
    /// There is none yet.
    pub(super) const fn new(pace: Pace) -> Self {
        Self { pace, open: 1, durable: 0, closed_bytes: 0, due: Time::NEVER }
    }

    pub(super) const fn pace(&self) -> &Pace {
        &self.pace
    }

    pub(super) const fn open(&self) -> u64 {
        self.open
    }

    pub(super) const fn durable(&self) -> u64 {
        self.durable
    }

    /// Whether a batch is with the store.
    pub(super) const fn is_closed(&self) -> bool {
        self.open > self.durable + 1
    }

    pub(super) const fn closed_bytes(&self) -> usize {
        self.closed_bytes
    }

    /// When the open batch is to be closed; [`Time::NEVER`] while there is nothing in it.
    pub(super) const fn due(&self) -> Time {
        self.due
    }

    /// The open batch is due then, even if nothing is in it yet.
    pub(super) const fn set_due(&mut self, due: Time) {
        self.due = due;
    }

    /// Something is in the open batch, which is to be closed no later than now.
    pub(super) fn is_due(&mut self, now: Time) {
        self.due = self.due.min(now);
    }

    /// Something is in the open batch; it waits no longer for company than that needs.
    pub(super) fn hurry(&mut self, urgency: Urgency, is_full: bool, now: Time) {
        let wait = match urgency {
            _ if is_full => Duration::ZERO,
            Urgency::Urgent => self.pace.urgent,
            Urgency::Lazy => self.pace.lazy,
        };
        self.is_due(now + wait);
    }

    /// Closes the open batch and begins another one, due then. Returns the number of the closed one.
    pub(super) const fn close(&mut self, due: Time) -> u64 {
        self.due = due;
        self.open += 1;
        self.open - 1
    }

    /// The closed batch, which has so many bytes, goes to the store.
    pub(super) const fn submit(&mut self, bytes: usize) {
        self.closed_bytes = bytes;
    }

    /// The batch with the store is durable.
    ///
    /// # Panics
    ///
    /// If it is another one.
    pub(super) fn is_durable(&mut self, number: u64) {
        assert!(self.is_closed() && number == self.durable + 1, "batches become durable in their order");
        self.durable = number;
        self.closed_bytes = 0;
    }
}
