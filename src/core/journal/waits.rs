//! What waits for the store, besides answers: connections and sessions that continue when something is durable or
//! when there is room.

use std::collections::{BTreeMap, BTreeSet};

use super::ENTRY_BYTES;
use crate::base::memory;
use crate::core::slots::{ConnectionId, SessionId};

/// Why packets to a connection are withheld.
#[derive(Clone, Copy, Debug)]
pub(super) struct Withheld {
    /// The batch that is not durable yet.
    pub(super) batch: u64,
    /// Whether what the client is told needs no room. Then the connection does not wait for any.
    pub(super) needs_none: bool,
}

/// Clients whose persistent sessions have ended, and the batches that record it, until these are durable.
#[derive(Debug, Default)]
pub(super) struct Ends {
    batches: BTreeMap<Box<str>, u64>,
    /// Bytes of the Client Identifiers.
    bytes: usize,
}

impl Ends {
    pub(super) fn insert(&mut self, client: &str, batch: u64) {
        if self.batches.insert(client.into(), batch).is_none() {
            self.bytes += memory::allocation(client.len());
        }
    }

    /// Returns the batch that records the end of a client's session, if there is one.
    pub(super) fn batch_of(&self, client: &str) -> Option<u64> {
        self.batches.get(client).copied()
    }

    /// Forgets the batches up to this one, which are durable.
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

/// Connections and sessions that wait.
#[derive(Debug, Default)]
pub(super) struct Waits {
    /// Connections to which packets are withheld until a batch is durable, because their CONNACK is not true yet.
    withheld: BTreeMap<ConnectionId, Withheld>,
    /// Sessions that continue with a delivery when a batch is durable.
    suspended: BTreeSet<(u64, SessionId)>,
    /// The one of them that was added last, if none has gone on since. A session is suspended for each of its messages.
    latest: Option<(u64, SessionId)>,
    /// Connections that are not read until there is room again. The number gives their order.
    paused: BTreeMap<ConnectionId, u64>,
    /// Number of pauses so far.
    pauses: u64,
    /// Connections with messages that were neither accepted nor refused, because their protocol version has no reason
    /// code for it.
    unanswered: BTreeSet<ConnectionId>,
    /// Sessions that are owed retained messages and get them when there is room again.
    roomless: BTreeSet<SessionId>,
}

impl Waits {
    pub(super) fn pause(&mut self, id: ConnectionId) {
        self.pauses += 1;
        self.paused.insert(id, self.pauses);
    }

    pub(super) fn take_paused(&mut self) -> Vec<ConnectionId> {
        let mut paused: Vec<_> = std::mem::take(&mut self.paused).into_iter().collect();
        paused.sort_unstable_by_key(|&(_, order)| order);
        paused.into_iter().map(|(id, _)| id).collect()
    }

    /// Suspends a session until this batch is durable.
    pub(super) fn suspend(&mut self, batch: u64, session: SessionId) {
        if self.latest != Some((batch, session)) {
            self.suspended.insert((batch, session));
            self.latest = Some((batch, session));
        }
    }

    /// Takes the next session that may continue when all batches up to `durable` are durable.
    pub(super) fn next_to_go_on(&mut self, durable: u64) -> Option<SessionId> {
        let &(batch, session) = self.suspended.first()?;
        (batch <= durable).then(|| {
            self.suspended.pop_first();
            self.latest = None;
            session
        })
    }

    pub(super) fn withhold(&mut self, id: ConnectionId, withheld: Withheld) {
        self.withheld.insert(id, withheld);
    }

    pub(super) fn is_withheld(&self, id: ConnectionId) -> bool {
        self.withheld.contains_key(&id)
    }

    /// Takes the connections whose batch is durable, or that need not wait for it because the room `is_gone`.
    pub(super) fn take_released(&mut self, durable: u64, is_gone: bool) -> Vec<ConnectionId> {
        let ready = |&(_, withheld): &(&ConnectionId, &Withheld)| {
            withheld.batch <= durable || is_gone && withheld.needs_none
        };
        let released: Vec<ConnectionId> = self.withheld.iter().filter(ready).map(|(&id, _)| id).collect();
        for id in &released {
            self.withheld.remove(id);
        }
        released
    }

    pub(super) fn wait_for_room(&mut self, session: SessionId) {
        self.roomless.insert(session);
    }

    pub(super) fn take_roomless(&mut self) -> BTreeSet<SessionId> {
        std::mem::take(&mut self.roomless)
    }

    pub(super) fn leave_unanswered(&mut self, id: ConnectionId) {
        self.unanswered.insert(id);
    }

    #[inline]
    pub(super) fn is_unanswered(&self, id: ConnectionId) -> bool {
        !self.unanswered.is_empty() && self.unanswered.contains(&id)
    }

    pub(super) fn take_unanswered(&mut self) -> BTreeSet<ConnectionId> {
        std::mem::take(&mut self.unanswered)
    }

    /// Forgets a connection that is gone.
    pub(super) fn forget(&mut self, id: ConnectionId) {
        self.withheld.remove(&id);
        self.paused.remove(&id);
        self.unanswered.remove(&id);
    }

    /// Bytes of memory used.
    pub(super) fn memory(&self) -> usize {
        let connections = self.withheld.len() + self.paused.len() + self.unanswered.len();
        (connections + self.suspended.len() + self.roomless.len()) * ENTRY_BYTES
    }
}
