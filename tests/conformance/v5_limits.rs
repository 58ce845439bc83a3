//! MQTT 5.0, chapters 3.1.2.10 and 3.1.2.11: the limits in a CONNECT for time, sizes, aliases and information.

use crate::v5_peers::*;
use crate::wire::*;
use crate::world::{Peer, World};

/// Any packet keeps the connection alive, half a packet does not.
#[test]
fn mqtt5_3_1_2_20() {
    let mut world = World::new();
    let peer = world.connect(Connect::new(V5, "a").keep_alive(10).bytes());
    let signs = [PINGREQ.to_vec(), Publish::new(V5, "t", b"x").bytes(), subscribe(V5, 1, &[], &[("t", 0)])];
    for bytes in signs.iter().cycle().take(9) {
        world.pass(14_999);
        assert!(!world.is_closed(peer));
        world.send(peer, bytes);
        world.take(peer);
    }
    world.pass(14_000);
    world.send(peer, [0xC0]);
    world.pass(1_000);
    assert_disconnected(&mut world, peer, 0x8D, "silence");
}

/// Packets of the broker do not keep a silent client alive.
#[test]
fn mqtt5_3_1_2_22() {
    for seconds in [1, 2, 10, 60, 0xFFFF] {
        let mut world = World::new();
        let connect = Connect::new(V5, "a").keep_alive(seconds);
        let peer = world.connect(connect.bytes());
        subscribe_to(&mut world, peer, "t", 0);
        let b = client(&mut world, "b");
        world.pass(u64::from(seconds) * 1500 - 1);
        world.send(b, Publish::new(V5, "t", b"x").bytes());
        assert_eq!(world.take(peer).len(), 1);
        assert!(!world.is_closed(peer));
        world.pass(1);
        assert_disconnected(&mut world, peer, 0x8D, "silence");
    }
}

#[test]
fn mqtt5_3_1_2_22_off() {
    let mut world = World::new();
    let peer = client(&mut world, "a");
    world.pass_seconds(1_000_000);
    assert_eq!(world.ask(peer, PINGREQ), PINGRESP);
}

/// Counted from the end of the connection, whether it is cut or ended by a DISCONNECT.
#[test]
fn mqtt5_3_1_2_23() {
    for (expiry, away, present) in [
        (0, 0, false),
        (1, 999, true),
        (1, 1_000, false),
        (100, 99_999, true),
        (100, 100_000, false),
        (u32::MAX, 10_000_000_000_000, true),
    ] {
        for is_cut in [true, false] {
            let mut world = World::new();
            let connect = Connect::new(V5, "a").resume().expiry(expiry);
            let peer = world.connect(connect.bytes());
            subscribe_to(&mut world, peer, "t", 1);
            world.pass_seconds(1000);
            if is_cut {
                world.cut(peer);
            } else {
                world.send(peer, DISCONNECT);
            }
            world.pass(away);
            assert_eq!(world.broker.census().subscriptions, usize::from(present), "{expiry} {away}");
            assert_eq!(greet(&mut world, &connect).1.session_present, present, "{expiry} {away}");
        }
    }
}

/// Without a Session Expiry Interval, the session ends with its connection; a reconnect sets it anew.
#[test]
fn mqtt5_3_1_2_23_set_anew() {
    let mut world = World::new();
    let connect = Connect::new(V5, "a").resume();
    for (expiry, present) in [(None, false), (Some(10), false), (Some(20), true), (None, true), (None, false)]
    {
        let connect = expiry.map_or(connect.clone(), |seconds| connect.clone().expiry(seconds));
        let (peer, connack) = greet(&mut world, &connect);
        assert_eq!(connack.session_present, present, "{expiry:?}");
        world.cut(peer);
        world.pass_seconds(5);
    }
}

/// A client that accepts no packet above `maximum` bytes, and a publisher.
fn limited(maximum: usize, more: &[u8], options: u8) -> (World, Peer, Peer) {
    let mut world = World::new();
    let maximum = u32_property(0x27, u32::try_from(maximum).expect("a small number"));
    let connect = Connect::new(V5, "a").property(&maximum).property(more).expiry(1000);
    let a = world.connect(connect.bytes());
    subscribe_to(&mut world, a, "t", options);
    let b = client(&mut world, "b");
    (world, a, b)
}

