//! The bytes that are to be sent to the server.

use crate::base::memory::Bytes;
use crate::base::time::Time;

/// The number of sent bytes from which on they are removed from the front.
const SENT_KEPT: usize = 64 * 1024;
/// The capacity in bytes that an empty buffer keeps at most.
const CAPACITY_KEPT: usize = 256 * 1024;

/// Bytes to be sent.
#[derive(Debug, Default)]
pub struct Output {
    bytes: Bytes,
    /// How many bytes at the front were sent.
    sent: usize,
    /// Since when there have been bytes of which none was sent, as far as it was looked at.
    stuck: Option<Time>,
}

impl Output {
    /// The bytes that are to be sent.
    pub fn pending(&self) -> &[u8] {
        self.bytes.split_at(self.sent).1
    }

    /// Their number.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// Appends what `write` writes.
    pub fn write<R>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        self.bytes.edit(write)
    }

    /// Since when there have been bytes of which none was sent.
    pub const fn stuck(&self) -> Option<Time> {
        self.stuck
    }

    /// Looks whether there are bytes to be sent.
    pub fn look(&mut self, now: Time) {
        self.stuck = if self.len() == 0 { None } else { self.stuck.or(Some(now)) };
    }

    /// `count` of the pending bytes were sent.
    ///
    /// # Panics
    ///
    /// If there are fewer.
    pub fn advance(&mut self, count: usize, now: Time) {
        assert!(count <= self.len(), "{count} of {} bytes were sent", self.len());
        self.sent += count;
        if count > 0 {
            self.stuck = None;
        }
        self.look(now);
        if self.len() == 0 {
            self.clear();
        } else if self.sent >= SENT_KEPT && self.sent >= self.len() {
            let sent = std::mem::take(&mut self.sent);
            self.bytes.edit(|bytes| drop(bytes.drain(..sent)));
        }
    }

    /// Drops everything that was not sent.
    pub fn clear(&mut self) {
        (self.sent, self.stuck) = (0, None);
        self.bytes.edit(|bytes| {
            bytes.clear();
            if bytes.capacity() > CAPACITY_KEPT {
                *bytes = Vec::new();
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_removed_and_the_rest_stays() {
        let mut output = Output::default();
        let bytes: Vec<u8> = (0..200_000_u32).map(|number| number.to_le_bytes()[0]).collect();
        output.write(|into| into.extend_from_slice(&bytes));
        for piece in bytes.chunks(7_000) {
            assert!(output.pending().starts_with(piece));
            output.advance(piece.len(), Time::ZERO);
        }
        assert_eq!((output.len(), output.sent), (0, 0));
        output.write(|into| into.extend_from_slice(&[0; CAPACITY_KEPT + 1]));
        output.clear();
        assert_eq!(output.bytes.capacity(), 0);
    }
}
