//! Brokers that persist what they acknowledge: what that costs, what it does to messages that are not persisted, how
//! much of it stays in memory, and how soon it is available after a start.

use std::time::{Duration, Instant};

use crate::agent::Agent;
use crate::broker::{Memory, Process, own_processor_time};
use crate::flow::{Flow, Load, Pattern};
use crate::memory::receive;
use crate::network::Network;
use crate::packets::{Fault, Template, Version};
use crate::scenarios::{Effort, Figure, Kind, Outcome, grouped, microseconds, percentiles};

/// Bytes of a payload.
const PAYLOAD: usize = 256;
/// Retained messages that a start finds.
const RETAINED: usize = 100_000;
const SESSIONS: usize = 10_000;
/// Messages a second of QoS 0.
const RATE: u32 = 1_000;
/// Messages of QoS 1 that are outstanding beside those of QoS 0.
const BESIDE: usize = 256;

/// A scenario with a broker that persists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durable {
    /// From one client to another one with a persistent session, with this many messages outstanding.
    Relay(usize),
    /// To a disconnected client.
    Queue,
    /// Messages of QoS 0, which wait for no disk, alone and beside such a relay.
    Beside,
    /// A start with many retained messages and sessions.
    Start,
    /// This many messages to a disconnected client.
    Backlog(usize),
}

const fn relay(outstanding: usize) -> Flow {
    Flow {
        version: Version::V311,
        qos: 1,
        payload: PAYLOAD,
        publishers: 1,
        subscribers: 1,
        pattern: Pattern::OneTopic,
        window: Some(outstanding),
        is_persistent: true,
    }
}

/// Pairs derive their topics from their clients' numbers, so that they do not receive the relay's messages.
const fn lively() -> Flow {
    Flow { qos: 0, payload: 64, pattern: Pattern::Pairs, window: None, is_persistent: false, ..relay(0) }
}

impl Durable {
    /// Measures a broker that has just been started and stores nothing yet.
    pub fn run(
        self,
        name: &str,
        process: &mut Process,
        mut network: Network,
        effort: Effort,
    ) -> Result<Outcome, Fault> {
        match self {
            Self::Relay(outstanding) => run_relay(name, process, &mut network, relay(outstanding), effort),
            Self::Queue => run_queue(name, process, &mut network, effort),
            Self::Beside => run_beside(&mut network, effort),
            Self::Start => run_start(process, network, effort),
            Self::Backlog(count) => run_backlog(process, &mut network, effort.count(count)),
        }
    }
}

fn run_relay(
    name: &str,
    process: &Process,
    network: &mut Network,
    flow: Flow,
    effort: Effort,
) -> Result<Outcome, Fault> {
    let mut load = Load::prepare(flow, network, 0)?;
    load.run(network, effort.time / 5)?;
    let before = Spent::now(process)?;
    let stretch = load.run(network, effort.time)?;
    let figures = before.figures(name, process, stretch.deliveries, stretch.time)?;
    Ok(Outcome { figures, tally: load.tally() })
}

/// The resources used by the broker and the generator so far.
struct Spent {
    processor: Duration,
    own: Duration,
    written: f64,
}

impl Spent {
    fn now(process: &Process) -> Result<Self, Fault> {
        Ok(Self {
            processor: process.processor_time()?,
            own: own_processor_time()?,
            written: process.written()?,
        })
    }

    /// The resources used since, for each of this many messages.
    fn figures(
        self,
        name: &str,
        process: &Process,
        count: u64,
        time: Duration,
    ) -> Result<Vec<Figure>, Fault> {
        if count == 0 {
            return Err("nothing was delivered".to_owned());
        }
        let now = Self::now(process)?;
        let count = count as f64;
        let processor = vec![
            microseconds(now.processor - self.processor) / count,
            count / time.as_secs_f64(),
            microseconds(now.own - self.own) / count,
        ];
        let written = vec![(now.written - self.written) / count];
        let figure = |kind, values| Figure { row: name.to_owned(), kind, values };
        Ok(vec![figure(Kind::Processor, processor), figure(Kind::Written, written)])
    }
}

/// Client 0 has a persistent session and is disconnected; client 1 publishes.
fn prepare_absent(network: &mut Network) -> Result<Agent, Fault> {
    let mut agent = Agent::new(Version::V311);
    agent.connect(network, 0, 1, false)?;
    agent.subscribe(network, 0, 1, &["bench/queue".to_owned()])?;
    network.close(0);
    agent.connect(network, 1, 1, true)?;
    Ok(agent)
}

fn publish_to_absent(agent: &mut Agent, network: &mut Network, count: usize) -> Result<(), Fault> {
    let message = Template::new(Version::V311, 1, "bench/queue", PAYLOAD, 0);
    agent.publish(network, 1, count, |out, number, identifier| {
        message.append(out, identifier, u32::try_from(number).unwrap_or(0), 0);
    })
}

