//! PUBLISH: a message on its way. The hot path of the broker.

use super::properties::PropertySet;
use super::property::identifier;
use super::reader::Reader;
use super::{DecodeError, PacketIdentifier, Properties, ProtocolVersion, QoS, kind, writer};
use crate::topic::TopicName;

const PROPERTIES: PropertySet = PropertySet::of(&[
    identifier::PAYLOAD_FORMAT_INDICATOR,
    identifier::MESSAGE_EXPIRY_INTERVAL,
    identifier::TOPIC_ALIAS,
    identifier::RESPONSE_TOPIC,
    identifier::CORRELATION_DATA,
    identifier::CONTENT_TYPE,
])
.with_subscription_identifiers();

const DUP: u8 = 0b1000;
const RETAIN: u8 = 0b0001;

/// The quality of service together with the Packet Identifier that it asks for: QoS 0 has none [MQTT-2.2.1-2].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// QoS 0.
    AtMostOnce,
    /// QoS 1.
    AtLeastOnce(PacketIdentifier),
    /// QoS 2.
    ExactlyOnce(PacketIdentifier),
}

impl Delivery {
    /// The quality of service.
    #[inline]
    pub const fn qos(self) -> QoS {
        match self {
            Self::AtMostOnce => QoS::AtMostOnce,
            Self::AtLeastOnce(_) => QoS::AtLeastOnce,
            Self::ExactlyOnce(_) => QoS::ExactlyOnce,
        }
    }

    /// The Packet Identifier, unless the quality of service is 0.
    #[inline]
    pub const fn packet_identifier(self) -> Option<PacketIdentifier> {
        match self {
            Self::AtMostOnce => None,
            Self::AtLeastOnce(identifier) | Self::ExactlyOnce(identifier) => Some(identifier),
        }
    }
}

/// A message published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Whether this may be a redelivery. Never at QoS 0.
    pub dup: bool,
    /// On the way to the broker: whether it is to be kept. On the way from it: whether it was kept.
    pub retain: bool,
    /// Quality of service and Packet Identifier.
    pub delivery: Delivery,
    /// Where it is published to; `None` if a Topic Alias stands for it, in MQTT 5.0 only.
    pub topic: Option<TopicName<'a>>,
    /// None before MQTT 5.0.
    pub properties: Properties<'a>,
    /// The message itself.
    pub payload: &'a [u8],
}

impl<'a> Publish<'a> {
    #[inline]
    pub(super) fn decode(
        first_byte: u8,
        body: &'a [u8],
        version: ProtocolVersion,
    ) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let topic = reader.topic_name_or_empty()?;
        let delivery = match (first_byte >> 1) & 0b11 {
            0 => Delivery::AtMostOnce,
            1 => Delivery::AtLeastOnce(reader.packet_identifier()?),
            2 => Delivery::ExactlyOnce(reader.packet_identifier()?),
            // [MQTT-3.3.1-4]
            _ => return Err(DecodeError::Malformed("PUBLISH with QoS 3")),
        };
        let properties = reader.properties(version, PROPERTIES)?;
        if topic.is_none() && properties.topic_alias().is_none() {
            return Err(DecodeError::ProtocolError("PUBLISH without a topic name or a topic alias"));
        }
        Ok(Self {
            dup: duplicate(first_byte, delivery, version)?,
            retain: first_byte & RETAIN != 0,
            delivery,
            topic,
            properties,
            payload: reader.rest(),
        })
    }
}

/// DUP is 0 at QoS 0 [MQTT-3.3.1-2]; MQTT 3.1 gave the bit no meaning there.
#[inline]
fn duplicate(first_byte: u8, delivery: Delivery, version: ProtocolVersion) -> Result<bool, DecodeError> {
    if first_byte & DUP == 0 {
        return Ok(false);
    }
    match (delivery, version) {
        (Delivery::AtMostOnce, ProtocolVersion::V31) => Ok(false),
        (Delivery::AtMostOnce, _) => Err(DecodeError::Malformed("PUBLISH with DUP at QoS 0")),
        _ => Ok(true),
    }
}

impl Publish<'_> {
    /// Appends the packet.
    ///
    /// # Panics
    ///
    /// If the packet is longer than the protocol can say, 256 MiB.
    #[inline]
    pub fn encode(&self, version: ProtocolVersion, into: &mut Vec<u8>) {
        into.reserve(self.encoded_length(version));
        self.encode_head(version, into);
        into.extend_from_slice(self.payload);
    }

    /// Appends everything but the payload, which the Remaining Length counts nevertheless. Returns the index in
    /// `into` at which the Packet Identifier stands, or at QoS 0 would stand.
    ///
    /// # Panics
    ///
    /// If the packet is longer than the protocol can say, 256 MiB.
    #[inline]
    pub fn encode_head(&self, version: ProtocolVersion, into: &mut Vec<u8>) -> usize {
        into.push(self.first_byte());
        writer::variable_byte_integer(into, self.remaining_length(version));
        writer::string(into, self.topic_text());
        let packet_identifier_at = into.len();
        if let Some(identifier) = self.delivery.packet_identifier() {
            writer::u16(into, identifier.value());
        }
        self.properties.encode(version, into);
        packet_identifier_at
    }

    /// The length of the whole packet in bytes.
    #[inline]
    pub fn encoded_length(&self, version: ProtocolVersion) -> usize {
        let remaining_length = self.remaining_length(version);
        1 + writer::integer_width(remaining_length) + remaining_length
    }

    #[inline]
    fn remaining_length(&self, version: ProtocolVersion) -> usize {
        let packet_identifier_length = if self.delivery == Delivery::AtMostOnce { 0 } else { 2 };
        2 + self.topic_text().len()
            + packet_identifier_length
            + self.properties.encoded_length(version)
            + self.payload.len()
    }

    #[inline]
    fn first_byte(&self) -> u8 {
        let dup = if self.dup { DUP } else { 0 };
        kind::PUBLISH << 4 | dup | self.delivery.qos().level() << 1 | u8::from(self.retain)
    }

    #[inline]
    fn topic_text(&self) -> &str {
        self.topic.map_or("", TopicName::as_str)
    }
}
