//! The end of a long queue: messages that wait in the store, of which only the numbers are in memory.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::rc::Rc;

use super::retained_copies::{LostCopy, RetainedCopies};
use crate::base::memory::{self, Counted};
use crate::base::time::Time;
use crate::core::journal::MessageNumber;
use crate::core::subscription::GroupId;

/// The most messages that are read from the store at a time, and about how many bytes: one message if it is larger.
const PAGE_LENGTH: usize = 64;
const PAGE_BYTES: usize = 256 * 1024;
/// The memory of one more number in a set or map, in nodes two thirds full.
const ENTRY_BYTES: usize = 24;
/// This many stale entries are kept in any case.
const USELESS_KEPT: usize = 64;

/// A message that expires, ordered by when it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Expiring {
    expires: Time,
    number: MessageNumber,
    bytes: usize,
}

/// The page to read next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextPage {
    /// The messages, in order; at least one.
    pub messages: Vec<MessageNumber>,
    /// About how many bytes they take.
    pub bytes: usize,
}

/// The messages of one session that wait in the store, after those in its queue.
#[derive(Debug, Default)]
pub struct Backlog {
    /// In rising order. The first one is waiting; expired ones stay here until they come to the front, or are half of
    /// all.
    numbers: VecDeque<MessageNumber>,
    /// Those among the numbers that have expired and were removed.
    taken: BTreeSet<MessageNumber>,
    /// The messages that came by a Shared Subscription.
    groups: BTreeMap<MessageNumber, GroupId>,
    /// The topics of copies with RETAIN, of a bridge.
    retained: RetainedCopies,
    /// The messages that expire: most do not, and cost nothing. Some of them may have been read since.
    expiring: BinaryHeap<Reverse<Expiring>>,
    /// About how many bytes the messages would take in memory.
    bytes: usize,
    /// How many of the first ones are being read.
    underway: usize,
    counted: Counted,
}

/// A backlog that exists.
#[cfg(any(feature = "persistence", feature = "cluster", feature = "fuzzing"))]
pub type OpenBacklog = Box<Backlog>;

/// A backlog that exists: none in a binary that can have no journal.
#[cfg(not(any(feature = "persistence", feature = "cluster", feature = "fuzzing")))]
pub type OpenBacklog = crate::base::absent::Absent<Backlog>;

impl Backlog {
    /// Opens an empty backlog.
    #[cfg(any(feature = "persistence", feature = "cluster", feature = "fuzzing"))]
    pub fn open() -> OpenBacklog {
        Box::default()
    }

    /// Never called: nothing is stored.
    #[cfg(not(any(feature = "persistence", feature = "cluster", feature = "fuzzing")))]
    pub const fn open() -> OpenBacklog {
        unreachable!()
    }

    /// The number of messages.
    pub fn len(&self) -> usize {
        self.numbers.len() - self.taken.len()
    }

    /// Whether there are no messages.
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// About how many bytes the messages would take in memory.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a message of this many bytes at the place of its number: a new one is the last, one that comes back from
    /// another member is usually among the first. A page that is being read is given up if the message comes before its
    /// end.
    pub fn insert(&mut self, number: MessageNumber, bytes: usize, expires: Time, group: Option<GroupId>) {
        let place = match self.numbers.back() {
            Some(&last) if last > number => self.numbers.partition_point(|&other| other < number),
            _ => self.numbers.len(),
        };
        if place < self.underway {
            self.give_up_page();
        }
        self.numbers.insert(place, number);
        self.bytes += bytes;
        if let Some(group) = group {
            self.groups.insert(number, group);
        }
        if expires < Time::NEVER {
            self.expiring.push(Reverse(Expiring { expires, number, bytes }));
            self.forget_useless();
        }
        self.count();
    }

    /// Notes that a message that was added has RETAIN and this topic.
    pub fn note_retained(&mut self, number: MessageNumber, topic: &str) {
        self.retained.insert(number, topic);
        self.count();
    }

