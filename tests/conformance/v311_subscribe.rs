//! Chapters 3.8 to 3.12: SUBSCRIBE, UNSUBSCRIBE and PINGREQ with their answers.

use brooklet::core::access::{Client, Question, Verdict};
use brooklet::core::limits::Limits;
use brooklet::protocol::codec::{QoS, ReasonCode};

use crate::v311::*;
use crate::wire::*;
use crate::world::World;

/// Asserts that the packet closes the connection, is not answered, and that none of its filters took effect.
#[track_caller]
fn assert_refused(bytes: &[u8]) {
    let mut world = World::new();
    let peer = persistent_subscriber(&mut world, "peer", "held", 1);
    world.send(peer, bytes);
    assert_closed_silently(&mut world, peer, &format!("{bytes:02x?}"));
    assert_eq!(world.broker.census().subscriptions, 1, "{bytes:02x?}");
    publish(&mut world, "a", b"", 1);
    publish(&mut world, "held", b"", 1);
    let (_, _, packets) = back(&mut world, "peer");
    assert_eq!(packets.len(), 1, "{bytes:02x?}");
    assert_eq!(received(V311, &packets[0]).topic, "held");
}

#[test]
fn mqtt311_3_8_1_1() {
    let right = subscribe(V311, 1, &[], &[("a", 1)]);
    for flags in (0..16).filter(|&flags| flags != 0b0010) {
        assert_refused(&[&[0x80 | flags], &right[1..]].concat());
    }
}

#[test]
fn mqtt311_3_8_3_1() {
    for filter in [&b"\xFF"[..], b"a\xED\xA0\x80", b"a\0"] {
        let bad = [&field(filter)[..], &[1]].concat();
        let good = [&field("a")[..], &[1]].concat();
        assert_refused(&packet(0x82, &[&[0, 1][..], &bad].concat()));
        assert_refused(&packet(0x82, &[&[0, 1][..], &good, &bad].concat()));
        assert_refused(&packet(0x82, &[&[0, 1][..], &bad, &good].concat()));
    }
}

/// Wildcards are supported, so a filter with them is granted and works.
#[test]
fn mqtt311_3_8_3_2() {
    let mut world = World::new();
    let filters = [("a/+", 0), ("b/#", 1), ("#", 2), ("+", 0), ("+/+/#", 1)];
    let peer = client(&mut world, "peer");
    assert_eq!(world.ask(peer, subscribe(V311, 1, &[], &filters)), [0x90, 7, 0, 1, 0, 1, 2, 0, 1]);
    publish(&mut world, "a/b", b"", 2);
    assert_eq!(message(&mut world, peer).qos, 2);
}

#[test]
fn mqtt311_3_8_3_3() {
    assert_refused(&[0x82, 2, 0, 1]);
    assert_refused(&[0x82, 0]);
    assert_refused(&[0x82, 1, 0]);
    // A filter without its QoS, and half a filter, are not valid either.
    for filters in [&b"\0\x01a"[..], b"\0\x02a", b"\0\x01a\x01\0\x01b", b"\0\x01a\x01\0"] {
        assert_refused(&packet(0x82, &[&[0, 1], filters].concat()));
    }
}

#[test]
fn mqtt311_3_8_3_4() {
    for qos in 3..=255 {
        assert_refused(&subscribe(V311, 1, &[], &[("a", qos)]));
    }
    assert_refused(&subscribe(V311, 1, &[], &[("a", 1), ("b", 3)]));
    assert_refused(&subscribe(V311, 1, &[], &[("b", 0x80), ("a", 1)]));
}

#[test]
fn mqtt311_3_8_4_1() {
    let mut world = World::new();
    let peer = client(&mut world, "peer");
    for qos in 0..=2 {
        assert_eq!(world.ask(peer, subscribe(V311, 1, &[], &[("a", qos)])), [0x90, 3, 0, 1, qos]);
    }
}

