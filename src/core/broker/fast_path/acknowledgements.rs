//! Plain acknowledgements: several of one kind are processed together where the result is the same as one by one.

use super::{Broker, Shortcut, note};
use crate::core::broker::{Fault, Step};
use crate::core::journal::Awaited;
use crate::core::message::Spares;
use crate::core::session::{Outgoing, Settled};
use crate::core::slots::{ConnectionId, SessionId};
use crate::protocol::codec::{
    AcknowledgementKind, PacketIdentifier, ProtocolVersion, plain_acknowledgements,
};

impl Broker {
    /// Processes a plain acknowledgement, and those of its kind after it as long as the result is the same as one by
    /// one.
    #[inline]
    pub(super) fn handle_plain(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        (kind, identifier): (AcknowledgementKind, PacketIdentifier),
        rest: &[u8],
    ) -> Result<Step, Fault> {
        note(Shortcut::HandlePlain);
        let count = match self.persistence.journal {
            None => self.handle_plain_together(id, session, kind, rest),
            Some(_) => self.handle_plain_with_store(id, session, kind, rest),
        };
        if count > 0 {
            note(Shortcut::of_acknowledgements(kind));
            self.output.statistics.packets_received += count as u64 - 1;
            return Ok(Step::Several(count * AcknowledgementKind::PLAIN_LENGTH));
        }
        match kind {
            AcknowledgementKind::PubAck => self.handle_puback(session, identifier)?,
            AcknowledgementKind::PubRec => self.handle_pubrec(id, session, identifier, false)?,
            AcknowledgementKind::PubRel => self.handle_pubrel(id, session, identifier)?,
            AcknowledgementKind::PubComp => self.handle_pubcomp(session, identifier)?,
        }
        Ok(Step::Done)
    }

    /// Processes the plain acknowledgements of a kind at the front of `bytes`, if neither their session is persisted nor
    /// their answers have to wait. Returns the number of packets.
    #[inline]
    pub(super) fn handle_plain_together(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        kind: AcknowledgementKind,
        bytes: &[u8],
    ) -> usize {
        match kind {
            AcknowledgementKind::PubAck | AcknowledgementKind::PubComp => {
                self.settle_together(kind, session, bytes)
            }
            AcknowledgementKind::PubRec => self.release_together(id, session, bytes),
            AcknowledgementKind::PubRel => self.complete_together(id, session, bytes),
        }
    }

    /// Processes the plain PUBACKs or PUBCOMPs at the front of `bytes`, as long as only the deliveries that they end
    /// depend on them. Returns the number of packets.
    #[inline]
    fn settle_together(&mut self, kind: AcknowledgementKind, session: SessionId, bytes: &[u8]) -> usize {
        let now = self.now();
        let outgoing = self.clients.sessions[session].outgoing_mut();
        // A queued message may be sent after the first packet already, and the next packet may answer it.
        if !outgoing.is_at_rest() {
            return 0;
        }
        let (mut count, mut vain) = (0, 0);
        for identifier in plain_acknowledgements(kind, bytes) {
            match settle(outgoing, kind, identifier, &mut self.output.sender.spares) {
                Settled::Done => {}
                Settled::Unknown | Settled::Repeated => vain += 1,
                Settled::OutOfPlace => break,
            }
            count += 1;
        }
        if count > vain {
            outgoing.progress(now);
        }
        count
    }

    /// Answers the plain PUBRECs at the front of `bytes` with PUBRELs [MQTT-4.3.3-4], as long as each is the first
    /// answer to a delivery in its place. Returns the number of packets.
    fn release_together(&mut self, id: ConnectionId, session: SessionId, bytes: &[u8]) -> usize {
        if !self.may_answer_together(id) {
            return 0;
        }
        let (now, most) = (self.now(), self.answers_at_once(id));
        let outgoing = self.clients.sessions[session].outgoing_mut();
        let outbox = &mut self.connections[id].outbox;
        let (mut count, mut ends_at) = (0, outbox.end());
        outbox.push(&mut self.output.sender.dirty, |answers| {
            for identifier in plain_acknowledgements(AcknowledgementKind::PubRec, bytes).take(most) {
                let answer = AcknowledgementKind::PubRel.plain(identifier);
                let end = ends_at + answer.len() as u64;
                let Some(queued) = outgoing.release(identifier, now, end, 0) else { break };
                self.output.sender.spares.keep(queued.message);
                answers.extend_from_slice(&answer);
                (count, ends_at) = (count + 1, end);
            }
        });
        self.output.sender.packets += count as u64;
        if count > 0 {
            outgoing.progress(now);
            self.retry_later(session);
        }
        count
    }

    /// Answers the plain PUBRELs at the front of `bytes` with PUBCOMPs [MQTT-4.3.3-11], as long as there is no other
    /// answer. Returns the number of packets.
    fn complete_together(&mut self, id: ConnectionId, session: SessionId, bytes: &[u8]) -> usize {
        if !self.may_answer_together(id) {
            return 0;
        }
        let most = self.answers_at_once(id);
        let incoming = &mut self.clients.sessions[session].incoming;
        let connection = &mut self.connections[id];
        let must_be_known = connection.version == ProtocolVersion::V5;
        let mut count = 0;
        connection.outbox.push(&mut self.output.sender.dirty, |answers| {
            for identifier in plain_acknowledgements(AcknowledgementKind::PubRel, bytes).take(most) {
                if !incoming.remove(identifier) && must_be_known {
                    break;
                }
                answers.extend_from_slice(&AcknowledgementKind::PubComp.plain(identifier));
                count += 1;
            }
        });
        self.output.sender.packets += count as u64;
        count
    }

    /// Whether plain answers to several packets of a client may be queued together: none of them has to wait, and the
    /// client accepts packets of their length.
    fn may_answer_together(&self, id: ConnectionId) -> bool {
        !self.persistence.must_wait(id, Awaited::Nothing) && self.takes_plain_answers(id)
    }
}

/// Ends a delivery by its PUBACK or PUBCOMP.
#[inline]
pub(super) fn settle(
    outgoing: &mut Outgoing,
    kind: AcknowledgementKind,
    identifier: PacketIdentifier,
    spares: &mut Spares,
) -> Settled {
    match kind {
        AcknowledgementKind::PubAck => outgoing.acknowledge(identifier, spares),
        _ => outgoing.complete(identifier),
    }
}
