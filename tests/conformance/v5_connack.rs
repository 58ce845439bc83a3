//! MQTT 5.0, chapter 3.2, CONNACK.

use std::cell::Cell;
use std::rc::Rc;

use brooklet::core::access::{AccessControl, Answer, Client, Question, Verdict};
use brooklet::core::limits::Limits;
use brooklet::protocol::codec::ReasonCode;

use crate::v5_peers::*;
use crate::wire::*;
use crate::world::World;

/// An access control that can be switched to any answer, including a later one.
#[derive(Clone)]
struct Door(Rc<Cell<Answer>>);

impl AccessControl for Door {
    fn ask(&mut self, _client: &Client<'_>, _question: Question<'_>) -> Answer {
        self.0.get()
    }
}

fn with_door() -> (World, Rc<Cell<Answer>>) {
    let answer = Rc::new(Cell::new(Answer::Now(Verdict::Granted)));
    (World::with(Limits::default(), Door(answer.clone())), answer)
}

/// A resumed session has messages to send, and its client asks for more, while the decision about it is awaited.
#[test]
fn mqtt5_3_2_0_1() {
    let (mut world, answer) = with_door();
    let stored = Connect::new(V5, "a").resume().expiry(1000);
    let a = world.connect(stored.bytes());
    subscribe_to(&mut world, a, "t", 1);
    world.cut(a);
    let b = client(&mut world, "b");
    world.send(b, Publish::new(V5, "t", b"1").qos(1, 1).bytes());
    answer.set(Answer::Later);
    let a = world.open();
    world.send(a, [&stored.bytes()[..], &PINGREQ].concat());
    answer.set(Answer::Now(Verdict::Granted));
    world.send(b, Publish::new(V5, "t", b"2").bytes());
    world.pass_seconds(5);
    assert!(world.take(a).is_empty());
    world.decide(a, Verdict::Granted);
    let packets = world.take(a);
    assert_eq!(ConnAck::new(&packets[0]).code, 0);
    let mut first_bytes: Vec<u8> = packets[1..].iter().map(|packet| packet[0]).collect();
    first_bytes.sort_unstable();
    assert_eq!(first_bytes, [0x32, 0xD0]);
}

/// A client that can take no CONNACK is not sent a DISCONNECT before one either, and its Will is not published.
#[test]
fn mqtt5_3_2_0_1_too_small_for_connack() {
    for maximum in 1..16 {
        let mut world = World::new();
        let b = subscriber(&mut world, "b", "#", 0);
        let connect = Connect::new(V5, "a").will("w", b"x", 0, false, &[]);
        let peer = world.open();
        world.send(peer, connect.property(&u32_property(0x27, maximum)).bytes());
        let packets = world.take(peer);
        assert!(world.is_closed(peer));
        assert!(packets.iter().all(|packet| packet[0] == 0x20 && packet.len() <= maximum as usize));
        assert_eq!(packets.len(), usize::from(maximum >= 5), "{maximum}: {packets:02x?}");
        assert!(world.take(b).is_empty());
        assert_eq!(world.broker.census().sessions, 1);
    }
}

#[test]
fn mqtt5_3_2_0_2() {
    let (mut world, answer) = with_door();
    answer.set(Answer::Later);
    let a = world.open();
    world.send(a, Connect::new(V5, "a").bytes());
    for _ in 0..2 {
        world.decide(a, Verdict::Granted);
    }
    let mut packets = world.take(a);
    packets.extend([world.ask(a, PINGREQ), world.ask(a, Connect::new(V5, "a").bytes())]);
    let first_bytes: Vec<u8> = packets.iter().map(|packet| packet[0]).collect();
    assert_eq!(first_bytes, [0x20, 0xD0, 0xE0]);
}

/// `ConnAck::new` asserts it for every CONNACK of these tests.
#[test]
fn mqtt5_3_2_2_1() {
    let mut world = World::new();
    let stored = Connect::new(V5, "a").resume().expiry(1000);
    for flags in [0, 1] {
        let a = world.open();
        assert_eq!(world.ask(a, stored.bytes())[2], flags);
    }
    let a = world.open();
    assert_eq!(world.ask(a, Connect::new(V5, "a").property(&[0x17, 9]).bytes())[2], 0);
}

#[test]
fn mqtt5_3_2_2_2() {
    let mut world = World::new();
    let stored = Connect::new(V5, "a").expiry(1000);
    for is_cut in [false, true, false] {
        let (a, connack) = greet(&mut world, &stored);
        assert!(!connack.session_present);
        if is_cut {
            world.cut(a);
        }
    }
}

#[test]
fn mqtt5_3_2_2_3() {
    let mut world = World::new();
    let stored = Connect::new(V5, "a").resume().expiry(10);
    for (seconds_away, present) in [(0, false), (0, true), (9, true), (10, false), (11, false), (1, true)] {
        world.pass_seconds(seconds_away);
        let (a, connack) = greet(&mut world, &stored);
        assert_eq!(connack.session_present, present, "{seconds_away}");
        world.cut(a);
    }
}

