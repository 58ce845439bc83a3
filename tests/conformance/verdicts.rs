//! What the access control stands by is remembered of messages on repeated topics: of whom it is, at which QoS, and
//! until when.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use brooklet::base::time::Time;
use brooklet::core::access::{AccessControl, Answer, Client, Exchange, Progress, Question, Verdict};
use brooklet::core::limits::Limits;
use brooklet::core::listener::ListenerId;
use brooklet::protocol::codec::{QoS, ReasonCode};

use crate::v5_exchange::lone_reason_string;
use crate::v5_peers::*;
use crate::wire::*;
use crate::world::{Peer, World};

/// Where nothing may be published.
const SILENT: ListenerId = ListenerId(1);

/// Stands by its answers. It grants messages up to this QoS, but none below `secret` and none of a client of [`SILENT`].
/// Re-authentication takes all rights away.
#[derive(Clone)]
struct Standing {
    most: QoS,
    /// All messages that it was asked about.
    asked: Rc<RefCell<Vec<(String, QoS)>>>,
    has_rights: Rc<Cell<bool>>,
}

impl Standing {
    fn new(most: QoS) -> Self {
        Self { most, asked: Rc::default(), has_rights: Rc::new(Cell::new(true)) }
    }
}

impl AccessControl for Standing {
    fn answers_stand(&self) -> bool {
        true
    }

    fn ask(&mut self, client: &Client<'_>, question: Question<'_>) -> Answer {
        let Question::Publish { topic, qos, .. } = question else { return Answer::Now(Verdict::Granted) };
        self.asked.borrow_mut().push((topic.as_str().to_owned(), qos));
        let may = qos <= self.most
            && !topic.as_str().starts_with("secret")
            && client.listener != SILENT
            && self.has_rights.get();
        Answer::Now(if may { Verdict::Granted } else { Verdict::Refused(ReasonCode::NotAuthorized) })
    }

    fn why_refused(&mut self) -> Option<String> {
        Some("a rule".to_owned())
    }

    fn begin(&mut self, _client: &Client<'_>, _method: &str) -> Option<Box<dyn Exchange>> {
        Some(Box::new(Again(self.clone())))
    }
}

/// An authentication as `ann` without a word, of which the second one takes the rights away.
#[derive(Clone)]
struct Again(Standing);

impl std::fmt::Debug for Again {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Again")
    }
}

impl Exchange for Again {
    fn go_on(&mut self, data: &[u8], _: Time) -> Progress {
        self.0.has_rights.set(data.is_empty());
        Progress::Passed { user_name: "ann".into(), data: Vec::new() }
    }

    fn memory(&self) -> usize {
        0
    }
}

/// A world, and a client that hears all in it.
fn world(standing: &Standing) -> (World, Peer) {
    let mut world = World::with(Limits::default(), standing.clone());
    let hearer = world.connect(Connect::new(V5, "hearer").bytes());
    subscribe_to(&mut world, hearer, "#", 0);
    (world, hearer)
}

/// Publishes at QoS 1; tells the reason code of the answer.
fn publish(world: &mut World, peer: Peer, topic: &str, qos: u8) -> u8 {
    let answer = world.ask(peer, Publish::new(V5, topic, b"m").qos(qos, 7).bytes());
    let code = if answer[1] == 2 { 0 } else { answer[4] };
    if qos == 2 && code == 0 {
        world.ask(peer, acknowledge(0x62, 7));
    }
    code
}

fn heard(world: &mut World, hearer: Peer) -> usize {
    take_payloads(world, hearer).len()
}

/// A client that may publish, and has done so until no one is asked any more.
fn known(world: &mut World, peer: Peer) -> Peer {
    for _ in 0..4 {
        assert_eq!(publish(world, peer, "t", 1), 0);
    }
    peer
}

fn lasting() -> Connect {
    Connect::new(V5, "a").resume().expiry(1_000)
}

fn come(world: &mut World, listener: ListenerId, connect: &Connect) -> Peer {
    let peer = world.open_at(listener);
    let connack = world.ask(peer, connect.bytes());
    assert_eq!((connack[0], connack[3]), (0x20, 0), "{connack:02x?}");
    peer
}

#[test]
fn a_message_on_a_repeated_topic_is_not_asked_about() {
    let standing = Standing::new(QoS::AtLeastOnce);
    let (mut world, hearer) = world(&standing);
    let a = world.connect(Connect::new(V5, "a").bytes());
    let b = world.connect(Connect::new(V5, "b").bytes());
    let topics = ["t", "u", "v"];
    let mut rounds = |count: usize| {
        for _ in 0..count {
            for topic in topics {
                for peer in [a, b] {
                    world.send(peer, Publish::new(V5, topic, b"m").bytes().repeat(3));
                    assert_eq!(publish(&mut world, peer, topic, 1), 0);
                }
            }
        }
        let taken = take_payloads(&mut world, hearer).len();
        assert_eq!(taken, count * topics.len() * 2 * 4);
        standing.asked.take().len()
    };
    let questions = rounds(3);
    assert!(questions >= 2 * 2 * topics.len(), "each is asked about at both QoS: {questions}");
    if cfg!(feature = "without-fast-path") {
        return;
    }
    assert!(questions <= 3 * 2 * topics.len(), "{questions}");
    assert_eq!(rounds(10), 0);
}

