//! When the messages of a queue came, without a moment for each of them: they come in the order of their numbers, so
//! those that came at about the same time are one run.

use std::collections::VecDeque;

use crate::base::memory::{self, Audit, Counted};

/// Messages belong to one run if they came within this many milliseconds, or within one part in [`PARTS`] of the time
/// since the oldest run, if that is more. So a few thousand runs are enough for any time.
const TOGETHER: i64 = 1000;
const PARTS: i64 = 256;

/// Messages that came at about the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// The number of the first one. The last one is before the next run.
    first: u64,
    /// When the first one came and when the last one did, in milliseconds since the origin of the broker's clock: less
    /// than zero for messages of an earlier run of the broker.
    pub(super) from: i64,
    pub(super) until: i64,
}

/// When messages came, in the order of their numbers.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    runs: VecDeque<Run>,
    counted: Counted,
}

impl Arrivals {
    /// How far apart messages of one run may have come if the first one came at `from`.
    fn together(&self, from: i64) -> i64 {
        let oldest = self.runs.front().map_or(from, |run| run.from);
        TOGETHER.max((from - oldest) / PARTS)
    }

    /// Notes that a message with this number, the highest so far, came `now`. Returns whether it is the first of a run.
    pub(super) fn note(&mut self, number: u64, now: i64) -> bool {
        if let Some(last) = self.runs.back()
            && now - last.from < self.together(last.from)
            && let Some(last) = self.runs.back_mut()
        {
            last.until = now;
            return false;
        }
        // What was begun in an earlier turn may be queued after something later.
        let first = self.runs.back().map_or(number, |last| last.first.max(number));
        self.runs.push_back(Run { first, from: now, until: now });
        self.count();
        true
    }

    /// Restores the beginning of a run, after those before it. When its other messages came is not known exactly: they
    /// count as the last ones that may be part of it.
    pub(super) fn restore(&mut self, first: u64, from: i64, now: i64) {
        if let Some(last) = self.runs.back_mut() {
            last.until = last.until.min(from);
        }
        let until = now.min(from + self.together(from));
        self.runs.push_back(Run { first, from, until });
        self.count();
    }

    /// Notes that nothing is known of the message with this number, which is before all others: it came `now`.
    pub(super) fn begin_with(&mut self, number: u64, now: i64) {
        self.runs.push_front(Run { first: number, from: now, until: now });
        self.count();
    }

    /// The run of the message with this number.
    pub(super) fn run_of(&self, number: u64) -> Option<Run> {
        let after = self.runs.partition_point(|run| run.first <= number);
        self.runs.get(after.checked_sub(1)?).copied()
    }

    /// Forgets the messages before this number.
    pub(super) fn forget_before(&mut self, number: u64) {
        let after = self.runs.partition_point(|run| run.first <= number);
        self.runs.drain(..after.saturating_sub(1));
        self.runs.shrink_to(2 * self.runs.len());
        self.count();
    }

    /// Notes that the messages with these numbers, in rising order, were removed, and that the numbers of those before
    /// them have grown by one for each.
    pub(super) fn close_gaps(&mut self, removed: &[u64]) {
        for run in &mut self.runs {
            let before = removed.partition_point(|&number| number < run.first);
            run.first += (removed.len() - before) as u64;
        }
    }

    fn count(&mut self) {
        self.counted.set(memory::allocation(self.runs.capacity() * size_of::<Run>()));
    }

    /// Adds the memory that it holds to an audit.
    pub(super) fn audit(&self, audit: &mut Audit) {
        audit.add(self.counted.bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(first: u64, from: i64, until: i64) -> Option<Run> {
        Some(Run { first, from, until })
    }

    #[test]
    fn messages_that_came_at_about_the_same_time_are_one_run() {
        let mut arrivals = Arrivals::default();
        assert_eq!(arrivals.run_of(7), None);
        assert!(arrivals.note(5, 0));
        assert!(!arrivals.note(6, 999));
        assert!(arrivals.note(9, 1000));
        assert!(arrivals.note(10, 512_000));
        // The longer messages wait, the less a second matters.
        assert!(!arrivals.note(11, 513_999));
        assert!(arrivals.note(12, 514_000));
        let found = [4, 5, 8, 9, 11, 99].map(|number| arrivals.run_of(number));
        assert_eq!(found[..3], [None, run(5, 0, 999), run(5, 0, 999)]);
        assert_eq!(found[3..], [run(9, 1000, 1000), run(10, 512_000, 513_999), run(12, 514_000, 514_000)]);
        arrivals.forget_before(9);
        assert_eq!((arrivals.runs.len(), arrivals.run_of(8)), (3, None));
        arrivals.forget_before(11);
        assert_eq!(arrivals.run_of(10), run(10, 512_000, 513_999), "it is the run of one that is there");
    }

    #[test]
    fn a_year_of_messages_needs_few_runs() {
        const YEAR: i64 = 366 * 24 * 3_600_000;
        let mut arrivals = Arrivals::default();
        (0_u64..).zip((0..YEAR).step_by(5_000)).for_each(|(number, now)| {
            arrivals.note(number, now);
        });
        assert!(arrivals.runs.len() < 4_000, "{}", arrivals.runs.len());
    }

    #[test]
    fn what_is_restored_is_not_older_than_it_is() {
        let mut arrivals = Arrivals::default();
        for (number, age) in [(10, 90_000), (20, 60_000), (30, 59_500), (40, 300)] {
            arrivals.restore(number, 5 - age, 5);
        }
        let found = [19, 20, 30, 40].map(|number| arrivals.run_of(number));
        assert_eq!(found[..2], [run(10, -89_995, -88_995), run(20, -59_995, -59_495)]);
        assert_eq!(found[2..], [run(30, -59_495, -58_495), run(40, -295, 5)]);
        arrivals.begin_with(3, 5);
        assert_eq!([9, 10].map(|number| arrivals.run_of(number)), [run(3, 5, 5), found[0]]);
    }

    proptest! {
        /// A queue whose messages have no numbers of their own: its last message has the number of those that came.
        #[test]
        fn removed_messages_do_not_move_the_others(
            steps in prop::collection::vec(0_i64..3_000, 1..40),
            removed in prop::collection::btree_set(0_usize..40, 0..20),
        ) {
            let mut arrivals = Arrivals::default();
            let mut queue = Vec::new();
            let mut now = 0;
            for (number, step) in (1..).zip(&steps) {
                now += step;
                arrivals.note(number, now);
                queue.push(now);
            }
            let removed: Vec<usize> = removed.into_iter().filter(|&place| place < queue.len()).collect();
            let numbers: Vec<u64> = removed.iter().map(|&place| place as u64 + 1).collect();
            arrivals.close_gaps(&numbers);
            removed.iter().rev().for_each(|&place| {
                queue.remove(place);
            });
            for (place, came) in queue.iter().rev().enumerate() {
                let run = arrivals.run_of((steps.len() - place) as u64).expect("all are known");
                prop_assert!(run.from <= *came && *came <= run.until, "{} {:?}", came, run);
            }
        }
    }
}
