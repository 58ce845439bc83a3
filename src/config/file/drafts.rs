//! What has been said so far, while statements are read: nothing is filled in yet.

use crate::base::time::Duration;
use crate::core::limits::OUTBOUND_TOPIC_ALIAS_MAXIMUM;
use crate::protocol::codec::QoS;
use crate::protocol::proxy::Proxy;
use crate::settings::{Durability, Family, LogDestination, LogKinds, Network, OnDamage};

use super::Place;

/// What the command line and the environment say beside the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// Ports on the loopback addresses, for a configuration without listeners.
    pub ports: Vec<u16>,
    /// How much is logged, whatever the file says.
    pub verbosity: Verbosity,
    /// Bytes that clients and messages may take in all, whatever the file says.
    pub memory_limit: Option<usize>,
    /// Whether it goes into the background.
    pub is_daemon: bool,
    /// Where sessions and messages are kept, whatever the file says (`MOSQUITTO_PERSISTENCE_LOCATION`).
    pub persistence_location: Option<String>,
    /// The number of the user to become instead of root, whatever the file says (`PUID`).
    pub user_number: Option<String>,
    /// The number of his group (`PGID`).
    pub group_number: Option<String>,
    /// The rights that new files do not give, in octal (`UMASK_SET`).
    pub file_mask: Option<String>,
    /// Where the keys of TLS connections are written to, for somebody who looks for a fault.
    pub key_log: Option<String>,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verbosity {
    /// Errors only.
    Quiet,
    /// What the configuration says.
    #[default]
    Normal,
    /// Everything.
    Verbose,
}

/// Where in a draft which keyword was said.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Said(Vec<(&'static str, Place)>);

impl Said {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    /// Notes where a keyword was said; the place before, if it was said already.
    pub(super) fn insert(&mut self, keyword: &'static str, place: Place) -> Option<Place> {
        match self.0.iter_mut().find(|(said, _)| *said == keyword) {
            Some((_, earlier)) => Some(std::mem::replace(earlier, place)),
            None => {
                self.0.push((keyword, place));
                None
            }
        }
    }

    pub(super) fn place(&self, keyword: &str) -> Option<&Place> {
        self.iter().find(|(said, _)| *said == keyword).map(|(_, place)| place)
    }

    /// What stands in the first line, and where.
    pub(super) fn first(&self) -> Option<(&'static str, &Place)> {
        self.iter().min_by_key(|(_, place)| place.line)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static str, &Place)> {
        self.0.iter().map(|(keyword, place)| (*keyword, place))
    }
}

/// What is said of the whole broker.
#[derive(Clone, Debug)]
pub(super) struct Globals {
    pub said: Said,
    pub memory_limit: Option<usize>,
    pub packet_size: Option<usize>,
    pub message_size: Option<usize>,
    pub connections: Option<usize>,
    pub sessions: Option<usize>,
    pub in_flight: Option<u16>,
    pub queue_length: Option<usize>,
    pub queue_bytes: Option<usize>,
    pub subscriptions: Option<usize>,
    pub matches: Option<usize>,
    pub session_expiry: Option<u32>,
    pub keep_alive: Option<u16>,
    pub retry_interval: Option<Duration>,
    pub queues_at_most_once: bool,
    pub raises_qos: bool,
    pub is_retain_available: bool,
    pub checks_retain_source: bool,
    pub password_attempts: Option<usize>,
    pub client_identifier_prefix: Option<Box<str>>,
    pub websocket_headers: Option<usize>,
    pub system_interval: u16,
    pub log_destinations: Option<Vec<LogDestination>>,
    pub log_facility: Option<u8>,
    pub log_kinds: Option<LogKinds>,
    pub log_format: Option<String>,
    pub has_log_time: bool,
    pub has_connection_messages: bool,
    pub is_persistent: bool,
    pub persistence_location: Option<String>,
    pub persistence_file: Option<String>,
    pub durability: Durability,
    pub commit_delay: u8,
    pub on_damage: OnDamage,
    pub pid_file: Option<String>,
    pub user: Option<String>,
}

