//! MQTT 5.0, chapter 3.1, CONNECT: its flags, its payload, reasons to refuse it, and the session that it resumes.

use std::cell::RefCell;
use std::rc::Rc;

use brooklet::core::access::{AccessControl, Answer, Client, Question, Verdict};
use brooklet::core::limits::Limits;
use brooklet::protocol::codec::ReasonCode;

use crate::v5_peers::*;
use crate::wire::*;
use crate::world::World;

/// The questions about a CONNECT: Client Identifier, User Name, Password.
type Asked = Rc<RefCell<Vec<(String, Option<String>, Option<Vec<u8>>)>>>;

/// Records the clients that it is asked about, and refuses the Client Identifier `!`, the User Name `mallory` and
/// publishing to `secret`.
#[derive(Clone, Default)]
pub struct Doorman {
    asked: Asked,
}

impl AccessControl for Doorman {
    fn ask(&mut self, client: &Client<'_>, question: Question<'_>) -> Answer {
        Answer::Now(match question {
            Question::Connect { password, .. } => {
                let user_name = client.user_name.map(str::to_string);
                self.asked.borrow_mut().push((
                    client.client_identifier.into(),
                    user_name.clone(),
                    password.map(<[u8]>::to_vec),
                ));
                match user_name.as_deref() {
                    _ if client.client_identifier == "!" => {
                        Verdict::Refused(ReasonCode::ClientIdentifierNotValid)
                    }
                    Some("mallory") => Verdict::Refused(ReasonCode::BadUserNameOrPassword),
                    _ => Verdict::Granted,
                }
            }
            Question::Publish { topic, .. } if topic.as_str() == "secret" => {
                Verdict::Refused(ReasonCode::NotAuthorized)
            }
            _ => Verdict::Granted,
        })
    }
}

fn guarded() -> World {
    World::with(Limits::default(), Doorman::default())
}

#[test]
fn mqtt5_3_1_0_1() {
    let mut first: Vec<Vec<u8>> = vec![
        Publish::new(V5, "t", b"x").bytes(),
        Publish::new(V5, "t", b"x").qos(1, 1).bytes(),
        subscribe(V5, 1, &[], &[("t", 0)]),
        unsubscribe(V5, 1, &["t"]),
        PINGREQ.into(),
        DISCONNECT.into(),
        packet(0xF0, &[0x18, 0]),
    ];
    first.extend([0x00, 0x20, 0x40, 0x50, 0x62, 0x70, 0x90, 0xB0, 0xD0].map(|byte| packet(byte, &[0, 1])));
    for bytes in first {
        let mut world = World::new();
        let b = subscriber(&mut world, "b", "#", 0);
        let peer = world.open();
        world.send(peer, [&bytes[..], &Connect::new(V5, "a").bytes()].concat());
        assert!(world.is_closed(peer), "{bytes:02x?}");
        assert!(world.take(peer).is_empty() && world.take(b).is_empty(), "{bytes:02x?}");
    }
}

#[test]
fn mqtt5_3_1_0_2() {
    for second in [Connect::new(V5, "a"), Connect::new(V5, "b"), Connect::new(V311, "a")] {
        let mut world = World::new();
        let w = subscriber(&mut world, "w", "will", 0);
        let peer = world.connect(Connect::new(V5, "a").will("will", b"x", 0, false, &[]).bytes());
        assert_broken(&mut world, peer, second.bytes(), 0x82);
        assert_eq!(take_publish(&mut world, w).topic, "will");
        assert_eq!(world.broker.census().sessions, 1);
    }
}

fn connect_as(name: &'static str, level: u8) -> Vec<u8> {
    Connect { name, level, ..Connect::new(V5, "a") }.bytes()
}

/// The answer has the form of 3.1.1, which every client can read.
fn assert_unsupported(connect: &[u8]) {
    let mut world = World::new();
    let peer = world.open();
    assert_eq!(world.ask(peer, connect), [0x20, 2, 0, 1], "{connect:02x?}");
    assert!(world.is_closed(peer));
    assert_eq!(world.broker.census().sessions, 0);
}

