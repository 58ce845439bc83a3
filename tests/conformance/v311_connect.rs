//! Chapters 3.1 and 3.2 without Will and session: the contents of a CONNECT, and the answers to it.

use std::cell::RefCell;
use std::rc::Rc;

use brooklet::core::access::{Client, Question, Verdict};
use brooklet::core::limits::Limits;
use brooklet::protocol::codec::ReasonCode;

use crate::v311::*;
use crate::wire::*;
use crate::world::{Peer, World};

const IDENTIFIER_REJECTED: [u8; 4] = [0x20, 2, 0, 2];

/// A CONNECT with these flags and this payload.
fn raw_connect(flags: u8, payload: &[&[u8]]) -> Vec<u8> {
    packet(0x10, &[b"\x00\x04MQTT\x04", &[flags, 0, 0][..], &payload.concat()].concat())
}

/// Asserts that a CONNECT with these flags and fields is closed without a CONNACK, or accepted.
#[track_caller]
fn assert_connects(flags: u8, payload: &[&[u8]], expected: bool) {
    let mut world = World::new();
    let watcher = subscriber(&mut world, "watcher", "#", 0);
    let peer = world.open();
    world.send(peer, raw_connect(flags, payload));
    let what = format!("flags {flags:08b}, {payload:02x?}");
    if expected {
        assert_eq!(world.take_one(peer), [0x20, 2, 0, 0], "{what}");
        assert!(!world.is_closed(peer), "{what}");
    } else {
        assert_closed_silently(&mut world, peer, &what);
    }
    assert_quiet(&mut world, watcher, &what);
}

/// Opens a connection and sends bytes; returns the answer.
fn answer(world: &mut World, bytes: &[u8]) -> (Peer, Vec<u8>) {
    let peer = world.open();
    world.send(peer, bytes);
    (peer, world.take(peer).concat())
}

#[test]
fn mqtt311_3_1_0_1() {
    let mut world = World::new();
    let watcher = subscriber(&mut world, "watcher", "#", 0);
    let first_packets = [
        Publish::new(V311, "a", b"x").bytes(),
        Publish::new(V311, "a", b"x").qos(1, 1).bytes(),
        acknowledge(0x40, 1),
        acknowledge(0x62, 1),
        subscribe(V311, 1, &[], &[("a", 0)]),
        unsubscribe(V311, 1, &["a"]),
        PINGREQ.to_vec(),
        DISCONNECT.to_vec(),
        vec![0x20, 2, 0, 0],
        vec![0xD0, 0],
        vec![0x00, 0],
        vec![0xF0, 0],
    ];
    for first in first_packets {
        let peer = world.open();
        world.send(peer, [&first[..], &Connect::new(V311, "late").bytes()].concat());
        assert_closed_silently(&mut world, peer, &format!("{first:02x?}"));
        assert_quiet(&mut world, watcher, "what came first");
    }
    assert_eq!(world.broker.census().sessions, 1);
}

/// The CONNECT may come in pieces, but must come in time.
#[test]
fn mqtt311_3_1_0_1_in_time() {
    let mut world = World::new();
    let (slow, mute) = (world.open(), world.open());
    let connect = Connect::new(V311, "slow").bytes();
    for byte in &connect[..connect.len() - 1] {
        world.send(slow, [*byte]);
        assert_quiet(&mut world, slow, "half a CONNECT");
    }
    world.pass_seconds(9);
    assert_eq!(world.ask(slow, &connect[connect.len() - 1..]), [0x20, 2, 0, 0]);
    world.pass_seconds(1);
    assert_closed_silently(&mut world, mute, "no CONNECT at all");
    assert_quiet(&mut world, slow, "connected in time");
}

#[test]
fn mqtt311_3_1_0_2() {
    for second in ["peer", "other"] {
        let mut world = World::new();
        let watcher = subscriber(&mut world, "watcher", "will", 0);
        let other = client(&mut world, "other");
        let first = Connect::new(V311, "peer").will("will", b"x", 0, false, &[]);
        let peer = world.connect(first.bytes());
        let late = Publish::new(V311, "will", b"late").bytes();
        world.send(peer, [Connect::new(V311, second).bytes(), late].concat());
        assert_closed_silently(&mut world, peer, second);
        assert_eq!(payloads(&mut world, watcher), ["x"]);
        assert_eq!(world.ask(other, PINGREQ), PINGRESP);
    }
}

