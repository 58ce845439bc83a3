//! PUBLISH: an Application Message. This is the hot path of the broker.

use super::properties::PropertySet;
use super::property::identifier;
use super::reader::{self, Reader};
use super::{
    DecodeError, Frame, PACKET_SIZE_MAXIMUM, PacketIdentifier, Properties, ProtocolVersion, QoS, kind, writer,
};
use crate::protocol::topic::TopicName;

const PROPERTIES: PropertySet = PropertySet::of(&[
    identifier::PAYLOAD_FORMAT_INDICATOR,
    identifier::MESSAGE_EXPIRY_INTERVAL,
    identifier::TOPIC_ALIAS,
    identifier::RESPONSE_TOPIC,
    identifier::CORRELATION_DATA,
    identifier::CONTENT_TYPE,
])
.with_subscription_identifiers();

/// Those that receivers get unchanged.
const FORWARDED: PropertySet = PropertySet::of(&[
    identifier::PAYLOAD_FORMAT_INDICATOR,
    identifier::RESPONSE_TOPIC,
    identifier::CORRELATION_DATA,
    identifier::CONTENT_TYPE,
]);

const DUP: u8 = 0b1000;
const RETAIN: u8 = 0b0001;

/// The QoS together with the Packet Identifier that it requires. QoS 0 has none [MQTT-2.2.1-2].
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
    /// The QoS.
    #[inline]
    pub const fn qos(self) -> QoS {
        match self {
            Self::AtMostOnce => QoS::AtMostOnce,
            Self::AtLeastOnce(_) => QoS::AtLeastOnce,
            Self::ExactlyOnce(_) => QoS::ExactlyOnce,
        }
    }

    /// The Packet Identifier, unless the QoS is 0.
    #[inline]
    pub const fn packet_identifier(self) -> Option<PacketIdentifier> {
        match self {
            Self::AtMostOnce => None,
            Self::AtLeastOnce(identifier) | Self::ExactlyOnce(identifier) => Some(identifier),
        }
    }
}

/// The content of a PUBLISH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Whether this may be a retransmission. Never set at QoS 0.
    pub dup: bool,
    /// In a packet to the broker, whether to retain the message. In a packet to a client, whether it is a retained
    /// message or, with Retain As Published, was published with RETAIN.
    pub retain: bool,
    /// The QoS and the Packet Identifier.
    pub delivery: Delivery,
    /// The Topic Name. `None` if it is replaced by a Topic Alias, in MQTT 5.0 only.
    pub topic: Option<TopicName<'a>>,
    /// Empty before MQTT 5.0.
    pub properties: Properties<'a>,
    /// The Application Message.
    pub payload: &'a [u8],
}

impl<'a> Properties<'a> {
    /// Reads the block of properties of a PUBLISH. `block` starts with the Property Length and ends with the last
    /// property.
    ///
    /// # Errors
    ///
    /// A PUBLISH with this block would not be valid.
    pub fn of_publish(block: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(block);
        let properties = Properties::read(&mut reader, ProtocolVersion::V5, PROPERTIES)?;
        reader.finish()?;
        Ok(properties)
    }

    /// Checks the properties of a message that receivers get unchanged, without a Property Length.
    ///
    /// # Errors
    ///
    /// A PUBLISH with this block would not be valid, or has a property that is not forwarded.
    pub fn forwarded(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        Self::check(bytes, FORWARDED)
    }
}

/// A PUBLISH of which only the length of the Topic Name has been checked. A caller that has checked the same bytes
/// before need not do it again.
#[derive(Clone, Copy, Debug)]
pub struct UncheckedPublish<'a> {
    /// The bytes of the Topic Name.
    pub topic: &'a [u8],
    pub(super) first_byte: u8,
    /// The bytes that follow the Topic Name.
    pub(super) rest: &'a [u8],
    pub(super) packet: &'a [u8],
}

