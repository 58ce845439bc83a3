//! Clients for the preparation of a test: they connect, subscribe, publish with QoS 1, acknowledge, and count.

use std::time::{Duration, Instant};

use crate::network::{Network, Receive, Then};
use crate::packets::{self, Connect, Fault, Packet, Version};

/// How long the broker may take for one step of a preparation.
const PATIENCE: Duration = Duration::from_secs(30);
/// Connections that wait for their CONNACK at a time; fewer than any broker's backlog.
const CONNECTING_MAXIMUM: usize = 64;
/// Messages with QoS above 0 that a publisher sends ahead of their acknowledgements.
pub const IN_FLIGHT_MAXIMUM: u16 = 500;

/// What has come so far, on all connections.
#[derive(Debug)]
pub struct Agent {
    version: Version,
    connacks: usize,
    subacks: usize,
    pubacks: usize,
    pub deliveries: usize,
    /// The smallest of all connections.
    receive_maximum: u16,
}

impl Receive for Agent {
    fn packet(&mut self, _client: usize, packet: Packet<'_>, out: &mut Vec<u8>) -> Result<Then, Fault> {
        match packet.kind() {
            packets::CONNACK => {
                self.receive_maximum = self.receive_maximum.min(packet.accepted(self.version)?);
                self.connacks += 1;
            }
            packets::SUBACK => {
                packet.granted(self.version)?;
                self.subacks += 1;
            }
            packets::PUBACK => {
                packet.succeeded()?;
                self.pubacks += 1;
            }
            packets::PUBLISH => {
                let delivery = packet.delivery(self.version)?;
                if delivery.qos == 1 {
                    packets::acknowledge(out, packets::PUBACK, delivery.identifier);
                }
                self.deliveries += 1;
            }
            kind => return Err(format!("the broker sent an unexpected packet of type {kind}")),
        }
        Ok(Then::GoOn)
    }
}

impl Agent {
    pub const fn new(version: Version) -> Self {
        Self { version, connacks: 0, subacks: 0, pubacks: 0, deliveries: 0, receive_maximum: u16::MAX }
    }

    /// Messages that a publisher may have sent ahead of their acknowledgements.
    pub fn in_flight_maximum(&self) -> u16 {
        self.receive_maximum.min(IN_FLIGHT_MAXIMUM)
    }

    /// Opens this many connections, whose numbers begin with `first`.
    pub fn connect(
        &mut self,
        network: &mut Network,
        first: usize,
        count: usize,
        is_clean: bool,
    ) -> Result<(), Fault> {
        let before = self.connacks;
        for number in 0..count {
            let client_identifier = format!("bench-{}", first + number);
            let connect = Connect { version: self.version, client_identifier, is_clean, user: None };
            network.open(first + number, &connect.encode())?;
            let wanted = before + (number + 1).saturating_sub(CONNECTING_MAXIMUM);
            self.wait(network, "a CONNACK", |agent| agent.connacks >= wanted)?;
        }
        self.wait(network, "a CONNACK", |agent| agent.connacks == before + count)
    }

    /// Subscribes one client to all `filters`, with one SUBSCRIBE.
    pub fn subscribe(
        &mut self,
        network: &mut Network,
        client: usize,
        qos: u8,
        filters: &[String],
    ) -> Result<(), Fault> {
        let before = self.subacks;
        let packet = packets::subscribe(self.version, qos, filters);
        network.send(client, |out| out.extend_from_slice(&packet));
        self.wait(network, "a SUBACK", |agent| agent.subacks > before)
    }

    /// Subscribes this many clients, whose numbers begin with `first`, to one filter each, without waiting in between.
    pub fn subscribe_each(
        &mut self,
        network: &mut Network,
        first: usize,
        count: usize,
        qos: u8,
        filter: impl Fn(usize) -> String,
    ) -> Result<(), Fault> {
        let before = self.subacks;
        for number in 0..count {
            let packet = packets::subscribe(self.version, qos, &[filter(number)]);
            network.send(first + number, |out| out.extend_from_slice(&packet));
            if number % CONNECTING_MAXIMUM == 0 {
                network.turn(Duration::ZERO, self)?;
            }
        }
        self.wait(network, "a SUBACK", |agent| agent.subacks == before + count)
    }

    /// Publishes messages with QoS 1, encoded by `encode` from a number and a Packet Identifier, and waits for the
    /// acknowledgements.
    pub fn publish(
        &mut self,
        network: &mut Network,
        client: usize,
        count: usize,
        mut encode: impl FnMut(&mut Vec<u8>, usize, u16),
    ) -> Result<(), Fault> {
        let before = self.pubacks;
        let maximum = self.in_flight_maximum();
        for number in 0..count {
            let identifier = u16::try_from(number % usize::from(maximum)).expect("it is below") + 1;
            network.send(client, |out| encode(out, number, identifier));
            let wanted = before + (number + 2).saturating_sub(usize::from(maximum));
            if self.pubacks < wanted || number % 64 == 63 {
                self.wait(network, "a PUBACK", |agent| agent.pubacks >= wanted)?;
            }
        }
        self.wait(network, "a PUBACK", |agent| agent.pubacks == before + count)
    }

    /// Takes turns until `is_done`.
    pub fn wait(
        &mut self,
        network: &mut Network,
        what: &str,
        is_done: impl Fn(&Self) -> bool,
    ) -> Result<(), Fault> {
        let end = Instant::now() + PATIENCE;
        while !is_done(self) {
            if Instant::now() > end {
                return Err(format!("waited in vain for {what}"));
            }
            network.turn(Duration::from_millis(100), self)?;
        }
        Ok(())
    }

    /// Handles what comes for some time.
    pub fn idle(&mut self, network: &mut Network, time: Duration) -> Result<(), Fault> {
        let end = Instant::now() + time;
        while let Some(rest) = end.checked_duration_since(Instant::now()) {
            network.turn(rest, self)?;
        }
        Ok(())
    }
}
