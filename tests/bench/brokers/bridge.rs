//! A broker with bridges, whose other ends are this program: what it costs to forward a message, measured beside local
//! deliveries in the same broker; what a remote broker that is dead does to local clients; how soon a bridge comes back;
//! and which retained messages it sends again.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::agent::Agent;
use crate::broker::{Broker, OwnLimits, Process, Storage, own_processor_time};
use crate::flow::{Flow, Load, Pattern};
use crate::network::Network;
use crate::packets::{self, Fault, Packet, Template, Version};
use crate::scenarios::{Effort, Figure, Kind, Outcome, grouped, microseconds, percentiles};
use crate::tally::Tally;

/// Bytes of a payload.
const PAYLOAD: usize = 256;
/// How often the loads of a measurement take turns.
const ROUNDS: u32 = 5;
/// Messages a second beside a dead remote broker.
const RATE: u32 = 1_000;
const RETAINED: usize = 1_000;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a connection to a dead address may take on this machine, where others take no time.
const DEAD_AFTER: Duration = Duration::from_millis(200);

/// What is measured of bridges.
#[derive(Clone, Copy, Debug)]
pub enum Bridge {
    /// Processor time for a message that is forwarded, and for one that a local client gets.
    Forward(Version),
    /// The latency of local messages.
    Dead,
    /// The time from the loss of a connection to the next one.
    Return,
    /// Retained messages that are sent again.
    Retained,
}

/// The other end of a bridge.
struct Far {
    listener: TcpListener,
    version: Version,
}

/// A connection of a bridge that has sent its CONNECT.
struct Line {
    stream: TcpStream,
    came: Vec<u8>,
}

impl Far {
    fn new(version: Version) -> Result<Self, Fault> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        Ok(Self { listener: listener.map_err(|error| format!("no free port: {error}"))?, version })
    }

    /// The lines that configure a bridge to here.
    fn lines(&self, name: &str, topic: &str) -> Result<String, Fault> {
        let address = self.listener.local_addr().map_err(|error| format!("no address: {error}"))?;
        let version = match self.version {
            Version::V311 => "mqttv311",
            Version::V5 => "mqttv50",
        };
        Ok(format!(
            "connection {name}\naddress {address}\nremote_clientid bench-{name}\nnotifications false\n\
             bridge_attempt_unsubscribe false\nkeepalive_interval 3600\nrestart_timeout 1\n\
             bridge_protocol_version {version}\ntopic {topic}\n"
        ))
    }

    /// Waits for the bridge and accepts it.
    fn accept(&self, session_present: bool) -> Result<Line, Fault> {
        let mut line = self.wait()?;
        let present = u8::from(session_present);
        match self.version {
            Version::V311 => line.send(&[0x20, 2, present, 0])?,
            Version::V5 => line.send(&[0x20, 3, present, 0, 0])?,
        }
        Ok(line)
    }

    /// Waits for the CONNECT of the bridge.
    fn wait(&self) -> Result<Line, Fault> {
        let accepted = self.listener.accept().and_then(|(stream, _)| {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            Ok(stream)
        });
        let stream = accepted.map_err(|error| format!("the bridge does not connect: {error}"))?;
        let mut line = Line { stream, came: Vec::new() };
        line.next(|packet| Ok(packet.kind()))?;
        Ok(line)
    }
}

impl Line {
    fn send(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.stream.write_all(bytes).map_err(|error| format!("cannot write to the bridge: {error}"))
    }

