//! A block of properties of MQTT 5.0: which properties a packet may have and how often, access to the values, and the
//! buffer to build a block in.

use super::property::identifier::{
    AUTHENTICATION_DATA, AUTHENTICATION_METHOD, SUBSCRIPTION_IDENTIFIER, USER_PROPERTY,
};
use super::reader::{Reader, TOO_SHORT};
use super::{DecodeError, Property, ProtocolVersion, QoS, writer};
use crate::protocol::topic::TopicName;

/// The properties that a packet may have, one bit each, and those that may occur more than once.
#[derive(Clone, Copy, Debug)]
pub(super) struct PropertySet {
    allowed: u64,
    repeatable: u64,
}

impl PropertySet {
    /// The properties with these identifiers, and User Properties, which every packet may have more than once.
    pub(super) const fn of(identifiers: &[u8]) -> Self {
        let mut allowed = bit(USER_PROPERTY);
        let mut rest = identifiers;
        while let [first, others @ ..] = rest {
            allowed |= bit(*first);
            rest = others;
        }
        Self { allowed, repeatable: bit(USER_PROPERTY) }
    }

    /// The same set with Subscription Identifiers that may occur more than once, as in PUBLISH.
    pub(super) const fn with_subscription_identifiers(self) -> Self {
        let subscription_identifiers = bit(SUBSCRIPTION_IDENTIFIER);
        Self {
            allowed: self.allowed | subscription_identifiers,
            repeatable: self.repeatable | subscription_identifiers,
        }
    }
}

/// The bit of a property. All identifiers in use are below 64.
const fn bit(identifier: u8) -> u64 {
    1 << (identifier & 0x3F)
}

/// A checked block of properties, without the Property Length that precedes it on the wire. Empty by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Properties<'a> {
    bytes: &'a [u8],
}

/// Defines the accessors of the properties that a block may have only once.
macro_rules! accessors {
    ($($name:ident, $variant:ident, $value:ty;)*) => {
        impl<'a> Properties<'a> {
            $(
                #[doc = concat!("The value of [`Property::", stringify!($variant), "`], if the block has it.")]
                pub fn $name(&self) -> Option<$value> {
                    self.iter().find_map(|property| match property {
                        Property::$variant(value) => Some(value),
                        _ => None,
                    })
                }
            )*
        }
    };
}

accessors! {
    payload_format_indicator, PayloadFormatIndicator, bool;
    message_expiry_interval, MessageExpiryInterval, u32;
    content_type, ContentType, &'a str;
    response_topic, ResponseTopic, TopicName<'a>;
    correlation_data, CorrelationData, &'a [u8];
    session_expiry_interval, SessionExpiryInterval, u32;
    assigned_client_identifier, AssignedClientIdentifier, &'a str;
    server_keep_alive, ServerKeepAlive, u16;
    authentication_method, AuthenticationMethod, &'a str;
    authentication_data, AuthenticationData, &'a [u8];
    request_problem_information, RequestProblemInformation, bool;
    will_delay_interval, WillDelayInterval, u32;
    request_response_information, RequestResponseInformation, bool;
    response_information, ResponseInformation, &'a str;
    server_reference, ServerReference, &'a str;
    reason_string, ReasonString, &'a str;
    receive_maximum, ReceiveMaximum, u16;
    topic_alias_maximum, TopicAliasMaximum, u16;
    topic_alias, TopicAlias, u16;
    maximum_qos, MaximumQoS, QoS;
    retain_available, RetainAvailable, bool;
    maximum_packet_size, MaximumPacketSize, u32;
    wildcard_subscription_available, WildcardSubscriptionAvailable, bool;
    subscription_identifier_available, SubscriptionIdentifierAvailable, bool;
    shared_subscription_available, SharedSubscriptionAvailable, bool;
}

impl<'a> Properties<'a> {
    /// A block whose bytes were returned by [`Properties::bytes`], so they have already been checked.
    #[inline]
    pub const fn trusted(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// The bytes of the properties on the wire, without the Property Length.
    #[inline]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Whether there are no properties.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The properties, in order.
    pub fn iter(&self) -> impl Iterator<Item = Property<'a>> + use<'a> {
        self.encoded().map(|(property, _)| property)
    }

    /// The properties, in order, each with its bytes on the wire.
    pub fn encoded(&self) -> impl Iterator<Item = (Property<'a>, &'a [u8])> + use<'a> {
        let mut reader = Reader::new(self.bytes);
        std::iter::from_fn(move || {
            let before = reader.rest();
            let property = Property::read(&mut reader).ok()?;
            let (own, _) = before.split_at_checked(before.len() - reader.rest().len())?;
            Some((property, own))
        })
    }

