//! What stands for the secret of a user in a binary that knows no hashes: nothing can.

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
}
