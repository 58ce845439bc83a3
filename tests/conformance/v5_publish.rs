//! MQTT 5.0, chapter 3.3, PUBLISH: its flags, its topic and its properties.

use crate::v5_peers::*;
use crate::wire::*;
use crate::world::{Peer, World};

/// A CONNECT with a session that outlives its connections.
fn stored() -> Connect {
    Connect::new(V5, "a").resume().expiry(10_000)
}

/// The packets after the CONNACK of a reconnect.
fn reconnect(world: &mut World, connect: &Connect) -> (Peer, Vec<Vec<u8>>) {
    let peer = world.open();
    world.send(peer, connect.bytes());
    let mut packets = world.take(peer);
    assert!(ConnAck::new(&packets.remove(0)).session_present);
    (peer, packets)
}

#[test]
fn mqtt5_3_3_1_1() {
    let mut world = World::new();
    let mut a = world.connect(stored().bytes());
    subscribe_to(&mut world, a, "t", 2);
    let b = client(&mut world, "b");
    let mut sent = Vec::new();
    for qos in [1, 2] {
        world.send(b, Publish::new(V5, "t", b"x").property(&[0x01, 1]).qos(qos, 1).bytes());
        let message = take_publish(&mut world, a);
        assert_eq!((message.dup, message.qos), (false, qos));
        sent.push(Received { dup: true, ..message });
    }
    for _ in 0..2 {
        world.cut(a);
        let (peer, packets) = reconnect(&mut world, &stored());
        assert_eq!(packets.iter().map(|packet| received(V5, packet)).collect::<Vec<_>>(), sent);
        a = peer;
    }
    // Messages queued while the client was disconnected are sent for the first time.
    world.send(a, [acknowledge(0x40, 1), acknowledge_with(0x50, 2, 0x80)].concat());
    world.cut(a);
    world.send(b, Publish::new(V5, "t", b"y").qos(1, 1).bytes());
    let (_, packets) = reconnect(&mut world, &stored());
    assert_eq!((packets.len(), received(V5, &packets[0]).dup), (1, false));
}

#[test]
fn mqtt5_3_3_1_2() {
    for publish in [Publish::new(V5, "t", b"x").dup(), Publish::new(V5, "t", b"x").dup().retain()] {
        let mut world = World::new();
        let b = subscriber(&mut world, "b", "t", 0);
        let a = client(&mut world, "a");
        assert_broken(&mut world, a, publish.bytes(), 0x81);
        assert!(world.take(b).is_empty());
    }
}

/// Lowered to QoS 0, a repeated message has no DUP.
#[test]
fn mqtt5_3_3_1_2_sent() {
    let mut world = World::new();
    let b = subscriber(&mut world, "b", "t", 0);
    let a = client(&mut world, "a");
    for qos in [1, 2] {
        world.send(a, Publish::new(V5, "t", b"x").qos(qos, 1).dup().bytes());
        assert_eq!(world.take_one(b), b"\x30\x05\0\x01t\0x");
    }
}

#[test]
fn mqtt5_3_3_1_3() {
    let mut world = World::new();
    let b = subscriber(&mut world, "b", "t", 2);
    let a = client(&mut world, "a");
    for (qos, is_repeated) in [(1, true), (2, true), (1, false), (2, false)] {
        let publish = Publish::new(V5, "t", b"x").qos(qos, 5);
        world.send(a, if is_repeated { publish.dup() } else { publish }.bytes());
        assert!(!take_publish(&mut world, b).dup);
        world.send(a, acknowledge(0x62, 5));
    }
}

#[test]
fn mqtt5_3_3_1_4() {
    for flags in [0x06, 0x07, 0x0E, 0x0F] {
        let mut world = World::new();
        let b = subscriber(&mut world, "b", "t", 0);
        let a = client(&mut world, "a");
        assert_broken(&mut world, a, packet(0x30 | flags, b"\0\x01t\0\x01\0x"), 0x81);
        assert!(world.take(b).is_empty());
    }
}

