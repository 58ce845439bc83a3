//! The settings of a bridge: a connection of this broker to another one, and the topics that it forwards.

use core::net::IpAddr;

use super::{ClientTls, RemoteAddress};
use crate::base::time::Duration;
use crate::protocol::codec::{ProtocolVersion, QoS};

/// For how many topics changes of retained messages are remembered by default.
const RETAINED_CHANGES: usize = 10_000;

/// A bridge (`connection`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    /// Where it was configured, as `file:line`, for messages.
    pub place: String,
    /// Its name (`connection`).
    pub name: Box<str>,
    /// The other broker's addresses, in the order in which they are tried; at least one (`address`).
    pub addresses: Vec<RemoteAddress>,
    /// Whether the bridge stays at the address that answered; otherwise, the first address is preferred and tried again
    /// while the bridge is at another one (`round_robin`).
    pub is_round_robin: bool,
    /// The local address to connect from (`bridge_bind_address`).
    pub from: Option<IpAddr>,
    /// What is forwarded, in the order of the configuration (`topic`).
    pub topics: Vec<BridgeTopic>,
    /// The client at the other broker.
    pub remote: Remote,
    /// The session in this broker.
    pub local: Local,
    /// How the state of the connection is published (`notifications`); `None` if it is not.
    pub notifications: Option<Notifications>,
    /// When the bridge connects (`start_type`).
    pub start: Start,
    /// How long it waits before it connects again (`restart_timeout`).
    pub restart: Restart,
    /// When a reload applies a change (`bridge_reload_type`).
    pub reload: Reload,
    /// TLS, if the other broker speaks it.
    pub tls: Option<ClientTls>,
    /// TCP keepalive probes (`bridge_tcp_keepalive`): seconds of silence before the first, seconds between two, and
    /// how many.
    pub tcp_keepalive: Option<[u32; 3]>,
    /// How long sent bytes may stay unacknowledged by the peer's TCP (`bridge_tcp_user_timeout`), by default as long as
    /// the Keep Alive; `None` leaves it to the system.
    pub tcp_user_timeout: Option<Duration>,
    /// The limits of its queue.
    pub queue: BridgeQueue,
}

impl Bridge {
    /// The beginning of all [names](Bridge::stored_name) under which bridges are stored.
    pub const STORED_NAME_BEGINS: &str = "bridge ";

    /// A bridge of this name, configured at this place, for which nothing else is configured yet.
    pub fn unset(name: &str, place: String) -> Self {
        Self {
            place,
            name: name.into(),
            addresses: Vec::new(),
            is_round_robin: false,
            from: None,
            topics: Vec::new(),
            remote: Remote {
                client_identifier: Box::default(),
                user_name: None,
                password: None,
                version: ProtocolVersion::V311,
                tries_private: true,
                is_clean: false,
                session_expiry: u32::MAX,
                keep_alive: 0,
                packet_size: None,
                receive_maximum: 0,
                topic_alias_maximum: 10,
                forwards_retain: true,
                unsubscribes: true,
            },
            local: Local {
                client_identifier: Box::default(),
                user_name: None,
                password: None,
                is_clean: false,
            },
            notifications: None,
            start: Start::Automatic,
            restart: Restart { least: Duration::ZERO, most: Duration::ZERO, stable: Duration::ZERO },
            reload: Reload::Lazy,
            tls: None,
            tcp_keepalive: None,
            tcp_user_timeout: None,
            queue: BridgeQueue {
                length: None,
                drops: QueueDrop::Newest,
                age: None,
                rate: None,
                retained_changes: RETAINED_CHANGES,
            },
        }
    }

    /// The name under which its session and its messages are stored, as if it were a listener.
    pub fn stored_name(&self) -> String {
        format!("{}{}", Self::STORED_NAME_BEGINS, self.name)
    }

    /// Whether two bridges have the same settings, wherever they are configured.
    pub fn has_settings_of(&self, other: &Self) -> bool {
        let unplaced = |bridge: &Self| {
            let mut bridge = bridge.clone();
            bridge.place.clear();
            bridge.tls.iter_mut().for_each(|tls| tls.trust.place.clear());
            bridge
        };
        unplaced(self) == unplaced(other)
    }
}

/// A rule for topics (`topic`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeTopic {
    /// The filter, without prefixes. Empty for one topic with different names, which the prefixes are.
    pub pattern: Box<str>,
    /// Which way messages go.
    pub direction: Direction,
    /// The highest QoS at which they are forwarded.
    pub qos: QoS,
    /// The prefix of the topics in this broker; may be empty.
    pub local_prefix: Box<str>,
    /// The prefix of the topics in the other broker; may be empty.
    pub remote_prefix: Box<str>,
}

