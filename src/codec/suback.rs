//! SUBACK: what became of each subscription asked for.

use super::properties::PropertySet;
use super::property::identifier;
use super::reader::Reader;
use super::{DecodeError, PacketIdentifier, Properties, ProtocolVersion, kind, writer};

const PROPERTIES: PropertySet = PropertySet::of(&[identifier::REASON_STRING]);

/// The Reason Codes of SUBACK [MQTT-3.9.3-2].
const LISTED: &[u8] = &[0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2];

/// What MQTT 3.1.1 knows [MQTT-3.9.3-2]. MQTT 3.1 has no failure; but brokers send it there, too.
const LISTED_BEFORE_5: &[u8] = &[0x00, 0x01, 0x02, 0x80];

/// The answer to SUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubAck<'a> {
    /// That of the SUBSCRIBE.
    pub packet_identifier: PacketIdentifier,
    /// None before MQTT 5.0.
    pub properties: Properties<'a>,
    /// One for each subscription, in their order: the granted quality of service or why there is none.
    pub codes: &'a [u8],
}

impl<'a> SubAck<'a> {
    pub(super) fn decode(body: &'a [u8], version: ProtocolVersion) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let packet_identifier = reader.packet_identifier()?;
        let properties = reader.properties(version, PROPERTIES)?;
        let listed = if version == ProtocolVersion::V5 { LISTED } else { LISTED_BEFORE_5 };
        let codes = check_codes(reader.rest(), listed)?;
        Ok(Self { packet_identifier, properties, codes })
    }

    pub(super) fn encode(&self, version: ProtocolVersion, into: &mut Vec<u8>) {
        writer::packet(into, kind::SUBACK << 4, |into| {
            writer::u16(into, self.packet_identifier.value());
            self.properties.encode(version, into);
            into.extend_from_slice(self.codes);
        });
    }
}

/// A list of codes answers a list of filters, so neither is empty.
pub(super) fn check_codes<'a>(codes: &'a [u8], listed: &[u8]) -> Result<&'a [u8], DecodeError> {
    if codes.is_empty() {
        return Err(DecodeError::ProtocolError("answer without a reason code"));
    }
    if codes.iter().any(|code| !listed.contains(code)) {
        return Err(DecodeError::ProtocolError("reason code not of this packet"));
    }
    Ok(codes)
}
