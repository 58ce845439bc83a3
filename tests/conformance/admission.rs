//! Clients that are not accepted yet and wait for the broker: the time for their CONNECT stops, but not for ever.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use brooklet::base::time::Time;
use brooklet::core::access::{AccessControl, Answer, Client, Exchange, Progress, Question, Verdict};
use brooklet::core::limits::Limits;
use brooklet::core::slots::ConnectionId;
use brooklet::protocol::codec::ReasonCode;

use crate::v5_peers::*;
use crate::wire::*;
use crate::world::{Peer, World};

/// Decides about each CONNECT later, or when told to; records clients whose decision is no longer needed.
#[derive(Clone, Default)]
pub struct Thinker {
    pub at_once: Rc<Cell<Option<Verdict>>>,
    forgotten: Rc<RefCell<Vec<ConnectionId>>>,
}

/// Asks one question and is content with any answer.
#[derive(Debug)]
struct Once(bool);

impl Exchange for Once {
    fn go_on(&mut self, _: &[u8], _: Time) -> Progress {
        if std::mem::replace(&mut self.0, true) {
            return Progress::Passed { user_name: "ann".into(), data: Vec::new() };
        }
        Progress::Challenge(b"?".to_vec())
    }

    fn memory(&self) -> usize {
        0
    }
}

impl AccessControl for Thinker {
    fn ask(&mut self, _client: &Client<'_>, _question: Question<'_>) -> Answer {
        self.at_once.get().map_or(Answer::Later, Answer::Now)
    }

    fn forget(&mut self, connection: ConnectionId) {
        self.forgotten.borrow_mut().push(connection);
    }

    fn begin(&mut self, _: &Client<'_>, _: &str) -> Option<Box<dyn Exchange>> {
        Some(Box::new(Once(false)))
    }
}

/// A CONNECT with extended authentication.
pub fn with_method(client_identifier: &str) -> Connect {
    Connect::new(V5, client_identifier).property(&text_property(0x15, "once"))
}

fn world() -> (World, Thinker) {
    let thinker = Thinker::default();
    (World::with(Limits::default(), thinker.clone()), thinker)
}

/// Opens a connection on which this was sent and a decision is pending.
fn asking(world: &mut World, connect: &Connect) -> Peer {
    let peer = world.open();
    world.pass_seconds(9);
    world.send(peer, connect.bytes());
    assert!(world.take(peer).is_empty());
    peer
}

#[test]
fn a_decision_may_take_longer_than_the_client_has_for_its_connect() {
    for level in [V31, V311, V5] {
        let (mut world, thinker) = world();
        let peer = asking(&mut world, &Connect::new(level, "a"));
        world.pass_seconds(59);
        assert!(!world.is_closed(peer));
        world.decide(peer, Verdict::Granted);
        assert_eq!(world.take_one(peer)[3], 0);
        assert!(thinker.forgotten.borrow().is_empty());
        world.pass_seconds(100);
        assert!(!world.is_closed(peer), "nothing is left of that time");
    }
}

#[test]
fn a_client_that_has_waited_for_a_minute_is_refused_as_server_busy() {
    for (level, code) in [(V31, 3), (V311, 3), (V5, 0x89)] {
        let (mut world, thinker) = world();
        let peer = asking(&mut world, &Connect::new(level, "a"));
        world.pass_seconds(60);
        let connack = world.take_one(peer);
        assert_eq!((connack[0], connack[3]), (0x20, code));
        assert!(level < V5 || connack.ends_with(b"server busy"));
        world.pass_seconds(2);
        assert!(world.is_closed(peer));
        assert_eq!(*thinker.forgotten.borrow(), [peer]);
        assert_eq!(world.broker.statistics().refused, 1);
    }
}

#[test]
fn a_refusal_for_lack_of_room_has_that_reason() {
    for (reason, text) in [
        (ReasonCode::ServerBusy, "server busy"),
        (ReasonCode::ConnectionRateExceeded, "too many wrong passwords came from its address"),
    ] {
        for is_later in [false, true] {
            let (mut world, thinker) = world();
            let verdict = Verdict::Refused(reason);
            thinker.at_once.set((!is_later).then_some(verdict));
            let peer = world.open();
            world.send(peer, Connect::new(V5, "a").bytes());
            if is_later {
                world.decide(peer, verdict);
            }
            let connack = ConnAck::new(&world.take_one(peer));
            assert_eq!(connack.code, reason.value());
            assert_eq!(connack.property(0x1F).map(|said| &said[2..]), Some(text.as_bytes()));
            let (mut world, thinker) = self::world();
            thinker.at_once.set(Some(verdict));
            let peer = world.open();
            assert_eq!(world.ask(peer, Connect::new(V311, "a").bytes()), [0x20, 2, 0, 3]);
        }
    }
}

/// Between a challenge and its answer, the broker waits for the client.
#[test]
fn the_time_for_an_answer_to_a_challenge_does_not_stand_still() {
    for (seconds, is_late) in [(9, false), (10, true)] {
        let (mut world, _) = world();
        let peer = world.open();
        assert_eq!(world.ask(peer, with_method("a").bytes())[0], 0xF0);
        world.pass_seconds(seconds);
        assert_eq!(world.is_closed(peer), is_late);
    }
}

/// Nor does a decision about its Will come too late, or one that is asked for again when the rules change.
#[test]
fn each_question_may_take_its_time() {
    let (mut world, thinker) = world();
    let peer = world.open();
    assert_eq!(world.ask(peer, with_method("a").will("w", b"", 0, false, &[]).bytes())[0], 0xF0);
    world.pass_seconds(9);
    let answer = text_property(0x15, "once");
    let length = u8::try_from(answer.len()).expect("it is short");
    world.send(peer, packet(0xF0, &[&[0x18, length][..], &answer].concat()));
    assert!(world.take(peer).is_empty());
    world.pass_seconds(50);
    let now = world.now();
    world.broker.replace_access(Box::new(thinker), now);
    world.settle();
    world.pass_seconds(50);
    assert!(!world.is_closed(peer));
    world.decide(peer, Verdict::Granted);
    assert_eq!(ConnAck::new(&world.take_one(peer)).code, 0);
}

#[test]
fn a_client_that_leaves_is_not_thought_about_any_longer() {
    let (mut world, thinker) = world();
    let peer = asking(&mut world, &Connect::new(V5, "a"));
    assert!(world.broker.awaits_nothing_else(peer));
    world.cut(peer);
    assert_eq!(*thinker.forgotten.borrow(), [peer]);
    // Packets sent together with the CONNECT count if it is accepted.
    let peer = asking(&mut world, &Connect::new(V5, "a"));
    world.send(peer, Publish::new(V5, "t", b"m").bytes());
    assert!(!world.broker.awaits_nothing_else(peer));
    let served = {
        thinker.at_once.set(Some(Verdict::Granted));
        client(&mut world, "b")
    };
    assert!(!world.broker.awaits_nothing_else(served));
}
