//! A bounds-checked reader over the body of a packet. All other files of the codec read through it, so none of them can
//! read past the end.

use byteorder::{BigEndian, ByteOrder};

use super::{DecodeError, PacketIdentifier, ReasonCode};
use crate::protocol::topic::{TopicFilter, TopicName};
use crate::protocol::utf8;

pub(super) const TOO_SHORT: DecodeError = DecodeError::Malformed("packet ends inside a field");

/// The part of a packet that has not been read yet.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    #[inline]
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    #[inline]
    pub(super) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The bytes that have not been read yet.
    #[inline]
    pub(super) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Checks that all bytes of the packet have been read.
    #[inline]
    pub(super) const fn finish(&self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::Malformed("bytes after the last field")) }
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], DecodeError> {
        let (array, rest) = self.rest.split_first_chunk().ok_or(TOO_SHORT)?;
        self.rest = rest;
        Ok(array)
    }

    #[inline]
    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(TOO_SHORT)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|&[byte]| byte)
    }

    #[inline]
    pub(super) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array::<2>().map(|bytes| BigEndian::read_u16(bytes))
    }

    #[inline]
    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array::<4>().map(|bytes| BigEndian::read_u32(bytes))
    }

    /// Reads a Variable Byte Integer of MQTT 5.0, which must be in its shortest form [MQTT-1.5.5-1].
    #[inline]
    pub(super) fn variable_byte_integer(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.u8()?;
            value |= u32::from(byte & 0x7F) << shift;
            if byte & 0x80 != 0 {
                continue;
            }
            if byte == 0 && shift > 0 {
                return Err(DecodeError::Malformed("variable byte integer not in its shortest form"));
            }
            return Ok(value);
        }
        Err(DecodeError::Malformed("variable byte integer over four bytes"))
    }

    /// Reads Binary Data: a length of two bytes, then that many bytes.
    #[inline]
    pub(super) fn binary(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    /// Reads a UTF-8 Encoded String.
    #[inline]
    pub(super) fn string(&mut self) -> Result<&'a str, DecodeError> {
        let text = text(self.binary()?)?;
        if !utf8::is_sound(text) {
            return Err(DecodeError::Malformed("a control character or a non-character in a string"));
        }
        Ok(text)
    }

    pub(super) fn topic_name(&mut self) -> Result<TopicName<'a>, DecodeError> {
        TopicName::new(text(self.binary()?)?).map_err(DecodeError::TopicName)
    }

    pub(super) fn topic_filter(&mut self) -> Result<TopicFilter<'a>, DecodeError> {
        TopicFilter::new(text(self.binary()?)?).map_err(DecodeError::TopicFilter)
    }

    /// Reads a Packet Identifier, which must not be zero [MQTT-2.2.1-3].
    #[inline]
    pub(super) fn packet_identifier(&mut self) -> Result<PacketIdentifier, DecodeError> {
        PacketIdentifier::new(self.u16()?).ok_or(DecodeError::ProtocolError("packet identifier 0"))
    }

    /// Reads a Reason Code, which must be one of those `listed` for the packet.
    pub(super) fn reason_code(&mut self, listed: &[ReasonCode]) -> Result<ReasonCode, DecodeError> {
        ReasonCode::from_u8(self.u8()?)
            .filter(|code| listed.contains(code))
            .ok_or(DecodeError::ProtocolError("reason code not allowed in this packet"))
    }
}

/// Decodes a Topic Name; `None` if there are no bytes.
#[inline]
pub(super) fn topic_name_or_empty(bytes: &[u8]) -> Result<Option<TopicName<'_>>, DecodeError> {
    match text(bytes)? {
        "" => Ok(None),
        text => TopicName::new(text).map(Some).map_err(DecodeError::TopicName),
    }
}

/// Decodes UTF-8, without checking for characters that are not allowed in a packet.
#[inline]
fn text(bytes: &[u8]) -> Result<&str, DecodeError> {
    std::str::from_utf8(bytes).map_err(|_| DecodeError::Malformed("string is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_byte_integers_follow_the_table_of_the_standard() {
        for (bytes, value) in [
            (&[0x00][..], 0),
            (&[0x7F], 127),
            (&[0x80, 0x01], 128),
            (&[0xFF, 0x7F], 16_383),
            (&[0x80, 0x80, 0x01], 16_384),
            (&[0xFF, 0xFF, 0x7F], 2_097_151),
            (&[0x80, 0x80, 0x80, 0x01], 2_097_152),
            (&[0xFF, 0xFF, 0xFF, 0x7F], 268_435_455),
        ] {
            assert_eq!(Reader::new(bytes).variable_byte_integer(), Ok(value));
            let mut written = Vec::new();
            crate::protocol::codec::writer::variable_byte_integer(&mut written, value as usize);
            assert_eq!(written, bytes);
        }
        for bytes in [&[0x80, 0x00][..], &[0xFF, 0x80, 0x00], &[0x80, 0x80, 0x80, 0x80, 0x01], &[0x80], &[]] {
            assert!(Reader::new(bytes).variable_byte_integer().is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn strings_are_checked() {
        let bom = [0, 4, 0xEF, 0xBB, 0xBF, b'a'];
        assert_eq!(Reader::new(&bom).string(), Ok("\u{FEFF}a"));
        for (bytes, what) in [
            (&[0, 3, 0xED, 0xA0, 0x80][..], "a surrogate"),
            (&[0, 2, 0xC0, 0x80], "an overlong U+0000"),
            (&[0, 1, 0xFF], "no UTF-8"),
            (&[0, 1, 0], "U+0000"),
            (&[0, 2, b'a', 0x1F], "the last control character of one byte before the space"),
            (&[0, 2, 0xC2, 0x9F], "the last control character of two bytes"),
            (&[0, 3, 0xEF, 0xB7, 0x90], "a non-character"),
            (&[0, 4, 0xF4, 0x8F, 0xBF, 0xBF], "the last character of all"),
            (&[0, 2, b'a'], "too short"),
            (&[0], "half a length"),
        ] {
            let found = Reader::new(bytes).string().map_err(DecodeError::reason_code);
            assert_eq!(found, Err(ReasonCode::MalformedPacket), "{what}");
        }
    }
}
