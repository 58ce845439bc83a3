//! Changes that each batch persists only in part. So many sessions may end and so many clients acknowledge at once
//! that everything else would be delayed. Nothing waits for these changes.

use std::collections::{BTreeMap, VecDeque};

use super::acknowledged::Acknowledged;
use super::records::Records;
use super::{MessageNumber, Messages, Record, SessionNumber};
use crate::base::memory;
use crate::base::time::{Duration, Time};
use crate::protocol::codec::PacketIdentifier;

/// Messages left by sessions to settle with one batch.
const LEFTOVERS_PER_BATCH: usize = 4096;
/// How long the rest of them waits for the next batch.
const LEFTOVERS_PAUSE: Duration = Duration::from_seconds(1);
/// Acknowledged copies to settle with one batch: so few that clients waiting for this batch or the next one do not
/// notice.
const ACKNOWLEDGED_PER_BATCH: usize = 512;
/// Bytes of the list of acknowledged copies. Beyond: they are settled with the next batch, like others.
const ACKNOWLEDGED_BYTES_MAXIMUM: usize = 16 * 1024 * 1024;
/// Packet Identifiers of begun deliveries to persist with one batch.
const BEGUN_PER_BATCH: usize = 4096;
/// Bytes per begun delivery, in tree nodes two thirds full.
const BEGUN_BYTES: usize = 28;

/// The changes that wait for their turn.
#[derive(Debug, Default)]
pub(super) struct Deferred {
    /// Messages that sessions no longer need, because the session has ended or the message has expired. They need not
    /// be persisted soon.
    leftovers: VecDeque<(SessionNumber, VecDeque<MessageNumber>)>,
    leftover_bytes: usize,
    /// Copies that clients have acknowledged. They need not be persisted soon either.
    acknowledged: Acknowledged,
    /// QoS 1 deliveries that have begun after their messages were persisted or queued. Their Packet Identifiers are
    /// added to the next batch. Nothing waits for this, and no batch is closed for it. A delivery that is complete by
    /// then is left out.
    begun: BTreeMap<(MessageNumber, SessionNumber), PacketIdentifier>,
}

impl Deferred {
    /// Adds messages that a session no longer needs.
    pub(super) fn leave(&mut self, session: SessionNumber, messages: VecDeque<MessageNumber>) {
        self.leftover_bytes += leftover_bytes(&messages);
        self.leftovers.push_back((session, messages));
    }

    /// Adds an acknowledged copy. Returns false if there is no room for more or the copy is known.
    pub(super) fn acknowledge(&mut self, message: MessageNumber, session: SessionNumber) -> bool {
        !self.is_full() && self.acknowledged.insert(message, session)
    }

    /// Whether there is no room for more acknowledged copies.
    pub(super) fn is_full(&self) -> bool {
        self.acknowledged.memory() >= ACKNOWLEDGED_BYTES_MAXIMUM
    }

    /// Adds a delivery that has begun.
    pub(super) fn begin(
        &mut self,
        message: MessageNumber,
        session: SessionNumber,
        identifier: PacketIdentifier,
    ) {
        self.begun.insert((message, session), identifier);
    }

    /// Removes a delivery that is complete.
    pub(super) fn end(&mut self, message: MessageNumber, session: SessionNumber) {
        self.begun.remove(&(message, session));
    }

    /// Whether the next batch has to record begun deliveries.
    pub(super) fn has_begun(&self) -> bool {
        !self.begun.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.leftovers.is_empty() && self.acknowledged.is_empty() && self.begun.is_empty()
    }

    /// Adds to a batch as much as it has room for.
    pub(super) fn close(&mut self, messages: &mut Messages, records: &mut Records) {
        self.settle_leftovers(messages, records);
        for (message, session) in self.acknowledged.take(ACKNOWLEDGED_PER_BATCH) {
            settle(messages, records, message, session);
        }
        for _ in 0..BEGUN_PER_BATCH {
            let Some(((message, session), identifier)) = self.begun.pop_first() else { return };
            records.push(Record::Begun { message, session, identifier });
        }
    }

    /// Settles some of the messages that sessions have left.
    fn settle_leftovers(&mut self, messages: &mut Messages, records: &mut Records) {
        for _ in 0..LEFTOVERS_PER_BATCH {
            let Some((session, left)) = self.leftovers.front_mut() else { return };
            let session = *session;
            if let Some(message) = left.pop_front() {
                settle(messages, records, message, session);
            } else {
                self.leftover_bytes -= leftover_bytes(left);
                self.leftovers.pop_front();
            }
        }
    }

    /// Returns when the next batch is due that takes some of the rest; [`Time::NEVER`] if there is none.
    pub(super) fn due(&self, lazy: Duration, now: Time) -> Time {
        match () {
            () if !self.acknowledged.is_empty() || self.has_begun() => now,
            () if !self.leftovers.is_empty() => now + lazy.min(LEFTOVERS_PAUSE),
            () => Time::NEVER,
        }
    }

    /// Bytes of memory used.
    pub(super) fn memory(&self) -> usize {
        memory::allocation(self.leftovers.capacity() * size_of::<(SessionNumber, VecDeque<()>)>())
            + self.leftover_bytes
            + self.acknowledged.memory()
            + self.begun.len() * BEGUN_BYTES
    }
}

/// Records that a session no longer needs a message. No answer waits for this.
fn settle(messages: &mut Messages, records: &mut Records, message: MessageNumber, session: SessionNumber) {
    if let Some(is_last) = messages.settle(message, session).to_be_written {
        records.push(Record::Settled { message, session, is_last });
    }
}

/// Bytes of a list of messages.
fn leftover_bytes(messages: &VecDeque<MessageNumber>) -> usize {
    memory::allocation(messages.capacity() * size_of::<MessageNumber>())
}
