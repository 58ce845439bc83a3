//! One client: its memory across connections, and its actions on one.
//!
//! It follows the standard like a client with a persistent session: it sends unacknowledged messages again, with DUP
//! and in order, continues with PUBREL after a PUBREC, and passes on a QoS 2 message once for each Packet Identifier.

use std::collections::{BTreeMap, VecDeque};

use crate::chance::Chance;
use crate::ledger::Ledger;
use crate::link::Link;
use crate::wire::{self, Connect, DISCONNECT, Publish, V5, acknowledge, received, subscribe, unsubscribe};

/// Messages that a client has in flight at once.
const OUTGOING_MAXIMUM: usize = 12;
/// The Reason Code of a broker that was asked to end.
const SERVER_SHUTTING_DOWN: u8 = 0x8B;
/// The Session Expiry Interval for sessions that never expire.
const FOR_EVER: u32 = u32::MAX;

/// The characteristics of a client.
#[derive(Clone, Debug)]
pub struct Character {
    pub name: String,
    pub level: u8,
    /// Whether its session outlives its connections.
    pub is_persistent: bool,
    /// 5.0 only.
    pub receive_maximum: Option<u16>,
    /// The filters that it subscribes to from time to time.
    pub filters: Vec<String>,
    /// The filter that it subscribes to at first, and for ever.
    pub shared: Option<String>,
}

/// What a client remembers across its connections, and across the deaths of its broker.
#[derive(Clone, Debug)]
pub struct Memory {
    pub character: Character,
    index: usize,
    known_session: KnownSession,
    next_identifier: u16,
    outgoing: Vec<Outgoing>,
    /// QoS 2 messages that were passed on and not released, by Packet Identifier.
    incoming: BTreeMap<u16, Vec<u8>>,
}

/// What the client knows about its session at the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KnownSession {
    /// The broker has reported that it exists.
    There,
    /// It has never existed, or the broker has reported that it is gone.
    Gone,
    /// The broker was asked for one and has not answered.
    InDoubt,
    /// The broker was asked for a new one and has not answered. It is asked until it does.
    BeginsAnew,
}

#[derive(Clone, Copy, Debug)]
struct Outgoing {
    identifier: u16,
    number: usize,
    /// The length of its payload; `None` if it is empty.
    length: Option<usize>,
    is_released: bool,
}

/// A request that waits for its acknowledgement.
#[derive(Debug)]
enum Request {
    Subscribe { identifier: u16, filter: String, qos: u8 },
    Unsubscribe { identifier: u16, filter: String },
}

impl Request {
    const fn identifier(&self) -> u16 {
        match self {
            Self::Subscribe { identifier, .. } | Self::Unsubscribe { identifier, .. } => *identifier,
        }
    }
}

/// A client and its connection.
pub struct Client {
    pub memory: Memory,
    link: Option<Link>,
    /// What the CONNACK must say, if that is known.
    expected_presence: Option<bool>,
    is_accepted: bool,
    requests: Vec<Request>,
    /// Answers that are due, in order.
    answers: VecDeque<Vec<u8>>,
}

impl Memory {
    pub const fn new(index: usize, character: Character) -> Self {
        Self {
            character,
            index,
            known_session: KnownSession::Gone,
            next_identifier: 1,
            outgoing: Vec::new(),
            incoming: BTreeMap::new(),
        }
    }
}

impl Client {
    pub const fn new(memory: Memory) -> Self {
        Self {
            memory,
            link: None,
            expected_presence: None,
            is_accepted: false,
            requests: Vec::new(),
            answers: VecDeque::new(),
        }
    }

    pub const fn is_connected(&self) -> bool {
        self.link.is_some()
    }

    /// Whether nothing is in flight in either direction.
    pub fn is_settled(&self) -> bool {
        let is_quiet = self.requests.is_empty() && self.answers.is_empty();
        is_quiet && self.is_accepted && self.memory.outgoing.is_empty() && self.memory.incoming.is_empty()
    }

    /// Describes what is in flight, for a reader.
    pub fn describe(&self) -> String {
        let Memory { character, outgoing, incoming, .. } = &self.memory;
        let (requests, answers) = (&self.requests, self.answers.len());
        let is_accepted = self.is_accepted;
        format!("{}: {is_accepted} {outgoing:?} {:?} {requests:?} {answers}", character.name, incoming.keys())
    }

