//! MQTT 5.0, chapters 3.8 to 3.11: SUBSCRIBE, SUBACK, UNSUBSCRIBE and UNSUBACK.

use crate::v5_exchange::*;
use crate::wire::*;
use crate::world::World;

const NO_LOCAL: u8 = 0x04;
/// Retain Handling 1: retained messages for a new subscription only.
const RETAINED_IF_NEW: u8 = 0x10;
/// Retain Handling 2: no retained messages.
const NOT_RETAINED: u8 = 0x20;

/// A SUBSCRIBE or UNSUBSCRIBE (`first_byte`) of one filter that need not be text.
fn with_filter(first_byte: u8, filter: &[u8]) -> Vec<u8> {
    let mut body = vec![0, 1, 0];
    body.extend(field(filter));
    if first_byte == 0x82 {
        body.push(0);
    }
    packet(first_byte, &body)
}

/// Filters that are not valid strings, or not valid filters.
const BAD_STRINGS: [&[u8]; 6] = [b"", b"\0", b"a\0b", b"a\xff", b"\xed\xa0\x80", b"\xc0\x80"];

#[test]
fn mqtt5_3_8_1_1() {
    for flags in (0..16).filter(|&flags| flags != 2) {
        let mut world = World::new();
        let a = client(&mut world, "a");
        let mut subscribe = subscribe(V5, 1, &[], &[("t", 0)]);
        subscribe[0] = 0x80 | flags;
        assert_broken(&mut world, a, subscribe, 0x81);
    }
}

#[test]
fn mqtt5_3_8_3_1() {
    for filter in BAD_STRINGS {
        let mut world = World::new();
        let a = client(&mut world, "a");
        assert_broken(&mut world, a, with_filter(0x82, filter), 0x81);
    }
    let mut world = World::new();
    let a = client(&mut world, "a");
    assert_eq!(world.ask(a, with_filter(0x82, "\u{feff}\u{10fffd}é".as_bytes())), [0x90, 4, 0, 1, 0, 0]);
}

#[test]
fn mqtt5_3_8_3_2() {
    let mut world = World::new();
    let a = client(&mut world, "a");
    assert_broken(&mut world, a, subscribe(V5, 1, &[], &[]), 0x82);
}

#[test]
fn mqtt5_3_8_3_3() {
    for qos in 0..3 {
        let mut world = World::new();
        let a = subscriber(&mut world, "a", "t", NO_LOCAL | 2);
        let own = Publish::new(V5, "t", b"own");
        // No other client has subscribed.
        match qos {
            0 => world.send(a, own.bytes()),
            1 => assert_eq!(world.ask(a, own.qos(1, 1).bytes()), acknowledge_with(0x40, 1, 0x10)),
            _ => assert_eq!(world.ask(a, own.qos(2, 1).bytes()), acknowledge_with(0x50, 1, 0x10)),
        }
        assert_silent(&mut world, a);
        let b = client(&mut world, "b");
        publish(&mut world, b, "t", b"other's", qos);
        assert_eq!(take_payloads(&mut world, a), [b"other's"]);
    }
}

/// An overlapping subscription without the option gets the message, alone.
#[test]
fn mqtt5_3_8_3_3_one_of_two() {
    let mut world = World::new();
    let a = subscriber(&mut world, "a", "#", NO_LOCAL | 2);
    world.ask(a, subscribe(V5, 1, &[0x0B, 7], &[("t", 1)]));
    world.send(a, Publish::new(V5, "t", b"own").qos(2, 1).bytes());
    let packets = world.take(a);
    let (answers, messages): (Vec<_>, Vec<_>) = packets.iter().partition(|packet| packet[0] >> 4 != 3);
    assert_eq!(answers, [&acknowledge(0x50, 1)]);
    let messages: Vec<_> = messages.iter().map(|packet| received(V5, packet)).collect();
    assert_eq!((messages.len(), messages[0].qos, &*messages[0].properties), (1, 1, &[0x0B, 7][..]));
}

/// The Client Identifier counts, not the connection.
#[test]
fn mqtt5_3_8_3_3_of_an_earlier_connection() {
    let mut world = World::new();
    let (a, ..) = arrive(&mut world, &persistent("a").will("t", b"will", 1, false, &[]));
    subscribe_to(&mut world, a, "t", NO_LOCAL | 1);
    let b = subscriber(&mut world, "b", "t", 0);
    world.cut(a);
    assert_eq!(take_payloads(&mut world, b), [b"will"]);
    let (a, packets) = back(&mut world, "a");
    assert_eq!(packets, [[0; 0]; 0]);
    assert_eq!(world.ask(a, Publish::new(V5, "t", b"own").qos(1, 1).bytes()), acknowledge(0x40, 1));
    assert_eq!(take_payloads(&mut world, b), [b"own"]);
}

