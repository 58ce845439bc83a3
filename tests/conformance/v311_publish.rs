//! Chapters 3.3 and 3.6: the contents of a PUBLISH, RETAIN, and the answers to it.

use brooklet::core::access::{Client, Question, Verdict};
use brooklet::core::limits::Limits;
use brooklet::protocol::codec::ReasonCode;

use crate::v311::*;
use crate::wire::*;
use crate::world::World;

/// What a new subscription gets after its SUBACK, as (topic, payload, QoS); all of it with RETAIN.
fn retained(world: &mut World, filter: &str, qos: u8) -> Vec<(String, String, u8)> {
    let peer = client(world, "late");
    world.send(peer, subscribe(V311, 1, &[], &[(filter, qos)]));
    let packets = world.take(peer);
    assert_eq!(packets[0][0], 0x90);
    world.send(peer, DISCONNECT);
    let mut found = Vec::new();
    for message in packets[1..].iter().map(|packet| received(V311, packet)) {
        assert!(message.retain && !message.dup, "{message:?}");
        found.push((message.topic, String::from_utf8(message.payload).expect("text"), message.qos));
    }
    found.sort();
    found
}

/// As `retained` at QoS 2, the payloads only.
fn retained_payloads(world: &mut World, filter: &str) -> Vec<String> {
    retained(world, filter, 2).into_iter().map(|(_, payload, _)| payload).collect()
}

#[test]
fn mqtt311_3_3_1_1() {
    for qos in [1, 2] {
        let mut world = World::new();
        let peer = persistent_subscriber(&mut world, "peer", "t", 2);
        publish(&mut world, "t", b"x", qos);
        assert_eq!(world.take_one(peer), Publish::new(V311, "t", b"x").qos(qos, 1).bytes());
        let (_, _, packets) = back(&mut world, "peer");
        assert_eq!(packets, [Publish::new(V311, "t", b"x").qos(qos, 1).dup().bytes()]);
    }
}

/// A resend from a client is recognized by its identifier; DUP makes no difference.
#[test]
fn mqtt311_3_3_1_1_from_a_client() {
    let mut world = World::new();
    let watcher = subscriber(&mut world, "watcher", "t", 0);
    let peer = client(&mut world, "peer");
    let publish = |qos| Publish::new(V311, "t", b"x").qos(qos, 5);
    for bytes in [publish(1).dup().bytes(), publish(2).dup().bytes()] {
        world.ask(peer, bytes);
        assert_eq!(payloads(&mut world, watcher), ["x"], "the first that is seen of it");
    }
    for bytes in [publish(2).bytes(), publish(2).dup().bytes()] {
        assert_eq!(world.ask(peer, bytes), acknowledge(0x50, 5));
        assert_quiet(&mut world, watcher, "5 is not released");
    }
}

#[test]
fn mqtt311_3_3_1_2() {
    let mut world = World::new();
    let watcher = subscriber(&mut world, "watcher", "t", 0);
    let peer = client(&mut world, "peer");
    for (qos, identifier) in [(1, 5), (2, 6)] {
        world.send(peer, Publish::new(V311, "t", b"x").qos(qos, identifier).dup().bytes());
        assert_eq!(world.take_one(watcher), Publish::new(V311, "t", b"x").bytes());
    }
    for bytes in [Publish::new(V311, "t", b"x").dup(), Publish::new(V311, "t", b"x").dup().retain()] {
        let peer = client(&mut world, "peer");
        world.send(peer, bytes.bytes());
        assert_closed_silently(&mut world, peer, "DUP at QoS 0");
        assert_quiet(&mut world, watcher, "DUP at QoS 0");
    }
}

#[test]
fn mqtt311_3_3_1_3() {
    for qos in [1, 2] {
        let mut world = World::new();
        let watcher = subscriber(&mut world, "watcher", "t", 2);
        let absent = persistent_subscriber(&mut world, "absent", "t", 2);
        world.cut(absent);
        let peer = client(&mut world, "peer");
        let expected = Publish::new(V311, "t", b"x").qos(qos, 1).bytes();
        world.ask(peer, Publish::new(V311, "t", b"x").qos(qos, 5).dup().bytes());
        assert_eq!(world.take_one(watcher), expected);
        let (_, _, packets) = back(&mut world, "absent");
        assert_eq!(packets, [expected]);
        // And DUP is set on the outgoing message though it was not on the incoming one.
        world.ask(peer, Publish::new(V311, "t", b"y").qos(qos, 6).bytes());
        let (_, _, packets) = back(&mut world, "absent");
        assert_eq!(packets[1], Publish::new(V311, "t", b"y").qos(qos, 2).dup().bytes());
    }
}

