//! Acknowledgements from clients, and packets that are sent again because they were not acknowledged: all of them when a
//! session is resumed, and on a live connection of 3.1 and 3.1.1 the oldest one after a pause. MQTT 5.0 forbids the
//! latter [MQTT-4.4.0-1].

use super::clock::Timer;
use super::deliver::DeliveryOptions;
use super::turn::steps;
use super::{Broker, Fault};
use crate::base::time::{Duration, Time};
use crate::core::journal::{Awaited, Record, Urgency};
use crate::core::message::Outbound;
use crate::core::session::{LostCopy, Outgoing, Queued, Reading, Settled, Stage};
use crate::core::slots::{ConnectionId, SessionId};
use crate::protocol::codec::{
    Acknowledgement, AcknowledgementKind, Packet, PacketIdentifier, ProtocolVersion, QoS, ReasonCode,
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
    /// Handles a PUBACK: the delivery is over, and the next queued message may be sent.
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

    /// Handles a PUBREC. One that `is_refused`, by its Reason Code, ends the delivery.
    pub(super) fn handle_pubrec(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        identifier: PacketIdentifier,
        is_refused: bool,
    ) -> Result<(), Fault> {
        let now = self.now();
        let outgoing = self.clients.sessions[session].outgoing_mut();
        let number = outgoing.number_in_flight(identifier);
        let settled = outgoing.receive(identifier, is_refused, &mut self.output.sender.spares);
        if matches!(settled, Settled::Done) {
            outgoing.progress(now);
        }
        match settled {
            Settled::Done if is_refused => {
                self.record(session, Urgency::Lazy, |number| Record::Completed(number, identifier));
                self.settle_gone(session);
                self.pump(session);
            }
            Settled::Done => {
                if let Some(message) = number {
                    // Recorded before the message is settled, which would end the delivery.
                    self.record_delivery(session, identifier, message, true);
                }
                self.settle_gone(session);
                // [MQTT-4.3.3-4]
                self.release(id, session, identifier)?;
            }
            Settled::Repeated => self.release(id, session, identifier)?,
            Settled::Unknown if is_refused => {}
            Settled::Unknown => self.release_unknown(id, session, identifier)?,
            Settled::OutOfPlace => return Err(Fault::protocol_error("PUBREC for a QoS 1 message")),
        }
        Ok(())
    }

    /// Sends a PUBREL for a Packet Identifier that is not in flight: without an answer, the client would keep waiting.
    fn release_unknown(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        identifier: PacketIdentifier,
    ) -> Result<(), Fault> {
        let is_v5 = self.connections[id].version == ProtocolVersion::V5;
        let reason = if is_v5 { ReasonCode::PacketIdentifierNotFound } else { ReasonCode::Success };
        let awaited = self.persistence.recorded(session);
        self.acknowledge_when(id, awaited, AcknowledgementKind::PubRel, identifier, reason)
    }

    /// Sends the PUBREL that answers a PUBREC as soon as the PUBREC is durable, because after a crash the message must
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
        let (now, ends_at) = (self.now(), self.connections[id].outbox.end());
        self.clients.sessions[session].outgoing_mut().released(identifier, now, ends_at, batch);
        self.retry_later(session);
        Ok(())
    }

    /// Handles a PUBCOMP: the delivery is over, and the next queued message may be sent.
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

    /// Refills the outbox of a connected client: first with packets that were not acknowledged on an earlier connection,
    /// in their original order, then with queued messages, then with retained messages for new subscriptions.
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

    /// Lists a session to which more can be sent in a later turn.
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

    /// Sends packets again and then queued messages, as many as may be sent now. Returns what to do next.
    fn send_waiting(&mut self, session: SessionId) -> Next {
        let durable = self.persistence.durable_batch();
        let prepares = self.must_prepare(session, QoS::ExactlyOnce);
        loop {
            let Some(id) = self.connection_to_refill(session) else { return Next::Nothing };
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
            self.send_queued(id, session, queued);
        }
    }

    /// Returns the connection of a session, if anything waits to be sent and there is room for it in the outbox.
    #[inline(always)]
    fn connection_to_refill(&mut self, session: SessionId) -> Option<ConnectionId> {
        let state = &self.clients.sessions[session];
        let id = state.connection()?;
        if state.outgoing.as_ref()?.is_at_rest() {
            self.look_for_at_most_once(session);
            return None;
        }
        (self.connections[id].outbox.len() < self.options.limits.outbox_refill_bytes).then_some(id)
    }

    /// Sends the next deliveries whose Packet Identifiers have become durable, as far as they can be sent without
    /// further checks. Returns whether it has sent any.
    fn send_prepared(&mut self, id: ConnectionId, session: SessionId, durable: u64) -> bool {
        let steps_each = steps::delivery(QoS::ExactlyOnce);
        let most = self.turn.left().div_ceil(steps_each);
        let count = self.send_some_prepared(id, session, durable, most);
        self.turn.take(count * steps_each);
        if count > 0 {
            self.retry_later(session);
        }
        count > 0
    }

    /// Sends at most `most` of these deliveries. Returns how many.
    fn send_some_prepared(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        durable: u64,
        most: usize,
    ) -> usize {
        let (now, state) = (self.now(), &mut self.clients.sessions[session]);
        let connection = &mut self.connections[id];
        let Some(outgoing) = state.outgoing.as_mut().filter(|_| state.reading == Reading::Free) else {
            return 0;
        };
        let mut count = 0;
        while count < most
            && connection.outbox.len() < self.options.limits.outbox_refill_bytes
            && let Some(index) = outgoing.next_to_resend(durable)
            && let Stage::Prepared(queued) = outgoing.in_flight()[index].stage()
            && queued.message.expires() > now
            && self.output.publish_queued(
                connection,
                &state.client_identifier,
                queued,
                (outgoing.identifier_of(index), false),
                now,
            )
        {
            outgoing.resent(now, connection.outbox.end());
            count += 1;
        }
        count
    }

    /// Frees a Packet Identifier for the next message in the queue. Returns whether the message may be sent.
    #[cold]
    fn make_place(&mut self, session: SessionId, prepares: bool) -> bool {
        let outgoing = self.clients.sessions[session].outgoing_mut();
        self.turn.take(outgoing.make_place() / steps::COPIED_PER_STEP);
        outgoing.may_begin_next(prepares)
    }

    /// Sends a message that was taken from the queue.
    #[inline]
    fn send_queued(&mut self, id: ConnectionId, session: SessionId, queued: Queued) {
        let now = self.now();
        let state = &mut self.clients.sessions[session];
        let (reading, outgoing) = (state.reading, state.outgoing_mut());
        if queued.message.expires() <= now {
            self.output.statistics.expired += 1;
            outgoing.let_go(queued.number);
            if queued.retain {
                self.owe_lost(session, vec![LostCopy::Queued(queued.message)]);
            }
            return;
        }
        let dup = queued.number.is_some() && queued.number <= outgoing.sent_until;
        if reading != Reading::Free && self.must_withhold(session, &queued) {
            self.output.statistics.dropped += 1;
            self.clients.sessions[session].outgoing_mut().let_go(queued.number);
        } else if queued.qos == QoS::AtMostOnce {
            self.send_queued_at_most_once(id, session, &queued);
        } else {
            self.begin_queued(session, queued, dup);
        }
    }

    /// Sends a message of QoS 0 that was taken from the queue, after which the session no longer needs it.
    fn send_queued_at_most_once(&mut self, id: ConnectionId, session: SessionId, queued: &Queued) {
        self.output.sender.encoder.begin();
        let mut outbound = Outbound::stored(&queued.message);
        self.send_at_most_once(id, session, &mut outbound, DeliveryOptions::of(queued));
        self.clients.sessions[session].outgoing_mut().let_go(queued.number);
    }

    /// Whether the client may not read the topic of a queued message.
    #[cold]
    fn must_withhold(&mut self, session: SessionId, queued: &Queued) -> bool {
        self.turn.take(steps::QUESTION);
        self.is_barred(session, queued.message.publication().topic)
    }

    /// Sends the next delivery again, or ends it if it may not be sent.
    fn resend_next(&mut self, id: ConnectionId, session: SessionId, index: usize) {
        let is_sent = !self.has_expired_unsent(session, index)
            && self.may_send_again(session, index)
            && self.send_again(id, session, index);
        let (now, ends_at) = (self.now(), self.connections[id].outbox.end());
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
        if has_expired && queued.retain {
            let lost = vec![LostCopy::Queued(queued.message.clone())];
            self.owe_lost(session, lost);
        }
        has_expired
    }

    /// Sends a PUBLISH again with DUP [MQTT-3.3.1-1], or a PUBREL; a PUBLISH that was prepared is sent for the first time.
    /// Returns false if a PUBLISH no longer fits into the client's Maximum Packet Size.
    fn send_again(&mut self, id: ConnectionId, session: SessionId, index: usize) -> bool {
        let (now, state) = (self.now(), &mut self.clients.sessions[session]);
        let outgoing: &mut Outgoing = state.outgoing.get_or_insert_default();
        let identifier = outgoing.identifier_of(index);
        let connection = &mut self.connections[id];
        let stage = outgoing.in_flight()[index].stage();
        let is_first = matches!(stage, Stage::Prepared(_));
        self.output.statistics.redelivered += u64::from(!is_first);
        match stage {
            Stage::Settled | Stage::Aside(_) => {}
            Stage::Release => {
                let pubrel = Packet::PubRel(Acknowledgement::new(identifier, ReasonCode::Success));
                let _ = self.output.sender.packet(connection, &state.client_identifier, &pubrel);
            }
            Stage::Prepared(queued) | Stage::Publish(queued) => {
                let client = &state.client_identifier;
                let is_sent =
                    self.output.publish_queued(connection, client, queued, (identifier, !is_first), now);
                self.output.statistics.oversized += u64::from(!is_sent);
                return is_sent;
            }
        }
        true
    }

    /// Makes sure that a timer runs for the redelivery of packets that are sent now, if the version of this session's
    /// connection has redelivery on a live connection.
    #[inline]
    pub(super) fn retry_later(&mut self, session: SessionId) {
        if self.clients.sessions[session].outgoing_mut().is_first_at(self.clock.now) {
            self.arm_retry(session);
        }
    }

    /// Arms that timer, unless it is armed.
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

    /// Sends the oldest unacknowledged packet again when its client has acknowledged nothing for a while. So a slow client
    /// that answers is sent nothing twice. The last copy must have left the outbox, so that a slow link is not flooded.
    pub(super) fn retry(&mut self, session: SessionId) {
        let Some(id) = self.clients.sessions[session].connection() else { return };
        let (now, interval) = (self.now(), self.options.limits.retry_interval);
        let outgoing = self.clients.sessions[session].outgoing_mut();
        let due = outgoing.redelivery_due(interval);
        if due == Time::NEVER || interval == Duration::ZERO {
            outgoing.rest();
            return;
        }
        if due <= now && self.oldest_has_left(id, session) {
            self.send_oldest_again(id, session);
        }
        // The next answer may make a redelivery due sooner than `due`, but never sooner than after one interval.
        let due = self.clients.sessions[session].outgoing_mut().redelivery_due(interval);
        let next = if due <= now { now + interval } else { due.min(now + interval) };
        self.clients.sessions[session].timer = Some(self.clock.wheel.arm(next, Timer::Session(session)));
    }

    /// Whether the last copy of the oldest unacknowledged packet has left the outbox.
    fn oldest_has_left(&self, id: ConnectionId, session: SessionId) -> bool {
        let (sent, durable) = (self.connections[id].outbox.sent(), self.persistence.durable_batch());
        let outgoing = self.clients.sessions[session].outgoing.as_ref();
        outgoing.is_some_and(|outgoing| outgoing.has_left(sent, durable))
    }

    /// Sends the oldest unacknowledged packet again.
    fn send_oldest_again(&mut self, id: ConnectionId, session: SessionId) {
        self.turn.take(steps::delivery(QoS::AtLeastOnce));
        self.send_again(id, session, 0);
        let (now, ends_at) = (self.now(), self.connections[id].outbox.end());
        self.clients.sessions[session].outgoing_mut().retried(now, ends_at);
    }
}
