//! Which batch is open, which one the store is writing, and which are durable.

use super::{Pace, Urgency};
use crate::base::time::{Duration, Time};

/// The state of the batches, by their numbers.
#[derive(Debug)]
pub(super) struct Batches {
    pace: Pace,
    /// The number of the open batch.
    open: u64,
    /// All batches up to this one are durable.
    durable: u64,
    /// Bytes of the batch that the store is writing.
    closed_bytes: usize,
    /// When the open batch has to be closed; [`Time::NEVER`] while it is empty.
    due: Time,
}

impl Batches {
    /// Begins with an empty batch.
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

    /// Whether the store is writing a batch.
    pub(super) const fn is_closed(&self) -> bool {
        self.open > self.durable + 1
    }

    pub(super) const fn closed_bytes(&self) -> usize {
        self.closed_bytes
    }

    /// Returns when the open batch has to be closed; [`Time::NEVER`] while it is empty.
    pub(super) const fn due(&self) -> Time {
        self.due
    }

    /// Sets when the open batch has to be closed, even if it is still empty.
    pub(super) const fn set_due(&mut self, due: Time) {
        self.due = due;
    }

    /// Makes the open batch due no later than `now`.
    pub(super) fn is_due(&mut self, now: Time) {
        self.due = self.due.min(now);
    }

    /// Makes the open batch due after the wait that this urgency allows, if it is not due sooner. A full batch is due
    /// at once.
    pub(super) fn hurry(&mut self, urgency: Urgency, is_full: bool, now: Time) {
        let wait = match urgency {
            _ if is_full => Duration::ZERO,
            Urgency::Urgent => self.pace.urgent,
            Urgency::Lazy => self.pace.lazy,
        };
        self.is_due(now + wait);
    }

    /// Closes the open batch and begins another one that is due then. Returns the number of the closed batch.
    pub(super) const fn close(&mut self, due: Time) -> u64 {
        self.due = due;
        self.open += 1;
        self.open - 1
    }

    /// Records that the closed batch, which has this many bytes, is handed to the store.
    pub(super) const fn submit(&mut self, bytes: usize) {
        self.closed_bytes = bytes;
    }

    /// Records that the batch is durable that the store was writing.
    ///
    /// # Panics
    ///
    /// If `number` is that of another batch.
    pub(super) fn is_durable(&mut self, number: u64) {
        assert!(self.is_closed() && number == self.durable + 1, "batches become durable in order");
        self.durable = number;
        self.closed_bytes = 0;
    }
}