#[test]
fn mqtt5_3_2_2_6() {
    let (mut world, answer) = with_door();
    let stored = Connect::new(V5, "a").resume().expiry(1000);
    let a = world.connect(stored.bytes());
    world.cut(a);
    answer.set(Answer::Now(Verdict::Refused(ReasonCode::NotAuthorized)));
    assert_refused(&mut world, stored.bytes(), 0x87);
    answer.set(Answer::Now(Verdict::Granted));
    assert!(greet(&mut world, &stored).1.session_present);
}

/// Closed by the broker, and at once: it does not wait for the client.
#[test]
fn mqtt5_3_2_2_7() {
    for reason in [ReasonCode::BadUserNameOrPassword, ReasonCode::Banned, ReasonCode::ServerBusy] {
        let (mut world, answer) = with_door();
        answer.set(Answer::Now(Verdict::Refused(reason)));
        assert_refused(&mut world, Connect::new(V5, "a").bytes(), reason.value());
    }
}

const LISTED: [u8; 22] = [
    0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97, 0x99,
    0x9A, 0x9B, 0x9C, 0x9D, 0x9F,
];

/// A CONNECT with each of its bytes set to every value of interest: all properties are below 0x30.
#[test]
fn mqtt5_3_2_2_8() {
    let good = Connect::new(V5, "a")
        .property(&[0x21, 0, 9, 0x22, 0, 9, 0x17, 1, 0x19, 1])
        .will("w", b"x", 1, true, &text_property(8, "r"))
        .user_name("u")
        .bytes();
    for index in 0..good.len() {
        let mut world = World::new();
        for value in (0..=0x30).chain([0x7F, 0x80, 0x81, 0xC0, 0xFF]) {
            let mut bytes = good.clone();
            bytes[index] = value;
            let peer = world.open();
            world.send(peer, &bytes);
            match world.take(peer).first() {
                Some(packet) if packet[1] == 2 => assert_eq!(packet[2..], [0, 1], "{bytes:02x?}"),
                Some(packet) => assert!(LISTED.contains(&ConnAck::new(packet).code), "{bytes:02x?}"),
                None => {}
            }
            if !world.is_closed(peer) {
                world.cut(peer);
            }
        }
    }
}

/// QoS 1 and 2 are supported, so there is no Maximum QoS.
#[test]
fn mqtt5_3_2_2_9() {
    let mut world = World::new();
    let (a, connack) = greet(&mut world, &Connect::new(V5, "a"));
    assert_eq!(connack.property(0x24), None);
    subscribe_to(&mut world, a, "t", 2);
    for qos in [1, 2] {
        world.send(a, Publish::new(V5, "t", b"x").qos(qos, 1).bytes());
        let packets = world.take(a);
        assert!(packets.iter().any(|packet| packet[0] == 0x30 | qos << 1));
        assert!(packets.iter().any(|packet| packet[0] == 0x30 + qos * 0x10 && packet.len() == 4));
    }
}

#[test]
fn mqtt5_3_2_2_10() {
    let mut world = World::new();
    let a = client(&mut world, "a");
    let suback = world.ask(a, subscribe(V5, 1, &[], &[("x", 0), ("y", 1), ("z", 2)]));
    assert_eq!(suback, [0x90, 6, 0, 1, 0, 0, 1, 2]);
}

/// No Will QoS is above the maximum, and none is refused.
#[test]
fn mqtt5_3_2_2_12() {
    for qos in 0..3 {
        let mut world = World::new();
        let watcher = subscriber(&mut world, "watcher", "w", 2);
        let (a, connack) = greet(&mut world, &Connect::new(V5, "a").will("w", b"x", qos, false, &[]));
        assert_eq!((connack.code, connack.property(0x24)), (0, None));
        world.cut(a);
        assert_eq!(take_publish(&mut world, watcher).qos, qos);
    }
}

/// Retained messages are supported, so none is refused.
#[test]
fn mqtt5_3_2_2_13() {
    let mut world = World::new();
    let (a, connack) = greet(&mut world, &Connect::new(V5, "a").will("w", b"x", 0, true, &[]));
    assert_eq!((connack.code, connack.property(0x25)), (0, None));
    world.cut(a);
    assert_eq!(world.broker.census().retained, 1);
}

#[test]
fn mqtt5_3_2_2_15() {
    let mut world = World::new();
    let (a, connack) = greet(&mut world, &Connect::new(V5, "a"));
    let maximum = 2_000_000_u32;
    assert_eq!(connack.property(0x27), Some(&maximum.to_be_bytes()[..]));
    let of_size = |size: usize| Publish::new(V5, "t", &vec![0; size - 8]).bytes();
    let largest = of_size(maximum as usize);
    assert_eq!(largest.len(), maximum as usize);
    world.send(a, largest);
    assert!(world.take(a).is_empty());
    // One more is too many, and refused as soon as its length is known.
    assert_broken(&mut world, a, &of_size(maximum as usize + 1)[..4], 0x95);
}

