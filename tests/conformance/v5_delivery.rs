//! MQTT 5.0, chapters 3.3.2.3.4 and 3.3.4: Topic Aliases, how many copies of a PUBLISH a client gets, and how many at
//! a time.

use crate::v5_peers::*;
use crate::wire::*;
use crate::world::{Peer, World};

fn aliased(topic: &str, alias: u16, payload: &[u8]) -> Publish {
    Publish::new(V5, topic, payload).property(&u16_property(0x23, alias))
}

#[test]
fn mqtt5_3_3_2_7() {
    let mut world = World::new();
    let connect = Connect::new(V5, "a").resume().expiry(1000);
    let a = world.connect(connect.bytes());
    world.send(a, aliased("t", 1, b"x").bytes());
    world.send(a, aliased("", 1, b"x").bytes());
    // Another client's aliases are its own.
    let b = client(&mut world, "b");
    assert_broken(&mut world, b, aliased("", 1, b"x").bytes(), 0x82);
    world.cut(a);
    let a = world.connect(connect.bytes());
    assert_broken(&mut world, a, aliased("", 1, b"x").bytes(), 0x82);
}

/// The broker's aliases end as well: the first message on the next connection has its topic.
#[test]
fn mqtt5_3_3_2_7_sent() {
    let mut world = World::new();
    let connect = Connect::new(V5, "a").resume().expiry(1000).property(&[0x22, 0, 9]);
    let a = world.connect(connect.bytes());
    subscribe_to(&mut world, a, "t", 1);
    let b = client(&mut world, "b");
    let publish = Publish::new(V5, "t", b"x").qos(1, 1).bytes();
    for topic in ["t", ""] {
        world.send(b, &publish);
        assert_eq!(take_publish(&mut world, a).topic, topic);
    }
    world.cut(a);
    let a = world.open();
    world.send(a, connect.property(&[0x17, 1]).bytes());
    let topics: Vec<String> = world.take(a)[1..].iter().map(|packet| received(V5, packet).topic).collect();
    assert_eq!(topics, ["t", ""]);
    world.cut(a);
    let a = world.open();
    world.send(a, Connect::new(V5, "a").resume().bytes());
    let topics: Vec<String> = world.take(a)[1..].iter().map(|packet| received(V5, packet).topic).collect();
    assert_eq!(topics, ["t", "t"]);
}

#[test]
fn mqtt5_3_3_2_8() {
    for topic in ["t", ""] {
        let mut world = World::new();
        let b = subscriber(&mut world, "b", "t", 0);
        let a = client(&mut world, "a");
        assert_broken(&mut world, a, aliased(topic, 0, b"x").bytes(), 0x94);
        assert!(world.take(b).is_empty());
    }
}

#[test]
fn mqtt5_3_3_2_9() {
    for topic in ["t", ""] {
        for qos in 0..3 {
            let mut world = World::new();
            let b = subscriber(&mut world, "b", "t", 0);
            let a = client(&mut world, "a");
            let publish = aliased(topic, 11, b"x");
            let bytes = if qos > 0 { publish.qos(qos, 1).bytes() } else { publish.bytes() };
            assert_broken(&mut world, a, bytes, 0x94);
            assert!(world.take(b).is_empty());
        }
    }
}

/// The broker respects each client's own Topic Alias Maximum, and aliases are independent between clients.
#[test]
fn mqtt5_3_3_2_11() {
    let mut world = World::new();
    let maxima = [0, 1, 2, 5];
    let peers = maxima.map(|maximum| {
        let connect = Connect::new(V5, &format!("{maximum}")).property(&u16_property(0x22, maximum));
        let peer = world.connect(connect.bytes());
        subscribe_to(&mut world, peer, "#", 0);
        peer
    });
    let b = client(&mut world, "b");
    for topic in ["a", "b", "c", "a", "b", "c", "a", "a"] {
        world.send(b, aliased(topic, 9, b"x").bytes());
        for (peer, maximum) in peers.into_iter().zip(maxima) {
            let message = take_publish(&mut world, peer);
            let list = property_list(&message.properties);
            assert!(list.len() <= 1, "{list:?}");
            for (identifier, value) in &list {
                let alias = u16::from_be_bytes([value[0], value[1]]);
                assert!(*identifier == 0x23 && (1..=maximum).contains(&alias), "{alias} of {maximum}");
            }
            assert!(message.topic == topic || !list.is_empty());
        }
    }
}

