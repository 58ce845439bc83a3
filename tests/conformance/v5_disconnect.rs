//! MQTT 5.0, chapters 3.12 to 3.15, 4.12 and 4.13: PINGREQ, DISCONNECT, AUTH and errors.

use crate::v5_exchange::*;
use crate::wire::*;
use crate::world::{Peer, World};

/// An AUTH with this Reason Code and the content of its property block.
fn auth(reason_code: u8, properties: &[u8]) -> Vec<u8> {
    let length = variable_byte_integer(properties.len());
    packet(0xF0, &[&[reason_code][..], &length, properties].concat())
}

/// The Authentication Method `m` as a property.
const METHOD: [u8; 4] = [0x15, 0, 1, b'm'];

/// Ways to make the broker end a connection of 5.0 with a DISCONNECT, and its Reason Code.
type End = (u8, fn(&mut World, Peer));
const ENDS: [End; 11] = [
    (0x81, |world, a| world.send(a, [0xC1, 0])),
    (0x82, |world, a| world.send(a, Connect::new(V5, "a").bytes())),
    (0x8B, |world, _| {
        let now = world.now();
        world.broker.shut_down(now);
        world.settle();
    }),
    (0x8D, |world, _| world.pass_seconds(15)),
    (0x8E, |world, _| {
        world.connect(Connect::new(V5, "a").bytes());
    }),
    (0x8F, |world, a| world.send(a, subscribe(V5, 1, &[], &[("t", 0), (&"/".repeat(201), 0)]))),
    (0x8F, |world, a| world.send(a, unsubscribe(V5, 1, &[&"/".repeat(201)]))),
    (0x90, |world, a| world.send(a, Publish::new(V5, &"/".repeat(201), b"").bytes())),
    (0x93, |world, a| {
        for identifier in 1..=1024 {
            world.send(a, Publish::new(V5, "t", b"").qos(2, identifier).bytes());
        }
        assert_eq!(world.take(a).len(), 1024);
        world.send(a, Publish::new(V5, "t", b"").qos(2, 1025).bytes());
    }),
    (0x94, |world, a| world.send(a, Publish::new(V5, "t", b"").property(&[0x23, 0, 11]).bytes())),
    (0x95, |world, a| world.send(a, [0x30, 0xFF, 0xFF, 0x7F])),
];

/// Each of the ways of [`ENDS`] with a client `a` of this CONNECT; returns each DISCONNECT.
fn ends(connect: &Connect) -> Vec<Vec<u8>> {
    let one = |&(code, end): &End| {
        let mut world = World::new();
        let a = world.connect(connect.clone().keep_alive(10).bytes());
        end(&mut world, a);
        assert_disconnected(&mut world, a, code, "an end")
    };
    ENDS.iter().map(one).collect()
}

#[test]
fn mqtt5_3_12_4_1() {
    let mut world = World::new();
    let a = client(&mut world, "a");
    assert_eq!(world.ask(a, PINGREQ), PINGRESP);
    world.send(a, [PINGREQ, PINGREQ].concat());
    assert_eq!(world.take(a), [PINGRESP, PINGRESP]);
    assert_broken(&mut world, a, [0xC0, 1, 0], 0x81);
}

#[test]
fn mqtt5_3_14_0_1() {
    let connect = Connect::new(V5, "a");
    let mut cut = connect.bytes();
    cut[1] -= 1;
    for (first, answer) in [
        (PINGREQ.to_vec(), None),
        (DISCONNECT.to_vec(), None),
        (auth(0x18, &METHOD), None),
        (vec![0x10, 0xFF, 0xFF, 0xFF, 0xFF], None),
        (cut[..cut.len() - 1].to_vec(), Some(0x81)),
        (connect.property(&METHOD).bytes(), Some(0x8C)),
    ] {
        let mut world = World::new();
        let a = world.open();
        world.send(a, &first);
        let codes: Vec<_> = world.take(a).iter().map(|packet| (packet[0], packet[3])).collect();
        assert_eq!(codes, Vec::from_iter(answer.map(|code| (0x20, code))), "{first:02x?}");
        assert!(world.is_closed(a), "{first:02x?}");
    }
}

