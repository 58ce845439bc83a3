//! The scenarios, by name.

use std::time::Duration;

use crate::attack::Attack;
use crate::bridge::Bridge;
use crate::broker::{Ability, Broker, OwnLimits, Process, Storage, own_processor_time};
use crate::bystander;
use crate::churn::{Cycle, churn};
use crate::crowd::{self, Crowd};
use crate::durable::Durable;
use crate::flow::{Flow, Load, Pattern};
use crate::held::Held;
use crate::memory;
use crate::network::Network;
use crate::packets::{Fault, Version};
use crate::tally::Tally;

use Pattern::{AmongSites, OneTopic, Pairs, Shared, Wildcard};
use Version::{V5, V311};

/// How long a load lasts, and whether stored state is kept small.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    pub time: Duration,
    pub is_quick: bool,
}

impl Effort {
    /// The full number, or fewer for a quick run.
    pub const fn count(self, count: usize) -> usize {
        if self.is_quick { count / 5 } else { count }
    }
}

/// The kind of numbers in a row of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The broker's processor time per message in µs; messages a second; the generator's processor time per message in
    /// µs.
    Processor,
    /// p50, p99, p99.9 and the maximum, in µs.
    Latency,
    /// Resident bytes, and those of them that are private and dirty.
    Bytes,
    /// The same in KiB.
    Kibibytes,
    /// Milliseconds.
    Milliseconds,
    /// A number without a unit.
    Number,
    /// Bytes written to the device for each message.
    Written,
    /// Milliseconds of a well-behaved client's round trips: the longest and p99.9 during an attack, the same without
    /// it; how long the attack took, infinite if it was not over when the measurement ended.
    Bystander,
}

/// One row of a report, for one broker.
#[derive(Clone, Debug)]
pub struct Figure {
    pub row: String,
    pub kind: Kind,
    pub values: Vec<f64>,
}

/// The result of one run of a scenario.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub figures: Vec<Figure>,
    pub tally: Tally,
}

#[derive(Clone, Copy, Debug)]
enum Work {
    Closed(Flow),
    /// Messages a second.
    Open(Flow, u32),
    /// The same beside a publisher that sends as fast as its messages arrive.
    Beside(Flow, u32),
    /// A load among this many connections in all.
    AmongConnections(Flow, usize),
    /// A load among this many subscriptions.
    AmongSubscriptions(Flow, usize),
    Churn(Cycle),
    Held(Held),
    /// With a broker that persists what it acknowledges.
    Durable(Durable),
    /// The effect of an attack on a client that has no part in it.
    Bystander(Attack),
    /// A broker with a bridge to this program.
    Bridge(Bridge),
}

/// Something to measure.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    pub name: &'static str,
    /// Whether the short run includes it.
    pub is_central: bool,
    work: Work,
}

const fn plain(
    version: Version,
    qos: u8,
    payload: usize,
    pattern: Pattern,
    publishers: usize,
    subscribers: usize,
) -> Flow {
    Flow { version, qos, payload, publishers, subscribers, pattern, window: None, is_persistent: false }
}

const fn flow(
    version: Version,
    qos: u8,
    payload: usize,
    pattern: Pattern,
    publishers: usize,
    subscribers: usize,
) -> Work {
    Work::Closed(plain(version, qos, payload, pattern, publishers, subscribers))
}

const fn paced(pairs: usize, rate: u32) -> Work {
    Work::Open(plain(V311, 0, 64, Pairs, pairs, pairs), rate)
}

/// The effect of one greedy pair on another one at a modest rate.
const fn beside(rate: u32) -> Work {
    Work::Beside(plain(V311, 0, 64, Pairs, 1, 1), rate)
}

/// Five pairs are busy, however many connections there are.
const fn among_connections(count: usize) -> Work {
    Work::AmongConnections(plain(V311, 0, 64, Pairs, 5, 5), count)
}

/// A thousand topics of six levels, and as many subscriptions that share their levels.
const fn among_subscriptions(count: usize) -> Work {
    let pattern = AmongSites { topics: 1_000 };
    Work::AmongSubscriptions(plain(V311, 0, 16, pattern, 1, 1), count)
}

const fn central(name: &'static str, work: Work) -> Scenario {
    Scenario { name, is_central: true, work }
}

const fn further(name: &'static str, work: Work) -> Scenario {
    Scenario { name, is_central: false, work }
}

/// The names avoid the parts of names by which README.md selects other scenarios.
const fn attack(name: &'static str, attack: Attack) -> Scenario {
    further(name, Work::Bystander(attack))
}