#[test]
fn mqtt5_3_1_2_1() {
    for name in ["mqtt", "MQTT5", "MQT", "", "MQIsdp", "M\u{FEFF}QTT"] {
        assert_unsupported(&connect_as(name, 5));
    }
}

#[test]
fn mqtt5_3_1_2_2() {
    for level in [0, 1, 2, 3, 0x80, 0x82, 0x85, 0xFF] {
        assert_unsupported(&connect_as("MQTT", level));
    }
    assert_unsupported(&connect_as("MQIsdp", 6));
    assert_unsupported(&connect_as("mqtt", 6));
    // A version after 5.0 is answered in the format of the last known version, whatever else it sends.
    for level in [6, 7, 0x7F] {
        assert_refused(&mut World::new(), connect_as("MQTT", level), 0x84);
        assert_refused(&mut World::new(), packet(0x10, &[&field("MQTT")[..], &[level, 0xFF]].concat()), 0x84);
    }
}

#[test]
fn mqtt5_3_1_2_3() {
    for flags in [0x01, 0x03, 0x83] {
        let mut connect = Connect::new(V5, "a").user_name("u");
        connect.flags |= flags;
        assert_refused(&mut World::new(), connect.bytes(), 0x81);
    }
}

#[test]
fn mqtt5_3_1_2_4() {
    let mut world = World::new();
    let stored = Connect::new(V5, "a").expiry(100);
    let a = world.connect(stored.bytes());
    subscribe_to(&mut world, a, "t", 2);
    world.cut(a);
    let b = client(&mut world, "b");
    world.send(b, Publish::new(V5, "t", b"queued").qos(1, 1).bytes());
    assert_eq!(world.take_one(b), [0x40, 2, 0, 1]);
    let (a, connack) = greet(&mut world, &stored);
    assert!(!connack.session_present);
    // Neither the queued messages nor the subscription are there.
    assert!(world.take(a).is_empty());
    world.send(b, Publish::new(V5, "t", b"x").qos(1, 1).bytes());
    assert!(world.take(a).is_empty());
    assert_eq!(world.broker.census().subscriptions, 0);
}

/// The same while the old connection is still open; what it had received is forgotten as well.
#[test]
fn mqtt5_3_1_2_4_take_over() {
    let mut world = World::new();
    let b = subscriber(&mut world, "b", "t", 0);
    let stored = Connect::new(V5, "a").expiry(100);
    let old = world.connect(stored.bytes());
    subscribe_to(&mut world, old, "t", 1);
    let publish = Publish::new(V5, "t", b"x").qos(2, 1).bytes();
    world.send(old, &publish);
    assert_eq!(world.take(b).len(), 1);
    let (new, connack) = greet(&mut world, &stored);
    assert!(!connack.session_present);
    assert!(world.is_closed(old));
    // Not a repeat: the identifier belonged to the old session.
    assert_eq!(world.ask(new, &publish), [0x50, 2, 0, 1]);
    assert_eq!(world.take(b).len(), 1);
}

#[test]
fn mqtt5_3_1_2_5() {
    let mut world = World::new();
    let stored = Connect::new(V5, "a").resume().expiry(100);
    let (a, connack) = greet(&mut world, &stored);
    assert!(!connack.session_present);
    subscribe_to(&mut world, a, "t", 2);
    let b = subscriber(&mut world, "b", "u", 0);
    let half = Publish::new(V5, "u", b"half").qos(2, 7);
    assert_eq!(world.ask(a, half.bytes()), [0x50, 2, 0, 7]);
    assert_eq!(world.take(b).len(), 1);
    world.send(b, Publish::new(V5, "t", b"1").qos(2, 1).bytes());
    let identifier = take_publish(&mut world, a).packet_identifier.unwrap();
    world.send(a, acknowledge(0x50, identifier));
    world.cut(a);
    world.send(b, Publish::new(V5, "t", b"2").qos(1, 2).bytes());
    let a = world.open();
    world.send(a, stored.bytes());
    let packets = world.take(a);
    assert!(ConnAck::new(&packets[0]).session_present);
    // The release of the first message, then the second one, then the subscription continues.
    assert_eq!(packets[1], acknowledge(0x62, identifier));
    assert_eq!(received(V5, &packets[2]).payload, b"2");
    assert_eq!(packets.len(), 3);
    world.take(b);
    assert_eq!(world.ask(a, half.dup().bytes()), [0x50, 2, 0, 7]);
    assert!(world.take(b).is_empty());
    world.send(b, Publish::new(V5, "t", b"3").bytes());
    assert_eq!(take_publish(&mut world, a).payload, b"3");
}

