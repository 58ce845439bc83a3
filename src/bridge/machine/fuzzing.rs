//! The body of the fuzz target for bridges. The other broker sends any bytes and any packets in any pieces, the time
//! passes in any steps, and this broker answers as it should. It panics if the bridge sends a packet that is not valid,
//! keeps more bytes than it may, asks for something that makes no sense, or does not end.

use super::buffers::OUTPUT_MAXIMUM;
use super::*;
use crate::base::fuzzing::Input;
use crate::base::time::Duration;
use crate::protocol::codec::{
    Acknowledgement, AcknowledgementKind, ConnAck, Delivery, Packet, PacketIdentifier, Properties, Property,
    PropertyBuffer, ProtocolVersion, Publish, QoS, ReasonCode, Side, Status as Cut, SubAck, UnsubAck, frame,
};
use crate::protocol::topic::TopicName;
use crate::settings::{
    BridgeQueue, BridgeTopic, Direction, Local as LocalSettings, Notifications, Remote as RemoteSettings,
    RemoteAddress, Restart,
};

/// The largest packet in bytes that this broker accepts.
const PACKET_SIZE: usize = 2_000;
/// The most bytes of an output: what may be there before nothing more is added, a packet, and packets of the bridge
/// itself.
const OUTPUT_BOUND: usize = 2 * OUTPUT_MAXIMUM + PACKET_SIZE + 1_000;

/// The bytes select the settings, and then what happens.
pub fn operate(data: &[u8]) {
    run(data);
}

/// Returns the numbers of messages that were forwarded to the other broker and from it.
fn run(data: &[u8]) -> [u64; 2] {
    let mut input = Input::new(data);
    let mut world = World::new(&mut input);
    while !input.is_empty() {
        world.step(&mut input);
        world.check();
    }
    world.end();
    let status = world.machine.status();
    [status.forwarded, status.received]
}

/// What the caller of the bridge has been asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    None,
    Dialling,
    Open,
}

struct World {
    machine: Machine,
    now: Time,
    call: Call,
    is_probing: bool,
    is_local_open: bool,
    /// Bytes from the bridge that are not a whole packet yet.
    to_remote: Vec<u8>,
    has_connected: bool,
}

fn settings(input: &mut Input<'_>) -> Bridge {
    const TEXTS: [&str; 4] = ["", "a/", "b/", "a/b/"];
    let topics = (0..input.below(4)).map(|_| BridgeTopic {
        pattern: input.pick(&["#", "a", "+/b", "b/#"]).into(),
        direction: input.pick(&[Direction::Out, Direction::In, Direction::Both]),
        qos: input.pick(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]),
        local_prefix: input.pick(&TEXTS).into(),
        remote_prefix: input.pick(&TEXTS).into(),
    });
    let topics = topics.collect();
    let address = |host: &str| RemoteAddress { host: host.to_owned(), port: 1883 };
    let start = match input.below(4) {
        2 => Start::Lazy { threshold: 1 + input.below(4), idle: Duration::from_seconds(10) },
        3 => Start::Once,
        _ => Start::Automatic,
    };
    let unset = Bridge::unset("fuzz", String::new());
    Bridge {
        addresses: ["one", "two"][..1 + input.below(2)].iter().copied().map(address).collect(),
        is_round_robin: input.once_in(2),
        topics,
        remote: remote(unset.remote, input),
        local: LocalSettings {
            client_identifier: "local.fuzz".into(),
            is_clean: input.once_in(2),
            ..unset.local
        },
        notifications: (!input.once_in(4))
            .then(|| Notifications { topic: "state".into(), is_local_only: false }),
        start,
        restart: Restart {
            least: Duration::from_seconds(1),
            most: Duration::from_seconds(9),
            stable: Duration::ZERO,
        },
        reload: input.pick(&[Reload::Lazy, Reload::Immediate]),
        queue: BridgeQueue { rate: input.pick(&[None, None, Some(5)]), ..unset.queue },
        ..unset
    }
}

fn remote(unset: RemoteSettings, input: &mut Input<'_>) -> RemoteSettings {
    RemoteSettings {
        client_identifier: "fuzz".into(),
        password: Some("p".into()),
        version: input.pick(&[ProtocolVersion::V311, ProtocolVersion::V5, ProtocolVersion::V31]),
        tries_private: input.once_in(2),
        is_clean: input.once_in(2),
        session_expiry: 5,
        keep_alive: input.pick(&[60, 0, 5]),
        receive_maximum: 10,
        topic_alias_maximum: 3,
        forwards_retain: input.once_in(2),
        unsubscribes: input.once_in(2),
        ..unset
    }
}