/// All scenarios, in the order of the report.
pub const ALL: [Scenario; 71] = [
    central("1:1 QoS 0, 16 B", flow(V311, 0, 16, OneTopic, 1, 1)),
    central("1:1 QoS 1, 16 B", flow(V311, 1, 16, OneTopic, 1, 1)),
    central("fan-out 1:100 QoS 0, 64 B", flow(V311, 0, 64, OneTopic, 1, 100)),
    central("fan-in 50:1 QoS 0, 64 B", flow(V311, 0, 64, OneTopic, 50, 1)),
    central("50 pairs QoS 1, 64 B", flow(V311, 1, 64, Pairs, 50, 50)),
    central("latency at 1,000/s, broker CPU µs per message", paced(1, 1_000)),
    central("1:1 QoS 2, 16 B", flow(V311, 2, 16, OneTopic, 1, 1)),
    central(
        "1,000 topics to one wildcard subscriber, QoS 0",
        flow(V311, 0, 16, Wildcard { topics: 1_000 }, 1, 1),
    ),
    central("shared subscription 4:8, QoS 1, 5.0", flow(V5, 1, 16, Shared, 4, 8)),
    central("connect, CPU µs", Work::Churn(Cycle::Connect)),
    central("connect, subscribe, publish QoS 1, disconnect: CPU µs a cycle", Work::Churn(Cycle::Publish)),
    further("1:1 QoS 0, 64 B", flow(V311, 0, 64, OneTopic, 1, 1)),
    further("1:1 QoS 0, 256 B", flow(V311, 0, 256, OneTopic, 1, 1)),
    further("1:1 QoS 0, 16 KiB", flow(V311, 0, 16 * 1024, OneTopic, 1, 1)),
    further("1:1 QoS 1, 256 B", flow(V311, 1, 256, OneTopic, 1, 1)),
    further("1:1 QoS 1, 16 KiB", flow(V311, 1, 16 * 1024, OneTopic, 1, 1)),
    further("1:1 QoS 0, 16 B, 5.0", flow(V5, 0, 16, OneTopic, 1, 1)),
    further("1:1 QoS 1, 16 B, 5.0", flow(V5, 1, 16, OneTopic, 1, 1)),
    further("1:1 QoS 2, 16 B, 5.0", flow(V5, 2, 16, OneTopic, 1, 1)),
    further("fan-out 1:100 QoS 1, 64 B", flow(V311, 1, 64, OneTopic, 1, 100)),
    further("fan-out 1:100 QoS 0, 16 KiB", flow(V311, 0, 16 * 1024, OneTopic, 1, 100)),
    further("fan-out 1:1000 QoS 0, 64 B", flow(V311, 0, 64, OneTopic, 1, 1_000)),
    further("fan-in 50:1 QoS 1, 64 B", flow(V311, 1, 64, OneTopic, 50, 1)),
    further("50 pairs QoS 0, 64 B", flow(V311, 0, 64, Pairs, 50, 50)),
    further("500 pairs QoS 1, 64 B", flow(V311, 1, 64, Pairs, 500, 500)),
    further("10 pairs at 10,000/s in all, broker CPU µs per message", paced(10, 10_000)),
    further("latency at 1,000/s beside a greedy pair", beside(1_000)),
    further("QoS 0, 64 B, 10 connections", among_connections(10)),
    further("QoS 0, 64 B, 100 connections", among_connections(100)),
    further("QoS 0, 64 B, 1,000 connections", among_connections(1_000)),
    further("QoS 0, 64 B, 15,000 connections", among_connections(15_000)),
    further("1,000 topics among 1,000 subscriptions", among_subscriptions(1_000)),
    further("1,000 topics among 10,000 subscriptions", among_subscriptions(10_000)),
    further("1,000 topics among 100,000 subscriptions", among_subscriptions(100_000)),
    further("1,000 topics among 1,000,000 subscriptions", among_subscriptions(1_000_000)),
    central("start", Work::Held(Held::Nothing)),
    central("idle connections", Work::Held(Held::Connections(15_000))),
    central("200,000 subscriptions", Work::Held(Held::Subscriptions(200_000))),
    further("1,000,000 subscriptions", Work::Held(Held::Subscriptions(1_000_000))),
    central("retained messages", Work::Held(Held::Retained(100_000))),
    central("offline messages", Work::Held(Held::Offline(100_000))),
    central("stalled subscriber", Work::Held(Held::Stalled)),
    further("fan-out 1:1000 QoS 0, 16 KiB, readers of mixed speed", Work::Held(Held::MixedSpeed)),
    central("durable relay QoS 1, 256 B, 1 outstanding", Work::Durable(Durable::Relay(1))),
    central("durable relay QoS 1, 256 B, 16 outstanding", Work::Durable(Durable::Relay(16))),
    central("durable relay QoS 1, 256 B, 256 outstanding", Work::Durable(Durable::Relay(256))),
    central("durable queue of an absent client, QoS 1, 256 B", Work::Durable(Durable::Queue)),
    central("durable relay beside QoS 0 at 1,000/s", Work::Durable(Durable::Beside)),
    further("durable start with all there is", Work::Durable(Durable::Start)),
    further("durable backlog of 1,000,000", Work::Durable(Durable::Backlog(1_000_000))),
    further("bridge, 3.1.1", Work::Bridge(Bridge::Forward(V311))),
    further("bridge, 5.0", Work::Bridge(Bridge::Forward(V5))),
    further("bridge, latency at 1,000/s beside a dead one", Work::Bridge(Bridge::Dead)),
    further("bridge, return", Work::Bridge(Bridge::Return)),
    further("bridge, retained messages", Work::Bridge(Bridge::Retained)),
    attack("bystander, overlapping filters", Attack::OverlappingFilters),
    attack("bystander, burst to many", Attack::BurstToMany),
    attack("bystander, crowd of subscribers", Attack::RetainedCrowd),
    attack("bystander, acknowledged window", Attack::AcknowledgedWindows(1)),
    attack("bystander, twenty acknowledged windows", Attack::AcknowledgedWindows(20)),
    attack("bystander, many SUBSCRIBE packets", Attack::ManySubscribes),
    attack("bystander, sparse filters", Attack::SparseFilters),
    attack("bystander, disconnecting member", Attack::DisconnectingMember),
    attack("bystander, ending sessions", Attack::EndingSessions { sessions: 100, subscriptions: 10_000 }),
    attack("bystander, one ending session", Attack::EndingSessions { sessions: 1, subscriptions: 1_000_000 }),
    attack("bystander, discarded queue", Attack::DiscardedQueue),
    attack("bystander, full journal", Attack::FullJournal),
    attack("bystander, expired backlog", Attack::ExpiredBacklog),
    attack("bystander, returning clients", Attack::ReturningClients),
    attack("bystander, one large SUBSCRIBE", Attack::LargeSubscribe),
    attack("bystander, one large UNSUBSCRIBE", Attack::LargeUnsubscribe),
];

