//! MQTT 5.0, 3.3.1.3 and 3.8.4: the retained messages at the start of a subscription, and changes before they have
//! been delivered. The sessions outlive their connections, so that with a store the SUBACK waits.

use brooklet::core::switches::Switches;

use crate::v5_exchange::*;
use crate::wire::*;
use crate::world::{Peer, World};

/// A world with messages that are retained at QoS 1, each with the payload "old".
fn with_retained(topics: &[&str]) -> World {
    let mut world = World::new();
    let publisher = client(&mut world, "publisher");
    for topic in topics {
        world.send(publisher, Publish::new(V5, topic, b"old").qos(1, 1).retain().bytes());
    }
    world
}

/// A client that accepts this many messages at a time.
fn taking(world: &mut World, most: u8) -> Peer {
    arrive(world, &persistent("c").property(&[0x21, 0, most])).0
}

fn subscribe_to_all(identifier: u16, filters: &[&str], qos: u8) -> Vec<u8> {
    let filters: Vec<(&str, u8)> = filters.iter().map(|&filter| (filter, qos)).collect();
    subscribe(V5, identifier, &[], &filters)
}

/// Everything that comes while the client acknowledges its messages: messages, and the first bytes of other packets.
fn take_all(world: &mut World, peer: Peer) -> (Vec<Received>, Vec<u8>) {
    let (mut messages, mut others) = (Vec::new(), Vec::new());
    loop {
        let packets = world.take(peer);
        if packets.is_empty() {
            return (messages, others);
        }
        for packet in packets {
            if packet[0] >> 4 != 3 {
                others.push(packet[0]);
                continue;
            }
            let message = received(V5, &packet);
            if let Some(identifier) = message.packet_identifier {
                world.send(peer, acknowledge(0x40, identifier));
            }
            messages.push(message);
        }
    }
}

fn count(messages: &[Received], topic: &str, payload: &[u8], retain: bool) -> usize {
    let is_it = |message: &&Received| {
        (message.topic.as_str(), &message.payload[..], message.retain) == (topic, payload, retain)
    };
    messages.iter().filter(is_it).count()
}

/// A message that is retained after the subscription began comes once, like any other.
#[test]
fn mqtt5_3_3_1_9_changed_since() {
    for (qos, most) in [(0, 10), (1, 10), (1, 1), (1, 2)] {
        for published in 0..2 {
            let mut world = with_retained(&["a", "b", "c"]);
            let c = taking(&mut world, most);
            let publish = |topic: &str, payload: &[u8]| {
                let publish = Publish::new(V5, topic, payload).retain();
                if published == 0 { publish.bytes() } else { publish.qos(1, 9).bytes() }
            };
            let changes = [publish("b", b"new"), publish("c", b""), publish("d", b"first")].concat();
            world.send(c, [subscribe_to_all(1, &["x", "#"], qos), changes].concat());
            let (messages, _) = take_all(&mut world, c);
            let case = format!("{qos} {most} {published}: {messages:?}");
            assert_eq!(count(&messages, "a", b"old", true), 1, "{case}");
            assert_eq!(count(&messages, "b", b"new", false), 1, "{case}");
            assert_eq!(count(&messages, "b", b"new", true), 0, "{case}");
            assert!(count(&messages, "b", b"old", true) <= 1, "{case}");
            assert_eq!(count(&messages, "c", b"", false), 1, "{case}");
            assert_eq!(count(&messages, "d", b"first", false), 1, "{case}");
            assert_eq!(count(&messages, "d", b"first", true), 0, "{case}");
        }
    }
}

/// One that comes again after it was cleared is a new one.
#[test]
fn mqtt5_3_3_1_9_cleared_since() {
    let mut world = with_retained(&["a", "b"]);
    let c = taking(&mut world, 1);
    world.send(c, subscribe_to_all(1, &["#"], 1));
    let publisher = client(&mut world, "other");
    for payload in [&b""[..], b"again"] {
        world.send(publisher, Publish::new(V5, "b", payload).qos(1, 1).retain().bytes());
    }
    let (messages, _) = take_all(&mut world, c);
    let found: Vec<(&str, &[u8], bool)> = messages
        .iter()
        .map(|message| (message.topic.as_str(), &message.payload[..], message.retain))
        .collect();
    assert_eq!(found, [("a", &b"old"[..], true), ("b", b"", false), ("b", b"again", false)]);
}

