//! Chapters 3.1.2.4, 3.1.3.1, 4.1 and 4.4: what outlives a connection, and what is sent again on the next one.

use crate::v311::*;
use crate::wire::*;
use crate::world::World;

/// The ways in which a connection ends and a persistent session does not.
const ENDS: [(&str, End); 4] = [
    ("DISCONNECT", |world, peer| world.send(peer, DISCONNECT)),
    ("network failure", World::cut),
    ("protocol violation", |world, peer| world.send(peer, [0, 0])),
    ("nothing: it is taken over", |_, _| {}),
];

/// The packets as messages, which all of them must be.
fn all(packets: &[Vec<u8>]) -> Vec<Received> {
    packets.iter().map(|packet| received(V311, packet)).collect()
}

#[test]
fn mqtt311_3_1_2_4() {
    for (what, end) in ENDS {
        let mut world = World::new();
        let peer = persistent_client(&mut world, "peer");
        assert_eq!(world.ask(peer, subscribe(V311, 1, &[], &[("a", 1), ("b/+", 2)])), [0x90, 4, 0, 1, 1, 2]);
        world.ask(peer, Publish::new(V311, "x", b"").qos(2, 77).bytes());
        let mut last = peer;
        for _ in 0..2 {
            end(&mut world, last);
            world.pass_seconds(100 * 24 * 3600);
            let (peer, is_present, packets) = back(&mut world, "peer");
            assert!(is_present && packets.is_empty(), "{what}");
            last = peer;
        }
        publish(&mut world, "a", b"", 2);
        publish(&mut world, "b/c", b"", 2);
        let qos: Vec<u8> = messages(&mut world, last).iter().map(|message| message.qos).collect();
        assert_eq!(qos, [1, 2], "{what}");
    }
}

#[test]
fn mqtt311_3_1_2_5() {
    for (what, end) in ENDS.into_iter().take(3) {
        let mut world = World::new();
        let peer = persistent_client(&mut world, "peer");
        let filters = [("one", 1), ("two", 2), ("none", 0)];
        assert_eq!(world.ask(peer, subscribe(V311, 1, &[], &filters)), [0x90, 5, 0, 1, 1, 2, 0]);
        end(&mut world, peer);
        for (topic, payload, qos) in [
            ("two", b"1", 2),
            ("one", b"2", 1),
            ("none", b"-", 2),
            ("two", b"3", 1),
            ("one", b"4", 2),
            ("unasked", b"-", 2),
        ] {
            publish(&mut world, topic, payload, qos);
        }
        world.pass_seconds(1_000_000);
        let (_, _, packets) = back(&mut world, "peer");
        let stored: Vec<_> = all(&packets).into_iter().map(|m| (m.payload, m.qos, m.dup, m.retain)).collect();
        let expected =
            [(b"1", 2), (b"2", 1), (b"3", 1), (b"4", 1)].map(|(p, qos)| (p.to_vec(), qos, false, false));
        assert_eq!(stored, expected, "{what}");
    }
}

/// Many messages, more than are sent at a time.
#[test]
fn mqtt311_3_1_2_5_many() {
    let mut world = World::new();
    let peer = persistent_subscriber(&mut world, "peer", "t", 1);
    world.cut(peer);
    let publisher = client(&mut world, "publisher");
    let batch = |range: std::ops::Range<u32>| -> Vec<u8> {
        let publish = |number: u32| Publish::new(V311, "t", number.to_string().as_bytes()).qos(1, 1).bytes();
        range.flat_map(publish).collect()
    };
    world.send(publisher, batch(0..900));
    let (peer, _, packets) = back(&mut world, "peer");
    let mut stored = all(&packets);
    assert!(stored.len() < 900);
    let mut acknowledged = 0;
    while acknowledged < stored.len() {
        let fresh = stored[acknowledged..].iter().map(|message| message.packet_identifier.expect("QoS 1"));
        let answers: Vec<u8> = fresh.flat_map(|identifier| acknowledge(0x40, identifier)).collect();
        acknowledged = stored.len();
        world.send(peer, answers);
        stored.extend(messages(&mut world, peer));
    }
    let stored: Vec<String> =
        stored.into_iter().map(|m| String::from_utf8(m.payload).expect("text")).collect();
    assert_eq!(stored, (0..900).map(|number| number.to_string()).collect::<Vec<_>>());
}

