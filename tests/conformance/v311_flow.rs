//! Chapters 4.3, 4.5 and 4.6: the exchanges of each QoS, the recipients of a message, and the order of messages.

use crate::v311::*;
use crate::wire::*;
use crate::world::{Peer, World};

/// Publishes without finishing an exchange before the next begins; returns the answers.
fn send_all(world: &mut World, publisher: Peer, publishes: &[(&str, &str, u8)]) -> Vec<Vec<u8>> {
    let mut bytes = Vec::new();
    for (identifier, (topic, payload, qos)) in (1..).zip(publishes) {
        let publish = Publish::new(V311, topic, payload.as_bytes());
        bytes.extend(if *qos == 0 { publish.bytes() } else { publish.qos(*qos, identifier).bytes() });
    }
    world.send(publisher, bytes);
    world.take(publisher)
}

/// Answers everything that has come and comes, until nothing more does; returns the messages in order.
fn take_all(world: &mut World, peer: Peer, mut packets: Vec<Vec<u8>>) -> Vec<Received> {
    let mut seen = Vec::new();
    while !packets.is_empty() {
        let mut answers = Vec::new();
        for packet in &packets {
            if packet[0] == 0x62 {
                answers.extend([&[0x70], &packet[1..]].concat());
                continue;
            }
            let message = received(V311, packet);
            if let Some(identifier) = message.packet_identifier {
                answers.extend(acknowledge(if message.qos == 1 { 0x40 } else { 0x50 }, identifier));
            }
            seen.push(message);
        }
        world.send(peer, answers);
        packets = world.take(peer);
    }
    seen
}

#[test]
fn mqtt311_4_3_1_1() {
    let mut world = World::new();
    let peer = persistent_subscriber(&mut world, "peer", "t", 0);
    for qos in 0..=2 {
        publish(&mut world, "t", b"x", qos);
        assert_eq!(world.take_one(peer), [0x30, 4, 0, 1, b't', b'x']);
    }
    // It was sent at most once: neither time nor another connection brings it again.
    world.pass_seconds(1000);
    assert_quiet(&mut world, peer, "QoS 0");
    let (_, _, packets) = back(&mut world, "peer");
    assert!(packets.is_empty());
}

#[test]
fn mqtt311_4_3_2_1() {
    let mut world = World::new();
    let peer = persistent_subscriber(&mut world, "peer", "t", 1);
    for identifier in 1..=3 {
        publish(&mut world, "t", b"x", 1);
        assert_eq!(world.take_one(peer), Publish::new(V311, "t", b"x").qos(1, identifier).bytes());
    }
    // A PUBACK acknowledges the message with its identifier; an unknown one changes nothing.
    for identifier in [2, 2, 9, 65_535] {
        world.send(peer, acknowledge(0x40, identifier));
        assert_quiet(&mut world, peer, "PUBACK");
    }
    let (peer, _, packets) = back(&mut world, "peer");
    let again = [1, 3].map(|identifier| Publish::new(V311, "t", b"x").qos(1, identifier).dup().bytes());
    assert_eq!(packets, again);
    world.send(peer, [acknowledge(0x40, 1), acknowledge(0x40, 3)].concat());
    let (peer, _, packets) = back(&mut world, "peer");
    assert!(packets.is_empty());
    publish(&mut world, "t", b"x", 1);
    assert_eq!(world.take_one(peer)[0], 0x32);
}

#[test]
fn mqtt311_4_3_2_2() {
    let mut world = World::new();
    let watcher = subscriber(&mut world, "watcher", "t", 0);
    let peer = client(&mut world, "peer");
    for payload in ["1", "2", "3"] {
        for publish in [
            Publish::new(V311, "t", payload.as_bytes()).qos(1, 7),
            Publish::new(V311, "t", payload.as_bytes()).qos(1, 7).dup(),
        ] {
            assert_eq!(world.ask(peer, publish.bytes()), acknowledge(0x40, 7));
            assert_eq!(payloads(&mut world, watcher), [payload], "a new message, whatever DUP says");
        }
    }
}

