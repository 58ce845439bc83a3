//! A broker with virtual peers, driven turn by turn in the phases and within the bounds of the server's loop, so that
//! a test can count the cost of a turn and how many turns a client waits.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU64;

use brooklet::base::peer::Peer as Address;
use brooklet::base::time::{Duration, Time};
use brooklet::core::access::{AccessControl, AllowAll};
use brooklet::core::broker::{Broker, Effect, Intake};
use brooklet::core::journal::{Batch, MessageNumber, NextNumbers, Pace, SessionNumber};
use brooklet::core::limits::Limits;
use brooklet::core::listener::ListenerId;
use brooklet::core::slots::ConnectionId;

use crate::bystander::Bystander;
use crate::store::{Epoch, Store};
use crate::wire::{Received, acknowledge, cut_variable_byte_integer, received};

/// One end of a Network Connection to the broker.
pub type Peer = ConnectionId;

// The bounds of the server's loop.
const READ_BYTES: usize = 256 * 1024;
const READ_BYTES_OF_MANY: usize = 16 * 1024;
const MANY: usize = 32;
const READ_STEPS: usize = 16;
const BYTES_PER_STEP: usize = 1024;
const WRITES_PER_TURN: usize = 256;
const WRITTEN_BYTES_PER_TURN: usize = 4 * 1024 * 1024;
const REAPED_PER_TURN: usize = 256;
const EVENTS_PER_TURN: usize = 1024;
const TIMERS_PER_TURN: usize = 1024;
const SUSPECTS_PER_TURN: usize = 256;

/// The time that a turn takes here.
const TURN: Duration = Duration::from_milliseconds(2);
/// More turns than any test needs.
const TURNS_MAXIMUM: usize = 20_000;

/// When a link is read next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// When bytes arrive.
    Waiting,
    /// In the next turn.
    Listed,
    /// When the core wants more bytes.
    Paused,
}

/// The broker's end of a connection.
#[derive(Debug)]
struct Link {
    level: u8,
    /// Bytes that the peer has sent; those before `taken` have been read.
    input: Vec<u8>,
    taken: usize,
    reading: Reading,
    /// Bytes written to the peer since the test last took them.
    output: Vec<u8>,
    /// Whether the peer acknowledges what it receives, and how much of the output it has examined for that.
    acknowledges: bool,
    seen: usize,
    /// Whether the socket takes no bytes.
    is_stalled: bool,
    is_closing: bool,
    is_closed: bool,
}

/// The broker and the loop around it.
pub struct Server {
    pub broker: Broker,
    /// The number of turns so far.
    pub turns: usize,
    pub budget: usize,
    now: Time,
    links: BTreeMap<Peer, Link>,
    /// Peers that have sent something since they were last read.
    events: VecDeque<Peer>,
    again: VecDeque<Peer>,
    writing: VecDeque<Peer>,
    answered: Vec<Peer>,
    dead: VecDeque<Peer>,
    /// Peers that seem to be silent.
    suspects: VecDeque<Peer>,
    room: usize,
    persistence: Option<Persistence>,
}

/// A store that makes a batch durable between two turns.
#[derive(Default)]
struct Persistence {
    store: Store,
    batch: Option<Batch>,
    /// Whether nothing becomes durable.
    is_stuck: bool,
}

impl Server {
    pub fn new() -> Self {
        Self::with(Limits::default(), AllowAll)
    }

    /// A server with a quarter of the usual budget: tests need tens of thousands of items here for hundreds of
    /// thousands on a real machine.
    pub fn with_small_budget() -> Self {
        Self::with_limits(|limits| limits.steps_per_turn /= 4)
    }

    pub fn with_limits(change: impl FnOnce(&mut Limits)) -> Self {
        let mut limits = Limits::default();
        change(&mut limits);
        Self::with(limits, AllowAll)
    }

