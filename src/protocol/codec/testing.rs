//! Helpers that the tests of the packet files share.

use super::{DecodeError, Packet, PacketIdentifier, PropertyBuffer, ProtocolVersion, ReasonCode, Status};
use super::{Property, decode, frame};

pub(super) use ProtocolVersion::{V5, V31, V311};

/// The versions before MQTT 5.0.
pub(super) const OLD: [ProtocolVersion; 2] = [V31, V311];
pub(super) const ALL: [ProtocolVersion; 3] = [V31, V311, V5];

pub(super) const MALFORMED: ReasonCode = ReasonCode::MalformedPacket;
pub(super) const PROTOCOL_ERROR: ReasonCode = ReasonCode::ProtocolError;

pub(super) fn identifier(value: u16) -> PacketIdentifier {
    PacketIdentifier::new(value).unwrap()
}

pub(super) fn block(properties: &[Property<'_>]) -> PropertyBuffer {
    let mut buffer = PropertyBuffer::default();
    for property in properties {
        buffer.push(*property);
    }
    buffer
}

/// Decodes bytes that must be exactly one packet.
pub(super) fn decode_whole(version: ProtocolVersion, bytes: &[u8]) -> Result<Packet<'_>, DecodeError> {
    match frame(bytes, bytes.len())? {
        Status::Complete(cut) if cut.length == bytes.len() => decode(&cut, version),
        other => panic!("the bytes are not one packet: {other:?}"),
    }
}

/// Asserts that the bytes decode to the packet.
#[track_caller]
pub(super) fn assert_decodes(version: ProtocolVersion, bytes: &[u8], packet: &Packet<'_>) {
    assert_eq!(decode_whole(version, bytes), Ok(*packet), "{version:?} {bytes:02X?}");
}

/// Asserts that the bytes decode to the packet, and that the packet encodes to the bytes.
#[track_caller]
pub(super) fn assert_golden(version: ProtocolVersion, bytes: &[u8], packet: &Packet<'_>) {
    assert_decodes(version, bytes, packet);
    let mut encoded = vec![0xEE];
    packet.encode(version, &mut encoded);
    assert_eq!(encoded[0], 0xEE, "encoding appends");
    assert_eq!(&encoded[1..], bytes, "{version:?} {packet:?}");
}

/// Asserts that each of the packets is refused with its Reason Code.
#[track_caller]
pub(super) fn assert_illegal(version: ProtocolVersion, table: &[(&[u8], ReasonCode, &str)]) {
    for (bytes, code, what) in table {
        let found = decode_whole(version, bytes).map_err(DecodeError::reason_code);
        assert_eq!(found, Err(*code), "{version:?} {what}");
    }
}