#[test]
fn mqtt311_4_3_3_1() {
    let mut world = World::new();
    let mut peer = persistent_subscriber(&mut world, "peer", "t", 2);
    for identifier in 1..=2 {
        publish(&mut world, "t", b"x", 2);
        assert_eq!(world.take_one(peer), Publish::new(V311, "t", b"x").qos(2, identifier).bytes());
    }
    // Until the PUBREC, the PUBLISH is unacknowledged, from then on the PUBREL.
    let again = |identifier| Publish::new(V311, "t", b"x").qos(2, identifier).dup().bytes();
    let mut expected = [again(1), again(2)];
    for identifier in [2, 1] {
        let packets;
        (peer, _, packets) = back(&mut world, "peer");
        assert_eq!(packets, expected);
        assert_eq!(world.ask(peer, acknowledge(0x50, identifier)), acknowledge(0x62, identifier));
        expected[usize::from(identifier) - 1] = acknowledge(0x62, identifier);
        // A second PUBREC asks for the PUBREL again.
        assert_eq!(world.ask(peer, acknowledge(0x50, identifier)), acknowledge(0x62, identifier));
    }
    let packets;
    (peer, _, packets) = back(&mut world, "peer");
    assert_eq!(packets, expected);
    world.send(peer, [acknowledge(0x70, 2), acknowledge(0x70, 1)].concat());
    assert_quiet(&mut world, peer, "PUBCOMP");
    let (_, _, packets) = back(&mut world, "peer");
    assert!(packets.is_empty());
}

/// An answer of the wrong kind is a violation, not an acknowledgement: the message comes again.
#[test]
fn mqtt311_4_3_3_1_wrong_answers() {
    for (qos, answer) in [(1, 0x50), (1, 0x70), (2, 0x40), (2, 0x70)] {
        let mut world = World::new();
        let peer = persistent_subscriber(&mut world, "peer", "t", 2);
        publish(&mut world, "t", b"x", qos);
        assert_eq!(world.take(peer).len(), 1);
        world.send(peer, acknowledge(answer, 1));
        assert_closed_silently(&mut world, peer, &format!("QoS {qos} answered by {answer:02x}"));
        let (_, _, packets) = back(&mut world, "peer");
        assert_eq!(packets, [Publish::new(V311, "t", b"x").qos(qos, 1).dup().bytes()]);
    }
}

#[test]
fn mqtt311_4_3_3_2() {
    let mut world = World::new();
    let watcher = subscriber(&mut world, "watcher", "#", 2);
    let peer = client(&mut world, "peer");
    let publish = |topic, payload: &[u8]| Publish::new(V311, topic, payload).qos(2, 7);
    for round in 1..=3 {
        assert_eq!(world.ask(peer, publish("t", b"x").bytes()), acknowledge(0x50, 7));
        assert_eq!(message(&mut world, watcher).packet_identifier, Some(round));
        // Everything with this identifier is the same message, until it is released.
        for repeat in [publish("t", b"x").dup(), publish("t", b"x"), publish("other", b"else").dup().retain()]
        {
            assert_eq!(world.ask(peer, repeat.bytes()), acknowledge(0x50, 7));
        }
        assert_eq!(world.ask(peer, acknowledge(0x62, 7)), acknowledge(0x70, 7));
        assert_eq!(world.ask(peer, acknowledge(0x62, 7)), acknowledge(0x70, 7), "the PUBCOMP may be lost");
        assert_quiet(&mut world, watcher, "once");
    }
    assert_eq!(world.broker.census().retained, 0);
    assert_eq!(world.ask(peer, acknowledge(0x62, 999)), acknowledge(0x70, 999), "never seen");
}

/// Many at a time, released in any order; QoS 1 with the same identifier in between is independent.
#[test]
fn mqtt311_4_3_3_2_interleaved() {
    let mut world = World::new();
    let watcher = subscriber(&mut world, "watcher", "t", 0);
    let peer = client(&mut world, "peer");
    let publish = |qos, identifier| Publish::new(V311, "t", b"x").qos(qos, identifier).bytes();
    for identifier in [5, 1, 65_535, 3] {
        assert_eq!(world.ask(peer, publish(2, identifier)), acknowledge(0x50, identifier));
    }
    assert_eq!(messages(&mut world, watcher).len(), 4);
    for identifier in [3, 5, 65_535, 1] {
        assert_eq!(world.ask(peer, acknowledge(0x62, identifier)), acknowledge(0x70, identifier));
        for other in [1, 3, 5, 65_535] {
            assert_eq!(world.ask(peer, publish(2, other)), acknowledge(0x50, other));
        }
        assert_eq!(messages(&mut world, watcher).len(), 1, "only {identifier} was new");
    }
    assert_eq!(world.ask(peer, publish(1, 7)), acknowledge(0x40, 7));
    assert_eq!(world.ask(peer, publish(2, 7)), acknowledge(0x50, 7));
    assert_eq!(messages(&mut world, watcher).len(), 2);
}

