//! What a listener demands of its clients beyond the standards: versions, limits, names and mount points. Their names
//! in the configuration of mosquitto are in `settings`.

use std::cell::RefCell;
use std::rc::Rc;

use brooklet::base::peer::Peer as Address;
use brooklet::core::access::{AccessControl, Answer, Client, Question, Verdict};
use brooklet::core::broker::Introduction;
use brooklet::core::limits::Limits;
use brooklet::core::listener::{ListenerId, ListenerOptions, UserNameSource};
use brooklet::core::switches::Switches;
use brooklet::protocol::codec::{QoS, ReasonCode};

use crate::v5_peers::*;
use crate::wire::*;
use crate::world::{Peer, World};

/// The listener that demands more than others, and one that does not.
const STRICT: ListenerId = ListenerId(3);
const PLAIN: ListenerId = ListenerId(0);

fn rules(change: impl FnOnce(&mut ListenerOptions)) -> Rc<ListenerOptions> {
    let mut rules = ListenerOptions::within(&Limits::default());
    change(&mut rules);
    Rc::new(rules)
}

fn world(change: impl FnOnce(&mut ListenerOptions)) -> World {
    let mut world = World::new();
    world.broker.set_listener_options(STRICT, rules(change));
    world
}

/// The broker's answer to this CONNECT at a listener, and whether it closes the connection then.
fn answer(world: &mut World, listener: ListenerId, connect: &Connect) -> (Vec<u8>, bool) {
    let peer = world.open_at(listener);
    world.send(peer, connect.bytes());
    let mut packets = world.take(peer);
    assert!(packets.len() <= 1, "{packets:02x?}");
    (packets.pop().unwrap_or_default(), world.is_closed(peer))
}

/// The Reason Code or return code with which this CONNECT is refused.
fn refusal(world: &mut World, connect: &Connect) -> u8 {
    let (packet, is_closed) = answer(world, STRICT, connect);
    assert!(is_closed, "{packet:02x?}");
    packet[3]
}

fn connect_at(world: &mut World, listener: ListenerId, connect: &Connect) -> Peer {
    let peer = world.open_at(listener);
    let connack = world.ask(peer, connect.bytes());
    assert_eq!(connack[3], 0, "{connack:02x?}");
    peer
}

#[test]
fn only_versions_of_the_listener_are_spoken_there() {
    for (spoken, level, code) in [(V5, V31, 1), (V5, V311, 1), (V311, V5, 0x84), (V31, V311, 1)] {
        let mut world = world(|rules| rules.versions = [V31, V311, V5].map(|version| version == spoken));
        let connect = Connect::new(level, "a");
        assert_eq!(refusal(&mut world, &connect), code, "{level} where {spoken} is spoken");
        assert_eq!(answer(&mut world, PLAIN, &connect).0[3], 0);
        assert_eq!(answer(&mut world, STRICT, &Connect::new(spoken, "a")).0[3], 0);
    }
}

#[test]
fn the_maximum_qos_is_announced_granted_and_enforced() {
    for (most, qos) in [(QoS::AtMostOnce, 0), (QoS::AtLeastOnce, 1)] {
        let mut world = world(|rules| rules.maximum_qos = most);
        let (packet, _) = answer(&mut world, STRICT, &Connect::new(V5, "a"));
        assert_eq!(ConnAck::new(&packet).property(0x24), Some(&[qos][..]));
        let (packet, _) = answer(&mut world, PLAIN, &Connect::new(V5, "b"));
        assert_eq!(ConnAck::new(&packet).property(0x24), None);

        let peer = connect_at(&mut world, STRICT, &Connect::new(V5, "a"));
        let suback = world.ask(peer, subscribe(V5, 1, &[], &[("x", 2), ("y", 0)]));
        assert_eq!(suback, [0x90, 5, 0, 1, 0, qos, 0]);
        assert_broken(&mut world, peer, Publish::new(V5, "x", b"").qos(qos + 1, 1).bytes(), 0x9B);

        let old = connect_at(&mut world, STRICT, &Connect::new(V311, "a"));
        assert_eq!(world.ask(old, subscribe(V311, 1, &[], &[("x", 2)])), [0x90, 3, 0, 1, qos]);
        world.send(old, Publish::new(V311, "x", b"").qos(qos + 1, 1).bytes());
        assert!(world.is_closed(old) && world.take(old).is_empty());

        let will = |level, qos| Connect::new(level, "w").will("x", b"", qos, false, &[]);
        assert_eq!(refusal(&mut world, &will(V5, qos + 1)), 0x9B);
        for level in [V31, V311] {
            assert_unanswered(&mut world, STRICT, &will(level, qos + 1));
            assert_eq!(answer(&mut world, STRICT, &will(level, qos)).0, [0x20, 2, 0, 0]);
        }
    }
}

