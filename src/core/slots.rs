//! Slots whose keys know their occupant: a slab whose keys carry a generation, so that a reused slot is never mistaken
//! for its former occupant.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;

use slab::Slab;

use crate::base::memory::{self, Shrinking};

/// Marks the key of a connection.
#[derive(Debug)]
pub enum ConnectionMark {}
/// Marks the key of a session.
#[derive(Debug)]
pub enum SessionMark {}

/// The key of a connection.
pub type ConnectionId = Id<ConnectionMark>;
/// The key of a session.
pub type SessionId = Id<SessionMark>;

/// The index of a slot and the generation of its occupant.
pub struct Id<M> {
    index: u32,
    generation: u32,
    mark: PhantomData<fn() -> M>,
}

impl<M> Id<M> {
    /// Returns the key of the occupant with this generation, from parts that were stored.
    pub const fn of(index: u32, generation: u32) -> Self {
        Self { index, generation, mark: PhantomData }
    }

    /// The slot's index, small and reused.
    pub const fn index(self) -> usize {
        self.index as usize
    }

    /// The generation, which tells the occupants of a slot apart.
    pub const fn generation(self) -> u32 {
        self.generation
    }
}

impl<M> Clone for Id<M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for Id<M> {}

impl<M> PartialEq for Id<M> {
    fn eq(&self, other: &Self) -> bool {
        (self.index, self.generation) == (other.index, other.generation)
    }
}

impl<M> Eq for Id<M> {}

impl<M> PartialOrd for Id<M> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<M> Ord for Id<M> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.index, self.generation).cmp(&(other.index, other.generation))
    }
}

impl<M> Hash for Id<M> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.index, self.generation).hash(state);
    }
}

impl<M> fmt::Debug for Id<M> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.index, self.generation)
    }
}

/// Slots that are added at least when all are occupied.
const SLOTS_STEP: usize = 16;

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: T,
}

/// The occupants of all slots.
#[derive(Debug)]
pub struct Slots<M, T> {
    slab: Slab<Slot<T>>,
    next_generation: u32,
    shrinking: Shrinking,
    mark: PhantomData<fn() -> M>,
}

impl<M, T> Default for Slots<M, T> {
    fn default() -> Self {
        Self { slab: Slab::new(), next_generation: 0, shrinking: Shrinking::default(), mark: PhantomData }
    }
}

impl<M, T> Slots<M, T> {
    /// Puts the value that `make` builds from its own key into a free slot.
    ///
    /// # Panics
    ///
    /// With more than `u32::MAX` occupants, which the limits above exclude.
    pub fn insert_with(&mut self, make: impl FnOnce(Id<M>) -> T) -> Id<M> {
        if self.slab.len() == self.slab.capacity() {
            // Doubling would take a large part of a small memory budget in one step, and leave half of it unused.
            self.slab.reserve_exact((self.slab.len() / 8).max(SLOTS_STEP));
        }
        let entry = self.slab.vacant_entry();
        let index = u32::try_from(entry.key()).expect("the limits keep the count below u32::MAX");
        let id = Id { index, generation: self.next_generation, mark: PhantomData };
        self.next_generation = self.next_generation.wrapping_add(1);
        entry.insert(Slot { generation: id.generation, value: make(id) });
        id
    }

    /// Returns the occupant, unless it has been removed.
    #[inline]
    pub fn find(&self, id: Id<M>) -> Option<&T> {
        self.slab.get(id.index()).filter(|slot| slot.generation == id.generation).map(|slot| &slot.value)
    }

    /// Returns the occupant, unless it has been removed.
    #[inline]
    pub fn find_mut(&mut self, id: Id<M>) -> Option<&mut T> {
        let slot = self.slab.get_mut(id.index())?;
        (slot.generation == id.generation).then_some(&mut slot.value)
    }

    /// Returns the key of the occupant of a slot.
    pub fn id_at(&self, index: u32) -> Option<Id<M>> {
        let slot = self.slab.get(index as usize)?;
        Some(Id { index, generation: slot.generation, mark: PhantomData })
    }

    /// Removes the occupant.
    pub fn remove(&mut self, id: Id<M>) -> Option<T> {
        self.find(id)?;
        let slot = self.slab.remove(id.index());
        if self.shrinking.is_due(self.slab.len(), self.slab.capacity()) {
            // As far as the last occupied slot allows.
            self.slab.shrink_to_fit();
        }
        Some(slot.value)
    }

    /// The bytes that the slots take, occupied or not.
    pub fn memory(&self) -> usize {
        // The slab has one more word for each slot that tells whether it is free.
        memory::allocation(self.slab.capacity() * (size_of::<Slot<T>>() + size_of::<usize>()))
    }

    /// The number of occupied slots.
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Whether no slot is occupied.
    pub fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// Returns all occupants with their keys, in the order of their slots.
    pub fn iter(&self) -> impl Iterator<Item = (Id<M>, &T)> {
        self.slab.iter().map(|(key, slot)| {
            let index = u32::try_from(key).expect("the limits keep the count below u32::MAX");
            (Id { index, generation: slot.generation, mark: PhantomData }, &slot.value)
        })
    }
}

impl<M, T> std::ops::Index<Id<M>> for Slots<M, T> {
    type Output = T;

    /// # Panics
    ///
    /// If the occupant has been removed; callers must know that it has not.
    #[inline]
    fn index(&self, id: Id<M>) -> &T {
        self.find(id).expect("the occupant of this key is still here")
    }
}

impl<M, T> std::ops::IndexMut<Id<M>> for Slots<M, T> {
    #[inline]
    fn index_mut(&mut self, id: Id<M>) -> &mut T {
        self.find_mut(id).expect("the occupant of this key is still here")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reused_slot_is_not_its_former_occupant() {
        let mut slots: Slots<SessionMark, u8> = Slots::default();
        let first = slots.insert_with(|_| 1);
        assert_eq!(slots.remove(first), Some(1));
        let second = slots.insert_with(|_| 2);
        assert_eq!(first.index(), second.index());
        assert_eq!((slots.find(first), slots.find(second)), (None, Some(&2)));
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.len(), 1);
    }
}