/// Several requests on their way at once are each answered with their own identifier.
#[test]
fn mqtt311_3_8_4_2() {
    let mut world = World::new();
    let peer = client(&mut world, "peer");
    let requests = [7, 0xFFFF, 1, 7].map(|identifier| subscribe(V311, identifier, &[], &[("a", 0)])).concat();
    world.send(peer, requests);
    let expected = [[0, 7], [0xFF, 0xFF], [0, 1], [0, 7]].map(|[high, low]| vec![0x90, 3, high, low, 0]);
    assert_eq!(world.take(peer), expected);
}

#[test]
fn mqtt311_3_8_4_3() {
    let mut world = World::new();
    retain(&mut world, "t/1", b"kept", 2);
    let peer = client(&mut world, "peer");
    for (round, qos) in [2, 0, 1, 1].into_iter().enumerate() {
        world.send(peer, subscribe(V311, 1, &[], &[("t/+", qos)]));
        let packets = world.take(peer);
        assert_eq!((packets.len(), &packets[0][..]), (2, &[0x90, 3, 0, 1, qos][..]), "round {round}");
        let retained_message = received(V311, &packets[1]);
        assert_eq!(
            (&retained_message.payload[..], retained_message.qos, retained_message.retain),
            (&b"kept"[..], qos, true)
        );
        // There is one subscription, at the QoS of the last request.
        publish(&mut world, "t/2", b"x", 2);
        let passing = message(&mut world, peer);
        assert_eq!((passing.qos, passing.retain), (qos, false), "round {round}");
        assert_eq!(world.broker.census().subscriptions, 1);
    }
    assert_eq!(world.ask(peer, unsubscribe(V311, 1, &["t/+"])), acknowledge(0xB0, 1));
    publish(&mut world, "t/2", b"x", 2);
    assert_quiet(&mut world, peer, "one UNSUBSCRIBE ends it");
}

/// Subscribing again neither loses nor repeats messages on their way, sent or queued.
#[test]
fn mqtt311_3_8_4_3_flow() {
    let mut world = World::with_limits(|limits| limits.in_flight = 2);
    let peer = subscriber(&mut world, "peer", "t", 2);
    let publisher = client(&mut world, "publisher");
    let mut seen = Vec::new();
    for number in 0..10_u16 {
        let payload = [b'0' + u8::try_from(number).expect("a digit")];
        world.ask(publisher, Publish::new(V311, "t", &payload).qos(1, number + 1).bytes());
        world.send(peer, subscribe(V311, 1, &[], &[("t", 2)]));
        seen.extend(world.take(peer));
    }
    assert_eq!(seen.iter().filter(|packet| packet[0] == 0x90).count(), 10);
    seen.retain(|packet| packet[0] != 0x90);
    for index in 0..10 {
        let identifier = received(V311, &seen[index]).packet_identifier.expect("QoS 1");
        world.send(peer, acknowledge(0x40, identifier));
        seen.extend(world.take(peer));
    }
    let seen: Vec<u8> = seen.iter().map(|packet| received(V311, packet).payload[0]).collect();
    assert_eq!(seen, b"0123456789");
}

#[test]
fn mqtt311_3_8_4_4() {
    let filters = [("a", 0), ("b/+", 2), ("a", 1), ("#", 0)];
    let mut world = World::new();
    retain(&mut world, "b/x", b"kept", 2);
    let together = client(&mut world, "together");
    world.send(together, subscribe(V311, 1, &[], &filters));
    let mut packets = world.take(together);
    assert_eq!(packets.remove(0), [0x90, 6, 0, 1, 0, 2, 1, 0], "one SUBACK");
    let separate = client(&mut world, "separate");
    let mut others = Vec::new();
    for (filter, qos) in filters {
        world.send(separate, subscribe(V311, 1, &[], &[(filter, qos)]));
        let mut packets = world.take(separate);
        assert_eq!(packets.remove(0), [0x90, 3, 0, 1, qos]);
        others.extend(packets);
    }
    assert_eq!(packets.len(), 2, "the retained message for each filter that matches it");
    assert_eq!(packets, others);
    for (topic, qos) in [("a", 1), ("b/x", 2), ("c", 0)] {
        publish(&mut world, topic, b"", 2);
        for peer in [together, separate] {
            assert_eq!(message(&mut world, peer).qos, qos, "{topic}");
        }
    }
}

