//! Messages near the largest length of the protocol, which become longer when they are sent.

use std::rc::Rc;

use brooklet::core::limits::Limits;
use brooklet::core::listener::{ListenerId, ListenerOptions};
use brooklet::core::switches::Switches;

use crate::v5_peers::*;
use crate::wire::*;
use crate::world::{Peer, World};

/// The largest Remaining Length, and the packet that has it.
const REMAINING_LENGTH: usize = 268_435_455;
const PACKET: usize = REMAINING_LENGTH + 5;

/// The listener whose clients have a mount point.
const MOUNTED: ListenerId = ListenerId(1);

fn world(change: impl FnOnce(&mut Limits)) -> World {
    World::with_limits(|limits| {
        limits.packet_size = PACKET;
        // Otherwise each of them would be copied, to continue in a later turn.
        limits.steps_per_turn = 1 << 30;
        change(limits);
    })
}

/// A PUBLISH of the largest Remaining Length, less this many bytes. Its payload follows `head`.
fn longest(flags: u8, head: &[u8], less: usize) -> Vec<u8> {
    let mut bytes = vec![0; PACKET - less];
    let front = [vec![0x30 | flags], variable_byte_integer(REMAINING_LENGTH - less), head.to_vec()].concat();
    bytes[..front.len()].copy_from_slice(&front);
    bytes
}

/// Asserts that the message was too long for this subscriber only, and that the next one is not.
fn assert_left_out(world: &mut World, publisher: (Peer, u8), subscriber: Peer, to: &str, what: &str) {
    assert!(!world.is_closed(publisher.0) && !world.is_closed(subscriber), "{what}");
    assert_eq!(world.take(subscriber), Vec::<Vec<u8>>::new(), "{what}");
    assert_eq!(world.broker.statistics().oversized, 1, "{what}");
    world.send(publisher.0, Publish::new(publisher.1, to, b"short").bytes());
    assert_eq!(world.take(subscriber).len(), 1, "{what}");
}

#[test]
fn the_properties_of_another_version_may_be_too_much() {
    for (qos, identifier) in [(0, &[][..]), (1, &[0, 1]), (2, &[0, 1])] {
        let mut world = world(|_| ());
        let b = subscriber(&mut world, "b", "t", qos);
        let a = world.connect(Connect::new(V311, "a").bytes());
        world.send(a, longest(qos << 1, &[&field("t"), identifier].concat(), 0));
        assert_left_out(&mut world, (a, V311), b, "t", &format!("QoS {qos}"));
    }
}

#[test]
fn subscription_identifiers_and_aliases_may_be_too_much() {
    // With room for the properties' length and half an identifier.
    for less in [0, 1, 2] {
        let mut world = world(|_| ());
        let b = world.connect(Connect::new(V5, "b").property(&[0x22, 0, 9]).bytes());
        world.ask(b, subscribe(V5, 1, &[0x0B, 0xFF, 0xFF, 0xFF, 0x7F], &[("t", 0)]));
        let a = client(&mut world, "a");
        world.send(a, longest(0, &[field("t"), vec![0]].concat(), less));
        assert_left_out(&mut world, (a, V5), b, "t", &format!("{less} bytes less"));
    }
}

#[test]
fn properties_alone_may_be_too_much() {
    // The longest User Properties that fit, and no payload.
    let longest = [&[0x26][..], &[0xFF; 2], &[b'n'; 65_535], &[0xFF; 2], &[b'v'; 65_535]].concat();
    let topic = field("t");
    let length = REMAINING_LENGTH - topic.len() - 4;
    let mut block = longest.repeat(length / longest.len());
    let rest = length - block.len() - 1 - 2 - 2;
    let (name, value) = ("n".repeat(rest / 2), "v".repeat(rest - rest / 2));
    block.extend([&[0x26][..], &field(&name), &field(&value)].concat());
    assert_eq!(block.len(), length);
    let head = [topic, variable_byte_integer(length), block].concat();
    let mut world = world(|_| ());
    let b = world.connect(Connect::new(V5, "b").bytes());
    world.ask(b, subscribe(V5, 1, &[0x0B, 0xFF, 0xFF, 0xFF, 0x7F], &[("t", 0)]));
    let a = client(&mut world, "a");
    world.send(a, self::longest(0, &head, 0));
    assert_left_out(&mut world, (a, V5), b, "t", "User Properties");
}

#[test]
fn a_topic_in_place_of_an_alias_may_be_too_much() {
    // The alias takes four bytes of properties, and 5.0 needs one of them anyway.
    for (length, level) in [(4, V5), (5, V311), (65_535, V5), (65_535, V311)] {
        let mut world = world(|_| ());
        let b = world.connect(Connect::new(level, "b").bytes());
        world.ask(b, subscribe(level, 1, &[], &[("#", 1)]));
        let (a, topic) = (client(&mut world, "a"), "t".repeat(length));
        world.send(a, Publish::new(V5, &topic, b"").property(&[0x23, 0, 1]).bytes());
        assert_eq!(world.take(b).len(), 1);
        world.send(a, longest(0, &[&field("")[..], &[3, 0x23, 0, 1]].concat(), 0));
        assert_left_out(&mut world, (a, V5), b, &topic, &format!("a topic of {length} bytes to {level}"));
    }
}

#[test]
fn a_raised_qos_may_be_too_much() {
    let mut world = world(|_| {});
    world.broker.set_switches(Switches { raises_qos: true, ..Switches::default() });
    let b = world.connect(Connect::new(V311, "b").bytes());
    world.ask(b, subscribe(V311, 1, &[], &[("t", 1)]));
    let a = world.connect(Connect::new(V311, "a").bytes());
    world.send(a, longest(0, &field("t"), 0));
    assert_left_out(&mut world, (a, V311), b, "t", "QoS 1 needs a Packet Identifier");
}

#[test]
fn a_mount_point_may_be_too_much() {
    let mut world = world(|_| ());
    let mut rules = ListenerOptions::within(&Limits { packet_size: PACKET, ..Limits::default() });
    rules.mount_point = Some("house/".into());
    world.broker.set_listener_options(MOUNTED, Rc::new(rules));
    let b = world.connect(Connect::new(V311, "b").bytes());
    world.ask(b, subscribe(V311, 1, &[], &[("house/t", 0)]));
    let a = world.open_at(MOUNTED);
    world.ask(a, Connect::new(V311, "a").bytes());
    world.send(a, longest(0, &field("t"), 0));
    assert_left_out(&mut world, (a, V311), b, "t", "a mount point");
}

#[test]
fn retained_and_queued_messages_may_be_too_long() {
    let mut world = world(|_| ());
    let away = world.connect(Connect::new(V5, "b").expiry(100).bytes());
    world.ask(away, subscribe(V5, 1, &[], &[("t", 1)]));
    world.cut(away);
    let a = world.connect(Connect::new(V311, "a").bytes());
    world.ask(a, longest(1 << 1 | 1, &[&field("t")[..], &[0, 1]].concat(), 0));
    let back = world.connect(Connect::new(V5, "b").resume().expiry(100).bytes());
    assert_left_out(&mut world, (a, V311), back, "t", "it has waited");
    let suback = world.ask(back, subscribe(V5, 2, &[], &[("t", 1)]));
    assert_eq!((suback[0], world.broker.statistics().oversized), (0x90, 2), "it was retained");
}
