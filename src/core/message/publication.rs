//! A publication as it is routed, and who published it.

use crate::base::time::Time;
use crate::core::listener::ListenerId;
use crate::protocol::codec::{Properties, QoS};
use crate::protocol::topic::TopicName;

/// A publication, borrowed from the packet or the [`Message`](super::Message) that carries it.
#[derive(Clone, Copy, Debug)]
pub struct Publication<'a> {
    /// What it was published to.
    pub topic: TopicName<'a>,
    /// The Application Message.
    pub payload: &'a [u8],
    /// The QoS it was published with; a receiver gets it with this or a lower one.
    pub qos: QoS,
    /// The RETAIN flag it was published with.
    pub retain: bool,
    /// Who published it, as [`Publisher::written`] has it, where it is known and of use: kept with retained messages.
    pub publisher: Option<&'a str>,
    /// The properties that receivers get as they are: without Topic Alias, Message Expiry Interval and
    /// Subscription Identifiers.
    pub properties: Properties<'a>,
    /// When the Message Expiry Interval has passed; [`Time::NEVER`] without one.
    pub expires: Time,
}

impl Publication<'_> {
    /// Bytes of what it is made of: topic, publisher, properties and payload.
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

/// Who published a message, so that it can be asked later whether he still may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publisher<'a> {
    /// The listener that he came in by.
    pub listener: ListenerId,
    /// The Client Identifier.
    pub client_identifier: &'a str,
    /// The User Name.
    pub user_name: Option<&'a str>,
}

impl<'a> Publisher<'a> {
    /// The most bytes that Client Identifier and User Name may take together.
    pub const LENGTH_MAXIMUM: usize = 65_535 - "65535\0\0".len();

    /// One text for all of it, parted by what no name contains [MQTT-1.5.4-2].
    pub fn written(&self) -> String {
        match self.user_name {
            Some(user_name) => format!("{}\0{}\0{user_name}", self.listener.0, self.client_identifier),
            None => format!("{}\0{}", self.listener.0, self.client_identifier),
        }
    }

    /// Reads what [`Publisher::written`] wrote.
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
