//! Chapters 4.7 and 4.8: what a filter matches, and what ends a connection.

use crate::v311::*;
use crate::wire::*;
use crate::world::World;

/// Whether a message for `topic` reaches a subscription of `filter`; asserted to be the same for an existing
/// subscription, one of a disconnected client, and a new one when the message is retained.
#[track_caller]
fn is_match(filter: &str, topic: &str) -> bool {
    let mut world = World::new();
    let first = subscriber(&mut world, "first", filter, 1);
    let away = persistent_subscriber(&mut world, "away", filter, 1);
    world.cut(away);
    retain(&mut world, topic, b"x", 1);
    let late = client(&mut world, "late");
    world.send(late, subscribe(V311, 1, &[], &[(filter, 1)]));
    let (_, _, stored) = back(&mut world, "away");
    let came = [world.take(first), stored, world.take(late).split_off(1)];
    assert!(came.iter().flatten().all(|packet| received(V311, packet).topic == topic));
    let counts = came.map(|packets| packets.len());
    assert!(counts == [1; 3] || counts == [0; 3], "{filter} {topic}: {counts:?}");
    counts == [1; 3]
}

/// Asserts for a filter which topics it matches and which it does not.
#[track_caller]
fn assert_matches(filter: &str, matching: &[&str], others: &[&str]) {
    for topic in matching {
        assert!(is_match(filter, topic), "{filter} matches {topic}");
    }
    for topic in others {
        assert!(!is_match(filter, topic), "{filter} does not match {topic}");
    }
}

/// Asserts that a filter is accepted, or that SUBSCRIBE and UNSUBSCRIBE with it close the connection.
#[track_caller]
fn assert_filter(filter: &str, expected: bool) {
    for bytes in [subscribe(V311, 1, &[], &[(filter, 1)]), unsubscribe(V311, 1, &[filter])] {
        let mut world = World::new();
        let peer = client(&mut world, "peer");
        world.send(peer, &bytes);
        if expected {
            assert!(!world.is_closed(peer), "{filter}");
            assert_eq!(world.take(peer).len(), 1);
        } else {
            assert_closed_silently(&mut world, peer, filter);
        }
    }
}

#[test]
fn mqtt311_4_7_1_1() {
    for text in ["#", "+", "a/#", "+/a", "a/+/b", "/+", "/#"] {
        assert_filter(text, true);
        let mut world = World::new();
        let peer = client(&mut world, "peer");
        world.send(peer, Publish::new(V311, text, b"x").bytes());
        assert_closed_silently(&mut world, peer, text);
        let peer = world.open();
        world.send(peer, Connect::new(V311, "peer").will(text, b"x", 0, false, &[]).bytes());
        assert_closed_silently(&mut world, peer, text);
    }
}

#[test]
fn mqtt311_4_7_1_2() {
    for filter in ["#", "/#", "a/#", "a//#", "+/#", "a/+/#"] {
        assert_filter(filter, true);
    }
    for filter in ["a#", "#a", "#/a", "a/#/b", "##", "a/##", "a/#b", "#/", "a/#/", "#/#", "#+", "+#"] {
        assert_filter(filter, false);
    }
    assert_matches(
        "sport/tennis/player1/#",
        &[
            "sport/tennis/player1",
            "sport/tennis/player1/",
            "sport/tennis/player1/ranking",
            "sport/tennis/player1/score/wimbledon",
            "sport/tennis/player1//",
        ],
        &[
            "sport/tennis/player",
            "sport/tennis/player10",
            "sport/tennis/player10/ranking",
            "sport/tennis",
            "a",
        ],
    );
    assert_matches("#", &["a", "/", "a/b", "/a", "a/", "//"], &[]);
    assert_matches("/#", &["/", "/a", "/a/b", "//"], &["a", "a/"]);
}