/// Taken literally, No Local also keeps a client's own retained message from its new subscription.
#[test]
fn mqtt5_3_8_3_3_retained() {
    let mut world = World::new();
    let a = client(&mut world, "a");
    world.send(a, Publish::new(V5, "t", b"own").retain().bytes());
    subscribe_to(&mut world, a, "t", NO_LOCAL);
}

#[test]
fn mqtt5_3_8_3_4() {
    let mut world = World::new();
    let a = client(&mut world, "a");
    assert_broken(&mut world, a, subscribe(V5, 1, &[], &[("t", NO_LOCAL), ("$share/g/t", NO_LOCAL)]), 0x82);
}

#[test]
fn mqtt5_3_8_3_5() {
    for (options, code) in [(0x40, 0x81), (0x80, 0x81), (0xC1, 0x81), (0x03, 0x82), (0x30, 0x82)] {
        let mut world = World::new();
        let a = client(&mut world, "a");
        assert_broken(&mut world, a, subscribe(V5, 1, &[], &[("s", 0), ("t", options)]), code);
    }
    let mut world = World::new();
    let a = client(&mut world, "a");
    assert_eq!(world.ask(a, subscribe(V5, 1, &[], &[("t", 0x2E)])), [0x90, 4, 0, 1, 0, 2]);
}

#[test]
fn mqtt5_3_8_4_1() {
    let mut world = guarded_world();
    let a = client(&mut world, "a");
    assert_eq!(world.ask(a, subscribe(V5, 1, &[], &[("t", 1)])), [0x90, 4, 0, 1, 0, 1]);
    assert_eq!(world.ask(a, subscribe(V5, 1, &[], &[("t", 1)])), [0x90, 4, 0, 1, 0, 1]);
    assert_eq!(world.ask(a, subscribe(V5, 1, &[], &[("secret", 1)])), [0x90, 4, 0, 1, 0, 0x87]);
}

#[test]
fn mqtt5_3_8_4_2() {
    let mut world = World::new();
    let a = client(&mut world, "a");
    for identifier in [1, 0x1234, u16::MAX] {
        let suback = world.ask(a, subscribe(V5, identifier, &[], &[("t", 0)]));
        assert_eq!(suback[2..4], identifier.to_be_bytes());
    }
    assert_broken(&mut world, a, subscribe(V5, 0, &[], &[("t", 0)]), 0x82);
}

#[test]
fn mqtt5_3_8_4_3() {
    let mut world = World::new();
    let a = client(&mut world, "a");
    let b = client(&mut world, "b");
    for (options, properties, qos) in
        [(2, &[0x0B, 9][..], 2), (0, &[0x0B, 5], 0), (1, &[], 1), (2, &[0x0B, 0x80, 1], 2)]
    {
        let suback = world.ask(a, subscribe(V5, 1, properties, &[("t/+", options)]));
        assert_eq!(suback, [0x90, 4, 0, 1, 0, options]);
        publish(&mut world, b, "t/x", b"m", 2);
        let message = take_publish(&mut world, a);
        assert_eq!((message.qos, &*message.properties), (qos, properties));
    }
    assert_eq!(world.ask(a, unsubscribe(V5, 1, &["t/+"])), [0xB0, 4, 0, 1, 0, 0]);
    world.send(b, Publish::new(V5, "t/x", b"m").bytes());
    assert_silent(&mut world, a);
}

/// Retain As Published and No Local of the new one count as well.
#[test]
fn mqtt5_3_8_4_3_options() {
    let mut world = World::new();
    let a = subscriber(&mut world, "a", "t", 0x08 | NO_LOCAL);
    let b = client(&mut world, "b");
    world.send(b, Publish::new(V5, "t", b"m").retain().bytes());
    assert!(take_publish(&mut world, a).retain);
    subscribe_to(&mut world, a, "t", NOT_RETAINED);
    world.send(b, Publish::new(V5, "t", b"m").retain().bytes());
    assert!(!take_publish(&mut world, a).retain);
    assert_eq!(world.ask(a, Publish::new(V5, "t", b"own").bytes())[0], 0x30);
}

