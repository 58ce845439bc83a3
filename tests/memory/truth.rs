//! The allocator's count, to compare with the broker's own. A test that includes this file gets the counting allocator
//! for its whole process, so nothing else may run there during a comparison.

use std::alloc::System;
use std::fmt;
use std::ops::Sub;

use stats_alloc::{INSTRUMENTED_SYSTEM, Stats, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The allowed difference of the count, in addition to a tenth.
const SLACK: usize = 256 * 1024;
/// What the allocator of glibc adds to a block: a header, and rounding up to at least 32 bytes.
const ADDED_AT_LEAST: usize = 8;
const ADDED_AT_MOST: usize = 23;

/// Memory that is allocated and not freed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Live {
    pub bytes: usize,
    pub blocks: usize,
}

impl Live {
    pub fn now() -> Self {
        let Stats { allocations, deallocations, bytes_allocated, bytes_deallocated, .. } = ALLOCATOR.stats();
        Self { bytes: bytes_allocated - bytes_deallocated, blocks: allocations - deallocations }
    }
}

impl Sub for Live {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_sub(other.bytes),
            blocks: self.blocks.saturating_sub(other.blocks),
        }
    }
}

/// A moment to compare with. What the test itself has allocated since then is subtracted.
#[derive(Debug)]
pub struct Truth {
    began: Live,
}

/// Both counts of what was allocated since that moment.
#[derive(Clone, Copy, Debug)]
pub struct Comparison {
    pub live: Live,
    /// The broker's count.
    pub counted: usize,
}

impl Truth {
    pub fn begin() -> Self {
        Self { began: Live::now() }
    }

    /// Runs the test's own work. What it allocates and frees is not the broker's.
    pub fn aside<R>(&mut self, act: impl FnOnce() -> R) -> R {
        let before = Live::now();
        let result = act();
        let after = Live::now();
        self.began.bytes = self.began.bytes + after.bytes - before.bytes;
        self.began.blocks = self.began.blocks + after.blocks - before.blocks;
        result
    }

    /// The broker counts so many bytes.
    pub fn compare(&self, counted: usize) -> Comparison {
        Comparison { live: Live::now() - self.began, counted }
    }
}

impl Comparison {
    /// Whether the count is right within a tenth and 256 KiB.
    pub fn is_right(&self) -> bool {
        let least = self.live.bytes + self.live.blocks * ADDED_AT_LEAST;
        let most = self.live.bytes + self.live.blocks * ADDED_AT_MOST;
        self.counted + SLACK >= least - least / 10 && self.counted <= most + most / 10 + SLACK
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Live { bytes, blocks } = self.live;
        let [counted, bytes] = [self.counted, bytes].map(|bytes| bytes / 1024);
        write!(formatter, "{counted} KiB counted, {bytes} KiB in {blocks} blocks allocated")
    }
}
