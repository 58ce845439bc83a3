//! Clients that wait for the broker before they are accepted: for a decision, for room in the journal, or for their
//! turn. The time limit for their CONNECT stands still then, because it is not they who are late.

use log::info;

use super::{Broker, Effect};
use crate::base::ordered_map::OrderedMap;
use crate::base::time::Duration;
use crate::core::connection::State;
use crate::core::slots::ConnectionId;
use crate::protocol::codec::{ReasonCode, Status, frame};

/// About how many bytes one entry of a tree takes.
const ENTRY_BYTES: usize = 48;

/// Longer than any turn takes.
const TURN: Duration = Duration::from_seconds(1);

/// What is left of the time for the CONNECT of clients that wait.
#[derive(Debug, Default)]
pub(super) struct Admission {
    left: OrderedMap<ConnectionId, Duration>,
}

impl Admission {
    /// The bytes of memory that it takes.
    pub(super) fn memory(&self) -> usize {
        self.left.len() * ENTRY_BYTES
    }
}

impl Broker {
    /// Stops the time for the CONNECT of a client that has to wait for the broker and is not accepted yet, for at most
    /// [`crate::core::limits::Limits::admission_wait`].
    pub(super) fn stop_connect_timer(&mut self, id: ConnectionId) {
        let connection = &self.connections[id];
        let (State::Greeting, Some(timer)) = (connection.state, connection.timer) else { return };
        if !self.clients.admission.left.contains_key(&id) {
            self.clients.admission.left.insert(id, self.clock.wheel.deadline(timer).since(self.clock.now));
            self.clock.wheel.move_to(timer, self.clock.now + self.options.limits.admission_wait);
        }
    }

    /// Continues the time for the CONNECT of a client that no longer has to wait.
    pub(super) fn restart_connect_timer(&mut self, id: ConnectionId) {
        if let Some(left) = self.clients.admission.left.remove(&id)
            && self.connections[id].state == State::Greeting
        {
            self.arm_connection(id, Some(left));
        }
    }

    /// Whether the client of a connection waits for the broker to be accepted.
    pub(super) fn waits_for_admission(&self, id: ConnectionId) -> bool {
        self.clients.admission.left.contains_key(&id)
    }

    /// Handles the end of the time for a CONNECT, or of the longest time that its client waits for the broker.
    pub(super) fn connect_is_due(&mut self, id: ConnectionId) {
        if !self.waits_for_admission(id) {
            let peer = self.connections[id].peer();
            match self.waiting_applicant(id) {
                None => info!(target: "connection", "Client {peer} disconnected: no CONNECT in time."),
                Some(who) => {
                    info!(target: "connection", "Client {peer} disconnected: not authenticated in time.{who}")
                }
            }
            self.begin_ending(id);
            self.effects.push_back(Effect::Drop(id));
        } else if self.connections[id].is_deferred {
            // Its turn is about to come: only a loop that stood still can have taken this long.
            self.arm_connection(id, Some(TURN));
        } else {
            self.refuse_waiting(id, ReasonCode::ServerBusy, "server busy");
        }
    }

    /// Whether a client that is not accepted yet waits for its turn, or for room in the journal, and not for a
    /// decision.
    pub fn awaits_its_turn(&self, id: ConnectionId) -> bool {
        self.clients.admission.left.contains_key(&id)
            && self.connections.find(id).is_some_and(|connection| !connection.is_undecided())
    }

    /// Whether a client waits to be accepted and has sent nothing since its CONNECT. If it disconnects now, a decision
    /// about it is of no use.
    pub fn awaits_nothing_else(&self, id: ConnectionId) -> bool {
        let Some(connection) = self.connections.find(id) else { return false };
        if connection.state != State::Greeting || !connection.is_undecided() {
            return false;
        }
        let waiting = connection.inbox.bytes();
        matches!(frame(waiting, waiting.len()), Ok(Status::Complete(first)) if first.length == waiting.len())
    }

    /// The most connections of clients that are accepted at a time.
    pub const fn connections_maximum(&self) -> usize {
        self.options.limits.connections
    }

    /// Begins the end of a connection: nothing but its queued output is sent, and nothing more is read from it.
    pub(super) fn begin_ending(&mut self, id: ConnectionId) {
        self.forget_question(id);
        self.connections[id].begin_ending();
    }

    /// Withdraws the decision that a connection waits for when it ends.
    pub(super) fn forget_question(&mut self, id: ConnectionId) {
        self.clients.admission.left.remove(&id);
        if self.connections[id].is_undecided() {
            self.permission.access.forget(id);
        }
    }
}
