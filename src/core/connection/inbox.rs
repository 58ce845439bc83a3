//! Received bytes of one connection that could not be processed yet: an incomplete packet, or what follows a packet
//! that waits for an answer. An idle connection has none.

use crate::base::memory::{self, Audit, Bytes, Counted};
use crate::base::time::{Duration, Time};
use crate::protocol::codec::{Status, frame};

/// How fast a packet in progress must grow to count as a sign of life, in bytes a second.
const PROGRESS_BYTES_PER_SECOND: u64 = 1024;

/// The waiting bytes. The buffer grows as bytes arrive, never by a length that the peer claims.
#[derive(Debug, Default)]
pub struct Inbox(Option<Box<Waiting>>);

#[derive(Debug)]
struct Waiting {
    bytes: Bytes,
    /// When progress was last checked.
    judged: Time,
    /// The bytes that have come since.
    fresh: u64,
    counted: Counted,
}

impl Default for Waiting {
    fn default() -> Self {
        let counted = Counted::new(memory::allocation(size_of::<Self>()));
        Self { bytes: Bytes::default(), judged: Time::default(), fresh: 0, counted }
    }
}

impl Inbox {
    /// The number of waiting bytes.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |held| held.bytes.len())
    }

    /// Whether no byte waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The waiting bytes.
    pub fn bytes(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |held| &held.bytes)
    }

    /// How many bytes would have to be allocated for `more` further bytes.
    pub fn growth(&self, more: usize) -> usize {
        let (length, capacity) =
            self.0.as_ref().map_or((0, 0), |held| (held.bytes.len(), held.bytes.capacity()));
        let needed = length + more;
        if needed <= capacity { 0 } else { needed.max(2 * capacity) }
    }

    /// Appends bytes to those that wait.
    pub fn append(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let held = self.0.get_or_insert_default();
        held.bytes.edit(|held| held.extend_from_slice(bytes));
        held.fresh += bytes.len() as u64;
    }

    /// Adds as much of `bytes` as the first waiting packet lacks and returns the rest, which can then be processed in
    /// place.
    pub fn complete_first<'a>(&mut self, mut bytes: &'a [u8], maximum_packet_size: usize) -> &'a [u8] {
        while !bytes.is_empty() {
            let held = self.0.as_ref().map_or(&[][..], |held| &*held.bytes);
            let Ok(Status::Incomplete { needed }) = frame(held, maximum_packet_size) else { break };
            let (lacking, rest) = bytes.split_at(bytes.len().min(needed - held.len()));
            self.append(lacking);
            bytes = rest;
        }
        bytes
    }

    /// Takes all bytes, to be processed.
    pub fn take(&mut self) -> Bytes {
        self.0.as_mut().map_or_else(Bytes::default, |held| std::mem::take(&mut held.bytes))
    }

    /// Puts back what [`Inbox::take`] returned, without its first `used` bytes. Nothing was appended in between.
    pub fn put_back(&mut self, mut bytes: Bytes, used: usize) {
        if used == bytes.len() {
            self.0 = None;
            return;
        }
        bytes.edit(|bytes| drop(bytes.drain(..used)));
        let held = self.0.get_or_insert_default();
        held.fresh = if used > 0 { bytes.len() as u64 } else { held.fresh };
        held.bytes = bytes;
    }

    /// Adds the memory that it holds to an audit.
    pub fn audit(&self, audit: &mut Audit) {
        audit.add(self.0.as_ref().map_or(0, |held| held.bytes.memory() + held.counted.bytes()));
    }

    /// Whether a packet in progress grew by at least 1 KiB a second since the last check or, if that is later, since
    /// the peer was `heard`. The next check is about what comes from now on.
    pub fn has_progressed(&mut self, heard: Time, now: Time) -> bool {
        let Some(held) = &mut self.0 else { return false };
        let fresh = std::mem::take(&mut held.fresh);
        let since = std::mem::replace(&mut held.judged, now).max(heard);
        let span: Duration = now.since(since);
        fresh > 0 && fresh * 1000 >= span.milliseconds() * PROGRESS_BYTES_PER_SECOND
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_inbox_holds_nothing() {
        let mut inbox = Inbox::default();
        inbox.append(b"");
        assert!(inbox.0.is_none());
        inbox.append(b"abc");
        let bytes = inbox.take();
        inbox.put_back(bytes, 3);
        assert!(inbox.0.is_none());
    }

    #[test]
    fn a_burst_counts_once() {
        let mut inbox = Inbox::default();
        inbox.append(&[0; 4096]);
        let at = Time::from_milliseconds;
        assert!(inbox.has_progressed(at(0), at(4_000)));
        inbox.append(&[0; 600]);
        assert!(inbox.has_progressed(at(0), at(4_500)), "bytes are counted once");
        assert!(!inbox.has_progressed(at(0), at(5_000)));
        inbox.append(&[0; 1023]);
        assert!(!inbox.has_progressed(at(0), at(6_000)));
        inbox.append(&[0; 1023]);
        assert!(inbox.has_progressed(at(6_001), at(7_000)), "the peer was heard since");
    }
}
