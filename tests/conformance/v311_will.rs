//! Chapters 3.1.2.5 to 3.1.2.7 and 3.14: the Will, and the DISCONNECT that revokes it.

use crate::v311::*;
use crate::wire::*;
use crate::world::World;

/// A CONNECT with a Will for `will`.
fn with_will(qos: u8, retain: bool) -> Connect {
    Connect::new(V311, "peer").will("will", b"gone", qos, retain, &[])
}

/// Sends a CONNECT with these flags and fields; returns whether it was accepted. Otherwise it must be closed without a
/// packet.
fn is_accepted(flags: u8, fields: &[&[u8]]) -> bool {
    let mut world = World::new();
    let watcher = subscriber(&mut world, "watcher", "#", 0);
    let peer = world.open();
    let header = [b"\x00\x04MQTT\x04", &[flags, 0, 0][..]].concat();
    world.send(peer, packet(0x10, &[header, fields.concat()].concat()));
    let is_accepted = !world.is_closed(peer);
    if !is_accepted {
        assert_closed_silently(&mut world, peer, &format!("flags {flags:08b}"));
    }
    assert_quiet(&mut world, watcher, "no Will yet");
    is_accepted
}

/// Every end except a DISCONNECT publishes the Will, of a clean session and of a persistent one.
#[test]
fn mqtt311_3_1_2_8() {
    let ends: [(&str, End); 9] = [
        ("network failure", World::cut),
        ("silence", |world, _| world.pass_seconds(15)),
        ("malformed packet", |world, peer| world.send(peer, [0x36, 0])),
        ("packet of a server", |world, peer| world.send(peer, PINGRESP)),
        ("no packet at all", |world, peer| world.send(peer, [0xFF; 9])),
        ("second CONNECT", |world, peer| world.send(peer, with_will(0, false).bytes())),
        ("taken over", |world, _| {
            client(world, "peer");
        }),
        ("half a DISCONNECT", |world, peer| {
            world.send(peer, &DISCONNECT[..1]);
            world.cut(peer);
        }),
        ("shutdown", |world, _| {
            let now = world.now();
            world.broker.shut_down(now);
            world.settle();
        }),
    ];
    for (what, end) in ends {
        for is_persistent in [false, true] {
            let mut world = World::new();
            let watcher = subscriber(&mut world, "watcher", "will", 2);
            let connect = with_will(1, false).keep_alive(10);
            let peer = world.connect(if is_persistent { connect.resume().bytes() } else { connect.bytes() });
            assert_quiet(&mut world, watcher, "the client is there");
            end(&mut world, peer);
            assert!(world.is_closed(peer), "{what}");
            // A shutdown ends the watcher as well, but not before it was told.
            let will = message(&mut world, watcher);
            assert_eq!(
                (will.topic.as_str(), &will.payload[..], will.qos),
                ("will", &b"gone"[..], 1),
                "{what}"
            );
        }
    }
}

/// For disconnected clients, a Will is a message like any other.
#[test]
fn mqtt311_3_1_2_8_for_the_absent() {
    for qos in [1, 2] {
        let mut world = World::new();
        let watcher = persistent_subscriber(&mut world, "watcher", "will", 2);
        world.cut(watcher);
        let peer = world.connect(with_will(qos, false).bytes());
        world.cut(peer);
        let (_, _, packets) = back(&mut world, "watcher");
        assert_eq!(received(V311, &packets[0]).qos, qos);
    }
}

#[test]
fn mqtt311_3_1_2_9() {
    let (id, topic, payload): (&[u8], &[u8], &[u8]) = (&field("c"), &field("w"), &field("m"));
    assert!(is_accepted(0x06, &[id, topic, payload]));
    assert!(is_accepted(0x06, &[id, topic, &field("")]), "a Will may be empty");
    assert!(!is_accepted(0x06, &[id]));
    assert!(!is_accepted(0x06, &[id, topic]));
    assert!(!is_accepted(0x06, &[id, topic, &[0, 2, b'm']]));
    assert!(!is_accepted(0x86, &[id, topic, payload]));
}

