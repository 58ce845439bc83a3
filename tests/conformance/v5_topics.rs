//! MQTT 5.0, chapter 4.7: Topic Names and Topic Filters.

use crate::v5_exchange::*;
use crate::wire::*;
use crate::world::World;

/// The topics that reach a subscriber of the filter, live and as retained messages.
fn reached<'a>(filter: &str, topics: &[&'a str]) -> Vec<&'a str> {
    let mut world = World::new();
    let publisher = client(&mut world, "publisher");
    let live = subscriber(&mut world, "live", filter, 0);
    let member = subscriber(&mut world, "member", &format!("$share/g/{filter}"), 0);
    let mut found = Vec::new();
    for topic in topics {
        world.send(publisher, Publish::new(V5, topic, b"m").retain().bytes());
        let here = world.take(live);
        assert_eq!(world.take(member).len(), here.len(), "shared: {filter} {topic}");
        if !here.is_empty() {
            assert_eq!(received(V5, &here[0]).topic, *topic);
            found.push(*topic);
        }
    }
    let late = client(&mut world, "late");
    world.send(late, subscribe(V5, 1, &[], &[(filter, 0)]));
    let mut topics: Vec<String> =
        world.take(late)[1..].iter().map(|packet| received(V5, packet).topic).collect();
    let mut expected = found.clone();
    topics.sort();
    expected.sort_unstable();
    assert_eq!(topics, expected, "retained: {filter}");
    found
}

#[test]
fn mqtt5_4_7_0_1() {
    for topic in ["#", "+", "a/#", "a/+/b", "a+", "a#b", "$SYS/#"] {
        let mut world = World::new();
        let a = client(&mut world, "a");
        assert_broken(&mut world, a, Publish::new(V5, topic, b"m").bytes(), 0x81);
        let a = world.open();
        let connack = world.ask(a, Connect::new(V5, "a").will(topic, b"m", 0, false, &[]).bytes());
        assert_eq!((connack[0], connack[3]), (0x20, 0x81), "{topic}");
        let a = client(&mut world, "a");
        let response_topic = [&[0x08][..], &field(topic)].concat();
        assert_broken(&mut world, a, Publish::new(V5, "t", b"m").property(&response_topic).bytes(), 0x81);
    }
}

#[test]
fn mqtt5_4_7_1_1() {
    for filter in ["a#", "#a", "#/a", "a/#/b", "a/b#", "##", "a/##", "#/#", "a/#/", "+#", "$share/g/a#"] {
        let mut world = World::new();
        let a = client(&mut world, "a");
        assert_broken(&mut world, a, subscribe(V5, 1, &[], &[("t", 0), (filter, 0)]), 0x81);
        let a = client(&mut world, "a");
        assert_broken(&mut world, a, unsubscribe(V5, 1, &["t", filter]), 0x81);
    }
    let topics = ["a", "a/", "a/b", "a/b/c", "ab", "b", "/a", "/"];
    assert_eq!(reached("#", &topics), topics);
    assert_eq!(reached("a/#", &topics), ["a", "a/", "a/b", "a/b/c"]);
    assert_eq!(reached("a/b/#", &topics), ["a/b", "a/b/c"]);
    assert_eq!(reached("/#", &topics), ["/a", "/"]);
    assert_eq!(reached("+/#", &topics), topics);
}

#[test]
fn mqtt5_4_7_1_2() {
    for filter in ["a+", "+a", "a/+b", "++", "+/a+", "a/b+/c", "$share/g/+a"] {
        let mut world = World::new();
        let a = client(&mut world, "a");
        assert_broken(&mut world, a, subscribe(V5, 1, &[], &[("t", 0), (filter, 0)]), 0x81);
        let a = client(&mut world, "a");
        assert_broken(&mut world, a, unsubscribe(V5, 1, &["t", filter]), 0x81);
    }
    let topics = ["a", "b", "a/", "a/b", "a/c", "a/b/c", "/a", "/", "a//c"];
    assert_eq!(reached("+", &topics), ["a", "b"]);
    assert_eq!(reached("a/+", &topics), ["a/", "a/b", "a/c"]);
    assert_eq!(reached("+/+", &topics), ["a/", "a/b", "a/c", "/a", "/"]);
    assert_eq!(reached("/+", &topics), ["/a", "/"]);
    assert_eq!(reached("a/+/c", &topics), ["a/b/c", "a//c"]);
    assert_eq!(reached("+/b/#", &topics), ["a/b", "a/b/c"]);
    assert_eq!(reached("+/", &topics), ["a/", "/"]);
}

