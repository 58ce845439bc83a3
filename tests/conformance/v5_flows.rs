//! MQTT 5.0, chapters 4.1 to 4.4: Session State, the exchanges of QoS 0, 1 and 2, and redelivery.

use crate::v5_exchange::*;
use crate::wire::*;
use crate::world::{Peer, World};

/// A world with a publisher and a subscriber to `t` with a persistent session, at this QoS.
fn two(qos: u8) -> (World, Peer, Peer) {
    let mut world = World::new();
    let publisher = client(&mut world, "publisher");
    let b = persistent_subscriber(&mut world, "b", "t", qos);
    (world, publisher, b)
}

#[test]
fn mqtt5_4_1_0_1() {
    let mut world = World::new();
    let publisher = client(&mut world, "publisher");
    // The Session Expiry Interval does not run while the client is connected, not even one of zero.
    for expiry in [0, 1] {
        let connect = Connect::new(V5, "b").expiry(expiry);
        let b = world.connect(connect.bytes());
        subscribe_to(&mut world, b, "t", 2);
        publish(&mut world, publisher, "t", b"one", 2);
        let identifier = take_publish(&mut world, b).packet_identifier.unwrap();
        let pubrec = world.ask(b, Publish::new(V5, "own", b"m").qos(2, 7).bytes());
        assert_eq!(pubrec, acknowledge_with(0x50, 7, 0x10));
        world.pass_seconds(100_000);
        publish(&mut world, publisher, "t", b"two", 0);
        assert_eq!(take_payloads(&mut world, b), [b"two"]);
        assert_eq!(world.ask(b, acknowledge(0x50, identifier)), acknowledge(0x62, identifier));
        assert_eq!(world.ask(b, acknowledge(0x62, 7)), acknowledge(0x70, 7));
        world.cut(b);
    }
}

#[test]
fn mqtt5_4_1_0_2() {
    for (expiry, seconds, is_persistent) in [
        (0, 0, false),
        (5, 4, true),
        (5, 5, false),
        (u32::MAX - 1, 4_000_000, true),
        (u32::MAX, 200_000_000, true),
    ] {
        let mut world = World::new();
        let publisher = client(&mut world, "publisher");
        let connect = Connect::new(V5, "b").resume().expiry(expiry);
        let b = world.connect(connect.bytes());
        subscribe_to(&mut world, b, "t", 1);
        world.cut(b);
        world.send(publisher, Publish::new(V5, "t", b"away").qos(1, 1).bytes());
        world.pass_seconds(seconds);
        let (b, is_present, packets) = arrive(&mut world, &connect);
        assert_eq!(
            (is_present, packets.len()),
            (is_persistent, usize::from(is_persistent)),
            "{expiry} {seconds}"
        );
        world.send(publisher, Publish::new(V5, "t", b"m").bytes());
        assert_eq!(world.take(b).len(), usize::from(is_persistent), "{expiry} {seconds}");
    }
}

/// A DISCONNECT may change the interval; that of the last connection counts.
#[test]
fn mqtt5_4_1_0_2_changed() {
    for (at_connect, at_disconnect, seconds, is_persistent) in
        [(5, 0, 0, false), (5, 50, 49, true), (5, 50, 50, false), (50, 5, 5, false)]
    {
        let mut world = World::new();
        let connect = Connect::new(V5, "b").resume().expiry(at_connect);
        let b = world.connect(connect.bytes());
        let interval = u8::try_from(at_disconnect).unwrap();
        world.send(b, disconnect(0, &[0x11, 0, 0, 0, interval]));
        world.pass_seconds(seconds);
        assert_eq!(arrive(&mut world, &connect).1, is_persistent, "{at_connect} {at_disconnect} {seconds}");
    }
}

#[test]
fn mqtt5_4_3_1_1() {
    for (published, granted) in [(0, 0), (0, 1), (0, 2), (1, 0), (2, 0)] {
        let (mut world, publisher, b) = two(granted);
        let message = Publish::new(V5, "t", b"m");
        world.send(publisher, if published > 0 { message.qos(published, 7).dup() } else { message }.bytes());
        assert_eq!(world.take_one(b), [0x30, 5, 0, 1, b't', 0, b'm']);
        world.cut(b);
        assert_eq!(back(&mut world, "b").1, [[0; 0]; 0]);
    }
}

