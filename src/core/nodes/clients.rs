//! Which clients have connected and which connections have ended, for the other nodes.

use crate::base::memory;
use crate::core::slots::ConnectionId;

/// The beginning or the end of the connection of a client. The end may be that of one whose beginning was not noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientChange {
    /// A CONNECT was accepted.
    Connected {
        /// The connection.
        connection: ConnectionId,
        /// The Client Identifier.
        client_identifier: Box<str>,
        /// The User Name, if the client has proved it.
        user_name: Option<Box<str>>,
    },
    /// The connection no longer serves a client.
    Ended(ConnectionId),
}

/// Changes that wait for the end of the turn, in their order. How many can wait is limited by the steps of a turn.
#[derive(Debug, Default)]
pub(super) struct ClientChanges {
    changes: Vec<ClientChange>,
    /// The bytes of the texts.
    text_bytes: usize,
}

impl ClientChanges {
    pub(super) fn push(&mut self, change: ClientChange) {
        if let ClientChange::Connected { client_identifier, user_name, .. } = &change {
            let user_name = user_name.as_deref().map_or(0, str::len);
            self.text_bytes += memory::allocation(client_identifier.len()) + memory::allocation(user_name);
        }
        self.changes.push(change);
    }

    pub(super) fn take(&mut self) -> Vec<ClientChange> {
        std::mem::take(self).changes
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    pub(super) const fn memory(&self) -> usize {
        memory::allocation(self.changes.capacity() * size_of::<ClientChange>()) + self.text_bytes
    }
}