/// All ten, in any order, each bound again as often as the client likes, at every QoS.
#[test]
fn mqtt5_3_3_2_12() {
    let mut world = World::new();
    let a = client(&mut world, "a");
    let b = subscriber(&mut world, "b", "#", 0);
    for round in 0..3 {
        let qos = |publish: Publish| if round > 0 { publish.qos(round, 1).bytes() } else { publish.bytes() };
        for alias in (1..=10).rev() {
            let topic = format!("{round}/{alias}");
            world.send(a, qos(aliased(&topic, alias, b"bound")));
            world.send(a, acknowledge(0x62, 1));
            assert_eq!(take_publish(&mut world, b).topic, topic);
        }
        for alias in 1..=10 {
            world.send(a, qos(aliased("", alias, b"used")));
            world.send(a, acknowledge(0x62, 1));
            let message = take_publish(&mut world, b);
            assert_eq!((message.topic, message.properties), (format!("{round}/{alias}"), vec![]));
        }
    }
}

/// An alias that comes with a repeated QoS 2 message, or with one that is refused, is bound all the same.
#[test]
fn mqtt5_3_3_2_12_repeated() {
    let mut world = World::new();
    let b = subscriber(&mut world, "b", "t", 0);
    let connect = Connect::new(V5, "a").resume().expiry(1000);
    let a = world.connect(connect.bytes());
    world.send(a, Publish::new(V5, "t", b"1").qos(2, 1).bytes());
    world.cut(a);
    let a = world.connect(connect.bytes());
    assert_eq!(world.ask(a, aliased("t", 3, b"1").qos(2, 1).dup().bytes()), [0x50, 2, 0, 1]);
    world.send(a, aliased("", 3, b"2").bytes());
    assert_eq!(take_payloads(&mut world, b), [b"1", b"2"]);
    assert_eq!(world.ask(a, aliased("$SYS/x", 4, b"").qos(1, 2).bytes())[4], 0x87);
    assert_eq!(world.ask(a, aliased("", 4, b"").qos(1, 2).bytes())[4], 0x87);
    // A repeat is no way around the maximum either.
    assert_broken(&mut world, a, aliased("t", 11, b"1").qos(2, 1).dup().bytes(), 0x94);
}

#[test]
fn mqtt5_3_3_2_12_not_bound() {
    let mut world = World::new();
    let a = client(&mut world, "a");
    world.send(a, aliased("t", 2, b"x").bytes());
    assert_broken(&mut world, a, aliased("", 1, b"x").bytes(), 0x82);
}

#[test]
fn mqtt5_3_3_4_1() {
    let mut world = World::new();
    let a = client(&mut world, "a");
    for code in [0x10, 0x00] {
        let answer = |first_byte| match code {
            0 => vec![first_byte, 2, 0, 7],
            _ => vec![first_byte, 3, 0, 7, code],
        };
        let publish = Publish::new(V5, "t", b"x");
        world.send(a, publish.clone().bytes());
        assert!(world.take(a).is_empty());
        assert_eq!(world.ask(a, publish.clone().qos(1, 7).bytes()), answer(0x40));
        assert_eq!(world.ask(a, publish.clone().qos(2, 7).bytes()), answer(0x50));
        assert_eq!(world.ask(a, acknowledge(0x62, 7)), [0x70, 2, 0, 7]);
        // From here on, there is a subscriber.
        subscriber(&mut world, "b", "t", 0);
    }
}

/// A message to a disconnected client counts as delivered; then one for which there is no room.
#[test]
fn mqtt5_3_3_4_1_queue() {
    let mut world = World::with_limits(|limits| limits.queue_length = 1);
    let b = world.connect(Connect::new(V5, "b").expiry(1000).bytes());
    subscribe_to(&mut world, b, "t", 1);
    world.cut(b);
    let a = client(&mut world, "a");
    let publish = Publish::new(V5, "t", b"x");
    assert_eq!(world.ask(a, publish.clone().qos(1, 1).bytes()), [0x40, 2, 0, 1]);
    for (qos, first_byte) in [(1, 0x40), (2, 0x50)] {
        let answer = world.ask(a, publish.clone().qos(qos, 2).bytes());
        assert_eq!((answer[0], answer[4]), (first_byte, 0x97));
    }
}

