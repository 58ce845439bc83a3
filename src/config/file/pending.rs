//! The settings while statements are read. Final values are stored in the settings at once. The others depend on each
//! other, or are set for one thing and apply to another.

use std::path::PathBuf;

use crate::core::limits::Limits;
use crate::core::listener::ListenerOptions;
use crate::protocol::proxy::Proxy;
#[cfg(feature = "bridge")]
use crate::settings::{Bridge, BridgeTopic, ClientTls};
#[cfg(feature = "cluster")]
use crate::settings::{ClusterLog, ClusterName, NodeName, RemoteAddress};
use crate::settings::{Family, Given, Network, Persistence, Security, Settings, SocketFile, Tls};

use super::outcome::Place;

/// The port of MQTT without TLS.
pub(super) const DEFAULT_PORT: u16 = 1883;
/// The default maximum length in bytes of the HTTP request of a WebSocket.
pub(super) const WEBSOCKET_HEADERS: usize = 8 * 1024;

/// The levels of a filter that decide which messages other nodes send, by default.
#[cfg(feature = "cluster")]
const INTEREST_LEVELS: usize = 3;

/// The options from the command line and the environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// Ports on the loopback addresses, for a configuration without listeners.
    pub ports: Vec<u16>,
    /// How much is logged, overriding the file.
    pub verbosity: Verbosity,
    /// The memory limit for clients and messages in bytes, overriding the file.
    pub memory_limit: Option<usize>,
    /// Whether to run in the background.
    pub is_daemon: bool,
    /// The directory to persist sessions and messages in, overriding the file (`MOSQUITTO_PERSISTENCE_LOCATION`).
    pub persistence_location: Option<String>,
    /// The number of the user to switch to from root, overriding the file (`PUID`).
    pub user_number: Option<String>,
    /// The number of the group to switch to (`PGID`).
    pub group_number: Option<String>,
    /// The file mode creation mask, in octal (`UMASK_SET`).
    pub file_mask: Option<String>,
    /// The file to write the keys of TLS connections to, for diagnosis.
    pub key_log: Option<String>,
    /// The store that this process has open. To open its file once more would release the locks on it.
    #[cfg(feature = "persistence")]
    pub open_store: Option<PathBuf>,
    /// The name of this machine, for the Client Identifiers of bridges and the name of a node.
    #[cfg(any(feature = "bridge", feature = "cluster"))]
    pub host_name: Option<String>,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verbosity {
    /// Errors only.
    Quiet,
    /// As configured.
    #[default]
    Normal,
    /// Everything.
    Verbose,
}

/// The keywords that were given, with their places.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Places(Vec<(&'static str, Place)>);

impl Places {
    /// Records the place of a keyword. Returns its earlier place, if it was given before.
    pub(super) fn insert(&mut self, keyword: &'static str, place: Place) -> Option<Place> {
        match self.0.iter_mut().find(|(given, _)| *given == keyword) {
            Some((_, earlier)) => Some(std::mem::replace(earlier, place)),
            None => {
                self.0.push((keyword, place));
                None
            }
        }
    }

    pub(super) fn place(&self, keyword: &str) -> Option<&Place> {
        self.iter().find(|(given, _)| *given == keyword).map(|(_, place)| place)
    }

    /// The keyword in the first line, and its place.
    pub(super) fn first(&self) -> Option<(&'static str, &Place)> {
        self.iter().min_by_key(|(_, place)| place.line)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static str, &Place)> {
        self.0.iter().map(|(keyword, place)| (*keyword, place))
    }
}

/// All settings so far.
#[derive(Debug)]
pub(super) struct Pending {
    pub globals: Globals,
    pub security: PendingSecurity,
    /// The listener without a `listener` line: the old `port` and `bind_address`, and options before the first
    /// `listener`.
    pub unnamed: PendingListener,
    pub listeners: Vec<PendingListener>,
    #[cfg(feature = "bridge")]
    pub bridges: Vec<PendingBridge>,
}

impl Pending {
    pub(super) fn new() -> Self {
        Self {
            globals: Globals::new(),
            security: PendingSecurity::default(),
            unnamed: PendingListener::new(None),
            listeners: Vec::new(),
            #[cfg(feature = "bridge")]
            bridges: Vec::new(),
        }
    }
}

/// Where the value of a statement may be stored.
pub(super) struct Target<'a> {
    pub globals: &'a mut Globals,
    /// Those of the current listener.
    pub options: &'a mut Options,
    /// Those of the current listener, or of all.
    pub security: &'a mut PendingSecurity,
    /// The current bridge; without one, only keywords for others are given.
    #[cfg(feature = "bridge")]
    pub bridge: &'a mut PendingBridge,
    /// The place of the value.
    pub place: &'a Place,
}

