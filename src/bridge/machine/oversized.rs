//! Messages of the other broker that are larger than this broker accepts. Before MQTT 5.0, the other broker cannot be told
//! the limit. If the connection ended, it would send the same message on the next one for ever, so the message is skipped
//! and acknowledged instead.

use super::Machine;
use super::forward::Obstacle;
use crate::base::time::Time;
use crate::bridge::topics::Way;
use crate::protocol::codec::{
    DecodeError, Delivery, Oversized, PacketIdentifier, ProtocolVersion, Status, frame,
};

/// The first four bits of a PUBLISH.
const PUBLISH: u8 = 3;

/// The start of a PUBLISH.
struct Head<'a> {
    delivery: Delivery,
    topic: &'a [u8],
}

impl<'a> Head<'a> {
    /// Reads the start of a PUBLISH; `None` if there are too few bytes, or if it has no valid QoS or Packet Identifier.
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let (&first, rest) = bytes.split_first()?;
        let width = 1 + rest.iter().take_while(|&&byte| byte & 0x80 != 0).count();
        let (&length, rest) = rest.split_at_checked(width)?.1.split_first_chunk()?;
        let (topic, rest) = rest.split_at_checked(u16::from_be_bytes(length).into())?;
        let identifier = || PacketIdentifier::new(u16::from_be_bytes(*rest.first_chunk()?));
        let delivery = match first >> 1 & 0b11 {
            0 => Delivery::AtMostOnce,
            1 => Delivery::AtLeastOnce(identifier()?),
            2 => Delivery::ExactlyOnce(identifier()?),
            _ => return None,
        };
        Some(Self { delivery, topic })
    }

    /// The most bytes that the start can have: a fixed header, a topic and a Packet Identifier.
    const LENGTH_MAXIMUM: usize = 5 + 2 + 65_535 + 2;
}

impl Machine {
    /// Describes a packet of the other broker that is too large, from its first bytes.
    #[cold]
    pub(super) fn too_large(&self, bytes: &[u8]) -> String {
        let (packet, limit) = (Oversized(bytes), self.remote.packet_size);
        let topic = packet.topic().map_or_else(String::new, |topic| format!(", topic {topic}"));
        format!("{}: {packet}, the limit is {limit} (max_packet_size){topic}", DecodeError::PacketTooLarge)
    }

    /// The next packet is too large. Returns whether its bytes are skipped; otherwise more bytes are needed, or the
    /// connection has ended.
    #[cold]
    pub(super) fn skip_oversized(&mut self, bytes: &[u8], now: Time) -> bool {
        let length = match frame(bytes, usize::MAX) {
            Ok(Status::Complete(frame)) => frame.length,
            Ok(Status::Incomplete { needed }) => needed,
            Err(_) => bytes.len(),
        };
        let is_publish = bytes.first().is_some_and(|first| first >> 4 == PUBLISH);
        if !is_publish || self.remote.variant.version == ProtocolVersion::V5 {
            self.lose(&self.too_large(bytes), now);
            return false;
        }
        let Some(head) = Head::read(bytes) else {
            if bytes.len() >= Head::LENGTH_MAXIMUM.min(length) {
                self.lose("a malformed PUBLISH that is too large", now);
            }
            return false;
        };
        self.report.dropped += 1;
        self.name_dropped(&String::from_utf8_lossy(head.topic), length, Way::In, Obstacle::Size);
        self.acknowledge_there(head.delivery);
        self.remote.skipping = length;
        true
    }
}
