//! Accounts: several brokers of one thread count apart.
//!
//! A thread counts on one account at a time, which costs no more than if there were no other. A broker enters its own
//! at the beginning of each call and leaves it at the end. Outside of all brokers, the thread counts on an account of
//! its own.

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;

use super::{HELD, STORED, Stored};

/// The account of the thread itself.
const OF_THREAD: usize = 0;

thread_local! {
    /// The one that is counted on: what is on it stands in [`HELD`] and [`STORED`].
    static CURRENT: Cell<usize> = const { Cell::new(OF_THREAD) };
    /// What is on all others, by their numbers; none stands for a number that is free.
    static OTHERS: RefCell<Vec<Option<Count>>> = const { RefCell::new(Vec::new()) };
}

/// What is counted on one account.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    held: usize,
    stored: Stored,
}

impl Count {
    fn current() -> Self {
        Self { held: HELD.get(), stored: STORED.get() }
    }

    fn make_current(self) {
        HELD.set(self.held);
        STORED.set(self.stored);
    }

    const fn and(self, other: Self) -> Self {
        let (one, two) = (self.stored, other.stored);
        let stored = Stored { count: one.count + two.count, bytes: one.bytes + two.bytes };
        Self { held: self.held + other.held, stored }
    }
}

/// What is counted for one owner in this thread. What was claimed while the account was entered is to be given back
/// while it is entered. What the owner leaves behind at its end is counted for the thread from then on.
#[derive(Debug)]
pub struct Account {
    number: usize,
    /// The one to go back to at the end.
    before: usize,
    _of_one_thread: PhantomData<*const ()>,
}

impl Account {
    const fn of_number(number: usize) -> Self {
        Self { number, before: OF_THREAD, _of_one_thread: PhantomData }
    }

    /// A new one with nothing on it.
    #[expect(clippy::new_without_default, reason = "each is another one")]
    pub fn new() -> Self {
        OTHERS.with_borrow_mut(|others| {
            if others.is_empty() {
                others.push(Some(Count::default()));
            }
            let free = others.iter().position(Option::is_none);
            let number = free.unwrap_or(others.len());
            others.resize(others.len().max(number + 1), None);
            others[number] = Some(Count::default());
            Self::of_number(number)
        })
    }

    /// What the thread counts on outside of all others.
    pub const fn of_thread() -> Self {
        Self::of_number(OF_THREAD)
    }

    /// Counts on this account until the guard is dropped.
    #[inline]
    pub fn enter(&self) -> Entered {
        let before = CURRENT.get();
        if before != self.number {
            change_to(self.number);
        }
        Entered { before, _of_one_thread: PhantomData }
    }

    /// Counts on this account until it is dropped itself: its owner is about to be, part by part.
    pub fn enter_at_last(&mut self) {
        self.before = CURRENT.get();
        change_to(self.number);
    }

    /// Whether the thread counts on it at this moment.
    #[inline]
    pub fn is_entered(&self) -> bool {
        CURRENT.get() == self.number
    }

    /// Bytes that all structures hold which are counted on it.
    pub fn held(&self) -> usize {
        let _entered = self.enter();
        HELD.get()
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let back = if self.is_entered() { self.before } else { CURRENT.get() };
        if self.number != OF_THREAD {
            change_to(OF_THREAD);
            let rest = OTHERS.with_borrow_mut(|others| others[self.number].take());
            Count::current().and(rest.unwrap_or_default()).make_current();
        }
        change_to(back);
    }
}

/// Its account is counted on for as long as it is there.
#[derive(Debug)]
#[must_use = "the account is left when it is dropped"]
pub struct Entered {
    before: usize,
    _of_one_thread: PhantomData<*const ()>,
}

impl Drop for Entered {
    #[inline]
    fn drop(&mut self) {
        if CURRENT.get() != self.before {
            change_to(self.before);
        }
    }
}

/// Counts on another account.
#[cold]
#[inline(never)]
fn change_to(number: usize) {
    let before = CURRENT.replace(number);
    if before != number {
        OTHERS.with_borrow_mut(|others| {
            others[before] = Some(Count::current());
            others[number].unwrap_or_default().make_current();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::memory::{Counted, held};

    #[test]
    fn each_account_holds_what_was_counted_on_it() {
        let (mut one, two) = (Account::new(), Account::new());
        let outside = Counted::new(1);
        let entered = one.enter();
        let in_one = Counted::new(10);
        {
            let _entered = two.enter();
            let in_two = Counted::new(100);
            // A call of the other's owner within one of this owner's, and one of this owner's in that.
            let again = one.enter();
            let more = Counted::new(1_000);
            assert_eq!((one.held(), two.held(), held()), (1_010, 100, 1_010));
            drop((more, again));
            assert_eq!((one.held(), two.held(), held()), (10, 100, 100));
            drop(in_two);
        }
        assert_eq!((one.held(), two.held(), held()), (10, 0, 10));
        drop(entered);
        assert_eq!((one.held(), two.held(), held()), (10, 0, 1));
        one.enter_at_last();
        drop(in_one);
        assert_eq!(held(), 0);
        drop(one);
        assert_eq!(held(), 1);
        drop(outside);
        assert_eq!((two.held(), held()), (0, 0));
    }

    #[test]
    fn what_outlives_an_account_is_counted_for_the_thread_and_its_number_is_free() {
        let (mut one, two) = (Account::new(), Account::new());
        let number = one.number;
        let (_entered, counted) = (two.enter(), {
            let _entered = one.enter();
            Counted::new(10)
        });
        one.enter_at_last();
        drop(one);
        assert!(two.is_entered() && held() == 0, "the one before is entered again");
        let of_thread = Account::of_thread();
        assert_eq!((two.held(), of_thread.held()), (0, 10));
        let next = Account::new();
        assert_eq!((next.number, next.held()), (number, 0));
        let _entered = of_thread.enter();
        drop(counted);
        assert_eq!(held(), 0);
    }
}