    /// Starts to connect; with Clean Start if the session is not persistent, or if it is to start anew.
    pub fn connect(&mut self, port: u16, begins_anew: bool) {
        let Memory { character, .. } = &self.memory;
        let is_clean =
            !character.is_persistent || begins_anew || self.memory.known_session == KnownSession::BeginsAnew;
        let mut connect = Connect::new(character.level, &character.name);
        if !is_clean {
            connect = connect.resume();
        }
        if character.level == V5 && character.is_persistent {
            connect = connect.expiry(FOR_EVER);
        }
        if let Some(maximum) = character.receive_maximum.filter(|_| character.level == V5) {
            connect = connect.property(&[&[0x21][..], &maximum.to_be_bytes()].concat());
        }
        (self.expected_presence, self.memory.known_session) = match self.memory.known_session {
            _ if is_clean => (Some(false), KnownSession::BeginsAnew),
            KnownSession::There => (Some(true), KnownSession::There),
            KnownSession::Gone => (Some(false), KnownSession::InDoubt),
            KnownSession::InDoubt | KnownSession::BeginsAnew => (None, KnownSession::InDoubt),
        };
        let mut link = Link::open(port);
        link.send(&connect.bytes());
        self.link = Some(link);
        self.is_accepted = false;
    }

    /// Ends the connection, with or without a DISCONNECT. What was not acknowledged stays in doubt.
    pub fn leave(&mut self, is_polite: bool, ledger: &mut Ledger) {
        if let Some(mut link) = self.link.take()
            && is_polite
        {
            link.send(&DISCONNECT);
        }
        self.is_accepted = false;
        self.requests.clear();
        self.answers.clear();
        if !self.memory.character.is_persistent {
            self.forget(ledger);
        }
    }

    /// Forgets what is lost with a session.
    fn forget(&mut self, ledger: &mut Ledger) {
        for outgoing in self.memory.outgoing.drain(..).filter(|outgoing| !outgoing.is_released) {
            ledger.abandoned(outgoing.number);
        }
        self.memory.incoming.clear();
    }

    /// Does something that a client may do.
    pub fn act(&mut self, chance: &mut Chance, topics: &[String], ledger: &mut Ledger) {
        if !self.is_accepted {
            return;
        }
        match chance.below(10) {
            0 if self.memory.character.is_persistent => self.change_subscription(chance, ledger),
            1 | 2 => {}
            _ => self.publish_something(chance, topics, ledger),
        }
    }

    fn publish_something(&mut self, chance: &mut Chance, topics: &[String], ledger: &mut Ledger) {
        if self.memory.outgoing.len() >= OUTGOING_MAXIMUM {
            return;
        }
        let qos = chance.pick(&[0, 1, 1, 1, 2, 2, 2]);
        if chance.percent(15) {
            // To one topic with one QoS: a message of QoS 1 that is sent again may come after one of QoS 2 that is
            // not.
            let qos = chance.pick(&[1, 2]);
            let topic = format!("retained/{}/{qos}", self.memory.index);
            let length = (!chance.percent(30)).then_some(20);
            return self.publish(&topic, qos, length, ledger);
        }
        let length = if chance.percent(5) { 20_000 } else { chance.below(500) };
        let topic = &topics[chance.below(topics.len())];
        self.publish(topic, qos, Some(length), ledger);
    }

    /// Publishes a message that is not retained, unless the client is not accepted or too much is in flight.
    #[cfg(feature = "bridge")]
    pub fn publish_to(&mut self, topic: &str, qos: u8, length: usize, ledger: &mut Ledger) {
        if self.is_accepted && self.memory.outgoing.len() < OUTGOING_MAXIMUM {
            self.publish(topic, qos, Some(length), ledger);
        }
    }

    /// Publishes; without a length, the payload is empty.
    fn publish(&mut self, topic: &str, qos: u8, length: Option<usize>, ledger: &mut Ledger) {
        let number = ledger.publish(self.memory.index, topic, qos, is_retained(topic), length.is_none());
        let outgoing = Outgoing { identifier: self.fresh_identifier(), number, length, is_released: false };
        if qos > 0 {
            self.memory.outgoing.push(outgoing);
        }
        self.send_publish(outgoing, false, ledger);
    }

    /// Sends a message, again or for the first time.
    fn send_publish(&mut self, outgoing: Outgoing, is_dup: bool, ledger: &Ledger) {
        let Outgoing { number, length, .. } = outgoing;
        let payload = length.map_or_else(Vec::new, |length| payload(number, length));
        let topic = ledger.topic(number);
        let mut publish = Publish::new(self.memory.character.level, topic, &payload);
        if ledger.qos(number) > 0 {
            publish = publish.qos(ledger.qos(number), outgoing.identifier);
        }
        if is_retained(topic) {
            publish = publish.retain();
        }
        if is_dup {
            publish = publish.dup();
        }
        self.send(&publish.bytes());
    }

