//! What is persisted some at a time: so many sessions may end, and so many clients answer at once, that everything else
//! would wait for it. Nothing waits for this, so each batch takes only some of it.

use std::collections::{BTreeMap, VecDeque};

use super::acknowledged::Acknowledged;
use super::records::Records;
use super::{MessageNumber, Messages, Record, SessionNumber};
use crate::base::memory;
use crate::base::time::{Duration, Time};
use crate::protocol::codec::PacketIdentifier;

/// Messages that no session needs any more, settled with one batch.
const LEFTOVERS_PER_BATCH: usize = 4096;
/// How long those that are left wait for the next one.
const LEFTOVERS_PAUSE: Duration = Duration::from_seconds(1);
/// Copies that sessions have acknowledged, settled with one batch: so few that those who wait for it, or for the next
/// one, do not notice.
const ACKNOWLEDGED_PER_BATCH: usize = 512;
/// Bytes of the list of such copies. Beyond, they are settled with the next batch, as others are.
const ACKNOWLEDGED_BYTES_MAXIMUM: usize = 16 * 1024 * 1024;
/// Packet Identifiers of deliveries that have begun, persisted with one batch.
const BEGUN_PER_BATCH: usize = 4096;
/// What one of them takes, in nodes two thirds full.
const BEGUN_BYTES: usize = 28;

/// What waits for its turn.
#[derive(Debug, Default)]
pub(super) struct Deferred {
    /// Messages that sessions need no longer, where that need not be persisted soon: of sessions that ended, and
    /// those that expired.
    leftovers: VecDeque<(SessionNumber, VecDeque<MessageNumber>)>,
    leftover_bytes: usize,
    /// Copies that clients have acknowledged, which need not be persisted soon, either.
    acknowledged: Acknowledged,
    /// Deliveries of QoS 1 that have begun after their messages were persisted or queued. Their Packet Identifiers are
    /// added to the next batch. Nothing waits for that, and no batch is closed for it. A delivery that is over by then
    /// is left out.
    begun: BTreeMap<(MessageNumber, SessionNumber), PacketIdentifier>,
}

impl Deferred {
    /// A session no longer needs these messages.
    pub(super) fn leave(&mut self, session: SessionNumber, messages: VecDeque<MessageNumber>) {
        self.leftover_bytes += leftover_bytes(&messages);
        self.leftovers.push_back((session, messages));
    }

    /// A copy was acknowledged. False if there is no room for more, or that is known.
    pub(super) fn acknowledge(&mut self, message: MessageNumber, session: SessionNumber) -> bool {
        !self.is_full() && self.acknowledged.insert(message, session)
    }

    /// Whether there is no room for more acknowledged copies.
    pub(super) fn is_full(&self) -> bool {
        self.acknowledged.memory() >= ACKNOWLEDGED_BYTES_MAXIMUM
    }

    /// A delivery has begun.
    pub(super) fn begin(
        &mut self,
        message: MessageNumber,
        session: SessionNumber,
        identifier: PacketIdentifier,
    ) {
        self.begun.insert((message, session), identifier);
    }

    /// A delivery that had begun is over.
    pub(super) fn end(&mut self, message: MessageNumber, session: SessionNumber) {
        self.begun.remove(&(message, session));
    }

    /// Whether deliveries have begun of which the next batch tells.
    pub(super) fn has_begun(&self) -> bool {
        !self.begun.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.leftovers.is_empty() && self.acknowledged.is_empty() && self.begun.is_empty()
    }

    /// Adds to a batch what it has room for.
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

    /// Some of what sessions have left behind is settled.
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

    /// When the next batch is due that takes some of what is left; [`Time::NEVER`] if nothing is.
    pub(super) fn due(&self, lazy: Duration, now: Time) -> Time {
        match () {
            () if !self.acknowledged.is_empty() || self.has_begun() => now,
            () if !self.leftovers.is_empty() => now + lazy.min(LEFTOVERS_PAUSE),
            () => Time::NEVER,
        }
    }

    /// Bytes that it takes.
    pub(super) fn memory(&self) -> usize {
        memory::allocation(self.leftovers.capacity() * size_of::<(SessionNumber, VecDeque<()>)>())
            + self.leftover_bytes
            + self.acknowledged.memory()
            + self.begun.len() * BEGUN_BYTES
    }
}

/// A session needs a message no longer, and no answer waits for that.
fn settle(messages: &mut Messages, records: &mut Records, message: MessageNumber, session: SessionNumber) {
    if let Some(is_last) = messages.settle(message, session).to_be_written {
        records.push(Record::Settled { message, session, is_last });
    }
}

/// Bytes of a list of messages.
fn leftover_bytes(messages: &VecDeque<MessageNumber>) -> usize {
    memory::allocation(messages.capacity() * size_of::<MessageNumber>())
}
