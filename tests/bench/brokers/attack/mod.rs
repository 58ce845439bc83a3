//! What a few clients can do to a broker that does not bound its work. Each attack is prepared completely, down to the
//! bytes, so that the attacker has little to do itself when it strikes.

mod matching;
mod retained;
mod sessions;
mod stored;

use std::time::{Duration, Instant};

use crate::broker::Storage;
use crate::bystander::Probe;
use crate::network::{Network, Receive, Then};
use crate::packets::{self, Fault, Packet, Version};
use crate::scenarios::Effort;

/// All clients of an attack use it.
const VERSION: Version = Version::V5;
/// How long a wait for packets lasts before the clock is checked.
const GLANCE: Duration = Duration::from_millis(100);

/// An attack on a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attack {
    /// Many filters match each message of a burst.
    OverlappingFilters,
    /// A burst of messages for many subscribers.
    BurstToMany,
    /// Many clients request many retained messages.
    RetainedCrowd,
    /// This many clients acknowledge a full window in one write, while more retained messages wait for them, which are
    /// few among many.
    AcknowledgedWindows(usize),
    /// Many SUBSCRIBE packets with a filter that matches few among many retained messages.
    ManySubscribes,
    /// Many clients with many such filters each.
    SparseFilters,
    /// A member of a large shared group disconnects and leaves what it has not acknowledged.
    DisconnectingMember,
    /// Sessions with many subscriptions each end at once.
    EndingSessions { sessions: usize, subscriptions: usize },
    /// A session with a long queue is discarded.
    DiscardedQueue,
    /// More has to be stored than the disk takes.
    FullJournal,
    /// A client returns for a fresh message after many stored ones that have expired.
    ExpiredBacklog,
    /// Many clients return for what was stored for them.
    ReturningClients,
    /// As many filters as one packet holds.
    LargeSubscribe,
    /// The same in an UNSUBSCRIBE.
    LargeUnsubscribe,
}

/// Runs the attack until it is over or the given moment has come; returns whether it is over.
pub type Strike = Box<dyn FnOnce(&mut Network, Instant) -> Result<bool, Fault> + Send>;

/// An attack that is ready.
pub struct Prepared {
    /// Its description, with its numbers.
    pub what: String,
    pub strike: Strike,
}

impl Prepared {
    fn new(
        what: String,
        strike: impl FnOnce(&mut Network, Instant) -> Result<bool, Fault> + Send + 'static,
    ) -> Self {
        Self { what, strike: Box::new(strike) }
    }
}

impl Attack {
    /// Prepares the attack, with a broker that holds nothing yet.
    pub fn prepare(self, network: &mut Network, effort: Effort) -> Result<Prepared, Fault> {
        match self {
            Self::OverlappingFilters => matching::overlapping_filters(network, effort),
            Self::BurstToMany => matching::burst_to_many(network, effort),
            Self::RetainedCrowd => retained::crowd(network, effort),
            Self::AcknowledgedWindows(clients) => retained::acknowledged(network, effort, clients),
            Self::ManySubscribes => retained::many_subscribes(network, effort),
            Self::SparseFilters => retained::sparse_filters(network, effort),
            Self::DisconnectingMember => sessions::disconnecting_member(network, effort),
            Self::EndingSessions { sessions, subscriptions } => {
                sessions::ending(network, sessions, effort.count(subscriptions))
            }
            Self::DiscardedQueue => sessions::discarded_queue(network, effort),
            Self::LargeSubscribe => sessions::large_subscribe(network, effort),
            Self::LargeUnsubscribe => sessions::large_unsubscribe(network, effort),
            Self::FullJournal => stored::full_journal(network, effort),
            Self::ExpiredBacklog => stored::expired_backlog(network, effort),
            Self::ReturningClients => stored::returning_clients(network, effort),
        }
    }

    /// Where the broker is to store its state.
    pub const fn storage(self) -> Storage {
        match self {
            Self::FullJournal | Self::ExpiredBacklog | Self::ReturningClients => Storage::Disk,
            _ => Storage::Memory,
        }
    }

    /// The configuration that the broker needs, in mosquitto's format.
    pub const fn lines(self) -> &'static str {
        match self {
            Self::EndingSessions { sessions: 1, .. } => "max_subscriptions 1000000\n",
            Self::DiscardedQueue | Self::FullJournal | Self::ExpiredBacklog | Self::ReturningClients => {
                "max_queued_messages 0\nmax_queued_bytes 0\n"
            }
            _ => "",
        }
    }

    /// The round trips of the bystanders. With a full journal, messages to be stored may wait for the disk.
    pub const fn probes(self) -> &'static [Probe] {
        match self {
            Self::FullJournal => &[Probe::Ping, Probe::ToItself],
            Self::ExpiredBacklog | Self::ReturningClients => &[Probe::Ping, Probe::ToItself, Probe::Stored],
            _ => &[Probe::Ping],
        }
    }

    /// How long it is watched, if it is not over before.
    pub const fn time_maximum(self) -> Duration {
        match self {
            // How long the client waits for the fresh message matters here as well.
            Self::ExpiredBacklog => Duration::from_secs(30),
            _ => Duration::from_secs(10),
        }
    }
}

/// The attacking clients, which count the packets that come, whatever their contents.
#[derive(Debug, Default)]
struct Crowd {
    /// By packet type.
    came: [usize; 16],
    /// Whether messages of QoS 1 are acknowledged.
    acknowledges: bool,
}

impl Receive for Crowd {
    fn packet(&mut self, _client: usize, packet: Packet<'_>, out: &mut Vec<u8>) -> Result<Then, Fault> {
        let kind = packet.kind();
        self.came[usize::from(kind)] += 1;
        if kind == packets::PUBLISH && self.acknowledges {
            let delivery = packet.delivery(VERSION)?;
            if delivery.qos == 1 {
                packets::acknowledge(out, packets::PUBACK, delivery.identifier);
            }
        }
        Ok(Then::GoOn)
    }
}

impl Crowd {
    const fn acknowledging() -> Self {
        Self { came: [0; 16], acknowledges: true }
    }

    /// Handles what comes until this many packets of a type have come, which returns true, or the moment has.
    fn wait(&mut self, network: &mut Network, end: Instant, kind: u8, count: usize) -> Result<bool, Fault> {
        let kind = usize::from(kind);
        wait_until(network, end, self, |crowd| crowd.came[kind] >= count)
    }

    /// Sends `bytes` as one client and waits until all of it is processed, which the answer to a PINGREQ after it
    /// shows.
    fn send(
        &mut self,
        network: &mut Network,
        client: usize,
        bytes: &[u8],
        end: Instant,
    ) -> Result<bool, Fault> {
        let answered = self.came[usize::from(packets::PINGRESP)];
        network.send(client, |out| {
            out.extend_from_slice(bytes);
            out.extend_from_slice(&packets::PINGREQ);
        });
        self.wait(network, end, packets::PINGRESP, answered + 1)
    }
}

/// Handles what comes until it is over, which returns true, or until the moment has come.
fn wait_until<R: Receive>(
    network: &mut Network,
    end: Instant,
    receiver: &mut R,
    is_over: impl Fn(&R) -> bool,
) -> Result<bool, Fault> {
    while !is_over(receiver) {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        network.turn(left.min(GLANCE), receiver)?;
    }
    Ok(true)
}

/// A client's number as part of a message.
fn small(number: usize) -> u32 {
    u32::try_from(number).expect("there are few of them")
}
