//! MQTT 5.0, chapters 4.5, 4.6, 4.8 and 4.9: receipt and order, Shared Subscriptions, flow control.

use crate::v5_exchange::*;
use crate::wire::*;
use crate::world::{Peer, World};

#[test]
fn mqtt5_4_5_0_1() {
    for qos in 0..3 {
        let mut world = World::new();
        let publisher = subscriber(&mut world, "publisher", "t", 0);
        let live = subscriber(&mut world, "live", "+", 2);
        let away = persistent_subscriber(&mut world, "away", "#", 2);
        world.send(away, DISCONNECT);
        let lost = persistent_subscriber(&mut world, "lost", "t", 1);
        world.cut(lost);
        let modest = persistent_subscriber(&mut world, "modest", "t", 0);
        world.cut(modest);
        let elsewhere = subscriber(&mut world, "elsewhere", "u", 2);
        let message = Publish::new(V5, "t", b"m");
        world.send(publisher, if qos > 0 { message.qos(qos, 7) } else { message }.bytes());
        assert_eq!(world.take(publisher).iter().filter(|packet| packet[0] == 0x30).count(), 1);
        assert_eq!(take_publish(&mut world, live).qos, qos);
        assert_silent(&mut world, elsewhere);
        for (name, most) in [("away", 2), ("lost", 1), ("modest", 0)] {
            let (_, packets) = back(&mut world, name);
            let granted: Vec<u8> = packets.iter().map(|packet| received(V5, packet).qos).collect();
            assert_eq!(granted, Vec::from_iter((qos.min(most) > 0).then_some(qos.min(most))), "{name}");
        }
    }
}

/// The broker answers in the order of the requests, and a client that does not is served all the same.
#[test]
fn mqtt5_4_6_0_2() {
    let mut world = World::new();
    let b = subscriber(&mut world, "b", "t", 1);
    let a = client(&mut world, "a");
    let asked = [9, 3, 7];
    world.send(a, asked.map(|id| Publish::new(V5, "t", b"m").qos(1, id).bytes()).concat());
    assert_eq!(world.take(a), asked.map(|id| acknowledge(0x40, id)));
    let identifiers: Vec<u16> = world.take(b).iter().map(|packet| identifier(packet)).collect();
    for index in [2, 0, 1] {
        world.send(b, acknowledge(0x40, identifiers[index]));
    }
    publish(&mut world, a, "t", b"next", 1);
    assert_eq!(take_payloads(&mut world, b), [b"next"]);
}

#[test]
fn mqtt5_4_6_0_3() {
    let mut world = World::new();
    let b = subscriber(&mut world, "b", "t", 2);
    let a = client(&mut world, "a");
    let asked = [9, 3, 7];
    world.send(a, asked.map(|id| Publish::new(V5, "t", b"m").qos(2, id).bytes()).concat());
    assert_eq!(world.take(a), asked.map(|id| acknowledge(0x50, id)));
    let identifiers: Vec<u16> = world.take(b).iter().map(|packet| identifier(packet)).collect();
    for index in [2, 0, 1] {
        let pubrel = world.ask(b, acknowledge(0x50, identifiers[index]));
        assert_eq!(pubrel, acknowledge(0x62, identifiers[index]));
    }
}

#[test]
fn mqtt5_4_6_0_4() {
    let mut world = World::new();
    let b = subscriber(&mut world, "b", "t", 2);
    let a = client(&mut world, "a");
    world.send(a, [9, 3, 7].map(|id| Publish::new(V5, "t", b"m").qos(2, id).bytes()).concat());
    world.take(a);
    for released in [7, 9, 3] {
        assert_eq!(world.ask(a, acknowledge(0x62, released)), acknowledge(0x70, released));
    }
    let identifiers: Vec<u16> = world.take(b).iter().map(|packet| identifier(packet)).collect();
    world.send(b, identifiers.iter().flat_map(|&id| acknowledge(0x50, id)).collect::<Vec<_>>());
    let pubrels: Vec<_> = identifiers.iter().map(|&id| acknowledge(0x62, id)).collect();
    assert_eq!(world.take(b), pubrels);
}

/// Answers everything that came at once; returns the messages that came for the first time.
fn answer_all(world: &mut World, peer: Peer, packets: &[Vec<u8>]) -> Vec<Received> {
    let mut fresh = Vec::new();
    for packet in packets {
        match packet[0] >> 4 {
            3 => {
                let message = received(V5, packet);
                match (message.qos, message.packet_identifier) {
                    (1, Some(id)) => world.send(peer, acknowledge(0x40, id)),
                    (2, Some(id)) => world.send(peer, acknowledge(0x50, id)),
                    _ => {}
                }
                if !message.dup {
                    fresh.push(message);
                }
            }
            6 => world.send(peer, acknowledge(0x70, u16::from_be_bytes([packet[2], packet[3]]))),
            kind => panic!("packet type {kind}"),
        }
    }
    fresh
}