/// Asserts that a CONNECT for whose refusal its version has no code ends the connection, without telling the client to
/// try again.
fn assert_unanswered(world: &mut World, listener: ListenerId, connect: &Connect) {
    let sessions = world.broker.census().sessions;
    let peer = world.open_at(listener);
    world.send(peer, connect.bytes());
    assert!(world.is_closed(peer) && world.take(peer).is_empty(), "{:02x?}", connect.bytes());
    assert_eq!(world.broker.census().sessions, sessions);
}

#[test]
fn without_retained_messages_asking_for_one_ends_the_connection() {
    let mut world = World::new();
    world.broker.set_switches(Switches { retain_available: false, ..Switches::default() });
    let (peer, connack) = greet(&mut world, &Connect::new(V5, "a"));
    assert_eq!(connack.property(0x25), Some(&[0][..]));
    assert_broken(&mut world, peer, Publish::new(V5, "x", b"").retain().bytes(), 0x9A);
    assert_refused(&mut world, Connect::new(V5, "a").will("x", b"", 0, true, &[]).bytes(), 0x9A);
    for level in [V31, V311] {
        let old = world.connect(Connect::new(level, "a").bytes());
        assert_eq!(world.ask(old, subscribe(level, 1, &[], &[("x", 2)])), [0x90, 3, 0, 1, 2]);
        world.send(old, Publish::new(level, "x", b"").retain().bytes());
        assert!(world.is_closed(old) && world.take(old).is_empty());
        assert_unanswered(&mut world, PLAIN, &Connect::new(level, "w").will("x", b"", 0, true, &[]));
    }
}

#[test]
fn the_largest_payload_is_enforced_to_the_byte() {
    let mut world = World::with_limits(|limits| limits.payload_size = 10);
    let (peer, reader) = (client(&mut world, "a"), client(&mut world, "c"));
    let old = world.connect(Connect::new(V311, "b").bytes());
    subscribe_to(&mut world, reader, "x", 2);
    let (fits, too_large) = ([b'x'; 10], [b'x'; 11]);
    // A client that can be told is told at once; all others get the usual answer.
    for (qos, kind) in [(1, 0x40), (2, 0x50)] {
        let message = |version, payload: &[u8]| Publish::new(version, "x", payload).qos(qos, 7).bytes();
        let answer = world.ask(peer, message(V5, &too_large));
        assert_eq!((answer[0], &answer[2..5]), (kind, &[0, 7, 0x97][..]));
        assert_eq!(world.ask(old, message(V311, &too_large)), [kind, 2, 0, 7]);
        assert!(world.take(reader).is_empty());
    }
    world.send(peer, Publish::new(V5, "x", &too_large).bytes());
    world.send(old, Publish::new(V311, "x", &too_large).bytes());
    assert!(world.take(reader).is_empty());
    world.send(old, Publish::new(V311, "x", &fits).bytes());
    world.send(peer, Publish::new(V5, "x", &fits).bytes());
    assert_eq!(world.take(reader).len(), 2);
    let will = |level| Connect::new(level, "d").will("x", &too_large, 0, false, &[]);
    assert_refused(&mut world, will(V5).bytes(), 0x95);
    let refused = world.open();
    assert_eq!(world.ask(refused, will(V311).bytes()), [0x20, 2, 0, 5]);
    let _ = client(&mut world, "e");
}

