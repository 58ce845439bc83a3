//! What an outgoing connection leads to, and the key by which it is known from then on.

use std::net::IpAddr;

use super::tls;
use crate::base::time::Duration;
use crate::core::slots::Id;

/// Outgoing connections at one time. Beyond: none is begun.
pub(super) const CALLS_MAXIMUM: usize = 256;

/// Names the key of an outgoing connection.
#[derive(Debug)]
pub enum CallMark {}

/// The key of an outgoing connection.
pub type CallId = Id<CallMark>;

/// What is to be connected to, and how.
#[derive(Clone, Debug)]
pub struct Destination {
    /// A name or an address.
    pub host: String,
    /// The port there.
    pub port: u16,
    /// The address of ours that the connection is to come from; any, if there is none.
    pub from: Option<IpAddr>,
    /// TLS, if it is spoken there. The certificate must be for the host.
    pub tls: Option<tls::ClientSetup>,
    /// The path of WebSocket, if that is spoken there.
    pub websocket: Option<String>,
    /// How long each address may take until MQTT can be sent.
    pub patience: Duration,
}
