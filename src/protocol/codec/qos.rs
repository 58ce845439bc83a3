//! The three levels of quality of service.

/// A level of quality of service. Stronger guarantees compare greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum QoS {
    /// Not acknowledged.
    AtMostOnce = 0,
    /// Acknowledged by PUBACK.
    AtLeastOnce = 1,
    /// Acknowledged by PUBREC, PUBREL and PUBCOMP.
    ExactlyOnce = 2,
}

impl QoS {
    /// The QoS with this number; `None` if it is above 2.
    #[inline]
    pub const fn from_u8(level: u8) -> Option<Self> {
        match level {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }

    /// The number on the wire, 0 to 2.
    #[inline]
    pub const fn level(self) -> u8 {
        self as u8
    }
}
