//! A client that connects at another node, by packets.

use super::*;
use crate::base::peer::Peer;
use crate::core::access::{AccessControl, AllowAll, Answer, Client, Question, Verdict};
use crate::core::broker::{Effect, LocalSide};
use crate::core::limits::Limits;
use crate::core::listener::ListenerId;

/// Grants all, and counts User Names as proved.
struct Proving;

impl AccessControl for Proving {
    fn ask(&mut self, _: &Client<'_>, _: Question<'_>) -> Answer {
        Answer::Now(Verdict::Granted)
    }
}

struct Node {
    broker: Broker,
    now: Time,
}

/// A CONNECT of 5.0 with these flags and this Session Expiry Interval. With a Will, that is on the topic `w`, to be
/// delayed by an hour.
fn connect_v5(name: &str, flags: u8, expiry: u32) -> Vec<u8> {
    let [a, b, c, d] = expiry.to_be_bytes();
    let will: &[u8] = if flags & 4 == 0 { b"" } else { b"\x05\x18\0\0\x0e\x10\0\x01w\0\x04gone" };
    let body = [b"\0\x04MQTT\x05", &[flags, 0, 0, 5, 0x11, a, b, c, d][..], &text(name), will].concat();
    packet(0x10, &body)
}

fn connect_v311(name: &str) -> Vec<u8> {
    packet(0x10, &[&b"\0\x04MQTT\x04\x02\0\0"[..], &text(name)].concat())
}

fn text(text: &str) -> Vec<u8> {
    [&u16::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat()
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    [&[first, u8::try_from(body.len()).unwrap()], body].concat()
}

const CLEAN_START: u8 = 0x02;
const WILL: u8 = 0x04;

impl Node {
    fn new() -> Self {
        Self::with(Box::new(AllowAll))
    }

    fn with(access: Box<dyn AccessControl>) -> Self {
        let now = Time::from_milliseconds(1_000);
        let mut broker = Broker::new(Limits::default(), access, 1, now);
        broker.begin_cluster();
        Self { broker, now }
    }

    fn connect(&mut self, packet: &[u8]) -> ConnectionId {
        let id = self.broker.accept(Peer::Local, ListenerId::default(), self.now).unwrap();
        self.broker.received(id, packet, self.now);
        self.end_turn();
        id
    }

    /// A client that has subscribed to all topics.
    fn observer(&mut self) -> ConnectionId {
        let id = self.connect(&connect_v311("observer"));
        self.broker.received(id, &packet(0x82, &[&b"\0\x01"[..], &text("#"), &[0]].concat()), self.now);
        self.end_turn();
        self.output(id);
        id
    }

    /// Ends turns until nothing is left to do. Returns the effects.
    fn end_turn(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        for _ in 0..100 {
            self.broker.tick(self.now, 1_000);
            effects.extend(std::iter::from_fn(|| self.broker.next_effect()));
        }
        self.broker.check_invariants();
        effects
    }

    fn output(&mut self, id: ConnectionId) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.broker.take_dirty(Vec::new());
        self.broker.writable(id);
        self.broker.write_to(id, &mut bytes, self.now).unwrap();
        bytes
    }

    fn end_elsewhere(&mut self, id: ConnectionId) -> Option<Box<str>> {
        self.broker.end_elsewhere(id, self.now)
    }
}

#[test]
fn a_client_of_5_0_is_told_and_one_before_it_is_only_closed() {
    let mut node = Node::new();
    let clients =
        [connect_v5("five", CLEAN_START, 0), connect_v311("three")].map(|packet| node.connect(&packet));
    clients.iter().for_each(|&id| drop(node.output(id)));
    let names = clients.map(|id| node.end_elsewhere(id));
    assert_eq!(names.each_ref().map(Option::as_deref), [Some("five"), Some("three")]);
    assert_eq!(node.end_turn(), clients.map(Effect::Close));
    let [five, three] = clients.map(|id| node.output(id));
    assert_eq!((&five[..1], five[2], &three[..]), (&[0xe0][..], 0x8e, &[][..]));
    assert_eq!(clients.map(|id| node.end_elsewhere(id)), [None, None], "both have ended");
    clients.iter().for_each(|&id| node.broker.closed(id, "", node.now));
    assert_eq!(clients.map(|id| node.end_elsewhere(id)), [None, None]);
}

