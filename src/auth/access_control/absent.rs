//! What stands for the thread in a binary that knows no hashed passwords: there is never one to verify.

use std::io;
use std::sync::Arc;

use super::queue::Password;
use crate::auth::passwords::{Digest, Trial};

/// What would have become of a password.
#[derive(Debug)]
pub(super) struct Verified {
    pub(super) digest: Digest,
    pub(super) passes: bool,
    pub(super) taken: u64,
}

/// Verifies nothing.
#[derive(Debug)]
pub(super) struct Worker;

impl Worker {
    /// Starts no thread.
    #[expect(clippy::unnecessary_wraps, reason = "the thread that it stands for can be refused")]
    pub(super) fn start(_wake: impl Fn() + Send + 'static) -> io::Result<Self> {
        Ok(Self)
    }

    /// Not to be called: for want of a secret there is no trial.
    pub(super) fn submit(&mut self, _digest: Digest, _trial: Trial, _password: Arc<Password>) {}

    /// Of nothing comes nothing.
    pub(super) fn next_answer(&mut self) -> Option<Verified> {
        None
    }
}
