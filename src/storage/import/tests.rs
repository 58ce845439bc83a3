//! Databases written by mosquitto 2.0.11, as made by `tests/import/write.py`, and the records that they must yield.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::num::NonZeroU64;

use super::*;
use crate::core::journal::Record;

const RETAINED: &[u8] = include_bytes!("../../../tests/import/retained.db");
const SESSIONS: &[u8] = include_bytes!("../../../tests/import/sessions.db");
const QUEUED: &[u8] = include_bytes!("../../../tests/import/queued.db");
const UNRELEASED: &[u8] = include_bytes!("../../../tests/import/unreleased.db");
const RUNNING: &[u8] = include_bytes!("../../../tests/import/running.db");

/// Some minutes after the databases were written, in milliseconds since 1970.
const WALL: u64 = 1_795_428_200_000;

fn numbers(session: u64, message: u64) -> NextNumbers {
    let number = |number| NonZeroU64::new(number).unwrap();
    NextNumbers { session: SessionNumber(number(session)), message: MessageNumber(number(message)) }
}

fn said_of(portable: &Portable) -> String {
    let publication = portable.publication();
    let mut said = format!(
        "{} {:?} q{}",
        publication.topic,
        String::from_utf8_lossy(publication.payload),
        publication.qos.level()
    );
    if publication.retain {
        said += " retain";
    }
    if let Some(publisher) = publication.publisher {
        said += &format!(" by {publisher:?}");
    }
    if publication.expires != Time::NEVER {
        said += &format!(" until {}", publication.expires.milliseconds());
    }
    for property in publication.properties.iter() {
        said += &format!(" {property:?}");
    }
    said
}

/// Puts a record into one line.
fn said(record: &Record) -> String {
    match record {
        Record::Session(session) => {
            let StoredPresence::Away { ends, sent_until } = session.presence else { panic!("{session:?}") };
            assert!(session.will.is_none());
            let ends = if ends == Time::NEVER { "never".to_owned() } else { ends.milliseconds().to_string() };
            format!(
                "session {} {} user {:?} listener {} expires {} ends {ends} sent {:?}",
                session.number.0,
                session.client_identifier,
                session.user_name,
                session.listener.0,
                session.expiry_interval,
                sent_until.map(|message| message.0.get()),
            )
        }
        Record::Subscribed(session, subscription) => {
            assert!(!subscription.owes_retained);
            format!(
                "{} subscribes {} q{}{}{} id {}",
                session.0,
                subscription.filter,
                subscription.qos.level(),
                if subscription.no_local { " no-local" } else { "" },
                if subscription.retain_as_published { " as-published" } else { "" },
                subscription.identifier,
            )
        }
        Record::Message(message) => {
            let to: Vec<String> = message
                .recipients
                .iter()
                .map(|recipient| {
                    let form = &recipient.form;
                    let retain = if form.retain { "r" } else { "" };
                    let identifiers = form.identifiers.as_slice();
                    format!("{}:q{}{retain}{identifiers:?}", recipient.session.0, form.qos.level())
                })
                .collect();
            format!("message {} {} to {}", message.number.0, said_of(&message.message), to.join(" "))
        }
        Record::Received(session, identifier) => format!("{} received {identifier}", session.0),
        Record::Delivery(session, delivery) => {
            let release = if delivery.is_released { " released" } else { "" };
            format!("{} delivery {} of {}{release}", session.0, delivery.identifier, delivery.message.0)
        }
        Record::Retained(portable) => format!("retained {}", said_of(portable)),
        Record::Cleared(topic) => format!("cleared {topic}"),
        other => panic!("nothing is taken back: {other:?}"),
    }
}

fn lines(import: &Import<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    let entrance = |port| Entrance {
        listener: ListenerId(if port == 18830 { 3 } else { 0 }),
        proves_names: port == 18830,
    };
    let done = import.records(numbers(1, 1), &entrance, |record| {
        lines.push(said(&record));
        Ok::<(), Infallible>(())
    });
    done.unwrap();
    lines
}

fn read(bytes: &[u8]) -> Import<'_> {
    Import::read(bytes, WALL).unwrap()
}

#[track_caller]
fn assert_lines(bytes: &[u8], expected: &[&str]) {
    let lines = lines(&read(bytes));
    for (line, expected) in lines.iter().zip(expected) {
        assert_eq!(line, expected);
    }
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
}

