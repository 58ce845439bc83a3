//! What the nodes of a cluster say to each other, by packets.

use super::*;
use crate::base::peer::Peer;
use crate::base::time::Duration;
use crate::core::access::AllowAll;
use crate::core::broker::{Effect, Intake, Logged};
use crate::core::journal::Batch;
use crate::core::limits::Limits;
use crate::core::listener::ListenerId;
use crate::core::message::Portable;
use crate::core::slots::ConnectionId;
use crate::protocol::codec::{Delivery, PacketIdentifier, QoS};

const V311: ProtocolVersion = ProtocolVersion::V311;
const V5: ProtocolVersion = ProtocolVersion::V5;

/// A broker of a cluster.
struct Node {
    broker: Broker,
    now: Time,
}

/// Returns a packet with this first byte and body.
fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let length = u8::try_from(body.len()).ok().filter(|length| *length < 0x80);
    let mut bytes = vec![first, length.expect("packets of these tests are short")];
    bytes.extend_from_slice(body);
    bytes
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = u16::try_from(text.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

fn publish(flags: u8, topic: &str, rest: &[u8]) -> Vec<u8> {
    packet(0x30 | flags, &[&text(topic), rest].concat())
}

impl Node {
    fn new(limits: Limits) -> Self {
        let now = Time::from_milliseconds(1_000);
        let mut broker = Broker::new(limits, Box::new(AllowAll), 1, now);
        broker.begin_cluster();
        Self { broker, now }
    }

    fn connect(&mut self, name: &str, version: ProtocolVersion) -> ConnectionId {
        let id = self.broker.accept(Peer::Local, ListenerId::default(), self.now).unwrap();
        let (level, properties): (u8, &[u8]) = if version == V5 { (5, &[0]) } else { (4, &[]) };
        self.send(
            id,
            &packet(0x10, &[b"\0\x04MQTT", &[level, 2, 0, 0][..], properties, &text(name)].concat()),
        );
        self.output(id);
        id
    }

    fn subscribe(&mut self, id: ConnectionId, version: ProtocolVersion, filter: &str, options: u8) {
        let properties: &[u8] = if version == V5 { &[0] } else { &[] };
        self.send(id, &packet(0x82, &[&[0, 1], properties, &text(filter), &[options]].concat()));
        self.is_read();
        self.output(id);
    }

    fn send(&mut self, id: ConnectionId, bytes: &[u8]) {
        self.broker.received(id, bytes, self.now);
        self.end_turn();
    }

    /// Ends turns until nothing is left to do.
    fn end_turn(&mut self) {
        for _ in 0..1_000 {
            self.broker.tick(self.now, 1_000);
            while let Some(effect) = self.broker.next_effect() {
                if let Effect::Resume(id) = effect {
                    self.broker.resume(id, self.now);
                }
            }
            if !self.broker.has_more() {
                self.broker.check_invariants();
                return;
            }
        }
        panic!("the work does not end");
    }

    fn output(&mut self, id: ConnectionId) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..1_000 {
            self.broker.take_dirty(Vec::new());
            self.broker.write_to(id, &mut bytes, self.now).unwrap();
            self.end_turn();
            if !self.broker.has_output(id) {
                return bytes;
            }
            self.broker.writable(id);
        }
        panic!("the output does not end");
    }

    /// Passes on what it says to another node.
    fn tell(&mut self, other: &mut Self) {
        let messages = self.broker.take_messages_for_nodes(Messages::default());
        for packets in messages.iter() {
            let used = other.broker.publish_from_node(packets.bytes, packets.version, other.now);
            assert_eq!(used, Ok(packets.bytes.len()));
            other.end_turn();
        }
    }

    fn changes(&mut self) -> Vec<String> {
        let shown = self.broker.take_filter_changes().into_iter().map(|change| match change {
            FilterChange::Begun(filter) => format!("+{filter}"),
            FilterChange::Ended(filter) => format!("-{filter}"),
        });
        shown.collect()
    }
}

