//! The state that a broker stores, and how much memory that takes.

use std::time::{Duration, Instant};

use crate::agent::Agent;
use crate::broker::{Memory, Process};
use crate::crowd::Crowd;
use crate::network::Network;
use crate::packets::{Fault, Template, Version, publish};
use crate::tally::Tally;

/// Messages queued for one client; many brokers accept no more by default.
const QUEUED_PER_CLIENT: usize = 1_000;
/// Bytes of the payload of stored messages.
const PAYLOAD_BYTES: usize = 64;
/// Messages of the flood beside a stalled subscriber, in each of its two halves.
const FLOOD_MESSAGES: usize = 100_000;
const FLOOD_PAYLOAD_BYTES: usize = 1024;
/// Messages of the flood that the other subscribers may lag.
const FLOOD_WINDOW: usize = 256;
const HEALTHY_SUBSCRIBERS: usize = 3;

/// Messages from one publisher to many readers, some of which are slow, and how far the fast ones may lag.
const MIXED_MESSAGES: usize = 400;
const MIXED_PAYLOAD_BYTES: usize = 16 * 1024;
const MIXED_WINDOW: usize = 4;
const MEMORY_LOOKED_AT_EVERY: usize = 8;
const QUICK_READERS: usize = 900;
const SLOW_READERS: usize = 100;
/// What one slow reader takes for each message; its turn comes once in a hundred.
const SIP_BYTES: usize = 64 * 1024;

/// Descriptors of the broker and of this process that are not for clients.
const OTHER_DESCRIPTORS: usize = 100;

fn settled(agent: &mut Agent, network: &mut Network, process: &Process) -> Result<Memory, Fault> {
    agent.idle(network, Duration::from_millis(200))?;
    process.memory()
}

/// The increase, divided by `count`.
fn each(before: Memory, after: Memory, count: usize) -> Memory {
    Memory {
        resident: (after.resident - before.resident) / count as f64,
        private_dirty: (after.private_dirty - before.private_dirty) / count as f64,
    }
}

/// Connections that this process may open.
pub fn connections_maximum() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|rest| rest.split_whitespace().next()?.parse::<usize>().ok());
    soft.unwrap_or(1024).saturating_sub(OTHER_DESCRIPTORS)
}

/// Idle connections: memory of each, without and with one subscription.
pub fn idle(process: &Process, network: &mut Network, count: usize) -> Result<[Memory; 2], Fault> {
    let mut agent = Agent::new(Version::V311);
    let empty = settled(&mut agent, network, process)?;
    agent.connect(network, 0, count, true)?;
    let connected = settled(&mut agent, network, process)?;
    for client in 0..count {
        agent.subscribe(network, client, 0, &[format!("bench/device/{client:06}/command")])?;
    }
    let subscribed = settled(&mut agent, network, process)?;
    Ok([each(empty, connected, count), each(empty, subscribed, count)])
}

/// Memory of each of this many subscriptions.
pub fn subscriptions(process: &Process, network: &mut Network, count: usize) -> Result<Memory, Fault> {
    let mut crowd = Crowd::connect(network, 0)?;
    let before = settled(&mut crowd.agent, network, process)?;
    crowd.subscribe(network, count)?;
    let after = settled(&mut crowd.agent, network, process)?;
    Ok(each(before, after, count))
}

/// Memory of each of this many retained messages. They are requested afterwards; what does not come is lost.
pub fn retained(process: &Process, network: &mut Network, count: usize) -> Result<(Memory, Tally), Fault> {
    let mut agent = Agent::new(Version::V311);
    agent.connect(network, 0, 2, true)?;
    let before = settled(&mut agent, network, process)?;
    agent.publish(network, 0, count, |out, number, identifier| {
        let topic = format!("site/{}/line/{}/device/{number:07}/state", number % 40, number % 1_000);
        append_publish(out, 3, &topic, identifier);
    })?;
    let after = settled(&mut agent, network, process)?;
    agent.subscribe(network, 1, 0, &["site/#".to_owned()])?;
    let tally = receive(&mut agent, network, count)?;
    Ok((each(before, after, count), tally))
}

/// Memory of each of this many messages queued for disconnected clients. The clients return afterwards; what they do
/// not receive is lost.
pub fn offline(process: &Process, network: &mut Network, count: usize) -> Result<(Memory, Tally), Fault> {
    let mut agent = Agent::new(Version::V311);
    let clients = count.div_ceil(QUEUED_PER_CLIENT);
    agent.connect(network, 0, clients, false)?;
    for client in 0..clients {
        agent.subscribe(network, client, 1, &[format!("bench/queue/{client}")])?;
    }
    for client in 0..clients {
        network.close(client);
    }
    agent.connect(network, clients, 1, true)?;
    let before = settled(&mut agent, network, process)?;
    agent.publish(network, clients, count, |out, number, identifier| {
        append_publish(out, 2, &format!("bench/queue/{}", number / QUEUED_PER_CLIENT), identifier);
    })?;
    let after = settled(&mut agent, network, process)?;
    agent.connect(network, 0, clients, false)?;
    let tally = receive(&mut agent, network, count)?;
    Ok((each(before, after, count), tally))
}

