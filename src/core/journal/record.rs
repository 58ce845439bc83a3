//! What is persisted, as plain data that may be sent to another thread: records to be written, and the state that is
//! restored.

use std::num::NonZeroU64;
use std::sync::Arc;

use crate::base::memory;
use crate::base::time::{Duration, Time};
use crate::core::listener::ListenerId;
use crate::core::message::Portable;
use crate::core::subscription::Identifiers;
use crate::protocol::codec::{PacketIdentifier, QoS};

/// Identifies a session in the store. Never given to another session while the store has anything of this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionNumber(pub NonZeroU64);

/// Identifies a message in the store. Later messages have greater numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageNumber(pub NonZeroU64);

/// One change of the persistent state. Applying a run of records twice, in the same order, has the same effect as
/// once.
#[derive(Clone, Debug)]
pub enum Record {
    /// A listener with this name was added after the store was opened. No other listener has its position.
    Listener(ListenerId, String),
    /// A session is new or has changed. What belongs to it stays.
    Session(Box<StoredSession>),
    /// A session has ended, with its subscriptions and Packet Identifiers. Its messages are settled one by one.
    SessionEnded {
        /// The session.
        session: SessionNumber,
        /// Whether its messages from Shared Subscriptions must go to other members. Until [`Record::FormerEnded`] the
        /// store then keeps these messages, and which QoS 2 deliveries have begun.
        leaves_shared: bool,
    },
    /// All messages that an ended session has left to other members of Shared Subscriptions have gone to them.
    FormerEnded(SessionNumber),
    /// A subscription is new or has changed.
    Subscribed(SessionNumber, StoredSubscription),
    /// The subscription with this Topic Filter is gone.
    Unsubscribed(SessionNumber, String),
    /// A message for these sessions has arrived.
    Message(StoredMessage),
    /// Messages from this number on were queued for bridges at this time, up to the next such record. What was recorded
    /// of messages before `oldest` is no longer needed.
    Arrived {
        /// The first message.
        message: MessageNumber,
        /// When it was queued.
        at: Time,
        /// The oldest message that waits.
        oldest: MessageNumber,
    },
    /// A session no longer needs a message. If no other session does, the message is removed. A delivery of it that
    /// is not released ends with it.
    Settled {
        /// The message.
        message: MessageNumber,
        /// The session.
        session: SessionNumber,
        /// Whether no other session needs it.
        is_last: bool,
    },
    /// The QoS 1 delivery of a queued message has begun.
    Begun {
        /// The message.
        message: MessageNumber,
        /// The session.
        session: SessionNumber,
        /// Its Packet Identifier.
        identifier: PacketIdentifier,
    },
    /// A QoS 2 message with this Packet Identifier has arrived from the client of a session.
    Received(SessionNumber, PacketIdentifier),
    /// The QoS 2 message with this Packet Identifier was released.
    Released(SessionNumber, PacketIdentifier),
    /// A QoS 2 delivery to the client of a session has begun or is about to begin.
    Delivery(SessionNumber, StoredDelivery),
    /// The delivery with this Packet Identifier is complete.
    Completed(SessionNumber, PacketIdentifier),
    /// The message is retained for its topic and replaces any other.
    Retained(Portable),
    /// No message is retained for this topic any longer.
    Cleared(String),
    /// A bridge is owed what is retained for a topic.
    Owed(Owed),
    /// It is no longer.
    Sent(Owed),
    /// The bridge with this Client Identifier is owed nothing.
    NothingOwed(String),
}

/// What a bridge is owed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owed {
    /// The Client Identifier of the bridge in this broker.
    pub client_identifier: String,
    /// The topic whose retained message, or its absence, the other broker does not know. Empty for all retained
    /// messages.
    pub topic: String,
}

/// What is stored of a session.
#[derive(Clone, Debug)]
pub struct StoredSession {
    /// Its number.
    pub number: SessionNumber,
    /// Its Client Identifier.
    pub client_identifier: String,
    /// The User Name that its client has given, if any.
    pub user_name: Option<String>,
    /// Whether the User Name was proved.
    pub is_proved: bool,
    /// The listener by which its client last came in.
    pub listener: ListenerId,
    /// The Session Expiry Interval in seconds.
    pub expiry_interval: u32,
    /// Whether its client is connected.
    pub presence: StoredPresence,
    /// The Will Message that may still have to be published.
    pub will: Option<StoredWill>,
}

