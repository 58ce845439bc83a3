//! What stands for the thread in a binary that knows no hashed passwords: there is never one to verify.

use std::io;

use super::{Busy, Candidate};
use crate::passwords::Trial;

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
    pub(super) fn submit(
        &mut self,
        _candidate: Candidate,
        _trial: Trial,
        _password: &[u8],
    ) -> Result<(), Busy> {
        Err(Busy)
    }

    /// Of nothing comes nothing.
    pub(super) fn next_answer(&mut self) -> Option<(Candidate, bool)> {
        None
    }
}
