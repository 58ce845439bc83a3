//! The subscriptions of one session, with the position of each among the subscribers of its filter or the members of
//! its group. The position is stored because a search among all subscribers of a filter could take longer than anything
//! else that a packet asks for. Most sessions have one subscription, which takes no memory of its own.

use crate::base::memory;
use crate::base::ordered_map::OrderedMap;
use crate::core::subscription::{GroupId, Held};

/// The bytes of the smallest list of blocks of a map with a block, and of one more entry in blocks two thirds full.
const NODE_BYTES: usize = 160;
const ENTRY_BYTES: usize = 20;

/// The subscriptions of a session.
#[derive(Debug, Default)]
pub struct Subscriptions(Entries);

#[derive(Debug, Default)]
enum Entries {
    #[default]
    None,
    One(Held, u32),
    Several(Box<OrderedMap<Held, u32>>),
}

impl Subscriptions {
    /// The number of subscriptions.
    pub fn len(&self) -> usize {
        match &self.0 {
            Entries::None => 0,
            Entries::One(..) => 1,
            Entries::Several(several) => several.len(),
        }
    }

    /// Whether there are no subscriptions.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The position of a subscription, if the session has it.
    pub fn position(&self, held: Held) -> Option<u32> {
        match &self.0 {
            Entries::One(one, position) if *one == held => Some(*position),
            Entries::None | Entries::One(..) => None,
            Entries::Several(several) => several.find(&held).copied(),
        }
    }

    /// Adds a subscription, or sets its new position.
    pub fn insert(&mut self, held: Held, position: u32) {
        match &mut self.0 {
            Entries::None => self.0 = Entries::One(held, position),
            Entries::One(one, former) if *one == held => *former = position,
            Entries::One(one, former) => {
                let mut several = OrderedMap::default();
                several.insert(*one, *former);
                several.insert(held, position);
                self.0 = Entries::Several(Box::new(several));
            }
            Entries::Several(several) => {
                several.insert(held, position);
            }
        }
    }

    /// Removes a subscription. Returns its position.
    pub fn remove(&mut self, held: Held) -> Option<u32> {
        let position = self.position(held)?;
        match &mut self.0 {
            Entries::Several(several) if several.len() > 1 => {
                several.remove(&held);
            }
            // One may come back at once, so the map is kept until there are none.
            _ => self.0 = Entries::None,
        }
        Some(position)
    }

    /// Returns the next Shared Subscription after this one in order, or the first one.
    pub fn group_after(&self, former: Option<GroupId>) -> Option<GroupId> {
        // They come after all others.
        let first = Held::Group(former.unwrap_or(GroupId::FIRST));
        let is_next = |held: &Held| *held >= first && former.map(Held::Group) != Some(*held);
        let next = match &self.0 {
            Entries::None => None,
            Entries::One(one, _) => Some(*one).filter(is_next),
            Entries::Several(several) => several.iter_from(&first).map(|(&held, _)| held).find(is_next),
        };
        next.and_then(|held| match held {
            Held::Filter(_) => None,
            Held::Group(group) => Some(group),
        })
    }

    /// Removes the first one.
    pub fn pop_first(&mut self) -> Option<(Held, u32)> {
        let (held, position) = self.iter().next()?;
        self.remove(held);
        Some((held, position))
    }

    /// Returns all of them, in order, with their positions.
    pub fn iter(&self) -> impl Iterator<Item = (Held, u32)> {
        let (one, several) = match &self.0 {
            Entries::None => (None, None),
            Entries::One(one, position) => (Some((*one, *position)), None),
            Entries::Several(several) => (None, Some(several.iter())),
        };
        one.into_iter().chain(several.into_iter().flatten().map(|(&held, &position)| (held, position)))
    }

    /// The bytes that they take besides their place in the session.
    pub fn memory(&self) -> usize {
        match &self.0 {
            Entries::None | Entries::One(..) => 0,
            Entries::Several(several) => {
                memory::allocation(size_of::<OrderedMap<Held, u32>>())
                    + NODE_BYTES
                    + several.len() * ENTRY_BYTES
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::trie::Trie;

    #[test]
    fn each_subscription_is_there_once_however_many_there_are() {
        let mut trie = Trie::new();
        let held = ["a", "b", "c"].map(|pattern| Held::Filter(trie.insert(pattern, ())));
        let mut subscriptions = Subscriptions::default();
        for count in [1, 2, 3] {
            for (&one, position) in held[..count].iter().zip(10..) {
                subscriptions.insert(one, 0);
                subscriptions.insert(one, position);
            }
            assert_eq!(subscriptions.len(), count);
            let expected: Vec<_> = held[..count].iter().copied().zip(10..).collect();
            assert_eq!(subscriptions.iter().collect::<Vec<_>>(), expected);
        }
        for (left, &one) in held.iter().enumerate().rev() {
            let position = 10 + u32::try_from(left).unwrap();
            assert_eq!(
                (subscriptions.position(one), subscriptions.remove(one)),
                (Some(position), Some(position))
            );
            assert_eq!((subscriptions.position(one), subscriptions.remove(one)), (None, None));
            assert_eq!(subscriptions.len(), left);
        }
        assert!(subscriptions.is_empty() && subscriptions.memory() == 0);
        subscriptions.insert(held[1], 7);
        assert_eq!((subscriptions.remove(held[0]), subscriptions.pop_first()), (None, Some((held[1], 7))));
        assert_eq!(subscriptions.pop_first(), None);
    }
}
