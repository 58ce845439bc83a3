//! What stands for the thread in a binary that knows no hashed passwords: there is never one to verify.

use std::io;
use std::sync::Arc;

use crate::auth::attempts::{Password, Verified, Verify};
use crate::auth::passwords::{Digest, Trial};

/// Verifies nothing.
#[derive(Debug)]
pub(super) struct Worker;

impl Worker {
    /// Starts no thread.
    #[expect(clippy::unnecessary_wraps, reason = "the thread that it stands for can be refused")]
    pub(super) fn start(_wake: impl Fn() + Send + 'static) -> io::Result<Self> {
        Ok(Self)
    }
}

impl Verify for Worker {
    /// Not to be called: for want of a secret there is no trial.
    fn submit(&mut self, _digest: Digest, _trial: Trial, _password: Arc<Password>) {}

    /// Of nothing comes nothing.
    fn next_answer(&mut self) -> Option<Verified> {
        None
    }
}
