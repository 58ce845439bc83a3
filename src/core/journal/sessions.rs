//! The persistent sessions: their numbers, and which of them have changed.

use std::collections::BTreeMap;

use super::{ENTRY_BYTES, SessionNumber};
use crate::base::memory;
use crate::core::slots::SessionId;

/// The persistent sessions.
#[derive(Debug)]
pub(super) struct Sessions {
    /// The number for the next new session.
    next: SessionNumber,
    /// Numbers of the sessions, by the index of their slot.
    numbers: Vec<Option<SessionNumber>>,
    /// The sessions by number.
    by_number: BTreeMap<SessionNumber, SessionId>,
    /// The sessions that differ from those in the store, and the approximate bytes of each to be persisted.
    changed: BTreeMap<SessionId, usize>,
    changed_bytes: usize,
}

impl Sessions {
    /// Begins without sessions. `next` will be the number of the first one.
    pub(super) const fn new(next: SessionNumber) -> Self {
        Self {
            next,
            numbers: Vec::new(),
            by_number: BTreeMap::new(),
            changed: BTreeMap::new(),
            changed_bytes: 0,
        }
    }

    #[inline]
    pub(super) fn number_of(&self, session: SessionId) -> Option<SessionNumber> {
        self.numbers.get(session.index()).copied().flatten()
    }

    pub(super) fn session_of(&self, number: SessionNumber) -> Option<SessionId> {
        self.by_number.get(&number).copied()
    }

    /// Persists a session from now on. Returns its number, which is new if it had none.
    pub(super) fn keep(&mut self, session: SessionId) -> SessionNumber {
        if let Some(number) = self.number_of(session) {
            return number;
        }
        let number = self.next;
        self.next = number.next();
        self.adopt(session, number);
        number
    }

    /// Persists a session under a number that it already has in the store.
    pub(super) fn adopt(&mut self, session: SessionId, number: SessionNumber) {
        if self.numbers.len() <= session.index() {
            self.numbers.resize(session.index() + 1, None);
        }
        self.numbers[session.index()] = Some(number);
        self.by_number.insert(number, session);
    }

    /// Notes that a session has changed. Persisting it takes about this many bytes. Returns false if it is not
    /// persistent.
    pub(super) fn change(&mut self, session: SessionId, bytes: usize) -> bool {
        if self.number_of(session).is_none() {
            return false;
        }
        let bytes = bytes + ENTRY_BYTES;
        let before = self.changed.insert(session, bytes).unwrap_or(0);
        self.changed_bytes = self.changed_bytes + bytes - before;
        true
    }

    /// Takes the sessions that have changed.
    pub(super) fn take_changed(&mut self) -> Vec<SessionId> {
        self.changed_bytes = 0;
        std::mem::take(&mut self.changed).into_keys().collect()
    }

    /// Removes a session that has ended. Returns its number if it was persistent.
    pub(super) fn end(&mut self, session: SessionId) -> Option<SessionNumber> {
        let number = self.numbers.get_mut(session.index()).and_then(Option::take)?;
        self.by_number.remove(&number);
        self.changed_bytes -= self.changed.remove(&session).unwrap_or(0);
        Some(number)
    }

    /// Approximate bytes to be persisted.
    pub(super) const fn pending_bytes(&self) -> usize {
        self.changed_bytes
    }

    /// Bytes of memory used.
    pub(super) fn memory(&self) -> usize {
        memory::allocation(self.numbers.capacity() * size_of::<Option<SessionNumber>>())
            + (self.by_number.len() + self.changed.len()) * ENTRY_BYTES
    }
}
