//! How much memory the broker holds, counted where it is allocated and given back where it is freed.
//!
//! A broker stays in one thread, so what is counted stands with the thread, on the broker's [`Account`] while it is
//! called. What holds memory either is a [`Bytes`] or carries a [`Counted`], and both give their share back when they
//! are dropped, so that no path can forget to.

mod account;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::ops::Deref;

pub use account::{Account, Entered};

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static STORED: Cell<Stored> = const { Cell::new(Stored { count: 0, bytes: 0 }) };
}

/// How much is kept in messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// Messages, however many hold them.
    pub count: u64,
    /// Bytes of their Application Messages.
    pub bytes: u64,
}

/// What all messages amount to that are counted on the account that is entered.
pub fn stored() -> Stored {
    STORED.get()
}

/// Counts a message with an Application Message of so many bytes.
#[inline]
pub fn count_stored(bytes: usize) {
    let stored = STORED.get();
    STORED.set(Stored { count: stored.count + 1, bytes: stored.bytes + bytes as u64 });
}

/// Takes one off that was counted by [`count_stored`].
#[inline]
pub fn discount_stored(bytes: usize) {
    let stored = STORED.get();
    STORED.set(Stored { count: stored.count - 1, bytes: stored.bytes - bytes as u64 });
}

/// Bytes that all structures hold which are counted on the account that is entered.
#[inline]
pub fn held() -> usize {
    HELD.get()
}

/// What an allocation of `bytes` really takes: a header and rounding come on top, as in the allocator of glibc.
#[inline]
pub const fn allocation(bytes: usize) -> usize {
    match bytes {
        0 => 0,
        1..=24 => 32,
        _ => (bytes + 8).next_multiple_of(16),
    }
}

/// Counts what was just allocated by a structure that gives it back by [`release`].
#[inline]
pub fn claim(bytes: usize) {
    HELD.set(HELD.get() + bytes);
}

/// Gives back what was counted by [`claim`].
#[inline]
pub fn release(bytes: usize) {
    HELD.set(HELD.get() - bytes);
}

/// The share of a structure, given back when that is dropped.
#[derive(Debug, Default)]
pub struct Counted(usize);

impl Counted {
    /// A share of so many bytes.
    pub fn new(bytes: usize) -> Self {
        claim(bytes);
        Self(bytes)
    }

    /// The structure holds so many bytes now.
    #[inline]
    pub fn set(&mut self, bytes: usize) {
        if bytes != self.0 {
            HELD.set(HELD.get() + bytes - self.0);
            self.0 = bytes;
        }
    }

    /// The bytes of the share.
    pub const fn bytes(&self) -> usize {
        self.0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        release(self.0);
    }
}

/// Room for so many is never given back.
const ROOM_KEPT: usize = 128;

/// Says when a structure that has lost most of what it held is to give room back, as far as its last occupied place
/// allows: at a quarter, so that it does not grow again at once, and then whenever half of what was left has gone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shrinking {
    removed: usize,
}

impl Shrinking {
    /// One more was removed, and so many are left in a room for `capacity`: whether to shrink now.
    #[inline]
    pub const fn is_due(&mut self, left: usize, capacity: usize) -> bool {
        self.removed += 1;
        if capacity <= ROOM_KEPT || self.removed <= left || left > capacity / 4 {
            return false;
        }
        self.removed = 0;
        true
    }
}

/// The truth that the count is checked against: all that is found by walking the structures, what is shared found
/// once.
#[derive(Debug, Default)]
pub struct Audit {
    shared: BTreeSet<usize>,
    bytes: usize,
}

impl Audit {
    /// Something with one owner.
    pub fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// Something with several owners, known by its address.
    pub fn add_shared(&mut self, address: usize, bytes: usize) {
        if self.shared.insert(address) {
            self.bytes += bytes;
        }
    }

    /// Everything that was found.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }
}

/// A buffer whose capacity is counted.
#[derive(Debug, Default)]
pub struct Bytes {
    bytes: Vec<u8>,
    counted: Counted,
}

impl Bytes {
    /// Changes the buffer.
    #[inline]
    pub fn edit<R>(&mut self, change: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        let before = self.bytes.capacity();
        let result = change(&mut self.bytes);
        if self.bytes.capacity() != before {
            self.counted.set(allocation(self.bytes.capacity()));
        }
        result
    }

    /// What is counted for it.
    pub const fn memory(&self) -> usize {
        self.counted.bytes()
    }

    /// Bytes that the buffer has room for.
    pub const fn capacity(&self) -> usize {
        self.bytes.capacity()
    }
}

impl Deref for Bytes {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_is_given_back() {
        let before = held();
        let mut counted = Counted::new(100);
        let mut bytes = Bytes::default();
        bytes.edit(|bytes| bytes.extend_from_slice(&[0; 50]));
        assert_eq!(held() - before, 100 + allocation(bytes.capacity()));
        counted.set(40);
        assert_eq!(held() - before, 40 + allocation(bytes.capacity()));
        drop((counted, bytes));
        assert_eq!(held(), before);
    }

    #[test]
    fn shrinking_is_paid_for_by_removals() {
        let mut shrinking = Shrinking::default();
        let due: Vec<usize> = (200..1000).rev().filter(|&left| shrinking.is_due(left, 1000)).collect();
        assert_eq!(due, [250], "as soon as what is left is a quarter");
        let due: Vec<usize> = (0..200).rev().filter(|&left| shrinking.is_due(left, 1000)).collect();
        assert_eq!(due, [124, 61, 30, 14, 6, 2, 0], "and whenever half of that has gone");
        assert!((0..1000).all(|_| !shrinking.is_due(0, ROOM_KEPT)), "a little is no matter");
    }

    #[test]
    fn an_allocation_takes_more_than_it_was_asked_for() {
        assert_eq!([0, 1, 24, 25, 40, 41, 1000].map(allocation), [0, 32, 32, 48, 48, 64, 1008]);
    }
}
