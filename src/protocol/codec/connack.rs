//! CONNACK: the response to CONNECT.

use super::properties::PropertySet;
use super::property::identifier;
use super::reader::Reader;
use super::{DecodeError, Properties, ProtocolVersion, kind, writer};

const PROPERTIES: PropertySet = PropertySet::of(&[
    identifier::SESSION_EXPIRY_INTERVAL,
    identifier::RECEIVE_MAXIMUM,
    identifier::MAXIMUM_QOS,
    identifier::RETAIN_AVAILABLE,
    identifier::MAXIMUM_PACKET_SIZE,
    identifier::ASSIGNED_CLIENT_IDENTIFIER,
    identifier::TOPIC_ALIAS_MAXIMUM,
    identifier::REASON_STRING,
    identifier::WILDCARD_SUBSCRIPTION_AVAILABLE,
    identifier::SUBSCRIPTION_IDENTIFIER_AVAILABLE,
    identifier::SHARED_SUBSCRIPTION_AVAILABLE,
    identifier::SERVER_KEEP_ALIVE,
    identifier::RESPONSE_INFORMATION,
    identifier::SERVER_REFERENCE,
    identifier::AUTHENTICATION_METHOD,
    identifier::AUTHENTICATION_DATA,
]);

/// The Reason Codes of CONNACK [MQTT-3.2.2-8].
const LISTED: &[u8] = &[
    0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97, 0x99,
    0x9A, 0x9B, 0x9C, 0x9D, 0x9F,
];

/// The return codes of MQTT 3.1 and 3.1.1.
const LISTED_BEFORE_5: &[u8] = &[0, 1, 2, 3, 4, 5];

/// The response to CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnAck<'a> {
    /// Whether the server resumes a stored session. MQTT 3.1 does not report it.
    pub session_present: bool,
    /// The Reason Code in MQTT 5.0, the return code 0 to 5 in earlier versions.
    pub code: u8,
    /// Empty before MQTT 5.0.
    pub properties: Properties<'a>,
}

impl<'a> ConnAck<'a> {
    pub(super) fn decode(body: &'a [u8], version: ProtocolVersion) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let session_present = match (version, reader.u8()?) {
            // MQTT 3.1 does not use the byte.
            (ProtocolVersion::V31, _) | (_, 0) => false,
            (_, 1) => true,
            // [MQTT-3.2.2-1]
            _ => return Err(DecodeError::Malformed("reserved flags of CONNACK")),
        };
        let code = reader.u8()?;
        let listed = if version == ProtocolVersion::V5 { LISTED } else { LISTED_BEFORE_5 };
        if !listed.contains(&code) {
            return Err(DecodeError::ProtocolError("reason code not allowed in this packet"));
        }
        // [MQTT-3.2.2-6]
        if session_present && code != 0 {
            return Err(DecodeError::ProtocolError("session present in a refusal"));
        }
        let properties = Properties::read(&mut reader, version, PROPERTIES)?;
        reader.finish()?;
        Ok(Self { session_present, code, properties })
    }

    pub(super) fn encode(&self, version: ProtocolVersion, into: &mut Vec<u8>) {
        writer::packet(into, kind::CONNACK << 4, |into| {
            into.push(u8::from(self.session_present && version != ProtocolVersion::V31));
            into.push(self.code);
            self.properties.encode(version, into);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::codec::testing::*;
    use crate::protocol::codec::{Packet, Property, QoS};

    #[test]
    fn golden_before_5() {
        let refused = ConnAck { session_present: false, code: 5, properties: Properties::default() };
        for version in OLD {
            assert_golden(version, &[0x20, 2, 0, 5], &Packet::ConnAck(refused));
        }
        let resumed = ConnAck { session_present: true, code: 0, ..refused };
        assert_golden(V311, &[0x20, 2, 1, 0], &Packet::ConnAck(resumed));
        // MQTT 3.1 neither writes nor reads the flag.
        let fresh = ConnAck { session_present: false, ..resumed };
        assert_decodes(V31, &[0x20, 2, 1, 0], &Packet::ConnAck(fresh));
        let mut encoded = Vec::new();
        Packet::ConnAck(resumed).encode(V31, &mut encoded);
        assert_eq!(encoded, [0x20, 2, 0, 0]);
    }

    #[test]
    fn golden_of_5() {
        let plain = ConnAck { session_present: true, code: 0, properties: Properties::default() };
        assert_golden(V5, &[0x20, 3, 1, 0, 0], &Packet::ConnAck(plain));
        let properties = block(&[
            Property::ReceiveMaximum(20),
            Property::MaximumQoS(QoS::AtLeastOnce),
            Property::RetainAvailable(false),
            Property::AssignedClientIdentifier("x"),
            Property::ServerKeepAlive(60),
            Property::MaximumPacketSize(65_536),
        ]);
        let full = ConnAck { session_present: false, code: 0, properties: properties.properties() };
        let bytes =
            b"\x20\x16\x00\x00\x13\x21\x00\x14\x24\x01\x25\x00\x12\x00\x01x\x13\x00\x3C\x27\x00\x01\x00\x00";
        assert_golden(V5, bytes, &Packet::ConnAck(full));
    }

    #[test]
    fn illegal() {
        for version in OLD {
            assert_illegal(
                version,
                &[
                    (&[0x20, 2, 0, 6], PROTOCOL_ERROR, "return code 6"),
                    (&[0x20, 1, 0], MALFORMED, "too short"),
                    (&[0x20, 3, 0, 0, 0], MALFORMED, "left over"),
                ],
            );
        }
        assert_illegal(
            V311,
            &[
                (&[0x20, 2, 2, 0], MALFORMED, "reserved bits"),
                (&[0x20, 2, 1, 5], PROTOCOL_ERROR, "session present in a refusal"),
                (&[0x21, 2, 0, 0], MALFORMED, "flags"),
            ],
        );
        assert_illegal(
            V5,
            &[
                (&[0x20, 2, 0, 0], MALFORMED, "no property length"),
                (&[0x20, 3, 0x81, 0, 0], MALFORMED, "reserved bits"),
                (&[0x20, 3, 1, 0x87, 0], PROTOCOL_ERROR, "session present in a refusal"),
                (&[0x20, 3, 0, 1, 0], PROTOCOL_ERROR, "return code of MQTT 3.1.1"),
                (&[0x20, 5, 0, 0, 2, 0x24, 2], PROTOCOL_ERROR, "maximum QoS 2"),
                (&[0x20, 5, 0, 0, 2, 0x17, 0], MALFORMED, "request problem information"),
            ],
        );
    }
}