/// Grants filters that begin with `0`, `1` or `2` at most that QoS and refuses those that begin with `-`.
fn strict(limits: Limits) -> World {
    let rule = |_: &Client<'_>, question: Question<'_>| match question {
        Question::Subscribe { filter, .. } => match filter.as_str().as_bytes()[0] {
            b'0' => Verdict::GrantedAtMost(QoS::AtMostOnce),
            b'1' => Verdict::GrantedAtMost(QoS::AtLeastOnce),
            b'-' => Verdict::Refused(ReasonCode::NotAuthorized),
            b'=' => Verdict::Refused(ReasonCode::ImplementationSpecificError),
            _ => Verdict::Granted,
        },
        _ => Verdict::Granted,
    };
    World::with(limits, Rule(rule))
}

#[test]
fn mqtt311_3_8_4_5() {
    let mut world = strict(Limits::default());
    let peer = client(&mut world, "peer");
    for (filter, asked, code) in [
        ("2", 0, 0),
        ("2", 1, 1),
        ("2", 2, 2),
        ("1", 0, 0),
        ("1", 1, 1),
        ("1", 2, 1),
        ("0", 0, 0),
        ("0", 1, 0),
        ("0", 2, 0),
        ("-", 0, 0x80),
        ("-", 2, 0x80),
    ] {
        assert_eq!(world.ask(peer, subscribe(V311, 1, &[], &[(filter, asked)])), [0x90, 3, 0, 1, code]);
        publish(&mut world, filter, b"x", 2);
        let qos: Vec<u8> = messages(&mut world, peer).into_iter().map(|message| message.qos).collect();
        assert_eq!(qos, if code == 0x80 { vec![] } else { vec![code] }, "{filter} {asked}");
    }
}

#[test]
fn mqtt311_3_8_4_6() {
    for granted in 0..=2 {
        for published in 0..=2 {
            let mut world = World::new();
            let peer = subscriber(&mut world, "peer", "t", granted);
            publish(&mut world, "t", b"x", published);
            let qos = published.min(granted);
            let expected = Publish::new(V311, "t", b"x");
            let expected = if qos == 0 { expected } else { expected.qos(qos, 1) };
            assert_eq!(world.take_one(peer), expected.bytes());
        }
    }
}

#[test]
fn mqtt311_3_9_3_1() {
    let mut world = strict(Limits::default());
    let peer = client(&mut world, "peer");
    let filters = [("1/a", 2), ("-/a", 2), ("2/a", 2), ("0/a", 2), ("2/a", 0), ("-/b", 0), ("2/b", 1)];
    let suback = world.ask(peer, subscribe(V311, 1, &[], &filters));
    assert_eq!(suback, [0x90, 9, 0, 1, 1, 0x80, 2, 0, 0, 0x80, 1]);
    let many: Vec<(String, u8)> =
        (0..1000).map(|number: u16| (format!("2/{number}"), (number % 3) as u8)).collect();
    let filters: Vec<(&str, u8)> = many.iter().map(|(filter, qos)| (filter.as_str(), *qos)).collect();
    let suback = world.ask(peer, subscribe(V311, 1, &[], &filters));
    assert_eq!(suback[..5], [0x90, 0xEA, 0x07, 0, 1]);
    assert!(suback[5..].iter().eq(filters.iter().map(|(_, qos)| qos)));
}

