//! Returns freed memory to the system after a peak.
//!
//! The allocator of glibc keeps free memory between blocks that are in use until it is told to give it back. It then
//! gives back everything at once, and any thread that allocates waits for its lock, so a separate thread would not
//! help. With glibc 2.36 that takes 0.1 ms of processor time for each MiB of free pages, 100 ms for a GiB, and half a
//! microsecond for each hole of a page or more, whether or not it was given back before. So little is given back at a
//! time, while memory is being freed. A million retained messages of 900 bytes, deleted one by one, were given back in
//! 30 trims of 2.7 ms each, the longest taking 10 ms, and another client waited no longer for its answers than without
//! them. Where one block in eight stays, a GiB comes to have 130,000 holes, and a trim that walks them all takes 60
//! ms. That is why long trims are rare.

use crate::base::time::{Duration, Time};

const MIB: usize = 1024 * 1024;
/// Freed bytes that are given back at a time.
const STEP: usize = 4 * MIB;
/// Freed bytes that are worth a system call once they have been free for [`PAUSE`].
const LEAST: usize = MIB / 4;
/// How long freed memory that is less than a step stays before it is given back.
const PAUSE: Duration = Duration::from_milliseconds(1_000);
/// A pause is at least this many times as long as the last trim took.
const PAUSES: u64 = 100;

/// Decides when to give back memory, by the bytes that the broker counts.
#[derive(Debug)]
pub(super) struct Trim {
    /// Gives back all free memory.
    all: fn(),
    /// The most bytes that were in use since the last trim.
    most: usize,
    /// Freed bytes after which the next trim is due at once.
    step: usize,
    /// If this many bytes are in use again, the last trim was in vain.
    vain: usize,
    /// When freed memory that is less than a step is given back.
    due: Option<Time>,
    pause: Duration,
}

impl Default for Trim {
    /// Gives nothing back.
    fn default() -> Self {
        Self { all: || (), most: 0, step: STEP, vain: usize::MAX, due: None, pause: PAUSE }
    }
}

impl Trim {
    /// Sets the function that gives back all free memory.
    pub(super) const fn by(&mut self, all: fn()) {
        self.all = all;
    }

    /// Whether to give memory back now, with `held` bytes in use.
    #[inline]
    pub(super) fn is_due(&mut self, held: usize, now: Time) -> bool {
        if held >= self.vain {
            (self.vain, self.step) = (usize::MAX, self.step * 2);
        }
        self.most = self.most.max(held);
        let freed = self.most - held;
        if freed < LEAST {
            self.due = None;
            return false;
        }
        let due = *self.due.get_or_insert(now + self.pause);
        freed >= self.step || due <= now
    }

    /// Gives back all free memory.
    pub(super) fn act(&self) {
        (self.all)();
    }

    /// Adapts to the last trim, which took so long. The step is doubled if that was long for what was free: then many
    /// holes lie between blocks in use, and each trim walks all of them.
    pub(super) fn done(&mut self, held: usize, took: Duration) {
        let freed = self.most - held;
        if freed < self.step {
            self.step = (self.step / 2).max(STEP);
        } else if took.milliseconds() > (freed / MIB) as u64 {
            self.step *= 2;
        }
        (self.vain, self.most, self.due) = (self.most, held, None);
        self.pause = PAUSE.max(Duration::from_milliseconds(took.milliseconds() * PAUSES));
    }

    /// When to check again if nothing happens.
    pub(super) const fn due(&self) -> Option<Time> {
        self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_milliseconds(1_000);
    const QUICKLY: Duration = Duration::ZERO;

    /// Changes the bytes in use from one value to the other, a little at a time. Returns how much was free at each
    /// trim.
    fn fall(trim: &mut Trim, from: usize, to: usize, took: impl Fn(usize) -> Duration) -> Vec<usize> {
        let mut trims = Vec::new();
        let mut free = 0;
        for held in (to..=from).rev().step_by(MIB / 8) {
            free += MIB / 8;
            if trim.is_due(held, Time::ZERO) {
                trim.done(held, took(free));
                trims.push(free);
                free = 0;
            }
        }
        trims
    }

    #[test]
    fn memory_freed_fast_goes_back_in_steps() {
        let mut trim = Trim::default();
        assert!(!trim.is_due(1_024 * MIB, Time::ZERO), "nothing has been freed");
        let trims = fall(&mut trim, 1_024 * MIB, MIB, |_| QUICKLY);
        assert_eq!(trims.len(), 255);
        assert!(trims.iter().all(|&free| free <= STEP + MIB / 4), "{trims:?}");
        assert!(trim.due().is_some(), "the rest goes a while later");
        assert!(trim.is_due(MIB, Time::ZERO + SECOND));
    }

    /// Each trim takes longer, as there are more holes to walk.
    #[test]
    fn expensive_trims_are_rare() {
        let mut trim = Trim::default();
        trim.is_due(1_024 * MIB, Time::ZERO);
        let walked = std::cell::Cell::new(0);
        let trims = fall(&mut trim, 1_024 * MIB, 0, |free| {
            walked.set(walked.get() + free / MIB);
            Duration::from_milliseconds(walked.get() as u64 / 4)
        });
        assert!((4..40).contains(&trims.len()), "{trims:?}");
    }

    #[test]
    fn memory_that_is_soon_used_again_is_left_alone() {
        let mut trim = Trim::default();
        let mut count = 0;
        for _ in 0..1_000 {
            for held in [100, 0] {
                if trim.is_due(held * MIB, Time::ZERO) {
                    count += 1;
                    trim.done(held * MIB, QUICKLY);
                }
            }
        }
        assert_eq!(count, 5, "4, 8, 16, 32, 64 MiB and no more");
        assert!(!trim.is_due(0, Time::ZERO));
    }

    #[test]
    fn a_little_waits_and_next_to_nothing_is_left() {
        let mut trim = Trim::default();
        for (held, free, waits) in
            [(10 * MIB, 0, false), (10 * MIB, LEAST - 1, false), (10 * MIB, LEAST, true)]
        {
            assert!(!trim.is_due(held, Time::ZERO) && !trim.is_due(held - free, Time::ZERO));
            assert_eq!(trim.due().is_some(), waits, "{free} bytes are free");
        }
        let held = 10 * MIB - LEAST;
        assert!(!trim.is_due(held, Time::ZERO) && trim.is_due(held, Time::ZERO + SECOND));
        trim.done(held, Duration::from_milliseconds(50));
        assert!(!trim.is_due(held - MIB, Time::ZERO) && !trim.is_due(held - MIB, Time::ZERO + SECOND));
        assert!(trim.is_due(held - MIB, Time::from_milliseconds(5_000)), "a hundredth of the time");
    }
}