/// Every Packet Identifier is used before one is used again, 0 never, and one that is still in use is skipped until it
/// is free.
fn assert_identifiers_go_round(qos: u8) {
    // The store of the world with persistence is a naive one.
    const BATCH: u16 = if crate::IS_PERSISTENT { 2_000 } else { 16_000 };
    let mut world = World::with_limits(|limits| {
        limits.in_flight = BATCH + 1;
        limits.receive_maximum = BATCH;
        limits.queue_length = BATCH.into();
    });
    let publisher = client(&mut world, "publisher");
    let b = persistent_subscriber(&mut world, "b", "t", qos);
    publish(&mut world, publisher, "t", b"held", qos);
    let held = identifier(&world.take_one(b));
    let batch: Vec<u8> =
        (1..=BATCH).flat_map(|id| Publish::new(V5, "t", b"m").qos(qos, id).bytes()).collect();
    let release: Vec<u8> = (1..=BATCH).flat_map(|id| acknowledge(0x62, id)).collect();
    let answers = if qos == 1 { &[0x40][..] } else { &[0x50, 0x70] };
    let answer = |world: &mut World, identifiers: &[u16]| {
        for &first_byte in answers {
            let bytes: Vec<u8> = identifiers.iter().flat_map(|&id| acknowledge(first_byte, id)).collect();
            world.send(b, bytes);
        }
    };
    let mut last = held;
    let mut is_held = true;
    for round in 0..=2 * (u16::MAX / BATCH) {
        world.send(publisher, [&batch[..], if qos == 2 { &release } else { &[] }].concat());
        world.take(publisher);
        let identifiers: Vec<u16> = world.take(b).iter().map(|packet| identifier(packet)).collect();
        assert_eq!(identifiers.len(), usize::from(BATCH));
        for &identifier in &identifiers {
            let next = |last| if last == u16::MAX { 1 } else { last + 1 };
            let expected = if is_held && next(last) == held { next(held) } else { next(last) };
            assert_eq!(identifier, expected);
            last = identifier;
        }
        answer(&mut world, &identifiers);
        assert!(world.take(b).iter().all(|packet| packet[0] == 0x62));
        if round == u16::MAX / BATCH {
            answer(&mut world, &[held]);
            world.take(b);
            is_held = false;
        }
    }
}

#[test]
fn mqtt5_4_3_2_1() {
    assert_identifiers_go_round(1);
}

#[test]
fn mqtt5_4_3_2_2() {
    let (mut world, publisher, b) = two(1);
    world.send(publisher, Publish::new(V5, "t", b"m").qos(1, 7).dup().bytes());
    assert_eq!(world.take_one(b), [0x32, 7, 0, 1, b't', 0, 1, 0, b'm']);
    world.cut(b);
    world.send(publisher, Publish::new(V5, "t", b"queued").qos(2, 8).dup().bytes());
    let (_, packets) = back(&mut world, "b");
    assert_eq!([packets[0][0], packets[1][0]], [0x3A, 0x32]);
}

#[test]
fn mqtt5_4_3_2_3() {
    let (mut world, publisher, b) = two(1);
    publish(&mut world, publisher, "t", b"m", 1);
    let first = take_publish(&mut world, b);
    // Another identifier, or another kind of answer, is no answer.
    world.send(b, acknowledge(0x40, first.packet_identifier.unwrap() + 1));
    world.cut(b);
    let (b, packets) = back(&mut world, "b");
    assert_eq!(received(V5, &packets[0]), Received { dup: true, ..first.clone() });
    world.send(b, acknowledge(0x40, first.packet_identifier.unwrap()));
    world.cut(b);
    assert_eq!(back(&mut world, "b").1, [[0; 0]; 0]);
}