/// A client with several subscriptions, given as filter, options and identifier.
fn overlapping(subscriptions: &[(&str, u8, u8)]) -> (World, Peer, Peer) {
    let mut world = World::new();
    let a = client(&mut world, "a");
    for &(filter, options, identifier) in subscriptions {
        let block: &[u8] = if identifier > 0 { &[0x0B, identifier] } else { &[] };
        world.ask(a, subscribe(V5, 1, block, &[(filter, options)]));
    }
    let b = client(&mut world, "b");
    (world, a, b)
}

/// The order of the subscriptions makes no difference, and a message never gets a higher QoS than its own.
#[test]
fn mqtt5_3_3_4_2() {
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [1, 0, 0]] {
        let filters = ["t/x", "t/+", "t/#"];
        let subscriptions = [0, 1, 2].map(|index| (filters[index], order[index], 0));
        let highest = order.into_iter().max().unwrap();
        for published in 0..3 {
            let (mut world, a, b) = overlapping(&subscriptions);
            let publish = Publish::new(V5, "t/x", b"x");
            world.send(b, if published > 0 { publish.qos(published, 1).bytes() } else { publish.bytes() });
            assert_eq!(take_publish(&mut world, a).qos, highest.min(published));
        }
    }
}

fn identifiers(message: &Received) -> Vec<u8> {
    let mut list: Vec<u8> = property_list(&message.properties)
        .into_iter()
        .filter(|(identifier, _)| *identifier == 0x0B)
        .map(|(_, value)| value[0])
        .collect();
    list.sort_unstable();
    list
}

/// At once, from the queue, again, and with a retained message: always those of the matching subscriptions.
#[test]
fn mqtt5_3_3_4_3() {
    let mut world = World::new();
    let connect = Connect::new(V5, "a").resume().expiry(1000);
    let a = world.connect(connect.bytes());
    for (filter, identifier) in [("t", 1), ("+", 2), ("u", 3)] {
        world.ask(a, subscribe(V5, 1, &[0x0B, identifier], &[(filter, 1)]));
    }
    let b = client(&mut world, "b");
    let publish = Publish::new(V5, "t", b"x").retain().qos(1, 1).bytes();
    world.send(b, &publish);
    assert_eq!(identifiers(&take_publish(&mut world, a)), [1, 2]);
    world.cut(a);
    world.send(b, &publish);
    let a = world.open();
    world.send(a, connect.bytes());
    let packets = world.take(a);
    for (packet, dup) in packets[1..].iter().zip([true, false]) {
        let message = received(V5, packet);
        assert_eq!((identifiers(&message), message.dup), (vec![1, 2], dup));
    }
    assert_eq!(packets.len(), 3);
    world.send(a, subscribe(V5, 1, &[0x0B, 7], &[("t", 0)]));
    let packets = world.take(a);
    assert_eq!(identifiers(&received(V5, packets.last().unwrap())), [7]);
}

/// The identifier of the last SUBSCRIBE counts, also if there is none.
#[test]
fn mqtt5_3_3_4_3_replaced() {
    let (mut world, a, b) = overlapping(&[("t", 0, 1), ("t", 0, 2)]);
    let publish = Publish::new(V5, "t", b"x").bytes();
    world.send(b, &publish);
    assert_eq!(identifiers(&take_publish(&mut world, a)), [2]);
    world.ask(a, subscribe(V5, 1, &[], &[("t", 0)]));
    world.send(b, &publish);
    assert_eq!(identifiers(&take_publish(&mut world, a)), [0; 0]);
}

/// Subscriptions without an identifier add none, and one that two subscriptions share comes twice or once.
#[test]
fn mqtt5_3_3_4_4() {
    let (mut world, a, b) = overlapping(&[("t", 0, 1), ("+", 0, 2), ("#", 0, 3), ("t/#", 0, 0), ("u", 0, 4)]);
    world.send(b, Publish::new(V5, "t", b"x").bytes());
    assert_eq!(identifiers(&take_publish(&mut world, a)), [1, 2, 3]);
    let (mut world, a, b) = overlapping(&[("t", 0, 0), ("+", 0, 2)]);
    world.send(b, Publish::new(V5, "t", b"x").bytes());
    assert_eq!(identifiers(&take_publish(&mut world, a)), [2]);
    let (mut world, a, b) = overlapping(&[("t", 0, 5), ("+", 0, 5)]);
    world.send(b, Publish::new(V5, "t", b"x").bytes());
    assert!([vec![5], vec![5, 5]].contains(&identifiers(&take_publish(&mut world, a))));
}

