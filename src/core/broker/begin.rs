//! Deliveries of QoS 1 and 2 begin: the message gets its Packet Identifier, is sent, and is in flight from then on.

use super::Broker;
use super::deliver::DeliveryOptions;
use super::output::Statistics;
use super::send::Sender;
use crate::base::time::Time;
use crate::core::connection::Connection;
use crate::core::message::Outbound;
use crate::core::session::{Outgoing, Session};
use crate::core::slots::SessionId;
use crate::protocol::codec::{Delivery, QoS};

/// What became of a delivery that was to begin.
#[derive(Clone, Copy)]
enum Begun {
    /// It is the first one at this moment.
    First,
    /// Others have begun at this moment.
    Behind,
    /// It is too large for the client, and counts as delivered [MQTT-3.1.2-25].
    Oversized,
}

impl Broker {
    /// Begins a delivery of QoS 1 or 2 if the client is there, keeps up, and nothing older waits. False if not.
    #[inline]
    pub(super) fn begin_at_once(
        &mut self,
        session: SessionId,
        outbound: &mut Outbound<'_>,
        options: DeliveryOptions<'_>,
    ) -> bool {
        let must_prepare = self.persistence.must_prepare(session, options.qos);
        let state = &mut self.clients.sessions[session];
        let Some(id) = state.connection() else { return false };
        let connection = &mut self.connections[id];
        if connection.outbox.len() >= self.options.limits.outbox_bytes {
            return false;
        }
        if must_prepare {
            let is_possible = state.outgoing_mut().may_prepare();
            match is_possible {
                true => self.prepare(session, outbound, options),
                false => self.wait_for_place(session),
            }
            return is_possible;
        }
        let outgoing = state.outgoing_mut();
        if !outgoing.has_turn() {
            return false;
        }
        if !outgoing.has_room_in_flight() {
            self.wait_for_place(session);
            return false;
        }
        let begun = begin_on(
            state,
            connection,
            &mut self.output.sender,
            &mut self.output.statistics,
            self.clock.now,
            outbound,
            options,
        );
        self.has_begun(session, outbound, options, begun);
        true
    }

    /// A message that waits only for a Packet Identifier goes on in a later turn, which looks for one.
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

    /// Begins the delivery of a copy whose turn it is.
    pub(super) fn begin(
        &mut self,
        session: SessionId,
        outbound: &mut Outbound<'_>,
        options: DeliveryOptions<'_>,
    ) {
        if self.persistence.must_prepare(session, options.qos) {
            self.prepare(session, outbound, options);
            return;
        }
        let state = &mut self.clients.sessions[session];
        let Some(id) = state.connection() else { return };
        let begun = begin_on(
            state,
            &mut self.connections[id],
            &mut self.output.sender,
            &mut self.output.statistics,
            self.clock.now,
            outbound,
            options,
        );
        self.has_begun(session, outbound, options, begun);
    }

    /// Does what follows from a delivery that was to begin.
    #[inline(always)]
    fn has_begun(
        &mut self,
        session: SessionId,
        outbound: &mut Outbound<'_>,
        options: DeliveryOptions<'_>,
        begun: Begun,
    ) {
        match begun {
            Begun::First => self.arm_retry(session),
            Begun::Behind => {}
            Begun::Oversized => {
                self.clients.sessions[session].outgoing_mut().let_go(options.number);
                return;
            }
        }
        if self.persistence.journal.is_some() {
            self.persist_begun(session, outbound, options);
        }
    }

    /// Keeps the copy whose delivery has begun last.
    #[inline(never)]
    fn persist_begun(
        &mut self,
        session: SessionId,
        outbound: &mut Outbound<'_>,
        options: DeliveryOptions<'_>,
    ) {
        let outgoing = self.clients.sessions[session].outgoing_mut();
        let identifier = outgoing.identifier_of(outgoing.in_flight().len() - 1);
        let begun = (options.qos == QoS::AtLeastOnce).then_some(identifier);
        let Some(number) = self.persist_copy(session, outbound, options, begun) else { return };
        self.clients.sessions[session].outgoing_mut().number_last(number);
        if options.qos == QoS::ExactlyOnce {
            self.record_delivery(session, identifier, number, false);
        }
    }
}

/// Sends a QoS 1 or 2 copy to a connected client for the first time and puts it in flight.
#[inline]
fn begin_on(
    state: &mut Session,
    connection: &mut Connection,
    sender: &mut Sender,
    statistics: &mut Statistics,
    now: Time,
    outbound: &mut Outbound<'_>,
    options: DeliveryOptions<'_>,
) -> Begun {
    let outgoing: &mut Outgoing = state.outgoing.get_or_insert_default();
    let identifier = outgoing.next_identifier();
    let delivery = match options.qos {
        QoS::ExactlyOnce => Delivery::ExactlyOnce(identifier),
        _ => Delivery::AtLeastOnce(identifier),
    };
    if sender.publish(connection, &state.client_identifier, outbound, options.with(delivery), now).is_err() {
        statistics.oversized += 1;
        return Begun::Oversized;
    }
    statistics.sent.count(1, outbound.publication.payload.len());
    let message = outbound.message(&mut sender.spares).clone();
    let queued = options.queued(message, &mut sender.identifiers);
    outgoing.begin(queued, now, connection.outbox.end());
    if outgoing.is_first_at(now) { Begun::First } else { Begun::Behind }
}