#[test]
fn mqtt5_4_3_2_4() {
    let (mut world, publisher, b) = two(1);
    for identifier in [1, 0x1234, u16::MAX] {
        let puback = world.ask(publisher, Publish::new(V5, "t", b"m").qos(1, identifier).bytes());
        assert_eq!(puback, acknowledge(0x40, identifier));
        assert_eq!(take_publish(&mut world, b).payload, b"m");
    }
    // Once it has been answered, the broker alone is responsible for it.
    world.cut(b);
    world.send(publisher, Publish::new(V5, "t", b"owned").qos(1, 1).bytes());
    world.cut(publisher);
    assert_eq!(payloads(&back(&mut world, "b").1).last().unwrap(), b"owned");
}

#[test]
fn mqtt5_4_3_2_5() {
    let (mut world, publisher, b) = two(1);
    let message = Publish::new(V5, "t", b"m").qos(1, 7);
    for packet in [message.clone(), message.clone(), message.dup()] {
        assert_eq!(world.ask(publisher, packet.bytes()), acknowledge(0x40, 7));
        let received = take_publish(&mut world, b);
        assert_eq!((received.dup, &*received.payload), (false, &b"m"[..]));
    }
}

#[test]
fn mqtt5_4_3_3_1() {
    assert_identifiers_go_round(2);
}

#[test]
fn mqtt5_4_3_3_2() {
    let (mut world, publisher, b) = two(2);
    world.send(publisher, Publish::new(V5, "t", b"m").qos(2, 7).dup().bytes());
    assert_eq!(world.take_one(b), [0x34, 7, 0, 1, b't', 0, 1, 0, b'm']);
    world.cut(b);
    world.send(publisher, Publish::new(V5, "t", b"queued").qos(2, 8).dup().bytes());
    let (_, packets) = back(&mut world, "b");
    assert_eq!([packets[0][0], packets[1][0]], [0x3C, 0x34]);
}

#[test]
fn mqtt5_4_3_3_3() {
    let (mut world, publisher, b) = two(2);
    publish(&mut world, publisher, "t", b"m", 2);
    let first = take_publish(&mut world, b);
    world.cut(b);
    let (b, packets) = back(&mut world, "b");
    assert_eq!(received(V5, &packets[0]), Received { dup: true, ..first.clone() });
    let identifier = first.packet_identifier.unwrap();
    // A PUBACK is no answer to QoS 2, nor is a PUBCOMP before the PUBREC.
    assert_broken(&mut world, b, acknowledge(0x40, identifier), 0x82);
    let (b, packets) = back(&mut world, "b");
    assert_eq!(payloads(&packets), [b"m"]);
    assert_broken(&mut world, b, acknowledge(0x70, identifier), 0x82);
    assert_eq!(payloads(&back(&mut world, "b").1), [b"m"]);
}

#[test]
fn mqtt5_4_3_3_4() {
    for (code, answered) in [(0x00, true), (0x10, true), (0x80, false), (0x97, false)] {
        let (mut world, publisher, b) = two(2);
        publish(&mut world, publisher, "t", b"m", 2);
        let identifier = take_publish(&mut world, b).packet_identifier.unwrap();
        world.send(b, acknowledge_with(0x50, identifier, code));
        let pubrels = if answered { vec![acknowledge(0x62, identifier)] } else { vec![] };
        assert_eq!(world.take(b), pubrels, "{code:02x}");
        // Again, because the PUBREL may have been lost.
        if answered {
            assert_eq!(world.ask(b, acknowledge(0x50, identifier)), acknowledge(0x62, identifier));
        }
    }
}

#[test]
fn mqtt5_4_3_3_5() {
    let (mut world, publisher, mut b) = two(2);
    publish(&mut world, publisher, "t", b"m", 2);
    let identifier = take_publish(&mut world, b).packet_identifier.unwrap();
    assert_eq!(world.ask(b, acknowledge(0x50, identifier)), acknowledge(0x62, identifier));
    for _ in 0..2 {
        world.cut(b);
        let packets;
        (b, packets) = back(&mut world, "b");
        assert_eq!(packets, [acknowledge(0x62, identifier)]);
    }
    world.send(b, acknowledge(0x70, identifier));
    world.cut(b);
    assert_eq!(back(&mut world, "b").1, [[0; 0]; 0]);
}

