//! MQTT 5.0, chapters 3.1.2.5 to 3.1.3.2: the Will Message.

use crate::v5_peers::*;
use crate::wire::*;
use crate::world::{Peer, World};

/// A Will Delay Interval.
fn delay(seconds: u32) -> Vec<u8> {
    u32_property(0x18, seconds)
}

/// A client that leaves a Will at `will`, of QoS 1, and a client that waits for it.
fn with_will(will_properties: &[u8], expiry: u32) -> (World, Peer, Peer) {
    let mut world = World::new();
    let watcher = subscriber(&mut world, "watcher", "will", 1);
    let connect = Connect::new(V5, "a").expiry(expiry).will("will", b"gone", 1, false, will_properties);
    let peer = world.connect(connect.bytes());
    (world, watcher, peer)
}

/// Asserts that the Will has come, just now and once.
fn assert_will(world: &mut World, watcher: Peer) {
    let will = take_publish(world, watcher);
    assert_eq!((will.topic.as_str(), &will.payload[..], will.qos), ("will", &b"gone"[..], 1));
    world.send(watcher, acknowledge(0x40, will.packet_identifier.expect("QoS 1")));
    world.pass_seconds(100_000);
    assert!(world.take(watcher).is_empty(), "a Will comes once");
}

fn assert_no_will(world: &mut World, watcher: Peer) {
    world.pass_seconds(100_000);
    assert!(world.take(watcher).is_empty());
}

#[test]
fn mqtt5_3_1_2_7() {
    let (mut world, watcher, peer) = with_will(&[], 0);
    world.pass_seconds(1000);
    assert!(world.take(watcher).is_empty());
    world.cut(peer);
    assert_will(&mut world, watcher);
}

/// The Will belongs to the session: it waits there, and a reconnect with another one replaces it.
#[test]
fn mqtt5_3_1_2_7_replaced() {
    let (mut world, watcher, peer) = with_will(&delay(10), 1000);
    world.cut(peer);
    world.pass_seconds(9);
    let again = Connect::new(V5, "a").resume().expiry(1000).will("will", b"other", 0, false, &[]);
    let peer = world.connect(again.bytes());
    world.cut(peer);
    assert_eq!(take_publish(&mut world, watcher).payload, b"other");
    assert_no_will(&mut world, watcher);
}

/// Ends a connection of the client `a`.
type End = fn(&mut World, Peer);

/// Every end except a DISCONNECT with 0x00 publishes it.
#[test]
fn mqtt5_3_1_2_8() {
    let ends: [(&str, End); 8] = [
        ("cut", |world, peer| world.cut(peer)),
        ("DISCONNECT 0x04", |world, peer| world.send(peer, disconnect(0x04, &[]))),
        ("DISCONNECT 0x80", |world, peer| world.send(peer, disconnect(0x80, &[]))),
        ("protocol error", |world, peer| world.send(peer, PINGRESP)),
        ("malformed packet", |world, peer| world.send(peer, [0xC1, 0])),
        ("too large a packet", |world, peer| world.send(peer, [0x30, 0xFF, 0xFF, 0xFF, 0x7F])),
        ("take-over by a clean start", |world, _| {
            client(world, "a");
        }),
        ("take-over by a resumption", |world, _| {
            world.connect(Connect::new(V5, "a").resume().bytes());
        }),
    ];
    for (name, end) in ends {
        println!("{name}");
        for expiry in [0, 60] {
            let (mut world, watcher, peer) = with_will(&[], expiry);
            end(&mut world, peer);
            assert_will(&mut world, watcher);
        }
    }
}

#[test]
fn mqtt5_3_1_2_8_keep_alive() {
    let mut world = World::new();
    let watcher = subscriber(&mut world, "watcher", "will", 1);
    world.connect(Connect::new(V5, "a").keep_alive(10).will("will", b"gone", 1, false, &[]).bytes());
    world.pass_seconds(14);
    assert!(world.take(watcher).is_empty());
    world.pass_seconds(1);
    assert_will(&mut world, watcher);
}