#[test]
fn mqtt5_3_14_0_1_in_time() {
    let mut world = World::new();
    let silent = world.open();
    let slow = world.open();
    world.send(slow, &Connect::new(V5, "a").bytes()[..5]);
    world.pass_seconds(60);
    let late = world.open();
    let now = world.now();
    world.broker.shut_down(now);
    world.settle();
    for peer in [silent, slow, late] {
        assert_silent(&mut world, peer);
        assert!(world.is_closed(peer));
    }
}

/// No CONNACK fits into this Maximum Packet Size, so no packet may be sent at all.
#[test]
fn mqtt5_3_14_0_1_no_room_for_connack() {
    let mut world = World::new();
    let b = subscriber(&mut world, "b", "w", 0);
    let a = world.open();
    let connect = persistent("a").will("w", b"will", 0, false, &[]).property(&[0x27, 0, 0, 0, 4]);
    world.send(a, connect.bytes());
    assert_silent(&mut world, a);
    assert!(world.is_closed(a));
    assert_silent(&mut world, b);
}

#[test]
fn mqtt5_3_14_1_1() {
    for flags in 1..16 {
        let mut world = World::new();
        let b = subscriber(&mut world, "b", "w", 0);
        let a = world.connect(Connect::new(V5, "a").will("w", b"will", 0, false, &[]).bytes());
        assert_broken(&mut world, a, [0xE0 | flags, 0], 0x81);
        assert_eq!(take_payloads(&mut world, b), [b"will"]);
    }
}

#[test]
fn mqtt5_3_14_2_1() {
    // Those that a client may send, then all the others.
    let of_a_client = [0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99];
    let nobodys =
        [0x01, 0x02, 0x03, 0x05, 0x10, 0x11, 0x18, 0x19, 0x7F, 0x84, 0x85, 0x86, 0x88, 0x8A, 0x91, 0x92];
    for code in of_a_client {
        let mut world = World::new();
        let a = client(&mut world, "a");
        world.send(a, disconnect(code, &[]));
        assert_silent(&mut world, a);
        assert!(world.is_closed(a), "{code:02x}");
    }
    for code in nobodys.into_iter().chain(0xA3..=0xFF) {
        let mut world = World::new();
        let a = client(&mut world, "a");
        assert_broken(&mut world, a, disconnect(code, &[]), 0x82);
    }
}

/// A second CONNECT is a Protocol Error, whatever else is wrong with it: the codes of a refusing CONNACK are not
/// allowed in DISCONNECT.
#[test]
fn mqtt5_3_14_2_1_of_the_server() {
    let mut odd = Connect::new(V5, "a");
    odd.level = 6;
    let mut named = Connect::new(V5, "a");
    named.name = "HTTP";
    for second in [Connect::new(V5, "a"), odd, named, Connect::new(V311, "").resume(), Connect::new(V31, "")]
    {
        let mut world = World::new();
        let a = client(&mut world, "a");
        assert_broken(&mut world, a, second.bytes(), 0x82);
    }
}

#[test]
fn mqtt5_3_14_2_2() {
    for packet in ends(&persistent("a")).into_iter().chain(ends(&Connect::new(V5, "a"))) {
        lone_reason_string(&packet[3..]);
    }
}

#[test]
fn mqtt5_3_14_2_3() {
    assert_explained_if_it_fits(&[0xE0, 1, 0x82], |connect| {
        let mut world = World::new();
        let a = world.connect(connect.bytes());
        assert_broken(&mut world, a, connect.bytes(), 0x82)
    });
}

#[test]
fn mqtt5_3_14_2_4() {
    let user_property = [0x26, 0, 1, b'n', 0, 1, b'v'];
    for packet in ends(&Connect::new(V5, "a").property(&user_property)) {
        lone_reason_string(&packet[3..]);
    }
}

#[test]
fn mqtt5_3_14_4_1() {
    let mut world = World::new();
    let b = client(&mut world, "b");
    let (a, ..) = arrive(&mut world, &persistent("a").will("t", b"will", 1, false, &[]));
    subscribe_to(&mut world, a, "t", 1);
    let bytes = [&[0xC1, 0][..], &PINGREQ, &Publish::new(V5, "t", b"late").qos(1, 1).bytes()].concat();
    assert_broken(&mut world, a, bytes, 0x81);
    publish(&mut world, b, "t", b"later", 1);
    assert_silent(&mut world, a);
    assert_eq!(payloads(&back(&mut world, "a").1), [&b"will"[..], b"later"]);
}

