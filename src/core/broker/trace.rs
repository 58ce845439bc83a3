//! Packets in words, for the debug log.

use std::fmt;

use crate::base::escape::Escaped;
use crate::protocol::codec::Packet;

/// A packet and where it goes or comes from, as in `PUBACK to a (m1, rc0)`.
pub(super) struct Described<'a> {
    pub(super) packet: &'a Packet<'a>,
    /// `from` or `to`.
    pub(super) direction: &'static str,
    pub(super) client: &'a str,
}

impl fmt::Display for Described<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {} {}", self.packet.name(), self.direction, Escaped(self.client))?;
        match self.packet {
            Packet::PubAck(answer)
            | Packet::PubRec(answer)
            | Packet::PubRel(answer)
            | Packet::PubComp(answer) => {
                write!(formatter, " (m{}, rc{})", answer.packet_identifier, answer.reason_code.value())
            }
            Packet::Publish(publish) => write!(
                formatter,
                " (d{}, q{}, r{}, m{}, '{}', ... ({} bytes))",
                u8::from(publish.dup),
                publish.delivery.qos().level(),
                u8::from(publish.retain),
                publish.delivery.packet_identifier().map_or(0, |identifier| identifier.value()),
                Escaped(publish.topic.map_or("", |topic| topic.as_str())),
                publish.payload.len(),
            ),
            Packet::Subscribe(subscribe) => {
                for wanted in subscribe.subscriptions.iter() {
                    write!(formatter, " {} (QoS {})", Escaped(wanted.filter.as_str()), wanted.qos.level())?;
                }
                Ok(())
            }
            Packet::Unsubscribe(unsubscribe) => {
                for filter in unsubscribe.filters.iter() {
                    write!(formatter, " {}", Escaped(filter.as_str()))?;
                }
                Ok(())
            }
            Packet::Disconnect(disconnect) => write!(formatter, " (rc{})", disconnect.reason_code.value()),
            Packet::ConnAck(connack) => {
                write!(formatter, " ({}, {})", u8::from(connack.session_present), connack.code)
            }
            _ => Ok(()),
        }
    }
}
