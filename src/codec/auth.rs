//! AUTH: a step of an extended authentication, in MQTT 5.0 only.

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

/// A step of an extended authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Auth<'a> {
    /// Success, continue or begin again.
    pub reason_code: ReasonCode,
    /// With the Authentication Method, unless the packet is a bare success.
    pub properties: Properties<'a>,
}

impl<'a> Auth<'a> {
    /// Reads the body. Only a success without properties may leave out all of it, and only that one may lack the
    /// Authentication Method.
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
            properties: reader.properties(version, PROPERTIES)?,
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
