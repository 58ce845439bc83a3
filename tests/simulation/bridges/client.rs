//! Clients of the two brokers: publishers, whose sessions end with their connections, and a subscriber of everything,
//! which stays until the end and acknowledges at once.

use std::collections::{BTreeMap, BTreeSet};

use brooklet::core::slots::ConnectionId;
use brooklet::protocol::codec::{
    Acknowledgement, AcknowledgementKind, Connect, Delivery, Packet, PacketIdentifier, Properties, Property,
    PropertyBuffer, ProtocolVersion, Publish, QoS, RetainHandling, Side, Status, Subscribe, Subscription,
    SubscriptionBuffer, frame,
};
use brooklet::protocol::topic::{TopicFilter, TopicName};

/// What a client has learned.
#[derive(Debug)]
pub enum Heard {
    /// The broker has taken on the message with this number.
    Acknowledged(u64),
    /// A message has come, for the first time on this delivery if it has QoS 2.
    Copy { topic: String, payload: Vec<u8> },
}

#[derive(Debug)]
pub struct Client {
    pub name: String,
    /// The broker that it uses.
    pub node: usize,
    pub wire: Option<ConnectionId>,
    is_subscriber: bool,
    version: ProtocolVersion,
    /// Whether CONNACK has come.
    pub is_accepted: bool,
    input: Vec<u8>,
    /// The messages that it has published and that are not complete, by Packet Identifier.
    open: BTreeMap<u16, u64>,
    next_identifier: u16,
    /// The Packet Identifiers of QoS 2 messages that were received and not released.
    received: BTreeSet<u16>,
}

impl Client {
    pub fn new(name: String, node: usize, is_subscriber: bool, version: ProtocolVersion) -> Self {
        Self {
            name,
            node,
            wire: None,
            is_subscriber,
            version,
            is_accepted: false,
            input: Vec::new(),
            open: BTreeMap::new(),
            next_identifier: 0,
            received: BTreeSet::new(),
        }
    }

    /// The number of messages that it has published and that are not complete.
    pub fn in_flight(&self) -> usize {
        self.open.len()
    }

    pub fn disconnected(&mut self) {
        self.wire = None;
        self.is_accepted = false;
        self.input.clear();
        self.open.clear();
    }

    /// The first packets on a new connection.
    pub fn connect(&mut self, wire: ConnectionId) -> Vec<u8> {
        self.disconnected();
        self.wire = Some(wire);
        let mut properties = PropertyBuffer::default();
        if self.is_subscriber {
            properties.push(Property::SessionExpiryInterval(u32::MAX));
        }
        let connect = Connect {
            version: self.version,
            is_bridge: false,
            clean_start: !self.is_subscriber,
            keep_alive: 0,
            properties: properties.properties(),
            client_identifier: &self.name,
            will: None,
            user_name: None,
            password: None,
        };
        let mut bytes = Vec::new();
        Packet::Connect(connect).encode(self.version, &mut bytes);
        bytes
    }

    /// The SUBSCRIBE for everything.
    fn subscribe(&self) -> Vec<u8> {
        let mut buffer = SubscriptionBuffer::default();
        let filter = TopicFilter::new("#").expect("it is valid");
        buffer.push(Subscription {
            retain_as_published: true,
            retain_handling: RetainHandling::SendIfNew,
            ..Subscription::new(filter, QoS::ExactlyOnce)
        });
        self.encoded(&Packet::Subscribe(Subscribe {
            packet_identifier: PacketIdentifier::FIRST,
            properties: Properties::default(),
            subscriptions: buffer.subscriptions().expect("there is one"),
        }))
    }

    fn encoded(&self, packet: &Packet<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        packet.encode(self.version, &mut bytes);
        bytes
    }

    /// Publishes the message with this number.
    pub fn publish(&mut self, number: u64, topic: &str, payload: &[u8], qos: QoS, retain: bool) -> Vec<u8> {
        self.next_identifier = self.next_identifier % 1_000 + 1;
        let identifier = PacketIdentifier::new(self.next_identifier).expect("it is not zero");
        let delivery = match qos {
            QoS::AtMostOnce => Delivery::AtMostOnce,
            QoS::AtLeastOnce => Delivery::AtLeastOnce(identifier),
            QoS::ExactlyOnce => Delivery::ExactlyOnce(identifier),
        };
        if qos != QoS::AtMostOnce {
            self.open.insert(identifier.value(), number);
        }
        let topic = Some(TopicName::new(topic).expect("it is valid"));
        let properties = Properties::default();
        self.encoded(&Packet::Publish(Publish { dup: false, retain, delivery, topic, properties, payload }))
    }

    /// Takes bytes of the broker. Returns what was learned, and the answers.
    pub fn take(&mut self, bytes: &[u8]) -> (Vec<Heard>, Vec<u8>) {
        let (mut heard, mut answers) = (Vec::new(), Vec::new());
        let mut input = std::mem::take(&mut self.input);
        input.extend_from_slice(bytes);
        let mut processed = 0;
        while let Status::Complete(frame) =
            frame(&input[processed..], usize::MAX).expect("the broker sends valid packets")
        {
            processed += frame.length;
            let packet = Side::Client.decode(&frame, self.version).expect("the broker sends valid packets");
            self.take_packet(&packet, &mut heard, &mut answers);
        }
        input.drain(..processed);
        self.input = input;
        (heard, answers)
    }

    fn take_packet(&mut self, packet: &Packet<'_>, heard: &mut Vec<Heard>, answers: &mut Vec<u8>) {
        let mut answer = |kind: AcknowledgementKind, identifier| {
            answers.extend_from_slice(&kind.plain(identifier));
        };
        match packet {
            Packet::ConnAck(connack) => {
                assert_eq!(connack.code, 0, "{} was refused", self.name);
                self.is_accepted = true;
                if self.is_subscriber && !connack.session_present {
                    answers.extend(self.subscribe());
                }
            }
            Packet::SubAck(suback) => assert!(suback.codes.iter().all(|code| *code <= 2)),
            Packet::Publish(publish) => {
                let is_new = match publish.delivery {
                    Delivery::AtMostOnce => true,
                    Delivery::AtLeastOnce(identifier) => {
                        answer(AcknowledgementKind::PubAck, identifier);
                        true
                    }
                    Delivery::ExactlyOnce(identifier) => {
                        answer(AcknowledgementKind::PubRec, identifier);
                        self.received.insert(identifier.value())
                    }
                };
                if is_new {
                    let topic = publish.topic.expect("no alias was allowed").as_str().to_owned();
                    heard.push(Heard::Copy { topic, payload: publish.payload.to_vec() });
                }
            }
            Packet::PubRel(Acknowledgement { packet_identifier, .. }) => {
                self.received.remove(&packet_identifier.value());
                answer(AcknowledgementKind::PubComp, *packet_identifier);
            }
            Packet::PubAck(acknowledgement) | Packet::PubRec(acknowledgement) => {
                assert!(!acknowledgement.reason_code.is_error(), "{}: {packet:?}", self.name);
                let identifier = acknowledgement.packet_identifier;
                heard.push(Heard::Acknowledged(self.open[&identifier.value()]));
                if matches!(packet, Packet::PubRec(_)) {
                    answer(AcknowledgementKind::PubRel, identifier);
                } else {
                    self.open.remove(&identifier.value());
                }
            }
            Packet::PubComp(acknowledgement) => {
                self.open.remove(&acknowledgement.packet_identifier.value());
            }
            packet => panic!("{} did not expect {packet:?}", self.name),
        }
    }
}