impl Target<'_> {
    /// A value with its place.
    pub(super) fn given<'a, T: From<&'a str>>(&self, text: &'a str) -> Given<T> {
        Given::at(self.place, text.into())
    }
}

/// The settings of the whole broker.
#[derive(Debug)]
pub(super) struct Globals {
    pub places: Places,
    /// The final settings, or nearly final ones. They have no listeners.
    pub settings: Settings,
    pub log_facility: Option<u8>,
    pub log_format: Option<String>,
    pub has_log_time: bool,
    pub is_persistent: bool,
    pub persistence: Persistence,
    /// The values that apply to every listener, and cannot be set for one.
    pub security: Security,
    pub client_identifier_prefixes: Vec<Box<str>>,
    pub websocket_headers: usize,
    #[cfg(feature = "cluster")]
    pub cluster: PendingCluster,
}

impl Globals {
    fn new() -> Self {
        Self {
            places: Places::default(),
            settings: Settings::default(),
            log_facility: None,
            log_format: None,
            has_log_time: true,
            is_persistent: false,
            persistence: Persistence::default(),
            security: Security { checks_retain_source: true, ..Security::default() },
            client_identifier_prefixes: Vec::new(),
            websocket_headers: WEBSOCKET_HEADERS,
            #[cfg(feature = "cluster")]
            cluster: PendingCluster::new(),
        }
    }
}

/// The settings of security, of the whole broker or of one listener.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct PendingSecurity {
    pub places: Places,
    pub allows_anonymous: Option<bool>,
    pub passwords: Option<Given<PathBuf>>,
    pub access: Option<Given<PathBuf>>,
    pub allows_empty_client_identifier: Option<bool>,
    pub auto_id_prefix: Option<Box<str>>,
}

/// The settings of one listener.
#[derive(Debug)]
pub(super) struct PendingListener {
    /// The place of its `listener` or `port`; `None` for a listener without either.
    pub place: Option<Place>,
    pub port: Option<u16>,
    pub host: Option<String>,
    pub path: Option<String>,
    pub options: Options,
    pub security: PendingSecurity,
}

/// The options after a `listener`.
#[derive(Debug, PartialEq)]
pub(super) struct Options {
    pub places: Places,
    /// Final values, except the User Name, the fields of [`PendingSecurity`], and those that depend on limits.
    pub listener: ListenerOptions,
    /// Set for this listener, with or without `per_listener_settings`.
    pub own_anonymous: Option<bool>,
    pub own_auto_id_prefix: Option<Box<str>>,
    pub name: Option<Box<str>>,
    pub interface: Option<String>,
    pub socket_file: SocketFile,
    pub family: Family,
    pub is_websocket: bool,
    pub origins: Vec<String>,
    pub certificate: Option<Given<PathBuf>>,
    pub key: Option<Given<PathBuf>>,
    /// Without its certificate and key.
    pub tls: Tls,
    pub identity_is_user_name: bool,
    pub subject_is_user_name: bool,
    pub proxy: Option<Proxy>,
    pub proxy_requires_tls: bool,
    pub proxies: Vec<Network>,
    /// `None` is the default, no limit.
    pub connections: Option<usize>,
    /// Whether an option was given that is ignored.
    pub has_ignored: bool,
}

impl Options {
    fn new() -> Self {
        Self {
            places: Places::default(),
            listener: ListenerOptions::within(&Limits::default()),
            own_anonymous: None,
            own_auto_id_prefix: None,
            name: None,
            interface: None,
            socket_file: SocketFile::default(),
            family: Family::Both,
            is_websocket: false,
            origins: Vec::new(),
            certificate: None,
            key: None,
            tls: Tls::default(),
            identity_is_user_name: false,
            subject_is_user_name: false,
            proxy: None,
            proxy_requires_tls: false,
            proxies: Vec::new(),
            connections: None,
            has_ignored: false,
        }
    }
}

impl PendingListener {
    pub(super) fn new(place: Option<Place>) -> Self {
        Self {
            place,
            port: None,
            host: None,
            path: None,
            options: Options::new(),
            security: PendingSecurity::default(),
        }
    }

    /// Whether its options make it a listener even without a `listener` or `port`: one of them does not have its
    /// default. As in mosquitto, the number of Topic Aliases and the version of TLS do not count.
    pub(super) fn is_made_by_options(&self) -> bool {
        let mut options = Options { places: self.options.places.clone(), ..Options::new() };
        options.listener.topic_alias_maximum = self.options.listener.topic_alias_maximum;
        options.tls.is_1_3_only = self.options.tls.is_1_3_only;
        let security = PendingSecurity { places: self.security.places.clone(), ..PendingSecurity::default() };
        self.security != security || self.options != options
    }

