//! What must become durable, as records, and which answers wait for it.
//!
//! Changes gather here between two batches. A message that all its recipients have acknowledged by then is never
//! persisted. The store writes one batch at a time. An answer leaves when the batch with what it promises is durable,
//! or when no recipient needs its message any longer.

mod acknowledged;
mod answers;
mod batches;
mod changes;
mod deferred;
mod fetches;
mod log;
mod messages;
mod persisted;
mod record;
mod records;
mod retained;
mod room;
mod sessions;
#[cfg(test)]
mod tests;
mod topics;
mod waiting;
mod waits;

use crate::base::memory::{self, Audit, Counted};
use crate::base::time::{Duration, Time};
use crate::core::message::{Portable, Spares};
use crate::core::slots::ConnectionId;
use crate::protocol::codec::PacketIdentifier;
use crate::protocol::topic::TopicName;

use batches::Batches;
use changes::Changes;
use deferred::Deferred;
use log::Log;
use records::Records;
use retained::Retained;
use sessions::Sessions;
use waits::{Ends, Waits};

pub use answers::{Answer, Answers, Awaited};
pub use fetches::Fetches;
pub use messages::{Current, Messages};
pub use record::{
    Batch, CopyForm, Fetch, MessageNumber, NextNumbers, Owed, Page, PageCopy, Pages, Recipient,
    RecipientList, Record, Restored, SessionNumber, StoredCopy, StoredDelivery, StoredMessage,
    StoredPresence, StoredSession, StoredSubscription, StoredWill,
};
pub use room::{Need, Room};

/// Bytes at which a batch is closed ahead of time. If the store is still writing another one, clients that would add
/// to it have to wait.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Approximate bytes per entry of a small map.
const ENTRY_BYTES: usize = 48;

/// How soon changes are persisted, and whether answers wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Whether acknowledgements wait until what they promise is durable.
    pub holds: bool,
    /// How long a batch with something promised waits for more.
    pub urgent: Duration,
    /// How long a batch waits for more if no answer waits for anything in it.
    pub lazy: Duration,
}

/// How soon a record has to be persisted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// A client waits for it.
    Urgent,
    /// It only saves work after a crash.
    Lazy,
}

/// Everything that is still to be persisted.
#[derive(Debug)]
pub struct Journal {
    batches: Batches,
    /// Clients whose persistent sessions have ended.
    ended: Ends,
    sessions: Sessions,
    /// Subscriptions that differ from those in the store.
    changes: Changes,
    records: Records,
    /// Requests of sessions for stored messages.
    pub fetches: Fetches,
    /// Messages that are not durable, and how many sessions need those that are.
    pub messages: Messages,
    retained: Retained,
    log: Log,
    deferred: Deferred,
    /// Answers that wait until what they promise is durable.
    pub answers: Answers,
    waits: Waits,
    room: Room,
    counted: Counted,
}

/// A journal that exists.
#[cfg(any(feature = "persistence", feature = "cluster", feature = "fuzzing"))]
pub type OpenJournal = Box<Journal>;

/// A journal that exists: none in a binary that can have none.
#[cfg(not(any(feature = "persistence", feature = "cluster", feature = "fuzzing")))]
pub type OpenJournal = crate::base::absent::Absent<Journal>;

impl Journal {
    /// Begins a journal that continues with these numbers.
    #[cfg(any(feature = "persistence", feature = "cluster", feature = "fuzzing"))]
    pub fn begin(next: NextNumbers, pace: Pace) -> Option<OpenJournal> {
        Some(Box::new(Self::new(next, pace)))
    }

    /// Returns `None`: this binary has no persistence.
    #[cfg(not(any(feature = "persistence", feature = "cluster", feature = "fuzzing")))]
    pub const fn begin(_next: NextNumbers, _pace: Pace) -> Option<OpenJournal> {
        None
    }

    /// An empty journal that continues with these numbers.
    pub fn new(next: NextNumbers, pace: Pace) -> Self {
        Self {
            batches: Batches::new(pace),
            ended: Ends::default(),
            sessions: Sessions::new(next.session),
            changes: Changes::default(),
            records: Records::default(),
            fetches: Fetches::default(),
            messages: Messages::new(next.message),
            retained: Retained::default(),
            log: Log::default(),
            deferred: Deferred::default(),
            answers: Answers::default(),
            waits: Waits::default(),
            room: Room::Enough,
            counted: Counted::default(),
        }
    }

    /// Whether acknowledgements wait until what they promise is durable.
    pub const fn holds(&self) -> bool {
        self.batches.pace().holds
    }

    /// Returns the number of the last durable batch.
    pub const fn durable(&self) -> u64 {
        self.batches.durable()
    }

    /// Returns the batch that must be durable before the client gets a packet that depends on the open batch; zero if
    /// it need not wait.
    pub const fn awaited_batch(&self) -> u64 {
        if self.holds() { self.batches.open() } else { 0 }
    }

