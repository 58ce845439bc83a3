//! Messages on their way through a bridge: renamed, lowered to what the receiver accepts, and encoded once. A message
//! that cannot be forwarded is acknowledged in place of its receiver, so that it does not come again.

use super::Machine;
use super::connect::LOCAL_VERSION;
use super::loops::{Hop, Journey, OwnHop};
use crate::base::time::Time;
use crate::bridge::topics::{Topics, Way};
use crate::protocol::codec::{
    Acknowledgement, AcknowledgementKind, Delivery, Frame, PacketIdentifier, PlainPublish, Properties,
    Property, PropertyBuffer, ProtocolVersion, Publish, QoS, ReasonCode, unchecked_publish,
};
use crate::protocol::topic::TopicName;

/// Buffers that are used again for each message.
#[derive(Debug, Default)]
pub struct Scratch {
    topic: String,
    response_topic: String,
    properties: PropertyBuffer,
}

/// The topic of the last outgoing message and its name on the other side. Messages often come in series, and those without
/// properties then need not be checked and renamed again.
#[derive(Debug, Default)]
pub struct LastTopic {
    /// Empty if there was none.
    topic: String,
    renamed: String,
}

impl LastTopic {
    /// The rules change, or the way in which messages are forwarded.
    pub fn forget(&mut self) {
        self.topic.clear();
    }

    fn remember(&mut self, topic: &str, renamed: &str) {
        self.topic.clear();
        self.topic.push_str(topic);
        self.renamed.clear();
        self.renamed.push_str(renamed);
    }
}

/// Why a message is not forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// No rule forwards its topic. It comes from a subscription of an earlier configuration.
    NoRule,
    /// Its name on the other side is not a valid Topic Name.
    Topic,
    /// It is larger than the receiver accepts.
    Size,
    /// It has come over this bridge before.
    Loop,
    /// It has come over too many bridges.
    Hops,
    /// The bridge has just forwarded it itself.
    Echo,
}

/// Messages whose QoS was lowered, so their acknowledgements have to be translated.
#[derive(Debug, Default)]
pub struct Lowered {
    /// QoS 2 messages that were sent with QoS 1. At most 65,535.
    to_at_least_once: Vec<PacketIdentifier>,
}

impl Lowered {
    /// Forgets everything, since the connection has ended.
    pub fn clear(&mut self) {
        self.to_at_least_once.clear();
    }

    /// Whether there is one.
    pub fn is_any(&self) -> bool {
        !self.to_at_least_once.is_empty()
    }

    /// The acknowledgement for this broker of a PUBACK of the other one.
    #[inline]
    pub fn acknowledgement_of(&mut self, identifier: PacketIdentifier) -> AcknowledgementKind {
        let Some(index) = self.to_at_least_once.iter().position(|&lowered| lowered == identifier) else {
            return AcknowledgementKind::PubAck;
        };
        self.to_at_least_once.swap_remove(index);
        AcknowledgementKind::PubRec
    }
}

impl Scratch {
    /// Writes the topic and the properties with which a message is forwarded.
    #[inline]
    fn rename(
        &mut self,
        topics: &Topics,
        way: Way,
        topic: &str,
        properties: Properties<'_>,
        hop: Option<&OwnHop>,
    ) -> Result<(TopicName<'_>, Properties<'_>), Obstacle> {
        if !topics.rename(way, topic, &mut self.topic) {
            return Err(Obstacle::NoRule);
        }
        self.properties.clear();
        if !properties.is_empty() {
            self.copy_properties(topics, way, properties, hop)?;
        }
        if let Some(hop) = hop {
            self.properties.push_encoded(hop.encoded());
        }
        let topic = TopicName::new(&self.topic).map_err(|_| Obstacle::Topic)?;
        Ok((topic, self.properties.properties()))
    }

    /// Copies the properties that belong to the message, and not to the connection on which it has come.
    fn copy_properties(
        &mut self,
        topics: &Topics,
        way: Way,
        properties: Properties<'_>,
        hop: Option<&OwnHop>,
    ) -> Result<(), Obstacle> {
        let mut journey = Journey::default();
        for (property, bytes) in properties.encoded() {
            if let (Property::UserProperty(name, value), Some(hop)) = (property, hop) {
                match hop.pass(&mut journey, name, value) {
                    Hop::New => {}
                    Hop::Seen => return Err(Obstacle::Loop),
                    Hop::TooMany => return Err(Obstacle::Hops),
                }
            }
            match property {
                Property::TopicAlias(_) | Property::SubscriptionIdentifier(_) => {}
                Property::ResponseTopic(topic) => {
                    let is_renamed = topics.rename_response(way, topic.as_str(), &mut self.response_topic);
                    let renamed = TopicName::new(&self.response_topic).ok().filter(|_| is_renamed);
                    self.properties.push(Property::ResponseTopic(renamed.unwrap_or(topic)));
                }
                _ => self.properties.push_encoded(bytes),
            }
        }
        Ok(())
    }
}

