//! Requests of sessions for stored messages. Some wait in their order until there is room for the messages; for the
//! others the store is reading.

use std::collections::BTreeMap;

use super::ENTRY_BYTES;
use super::record::SessionNumber;

/// The progress of a session's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// It waits at this position of the list.
    Waits(u64),
    /// The store is reading. `left` messages are still to come; `bytes` is the approximate size of all of them.
    Underway { left: usize, bytes: usize },
}

/// The requests. A session asks for one page at a time, so it is here at most once.
#[derive(Debug, Default)]
pub struct Fetches {
    asked: BTreeMap<SessionNumber, Asked>,
    /// Waiting sessions by their position.
    waiting: BTreeMap<u64, SessionNumber>,
    next_place: u64,
    underway_bytes: usize,
}

impl Fetches {
    /// Adds a request for the session's next page, unless it has one.
    pub fn ask(&mut self, session: SessionNumber) {
        if self.asked.contains_key(&session) {
            return;
        }
        let place = self.next_place;
        self.next_place += 1;
        self.asked.insert(session, Asked::Waits(place));
        self.waiting.insert(place, session);
    }

    /// Returns the session whose turn it is.
    pub fn first_waiting(&self) -> Option<SessionNumber> {
        self.waiting.first_key_value().map(|(_, &session)| session)
    }

    /// Withdraws a waiting request. What the store is already reading is read to its end.
    pub fn withdraw(&mut self, session: SessionNumber) {
        if let Some(&Asked::Waits(place)) = self.asked.get(&session) {
            self.asked.remove(&session);
            self.waiting.remove(&place);
        }
    }

    /// Records that the store begins to read `count` messages for a session, of about this many bytes.
    pub fn begin(&mut self, session: SessionNumber, count: usize, bytes: usize) {
        self.withdraw(session);
        self.asked.insert(session, Asked::Underway { left: count, bytes });
        self.underway_bytes += bytes;
    }

    /// Records that `count` messages have been read for a session. Returns true if they complete its page.
    pub fn have_come(&mut self, session: SessionNumber, count: usize) -> bool {
        let Some(Asked::Underway { left, bytes }) = self.asked.get_mut(&session) else { return false };
        *left = left.saturating_sub(count);
        let is_over = *left == 0;
        if is_over {
            self.underway_bytes -= *bytes;
            self.asked.remove(&session);
        }
        is_over
    }

    /// Approximate bytes of the messages that the store is reading.
    pub const fn underway_bytes(&self) -> usize {
        self.underway_bytes
    }

    /// Bytes of memory used, including the messages being read.
    pub fn memory(&self) -> usize {
        (self.asked.len() + self.waiting.len()) * ENTRY_BYTES + self.underway_bytes
    }
}