fn append_publish(out: &mut Vec<u8>, flags: u8, topic: &str, identifier: u16) {
    let mut packet = publish(Version::V311, flags, topic, &[b'.'; PAYLOAD_BYTES]);
    let identifier_at = packet.len() - PAYLOAD_BYTES - 2;
    packet[identifier_at..identifier_at + 2].copy_from_slice(&identifier.to_be_bytes());
    out.extend_from_slice(&packet);
}

/// Waits for this many deliveries, as long as some come.
pub fn receive(agent: &mut Agent, network: &mut Network, count: usize) -> Result<Tally, Fault> {
    let mut quiet_since = Instant::now();
    while agent.deliveries < count && quiet_since.elapsed() < Duration::from_secs(2) {
        let before = agent.deliveries;
        network.turn(Duration::from_millis(100), agent)?;
        if agent.deliveries > before {
            quiet_since = Instant::now();
        }
    }
    // Anything that comes now is too much.
    agent.idle(network, Duration::from_millis(50))?;
    Ok(Tally {
        lost: count.saturating_sub(agent.deliveries) as u64,
        duplicated: agent.deliveries.saturating_sub(count) as u64,
        reordered: 0,
    })
}

/// The growth of the broker's memory when one subscriber of several stops reading during a flood. The first half of
/// the flood shows the growth without that. What the other subscribers miss is lost.
pub fn stalled(process: &Process, network: &mut Network) -> Result<(Memory, Tally), Fault> {
    let mut agent = Agent::new(Version::V311);
    agent.connect(network, 0, HEALTHY_SUBSCRIBERS + 2, true)?;
    let topic = "bench/flood".to_owned();
    for client in 0..HEALTHY_SUBSCRIBERS {
        agent.subscribe(network, client, 0, std::slice::from_ref(&topic))?;
    }
    let message = Template::new(Version::V311, 0, &topic, FLOOD_PAYLOAD_BYTES, 0);
    let mut tally = flood(&mut agent, network, &message)?;
    let before = process.memory()?;
    agent.subscribe(network, HEALTHY_SUBSCRIBERS, 0, &[topic])?;
    network.stall(HEALTHY_SUBSCRIBERS);
    tally += flood(&mut agent, network, &message)?;
    Ok((each(before, process.memory()?, 1), tally))
}

/// Publishes as fast as the other subscribers receive.
fn flood(agent: &mut Agent, network: &mut Network, message: &Template) -> Result<Tally, Fault> {
    let publisher = HEALTHY_SUBSCRIBERS + 1;
    let before = agent.deliveries;
    for number in 0..FLOOD_MESSAGES {
        let stamp = u32::try_from(number).expect("a flood is finite");
        network.send(publisher, |out| message.append(out, 0, stamp, 0));
        if number % (FLOOD_WINDOW / 4) == 0 {
            let wanted = before + number.saturating_sub(FLOOD_WINDOW) * HEALTHY_SUBSCRIBERS;
            agent.wait(network, "a healthy subscriber", |agent| agent.deliveries >= wanted)?;
        }
    }
    let count = before + FLOOD_MESSAGES * HEALTHY_SUBSCRIBERS;
    receive(agent, network, count)
}

/// The greatest growth of the broker's memory while one publisher sends large messages to a thousand subscribers, a
/// hundred of which read slowly. The publisher waits only for the fast ones; what they miss is lost. The time is that
/// from the first message until the fast ones have the last.
pub fn mixed_speed(process: &Process, network: &mut Network) -> Result<(Memory, Duration, Tally), Fault> {
    let mut agent = Agent::new(Version::V311);
    agent.connect(network, 0, QUICK_READERS + SLOW_READERS + 1, true)?;
    let topic = "bench/mixed".to_owned();
    for client in 0..QUICK_READERS + SLOW_READERS {
        agent.subscribe(network, client, 0, std::slice::from_ref(&topic))?;
    }
    for client in QUICK_READERS..QUICK_READERS + SLOW_READERS {
        network.stall(client);
    }
    let before = settled(&mut agent, network, process)?;
    let message = Template::new(Version::V311, 0, &topic, MIXED_PAYLOAD_BYTES, 0);
    let mut slow = Agent::new(Version::V311);
    let mut most = before;
    let (start, already) = (Instant::now(), agent.deliveries);
    for number in 0..MIXED_MESSAGES {
        let stamp = u32::try_from(number).expect("they are few");
        network.send(QUICK_READERS + SLOW_READERS, |out| message.append(out, 0, stamp, 0));
        let wanted = already + number.saturating_sub(MIXED_WINDOW) * QUICK_READERS;
        agent.wait(network, "a quick reader", |agent| agent.deliveries >= wanted)?;
        network.sip(QUICK_READERS + number % SLOW_READERS, SIP_BYTES, &mut slow)?;
        if number % MEMORY_LOOKED_AT_EVERY == 0 {
            let now = process.memory()?;
            most = if now.resident > most.resident { now } else { most };
        }
    }
    let count = MIXED_MESSAGES * QUICK_READERS;
    agent.wait(network, "a quick reader", |agent| agent.deliveries >= already + count)?;
    let time = start.elapsed();
    let tally = receive(&mut agent, network, already + count)?;
    Ok((each(before, most, 1), time, tally))
}
