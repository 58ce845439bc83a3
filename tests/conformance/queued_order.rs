//! If QoS 0 messages are queued for disconnected clients, later messages do not overtake them [MQTT-4.6.0-6].

use std::collections::{BTreeMap, VecDeque};

use brooklet::core::switches::Switches;
use proptest::prelude::*;

use crate::wire::*;
use crate::world::{Peer, World};

/// A step of the test.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A publisher sends this many messages on a topic at once, at this QoS.
    Publish {
        publisher: usize,
        topic: usize,
        qos: u8,
        count: usize,
    },
    /// The subscriber answers the oldest unanswered packet.
    Answer,
    /// The subscriber loses its connection, or returns.
    Leave,
    Return,
    /// QoS 0 messages are queued for disconnected clients from now on, or are not.
    Wait(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let publish = (0..2_usize, 0..2_usize, 0..3_u8, 1..4_usize)
        .prop_map(|(publisher, topic, qos, count)| Step::Publish { publisher, topic, qos, count });
    prop_oneof![
        8 => publish,
        6 => Just(Step::Answer),
        1 => Just(Step::Leave),
        2 => Just(Step::Return),
        1 => any::<bool>().prop_map(Step::Wait),
    ]
}

/// Publisher, topic and QoS.
type Line = (u8, String, u8);

struct Exchange {
    world: World,
    /// Whether messages of QoS 0 are queued for the subscriber.
    waits: bool,
    level: u8,
    publishers: [(Peer, u8); 2],
    subscriber: Option<Peer>,
    number: u16,
    /// The answers that are due.
    due: VecDeque<Vec<u8>>,
    /// The model: numbers of the messages that were sent and have to arrive, and of those that have arrived.
    sent: BTreeMap<Line, Vec<u16>>,
    came: BTreeMap<Line, Vec<u16>>,
}

impl Exchange {
    fn new(level: u8, levels: [u8; 2], window: u16) -> Self {
        let mut world = World::with_limits(|limits| limits.in_flight = window);
        world.broker.set_switches(Switches { queues_at_most_once: true, ..Switches::default() });
        let publishers = [0, 1].map(|index| {
            let connect = Connect::new(levels[index], ["one", "two"][index]);
            (world.connect(connect.bytes()), levels[index])
        });
        let mut exchange = Self {
            world,
            waits: true,
            level,
            publishers,
            subscriber: None,
            number: 0,
            due: VecDeque::new(),
            sent: BTreeMap::new(),
            came: BTreeMap::new(),
        };
        let peer = exchange.come_back();
        exchange.world.ask(peer, subscribe(level, 1, &[], &[("#", 2)]));
        exchange
    }

    fn come_back(&mut self) -> Peer {
        let connect = Connect::new(self.level, "subscriber").resume();
        let connect = if self.level == V5 { connect.expiry(1_000) } else { connect };
        let peer = self.world.open();
        self.world.send(peer, connect.bytes());
        self.subscriber = Some(peer);
        self.take();
        peer
    }

    fn take(&mut self) {
        let Some(peer) = self.subscriber else { return };
        for packet in self.world.take(peer) {
            match packet[0] >> 4 {
                3 => self.note(&received(self.level, &packet)),
                6 => self.due.push_back(acknowledge(0x70, u16::from_be_bytes([packet[2], packet[3]]))),
                kind => assert_eq!(kind, 2, "{packet:02x?}"),
            }
        }
    }

    fn note(&mut self, message: &Received) {
        if let Some(identifier) = message.packet_identifier {
            self.due.push_back(acknowledge(if message.qos == 1 { 0x40 } else { 0x50 }, identifier));
        }
        let number = u16::from_be_bytes([message.payload[1], message.payload[2]]);
        let line = self.came.entry((message.payload[0], message.topic.clone(), message.qos)).or_default();
        if !(message.dup && line.contains(&number)) {
            line.push(number);
        }
    }

    fn take_step(&mut self, step: Step) {
        match step {
            Step::Publish { publisher, topic, qos, count } => self.publish(publisher, topic, qos, count),
            Step::Answer => {
                if let (Some(peer), Some(answer)) = (self.subscriber, self.due.pop_front()) {
                    self.world.send(peer, answer);
                }
            }
            Step::Leave => {
                if let Some(peer) = self.subscriber.take() {
                    self.world.cut(peer);
                    self.due.clear();
                }
            }
            Step::Return if self.subscriber.is_none() => {
                self.come_back();
            }
            Step::Return => {}
            Step::Wait(waits) => {
                self.waits = waits;
                self.world
                    .broker
                    .set_switches(Switches { queues_at_most_once: waits, ..Switches::default() });
            }
        }
        self.take();
    }

    fn publish(&mut self, publisher: usize, topic: usize, qos: u8, count: usize) {
        let (peer, level) = self.publishers[publisher];
        let (index, topic) = (u8::try_from(publisher).expect("one of two"), ["a", "b/c"][topic]);
        let mut bytes = Vec::new();
        for _ in 0..count {
            self.number += 1;
            let [high, low] = self.number.to_be_bytes();
            let message = Publish::new(level, topic, &[index, high, low]);
            bytes.extend(if qos > 0 { message.qos(qos, self.number) } else { message }.bytes());
            if qos == 2 {
                bytes.extend(acknowledge(0x62, self.number));
            }
            if qos > 0 || self.subscriber.is_some() || self.waits {
                self.sent.entry((index, topic.to_owned(), qos)).or_default().push(self.number);
            }
        }
        self.world.send(peer, bytes);
        self.world.take(peer);
    }

    /// Delivers everything.
    fn finish(mut self) -> Self {
        self.take_step(Step::Return);
        while !self.due.is_empty() {
            self.take_step(Step::Answer);
        }
        self
    }
}

fn level() -> impl Strategy<Value = u8> {
    prop_oneof![Just(V31), Just(V311), Just(V5)]
}

proptest! {
    #[test]
    fn messages_of_one_publisher_topic_and_qos_are_in_order(
        level in level(),
        levels in [level(), level()],
        window in 1_u16..4,
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut exchange = Exchange::new(level, levels, window);
        for step in steps {
            exchange.take_step(step);
        }
        let exchange = exchange.finish();
        prop_assert_eq!(exchange.came, exchange.sent);
    }
}

#[test]
fn messages_that_come_as_a_client_returns_follow_queued_ones() {
    for level in [V31, V311, V5] {
        let mut exchange = Exchange::new(level, [level, V311], 1);
        let publish = |qos, count| Step::Publish { publisher: 0, topic: 0, qos, count };
        for step in [Step::Leave, publish(1, 2), publish(0, 3), Step::Return, publish(0, 3)] {
            exchange.take_step(step);
        }
        assert_eq!(exchange.came.len(), 1, "the second message of QoS 1 waits, and with it those of QoS 0");
        let exchange = exchange.finish();
        assert_eq!(exchange.came, exchange.sent);
    }
}