    pub fn with(limits: Limits, access: impl AccessControl + 'static) -> Self {
        Self {
            turns: 0,
            budget: limits.steps_per_turn,
            broker: Broker::new(limits, Box::new(access), 1, Time::ZERO),
            now: Time::ZERO,
            links: BTreeMap::new(),
            events: VecDeque::new(),
            again: VecDeque::new(),
            writing: VecDeque::new(),
            answered: Vec::new(),
            dead: VecDeque::new(),
            suspects: VecDeque::new(),
            room: READ_BYTES,
            persistence: None,
        }
    }

    /// The same server with a store for sessions that outlive their connections.
    pub fn persistent(mut self) -> Self {
        let (session, message) = (SessionNumber(NonZeroU64::MIN), MessageNumber(NonZeroU64::MIN));
        let pace = Pace { holds: true, urgent: Duration::ZERO, lazy: Duration::ZERO };
        self.broker.begin_journal(NextNumbers { session, message }, pace);
        self.persistence = Some(Persistence::default());
        self
    }

    /// Opens a Network Connection and sends these bytes on it.
    pub fn open(&mut self, connect: impl AsRef<[u8]>) -> Peer {
        let connect = connect.as_ref();
        let peer = self.open_silently(level_of(connect));
        self.send(peer, connect);
        peer
    }

    /// Opens a Network Connection on which nothing is sent.
    pub fn open_silently(&mut self, level: u8) -> Peer {
        let address = Address::Internet(([127, 0, 0, 1], 50_000).into());
        let peer = self.broker.accept(address, ListenerId::default(), self.now).expect("there is room");
        let link = Link {
            level,
            input: Vec::new(),
            taken: 0,
            reading: Reading::Waiting,
            output: Vec::new(),
            acknowledges: false,
            seen: 0,
            is_stalled: false,
            is_closing: false,
            is_closed: false,
        };
        self.links.insert(peer, link);
        peer
    }

    /// Connects clients, each with a CONNECT and what it sends at once after it. The CONNACKs are taken and checked.
    pub fn connect_all(&mut self, connects: impl IntoIterator<Item = Vec<u8>>) -> Vec<Peer> {
        let peers: Vec<Peer> = connects.into_iter().map(|connect| self.open(connect)).collect();
        self.settle();
        for &peer in &peers {
            let connack = self.take(peer).into_iter().next().expect("a CONNACK");
            assert_eq!((connack[0], connack[3]), (0x20, 0), "CONNACK {connack:02x?}");
        }
        peers
    }

    /// Connects one client.
    pub fn connect(&mut self, connect: Vec<u8>) -> Peer {
        self.connect_all([connect])[0]
    }

    /// Makes the peers acknowledge at once everything they receive from now on.
    pub fn acknowledge_all(&mut self, peers: &[Peer]) {
        for peer in peers {
            self.link(*peer).acknowledges = true;
        }
    }

    /// Sends bytes of the peer, which are read in the next turn at the earliest.
    pub fn send(&mut self, peer: Peer, bytes: impl AsRef<[u8]>) {
        let link = self.link(peer);
        assert!(!link.is_closed, "the broker has closed this connection");
        link.input.extend_from_slice(bytes.as_ref());
        self.events.push_back(peer);
    }

    /// The same, without a report of the poller.
    pub fn send_quietly(&mut self, peer: Peer, bytes: impl AsRef<[u8]>) {
        self.link(peer).input.extend_from_slice(bytes.as_ref());
    }

    /// Breaks the connection of the peer, and tells the broker at once.
    pub fn cut(&mut self, peer: Peer) {
        self.dead.push_back(peer);
    }

    /// Stops the socket of the peer from taking bytes, or lets it take them again.
    pub fn stall(&mut self, peer: Peer, is_stalled: bool) {
        self.link(peer).is_stalled = is_stalled;
        if !is_stalled {
            self.broker.writable(peer);
        }
    }

    /// Whether the broker has closed the connection.
    pub fn is_closed(&self, peer: Peer) -> bool {
        self.links[&peer].is_closed
    }