#[test]
fn mqtt311_3_1_2_1() {
    for name in ["mqtt", "MQTT ", "MQT", "", "MQIsdp", "HTTP", "MQTTMQTT"] {
        let mut world = World::new();
        let (peer, connack) = answer(&mut world, &Connect { name, ..Connect::new(V311, "a") }.bytes());
        assert_eq!(connack, [0x20, 2, 0, 1], "{name:?}");
        assert!(world.is_closed(peer), "{name:?}");
        assert_eq!(world.broker.census().sessions, 0);
    }
}

#[test]
fn mqtt311_3_1_2_2() {
    for level in [0, 1, 2, 3, 0x83, 0x86, 255] {
        let mut world = World::new();
        let connect = Connect { level, ..Connect::new(V311, "a") };
        let (peer, connack) = answer(&mut world, &connect.bytes());
        assert_eq!(connack, [0x20, 2, 0, 1], "level {level}");
        assert!(world.is_closed(peer), "level {level}");
        assert_eq!(world.broker.census().sessions, 0);
    }
}

#[test]
fn mqtt311_3_1_2_3() {
    let id: &[u8] = &field("c");
    for flags in [0x02, 0x00] {
        assert_connects(flags, &[id], true);
        assert_connects(flags | 0x01, &[id], false);
    }
    assert_connects(0x87, &[id, &field("w"), &field("m"), &field("u")], false);
}

#[test]
fn mqtt311_3_1_2_18() {
    let (id, name): (&[u8], &[u8]) = (&field("c"), &field("user"));
    assert_connects(0x02, &[id, name], false);
    assert_connects(0x82, &[id, name], true);
}

#[test]
fn mqtt311_3_1_2_19() {
    let id: &[u8] = &field("c");
    assert_connects(0x82, &[id], false);
    assert_connects(0x82, &[id, &[0]], false);
    assert_connects(0x82, &[id, &[0, 2, b'u']], false);
    assert_connects(0x82, &[id, &[0, 0]], true);
}

#[test]
fn mqtt311_3_1_2_20() {
    let (id, name, password): (&[u8], &[u8], &[u8]) = (&field("c"), &field("u"), &field("p"));
    assert_connects(0x82, &[id, name, password], false);
    assert_connects(0xC2, &[id, name, password], true);
}

#[test]
fn mqtt311_3_1_2_21() {
    let (id, name): (&[u8], &[u8]) = (&field("c"), &field("u"));
    assert_connects(0xC2, &[id, name], false);
    assert_connects(0xC2, &[id, name, &[0, 2, b'p']], false);
    assert_connects(0xC2, &[id, name, &[0, 0]], true);
    // A password is binary data, not a string.
    assert_connects(0xC2, &[id, name, &[0, 3, 0, 0xFF, 0xC0]], true);
}

#[test]
fn mqtt311_3_1_2_22() {
    let (id, password): (&[u8], &[u8]) = (&field("c"), &field("p"));
    assert_connects(0x42, &[id, password], false);
    assert_connects(0x42, &[id, &field("u"), password], false);
}

/// A client that pings in time stays connected, and so does one that sends something else.
#[test]
fn mqtt311_3_1_2_23() {
    let mut world = World::new();
    let connect = |id| Connect::new(V311, id).keep_alive(10).bytes();
    let (pinging, publishing) = (world.connect(connect("pinging")), world.connect(connect("publishing")));
    for _ in 0..10 {
        world.pass_seconds(10);
        assert_eq!(world.ask(pinging, PINGREQ), PINGRESP);
        world.send(publishing, Publish::new(V311, "a", b"").bytes());
        assert_quiet(&mut world, publishing, "it is not silent");
    }
}

