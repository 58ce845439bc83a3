//! The owner of a session, and what its client may receive when it returns through another listener or as another
//! user.

use brooklet::auth::acl::{Access, Acl, Ruling, Subject};
use brooklet::core::access::{AccessControl, Answer, Client, Question, Verdict};
use brooklet::core::limits::Limits;
use brooklet::core::listener::ListenerId;
use brooklet::core::switches::Switches;
use brooklet::protocol::codec::{QoS, ReasonCode};

use crate::v5_peers::ConnAck;
use crate::wire::*;
use crate::world::{Peer, World};

const OPEN: ListenerId = ListenerId(0);
const RULED: ListenerId = ListenerId(1);
/// A listener that authenticates names; its clients may do everything.
const PROVING: ListenerId = ListenerId(2);

/// What the clients of one listener may do, and which listeners authenticate names.
struct Listeners(Acl);

impl AccessControl for Listeners {
    fn answers_stand(&self) -> bool {
        true
    }

    fn proves_names(&self, listener: ListenerId) -> bool {
        listener == PROVING
    }

    fn ask(&mut self, client: &Client<'_>, question: Question<'_>) -> Answer {
        let subject = Subject { client_identifier: client.client_identifier, user_name: client.user_name };
        let ruling = match question {
            _ if client.listener != RULED => return Answer::Now(Verdict::Granted),
            Question::Connect { .. } | Question::Stay => return Answer::Now(Verdict::Granted),
            Question::Publish { topic, .. } | Question::BeSource { topic } => {
                self.0.decide(&subject, Access::Write, topic)
            }
            Question::Receive { topic } => self.0.decide(&subject, Access::Read, topic),
            Question::Subscribe { filter, .. } => self.0.decide_filter(&subject, filter),
        };
        Answer::Now(match ruling {
            Ruling::Allowed { maximum: QoS::ExactlyOnce, .. } => Verdict::Granted,
            Ruling::Allowed { maximum, .. } => Verdict::GrantedAtMost(maximum),
            Ruling::InPart { maximum } => Verdict::GrantedInPart(maximum),
            Ruling::Denied { .. } | Ruling::Unused { .. } => Verdict::Refused(ReasonCode::NotAuthorized),
        })
    }
}

const RULES: &str = "topic read public/#\nuser ann\ntopic read public/#\ntopic read ann/#\n";

fn world() -> World {
    let mut world = world_with(Limits::default());
    world.broker.set_switches(Switches { queues_at_most_once: true, ..Switches::default() });
    world
}

fn world_with(limits: Limits) -> World {
    World::with(limits, Listeners(Acl::parse("rules", RULES.as_bytes()).expect("good rules")))
}

fn lasting(level: u8, client: &str) -> Connect {
    match level {
        V5 => Connect::new(V5, client).resume().expiry(1_000),
        level => Connect::new(level, client).resume(),
    }
}

/// Connects at a listener; returns what comes after the CONNACK.
fn come(world: &mut World, listener: ListenerId, connect: &Connect) -> (Peer, Vec<Vec<u8>>) {
    let peer = world.open_at(listener);
    world.send(peer, connect.bytes());
    let mut packets = world.take(peer);
    assert_eq!((packets[0][0], packets[0][3]), (0x20, 0), "{packets:02x?}");
    packets.remove(0);
    (peer, packets)
}

fn topics(level: u8, packets: &[Vec<u8>]) -> Vec<String> {
    let publishes = packets.iter().filter(|packet| packet[0] >> 4 == 3);
    publishes.map(|packet| received(level, packet).topic).collect()
}

fn publish_all(world: &mut World, publisher: Peer) {
    for topic in ["public/t", "secret/t", "ann/t"] {
        for qos in 0..3 {
            let packet = Publish::new(V5, topic, b"m").qos(qos, u16::from(qos) + 1);
            world.send(publisher, packet.bytes());
            if qos == 2 {
                world.send(publisher, acknowledge(0x62, 3));
            }
        }
    }
    world.take(publisher);
}

#[test]
fn queued_and_new_messages_are_checked_at_the_present_listener() {
    for level in [V311, V5] {
        for filter in ["#", "+/t", "$share/g/#"] {
            if level != V5 && filter.starts_with('$') {
                continue;
            }
            let mut world = world();
            let publisher = world.connect(Connect::new(V5, "p").bytes());
            let (peer, _) = come(&mut world, OPEN, &lasting(level, "kitchen"));
            world.ask(peer, subscribe(level, 1, &[], &[(filter, 2)]));
            // Messages in flight, and the recipients of the topics are known from here on.
            publish_all(&mut world, publisher);
            assert_eq!(topics(level, &world.take(peer)).len(), 9, "{level} {filter}");
            world.cut(peer);
            publish_all(&mut world, publisher);
            let (peer, packets) = come(&mut world, RULED, &lasting(level, "kitchen"));
            let waited = topics(level, &packets);
            assert!(
                !waited.is_empty() && waited.iter().all(|topic| topic == "public/t"),
                "{level} {waited:?}"
            );
            publish_all(&mut world, publisher);
            let live = topics(level, &world.take(peer));
            assert_eq!(live, ["public/t"; 3], "{level} {filter}");
            world.cut(peer);
            // And the other way round: nothing is left out that is allowed here.
            publish_all(&mut world, publisher);
            let (peer, packets) = come(&mut world, OPEN, &lasting(level, "kitchen"));
            let waited = topics(level, &packets);
            assert!(waited.iter().all(|topic| topic == "public/t"), "judged where it was: {waited:?}");
            publish_all(&mut world, publisher);
            assert_eq!(topics(level, &world.take(peer)).len(), 9, "{level} {filter}");
        }
    }
}