/// The identifiers of different clients are independent.
#[test]
fn mqtt311_4_3_3_2_of_each_client() {
    let mut world = World::new();
    let watcher = subscriber(&mut world, "watcher", "t", 0);
    for name in ["one", "other"] {
        let peer = client(&mut world, name);
        assert_eq!(world.ask(peer, Publish::new(V311, "t", b"x").qos(2, 7).bytes()), acknowledge(0x50, 7));
        assert_eq!(messages(&mut world, watcher).len(), 1, "{name}");
    }
}

/// Every client with a matching filter gets it: connected or not, of any version, including the publisher.
#[test]
fn mqtt311_4_5_0_1() {
    for qos in 0..=2 {
        let mut world = World::new();
        let publisher = subscriber(&mut world, "publisher", "t/+", 2);
        let clean = subscriber(&mut world, "clean", "t/#", 2);
        let persistent = persistent_subscriber(&mut world, "kept", "t/a", 2);
        let away = persistent_subscriber(&mut world, "away", "+/a", 2);
        world.cut(away);
        let older = world.connect(Connect::new(V31, "older").bytes());
        world.ask(older, subscribe(V31, 1, &[], &[("t/a", 2)]));
        let newer = world.connect(Connect::new(V5, "newer").bytes());
        world.ask(newer, subscribe(V5, 1, &[], &[("t/a", 2)]));
        let other = subscriber(&mut world, "other", "t/b", 2);
        let publish = Publish::new(V311, "t/a", b"x");
        world.send(publisher, if qos == 0 { publish.bytes() } else { publish.qos(qos, 7).bytes() });
        let own = world.take(publisher);
        let own: Vec<_> = own.iter().filter(|packet| packet[0] >> 4 == 3).collect();
        assert_eq!(own.len(), 1, "QoS {qos}");
        for (peer, level) in [(clean, V311), (persistent, V311), (older, V31), (newer, V5)] {
            let message = received(level, &world.take_one(peer));
            assert_eq!((message.topic.as_str(), &message.payload[..], message.qos), ("t/a", &b"x"[..], qos));
        }
        let (_, _, packets) = back(&mut world, "away");
        assert_eq!(packets.len(), usize::from(qos > 0));
        assert_quiet(&mut world, other, "its filter does not match");
    }
}

/// A client that does not acknowledge gets no more than may be in flight, and the rest once it does.
#[test]
fn mqtt311_4_5_0_2() {
    for qos in [1, 2] {
        let mut world = World::with_limits(|limits| limits.in_flight = 3);
        let peer = subscriber(&mut world, "peer", "t", 2);
        let publisher = client(&mut world, "publisher");
        let texts: Vec<String> = (0..10).map(|number| number.to_string()).collect();
        let publishes: Vec<_> = texts.iter().map(|text| ("t", text.as_str(), qos)).collect();
        send_all(&mut world, publisher, &publishes);
        let first = world.take(peer);
        assert_eq!(first.len(), 3);
        world.send(peer, PINGREQ);
        assert_eq!(world.take(peer), [PINGRESP], "nothing more, but it is served");
        let seen = take_all(&mut world, peer, first);
        let seen: Vec<_> =
            seen.iter().map(|message| std::str::from_utf8(&message.payload).expect("text")).collect();
        assert_eq!(seen, texts);
    }
}

/// Messages that a client sends again on a new connection are forwarded in the order in which they come.
#[test]
fn mqtt311_4_6_0_1() {
    let mut world = World::new();
    let watcher = subscriber(&mut world, "watcher", "t", 0);
    let peer = persistent_client(&mut world, "peer");
    let publish = |payload: &[u8], qos, identifier| Publish::new(V311, "t", payload).qos(qos, identifier);
    world.send(peer, publish(b"1", 2, 1).bytes());
    world.cut(peer);
    let (peer, ..) = back(&mut world, "peer");
    let again = [publish(b"1", 2, 1), publish(b"2", 1, 2), publish(b"3", 2, 3)];
    world.send(peer, again.map(|publish| publish.dup().bytes()).concat());
    assert_eq!(payloads(&mut world, watcher), ["1", "2", "3"]);
}

