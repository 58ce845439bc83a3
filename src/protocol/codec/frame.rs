//! Splits a stream of bytes into packets without decoding them.

use super::{DecodeError, ProtocolVersion, writer};

/// The length in bytes of the longest packet that the protocol allows, including its fixed header.
pub const PACKET_SIZE_MAXIMUM: usize = 1 + 4 + writer::INTEGER_MAXIMUM;

/// The result of parsing input that may be incomplete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status<T> {
    /// The result.
    Complete(T),
    /// The input ends before the result is complete.
    Incomplete {
        /// The number of bytes, counted from the start of the input, that must be available before it is worth
        /// trying again. Always more than the input has. Once the length of the packet is known, never more than the
        /// limit on a packet.
        needed: usize,
    },
}

/// One complete packet, not yet decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Packet type and flags.
    pub first_byte: u8,
    /// Everything after the fixed header.
    pub body: &'a [u8],
    /// The complete packet, including its fixed header.
    pub packet: &'a [u8],
    /// The length of the complete packet in bytes, including its fixed header.
    pub length: usize,
}

/// Splits the first packet off `input`.
///
/// # Errors
///
/// [`DecodeError::PacketTooLarge`] if the complete packet is longer than `maximum_packet_size`, as soon as its
/// length is known; [`DecodeError::Malformed`] if the Remaining Length takes more than four bytes.
#[inline]
pub fn frame(input: &[u8], maximum_packet_size: usize) -> Result<Status<Frame<'_>>, DecodeError> {
    let Some((&first_byte, rest)) = input.split_first() else {
        return Ok(Status::Incomplete { needed: 2 });
    };
    let Status::Complete((remaining_length, width)) = remaining_length(rest)? else {
        return Ok(Status::Incomplete { needed: input.len() + 1 });
    };
    let length = 1 + width + remaining_length;
    if length > maximum_packet_size {
        return Err(DecodeError::PacketTooLarge);
    }
    let Some(packet) = input.get(..length) else {
        return Ok(Status::Incomplete { needed: length });
    };
    let (_, body) = packet.split_at(1 + width);
    Ok(Status::Complete(Frame { first_byte, body, packet, length }))
}

/// Reads the Remaining Length at the start of `input`. Returns it with the number of bytes that it takes.
#[inline]
fn remaining_length(input: &[u8]) -> Result<Status<(usize, usize)>, DecodeError> {
    if let Some(&byte) = input.first()
        && byte & 0x80 == 0
    {
        return Ok(Status::Complete((usize::from(byte), 1)));
    }
    let mut value = 0;
    for (index, &byte) in input.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Status::Complete((value, index + 1)));
        }
    }
    if input.len() >= 4 {
        return Err(DecodeError::Malformed("remaining length over four bytes"));
    }
    Ok(Status::Incomplete { needed: input.len() + 1 })
}

impl Frame<'_> {
    /// The packet type, 0 to 15.
    #[inline]
    pub(super) const fn kind(&self) -> u8 {
        self.first_byte >> 4
    }

    /// Checks the encoding of the Remaining Length. MQTT 5.0 requires the shortest form [MQTT-1.5.5-1]; the older
    /// versions do not.
    #[inline]
    pub(super) fn check_length(&self, version: ProtocolVersion) -> Result<(), DecodeError> {
        let width = self.length - 1 - self.body.len();
        if width > 1 && version == ProtocolVersion::V5 && width > writer::integer_width(self.body.len()) {
            return Err(DecodeError::Malformed("remaining length not in its shortest form"));
        }
        Ok(())
    }

    /// Checks that the reserved flags have their only valid value [MQTT-2.1.3-1]. MQTT 3.1 reserves no flags: it sets
    /// DUP on a repeated PUBREL, SUBSCRIBE and UNSUBSCRIBE, and ignores flags that it does not use.
    #[inline]
    pub(super) fn check_flags(&self, expected: u8, version: ProtocolVersion) -> Result<(), DecodeError> {
        if self.first_byte & 0x0F != expected && version != ProtocolVersion::V31 {
            return Err(DecodeError::Malformed("reserved flags of the fixed header"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_split_off() {
        let expected = Frame { first_byte: 0x40, body: &[0, 1], packet: &[0x40, 2, 0, 1], length: 4 };
        assert_eq!(frame(&[0x40, 2, 0, 1, 0xC0, 0], 4), Ok(Status::Complete(expected)));
        let bytes = [0x40, 0x82, 0x80, 0x80, 0, 0, 1];
        let long = Frame { first_byte: 0x40, body: &[0, 1], packet: &bytes, length: 7 };
        assert_eq!(frame(&bytes, 7), Ok(Status::Complete(long)));
    }

    #[test]
    fn an_incomplete_packet_reports_how_many_bytes_it_needs() {
        for (input, needed) in [
            (&[][..], 2),
            (&[0x30], 2),
            (&[0x30, 0x80], 3),
            (&[0x30, 0x80, 0x80, 0x80], 5),
            (&[0x30, 5], 7),
            (&[0x30, 5, 0, 0, 0, 0], 7),
            (&[0x30, 0x80, 1, 0], 131),
            (&[0x30, 0xFF, 0xFF, 0xFF, 0x7F], 268_435_460),
        ] {
            assert_eq!(frame(input, usize::MAX), Ok(Status::Incomplete { needed }), "{input:?}");
        }
    }

    #[test]
    fn limits_are_checked_before_the_body_has_arrived() {
        assert_eq!(frame(&[0x30, 5], 6), Err(DecodeError::PacketTooLarge));
        assert_eq!(frame(&[0x30, 5], 7), Ok(Status::Incomplete { needed: 7 }));
        let over_four = Err(DecodeError::Malformed("remaining length over four bytes"));
        assert_eq!(frame(&[0x30, 0x80, 0x80, 0x80, 0x80], usize::MAX), over_four);
        assert_eq!(frame(&[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 1], 1), over_four);
    }
}
