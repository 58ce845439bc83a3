//! The 27 properties of MQTT 5.0: their types, ranges and encoding. Which packet may have which property, and how
//! often, is checked for a block as a whole.

use super::reader::Reader;
use super::{DecodeError, QoS, writer};
use crate::protocol::topic::TopicName;

/// A property of an MQTT 5.0 packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Property<'a> {
    /// Whether the payload is UTF-8.
    PayloadFormatIndicator(bool),
    /// The lifetime of the message in seconds.
    MessageExpiryInterval(u32),
    /// The type of the payload, as defined by the application.
    ContentType(&'a str),
    /// The Topic Name to publish a response to.
    ResponseTopic(TopicName<'a>),
    /// The data that identifies the request that a response belongs to.
    CorrelationData(&'a [u8]),
    /// The number that a client assigned to a subscription, 1 to 268,435,455.
    SubscriptionIdentifier(u32),
    /// The time in seconds for which a session outlives its connection; `u32::MAX` means for ever.
    SessionExpiryInterval(u32),
    /// The Client Identifier that the server assigned.
    AssignedClientIdentifier(&'a str),
    /// The Keep Alive in seconds that the server assigns, in place of the one that the client requested.
    ServerKeepAlive(u16),
    /// The name of the method for enhanced authentication.
    AuthenticationMethod(&'a str),
    /// The data for the Authentication Method.
    AuthenticationData(&'a [u8]),
    /// Whether the server may send Reason Strings and User Properties on failures.
    RequestProblemInformation(bool),
    /// The delay in seconds before the Will Message is published.
    WillDelayInterval(u32),
    /// Whether the client requests Response Information in CONNACK.
    RequestResponseInformation(bool),
    /// The text from which the client can create Response Topics.
    ResponseInformation(&'a str),
    /// Another server that the client can use.
    ServerReference(&'a str),
    /// A description of the reason for humans, for diagnostics.
    ReasonString(&'a str),
    /// The number of unacknowledged PUBLISH packets with QoS 1 and 2 that the sender of the property accepts at a
    /// time; not zero.
    ReceiveMaximum(u16),
    /// The highest Topic Alias that the sender of the property accepts; zero for none.
    TopicAliasMaximum(u16),
    /// The number that is used in place of a Topic Name; not zero.
    TopicAlias(u16),
    /// The highest QoS that the server supports: 0 or 1.
    MaximumQoS(QoS),
    /// Whether the server supports retained messages.
    RetainAvailable(bool),
    /// A name and a value, defined by the application.
    UserProperty(&'a str, &'a str),
    /// The length in bytes of the largest packet that the sender of the property accepts; not zero.
    MaximumPacketSize(u32),
    /// Whether the server supports wildcards in Topic Filters.
    WildcardSubscriptionAvailable(bool),
    /// Whether the server supports Subscription Identifiers.
    SubscriptionIdentifierAvailable(bool),
    /// Whether the server supports Shared Subscriptions.
    SharedSubscriptionAvailable(bool),
}

/// The identifiers of the properties on the wire.
pub(super) mod identifier {
    pub(in crate::protocol::codec) const PAYLOAD_FORMAT_INDICATOR: u8 = 0x01;
    pub(in crate::protocol::codec) const MESSAGE_EXPIRY_INTERVAL: u8 = 0x02;
    pub(in crate::protocol::codec) const CONTENT_TYPE: u8 = 0x03;
    pub(in crate::protocol::codec) const RESPONSE_TOPIC: u8 = 0x08;
    pub(in crate::protocol::codec) const CORRELATION_DATA: u8 = 0x09;
    pub(in crate::protocol::codec) const SUBSCRIPTION_IDENTIFIER: u8 = 0x0B;
    pub(in crate::protocol::codec) const SESSION_EXPIRY_INTERVAL: u8 = 0x11;
    pub(in crate::protocol::codec) const ASSIGNED_CLIENT_IDENTIFIER: u8 = 0x12;
    pub(in crate::protocol::codec) const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub(in crate::protocol::codec) const AUTHENTICATION_METHOD: u8 = 0x15;
    pub(in crate::protocol::codec) const AUTHENTICATION_DATA: u8 = 0x16;
    pub(in crate::protocol::codec) const REQUEST_PROBLEM_INFORMATION: u8 = 0x17;
    pub(in crate::protocol::codec) const WILL_DELAY_INTERVAL: u8 = 0x18;
    pub(in crate::protocol::codec) const REQUEST_RESPONSE_INFORMATION: u8 = 0x19;
    pub(in crate::protocol::codec) const RESPONSE_INFORMATION: u8 = 0x1A;
    pub(in crate::protocol::codec) const SERVER_REFERENCE: u8 = 0x1C;
    pub(in crate::protocol::codec) const REASON_STRING: u8 = 0x1F;
    pub(in crate::protocol::codec) const RECEIVE_MAXIMUM: u8 = 0x21;
    pub(in crate::protocol::codec) const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
    pub(in crate::protocol::codec) const TOPIC_ALIAS: u8 = 0x23;
    pub(in crate::protocol::codec) const MAXIMUM_QOS: u8 = 0x24;
    pub(in crate::protocol::codec) const RETAIN_AVAILABLE: u8 = 0x25;
    pub(in crate::protocol::codec) const USER_PROPERTY: u8 = 0x26;
    pub(in crate::protocol::codec) const MAXIMUM_PACKET_SIZE: u8 = 0x27;
    pub(in crate::protocol::codec) const WILDCARD_SUBSCRIPTION_AVAILABLE: u8 = 0x28;
    pub(in crate::protocol::codec) const SUBSCRIPTION_IDENTIFIER_AVAILABLE: u8 = 0x29;
    pub(in crate::protocol::codec) const SHARED_SUBSCRIPTION_AVAILABLE: u8 = 0x2A;
}

impl<'a> Property<'a> {
    /// The identifier on the wire.
    pub const fn identifier(&self) -> u8 {
        match self {
            Self::PayloadFormatIndicator(_) => identifier::PAYLOAD_FORMAT_INDICATOR,
            Self::MessageExpiryInterval(_) => identifier::MESSAGE_EXPIRY_INTERVAL,
            Self::ContentType(_) => identifier::CONTENT_TYPE,
            Self::ResponseTopic(_) => identifier::RESPONSE_TOPIC,
            Self::CorrelationData(_) => identifier::CORRELATION_DATA,
            Self::SubscriptionIdentifier(_) => identifier::SUBSCRIPTION_IDENTIFIER,
            Self::SessionExpiryInterval(_) => identifier::SESSION_EXPIRY_INTERVAL,
            Self::AssignedClientIdentifier(_) => identifier::ASSIGNED_CLIENT_IDENTIFIER,
            Self::ServerKeepAlive(_) => identifier::SERVER_KEEP_ALIVE,
            Self::AuthenticationMethod(_) => identifier::AUTHENTICATION_METHOD,
            Self::AuthenticationData(_) => identifier::AUTHENTICATION_DATA,
            Self::RequestProblemInformation(_) => identifier::REQUEST_PROBLEM_INFORMATION,
            Self::WillDelayInterval(_) => identifier::WILL_DELAY_INTERVAL,
            Self::RequestResponseInformation(_) => identifier::REQUEST_RESPONSE_INFORMATION,
            Self::ResponseInformation(_) => identifier::RESPONSE_INFORMATION,
            Self::ServerReference(_) => identifier::SERVER_REFERENCE,
            Self::ReasonString(_) => identifier::REASON_STRING,
            Self::ReceiveMaximum(_) => identifier::RECEIVE_MAXIMUM,
            Self::TopicAliasMaximum(_) => identifier::TOPIC_ALIAS_MAXIMUM,
            Self::TopicAlias(_) => identifier::TOPIC_ALIAS,
            Self::MaximumQoS(_) => identifier::MAXIMUM_QOS,
            Self::RetainAvailable(_) => identifier::RETAIN_AVAILABLE,
            Self::UserProperty(..) => identifier::USER_PROPERTY,
            Self::MaximumPacketSize(_) => identifier::MAXIMUM_PACKET_SIZE,
            Self::WildcardSubscriptionAvailable(_) => identifier::WILDCARD_SUBSCRIPTION_AVAILABLE,
            Self::SubscriptionIdentifierAvailable(_) => identifier::SUBSCRIPTION_IDENTIFIER_AVAILABLE,
            Self::SharedSubscriptionAvailable(_) => identifier::SHARED_SUBSCRIPTION_AVAILABLE,
        }
    }

    /// Reads one property and checks its value.
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(match reader.u8()? {
            identifier::PAYLOAD_FORMAT_INDICATOR => Self::PayloadFormatIndicator(boolean(reader)?),
            identifier::MESSAGE_EXPIRY_INTERVAL => Self::MessageExpiryInterval(reader.u32()?),
            identifier::CONTENT_TYPE => Self::ContentType(reader.string()?),
            // It has no wildcards [MQTT-3.3.2-14].
            identifier::RESPONSE_TOPIC => Self::ResponseTopic(reader.topic_name()?),
            identifier::CORRELATION_DATA => Self::CorrelationData(reader.binary()?),
            identifier::SUBSCRIPTION_IDENTIFIER => {
                Self::SubscriptionIdentifier(not_zero(reader.variable_byte_integer()?)?)
            }
            identifier::SESSION_EXPIRY_INTERVAL => Self::SessionExpiryInterval(reader.u32()?),
            identifier::ASSIGNED_CLIENT_IDENTIFIER => Self::AssignedClientIdentifier(reader.string()?),
            identifier::SERVER_KEEP_ALIVE => Self::ServerKeepAlive(reader.u16()?),
            identifier::AUTHENTICATION_METHOD => Self::AuthenticationMethod(reader.string()?),
            identifier::AUTHENTICATION_DATA => Self::AuthenticationData(reader.binary()?),
            identifier::REQUEST_PROBLEM_INFORMATION => Self::RequestProblemInformation(boolean(reader)?),
            identifier::WILL_DELAY_INTERVAL => Self::WillDelayInterval(reader.u32()?),
            identifier::REQUEST_RESPONSE_INFORMATION => Self::RequestResponseInformation(boolean(reader)?),
            identifier::RESPONSE_INFORMATION => Self::ResponseInformation(reader.string()?),
            identifier::SERVER_REFERENCE => Self::ServerReference(reader.string()?),
            identifier::REASON_STRING => Self::ReasonString(reader.string()?),
            identifier::RECEIVE_MAXIMUM => Self::ReceiveMaximum(not_zero(reader.u16()?)?),
            identifier::TOPIC_ALIAS_MAXIMUM => Self::TopicAliasMaximum(reader.u16()?),
            identifier::TOPIC_ALIAS => Self::TopicAlias(topic_alias(reader)?),
            identifier::MAXIMUM_QOS => Self::MaximumQoS(maximum_qos(reader)?),
            identifier::RETAIN_AVAILABLE => Self::RetainAvailable(boolean(reader)?),
            identifier::USER_PROPERTY => Self::UserProperty(reader.string()?, reader.string()?),
            identifier::MAXIMUM_PACKET_SIZE => Self::MaximumPacketSize(not_zero(reader.u32()?)?),
            identifier::WILDCARD_SUBSCRIPTION_AVAILABLE => {
                Self::WildcardSubscriptionAvailable(boolean(reader)?)
            }
            identifier::SUBSCRIPTION_IDENTIFIER_AVAILABLE => {
                Self::SubscriptionIdentifierAvailable(boolean(reader)?)
            }
            identifier::SHARED_SUBSCRIPTION_AVAILABLE => Self::SharedSubscriptionAvailable(boolean(reader)?),
            _ => return Err(DecodeError::Malformed("unknown property")),
        })
    }

    /// Appends the property, starting with its identifier.
    pub(super) fn encode(&self, into: &mut Vec<u8>) {
        into.push(self.identifier());
        match *self {
            Self::PayloadFormatIndicator(value)
            | Self::RequestProblemInformation(value)
            | Self::RequestResponseInformation(value)
            | Self::RetainAvailable(value)
            | Self::WildcardSubscriptionAvailable(value)
            | Self::SubscriptionIdentifierAvailable(value)
            | Self::SharedSubscriptionAvailable(value) => into.push(u8::from(value)),
            Self::MaximumQoS(qos) => into.push(qos.level()),
            Self::ServerKeepAlive(value)
            | Self::ReceiveMaximum(value)
            | Self::TopicAliasMaximum(value)
            | Self::TopicAlias(value) => writer::u16(into, value),
            Self::MessageExpiryInterval(value)
            | Self::SessionExpiryInterval(value)
            | Self::WillDelayInterval(value)
            | Self::MaximumPacketSize(value) => writer::u32(into, value),
            Self::SubscriptionIdentifier(value) => {
                writer::variable_byte_integer(into, usize::try_from(value).unwrap_or(usize::MAX));
            }
            Self::ContentType(text)
            | Self::AssignedClientIdentifier(text)
            | Self::AuthenticationMethod(text)
            | Self::ResponseInformation(text)
            | Self::ServerReference(text)
            | Self::ReasonString(text) => writer::string(into, text),
            Self::ResponseTopic(topic) => writer::string(into, topic.as_str()),
            Self::CorrelationData(bytes) | Self::AuthenticationData(bytes) => writer::binary(into, bytes),
            Self::UserProperty(name, value) => {
                writer::string(into, name);
                writer::string(into, value);
            }
        }
    }
}

fn boolean(reader: &mut Reader<'_>) -> Result<bool, DecodeError> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::ProtocolError("property is neither 0 nor 1")),
    }
}

fn not_zero<T: Default + PartialEq>(value: T) -> Result<T, DecodeError> {
    if value == T::default() {
        return Err(DecodeError::ProtocolError("property is 0"));
    }
    Ok(value)
}

/// Reads a Topic Alias, which cannot be zero [MQTT-3.3.2-8].
fn topic_alias(reader: &mut Reader<'_>) -> Result<u16, DecodeError> {
    match reader.u16()? {
        0 => Err(DecodeError::TopicAliasInvalid),
        alias => Ok(alias),
    }
}

fn maximum_qos(reader: &mut Reader<'_>) -> Result<QoS, DecodeError> {
    boolean(reader).map(|one| if one { QoS::AtLeastOnce } else { QoS::AtMostOnce })
}
