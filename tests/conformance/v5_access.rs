//! Access rules for clients: at SUBSCRIBE, at each delivery, for retained messages, for queued messages, for Wills,
//! for sessions of other users; and what happens to all of that when the rules change.

use brooklet::auth::acl::{Access, Acl, Ruling, Subject};
use brooklet::core::access::{AccessControl, Answer, Client, Question, Verdict};
use brooklet::core::limits::Limits;
use brooklet::protocol::codec::{QoS, ReasonCode};

use crate::v5_exchange::assert_silent;
use crate::v5_peers::*;
use crate::wire::*;
use crate::world::{Peer, World};

/// Accepts every client, except `gone` and `changed` later, and asks rules about everything else.
struct Ruled {
    acl: Acl,
    why: Option<String>,
}

impl Ruled {
    fn new(rules: &str) -> Self {
        Self { acl: Acl::parse("rules", rules.as_bytes()).expect("good rules"), why: None }
    }
}

impl AccessControl for Ruled {
    fn answers_stand(&self) -> bool {
        true
    }

    fn ask(&mut self, client: &Client<'_>, question: Question<'_>) -> Answer {
        let subject = Subject { client_identifier: client.client_identifier, user_name: client.user_name };
        let ruling = match question {
            Question::Connect { .. } => return Answer::Now(Verdict::Granted),
            Question::Stay => {
                return Answer::Now(match client.user_name {
                    Some("gone") => Verdict::Refused(ReasonCode::NotAuthorized),
                    Some("changed") => Verdict::Refused(ReasonCode::BadUserNameOrPassword),
                    _ => Verdict::Granted,
                });
            }
            Question::Publish { topic, .. } | Question::BeSource { topic } => {
                self.acl.decide(&subject, Access::Write, topic)
            }
            Question::Receive { topic } => self.acl.decide(&subject, Access::Read, topic),
            Question::Subscribe { filter, .. } => self.acl.decide_filter(&subject, filter),
        };
        Answer::Now(match ruling {
            Ruling::Allowed { maximum: QoS::ExactlyOnce, .. } => Verdict::Granted,
            Ruling::Allowed { maximum, .. } => Verdict::GrantedAtMost(maximum),
            Ruling::InPart { maximum } => Verdict::GrantedInPart(maximum),
            Ruling::Denied { .. } | Ruling::Unused { .. } => {
                self.why = Some(self.acl.explain(ruling).to_string());
                Verdict::Refused(ReasonCode::NotAuthorized)
            }
        })
    }

    fn why_refused(&mut self) -> Option<String> {
        self.why.take()
    }
}

fn world(rules: &str) -> World {
    World::with(Limits::default(), Ruled::new(rules))
}

fn reload(world: &mut World, rules: &str) {
    let now = world.now();
    world.broker.replace_access(Box::new(Ruled::new(rules)), now);
    world.settle();
}

fn user(world: &mut World, client_identifier: &str, name: &str) -> Peer {
    world.connect(Connect::new(V5, client_identifier).user_name(name).bytes())
}

fn publish(world: &mut World, peer: Peer, topic: &str) {
    world.send(peer, Publish::new(V5, topic, topic.as_bytes()).bytes());
}

/// The topics of all PUBLISH packets that have come, which were their payloads.
fn topics(world: &mut World, peer: Peer) -> Vec<String> {
    take_payloads(world, peer).iter().map(|payload| String::from_utf8_lossy(payload).into_owned()).collect()
}

const RULES: &str = "user writer\ntopic write #\ntopic write $x/#\nuser reader\ntopic read a/#\ntopic deny a/secret/#\n\
                     topic read maxqos 1 b/+\n";

#[test]
fn a_filter_that_nothing_could_come_by_is_refused_with_its_reason() {
    let mut world = world(RULES);
    let peer = user(&mut world, "r", "reader");
    let filters = [("a/b", 2), ("c", 0), ("a/secret/x", 0), ("#", 2), ("b/x", 2), ("$share/g/c", 1)];
    let suback = world.ask(peer, subscribe(V5, 1, &[], &filters));
    let (_, body) = cut_variable_byte_integer(&suback[1..]);
    let (length, block) = cut_variable_byte_integer(&body[2..]);
    let (block, codes) = block.split_at(length);
    assert_eq!(codes, [2, 0x87, 0x87, 2, 1, 0x87]);
    assert_eq!(property_list(block), [(0x1F, b"\0\x1ano rule of rules allows it".to_vec())]);
}

#[test]
fn older_clients_are_refused_in_their_own_words() {
    let mut world = world(RULES);
    let peer = world.open();
    world.send(peer, Connect::new(V311, "r").user_name("reader").bytes());
    world.take(peer);
    assert_eq!(world.ask(peer, subscribe(V311, 1, &[], &[("c", 0), ("a", 0)])), [0x90, 4, 0, 1, 0x80, 0]);
}

