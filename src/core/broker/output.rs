//! What leaves for clients, and what has been counted.

use super::send::Sender;

/// The way out.
pub(super) struct Output {
    pub(super) sender: Sender,
    pub(super) statistics: Statistics,
}

impl Output {
    pub(super) fn new() -> Self {
        Self { sender: Sender::new(), statistics: Statistics::default() }
    }
}

/// What has been counted since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Bytes that came.
    pub bytes_received: u64,
    /// Bytes that left.
    pub bytes_sent: u64,
    /// Packets that came and were worked off.
    pub packets_received: u64,
    /// PUBLISH packets that came.
    pub publishes_received: u64,
    /// PUBLISH packets queued for clients, those sent again included.
    pub publishes_sent: u64,
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
    /// Subscriptions that matched a message beside [`Limits::matches_per_session`] others of their session.
    pub surplus_matches: u64,
    /// Bytes of the Application Messages in `publishes_received`.
    pub publish_bytes_received: u64,
    /// Bytes of the Application Messages in `publishes_sent`.
    pub publish_bytes_sent: u64,
    /// Connections that were accepted.
    pub accepted: u64,
    /// CONNECT packets that came.
    pub connects: u64,
    /// Sessions that ended because their client stayed away too long.
    pub sessions_expired: u64,
}
