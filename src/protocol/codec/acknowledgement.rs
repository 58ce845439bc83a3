//! PUBACK, PUBREC, PUBREL and PUBCOMP: four packets of the same form.

use super::properties::PropertySet;
use super::property::identifier;
use super::reader::Reader;
use super::{DecodeError, PacketIdentifier, Properties, ProtocolVersion, ReasonCode, kind, writer};

const PROPERTIES: PropertySet = PropertySet::of(&[identifier::REASON_STRING]);

/// The Reason Codes of PUBACK and PUBREC [MQTT-3.4.2-1] [MQTT-3.5.2-1].
pub(super) const OF_A_MESSAGE: &[ReasonCode] = &[
    ReasonCode::Success,
    ReasonCode::NoMatchingSubscribers,
    ReasonCode::UnspecifiedError,
    ReasonCode::ImplementationSpecificError,
    ReasonCode::NotAuthorized,
    ReasonCode::TopicNameInvalid,
    ReasonCode::PacketIdentifierInUse,
    ReasonCode::QuotaExceeded,
    ReasonCode::PayloadFormatInvalid,
];

/// The Reason Codes of PUBREL and PUBCOMP [MQTT-3.6.2-1] [MQTT-3.7.2-1].
pub(super) const OF_A_RELEASE: &[ReasonCode] = &[ReasonCode::Success, ReasonCode::PacketIdentifierNotFound];

/// The four acknowledgements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcknowledgementKind {
    /// The response to a PUBLISH with QoS 1.
    PubAck,
    /// The first response to a PUBLISH with QoS 2.
    PubRec,
    /// The response to PUBREC.
    PubRel,
    /// The response to PUBREL.
    PubComp,
}

impl AcknowledgementKind {
    /// The length in bytes of an acknowledgement without a Reason Code and properties.
    pub const PLAIN_LENGTH: usize = 4;

    pub(super) const ALL: [Self; 4] = [Self::PubAck, Self::PubRec, Self::PubRel, Self::PubComp];

    #[inline]
    pub(super) const fn first_byte(self) -> u8 {
        match self {
            Self::PubAck => kind::PUBACK << 4,
            Self::PubRec => kind::PUBREC << 4,
            // [MQTT-3.6.1-1]
            Self::PubRel => kind::PUBREL << 4 | 0b0010,
            Self::PubComp => kind::PUBCOMP << 4,
        }
    }

    /// The complete packet for success without properties. It is the same in all versions.
    #[inline]
    pub const fn plain(self, packet_identifier: PacketIdentifier) -> [u8; Self::PLAIN_LENGTH] {
        let [high, low] = packet_identifier.value().to_be_bytes();
        [self.first_byte(), 2, high, low]
    }
}

/// The content of PUBACK, PUBREC, PUBREL and PUBCOMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledgement<'a> {
    /// The Packet Identifier of the PUBLISH.
    pub packet_identifier: PacketIdentifier,
    /// Always success before MQTT 5.0.
    pub reason_code: ReasonCode,
    /// Empty before MQTT 5.0.
    pub properties: Properties<'a>,
}

impl<'a> Acknowledgement<'a> {
    /// An acknowledgement with this Reason Code and no properties.
    #[inline]
    pub fn new(packet_identifier: PacketIdentifier, reason_code: ReasonCode) -> Self {
        Self { packet_identifier, reason_code, properties: Properties::default() }
    }

