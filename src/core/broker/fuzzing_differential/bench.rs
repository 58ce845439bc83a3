//! A broker and everything around it: connections, and a store. It makes calls to the broker and records the outcome.

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroU64;

use log::LevelFilter;

use crate::base::peer::Peer;
use crate::base::time::{Duration, Time};
use crate::core::access::{AccessControl, Answer, Client, Question, Verdict};
use crate::core::broker::{Broker, Census, Effect, Intake, Statistics};
use crate::core::journal::{
    Batch, Fetch, MessageNumber, NextNumbers, Pace, Page, PageCopy, Pages, Recipient, Record, SessionNumber,
};
use crate::core::limits::Limits;
use crate::core::listener::ListenerId;
use crate::core::message::Portable;
use crate::core::slots::ConnectionId;
use crate::protocol::codec::{ProtocolVersion, QoS, ReasonCode, Status, connect_version, frame};
use crate::protocol::topic::TopicName;

/// The turns after which a broker must have come to rest.
const TURNS_MAXIMUM: usize = 10_000;

/// How often a broker comes to rest before a late store has written everything.
const RESTS_PER_WRITE: usize = 3;

/// How a broker processes its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// By short ways, where there are any.
    Short,
    /// By none of them.
    InFull,
    /// The access control is asked about each act, and grants it.
    Asked,
    /// The same, but it stands by its answers.
    Remembered,
    /// It refuses some messages, and is asked about each.
    Refusing,
    /// It refuses the same, and stands by its answers.
    Standing,
    /// Bytes come one by one, but in the same turn: writing in between would make room for more.
    ByteByByte,
    /// There is a store, which writes everything at once, and no answer waits for it.
    Stored,
    /// The same without short ways.
    StoredInFull,
    /// There is a store that is still writing when the outboxes are written; answers wait until it has written what
    /// they promise.
    Promised,
    /// The same without short ways.
    PromisedInFull,
    /// The same with a store that is often still writing when clients answer what they have received.
    Late,
    /// The same without short ways.
    LateInFull,
    /// Each packet is traced in the log.
    Traced,
}

impl Way {
    /// Those without a store that come to the same as [`Way::Short`].
    pub(super) const OTHERS: [Self; 5] =
        [Self::InFull, Self::Asked, Self::Remembered, Self::ByteByByte, Self::Traced];

    /// Ways with a store that must lead to the same, including the records of each batch: with short ways and without.
    pub(super) const STORED: [[Self; 2]; 3] = [
        [Self::Stored, Self::StoredInFull],
        [Self::Promised, Self::PromisedInFull],
        [Self::Late, Self::LateInFull],
    ];

    /// Those of them in which nothing new happens before the store has written everything.
    pub(super) const AT_REST: [[Self; 2]; 2] = [Self::STORED[0], Self::STORED[1]];

    /// Whether no short way may be taken.
    pub(super) const fn is_long(self) -> bool {
        matches!(
            self,
            Self::InFull | Self::Traced | Self::StoredInFull | Self::PromisedInFull | Self::LateInFull
        )
    }

    /// Whether answers wait until what they promise is written, if there is a store.
    const fn holds_answers(self) -> Option<bool> {
        match self {
            Self::Stored | Self::StoredInFull => Some(false),
            Self::Promised | Self::PromisedInFull | Self::Late | Self::LateInFull => Some(true),
            _ => None,
        }
    }

    pub(super) const fn level(self) -> LevelFilter {
        match self {
            Self::Traced => LevelFilter::Debug,
            _ => LevelFilter::Info,
        }
    }
}

/// Grants everything, or all but some messages. It knows users all the same, because the owner of a session depends on
/// that. Whether it is asked about each act depends on the way.
struct Grants {
    way: Way,
    /// How many were in force before.
    number: u8,
}

impl Grants {
    /// Whether a message is refused: some are, of each connection and at each QoS others.
    fn refuses(&self, client: &Client<'_>, topic: TopicName<'_>, qos: QoS) -> bool {
        let mix = |sum: u32, byte: u8| sum.wrapping_mul(31).wrapping_add(u32::from(byte));
        let of_connection = client.connection.map_or(0, |id| id.generation().to_le_bytes()[0]);
        let said = [self.number, of_connection, qos.level()];
        let bytes = said.into_iter().chain(topic.as_str().bytes()).chain(client.client_identifier.bytes());
        bytes.fold(7, mix) % 3 == 0
    }
}

