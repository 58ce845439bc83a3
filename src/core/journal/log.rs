//! Messages for the log of the cluster.

use crate::base::memory;
use crate::core::message::Portable;

/// The messages of the open batch, in the order in which they were published.
#[derive(Debug, Default)]
pub(super) struct Log {
    messages: Vec<Portable>,
    /// Bytes that they have on the heap.
    bytes: usize,
    /// Whether the current message is one of them.
    is_current: bool,
}

impl Log {
    pub(super) fn push(&mut self, message: Portable) {
        self.bytes += memory::allocation(message.memory());
        self.messages.push(message);
        self.is_current = true;
    }

    /// Begins with another current message.
    #[inline]
    pub(super) const fn begin(&mut self) {
        self.is_current = false;
    }

    /// Returns whether the current message is for the log. After this there is no current message.
    pub(super) const fn take_current(&mut self) -> bool {
        std::mem::replace(&mut self.is_current, false)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Takes the messages, and the bytes that they have on the heap.
    pub(super) fn take(&mut self) -> (Vec<Portable>, usize) {
        (std::mem::take(&mut self.messages), std::mem::take(&mut self.bytes))
    }

    /// Bytes of memory used.
    pub(super) const fn memory(&self) -> usize {
        memory::allocation(self.messages.capacity() * size_of::<Portable>()) + self.bytes
    }
}
