//! What an operator can configure, as plain data. The configuration creates it, the server and the core read it. It is
//! never changed; a reload creates a new one.
//!
//! It holds the resulting values, not the text: defaults are filled in. Paths are as given. The description of a field
//! has the keyword of mosquitto in parentheses.

#[cfg(feature = "bridge")]
mod bridge;
#[cfg(feature = "cluster")]
mod cluster;
mod config_error;
mod given;
mod log;
#[cfg(any(feature = "bridge", feature = "cluster"))]
mod remote_address;

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

#[cfg(feature = "bridge")]
pub use bridge::{
    Bridge, BridgeQueue, BridgeTopic, Direction, Local, Notifications, QueueDrop, Reload, Remote, Restart,
    Start,
};
#[cfg(feature = "cluster")]
pub use cluster::{Cluster, ClusterLog, ClusterLogin, ClusterName, NodeName};
pub use config_error::{CONFIG_ERRORS_MAXIMUM, ConfigError, ConfigErrors};
pub use given::Given;
pub use log::{Log, LogDestination, LogKinds, LogTime};
#[cfg(any(feature = "bridge", feature = "cluster"))]
pub use remote_address::RemoteAddress;

/// The default interval at which `$SYS` topics are updated.
const SYSTEM_INTERVAL: Duration = Duration::from_seconds(10);

/// Everything that can be set in a configuration and on the command line. By default there are no listeners.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The limits of the whole broker.
    pub limits: Limits,
    /// The switches of the whole broker.
    pub switches: Switches,
    /// The listeners, in the order of the configuration.
    pub listeners: Vec<Listener>,
    /// The bridges to other brokers, in the order of the configuration.
    #[cfg(feature = "bridge")]
    pub bridges: Vec<Bridge>,
    /// The cluster that the broker belongs to; `None` if it is alone.
    #[cfg(feature = "cluster")]
    pub cluster: Option<Cluster>,
    /// What is logged, and where to.
    pub log: Log,
    /// The interval at which `$SYS` topics are updated; `None` for never (`sys_interval 0`).
    pub system_interval: Option<Duration>,
    /// Where sessions and messages are persisted; `None` if they are only in memory (`persistence`).
    pub persistence: Option<Persistence>,
    /// The settings of the process: its user, process id file and the like.
    pub process: Process,
}

impl Settings {
    /// The store of this broker. In a cluster it has none: the servers of NATS keep what must not be lost.
    pub fn store(&self) -> Option<&Persistence> {
        #[cfg(feature = "cluster")]
        if self.cluster.is_some() {
            return None;
        }
        self.persistence.as_ref()
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            switches: Switches::default(),
            listeners: Vec::new(),
            #[cfg(feature = "bridge")]
            bridges: Vec::new(),
            #[cfg(feature = "cluster")]
            cluster: None,
            log: Log::default(),
            system_interval: Some(SYSTEM_INTERVAL),
            persistence: None,
            process: Process::default(),
        }
    }
}

/// A listener, to which clients connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Where it was configured, as `file:line`, for messages; `--port` if it is from the command line.
    pub place: String,
    /// Its name, if the operator has set one (`listener_name`).
    pub name: Option<Box<str>>,
    /// The address that it is bound to.
    pub address: Address,
    /// The network interface that it is bound to (`bind_interface`).
    pub interface: Option<String>,
    /// Who may connect, if it is bound to a Unix socket.
    pub socket_file: SocketFile,
    /// The protocol of its clients (`protocol`).
    pub protocol: Protocol,
    /// The TLS settings, if it uses TLS.
    pub tls: Option<Tls>,
    /// The form of the PROXY header at the start of each connection, if there is one (`enable_proxy_protocol`).
    pub proxy: Option<Proxy>,
    /// The addresses from which connections with a PROXY header are accepted (`proxy_trusted_source`). All, if the list
    /// is empty.
    pub proxies: Vec<Network>,
    /// The maximum number of connections at a time (`max_connections`). Further connections are closed.
    pub connections: usize,
    /// The options that the core applies to clients of this listener.
    pub options: Rc<ListenerOptions>,
    /// Which users may connect and what they may do. Listeners share one unless `per_listener_settings` separates them.
    pub security: Rc<Security>,
}