    /// The names and values of the User Properties, in order.
    pub fn user_properties(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.iter().filter_map(|property| match property {
            Property::UserProperty(name, value) => Some((name, value)),
            _ => None,
        })
    }

    /// The Subscription Identifiers, in order.
    pub fn subscription_identifiers(&self) -> impl Iterator<Item = u32> + use<'a> {
        self.iter().filter_map(|property| match property {
            Property::SubscriptionIdentifier(identifier) => Some(identifier),
            _ => None,
        })
    }

    /// Reads a block that is preceded by its length. Before MQTT 5.0, reads nothing and returns an empty block.
    #[inline]
    pub(super) fn read(
        reader: &mut Reader<'a>,
        version: ProtocolVersion,
        allowed: PropertySet,
    ) -> Result<Self, DecodeError> {
        if version != ProtocolVersion::V5 {
            return Ok(Self::default());
        }
        if let Some((0, rest)) = reader.rest().split_first() {
            *reader = Reader::new(rest);
            return Ok(Self::default());
        }
        let length = reader.variable_byte_integer()?;
        let length = usize::try_from(length).map_err(|_| TOO_SHORT)?;
        Self::check(reader.take(length)?, allowed)
    }

    /// Checks a block. A property that the packet may not have makes it malformed. A duplicate property, or
    /// Authentication Data without an Authentication Method, is a Protocol Error.
    pub(super) fn check(bytes: &'a [u8], set: PropertySet) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let mut seen = 0;
        while let Some(&identifier) = reader.rest().first() {
            let bit = bit(identifier);
            // This comes before the check of the value. Otherwise, a Topic Alias of 0 in a CONNECT would result in a
            // Reason Code that CONNACK does not have [MQTT-3.2.2-8].
            if set.allowed & bit == 0 {
                return Err(DecodeError::Malformed("property not allowed in this packet"));
            }
            Property::read(&mut reader)?;
            if seen & bit & !set.repeatable != 0 {
                return Err(DecodeError::ProtocolError("duplicate property"));
            }
            seen |= bit;
        }
        if seen & bit(AUTHENTICATION_DATA) != 0 && seen & bit(AUTHENTICATION_METHOD) == 0 {
            return Err(DecodeError::ProtocolError("authentication data without a method"));
        }
        Ok(Self { bytes })
    }

    /// The number of bytes that the block takes in a packet, including its length; zero before MQTT 5.0.
    #[inline]
    pub(super) const fn encoded_length(&self, version: ProtocolVersion) -> usize {
        match version {
            ProtocolVersion::V31 | ProtocolVersion::V311 => 0,
            ProtocolVersion::V5 if self.bytes.is_empty() => 1,
            ProtocolVersion::V5 => writer::integer_width(self.bytes.len()) + self.bytes.len(),
        }
    }

    /// Appends the block with its length, which is zero if it is empty [MQTT-2.2.2-1]; nothing before MQTT 5.0.
    #[inline]
    pub(super) fn encode(&self, version: ProtocolVersion, into: &mut Vec<u8>) {
        if version != ProtocolVersion::V5 {
            return;
        }
        if self.bytes.is_empty() {
            into.push(0);
            return;
        }
        writer::length(into, self.bytes.len());
        into.extend_from_slice(self.bytes);
    }
}

/// A buffer to build a block of properties in. It does not check which packets may have them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PropertyBuffer {
    bytes: Vec<u8>,
}

/// The capacity in bytes that a cleared buffer keeps at most.
const CAPACITY_KEPT: usize = 32 * 1024;

impl PropertyBuffer {
    /// Appends a property.
    ///
    /// # Panics
    ///
    /// If a string or binary data is longer than 65,535 bytes, or a Subscription Identifier is over 268,435,455.
    pub fn push(&mut self, property: Property<'_>) {
        property.encode(&mut self.bytes);
    }

    /// Appends the bytes of a property, as returned by [`Properties::encoded`].
    pub fn push_encoded(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Removes all properties. Keeps the allocation unless it is over 32 KiB.
    pub fn clear(&mut self) {
        self.bytes.clear();
        if self.bytes.capacity() > CAPACITY_KEPT {
            self.bytes = Vec::new();
        }
    }

    /// The allocated capacity in bytes.
    pub const fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// The length of the block in bytes.
    pub const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are no properties yet.
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The block, to be used in a packet.
    pub fn properties(&self) -> Properties<'_> {
        Properties { bytes: &self.bytes }
    }
}