#[test]
fn mqtt5_4_7_2_1() {
    let topics = ["$a", "$a/b", "$", "$b/$a", "a/$b", "/$a"];
    assert_eq!(reached("#", &topics), ["a/$b", "/$a"]);
    assert_eq!(reached("+", &topics), [""; 0]);
    assert_eq!(reached("+/b", &topics), [""; 0]);
    assert_eq!(reached("+/#", &topics), ["a/$b", "/$a"]);
    assert_eq!(reached("+/+", &topics), ["a/$b", "/$a"]);
    assert_eq!(reached("$a/#", &topics), ["$a", "$a/b"]);
    assert_eq!(reached("$a/+", &topics), ["$a/b"]);
    assert_eq!(reached("$b/+", &topics), ["$b/$a"]);
    assert_eq!(reached("a/+", &topics), ["a/$b"]);
}

#[test]
fn mqtt5_4_7_3_1() {
    let mut world = World::new();
    let a = client(&mut world, "a");
    assert_broken(&mut world, a, subscribe(V5, 1, &[], &[("", 0)]), 0x81);
    let a = client(&mut world, "a");
    assert_broken(&mut world, a, unsubscribe(V5, 1, &[""]), 0x81);
    // Without a Topic Alias it is a Protocol Error.
    let a = client(&mut world, "a");
    assert_broken(&mut world, a, Publish::new(V5, "", b"m").bytes(), 0x82);
    let a = world.open();
    let connack = world.ask(a, Connect::new(V5, "a").will("", b"m", 0, false, &[]).bytes());
    assert_eq!((connack[0], connack[3]), (0x20, 0x81));
    assert_eq!(reached("/", &["/", " ", "//"]), ["/"]);
    assert_eq!(reached(" ", &["/", " ", "  "]), [" "]);
}

#[test]
fn mqtt5_4_7_3_2() {
    for text in ["\0", "a\0b", "a/\0", "+/\0"] {
        let mut world = World::new();
        let a = client(&mut world, "a");
        assert_broken(&mut world, a, subscribe(V5, 1, &[], &[(text, 0)]), 0x81);
        let a = client(&mut world, "a");
        assert_broken(&mut world, a, unsubscribe(V5, 1, &[text]), 0x81);
        let a = client(&mut world, "a");
        assert_broken(&mut world, a, Publish::new(V5, text, b"m").bytes(), 0x81);
    }
}

#[test]
fn mqtt5_4_7_3_3() {
    let longest = "x".repeat(65_535);
    let other = format!("{}y", "x".repeat(65_534));
    assert_eq!(reached(&"x".repeat(65_526), &["x"]), [""; 0]);
    let mut world = World::new();
    let b = subscriber(&mut world, "b", &longest, 0);
    let a = client(&mut world, "a");
    world.send(a, Publish::new(V5, &other, b"m").bytes());
    world.send(a, Publish::new(V5, &longest, b"m").bytes());
    assert_eq!(take_publish(&mut world, b).topic, longest);
}

#[test]
fn mqtt5_4_7_3_4() {
    for (filter, others) in [
        ("Accounts", &["accounts", "ACCOUNTS", "Accounts ", " Accounts", "Accounts/", "/Accounts"][..]),
        ("a/b", &["a//b", "a/b/", "/a/b", "a/./b", "a/c/../b", "a%2Fb", "a\\b"]),
        ("\u{e9}", &["e\u{301}", "e", "\u{c9}"]),
        ("\u{feff}a", &["a", "\u{feff}\u{feff}a"]),
        ("\u{ff41}", &["a"]),
        ("a*", &["a", "ab", "a%2a"]),
    ] {
        let topics: Vec<&str> = [others, &[filter]].concat();
        assert_eq!(reached(filter, &topics), [filter]);
    }
}
