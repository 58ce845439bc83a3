//! What an operator can say of the broker, as plain data. The configuration fills it, the server and the core read
//! it; nobody changes it afterwards, a reload makes a new one.
//!
//! It holds what was decided, not what was written: defaults are filled in, and paths are as given. What mosquitto
//! calls each of them stands in its description.

mod config_error;
mod log;

use core::net::IpAddr;
use std::fmt;
use std::path::PathBuf;
use std::rc::Rc;

use crate::base::escape::Escaped;
use crate::base::time::Duration;
use crate::core::limits::Limits;
use crate::core::listener::{ListenerOptions, UserNameSource};
use crate::core::switches::Switches;
use crate::protocol::proxy::Proxy;

pub use config_error::{CONFIG_ERRORS_MAXIMUM, ConfigError, ConfigErrors};
pub use log::{Log, LogDestination, LogKinds, LogTime};

/// How often `$SYS` topics are brought up to date where the operator has said nothing.
const SYSTEM_INTERVAL: Duration = Duration::from_seconds(10);

/// Everything that a configuration and a command line can say. By default there is no listener.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bounds of the whole broker.
    pub limits: Limits,
    /// What the whole broker does or leaves.
    pub switches: Switches,
    /// Where clients come in, in the order in which they were written.
    pub listeners: Vec<Listener>,
    /// What is logged, and where.
    pub log: Log,
    /// How often `$SYS` topics are brought up to date; `None` for never (`sys_interval 0`).
    pub system_interval: Option<Duration>,
    /// Where sessions and messages are kept; `None` while they live in memory alone (`persistence`).
    pub persistence: Option<Persistence>,
    /// What the process does with itself.
    pub process: Process,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            switches: Switches::default(),
            listeners: Vec::new(),
            log: Log::default(),
            system_interval: Some(SYSTEM_INTERVAL),
            persistence: None,
            process: Process::default(),
        }
    }
}

/// One place where clients come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Where it was written, as `file:line`, for messages; the command line's say `--port`.
    pub place: String,
    /// What it is known by, where the operator has said so (`listener_name`).
    pub name: Option<Box<str>>,
    /// What it is bound to.
    pub address: Address,
    /// The network interface that it is bound to (`bind_interface`).
    pub interface: Option<String>,
    /// What is spoken there (`protocol`).
    pub protocol: Protocol,
    /// TLS, if it is used there.
    pub tls: Option<Tls>,
    /// Whether a PROXY header comes first, and which (`enable_proxy_protocol`).
    pub proxy: Option<Proxy>,
    /// The addresses from which connections with such a header are accepted (`proxy_trusted_source`); any, if the list
    /// is empty.
    pub proxies: Vec<Network>,
    /// Connections at one time (`max_connections`). Beyond: the newest is dropped.
    pub connections: usize,
    /// What the core asks of clients that come in here.
    pub options: Rc<ListenerOptions>,
    /// Who may come in here and what he may do; listeners share one unless `per_listener_settings` parts them.
    pub security: Rc<Security>,
}

impl Listener {
    /// What sessions and messages that came in here know it by: its name, or else where it listens as it was written,
    /// not what that came to. With another mount point it is another listener, since its clients name other topics.
    pub fn identity(&self) -> String {
        let mut identity = match (&self.name, &self.interface) {
            (Some(name), _) => format!("name {name}"),
            (None, None) => self.address.to_string(),
            (None, Some(interface)) => format!("{} at interface {interface}", self.address),
        };
        if let Some(mount_point) = &self.options.mount_point {
            identity.push_str(" below ");
            identity.push_str(mount_point);
        }
        identity
    }
}

/// The names by which these listeners are known, all different. Listeners that cannot be told apart are numbered.
pub fn names_of<'a>(listeners: impl IntoIterator<Item = &'a Listener>) -> Vec<ListenerName> {
    let mut names: Vec<ListenerName> = Vec::new();
    for listener in listeners {
        let identity = listener.identity();
        let numbered = (2..).map(|number| format!("{identity}, {number}"));
        let mut candidates = std::iter::once(identity.clone()).chain(numbered);
        let is_new = |name: &String| names.iter().all(|other| other.name != *name);
        let name = candidates.find(is_new).unwrap_or(identity);
        let proves_names =
            listener.security.passwords.is_some() || listener.options.user_name != UserNameSource::Connect;
        names.push(ListenerName { name, proves_names });
    }
    names
}

