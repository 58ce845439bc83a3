//! Bodies of messages: what a node writes is read, and everything else is refused.

use proptest::prelude::*;

use super::*;
use crate::protocol::codec::{Property, PropertyBuffer, ReasonCode};
use crate::settings::ClusterName;

fn subjects() -> Subjects {
    Subjects::new(&ClusterName::new("c").expect("a name"))
}

/// A message without anything that can be missing.
fn plain<'a>() -> Body<'a> {
    Body {
        origin: Origin { incarnation: 0x0102_0304_0506_0708, counter: 9 },
        topic: None,
        publisher: None,
        qos: QoS::AtLeastOnce,
        properties: Properties::default(),
        lifetime: None,
        payload: b"hello",
    }
}

fn bytes_of(body: &Body<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    body.write(&mut bytes);
    bytes
}

/// The bytes of [`plain`] with another byte at a place, or with bytes of a field before the end of the fields.
fn changed(at: usize, byte: u8) -> Vec<u8> {
    let mut bytes = bytes_of(&plain());
    bytes[at] = byte;
    bytes
}

fn with_field(tag: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = bytes_of(&plain());
    let length = u32::try_from(value.len()).expect("short").to_be_bytes();
    bytes.splice(18..18, [tag].into_iter().chain(length).chain(value.iter().copied()));
    bytes
}

#[test]
fn a_plain_message_has_nineteen_bytes_before_its_payload() {
    let expected = [1, 1, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, 9, 0, b'h', b'e', b'l', b'l', b'o'];
    assert_eq!(bytes_of(&plain()), expected);
}

#[test]
fn fields_of_a_newer_version_are_skipped_and_a_version_after_that_is_refused() {
    let mut newer = with_field(77, b"something new");
    newer[0] = VERSION + 1;
    newer[1] |= 0b1000_0000;
    assert_eq!(Body::read(&newer), Ok(plain()));
    for version in [0, VERSION + 2, u8::MAX] {
        assert_eq!(Body::read(&changed(0, version)), Err(MessageError::Version(version)));
    }
    let words = MessageError::Version(VERSION + 2).to_string();
    assert!(words.contains("version 3 ") && words.contains("up to 2"), "{words}");
}

#[test]
fn what_no_node_writes_is_refused() {
    let malformed = |bytes: &[u8]| matches!(Body::read(bytes), Err(MessageError::Malformed(_)));
    assert!(malformed(&changed(1, 3)), "QoS 3");
    let whole = bytes_of(&Body { lifetime: Some(Duration::from_seconds(1)), payload: b"", ..plain() });
    for length in 0..whole.len() {
        assert!(malformed(&whole[..length]), "{length}");
    }
    let mut twice = with_field(1, b"a");
    twice.splice(18..18, [1, 0, 0, 0, 1, b'a']);
    assert!(malformed(&twice), "a field twice");
    assert!(malformed(&with_field(1, b"\xFF")), "a topic that is not UTF-8");
    assert!(malformed(&with_field(4, b"1234567")), "a lifetime of seven bytes");
    for publisher in
        [&b"1"[..], b"1\0\xFF", b"1\0a\x01", b"1\0a\0b\0c", &[b"1\0", &b"x".repeat(70_000)[..]].concat()]
    {
        assert!(malformed(&with_field(2, publisher)), "{publisher:?}");
    }
    for (topic, why) in [
        (&b"a/+"[..], TopicError::WildcardInName),
        (b"", TopicError::Empty),
        (b"a\0", TopicError::Character),
        (&[b'/'; 300], TopicError::TooManyLevels),
    ] {
        assert_eq!(Body::read(&with_field(1, topic)), Err(MessageError::Topic(why)));
    }
    let mut long = with_field(3, &[0x26]);
    long[22] = 0xFF;
    assert!(malformed(&long), "a length beyond the end");
    assert_eq!(Body::read(&vec![VERSION; BODY_LENGTH_MAXIMUM + 1]), Err(MessageError::TooLong));
}

#[test]
fn only_properties_that_are_forwarded_come_from_another_node() {
    for (property, is_forwarded) in [
        (Property::PayloadFormatIndicator(true), true),
        (Property::ContentType("text"), true),
        (Property::ResponseTopic(TopicName::trusted("a")), true),
        (Property::ResponseTopic(TopicName::trusted("a/#")), false),
        (Property::CorrelationData(b"data"), true),
        (Property::UserProperty("name", "value"), true),
        (Property::UserProperty("name", "va\0lue"), false),
        (Property::MessageExpiryInterval(1), false),
        (Property::TopicAlias(1), false),
        (Property::SubscriptionIdentifier(1), false),
        (Property::ReasonString("why"), false),
    ] {
        let mut buffer = PropertyBuffer::default();
        buffer.push(property);
        let found = Body::read(&with_field(3, buffer.properties().bytes()))
            .map(|body| body.properties.bytes().to_vec());
        assert_eq!(found.is_ok(), is_forwarded, "{property:?}: {found:?}");
        assert!(found.is_err() || found == Ok(buffer.properties().bytes().to_vec()));
        buffer.push(property);
        let bytes = with_field(3, buffer.properties().bytes());
        let found = Body::read(&bytes);
        let may_be_twice = matches!(property, Property::UserProperty(..)) && is_forwarded;
        assert_eq!(found.is_ok(), may_be_twice, "{property:?} twice");
    }
    let bytes = with_field(3, &[0x26, 0, 1]);
    let cut = Body::read(&bytes);
    let reason = |why: DecodeError| why.reason_code();
    assert!(matches!(cut, Err(MessageError::Properties(why)) if reason(why) == ReasonCode::MalformedPacket));
}