/// Messages of one publisher reach a subscriber that is slow, stalls, leaves and returns: what it has received, in
/// order.
fn journey(qos: u8, topics: &[&str]) -> Vec<Received> {
    let mut world = World::new();
    let publisher = client(&mut world, "publisher");
    let slow = persistent("slow").property(&[0x21, 0, 3]);
    let (mut b, ..) = arrive(&mut world, &slow);
    subscribe_to(&mut world, b, "#", qos);
    subscribe_to(&mut world, b, "t/+", qos);
    let mut number = 0;
    let mut send_five = |world: &mut World| {
        for _ in 0..5 {
            number += 1;
            let topic = topics[usize::from(number) % topics.len()];
            publish(world, publisher, topic, &[number], qos);
        }
    };
    let mut came = Vec::new();
    send_five(&mut world);
    world.stall(b, true);
    send_five(&mut world);
    world.stall(b, false);
    let packets = world.take(b);
    came.extend(answer_all(&mut world, b, &packets[..2]));
    send_five(&mut world);
    came.extend(answer_all(&mut world, b, &packets[2..]));
    world.take(b).iter().for_each(|packet| came.extend((packet[0] >> 4 == 3).then(|| received(V5, packet))));
    world.cut(b);
    send_five(&mut world);
    let mut packets;
    (b, _, packets) = arrive(&mut world, &slow);
    while !packets.is_empty() {
        came.extend(answer_all(&mut world, b, &packets));
        packets = world.take(b);
    }
    send_five(&mut world);
    loop {
        let packets = world.take(b);
        came.extend(answer_all(&mut world, b, &packets));
        if packets.is_empty() {
            return came;
        }
    }
}

#[test]
fn mqtt5_4_6_0_5() {
    for qos in 0..3 {
        let numbers: Vec<u8> = journey(qos, &["t/x"]).iter().map(|message| message.payload[0]).collect();
        let expected: Vec<u8> = (1..=25).filter(|number| qos > 0 || !(16..=20).contains(number)).collect();
        assert_eq!(numbers, expected, "QoS {qos}");
    }
}

#[test]
fn mqtt5_4_6_0_6() {
    let topics = ["t/x", "t/y", "u"];
    for qos in 0..3 {
        let came = journey(qos, &topics);
        for topic in topics {
            let own: Vec<u8> = came
                .iter()
                .filter(|message| message.topic == topic)
                .map(|message| message.payload[0])
                .collect();
            assert!(own.len() >= 6 && own.is_sorted(), "{topic} {own:?}");
        }
    }
}

/// Two members of a Shared Subscription at this QoS, a publisher, and a message that one of them has received: the
/// world, the publisher, this member's name, its connection, the other member and the message.
fn shared(qos: u8, expiry: u32) -> (World, Peer, &'static str, Peer, Peer, Received) {
    let mut world = World::new();
    let publisher = client(&mut world, "publisher");
    let names = ["one", "other"];
    let members = names.map(|name| {
        let peer = world.connect(Connect::new(V5, name).resume().expiry(expiry).bytes());
        subscribe_to(&mut world, peer, "$share/g/t", qos);
        peer
    });
    publish(&mut world, publisher, "t", b"m", qos);
    let mut came = members.map(|peer| world.take(peer));
    let chosen = usize::from(came[0].is_empty());
    assert_eq!((came[chosen].len(), came[1 - chosen].len()), (1, 0));
    let message = received(V5, &came[chosen].remove(0));
    (world, publisher, names[chosen], members[chosen], members[1 - chosen], message)
}

#[test]
fn mqtt5_4_8_2_1() {
    for filter in ["$share/", "$share/g", "$share//t", "$share///", "$share/g/"] {
        let mut world = World::new();
        let a = client(&mut world, "a");
        assert_broken(&mut world, a, subscribe(V5, 1, &[], &[(filter, 0)]), 0x81);
        let a = client(&mut world, "a");
        assert_broken(&mut world, a, unsubscribe(V5, 1, &[filter]), 0x81);
    }
    // `$share` alone, or in other letters, is an ordinary filter.
    let mut world = World::new();
    let a = subscriber(&mut world, "a", "$share", 0);
    subscribe_to(&mut world, a, "$SHARE/g/t", 0);
    let b = client(&mut world, "b");
    world.send(b, Publish::new(V5, "t", b"m").bytes());
    assert_silent(&mut world, a);
    world.send(b, Publish::new(V5, "$SHARE/g/t", b"m").bytes());
    assert_eq!(take_payloads(&mut world, a), [b"m"]);
}