#[test]
fn mqtt5_3_1_2_6() {
    let mut world = World::new();
    let (a, connack) = greet(&mut world, &Connect::new(V5, "a").resume().expiry(100));
    assert!(!connack.session_present);
    subscribe_to(&mut world, a, "t", 0);
    let publish = Publish::new(V5, "t", b"x").bytes();
    assert_eq!(world.ask(a, &publish), publish);
}

#[test]
fn mqtt5_3_1_2_9() {
    let mut world = World::new();
    for cut in [&[][..], &[0], &[0, 0, 1, b'w'], &[0, 0, 1, b'w', 0], &[0, 0, 1, b'w', 0, 2, b'x']] {
        let connect = Connect { flags: 0x06, will: cut.to_vec(), ..Connect::new(V5, "a") };
        assert_refused(&mut world, connect.bytes(), 0x81);
    }
}

#[test]
fn mqtt5_3_1_2_11() {
    for qos in 1..4 {
        let connect = Connect { flags: 0x02 | qos << 3, ..Connect::new(V5, "a") };
        assert_refused(&mut World::new(), connect.bytes(), 0x81);
    }
}

#[test]
fn mqtt5_3_1_2_12() {
    for qos in 0..4 {
        let mut world = World::new();
        let connect = Connect::new(V5, "a").will("w", b"x", qos, false, &[]).bytes();
        if qos == 3 {
            assert_refused(&mut world, connect, 0x81);
        } else {
            world.connect(connect);
        }
    }
}

#[test]
fn mqtt5_3_1_2_13() {
    let connect = Connect { flags: 0x22, ..Connect::new(V5, "a") };
    assert_refused(&mut World::new(), connect.bytes(), 0x81);
}

/// A field whose flag is not set is left over.
#[test]
fn mqtt5_3_1_2_16() {
    let mut connect = Connect::new(V5, "a").user_name("u");
    connect.flags &= !0x80;
    assert_refused(&mut World::new(), connect.bytes(), 0x81);
}

/// A flag whose field is missing makes the packet end too early.
#[test]
fn mqtt5_3_1_2_17() {
    let mut connect = Connect::new(V5, "a");
    connect.flags |= 0x80;
    assert_refused(&mut World::new(), connect.bytes(), 0x81);
}

#[test]
fn mqtt5_3_1_2_18() {
    let mut connect = Connect::new(V5, "a").user_name("u").password(b"p");
    connect.flags &= !0x40;
    assert_refused(&mut World::new(), connect.bytes(), 0x81);
}

#[test]
fn mqtt5_3_1_2_19() {
    let mut connect = Connect::new(V5, "a").user_name("u");
    connect.flags |= 0x40;
    assert_refused(&mut World::new(), connect.bytes(), 0x81);
}

/// 5.0 allows a Password without a User Name, of any bytes, even of none.
#[test]
fn mqtt5_3_1_2_19_alone() {
    let doorman = Doorman::default();
    let mut world = World::with(Limits::default(), doorman.clone());
    for password in [&b"\0\xFF"[..], b""] {
        world.connect(Connect::new(V5, "a").password(password).bytes());
        assert_eq!(doorman.asked.take(), [("a".into(), None, Some(password.to_vec()))]);
    }
}

/// No method is supported here, so the one packet that may follow never does.
#[test]
fn mqtt5_3_1_2_30() {
    let connect = Connect::new(V5, "a").property(&text_property(0x15, "SCRAM-SHA-1"));
    let with_data = connect.clone().property(&text_property(0x16, b"\0data"));
    for connect in [connect, with_data] {
        let mut world = World::new();
        let b = subscriber(&mut world, "b", "#", 0);
        let publish = Publish::new(V5, "t", b"x").bytes();
        assert_refused(&mut world, [connect.bytes(), publish].concat(), 0x8C);
        assert!(world.take(b).is_empty());
    }
}

