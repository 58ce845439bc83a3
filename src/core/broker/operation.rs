//! Operations that a packet has begun and not finished when the share of its connection was used up. The connection is
//! not read until it is finished. A packet that has only partly taken effect stays the first one in the inbox.

use super::decisions::Decisions;
use super::distribution::Distribution;
use super::turn::steps;
use super::{Broker, Effect, Fault, Step};
use crate::base::memory::{self, Audit, Counted};
use crate::core::access::Verdict;
use crate::core::connection::State;
use crate::core::journal::Awaited;
use crate::core::slots::{ConnectionId, SessionId};
use crate::protocol::codec::{Delivery, Frame, PacketIdentifier};

/// An operation that continues in a later turn.
#[derive(Debug)]
pub(super) enum Operation {
    /// A message that was accepted and is being delivered to its remaining recipients.
    Publish(Delivery, Box<Distribution>),
    /// A SUBSCRIBE or UNSUBSCRIBE, of which some filters have been processed.
    Filters(Box<FilterWork>),
    /// Nothing; the connection waits until a message of the client's former connection has reached all its recipients.
    Successor,
}

impl Operation {
    /// Adds the memory that it holds to an audit, apart from the place of the value itself.
    pub(super) fn audit(&self, audit: &mut Audit) {
        match self {
            Self::Publish(_, distribution) => distribution.audit(audit),
            Self::Filters(filters) => audit.add(filters.counted.bytes()),
            Self::Successor => {}
        }
    }
}

/// How far the log of the cluster was read since a packet came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LogRead {
    /// Nothing is known about it.
    NotYet,
    /// The packet waits until the node has read up to the end.
    Waiting,
    /// The node has.
    ToTheEnd,
}

/// How far a SUBSCRIBE or UNSUBSCRIBE has come.
#[derive(Debug)]
pub(super) struct FilterWork {
    pub(super) packet_identifier: PacketIdentifier,
    /// The Subscription Identifier of a SUBSCRIBE, 0 for none; `None` for an UNSUBSCRIBE.
    pub(super) subscription_identifier: Option<u32>,
    /// The bytes of all filters.
    pub(super) length: usize,
    /// The bytes, at the end of the packet, whose filters are still to be checked, asked about and processed.
    pub(super) unchecked: usize,
    pub(super) unasked: usize,
    pub(super) undone: usize,
    /// How many filters have been asked about.
    pub(super) asked: usize,
    /// The decisions made so far, and how many of them have been used.
    pub(super) decisions: Decisions,
    pub(super) followed: usize,
    /// The first filter for which there was no room, by its place in the packet, and why.
    pub(super) over_limit: Option<(usize, String)>,
    /// Whether the log of the cluster was read up to its end since the packet came.
    pub(super) log: LogRead,
    /// The codes of the filters that have been processed.
    pub(super) codes: Vec<u8>,
    counted: Counted,
}

impl FilterWork {
    /// Makes the state of a packet of which no filter has been processed. `length` is the number of bytes of its
    /// filters.
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
            over_limit: None,
            log: LogRead::NotYet,
            codes: Vec::new(),
            counted: Counted::default(),
        }
    }
}

impl Broker {
    /// Continues with a connection whose share is used up in a later turn. It is not read until then.
    pub(super) fn defer(&mut self, id: ConnectionId) {
        let connection = &mut self.connections[id];
        connection.is_paused = true;
        if !connection.is_deferred {
            connection.is_deferred = true;
            self.waiting.connections.push_back(id);
            self.stop_connect_timer(id);
        }
    }

    /// Continues with one of the waiting connections.
    pub(super) fn go_on_connection(&mut self) {
        let Some(id) = self.waiting.connections.pop_front() else { return };
        self.turn.begin_share(self.waiting.connections.len());
        self.turn.take(steps::PACKET);
        let Some(connection) = self.connections.find_mut(id) else { return };
        connection.is_deferred = false;
        let State::Serving(session) = connection.state else {
            // It waits to be accepted, or has ended since.
            self.read_on(id);
            return;
        };
        match self.go_on_operation(id, session) {
            Ok(true) => self.read_on(id),
            Ok(false) => {}
            Err(fault) => self.fail(id, &fault),
        }
    }