/// The same filter as a Shared Subscription is another one.
#[test]
fn mqtt5_3_8_4_3_not_shared() {
    let mut world = World::new();
    let a = subscriber(&mut world, "a", "t", 0);
    subscribe_to(&mut world, a, "$share/g/t", 0);
    let b = client(&mut world, "b");
    world.send(b, Publish::new(V5, "t", b"m").bytes());
    assert_eq!(take_payloads(&mut world, a), [b"m", b"m"]);
}

#[test]
fn mqtt5_3_8_4_4() {
    let mut world = World::new();
    let b = client(&mut world, "b");
    world.send(b, Publish::new(V5, "t/x", b"kept").retain().bytes());
    for (options, is_resent) in
        [(0, [true, true]), (RETAINED_IF_NEW, [true, false]), (NOT_RETAINED, [false, false])]
    {
        let a = client(&mut world, "a");
        for is_sent in is_resent {
            world.send(a, subscribe(V5, 1, &[], &[("t/+", options)]));
            let packets = world.take(a);
            assert_eq!(packets[0], [0x90, 4, 0, 1, 0, 0]);
            let messages: Vec<_> = packets[1..].iter().map(|packet| received(V5, packet)).collect();
            assert_eq!(messages.len(), usize::from(is_sent), "{options:02x}");
            assert!(messages.iter().all(|message| message.retain && message.payload == b"kept"));
        }
    }
}

#[test]
fn mqtt5_3_8_4_4_nothing_is_lost() {
    let mut world = World::new();
    let (a, ..) = arrive(&mut world, &Connect::new(V5, "a").property(&[0x21, 0, 1]));
    subscribe_to(&mut world, a, "t", 1);
    let b = client(&mut world, "b");
    publish(&mut world, b, "t", b"in flight", 1);
    publish(&mut world, b, "t", b"queued", 1);
    let first = take_publish(&mut world, a);
    assert_eq!(first.payload, b"in flight");
    subscribe_to(&mut world, a, "t", 1);
    publish(&mut world, b, "t", b"later", 1);
    let second = received(V5, &world.ask(a, acknowledge(0x40, first.packet_identifier.unwrap())));
    assert_eq!(second.payload, b"queued");
    let third = received(V5, &world.ask(a, acknowledge(0x40, second.packet_identifier.unwrap())));
    assert_eq!(third.payload, b"later");
}

#[test]
fn mqtt5_3_8_4_5() {
    let mut world = World::new();
    let b = client(&mut world, "b");
    world.send(b, Publish::new(V5, "t/y", b"kept").retain().bytes());
    let a = client(&mut world, "a");
    world.send(
        a,
        subscribe(V5, 1, &[0x0B, 3], &[("t/x", 1), ("u", 2), ("t/x", 0), ("t/y", 0x0A), ("t/+", 0x20)]),
    );
    let packets = world.take(a);
    assert_eq!(packets[0], [0x90, 8, 0, 1, 0, 1, 2, 0, 2, 0]);
    let retained_message = received(V5, &packets[1]);
    assert_eq!(
        (packets.len(), &*retained_message.payload, &*retained_message.properties),
        (2, &b"kept"[..], &[0x0B, 3][..])
    );
    for (topic, qos) in [("t/x", 0), ("u", 2), ("t/y", 2), ("t/z", 0)] {
        publish(&mut world, b, topic, b"m", 2);
        assert_eq!(take_publish(&mut world, a).qos, qos, "{topic}");
    }
}

#[test]
fn mqtt5_3_8_4_6() {
    let mut world = guarded_world();
    let a = client(&mut world, "a");
    let filters = [("a", 2), ("secret/a", 1), ("b", 0), ("secret/#", 0)];
    assert_eq!(world.ask(a, subscribe(V5, 1, &[], &filters)), [0x90, 7, 0, 1, 0, 2, 0x87, 0, 0x87]);
    let many: Vec<_> = (0..300).map(|_| ("a", 1)).collect();
    let suback = world.ask(a, subscribe(V5, 1, &[], &many));
    assert_eq!(suback[3..], [&[0, 1, 0][..], &[1; 300]].concat());
}