/// A clean connection drops all stored state: subscriptions, messages on their way, identifiers of both directions.
/// And it leaves nothing.
#[test]
fn mqtt311_3_1_2_6() {
    for (what, end) in ENDS {
        let mut world = World::new();
        let watcher = subscriber(&mut world, "watcher", "x", 0);
        let peer = persistent_subscriber(&mut world, "peer", "a", 2);
        publish(&mut world, "a", b"in flight", 1);
        let released = Publish::new(V311, "x", b"").qos(2, 77).bytes();
        assert_eq!(world.take(peer).len(), 1);
        assert_eq!(world.ask(peer, &released[..]), acknowledge(0x50, 77));
        end(&mut world, peer);
        publish(&mut world, "a", b"queued", 1);
        world.take(peer);
        let clean = client(&mut world, "peer");
        publish(&mut world, "a", b"new", 1);
        assert_quiet(&mut world, clean, what);
        assert_eq!(messages(&mut world, watcher).len(), 1);
        assert_eq!(world.ask(clean, &released[..]), acknowledge(0x50, 77));
        assert_eq!(messages(&mut world, watcher).len(), 1, "77 is a new message: {what}");
        listen(&mut world, clean, "a", 1);
        publish(&mut world, "a", b"clean", 1);
        assert_eq!(message(&mut world, clean).packet_identifier, Some(1));
        end(&mut world, clean);
        publish(&mut world, "a", b"later", 1);
        world.take(clean);
        let (peer, is_present, packets) = back(&mut world, "peer");
        assert!(!is_present && packets.is_empty(), "{what}");
        publish(&mut world, "a", b"later still", 1);
        assert_quiet(&mut world, peer, what);
    }
}

#[test]
fn mqtt311_3_1_2_6_nothing_persists() {
    for (_, end) in ENDS.into_iter().take(3) {
        let mut world = World::new();
        let peer = subscriber(&mut world, "peer", "a", 2);
        end(&mut world, peer);
        let census = world.broker.census();
        assert_eq!((census.connections, census.sessions, census.subscriptions, census.timers), (0, 0, 0, 0));
    }
}

#[test]
fn mqtt311_3_1_2_7() {
    let mut world = World::new();
    for is_persistent in [false, true] {
        let peer =
            if is_persistent { persistent_client(&mut world, "peer") } else { client(&mut world, "peer") };
        world.send(peer, Publish::new(V311, "t", if is_persistent { b"1" } else { b"0" }).retain().bytes());
        world.send(peer, DISCONNECT);
        let clean = client(&mut world, "peer");
        world.cut(clean);
        let late = client(&mut world, "late");
        world.send(late, subscribe(V311, 1, &[], &[("t", 0)]));
        let retained = received(V311, &world.take(late)[1]);
        assert_eq!(
            (&retained.payload[..], retained.retain),
            (if is_persistent { &b"1"[..] } else { b"0" }, true)
        );
    }
}

#[test]
fn mqtt311_3_1_3_2() {
    let identifiers = ["peer", "Peer", "peer ", "pee", "\u{E9}", "e\u{301}", "a/b", "#"];
    let mut world = World::new();
    for (index, identifier) in identifiers.into_iter().enumerate() {
        let peer = persistent_subscriber(&mut world, identifier, &format!("t/{index}"), 1);
        world.send(peer, DISCONNECT);
    }
    for index in 0..identifiers.len() {
        publish(&mut world, &format!("t/{index}"), b"", 1);
    }
    for (index, identifier) in identifiers.into_iter().enumerate() {
        let (_, is_present, packets) = back(&mut world, identifier);
        assert!(is_present, "{identifier:?}");
        let topics: Vec<String> = all(&packets).into_iter().map(|message| message.topic).collect();
        assert_eq!(topics, [format!("t/{index}")], "{identifier:?}");
    }
}

#[test]
fn mqtt311_3_1_4_3() {
    for (first, second, is_persistent) in [(0, 0, true), (0, 1, false), (1, 0, false), (1, 1, false)] {
        let mut world = World::new();
        let connect = |clean: i32| {
            let connect = Connect::new(V311, "peer");
            if clean == 0 { connect.resume().bytes() } else { connect.bytes() }
        };
        let peer = world.connect(connect(first));
        listen(&mut world, peer, "a", 1);
        world.cut(peer);
        let peer = world.open();
        world.send(peer, connect(second));
        assert_eq!(world.take_one(peer), [0x20, 2, u8::from(is_persistent), 0], "{first} {second}");
        publish(&mut world, "a", b"", 1);
        assert_eq!(messages(&mut world, peer).len(), usize::from(is_persistent), "{first} {second}");
    }
}

/// The state of both directions survives, in the middle of each exchange.
#[test]
fn mqtt311_4_1_0_1() {
    let mut world = World::new();
    let watcher = subscriber(&mut world, "watcher", "x", 0);
    let peer = persistent_subscriber(&mut world, "peer", "a", 2);
    assert_eq!(world.ask(peer, Publish::new(V311, "x", b"").qos(2, 77).bytes()), acknowledge(0x50, 77));
    for qos in [1, 2, 2] {
        publish(&mut world, "a", b"", qos);
    }
    assert_eq!(messages(&mut world, peer).len(), 3);
    assert_eq!(world.ask(peer, acknowledge(0x50, 2)), acknowledge(0x62, 2));
    world.cut(peer);
    publish(&mut world, "a", b"", 1);
    let (peer, is_present, packets) = back(&mut world, "peer");
    assert!(is_present);
    let heads: Vec<u8> = packets.iter().map(|packet| packet[0]).collect();
    assert_eq!(heads, [0x3A, 0x62, 0x3C, 0x32]);
    assert_eq!(messages(&mut world, watcher).len(), 1);
    assert_eq!(world.ask(peer, Publish::new(V311, "x", b"").qos(2, 77).dup().bytes()), acknowledge(0x50, 77));
    assert_quiet(&mut world, watcher, "77 was received before");
    assert_eq!(world.ask(peer, acknowledge(0x62, 77)), acknowledge(0x70, 77));
}

