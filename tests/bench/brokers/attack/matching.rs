//! Messages that match many subscriptions.

use super::{Crowd, Prepared, VERSION};
use crate::agent::Agent;
use crate::network::Network;
use crate::packets::{self, Fault};
use crate::scenarios::{Effort, grouped};

/// Levels of the filters, each of which is a literal or a wildcard.
const LEVELS: u32 = 16;
const LEVELS_OF_A_QUICK_RUN: u32 = 13;
/// Subscriptions that one client makes.
const SUBSCRIPTIONS_EACH: usize = 9_363;
const BYTES_OF_OVERLAPPING: usize = 200 * 1024;
const SUBSCRIBERS: usize = 2_000;
const BYTES_TO_MANY: usize = 250 * 1024;
/// Packet Identifiers that a burst cycles through.
const IDENTIFIERS: usize = 60_000;

/// All filters of this many levels which match `a/a/.../a`, half of which match `a/a/.../b`.
fn filters(levels: u32) -> Vec<String> {
    let level = |filter: usize, place| if filter >> place & 1 == 1 { "+" } else { "a" };
    let filter = |filter| (0..levels).map(|place| level(filter, place)).collect::<Vec<_>>().join("/");
    (0..1_usize << levels).map(filter).collect()
}

/// The subscribers do not read, so that only the broker has to work.
pub fn overlapping_filters(network: &mut Network, effort: Effort) -> Result<Prepared, Fault> {
    let levels = if effort.is_quick { LEVELS_OF_A_QUICK_RUN } else { LEVELS };
    let filters = filters(levels);
    let mut agent = Agent::new(VERSION);
    agent.connect(network, 0, 1 + filters.len().div_ceil(SUBSCRIPTIONS_EACH), true)?;
    for (number, filters) in filters.chunks(SUBSCRIPTIONS_EACH).enumerate() {
        agent.subscribe(network, 1 + number, 0, filters)?;
        network.stall(1 + number);
    }
    let levels = usize::try_from(levels).expect("there are few");
    let before_last = "a/".repeat(levels - 1);
    let pair = ["a", "b"].map(|last| packets::publish(VERSION, 0, &format!("{before_last}{last}"), &[]));
    let pair = pair.concat();
    let burst = pair.repeat(BYTES_OF_OVERLAPPING / pair.len());
    let what = format!("200 KB of QoS 0 for {} overlapping filters", grouped(filters.len()));
    Ok(Prepared::new(what, move |network, end| Crowd::default().send(network, 0, &burst, end)))
}

/// The subscribers do not read here either.
pub fn burst_to_many(network: &mut Network, effort: Effort) -> Result<Prepared, Fault> {
    const TOPIC: &str = "t";
    let subscribers = effort.count(SUBSCRIBERS);
    let mut agent = Agent::new(VERSION);
    agent.connect(network, 0, 1 + subscribers, true)?;
    agent.subscribe_each(network, 1, subscribers, 1, |_| TOPIC.to_owned())?;
    (1..=subscribers).for_each(|client| network.stall(client));
    let mut message = packets::publish(VERSION, 2, TOPIC, &[]);
    let identifier_at = message.len() - 3;
    let mut burst = Vec::with_capacity(BYTES_TO_MANY);
    for number in 0..BYTES_TO_MANY / message.len() {
        let identifier = u16::try_from(number % IDENTIFIERS).expect("it is below") + 1;
        message[identifier_at..identifier_at + 2].copy_from_slice(&identifier.to_be_bytes());
        burst.extend_from_slice(&message);
    }
    let what = format!("250 KB of empty QoS 1 messages for {} subscribers", grouped(subscribers));
    Ok(Prepared::new(what, move |network, end| Crowd::default().send(network, 0, &burst, end)))
}