    /// Whether the peer has received anything since the last call.
    pub fn has_got_something(&self, peer: Peer) -> bool {
        !self.links[&peer].output.is_empty()
    }

    /// The bytes that the peer has received since the last call, cut into packets.
    pub fn take(&mut self, peer: Peer) -> Vec<Vec<u8>> {
        let link = self.link(peer);
        let bytes = std::mem::take(&mut link.output);
        link.seen = 0;
        packets(&bytes).map(<[u8]>::to_vec).collect()
    }

    /// The messages that the peer has received since the last call. Nothing else may have come.
    pub fn take_messages(&mut self, peer: Peer) -> Vec<Received> {
        let level = self.link(peer).level;
        self.take(peer).iter().map(|packet| received(level, packet)).collect()
    }

    /// The payloads of those messages, as text.
    pub fn take_texts(&mut self, peer: Peer) -> Vec<String> {
        let texts = self.take_messages(peer).into_iter();
        texts.map(|message| String::from_utf8(message.payload).expect("payloads are text here")).collect()
    }

    /// Stops the store from making anything durable, or lets it do so again.
    pub fn stick_store(&mut self, is_stuck: bool) {
        self.persistence.as_mut().expect("a server with a store").is_stuck = is_stuck;
    }

    /// The durable state.
    pub fn store(&self) -> &Store {
        &self.persistence.as_ref().expect("a server with a store").store
    }

    /// The time of the last turn.
    pub fn now(&self) -> Time {
        self.now
    }

    /// Lets time pass before the next turn.
    pub fn skip(&mut self, time: Duration) {
        self.now = self.now + time;
        self.turn();
    }

    /// Holds up the loop, which knows it.
    pub fn hold_up(&mut self, time: Duration) {
        self.now = self.now + time;
        self.broker.held_up(time, self.now);
    }

    /// Lets time pass before the next call.
    pub fn skip_quietly(&mut self, time: Duration) {
        self.now = self.now + time;
    }

