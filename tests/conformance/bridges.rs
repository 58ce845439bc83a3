//! The local sides of bridges: what sets their sessions apart from those of other clients.

use std::ops::Range;

use brooklet::core::access::AllowAll;
use brooklet::core::broker::{DroppedSession, LocalSide};
use brooklet::core::limits::Limits;
use brooklet::core::listener::{ListenerId, ListenerOptions, QueueOptions, UserNameSource};
use brooklet::protocol::codec::ReasonCode;

use crate::wire::*;
use crate::world::{Peer, World};

/// Where clients connect, and where the bridge does.
const CLIENTS: ListenerId = ListenerId(0);
const BRIDGE: ListenerId = ListenerId(1);
const LOCAL: &str = "local.far.host";

fn local_side(client_identifier: &str) -> LocalSide {
    LocalSide {
        client_identifier: client_identifier.into(),
        listener: BRIDGE,
        filters: vec!["#".into()],
        changes_maximum: 100,
    }
}

fn world_with(limits: Limits) -> World {
    let mut world = World::with(limits, AllowAll);
    world.broker.set_bridges(vec![local_side(LOCAL)], &[BRIDGE], world.now());
    world
}

fn connect_bridge(world: &mut World, connect: &Connect) -> (Peer, Vec<u8>) {
    let peer = world.open_at(BRIDGE);
    world.send(peer, connect.bytes());
    let connack = world.take(peer).remove(0);
    assert_eq!((connack[0], connack[3]), (0x20, 0), "{connack:02x?}");
    (peer, connack)
}

fn lasting(client_identifier: &str) -> Connect {
    Connect::new(V5, client_identifier).resume().expiry(u32::MAX)
}

#[test]
fn no_client_takes_the_client_identifier_of_a_bridge() {
    let mut world = world_with(Limits::default());
    let (bridge, _) = connect_bridge(&mut world, &lasting(LOCAL));
    world.ask(bridge, subscribe(V5, 1, &[], &[("#", 1)]));
    for (level, code) in [(V31, 2), (V311, 2), (V5, ReasonCode::ClientIdentifierNotValid.value())] {
        for connect in [Connect::new(level, LOCAL), Connect::new(level, LOCAL).resume()] {
            let peer = world.open_at(CLIENTS);
            world.send(peer, connect.user_name("ann").bytes());
            let connack = world.take(peer).remove(0);
            assert_eq!((connack[0], connack[3]), (0x20, code), "{connack:02x?}");
        }
    }
    assert!(!world.is_closed(bridge));
    // Neither by way of the User Name.
    let options = ListenerOptions {
        user_name_is_client_identifier: true,
        user_name: UserNameSource::Connect,
        ..ListenerOptions::within(&Limits::default())
    };
    world.broker.set_listener_options(CLIENTS, options.into());
    let peer = world.open_at(CLIENTS);
    world.send(peer, Connect::new(V311, "other").user_name(LOCAL).bytes());
    assert_eq!(world.take(peer), [[0x20, 2, 0, 2]]);
    assert!(!world.is_closed(bridge));
}

#[test]
fn the_session_of_a_bridge_does_not_expire() {
    for is_bridge in [true, false] {
        let mut world = world_with(Limits { session_expiry_maximum: 60, ..Limits::default() });
        let name = if is_bridge { LOCAL } else { "other" };
        let connect = |world: &mut World| match is_bridge {
            true => connect_bridge(world, &lasting(name)),
            false => {
                let peer = world.open_at(CLIENTS);
                world.send(peer, lasting(name).bytes());
                (peer, world.take(peer).remove(0))
            }
        };
        let (peer, _) = connect(&mut world);
        world.send(peer, disconnect(0, &[]));
        world.pass_seconds(100);
        let (_, connack) = connect(&mut world);
        assert_eq!(connack[2] == 1, is_bridge, "{connack:02x?}");
    }
}

