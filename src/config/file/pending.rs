//! What has been said so far, while statements are read. What is final as it is said stands in settings already; the
//! rest is what has to fit together, or is said of one thing and holds for another.

use std::path::PathBuf;

use crate::core::limits::Limits;
use crate::core::listener::ListenerOptions;
use crate::protocol::proxy::Proxy;
use crate::settings::{Family, Network, Persistence, Security, Settings, Tls};

use super::outcome::Place;

/// The port of MQTT without TLS.
pub(super) const DEFAULT_PORT: u16 = 1883;
/// Bytes of the HTTP request of a WebSocket.
pub(super) const WEBSOCKET_HEADERS: usize = 8 * 1024;

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

/// Where in a pending which keyword was said.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Said(Vec<(&'static str, Place)>);

impl Said {
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

/// Everything that was said.
#[derive(Debug)]
pub(super) struct Pending {
    pub globals: Globals,
    pub security: PendingSecurity,
    /// The listener without a line of its own: the old `port` and `bind_address`, and options before any `listener`.
    pub unnamed: PendingListener,
    pub listeners: Vec<PendingListener>,
}

impl Pending {
    pub(super) fn new() -> Self {
        Self {
            globals: Globals::new(),
            security: PendingSecurity::default(),
            unnamed: PendingListener::new(None),
            listeners: Vec::new(),
        }
    }
}

/// Where the value of a statement may go.
pub(super) struct Target<'a> {
    pub globals: &'a mut Globals,
    /// Of the listener that is open.
    pub options: &'a mut Options,
    /// Of that listener, or of all.
    pub security: &'a mut PendingSecurity,
}

/// What is said of the whole broker.
#[derive(Debug)]
pub(super) struct Globals {
    pub said: Said,
    /// What is final, or nearly so. There are no listeners in it.
    pub settings: Settings,
    pub log_facility: Option<u8>,
    pub log_format: Option<String>,
    pub has_log_time: bool,
    pub is_persistent: bool,
    pub persistence: Persistence,
    /// What holds for every listener, and what none has for itself.
    pub security: Security,
    pub client_identifier_prefixes: Vec<Box<str>>,
    pub websocket_headers: usize,
}

impl Globals {
    fn new() -> Self {
        Self {
            said: Said::default(),
            settings: Settings::default(),
            log_facility: None,
            log_format: None,
            has_log_time: true,
            is_persistent: false,
            persistence: Persistence::default(),
            security: Security { checks_retain_source: true, ..Security::default() },
            client_identifier_prefixes: Vec::new(),
            websocket_headers: WEBSOCKET_HEADERS,
        }
    }
}

/// What is said of who may come in, of the whole broker or of one listener.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct PendingSecurity {
    pub said: Said,
    pub allows_anonymous: Option<bool>,
    pub passwords: Option<PathBuf>,
    pub access: Option<PathBuf>,
    pub allows_empty_client_identifier: Option<bool>,
    pub auto_id_prefix: Option<Box<str>>,
}

/// What is said of one listener.
#[derive(Debug)]
pub(super) struct PendingListener {
    /// Where its `listener` or `port` stands; `None` for the listener that nobody has named.
    pub place: Option<Place>,
    pub port: Option<u16>,
    pub host: Option<String>,
    pub path: Option<String>,
    pub options: Options,
    pub security: PendingSecurity,
}

/// What is said behind a `listener`.
#[derive(Debug, PartialEq)]
pub(super) struct Options {
    pub said: Said,
    /// What is final, but for the User Name, what is said in all of a [`PendingSecurity`], and what follows from limits.
    pub listener: ListenerOptions,
    /// Said of this listener whether or not `per_listener_settings`.
    pub own_anonymous: Option<bool>,
    pub own_auto_id_prefix: Option<Box<str>>,
    pub name: Option<Box<str>>,
    pub interface: Option<String>,
    pub family: Family,
    pub is_websocket: bool,
    pub origins: Vec<String>,
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// Without its certificate and key.
    pub tls: Tls,
    pub identity_is_user_name: bool,
    pub subject_is_user_name: bool,
    pub proxy: Option<Proxy>,
    pub proxy_requires_tls: bool,
    pub proxies: Vec<Network>,
    pub connections: usize,
}

impl Options {
    fn new() -> Self {
        Self {
            said: Said::default(),
            listener: ListenerOptions::within(&Limits::default()),
            own_anonymous: None,
            own_auto_id_prefix: None,
            name: None,
            interface: None,
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
            connections: usize::MAX,
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

    /// Whether no option of it differs from what holds for every listener.
    pub(super) fn says_nothing(&self) -> bool {
        let security = PendingSecurity { said: self.security.said.clone(), ..PendingSecurity::default() };
        let options = Options { said: self.options.said.clone(), ..Options::new() };
        self.security == security && self.options == options
    }

    /// Where something was said of it; where the listener itself stands, failing that.
    pub(super) fn place_of(&self, keyword: &str) -> Option<&Place> {
        self.options.said.place(keyword).or(self.place.as_ref())
    }
}
