//! Past faults as exchanges of packets; found by the simulator.

use std::cell::Cell;
#[cfg(feature = "persistence")]
use std::num::NonZeroU64;
use std::rc::Rc;

use brooklet::base::peer::Peer as Address;
#[cfg(feature = "persistence")]
use brooklet::base::time::Duration;
use brooklet::base::time::Time;
use brooklet::core::access::{AccessControl, AllowAll, Answer, Client, Question, Verdict};
use brooklet::core::broker::{Broker, Effect};
#[cfg(feature = "persistence")]
use brooklet::core::journal::{MessageNumber, NextNumbers, Pace, SessionNumber};
use brooklet::core::limits::Limits;
use brooklet::core::listener::ListenerId;
use brooklet::protocol::codec::ReasonCode;

use crate::wire::*;
use crate::world::World;

/// Decides about publications later, while it is told to.
struct Hesitant(Rc<Cell<bool>>);

impl AccessControl for Hesitant {
    fn ask(&mut self, _client: &Client<'_>, question: Question<'_>) -> Answer {
        match question {
            Question::Publish { .. } if self.0.get() => Answer::Later,
            _ => Answer::Now(Verdict::Granted),
        }
    }
}

/// Decides about one filter later and refuses another one.
struct Particular;

impl AccessControl for Particular {
    fn ask(&mut self, _client: &Client<'_>, question: Question<'_>) -> Answer {
        match question {
            Question::Subscribe { filter, .. } if filter.pattern() == "f/20" => Answer::Later,
            Question::Subscribe { filter, .. } if filter.pattern() == "f/40" => {
                Answer::Now(Verdict::Refused(ReasonCode::NotAuthorized))
            }
            _ => Answer::Now(Verdict::Granted),
        }
    }
}

#[test]
fn a_decision_is_about_its_filter_however_many_turns_the_packet_takes() {
    let mut world = World::with(Limits { steps_per_turn: 64, ..Limits::default() }, Particular);
    let a = world.connect(Connect::new(V5, "a").bytes());
    let filters: Vec<String> = (0..60).map(|number| format!("f/{number}")).collect();
    let wanted: Vec<(&str, u8)> = filters.iter().map(|filter| (filter.as_str(), 0)).collect();
    world.send(a, subscribe(V5, 1, &[], &wanted));
    world.decide(a, Verdict::Granted);
    let suback = world.take_one(a);
    let refused = suback[suback.len() - 60..].iter().position(|&code| code != 0);
    assert_eq!((suback[0], refused), (0x90, Some(40)), "{suback:?}");
}

/// A message that expires before it has reached all recipients.
#[test]
fn a_message_that_expires_between_two_turns_goes_to_no_more_recipients() {
    let mut broker =
        Broker::new(Limits { steps_per_turn: 64, ..Limits::default() }, Box::new(AllowAll), 1, Time::ZERO);
    let mut connect = |name: &str| {
        let id = broker.accept(Address::Local, ListenerId::default(), Time::ZERO).unwrap();
        broker.received(id, &Connect::new(V5, name).bytes(), Time::ZERO);
        broker.received(id, &subscribe(V5, 1, &[], &[("t", 1)]), Time::ZERO);
        while broker.has_work() {
            for dirty in broker.take_dirty(Vec::new()) {
                broker.write_to(dirty, &mut Vec::new(), Time::ZERO).unwrap();
            }
            broker.tick(Time::ZERO, 1);
        }
        id
    };
    let recipients: Vec<_> = (0..40).map(|number| connect(&number.to_string())).collect();
    let publish = Publish::new(V5, "t", b"x").qos(1, 2).property(&[0x02, 0, 0, 0, 1]);
    broker.received(recipients[0], &publish.bytes(), Time::ZERO);
    let later = Time::from_milliseconds(1_500);
    for _ in 0..40 {
        broker.tick(later, 1);
    }
    let sent = broker.statistics().sent.publishes;
    assert!(sent > 0 && sent < 30, "{sent} of 40 got it");
    assert_eq!(broker.statistics().expired + sent, 40);
}

