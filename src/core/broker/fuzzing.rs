//! The body of the fuzz target for the whole core, in the library so that ordinary tests run it, too. Any bytes are a
//! list of what clients, the clock and the network do. It panics if a promise is broken.

use std::io;

pub use super::fuzzing_chunks::cut;
pub use super::fuzzing_differential::compare;
use super::fuzzing_limits::limits;
use super::fuzzing_packets as packets;
use super::{Broker, Census, Effect, Intake};
use crate::base::fuzzing::Input;
use crate::base::memory;
use crate::base::peer::Peer;
use crate::base::time::{Duration, Time};
use crate::core::access::{AccessControl, Answer, Client, Question, Verdict};
use crate::core::limits::Limits;
use crate::core::listener::ListenerId;
use crate::core::slots::ConnectionId;
use crate::protocol::codec::{
    Packet, ProtocolVersion, QoS, ReasonCode, Status, connect_version, decode, frame,
};

/// The most connections at one time.
const LINKS_MAXIMUM: usize = 6;

/// The deadlines that are waited for one by one while time passes; after that, time jumps.
const DEADLINES_MAXIMUM: usize = 64;

/// The turns after which the broker must have come to rest.
const TURNS_MAXIMUM: usize = 10_000;

/// Runs the core under any list of operations. It must keep its invariants, count its memory, send nothing but
/// well-formed packets that the client accepts, and hold nothing but retained messages when all clients have gone.
pub fn operate(data: &[u8]) {
    assert_eq!(memory::held(), 0, "the count of this thread begins at zero");
    let mut input = Input::new(data);
    let limits = limits(&mut input);
    let ends = limits.session_expiry_maximum < u32::MAX;
    let script = Script::new(&mut input);
    let mut world = World::new(limits, script);
    while !input.is_empty() {
        world.step(&mut input);
    }
    world.finish(ends);
    drop(world);
    assert_eq!(memory::held(), 0, "a dropped broker holds no counted memory");
}

/// Decides by fuzzed bytes, in a cycle.
struct Script {
    answers: Vec<u8>,
    next: usize,
}

impl Script {
    fn new(input: &mut Input<'_>) -> Self {
        Self { answers: input.bytes(8).to_vec(), next: 0 }
    }
}

impl AccessControl for Script {
    fn ask(&mut self, _client: &Client<'_>, _question: Question<'_>) -> Answer {
        self.next += 1;
        let answer = self.answers.get(self.next % self.answers.len().max(1));
        match answer.map_or(0, |answer| answer % 16) {
            12 => Answer::Now(Verdict::GrantedAtMost(QoS::AtLeastOnce)),
            13 => Answer::Now(Verdict::Refused(ReasonCode::NotAuthorized)),
            14.. => Answer::Later,
            _ => Answer::Now(Verdict::Granted),
        }
    }
}

/// What the CONNECT of a connection contained, as its client knows it.
#[derive(Clone, Copy, Debug)]
struct Greeting {
    version: ProtocolVersion,
    maximum_packet_size: usize,
}

/// How much the client has heard from the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    Nothing,
    Welcome,
    Farewell,
}

/// The outer end of a connection.
struct Link {
    id: ConnectionId,
    /// The version that the client intends to use.
    wanted: ProtocolVersion,
    /// What was sent, up to the end of the first packet.
    sent: Vec<u8>,
    greeting: Option<Greeting>,
    /// Whether the broker accepts no input for now.
    is_paused: bool,
    /// Whether the broker has asked to close it; the client's input is thrown away.
    is_closing: bool,
    /// How many bytes the network still takes.
    allowance: usize,
    /// The received bytes that are not a complete packet yet.
    output: Vec<u8>,
    heard: Heard,
    /// Received packets that have not been answered.
    unanswered: Vec<Vec<u8>>,
}

/// Takes as many bytes as the network takes.
struct Throttled<'a>(&'a mut Link);

