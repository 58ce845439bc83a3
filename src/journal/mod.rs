//! What must become durable, in records; and who waits for that.
//!
//! What happens between two batches gathers here. A message that all who were to get it have acknowledged by then is
//! never written down. One batch at a time is with the store; an answer that promises something leaves when the batch
//! that holds what it promises is durable, or when nobody needs its message any more.

mod answers;
mod messages;
mod record;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::memory::{self, Audit, Counted};
use crate::planted::{Fault, is_planted};
use crate::slots::{ConnectionId, SessionId};
use crate::time::{Duration, Time};
use crate::topic::TopicName;

pub use answers::{Answer, Answers, Awaited};
pub use messages::{InHand, Messages};
pub use record::{
    Batch, CopyForm, Fetch, MessageNumber, NextNumbers, Page, Recipient, Record, Restored, SessionNumber,
    StoredCopy, StoredDelivery, StoredMessage, StoredPresence, StoredSession, StoredSubscription, StoredWill,
};

/// Bytes that wait for their batch before those who send have to wait, too.
const PENDING_BYTES_MAXIMUM: usize = 16 * 1024 * 1024;
/// Bytes with which a batch is closed before its time.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Messages of sessions that have ended, settled with one batch.
const LEFTOVERS_PER_BATCH: usize = 4096;
/// What one more record takes, about.
const RECORD_BYTES: usize = size_of::<Record>() + 16;
/// What one more entry of a small map takes, about.
const ENTRY_BYTES: usize = 48;

/// How soon things are written down, and who waits for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Whether acknowledgements wait until what they promise is durable.
    pub holds: bool,
    /// How long a batch waits for company, once it has something that was promised.
    pub urgent: Duration,
    /// How long a batch waits that has only what nobody waits for.
    pub lazy: Duration,
}

/// How soon a record has to be written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// Somebody waits for it.
    Urgent,
    /// It only saves work after a crash.
    Lazy,
}

/// What is still to be written down.
#[derive(Debug)]
pub struct Journal {
    pace: Pace,
    /// The number of the batch that gathers.
    open: u64,
    /// All batches up to this one are durable.
    durable: u64,
    /// The batch with the latest end of a session.
    ended: u64,
    /// When the open batch is to be closed; [`Time::NEVER`] while there is nothing in it.
    due: Time,
    next_session: SessionNumber,
    /// The sessions that are kept, by the index of their slot.
    numbers: Vec<Option<SessionNumber>>,
    /// The same, by number.
    sessions: BTreeMap<SessionNumber, SessionId>,
    /// Sessions that are other than the store has them.
    changed: BTreeSet<SessionId>,
    records: Vec<Record>,
    fetches: Vec<Fetch>,
    /// Messages on their way to the store.
    pub messages: Messages,
    /// Topics whose retained message is other than the store has it.
    retained: BTreeSet<Box<str>>,
    /// The same, where that is promised to nobody and needs room: it can wait until there is some.
    unpromised: BTreeSet<Box<str>>,
    /// The message in hand is retained, which its publisher is promised.
    is_retained_in_hand: bool,
    /// What sessions have left behind that ended.
    leftovers: VecDeque<(SessionNumber, VecDeque<MessageNumber>)>,
    leftover_bytes: usize,
    /// Answers that wait.
    pub answers: Answers,
    /// Connections that get nothing before a batch is durable: their CONNACK is not yet true.
    corked: BTreeMap<ConnectionId, u64>,
    /// Sessions that go on with a delivery when a batch is durable.
    suspended: VecDeque<(u64, SessionId)>,
    /// Connections that are not read from until there is room again.
    paused: BTreeSet<ConnectionId>,
    /// Connections with messages that were neither taken nor refused, because their version has no word for that.
    unanswered: BTreeSet<ConnectionId>,
    has_room: bool,
    counted: Counted,
}

/// A journal, where there is one.
#[cfg(feature = "persistence")]
pub type OpenJournal = Box<Journal>;

/// What stands for a journal in a binary that keeps nothing: there is none.
#[cfg(not(feature = "persistence"))]
#[derive(Debug)]
pub enum OpenJournal {}

#[cfg(not(feature = "persistence"))]
impl std::ops::Deref for OpenJournal {
    type Target = Journal;

