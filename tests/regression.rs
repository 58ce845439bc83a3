//! Past faults, each a test with a name. Most were found by fuzzing.

#[path = "simulation/chance.rs"]
#[expect(dead_code, reason = "the simulator uses the rest")]
mod chance;
#[path = "simulation/store.rs"]
mod store;
#[path = "conformance/wire.rs"]
#[expect(dead_code, reason = "these tests need a part of it")]
mod wire;
#[path = "conformance/world.rs"]
#[expect(dead_code, reason = "these tests need a part of it")]
mod world;

/// Nothing is persisted here.
const IS_PERSISTENT: bool = false;

use brooklet::base::peer::Peer;
use brooklet::base::time::Time;
use brooklet::core::access::{AccessControl, Answer, Client, Question, Verdict};
use brooklet::core::broker::{Broker, Effect, Intake};
use brooklet::core::limits::Limits;
use brooklet::core::listener::ListenerId;
use brooklet::protocol::codec::ReasonCode;

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

/// Refuses every client.
struct Closed;

impl AccessControl for Closed {
    fn ask(&mut self, _client: &Client<'_>, _question: Question<'_>) -> Answer {
        Answer::Now(Verdict::Refused(ReasonCode::NotAuthorized))
    }
}

/// It was told the reason by a DISCONNECT, which may not come before a CONNACK [MQTT-3.2.0-1].
#[test]
fn a_client_that_cannot_take_its_connack_gets_nothing() {
    let mut world = World::new();
    let will = Connect::new(V5, "a").property(&accepts_at_most(4)).will("w", b"gone", 0, true, &[]);
    let peer = world.open();
    world.send(peer, will.bytes());
    assert!(world.is_closed(peer));
    assert_eq!(world.take(peer), [[0_u8; 0]; 0]);
    let census = world.broker.census();
    assert_eq!((census.sessions, census.retained, census.timers), (0, 0, 0));
}

/// The text of the reason exceeded what the client accepts [MQTT-3.2.2-19].
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

/// A packet kept waiting although its connection had ended, and a late decision resumed it.
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

/// Its DISCONNECT had a reason of CONNACK, which is not allowed in a DISCONNECT [MQTT-3.14.2-1].
#[test]
fn a_second_connect_of_an_unknown_version_is_a_protocol_error() {
    let mut world = World::new();
    let peer = world.connect(Connect::new(V5, "a").bytes());
    world.send(peer, Connect::new(9, "a").bytes());
    let disconnect = world.take_one(peer);
    assert_eq!((disconnect[0], disconnect[2]), (0xE0, 0x82), "{disconnect:02x?}");
}

/// It was delivered and yet refused, so that a client that sent it again delivered it twice. A message whose publisher
/// cannot be told of a refusal is not refused: it reaches the connected clients and is not persisted.
#[test]
fn a_message_that_cannot_be_retained_reaches_no_one_if_its_publisher_gets_an_answer() {
    for (level, qos, is_refused) in
        [(V5, 1, true), (V5, 2, true), (V5, 0, false), (V311, 1, false), (V311, 2, false)]
    {
        let mut world = World::with_limits(|limits| limits.retained_count = 0);
        let listener = world.connect(Connect::new(V5, "listener").bytes());
        world.ask(listener, subscribe(V5, 1, &[], &[("t", 0)]));
        let peer = world.connect(Connect::new(level, "peer").bytes());
        let publish = Publish::new(level, "t", b"x").retain();
        world.send(peer, if qos > 0 { publish.qos(qos, 1).bytes() } else { publish.bytes() });
        let code = world.take(peer).first().map_or(0, |answer| answer.get(4).copied().unwrap_or(0));
        assert_eq!(code, if is_refused { 0x97 } else { 0 }, "{level} {qos}");
        assert_eq!(world.take(listener).len(), usize::from(!is_refused), "{level} {qos}");
        assert_eq!(world.broker.census().retained, 0);
    }
}