/// How an outgoing message is delivered to a broker that accepts no higher QoS than this.
#[inline]
const fn lowered(delivery: Delivery, most: QoS) -> Delivery {
    match (delivery, most) {
        (_, QoS::AtMostOnce) => Delivery::AtMostOnce,
        (Delivery::ExactlyOnce(identifier), QoS::AtLeastOnce) => Delivery::AtLeastOnce(identifier),
        _ => delivery,
    }
}

impl Machine {
    /// Forwards a message of this broker to the other one.
    #[inline]
    pub(super) fn forward_out(&mut self, publish: &Publish<'_>, now: Time) {
        let Some(topic) = publish.topic else { return self.refuse(publish, Way::Out, Obstacle::Topic) };
        match self.encode_out(publish, topic.as_str(), now) {
            Ok(delivery) => {
                self.sent_out(topic.as_str().as_bytes(), publish.payload, delivery, now);
                if delivery == Delivery::AtMostOnce {
                    self.acknowledge_here(publish.delivery);
                }
                if let (Delivery::AtLeastOnce(identifier), Delivery::ExactlyOnce(_)) =
                    (delivery, publish.delivery)
                {
                    self.remote.lowered.to_at_least_once.push(identifier);
                }
            }
            Err(obstacle) => self.refuse(publish, Way::Out, obstacle),
        }
    }

    /// Forwards a message of this broker like the last one, if it is a plain one on the same topic. Returns whether it
    /// did; all others are left to [`Machine::forward_out`].
    #[inline]
    pub(super) fn forward_again(&mut self, frame: &Frame<'_>, now: Time) -> bool {
        let Ok(Some(unchecked)) = unchecked_publish(frame, LOCAL_VERSION) else { return false };
        if self.last_topic.topic.is_empty() || unchecked.topic != self.last_topic.topic.as_bytes() {
            return false;
        }
        let Some(PlainPublish { delivery, payload, .. }) = unchecked.plain(LOCAL_VERSION) else {
            return false;
        };
        let version = self.remote.variant.version;
        let properties = match version {
            ProtocolVersion::V5 => self.hop.properties(),
            ProtocolVersion::V31 | ProtocolVersion::V311 => Properties::default(),
        };
        let topic = Some(TopicName::trusted(&self.last_topic.renamed));
        let renamed = Publish { dup: false, retain: false, delivery, topic, properties, payload };
        if delivery.qos() > self.remote.qos
            || renamed.encoded_length(version) > self.remote.limits.packet_size
        {
            return false;
        }
        self.remote.output.write(|into| renamed.encode(version, into));
        self.sent_out(unchecked.topic, payload, delivery, now);
        true
    }

    /// A message of this broker was appended to the output.
    #[inline]
    fn sent_out(&mut self, topic: &[u8], payload: &[u8], delivery: Delivery, now: Time) {
        self.report.forwarded += 1;
        self.pace.sends();
        if delivery != Delivery::AtMostOnce {
            self.remote.pulse.owes(now);
        }
        self.took(topic, payload, now);
    }

    /// Appends an outgoing message to the output. Returns how it is delivered.
    #[inline]
    fn encode_out(&mut self, publish: &Publish<'_>, topic: &str, now: Time) -> Result<Delivery, Obstacle> {
        let (version, limits) = (self.remote.variant.version, self.remote.limits);
        let is_5 = version == ProtocolVersion::V5;
        let properties = if is_5 { publish.properties } else { Properties::default() };
        let hop = is_5.then_some(&self.hop);
        let (renamed_topic, properties) =
            self.scratch.rename(&self.topics, Way::Out, topic, properties, hop)?;
        let delivery = lowered(publish.delivery, self.remote.qos);
        let renamed = Publish {
            dup: publish.dup && delivery != Delivery::AtMostOnce,
            retain: publish.retain && limits.retains && self.settings.remote.forwards_retain,
            delivery,
            topic: Some(renamed_topic),
            properties,
            payload: publish.payload,
        };
        if renamed.encoded_length(version) > limits.packet_size {
            return Err(Obstacle::Size);
        }
        self.remote.output.write(|into| renamed.encode(version, into));
        if !self.remote.variant.may_echo() {
            self.last_topic.remember(topic, renamed_topic.as_str());
        } else if self.topics.is_wanted_there(renamed_topic) {
            self.echoes.expect(renamed_topic.as_str(), publish.payload, now);
        }
        Ok(delivery)
    }

