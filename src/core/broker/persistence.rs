//! The journal, if anything is persisted.

use crate::core::journal::OpenJournal;

#[derive(Default)]
pub(super) struct Persistence {
    /// What is to be written down, if anything is.
    pub(super) journal: Option<OpenJournal>,
    /// What the store has told of itself.
    pub(super) figures: StorageFigures,
}

/// What a store has written, and how long that took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StorageFigures {
    /// Bytes since the start.
    pub bytes: u64,
    /// Commits since the start.
    pub commits: u64,
    /// How long half of the commits took at most, in microseconds.
    pub median: u64,
    /// How long 99 of 100 took.
    pub percentile_99: u64,
    /// How long the longest took.
    pub longest: u64,
    /// Rows that were found to be damaged.
    pub damaged: u64,
    /// Commits that were lost with a journal that was damaged.
    pub severed: u64,
}