    /// The topics of copies with RETAIN, as far as they were noted, each once.
    pub fn retained_topics(&self) -> impl Iterator<Item = &Rc<str>> {
        self.retained.topics()
    }

    /// Removes the topic of a copy that was not found in the store. Returns it if no later copy has it.
    pub fn forget_retained(&mut self, number: MessageNumber) -> Option<Rc<str>> {
        self.retained.remove(number)
    }

    /// Removes expired messages, and examines at most `most`. Returns them, and whether there may be more. Adds what is
    /// owed for them to `lost`. Removes none while messages are being read, which may be among them.
    pub fn take_expired(
        &mut self,
        now: Time,
        most: usize,
        lost: &mut Vec<LostCopy>,
    ) -> (VecDeque<MessageNumber>, bool) {
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
                self.groups.remove(&first.number);
                lost.extend(self.retained.remove(first.number).map(LostCopy::Stored));
                self.bytes = self.bytes.saturating_sub(first.bytes);
                expired.push_back(first.number);
            }
        }
        self.forget_useless();
        self.count();
        let has_more = self.expiring.peek().is_some_and(|first| first.0.expires <= now);
        (expired, has_more)
    }

    /// Removes one message, if it still waits. Returns whether it did.
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

    /// Drops removed messages from the front.
    fn pass_taken(&mut self) {
        while let (Some(taken), Some(first)) = (self.taken.first(), self.numbers.front())
            && taken == first
        {
            self.taken.pop_first();
            self.numbers.pop_front();
        }
    }

    /// Removes the messages that came by these Shared Subscriptions, in order. Those in a page that is being read are
    /// skipped when it comes.
    pub fn take_shared(
        &mut self,
        mut wanted: impl FnMut(GroupId) -> bool,
    ) -> VecDeque<(MessageNumber, GroupId)> {
        self.give_up_page();
        let average = self.average();
        let (shared, others) =
            std::mem::take(&mut self.groups).into_iter().partition(|&(_, group)| wanted(group));
        self.groups = others;
        let shared: BTreeMap<MessageNumber, GroupId> = shared;
        if !shared.is_empty() {
            self.numbers.retain(|number| !shared.contains_key(number));
            self.pass_taken();
            self.bytes = if self.is_empty() { 0 } else { self.bytes.saturating_sub(average * shared.len()) };
            self.forget_useless();
            self.count();
        }
        shared.into_iter().collect()
    }

    /// Whether any message came by a Shared Subscription.
    pub fn has_shared(&self) -> bool {
        !self.groups.is_empty()
    }

    /// Returns the Shared Subscription by which a message came.
    pub fn group_of(&self, number: MessageNumber) -> Option<GroupId> {
        self.groups.get(&number).copied()
    }

    /// About how many bytes one of the messages would take in memory.
    pub fn average(&self) -> usize {
        (self.bytes / self.len().max(1)).max(1)
    }

    /// The first message.
    pub fn first(&self) -> Option<MessageNumber> {
        self.numbers.front().copied()
    }

    /// Removes the first message, unless it is being read. Adds what is owed for it to `lost`.
    pub fn drop_first(&mut self, lost: &mut Vec<LostCopy>) -> Option<MessageNumber> {
        if self.underway > 0 {
            return None;
        }
        let average = self.average();
        let number = self.numbers.pop_front()?;
        self.groups.remove(&number);
        lost.extend(self.retained.remove(number).map(LostCopy::Stored));
        self.pass_taken();
        self.bytes = if self.is_empty() { 0 } else { self.bytes.saturating_sub(average) };
        self.count();
        Some(number)
    }

    /// Returns the page to read next: at most `most` messages, all of them before `end`. Returns `None` if the first
    /// message is not, or if a page is being read.
    pub fn next_page(&mut self, most: usize, end: MessageNumber) -> Option<NextPage> {
        if self.underway > 0 {
            return None;
        }
        let average = self.average();
        let most = most.min(page_length(average));
        let mut messages = Vec::new();
        while messages.len() < most
            && let Some(&number) = self.numbers.front().filter(|number| **number < end)
        {
            messages.push(number);
            self.numbers.pop_front();
            self.pass_taken();
        }
        // Without the removed ones in between.
        messages.iter().rev().for_each(|&number| self.numbers.push_front(number));
        let bytes = average * messages.len();
        (!messages.is_empty()).then_some(NextPage { messages, bytes })
    }

    /// Notes that this page is being read from now on.
    pub const fn begin(&mut self, page: &NextPage) {
        self.underway = page.messages.len();
    }

    /// Removes the first messages, which have been read, with this many bytes. Returns false if the page was given up,
    /// because the client has disconnected in between.
    pub fn have_come(
        &mut self,
        messages: impl ExactSizeIterator<Item = MessageNumber>,
        bytes: usize,
    ) -> bool {
        let count = messages.len();
        if count > self.underway || !self.numbers.iter().copied().take(count).eq(messages) {
            return false;
        }
        for number in self.numbers.drain(..count) {
            self.groups.remove(&number);
            self.retained.remove(number);
        }
        self.pass_taken();
        self.underway -= count;
        self.bytes = if self.is_empty() { 0 } else { self.bytes.saturating_sub(bytes) };
        self.numbers.shrink_to(2 * self.numbers.len());
        self.forget_useless();
        self.count();
        true
    }

    /// Gives up the page that is being read.
    pub const fn give_up_page(&mut self) {
        self.underway = 0;
    }

    /// Releases the memory of stale entries when they are more than the rest: the cost is paid for by the messages that
    /// caused it.
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

    /// Removes and returns all numbers.
    pub fn take_numbers(&mut self) -> VecDeque<MessageNumber> {
        let (mut numbers, taken) = (std::mem::take(&mut self.numbers), std::mem::take(&mut self.taken));
        numbers.retain(|number| !taken.contains(number));
        numbers
    }

    /// The bytes that it takes.
    pub const fn memory(&self) -> usize {
        self.counted.bytes()
    }

    fn count(&mut self) {
        self.counted.set(
            memory::allocation(size_of::<Self>())
                + memory::allocation(self.numbers.capacity() * size_of::<MessageNumber>())
                + memory::allocation(self.expiring.capacity() * size_of::<Expiring>())
                + (self.taken.len() + self.groups.len()) * ENTRY_BYTES
                + self.retained.memory(),
        );
    }
}