#[test]
fn mqtt5_4_3_3_6() {
    let (mut world, publisher, b) = two(2);
    for payload in [b"1", b"2", b"3"] {
        publish(&mut world, publisher, "t", payload, 2);
    }
    let identifiers: Vec<u16> = world.take(b).iter().map(|packet| identifier(packet)).collect();
    world.send(b, acknowledge(0x50, identifiers[1]));
    world.take(b);
    world.cut(b);
    let (_, packets) = back(&mut world, "b");
    assert_eq!(packets[1], acknowledge(0x62, identifiers[1]));
    let resent = [0, 2].map(|index| received(V5, &packets[index]));
    assert_eq!(resent.each_ref().map(|message| &*message.payload), [b"1", b"3"]);
    assert_eq!(packets.len(), 3);
}

#[test]
fn mqtt5_4_3_3_7() {
    for qos in [1, 2] {
        let (mut world, publisher, b) = two(qos);
        let message = |payload| Publish::new(V5, "t", payload).qos(qos, 7).property(&[0x02, 0, 0, 0, 5]);
        world.send(publisher, message(b"sent").bytes());
        world.send(publisher, acknowledge(0x62, 7));
        assert_eq!(take_payloads(&mut world, b), [b"sent"]);
        world.cut(b);
        world.send(publisher, message(b"never sent").bytes());
        world.pass_seconds(10);
        let (_, packets) = back(&mut world, "b");
        assert_eq!(payloads(&packets), [b"sent"]);
    }
}

#[test]
fn mqtt5_4_3_3_8() {
    let (mut world, publisher, b) = two(2);
    for identifier in [1, 0x1234, u16::MAX] {
        let pubrec = world.ask(publisher, Publish::new(V5, "t", b"m").qos(2, identifier).bytes());
        assert_eq!(pubrec, acknowledge(0x50, identifier));
        assert_eq!(take_payloads(&mut world, b), [b"m"]);
    }
    // Once it has been answered, the broker alone is responsible for it: it needs no PUBREL in order to arrive.
    world.cut(b);
    world.send(publisher, Publish::new(V5, "t", b"owned").qos(2, 2).bytes());
    world.cut(publisher);
    assert_eq!(payloads(&back(&mut world, "b").1).last().unwrap(), b"owned");
}

#[test]
fn mqtt5_4_3_3_9() {
    let mut world = guarded_world();
    let publisher = client(&mut world, "publisher");
    let b = subscriber(&mut world, "b", "t", 2);
    let refused = world.ask(publisher, Publish::new(V5, "secret", b"no").qos(2, 7).bytes());
    assert_eq!((refused[0], refused[4]), (0x50, 0x87));
    let taken = world.ask(publisher, Publish::new(V5, "t", b"yes").qos(2, 7).dup().bytes());
    assert_eq!(taken, acknowledge(0x50, 7));
    assert_eq!(take_payloads(&mut world, b), [b"yes"]);
}

#[test]
fn mqtt5_4_3_3_10() {
    let mut world = World::new();
    let b = subscriber(&mut world, "b", "t", 2);
    let (mut a, ..) = arrive(&mut world, &persistent("a"));
    let message = Publish::new(V5, "t", b"m").qos(2, 7);
    let mut pubrecs = Vec::new();
    for is_cut in [false, true, true] {
        pubrecs.push(world.ask(a, message.bytes()));
        pubrecs.push(world.ask(a, message.clone().dup().bytes()));
        if is_cut {
            world.cut(a);
            (a, _) = back(&mut world, "a");
        }
    }
    assert_eq!(pubrecs, vec![acknowledge(0x50, 7); 6]);
    assert_eq!(take_payloads(&mut world, b), [b"m"]);
    // Another identifier is another message; a message without recipients is remembered as well.
    assert_eq!(world.ask(a, message.qos(2, 8).bytes()), acknowledge(0x50, 8));
    assert_eq!(take_payloads(&mut world, b), [b"m"]);
    let unwanted = Publish::new(V5, "u", b"m").qos(2, 9).bytes();
    assert_eq!(world.ask(a, &unwanted), acknowledge_with(0x50, 9, 0x10));
    assert_eq!(world.ask(a, &unwanted), acknowledge(0x50, 9));
    let _late = subscriber(&mut world, "late", "u", 2);
    assert_eq!(world.ask(a, acknowledge(0x62, 9)), acknowledge(0x70, 9));
}

