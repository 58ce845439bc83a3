//! When connections and sessions that wait for the store may continue.

use std::collections::BTreeSet;

use super::waits::Withheld;
use super::{Journal, MessageNumber, Room, Urgency};
use crate::base::time::Time;
use crate::core::slots::{ConnectionId, SessionId};

impl Journal {
    /// Stops reading from a connection until there is room again.
    pub fn pause(&mut self, id: ConnectionId) {
        self.waits.pause(id);
    }

    /// Takes the connections that may be read again, the longest waiting first: there may not be room for all.
    pub fn take_paused(&mut self) -> Vec<ConnectionId> {
        self.waits.take_paused()
    }

    /// Suspends a session until the batch that is now open is durable.
    pub fn suspend(&mut self, session: SessionId) {
        self.waits.suspend(self.batches.open(), session);
    }

    /// Suspends a session until this batch is durable.
    pub fn suspend_until(&mut self, batch: u64, session: SessionId) {
        self.waits.suspend(batch, session);
    }

    /// Whether a message can be read from the store. If not, the session is suspended until it can be, which is soon.
    pub fn is_stored(&mut self, message: MessageNumber, session: SessionId, now: Time) -> bool {
        let (first, is_closed) = self.messages.first_pending();
        if message < first {
            return true;
        }
        if is_closed {
            self.waits.suspend(self.batches.open() - 1, session);
        } else {
            self.suspend(session);
            self.batches.is_due(now);
        }
        false
    }

    /// Like [`Journal::is_stored`], for a message without an existing session. The caller has to ask again when a
    /// batch has become durable.
    pub fn is_stored_soon(&mut self, message: MessageNumber, now: Time) -> bool {
        let (first, is_closed) = self.messages.first_pending();
        if message >= first && !is_closed {
            self.batches.is_due(now);
        }
        message < first
    }

    /// Takes the next session that may continue.
    pub fn next_to_go_on(&mut self) -> Option<SessionId> {
        self.waits.next_to_go_on(self.batches.durable())
    }

    /// Withholds packets from a connection until the batch that is now open is durable. If there is no room, a
    /// connection that
    /// `needs_none` does not wait.
    pub fn withhold(&mut self, id: ConnectionId, needs_none: bool) {
        let goes_without = needs_none && self.room == Room::Gone;
        if self.holds() && !goes_without {
            self.waits.withhold(id, Withheld { batch: self.batches.open(), needs_none });
        }
    }

    /// Withholds packets from a connection without a persistent session until it is durable that the former session
    /// of its client has ended. If there is no room to persist that, it does not wait.
    pub fn withhold_for_end(&mut self, id: ConnectionId, client: &str, now: Time) {
        if !self.holds() || self.room == Room::Gone {
            return;
        }
        if let Some(batch) = self.ended.batch_of(client) {
            self.waits.withhold(id, Withheld { batch, needs_none: true });
            if batch == self.batches.open() {
                self.hurry(Urgency::Urgent, now);
            }
        }
    }

    /// Whether packets to a connection are withheld.
    pub fn is_withheld(&self, id: ConnectionId) -> bool {
        self.waits.is_withheld(id)
    }

    /// Takes the connections that need not wait any longer.
    pub fn take_released(&mut self) -> Vec<ConnectionId> {
        self.waits.take_released(self.batches.durable(), self.room == Room::Gone)
    }

    /// Has a session wait for its retained messages until there is room again.
    pub fn wait_for_room(&mut self, session: SessionId) {
        self.waits.wait_for_room(session);
    }

    /// Takes the sessions that have waited for room.
    pub fn take_roomless(&mut self) -> BTreeSet<SessionId> {
        self.waits.take_roomless()
    }

    /// Forgets a connection that is gone.
    pub fn forget(&mut self, id: ConnectionId) {
        self.answers.forget(id);
        self.waits.forget(id);
    }

    /// Notes that a message of this connection is not acknowledged, and that those after it will not be either.
    pub fn leave_unanswered(&mut self, id: ConnectionId) {
        self.waits.leave_unanswered(id);
    }

    /// Whether messages of this connection are left unacknowledged.
    #[inline]
    pub fn is_unanswered(&self, id: ConnectionId) -> bool {
        self.waits.is_unanswered(id)
    }

    /// Takes the connections with messages that were left unacknowledged.
    pub fn take_unanswered(&mut self) -> BTreeSet<ConnectionId> {
        self.waits.take_unanswered()
    }
}