/// A Shared Subscription is served separately, so there are two copies.
#[test]
fn mqtt5_3_3_4_5() {
    let (mut world, a, b) = overlapping(&[("t", 1, 1), ("$share/g/t", 2, 2), ("$share/h/+", 0, 0)]);
    world.send(b, Publish::new(V5, "t", b"x").qos(2, 1).bytes());
    let mut copies: Vec<_> = world
        .take(a)
        .iter()
        .map(|packet| received(V5, packet))
        .map(|message| (identifiers(&message), message.qos))
        .collect();
    copies.sort();
    assert_eq!(copies, [(vec![], 0), (vec![1], 1), (vec![2], 2)]);
}

#[test]
fn mqtt5_3_3_4_6() {
    for block in [&[0x0B, 1][..], &[0x0B, 1, 0x0B, 2], &[0x01, 1, 0x0B, 0x80, 0x01]] {
        let mut world = World::new();
        let b = subscriber(&mut world, "b", "t", 0);
        let a = client(&mut world, "a");
        assert_broken(&mut world, a, Publish::new(V5, "t", b"x").property(block).bytes(), 0x82);
        assert!(world.take(b).is_empty());
    }
}

/// A PUBACK and a PUBCOMP free a place, and so do a refusal and a repeat of a message that has its place already; the
/// 1,025th at a time is too many, at either QoS.
#[test]
fn mqtt5_3_3_4_7() {
    for qos in [1, 2] {
        let mut world = World::new();
        let b = subscriber(&mut world, "b", "t", 0);
        let (a, connack) = greet(&mut world, &Connect::new(V5, "a"));
        assert_eq!(connack.property(0x21), Some(&[4, 0][..]));
        let publish = |identifier| Publish::new(V5, "t", b"x").qos(2, identifier);
        for identifier in 1..=1023 {
            world.broker.received(a, &publish(identifier).bytes(), world.now());
        }
        world.settle();
        assert_eq!(world.take(a).len(), 1023);
        for identifier in 2000..2010 {
            world.send(a, Publish::new(V5, "t", b"x").qos(1, identifier).bytes());
            world.send(a, Publish::new(V5, "$SYS/x", b"x").qos(2, identifier).bytes());
            world.send(a, publish(1023).dup().bytes());
        }
        world.send(a, publish(1024).bytes());
        world.send(a, acknowledge(0x62, 512));
        world.send(a, publish(1025).bytes());
        world.send(a, Publish::new(V5, "t", b"x").bytes());
        assert!(!world.is_closed(a));
        world.take(a);
        world.take(b);
        assert_broken(&mut world, a, Publish::new(V5, "t", b"x").qos(qos, 3000).bytes(), 0x93);
        assert!(world.take(b).is_empty());
    }
}

/// The client counts anew on each connection (4.9), so what it has not released before does not count.
#[test]
fn messages_of_an_earlier_connection_do_not_fill_the_receive_maximum() {
    for qos in [1, 2] {
        let mut world = World::with_limits(|limits| limits.receive_maximum = 2);
        let publish = |qos, identifier| Publish::new(V5, "t", b"x").qos(qos, identifier).bytes();
        let connect = Connect::new(V5, "a").resume().expiry(1000);
        let a = world.connect(connect.bytes());
        (1..=2).for_each(|identifier| drop(world.ask(a, publish(2, identifier))));
        world.cut(a);
        let a = world.open();
        world.send(a, connect.bytes());
        assert_eq!(world.take(a)[0][2], 1, "the session is present");
        for identifier in 3..=4 {
            world.ask(a, publish(qos, identifier));
        }
        world.ask(a, acknowledge(0x62, 1));
        world.ask(a, publish(1, 9));
        assert!(!world.is_closed(a));
        let unreleased = if qos == 2 { 5..=5 } else { 5..=7 };
        unreleased.clone().for_each(|identifier| drop(world.ask(a, publish(2, identifier))));
        assert_broken(&mut world, a, publish(2, 8), 0x93);
    }
}

/// With a Receive Maximum; one subscriber at this QoS and a publisher.
fn windowed(maximum: u16, qos: u8) -> (World, Peer, Peer) {
    let mut world = World::new();
    let connect = Connect::new(V5, "a").expiry(1000).property(&u16_property(0x21, maximum));
    let a = world.connect(connect.bytes());
    subscribe_to(&mut world, a, "t", qos);
    let b = client(&mut world, "b");
    (world, a, b)
}