/// Whatever the reason for a failure, 3.1.1 has one code for it.
#[test]
fn mqtt311_3_9_3_2() {
    let mut world = strict(Limits { subscriptions_per_session: 2, ..Limits::default() });
    let peer = client(&mut world, "peer");
    let filters = [("-", 0), ("=", 1), ("a", 0), ("b", 1), ("c", 2), ("a", 2)];
    let suback = world.ask(peer, subscribe(V311, 1, &[], &filters));
    assert_eq!(suback, [0x90, 8, 0, 1, 0x80, 0x80, 0, 1, 0x80, 2]);
    assert_eq!(world.broker.census().subscriptions, 2);
}

#[test]
fn mqtt311_3_10_1_1() {
    let right = unsubscribe(V311, 1, &["held"]);
    for flags in (0..16).filter(|&flags| flags != 0b0010) {
        assert_refused(&[&[0xA0 | flags], &right[1..]].concat());
    }
}

#[test]
fn mqtt311_3_10_3_1() {
    for filter in [&b"\xFF"[..], b"a\xED\xA0\x80", b"a\0"] {
        assert_refused(&packet(0xA2, &[&[0, 1][..], &field(filter)].concat()));
        assert_refused(&packet(0xA2, &[&[0, 1][..], &field("held"), &field(filter)].concat()));
    }
}

#[test]
fn mqtt311_3_10_3_2() {
    assert_refused(&[0xA2, 2, 0, 1]);
    assert_refused(&[0xA2, 0]);
    assert_refused(&[0xA2, 5, 0, 1, 0, 9, b'h']);
}

#[test]
fn mqtt311_3_10_4_1() {
    let held = ["a/b", "a/+", "a/#", "A/b", "a/b/", "\u{E9}", "+/b", "#"];
    let others = ["a", "a/c", "/a/b", "a/B", "+/+", "e\u{301}", "a//b", "+", "a/b/#", "a/b "];
    let mut world = World::new();
    let peer = client(&mut world, "peer");
    let filters = held.map(|filter| (filter, 0));
    world.ask(peer, subscribe(V311, 1, &[], &filters));
    for filter in others {
        assert_eq!(world.ask(peer, unsubscribe(V311, 2, &[filter])), acknowledge(0xB0, 2));
        assert_eq!(world.broker.census().subscriptions, held.len(), "{filter}");
    }
    // Each is removed alone, though others match the same topics.
    for (index, filter) in held.into_iter().enumerate() {
        assert_eq!(world.ask(peer, unsubscribe(V311, 2, &[filter])), acknowledge(0xB0, 2));
        assert_eq!(world.broker.census().subscriptions, held.len() - index - 1, "{filter}");
        publish(&mut world, "a/b", b"x", 0);
        assert_eq!(messages(&mut world, peer).len(), usize::from(index + 1 < held.len()), "{filter}");
    }
}

/// An UNSUBSCRIBE of one client does not affect another.
#[test]
fn mqtt311_3_10_4_1_of_others() {
    let mut world = World::new();
    let [one, other] = ["one", "other"].map(|name| subscriber(&mut world, name, "a", 0));
    world.ask(one, unsubscribe(V311, 1, &["a"]));
    publish(&mut world, "a", b"x", 0);
    assert_quiet(&mut world, one, "unsubscribed");
    assert_eq!(payloads(&mut world, other), ["x"]);
}

#[test]
fn mqtt311_3_10_4_2() {
    for qos in 0..=2 {
        let mut world = World::new();
        let peer = persistent_subscriber(&mut world, "peer", "a", 2);
        publish(&mut world, "a", b"x", qos);
        assert_eq!(messages(&mut world, peer).len(), 1);
        assert_eq!(world.ask(peer, unsubscribe(V311, 1, &["a"])), acknowledge(0xB0, 1));
        publish(&mut world, "a", b"later", qos);
        assert_quiet(&mut world, peer, "unsubscribed");
        world.cut(peer);
        publish(&mut world, "a", b"later still", qos);
        let (_, _, packets) = back(&mut world, "peer");
        assert_eq!(packets.len(), usize::from(qos > 0));
        assert!(packets.iter().all(|packet| received(V311, packet).payload == b"x"));
    }
}