#[test]
fn mqtt5_3_8_4_7() {
    let mut world = guarded_world();
    let a = client(&mut world, "a");
    let b = client(&mut world, "b");
    for (topic, asked, granted) in
        [("t", 0, 0), ("t", 1, 1), ("t", 2, 2), ("limited", 0, 0), ("limited", 1, 1), ("limited", 2, 1)]
    {
        let suback = world.ask(a, subscribe(V5, 1, &[], &[(topic, asked)]));
        assert_eq!(suback, [0x90, 4, 0, 1, 0, granted], "{topic} {asked}");
        publish(&mut world, b, topic, b"m", 2);
        assert_eq!(take_publish(&mut world, a).qos, granted, "{topic} {asked}");
    }
}

#[test]
fn mqtt5_3_8_4_8() {
    for granted in 0..3 {
        let mut world = World::new();
        let a = subscriber(&mut world, "a", "t", granted);
        let b = client(&mut world, "b");
        for published in 0..3 {
            publish(&mut world, b, "t", b"m", published);
            assert_eq!(take_publish(&mut world, a).qos, published.min(granted));
        }
        for published in 0..3 {
            let retained_message = Publish::new(V5, "kept", b"m").retain();
            let retained_message =
                if published > 0 { retained_message.qos(published, 1) } else { retained_message };
            world.send(b, retained_message.bytes());
            world.send(b, acknowledge(0x62, 1));
            world.send(a, subscribe(V5, 1, &[], &[("kept", granted)]));
            assert_eq!(received(V5, &world.take(a)[1]).qos, published.min(granted));
            world.send(a, unsubscribe(V5, 1, &["kept"]));
            world.take(a);
        }
    }
}

/// A SUBACK has no Reason String and no User Property, whatever there is to explain; one without room even for its
/// codes ends the connection unsent.
#[test]
fn mqtt5_3_9_2_1() {
    let exchange = |count: usize| {
        let mut world = guarded_world();
        let (a, ..) = arrive(&mut world, &Connect::new(V5, "a").property(&[0x27, 0, 0, 0, 40]));
        let filters: Vec<_> = (0..count).map(|_| ("secret", 0)).collect();
        world.send(a, subscribe(V5, 1, &[0x26, 0, 1, b'n', 0, 1, b'v'], &filters));
        (world.take(a), world.is_closed(a))
    };
    let (packets, is_closed) = exchange(35);
    assert_eq!(packets, [[&[0x90, 38, 0, 1, 0][..], &[0x87; 35]].concat()]);
    assert!(!is_closed);
    let (packets, is_closed) = exchange(36);
    assert!(packets.iter().all(|packet| packet[0] == 0xE0 && packet[2] == 0x95 && packet.len() <= 40));
    assert!(is_closed);
}

#[test]
fn mqtt5_3_9_2_2() {
    let mut world = guarded_world();
    let a = client(&mut world, "a");
    let user_property = [0x26, 0, 1, b'n', 0, 1, b'v'];
    for (filter, code) in [("secret", 0x87), ("t", 1)] {
        let suback = world.ask(a, subscribe(V5, 1, &user_property, &[(filter, 1)]));
        assert_eq!(suback, [0x90, 4, 0, 1, 0, code]);
    }
}

#[test]
fn mqtt5_3_9_3_1() {
    let mut world = guarded_world();
    let a = client(&mut world, "a");
    for (order, codes) in [
        ([("secret", 0), ("x", 1), ("y", 2)], [0x87, 1, 2]),
        ([("y", 2), ("secret", 0), ("x", 1)], [2, 0x87, 1]),
        ([("x", 1), ("y", 2), ("secret", 0)], [1, 2, 0x87]),
    ] {
        assert_eq!(world.ask(a, subscribe(V5, 1, &[], &order))[5..], codes);
    }
}

#[test]
fn mqtt5_3_9_3_2() {
    let mut world = World::with_limits(|limits| limits.subscriptions_per_session = 2);
    let a = client(&mut world, "a");
    let filters = [("a/b/c", 0), ("$share/g/a/b/c", 1), ("x", 2), ("$share/h/x", 2), ("a/b/c", 1)];
    let suback = world.ask(a, subscribe(V5, 1, &[], &filters));
    assert_eq!(suback[5..], [0, 1, 0x97, 0x97, 1]);
}

#[test]
fn mqtt5_3_10_1_1() {
    for flags in (0..16).filter(|&flags| flags != 2) {
        let mut world = World::new();
        let a = subscriber(&mut world, "a", "t", 0);
        let mut unsubscribe = unsubscribe(V5, 1, &["t"]);
        unsubscribe[0] = 0xA0 | flags;
        assert_broken(&mut world, a, unsubscribe, 0x81);
    }
}

