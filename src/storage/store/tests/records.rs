//! Records for the tests.

use std::num::NonZeroU64;

use crate::base::time::Time;
use crate::core::journal::{
    CopyForm, MessageNumber, Recipient, SessionNumber, StoredMessage, StoredPresence, StoredSession,
    StoredSubscription,
};
use crate::core::listener::ListenerId;
use crate::core::message::{Portable, Publication};
use crate::core::subscription::Identifiers;
use crate::protocol::codec::{PacketIdentifier, Property, PropertyBuffer, QoS};
use crate::protocol::topic::TopicName;

pub(super) fn message_number(number: u64) -> MessageNumber {
    MessageNumber(NonZeroU64::new(number).expect("not zero"))
}

pub(super) fn session_number(number: u64) -> SessionNumber {
    SessionNumber(NonZeroU64::new(number).expect("not zero"))
}

pub(super) fn identifier(number: u16) -> PacketIdentifier {
    PacketIdentifier::new(number).expect("not zero")
}

/// The length of the payload decides whether the message has a publisher, properties and RETAIN.
pub(super) fn portable(topic: &str, payload: &[u8], expires: Time) -> Portable {
    let mut properties = PropertyBuffer::default();
    if payload.len().is_multiple_of(5) {
        properties.push(Property::UserProperty("name", "value"));
        properties.push(Property::ContentType("text/plain"));
    }
    Portable::new(&Publication {
        topic: TopicName::new(topic).expect("a topic"),
        payload,
        qos: QoS::AtLeastOnce,
        retain: payload.len().is_multiple_of(2),
        publisher: Some("1\0client\0user").filter(|_| payload.len().is_multiple_of(3)),
        properties: properties.properties(),
        expires,
    })
}

pub(super) fn session(number: u64) -> StoredSession {
    StoredSession {
        number: session_number(number),
        client_identifier: format!("client {number}"),
        user_name: Some("user".to_owned()).filter(|_| number.is_multiple_of(2)),
        is_proved: number.is_multiple_of(4),
        listener: ListenerId(7),
        expiry_interval: u32::MAX,
        presence: StoredPresence::Connected,
        will: None,
    }
}

pub(super) fn subscription(filter: &str) -> StoredSubscription {
    StoredSubscription {
        filter: filter.to_owned(),
        qos: QoS::ExactlyOnce,
        no_local: true,
        retain_as_published: false,
        identifier: 268_435_455,
        owes_retained: true,
    }
}

pub(super) fn recipient(session: u64, identifiers: &[u32]) -> Recipient {
    let form = CopyForm {
        qos: QoS::AtLeastOnce,
        retain: session.is_multiple_of(2),
        identifiers: Identifiers::new(identifiers),
        group: None,
    };
    Recipient { session: session_number(session), form, identifier: None }
}

pub(super) fn message(number: u64, payload: &[u8], expires: Time, sessions: &[u64]) -> StoredMessage {
    let recipients = sessions.iter().map(|session| recipient(*session, &[])).collect();
    StoredMessage { number: message_number(number), message: portable("a/b", payload, expires), recipients }
}
