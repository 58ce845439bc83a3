//! Packet Identifiers that are in use for very long, because a message is never acknowledged.

use std::collections::BTreeSet;

use brooklet::core::limits::Limits;

use crate::wire::*;
use crate::world::{Peer, World};

/// More messages than there are Packet Identifiers, a few of them at a time.
const MESSAGES: usize = 66_000;
const AT_ONCE: usize = 200;

/// Answers all messages that have come, except those with identifiers in `stuck`. Returns how many there were.
fn answer_others(world: &mut World, peer: Peer, level: u8, stuck: &BTreeSet<u16>) -> usize {
    let mut count = 0;
    loop {
        let mut answers = Vec::new();
        for packet in world.take(peer) {
            if packet[0] >> 4 == 6 {
                answers.extend(acknowledge(0x70, u16::from_be_bytes([packet[2], packet[3]])));
                continue;
            }
            let message = received(level, &packet);
            let identifier = message.packet_identifier.expect("QoS 1 or 2");
            assert!(!stuck.contains(&identifier), "{identifier} is in use");
            answers.extend(acknowledge(if message.qos == 1 { 0x40 } else { 0x50 }, identifier));
            count += 1;
        }
        if answers.is_empty() {
            return count;
        }
        world.send(peer, answers);
    }
}

fn outlast(level: u8, qos: u8) {
    let what = format!("level {level}, QoS {qos}");
    let mut world = World::with_limits(|limits| *limits = Limits { in_flight: 20, ..Limits::default() });
    let connect = Connect::new(level, "b").resume();
    let connect = if level == V5 { connect.expiry(100) } else { connect };
    let b = world.connect(connect.bytes());
    world.ask(b, subscribe(level, 1, &[], &[("t", 2)]));
    let a = world.connect(Connect::new(V311, "a").bytes());
    let batch = |count: usize| -> Vec<u8> {
        let publish = |number: u16| {
            let message = Publish::new(V311, "t", b"m").qos(qos, number).bytes();
            if qos == 2 { [message, acknowledge(0x62, number)].concat() } else { message }
        };
        (1..).take(count).flat_map(publish).collect()
    };
    world.send(a, batch(3));
    let identifier = |packet: &Vec<u8>| received(level, packet).packet_identifier.expect("QoS 1 or 2");
    let stuck: Vec<u16> = world.take(b).iter().map(identifier).collect();
    assert_eq!(stuck.len(), 3, "{what}");
    let in_use = BTreeSet::from_iter(stuck.clone());
    for _ in 0..MESSAGES / AT_ONCE {
        world.send(a, batch(AT_ONCE));
        world.take(a);
        assert_eq!(answer_others(&mut world, b, level, &in_use), AT_ONCE, "{what}");
    }
    assert_eq!(world.broker.statistics().dropped, 0, "{what}");
    // Retained messages are delivered as well.
    world.send(a, Publish::new(V311, "kept", b"m").retain().qos(1, 1).bytes());
    world.send(b, subscribe(level, 2, &[], &[("kept", 1)]));
    let packets = world.take(b);
    assert_eq!(packets.iter().map(|packet| packet[0] >> 4).collect::<Vec<_>>(), [9, 3], "{what}");
    world.send(b, acknowledge(0x40, identifier(&packets[1])));
    // On another connection, the messages that were never answered come first, and can be answered there.
    world.cut(b);
    world.send(a, batch(2));
    let back = world.open();
    world.send(back, connect.bytes());
    let packets = world.take(back);
    let again: Vec<Received> = packets[1..].iter().map(|packet| received(level, packet)).collect();
    assert_eq!(again.iter().map(|message| message.dup).collect::<Vec<_>>(), [true, true, true, false, false]);
    let identifiers: Vec<u16> = again.iter().filter_map(|message| message.packet_identifier).collect();
    assert_eq!(identifiers[..3], stuck, "{what}");
    for identifier in identifiers.into_iter().rev() {
        world.send(back, acknowledge(if qos == 1 { 0x40 } else { 0x50 }, identifier));
        assert!(!world.is_closed(back), "{what}");
    }
    answer_others(&mut world, back, level, &BTreeSet::new());
    world.send(a, batch(1));
    assert_eq!(answer_others(&mut world, back, level, &BTreeSet::new()), 1, "{what}");
}

#[test]
fn of_qos_1_they_are_skipped() {
    for level in [V311, V5] {
        outlast(level, 1);
    }
}

#[test]
fn of_qos_2_they_are_skipped() {
    for level in [V311, V5] {
        outlast(level, 2);
    }
}