/// What a subscriber at another node receives is what one at the same node does, in each version and QoS, with RETAIN and
/// with properties, by the short way and without it.
#[test]
fn a_subscriber_of_another_node_receives_the_same() {
    let properties = b"\x0b\x02\0\0\0\x3c\x01\x01\x03\0\x01t"; // Message Expiry Interval, UTF-8, Content Type
    let messages: [(ProtocolVersion, Vec<u8>); 10] = [
        (V311, publish(0, "a/b", b"plain")),
        (V5, publish(0, "a/b", b"\0plain")),
        (V311, [publish(0, "a/b", b"one"), publish(0, "a/b", b"two"), publish(0, "a/b", b"three")].concat()),
        (
            V5,
            [publish(0, "a/b", b"\0one"), publish(0, "a/b", b"\0two"), publish(0, "a/c", b"\0other")]
                .concat(),
        ),
        (V5, publish(0, "a/b", &[properties, &b"x"[..]].concat())),
        (V311, publish(2, "a/b", b"\0\x07once at least")),
        (V5, publish(4, "a/b", b"\0\x07\0exactly once")),
        (V311, publish(1, "a/b", b"retained")),
        (V5, publish(3, "a/b", &[&b"\0\x07"[..], properties, b"retained"].concat())),
        (V311, publish(0, "$own/b", b"of no wildcard")),
    ];
    for (version, message) in messages {
        for (reader, options) in [(V311, 0), (V311, 2), (V5, 0), (V5, 1), (V5, 2 | 8)] {
            for is_short in [true, false] {
                let mut nodes = [Node::new(Limits::default()), Node::new(Limits::default())];
                let receivers = nodes.each_mut().map(|node| {
                    if !is_short {
                        node.broker.take_no_short_way();
                    }
                    let receiver = node.connect("reader", reader);
                    node.subscribe(receiver, reader, "a/#", options);
                    node.subscribe(receiver, reader, "$own/+", options);
                    receiver
                });
                let [home, other] = &mut nodes;
                let client = home.connect("writer", version);
                // Twice, since the short way is open only to topics that are known.
                for _ in 0..2 {
                    home.send(client, &message);
                    home.send(client, b"\x62\x02\0\x07");
                    home.tell(other);
                    let here = home.output(receivers[0]);
                    assert!(!here.is_empty());
                    assert_eq!(other.output(receivers[1]), here, "{version:?} {message:?} {options}");
                    other.tell(home);
                    assert_eq!(home.output(receivers[0]), b"", "nothing comes back");
                }
            }
        }
    }
}

#[test]
fn a_will_reaches_other_nodes_and_messages_about_the_broker_do_not() {
    let mut nodes = [Node::new(Limits::default()), Node::new(Limits::default())];
    let [home, other] = &mut nodes;
    let reader = other.connect("reader", V311);
    other.subscribe(reader, V311, "#", 0);
    other.subscribe(reader, V311, "$SYS/#", 0);
    let id = home.broker.accept(Peer::Local, ListenerId::default(), home.now).unwrap();
    home.send(id, &packet(0x10, b"\0\x04MQTT\x04\x06\0\0\0\x01c\0\x01w\0\x04gone"));
    home.broker.publish_sys(
        Some(crate::base::time::Duration::from_seconds(10)),
        crate::base::time::Duration::ZERO,
        home.now,
    );
    home.broker.closed(id, "cut", home.now);
    home.end_turn();
    home.tell(other);
    assert_eq!(other.output(reader), publish(0, "w", b"gone"));
}

#[test]
fn the_first_and_the_last_subscriber_of_a_filter_are_noted() {
    let mut node = Node::new(Limits::default());
    let [one, two] = ["one", "two"].map(|name| node.connect(name, V5));
    for id in [one, two] {
        node.subscribe(id, V5, "a/+", 0);
        node.subscribe(id, V5, "$share/g/a/+", 0);
        node.subscribe(id, V5, "$share/g/b/#", 0);
    }
    assert_eq!(node.changes(), ["+a/+", "+b/#"]);
    node.subscribe(one, V5, "a/+", 1);
    node.send(one, &packet(0xa2, &[&b"\0\x02\0"[..], &text("a/+")].concat()));
    node.broker.closed(one, "cut", node.now);
    node.end_turn();
    assert!(node.changes().is_empty());
    // Nothing of a session remains that has ended.
    node.send(two, &packet(0xa2, &[&b"\0\x02\0"[..], &text("$share/g/b/#")].concat()));
    assert_eq!(node.changes(), ["-b/#"]);
    node.broker.closed(two, "cut", node.now);
    node.end_turn();
    assert_eq!(node.changes(), ["-a/+"]);
}

