//! The key of a user: Ed25519, whose seed is written in base32 with a checksum.

use std::fmt;

use base64ct::{Base64UrlUnpadded, Encoding};
use ring::signature::{Ed25519KeyPair, KeyPair};

use super::Invalid;

/// The length of a seed as text.
const TEXT_LENGTH: usize = 58;
/// The same as bytes: two of prefix, 32 of seed, two of checksum.
const LENGTH: usize = 36;
/// What the text of a seed begins with: S for seed.
const SEED: u8 = 18 << 3;
/// The type of a key: U for user.
const USER: u8 = 20 << 3;

const DIGITS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// The key of a user. It is never shown.
pub struct UserKey {
    pair: Ed25519KeyPair,
}

impl fmt::Debug for UserKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "UserKey({})", self.public())
    }
}

impl UserKey {
    /// Parses the text of a seed, which begins with `SU`.
    ///
    /// # Errors
    ///
    /// It is not the seed of a user, or mistyped.
    pub fn from_seed(text: &str) -> Result<Self, Invalid> {
        let bytes = decode(text).ok_or(Invalid("a seed that is not 58 letters and digits of base32"))?;
        let (covered, checksum) = bytes.split_at(LENGTH - 2);
        if checksum != crc16(covered).to_le_bytes() {
            return Err(Invalid("a mistyped seed, whose checksum is wrong"));
        }
        let (prefix, seed) = covered.split_at(2);
        let kind = (prefix[0] & 0b111) << 5 | prefix[1] >> 3;
        if prefix[0] & !0b111 != SEED || kind != USER {
            return Err(Invalid("a seed that is not one of a user, which begins with SU"));
        }
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| Invalid("a seed that is no key"))?;
        Ok(Self { pair })
    }

    /// The public key, as the configuration of a server has it.
    pub fn public(&self) -> String {
        let mut bytes = vec![USER];
        bytes.extend_from_slice(self.pair.public_key().as_ref());
        bytes.extend_from_slice(&crc16(&bytes).to_le_bytes());
        encode(&bytes)
    }

    /// The signature of a nonce, as CONNECT has it.
    pub fn sign(&self, nonce: &str) -> String {
        Base64UrlUnpadded::encode_string(self.pair.sign(nonce.as_bytes()).as_ref())
    }
}

/// Decodes base32 without padding.
fn decode(text: &str) -> Option<[u8; LENGTH]> {
    if text.len() != TEXT_LENGTH {
        return None;
    }
    let mut bytes = [0; LENGTH];
    let (mut bits, mut count, mut at) = (0_u32, 0, 0);
    for letter in text.bytes() {
        let digit = DIGITS.iter().position(|&digit| digit == letter)?;
        bits = bits << 5 | u32::try_from(digit).ok()?;
        count += 5;
        if count >= 8 {
            count -= 8;
            *bytes.get_mut(at)? = u8::try_from(bits >> count & 0xFF).ok()?;
            at += 1;
        }
        bits &= (1 << count) - 1;
    }
    (bits == 0 && at == LENGTH).then_some(bytes)
}

/// Encodes base32 without padding.
fn encode(bytes: &[u8]) -> String {
    let mut text = String::new();
    let (mut bits, mut count) = (0_u32, 0);
    for &byte in bytes {
        bits = bits << 8 | u32::from(byte);
        count += 8;
        while count >= 5 {
            count -= 5;
            text.push(char::from(DIGITS[(bits >> count & 31) as usize]));
        }
        bits &= (1 << count) - 1;
    }
    if count > 0 {
        text.push(char::from(DIGITS[(bits << (5 - count) & 31) as usize]));
    }
    text
}

/// The checksum: CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, &byte| {
        (0..8).fold(crc ^ u16::from(byte) << 8, |crc, _| crc << 1 ^ if crc >> 15 == 1 { 0x1021 } else { 0 })
    })
}

/// A seed for tests, which belongs to no account.
#[cfg(test)]
pub(super) fn seed_for_tests() -> String {
    let mut bytes = vec![SEED | USER >> 5, USER << 3];
    bytes.extend(1..=32);
    bytes.extend_from_slice(&crc16(&bytes).to_le_bytes());
    encode(&bytes)
}

#[cfg(test)]
mod tests {
    use ring::signature::{ED25519, UnparsedPublicKey};

    use super::*;

    #[test]
    fn a_seed_gives_the_public_key_and_signatures() {
        assert_eq!(crc16(b"123456789"), 0x31C3, "the check value of the algorithm");
        let seed = seed_for_tests();
        assert!(seed.starts_with("SU") && seed.len() == TEXT_LENGTH, "{seed}");
        let key = UserKey::from_seed(&seed).unwrap();
        let public = key.public();
        assert!(public.starts_with('U') && public.len() == 56, "{public}");
        let signature = Base64UrlUnpadded::decode_vec(&key.sign("nonce")).unwrap();
        let verifier = UnparsedPublicKey::new(&ED25519, key.pair.public_key().as_ref());
        assert!(
            verifier.verify(b"nonce", &signature).is_ok() && verifier.verify(b"once", &signature).is_err()
        );
    }

    #[test]
    fn other_seeds_are_refused() {
        let seed = seed_for_tests();
        for other in
            ["", "SU", &seed[1..], &seed.to_lowercase(), &format!("{seed}A"), &seed.replace('A', "1")]
        {
            assert!(UserKey::from_seed(other).is_err(), "{other}");
        }
        for place in 0..TEXT_LENGTH {
            let digit = if seed.as_bytes()[place] == b'A' { "B" } else { "A" };
            let mut mistyped = seed.clone();
            mistyped.replace_range(place..=place, digit);
            assert!(UserKey::from_seed(&mistyped).is_err(), "{mistyped}");
        }
        let mut bytes = vec![SEED, 0];
        bytes.extend(1..=32);
        bytes.extend_from_slice(&crc16(&bytes).to_le_bytes());
        let error = UserKey::from_seed(&encode(&bytes)).unwrap_err();
        assert!(error.0.contains("begins with SU"), "{error}");
    }

    #[test]
    fn the_seed_is_not_shown() {
        let seed = seed_for_tests();
        let shown = format!("{:?}", UserKey::from_seed(&seed).unwrap());
        assert!(shown.starts_with("UserKey(U") && !shown.contains(&seed[2..]), "{shown}");
    }
}
