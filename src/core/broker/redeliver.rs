//! Acknowledgements from clients, and packets that are sent again because none came: all of them when a session is
//! resumed, and on a live connection of 3.1 and 3.1.1 the oldest after a pause. MQTT 5.0 forbids the latter
//! [MQTT-4.4.0-1].

use super::clock::Timer;
use super::deliver::DeliveryOptions;
use super::turn::steps;
use super::{Broker, Fault};
use crate::base::time::{Duration, Time};
use crate::core::journal::{Awaited, Record, Urgency};
use crate::core::message::{Naming, Outbound, ReceiverCopy};
use crate::core::session::{Outgoing, Queued, Reading, Settled, Stage};
use crate::core::slots::{ConnectionId, SessionId};
use crate::protocol::codec::{
    Acknowledgement, AcknowledgementKind, Delivery, Packet, PacketIdentifier, ProtocolVersion, QoS,
    ReasonCode,
};

/// The next step for a client when no more queued messages can be sent now.
enum Next {
    /// Wait until it acknowledges or reads.
    Nothing,
    /// Send retained messages of new subscriptions.
    Retained,
    /// Send more queued messages in a later turn.
    Later,
}

impl Broker {
    pub(super) fn handle_puback(
        &mut self,
        session: SessionId,
        identifier: PacketIdentifier,
    ) -> Result<(), Fault> {
        let outgoing = self.clients.sessions[session].outgoing_mut();
        match outgoing.acknowledge(identifier, &mut self.output.sender.spares) {
            Settled::Done => {
                outgoing.progress(self.clock.now);
                if outgoing.is_at_rest() {
                    self.settle_acknowledged(session);
                } else {
                    self.pump(session);
                }
            }
            Settled::Unknown | Settled::Repeated => {}
            Settled::OutOfPlace => return Err(Fault::protocol_error("PUBACK for a QoS 2 message")),
        }
        Ok(())
    }

    pub(super) fn handle_pubrec(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        identifier: PacketIdentifier,
        is_refused: bool,
    ) -> Result<(), Fault> {
        let outgoing = self.clients.sessions[session].outgoing_mut();
        let number = outgoing.number_in_flight(identifier);
        let settled = outgoing.receive(identifier, is_refused, &mut self.output.sender.spares);
        if matches!(settled, Settled::Done) {
            outgoing.progress(self.clock.now);
        }
        match settled {
            Settled::Done if is_refused => {
                self.record(session, Urgency::Lazy, |number| Record::Completed(number, identifier));
                self.settle_gone(session);
                self.pump(session);
            }
            Settled::Done => {
                if let Some(message) = number {
                    // Before the message is settled, because that would end the delivery.
                    self.record_delivery(session, identifier, message, true);
                }
                self.settle_gone(session);
                // [MQTT-4.3.3-4]
                self.release(id, session, identifier)?;
            }
            Settled::Repeated => self.release(id, session, identifier)?,
            // An unknown identifier is answered all the same, or the client would wait for the answer.
            Settled::Unknown if is_refused => {}
            Settled::Unknown => {
                let is_v5 = self.connections[id].version == ProtocolVersion::V5;
                let reason = if is_v5 { ReasonCode::PacketIdentifierNotFound } else { ReasonCode::Success };
                let awaited = self.persistence.recorded(session);
                self.acknowledge_when(id, awaited, AcknowledgementKind::PubRel, identifier, reason)?;
            }
            Settled::OutOfPlace => return Err(Fault::protocol_error("PUBREC for a QoS 1 message")),
        }
        Ok(())
    }

    /// Sends the PUBREL that answers a PUBREC, as soon as the PUBREC is durable: after a crash the message itself must
    /// not be sent again.
    fn release(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        identifier: PacketIdentifier,
    ) -> Result<(), Fault> {
        let (awaited, batch) = if self.persistence.is_persisted(session) {
            (self.persistence.recorded(session), self.persistence.awaited_batch())
        } else {
            (Awaited::Nothing, 0)
        };
        self.acknowledge_when(id, awaited, AcknowledgementKind::PubRel, identifier, ReasonCode::Success)?;
        let ends_at = self.connections[id].outbox.end();
        self.clients.sessions[session].outgoing_mut().released(identifier, self.clock.now, ends_at, batch);
        self.retry_later(session);
        Ok(())
    }