#[test]
fn packets_that_no_node_sends_are_refused_and_those_before_them_published() {
    let good = publish(0, "a", b"\0good");
    let wrong: [&[u8]; 9] = [
        &packet(0x10, b"\0\x04MQTT\x05\x02\0\0\0\0\0"),
        b"\xc0\0",
        b"\x40\x02\0\x01",
        &publish(0, "", b"\x03\x23\0\x01x"),
        &publish(0, "a", b"\x03\x23\0\x01x"),
        &publish(0, "a", b"\x02\x0b\x01x"),
        &publish(0, "$SYS/broker/uptime", b"\0x"),
        &publish(0, "a/#", b"\0x"),
        b"\x30\x7f\0\x01a",
    ];
    for bytes in wrong {
        let mut node = Node::new(Limits::default());
        let reader = node.connect("reader", V5);
        node.subscribe(reader, V5, "#", 0);
        let now = node.now;
        let outcome = node.broker.publish_from_node(&[&good, bytes].concat(), V5, now);
        assert!(outcome.is_err(), "{bytes:?}");
        node.end_turn();
        assert_eq!(node.output(reader), good, "{bytes:?}");
    }
}

/// With few steps in a turn, messages of other nodes wait, and keep their order.
#[test]
fn messages_that_do_not_fit_into_a_turn_wait_for_the_next_ones() {
    let mut node = Node::new(Limits { steps_per_turn: 64, ..Limits::default() });
    let readers: Vec<ConnectionId> = (0..40)
        .map(|number| {
            let reader = node.connect(&format!("reader {number}"), V5);
            node.subscribe(reader, V5, "#", 0);
            reader
        })
        .collect();
    let all: Vec<u8> =
        (0..20_u8).flat_map(|number| publish(0, ["a", "b"][usize::from(number % 2)], &[0, number])).collect();
    let (mut used, mut turns) = (0, 0);
    while used < all.len() {
        used += node.broker.publish_from_node(&all[used..], V5, node.now).unwrap();
        node.broker.tick(node.now, 1_000);
        turns += 1;
        assert!(turns < 10_000);
    }
    node.end_turn();
    assert!(turns > 5, "{turns}");
    for reader in readers {
        assert_eq!(node.output(reader), all);
    }
}

impl Node {
    fn with_log() -> Self {
        let mut node = Self::new(Limits::default());
        node.broker.begin_log();
        node.broker.open_log(node.now);
        node
    }

    /// Takes what is to be appended to the log: what was published since the batch before is durable.
    fn batch(&mut self) -> Option<Batch> {
        let batch = self.broker.take_batch(self.now);
        assert!(batch.as_ref().is_none_or(|batch| batch.records.is_empty() && !batch.log.is_empty()));
        batch
    }

    fn durable(&mut self, batch: &Batch) {
        self.broker.durable(batch.number, self.now);
        self.end_turn();
    }

    /// Reads a message of the log.
    fn read(&mut self, message: &Portable) {
        let publication = message.publication();
        let mut bytes = Vec::new();
        let delivery = match publication.qos {
            QoS::AtMostOnce => Delivery::AtMostOnce,
            QoS::AtLeastOnce => Delivery::AtLeastOnce(PacketIdentifier::FIRST),
            QoS::ExactlyOnce => Delivery::ExactlyOnce(PacketIdentifier::FIRST),
        };
        let publish = Publish {
            dup: false,
            retain: publication.retain,
            delivery,
            topic: Some(publication.topic),
            properties: publication.properties,
            payload: publication.payload,
        };
        publish.encode(V5, &mut bytes);
        let logged =
            Logged { publisher: publication.publisher, packet: &bytes, age: Duration::ZERO, is_own: true };
        assert_eq!(self.broker.publish_from_log(&logged, self.now), Ok(true));
        self.end_turn();
    }