#[test]
fn mqtt311_3_3_1_4() {
    let mut world = World::new();
    let watcher = subscriber(&mut world, "watcher", "#", 0);
    for flags in [0x06, 0x07, 0x0E, 0x0F] {
        let peer = client(&mut world, "peer");
        world.send(peer, packet(0x30 | flags, b"\0\x01t\0\x05x"));
        assert_closed_silently(&mut world, peer, "QoS 3");
        assert_quiet(&mut world, watcher, "QoS 3");
    }
}

#[test]
fn mqtt311_3_3_1_5() {
    for published in 0..=2 {
        for asked in 0..=2 {
            let mut world = World::new();
            retain(&mut world, "t", b"x", published);
            for _ in 0..2 {
                let found = retained(&mut world, "t", asked);
                assert_eq!(found, [("t".into(), "x".into(), published.min(asked))]);
            }
        }
    }
}

#[test]
fn mqtt311_3_3_1_6() {
    let mut world = World::new();
    for (topic, payload, qos) in [
        ("a", b"old", 2),
        ("a/b", b"ab1", 1),
        ("a/c", b"old", 0),
        ("a/c", b"ac2", 2),
        ("a", b"a22", 1),
        ("b", b"b11", 0),
        ("a/b/c", b"abc", 0),
    ] {
        retain(&mut world, topic, payload, qos);
    }
    for (filter, expected) in [
        ("a", vec!["a22"]),
        ("a/b", vec!["ab1"]),
        ("a/+", vec!["ab1", "ac2"]),
        ("a/#", vec!["a22", "ab1", "abc", "ac2"]),
        ("+", vec!["a22", "b11"]),
        ("#", vec!["a22", "ab1", "abc", "ac2", "b11"]),
        ("+/+/c", vec!["abc"]),
        ("c/#", vec![]),
    ] {
        assert_eq!(retained_payloads(&mut world, filter), expected, "{filter}");
    }
}

/// More than the broker examines or sends at a time, through a window of 512.
#[test]
fn mqtt311_3_3_1_6_many() {
    let mut world = World::new();
    let publisher = client(&mut world, "publisher");
    let publish = |number: u32| Publish::new(V311, &format!("t/{number}"), b"x").retain().bytes();
    world.send(publisher, (0..1200).flat_map(publish).collect::<Vec<u8>>());
    assert_eq!(retained(&mut world, "t/+", 0).len(), 1200);
    let one = |number: u32| Publish::new(V311, &format!("t/{number}"), b"x").retain().qos(1, 1).bytes();
    world.send(publisher, (0..1200).flat_map(one).collect::<Vec<u8>>());
    let peer = client(&mut world, "peer");
    world.send(peer, subscribe(V311, 1, &[], &[("t/+", 1)]));
    let mut packets = world.take(peer);
    packets.remove(0);
    let mut topics = std::collections::BTreeSet::new();
    while !packets.is_empty() {
        let mut answers = Vec::new();
        for message in packets.iter().map(|packet| received(V311, packet)) {
            answers.extend(acknowledge(0x40, message.packet_identifier.expect("QoS 1")));
            assert!(message.retain && topics.insert(message.topic), "each of them once");
        }
        world.send(peer, answers);
        packets = world.take(peer);
    }
    assert_eq!(topics.len(), 1200);
}

#[test]
fn mqtt311_3_3_1_7() {
    for former in [1, 2] {
        let mut world = World::new();
        retain(&mut world, "t", b"former", former);
        retain(&mut world, "t", b"new", 0);
        assert_eq!(retained(&mut world, "t", 2), [("t".into(), "new".into(), 0)]);
    }
}

