//! The two sides of a connection, and the packets that each of them may send.

use super::{DecodeError, Frame, Packet, ProtocolVersion, ReasonCode, decode};

/// The side of a Network Connection that this broker is on: it accepted the connection, or it opened it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The peer is a client.
    Server,
    /// The peer is a server.
    Client,
}

impl Side {
    /// Decodes a packet that the peer has sent.
    ///
    /// # Errors
    ///
    /// Those of [`decode`], and a Protocol Error for a packet that the peer may not send.
    #[inline]
    pub fn decode<'a>(self, frame: &Frame<'a>, version: ProtocolVersion) -> Result<Packet<'a>, DecodeError> {
        let packet = decode(frame, version)?;
        match self {
            Self::Server => check_of_client(&packet)?,
            Self::Client => check_of_server(&packet, version)?,
        }
        Ok(packet)
    }

    /// The name of the peer's role, for messages.
    pub const fn peer(self) -> &'static str {
        match self {
            Self::Server => "client",
            Self::Client => "server",
        }
    }
}

/// Checks that a client may send a packet of this type.
const fn check_of_client(packet: &Packet<'_>) -> Result<(), DecodeError> {
    match packet {
        Packet::ConnAck(_) | Packet::SubAck(_) | Packet::UnsubAck(_) | Packet::PingResp => {
            Err(DecodeError::ProtocolError("a packet that only servers send"))
        }
        _ => Ok(()),
    }
}

/// Checks that a server may send this packet.
fn check_of_server(packet: &Packet<'_>, version: ProtocolVersion) -> Result<(), DecodeError> {
    let wrong = match packet {
        // For CONNECT see [MQTT-3.1.0-1].
        Packet::Connect(_) | Packet::Subscribe(_) | Packet::Unsubscribe(_) | Packet::PingReq => {
            "a packet that only clients send"
        }
        Packet::Disconnect(_) if version != ProtocolVersion::V5 => {
            "a DISCONNECT from a server before MQTT 5.0"
        }
        // [MQTT-3.14.2-2]
        Packet::Disconnect(disconnect) if disconnect.properties.session_expiry_interval().is_some() => {
            "a Session Expiry Interval from a server"
        }
        Packet::Disconnect(disconnect) if disconnect.reason_code == ReasonCode::DisconnectWithWillMessage => {
            "a DISCONNECT with Will Message from a server"
        }
        Packet::Auth(auth) if auth.reason_code == ReasonCode::ReAuthenticate => {
            "a re-authentication started by a server"
        }
        _ => return Ok(()),
    };
    Err(DecodeError::ProtocolError(wrong))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::codec::testing::{ALL, V5, V31, V311};
    use crate::protocol::codec::{Status, frame};

    fn decode_as(side: Side, bytes: &[u8], version: ProtocolVersion) -> Result<&'static str, DecodeError> {
        let Ok(Status::Complete(cut)) = frame(bytes, 100) else { panic!("{bytes:02x?} is no packet") };
        side.decode(&cut, version).map(|packet| packet.name())
    }

    /// A packet of each type, in the oldest version that has it, and whether clients and servers may send it.
    const KINDS: [(ProtocolVersion, &[u8], &str, bool, bool); 15] = [
        (V311, b"\x10\x0C\x00\x04MQTT\x04\x02\x00\x00\x00\x00", "CONNECT", true, false),
        (V31, &[0x20, 2, 0, 0], "CONNACK", false, true),
        (V31, b"\x30\x04\x00\x01tx", "PUBLISH", true, true),
        (V31, &[0x40, 2, 0, 1], "PUBACK", true, true),
        (V31, &[0x50, 2, 0, 1], "PUBREC", true, true),
        (V31, &[0x62, 2, 0, 1], "PUBREL", true, true),
        (V31, &[0x70, 2, 0, 1], "PUBCOMP", true, true),
        (V31, b"\x82\x06\x00\x01\x00\x01t\x00", "SUBSCRIBE", true, false),
        (V31, &[0x90, 3, 0, 1, 0], "SUBACK", false, true),
        (V31, b"\xA2\x05\x00\x01\x00\x01t", "UNSUBSCRIBE", true, false),
        (V31, &[0xB0, 2, 0, 1], "UNSUBACK", false, true),
        (V31, &[0xC0, 0], "PINGREQ", true, false),
        (V31, &[0xD0, 0], "PINGRESP", false, true),
        (V31, &[0xE0, 0], "DISCONNECT", true, false),
        (V5, b"\xF0\x06\x18\x04\x15\x00\x01M", "AUTH", true, true),
    ];

    #[test]
    fn each_side_accepts_only_what_the_other_may_send() {
        for (version, bytes, name, of_client, of_server) in KINDS {
            for (side, is_allowed) in [(Side::Server, of_client), (Side::Client, of_server)] {
                let outcome = decode_as(side, bytes, version);
                match is_allowed {
                    true => assert_eq!(outcome, Ok(name), "{side:?}"),
                    false => {
                        assert!(matches!(outcome, Err(DecodeError::ProtocolError(_))), "{side:?} {name}")
                    }
                }
            }
        }
    }

    #[test]
    fn a_server_may_send_disconnect_in_5_only() {
        for version in ALL {
            let outcome = decode_as(Side::Client, &[0xE0, 0], version);
            assert_eq!(outcome.is_ok(), version == V5, "{version:?}");
        }
        assert_eq!(decode_as(Side::Client, &[0xE0, 1, 0x8E], V5), Ok("DISCONNECT"));
        let of_client: [&[u8]; 3] =
            [&[0xE0, 1, 0x04], b"\xE0\x07\x00\x05\x11\x00\x00\x00\x05", b"\xF0\x06\x19\x04\x15\x00\x01M"];
        for bytes in of_client {
            assert!(matches!(decode_as(Side::Client, bytes, V5), Err(DecodeError::ProtocolError(_))));
            assert!(decode_as(Side::Server, bytes, V5).is_ok());
        }
    }
}
