//! A publication that belongs to no thread: on its way to the store and back.

use super::layout::{length_of, read, write};
use super::{Message, Publication, Spares};

/// One publication in one allocation, without the counts that tie a [`Message`] to its thread and to the counted
/// memory.
#[derive(Clone, Debug)]
pub struct Portable(Box<[u8]>);

impl Portable {
    /// Copies a publication.
    pub fn new(publication: &Publication<'_>) -> Self {
        let mut bytes = vec![0; length_of(publication)].into_boxed_slice();
        write(publication, &mut bytes);
        Self(bytes)
    }

    /// Copies the bytes of a message.
    pub(super) fn copied(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// Returns the publication in it.
    pub fn publication(&self) -> Publication<'_> {
        read(&self.0)
    }

    /// Returns a message of this thread with the same publication.
    pub fn message(&self, spares: &mut Spares) -> Message {
        Message::new(&self.publication(), spares)
    }

    /// The bytes that it takes.
    pub const fn memory(&self) -> usize {
        self.0.len()
    }
}
