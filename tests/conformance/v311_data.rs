//! Chapters 1 and 2: strings, fixed header, Packet Identifiers.

use crate::v311::*;
use crate::wire::*;
use crate::world::{Peer, World};

/// A CONNECT of 3.1.1 with a Will and a User Name, made of these strings as they are.
fn connect_of(client_identifier: &[u8], will_topic: &[u8], user_name: &[u8]) -> Vec<u8> {
    let mut body = b"\x00\x04MQTT\x04\x86\x00\x00".to_vec();
    for text in [client_identifier, will_topic, b"payload", user_name] {
        body.extend(field(text));
    }
    packet(0x10, &body)
}

/// Sends `text` in every field that holds a string; returns for each whether the broker accepted it. It either accepts
/// the packet or closes the connection without one.
fn taken_as(text: &[u8]) -> Vec<(&'static str, bool)> {
    let connects = [
        ("client identifier", connect_of(text, b"w", b"u")),
        ("will topic", connect_of(b"c", text, b"u")),
        ("user name", connect_of(b"c", b"w", text)),
    ];
    let later = [
        ("publish", packet(0x30, &field(text))),
        ("subscribe", packet(0x82, &[&[0, 1][..], &field("first"), &[0], &field(text), &[0]].concat())),
        ("unsubscribe", packet(0xA2, &[&[0, 1][..], &field("first"), &field(text)].concat())),
    ];
    let mut taken = Vec::new();
    for (what, bytes) in connects.into_iter().chain(later) {
        let mut world = World::new();
        let watcher = subscriber(&mut world, "watcher", "#", 0);
        let peer = if bytes[0] == 0x10 { world.open() } else { client(&mut world, "c") };
        world.send(peer, bytes);
        if world.is_closed(peer) {
            assert_closed_silently(&mut world, peer, what);
            assert_quiet(&mut world, watcher, what);
        }
        taken.push((what, !world.is_closed(peer)));
    }
    taken
}

fn assert_taken(text: &[u8], expected: bool) {
    for (what, is_taken) in taken_as(text) {
        assert_eq!(is_taken, expected, "{what} {text:02x?}");
    }
}

#[test]
fn mqtt311_1_5_3_1() {
    let ill_formed: [&[u8]; 11] = [
        b"\xFF",
        b"a\x80",
        b"\xC3",
        b"\xE2\x82/",
        b"\xC0\xAF",
        b"\xC0\x80",
        b"\xF0\x82\x82\xAC",
        b"a\xED\xA0\x80",
        b"\xED\xBF\xBF",
        b"\xED\xA0\xBD\xED\xB8\x80",
        b"\xF4\x90\x80\x80",
    ];
    for text in ill_formed {
        assert_taken(text, false);
    }
    for text in ["é/€/𝄞", "\u{D7FF}\u{E000}", "\u{10FFFD}", "\u{FFFD}"] {
        assert_taken(text.as_bytes(), true);
    }
}

#[test]
fn mqtt311_1_5_3_2() {
    for text in ["\0", "\0a", "a\0b", "a/\0", "a/b\0"] {
        assert_taken(text.as_bytes(), false);
    }
    // Characters that the standard allows a server to refuse.
    for text in ["\u{1}", "a/\u{1F}", "\u{7F}", "a\u{9F}", "\u{FDD0}", "\u{FFFF}", "\u{5FFFE}"] {
        assert_taken(text.as_bytes(), false);
    }
}

#[test]
fn mqtt311_1_5_3_3() {
    assert_taken("\u{FEFF}".as_bytes(), true);
    let mut world = World::new();
    for topic in ["\u{FEFF}a", "a\u{FEFF}", "a/\u{FEFF}/b"] {
        let with = subscriber(&mut world, "with", topic, 0);
        let without = subscriber(&mut world, "without", &topic.replace('\u{FEFF}', ""), 0);
        publish(&mut world, topic, b"x", 0);
        assert_eq!(world.take_one(with), packet(0x30, &[&field(topic)[..], b"x"].concat()));
        assert_quiet(&mut world, without, topic);
    }
    // Nor is it stripped from a Client Identifier: these are two clients.
    let plain = client(&mut world, "id");
    let marked = client(&mut world, "\u{FEFF}id");
    assert_eq!(world.ask(marked, PINGREQ), PINGRESP);
    assert_eq!(world.ask(plain, PINGREQ), PINGRESP);
}

