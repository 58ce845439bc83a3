//! What is persisted, as plain data that may go to another thread: records on the way out, what was restored on
//! the way in.

use std::num::NonZeroU64;
use std::sync::Arc;

use crate::base::memory;
use crate::base::time::{Duration, Time};
use crate::core::listener::ListenerId;
use crate::core::message::Portable;
use crate::core::subscription::Identifiers;
use crate::protocol::codec::{PacketIdentifier, QoS};

/// Names a session in the store. Never given to another one while the store knows anything of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionNumber(pub NonZeroU64);

/// Names a message in the store. Those that came later have greater numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageNumber(pub NonZeroU64);

/// One change of what is kept. Written twice in the same order, a run of records leaves what it leaves written once.
#[derive(Clone, Debug)]
pub enum Record {
    /// A listener is there that was not when the store was opened, with this name. No other has its place.
    Listener(ListenerId, String),
    /// A session is there, or another than before under its number. What belongs to it stays.
    Session(Box<StoredSession>),
    /// A session is gone, and its subscriptions and Packet Identifiers with it. Its messages are settled one by one.
    SessionEnded {
        /// The session.
        session: SessionNumber,
        /// What it got from Shared Subscriptions is to go to other members: until [`Record::FormerEnded`] the store
        /// keeps its messages, and which QoS 2 deliveries have begun.
        leaves_shared: bool,
    },
    /// All that a session which has ended left to other members of Shared Subscriptions has gone to them.
    FormerEnded(SessionNumber),
    /// A subscription is there, or other than before.
    Subscribed(SessionNumber, StoredSubscription),
    /// The subscription with this Topic Filter is gone.
    Unsubscribed(SessionNumber, String),
    /// A message has come that these sessions are to get.
    Message(StoredMessage),
    /// A session needs a message no longer. If it was the last one, the message is forgotten. A delivery of it that is
    /// not released is over with it.
    Settled {
        /// The message.
        message: MessageNumber,
        /// The session.
        session: SessionNumber,
        /// No other session needs it.
        is_last: bool,
    },
    /// The QoS 1 delivery of a message that waited has begun.
    Begun {
        /// The message.
        message: MessageNumber,
        /// The session.
        session: SessionNumber,
        /// Its Packet Identifier.
        identifier: PacketIdentifier,
    },
    /// A QoS 2 message with this Packet Identifier has come from the client of a session.
    Received(SessionNumber, PacketIdentifier),
    /// It was released.
    Released(SessionNumber, PacketIdentifier),
    /// A QoS 2 delivery to the client of a session has, or is about to have, this Packet Identifier.
    Delivery(SessionNumber, StoredDelivery),
    /// The delivery with this Packet Identifier is over.
    Completed(SessionNumber, PacketIdentifier),
    /// The message is retained for its topic, in place of another.
    Retained(Portable),
    /// Nothing is retained for this topic.
    Cleared(String),
}

/// What is kept of a session.
#[derive(Clone, Debug)]
pub struct StoredSession {
    /// Its number.
    pub number: SessionNumber,
    /// Its Client Identifier.
    pub client_identifier: String,
    /// The User Name that its client has given, if it has.
    pub user_name: Option<String>,
    /// Whether the name was proved.
    pub is_proved: bool,
    /// The listener that its client came in by last.
    pub listener: ListenerId,
    /// The Session Expiry Interval in seconds.
    pub expiry_interval: u32,
    /// Whether its client is connected.
    pub presence: StoredPresence,
    /// The Will Message that is still to come.
    pub will: Option<StoredWill>,
}

/// Whether the client of a session was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredPresence {
    /// It was, so it may have been sent any message of QoS 1.
    Connected,
    /// It was not.
    Away {
        /// When the session ends.
        ends: Time,
        /// It may have been sent messages up to this one.
        sent_until: Option<MessageNumber>,
    },
}

/// A Will Message.
#[derive(Clone, Debug)]
pub struct StoredWill {
    /// The message; its expiry is a span from [`Time::ZERO`] on, which begins when it is published.
    pub message: Portable,
    /// The Will Delay Interval.
    pub delay: Duration,
    /// When it is due; [`Time::NEVER`] while its client is connected.
    pub due: Time,
}

/// A subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSubscription {
    /// The whole Topic Filter, with the Share Name if it has one.
    pub filter: String,
    /// The granted QoS.
    pub qos: QoS,
    /// No Local.
    pub no_local: bool,
    /// Retain As Published.
    pub retain_as_published: bool,
    /// The Subscription Identifier; zero for none.
    pub identifier: u32,
    /// Its retained messages were not all handed over.
    pub owes_retained: bool,
}

/// A message and those who are to get it.
#[derive(Clone, Debug)]
pub struct StoredMessage {
    /// Its number.
    pub number: MessageNumber,
    /// The message.
    pub message: Portable,
    /// Who gets it; at least one.
    pub recipients: Vec<Recipient>,
}

/// Who gets a message, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// The session.
    pub session: SessionNumber,
    /// The form of its copy.
    pub form: CopyForm,
    /// The Packet Identifier of its QoS 1 delivery, if that has begun.
    pub identifier: Option<PacketIdentifier>,
}

/// The form of one copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyForm {
    /// Its QoS.
    pub qos: QoS,
    /// Its RETAIN flag.
    pub retain: bool,
    /// Its Subscription Identifiers.
    pub identifiers: Identifiers,
    /// The whole Topic Filter of the Shared Subscription that chose the session, if one did. Then no other session gets
    /// the message under its number.
    pub group: Option<Arc<str>>,
}

/// A QoS 2 delivery on its way to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredDelivery {
    /// Its Packet Identifier.
    pub identifier: PacketIdentifier,
    /// The message.
    pub message: MessageNumber,
    /// The PUBREC has come, so the message itself is settled and only the PUBREL is still to be answered.
    pub is_released: bool,
}