/// The retained messages that a new subscription to `filter` gets.
fn retained(world: &mut World, filter: &str, options: u8) -> Vec<Received> {
    let peer = client(world, "late");
    world.send(peer, subscribe(V5, 1, &[], &[(filter, options)]));
    let mut packets = world.take(peer);
    let suback = packets.iter().position(|packet| packet[0] == 0x90).expect("a SUBACK");
    packets.remove(suback);
    packets.iter().map(|packet| received(V5, packet)).collect()
}

#[test]
fn mqtt5_3_3_1_5() {
    let mut world = World::new();
    let a = client(&mut world, "a");
    for (qos, payload) in [(1, "1"), (0, "2"), (2, "3"), (1, "4")] {
        let publish = Publish::new(V5, "t", payload.as_bytes()).retain();
        world.send(a, if qos > 0 { publish.qos(qos, 1).bytes() } else { publish.bytes() });
        world.send(a, acknowledge(0x62, 1));
        let messages = retained(&mut world, "t", 2);
        assert_eq!(messages.len(), 1);
        let message = &messages[0];
        assert_eq!((message.qos, message.retain, &*message.payload), (qos, true, payload.as_bytes()));
        assert_eq!(world.broker.census().retained, 1);
    }
    world.send(a, Publish::new(V5, "T", b"5").retain().bytes());
    assert_eq!(retained(&mut world, "t", 0)[0].payload, b"4");
    // It outlives its publisher.
    world.send(a, DISCONNECT);
    assert_eq!(retained(&mut world, "+", 0).len(), 2);
}

#[test]
fn mqtt5_3_3_1_6() {
    for qos in 0..3 {
        let mut world = World::new();
        let a = client(&mut world, "a");
        let b = subscriber(&mut world, "b", "t", 0x08);
        world.send(a, Publish::new(V5, "t", b"x").retain().bytes());
        world.take(b);
        let clear = Publish::new(V5, "t", b"").retain();
        world.send(a, if qos > 0 { clear.qos(qos, 1).bytes() } else { clear.bytes() });
        let message = take_publish(&mut world, b);
        assert_eq!((&message.payload[..], message.retain), (&b""[..], true));
        assert!(retained(&mut world, "t", 0).is_empty());
    }
}

/// Properties do not make it a message to be retained.
#[test]
fn mqtt5_3_3_1_7() {
    let mut world = World::new();
    let a = client(&mut world, "a");
    world.send(a, Publish::new(V5, "t", b"").retain().property(&user_property("n", "v")).bytes());
    assert_eq!(world.broker.census().retained, 0);
    assert!(retained(&mut world, "#", 0).is_empty());
}

#[test]
fn mqtt5_3_3_1_8() {
    let mut world = World::new();
    let a = client(&mut world, "a");
    world.send(a, Publish::new(V5, "t", b"kept").retain().bytes());
    for payload in [&b"other"[..], b""] {
        world.send(a, Publish::new(V5, "t", payload).bytes());
        world.send(a, Publish::new(V5, "t", payload).qos(1, 1).bytes());
        assert_eq!(retained(&mut world, "t", 0)[0].payload, b"kept");
    }
}

/// A SUBSCRIBE with this Retain Handling; returns how many retained messages come.
fn handed(world: &mut World, peer: Peer, filter: &str, retain_handling: u8) -> usize {
    world.send(peer, subscribe(V5, 1, &[], &[(filter, retain_handling << 4)]));
    world.take(peer).len() - 1
}

fn with_retained(topics: &[&str]) -> (World, Peer) {
    let mut world = World::new();
    let a = client(&mut world, "a");
    for topic in topics {
        world.send(a, Publish::new(V5, topic, b"x").retain().bytes());
    }
    (world, a)
}

