//! Clients that wait for the broker before they are let in: for a decision, for room in the journal, or for their turn.
//! The time for their CONNECT stands still meanwhile, since it is not they who are late.

use std::collections::BTreeMap;

use log::info;

use super::{Broker, Effect};
use crate::base::time::Duration;
use crate::core::connection::State;
use crate::core::slots::ConnectionId;
use crate::protocol::codec::{ReasonCode, Status, frame};

/// Bytes that one entry takes in a tree, about.
const ENTRY_BYTES: usize = 48;

/// Longer than any turn takes.
const TURN: Duration = Duration::from_seconds(1);

/// What is left of the time for the CONNECT of those that wait.
#[derive(Debug, Default)]
pub(super) struct Admission {
    left: BTreeMap<ConnectionId, Duration>,
}

impl Admission {
    /// Bytes of memory that it takes.
    pub(super) fn memory(&self) -> usize {
        self.left.len() * ENTRY_BYTES
    }
}

impl Broker {
    /// A client has to wait for the broker. If it is not let in yet, the time for its CONNECT stands still, for at most
    /// [`crate::core::limits::Limits::admission_wait`].
    pub(super) fn stop_connect_timer(&mut self, id: ConnectionId) {
        let connection = &self.connections[id];
        let (State::Greeting, Some(timer)) = (connection.state, connection.timer) else { return };
        if !self.clients.admission.left.contains_key(&id) {
            self.clients.admission.left.insert(id, self.clock.wheel.deadline(timer).since(self.clock.now));
            self.clock.wheel.move_to(timer, self.clock.now + self.options.limits.admission_wait);
        }
    }

    /// The client need not wait any more: what was left of its time runs on.
    pub(super) fn restart_connect_timer(&mut self, id: ConnectionId) {
        if let Some(left) = self.clients.admission.left.remove(&id)
            && self.connections[id].state == State::Greeting
        {
            self.arm_connection(id, Some(left));
        }
    }

    /// Whether the client of a connection waits for the broker to be let in.
    pub(super) fn waits_for_admission(&self, id: ConnectionId) -> bool {
        self.clients.admission.left.contains_key(&id)
    }

    /// The time for the CONNECT is over, or the time that its client waits for the broker at most.
    pub(super) fn connect_is_due(&mut self, id: ConnectionId) {
        if !self.waits_for_admission(id) {
            let peer = self.connections[id].peer();
            info!(target: "connection", "Client {peer} disconnected: no CONNECT in time.");
            self.begin_ending(id);
            self.effects.push_back(Effect::Drop(id));
        } else if self.connections[id].is_deferred {
            // Its turn is about to come: only a loop that stood still can have taken so long.
            self.arm_connection(id, Some(TURN));
        } else {
            self.refuse(id, ReasonCode::ServerBusy, "server busy");
        }
    }

    /// Whether a client that is not let in yet waits for its turn, or for room in the journal, and not for a decision.
    pub fn awaits_its_turn(&self, id: ConnectionId) -> bool {
        self.clients.admission.left.contains_key(&id)
            && self.connections.find(id).is_some_and(|connection| !connection.is_undecided())
    }

    /// Whether a client waits to be accepted and has sent nothing since its CONNECT. If it leaves now, a decision about
    /// it is of no use.
    pub fn awaits_nothing_else(&self, id: ConnectionId) -> bool {
        let Some(connection) = self.connections.find(id) else { return false };
        if connection.state != State::Greeting || !connection.is_undecided() {
            return false;
        }
        let waiting = connection.inbox.bytes();
        matches!(frame(waiting, waiting.len()), Ok(Status::Complete(first)) if first.length == waiting.len())
    }

    /// A connection gets nothing more but what waits for it, and nothing more is heard from it.
    pub(super) fn begin_ending(&mut self, id: ConnectionId) {
        self.forget_question(id);
        self.connections[id].begin_ending();
    }

    /// A connection ends: a decision that it waits for is not wanted any more.
    pub(super) fn forget_question(&mut self, id: ConnectionId) {
        self.clients.admission.left.remove(&id);
        if self.connections[id].is_undecided() {
            self.permission.access.forget(id);
        }
    }
}
