//! Large amounts of data that have to be stored, or to be read from the store.

use std::time::Duration;

use super::{Crowd, Prepared, VERSION, small, wait_until};
use crate::agent::Agent;
use crate::memory;
use crate::network::{Network, Receive, Then};
use crate::packets::{self, Connect, Fault, Packet, STAMP_BYTES, Template};
use crate::scenarios::{Effort, grouped};

const PUBLISHERS: usize = 8;
const LARGE_BYTES: usize = 1024 * 1024;
/// Large messages of each publisher; all of them together are what the disk has to take.
const LARGE_EACH: usize = 64;
/// Large messages that a publisher sends ahead of their acknowledgements.
const LARGE_AT_ONCE: usize = 4;
const EXPIRED: usize = 500_000;
const EXPIRY_SECONDS: u32 = 1;
const RETURNING: usize = 4_000;
const MESSAGES_EACH: usize = 64;
/// Connections that are opened before the attacker handles what has come.
const OPENED_AT_ONCE: usize = 64;

const AWAY: &str = "away";

/// Publishers of large messages, each of which sends the next one when one was acknowledged.
struct Flood {
    packets: Vec<Vec<u8>>,
    /// The messages that each of them has still to send.
    left: Vec<usize>,
    acknowledged: usize,
}

impl Flood {
    fn send(&mut self, publisher: usize, out: &mut Vec<u8>) {
        if self.left[publisher] > 0 {
            self.left[publisher] -= 1;
            out.extend_from_slice(&self.packets[publisher]);
        }
    }
}

impl Receive for Flood {
    fn packet(&mut self, client: usize, packet: Packet<'_>, out: &mut Vec<u8>) -> Result<Then, Fault> {
        if packet.kind() == packets::PUBACK {
            self.acknowledged += 1;
            self.send(client, out);
        }
        Ok(Then::GoOn)
    }
}

/// Each publisher has a session of its own to publish to, whose client is disconnected.
pub fn full_journal(network: &mut Network, effort: Effort) -> Result<Prepared, Fault> {
    let each = effort.count(LARGE_EACH);
    let topic = |publisher| format!("{AWAY}/{publisher}");
    let mut agent = Agent::new(VERSION);
    agent.connect(network, 0, PUBLISHERS, true)?;
    agent.connect(network, PUBLISHERS, PUBLISHERS, false)?;
    agent.subscribe_each(network, PUBLISHERS, PUBLISHERS, 1, topic)?;
    (PUBLISHERS..2 * PUBLISHERS).for_each(|client| network.close(client));
    let payload = vec![b'.'; LARGE_BYTES];
    let packet = |publisher| packets::publish(VERSION, 2, &topic(publisher), &payload);
    let mut flood = Flood {
        packets: (0..PUBLISHERS).map(packet).collect(),
        left: vec![each; PUBLISHERS],
        acknowledged: 0,
    };
    let what = format!("{PUBLISHERS} publishers store {each} messages of 1 MiB each");
    Ok(Prepared::new(what, move |network, end| {
        for publisher in (0..PUBLISHERS).cycle().take(PUBLISHERS * LARGE_AT_ONCE) {
            network.send(publisher, |out| flood.send(publisher, out));
        }
        wait_until(network, end, &mut flood, |flood| flood.acknowledged == PUBLISHERS * each)
    }))
}

/// Client 0 publishes for client 1, which returns when all but the last message have expired.
pub fn expired_backlog(network: &mut Network, effort: Effort) -> Result<Prepared, Fault> {
    let expired = effort.count(EXPIRED);
    let mut agent = Agent::new(VERSION);
    agent.connect(network, 0, 1, true)?;
    agent.connect(network, 1, 1, false)?;
    agent.subscribe(network, 1, 1, &[AWAY.to_owned()])?;
    network.close(1);
    agent.publish(network, 0, expired, |out, _, identifier| {
        out.extend_from_slice(&packets::expiring_publish(AWAY, EXPIRY_SECONDS, identifier, b"."));
    })?;
    std::thread::sleep(Duration::from_secs(u64::from(EXPIRY_SECONDS)));
    publish(&mut agent, network, 1)?;
    let connect = returning(1);
    let what = format!("a fresh message after {} expired ones on disk", grouped(expired));
    Ok(Prepared::new(what, move |network, end| {
        network.open(1, &connect)?;
        Crowd::acknowledging().wait(network, end, packets::PUBLISH, 1)
    }))
}

/// Client 0 publishes.
fn publish(agent: &mut Agent, network: &mut Network, count: usize) -> Result<(), Fault> {
    let message = Template::new(VERSION, 1, AWAY, STAMP_BYTES, 0);
    agent.publish(network, 0, count, |out, number, identifier| {
        message.append(out, identifier, small(number), 0);
    })
}

/// The CONNECT of a client that has been connected before.
fn returning(client: usize) -> Vec<u8> {
    let client_identifier = format!("bench-{client}");
    Connect { version: VERSION, client_identifier, is_clean: false, user: None }.encode()
}

pub fn returning_clients(network: &mut Network, effort: Effort) -> Result<Prepared, Fault> {
    let clients = effort.count(RETURNING).min(memory::connections_maximum().saturating_sub(1));
    let mut agent = Agent::new(VERSION);
    agent.connect(network, 0, 1, true)?;
    agent.connect(network, 1, clients, false)?;
    agent.subscribe_each(network, 1, clients, 1, |_| AWAY.to_owned())?;
    (1..=clients).for_each(|client| network.close(client));
    agent.idle(network, Duration::from_secs(1))?;
    publish(&mut agent, network, MESSAGES_EACH)?;
    let connects: Vec<Vec<u8>> = (1..=clients).map(returning).collect();
    let what = format!("{} clients return for {MESSAGES_EACH} messages each", grouped(clients));
    Ok(Prepared::new(what, move |network, end| {
        let mut crowd = Crowd::acknowledging();
        for (number, connect) in connects.iter().enumerate() {
            network.open(1 + number, connect)?;
            if number % OPENED_AT_ONCE == OPENED_AT_ONCE - 1 {
                network.turn(Duration::ZERO, &mut crowd)?;
            }
        }
        crowd.wait(network, end, packets::PUBLISH, clients * MESSAGES_EACH)
    }))
}
