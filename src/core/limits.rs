//! Every limit of the broker as a plain number, with what happens at it. A limit is checked before anything is
//! allocated for what lies beyond it.

use crate::base::time::Duration;

/// Payloads up to this many bytes are copied into each outbox; larger ones are referenced there.
pub const COPIED_PAYLOAD_MAXIMUM: usize = 2_048;

/// How many bytes a link may copy from its outbox ahead of what its socket takes, to encrypt them.
pub const COPIED_AHEAD_MAXIMUM: usize = 64 * 1024;
/// Like [`COPIED_AHEAD_MAXIMUM`] when memory runs short, since what many links share is copied for each of them.
pub const COPIED_AHEAD_MINIMUM: usize = 4 * 1024;

/// The most outbound Topic Aliases of one connection, whatever its client allows.
pub const OUTBOUND_TOPIC_ALIAS_MAXIMUM: u16 = 32;

/// The most QoS 1 and 2 messages in flight to one client, whatever it and the configuration allow. With twice as many
/// there are still Packet Identifiers left, so messages that are never answered are worked around in a few steps per
/// message.
pub const IN_FLIGHT_MAXIMUM: u16 = 16_384;

/// Why something is refused for which memory is short.
pub const LITTLE_MEMORY: &str = "there is too little memory (memory_limit)";

/// How many retained topics one call examines when it looks for expired ones.
pub const RETAINED_EXAMINED_PER_CALL: usize = 1_024;

/// The most bytes for the cached subscribers of recent topics. Beyond: other topics are dropped from the cache.
pub const MATCHES_MEMORY_MAXIMUM: usize = 512 * 1024;

/// The limits that a deployment may set. [`Limits::default`] is what an unconfigured broker uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Steps of work in one turn, each about a tenth of a microsecond. Beyond: the rest continues in the next turn, see
    /// `broker/turn.rs`.
    pub steps_per_turn: usize,
    /// Bytes of memory that the broker may hold in all, as it counts them itself. What it gives up as they run out, and
    /// in which order, is documented in `broker/budget.rs`. `None` for no limit.
    pub memory: Option<usize>,
    /// The largest packet before a CONNECT was accepted, in bytes: any of its fields may be as long as the standards
    /// allow. Larger: the connection ends.
    pub connect_packet_size: usize,
    /// The largest packet from a connected client, in bytes. Larger: 0x95 and the connection ends.
    pub packet_size: usize,
    /// The largest payload of a message, in bytes. Larger: the message is refused and the connection stays. Its sender
    /// is answered 0x97 if it is a QoS 1 or 2 PUBLISH of 5.0. A Will ends the connection with 0x95.
    pub payload_size: usize,
    /// Connections at one time. Beyond: the newest is refused with 0x97.
    pub connections: usize,
    /// Sessions at one time, connected or not. Beyond: a CONNECT that needs a new one is refused with 0x97.
    pub sessions: usize,
    /// Bytes in one outbox. Beyond: QoS 0 messages for it are dropped and counted, QoS 1 and 2 messages wait in the
    /// session's queue.
    pub outbox_bytes: usize,
    /// Bytes of answers in one outbox beyond `outbox_bytes`. Beyond: nothing more is read from that peer until it has
    /// read.
    pub outbox_answer_bytes: usize,
    /// The number of bytes in an outbox below which it is refilled from the session's queue.
    pub outbox_refill_bytes: usize,
    /// Messages in one session's queue. Beyond: the newest is dropped and counted. While the client is connected, this
    /// applies only from `burst_bytes` on.
    pub queue_length: usize,
    /// Bytes in the queue of a connected client up to which its messages are not counted. A client that reads falls
    /// behind in a burst now and then, as with QoS 0 in its outbox; a thousand small messages are no backlog.
    pub burst_bytes: usize,
    /// Bytes of the messages in one session's queue. Beyond: the newest is dropped and counted.
    pub queue_bytes: usize,
    /// QoS 1 and 2 messages in flight to a client that states no Receive Maximum, and the most to any client. Never
    /// more than [`IN_FLIGHT_MAXIMUM`].
    pub in_flight: u16,
    /// The Receive Maximum reported to 5.0 clients, but not to bridges of this broker. Beyond: 0x93 and the connection
    /// ends. Messages of earlier connections that are not released come on top.
    pub receive_maximum: u16,
    /// The Topic Alias Maximum reported to 5.0 clients. Beyond: 0x94 and the connection ends.
    pub topic_alias_maximum: u16,
    /// Subscriptions of one session (`max_subscriptions`). Beyond: the filter is refused with 0x97. A session keeps the
    /// subscriptions that it has from an earlier run or an import.
    pub subscriptions_per_session: usize,
    /// Subscriptions of one session that count for a message (`max_matching_subscriptions`). Beyond: the session gets
    /// the message at the highest QoS of all of them, but without the identifiers of the surplus ones, which are
    /// counted.
    pub matches_per_session: usize,
    /// Subscriptions of all sessions. Beyond: the filter is refused with 0x97.
    pub subscriptions: usize,
    /// Retained messages. Beyond: the message of a new topic is delivered but not retained; a QoS 1 or 2 PUBLISH of 5.0
    /// is answered 0x97.
    pub retained_count: usize,
    /// Bytes of all retained messages. Beyond: as for `retained_count`.
    pub retained_bytes: usize,
    /// The longest Session Expiry Interval that is granted, in seconds; `u32::MAX` means for ever.
    pub session_expiry_maximum: u32,
    /// The longest Keep Alive that is granted, in seconds. Beyond: a 5.0 client is told by Server Keep Alive; others
    /// cannot be told and are refused. Zero, which asks for no Keep Alive, is granted only if this is `u16::MAX`.
    pub keep_alive_maximum: u16,
    /// The time for a client to be accepted, which includes its CONNECT and the answers of an extended authentication.
    pub connect_timeout: Duration,
    /// The time for which `connect_timeout` stands still while a client that is not accepted yet waits for the broker.
    /// Beyond: the client is told that the server is busy (0x89, return code 3 before 5.0).
    pub admission_wait: Duration,
    /// The time for a peer to close after the broker's last packet.
    pub linger: Duration,
    /// The first pause before an unacknowledged message is sent again on a live 3.1 or 3.1.1 connection. Only the
    /// oldest is, this long after the client's latest acknowledgement; the pause doubles each time. Zero turns it off.
    pub retry_interval: Duration,
}