#[test]
fn retained_messages_come_with_their_properties_and_publishers() {
    assert_lines(
        RETAINED,
        &[
            r#"retained r/0 "retained 0" q0 retain by "3\0ann-1\0ann""#,
            r#"retained r/1 "replaced" q1 retain by "3\0ann-1\0ann""#,
            r#"retained r/2 "retained 2" q2 retain by "3\0ann-1\0ann""#,
            "retained r/5 \"properties\" q1 retain by \"3\\0nobody\" until 1795527861000 \
             PayloadFormatIndicator(true) ContentType(\"text/plain\") ResponseTopic(TopicName(\"re/ply\")) \
             CorrelationData([99, 111, 114, 114]) UserProperty(\"name\", \"value\") UserProperty(\"name\", \"value\")",
            r#"retained /lead//é "slashes" q1 retain by "3\0ann-1\0ann""#,
        ],
    );
    assert_eq!(read(RETAINED).left_out(), &BTreeMap::from([(Reason::MessageExpired, 1)]));
    let early = Import::read(RETAINED, WALL - 300_000).unwrap();
    assert_eq!((early.brought().retained, early.left_out().len()), (6, 0));
}

#[test]
fn sessions_come_with_their_subscriptions() {
    assert_lines(
        SESSIONS,
        &[
            r#"session 1 four user Some("ann") listener 3 expires 4294967295 ends never sent None"#,
            r#"session 2 three user Some("ann") listener 3 expires 4294967295 ends never sent None"#,
            r#"session 3 hour user Some("bob") listener 3 expires 3600 ends 1795431800000 sent None"#,
            r#"session 4 ever user Some("cay") listener 3 expires 4294967295 ends never sent None"#,
            r#"session 5 shared user Some("cay") listener 3 expires 7200 ends 1795435062000 sent None"#,
            "1 subscribes a/b q0 id 0",
            "3 subscribes a/b q1 no-local id 7",
            "1 subscribes a/+ q1 id 0",
            "1 subscribes # q2 id 0",
            "1 subscribes /lead/# q1 id 0",
            "1 subscribes +/x// q1 id 0",
            "2 subscribes three/é q2 id 0",
            "3 subscribes r/5 q2 as-published id 7",
            "3 subscribes n q0 id 7",
            "4 subscribes q/# q2 id 268435455",
            "5 subscribes plain q1 id 1",
            "4 subscribes $SYS/uptime q0 id 268435455",
        ],
    );
    let left_out = [(Reason::SessionExpired, 1), (Reason::SessionEnded, 1), (Reason::OfNoSession, 3)];
    assert_eq!(read(SESSIONS).left_out(), &BTreeMap::from(left_out));
}

/// The session `late` has its messages in another order than they arrived, and `five` has one of them twice.
#[test]
fn queued_messages_and_those_in_flight_come_in_the_order_of_each_queue() {
    assert_lines(
        QUEUED,
        &[
            r#"session 1 away user Some("ann") listener 3 expires 4294967295 ends never sent None"#,
            r#"session 2 five user Some("ann") listener 3 expires 4294967295 ends never sent Some(3)"#,
            r#"session 3 late user Some("ann") listener 3 expires 4294967295 ends never sent Some(11)"#,
            "1 subscribes q/# q1 id 0",
            "2 subscribes q/# q2 id 9",
            "3 subscribes q/# q2 id 0",
            "2 subscribes q/twice q1 id 10",
            "1 subscribes z q0 id 0",
            "3 subscribes old q1 id 0",
            r#"message 1 q/0 "message 0" q1 to 1:q1[] 2:q1[9]"#,
            r#"message 2 q/1 "message 1" q2 to 1:q1[]"#,
            "2 delivery 2 of 2 released",
            r#"message 3 q/2 "message 2" q1 to 1:q1[] 2:q1[9]"#,
            r#"message 4 q/3 "message 3" q2 to 1:q1[] 2:q2[9]"#,
            r#"message 5 q/4 "message 4" q1 to 1:q1[] 2:q1[9]"#,
            r#"message 6 z "of no account" q0 to 1:q0[]"#,
            r#"message 7 q/twice "twice" q2 to 1:q1[] 2:q1[10]"#,
            r#"message 8 q/twice "twice" q2 to 2:q2[9]"#,
            r#"message 9 q/long "long" q1 until 1795527862000 ContentType("json") to 1:q1[] 2:q1[9]"#,
            r#"message 10 q/new "new" q2 to 1:q1[] 2:q2[9] 3:q2[]"#,
            "3 delivery 1 of 10",
            r#"message 11 old "retained" q1 retain by "3\0sender\0ann" to 3:q1r[]"#,
            r#"retained old "retained" q1 retain by "3\0sender\0ann""#,
        ],
    );
    assert_eq!(read(QUEUED).left_out(), &BTreeMap::from([(Reason::MessageExpired, 2)]));
    let brought = Brought { retained: 1, sessions: 3, subscriptions: 6, queued: 19, ..Brought::default() };
    assert_eq!(read(QUEUED).brought(), brought);
}