/// Retained messages that are to follow a SUBACK come though the subscription has ended.
#[test]
fn mqtt5_3_3_1_9_unsubscribed_at_once() {
    for qos in 0..2 {
        let mut world = with_retained(&["a", "b", "c"]);
        let c = taking(&mut world, 10);
        world.send(c, [subscribe_to_all(1, &["+"], qos), unsubscribe(V5, 2, &["+"])].concat());
        let (messages, others) = take_all(&mut world, c);
        let topics: Vec<&str> = messages.iter().map(|message| message.topic.as_str()).collect();
        assert_eq!((topics, others), (vec!["a", "b", "c"], vec![0x90, 0xB0]));
        let other = client(&mut world, "other");
        world.send(other, Publish::new(V5, "a", b"late").bytes());
        assert_silent(&mut world, c);
    }
}

/// Each SUBSCRIBE is followed by all retained messages, on its own terms.
#[test]
fn mqtt5_3_8_4_4_at_once() {
    let mut world = with_retained(&["a", "b"]);
    let c = taking(&mut world, 10);
    let twice = [1, 2].map(|number| subscribe(V5, number.into(), &[0x0B, number], &[("+", 1)])).concat();
    world.send(c, twice);
    let (messages, others) = take_all(&mut world, c);
    let found: Vec<(&str, &[u8])> =
        messages.iter().map(|message| (message.topic.as_str(), &message.properties[1..])).collect();
    assert_eq!(found, [("a", &[1][..]), ("b", &[1]), ("a", &[2]), ("b", &[2])]);
    assert_eq!(others, [0x90, 0x90]);
}

/// Many at once are limited, and the last one gets everything in any case.
#[test]
fn mqtt5_3_8_4_4_very_often() {
    let mut world = with_retained(&["a", "b"]);
    let c = taking(&mut world, 255);
    let subscribes: Vec<u8> = (1..=200).flat_map(|number| subscribe_to_all(number, &["+"], 0)).collect();
    world.send(c, subscribes);
    let (messages, others) = take_all(&mut world, c);
    let topics: Vec<&str> = messages.iter().map(|message| message.topic.as_str()).collect();
    assert_eq!(others, [0x90; 200]);
    assert!(topics.len() >= 2 && topics.chunks(2).all(|pair| pair == ["a", "b"]), "{topics:?}");
}

/// A message that is retained while the client is disconnected: at QoS 0, the client would not get it in another way,
/// at QoS 1 it does.
#[test]
fn mqtt5_3_3_1_9_changed_while_away() {
    for (qos, queues, expected) in [(0, false, true), (0, true, false), (1, false, false)] {
        let mut world = World::new();
        world.broker.set_switches(Switches { queues_at_most_once: queues, ..Switches::default() });
        let publisher = client(&mut world, "publisher");
        for topic in ["a", "b"] {
            world.send(publisher, Publish::new(V5, topic, b"old").qos(1, 1).retain().bytes());
        }
        let c = taking(&mut world, 1);
        world.send(c, subscribe_to_all(1, &["#"], 1));
        world.cut(c);
        let new = Publish::new(V5, "b", b"new").retain();
        world.send(publisher, if qos == 0 { new.bytes() } else { new.qos(1, 1).bytes() });
        let (c, _, packets) = arrive(&mut world, &persistent("c"));
        let mut messages: Vec<Received> = packets.iter().map(|packet| received(V5, packet)).collect();
        for identifier in messages.clone().iter().filter_map(|message| message.packet_identifier) {
            world.send(c, acknowledge(0x40, identifier));
        }
        messages.extend(take_all(&mut world, c).0);
        assert_eq!(count(&messages, "a", b"old", true), 1, "{messages:?}");
        assert_eq!(count(&messages, "b", b"new", true), usize::from(expected), "{messages:?}");
        assert_eq!(count(&messages, "b", b"new", false), usize::from(!expected), "{messages:?}");
        world.send(publisher, Publish::new(V5, "b", b"newer").retain().bytes());
        let (messages, _) = take_all(&mut world, c);
        assert_eq!((messages.len(), messages[0].retain), (1, false));
    }
}

/// However much it is: it continues as the outbox drains.
#[test]
fn mqtt5_3_3_1_9_unsubscribed_while_much_is_to_come() {
    let mut world = World::new();
    let publisher = client(&mut world, "publisher");
    for number in 0..300 {
        let topic = format!("t/{number:03}");
        world.send(publisher, Publish::new(V5, &topic, &[b'x'; 3_000]).retain().bytes());
    }
    let c = taking(&mut world, 1);
    let twice = [subscribe_to_all(1, &["t/+"], 0), subscribe_to_all(2, &["t/+"], 0)].concat();
    world.send(c, [twice, unsubscribe(V5, 3, &["t/+"])].concat());
    let (messages, others) = take_all(&mut world, c);
    assert_eq!((messages.len(), others), (600, vec![0x90, 0x90, 0xB0]));
}
