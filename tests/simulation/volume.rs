//! Large volumes, for which the oracle would be too slow: many filters, many sessions, sparse retained topics, large
//! groups, mass departures. Each client counts what it receives, the work budget is checked after every turn, and the
//! memory count is compared with the allocator's.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use brooklet::base::peer::Peer;
use brooklet::base::time::{Duration, Time};
use brooklet::core::access::AllowAll;
use brooklet::core::broker::{Broker, Census, Effect, Intake};
use brooklet::core::limits::Limits;
use brooklet::core::listener::ListenerId;
use brooklet::core::slots::ConnectionId;
use brooklet::protocol::codec::{
    Acknowledgement, Delivery, Disconnect, Packet, PacketIdentifier, Properties, ProtocolVersion, Publish,
    QoS, ReasonCode, Status, Subscription, decode, frame,
};
use brooklet::protocol::topic::{TopicFilter, TopicName};

use crate::chance::Chance;
use crate::device::{Device, Draft, DraftWill, Greeting};
use crate::ledger::Ledger;

const VERSION: ProtocolVersion = ProtocolVersion::V5;
/// Connections closed and timers handled in one turn, as by a server.
const CLOSED_PER_TURN: usize = 256;
const TIMERS_PER_TURN: usize = 1_024;
/// Bytes read from a connection at once.
const READ_BYTES: usize = 64 * 1024;
/// Filters of one SUBSCRIBE or UNSUBSCRIBE.
const FILTERS_PER_PACKET: usize = 2_000;
/// The memory is compared once in this many turns, and whenever the broker is idle.
const TURNS_BETWEEN_COUNTS: usize = 32;

/// A client, with what it has received.
struct Client {
    device: Device,
    up: VecDeque<u8>,
    is_paused: bool,
    down: Vec<u8>,
    /// Numbers of messages, in the order in which they came.
    got: Vec<u64>,
    /// Topics of retained messages.
    retained: BTreeMap<String, u64>,
    /// Answers to its PUBLISH packets.
    answered: u64,
}

struct Volume {
    broker: Broker,
    ledger: Ledger,
    limits: Limits,
    chance: Chance,
    now: Time,
    clients: BTreeMap<ConnectionId, Client>,
    closing: VecDeque<ConnectionId>,
    got_by_departed: Vec<u64>,
    published: u64,
}

/// Runs one seed; returns the number of messages delivered.
pub fn run(seed: u64, is_told: bool) -> u64 {
    let limits = Limits::default();
    let mut ledger = Ledger::begin();
    let mut volume = Volume {
        broker: ledger.call(|| Broker::new(limits.clone(), Box::new(AllowAll), seed, Time::ZERO)),
        ledger,
        limits,
        chance: Chance::new(seed),
        now: Time::ZERO,
        clients: BTreeMap::new(),
        closing: VecDeque::new(),
        got_by_departed: Vec::new(),
        published: 0,
    };
    let deliveries = match volume.chance.below(4) {
        0 => volume.many_recipients(),
        1 => volume.many_filters(),
        2 => volume.sparse_retained(),
        _ => volume.large_group(),
    };
    volume.depart();
    if is_told {
        println!("{deliveries} deliveries in large volumes, {} steps at most", volume.broker.heaviest_turn());
    }
    deliveries
}

impl Volume {
    fn between(&mut self, low: u64, high: u64) -> usize {
        usize::try_from(self.chance.between(low, high)).expect("a small number")
    }

    fn draw_qos(&mut self) -> QoS {
        self.chance.pick(&[QoS::AtMostOnce, QoS::AtLeastOnce])
    }

    /// Every subscriber gets every message once and in order. Some leave Wills, which one client waits for.
    fn many_recipients(&mut self) -> u64 {
        let count = self.between(300, 6_000);
        let watcher = self.connect("watcher".to_owned(), false);
        self.subscribe(watcher, ["will".to_owned()].into_iter(), QoS::AtLeastOnce);
        let subscribers: Vec<ConnectionId> =
            (0..count).map(|number| self.connect(format!("s{number}"), true)).collect();
        let qos = self.draw_qos();
        for &id in &subscribers {
            self.subscribe(id, ["t/#".to_owned(), "t/+".to_owned()].into_iter(), qos);
        }
        self.settle();
        let publisher = self.connect("publisher".to_owned(), false);
        let messages = self.chance.between(3, 12);
        self.publish(publisher, "t/a", messages, false);
        let leaving = subscribers.len() / 2;
        self.settle();
        for id in &subscribers {
            let got = &self.clients[id].got;
            assert!(got.iter().copied().eq(1..=messages), "everything once and in order, not {got:?}");
        }
        assert_eq!(self.clients[&publisher].answered, messages, "each is answered");
        self.closing.extend(subscribers.iter().take(leaving));
        self.settle();
        let wills = self.clients[&watcher].got.len();
        assert_eq!(wills, leaving, "each that leaves leaves its Will");
        messages * subscribers.len() as u64
    }