#[test]
fn mqtt311_3_1_2_9_empty() {
    let mut world = World::new();
    let watcher = subscriber(&mut world, "watcher", "will", 0);
    let peer = world.connect(Connect::new(V311, "peer").will("will", b"", 0, false, &[]).bytes());
    world.cut(peer);
    assert_eq!(world.take_one(watcher), [0x30, 6, 0, 4, b'w', b'i', b'l', b'l']);
}

/// Once published or revoked it does not come again, whatever happens to the session.
#[test]
fn mqtt311_3_1_2_10() {
    for is_disconnected in [false, true] {
        let mut world = World::new();
        let watcher = subscriber(&mut world, "watcher", "will", 0);
        let peer = world.connect(with_will(0, false).resume().bytes());
        if is_disconnected {
            world.send(peer, DISCONNECT);
            assert_quiet(&mut world, watcher, "taken back");
        } else {
            world.cut(peer);
            assert_eq!(payloads(&mut world, watcher), ["gone"]);
        }
        let (peer, is_present, _) = back(&mut world, "peer");
        assert!(is_present);
        world.cut(peer);
        let peer = client(&mut world, "peer");
        world.cut(peer);
        world.pass_seconds(1000);
        assert_quiet(&mut world, watcher, "it no longer has a Will");
    }
}

/// Each CONNECT has its own.
#[test]
fn mqtt311_3_1_2_10_replaced() {
    let mut world = World::new();
    let watcher = subscriber(&mut world, "watcher", "#", 0);
    let peer = world.connect(with_will(0, false).resume().bytes());
    world.send(peer, DISCONNECT);
    let other = Connect::new(V311, "peer").resume().will("other", b"new", 0, false, &[]);
    let peer = world.open();
    world.send(peer, other.bytes());
    world.cut(peer);
    assert_eq!(message(&mut world, watcher).topic, "other");
}

#[test]
fn mqtt311_3_1_2_11() {
    let (id, topic, payload): (&[u8], &[u8], &[u8]) = (&field("c"), &field("w"), &field("m"));
    for flags in [0x0A, 0x12, 0x1A, 0x22, 0x2A, 0x32, 0x3A] {
        assert!(!is_accepted(flags, &[id]), "{flags:08b}");
        assert!(!is_accepted(flags, &[id, topic, payload]), "{flags:08b}");
    }
    assert!(!is_accepted(0x02, &[id, topic, payload]));
    assert!(is_accepted(0x02, &[id]));
}

#[test]
fn mqtt311_3_1_2_12() {
    for connect in [Connect::new(V311, "peer"), Connect::new(V311, "peer").resume()] {
        let mut world = World::new();
        let watcher = subscriber(&mut world, "watcher", "#", 0);
        let peer = world.connect(connect.bytes());
        world.cut(peer);
        assert_quiet(&mut world, watcher, "no Will was asked for");
    }
}

#[test]
fn mqtt311_3_1_2_13() {
    for clean in [0x00, 0x02] {
        for qos in 1..=3 {
            assert!(!is_accepted(clean | qos << 3, &[&field("c")]), "Will QoS {qos}");
        }
        assert!(is_accepted(clean, &[&field("c")]));
    }
}

#[test]
fn mqtt311_3_1_2_14() {
    for retain in [0x00, 0x20] {
        for qos in 0..=3 {
            let fields: [&[u8]; 3] = [&field("c"), &field("w"), &field("m")];
            assert_eq!(is_accepted(0x06 | retain | qos << 3, &fields), qos < 3, "Will QoS {qos}");
        }
    }
}

#[test]
fn mqtt311_3_1_2_14_it_is_the_qos() {
    for will in 0..=2 {
        for granted in 0..=2 {
            let mut world = World::new();
            let watcher = subscriber(&mut world, "watcher", "will", granted);
            let peer = world.connect(with_will(will, false).bytes());
            world.cut(peer);
            assert_eq!(message(&mut world, watcher).qos, will.min(granted));
        }
    }
}

#[test]
fn mqtt311_3_1_2_15() {
    assert!(!is_accepted(0x22, &[&field("c")]));
    assert!(!is_accepted(0x20, &[&field("c")]));
    assert!(is_accepted(0x26, &[&field("c"), &field("w"), &field("m")]));
}

