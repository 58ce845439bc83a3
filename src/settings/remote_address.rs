//! Where another broker or a server is.

/// An address to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteAddress {
    /// A host name or an address.
    pub host: String,
    /// The port; without one in the configuration, that of the protocol.
    pub port: u16,
}
