//! The queues of bridges: messages that wait for too long are dropped.

use brooklet::base::time::Duration;
use brooklet::core::broker::LocalSide;
use brooklet::core::limits::Limits;
use brooklet::core::listener::{ListenerId, ListenerOptions, QueueOptions};
use brooklet::core::switches::Switches;

use crate::wire::*;
use crate::world::{Peer, World};

const BRIDGE: ListenerId = ListenerId(1);
pub const LOCAL: &str = "local.far.host";

/// Lets messages wait for so many seconds.
pub fn set_age(world: &mut World, seconds: Option<u64>) {
    let queue = QueueOptions { length: None, drops_oldest: false, age: seconds.map(Duration::from_seconds) };
    let options = ListenerOptions { queue: Some(queue), ..ListenerOptions::within(&Limits::default()) };
    world.broker.set_listener_options(BRIDGE, options.into());
    let side = LocalSide {
        client_identifier: LOCAL.into(),
        listener: BRIDGE,
        filters: Vec::new(),
        changes_maximum: 0,
    };
    world.broker.set_bridges(vec![side], &[BRIDGE], world.now());
    world.settle();
}

/// A bridge with a subscription of QoS 2 to `t`.
fn connect_bridge(world: &mut World) -> Peer {
    let bridge = come_back(world, 10);
    world.take(bridge);
    world.ask(bridge, subscribe(V5, 1, &[], &[("t", 2)]));
    bridge
}

/// Connects a bridge whose window holds so many messages.
pub fn come_back(world: &mut World, window: u8) -> Peer {
    let peer = world.open_at(BRIDGE);
    let connect = Connect::new(V5, LOCAL).resume().expiry(u32::MAX).property(&[0x21, 0, window]);
    world.send(peer, connect.bytes());
    peer
}

fn payloads(world: &mut World, peer: Peer) -> Vec<Vec<u8>> {
    let packets = world.take(peer).into_iter().filter(|packet| packet[0] >> 4 == 3);
    packets.map(|packet| received(V5, &packet).payload).collect()
}

/// How many seconds the first message has waited, and how many messages were dropped.
pub fn queue_of(world: &mut World) -> (u64, u64) {
    let (waited, dropped) = world.broker.bridge_queue(LOCAL, world.now());
    (waited.seconds(), dropped)
}

#[test]
fn a_message_that_has_waited_for_too_long_is_dropped() {
    for qos in [1, 2] {
        let mut world = World::new();
        set_age(&mut world, Some(10));
        let bridge = connect_bridge(&mut world);
        world.cut(bridge);
        let publisher = world.connect(Connect::new(V5, "p").bytes());
        assert_eq!(queue_of(&mut world), (0, 0));
        for (number, payload) in [(1, b"a"), (2, b"b"), (3, b"c")] {
            world.ask(publisher, Publish::new(V5, "t", payload).qos(qos, number).bytes());
            world.pass_seconds(4);
        }
        // They have waited for 12, 8 and 4 seconds.
        assert_eq!((queue_of(&mut world), world.broker.waiting_messages(LOCAL)), ((8, 1), 2));
        assert_eq!(world.broker.statistics().expired, 1);
        world.pass(2000);
        assert_eq!(queue_of(&mut world), (10, 1), "just as long is not too long");
        world.pass(1);
        assert_eq!(queue_of(&mut world), (6, 2));
        let bridge = come_back(&mut world, 10);
        assert_eq!(payloads(&mut world, bridge), [b"c"]);
        assert_eq!(queue_of(&mut world), (0, 2));
    }
}

#[test]
fn without_a_limit_messages_only_grow_older() {
    let mut world = World::new();
    set_age(&mut world, None);
    let bridge = connect_bridge(&mut world);
    world.cut(bridge);
    let publisher = world.connect(Connect::new(V5, "p").bytes());
    world.ask(publisher, Publish::new(V5, "t", b"a").qos(1, 1).bytes());
    world.pass_seconds(1_000_000);
    assert_eq!(queue_of(&mut world), (1_000_000, 0));
    // A reload changes that at once.
    set_age(&mut world, Some(1_000_001));
    assert_eq!(queue_of(&mut world), (1_000_000, 0));
    set_age(&mut world, Some(999_999));
    world.pass(0);
    assert_eq!((queue_of(&mut world), world.broker.waiting_messages(LOCAL)), ((0, 1), 0));
}

