//! Messages for persistent sessions, both those not yet durable and those in the store.
//!
//! Of a stored message only its number is in memory, in the queue of each session that needs it, and if several do,
//! their number.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU64;

use super::record::{MessageNumber, Recipient, RecipientList, Record, SessionNumber, StoredMessage};
use crate::base::memory::{self, Audit};
use crate::core::message::{Message, Portables};
use crate::core::slots::ConnectionId;

/// Bytes per entry of the map, in tree nodes two thirds full.
const NEEDED_BYTES: usize = 24;

/// Capacity of the list of pending messages that is never released.
const PENDING_KEPT: usize = 1024;

/// One message that is not durable.
#[derive(Debug)]
struct Pending {
    /// `None` once its batch is closed or no session needs it any longer.
    message: Option<Message>,
    /// Its recipients, kept as long as the message. Includes those listed in [`Messages::settled`].
    recipients: RecipientList,
    /// How many of them still need it.
    needed_by: u32,
    /// The connection whose answer waits for the message.
    publisher: Option<ConnectionId>,
}

/// What is known of the current message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Current {
    /// As far as is known, no persistent session gets it.
    #[default]
    Unknown,
    /// It has this one number for all persistent sessions that get it.
    One(MessageNumber),
    /// It has several numbers.
    Several,
}

/// The consequences when a session no longer needs a message.
#[derive(Debug, Default)]
pub struct Settlement {
    /// If the store has the message, this has to be persisted; the value is whether it was the last session that
    /// needed it.
    pub to_be_written: Option<bool>,
    /// The connection whose answer has waited for the message, if no session needs it any longer.
    pub publisher: Option<ConnectionId>,
    /// The message, if no session needs it any longer and it was not persisted yet.
    pub message: Option<Message>,
}

/// The messages that persistent sessions need.
#[derive(Debug)]
pub struct Messages {
    /// In the order of their numbers, without gaps.
    pending: VecDeque<Pending>,
    /// How many of them are in the batch that the store is writing.
    closed: usize,
    /// The number of the next message.
    next: MessageNumber,
    /// What is known of the current message.
    current: Current,
    /// The connection of the current message's publisher.
    publisher: Option<ConnectionId>,
    /// Sessions that no longer need a message of the open batch that others still need. Removing them from the
    /// message's recipients one by one would take too long if all recipients acknowledge before the message is
    /// persisted.
    settled: Vec<(MessageNumber, SessionNumber)>,
    /// Bytes of the messages in the open batch.
    message_bytes: usize,
    /// Bytes of the lists of their recipients.
    recipient_bytes: usize,
    /// How many sessions need a stored message, if more than one does.
    needed: BTreeMap<MessageNumber, u32>,
}

impl Messages {
    /// Begins without messages. `next` will be the number of the first one.
    pub const fn new(next: MessageNumber) -> Self {
        Self {
            pending: VecDeque::new(),
            closed: 0,
            next,
            current: Current::Unknown,
            publisher: None,
            settled: Vec::new(),
            message_bytes: 0,
            recipient_bytes: 0,
            needed: BTreeMap::new(),
        }
    }

    /// Returns the highest number of a message, if there was one.
    pub const fn last(&self) -> Option<MessageNumber> {
        match NonZeroU64::new(self.next.0.get() - 1) {
            Some(number) => Some(MessageNumber(number)),
            None => None,
        }
    }

    /// Number of messages that are not durable.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// How many messages the open batch has, whether or not they are still needed.
    pub fn in_open_batch(&self) -> usize {
        self.pending.len() - self.closed
    }

    /// Bytes of the messages in the open batch and of their recipients.
    pub fn bytes(&self) -> usize {
        self.message_bytes
            + self.recipient_bytes
            + self.in_open_batch() * size_of::<Pending>()
            + self.settled.len() * size_of::<(MessageNumber, SessionNumber)>()
    }

    /// Begins with another current message.
    #[inline]
    pub const fn begin(&mut self, publisher: Option<ConnectionId>) {
        self.publisher = publisher;
        self.current = Current::Unknown;
    }

    /// Returns what is known of the current message. After this there is no current message.
    pub fn take_current(&mut self) -> Current {
        std::mem::take(&mut self.current)
    }

    /// Adds a session to the recipients of the current message and returns its number. For a member of a Shared
    /// Subscription the message gets a number of its own, because the session may also get it through another
    /// subscription.
    pub fn add(&mut self, message: &Message, recipient: Recipient, is_shared: bool) -> MessageNumber {
        let may_join = matches!(self.current, Current::One(_)) && !is_shared;
        if !may_join {
            self.current = match self.current {
                Current::Unknown if !is_shared => Current::One(self.next),
                _ => Current::Several,
            };
            self.message_bytes += message.memory();
            self.recipient_bytes += recipient.form.memory();
            self.pending.push_back(Pending {
                message: Some(message.clone()),
                recipients: RecipientList::One(recipient),
                needed_by: 1,
                publisher: self.publisher,
            });
            let number = self.next;
            self.next = number.next();
            return number;
        }
        let index = self.pending.len() - 1;
        let pending = &mut self.pending[index];
        self.recipient_bytes += recipient.form.memory();
        self.recipient_bytes -= pending.recipients.list_memory();
        pending.recipients.push(recipient);
        self.recipient_bytes += pending.recipients.list_memory();
        pending.needed_by += 1;
        self.number_of(index)
    }

    /// The number of the next copy that is [added](Self::add) for a session alone.
    pub const fn next(&self) -> MessageNumber {
        match self.current {
            Current::One(number) => number,
            Current::Unknown | Current::Several => self.next,
        }
    }

