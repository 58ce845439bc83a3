//! Two nodes, their clients, and as much of a server of NATS as they need.

use super::*;
use crate::base::peer::Peer;
use crate::base::time::Duration;
use crate::cluster::engine::{Address, Limits, Retry, Timing};
use crate::core::access::AllowAll;
use crate::core::broker::Effect;
use crate::core::listener::ListenerId;
use crate::core::slots::ConnectionId;
use crate::protocol::nats::Authentication;
use crate::settings::ClusterName;

const INFO: &[u8] =
    b"INFO {\"server_name\":\"s\",\"version\":\"2.14.0\",\"headers\":true,\"max_payload\":1000}\r\n";

fn settings() -> engine::Settings {
    engine::Settings {
        servers: vec![Address { host: "s".into(), port: 1 }],
        name: "node".into(),
        authentication: Authentication::None,
        uses_tls: false,
        inbox: "_INBOX".into(),
        timing: Timing {
            quiet: Duration::from_seconds(1),
            silence: Duration::from_seconds(2),
            patience: Duration::from_seconds(5),
            retry: Retry { least: Duration::from_milliseconds(100), most: Duration::from_milliseconds(100) },
        },
        limits: Limits {
            message: 2_000,
            output: 100_000,
            requests: 3,
            subscriptions: ALL_SUBSCRIPTIONS_MAXIMUM,
        },
    }
}

/// A node with a client that has subscribed to something.
struct Side {
    broker: Broker,
    node: Node,
    client: ConnectionId,
    /// What it has subscribed to in the server.
    subscriptions: Vec<(String, String)>,
    /// The connections that the broker has closed.
    closed: Vec<ConnectionId>,
}

struct Rig {
    sides: [Side; 2],
    now: Time,
    is_server_there: bool,
}

fn text(text: &str) -> Vec<u8> {
    [&u16::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat()
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    [&[first, u8::try_from(body.len()).unwrap()], body].concat()
}

fn connect(name: &str) -> Vec<u8> {
    packet(0x10, &[&b"\0\x04MQTT\x04\x02\0\0"[..], &text(name)].concat())
}

fn publish(topic: &str, payload: &str) -> Vec<u8> {
    packet(0x30, &[text(topic), payload.as_bytes().to_vec()].concat())
}

/// Whether a pattern of NATS matches a subject.
fn matches(pattern: &str, subject: &str) -> bool {
    let (mut patterns, mut tokens) = (pattern.split('.'), subject.split('.'));
    loop {
        match (patterns.next(), tokens.next()) {
            (None, None) => return true,
            (Some(">"), Some(_)) => return true,
            (Some(one), Some(other)) if one == "*" || one == other => {}
            _ => return false,
        }
    }
}

impl Side {
    fn new(seed: u64, steps_per_turn: usize, now: Time) -> Self {
        let limits = crate::core::limits::Limits { steps_per_turn, ..Default::default() };
        let mut broker = Broker::new(limits, Box::new(AllowAll), seed, now);
        broker.begin_cluster();
        let client = broker.accept(Peer::Local, ListenerId::default(), now).unwrap();
        let name = ClusterName::new("c").unwrap();
        let keeping = log::Keeping { replicas: 1, age: Duration::from_seconds(1_000), bytes: None };
        let log = log::Settings { keeping, patience: Duration::from_seconds(30) };
        let wall = Duration::from_seconds(1_800_000_000);
        let node = Node::new((&name, 3), settings(), log, seed, (now, wall));
        let mut side = Self { broker, node, client, subscriptions: Vec::new(), closed: Vec::new() };
        side.say(&connect(&format!("client of {seed}")), now);
        side.heard(now);
        side
    }

    fn say(&mut self, bytes: &[u8], now: Time) {
        self.broker.received(self.client, bytes, now);
        self.end_turn(now);
    }

    /// Connects one more client.
    fn connect(&mut self, name: &str, now: Time) -> ConnectionId {
        let id = self.broker.accept(Peer::Local, ListenerId::default(), now).unwrap();
        self.broker.received(id, &connect(name), now);
        id
    }

    fn lines(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.node.next_line()).map(|(_, line)| line).collect()
    }

    fn subscribe(&mut self, filter: &str, now: Time) {
        self.say(&packet(0x82, &[&b"\0\x01"[..], &text(filter), &[0]].concat()), now);
        self.heard(now);
    }

    fn end_turn(&mut self, now: Time) {
        for _ in 0..1_000 {
            self.broker.tick(now, 100);
            self.node.process(&mut self.broker, now);
            while let Some(effect) = self.broker.next_effect() {
                self.closed.extend(match effect {
                    Effect::Close(id) | Effect::Drop(id) => Some(id),
                    Effect::Resume(_) | Effect::Listen(_) => None,
                });
            }
        }
        self.node.exchange_clients(&mut self.broker, now);
        self.node.change_filters(self.broker.take_filter_changes(), now);
        self.node.say(&self.broker.take_messages_for_nodes(Messages::default()));
    }

    /// What its client has received since the last call.
    fn heard(&mut self, now: Time) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.broker.take_dirty(Vec::new());
        self.broker.writable(self.client);
        self.broker.write_to(self.client, &mut bytes, now).unwrap();
        bytes
    }
}

