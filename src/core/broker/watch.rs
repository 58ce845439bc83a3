//! For tests that follow the core turn by turn: which part of a turn is over, and which messages are not finished.

use super::Broker;
use super::operation::Operation;
use crate::core::slots::ConnectionId;

/// A part of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The timers that were due.
    Timers,
    /// Work of one connection.
    Connection(ConnectionId),
    /// Work without a connection.
    Rest,
}

/// A message that has not reached all its recipients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfinished<'a> {
    /// The Client Identifier of its publisher.
    pub client: &'a str,
    /// Whether its recipients are known.
    pub is_looked_up: bool,
}

impl Broker {
    /// Returns the messages of clients that have not reached all their recipients, those of one client in order.
    pub fn unfinished(&self) -> impl Iterator<Item = Unfinished<'_>> {
        let unlinked = self.waiting.unlinked.iter().flat_map(|chain| {
            chain.unfinished().filter_map(|(client, is_looked_up)| Some((client?, is_looked_up)))
        });
        let linked = self.waiting.operations.values().filter_map(|operation| match operation {
            Operation::Publish(_, distribution) => {
                let publisher = distribution.publisher()?;
                Some((&*self.clients.sessions[publisher].client_identifier, distribution.is_looked_up()))
            }
            Operation::Filters(_) | Operation::Successor => None,
        });
        unlinked.chain(linked).map(|(client, is_looked_up)| Unfinished { client, is_looked_up })
    }

    /// The bytes of filters that a connection's SUBSCRIBE or UNSUBSCRIBE in progress has still to process.
    pub fn filters_undone(&self, id: ConnectionId) -> Option<usize> {
        match self.waiting.operations.find(&id)? {
            Operation::Filters(filters) => Some(filters.undone),
            Operation::Publish(..) | Operation::Successor => None,
        }
    }

    /// Whether messages that ended sessions have left wait until a member of their group has room for them.
    pub fn has_left_without_room(&self) -> bool {
        self.waiting.legacies.has_refused()
    }

    /// Whether a client's session has a Will; `None` if the client has no session.
    pub fn has_will(&self, client: &str) -> Option<bool> {
        let session = self.clients.directory.find(client, &self.clients.sessions)?;
        Some(self.clients.sessions[session].will.is_some())
    }
}
