//! Idle clients and subscriptions, to measure what they cost the busy ones.

use crate::agent::Agent;
use crate::network::Network;
use crate::packets::{Fault, Version};

/// Clients that share many subscriptions among themselves.
const SUBSCRIBING_CLIENTS: usize = 100;
/// Topic Filters in a SUBSCRIBE.
const FILTERS_PER_PACKET: usize = 100;
/// Devices that no filter of a crowd names.
const FIRST_OTHER_DEVICE: usize = 90_000_000;

/// Matches every [`topic`].
pub const EVERY_TOPIC: &str = "site/+/line/+/device/+/temperature";

/// Of a hundred filters, 80 are exact, 15 have a `+` and 5 end with `#`; no two are the same.
fn filter(number: usize) -> String {
    let (site, line) = (number % 40, number % 1_000);
    match number * 37 % 100 {
        0..80 => format!("site/{site}/line/{line}/device/{number:07}/temperature"),
        80..95 => format!("site/{site}/+/{line}/device/{number:07}/temperature"),
        _ => format!("site/{site}/line/{line}/device/{number:07}/#"),
    }
}

/// A topic whose lookup visits the same levels as the filters of a crowd, none of which matches it.
pub fn topic(number: usize) -> String {
    let device = FIRST_OTHER_DEVICE + number;
    format!("site/{}/line/{}/device/{device}/temperature", number % 40, number % 1_000)
}

/// Clients with many subscriptions.
#[derive(Debug)]
pub struct Crowd {
    pub agent: Agent,
    first: usize,
}

impl Crowd {
    /// Connects its clients, whose numbers begin with `first`.
    pub fn connect(network: &mut Network, first: usize) -> Result<Self, Fault> {
        let mut agent = Agent::new(Version::V311);
        agent.connect(network, first, SUBSCRIBING_CLIENTS, true)?;
        Ok(Self { agent, first })
    }

    /// Makes this many subscriptions.
    pub fn subscribe(&mut self, network: &mut Network, count: usize) -> Result<(), Fault> {
        let mut filters = Vec::with_capacity(FILTERS_PER_PACKET);
        for (packet, start) in (0..count).step_by(FILTERS_PER_PACKET).enumerate() {
            filters.clear();
            filters.extend((start..count.min(start + FILTERS_PER_PACKET)).map(filter));
            self.agent.subscribe(network, self.first + packet % SUBSCRIBING_CLIENTS, 0, &filters)?;
        }
        Ok(())
    }
}

/// Connects this many clients, whose numbers begin with `first`; each subscribes to a topic of its own.
pub fn connect_idle(network: &mut Network, first: usize, count: usize) -> Result<(), Fault> {
    let mut agent = Agent::new(Version::V311);
    agent.connect(network, first, count, true)?;
    for client in first..first + count {
        agent.subscribe(network, client, 0, &[format!("bench/idle/{client:06}")])?;
    }
    Ok(())
}