#[test]
fn the_maximum_packet_size_is_announced_and_enforced() {
    let mut world = world(|rules| rules.packet_size = 100);
    let (packet, _) = answer(&mut world, STRICT, &Connect::new(V5, "a"));
    assert_eq!(ConnAck::new(&packet).property(0x27), Some(&[0, 0, 0, 100][..]));
    for level in [V5, V311] {
        let sized = |size: usize| Publish::new(level, "x", &vec![0; size]).bytes();
        let overhead = sized(0).len();
        let peer = connect_at(&mut world, STRICT, &Connect::new(level, "a"));
        world.send(peer, sized(100 - overhead));
        assert!(!world.is_closed(peer));
        world.send(peer, sized(101 - overhead));
        assert!(world.is_closed(peer));
        // The CONNECT and what follows may come at once.
        let at_once = world.open_at(STRICT);
        world.send(at_once, [Connect::new(level, "a").bytes(), sized(100)].concat());
        assert!(world.is_closed(at_once));
    }
    let plain = connect_at(&mut world, PLAIN, &Connect::new(V5, "b"));
    world.send(plain, Publish::new(V5, "x", &[0; 1000]).bytes());
    assert!(!world.is_closed(plain));
}

#[test]
fn keep_alive_and_topic_aliases_have_bounds_of_their_own() {
    let mut world = world(|rules| {
        rules.keep_alive_maximum = 10;
        rules.topic_alias_maximum = 3;
    });
    for wanted in [0, 11, 60_000] {
        let (packet, _) = answer(&mut world, STRICT, &Connect::new(V5, "a").keep_alive(wanted));
        assert_eq!(ConnAck::new(&packet).property(0x13), Some(&[0, 10][..]));
    }
    let (packet, _) = answer(&mut world, STRICT, &Connect::new(V5, "a").keep_alive(10));
    let connack = ConnAck::new(&packet);
    assert_eq!((connack.property(0x13), connack.property(0x22)), (None, Some(&[0, 3][..])));
    for (wanted, code) in [(0, 2), (11, 2), (10, 0)] {
        let (packet, _) = answer(&mut world, STRICT, &Connect::new(V311, "a").keep_alive(wanted));
        assert_eq!(packet, [0x20, 2, 0, code], "a client that cannot be told another value is refused");
    }
    let peer = connect_at(&mut world, STRICT, &Connect::new(V5, "a"));
    world.send(peer, Publish::new(V5, "x", b"").property(&u16_property(0x23, 3)).bytes());
    assert!(!world.is_closed(peer));
    assert_broken(
        &mut world,
        peer,
        Publish::new(V5, "x", b"").property(&u16_property(0x23, 4)).bytes(),
        0x94,
    );
}

#[test]
fn a_listener_bounds_the_topic_aliases_that_clients_are_sent() {
    for (most, is_bound) in [(0, false), (1, true)] {
        let mut world = world(|rules| rules.outbound_topic_alias_maximum = most);
        let peer = connect_at(&mut world, STRICT, &Connect::new(V5, "a").property(&u16_property(0x22, 9)));
        subscribe_to(&mut world, peer, "#", 0);
        let sender = client(&mut world, "b");
        let mut sizes = Vec::new();
        for topic in ["one", "one", "two"] {
            world.send(sender, Publish::new(V5, topic, b"").bytes());
            sizes.push(world.take(peer).iter().map(Vec::len).sum::<usize>());
        }
        let whole = Publish::new(V5, "one", b"").bytes().len();
        let expected = if is_bound { [whole + 3, whole, whole] } else { [whole; 3] };
        assert_eq!(sizes, expected, "{most}: the first with name and alias, the second by the alias alone");
    }
}

#[test]
fn client_identifiers_have_rules() {
    let unnamed = |level| Connect::new(level, "");
    let mut world = world(|rules| rules.allows_empty_client_identifier = false);
    assert_eq!([refusal(&mut world, &unnamed(V5)), refusal(&mut world, &unnamed(V311))], [0x85, 2]);

    world.broker.set_listener_options(STRICT, rules(|rules| rules.auto_id_prefix = "given-".into()));
    let (packet, _) = answer(&mut world, STRICT, &unnamed(V5));
    assert!(ConnAck::new(&packet).property(0x12).is_some_and(|drawn| drawn[2..].starts_with(b"given-")));

    let prefixes = rules(|rules| rules.client_identifier_prefixes = vec!["in-".into(), "out-".into()]);
    world.broker.set_listener_options(STRICT, prefixes);
    assert_eq!(refusal(&mut world, &Connect::new(V5, "other")), 0x87);
    assert_eq!(refusal(&mut world, &Connect::new(V311, "in")), 5);
    assert_eq!(answer(&mut world, STRICT, &Connect::new(V5, "out-1")).0[3], 0);
}

