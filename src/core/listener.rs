//! Listeners, as far as the core knows them.

use crate::base::time::Duration;
use crate::core::limits::{Limits, OUTBOUND_TOPIC_ALIAS_MAXIMUM};
use crate::protocol::codec::QoS;

/// A present or former listener, by its position in the settings at the start, or by the order in which it was added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListenerId(pub u16);

impl ListenerId {
    /// A listener of which nothing is known any longer.
    pub const UNKNOWN: Self = Self(u16::MAX);
}

/// The options of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerOptions {
    /// Which versions are accepted (`accept_protocol_versions`): 3.1, 3.1.1 and 5.0.
    pub versions: [bool; 3],
    /// The highest QoS with which clients may publish and subscribe (`max_qos`).
    pub maximum_qos: QoS,
    /// The largest packet in bytes, where it is less than the whole broker's (`max_packet_size`).
    pub packet_size: usize,
    /// The longest Keep Alive in seconds (`max_keepalive`); for what happens beyond it, see [`Limits`].
    pub keep_alive_maximum: u16,
    /// The Topic Alias Maximum reported to 5.0 clients (`max_topic_alias`).
    pub topic_alias_maximum: u16,
    /// How many Topic Aliases one client is sent, if it accepts that many (`max_topic_alias_broker`).
    pub outbound_topic_alias_maximum: u16,
    /// The prefix that is added to every topic of these clients, and removed again (`mount_point`).
    pub mount_point: Option<Box<str>>,
    /// Whether clients may leave the choice of their Client Identifier to the broker (`allow_zero_length_clientid`).
    pub allows_empty_client_identifier: bool,
    /// The prefix of Client Identifiers that the broker assigns (`auto_id_prefix`).
    pub auto_id_prefix: Box<str>,
    /// Whether the User Name replaces the Client Identifier (`use_username_as_clientid`).
    pub user_name_is_client_identifier: bool,
    /// Client Identifiers must have one of these prefixes (`clientid_prefixes`); if there are none, any is accepted.
    pub client_identifier_prefixes: Vec<Box<str>>,
    /// Where the User Name comes from.
    pub user_name: UserNameSource,
    /// The limits of the queues of these clients, where they are not those of the whole broker.
    pub queue: Option<QueueOptions>,
}

/// The limits of a queue, for the bridges of this broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueOptions {
    /// The most messages; `None` for the limit of the whole broker.
    pub length: Option<usize>,
    /// Whether a new message takes the place of the oldest one when the queue is full; otherwise, it is dropped itself.
    pub drops_oldest: bool,
    /// How long a message waits at most before it is dropped; `None` for any time.
    pub age: Option<Duration>,
}

impl ListenerOptions {
    /// Returns the options where the operator has set none: only the limits of the whole broker apply.
    pub fn within(limits: &Limits) -> Self {
        Self {
            versions: [true; 3],
            maximum_qos: QoS::ExactlyOnce,
            packet_size: limits.packet_size,
            keep_alive_maximum: limits.keep_alive_maximum,
            topic_alias_maximum: limits.topic_alias_maximum,
            outbound_topic_alias_maximum: OUTBOUND_TOPIC_ALIAS_MAXIMUM,
            mount_point: None,
            allows_empty_client_identifier: true,
            auto_id_prefix: "auto-".into(),
            user_name_is_client_identifier: false,
            client_identifier_prefixes: Vec::new(),
            user_name: UserNameSource::Connect,
            queue: None,
        }
    }
}

/// The source of User Names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UserNameSource {
    /// The CONNECT, with a password.
    #[default]
    Connect,
    /// The Common Name of the client's certificate (`use_identity_as_username`).
    CommonName,
    /// The whole subject of the client's certificate (`use_subject_as_username`).
    Subject,
}
