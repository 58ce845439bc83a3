//! What stands for the secret of a user in a binary that knows no hashes: nothing can.

use std::fmt;

use super::{Cost, Digest};

/// The secret of a user; there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secret {}

impl Secret {
    /// Refuses whatever stands there.
    ///
    /// # Errors
    ///
    /// Always.
    pub fn parse(_hash: &str) -> Result<Self, String> {
        Err("this binary knows no hashed passwords, expected one built with the feature `passwords`"
            .to_owned())
    }

    /// Not to be called, for want of a secret.
    pub const fn verifies(&self, _password: &[u8]) -> bool {
        match *self {}
    }

    /// Not to be called either.
    pub const fn cost(&self) -> Cost {
        match *self {}
    }
}

/// For want of a secret it is never written.
impl fmt::Display for Secret {
    fn fmt(&self, _formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

/// There is nothing secret to be remembered.
pub(super) const fn digest(_key: &[u8], _parts: &[&[u8]]) -> Digest {
    [0; 16]
}
