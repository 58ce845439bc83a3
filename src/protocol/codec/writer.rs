//! Appends the fields of packets to a buffer. A value that is too long for its length field is a bug in the broker,
//! never the peer's fault, so it panics.

use byteorder::{BigEndian, ByteOrder};

use super::ReasonCode;

/// The largest value of a Variable Byte Integer, and so the largest Remaining Length.
pub(super) const INTEGER_MAXIMUM: usize = 268_435_455;

#[inline]
pub(super) fn u16(into: &mut Vec<u8>, value: u16) {
    let mut bytes = [0; 2];
    BigEndian::write_u16(&mut bytes, value);
    into.extend_from_slice(&bytes);
}

#[inline]
pub(super) fn u32(into: &mut Vec<u8>, value: u32) {
    let mut bytes = [0; 4];
    BigEndian::write_u32(&mut bytes, value);
    into.extend_from_slice(&bytes);
}

/// The number of bytes that `value` takes as a Variable Byte Integer.
#[inline]
pub(super) const fn integer_width(value: usize) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

/// Appends `value` as a Variable Byte Integer in its shortest form [MQTT-1.5.5-1].
#[inline]
pub(super) fn variable_byte_integer(into: &mut Vec<u8>, mut value: usize) {
    assert!(value <= INTEGER_MAXIMUM, "a variable byte integer of {value}");
    while value >= 0x80 {
        into.push(low_byte(value) | 0x80);
        value >>= 7;
    }
    into.push(low_byte(value));
}

/// Appends a length as a Variable Byte Integer. A value that is too large is encoded as [`INTEGER_MAXIMUM`]. The packet
/// is then longer than any valid one, so the caller can see from its length that it must not be sent.
#[inline]
pub(super) fn length(into: &mut Vec<u8>, length: usize) {
    variable_byte_integer(into, length.min(INTEGER_MAXIMUM));
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the seven bits that are kept fit a byte")]
const fn low_byte(value: usize) -> u8 {
    (value & 0x7F) as u8
}

/// Appends Binary Data: a length of two bytes, then the bytes.
#[inline]
pub(super) fn binary(into: &mut Vec<u8>, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).expect("a field of at most 65535 bytes");
    u16(into, length);
    into.extend_from_slice(bytes);
}

/// Appends a UTF-8 Encoded String.
#[inline]
pub(super) fn string(into: &mut Vec<u8>, text: &str) {
    binary(into, text.as_bytes());
}

#[inline]
pub(super) fn reason_code(into: &mut Vec<u8>, code: ReasonCode) {
    into.push(code.value());
}

/// Appends a complete packet, whose body is written by `body`. The Remaining Length is inserted before it afterwards.
/// Packets that are sent often compute it in advance and do not use this function.
pub(super) fn packet(into: &mut Vec<u8>, first_byte: u8, body: impl FnOnce(&mut Vec<u8>)) {
    into.push(first_byte);
    let start = into.len();
    body(into);
    let end = into.len();
    // Unlike a PUBLISH, none of these packets grows when it is forwarded, so the length fits.
    variable_byte_integer(into, end - start);
    let width = into.len() - end;
    if let Some(moved) = into.get_mut(start..) {
        moved.rotate_right(width);
    }
}