/// Nor is any packet accepted from a client that has sent DISCONNECT.
#[test]
fn mqtt5_3_14_4_1_of_the_client() {
    let mut world = World::new();
    let b = subscriber(&mut world, "b", "#", 1);
    let a = client(&mut world, "a");
    world.send(a, [&DISCONNECT[..], &Publish::new(V5, "t", b"late").qos(1, 1).bytes(), &PINGREQ].concat());
    assert_silent(&mut world, a);
    assert_silent(&mut world, b);
    assert!(world.is_closed(a));
}

#[test]
fn mqtt5_3_14_4_2() {
    let mut world = World::new();
    for (_, end) in ENDS {
        let a = world.connect(Connect::new(V5, "a").keep_alive(10).bytes());
        end(&mut world, a);
        assert!(world.is_closed(a));
    }
}

#[test]
fn mqtt5_3_14_4_3() {
    let delayed = [0x18, 0, 0, 0, 5];
    let codes = [0x04, 0x80, 0x83, 0x97].map(|code| (disconnect(code, &[]), true));
    let normal = [DISCONNECT.to_vec(), vec![0xE0, 1, 0], disconnect(0, &[0x11, 0, 0, 0, 9])];
    for (bytes, is_published) in normal.map(|bytes| (bytes, false)).into_iter().chain(codes) {
        for will_properties in [&[][..], &delayed] {
            let mut world = World::new();
            let b = subscriber(&mut world, "b", "w", 0);
            let (a, ..) = arrive(&mut world, &persistent("a").will("w", b"will", 0, false, will_properties));
            world.send(a, &bytes);
            assert_eq!(world.take(b).len(), usize::from(is_published && will_properties.is_empty()));
            world.pass_seconds(2000);
            assert_eq!(world.take(b).len(), usize::from(is_published && !will_properties.is_empty()));
        }
    }
}

#[test]
fn mqtt5_3_15_1_1() {
    for flags in 1..16 {
        let mut world = World::new();
        let a = client(&mut world, "a");
        let mut bytes = auth(0x19, &METHOD);
        bytes[0] |= flags;
        assert_broken(&mut world, a, bytes, 0x81);
    }
}

#[test]
fn mqtt5_3_15_2_1() {
    for code in (0..=0xFF).filter(|code| ![0x00, 0x18, 0x19].contains(code)) {
        let mut world = World::new();
        let a = client(&mut world, "a");
        let disconnect = assert_broken(&mut world, a, auth(code, &METHOD), 0x82);
        assert!(lone_reason_string(&disconnect[3..]).contains("reason code"));
    }
}

#[test]
fn mqtt5_4_12_0_1() {
    for properties in [METHOD.to_vec(), [&METHOD[..], &[0x16, 0, 1, 9]].concat(), vec![0x15, 0, 0]] {
        let mut world = World::new();
        let a = world.open();
        world.send(a, Connect::new(V5, "a").property(&properties).bytes());
        let connack = world.take_one(a);
        assert_eq!((connack[0], connack[2], connack[3]), (0x20, 0, 0x8C));
        assert!(world.is_closed(a));
    }
}

/// Even with the right password; and the session of that name is not affected.
#[test]
fn mqtt5_4_12_0_4() {
    let mut world = World::new();
    let a = persistent_subscriber(&mut world, "a", "t", 1);
    let other = world.open();
    let connect = Connect::new(V5, "a").property(&METHOD).user_name("u").password(b"p");
    world.send(other, connect.bytes());
    let connack = world.take_one(other);
    assert_eq!((connack[0], connack[2], connack[3]), (0x20, 0, 0x8C));
    assert!(world.is_closed(other) && !world.is_closed(a));
    assert_eq!(world.ask(a, Publish::new(V5, "t", b"m").bytes())[0] >> 4, 3);
}

