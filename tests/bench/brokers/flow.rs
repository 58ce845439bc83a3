//! Messages from publishers to subscribers. In a closed loop, the publishers continue as their messages arrive, so
//! that the broker always has work, but never more than a certain amount; in an open loop, they send at given times,
//! whatever the broker does.

use std::time::{Duration, Instant};

use crate::agent::Agent;
use crate::network::{Network, Receive, Then};
use crate::packets::{self, Delivery, Fault, Packet, STAMP_BYTES, Template, Version, stamp};
use crate::tally::{Ledger, SharedLedger, Tally};

/// Deliveries that a closed loop keeps outstanding, all publishers together.
pub const OUTSTANDING_MESSAGES: usize = 16_384;
/// Bytes of payload that a closed loop keeps outstanding.
pub const OUTSTANDING_BYTES: usize = 1024 * 1024;
/// After this time without any progress, outstanding messages count as lost and the publishers continue.
const GIVE_UP: Duration = Duration::from_secs(2);
/// How often a publisher stops for lost messages before the measurement is given up.
const GIVE_UPS_MAXIMUM: usize = 3;

/// Who receives whose messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// All clients publish to one topic, to which all subscribe.
    OneTopic,
    /// Each publisher has a topic and a subscriber of its own.
    Pairs,
    /// Each publisher cycles through this many topics, which one wildcard of each subscriber matches.
    Wildcard { topics: usize },
    /// As `Wildcard`, but with topics that begin like those of [`crate::crowd`], none of which it matches.
    AmongSites { topics: usize },
    /// As `OneTopic`, but the subscribers share one subscription.
    Shared,
    /// As `OneTopic`, with this topic, but the subscribers are the other ends of bridges, which are connected already.
    Bridged { topic: &'static str },
}

/// A load.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    pub version: Version,
    pub qos: u8,
    /// Bytes.
    pub payload: usize,
    pub publishers: usize,
    pub subscribers: usize,
    pub pattern: Pattern,
    /// Deliveries that a closed loop keeps outstanding, all publishers together; without it, as many as keep a broker
    /// busy.
    pub window: Option<usize>,
    /// Whether the subscribers' sessions outlive their connections.
    pub is_persistent: bool,
}

impl Flow {
    /// Topics that one publisher publishes to.
    const fn topics(&self) -> usize {
        match self.pattern {
            Pattern::Wildcard { topics } | Pattern::AmongSites { topics } => topics,
            _ => 1,
        }
    }

    /// Subscribers that receive a message.
    const fn receivers(&self) -> usize {
        match self.pattern {
            Pattern::Pairs | Pattern::Shared => 1,
            Pattern::OneTopic
            | Pattern::Wildcard { .. }
            | Pattern::AmongSites { .. }
            | Pattern::Bridged { .. } => self.subscribers,
        }
    }

    fn topic(&self, publisher: usize, topic: usize) -> String {
        match self.pattern {
            Pattern::OneTopic | Pattern::Shared => "bench/all".to_owned(),
            Pattern::Pairs => format!("bench/pair/{publisher}"),
            Pattern::Wildcard { .. } => format!("bench/device/{topic}/state"),
            Pattern::AmongSites { .. } => crate::crowd::topic(topic),
            Pattern::Bridged { topic } => topic.to_owned(),
        }
    }

    /// Deliveries that each publisher keeps outstanding in a closed loop.
    fn share(&self) -> usize {
        let busy = OUTSTANDING_MESSAGES.min(OUTSTANDING_BYTES / self.payload);
        let outstanding = self.window.unwrap_or(busy);
        (outstanding / self.publishers / self.receivers()).max(1)
    }

    fn filter(&self, subscriber: usize) -> String {
        match self.pattern {
            Pattern::OneTopic | Pattern::Pairs | Pattern::Bridged { .. } => self.topic(subscriber, 0),
            Pattern::Wildcard { .. } => "bench/device/+/state".to_owned(),
            Pattern::AmongSites { .. } => crate::crowd::EVERY_TOPIC.to_owned(),
            Pattern::Shared => format!("$share/group/{}", self.topic(0, 0)),
        }
    }

    /// Whether this subscriber receives this stream.
    const fn hears(&self, subscriber: usize, stream: usize) -> bool {
        !matches!(self.pattern, Pattern::Pairs) || subscriber == stream
    }
}

