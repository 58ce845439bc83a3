//! What a password file stores instead of a password: the hashes that mosquitto writes, and SCRAM verifiers.

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use base64ct::{Base64, Base64Unpadded, Encoding};
use ctutils::CtEq;
use hmac::{Hmac, KeyInit, Mac};
use pbkdf2::pbkdf2_hmac;
use sha2::{Digest as _, Sha256, Sha512};

use super::{Cost, Digest};
use crate::auth::scram::Verifier;

/// Rounds that a hash may ask for. More would hold up all other logins.
pub const ROUNDS_MAXIMUM: u32 = 5_000_000;
/// Memory that an argon2id hash may ask for, in KiB. More would be a way to exhaust a small machine before any login.
pub const MEMORY_MAXIMUM_KIB: u32 = 64 * 1024;
/// Passes over that memory that an argon2id hash may ask for.
const PASSES_MAXIMUM: u32 = 64;
/// Lanes that an argon2id hash may ask for. They are computed one after the other.
const LANES_MAXIMUM: u32 = 16;

/// Bytes of a SHA-512 digest, and the length of a new argon2id digest.
const DIGEST_LENGTH: usize = 64;
/// Bytes of salt in hashes with SHA-512: what mosquitto has written up to 2.0, and what it writes since.
const SALT_LENGTHS: [usize; 2] = [12, 64];
/// Bytes of random salt for a new secret.
pub const SALT_LENGTH: usize = 16;
/// Bytes of that salt used in hashes with SHA-512: the length that all versions of mosquitto read.
const SALT_FOR_ALL: usize = 12;

/// Parameters of new argon2id hashes. They suit a router, which mosquitto's 46 MiB do not.
const NEW_MEMORY_KIB: u32 = 4 * 1024;
const NEW_PASSES: u32 = 3;

/// How a password is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One SHA-512, as mosquitto did until 1.6.
    Sha512,
    /// PBKDF2 with SHA-512.
    Pbkdf2 {
        /// From 1 to [`ROUNDS_MAXIMUM`].
        rounds: u32,
    },
    /// Argon2id.
    Argon2id,
    /// A verifier for SCRAM-SHA-256.
    Scram {
        /// From 1 to [`ROUNDS_MAXIMUM`].
        rounds: u32,
    },
}

/// What is stored instead of a password.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// `$6$salt$digest`: one SHA-512 over password and salt.
    Sha512 {
        /// 12 or 64 bytes.
        salt: Box<[u8]>,
        /// The digest.
        digest: [u8; DIGEST_LENGTH],
    },
    /// `$7$rounds$salt$digest`: PBKDF2 with HMAC-SHA-512.
    Pbkdf2 {
        /// From 1 to [`ROUNDS_MAXIMUM`].
        rounds: u32,
        /// 12 or 64 bytes.
        salt: Box<[u8]>,
        /// The derived key.
        digest: [u8; DIGEST_LENGTH],
    },
    /// `$argon2id$v=19$m=KiB,t=passes,p=lanes$salt$digest`.
    Argon2id {
        /// Memory, passes and lanes.
        params: Params,
        /// 8 to 64 bytes.
        salt: Box<[u8]>,
        /// 16 to 64 bytes.
        digest: Box<[u8]>,
    },
    /// `SCRAM-SHA-256$rounds:salt$stored key:server key`, as in RFC 5803.
    Scram(Verifier),
}