    /// Waits for the next packet.
    fn next<T>(&mut self, take: impl FnOnce(&Packet<'_>) -> Result<T, Fault>) -> Result<T, Fault> {
        let mut buffer = [0; 4096];
        loop {
            if let Some((packet, length)) = Packet::first_of(&self.came) {
                let taken = take(&packet);
                self.came.drain(..length);
                return taken;
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err("the bridge has closed its connection".to_owned()),
                Ok(count) => self.came.extend_from_slice(&buffer[..count]),
                Err(error) => return Err(format!("cannot read from the bridge: {error}")),
            }
        }
    }

    /// Acknowledges messages up to one with a shorter payload. Returns how many came before it.
    fn take_until_short(&mut self, version: Version) -> Result<usize, Fault> {
        let mut count = 0;
        loop {
            let (identifier, length) = self.next(|packet| {
                let delivery = packet.delivery(version)?;
                Ok((delivery.identifier, delivery.payload.len()))
            })?;
            let mut answer = Vec::new();
            packets::acknowledge(&mut answer, packets::PUBACK, identifier);
            self.send(&answer)?;
            if length < PAYLOAD {
                return Ok(count);
            }
            count += 1;
        }
    }
}

impl Bridge {
    /// Starts brokers of this kind and measures them.
    pub fn run(self, broker: &Broker, processor: Option<usize>, effort: Effort) -> Result<Outcome, Fault> {
        let start = |lines: &str| broker.start(processor, OwnLimits::Lifted, Storage::Memory, lines);
        match self {
            Self::Forward(version) => forward(start, version, effort),
            Self::Dead => beside_dead(start, effort),
            Self::Return => come_back(start),
            Self::Retained => send_again(start, effort),
        }
    }
}

fn flow(version: Version, topic: Option<&'static str>) -> Flow {
    let pattern = topic.map_or(Pattern::OneTopic, |topic| Pattern::Bridged { topic });
    Flow {
        version,
        qos: 1,
        payload: PAYLOAD,
        publishers: 1,
        subscribers: 1,
        pattern,
        window: None,
        is_persistent: false,
    }
}

/// The resources that a load took.
#[derive(Default)]
struct Spent {
    broker: Duration,
    own: Duration,
    time: Duration,
    deliveries: u64,
}

impl Spent {
    fn add(
        &mut self,
        load: &mut Load,
        process: &Process,
        network: &mut Network,
        time: Duration,
    ) -> Result<(), Fault> {
        let (broker, own) = (process.processor_time()?, own_processor_time()?);
        let stretch = load.run(network, time)?;
        self.broker += process.processor_time()? - broker;
        self.own += own_processor_time()? - own;
        self.time += stretch.time;
        self.deliveries += stretch.deliveries;
        Ok(())
    }

    fn values(&self) -> Vec<f64> {
        let count = self.deliveries as f64;
        vec![
            microseconds(self.broker) / count,
            count / self.time.as_secs_f64(),
            microseconds(self.own) / count,
        ]
    }
}

/// One publisher sends to a local subscriber, another one over a bridge, and a third one over a bridge with prefixes.
/// They take turns, so that other work of the machine affects all of them alike.
fn forward(
    start: impl Fn(&str) -> Result<Process, Fault>,
    version: Version,
    effort: Effort,
) -> Result<Outcome, Fault> {
    let (plain, renamed) = (Far::new(version)?, Far::new(version)?);
    let lines = plain.lines("plain", "plain/# out 1")? + &renamed.lines("renamed", "# out 1 near/ far/")?;
    let process = start(&lines)?;
    let mut network = Network::new(process.port)?;
    network.adopt(2, plain.accept(false)?.stream)?;
    network.adopt(4, renamed.accept(false)?.stream)?;
    let topics = [None, Some("plain/site/device/state"), Some("near/site/device/state")];
    let mut loads = Vec::new();
    for (place, topic) in topics.into_iter().enumerate() {
        loads.push((Load::prepare(flow(version, topic), &mut network, 2 * place)?, Spent::default()));
    }
    for (load, _) in &mut loads {
        load.run(&mut network, effort.time / 5)?;
    }
    for _ in 0..ROUNDS {
        for (load, spent) in &mut loads {
            spent.add(load, &process, &mut network, effort.time / ROUNDS)?;
        }
    }
    let name = match version {
        Version::V311 => "3.1.1",
        Version::V5 => "5.0",
    };
    let whats = ["to a subscriber", "over a bridge", "over a bridge with prefixes"];
    let (mut figures, mut tally) = (Vec::new(), Tally::default());
    let mut local = f64::NAN;
    for (what, (load, spent)) in whats.into_iter().zip(&loads) {
        let values = spent.values();
        tally += load.tally();
        local = if local.is_nan() { values[0] } else { local };
        let row = format!("QoS 1, 256 B, {name}, {what}");
        let times = values[0] / local;
        figures.push(Figure { row, kind: Kind::Processor, values });
        if what != whats[0] {
            let row = format!("processor time {what}, {name}, in that to a subscriber");
            figures.push(Figure { row, kind: Kind::Number, values: vec![times] });
        }
    }
    Ok(Outcome { figures, tally })
}

/// Two brokers take turns: one without a bridge, one with a bridge to an address that answers nothing.
fn beside_dead(start: impl Fn(&str) -> Result<Process, Fault>, effort: Effort) -> Result<Outcome, Fault> {
    let dead = Far::new(Version::V311)?;
    let address = dead.listener.local_addr().map_err(|error| format!("no address: {error}"))?;
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, DEAD_AFTER) {
        waiting.push(stream);
    }
    // Without any line it would be started by another command.
    let processes = [start("# no bridge\n")?, start(&dead.lines("dead", "# out 1")?)?];
    let lively = Flow { qos: 0, payload: 64, ..flow(Version::V311, None) };
    let mut loads = Vec::new();
    for process in &processes {
        let mut network = Network::new(process.port)?;
        let load = Load::prepare(lively, &mut network, 0)?;
        loads.push((network, load, Vec::new()));
    }
    for (network, load, _) in &mut loads {
        load.run_paced(None, network, RATE, effort.time / 5)?;
    }
    for _ in 0..ROUNDS {
        for (network, load, latencies) in &mut loads {
            latencies.extend(load.run_paced(None, network, RATE, effort.time / ROUNDS)?.1);
        }
    }
    let (mut figures, mut tally) = (Vec::new(), Tally::default());
    for (what, (_, load, mut latencies)) in
        ["without a bridge", "beside a dead bridge"].into_iter().zip(loads)
    {
        latencies.sort_unstable();
        if latencies.is_empty() {
            return Err("nothing was delivered".to_owned());
        }
        tally += load.tally();
        let row = format!("QoS 0 at 1,000/s {what}");
        figures.push(Figure { row, kind: Kind::Latency, values: percentiles(&latencies) });
    }
    Ok(Outcome { figures, tally })
}