/// mosquitto passes on a QoS 2 message when it is released, Brooklet when it arrives. The session `one` has two
/// matching subscriptions, and the sender does not receive its own message.
#[test]
fn unreleased_messages_are_passed_on() {
    let all = lines(&read(UNRELEASED));
    let lines: Vec<&str> =
        all.iter().map(String::as_str).skip_while(|line| !line.contains("message")).collect();
    assert_eq!(
        lines,
        [
            "message 1 in/a \"kept\" q2 retain by \"3\\0sender\\0ann\" until 1795527863000 to 1:q2[1, 2] 2:q2r[2]",
            "retained in/a \"kept\" q2 retain by \"3\\0sender\\0ann\" until 1795527863000",
            "4 received 77",
            "4 received 78",
            "message 3 in/b \"\" q2 retain by \"3\\0sender\\0ann\" to 1:q1[1] 2:q2r[2]",
            "cleared in/b",
            "4 received 79",
        ]
    );
    assert_eq!(read(UNRELEASED).brought().unreleased, 3);
}

#[test]
fn a_message_without_retain_is_passed_on_without_it() {
    let mut chunks = chunks(UNRELEASED);
    let (_, content) = &mut chunks[3];
    assert_eq!(content[8 + 8 + 4 + 5 * 2..][..2], [2, 1], "its QoS and RETAIN flag");
    content[31] = 0;
    let lines = lines(&read(&database(6, &chunks)));
    assert!(lines.iter().any(|line| line.ends_with("to 1:q2[1, 2] 2:q2[2]")), "{lines:#?}");
    assert!(!lines.iter().any(|line| line.starts_with("retained")), "{lines:#?}");
}

/// A database saved while clients are connected does not say when their sessions end. The bridge has no listener, and
/// the User Name of `nobody` is a remnant in memory.
#[test]
fn sessions_of_a_running_broker_begin_to_expire_at_the_import() {
    assert_lines(
        RUNNING,
        &[
            "session 1 local.bridge user None listener 0 expires 4294967295 ends never sent None",
            r#"session 2 hour user Some("ann") listener 3 expires 3600 ends 1795431800000 sent None"#,
            "session 3 nobody user None listener 3 expires 3600 ends 1795431800000 sent None",
            "1 subscribes out/# q1 no-local as-published id 0",
            "2 subscribes a q2 id 0",
            "3 subscribes b q1 id 0",
            r#"message 1 out/1 "over the bridge" q1 to 1:q1[]"#,
        ],
    );
}

#[test]
fn a_user_name_that_may_be_left_from_another_session_is_reported() {
    let mut chunks = chunks(RUNNING);
    let hour = chunks.iter().position(|(kind, body)| *kind == 6 && body.ends_with(b"hourann")).unwrap();
    let named = |identifier: &[u8; 4]| {
        let mut body = chunks[hour].1.clone();
        body[24..28].copy_from_slice(identifier);
        (6, body)
    };
    // After `nobody`, whose User Name is a remnant of `hour`.
    let behind = [named(b"same"), named(b"last")];
    chunks.splice(hour + 2..hour + 2, behind);
    let file = database(6, &chunks);
    assert_eq!((read(RUNNING).brought().doubtful, read(&file).brought().doubtful), (0, 1));
    assert!(lines(&read(&file))[3].starts_with("session 4 same user Some(\"ann\")"));
}

