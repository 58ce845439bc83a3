//! Exchanges with a real server, in `recorded.txt`. What this side sends is to be the same as then, and everything that
//! the server sent is to be understood.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration as Wait;

use crate::base::time::Duration;
use crate::protocol::codec::Status;
use crate::protocol::nats::jetstream::tests::config_for_tests;
use crate::protocol::nats::jetstream::{ACKNOWLEDGE, ApiError, ApiFault, ApiRequest};
use crate::protocol::nats::jetstream::{
    AtomicBatch, Commit, Conditions, Consumer, ConsumerInfo, ConsumerSignal, Delivered, DirectAnswer,
    DirectGet, FastAnswer, FastBatch, Name, Operation, PubAck, PullRequest, Source, Start, StreamConfig,
    StreamInfo, consumer_create, consumer_delete, direct_get, pull, stream_create, stream_info,
    stream_update,
};
use crate::protocol::nats::key::seed_for_tests;
use crate::protocol::nats::{
    Authentication, Decoded, Failure, HeaderBlock, Incoming, Message, Publication, Secret, ServerInfo,
    StatusLine, Subject, SubjectPattern, UserKey, decode, write_connect, write_ping, write_subscribe,
    write_unsubscribe,
};

const RECORDED: &str = include_str!("recorded.txt");
const NOTE: &str = "# Exchanges with nats-server 2.14.0. Lines of the client begin with C, those of the server with S; line\n\
    # breaks are escaped. To record them again: NATS_SERVER=/path/of/nats-server cargo test --features cluster --lib\n\
    # recorded -- --ignored\n";

/// What one side sends after the other.
#[derive(Debug, Default)]
struct Exchange {
    name: String,
    client: String,
    server: Vec<String>,
}

fn exchanges() -> Vec<Exchange> {
    let mut all: Vec<Exchange> = Vec::new();
    for line in RECORDED.lines() {
        match line.split_once(' ') {
            Some(("==", name)) => all.push(Exchange { name: name.to_owned(), ..Exchange::default() }),
            Some(("C", text)) => all.last_mut().unwrap().client.push_str(&unescape(text)),
            Some(("S", text)) => all.last_mut().unwrap().server.push(unescape(text)),
            _ => assert!(line.starts_with('#') || line.is_empty(), "{line}"),
        }
    }
    all
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\r', "\\r").replace('\n', "\\n")
}

fn unescape(text: &str) -> String {
    text.replace("\\r", "\r").replace("\\n", "\n").replace("\\\\", "\\")
}

/// Ways to connect, each on a connection of its own.
fn introductions() -> Vec<(&'static str, Authentication)> {
    let password =
        |password| Authentication::Password { user: "ann".into(), password: Secret::new(password) };
    vec![
        ("key", Authentication::Key(UserKey::from_seed(&seed_for_tests()).unwrap())),
        ("wrong password", password("pen")),
        ("password", password("pencil")),
    ]
}

fn introduction(authentication: &Authentication, info: &str) -> Vec<u8> {
    let info = ServerInfo::parse(info.strip_prefix("INFO ").unwrap().trim().as_bytes()).unwrap();
    let mut bytes = Vec::new();
    write_connect("node", authentication, &info, false, &mut bytes).unwrap();
    write_ping(&mut bytes);
    bytes
}