#[test]
fn a_topic_comes_in_one_place_and_is_that_of_the_subject() {
    let long = "a/".repeat(80) + "b";
    let other = "a/".repeat(80) + "c";
    let of = |topic: &str, purpose| {
        let (mut subject, mut bytes) = (String::new(), Vec::new());
        let topic = TopicName::new(topic).expect("a topic");
        write((&subjects(), purpose), topic, &plain(), (&mut subject, &mut bytes)).expect("it has a subject");
        (subject, bytes)
    };
    let found = |subject: &str, bytes: &[u8]| {
        let mut place = "left over".to_owned();
        let received = read(&subjects(), subject, bytes, &mut place);
        received.map(|received| received.topic.as_str().to_owned())
    };
    for topic in ["a/b", &long] {
        let (subject, bytes) = of(topic, Purpose::Retained(2));
        assert_eq!(found(&subject, &bytes).as_deref(), Ok(topic));
    }
    let refused = Err(MessageError::OtherTopic);
    let (short, without) = of("a/b", Purpose::Direct);
    let (shortened, with) = of(&long, Purpose::Direct);
    assert_eq!(found(&short, &with), refused, "in both places");
    assert_eq!(found(&shortened, &without), refused, "in neither");
    assert_eq!(found(&shortened, &of(&other, Purpose::Direct).1), refused, "another topic");
    assert_eq!(found(&shortened, &with_field(1, b"a/b")), refused, "a topic that fits into a subject");
    assert_eq!(found(&shortened, &with_field(1, b"$SYS/a")), refused, "a topic that stays at its broker");
    assert_eq!(found("bk.c.d.a", &without), Err(MessageError::Subject(SubjectError::Token)));
    let body = plain();
    let (mut subject, mut bytes) = (String::new(), Vec::new());
    let topic = TopicName::trusted("$SYS/a");
    assert_eq!(write((&subjects(), Purpose::Direct), topic, &body, (&mut subject, &mut bytes)), None);
    assert!(subject.is_empty() && bytes.is_empty());
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        topic in prop::option::of("[a-z/.é]{1,300}"),
        publisher in prop::option::of(("[^\0-\u{1F}\u{7F}-\u{9F}\u{FDD0}-\u{FDEF}]{0,9}", "[a-z]{0,9}", prop::option::of("[a-z]{0,9}"))),
        user_properties in prop::collection::vec(("[a-z]{0,3}", "[a-z]{0,300}"), 0..4),
        correlation_data in prop::option::of(any::<Vec<u8>>()),
        qos in 0_u8..3,
        numbers in any::<(u64, u64, Option<u64>)>(),
        payload in any::<Vec<u8>>(),
    ) {
        let mut properties = PropertyBuffer::default();
        if let Some(data) = &correlation_data {
            properties.push(Property::CorrelationData(data));
        }
        user_properties.iter().for_each(|(name, value)| properties.push(Property::UserProperty(name, value)));
        let (incarnation, counter, lifetime) = numbers;
        let body = Body {
            origin: Origin { incarnation, counter },
            topic: topic.as_deref().map(TopicName::trusted),
            publisher: publisher.as_ref().filter(|names| !names.0.chars().any(|c| c as u32 & 0xFFFE == 0xFFFE)).map(
                |(listener, client_identifier, user_name)| {
                    NamedPublisher { listener, client_identifier, user_name: user_name.as_deref() }
                },
            ),
            qos: QoS::from_u8(qos).expect("a QoS"),
            properties: properties.properties(),
            lifetime: lifetime.map(Duration::from_milliseconds),
            payload: &payload,
        };
        let bytes = bytes_of(&body);
        prop_assert_eq!(Body::read(&bytes), Ok(body));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in any::<Vec<u8>>(), version in 0..=VERSION + 2) {
        let bytes = [&[version], &bytes[..]].concat();
        if let Ok(body) = Body::read(&bytes) {
            let same = bytes_of(&body);
            prop_assert_eq!(Body::read(&same), Ok(body));
        }
    }
}
