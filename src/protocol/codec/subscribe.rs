//! SUBSCRIBE: a client's request to subscribe.

use super::properties::PropertySet;
use super::property::identifier;
use super::reader::Reader;
use super::{DecodeError, PacketIdentifier, Properties, ProtocolVersion, QoS, kind, writer};
use crate::protocol::topic::TopicFilter;

const PROPERTIES: PropertySet = PropertySet::of(&[identifier::SUBSCRIPTION_IDENTIFIER]);

const QOS: u8 = 0b0000_0011;
const NO_LOCAL: u8 = 0b0000_0100;
const RETAIN_AS_PUBLISHED: u8 = 0b0000_1000;
const RESERVED: u8 = 0b1100_0000;
const RETAIN_HANDLING_SHIFT: u8 = 4;

/// Whether the server sends the matching retained messages for a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RetainHandling {
    /// Send them at each SUBSCRIBE. Before MQTT 5.0 they are always sent.
    SendAtSubscribe = 0,
    /// Send them only if the subscription did not exist before.
    SendIfNew = 1,
    /// Do not send them.
    DoNotSend = 2,
}

/// A Topic Filter with its Subscription Options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription<'a> {
    /// The Topic Filter.
    pub filter: TopicFilter<'a>,
    /// The Maximum QoS that the client requests.
    pub qos: QoS,
    /// Whether messages that the client itself publishes are not sent to it. Never set in a Shared Subscription.
    pub no_local: bool,
    /// Whether messages are forwarded with the RETAIN flag that they were published with.
    pub retain_as_published: bool,
    /// Whether retained messages are sent.
    pub retain_handling: RetainHandling,
}

impl<'a> Subscription<'a> {
    /// A subscription with the options that it has before MQTT 5.0.
    pub const fn new(filter: TopicFilter<'a>, qos: QoS) -> Self {
        Self {
            filter,
            qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::SendAtSubscribe,
        }
    }

    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let filter = reader.topic_filter()?;
        let options = reader.u8()?;
        // [MQTT-3.8.3-5]
        if options & RESERVED != 0 {
            return Err(DecodeError::Malformed("reserved subscription options"));
        }
        let qos = QoS::from_u8(options & QOS).ok_or(DecodeError::ProtocolError("subscription with QoS 3"))?;
        let retain_handling = match (options & !RESERVED) >> RETAIN_HANDLING_SHIFT {
            0 => RetainHandling::SendAtSubscribe,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return Err(DecodeError::ProtocolError("retain handling 3")),
        };
        let no_local = options & NO_LOCAL != 0;
        // [MQTT-3.8.3-4]
        if no_local && filter.share_name().is_some() {
            return Err(DecodeError::ProtocolError("no local on a shared subscription"));
        }
        let retain_as_published = options & RETAIN_AS_PUBLISHED != 0;
        Ok(Self { filter, qos, no_local, retain_as_published, retain_handling })
    }

    fn encode(&self, version: ProtocolVersion, into: &mut Vec<u8>) {
        writer::string(into, self.filter.as_str());
        into.push(if version == ProtocolVersion::V5 { self.options() } else { self.qos.level() });
    }

    fn options(&self) -> u8 {
        let no_local = if self.no_local { NO_LOCAL } else { 0 };
        let retain_as_published = if self.retain_as_published { RETAIN_AS_PUBLISHED } else { 0 };
        let retain_handling = (self.retain_handling as u8) << RETAIN_HANDLING_SHIFT;
        self.qos.level() | no_local | retain_as_published | retain_handling
    }
}

/// The subscriptions in a SUBSCRIBE, checked. There is at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscriptions<'a> {
    bytes: &'a [u8],
    count: usize,
}

impl<'a> Subscriptions<'a> {
    /// Checks all subscriptions. Before MQTT 5.0 all option bits except the QoS are reserved [MQTT-3.8.3-4 in MQTT
    /// 3.1.1].
    fn check(bytes: &'a [u8], version: ProtocolVersion) -> Result<Self, DecodeError> {
        let mut count = 0;
        for length in Self::check_from_end(bytes, bytes.len(), version) {
            length?;
            count += 1;
        }
        // [MQTT-3.8.3-2]
        if count == 0 {
            return Err(WITHOUT_FILTER);
        }
        Ok(Self { bytes, count })
    }

