//! A model client: one Client Identifier, the client's side of its Session State and at most one connection. It
//! follows the standards; what it does, and when, is decided elsewhere.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use brooklet::core::slots::ConnectionId;
use brooklet::protocol::codec::{
    Acknowledgement, Connect, Delivery, Disconnect, FilterBuffer, Packet, PacketIdentifier, Properties,
    Property, PropertyBuffer, ProtocolVersion, Publish, QoS, ReasonCode, Status, Subscribe, Subscription,
    SubscriptionBuffer, Unsubscribe, Will, decode, frame,
};
use brooklet::protocol::topic::{TopicFilter, TopicName};

/// A message to publish.
#[derive(Clone, Debug)]
pub struct Draft {
    pub topic: &'static str,
    pub payload: Vec<u8>,
    pub qos: QoS,
    pub retain: bool,
    /// The properties that are forwarded.
    pub properties: PropertyBuffer,
    pub expiry: Option<u32>,
    /// The alias to use, if it is within the server's maximum.
    pub alias: u16,
}

/// A Will to leave with the server.
#[derive(Clone, Debug)]
pub struct DraftWill {
    pub draft: Draft,
    pub delay: Option<u32>,
}

/// The contents of a CONNECT.
#[derive(Clone, Debug)]
pub struct Greeting {
    pub version: ProtocolVersion,
    pub clean_start: bool,
    pub keep_alive: u16,
    pub expiry: Option<u32>,
    pub receive_maximum: Option<u16>,
    pub maximum_packet_size: Option<u32>,
    pub alias_maximum: Option<u16>,
    pub will: Option<DraftWill>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Neither PUBACK nor PUBREC has come.
    Publish,
    /// PUBREC has come, but no PUBCOMP.
    Release,
}

#[derive(Debug)]
struct Outgoing {
    identifier: PacketIdentifier,
    draft: Draft,
    stage: Stage,
}

#[derive(Debug)]
pub struct Device {
    pub name: String,
    pub link: Option<ConnectionId>,
    pub is_connected: bool,
    pub version: ProtocolVersion,
    asked_clean: bool,
    /// Whether the Session Expiry Interval of the last CONNECT of 5.0 was zero or missing.
    pub expiry_is_zero: bool,
    outgoing: Vec<Outgoing>,
    /// QoS 2 messages received and not released.
    received: BTreeSet<u16>,
    next_identifier: u16,
    /// SUBSCRIBE and UNSUBSCRIBE packets without an answer.
    requests: BTreeSet<u16>,
    /// Acknowledgements that are not sent yet, in order.
    pub acknowledgements: VecDeque<Vec<u8>>,
    aliases: BTreeMap<u16, &'static str>,
    server_aliases: u16,
    server_window: usize,
    usual_window: usize,
    input: Vec<u8>,
}

impl Device {
    /// Creates a client that uses `usual_window` before 5.0, and before it knows the server's Receive Maximum.
    pub fn new(name: String, usual_window: u16) -> Self {
        Self {
            name,
            link: None,
            is_connected: false,
            version: ProtocolVersion::V311,
            asked_clean: false,
            expiry_is_zero: true,
            outgoing: Vec::new(),
            received: BTreeSet::new(),
            next_identifier: 0,
            requests: BTreeSet::new(),
            acknowledgements: VecDeque::new(),
            aliases: BTreeMap::new(),
            server_aliases: 0,
            server_window: 0,
            usual_window: usize::from(usual_window),
            input: Vec::new(),
        }
    }

    /// Forgets the connection and its state.
    pub fn disconnected(&mut self) {
        self.link = None;
        self.is_connected = false;
        self.requests.clear();
        self.acknowledgements.clear();
        self.aliases.clear();
        self.input.clear();
    }

    /// Starts to use a new connection; returns the CONNECT.
    pub fn connect(&mut self, link: ConnectionId, greeting: &Greeting) -> Vec<u8> {
        self.disconnected();
        self.link = Some(link);
        self.version = greeting.version;
        self.asked_clean = greeting.clean_start;
        self.expiry_is_zero = greeting.expiry.unwrap_or(0) == 0;
        let mut properties = PropertyBuffer::default();
        let given = [
            greeting.expiry.map(Property::SessionExpiryInterval),
            greeting.receive_maximum.map(Property::ReceiveMaximum),
            greeting.maximum_packet_size.map(Property::MaximumPacketSize),
            greeting.alias_maximum.map(Property::TopicAliasMaximum),
        ];
        given.into_iter().flatten().for_each(|property| properties.push(property));
        let mut will_properties = PropertyBuffer::default();
        let will = greeting.will.as_ref().map(|will| {
            will.delay
                .map(Property::WillDelayInterval)
                .into_iter()
                .for_each(|delay| will_properties.push(delay));
            will_properties.push_encoded(with_expiry(&will.draft).properties().bytes());
            Will {
                qos: will.draft.qos,
                retain: will.draft.retain,
                properties: will_properties.properties(),
                topic: TopicName::new(will.draft.topic).expect("drawn from a list of good ones"),
                payload: &will.draft.payload,
            }
        });
        let connect = Connect {
            version: greeting.version,
            is_bridge: false,
            clean_start: greeting.clean_start,
            keep_alive: greeting.keep_alive,
            properties: properties.properties(),
            client_identifier: &self.name,
            will,
            user_name: None,
            password: None,
        };
        encoded(&Packet::Connect(connect), greeting.version)
    }