impl Rig {
    fn new() -> Self {
        Self::with_steps([100_000; 2])
    }

    fn with_steps(steps: [usize; 2]) -> Self {
        let now = Time::from_milliseconds(1_000);
        let sides = [Side::new(1, steps[0], now), Side::new(2, steps[1], now)];
        let mut rig = Self { sides, now, is_server_there: true };
        rig.run();
        assert!(rig.sides.iter().all(|side| side.node.is_connected()));
        rig
    }

    fn subscribe(&mut self, side: usize, filter: &str) {
        self.sides[side].subscribe(filter, self.now);
        self.run();
    }

    fn say(&mut self, side: usize, bytes: &[u8]) {
        self.sides[side].say(bytes, self.now);
        self.run();
    }

    fn heard(&mut self, side: usize) -> Vec<u8> {
        self.sides[side].heard(self.now)
    }

    /// Lets the server do all that there is to do.
    fn run(&mut self) {
        for _ in 0..10 {
            for place in 0..2 {
                self.serve(place);
            }
        }
        self.sides.iter_mut().for_each(|side| side.end_turn(self.now));
    }

    fn serve(&mut self, place: usize) {
        let now = self.now;
        let side = &mut self.sides[place];
        while let Some(action) = side.node.next_action() {
            match action {
                Action::Dial(_) if self.is_server_there => {
                    side.subscriptions.clear();
                    side.node.connected(now);
                    side.node.received(INFO);
                }
                Action::Dial(_) => side.node.engine().dial_failed("it is not there", now),
                Action::StartTls | Action::HangUp => panic!("{action:?}"),
            }
        }
        side.end_turn(now);
        let output = side.node.output().to_vec();
        side.node.engine().sent(output.len(), now);
        let mut rest = &output[..];
        while let Some(end) = rest.windows(2).position(|bytes| bytes == b"\r\n") {
            let line = String::from_utf8(rest[..end].to_vec()).unwrap();
            rest = &rest[end + 2..];
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["PING"] => self.sides[place].node.received(b"PONG\r\n"),
                ["SUB", pattern, number] => {
                    self.sides[place].subscriptions.push((pattern.to_owned(), number.to_owned()));
                }
                ["UNSUB", number] => self.sides[place].subscriptions.retain(|(_, known)| known != number),
                ["PUB", subject, length] => {
                    let (payload, after) = rest.split_at(length.parse().unwrap());
                    self.deliver(1 - place, subject, payload);
                    rest = &after[2..];
                }
                // This server has no JetStream, and no one answers.
                ["PUB", _, _, length] => rest = &rest[length.parse::<usize>().unwrap() + 2..],
                _ => assert!(line.starts_with("CONNECT "), "{line}"),
            }
        }
    }

    /// Each subscription that matches gets the message.
    fn deliver(&mut self, place: usize, subject: &str, payload: &[u8]) {
        let side = &mut self.sides[place];
        for (_, number) in side.subscriptions.iter().filter(|(pattern, _)| matches(pattern, subject)) {
            let head = format!("MSG {subject} {number} {}\r\n", payload.len());
            side.node.received(&[head.as_bytes(), payload, b"\r\n"].concat());
        }
    }
}

#[test]
fn a_client_gets_what_one_of_another_node_publishes_and_only_once() {
    let mut rig = Rig::new();
    for filter in ["a/+", "+/b", "a/b"] {
        rig.subscribe(1, filter);
    }
    rig.say(0, &[publish("a/b", "one"), publish("a/b", "two"), publish("x/y", "other")].concat());
    rig.say(0, &publish("a/c", "three"));
    let expected = [publish("a/b", "one"), publish("a/b", "two"), publish("a/c", "three")].concat();
    assert_eq!(rig.heard(1), expected);
    rig.say(1, &publish("a/b", "of its own node"));
    assert_eq!(rig.heard(1), publish("a/b", "of its own node"));
    let received: Vec<u64> = rig.sides.iter().map(|side| side.node.figures().received).collect();
    // The first message on a topic is encoded again, and so is not together with the second one.
    assert_eq!(received, [0, 3], "the first node wants nothing, and no client here wants x/y");
}