/// The largest message that fits is delivered, one byte more is not, at every QoS and with small and large payloads.
#[test]
fn mqtt5_3_1_2_24() {
    for maximum in [30, 127, 128, 129, 130, 200, 3000, 70_000] {
        for qos in 0..3 {
            let (mut world, a, b) = limited(maximum, &[], qos);
            for (size, comes) in [(maximum, true), (maximum + 1, false), (maximum * 2, false), (29, true)] {
                let publish = |length: usize| {
                    let publish = Publish::new(V5, "t", &vec![b'x'; length]);
                    if qos > 0 { publish.qos(qos, 1).bytes() } else { publish.bytes() }
                };
                let Some(payload) = (size - 14..size).find(|&length| publish(length).len() == size) else {
                    continue;
                };
                world.send(b, publish(payload));
                world.send(b, acknowledge(0x62, 1));
                let packets = world.take(a);
                assert_eq!(packets.len(), usize::from(comes), "{maximum} {qos} {size}");
                if comes {
                    assert_eq!(packets[0].len(), size);
                }
            }
        }
    }
}

/// Subscription Identifiers count as well.
#[test]
fn mqtt5_3_1_2_24_own_properties() {
    let (mut world, a, b) = limited(30, &[], 0);
    world.ask(a, subscribe(V5, 1, &[0x0B, 5], &[("t", 0)]));
    for (payload, comes) in [(22, true), (23, false), (24, false)] {
        world.send(b, Publish::new(V5, "t", &vec![b'x'; payload]).bytes());
        assert_eq!(world.take(a).len(), usize::from(comes), "{payload}");
    }
}

/// A Topic Alias is the broker's own choice and no reason to drop a message that fits without one.
#[test]
fn mqtt5_3_1_2_24_alias() {
    let (mut world, a, b) = limited(30, &u16_property(0x22, 5), 0);
    for (payload, comes) in [(24, true), (23, true), (25, false), (22, true)] {
        world.send(b, Publish::new(V5, "t", &vec![b'x'; payload]).bytes());
        let packets = world.take(a);
        assert_eq!(packets.len(), usize::from(comes), "{payload}");
        assert!(packets.iter().all(|packet| packet.len() <= 30));
    }
}

/// Answers respect it as well: a PUBACK without its Reason String, a DISCONNECT without its own.
#[test]
fn mqtt5_3_1_2_24_answers() {
    let (mut world, a, _) = limited(16, &[], 0);
    let refused = Publish::new(V5, "$SYS/x", b"").qos(1, 1).bytes();
    assert_eq!(world.ask(a, refused), [0x40, 3, 0, 1, 0x87]);
    world.send(a, PINGRESP);
    let packets = world.take(a);
    assert!(packets.iter().all(|packet| packet.len() <= 16 && packet[..3] == [0xE0, packet[1], 0x82]));
    assert!(world.is_closed(a));
    // This SUBACK cannot be sent at all.
    let (mut world, a, _) = limited(16, &[], 0);
    assert_broken(&mut world, a, subscribe(V5, 1, &[], &[("t", 0); 12]), 0x95);
}

/// With a Receive Maximum of one, a message dropped for its size must not take the place of the next.
#[test]
fn mqtt5_3_1_2_25() {
    for qos in [1, 2] {
        let (mut world, a, b) = limited(30, &u16_property(0x21, 1), qos);
        let large = Publish::new(V5, "t", &[b'x'; 30]).qos(qos, 1).bytes();
        world.send(b, &large);
        // Its publisher is answered as if it had been delivered.
        assert_eq!(world.take_one(b), [0x30 + qos * 0x10, 2, 0, 1]);
        assert!(world.take(a).is_empty() && !world.is_closed(a));
        world.send(b, Publish::new(V5, "t", b"1").qos(1, 2).bytes());
        world.send(b, Publish::new(V5, "t", &[b'y'; 30]).qos(1, 3).bytes());
        world.send(b, Publish::new(V5, "t", b"2").qos(1, 4).bytes());
        let first = take_publish(&mut world, a);
        assert_eq!(first.payload, b"1");
        world.send(a, acknowledge(0x40, first.packet_identifier.unwrap()));
        assert_eq!(take_payloads(&mut world, a), [b"2"]);
    }
}

/// Messages that were queued while the client was disconnected, or in flight: a client that returns with a smaller
/// limit never gets the larger ones.
#[test]
fn mqtt5_3_1_2_25_reconnect() {
    for qos in [1, 2] {
        let (mut world, a, b) = limited(60, &[], qos);
        for (payload, identifier) in [([b'x'; 40], 1), ([b'y'; 40], 2)] {
            world.send(b, Publish::new(V5, "t", &payload).qos(qos, identifier).bytes());
            if identifier == 1 {
                assert_eq!(take_publish(&mut world, a).payload, payload);
                world.cut(a);
            }
        }
        world.send(b, Publish::new(V5, "t", b"small").qos(qos, 3).bytes());
        let again = Connect::new(V5, "a").resume().expiry(1000);
        let narrow = again.clone().property(&u16_property(0x21, 1)).property(&u32_property(0x27, 30));
        let a = world.open();
        world.send(a, narrow.bytes());
        let packets = world.take(a);
        assert_eq!(packets.len(), 2, "{packets:02x?}");
        let small = received(V5, &packets[1]);
        assert_eq!((&small.payload[..], small.dup), (&b"small"[..], false));
        world.cut(a);
        // With a larger limit again, what was completed does not come back.
        let a = world.open();
        world.send(a, again.bytes());
        let packets = world.take(a);
        let small = Received { dup: true, ..small };
        assert_eq!((packets.len(), received(V5, &packets[1])), (2, small));
    }
}

