//! A publication that belongs to nobody's thread: on its way to the store and back.

use super::layout::{length_of, read, write};
use super::{Message, Publication, Spares};

/// One publication in one allocation, without the counters that tie a [`Message`] to its thread and its memory.
#[derive(Clone, Debug)]
pub struct Portable(Box<[u8]>);

impl Portable {
    /// Copies a publication.
    pub fn new(publication: &Publication<'_>) -> Self {
        let mut bytes = vec![0; length_of(publication)].into_boxed_slice();
        write(publication, &mut bytes);
        Self(bytes)
    }

    /// Copies what a message holds.
    pub(super) fn copied(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// The publication in it.
    pub fn publication(&self) -> Publication<'_> {
        read(&self.0)
    }

    /// The same as a message of this thread.
    pub fn message(&self, spares: &mut Spares) -> Message {
        Message::new(&self.publication(), spares)
    }

    /// Bytes that it takes.
    pub const fn memory(&self) -> usize {
        self.0.len()
    }
}