/// What happens to the Will and the session is what a CONNECT with Clean Start at the same node does.
#[test]
fn will_and_session_end_as_with_clean_start() {
    for (flags, expiry) in [(CLEAN_START | WILL, 0), (WILL, 0), (WILL, 100_000), (WILL, u32::MAX)] {
        let observed = [false, true].map(|is_elsewhere| {
            let mut node = Node::new();
            let observer = node.observer();
            let client = node.connect(&connect_v5("five", flags, expiry));
            match is_elsewhere {
                true => drop(node.end_elsewhere(client)),
                false => drop(node.connect(&connect_v5("five", CLEAN_START, 0))),
            }
            node.end_turn();
            let observed = node.output(observer);
            let again = node.connect(&connect_v5("five", 0, 0));
            let is_present = node.output(again)[2] & 1;
            (observed, is_present)
        });
        assert_eq!(observed[1].0, packet(0x30, &[text("w"), b"gone".to_vec()].concat()));
        assert_eq!(observed[0].0, observed[1].0);
        assert_eq!(observed[1].1, 0, "the session has ended");
    }
}

#[test]
fn the_nodes_are_told_who_has_connected_and_which_connections_have_ended() {
    let mut node = Node::with(Box::new(Proving));
    let connected = |connection, name: &str, user_name: Option<&str>| ClientChange::Connected {
        connection,
        client_identifier: name.into(),
        user_name: user_name.map(Into::into),
    };
    let first = node.connect(&connect_v311("a"));
    let second = node.connect(&connect_v311("a"));
    let named =
        node.connect(&packet(0x10, &[&b"\0\x04MQTT\x04\x82\0\0"[..], &text("b"), &text("user")].concat()));
    node.broker.closed(named, "", node.now);
    let expected = [
        connected(first, "a", None),
        ClientChange::Ended(first),
        connected(second, "a", None),
        connected(named, "b", Some("user")),
        ClientChange::Ended(named),
    ];
    assert_eq!(node.broker.take_client_changes(), expected);
    assert_eq!(node.broker.take_client_changes(), []);
    node.end_elsewhere(second);
    assert_eq!(node.broker.take_client_changes(), [ClientChange::Ended(second)]);
    // A connection without a client.
    let silent = node.broker.accept(Peer::Local, ListenerId::default(), node.now).unwrap();
    assert_eq!(node.end_elsewhere(silent), None);
    node.broker.closed(silent, "", node.now);
    assert_eq!(node.broker.take_client_changes(), []);
}

#[test]
fn a_name_that_is_not_proved_is_not_told() {
    let mut node = Node::new();
    node.connect(&packet(0x10, &[&b"\0\x04MQTT\x04\x82\0\0"[..], &text("b"), &text("user")].concat()));
    let changes = node.broker.take_client_changes();
    assert!(matches!(&changes[..], [ClientChange::Connected { user_name: None, .. }]), "{changes:?}");
}

#[test]
fn the_clients_of_bridges_are_not_told() {
    let mut node = Node::new();
    let side = LocalSide {
        client_identifier: "local.bridge".into(),
        listener: ListenerId::default(),
        filters: Vec::new(),
        changes_maximum: 0,
    };
    node.broker.set_bridges(vec![side], &[], node.now);
    node.connect(&connect_v311("local.bridge"));
    assert_eq!(node.broker.take_client_changes(), []);
    node.connect(&connect_v311("other"));
    assert_eq!(node.broker.take_client_changes().len(), 1);
}

#[test]
fn what_waits_for_the_end_of_the_turn_is_counted() {
    let mut node = Node::new();
    node.connect(&connect_v311("first"));
    node.broker.take_client_changes();
    for number in 0..50 {
        node.connect(&connect_v311(&format!("{number:0>90}")));
    }
    let held = node.broker.held();
    node.broker.take_client_changes();
    let waited = held - node.broker.held();
    assert!(waited > 50 * 90, "{waited}");
}

#[test]
fn nodes_assign_different_client_identifiers() {
    let assigned = [3, 4, 3].map(|seed| {
        let mut node = Node::new();
        node.broker.assign_from(seed);
        node.connect(&connect_v5("", CLEAN_START, 0));
        match &node.broker.take_client_changes()[..] {
            [ClientChange::Connected { client_identifier, .. }] => client_identifier.clone(),
            other => panic!("{other:?}"),
        }
    });
    assert_ne!(assigned[0], assigned[1]);
    assert_eq!(assigned[0], assigned[2], "nothing else decides");
}

#[test]
fn a_broker_alone_notes_nothing() {
    let now = Time::ZERO;
    let mut broker = Broker::new(Limits::default(), Box::new(AllowAll), 1, now);
    let id = broker.accept(Peer::Local, ListenerId::default(), now).unwrap();
    broker.received(id, &connect_v311("a"), now);
    assert_eq!(broker.take_client_changes(), []);
}
