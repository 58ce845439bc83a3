//! One publication on its way: borrowed while it is routed, kept as one allocation where it must wait, and
//! encoded once for all receivers that get the same bytes.
//!
//! May know the codec and time, nothing of sessions or connections.

mod encoder;
mod layout;
mod outbound;
mod portable;
mod publication;
mod spares;

use std::rc::Rc;

use crate::base::memory::{self, Audit};
use crate::base::time::Time;

pub use encoder::{Encoded, Encoder, Naming, ReceiverCopy};
pub use outbound::Outbound;
pub use portable::Portable;
pub use publication::{Publication, Publisher};
pub use spares::Spares;

use layout::{HEADER_LENGTH, length_of, read, write};

/// What counts the holders of a [`Message`].
const COUNTERS_LENGTH: usize = 2 * size_of::<usize>();

/// Bytes of an allocation that are the allocator's own.
const ALLOCATION_HEADER_LENGTH: usize = 8;

/// A publication that is kept: in a queue, in flight, retained, or as a large payload in an outbox. Immutable,
/// one allocation, shared by counting.
#[derive(Clone, Debug)]
pub struct Message(Rc<[u8]>);

impl Drop for Message {
    /// The last one to let go gives the memory back.
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
        write(publication, Rc::get_mut(&mut message.0).expect("nobody else holds it"));
        memory::count_stored(publication.payload.len());
        message
    }

    /// Room for so many bytes, and what the allocator adds to them anyway.
    #[inline(never)]
    fn blank(length: usize) -> Self {
        let unused = memory::allocation(length + COUNTERS_LENGTH) - COUNTERS_LENGTH - length;
        let padding = unused.saturating_sub(ALLOCATION_HEADER_LENGTH);
        let message = Self(std::iter::repeat_n(0, length + padding).collect());
        memory::claim(message.memory());
        message
    }

    /// Whether there is no other holder.
    #[inline]
    fn is_only_holder(&mut self) -> bool {
        Rc::get_mut(&mut self.0).is_some()
    }

    /// The publication in it.
    pub fn publication(&self) -> Publication<'_> {
        read(&self.0)
    }

    /// A copy that may go to another thread.
    pub fn portable(&self) -> Portable {
        Portable::copied(&self.0)
    }

    /// Adds what it takes to an audit.
    pub fn audit(&self, audit: &mut Audit) {
        audit.add_shared(self.0.as_ptr().addr(), self.memory());
    }

    /// When its Message Expiry Interval has passed.
    pub fn expires(&self) -> Time {
        layout::expires(&self.0)
    }

    /// The Topic Name's bytes: cheaper than the whole [`Message::publication`].
    pub fn topic_bytes(&self) -> &[u8] {
        layout::topic_bytes(&self.0)
    }

    /// The Application Message alone.
    pub fn payload(&self) -> &[u8] {
        layout::payload(&self.0)
    }

    /// The length of the Application Message in bytes.
    #[inline]
    fn payload_length(&self) -> usize {
        layout::payload_length(&self.0)
    }

    /// What a message made of `publication` would cost in memory.
    #[inline]
    pub fn memory_of(publication: &Publication<'_>) -> usize {
        Self::memory_of_length(publication.length())
    }

    /// The same for one of so many bytes, see [`Publication::length`].
    #[inline]
    pub const fn memory_of_length(length: usize) -> usize {
        memory::allocation(HEADER_LENGTH + length + COUNTERS_LENGTH)
    }

    /// What it costs in memory, in bytes, its counters included.
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
    fn a_message_gives_back_what_it_was_made_of() {
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
