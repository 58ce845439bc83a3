//! How a client proves who it is, and the files that have what it needs.

use std::fmt;

use super::{Invalid, UserKey};

/// The longest file with credentials, in bytes.
pub const CREDENTIALS_MAXIMUM: usize = 16 * 1024;

const JWT_BEGIN: &str = "BEGIN NATS USER JWT";
const SEED_BEGIN: &str = "BEGIN USER NKEY SEED";

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// Keeps a text.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret")
    }
}

/// How a client proves who it is.
#[derive(Debug, Default)]
pub enum Authentication {
    /// It does not.
    #[default]
    None,
    /// It has a user name and a password.
    Password {
        /// The name.
        user: Box<str>,
        /// The password.
        password: Secret,
    },
    /// It has a token.
    Token(Secret),
    /// It has a key that the server knows.
    Key(UserKey),
    /// It has a key, and a statement of the operator about it.
    Credentials {
        /// The statement, a JWT.
        jwt: Secret,
        /// The key.
        key: UserKey,
    },
}

/// What is wrong with a file with credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CredentialsError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub what: &'static str,
}

impl fmt::Display for CredentialsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "line {}: {}", self.line, self.what)
    }
}

impl Authentication {
    /// Reads a file with credentials: a JWT and a seed, each between two lines that name it. A file with nothing but a
    /// seed is a key.
    ///
    /// # Errors
    ///
    /// The file is too long or one of both is missing or malformed. The error has nothing of the file in it.
    pub fn from_credentials(text: &str) -> Result<Self, CredentialsError> {
        if text.len() > CREDENTIALS_MAXIMUM {
            return Err(CredentialsError { line: 1, what: "credentials are not longer than 16 KiB" });
        }
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        if !lines.iter().any(|line| line.starts_with("---")) {
            return Self::from_seed_alone(&lines);
        }
        let (line, jwt) = section(&lines, JWT_BEGIN, "a line with BEGIN NATS USER JWT is missing")?;
        if !is_jwt(jwt) {
            return Err(CredentialsError { line, what: "this is not a JWT" });
        }
        let (line, seed) = section(&lines, SEED_BEGIN, "a line with BEGIN USER NKEY SEED is missing")?;
        let key = key(line, seed)?;
        Ok(Self::Credentials { jwt: Secret::new(jwt), key })
    }

    fn from_seed_alone(lines: &[&str]) -> Result<Self, CredentialsError> {
        let mut filled =
            lines.iter().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let Some((index, seed)) = filled.next() else {
            return Err(CredentialsError { line: 1, what: "there is neither a seed nor a JWT" });
        };
        if let Some((index, _)) = filled.next() {
            return Err(CredentialsError { line: index + 1, what: "there is more than a seed" });
        }
        key(index + 1, seed).map(Self::Key)
    }
}

fn key(line: usize, seed: &str) -> Result<UserKey, CredentialsError> {
    UserKey::from_seed(seed).map_err(|Invalid(what)| CredentialsError { line, what })
}

/// The one filled line between the line that begins a section and the one that ends it, with its number.
fn section<'a>(
    lines: &[&'a str],
    begin: &str,
    missing: &'static str,
) -> Result<(usize, &'a str), CredentialsError> {
    let is_mark = |line: &&str| line.starts_with("---") && line.ends_with("---");
    let start = lines.iter().position(|line| is_mark(line) && line.contains(begin));
    let start = start.ok_or(CredentialsError { line: lines.len().max(1), what: missing })?;
    let mut inside = lines.iter().enumerate().skip(start + 1).filter(|(_, line)| !line.is_empty());
    let (index, content) = inside
        .next()
        .filter(|(_, line)| !is_mark(line))
        .ok_or(CredentialsError { line: start + 1, what: "nothing follows this line" })?;
    match inside.next() {
        Some((_, line)) if is_mark(line) && line.contains("END") => Ok((index + 1, content)),
        _ => Err(CredentialsError { line: index + 1, what: "a line with END does not follow this line" }),
    }
}

/// Whether a text has the three parts of a JWT.
fn is_jwt(text: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    text.split('.').count() == 3 && text.split('.').all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::nats::key::seed_for_tests;

    fn file(jwt: &str, seed: &str) -> String {
        format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n*** IMPORTANT ***\nKeep it.\n\n\
             -----BEGIN USER NKEY SEED-----\r\n{seed}\r\n------END USER NKEY SEED------\n"
        )
    }

    fn error(text: &str) -> String {
        Authentication::from_credentials(text).unwrap_err().to_string()
    }

    #[test]
    fn credentials_have_a_jwt_and_a_seed() {
        let seed = seed_for_tests();
        let Ok(Authentication::Credentials { jwt, key }) =
            Authentication::from_credentials(&file("e30.e30.c2ln", &seed))
        else {
            panic!("they are refused");
        };
        assert_eq!(
            (jwt.expose(), key.public()),
            ("e30.e30.c2ln", UserKey::from_seed(&seed).unwrap().public())
        );
        let alone = Authentication::from_credentials(&format!("# ann\n\n  {seed}\n")).unwrap();
        assert!(matches!(alone, Authentication::Key(_)));
    }

    #[test]
    fn errors_have_a_line_and_nothing_of_the_file() {
        let seed = seed_for_tests();
        let good = file("e30.e30.c2ln", &seed);
        assert!(error(&good.replace("e30.e30", "e30")).starts_with("line 2: "));
        assert!(error(&good.replace("SU", "SX")).starts_with("line 9: "));
        assert!(error(&good.replace("BEGIN USER", "USER")).contains("BEGIN USER NKEY SEED"));
        assert!(error(&good.replace("BEGIN NATS", "NATS")).contains("BEGIN NATS USER JWT"));
        assert!(error(&good.replace(&seed, "")).starts_with("line 8: "));
        assert!(error(&good.replace(&seed, &format!("{seed}\n{seed}"))).starts_with("line 9: "));
        assert!(error("").contains("neither") && error(&format!("{seed}\n{seed}")).starts_with("line 2: "));
        assert!(error("password").contains("base32"));
        assert!(error(&"x".repeat(CREDENTIALS_MAXIMUM + 1)).contains("16 KiB"));
        for place in (0..good.len()).step_by(7) {
            let mut damaged = good.clone();
            damaged.replace_range(place..place + 1, "?");
            if let Err(error) = Authentication::from_credentials(&damaged) {
                assert!(!error.to_string().contains(&seed[10..30]), "{error}");
            }
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let all = [
            Authentication::Password { user: "ann".into(), password: Secret::new("pencil") },
            Authentication::Token(Secret::new("pencil")),
            Authentication::from_credentials(&file("e30.pencil.c2ln", &seed_for_tests())).unwrap(),
        ];
        for authentication in all {
            let shown = format!("{authentication:?}");
            assert!(!shown.contains("pencil") && !shown.contains(&seed_for_tests()), "{shown}");
        }
    }
}
