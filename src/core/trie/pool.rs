//! Items in one vector, named by `u32`, with a list of free slots. An item never moves, so its index is its name until
//! it is removed.

use std::ops::{Index, IndexMut};

/// The end of the list of free slots.
const NONE: u32 = u32::MAX;

pub(super) enum Slot<T> {
    Used(T),
    Free(Links),
}

/// The free slots before and after a free slot. With both, the last slot can be unlinked from any position of the list.
pub(super) struct Links {
    before: u32,
    after: u32,
}

pub(super) struct Pool<T> {
    slots: Vec<Slot<T>>,
    first_free: u32,
    last_free: u32,
    used: usize,
}

impl<T> Pool<T> {
    pub(super) const fn new() -> Self {
        Self { slots: Vec::new(), first_free: NONE, last_free: NONE, used: 0 }
    }

    pub(super) fn insert(&mut self, item: T) -> u32 {
        self.used += 1;
        if self.first_free != NONE {
            let index = self.first_free;
            self.unlink(index);
            self.slots[index as usize] = Slot::Used(item);
            return index;
        }
        let index = u32::try_from(self.slots.len()).expect("memory ends before the indices do");
        reserve_tightly(&mut self.slots, 1);
        self.slots.push(Slot::Used(item));
        index
    }

    /// Removes an item. Its slot is reused soon if all items would fit before it, so that the slots at the end become
    /// free.
    pub(super) fn remove(&mut self, index: u32) -> T {
        self.used -= 1;
        let links = if (index as usize) < self.used {
            Links { before: NONE, after: self.first_free }
        } else {
            Links { before: self.last_free, after: NONE }
        };
        let Links { before, after } = links;
        let Slot::Used(item) = std::mem::replace(&mut self.slots[index as usize], Slot::Free(links)) else {
            unreachable!("only an item in use is removed");
        };
        *self.after(before) = index;
        *self.before(after) = index;
        item
    }

    /// Whether at most half of the slots are in use and the last one is free.
    pub(super) fn is_loose(&self) -> bool {
        self.used <= self.slots.len() / 2 && matches!(self.slots.last(), Some(Slot::Free(_)))
    }

    /// Removes free slots at the end while the pool is loose, at most `most`. Returns how many.
    pub(super) fn tighten(&mut self, most: usize) -> usize {
        let before = self.slots.len();
        while self.is_loose() && before - self.slots.len() < most {
            self.unlink(u32::try_from(self.slots.len() - 1).expect("it has an index"));
            self.slots.pop();
        }
        if !self.is_loose() && self.slots.len() <= self.slots.capacity() / 2 {
            self.slots.shrink_to_fit();
        }
        before - self.slots.len()
    }

    /// Unlinks a free slot from the list.
    fn unlink(&mut self, index: u32) {
        let Slot::Free(Links { before, after }) = self.slots[index as usize] else {
            unreachable!("the list names only free slots");
        };
        *self.after(before) = after;
        *self.before(after) = before;
    }

    /// Returns the link to the free slot after this one.
    fn after(&mut self, index: u32) -> &mut u32 {
        match self.slots.get_mut(index as usize) {
            Some(Slot::Free(links)) => &mut links.after,
            _ => &mut self.first_free,
        }
    }

    /// Returns the link to the free slot before this one.
    fn before(&mut self, index: u32) -> &mut u32 {
        match self.slots.get_mut(index as usize) {
            Some(Slot::Free(links)) => &mut links.before,
            _ => &mut self.last_free,
        }
    }

    pub(super) fn find(&self, index: u32) -> Option<&T> {
        match self.slots.get(index as usize) {
            Some(Slot::Used(item)) => Some(item),
            _ => None,
        }
    }

    pub(super) fn find_mut(&mut self, index: u32) -> Option<&mut T> {
        match self.slots.get_mut(index as usize) {
            Some(Slot::Used(item)) => Some(item),
            _ => None,
        }
    }

    /// The number of items.
    pub(super) const fn len(&self) -> usize {
        self.used
    }

    /// The bytes of the slots, including free ones.
    pub(super) const fn memory(&self) -> usize {
        self.slots.capacity() * size_of::<Slot<T>>()
    }

    pub(super) fn check_invariants(&self) {
        let used = self.slots.iter().filter(|slot| matches!(slot, Slot::Used(_))).count();
        assert_eq!(used, self.used, "items are counted");
        let (mut free, mut before, mut at) = (0, NONE, self.first_free);
        while let Some(Slot::Free(links)) = self.slots.get(at as usize) {
            free += 1;
            assert!(free <= self.slots.len(), "the list of free slots has no circle");
            assert_eq!(links.before, before, "the list is the same backwards");
            (before, at) = (at, links.after);
        }
        assert_eq!((at, self.last_free), (NONE, before), "the list names only free slots");
        assert_eq!(free + used, self.slots.len(), "every free slot is in the list");
    }
}

impl<T> Index<u32> for Pool<T> {
    type Output = T;

    fn index(&self, index: u32) -> &T {
        match &self.slots[index as usize] {
            Slot::Used(item) => item,
            Slot::Free(_) => unreachable!("only an item in use is named"),
        }
    }
}

impl<T> IndexMut<u32> for Pool<T> {
    fn index_mut(&mut self, index: u32) -> &mut T {
        match &mut self.slots[index as usize] {
            Slot::Used(item) => item,
            Slot::Free(_) => unreachable!("only an item in use is named"),
        }
    }
}

/// Makes room for one more element: `step` places, or an eighth of the length if that is more. Doubling, as a vector
/// does by itself, would leave up to half of the memory unused.
pub(super) fn reserve_tightly<T>(vector: &mut Vec<T>, step: usize) {
    if vector.len() == vector.capacity() {
        vector.reserve_exact((vector.len() / 8).max(step));
    }
}

/// Releases memory when less than half of it is in use.
pub(super) fn shrink_loosely<T>(vector: &mut Vec<T>, step: usize) {
    if vector.is_empty() {
        *vector = Vec::new();
    } else if vector.len() * 2 + step <= vector.capacity() {
        vector.shrink_to(vector.len() + 1);
    }
}