/// After its delay, or at the end of the session if that comes first.
#[test]
fn mqtt5_3_1_2_8_delay() {
    for (delay_seconds, expiry, due) in
        [(10, 60, 10), (60, 10, 10), (10, 10, 10), (10, u32::MAX, 10), (u32::MAX, 10, 10), (1, 60, 1)]
    {
        let (mut world, watcher, peer) = with_will(&delay(delay_seconds), expiry);
        world.cut(peer);
        world.pass(u64::from(due as u32) * 1000 - 1);
        assert!(world.take(watcher).is_empty(), "{delay_seconds} {expiry}");
        world.pass(1);
        assert_will(&mut world, watcher);
    }
    // A session that ends with its connection leaves no time for a delay.
    let (mut world, watcher, peer) = with_will(&delay(10), 0);
    world.cut(peer);
    assert_will(&mut world, watcher);
}

/// The Session Expiry Interval of a DISCONNECT counts.
#[test]
fn mqtt5_3_1_2_8_disconnect_expiry() {
    let (mut world, watcher, peer) = with_will(&delay(60), 1000);
    world.send(peer, disconnect(0x04, &u32_property(0x11, 5)));
    world.pass(4_999);
    assert!(world.take(watcher).is_empty());
    world.pass(1);
    assert_will(&mut world, watcher);
}

#[test]
fn mqtt5_3_1_2_8_normal_end() {
    for normal in [DISCONNECT.to_vec(), packet(0xE0, &[0]), disconnect(0, &[])] {
        for expiry in [0, 60] {
            for block in [vec![], delay(10)] {
                let (mut world, watcher, peer) = with_will(&block, expiry);
                world.send(peer, &normal);
                assert!(world.is_closed(peer));
                assert_no_will(&mut world, watcher);
            }
        }
    }
}

#[test]
fn mqtt5_3_1_2_10() {
    let (mut world, watcher, peer) = with_will(&[], 1000);
    world.cut(peer);
    let will = take_publish(&mut world, watcher);
    world.send(watcher, acknowledge(0x40, will.packet_identifier.expect("QoS 1")));
    // After it was published, neither this connection nor the end of the session brings it again.
    let peer = world.connect(Connect::new(V5, "a").resume().expiry(1000).bytes());
    world.cut(peer);
    assert_no_will(&mut world, watcher);
}

#[test]
fn mqtt5_3_1_2_10_disconnect() {
    let (mut world, watcher, peer) = with_will(&[], 1000);
    world.send(peer, DISCONNECT);
    let peer = world.connect(Connect::new(V5, "a").resume().expiry(1000).bytes());
    world.cut(peer);
    assert_no_will(&mut world, watcher);
}

fn publish_will(retain: bool) -> (World, Peer) {
    let mut world = World::new();
    let watcher = subscriber(&mut world, "watcher", "will", 0x08 | 1);
    let connect = Connect::new(V5, "a").will("will", b"gone", 1, retain, &[]);
    let peer = world.connect(connect.bytes());
    world.cut(peer);
    (world, watcher)
}

#[test]
fn mqtt5_3_1_2_14() {
    let (mut world, watcher) = publish_will(false);
    assert!(!take_publish(&mut world, watcher).retain);
    let late = subscriber(&mut world, "late", "will", 1);
    assert!(world.take(late).is_empty());
    assert_eq!(world.broker.census().retained, 0);
}

#[test]
fn mqtt5_3_1_2_15() {
    let (mut world, watcher) = publish_will(true);
    assert!(take_publish(&mut world, watcher).retain);
    let late = client(&mut world, "late");
    world.send(late, subscribe(V5, 1, &[], &[("will", 1)]));
    let packets = world.take(late);
    let message = received(V5, &packets[1]);
    assert_eq!((message.retain, &message.payload[..]), (true, &b"gone"[..]));
}

