//! What must become durable, in records; and who waits for that.
//!
//! What happens between two batches gathers here. A message that all who were to get it have acknowledged by then is
//! never persisted. One batch at a time is with the store; an answer that promises something leaves when the batch
//! that holds what it promises is durable, or when nobody needs its message any more.

mod acknowledged;
mod answers;
mod changes;
mod fetches;
mod messages;
mod record;
mod room;
mod sessions;
#[cfg(test)]
mod tests;
mod topics;
mod waits;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::base::memory::{self, Audit, Counted};
use crate::base::planted::{Fault, is_planted};
use crate::base::time::{Duration, Time};
use crate::core::slots::{ConnectionId, SessionId};
use crate::protocol::codec::PacketIdentifier;
use crate::protocol::topic::TopicName;

use changes::Changes;
use topics::Topics;
use waits::{Cork, Ends};

use acknowledged::Acknowledged;
pub use answers::{Answer, Answers, Awaited};
pub use fetches::Fetches;
pub use messages::{InHand, Messages};
pub use record::{
    Batch, CopyForm, Fetch, MessageNumber, NextNumbers, Page, PageCopy, Pages, Recipient, Record, Restored,
    SessionNumber, StoredCopy, StoredDelivery, StoredMessage, StoredPresence, StoredSession,
    StoredSubscription, StoredWill,
};
pub use room::{Need, Room};

/// Bytes with which a batch is closed before its time. Clients that would add to it have to wait if the store is still
/// writing another one.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Messages that no session needs any more, settled with one batch.
const LEFTOVERS_PER_BATCH: usize = 4096;
/// Copies that sessions have acknowledged, settled with one batch: so few that those who wait for it, or for the next
/// one, do not notice.
const ACKNOWLEDGED_PER_BATCH: usize = 512;
/// Bytes of the list of such copies. Beyond, they are settled with the next batch, as others are.
const ACKNOWLEDGED_BYTES_MAXIMUM: usize = 16 * 1024 * 1024;
/// Packet Identifiers of deliveries that have begun, persisted with one batch.
const BEGUN_PER_BATCH: usize = 4096;
/// What one of them takes, in nodes two thirds full.
const BEGUN_BYTES: usize = 28;
/// How long those that are left wait for the next one.
const LEFTOVERS_PAUSE: Duration = Duration::from_seconds(1);
/// What one more entry of a small map takes, about.
const ENTRY_BYTES: usize = 48;

