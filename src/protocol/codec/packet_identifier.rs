//! The number that identifies the packet that an acknowledgement belongs to.

use std::fmt;
use std::num::NonZeroU16;

/// A Packet Identifier. It is never zero, so an `Option` of it has the same size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketIdentifier(NonZeroU16);

impl PacketIdentifier {
    /// The lowest Packet Identifier, 1.
    pub const FIRST: Self = Self(NonZeroU16::MIN);

    /// The Packet Identifier with this value; `None` for zero.
    #[inline]
    pub const fn new(value: u16) -> Option<Self> {
        match NonZeroU16::new(value) {
            Some(value) => Some(Self(value)),
            None => None,
        }
    }

    /// The value on the wire.
    #[inline]
    pub const fn value(self) -> u16 {
        self.0.get()
    }
}

impl fmt::Display for PacketIdentifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

const _: () = assert!(size_of::<Option<PacketIdentifier>>() == 2);