/// A session lasts as long as its client is connected, even a clean one.
#[test]
fn mqtt311_4_1_0_2() {
    for is_persistent in [false, true] {
        let mut world = World::new();
        let peer =
            if is_persistent { persistent_client(&mut world, "peer") } else { client(&mut world, "peer") };
        listen(&mut world, peer, "a", 1);
        world.pass_seconds(3 * 365 * 24 * 3600);
        publish(&mut world, "a", b"", 1);
        assert_eq!(messages(&mut world, peer).len(), 1);
    }
}

/// Everything unacknowledged comes again, with its identifier, in order, PUBLISH with DUP; nothing twice, and nothing
/// that was finished.
#[test]
fn mqtt311_4_4_0_1() {
    for (what, end) in ENDS {
        let mut world = World::new();
        let peer = persistent_subscriber(&mut world, "peer", "t", 2);
        for (payload, qos) in [(b"1", 1), (b"2", 2), (b"3", 1), (b"4", 2), (b"5", 0), (b"6", 2), (b"7", 1)] {
            publish(&mut world, "t", payload, qos);
        }
        assert_eq!(messages(&mut world, peer).len(), 7);
        world.send(peer, acknowledge(0x40, 3));
        for identifier in [2, 5] {
            assert_eq!(world.ask(peer, acknowledge(0x50, identifier)), acknowledge(0x62, identifier));
        }
        world.send(peer, acknowledge(0x70, 2));
        end(&mut world, peer);
        let expected = [
            Publish::new(V311, "t", b"1").qos(1, 1).dup().bytes(),
            Publish::new(V311, "t", b"4").qos(2, 4).dup().bytes(),
            acknowledge(0x62, 5),
            Publish::new(V311, "t", b"7").qos(1, 6).dup().bytes(),
        ];
        // Again and again, until it is acknowledged.
        let mut last = peer;
        for _ in 0..3 {
            let (peer, is_present, packets) = back(&mut world, "peer");
            assert!(is_present);
            assert_eq!(packets, expected, "{what}");
            last = peer;
        }
        world.send(last, acknowledge(0x40, 1));
        assert_eq!(world.ask(last, acknowledge(0x50, 4)), acknowledge(0x62, 4));
        world.send(last, [4, 5].map(|identifier| acknowledge(0x70, identifier)).concat());
        world.send(last, acknowledge(0x40, 6));
        assert_quiet(&mut world, last, what);
        let (_, _, packets) = back(&mut world, "peer");
        assert!(packets.is_empty(), "{what}");
    }
}

/// Messages that came while the client was disconnected follow the unacknowledged ones.
#[test]
fn mqtt311_4_4_0_1_before_newer_ones() {
    for qos in [1, 2] {
        let mut world = World::new();
        let peer = persistent_subscriber(&mut world, "peer", "t", 2);
        publish(&mut world, "t", b"1", qos);
        publish(&mut world, "t", b"2", qos);
        world.cut(peer);
        publish(&mut world, "t", b"3", qos);
        let (peer, _, packets) = back(&mut world, "peer");
        publish(&mut world, "t", b"4", qos);
        let seen = [all(&packets), messages(&mut world, peer)].concat();
        let seen: Vec<_> = seen.iter().map(|m| (m.payload[0], m.dup, m.packet_identifier)).collect();
        let expected =
            [(b'1', true, Some(1)), (b'2', true, Some(2)), (b'3', false, Some(3)), (b'4', false, Some(4))];
        assert_eq!(seen, expected);
    }
}

/// A retained message keeps its flag when it is sent again.
#[test]
fn mqtt311_4_4_0_1_retained() {
    let mut world = World::new();
    retain(&mut world, "t", b"x", 2);
    let peer = persistent_client(&mut world, "peer");
    world.send(peer, subscribe(V311, 1, &[], &[("t", 1)]));
    assert_eq!(world.take(peer)[1], Publish::new(V311, "t", b"x").qos(1, 1).retain().bytes());
    retain(&mut world, "t", b"", 0);
    assert_eq!(world.take(peer).len(), 1);
    let (_, _, packets) = back(&mut world, "peer");
    assert_eq!(packets, [Publish::new(V311, "t", b"x").qos(1, 1).retain().dup().bytes()]);
}

/// The end of a subscription does not revoke messages on their way.
#[test]
fn mqtt311_4_4_0_1_unsubscribed() {
    let mut world = World::new();
    let peer = persistent_subscriber(&mut world, "peer", "t", 2);
    publish(&mut world, "t", b"1", 2);
    assert_eq!(world.take(peer).len(), 1);
    assert_eq!(world.ask(peer, unsubscribe(V311, 8, &["t"])), acknowledge(0xB0, 8));
    world.cut(peer);
    let (_, _, packets) = back(&mut world, "peer");
    assert_eq!(packets, [Publish::new(V311, "t", b"1").qos(2, 1).dup().bytes()]);
}