#[test]
fn the_other_broker_learns_of_no_other_expiry_than_the_publishers() {
    let mut world = World::new();
    set_age(&mut world, Some(60));
    let bridge = connect_bridge(&mut world);
    world.cut(bridge);
    let publisher = world.connect(Connect::new(V5, "p").bytes());
    let expiring = Publish::new(V5, "t", b"a").property(&[0x02, 0, 0, 0, 100]);
    world.ask(publisher, expiring.qos(1, 1).bytes());
    world.ask(publisher, Publish::new(V5, "t", b"b").qos(1, 2).bytes());
    world.pass_seconds(40);
    let bridge = come_back(&mut world, 10);
    let packets = world.take(bridge);
    let properties = packets.iter().filter(|packet| packet[0] >> 4 == 3);
    let properties: Vec<Vec<u8>> = properties.map(|packet| received(V5, packet).properties).collect();
    assert_eq!(properties, [vec![0x02, 0, 0, 0, 60], vec![]]);
}

#[test]
fn a_message_that_was_sent_is_not_too_old_to_be_sent_again() {
    for qos in [1, 2] {
        let mut world = World::new();
        set_age(&mut world, Some(10));
        let bridge = connect_bridge(&mut world);
        world.cut(bridge);
        let publisher = world.connect(Connect::new(V5, "p").bytes());
        for (number, payload) in [(1, b"a"), (2, b"b")] {
            world.ask(publisher, Publish::new(V5, "t", payload).qos(qos, number).bytes());
        }
        let bridge = come_back(&mut world, 1);
        assert_eq!(payloads(&mut world, bridge), [b"a"]);
        world.pass_seconds(11);
        assert_eq!(queue_of(&mut world), (0, 1), "the other one waited in vain");
        world.cut(bridge);
        let bridge = come_back(&mut world, 10);
        assert_eq!(payloads(&mut world, bridge), [b"a"]);
    }
}

#[test]
fn expired_messages_do_not_make_others_older_or_younger() {
    let mut world = World::with_limits(|limits| limits.queue_length = 4);
    set_age(&mut world, Some(30));
    let bridge = connect_bridge(&mut world);
    world.cut(bridge);
    let publisher = world.connect(Connect::new(V5, "p").bytes());
    let publish = |world: &mut World, payload: &[u8], expires: bool| {
        let publish = Publish::new(V5, "t", payload);
        let publish = if expires { publish.property(&[0x02, 0, 0, 0, 1]) } else { publish };
        world.ask(publisher, publish.qos(1, 1).bytes());
        world.pass_seconds(5);
    };
    // The two in the middle expire, and make room for the last one.
    for (payload, expires) in [(b"a", false), (b"b", true), (b"c", true), (b"d", false), (b"e", false)] {
        publish(&mut world, payload, expires);
    }
    assert_eq!((queue_of(&mut world), world.broker.waiting_messages(LOCAL)), ((25, 0), 3));
    world.pass(5001);
    assert_eq!(queue_of(&mut world), (15, 1));
    world.pass(14_998);
    assert_eq!(queue_of(&mut world), (29, 1));
    world.pass(2);
    assert_eq!(queue_of(&mut world), (25, 2));
}

#[test]
fn a_long_queue_is_dropped_in_several_turns() {
    let mut world = World::with_limits(|limits| limits.queue_length = 5_000);
    set_age(&mut world, Some(1));
    let bridge = connect_bridge(&mut world);
    world.cut(bridge);
    let publisher = world.connect(Connect::new(V5, "p").bytes());
    (1..3_000).for_each(|number| {
        world.broker.received(publisher, &Publish::new(V5, "t", b"a").qos(1, number).bytes(), world.now());
    });
    world.settle();
    world.broker.tick(world.now() + Duration::from_milliseconds(1001), 1000);
    assert_eq!(world.broker.waiting_messages(LOCAL), 2_999 - 1_024);
    world.pass(1001);
    assert_eq!(world.broker.waiting_messages(LOCAL), 0);
}

#[test]
fn a_bridge_that_connects_only_to_subscribe_gets_no_messages() {
    let mut world = World::new();
    let switches = Switches { queues_at_most_once: true, ..Switches::default() };
    world.broker.set_switches(switches);
    set_age(&mut world, Some(10));
    let bridge = connect_bridge(&mut world);
    world.cut(bridge);
    let publisher = world.connect(Connect::new(V5, "p").bytes());
    world.send(publisher, Publish::new(V5, "t", b"a").bytes());
    world.ask(publisher, Publish::new(V5, "t", b"b").qos(1, 1).bytes());
    world.pass_seconds(5);
    world.broker.hold_deliveries(LOCAL, true);
    let bridge = come_back(&mut world, 10);
    world.send(bridge, subscribe(V5, 1, &[], &[("t", 2)]));
    world.ask(publisher, Publish::new(V5, "t", b"c").qos(1, 2).bytes());
    assert!(payloads(&mut world, bridge).is_empty());
    assert_eq!((queue_of(&mut world), world.broker.waiting_messages(LOCAL)), ((5, 0), 3));
    world.cut(bridge);
    world.broker.hold_deliveries(LOCAL, false);
    let bridge = come_back(&mut world, 10);
    assert_eq!(payloads(&mut world, bridge), [b"a", b"b", b"c"]);
}