/// How many messages of about this many bytes each are read from the store at a time.
pub fn page_length(bytes: usize) -> usize {
    PAGE_LENGTH.min((PAGE_BYTES / bytes.max(1)).max(1))
}

#[cfg(test)]
mod tests {
    use std::num::{NonZeroU32, NonZeroU64};

    use proptest::prelude::*;

    use super::*;

    fn number(value: u64) -> MessageNumber {
        MessageNumber(NonZeroU64::new(value).unwrap())
    }

    fn seconds(value: u64) -> Time {
        Time::from_milliseconds(1000 * value)
    }

    const BYTES: usize = 100;

    fn group_id(number: u32) -> GroupId {
        GroupId::new(NonZeroU32::new(number).unwrap())
    }

    /// A third of the messages is of one group, and another third of another.
    fn group_of(number: u64) -> Option<GroupId> {
        let number = u32::try_from(number % 3).unwrap();
        (number > 0).then(|| group_id(number))
    }

    #[derive(Clone, Debug)]
    enum Act {
        /// Another message comes, which expires after this time, or never.
        Push(Option<u64>),
        /// This many messages come, and all of them expire after this time.
        PushMany(u64, u64),
        Pass(u64),
        TakeExpired(usize),
        /// A page is requested, and so many of its messages come before the client disconnects again.
        Read(usize, usize),
        /// The messages of one Shared Subscription go to another member, perhaps while a page is read, and perhaps come
        /// back.
        TakeShared(u32, bool, bool),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            prop::option::of(1..40_u64).prop_map(Act::Push),
            (1..200_u64, 1..40_u64).prop_map(|(count, expires)| Act::PushMany(count, expires)),
            (0..8_u64).prop_map(Act::Pass),
            (1..100_usize).prop_map(Act::TakeExpired),
            (1..80_usize, 0..80_usize).prop_map(|(most, come)| Act::Read(most, come)),
            (1..3_u32, any::<bool>(), any::<bool>())
                .prop_map(|(group, reads, come_back)| Act::TakeShared(group, reads, come_back)),
        ]
    }

    /// A backlog next to a plain list of what must be in it.
    #[derive(Default)]
    struct Compared {
        backlog: Backlog,
        model: VecDeque<(MessageNumber, Time)>,
        now: u64,
        /// How many messages have come so far.
        come: u64,
    }

    type Outcome = Result<(), TestCaseError>;

    impl Compared {
        fn act(&mut self, act: &Act) -> Outcome {
            match *act {
                Act::Push(span) => self.push(span.map_or(Time::NEVER, |span| seconds(self.now + span))),
                Act::PushMany(count, span) => (0..count).for_each(|_| self.push(seconds(self.now + span))),
                Act::Pass(span) => self.now += span,
                Act::TakeExpired(most) => self.take_expired(most)?,
                Act::Read(most, come) => self.read(most, come)?,
                Act::TakeShared(group, reads, come_back) => self.take_shared(group, reads, come_back)?,
            }
            self.check()
        }

        fn push(&mut self, expires: Time) {
            self.come += 1;
            self.backlog.insert(number(self.come), BYTES, expires, group_of(self.come));
            self.model.push_back((number(self.come), expires));
        }

        fn take_expired(&mut self, most: usize) -> Outcome {
            let now = seconds(self.now);
            let (expired, has_more) = self.backlog.take_expired(now, most, &mut Vec::new());
            prop_assert!(expired.len() <= most);
            for one in expired {
                let place = self.model.iter().position(|(known, _)| *known == one);
                let (_, expires) = self.model.remove(place.expect("it was there")).unwrap();
                prop_assert!(expires <= now);
            }
            if !has_more {
                prop_assert!(self.model.iter().all(|(_, expires)| *expires > now));
            }
            Ok(())
        }

        fn read(&mut self, most: usize, come: usize) -> Outcome {
            let Self { backlog, model, .. } = self;
            let page = backlog.next_page(most, MessageNumber::LAST);
            prop_assert_eq!(page.is_none(), model.is_empty());
            let Some(page) = page else { return Ok(()) };
            let first = model.iter().map(|(known, _)| *known);
            prop_assert!(first.take(page.messages.len()).eq(page.messages.iter().copied()));
            prop_assert!(page.messages.len() == model.len().min(most).min(PAGE_LENGTH));
            prop_assert_eq!(page.bytes, page.messages.len() * BYTES);
            backlog.begin(&page);
            prop_assert!(backlog.next_page(most, MessageNumber::LAST).is_none(), "one at a time");
            prop_assert!(
                backlog.take_expired(Time::NEVER, 9, &mut Vec::new()).0.is_empty(),
                "they are being read"
            );
            let come = come.min(page.messages.len());
            let messages = page.messages[..come].iter().copied();
            prop_assert!(backlog.have_come(messages, come * BYTES));
            // Messages that came and were not sent come back when the client disconnects.
            for (known, expires) in model.iter().take(come).rev().step_by(2) {
                backlog.insert(*known, BYTES, *expires, group_of(known.0.get()));
            }
            backlog.give_up_page();
            let front: Vec<_> = model.drain(..come).rev().step_by(2).collect();
            front.into_iter().for_each(|one| model.push_front(one));
            self.check_nothing_is_awaited()
        }

        fn take_shared(&mut self, group: u32, reads: bool, come_back: bool) -> Outcome {
            let Self { backlog, model, .. } = self;
            if let Some(page) = backlog.next_page(9, MessageNumber::LAST).filter(|_| reads) {
                backlog.begin(&page);
            }
            let group = group_id(group);
            let is_of_group = |number: MessageNumber| group_of(number.0.get()) == Some(group);
            let taken = backlog.take_shared(|id| id == group);
            let expected = model.iter().map(|(known, _)| *known).filter(|known| is_of_group(*known));
            prop_assert!(taken.iter().map(|(number, _)| *number).eq(expected));
            prop_assert!(taken.iter().all(|(_, id)| *id == group));
            if come_back {
                for (known, expires) in model.iter().filter(|(known, _)| is_of_group(*known)) {
                    backlog.insert(*known, BYTES, *expires, Some(group));
                }
            } else {
                model.retain(|(known, _)| !is_of_group(*known));
            }
            self.check_nothing_is_awaited()
        }

        fn check_nothing_is_awaited(&mut self) -> Outcome {
            prop_assert!(!self.backlog.have_come([number(self.come + 1)].into_iter(), 0));
            Ok(())
        }

        fn check(&self) -> Outcome {
            let Self { backlog, model, .. } = self;
            let groups: Vec<_> = model.iter().map(|(known, _)| group_of(known.0.get())).collect();
            prop_assert_eq!(backlog.has_shared(), groups.iter().any(|group| group.is_some()));
            prop_assert_eq!(backlog.groups.len(), groups.iter().flatten().count());
            prop_assert!(model.iter().map(|(known, _)| backlog.group_of(*known)).eq(groups));
            prop_assert_eq!(backlog.len(), model.len());
            prop_assert_eq!(backlog.is_empty(), model.is_empty());
            prop_assert_eq!(backlog.bytes(), BYTES * model.len());
            prop_assert_eq!(backlog.first(), model.front().map(|(known, _)| *known));
            prop_assert!(backlog.taken.len() <= backlog.len() + USELESS_KEPT);
            prop_assert!(backlog.expiring.len() <= 2 * backlog.len() + USELESS_KEPT);
            Ok(())
        }
    }

    proptest! {
        #[test]
        fn it_is_a_list_from_which_expired_messages_are_removed(acts in prop::collection::vec(act(), 1..60)) {
            let mut compared = Compared::default();
            for act in &acts {
                compared.act(act)?;
            }
            let numbers: VecDeque<_> = compared.model.into_iter().map(|(known, _)| known).collect();
            prop_assert_eq!(compared.backlog.take_numbers(), numbers);
        }
    }

    #[test]
    fn a_message_that_comes_back_is_not_mistaken_for_one_that_is_being_read() {
        let mut backlog = Backlog::default();
        (2..4).for_each(|count| backlog.insert(number(count), BYTES, Time::NEVER, None));
        let page = backlog.next_page(9, MessageNumber::LAST).expect("some wait");
        backlog.begin(&page);
        backlog.insert(number(4), BYTES, Time::NEVER, None);
        assert!(backlog.have_come([number(2)].into_iter(), BYTES), "it is after them");
        backlog.insert(number(1), BYTES, Time::NEVER, None);
        assert!(!backlog.have_come([number(3)].into_iter(), BYTES), "they are read again, in their order");
        assert_eq!(backlog.take_numbers(), [1, 3, 4].map(number));
    }

    #[test]
    fn pages_are_limited_in_bytes() {
        let mut backlog = Backlog::default();
        (1..100).for_each(|count| backlog.insert(number(count), 60_000, Time::NEVER, None));
        let page = backlog.next_page(usize::MAX, MessageNumber::LAST).expect("some wait");
        assert_eq!((page.messages.len(), page.bytes), (4, 240_000));
        assert_eq!(backlog.next_page(1, MessageNumber::LAST).map(|page| page.messages.len()), Some(1));
        assert_eq!(backlog.next_page(9, number(3)).map(|page| page.messages.len()), Some(2));
        assert_eq!(backlog.next_page(9, number(1)), None, "the first one is not in the store yet");
        let mut backlog = Backlog::default();
        backlog.insert(number(1), 10_000_000, Time::NEVER, None);
        assert!(backlog.next_page(9, MessageNumber::LAST).is_some(), "one comes, however large it is");
    }
}