    pub(super) fn handle_pubcomp(
        &mut self,
        session: SessionId,
        identifier: PacketIdentifier,
    ) -> Result<(), Fault> {
        let outgoing = self.clients.sessions[session].outgoing_mut();
        match outgoing.complete(identifier) {
            Settled::Done => {
                outgoing.progress(self.clock.now);
                let is_at_rest = outgoing.is_at_rest();
                self.record(session, Urgency::Lazy, |number| Record::Completed(number, identifier));
                if !is_at_rest {
                    self.pump(session);
                }
            }
            Settled::Unknown | Settled::Repeated => {}
            Settled::OutOfPlace => return Err(Fault::protocol_error("PUBCOMP before PUBREC")),
        }
        Ok(())
    }

    /// Refills the outbox of a connected client: first with what an earlier connection left unacknowledged, in the
    /// original order, then from the queue, then with retained messages of new subscriptions.
    pub(super) fn pump(&mut self, session: SessionId) {
        let next = self.send_waiting(session);
        self.settle_acknowledged(session);
        match next {
            Next::Nothing => {}
            Next::Retained => {
                self.fetch_more(session);
                self.send_retained(session);
            }
            Next::Later => self.list(session),
        }
    }

    /// Lists a session to which more could be sent, for a later turn.
    pub(super) fn list(&mut self, session: SessionId) {
        let Some(outgoing) = &mut self.clients.sessions[session].outgoing else { return };
        if !outgoing.is_listed {
            outgoing.is_listed = true;
            self.waiting.sessions.push_back(session);
        }
    }

    /// Continues with one of the listed sessions.
    pub(super) fn go_on_session(&mut self) {
        let Some(id) = self.waiting.sessions.pop_front() else { return };
        self.turn.begin_share(self.waiting.sessions.len());
        self.turn.take(steps::PACKET);
        if let Some(session) = self.clients.sessions.find_mut(id) {
            if let Some(outgoing) = &mut session.outgoing {
                outgoing.is_listed = false;
            }
            self.pump(id);
        }
    }

    /// Sends queued messages, as many as may be sent now. Returns what to do next.
    fn send_waiting(&mut self, session: SessionId) -> Next {
        let (durable, prepares) =
            (self.persistence.durable_batch(), self.persistence.must_prepare(session, QoS::ExactlyOnce));
        loop {
            let state = &mut self.clients.sessions[session];
            let Some(id) = state.connection() else { return Next::Nothing };
            let Some(outgoing) = &mut state.outgoing else { return Next::Nothing };
            if outgoing.is_at_rest() {
                self.look_for_at_most_once(session);
                return Next::Nothing;
            }
            if self.connections[id].outbox.len() >= self.options.limits.outbox_refill_bytes {
                return Next::Nothing;
            }
            if self.turn.is_over() {
                return Next::Later;
            }
            if prepares && self.send_prepared(id, session, durable) {
                continue;
            }
            let Some(outgoing) = &mut self.clients.sessions[session].outgoing else { return Next::Nothing };
            self.turn.take(steps::delivery(QoS::AtLeastOnce));
            if let Some(index) = outgoing.next_to_resend(durable) {
                self.resend_next(id, session, index);
                continue;
            }
            if let (Some(batch), Some(journal)) =
                (outgoing.resends_after(durable), &mut self.persistence.journal)
            {
                journal.suspend_until(batch, session);
            }
            let Some(queued) = outgoing.next_to_begin(prepares) else {
                if outgoing.has_room_in_flight() || !self.make_place(session, prepares) {
                    return Next::Retained;
                }
                continue;
            };
            self.begin_queued(id, session, &queued);
        }
    }