/// A retained Will without a payload clears its topic, like every such message.
#[test]
fn mqtt5_3_1_2_15_empty() {
    let mut world = World::new();
    let b = client(&mut world, "b");
    world.send(b, Publish::new(V5, "will", b"x").retain().bytes());
    let peer = world.connect(Connect::new(V5, "a").will("will", b"", 0, true, &[]).bytes());
    assert_eq!(world.broker.census().retained, 1);
    world.cut(peer);
    assert_eq!(world.broker.census().retained, 0);
}

#[test]
fn mqtt5_3_1_3_9() {
    // While the old connection is closed, and while it is still open.
    for is_cut in [true, false] {
        let (mut world, watcher, peer) = with_will(&delay(10), 1000);
        if is_cut {
            world.cut(peer);
            world.pass(9_999);
        }
        world.connect(Connect::new(V5, "a").resume().expiry(1000).bytes());
        assert_no_will(&mut world, watcher);
    }
}

/// A new session is no reconnect to the old one, which ends: its Will is sent at once.
#[test]
fn mqtt5_3_1_3_9_clean_start() {
    for is_cut in [true, false] {
        let (mut world, watcher, peer) = with_will(&delay(10), 1000);
        if is_cut {
            world.cut(peer);
        }
        client(&mut world, "a");
        assert_will(&mut world, watcher);
    }
}

#[test]
fn mqtt5_3_1_3_10() {
    let pairs = [("b", "1"), ("a", "2"), ("b", "1"), ("a", "1"), ("", "")];
    let block: Vec<u8> = pairs.iter().flat_map(|(name, value)| user_property(name, value)).collect();
    let (mut world, watcher, peer) = with_will(&[delay(5), block.clone()].concat(), 60);
    world.cut(peer);
    world.pass_seconds(5);
    assert_eq!(take_publish(&mut world, watcher).properties, block);
}

/// The other properties of a Will are sent with it; its expiry counts from when it is published.
#[test]
fn mqtt5_3_1_3_10_others() {
    let forwarded = [
        vec![0x01, 1],
        text_property(0x03, "type"),
        text_property(0x08, "answers"),
        text_property(0x09, b"\0\xFF"),
        user_property("n", "v"),
    ]
    .concat();
    let expiry = u32_property(0x02, 30);
    let (mut world, watcher, peer) = with_will(&[&forwarded[..], &delay(20), &expiry].concat(), 60);
    world.cut(peer);
    world.pass_seconds(20);
    let mut expected = property_list(&[forwarded, expiry].concat());
    let mut list = property_list(&take_publish(&mut world, watcher).properties);
    expected.sort();
    list.sort();
    assert_eq!(list, expected);
}

/// A broker that ends has no later turn: what a message and the Will of its client still owe to others comes before.
#[test]
fn a_will_comes_after_the_rest_of_a_message_before_the_broker_ends() {
    let mut world = World::with_limits(|limits| limits.steps_per_turn = 64);
    let others: Vec<Peer> = (0..100)
        .map(|number| {
            let other = world.connect(Connect::new(V5, &format!("c{number}")).bytes());
            world.ask(other, subscribe(V5, 1, &[], &[("t", 1)]));
            other
        })
        .collect();
    let heir = world.connect(Connect::new(V5, "heir").will("t", b"will", 1, false, &[]).bytes());
    world.broker.received(heir, &Publish::new(V5, "t", b"one").qos(1, 1).bytes(), world.now());
    world.broker.closed(heir, "cut", world.now());
    assert!(world.broker.has_work(), "it takes several turns");
    world.broker.shut_down(world.now());
    world.settle();
    for other in others {
        let packets = world.take(other).into_iter().filter(|packet| packet[0] >> 4 == 3);
        let payloads: Vec<Vec<u8>> = packets.map(|packet| received(V5, &packet).payload).collect();
        assert_eq!(payloads, [b"one".to_vec(), b"will".to_vec()]);
    }
}
