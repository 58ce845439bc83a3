//! The beginning of QoS 1 and 2 deliveries: the message gets its Packet Identifier and is sent. From then on it is in
//! flight.

use super::Broker;
use super::deliver::DeliveryOptions;
use super::output::Output;
use crate::base::time::Time;
use crate::core::connection::Connection;
use crate::core::journal::MessageNumber;
use crate::core::message::{Naming, Outbound, ReceiverCopy};
use crate::core::session::{Outgoing, Queued, Session};
use crate::core::slots::SessionId;
use crate::protocol::codec::{Delivery, PacketIdentifier, QoS};

/// The result of sending a PUBLISH for the first time.
#[derive(Clone, Copy)]
enum Begun {
    /// It is the first packet of this moment that requires an answer.
    First,
    /// Such a packet was sent at this moment already.
    Later,
    /// The packet is too large for the client, and counts as delivered [MQTT-3.1.2-25].
    Oversized,
}

impl Broker {
    /// Begins a delivery of QoS 1 or 2 if the client is connected and reads fast enough, and no older message waits.
    /// Returns whether it has begun.
    #[inline]
    pub(super) fn begin_at_once(
        &mut self,
        session: SessionId,
        outbound: &mut Outbound<'_>,
        options: DeliveryOptions<'_>,
    ) -> bool {
        if self.must_prepare(session, options.qos) {
            return self.prepare_at_once(session, outbound, options);
        }
        let now = self.now();
        let state = &mut self.clients.sessions[session];
        let Some(id) = state.connection() else { return false };
        let connection = &mut self.connections[id];
        if connection.outbox.len() >= self.options.limits.outbox_bytes {
            return false;
        }
        let outgoing = state.outgoing_mut();
        if !outgoing.has_turn() {
            return false;
        }
        if !outgoing.has_room_in_flight() {
            self.wait_for_place(session);
            return false;
        }
        let begun = self.output.begin(state, connection, outbound, options, now);
        self.persist_if_begun(session, outbound, options, begun);
        true
    }

    /// Gives a copy that [must be prepared](Broker::must_prepare) its Packet Identifier, if the client is connected and
    /// reads fast enough, and no older message waits. Returns whether it has done so.
    #[inline(never)]
    fn prepare_at_once(
        &mut self,
        session: SessionId,
        outbound: &mut Outbound<'_>,
        options: DeliveryOptions<'_>,
    ) -> bool {
        let connection = self.clients.sessions[session].connection();
        if connection.is_none_or(|id| !self.keeps_up(id)) {
            return false;
        }
        let is_possible = self.clients.sessions[session].outgoing_mut().may_prepare();
        match is_possible {
            true => self.prepare(session, outbound, options),
            false => self.wait_for_place(session),
        }
        is_possible
    }

    /// Lists a session whose next message waits only for a Packet Identifier: a later turn looks for a free one.
    #[cold]
    fn wait_for_place(&mut self, session: SessionId) {
        if self.clients.sessions[session]
            .outgoing
            .as_ref()
            .is_some_and(|outgoing| !outgoing.has_room_in_flight())
        {
            self.list(session);
        }
    }

    /// Begins the delivery of a copy that may be sent now.
    pub(super) fn begin(
        &mut self,
        session: SessionId,
        outbound: &mut Outbound<'_>,
        options: DeliveryOptions<'_>,
    ) {
        if self.must_prepare(session, options.qos) {
            self.prepare(session, outbound, options);
            return;
        }
        let now = self.now();
        let state = &mut self.clients.sessions[session];
        let Some(id) = state.connection() else { return };
        let begun = self.output.begin(state, &mut self.connections[id], outbound, options, now);
        self.persist_if_begun(session, outbound, options, begun);
    }

    /// Begins the delivery of a copy that was queued and may be sent now; with `dup` if it may have been sent before.
    #[inline]
    pub(super) fn begin_queued(&mut self, session: SessionId, queued: Queued, dup: bool) {
        if self.must_prepare(session, queued.qos) {
            self.prepare_queued(session, queued);
            return;
        }
        let (now, number) = (self.now(), queued.number);
        let state = &mut self.clients.sessions[session];
        let Some(id) = state.connection() else { return };
        let begun = self.output.begin_queued(state, &mut self.connections[id], queued, dup, now);
        if self.note_begun(session, number, begun) {
            self.persist_begun_queued(session);
        }
    }

