//! Attacks with retained messages.

use std::time::Duration;

use super::{Crowd, Prepared, VERSION, small, wait_until};
use crate::agent::Agent;
use crate::memory;
use crate::network::{Network, Receive, Then};
use crate::packets::{self, Fault, Packet, STAMP_BYTES, Template};
use crate::scenarios::{Effort, grouped};

/// Clients that request all retained messages, and the number of these.
const CROWD: usize = 8_000;
const WANTED: usize = 4_000;
/// Retained messages of which one in this many matches a sparse filter.
const RETAINED: usize = 65_000;
const SPARSE: usize = 50;
const SPARSE_FILTER: &str = "a/+/+/m";
/// Topics below each level of the second kind.
const SITES: usize = 1_000;
const SUBSCRIBE_BYTES: usize = 256 * 1024;
const SPARSE_CLIENTS: usize = 300;
const SPARSE_FILTERS_EACH: usize = 100;
/// A window counts as full when nothing more has come for this time.
const PAUSE: Duration = Duration::from_millis(500);

/// Retains messages, published by client 0.
fn retain(network: &mut Network, count: usize, topic: impl Fn(usize) -> String) -> Result<Agent, Fault> {
    let mut agent = Agent::new(VERSION);
    agent.connect(network, 0, 1, true)?;
    agent.publish(network, 0, count, |out, number, identifier| {
        let message = Template::retained(VERSION, 1, &topic(number), STAMP_BYTES, number);
        message.append(out, identifier, small(number), 0);
    })?;
    Ok(agent)
}

/// A topic among many; one in fifty matches [`SPARSE_FILTER`].
fn sparse_topic(number: usize) -> String {
    let last = if number.is_multiple_of(SPARSE) { "m" } else { "k" };
    format!("a/{:03}/{:03}/{last}", number / SITES, number % SITES)
}

pub fn crowd(network: &mut Network, effort: Effort) -> Result<Prepared, Fault> {
    let clients = effort.count(CROWD).min(memory::connections_maximum().saturating_sub(1));
    let mut agent = retain(network, WANTED, |number| format!("r/{number}"))?;
    agent.connect(network, 1, clients, true)?;
    let subscribe = packets::subscribe(VERSION, 0, &["r/#".to_owned()]);
    let what = format!("{} retained messages for each of {} clients", grouped(WANTED), grouped(clients));
    Ok(Prepared::new(what, move |network, end| {
        for client in 1..=clients {
            network.send(client, |out| out.extend_from_slice(&subscribe));
        }
        Crowd::default().wait(network, end, packets::PUBLISH, clients * WANTED)
    }))
}

/// Clients that acknowledge what they were sent only when their window is full.
struct Windows {
    /// For each client, the Packet Identifiers that it has not acknowledged yet.
    held: Vec<Vec<u16>>,
    /// Identifiers that a client holds before it acknowledges all of them; zero while it holds everything.
    window: usize,
    came: Vec<usize>,
    wanted: usize,
}

impl Windows {
    /// Acknowledges all that a client holds, in one piece.
    fn acknowledge(&mut self, client: usize, out: &mut Vec<u8>) {
        for identifier in self.held[client].drain(..) {
            packets::acknowledge(out, packets::PUBACK, identifier);
        }
    }
}

impl Receive for Windows {
    fn packet(&mut self, client: usize, packet: Packet<'_>, out: &mut Vec<u8>) -> Result<Then, Fault> {
        if packet.kind() != packets::PUBLISH {
            return Ok(Then::GoOn);
        }
        self.held[client].push(packet.delivery(VERSION)?.identifier);
        self.came[client] += 1;
        if self.held[client].len() == self.window {
            self.acknowledge(client, out);
        }
        Ok(Then::GoOn)
    }
}

pub fn acknowledged(network: &mut Network, effort: Effort, clients: usize) -> Result<Prepared, Fault> {
    let retained = effort.count(RETAINED).max(RETAINED / 2);
    let mut agent = retain(network, retained, sparse_topic)?;
    agent.connect(network, 1, clients, true)?;
    let mut windows = Windows {
        held: vec![Vec::new(); 1 + clients],
        window: 0,
        came: vec![0; 1 + clients],
        wanted: retained.div_ceil(SPARSE),
    };
    let subscribe = packets::subscribe(VERSION, 1, &[SPARSE_FILTER.to_owned()]);
    for client in 1..=clients {
        network.send(client, |out| out.extend_from_slice(&subscribe));
    }
    fill(network, &mut windows)?;
    let what = format!(
        "{clients} × {} PUBACKs in one write, amid {} of {} retained messages",
        windows.window,
        grouped(windows.wanted),
        grouped(retained)
    );
    Ok(Prepared::new(what, move |network, end| {
        for client in 1..=clients {
            network.send(client, |out| windows.acknowledge(client, out));
        }
        wait_until(network, end, &mut windows, |windows| {
            windows.came[1..].iter().all(|came| *came >= windows.wanted)
        })
    }))
}

/// Takes what comes without acknowledging it, which is a window for each client.
fn fill(network: &mut Network, windows: &mut Windows) -> Result<(), Fault> {
    let mut before = usize::MAX;
    while before != windows.came.iter().sum() {
        before = windows.came.iter().sum();
        let end = std::time::Instant::now() + PAUSE;
        wait_until(network, end, windows, |_| false)?;
    }
    let smallest = windows.held[1..].iter().map(Vec::len).min().unwrap_or(0);
    if smallest == 0 || smallest >= windows.wanted {
        return Err(format!("{smallest} retained messages came, which is no window of {}", windows.wanted));
    }
    windows.window = smallest;
    Ok(())
}

pub fn many_subscribes(network: &mut Network, effort: Effort) -> Result<Prepared, Fault> {
    let retained = effort.count(RETAINED);
    let mut agent = retain(network, retained, sparse_topic)?;
    agent.connect(network, 1, 1, true)?;
    let subscribe = packets::subscribe(VERSION, 0, &[SPARSE_FILTER.to_owned()]);
    let count = SUBSCRIBE_BYTES / subscribe.len();
    let burst = subscribe.repeat(count);
    let what =
        format!("256 KiB of {} SUBSCRIBE packets on {} retained messages", grouped(count), grouped(retained));
    Ok(Prepared::new(what, move |network, end| Crowd::default().send(network, 1, &burst, end)))
}

/// Each filter matches the one message that a walk reaches last, so that the end of all walks can be observed.
pub fn sparse_filters(network: &mut Network, effort: Effort) -> Result<Prepared, Fault> {
    let clients = effort.count(SPARSE_CLIENTS);
    let mut agent =
        retain(network, RETAINED + SPARSE_FILTERS_EACH, |number| match number.checked_sub(RETAINED) {
            Some(last) => format!("a/z/z/{last}"),
            None => sparse_topic(number),
        })?;
    agent.connect(network, 1, clients, true)?;
    let filters: Vec<String> = (0..SPARSE_FILTERS_EACH).map(|last| format!("a/+/+/{last}")).collect();
    let subscribe = packets::subscribe(VERSION, 0, &filters);
    let what = format!(
        "{SPARSE_FILTERS_EACH} sparse filters of each of {clients} clients on {} retained messages",
        grouped(RETAINED)
    );
    Ok(Prepared::new(what, move |network, end| {
        for client in 1..=clients {
            network.send(client, |out| out.extend_from_slice(&subscribe));
        }
        Crowd::default().wait(network, end, packets::PUBLISH, clients * SPARSE_FILTERS_EACH)
    }))
}
