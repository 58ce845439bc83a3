//! How long commits take, as a few counters instead of a list of all times.

/// Number of ranges per power of two.
const PARTS: u32 = 4;

/// Number of ranges in total. They reach 2^24 microseconds, some 17 seconds. Longer times count in the last range.
const RANGES: usize = 24 * PARTS as usize;

/// Commits to remember. When there are so many, all counts are halved, so that old commits are gradually forgotten.
const REMEMBERED: u32 = 4096;

/// Times in microseconds, counted by range.
#[derive(Clone, Debug)]
pub(super) struct Times {
    counts: [u32; RANGES],
    total: u32,
    longest: u64,
}

impl Times {
    pub(super) const fn new() -> Self {
        Self { counts: [0; RANGES], total: 0, longest: 0 }
    }

    /// Adds the time of another commit.
    pub(super) fn add(&mut self, microseconds: u64) {
        self.counts[range_of(microseconds)] += 1;
        self.total += 1;
        self.longest = self.longest.max(microseconds);
        if self.total == REMEMBERED {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.total = self.counts.iter().sum();
        }
    }

    /// Returns the time that `percent` of recent commits did not exceed, to within a fifth. Zero if there were none.
    pub(super) fn percentile(&self, percent: u32) -> u64 {
        let mut left = (self.total * percent).div_ceil(100);
        for (range, count) in self.counts.iter().enumerate() {
            if left <= *count && left > 0 {
                return end_of(range).min(self.longest);
            }
            left -= (*count).min(left);
        }
        0
    }

    /// Returns the longest time of all.
    pub(super) const fn longest(&self) -> u64 {
        self.longest
    }
}

fn range_of(microseconds: u64) -> usize {
    let power = microseconds.max(1).ilog2();
    let part = (microseconds << 2 >> power) & 3;
    let range = power * PARTS + u32::try_from(part).unwrap_or(0);
    usize::try_from(range).map_or(RANGES - 1, |range| range.min(RANGES - 1))
}

/// Returns the longest time that falls into a range.
const fn end_of(range: usize) -> u64 {
    let next = range as u64 + 1;
    ((4 + next % 4) << (next / 4)) / 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_told_to_a_fifth_of_it() {
        for span in [1, 2, 3, 7, 8, 100, 1_000, 2_047, 2_048, 5_000, 1_000_000, 16_000_000] {
            let mut times = Times::new();
            times.add(span);
            times.add(u64::MAX);
            let told = times.percentile(50);
            assert!(span <= told && told <= span + span / 4 + 1, "{span} is told as {told}");
            assert_eq!(times.longest(), u64::MAX);
        }
    }

    #[test]
    fn percentiles_part_the_many_from_the_few() {
        let mut times = Times::new();
        assert_eq!((times.percentile(50), times.percentile(99)), (0, 0));
        (0..98).for_each(|_| times.add(1_000));
        (0..2).for_each(|_| times.add(50_000));
        assert!((1_000..1_300).contains(&times.percentile(50)));
        assert_eq!((times.percentile(99), times.longest()), (50_000, 50_000));
    }

    #[test]
    fn old_commits_are_forgotten() {
        let mut times = Times::new();
        (0..REMEMBERED).for_each(|_| times.add(1_000_000));
        (0..3 * REMEMBERED).for_each(|_| times.add(10));
        assert!(times.percentile(50) < 20);
    }
}
