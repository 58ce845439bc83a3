//! Lets other threads have the processor in the middle of a transaction.

use std::thread;
use std::time::{Duration, Instant};

use super::clock;

/// How long a transaction goes on undisturbed. Most are over by then, and clients wait for them.
const UNDISTURBED: Duration = Duration::from_millis(2);

/// The time that one transaction has given to other threads. It is limited to half of the total, because a thread
/// that is never idle would hold up everything that waits for the disk.
pub(super) struct Yielding {
    begun: Instant,
    given: Duration,
}

impl Yielding {
    pub(super) fn new() -> Self {
        Self { begun: clock(), given: Duration::ZERO }
    }

    /// Lets other threads run unless they have had their share of the time.
    pub(super) fn let_others_run(&mut self) {
        let before = clock();
        if self.may_give(before.duration_since(self.begun)) {
            thread::yield_now();
            self.given += before.elapsed();
        }
    }

    /// Whether more time may be given this long after the beginning.
    fn may_give(&self, elapsed: Duration) -> bool {
        2 * self.given + UNDISTURBED <= elapsed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_get_half_of_the_time_after_a_while() {
        let mut yielding = Yielding::new();
        assert!(!yielding.may_give(Duration::from_millis(1)));
        assert!(yielding.may_give(Duration::from_millis(2)));
        yielding.given = Duration::from_millis(10);
        assert!(!yielding.may_give(Duration::from_millis(21)));
        assert!(yielding.may_give(Duration::from_millis(22)));
    }
}
