//! Copies of stored messages that their sessions no longer need, until this has been persisted.
//!
//! Very many clients may acknowledge at once. If one batch had to persist all of it, everything else that clients
//! wait for would be delayed. So each batch persists only some, message by message, because the copies of one message
//! are adjacent in the store.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Bound::{Excluded, Unbounded};

use super::record::{MessageNumber, SessionNumber};
use crate::base::memory;

/// Bytes per entry of the set, in tree nodes two thirds full.
const ENTRY_BYTES: usize = 28;

/// Capacity of the list that is never released.
const PLACES_KEPT: usize = 1024;

/// A copy: the message, and the session.
type NumberedCopy = (MessageNumber, SessionNumber);

/// The copies, and which of them are next.
#[derive(Debug, Default)]
pub struct Acknowledged {
    /// Copies that came in ascending order, as those of one client do.
    ascending: VecDeque<NumberedCopy>,
    /// All other copies.
    others: BTreeSet<NumberedCopy>,
    /// The last copy taken in the current round.
    last: Option<NumberedCopy>,
}

impl Acknowledged {
    /// Adds a copy. Returns false if it was there already.
    pub fn insert(&mut self, message: MessageNumber, session: SessionNumber) -> bool {
        let copy = (message, session);
        if self.ascending.back().is_some_and(|&last| copy <= last) {
            return self.ascending.binary_search(&copy).is_err() && self.others.insert(copy);
        }
        let is_new = self.others.is_empty() || !self.others.contains(&copy);
        if is_new {
            self.ascending.push_back(copy);
        }
        is_new
    }

    /// Takes the next copies in order, at most `most`.
    pub fn take(&mut self, most: usize) -> Vec<NumberedCopy> {
        let first = self.last.map_or(0, |last| self.ascending.partition_point(|&copy| copy <= last));
        let mut taken: Vec<NumberedCopy> = self.ascending.range(first..).take(most).copied().collect();
        if !self.others.is_empty() {
            let first = self.last.map_or(Unbounded, Excluded);
            taken.extend(self.others.range((first, Unbounded)).take(most));
            taken.sort_unstable();
            taken.truncate(most);
        }
        let of_others = taken.iter().filter(|copy| self.others.remove(copy)).count();
        self.ascending.drain(first..first + taken.len() - of_others);
        self.ascending.shrink_to(PLACES_KEPT.max(2 * self.ascending.len()));
        // After the last copy the next round begins.
        self.last = taken.last().copied().filter(|_| taken.len() == most);
        taken
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ascending.is_empty() && self.others.is_empty()
    }

    /// Bytes of memory used.
    pub fn memory(&self) -> usize {
        memory::allocation(self.ascending.capacity() * size_of::<NumberedCopy>())
            + self.others.len() * ENTRY_BYTES
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use proptest::prelude::*;

    use super::*;

    fn copy(message: u64, session: u64) -> (MessageNumber, SessionNumber) {
        let number = |number| NonZeroU64::new(number).expect("not zero");
        (MessageNumber(number(message)), SessionNumber(number(session)))
    }

    proptest! {
        /// In whatever order copies come, it is a sorted set that is gone through round by round.
        #[test]
        fn it_is_a_sorted_set(acts in prop::collection::vec((0_u64..40, 1_u64..4, 0_usize..6), 1..200)) {
            let mut acknowledged = Acknowledged::default();
            let (mut model, mut last) = (BTreeSet::new(), None);
            for (message, session, most) in acts {
                if message > 0 {
                    let copy = copy(message, session);
                    prop_assert_eq!(acknowledged.insert(copy.0, copy.1), model.insert(copy));
                    continue;
                }
                let first = last.map_or(Unbounded, Excluded);
                let expected: Vec<_> = model.range((first, Unbounded)).take(most).copied().collect();
                model.retain(|copy| !expected.contains(copy));
                last = expected.last().copied().filter(|_| expected.len() == most);
                prop_assert_eq!(acknowledged.take(most), expected);
                prop_assert_eq!(acknowledged.is_empty(), model.is_empty());
            }
        }
    }

    #[test]
    fn every_copy_has_its_turn_message_by_message() {
        let mut acknowledged = Acknowledged::default();
        for (message, session) in [copy(2, 1), copy(1, 1), copy(2, 2), copy(1, 2)] {
            assert!(acknowledged.insert(message, session));
            assert!(!acknowledged.insert(message, session));
        }
        assert_eq!(acknowledged.take(3), [copy(1, 1), copy(1, 2), copy(2, 1)]);
        // Copies in front of the last one taken wait for the next round.
        acknowledged.insert(copy(1, 3).0, copy(1, 3).1);
        assert_eq!(acknowledged.take(3), [copy(2, 2)]);
        assert_eq!(acknowledged.take(3), [copy(1, 3)]);
        assert!(acknowledged.is_empty() && acknowledged.take(3).is_empty());
    }
}