/// Records that become durable together or not at all.
#[derive(Debug)]
pub struct Batch {
    /// Its number; each is greater by one than that of the batch before.
    pub number: u64,
    /// The moment at which it was closed: what the times in it are relative to.
    pub now: Time,
    /// In the order in which they came about; at least one.
    pub records: Vec<Record>,
}

/// Durable messages that wait for a session, to be read. A session has one fetch at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// The session.
    pub session: SessionNumber,
    /// Which of its messages, in their order; at least one.
    pub messages: Vec<MessageNumber>,
}

/// What was read at one time, which is a part of the answers to several [fetches](Fetch). The parts of one answer come
/// in the order of its messages, and together name each message that was asked for once.
#[derive(Debug, Default)]
pub struct Pages {
    /// Each message that was found, once for all sessions that get it.
    pub messages: Vec<Portable>,
    /// What each session gets, no session twice.
    pub pages: Vec<Page>,
}

/// A part of the answer to one [`Fetch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The session.
    pub session: SessionNumber,
    /// The next of its messages.
    pub copies: Vec<PageCopy>,
}

/// One message of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageCopy {
    /// The message's number.
    pub number: MessageNumber,
    /// Where in [`Pages::messages`] the message is, and the form of the session's copy. None if there is no such copy.
    pub found: Option<(usize, CopyForm)>,
}

/// One session's copy of a message.
#[derive(Clone, Debug)]
pub struct StoredCopy {
    /// The message's number.
    pub number: MessageNumber,
    /// The message.
    pub message: Portable,
    /// The form of the copy.
    pub form: CopyForm,
}

/// What is read when the broker starts: all sessions first, then their subscriptions, then the rest in any order, but
/// messages in the order of their numbers and after the deliveries.
#[derive(Clone, Debug)]
pub enum Restored {
    /// A session.
    Session(Box<StoredSession>),
    /// A session that has ended and whose messages are still to go to other members of Shared Subscriptions.
    Former(SessionNumber),
    /// A subscription of a session.
    Subscription(SessionNumber, StoredSubscription),
    /// A QoS 2 message has come from its client and was not released.
    Received(SessionNumber, PacketIdentifier),
    /// A QoS 2 delivery to its client that is not over. With the copy, unless it is released. Those of one session
    /// come in the order of their messages.
    Delivery(SessionNumber, StoredDelivery, Option<Box<StoredCopy>>),
    /// A message of which QoS 1 deliveries have begun, immediately before it comes as [`Restored::Waiting`].
    Begun {
        /// Its number.
        message: MessageNumber,
        /// The message.
        content: Portable,
        /// Its recipients whose deliveries have begun, all with a Packet Identifier.
        recipients: Vec<Recipient>,
    },
    /// A message that waits.
    Waiting {
        /// Its number.
        message: MessageNumber,
        /// [Its length](crate::core::message::Publication::length).
        length: usize,
        /// When it has expired.
        expires: Time,
        /// The lowest QoS of the copies that wait.
        lowest_qos: QoS,
        /// The sessions that it waits for.
        sessions: Vec<SessionNumber>,
        /// The sessions that need it for a delivery that has begun and is not released. The two lists are never both
        /// empty.
        in_flight: Vec<SessionNumber>,
        /// The [group](CopyForm::group) that has chosen the only session, if one did.
        group: Option<Arc<str>>,
    },
    /// A retained message.
    Retained(Portable),
}

/// The numbers that are to be given next: greater than any that the store knows of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextNumbers {
    /// For sessions.
    pub session: SessionNumber,
    /// For messages.
    pub message: MessageNumber,
}

impl CopyForm {
    /// Bytes on the heap, beside the name of the group, which all its messages share.
    pub fn memory(&self) -> usize {
        match self.identifiers.as_slice().len() {
            0 => 0,
            count => memory::allocation(size_of::<Vec<u32>>()) + memory::allocation(count * size_of::<u32>()),
        }
    }
}

impl Record {
    /// Bytes on the heap.
    pub fn memory(&self) -> usize {
        match self {
            Self::Session(session) => memory::allocation(size_of::<StoredSession>()) + session.memory(),
            Self::Subscribed(_, subscription) => memory::allocation(subscription.filter.len()),
            Self::Listener(_, text) | Self::Unsubscribed(_, text) | Self::Cleared(text) => {
                memory::allocation(text.len())
            }
            Self::Message(stored) => {
                let forms: usize = stored.recipients.iter().map(|to| to.form.memory()).sum();
                let list = memory::allocation(stored.recipients.capacity() * size_of::<Recipient>());
                memory::allocation(stored.message.memory()) + list + forms
            }
            Self::Retained(message) => memory::allocation(message.memory()),
            Self::SessionEnded { .. }
            | Self::FormerEnded(_)
            | Self::Settled { .. }
            | Self::Begun { .. }
            | Self::Received(..)
            | Self::Released(..)
            | Self::Delivery(..)
            | Self::Completed(..) => 0,
        }
    }
}

impl StoredSession {
    /// Bytes on the heap.
    fn memory(&self) -> usize {
        let will = self.will.as_ref().map_or(0, |will| memory::allocation(will.message.memory()));
        let user_name = self.user_name.as_ref().map_or(0, |name| memory::allocation(name.len()));
        memory::allocation(self.client_identifier.len()) + user_name + will
    }
}

impl Batch {
    /// Bytes that it takes.
    pub fn memory(&self) -> usize {
        let list = memory::allocation(self.records.capacity() * size_of::<Record>());
        list + self.records.iter().map(Record::memory).sum::<usize>()
    }
}
