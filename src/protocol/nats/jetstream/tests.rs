//! Answers as no server in order sends them, and requests. `nats/tests/recorded.txt` has those of a real server.

use super::*;
use crate::protocol::nats::{HeaderBlock, Message, SubjectPattern};

fn message<'a>(headers: &'a [u8], payload: &'a [u8]) -> Message<'a> {
    Message { subscription: 1, subject: b"d", reply: None, headers: Some(headers), payload }
}

#[test]
fn names_make_good_subjects() {
    for good in ["LOG0", "a-b_c"] {
        assert_eq!(Name::new(good).map(Name::as_str), Some(good));
    }
    for bad in ["", "a.b", "a b", "*", ">", "\u{e9}", "a/b", &"x".repeat(65)] {
        assert_eq!(Name::new(bad), None, "{bad}");
    }
    let request = stream_info(Name::new("LOG0").unwrap());
    assert_eq!((request.subject().as_str(), &*request.body), ("$JS.API.STREAM.INFO.LOG0", ""));
}

#[test]
fn errors_are_told_from_malformed_answers() {
    let refused =
        br#"{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 2"},"seq":0}"#;
    let Err(ApiFault::Refused(error)) = PubAck::parse(refused) else { panic!("it is accepted") };
    assert!(error.is_wrong_sequence() && error.code == 400 && error.description.ends_with(": 2"));
    for malformed in [&b""[..], b"{}", b"[]", b"{\"seq\":-1}", b"{\"seq\":1.5}", b"\xff", b"{\"error\":7}"] {
        assert!(matches!(PubAck::parse(malformed), Err(ApiFault::Malformed(_))));
        assert!(matches!(FastAnswer::parse(malformed), Err(ApiFault::Malformed(_))));
        assert!(matches!(StreamInfo::parse(malformed), Err(ApiFault::Malformed(_))));
        assert!(matches!(ConsumerInfo::parse(malformed), Err(ApiFault::Malformed(_))));
    }
    assert!(FastAnswer::parse(br#"{"type":"new","seq":1}"#).is_err());
    let long = format!("{{\"seq\":1,\"x\":\"{}\"}}", "x".repeat(ANSWER_MAXIMUM));
    assert!(PubAck::parse(long.as_bytes()).is_err());
}

#[test]
fn conditions_are_headers() {
    let mut headers = HeaderBlock::new();
    let conditions = Conditions {
        last_of_subject: Some(5),
        subject: Subject::new("a.b"),
        last: Some(7),
        identifier: Some("m"),
        time_to_live: Some(Duration::from_milliseconds(1_001)),
        is_rollup: true,
    };
    conditions.add_to(&mut headers).unwrap();
    let mut bytes = Vec::new();
    headers.encode(&mut bytes);
    let expected = "NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: 5\r\n\
        Nats-Expected-Last-Subject-Sequence-Subject: a.b\r\nNats-Expected-Last-Sequence: 7\r\nNats-Msg-Id: m\r\n\
        Nats-TTL: 2s\r\nNats-Rollup: sub\r\n\r\n";
    assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    let forged = Conditions { identifier: Some("m\r\nNats-Rollup: all"), ..Conditions::default() };
    assert!(forged.add_to(&mut HeaderBlock::new()).is_err());
    let batch = |id| AtomicBatch { id, sequence: 1, commit: Commit::No }.add_to(&mut HeaderBlock::new());
    assert!(batch("b").is_ok() && batch("").is_err() && batch(&"b".repeat(65)).is_err());
}

#[test]
fn what_a_publisher_writes_is_not_taken_for_what_the_server_adds() {
    let block = b"NATS/1.0\r\nNats-Sequence: 999\r\nNats-Subject: forged\r\nNats-Subject: a\r\nNats-Sequence: 3\r\n\r\n";
    let answer = DirectAnswer::parse(&message(block, b"x")).unwrap();
    assert!(
        matches!(
            answer,
            DirectAnswer::Message { subject: b"a", sequence: 3, payload: b"x", pending: None, .. }
        ),
        "{answer:?}"
    );
    let deliver = Subject::new("d").unwrap();
    let heartbeat =
        message(b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 4\r\nNats-Last-Stream: 9\r\n\r\n", b"");
    let expected =
        ConsumerSignal::Heartbeat { consumer_sequence: Some(4), stream_sequence: Some(9), stalled: None };
    assert_eq!(ConsumerSignal::parse(&heartbeat, deliver), Some(expected));
    assert_eq!(
        ConsumerSignal::parse(&heartbeat, Subject::new("e").unwrap()),
        None,
        "another client has sent it"
    );
    let question = Message { reply: Some(b"$JS.FC.x"), ..heartbeat };
    assert_eq!(ConsumerSignal::parse(&question, deliver), Some(ConsumerSignal::FlowControl(b"$JS.FC.x")));
    assert_eq!(ConsumerSignal::parse(&message(b"NATS/1.0 100\r\n\r\n", b"x"), deliver), None);
}

#[test]
fn malformed_direct_answers_are_refused() {
    for block in [
        &b"NATS/1.0\r\n\r\n"[..],
        b"NATS/1.0\r\nNats-Subject: a\r\n\r\n",
        b"NATS/1.0\r\nNats-Subject: a\r\nNats-Sequence: x\r\n\r\n",
        b"NATS/1.0 204 EOB\r\n\r\n",
        b"nonsense",
    ] {
        assert!(DirectAnswer::parse(&message(block, b"")).is_err());
    }
    let refused = DirectAnswer::parse(&message(b"NATS/1.0 408 Bad Request\r\n\r\n", b"")).unwrap();
    assert!(matches!(refused, DirectAnswer::Refused(status) if status.code == 408));
}

#[test]
fn subjects_for_answers_tell_about_a_delivery() {
    let expected = Delivered { times: 1, stream_sequence: 3, consumer_sequence: 2, stored: 99, pending: 7 };
    for reply in
        ["$JS.ACK.LOG.c.1.3.2.99.7", "$JS.ACK.hub.hash.LOG.c.1.3.2.99.7.random", "$JS.ACK._.h.L.c.1.3.2.99.7"]
    {
        assert_eq!(Delivered::parse(reply.as_bytes()), Some(expected), "{reply}");
    }
    for reply in [
        "",
        "$JS.ACK.",
        "$JS.ACK.LOG.c.1.3.2.99",
        "$JS.ACK.LOG.c.1.3.x.99.7",
        "_INBOX.1",
        "$JS.ACK.a.b.c.d.e.f.g.h",
    ] {
        assert_eq!(Delivered::parse(reply.as_bytes()), None, "{reply}");
    }
}

#[test]
fn a_configuration_names_its_differences() {
    let config = config_for_tests();
    assert_eq!(config.differences(&config), [""; 0]);
    let other = StreamConfig { replicas: 1, subjects: vec!["u.>".into()], ..config.clone() };
    assert_eq!(config.differences(&other), ["subjects", "num_replicas"]);
}

#[test]
fn requests_for_messages_have_only_what_was_asked_for() {
    let name = Name::new("LOG").unwrap();
    let patterns = [SubjectPattern::new("a.>").unwrap()];
    let each = DirectGet::LastOfEach { subjects: &patterns, up_to: Some(9), from: None, count: None };
    let body = |request| direct_get(name, &request).body;
    assert_eq!(body(each), r#"{"multi_last":["a.>"],"up_to_seq":9}"#);
    assert_eq!(body(DirectGet::Last(Subject::new("a\"b").unwrap())), r#"{"last_by_subj":"a\"b"}"#);
    let now = PullRequest { count: 5, bytes: None, expiry: Duration::ZERO, heartbeat: None };
    assert_eq!(pull(name, name, &now).body, r#"{"batch":5,"no_wait":true}"#);
}

pub(in crate::protocol::nats) fn config_for_tests() -> StreamConfig {
    StreamConfig {
        name: "LOG".into(),
        subjects: vec!["t.>".into()],
        replicas: 3,
        age_maximum: Duration::from_seconds(604_800),
        bytes_maximum: None,
        per_subject_maximum: None,
        duplicate_window: Duration::from_seconds(120),
        sources: Vec::new(),
        allows_direct: true,
        allows_atomic: true,
        allows_batched: true,
        allows_ttl: true,
        allows_rollup: true,
    }
}