    /// Adds a message from the store that this many sessions need.
    pub fn restore(&mut self, number: MessageNumber, needed_by: u32) {
        if needed_by > 1 {
            self.needed.insert(number, needed_by);
        }
    }

    /// Whether the store has a message that some session needs.
    pub fn is_stored(&self, number: MessageNumber) -> bool {
        self.index_of(number).is_none()
    }

    /// Records that a session no longer needs a message.
    pub fn settle(&mut self, number: MessageNumber, session: SessionNumber) -> Settlement {
        let Some(index) = self.index_of(number) else {
            return Settlement { to_be_written: Some(self.settle_stored(number)), ..Settlement::default() };
        };
        let is_closed = index < self.closed;
        let pending = &mut self.pending[index];
        pending.needed_by -= 1;
        let is_last = pending.needed_by == 0;
        if !is_last {
            if !is_closed {
                self.settled.push((number, session));
            }
            return Settlement { to_be_written: is_closed.then_some(false), ..Settlement::default() };
        }
        let publisher = pending.publisher;
        let message = self.let_go(index);
        Settlement { to_be_written: is_closed.then_some(true), publisher, message }
    }

    /// Takes a pending message that no session needs any longer, unless its batch is closed.
    fn let_go(&mut self, index: usize) -> Option<Message> {
        let (message, recipients) = self.pending[index].take()?;
        self.message_bytes -= message.memory();
        self.recipient_bytes -= recipients.memory();
        Some(message)
    }

    /// Returns whether this was the last session that needed it.
    fn settle_stored(&mut self, number: MessageNumber) -> bool {
        let Some(needed) = self.needed.get_mut(&number) else { return true };
        *needed -= 1;
        if *needed == 1 {
            self.needed.remove(&number);
        }
        false
    }

    /// Whether a message is durable, or no session needs it.
    pub fn is_safe(&self, number: MessageNumber) -> bool {
        self.index_of(number).is_none_or(|index| self.pending[index].needed_by == 0)
    }

    /// Returns the number of the first message that is not durable, or else the next number, and whether the store is
    /// writing that message.
    pub fn first_pending(&self) -> (MessageNumber, bool) {
        (MessageNumber(self.first()), self.closed > 0)
    }

    /// Writes the messages of the open batch that some session needs as records.
    pub fn close(&mut self, records: &mut Vec<Record>) {
        let mut settled = std::mem::take(&mut self.settled);
        settled.sort_unstable();
        let mut settled = settled.as_slice();
        let first = self.first().get();
        let message_bytes = std::mem::take(&mut self.message_bytes);
        self.recipient_bytes = 0;
        let count = self.in_open_batch();
        let mut copies = Portables::with_capacity(count, message_bytes);
        self.pending
            .iter()
            .skip(self.closed)
            .flat_map(|pending| &pending.message)
            .for_each(|message| copies.push(message));
        let mut copies = copies.finish();
        for (number, pending) in (first..).zip(&mut self.pending).skip(self.closed) {
            let Some((_, mut recipients)) = pending.take() else { continue };
            let Some(message) = copies.next() else { break };
            let number = MessageNumber(NonZeroU64::new(number).expect("numbers begin with one"));
            if !settled.is_empty() {
                settled = &settled[settled.partition_point(|&(other, _)| other < number)..];
                if settled.first().is_some_and(|&(other, _)| other == number) {
                    recipients.retain(|to| settled.binary_search(&(number, to.session)).is_err());
                }
            }
            records.push(Record::Message(StoredMessage { number, message, recipients }));
        }
        self.closed = self.pending.len();
        self.current = Current::Unknown;
    }

    /// Records that the batch closed last is durable.
    pub fn closed_are_durable(&mut self) {
        let first = self.first().get();
        let closed = std::mem::take(&mut self.closed);
        for (number, pending) in (first..).zip(self.pending.drain(..closed)) {
            if pending.needed_by > 1
                && let Some(number) = NonZeroU64::new(number)
            {
                self.needed.insert(MessageNumber(number), pending.needed_by);
            }
        }
        if self.pending.capacity() > PENDING_KEPT {
            self.pending.shrink_to(2 * self.pending.len());
        }
    }

    fn first(&self) -> NonZeroU64 {
        let first = self.next.0.get() - self.pending.len() as u64;
        NonZeroU64::new(first).expect("numbers begin with one")
    }

    fn index_of(&self, number: MessageNumber) -> Option<usize> {
        let index = number.0.get().checked_sub(self.first().get())?;
        usize::try_from(index).ok().filter(|&index| index < self.pending.len())
    }

    fn number_of(&self, index: usize) -> MessageNumber {
        let number = self.first().get() + index as u64;
        MessageNumber(NonZeroU64::new(number).expect("numbers begin with one"))
    }

    /// Bytes of memory used, without the messages.
    pub fn overhead(&self) -> usize {
        memory::allocation(self.pending.capacity() * size_of::<Pending>())
            + self.recipient_bytes
            + memory::allocation(self.settled.capacity() * size_of::<(MessageNumber, SessionNumber)>())
            + self.needed.len() * NEEDED_BYTES
    }

    /// Adds the messages to an audit.
    pub fn audit(&self, audit: &mut Audit) {
        self.pending.iter().flat_map(|pending| &pending.message).for_each(|message| message.audit(audit));
    }
}

impl Pending {
    /// Takes what has to be persisted.
    fn take(&mut self) -> Option<(Message, RecipientList)> {
        Some((self.message.take()?, std::mem::take(&mut self.recipients)))
    }
}

impl MessageNumber {
    /// Greater than every other number.
    pub const LAST: Self = Self(NonZeroU64::MAX);

    /// Returns the next number.
    ///
    /// # Panics
    ///
    /// After 2^64 messages.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("there are fewer than 2^64 messages"))
    }
}