#[test]
fn mqtt311_3_1_2_24() {
    for seconds in [1, 10, 65_535] {
        let mut world = World::new();
        let watcher = subscriber(&mut world, "watcher", "will", 0);
        let connect = Connect::new(V311, "peer").keep_alive(seconds).will("will", b"x", 0, false, &[]);
        let peer = world.connect(connect.bytes());
        let allowed = u64::from(seconds) * 1500;
        // Packets to the client are no sign of life, and neither is half a packet from it.
        listen(&mut world, peer, "a", 0);
        world.pass(allowed - 1);
        publish(&mut world, "a", b"", 0);
        assert_eq!(world.take(peer).len(), 1);
        world.send(peer, &PINGREQ[..1]);
        assert_quiet(&mut world, peer, "not yet");
        assert_quiet(&mut world, watcher, "not yet");
        world.pass(1);
        assert_closed_silently(&mut world, peer, "silent");
        assert_eq!(payloads(&mut world, watcher), ["x"]);
    }
}

#[test]
fn mqtt311_3_1_2_24_zero_turns_it_off() {
    let mut world = World::new();
    let peer = client(&mut world, "peer");
    world.pass_seconds(10 * 365 * 24 * 3600);
    assert_eq!(world.ask(peer, PINGREQ), PINGRESP);
}

/// Each field of the payload is found where the flags place it, and the access control is asked about exactly those.
#[test]
fn mqtt311_3_1_3_1() {
    type Seen = Rc<RefCell<Vec<(String, Option<String>, Option<Vec<u8>>)>>>;
    let seen = Seen::default();
    let notes = seen.clone();
    let note = move |client: &Client<'_>, question: Question<'_>| {
        if let Question::Connect { password, .. } = question {
            let user_name = client.user_name.map(ToOwned::to_owned);
            notes.borrow_mut().push((
                client.client_identifier.to_owned(),
                user_name,
                password.map(Into::into),
            ));
        }
        Verdict::Granted
    };
    let mut world = World::with(Limits::default(), Rule(note));
    let watcher = subscriber(&mut world, "watcher", "#", 0);
    let (id, topic, message, user, password) =
        (field("c"), field("topic"), field("message"), field("user"), field("password"));
    for has_will in [false, true] {
        for (has_user, has_password) in [(false, false), (true, false), (true, true)] {
            let flags = 0x02
                | if has_will { 0x04 } else { 0 }
                | if has_user { 0x80 } else { 0 }
                | if has_password { 0x40 } else { 0 };
            let mut payload: Vec<&[u8]> = vec![&id];
            payload.extend(if has_will { vec![&topic[..], &message] } else { vec![] });
            payload.extend(if has_user { vec![&user[..]] } else { vec![] });
            payload.extend(if has_password { vec![&password[..]] } else { vec![] });
            let peer = world.connect(raw_connect(flags, &payload));
            let noted = seen.borrow_mut().pop();
            let (user, password) =
                (has_user.then(|| "user".into()), has_password.then(|| b"password".into()));
            assert_eq!(noted, Some(("c".into(), user, password)));
            world.cut(peer);
            let wills = messages(&mut world, watcher);
            let wills: Vec<_> = wills.iter().map(|will| (will.topic.as_str(), &will.payload[..])).collect();
            assert_eq!(wills, if has_will { vec![("topic", &b"message"[..])] } else { vec![] });
        }
    }
}

#[test]
fn mqtt311_3_1_3_3() {
    assert_connects(0x02, &[], false);
    assert_connects(0x02, &[&[0]], false);
    assert_connects(0x02, &[&[0, 2, b'c']], false);
    assert_connects(0x02, &[&field("c")], true);
    // Only the first field is the identifier: with a Will, a single field is not enough.
    assert_connects(0x06, &[&field("w"), &field("m")], false);
}

#[test]
fn mqtt311_3_1_3_4() {
    for identifier in [&b"\xFF"[..], b"a\xED\xA0\x80", b"a\0", b"\xC3", b"\x7F"] {
        assert_connects(0x02, &[&field(identifier)], false);
        assert_connects(0x00, &[&field(identifier)], false);
    }
    assert_connects(0x02, &[&field("ü/+#$ ~")], true);
}

