//! The origin of a connection.

use core::net::{IpAddr, SocketAddr};
use std::fmt;

/// The origin of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A socket of the internet family.
    Internet(SocketAddr),
    /// A peer on this machine that has no address.
    Local,
}

impl Peer {
    /// The IP address, if there is one.
    pub const fn address(self) -> Option<IpAddr> {
        match self {
            Self::Internet(address) => Some(address.ip()),
            Self::Local => None,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Internet(address) => address.fmt(formatter),
            Self::Local => formatter.write_str("local"),
        }
    }
}
