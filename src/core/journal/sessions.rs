//! Sessions that are kept: their numbers, what has to be written of them, and what they leave.

use std::collections::VecDeque;

use super::{ENTRY_BYTES, Journal, MessageNumber, Record, SessionNumber, Urgency, leftover_bytes};
use crate::base::time::Time;
use crate::core::slots::SessionId;

impl Journal {
    /// The number under which a session is kept, if it is.
    #[inline]
    pub fn number_of(&self, session: SessionId) -> Option<SessionNumber> {
        self.numbers.get(session.index()).copied().flatten()
    }

    /// The session that is kept under a number.
    pub fn session_of(&self, number: SessionNumber) -> Option<SessionId> {
        self.sessions.get(&number).copied()
    }

    /// Keeps a session from now on. Returns its number, a new one if it had none.
    pub fn keep(&mut self, session: SessionId) -> SessionNumber {
        if let Some(number) = self.number_of(session) {
            return number;
        }
        let number = self.next_session;
        self.next_session = number.next();
        self.adopt(session, number);
        number
    }

    /// A session is kept under this number, which is in the store already.
    pub fn adopt(&mut self, session: SessionId, number: SessionNumber) {
        if self.numbers.len() <= session.index() {
            self.numbers.resize(session.index() + 1, None);
        }
        self.numbers[session.index()] = Some(number);
        self.sessions.insert(number, session);
    }

    /// A session has changed. To persist it takes about this many bytes.
    pub fn change(&mut self, session: SessionId, bytes: usize, urgency: Urgency, now: Time) {
        if self.number_of(session).is_some() {
            let bytes = bytes + ENTRY_BYTES;
            let before = self.changed.insert(session, bytes).unwrap_or(0);
            self.changed_bytes = self.changed_bytes + bytes - before;
            self.hurry(urgency, now);
        }
    }

    /// The session of a client has ended; it leaves messages that it no longer needs, and perhaps others to [other
    /// members](Record::SessionEnded) of Shared Subscriptions.
    pub fn end(
        &mut self,
        session: SessionId,
        client: &str,
        messages: VecDeque<MessageNumber>,
        leaves_shared: bool,
        now: Time,
    ) {
        let Some(number) = self.numbers.get_mut(session.index()).and_then(Option::take) else { return };
        self.sessions.remove(&number);
        self.changed_bytes -= self.changed.remove(&session).unwrap_or(0);
        self.fetches.withdraw(number);
        self.record(Record::SessionEnded { session: number, leaves_shared }, Urgency::Lazy, now);
        self.leave(number, messages, now);
        self.ended.insert(client, self.open);
    }

    /// A session no longer needs these messages. Each batch settles some of them.
    pub fn leave(&mut self, session: SessionNumber, messages: VecDeque<MessageNumber>, now: Time) {
        if !messages.is_empty() {
            self.leftover_bytes += leftover_bytes(&messages);
            self.leftovers.push_back((session, messages));
            self.hurry(Urgency::Lazy, now);
        }
    }
}