/// How soon things are persisted, and who waits for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Whether acknowledgements wait until what they promise is durable.
    pub holds: bool,
    /// How long a batch waits for company, once it has something that was promised.
    pub urgent: Duration,
    /// How long a batch waits that has only what nobody waits for.
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
    pace: Pace,
    /// The number of the batch that gathers.
    open: u64,
    /// All batches up to this one are durable.
    durable: u64,
    /// Clients whose kept sessions have ended, and the batches that say so, as long as these are not durable.
    ended: Ends,
    /// When the open batch is to be closed; [`Time::NEVER`] while there is nothing in it.
    due: Time,
    next_session: SessionNumber,
    /// The sessions that are kept, by the index of their slot.
    numbers: Vec<Option<SessionNumber>>,
    /// The same, by number.
    sessions: BTreeMap<SessionNumber, SessionId>,
    /// Sessions that are other than the store has them, and about how many bytes it takes to say so.
    changed: BTreeMap<SessionId, usize>,
    changed_bytes: usize,
    /// Subscriptions that are other than the store has them.
    changes: Changes,
    records: Vec<Record>,
    /// Bytes of what the records have on the heap.
    record_bytes: usize,
    /// Bytes of the batch that is with the store.
    closed_bytes: usize,
    /// Sessions that ask for messages in the store.
    pub fetches: Fetches,
    /// Messages on their way to the store.
    pub messages: Messages,
    /// Topics whose retained message is other than the store has it.
    retained: Topics,
    /// The same, where that is promised to no one and needs room: it can wait until there is some. None is in both.
    unpromised: Topics,
    /// The message in hand is retained, which its publisher is promised.
    is_retained_in_hand: bool,
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
    /// Answers that wait.
    pub answers: Answers,
    /// Connections that get nothing before a batch is durable: their CONNACK is not yet true.
    corked: BTreeMap<ConnectionId, Cork>,
    /// Sessions that go on with a delivery when a batch is durable.
    suspended: BTreeSet<(u64, SessionId)>,
    /// Connections that are not read from until there is room again.
    paused: BTreeMap<ConnectionId, u64>,
    /// How many pauses there were, which tells who came first.
    pauses: u64,
    /// Connections with messages that were neither taken nor refused, because their version has no word for that.
    unanswered: BTreeSet<ConnectionId>,
    /// Sessions that are owed retained messages, and get them when there is room again.
    roomless: BTreeSet<SessionId>,
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
            pace,
            open: 1,
            durable: 0,
            ended: Ends::default(),
            due: Time::NEVER,
            next_session: next.session,
            numbers: Vec::new(),
            sessions: BTreeMap::new(),
            changed: BTreeMap::new(),
            changed_bytes: 0,
            changes: Changes::default(),
            records: Vec::new(),
            record_bytes: 0,
            closed_bytes: 0,
            fetches: Fetches::default(),
            messages: Messages::new(next.message),
            retained: Topics::default(),
            unpromised: Topics::default(),
            is_retained_in_hand: false,
            leftovers: VecDeque::new(),
            leftover_bytes: 0,
            acknowledged: Acknowledged::default(),
            begun: BTreeMap::new(),
            answers: Answers::default(),
            corked: BTreeMap::new(),
            suspended: BTreeSet::new(),
            paused: BTreeMap::new(),
            pauses: 0,
            unanswered: BTreeSet::new(),
            roomless: BTreeSet::new(),
            room: Room::Enough,
            counted: Counted::default(),
        }
    }

    /// Whether acknowledgements wait until what they promise is durable.
    pub const fn holds(&self) -> bool {
        self.pace.holds
    }

    /// The last batch that is durable.
    pub const fn durable(&self) -> u64 {
        self.durable
    }

    /// What the next packet to a client waits for that names something in the open batch; zero if nothing waits.
    pub const fn awaited_batch(&self) -> u64 {
        if self.pace.holds { self.open } else { 0 }
    }

    /// Whether so much waits to be persisted that those who send have to wait, too.
    pub fn is_full(&self) -> bool {
        self.open_bytes() > BATCH_BYTES
    }

    /// Bytes of the batch that is with the store.
    pub const fn closed_bytes(&self) -> usize {
        self.closed_bytes
    }

    /// Bytes that wait to be persisted with the open batch, or for that.
    fn open_bytes(&self) -> usize {
        // What waits for room on disk goes nowhere by waiting for it.
        let unpromised = if self.has_room() { self.unpromised.pending_bytes() } else { 0 };
        self.messages.bytes()
            + self.records.len() * size_of::<Record>()
            + self.record_bytes
            + self.changed_bytes
            + self.changes.memory()
            + self.retained.pending_bytes()
            + unpromised
            + self.answers.memory()
    }

    /// Something is to be persisted.
    pub fn record(&mut self, record: Record, urgency: Urgency, now: Time) {
        match record {
            Record::Subscribed(session, subscription) => self.changes.subscribed(session, subscription),
            Record::Unsubscribed(session, filter) => self.changes.unsubscribed(session, filter),
            record => {
                self.record_bytes += record.memory();
                self.records.push(record);
            }
        }
        self.hurry(urgency, now);
    }

    /// The retained message of a topic has changed. It takes this many bytes, or zero if there is none any more.
    pub fn retain(&mut self, topic: TopicName<'_>, bytes: usize, urgency: Urgency, now: Time) {
        if topic.is_about_the_broker() || is_planted(Fault::RetainedNotKept) {
            return;
        }
        let topic = topic.as_str();
        let is_unpromised = urgency == Urgency::Lazy && bytes > 0 && !self.retained.contains(topic);
        if is_unpromised {
            self.unpromised.insert(topic, bytes);
        } else {
            self.unpromised.remove(topic);
            self.retained.insert(topic, bytes);
        }
        self.is_retained_in_hand |= urgency == Urgency::Urgent;
        self.hurry(urgency, now);
    }

    /// Another message is in hand, from the client of this connection if it is one's.
    #[inline]
    pub const fn begin_message(&mut self, publisher: Option<ConnectionId>) {
        self.is_retained_in_hand = false;
        self.messages.begin(publisher);
    }

    /// What the answer to the message in hand waits for, beside what is promised of its publisher's session. It is in
    /// hand no longer.
    pub fn take_awaited(&mut self) -> Awaited {
        let is_retained = std::mem::take(&mut self.is_retained_in_hand);
        match self.messages.take_in_hand() {
            _ if !self.pace.holds => Awaited::Nothing,
            _ if is_retained => Awaited::Batch(self.open),
            InHand::One(number) => Awaited::Message(number),
            InHand::Several => Awaited::Batch(self.open),
            InHand::Unknown => Awaited::Nothing,
        }
    }

    /// What an answer waits for that promises what has been recorded so far.
    pub fn recorded(&self) -> Awaited {
        match () {
            () if !self.pace.holds => Awaited::Nothing,
            () if !(self.records.is_empty() && self.changes.is_empty()) => Awaited::Batch(self.open),
            () => Awaited::Batch(self.open - 1),
        }
    }

    /// Takes the next answer of a connection that need not wait any more.
    pub fn next_answer(&mut self, id: ConnectionId) -> Option<Answer> {
        let Self { answers, messages, durable, .. } = self;
        answers.next(id, |awaited| is_there(messages, *durable, awaited))
    }

    /// Whether nothing is missing for an answer to leave.
    pub fn is_there(&self, awaited: Awaited) -> bool {
        is_there(&self.messages, self.durable, awaited)
    }

    /// The QoS 1 delivery of a message that is kept already has begun.
    pub fn begin_delivery(
        &mut self,
        message: MessageNumber,
        session: SessionNumber,
        identifier: PacketIdentifier,
    ) {
        self.begun.insert((message, session), identifier);
    }

    /// A session needs a message no longer. Tells whose answer may be due by that.
    pub fn settle(
        &mut self,
        message: MessageNumber,
        session: SessionNumber,
        now: Time,
    ) -> Option<ConnectionId> {
        self.begun.remove(&(message, session));
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
        self.begun.remove(&(message, session));
        let is_full = self.acknowledged.memory() >= ACKNOWLEDGED_BYTES_MAXIMUM;
        if is_full || !self.messages.is_stored(message) || !self.acknowledged.insert(message, session) {
            return self.settle(message, session, now);
        }
        self.hurry(Urgency::Lazy, now);
        None
    }

    /// Makes sure that the open batch is closed in time.
    pub fn hurry(&mut self, urgency: Urgency, now: Time) {
        let wait = match urgency {
            _ if self.is_full() => Duration::ZERO,
            Urgency::Urgent => self.pace.urgent,
            Urgency::Lazy => self.pace.lazy,
        };
        self.due = self.due.min(now + wait);
    }

    /// Whatever there is to be persisted is due now.
    pub fn write_down(&mut self, now: Time) {
        if self.due != Time::NEVER || self.has_retained() || !self.begun.is_empty() {
            self.due = now;
        }
    }

    /// Messages that are not durable.
    pub fn depth(&self) -> usize {
        self.messages.pending()
    }

    /// Whether a batch is with the store.
    pub const fn is_closed(&self) -> bool {
        self.open > self.durable + 1
    }

    /// When the open batch is to be closed. `None` while there is nothing in it or another one is with the store.
    pub fn batch_due(&self) -> Option<Time> {
        (!self.is_closed() && self.due != Time::NEVER).then_some(self.due)
    }

    /// Sessions that are other than the store has them.
    pub fn take_changed(&mut self) -> Vec<SessionId> {
        self.changed_bytes = 0;
        std::mem::take(&mut self.changed).into_keys().collect()
    }

    /// Topics whose retained message is other than the store has it, and can be persisted: all that are promised,
    /// and of the others what a batch has room for.
    pub fn take_retained(&mut self) -> Vec<Box<str>> {
        let mut retained = self.retained.take(usize::MAX);
        if self.has_room() {
            retained.extend(self.unpromised.take(BATCH_BYTES));
        }
        retained
    }

    /// Whether there are such.
    fn has_retained(&self) -> bool {
        !self.retained.is_empty() || self.has_room() && !self.unpromised.is_empty()
    }

    /// Closes the open batch: `sessions` come first, `retained` last. `None` if there is nothing in it, because nobody
    /// needs any more what there was; it counts as durable.
    pub fn close(&mut self, sessions: Vec<Record>, retained: Vec<Record>, now: Time) -> Option<Batch> {
        assert!(!self.is_closed(), "one batch at a time is with the store");
        self.settle_leftovers();
        self.settle_acknowledged();
        self.write_begun();
        self.due = match () {
            () if self.has_retained() || !self.acknowledged.is_empty() || !self.begun.is_empty() => now,
            () if !self.leftovers.is_empty() => now + self.pace.lazy.min(LEFTOVERS_PAUSE),
            () => Time::NEVER,
        };
        let mut records = sessions;
        let Self { changes, sessions, .. } = self;
        changes.close(|session| sessions.contains_key(&session), &mut records);
        self.messages.close(&mut records);
        records.extend(std::mem::take(&mut self.records));
        self.record_bytes = 0;
        records.extend(retained);
        let number = self.open;
        self.open += 1;
        if records.is_empty() {
            self.is_durable(number);
            return None;
        }
        let batch = Batch { number, now, records };
        self.closed_bytes = batch.memory();
        Some(batch)
    }

    /// Some of what ended sessions have left behind needs nobody any more. Nobody waits for that.
    fn settle_leftovers(&mut self) {
        for _ in 0..LEFTOVERS_PER_BATCH {
            let Some((session, messages)) = self.leftovers.front_mut() else { return };
            let session = *session;
            let Some(message) = messages.pop_front() else {
                self.leftover_bytes -= leftover_bytes(messages);
                self.leftovers.pop_front();
                continue;
            };
            let settled = self.messages.settle(message, session);
            if let Some(is_last) = settled.to_be_written {
                self.records.push(Record::Settled { message, session, is_last });
            }
        }
    }

    fn write_begun(&mut self) {
        for _ in 0..BEGUN_PER_BATCH {
            let Some(((message, session), identifier)) = self.begun.pop_first() else { return };
            self.records.push(Record::Begun { message, session, identifier });
        }
    }

    fn settle_acknowledged(&mut self) {
        for (message, session) in self.acknowledged.take(ACKNOWLEDGED_PER_BATCH) {
            if let Some(is_last) = self.messages.settle(message, session).to_be_written {
                self.records.push(Record::Settled { message, session, is_last });
            }
        }
    }

    /// The batch with the store is durable.
    ///
    /// # Panics
    ///
    /// If it is another one.
    pub fn is_durable(&mut self, number: u64) {
        assert!(self.is_closed() && number == self.durable + 1, "batches become durable in their order");
        self.durable = number;
        self.ended.are_durable(number);
        self.closed_bytes = 0;
        self.messages.closed_are_durable();
    }

    /// Whether everything is persisted that there is room for.
    pub fn is_empty(&self) -> bool {
        self.due == Time::NEVER
            && !self.is_closed()
            && self.leftovers.is_empty()
            && self.acknowledged.is_empty()
            && self.begun.is_empty()
            && !self.has_retained()
    }

    /// Tells how much memory it takes beside the messages, which count themselves.
    pub fn count(&mut self) {
        self.counted.set(
            memory::allocation(size_of::<Self>())
                + memory::allocation(self.numbers.capacity() * size_of::<Option<SessionNumber>>())
                + (self.sessions.len() + self.changed.len()) * ENTRY_BYTES
                + self.retained.memory()
                + self.unpromised.memory()
                + (self.corked.len() + self.paused.len() + self.unanswered.len()) * ENTRY_BYTES
                + (self.suspended.len() + self.roomless.len()) * ENTRY_BYTES
                + self.ended.memory()
                + memory::allocation(self.records.capacity() * size_of::<Record>())
                + self.record_bytes
                + self.changes.memory()
                + self.closed_bytes
                + self.fetches.memory()
                + memory::allocation(self.leftovers.capacity() * size_of::<(SessionNumber, VecDeque<()>)>())
                + self.leftover_bytes
                + self.acknowledged.memory()
                + self.begun.len() * BEGUN_BYTES
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

/// Bytes of a list of messages.
fn leftover_bytes(messages: &VecDeque<MessageNumber>) -> usize {
    memory::allocation(messages.capacity() * size_of::<MessageNumber>())
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