#[test]
fn numbers_begin_with_the_given_ones() {
    let mut lines = Vec::new();
    let entrance = |port| Entrance { listener: ListenerId(port), proves_names: true };
    let done = read(QUEUED).records(numbers(100, 1000), &entrance, |record| {
        lines.push(said(&record));
        if lines.len() == 11 { Err("full") } else { Ok(()) }
    });
    assert_eq!(done, Err("full"));
    assert!(
        lines[1].starts_with("session 101 five") && lines[1].ends_with("sent Some(1002)"),
        "{}",
        lines[1]
    );
    assert!(lines[1].contains("listener 18830"), "{}", lines[1]);
    assert_eq!(lines[10], r#"message 1001 q/1 "message 1" q2 to 100:q1[]"#);
}

/// The chunks of a database of version 5 or 6, each with its kind.
fn chunks(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    bytes = &bytes[23..];
    let mut chunks = Vec::new();
    while let [0, 0, 0, kind, a, b, c, d, rest @ ..] = bytes {
        let (body, behind) = rest.split_at(u32::from_be_bytes([*a, *b, *c, *d]) as usize);
        chunks.push((*kind, body.to_vec()));
        bytes = behind;
    }
    chunks
}

fn database(version: u8, chunks: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = b"\0\xB5\0mosquitto db\0\0\0\0\0\0\0".to_vec();
    bytes.push(version);
    for (kind, body) in chunks {
        bytes.extend([0, 0, 0, *kind]);
        bytes.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
        bytes.extend(body);
    }
    bytes
}

#[test]
fn other_machines_write_the_same_in_another_layout() {
    for golden in [RETAINED, SESSIONS, QUEUED, UNRELEASED, RUNNING] {
        let expected = lines(&read(golden));
        let mut narrow = chunks(golden);
        for (kind, body) in &mut narrow {
            match kind {
                1 => body.truncate(12),
                6 => drop(body.drain(20..24)),
                _ => {}
            }
        }
        assert_eq!(lines(&read(&database(6, &narrow))), expected);
        // Chosen so that the numbers do not rise if read in the byte order of the other machine.
        let mut swapped = chunks(golden);
        for (kind, body) in &mut swapped {
            if (1..=4).contains(kind) {
                let number = u16::from(body[0]) + 200;
                body[..2].copy_from_slice(&number.to_le_bytes());
            }
        }
        assert_eq!(lines(&read(&database(6, &swapped))), expected);
        for (kind, body) in &mut swapped {
            if *kind != 5 {
                body[..8].reverse();
            }
            if *kind == 2 {
                body[8..16].reverse();
            }
        }
        assert_eq!(lines(&read(&database(6, &swapped))), expected);
    }
}

#[test]
fn version_5_has_no_user_names() {
    let mut old = chunks(QUEUED);
    for (_, body) in old.iter_mut().filter(|(kind, _)| *kind == 6) {
        let identifier_length = usize::from(body[15]);
        body.truncate(24 + identifier_length);
        body.drain(16..24);
    }
    let old = database(5, &old);
    let (old, new) = (lines(&read(&old)), lines(&read(QUEUED)));
    assert_eq!(old[0], "session 1 away user None listener 0 expires 4294967295 ends never sent None");
    assert_eq!(old[3..], new[3..]);
}

/// One chunk of version 3 or 4. Its length matters only for a session.
fn fields(kind: u8, length: u8, parts: &[&[u8]]) -> Vec<u8> {
    [&[0, kind, 0, 0, 0, length], &parts.concat()[..]].concat()
}

#[test]
fn versions_3_and_4_are_sequences_of_fields() {
    for (version, disconnected) in [(3, 4), (4, 8)] {
        let publisher: &[u8] = if version == 4 { b"\0\x03ann\x49\x8E" } else { b"" };
        let content = |number: u8, topic: &'static [u8], retain: u8| {
            let parts: [&[u8]; 6] = [
                &[number, 0, 0, 0, 0, 0, 0, 0],
                b"\0\x06sender",
                publisher,
                &[0, 9, 0, 9, 0, 1],
                topic,
                &[1, retain, 0, 0, 0, 2, b'h', b'i'],
            ];
            fields(2, 0, &parts)
        };
        let file = [
            b"\0\xB5\0mosquitto db\0\0\0\0\0\0\0".to_vec(),
            vec![version],
            fields(1, 10, &[&[1, 8, 2, 0, 0, 0, 0, 0, 0, 0]]),
            content(2, b"t", 0),
            content(1, b"r", 1),
            fields(6, 7 + disconnected, &[b"\0\x03old\0\x05", &[1; 8][..disconnected.into()]]),
            fields(3, 0, &[b"\0\x03old", &[2, 0, 0, 0, 0, 0, 0, 0, 0, 7, 1, 0, 1, 3, 1]]),
            fields(5, 0, &[b"\0\x03old", b"\0\x01t", &[1]]),
            fields(4, 8, &[&[1, 0, 0, 0, 0, 0, 0, 0]]),
        ];
        let publisher = if version == 4 { r"3\0sender\0ann" } else { r"0\0sender" };
        assert_lines(
            &file.concat(),
            &[
                "session 1 old user None listener 0 expires 4294967295 ends never sent Some(1)",
                "1 subscribes t q1 id 0",
                r#"message 1 t "hi" q1 to 1:q1[]"#,
                &format!("retained r \"hi\" q1 retain by \"{publisher}\""),
            ],
        );
    }
}

