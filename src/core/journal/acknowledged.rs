//! Copies of stored messages that their sessions no longer need, until this has been persisted.
//!
//! Very many clients may acknowledge at once. If one batch had to persist all of it, everything else that clients
//! wait for would be delayed. So each batch persists only some, message by message, because the copies of one message
//! are adjacent in the store.

use std::collections::BTreeSet;
use std::ops::Bound::{Excluded, Unbounded};

use super::record::{MessageNumber, SessionNumber};

/// Bytes per entry, in tree nodes two thirds full.
const ENTRY_BYTES: usize = 28;

/// The copies, and which of them are next.
#[derive(Debug, Default)]
pub struct Acknowledged {
    copies: BTreeSet<(MessageNumber, SessionNumber)>,
    /// The last copy taken in the current round.
    last: Option<(MessageNumber, SessionNumber)>,
}

impl Acknowledged {
    /// Adds a copy. Returns false if it was there already.
    pub fn insert(&mut self, message: MessageNumber, session: SessionNumber) -> bool {
        self.copies.insert((message, session))
    }

    /// Takes the next copies in order, at most `most`.
    pub fn take(&mut self, most: usize) -> Vec<(MessageNumber, SessionNumber)> {
        let first = self.last.map_or(Unbounded, Excluded);
        let taken: Vec<_> = self.copies.range((first, Unbounded)).take(most).copied().collect();
        for copy in &taken {
            self.copies.remove(copy);
        }
        // After the last copy the next round begins.
        self.last = taken.last().copied().filter(|_| taken.len() == most);
        taken
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.copies.is_empty()
    }

    /// Bytes of memory used.
    pub fn memory(&self) -> usize {
        self.copies.len() * ENTRY_BYTES
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    fn copy(message: u64, session: u64) -> (MessageNumber, SessionNumber) {
        let number = |number| NonZeroU64::new(number).expect("not zero");
        (MessageNumber(number(message)), SessionNumber(number(session)))
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