impl Secret {
    /// Parses what follows the user name in a line.
    ///
    /// # Errors
    ///
    /// What is wrong, without quoting the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(rest) = text.strip_prefix("$6$") {
            return parse_sha512(rest);
        }
        if let Some(rest) = text.strip_prefix("$7$") {
            return parse_pbkdf2(rest);
        }
        if let Some(rest) = text.strip_prefix("$argon2id$") {
            return parse_argon2id(rest);
        }
        if text.starts_with("SCRAM-SHA-256$") {
            return Verifier::parse(text).map(Self::Scram).map_err(str::to_owned);
        }
        if text.trim_start().starts_with('$') {
            return Err(
                "unknown kind of hash, expected $7$, $6$, $argon2id$ or SCRAM-SHA-256$; if it is a plain \
                        password, `brooklet passwd -U` turns it into a hash"
                    .to_owned(),
            );
        }
        Err("a plain password, expected a hash; `brooklet passwd -U` turns all plain passwords of a file into hashes"
            .to_owned())
    }

    /// Creates the secret of a password.
    ///
    /// # Errors
    ///
    /// If the password cannot be hashed in this way.
    pub fn new(kind: Kind, password: &[u8], salt: &[u8; SALT_LENGTH]) -> Result<Self, &'static str> {
        let whole: Box<[u8]> = salt.as_slice().into();
        let short: Box<[u8]> = salt.iter().copied().take(SALT_FOR_ALL).collect();
        Ok(match kind {
            Kind::Sha512 => Self::Sha512 { digest: sha512(password, &short), salt: short },
            Kind::Pbkdf2 { rounds } => {
                Self::Pbkdf2 { rounds, digest: pbkdf2(password, &short, rounds), salt: short }
            }
            Kind::Argon2id => {
                let params = Params::new(NEW_MEMORY_KIB, NEW_PASSES, 1, Some(DIGEST_LENGTH))
                    .map_err(|_| "argon2id does not take these parameters")?;
                let digest = argon2id(params.clone(), password, salt, DIGEST_LENGTH)
                    .ok_or("argon2id does not take this password")?;
                Self::Argon2id { params, salt: whole, digest }
            }
            Kind::Scram { rounds } => Self::Scram(Verifier::new(password, salt, rounds)?),
        })
    }

    /// Whether this is the secret of `password`. The comparison takes the same time for any password.
    pub fn verifies(&self, password: &[u8]) -> bool {
        match self {
            Self::Sha512 { salt, digest } => sha512(password, salt).ct_eq(digest).to_bool(),
            Self::Pbkdf2 { rounds, salt, digest } => pbkdf2(password, salt, *rounds).ct_eq(digest).to_bool(),
            Self::Argon2id { params, salt, digest } => argon2id(params.clone(), password, salt, digest.len())
                .is_some_and(|found| found.ct_eq(digest).to_bool()),
            Self::Scram(verifier) => verifier.verifies(password),
        }
    }

    /// Returns the cost of verifying a password.
    pub const fn cost(&self) -> Cost {
        match self {
            Self::Sha512 { .. } => Cost::Sha512,
            Self::Pbkdf2 { rounds, .. } => Cost::Rounds(*rounds),
            Self::Argon2id { params, .. } => Cost::Memory(params.m_cost(), params.t_cost()),
            Self::Scram(verifier) => Cost::Rounds(verifier.rounds()),
        }
    }
}

/// Formats the secret as it stands in a password file.
impl fmt::Display for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let padded = Base64::encode_string;
        match self {
            Self::Sha512 { salt, digest } => write!(formatter, "$6${}${}", padded(salt), padded(digest)),
            Self::Pbkdf2 { rounds, salt, digest } => {
                write!(formatter, "$7${rounds}${}${}", padded(salt), padded(digest))
            }
            Self::Argon2id { params, salt, digest } => write!(
                formatter,
                "$argon2id$v=19$m={},t={},p={}${}${}",
                params.m_cost(),
                params.t_cost(),
                params.p_cost(),
                Base64Unpadded::encode_string(salt),
                Base64Unpadded::encode_string(digest),
            ),
            Self::Scram(verifier) => verifier.fmt(formatter),
        }
    }
}

/// Names only the kind, so that no log can contain a hash.
impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Sha512 { .. } => "Sha512",
            Self::Pbkdf2 { .. } => "Pbkdf2",
            Self::Argon2id { .. } => "Argon2id",
            Self::Scram(_) => "Scram",
        })
    }
}

/// Returns the keyed digest of several parts of any length.
pub fn digest(key: &[u8], parts: &[&[u8]]) -> Digest {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(&(part.len() as u64).to_le_bytes());
        mac.update(part);
    }
    let whole = mac.finalize().into_bytes();
    whole.first_chunk().copied().expect("a SHA-256 digest is longer")
}

fn sha512(password: &[u8], salt: &[u8]) -> [u8; DIGEST_LENGTH] {
    let mut hash = Sha512::new();
    hash.update(password);
    hash.update(salt);
    hash.finalize().into()
}