#[test]
fn mqtt311_3_1_2_16() {
    for qos in 0..=2 {
        let mut world = World::new();
        retain(&mut world, "will", b"before", 0);
        let peer = world.connect(with_will(qos, false).bytes());
        world.cut(peer);
        let late = subscriber_with_retained(&mut world);
        assert_eq!(late.iter().map(|message| &message.payload[..]).collect::<Vec<_>>(), [b"before"]);
    }
}

#[test]
fn mqtt311_3_1_2_17() {
    for qos in 0..=2 {
        let mut world = World::new();
        let watcher = subscriber(&mut world, "watcher", "will", 2);
        let peer = world.connect(with_will(qos, true).bytes());
        assert_eq!(world.broker.census().retained, 0);
        world.cut(peer);
        let will = message(&mut world, watcher);
        assert_eq!((will.qos, will.retain), (qos, false), "the subscription was there before");
        let late = subscriber_with_retained(&mut world);
        assert_eq!(late.len(), 1);
        assert_eq!((&late[0].payload[..], late[0].qos, late[0].retain), (&b"gone"[..], qos, true));
    }
}

/// An empty Will that is to be retained clears the topic, as any such message does.
#[test]
fn mqtt311_3_1_2_17_empty() {
    let mut world = World::new();
    retain(&mut world, "will", b"before", 0);
    let peer = world.connect(Connect::new(V311, "peer").will("will", b"", 0, true, &[]).bytes());
    world.cut(peer);
    assert!(subscriber_with_retained(&mut world).is_empty());
}

/// What a new subscriber of `will` gets after its SUBACK.
fn subscriber_with_retained(world: &mut World) -> Vec<Received> {
    let peer = client(world, "late");
    world.send(peer, subscribe(V311, 1, &[], &[("will", 2)]));
    world.take(peer)[1..].iter().map(|packet| received(V311, packet)).collect()
}

/// A DISCONNECT with reserved bits or with a body is not valid: the Will is published.
#[test]
fn mqtt311_3_14_1_1() {
    let mut world = World::new();
    let watcher = subscriber(&mut world, "watcher", "will", 0);
    let wrong = (1..16).map(|flags| vec![0xE0 | flags, 0]).chain([vec![0xE0, 1, 0], vec![0xE0, 2, 4, 0]]);
    for bytes in wrong {
        let peer = world.connect(with_will(0, false).bytes());
        world.send(peer, &bytes);
        assert_closed_silently(&mut world, peer, &format!("{bytes:02x?}"));
        assert_eq!(payloads(&mut world, watcher), ["gone"], "{bytes:02x?}");
    }
}

/// The broker closes the connection as well, if the client does not.
#[test]
fn mqtt311_3_14_4_1() {
    let mut world = World::new();
    let peer = client(&mut world, "peer");
    world.send(peer, DISCONNECT);
    assert_closed_silently(&mut world, peer, "DISCONNECT");
}

#[test]
fn mqtt311_3_14_4_2() {
    let mut world = World::new();
    let watcher = subscriber(&mut world, "watcher", "#", 2);
    let peer = client(&mut world, "peer");
    let late = [
        Publish::new(V311, "a", b"late").bytes(),
        Publish::new(V311, "a", b"late").qos(1, 1).bytes(),
        PINGREQ.to_vec(),
        Connect::new(V311, "again").bytes(),
    ];
    world.send(peer, [&DISCONNECT[..], &late.concat()].concat());
    assert_closed_silently(&mut world, peer, "DISCONNECT");
    assert_quiet(&mut world, watcher, "sent after the DISCONNECT");
    assert_eq!(world.broker.census().sessions, 1);
}

#[test]
fn mqtt311_3_14_4_3() {
    for (qos, retain) in [(0, false), (1, true), (2, true)] {
        for is_persistent in [false, true] {
            let mut world = World::new();
            let watcher = subscriber(&mut world, "watcher", "will", 2);
            let connect = with_will(qos, retain).keep_alive(10);
            let peer = world.connect(if is_persistent { connect.resume().bytes() } else { connect.bytes() });
            world.send(peer, DISCONNECT);
            world.pass_seconds(1000);
            assert_quiet(&mut world, watcher, "taken back");
            assert_eq!(world.broker.census().retained, 0);
        }
    }
}
