//! The clients that the broker knows, connected or not, by their sessions.

use super::admission::Admission;
use crate::core::session::{Directory, Session};
use crate::core::slots::{SessionMark, Slots};

pub(super) struct Clients {
    pub(super) sessions: Slots<SessionMark, Session>,
    /// Their Client Identifiers.
    pub(super) directory: Directory,
    /// How many of the sessions have their client connected.
    pub(super) connected: usize,
    /// What Client Identifiers are drawn from, and how often that was done.
    pub(super) seed: u64,
    pub(super) drawn: u64,
    /// Those that wait to be accepted.
    pub(super) admission: Admission,
}

impl Clients {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            sessions: Slots::default(),
            directory: Directory::new(seed),
            connected: 0,
            seed,
            drawn: 0,
            admission: Admission::default(),
        }
    }
}
