//! How long a bridge waits before it connects again.

use crate::base::time::Duration;
use crate::settings::Restart;

/// The waits of one bridge. Each is random between the shortest wait and three times the previous one, and never longer
/// than the longest wait. So bridges that lost their connections together do not come back together, and a broker that
/// stays away is tried less often.
#[derive(Clone, Debug)]
pub struct Waits {
    /// The latest wait since the last success.
    previous: Option<Duration>,
    state: u64,
}

impl Waits {
    /// Waits that depend on this seed only.
    pub const fn new(seed: u64) -> Self {
        Self { previous: None, state: seed }
    }

    /// The next wait. It is between `restart.least` and `restart.most`.
    pub fn next(&mut self, restart: Restart) -> Duration {
        let (least, most) = (restart.least.milliseconds(), restart.most.milliseconds());
        let previous = self.previous.map_or(least, Duration::milliseconds);
        let highest = previous.saturating_mul(3).min(most).max(least);
        let wait = Duration::from_milliseconds(least + self.random() % (highest - least + 1));
        self.previous = Some(wait);
        wait
    }

    /// The connection was good: the next wait is short again.
    pub const fn reset(&mut self) {
        self.previous = None;
    }

    /// A random number, by SplitMix64.
    const fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) >> 1
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn between(least: u64, most: u64) -> Restart {
        Restart {
            least: Duration::from_milliseconds(least),
            most: Duration::from_milliseconds(most),
            stable: Duration::ZERO,
        }
    }

    #[test]
    fn a_stable_wait_does_not_change() {
        let mut waits = Waits::new(1);
        for _ in 0..10 {
            assert_eq!(waits.next(between(700, 700)), Duration::from_milliseconds(700));
        }
    }

    #[test]
    fn waits_grow_to_the_longest_and_are_short_after_a_success() {
        let mut waits = Waits::new(7);
        let restart = between(5_000, 30_000);
        let all: Vec<u64> = (0..200).map(|_| waits.next(restart).milliseconds()).collect();
        assert!(all[0] <= 15_000 && all.iter().any(|&wait| wait > 25_000), "{all:?}");
        waits.reset();
        assert!(waits.next(restart).milliseconds() <= 15_000);
        let mut others = Waits::new(8);
        let other: Vec<u64> = (0..200).map(|_| others.next(restart).milliseconds()).collect();
        assert_ne!(all, other, "another bridge waits differently");
    }

    proptest! {
        #[test]
        fn a_wait_is_within_its_limits(seed: u64, least in 0..100_000u64, more in 0..100_000u64) {
            let restart = between(least, least + more);
            let mut waits = Waits::new(seed);
            let mut previous = least;
            for _ in 0..20 {
                let wait = waits.next(restart).milliseconds();
                prop_assert!((least..=least + more).contains(&wait) && wait <= (previous * 3).max(least));
                previous = wait;
            }
        }

        #[test]
        fn extreme_limits_do_not_overflow(seed: u64) {
            let mut waits = Waits::new(seed);
            for _ in 0..5 {
                waits.next(between(0, u64::MAX - 1));
                waits.next(between(u64::MAX - 1, u64::MAX - 1));
            }
        }
    }
}
