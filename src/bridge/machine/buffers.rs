//! The bytes of one connection: those that were received but not processed, and those that are to be sent.

use crate::base::memory::Bytes;

/// The bytes of output from which on no more messages are read that would be added to it. Acknowledgements of messages
/// that are not forwarded may be added up to twice as much. With one more packet of a usual size, they fit into a buffer
/// of 128 KiB, to which a growing one doubles its capacity.
pub const OUTPUT_MAXIMUM: usize = 96 * 1024;

/// The capacity in bytes that an empty buffer keeps at most.
const CAPACITY_KEPT: usize = 128 * 1024;

/// Bytes to be sent.
#[derive(Debug, Default)]
pub struct Output {
    bytes: Bytes,
    /// How many bytes at the front were sent.
    sent: usize,
}

impl Output {
    /// The bytes that are to be sent.
    #[inline]
    pub fn pending(&self) -> &[u8] {
        self.bytes.split_at(self.sent).1
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline]
    pub fn is_full(&self) -> bool {
        self.len() >= OUTPUT_MAXIMUM
    }

    /// Whether not even acknowledgements may be added.
    #[inline]
    pub fn is_overfull(&self) -> bool {
        self.len() >= 2 * OUTPUT_MAXIMUM
    }

    /// Appends what `write` writes.
    #[inline]
    pub fn write(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.bytes.edit(write);
    }

    /// `count` of the pending bytes were sent.
    ///
    /// # Panics
    ///
    /// If there are fewer.
    pub fn advance(&mut self, count: usize) {
        assert!(count <= self.len(), "{count} of {} bytes were sent", self.len());
        self.sent += count;
        if self.is_empty() {
            self.clear();
        } else if self.sent >= OUTPUT_MAXIMUM {
            let sent = std::mem::take(&mut self.sent);
            self.bytes.edit(|bytes| drop(bytes.drain(..sent)));
        }
    }

    /// Drops everything that was not sent.
    pub fn clear(&mut self) {
        self.sent = 0;
        clear(&mut self.bytes);
    }
}

/// Received bytes that were not processed: a part of a packet, or packets that have to wait.
#[derive(Debug, Default)]
pub struct Input {
    bytes: Bytes,
}

impl Input {
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Appends received bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        self.bytes.edit(|buffer| buffer.extend_from_slice(bytes));
    }

    /// Takes everything, to process it.
    pub fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.bytes)
    }

    /// Puts back what was taken, without the first `processed` bytes.
    pub fn put_back(&mut self, mut bytes: Bytes, processed: usize) {
        if processed == bytes.len() {
            clear(&mut bytes);
        } else if processed > 0 {
            bytes.edit(|buffer| drop(buffer.drain(..processed)));
        }
        self.bytes = bytes;
    }

    pub fn clear(&mut self) {
        clear(&mut self.bytes);
    }
}

fn clear(bytes: &mut Bytes) {
    bytes.edit(|buffer| {
        buffer.clear();
        if buffer.capacity() > CAPACITY_KEPT {
            *buffer = Vec::new();
        }
    });
}