#[test]
fn mqtt5_4_8_2_2() {
    for filter in ["$share/+/t", "$share/#/t", "$share/g+/t", "$share/#", "$share/+", "$share/g#h/t"] {
        let mut world = World::new();
        let a = client(&mut world, "a");
        assert_broken(&mut world, a, subscribe(V5, 1, &[], &[(filter, 0)]), 0x81);
    }
    // Everything after the Share Name is the filter; other names are other subscriptions.
    for (filter, topic) in [("/t", "/t"), ("#", "t"), ("/", "/"), ("$share/g/t", "$share/g/t"), ("+/+", "/")]
    {
        let mut world = World::new();
        let members = [("g", "1"), ("g", "2"), ("\u{e9} $", "3"), ("G", "4")]
            .map(|(name, member)| subscriber(&mut world, member, &format!("$share/{name}/{filter}"), 0));
        let b = client(&mut world, "b");
        world.send(b, Publish::new(V5, topic, b"m").bytes());
        let counts = members.map(|peer| world.take(peer).len());
        assert_eq!((counts[0] + counts[1], counts[2], counts[3]), (1, 1, 1), "{filter}");
    }
}

#[test]
fn mqtt5_4_8_2_3() {
    let mut world = World::new();
    let members =
        [0, 1, 2].map(|qos| (qos, subscriber(&mut world, &format!("member {qos}"), "$share/g/t", qos)));
    let b = client(&mut world, "b");
    for published in 0..3 {
        for _ in members {
            publish(&mut world, b, "t", b"m", published);
        }
        for (granted, member) in members {
            assert_eq!(take_publish(&mut world, member).qos, granted.min(published));
        }
    }
}

#[test]
fn mqtt5_4_8_2_4() {
    let (mut world, _, name, member, other, message) = shared(2, 1000);
    let identifier = message.packet_identifier.unwrap();
    world.cut(member);
    world.pass_seconds(100);
    assert_silent(&mut world, other);
    let (member, packets) = back(&mut world, name);
    assert_eq!(received(V5, &packets[0]), Received { dup: true, ..message });
    assert_eq!(world.ask(member, acknowledge(0x50, identifier)), acknowledge(0x62, identifier));
    world.cut(member);
    let (member, packets) = back(&mut world, name);
    assert_eq!(packets, [acknowledge(0x62, identifier)]);
    world.send(member, acknowledge(0x70, identifier));
    world.cut(member);
    assert_eq!(back(&mut world, name).1, [[0; 0]; 0]);
    assert_silent(&mut world, other);
}

#[test]
fn mqtt5_4_8_2_5() {
    for (expiry, is_released) in [(0, false), (0, true), (10, false)] {
        let (mut world, _, _, member, other, message) = shared(2, expiry);
        if is_released {
            world.ask(member, acknowledge(0x50, message.packet_identifier.unwrap()));
        }
        world.cut(member);
        if expiry > 0 {
            let _other = arrive(&mut world, &Connect::new(V5, "other").resume().expiry(1000));
            let _one = arrive(&mut world, &Connect::new(V5, "one").resume().expiry(1000));
        }
        world.pass_seconds(10);
        if expiry == 0 {
            assert_silent(&mut world, other);
        }
    }
}

/// A message of QoS 1, on the other hand, goes to another member.
#[test]
fn mqtt5_4_8_2_5_not_for_qos_1() {
    let (mut world, _, _, member, other, _) = shared(1, 0);
    world.cut(member);
    let message = take_publish(&mut world, other);
    assert_eq!((message.qos, message.dup, &*message.payload), (1, false, &b"m"[..]));
}

#[test]
fn mqtt5_4_8_2_6() {
    for (qos, first_byte) in [(1, 0x40), (2, 0x50)] {
        for code in [0x80, 0x83, 0x97] {
            let (mut world, _, name, member, other, message) = shared(qos, 1000);
            let identifier = message.packet_identifier.unwrap();
            world.send(member, acknowledge_with(first_byte, identifier, code));
            world.cut(member);
            assert_silent(&mut world, other);
            assert_eq!(back(&mut world, name).1, [[0; 0]; 0]);
            world.pass_seconds(100);
            assert_silent(&mut world, other);
        }
    }
}