/// Which way the messages of a rule go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the other broker.
    Out,
    /// From the other broker.
    In,
    /// Both ways.
    Both,
}

impl Direction {
    /// Whether messages go to the other broker.
    pub const fn is_out(self) -> bool {
        matches!(self, Self::Out | Self::Both)
    }

    /// Whether messages come from the other broker.
    pub const fn is_in(self) -> bool {
        matches!(self, Self::In | Self::Both)
    }
}

/// The client that a bridge is at the other broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// The Client Identifier (`remote_clientid`), by default `HOSTNAME.NAME`.
    pub client_identifier: Box<str>,
    /// The User Name (`remote_username`).
    pub user_name: Option<Box<str>>,
    /// The password (`remote_password`).
    pub password: Option<Box<str>>,
    /// The version of MQTT (`bridge_protocol_version`).
    pub version: ProtocolVersion,
    /// Whether the other broker is told that this is a bridge, in MQTT 3.1 and 3.1.1 (`try_private`).
    pub tries_private: bool,
    /// Whether each connection begins with a new session (`cleansession`).
    pub is_clean: bool,
    /// How long the session outlasts a connection in MQTT 5.0, in seconds (`bridge_session_expiry_interval`); the
    /// maximum means for ever. By default for ever, or not at all if each connection begins with a new session.
    pub session_expiry: u32,
    /// Keep Alive in seconds (`keepalive_interval`), at least 5.
    pub keep_alive: u16,
    /// The largest packet sent to the other broker, in bytes (`bridge_max_packet_size`); `None` for any that it accepts.
    pub packet_size: Option<u32>,
    /// The Receive Maximum that the other broker is told (`bridge_receive_maximum`), by default that of this broker.
    pub receive_maximum: u16,
    /// The Topic Alias Maximum that the other broker is told (`bridge_max_topic_alias`).
    pub topic_alias_maximum: u16,
    /// Whether messages are forwarded with their RETAIN flag (`bridge_outgoing_retain`).
    pub forwards_retain: bool,
    /// Whether topics that are only forwarded to the other broker are unsubscribed there, since an earlier configuration
    /// may have subscribed to them (`bridge_attempt_unsubscribe`).
    pub unsubscribes: bool,
}

/// The session of a bridge in this broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// The Client Identifier (`local_clientid`), by default `local.` and that of the remote client.
    pub client_identifier: Box<str>,
    /// The User Name whose rights it has (`local_username`); with `None`, access rules do not apply.
    pub user_name: Option<Box<str>>,
    /// The password (`local_password`).
    pub password: Option<Box<str>>,
    /// Whether messages are dropped while the bridge is not connected (`local_cleansession`).
    pub is_clean: bool,
}

/// How the state of a bridge is published: retained, `1` while it is connected and `0` otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notifications {
    /// The topic (`notification_topic`), by default `$SYS/broker/connection/REMOTE_CLIENTID/state`.
    pub topic: Box<str>,
    /// Whether it is published only in this broker (`notifications_local_only`).
    pub is_local_only: bool,
}

/// When a bridge connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the start, and again whenever the connection ends.
    Automatic,
    /// Once so many messages wait (`threshold`), until nothing was forwarded for so long (`idle_timeout`).
    Lazy {
        /// The number of messages, at least one.
        threshold: usize,
        /// How long nothing was forwarded.
        idle: Duration,
    },
    /// At the start, and not again after the connection has ended.
    Once,
}

/// How long a bridge waits before it connects again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restart {
    /// The shortest wait.
    pub least: Duration,
    /// The longest wait. Between the two, the wait grows with each failure, with jitter. If they are equal, the wait is
    /// always the same.
    pub most: Duration,
    /// How long a connection must have lasted until the next wait is the shortest again.
    pub stable: Duration,
}

/// When a reload applies a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// With the next connection.
    Lazy,
    /// At once: the connection is closed and opened again.
    Immediate,
}

/// The limits of a bridge's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BridgeQueue {
    /// The most messages (`bridge_max_queued_messages`); `None` for the limit of clients.
    pub length: Option<usize>,
    /// Which message is dropped when the queue is full (`bridge_queue_drop`).
    pub drops: QueueDrop,
    /// Messages that have waited longer are dropped (`bridge_max_age`); `None` if none are.
    pub age: Option<Duration>,
    /// The most messages sent per second (`bridge_drain_rate`); `None` for no limit.
    pub rate: Option<u32>,
    /// How many topics whose retained message changes while the bridge is away are remembered
    /// (`bridge_max_retained_changes`). Beyond it, all retained messages are sent again.
    pub retained_changes: usize,
}

/// Which message is dropped when a queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueDrop {
    /// The one that has waited longest.
    Oldest,
    /// The one that would be added.
    Newest,
}