/// What is sent on the last of these connections.
struct Script(Vec<(&'static str, Vec<u8>)>);

impl Script {
    fn publish(
        &mut self,
        name: &'static str,
        subject: &str,
        reply: &str,
        payload: &[u8],
        headers: impl FnOnce(&mut HeaderBlock),
    ) {
        let mut block = HeaderBlock::new();
        headers(&mut block);
        let headers = Some(&block).filter(|block| **block != HeaderBlock::new());
        let (subject, reply) = (Subject::new(subject).unwrap(), Subject::new(reply));
        let mut bytes = Vec::new();
        Publication { subject, reply, headers, payload: &[payload] }.encode(1_000_000, &mut bytes).unwrap();
        self.0.push((name, bytes));
    }

    fn api(&mut self, name: &'static str, request: &ApiRequest) {
        self.publish(name, request.subject().as_str(), "I.a", request.body.as_bytes(), |_| {});
    }

    fn conditional(&mut self, name: &'static str, subject: &str, conditions: Conditions<'_>) {
        self.publish(name, subject, "I.p", b"x", |block| conditions.add_to(block).unwrap());
    }

    fn fast(&mut self, name: &'static str, id: &str, sequence: u64, operation: Operation) {
        let reply = FastBatch::new("I", id, 2).reply(sequence, operation);
        self.publish(name, "t.f", &reply, b"x", |_| {});
    }

    fn subscribe(&mut self) {
        let mut subscribe = Vec::new();
        let patterns = ["I.a", "I.d", "I.k", "I.p", "I.r", "I.f.>", "I.g.>", "forbidden"];
        for (pattern, number) in patterns.into_iter().zip(1..) {
            write_subscribe(SubjectPattern::new(pattern).unwrap(), None, number, &mut subscribe).unwrap();
        }
        write_unsubscribe(9, Some(2), &mut subscribe);
        self.0.push(("subscribe", subscribe));
        self.publish("no responders", "nothing", "I.r", b"", |_| {});
    }

    fn streams(&mut self) {
        let log = name("LOG");
        self.api("create", &stream_create(log, &single()));
        self.api("create again", &stream_create(log, &StreamConfig { bytes_maximum: Some(1), ..single() }));
        self.api("update", &stream_update(log, &StreamConfig { bytes_maximum: Some(1_000_000), ..single() }));
        self.api("info", &stream_info(log));
        self.api("no stream", &stream_info(name("NONE")));
        let source = Source { stream: "LOG".into(), filter: "t.r.>".into() };
        let sourced = StreamConfig {
            name: "RET".into(),
            subjects: Vec::new(),
            per_subject_maximum: Some(1),
            sources: vec![source],
            allows_batched: false,
            ..single()
        };
        self.api("sourced", &stream_create(name("RET"), &sourced));
    }

    fn messages(&mut self) {
        let first = Conditions { last_of_subject: Some(0), identifier: Some("m"), ..Conditions::default() };
        self.conditional("stored", "t.a", first);
        self.conditional("duplicate", "t.a", Conditions { identifier: Some("m"), ..Conditions::default() });
        self.conditional(
            "conflict",
            "t.b",
            Conditions { subject: Some(subject("t.a")), last_of_subject: Some(9), ..Conditions::default() },
        );
        let replaced = Conditions {
            time_to_live: Some(Duration::from_seconds(60)),
            is_rollup: true,
            ..Conditions::default()
        };
        self.conditional("rollup", "t.a", replaced);
        for (name, sequence, commit) in [("batch", 1, Commit::No), ("batch end", 2, Commit::Yes)] {
            let batch = AtomicBatch { id: "b", sequence, commit };
            self.publish(name, "t.c", "I.p", b"x", |block| batch.add_to(block).unwrap());
        }
    }

    fn direct(&mut self) {
        let log = name("LOG");
        let all = SubjectPattern::new("t.>").unwrap();
        self.api("last", &direct_get(log, &DirectGet::Last(subject("t.a"))));
        self.api("not found", &direct_get(log, &DirectGet::Last(subject("t.none"))));
        self.api("sequence", &direct_get(log, &DirectGet::Sequence(3)));
        self.api(
            "from",
            &direct_get(log, &DirectGet::From { sequence: 1, subjects: all, count: 2, bytes: None }),
        );
        let each = DirectGet::LastOfEach { subjects: &[all], up_to: None, from: None, count: None };
        self.api("last of each", &direct_get(log, &each));
    }

    fn consumers(&mut self) {
        let (log, all) = (name("LOG"), SubjectPattern::new("t.>").unwrap());
        let ordered = Consumer::Ordered {
            filter: None,
            deliver: subject("I.d"),
            start: Start::Sequence(1),
            heartbeat: Duration::from_milliseconds(100),
            lifetime: Duration::from_seconds(5),
        };
        self.api("ordered", &consumer_create(log, name("o"), &ordered));
        self.api("delete", &consumer_delete(log, name("o")));
        self.api("delete again", &consumer_delete(log, name("o")));
        let pulled = Consumer::Pull {
            filter: all,
            start: Start::First,
            patience: Duration::from_seconds(5),
            pending_maximum: 9,
            lifetime: None,
        };
        self.api("pull consumer", &consumer_create(log, name("p"), &pulled));
        let request = |expiry| PullRequest { count: 2, bytes: None, expiry, heartbeat: None };
        self.api("pull", &pull(log, name("p"), &request(Duration::ZERO)));
        self.publish("acknowledge", "$JS.ACK.LOG.p.1.2.1.1.1", "I.k", ACKNOWLEDGE, |_| {});
        self.api("pull the rest", &pull(log, name("p"), &request(Duration::from_milliseconds(50))));
    }

    fn fast_batches(&mut self) {
        self.fast("fast", "f", 1, Operation::Start);
        self.fast("fast second", "f", 2, Operation::Append);
        self.fast("fast third", "f", 3, Operation::Append);
        self.fast("fast ping", "f", 3, Operation::Ping);
        self.fast("fast end", "f", 4, Operation::End);
        self.fast("fast late", "f", 5, Operation::Append);
        self.fast("gap start", "g", 1, Operation::Start);
        self.fast("gap", "g", 3, Operation::Append);
    }
}

fn name(text: &'static str) -> Name<'static> {
    Name::new(text).unwrap()
}

fn subject(text: &'static str) -> Subject<'static> {
    Subject::new(text).unwrap()
}

fn single() -> StreamConfig {
    StreamConfig { replicas: 1, ..config_for_tests() }
}

fn script() -> Vec<(&'static str, Vec<u8>)> {
    let mut script = Script(Vec::new());
    script.subscribe();
    script.streams();
    script.messages();
    script.direct();
    script.consumers();
    script.fast_batches();
    script.0
}

/// Splits what the server has sent.
fn elements(bytes: &[u8]) -> Vec<&[u8]> {
    let (mut rest, mut found) = (bytes, Vec::new());
    while let Ok(Status::Complete(Decoded { length, .. })) = decode(rest, 1_000_000) {
        let (element, following) = rest.split_at(length);
        found.push(element);
        rest = following;
    }
    assert!(rest.is_empty(), "{:?}", String::from_utf8_lossy(rest));
    found
}

fn incoming(element: &str) -> Incoming<'_> {
    match decode(element.as_bytes(), 1_000_000) {
        Ok(Status::Complete(Decoded { incoming, length })) if length == element.len() => incoming,
        other => panic!("{element:?}: {other:?}"),
    }
}

/// The messages of an exchange.
fn messages<'a>(all: &'a [Exchange], name: &str) -> Vec<Message<'a>> {
    let exchange = all.iter().find(|exchange| exchange.name == name).unwrap_or_else(|| panic!("no {name}"));
    let message = |element: &'a String| match incoming(element) {
        Incoming::Message(message) => Some(message),
        _ => None,
    };
    exchange.server.iter().filter_map(message).collect()
}