impl AccessControl for Grants {
    fn grants_every_act(&self) -> bool {
        !matches!(self.way, Way::Asked | Way::Remembered | Way::Refusing | Way::Standing)
    }

    fn answers_stand(&self) -> bool {
        matches!(self.way, Way::Remembered | Way::Standing)
    }

    fn ask(&mut self, client: &Client<'_>, question: Question<'_>) -> Answer {
        let refuses = matches!(self.way, Way::Refusing | Way::Standing);
        Answer::Now(match question {
            Question::Publish { topic, qos, .. } if refuses && self.refuses(client, topic, qos) => {
                Verdict::Refused(ReasonCode::NotAuthorized)
            }
            _ => Verdict::Granted,
        })
    }
}

/// A call to a broker. Connections are numbered in the order in which they were accepted.
#[derive(Clone, Debug)]
pub(super) enum Call {
    Accept,
    Receive(usize, Vec<u8>),
    /// The peer closes.
    Close(usize),
    /// The network takes this many bytes from now on.
    Allow(usize, usize),
    Pass(Time),
    /// Another access control takes the place of the one in force.
    Replace,
    /// All that a server does in turns, until nothing is left to do.
    Rest,
}

/// How the broker ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Close,
    Drop,
}

/// What one connection has received.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    /// The version in which the client asked to be served.
    pub(super) version: Option<ProtocolVersion>,
    pub(super) bytes: Vec<u8>,
    pub(super) end: Option<End>,
    /// Whether the peer has closed.
    pub(super) is_closed: bool,
}

impl Heard {
    /// The version in which the connection is served. Without a CONNECT, no message is sent on it.
    pub(super) fn version(&self) -> ProtocolVersion {
        self.version.unwrap_or(ProtocolVersion::V311)
    }

    /// Whether the connection has ended, from either side.
    pub(super) const fn has_ended(&self) -> bool {
        self.end.is_some() || self.is_closed
    }
}

/// The outer end of a connection.
#[derive(Debug)]
pub(super) struct Link {
    /// `None` if there was no room for it, or it has gone.
    pub(super) id: Option<ConnectionId>,
    /// Input that was not handed over while the broker accepted none.
    unread: Vec<u8>,
    is_paused: bool,
    allowance: usize,
    pub(super) heard: Heard,
}

impl Link {
    /// Learns from the first packet in which version the connection is served.
    fn note_version(&mut self, bytes: &[u8]) {
        if let Ok(Status::Complete(first)) = frame(bytes, usize::MAX)
            && self.heard.version.is_none()
        {
            self.heard.version = connect_version(first.body);
        }
    }
}

/// Takes as many bytes as the network takes.
impl io::Write for Link {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.allowance == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = bytes.len().min(self.allowance);
        self.allowance -= count;
        self.heard.bytes.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The session and the Packet Identifier of the delivery that a record belongs to, if it belongs to one.
const fn exchange(record: &Record) -> Option<(SessionNumber, u16)> {
    match record {
        Record::Begun { session, identifier, .. } | Record::Completed(session, identifier) => {
            Some((*session, identifier.value()))
        }
        Record::Delivery(session, delivery) => Some((*session, delivery.identifier.value())),
        _ => None,
    }
}

/// The records of a batch in words, each twice. The fast path ends several deliveries before it begins others in their
/// places, and the full path begins one after each. So the records of deliveries that follow each other are sorted: first
/// by delivery, and those of one delivery are in their order; then by kind, and those of one kind are.
fn in_words(records: &[Record]) -> Vec<String> {
    let kind = |record: &Record| match record {
        Record::Completed(..) => 0,
        Record::Delivery(..) => 1,
        _ => 2,
    };
    let alike = |one: &Record, other: &Record| exchange(one).is_some() == exchange(other).is_some();
    let runs = || records.chunk_by(alike).map(|run| run.iter().collect::<Vec<_>>());
    let by_delivery = runs().map(|mut run| {
        run.sort_by_key(|record| exchange(record));
        run
    });
    let by_kind = runs().map(|mut run| {
        run.sort_by_key(|record| exchange(record).map(|_| kind(record)));
        run
    });
    by_delivery.chain(by_kind).flatten().map(|record| format!("{record:?}")).collect()
}

/// Messages in a store that never drops any.
#[derive(Debug, Default)]
struct Shelf {
    messages: BTreeMap<MessageNumber, (Portable, Vec<Recipient>)>,
    /// Whether there was a session to persist.
    has_persisted: bool,
    /// All records [in words](in_words), batch by batch.
    batches: Vec<Vec<String>>,
}

impl Shelf {
    fn keep(&mut self, batch: Batch) {
        self.batches.push(in_words(&batch.records));
        for record in batch.records {
            self.has_persisted |= matches!(record, Record::Session(_));
            if let Record::Message(kept) = record {
                self.messages.insert(kept.number, (kept.message, kept.recipients.to_vec()));
            }
        }
    }

