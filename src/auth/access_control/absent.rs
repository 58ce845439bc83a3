//! Takes the place of the thread in a binary built without hashed passwords, where there is never one to verify.

use std::io;
use std::sync::Arc;

use crate::auth::attempts::{Password, Verified, Verify};
use crate::auth::passwords::{Digest, Trial};

/// Verifies nothing.
#[derive(Debug)]
pub(super) struct Worker;

impl Worker {
    /// Starts no thread.
    #[expect(clippy::unnecessary_wraps, reason = "starting the thread can fail")]
    pub(super) fn start(_wake: impl Fn() + Send + 'static) -> io::Result<Self> {
        Ok(Self)
    }
}

impl Verify for Worker {
    /// Never called: this binary knows no secrets, so there is never a [`Trial`].
    fn submit(&mut self, _digest: Digest, _trial: Trial, _password: Arc<Password>) {}

    /// There are no answers, as nothing is submitted.
    fn next_answer(&mut self) -> Option<Verified> {
        None
    }
}
