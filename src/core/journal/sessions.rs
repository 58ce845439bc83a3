//! Sessions that are kept: their numbers, and which of them have changed.

use std::collections::BTreeMap;

use super::{ENTRY_BYTES, SessionNumber};
use crate::base::memory;
use crate::core::slots::SessionId;

/// The sessions that are kept.
#[derive(Debug)]
pub(super) struct Sessions {
    /// The number of the next new one.
    next: SessionNumber,
    /// Their numbers, by the index of their slot.
    numbers: Vec<Option<SessionNumber>>,
    /// The same, by number.
    by_number: BTreeMap<SessionNumber, SessionId>,
    /// Those that are other than the store has them, and about how many bytes it takes to say so.
    changed: BTreeMap<SessionId, usize>,
    changed_bytes: usize,
}

impl Sessions {
    /// None yet; this will be the number of the first.
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

    /// Keeps a session from now on. Returns its number, a new one if it had none.
    pub(super) fn keep(&mut self, session: SessionId) -> SessionNumber {
        if let Some(number) = self.number_of(session) {
            return number;
        }
        let number = self.next;
        self.next = number.next();
        self.adopt(session, number);
        number
    }

    /// A session is kept under this number, which is in the store already.
    pub(super) fn adopt(&mut self, session: SessionId, number: SessionNumber) {
        if self.numbers.len() <= session.index() {
            self.numbers.resize(session.index() + 1, None);
        }
        self.numbers[session.index()] = Some(number);
        self.by_number.insert(number, session);
    }

    /// A session has changed. To persist it takes about this many bytes. False if it is not kept.
    pub(super) fn change(&mut self, session: SessionId, bytes: usize) -> bool {
        if self.number_of(session).is_none() {
            return false;
        }
        let bytes = bytes + ENTRY_BYTES;
        let before = self.changed.insert(session, bytes).unwrap_or(0);
        self.changed_bytes = self.changed_bytes + bytes - before;
        true
    }

    /// Takes those that have changed.
    pub(super) fn take_changed(&mut self) -> Vec<SessionId> {
        self.changed_bytes = 0;
        std::mem::take(&mut self.changed).into_keys().collect()
    }

    /// A session has ended. Returns its number, if it was kept.
    pub(super) fn end(&mut self, session: SessionId) -> Option<SessionNumber> {
        let number = self.numbers.get_mut(session.index()).and_then(Option::take)?;
        self.by_number.remove(&number);
        self.changed_bytes -= self.changed.remove(&session).unwrap_or(0);
        Some(number)
    }

    /// Bytes that persisting what has changed takes, about.
    pub(super) const fn pending_bytes(&self) -> usize {
        self.changed_bytes
    }

    /// Bytes that they take here.
    pub(super) fn memory(&self) -> usize {
        memory::allocation(self.numbers.capacity() * size_of::<Option<SessionNumber>>())
            + (self.by_number.len() + self.changed.len()) * ENTRY_BYTES
    }
}
