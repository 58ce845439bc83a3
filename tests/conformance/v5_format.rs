//! MQTT 5.0, chapters 1.5 and 2: strings, integers, the fixed header, Packet Identifiers, property lengths.

use std::collections::BTreeSet;

use crate::v5_peers::*;
use crate::wire::*;
use crate::world::{Peer, World};

/// A packet with one string in a certain field.
type WithString = (&'static str, fn(&[u8]) -> Vec<u8>);

fn connect_of(flags: u8, properties_block: &[u8], payload: &[&[u8]]) -> Vec<u8> {
    let head = [&field("MQTT")[..], &[5, flags, 0, 0]].concat();
    packet(0x10, &[head, properties(&[properties_block]), payload.concat()].concat())
}

fn publish_of(topic: &[u8], properties_block: &[u8]) -> Vec<u8> {
    packet(0x30, &[field(topic), properties(&[properties_block])].concat())
}

/// Every string of a CONNECT. A refusal is a CONNACK.
const STRINGS_OF_CONNECT: [WithString; 8] = [
    ("Client Identifier", |s| connect_of(0x02, &[], &[&field(s)])),
    ("User Name", |s| connect_of(0x82, &[], &[&field("c"), &field(s)])),
    ("Will Topic", |s| connect_of(0x06, &[], &[&field("c"), &[0], &field(s), &field("x")])),
    ("User Property's name", |s| connect_of(0x02, &user_property(s, "v"), &[&field("c")])),
    ("User Property's value", |s| connect_of(0x02, &user_property("n", s), &[&field("c")])),
    ("Will's Content Type", |s| {
        connect_of(0x06, &[], &[&field("c"), &properties(&[&text_property(3, s)]), &field("w"), &field("x")])
    }),
    ("Will's Response Topic", |s| {
        connect_of(0x06, &[], &[&field("c"), &properties(&[&text_property(8, s)]), &field("w"), &field("x")])
    }),
    ("Will's User Property", |s| {
        connect_of(0x06, &[], &[&field("c"), &properties(&[&user_property(s, s)]), &field("w"), &field("x")])
    }),
];

/// The strings in the packets of a connected client. A refusal is a DISCONNECT.
const STRINGS_OF_OTHERS: [WithString; 10] = [
    ("Topic Name", |s| publish_of(s, &[])),
    ("Content Type", |s| publish_of(b"t", &text_property(3, s))),
    ("Response Topic", |s| publish_of(b"t", &text_property(8, s))),
    ("User Property's name", |s| publish_of(b"t", &user_property(s, "v"))),
    ("User Property's value", |s| publish_of(b"t", &user_property("n", s))),
    ("Topic Filter", |s| packet(0x82, &[&[0, 1, 0][..], &field(s), &[0]].concat())),
    ("User Property of SUBSCRIBE", |s| {
        let block = properties(&[&user_property("n", s)]);
        packet(0x82, &[&[0, 1][..], &block, &field("t"), &[0]].concat())
    }),
    ("Topic Filter of UNSUBSCRIBE", |s| packet(0xA2, &[&[0, 1, 0][..], &field(s)].concat())),
    ("Reason String of PUBACK", |s| {
        packet(0x40, &[&[0, 1, 0][..], &properties(&[&text_property(0x1F, s)])].concat())
    }),
    ("Reason String of DISCONNECT", |s| disconnect(0x04, &text_property(0x1F, s))),
];

fn assert_string_malformed(string: &[u8]) {
    for (place, build) in STRINGS_OF_CONNECT {
        println!("{place} {string:02x?}");
        assert_refused(&mut World::new(), build(string), 0x81);
    }
    for (place, build) in STRINGS_OF_OTHERS {
        println!("{place} {string:02x?}");
        let mut world = World::new();
        let peer = client(&mut world, "a");
        assert_broken(&mut world, peer, build(string), 0x81);
    }
}

#[test]
fn mqtt5_1_5_4_1() {
    // A surrogate at either end of its range, an overlong form, a stray and a truncated sequence, one above U+10FFFF.
    for string in [
        &b"\xED\xA0\x80"[..],
        b"\xED\xBF\xBF",
        b"\xED\xA0\x81\xED\xB0\x80",
        b"a\xC0\xAF",
        b"\x80",
        b"a\xE2\x82",
        b"\xF4\x90\x80\x80",
        b"\xFF",
    ] {
        assert_string_malformed(string);
    }
}

/// Control characters and non-characters, which a receiver may refuse.
#[test]
fn mqtt5_1_5_4_2_disallowed() {
    for string in
        ["\u{1}", "a\u{1F}", "\u{7F}b", "é\u{80}", "\u{9F}", "\u{FDD0}", "\u{FDEF}", "\u{FFFE}", "\u{10FFFF}"]
    {
        assert_string_malformed(string.as_bytes());
    }
}

/// Their neighbours and those of surrogates, and the last characters of each length, are valid.
#[test]
fn mqtt5_1_5_4_1_well_formed() {
    for string in [
        "\u{D7FF}",
        "\u{E000}",
        " ",
        "~",
        "\u{A0}",
        "\u{7FF}",
        "\u{FDCF}",
        "\u{FDF0}",
        "\u{FFFD}",
        "\u{10FFFD}",
    ] {
        let mut world = World::new();
        let a = subscriber(&mut world, string, string, 0);
        world.send(a, Publish::new(V5, string, b"x").bytes());
        assert_eq!(take_publish(&mut world, a).topic, string);
    }
}

#[test]
fn mqtt5_1_5_4_2() {
    for string in [&b"\0"[..], b"a\0", b"\0a", b"a\0b"] {
        assert_string_malformed(string);
    }
}

/// An overlong U+0000 is not valid UTF-8 either.
#[test]
fn mqtt5_1_5_4_2_overlong() {
    assert_string_malformed(b"\xC0\x80");
}

#[test]
fn mqtt5_1_5_4_3() {
    let mut world = World::new();
    let a = client(&mut world, "a");
    for (identifier, filter) in [(1, "t"), (2, "\u{FEFF}t"), (3, "t\u{FEFF}"), (4, "#")] {
        let suback = world.ask(a, subscribe(V5, 1, &[0x0B, identifier], &[(filter, 0)]));
        assert_eq!(suback, [0x90, 4, 0, 1, 0, 0]);
    }
    for (topic, identifiers) in [("t", [1, 4]), ("\u{FEFF}t", [2, 4]), ("t\u{FEFF}", [3, 4])] {
        let content_type = text_property(3, "\u{FEFF}text");
        world.send(a, Publish::new(V5, topic, b"\xEF\xBB\xBFx").property(&content_type).bytes());
        let message = take_publish(&mut world, a);
        assert_eq!((message.topic.as_str(), &message.payload[..]), (topic, &b"\xEF\xBB\xBFx"[..]));
        let mut list = property_list(&message.properties);
        assert_eq!(list.remove(0), (3, content_type[1..].to_vec()));
        list.sort();
        assert_eq!(list, identifiers.map(|identifier| (0x0B, vec![identifier])));
    }
}

/// Two Client Identifiers that differ in the mark are different.
#[test]
fn mqtt5_1_5_4_3_client_identifier() {
    let mut world = World::new();
    let a = client(&mut world, "a");
    client(&mut world, "\u{FEFF}a");
    assert!(!world.is_closed(a));
}

#[test]
fn mqtt5_1_5_5_1() {
    let long_forms: [&[u8]; 8] = [
        b"\xC0\x80\0",                            // Remaining Length
        b"\xC0\x80\x80\x80\0",                    // five bytes of it
        b"\x30\x84\0\0\x01t\0",                   // Remaining Length of a PUBLISH
        b"\x30\x05\0\x01t\x80\0",                 // Property Length
        b"\x30\x85\x80\0\0\x01t\0x",              // Remaining Length in three bytes
        b"\x82\x08\0\x01\x80\0\0\x01t\0",         // Property Length of a SUBSCRIBE
        b"\x82\x0A\0\x01\x03\x0B\x81\0\0\x01t\0", // Subscription Identifier
        b"\xE0\x03\0\x80\0",                      // Property Length of a DISCONNECT
    ];
    for bytes in long_forms {
        let mut world = World::new();
        let peer = client(&mut world, "a");
        assert_broken(&mut world, peer, bytes, 0x81);
    }
    let connect = Connect::new(V5, "a").bytes();
    let long_length = [&[0x10, connect[1] | 0x80, 0][..], &connect[2..]].concat();
    assert_refused(&mut World::new(), long_length, 0x81);
    let long_block = connect_of(0x02, &[], &[]);
    let long_block = [&long_block[2..long_block.len() - 1], &[0x80, 0], &field("a")].concat();
    assert_refused(&mut World::new(), packet(0x10, &long_block), 0x81);
}

/// Both sides of each step in length, from the client and from the broker.
#[test]
fn mqtt5_1_5_5_1_steps() {
    let mut world = World::new();
    let a = subscriber(&mut world, "a", "t", 0);
    for (remaining_length, width) in [(127, 1), (128, 2), (16_383, 2), (16_384, 3)] {
        let payload = vec![b'x'; remaining_length - 4];
        let publish = Publish::new(V5, "t", &payload).bytes();
        assert_eq!(publish.len(), 1 + width + remaining_length);
        assert_eq!(world.ask(a, &publish), publish);
    }
    for (identifier, bytes) in
        [(127, &[0x7F][..]), (128, &[0x80, 1]), (268_435_455, &[0xFF, 0xFF, 0xFF, 0x7F])]
    {
        let block = [&[0x0B][..], &variable_byte_integer(identifier)].concat();
        world.ask(a, subscribe(V5, 1, &block, &[("t", 0)]));
        world.send(a, Publish::new(V5, "t", b"").bytes());
        assert_eq!(property_list(&take_publish(&mut world, a).properties), [(0x0B, bytes.to_vec())]);
    }
}

#[test]
fn mqtt5_1_5_7_1() {
    for bad in [&b"\0"[..], b"\xED\xA0\x80", b"\xFF"] {
        for pair in [user_property(bad, "v"), user_property("n", bad)] {
            let will = properties(&[&pair]);
            let payload: [&[u8]; 4] = [&field("c"), &will, &field("w"), &field("x")];
            assert_refused(&mut World::new(), connect_of(0x06, &[], &payload), 0x81);
            assert_refused(&mut World::new(), connect_of(0x02, &pair, &[&field("c")]), 0x81);
            let block = properties(&[&pair]);
            for bytes in [
                publish_of(b"t", &pair),
                packet(0x82, &[&[0, 1][..], &block, &field("t"), &[0]].concat()),
                packet(0xA2, &[&[0, 1][..], &block, &field("t")].concat()),
                packet(0x62, &[&[0, 1, 0][..], &block].concat()),
                disconnect(0, &pair),
            ] {
                let mut world = World::new();
                let peer = client(&mut world, "a");
                assert_broken(&mut world, peer, bytes, 0x81);
            }
        }
    }
}

/// Both halves may be empty, and a pair cut in half is malformed.
#[test]
fn mqtt5_1_5_7_1_halves() {
    let mut world = World::new();
    let a = subscriber(&mut world, "a", "t", 0);
    let publish = publish_of(b"t", &user_property("", ""));
    assert_eq!(world.ask(a, &publish), publish);
    assert_broken(&mut world, a, publish_of(b"t", &text_property(0x26, "n")), 0x81);
}

/// The packets that a connected client may send, each with all flags that are not allowed.
#[test]
fn mqtt5_2_1_3_1() {
    let good: [Vec<u8>; 9] = [
        acknowledge(0x40, 1),
        acknowledge(0x50, 1),
        acknowledge(0x62, 1),
        acknowledge(0x70, 1),
        subscribe(V5, 1, &[], &[("t", 0)]),
        unsubscribe(V5, 1, &["t"]),
        PINGREQ.into(),
        DISCONNECT.into(),
        packet(0xF0, &[0x18, 0]),
    ];
    for bytes in good {
        for flags in (0..16).filter(|flags| *flags != bytes[0] & 0x0F) {
            let mut world = World::new();
            let peer = client(&mut world, "a");
            let mut bad = bytes.clone();
            bad[0] = bytes[0] & 0xF0 | flags;
            assert_broken(&mut world, peer, bad, 0x81);
        }
    }
    for flags in 1..16 {
        let mut connect = Connect::new(V5, "a").bytes();
        connect[0] |= flags;
        assert_refused(&mut World::new(), connect, 0x81);
    }
}

/// The broker's packets have the listed flags.
#[test]
fn mqtt5_2_1_3_1_sent() {
    let mut world = World::new();
    let a = world.open();
    let first_byte = |packet: Vec<u8>| packet[0];
    assert_eq!(first_byte(world.ask(a, Connect::new(V5, "a").bytes())), 0x20);
    assert_eq!(first_byte(world.ask(a, subscribe(V5, 1, &[], &[("t", 2)]))), 0x90);
    world.send(a, Publish::new(V5, "t", b"").qos(2, 1).bytes());
    let first_bytes: Vec<u8> = world.take(a).into_iter().map(first_byte).collect();
    assert!(first_bytes == [0x34, 0x50] || first_bytes == [0x50, 0x34], "{first_bytes:02x?}");
    assert_eq!(first_byte(world.ask(a, acknowledge(0x62, 1))), 0x70);
    assert_eq!(first_byte(world.ask(a, acknowledge(0x50, 1))), 0x62);
    world.send(a, acknowledge(0x70, 1));
    assert_eq!(first_byte(world.ask(a, unsubscribe(V5, 1, &["t"]))), 0xB0);
    assert_eq!(first_byte(world.ask(a, PINGREQ)), 0xD0);
    assert_eq!(first_byte(world.ask(a, Publish::new(V5, "t", b"").qos(1, 1).bytes())), 0x40);
    assert_eq!(first_byte(world.ask(a, PINGRESP)), 0xE0);
}

/// There is no identifier between the topic and the properties, neither if QoS 0 was published nor if it was granted.
#[test]
fn mqtt5_2_2_1_2() {
    let mut world = World::new();
    let a = subscriber(&mut world, "a", "t", 0);
    let b = subscriber(&mut world, "b", "t", 2);
    world.send(b, Publish::new(V5, "t", b"xy").bytes());
    assert_eq!(world.take_one(a), b"\x30\x06\0\x01t\0xy");
    assert_eq!(world.take_one(b), b"\x30\x06\0\x01t\0xy");
    for qos in [1, 2] {
        world.send(b, Publish::new(V5, "t", b"xy").qos(qos, 7).bytes());
        assert_eq!(world.take_one(a), b"\x30\x06\0\x01t\0xy");
    }
}

#[test]
fn mqtt5_2_2_1_3() {
    for bytes in [
        subscribe(V5, 0, &[], &[("t", 0)]),
        unsubscribe(V5, 0, &["t"]),
        Publish::new(V5, "t", b"x").qos(1, 0).bytes(),
        Publish::new(V5, "t", b"x").qos(2, 0).bytes(),
    ] {
        let mut world = World::new();
        let b = subscriber(&mut world, "b", "t", 0);
        let a = client(&mut world, "a");
        assert_broken(&mut world, a, bytes, 0x82);
        assert!(world.take(b).is_empty());
    }
}

/// Each direction has its own identifiers, and so may use the same at the same time.
#[test]
fn mqtt5_2_2_1_3_both_directions() {
    let mut world = World::new();
    let a = subscriber(&mut world, "a", "t", 2);
    world.send(a, Publish::new(V5, "t", b"x").qos(2, 1).bytes());
    assert_eq!(world.take(a).len(), 2);
    assert_eq!(world.ask(a, acknowledge(0x62, 1)), [0x70, 2, 0, 1]);
    assert_eq!(world.ask(a, acknowledge(0x50, 1)), [0x62, 2, 0, 1]);
    assert_eq!(world.ask(a, subscribe(V5, 1, &[], &[("u", 0)]))[..4], [0x90, 4, 0, 1]);
    world.send(a, acknowledge(0x70, 1));
    assert!(world.take(a).is_empty());
}

fn take_identifier(world: &mut World, peer: Peer) -> u16 {
    take_publish(world, peer).packet_identifier.expect("QoS 1 or 2 has one")
}

/// All 65,535 are used, past the end and on, in batches of 250; each is acknowledged after the next came.
#[test]
fn mqtt5_2_2_1_4() {
    let mut world = World::new();
    let a = subscriber(&mut world, "a", "t", 1);
    let b = client(&mut world, "b");
    let mut in_use = BTreeSet::new();
    let batch = Publish::new(V5, "t", b"").qos(1, 1).bytes().repeat(250);
    for _ in 0..263 {
        world.send(b, &batch);
        world.take(b);
        let before = std::mem::take(&mut in_use);
        for packet in world.take(a) {
            let identifier = received(V5, &packet).packet_identifier.expect("QoS 1 has one");
            assert!(identifier != 0 && !before.contains(&identifier) && in_use.insert(identifier));
        }
        assert_eq!(in_use.len(), 250);
        world.send(
            a,
            before.iter().flat_map(|&identifier| acknowledge(0x40, identifier)).collect::<Vec<u8>>(),
        );
    }
}

/// An identifier of QoS 2 is in use until the PUBCOMP.
#[test]
fn mqtt5_2_2_1_4_qos_2() {
    let mut world = World::new();
    let a = subscriber(&mut world, "a", "t", 2);
    let b = client(&mut world, "b");
    let publish = Publish::new(V5, "t", b"");
    world.send(b, publish.clone().qos(2, 1).bytes());
    let first = take_identifier(&mut world, a);
    world.send(b, publish.clone().qos(1, 2).bytes());
    let second = take_identifier(&mut world, a);
    assert_eq!(world.ask(a, acknowledge(0x50, first)), acknowledge(0x62, first));
    world.send(b, publish.qos(1, 2).bytes());
    let third = take_identifier(&mut world, a);
    assert!(first > 0 && second > 0 && third > 0);
    assert!(first != second && first != third && second != third);
}

/// An identifier stays in use across a reconnect.
#[test]
fn mqtt5_2_2_1_4_reconnect() {
    let mut world = World::new();
    let connect = Connect::new(V5, "a").resume().expiry(60);
    let a = world.connect(connect.bytes());
    subscribe_to(&mut world, a, "t", 1);
    let b = client(&mut world, "b");
    world.send(b, Publish::new(V5, "t", b"1").qos(1, 1).bytes());
    let first = take_identifier(&mut world, a);
    world.cut(a);
    world.send(b, Publish::new(V5, "t", b"2").qos(1, 1).bytes());
    let a = world.open();
    world.send(a, connect.bytes());
    let packets = world.take(a);
    assert_eq!(packets.len(), 3);
    let messages = [received(V5, &packets[1]), received(V5, &packets[2])];
    assert_eq!((&messages[0].payload[..], messages[0].packet_identifier), (&b"1"[..], Some(first)));
    assert_eq!(&messages[1].payload[..], b"2");
    assert_ne!(messages[1].packet_identifier, Some(first));
    assert!(messages[1].packet_identifier > Some(0));
}

#[test]
fn mqtt5_2_2_1_5() {
    for identifier in [1, 0x1234, 0xFFFF_u16] {
        let mut world = World::new();
        let a = client(&mut world, "a");
        subscriber(&mut world, "b", "t", 0);
        let [high, low] = identifier.to_be_bytes();
        let publish = Publish::new(V5, "t", b"");
        assert_eq!(world.ask(a, publish.clone().qos(1, identifier).bytes()), [0x40, 2, high, low]);
        assert_eq!(world.ask(a, publish.qos(2, identifier).bytes()), [0x50, 2, high, low]);
        assert_eq!(world.ask(a, acknowledge(0x62, identifier)), [0x70, 2, high, low]);
    }
}

/// The PUBREL has the identifier that the broker itself chose, whichever PUBREC comes first.
#[test]
fn mqtt5_2_2_1_5_pubrel() {
    let mut world = World::new();
    let a = subscriber(&mut world, "a", "t", 2);
    let b = client(&mut world, "b");
    let mut identifiers: Vec<u16> = Vec::new();
    for packet_identifier in 1..4 {
        world.send(b, Publish::new(V5, "t", b"").qos(2, packet_identifier).bytes());
        identifiers.push(take_identifier(&mut world, a));
    }
    for &identifier in identifiers.iter().rev() {
        assert_eq!(world.ask(a, acknowledge(0x50, identifier)), acknowledge(0x62, identifier));
    }
}

#[test]
fn mqtt5_2_2_1_6() {
    let mut world = World::new();
    let a = client(&mut world, "a");
    for identifier in [1, 0x1234, 0xFFFF_u16] {
        let [high, low] = identifier.to_be_bytes();
        let suback = world.ask(a, subscribe(V5, identifier, &[], &[("t", 1), ("u", 0)]));
        assert_eq!(suback, [0x90, 5, high, low, 0, 1, 0]);
        let unsuback = world.ask(a, unsubscribe(V5, identifier, &["t", "u"]));
        assert_eq!(unsuback, [0xB0, 5, high, low, 0, 0, 0]);
    }
}

/// A body that ends before the Property Length is truncated.
#[test]
fn mqtt5_2_2_2_1() {
    let head = [&field("MQTT")[..], &[5, 2, 0, 0]].concat();
    assert_refused(&mut World::new(), packet(0x10, &head), 0x81);
    for bytes in [
        packet(0x30, &field("t")),
        packet(0x32, &[&field("t")[..], &[0, 1]].concat()),
        packet(0x82, &[0, 1]),
        packet(0xA2, &[0, 1]),
        // A length that promises more than there is.
        packet(0x30, &[&field("t")[..], &[2, 1]].concat()),
        packet(0x30, &[&field("t")[..], &[1]].concat()),
        // A block that ends within a property.
        packet(0x30, &[&field("t")[..], &[1, 1, 1]].concat()),
    ] {
        let mut world = World::new();
        let peer = client(&mut world, "a");
        assert_broken(&mut world, peer, bytes, 0x81);
    }
}

/// The broker writes the zero as well.
#[test]
fn mqtt5_2_2_2_1_sent() {
    let mut world = World::new();
    let a = client(&mut world, "a");
    assert_eq!(world.ask(a, subscribe(V5, 3, &[], &[("t", 1)])), [0x90, 4, 0, 3, 0, 1]);
    world.send(a, Publish::new(V5, "t", b"x").qos(1, 9).bytes());
    let mut packets = world.take(a);
    packets.sort();
    assert_eq!(packets, [&b"\x32\x07\0\x01t\0\x01\0x"[..], &[0x40, 2, 0, 9]]);
    assert_eq!(world.ask(a, unsubscribe(V5, 3, &["t"])), [0xB0, 4, 0, 3, 0, 0]);
}