#[test]
fn mqtt311_4_6_0_2() {
    let mut world = World::new();
    let peer = client(&mut world, "peer");
    let identifiers = [9, 3, 65_535, 1, 4];
    let publish = |identifier| Publish::new(V311, "t", b"x").qos(1, identifier).bytes();
    world.send(peer, identifiers.map(publish).concat());
    assert_eq!(world.take(peer), identifiers.map(|identifier| acknowledge(0x40, identifier)));
}

#[test]
fn mqtt311_4_6_0_3() {
    let mut world = World::new();
    let peer = client(&mut world, "peer");
    let identifiers = [9, 3, 65_535, 1, 4];
    let publish = |identifier| Publish::new(V311, "t", b"x").qos(2, identifier).bytes();
    world.send(peer, identifiers.map(publish).concat());
    assert_eq!(world.take(peer), identifiers.map(|identifier| acknowledge(0x50, identifier)));
}

/// The order is that of the PUBRECs, not of the messages.
#[test]
fn mqtt311_4_6_0_4() {
    let mut world = World::new();
    let peer = subscriber(&mut world, "peer", "t", 2);
    for _ in 0..4 {
        publish(&mut world, "t", b"x", 2);
    }
    assert_eq!(messages(&mut world, peer).len(), 4);
    let identifiers = [3, 1, 4, 2];
    world.send(peer, identifiers.map(|identifier| acknowledge(0x50, identifier)).concat());
    assert_eq!(world.take(peer), identifiers.map(|identifier| acknowledge(0x62, identifier)));
}

/// Every topic is ordered, with and without wildcards, for every subscriber.
#[test]
fn mqtt311_4_6_0_5() {
    for qos in 0..=2 {
        let mut world = World::new();
        let texts: Vec<String> = (0..40).map(|number| number.to_string()).collect();
        let peers = ["a/b", "a/+", "#", "a/#"].map(|filter| subscriber(&mut world, filter, filter, qos));
        let publisher = client(&mut world, "publisher");
        let publishes: Vec<_> = texts.iter().map(|text| ("a/b", text.as_str(), qos)).collect();
        send_all(&mut world, publisher, &publishes);
        for peer in peers {
            assert_eq!(payloads(&mut world, peer), texts);
        }
    }
}

/// Per publisher, topic and QoS, for a connected receiver, one whose socket is stalled, a disconnected one, and one
/// that allows few in flight.
#[test]
fn mqtt311_4_6_0_6() {
    let texts: Vec<String> = (0..60).map(|number| number.to_string()).collect();
    let topics = ["a", "b", "c"];
    let publishes: Vec<(&str, &str, u8)> = (0_u8..60)
        .zip(&texts)
        .map(|(n, text)| (topics[usize::from(n % 3)], text.as_str(), n / 3 % 3))
        .collect();
    let mut world = World::with_limits(|limits| limits.in_flight = 5);
    let here = subscriber(&mut world, "here", "+", 2);
    let stalled = subscriber(&mut world, "stalled", "#", 2);
    world.stall(stalled, true);
    let away = persistent_subscriber(&mut world, "away", "+", 2);
    world.cut(away);
    let publishers = ["one", "other"].map(|name| client(&mut world, name));
    for publisher in publishers {
        send_all(&mut world, publisher, &publishes);
    }
    let packets = world.take(here);
    let to_here = take_all(&mut world, here, packets);
    world.stall(stalled, false);
    let packets = world.take(stalled);
    let to_stalled = take_all(&mut world, stalled, packets);
    let (away, _, packets) = back(&mut world, "away");
    let to_away = take_all(&mut world, away, packets);
    for (what, seen, lowest) in [("here", to_here, 0), ("stalled", to_stalled, 0), ("away", to_away, 1)] {
        for topic in topics {
            for qos in lowest..=2 {
                let of = |publish: &&(&str, &str, u8)| publish.0 == topic && publish.2 == qos;
                let sent: Vec<&[u8]> =
                    publishes.iter().filter(of).map(|publish| publish.1.as_bytes()).collect();
                let came: Vec<&[u8]> = seen
                    .iter()
                    .filter(|message| message.topic == topic && message.qos == qos)
                    .map(|message| &message.payload[..])
                    .collect();
                assert_eq!(came, sent.repeat(2), "{what} {topic} QoS {qos}");
            }
        }
    }
}