    /// Publishes, if the server's window is open; returns the packet.
    pub fn publish(&mut self, draft: Draft) -> Option<Vec<u8>> {
        if draft.qos == QoS::AtMostOnce {
            return Some(self.encode_publish(&draft, Delivery::AtMostOnce, false));
        }
        if self.outgoing.len() >= self.server_window {
            return None;
        }
        let identifier = self.free_identifier();
        let bytes = self.encode_publish(&draft, delivery(draft.qos, identifier), false);
        self.outgoing.push(Outgoing { identifier, draft, stage: Stage::Publish });
        Some(bytes)
    }

    pub fn subscribe(&mut self, wanted: &[Subscription<'_>], identifier: Option<u32>) -> Vec<u8> {
        let packet_identifier = self.free_identifier();
        self.requests.insert(packet_identifier.value());
        let mut properties = PropertyBuffer::default();
        identifier.map(Property::SubscriptionIdentifier).into_iter().for_each(|given| properties.push(given));
        let mut buffer = SubscriptionBuffer::default();
        wanted.iter().for_each(|subscription| buffer.push(*subscription));
        let subscribe = Subscribe {
            packet_identifier,
            properties: properties.properties(),
            subscriptions: buffer.subscriptions().expect("at least one is wanted"),
        };
        encoded(&Packet::Subscribe(subscribe), self.version)
    }

    pub fn unsubscribe(&mut self, filters: &[String]) -> Vec<u8> {
        let packet_identifier = self.free_identifier();
        self.requests.insert(packet_identifier.value());
        let mut buffer = FilterBuffer::default();
        for filter in filters {
            buffer.push(TopicFilter::new(filter).expect("drawn from a list of good ones"));
        }
        let unsubscribe = Unsubscribe {
            packet_identifier,
            properties: Properties::default(),
            filters: buffer.filters().expect("there is one"),
        };
        encoded(&Packet::Unsubscribe(unsubscribe), self.version)
    }

    pub fn disconnect(&mut self, reason_code: ReasonCode, expiry: Option<u32>) -> Vec<u8> {
        let mut properties = PropertyBuffer::default();
        expiry.map(Property::SessionExpiryInterval).into_iter().for_each(|given| properties.push(given));
        let disconnect = Disconnect { reason_code, properties: properties.properties() };
        encoded(&Packet::Disconnect(disconnect), self.version)
    }

    pub fn ping(&self) -> Vec<u8> {
        encoded(&Packet::PingReq, self.version)
    }

    /// Takes bytes from the broker; returns the packets to send at once. Acknowledgements are queued instead.
    /// `refuses` decides whether the next message is refused with an error of 5.0.
    pub fn take(&mut self, bytes: &[u8], mut refuses: impl FnMut() -> bool) -> Vec<Vec<u8>> {
        self.input.extend_from_slice(bytes);
        let input = std::mem::take(&mut self.input);
        let mut rest = input.as_slice();
        let mut answers = Vec::new();
        while let Ok(Status::Complete(frame)) = frame(rest, usize::MAX) {
            let packet = decode(&frame, self.version).expect("the oracle has seen it before");
            rest = rest.split_at(frame.length).1;
            self.handle(&packet, &mut answers, &mut refuses);
        }
        self.input = rest.to_vec();
        answers
    }

    fn handle(
        &mut self,
        packet: &Packet<'_>,
        answers: &mut Vec<Vec<u8>>,
        refuses: &mut impl FnMut() -> bool,
    ) {
        match packet {
            Packet::ConnAck(connack) if connack.code == 0 => {
                self.is_connected = true;
                let is_v5 = self.version == ProtocolVersion::V5;
                self.server_aliases = connack.properties.topic_alias_maximum().unwrap_or(0);
                self.server_window = match connack.properties.receive_maximum() {
                    Some(window) => usize::from(window),
                    None if is_v5 => usize::from(u16::MAX),
                    None => self.usual_window,
                };
                // 3.1 does not report whether a session was resumed.
                let is_new = match self.version {
                    ProtocolVersion::V31 => self.asked_clean,
                    _ => !connack.session_present,
                };
                if is_new {
                    self.outgoing.clear();
                    self.received.clear();
                }
                self.send_again(answers);
            }
            Packet::Publish(publish) => self.handle_publish(publish.delivery, refuses),
            Packet::PubRel(pubrel) => {
                self.received.remove(&pubrel.packet_identifier.value());
                let pubcomp = Acknowledgement::new(pubrel.packet_identifier, ReasonCode::Success);
                self.acknowledgements.push_back(encoded(&Packet::PubComp(pubcomp), self.version));
            }
            Packet::PubAck(answer) | Packet::PubComp(answer) => self.forget(answer.packet_identifier),
            Packet::PubRec(answer) if answer.reason_code.is_error() => self.forget(answer.packet_identifier),
            Packet::PubRec(answer) => {
                let identifier = answer.packet_identifier;
                if let Some(known) = self.outgoing.iter_mut().find(|known| known.identifier == identifier) {
                    known.stage = Stage::Release;
                }
                let pubrel = Acknowledgement::new(identifier, ReasonCode::Success);
                answers.push(encoded(&Packet::PubRel(pubrel), self.version));
            }
            Packet::SubAck(suback) => drop(self.requests.remove(&suback.packet_identifier.value())),
            Packet::UnsubAck(unsuback) => drop(self.requests.remove(&unsuback.packet_identifier.value())),
            _ => {}
        }
    }

    fn handle_publish(&mut self, delivery: Delivery, refuses: &mut impl FnMut() -> bool) {
        let is_refused = self.version == ProtocolVersion::V5 && refuses();
        let reason = if is_refused { ReasonCode::ImplementationSpecificError } else { ReasonCode::Success };
        let answer = match delivery {
            Delivery::AtMostOnce => return,
            Delivery::AtLeastOnce(identifier) => Packet::PubAck(Acknowledgement::new(identifier, reason)),
            // A message that was accepted before cannot be refused.
            Delivery::ExactlyOnce(identifier) if self.received.contains(&identifier.value()) => {
                Packet::PubRec(Acknowledgement::new(identifier, ReasonCode::Success))
            }
            Delivery::ExactlyOnce(identifier) => {
                if !is_refused {
                    self.received.insert(identifier.value());
                }
                Packet::PubRec(Acknowledgement::new(identifier, reason))
            }
        };
        self.acknowledgements.push_back(encoded(&answer, self.version));
    }

    /// Sends everything unacknowledged again, in order, after a session was resumed [MQTT-4.4.0-1].
    fn send_again(&mut self, answers: &mut Vec<Vec<u8>>) {
        for index in 0..self.outgoing.len() {
            let Outgoing { identifier, stage, .. } = self.outgoing[index];
            answers.push(match stage {
                Stage::Publish => {
                    // The payload shows the number of the attempt, so that the oracle can tell attempts apart.
                    if let Some(attempt) = self.outgoing[index].draft.payload.first_mut() {
                        *attempt += 1;
                    }
                    let draft = self.outgoing[index].draft.clone();
                    self.encode_publish(&draft, delivery(draft.qos, identifier), true)
                }
                Stage::Release => {
                    let pubrel = Acknowledgement::new(identifier, ReasonCode::Success);
                    encoded(&Packet::PubRel(pubrel), self.version)
                }
            });
        }
    }

    fn forget(&mut self, identifier: PacketIdentifier) {
        self.outgoing.retain(|known| known.identifier != identifier);
    }

    fn encode_publish(&mut self, draft: &Draft, delivery: Delivery, dup: bool) -> Vec<u8> {
        let mut properties = PropertyBuffer::default();
        let mut topic = Some(TopicName::new(draft.topic).expect("drawn from a list of good ones"));
        if self.version == ProtocolVersion::V5 {
            properties = with_expiry(draft);
            if draft.alias > 0 && draft.alias <= self.server_aliases {
                properties.push(Property::TopicAlias(draft.alias));
                if self.aliases.insert(draft.alias, draft.topic) == Some(draft.topic) {
                    topic = None;
                }
            }
        }
        let publish = Publish {
            dup,
            retain: draft.retain,
            delivery,
            topic,
            properties: properties.properties(),
            payload: &draft.payload,
        };
        encoded(&Packet::Publish(publish), self.version)
    }

    fn free_identifier(&mut self) -> PacketIdentifier {
        loop {
            self.next_identifier = self.next_identifier % 200 + 1;
            let identifier = PacketIdentifier::new(self.next_identifier).expect("it is one or more");
            let is_used = self.requests.contains(&self.next_identifier)
                || self.outgoing.iter().any(|known| known.identifier == identifier);
            if !is_used {
                return identifier;
            }
        }
    }
}

fn with_expiry(draft: &Draft) -> PropertyBuffer {
    let mut properties = draft.properties.clone();
    draft.expiry.map(Property::MessageExpiryInterval).into_iter().for_each(|expiry| properties.push(expiry));
    properties
}

const fn delivery(qos: QoS, identifier: PacketIdentifier) -> Delivery {
    match qos {
        QoS::AtMostOnce => Delivery::AtMostOnce,
        QoS::AtLeastOnce => Delivery::AtLeastOnce(identifier),
        QoS::ExactlyOnce => Delivery::ExactlyOnce(identifier),
    }
}

fn encoded(packet: &Packet<'_>, version: ProtocolVersion) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.encode(version, &mut bytes);
    bytes
}