/// Authentication Data without a method is an error of its own.
#[test]
fn mqtt5_4_12_0_6() {
    let mut world = World::new();
    let a = world.open();
    let connack = world.ask(a, Connect::new(V5, "a").user_name("u").password(b"p").bytes());
    let (_, body) = cut_variable_byte_integer(&connack[1..]);
    // Receive Maximum, Maximum Packet Size and Topic Alias Maximum are the only properties.
    assert_eq!(body, [0, 0, 11, 0x21, 4, 0, 0x27, 0, 0x1E, 0x84, 0x80, 0x22, 0, 10]);
    let a = world.open();
    let connack = world.ask(a, Connect::new(V5, "a").property(&[0x16, 0, 1, 9]).bytes());
    assert_eq!((connack[0], connack[3]), (0x20, 0x82));
    assert!(world.is_closed(a));
}

#[test]
fn mqtt5_4_12_0_7() {
    for bytes in [vec![0xF0, 0], auth(0x00, &METHOD), auth(0x18, &METHOD), auth(0x18, &[])] {
        let mut world = World::new();
        let a = client(&mut world, "a");
        assert_broken(&mut world, a, bytes, 0x82);
    }
}

#[test]
fn mqtt5_4_12_1_1() {
    let mut world = World::new();
    let a = client(&mut world, "a");
    assert_broken(&mut world, a, auth(0x19, &[]), 0x82);
}

#[test]
fn mqtt5_4_12_1_2() {
    let mut world = World::new();
    let a = client(&mut world, "a");
    assert_broken(&mut world, a, auth(0x19, &METHOD), 0x82);
}

#[test]
fn mqtt5_4_13_1_1() {
    let publish = Publish::new(V5, "t", b"m");
    for (bytes, code) in [
        // Malformed.
        (vec![0x00, 0], 0x81),
        (vec![0xC0, 0x80, 0x80, 0x80, 0x80], 0x81),
        (vec![0xC0, 0x80, 0x00], 0x81),
        (vec![0x36, 5, 0, 1, b't', 0, 1], 0x81),
        (vec![0x30, 2, 0, 9], 0x81),
        (vec![0x82, 1, 0], 0x81),
        (publish.clone().property(&[0x11, 0, 0, 0, 1]).bytes(), 0x81),
        (publish.clone().property(&[0x7F]).bytes(), 0x81),
        (publish.clone().property(&[0x26, 0, 9]).bytes(), 0x81),
        (vec![0x40, 1, 0], 0x81),
        // Protocol Errors.
        (vec![0x20, 3, 0, 0, 0], 0x82),
        (vec![0x90, 4, 0, 1, 0, 0], 0x82),
        (vec![0xB0, 4, 0, 1, 0, 0], 0x82),
        (vec![0xD0, 0], 0x82),
        (publish.clone().property(&[0x01, 0, 0x01, 0]).bytes(), 0x82),
        (publish.clone().property(&[0x01, 2]).bytes(), 0x82),
        (subscribe(V5, 1, &[0x0B, 0], &[("t", 0)]), 0x82),
        (subscribe(V5, 1, &[0x0B, 1, 0x0B, 2], &[("t", 0)]), 0x82),
        (publish.clone().property(&[0x0B, 1]).bytes(), 0x82),
        (Publish::new(V5, "", b"m").bytes(), 0x82),
        (disconnect(0, &[0x11, 0, 0, 0, 1]), 0x82),
        (Publish::new(V5, "", b"m").property(&[0x23, 0, 1]).bytes(), 0x82),
        // Errors with a code of their own.
        (publish.clone().property(&[0x23, 0, 0]).bytes(), 0x94),
        (publish.property(&[0x23, 0, 11]).bytes(), 0x94),
        (vec![0x30, 0xFF, 0xFF, 0x7F], 0x95),
    ] {
        let mut world = World::new();
        let a = client(&mut world, "a");
        assert_broken(&mut world, a, bytes, code);
    }
}

#[test]
fn mqtt5_4_13_2_1() {
    for connect in [Connect::new(V5, "a").property(&METHOD), Connect::new(V5, "a").property(&[0x21, 0, 0])] {
        let mut world = World::new();
        let a = world.open();
        let connack = world.ask(a, connect.bytes());
        assert!(connack[0] == 0x20 && connack[3] >= 0x80 && world.is_closed(a));
    }
    for packet in ends(&Connect::new(V5, "a")) {
        assert!(packet[2] >= 0x80);
    }
    // Sent or not: the peer takes no bytes.
    let mut world = World::new();
    let a = client(&mut world, "a");
    world.stall(a, true);
    world.send(a, [0xC1, 0]);
    assert!(world.is_closed(a));
}