    /// Continues with the operation of a connection, unless that needs the packet. Returns whether the connection may
    /// go on.
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

    /// Suspends a message that has not reached all its recipients. Its connection is not read until it has.
    pub(super) fn suspend_publish(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        delivery: Delivery,
        mut distribution: Box<Distribution>,
    ) {
        distribution.is_recorded |= self.persistence.take_awaited() != Awaited::Nothing;
        if let Delivery::ExactlyOnce(identifier) = delivery {
            // On another connection the message would be taken for a new one.
            self.clients.sessions[session].incoming.insert(identifier);
        }
        self.waiting.operations.insert(id, Operation::Publish(delivery, distribution));
        self.defer(id);
    }

    /// Continues with the message of a client. Returns whether it has reached all its recipients and been answered.
    fn resume_publish(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        delivery: Delivery,
        mut distribution: Box<Distribution>,
    ) -> Result<bool, Fault> {
        self.persistence.begin_message(Some(id));
        let is_served = self.serve_rest(&mut distribution);
        if !is_served {
            self.suspend_publish(id, session, delivery, distribution);
            return Ok(false);
        }
        let awaited = match self.persistence.take_awaited() {
            // What its earlier parts promise may be in an earlier batch, which is durable by then, too.
            _ if distribution.is_recorded => Awaited::Batch(self.persistence.awaited_batch()),
            awaited => awaited,
        };
        // The client's own copy may have left already, so the answer is not moved ahead of it.
        let end = self.connections[id].outbox.end();
        self.conclude_with(id, session, delivery, (distribution.routed.reason_code(), awaited), end)?;
        Ok(true)
    }

    /// Continues with the packet that the connection has begun.
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

    /// Suspends the rest of a packet's filters until a later turn.
    pub(super) fn suspend_filters(&mut self, id: ConnectionId, filters: Box<FilterWork>) -> Step {
        self.keep_filters(id, filters);
        self.defer(id);
        Step::Suspended
    }

    /// Suspends a packet's filters until the node has read the log of the cluster up to its end.
    pub(super) fn suspend_filters_for_log(&mut self, id: ConnectionId, mut filters: Box<FilterWork>) -> Step {
        let is_new = filters.log == LogRead::NotYet;
        filters.log = LogRead::Waiting;
        self.keep_filters(id, filters);
        self.connections[id].is_paused = true;
        if is_new {
            self.waiting.readers.wait(id);
        }
        Step::Suspended
    }

    fn keep_filters(&mut self, id: ConnectionId, mut filters: Box<FilterWork>) {
        filters.counted.set(
            memory::allocation(size_of::<FilterWork>())
                + memory::allocation(filters.decisions.verdicts.capacity() * size_of::<Verdict>())
                + memory::allocation(filters.over_limit.as_ref().map_or(0, |(_, why)| why.capacity()))
                + memory::allocation(filters.codes.capacity()),
        );
        self.waiting.operations.insert(id, Operation::Filters(filters));
    }

    /// Discards the decisions about filters that have not been processed, because the access control was replaced.
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

    /// Processes the input in the inbox of a connection, and has the connection read again if nothing is left of it.
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

    /// Makes a client that is back wait with its packets while a message of its former connection is still being
    /// distributed.
    pub(super) fn wait_for_predecessor(&mut self, id: ConnectionId) {
        self.waiting.operations.insert(id, Operation::Successor);
        self.defer(id);
    }

    /// Ends the operation of a connection that ends: its message is distributed without it; filters take no further
    /// effect.
    pub(super) fn detach_operation(&mut self, id: ConnectionId, session: SessionId) {
        if let Some(Operation::Publish(delivery, distribution)) = self.waiting.operations.remove(&id) {
            self.detach_publish(session, delivery, *distribution);
        }
    }
}
