//! One publication on its way: borrowed while it is routed, copied into one allocation where it has to wait, and
//! encoded once for all receivers that get the same bytes.
//!
//! It may know the codec and time, but not sessions or connections.

mod encoder;
mod layout;
mod outbound;
mod portable;
mod publication;
mod spares;

use std::rc::Rc;

use crate::base::memory::{self, Audit};
use crate::base::time::Time;
use crate::protocol::codec::PlainMessage;

pub use encoder::{Encoded, Encoder, Naming, ReceiverCopy};
pub use outbound::Outbound;
pub use portable::{Portable, Portables};
pub use publication::{Publication, Publisher};
pub use spares::Spares;

use layout::{HEADER_LENGTH, length_of, read, write};

/// The bytes of the reference counts of a [`Message`].
const COUNTERS_LENGTH: usize = 2 * size_of::<usize>();

/// The bytes of an allocation that the allocator itself uses.
const ALLOCATION_HEADER_LENGTH: usize = 8;

/// A stored publication: in a queue, in flight, retained, or as a large payload in an outbox. Immutable, one
/// allocation, shared by reference counting.
#[derive(Clone, Debug)]
pub struct Message(Rc<[u8]>);

impl Drop for Message {
    /// The last owner releases the memory.
    #[inline]
    fn drop(&mut self) {
        if Rc::strong_count(&self.0) == 1 {
            memory::discount_stored(self.payload_length());
            memory::release(self.memory());
        }
    }
}

impl Message {
    /// Copies a publication into an allocation of its own, a spare one if there is one.
    pub fn new(publication: &Publication<'_>, spares: &mut Spares) -> Self {
        let length = length_of(publication);
        let mut message = spares.take(Self::memory_of(publication)).unwrap_or_else(|| Self::blank(length));
        write(publication, Rc::get_mut(&mut message.0).expect("there is no other owner"));
        memory::count_stored(publication.payload.len());
        message
    }

    /// Returns a message of `length` zero bytes, and of those that the allocator adds anyway.
    #[inline(never)]
    fn blank(length: usize) -> Self {
        let unused = memory::allocation(length + COUNTERS_LENGTH) - COUNTERS_LENGTH - length;
        let padding = unused.saturating_sub(ALLOCATION_HEADER_LENGTH);
        let message = Self(std::iter::repeat_n(0, length + padding).collect());
        memory::claim(message.memory());
        message
    }

    /// Whether there is no other owner.
    #[inline]
    fn is_only_holder(&mut self) -> bool {
        Rc::get_mut(&mut self.0).is_some()
    }

    /// Returns the publication in it.
    pub fn publication(&self) -> Publication<'_> {
        read(&self.0)
    }

    /// Returns a copy that may be sent to another thread.
    pub fn portable(&self) -> Portable {
        Portable::copied(&self.0)
    }

    /// Adds the memory that it holds to an audit.
    pub fn audit(&self, audit: &mut Audit) {
        audit.add_shared(self.0.as_ptr().addr(), self.memory());
    }

    /// When its Message Expiry Interval ends.
    pub fn expires(&self) -> Time {
        layout::expires(&self.0)
    }

    /// The bytes of the Topic Name: cheaper than the whole [`Message::publication`].
    pub fn topic_bytes(&self) -> &[u8] {
        layout::topic_bytes(&self.0)
    }

    /// The Application Message alone.
    pub fn payload(&self) -> &[u8] {
        layout::payload(&self.0)
    }

    /// What is sent of it, if that is no more than topic and payload.
    #[inline]
    pub fn plain(&self) -> Option<PlainMessage<'_>> {
        layout::plain(&self.0)
    }

    /// The length of the Application Message in bytes.
    #[inline]
    pub fn payload_length(&self) -> usize {
        layout::payload_length(&self.0)
    }

    /// The bytes of memory that a message made of `publication` takes.
    #[inline]
    pub fn memory_of(publication: &Publication<'_>) -> usize {
        Self::memory_of_length(publication.length())
    }

    /// The same for a publication of this length, see [`Publication::length`].
    #[inline]
    pub const fn memory_of_length(length: usize) -> usize {
        memory::allocation(HEADER_LENGTH + length + COUNTERS_LENGTH)
    }

    /// The bytes of memory that it takes, including its reference counts.
    pub fn memory(&self) -> usize {
        memory::allocation(self.0.len() + COUNTERS_LENGTH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::codec::{Properties, QoS};
    use crate::protocol::topic::TopicName;

    #[test]
    fn a_message_returns_the_publication_it_was_made_of() {
        let publication = Publication {
            topic: TopicName::new("a/b").unwrap(),
            payload: b"hello",
            qos: QoS::AtLeastOnce,
            retain: true,
            publisher: Some("p"),
            properties: Properties::default(),
            expires: Time::from_milliseconds(10_000),
        };
        let message = Message::new(&publication, &mut Spares::default());
        let back = message.publication();
        assert_eq!((back.topic.as_str(), back.payload, back.qos, back.retain), {
            ("a/b", b"hello".as_slice(), QoS::AtLeastOnce, true)
        });
        assert_eq!((back.expires, back.publisher), (Time::from_milliseconds(10_000), Some("p")));
        assert_eq!((message.topic_bytes(), message.payload()), (b"a/b".as_slice(), b"hello".as_slice()));
    }
}
