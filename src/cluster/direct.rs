//! Messages that go to the other nodes at once and are not stored: what the body of such a message of NATS consists of.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | the version of this layout |
//! | 1 | the level of MQTT in which the packets are encoded: 4 or 5 |
//! | 8 | the incarnation of the node: a number that it draws when it starts |
//! | 8 | the number of the body among those of this incarnation |
//! | the rest | PUBLISH packets with the same topic, one after another |
//!
//! The packets are those of clients, or what a client with the same message would send. So they are passed on without
//! being encoded again, several at once, and are checked where the packets of clients are.
//!
//! Numbers are big-endian. A later version may only add bytes before the packets, and then says so by its number, which
//! this version refuses.

use crate::cluster::origin::Origin;
use crate::protocol::codec::ProtocolVersion;

/// The version of the layout.
const VERSION: u8 = 1;

/// The bytes before the packets.
pub const HEAD_LENGTH: usize = 1 + 1 + 8 + 8;

/// The bytes before the packets of a body.
pub fn head(version: ProtocolVersion, origin: Origin) -> [u8; HEAD_LENGTH] {
    let mut bytes = [0; HEAD_LENGTH];
    bytes[0] = VERSION;
    bytes[1] = if version == ProtocolVersion::V5 { 5 } else { 4 };
    bytes[2..10].copy_from_slice(&origin.incarnation.to_be_bytes());
    bytes[10..].copy_from_slice(&origin.counter.to_be_bytes());
    bytes
}

/// A body of another node. Its packets are not checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Direct<'a> {
    /// Where it comes from.
    pub origin: Origin,
    /// The version of MQTT in which the packets are encoded.
    pub version: ProtocolVersion,
    /// The packets.
    pub packets: &'a [u8],
}

impl<'a> Direct<'a> {
    /// Reads a body.
    ///
    /// # Errors
    ///
    /// What is wrong with the bytes before the packets.
    pub fn read(bytes: &'a [u8]) -> Result<Self, &'static str> {
        let Some((head, packets)) = bytes.split_first_chunk::<HEAD_LENGTH>() else {
            return Err("it is cut off");
        };
        let [VERSION, level, ..] = *head else { return Err("it has an unknown version") };
        let version = match level {
            4 => ProtocolVersion::V311,
            5 => ProtocolVersion::V5,
            _ => return Err("it has packets of an unknown version"),
        };
        let number = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&head[at..at + 8]);
            u64::from_be_bytes(bytes)
        };
        Ok(Self { origin: Origin { incarnation: number(2), counter: number(10) }, version, packets })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for version in [ProtocolVersion::V311, ProtocolVersion::V5] {
            let origin = Origin { incarnation: u64::MAX - 7, counter: 1 << 40 };
            let bytes = [&head(version, origin)[..], b"packets"].concat();
            assert_eq!(Direct::read(&bytes), Ok(Direct { origin, version, packets: b"packets" }));
            for length in 0..HEAD_LENGTH {
                assert!(Direct::read(&bytes[..length]).is_err());
            }
        }
    }

    #[test]
    fn other_versions_are_refused() {
        let origin = Origin { incarnation: 1, counter: 2 };
        for (place, wrong) in [(0, 0), (0, 2), (1, 0), (1, 3), (1, 6)] {
            let mut bytes = head(ProtocolVersion::V5, origin);
            bytes[place] = wrong;
            assert!(Direct::read(&bytes).is_err(), "{place} {wrong}");
        }
    }
}
