//! How other threads get the processor in the midst of a transaction.

use std::thread;
use std::time::{Duration, Instant};

use super::clock;

/// So much more than half of the time may be given: what others need now and then, they get at once.
const GIVEN_FREELY: Duration = Duration::from_millis(1);

/// The time of one transaction. Not much more than half of it goes to others: a thread that is never idle would hold up
/// everything that waits for the disk otherwise.
pub(super) struct Yielding {
    begun: Instant,
    given: Duration,
}

impl Yielding {
    pub(super) fn new() -> Self {
        Self { begun: clock(), given: Duration::ZERO }
    }

    /// Lets others run, if they have not had their part of the time.
    pub(super) fn let_others_run(&mut self) {
        let before = clock();
        if self.may_give(before.duration_since(self.begun)) {
            thread::yield_now();
            self.given += before.elapsed();
        }
    }

    /// Whether more may be given, so long after the beginning.
    fn may_give(&self, elapsed: Duration) -> bool {
        self.given <= GIVEN_FREELY + elapsed / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_get_half_of_the_time_and_a_little_more() {
        let mut yielding = Yielding::new();
        assert!(yielding.may_give(Duration::ZERO));
        yielding.given = Duration::from_millis(10);
        assert!(!yielding.may_give(Duration::from_millis(17)));
        assert!(yielding.may_give(Duration::from_millis(18)));
    }
}
