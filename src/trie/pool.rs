//! Items in one vector, named by `u32`, with a free list. An item never moves, so its index is its name until it
//! is removed.

use std::ops::{Index, IndexMut};

/// The end of the free list.
const NONE: u32 = u32::MAX;

pub(super) enum Slot<T> {
    Used(T),
    /// Names the next free slot.
    Free(u32),
}

pub(super) struct Pool<T> {
    slots: Vec<Slot<T>>,
    first_free: u32,
    used: usize,
    /// With so few items, memory is given back. An item near the end may prevent that, so each attempt halves this
    /// number: all attempts on the way to an empty pool cost no more than a few looks at each slot.
    shrink_at: usize,
    /// Items removed since the last attempt. When they are many, the items that were in the way may be gone.
    removed: usize,
}

impl<T> Pool<T> {
    pub(super) const fn new() -> Self {
        Self { slots: Vec::new(), first_free: NONE, used: 0, shrink_at: 0, removed: 0 }
    }

    pub(super) fn insert(&mut self, item: T) -> u32 {
        self.used += 1;
        if let Some(slot) = self.slots.get_mut(self.first_free as usize) {
            let index = self.first_free;
            let Slot::Free(next) = std::mem::replace(slot, Slot::Used(item)) else {
                unreachable!("the free list names only free slots");
            };
            self.first_free = next;
            return index;
        }
        let index = u32::try_from(self.slots.len()).expect("memory ends before the indices do");
        reserve_tightly(&mut self.slots, 1);
        self.slots.push(Slot::Used(item));
        self.shrink_at = self.shrink_at.max(self.slots.len() / 4).max(1);
        index
    }

    pub(super) fn remove(&mut self, index: u32) -> T {
        let slot = std::mem::replace(&mut self.slots[index as usize], Slot::Free(self.first_free));
        let Slot::Used(item) = slot else {
            unreachable!("only an item in use is removed");
        };
        self.first_free = index;
        self.used -= 1;
        self.removed += 1;
        let is_sparse = self.used <= self.slots.len() / 4;
        if self.used <= self.shrink_at || (is_sparse && self.removed >= self.slots.len()) {
            self.shrink();
        }
        item
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

    /// Bytes of the slots, free ones included.
    pub(super) const fn memory(&self) -> usize {
        self.slots.capacity() * size_of::<Slot<T>>()
    }

    pub(super) fn check_invariants(&self) {
        let used = self.slots.iter().filter(|slot| matches!(slot, Slot::Used(_))).count();
        assert_eq!(used, self.used, "items are counted");
        let mut free = 0;
        let mut at = self.first_free;
        while let Some(Slot::Free(next)) = self.slots.get(at as usize) {
            free += 1;
            at = *next;
            assert!(free <= self.slots.len(), "the free list has no circle");
        }
        assert_eq!(at, NONE, "the free list names only free slots");
        assert_eq!(free + used, self.slots.len(), "every free slot is in the free list");
    }

    /// Gives back the free slots at the end and lets the lowest of the others be used first.
    fn shrink(&mut self) {
        while let Some(Slot::Free(_)) = self.slots.last() {
            self.slots.pop();
        }
        self.first_free = NONE;
        let mut index = u32::try_from(self.slots.len()).expect("memory ends before the indices do");
        for slot in self.slots.iter_mut().rev() {
            index -= 1;
            if let Slot::Free(next) = slot {
                *next = std::mem::replace(&mut self.first_free, index);
            }
        }
        self.slots.shrink_to_fit();
        self.shrink_at = self.used / 2;
        self.removed = 0;
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

/// Makes room for one more element: `step` places, or an eighth of the length when that is more. Doubling, as a
/// vector does on its own, would leave up to half of the memory unused.
pub(super) fn reserve_tightly<T>(vector: &mut Vec<T>, step: usize) {
    if vector.len() == vector.capacity() {
        vector.reserve_exact((vector.len() / 8).max(step));
    }
}

/// Gives memory back when less than half of it is in use.
pub(super) fn shrink_loosely<T>(vector: &mut Vec<T>, step: usize) {
    if vector.is_empty() {
        *vector = Vec::new();
    } else if vector.len() * 2 + step <= vector.capacity() {
        vector.shrink_to(vector.len() + 1);
    }
}
