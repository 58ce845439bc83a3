//! One level of a topic as one token of a subject.
//!
//! An empty level is `%_`. A control character, a space, and `%`, `.`, `*` and `>`, which have a meaning in subjects, are
//! `%` and two digits; everything else stays as it is. So a token that starts with `%` and goes on with neither `_` nor
//! a digit never stands for a level.

use sha2::{Digest, Sha256};

/// The bytes of a [`hash`].
pub(super) const HASH_LENGTH: usize = 32;

const EMPTY: &str = "%_";

const DIGITS: &[u8; 16] = b"0123456789ABCDEF";

const fn is_escaped(byte: u8) -> bool {
    matches!(byte, 0..=b' ' | 0x7F | b'%' | b'.' | b'*' | b'>')
}

/// Appends a level as a token. `+`, which no Topic Name has, becomes the wildcard of one level.
pub(super) fn push_token(level: &str, into: &mut String) {
    match level {
        "" => return into.push_str(EMPTY),
        "+" => return into.push('*'),
        _ => {}
    }
    let mut rest = level;
    while let Some(at) = rest.bytes().position(is_escaped) {
        let (plain, special) = rest.split_at(at);
        into.push_str(plain);
        let (byte, others) = special.split_at(1);
        for byte in byte.bytes() {
            into.push('%');
            into.extend([byte >> 4, byte & 0xF].map(|half| char::from(DIGITS[usize::from(half)])));
        }
        rest = others;
    }
    into.push_str(rest);
}

/// Appends the level that a token stands for; `None` if [`push_token`] makes this token of no level of a Topic Name.
pub(super) fn push_level(token: &str, into: &mut String) -> Option<()> {
    match token {
        "" => return None,
        EMPTY => return Some(()),
        _ => {}
    }
    let mut parts = token.split('%');
    into.push_str(parts.next().filter(|part| is_plain(part))?);
    for part in parts {
        let (digits, plain) = part.split_at_checked(2)?;
        let byte = digits.bytes().try_fold(0, |byte, digit| {
            let half = DIGITS.iter().position(|&known| known == digit)?;
            Some(byte << 4 | u8::try_from(half).ok()?)
        });
        into.push(char::from(byte.filter(|&byte| is_escaped(byte))?));
        into.push_str(Some(plain).filter(|part| is_plain(part))?);
    }
    Some(())
}

/// Whether a part of a level has no byte that is escaped, and is no more than one level.
fn is_plain(text: &str) -> bool {
    !text.bytes().any(|byte| is_escaped(byte) || byte == b'/')
}

/// Returns the digits of the first 128 bits of the SHA-256 of a text. Clients choose the text, so it must be infeasible to
/// find another one with a given hash; two of one's own choice with the same hash, which takes 2^64 attempts, hurt only
/// their owner, since a message carries what its subject only has the hash of.
pub(super) fn hash(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let bytes = digest.iter().take(HASH_LENGTH / 2);
    bytes.flat_map(|byte| [byte >> 4, byte & 0xF]).map(|half| char::from(DIGITS[usize::from(half)])).collect()
}