#[derive(Debug)]
struct Publisher {
    client: usize,
    /// One for each topic.
    templates: Vec<Template>,
    /// Messages sent, for each topic.
    sent: Vec<u32>,
    topic: usize,
    /// Deliveries that were caused and have not come.
    outstanding: i64,
    /// Packet Identifiers that are not in use.
    identifiers: Vec<u16>,
}

impl Publisher {
    #[inline]
    fn append(&mut self, out: &mut Vec<u8>, time: u64, receivers: i64) {
        let identifier = self.identifiers.pop().unwrap_or(0);
        self.templates[self.topic].append(out, identifier, self.sent[self.topic], time);
        self.sent[self.topic] += 1;
        self.outstanding += receivers;
        self.topic += 1;
        if self.topic == self.templates.len() {
            self.topic = 0;
        }
    }
}

#[derive(Debug)]
enum Ledgers {
    OfEach(Vec<Ledger>),
    Shared(SharedLedger),
}

/// The result of a stretch of load.
#[derive(Clone, Copy, Debug)]
pub struct Stretch {
    pub deliveries: u64,
    /// From the first message to the last delivery.
    pub time: Duration,
}

/// A running load. The subscribers are its first clients, followed by the publishers.
#[derive(Debug)]
pub struct Load {
    flow: Flow,
    /// The number of its first client.
    first: usize,
    publishers: Vec<Publisher>,
    ledgers: Ledgers,
    deliveries: u64,
    in_flight_maximum: usize,
    start: Instant,
    /// Nanoseconds from when a message was to be sent until it came, if they are wanted.
    latencies: Option<Vec<u64>>,
}

impl Load {
    /// Connects and subscribes all clients; their numbers begin with `first`, and so do those of pairs.
    pub fn prepare(flow: Flow, network: &mut Network, first: usize) -> Result<Self, Fault> {
        let mut agent = Agent::new(flow.version);
        if !matches!(flow.pattern, Pattern::Bridged { .. }) {
            agent.connect(network, first, flow.subscribers, !flow.is_persistent)?;
            for subscriber in 0..flow.subscribers {
                let filter = flow.filter(first + subscriber);
                agent.subscribe(network, first + subscriber, flow.qos, &[filter])?;
            }
        }
        agent.connect(network, first + flow.subscribers, flow.publishers, true)?;
        let in_flight_maximum = if flow.qos == 0 { 0 } else { agent.in_flight_maximum() };
        let topics = flow.topics();
        let publishers = (0..flow.publishers).map(|publisher| Publisher {
            client: first + flow.subscribers + publisher,
            templates: (0..topics)
                .map(|topic| {
                    let name = flow.topic(first + publisher, topic);
                    let stream = publisher * topics + topic;
                    Template::new(flow.version, flow.qos, &name, flow.payload, stream)
                })
                .collect(),
            sent: vec![0; topics],
            topic: 0,
            outstanding: 0,
            identifiers: (1..=in_flight_maximum).rev().collect(),
        });
        let streams = flow.publishers * topics;
        let ledgers = match flow.pattern {
            Pattern::Shared => Ledgers::Shared(SharedLedger::new(flow.subscribers, streams)),
            _ => Ledgers::OfEach((0..flow.subscribers).map(|_| Ledger::new(streams)).collect()),
        };
        Ok(Self {
            flow,
            first,
            publishers: publishers.collect(),
            ledgers,
            deliveries: 0,
            in_flight_maximum: usize::from(in_flight_maximum),
            start: Instant::now(),
            latencies: None,
        })
    }

    /// Runs a closed loop for this time, until everything has come.
    pub fn run(&mut self, network: &mut Network, time: Duration) -> Result<Stretch, Fault> {
        let (start, before) = (Instant::now(), self.deliveries);
        let mut progress = Progress::new(start);
        while start.elapsed() < time {
            self.top_up(network);
            network.turn(Duration::from_millis(100), self)?;
            if progress.is_stuck(self.deliveries) {
                self.write_off();
                progress.give_up()?;
            }
        }
        self.settle(network, &mut progress)?;
        Ok(Stretch { deliveries: self.deliveries - before, time: progress.since.duration_since(start) })
    }