fn payload<'a>(all: &'a [Exchange], name: &str) -> &'a [u8] {
    messages(all, name).first().unwrap_or_else(|| panic!("no answer to {name}")).payload
}

#[test]
fn the_client_sends_what_it_sent_then() {
    let all = exchanges();
    let mut recorded = all.iter();
    for (name, authentication) in introductions() {
        let exchange = recorded.next().unwrap();
        let sent = introduction(&authentication, &exchange.server[0]);
        let version = format!("\"version\":\"{}\"", env!("CARGO_PKG_VERSION"));
        let then = exchange.client.replace("\"version\":\"0.1.0\"", &version);
        assert_eq!((exchange.name.as_str(), then), (name, String::from_utf8(sent).unwrap()));
    }
    for (name, bytes) in script() {
        let exchange = recorded.next().unwrap();
        assert_eq!((exchange.name.as_str(), &exchange.client), (name, &String::from_utf8(bytes).unwrap()));
    }
    assert!(recorded.next().is_none());
}

#[test]
fn the_server_accepts_the_right_client() {
    let all = exchanges();
    let last = |name: &str| {
        incoming(all.iter().find(|exchange| exchange.name == name).unwrap().server.last().unwrap())
    };
    assert!(
        matches!(last("wrong password"), Incoming::Error(text) if Failure::of(text) == Failure::Authorization)
    );
    for name in ["key", "password"] {
        let exchange = all.iter().find(|exchange| exchange.name == name).unwrap();
        let elements: Vec<_> = exchange.server.iter().map(|element| incoming(element)).collect();
        assert!(elements.contains(&Incoming::Pong), "{elements:?}");
    }
    let refused = all.iter().find(|exchange| exchange.name == "subscribe").unwrap();
    assert!(
        matches!(incoming(&refused.server[0]), Incoming::Error(text) if Failure::of(text) == Failure::Permission)
    );
    let none = messages(&all, "no responders");
    let headers = crate::protocol::nats::Headers::parse(none[0].headers.unwrap()).unwrap();
    assert_eq!(headers.status().map(|status| status.code), Some(StatusLine::NO_RESPONDERS));
}

