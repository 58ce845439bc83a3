//! Messages that sessions are to get who are kept: on their way to the store, and there.
//!
//! Of a message in the store only its number is here, in the queue of each session that needs it; if several do, how
//! many.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU64;

use super::record::{MessageNumber, Recipient, Record, SessionNumber, StoredMessage};
use crate::base::memory::{self, Audit};
use crate::core::message::Message;
use crate::core::slots::ConnectionId;

/// What one entry of the map takes, in nodes two thirds full.
const NEEDED_BYTES: usize = 24;

/// So many places for messages are never given back.
const PENDING_KEPT: usize = 1024;

/// One message that is not durable.
#[derive(Debug)]
struct Pending {
    /// Until its batch is closed, or no session needs it any more.
    message: Option<Message>,
    /// Who is to get it, as long. Those are among them whom [`Messages::settled`] tells.
    recipients: Vec<Recipient>,
    /// How many of them still need it.
    needed_by: u32,
    /// Whose answer waits for it.
    publisher: Option<ConnectionId>,
}

/// What is known of the message in hand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Current {
    /// No kept session gets it, as far as is known.
    #[default]
    Unknown,
    /// It has this number for all kept sessions that get it.
    One(MessageNumber),
    /// It has several.
    Several,
}

/// What follows from a session that needs a message no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// The store has it, so that is to be persisted; whether the session was the last one.
    pub to_be_written: Option<bool>,
    /// The connection whose answer has waited for it, if nobody needs it any more.
    pub publisher: Option<ConnectionId>,
}

/// The messages that kept sessions need.
#[derive(Debug)]
pub struct Messages {
    /// In the order of their numbers, without gaps.
    pending: VecDeque<Pending>,
    /// How many of them are in the batch that is with the store.
    closed: usize,
    /// The number of the next one.
    next: MessageNumber,
    /// What is known of the message in hand.
    current: Current,
    /// Whose the message in hand is.
    publisher: Option<ConnectionId>,
    /// Who needs a message of the open batch no longer that others need. To look for them there each time would take
    /// too long, if all who get a message acknowledge it before it is persisted.
    settled: Vec<(MessageNumber, SessionNumber)>,
    /// Bytes of the messages of the open batch.
    message_bytes: usize,
    /// Bytes of the lists of their recipients.
    recipient_bytes: usize,
    /// How many sessions need a message that the store has, where that is more than one.
    needed: BTreeMap<MessageNumber, u32>,
}

impl Messages {
    /// None yet; this will be the number of the first.
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

    /// The greatest number that a message has, if there was one.
    pub const fn last(&self) -> Option<MessageNumber> {
        match NonZeroU64::new(self.next.0.get() - 1) {
            Some(number) => Some(MessageNumber(number)),
            None => None,
        }
    }

    /// How many messages are not durable.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Bytes of the messages in the open batch, and of what tells who gets them.
    pub fn bytes(&self) -> usize {
        self.message_bytes
            + self.recipient_bytes
            + (self.pending.len() - self.closed) * size_of::<Pending>()
            + self.settled.len() * size_of::<(MessageNumber, SessionNumber)>()
    }

    /// Another message is in hand.
    #[inline]
    pub const fn begin(&mut self, publisher: Option<ConnectionId>) {
        self.publisher = publisher;
        self.current = Current::Unknown;
    }

    /// What is known of the message in hand. It is in hand no longer.
    pub fn take_current(&mut self) -> Current {
        std::mem::take(&mut self.current)
    }

    /// A session gets the message in hand; tells its number. What a session gets as a member of a Shared Subscription
    /// is a message of its own, because it may get the same one beside that.
    pub fn add(&mut self, message: &Message, recipient: Recipient, is_shared: bool) -> MessageNumber {
        let may_join = matches!(self.current, Current::One(_)) && !is_shared;
        if !may_join {
            self.current = match self.current {
                Current::Unknown if !is_shared => Current::One(self.next),
                _ => Current::Several,
            };
            self.message_bytes += message.memory();
            self.pending.push_back(Pending {
                message: Some(message.clone()),
                recipients: Vec::new(),
                needed_by: 0,
                publisher: self.publisher,
            });
            self.next = self.next.next();
        }
        let index = self.pending.len() - 1;
        let pending = &mut self.pending[index];
        self.recipient_bytes += recipient.form.memory();
        self.recipient_bytes -= list_bytes(&pending.recipients);
        pending.recipients.push(recipient);
        self.recipient_bytes += list_bytes(&pending.recipients);
        pending.needed_by += 1;
        self.number_of(index)
    }

    /// The store has a message that so many sessions need.
    pub fn restore(&mut self, number: MessageNumber, needed_by: u32) {
        if needed_by > 1 {
            self.needed.insert(number, needed_by);
        }
    }