#[test]
fn messages_for_a_wildcard_are_checked_one_by_one() {
    let mut world = world(RULES);
    let reader = user(&mut world, "r", "reader");
    subscribe_to(&mut world, reader, "#", 2);
    let writer = user(&mut world, "w", "writer");
    for _ in 0..2 {
        for topic in ["a/1", "a/secret/1", "c", "a", "b/1", "b/1/2"] {
            publish(&mut world, writer, topic);
        }
        assert_eq!(topics(&mut world, reader), ["a/1", "a", "b/1"]);
    }
    world.send(writer, Publish::new(V5, "b/1", b"m").qos(2, 1).bytes());
    assert_eq!(take_publish(&mut world, reader).qos, 1, "the rule for b/+ allows no more");
}

#[test]
fn a_denied_publication_gets_a_reason() {
    let mut world = world(RULES);
    let reader = user(&mut world, "r", "reader");
    let puback = world.ask(reader, Publish::new(V5, "a/secret/1", b"m").qos(1, 1).bytes());
    assert_eq!(puback[4], 0x87);
    assert!(puback.ends_with(b"denied by rules:6"), "{puback:02x?}");
}

#[test]
fn group_members_that_may_not_have_a_message_are_skipped() {
    let mut world = world("user writer\ntopic #\nuser one\ntopic a/1\nuser all\ntopic read a/#\n");
    let (one, all) = (user(&mut world, "1", "one"), user(&mut world, "2", "all"));
    for peer in [one, all] {
        subscribe_to(&mut world, peer, "$share/g/a/+", 0);
    }
    let writer = user(&mut world, "w", "writer");
    for topic in ["a/1", "a/1", "a/2", "a/2", "a/2"] {
        publish(&mut world, writer, topic);
    }
    assert_eq!(topics(&mut world, one), ["a/1"]);
    assert_eq!(topics(&mut world, all), ["a/1", "a/2", "a/2", "a/2"]);
    world.cut(all);
    publish(&mut world, writer, "a/2");
    assert_silent(&mut world, one);
}