    /// One client has very many filters, many of which match; it gets each message once. Then it unsubscribes.
    fn many_filters(&mut self) -> u64 {
        let count = self.between(2_000, 9_000);
        let filters: Vec<String> = (0..count)
            .map(|number| if number % 2 == 0 { format!("a/+/{number}/#") } else { overlapping(number) })
            .collect();
        let holder = self.connect("holder".to_owned(), false);
        let qos = self.draw_qos();
        self.subscribe(holder, filters.iter().cloned(), qos);
        self.settle();
        assert_eq!(self.broker.census().subscriptions, count);
        let publisher = self.connect("publisher".to_owned(), false);
        let messages = self.chance.between(2, 6);
        self.publish(publisher, &"b/".repeat(14), messages, false);
        self.settle();
        let got = &self.clients[&holder].got;
        assert!(got.iter().copied().eq(1..=messages), "everything once and in order, not {got:?}");
        if self.chance.percent(50) {
            for some in filters.chunks(FILTERS_PER_PACKET) {
                let packet = self.client(holder).device.unsubscribe(some);
                self.client(holder).up.extend(packet);
            }
            self.settle();
            assert_eq!(self.broker.census().subscriptions, 0);
        }
        messages
    }

    /// Some clients want few of very many retained messages, and get each of them once.
    fn sparse_retained(&mut self) -> u64 {
        let count = self.between(3_000, 40_000);
        let apart = self.between(50, 400);
        let publisher = self.connect("publisher".to_owned(), false);
        for number in 0..count {
            self.publish(publisher, &format!("a/{number}/b/{}", number % apart), 1, true);
            if number % 500 == 0 {
                self.settle();
            }
        }
        self.settle();
        assert_eq!(self.broker.census().retained, count);
        let clients = self.between(2, 12);
        let mut wanting = Vec::new();
        for number in 0..clients {
            let id = self.connect(format!("c{number}"), false);
            let qos = self.draw_qos();
            let rest = self.chance.below(apart);
            self.subscribe(id, [format!("a/+/+/{rest}")].into_iter(), qos);
            wanting.push((id, rest));
        }
        self.settle();
        let mut deliveries = 0;
        for (id, rest) in wanting {
            let retained = &self.clients[&id].retained;
            let owed = (0..count).filter(|number| number % apart == rest);
            let owed: BTreeMap<String, u64> =
                owed.map(|number| (format!("a/{number}/b/{rest}"), 1)).collect();
            assert_eq!(*retained, owed, "each of them once");
            deliveries += owed.len() as u64;
        }
        for number in 0..count {
            self.clear(publisher, &format!("a/{number}/b/{}", number % apart));
        }
        self.settle();
        deliveries
    }

    /// One of very many members gets each message, also while members leave.
    fn large_group(&mut self) -> u64 {
        let count = self.between(300, 8_000);
        let members: Vec<ConnectionId> =
            (0..count).map(|number| self.connect(format!("m{number}"), false)).collect();
        for &id in &members {
            self.subscribe(id, ["$share/g/t/#".to_owned()].into_iter(), QoS::AtLeastOnce);
        }
        self.settle();
        let publisher = self.connect("publisher".to_owned(), false);
        let messages = self.chance.between(100, 600);
        self.publish(publisher, "t/a", messages / 2, false);
        self.settle();
        let leaving = self.chance.below(count - 1);
        self.closing.extend(members.iter().take(leaving));
        self.turn();
        self.publish(publisher, "t/a", messages - messages / 2, false);
        self.settle();
        let staying = members.iter().skip(leaving).flat_map(|id| self.clients[id].got.iter());
        // A message that a departed member did not acknowledge may have reached another one as well.
        let got: BTreeSet<u64> = self.got_by_departed.iter().chain(staying).copied().collect();
        assert_eq!(self.clients[&publisher].answered, messages, "each is answered");
        assert_eq!(got.len() as u64, messages, "each reached some member");
        messages
    }