    fn change_subscription(&mut self, chance: &mut Chance, ledger: &mut Ledger) {
        if !self.requests.is_empty() || self.memory.character.filters.is_empty() {
            return;
        }
        let filter = self.memory.character.filters[chance.below(self.memory.character.filters.len())].clone();
        if chance.percent(25) {
            let identifier = self.fresh_identifier();
            ledger.unsubscribing(self.memory.index, &filter);
            self.send(&unsubscribe(self.memory.character.level, identifier, &[&filter]));
            self.requests.push(Request::Unsubscribe { identifier, filter });
        } else {
            self.subscribe(filter, chance.pick(&[1, 2, 2]), ledger);
        }
    }

    fn subscribe(&mut self, filter: String, qos: u8, ledger: &mut Ledger) {
        let identifier = self.fresh_identifier();
        ledger.subscribing(self.memory.index, &filter, qos);
        self.send(&subscribe(self.memory.character.level, identifier, &[], &[(&filter, qos)]));
        self.requests.push(Request::Subscribe { identifier, filter, qos });
    }

    /// A Packet Identifier that is not in use.
    fn fresh_identifier(&mut self) -> u16 {
        loop {
            let identifier = self.memory.next_identifier;
            self.memory.next_identifier = identifier % 60_000 + 1;
            let is_used = self.memory.outgoing.iter().any(|outgoing| outgoing.identifier == identifier)
                || self.requests.iter().any(|request| request.identifier() == identifier);
            if !is_used {
                return identifier;
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        if let Some(link) = &mut self.link {
            link.send(bytes);
        }
    }

    /// Processes received packets, and sends this many of the answers that are due.
    pub fn turn(&mut self, answers: usize, ledger: &mut Ledger) -> bool {
        let Some(link) = &mut self.link else {
            return false;
        };
        let packets = link.packets();
        let is_closed = link.is_closed();
        for packet in &packets {
            self.receive(packet, ledger);
        }
        assert!(!is_closed, "{} is no longer served", self.memory.character.name);
        for _ in 0..answers {
            let Some(answer) = self.answers.pop_front() else {
                break;
            };
            self.send(&answer);
        }
        !packets.is_empty()
    }

    /// The broker is dead, and with it the session.
    pub fn lose_session(&mut self, ledger: &mut Ledger) {
        self.mourn(ledger);
        self.forget(ledger);
        self.memory.known_session = KnownSession::Gone;
    }

    /// Processes the last packets of a broker that is dead.
    pub fn mourn(&mut self, ledger: &mut Ledger) {
        if let Some(link) = &mut self.link {
            for packet in link.last_packets() {
                self.receive(&packet, ledger);
            }
        }
        self.leave(false, ledger);
    }

    fn receive(&mut self, packet: &[u8], ledger: &mut Ledger) {
        let (_, body) = wire::cut_variable_byte_integer(&packet[1..]);
        let identifier = || u16::from_be_bytes([body[0], body[1]]);
        let code = body.get(2).copied().unwrap_or(0);
        let name = &self.memory.character.name;
        match packet[0] >> 4 {
            2 => self.connected(body[0] & 1 != 0, body[1], ledger),
            3 => self.deliver(packet, ledger),
            kind @ (4 | 5) => {
                assert!(code < 0x80, "{name} is answered {code:#x} to a PUBLISH");
                self.acknowledged(identifier(), kind == 5, ledger);
            }
            6 => {
                self.memory.incoming.remove(&identifier());
                self.answers.push_back(acknowledge(0x70, identifier()));
            }
            7 => self.memory.outgoing.retain(|outgoing| outgoing.identifier != identifier()),
            9 | 11 => {
                let code = packet.last().copied().unwrap_or(0x80);
                assert!(code < 0x80 || packet[0] >> 4 == 11, "{name} is refused a subscription");
                self.request_answered(identifier(), ledger);
            }
            14 => assert_eq!(body[0], SERVER_SHUTTING_DOWN, "why {name} is sent away"),
            _ => panic!("{name} did not expect {packet:02x?}"),
        }
    }

    fn connected(&mut self, session_present: bool, code: u8, ledger: &mut Ledger) {
        let name = self.memory.character.name.clone();
        assert_eq!(code, 0, "{name} is accepted");
        let is_as_expected = self.expected_presence.is_none_or(|expected| expected == session_present);
        assert!(is_as_expected, "{name} is told Session Present {session_present}");
        if !session_present {
            self.forget(ledger);
            ledger.session_began(self.memory.index);
        }
        // Clean Session of 3.1.1 makes a session that ends with its connection, which is no use to a client that keeps
        // its own.
        let Character { is_persistent, level, .. } = self.memory.character;
        if is_persistent && level != V5 && self.memory.known_session == KnownSession::BeginsAnew {
            self.memory.known_session = KnownSession::Gone;
            return self.leave(true, ledger);
        }
        self.is_accepted = true;
        self.memory.known_session = if is_persistent { KnownSession::There } else { KnownSession::Gone };
        self.send_again(ledger);
        let shared = self.memory.character.shared.clone();
        if let Some(filter) = shared.filter(|filter| !ledger.is_subscribed(self.memory.index, filter)) {
            self.subscribe(filter, 2, ledger);
        }
    }

    /// Sends everything unacknowledged again, in the original order.
    fn send_again(&mut self, ledger: &mut Ledger) {
        for outgoing in self.memory.outgoing.clone() {
            if outgoing.is_released {
                self.send(&acknowledge(0x62, outgoing.identifier));
                continue;
            }
            ledger.resend(outgoing.number);
            self.send_publish(outgoing, true, ledger);
        }
    }

    /// PUBACKs come in the order of their messages, and so do PUBRECs.
    fn acknowledged(&mut self, identifier: u16, is_pubrec: bool, ledger: &mut Ledger) {
        let name = &self.memory.character.name;
        let qos = if is_pubrec { 2 } else { 1 };
        let mut open = self
            .memory
            .outgoing
            .iter_mut()
            .filter(|outgoing| !outgoing.is_released && ledger.qos(outgoing.number) == qos);
        let Some(outgoing) = open.next() else {
            panic!("{name} has nothing of QoS {qos} under way that {identifier} could acknowledge");
        };
        assert_eq!(outgoing.identifier, identifier, "{name} gets acknowledgements of QoS {qos} in order");
        ledger.acknowledged(outgoing.number);
        if is_pubrec {
            outgoing.is_released = true;
            self.answers.push_back(acknowledge(0x62, identifier));
        } else {
            self.memory.outgoing.retain(|outgoing| outgoing.identifier != identifier);
        }
    }

    fn request_answered(&mut self, identifier: u16, ledger: &mut Ledger) {
        let position = self.requests.iter().position(|request| request.identifier() == identifier);
        let position = position.expect("an answer has its request");
        match self.requests.remove(position) {
            Request::Subscribe { filter, qos, .. } => ledger.subscribed(self.memory.index, &filter, qos),
            Request::Unsubscribe { filter, .. } => ledger.unsubscribed(self.memory.index, &filter),
        }
    }

    fn deliver(&mut self, packet: &[u8], ledger: &mut Ledger) {
        let message = received(self.memory.character.level, packet);
        if let Some(identifier) = message.packet_identifier {
            let first_byte = if message.qos == 1 { 0x40 } else { 0x50 };
            self.answers.push_back(acknowledge(first_byte, identifier));
            if message.qos == 2 {
                let known = self.memory.incoming.entry(identifier);
                if let std::collections::btree_map::Entry::Occupied(known) = known {
                    let name = &self.memory.character.name;
                    assert!(*known.get() == message.payload, "{name}: {identifier} is another message");
                    assert!(message.dup, "{name}: {identifier} comes again without DUP");
                    return;
                }
                known.or_insert_with(|| message.payload.clone());
            }
        }
        if let Some(number) = number_of(&message.payload) {
            ledger.delivered(self.memory.index, number, message.qos, message.retain, message.dup);
        }
    }
}

/// Whether messages to a topic are retained: all of them, or none.
fn is_retained(topic: &str) -> bool {
    topic.starts_with("retained/")
}

/// The payload of a message: its number, and this many bytes.
fn payload(number: usize, length: usize) -> Vec<u8> {
    let mut payload = format!("{number} ").into_bytes();
    payload.resize(payload.len() + length, b'.');
    payload
}

/// The number in a payload; `None` if it is empty.
pub fn number_of(payload: &[u8]) -> Option<usize> {
    let digits = payload.split(|byte| *byte == b' ').next().filter(|digits| !digits.is_empty())?;
    Some(std::str::from_utf8(digits).expect("digits").parse().expect("a number"))
}
