//! The tail of a long queue: messages that wait in the store, of which only the numbers are here.

use std::collections::VecDeque;

use crate::journal::MessageNumber;
use crate::memory::{self, Counted};
use crate::time::Time;

/// Messages read from the store at a time, if they are not large.
const PAGE_LENGTH: usize = 64;

/// One that expires some time.
#[derive(Clone, Copy, Debug)]
struct Expiring {
    number: MessageNumber,
    expires: Time,
    bytes: usize,
}

/// Messages of one session that wait in the store, behind those in its queue.
#[derive(Debug, Default)]
pub struct Backlog {
    /// Each is greater than the one before.
    numbers: VecDeque<MessageNumber>,
    /// Those of them that expire: most do not, and pay nothing for it.
    expiring: VecDeque<Expiring>,
    /// None of them expires before this.
    first_expires: Time,
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
    pub fn push(&mut self, number: MessageNumber, bytes: usize, expires: Time) {
        self.numbers.push_back(number);
        self.bytes += bytes;
        if expires < Time::NEVER {
            self.note_expiry(expires);
            self.expiring.push_back(Expiring { number, expires, bytes });
        }
        self.count();
    }

    /// Adds the first one.
    pub fn push_front(&mut self, number: MessageNumber, bytes: usize, expires: Time) {
        self.numbers.push_front(number);
        self.bytes += bytes;
        if expires < Time::NEVER {
            self.note_expiry(expires);
            self.expiring.push_front(Expiring { number, expires, bytes });
        }
        self.count();
    }

    fn note_expiry(&mut self, expires: Time) {
        self.first_expires = if self.expiring.is_empty() { expires } else { self.first_expires.min(expires) };
    }

    /// Takes out those that have expired. None while some are being read, which may be among them.
    pub fn take_expired(&mut self, now: Time) -> Vec<MessageNumber> {
        if self.is_fetching || self.expiring.is_empty() || self.first_expires > now {
            return Vec::new();
        }
        let (mut expired, mut first, mut bytes) = (Vec::new(), Time::NEVER, 0);
        self.expiring.retain(|one| {
            let is_alive = one.expires > now;
            if is_alive {
                first = first.min(one.expires);
            } else {
                expired.push(one.number);
                bytes += one.bytes;
            }
            is_alive
        });
        self.first_expires = first;
        self.numbers.retain(|number| expired.binary_search(number).is_err());
        self.bytes = self.bytes.saturating_sub(bytes);
        self.count();
        expired
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
        let has_left = |one: &&Expiring| page.last().is_some_and(|&last| one.number <= last);
        let left = self.expiring.iter().take_while(has_left).count();
        self.expiring.drain(..left);
        self.expiring.shrink_to(2 * self.expiring.len());
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
                + memory::allocation(self.numbers.capacity() * size_of::<MessageNumber>())
                + memory::allocation(self.expiring.capacity() * size_of::<Expiring>()),
        );
    }
}
