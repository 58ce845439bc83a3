//! Copies of messages in the store that their sessions need no longer, until that is persisted.
//!
//! Very many clients may acknowledge at once. If all of it went into one batch, everything that clients wait for would
//! wait for it, so each batch persists only some. This is done message by message, because copies of one message lie
//! side by side in the store.

use std::collections::BTreeSet;
use std::ops::Bound::{Excluded, Unbounded};

use super::record::{MessageNumber, SessionNumber};

/// What an entry takes, in nodes two thirds full.
const ENTRY_BYTES: usize = 28;

/// Such copies.
#[derive(Debug, Default)]
pub struct Acknowledged {
    copies: BTreeSet<(MessageNumber, SessionNumber)>,
    /// Those up to this one have had their turn.
    last: Option<(MessageNumber, SessionNumber)>,
}

impl Acknowledged {
    /// A copy is needed no longer. False if that is known.
    pub fn insert(&mut self, message: MessageNumber, session: SessionNumber) -> bool {
        self.copies.insert((message, session))
    }

    /// Takes the next ones, at most so many, in order.
    pub fn take(&mut self, most: usize) -> Vec<(MessageNumber, SessionNumber)> {
        let first = self.last.map_or(Unbounded, Excluded);
        let taken: Vec<_> = self.copies.range((first, Unbounded)).take(most).copied().collect();
        for copy in &taken {
            self.copies.remove(copy);
        }
        // After the last one it is the turn of the first.
        self.last = taken.last().copied().filter(|_| taken.len() == most);
        taken
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.copies.is_empty()
    }

    /// Bytes that they take.
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
        // What comes before those that have had their turn waits for the next round.
        acknowledged.insert(copy(1, 3).0, copy(1, 3).1);
        assert_eq!(acknowledged.take(3), [copy(2, 2)]);
        assert_eq!(acknowledged.take(3), [copy(1, 3)]);
        assert!(acknowledged.is_empty() && acknowledged.take(3).is_empty());
    }
}