impl Listener {
    /// The identity of the listener in stored sessions and messages: its name, or else its address as it was
    /// configured, before it was resolved. A listener with a different mount point is a different listener, since its
    /// clients use different topics.
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

/// Returns unique names for these listeners. Listeners with the same identity are numbered.
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

/// The address that a listener is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Both loopback addresses. A broker without a configuration listens there.
    Loopback {
        /// Zero lets the system choose a port.
        port: u16,
    },
    /// A port on all addresses, or on those of a host.
    Internet {
        /// An address, or a name to resolve; `None` for all addresses.
        host: Option<String>,
        /// Zero lets the system choose a port.
        port: u16,
        /// Which of the addresses to use (`socket_domain`).
        family: Family,
    },
    /// A socket in the file system (`listener 0 PATH`).
    Unix {
        /// The path of the socket.
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

/// The permissions and the group of the file of a Unix socket. Its owner is the user that the broker runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketFile {
    /// The permissions, at most 0o777 (`socket_mode`).
    pub mode: u32,
    /// The group, by its name or number (`socket_group`); `None` for that of the broker's user.
    pub group: Option<Given<Box<str>>>,
}

impl Default for SocketFile {
    fn default() -> Self {
        Self { mode: 0o770, group: None }
    }
}

/// Families of internet addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// IPv4 and IPv6.
    #[default]
    Both,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

/// The protocol of a listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// MQTT directly on the stream.
    #[default]
    Mqtt,
    /// MQTT in WebSocket frames.
    WebSocket {
        /// The allowed origins of web pages (`websockets_origin`). All, if the list is empty.
        origins: Vec<String>,
        /// The maximum length of the HTTP request in bytes (`websockets_headers_size`).
        headers: usize,
    },
}

/// The TLS settings of a listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// The certificate chain of the server, in PEM (`certfile`).
    pub certificate: Given<PathBuf>,
    /// Its private key, in PEM (`keyfile`).
    pub key: Given<PathBuf>,
    /// The certificates of the authorities for client certificates, in PEM (`cafile`).
    pub authorities: Option<Given<PathBuf>>,
    /// A directory with such files (`capath`).
    pub authorities_directory: Option<Given<PathBuf>>,
    /// The certificate revocation list, in PEM (`crlfile`).
    pub revoked: Option<Given<PathBuf>>,
    /// Whether clients must present a certificate (`require_certificate`).
    pub requires_certificate: bool,
    /// Whether only TLS 1.3 is allowed (`tls_version tlsv1.3`). Otherwise, TLS 1.2 is allowed as well.
    pub is_1_3_only: bool,
    /// The most bytes of content in a record that is sent, from 512 to 16,384 (`tls_record_size`); `None` for as many as
    /// the standard allows.
    pub record_size: Option<u16>,
    /// The file to write the keys of its connections to, so that tools can decrypt them for diagnosis (`--tls-keylog`).
    pub key_log: Option<Given<PathBuf>>,
}

/// The trusted authorities for the certificates of other servers, for outgoing TLS connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Where it was configured, for messages.
    pub place: String,
    /// The certificates of the authorities, in PEM.
    pub authorities: Option<Given<PathBuf>>,
    /// A directory with such files.
    pub authorities_directory: Option<Given<PathBuf>>,
}

/// The TLS settings of connections to other servers: those of a bridge, or of a node of a cluster, which has only the first
/// three.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// The trusted authorities (`bridge_cafile`, `bridge_capath`, `cluster_cafile`).
    pub trust: Trust,
    /// Whether the authorities of the system are trusted as well (`bridge_tls_use_os_certs`; no `cluster_cafile`).
    pub trusts_system: bool,
    /// The certificate chain and private key of the client, in PEM (`bridge_certfile`, `bridge_keyfile`,
    /// `cluster_certfile`, `cluster_keyfile`).
    pub identity: Option<[Given<PathBuf>; 2]>,
    /// Whether the certificate may be for another name (`bridge_insecure`).
    pub ignores_name: bool,
    /// The protocol to negotiate (`bridge_alpn`).
    pub alpn: Option<Box<str>>,
    /// Whether only TLS 1.3 is allowed (`bridge_tls_version tlsv1.3`). Otherwise, TLS 1.2 is allowed as well.
    pub is_1_3_only: bool,
}

/// A range of IP addresses with a common prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// An address in the range.
    address: IpAddr,
    /// The length of the prefix in bits, at most 32 or 128.
    length: u8,
}

impl Network {
    /// Parses `ADDRESS` or `ADDRESS/LENGTH`; `None` if it is neither.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, length) =
            text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length =
            length.map_or(Some(most), |length| length.parse().ok().filter(|&length| length <= most))?;
        Some(Self { address, length })
    }

    /// Whether an address is in the range.
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

/// The name by which a listener is identified across runs of the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerName {
    /// The result of [`Listener::identity`], numbered if it is not unique.
    pub name: String,
    /// Whether the listener verifies User Names, by passwords or certificates.
    pub proves_names: bool,
}