/// The limits of one session's queue: see [`Limits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// Messages, from `burst_bytes` on if the client is connected.
    pub length: usize,
    /// Bytes of a connected client's queue up to which its messages are not counted.
    pub burst_bytes: usize,
    /// Bytes of the messages.
    pub bytes: usize,
}

impl Limits {
    /// The limits of a session's queue.
    pub const fn queue(&self) -> QueueLimits {
        QueueLimits { length: self.queue_length, burst_bytes: self.burst_bytes, bytes: self.queue_bytes }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            steps_per_turn: 32_768,
            memory: None,
            connect_packet_size: 128 * 1024,
            packet_size: 2_000_000,
            payload_size: usize::MAX,
            connections: 1_000_000,
            sessions: 1_000_000,
            outbox_bytes: 4 * 1024 * 1024,
            outbox_answer_bytes: 64 * 1024,
            outbox_refill_bytes: 256 * 1024,
            queue_length: 1_000,
            burst_bytes: 4 * 1024 * 1024,
            queue_bytes: 16 * 1024 * 1024,
            in_flight: 512,
            receive_maximum: 1_024,
            topic_alias_maximum: 10,
            subscriptions_per_session: 10_000,
            matches_per_session: 1_000,
            subscriptions: 4_000_000,
            retained_count: 1_000_000,
            retained_bytes: 1024 * 1024 * 1024,
            session_expiry_maximum: u32::MAX,
            keep_alive_maximum: u16::MAX,
            connect_timeout: Duration::from_seconds(10),
            admission_wait: Duration::from_seconds(60),
            linger: Duration::from_seconds(2),
            retry_interval: Duration::from_seconds(20),
        }
    }
}
