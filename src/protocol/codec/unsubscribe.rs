//! UNSUBSCRIBE: a client's request to unsubscribe.

use super::properties::PropertySet;
use super::reader::Reader;
use super::{DecodeError, PacketIdentifier, Properties, ProtocolVersion, kind, writer};
use crate::protocol::topic::TopicFilter;

const PROPERTIES: PropertySet = PropertySet::of(&[]);

/// The Topic Filters in an UNSUBSCRIBE, checked. There is at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filters<'a> {
    bytes: &'a [u8],
    count: usize,
}

impl<'a> Filters<'a> {
    fn check(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut count = 0;
        for length in Self::check_from_end(bytes, bytes.len()) {
            length?;
            count += 1;
        }
        if count == 0 {
            return Err(WITHOUT_FILTER);
        }
        Ok(Self { bytes, count })
    }

    /// Checks the filters in the last `length` bytes of an UNSUBSCRIBE one by one. For each of them, yields the number
    /// of bytes that follow it.
    pub fn check_from_end(
        bytes: &'a [u8],
        length: usize,
    ) -> impl Iterator<Item = Result<usize, DecodeError>> + use<'a> {
        let mut reader = Reader::new(bytes.split_at(bytes.len().saturating_sub(length)).1);
        std::iter::from_fn(move || {
            (!reader.is_empty()).then(|| reader.topic_filter().map(|_| reader.rest().len()))
        })
    }

    /// The number of filters.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// The filters, in order.
    pub fn iter(&self) -> impl Iterator<Item = TopicFilter<'a>> + use<'a> {
        Self::from_end(self.bytes, self.bytes.len()).map(|(filter, _)| filter)
    }

    /// The bytes of the filters, which are the last ones of the packet.
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The filters in the last `length` bytes of an UNSUBSCRIBE that has been checked, each with the number of bytes
    /// that follow it.
    pub fn from_end(
        bytes: &'a [u8],
        length: usize,
    ) -> impl Iterator<Item = (TopicFilter<'a>, usize)> + use<'a> {
        let start = bytes.len().saturating_sub(length);
        let mut reader = Reader::new(bytes.split_at(start).1);
        std::iter::from_fn(move || Some((reader.topic_filter().ok()?, reader.rest().len())))
    }
}

/// A buffer to build the Topic Filters of an UNSUBSCRIBE in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilterBuffer {
    bytes: Vec<u8>,
    count: usize,
}

impl FilterBuffer {
    /// Appends a filter.
    pub fn push(&mut self, filter: TopicFilter<'_>) {
        writer::string(&mut self.bytes, filter.as_str());
        self.count += 1;
    }

    /// The filters, to be used in a packet; `None` if there are none yet.
    pub fn filters(&self) -> Option<Filters<'_>> {
        (self.count > 0).then_some(Filters { bytes: &self.bytes, count: self.count })
    }
}

/// The content of an UNSUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    /// The UNSUBACK has the same one.
    pub packet_identifier: PacketIdentifier,
    /// Empty before MQTT 5.0.
    pub properties: Properties<'a>,
    /// The filters of the subscriptions to delete.
    pub filters: Filters<'a>,
}

/// [MQTT-3.10.3-2]
const WITHOUT_FILTER: DecodeError = DecodeError::ProtocolError("UNSUBSCRIBE without a topic filter");

/// An UNSUBSCRIBE whose filters have not been checked, since there may be very many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UncheckedUnsubscribe<'a> {
    /// The UNSUBACK has the same one.
    pub packet_identifier: PacketIdentifier,
    /// The bytes of the filters, for [`Filters::check_from_end`]; not empty.
    pub filters: &'a [u8],
}

impl<'a> UncheckedUnsubscribe<'a> {
    pub(super) fn decode(body: &'a [u8], version: ProtocolVersion) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let packet_identifier = reader.packet_identifier()?;
        Properties::read(&mut reader, version, PROPERTIES)?;
        if reader.is_empty() {
            return Err(WITHOUT_FILTER);
        }
        Ok(Self { packet_identifier, filters: reader.rest() })
    }
}

impl<'a> Unsubscribe<'a> {
    pub(super) fn decode(body: &'a [u8], version: ProtocolVersion) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        Ok(Self {
            packet_identifier: reader.packet_identifier()?,
            properties: Properties::read(&mut reader, version, PROPERTIES)?,
            filters: Filters::check(reader.rest())?,
        })
    }

    pub(super) fn encode(&self, version: ProtocolVersion, into: &mut Vec<u8>) {
        writer::packet(into, kind::UNSUBSCRIBE << 4 | 0b0010, |into| {
            writer::u16(into, self.packet_identifier.value());
            self.properties.encode(version, into);
            into.extend_from_slice(self.filters.bytes);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::codec::testing::*;
    use crate::protocol::codec::{Packet, Property};

    #[test]
    fn golden() {
        let mut buffer = FilterBuffer::default();
        assert_eq!(buffer.filters(), None);
        buffer.push(TopicFilter::new("a/+").unwrap());
        buffer.push(TopicFilter::new("#").unwrap());
        let filters = buffer.filters().unwrap();
        assert_eq!(filters.len(), 2);
        assert_eq!(filters.iter().map(TopicFilter::as_str).collect::<Vec<_>>(), ["a/+", "#"]);
        let plain =
            Unsubscribe { packet_identifier: identifier(1), properties: Properties::default(), filters };
        for version in OLD {
            assert_golden(version, b"\xA2\x0A\x00\x01\x00\x03a/+\x00\x01#", &Packet::Unsubscribe(plain));
        }
        assert_golden(V5, b"\xA2\x0B\x00\x01\x00\x00\x03a/+\x00\x01#", &Packet::Unsubscribe(plain));
        assert_decodes(V31, b"\xAA\x0A\x00\x01\x00\x03a/+\x00\x01#", &Packet::Unsubscribe(plain));
        let properties = block(&[Property::UserProperty("k", "v")]);
        let talkative = Unsubscribe { properties: properties.properties(), ..plain };
        let bytes = b"\xA2\x12\x00\x01\x07\x26\x00\x01k\x00\x01v\x00\x03a/+\x00\x01#";
        assert_golden(V5, bytes, &Packet::Unsubscribe(talkative));
    }

    #[test]
    fn illegal() {
        for version in OLD {
            assert_illegal(
                version,
                &[
                    (b"\xA2\x02\x00\x01", PROTOCOL_ERROR, "no filter"),
                    (b"\xA2\x05\x00\x00\x00\x01a", PROTOCOL_ERROR, "packet identifier 0"),
                    (b"\xA2\x06\x00\x01\x00\x02a+", MALFORMED, "misplaced wildcard"),
                    (b"\xA2\x06\x00\x01\x00\x01a\x00", MALFORMED, "left over"),
                ],
            );
        }
        assert_illegal(V311, &[(b"\xA0\x05\x00\x01\x00\x01a", MALFORMED, "flags")]);
        assert_illegal(
            V5,
            &[
                (b"\xA0\x06\x00\x01\x00\x00\x01a", MALFORMED, "flags"),
                (b"\xA2\x03\x00\x01\x00", PROTOCOL_ERROR, "no filter"),
                (b"\xA2\x08\x00\x01\x02\x0B\x01\x00\x01a", MALFORMED, "subscription identifier"),
            ],
        );
    }
}