#[test]
fn messages_stay_here_while_there_is_no_server_and_come_again_after_it() {
    let mut rig = Rig::new();
    rig.subscribe(0, "a");
    rig.subscribe(1, "a");
    rig.is_server_there = false;
    for side in &mut rig.sides {
        side.node.engine().closed("cut", rig.now);
    }
    rig.say(0, &publish("a", "here"));
    assert_eq!((rig.heard(0), rig.heard(1)), (publish("a", "here"), Vec::new()));
    assert_eq!(rig.sides[0].node.figures().dropped, 1);
    rig.is_server_there = true;
    rig.now = rig.now + Duration::from_seconds(1);
    for side in &mut rig.sides {
        side.node.tick(rig.now);
    }
    rig.run();
    rig.say(0, &publish("a", "everywhere"));
    assert_eq!((rig.heard(0), rig.heard(1)), (publish("a", "everywhere"), publish("a", "everywhere")));
}

#[test]
fn what_is_no_message_of_a_node_is_ignored_and_said_once() {
    let mut rig = Rig::new();
    rig.subscribe(1, "a");
    while rig.sides[1].node.next_line().is_some() {}
    let origin = |counter| Origin { incarnation: 7, counter };
    let of_node =
        |counter, packets: &[u8]| [&head(ProtocolVersion::V311, origin(counter))[..], packets].concat();
    let wrong: [Vec<u8>; 6] = [
        Vec::new(),
        b"hello".to_vec(),
        vec![0xff; 30],
        of_node(1, &packet(0x10, b"\0\x04MQTT\x04\x02\0\0\0\x01c")),
        of_node(2, b"\x30\x7f\0\x01a"),
        of_node(3, &publish("$SYS/broker/version", "x")),
    ];
    for body in wrong.iter().cycle().take(100) {
        rig.deliver(1, "bk.c.d.a.%", body);
    }
    rig.deliver(1, "bk.c.d.a.%", &of_node(9, &publish("a", "good")));
    rig.run();
    assert_eq!(rig.heard(1), publish("a", "good"));
    let lines: Vec<String> =
        std::iter::from_fn(|| rig.sides[1].node.next_line()).map(|(_, line)| line).collect();
    assert!((3..=6).contains(&lines.len()), "{lines:#?}");
}

#[test]
fn messages_that_are_too_large_for_the_server_are_counted_and_said() {
    let mut rig = Rig::new();
    rig.subscribe(1, "a");
    while rig.sides[0].node.next_line().is_some() {}
    for _ in 0..3 {
        let long = "x".repeat(900);
        let body = [text("a"), text(&long), text(&long)].concat();
        let length = u16::try_from(body.len()).unwrap();
        let [high, low] = [length >> 7, length & 0x7f | 0x80].map(|part| u8::try_from(part).unwrap());
        rig.say(0, &[&[0x30, low, high], &body[..]].concat());
    }
    assert_eq!(rig.sides[0].node.figures().dropped, 3);
    let lines: Vec<_> = std::iter::from_fn(|| rig.sides[0].node.next_line()).collect();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    rig.say(0, &publish("a", "small"));
    assert_eq!(rig.heard(1), publish("a", "small"));
}

/// Where a turn of the core has room for little, messages of other nodes wait and keep their order.
#[test]
fn messages_for_which_a_turn_has_no_room_come_in_their_order() {
    let mut rig = Rig::with_steps([100_000, 64]);
    rig.subscribe(1, "#");
    let all: Vec<u8> =
        (0..200).flat_map(|number| publish(["a", "b"][number % 2], &number.to_string())).collect();
    for part in all.chunks(all.len() / 3) {
        rig.say(0, part);
    }
    rig.run();
    assert_eq!(rig.heard(1), all);
}

#[test]
fn a_client_is_connected_at_the_node_where_it_has_connected_last() {
    let mut rig = Rig::new();
    let first = rig.sides[0].connect("a", rig.now);
    rig.run();
    rig.now = rig.now + Duration::from_milliseconds(1);
    let second = rig.sides[1].connect("a", rig.now);
    rig.run();
    assert_eq!((&*rig.sides[0].closed, &*rig.sides[1].closed), (&[first][..], &[][..]));
    rig.now = rig.now + Duration::from_milliseconds(1);
    rig.sides[0].connect("a", rig.now);
    rig.run();
    assert_eq!((&*rig.sides[0].closed, &*rig.sides[1].closed), (&[first][..], &[second][..]));
    let figures = [0, 1].map(|side| rig.sides[side].node.figures());
    assert_eq!(figures.map(|figures| figures.takeovers), [1, 1]);
    assert_eq!(figures.map(|figures| figures.received), [0, 0], "these are no messages of clients");
}