#[test]
fn mqtt5_3_10_3_1() {
    for filter in BAD_STRINGS {
        let mut world = World::new();
        let a = client(&mut world, "a");
        assert_broken(&mut world, a, with_filter(0xA2, filter), 0x81);
    }
}

#[test]
fn mqtt5_3_10_3_2() {
    let mut world = World::new();
    let a = client(&mut world, "a");
    assert_broken(&mut world, a, unsubscribe(V5, 1, &[]), 0x82);
}

#[test]
fn mqtt5_3_10_4_1() {
    for (filter, others) in [
        ("t/+", &["t/x", "t/#", "T/+", "t/+/", "/t/+", "+/+", "t", "$share/g/t/+"][..]),
        ("t/#", &["t", "t/+", "#", "t/x/#"]),
        ("\u{e9}", &["e\u{301}", "e", "\u{c9}"]),
        ("$share/g/t", &["t", "$share/h/t", "$share/g/T", "$share/g/+"]),
    ] {
        let mut world = World::new();
        let a = subscriber(&mut world, "a", filter, 0);
        let b = client(&mut world, "b");
        let topic = if filter.starts_with("$share") { "t" } else { &filter.replace(['+', '#'], "x") };
        for other in others {
            assert_eq!(world.ask(a, unsubscribe(V5, 1, &[other])), [0xB0, 4, 0, 1, 0, 0x11], "{other}");
            world.send(b, Publish::new(V5, topic, b"m").bytes());
            assert_eq!(take_publish(&mut world, a).topic, topic);
        }
        assert_eq!(world.ask(a, unsubscribe(V5, 1, &[filter])), [0xB0, 4, 0, 1, 0, 0]);
        world.send(b, Publish::new(V5, topic, b"m").bytes());
        assert_silent(&mut world, a);
    }
}

/// An UNSUBSCRIBE of one client does not affect another's subscription.
#[test]
fn mqtt5_3_10_4_1_of_another() {
    let mut world = World::new();
    let a = subscriber(&mut world, "a", "t", 0);
    let b = client(&mut world, "b");
    assert_eq!(world.ask(b, unsubscribe(V5, 1, &["t"])), [0xB0, 4, 0, 1, 0, 0x11]);
    world.send(b, Publish::new(V5, "t", b"m").bytes());
    assert_eq!(take_payloads(&mut world, a), [b"m"]);
}

#[test]
fn mqtt5_3_10_4_2() {
    let mut world = World::new();
    let a = persistent_subscriber(&mut world, "a", "t", 2);
    subscribe_to(&mut world, a, "+", 1);
    let b = client(&mut world, "b");
    world.send(a, unsubscribe(V5, 1, &["t"]));
    assert_eq!(world.take_one(a), [0xB0, 4, 0, 1, 0, 0]);
    publish(&mut world, b, "t", b"m", 2);
    assert_eq!(take_publish(&mut world, a).qos, 1);
    world.send(a, unsubscribe(V5, 1, &["+"]));
    world.take(a);
    for qos in 0..3 {
        let message = Publish::new(V5, "t", b"late");
        world.send(b, if qos > 0 { message.qos(qos, 5) } else { message }.bytes());
    }
    assert_silent(&mut world, a);
    world.cut(a);
    world.send(b, Publish::new(V5, "t", b"late").qos(1, 6).bytes());
    let (_, packets) = back(&mut world, "a");
    assert_eq!(payloads(&packets), [b"m"]);
}

#[test]
fn mqtt5_3_10_4_3() {
    for qos in [1, 2] {
        let mut world = World::new();
        let a = persistent_subscriber(&mut world, "a", "t", qos);
        let b = client(&mut world, "b");
        publish(&mut world, b, "t", b"m", qos);
        let first = take_publish(&mut world, a);
        let identifier = first.packet_identifier.unwrap();
        assert_eq!(world.ask(a, unsubscribe(V5, 1, &["t"])), [0xB0, 4, 0, 1, 0, 0]);
        world.cut(a);
        let (a, packets) = back(&mut world, "a");
        assert_eq!(packets.len(), 1);
        assert_eq!(received(V5, &packets[0]), Received { dup: true, ..first });
        if qos == 2 {
            assert_eq!(world.ask(a, acknowledge(0x50, identifier)), acknowledge(0x62, identifier));
            assert_eq!(world.ask(a, unsubscribe(V5, 1, &["t"])), [0xB0, 4, 0, 1, 0, 0x11]);
            world.cut(a);
            let (a, packets) = back(&mut world, "a");
            assert_eq!(packets, [acknowledge(0x62, identifier)]);
            world.send(a, acknowledge(0x70, identifier));
            world.cut(a);
        } else {
            world.send(a, acknowledge(0x40, identifier));
            world.cut(a);
        }
        assert_eq!(back(&mut world, "a").1, [[0; 0]; 0]);
    }
}

