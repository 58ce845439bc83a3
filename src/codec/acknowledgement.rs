//! PUBACK, PUBREC, PUBREL and PUBCOMP: four names for one shape.

use super::properties::PropertySet;
use super::property::identifier;
use super::reader::Reader;
use super::{DecodeError, PacketIdentifier, Properties, ProtocolVersion, ReasonCode, writer};

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

/// What PUBACK, PUBREC, PUBREL and PUBCOMP say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledgement<'a> {
    /// The Packet Identifier of the PUBLISH.
    pub packet_identifier: PacketIdentifier,
    /// Always success before MQTT 5.0.
    pub reason_code: ReasonCode,
    /// None before MQTT 5.0.
    pub properties: Properties<'a>,
}

impl<'a> Acknowledgement<'a> {
    /// An acknowledgement with this Reason Code and no properties.
    #[inline]
    pub fn new(packet_identifier: PacketIdentifier, reason_code: ReasonCode) -> Self {
        Self { packet_identifier, reason_code, properties: Properties::default() }
    }

    /// Reads the body. Success may be left out, and so may the length of no properties.
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
                this.properties = reader.properties(version, PROPERTIES)?;
            }
        }
        reader.finish()?;
        Ok(this)
    }

    /// Appends the packet that begins with `first_byte`, in its shortest form.
    #[inline]
    pub(super) fn encode(&self, first_byte: u8, version: ProtocolVersion, into: &mut Vec<u8>) {
        let is_plain = self.reason_code == ReasonCode::Success && self.properties.is_empty();
        if is_plain || version != ProtocolVersion::V5 {
            let [high, low] = self.packet_identifier.value().to_be_bytes();
            into.extend_from_slice(&[first_byte, 2, high, low]);
            return;
        }
        writer::packet(into, first_byte, |into| {
            writer::u16(into, self.packet_identifier.value());
            writer::reason_code(into, self.reason_code);
            if !self.properties.is_empty() {
                self.properties.encode(version, into);
            }
        });
    }
}