/// The other broker decides how many of its messages are in flight.
#[test]
fn the_receive_maximum_does_not_apply_to_a_bridge() {
    let mut world = world_with(Limits { receive_maximum: 2, ..Limits::default() });
    let (bridge, connack) = connect_bridge(&mut world, &lasting(LOCAL));
    // No Receive Maximum among the properties.
    assert_ne!(connack[5], 0x21, "{connack:02x?}");
    for identifier in 1..=40 {
        let answer = world.ask(bridge, Publish::new(V5, "t", b"x").qos(2, identifier).bytes());
        assert_eq!(answer[0], 0x50);
    }
    assert!(!world.is_closed(bridge));
}

#[test]
fn clients_cannot_keep_a_bridge_away() {
    let mut world = world_with(Limits { connections: 2, sessions: 2, ..Limits::default() });
    for number in 0..2 {
        world.connect(Connect::new(V5, &format!("c{number}")).bytes());
    }
    connect_bridge(&mut world, &lasting(LOCAL));
    let peer = world.open_at(CLIENTS);
    world.send(peer, Connect::new(V5, "c2").bytes());
    assert_eq!(world.take(peer).remove(0)[3], ReasonCode::QuotaExceeded.value());
}

#[test]
fn a_bridge_that_is_gone_leaves_no_session() {
    let mut world = world_with(Limits::default());
    let (bridge, _) = connect_bridge(&mut world, &lasting(LOCAL));
    world.ask(bridge, subscribe(V5, 1, &[], &[("t", 1)]));
    let publisher = world.connect(Connect::new(V5, "p").bytes());
    world.cut(bridge);
    for number in 1..4 {
        world.ask(publisher, Publish::new(V5, "t", b"m").qos(1, number).bytes());
    }
    assert_eq!(world.broker.waiting_messages(LOCAL), 3);
    let now = world.now();
    let dropped = world.broker.set_bridges(vec![local_side("local.other")], &[BRIDGE], now);
    assert_eq!(dropped, [DroppedSession { client_identifier: LOCAL.into(), messages: 3 }]);
    assert_eq!(world.broker.waiting_messages(LOCAL), 0);
    // The Client Identifier is free, and nothing is left to find there.
    let peer = world.open_at(CLIENTS);
    world.send(peer, Connect::new(V311, LOCAL).resume().bytes());
    assert_eq!(world.take(peer), [[0x20, 2, 0, 0]]);
    // Nor does a client keep what a bridge claims.
    let now = world.now();
    let dropped = world.broker.set_bridges(vec![local_side(LOCAL)], &[BRIDGE], now);
    assert_eq!(dropped.len(), 1);
    world.settle();
    assert!(world.is_closed(peer));
}

#[test]
fn a_new_session_of_the_other_broker_begins_with_new_packet_identifiers() {
    for is_forgotten in [true, false] {
        let mut world = world_with(Limits::default());
        let watcher = world.connect(Connect::new(V5, "w").bytes());
        world.ask(watcher, subscribe(V5, 1, &[], &[("t", 0)]));
        let (bridge, _) = connect_bridge(&mut world, &lasting(LOCAL));
        for (payload, is_first) in [(b"1", true), (b"2", false)] {
            if !is_first && is_forgotten {
                world.broker.forget_received(LOCAL);
            }
            let publish = Publish::new(V5, "t", payload).qos(2, 7);
            world.ask(bridge, if is_first { publish } else { publish.dup() }.bytes());
            let is_delivered = !world.take(watcher).is_empty();
            assert_eq!(is_delivered, is_first || is_forgotten);
        }
    }
}