#[test]
fn mqtt311_3_1_3_5() {
    let all = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    for flags in [0x00, 0x02] {
        for start in 0..all.len() - 22 {
            assert_connects(flags, &[&field(&all[start..start + 23])], true);
        }
        for length in 1..=23 {
            assert_connects(flags, &[&field(&all[..length])], true);
        }
        // A server may accept more, and this one does.
        assert_connects(flags, &[&field("x".repeat(24))], true);
        assert_connects(flags, &[&field("x".repeat(60_000))], true);
    }
}

#[test]
fn mqtt311_3_1_3_6() {
    let mut world = World::new();
    let peers: Vec<Peer> = (0..20).map(|_| client(&mut world, "")).collect();
    for (index, &peer) in peers.iter().enumerate() {
        listen(&mut world, peer, &format!("t/{index}"), 1);
    }
    for (index, &peer) in peers.iter().enumerate() {
        publish(&mut world, &format!("t/{index}"), b"", 1);
        assert_eq!(message(&mut world, peer).topic, format!("t/{index}"));
        assert!(!world.is_closed(peer));
    }
    assert_eq!(world.broker.census().sessions, 20);
    for peer in peers {
        world.cut(peer);
    }
    assert_eq!(world.broker.census().sessions, 0);
}

#[test]
fn mqtt311_3_1_3_7() {
    let mut world = World::new();
    let (refused, connack) = answer(&mut world, &Connect::new(V311, "").resume().bytes());
    assert_eq!(connack, IDENTIFIER_REJECTED);
    assert!(world.is_closed(refused));
    let (accepted, connack) = answer(&mut world, &Connect::new(V311, "").bytes());
    assert_eq!(connack, [0x20, 2, 0, 0]);
    assert_quiet(&mut world, accepted, "CleanSession 1");
}

#[test]
fn mqtt311_3_1_3_8() {
    let mut world = World::new();
    let watcher = subscriber(&mut world, "watcher", "#", 0);
    let connect = Connect::new(V311, "").resume();
    for connect in [
        connect.clone(),
        connect.clone().user_name("u").password(b"p"),
        connect.will("w", b"x", 0, false, &[]),
    ] {
        let late = Publish::new(V311, "a", b"late").bytes();
        let (peer, connack) = answer(&mut world, &[connect.bytes(), late].concat());
        assert_eq!(connack, IDENTIFIER_REJECTED);
        assert!(world.is_closed(peer));
        assert_quiet(&mut world, watcher, "nothing of it takes effect");
    }
}

#[test]
fn mqtt311_3_1_3_9() {
    let rule = |client: &Client<'_>, _: Question<'_>| match client.client_identifier {
        "bad" => Verdict::Refused(ReasonCode::ClientIdentifierNotValid),
        _ => Verdict::Granted,
    };
    let mut world = World::with(Limits::default(), Rule(rule));
    let (peer, connack) = answer(&mut world, &Connect::new(V311, "bad").bytes());
    assert_eq!(connack, IDENTIFIER_REJECTED);
    assert!(world.is_closed(peer));
    client(&mut world, "good");
}

#[test]
fn mqtt311_3_1_3_10() {
    let id: &[u8] = &field("c");
    for topic in [&b"\xFF"[..], b"a\xED\xA0\x80", b"a\0b", b"", b"a/+", b"#"] {
        assert_connects(0x06, &[id, &field(topic), &field("m")], false);
    }
    assert_connects(0x06, &[id, &field("ü/€/"), &field(b"\xFF\0")], true);
}

#[test]
fn mqtt311_3_1_3_11() {
    let id: &[u8] = &field("c");
    for name in [&b"\xFF"[..], b"a\xED\xA0\x80", b"a\0b"] {
        assert_connects(0x82, &[id, &field(name)], false);
    }
    assert_connects(0x82, &[id, &field("ü+#")], true);
}