impl io::Write for Throttled<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.allowance == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = bytes.len().min(self.0.allowance);
        self.0.allowance -= count;
        self.0.output.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Link {
    fn new(id: ConnectionId, wanted: ProtocolVersion) -> Self {
        Self {
            id,
            wanted,
            sent: Vec::new(),
            greeting: None,
            is_paused: false,
            is_closing: false,
            allowance: usize::MAX,
            output: Vec::new(),
            heard: Heard::Nothing,
            unanswered: Vec::new(),
        }
    }

    /// Learns from the first packet what the broker learns from it.
    fn note_greeting(&mut self, bytes: &[u8]) {
        if self.greeting.is_some() {
            return;
        }
        self.sent.extend_from_slice(bytes);
        let Ok(Status::Complete(first)) = frame(&self.sent, usize::MAX) else { return };
        let version = connect_version(first.body).unwrap_or(ProtocolVersion::V311);
        let maximum = match decode(&first, version) {
            Ok(Packet::Connect(connect)) => connect.properties.maximum_packet_size(),
            _ => None,
        };
        let maximum_packet_size = maximum.map_or(usize::MAX, |size| size as usize);
        self.greeting = Some(Greeting { version, maximum_packet_size });
    }

    /// Cuts the received bytes into packets and checks each of them.
    fn check_output(&mut self) {
        let output = std::mem::take(&mut self.output);
        let mut rest = output.as_slice();
        while let Ok(Status::Complete(cut)) = frame(rest, usize::MAX) {
            let greeting = self.greeting.expect("the broker is silent before a complete CONNECT");
            assert!(cut.length <= greeting.maximum_packet_size, "{cut:?} is larger than {greeting:?} allows");
            let packet = decode(&cut, greeting.version)
                .unwrap_or_else(|error| panic!("the broker sent {cut:02x?} to {greeting:?}: {error}"));
            self.check_order(&packet, greeting.version);
            self.unanswered.push(rest[..cut.length].to_vec());
            rest = &rest[cut.length..];
        }
        assert!(frame(rest, usize::MAX).is_ok(), "the broker sent {rest:02x?}");
        self.output = rest.to_vec();
    }

    fn check_order(&mut self, packet: &Packet<'_>, version: ProtocolVersion) {
        self.heard = match (self.heard, packet) {
            (Heard::Nothing, Packet::ConnAck(connack)) if connack.code == 0 => Heard::Welcome,
            (Heard::Nothing, Packet::ConnAck(_)) => Heard::Farewell,
            (Heard::Welcome, Packet::Disconnect(_)) if version == ProtocolVersion::V5 => Heard::Farewell,
            (
                Heard::Welcome,
                Packet::Publish(_)
                | Packet::PubAck(_)
                | Packet::PubRec(_)
                | Packet::PubRel(_)
                | Packet::PubComp(_)
                | Packet::SubAck(_)
                | Packet::UnsubAck(_)
                | Packet::PingResp,
            ) => Heard::Welcome,
            (heard, packet) => panic!("{packet:?} after {heard:?}"),
        }
    }
}

/// The broker and everything around it.
struct World {
    broker: Broker,
    now: Time,
    links: Vec<Link>,
    /// Whether the broker is shutting down and so accepts no connections.
    is_ending: bool,
}

impl World {
    fn new(limits: Limits, access: impl AccessControl + 'static) -> Self {
        let broker = Broker::new(limits, Box::new(access), 1, Time::ZERO);
        Self { broker, now: Time::ZERO, links: Vec::new(), is_ending: false }
    }

