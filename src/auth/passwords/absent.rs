//! Takes the place of user secrets in a binary built without hashed passwords, where there can be none.

use std::fmt;

use super::{Cost, Digest};

/// The secret of a user. This type has no values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secret {}

impl Secret {
    /// Refuses any hash.
    ///
    /// # Errors
    ///
    /// Always.
    pub fn parse(_hash: &str) -> Result<Self, String> {
        Err("this binary knows no hashed passwords, expected one built with the feature `passwords`"
            .to_owned())
    }

    /// Never called: there are no secrets.
    pub const fn verifies(&self, _password: &[u8]) -> bool {
        match *self {}
    }

    /// Never called: there are no secrets.
    pub const fn cost(&self) -> Cost {
        match *self {}
    }
}

/// Never called: there are no secrets.
impl fmt::Display for Secret {
    fn fmt(&self, _formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

/// Never called: there are no secrets to remember.
pub(super) const fn digest(_key: &[u8], _parts: &[&[u8]]) -> Digest {
    [0; 16]
}