/// The questions: Client Identifier, User Name, certificate, listener and password of each.
type Asked = Rc<RefCell<Vec<(String, Option<String>, Option<String>, ListenerId, Option<Vec<u8>>)>>>;

struct Witness(Asked);

impl AccessControl for Witness {
    fn ask(&mut self, client: &Client<'_>, question: Question<'_>) -> Answer {
        let password = match question {
            Question::Connect { password, .. } => password.map(<[u8]>::to_vec),
            Question::Publish { topic, .. } => Some(topic.as_str().into()),
            Question::Subscribe { filter, .. } => Some(filter.as_str().into()),
            Question::Receive { .. } | Question::BeSource { .. } | Question::Stay => {
                return Answer::Now(Verdict::Granted);
            }
        };
        self.0.borrow_mut().push((
            client.client_identifier.to_owned(),
            client.user_name.map(str::to_owned),
            client.certificate.map(str::to_owned),
            client.listener,
            password,
        ));
        Answer::Now(Verdict::Granted)
    }
}

fn witnessed(change: impl FnOnce(&mut ListenerOptions)) -> (World, Asked) {
    let asked = Asked::default();
    let mut world = World::with(Limits::default(), Witness(Rc::clone(&asked)));
    world.broker.set_listener_options(STRICT, rules(change));
    (world, asked)
}

fn introduce(world: &mut World, identity: &str) -> Peer {
    let peer = world.open_at(STRICT);
    let introduction = Introduction { peer: Some(Address::Local), identity: Some(identity.into()) };
    world.broker.introduce(peer, introduction);
    peer
}

#[test]
fn the_user_name_may_stand_for_the_client_identifier() {
    let (mut world, asked) = witnessed(|rules| rules.user_name_is_client_identifier = true);
    for (level, code) in [(V5, 0x87), (V311, 5)] {
        assert_eq!(refusal(&mut world, &Connect::new(level, "a")), code);
    }
    assert!(asked.borrow().is_empty(), "no question is asked about a client without a name");
    let named = Connect::new(V5, "").user_name("ann").password(b"pw");
    let (packet, _) = answer(&mut world, STRICT, &named);
    assert_eq!(ConnAck::new(&packet).property(0x12), Some(&field("ann")[..]));
    let expected = ("ann".into(), Some("ann".into()), None, STRICT, Some(b"pw".to_vec()));
    assert_eq!(*asked.borrow(), [expected]);
}

#[test]
fn a_certificate_stands_for_user_name_and_password() {
    let (mut world, asked) = witnessed(|rules| rules.user_name = UserNameSource::CommonName);
    assert_eq!(refusal(&mut world, &Connect::new(V5, "a").user_name("ann")), 0x87);
    for unfit in ["", "a\0b"] {
        let peer = introduce(&mut world, unfit);
        assert_eq!(world.ask(peer, Connect::new(V311, "a").bytes()), [0x20, 2, 0, 5]);
    }
    assert!(asked.borrow().is_empty());
    let peer = introduce(&mut world, "ann");
    world.ask(peer, Connect::new(V311, "a").user_name("bob").password(b"pw").bytes());
    world.send(peer, Publish::new(V311, "t", b"").bytes());
    let ann = || Some("ann".to_owned());
    let expected = |text: Option<&str>| {
        ("a".to_owned(), ann(), ann(), STRICT, text.map(|text| text.as_bytes().to_vec()))
    };
    assert_eq!(*asked.borrow(), [expected(None), expected(Some("t"))]);
}

#[test]
fn a_certificate_is_no_password_elsewhere() {
    let (mut world, asked) = witnessed(|_| {});
    let peer = introduce(&mut world, "ann");
    world.ask(peer, Connect::new(V311, "a").user_name("ann").bytes());
    assert_eq!(*asked.borrow(), [("a".into(), Some("ann".into()), None, STRICT, None)]);
}