    /// Sends the next deliveries whose Packet Identifiers have become durable, as far as they can be sent without
    /// further checks. Returns whether it has sent any.
    fn send_prepared(&mut self, id: ConnectionId, session: SessionId, durable: u64) -> bool {
        let (now, state) = (self.clock.now, &mut self.clients.sessions[session]);
        let connection = &mut self.connections[id];
        let Some(outgoing) = state.outgoing.as_mut().filter(|_| state.reading == Reading::Free) else {
            return false;
        };
        let mut has_sent = false;
        while !self.turn.is_over()
            && connection.outbox.len() < self.options.limits.outbox_refill_bytes
            && let Some(index) = outgoing.next_to_resend(durable)
            && let Stage::Prepared(queued) = outgoing.in_flight()[index].stage()
            && queued.message.expires() > now
        {
            let copy = ReceiverCopy {
                dup: false,
                retain: queued.retain,
                delivery: Delivery::ExactlyOnce(outgoing.identifier_of(index)),
                identifiers: queued.identifiers.as_slice(),
                naming: Naming::Name,
            };
            let client = &state.client_identifier;
            if self.output.sender.publish_stored(connection, client, &queued.message, copy, now).is_err() {
                break;
            }
            self.turn.take(steps::delivery(QoS::ExactlyOnce));
            self.output.statistics.sent.count(1, queued.message.payload_length());
            outgoing.resent(now, connection.outbox.end());
            has_sent = true;
        }
        if has_sent {
            self.retry_later(session);
        }
        has_sent
    }

    /// Frees a Packet Identifier for the next message in the queue. Returns whether the message may be sent.
    #[cold]
    fn make_place(&mut self, session: SessionId, prepares: bool) -> bool {
        let outgoing = self.clients.sessions[session].outgoing_mut();
        self.turn.take(outgoing.make_place() / steps::COPIED_PER_STEP);
        outgoing.may_begin_next(prepares)
    }

    fn begin_queued(&mut self, id: ConnectionId, session: SessionId, queued: &Queued) {
        if queued.message.expires() <= self.clock.now {
            self.output.statistics.expired += 1;
            self.clients.sessions[session].outgoing_mut().let_go(queued.number);
            return;
        }
        let state = &mut self.clients.sessions[session];
        let (reading, sent_until) = (state.reading, state.outgoing_mut().sent_until);
        if reading != Reading::Free && self.must_withhold(session, queued) {
            self.output.statistics.dropped += 1;
            self.clients.sessions[session].outgoing_mut().let_go(queued.number);
            return;
        }
        let mut outbound = Outbound::stored(&queued.message);
        self.output.sender.encoder.begin();
        self.output.sender.identifiers.note(&queued.identifiers);
        let options = DeliveryOptions {
            qos: queued.qos,
            retain: queued.retain,
            identifiers: queued.identifiers.as_slice(),
            group: queued.group,
            number: queued.number,
            dup: queued.qos != QoS::AtMostOnce && queued.number.is_some() && queued.number <= sent_until,
        };
        if queued.qos == QoS::AtMostOnce {
            self.send_at_most_once(id, session, &mut outbound, options);
            self.clients.sessions[session].outgoing_mut().let_go(queued.number);
        } else {
            self.begin(session, &mut outbound, options);
        }
    }

    #[cold]
    fn must_withhold(&mut self, session: SessionId, queued: &Queued) -> bool {
        self.turn.take(steps::QUESTION);
        self.is_barred(session, queued.message.publication().topic)
    }

    fn resend_next(&mut self, id: ConnectionId, session: SessionId, index: usize) {
        let is_sent = !self.has_expired_unsent(session, index)
            && self.may_send_again(session, index)
            && self.send_again(id, session, index);
        let ends_at = self.connections[id].outbox.end();
        let now = self.clock.now;
        let outgoing = self.clients.sessions[session].outgoing_mut();
        if !is_sent {
            outgoing.give_up();
            return;
        }
        outgoing.resent(now, ends_at);
        self.retry_later(session);
    }

    /// Whether a message has expired while its Packet Identifier was being made durable [MQTT-3.3.2-5].
    fn has_expired_unsent(&mut self, session: SessionId, index: usize) -> bool {
        let outgoing = self.clients.sessions[session].outgoing_mut();
        let Stage::Prepared(queued) = outgoing.in_flight()[index].stage() else { return false };
        let has_expired = queued.message.expires() <= self.clock.now;
        self.output.statistics.expired += u64::from(has_expired);
        has_expired
    }

