//! What a packet has begun and not finished when the share of its connection was used up. The connection is not read
//! until it is finished. A packet that has taken effect only in part stays the first one in the inbox.

use super::decisions::Decisions;
use super::distribution::Distribution;
use super::turn::steps;
use super::{Broker, Effect, Fault, Step};
use crate::base::memory::{self, Audit, Counted};
use crate::base::planted::{self, is_planted};
use crate::core::access::Verdict;
use crate::core::connection::State;
use crate::core::journal::Awaited;
use crate::core::slots::{ConnectionId, SessionId};
use crate::protocol::codec::{Delivery, Frame, PacketIdentifier};

/// What goes on in a later turn.
#[derive(Debug)]
pub(super) enum Operation {
    /// A message that was taken and goes out to those who are left.
    Publish(Delivery, Box<Distribution>),
    /// A SUBSCRIBE or UNSUBSCRIBE, of which some filters have been worked on.
    Filters(Box<FilterWork>),
    /// Nothing, until a message of the client's former connection is served to all.
    Successor,
}

impl Operation {
    /// Adds what it takes to an audit, beside its place.
    pub(super) fn audit(&self, audit: &mut Audit) {
        match self {
            Self::Publish(_, distribution) => distribution.audit(audit),
            Self::Filters(filters) => audit.add(filters.counted.bytes()),
            Self::Successor => {}
        }
    }
}

/// How far a SUBSCRIBE or UNSUBSCRIBE has come.
#[derive(Debug)]
pub(super) struct FilterWork {
    pub(super) packet_identifier: PacketIdentifier,
    /// What a SUBSCRIBE asks for beside its filters; `None` for an UNSUBSCRIBE.
    pub(super) subscription_identifier: Option<u32>,
    /// Bytes of the filters.
    pub(super) length: usize,
    /// Bytes of those, at the end of the packet, that were not checked, not asked about and not worked on yet.
    pub(super) unchecked: usize,
    pub(super) unasked: usize,
    pub(super) undone: usize,
    /// How many filters were asked about.
    pub(super) asked: usize,
    /// The decisions, as far as there are any, and how many have been followed.
    pub(super) decisions: Decisions,
    pub(super) followed: usize,
    /// The codes of the filters that have been worked on.
    pub(super) codes: Vec<u8>,
    counted: Counted,
}

impl FilterWork {
    /// A packet none of whose filters has been looked at. They take so many bytes.
    pub(super) fn new(
        packet_identifier: PacketIdentifier,
        subscription_identifier: Option<u32>,
        length: usize,
        decisions: Decisions,
    ) -> Self {
        Self {
            packet_identifier,
            subscription_identifier,
            length,
            unchecked: length,
            unasked: length,
            undone: length,
            asked: 0,
            decisions,
            followed: 0,
            codes: Vec::new(),
            counted: Counted::default(),
        }
    }
}

impl Broker {
    /// The share of a connection is used up: it goes on in a later turn, and is not read from until then.
    pub(super) fn defer(&mut self, id: ConnectionId) {
        let connection = &mut self.connections[id];
        connection.is_paused = true;
        if !connection.is_deferred {
            connection.is_deferred = true;
            self.waiting.connections.push_back(id);
            self.stop_connect_timer(id);
        }
    }

    /// Goes on with one of the connections that wait.
    pub(super) fn go_on_connection(&mut self) {
        let Some(id) = self.waiting.connections.pop_front() else { return };
        self.turn.begin_share(self.waiting.connections.len());
        self.turn.take(steps::PACKET);
        let Some(connection) = self.connections.find_mut(id) else { return };
        connection.is_deferred = false;
        let State::Serving(session) = connection.state else {
            // It waits to be greeted, or has ended meanwhile.
            self.read_on(id);
            return;
        };
        match self.go_on_operation(id, session) {
            Ok(true) => self.read_on(id),
            Ok(false) => {}
            Err(fault) => self.fail(id, &fault),
        }
    }

    /// Goes on with what a packet has begun, unless that needs the packet; tells whether the connection may go on.
    fn go_on_operation(&mut self, id: ConnectionId, session: SessionId) -> Result<bool, Fault> {
        match self.waiting.operations.remove(&id) {
            Some(Operation::Publish(delivery, distribution)) => {
                self.resume_publish(id, session, delivery, distribution)
            }
            Some(Operation::Successor) => {
                let must_wait = self
                    .waiting
                    .has_unlinked(&self.clients.sessions[session].client_identifier, &mut self.turn);
                if must_wait {
                    self.wait_for_predecessor(id);
                }
                Ok(!must_wait)
            }
            None => Ok(true),
            Some(filters @ Operation::Filters(_)) => {
                self.waiting.operations.insert(id, filters);
                Ok(true)
            }
        }
    }