#[test]
fn mqtt5_3_1_3_1() {
    let doorman = Doorman::default();
    let mut world = World::with(Limits::default(), doorman.clone());
    let b = subscriber(&mut world, "b", "will/topic", 0);
    doorman.asked.take();
    let will_properties = text_property(3, "type");
    let connect = Connect::new(V5, "id")
        .will("will/topic", b"will payload", 0, false, &will_properties)
        .user_name("user")
        .password(b"pass");
    let a = world.connect(connect.bytes());
    assert_eq!(doorman.asked.take(), [("id".into(), Some("user".into()), Some(b"pass".to_vec()))]);
    world.cut(a);
    let will = take_publish(&mut world, b);
    assert_eq!((&will.payload[..], will.properties), (&b"will payload"[..], will_properties));
}

#[test]
fn mqtt5_3_1_3_2() {
    let mut world = World::new();
    for name in ["a", "A", "ab"] {
        let a = world.connect(Connect::new(V5, name).expiry(100).bytes());
        subscribe_to(&mut world, a, name, 1);
        world.cut(a);
    }
    let b = client(&mut world, "b");
    for name in ["a", "A", "ab"] {
        world.send(b, Publish::new(V5, name, b"").qos(1, 1).bytes());
        world.take(b);
    }
    for name in ["a", "A", "ab"] {
        let a = world.open();
        world.send(a, Connect::new(V5, name).resume().expiry(100).bytes());
        let packets = world.take(a);
        assert!(ConnAck::new(&packets[0]).session_present);
        assert_eq!((packets.len(), received(V5, &packets[1]).topic.as_str()), (2, name));
    }
}

#[test]
fn mqtt5_3_1_3_3() {
    let empty = Connect::new(V5, "").bytes();
    let missing = packet(0x10, &empty[2..empty.len() - 2]);
    assert_refused(&mut World::new(), missing, 0x81);
}

#[test]
fn mqtt5_3_1_3_4() {
    for bad in [&b"\xFFa"[..], b"a\0", b"\xED\xA0\x80"] {
        let connect = Connect { client_identifier: bad.into(), ..Connect::new(V5, "") };
        assert_refused(&mut World::new(), connect.bytes(), 0x81);
    }
}

#[test]
fn mqtt5_3_1_3_5() {
    let all = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let mut world = World::new();
    for length in 1..=23 {
        for from in (0..=all.len() - length).step_by(3) {
            let peer = client(&mut world, &all[from..from + length]);
            world.cut(peer);
        }
    }
    // A server may accept more, and this one does.
    for more in ["a/+#$ b", "\u{1F980}", &"x".repeat(24), &"x".repeat(65_000 - 20)] {
        client(&mut world, more);
    }
}

fn assigned(connack: &ConnAck) -> String {
    let identifier = &connack.property(0x12).expect("an identifier is assigned")[2..];
    String::from_utf8(identifier.into()).expect("a string")
}

#[test]
fn mqtt5_3_1_3_6() {
    let mut world = World::new();
    let mut seen = std::collections::BTreeSet::new();
    let mut peers = Vec::new();
    for index in 0..20 {
        let connect = Connect::new(V5, "").expiry(100);
        let connect = if index % 2 == 0 { connect } else { connect.resume() };
        let (peer, connack) = greet(&mut world, &connect);
        assert_eq!((connack.session_present, connack.code), (false, 0));
        assert!(seen.insert(assigned(&connack)));
        peers.push(peer);
    }
    assert!(peers.iter().all(|&peer| !world.is_closed(peer)));
}

/// The assigned identifier is as good as one of the client's own.
#[test]
fn mqtt5_3_1_3_7() {
    let mut world = World::new();
    let (a, connack) = greet(&mut world, &Connect::new(V5, "").resume().expiry(100));
    subscribe_to(&mut world, a, "t", 0);
    let identifier = assigned(&connack);
    let (b, connack) = greet(&mut world, &Connect::new(V5, &identifier).resume());
    assert!(connack.session_present);
    assert_eq!(connack.property(0x12), None);
    assert_disconnected(&mut world, a, 0x8E, "taken over");
    let publish = Publish::new(V5, "t", b"x").bytes();
    assert_eq!(world.ask(b, &publish), publish);
}