    /// Forwards a message of the other broker to this one. `topic` is its name there.
    pub(super) fn forward_in(&mut self, publish: &Publish<'_>, topic: &str, now: Time) {
        if self.remote.variant.may_echo() && self.echoes.is_echo(topic, publish.payload, now) {
            return self.refuse(publish, Way::In, Obstacle::Echo);
        }
        let hop = (self.remote.variant.version == ProtocolVersion::V5).then_some(&self.hop);
        let result = self.scratch.rename(&self.topics, Way::In, topic, publish.properties, hop);
        let result = result.and_then(|(topic, properties)| {
            let renamed = Publish { topic: Some(topic), properties, ..*publish };
            if renamed.encoded_length(LOCAL_VERSION) > self.remote.packet_size {
                return Err(Obstacle::Size);
            }
            self.local.output.write(|into| renamed.encode(LOCAL_VERSION, into));
            Ok(())
        });
        if let Err(obstacle) = result {
            return self.refuse(publish, Way::In, obstacle);
        }
        self.report.received += 1;
        self.took(topic.as_bytes(), publish.payload, now);
        if publish.delivery != Delivery::AtMostOnce {
            self.local.owed += 1;
        }
    }

    /// A message was forwarded, in either direction. `topic` is the one with which it has come.
    #[inline]
    fn took(&mut self, topic: &[u8], payload: &[u8], now: Time) {
        self.forwarded_at = now;
        if self.suspect.circles(topic, payload, now) {
            self.name_circle(&String::from_utf8_lossy(topic));
        }
    }

    /// Acknowledges a message in place of its receiver, and reports that it is not forwarded.
    #[cold]
    fn refuse(&mut self, publish: &Publish<'_>, way: Way, obstacle: Obstacle) {
        self.report.dropped += u64::from(obstacle != Obstacle::Echo);
        let topic = publish.topic.map_or("", |topic| topic.as_str());
        self.name_dropped(topic, publish.payload.len(), way, obstacle);
        match way {
            Way::Out => match publish.delivery {
                // With an error, no PUBREL follows.
                Delivery::ExactlyOnce(identifier) => self.answer_here(
                    AcknowledgementKind::PubRec,
                    Acknowledgement::new(identifier, ReasonCode::ImplementationSpecificError),
                ),
                delivery => self.acknowledge_here(delivery),
            },
            Way::In => self.acknowledge_there(publish.delivery),
        }
    }

    /// Acknowledges a message of this broker in place of the other one.
    pub(super) fn acknowledge_here(&mut self, delivery: Delivery) {
        if let Some((kind, identifier)) = first_acknowledgement(delivery) {
            self.answer_here(kind, Acknowledgement::new(identifier, ReasonCode::Success));
        }
    }

    pub(super) fn acknowledge_there(&mut self, delivery: Delivery) {
        if let Some((kind, identifier)) = first_acknowledgement(delivery) {
            self.remote.output.write(|into| into.extend_from_slice(&kind.plain(identifier)));
        }
    }

    /// Appends an acknowledgement for this broker.
    #[inline]
    pub(super) fn answer_here(&mut self, kind: AcknowledgementKind, answer: Acknowledgement<'_>) {
        self.local.output.write(|into| match answer.reason_code {
            ReasonCode::Success => into.extend_from_slice(&kind.plain(answer.packet_identifier)),
            _ => kind.packet(answer).encode(LOCAL_VERSION, into),
        });
    }
}

/// Whether an acknowledgement refuses a message.
#[inline]
pub const fn is_refusal(kind: AcknowledgementKind, answer: &Acknowledgement<'_>) -> bool {
    matches!(kind, AcknowledgementKind::PubAck | AcknowledgementKind::PubRec) && answer.reason_code.is_error()
}

/// The first packet that acknowledges a message.
const fn first_acknowledgement(delivery: Delivery) -> Option<(AcknowledgementKind, PacketIdentifier)> {
    match delivery {
        Delivery::AtMostOnce => None,
        Delivery::AtLeastOnce(identifier) => Some((AcknowledgementKind::PubAck, identifier)),
        Delivery::ExactlyOnce(identifier) => Some((AcknowledgementKind::PubRec, identifier)),
    }
}