    /// All clients leave at once, in one way or another, and the broker is as empty as at the start.
    fn depart(&mut self) {
        let clients: Vec<ConnectionId> = self.clients.keys().copied().collect();
        for id in clients {
            if self.chance.percent(50) {
                self.closing.push_back(id);
            } else {
                let disconnect =
                    Disconnect { reason_code: ReasonCode::Success, properties: Properties::default() };
                let packet = encoded(&Packet::Disconnect(disconnect));
                self.client(id).up.extend(packet);
            }
        }
        self.settle();
        // The end of a peak is noticed in one turn, and the peak is remembered for some time.
        for _ in 0..2 {
            self.now = self.now + Duration::from_seconds(60);
            self.turn();
        }
        let empty = Census { connections: 0, sessions: 0, subscriptions: 0, retained: 0, timers: 0 };
        assert_eq!(self.broker.census(), empty, "the broker is empty again");
    }

    fn client(&mut self, id: ConnectionId) -> &mut Client {
        self.clients.get_mut(&id).expect("it is connected")
    }

    fn connect(&mut self, name: String, has_will: bool) -> ConnectionId {
        let Self { broker, ledger, now, .. } = self;
        let id =
            ledger.call(|| broker.accept(Peer::Local, ListenerId::default(), *now)).expect("there is room");
        let will = has_will.then(|| DraftWill { draft: draft("will", 0), delay: None });
        let greeting = Greeting {
            version: VERSION,
            clean_start: true,
            keep_alive: 0,
            expiry: None,
            receive_maximum: None,
            maximum_packet_size: None,
            alias_maximum: None,
            will,
        };
        let mut device = Device::new(name, u16::MAX);
        let up = device.connect(id, &greeting).into();
        let (down, got, retained) = (Vec::new(), Vec::new(), BTreeMap::new());
        let client = Client { device, up, is_paused: false, down, got, retained, answered: 0 };
        self.clients.insert(id, client);
        id
    }

    fn subscribe(&mut self, id: ConnectionId, filters: impl Iterator<Item = String>, qos: QoS) {
        let filters: Vec<String> = filters.collect();
        for some in filters.chunks(FILTERS_PER_PACKET) {
            let wanted: Vec<Subscription<'_>> = some
                .iter()
                .map(|filter| Subscription::new(TopicFilter::new(filter).expect("good"), qos))
                .collect();
            let packet = self.client(id).device.subscribe(&wanted, None);
            self.client(id).up.extend(packet);
        }
    }

    /// Publishes messages with consecutive numbers.
    fn publish(&mut self, id: ConnectionId, topic: &str, count: u64, retain: bool) {
        for _ in 0..count {
            self.published += 1;
            let number = self.published;
            let identifier = u16::try_from(number % 60_000 + 1).expect("it is small enough");
            let identifier = PacketIdentifier::new(identifier).expect("it is one or more");
            self.send(id, topic, &number.to_be_bytes(), Delivery::AtLeastOnce(identifier), retain);
        }
    }

    fn clear(&mut self, id: ConnectionId, topic: &str) {
        self.send(id, topic, &[], Delivery::AtMostOnce, true);
    }

    fn send(&mut self, id: ConnectionId, topic: &str, payload: &[u8], delivery: Delivery, retain: bool) {
        let publish = Publish {
            dup: false,
            retain,
            delivery,
            topic: Some(TopicName::new(topic).expect("good")),
            properties: Properties::default(),
            payload,
        };
        self.client(id).up.extend(encoded(&Packet::Publish(publish)));
    }

    fn settle(&mut self) {
        for turn in 0..1_000_000 {
            let is_heard = self.clients.values().all(|client| client.up.is_empty());
            if is_heard && self.closing.is_empty() && !self.broker.has_work() {
                self.check_count();
                return;
            }
            self.turn();
            if turn % TURNS_BETWEEN_COUNTS == 0 {
                self.check_count();
            }
        }
        panic!("the broker never becomes idle");
    }

    fn check_count(&mut self) {
        let Self { broker, ledger, .. } = self;
        ledger.call(|| broker.check_memory());
        ledger.check(broker.held());
    }

