//! UNSUBACK: the response to UNSUBSCRIBE.

use super::properties::PropertySet;
use super::property::identifier;
use super::reader::Reader;
use super::suback::check_codes;
use super::{DecodeError, PacketIdentifier, Properties, ProtocolVersion, kind, writer};

const PROPERTIES: PropertySet = PropertySet::of(&[identifier::REASON_STRING]);

/// The Reason Codes of UNSUBACK [MQTT-3.11.3-2].
const LISTED: &[u8] = &[0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91];

/// The content of an UNSUBACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnsubAck<'a> {
    /// The Packet Identifier of the UNSUBSCRIBE.
    pub packet_identifier: PacketIdentifier,
    /// Empty before MQTT 5.0.
    pub properties: Properties<'a>,
    /// One code for each filter, in the same order. Before MQTT 5.0 there are none, and they are not encoded.
    pub codes: &'a [u8],
}

impl<'a> UnsubAck<'a> {
    pub(super) fn decode(body: &'a [u8], version: ProtocolVersion) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let packet_identifier = reader.packet_identifier()?;
        let properties = Properties::read(&mut reader, version, PROPERTIES)?;
        if version == ProtocolVersion::V5 {
            let codes = check_codes(reader.rest(), LISTED)?;
            return Ok(Self { packet_identifier, properties, codes });
        }
        reader.finish()?;
        Ok(Self { packet_identifier, properties, codes: &[] })
    }

    pub(super) fn encode(&self, version: ProtocolVersion, into: &mut Vec<u8>) {
        writer::packet(into, kind::UNSUBACK << 4, |into| {
            writer::u16(into, self.packet_identifier.value());
            self.properties.encode(version, into);
            if version == ProtocolVersion::V5 {
                into.extend_from_slice(self.codes);
            }
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
        let plain =
            UnsubAck { packet_identifier: identifier(3), properties: Properties::default(), codes: &[] };
        for version in OLD {
            assert_golden(version, &[0xB0, 2, 0, 3], &Packet::UnsubAck(plain));
        }
        let two = UnsubAck { codes: &[0, 0x11], ..plain };
        assert_golden(V5, &[0xB0, 5, 0, 3, 0, 0, 0x11], &Packet::UnsubAck(two));
        // The codes are omitted before MQTT 5.0.
        let mut encoded = Vec::new();
        Packet::UnsubAck(two).encode(V311, &mut encoded);
        assert_eq!(encoded, [0xB0, 2, 0, 3]);
        let properties = block(&[Property::ReasonString("no")]);
        let refused = UnsubAck { properties: properties.properties(), codes: &[0x87], ..plain };
        assert_golden(V5, b"\xB0\x09\x00\x03\x05\x1F\x00\x02no\x87", &Packet::UnsubAck(refused));
    }

    #[test]
    fn illegal() {
        for version in OLD {
            assert_illegal(version, &[(&[0xB0, 3, 0, 1, 0], MALFORMED, "left over")]);
        }
        assert_illegal(V311, &[(&[0xB1, 2, 0, 1], MALFORMED, "flags")]);
        assert_illegal(
            V5,
            &[
                (&[0xB0, 2, 0, 1], MALFORMED, "no property length"),
                (&[0xB0, 3, 0, 1, 0], PROTOCOL_ERROR, "no code"),
                (&[0xB0, 4, 0, 1, 0, 1], PROTOCOL_ERROR, "code of SUBACK"),
                (&[0xB0, 4, 0, 0, 0, 0], PROTOCOL_ERROR, "packet identifier 0"),
            ],
        );
    }
}