#[test]
fn mqtt5_3_2_2_16() {
    let mut world = World::new();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..50 {
        let (_, connack) = greet(&mut world, &Connect::new(V5, ""));
        let identifier = connack.property(0x12).expect("an identifier").to_vec();
        assert!(identifier.len() > 2 && seen.insert(identifier));
    }
    // A client with an identifier of its own is assigned none.
    assert_eq!(greet(&mut world, &Connect::new(V5, "a")).1.property(0x12), None);
    assert_eq!(world.broker.census().sessions, 51);
}

#[test]
fn mqtt5_3_2_2_17() {
    for (alias, is_good) in [(1, true), (10, true), (11, false), (0xFFFF, false)] {
        let mut world = World::new();
        let (a, connack) = greet(&mut world, &Connect::new(V5, "a"));
        assert_eq!(connack.property(0x22), Some(&[0, 10][..]));
        let publish = Publish::new(V5, "t", b"x").property(&u16_property(0x23, alias)).bytes();
        if is_good {
            world.send(a, publish);
            assert!(!world.is_closed(a));
        } else {
            assert_broken(&mut world, a, publish, 0x94);
        }
    }
}

#[test]
fn mqtt5_3_2_2_18() {
    let mut world = World::with_limits(|limits| limits.topic_alias_maximum = 0);
    let (a, connack) = greet(&mut world, &Connect::new(V5, "a"));
    assert!(matches!(connack.property(0x22), None | Some([0, 0])));
    assert_broken(&mut world, a, Publish::new(V5, "t", b"x").property(&[0x23, 0, 1]).bytes(), 0x94);
}

/// A refusal has a Reason String only if that fits, whatever the reason.
#[test]
fn mqtt5_3_2_2_19() {
    let refuse = |property: &[u8]| {
        let (mut world, answer) = with_door();
        answer.set(Answer::Now(Verdict::Refused(ReasonCode::NotAuthorized)));
        let peer = world.open();
        world.send(peer, Connect::new(V5, "a").property(property).bytes());
        assert!(world.is_closed(peer));
        world.take(peer)
    };
    let whole = refuse(&[]).remove(0);
    assert!(ConnAck::new(&whole).property(0x1F).is_some());
    let length = u32::try_from(whole.len()).unwrap();
    assert_eq!(refuse(&u32_property(0x27, length)), [&whole[..]]);
    for maximum in [length - 1, 5] {
        assert_eq!(refuse(&u32_property(0x27, maximum)), [&[0x20, 3, 0, 0x87, 0][..]]);
    }
    assert!(refuse(&u32_property(0x27, 4)).is_empty());
    let too_early = text_property(0x15, "method");
    let mut world = World::new();
    let peer = world.open();
    let connect = Connect::new(V5, "a").property(&u32_property(0x27, 9)).property(&too_early);
    assert_eq!(world.ask(peer, connect.bytes()), [0x20, 3, 0, 0x8C, 0]);
}

/// The broker has no User Properties to send.
#[test]
fn mqtt5_3_2_2_20() {
    let mut world = World::new();
    for connect in [Connect::new(V5, "a"), Connect::new(V5, ""), Connect::new(V5, "b").property(&[0x17, 7])] {
        assert_eq!(greet(&mut world, &connect).1.property(0x26), None);
    }
}

fn granted(maximum: u16, wanted: u16) -> (World, crate::world::Peer, ConnAck) {
    let mut world = World::with_limits(|limits| limits.keep_alive_maximum = maximum);
    let (peer, connack) = greet(&mut world, &Connect::new(V5, "a").keep_alive(wanted));
    (world, peer, connack)
}

/// The limits that the broker announces are the ones that it enforces.
#[test]
fn mqtt5_3_2_2_21() {
    for wanted in [61, 0, 0xFFFF] {
        let (mut world, peer, connack) = granted(60, wanted);
        assert_eq!(connack.property(0x13), Some(&[0, 60][..]));
        world.pass(89_999);
        assert!(!world.is_closed(peer));
        world.pass(1);
        assert_disconnected(&mut world, peer, 0x8D, "silence");
    }
}

#[test]
fn mqtt5_3_2_2_22() {
    for wanted in [60, 59, 1] {
        let (mut world, peer, connack) = granted(60, wanted);
        assert_eq!(connack.property(0x13), None);
        world.pass(u64::from(wanted) * 1500 - 1);
        assert!(!world.is_closed(peer));
        world.pass(1);
        assert_disconnected(&mut world, peer, 0x8D, "silence");
    }
}