#[test]
fn mqtt311_2_2_2_1() {
    let mut world = World::new();
    let peer = world.open();
    let ask = |world: &mut World, bytes: Vec<u8>| world.ask(peer, bytes)[0];
    assert_eq!(ask(&mut world, Connect::new(V311, "a").bytes()), 0x20);
    assert_eq!(ask(&mut world, subscribe(V311, 1, &[], &[("a", 2)])), 0x90);
    assert_eq!(ask(&mut world, unsubscribe(V311, 1, &["b"])), 0xB0);
    assert_eq!(ask(&mut world, PINGREQ.to_vec()), 0xD0);
    assert_eq!(ask(&mut world, Publish::new(V311, "x", b"").qos(1, 1).bytes()), 0x40);
    assert_eq!(ask(&mut world, Publish::new(V311, "x", b"").qos(2, 1).bytes()), 0x50);
    assert_eq!(ask(&mut world, acknowledge(0x62, 1)), 0x70);
    publish(&mut world, "a", b"", 2);
    assert_eq!(world.take_one(peer)[0], 0x34);
    assert_eq!(ask(&mut world, acknowledge(0x50, 1)), 0x62);
}

#[test]
fn mqtt311_2_2_2_2() {
    let bodies = [
        (0x10, Connect::new(V311, "peer").bytes()),
        (0x40, acknowledge(0x40, 7)),
        (0x50, acknowledge(0x50, 7)),
        (0x62, acknowledge(0x62, 7)),
        (0x70, acknowledge(0x70, 7)),
        (0x82, subscribe(V311, 7, &[], &[("a", 0)])),
        (0xA2, unsubscribe(V311, 7, &["a"])),
        (0xC0, PINGREQ.to_vec()),
        (0xE0, DISCONNECT.to_vec()),
    ];
    let mut world = World::new();
    for (right, bytes) in bodies {
        for flags in 0..16 {
            let first_byte = right & 0xF0 | flags;
            let peer = if right == 0x10 { world.open() } else { client(&mut world, "peer") };
            world.send(peer, [&[first_byte], &bytes[1..]].concat());
            if first_byte != right {
                assert_closed_silently(&mut world, peer, &format!("{first_byte:02x}"));
            } else if right != 0xE0 {
                assert!(!world.is_closed(peer), "{first_byte:02x}");
                world.send(peer, DISCONNECT);
            }
        }
    }
}

#[test]
fn mqtt311_2_3_1_1() {
    let mut world = World::new();
    let watcher = subscriber(&mut world, "watcher", "#", 2);
    for bytes in [
        subscribe(V311, 0, &[], &[("a", 0)]),
        unsubscribe(V311, 0, &["a"]),
        Publish::new(V311, "a", b"").qos(1, 0).bytes(),
        Publish::new(V311, "a", b"").qos(2, 0).bytes(),
    ] {
        let peer = client(&mut world, "peer");
        world.send(peer, &bytes);
        assert_closed_silently(&mut world, peer, &format!("{bytes:02x?}"));
        assert_quiet(&mut world, watcher, "what it published");
    }
}

/// The identifier of a finished exchange may be used again, by the same kind of packet and by another.
#[test]
fn mqtt311_2_3_1_2() {
    let mut world = World::new();
    let watcher = subscriber(&mut world, "watcher", "a", 0);
    let peer = client(&mut world, "peer");
    for round in ["1", "2"] {
        assert_eq!(world.ask(peer, subscribe(V311, 7, &[], &[("b", 0)])), [0x90, 3, 0, 7, 0]);
        assert_eq!(world.ask(peer, unsubscribe(V311, 7, &["b"])), acknowledge(0xB0, 7));
        for qos in [1, 2] {
            let publish = Publish::new(V311, "a", round.as_bytes()).qos(qos, 7).bytes();
            assert_eq!(world.ask(peer, publish), acknowledge(if qos == 1 { 0x40 } else { 0x50 }, 7));
            assert_eq!(payloads(&mut world, watcher), [round]);
        }
        assert_eq!(world.ask(peer, acknowledge(0x62, 7)), acknowledge(0x70, 7));
    }
}

#[test]
fn mqtt311_2_3_1_3() {
    let mut world = World::new();
    let watcher = subscriber(&mut world, "watcher", "#", 0);
    let peer = persistent_client(&mut world, "peer");
    let publish = |topic, qos, identifier| Publish::new(V311, topic, b"").qos(qos, identifier);
    assert_eq!(world.ask(peer, publish("a", 1, 300).bytes()), acknowledge(0x40, 300));
    assert_eq!(world.ask(peer, publish("b", 2, 301).bytes()), acknowledge(0x50, 301));
    assert_eq!(messages(&mut world, watcher).len(), 2);
    world.cut(peer);
    let (peer, ..) = back(&mut world, "peer");
    assert_eq!(world.ask(peer, publish("a", 1, 300).dup().bytes()), acknowledge(0x40, 300));
    assert_eq!(message(&mut world, watcher).topic, "a");
    assert_eq!(world.ask(peer, publish("b", 2, 301).dup().bytes()), acknowledge(0x50, 301));
    assert_eq!(world.ask(peer, acknowledge(0x62, 301)), acknowledge(0x70, 301));
    assert_eq!(world.ask(peer, acknowledge(0x62, 301)), acknowledge(0x70, 301));
    assert_quiet(&mut world, watcher, "QoS 2 again");
}

