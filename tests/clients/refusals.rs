//! What the log says about refusals: which limit it was and which keyword sets it, and who was refused.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};

use crate::place::Place;
use crate::server::{PATIENCE, Server, brooklet};

/// A free port outside of the range from which the system takes ports for connections.
fn own_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = u16::try_from(std::process::id() % 100).expect("it is small") * 100;
    let mut ports = (0..10_000).map(|_| 20_000 + (begin + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000);
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    ports.find(is_free).expect("there is a free port")
}

/// Starts a broker with a listener that has these lines of configuration.
#[expect(clippy::disallowed_methods, reason = "a test may write files")]
fn serve(place: &Place, lines: &str) -> Server {
    let file = place.0.join("conf");
    let access = if lines.contains("allow_anonymous") { "" } else { "allow_anonymous true" };
    let text = format!("user root\nlistener {} 127.0.0.1\n{access}\n{lines}\n", own_port());
    fs::write(&file, text).expect("a file can be written");
    let mut command = brooklet();
    command.arg("-c").arg(file);
    Server::follow(command)
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut length = body.len();
    loop {
        let low = u8::try_from(length % 128).expect("it is less than 128");
        length /= 128;
        bytes.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            break;
        }
    }
    [bytes, body.to_vec()].concat()
}

fn field(text: &[u8]) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("it is short");
    [&length.to_be_bytes(), text].concat()
}

/// A CONNECT.
#[derive(Clone, Copy)]
struct Connect<'a> {
    level: u8,
    keep_alive: u16,
    identifier: &'a str,
    will: Option<(u8, &'a str)>,
    user: Option<&'a str>,
    password: Option<&'a str>,
}

const CONNECT: Connect<'static> =
    Connect { level: 4, keep_alive: 0, identifier: "kitchen", will: None, user: None, password: None };

impl Connect<'_> {
    fn bytes(&self) -> Vec<u8> {
        let will = self.will.map_or(0, |(flags, _)| 4 | flags);
        let names = u8::from(self.user.is_some()) << 7 | u8::from(self.password.is_some()) << 6;
        let properties: &[u8] = if self.level == 5 { &[0] } else { &[] };
        let mut body = [&b"\0\x04MQTT"[..], &[self.level, 2 | will | names]].concat();
        body.extend(self.keep_alive.to_be_bytes());
        body.extend(properties);
        body.extend(field(self.identifier.as_bytes()));
        if let Some((_, payload)) = self.will {
            body.extend(properties);
            body.extend([field(b"w"), field(payload.as_bytes())].concat());
        }
        for text in [self.user, self.password].into_iter().flatten() {
            body.extend(field(text.as_bytes()));
        }
        packet(0x10, &body)
    }
}