#[test]
fn mqtt311_4_7_1_3() {
    for filter in ["+", "+/+", "/+", "+/", "a/+", "a/+/b", "+/a/+", "+/#"] {
        assert_filter(filter, true);
    }
    for filter in ["a+", "+a", "a/b+", "a/+b", "a/+b/c", "++", "a/++", "+a/b"] {
        assert_filter(filter, false);
    }
    assert_matches(
        "sport/tennis/+",
        &["sport/tennis/player1", "sport/tennis/player2", "sport/tennis/"],
        &["sport/tennis/player1/ranking", "sport/tennis", "sport//player1", "sport/tennis//"],
    );
    assert_matches("sport/+", &["sport/", "sport/a"], &["sport", "sports/a"]);
    assert_matches("+/+", &["/finance", "a/b", "/", "a/"], &["finance", "a/b/c", "//"]);
    assert_matches("/+", &["/finance", "/"], &["finance", "a/finance"]);
    assert_matches("+", &["finance"], &["/finance", "finance/"]);
    assert_matches("+/tennis/#", &["a/tennis", "/tennis", "a/tennis/b/c"], &["tennis", "a/b/tennis"]);
    assert_matches("a/+/c", &["a/b/c", "a//c"], &["a/c", "a/b/b/c", "a/b/c/"]);
}

#[test]
fn mqtt311_4_7_2_1() {
    let reserved = ["$CONTROL/monitor/Clients", "$a", "$", "$/a", "$a/"];
    for filter in ["#", "+/#", "+", "+/+", "+/+/+", "+/monitor/Clients", "+/a", "+/"] {
        assert_matches(filter, &[], &reserved);
    }
    assert_matches("$CONTROL/#", &["$CONTROL/monitor/Clients", "$CONTROL"], &["$a", "CONTROL/a"]);
    assert_matches("$CONTROL/monitor/+", &["$CONTROL/monitor/Clients"], &["$CONTROL/monitor"]);
    assert_matches("$a", &["$a"], &["$a/", "a"]);
    assert_matches("$/+", &["$/a"], &["$a/a"]);
    // Only the first character of a topic counts.
    assert_matches("+", &["a$"], &[]);
    assert_matches("a/+", &["a/$b"], &[]);
    assert_matches("#", &["/$a"], &[]);
}

#[test]
fn mqtt311_4_7_3_1() {
    assert_filter("", false);
    for text in ["/", "//", " ", "a"] {
        assert_filter(text, true);
        assert_matches(text, &[text], &[]);
    }
    let mut world = World::new();
    for publish in [Publish::new(V311, "", b"x"), Publish::new(V311, "", b"x").qos(1, 1)] {
        let peer = client(&mut world, "peer");
        world.send(peer, publish.bytes());
        assert_closed_silently(&mut world, peer, "no topic");
    }
}

#[test]
fn mqtt311_4_7_3_2() {
    for text in ["\0", "a\0", "a/\0/b", "+/\0", "\0/#"] {
        assert_filter(text, false);
        let mut world = World::new();
        let watcher = subscriber(&mut world, "watcher", "#", 0);
        let peer = client(&mut world, "peer");
        world.send(peer, Publish::new(V311, text, b"x").bytes());
        assert_closed_silently(&mut world, peer, text);
        assert_quiet(&mut world, watcher, text);
    }
}

/// The longest that the length field can express is valid in every place.
#[test]
fn mqtt311_4_7_3_3() {
    let longest = "x".repeat(65_535);
    let wide = "é".repeat(32_767);
    let nested = format!("{}{}", "l/".repeat(199), "x".repeat(65_535 - 398));
    for topic in [&longest, &wide, &nested] {
        assert_matches(topic, &[topic], &["x"]);
        assert_matches("#", &[topic], &[]);
        let one_less = &topic[..topic.len() - topic.chars().last().map_or(0, char::len_utf8)];
        assert_matches(one_less, &[], &[topic]);
    }
    assert_matches(&format!("{}#", "l/".repeat(199)), &[&nested], &[&longest]);
}

#[test]
fn mqtt311_4_7_3_4() {
    assert_matches("ACCOUNTS", &["ACCOUNTS"], &["Accounts", "accounts", "ACCOUNTS ", " ACCOUNTS"]);
    assert_matches("/finance", &["/finance"], &["finance", "//finance", "/finance/"]);
    assert_matches("a/b", &["a/b"], &["a//b", "a/./b", "a/c/../b", "a\\b", "a/b/"]);
    assert_matches("caf\u{E9}", &["caf\u{E9}"], &["cafe\u{301}", "CAF\u{C9}", "cafe"]);
    assert_matches("a%2Fb", &["a%2Fb"], &["a/b"]);
    assert_matches("\u{2126}", &["\u{2126}"], &["\u{3A9}"]);
    assert_matches("a", &["a"], &["\u{FEFF}a", "\u{FF41}", "a\u{200B}"]);
}