    /// Checks the subscriptions in the last `length` bytes of a SUBSCRIBE one by one. For each of them, yields the
    /// number of bytes that follow it.
    pub fn check_from_end(
        bytes: &'a [u8],
        length: usize,
        version: ProtocolVersion,
    ) -> impl Iterator<Item = Result<usize, DecodeError>> + use<'a> {
        let mut reader = Reader::new(bytes.split_at(bytes.len().saturating_sub(length)).1);
        std::iter::from_fn(move || {
            (!reader.is_empty()).then(|| match Subscription::read(&mut reader)?.options() & !QOS {
                0 => Ok(reader.rest().len()),
                _ if version == ProtocolVersion::V5 => Ok(reader.rest().len()),
                _ => Err(DecodeError::Malformed("reserved bits of a requested QoS")),
            })
        })
    }

    /// The number of subscriptions.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// The subscriptions, in order.
    pub fn iter(&self) -> impl Iterator<Item = Subscription<'a>> + use<'a> {
        Self::from_end(self.bytes, self.bytes.len()).map(|(subscription, _)| subscription)
    }

    /// The bytes of the subscriptions, which are the last ones of the packet.
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The subscriptions in the last `length` bytes of a SUBSCRIBE that has been checked, each with the number of bytes
    /// that follow it.
    pub fn from_end(
        bytes: &'a [u8],
        length: usize,
    ) -> impl Iterator<Item = (Subscription<'a>, usize)> + use<'a> {
        let start = bytes.len().saturating_sub(length);
        let mut reader = Reader::new(bytes.split_at(start).1);
        std::iter::from_fn(move || Some((Subscription::read(&mut reader).ok()?, reader.rest().len())))
    }
}

/// A buffer to build the subscriptions of a SUBSCRIBE in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionBuffer {
    bytes: Vec<u8>,
    count: usize,
}

impl SubscriptionBuffer {
    /// Appends a subscription.
    pub fn push(&mut self, subscription: Subscription<'_>) {
        subscription.encode(ProtocolVersion::V5, &mut self.bytes);
        self.count += 1;
    }

    /// The subscriptions, to be used in a packet; `None` if there are none yet.
    pub fn subscriptions(&self) -> Option<Subscriptions<'_>> {
        (self.count > 0).then_some(Subscriptions { bytes: &self.bytes, count: self.count })
    }
}

/// The content of a SUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// The SUBACK has the same one.
    pub packet_identifier: PacketIdentifier,
    /// Empty before MQTT 5.0.
    pub properties: Properties<'a>,
    /// The requested subscriptions.
    pub subscriptions: Subscriptions<'a>,
}

/// [MQTT-3.8.3-2]
const WITHOUT_FILTER: DecodeError = DecodeError::ProtocolError("SUBSCRIBE without a topic filter");

/// A SUBSCRIBE whose subscriptions have not been checked, since there may be very many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UncheckedSubscribe<'a> {
    /// The SUBACK has the same one.
    pub packet_identifier: PacketIdentifier,
    /// The Subscription Identifier, if there is one.
    pub subscription_identifier: Option<u32>,
    /// The bytes of the subscriptions, for [`Subscriptions::check_from_end`]; not empty.
    pub subscriptions: &'a [u8],
}

impl<'a> UncheckedSubscribe<'a> {
    pub(super) fn decode(body: &'a [u8], version: ProtocolVersion) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let packet_identifier = reader.packet_identifier()?;
        let properties = Properties::read(&mut reader, version, PROPERTIES)?;
        if reader.is_empty() {
            return Err(WITHOUT_FILTER);
        }
        let subscription_identifier = properties.subscription_identifiers().next();
        Ok(Self { packet_identifier, subscription_identifier, subscriptions: reader.rest() })
    }
}