/// A repeat on a new connection binds its Topic Alias for the messages that follow.
#[test]
fn mqtt5_4_3_3_10_with_an_alias() {
    let mut world = World::new();
    let b = subscriber(&mut world, "b", "t", 2);
    let (a, ..) = arrive(&mut world, &persistent("a"));
    let message = Publish::new(V5, "t", b"m").qos(2, 7).property(&[0x23, 0, 1]);
    assert_eq!(world.ask(a, message.bytes()), acknowledge(0x50, 7));
    world.cut(a);
    let (a, _) = back(&mut world, "a");
    assert_eq!(world.ask(a, message.dup().bytes()), acknowledge(0x50, 7));
    world.send(a, Publish::new(V5, "", b"next").property(&[0x23, 0, 1]).bytes());
    assert_silent(&mut world, a);
    assert_eq!(take_payloads(&mut world, b), [&b"m"[..], b"next"]);
    assert_broken(&mut world, a, Publish::new(V5, "", b"m").qos(2, 7).property(&[0x23, 0, 2]).bytes(), 0x82);
}

#[test]
fn mqtt5_4_3_3_11() {
    let mut world = World::new();
    let (a, ..) = arrive(&mut world, &persistent("a"));
    for identifier in [1, 0x1234, u16::MAX] {
        world.ask(a, Publish::new(V5, "t", b"m").qos(2, identifier).bytes());
    }
    assert_eq!(world.ask(a, acknowledge(0x62, 0x1234)), acknowledge(0x70, 0x1234));
    world.cut(a);
    let (a, _) = back(&mut world, "a");
    for identifier in [1, u16::MAX] {
        assert_eq!(world.ask(a, acknowledge(0x62, identifier)), acknowledge(0x70, identifier));
    }
    // The PUBCOMP may have been lost, so there is another one.
    let again = world.ask(a, acknowledge(0x62, 1));
    assert_eq!((again[0], &again[2..5]), (0x70, &[0, 1, 0x92][..]));
}

#[test]
fn mqtt5_4_3_3_12() {
    let (mut world, publisher, b) = two(2);
    let message = Publish::new(V5, "t", b"m").qos(2, 7);
    for packet in [message.clone(), message.clone(), message.dup()] {
        assert_eq!(world.ask(publisher, packet.bytes()), acknowledge(0x50, 7));
        assert_eq!(world.ask(publisher, acknowledge(0x62, 7)), acknowledge(0x70, 7));
        let received = take_publish(&mut world, b);
        assert_eq!((received.dup, &*received.payload), (false, &b"m"[..]));
    }
}

#[test]
fn mqtt5_4_3_3_13() {
    let (mut world, publisher, b) = two(2);
    let message = Publish::new(V5, "t", b"m").qos(2, 7).property(&[0x02, 0, 0, 0, 5]).bytes();
    assert_eq!(world.ask(publisher, &message), acknowledge(0x50, 7));
    let identifier = take_publish(&mut world, b).packet_identifier.unwrap();
    world.pass_seconds(10);
    assert_eq!(world.ask(publisher, &message), acknowledge(0x50, 7));
    assert_silent(&mut world, b);
    assert_eq!(world.ask(publisher, acknowledge(0x62, 7)), acknowledge(0x70, 7));
    assert_eq!(world.ask(b, acknowledge(0x50, identifier)), acknowledge(0x62, identifier));
    world.send(b, acknowledge(0x70, identifier));
    assert_silent(&mut world, b);
    // A message that expired before the PUBLISH was sent leaves no handshake.
    world.cut(b);
    assert_eq!(world.ask(publisher, &message), acknowledge(0x50, 7));
    world.pass_seconds(10);
    assert_eq!(world.ask(publisher, acknowledge(0x62, 7)), acknowledge(0x70, 7));
    assert_eq!(back(&mut world, "b").1, [[0; 0]; 0]);
}