/// The broker itself accepts every identifier; the access control may decide otherwise.
#[test]
fn mqtt5_3_1_3_8() {
    assert_refused(&mut guarded(), Connect::new(V5, "!").bytes(), 0x85);
}

#[test]
fn mqtt5_3_1_3_11() {
    for topic in [&b"\xFF"[..], b"a\0", b"", b"a/#", b"+"] {
        let will = [&[0][..], &field(topic), &field("x")].concat();
        let connect = Connect { flags: 0x06, will, ..Connect::new(V5, "a") };
        assert_refused(&mut World::new(), connect.bytes(), 0x81);
    }
}

#[test]
fn mqtt5_3_1_3_12() {
    for name in [&b"\xFF"[..], b"a\0", b"\xED\xA0\x80"] {
        let connect = Connect { flags: 0x82, credentials: field(name), ..Connect::new(V5, "a") };
        assert_refused(&mut World::new(), connect.bytes(), 0x81);
    }
    client(&mut World::new(), "a");
    World::new().connect(Connect::new(V5, "a").user_name("").bytes());
}

#[test]
fn mqtt5_3_1_4_1() {
    let malformed: [&[u8]; 8] = [
        &[0x22, 0],          // Topic Alias Maximum, cut
        &[0x7E, 0],          // unknown
        &[0x51, 0, 0, 0, 1], // unknown, and 64 above one that is not
        &[0x01, 0],          // Payload Format Indicator belongs to PUBLISH
        &[0x23, 0, 1],       // Topic Alias too
        &[0x23, 0, 0],       // and it is its place that is wrong before its value
        &[0x1F, 0, 0],       // Reason String
        &[0x18, 0, 0, 0, 1], // Will Delay Interval belongs to the Will
    ];
    for block in malformed {
        assert_refused(&mut World::new(), Connect::new(V5, "a").property(block).bytes(), 0x81);
    }
    let protocol_errors: [&[u8]; 9] = [
        &[0x21, 0, 0],       // Receive Maximum 0
        &[0x27, 0, 0, 0, 0], // Maximum Packet Size 0
        &[0x17, 2],          // neither 0 nor 1
        &[0x19, 2],
        &[0x21, 0, 1, 0x21, 0, 1], // twice
        &[0x11, 0, 0, 0, 1, 0x11, 0, 0, 0, 1],
        &[0x22, 0, 1, 0x22, 0, 1],
        &[0x17, 1, 0x17, 1],
        &[0x16, 0, 1, b'x'], // data without a method
    ];
    for block in protocol_errors {
        assert_refused(&mut World::new(), Connect::new(V5, "a").property(block).bytes(), 0x82);
    }
    let good = Connect::new(V5, "a").will("w", b"x", 0, false, &[]).user_name("u").password(b"p").bytes();
    assert_refused(&mut World::new(), packet(0x10, &[&good[2..], &[0]].concat()), 0x81);
    for length in 7..good.len() - 2 {
        assert_refused(&mut World::new(), packet(0x10, &good[2..2 + length]), 0x81);
    }
    // Too short to show its version.
    for length in 0..7 {
        let mut world = World::new();
        let peer = world.open();
        world.send(peer, packet(0x10, &good[2..2 + length]));
        assert!(world.is_closed(peer));
    }
}

#[test]
fn mqtt5_3_1_4_2() {
    assert_refused(&mut guarded(), Connect::new(V5, "a").user_name("mallory").bytes(), 0x86);
    assert_refused(&mut guarded(), Connect::new(V5, "a").will("secret", b"x", 0, false, &[]).bytes(), 0x87);
    let too_deep = "/".repeat(201);
    assert_refused(&mut guarded(), Connect::new(V5, "a").will(&too_deep, b"x", 0, false, &[]).bytes(), 0x90);
    let mut full = World::with_limits(|limits| limits.sessions = 1);
    client(&mut full, "b");
    assert_refused(&mut full, Connect::new(V5, "a").bytes(), 0x97);
    let mut world = World::with_limits(|limits| limits.connect_packet_size = 100);
    let peer = world.open();
    world.send(peer, Connect::new(V5, &"x".repeat(100)).bytes());
    assert!(world.is_closed(peer));
    assert_eq!(world.broker.census().sessions, 0);
}

