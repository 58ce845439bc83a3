//! The destination of an outgoing connection, and the key that identifies the connection.

use std::net::IpAddr;

use super::tls;
use crate::base::time::Duration;
use crate::core::slots::Id;

/// The maximum number of outgoing connections. Beyond it, none is started.
pub(super) const CALLS_MAXIMUM: usize = 256;

/// Marks the keys of outgoing connections.
#[derive(Debug)]
pub enum CallMark {}

/// The key of an outgoing connection.
pub type CallId = Id<CallMark>;

/// Where to connect to, and how.
#[derive(Clone, Debug)]
pub struct Destination {
    /// A host name or an address.
    pub host: String,
    /// The port there.
    pub port: u16,
    /// The local address to connect from; any, if `None`.
    pub from: Option<IpAddr>,
    /// TCP keepalive probes: seconds of silence before the first, seconds between two, and how many; none by default.
    pub keepalive: Option<[u32; 3]>,
    /// How long sent bytes may stay unacknowledged by the peer's TCP. With `None` the system decides, as it does in a
    /// binary without the feature `system`.
    pub user_timeout: Option<Duration>,
    /// TLS, if the server speaks it. The certificate must be for the host.
    pub tls: Option<tls::ClientSetup>,
    /// The path of the WebSocket resource, if the server speaks WebSocket.
    pub websocket: Option<String>,
    /// How long each address may take until MQTT can be sent.
    pub patience: Duration,
}
