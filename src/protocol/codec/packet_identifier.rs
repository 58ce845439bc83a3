//! The number that ties an acknowledgement to its packet.

use std::fmt;
use std::num::NonZeroU16;

/// A Packet Identifier, which is never zero; an `Option` of it is as small as itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketIdentifier(NonZeroU16);

impl PacketIdentifier {
    /// The lowest one.
    pub const FIRST: Self = Self(NonZeroU16::MIN);

    /// The Packet Identifier of this number; `None` for zero.
    #[inline]
    pub const fn new(value: u16) -> Option<Self> {
        match NonZeroU16::new(value) {
            Some(value) => Some(Self(value)),
            None => None,
        }
    }

    /// The number on the wire.
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