/// And is answered as ever, with its reason in words.
#[test]
fn a_message_that_is_refused_is_asked_about_once_each_time() {
    let standing = Standing::new(QoS::AtLeastOnce);
    let (mut world, hearer) = world(&standing);
    let a = world.connect(Connect::new(V5, "a").bytes());
    let refused = |world: &mut World, topic: &str, qos: u8| {
        let answer = world.ask(a, Publish::new(V5, topic, b"m").qos(qos, 7).bytes());
        assert_eq!(answer[4], 0x87, "{answer:02x?}");
        assert_eq!(lone_reason_string(&answer[5..]), "a rule");
    };
    assert_eq!(publish(&mut world, a, "t", 1), 0);
    let wider = world.connect(Connect::new(V5, "wider").bytes());
    assert_eq!(publish(&mut world, wider, "t", 1), 0);
    for _ in 0..3 {
        refused(&mut world, "secret/t", 1);
        refused(&mut world, "t", 2);
    }
    standing.asked.take();
    for _ in 0..5 {
        refused(&mut world, "t", 2);
        assert_eq!(publish(&mut world, a, "t", 1), 0);
        refused(&mut world, "secret/t", 1);
    }
    assert_eq!(heard(&mut world, hearer), 7);
    let about = |topic: &str, qos| {
        standing.asked.borrow().iter().filter(|one| **one == (topic.to_owned(), qos)).count()
    };
    assert_eq!(about("t", QoS::ExactlyOnce), 5);
    assert_eq!(about("secret/t", QoS::AtLeastOnce), 5);
}

#[test]
fn what_one_client_may_another_may_not() {
    let standing = Standing::new(QoS::ExactlyOnce);
    let (mut world, hearer) = world(&standing);
    let a = world.connect(Connect::new(V5, "a").bytes());
    let a = known(&mut world, a);
    let b = come(&mut world, SILENT, &Connect::new(V5, "b"));
    for _ in 0..3 {
        assert_eq!(publish(&mut world, b, "t", 1), 0x87);
        assert_eq!(publish(&mut world, a, "t", 1), 0);
    }
    assert_eq!(heard(&mut world, hearer), 7);
}

#[test]
fn a_reload_changes_what_may_be_published_at_once() {
    let standing = Standing::new(QoS::ExactlyOnce);
    let (mut world, hearer) = world(&standing);
    let a = world.connect(Connect::new(V5, "a").bytes());
    let a = known(&mut world, a);
    for (most, code) in [(QoS::AtMostOnce, 0x87), (QoS::AtLeastOnce, 0), (QoS::AtMostOnce, 0x87)] {
        let now = world.now();
        world.broker.replace_access(Box::new(Standing::new(most)), now);
        for _ in 0..4 {
            assert_eq!(publish(&mut world, a, "t", 1), code);
        }
    }
    assert_eq!(heard(&mut world, hearer), 8);
}

#[test]
fn a_client_that_authenticates_again_is_asked_about_anew() {
    let standing = Standing::new(QoS::ExactlyOnce);
    let (mut world, hearer) = world(&standing);
    let method = text_property(0x15, "again");
    let a = world.connect(Connect::new(V5, "a").property(&method).bytes());
    let a = known(&mut world, a);
    let properties = [method, text_property(0x16, "x")].concat();
    let body = [&[0x19][..], &variable_byte_integer(properties.len()), &properties].concat();
    let answer = world.ask(a, packet(0xF0, &body));
    assert_eq!((answer[0], answer[2]), (0xF0, 0));
    for _ in 0..3 {
        assert_eq!(publish(&mut world, a, "t", 1), 0x87);
    }
    assert_eq!(heard(&mut world, hearer), 4);
}

#[test]
fn a_client_that_takes_its_session_over_is_asked_about_anew() {
    let standing = Standing::new(QoS::ExactlyOnce);
    let (mut world, hearer) = world(&standing);
    let first = come(&mut world, ListenerId(0), &lasting());
    let first = known(&mut world, first);
    let second = come(&mut world, SILENT, &lasting());
    assert!(world.is_closed(first));
    for _ in 0..3 {
        assert_eq!(publish(&mut world, second, "t", 1), 0x87);
    }
    assert_eq!(heard(&mut world, hearer), 4);
}

#[test]
fn a_client_that_comes_back_is_asked_about_anew() {
    let standing = Standing::new(QoS::ExactlyOnce);
    let (mut world, hearer) = world(&standing);
    let first = come(&mut world, ListenerId(0), &lasting());
    let first = known(&mut world, first);
    world.cut(first);
    world.pass_seconds(1);
    let second = come(&mut world, SILENT, &lasting());
    for _ in 0..3 {
        assert_eq!(publish(&mut world, second, "t", 1), 0x87);
    }
    assert_eq!(heard(&mut world, hearer), 4);
}