#[test]
fn mqtt5_3_3_1_9() {
    let (mut world, a) = with_retained(&["x/1", "x/2", "y", "$z"]);
    for (filter, count) in [("x/1", 1), ("x/+", 2), ("x/#", 2), ("#", 3), ("+", 1), ("$z", 1), ("none", 0)] {
        for _ in 0..2 {
            assert_eq!(handed(&mut world, a, filter, 0), count, "{filter}");
        }
    }
}

#[test]
fn mqtt5_3_3_1_10() {
    let (mut world, a) = with_retained(&["x"]);
    assert_eq!(handed(&mut world, a, "x", 1), 1);
    assert_eq!(handed(&mut world, a, "x", 1), 0);
    // Another filter that matches is a new subscription.
    assert_eq!(handed(&mut world, a, "+", 1), 1);
    world.ask(a, unsubscribe(V5, 1, &["x"]));
    assert_eq!(handed(&mut world, a, "x", 1), 1);
}

/// A subscription of a resumed session is not new, one of a new session is.
#[test]
fn mqtt5_3_3_1_10_reconnect() {
    let (mut world, _) = with_retained(&["x"]);
    let connect = Connect::new(V5, "c").expiry(100);
    let c = world.connect(connect.bytes());
    assert_eq!(handed(&mut world, c, "x", 1), 1);
    world.cut(c);
    let (c, packets) = reconnect(&mut world, &connect.clone().resume());
    assert_eq!((packets.len(), handed(&mut world, c, "x", 1)), (0, 0));
    let c = world.connect(connect.bytes());
    assert_eq!(handed(&mut world, c, "x", 1), 1);
}

#[test]
fn mqtt5_3_3_1_11() {
    let (mut world, a) = with_retained(&["x", "y"]);
    for _ in 0..2 {
        assert_eq!(handed(&mut world, a, "x", 2), 0);
    }
    assert_eq!(handed(&mut world, a, "#", 2), 0);
    world.pass_seconds(10);
    assert!(world.take(a).is_empty());
}

#[test]
fn mqtt5_3_3_1_12() {
    for qos in 0..3 {
        let mut world = World::new();
        let a = client(&mut world, "a");
        let b = subscriber(&mut world, "b", "t", qos);
        world.send(a, Publish::new(V5, "t", b"x").retain().qos(2, 1).bytes());
        assert!(!take_publish(&mut world, b).retain);
    }
}

#[test]
fn mqtt5_3_3_1_13() {
    for qos in 0..3 {
        let mut world = World::new();
        let a = client(&mut world, "a");
        let b = subscriber(&mut world, "b", "t", 0x08 | qos);
        for is_retained in [true, false] {
            let publish = Publish::new(V5, "t", b"x").qos(2, 1);
            world.send(a, if is_retained { publish.retain() } else { publish }.bytes());
            assert_eq!(take_publish(&mut world, b).retain, is_retained);
            world.send(a, acknowledge(0x62, 1));
        }
    }
}

/// The flag is kept in the queue and in a redelivery; a retained message for a new subscription has it whatever the
/// subscription asks for.
#[test]
fn mqtt5_3_3_1_13_retain_as_published_persists() {
    for (options, flag) in [(0x08 | 1, true), (1, false)] {
        let mut world = World::new();
        let a = world.connect(stored().bytes());
        subscribe_to(&mut world, a, "t", options);
        world.cut(a);
        let b = client(&mut world, "b");
        world.send(b, Publish::new(V5, "t", b"x").retain().qos(1, 1).bytes());
        for dup in [false, true] {
            let (a, packets) = reconnect(&mut world, &stored());
            let message = received(V5, &packets[0]);
            assert_eq!((message.retain, message.dup), (flag, dup));
            world.cut(a);
        }
        assert!(retained(&mut world, "t", options)[0].retain);
    }
}