/// What a listener is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Both loopback addresses: where an unconfigured broker listens.
    Loopback {
        /// Zero lets the system choose.
        port: u16,
    },
    /// A port, at all addresses or at those of a host.
    Internet {
        /// An address or a name to be looked up; `None` for all addresses.
        host: Option<String>,
        /// Zero lets the system choose.
        port: u16,
        /// Which of the addresses are meant (`socket_domain`).
        family: Family,
    },
    /// A socket in the file system (`listener 0 PATH`).
    Unix {
        /// Where it lies.
        path: PathBuf,
    },
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loopback { port } => write!(formatter, "port {port} of the loopback addresses"),
            Self::Internet { host: None, port, .. } => write!(formatter, "port {port}"),
            Self::Internet { host: Some(host), port, .. } => {
                write!(formatter, "port {port} of {}", Escaped(host))
            }
            Self::Unix { path } => write!(formatter, "socket {}", Escaped(&path.display().to_string())),
        }
    }
}

/// Families of internet addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// Whatever there is.
    #[default]
    Both,
    /// IPv4 alone.
    V4,
    /// IPv6 alone.
    V6,
}

/// What is spoken at a listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// MQTT on the bare stream.
    #[default]
    Mqtt,
    /// MQTT in WebSocket frames.
    WebSocket {
        /// Origins that a page may have (`websockets_origin`); any, if there are none.
        origins: Vec<String>,
        /// Bytes of the HTTP request (`websockets_headers_size`).
        headers: usize,
    },
}

/// TLS at a listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// The chain of certificates to show, PEM (`certfile`).
    pub certificate: PathBuf,
    /// Its private key, PEM (`keyfile`).
    pub key: PathBuf,
    /// Certificates of those who vouch for clients, PEM (`cafile`).
    pub authorities: Option<PathBuf>,
    /// A directory of such files (`capath`).
    pub authorities_directory: Option<PathBuf>,
    /// Certificates that were revoked, PEM (`crlfile`).
    pub revoked: Option<PathBuf>,
    /// Whether clients must show a certificate (`require_certificate`).
    pub requires_certificate: bool,
    /// Whether only TLS 1.3 is spoken (`tls_version tlsv1.3`); 1.2 as well otherwise.
    pub is_1_3_only: bool,
    /// Where the keys of its connections are written to, so that somebody who looks for a fault can read them
    /// (`--tls-keylog`).
    pub key_log: Option<PathBuf>,
}

/// Who vouches for other servers that are connected to by TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Where it was written, for messages.
    pub place: String,
    /// Certificates of those who vouch for them, PEM.
    pub authorities: Option<PathBuf>,
    /// A directory of such files.
    pub authorities_directory: Option<PathBuf>,
}

/// Addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// One of them.
    address: IpAddr,
    /// How many bits they share, at most 32 or 128.
    length: u8,
}

impl Network {
    /// Reads `ADDRESS` or `ADDRESS/LENGTH`; `None` if it is neither.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, length) =
            text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length =
            length.map_or(Some(most), |length| length.parse().ok().filter(|&length| length <= most))?;
        Some(Self { address, length })
    }

    /// Whether an address is one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        let differing = match (self.address, address) {
            (IpAddr::V4(one), IpAddr::V4(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
            (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
            _ => return false,
        };
        differing >= u32::from(self.length)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.address, self.length)
    }
}

/// What a listener is known by from one run to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerName {
    /// As [`Listener::identity`] tells.
    pub name: String,
    /// Whether User Names are proved there, by passwords or certificates.
    pub proves_names: bool,
}

/// Different wrong passwords of a user that are looked at, from one address within a minute, without
/// `max_password_attempts`.
const PASSWORD_ATTEMPTS: usize = 10;

/// Who may come in and what he may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Security {
    /// Whether clients without a User Name are let in (`allow_anonymous`).
    pub allows_anonymous: bool,
    /// The users (`password_file`).
    pub passwords: Option<PathBuf>,
    /// What they may do (`acl_file`); everything, without one.
    pub access: Option<PathBuf>,
    /// Whether a retained message is handed over only if who published it still may (`check_retain_source`).
    pub checks_retain_source: bool,
    /// How many different wrong passwords of a user are looked at, from one address within a minute
    /// (`max_password_attempts`), and ten times as many of all users there; zero for any number. Beyond: 0x9F.
    pub password_attempts: usize,
}