    /// Whether so much waits to be persisted that publishers have to wait, too.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.open_bytes() > BATCH_BYTES
    }

    /// Bytes of the batch that the store is writing.
    pub const fn closed_bytes(&self) -> usize {
        self.batches.closed_bytes()
    }

    /// Bytes to be persisted with the open batch, and of answers that wait for it.
    #[inline]
    fn open_bytes(&self) -> usize {
        self.messages.bytes()
            + self.records.pending_bytes()
            + self.sessions.pending_bytes()
            + self.changes.memory()
            + self.retained.pending_bytes(self.has_room())
            + self.log.memory()
            + self.answers.memory()
    }

    /// Adds a record to the open batch.
    #[inline(always)]
    pub fn record(&mut self, record: Record, urgency: Urgency, now: Time) {
        match record {
            Record::Subscribed(session, subscription) => self.changes.subscribed(session, subscription),
            Record::Unsubscribed(session, filter) => self.changes.unsubscribed(session, filter),
            record => self.records.push(record),
        }
        self.hurry(urgency, now);
    }

    /// Notes that the retained message of a topic has changed. It has this many bytes, or zero if it is gone.
    pub fn retain(&mut self, topic: TopicName<'_>, bytes: usize, urgency: Urgency, now: Time) {
        if self.retained.insert(topic, bytes, urgency) {
            self.hurry(urgency, now);
        }
    }

    /// Adds the current message to the log of the cluster.
    pub fn log(&mut self, message: Portable, now: Time) {
        self.log.push(message);
        self.hurry(Urgency::Urgent, now);
    }

    /// Begins with another current message. `publisher` is the connection it came from, if it came from a client.
    #[inline]
    pub const fn begin_message(&mut self, publisher: Option<ConnectionId>) {
        self.retained.begin();
        self.log.begin();
        self.messages.begin(publisher);
    }

    /// Returns what the answer to the current message waits for, apart from what it promises about the session of its
    /// publisher. After this there is no current message.
    pub fn take_awaited(&mut self) -> Awaited {
        let (is_retained, is_logged) = (self.retained.take_current(), self.log.take_current());
        match self.messages.take_current() {
            _ if !self.holds() => Awaited::Nothing,
            _ if is_retained || is_logged => Awaited::Batch(self.batches.open()),
            Current::One(number) => Awaited::Message(number),
            Current::Several => Awaited::Batch(self.batches.open()),
            Current::Unknown => Awaited::Nothing,
        }
    }

    /// Returns what an answer waits for that promises everything recorded so far.
    pub fn recorded(&self) -> Awaited {
        match () {
            () if !self.holds() => Awaited::Nothing,
            () if !(self.records.is_empty() && self.changes.is_empty() && self.log.is_empty()) => {
                Awaited::Batch(self.batches.open())
            }
            () => Awaited::Batch(self.batches.open() - 1),
        }
    }

    /// Whether the next answer of a connection need not wait any longer.
    pub fn has_answer(&self, id: ConnectionId) -> bool {
        self.answers.is_due(id, |awaited| self.is_there(awaited))
    }

    /// Appends the next answers of a connection that need not wait any longer, at most `most`. Returns how many.
    pub fn release_answers(&mut self, id: ConnectionId, most: usize, bytes: &mut Vec<u8>) -> usize {
        let Self { answers, messages, batches, .. } = self;
        let is_there = |awaited| is_there(messages, batches.durable(), awaited);
        answers.release(id, most, is_there, |answer| answer.append_to(bytes))
    }

    /// Whether an answer need not wait for this any longer.
    pub fn is_there(&self, awaited: Awaited) -> bool {
        is_there(&self.messages, self.durable(), awaited)
    }

    /// Records that the QoS 1 delivery of a message has begun after the message was persisted or queued.
    pub fn begin_delivery(
        &mut self,
        message: MessageNumber,
        session: SessionNumber,
        identifier: PacketIdentifier,
    ) {
        self.deferred.begin(message, session, identifier);
    }

    /// Records that a session no longer needs a message. Returns the connection whose answer this may release. The
    /// memory of a message that was not persisted yet goes to `spares`.
    pub fn settle(
        &mut self,
        message: MessageNumber,
        session: SessionNumber,
        now: Time,
        spares: &mut Spares,
    ) -> Option<ConnectionId> {
        self.deferred.end(message, session);
        let settled = self.messages.settle(message, session);
        if let Some(message) = settled.message {
            spares.keep(message);
        }
        if let Some(is_last) = settled.to_be_written {
            self.record(Record::Settled { message, session, is_last }, Urgency::Lazy, now);
        }
        settled.publisher
    }

    /// Like [`Journal::settle`], for a copy whose delivery was not begun with QoS 2. It may wait for a later batch,
    /// because such a copy may be delivered again after a crash.
    pub fn acknowledge(
        &mut self,
        message: MessageNumber,
        session: SessionNumber,
        now: Time,
        spares: &mut Spares,
    ) -> Option<ConnectionId> {
        self.deferred.end(message, session);
        if !(self.messages.is_stored(message) && self.deferred.acknowledge(message, session)) {
            return self.settle(message, session, now, spares);
        }
        // It takes no room of the open batch.
        self.batches.hurry(Urgency::Lazy, false, now);
        None
    }

    /// Makes sure that the open batch is closed in time.
    #[inline]
    pub fn hurry(&mut self, urgency: Urgency, now: Time) {
        if self.batches.due() <= now {
            return;
        }
        let is_full = self.is_full();
        self.batches.hurry(urgency, is_full, now);
    }

    /// Makes everything that waits to be persisted due now.
    pub fn persist(&mut self, now: Time) {
        if self.batches.due() != Time::NEVER || self.has_retained() || self.deferred.has_begun() {
            self.batches.set_due(now);
        }
    }

    /// Number of messages that are not durable.
    pub fn depth(&self) -> usize {
        self.messages.pending()
    }

    /// Whether the store is writing a batch.
    pub const fn is_closed(&self) -> bool {
        self.batches.is_closed()
    }

    /// Returns when the open batch has to be closed. `None` while it is empty or the store is writing another one.
    pub fn batch_due(&self) -> Option<Time> {
        let due = self.batches.due();
        (!self.is_closed() && due != Time::NEVER).then_some(due)
    }

    /// Takes the topics whose retained messages differ from those in the store and can be persisted now: all that are
    /// promised, and as many others as a batch has room for.
    pub fn take_retained(&mut self) -> Vec<Box<str>> {
        self.retained.take(self.has_room())
    }

    /// Whether there are such topics.
    fn has_retained(&self) -> bool {
        !self.retained.is_empty(self.has_room())
    }

    /// Closes the open batch. `sessions` come first in it, `retained` last. Returns `None` if it is empty because
    /// none of its messages is needed any longer; then it counts as durable.
    pub fn close(&mut self, sessions: Vec<Record>, retained: Vec<Record>, now: Time) -> Option<Batch> {
        assert!(!self.is_closed(), "the store writes one batch at a time");
        let Self { batches, sessions: known, changes, records: recorded, messages, deferred, .. } = self;
        deferred.close(messages, recorded);
        let mut records = sessions;
        changes.close(|session| known.session_of(session).is_some(), &mut records);
        // All at once, or what is there would be moved to make room.
        records.reserve(messages.in_open_batch() + recorded.len() + retained.len());
        messages.close(&mut records);
        let bytes = records.iter().chain(&retained).map(Record::memory).sum::<usize>()
            + recorded.append_to(&mut records);
        records.extend(retained);
        let (log, log_bytes) = self.log.take();
        let left_due = deferred.due(batches.pace().lazy, now);
        let due = if self.has_retained() { now } else { left_due };
        let number = self.batches.close(due);
        if records.is_empty() && log.is_empty() {
            self.is_durable(number);
            return None;
        }
        let lists = memory::allocation(records.capacity() * size_of::<Record>())
            + memory::allocation(log.capacity() * size_of::<Portable>());
        self.batches.submit(lists + bytes + log_bytes);
        Some(Batch { number, now, records, log })
    }

    /// Records that the batch is durable that the store was writing.
    ///
    /// # Panics
    ///
    /// If `number` is that of another batch.
    pub fn is_durable(&mut self, number: u64) {
        self.batches.is_durable(number);
        self.ended.are_durable(number);
        self.messages.closed_are_durable();
    }

    /// Whether everything is persisted for which there is room.
    pub fn is_empty(&self) -> bool {
        self.batches.due() == Time::NEVER
            && !self.is_closed()
            && self.deferred.is_empty()
            && !self.has_retained()
    }

    /// Updates the count of memory. Messages count themselves.
    pub fn count(&mut self) {
        self.counted.set(
            memory::allocation(size_of::<Self>())
                + self.sessions.memory()
                + self.retained.memory()
                + self.log.memory()
                + self.waits.memory()
                + self.ended.memory()
                + self.records.memory()
                + self.changes.memory()
                + self.batches.closed_bytes()
                + self.fetches.memory()
                + self.deferred.memory()
                + self.messages.overhead()
                + self.answers.memory(),
        );
    }

    /// Adds the memory used to an audit.
    pub fn audit(&self, audit: &mut Audit) {
        audit.add(self.counted.bytes());
        self.messages.audit(audit);
    }
}

fn is_there(messages: &Messages, durable: u64, awaited: Awaited) -> bool {
    match awaited {
        Awaited::Nothing => true,
        Awaited::Batch(number) => number <= durable,
        Awaited::Message(number) => messages.is_safe(number),
    }
}

impl SessionNumber {
    /// Returns the next number.
    ///
    /// # Panics
    ///
    /// After 2^64 sessions.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("there are fewer than 2^64 sessions"))
    }
}