    /// Where it is configured first.
    pub(super) fn first_place(&self) -> Option<&Place> {
        self.place.as_ref().or_else(|| self.options.places.first().map(|(_, place)| place))
    }

    /// The place of a keyword of this listener, or else that of the listener itself.
    pub(super) fn place_of(&self, keyword: &str) -> Option<&Place> {
        self.options.places.place(keyword).or(self.place.as_ref())
    }
}

/// The settings of one bridge.
#[cfg(feature = "bridge")]
#[derive(Debug)]
pub(super) struct PendingBridge {
    /// The place of its `connection`.
    pub place: Place,
    pub places: Places,
    /// Final values, except those that the other fields have.
    pub settings: Bridge,
    pub topics: Vec<(Place, BridgeTopic)>,
    pub remote_client_identifier: Option<Box<str>>,
    pub local_client_identifier: Option<Box<str>>,
    pub is_clean_locally: Option<bool>,
    pub session_expiry: Option<u32>,
    pub receive_maximum: Option<u16>,
    pub has_notifications: bool,
    pub notification_topic: Option<Box<str>>,
    pub notifies_locally_only: bool,
    pub start: StartType,
    pub threshold: i64,
    /// In seconds.
    pub idle_timeout: i64,
    /// In seconds.
    pub keep_alive: i64,
    pub restart: PendingRestart,
    /// In milliseconds; zero leaves it to the system.
    pub tcp_user_timeout: Option<u32>,
    /// Without its certificate and key.
    pub tls: ClientTls,
    pub certificate: Option<Given<PathBuf>>,
    pub key: Option<Given<PathBuf>>,
}

/// When a bridge connects, without the parameters of each type.
#[cfg(feature = "bridge")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StartType {
    Automatic,
    Lazy,
    Once,
}

/// How many seconds a bridge waits before it connects again, as configured.
#[cfg(feature = "bridge")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PendingRestart {
    pub base: i64,
    /// The wait is constant if there is none.
    pub cap: Option<i64>,
    pub stable: i64,
}

#[cfg(feature = "bridge")]
impl PendingBridge {
    pub(super) fn new(name: &str, place: Place) -> Self {
        Self {
            places: Places::default(),
            settings: Bridge::unset(name, format!("{}:{}", place.file, place.line)),
            place,
            topics: Vec::new(),
            remote_client_identifier: None,
            local_client_identifier: None,
            is_clean_locally: None,
            session_expiry: None,
            receive_maximum: None,
            has_notifications: true,
            notification_topic: None,
            notifies_locally_only: false,
            start: StartType::Automatic,
            threshold: 10,
            idle_timeout: 60,
            keep_alive: 60,
            restart: PendingRestart { base: 5, cap: Some(30), stable: 0 },
            tcp_user_timeout: None,
            tls: ClientTls::default(),
            certificate: None,
            key: None,
        }
    }
}

/// The settings of the cluster so far.
#[cfg(feature = "cluster")]
#[derive(Debug)]
pub(super) struct PendingCluster {
    /// The keywords whose value was wrong, which was reported.
    pub wrong: Vec<&'static str>,
    pub servers: Vec<RemoteAddress>,
    pub has_tls: bool,
    pub name: Option<ClusterName>,
    pub node: Option<NodeName>,
    pub user_name: Option<Box<str>>,
    pub password: Option<Box<str>>,
    pub credentials: Option<Given<PathBuf>>,
    pub authorities: Option<Given<PathBuf>>,
    pub certificate: Option<Given<PathBuf>>,
    pub key: Option<Given<PathBuf>>,
    pub interest_levels: usize,
    pub log: ClusterLog,
}

#[cfg(feature = "cluster")]
impl PendingCluster {
    /// Notes a wrong value.
    pub(super) fn note<T>(
        &mut self,
        keyword: &'static str,
        value: Result<T, &'static str>,
    ) -> Result<T, &'static str> {
        if value.is_err() {
            self.wrong.push(keyword);
        }
        value
    }

    pub(super) fn new() -> Self {
        Self {
            wrong: Vec::new(),
            servers: Vec::new(),
            has_tls: false,
            name: None,
            node: None,
            user_name: None,
            password: None,
            credentials: None,
            authorities: None,
            certificate: None,
            key: None,
            interest_levels: INTEREST_LEVELS,
            log: ClusterLog::default(),
        }
    }
}
