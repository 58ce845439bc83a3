//! Answers to clients: each leaves when what it promises is durable, and not before earlier answers.

use log::{Level, debug, log_enabled};

use super::trace::Described;
use super::turn::steps;
use super::{Broker, Fault, too_large};
use crate::core::connection::State;
use crate::core::journal::{Answer, Awaited, Urgency};
use crate::core::slots::{ConnectionId, SessionId};
use crate::protocol::codec::{
    Acknowledgement, AcknowledgementKind, Packet, PacketIdentifier, Property, PropertyBuffer, ReasonCode,
};

/// Answers that are queued in one piece, at most.
const RELEASED_AT_ONCE: usize = 64;

impl Broker {
    /// Sends one of the four acknowledgements. A failure carries its reason in words if the client wants it
    /// [MQTT-3.1.2-29] and its Maximum Packet Size leaves room for it [MQTT-3.4.2-2].
    #[inline]
    pub(super) fn acknowledge(
        &mut self,
        id: ConnectionId,
        kind: AcknowledgementKind,
        identifier: PacketIdentifier,
        reason_code: ReasonCode,
    ) -> Result<(), Fault> {
        let may_be_plain = self.options.may_be_short() && reason_code == ReasonCode::Success;
        if may_be_plain && self.acknowledge_plainly(id, kind, identifier) {
            return Ok(());
        }
        let plain = Acknowledgement::new(identifier, reason_code);
        self.acknowledge_in_full(id, Awaited::Nothing, kind, plain, None)
    }

    /// Queues an acknowledgement of success, without a trace in the log. Returns false if the client takes no packets
    /// of that size.
    #[inline]
    fn acknowledge_plainly(
        &mut self,
        id: ConnectionId,
        kind: AcknowledgementKind,
        identifier: PacketIdentifier,
    ) -> bool {
        let connection = &mut self.connections[id];
        let packet = kind.plain(identifier);
        let is_small_enough = packet.len() <= connection.maximum_packet_size();
        if is_small_enough {
            connection.outbox.push(&mut self.output.sender.dirty, |bytes| bytes.extend_from_slice(&packet));
            self.output.sender.packets += 1;
        }
        is_small_enough
    }

    #[inline(never)]
    pub(super) fn acknowledge_in_full(
        &mut self,
        id: ConnectionId,
        awaited: Awaited,
        kind: AcknowledgementKind,
        plain: Acknowledgement<'_>,
        why: Option<String>,
    ) -> Result<(), Fault> {
        if plain.reason_code.is_error() && self.connections[id].wants_problem_information() {
            let mut properties = PropertyBuffer::default();
            let text = why.unwrap_or_else(|| plain.reason_code.to_string());
            properties.push(Property::ReasonString(&text));
            let explained = Acknowledgement { properties: properties.properties(), ..plain };
            if self.answer_when(id, awaited, &kind.packet(explained)).is_ok() {
                return Ok(());
            }
        }
        self.answer_when(id, awaited, &kind.packet(plain))
    }

    /// Queues an answer. A client whose Maximum Packet Size leaves no room for one cannot be served any longer.
    pub(super) fn answer(&mut self, id: ConnectionId, packet: &Packet<'_>) -> Result<(), Fault> {
        let connection = &mut self.connections[id];
        let client =
            connection.session().map_or("", |session| &self.clients.sessions[session].client_identifier);
        self.output.sender.packet(connection, client, packet).map_err(|_| too_large(packet.name()))
    }

    /// Queues the answers of a connection that no longer have to wait.
    pub(super) fn release_answers(&mut self, id: ConnectionId) {
        let Some((session, count)) = self.queue_released(id) else { return };
        self.turn.take(count * steps::PACKET);
        if let Some(session) = session
            && let Some(outgoing) = &self.clients.sessions[session].outgoing
            && !outgoing.retained_sends.is_empty()
        {
            self.list(session);
        }
    }

    /// Queues these answers and returns the session of their client and their number. If the connection is ending, drops
    /// them and returns `None`.
    #[inline]
    fn queue_released(&mut self, id: ConnectionId) -> Option<(Option<SessionId>, usize)> {
        let journal = self.persistence.journal.as_mut()?;
        let connection = self.connections.find_mut(id)?;
        if connection.state == State::Ending {
            journal.answers.forget(id);
            return None;
        }
        let mut total = 0;
        while journal.has_answer(id) {
            let mut count = 0;
            connection.outbox.push(&mut self.output.sender.dirty, |bytes| {
                count = journal.release_answers(id, RELEASED_AT_ONCE, bytes);
            });
            total += count;
        }
        self.output.sender.packets += total as u64;
        Some((connection.session(), total))
    }

    /// Continues with the answers of one of the connections that waited for what is durable now.
    pub(super) fn go_on_answers(&mut self) {
        let Some(id) = self.waiting.next_to_answer() else { return };
        self.turn.take(steps::PACKET);
        self.release_answers(id);
    }

    /// Sends an answer as soon as what it promises is durable.
    pub(super) fn answer_when(
        &mut self,
        id: ConnectionId,
        awaited: Awaited,
        packet: &Packet<'_>,
    ) -> Result<(), Fault> {
        if !self.persistence.must_wait(id, awaited) {
            return self.answer(id, packet);
        }
        let connection = &self.connections[id];
        let mut bytes = Vec::new();
        packet.encode(connection.version, &mut bytes);
        if bytes.len() > connection.maximum_packet_size() {
            return Err(too_large(packet.name()));
        }
        self.hold(id, awaited, Answer::Packet(bytes.into()), packet);
        Ok(())
    }

    /// Sends an acknowledgement as soon as what it promises is durable.
    #[inline]
    pub(super) fn acknowledge_when(
        &mut self,
        id: ConnectionId,
        awaited: Awaited,
        kind: AcknowledgementKind,
        identifier: PacketIdentifier,
        reason_code: ReasonCode,
    ) -> Result<(), Fault> {
        if !self.persistence.must_wait(id, awaited) {
            return self.acknowledge(id, kind, identifier, reason_code);
        }
        let is_small_enough = self.connections[id].maximum_packet_size() >= AcknowledgementKind::PLAIN_LENGTH;
        if reason_code == ReasonCode::Success && is_small_enough {
            let packet = kind.packet(Acknowledgement::new(identifier, reason_code));
            self.hold(id, awaited, Answer::Plain(kind.plain(identifier)), &packet);
            return Ok(());
        }
        self.acknowledge_in_full(id, awaited, kind, Acknowledgement::new(identifier, reason_code), None)
    }

    fn hold(&mut self, id: ConnectionId, awaited: Awaited, answer: Answer, packet: &Packet<'_>) {
        if log_enabled!(Level::Debug) {
            let session = self.connections[id].session();
            let client = session.map_or("", |session| &self.clients.sessions[session].client_identifier);
            debug!("Sending {}", Described { packet, direction: "to", client });
        }
        let now = self.now();
        if let Some(journal) = &mut self.persistence.journal {
            journal.answers.hold(id, awaited, answer);
            // This may be the first client that waits for the batch.
            journal.hurry(Urgency::Urgent, now);
        }
    }
}
