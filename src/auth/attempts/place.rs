//! Where login attempts come from, as far as fairness is concerned.

use core::net::IpAddr;

/// The origin of attempts. All clients of one place share one quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Place {
    /// This machine, without an address.
    Local,
    V4(u32),
    /// The first 64 bits of an IPv6 address: a client that has one address has all that share them.
    V6(u64),
}

impl Place {
    /// Returns the place of an address; no address means this machine.
    pub(super) fn of(address: Option<IpAddr>) -> Self {
        match address.map(|address| address.to_canonical()) {
            None => Self::Local,
            Some(IpAddr::V4(address)) => Self::V4(address.to_bits()),
            Some(IpAddr::V6(address)) => Self::V6(u64::try_from(address.to_bits() >> 64).unwrap_or(0)),
        }
    }
}