#[test]
fn a_repeat_binds_its_topic_alias() {
    let mut world = World::new();
    let connect = Connect::new(V5, "a").resume().expiry(100);
    let first = world.connect(connect.bytes());
    world.send(first, Publish::new(V5, "t", b"1").qos(2, 7).bytes());
    world.cut(first);
    let again = world.connect(connect.bytes());
    let alias = [0x23, 0, 1];
    let repeat = Publish::new(V5, "t", b"1").qos(2, 7).dup().property(&alias);
    assert_eq!(world.ask(again, repeat.bytes())[0], 0x50);
    let next = Publish::new(V5, "", b"2").qos(1, 8).property(&alias);
    assert_eq!(world.ask(again, next.bytes())[0], 0x40);
}

#[test]
fn a_decision_that_comes_while_the_outbox_is_full_is_not_forgotten() {
    let hesitates = Rc::new(Cell::new(false));
    let limits = Limits { outbox_bytes: 200, outbox_answer_bytes: 100, ..Limits::default() };
    let mut world = World::with(limits, Hesitant(Rc::clone(&hesitates)));
    let a = world.connect(Connect::new(V311, "a").bytes());
    world.ask(a, subscribe(V311, 1, &[], &[("t", 0)]));
    let b = world.connect(Connect::new(V311, "b").bytes());
    world.stall(a, true);
    hesitates.set(true);
    world.send(a, Publish::new(V311, "u", b"x").qos(1, 2).bytes());
    hesitates.set(false);
    world.send(b, Publish::new(V311, "t", &[0; 2_000]).bytes());
    world.decide(a, Verdict::Granted);
    world.stall(a, false);
    assert_eq!(world.take(a).last().map(Vec::as_slice), Some(&acknowledge(0x40, 2)[..]));
}

#[test]
fn an_ending_connection_drops_queued_input() {
    let access = Hesitant(Rc::new(Cell::new(true)));
    let mut broker = Broker::new(Limits::default(), Box::new(access), 1, Time::ZERO);
    let connect = Connect::new(V311, "a").bytes();
    let older = broker.accept(Address::Local, ListenerId::default(), Time::ZERO).unwrap();
    broker.received(older, &connect, Time::ZERO);
    broker.received(older, &Publish::new(V311, "u", b"x").qos(1, 2).bytes(), Time::ZERO);
    let newer = broker.accept(Address::Local, ListenerId::default(), Time::ZERO).unwrap();
    broker.received(newer, &connect, Time::ZERO);
    // The peer of the older one has not closed yet, and the decision comes too late.
    broker.decide(older, Verdict::Granted);
    while let Some(effect) = broker.next_effect() {
        if let Effect::Resume(id) = effect {
            broker.resume(id, Time::ZERO);
        }
    }
    broker.check_invariants();
}

#[test]
fn a_group_passes_on_no_expired_messages() {
    let mut world = World::new();
    let away = Connect::new(V5, "a").resume().expiry(5);
    let a = world.connect(away.bytes());
    world.ask(a, subscribe(V5, 1, &[], &[("$share/g/t", 1)]));
    world.cut(a);
    let publisher = world.connect(Connect::new(V5, "p").bytes());
    let message = Publish::new(V5, "t", b"x").qos(1, 1).property(&[0x02, 0, 0, 0, 1]);
    world.ask(publisher, message.bytes());
    let b = world.connect(Connect::new(V5, "b").bytes());
    world.ask(b, subscribe(V5, 1, &[], &[("$share/g/t", 1)]));
    world.pass_seconds(6);
    assert!(world.take(b).is_empty(), "[MQTT-3.3.2-5]");
}