/// Whether the client of a session was connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredPresence {
    /// It was, so it may have been sent any QoS 1 message.
    Connected,
    /// It was not.
    Away {
        /// When the session ends.
        ends: Time,
        /// The client may have been sent messages up to this one.
        sent_until: Option<MessageNumber>,
    },
}

/// A Will Message.
#[derive(Clone, Debug)]
pub struct StoredWill {
    /// The message. Its expiry is a duration after [`Time::ZERO`], which begins when the message is published.
    pub message: Portable,
    /// The Will Delay Interval.
    pub delay: Duration,
    /// When it has to be published; [`Time::NEVER`] while the client is connected.
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
    /// Whether some of its retained messages have not been sent yet.
    pub owes_retained: bool,
}

/// A message and its recipients.
#[derive(Clone, Debug)]
pub struct StoredMessage {
    /// Its number.
    pub number: MessageNumber,
    /// The message.
    pub message: Portable,
    /// The recipients; at least one.
    pub recipients: RecipientList,
}

/// The recipients of a message. Nearly always there is one, for which nothing is allocated.
#[derive(Clone, Debug)]
pub enum RecipientList {
    /// A single recipient.
    One(Recipient),
    /// Any number of recipients.
    Many(Vec<Recipient>),
}

/// A session that gets a message.
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
    /// The whole Topic Filter of the Shared Subscription through which the session was chosen, if it was. Then no
    /// other session gets the message under its number.
    pub group: Option<Arc<str>>,
}

/// A QoS 2 delivery in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredDelivery {
    /// Its Packet Identifier.
    pub identifier: PacketIdentifier,
    /// The message.
    pub message: MessageNumber,
    /// Whether the PUBREC has arrived. Then the message itself is settled, and only the PUBREL still has to be
    /// answered.
    pub is_released: bool,
}

/// Records that become durable together or not at all.
#[derive(Debug)]
pub struct Batch {
    /// Its number, one greater than that of the batch before.
    pub number: u64,
    /// When it was closed. All times in it are on the same clock.
    pub now: Time,
    /// In the order in which the changes occurred. A store gets at least one.
    pub records: Vec<Record>,
    /// Messages for the log of the cluster, in the order in which they were published. A store gets none.
    pub log: Vec<Portable>,
}

/// A request for durable messages that are queued for a session. A session has one request at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// The session.
    pub session: SessionNumber,
    /// Numbers of messages in the order of its queue; at least one.
    pub messages: Vec<MessageNumber>,
}

/// The messages read at one time. They are parts of the answers to several [requests](Fetch). The parts of one answer
/// follow the order of the request, and together name each requested message once.
#[derive(Debug, Default)]
pub struct Pages {
    /// The messages that were found, each once for all sessions that get it.
    pub messages: Vec<Portable>,
    /// The page of each session; no session occurs twice.
    pub pages: Vec<Page>,
}

/// A part of the answer to one [`Fetch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The session.
    pub session: SessionNumber,
    /// The next messages of the request.
    pub copies: Vec<PageCopy>,
}

/// One message of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageCopy {
    /// The message's number.
    pub number: MessageNumber,
    /// The index of the message in [`Pages::messages`] and the form of the session's copy. `None` if there is no such
    /// copy.
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

/// What is read when the broker starts: first all sessions, then their subscriptions, then the rest in any order,
/// except that messages come after all deliveries and in the order of their numbers.
#[derive(Clone, Debug)]
pub enum Restored {
    /// A session.
    Session(Box<StoredSession>),
    /// A session that has ended, whose messages must still go to other members of Shared Subscriptions.
    Former(SessionNumber),
    /// A subscription of a session.
    Subscription(SessionNumber, StoredSubscription),
    /// A QoS 2 message that has arrived from the client of a session and is not released.
    Received(SessionNumber, PacketIdentifier),
    /// How long ago messages from this number on were queued for bridges, up to the next one of which the same is known.
    /// They come in rising order.
    Arrived(MessageNumber, Duration),
    /// A QoS 2 delivery in progress, with the copy unless it is released. Deliveries of one session come in the order
    /// of their messages.
    Delivery(SessionNumber, StoredDelivery, Option<Box<StoredCopy>>),
    /// A message of which QoS 1 deliveries have begun. It comes immediately before the same message as
    /// [`Restored::Waiting`].
    Begun {
        /// Its number.
        message: MessageNumber,
        /// The message.
        content: Portable,
        /// The recipients whose deliveries have begun. All have a Packet Identifier.
        recipients: Vec<Recipient>,
    },
    /// A message that sessions need.
    Waiting {
        /// Its number.
        message: MessageNumber,
        /// [Its length](crate::core::message::Publication::length).
        length: usize,
        /// When it expires.
        expires: Time,
        /// The lowest QoS of the queued copies.
        lowest_qos: QoS,
        /// The sessions for which it is queued.
        sessions: Vec<SessionNumber>,
        /// The sessions with a delivery of it that has begun and is not released. At most one of the two lists is
        /// empty.
        in_flight: Vec<SessionNumber>,
        /// The [group](CopyForm::group) through which the only session was chosen, if it was.
        group: Option<Arc<str>>,
        /// The topic, if one of the queued copies has RETAIN.
        retained: Option<Box<str>>,
    },
    /// A retained message.
    Retained(Portable),
    /// What a bridge is owed. It may be a client that is no bridge, if a copy with RETAIN has expired in its queue while
    /// the broker did not run.
    Owed(Owed),
}