/// The bridge may not learn of a new session: its CONNACK may be lost, or this broker may crash.
#[test]
fn a_message_that_is_not_sent_again_is_new_even_if_its_identifier_is_known() {
    for (is_bridge, is_dup) in [(true, false), (true, true), (false, false)] {
        let mut world = world_with(Limits::default());
        let watcher = world.connect(Connect::new(V5, "w").bytes());
        world.ask(watcher, subscribe(V5, 1, &[], &[("t", 0)]));
        let peer = match is_bridge {
            true => connect_bridge(&mut world, &lasting(LOCAL)).0,
            false => world.connect(lasting("other").bytes()),
        };
        world.ask(peer, Publish::new(V5, "t", b"1").qos(2, 7).bytes());
        world.take(watcher);
        let again = Publish::new(V5, "t", b"2").qos(2, 7);
        let answer = world.ask(peer, if is_dup { again.dup() } else { again }.bytes());
        assert_eq!(answer[0], 0x50);
        assert_eq!(!world.take(watcher).is_empty(), is_bridge && !is_dup);
    }
}

#[test]
fn subscriptions_from_an_earlier_configuration_end() {
    let mut world = world_with(Limits::default());
    let (bridge, _) = connect_bridge(&mut world, &lasting(LOCAL));
    world.ask(bridge, subscribe(V5, 1, &[], &[("a/#", 1), ("b", 1), ("c", 1)]));
    world.ask(bridge, subscribe(V5, 2, &[], &[("$share/g/d", 1), ("$share/g/e", 1)]));
    let now = world.now();
    let left = ["b".to_owned(), "$share/g/e".to_owned()];
    world.broker.end_other_subscriptions(LOCAL, &left, now);
    let publisher = world.connect(Connect::new(V5, "p").bytes());
    for topic in ["a/1", "b", "c", "d", "e"] {
        world.send(publisher, Publish::new(V5, topic, b"m").bytes());
    }
    let topics: Vec<String> = world.take(bridge).iter().map(|packet| received(V5, packet).topic).collect();
    assert_eq!(topics, ["b", "e"]);
}

/// The payloads that a bridge receives when it comes back, after these were published while it was away.
fn after_return(queue: QueueOptions, published: Range<u8>) -> Vec<u8> {
    let mut world = world_with(Limits { queue_length: 5, ..Limits::default() });
    let options = ListenerOptions { queue: Some(queue), ..ListenerOptions::within(&Limits::default()) };
    world.broker.set_listener_options(BRIDGE, options.into());
    let (bridge, _) = connect_bridge(&mut world, &lasting(LOCAL));
    world.ask(bridge, subscribe(V5, 1, &[], &[("t", 1)]));
    world.cut(bridge);
    let publisher = world.connect(Connect::new(V5, "p").bytes());
    for number in published {
        world.send(publisher, Publish::new(V5, "t", &[number]).qos(1, u16::from(number) + 1).bytes());
    }
    let bridge = world.open_at(BRIDGE);
    world.send(bridge, lasting(LOCAL).bytes());
    let publishes = world.take(bridge).into_iter().filter(|packet| packet[0] >> 4 == 3);
    publishes.map(|packet| *packet.last().expect("a packet has bytes")).collect()
}

#[test]
fn a_full_queue_drops_the_newest_or_the_oldest_message() {
    let newest = QueueOptions { length: None, drops_oldest: false, age: None };
    let oldest = QueueOptions { length: None, drops_oldest: true, age: None };
    assert_eq!(after_return(newest, 0..4), [0, 1, 2, 3]);
    assert_eq!(after_return(newest, 0..20), [0, 1, 2, 3, 4]);
    assert_eq!(after_return(oldest, 0..20), [15, 16, 17, 18, 19]);
    let shorter = QueueOptions { length: Some(2), ..oldest };
    assert_eq!(after_return(shorter, 0..20), [18, 19]);
    let longer = QueueOptions { length: Some(8), ..newest };
    assert_eq!(after_return(longer, 0..20), [0, 1, 2, 3, 4, 5, 6, 7]);
    let none = QueueOptions { length: Some(0), ..oldest };
    assert!(after_return(none, 0..20).is_empty());
}