    /// Whether the store has a message that some session needs.
    pub fn is_stored(&self, number: MessageNumber) -> bool {
        self.index_of(number).is_none()
    }

    /// A session needs a message no longer.
    pub fn settle(&mut self, number: MessageNumber, session: SessionNumber) -> Settlement {
        let Some(index) = self.index_of(number) else {
            return Settlement { to_be_written: Some(self.settle_stored(number)), publisher: None };
        };
        let is_closed = index < self.closed;
        let pending = &mut self.pending[index];
        pending.needed_by -= 1;
        let is_last = pending.needed_by == 0;
        if !is_last {
            if !is_closed {
                self.settled.push((number, session));
            }
            return Settlement { to_be_written: is_closed.then_some(false), publisher: None };
        }
        let publisher = pending.publisher;
        self.let_go(index);
        Settlement { to_be_written: is_closed.then_some(true), publisher }
    }

    /// Nobody needs a pending message here any more.
    fn let_go(&mut self, index: usize) {
        if let Some((message, recipients)) = self.pending[index].take() {
            self.message_bytes -= message.memory();
            self.recipient_bytes -= recipient_bytes(&recipients);
        }
    }

    /// Whether that was the last session that needed it.
    fn settle_stored(&mut self, number: MessageNumber) -> bool {
        let Some(needed) = self.needed.get_mut(&number) else { return true };
        *needed -= 1;
        if *needed == 1 {
            self.needed.remove(&number);
        }
        false
    }

    /// Whether a message is durable, or needed by nobody.
    pub fn is_safe(&self, number: MessageNumber) -> bool {
        self.index_of(number).is_none_or(|index| self.pending[index].needed_by == 0)
    }

    /// The first message that is not durable, or the next one; and whether it is in the batch that is with the store.
    pub fn first_pending(&self) -> (MessageNumber, bool) {
        (MessageNumber(self.first()), self.closed > 0)
    }

    /// Writes those of the open batch down that somebody needs.
    pub fn close(&mut self, records: &mut Vec<Record>) {
        let mut settled = std::mem::take(&mut self.settled);
        settled.sort_unstable();
        let mut settled = settled.as_slice();
        let first = self.first().get();
        (self.message_bytes, self.recipient_bytes) = (0, 0);
        for (number, pending) in (first..).zip(&mut self.pending).skip(self.closed) {
            let Some((message, mut recipients)) = pending.take() else { continue };
            let number = MessageNumber(NonZeroU64::new(number).expect("they begin with one"));
            settled = &settled[settled.partition_point(|&(other, _)| other < number)..];
            if settled.first().is_some_and(|&(other, _)| other == number) {
                recipients.retain(|to| settled.binary_search(&(number, to.session)).is_err());
            }
            records.push(Record::Message(StoredMessage { number, message: message.portable(), recipients }));
        }
        self.closed = self.pending.len();
        self.current = Current::Unknown;
    }

    /// The batch that was closed last is durable.
    pub fn closed_are_durable(&mut self) {
        for _ in 0..std::mem::take(&mut self.closed) {
            let number = MessageNumber(self.first());
            let Some(pending) = self.pending.pop_front() else { return };
            self.restore(number, pending.needed_by);
        }
        if self.pending.capacity() > PENDING_KEPT {
            self.pending.shrink_to(2 * self.pending.len());
        }
    }

    fn first(&self) -> NonZeroU64 {
        let first = self.next.0.get() - self.pending.len() as u64;
        NonZeroU64::new(first).expect("they begin with one")
    }

    fn index_of(&self, number: MessageNumber) -> Option<usize> {
        let index = number.0.get().checked_sub(self.first().get())?;
        usize::try_from(index).ok().filter(|&index| index < self.pending.len())
    }

    fn number_of(&self, index: usize) -> MessageNumber {
        let number = self.first().get() + index as u64;
        MessageNumber(NonZeroU64::new(number).expect("they begin with one"))
    }

    /// Bytes that it takes beside the messages.
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
    /// Takes what is persisted of it.
    fn take(&mut self) -> Option<(Message, Vec<Recipient>)> {
        Some((self.message.take()?, std::mem::take(&mut self.recipients)))
    }
}

/// Bytes of a list of recipients itself.
fn list_bytes(recipients: &Vec<Recipient>) -> usize {
    memory::allocation(recipients.capacity() * size_of::<Recipient>())
}

/// The same with what is in it.
fn recipient_bytes(recipients: &Vec<Recipient>) -> usize {
    list_bytes(recipients) + recipients.iter().map(|to| to.form.memory()).sum::<usize>()
}

impl MessageNumber {
    /// Greater than every other one.
    pub const LAST: Self = Self(NonZeroU64::MAX);

    /// The one behind it.
    ///
    /// # Panics
    ///
    /// After more messages than anybody lives to see.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("nobody lives to see so many messages"))
    }
}