    /// Nothing is in the log that has not been read.
    fn is_read(&mut self) {
        if self.broker.begin_reading_to_the_end() {
            self.broker.end_of_log_is_read(self.now);
            self.end_turn();
        }
    }
}

/// A message of the log is delivered once it is read from there, and answered once it is durable, in any order.
#[test]
fn messages_of_the_log_are_answered_when_they_are_durable_and_delivered_when_they_are_read() {
    for is_read_first in [true, false] {
        let mut node = Node::with_log();
        let reader = node.connect("reader", V311);
        node.subscribe(reader, V311, "#", 1);
        let writer = node.connect("writer", V5);
        for message in
            [publish(2, "a", b"\0\x07\0one"), publish(4, "a", b"\0\x08\0two"), publish(1, "a", b"\0kept")]
        {
            node.send(writer, &message);
        }
        node.send(writer, &publish(0, "a", b"\0at once"));
        assert_eq!(node.output(writer), b"");
        assert_eq!(node.output(reader), publish(0, "a", b"at once"));
        let batch = node.batch().unwrap();
        let found: Vec<_> = batch.log.iter().map(|message| message.publication().payload.to_vec()).collect();
        assert_eq!(found, [&b"one"[..], b"two", b"kept"]);
        node.send(writer, &publish(2, "a", b"\0\x09\0three"));
        assert!(node.batch().is_none(), "there is one batch at a time");

        let delivered =
            [publish(2, "a", b"\0\x01one"), publish(2, "a", b"\0\x02two"), publish(0, "a", b"kept")];
        let answers = b"\x40\x02\0\x07\x50\x02\0\x08".to_vec();
        if is_read_first {
            batch.log.iter().for_each(|message| node.read(message));
            assert_eq!(node.output(reader), delivered.concat());
            assert_eq!(node.output(writer), b"");
            node.durable(&batch);
            assert_eq!(node.output(writer), answers);
        } else {
            node.durable(&batch);
            assert_eq!(node.output(writer), answers);
            assert_eq!(node.output(reader), b"");
            batch.log.iter().for_each(|message| node.read(message));
            assert_eq!(node.output(reader), delivered.concat());
        }
        let second = node.connect("second", V311);
        node.subscribe(second, V311, "a", 0);
        let batch = node.batch().unwrap();
        assert_eq!(batch.log.len(), 1);
        node.durable(&batch);
        assert_eq!(node.output(writer), b"\x40\x02\0\x09");
        assert!(node.broker.is_durable());
    }
}

/// The client of a QoS 2 message that is not durable comes back on another connection and repeats it.
#[test]
fn a_repeated_message_is_not_answered_before_the_first_one_is_durable() {
    for is_taken in [true, false] {
        let mut node = Node::with_log();
        let connect = packet(0x10, b"\0\x04MQTT\x05\0\0\0\x05\x11\0\0\0\x3c\0\x01w");
        let first = node.broker.accept(Peer::Local, ListenerId::default(), node.now).unwrap();
        node.send(first, &connect);
        node.output(first);
        node.send(first, &publish(4, "a", b"\0\x08\0two"));
        let batch = is_taken.then(|| node.batch().unwrap());
        node.broker.closed(first, "cut", node.now);
        node.end_turn();
        let again = node.broker.accept(Peer::Local, ListenerId::default(), node.now).unwrap();
        node.send(again, &connect);
        assert!(!node.output(again).is_empty());
        node.send(again, &publish(4 | 8, "a", b"\0\x08\0two"));
        assert_eq!(node.output(again), b"");
        let batch = batch.unwrap_or_else(|| node.batch().unwrap());
        assert_eq!(batch.log.len(), 1);
        node.durable(&batch);
        assert_eq!(node.output(again), b"\x50\x02\0\x08");
        assert!(node.batch().is_none());
    }
}

