//! UNSUBACK: subscriptions have ended.

use super::properties::PropertySet;
use super::property::identifier;
use super::reader::Reader;
use super::suback::check_codes;
use super::{DecodeError, PacketIdentifier, Properties, ProtocolVersion, kind, writer};

const PROPERTIES: PropertySet = PropertySet::of(&[identifier::REASON_STRING]);

/// The Reason Codes of UNSUBACK [MQTT-3.11.3-2].
const LISTED: &[u8] = &[0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91];

/// The answer to UNSUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnsubAck<'a> {
    /// That of the UNSUBSCRIBE.
    pub packet_identifier: PacketIdentifier,
    /// None before MQTT 5.0.
    pub properties: Properties<'a>,
    /// One for each filter, in their order; none, and not written, before MQTT 5.0.
    pub codes: &'a [u8],
}

impl<'a> UnsubAck<'a> {
    pub(super) fn decode(body: &'a [u8], version: ProtocolVersion) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let packet_identifier = reader.packet_identifier()?;
        let properties = reader.properties(version, PROPERTIES)?;
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
