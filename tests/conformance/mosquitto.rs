//! Behaviour that the standards leave open and clients of mosquitto rely on, as exchanges of packets.

use brooklet::core::access::{AccessControl, Answer, Client, Question, Verdict};
use brooklet::core::limits::Limits;
use brooklet::protocol::codec::ReasonCode;

use crate::wire::*;
use crate::world::World;

/// Allows no one to publish below `$SYS` or to `secret`.
struct Strict;

impl AccessControl for Strict {
    fn ask(&mut self, _client: &Client<'_>, question: Question<'_>) -> Answer {
        let is_refused = match question {
            Question::Publish { topic, .. } => topic.is_reserved() || topic.as_str() == "secret",
            _ => false,
        };
        Answer::Now(if is_refused { Verdict::Refused(ReasonCode::NotAuthorized) } else { Verdict::Granted })
    }
}

/// A bridge of mosquitto sets the highest bit of the protocol level.
fn bridge(level: u8) -> Connect {
    let mut connect = Connect::new(level, "bridge");
    connect.level |= 0x80;
    connect
}

#[test]
fn a_bridge_is_accepted_in_its_version() {
    for level in [V31, V311] {
        let mut world = World::new();
        let peer = world.open();
        assert_eq!(world.ask(peer, bridge(level).bytes()), [0x20, 2, 0, 0], "{level}");
        assert_eq!(world.ask(peer, PINGREQ), PINGRESP, "{level}");
    }
}

#[test]
fn a_bridge_gets_nothing_back_that_it_brought() {
    for level in [V31, V311] {
        let mut world = World::new();
        let a = world.connect(bridge(level).bytes());
        let other = world.connect(Connect::new(V311, "other").bytes());
        world.ask(a, subscribe(level, 1, &[], &[("#", 1)]));
        assert_eq!(world.ask(a, Publish::new(level, "t", b"own").qos(1, 1).bytes()), acknowledge(0x40, 1));
        world.send(other, Publish::new(V311, "t", b"foreign").bytes());
        assert_eq!(received(level, &world.take_one(a)).payload, b"foreign", "{level}");
    }
}

#[test]
fn a_bridge_gets_the_retain_flag() {
    for level in [V31, V311] {
        let mut world = World::new();
        let a = world.connect(bridge(level).bytes());
        let other = world.connect(Connect::new(V311, "other").bytes());
        world.ask(a, subscribe(level, 1, &[], &[("t", 0), ("u", 0)]));
        for (topic, is_retained) in [("t", true), ("u", false)] {
            let publish = Publish::new(V311, topic, b"x");
            world.send(other, if is_retained { publish.retain() } else { publish }.bytes());
            assert_eq!(received(level, &world.take_one(a)).retain, is_retained, "{level} {topic}");
        }
    }
}

/// By default, a bridge publishes below `$SYS` whether it is connected, also by its Will.
#[test]
fn a_bridge_publishes_its_state() {
    const STATE: &str = "$SYS/broker/connection/bridge/state";
    let mut world = World::new();
    let a = world.connect(bridge(V311).will(STATE, b"0", 1, true, &[]).bytes());
    let state = Publish::new(V311, STATE, b"1").qos(1, 1).retain();
    assert_eq!(world.ask(a, state.bytes()), acknowledge(0x40, 1));
    let watcher = world.connect(Connect::new(V5, "watcher").bytes());
    world.send(watcher, subscribe(V5, 1, &[], &[("$SYS/broker/connection/+/state", 0)]));
    assert_eq!(received(V5, &world.take(watcher)[1]).payload, b"1");
    world.cut(a);
    assert_eq!(received(V5, &world.take_one(watcher)).payload, b"0");
    for other in ["$SYS/broker/connection/a/b/state", "$SYS/broker/connection/state", "$SYS/broker/uptime"] {
        let puback = world.ask(watcher, Publish::new(V5, other, b"no").qos(1, 1).bytes());
        assert_eq!(puback[4], 0x87, "{other}");
    }
}

/// Rules seldom cover what a bridge publishes there. It is accepted all the same, and its Will is not published.
#[test]
fn a_bridge_that_may_not_publish_its_state_is_accepted() {
    const STATE: &str = "$SYS/broker/connection/bridge/state";
    let mut world = World::with(Limits::default(), Strict);
    let watcher = world.connect(Connect::new(V5, "watcher").bytes());
    world.ask(watcher, subscribe(V5, 1, &[], &[("$SYS/#", 0)]));
    let a = world.connect(bridge(V311).will(STATE, b"0", 1, true, &[]).bytes());
    assert_eq!(world.ask(a, Publish::new(V311, STATE, b"1").qos(1, 1).bytes()), acknowledge(0x40, 1));
    world.cut(a);
    assert!(world.take(watcher).is_empty());
    for topic in ["secret", "$SYS/broker/uptime"] {
        let peer = world.open();
        let connect = Connect::new(V5, "a").will(topic, b"x", 0, false, &[]);
        assert_eq!(world.ask(peer, connect.bytes())[3], 0x87, "{topic}");
    }
}

/// Group members that connect as bridges take their turn like others.
#[test]
fn a_bridge_may_share_a_subscription() {
    let mut world = World::new();
    let a = world.connect(bridge(V311).bytes());
    assert_eq!(world.ask(a, subscribe(V311, 1, &[], &[("$share/g/t", 0)])), [0x90, 3, 0, 1, 0]);
    let publish = Publish::new(V311, "t", b"x").bytes();
    assert_eq!(world.ask(a, &publish), publish);
}

/// mosquitto forwards a QoS 2 message only when it is released, so that its clients see the PUBREC before their own
/// copy of the message.
#[test]
fn a_message_is_answered_before_it_comes_back() {
    for level in [V311, V5] {
        for (filter_qos, length) in [(0, 1), (2, 1), (0, 10_000), (1, 10_000), (2, 100_000)] {
            let mut world = World::new();
            let a = world.connect(Connect::new(level, "a").bytes());
            world.ask(a, subscribe(level, 1, &[], &[("t", filter_qos)]));
            for identifier in [1, 2] {
                world.send(a, Publish::new(level, "t", &vec![7; length]).qos(2, identifier).bytes());
            }
            let packets = world.take(a);
            let kinds: Vec<u8> = packets.iter().map(|packet| packet[0] >> 4).collect();
            assert_eq!(kinds, [5, 3, 5, 3], "{level} {filter_qos} {length}");
            assert_eq!((&*packets[0], &*packets[2]), (&*acknowledge(0x50, 1), &*acknowledge(0x50, 2)));
            let payload = received(level, &packets[3]).payload;
            assert_eq!((payload.len(), payload.iter().all(|&byte| byte == 7)), (length, true));
        }
    }
}

/// The Will, the name and the password of a CONNECT may be as long as the standards allow.
#[test]
fn a_connect_may_have_long_fields() {
    let long = vec![b'x'; 65_535];
    for level in [V31, V311, V5] {
        let mut world = World::new();
        let connect = Connect::new(level, "a").will("w", &long, 1, false, &[]);
        world.connect(connect.user_name("u").password(&long[..60_000]).bytes());
    }
    let mut world = World::new();
    world.connect(Connect::new(V311, &"x".repeat(65_000)).bytes());
}
