//! Sessions that ask for messages in the store: those that wait until there is room for what would be read, in their
//! order, and those for which it is being read.

use std::collections::BTreeMap;

use super::ENTRY_BYTES;
use super::record::SessionNumber;

/// How far a session has come that asks for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// It waits, at this place in the list.
    Waits(u64),
    /// So many messages are still to be read for it; all of them took about so many bytes when they were asked for.
    Underway { left: usize, bytes: usize },
}

/// What sessions ask for. Each asks for one page at a time, and is in here once.
#[derive(Debug, Default)]
pub struct Fetches {
    asked: BTreeMap<SessionNumber, Asked>,
    /// Those that wait, by their place.
    waiting: BTreeMap<u64, SessionNumber>,
    next_place: u64,
    underway_bytes: usize,
}

impl Fetches {
    /// A session asks for its next page, unless it does already.
    pub fn ask(&mut self, session: SessionNumber) {
        if self.asked.contains_key(&session) {
            return;
        }
        let place = self.next_place;
        self.next_place += 1;
        self.asked.insert(session, Asked::Waits(place));
        self.waiting.insert(place, session);
    }

    /// The session whose turn it is.
    pub fn first_waiting(&self) -> Option<SessionNumber> {
        self.waiting.first_key_value().map(|(_, &session)| session)
    }

    /// A session asks for nothing any more. What is being read for it is read to its end.
    pub fn withdraw(&mut self, session: SessionNumber) {
        if let Some(&Asked::Waits(place)) = self.asked.get(&session) {
            self.asked.remove(&session);
            self.waiting.remove(&place);
        }
    }

    /// So many messages are being read for a session from now on, of about so many bytes.
    pub fn begin(&mut self, session: SessionNumber, count: usize, bytes: usize) {
        self.withdraw(session);
        self.asked.insert(session, Asked::Underway { left: count, bytes });
        self.underway_bytes += bytes;
    }

    /// So many messages have been read for a session. True if these were the last ones of its page.
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

    /// About how many bytes are being read.
    pub const fn underway_bytes(&self) -> usize {
        self.underway_bytes
    }

    /// Bytes that they take, with what is being read.
    pub fn memory(&self) -> usize {
        (self.asked.len() + self.waiting.len()) * ENTRY_BYTES + self.underway_bytes
    }
}