#[test]
fn the_answers_about_streams_are_understood() {
    let all = exchanges();
    let info = |name: &str| StreamInfo::parse(payload(&all, name)).unwrap();
    let created = info("create");
    assert_eq!(created.config.differences(&single()), [""; 0]);
    assert!(created.is_of_our_kind && created.last_sequence == 0);
    assert_eq!(info("info").config.differences(&single()), ["max_bytes"]);
    assert!(info("info").has_leader);
    assert_eq!(info("sourced").config.sources.len(), 1);
    let error = |name: &str| match StreamInfo::parse(payload(&all, name)) {
        Err(ApiFault::Refused(error)) => error.error,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        [error("create again"), error("no stream")],
        [ApiError::STREAM_NAME_IN_USE, ApiError::STREAM_NOT_FOUND]
    );
}

#[test]
fn the_answers_to_messages_are_understood() {
    let all = exchanges();
    let ack = |name: &str| PubAck::parse(payload(&all, name));
    assert_eq!(ack("stored"), Ok(PubAck { sequence: 1, is_duplicate: false, count: None }));
    assert_eq!(ack("duplicate"), Ok(PubAck { sequence: 1, is_duplicate: true, count: None }));
    assert!(matches!(ack("conflict"), Err(ApiFault::Refused(error)) if error.is_wrong_sequence()));
    assert_eq!(payload(&all, "batch"), b"");
    assert_eq!(ack("batch end"), Ok(PubAck { sequence: 4, is_duplicate: false, count: Some(2) }));

    let fast = |name: &str| {
        messages(&all, name).iter().map(|message| FastAnswer::parse(message.payload)).collect::<Vec<_>>()
    };
    assert_eq!(fast("fast"), [Ok(FastAnswer::Stored { up_to: 0, every: 2 })]);
    assert_eq!(fast("fast second"), [Ok(FastAnswer::Stored { up_to: 2, every: 2 })]);
    assert_eq!(fast("fast third"), []);
    assert_eq!(fast("fast ping"), [Ok(FastAnswer::Stored { up_to: 2, every: 2 })], "the third is not in it");
    let ended =
        |sequence, count| FastAnswer::Ended(PubAck { sequence, is_duplicate: false, count: Some(count) });
    assert_eq!(fast("fast end"), [Ok(ended(7, 3))]);
    assert!(
        matches!(&fast("fast late")[..], [Err(ApiFault::Refused(error))] if error.error == ApiError::BATCH_UNKNOWN)
    );
    assert_eq!(fast("gap"), [Ok(FastAnswer::Gap { expected: 2, found: 3 }), Ok(ended(8, 1))]);
}

#[test]
fn the_answers_to_direct_requests_are_understood() {
    let all = exchanges();
    let answers = |name: &str| {
        messages(&all, name).iter().map(|message| DirectAnswer::parse(message).unwrap()).collect::<Vec<_>>()
    };
    let is = |answer: &DirectAnswer<'_>, expected: (&str, u64, Option<u64>)| match answer {
        DirectAnswer::Message { subject, sequence, pending, payload: b"x", .. } => {
            assert_eq!((*subject, *sequence, *pending), (expected.0.as_bytes(), expected.1, expected.2));
        }
        other => panic!("{other:?}"),
    };
    is(&answers("last")[0], ("t.a", 2, None));
    is(&answers("sequence")[0], ("t.c", 3, None));
    assert_eq!(answers("not found"), [DirectAnswer::NotFound]);
    let from = answers("from");
    is(&from[0], ("t.a", 2, Some(2)));
    is(&from[1], ("t.c", 3, Some(1)));
    assert_eq!(from[2..], [DirectAnswer::End { pending: 1, last: 3, up_to: None }]);
    let each = answers("last of each");
    is(&each[1], ("t.c", 4, Some(0)));
    assert_eq!(each[2..], [DirectAnswer::End { pending: 0, last: 4, up_to: Some(4) }]);
}