/// Wherever a CONNECT is cut off, it is not answered and has no effect.
#[test]
fn mqtt311_3_1_4_1() {
    let full =
        Connect::new(V311, "client").will("will", b"x", 1, true, &[]).user_name("user").password(b"pass");
    let full = full.bytes();
    let body = &full[2..];
    let mut world = World::new();
    let watcher = subscriber(&mut world, "watcher", "#", 0);
    let connected = client(&mut world, "client");
    for length in 0..body.len() {
        let peer = world.open();
        world.send(peer, packet(0x10, &body[..length]));
        assert_closed_silently(&mut world, peer, &format!("cut to {length}"));
    }
    for (what, bytes) in [
        ("a byte more", packet(0x10, &[body, &[0]].concat())),
        ("Remaining Length of five bytes", [&[0x10, 0xFF, 0xFF, 0xFF, 0xFF, 0x01], body].concat()),
        ("a CONNECT of 256 MB", [&[0x10, 0xFF, 0xFF, 0xFF, 0x7F], body].concat()),
    ] {
        let peer = world.open();
        world.send(peer, bytes);
        assert_closed_silently(&mut world, peer, what);
    }
    assert_quiet(&mut world, watcher, "none of it was processed");
    assert_eq!(world.ask(connected, PINGREQ), PINGRESP, "nor took the identifier over");
    answer(&mut world, &full);
    assert!(world.is_closed(connected), "the whole one does");
}

#[test]
fn mqtt311_3_1_4_2() {
    for (is_first_persistent, is_second_persistent) in
        [(false, false), (false, true), (true, false), (true, true)]
    {
        let mut world = World::new();
        let watcher = subscriber(&mut world, "watcher", "will", 0);
        let connect = |is_persistent: bool| {
            let connect = Connect::new(V311, "peer").will("will", b"x", 0, false, &[]);
            if is_persistent { connect.resume().bytes() } else { connect.bytes() }
        };
        let older = world.connect(connect(is_first_persistent));
        listen(&mut world, older, "a", 0);
        let newer = world.connect(connect(is_second_persistent));
        // 3.1.1 cannot express the reason, so the older connection is closed without a packet.
        assert_closed_silently(&mut world, older, "the older connection");
        assert_eq!(payloads(&mut world, watcher), ["x"]);
        assert_eq!(world.ask(newer, PINGREQ), PINGRESP);
        publish(&mut world, "a", b"", 0);
        let is_resumed = is_first_persistent && is_second_persistent;
        assert_eq!(messages(&mut world, newer).len(), usize::from(is_resumed));
    }
}

#[test]
fn mqtt311_3_1_4_2_across_versions() {
    for (older, newer) in [(V31, V311), (V311, V31), (V311, V311), (V5, V311)] {
        let mut world = World::new();
        let first = world.connect(Connect::new(older, "peer").bytes());
        let second = world.connect(Connect::new(newer, "peer").bytes());
        assert!(world.is_closed(first));
        assert_eq!(world.take(first).is_empty(), older != V5);
        assert_eq!(world.ask(second, PINGREQ), PINGRESP);
    }
}

/// A CONNECT that is refused takes no session over.
#[test]
fn mqtt311_3_1_4_2_refused() {
    let rule = |client: &Client<'_>, _: Question<'_>| match client.user_name {
        Some("intruder") => Verdict::Refused(ReasonCode::BadUserNameOrPassword),
        _ => Verdict::Granted,
    };
    let mut world = World::with(Limits::default(), Rule(rule));
    let owner = client(&mut world, "peer");
    let (peer, connack) = answer(&mut world, &Connect::new(V311, "peer").user_name("intruder").bytes());
    assert_eq!(connack, [0x20, 2, 0, 4]);
    assert!(world.is_closed(peer));
    assert_eq!(world.ask(owner, PINGREQ), PINGRESP);
}

#[test]
fn mqtt311_3_1_4_4() {
    let mut world = World::new();
    let full = Connect::new(V311, "full").will("w", b"", 2, true, &[]).user_name("u").password(b"p");
    for connect in [Connect::new(V311, "clean"), Connect::new(V311, "kept").resume(), full.keep_alive(60)] {
        let (peer, connack) = answer(&mut world, &connect.bytes());
        assert_eq!(connack, [0x20, 2, 0, 0]);
        assert_eq!(world.ask(peer, PINGREQ), PINGRESP);
    }
}

