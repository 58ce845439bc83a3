//! What must become durable, in records; and who waits for that.
//!
//! What happens between two batches gathers here. A message that all who were to get it have acknowledged by then is
//! never persisted. One batch at a time is with the store; an answer that promises something leaves when the batch
//! that holds what it promises is durable, or when no recipient needs its message any more.

mod acknowledged;
mod answers;
mod batches;
mod changes;
mod deferred;
mod fetches;
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
use crate::core::slots::ConnectionId;
use crate::protocol::codec::PacketIdentifier;
use crate::protocol::topic::TopicName;

use batches::Batches;
use changes::Changes;
use deferred::Deferred;
use records::Records;
use retained::Retained;
use sessions::Sessions;
use waits::{Ends, Waits};

pub use answers::{Answer, Answers, Awaited};
pub use fetches::Fetches;
pub use messages::{Current, Messages};
pub use record::{
    Batch, CopyForm, Fetch, MessageNumber, NextNumbers, Page, PageCopy, Pages, Recipient, Record, Restored,
    SessionNumber, StoredCopy, StoredDelivery, StoredMessage, StoredPresence, StoredSession,
    StoredSubscription, StoredWill,
};
pub use room::{Need, Room};

/// Bytes with which a batch is closed before its time. Clients that would add to it have to wait if the store is still
/// writing another one.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// What one more entry of a small map takes, about.
const ENTRY_BYTES: usize = 48;

/// How soon things are persisted, and who waits for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Whether acknowledgements wait until what they promise is durable.
    pub holds: bool,
    /// How long a batch waits for company, once it has something that was promised.
    pub urgent: Duration,
    /// How long a batch waits that has only what no answer waits for.
    pub lazy: Duration,
}

/// How soon a record has to be persisted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// Somebody waits for it.
    Urgent,
    /// It only saves work after a crash.
    Lazy,
}

/// What is still to be persisted.
#[derive(Debug)]
pub struct Journal {
    batches: Batches,
    /// Clients whose kept sessions have ended.
    ended: Ends,
    sessions: Sessions,
    /// Subscriptions that are other than the store has them.
    changes: Changes,
    records: Records,
    /// Sessions that ask for messages in the store.
    pub fetches: Fetches,
    /// Messages on their way to the store.
    pub messages: Messages,
    retained: Retained,
    deferred: Deferred,
    /// Answers that wait.
    pub answers: Answers,
    waits: Waits,
    room: Room,
    counted: Counted,
}

/// A journal, where there is one.
#[cfg(any(feature = "persistence", feature = "fuzzing"))]
pub type OpenJournal = Box<Journal>;

/// What stands for a journal in a binary that keeps nothing: there is none.
#[cfg(not(any(feature = "persistence", feature = "fuzzing")))]
#[derive(Debug)]
pub enum OpenJournal {}

#[cfg(not(any(feature = "persistence", feature = "fuzzing")))]
impl std::ops::Deref for OpenJournal {
    type Target = Journal;

    fn deref(&self) -> &Journal {
        match *self {}
    }
}

#[cfg(not(any(feature = "persistence", feature = "fuzzing")))]
impl std::ops::DerefMut for OpenJournal {
    fn deref_mut(&mut self) -> &mut Journal {
        match *self {}
    }
}

impl Journal {
    /// Begins one that goes on with these numbers.
    #[cfg(any(feature = "persistence", feature = "fuzzing"))]
    pub fn begin(next: NextNumbers, pace: Pace) -> Option<OpenJournal> {
        Some(Box::new(Self::new(next, pace)))
    }

    /// As above, in a binary that keeps nothing.
    #[cfg(not(any(feature = "persistence", feature = "fuzzing")))]
    pub const fn begin(_next: NextNumbers, _pace: Pace) -> Option<OpenJournal> {
        None
    }

    /// An empty journal that goes on with these numbers.
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