/// Returns the PUBLISH in this frame without decoding it; `None` if it is another packet.
///
/// # Errors
///
/// The Remaining Length is not in its shortest form, or the Topic Name is longer than the packet.
#[inline]
pub fn unchecked_publish<'a>(
    frame: &Frame<'a>,
    version: ProtocolVersion,
) -> Result<Option<UncheckedPublish<'a>>, DecodeError> {
    if frame.kind() != kind::PUBLISH {
        return Ok(None);
    }
    frame.check_length(version)?;
    UncheckedPublish::new(frame).map(Some)
}

impl<'a> UncheckedPublish<'a> {
    #[inline]
    pub(super) fn new(frame: &Frame<'a>) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(frame.body);
        let topic = reader.binary()?;
        Ok(Self { topic, first_byte: frame.first_byte, rest: reader.rest(), packet: frame.packet })
    }

    /// Decodes the packet.
    ///
    /// # Errors
    ///
    /// Those of [`super::decode`].
    pub fn decode(&self, version: ProtocolVersion) -> Result<Publish<'a>, DecodeError> {
        let topic = reader::topic_name_or_empty(self.topic)?;
        let mut reader = Reader::new(self.rest);
        let delivery = match (self.first_byte >> 1) & 0b11 {
            0 => Delivery::AtMostOnce,
            1 => Delivery::AtLeastOnce(reader.packet_identifier()?),
            2 => Delivery::ExactlyOnce(reader.packet_identifier()?),
            // [MQTT-3.3.1-4]
            _ => return Err(DecodeError::Malformed("PUBLISH with QoS 3")),
        };
        let properties = Properties::read(&mut reader, version, PROPERTIES)?;
        if topic.is_none() && properties.topic_alias().is_none() {
            return Err(DecodeError::ProtocolError("PUBLISH without a topic name or a topic alias"));
        }
        Ok(Publish {
            dup: duplicate(self.first_byte, delivery, version)?,
            retain: self.first_byte & RETAIN != 0,
            delivery,
            topic,
            properties,
            payload: reader.rest(),
        })
    }
}