#[test]
fn messages_of_an_ended_subscription_are_checked_as_well() {
    for level in [V311, V5] {
        for waiting in 1..=4 {
            for filters in [&["secret/t"][..], &["public/t", "secret/t"]] {
                let mut world = world_with(Limits { in_flight: 1, ..Limits::default() });
                let publisher = world.connect(Connect::new(V5, "p").bytes());
                let (peer, _) = come(&mut world, OPEN, &lasting(level, "kitchen"));
                for filter in filters {
                    world.ask(peer, subscribe(level, 1, &[], &[(filter, 1)]));
                }
                for number in 1..=waiting {
                    world.ask(publisher, Publish::new(V5, "secret/t", b"m").qos(1, number).bytes());
                }
                assert_eq!(topics(level, &world.take(peer)), ["secret/t"], "the others wait");
                world.ask(peer, unsubscribe(level, 2, &["secret/t"]));
                world.cut(peer);
                let (peer, packets) = come(&mut world, RULED, &lasting(level, "kitchen"));
                assert_eq!(topics(level, &packets), [""; 0], "{level} {waiting} {filters:?}");
                world.ask(publisher, Publish::new(V5, "public/t", b"m").qos(1, 9).bytes());
                let live = topics(level, &world.take(peer));
                assert_eq!(live.len(), filters.len() - 1, "{level} {waiting} {filters:?}");
            }
        }
    }
}

#[test]
fn a_name_that_comes_to_a_session_brings_its_rights_and_takes_the_others() {
    let mut world = world();
    let publisher = world.connect(Connect::new(V5, "p").bytes());
    let (peer, _) = come(&mut world, RULED, &lasting(V5, "kitchen").user_name("ann"));
    world.ask(peer, subscribe(V5, 1, &[], &[("#", 1)]));
    publish_all(&mut world, publisher);
    assert_eq!(topics(V5, &world.take(peer)), [["public/t"; 3], ["ann/t"; 3]].concat());
    world.cut(peer);
    let (peer, _) = come(&mut world, PROVING, &lasting(V5, "kitchen").user_name("eve"));
    publish_all(&mut world, publisher);
    assert_eq!(topics(V5, &world.take(peer)).iter().filter(|topic| *topic == "secret/t").count(), 3);
    world.cut(peer);
}

#[test]
fn retained_messages_are_handed_over_by_the_rules_of_the_listener_where_the_client_is() {
    let mut world = world();
    let publisher = world.connect(Connect::new(V5, "p").bytes());
    for topic in ["public/r", "secret/r"] {
        world.ask(publisher, Publish::new(V5, topic, b"m").retain().qos(1, 1).bytes());
    }
    let (peer, _) = come(&mut world, OPEN, &lasting(V5, "kitchen"));
    world.stall(peer, true);
    world.send(peer, subscribe(V5, 1, &[], &[("#", 1)]));
    world.cut(peer);
    let (_, packets) = come(&mut world, RULED, &lasting(V5, "kitchen"));
    assert!(topics(V5, &packets).iter().all(|topic| topic == "public/r"));
}

/// A way to connect: the listener, and the User Name.
type Way = (ListenerId, Option<&'static str>);

const WAYS: [Way; 5] =
    [(OPEN, None), (OPEN, Some("ann")), (OPEN, Some("bob")), (PROVING, Some("ann")), (PROVING, Some("bob"))];

/// Whether a session that was made in one way is resumed in another, according to docs/secure.md.
fn may_resume((first, owner): Way, (second, name): Way) -> bool {
    match (first == PROVING, second == PROVING) {
        // It goes over to the first name that is authenticated.
        (false, true) => true,
        // A name that was not authenticated owns nothing.
        (true, false) => false,
        _ => owner == name,
    }
}

#[test]
fn a_session_belongs_to_the_name_that_was_proved() {
    for level in [V311, V5] {
        for first in WAYS {
            for second in WAYS {
                for is_clean in [false, true] {
                    let mut world = world();
                    let connect = |(_, name): Way| {
                        let connect = lasting(level, "phone");
                        name.map_or(connect.clone(), |name| connect.user_name(name))
                    };
                    let (peer, _) = come(&mut world, first.0, &connect(first));
                    world.ask(peer, subscribe(level, 1, &[], &[("t", 1)]));
                    let other = world.open_at(second.0);
                    let again = connect(second);
                    let flags = again.flags | if is_clean { 0x02 } else { 0 };
                    world.send(other, Connect { flags, ..again }.bytes());
                    let connack = world.take(other).remove(0);
                    let what = format!("{level} {first:?} {second:?} {is_clean}");
                    if may_resume(first, second) {
                        assert_eq!(connack[2..4], [u8::from(!is_clean), 0], "{what}");
                        assert!(world.is_closed(peer), "{what}");
                    } else {
                        let code = if level == V5 { ConnAck::new(&connack).code } else { connack[3] };
                        assert_eq!(code, if level == V5 { 0x87 } else { 5 }, "{what}");
                        assert!(!world.is_closed(peer), "{what}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_refusal_does_not_name_the_owner_of_the_session() {
    let mut world = world();
    come(&mut world, PROVING, &lasting(V5, "phone").user_name("ann"));
    let peer = world.open_at(OPEN);
    let connack = ConnAck::new(&world.ask(peer, lasting(V5, "phone").user_name("ann").bytes()));
    let told = String::from_utf8_lossy(&connack.property(0x1F).expect("a Reason String")[2..]).into_owned();
    assert_eq!(told, "the session belongs to another user");
}