#[test]
fn mqtt311_3_3_1_8() {
    for qos in 0..=2 {
        let mut world = World::new();
        retain(&mut world, "t", b"x", qos);
        let peer = client(&mut world, "peer");
        world.send(peer, subscribe(V311, 1, &[], &[("t", 2)]));
        let expected = Publish::new(V311, "t", b"x").retain();
        let expected = if qos == 0 { expected } else { expected.qos(qos, 1) };
        assert_eq!(world.take(peer), [vec![0x90, 3, 0, 1, 2], expected.bytes()]);
    }
}

#[test]
fn mqtt311_3_3_1_9() {
    for qos in 0..=2 {
        let mut world = World::new();
        let here = subscriber(&mut world, "here", "t", 2);
        let away = persistent_subscriber(&mut world, "away", "t", 2);
        world.cut(away);
        retain(&mut world, "t", b"x", qos);
        let expected = Publish::new(V311, "t", b"x");
        let expected = if qos == 0 { expected } else { expected.qos(qos, 1) };
        assert_eq!(world.take_one(here), expected.bytes());
        let (_, _, packets) = back(&mut world, "away");
        assert_eq!(packets, if qos == 0 { vec![] } else { vec![expected.bytes()] });
    }
}

#[test]
fn mqtt311_3_3_1_10() {
    for qos in 0..=2 {
        let mut world = World::new();
        retain(&mut world, "t", b"x", 1);
        retain(&mut world, "t/u", b"y", 1);
        let watcher = client(&mut world, "watcher");
        world.send(watcher, subscribe(V311, 1, &[], &[("t", 0)]));
        assert_eq!(world.take(watcher).len(), 2);
        retain(&mut world, "t", b"", qos);
        // It is also a message for connected subscribers.
        assert_eq!(world.take_one(watcher), Publish::new(V311, "t", b"").bytes());
        assert_eq!(retained_payloads(&mut world, "#"), ["y"]);
    }
}

#[test]
fn mqtt311_3_3_1_11() {
    for qos in 0..=2 {
        let mut world = World::new();
        retain(&mut world, "t", b"", qos);
        assert_eq!(world.broker.census().retained, 0);
        assert!(retained(&mut world, "#", 2).is_empty());
    }
}

#[test]
fn mqtt311_3_3_1_12() {
    for qos in 0..=2 {
        let mut world = World::new();
        retain(&mut world, "t", b"kept", 1);
        for payload in [&b"passing"[..], b""] {
            publish(&mut world, "t", payload, qos);
            publish(&mut world, "u", payload, qos);
            assert_eq!(retained(&mut world, "#", 2), [("t".into(), "kept".into(), 1)]);
        }
    }
}

#[test]
fn mqtt311_3_3_2_1() {
    let mut world = World::new();
    let watcher = subscriber(&mut world, "watcher", "#", 0);
    for (qos, body) in [
        (0, &b""[..]),
        (0, b"\0"),
        (0, b"\0\x05t"),
        (0, b"\xFF\xFFt"),
        (1, b"\0\x01t"),
        (1, b"\0\x01t\0"),
        (2, b"\0\x01t\0"),
        (0, b"\0\x01\xFF"),
        (1, b"\0\x03\xED\xA0\x80\0\x01"),
        (0, b"\0\x01\0"),
    ] {
        let peer = client(&mut world, "peer");
        world.send(peer, packet(0x30 | qos << 1, body));
        assert_closed_silently(&mut world, peer, &format!("{body:02x?}"));
        assert_quiet(&mut world, watcher, "no topic");
    }
}

#[test]
fn mqtt311_3_3_2_2() {
    let mut world = World::new();
    let watcher = subscriber(&mut world, "watcher", "#", 0);
    for topic in ["#", "+", "a/#", "a/+", "+/a", "a/+/b", "a+", "a#b", "/#"] {
        for qos in 0..=2 {
            let peer = client(&mut world, "peer");
            let publish = Publish::new(V311, topic, b"x").retain();
            world.send(peer, if qos == 0 { publish.bytes() } else { publish.qos(qos, 1).bytes() });
            assert_closed_silently(&mut world, peer, topic);
            assert_quiet(&mut world, watcher, topic);
        }
    }
    assert_eq!(world.broker.census().retained, 0);
}