impl World {
    fn new(input: &mut Input<'_>) -> Self {
        let now = Time::from_milliseconds(1000);
        let machine = Machine::new(Rc::new(settings(input)), PACKET_SIZE, 1, now);
        let mut world = Self {
            machine,
            now,
            call: Call::None,
            is_probing: false,
            is_local_open: false,
            to_remote: Vec::new(),
            has_connected: false,
        };
        world.check();
        world
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.below(16) {
            0..=3 => self.cooperate(input),
            4 => self.fail(input.below(8)),
            5 => self.pass(Duration::from_milliseconds(input.number() % 100_000)),
            6 => self.pass_to_deadline(),
            7 => {
                let count = input.below(256) * 16;
                self.take_remote_output(count, &mut Vec::new());
            }
            8 if input.once_in(4) => self.machine.reconfigure(Rc::new(settings(input)), self.now),
            8 => self.machine.queued(input.below(6), self.now),
            9 if self.is_probing => {
                self.is_probing = false;
                self.machine.probed(input.once_in(2), self.now);
            }
            10 if input.once_in(4) => {
                let length = input.below(64);
                self.remote_sends(input.bytes(length));
            }
            11 | 12 => self.this_broker_publishes(input),
            13 if input.once_in(4) => {
                let packet = self.packet(input);
                let cut = packet.len().min(input.below(256));
                self.remote_sends(&packet[..cut]);
                self.remote_sends(&packet[cut..]);
            }
            _ => {
                let topic = topic(input);
                let Ok(topic) = TopicName::new(&topic) else { return };
                let bytes = publish(input, topic, self.machine.remote.variant.version);
                self.remote_sends(&bytes);
            }
        }
    }

    /// The other broker does what it should.
    fn cooperate(&mut self, input: &mut Input<'_>) {
        if self.call == Call::Dialling {
            (self.call, self.has_connected) = (Call::Open, false);
            self.to_remote.clear();
            self.machine.connected(self.now);
        }
        let mut answers = Vec::new();
        self.take_remote_output(usize::MAX, &mut answers);
        if answers.starts_with(&[0x20]) && input.once_in(4) {
            answers = self.packet(input);
        }
        self.remote_sends(&answers);
    }

    /// Something fails.
    fn fail(&mut self, what: usize) {
        match what {
            0 if self.call == Call::Dialling => {
                self.call = Call::None;
                self.machine.dial_failed("refused", self.now);
            }
            1 if self.call == Call::Open => {
                self.call = Call::None;
                self.machine.remote_closed("closed", self.now);
            }
            2 if self.is_local_open => {
                self.is_local_open = false;
                self.machine.local_closed("closed", self.now);
            }
            _ => {}
        }
    }

    fn remote_sends(&mut self, bytes: &[u8]) {
        if self.call == Call::Open {
            self.machine.remote_received(bytes, self.now);
        }
    }

    fn this_broker_publishes(&mut self, input: &mut Input<'_>) {
        let topic = topic(input);
        let Ok(topic) = TopicName::new(&topic) else { return };
        let bytes = publish(input, topic, ProtocolVersion::V5);
        if self.is_local_open && self.machine.takes_local() && self.machine.local.state == LocalState::Running
        {
            self.local_received(&bytes);
        }
    }