    /// Sends a PUBLISH again with DUP [MQTT-3.3.1-1], or a PUBREL. Returns false if a PUBLISH no longer fits into the
    /// client's Maximum Packet Size.
    fn send_again(&mut self, id: ConnectionId, session: SessionId, index: usize) -> bool {
        let state = &mut self.clients.sessions[session];
        let outgoing: &mut Outgoing = state.outgoing.get_or_insert_default();
        let identifier = outgoing.identifier_of(index);
        let connection = &mut self.connections[id];
        let is_first = matches!(outgoing.in_flight()[index].stage(), Stage::Prepared(_));
        self.output.statistics.redelivered += u64::from(!is_first);
        match outgoing.in_flight()[index].stage() {
            Stage::Settled | Stage::Aside(_) => {}
            Stage::Release => {
                let pubrel = Packet::PubRel(Acknowledgement::new(identifier, ReasonCode::Success));
                let _ = self.output.sender.packet(connection, &state.client_identifier, &pubrel);
            }
            Stage::Prepared(queued) | Stage::Publish(queued) => {
                let delivery = match queued.qos {
                    QoS::ExactlyOnce => Delivery::ExactlyOnce(identifier),
                    _ => Delivery::AtLeastOnce(identifier),
                };
                let copy = ReceiverCopy {
                    dup: !is_first,
                    retain: queued.retain,
                    delivery,
                    identifiers: queued.identifiers.as_slice(),
                    naming: Naming::Name,
                };
                if self
                    .output
                    .sender
                    .publish_stored(
                        connection,
                        &state.client_identifier,
                        &queued.message,
                        copy,
                        self.clock.now,
                    )
                    .is_err()
                {
                    self.output.statistics.oversized += 1;
                    return false;
                }
                self.output.statistics.sent.count(1, queued.message.payload_length());
            }
        }
        true
    }

    /// Makes sure that a timer runs for the redelivery of what is sent now, if the version of this session's connection
    /// has redelivery on a live connection.
    #[inline]
    pub(super) fn retry_later(&mut self, session: SessionId) {
        if self.clients.sessions[session].outgoing_mut().is_first_at(self.clock.now) {
            self.arm_retry(session);
        }
    }

    #[inline(never)]
    pub(super) fn arm_retry(&mut self, session: SessionId) {
        let state = &mut self.clients.sessions[session];
        let interval = self.options.limits.retry_interval;
        let Some(id) = state.connection() else { return };
        if interval == Duration::ZERO || self.connections[id].version == ProtocolVersion::V5 {
            return;
        }
        if state.timer.is_none() {
            state.timer = Some(self.clock.arm(interval, Timer::Session(session)));
        }
    }

    /// Sends the oldest unacknowledged packet again when its client has acknowledged nothing for a while. A slow client
    /// that answers is sent nothing twice. The last copy must have left the outbox, so that a slow link is not flooded.
    pub(super) fn retry(&mut self, session: SessionId) {
        let Some(id) = self.clients.sessions[session].connection() else { return };
        let interval = self.options.limits.retry_interval;
        let (sent, durable) = (self.connections[id].outbox.sent(), self.persistence.durable_batch());
        let outgoing = self.clients.sessions[session].outgoing_mut();
        let due = outgoing.redelivery_due(interval);
        if due == Time::NEVER || interval == Duration::ZERO {
            outgoing.rest();
            return;
        }
        if due <= self.clock.now && outgoing.has_left(sent, durable) {
            self.turn.take(steps::delivery(QoS::AtLeastOnce));
            self.send_again(id, session, 0);
            let ends_at = self.connections[id].outbox.end();
            self.clients.sessions[session].outgoing_mut().retried(self.clock.now, ends_at);
        }
        // The next answer may make a redelivery due sooner than `due`, but never sooner than after one interval.
        let due = self.clients.sessions[session].outgoing_mut().redelivery_due(interval);
        let next = if due <= self.clock.now {
            self.clock.now + interval
        } else {
            due.min(self.clock.now + interval)
        };
        self.clients.sessions[session].timer = Some(self.clock.wheel.arm(next, Timer::Session(session)));
    }
}