impl<'a> Subscribe<'a> {
    pub(super) fn decode(body: &'a [u8], version: ProtocolVersion) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        Ok(Self {
            packet_identifier: reader.packet_identifier()?,
            properties: Properties::read(&mut reader, version, PROPERTIES)?,
            subscriptions: Subscriptions::check(reader.rest(), version)?,
        })
    }

    pub(super) fn encode(&self, version: ProtocolVersion, into: &mut Vec<u8>) {
        writer::packet(into, kind::SUBSCRIBE << 4 | 0b0010, |into| {
            writer::u16(into, self.packet_identifier.value());
            self.properties.encode(version, into);
            for subscription in self.subscriptions.iter() {
                subscription.encode(version, into);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::codec::testing::*;
    use crate::protocol::codec::{Packet, Property};

    fn buffer(subscriptions: &[Subscription<'_>]) -> SubscriptionBuffer {
        let mut buffer = SubscriptionBuffer::default();
        for subscription in subscriptions {
            buffer.push(*subscription);
        }
        buffer
    }

    #[test]
    fn golden_before_5() {
        let wanted = [
            Subscription::new(TopicFilter::new("a/+").unwrap(), QoS::ExactlyOnce),
            Subscription::new(TopicFilter::new("#").unwrap(), QoS::AtMostOnce),
        ];
        let buffer = buffer(&wanted);
        let subscriptions = buffer.subscriptions().unwrap();
        assert_eq!(subscriptions.len(), 2);
        assert_eq!(subscriptions.iter().collect::<Vec<_>>(), wanted);
        let packet = Packet::Subscribe(Subscribe {
            packet_identifier: identifier(10),
            properties: Properties::default(),
            subscriptions,
        });
        for version in OLD {
            assert_golden(version, b"\x82\x0C\x00\x0A\x00\x03a/+\x02\x00\x01#\x00", &packet);
        }
        // In MQTT 3.1 a repeated SUBSCRIBE has DUP.
        assert_decodes(V31, b"\x8A\x0C\x00\x0A\x00\x03a/+\x02\x00\x01#\x00", &packet);
    }

    #[test]
    fn golden_of_5() {
        let wanted = [
            Subscription {
                no_local: true,
                retain_as_published: true,
                retain_handling: RetainHandling::DoNotSend,
                ..Subscription::new(TopicFilter::new("a").unwrap(), QoS::AtLeastOnce)
            },
            Subscription {
                retain_handling: RetainHandling::SendIfNew,
                ..Subscription::new(TopicFilter::new("$share/g/b").unwrap(), QoS::AtMostOnce)
            },
        ];
        let buffer = buffer(&wanted);
        let properties = block(&[Property::SubscriptionIdentifier(200)]);
        let packet = Packet::Subscribe(Subscribe {
            packet_identifier: identifier(1),
            properties: properties.properties(),
            subscriptions: buffer.subscriptions().unwrap(),
        });
        let bytes = b"\x82\x17\x00\x01\x03\x0B\xC8\x01\x00\x01a\x2D\x00\x0A$share/g/b\x10";
        assert_golden(V5, bytes, &packet);
        assert_eq!(buffer.subscriptions().unwrap().iter().collect::<Vec<_>>(), wanted);
        // Options that MQTT 3.1.1 does not have are omitted.
        let mut encoded = Vec::new();
        packet.encode(V311, &mut encoded);
        assert_eq!(encoded, b"\x82\x13\x00\x01\x00\x01a\x01\x00\x0A$share/g/b\x00");
    }

    #[test]
    fn illegal() {
        for version in OLD {
            assert_illegal(
                version,
                &[
                    (b"\x82\x02\x00\x01", PROTOCOL_ERROR, "no filter"),
                    (b"\x82\x06\x00\x00\x00\x01a\x00", PROTOCOL_ERROR, "packet identifier 0"),
                    (b"\x82\x06\x00\x01\x00\x01a\x03", PROTOCOL_ERROR, "QoS 3"),
                    (b"\x82\x06\x00\x01\x00\x01a\x04", MALFORMED, "no local"),
                    (b"\x82\x06\x00\x01\x00\x01a\x80", MALFORMED, "reserved bits"),
                    (b"\x82\x05\x00\x01\x00\x01a", MALFORMED, "no QoS"),
                    (b"\x82\x05\x00\x01\x00\x00\x00", MALFORMED, "empty filter"),
                    (b"\x82\x07\x00\x01\x00\x02a#\x00", MALFORMED, "misplaced wildcard"),
                ],
            );
        }
        for first_byte in [0x80, 0x83, 0x8A] {
            assert_illegal(V311, &[(&[first_byte, 6, 0, 1, 0, 1, b'a', 0], MALFORMED, "flags")]);
            assert_illegal(V5, &[(&[first_byte, 7, 0, 1, 0, 0, 1, b'a', 0], MALFORMED, "flags")]);
        }
        assert_illegal(
            V5,
            &[
                (b"\x82\x03\x00\x01\x00", PROTOCOL_ERROR, "no filter"),
                (b"\x82\x07\x00\x01\x00\x00\x01a\x03", PROTOCOL_ERROR, "QoS 3"),
                (b"\x82\x07\x00\x01\x00\x00\x01a\x30", PROTOCOL_ERROR, "retain handling 3"),
                (b"\x82\x07\x00\x01\x00\x00\x01a\x40", MALFORMED, "reserved bit"),
                (b"\x82\x07\x00\x01\x00\x00\x01a\x80", MALFORMED, "other reserved bit"),
                (b"\x82\x10\x00\x01\x00\x00\x0A$share/g/b\x04", PROTOCOL_ERROR, "no local, shared"),
                (b"\x82\x09\x00\x01\x02\x0B\x00\x00\x01a\x00", PROTOCOL_ERROR, "subscription identifier 0"),
                (b"\x82\x0B\x00\x01\x04\x0B\x01\x0B\x02\x00\x01a\x00", PROTOCOL_ERROR, "and twice"),
                (b"\x82\x0D\x00\x01\x00\x00\x07$share/\x00", MALFORMED, "no share name"),
            ],
        );
    }
}