#[test]
fn a_truncated_file_is_refused() {
    for golden in [RETAINED, SESSIONS, QUEUED, UNRELEASED, RUNNING] {
        let mut ends = vec![23];
        for (_, body) in chunks(golden) {
            ends.push(ends[ends.len() - 1] + 8 + body.len());
        }
        for end in 0..golden.len() {
            let read = Import::read(&golden[..end], WALL);
            // A file may end wherever a chunk ends.
            assert_eq!(read.is_ok(), ends.contains(&end), "at {end}: {read:?}");
        }
    }
}

#[test]
fn damage_is_reported_with_its_position() {
    let damaged = |bytes: &[u8], at: usize, to: u8| {
        let mut bytes = bytes.to_vec();
        bytes[at] = to;
        Import::read(&bytes, WALL).unwrap_err().to_string()
    };
    assert_eq!(damaged(QUEUED, 5, b'x'), "it is not a database of mosquitto");
    assert_eq!(damaged(QUEUED, 22, 7), "it has version 7 of the format, expected 3 to 6");
    for (golden, at, to, expected) in [
        (QUEUED, 26, 9, "byte 23: an unknown kind of chunk"),
        (QUEUED, 30, 17, "byte 47: more bytes than expected"),
        (QUEUED, 40, 4, "byte 41: numbers that are not eight bytes long"),
        (QUEUED, 51, 1, "byte 55: a length that exceeds the bytes left"),
        (QUEUED, 71, 0xFF, "byte 87: a payload that no packet can carry"),
        (QUEUED, 74, 0xFF, "byte 101: a length that exceeds the bytes left"),
        (QUEUED, 85, 3, "byte 55: a QoS that does not exist"),
        (QUEUED, 112, 63, "byte 112: a number that another message has"),
        (QUEUED, 773, 12, "byte 760: a state that no message can be in"),
        (QUEUED, 745, 0xFF, "byte 721: a Client Identifier that is not text"),
        (QUEUED, 749, 0xFF, "byte 721: a User Name that is not text"),
        (QUEUED, 1099, 0x23, "byte 1079: properties that are not Subscription Identifiers"),
    ] {
        assert_eq!(damaged(golden, at, to), format!("it is damaged at {expected}"), "{at}");
    }
}

/// Damage that leaves the chunks intact costs only the entries that it hits.
#[test]
fn only_invalid_entries_are_left_out() {
    let damaged = |at: usize, to: &[u8]| {
        let mut bytes = QUEUED.to_vec();
        bytes[at..at + to.len()].copy_from_slice(to);
        let import = read(&bytes);
        (import.brought(), import.left_out().clone())
    };
    let whole = Brought { retained: 1, sessions: 3, subscriptions: 6, queued: 19, ..Brought::default() };
    let expired = (Reason::MessageExpired, 2);
    // The topic of a message for three sessions becomes a filter; then its number becomes one that no session refers
    // to.
    let without = Brought { queued: 16, ..whole };
    assert_eq!(damaged(98, b"#"), (without, BTreeMap::from([expired, (Reason::NotValid, 3)])));
    assert_eq!(damaged(55, b"\xFF"), (without, BTreeMap::from([expired, (Reason::NotThere, 3)])));
    // An invalid filter, a subscription's Client Identifier, a Packet Identifier.
    let without = Brought { subscriptions: 5, ..whole };
    assert_eq!(damaged(1501, b"##"), (without, BTreeMap::from([expired, (Reason::NotValid, 1)])));
    assert_eq!(damaged(1496, b"x"), (without, BTreeMap::from([expired, (Reason::OfNoSession, 1)])));
    let without = Brought { queued: 18, ..whole };
    let reasons = BTreeMap::from([expired, (Reason::NoPacketIdentifier, 1)]);
    assert_eq!(damaged(1436, &[0, 0]), (without, reasons.clone()));
    // The second message of a session gets the Packet Identifier of the first and QoS 2: first in the same direction,
    // then in the other.
    assert_eq!(damaged(1464, &[0, 1, 0, 4, 2, 5, 0, 1]), (without, reasons));
    let without = Brought { unreleased: 1, ..without };
    assert_eq!(damaged(1464, &[0, 1, 0, 4, 2, 7, 0, 0]), (without, BTreeMap::from([expired])));
}