    /// Decodes the body. The Reason Code may be omitted if it is success, and the Property Length if there are no
    /// properties.
    #[inline]
    pub(super) fn decode(
        body: &'a [u8],
        version: ProtocolVersion,
        listed: &[ReasonCode],
    ) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let mut this = Self::new(reader.packet_identifier()?, ReasonCode::Success);
        if reader.is_empty() {
            return Ok(this);
        }
        if version == ProtocolVersion::V5 {
            this.reason_code = reader.reason_code(listed)?;
            if !reader.is_empty() {
                this.properties = Properties::read(&mut reader, version, PROPERTIES)?;
            }
        }
        reader.finish()?;
        Ok(this)
    }

    /// Appends the packet in its shortest form.
    #[inline]
    pub(super) fn encode(&self, kind: AcknowledgementKind, version: ProtocolVersion, into: &mut Vec<u8>) {
        let is_plain = self.reason_code == ReasonCode::Success && self.properties.is_empty();
        if is_plain || version != ProtocolVersion::V5 {
            into.extend_from_slice(&kind.plain(self.packet_identifier));
            return;
        }
        writer::packet(into, kind.first_byte(), |into| {
            writer::u16(into, self.packet_identifier.value());
            writer::reason_code(into, self.reason_code);
            if !self.properties.is_empty() {
                self.properties.encode(version, into);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::codec::testing::*;
    use crate::protocol::codec::{Packet, Property};

    /// The four packets with their first bytes.
    fn four(acknowledgement: Acknowledgement<'_>) -> [(u8, Packet<'_>); 4] {
        [
            (0x40, Packet::PubAck(acknowledgement)),
            (0x50, Packet::PubRec(acknowledgement)),
            (0x62, Packet::PubRel(acknowledgement)),
            (0x70, Packet::PubComp(acknowledgement)),
        ]
    }

    #[test]
    fn golden_in_all_versions() {
        let success = Acknowledgement::new(identifier(0x0A0B), ReasonCode::Success);
        for (first_byte, packet) in four(success) {
            for version in ALL {
                assert_golden(version, &[first_byte, 2, 0x0A, 0x0B], &packet);
            }
            assert_decodes(V5, &[first_byte, 3, 0x0A, 0x0B, 0], &packet);
            assert_decodes(V5, &[first_byte, 4, 0x0A, 0x0B, 0, 0], &packet);
        }
    }

    #[test]
    fn golden_of_5() {
        let refused = Acknowledgement::new(identifier(1), ReasonCode::NotAuthorized);
        assert_golden(V5, &[0x40, 3, 0, 1, 0x87], &Packet::PubAck(refused));
        let unknown = Acknowledgement::new(identifier(1), ReasonCode::PacketIdentifierNotFound);
        assert_golden(V5, &[0x62, 3, 0, 1, 0x92], &Packet::PubRel(unknown));
        let properties = block(&[Property::ReasonString("no"), Property::UserProperty("k", "v")]);
        let talkative = Acknowledgement {
            properties: properties.properties(),
            ..Acknowledgement::new(identifier(1), ReasonCode::Success)
        };
        for (first_byte, packet) in four(talkative) {
            let mut bytes = vec![first_byte, 0x10, 0, 1, 0, 0x0C];
            bytes.extend_from_slice(b"\x1F\x00\x02no\x26\x00\x01k\x00\x01v");
            assert_golden(V5, &bytes, &packet);
        }
    }

    #[test]
    fn before_5_only_the_packet_identifier_is_written() {
        let refused = Acknowledgement::new(identifier(1), ReasonCode::NotAuthorized);
        for version in OLD {
            let mut encoded = Vec::new();
            Packet::PubAck(refused).encode(version, &mut encoded);
            assert_eq!(encoded, [0x40, 2, 0, 1]);
        }
    }

    #[test]
    fn illegal() {
        for first_byte in [0x40, 0x50, 0x62, 0x70] {
            for version in ALL {
                assert_illegal(
                    version,
                    &[
                        (&[first_byte, 2, 0, 0], PROTOCOL_ERROR, "packet identifier 0"),
                        (&[first_byte, 1, 0], MALFORMED, "half a packet identifier"),
                        (&[first_byte, 0], MALFORMED, "no body"),
                    ],
                );
            }
            for version in [V311, V5] {
                assert_illegal(version, &[(&[first_byte ^ 8, 2, 0, 1], MALFORMED, "DUP")]);
                assert_illegal(version, &[(&[first_byte ^ 2, 2, 0, 1], MALFORMED, "other reserved flags")]);
            }
            for version in OLD {
                assert_illegal(version, &[(&[first_byte, 3, 0, 1, 0], MALFORMED, "left over")]);
            }
            assert_illegal(
                V5,
                &[
                    (&[first_byte, 5, 0, 1, 0, 0, 0], MALFORMED, "left over"),
                    (&[first_byte, 3, 0, 1, 0x8D], PROTOCOL_ERROR, "code of another packet"),
                    (&[first_byte, 3, 0, 1, 0x05], PROTOCOL_ERROR, "unknown code"),
                    (&[first_byte, 7, 0, 1, 0, 3, 0x23, 0, 1], MALFORMED, "topic alias"),
                ],
            );
        }
        assert_illegal(
            V5,
            &[
                (&[0x40, 3, 0, 1, 0x92], PROTOCOL_ERROR, "PUBACK of an unknown packet identifier"),
                (&[0x62, 3, 0, 1, 0x87], PROTOCOL_ERROR, "PUBREL that is not authorized"),
            ],
        );
    }

    #[test]
    fn mqtt_3_1_repeats_a_release_with_dup() {
        let release = Packet::PubRel(Acknowledgement::new(identifier(1), ReasonCode::Success));
        assert_decodes(V31, &[0x6A, 2, 0, 1], &release);
    }
}