/// Retained messages that were still to come for it do not count as begun.
#[test]
fn mqtt311_3_10_4_2_retained() {
    let mut world = World::with_limits(|limits| limits.in_flight = 1);
    retain(&mut world, "a/1", b"1", 1);
    retain(&mut world, "a/2", b"2", 1);
    let peer = client(&mut world, "peer");
    world.send(peer, subscribe(V311, 1, &[], &[("a/+", 1)]));
    assert_eq!(world.take(peer).len(), 2);
    assert_eq!(world.ask(peer, unsubscribe(V311, 1, &["a/+"])), acknowledge(0xB0, 1));
    world.send(peer, acknowledge(0x40, 1));
    assert_quiet(&mut world, peer, "unsubscribed");
}

#[test]
fn mqtt311_3_10_4_3() {
    let mut world = World::new();
    let peer = subscriber(&mut world, "peer", "a", 2);
    for qos in [1, 2, 2] {
        publish(&mut world, "a", b"x", qos);
    }
    assert_eq!(messages(&mut world, peer).len(), 3);
    assert_eq!(world.ask(peer, acknowledge(0x50, 2)), acknowledge(0x62, 2));
    assert_eq!(world.ask(peer, unsubscribe(V311, 1, &["a"])), acknowledge(0xB0, 1));
    // On a connection of 3.1.1, unacknowledged messages come again, the oldest first.
    for (again, answer) in [
        (Publish::new(V311, "a", b"x").qos(1, 1).dup().bytes(), acknowledge(0x40, 1)),
        (acknowledge(0x62, 2), acknowledge(0x70, 2)),
        (Publish::new(V311, "a", b"x").qos(2, 3).dup().bytes(), acknowledge(0x50, 3)),
        (acknowledge(0x62, 3), acknowledge(0x70, 3)),
    ] {
        world.take(peer);
        world.pass_seconds(20);
        assert_eq!(world.take_one(peer), again);
        world.send(peer, answer);
    }
    world.pass_seconds(1000);
    assert_quiet(&mut world, peer, "all finished");
}

#[test]
fn mqtt311_3_10_4_4() {
    let mut world = World::new();
    let peer = subscriber(&mut world, "peer", "a", 2);
    world.send(peer, [7, 0xFFFF, 1].map(|identifier| unsubscribe(V311, identifier, &["a"])).concat());
    let expected = [[0, 7], [0xFF, 0xFF], [0, 1]].map(|[high, low]| vec![0xB0, 2, high, low]);
    assert_eq!(world.take(peer), expected);
}

#[test]
fn mqtt311_3_10_4_5() {
    let mut world = World::new();
    let peer = client(&mut world, "peer");
    for filter in ["never", "#", "a/+/b", "$share/g/never"] {
        assert_eq!(world.ask(peer, unsubscribe(V311, 3, &[filter])), [0xB0, 2, 0, 3]);
    }
}

#[test]
fn mqtt311_3_10_4_6() {
    let mut world = World::new();
    let peer = client(&mut world, "peer");
    let filters = ["a", "b", "c", "d"];
    world.ask(peer, subscribe(V311, 1, &[], &filters.map(|filter| (filter, 0))));
    let unsuback = world.ask(peer, unsubscribe(V311, 2, &["c", "never", "a", "c"]));
    assert_eq!(unsuback, [0xB0, 2, 0, 2], "one UNSUBACK without codes");
    for filter in filters {
        publish(&mut world, filter, b"", 0);
    }
    let topics: Vec<String> = messages(&mut world, peer).into_iter().map(|message| message.topic).collect();
    assert_eq!(topics, ["b", "d"]);
}

#[test]
fn mqtt311_3_12_4_1() {
    let mut world = World::new();
    let peer = client(&mut world, "peer");
    world.send(peer, PINGREQ.repeat(3));
    assert_eq!(world.take(peer), [PINGRESP; 3]);
    world.send(peer, [0xC0, 1, 0]);
    assert_closed_silently(&mut world, peer, "PINGREQ with a body");
}