impl Scenario {
    /// The ability that a broker needs.
    pub const fn needs(&self) -> Ability {
        match self.work {
            Work::Closed(flow) | Work::Open(flow, _) | Work::Beside(flow, _) => {
                match (flow.version, flow.pattern) {
                    (_, OneTopic | Pairs) if flow.qos < 2 => Ability::Relay,
                    (V311, _) => Ability::V311,
                    (V5, _) => Ability::V5,
                }
            }
            Work::Churn(_) | Work::Held(Held::Nothing) | Work::AmongConnections(..) => Ability::Relay,
            Work::Bystander(_) => Ability::V5,
            _ => Ability::V311,
        }
    }

    /// Whether a broker of this ability can run it.
    fn is_within(&self, ability: Ability) -> bool {
        let speaks_5 = match self.work {
            Work::Closed(flow) | Work::Open(flow, _) => flow.version == V5,
            _ => false,
        };
        ability >= self.needs() && !(speaks_5 && ability == Ability::V311)
    }

    /// Whether the way a broker starts is part of the measurement.
    pub const fn is_about_the_start(&self) -> bool {
        matches!(self.work, Work::Held(Held::Nothing))
    }

    /// Where the broker is to store its state.
    pub const fn storage(&self) -> Storage {
        match self.work {
            Work::Durable(_) => Storage::Disk,
            Work::Bystander(attack) => attack.storage(),
            _ => Storage::Memory,
        }
    }