    fn read(&self, fetches: &[Fetch]) -> Pages {
        let mut pages = Pages::default();
        for Fetch { session, messages } in fetches {
            let copies = messages.iter().map(|&number| {
                let (message, recipients) = &self.messages[&number];
                let form = recipients.iter().find(|recipient| recipient.session == *session);
                let form = form.expect("it is for this session").form.clone();
                pages.messages.push(message.clone());
                PageCopy { number, found: Some((pages.messages.len() - 1, form)) }
            });
            let copies = copies.collect();
            pages.pages.push(Page { session: *session, copies });
        }
        pages
    }
}

/// A broker and everything around it.
pub(super) struct Bench {
    way: Way,
    pub(super) broker: Broker,
    pub(super) now: Time,
    pub(super) links: Vec<Link>,
    shelf: Shelf,
    /// The number of the batch that the store is writing.
    writing: Option<u64>,
    /// How often the broker has come to rest.
    rests: usize,
    /// The bytes that each connection had received when each batch became durable.
    heard_before: Vec<Vec<usize>>,
    /// How often the access control was replaced.
    replaced: u8,
}

impl Bench {
    pub(super) fn new(way: Way, limits: &Limits) -> Self {
        let access = Box::new(Grants { way, number: 0 });
        let mut broker = Broker::new(limits.clone(), access, 1, Time::ZERO);
        if way.is_long() && way != Way::Traced {
            broker.take_no_short_way();
        }
        if let Some(holds) = way.holds_answers() {
            let first = NextNumbers {
                session: SessionNumber(NonZeroU64::MIN),
                message: MessageNumber(NonZeroU64::MIN),
            };
            broker.begin_journal(first, Pace { holds, urgent: Duration::ZERO, lazy: Duration::ZERO });
        }
        Self {
            way,
            broker,
            now: Time::ZERO,
            links: Vec::new(),
            shelf: Shelf::default(),
            writing: None,
            rests: 0,
            heard_before: Vec::new(),
            replaced: 0,
        }
    }

    pub(super) fn call(&mut self, call: &Call) {
        match *call {
            Call::Accept => {
                let id = self.broker.accept(Peer::Local, ListenerId::default(), self.now);
                self.links.push(Link {
                    id,
                    unread: Vec::new(),
                    is_paused: false,
                    allowance: usize::MAX,
                    heard: Heard::default(),
                });
            }
            Call::Receive(link, ref bytes) => {
                self.links[link].note_version(bytes);
                self.links[link].unread.extend_from_slice(bytes);
                self.hand_over(link);
            }
            Call::Close(link) => {
                if let Some(id) = self.links[link].id.take() {
                    self.links[link].heard.is_closed = true;
                    self.broker.closed(id, "closed by client", self.now);
                }
            }
            Call::Allow(link, count) => {
                self.links[link].allowance = count;
                if let Some(id) = self.links[link].id.filter(|&id| count > 0 && self.broker.has_output(id)) {
                    self.broker.writable(id);
                }
            }
            Call::Pass(now) => {
                self.now = now;
                self.broker.tick(now, 1000);
            }
            Call::Replace => {
                self.replaced = self.replaced.wrapping_add(1);
                let access = Box::new(Grants { way: self.way, number: self.replaced });
                self.broker.replace_access(access, self.now);
            }
            Call::Rest => self.rest(),
        }
        while self.serve_store() {}
    }