#[test]
fn a_message_too_large_to_be_sent_again_holds_nothing_up() {
    let mut world = World::new();
    let connect = Connect::new(V5, "a").resume().expiry(100).property(&[0x21, 0, 1]);
    let a = world.connect(connect.bytes());
    world.ask(a, subscribe(V5, 1, &[], &[("t", 1)]));
    let publisher = world.connect(Connect::new(V5, "p").bytes());
    world.ask(publisher, Publish::new(V5, "t", &[0; 100]).qos(1, 1).bytes());
    world.take(a);
    world.cut(a);
    let a = world.connect(connect.property(&[0x27, 0, 0, 0, 60]).bytes());
    world.ask(publisher, Publish::new(V5, "t", b"small").qos(1, 2).bytes());
    assert_eq!(&*received(V5, &world.take_one(a)).payload, b"small", "[MQTT-3.1.2-25]");
}

#[test]
fn a_topic_alias_is_left_out_where_it_is_too_much() {
    let mut world = World::new();
    let connect = Connect::new(V5, "a").property(&[0x27, 0, 0, 0, 60]).property(&[0x22, 0, 5]);
    let a = world.connect(connect.bytes());
    world.ask(a, subscribe(V5, 1, &[], &[("t", 0)]));
    let publisher = world.connect(Connect::new(V5, "p").bytes());
    // Two bytes of fixed header, three of topic, one of properties: 60 in all.
    world.send(publisher, Publish::new(V5, "t", &[0; 54]).bytes());
    assert_eq!(world.take_one(a).len(), 60);
    // Nor is an alias that is already bound used where the name alone is shorter.
    world.send(publisher, Publish::new(V5, "t", b"x").bytes());
    world.send(publisher, Publish::new(V5, "t", &[0; 54]).bytes());
    assert_eq!(world.take(a).last().map(Vec::len), Some(60));
}

#[cfg(feature = "persistence")]
#[test]
fn a_second_clean_start_is_answered_once_the_session_is_durably_gone() {
    let mut world = World::new();
    let (session, message) = (SessionNumber(NonZeroU64::MIN), MessageNumber(NonZeroU64::MIN));
    let pace = Pace { holds: true, urgent: Duration::ZERO, lazy: Duration::from_seconds(1) };
    world.broker.begin_journal(NextNumbers { session, message }, pace);
    let mut batches = 0;
    let mut commit = |world: &mut World| {
        batches += 1;
        assert!(world.broker.take_batch(world.now()).is_some());
        world.broker.durable(batches, world.now());
        world.settle();
    };
    let persistent = world.open();
    world.send(persistent, Connect::new(V311, "a").resume().bytes());
    commit(&mut world);
    assert_eq!(world.take(persistent).len(), 1);
    world.cut(persistent);
    // The first one leaves before its CONNACK, the second one finds no session.
    let first = world.open();
    world.send(first, Connect::new(V311, "a").bytes());
    world.cut(first);
    let second = world.open();
    world.send(second, Connect::new(V311, "a").bytes());
    assert_eq!(world.take(second).len(), 0, "the store still has the session");
    assert!(world.broker.batch_due().is_some_and(|due| due <= world.now()));
    commit(&mut world);
    assert_eq!(world.take_one(second), [0x20, 2, 0, 0]);
}

#[test]
fn an_answer_given_twice_settles_no_other_message() {
    let mut world = World::new();
    let publisher = world.connect(Connect::new(V311, "publisher").bytes());
    world.send(publisher, Publish::new(V311, "r", b"kept").retain().bytes());
    let a = world.connect(Connect::new(V311, "a").bytes());
    world.ask(a, subscribe(V311, 1, &[], &[("t", 1)]));
    let mut identifiers = Vec::new();
    for identifier in [1, 2] {
        world.send(publisher, Publish::new(V311, "t", b"m").qos(1, identifier).bytes());
        let publish = world.take_one(a);
        identifiers.push(publish[5..7].to_vec());
        world.send(a, [&[0x40, 2], &publish[5..7]].concat());
        // Once its retained messages are delivered, an idle session keeps as little as possible.
        world.send(a, subscribe(V311, 9, &[], &[("r", 0)]));
        world.take(a);
    }
    assert_ne!(identifiers[0], identifiers[1], "the first one may be answered once more");
}
