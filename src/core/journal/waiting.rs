//! Who goes on when: the journal as those see it who wait for the store.

use std::collections::BTreeSet;

use super::waits::Withheld;
use super::{Journal, MessageNumber, Room, Urgency};
use crate::base::planted::{Fault, is_planted};
use crate::base::time::Time;
use crate::core::slots::{ConnectionId, SessionId};

impl Journal {
    /// A connection is not read from until there is room again.
    pub fn pause(&mut self, id: ConnectionId) {
        self.waits.pause(id);
    }

    /// The connections that may be read again, those that have waited longest first: there may not be room for all.
    pub fn take_paused(&mut self) -> Vec<ConnectionId> {
        self.waits.take_paused()
    }

    /// A session goes on when what is now in the open batch is durable.
    pub fn suspend(&mut self, session: SessionId) {
        self.waits.suspend(self.batches.open(), session);
    }

    /// A session goes on when this batch is durable.
    pub fn suspend_until(&mut self, batch: u64, session: SessionId) {
        self.waits.suspend(batch, session);
    }

    /// Whether a message can be read from the store. If not, the session goes on when it can be, which is soon.
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

    /// The same for what waits without a session that is there: it has to be asked for again when a batch is durable.
    pub fn is_stored_soon(&mut self, message: MessageNumber, now: Time) -> bool {
        let (first, is_closed) = self.messages.first_pending();
        if message >= first && !is_closed {
            self.batches.is_due(now);
        }
        message < first
    }

    /// The next session that may go on.
    pub fn next_to_go_on(&mut self) -> Option<SessionId> {
        self.waits.next_to_go_on(self.batches.durable())
    }

    /// A connection gets nothing before what is now in the open batch is durable. One that `needs_none` stops waiting
    /// if there is no room.
    pub fn withhold(&mut self, id: ConnectionId, needs_none: bool) {
        let goes_without = needs_none && self.room == Room::Gone;
        if self.holds() && !goes_without && !is_planted(Fault::EarlyConnack) {
            self.waits.withhold(id, Withheld { batch: self.batches.open(), needs_none });
        }
    }

    /// A connection without a kept session gets nothing before it is durable that the former session of its client has
    /// ended, unless there is no room to persist that.
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

    /// Whether a connection gets nothing yet.
    pub fn is_withheld(&self, id: ConnectionId) -> bool {
        self.waits.is_withheld(id)
    }

    /// The connections that have waited for what is durable now, or need not wait any longer.
    pub fn take_released(&mut self) -> Vec<ConnectionId> {
        self.waits.take_released(self.batches.durable(), self.room == Room::Gone)
    }

    /// A session gets its retained messages when there is room again.
    pub fn wait_for_room(&mut self, session: SessionId) {
        self.waits.wait_for_room(session);
    }

    /// The sessions that have waited for that.
    pub fn take_roomless(&mut self) -> BTreeSet<SessionId> {
        self.waits.take_roomless()
    }

    /// A connection is gone.
    pub fn forget(&mut self, id: ConnectionId) {
        self.answers.forget(id);
        self.waits.forget(id);
    }

    /// A message of this connection is not answered, nor are those after it.
    pub fn leave_unanswered(&mut self, id: ConnectionId) {
        self.waits.leave_unanswered(id);
    }

    /// Whether messages of this connection are not answered.
    #[inline]
    pub fn is_unanswered(&self, id: ConnectionId) -> bool {
        self.waits.is_unanswered(id)
    }

    /// The connections with messages that were not answered.
    pub fn take_unanswered(&mut self) -> BTreeSet<ConnectionId> {
        self.waits.take_unanswered()
    }
}