    fn top_up(&mut self, network: &mut Network) {
        let receivers = i64::try_from(self.flow.receivers()).expect("subscribers are few");
        let share = i64::try_from(self.flow.share()).expect("it is small");
        let in_flight = i64::try_from(self.in_flight_maximum).expect("it is small");
        let most = if self.flow.qos == 0 { share } else { share.min(in_flight) };
        // One block is on its way while the next is built. A publisher that sent one message for each that arrived
        // would make the broker's turns needlessly short.
        let block = (most / 2).max(1);
        for publisher in &mut self.publishers {
            let mut room = share - publisher.outstanding / receivers;
            if self.flow.qos > 0 {
                room = room.min(i64::try_from(publisher.identifiers.len()).expect("they are few"));
            }
            if room < block {
                continue;
            }
            network.send(publisher.client, |out| {
                for _ in 0..room {
                    publisher.append(out, 0, receivers);
                }
            });
        }
    }

    /// Runs an open loop: this many messages a second for this time, all publishers together and in rotation, each
    /// message at its time. It does not sleep, since no timer of the system is exact enough. A `rival` keeps its own
    /// closed loop running beside it.
    pub fn run_paced(
        &mut self,
        mut rival: Option<&mut Self>,
        network: &mut Network,
        rate: u32,
        time: Duration,
    ) -> Result<(Stretch, Vec<u64>), Fault> {
        let receivers = i64::try_from(self.flow.receivers()).expect("subscribers are few");
        let count = u64::from(rate) * u64::try_from(time.as_millis()).expect("a run is short") / 1000;
        let capacity = usize::try_from(count).expect("a run is short") * self.flow.receivers();
        self.latencies = Some(Vec::with_capacity(capacity));
        self.start = Instant::now();
        let mut progress = Progress::new(self.start);
        let before = self.deliveries;
        let (mut number, mut next) = (0, 0);
        while number < count {
            let due = number * 1_000_000_000 / u64::from(rate);
            if nanoseconds(self.start.elapsed()) >= due {
                let publisher = &mut self.publishers[next];
                next = if next + 1 == self.flow.publishers { 0 } else { next + 1 };
                if self.flow.qos > 0 && publisher.identifiers.is_empty() {
                    return Err("the broker does not keep up with the rate".to_owned());
                }
                network.send(publisher.client, |out| publisher.append(out, due, receivers));
                number += 1;
            }
            if let Some(rival) = &mut rival {
                rival.top_up(network);
            }
            network.turn(Duration::ZERO, &mut Both { load: self, rival: rival.as_deref_mut() })?;
        }
        while rival.as_ref().is_some_and(|rival| !rival.is_settled()) {
            network.turn(Duration::from_millis(20), &mut Both { load: self, rival: rival.as_deref_mut() })?;
            if progress.is_stuck(rival.as_ref().map_or(0, |rival| rival.deliveries)) {
                return Err("the broker lost messages of the rival".to_owned());
            }
        }
        self.settle(network, &mut progress)?;
        let stretch =
            Stretch { deliveries: self.deliveries - before, time: progress.since.duration_since(self.start) };
        Ok((stretch, self.latencies.take().unwrap_or_default()))
    }

    /// Waits until everything has come and is acknowledged; what does not come is lost.
    fn settle(&mut self, network: &mut Network, progress: &mut Progress) -> Result<(), Fault> {
        while !self.is_settled() {
            network.turn(Duration::from_millis(20), self)?;
            if progress.is_stuck(self.deliveries) {
                self.write_off();
                return Ok(());
            }
        }
        // The last acknowledgements are still on their way.
        network.turn(Duration::ZERO, self)?;
        std::thread::sleep(Duration::from_millis(10));
        Ok(())
    }

    fn is_settled(&self) -> bool {
        self.publishers.iter().all(|publisher| {
            publisher.outstanding <= 0 && publisher.identifiers.len() == self.in_flight_maximum
        })
    }

    fn write_off(&mut self) {
        for publisher in &mut self.publishers {
            publisher.outstanding = 0;
        }
    }

    /// The faults since the beginning.
    pub fn tally(&self) -> Tally {
        let topics = self.flow.topics();
        let sent = |stream: usize| self.publishers[stream / topics].sent[stream % topics];
        match &self.ledgers {
            Ledgers::Shared(ledger) => ledger.tally(sent),
            Ledgers::OfEach(ledgers) => {
                let mut tally = Tally::default();
                for (subscriber, ledger) in ledgers.iter().enumerate() {
                    tally += ledger.tally(
                        |stream| {
                            if self.flow.hears(subscriber, stream) { sent(stream) } else { 0 }
                        },
                    );
                }
                tally
            }
        }
    }