/// Whether or not a client waits for its CONNACK before it sends on: if that is a refusal, nothing more counts.
#[test]
fn mqtt311_3_1_4_5() {
    let rule = |client: &Client<'_>, _: Question<'_>| match client.user_name {
        Some("intruder") => Verdict::Refused(ReasonCode::NotAuthorized),
        _ => Verdict::Granted,
    };
    let mut world = World::with(Limits::default(), Rule(rule));
    let watcher = subscriber(&mut world, "watcher", "#", 1);
    let rest = [
        subscribe(V311, 1, &[], &[("#", 1)]),
        Publish::new(V311, "a", b"x").qos(1, 2).retain().bytes(),
        PINGREQ.to_vec(),
    ]
    .concat();
    for (connect, code) in [
        (Connect { level: 3, ..Connect::new(V311, "a") }, 1),
        (Connect::new(V311, "").resume(), 2),
        (Connect::new(V311, "a").user_name("intruder"), 5),
    ] {
        let (peer, answers) = answer(&mut world, &[&connect.bytes()[..], &rest].concat());
        assert_eq!(answers, [0x20, 2, 0, code]);
        assert!(world.is_closed(peer));
        assert_quiet(&mut world, watcher, "published after a refusal");
        assert_eq!((world.broker.census().sessions, world.broker.census().retained), (1, 0));
    }
    let (peer, answers) = answer(&mut world, &[&Connect::new(V311, "a").bytes()[..], &rest].concat());
    assert_eq!(answers[..4], [0x20, 2, 0, 0]);
    assert!(!world.is_closed(peer));
    // Answers that wait for a disk come after it.
    assert!(crate::IS_PERSISTENT || answers.ends_with(&PINGRESP));
    assert_eq!(payloads(&mut world, watcher), ["x"]);
}

#[test]
fn mqtt311_3_2_0_1() {
    let mut world = World::new();
    let peer = world.open();
    assert_quiet(&mut world, peer, "before its CONNECT");
    world.send(peer, [&Connect::new(V311, "peer").resume().bytes()[..], &PINGREQ].concat());
    assert_eq!(world.take(peer).concat(), [0x20, 2, 0, 0, 0xD0, 0]);
    // Not even queued messages for the client, nor its own Will, come before the CONNACK.
    listen(&mut world, peer, "#", 1);
    publish(&mut world, "a", b"1", 1);
    world.cut(peer);
    publish(&mut world, "a", b"2", 1);
    for count in [3, 4] {
        let again = world.open();
        world.send(again, Connect::new(V311, "peer").resume().will("a", b"will", 1, false, &[]).bytes());
        let packets = world.take(again);
        assert_eq!(packets[0], [0x20, 2, 1, 0]);
        assert_eq!(packets.len(), count, "{packets:02x?}");
        assert!(packets[1..].iter().all(|packet| packet[0] >> 4 == 3), "{packets:02x?}");
    }
}

#[test]
fn mqtt311_3_2_2_1() {
    let mut world = World::new();
    let peer = persistent_subscriber(&mut world, "peer", "a", 1);
    world.cut(peer);
    for _ in 0..2 {
        let (_, connack) = answer(&mut world, &Connect::new(V311, "peer").bytes());
        assert_eq!(connack, [0x20, 2, 0, 0]);
    }
}

#[test]
fn mqtt311_3_2_2_2() {
    let connect = Connect::new(V311, "peer").resume().bytes();
    let mut world = World::new();
    let (peer, _) = answer(&mut world, &connect);
    world.send(peer, DISCONNECT);
    // An empty session is a session as well.
    let (peer, connack) = answer(&mut world, &connect);
    assert_eq!(connack, [0x20, 2, 1, 0]);
    world.cut(peer);
    world.pass_seconds(365 * 24 * 3600);
    let (_, connack) = answer(&mut world, &connect);
    assert_eq!(connack, [0x20, 2, 1, 0], "3.1.1 lets no session expire");
    let (_, connack) = answer(&mut world, &connect);
    assert_eq!(connack, [0x20, 2, 1, 0], "taken over");
}