impl Default for Security {
    fn default() -> Self {
        Self {
            allows_anonymous: false,
            passwords: None,
            access: None,
            checks_retain_source: false,
            password_attempts: PASSWORD_ATTEMPTS,
        }
    }
}

/// The file that a broker keeps its state in, if it is told no other (`persistence_file`).
pub const PERSISTENCE_FILE: &str = "brooklet.db";

/// Where sessions and messages are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Persistence {
    /// The directory (`persistence_location`).
    pub directory: PathBuf,
    /// The file in it (`persistence_file`).
    pub file: String,
    /// What an acknowledgement means (`durability`).
    pub durability: Durability,
    /// How long a commit waits for company (`commit_delay`), at most 20 ms.
    pub commit_delay: Duration,
    /// What becomes of a file that is damaged (`persistence_damaged`).
    pub on_damage: OnDamage,
}

impl Default for Persistence {
    fn default() -> Self {
        Self {
            directory: PathBuf::from("."),
            file: PERSISTENCE_FILE.to_owned(),
            durability: Durability::default(),
            commit_delay: Duration::ZERO,
            on_damage: OnDamage::default(),
        }
    }
}

/// What becomes of a file that is damaged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDamage {
    /// It is left as it is, and the broker does not start.
    #[default]
    Refuse,
    /// It is moved away, and the broker starts without what it holds.
    SetAside,
}

/// What an acknowledgement means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// It is on disk.
    #[default]
    Always,
    /// It will be within a second.
    EverySecond,
    /// It will be some time.
    None,
}

/// What the process does with itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Whom it becomes after binding, if it was started as root (`user`); `None` where the operator has not said.
    pub user: Option<String>,
    /// The number of that user (`PUID`), which goes before the name.
    pub user_number: Option<u32>,
    /// The number of his group (`PGID`), in place of his own.
    pub group_number: Option<u32>,
    /// The rights that files it makes do not give, at most 0o777 (`UMASK_SET`).
    pub file_mask: Option<u32>,
    /// Where its number is written (`pid_file`).
    pub pid_file: Option<PathBuf>,
    /// Whether it goes into the background (`-d`).
    pub is_daemon: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::limits::Limits;

    fn listener(name: Option<&str>, port: u16, mount_point: Option<&str>) -> Listener {
        let rules = ListenerOptions {
            mount_point: mount_point.map(Box::from),
            ..ListenerOptions::within(&Limits::default())
        };
        Listener {
            place: String::new(),
            name: name.map(Box::from),
            address: Address::Loopback { port },
            interface: None,
            protocol: Protocol::Mqtt,
            tls: None,
            proxy: None,
            proxies: Vec::new(),
            connections: usize::MAX,
            options: Rc::new(rules),
            security: Rc::new(Security::default()),
        }
    }

    #[test]
    fn no_two_listeners_are_known_by_the_same_name() {
        let listeners = [
            listener(Some("a, 2"), 0, None),
            listener(Some("a"), 0, None),
            listener(Some("a"), 0, None),
            listener(None, 0, None),
            listener(None, 0, None),
            listener(None, 0, Some("m/")),
            listener(None, 1, None),
        ];
        let names: Vec<String> = names_of(&listeners).into_iter().map(|name| name.name).collect();
        for (count, name) in names.iter().enumerate() {
            assert!(!names[..count].contains(name), "{name} in {names:?}");
        }
    }

    #[test]
    fn a_network_has_the_addresses_that_begin_like_it() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("10.1.2.3/31", "10.1.2.2", "10.1.2.4"),
            ("192.0.2.1", "192.0.2.1", "192.0.2.0"),
            ("0.0.0.0/0", "255.1.2.3", "::1"),
            ("fd00::/8", "fdff::1", "fe00::"),
            ("::1", "::1", "127.0.0.1"),
        ] {
            let parsed = Network::parse(network).unwrap();
            assert!(parsed.contains(inside.parse().unwrap()), "{inside} in {network}");
            assert!(!parsed.contains(outside.parse().unwrap()), "{outside} in {network}");
            assert!(parsed.to_string().starts_with(network.split('/').next().unwrap()));
        }
        for wrong in ["", "/8", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0/8", "localhost", "10.0.0.0/-1"]
        {
            assert_eq!(Network::parse(wrong), None, "{wrong}");
        }
    }
}
