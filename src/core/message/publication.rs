//! A publication as it is routed, and who published it.

use crate::base::time::Time;
use crate::core::listener::ListenerId;
use crate::protocol::codec::{Properties, QoS};
use crate::protocol::topic::TopicName;

/// A publication, borrowed from the packet or the [`Message`](super::Message) that carries it.
#[derive(Clone, Copy, Debug)]
pub struct Publication<'a> {
    /// The topic to which it was published.
    pub topic: TopicName<'a>,
    /// The Application Message.
    pub payload: &'a [u8],
    /// The QoS with which it was published; a receiver gets it with this or a lower one.
    pub qos: QoS,
    /// The RETAIN flag with which it was published.
    pub retain: bool,
    /// The publisher in the form of [`Publisher::written`], where it is known and needed: it is stored with retained
    /// messages.
    pub publisher: Option<&'a str>,
    /// The properties that receivers get unchanged: without Topic Alias, Message Expiry Interval and Subscription
    /// Identifiers.
    pub properties: Properties<'a>,
    /// When the Message Expiry Interval ends; [`Time::NEVER`] without one.
    pub expires: Time,
}

impl Publication<'_> {
    /// The bytes of topic, publisher, properties and payload.
    #[inline]
    pub fn length(&self) -> usize {
        self.topic.as_str().len()
            + self.publisher.map_or(0, str::len)
            + self.properties.bytes().len()
            + self.payload.len()
    }

    /// Whether the Message Expiry Interval has passed.
    pub fn is_expired(&self, now: Time) -> bool {
        self.expires <= now
    }
}

/// The publisher of a message, so that the access control can be asked later whether it still may publish it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publisher<'a> {
    /// The listener at which it connected.
    pub listener: ListenerId,
    /// The Client Identifier.
    pub client_identifier: &'a str,
    /// The User Name.
    pub user_name: Option<&'a str>,
}

impl<'a> Publisher<'a> {
    /// The most bytes of Client Identifier and User Name together.
    pub const LENGTH_MAXIMUM: usize = 65_535 - "65535\0\0".len();

    /// Returns one text for all fields, separated by a character that no name contains [MQTT-1.5.4-2].
    pub fn written(&self) -> String {
        match self.user_name {
            Some(user_name) => format!("{}\0{}\0{user_name}", self.listener.0, self.client_identifier),
            None => format!("{}\0{}", self.listener.0, self.client_identifier),
        }
    }

    /// Parses the text from [`Publisher::written`].
    pub fn read(text: &'a str) -> Option<Self> {
        let mut parts = text.splitn(3, '\0');
        let listener = ListenerId(parts.next()?.parse().ok()?);
        Some(Self { listener, client_identifier: parts.next()?, user_name: parts.next() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publisher_is_one_text() {
        for user_name in [None, Some(""), Some("u")] {
            let publisher = Publisher { listener: ListenerId(7), client_identifier: "c", user_name };
            assert_eq!(Publisher::read(&publisher.written()), Some(publisher));
        }
    }
}
