//! MQTT 5.0, chapters 3.4 to 3.7: PUBACK, PUBREC, PUBREL and PUBCOMP.

use crate::v5_exchange::*;
use crate::wire::*;
use crate::world::{Peer, World};

/// The Reason Codes of PUBACK and PUBREC.
const OF_A_MESSAGE: [u8; 9] = [0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
/// Those of PUBREL and PUBCOMP.
const OF_A_RELEASE: [u8; 2] = [0x00, 0x92];

/// Sends every Reason Code in an answer to a message of this QoS; those in `listed` are accepted, the others end the
/// connection. `answer` is what the client does with the Packet Identifier and the Reason Code.
fn assert_only_listed(qos: u8, listed: &[u8], answer: impl Fn(&mut World, Peer, u16, u8)) {
    for code in 0..=255 {
        let mut world = World::new();
        let a = client(&mut world, "a");
        let b = subscriber(&mut world, "b", "t", qos);
        publish(&mut world, a, "t", b"m", qos);
        let identifier = identifier(&world.take_one(b));
        answer(&mut world, b, identifier, code);
        if listed.contains(&code) {
            world.take(b);
            assert_eq!(world.ask(b, PINGREQ), PINGRESP, "{code:02x}");
        } else {
            assert_disconnected(&mut world, b, 0x82, &format!("{code:02x}"));
        }
    }
}

#[test]
fn mqtt5_3_4_2_1() {
    assert_only_listed(1, &OF_A_MESSAGE, |world, b, identifier, code| {
        world.send(b, acknowledge_with(0x40, identifier, code));
    });
}

#[test]
fn mqtt5_3_4_2_1_of_the_server() {
    let mut world = guarded_world();
    let a = client(&mut world, "a");
    let _b = subscriber(&mut world, "b", "t", 1);
    for (topic, answer) in
        [("t", &[0x40, 2, 0, 7][..]), ("nobody", &[0x40, 3, 0, 7, 0x10]), ("secret", &[0x40, 21, 0, 7, 0x87])]
    {
        let puback = world.ask(a, Publish::new(V5, topic, b"m").qos(1, 7).bytes());
        assert!(puback.starts_with(answer), "{topic}: {puback:02x?}");
    }
}

/// The answer to a message of this QoS that is not authorized and has a User Property.
fn refusal(connect: &Connect, qos: u8) -> Vec<u8> {
    let mut world = guarded_world();
    let peer = world.connect(connect.bytes());
    let message = Publish::new(V5, "secret", b"m").qos(qos, 7).property(&[0x26, 0, 1, b'n', 0, 1, b'v']);
    world.ask(peer, message.bytes())
}

#[test]
fn mqtt5_3_4_2_2() {
    assert_explained_if_it_fits(&[0x40, 3, 0, 7, 0x87], |connect| refusal(&connect, 1));
}

#[test]
fn mqtt5_3_4_2_3() {
    let puback = refusal(&Connect::new(V5, "a"), 1);
    assert_eq!(lone_reason_string(&puback[5..]), "not authorized");
}

#[test]
fn mqtt5_3_5_2_1() {
    assert_only_listed(2, &OF_A_MESSAGE, |world, b, identifier, code| {
        world.send(b, acknowledge_with(0x50, identifier, code));
    });
}

#[test]
fn mqtt5_3_5_2_1_of_the_server() {
    let mut world = guarded_world();
    let a = client(&mut world, "a");
    let _b = subscriber(&mut world, "b", "t", 1);
    for (topic, identifier, answer) in [
        ("t", 7, &[0x50, 2, 0, 7][..]),
        ("nobody", 8, &[0x50, 3, 0, 8, 0x10]),
        ("secret", 9, &[0x50, 21, 0, 9, 0x87]),
    ] {
        let pubrec = world.ask(a, Publish::new(V5, topic, b"m").qos(2, identifier).bytes());
        assert!(pubrec.starts_with(answer), "{topic}: {pubrec:02x?}");
    }
}

#[test]
fn mqtt5_3_5_2_2() {
    assert_explained_if_it_fits(&[0x50, 3, 0, 7, 0x87], |connect| refusal(&connect, 2));
}

#[test]
fn mqtt5_3_5_2_3() {
    let pubrec = refusal(&Connect::new(V5, "a"), 2);
    assert_eq!(lone_reason_string(&pubrec[5..]), "not authorized");
}

#[test]
fn mqtt5_3_6_1_1() {
    for flags in (0..16).filter(|&flags| flags != 2) {
        let mut world = World::new();
        let a = client(&mut world, "a");
        assert_eq!(
            world.ask(a, Publish::new(V5, "t", b"m").qos(2, 7).bytes()),
            acknowledge_with(0x50, 7, 0x10)
        );
        assert_broken(&mut world, a, acknowledge(0x60 | flags, 7), 0x81);
    }
}

#[test]
fn mqtt5_3_6_2_1() {
    assert_only_listed(2, &OF_A_RELEASE, |world, b, _, code| {
        let pubrec = world.ask(b, Publish::new(V5, "nobody", b"m").qos(2, 7).bytes());
        assert_eq!(pubrec, acknowledge_with(0x50, 7, 0x10));
        world.send(b, acknowledge_with(0x62, 7, code));
    });
}

/// Sends a PUBREC for a message that was never sent, with a User Property; returns the PUBREL.
fn unknown_pubrec(connect: &Connect) -> Vec<u8> {
    let mut world = World::new();
    let peer = world.connect(connect.bytes());
    world.ask(peer, [0x50, 11, 0, 7, 0, 7, 0x26, 0, 1, b'n', 0, 1, b'v'])
}

#[test]
fn mqtt5_3_6_2_1_of_the_server() {
    let mut world = World::new();
    let a = client(&mut world, "a");
    let b = subscriber(&mut world, "b", "t", 2);
    publish(&mut world, a, "t", b"m", 2);
    let identifier = take_publish(&mut world, b).packet_identifier.unwrap();
    assert_eq!(world.ask(b, acknowledge(0x50, identifier)), acknowledge(0x62, identifier));
    assert_eq!(unknown_pubrec(&Connect::new(V5, "c"))[..5], [0x62, 34, 0, 7, 0x92]);
}

#[test]
fn mqtt5_3_6_2_2() {
    assert_explained_if_it_fits(&[0x62, 3, 0, 7, 0x92], |connect| unknown_pubrec(&connect));
}

#[test]
fn mqtt5_3_6_2_3() {
    let pubrel = unknown_pubrec(&Connect::new(V5, "a"));
    assert_eq!(lone_reason_string(&pubrel[5..]), "packet identifier not found");
}

#[test]
fn mqtt5_3_7_2_1() {
    assert_only_listed(2, &OF_A_RELEASE, |world, b, identifier, code| {
        assert_eq!(world.ask(b, acknowledge(0x50, identifier)), acknowledge(0x62, identifier));
        world.send(b, acknowledge_with(0x70, identifier, code));
    });
}

/// Sends a PUBREL for a message that never came, with a User Property; returns the PUBCOMP.
fn unknown_pubrel(connect: &Connect) -> Vec<u8> {
    let mut world = World::new();
    let peer = world.connect(connect.bytes());
    world.ask(peer, [0x62, 11, 0, 7, 0, 7, 0x26, 0, 1, b'n', 0, 1, b'v'])
}

#[test]
fn mqtt5_3_7_2_1_of_the_server() {
    let mut world = World::new();
    let a = client(&mut world, "a");
    assert_eq!(world.ask(a, Publish::new(V5, "t", b"m").qos(2, 7).bytes()), acknowledge_with(0x50, 7, 0x10));
    assert_eq!(world.ask(a, acknowledge(0x62, 7)), acknowledge(0x70, 7));
    assert_eq!(unknown_pubrel(&Connect::new(V5, "c"))[..5], [0x70, 34, 0, 7, 0x92]);
}

#[test]
fn mqtt5_3_7_2_2() {
    assert_explained_if_it_fits(&[0x70, 3, 0, 7, 0x92], |connect| unknown_pubrel(&connect));
}

#[test]
fn mqtt5_3_7_2_3() {
    let pubcomp = unknown_pubrel(&Connect::new(V5, "a"));
    assert_eq!(lone_reason_string(&pubcomp[5..]), "packet identifier not found");
}