    /// Hands over what a peer has sent, if the broker accepts input from it.
    fn hand_over(&mut self, index: usize) {
        let link = &mut self.links[index];
        let Some(id) = link.id.filter(|_| !link.is_paused) else { return };
        let unread = std::mem::take(&mut link.unread);
        let length = if self.way == Way::ByteByByte { 1 } else { unread.len() };
        for bytes in unread.chunks(length.max(1)) {
            link.is_paused = self.broker.received(id, bytes, self.now) == Intake::Paused;
        }
    }

    fn rest(&mut self) {
        let is_late =
            matches!(self.way, Way::Late | Way::LateInFull) && !self.rests.is_multiple_of(RESTS_PER_WRITE);
        self.rests += 1;
        for _ in 0..TURNS_MAXIMUM {
            let is_writing = self.serve_store();
            if !is_writing && (is_late || self.writing.is_none()) && !self.broker.has_work() {
                return;
            }
            while let Some(effect) = self.broker.next_effect() {
                self.obey(effect);
            }
            for id in self.broker.take_dirty(Vec::new()) {
                if let Some(link) = self.links.iter_mut().find(|link| link.id == Some(id)) {
                    self.broker.write_to(id, link, self.now).expect("a vector takes all");
                }
            }
            if !is_late {
                self.finish_writing();
            }
            self.broker.tick(self.now, 1000);
        }
        panic!("the broker does not come to rest");
    }

    /// Does all writes and reads of the store that are due. Returns false if there are none.
    fn serve_store(&mut self) -> bool {
        self.broker.persist(self.now);
        let batch = match self.writing {
            None => self.broker.take_batch(self.now),
            Some(_) => None,
        };
        let wants_pages = self.broker.wants_pages();
        if wants_pages {
            let fetches = self.broker.take_fetches(self.now);
            self.broker.pages(&self.shelf.read(&fetches), self.now);
        }
        let Some(batch) = batch else { return wants_pages };
        let number = batch.number;
        self.shelf.keep(batch);
        self.writing = Some(number);
        if self.way.holds_answers() != Some(true) {
            self.finish_writing();
        }
        true
    }

    /// Makes the batch durable that the store is writing, if there is one.
    fn finish_writing(&mut self) {
        if let Some(number) = self.writing.take() {
            self.heard_before.push(self.links.iter().map(|link| link.heard.bytes.len()).collect());
            self.broker.durable(number, self.now);
        }
    }

    fn obey(&mut self, effect: Effect) {
        let (Effect::Close(id) | Effect::Drop(id) | Effect::Resume(id) | Effect::Listen(id)) = effect;
        let Some(index) = self.links.iter().position(|link| link.id == Some(id)) else { return };
        match effect {
            Effect::Close(_) => self.links[index].heard.end = Some(End::Close),
            Effect::Drop(_) => {
                self.links[index].heard.end = Some(End::Drop);
                self.links[index].id = None;
                self.broker.closed(id, "", self.now);
            }
            Effect::Resume(_) => {
                self.links[index].is_paused = self.broker.resume(id, self.now) == Intake::Paused;
                self.hand_over(index);
            }
            Effect::Listen(_) => self.broker.heard_out(id, self.now),
        }
    }

    pub(super) fn finish(self) -> Outcome {
        self.broker.check_invariants();
        Outcome {
            statistics: self.broker.statistics().clone(),
            census: self.broker.census(),
            heard: self.links.into_iter().map(|link| link.heard).collect(),
            has_persisted: self.shelf.has_persisted,
            batches: self.shelf.batches,
            heard_before: self.heard_before,
            lines: Vec::new(),
        }
    }
}

/// The outcome of all calls.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) heard: Vec<Heard>,
    pub(super) statistics: Statistics,
    pub(super) census: Census,
    /// Whether sessions were persisted in a store.
    pub(super) has_persisted: bool,
    /// What the store was given, batch by batch.
    pub(super) batches: Vec<Vec<String>>,
    /// The bytes that each connection had received when each batch became durable.
    pub(super) heard_before: Vec<Vec<usize>>,
    /// The lines of the default log, which say why connections ended, too.
    pub(super) lines: Vec<String>,
}
