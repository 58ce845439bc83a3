//! DISCONNECT: the last packet of a connection.

use super::properties::PropertySet;
use super::property::identifier;
use super::reader::Reader;
use super::{DecodeError, Properties, ProtocolVersion, ReasonCode, kind, writer};

const PROPERTIES: PropertySet = PropertySet::of(&[
    identifier::SESSION_EXPIRY_INTERVAL,
    identifier::REASON_STRING,
    identifier::SERVER_REFERENCE,
]);

/// The Reason Codes of DISCONNECT, in both directions [MQTT-3.14.2-1].
const LISTED: &[ReasonCode] = &[
    ReasonCode::Success,
    ReasonCode::DisconnectWithWillMessage,
    ReasonCode::UnspecifiedError,
    ReasonCode::MalformedPacket,
    ReasonCode::ProtocolError,
    ReasonCode::ImplementationSpecificError,
    ReasonCode::NotAuthorized,
    ReasonCode::ServerBusy,
    ReasonCode::ServerShuttingDown,
    ReasonCode::BadAuthenticationMethod,
    ReasonCode::KeepAliveTimeout,
    ReasonCode::SessionTakenOver,
    ReasonCode::TopicFilterInvalid,
    ReasonCode::TopicNameInvalid,
    ReasonCode::ReceiveMaximumExceeded,
    ReasonCode::TopicAliasInvalid,
    ReasonCode::PacketTooLarge,
    ReasonCode::MessageRateTooHigh,
    ReasonCode::QuotaExceeded,
    ReasonCode::AdministrativeAction,
    ReasonCode::PayloadFormatInvalid,
    ReasonCode::RetainNotSupported,
    ReasonCode::QoSNotSupported,
    ReasonCode::UseAnotherServer,
    ReasonCode::ServerMoved,
    ReasonCode::SharedSubscriptionsNotSupported,
    ReasonCode::ConnectionRateExceeded,
    ReasonCode::MaximumConnectTime,
    ReasonCode::SubscriptionIdentifiersNotSupported,
    ReasonCode::WildcardSubscriptionsNotSupported,
];

/// The end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disconnect<'a> {
    /// Why the connection ends. Always success before MQTT 5.0.
    pub reason_code: ReasonCode,
    /// Empty before MQTT 5.0.
    pub properties: Properties<'a>,
}

impl<'a> Disconnect<'a> {
    /// A DISCONNECT with this Reason Code and no properties.
    pub fn new(reason_code: ReasonCode) -> Self {
        Self { reason_code, properties: Properties::default() }
    }

    /// Decodes the body. The Reason Code may be omitted if it is success, and the Property Length if there are no
    /// properties.
    pub(super) fn decode(body: &'a [u8], version: ProtocolVersion) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let mut this = Self::new(ReasonCode::Success);
        if reader.is_empty() {
            return Ok(this);
        }
        if version == ProtocolVersion::V5 {
            this.reason_code = reader.reason_code(LISTED)?;
            if !reader.is_empty() {
                this.properties = Properties::read(&mut reader, version, PROPERTIES)?;
            }
        }
        reader.finish()?;
        Ok(this)
    }

    pub(super) fn encode(&self, version: ProtocolVersion, into: &mut Vec<u8>) {
        writer::packet(into, kind::DISCONNECT << 4, |into| {
            let is_plain = self.reason_code == ReasonCode::Success && self.properties.is_empty();
            if is_plain || version != ProtocolVersion::V5 {
                return;
            }
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

    #[test]
    fn golden() {
        let normal = Packet::Disconnect(Disconnect::new(ReasonCode::Success));
        for version in ALL {
            assert_golden(version, &[0xE0, 0], &normal);
        }
        assert_decodes(V5, &[0xE0, 1, 0], &normal);
        assert_decodes(V5, &[0xE0, 2, 0, 0], &normal);
        let taken_over = Packet::Disconnect(Disconnect::new(ReasonCode::SessionTakenOver));
        assert_golden(V5, &[0xE0, 1, 0x8E], &taken_over);
        let properties = block(&[Property::SessionExpiryInterval(5), Property::ServerReference("b")]);
        let full = Disconnect { reason_code: ReasonCode::Success, properties: properties.properties() };
        let bytes = b"\xE0\x0B\x00\x09\x11\x00\x00\x00\x05\x1C\x00\x01b";
        assert_golden(V5, bytes, &Packet::Disconnect(full));
    }

    #[test]
    fn illegal() {
        for version in OLD {
            assert_illegal(version, &[(&[0xE0, 1, 0], MALFORMED, "left over")]);
        }
        assert_illegal(V311, &[(&[0xE1, 0], MALFORMED, "flags")]);
        assert_illegal(
            V5,
            &[
                (&[0xE1, 0], MALFORMED, "flags"),
                (&[0xE0, 1, 0x01], PROTOCOL_ERROR, "code of SUBACK"),
                (&[0xE0, 1, 0x92], PROTOCOL_ERROR, "code of PUBREL"),
                (&[0xE0, 1, 0xFF], PROTOCOL_ERROR, "unknown code"),
                (&[0xE0, 3, 0, 0, 0], MALFORMED, "left over"),
                (&[0xE0, 5, 0, 3, 0x21, 0, 1], MALFORMED, "receive maximum"),
            ],
        );
    }
}