fn pbkdf2(password: &[u8], salt: &[u8], rounds: u32) -> [u8; DIGEST_LENGTH] {
    let mut digest = [0; DIGEST_LENGTH];
    pbkdf2_hmac::<Sha512>(password, salt, rounds, &mut digest);
    digest
}

/// Returns `None` for a password longer than argon2 takes; no packet can hold one.
fn argon2id(params: Params, password: &[u8], salt: &[u8], length: usize) -> Option<Box<[u8]>> {
    let mut digest = vec![0; length];
    let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    hasher.hash_password_into(password, salt, &mut digest).ok()?;
    Some(digest.into())
}

fn parse_sha512(text: &str) -> Result<Secret, String> {
    let (salt, digest) = text.split_once('$').ok_or("a cut hash, expected $6$salt$digest")?;
    Ok(Secret::Sha512 { salt: salt_of(salt)?, digest: digest_of(digest)? })
}

fn parse_pbkdf2(text: &str) -> Result<Secret, String> {
    let mut parts = text.splitn(3, '$');
    let (Some(rounds), Some(salt), Some(digest)) = (parts.next(), parts.next(), parts.next()) else {
        return Err("a cut hash, expected $7$rounds$salt$digest".to_owned());
    };
    let rounds = rounds.parse().ok().filter(|rounds| (1..=ROUNDS_MAXIMUM).contains(rounds));
    let rounds = rounds.ok_or(format!("rounds out of range, expected 1 to {ROUNDS_MAXIMUM}"))?;
    Ok(Secret::Pbkdf2 { rounds, salt: salt_of(salt)?, digest: digest_of(digest)? })
}

fn salt_of(text: &str) -> Result<Box<[u8]>, String> {
    Base64::decode_vec(text)
        .ok()
        .filter(|salt| SALT_LENGTHS.contains(&salt.len()))
        .map(Into::into)
        .ok_or_else(|| "a salt that cannot be read, expected 12 or 64 bytes in base64".to_owned())
}

fn digest_of(text: &str) -> Result<[u8; DIGEST_LENGTH], String> {
    Base64::decode_vec(text)
        .ok()
        .and_then(|digest| digest.try_into().ok())
        .ok_or_else(|| format!("a digest that cannot be read, expected {DIGEST_LENGTH} bytes in base64"))
}

fn parse_argon2id(text: &str) -> Result<Secret, String> {
    let mut parts = text.splitn(4, '$');
    let (Some("v=19"), Some(numbers), Some(salt), Some(digest)) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err("a cut hash, expected $argon2id$v=19$m=KiB,t=passes,p=lanes$salt$digest".to_owned());
    };
    let [memory, passes, lanes] = argon2id_numbers(numbers).ok_or("expected m=KiB,t=passes,p=lanes")?;
    for (name, value, most) in [
        ("memory in KiB", memory, MEMORY_MAXIMUM_KIB),
        ("passes", passes, PASSES_MAXIMUM),
        ("lanes", lanes, LANES_MAXIMUM),
    ] {
        if value > most {
            return Err(format!("too much {name} for one login: {value}, expected at most {most}"));
        }
    }
    let part = |text, least: usize| {
        let bytes = Base64Unpadded::decode_vec(text).ok();
        bytes.filter(|bytes| (least..=DIGEST_LENGTH).contains(&bytes.len()))
    };
    let salt =
        part(salt, 8).ok_or("a salt that cannot be read, expected 8 to 64 bytes in base64 without =")?;
    let digest = part(digest, 16)
        .ok_or("a digest that cannot be read, expected 16 to 64 bytes in base64 without =")?;
    let params = Params::new(memory, passes, lanes, Some(digest.len()))
        .map_err(|_| format!("argon2id does not accept m={memory},t={passes},p={lanes}"))?;
    Ok(Secret::Argon2id { params, salt: salt.into(), digest: digest.into() })
}

fn argon2id_numbers(text: &str) -> Option<[u32; 3]> {
    let mut numbers = [0; 3];
    let mut parts = text.split(',');
    for (number, name) in numbers.iter_mut().zip(["m=", "t=", "p="]) {
        *number = parts.next()?.strip_prefix(name)?.parse().ok()?;
    }
    parts.next().is_none().then_some(numbers)
}