    /// The last batch that is durable.
    pub const fn durable(&self) -> u64 {
        self.batches.durable()
    }

    /// What the next packet to a client waits for that names something in the open batch; zero if nothing waits.
    pub const fn awaited_batch(&self) -> u64 {
        if self.holds() { self.batches.open() } else { 0 }
    }

    /// Whether so much waits to be persisted that those who send have to wait, too.
    pub fn is_full(&self) -> bool {
        self.open_bytes() > BATCH_BYTES
    }

    /// Bytes of the batch that is with the store.
    pub const fn closed_bytes(&self) -> usize {
        self.batches.closed_bytes()
    }

    /// Bytes that wait to be persisted with the open batch, or for that.
    fn open_bytes(&self) -> usize {
        self.messages.bytes()
            + self.records.pending_bytes()
            + self.sessions.pending_bytes()
            + self.changes.memory()
            + self.retained.pending_bytes(self.has_room())
            + self.answers.memory()
    }

    /// Something is to be persisted.
    pub fn record(&mut self, record: Record, urgency: Urgency, now: Time) {
        match record {
            Record::Subscribed(session, subscription) => self.changes.subscribed(session, subscription),
            Record::Unsubscribed(session, filter) => self.changes.unsubscribed(session, filter),
            record => self.records.push(record),
        }
        self.hurry(urgency, now);
    }

    /// The retained message of a topic has changed. It takes this many bytes, or zero if there is none any more.
    pub fn retain(&mut self, topic: TopicName<'_>, bytes: usize, urgency: Urgency, now: Time) {
        if self.retained.insert(topic, bytes, urgency) {
            self.hurry(urgency, now);
        }
    }

    /// Another message is the current one, from the client of this connection if it is one's.
    #[inline]
    pub const fn begin_message(&mut self, publisher: Option<ConnectionId>) {
        self.retained.begin();
        self.messages.begin(publisher);
    }

    /// What the answer to the current message waits for, beside what is promised of its publisher's session. It is in
    /// hand no longer.
    pub fn take_awaited(&mut self) -> Awaited {
        let is_retained = self.retained.take_current();
        match self.messages.take_current() {
            _ if !self.holds() => Awaited::Nothing,
            _ if is_retained => Awaited::Batch(self.batches.open()),
            Current::One(number) => Awaited::Message(number),
            Current::Several => Awaited::Batch(self.batches.open()),
            Current::Unknown => Awaited::Nothing,
        }
    }

    /// What an answer waits for that promises what has been recorded so far.
    pub fn recorded(&self) -> Awaited {
        match () {
            () if !self.holds() => Awaited::Nothing,
            () if !(self.records.is_empty() && self.changes.is_empty()) => {
                Awaited::Batch(self.batches.open())
            }
            () => Awaited::Batch(self.batches.open() - 1),
        }
    }

    /// Takes the next answer of a connection that need not wait any more.
    pub fn next_answer(&mut self, id: ConnectionId) -> Option<Answer> {
        let Self { answers, messages, batches, .. } = self;
        answers.next(id, |awaited| is_there(messages, batches.durable(), awaited))
    }

    /// Whether nothing is missing for an answer to leave.
    pub fn is_there(&self, awaited: Awaited) -> bool {
        is_there(&self.messages, self.durable(), awaited)
    }

    /// The QoS 1 delivery of a message that is kept already has begun.
    pub fn begin_delivery(
        &mut self,
        message: MessageNumber,
        session: SessionNumber,
        identifier: PacketIdentifier,
    ) {
        self.deferred.begin(message, session, identifier);
    }

    /// A session needs a message no longer. Tells whose answer may be due by that.
    pub fn settle(
        &mut self,
        message: MessageNumber,
        session: SessionNumber,
        now: Time,
    ) -> Option<ConnectionId> {
        self.deferred.end(message, session);
        let settled = self.messages.settle(message, session);
        if let Some(is_last) = settled.to_be_written {
            self.record(Record::Settled { message, session, is_last }, Urgency::Lazy, now);
        }
        settled.publisher
    }

