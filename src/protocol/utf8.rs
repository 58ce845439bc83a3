//! UTF-8 Encoded Strings: which texts are allowed in a packet. Every topic, filter, identifier and name that the broker
//! accepts, from whatever source, has been checked here.

/// Decodes UTF-8. `None` if it is not valid or the text is not allowed in a packet.
#[inline]
pub fn read(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok().filter(|text| is_sound(text))
}

/// Whether a text is allowed in a packet: it has no U+0000 [MQTT-1.5.4-2], and none of the control characters and
/// non-characters for which the standard allows a receiver to close the connection. A `str` never has surrogates
/// [MQTT-1.5.4-1]. A byte order mark is a character like any other [MQTT-1.5.4-3].
#[inline]
pub fn is_sound(text: &str) -> bool {
    // Without an early exit, the compiler can vectorize this.
    text.bytes().fold(true, |is_plain, byte| is_plain & is_plain_byte(byte))
        || text.chars().all(is_sound_character)
}

/// Whether a byte is a complete character that is allowed in a packet.
#[inline]
pub const fn is_plain_byte(byte: u8) -> bool {
    matches!(byte, b' '..=b'~')
}

/// Whether a character is allowed in a packet.
pub const fn is_sound_character(character: char) -> bool {
    let is_excluded = matches!(character, '\0'..='\u{1F}' | '\u{7F}'..='\u{9F}' | '\u{FDD0}'..='\u{FDEF}');
    // The last two characters of each plane.
    !is_excluded && character as u32 & 0xFFFE != 0xFFFE
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::fuzzing::is_allowed_in_a_string;

    #[test]
    fn every_character_is_checked_according_to_the_standard() {
        let mut counted = 0;
        for character in '\0'..=char::MAX {
            let is_allowed = is_allowed_in_a_string(character);
            counted += u32::from(!is_allowed);
            for text in [format!("{character}"), format!("a{character}"), format!("{character}é")] {
                assert_eq!(is_sound(&text), is_allowed, "{text:?}");
                assert_eq!(read(text.as_bytes()).is_some(), is_allowed, "{text:?}");
            }
        }
        assert_eq!(counted, 32 + 33 + 32 + 34, "exactly those that the standard lists");
    }

    #[test]
    fn a_bad_character_is_found_at_any_position() {
        for length in 1..70 {
            for place in 0..length {
                let mut bytes = vec![b'a'; length];
                assert!(read(&bytes).is_some());
                for byte in [0, 0x1F, 0x7F, 0xFF] {
                    bytes[place] = byte;
                    assert!(read(&bytes).is_none(), "{byte:02x} at {place} of {length}");
                }
            }
        }
    }
}