/// The numbers to give next, greater than any in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextNumbers {
    /// For sessions.
    pub session: SessionNumber,
    /// For messages.
    pub message: MessageNumber,
}

impl RecipientList {
    /// Adds a recipient.
    pub fn push(&mut self, recipient: Recipient) {
        match self {
            Self::Many(list) if list.is_empty() => *self = Self::One(recipient),
            Self::Many(list) => list.push(recipient),
            Self::One(_) => {
                if let Self::One(first) = std::mem::take(self) {
                    *self = Self::Many(vec![first, recipient]);
                }
            }
        }
    }

    /// Keeps only the wanted recipients.
    pub fn retain(&mut self, wanted: impl Fn(&Recipient) -> bool) {
        match self {
            Self::One(recipient) if wanted(recipient) => {}
            Self::One(_) => *self = Self::default(),
            Self::Many(list) => list.retain(wanted),
        }
    }

    /// Bytes of the list, without what its entries have on the heap.
    pub const fn list_memory(&self) -> usize {
        match self {
            Self::One(_) => 0,
            Self::Many(list) => memory::allocation(list.capacity() * size_of::<Recipient>()),
        }
    }

    /// Bytes of the list, including what its entries have on the heap.
    pub fn memory(&self) -> usize {
        self.list_memory() + self.iter().map(|to| to.form.memory()).sum::<usize>()
    }
}

impl PartialEq for RecipientList {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for RecipientList {}

impl Default for RecipientList {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl std::ops::Deref for RecipientList {
    type Target = [Recipient];

    fn deref(&self) -> &[Recipient] {
        match self {
            Self::One(recipient) => std::slice::from_ref(recipient),
            Self::Many(list) => list,
        }
    }
}

impl From<Vec<Recipient>> for RecipientList {
    fn from(list: Vec<Recipient>) -> Self {
        list.into_iter().collect()
    }
}

impl FromIterator<Recipient> for RecipientList {
    fn from_iter<I: IntoIterator<Item = Recipient>>(recipients: I) -> Self {
        let mut list = Self::default();
        recipients.into_iter().for_each(|recipient| list.push(recipient));
        list
    }
}

impl CopyForm {
    /// Bytes on the heap, without the name of the group, which all messages of the group share.
    pub fn memory(&self) -> usize {
        match self.identifiers.as_slice().len() {
            0 => 0,
            count => memory::allocation(size_of::<Vec<u32>>()) + memory::allocation(count * size_of::<u32>()),
        }
    }
}

impl Record {
    /// Bytes on the heap. Nearly every caller knows the kind of the record; inlined there, this is a constant.
    #[inline(always)]
    pub fn memory(&self) -> usize {
        match self {
            Self::Session(session) => memory::allocation(size_of::<StoredSession>()) + session.memory(),
            Self::Subscribed(_, subscription) => memory::allocation(subscription.filter.len()),
            Self::Listener(_, text)
            | Self::Unsubscribed(_, text)
            | Self::Cleared(text)
            | Self::NothingOwed(text) => memory::allocation(text.len()),
            Self::Owed(owed) | Self::Sent(owed) => {
                memory::allocation(owed.client_identifier.len()) + memory::allocation(owed.topic.len())
            }
            Self::Message(stored) => memory::allocation(stored.message.memory()) + stored.recipients.memory(),
            Self::Retained(message) => memory::allocation(message.memory()),
            Self::SessionEnded { .. }
            | Self::FormerEnded(_)
            | Self::Arrived { .. }
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
