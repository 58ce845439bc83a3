//! AUTH: a step of enhanced authentication, in MQTT 5.0 only.

use super::properties::PropertySet;
use super::property::identifier;
use super::reader::Reader;
use super::{DecodeError, Properties, ProtocolVersion, ReasonCode, kind, writer};

const PROPERTIES: PropertySet = PropertySet::of(&[
    identifier::AUTHENTICATION_METHOD,
    identifier::AUTHENTICATION_DATA,
    identifier::REASON_STRING,
]);

/// The Reason Codes of AUTH [MQTT-3.15.2-1].
const LISTED: &[ReasonCode] =
    &[ReasonCode::Success, ReasonCode::ContinueAuthentication, ReasonCode::ReAuthenticate];

/// A step of enhanced authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Auth<'a> {
    /// Success, Continue authentication or Re-authenticate.
    pub reason_code: ReasonCode,
    /// They contain the Authentication Method, unless the packet is a success without properties.
    pub properties: Properties<'a>,
}

impl<'a> Auth<'a> {
    /// Decodes the body. Only a success without properties may have an empty body and may lack the Authentication
    /// Method.
    pub(super) fn decode(body: &'a [u8], version: ProtocolVersion) -> Result<Self, DecodeError> {
        if version != ProtocolVersion::V5 {
            return Err(DecodeError::Malformed("AUTH before MQTT 5.0"));
        }
        if body.is_empty() {
            return Ok(Self { reason_code: ReasonCode::Success, properties: Properties::default() });
        }
        let mut reader = Reader::new(body);
        let this = Self {
            reason_code: reader.reason_code(LISTED)?,
            properties: Properties::read(&mut reader, version, PROPERTIES)?,
        };
        reader.finish()?;
        if !this.is_bare() && this.properties.authentication_method().is_none() {
            return Err(DecodeError::ProtocolError("AUTH without an authentication method"));
        }
        Ok(this)
    }

    pub(super) fn encode(&self, version: ProtocolVersion, into: &mut Vec<u8>) {
        assert!(version == ProtocolVersion::V5, "AUTH before MQTT 5.0");
        writer::packet(into, kind::AUTH << 4, |into| {
            if self.is_bare() {
                return;
            }
            writer::reason_code(into, self.reason_code);
            self.properties.encode(version, into);
        });
    }

    fn is_bare(&self) -> bool {
        self.reason_code == ReasonCode::Success && self.properties.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::codec::testing::*;
    use crate::protocol::codec::{Packet, Property};

    #[test]
    fn golden() {
        let bare = Auth { reason_code: ReasonCode::Success, properties: Properties::default() };
        assert_golden(V5, &[0xF0, 0], &Packet::Auth(bare));
        assert_decodes(V5, &[0xF0, 2, 0, 0], &Packet::Auth(bare));
        let properties = block(&[Property::AuthenticationMethod("M"), Property::AuthenticationData(&[0, 1])]);
        let step =
            Auth { reason_code: ReasonCode::ContinueAuthentication, properties: properties.properties() };
        assert_golden(V5, b"\xF0\x0B\x18\x09\x15\x00\x01M\x16\x00\x02\x00\x01", &Packet::Auth(step));
    }

    #[test]
    fn illegal() {
        for version in OLD {
            assert_illegal(version, &[(&[0xF0, 0], MALFORMED, "not of this version")]);
        }
        assert_illegal(
            V5,
            &[
                (&[0xF1, 0], MALFORMED, "flags"),
                (&[0xF0, 1, 0x18], MALFORMED, "no property length"),
                (&[0xF0, 2, 0x18, 0], PROTOCOL_ERROR, "no method"),
                (&[0xF0, 2, 0x80, 0], PROTOCOL_ERROR, "code of another packet"),
                (b"\xF0\x05\x18\x03\x16\x00\x00", PROTOCOL_ERROR, "data without a method"),
                (b"\xF0\x0A\x18\x08\x15\x00\x01M\x15\x00\x01M", PROTOCOL_ERROR, "method twice"),
                (b"\xF0\x07\x18\x04\x15\x00\x01M\x00", MALFORMED, "left over"),
            ],
        );
    }
}
