//! One session: what the standards call Session State, which outlives connections.
//!
//! It owns what has been promised to one Client Identifier: its subscriptions, the messages for it, the Packet
//! Identifiers of both directions, its Will. It sends nothing itself.

mod backlog;
mod directory;
mod incoming;
mod outgoing;
mod retained_copies;
mod retained_sends;
mod subscriptions;

use std::ops::Deref;
use std::rc::Rc;

use crate::base::memory::{self, Audit, Counted};
use crate::base::time::{Duration, Time};
use crate::core::listener::ListenerId;
use crate::core::message::{Message, Publisher};
use crate::core::slots::ConnectionId;
use crate::core::wheel::TimerId;
use crate::protocol::codec::PacketIdentifier;

pub use backlog::{Backlog, OpenBacklog, page_length};
pub use directory::Directory;
pub use incoming::Incoming;
pub use outgoing::{InFlight, Leftover, Outgoing, Queued, Settled, Stage};
pub use retained_copies::LostCopy;
pub use retained_sends::{RetainedSend, RetainedSends, Source};
pub use subscriptions::Subscriptions;

/// A Session Expiry Interval for which the session never expires [MQTT-3.1.2-23].
pub const EXPIRY_NEVER: u32 = u32::MAX;

/// Returns when a session ends if its client disconnects at `now`. The Session Expiry Interval is in seconds.
pub fn end_after(expiry_interval: u32, now: Time) -> Time {
    match expiry_interval {
        EXPIRY_NEVER => Time::NEVER,
        seconds => now + Duration::from_seconds(seconds.into()),
    }
}

/// Whether the client is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Connected by this connection.
    Connected(ConnectionId),
    /// Disconnected; the session ends at this time unless the client is back before.
    Away {
        /// When the session ends.
        ends: Time,
    },
    /// The session is over and about to be freed: it gets nothing more.
    Over,
}

/// Whether the client may receive everything that its subscriptions match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reading {
    /// All of it.
    #[default]
    Free,
    /// Each message must be asked about.
    Judged,
    /// Still to be determined, because the access rules may have changed.
    Unknown,
}

/// A Will Message, stored from the CONNECT on [MQTT-3.1.2-7].
#[derive(Clone, Debug)]
pub struct Will {
    /// The message. Its expiry interval begins when it is published, so the time in it is a span from zero.
    pub message: Message,
    /// The Will Delay Interval.
    pub delay: Duration,
    /// When it is due; known when the connection has ended.
    pub due: Time,
}

/// A User Name, in one word of the session because most have none.
#[derive(Clone, Debug)]
pub struct UserName(Rc<Box<str>>);

impl UserName {
    fn memory(&self) -> usize {
        memory::allocation(size_of::<Box<str>>() + 2 * size_of::<usize>()) + memory::allocation(self.0.len())
    }
}

impl From<&str> for UserName {
    fn from(name: &str) -> Self {
        Self(Rc::new(name.into()))
    }
}

impl Deref for UserName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

// Half a million disconnected clients pay for every byte here.
const _: () = assert!(size_of::<Session>() <= 104);

/// Session State.
#[derive(Debug)]
pub struct Session {
    /// The Client Identifier by which it is known [MQTT-3.1.3-2].
    pub client_identifier: Box<str>,
    /// The User Name that its client has given, if it has.
    pub user_name: Option<UserName>,
    /// Whether the name was proved, by a password, a certificate or a method: then the session belongs to it.
    pub is_proved: bool,
    /// The listener at which its client last connected.
    pub listener: ListenerId,
    /// Whether the client may receive everything that its subscriptions match.
    pub reading: Reading,
    /// Whether its client is connected.
    pub presence: Presence,
    /// The Session Expiry Interval in seconds; zero ends the session with its connection.
    pub expiry_interval: u32,
    /// Its subscriptions.
    pub subscriptions: Subscriptions,
    /// Messages for the client; made when the first one of QoS 1 or 2 comes.
    pub outgoing: Option<Box<Outgoing>>,
    /// The Packet Identifier with which the next `outgoing` begins. A client may answer late, and twice what it was
    /// sent twice; by then its answer must not name another message.
    pub next_identifier: Option<PacketIdentifier>,
    /// How many messages of QoS 1 and 2 the client takes at a time [MQTT-3.3.4-9].
    pub window: u16,
    /// QoS 2 messages from the client that have not been released.
    pub incoming: Incoming,
    /// The Will Message.
    pub will: Option<Box<Will>>,
    /// The memory of the session besides what its parts count themselves.
    pub counted: Counted,
    /// While connected, for the next redelivery. While disconnected, for the Will's delay or the end of the session.
    pub timer: Option<TimerId>,
}

impl Session {
    /// The connection of the client, if it is connected.
    pub const fn connection(&self) -> Option<ConnectionId> {
        match self.presence {
            Presence::Connected(connection) => Some(connection),
            Presence::Away { .. } | Presence::Over => None,
        }
    }

    /// Returns its client as the publisher of a message.
    pub fn publisher(&self) -> Publisher<'_> {
        Publisher {
            listener: self.listener,
            client_identifier: &self.client_identifier,
            user_name: self.user_name.as_deref(),
        }
    }

    /// Returns the messages for the client.
    pub fn outgoing_mut(&mut self) -> &mut Outgoing {
        let (window, next_identifier) = (self.window, self.next_identifier);
        self.outgoing.get_or_insert_with(|| {
            let mut outgoing = Box::new(Outgoing::default());
            outgoing.begin_at(next_identifier.unwrap_or(PacketIdentifier::FIRST));
            outgoing.resume(window);
            outgoing
        })
    }

    /// Begins a new connection, which takes this many messages of QoS 1 and 2 at a time.
    pub fn resume(&mut self, window: u16) {
        self.window = window;
        self.incoming.resume();
        if let Some(outgoing) = &mut self.outgoing {
            outgoing.resume(window);
        }
    }

    /// Releases what only messages need, if there are none.
    pub fn shrink(&mut self) {
        self.incoming.shrink();
        if let Some(outgoing) = self.outgoing.take_if(|outgoing| outgoing.is_idle()) {
            self.next_identifier = Some(outgoing.next_identifier());
        }
    }

    /// Counts the memory of the session: its Client Identifier, its User Name, its subscriptions, and its Will without
    /// the message.
    pub fn count(&mut self) {
        let names = memory::allocation(self.client_identifier.len())
            + self.user_name.as_ref().map_or(0, UserName::memory);
        let will = self.will.as_ref().map_or(0, |_| memory::allocation(size_of::<Will>()));
        self.counted.set(names + self.subscriptions.memory() + will);
    }

    /// Adds the memory that it holds besides its slot to an audit.
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