/// The default of `max_password_attempts`.
const PASSWORD_ATTEMPTS: usize = 10;

/// Which users may connect and what they may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Security {
    /// Whether clients without a User Name may connect (`allow_anonymous`).
    pub allows_anonymous: bool,
    /// The file with the users and their passwords (`password_file`).
    pub passwords: Option<Given<PathBuf>>,
    /// The file with the access rules (`acl_file`). Without one, everything is allowed.
    pub access: Option<Given<PathBuf>>,
    /// Whether a retained message is delivered only if its publisher is still allowed to publish it
    /// (`check_retain_source`).
    pub checks_retain_source: bool,
    /// How many different wrong passwords for one user are verified per minute from one address
    /// (`max_password_attempts`); for all users together, ten times as many. Zero for no limit. Above the limit,
    /// clients are refused with 0x9F.
    pub password_attempts: usize,
    /// A topic that its clients may publish to whatever the rules say: where a bridge reports its state.
    pub own_topic: Option<Box<str>>,
}

impl Default for Security {
    fn default() -> Self {
        Self {
            allows_anonymous: false,
            passwords: None,
            access: None,
            checks_retain_source: false,
            password_attempts: PASSWORD_ATTEMPTS,
            own_topic: None,
        }
    }
}

/// The default name of the file in which a broker persists its state (`persistence_file`).
pub const PERSISTENCE_FILE: &str = "brooklet.db";

/// Where and how sessions and messages are persisted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Persistence {
    /// The directory (`persistence_location`).
    pub directory: Given<PathBuf>,
    /// The file in it (`persistence_file`).
    pub file: Given<String>,
    /// What an acknowledgement guarantees (`durability`).
    pub durability: Durability,
    /// How long a commit is delayed to include more changes (`commit_delay`), at most 20 ms.
    pub commit_delay: Duration,
    /// What to do with a damaged file (`persistence_damaged`).
    pub on_damage: OnDamage,
    /// Whether a new store begins with the contents of the database of mosquitto (`persistence_import`).
    pub imports: bool,
    /// The database of mosquitto that lies where the broker persists its state, if there is one.
    pub database_of_mosquitto: Option<PathBuf>,
}

impl Default for Persistence {
    fn default() -> Self {
        Self {
            directory: ".".into(),
            file: PERSISTENCE_FILE.to_owned().into(),
            durability: Durability::default(),
            commit_delay: Duration::ZERO,
            on_damage: OnDamage::default(),
            imports: false,
            database_of_mosquitto: None,
        }
    }
}

impl Persistence {
    /// The path of the file. An error in it is that of its name, or else of the directory.
    pub fn path(&self) -> Given<PathBuf> {
        let path = self.directory.join(&*self.file);
        self.file.map(|_| path).or_at(self.directory.place())
    }
}

/// What to do with a damaged file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDamage {
    /// Leave it as it is and do not start.
    #[default]
    Refuse,
    /// Rename it and start without its contents.
    SetAside,
}

/// What an acknowledgement guarantees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// The message is on disk.
    #[default]
    Always,
    /// The message will be on disk within a second.
    EverySecond,
    /// The message will be on disk at some later time.
    None,
}

/// The settings of the process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// The user to switch to after binding, if the broker was started as root (`user`); `None` if not configured.
    pub user: Option<Given<String>>,
    /// The number of that user (`PUID`), which takes precedence over the name.
    pub user_number: Option<u32>,
    /// The number of the group (`PGID`), in place of the user's own.
    pub group_number: Option<u32>,
    /// The file mode creation mask, at most 0o777 (`UMASK_SET`).
    pub file_mask: Option<u32>,
    /// The file to write the process id to (`pid_file`).
    pub pid_file: Option<Given<PathBuf>>,
    /// Whether to run in the background (`-d`).
    pub is_daemon: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::limits::Limits;

    fn listener(name: Option<&str>, port: u16, mount_point: Option<&str>) -> Listener {
        let options = ListenerOptions {
            mount_point: mount_point.map(Box::from),
            ..ListenerOptions::within(&Limits::default())
        };
        Listener {
            place: String::new(),
            name: name.map(Box::from),
            address: Address::Loopback { port },
            interface: None,
            socket_file: SocketFile::default(),
            protocol: Protocol::Mqtt,
            tls: None,
            proxy: None,
            proxies: Vec::new(),
            connections: usize::MAX,
            options: Rc::new(options),
            security: Rc::new(Security::default()),
        }
    }

    #[test]
    fn names_of_listeners_are_unique() {
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
    fn a_network_contains_the_addresses_with_its_prefix() {
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
