//! SUBACK: the response to SUBSCRIBE.

use super::properties::PropertySet;
use super::property::identifier;
use super::reader::Reader;
use super::{DecodeError, PacketIdentifier, Properties, ProtocolVersion, kind, writer};

const PROPERTIES: PropertySet = PropertySet::of(&[identifier::REASON_STRING]);

/// The Reason Codes of SUBACK [MQTT-3.9.3-2].
const LISTED: &[u8] = &[0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2];

/// The return codes of MQTT 3.1.1 [MQTT-3.9.3-2]. MQTT 3.1 does not define a failure, but brokers send it in that
/// version as well.
const LISTED_BEFORE_5: &[u8] = &[0x00, 0x01, 0x02, 0x80];

/// The content of a SUBACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubAck<'a> {
    /// The Packet Identifier of the SUBSCRIBE.
    pub packet_identifier: PacketIdentifier,
    /// Empty before MQTT 5.0.
    pub properties: Properties<'a>,
    /// One code for each subscription, in the same order: the granted QoS, or the reason for the failure.
    pub codes: &'a [u8],
}

impl<'a> SubAck<'a> {
    pub(super) fn decode(body: &'a [u8], version: ProtocolVersion) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let packet_identifier = reader.packet_identifier()?;
        let properties = Properties::read(&mut reader, version, PROPERTIES)?;
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

/// Checks the codes in a response to a list of filters, so there is at least one.
pub(super) fn check_codes<'a>(codes: &'a [u8], listed: &[u8]) -> Result<&'a [u8], DecodeError> {
    if codes.is_empty() {
        return Err(DecodeError::ProtocolError("packet without a reason code"));
    }
    if codes.iter().any(|code| !listed.contains(code)) {
        return Err(DecodeError::ProtocolError("reason code not allowed in this packet"));
    }
    Ok(codes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::codec::testing::*;
    use crate::protocol::codec::{Packet, Property};

    #[test]
    fn golden() {
        let plain = SubAck {
            packet_identifier: identifier(0x0102),
            properties: Properties::default(),
            codes: &[0, 2, 0x80],
        };
        for version in OLD {
            assert_golden(version, &[0x90, 5, 1, 2, 0, 2, 0x80], &Packet::SubAck(plain));
        }
        assert_golden(V5, &[0x90, 6, 1, 2, 0, 0, 2, 0x80], &Packet::SubAck(plain));
        let properties = block(&[Property::ReasonString("no")]);
        let refused = SubAck { properties: properties.properties(), codes: &[0x87], ..plain };
        assert_golden(V5, b"\x90\x09\x01\x02\x05\x1F\x00\x02no\x87", &Packet::SubAck(refused));
    }

    #[test]
    fn illegal() {
        for version in OLD {
            assert_illegal(
                version,
                &[
                    (&[0x90, 3, 0, 1, 0x87], PROTOCOL_ERROR, "code of MQTT 5.0"),
                    (&[0x90, 3, 0, 0, 0], PROTOCOL_ERROR, "packet identifier 0"),
                    (&[0x90, 2, 0, 1], PROTOCOL_ERROR, "no code"),
                ],
            );
        }
        assert_illegal(
            V5,
            &[
                (&[0x92, 4, 0, 1, 0, 0], MALFORMED, "flags"),
                (&[0x90, 3, 0, 1, 0], PROTOCOL_ERROR, "no code"),
                (&[0x90, 4, 0, 1, 0, 3], PROTOCOL_ERROR, "QoS 3"),
                (&[0x90, 4, 0, 1, 0, 0x11], PROTOCOL_ERROR, "code of UNSUBACK"),
            ],
        );
    }
}