    /// Does the next operation, and then what a server does.
    fn step(&mut self, input: &mut Input<'_>) {
        match input.below(18) {
            0 | 1 => self.accept(input),
            2..=7 => self.send_packets(input, false),
            8 => self.send_packets(input, true),
            9 => self.send_raw(input),
            10 | 11 => self.answer(input),
            12 => self.close(input),
            13 => self.pass(input),
            14 => self.throttle(input),
            15 | 16 => self.decide(input),
            _ if input.once_in(16) => {
                self.is_ending = true;
                self.broker.shut_down(self.now);
            }
            _ => self.pass(input),
        }
        self.settle();
    }

    fn accept(&mut self, input: &mut Input<'_>) {
        let wanted = input.pick(&[ProtocolVersion::V5, ProtocolVersion::V311, ProtocolVersion::V31]);
        if self.links.len() == LINKS_MAXIMUM || self.is_ending {
            return;
        }
        let id = self
            .broker
            .accept(Peer::Local, ListenerId::default(), self.now)
            .expect("there is room for so few");
        self.links.push(Link::new(id, wanted));
        if !input.once_in(8) {
            let mut bytes = Vec::new();
            packets::connect(input, wanted, &mut bytes);
            self.feed(self.links.len() - 1, &bytes);
        }
    }

    /// Returns one of the links, if there is any.
    fn choose(&self, input: &mut Input<'_>) -> Option<usize> {
        let chosen = input.byte();
        (!self.links.is_empty()).then(|| usize::from(chosen) % self.links.len())
    }

    /// Sends some packets of a client, whole or cut somewhere, perhaps with a fault.
    fn send_packets(&mut self, input: &mut Input<'_>, is_faulty: bool) {
        let Some(index) = self.choose(input) else { return };
        let version = self.links[index].wanted;
        let mut bytes = Vec::new();
        if self.links[index].sent.is_empty() {
            packets::connect(input, version, &mut bytes);
        }
        for _ in 0..=input.below(3) {
            packets::packet(input, version, &mut bytes);
        }
        if is_faulty && !bytes.is_empty() {
            let at = input.below(256) % bytes.len();
            bytes[at] ^= input.byte();
        }
        let cut = if input.once_in(4) { input.below(256) % (bytes.len() + 1) } else { bytes.len() };
        let (first, second) = bytes.split_at(cut);
        self.feed(index, first);
        if !second.is_empty() {
            self.settle();
            self.feed(index, second);
        }
    }

    fn send_raw(&mut self, input: &mut Input<'_>) {
        let Some(index) = self.choose(input) else { return };
        let count = input.below(32);
        let bytes = input.bytes(count);
        self.feed(index, bytes);
    }

    /// Hands bytes to the broker, unless it accepts none or the link has gone.
    fn feed(&mut self, index: usize, bytes: &[u8]) {
        let Some(link) = self.links.get_mut(index) else { return };
        if bytes.is_empty() || link.is_paused || link.is_closing {
            return;
        }
        link.note_greeting(bytes);
        link.is_paused = self.broker.received(link.id, bytes, self.now) == Intake::Paused;
    }

    /// Answers some of what a client has received.
    fn answer(&mut self, input: &mut Input<'_>) {
        let Some(index) = self.choose(input) else { return };
        let link = &mut self.links[index];
        let count = input.byte().max(1).into();
        let rest = link.unanswered.split_off(link.unanswered.len().min(count));
        let answered = std::mem::replace(&mut link.unanswered, rest);
        let version = link.greeting.map_or(ProtocolVersion::V311, |greeting| greeting.version);
        let mut bytes = Vec::new();
        for packet in &answered {
            let Ok(Status::Complete(cut)) = frame(packet, usize::MAX) else { unreachable!("it was whole") };
            let packet = decode(&cut, version).expect("it was decoded before");
            packets::answer(input, version, &packet, &mut bytes);
        }
        self.feed(index, &bytes);
    }

    fn close(&mut self, input: &mut Input<'_>) {
        let Some(index) = self.choose(input) else { return };
        let link = self.links.swap_remove(index);
        self.broker.closed(link.id, "closed by client", self.now);
    }