#[test]
fn mqtt311_3_2_2_3() {
    let connect = Connect::new(V311, "peer").resume().bytes();
    let mut world = World::new();
    let (peer, connack) = answer(&mut world, &connect);
    assert_eq!(connack, [0x20, 2, 0, 0], "never seen");
    world.cut(peer);
    let (_, connack) = answer(&mut world, &Connect::new(V311, "PEER").resume().bytes());
    assert_eq!(connack, [0x20, 2, 0, 0], "another client");
    let peer = client(&mut world, "peer");
    world.send(peer, DISCONNECT);
    let (_, connack) = answer(&mut world, &connect);
    assert_eq!(connack, [0x20, 2, 0, 0], "dropped by a clean one");
}

/// Refusals with each code, for a client whose session is stored and stays so.
#[test]
fn mqtt311_3_2_2_4() {
    for (reason, code) in [
        (ReasonCode::ClientIdentifierNotValid, 2),
        (ReasonCode::ServerUnavailable, 3),
        (ReasonCode::QuotaExceeded, 3),
        (ReasonCode::BadUserNameOrPassword, 4),
        (ReasonCode::NotAuthorized, 5),
    ] {
        let rule = move |client: &Client<'_>, _: Question<'_>| match client.user_name {
            Some("intruder") => Verdict::Refused(reason),
            _ => Verdict::Granted,
        };
        let mut world = World::with(Limits::default(), Rule(rule));
        let peer = persistent_client(&mut world, "peer");
        world.cut(peer);
        let intruder = Connect::new(V311, "peer").user_name("intruder");
        for connect in [intruder.clone(), intruder.resume()] {
            let (peer, connack) = answer(&mut world, &connect.bytes());
            assert_eq!(connack, [0x20, 2, 0, code]);
            assert!(world.is_closed(peer));
        }
        let (_, is_present, _) = back(&mut world, "peer");
        assert!(is_present, "the stored session is not touched by a refusal");
    }
}

#[test]
fn mqtt311_3_2_2_5() {
    let rule = |client: &Client<'_>, question: Question<'_>| match (client.user_name, question) {
        (Some("bad password"), _) => Verdict::Refused(ReasonCode::BadUserNameOrPassword),
        (_, Question::Publish { topic, .. }) if topic.as_str() == "forbidden" => {
            Verdict::Refused(ReasonCode::NotAuthorized)
        }
        _ => Verdict::Granted,
    };
    let mut world = World::with(Limits { sessions: 1, ..Limits::default() }, Rule(rule));
    for (connect, code) in [
        (Connect { level: 0x89, ..Connect::new(V311, "a") }, 1),
        (Connect::new(V311, "").resume(), 2),
        (Connect::new(V311, "a").user_name("bad password"), 4),
        (Connect::new(V311, "a").will("forbidden", b"", 0, false, &[]), 5),
    ] {
        let (peer, connack) = answer(&mut world, &connect.bytes());
        assert_eq!(connack, [0x20, 2, 0, code]);
        assert!(world.is_closed(peer), "code {code}");
    }
    let last = client(&mut world, "the last that there is room for");
    let (peer, connack) = answer(&mut world, &Connect::new(V311, "a").bytes());
    assert_eq!(connack, [0x20, 2, 0, 3]);
    assert!(world.is_closed(peer));
    assert_eq!(world.ask(last, PINGREQ), PINGRESP);
}

/// No return code stands for a CONNECT that breaks the protocol, rather than one that asks for too much.
#[test]
fn mqtt311_3_2_2_6() {
    let id: &[u8] = &field("c");
    assert_connects(0x03, &[id], false);
    assert_connects(0x1E, &[id, &field("w"), &field("m")], false);
    assert_connects(0x42, &[id, &field("p")], false);
    assert_connects(0x02, &[&field(b"\xFF")], false);
    assert_connects(0x02, &[id, b"left over"], false);
}
