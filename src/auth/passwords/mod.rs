//! Who the users are, and whether a password is theirs: the password file in mosquitto's format.
//!
//! Opens no file and generates no salt: the bytes are passed in. Verifying may take a lot of time and memory, so it
//! is a value of its own, a [`Trial`], that can be sent to another thread. Nothing here prints a secret.

#[cfg(not(feature = "passwords"))]
mod absent;
#[cfg(feature = "passwords")]
mod secret;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::base::byte_order_mark::{MISPLACED, SKIPPED, after_mark};
use crate::base::escape::Escaped;
use crate::protocol::topic::LENGTH_MAXIMUM;
use crate::protocol::utf8;
use crate::settings::{ConfigError, ConfigErrors};

#[cfg(not(feature = "passwords"))]
pub use absent::Secret;
#[cfg(not(feature = "passwords"))]
use absent::digest;
#[cfg(feature = "passwords")]
pub use secret::{Kind, MEMORY_MAXIMUM_KIB, ROUNDS_MAXIMUM, Secret, digest};

/// The error about a user without a password. With an empty one, anyone who knows the name could log in.
pub const NO_PASSWORD: &str = if cfg!(feature = "passwords") {
    "no password after ':', expected a hash; give the user one with `brooklet passwd`, or delete the line"
} else {
    "no password after ':'; delete the line, since this binary knows no hashed passwords (feature passwords)"
};

/// A keyed digest under which a secret is remembered. It reveals nothing without the key.
pub type Digest = [u8; 16];

/// The cost of verifying a password. Equal costs take about the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cost {
    /// One SHA-512.
    Sha512,
    /// PBKDF2 with this number of rounds, whatever its hash.
    Rounds(u32),
    /// Argon2id: memory in KiB, and passes over it.
    Memory(u32, u32),
}

impl Cost {
    /// Rough estimate of the time, in microseconds.
    pub const fn microseconds(self) -> u64 {
        match self {
            Self::Sha512 => 5,
            Self::Rounds(rounds) => 5 + rounds as u64,
            Self::Memory(memory, passes) => 5 + memory as u64 * passes as u64,
        }
    }
}

/// The users of a password file.
#[derive(Debug, Default)]
pub struct Passwords {
    /// For each name, the index of its secret.
    users: BTreeMap<Box<str>, usize>,
    secrets: Vec<Arc<Secret>>,
    warnings: Vec<ConfigError>,
}

impl Passwords {
    /// Parses the bytes of the password file called `file`: one line per user, `name:hash`. A line that begins with
    /// `#` is a comment.
    ///
    /// # Errors
    ///
    /// Every fault, in the order of the lines.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Self, Vec<ConfigError>> {
        let mut passwords = Self::default();
        let (mut wrong, mut warnings) = (ConfigErrors::about(file), ConfigErrors::about(file));
        let text = after_mark(bytes);
        if text.is_some() {
            warnings.push("1:1", SKIPPED);
        }
        for (line, number) in text.unwrap_or(bytes).split(|&byte| byte == b'\n').zip(1_usize..) {
            if let Err((column, what)) = passwords.take_line(line, number, &mut warnings) {
                wrong.push(format_args!("{number}:{column}"), what);
            }
        }
        let wrong = wrong.into_list();
        passwords.warnings = warnings.into_list();
        if passwords.users.is_empty() && wrong.is_empty() {
            passwords
                .warnings
                .push(ConfigError::new(file, "no users, so no client can log in with a password"));
        }
        if wrong.is_empty() { Ok(passwords) } else { Err(wrong) }
    }

    /// Parses one line. A fault comes with its column.
    fn take_line(
        &mut self,
        line: &[u8],
        number: usize,
        warnings: &mut ConfigErrors<'_>,
    ) -> Result<(), (usize, String)> {
        if after_mark(line).is_some() {
            return Err((1, MISPLACED.to_owned()));
        }
        let line = match std::str::from_utf8(line) {
            Ok(line) => line.trim_end(),
            Err(error) => return Err((error.valid_up_to() + 1, "not UTF-8".to_owned())),
        };
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let Some((name, hash)) = line.split_once(':') else {
            // Such a line names no user, so ignoring it lets no client in.
            warnings.push(number, "no ':' in this line, expected name:hash; line ignored");
            return Ok(());
        };
        let name = check_name(name).map_err(|what| (1, what.to_owned()))?;
        let hash_at = line.len() - hash.len() + 1;
        if hash.is_empty() {
            return Err((hash_at, NO_PASSWORD.to_owned()));
        }
        let secret = Secret::parse(hash).map_err(|what| (hash_at, what))?;
        if self.users.insert(name.into(), self.secrets.len()).is_some() {
            return Err((1, format!("the user {} a second time", Escaped(name))));
        }
        self.secrets.push(Arc::new(secret));
        Ok(())
    }

    /// The warnings about a file that is usable all the same.
    pub fn warnings(&self) -> &[ConfigError] {
        &self.warnings
    }

    /// Whether there is a user of this name.
    pub fn contains(&self, user: &str) -> bool {
        self.users.contains_key(user)
    }

    /// The stored secret of `user`.
    pub fn secret(&self, user: &str) -> Option<&Secret> {
        self.users.get(user).and_then(|&place| self.secrets.get(place)).map(Arc::as_ref)
    }

    /// Whether `user` has the same secret in another version of the file, or none in either.
    pub fn agrees_with(&self, other: &Self, user: &str) -> bool {
        self.secret(user) == other.secret(user)
    }

    /// The work of verifying a password of `user`. An unknown name gets the secret of some user, so that the time
    /// taken does not reveal which names exist. The choice is always the same for one name. Without `key` it cannot
    /// be predicted; otherwise it would show where hashes differ in cost. `None` if there are no users.
    pub fn trial(&self, user: &str, key: &[u8]) -> Option<Trial> {
        let (place, is_known) = match self.users.get(user) {
            Some(&place) => (place, true),
            None => (pick(user, key, self.secrets.len())?, false),
        };
        Some(Trial { secret: self.secrets.get(place)?.clone(), is_known })
    }

    /// All secrets, in the order of the file.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        self.secrets.iter().map(Arc::as_ref)
    }
}

