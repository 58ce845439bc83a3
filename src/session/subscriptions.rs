//! The subscriptions of one session. Most sessions have one, which takes no memory of its own.

use std::collections::BTreeSet;

use crate::memory;
use crate::subscription::Held;

/// The smallest node of a set, and what one more takes in nodes two thirds full.
const NODE_BYTES: usize = 112;
const ENTRY_BYTES: usize = 14;

/// What a session is subscribed to.
#[derive(Debug, Default)]
pub struct Subscriptions(Kept);

#[derive(Debug, Default)]
enum Kept {
    #[default]
    None,
    One(Held),
    #[expect(clippy::box_collection, reason = "sessions with one are many, and so take less")]
    Several(Box<BTreeSet<Held>>),
}

impl Subscriptions {
    /// How many there are.
    pub fn len(&self) -> usize {
        match &self.0 {
            Kept::None => 0,
            Kept::One(_) => 1,
            Kept::Several(several) => several.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether this is one of them.
    pub fn contains(&self, held: Held) -> bool {
        match &self.0 {
            Kept::None => false,
            Kept::One(one) => *one == held,
            Kept::Several(several) => several.contains(&held),
        }
    }

    /// Adds one, unless it is there already.
    pub fn insert(&mut self, held: Held) {
        match &mut self.0 {
            Kept::None => self.0 = Kept::One(held),
            Kept::One(one) if *one == held => {}
            Kept::One(one) => self.0 = Kept::Several(Box::new(BTreeSet::from([*one, held]))),
            Kept::Several(several) => {
                several.insert(held);
            }
        }
    }

    /// Takes one out; tells whether it was there.
    pub fn remove(&mut self, held: Held) -> bool {
        let is_there = self.contains(held);
        match &mut self.0 {
            Kept::Several(several) => {
                several.remove(&held);
                // One may come back at once, so only none at all gives the set up.
                if several.is_empty() {
                    self.0 = Kept::None;
                }
            }
            Kept::One(_) if is_there => self.0 = Kept::None,
            Kept::None | Kept::One(_) => {}
        }
        is_there
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = Held> {
        let (one, several) = match &self.0 {
            Kept::None => (None, None),
            Kept::One(one) => (Some(*one), None),
            Kept::Several(several) => (None, Some(several.iter().copied())),
        };
        one.into_iter().chain(several.into_iter().flatten())
    }

    /// Bytes that they take beside their place in the session.
    pub fn memory(&self) -> usize {
        match &self.0 {
            Kept::None | Kept::One(_) => 0,
            Kept::Several(several) => {
                memory::allocation(size_of::<BTreeSet<Held>>()) + NODE_BYTES + several.len() * ENTRY_BYTES
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trie::Trie;

    #[test]
    fn however_many_there_are_each_is_there_once() {
        let mut trie = Trie::new();
        let held = ["a", "b", "c"].map(|pattern| Held::Filter(trie.insert(pattern, ())));
        let mut subscriptions = Subscriptions::default();
        for count in [1, 2, 3] {
            for &one in &held[..count] {
                subscriptions.insert(one);
            }
            assert_eq!(subscriptions.len(), count);
            assert_eq!(subscriptions.iter().collect::<Vec<_>>(), &held[..count]);
        }
        for (left, &one) in held.iter().enumerate().rev() {
            assert!(subscriptions.contains(one) && subscriptions.remove(one));
            assert!(!subscriptions.contains(one) && !subscriptions.remove(one));
            assert_eq!(subscriptions.len(), left);
        }
        assert!(subscriptions.is_empty() && subscriptions.memory() == 0);
        subscriptions.insert(held[1]);
        assert!(!subscriptions.remove(held[0]) && subscriptions.remove(held[1]));
    }
}