#[test]
fn retained_messages_are_judged_for_reader_and_publisher() {
    let mut world = world(RULES);
    let writer = user(&mut world, "w", "writer");
    for topic in ["a/1", "a/2", "a/secret/1", "c"] {
        world.send(writer, Publish::new(V5, topic, topic.as_bytes()).retain().bytes());
    }
    let reader = user(&mut world, "r", "reader");
    let ask = |world: &mut World, filter| {
        world.send(reader, subscribe(V5, 1, &[], &[(filter, 0)]));
        let mut packets = world.take(reader);
        packets.remove(0);
        packets
            .iter()
            .map(|packet| String::from_utf8_lossy(&received(V5, packet).payload).into_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(ask(&mut world, "#"), ["a/1", "a/2"]);
    reload(&mut world, "user writer\ntopic write a/2\nuser reader\ntopic read #\n");
    assert_eq!(
        ask(&mut world, "#"),
        ["a/2"],
        "the sources of the others are no longer allowed to publish them"
    );
}

#[test]
fn a_will_is_judged_at_connect_and_when_it_is_due() {
    let mut world = world(RULES);
    let will = |user: &str, topic| {
        Connect::new(V5, "x").user_name(user).will(topic, topic.as_bytes(), 0, false, &[]).bytes()
    };
    assert_refused(&mut world, will("reader", "a/1"), 0x87);
    let reader = user(&mut world, "r", "reader");
    subscribe_to(&mut world, reader, "a/#", 0);
    let writer = world.connect(will("writer", "a/1"));
    world.cut(writer);
    assert_eq!(topics(&mut world, reader), ["a/1"]);
    let writer = world.connect(will("writer", "a/1"));
    reload(&mut world, "user reader\ntopic read a/#\n");
    world.cut(writer);
    assert_silent(&mut world, reader);
}

#[test]
fn only_its_own_user_takes_a_session_over() {
    let mut world = world(RULES);
    let connect = |name: Option<&str>| {
        let connect = Connect::new(V5, "c").resume().expiry(100);
        name.map_or(connect.clone(), |name| connect.user_name(name)).bytes()
    };
    let reader = world.connect(connect(Some("reader")));
    subscribe_to(&mut world, reader, "a/#", 1);
    let clean = Connect::new(V5, "c").user_name("writer").bytes();
    for stranger in [connect(Some("writer")), connect(None), clean] {
        assert_refused(&mut world, &stranger, 0x87);
        assert!(!world.is_closed(reader));
    }
    world.cut(reader);
    assert_refused(&mut world, connect(Some("writer")), 0x87);
    let writer = user(&mut world, "w", "writer");
    world.ask(writer, Publish::new(V5, "a/1", b"m").qos(1, 7).bytes());
    let reader = world.open();
    world.send(reader, connect(Some("reader")));
    let packets = world.take(reader);
    assert!(ConnAck::new(&packets[0]).session_present);
    assert_eq!(received(V5, &packets[1]).payload, b"m");
}

/// A retained message keeps both names of its publisher, whose lengths are stored in two bytes.
#[test]
fn names_that_are_too_long_together_are_refused() {
    let limits = Limits { connect_packet_size: 200_000, ..Limits::default() };
    let mut world = World::with(limits, Ruled::new("pattern readwrite #\n"));
    let connect =
        |length: usize| Connect::new(V5, &"c".repeat(40_000)).user_name(&"u".repeat(length)).bytes();
    assert_refused(&mut world, connect(25_529), 0x85);
    let peer = world.connect(connect(25_528));
    let puback = world.ask(peer, Publish::new(V5, "t", b"m").retain().qos(1, 1).bytes());
    assert_eq!(puback[..4], [0x40, 3, 0, 1]);
}

#[test]
fn rules_that_change_hold_for_subscriptions_that_are_there() {
    let mut world = world(RULES);
    let (reader, writer) = (user(&mut world, "r", "reader"), user(&mut world, "w", "writer"));
    subscribe_to(&mut world, reader, "a/+", 0);
    let send_both = |world: &mut World| {
        publish(world, writer, "a/1");
        publish(world, writer, "a/2");
        topics(world, reader)
    };
    assert_eq!(send_both(&mut world), ["a/1", "a/2"]);
    reload(&mut world, "user writer\ntopic #\nuser reader\ntopic read a/2\n");
    assert_eq!(send_both(&mut world), ["a/2"]);
    reload(&mut world, "user writer\ntopic #\n");
    assert_eq!(send_both(&mut world), [""; 0]);
    reload(&mut world, "user writer\ntopic #\nuser reader\ntopic read #\n");
    assert_eq!(send_both(&mut world), ["a/1", "a/2"]);
}

#[test]
fn queued_messages_are_checked_by_the_new_rules() {
    let mut world = world(RULES);
    let connect = Connect::new(V5, "r").user_name("reader").resume().expiry(100);
    let reader = world.connect(connect.bytes());
    subscribe_to(&mut world, reader, "a/#", 1);
    let writer = user(&mut world, "w", "writer");
    let send = |world: &mut World, topic| {
        world.ask(writer, Publish::new(V5, topic, topic.as_bytes()).qos(1, 7).bytes());
    };
    for topic in ["a/1", "a/2"] {
        send(&mut world, topic);
    }
    assert_eq!(topics(&mut world, reader), ["a/1", "a/2"], "sent and not acknowledged");
    world.cut(reader);
    for topic in ["a/3", "a/4"] {
        send(&mut world, topic);
    }
    reload(&mut world, "user writer\ntopic #\nuser reader\ntopic read a/#\ntopic deny a/1\ntopic deny a/3\n");
    let reader = world.open();
    world.send(reader, connect.bytes());
    let packets = world.take(reader);
    assert_eq!(ConnAck::new(&packets[0]).code, 0);
    assert_eq!(
        packets[1..].iter().map(|packet| received(V5, packet).payload).collect::<Vec<_>>(),
        [b"a/2".to_vec(), b"a/4".to_vec()]
    );
}

#[test]
fn a_client_that_may_not_stay_is_disconnected_and_an_unknown_one_loses_its_session() {
    let mut world = world("user gone\ntopic #\nuser changed\ntopic #\n");
    let connect = |name: &str| Connect::new(V5, name).user_name(name).resume().expiry(100).bytes();
    let (gone, changed) = (world.connect(connect("gone")), world.connect(connect("changed")));
    let stays = user(&mut world, "s", "stays");
    reload(&mut world, "");
    for peer in [gone, changed] {
        assert_disconnected(&mut world, peer, 0x87, "it may not stay");
    }
    assert!(!world.is_closed(stays));
    for (name, is_present) in [("gone", false), ("changed", true)] {
        let peer = world.open();
        let connack = ConnAck::new(&world.ask(peer, connect(name)));
        assert_eq!(connack.session_present, is_present, "{name}");
    }
}

/// Refuses every client for one reason.
struct Closed(ReasonCode);

impl AccessControl for Closed {
    fn ask(&mut self, _: &Client<'_>, _: Question<'_>) -> Answer {
        Answer::Now(Verdict::Refused(self.0))
    }
}

#[test]
fn a_refused_client_gets_a_reason_that_does_not_reveal_which_names_exist() {
    for (reason, connect, why) in [
        (
            ReasonCode::BadUserNameOrPassword,
            Connect::new(V5, "a").user_name("u"),
            "the User Name or the password is wrong",
        ),
        (ReasonCode::NotAuthorized, Connect::new(V5, "a"), "clients without a User Name are not accepted"),
        (ReasonCode::NotAuthorized, Connect::new(V5, "a").user_name("u"), "the client is not authenticated"),
    ] {
        let mut world = World::with(Limits::default(), Closed(reason));
        let (_, connack) = greet(&mut world, &connect);
        assert_eq!(connack.code, reason.value());
        let told = connack.property(0x1F).expect("a Reason String");
        assert_eq!(String::from_utf8_lossy(&told[2..]), why);
    }
}
