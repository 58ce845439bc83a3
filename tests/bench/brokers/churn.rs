//! Clients that connect and disconnect.

use std::time::{Duration, Instant};

use crate::broker::Process;
use crate::network::{Network, Receive, Then};
use crate::packets::{self, Connect, Fault, Packet, Version, publish, subscribe};

/// Clients at a time.
const AT_A_TIME: usize = 64;
/// The system runs out of ports if connections are opened and closed for too long.
const CYCLES_MAXIMUM: usize = 12_000;

/// What a client does between CONNECT and DISCONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cycle {
    /// Nothing.
    Connect,
    /// It subscribes to a topic of its own with QoS 1, publishes there with QoS 1, and receives the message.
    Publish,
}

struct Clients {
    cycle: Cycle,
    /// For each client, its SUBSCRIBE and its PUBLISH.
    packets: Vec<(Vec<u8>, Vec<u8>)>,
    /// For each client, what of its own message has come: the acknowledgement and the message.
    came: Vec<usize>,
    finished: usize,
}

impl Receive for Clients {
    fn packet(&mut self, client: usize, packet: Packet<'_>, out: &mut Vec<u8>) -> Result<Then, Fault> {
        match (packet.kind(), self.cycle) {
            (packets::CONNACK, Cycle::Connect) => {
                packet.accepted(Version::V311)?;
                return Ok(self.finish(out));
            }
            (packets::CONNACK, Cycle::Publish) => {
                packet.accepted(Version::V311)?;
                out.extend_from_slice(&self.packets[client].0);
            }
            (packets::SUBACK, _) => {
                packet.granted(Version::V311)?;
                out.extend_from_slice(&self.packets[client].1);
            }
            (packets::PUBACK, _) => self.came[client] += 1,
            (packets::PUBLISH, _) => {
                let identifier = packet.delivery(Version::V311)?.identifier;
                packets::acknowledge(out, packets::PUBACK, identifier);
                self.came[client] += 1;
            }
            (kind, _) => return Err(format!("the broker sent an unexpected packet of type {kind}")),
        }
        if self.came[client] < 2 {
            return Ok(Then::GoOn);
        }
        self.came[client] = 0;
        Ok(self.finish(out))
    }
}

impl Clients {
    fn new(cycle: Cycle) -> Self {
        let packets = |client| {
            let topic = format!("bench/churn/{client}");
            let publish = publish(Version::V311, 2, &topic, &[b'.'; 16]);
            (subscribe(Version::V311, 1, &[topic]), publish)
        };
        Self { cycle, packets: (0..AT_A_TIME).map(packets).collect(), came: vec![0; AT_A_TIME], finished: 0 }
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Then {
        out.extend_from_slice(&packets::DISCONNECT);
        self.finished += 1;
        Then::Close
    }
}

/// The result of a stretch of cycles.
#[derive(Clone, Copy, Debug)]
pub struct Churned {
    pub cycles: usize,
    pub time: Duration,
    /// That of the broker.
    pub processor_time: Duration,
}

/// Runs cycles for this time, with a fixed number of clients at a time, each connection new and each session clean.
pub fn churn(
    process: &Process,
    network: &mut Network,
    cycle: Cycle,
    time: Duration,
) -> Result<Churned, Fault> {
    let mut clients = Clients::new(cycle);
    let connects: Vec<Vec<u8>> = (0..AT_A_TIME)
        .map(|client| {
            let client_identifier = format!("bench-{client}");
            Connect { version: Version::V311, client_identifier, is_clean: true, user: None }.encode()
        })
        .collect();
    let (start, before) = (Instant::now(), process.processor_time()?);
    let mut begun = 0;
    let mut last = start;
    while clients.finished < begun || (start.elapsed() < time && begun < CYCLES_MAXIMUM) {
        if start.elapsed() < time {
            let free = (0..AT_A_TIME).filter(|&client| !network.is_open(client));
            let free: Vec<usize> = free.take(CYCLES_MAXIMUM - begun).collect();
            for &client in &free {
                network.open(client, &connects[client])?;
            }
            begun += free.len();
        }
        let finished = clients.finished;
        network.turn(Duration::from_millis(100), &mut clients)?;
        if clients.finished > finished {
            last = Instant::now();
        }
        if last.elapsed() > Duration::from_secs(10) {
            return Err("a client waited in vain".to_owned());
        }
    }
    network.turn(Duration::ZERO, &mut clients)?;
    std::thread::sleep(Duration::from_millis(20));
    let processor_time = process.processor_time()? - before;
    Ok(Churned { cycles: clients.finished, time: last - start, processor_time })
}