#[test]
fn a_will_goes_into_the_log() {
    let mut node = Node::with_log();
    let id = node.broker.accept(Peer::Local, ListenerId::default(), node.now).unwrap();
    node.send(id, &packet(0x10, b"\0\x04MQTT\x04\x2e\0\0\0\x01c\0\x01w\0\x04gone"));
    node.broker.closed(id, "cut", node.now);
    node.end_turn();
    let batch = node.batch().unwrap();
    let will = batch.log[0].publication();
    assert_eq!((will.topic.as_str(), will.qos, will.retain), ("w", QoS::AtLeastOnce, true));
    assert!(node.broker.take_messages_for_nodes(Messages::default()).is_empty());
    assert_eq!(node.broker.census().retained, 0);
    node.read(&batch.log[0]);
    assert_eq!(node.broker.census().retained, 1);
}

/// A client that publishes faster than the log takes it is not read.
#[test]
fn publishers_wait_while_too_much_waits_for_the_log() {
    let mut node = Node::with_log();
    let writer = node.connect("writer", V311);
    let batch = {
        node.send(writer, &publish(2, "a", b"\0\x01first"));
        node.batch().unwrap()
    };
    let many: Vec<u8> = publish(2, "a", &[&b"\0\x02"[..], &[0; 100]].concat()).repeat(1_000);
    let is_read = |node: &mut Node, bytes: &[u8]| {
        let intake = node.broker.received(writer, bytes, node.now);
        node.end_turn();
        intake == Intake::More || node.broker.received(writer, &[], node.now) == Intake::More
    };
    assert!((0..200).any(|_| !is_read(&mut node, &many)));
    node.durable(&batch);
    let batch = node.batch().unwrap();
    assert!(batch.log.len() > 10_000);
    node.durable(&batch);
    assert!(node.batch().is_some());
}

const SUBSCRIBE: &[u8] = b"\x82\x07\0\x05\0\0\x01a\x01";
const UNSUBSCRIBE: &[u8] = b"\xa2\x06\0\x06\0\0\x01a";

/// A SUBSCRIBE and an UNSUBSCRIBE wait until the node has read the log up to its end, whatever else happens.
#[test]
fn filters_wait_for_the_end_of_the_log() {
    let mut node = Node::with_log();
    let reader = node.connect("reader", V5);
    for (packet, answer) in [(SUBSCRIBE, &b"\x90\x04\0\x05\0\x01"[..]), (UNSUBSCRIBE, b"\xb0\x04\0\x06\0\0")]
    {
        node.send(reader, packet);
        node.broker.resume(reader, node.now);
        node.end_turn();
        node.broker.open_log(node.now);
        node.end_turn();
        assert_eq!(node.output(reader), b"");
        assert!(node.broker.begin_reading_to_the_end());
        assert!(!node.broker.begin_reading_to_the_end(), "one question at a time");
        node.broker.resume(reader, node.now);
        node.end_turn();
        assert_eq!(node.output(reader), b"");
        node.broker.end_of_log_is_read(node.now);
        node.end_turn();
        assert_eq!(node.output(reader), answer);
        assert!(!node.broker.begin_reading_to_the_end());
    }
}

/// What a client receives that sends something while the log is closed, and whether it keeps its connection.
fn told_while_closed(version: ProtocolVersion, packet: &[u8]) -> (Vec<u8>, bool) {
    let mut node = Node::with_log();
    let client = node.connect("client", version);
    node.broker.close_log(node.now);
    node.send(client, packet);
    let told = node.output(client);
    node.send(client, b"\xc0\0");
    (told, node.output(client) == b"\xd0\0")
}

#[test]
fn publishers_are_told_or_cut_off_while_the_log_is_closed() {
    for (flags, first) in [(2, 0x40), (4, 0x50)] {
        let (told, is_served) = told_while_closed(V5, &publish(flags, "a", b"\0\x07\0x"));
        assert_eq!((told[0], &told[2..5], is_served), (first, &[0, 7, 0x97][..], true));
    }
    assert_eq!(told_while_closed(V311, &publish(2, "a", b"\0\x07x")), (vec![], false));
    for version in [V311, V5] {
        let properties: &[u8] = if version == V5 { b"\0x" } else { b"x" };
        assert_eq!(told_while_closed(version, &publish(1, "a", properties)), (vec![], true), "not retained");
        assert_eq!(told_while_closed(version, &publish(0, "a", properties)), (vec![], true));
    }
}