/// Publishes `count` messages to `t` at QoS 1 and returns the identifiers with which they reach `peer`.
fn identifiers_of(world: &mut World, publisher: Peer, peer: Peer, count: usize) -> Vec<u16> {
    let one = Publish::new(V311, "t", b"").qos(1, 1).bytes();
    world.send(publisher, one.repeat(count));
    assert_eq!(world.take(publisher).len(), count);
    let identifiers =
        messages(world, peer).into_iter().map(|message| message.packet_identifier.expect("QoS 1"));
    identifiers.collect()
}

/// Through all 65,535 identifiers and on: none is 0, and none comes twice before it is acknowledged.
#[test]
fn mqtt311_2_3_1_4() {
    let mut world = World::with_limits(|limits| limits.in_flight = 20_000);
    let peer = subscriber(&mut world, "peer", "t", 1);
    let publisher = client(&mut world, "publisher");
    let mut last = 0;
    for _ in 0..7 {
        let identifiers = identifiers_of(&mut world, publisher, peer, 10_000);
        assert_eq!(identifiers.len(), 10_000);
        for &identifier in &identifiers {
            assert_eq!(identifier, last % u16::MAX + 1);
            last = identifier;
        }
        world.send(peer, identifiers.iter().flat_map(|&id| acknowledge(0x40, id)).collect::<Vec<u8>>());
    }
}

#[test]
fn mqtt311_2_3_1_4_one_is_never_acknowledged() {
    let mut world = World::with_limits(|limits| limits.in_flight = 20_000);
    let peer = subscriber(&mut world, "peer", "t", 1);
    let publisher = client(&mut world, "publisher");
    assert_eq!(identifiers_of(&mut world, publisher, peer, 1), [1]);
    for _ in 0..7 {
        let identifiers = identifiers_of(&mut world, publisher, peer, 10_000);
        assert_eq!(identifiers.len(), 10_000, "the others do not wait");
        assert!(!identifiers.contains(&1) && !identifiers.contains(&0));
        world.send(peer, identifiers.iter().flat_map(|&id| acknowledge(0x40, id)).collect::<Vec<u8>>());
    }
    world.send(peer, acknowledge(0x40, 1));
    let is_used_again = (0..7).any(|_| {
        let identifiers = identifiers_of(&mut world, publisher, peer, 10_000);
        world.send(peer, identifiers.iter().flat_map(|&id| acknowledge(0x40, id)).collect::<Vec<u8>>());
        identifiers.contains(&1)
    });
    assert!(is_used_again, "it is free");
}

#[test]
fn mqtt311_2_3_1_5() {
    let mut world = World::new();
    let peer = client(&mut world, "peer");
    let at_most_once = subscriber(&mut world, "at most once", "a", 0);
    // The bytes that would be the identifier are the beginning of the payload.
    world.send(peer, [0x30, 5, 0, 1, b'a', 0, 7]);
    assert_eq!(world.take_one(at_most_once), [0x30, 5, 0, 1, b'a', 0, 7]);
    for qos in [1, 2] {
        publish(&mut world, "a", b"x", qos);
        assert_eq!(world.take_one(at_most_once), [0x30, 4, 0, 1, b'a', b'x']);
    }
}

#[test]
fn mqtt311_2_3_1_6() {
    let mut world = World::new();
    let peer = client(&mut world, "peer");
    for identifier in [1, 255, 256, 0x1234, 65_535] {
        let publish = |qos| Publish::new(V311, "a", b"").qos(qos, identifier).bytes();
        assert_eq!(world.ask(peer, publish(1)), acknowledge(0x40, identifier));
        assert_eq!(world.ask(peer, publish(2)), acknowledge(0x50, identifier));
        assert_eq!(world.ask(peer, acknowledge(0x62, identifier)), acknowledge(0x70, identifier));
    }
    let receiver = subscriber(&mut world, "receiver", "a", 2);
    for _ in 0..3 {
        publish(&mut world, "a", b"", 2);
    }
    let identifiers: Vec<u16> = messages(&mut world, receiver)
        .iter()
        .map(|message| message.packet_identifier.expect("QoS 1"))
        .collect();
    for identifier in identifiers.into_iter().rev() {
        assert_eq!(world.ask(receiver, acknowledge(0x50, identifier)), acknowledge(0x62, identifier));
    }
}

#[test]
fn mqtt311_2_3_1_7() {
    let mut world = World::new();
    let peer = client(&mut world, "peer");
    for identifier in [1, 255, 256, 0x1234, 65_535] {
        let [high, low] = u16::to_be_bytes(identifier);
        let suback = world.ask(peer, subscribe(V311, identifier, &[], &[("a", 1)]));
        assert_eq!(suback, [0x90, 3, high, low, 1]);
        assert_eq!(world.ask(peer, unsubscribe(V311, identifier, &["a"])), [0xB0, 2, high, low]);
    }
}
