//! What once went wrong, each case by name. Most were found by fuzzing; they stay for ever.

#[path = "conformance/wire.rs"]
#[expect(dead_code, reason = "these tests need a part of it")]
mod wire;
#[path = "conformance/world.rs"]
#[expect(dead_code, reason = "these tests need a part of it")]
mod world;

use brooklet::access::{AccessControl, Answer, Client, Peer, Question, Verdict};
use brooklet::broker::{Broker, Effect, Intake};
use brooklet::codec::ReasonCode;
use brooklet::limits::Limits;
use brooklet::settings::ListenerId;
use brooklet::time::Time;

use wire::*;
use world::World;

/// The Maximum Packet Size as a property.
fn accepts_at_most(bytes: u8) -> Vec<u8> {
    vec![0x27, 0, 0, 0, bytes]
}

/// Decides about the CONNECT at once and about messages later.
struct Hesitant;

impl AccessControl for Hesitant {
    fn ask(&mut self, _client: &Client<'_>, question: Question<'_>) -> Answer {
        match question {
            Question::Connect { .. } => Answer::Now(Verdict::Granted),
            _ => Answer::Later,
        }
    }
}

/// Refuses everybody.
struct Closed;

impl AccessControl for Closed {
    fn ask(&mut self, _client: &Client<'_>, _question: Question<'_>) -> Answer {
        Answer::Now(Verdict::Refused(ReasonCode::NotAuthorized))
    }
}

/// It was told so by a DISCONNECT, which may not come before a CONNACK [MQTT-3.2.0-1].
#[test]
fn a_client_that_can_not_take_its_connack_hears_nothing() {
    let mut world = World::new();
    let will = Connect::new(V5, "a").property(&accepts_at_most(4)).will("w", b"gone", 0, true, &[]);
    let peer = world.open();
    world.send(peer, will.bytes());
    assert!(world.is_closed(peer));
    assert_eq!(world.take(peer), [[]; 0]);
    let census = world.broker.census();
    assert_eq!((census.sessions, census.retained, census.timers), (0, 0, 0));
}

/// The text of the reason went beyond what the client accepts [MQTT-3.2.2-19].
#[test]
fn a_refusal_is_no_larger_than_the_client_accepts() {
    for (most, has_text, length_at_least) in [(100, true, 5), (20, false, 5), (5, false, 5), (4, false, 0)] {
        let mut world = World::with(Limits::default(), Closed);
        let peer = world.open();
        world.send(peer, Connect::new(V5, "a").property(&accepts_at_most(most)).bytes());
        assert!(world.is_closed(peer));
        let sent: Vec<u8> = world.take(peer).concat();
        assert!((length_at_least..=usize::from(most)).contains(&sent.len()), "{sent:02x?}");
        assert_eq!(sent.len() > 5, has_text, "{sent:02x?}");
    }
}

/// A packet went on waiting although its connection had ended, and a late decision resumed it.
#[test]
fn a_decision_after_the_end_of_its_connection_changes_nothing() {
    let now = Time::ZERO;
    let mut broker = Broker::new(Limits::default(), Box::new(Hesitant), 1, now);
    let older = broker.accept(Peer::Local, ListenerId::default(), now).expect("there is room");
    broker.received(older, &Connect::new(V5, "a").bytes(), now);
    let publish = Publish::new(V5, "t", b"x").qos(1, 1).bytes();
    assert_eq!(broker.received(older, &publish, now), Intake::Paused);
    let newer = broker.accept(Peer::Local, ListenerId::default(), now).expect("there is room");
    broker.received(newer, &Connect::new(V5, "a").bytes(), now);
    assert_eq!(broker.next_effect(), Some(Effect::Close(older)));
    broker.decide(older, Verdict::Granted);
    assert_eq!(broker.next_effect(), None);
    assert_eq!(broker.resume(older, now), Intake::More);
    broker.check_invariants();
}

/// Its DISCONNECT had the reason of a CONNACK, which is none of a DISCONNECT [MQTT-3.14.2-1].
#[test]
fn a_second_connect_of_no_known_version_is_a_protocol_error() {
    let mut world = World::new();
    let peer = world.connect(Connect::new(V5, "a").bytes());
    world.send(peer, Connect::new(9, "a").bytes());
    let disconnect = world.take_one(peer);
    assert_eq!((disconnect[0], disconnect[2]), (0xE0, 0x82), "{disconnect:02x?}");
}