fn send(server: &Server, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(server.address()).expect("the broker listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("the socket has timeouts");
    stream.write_all(bytes).expect("the broker reads");
    stream
}

/// Sends a CONNECT, which is accepted, and then these bytes.
fn connected(server: &Server, connect: &Connect<'_>, bytes: &[u8]) -> TcpStream {
    let mut stream = send(server, &connect.bytes());
    let mut head = [0; 2];
    stream.read_exact(&mut head).expect("the broker answers");
    assert_eq!(head[0], 0x20);
    let mut rest = vec![0; usize::from(head[1])];
    stream.read_exact(&mut rest).expect("the broker answers");
    assert_eq!(rest[1], 0, "it is accepted");
    stream.write_all(bytes).expect("the broker reads");
    stream
}

fn publish(level: u8, topic: &str, alias: Option<u16>, payload: usize) -> Vec<u8> {
    let mut body = field(topic.as_bytes());
    match alias {
        Some(alias) => body.extend([&[3, 0x23], &alias.to_be_bytes()[..]].concat()),
        None if level == 5 => body.push(0),
        None => {}
    }
    body.resize(body.len() + payload, b'x');
    packet(0x30, &body)
}

/// Sends these bytes to a broker with this configuration. Its log must then have a line with the name of the client and
/// this text.
fn expect_line(conf: &str, connect: &Connect<'_>, bytes: &[u8], expected: &str) {
    let place = Place::new(conf.split(' ').next().expect("there is a keyword"));
    let server = serve(&place, conf);
    let _stream = connected(&server, connect, bytes);
    let line = server.wait_for_line(expected);
    assert!(line.contains(" kitchen "), "{conf}: {line}");
}

const CONNECT_5: Connect<'_> = Connect { level: 5, ..CONNECT };

#[test]
fn a_packet_that_is_too_large_names_its_size_and_the_limit() {
    for (conf, connect, bytes, expected) in [
        (
            "max_packet_size 1000",
            CONNECT,
            publish(4, "a/b", None, 2000),
            "packet too large: PUBLISH of 2008 bytes, the limit is 1000 (max_packet_size), topic 'a/b'.",
        ),
        (
            "max_packet_size 1000",
            CONNECT_5,
            packet(0x82, &[0; 1500]),
            "packet too large: SUBSCRIBE of 1503 bytes, the limit is 1000 (max_packet_size).",
        ),
        (
            "message_size_limit 10",
            CONNECT,
            publish(4, "a/b", None, 11),
            "Dropped too large PUBLISH from kitchen ('a/b', ... (11 bytes)). The limit is 10 (message_size_limit).",
        ),
    ] {
        expect_line(conf, &connect, &bytes, expected);
    }
}

#[test]
fn a_publish_that_is_refused_because_of_a_limit_names_its_keyword() {
    let qos_2 = |identifier: u8| packet(0x34, &[&field(b"a")[..], &[0, identifier]].concat());
    let qos_2_v5 = |identifier: u8| packet(0x34, &[&field(b"a")[..], &[0, identifier, 0]].concat());
    for (conf, connect, bytes, expected) in [
        (
            "max_topic_alias 3",
            CONNECT_5,
            publish(5, "a", Some(4), 0),
            "Topic Alias 4, the limit is 3 (max_topic_alias).",
        ),
        ("max_qos 1", CONNECT_5, qos_2_v5(1), "the limit is 1 (max_qos)."),
        ("max_qos 1", CONNECT, qos_2(1), "the limit is 1 (max_qos)."),
        (
            "max_inflight_messages 1",
            CONNECT_5,
            [qos_2_v5(1), qos_2_v5(2)].concat(),
            "the limit is 1 (max_inflight_messages).",
        ),
        ("retain_available false", CONNECT, packet(0x31, &field(b"a")), "(retain_available false)."),
    ] {
        expect_line(conf, &connect, &bytes, expected);
    }
}

#[test]
fn a_subscription_that_is_refused_because_of_a_limit_names_its_keyword() {
    let filters = [field(b"a"), vec![0], field(b"b"), vec![0], field(b"c"), vec![0]].concat();
    for (connect, head) in [(CONNECT_5, &[0, 1, 0][..]), (CONNECT, &[0, 1])] {
        let subscribe = packet(0x82, &[head, &filters].concat());
        let expected = "to 'b': the client has too many subscriptions, the limit is 1 (max_subscriptions).";
        expect_line("max_subscriptions 1", &connect, &subscribe, expected);
    }
}

#[test]
fn a_topic_that_has_arrived_in_part_is_shown_in_part() {
    let place = Place::new("part");
    let server = serve(&place, "max_packet_size 1000");
    let whole = publish(4, "a/b/c", None, 2000);
    let _first = connected(&server, &CONNECT, &whole[..3]);
    server.wait_for_line("packet too large: PUBLISH of 2010 bytes, the limit is 1000 (max_packet_size).");
    let _second = connected(&server, &CONNECT, &whole[..8]);
    server.wait_for_line(
        "packet too large: PUBLISH of 2010 bytes, the limit is 1000 (max_packet_size), topic 'a/b'....",
    );
}

#[test]
fn a_connect_that_is_refused_because_of_a_limit_names_its_keyword() {
    let place = Place::new("connects");
    for (conf, connect, expected) in [
        (
            "max_keepalive 30",
            Connect { keep_alive: 60, ..CONNECT },
            "a Keep Alive of 60 s, the limit is 30 (max_keepalive)",
        ),
        (
            "message_size_limit 10",
            Connect { will: Some((0, "01234567890")), ..CONNECT },
            "the payload of the Will has 11 bytes, the limit is 10 (message_size_limit)",
        ),
        ("max_qos 1", Connect { will: Some((0x10, "")), ..CONNECT }, "the limit is 1 (max_qos)"),
        (
            "retain_available false",
            Connect { will: Some((0x20, "")), ..CONNECT },
            "the Will is to be retained (retain_available false)",
        ),
        ("accept_protocol_versions 5", CONNECT, "(accept_protocol_versions)"),
        ("clientid_prefixes x", CONNECT, "(clientid_prefixes)"),
        (
            "allow_zero_length_clientid false",
            Connect { identifier: "", level: 5, ..CONNECT },
            "(allow_zero_length_clientid false)",
        ),
        ("use_username_as_clientid true", CONNECT, "(use_username_as_clientid)"),
    ] {
        let server = serve(&place, conf);
        let _stream = send(&server, &connect.bytes());
        let line = server.wait_for_line(" denied: ");
        assert!(line.contains(expected), "{conf}: {line}");
    }
}

#[test]
fn a_connection_above_the_limit_of_its_listener_names_the_keyword() {
    let place = Place::new("connections");
    let server = serve(&place, "max_connections 1");
    let _first = connected(&server, &CONNECT, &[]);
    let _second = send(&server, &CONNECT.bytes());
    server.wait_for_line(" denied: max_connections exceeded. The limit is 1.");
}

#[test]
fn a_client_above_the_limits_of_the_broker_names_the_keyword() {
    let place = Place::new("clients");
    for keyword in ["global_max_connections", "global_max_clients"] {
        let server = serve(&place, &format!("{keyword} 1"));
        let _first = connected(&server, &Connect { identifier: "first", ..CONNECT }, &[]);
        let _second = send(&server, &CONNECT.bytes());
        let line = server.wait_for_line(" denied: ");
        assert!(line.contains(&format!("the limit is 1 ({keyword})")), "{line}");
    }
}

#[test]
fn a_connect_that_is_too_large_names_its_limit() {
    let place = Place::new("large");
    for (conf, expected) in [
        ("", "CONNECT of 200004 bytes, the limit is 131072 (fixed, before CONNACK)."),
        ("max_packet_size 1000", "CONNECT of 200004 bytes, the limit is 1000 (max_packet_size)."),
    ] {
        let server = serve(&place, conf);
        let mut bytes = packet(0x10, &[0; 200_000]);
        bytes.truncate(10);
        let _stream = send(&server, &bytes);
        server.wait_for_line(expected);
    }
}

#[test]
fn dropped_messages_name_the_limits_of_the_queue() {
    let place = Place::new("dropped");
    let server = serve(&place, "max_queued_messages 1\nmax_inflight_messages 1");
    let subscribe = packet(0x82, &[&[0, 1][..], &field(b"a"), &[1]].concat());
    let mut subscriber = connected(&server, &CONNECT, &subscribe);
    subscriber.read_exact(&mut [0; 5]).expect("the broker answers");
    let qos_1 = |identifier: u8| packet(0x32, &[&field(b"a")[..], &[0, identifier]].concat());
    let messages: Vec<u8> = (1..9).flat_map(qos_1).collect();
    let _publisher = connected(&server, &Connect { identifier: "publisher", ..CONNECT }, &messages);
    server.wait_for_line(
        "Outgoing messages are being dropped for client kitchen, first one to 'a': the limit is 1 (max_queued_messages), and 16777216 bytes (max_queued_bytes).",
    );
}

#[test]
fn messages_for_a_slow_reader_name_the_limit_of_its_socket() {
    let place = Place::new("slow");
    let server = serve(&place, "");
    let subscribe = packet(0x82, &[&[0, 1][..], &field(b"a"), &[0]].concat());
    let mut subscriber = connected(&server, &CONNECT, &subscribe);
    subscriber.read_exact(&mut [0; 5]).expect("the broker answers");
    let messages: Vec<u8> = (0..300).flat_map(|_| publish(4, "a", None, 100_000)).collect();
    let _publisher = connected(&server, &Connect { identifier: "publisher", ..CONNECT }, &messages);
    server.wait_for_line(
        "Outgoing messages are being dropped for client kitchen, first one to 'a': it reads too slowly, the limit is 4194304 bytes for its socket (fixed).",
    );
    assert_eq!(server.lines_with("being dropped").len(), 1, "the rest is counted");
}

#[test]
fn a_publish_that_is_refused_for_lack_of_memory_names_its_client_and_topic() {
    let place = Place::new("memory-publish");
    let retained = |level: u8, number: u8| {
        let body = [field(format!("topic/{number}\u{202e}").as_bytes()), vec![0, number]].concat();
        let body = if level == 5 { [body, vec![0]].concat() } else { body };
        packet(0x33, &[body, vec![b'x'; 100_000]].concat())
    };
    for (connect, expected) in
        [(CONNECT_5, "Refused PUBLISH from kitchen ('topic/"), (CONNECT, "A message from kitchen to 'topic/")]
    {
        let server = serve(&place, "memory_limit 4M");
        let bytes: Vec<u8> = (1..60).flat_map(|number| retained(connect.level, number)).collect();
        let _stream = connected(&server, &connect, &bytes);
        let line = server.wait_for_line(expected);
        assert!(line.contains(": there is too little memory (memory_limit)."), "{line}");
        assert!(line.contains("\\u{202e}'"), "it is escaped: {line}");
    }
}

/// How many connections beyond the limit are told so before others are closed at once.
const REFUSALS_AT_ONCE: usize = 64;

#[test]
fn connections_that_are_too_many_to_be_answered_name_the_limit() {
    let place = Place::new("unanswered");
    let server = serve(&place, "global_max_connections 1");
    let _first = connected(&server, &Connect { identifier: "first", ..CONNECT }, &[]);
    let _others: Vec<_> = (0..REFUSALS_AT_ONCE + 2).map(|_| send(&server, &[0x10])).collect();
    server.wait_for_line(" denied: there are too many connections, the limit is 1 (global_max_connections).");
}

/// Every keyword in the table of docs/limits.md that makes the broker refuse or drop something is in an expected line here.
#[test]
fn every_limit_of_the_page_has_a_line_in_the_log() {
    // A limit that refuses and drops nothing: more waits, or the rest is done in another way.
    const WITHOUT_LINE: [&str; 2] = ["max_matching_subscriptions", "retry_interval"];
    // Its line needs a bridge: tests/clients/bridges/retained.rs.
    const OF_BRIDGES: [&str; 1] = ["bridge_max_retained_changes"];
    let page = fs::read_to_string("docs/limits.md").expect("the page is there");
    let own = include_str!("refusals.rs");
    let rows = page.lines().filter(|line| line.starts_with("| ")).filter_map(|line| line.split(" | ").next());
    let keywords: Vec<&str> = rows.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    assert!(keywords.len() >= 6, "{keywords:?}");
    for keyword in
        keywords.iter().filter(|keyword| keyword.chars().all(|one| one.is_ascii_lowercase() || one == '_'))
    {
        let is_excepted = WITHOUT_LINE.contains(keyword) || OF_BRIDGES.contains(keyword);
        assert!(is_excepted || own.contains(&format!("({keyword})")), "{keyword}");
    }
}

#[test]
fn a_shortage_of_memory_names_its_limit() {
    let place = Place::new("memory");
    let server = serve(&place, "memory_limit 4M");
    let retained = |number: u8| {
        let mut publish = publish(4, &format!("topic/{number}"), None, 100_000);
        publish[0] = 0x31;
        publish
    };
    let _filled = connected(&server, &CONNECT, &(0..40).flat_map(retained).collect::<Vec<u8>>());
    let mut part = publish(4, "a", None, 1_900_000);
    part.truncate(10_000);
    let _streams: Vec<_> = (0..80)
        .map(|number| {
            let connect = Connect { identifier: &format!("client-{number}"), ..CONNECT };
            send(&server, &[connect.bytes(), part.clone()].concat())
        })
        .collect();
    server.wait_for_line("There is too little memory (memory_limit): ");
}

#[cfg(feature = "passwords")]
fn login<'a>(user: &'a str, password: &'a str) -> Connect<'a> {
    Connect { user: Some(user), password: Some(password), ..CONNECT }
}

/// The user `ann` with the password `right-Secret`.
#[cfg(feature = "passwords")]
const USERS: &str = "ann:$7$101$MDEyMzQ1Njc4OWFi$GIxFnsiMUBEGYDSOC6yalghS8EowR/nRg/7ja2VRkl3KwgCuozgylIHT5m42WAZn3p27Tijlg6vi4AQuuHqNqQ==\n";

#[cfg(feature = "passwords")]
#[test]
#[expect(clippy::disallowed_methods, reason = "a test may write files")]
fn a_refused_login_names_its_client_and_user_but_never_the_password() {
    let place = Place::new("logins");
    let users = place.0.join("users");
    fs::write(&users, USERS).expect("a file can be written");

    let server = serve(
        &place,
        &format!("password_file {}\nallow_anonymous false\nmax_password_attempts 3", users.display()),
    );
    for (connect, expected) in [
        (login("ann", "wrong-Secret"), "Client Identifier 'kitchen', User Name 'ann': wrong password."),
        (login("bob", "wrong-Secret"), "Client Identifier 'kitchen', User Name 'bob': no such user."),
        (
            Connect { identifier: "kit'chen\u{202e}", ..login("b\u{2028}ob'", "right-Secret") },
            "Client Identifier 'kit\\'chen\\u{202e}', User Name 'b\\u{2028}ob\\'': no such user.",
        ),
        (
            Connect { password: None, ..login("ann", "") },
            "Client Identifier 'kitchen', User Name 'ann': no password.",
        ),
        (CONNECT, "Client Identifier 'kitchen', no User Name: allow_anonymous is false."),
    ] {
        let _stream = send(&server, &connect.bytes());
        let line = server.wait_for_line(expected);
        assert!(line.contains("Client connection from 127.0.0.1:") && line.contains(" denied: "), "{line}");
    }
    let guesses: Vec<_> = (0..10).map(|number| format!("Secret-{number}")).collect();
    let _streams: Vec<_> = guesses.iter().map(|guess| send(&server, &login("ann", guess).bytes())).collect();
    server.wait_for_line(
        "address. Client Identifier 'kitchen', User Name 'ann': the limit is 3 for a user, 30 for an address \
         (max_password_attempts).",
    );
    server.wait_for_line(
        "are refused for up to a minute; the limit is 3 for a user, 30 for an address (max_password_attempts).",
    );
    assert!(server.lines_with("Secret").is_empty());
}

#[test]
fn other_refusals_of_a_connect_name_its_client_and_user() {
    let place = Place::new("other-refusals");
    let user = Connect { user: Some("ann"), ..CONNECT };
    for (conf, connect) in [
        ("clientid_prefixes x", &user),
        ("accept_protocol_versions 5", &user),
        ("max_keepalive 30", &Connect { keep_alive: 60, ..user }),
        ("max_qos 1", &Connect { will: Some((0x10, "")), ..user }),
        ("allow_anonymous false", &user),
    ] {
        let server = serve(&place, conf);
        let _stream = send(&server, &connect.bytes());
        let line = server.wait_for_line(" denied: ");
        assert!(line.contains(". Client Identifier 'kitchen', User Name 'ann'"), "{conf}: {line}");
    }
}

/// What clients of other protocols send first.
const TLS: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
const HTTP: &[u8] = b"GET /mqtt HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n";
const PROXY_1: &[u8] = b"PROXY TCP4 1.2.3.4 5.6.7.8 1000 1883\r\n";
const PROXY_2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c";
const SSH: &[u8] = b"SSH-2.0-OpenSSH_9.2\r\n";

/// Sends each of these to a port and expects to be told the advice, and to be disconnected with one line.
fn expect_advice(server: &Server, cases: &[(&[u8], &str)]) {
    for (bytes, expected) in cases {
        let mut stream = send(server, bytes);
        let peer = stream.local_addr().expect("it has an address").to_string();
        // It may be reset, as the broker need not read what follows.
        let _ = stream.read_to_end(&mut Vec::new());
        let line = server.wait_for_line(&format!("{peer} disconnected: "));
        assert!(line.contains(&format!("it is {expected}")), "{expected}: {line}");
        assert_eq!(server.lines_with(&format!("{peer} disconnected: ")).len(), 1);
    }
}

#[test]
fn other_protocols_at_a_port_for_mqtt_are_named() {
    let place = Place::new("plain");
    let server = serve(&place, "");
    let cases = [
        (TLS, "TLS at a port without TLS: "),
        (HTTP, "HTTP or WebSocket at a port for MQTT: "),
        (PROXY_1, "a PROXY header at a port that expects none: "),
        (PROXY_2, "a PROXY header at a port that expects none: "),
        (SSH, "SSH: "),
    ];
    expect_advice(&server, &cases);
}

#[test]
fn a_missing_proxy_header_is_named() {
    let place = Place::new("proxy");
    let connect = CONNECT.bytes();
    for (version, other) in [("1", PROXY_2), ("2", PROXY_1)] {
        let server = serve(&place, &format!("enable_proxy_protocol {version}"));
        let direct = "a connection without a PROXY header: ";
        let cases = [
            (&connect[..], direct),
            (TLS, direct),
            (HTTP, direct),
            (SSH, "SSH: "),
            (other, "a PROXY header of the other version: "),
        ];
        expect_advice(&server, &cases);
    }
}

#[cfg(feature = "websocket")]
#[test]
fn other_protocols_at_a_port_for_websocket_are_named() {
    let place = Place::new("websocket");
    let server = serve(&place, "protocol websockets");
    let connect = CONNECT.bytes();
    let cases = [
        (&connect[..], "MQTT at a port for WebSocket: "),
        (TLS, "TLS at a WebSocket port without TLS: "),
        (PROXY_1, "a PROXY header at a port that expects none: "),
        (PROXY_2, "a PROXY header at a port that expects none: "),
        (SSH, "SSH: "),
    ];
    expect_advice(&server, &cases);
    let mut stream = send(&server, b"\xc0\x00");
    let _ = stream.read_to_end(&mut Vec::new());
    server.wait_for_line(" disconnected: the HTTP request is malformed");
}

#[cfg(feature = "tls")]
#[test]
fn other_protocols_at_a_port_for_tls_are_named() {
    let place = Place::new("tls");
    let [certificate, key] = ["server.crt", "server.key"].map(|name| place.0.join(name));
    let made = std::process::Command::new("openssl")
        .args(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
                .split(' '),
        )
        .args(["-keyout".as_ref(), key.as_os_str(), "-out".as_ref(), certificate.as_os_str()])
        .output();
    assert!(made.expect("there is a program `openssl`").status.success());
    let lines = format!("certfile {}\nkeyfile {}", certificate.display(), key.display());
    let server = serve(&place, &lines);
    let connect = CONNECT.bytes();
    let cases = [
        (&connect[..], "MQTT without TLS at a port with TLS: "),
        (HTTP, "HTTP or WebSocket without TLS at a port with TLS: "),
        (PROXY_1, "a PROXY header at a port that expects none: "),
        (PROXY_2, "a PROXY header at a port that expects none: "),
        (SSH, "SSH: "),
    ];
    expect_advice(&server, &cases);
}