#[test]
fn clients_that_wait_for_an_answer_lose_their_connections_when_the_log_is_closed() {
    for version in [V311, V5] {
        let mut node = Node::with_log();
        let properties: &[u8] = if version == V5 { b"\0" } else { b"" };
        let writer = node.connect("writer", version);
        node.send(writer, &publish(2, "a", &[b"\0\x07", properties, b"x"].concat()));
        let reader = node.connect("reader", version);
        node.send(reader, &packet(0x82, &[b"\0\x05", properties, b"\0\x01a\x01"].concat()));
        let other = node.connect("other", version);
        node.broker.close_log(node.now);
        node.end_turn();
        for id in [writer, reader] {
            let told = node.output(id);
            match version {
                V5 => assert_eq!((told[0], told[2]), (0xe0, 0x89)),
                _ => assert_eq!(told, b""),
            }
            node.send(id, b"\xc0\0");
            assert_eq!(node.output(id), b"", "its connection has ended");
        }
        node.send(other, b"\xc0\0");
        assert_eq!(node.output(other), b"\xd0\0");
        // What was under way is stored nevertheless, perhaps.
        assert_eq!(node.batch().unwrap().log.len(), 1);
    }
}

#[test]
fn clients_are_refused_until_the_log_is_open() {
    let mut node = Node::new(Limits::default());
    node.broker.begin_log();
    for is_open in [false, true] {
        let connects: [(Vec<u8>, &[u8]); 2] = [
            (packet(0x10, b"\0\x04MQTT\x04\x02\0\0\0\x01c"), b"\x20\x02\0\x03"),
            (packet(0x10, b"\0\x04MQTT\x05\x02\0\0\0\0\x01c"), b"\x20\x03\0\x88"),
        ];
        for (connect, refusal) in connects {
            let id = node.broker.accept(Peer::Local, ListenerId::default(), node.now).unwrap();
            node.send(id, &connect);
            let told = node.output(id);
            let is_refused = told.starts_with(&refusal[..1]) && told[3] == refusal[3];
            assert_eq!(is_refused, !is_open, "{told:?}");
        }
        node.broker.open_log(node.now);
    }
}

#[test]
fn a_message_that_is_too_long_for_the_log_ends_the_connection_of_its_publisher() {
    let mut node = Node::with_log();
    node.broker.limit_logged(20);
    let writer = node.connect("writer", V5);
    for (length, is_taken) in [(5, true), (30, false)] {
        node.send(writer, &publish(2, "a", &[&b"\0\x07\0"[..], &vec![b'x'; length]].concat()));
        assert_eq!(
            node.batch().is_some_and(|batch| {
                node.durable(&batch);
                true
            }),
            is_taken
        );
    }
    let told = node.output(writer);
    assert!(told.starts_with(b"\x40\x02\0\x07\xe0"), "{told:?}");
    assert_eq!(told[6], 0x95);
}

/// No Local concerns what comes back from the log as well, and a message expires in time.
#[test]
fn a_message_of_the_log_has_its_publisher_and_its_age() {
    let mut node = Node::with_log();
    let client = node.connect("client", V5);
    node.subscribe(client, V5, "a", 1 | 4);
    let other = node.connect("other", V5);
    node.subscribe(other, V5, "a", 1);
    let properties = b"\x05\x02\0\0\0\x3c";
    let packet = publish(2, "a", &[&b"\0\x01"[..], properties, b"x"].concat());
    for (age, expected) in [(0, Some(60)), (20, Some(40)), (60, None), (1_000, None)] {
        let logged = Logged {
            publisher: Some("0\0client"),
            packet: &packet,
            age: Duration::from_seconds(age),
            is_own: false,
        };
        assert_eq!(node.broker.publish_from_log(&logged, node.now), Ok(true));
        node.end_turn();
        assert_eq!(node.output(client), b"", "it has published it");
        let told = node.output(other);
        assert_eq!(told.get(12).copied(), expected, "{told:?}");
        if !told.is_empty() {
            node.send(other, &[0x40, 2, told[5], told[6]]);
        }
    }
}