#[test]
fn mqtt5_3_3_2_1() {
    for body in [&b""[..], b"\0", b"\0\x02t", b"\0\x01\xFF\0", b"\0\x01\0\0", b"\0\x03\xED\xA0\x80\0"] {
        let mut world = World::new();
        let a = client(&mut world, "a");
        assert_broken(&mut world, a, packet(0x30, body), 0x81);
    }
    // Neither a topic nor an alias.
    let mut world = World::new();
    let a = client(&mut world, "a");
    assert_broken(&mut world, a, packet(0x30, b"\0\0\0x"), 0x82);
}

#[test]
fn mqtt5_3_3_2_2() {
    for topic in ["#", "+", "a/#", "a/+", "a/+/b", "a#", "+a"] {
        for qos in 0..3 {
            let mut world = World::new();
            let b = subscriber(&mut world, "b", "#", 0);
            let a = client(&mut world, "a");
            let publish = Publish::new(V5, topic, b"x");
            let bytes = if qos > 0 { publish.qos(qos, 1).bytes() } else { publish.bytes() };
            assert_broken(&mut world, a, bytes, 0x81);
            assert!(world.take(b).is_empty());
        }
    }
}

/// The topics that a filter lets through, unchanged.
#[test]
fn mqtt5_3_3_2_3() {
    let topics = ["a", "A", "a/", "/a", "a/b", "a/b/c", "a//c", "$a", "$a/b", "a b"];
    for (filter, matching) in [
        ("a", &["a"][..]),
        ("a/#", &["a", "a/", "a/b", "a/b/c", "a//c"]),
        ("a/+", &["a/", "a/b"]),
        ("+/+", &["a/", "/a", "a/b"]),
        ("a/+/c", &["a/b/c", "a//c"]),
        ("+", &["a", "A", "a b"]),
        ("#", &["a", "A", "a/", "/a", "a/b", "a/b/c", "a//c", "a b"]),
        ("$a/#", &["$a", "$a/b"]),
        ("/+", &["/a"]),
    ] {
        let mut world = World::new();
        let a = subscriber(&mut world, "a", filter, 0);
        for topic in topics {
            world.send(a, Publish::new(V5, topic, b"x").bytes());
        }
        let seen: Vec<String> = world.take(a).iter().map(|packet| received(V5, packet).topic).collect();
        assert_eq!(seen, matching, "{filter}");
    }
}

/// Publishes with a property block on every path: at once at each QoS, through the queue, again after a reconnect, as
/// a retained message, and to 3.1.1, which has none. Returns the block as it was received.
fn through(block: &[u8]) -> Vec<Vec<u8>> {
    let mut world = World::new();
    let away = world.connect(stored().bytes());
    subscribe_to(&mut world, away, "t", 1);
    world.cut(away);
    let publisher = client(&mut world, "publisher");
    let receivers = [0, 1, 2].map(|qos| subscriber(&mut world, &format!("qos {qos}"), "t", qos));
    let old = world.connect(Connect::new(V311, "old").bytes());
    world.ask(old, subscribe(V311, 1, &[], &[("t", 0)]));
    world.send(publisher, Publish::new(V5, "t", b"payload").property(block).retain().qos(2, 1).bytes());
    assert_eq!(world.take_one(old), b"\x30\x0A\0\x01tpayload");
    let mut messages: Vec<Received> = receivers.map(|peer| take_publish(&mut world, peer)).into();
    for _ in 0..2 {
        let (away, packets) = reconnect(&mut world, &stored());
        messages.push(received(V5, &packets[0]));
        world.cut(away);
    }
    messages.extend(retained(&mut world, "t", 1));
    assert_eq!(messages.len(), 6);
    assert!(messages.iter().all(|message| message.payload == b"payload"));
    messages.into_iter().map(|message| message.properties).collect()
}

fn assert_unchanged(block: &[u8]) {
    for properties in through(block) {
        assert_eq!(properties, block);
    }
}