    /// The same for a copy that was not begun with QoS 2. It may wait for later batches, since after a crash it may be
    /// delivered again.
    pub fn acknowledge(
        &mut self,
        message: MessageNumber,
        session: SessionNumber,
        now: Time,
    ) -> Option<ConnectionId> {
        self.deferred.end(message, session);
        if !(self.messages.is_stored(message) && self.deferred.acknowledge(message, session)) {
            return self.settle(message, session, now);
        }
        self.hurry(Urgency::Lazy, now);
        None
    }

    /// Makes sure that the open batch is closed in time.
    pub fn hurry(&mut self, urgency: Urgency, now: Time) {
        let is_full = self.is_full();
        self.batches.hurry(urgency, is_full, now);
    }

    /// Whatever there is to be persisted is due now.
    pub fn persist(&mut self, now: Time) {
        if self.batches.due() != Time::NEVER || self.has_retained() || self.deferred.has_begun() {
            self.batches.set_due(now);
        }
    }

    /// Messages that are not durable.
    pub fn depth(&self) -> usize {
        self.messages.pending()
    }

    /// Whether a batch is with the store.
    pub const fn is_closed(&self) -> bool {
        self.batches.is_closed()
    }

    /// When the open batch is to be closed. `None` while there is nothing in it or another one is with the store.
    pub fn batch_due(&self) -> Option<Time> {
        let due = self.batches.due();
        (!self.is_closed() && due != Time::NEVER).then_some(due)
    }

    /// Topics whose retained message is other than the store has it, and can be persisted: all that are promised,
    /// and of the others what a batch has room for.
    pub fn take_retained(&mut self) -> Vec<Box<str>> {
        self.retained.take(self.has_room())
    }

    /// Whether there are such.
    fn has_retained(&self) -> bool {
        !self.retained.is_empty(self.has_room())
    }

    /// Closes the open batch: `sessions` come first, `retained` last. `None` if there is nothing in it, because nobody
    /// needs any more what there was; it counts as durable.
    pub fn close(&mut self, sessions: Vec<Record>, retained: Vec<Record>, now: Time) -> Option<Batch> {
        assert!(!self.is_closed(), "one batch at a time is with the store");
        let Self { batches, sessions: known, changes, records: recorded, messages, deferred, .. } = self;
        deferred.close(messages, recorded);
        let mut records = sessions;
        changes.close(|session| known.session_of(session).is_some(), &mut records);
        messages.close(&mut records);
        records.extend(recorded.take());
        records.extend(retained);
        let left_due = deferred.due(batches.pace().lazy, now);
        let due = if self.has_retained() { now } else { left_due };
        let number = self.batches.close(due);
        if records.is_empty() {
            self.is_durable(number);
            return None;
        }
        let batch = Batch { number, now, records };
        self.batches.submit(batch.memory());
        Some(batch)
    }

    /// The batch with the store is durable.
    ///
    /// # Panics
    ///
    /// If it is another one.
    pub fn is_durable(&mut self, number: u64) {
        self.batches.is_durable(number);
        self.ended.are_durable(number);
        self.messages.closed_are_durable();
    }

    /// Whether everything is persisted that there is room for.
    pub fn is_empty(&self) -> bool {
        self.batches.due() == Time::NEVER
            && !self.is_closed()
            && self.deferred.is_empty()
            && !self.has_retained()
    }

    /// Tells how much memory it takes beside the messages, which count themselves.
    pub fn count(&mut self) {
        self.counted.set(
            memory::allocation(size_of::<Self>())
                + self.sessions.memory()
                + self.retained.memory()
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

    /// Adds what it takes to an audit.
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
    /// The one behind it.
    ///
    /// # Panics
    ///
    /// After more sessions than anybody lives to see.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("nobody lives to see so many sessions"))
    }
}
