//! Clients that are connected at one node of a cluster at a time: the other nodes are told which clients are connected
//! here, and the connection of one that has connected elsewhere since ends.
//!
//! The clients of the bridges of this broker are not told: they come from no network, and several nodes may have a bridge
//! with the same name.

use super::Broker;
use super::turn::steps;
use crate::base::time::Time;
use crate::core::connection::Connection;
use crate::core::nodes::ClientChange;
use crate::core::slots::{ConnectionId, SessionId};
use crate::protocol::codec::ReasonCode;

impl Broker {
    /// From now on, assigned Client Identifiers are derived from this number. That of each node is another, so that no
    /// two clients of the cluster get the same one. To be called before there are clients.
    pub fn assign_from(&mut self, seed: u64) {
        let _entered = self.account.enter();
        self.clients.seed = seed;
    }

    /// Takes which clients have connected, and which connections have ended. To be called at the end of each turn.
    pub fn take_client_changes(&mut self) -> Vec<ClientChange> {
        let _entered = self.account.enter();
        self.output.nodes().map(|nodes| nodes.take_client_changes()).unwrap_or_default()
    }

    /// Ends a connection because its client has connected at another node since. That node has made a new session, so
    /// that here is over as well, as if a connection here had asked for Clean Start: its Will is published
    /// [MQTT-3.1.4-3]. Returns the Client Identifier; `None` if the connection does not serve a client any longer.
    pub fn end_elsewhere(&mut self, id: ConnectionId, now: Time) -> Option<Box<str>> {
        let _entered = self.account.enter();
        self.advance(now);
        let session = self.connections.find(id).and_then(Connection::session)?;
        let client_identifier = self.clients.sessions[session].client_identifier.clone();
        self.turn.take(steps::SUBSCRIPTION);
        self.end(id, ReasonCode::SessionTakenOver, "session taken over at another node");
        if self.clients.is_there(session) {
            self.end_session(session);
        }
        Some(client_identifier)
    }

    /// Notes for the other nodes that a client has connected.
    #[inline]
    pub(super) fn tell_nodes_of_client(&mut self, connection: ConnectionId, session: SessionId) {
        if self.output.has_nodes() {
            self.note_client(connection, session);
        }
    }

    #[inline(never)]
    fn note_client(&mut self, connection: ConnectionId, session: SessionId) {
        let session = &self.clients.sessions[session];
        if self.options.is_bridge(&session.client_identifier) {
            return;
        }
        let change = ClientChange::Connected {
            connection,
            client_identifier: session.client_identifier.as_ref().into(),
            user_name: session.user_name.as_deref().filter(|_| session.is_proved).map(Into::into),
        };
        if let Some(nodes) = self.output.nodes() {
            nodes.change_client(change);
        }
    }

    /// Notes for the other nodes that a connection serves no client any longer.
    #[inline]
    pub(super) fn tell_nodes_of_end(&mut self, connection: ConnectionId) {
        if let Some(nodes) = self.output.nodes() {
            nodes.change_client(ClientChange::Ended(connection));
        }
    }
}

#[cfg(test)]
mod tests;