/// A violation of the protocol closes the connection, and no other one.
#[test]
fn mqtt311_4_8_0_1() {
    let mut world = World::new();
    let watcher = subscriber(&mut world, "watcher", "#", 0);
    let violations: [(&str, &[u8]); 24] = [
        ("type 0", &[0x00, 0]),
        ("type 15", &[0xF0, 0]),
        ("AUTH", &[0xF0, 2, 0x18, 0]),
        ("CONNACK", &[0x20, 2, 0, 0]),
        ("SUBACK", &[0x90, 3, 0, 1, 0]),
        ("UNSUBACK", &[0xB0, 2, 0, 1]),
        ("PINGRESP", &[0xD0, 0]),
        ("Remaining Length of five bytes", &[0x30, 0x80, 0x80, 0x80, 0x80, 0x01]),
        ("Remaining Length without an end", &[0x30, 0xFF, 0xFF, 0xFF, 0xFF]),
        ("PUBACK without an identifier", &[0x40, 0]),
        ("PUBACK with half an identifier", &[0x40, 1, 0]),
        ("PUBACK with a reason", &[0x40, 3, 0, 1, 0]),
        ("PUBACK 0", &[0x40, 2, 0, 0]),
        ("PUBREC with a reason", &[0x50, 3, 0, 1, 0]),
        ("PUBREL with a reason", &[0x62, 3, 0, 1, 0]),
        ("PUBREL 0", &[0x62, 2, 0, 0]),
        ("PUBCOMP without an identifier", &[0x70, 0]),
        ("PINGREQ with a body", &[0xC0, 1, 0]),
        ("DISCONNECT with a body", &[0xE0, 1, 0]),
        ("PUBLISH with QoS 3", &[0x36, 5, 0, 1, b'a', 0, 1]),
        ("PUBLISH with DUP at QoS 0", &[0x38, 3, 0, 1, b'a']),
        ("SUBSCRIBE with options of 5.0", &[0x82, 6, 0, 1, 0, 1, b'a', 0x04]),
        ("SUBSCRIBE with properties", &[0x82, 7, 0, 1, 0, 0, 1, b'a', 0]),
        ("UNSUBSCRIBE with a QoS", &[0xA2, 6, 0, 1, 0, 1, b'a', 0]),
    ];
    for (what, bytes) in violations {
        let peer = client(&mut world, "peer");
        let late = Publish::new(V311, "t", b"late").bytes();
        world.send(peer, [bytes, &late].concat());
        assert_closed_silently(&mut world, peer, what);
        assert_quiet(&mut world, watcher, what);
    }
    assert_eq!(world.broker.census().sessions, 1);
}

/// Packets before the violation count.
#[test]
fn mqtt311_4_8_0_1_after_others() {
    let mut world = World::new();
    let watcher = subscriber(&mut world, "watcher", "#", 0);
    let peer = client(&mut world, "peer");
    let good = Publish::new(V311, "t", b"good").qos(1, 1).bytes();
    world.send(peer, [&good[..], &[0, 0], &good].concat());
    assert!(world.is_closed(peer));
    assert_eq!(world.take(peer), [acknowledge(0x40, 1)]);
    assert_eq!(payloads(&mut world, watcher), ["good"]);
}

/// A packet that exceeds a limit of the broker, though the protocol allows it, cannot be processed; the connection is
/// closed, and a persistent session is kept.
#[test]
fn mqtt311_4_8_0_2() {
    let deep = "l/".repeat(201);
    let publish = |topic: &str, payload: &[u8]| Publish::new(V311, topic, payload).qos(1, 1).bytes();
    let largest = 2_000_000 - publish("t", b"").len() - 2;
    for (what, good, bad) in [
        ("size", publish("t", &vec![0; largest]), publish("t", &vec![0; largest + 1])),
        ("levels", publish(&deep[..deep.len() - 1], b""), publish(&deep, b"")),
        ("filter", publish("t", b""), subscribe(V311, 1, &[], &[("t", 0), (&deep, 0)])),
    ] {
        let mut world = World::new();
        let watcher = subscriber(&mut world, "watcher", "#", 0);
        let peer = persistent_subscriber(&mut world, "peer", "held", 1);
        assert_eq!(world.ask(peer, &good), acknowledge(0x40, 1), "{what}");
        assert_eq!(messages(&mut world, watcher).len(), 1, "{what}");
        world.send(peer, &bad);
        assert_closed_silently(&mut world, peer, what);
        assert_quiet(&mut world, watcher, what);
        let (_, is_present, _) = back(&mut world, "peer");
        assert!(is_present, "{what}");
    }
}