#[test]
fn an_introduction_after_the_connect_is_too_late() {
    let (mut world, asked) = witnessed(|rules| rules.user_name = UserNameSource::CommonName);
    let peer = introduce(&mut world, "ann");
    world.ask(peer, Connect::new(V311, "a").bytes());
    world.broker.introduce(peer, Introduction { peer: None, identity: Some("eve".into()) });
    world.send(peer, Publish::new(V311, "t", b"").bytes());
    assert!(asked.borrow().iter().all(|asked| asked.1.as_deref() == Some("ann")));
}

fn mounted() -> World {
    world(|rules| rules.mount_point = Some("site/".into()))
}

#[test]
fn a_mount_point_is_put_on_and_taken_off() {
    for level in [V311, V5] {
        let mut world = mounted();
        let inside = connect_at(&mut world, STRICT, &Connect::new(level, "inside"));
        let outside = connect_at(&mut world, PLAIN, &Connect::new(level, "outside"));
        world.ask(inside, subscribe(level, 1, &[], &[("#", 2)]));
        world.ask(outside, subscribe(level, 1, &[], &[("#", 2)]));
        world.send(inside, Publish::new(level, "a/b", b"1").bytes());
        let topic = |world: &mut World, peer| received(level, &world.take_one(peer)).topic;
        assert_eq!([topic(&mut world, inside), topic(&mut world, outside)], ["a/b", "site/a/b"]);
        // Of the others, it receives only what lies below, and large payloads by reference.
        for (name, payload) in [("other", vec![0; 10]), ("site", vec![0; 10]), ("site/c", vec![7; 5000])] {
            world.send(outside, Publish::new(level, name, &payload).bytes());
            assert_eq!(topic(&mut world, outside), name);
        }
        let heard = received(level, &world.take_one(inside));
        assert_eq!((heard.topic.as_str(), heard.payload.len()), ("c", 5000));
        world.ask(inside, unsubscribe(level, 2, &["#"]));
        world.send(outside, Publish::new(level, "site/c", b"").bytes());
        assert!(world.take(inside).is_empty());
    }
}

#[test]
fn a_mount_point_holds_for_retained_messages_wills_and_shares() {
    let mut world = mounted();
    let outside = connect_at(&mut world, PLAIN, &Connect::new(V5, "outside"));
    subscribe_to(&mut world, outside, "site/will", 0);
    let inside = Connect::new(V5, "inside").will("will", b"w", 0, false, &[]);
    let inside = connect_at(&mut world, STRICT, &inside);
    world.send(inside, Publish::new(V5, "kept", b"k").retain().bytes());
    world.send(inside, subscribe(V5, 3, &[], &[("$share/g/shared", 0), ("kept", 0)]));
    let answers = world.take(inside);
    assert_eq!(answers[0][..2], [0x90, 5]);
    assert_eq!(received(V5, &answers[1]).topic, "kept");
    world.send(outside, Publish::new(V5, "site/shared", b"s").bytes());
    assert_eq!(take_publish(&mut world, inside).topic, "shared");
    world.cut(inside);
    assert_eq!(take_publish(&mut world, outside).topic, "site/will");
    world.send(outside, subscribe(V5, 4, &[], &[("site/kept", 0)]));
    assert_eq!(received(V5, &world.take(outside)[1]).topic, "site/kept");
}

#[test]
fn a_mount_point_is_part_of_the_questions() {
    let (mut world, asked) = witnessed(|rules| rules.mount_point = Some("site/".into()));
    let connect = Connect::new(V5, "a").will("w", b"", 0, false, &[]);
    let peer = connect_at(&mut world, STRICT, &connect);
    world.send(peer, Publish::new(V5, "$SYS/x", b"").bytes());
    world.ask(peer, subscribe(V5, 1, &[], &[("f/#", 0), ("$share/g/f", 0)]));
    let about: Vec<_> = asked
        .borrow()
        .iter()
        .map(|asked| asked.4.clone().map(|text| String::from_utf8(text).unwrap()))
        .collect();
    let expected = ["site/w", "site/$SYS/x", "site/f/#", "$share/g/site/f"].map(|text| Some(text.to_owned()));
    assert_eq!(about[1..], expected);
}

