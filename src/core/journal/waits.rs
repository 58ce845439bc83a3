//! Who waits for the store, beside answers: connections and sessions that go on when something is durable, or when
//! there is room.

use std::collections::{BTreeMap, BTreeSet};

use super::{ENTRY_BYTES, Journal, MessageNumber, Room, Urgency};
use crate::base::memory;
use crate::base::planted::{Fault, is_planted};
use crate::base::time::Time;
use crate::core::slots::{ConnectionId, SessionId};

/// Why a connection gets nothing yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cork {
    /// This batch is not durable.
    batch: u64,
    /// What its client is told needs no room, so it does not wait for any.
    needs_none: bool,
}

/// Clients whose kept sessions have ended, and the batches that say so, as long as these are not durable.
#[derive(Debug, Default)]
pub(super) struct Ends {
    batches: BTreeMap<Box<str>, u64>,
    /// Bytes of their names.
    bytes: usize,
}

impl Ends {
    pub(super) fn insert(&mut self, client: &str, batch: u64) {
        if self.batches.insert(client.into(), batch).is_none() {
            self.bytes += memory::allocation(client.len());
        }
    }

    /// All batches up to this one are durable.
    pub(super) fn are_durable(&mut self, durable: u64) {
        let bytes = &mut self.bytes;
        self.batches.retain(|client, &mut batch| {
            let stays = batch > durable;
            *bytes -= if stays { 0 } else { memory::allocation(client.len()) };
            stays
        });
    }

    pub(super) fn memory(&self) -> usize {
        self.batches.len() * ENTRY_BYTES + self.bytes
    }
}

impl Journal {
    /// A connection is not read from until there is room again.
    pub fn pause(&mut self, id: ConnectionId) {
        self.pauses += 1;
        self.paused.insert(id, self.pauses);
    }

    /// The connections that may be read again, those that have waited longest first: there may not be room for all.
    pub fn take_paused(&mut self) -> Vec<ConnectionId> {
        let mut paused: Vec<_> = std::mem::take(&mut self.paused).into_iter().collect();
        paused.sort_unstable_by_key(|&(_, order)| order);
        paused.into_iter().map(|(id, _)| id).collect()
    }

    /// A session goes on when what is now in the open batch is durable.
    pub fn suspend(&mut self, session: SessionId) {
        self.suspended.insert((self.open, session));
    }

    /// A session goes on when this batch is durable.
    pub fn suspend_until(&mut self, batch: u64, session: SessionId) {
        self.suspended.insert((batch, session));
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

    /// The same for what waits without a session that is there: it has to be asked for again when a batch is durable.
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

    /// A connection gets nothing before what is now in the open batch is durable. One that `needs_none` stops waiting
    /// if there is no room.
    pub fn cork(&mut self, id: ConnectionId, needs_none: bool) {
        let goes_without = needs_none && self.room == Room::Gone;
        if self.pace.holds && !goes_without && !is_planted(Fault::EarlyConnack) {
            self.corked.insert(id, Cork { batch: self.open, needs_none });
        }
    }

    /// A connection without a kept session gets nothing before it is durable that the former session of its client has
    /// ended, unless there is no room to persist that.
    pub fn cork_for_end(&mut self, id: ConnectionId, client: &str, now: Time) {
        if !self.pace.holds || self.room == Room::Gone {
            return;
        }
        if let Some(&batch) = self.ended.batches.get(client) {
            self.corked.insert(id, Cork { batch, needs_none: true });
            if batch == self.open {
                self.hurry(Urgency::Urgent, now);
            }
        }
    }

    /// Whether a connection gets nothing yet.
    pub fn is_corked(&self, id: ConnectionId) -> bool {
        self.corked.contains_key(&id)
    }

    /// The connections that have waited for what is durable now, or need not wait any longer.
    pub fn take_uncorked(&mut self) -> Vec<ConnectionId> {
        let (durable, is_gone) = (self.durable, self.room == Room::Gone);
        let ready = |&(_, cork): &(&ConnectionId, &Cork)| cork.batch <= durable || is_gone && cork.needs_none;
        let uncorked: Vec<ConnectionId> = self.corked.iter().filter(ready).map(|(&id, _)| id).collect();
        for id in &uncorked {
            self.corked.remove(id);
        }
        uncorked
    }

    /// A session gets its retained messages when there is room again.
    pub fn wait_for_room(&mut self, session: SessionId) {
        self.roomless.insert(session);
    }

    /// The sessions that have waited for that.
    pub fn take_roomless(&mut self) -> BTreeSet<SessionId> {
        std::mem::take(&mut self.roomless)
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