fn publish_numbered(world: &mut World, peer: Peer, qos: u8, numbers: std::ops::Range<u8>) {
    for number in numbers {
        world.send(peer, Publish::new(V5, "t", &[number]).qos(qos, u16::from(number) + 1).bytes());
        world.send(peer, acknowledge(0x62, u16::from(number) + 1));
    }
    world.take(peer);
}

fn take_messages(world: &mut World, peer: Peer) -> Vec<(u8, u16)> {
    let packets = world.take(peer);
    let messages = packets.iter().map(|packet| received(V5, packet));
    messages.map(|message| (message.payload[0], message.packet_identifier.expect("QoS 1 or 2"))).collect()
}

#[test]
fn mqtt5_3_3_4_9() {
    for maximum in [1, 2, 5] {
        let (mut world, a, b) = windowed(maximum, 1);
        publish_numbered(&mut world, b, 1, 0..10);
        let mut messages = take_messages(&mut world, a);
        assert_eq!(messages.len(), usize::from(maximum));
        let mut seen: Vec<u8> = messages.iter().map(|(number, _)| *number).collect();
        while let Some((_, identifier)) = messages.pop() {
            world.send(a, acknowledge(0x40, identifier));
            // An acknowledgement of an unknown message frees no place.
            world.send(a, acknowledge(0x40, identifier));
            let more = take_messages(&mut world, a);
            assert!(more.len() <= 1);
            seen.extend(more.iter().map(|(number, _)| *number));
            messages.extend(more);
        }
        assert_eq!(seen, (0..10).collect::<Vec<u8>>());
    }
}

/// A PUBREC frees no place unless it refuses; the PUBCOMP does.
#[test]
fn mqtt5_3_3_4_9_qos_2() {
    let (mut world, a, b) = windowed(2, 2);
    publish_numbered(&mut world, b, 2, 0..5);
    let messages = take_messages(&mut world, a);
    assert_eq!(messages.iter().map(|(number, _)| *number).collect::<Vec<u8>>(), [0, 1]);
    for (_, identifier) in &messages {
        assert_eq!(world.ask(a, acknowledge(0x50, *identifier)), acknowledge(0x62, *identifier));
    }
    world.send(a, acknowledge(0x70, messages[1].1));
    let third = take_messages(&mut world, a);
    assert_eq!((third.len(), third[0].0), (1, 2));
    world.send(a, acknowledge_with(0x50, third[0].1, 0x80));
    let fourth = take_messages(&mut world, a);
    assert_eq!((fourth.len(), fourth[0].0), (1, 3));
    world.send(a, acknowledge(0x70, messages[0].1));
    assert_eq!(take_messages(&mut world, a)[0].0, 4);
}

/// A new connection has the window that it asks for, also for messages that are sent again.
#[test]
fn mqtt5_3_3_4_9_reconnect() {
    let (mut world, a, b) = windowed(5, 1);
    publish_numbered(&mut world, b, 1, 0..8);
    assert_eq!(take_messages(&mut world, a).len(), 5);
    world.cut(a);
    let a = world.open();
    let connect = Connect::new(V5, "a").resume().expiry(1000).property(&u16_property(0x21, 2));
    world.send(a, connect.bytes());
    let packets = world.take(a);
    let mut messages: Vec<Received> = packets[1..].iter().map(|packet| received(V5, packet)).collect();
    assert_eq!(messages.len(), 2);
    let mut seen = Vec::new();
    while !messages.is_empty() {
        let message = messages.remove(0);
        assert_eq!(message.dup, message.payload[0] < 5);
        seen.push(message.payload[0]);
        world.send(a, acknowledge(0x40, message.packet_identifier.unwrap()));
        messages.extend(world.take(a).iter().map(|packet| received(V5, packet)));
        assert!(messages.len() <= 2);
    }
    assert_eq!(seen, (0..8).collect::<Vec<u8>>());
}