    /// Persists a delivery that was to begin, if it has begun and the session is persisted.
    #[inline(always)]
    fn persist_if_begun(
        &mut self,
        session: SessionId,
        outbound: &mut Outbound<'_>,
        options: DeliveryOptions<'_>,
        begun: Begun,
    ) {
        if self.note_begun(session, options.number, begun) && self.persistence.journal.is_some() {
            let message = outbound.message(&mut self.output.sender.spares);
            self.persist_begun(session, message, options);
        }
    }

    /// Makes sure that the timer for the redelivery of a delivery runs, or ends the delivery if it is too large. Returns
    /// whether it has begun.
    #[inline(always)]
    fn note_begun(&mut self, session: SessionId, number: Option<MessageNumber>, begun: Begun) -> bool {
        match begun {
            Begun::First => self.arm_retry(session),
            Begun::Later => {}
            Begun::Oversized => {
                self.clients.sessions[session].outgoing_mut().let_go(number);
                return false;
            }
        }
        true
    }
}

impl Output {
    /// Sends a QoS 1 or 2 copy to a connected client for the first time and puts it in flight.
    #[inline]
    fn begin(
        &mut self,
        state: &mut Session,
        connection: &mut Connection,
        outbound: &mut Outbound<'_>,
        options: DeliveryOptions<'_>,
        now: Time,
    ) -> Begun {
        let outgoing: &mut Outgoing = state.outgoing.get_or_insert_default();
        let delivery = delivery(options.qos, outgoing.next_identifier());
        let copy = options.with(delivery);
        if self.sender.publish(connection, &state.client_identifier, outbound, copy, now).is_err() {
            self.statistics.oversized += 1;
            return Begun::Oversized;
        }
        self.statistics.sent.count(1, outbound.publication.payload.len());
        let message = outbound.message(&mut self.sender.spares).clone();
        let queued = options.queued(message, &mut self.sender.identifiers);
        put_in_flight(outgoing, queued, now, connection.outbox.end())
    }

    /// Does the same with a copy that was queued.
    #[inline]
    fn begin_queued(
        &mut self,
        state: &mut Session,
        connection: &mut Connection,
        queued: Queued,
        dup: bool,
        now: Time,
    ) -> Begun {
        let outgoing: &mut Outgoing = state.outgoing.get_or_insert_default();
        let identifier = outgoing.next_identifier();
        if !self.publish_queued(connection, &state.client_identifier, &queued, (identifier, dup), now) {
            self.statistics.oversized += 1;
            return Begun::Oversized;
        }
        put_in_flight(outgoing, queued, now, connection.outbox.end())
    }

    /// Sends the PUBLISH of a delivery that has its Packet Identifier, with or without DUP. Returns false if it does not
    /// fit into the client's Maximum Packet Size.
    #[inline]
    pub(super) fn publish_queued(
        &mut self,
        connection: &mut Connection,
        client: &str,
        queued: &Queued,
        (identifier, dup): (PacketIdentifier, bool),
        now: Time,
    ) -> bool {
        let copy = ReceiverCopy {
            dup,
            retain: queued.retain,
            delivery: delivery(queued.qos, identifier),
            identifiers: queued.identifiers.as_slice(),
            naming: Naming::Name,
        };
        if self.sender.publish_stored(connection, client, &queued.message, copy, now).is_err() {
            return false;
        }
        self.statistics.sent.count(1, queued.message.payload_length());
        true
    }
}

/// Returns the QoS, 1 or 2, and the Packet Identifier of a delivery.
#[inline]
const fn delivery(qos: QoS, identifier: PacketIdentifier) -> Delivery {
    match qos {
        QoS::ExactlyOnce => Delivery::ExactlyOnce(identifier),
        QoS::AtMostOnce | QoS::AtLeastOnce => Delivery::AtLeastOnce(identifier),
    }
}

/// Puts a copy in flight whose PUBLISH was sent and ends at `ends_at` in the connection's stream.
#[inline]
fn put_in_flight(outgoing: &mut Outgoing, queued: Queued, now: Time, ends_at: u64) -> Begun {
    outgoing.begin(queued, now, ends_at);
    if outgoing.is_first_at(now) { Begun::First } else { Begun::Later }
}
