//! The errors that a peer can make in a single packet.

use std::fmt;

use super::ReasonCode;
use crate::protocol::topic::TopicError;

/// Why bytes cannot be decoded as a packet. Always the peer's fault; the texts are for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The bytes cannot be parsed according to the standard.
    Malformed(&'static str),
    /// The packet can be parsed, but contains something that the protocol does not allow.
    ProtocolError(&'static str),
    /// A Topic Name is not valid.
    TopicName(TopicError),
    /// A Topic Filter is not valid.
    TopicFilter(TopicError),
    /// The packet is larger than the receiver accepts.
    PacketTooLarge,
    /// The Protocol Name or the protocol level of CONNECT is not supported [MQTT-3.1.2-1] [MQTT-3.1.2-2].
    UnsupportedProtocolVersion,
    /// The Client Identifier is not valid in its version.
    ClientIdentifierNotValid,
    /// The Topic Alias is zero [MQTT-3.3.2-8].
    TopicAliasInvalid,
}

impl DecodeError {
    /// The Reason Code of MQTT 5.0 for this error.
    pub const fn reason_code(self) -> ReasonCode {
        match self {
            // The protocol allows so many levels, this broker does not.
            Self::TopicName(TopicError::TooManyLevels) => ReasonCode::TopicNameInvalid,
            Self::TopicFilter(TopicError::TooManyLevels) => ReasonCode::TopicFilterInvalid,
            Self::Malformed(_) | Self::TopicName(_) | Self::TopicFilter(_) => ReasonCode::MalformedPacket,
            Self::ProtocolError(_) => ReasonCode::ProtocolError,
            Self::PacketTooLarge => ReasonCode::PacketTooLarge,
            Self::UnsupportedProtocolVersion => ReasonCode::UnsupportedProtocolVersion,
            Self::ClientIdentifierNotValid => ReasonCode::ClientIdentifierNotValid,
            Self::TopicAliasInvalid => ReasonCode::TopicAliasInvalid,
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(what) => write!(formatter, "malformed packet: {what}"),
            Self::ProtocolError(what) => write!(formatter, "protocol error: {what}"),
            Self::TopicName(why) | Self::TopicFilter(why) => {
                write!(formatter, "{}: {why}", self.reason_code())
            }
            other => other.reason_code().fmt(formatter),
        }
    }
}

impl std::error::Error for DecodeError {}
