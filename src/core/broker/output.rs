//! What leaves for clients, and what has been counted.

use super::send::Sender;
use crate::protocol::codec::PropertyBuffer;

/// The way out.
pub(super) struct Output {
    pub(super) sender: Sender,
    pub(super) statistics: Statistics,
    pub(super) buffers: Buffers,
}

/// Memory that is used again for one message after the other.
#[derive(Default)]
pub(super) struct Buffers {
    /// Properties of a message, as they are forwarded.
    pub(super) forwarded: PropertyBuffer,
    /// The topic that a message named by an alias.
    pub(super) aliased_topic: String,
}

impl Output {
    pub(super) fn new() -> Self {
        Self { sender: Sender::new(), statistics: Statistics::default(), buffers: Buffers::default() }
    }
}

/// What has gone one way since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes that sockets gave or took.
    pub bytes: u64,
    /// PUBLISH packets: those that came, or were queued for clients, those sent again included.
    pub publishes: u64,
    /// Bytes of the Application Messages in them.
    pub publish_bytes: u64,
}

impl Traffic {
    /// So many PUBLISH packets with so many bytes of Application Messages.
    #[inline]
    pub(super) const fn count(&mut self, publishes: usize, bytes: usize) {
        self.publishes += publishes as u64;
        self.publish_bytes += bytes as u64;
    }
}

/// What has been counted since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// What came.
    pub received: Traffic,
    /// What left.
    pub sent: Traffic,
    /// Packets that came and were processed.
    pub packets_received: u64,
    /// Copies of messages dropped because an outbox or a queue was full.
    pub dropped: u64,
    /// Copies not sent because the client does not accept packets of that size [MQTT-3.1.2-25].
    pub oversized: u64,
    /// Copies dropped because their Message Expiry Interval passed [MQTT-3.3.2-5].
    pub expired: u64,
    /// Copies that were not delivered because they are missing in the store, or damaged.
    pub missing: u64,
    /// PUBLISH and PUBREL packets sent again.
    pub redelivered: u64,
    /// Connections, subscriptions and messages refused because a limit was reached, with 0x97 where the version can say
    /// it; connections are also refused with 0x89 if there was no time for them.
    pub refused: u64,
    /// Subscriptions that matched a message beside as many others of their session as
    /// [`Limits`](crate::core::limits::Limits) lets count.
    pub surplus_matches: u64,
    /// Connections that were accepted.
    pub accepted: u64,
    /// CONNECT packets that came.
    pub connects: u64,
    /// Sessions that ended because their client stayed away too long.
    pub sessions_expired: u64,
}