/// Returns a number less than `count`, always the same for one name and one key. `None` if `count` is zero.
pub fn pick(name: &str, key: &[u8], count: usize) -> Option<usize> {
    let mut hasher = DefaultHasher::new();
    (key, name).hash(&mut hasher);
    let count = u64::try_from(count).ok().filter(|&count| count > 0)?;
    usize::try_from(hasher.finish() % count).ok()
}

/// Trims and checks a user name from a file.
///
/// # Errors
///
/// What is wrong with the name.
pub fn check_name(name: &str) -> Result<&str, &'static str> {
    let name = name.trim();
    match () {
        () if name.is_empty() => Err("no user name in front of ':'"),
        () if name.len() > LENGTH_MAXIMUM => Err("a user name longer than 65535 bytes"),
        () if name.contains(':') => Err("a user name with ':' in it"),
        // In the first line of a file, it would not be a part of the name.
        () if after_mark(name.as_bytes()).is_some() => Err("a user name that starts with a byte order mark"),
        () if !utf8::is_sound(name) => Err("a user name with a control character or a non-character in it"),
        () => Ok(name),
    }
}

/// The user that a line of a password file is about, if any.
pub fn user_of_line(line: &str) -> Option<&str> {
    if line.starts_with('#') {
        return None;
    }
    line.split_once(':').map(|(name, _)| name.trim())
}

/// One password to verify, on any thread.
#[derive(Clone, Debug)]
pub struct Trial {
    secret: Arc<Secret>,
    is_known: bool,
}

impl Trial {
    /// Whether the password is right and the user exists. Takes the same time in every case.
    pub fn passes(&self, password: &[u8]) -> bool {
        // HMAC pads its key with zeros, so a zero at the end would not change the hash.
        let is_whole = !password.ends_with(&[0]);
        self.secret.verifies(password) & is_whole & self.is_known
    }

    /// The digest of this password, its user and the line of the password file that it is compared with. A known and
    /// an unknown user never have the same digest, although both may be compared with the same line.
    pub fn digest(&self, key: &[u8], user: &str, password: &[u8]) -> Digest {
        let whose = if self.is_known { b"own" } else { b"any" };
        digest(key, &[whose, self.secret.to_string().as_bytes(), user.as_bytes(), password])
    }

    /// Returns the cost of [`Trial::passes`].
    pub fn cost(&self) -> Cost {
        self.secret.cost()
    }
}

#[cfg(all(test, feature = "passwords"))]
mod tests;