/// The broker does not check the payload against it.
#[test]
fn mqtt5_3_3_2_4() {
    assert_unchanged(&[]);
    assert_unchanged(&[0x01, 0]);
    assert_unchanged(&[0x01, 1]);
    let mut world = World::new();
    let a = subscriber(&mut world, "a", "t", 0);
    let publish = Publish::new(V5, "t", b"\xFF").property(&[0x01, 1]).bytes();
    assert_eq!(world.ask(a, &publish), publish);
    assert_broken(&mut world, a, Publish::new(V5, "t", b"x").property(&[0x01, 2]).bytes(), 0x82);
}

fn expiring(seconds: u32) -> Publish {
    Publish::new(V5, "t", b"x").property(&u32_property(0x02, seconds)).qos(1, 1)
}

#[test]
fn mqtt5_3_3_2_5() {
    for (away, count) in [(9_999, 1), (10_000, 0), (20_000, 0)] {
        let mut world = World::new();
        let a = world.connect(stored().bytes());
        subscribe_to(&mut world, a, "t", 1);
        world.cut(a);
        let b = client(&mut world, "b");
        world.send(b, expiring(10).retain().bytes());
        world.pass(away);
        let (_, packets) = reconnect(&mut world, &stored());
        assert_eq!(packets.len(), count, "{away}");
        assert_eq!(retained(&mut world, "t", 0).len(), count, "{away}");
    }
}

/// Even while the window is closed; an expired message takes no place in it, and one without expiry stays.
#[test]
fn mqtt5_3_3_2_5_window() {
    let mut world = World::new();
    let a = world.connect(stored().property(&u16_property(0x21, 1)).bytes());
    subscribe_to(&mut world, a, "t", 1);
    let b = client(&mut world, "b");
    world.send(b, expiring(1).bytes());
    world.send(b, expiring(2).bytes());
    world.send(b, Publish::new(V5, "t", b"for ever").qos(1, 1).bytes());
    let first = take_publish(&mut world, a);
    world.pass_seconds(5);
    world.send(a, acknowledge(0x40, first.packet_identifier.unwrap()));
    assert_eq!(take_payloads(&mut world, a), [b"for ever"]);
}

/// Expired messages that make room for another one count like those that would have been sent, each once.
#[test]
fn mqtt5_3_3_2_5_room() {
    let mut world = World::with_limits(|limits| limits.queue_length = 3);
    let a = world.connect(stored().bytes());
    subscribe_to(&mut world, a, "t", 1);
    world.cut(a);
    let b = client(&mut world, "b");
    let lasting = Publish::new(V5, "t", b"for ever").qos(1, 1).bytes();
    for message in [expiring(1).bytes(), expiring(2).bytes(), expiring(9).bytes(), lasting.clone()] {
        world.ask(b, message);
    }
    assert_eq!((world.broker.statistics().expired, world.broker.statistics().dropped), (0, 1));
    world.pass_seconds(5);
    world.ask(b, lasting);
    assert_eq!(world.broker.statistics().expired, 2, "two have made room");
    world.pass_seconds(5);
    let (_, packets) = reconnect(&mut world, &stored());
    assert_eq!(packets.len(), 1);
    assert_eq!(world.broker.statistics().expired, 3, "each of the three once");
}

/// The memory of expired retained messages is given back though no client asks for them.
#[test]
fn mqtt5_3_3_2_5_swept() {
    let mut world = World::new();
    let b = client(&mut world, "b");
    world.send(b, expiring(10).retain().bytes());
    assert_eq!(world.broker.census().retained, 1);
    world.pass_seconds(30);
    assert_eq!(world.broker.census().retained, 0);
}

