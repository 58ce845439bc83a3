//! A publication that belongs to no thread: on its way to the store and back.

use std::fmt;
use std::sync::Arc;

use super::layout::{length_of, read, write};
use super::{Message, Publication, Spares};

/// Bytes of messages that are copied into one allocation, unless one alone is longer.
const PIECE_BYTES: usize = 64 * 1024;

/// One publication, without the counts that tie a [`Message`] to its thread and to the counted memory. Several may share
/// one allocation, which is freed with the last of them.
#[derive(Clone)]
pub struct Portable {
    bytes: Arc<Vec<u8>>,
    begin: u32,
    length: u32,
}

impl Portable {
    /// Copies a publication.
    pub fn new(publication: &Publication<'_>) -> Self {
        let mut bytes = vec![0; length_of(publication)];
        write(publication, &mut bytes);
        Self::whole(bytes)
    }

    /// Copies the bytes of a message.
    pub(super) fn copied(bytes: &[u8]) -> Self {
        Self::whole(bytes.to_vec())
    }

    fn whole(bytes: Vec<u8>) -> Self {
        let length = short(bytes.len());
        Self { bytes: Arc::new(bytes), begin: 0, length }
    }

    fn bytes(&self) -> &[u8] {
        let (_, rest) = self.bytes.split_at(self.begin as usize);
        rest.split_at(self.length as usize).0
    }

    /// Returns the publication in it.
    pub fn publication(&self) -> Publication<'_> {
        read(self.bytes())
    }

    /// Returns a message of this thread with the same publication.
    pub fn message(&self, spares: &mut Spares) -> Message {
        Message::new(&self.publication(), spares)
    }

    /// The bytes that it takes.
    pub const fn memory(&self) -> usize {
        self.length as usize
    }
}

impl fmt::Debug for Portable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Portable").field(&self.bytes()).finish()
    }
}

/// Messages that are copied one after the other, many into one allocation: what one thread allocates and another one
/// frees costs either of them more than the copy itself.
#[derive(Debug, Default)]
pub struct Portables {
    /// Bytes of the messages that are still to come, at most.
    left: usize,
    bytes: Vec<u8>,
    lengths: Vec<u32>,
    done: Vec<Portable>,
}

impl Portables {
    /// None yet; there will be so many, of this many bytes at most.
    pub fn with_capacity(count: usize, bytes: usize) -> Self {
        Self {
            left: bytes,
            bytes: Vec::with_capacity(bytes.min(PIECE_BYTES)),
            lengths: Vec::with_capacity(count),
            done: Vec::with_capacity(count),
        }
    }

    /// Copies a message.
    pub fn push(&mut self, message: &Message) {
        let length = message.0.len();
        if self.bytes.len() + length > self.bytes.capacity() {
            self.end_piece();
            self.bytes = Vec::with_capacity(self.left.min(PIECE_BYTES).max(length));
        }
        self.bytes.extend_from_slice(&message.0);
        self.lengths.push(short(length));
        self.left = self.left.saturating_sub(length);
    }

    fn end_piece(&mut self) {
        let bytes = Arc::new(std::mem::take(&mut self.bytes));
        let mut begin = 0;
        for length in self.lengths.drain(..) {
            self.done.push(Portable { bytes: Arc::clone(&bytes), begin, length });
            begin += length;
        }
    }

    /// Returns the copies in their order.
    pub fn finish(mut self) -> impl Iterator<Item = Portable> {
        self.end_piece();
        self.done.into_iter()
    }
}

/// A length of something that is hardly longer than a packet.
fn short(length: usize) -> u32 {
    u32::try_from(length).expect("a packet is shorter than 2^28 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Time;
    use crate::protocol::codec::{Properties, QoS};
    use crate::protocol::topic::TopicName;

    #[test]
    fn many_copied_together_are_what_each_is_alone() {
        let messages = [0, 1, 100, PIECE_BYTES, 7, PIECE_BYTES - 100, 50, 50].map(|length| {
            let payload: Vec<u8> = (0..=250).cycle().take(length).collect();
            let publication = Publication {
                topic: TopicName::new("t").unwrap(),
                payload: &payload,
                qos: QoS::AtLeastOnce,
                retain: length == 7,
                publisher: Some("p").filter(|_| length > 50),
                properties: Properties::default(),
                expires: Time::from_milliseconds(length as u64),
            };
            Message::new(&publication, &mut Spares::default())
        });
        let mut together = Portables::with_capacity(messages.len(), 4 * PIECE_BYTES);
        messages.iter().for_each(|message| together.push(message));
        let together: Vec<Portable> = together.finish().collect();
        assert_eq!(together.len(), messages.len());
        for (portable, message) in together.iter().zip(&messages) {
            assert_eq!(format!("{portable:?}"), format!("{:?}", message.portable()));
            assert_eq!(portable.memory(), message.portable().memory());
            assert_eq!(portable.publication().payload, message.payload());
        }
        let allocations: std::collections::BTreeSet<_> =
            together.iter().map(|portable| portable.bytes.as_ptr()).collect();
        assert!(allocations.len() < messages.len(), "several lie together");
    }
}
