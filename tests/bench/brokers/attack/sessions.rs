//! Many objects that have to be created or freed at once: sessions, queues, subscriptions.

use std::time::{Duration, Instant};

use super::{Crowd, Prepared, VERSION, small};
use crate::agent::Agent;
use crate::network::Network;
use crate::packets::{self, Connect, Fault, STAMP_BYTES, Template};
use crate::scenarios::{Effort, grouped};

/// Disconnected members of a group, and the messages queued for the connected one.
const MEMBERS: usize = 5_000;
const QUEUED_IN_GROUP: usize = 20_000;
/// The part of these that a client may have been sent before it disconnects.
const WINDOW_MAXIMUM: usize = 1_024;
const QUEUED: usize = 1_000_000;
/// The most that fits into a packet of two million bytes.
const SUBSCRIBED_AT_ONCE: usize = 110_000;
const UNSUBSCRIBED_AT_ONCE: usize = 100_000;
/// Filters of a packet in a preparation.
const FILTERS_PER_PACKET: usize = 10_000;
/// How long one packet of a preparation may take.
const PATIENCE: Duration = Duration::from_secs(60);

const QUEUE: &str = "q";

/// Publishes messages whose payloads have these sizes in turn.
fn publish(
    agent: &mut Agent,
    network: &mut Network,
    count: usize,
    sizes: impl Iterator<Item = usize>,
) -> Result<(), Fault> {
    let messages: Vec<Template> = sizes.map(|size| Template::new(VERSION, 1, QUEUE, size, 0)).collect();
    agent.publish(network, 0, count, |out, number, identifier| {
        messages[number % messages.len()].append(out, identifier, small(number), 0);
    })
}

/// Filters without wildcards, all different.
fn filters(from: usize, count: usize) -> Vec<String> {
    (from..from + count).map(|number| format!("s/{:02}/dev/{number:06}", number % 40)).collect()
}

/// Client 0 publishes; client 1 reads nothing and disconnects; client 2 comes last and gets what client 1 leaves.
pub fn disconnecting_member(network: &mut Network, effort: Effort) -> Result<Prepared, Fault> {
    const FIRST_MEMBER: usize = 3;
    let (members, queued) = (effort.count(MEMBERS), effort.count(QUEUED_IN_GROUP));
    let group = || format!("$share/g/{QUEUE}");
    let mut agent = Agent::new(VERSION);
    agent.connect(network, 0, 1, true)?;
    agent.connect(network, FIRST_MEMBER, members, false)?;
    agent.subscribe_each(network, FIRST_MEMBER, members, 1, |_| group())?;
    (0..members).for_each(|member| network.close(FIRST_MEMBER + member));
    agent.connect(network, 1, 1, false)?;
    agent.subscribe(network, 1, 1, &[group()])?;
    network.stall(1);
    publish(&mut agent, network, queued, std::iter::once(STAMP_BYTES))?;
    agent.connect(network, 2, 1, false)?;
    agent.subscribe(network, 2, 1, &[group()])?;
    let what = format!(
        "one of {} members of a shared group disconnects and leaves {} messages",
        grouped(members),
        grouped(queued)
    );
    Ok(Prepared::new(what, move |network, end| {
        network.close(1);
        let left = queued.saturating_sub(WINDOW_MAXIMUM);
        Crowd::acknowledging().wait(network, end, packets::PUBLISH, left)
    }))
}

/// All connections of clean sessions are closed; the attack is over when another client is accepted.
pub fn ending(network: &mut Network, sessions: usize, subscriptions: usize) -> Result<Prepared, Fault> {
    let mut agent = Agent::new(VERSION);
    agent.connect(network, 0, sessions, true)?;
    for session in 0..sessions {
        for from in (0..subscriptions).step_by(FILTERS_PER_PACKET) {
            let count = FILTERS_PER_PACKET.min(subscriptions - from);
            agent.subscribe(network, session, 0, &filters(session * subscriptions + from, count))?;
        }
    }
    let connect =
        Connect { version: VERSION, client_identifier: "another".to_owned(), is_clean: true, user: None };
    let what = format!("the end of {sessions} sessions with {} subscriptions each", grouped(subscriptions));
    Ok(Prepared::new(what, move |network, end| {
        (0..sessions).for_each(|session| network.close(session));
        network.open(0, &connect.encode())?;
        Crowd::default().wait(network, end, packets::CONNACK, 1)
    }))
}

/// From 16 bytes to a KiB, so that memory which is freed in sequence is not contiguous.
fn various_sizes() -> impl Iterator<Item = usize> {
    (0..64).map(|number| STAMP_BYTES + number * 37 % 64 * 16)
}

/// Client 0 publishes for client 1, which is disconnected and then starts a new session.
pub fn discarded_queue(network: &mut Network, effort: Effort) -> Result<Prepared, Fault> {
    let queued = effort.count(QUEUED);
    let mut agent = Agent::new(VERSION);
    agent.connect(network, 0, 1, true)?;
    agent.connect(network, 1, 1, false)?;
    agent.subscribe(network, 1, 1, &[QUEUE.to_owned()])?;
    network.close(1);
    publish(&mut agent, network, queued, various_sizes())?;
    let client_identifier = "bench-1".to_owned();
    let connect = Connect { version: VERSION, client_identifier, is_clean: true, user: None }.encode();
    let what = format!("Clean Start over {} queued messages", grouped(queued));
    Ok(Prepared::new(what, move |network, end| {
        network.open(1, &connect)?;
        Crowd::default().wait(network, end, packets::CONNACK, 1)
    }))
}

pub fn large_subscribe(network: &mut Network, effort: Effort) -> Result<Prepared, Fault> {
    let count = effort.count(SUBSCRIBED_AT_ONCE);
    Agent::new(VERSION).connect(network, 0, 1, true)?;
    let packet = packets::subscribe(VERSION, 0, &filters(0, count));
    let what = format!("one SUBSCRIBE of {} filters", grouped(count));
    Ok(Prepared::new(what, move |network, end| Crowd::default().send(network, 0, &packet, end)))
}

/// Most filters are not subscribed to if a session may have fewer subscriptions.
pub fn large_unsubscribe(network: &mut Network, effort: Effort) -> Result<Prepared, Fault> {
    let count = effort.count(UNSUBSCRIBED_AT_ONCE);
    Agent::new(VERSION).connect(network, 0, 1, true)?;
    let mut crowd = Crowd::default();
    for from in (0..count).step_by(FILTERS_PER_PACKET) {
        let packet = packets::subscribe(VERSION, 0, &filters(from, FILTERS_PER_PACKET.min(count - from)));
        if !crowd.send(network, 0, &packet, Instant::now() + PATIENCE)? {
            return Err("a SUBSCRIBE was not processed".to_owned());
        }
    }
    let packet = packets::unsubscribe(VERSION, &filters(0, count));
    let what = format!("one UNSUBSCRIBE of {} filters", grouped(count));
    Ok(Prepared::new(what, move |network, end| {
        network.send(0, |out| out.extend_from_slice(&packet));
        Crowd::default().wait(network, end, packets::UNSUBACK, 1)
    }))
}