    fn throttle(&mut self, input: &mut Input<'_>) {
        let Some(index) = self.choose(input) else { return };
        let link = &mut self.links[index];
        link.allowance = input.pick(&[0, 1, 10, 1_000, usize::MAX]);
        if link.allowance > 0 && self.broker.has_output(link.id) {
            self.broker.writable(link.id);
        }
    }

    fn decide(&mut self, input: &mut Input<'_>) {
        let verdict = match input.below(4) {
            0 => Verdict::Refused(ReasonCode::NotAuthorized),
            1 => Verdict::GrantedAtMost(QoS::AtMostOnce),
            _ => Verdict::Granted,
        };
        if let Some(index) = self.choose(input) {
            self.broker.decide(self.links[index].id, verdict);
        }
    }

    /// Lets time pass, from one deadline to the next or in one jump.
    fn pass(&mut self, input: &mut Input<'_>) {
        let unit = input.pick(&[1, 100, 1_000, 60_000, 86_400_000, 1 << 40]);
        let span = Duration::from_milliseconds(unit * u64::from(input.byte()));
        let is_jump = input.once_in(4);
        self.pass_span(span, is_jump);
    }

    fn pass_span(&mut self, span: Duration, is_jump: bool) {
        let end = self.now + span;
        for _ in 0..if is_jump { 0 } else { DEADLINES_MAXIMUM } {
            let Some(deadline) = self.broker.next_deadline().filter(|&deadline| deadline <= end) else {
                break;
            };
            self.now = self.now.max(deadline);
            self.broker.tick(self.now, 1000);
            self.settle();
        }
        self.now = end;
        self.broker.tick(self.now, 1000);
        self.settle();
    }

    /// Does what a server does until nothing is left to do, and checks everything after each turn.
    fn settle(&mut self) {
        self.check();
        for _ in 0..TURNS_MAXIMUM {
            if !self.broker.has_work() {
                return;
            }
            while let Some(effect) = self.broker.next_effect() {
                self.obey(effect);
            }
            for id in self.broker.take_dirty(Vec::new()) {
                if let Some(link) = self.links.iter_mut().find(|link| link.id == id) {
                    let written = self.broker.write_to(id, &mut Throttled(link), self.now);
                    written.expect("a vector takes all");
                    link.check_output();
                }
            }
            self.broker.tick(self.now, 1000);
            self.check();
        }
        panic!("the broker does not come to rest");
    }

    fn check(&mut self) {
        self.broker.check_invariants();
        self.broker.check_memory();
    }

    fn obey(&mut self, effect: Effect) {
        let (Effect::Close(id) | Effect::Drop(id) | Effect::Resume(id) | Effect::Listen(id)) = effect;
        let Some(index) = self.links.iter().position(|link| link.id == id) else { return };
        match effect {
            Effect::Close(_) => self.links[index].is_closing = true,
            Effect::Drop(_) => {
                self.links.swap_remove(index);
                self.broker.closed(id, "", self.now);
            }
            Effect::Resume(_) => {
                self.links[index].is_paused = self.broker.resume(id, self.now) == Intake::Paused;
            }
            Effect::Listen(_) => self.broker.heard_out(id, self.now),
        }
    }

    /// Disconnects all clients. If sessions end, only retained messages that do not expire may be left.
    fn finish(&mut self, ends: bool) {
        for link in std::mem::take(&mut self.links) {
            self.broker.closed(link.id, "", self.now);
            self.settle();
        }
        if !ends {
            return;
        }
        // A retained Will may expire after the session that left it.
        for _ in 0..3 {
            self.pass_span(Duration::from_seconds(u64::from(u32::MAX)), true);
        }
        let census = self.broker.census();
        let retained = census.retained;
        let nothing = Census { connections: 0, sessions: 0, subscriptions: 0, retained, timers: 0 };
        assert_eq!(census, nothing, "everything ends");
    }
}

#[cfg(test)]
mod tests;
