//! What the core knows of the listener that a client came in by.

use crate::core::limits::{Limits, OUTBOUND_TOPIC_ALIAS_MAXIMUM};
use crate::protocol::codec::QoS;

/// One of the listeners that there are or were, by its place in the settings at the start or when it came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListenerId(pub u16);

impl ListenerId {
    /// Stands for a listener of which nothing is known any more.
    pub const UNKNOWN: Self = Self(u16::MAX);
}

/// What the core asks of the clients of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerOptions {
    /// Versions that are spoken (`accept_protocol_versions`), by whether 3.1, 3.1.1 and 5.0 are.
    pub versions: [bool; 3],
    /// The highest QoS that clients may publish with and subscribe at (`max_qos`).
    pub maximum_qos: QoS,
    /// Largest packet in bytes, where it is less than the whole broker's (`max_packet_size`).
    pub packet_size: usize,
    /// Longest Keep Alive in seconds (`max_keepalive`); what happens beyond stands in [`Limits`].
    pub keep_alive_maximum: u16,
    /// The Topic Alias Maximum told to 5.0 clients (`max_topic_alias`).
    pub topic_alias_maximum: u16,
    /// Topic Aliases that one client is sent, if it accepts as many (`max_topic_alias_broker`).
    pub outbound_topic_alias_maximum: u16,
    /// What is put in front of every topic of these clients, and taken off again (`mount_point`).
    pub mount_point: Option<Box<str>>,
    /// Whether clients may leave their Client Identifier to the broker (`allow_zero_length_clientid`).
    pub allows_empty_client_identifier: bool,
    /// What such a Client Identifier begins with (`auto_id_prefix`).
    pub auto_id_prefix: Box<str>,
    /// Whether the User Name takes the place of the Client Identifier (`use_username_as_clientid`).
    pub user_name_is_client_identifier: bool,
    /// What Client Identifiers must begin with, one of these (`clientid_prefixes`); any, if there are none.
    pub client_identifier_prefixes: Vec<Box<str>>,
    /// Where the User Name comes from.
    pub user_name: UserNameSource,
}

impl ListenerOptions {
    /// What is asked of clients where the operator has said nothing: only what holds for the whole broker.
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
        }
    }
}

/// Where the User Name comes from.
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