/// The aliases that came, each checked to stand for its topic, for a client that accepts up to `maximum`.
fn aliases_seen(maximum: Option<u16>) -> Vec<u16> {
    let mut world = World::new();
    let connect = Connect::new(V5, "a");
    let connect = maximum.map_or(connect.clone(), |maximum| connect.property(&u16_property(0x22, maximum)));
    let a = world.connect(connect.bytes());
    subscribe_to(&mut world, a, "#", 0);
    let b = client(&mut world, "b");
    let mut known = std::collections::BTreeMap::new();
    for round in 0..3 {
        for topic in 0..50 {
            let topic = format!("topic/{topic}");
            world.send(b, Publish::new(V5, &topic, &[round]).bytes());
            let message = take_publish(&mut world, a);
            let alias = property_list(&message.properties).into_iter().find(|(other, _)| *other == 0x23);
            match alias.map(|(_, value)| u16::from_be_bytes([value[0], value[1]])) {
                None => assert_eq!(message.topic, topic),
                Some(alias) if message.topic.is_empty() => assert_eq!(known[&alias], topic),
                Some(alias) => {
                    assert_eq!(message.topic, topic);
                    known.insert(alias, topic);
                }
            }
        }
    }
    known.into_keys().collect()
}

#[test]
fn mqtt5_3_1_2_26() {
    for maximum in [1, 3, 20] {
        assert_eq!(aliases_seen(Some(maximum)), (1..=maximum).collect::<Vec<u16>>());
    }
    assert!(aliases_seen(Some(u16::MAX)).iter().all(|&alias| alias > 0));
}

#[test]
fn mqtt5_3_1_2_27() {
    assert!(aliases_seen(None).is_empty());
    assert!(aliases_seen(Some(0)).is_empty());
}

#[test]
fn mqtt5_3_1_2_28() {
    let mut world = World::new();
    for property in [&[][..], &[0x19, 0]] {
        let (_, connack) = greet(&mut world, &Connect::new(V5, "a").property(property));
        assert_eq!(connack.property(0x1A), None);
    }
    let (_, connack) = greet(&mut world, &Connect::new(V5, "a").property(&[0x19, 1]));
    assert_eq!(connack.property(0x1A), Some(&field("response/a")[..]));
}

/// The longest possible Client Identifier leaves no room for its echo.
#[test]
fn mqtt5_3_1_2_28_long_client_identifier() {
    let mut world = World::with_limits(|limits| limits.connect_packet_size = 100_000);
    for (length, is_told) in [(65_526, true), (65_527, false), (65_535, false)] {
        let connect = Connect::new(V5, &"x".repeat(length)).property(&[0x19, 1]);
        assert_eq!(greet(&mut world, &connect).1.property(0x1A).is_some(), is_told, "{length}");
    }
}

/// Requests of a client that are refused, and the answers without a Reason String.
#[test]
fn mqtt5_3_1_2_29() {
    for (property, has_words) in [(&[][..], true), (&[0x17, 1], true), (&[0x17, 0], false)] {
        let mut world = World::new();
        let connect = Connect::new(V5, "a").property(property);
        let a = world.connect(connect.bytes());
        let forbidden = Publish::new(V5, "$SYS/x", b"");
        let answers = [
            (world.ask(a, forbidden.clone().qos(1, 1).bytes()), 0x40, 0x87),
            (world.ask(a, forbidden.qos(2, 1).bytes()), 0x50, 0x87),
            (world.ask(a, acknowledge(0x62, 9)), 0x70, 0x92),
            (world.ask(a, acknowledge(0x50, 9)), 0x62, 0x92),
        ];
        for (answer, first_byte, code) in answers {
            assert_eq!(
                (answer[0], answer[4], answer.len() > 5),
                (first_byte, code, has_words),
                "{answer:02x?}"
            );
        }
        // PUBLISH has its User Properties all the same.
        subscribe_to(&mut world, a, "t", 0);
        let publish = Publish::new(V5, "t", b"x").property(&user_property("n", "v")).bytes();
        assert_eq!(world.ask(a, &publish), publish);
    }
}