#[test]
fn mqtt5_3_10_4_4() {
    let mut world = World::new();
    let a = subscriber(&mut world, "a", "t", 0);
    for code in [0, 0x11, 0x11] {
        assert_eq!(world.ask(a, unsubscribe(V5, 1, &["t"])), [0xB0, 4, 0, 1, 0, code]);
    }
}

#[test]
fn mqtt5_3_10_4_5() {
    let mut world = World::new();
    let a = client(&mut world, "a");
    for identifier in [1, 0x1234, u16::MAX] {
        let unsuback = world.ask(a, unsubscribe(V5, identifier, &["t"]));
        assert_eq!(unsuback[2..], [&identifier.to_be_bytes()[..], &[0, 0x11]].concat());
    }
    assert_broken(&mut world, a, unsubscribe(V5, 0, &["t"]), 0x82);
}

#[test]
fn mqtt5_3_10_4_6() {
    let mut world = World::new();
    let a = client(&mut world, "a");
    world.ask(a, subscribe(V5, 1, &[], &[("t", 0), ("u", 0), ("$share/g/u", 0), ("v", 0)]));
    let filters = ["t", "x", "t", "$share/g/u", "u"];
    assert_eq!(world.ask(a, unsubscribe(V5, 2, &filters)), [0xB0, 8, 0, 2, 0, 0, 0x11, 0x11, 0, 0]);
    for (topic, count) in [("t", 0), ("u", 0), ("v", 1)] {
        world.send(a, Publish::new(V5, topic, b"m").bytes());
        assert_eq!(world.take(a).len(), count, "{topic}");
    }
}

/// Like a SUBACK.
#[test]
fn mqtt5_3_11_2_1() {
    let exchange = |count: usize| {
        let mut world = World::new();
        let (a, ..) = arrive(&mut world, &Connect::new(V5, "a").property(&[0x27, 0, 0, 0, 40]));
        world.send(a, unsubscribe(V5, 1, &vec!["t"; count]));
        (world.take(a), world.is_closed(a))
    };
    let (packets, is_closed) = exchange(35);
    assert_eq!(packets, [[&[0xB0, 38, 0, 1, 0][..], &[0x11; 35]].concat()]);
    assert!(!is_closed);
    let (packets, is_closed) = exchange(36);
    assert!(packets.iter().all(|packet| packet[0] == 0xE0 && packet[2] == 0x95 && packet.len() <= 40));
    assert!(is_closed);
}

#[test]
fn mqtt5_3_11_2_2() {
    let mut world = World::new();
    let a = subscriber(&mut world, "a", "t", 0);
    let unsubscribe = [&[0xA2, 13, 0, 1, 7, 0x26, 0, 1, b'n', 0, 1, b'v'][..], &field("t")].concat();
    assert_eq!(world.ask(a, unsubscribe), [0xB0, 4, 0, 1, 0, 0]);
}

#[test]
fn mqtt5_3_11_3_1() {
    for (order, codes) in
        [(["t", "x", "u"], [0, 0x11, 0]), (["x", "t", "u"], [0x11, 0, 0]), (["u", "t", "x"], [0, 0, 0x11])]
    {
        let mut world = World::new();
        let a = client(&mut world, "a");
        world.ask(a, subscribe(V5, 1, &[], &[("t", 0), ("u", 0)]));
        assert_eq!(world.ask(a, unsubscribe(V5, 1, &order))[5..], codes);
    }
}

#[test]
fn mqtt5_3_11_3_2() {
    let mut world = World::new();
    let a = subscriber(&mut world, "a", "$share/g/t", 0);
    let filters = ["$share/g/t", "t", "#"];
    assert_eq!(world.ask(a, unsubscribe(V5, 1, &filters)), [0xB0, 6, 0, 1, 0, 0, 0x11, 0x11]);
}