    /// Further configuration of the broker, in mosquitto's format.
    pub const fn lines(&self) -> &'static str {
        match self.work {
            Work::Bystander(attack) => attack.lines(),
            _ => "",
        }
    }

    /// The bridge, if that is what is measured. Then it starts its own brokers.
    pub const fn bridge(&self) -> Option<Bridge> {
        match self.work {
            Work::Bridge(bridge) => Some(bridge),
            _ => None,
        }
    }

    /// Whether a broker can run it.
    pub fn is_for(&self, broker: &Broker) -> bool {
        let is_told = self.lines().is_empty() && self.bridge().is_none() || broker.configured.is_some();
        let is_stored = self.storage() == Storage::Memory || broker.on_disk.is_some();
        self.is_within(broker.ability) && is_told && is_stored
    }

    /// Whether a broker's own limits are part of the measurement.
    pub const fn own_limits(&self) -> OwnLimits {
        match self.work {
            Work::Held(Held::Stalled | Held::MixedSpeed) | Work::Bystander(_) => OwnLimits::Default,
            _ => OwnLimits::Lifted,
        }
    }

    /// Measures a broker that has just been started.
    pub fn run(&self, process: &mut Process, effort: Effort) -> Result<Outcome, Fault> {
        let mut network = Network::new(process.port)?;
        match self.work {
            Work::Closed(flow) => self.run_closed(process, &mut network, flow, effort),
            Work::AmongConnections(flow, count) => {
                let active = flow.publishers + flow.subscribers;
                let count = count.min(memory::connections_maximum());
                crowd::connect_idle(&mut network, active, count.saturating_sub(active))?;
                self.run_closed(process, &mut network, flow, effort)
            }
            Work::AmongSubscriptions(flow, count) => {
                let mut crowd = Crowd::connect(&mut network, flow.publishers + flow.subscribers)?;
                crowd.subscribe(&mut network, count)?;
                self.run_closed(process, &mut network, flow, effort)
            }
            Work::Open(flow, rate) => self.run_open(process, &mut network, flow, rate, effort),
            Work::Beside(flow, rate) => self.run_open(process, &mut network, flow, rate, effort),
            Work::Churn(cycle) => self.run_churn(process, &mut network, cycle, effort),
            Work::Held(held) => held.run(self.name, process, &mut network, effort),
            Work::Durable(durable) => durable.run(self.name, process, network, effort),
            Work::Bystander(attack) => bystander::run(attack, process, network, effort),
            Work::Bridge(_) => Err("a bridge is not measured with one broker".to_owned()),
        }
    }

    fn run_closed(
        &self,
        process: &Process,
        network: &mut Network,
        flow: Flow,
        effort: Effort,
    ) -> Result<Outcome, Fault> {
        let mut load = Load::prepare(flow, network, 0)?;
        load.run(network, effort.time / 5)?;
        let (broker, own) = (process.processor_time()?, own_processor_time()?);
        let stretch = load.run(network, effort.time)?;
        let (broker, own) = (process.processor_time()? - broker, own_processor_time()? - own);
        if stretch.deliveries == 0 {
            return Err("nothing was delivered".to_owned());
        }
        let count = stretch.deliveries as f64;
        let values =
            vec![microseconds(broker) / count, count / stretch.time.as_secs_f64(), microseconds(own) / count];
        Ok(Outcome { figures: vec![self.processor(values)], tally: load.tally() })
    }

    fn run_open(
        &self,
        process: &Process,
        network: &mut Network,
        flow: Flow,
        rate: u32,
        effort: Effort,
    ) -> Result<Outcome, Fault> {
        let mut load = Load::prepare(flow, network, 0)?;
        let mut rival = match self.work {
            Work::Beside(..) => Some(Load::prepare(flow, network, flow.publishers + flow.subscribers)?),
            _ => None,
        };
        load.run_paced(rival.as_mut(), network, rate, effort.time / 5)?;
        let broker = process.processor_time()?;
        let (stretch, mut latencies) = load.run_paced(rival.as_mut(), network, rate, effort.time)?;
        let broker = process.processor_time()? - broker;
        latencies.sort_unstable();
        if latencies.is_empty() {
            return Err("nothing was delivered".to_owned());
        }
        let count = stretch.deliveries as f64;
        // The generator polls the clock all the time, so its own processor time is meaningless here.
        let values = vec![microseconds(broker) / count, count / stretch.time.as_secs_f64(), f64::NAN];
        let latency = Figure {
            row: self.name.split(", broker").next().unwrap_or_default().to_owned(),
            kind: Kind::Latency,
            values: percentiles(&latencies),
        };
        let mut figures = vec![latency];
        if rival.is_none() {
            figures.push(self.processor(values));
        }
        Ok(Outcome { figures, tally: load.tally() })
    }

    fn run_churn(
        &self,
        process: &Process,
        network: &mut Network,
        cycle: Cycle,
        effort: Effort,
    ) -> Result<Outcome, Fault> {
        churn(process, network, cycle, effort.time / 10)?;
        let own = own_processor_time()?;
        let churned = churn(process, network, cycle, effort.time)?;
        let own = own_processor_time()? - own;
        let count = churned.cycles as f64;
        let values = vec![
            microseconds(churned.processor_time) / count,
            count / churned.time.as_secs_f64(),
            microseconds(own) / count,
        ];
        Ok(Outcome { figures: vec![self.processor(values)], tally: Tally::default() })
    }

    fn processor(&self, values: Vec<f64>) -> Figure {
        Figure { row: self.name.to_owned(), kind: Kind::Processor, values }
    }
}

/// p50, p99, p99.9 and the maximum in µs, of nanoseconds in order, of which there are some.
pub fn percentiles(latencies: &[u64]) -> Vec<f64> {
    let at = |permille: usize| {
        let place = (latencies.len() * permille).div_ceil(1000).max(1) - 1;
        latencies[place] as f64 / 1000.0
    };
    vec![at(500), at(990), at(999), at(1000)]
}

pub fn microseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// A number with commas between its thousands.
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
