//! One session: what the standards call Session State, which outlives connections.
//!
//! Owns what has been promised to one Client Identifier: its subscriptions, the messages on their way to it, the
//! Packet Identifiers of both directions, its Will. Sends nothing itself.

mod incoming;
mod outgoing;
mod replays;

use std::collections::BTreeSet;
use std::rc::Rc;

use crate::memory::{self, Audit, Counted};
use crate::message::Message;
use crate::settings::ListenerId;
use crate::slots::ConnectionId;
use crate::subscription::Held;
use crate::time::{Duration, Time};
use crate::wheel::TimerId;

pub use incoming::Incoming;
pub use outgoing::{InFlight, Outgoing, QueueFull, Queued, Settled, Stage};
pub use replays::{Replay, Replays};

/// The smallest node of a set of subscriptions, and what one more takes in nodes two thirds full.
const SET_NODE_BYTES: usize = 112;
const SET_ENTRY_BYTES: usize = 14;
/// What the directory from Client Identifier to session takes for one.
const DIRECTORY_ENTRY_BYTES: usize = 40;

/// A Session Expiry Interval that never ends [MQTT-3.1.2-23].
pub const EXPIRY_NEVER: u32 = u32::MAX;

/// Whether the client is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Connected by this connection.
    Connected(ConnectionId),
    /// Not connected; the session ends at this time, unless the client is back before.
    Away {
        /// When the session ends.
        ends: Time,
    },
}

/// A Will Message, kept from the CONNECT on [MQTT-3.1.2-7].
#[derive(Clone, Debug)]
pub struct Will {
    /// The message. Its expiry begins when it is published, so the time in it is a span from zero.
    pub message: Message,
    /// The Will Delay Interval.
    pub delay: Duration,
    /// When it is due; known once the connection is gone.
    pub due: Time,
}

/// Session State.
#[derive(Debug)]
pub struct Session {
    /// The Client Identifier that it is known by [MQTT-3.1.3-2].
    pub client_identifier: Rc<str>,
    /// The authenticated User Name, if there is one.
    pub user_name: Option<Rc<str>>,
    /// The listener that its client came in by last.
    pub listener: ListenerId,
    /// Whether its client is connected.
    pub presence: Presence,
    /// The Session Expiry Interval in seconds; zero ends the session with its connection.
    pub expiry_interval: u32,
    /// Its subscriptions.
    pub subscriptions: BTreeSet<Held>,
    /// Messages on their way to the client; made when the first of QoS 1 or 2 comes.
    pub outgoing: Option<Box<Outgoing>>,
    /// QoS 2 messages on their way from the client.
    pub incoming: Incoming,
    /// The Will Message.
    pub will: Option<Box<Will>>,
    /// What the session takes beside what its parts count themselves.
    pub counted: Counted,
    /// While connected: the next redelivery. While away: the Will's delay or the end of the session.
    pub timer: Option<TimerId>,
}

impl Session {
    /// The connection of the client, if it is there.
    pub const fn connection(&self) -> Option<ConnectionId> {
        match self.presence {
            Presence::Connected(connection) => Some(connection),
            Presence::Away { .. } => None,
        }
    }

    /// What is on its way to the client.
    pub fn outgoing_mut(&mut self) -> &mut Outgoing {
        self.outgoing.get_or_insert_default()
    }

    /// Tells how much memory the session takes: its Client Identifier and the way to it, its subscriptions, its
    /// Will beside the message.
    pub fn count(&mut self) {
        let names = memory::allocation(self.client_identifier.len() + 2 * size_of::<usize>())
            + self
                .user_name
                .as_ref()
                .map_or(0, |name| memory::allocation(name.len() + 2 * size_of::<usize>()));
        let subscriptions = match self.subscriptions.len() {
            0 => 0,
            count => SET_NODE_BYTES + count * SET_ENTRY_BYTES,
        };
        let will = self.will.as_ref().map_or(0, |_| memory::allocation(size_of::<Will>()));
        self.counted.set(names + DIRECTORY_ENTRY_BYTES + subscriptions + will);
    }

    /// Adds what it takes beside its slot to an audit.
    pub fn audit(&self, audit: &mut Audit) {
        audit.add(self.counted.bytes() + self.incoming.memory());
        if let Some(will) = &self.will {
            will.message.audit(audit);
        }
        if let Some(outgoing) = &self.outgoing {
            outgoing.audit(audit);
        }
    }

    /// Asserts what must hold between calls.
    pub fn check_invariants(&self) {
        if let Some(outgoing) = &self.outgoing {
            outgoing.check_invariants();
        }
        self.incoming.check_invariants();
    }
}