    /// Lets time pass, in turns.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            let next = self.broker.next_deadline().unwrap_or(end).min(end);
            self.now = self.now.max(next);
            self.turn();
            self.settle();
        }
    }

    /// Takes turns until no work is left.
    pub fn settle(&mut self) {
        let last = self.turns + TURNS_MAXIMUM;
        while self.is_busy() {
            assert!(self.turns < last, "the broker does not become idle");
            self.turn();
        }
    }

    /// The same, while a bystander sends requests all the time.
    pub fn settle_beside(&mut self, bystander: &mut Bystander) {
        let last = self.turns + TURNS_MAXIMUM;
        bystander.beside_a_turn(self);
        while self.is_busy() {
            assert!(self.turns < last, "the broker does not become idle");
            bystander.beside_a_turn(self);
        }
        bystander.assert_rests();
    }

    /// Whether something is to be done at once.
    pub fn is_busy(&self) -> bool {
        let is_waiting = !(self.events.is_empty()
            && self.again.is_empty()
            && self.writing.is_empty()
            && self.suspects.is_empty()
            && self.dead.is_empty());
        let is_persisting = self
            .persistence
            .as_ref()
            .is_some_and(|persistence| persistence.batch.is_some() || self.broker.batch_due().is_some());
        let is_due = self.broker.next_deadline().is_some_and(|deadline| deadline <= self.now);
        is_waiting || is_persisting || is_due || self.broker.has_work()
    }

    /// Takes one turn of the loop.
    pub fn turn(&mut self) {
        self.turns += 1;
        self.now = self.now + TURN;
        let again = self.again.len();
        let events: Vec<Peer> = self.events.drain(..self.events.len().min(EVENTS_PER_TURN)).collect();
        self.share_turn(self.suspects.len() + again + events.len());
        self.exchange();
        self.read_suspects();
        for _ in 0..again {
            let Some(peer) = self.again.pop_front() else { break };
            let link = self.link(peer);
            if link.reading == Reading::Listed {
                link.reading = Reading::Waiting;
                self.read(peer);
            }
        }
        for peer in events {
            self.read(peer);
        }
        self.exchange();
        self.take_pages();
        self.apply_effects();
        self.answer();
        self.broker.tick(self.now, TIMERS_PER_TURN);
        self.apply_effects();
        self.exchange();
        self.write();
        self.reap();
        let heaviest = self.broker.heaviest_turn();
        assert!(heaviest <= self.budget, "a turn took {heaviest} steps of {}", self.budget);
    }

    fn link(&mut self, peer: Peer) -> &mut Link {
        self.links.get_mut(&peer).expect("a peer that was opened")
    }

    fn share_turn(&mut self, links: usize) {
        self.broker.share_input(links);
        self.room = if links <= MANY { READ_BYTES } else { READ_BYTES_OF_MANY };
    }

    fn read(&mut self, peer: Peer) {
        let (room, now) = (self.room, self.now);
        let Self { broker, links, .. } = self;
        let link = links.get_mut(&peer).expect("a peer that was opened");
        if link.reading != Reading::Waiting || link.is_closed {
            return;
        }
        if !broker.takes_input() {
            self.list(peer);
            return;
        }
        let end = link.input.len().min(link.taken + room);
        let bytes = &link.input[link.taken..end];
        if bytes.is_empty() {
            return;
        }
        broker.take_steps(READ_STEPS + bytes.len() / BYTES_PER_STEP);
        let is_paused = broker.received(peer, bytes, now) == Intake::Paused;
        link.taken = end;
        let has_more = end < link.input.len();
        if !has_more {
            link.input.clear();
            link.taken = 0;
        }
        self.answered.push(peer);
        if is_paused {
            self.link(peer).reading = Reading::Paused;
        } else if has_more {
            self.list(peer);
        }
    }

    /// Reads peers that seem to be silent until nothing is left; then their silence is judged.
    fn read_suspects(&mut self) {
        for _ in 0..self.suspects.len().min(SUSPECTS_PER_TURN) {
            if !self.broker.takes_input() {
                return;
            }
            let Some(peer) = self.suspects.pop_front() else { return };
            let link = self.link(peer);
            if link.reading == Reading::Listed {
                link.reading = Reading::Waiting;
            }
            self.read(peer);
            let link = self.link(peer);
            if !link.is_closed && link.reading != Reading::Paused && !link.input.is_empty() {
                self.suspects.push_back(peer);
                continue;
            }
            self.broker.heard_out(peer, self.now);
        }
    }

    fn list(&mut self, peer: Peer) {
        let link = self.link(peer);
        if link.reading == Reading::Waiting {
            link.reading = Reading::Listed;
            self.again.push_back(peer);
        }
    }

    fn apply_effects(&mut self) {
        while let Some(effect) = self.broker.next_effect() {
            match effect {
                Effect::Close(peer) => {
                    self.link(peer).is_closing = true;
                    self.finish(peer);
                }
                Effect::Drop(peer) => self.dead.push_back(peer),
                Effect::Listen(peer) => self.suspects.push_back(peer),
                Effect::Resume(peer) => {
                    if self.broker.resume(peer, self.now) == Intake::More {
                        let link = self.link(peer);
                        if link.reading == Reading::Paused {
                            link.reading = Reading::Waiting;
                        }
                        self.list(peer);
                    }
                }
            }
        }
    }

    /// Writes to the peers that were read in this turn.
    fn answer(&mut self) {
        for peer in std::mem::take(&mut self.answered) {
            if self.broker.has_output(peer) {
                self.write_one(peer);
            }
        }
    }

    fn write(&mut self) {
        let dirty = self.broker.take_dirty(Vec::new());
        self.writing.extend(dirty);
        let mut written = 0;
        for _ in 0..WRITES_PER_TURN {
            if written >= WRITTEN_BYTES_PER_TURN {
                break;
            }
            let Some(peer) = self.writing.pop_front() else { break };
            written += self.write_one(peer);
        }
    }

    /// Writes to one peer; returns how many bytes it took.
    fn write_one(&mut self, peer: Peer) -> usize {
        let Self { broker, links, now, .. } = self;
        let link = links.get_mut(&peer).expect("a peer that was opened");
        if link.is_closed {
            return 0;
        }
        let before = link.output.len();
        if link.is_stalled {
            broker.write_to(peer, &mut Stalled, *now).expect("it only blocks");
        } else {
            broker.write_to(peer, &mut link.output, *now).expect("a vector takes all");
        }
        let written = link.output.len() - before;
        self.acknowledge(peer);
        self.finish(peer);
        written
    }

    /// Answers what the peer has received, if it acknowledges.
    fn acknowledge(&mut self, peer: Peer) {
        let link = self.link(peer);
        if !link.acknowledges {
            return;
        }
        let mut answers = Vec::new();
        for packet in packets(&link.output[link.seen..]) {
            match (packet[0] >> 4, packet[0] >> 1 & 3) {
                (3, 0) => {}
                (3, qos) => {
                    let identifier = received(link.level, packet).packet_identifier.expect("it has one");
                    answers.extend(acknowledge(if qos == 1 { 0x40 } else { 0x50 }, identifier));
                }
                (6, _) => answers.extend(acknowledge(0x70, u16::from_be_bytes([packet[2], packet[3]]))),
                _ => {}
            }
        }
        link.seen = link.output.len();
        if !answers.is_empty() {
            self.send(peer, answers);
        }
    }

    /// Removes a connection that the broker has closed, once everything is written.
    fn finish(&mut self, peer: Peer) {
        if self.links[&peer].is_closing && !self.broker.has_output(peer) {
            self.dead.push_back(peer);
        }
    }

    fn reap(&mut self) {
        for _ in 0..REAPED_PER_TURN {
            if !self.broker.takes_ends() {
                return;
            }
            let Some(peer) = self.dead.pop_front() else { return };
            let link = self.link(peer);
            if !link.is_closed {
                link.is_closed = true;
                self.broker.closed(peer, "connection closed by client", self.now);
            }
        }
    }

    /// Makes durable what was handed over to the store in an earlier turn.
    fn exchange(&mut self) {
        self.take_storage_answers();
        while let Some(peer) = self.broker.next_answered() {
            self.write_one(peer);
        }
        self.hand_over();
    }

    fn take_storage_answers(&mut self) {
        let Some(persistence) = &mut self.persistence else { return };
        if let Some(batch) = persistence.batch.take_if(|_| !persistence.is_stuck) {
            persistence.store.write(&batch, self.now);
            self.broker.durable(batch.number, self.now);
        }
    }

    fn take_pages(&mut self) {
        let Some(persistence) = &mut self.persistence else { return };
        if self.broker.wants_pages() {
            let fetches = self.broker.take_fetches(self.now);
            let pages = persistence.store.read(&fetches, Epoch::new(Time::ZERO, Time::ZERO));
            self.broker.pages(&pages, self.now);
        }
    }

    fn hand_over(&mut self) {
        let Some(persistence) = &mut self.persistence else { return };
        if persistence.batch.is_none() && self.broker.batch_due().is_some() {
            persistence.batch = self.broker.take_batch(self.now);
        }
    }
}

/// The protocol level in a CONNECT: it follows the name.
fn level_of(connect: &[u8]) -> u8 {
    let (_, body) = cut_variable_byte_integer(&connect[1..]);
    body[2 + usize::from(body[1])]
}

/// A socket that takes nothing.
struct Stalled;

impl std::io::Write for Stalled {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::WouldBlock.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The packets in these bytes.
pub fn packets(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (length, body) = cut_variable_byte_integer(&rest[1..]);
        let header = rest.len() - body.len();
        let (packet, others) = rest.split_at(header + length);
        rest = others;
        Some(packet)
    })
}