    #[inline]
    fn deliver(&mut self, subscriber: usize, delivery: Delivery<'_>) -> Result<(), Fault> {
        if delivery.qos != self.flow.qos || delivery.payload.len() != self.flow.payload.max(STAMP_BYTES) {
            return Err("the broker changed a message".to_owned());
        }
        let stamp = stamp(delivery.payload)?;
        let stream = stamp.stream as usize;
        let topics = self.flow.topics();
        if stream >= self.publishers.len() * topics || !self.flow.hears(subscriber, stream) {
            return Err("the broker delivered a message to the wrong subscriber".to_owned());
        }
        let settled = match &mut self.ledgers {
            Ledgers::OfEach(ledgers) => ledgers[subscriber].receive(stream, stamp.number),
            Ledgers::Shared(ledger) => ledger.receive(subscriber, stream, stamp.number),
        };
        let publisher = if topics == 1 { stream } else { stream / topics };
        self.publishers[publisher].outstanding -= i64::from(settled);
        self.deliveries += 1;
        if let Some(latencies) = &mut self.latencies {
            latencies.push(nanoseconds(self.start.elapsed()).saturating_sub(stamp.time));
        }
        Ok(())
    }

    /// Gives a Packet Identifier back to its publisher.
    #[inline]
    fn complete(&mut self, client: usize, identifier: u16) -> Result<(), Fault> {
        let first = self.first + self.flow.subscribers;
        let publisher = client.checked_sub(first).and_then(|at| self.publishers.get_mut(at));
        match publisher {
            Some(publisher) if publisher.identifiers.len() < self.in_flight_maximum => {
                publisher.identifiers.push(identifier);
                Ok(())
            }
            _ => Err("the broker acknowledged what was never sent".to_owned()),
        }
    }
}

impl Receive for Load {
    #[inline]
    fn packet(&mut self, client: usize, packet: Packet<'_>, out: &mut Vec<u8>) -> Result<Then, Fault> {
        match packet.kind() {
            packets::PUBLISH => {
                let delivery = packet.delivery(self.flow.version)?;
                let subscriber = client - self.first;
                if subscriber >= self.flow.subscribers {
                    return Err("the broker delivered a message to a publisher".to_owned());
                }
                self.deliver(subscriber, delivery)?;
                match delivery.qos {
                    0 => {}
                    1 => packets::acknowledge(out, packets::PUBACK, delivery.identifier),
                    _ => packets::acknowledge(out, packets::PUBREC, delivery.identifier),
                }
            }
            packets::PUBACK | packets::PUBCOMP => {
                packet.succeeded()?;
                self.complete(client, packet.identifier()?)?;
            }
            packets::PUBREC => {
                packet.succeeded()?;
                packets::acknowledge(out, packets::PUBREL, packet.identifier()?);
            }
            packets::PUBREL => packets::acknowledge(out, packets::PUBCOMP, packet.identifier()?),
            kind => return Err(format!("the broker sent an unexpected packet of type {kind}")),
        }
        Ok(Then::GoOn)
    }
}

/// A load and perhaps a rival, whose clients follow those of the load.
struct Both<'a> {
    load: &'a mut Load,
    rival: Option<&'a mut Load>,
}

impl Receive for Both<'_> {
    #[inline]
    fn packet(&mut self, client: usize, packet: Packet<'_>, out: &mut Vec<u8>) -> Result<Then, Fault> {
        match &mut self.rival {
            Some(rival) if client >= rival.first => rival.packet(client, packet, out),
            _ => self.load.packet(client, packet, out),
        }
    }
}

/// Whether there is any progress.
#[derive(Debug)]
struct Progress {
    deliveries: u64,
    /// When the last deliveries came, to the turn.
    since: Instant,
    given_up: usize,
}

impl Progress {
    const fn new(now: Instant) -> Self {
        Self { deliveries: u64::MAX, since: now, given_up: 0 }
    }

    fn is_stuck(&mut self, deliveries: u64) -> bool {
        if self.deliveries != deliveries {
            self.deliveries = deliveries;
            self.since = Instant::now();
        }
        self.since.elapsed() > GIVE_UP
    }

    fn give_up(&mut self) -> Result<(), Fault> {
        self.given_up += 1;
        self.since = Instant::now();
        if self.given_up > GIVE_UPS_MAXIMUM {
            return Err("the broker lost too many messages".to_owned());
        }
        Ok(())
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