    /// A message of a client is not served to all yet: its connection is not read from until it is.
    pub(super) fn suspend_publish(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        delivery: Delivery,
        mut distribution: Box<Distribution>,
    ) {
        distribution.is_recorded |= self.persistence.take_awaited() != Awaited::Nothing;
        if let Delivery::ExactlyOnce(identifier) = delivery {
            // On another connection it would be taken for a new one.
            self.clients.sessions[session].incoming.insert(identifier);
        }
        self.waiting.operations.insert(id, Operation::Publish(delivery, distribution));
        self.defer(id);
    }

    /// Goes on with the message of a client; tells whether it has been served to all, and answered.
    fn resume_publish(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        delivery: Delivery,
        mut distribution: Box<Distribution>,
    ) -> Result<bool, Fault> {
        self.persistence.begin_message(Some(id));
        let is_served = self.serve_rest(&mut distribution);
        if !is_served && is_planted(planted::Fault::AnsweredBeforeLast) {
            let routed = distribution.routed;
            self.detach_publish(session, delivery, *distribution);
            let (end, awaited) = (self.connections[id].outbox.end(), self.persistence.take_awaited());
            self.conclude_with(id, session, delivery, (routed.reason_code(), awaited), end)?;
            return Ok(true);
        }
        if !is_served {
            self.suspend_publish(id, session, delivery, distribution);
            return Ok(false);
        }
        let awaited = match self.persistence.take_awaited() {
            // What its earlier parts promise may be in an earlier batch, and that is durable by then, too.
            _ if distribution.is_recorded => Awaited::Batch(self.persistence.awaited_batch()),
            awaited => awaited,
        };
        // Its own copy may have left already, so nothing is moved before that.
        let end = self.connections[id].outbox.end();
        self.conclude_with(id, session, delivery, (distribution.routed.reason_code(), awaited), end)?;
        Ok(true)
    }

    /// Goes on with the packet that the connection has begun.
    #[cold]
    pub(super) fn go_on_packet(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        frame: &Frame<'_>,
    ) -> Result<Step, Fault> {
        let Some(Operation::Filters(filters)) = self.waiting.operations.remove(&id) else {
            unreachable!("nothing else leaves its packet in the inbox");
        };
        self.work_on_filters((id, session), filters, frame.body)
    }

    /// The rest of a packet's filters is for a later turn.
    pub(super) fn suspend_filters(&mut self, id: ConnectionId, mut filters: Box<FilterWork>) -> Step {
        filters.counted.set(
            memory::allocation(size_of::<FilterWork>())
                + memory::allocation(filters.decisions.verdicts.capacity() * size_of::<Verdict>())
                + memory::allocation(filters.codes.capacity()),
        );
        self.waiting.operations.insert(id, Operation::Filters(filters));
        self.defer(id);
        Step::Suspended
    }

    /// Other rules are in force: what they say holds for the filters of packets that have not been worked on.
    pub(super) fn ask_about_filters_anew(&mut self) {
        for operation in self.waiting.operations.values_mut() {
            if let Operation::Filters(filters) = operation {
                filters.decisions.verdicts.clear();
                filters.followed = 0;
                filters.asked = 0;
                filters.unasked = filters.undone;
            }
        }
    }

    /// Works on what waits in the inbox of a connection, and has it read again if nothing is left.
    fn read_on(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.find_mut(id) else { return };
        if connection.state == State::Ending {
            return;
        }
        connection.is_paused = false;
        self.restart_connect_timer(id);
        self.take_in(id, &[]);
        if self.connections.find(id).is_some_and(|connection| !connection.is_paused) {
            self.effects.push_back(Effect::Resume(id));
        }
    }

    /// A client is back while a message of its former connection is still on its way: its new ones wait for that.
    pub(super) fn wait_for_predecessor(&mut self, id: ConnectionId) {
        self.waiting.operations.insert(id, Operation::Successor);
        self.defer(id);
    }

    /// The connection ends: its packet goes on without it, or takes no further effect.
    pub(super) fn detach_operation(&mut self, id: ConnectionId, session: SessionId) {
        if let Some(Operation::Publish(delivery, distribution)) = self.waiting.operations.remove(&id) {
            self.detach_publish(session, delivery, *distribution);
        }
    }
}