/// A subscriber with an unacknowledged PUBLISH of QoS 1, one of QoS 2 and a PUBREL; returns these packets as they are
/// sent again.
fn unfinished(world: &mut World) -> (Peer, Vec<Vec<u8>>) {
    let publisher = client(world, "publisher");
    let b = persistent_subscriber(world, "b", "t", 2);
    for (payload, qos) in [(b"a", 1), (b"b", 2), (b"c", 2), (b"d", 1)] {
        publish(world, publisher, "t", payload, qos);
    }
    let mut packets = world.take(b);
    let released = identifier(&packets[1]);
    packets[1] = world.ask(b, acknowledge(0x50, released));
    world.send(b, acknowledge(0x40, identifier(&packets.pop().expect("four packets"))));
    for index in [0, 2] {
        packets[index][0] |= 0x08;
    }
    (b, packets)
}

#[test]
fn mqtt5_4_4_0_1() {
    let mut world = World::new();
    let (b, expected) = unfinished(&mut world);
    world.cut(b);
    world.pass_seconds(10);
    let (b, packets) = back(&mut world, "b");
    assert_eq!(packets, expected);
    // The same if the session is taken over while the old connection is open.
    let (taker, packets) = back(&mut world, "b");
    assert_eq!(packets, expected);
    assert!(world.is_closed(b));
    world.send(taker, DISCONNECT);
    assert_eq!(back(&mut world, "b").1, expected);
}

#[test]
fn mqtt5_4_4_0_1_at_no_other_time() {
    let mut world = World::new();
    let (b, _) = unfinished(&mut world);
    for _ in 0..10 {
        world.pass_seconds(1000);
        assert_eq!(world.ask(b, PINGREQ), PINGRESP);
    }
    let (_, is_present, packets) = arrive(&mut world, &Connect::new(V5, "b").expiry(1000));
    assert!(!is_present && packets.is_empty(), "a Clean Start: {packets:02x?}");
}

/// The new connection's Receive Maximum also limits what is sent again; a PUBREL does not count.
#[test]
fn mqtt5_4_4_0_1_with_receive_maximum() {
    let mut world = World::new();
    let (b, expected) = unfinished(&mut world);
    world.cut(b);
    let (b, _, packets) = arrive(&mut world, &persistent("b").property(&[0x21, 0, 1]));
    assert_eq!(packets, expected[..2]);
    world.send(b, acknowledge(0x40, identifier(&expected[0])));
    world.send(b, acknowledge(0x70, u16::from_be_bytes([expected[1][2], expected[1][3]])));
    assert_eq!(world.take(b), expected[2..]);
}

/// A message that has become too large for the client counts as delivered and holds nothing up [MQTT-3.1.2-25].
#[test]
fn mqtt5_4_4_0_1_too_large_now() {
    for qos in [1, 2] {
        let (mut world, publisher, b) = two(qos);
        publish(&mut world, publisher, "t", &[0; 100], qos);
        publish(&mut world, publisher, "t", b"m", qos);
        world.take(b);
        world.cut(b);
        let limits = [0x21, 0, 1, 0x27, 0, 0, 0, 50];
        let (b, _, packets) = arrive(&mut world, &persistent("b").property(&limits));
        assert_eq!(payloads(&packets), [b"m"]);
        world.cut(b);
        assert_eq!(payloads(&back(&mut world, "b").1), [b"m"]);
    }
}

#[test]
fn mqtt5_4_4_0_2() {
    for code in [0x80, 0x83, 0x87, 0x90, 0x97, 0x99] {
        for (qos, first_byte) in [(1, 0x40), (2, 0x50)] {
            let (mut world, publisher, b) = two(qos);
            publish(&mut world, publisher, "t", b"m", qos);
            let identifier = take_publish(&mut world, b).packet_identifier.unwrap();
            world.send(b, acknowledge_with(first_byte, identifier, code));
            assert_silent(&mut world, b);
            world.cut(b);
            assert_eq!(back(&mut world, "b").1, [[0; 0]; 0]);
        }
    }
}