    /// One turn of a server.
    fn turn(&mut self) {
        let ready = |(&id, client): (&ConnectionId, &Client)| {
            (!client.is_paused && !client.up.is_empty()).then_some(id)
        };
        let ready: Vec<ConnectionId> = self.clients.iter().filter_map(ready).collect();
        self.broker.share_input(ready.len());
        let first = if ready.is_empty() { 0 } else { self.chance.below(ready.len()) };
        for &id in ready.iter().cycle().skip(first).take(ready.len()) {
            if !self.broker.takes_input() {
                break;
            }
            self.hear(id);
        }
        self.apply_effects();
        let Self { broker, ledger, now, .. } = self;
        ledger.call(|| broker.tick(*now, TIMERS_PER_TURN));
        let (taken, most) = (self.broker.heaviest_turn(), self.limits.steps_per_turn);
        assert!(taken <= most, "a turn took {taken} steps of {most}");
        self.apply_effects();
        let Self { broker, ledger, clients, now, .. } = self;
        let dirty = ledger.call(|| broker.take_dirty(Vec::new()));
        for &id in &dirty {
            if let Some(client) = clients.get_mut(&id) {
                ledger
                    .call_to_fill(&mut client.down, |down| broker.write_to(id, down, *now))
                    .expect("a vector takes all");
                client.understand();
            }
        }
        ledger.call(|| drop(dirty));
        for _ in 0..CLOSED_PER_TURN {
            let Some(id) = self.closing.pop_front() else { break };
            self.got_by_departed.extend(self.clients.remove(&id).into_iter().flat_map(|client| client.got));
            let Self { broker, ledger, now, .. } = self;
            ledger.call(|| broker.closed(id, "closed", *now));
        }
        self.now = self.now + Duration::from_milliseconds(u64::from(self.chance.percent(5)));
    }

    /// The broker reads some of a client's bytes.
    fn hear(&mut self, id: ConnectionId) {
        let Self { broker, ledger, clients, now, .. } = self;
        let client = clients.get_mut(&id).expect("it is connected");
        let count = client.up.len().min(READ_BYTES);
        let bytes: Vec<u8> = client.up.drain(..count).collect();
        client.is_paused = ledger.call(|| broker.received(id, &bytes, *now)) == Intake::Paused;
    }

    fn apply_effects(&mut self) {
        let Self { broker, ledger, clients, now, .. } = self;
        while let Some(effect) = ledger.call(|| broker.next_effect()) {
            match effect {
                Effect::Resume(id) => {
                    let intake = ledger.call(|| broker.resume(id, *now));
                    if let Some(client) = clients.get_mut(&id) {
                        client.is_paused = intake == Intake::Paused;
                    }
                }
                Effect::Listen(id) => ledger.call(|| broker.heard_out(id, *now)),
                Effect::Drop(id) => self.closing.push_back(id),
                Effect::Close(id) => panic!("{id:?} is closed by the broker"),
            }
        }
    }
}

impl Client {
    /// Processes received bytes, and answers.
    fn understand(&mut self) {
        let down = std::mem::take(&mut self.down);
        let mut rest = down.as_slice();
        while let Ok(Status::Complete(frame)) = frame(rest, usize::MAX) {
            let packet = decode(&frame, VERSION).expect("the broker sends good packets");
            rest = rest.split_at(frame.length).1;
            match packet {
                Packet::Publish(publish) => self.take(&publish),
                Packet::PubAck(answer) => {
                    assert!(!answer.reason_code.is_error(), "{answer:?}");
                    self.answered += 1;
                }
                Packet::SubAck(answer) => {
                    assert!(answer.codes.iter().all(|&code| code <= 2), "{answer:?}");
                }
                _ => {}
            }
        }
        self.down = rest.to_vec();
    }

    fn take(&mut self, publish: &Publish<'_>) {
        let topic = publish.topic.expect("no client takes aliases").as_str();
        if publish.retain {
            *self.retained.entry(topic.to_owned()).or_default() += 1;
        } else {
            let number = publish.payload.try_into().map_or(0, u64::from_be_bytes);
            self.got.push(number);
        }
        if let Delivery::AtLeastOnce(identifier) = publish.delivery {
            let answer = Acknowledgement::new(identifier, ReasonCode::Success);
            self.up.extend(encoded(&Packet::PubAck(answer)));
        }
    }
}

/// One of many different filters that all match the topic of fourteen levels `b` and an empty one.
fn overlapping(number: usize) -> String {
    let level = |level: usize| if number >> (level + 1) & 1 == 0 { "b" } else { "+" };
    format!("{}/", (0..14).map(level).collect::<Vec<_>>().join("/"))
}

fn draft(topic: &'static str, number: u64) -> Draft {
    Draft {
        topic,
        payload: number.to_be_bytes().to_vec(),
        qos: QoS::AtLeastOnce,
        retain: false,
        properties: brooklet::protocol::codec::PropertyBuffer::default(),
        expiry: None,
        alias: 0,
    }
}

fn encoded(packet: &Packet<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.encode(VERSION, &mut bytes);
    bytes
}