#[test]
fn mqtt5_3_3_2_6() {
    for (seconds, away, left) in
        [(10, 0, 10), (10, 3_000, 7), (10, 9_000, 1), (u32::MAX, 5_000, u32::MAX - 5)]
    {
        let mut world = World::new();
        let a = world.connect(stored().bytes());
        subscribe_to(&mut world, a, "t", 1);
        world.cut(a);
        let b = client(&mut world, "b");
        world.send(b, expiring(seconds).retain().bytes());
        world.pass(away);
        let expected = u32_property(0x02, left);
        let (a, packets) = reconnect(&mut world, &stored());
        assert_eq!(received(V5, &packets[0]).properties, expected);
        assert_eq!(retained(&mut world, "t", 0)[0].properties, expected);
        // A redelivery has waited even longer.
        world.cut(a);
        world.pass(1_000);
        let (_, packets) = reconnect(&mut world, &stored());
        assert_eq!(received(V5, &packets[0]).properties, u32_property(0x02, left - 1));
    }
}

#[test]
fn mqtt5_3_3_2_13() {
    for topic in [&b"\xFF"[..], b"\xED\xA0\x80", b"a\0", b""] {
        let mut world = World::new();
        let a = client(&mut world, "a");
        let publish = Publish::new(V5, "t", b"x").property(&text_property(0x08, topic));
        assert_broken(&mut world, a, publish.bytes(), 0x81);
    }
}

#[test]
fn mqtt5_3_3_2_14() {
    for topic in ["#", "+", "a/#", "a/+/b", "a#", "a+"] {
        let mut world = World::new();
        let a = client(&mut world, "a");
        let publish = Publish::new(V5, "t", b"x").property(&text_property(0x08, topic));
        assert_broken(&mut world, a, publish.bytes(), 0x81);
        let will = text_property(0x08, topic);
        let connect = Connect::new(V5, "b").will("w", b"x", 0, false, &will);
        assert_refused(&mut world, connect.bytes(), 0x81);
    }
}

#[test]
fn mqtt5_3_3_2_15() {
    for topic in ["a", "/", "answers/\u{1F980}", "$SYS/x", &"x".repeat(1000)] {
        assert_unchanged(&text_property(0x08, topic));
    }
}

#[test]
fn mqtt5_3_3_2_16() {
    for data in [&b""[..], b"\0\xFF", &[0xA5; 1000]] {
        assert_unchanged(&text_property(0x09, data));
    }
}

#[test]
fn mqtt5_3_3_2_17() {
    assert_unchanged(&user_property("name", "value"));
    assert_unchanged(&user_property("", ""));
    assert_unchanged(&user_property("\u{FEFF}", "\u{1F980}"));
}

/// With other properties between them, whose order may change.
#[test]
fn mqtt5_3_3_2_18() {
    let pairs = [("b", "1"), ("a", "2"), ("b", "1"), ("a", "1"), ("c", "3")];
    let mut block = Vec::new();
    for (index, (name, value)) in pairs.into_iter().enumerate() {
        block.extend(user_property(name, value));
        match index {
            0 => block.extend(u32_property(0x02, 1000)),
            1 => block.extend(text_property(0x08, "r")),
            2 => block.extend([0x01, 1]),
            _ => {}
        }
    }
    let wanted = property_list(&block);
    let users = |list: &[(u8, Vec<u8>)]| {
        list.iter().filter(|(identifier, _)| *identifier == 0x26).cloned().collect::<Vec<_>>()
    };
    for properties in through(&block) {
        let list = property_list(&properties);
        assert_eq!((users(&list), list.len()), (users(&wanted), wanted.len()));
    }
}

#[test]
fn mqtt5_3_3_2_19() {
    for text in [&b"\xFF"[..], b"\xED\xA0\x80", b"a\0"] {
        let mut world = World::new();
        let a = client(&mut world, "a");
        assert_broken(
            &mut world,
            a,
            Publish::new(V5, "t", b"").property(&text_property(3, text)).bytes(),
            0x81,
        );
    }
}

#[test]
fn mqtt5_3_3_2_20() {
    for text in ["", "text/plain; charset=utf-8", "\u{1F980}"] {
        assert_unchanged(&text_property(0x03, text));
    }
    assert_unchanged(
        &[text_property(3, "a"), text_property(9, "b"), text_property(8, "c"), vec![1, 0]].concat(),
    );
}