/// A refused client changes nothing for the client with the same identifier, connected or not.
#[test]
fn mqtt5_3_1_4_2_bystander() {
    let mut world = guarded();
    let stored = Connect::new(V5, "a").resume().expiry(100).will("w", b"will", 0, false, &[]);
    let a = world.connect(stored.bytes());
    subscribe_to(&mut world, a, "t", 1);
    let mallory = Connect::new(V5, "a").user_name("mallory").bytes();
    assert_refused(&mut world, &mallory, 0x86);
    assert!(!world.is_closed(a));
    assert_eq!(world.ask(a, PINGREQ), PINGRESP);
    world.cut(a);
    assert_refused(&mut world, &mallory, 0x86);
    assert!(greet(&mut world, &stored).1.session_present);
}

#[test]
fn mqtt5_3_1_4_3() {
    for (level, connect) in [
        (V5, Connect::new(V5, "a")),
        (V5, Connect::new(V5, "a").resume()),
        (V311, Connect::new(V311, "a")),
        (V31, Connect::new(V31, "a").resume()),
    ] {
        let mut world = World::new();
        let old = world.connect(Connect::new(V5, "a").expiry(100).bytes());
        let new = world.connect(connect.bytes());
        assert_disconnected(&mut world, old, 0x8E, "taken over");
        assert_eq!(world.ask(new, PINGREQ), PINGRESP, "{level}");
        let census = world.broker.census();
        assert_eq!((census.connections, census.sessions), (1, 1));
    }
}

#[test]
fn mqtt5_3_1_4_4() {
    for (is_clean, present) in [(true, false), (false, true)] {
        let mut world = World::new();
        let stored = Connect::new(V5, "a").expiry(100);
        let a = world.connect(stored.bytes());
        world.cut(a);
        let connect = if is_clean { stored } else { stored.resume() };
        assert_eq!(greet(&mut world, &connect).1.session_present, present);
    }
}

/// Packets that follow the CONNECT in the same bytes are processed after its CONNACK.
#[test]
fn mqtt5_3_1_4_5() {
    let mut world = World::new();
    let a = world.open();
    world.send(a, [&Connect::new(V5, "a").bytes()[..], &PINGREQ].concat());
    let packets = world.take(a);
    assert_eq!((ConnAck::new(&packets[0]).code, &packets[1..]), (0, &[PINGRESP.to_vec()][..]));
}

/// The same byte by byte.
#[test]
fn mqtt5_3_1_4_5_in_pieces() {
    let mut world = World::new();
    let a = world.open();
    let bytes = Connect::new(V5, "a").bytes();
    let (last, before) = bytes.split_last().unwrap();
    for byte in before {
        world.send(a, [*byte]);
        assert!(world.take(a).is_empty());
    }
    assert_eq!(ConnAck::new(&world.ask(a, [*last])).code, 0);
}

#[test]
fn mqtt5_3_1_4_6() {
    let mut world = guarded();
    let b = subscriber(&mut world, "b", "#", 0);
    let followers = [
        Publish::new(V5, "t", b"x").retain().bytes(),
        Publish::new(V5, "t", b"x").qos(1, 1).bytes(),
        subscribe(V5, 1, &[], &[("t", 0)]),
        PINGREQ.into(),
        Connect::new(V5, "a").bytes(),
    ]
    .concat();
    let mallory = Connect::new(V5, "a").user_name("mallory").will("t", b"will", 0, false, &[]);
    assert_refused(&mut world, [mallory.bytes(), followers].concat(), 0x86);
    world.pass_seconds(100);
    assert!(world.take(b).is_empty());
    let census = world.broker.census();
    assert_eq!((census.sessions, census.subscriptions, census.retained), (1, 1, 0));
}