#[test]
fn the_messages_of_consumers_are_understood() {
    let all = exchanges();
    let deliver = Subject::new("I.d").unwrap();
    let (mut info, mut delivered, mut signals) = (None, Vec::new(), 0);
    for message in messages(&all, "ordered") {
        if message.subject == b"I.a" {
            info = Some(ConsumerInfo::parse(message.payload).unwrap());
        } else if let Some(signal) = ConsumerSignal::parse(&message, deliver) {
            assert!(
                matches!(signal, ConsumerSignal::Heartbeat { consumer_sequence: Some(3), .. }),
                "{signal:?}"
            );
            signals += 1;
        } else {
            let reply = Delivered::parse(message.reply.unwrap()).unwrap();
            delivered.push((reply.stream_sequence, reply.consumer_sequence, reply.pending));
        }
    }
    assert_eq!(info.map(|info| (info.name, info.pending)), Some(("o".into(), 3)));
    assert_eq!((delivered, signals > 0), (vec![(2, 1, 2), (3, 2, 1), (4, 3, 0)], true));
    assert!(payload(&all, "delete").windows(14).any(|part| part == b"\"success\":true"));
    assert!(
        matches!(ConsumerInfo::parse(payload(&all, "delete again")), Err(ApiFault::Refused(error)) if error.error == ApiError::CONSUMER_NOT_FOUND)
    );
    let pulled: Vec<_> =
        messages(&all, "pull").iter().map(|message| Delivered::parse(message.reply.unwrap())).collect();
    assert!(pulled.len() == 2 && pulled.iter().all(Option::is_some));
    let rest = messages(&all, "pull the rest");
    let answers = Subject::new("I.a").unwrap();
    assert!(matches!(
        ConsumerSignal::parse(rest.last().unwrap(), answers),
        Some(ConsumerSignal::Ended(StatusLine { code: StatusLine::REQUEST_TIMEOUT, .. }))
    ));
}

/// Reads until the server is silent, or sends only heartbeats.
fn read(socket: &mut TcpStream) -> Vec<u8> {
    let (mut bytes, mut piece) = (Vec::new(), [0; 65_536]);
    for _ in 0..10 {
        match socket.read(&mut piece) {
            Ok(count @ 1..) => bytes.extend_from_slice(&piece[..count]),
            _ => break,
        }
    }
    bytes
}

fn note(text: &mut String, name: &str, client: &[u8], server: &[u8]) {
    let client = escape(std::str::from_utf8(client).unwrap());
    writeln!(text, "\n== {name}\nC {client}").unwrap();
    let is_late = |element: &[u8]| element.starts_with(b"HMSG I.d ") && name != "ordered";
    for element in elements(server).into_iter().filter(|element| *element != b"PING\r\n" && !is_late(element))
    {
        writeln!(text, "S {}", escape(std::str::from_utf8(element).unwrap())).unwrap();
    }
}

#[test]
#[ignore = "it records the exchanges again, with the server that NATS_SERVER names"]
#[expect(clippy::disallowed_methods, reason = "a test may write files")]
fn record() {
    let program = std::env::var("NATS_SERVER").expect("NATS_SERVER names the program");
    let directory = std::env::temp_dir().join(format!("recorded-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let key = UserKey::from_seed(&seed_for_tests()).unwrap().public();
    let config = format!(
        "host: 127.0.0.1\nport: {port}\njetstream {{ store_dir: {:?} }}\nauthorization {{ users: [ {{ nkey: {key} }}\n\
         {{ user: ann, password: pencil, permissions: {{ subscribe: {{ deny: forbidden }} }} }} ] }}\n",
        directory.join("store")
    );
    std::fs::write(directory.join("config"), config).unwrap();
    let mut server =
        Command::new(program).arg("-c").arg(directory.join("config")).stderr(Stdio::null()).spawn().unwrap();
    let open = || loop {
        if let Ok(socket) = TcpStream::connect(("127.0.0.1", port)) {
            socket.set_read_timeout(Some(Wait::from_millis(300))).unwrap();
            break socket;
        }
        std::thread::sleep(Wait::from_millis(50));
    };
    let mut text = NOTE.to_owned();
    let mut last = None;
    for (name, authentication) in introductions() {
        let mut socket = open();
        let mut received = read(&mut socket);
        let sent = introduction(&authentication, std::str::from_utf8(&received).unwrap());
        socket.write_all(&sent).unwrap();
        received.extend(read(&mut socket));
        note(&mut text, name, &sent, &received);
        last = Some(socket);
    }
    let mut socket = last.unwrap();
    for (name, bytes) in script() {
        socket.write_all(&bytes).unwrap();
        let received = read(&mut socket);
        note(&mut text, name, &bytes, &received);
    }
    server.kill().unwrap();
    server.wait().unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/protocol/nats/tests/recorded.txt");
    std::fs::write(file, text).unwrap();
}