/// It had taken effect and was refused all the same.
#[test]
fn a_retained_message_is_not_refused_though_no_queue_has_room() {
    let mut world = World::with_limits(|limits| limits.queue_length = 0);
    let away = world.connect(Connect::new(V5, "away").expiry(1000).bytes());
    world.ask(away, subscribe(V5, 1, &[], &[("t", 1)]));
    world.cut(away);
    let peer = world.connect(Connect::new(V5, "peer").bytes());
    for (publish, code) in
        [(Publish::new(V5, "t", b"x"), Some(0x97)), (Publish::new(V5, "t", b"x").retain(), None)]
    {
        let answer = world.ask(peer, publish.qos(2, 1).bytes());
        assert_eq!(answer.get(4).copied(), code, "{answer:02x?}");
    }
}

/// Its Keep Alive ran out while the broker itself did not read its packets.
#[test]
fn a_client_whose_packet_waits_for_a_decision_may_be_silent() {
    let mut world = World::with(Limits::default(), Hesitant);
    let peer = world.connect(Connect::new(V5, "a").keep_alive(10).bytes());
    world.send(peer, Publish::new(V5, "t", b"x").qos(1, 1).bytes());
    world.pass_seconds(100);
    assert!(!world.is_closed(peer), "it is not read");
    world.decide(peer, Verdict::Granted);
    assert_eq!(world.take_one(peer)[0], 0x40);
    world.pass(14_999);
    assert!(!world.is_closed(peer), "its time starts again");
    world.pass(1);
    assert!(world.is_closed(peer), "it is read and silent");
}

/// The same for a client whose answers are stuck.
#[test]
fn a_client_that_is_not_read_for_its_full_outbox_may_be_silent() {
    let mut world = World::with_limits(|limits| {
        (limits.outbox_bytes, limits.outbox_answer_bytes, limits.outbox_refill_bytes) = (4, 4, 2);
    });
    let peer = world.connect(Connect::new(V5, "a").keep_alive(10).bytes());
    world.stall(peer, true);
    world.send(peer, PINGREQ.repeat(100));
    world.pass_seconds(100);
    assert!(!world.is_closed(peer), "it is not read");
    world.stall(peer, false);
    assert_eq!(world.take(peer).len(), 100, "what waited is answered");
    world.pass(14_999);
    assert!(!world.is_closed(peer), "its time starts again");
    world.pass(1);
    assert!(world.is_closed(peer), "it is read and silent");
}

/// Each subscription that ended was searched for among all those with the same filter, which one packet could make the
/// work of minutes. Now every subscription's place is known, and must stay known whichever client leaves.
#[test]
fn clients_with_the_same_subscription_leave_in_any_order() {
    const CLIENTS: usize = 20;
    let mut world = World::new();
    let names: Vec<String> = (0..CLIENTS).map(|number| number.to_string()).collect();
    let filters = ["t", "$share/g/t", "$share/h/t", "t/#"];
    let peers: Vec<_> = names.iter().map(|name| world.connect(Connect::new(V5, name).bytes())).collect();
    for (&peer, name) in peers.iter().zip(&names) {
        let alone = format!("$share/{name}/t");
        let all: Vec<(&str, u8)> = filters.iter().chain([&&*alone]).map(|&filter| (filter, 0)).collect();
        for _ in 0..2 {
            assert_eq!(world.ask(peer, subscribe(V5, 1, &[], &all))[5..], [0; 5]);
        }
    }
    let sender = world.connect(Connect::new(V5, "sender").bytes());
    for left in (1..=CLIENTS).rev() {
        world.send(sender, Publish::new(V5, "t", b"x").bytes());
        let copies: usize = peers.iter().map(|&peer| world.take(peer).len()).sum();
        assert_eq!(copies, left + 2 + left, "alone, for two groups, for those of one member");
        let leaver = peers[7 * left % CLIENTS];
        match left % 3 {
            0 => world.cut(leaver),
            1 => world.send(leaver, disconnect(0, &[])),
            _ => {
                let alone = format!("$share/{}/t", names[7 * left % CLIENTS]);
                let all: Vec<&str> = filters.iter().copied().chain([&*alone]).collect();
                assert_eq!(world.ask(leaver, unsubscribe(V5, 2, &all))[5..], [0; 5]);
            }
        }
    }
    assert_eq!(world.broker.census().subscriptions, 0);
}