#[test]
fn what_was_not_said_without_a_server_is_said_when_there_is_one() {
    let mut rig = Rig::new();
    rig.is_server_there = false;
    for side in &mut rig.sides {
        side.node.engine().closed("cut", rig.now);
    }
    rig.run();
    let clients: Vec<ConnectionId> =
        (0..100).map(|number| rig.sides[0].connect(&number.to_string(), rig.now)).collect();
    rig.now = rig.now + Duration::from_milliseconds(1);
    for number in 0..100 {
        rig.sides[1].connect(&number.to_string(), rig.now);
    }
    rig.run();
    assert!(rig.sides[0].closed.is_empty());
    rig.is_server_there = true;
    rig.now = rig.now + Duration::from_seconds(1);
    for side in &mut rig.sides {
        side.node.tick(rig.now);
    }
    rig.run();
    rig.sides[0].closed.sort_unstable();
    assert_eq!((&rig.sides[0].closed, &*rig.sides[1].closed), (&clients, &[][..]));
}

/// What a node can do in a turn is limited; the rest follows in later turns.
#[test]
fn clients_that_are_taken_over_all_at_once_end_in_several_turns() {
    const COUNT: usize = 300;
    let mut rig = Rig::with_steps([512, 100_000]);
    for number in 0..COUNT {
        rig.sides[0].connect(&number.to_string(), rig.now);
        rig.sides[0].end_turn(rig.now);
    }
    rig.run();
    rig.now = rig.now + Duration::from_milliseconds(1);
    for number in 0..COUNT {
        rig.sides[1].connect(&number.to_string(), rig.now);
    }
    // The first node does not process what is delivered to it meanwhile.
    (0..4).for_each(|_| rig.serve(1));
    let side = &mut rig.sides[0];
    let (mut turns, mut most, mut before) = (0, 0, 0);
    while side.node.figures().takeovers < COUNT as u64 {
        turns += 1;
        assert!(turns < COUNT, "{} are left", COUNT as u64 - side.node.figures().takeovers);
        assert!(turns == 1 || side.node.next_deadline() == Some(Time::ZERO) || !side.node.takes_input());
        side.node.process(&mut side.broker, rig.now);
        let ended = side.node.figures().takeovers;
        (most, before) = (most.max(ended - before), ended);
        side.broker.tick(rig.now, 100);
        while side.broker.next_effect().is_some() {}
    }
    assert!(turns > 5 && most < 100, "{turns} turns, {most} at most");
}

/// Clients are looked up at the cost of the turn, also those that are not here.
#[test]
fn hearing_of_clients_takes_steps() {
    let mut rig = Rig::new();
    for number in 0..200 {
        rig.sides[1].connect(&number.to_string(), rig.now);
    }
    rig.serve(1);
    let side = &mut rig.sides[0];
    side.broker.tick(rig.now, 100);
    let before = side.broker.steps_taken();
    side.node.process(&mut side.broker, rig.now);
    let taken = side.broker.steps_taken() - before;
    assert!(taken >= 50, "{taken}");
}

#[test]
fn what_no_node_says_about_its_clients_is_ignored_and_said_once() {
    let mut rig = Rig::new();
    let client = rig.sides[1].connect("a", rig.now);
    rig.run();
    rig.sides[1].lines();
    let wrong: [&[u8]; 5] = [b"", b"\x01", &[0xff; 100], &[1; 25], &[1; 50]];
    for body in wrong.iter().cycle().take(100) {
        rig.deliver(1, "bk.c.c", body);
    }
    rig.run();
    let lines = rig.sides[1].lines();
    assert!((3..=4).contains(&lines.len()), "{lines:#?}");
    assert!(lines.iter().all(|line| line.contains("about its clients was ignored")), "{lines:#?}");
    assert!(!rig.sides[1].closed.contains(&client));
}

/// A server stood still, the node left it for another one, and then the first one passes on what it had received.
#[test]
fn what_a_node_has_said_itself_is_not_delivered_again() {
    let mut rig = Rig::new();
    rig.subscribe(0, "a/b");
    rig.say(0, &publish("a/b", "once"));
    assert_eq!(rig.heard(0), publish("a/b", "once"));
    let origin = Origin { counter: 1, ..rig.sides[0].node.origin };
    let body = [&head(ProtocolVersion::V311, origin)[..], &publish("a/b", "once")].concat();
    rig.deliver(0, "bk.c.d.a.b.%", &body);
    rig.run();
    assert_eq!(rig.heard(0), b"");
    let origin = Origin { incarnation: origin.incarnation + 1, ..origin };
    let body = [&head(ProtocolVersion::V311, origin)[..], &publish("a/b", "of another node")].concat();
    rig.deliver(0, "bk.c.d.a.b.%", &body);
    rig.run();
    assert_eq!(rig.heard(0), publish("a/b", "of another node"));
}