/// Returns DUP, which must be 0 at QoS 0 [MQTT-3.3.1-2]. MQTT 3.1 does not define the bit at QoS 0.
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
    /// If the packet is longer than [`PACKET_SIZE_MAXIMUM`].
    #[inline]
    pub fn encode(&self, version: ProtocolVersion, into: &mut Vec<u8>) {
        let length = self.encoded_length(version);
        assert!(length <= PACKET_SIZE_MAXIMUM, "a PUBLISH of {length} bytes");
        into.reserve(length);
        self.encode_head(version, into);
        into.extend_from_slice(self.payload);
    }

    /// Appends everything except the payload; the Remaining Length includes it. Returns the index in `into` of the
    /// Packet Identifier, or, at QoS 0, of the place where it would be.
    ///
    /// A packet that is longer than [`PACKET_SIZE_MAXIMUM`] with its payload cannot be expressed in the protocol, and
    /// no client accepts it. It must not be sent: its length field is wrong.
    #[inline]
    pub fn encode_head(&self, version: ProtocolVersion, into: &mut Vec<u8>) -> usize {
        into.push(self.first_byte());
        writer::length(into, self.remaining_length(version));
        writer::string(into, self.topic_text());
        let packet_identifier_at = into.len();
        if let Some(identifier) = self.delivery.packet_identifier() {
            writer::u16(into, identifier.value());
        }
        self.properties.encode(version, into);
        packet_identifier_at
    }

    /// The length of the complete packet in bytes.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::codec::testing::*;
    use crate::protocol::codec::{Packet, Property, ReasonCode};

    fn publish<'a>(delivery: Delivery, payload: &'a [u8]) -> Publish<'a> {
        let topic = TopicName::new("a/b").ok();
        Publish { dup: false, retain: false, delivery, topic, properties: Properties::default(), payload }
    }

    #[test]
    fn golden_before_5() {
        for version in OLD {
            let plain = publish(Delivery::AtMostOnce, b"hi");
            assert_golden(version, b"\x30\x07\x00\x03a/bhi", &Packet::Publish(plain));
            let retained = Publish { retain: true, ..publish(Delivery::AtLeastOnce(identifier(10)), b"") };
            assert_golden(version, b"\x33\x07\x00\x03a/b\x00\x0A", &Packet::Publish(retained));
            let again = Publish { dup: true, ..publish(Delivery::ExactlyOnce(identifier(0x1234)), b"x") };
            assert_golden(version, b"\x3C\x08\x00\x03a/b\x12\x34x", &Packet::Publish(again));
        }
    }

    #[test]
    fn golden_of_5() {
        let plain = publish(Delivery::AtMostOnce, b"hi");
        assert_golden(V5, b"\x30\x08\x00\x03a/b\x00hi", &Packet::Publish(plain));
        let properties = block(&[
            Property::PayloadFormatIndicator(true),
            Property::MessageExpiryInterval(60),
            Property::ContentType("t"),
            Property::ResponseTopic(TopicName::new("r").unwrap()),
            Property::CorrelationData(b"\x00\xFF"),
            Property::SubscriptionIdentifier(128),
            Property::SubscriptionIdentifier(1),
            Property::UserProperty("k", "v"),
            Property::UserProperty("k", ""),
        ]);
        let full = Publish {
            properties: properties.properties(),
            ..publish(Delivery::AtLeastOnce(identifier(1)), b"hi")
        };
        let bytes = b"\x32\x30\x00\x03a/b\x00\x01\x26\
            \x01\x01\x02\x00\x00\x00\x3C\x03\x00\x01t\x08\x00\x01r\x09\x00\x02\x00\xFF\
            \x0B\x80\x01\x0B\x01\x26\x00\x01k\x00\x01v\x26\x00\x01k\x00\x00hi";
        assert_golden(V5, bytes, &Packet::Publish(full));
        let alias = block(&[Property::TopicAlias(7)]);
        let aliased =
            Publish { topic: None, properties: alias.properties(), ..publish(Delivery::AtMostOnce, b"") };
        assert_golden(V5, b"\x30\x06\x00\x00\x03\x23\x00\x07", &Packet::Publish(aliased));
    }

    #[test]
    fn the_head_counts_the_payload_and_returns_the_index_of_the_packet_identifier() {
        let payload = [7; 200];
        let publish = publish(Delivery::AtLeastOnce(identifier(0x0102)), &payload);
        let mut into = vec![9, 9];
        let at = publish.encode_head(V5, &mut into);
        assert_eq!(into, b"\x09\x09\x32\xD0\x01\x00\x03a/b\x01\x02\x00");
        assert_eq!(into.get(at..at + 2), Some(&[1, 2][..]));
        assert_eq!(publish.encoded_length(V5), into.len() - 2 + payload.len());
    }

    #[test]
    fn a_packet_longer_than_the_protocol_allows_is_detected() {
        let topic_length = "a/b".len() + 2;
        let longest = vec![0; writer::INTEGER_MAXIMUM - topic_length];
        let publish = publish(Delivery::AtMostOnce, &longest);
        let mut head = vec![9];
        assert_eq!(publish.encode_head(V311, &mut head), 1 + 5 + topic_length);
        assert_eq!(head, b"\x09\x30\xFF\xFF\xFF\x7F\x00\x03a/b");
        assert_eq!(publish.encoded_length(V311), PACKET_SIZE_MAXIMUM);
        // In MQTT 5.0 the packet is one byte longer, for the Property Length.
        let mut head = Vec::new();
        publish.encode_head(V5, &mut head);
        assert_eq!(head.len() + longest.len(), PACKET_SIZE_MAXIMUM + 1);
        assert_eq!(publish.encoded_length(V5), PACKET_SIZE_MAXIMUM + 1);
        let properties = vec![0; writer::INTEGER_MAXIMUM + 1];
        let publish = Publish { properties: Properties::trusted(&properties), payload: b"", ..publish };
        let mut head = Vec::new();
        publish.encode_head(V5, &mut head);
        assert_eq!(head.len(), publish.encoded_length(V5));
    }

    #[test]
    fn illegal() {
        for version in ALL {
            assert_illegal(
                version,
                &[
                    (b"\x36\x08\x00\x03a/b\x00\x01\x00", MALFORMED, "QoS 3"),
                    (b"\x32\x08\x00\x03a/b\x00\x00\x00", PROTOCOL_ERROR, "packet identifier 0"),
                    (b"\x32\x06\x00\x03a/b\x00", MALFORMED, "half a packet identifier"),
                    (b"\x30\x04\x00\x03a/", MALFORMED, "half a topic"),
                    (b"\x30\x01\x00", MALFORMED, "half a length"),
                    (b"\x30\x00", MALFORMED, "no body"),
                    (b"\x30\x04\x00\x01#\x00", MALFORMED, "a wildcard"),
                    (b"\x30\x06\x00\x03a/+\x00", MALFORMED, "another wildcard"),
                    (b"\x30\x04\x00\x01\x00\x00", MALFORMED, "U+0000"),
                    (b"\x30\x06\x00\x03\xED\xA0\x80\x00", MALFORMED, "a surrogate"),
                    (b"\x30\x03\x00\x00\x00", PROTOCOL_ERROR, "neither topic nor alias"),
                ],
            );
        }
        for version in [V311, V5] {
            assert_illegal(version, &[(b"\x38\x04\x00\x01a\x00", MALFORMED, "DUP at QoS 0")]);
        }
        assert_illegal(
            V5,
            &[
                (b"\x30\x07\x00\x01a\x03\x23\x00\x00", ReasonCode::TopicAliasInvalid, "alias 0"),
                (b"\x30\x0A\x00\x01a\x06\x23\x00\x01\x23\x00\x01", PROTOCOL_ERROR, "alias twice"),
                (b"\x30\x06\x00\x01a\x02\x01\x02", PROTOCOL_ERROR, "payload format 2"),
                (b"\x30\x06\x00\x01a\x02\x0B\x00", PROTOCOL_ERROR, "subscription identifier 0"),
                (b"\x30\x08\x00\x01a\x04\x08\x00\x01+", MALFORMED, "response topic with a wildcard"),
                (b"\x30\x07\x00\x01a\x03\x08\x00\x00", MALFORMED, "empty response topic"),
                (b"\x30\x07\x00\x01a\x03\x21\x00\x01", MALFORMED, "receive maximum"),
                (b"\x30\x05\x00\x01a\x01\x7F", MALFORMED, "unknown property"),
                (b"\x30\x05\x00\x01a\x02\x01", MALFORMED, "properties longer than the packet"),
                (b"\x30\x06\x00\x01a\x01\x01\x01", MALFORMED, "property longer than its block"),
                (b"\x30\x03\x00\x01a", MALFORMED, "no property length"),
                (b"\x30\x05\x00\x01a\x80\x00", MALFORMED, "property length not in its shortest form"),
                (b"\x30\x84\x00\x00\x01a\x00", MALFORMED, "remaining length not in its shortest form"),
            ],
        );
    }

    #[test]
    fn older_versions_are_read_more_leniently() {
        let plain = Publish { payload: b"", ..publish(Delivery::AtMostOnce, b"") };
        // MQTT 3.1 does not define DUP at QoS 0; only MQTT 5.0 requires the shortest Remaining Length.
        assert_decodes(V31, b"\x38\x05\x00\x03a/b", &Packet::Publish(plain));
        for version in OLD {
            assert_decodes(version, b"\x30\x85\x80\x00\x00\x03a/b", &Packet::Publish(plain));
        }
    }
}
