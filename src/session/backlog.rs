//! The tail of a long queue: messages that wait in the store, of which only the numbers are here.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};

use crate::journal::MessageNumber;
use crate::memory::{self, Counted};
use crate::time::Time;

/// Messages read from the store at a time, and about how many bytes: one, if it is larger.
const PAGE_LENGTH: usize = 64;
const PAGE_BYTES: usize = 256 * 1024;
/// What one more number in a set takes, in nodes two thirds full.
const ENTRY_BYTES: usize = 24;
/// So many that are of no use any more are kept in any case.
const USELESS_KEPT: usize = 64;

/// One that expires some time. In the order in which they do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Expiring {
    expires: Time,
    number: MessageNumber,
    bytes: usize,
}

/// What is to be read next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextPage {
    /// The messages, in their order; at least one.
    pub messages: Vec<MessageNumber>,
    /// About how many bytes they take.
    pub bytes: usize,
}

/// Messages of one session that wait in the store, behind those in its queue.
#[derive(Debug, Default)]
pub struct Backlog {
    /// Each is greater than the one before. The first one waits; those that have expired stay here until they come to
    /// the front, or are half of all.
    numbers: VecDeque<MessageNumber>,
    /// Those of them that have expired and were taken out.
    taken: BTreeSet<MessageNumber>,
    /// Those that expire: most do not, and pay nothing for it. With some that have been read meanwhile.
    expiring: BinaryHeap<Reverse<Expiring>>,
    /// About what they would take here.
    bytes: usize,
    /// So many of the first ones are being read.
    underway: usize,
    counted: Counted,
}