impl Default for Globals {
    fn default() -> Self {
        Self {
            said: Said::new(),
            memory_limit: None,
            packet_size: None,
            message_size: None,
            connections: None,
            sessions: None,
            in_flight: None,
            queue_length: None,
            queue_bytes: None,
            subscriptions: None,
            matches: None,
            session_expiry: None,
            keep_alive: None,
            retry_interval: None,
            queues_at_most_once: false,
            raises_qos: false,
            is_retain_available: true,
            checks_retain_source: true,
            password_attempts: None,
            client_identifier_prefix: None,
            websocket_headers: None,
            system_interval: 10,
            log_destinations: None,
            log_facility: None,
            log_kinds: None,
            log_format: None,
            has_log_time: true,
            has_connection_messages: true,
            is_persistent: false,
            persistence_location: None,
            persistence_file: None,
            durability: Durability::default(),
            commit_delay: 0,
            on_damage: OnDamage::default(),
            pid_file: None,
            user: None,
        }
    }
}

/// What is said of who may come in, of the whole broker or of one listener.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct SecurityDraft {
    pub said: Said,
    pub allows_anonymous: Option<bool>,
    pub passwords: Option<String>,
    pub access: Option<String>,
    pub allows_empty_client_identifier: Option<bool>,
    pub drawn_prefix: Option<String>,
}

/// What is said of one listener.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ListenerDraft {
    pub said: Said,
    /// Where its `listener` or `port` stands; `None` for the listener that nobody has named.
    pub place: Option<Place>,
    pub port: Option<u16>,
    pub host: Option<String>,
    pub path: Option<String>,
    pub security: SecurityDraft,
    /// Said of this listener whether or not `per_listener_settings`.
    pub own_anonymous: Option<bool>,
    pub own_drawn_prefix: Option<String>,
    pub name: Option<String>,
    pub interface: Option<String>,
    pub family: Family,
    pub is_websocket: bool,
    pub origins: Vec<String>,
    pub certificate: Option<String>,
    pub key: Option<String>,
    pub authorities: Option<String>,
    pub authorities_directory: Option<String>,
    pub revoked: Option<String>,
    pub requires_certificate: bool,
    pub is_1_3_only: bool,
    pub identity_is_user_name: bool,
    pub subject_is_user_name: bool,
    pub proxy: Option<Proxy>,
    pub proxy_requires_tls: bool,
    pub proxies: Vec<Network>,
    pub connections: usize,
    pub versions: [bool; 3],
    pub maximum_qos: QoS,
    pub topic_aliases: u16,
    pub outbound_topic_aliases: u16,
    pub mount_point: Option<String>,
    pub user_name_is_client_identifier: bool,
}

impl ListenerDraft {
    pub(super) fn new(place: Option<Place>) -> Self {
        Self {
            said: Said::new(),
            place,
            port: None,
            host: None,
            path: None,
            security: SecurityDraft::default(),
            own_anonymous: None,
            own_drawn_prefix: None,
            name: None,
            interface: None,
            family: Family::Both,
            is_websocket: false,
            origins: Vec::new(),
            certificate: None,
            key: None,
            authorities: None,
            authorities_directory: None,
            revoked: None,
            requires_certificate: false,
            is_1_3_only: false,
            identity_is_user_name: false,
            subject_is_user_name: false,
            proxy: None,
            proxy_requires_tls: false,
            proxies: Vec::new(),
            connections: usize::MAX,
            versions: [true; 3],
            maximum_qos: QoS::ExactlyOnce,
            topic_aliases: 10,
            outbound_topic_aliases: OUTBOUND_TOPIC_ALIAS_MAXIMUM,
            mount_point: None,
            user_name_is_client_identifier: false,
        }
    }

    /// Whether nothing is said of it that differs from what holds for every listener.
    pub(super) fn says_nothing(&self) -> bool {
        let security = SecurityDraft { said: self.security.said.clone(), ..SecurityDraft::default() };
        *self == Self { said: self.said.clone(), security, ..Self::new(None) }
    }
}