fn run_queue(name: &str, process: &Process, network: &mut Network, effort: Effort) -> Result<Outcome, Fault> {
    const BLOCK: usize = 1_000;
    let mut agent = prepare_absent(network)?;
    let before = Spent::now(process)?;
    let start = Instant::now();
    let mut count = 0;
    while start.elapsed() < effort.time {
        publish_to_absent(&mut agent, network, BLOCK)?;
        count += BLOCK;
    }
    let figures = before.figures(name, process, count as u64, start.elapsed())?;
    agent.connect(network, 0, 1, false)?;
    let tally = receive(&mut agent, network, count)?;
    Ok(Outcome { figures, tally })
}

/// A relay of the same size to a session that is not persistent shows which part is due to the disk.
fn run_beside(network: &mut Network, effort: Effort) -> Result<Outcome, Fault> {
    let mut load = Load::prepare(lively(), network, 0)?;
    let mut fleeting = Load::prepare(Flow { is_persistent: false, ..relay(BESIDE) }, network, 2)?;
    let alone = measure_beside("alone", &mut load, None, network, effort)?;
    let beside = "beside a relay that is not kept";
    let beside_fleeting = measure_beside(beside, &mut load, Some(&mut fleeting), network, effort)?;
    for client in [2, 3] {
        network.close(client);
    }
    let mut durable = Load::prepare(relay(BESIDE), network, 4)?;
    let beside = "beside a durable relay";
    let beside_durable = measure_beside(beside, &mut load, Some(&mut durable), network, effort)?;
    let figures = vec![alone, beside_fleeting, beside_durable];
    Ok(Outcome { figures, tally: load.tally() })
}

fn measure_beside(
    beside: &str,
    load: &mut Load,
    mut rival: Option<&mut Load>,
    network: &mut Network,
    effort: Effort,
) -> Result<Figure, Fault> {
    load.run_paced(rival.as_deref_mut(), network, RATE, effort.time / 5)?;
    let (_, mut latencies) = load.run_paced(rival, network, RATE, effort.time)?;
    latencies.sort_unstable();
    if latencies.is_empty() {
        return Err("nothing was delivered".to_owned());
    }
    let row = format!("QoS 0 at 1,000/s {beside}");
    Ok(Figure { row, kind: Kind::Latency, values: percentiles(&latencies) })
}

fn run_start(process: &mut Process, mut network: Network, effort: Effort) -> Result<Outcome, Fault> {
    let (retained, sessions) = (effort.count(RETAINED), effort.count(SESSIONS));
    let mut agent = Agent::new(Version::V311);
    agent.connect(&mut network, 0, 1, true)?;
    let topics: Vec<Template> = (0..retained)
        .map(|number| {
            let topic = format!("site/{}/line/{}/device/{number:07}/state", number % 40, number % 1_000);
            Template::retained(Version::V311, 1, &topic, PAYLOAD, number)
        })
        .collect();
    agent.publish(&mut network, 0, retained, |out, number, identifier| {
        topics[number].append(out, identifier, 0, 0);
    })?;
    const AT_ONCE: usize = 500;
    for first in (0..sessions).step_by(AT_ONCE) {
        let count = AT_ONCE.min(sessions - first);
        agent.connect(&mut network, first + 1, count, false)?;
        for client in first + 1..=first + count {
            let filters = [format!("bench/device/{client:06}/command")];
            agent.subscribe(&mut network, client, 1, &filters)?;
            network.close(client);
        }
    }
    drop(network);
    let start = process.restart()?;
    let mut network = Network::new(process.port)?;
    let mut agent = Agent::new(Version::V311);
    agent.connect(&mut network, 0, 1, true)?;
    let time = start.elapsed();
    agent.subscribe(&mut network, 0, 0, &["site/#".to_owned()])?;
    let tally = receive(&mut agent, &mut network, retained)?;
    let row =
        format!("start with {} retained messages and {} sessions, ms", grouped(retained), grouped(sessions));
    let figure = Figure { row, kind: Kind::Milliseconds, values: vec![time.as_secs_f64() * 1e3] };
    Ok(Outcome { figures: vec![figure], tally })
}

fn run_backlog(process: &Process, network: &mut Network, count: usize) -> Result<Outcome, Fault> {
    let mut agent = prepare_absent(network)?;
    let mut most = process.memory()?;
    for part in 0..10 {
        publish_to_absent(&mut agent, network, count / 10)?;
        let now = process.memory()?;
        most = if now.resident > most.resident { now } else { most };
        eprintln!("{} of {} are queued", grouped(count / 10 * (part + 1)), grouped(count));
    }
    agent.idle(network, Duration::from_millis(500))?;
    let memory = process.memory()?;
    let row = |row, memory: Memory| Figure {
        row,
        kind: Kind::Kibibytes,
        values: vec![memory.resident / 1024.0, memory.private_dirty / 1024.0],
    };
    let figures = vec![
        row(format!("resident with {} messages of 256 B queued, KiB", grouped(count)), memory),
        row("the most of it while they were queued, KiB".to_owned(), most),
    ];
    agent.connect(network, 0, 1, false)?;
    let tally = receive(&mut agent, network, count)?;
    Ok(Outcome { figures, tally })
}
