//! Work that waits for a later turn, in lists by its kind. The kinds take turns, and within a kind each piece of work
//! gets its share.

use std::collections::VecDeque;

use super::cluster_log::Readers;
use super::distribution::{Chain, Distribution};
use super::ending::{Ending, Moving, Notifying};
use super::legacies::Legacies;
use super::operation::Operation;
use super::turn::{Turn, steps};
use crate::base::memory::{self, Audit};
use crate::base::ordered_map::OrderedMap;
use crate::core::slots::{ConnectionId, SessionId};

/// The most messages without a connection that may wait: messages of closed connections, Wills and the broker's own.
/// For what happens beyond it see [`Waiting::has_room_for_unlinked`].
const UNLINKED_MAXIMUM: usize = 1024;

/// The number of connections that get their answers as soon as these may leave; the others get them in their turn.
const ANSWERED_AT_ONCE: usize = 128;

/// The memory of a map entry, in blocks two thirds full, and of the distribution that it may hold.
const OPERATION_BYTES: usize =
    size_of::<(ConnectionId, Operation)>() * 3 / 2 + memory::allocation(size_of::<Distribution>());

/// The kinds of work that can wait for a later turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Connection,
    Answers,
    Session,
    Unlinked,
    Ending,
    Moving,
    Notifying,
    Tightening,
}

impl Kind {
    pub(super) const ALL: [Self; 8] = [
        Self::Connection,
        Self::Answers,
        Self::Session,
        Self::Unlinked,
        Self::Ending,
        Self::Moving,
        Self::Notifying,
        Self::Tightening,
    ];
}

/// All work that waits.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// The index of the kind that is next. It goes on from turn to turn, so that no kind starves.
    kind: usize,
    /// Connections whose packet or input waits for a later turn.
    pub(super) connections: VecDeque<ConnectionId>,
    /// Operations that the packet of a connection has begun and not finished.
    pub(super) operations: OrderedMap<ConnectionId, Operation>,
    /// Connections whose SUBSCRIBE waits until the log of the cluster is read up to its end.
    pub(super) readers: Readers,
    /// Connections with answers that may no longer have to wait.
    answering: VecDeque<ConnectionId>,
    last_answered: Option<ConnectionId>,
    /// Those that were answered first in this turn, and may be written at once.
    answered: VecDeque<ConnectionId>,
    /// Sessions to which more could be sent.
    pub(super) sessions: VecDeque<SessionId>,
    /// Messages that are distributed without a connection, by their publishers, and how many there are.
    pub(super) unlinked: VecDeque<Chain>,
    pub(super) unlinked_count: usize,
    /// Sessions that are over and not yet freed.
    pub(super) endings: VecDeque<Ending>,
    /// Sessions that are over and whose Wills wait for a timer.
    pub(super) endings_waiting: VecDeque<Ending>,
    /// Messages that go from one member of a Shared Subscription to others.
    pub(super) moving: VecDeque<Moving>,
    /// Such messages in the store.
    pub(super) legacies: Legacies,
    /// Sessions whose groups have not all been notified whether their clients are connected.
    pub(super) notifying: VecDeque<Notifying>,
}

impl Waiting {
    /// Whether the first packet of a connection has begun and is not finished.
    #[inline]
    pub(super) fn has_begun(&self, id: ConnectionId) -> bool {
        !self.operations.is_empty() && matches!(self.operations.find(&id), Some(Operation::Filters(_)))
    }

    /// Returns the kind whose turn it is.
    pub(super) fn next_kind(&mut self) -> Kind {
        let kind = Kind::ALL[self.kind];
        self.kind = (self.kind + 1) % Kind::ALL.len();
        kind
    }

    /// Lists all connections with waiting answers, which come in order. It begins after the last one that had its turn.
    pub(super) fn answer(&mut self, connections: Vec<ConnectionId>) {
        self.answered.clear();
        self.answering = connections.into();
        let first = self.answering.partition_point(|&id| self.last_answered.is_some_and(|last| id <= last));
        self.answering.rotate_left(first);
    }

    /// Returns the next connection to answer.
    pub(super) fn next_to_answer(&mut self) -> Option<ConnectionId> {
        let next = self.answering.pop_front()?;
        self.last_answered = Some(next);
        Some(next)
    }

    /// Returns the next of the connections to answer at once, as long as there is time for them in this turn.
    pub(super) fn first_to_answer(&mut self, turn: &Turn) -> Option<ConnectionId> {
        if self.answered.len() == ANSWERED_AT_ONCE || !turn.may_go_on() {
            return None;
        }
        let next = self.next_to_answer()?;
        self.answered.push_back(next);
        Some(next)
    }

    /// Returns the next connection that has been answered at once.
    pub(super) fn next_answered(&mut self) -> Option<ConnectionId> {
        self.answered.pop_front()
    }

    /// Whether any work waits for a later turn.
    pub(super) fn is_waiting(&self) -> bool {
        !(self.connections.is_empty()
            && self.answering.is_empty()
            && self.sessions.is_empty()
            && self.unlinked.is_empty()
            && self.endings.is_empty()
            && self.moving.is_empty()
            && self.notifying.is_empty())
    }

    /// Whether one more message without a connection may wait. Beyond the limit a Will waits in its session, the
    /// broker's own messages wait for their next occasion, and the rest of a message whose publisher has disconnected
    /// is dropped and counted.
    pub(super) fn has_room_for_unlinked(&self) -> bool {
        self.unlinked_count < UNLINKED_MAXIMUM
    }

    /// Whether a message of this client is being distributed without a connection.
    pub(super) fn has_unlinked(&self, client: &str, turn: &mut Turn) -> bool {
        turn.take(self.unlinked.len() / steps::COPIED_PER_STEP);
        self.unlinked.iter().any(|chain| chain.is_of(client))
    }

    /// Whether a message is being distributed that no client of this broker has published.
    pub(super) fn has_unlinked_without_publisher(&self) -> bool {
        self.unlinked.iter().any(|chain| chain.publisher().is_none())
    }

    /// The bytes that the lists take, without what counts itself.
    pub(super) fn memory(&self) -> usize {
        memory::allocation(self.connections.capacity() * size_of::<ConnectionId>())
            + memory::allocation(self.answering.capacity() * size_of::<ConnectionId>())
            + memory::allocation(self.answered.capacity() * size_of::<ConnectionId>())
            + memory::allocation(self.sessions.capacity() * size_of::<SessionId>())
            + memory::allocation(self.unlinked.capacity() * size_of::<Chain>())
            + memory::allocation(self.endings.capacity() * size_of::<Ending>())
            + memory::allocation(self.endings_waiting.capacity() * size_of::<Ending>())
            + memory::allocation(self.moving.capacity() * size_of::<Moving>())
            + memory::allocation(self.notifying.capacity() * size_of::<Notifying>())
            + self.legacies.memory()
            + self.operations.len() * OPERATION_BYTES
            + self.readers.memory()
    }

    /// Adds what counts itself to an audit.
    pub(super) fn audit(&self, audit: &mut Audit) {
        self.operations.values().for_each(|operation| operation.audit(audit));
        self.unlinked.iter().for_each(|chain| chain.audit(audit));
        self.moving.iter().for_each(|moving| moving.audit(audit));
        self.legacies.audit(audit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_turn_however_short_turns_are() {
        let mut waiting = Waiting::default();
        let kinds: Vec<Kind> = (0..Kind::ALL.len()).map(|_| waiting.next_kind()).collect();
        assert_eq!(kinds, Kind::ALL);
    }
}
