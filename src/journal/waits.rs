//! Who waits for the store, beside answers: connections and sessions that go on when something is durable, or when
//! there is room.

use std::collections::BTreeSet;

use super::{Journal, MessageNumber, Urgency};
use crate::planted::{Fault, is_planted};
use crate::slots::{ConnectionId, SessionId};
use crate::time::Time;

impl Journal {
    /// A connection is not read from until there is room again.
    pub fn pause(&mut self, id: ConnectionId) {
        self.pauses += 1;
        self.paused.insert(id, self.pauses);
    }

    /// The connections that may be read from again, those first that have waited longest: there may not be room for all.
    pub fn take_paused(&mut self) -> Vec<ConnectionId> {
        let mut paused: Vec<_> = std::mem::take(&mut self.paused).into_iter().collect();
        paused.sort_unstable_by_key(|&(_, order)| order);
        paused.into_iter().map(|(id, _)| id).collect()
    }

    /// A session goes on when what is now in the open batch is durable.
    pub fn suspend(&mut self, session: SessionId) {
        self.suspended.insert((self.open, session));
    }

    /// Whether a message can be read from the store. If not, the session goes on when it can be, which is soon.
    pub fn is_stored(&mut self, message: MessageNumber, session: SessionId, now: Time) -> bool {
        let (first, is_closed) = self.messages.first_pending();
        if message < first {
            return true;
        }
        if is_closed {
            self.suspended.insert((self.open - 1, session));
        } else {
            self.suspend(session);
            self.due = self.due.min(now);
        }
        false
    }

    /// The same for what no session waits for that is there: it is to be asked again when a batch is durable.
    pub fn is_stored_soon(&mut self, message: MessageNumber, now: Time) -> bool {
        let (first, is_closed) = self.messages.first_pending();
        if message >= first && !is_closed {
            self.due = self.due.min(now);
        }
        message < first
    }

    /// The next session that may go on.
    pub fn next_to_go_on(&mut self) -> Option<SessionId> {
        let &(batch, session) = self.suspended.first()?;
        (batch <= self.durable).then(|| {
            self.suspended.pop_first();
            session
        })
    }

    /// A connection gets nothing before what is now in the open batch is durable.
    pub fn cork(&mut self, id: ConnectionId) {
        if self.pace.holds && !is_planted(Fault::EarlyConnack) {
            self.corked.insert(id, self.open);
        }
    }

    /// A connection without a kept session gets nothing before every session is gone for good that has ended: its
    /// client may have had one.
    pub fn cork_for_ends(&mut self, id: ConnectionId, now: Time) {
        if self.pace.holds && self.ended > self.durable {
            self.corked.insert(id, self.ended);
            if self.ended == self.open {
                self.hurry(Urgency::Urgent, now);
            }
        }
    }

    /// Whether a connection gets nothing yet.
    pub fn is_corked(&self, id: ConnectionId) -> bool {
        self.corked.contains_key(&id)
    }

    /// The connections that have waited for what is durable now.
    pub fn take_uncorked(&mut self) -> Vec<ConnectionId> {
        let durable = self.durable;
        let ready = |&(_, &batch): &(&ConnectionId, &u64)| batch <= durable;
        let uncorked: Vec<ConnectionId> = self.corked.iter().filter(ready).map(|(&id, _)| id).collect();
        for id in &uncorked {
            self.corked.remove(id);
        }
        uncorked
    }

    /// A connection is gone.
    pub fn forget(&mut self, id: ConnectionId) {
        self.answers.forget(id);
        self.corked.remove(&id);
        self.paused.remove(&id);
        self.unanswered.remove(&id);
    }

    /// A message of this connection is not answered, nor are those behind it.
    pub fn leave_unanswered(&mut self, id: ConnectionId) {
        self.unanswered.insert(id);
    }

    /// Whether messages of this connection are not answered.
    #[inline]
    pub fn is_unanswered(&self, id: ConnectionId) -> bool {
        !self.unanswered.is_empty() && self.unanswered.contains(&id)
    }

    /// The connections with messages that were not answered.
    pub fn take_unanswered(&mut self) -> BTreeSet<ConnectionId> {
        std::mem::take(&mut self.unanswered)
    }
}