/// The other end closes the connection and waits for the next one, while a message waits in the broker.
fn come_back(start: impl Fn(&str) -> Result<Process, Fault>) -> Result<Outcome, Fault> {
    let far = Far::new(Version::V311)?;
    let process = start(&far.lines("far", "# out 1")?)?;
    let mut network = Network::new(process.port)?;
    let mut agent = Agent::new(Version::V311);
    agent.connect(&mut network, 0, 1, true)?;
    let line = far.accept(false)?;
    // The bridge is set up by then.
    std::thread::sleep(DEAD_AFTER);
    let lost = Instant::now();
    drop(line);
    std::thread::sleep(Duration::from_millis(20));
    let message = Template::new(Version::V311, 1, "bench/queue", PAYLOAD, 0);
    agent.publish(&mut network, 0, 1, |out, _, identifier| message.append(out, identifier, 0, 0))?;
    let mut line = far.wait()?;
    let returned = lost.elapsed();
    line.send(&[0x20, 2, 1, 0])?;
    let accepted = Instant::now();
    line.next(|packet| packet.delivery(Version::V311).map(|_| ()))?;
    let figure = |row: &str, time: Duration| Figure {
        row: row.to_owned(),
        kind: Kind::Milliseconds,
        values: vec![time.as_secs_f64() * 1e3],
    };
    let figures = vec![
        figure("from a lost connection of a bridge to CONNECT, with restart_timeout 1, ms", returned),
        figure("from CONNACK to the message that has waited, ms", accepted.elapsed()),
    ];
    Ok(Outcome { figures, tally: Tally::default() })
}

/// The other end knows the session when the bridge comes back.
fn send_again(start: impl Fn(&str) -> Result<Process, Fault>, effort: Effort) -> Result<Outcome, Fault> {
    let far = Far::new(Version::V311)?;
    let process = start(&far.lines("far", "# out 1")?)?;
    let mut network = Network::new(process.port)?;
    let mut agent = Agent::new(Version::V311);
    agent.connect(&mut network, 0, 1, true)?;
    let count = effort.count(RETAINED);
    let publish =
        |agent: &mut Agent, network: &mut Network, count: usize, payload: usize, is_retained: bool| {
            let templates: Vec<Template> = (0..count)
                .map(|number| {
                    let topic = format!("bench/{number}");
                    match is_retained {
                        true => Template::retained(Version::V311, 1, &topic, payload, number),
                        false => Template::new(Version::V311, 1, &topic, payload, number),
                    }
                })
                .collect();
            agent.publish(network, 0, count, |out, number, identifier| {
                templates[number].append(out, identifier, 0, 0);
            })
        };
    let mut line = far.accept(false)?;
    std::thread::sleep(DEAD_AFTER);
    publish(&mut agent, &mut network, count, PAYLOAD, true)?;
    publish(&mut agent, &mut network, 1, packets::STAMP_BYTES, false)?;
    line.take_until_short(Version::V311)?;
    // The acknowledgements arrive.
    std::thread::sleep(DEAD_AFTER);
    drop(line);
    let mut line = far.accept(true)?;
    std::thread::sleep(DEAD_AFTER);
    publish(&mut agent, &mut network, 1, packets::STAMP_BYTES, false)?;
    let again = line.take_until_short(Version::V311)?;
    let row = format!("retained messages of {} that a bridge sends again to a live session", grouped(count));
    let figure = Figure { row, kind: Kind::Number, values: vec![again as f64] };
    Ok(Outcome { figures: vec![figure], tally: Tally::default() })
}