/// A subscriber with this Receive Maximum and many queued messages, those that came first, and its publisher.
fn flooded(receive_maximum: Option<u16>, qos: u8) -> (World, Peer, Vec<Vec<u8>>, Peer) {
    let mut world = World::new();
    let connect = receive_maximum.iter().fold(persistent("b"), |connect, maximum| {
        connect.property(&[&[0x21][..], &maximum.to_be_bytes()].concat())
    });
    let (b, ..) = arrive(&mut world, &connect);
    subscribe_to(&mut world, b, "t", qos);
    let publisher = client(&mut world, "publisher");
    let flood: Vec<u8> =
        (1..=600_u16).flat_map(|id| Publish::new(V5, "t", &id.to_be_bytes()).qos(qos, id).bytes()).collect();
    world.send(publisher, flood);
    let packets = world.take(b);
    (world, b, packets, publisher)
}

/// Without a Receive Maximum, there are as many as the broker chooses.
#[test]
fn mqtt5_4_9_0_1() {
    for (receive_maximum, quota) in
        [(Some(1), 1), (Some(2), 2), (Some(511), 511), (Some(512), 512), (Some(u16::MAX), 512), (None, 512)]
    {
        for qos in [1, 2] {
            assert_eq!(flooded(receive_maximum, qos).2.len(), quota, "{receive_maximum:?}");
        }
    }
    // A new connection starts with its own.
    let (mut world, b, ..) = flooded(Some(5), 1);
    world.cut(b);
    let (_, _, packets) = arrive(&mut world, &persistent("b").property(&[0x21, 0, 8]));
    assert_eq!(packets.len(), 8);
    let mut world = World::new();
    let a = world.open();
    let connack = world.ask(a, Connect::new(V5, "a").property(&[0x21, 0, 0]).bytes());
    assert_eq!((connack[0], connack[3]), (0x20, 0x82), "zero is a Protocol Error");
}

#[test]
fn mqtt5_4_9_0_2() {
    let (mut world, b, packets, _) = flooded(Some(2), 1);
    let first = identifier(&packets[0]);
    assert_eq!(packets.len(), 2);
    // An acknowledgement of an unknown message frees no quota, and a repeated one frees no more.
    world.send(b, acknowledge(0x40, 999));
    assert_silent(&mut world, b);
    assert_eq!(received(V5, &world.ask(b, acknowledge(0x40, first))).payload, [0, 3]);
    world.send(b, acknowledge(0x40, first));
    assert_silent(&mut world, b);
}

#[test]
fn mqtt5_4_9_0_2_of_qos_2() {
    let (mut world, b, packets, _) = flooded(Some(2), 2);
    let identifiers: Vec<u16> = packets.iter().map(|packet| identifier(packet)).collect();
    // A PUBREC frees no quota, the PUBCOMP does.
    assert_eq!(world.ask(b, acknowledge(0x50, identifiers[0])), acknowledge(0x62, identifiers[0]));
    assert_eq!(received(V5, &world.ask(b, acknowledge(0x70, identifiers[0]))).payload, [0, 3]);
    // So does a PUBREC with an error.
    assert_eq!(received(V5, &world.ask(b, acknowledge_with(0x50, identifiers[1], 0x80))).payload, [0, 4]);
    assert_silent(&mut world, b);
}

#[test]
fn mqtt5_4_9_0_3() {
    let (mut world, b, packets, publisher) = flooded(Some(1), 1);
    assert_eq!(packets.len(), 1);
    assert_eq!(world.ask(b, PINGREQ), PINGRESP);
    assert_eq!(world.ask(b, subscribe(V5, 1, &[], &[("u", 2)])), [0x90, 4, 0, 1, 0, 2]);
    let own = |qos| Publish::new(V5, "own", b"m").qos(qos, 7).bytes();
    assert_eq!(world.ask(b, own(1)), acknowledge_with(0x40, 7, 0x10));
    assert_eq!(world.ask(b, own(2)), acknowledge_with(0x50, 7, 0x10));
    assert_eq!(world.ask(b, acknowledge(0x62, 7)), acknowledge(0x70, 7));
    let pubrel = world.ask(b, acknowledge(0x50, 999));
    assert_eq!((pubrel[0], pubrel[4]), (0x62, 0x92));
    // QoS 0 takes no quota.
    world.send(publisher, Publish::new(V5, "u", b"at once").bytes());
    assert_eq!(take_payloads(&mut world, b), [b"at once"]);
    assert_eq!(world.ask(b, unsubscribe(V5, 2, &["u", "t"])), [0xB0, 5, 0, 2, 0, 0, 0]);
    world.send(b, DISCONNECT);
    assert!(world.is_closed(b));
}