/// Without a Receive Maximum there are 65,535 places; the broker chooses to use fewer. Retained messages need places
/// like all others.
#[test]
fn mqtt5_3_3_4_9_retained() {
    let mut world = World::new();
    let b = client(&mut world, "b");
    for number in 0..5 {
        let publish = Publish::new(V5, &format!("t/{number}"), &[number]).retain().qos(1, 1);
        world.send(b, publish.bytes());
    }
    let a = world.connect(Connect::new(V5, "a").property(&u16_property(0x21, 2)).bytes());
    world.send(a, subscribe(V5, 1, &[], &[("t/#", 1)]));
    let packets = world.take(a);
    assert_eq!(packets.len(), 3);
    let mut open: Vec<u16> =
        packets[1..].iter().filter_map(|packet| received(V5, packet).packet_identifier).collect();
    let mut count = 0;
    while let Some(identifier) = open.pop() {
        count += 1;
        world.send(a, acknowledge(0x40, identifier));
        open.extend(take_messages(&mut world, a).iter().map(|(_, identifier)| *identifier));
        assert!(open.len() <= 2);
    }
    assert_eq!(count, 5);
}

/// The client acknowledges messages that are in the outbox of a stalled socket.
#[test]
fn mqtt5_3_3_4_9_acknowledged_before_it_left() {
    let mut world = World::new();
    let connect = Connect::new(V5, "a").resume().expiry(1000);
    let a = world.connect(connect.bytes());
    subscribe_to(&mut world, a, "t", 1);
    let b = client(&mut world, "b");
    for (length, identifier) in [(300_000, 1), (1, 2), (2, 3)] {
        world.send(b, Publish::new(V5, "t", &vec![0; length]).qos(1, identifier).bytes());
    }
    assert_eq!(world.take(a).len(), 3);
    world.send(a, acknowledge(0x40, 2));
    world.cut(a);
    let a = world.open();
    world.stall(a, true);
    world.send(a, connect.bytes());
    world.send(a, acknowledge(0x40, 1));
    world.stall(a, false);
    let packets = world.take(a);
    assert_eq!(received(V5, packets.last().unwrap()).payload, [0, 0]);
    world.send(a, acknowledge(0x40, 3));
    assert_eq!(world.ask(a, PINGREQ), PINGRESP);
}

/// With the window closed, everything else continues.
#[test]
fn mqtt5_3_3_4_10() {
    let (mut world, a, b) = windowed(1, 2);
    publish_numbered(&mut world, b, 2, 0..3);
    let (_, identifier) = take_messages(&mut world, a)[0];
    assert_eq!(world.ask(a, PINGREQ), PINGRESP);
    assert_eq!(world.ask(a, subscribe(V5, 1, &[], &[("u", 1)])), [0x90, 4, 0, 1, 0, 1]);
    assert_eq!(world.ask(a, unsubscribe(V5, 1, &["u"])), [0xB0, 4, 0, 1, 0, 0]);
    assert_eq!(world.ask(a, Publish::new(V5, "b", b"").qos(1, 1).bytes())[0], 0x40);
    assert_eq!(world.ask(a, Publish::new(V5, "b", b"").qos(2, 1).bytes())[0], 0x50);
    assert_eq!(world.ask(a, acknowledge(0x62, 1))[0], 0x70);
    world.send(b, Publish::new(V5, "t", b"at most once").bytes());
    assert_eq!(take_payloads(&mut world, a), [b"at most once"]);
    assert_eq!(world.ask(a, acknowledge(0x50, identifier)), acknowledge(0x62, identifier));
    assert_eq!(world.ask(a, PINGRESP)[0], 0xE0);
}

/// After a reconnect, a PUBREL is not held back either, though more are open than the new window has places.
#[test]
fn mqtt5_3_3_4_10_pubrel() {
    let (mut world, a, b) = windowed(3, 2);
    publish_numbered(&mut world, b, 2, 0..4);
    let messages = take_messages(&mut world, a);
    for (_, identifier) in &messages {
        world.send(a, acknowledge(0x50, *identifier));
    }
    world.cut(a);
    let a = world.open();
    let connect = Connect::new(V5, "a").resume().expiry(1000).property(&u16_property(0x21, 1));
    world.send(a, connect.bytes());
    let packets = world.take(a);
    let releases: Vec<Vec<u8>> =
        messages.iter().map(|(_, identifier)| acknowledge(0x62, *identifier)).collect();
    assert_eq!(packets[1..4], releases);
    for (_, identifier) in &messages {
        world.send(a, acknowledge(0x70, *identifier));
    }
    let fourth: Vec<u8> = packets[4..].iter().map(|packet| received(V5, packet).payload[0]).collect();
    let later: Vec<u8> = take_messages(&mut world, a).iter().map(|(number, _)| *number).collect();
    assert_eq!([fourth, later].concat(), [3]);
}