    /// Any packet of a server.
    fn packet(&self, input: &mut Input<'_>) -> Vec<u8> {
        let version = self.machine.remote.variant.version;
        let low = PacketIdentifier::new(u16::from(input.byte()) + 1).expect("it is not zero");
        let high = PacketIdentifier::new(u16::MAX - u16::from(input.byte())).expect("it is not zero");
        let plain = Acknowledgement::new(low, ReasonCode::Success);
        let properties = Properties::default();
        let mut limits = PropertyBuffer::default();
        let codes = [input.pick(&[0, 1, 2, 0x80])];
        let packet = match input.below(12) {
            0..=2 => {
                if input.once_in(2) {
                    limits.push(Property::MaximumQoS(input.pick(&[QoS::AtMostOnce, QoS::AtLeastOnce])));
                    limits.push(Property::ReceiveMaximum(3));
                    limits.push(Property::MaximumPacketSize(100));
                }
                let code = if input.once_in(8) { input.pick(&[1, 4, 0x84, 0x9A, 0x9C]) } else { 0 };
                let session_present = code == 0 && input.once_in(2);
                Packet::ConnAck(ConnAck { session_present, code, properties: limits.properties() })
            }
            3 | 4 => Packet::SubAck(SubAck { packet_identifier: high, properties, codes: &codes }),
            5 => Packet::UnsubAck(UnsubAck { packet_identifier: high, properties, codes: &[0] }),
            6 => Packet::PubAck(Acknowledgement::new(high, ReasonCode::Success)),
            7 => {
                let kind = input.pick(&[
                    AcknowledgementKind::PubAck,
                    AcknowledgementKind::PubRec,
                    AcknowledgementKind::PubRel,
                    AcknowledgementKind::PubComp,
                ]);
                kind.packet(plain)
            }
            8 => Packet::PingResp,
            _ => {
                let topic = topic(input);
                let Ok(topic) = TopicName::new(&topic) else { return Vec::new() };
                return publish(input, topic, version);
            }
        };
        let mut bytes = Vec::new();
        packet.encode(version, &mut bytes);
        bytes
    }

    fn pass(&mut self, duration: Duration) {
        self.now = self.now + duration;
        self.machine.tick(self.now);
    }

    fn pass_to_deadline(&mut self) {
        if let Some(deadline) = self.machine.next_deadline() {
            self.now = self.now.max(deadline);
            self.machine.tick(self.now);
        }
    }

    /// Takes at most so many bytes for the other broker, which must be valid packets, and appends its answers.
    fn take_remote_output(&mut self, most: usize, answers: &mut Vec<u8>) {
        let output = self.machine.remote_output();
        let count = output.len().min(most);
        self.to_remote.extend_from_slice(&output[..count]);
        self.machine.remote_sent(count, self.now);
        let version = self.machine.remote.variant.version;
        while let Ok(Cut::Complete(cut)) = frame(&self.to_remote, usize::MAX) {
            let packet = Side::Server.decode(&cut, version).expect("the bridge sends valid packets");
            assert_eq!(
                matches!(packet, Packet::Connect(_)),
                !self.has_connected,
                "CONNECT is the first packet"
            );
            self.has_connected = true;
            answer(&packet, version, answers);
            let length = cut.length;
            self.to_remote.drain(..length);
        }
    }

    /// Does what the bridge asks for, and checks what it keeps.
    fn check(&mut self) {
        loop {
            while let Some(action) = self.machine.next_action() {
                self.act(action);
            }
            while self.machine.next_line().is_some() {}
            let (here, there) = (self.machine.local_output().len(), self.machine.remote_output().len());
            assert!(here <= OUTPUT_BOUND && there <= OUTPUT_BOUND, "{here} {there}");
            if !self.is_local_open || !self.answer() {
                break;
            }
        }
        self.machine.tick(self.now);
        let deadline = self.machine.next_deadline();
        assert!(deadline.is_none_or(|deadline| deadline > self.now), "it wants to be called all the time");
        while let Some(action) = self.machine.next_action() {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::OpenLocal => assert!(!std::mem::replace(&mut self.is_local_open, true), "it was open"),
            Action::CloseLocal => assert!(std::mem::replace(&mut self.is_local_open, false), "it was closed"),
            Action::Dial(address) => {
                assert!(address < 2 && self.call == Call::None, "{:?}", self.call);
                self.call = Call::Dialling;
            }
            Action::Probe(address) => {
                assert!(address == 0 && self.call == Call::Open);
                self.is_probing = true;
            }
            Action::HangUp => {
                assert_ne!(self.call, Call::None, "there is nothing to hang up");
                self.call = Call::None;
            }
            Action::ForgetReceived | Action::CatchUp => {}
        }
    }

    /// This broker takes the output of the bridge, and answers. Returns whether there was any.
    fn answer(&mut self) -> bool {
        let output = self.machine.local_output().to_vec();
        self.machine.local_sent(output.len(), self.now);
        let (mut rest, mut answers) = (&output[..], Vec::new());
        while let Ok(Cut::Complete(cut)) = frame(rest, PACKET_SIZE) {
            let packet =
                Side::Server.decode(&cut, ProtocolVersion::V5).expect("the bridge sends valid packets");
            answer(&packet, ProtocolVersion::V5, &mut answers);
            rest = &rest[cut.length..];
        }
        assert!(rest.is_empty(), "the bridge sends whole packets that are not too large");
        if !answers.is_empty() {
            self.local_received(&answers);
        }
        !output.is_empty()
    }