/// Every delivered message has the topic that was published to, never the filter, whichever path it takes.
#[test]
fn mqtt311_3_3_2_3() {
    for topic in ["sport/tennis/player1", "sport/", "sport//x", "sport/ü€𝄞"] {
        let mut world = World::new();
        let (here, away) = (client(&mut world, "here"), persistent_client(&mut world, "away"));
        listen(&mut world, here, "sport/#", 1);
        listen(&mut world, away, "sport/#", 1);
        world.cut(away);
        retain(&mut world, topic, b"", 1);
        retain(&mut world, topic, b"x", 1);
        assert!(messages(&mut world, here).iter().all(|message| message.topic == topic));
        let (_, _, packets) = back(&mut world, "away");
        assert!(packets.iter().all(|packet| received(V311, packet).topic == topic));
        assert_eq!((packets.len(), retained(&mut world, "sport/#", 0)[0].0.as_str()), (2, topic));
    }
}

#[test]
fn mqtt311_3_3_4_1() {
    // With a recipient and without one.
    for filter in ["t", "other"] {
        let mut world = World::new();
        subscriber(&mut world, "watcher", filter, 0);
        let peer = client(&mut world, "peer");
        world.send(peer, Publish::new(V311, "t", b"x").bytes());
        assert_quiet(&mut world, peer, "QoS 0");
        assert_eq!(world.ask(peer, Publish::new(V311, "t", b"x").qos(1, 5).bytes()), [0x40, 2, 0, 5]);
        assert_eq!(world.ask(peer, Publish::new(V311, "t", b"x").qos(2, 6).bytes()), [0x50, 2, 0, 6]);
        assert_eq!(world.ask(peer, acknowledge(0x62, 6)), [0x70, 2, 0, 6]);
    }
}

#[test]
fn mqtt311_3_3_5_1() {
    let filters = ["t/a", "t/+", "t/#", "#", "+/a"];
    for published in 0..=2 {
        for highest in 0..filters.len() {
            let mut world = World::new();
            let peer = client(&mut world, "peer");
            for (index, filter) in filters.into_iter().enumerate() {
                listen(&mut world, peer, filter, if index == highest { 2 } else { u8::from(index % 2 == 0) });
            }
            publish(&mut world, "t/a", b"x", published);
            assert_eq!(message(&mut world, peer).qos, published);
        }
    }
}

/// A client that may not publish is answered as if it might; the message reaches no one.
#[test]
fn mqtt311_3_3_5_2() {
    let rule = |_: &Client<'_>, question: Question<'_>| match question {
        Question::Publish { topic, .. } if topic.as_str() == "forbidden" => {
            Verdict::Refused(ReasonCode::NotAuthorized)
        }
        _ => Verdict::Granted,
    };
    let mut world = World::with(Limits::default(), Rule(rule));
    let watcher = subscriber(&mut world, "watcher", "#", 2);
    let peer = client(&mut world, "peer");
    let publish = Publish::new(V311, "forbidden", b"x").retain();
    world.send(peer, publish.bytes());
    assert_quiet(&mut world, peer, "QoS 0");
    assert_eq!(world.ask(peer, publish.clone().qos(1, 5).bytes()), acknowledge(0x40, 5));
    assert_eq!(world.ask(peer, publish.qos(2, 6).bytes()), acknowledge(0x50, 6));
    assert_eq!(world.ask(peer, acknowledge(0x62, 6)), acknowledge(0x70, 6));
    assert_quiet(&mut world, watcher, "it was forbidden");
    assert_eq!(world.broker.census().retained, 0);
    world.send(peer, Publish::new(V311, "allowed", b"x").bytes());
    assert_eq!(payloads(&mut world, watcher), ["x"]);
}

#[test]
fn mqtt311_3_6_1_1() {
    let mut world = World::new();
    for flags in 0..16 {
        let peer = client(&mut world, "peer");
        assert_eq!(world.ask(peer, Publish::new(V311, "t", b"x").qos(2, 6).bytes()), acknowledge(0x50, 6));
        world.send(peer, acknowledge(0x60 | flags, 6));
        if flags == 0b0010 {
            assert_eq!(world.take_one(peer), acknowledge(0x70, 6));
        } else {
            assert_closed_silently(&mut world, peer, &format!("PUBREL with flags {flags:04b}"));
        }
    }
}