    fn deref(&self) -> &Journal {
        match *self {}
    }
}

#[cfg(not(feature = "persistence"))]
impl std::ops::DerefMut for OpenJournal {
    fn deref_mut(&mut self) -> &mut Journal {
        match *self {}
    }
}

impl Journal {
    /// Begins one that goes on with these numbers.
    #[cfg(feature = "persistence")]
    pub fn begin(next: NextNumbers, pace: Pace) -> Option<OpenJournal> {
        Some(Box::new(Self::new(next, pace)))
    }

    /// As above, in a binary that keeps nothing.
    #[cfg(not(feature = "persistence"))]
    pub const fn begin(_next: NextNumbers, _pace: Pace) -> Option<OpenJournal> {
        None
    }

    /// An empty journal that goes on with these numbers.
    pub fn new(next: NextNumbers, pace: Pace) -> Self {
        Self {
            pace,
            open: 1,
            durable: 0,
            ended: 0,
            due: Time::NEVER,
            next_session: next.session,
            numbers: Vec::new(),
            sessions: BTreeMap::new(),
            changed: BTreeSet::new(),
            records: Vec::new(),
            fetches: Vec::new(),
            messages: Messages::new(next.message),
            retained: BTreeSet::new(),
            unpromised: BTreeSet::new(),
            is_retained_in_hand: false,
            leftovers: VecDeque::new(),
            leftover_bytes: 0,
            answers: Answers::default(),
            corked: BTreeMap::new(),
            suspended: VecDeque::new(),
            paused: BTreeSet::new(),
            unanswered: BTreeSet::new(),
            has_room: true,
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

    /// Whether the store takes new messages.
    pub const fn has_room(&self) -> bool {
        self.has_room
    }

    /// The store takes new messages from now on, or takes none; tells whether that is new.
    pub fn set_room(&mut self, has_room: bool) -> bool {
        std::mem::replace(&mut self.has_room, has_room) != has_room
    }

    /// Whether so much waits to be written down that those who send have to wait, too.
    pub fn is_full(&self) -> bool {
        self.pending_bytes() > PENDING_BYTES_MAXIMUM
    }

    /// Bytes that wait to be written down, or for that.
    fn pending_bytes(&self) -> usize {
        self.messages.bytes() + self.records.len() * RECORD_BYTES + self.answers.memory()
    }

    /// A connection is not read from until there is room again.
    pub fn pause(&mut self, id: ConnectionId) {
        self.paused.insert(id);
    }

    /// The connections that may be read from again.
    pub fn take_paused(&mut self) -> BTreeSet<ConnectionId> {
        std::mem::take(&mut self.paused)
    }

    /// The number under which a session is kept, if it is.
    #[inline]
    pub fn number_of(&self, session: SessionId) -> Option<SessionNumber> {
        self.numbers.get(session.index()).copied().flatten()
    }

    /// The session that is kept under a number.
    pub fn session_of(&self, number: SessionNumber) -> Option<SessionId> {
        self.sessions.get(&number).copied()
    }

    /// A session is to be kept from now on; its number, if it has none yet.
    pub fn keep(&mut self, session: SessionId) -> SessionNumber {
        if let Some(number) = self.number_of(session) {
            return number;
        }
        let number = self.next_session;
        self.next_session = number.next();
        self.adopt(session, number);
        number
    }

    /// A session is kept under this number, which the store knows.
    pub fn adopt(&mut self, session: SessionId, number: SessionNumber) {
        if self.numbers.len() <= session.index() {
            self.numbers.resize(session.index() + 1, None);
        }
        self.numbers[session.index()] = Some(number);
        self.sessions.insert(number, session);
    }

    /// A session is other than before.
    pub fn change(&mut self, session: SessionId, urgency: Urgency, now: Time) {
        if self.number_of(session).is_some() {
            self.changed.insert(session);
            self.hurry(urgency, now);
        }
    }

    /// A session has ended; it leaves messages behind that it needs no longer.
    pub fn end(&mut self, session: SessionId, messages: VecDeque<MessageNumber>, now: Time) {
        let Some(number) = self.numbers.get_mut(session.index()).and_then(Option::take) else { return };
        self.sessions.remove(&number);
        self.changed.remove(&session);
        if !messages.is_empty() {
            self.leftover_bytes += memory::allocation(messages.capacity() * size_of::<MessageNumber>());
            self.leftovers.push_back((number, messages));
        }
        self.record(Record::SessionEnded(number), Urgency::Lazy, now);
        self.ended = self.open;
    }

    /// A session that has ended leaves more messages behind that it needs no longer.
    pub fn leave_behind(&mut self, session: SessionNumber, messages: VecDeque<MessageNumber>) {
        if !messages.is_empty() {
            self.leftover_bytes += memory::allocation(messages.capacity() * size_of::<MessageNumber>());
            self.leftovers.push_back((session, messages));
        }
    }

    /// Something is to be written down.
    pub fn record(&mut self, record: Record, urgency: Urgency, now: Time) {
        self.records.push(record);
        self.hurry(urgency, now);
    }

    /// The retained message of a topic is other than before; `is_new` tells that there is one.
    pub fn retain(&mut self, topic: TopicName<'_>, is_new: bool, urgency: Urgency, now: Time) {
        if topic.is_about_the_broker() || is_planted(Fault::RetainedNotKept) {
            return;
        }
        let topic = topic.as_str();
        let topics = match urgency {
            Urgency::Lazy if is_new => &mut self.unpromised,
            _ => &mut self.retained,
        };
        if !topics.contains(topic) {
            topics.insert(topic.into());
        }
        self.is_retained_in_hand |= urgency == Urgency::Urgent;
        self.hurry(urgency, now);
    }

    /// Messages are to be read.
    pub fn fetch(&mut self, fetch: Fetch, now: Time) {
        self.fetches.push(fetch);
        self.due = self.due.min(now);
    }

    /// A session goes on when what is now in the open batch is durable.
    pub fn suspend(&mut self, session: SessionId) {
        let entry = (self.open, session);
        if self.suspended.back() != Some(&entry) {
            self.suspended.push_back(entry);
        }
    }

    /// The next session that may go on.
    pub fn next_to_go_on(&mut self) -> Option<SessionId> {
        let &(batch, session) = self.suspended.front()?;
        (batch <= self.durable).then(|| {
            self.suspended.pop_front();
            session
        })
    }

    /// A connection gets nothing before what is now in the open batch is durable.
    pub fn cork(&mut self, id: ConnectionId) {
        if self.pace.holds && !is_planted(Fault::EarlyConnack) {
            self.corked.insert(id, self.open);
        }
    }

    /// A connection without a kept session gets nothing before every session is gone for good that has ended: its
    /// client may have had one.
    pub fn cork_for_ends(&mut self, id: ConnectionId, now: Time) {
        if self.pace.holds && self.ended > self.durable {
            self.corked.insert(id, self.ended);
            if self.ended == self.open {
                self.hurry(Urgency::Urgent, now);
            }
        }
    }

    /// Whether a connection gets nothing yet.
    pub fn is_corked(&self, id: ConnectionId) -> bool {
        self.corked.contains_key(&id)
    }

    /// The connections that have waited for what is durable now.
    pub fn take_uncorked(&mut self) -> Vec<ConnectionId> {
        let durable = self.durable;
        let ready = |&(_, &batch): &(&ConnectionId, &u64)| batch <= durable;
        let uncorked: Vec<ConnectionId> = self.corked.iter().filter(ready).map(|(&id, _)| id).collect();
        for id in &uncorked {
            self.corked.remove(id);
        }
        uncorked
    }

    /// A connection is gone.
    pub fn forget(&mut self, id: ConnectionId) {
        self.answers.forget(id);
        self.corked.remove(&id);
        self.paused.remove(&id);
        self.unanswered.remove(&id);
    }

    /// A message of this connection is not answered, nor are those behind it.
    pub fn leave_unanswered(&mut self, id: ConnectionId) {
        self.unanswered.insert(id);
    }

    /// Whether messages of this connection are not answered.
    #[inline]
    pub fn is_unanswered(&self, id: ConnectionId) -> bool {
        !self.unanswered.is_empty() && self.unanswered.contains(&id)
    }

    /// The connections with messages that were not answered.
    pub fn take_unanswered(&mut self) -> BTreeSet<ConnectionId> {
        std::mem::take(&mut self.unanswered)
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
            () if !self.records.is_empty() => Awaited::Batch(self.open),
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

    /// A session needs a message no longer. Tells whose answer may be due by that.
    pub fn settle(
        &mut self,
        message: MessageNumber,
        session: SessionNumber,
        now: Time,
    ) -> Option<ConnectionId> {
        let settled = self.messages.settle(message, session);
        if let Some(is_last) = settled.to_be_written {
            self.record(Record::Settled { message, session, is_last }, Urgency::Lazy, now);
        }
        settled.publisher
    }

    /// Makes sure that the open batch is closed in time.
    pub fn hurry(&mut self, urgency: Urgency, now: Time) {
        let wait = match urgency {
            _ if self.pending_bytes() > BATCH_BYTES => Duration::ZERO,
            Urgency::Urgent => self.pace.urgent,
            Urgency::Lazy => self.pace.lazy,
        };
        self.due = self.due.min(now + wait);
    }

    /// Whatever there is to be written down is due now.
    pub fn write_down(&mut self, now: Time) {
        if self.due != Time::NEVER || self.has_retained() {
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
    pub fn take_changed(&mut self) -> BTreeSet<SessionId> {
        std::mem::take(&mut self.changed)
    }

    /// Topics whose retained message is other than the store has it, and can be written down.
    pub fn take_retained(&mut self) -> BTreeSet<Box<str>> {
        let mut retained = std::mem::take(&mut self.retained);
        if self.has_room {
            retained.append(&mut self.unpromised);
        }
        retained
    }

    /// Whether there are such.
    fn has_retained(&self) -> bool {
        !self.retained.is_empty() || self.has_room && !self.unpromised.is_empty()
    }

    /// Closes the open batch: `sessions` come first, `retained` last. `None` if there is nothing in it, because nobody
    /// needs any more what there was; it counts as durable.
    pub fn close(&mut self, sessions: Vec<Record>, retained: Vec<Record>, now: Time) -> Option<Batch> {
        assert!(!self.is_closed(), "one batch at a time is with the store");
        self.settle_leftovers();
        self.due = if self.leftovers.is_empty() { Time::NEVER } else { now + self.pace.lazy };
        let mut records = sessions;
        self.messages.close(&mut records);
        records.append(&mut self.records);
        records.extend(retained);
        let fetches = std::mem::take(&mut self.fetches);
        let number = self.open;
        self.open += 1;
        if records.is_empty() && fetches.is_empty() {
            self.is_durable(number);
            return None;
        }
        Some(Batch { number, now, records, fetches })
    }

    /// Some of what ended sessions have left behind needs nobody any more. Nobody waits for that.
    fn settle_leftovers(&mut self) {
        for _ in 0..LEFTOVERS_PER_BATCH {
            let Some((session, messages)) = self.leftovers.front_mut() else { return };
            let session = *session;
            let Some(message) = messages.pop_front() else {
                self.leftover_bytes -= memory::allocation(messages.capacity() * size_of::<MessageNumber>());
                self.leftovers.pop_front();
                continue;
            };
            let settled = self.messages.settle(message, session);
            if let Some(is_last) = settled.to_be_written {
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
        self.messages.closed_are_durable();
    }

    /// Whether everything is written down that there is room for.
    pub fn is_empty(&self) -> bool {
        self.due == Time::NEVER && !self.is_closed() && self.leftovers.is_empty() && !self.has_retained()
    }

    /// Tells how much memory it takes beside the messages, which count themselves.
    pub fn count(&mut self) {
        self.counted.set(
            memory::allocation(size_of::<Self>())
                + memory::allocation(self.numbers.capacity() * size_of::<Option<SessionNumber>>())
                + (self.sessions.len() + self.changed.len()) * ENTRY_BYTES
                + (self.retained.len() + self.unpromised.len()) * ENTRY_BYTES
                + (self.corked.len() + self.paused.len() + self.unanswered.len() + self.suspended.len())
                    * ENTRY_BYTES
                + self.records.capacity() * RECORD_BYTES
                + self.leftover_bytes
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
