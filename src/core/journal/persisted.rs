//! The persistent sessions, as the broker sees them.

use std::collections::VecDeque;

use super::{Journal, MessageNumber, Record, SessionNumber, Urgency};
use crate::base::time::Time;
use crate::core::slots::SessionId;

impl Journal {
    /// Returns the number under which a session is persisted, if it is.
    #[inline]
    pub fn number_of(&self, session: SessionId) -> Option<SessionNumber> {
        self.sessions.number_of(session)
    }

    /// Returns the session that is persisted under a number.
    pub fn session_of(&self, number: SessionNumber) -> Option<SessionId> {
        self.sessions.session_of(number)
    }

    /// Persists a session from now on. Returns its number, which is new if it had none.
    pub fn keep(&mut self, session: SessionId) -> SessionNumber {
        self.sessions.keep(session)
    }

    /// Persists a session under a number that it already has in the store.
    pub fn adopt(&mut self, session: SessionId, number: SessionNumber) {
        self.sessions.adopt(session, number);
    }

    /// Notes that a session has changed. Persisting it takes about this many bytes.
    pub fn change(&mut self, session: SessionId, bytes: usize, urgency: Urgency, now: Time) {
        if self.sessions.change(session, bytes) {
            self.hurry(urgency, now);
        }
    }

    /// Takes the sessions that differ from those in the store.
    pub fn take_changed(&mut self) -> Vec<SessionId> {
        self.sessions.take_changed()
    }

    /// Notes that the session of a client has ended. It no longer needs these messages, and may leave others to
    /// [other members](Record::SessionEnded) of Shared Subscriptions.
    pub fn end(
        &mut self,
        session: SessionId,
        client: &str,
        messages: VecDeque<MessageNumber>,
        leaves_shared: bool,
        now: Time,
    ) {
        let Some(number) = self.sessions.end(session) else { return };
        self.fetches.withdraw(number);
        self.record(Record::SessionEnded { session: number, leaves_shared }, Urgency::Lazy, now);
        self.leave(number, messages, now);
        self.ended.insert(client, self.batches.open());
    }

    /// Notes that a session no longer needs these messages. Each batch settles some of them.
    pub fn leave(&mut self, session: SessionNumber, messages: VecDeque<MessageNumber>, now: Time) {
        if !messages.is_empty() {
            self.deferred.leave(session, messages);
            self.hurry(Urgency::Lazy, now);
        }
    }
}
