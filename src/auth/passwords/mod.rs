//! Who the users are, and whether a password is theirs: the password file as mosquitto writes it.
//!
//! Reads a file's bytes and verifies; opens no file and draws no salt. A verification may take long and much memory,
//! so it is an object of its own, a [`Trial`], that another thread can do. Nothing here prints a secret.

#[cfg(not(feature = "passwords"))]
mod absent;
#[cfg(feature = "passwords")]
mod secret;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

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

/// What stands for something secret where it is remembered: made with a key, without which it tells nothing.
pub type Digest = [u8; 16];

/// What a verification costs. Those of one cost take about the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cost {
    /// One SHA-512.
    Sha512,
    /// So many rounds of PBKDF2, with whichever hash.
    Rounds(u32),
    /// Argon2id: memory in KiB, and passes over it.
    Memory(u32, u32),
}

impl Cost {
    /// Microseconds that it takes on some machine.
    pub const fn microseconds(self) -> u64 {
        match self {
            Self::Sha512 => 5,
            Self::Rounds(rounds) => 5 + rounds as u64,
            Self::Memory(memory, passes) => 5 + memory as u64 * passes as u64,
        }
    }
}

/// The users of one password file.
#[derive(Debug, Default)]
pub struct Passwords {
    /// By name: the place of the secret.
    users: BTreeMap<Box<str>, usize>,
    secrets: Vec<Arc<Secret>>,
    warnings: Vec<ConfigError>,
}

impl Passwords {
    /// Reads the bytes of the password file called `file`: a line for each user, `name:hash`. A line that begins
    /// with `#` is a comment.
    ///
    /// # Errors
    ///
    /// All that is wrong, in the order of the lines.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Self, Vec<ConfigError>> {
        let mut passwords = Self::default();
        let (mut wrong, mut warnings) = (ConfigErrors::about(file), ConfigErrors::about(file));
        for (line, number) in bytes.split(|&byte| byte == b'\n').zip(1_usize..) {
            if let Err((column, what)) = passwords.take_line(line, number, &mut warnings) {
                wrong.push(format_args!("{number}:{column}"), what);
            }
        }
        let wrong = wrong.told();
        passwords.warnings = warnings.told();
        if passwords.users.is_empty() && wrong.is_empty() {
            passwords.warnings.push(ConfigError::new(file, "no users, so nobody can log in with a password"));
        }
        if wrong.is_empty() { Ok(passwords) } else { Err(wrong) }
    }

    /// Takes one line; what is wrong comes with its column.
    fn take_line(
        &mut self,
        line: &[u8],
        number: usize,
        warnings: &mut ConfigErrors<'_>,
    ) -> Result<(), (usize, String)> {
        let line = match std::str::from_utf8(line) {
            Ok(line) => line.trim_end(),
            Err(error) => return Err((error.valid_up_to() + 1, "not UTF-8".to_owned())),
        };
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let Some((name, hash)) = line.split_once(':') else {
            // Such a line is nobody's, so that going on without it lets nobody in.
            warnings.push(number, "no ':' in this line, expected name:hash; left out");
            return Ok(());
        };
        let name = check_name(name).map_err(|what| (1, what.to_owned()))?;
        let hash_at = line.len() - hash.len() + 1;
        let secret = Secret::parse(hash).map_err(|what| (hash_at, what))?;
        if self.users.insert(name.into(), self.secrets.len()).is_some() {
            return Err((1, format!("the user {} a second time", Escaped(name))));
        }
        self.secrets.push(Arc::new(secret));
        Ok(())
    }

    /// What the operator should know of the file, though it can be used.
    pub fn warnings(&self) -> &[ConfigError] {
        &self.warnings
    }

    /// Whether this is the name of a user.
    pub fn contains(&self, user: &str) -> bool {
        self.users.contains_key(user)
    }

    /// What `user` has in place of a password.
    pub fn secret(&self, user: &str) -> Option<&Secret> {
        self.users.get(user).and_then(|&place| self.secrets.get(place)).map(Arc::as_ref)
    }

    /// Whether the secret of `user` is the same in another version of the file. Also if neither has one.
    pub fn agrees_with(&self, other: &Self, user: &str) -> bool {
        self.secret(user) == other.secret(user)
    }

    /// What is to be done to verify a password of `user`. For a name that nobody has it is just as much work, with the
    /// secret of some user, always the same for one name; so the time tells no names. Which user it is cannot be
    /// predicted without `key`; otherwise it would show where hashes differ in cost. `None` without any users.
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

/// One of `count` places, if there are any: always the same for one name and one key.
pub fn pick(name: &str, key: &[u8], count: usize) -> Option<usize> {
    let mut hasher = DefaultHasher::new();
    (key, name).hash(&mut hasher);
    let count = u64::try_from(count).ok().filter(|&count| count > 0)?;
    usize::try_from(hasher.finish() % count).ok()
}

/// The name of a user as it stands in a file, trimmed.
///
/// # Errors
///
/// What is wrong with it.
pub fn check_name(name: &str) -> Result<&str, &'static str> {
    let name = name.trim();
    match () {
        () if name.is_empty() => Err("no user name in front of ':'"),
        () if name.len() > LENGTH_MAXIMUM => Err("a user name longer than 65535 bytes"),
        () if name.contains(':') => Err("a user name with ':' in it"),
        () if !utf8::is_sound(name) => Err("a user name with a control character or a non-character in it"),
        () => Ok(name),
    }
}

/// The name of the user whom a line of a password file is about, if it is about one.
pub fn user_of_line(line: &str) -> Option<&str> {
    if line.starts_with('#') {
        return None;
    }
    line.split_once(':').map(|(name, _)| name.trim())
}

/// One password to be verified, by whoever has the time.
#[derive(Clone, Debug)]
pub struct Trial {
    secret: Arc<Secret>,
    is_known: bool,
}

impl Trial {
    /// Whether the password is that of the user. Takes as long whether it is or not, and whether the user is known or
    /// not.
    pub fn passes(&self, password: &[u8]) -> bool {
        // HMAC can not tell a key from the same one with a zero behind it.
        let is_whole = !password.ends_with(&[0]);
        self.secret.verifies(password) & is_whole & self.is_known
    }

    /// What stands for this password of this user, and for the line of the password file that it is held against. It is
    /// another one where the user is known than where it is not, though the line of another user may be the same.
    pub fn digest(&self, key: &[u8], user: &str, password: &[u8]) -> Digest {
        let whose = if self.is_known { b"own" } else { b"any" };
        digest(key, &[whose, self.secret.to_string().as_bytes(), user.as_bytes(), password])
    }

    /// What [`Trial::passes`] costs.
    pub fn cost(&self) -> Cost {
        self.secret.cost()
    }
}

#[cfg(all(test, feature = "passwords"))]
mod tests;