    fn local_received(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let taken = self.machine.local_received(bytes, self.now);
            assert!(taken > 0, "it is not asked in vain");
            bytes = &bytes[taken..];
        }
    }

    /// The bridge ends, whatever its state is.
    fn end(&mut self) {
        self.machine.shut_down(self.now);
        // Neither side can keep it from ending.
        self.local_received(&[0xFF; 9]);
        self.machine.remote_received(&[0xFF; 9], self.now);
        self.check();
        for _ in 0..3 {
            self.take_remote_output(usize::MAX, &mut Vec::new());
            self.pass(Duration::from_seconds(6));
            self.check();
        }
        assert!(self.machine.is_over(), "{:?}", self.machine);
        assert!(self.call == Call::None && !self.is_local_open);
        self.machine.queued(100, self.now);
        self.pass(Duration::from_seconds(1000));
        assert_eq!(self.machine.next_action(), None);
    }
}

/// Appends what a broker answers to a packet.
fn answer(packet: &Packet<'_>, version: ProtocolVersion, answers: &mut Vec<u8>) {
    let properties = Properties::default();
    let acknowledged = match *packet {
        Packet::Connect(connect) => {
            let session_present = !connect.clean_start;
            Packet::ConnAck(ConnAck { session_present, code: 0, properties })
        }
        Packet::Subscribe(subscribe) => {
            let codes: Vec<u8> = subscribe.subscriptions.iter().map(|one| one.qos.level()).collect();
            let packet_identifier = subscribe.packet_identifier;
            let suback = Packet::SubAck(SubAck { packet_identifier, properties, codes: &codes });
            return suback.encode(version, answers);
        }
        Packet::Unsubscribe(unsubscribe) => {
            let packet_identifier = unsubscribe.packet_identifier;
            Packet::UnsubAck(UnsubAck { packet_identifier, properties, codes: &[0] })
        }
        Packet::PingReq => Packet::PingResp,
        Packet::Publish(publish) => match publish.delivery {
            Delivery::AtMostOnce => return,
            Delivery::AtLeastOnce(identifier) => {
                Packet::PubAck(Acknowledgement::new(identifier, ReasonCode::Success))
            }
            Delivery::ExactlyOnce(identifier) => {
                Packet::PubRec(Acknowledgement::new(identifier, ReasonCode::Success))
            }
        },
        Packet::PubRec(answer) if !answer.reason_code.is_error() => Packet::PubRel(answer),
        Packet::PubRel(answer) => Packet::PubComp(answer),
        _ => return,
    };
    acknowledged.encode(version, answers);
}

/// A topic that a rule often matches.
fn topic(input: &mut Input<'_>) -> String {
    match input.once_in(4) {
        true => input.topic(),
        false => input.pick(&["a", "b/a", "a/b", "a/b/b", "a/b/a", "b/a/b"]).to_owned(),
    }
}

fn publish(input: &mut Input<'_>, topic: TopicName<'_>, version: ProtocolVersion) -> Vec<u8> {
    let identifier = PacketIdentifier::new(u16::from(input.byte()) + 1).expect("it is not zero");
    let delivery = match input.below(3) {
        0 => Delivery::AtMostOnce,
        1 => Delivery::AtLeastOnce(identifier),
        _ => Delivery::ExactlyOnce(identifier),
    };
    let mut properties = PropertyBuffer::default();
    if input.once_in(4) && version == ProtocolVersion::V5 {
        properties.push(Property::ResponseTopic(topic));
        properties.push(Property::UserProperty("k", "v"));
    }
    let payload = vec![b'x'; input.below(256) * 9];
    let dup = delivery != Delivery::AtMostOnce && input.once_in(4);
    let retain = input.once_in(4);
    let properties = properties.properties();
    let mut bytes = Vec::new();
    Publish { dup, retain, delivery, topic: Some(topic), properties, payload: &payload }
        .encode(version, &mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    #[test]
    fn a_bridge_withstands_any_broker() {
        let counts = [const { Cell::new(0) }; 2];
        crate::base::fuzzing::try_out("bridge", 3_000, |data| {
            for (count, more) in counts.iter().zip(super::run(data)) {
                count.set(count.get() + more);
            }
        });
        assert!(counts.iter().all(|count| count.get() > 300), "the inputs connect bridges: {counts:?}");
    }
}