impl Backlog {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.numbers.len() - self.taken.len()
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
        self.note(number, bytes, expires);
    }

    /// Adds the first one.
    pub fn push_front(&mut self, number: MessageNumber, bytes: usize, expires: Time) {
        self.numbers.push_front(number);
        self.note(number, bytes, expires);
    }

    fn note(&mut self, number: MessageNumber, bytes: usize, expires: Time) {
        self.bytes += bytes;
        if expires < Time::NEVER {
            self.expiring.push(Reverse(Expiring { expires, number, bytes }));
            self.forget_useless();
        }
        self.count();
    }

    /// Takes out those that have expired, and looks at no more than `most` for that; tells whether there may be more.
    /// None while some are being read, which may be among them.
    pub fn take_expired(&mut self, now: Time, most: usize) -> (VecDeque<MessageNumber>, bool) {
        let mut expired = VecDeque::new();
        if self.underway > 0 {
            return (expired, false);
        }
        for _ in 0..most {
            let Some(&Reverse(first)) = self.expiring.peek() else { break };
            if first.expires > now {
                break;
            }
            self.expiring.pop();
            if self.take_out(first.number) {
                self.bytes = self.bytes.saturating_sub(first.bytes);
                expired.push_back(first.number);
            }
        }
        self.forget_useless();
        self.count();
        let has_more = self.expiring.peek().is_some_and(|first| first.0.expires <= now);
        (expired, has_more)
    }

    /// Takes out one, if it still waits.
    fn take_out(&mut self, number: MessageNumber) -> bool {
        match self.numbers.binary_search(&number) {
            Ok(0) => {
                self.numbers.pop_front();
                self.pass_taken();
                true
            }
            Ok(_) => self.taken.insert(number),
            Err(_) => false,
        }
    }

    /// Lets those go that are at the front and were taken out.
    fn pass_taken(&mut self) {
        while let (Some(taken), Some(first)) = (self.taken.first(), self.numbers.front())
            && taken == first
        {
            self.taken.pop_first();
            self.numbers.pop_front();
        }
    }

    /// The first message.
    pub fn first(&self) -> Option<MessageNumber> {
        self.numbers.front().copied()
    }

    /// What is to be read next: not more than `most` messages, all of them before `end`. None if the first one is not,
    /// or some are being read.
    pub fn next_page(&mut self, most: usize, end: MessageNumber) -> Option<NextPage> {
        if self.underway > 0 {
            return None;
        }
        let average = (self.bytes / self.len().max(1)).max(1);
        let most = most.min(PAGE_LENGTH).min((PAGE_BYTES / average).max(1));
        let mut messages = Vec::new();
        while messages.len() < most
            && let Some(&number) = self.numbers.front().filter(|number| **number < end)
        {
            messages.push(number);
            self.numbers.pop_front();
            self.pass_taken();
        }
        // Without those in between that were taken out.
        messages.iter().rev().for_each(|&number| self.numbers.push_front(number));
        let bytes = average * messages.len();
        (!messages.is_empty()).then_some(NextPage { messages, bytes })
    }

    /// This page is being read from now on.
    pub const fn begin(&mut self, page: &NextPage) {
        self.underway = page.messages.len();
    }

    /// The first ones have been read, so many bytes of them. False if no one waits for that any more, because the
    /// client was away meanwhile.
    pub fn have_come(
        &mut self,
        messages: impl ExactSizeIterator<Item = MessageNumber>,
        bytes: usize,
    ) -> bool {
        let count = messages.len();
        if count > self.underway || !self.numbers.iter().copied().take(count).eq(messages) {
            return false;
        }
        self.numbers.drain(..count);
        self.pass_taken();
        self.underway -= count;
        self.bytes = if self.is_empty() { 0 } else { self.bytes.saturating_sub(bytes) };
        self.numbers.shrink_to(2 * self.numbers.len());
        self.forget_useless();
        self.count();
        true
    }

    /// What is being read comes too late.
    pub const fn give_up_page(&mut self) {
        self.underway = 0;
    }

    /// Gives the room back that is taken by what was taken out and by what has been read, once it is more than the
    /// rest: what that costs is paid for by those that it concerns.
    fn forget_useless(&mut self) {
        if self.taken.len() > self.len() + USELESS_KEPT {
            let taken = std::mem::take(&mut self.taken);
            let mut taken = taken.into_iter().peekable();
            self.numbers.retain(|number| taken.next_if_eq(number).is_none());
            self.numbers.shrink_to(2 * self.numbers.len());
        }
        if self.expiring.len() > 2 * self.len() + USELESS_KEPT {
            let waits = |number: &MessageNumber| {
                self.numbers.binary_search(number).is_ok() && !self.taken.contains(number)
            };
            let mut expiring = std::mem::take(&mut self.expiring).into_vec();
            expiring.retain(|one| waits(&one.0.number));
            expiring.sort_unstable_by_key(|one| one.0.number);
            expiring.dedup_by_key(|one| one.0.number);
            expiring.shrink_to_fit();
            self.expiring = expiring.into();
        }
    }

    /// All numbers.
    pub fn into_numbers(mut self) -> VecDeque<MessageNumber> {
        let taken = self.taken;
        self.numbers.retain(|number| !taken.contains(number));
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
                + memory::allocation(self.expiring.capacity() * size_of::<Expiring>())
                + self.taken.len() * ENTRY_BYTES,
        );
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use proptest::prelude::*;

    use super::*;

    fn number(value: u64) -> MessageNumber {
        MessageNumber(NonZeroU64::new(value).unwrap())
    }

    fn seconds(value: u64) -> Time {
        Time::from_milliseconds(1000 * value)
    }

    const BYTES: usize = 100;

    #[derive(Clone, Debug)]
    enum Act {
        /// Another message comes, which expires then, or never.
        Push(Option<u64>),
        /// So many messages come for nothing but to expire.
        PushMany(u64, u64),
        Pass(u64),
        TakeExpired(usize),
        /// A page is asked for, and so many of its messages come before the client is away again.
        Read(usize, usize),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            prop::option::of(1..40_u64).prop_map(Act::Push),
            (1..200_u64, 1..40_u64).prop_map(|(count, expires)| Act::PushMany(count, expires)),
            (0..8_u64).prop_map(Act::Pass),
            (1..100_usize).prop_map(Act::TakeExpired),
            (1..80_usize, 0..80_usize).prop_map(|(most, come)| Act::Read(most, come)),
        ]
    }

    proptest! {
        #[test]
        fn it_is_a_list_that_expired_ones_are_taken_out_of(acts in prop::collection::vec(act(), 1..60)) {
            let mut backlog = Backlog::default();
            let mut model: VecDeque<(MessageNumber, Time)> = VecDeque::new();
            let (mut now, mut next) = (0, 1);
            for act in acts {
                match act {
                    Act::Push(expires) => {
                        let expires = expires.map_or(Time::NEVER, |span| seconds(now + span));
                        backlog.push(number(next), BYTES, expires);
                        model.push_back((number(next), expires));
                        next += 1;
                    }
                    Act::PushMany(count, span) => for _ in 0..count {
                        backlog.push(number(next), BYTES, seconds(now + span));
                        model.push_back((number(next), seconds(now + span)));
                        next += 1;
                    }
                    Act::Pass(span) => now += span,
                    Act::TakeExpired(most) => {
                        let (expired, has_more) = backlog.take_expired(seconds(now), most);
                        prop_assert!(expired.len() <= most);
                        for one in expired {
                            let place = model.iter().position(|(known, _)| *known == one);
                            let (_, expires) = model.remove(place.expect("it was there")).unwrap();
                            prop_assert!(expires <= seconds(now));
                        }
                        if !has_more {
                            prop_assert!(model.iter().all(|(_, expires)| *expires > seconds(now)));
                        }
                    }
                    Act::Read(most, come) => {
                        let page = backlog.next_page(most, MessageNumber::LAST);
                        prop_assert_eq!(page.is_none(), model.is_empty());
                        let Some(page) = page else { continue };
                        let first = model.iter().map(|(known, _)| *known);
                        prop_assert!(first.take(page.messages.len()).eq(page.messages.iter().copied()));
                        prop_assert!(page.messages.len() == model.len().min(most).min(PAGE_LENGTH));
                        prop_assert_eq!(page.bytes, page.messages.len() * BYTES);
                        backlog.begin(&page);
                        prop_assert!(backlog.next_page(most, MessageNumber::LAST).is_none(), "one at a time");
                        prop_assert!(backlog.take_expired(Time::NEVER, 9).0.is_empty(), "they are being read");
                        let come = come.min(page.messages.len());
                        let messages = page.messages[..come].iter().copied();
                        prop_assert!(backlog.have_come(messages, come * BYTES));
                        // What came and was not sent comes back, when the client is away again.
                        for (known, expires) in model.iter().take(come).rev().step_by(2) {
                            backlog.push_front(*known, BYTES, *expires);
                        }
                        backlog.give_up_page();
                        let front: Vec<_> = model.drain(..come).rev().step_by(2).collect();
                        front.into_iter().for_each(|one| model.push_front(one));
                        prop_assert!(!backlog.have_come([number(next)].into_iter(), 0), "none is awaited");
                    }
                }
                prop_assert_eq!(backlog.len(), model.len());
                prop_assert_eq!(backlog.is_empty(), model.is_empty());
                prop_assert_eq!(backlog.bytes(), BYTES * model.len());
                prop_assert_eq!(backlog.first(), model.front().map(|(known, _)| *known));
                prop_assert!(backlog.taken.len() <= backlog.len() + USELESS_KEPT);
                prop_assert!(backlog.expiring.len() <= 2 * backlog.len() + USELESS_KEPT);
            }
            let numbers: VecDeque<_> = model.into_iter().map(|(known, _)| known).collect();
            prop_assert_eq!(backlog.into_numbers(), numbers);
        }
    }

    #[test]
    fn pages_are_of_as_many_bytes_as_are_good_at_a_time() {
        let mut backlog = Backlog::default();
        (1..100).for_each(|count| backlog.push(number(count), 60_000, Time::NEVER));
        let page = backlog.next_page(usize::MAX, MessageNumber::LAST).expect("some wait");
        assert_eq!((page.messages.len(), page.bytes), (4, 240_000));
        assert_eq!(backlog.next_page(1, MessageNumber::LAST).map(|page| page.messages.len()), Some(1));
        assert_eq!(backlog.next_page(9, number(3)).map(|page| page.messages.len()), Some(2));
        assert_eq!(backlog.next_page(9, number(1)), None, "the first one is not in the store yet");
        let mut backlog = Backlog::default();
        backlog.push(number(1), 10_000_000, Time::NEVER);
        assert!(backlog.next_page(9, MessageNumber::LAST).is_some(), "one comes, however large it is");
    }
}
