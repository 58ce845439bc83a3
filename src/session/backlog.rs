//! The tail of a long queue: messages that wait in the store, of which only the numbers are here.

use std::collections::VecDeque;

use crate::journal::MessageNumber;
use crate::memory::{self, Counted};

/// Messages read from the store at a time, if they are not large.
const PAGE_LENGTH: usize = 64;

/// Messages of one session that wait in the store, behind those in its queue.
#[derive(Debug, Default)]
pub struct Backlog {
    numbers: VecDeque<MessageNumber>,
    /// About what they would take here.
    bytes: usize,
    /// The first ones are being read.
    pub is_fetching: bool,
    counted: Counted,
}

impl Backlog {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// About what they would take here.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds the last one, of so many bytes.
    pub fn push(&mut self, number: MessageNumber, bytes: usize) {
        self.numbers.push_back(number);
        self.bytes += bytes;
        self.count();
    }

    /// Adds the first one.
    pub fn push_front(&mut self, number: MessageNumber, bytes: usize) {
        self.numbers.push_front(number);
        self.bytes += bytes;
        self.count();
    }

    /// The numbers to read next. None, if some are being read.
    pub fn next_page(&mut self) -> Option<Vec<MessageNumber>> {
        if self.is_fetching || self.is_empty() {
            return None;
        }
        self.is_fetching = true;
        Some(self.numbers.iter().take(PAGE_LENGTH).copied().collect())
    }

    /// The first ones have been read, so many bytes of them. False if these are not the first ones any more, because
    /// the client was away meanwhile and has asked anew.
    pub fn take_page(&mut self, page: &[MessageNumber], bytes: usize) -> bool {
        if !self.numbers.iter().take(page.len()).eq(page) {
            return false;
        }
        self.numbers.drain(..page.len());
        self.numbers.shrink_to(2 * self.numbers.len());
        self.bytes = if self.is_empty() { 0 } else { self.bytes.saturating_sub(bytes) };
        self.is_fetching = false;
        self.count();
        true
    }

    /// All numbers.
    pub fn into_numbers(self) -> VecDeque<MessageNumber> {
        self.numbers
    }

    /// Bytes that it takes.
    pub const fn memory(&self) -> usize {
        self.counted.bytes()
    }

    fn count(&mut self) {
        self.counted.set(
            memory::allocation(size_of::<Self>())
                + memory::allocation(self.numbers.capacity() * size_of::<MessageNumber>()),
        );
    }
}