#[test]
fn names_that_a_mount_point_makes_too_long_are_refused() {
    let mut world = mounted();
    let long = "x".repeat(65_535);
    let peer = connect_at(&mut world, STRICT, &Connect::new(V5, "a"));
    assert_eq!(world.ask(peer, subscribe(V5, 1, &[], &[(&long, 0), ("y", 1)])), [0x90, 5, 0, 1, 0, 0x8F, 1]);
    assert_eq!(world.ask(peer, unsubscribe(V5, 2, &[&long])), [0xB0, 4, 0, 2, 0, 0x11]);
    assert_broken(&mut world, peer, Publish::new(V5, &long, b"").bytes(), 0x90);
}

#[test]
fn a_session_that_moves_hears_nothing_it_can_not_name() {
    let mut world = mounted();
    let peer = connect_at(&mut world, PLAIN, &Connect::new(V5, "a").expiry(100));
    subscribe_to(&mut world, peer, "#", 1);
    let moved = connect_at(&mut world, STRICT, &Connect::new(V5, "a").resume().expiry(100));
    let other = connect_at(&mut world, PLAIN, &Connect::new(V5, "b"));
    world.send(other, Publish::new(V5, "x", b"").bytes());
    world.send(other, Publish::new(V5, "site/y", b"").bytes());
    assert_eq!(take_publish(&mut world, moved).topic, "y");
}

#[test]
fn outbound_aliases_name_topics_without_their_mount_point() {
    let mut world = mounted();
    let connect = Connect::new(V5, "a").property(&u16_property(0x22, 5));
    let peer = connect_at(&mut world, STRICT, &connect);
    subscribe_to(&mut world, peer, "t", 0);
    for named in ["t", ""] {
        world.send(peer, Publish::new(V5, "t", b"").bytes());
        assert_eq!(take_publish(&mut world, peer).topic, named);
    }
}

#[test]
fn messages_of_qos_0_wait_where_that_is_wanted() {
    for waits in [false, true] {
        let mut world = World::new();
        world.broker.set_switches(Switches { queues_at_most_once: waits, ..Switches::default() });
        let away = world.connect(Connect::new(V5, "a").expiry(100).bytes());
        subscribe_to(&mut world, away, "x", 1);
        world.cut(away);
        let peer = client(&mut world, "b");
        world.send(peer, Publish::new(V5, "x", b"0").bytes());
        world.ask(peer, Publish::new(V5, "x", b"1").qos(1, 1).bytes());
        world.send(peer, Publish::new(V5, "x", b"2").bytes());
        let back = world.open();
        world.send(back, Connect::new(V5, "a").resume().expiry(100).bytes());
        let came: Vec<_> = world.take(back)[1..]
            .iter()
            .map(|packet| (received(V5, packet).payload, packet[0] >> 1 & 3))
            .collect();
        let expected: &[(&[u8], u8)] = if waits { &[(b"0", 0), (b"1", 1), (b"2", 0)] } else { &[(b"1", 1)] };
        assert_eq!(came, expected.iter().map(|(text, qos)| (text.to_vec(), *qos)).collect::<Vec<_>>());
    }
}

#[test]
fn qos_is_raised_where_that_is_wanted() {
    let mut world = World::new();
    world.broker.set_switches(Switches { raises_qos: true, ..Switches::default() });
    let peer = subscriber(&mut world, "a", "x", 2);
    let other = client(&mut world, "b");
    world.send(other, Publish::new(V5, "x", b"").retain().bytes());
    world.send(other, Publish::new(V5, "x", b"1").retain().bytes());
    let qos: Vec<u8> = world.take(peer).iter().map(|packet| packet[0] >> 1 & 3).collect();
    assert_eq!(qos, [2, 2]);
    world.send(other, subscribe(V5, 1, &[], &[("x", 1)]));
    assert_eq!(world.take(other)[1][0], 0x33, "retained, at QoS 1");
}

#[test]
fn a_refused_client_gets_the_reason() {
    let mut world = world(|rules| rules.versions = [true, true, false]);
    let (packet, _) = answer(&mut world, STRICT, &Connect::new(V5, "a"));
    assert_eq!(packet[3], ReasonCode::UnsupportedProtocolVersion.value());
    assert!(ConnAck::new(&packet).property(0x1F).is_some());
}
