//! The fast path of a broker with a store. Several packets make their records one after another, and each answer waits
//! for what it promises, as if its packet had come alone.

use super::{ANSWERS_AT_ONCE, Broker, Shortcut, note};
use crate::core::journal::{Answer, Awaited, Record, StoredDelivery, Urgency};
use crate::core::session::Settled;
use crate::core::slots::{ConnectionId, SessionId};
use crate::protocol::codec::{
    AcknowledgementKind, Delivery, ProtocolVersion, ReasonCode, plain_acknowledgements,
};

impl Broker {
    /// Makes the next of several messages the current one. Returns false if it may have to wait because too much is
    /// waiting for the store.
    pub(super) fn begin_next(&mut self, id: ConnectionId, before: usize) -> bool {
        let is_full = self.persistence.journal.as_ref().is_some_and(|journal| journal.is_full());
        if is_full && before > 0 {
            return false;
        }
        self.persistence.begin_message(Some(id));
        true
    }

    /// Answers an accepted message: at once, or as soon as what the answer promises is durable.
    pub(super) fn answer_as_promised(
        &mut self,
        (id, session): (ConnectionId, SessionId),
        delivery: Delivery,
        answer: [u8; AcknowledgementKind::PLAIN_LENGTH],
    ) {
        note(Shortcut::AnswerAsPromised);
        let mut awaited = self.persistence.take_awaited();
        match delivery {
            Delivery::ExactlyOnce(identifier) if !self.persistence.is_persisted(session) => {
                self.clients.sessions[session].incoming.insert(identifier);
            }
            Delivery::ExactlyOnce(_) => {
                awaited = self.note_incoming((id, session), delivery, ReasonCode::Success, awaited);
            }
            Delivery::AtMostOnce | Delivery::AtLeastOnce(_) => {}
        }
        if !self.persistence.must_wait(id, awaited) {
            return self.acknowledge_together(id, &[answer]);
        }
        let now = self.clock.now;
        if let Some(journal) = &mut self.persistence.journal {
            journal.answers.hold(id, awaited, Answer::Plain(answer));
            journal.hurry(Urgency::Urgent, now);
        }
    }

    /// Processes the plain PUBACKs or PUBCOMPs at the front of `bytes`, as long as each of them ends a delivery. Queued
    /// messages are sent after the last one; none of the packets can answer those. Returns the number of packets.
    pub(super) fn settle_persisted(
        &mut self,
        kind: AcknowledgementKind,
        session: SessionId,
        bytes: &[u8],
    ) -> usize {
        let now = self.clock.now;
        let Some(journal) = &mut self.persistence.journal else { return 0 };
        let Some(number) = journal.number_of(session) else { return 0 };
        let outgoing = self.clients.sessions[session].outgoing_mut();
        let mut count = 0;
        for identifier in plain_acknowledgements(kind, bytes) {
            let settled = match kind {
                AcknowledgementKind::PubAck => {
                    outgoing.acknowledge(identifier, &mut self.output.sender.spares)
                }
                _ => outgoing.complete(identifier),
            };
            if !matches!(settled, Settled::Done) {
                break;
            }
            if kind == AcknowledgementKind::PubComp {
                journal.record(Record::Completed(number, identifier), Urgency::Lazy, now);
            }
            count += 1;
        }
        if count == 0 {
            return 0;
        }
        note(Shortcut::SettlePersisted);
        outgoing.progress(now);
        match outgoing.is_at_rest() {
            true => self.settle_acknowledged(session),
            false => self.pump(session),
        }
        count
    }

    /// Answers the plain PUBRECs at the front of `bytes` with PUBRELs, as long as each is the first answer to its
    /// message. A PUBREL leaves as soon as the release is durable, because the message must not be sent again after a
    /// crash. Returns the number of packets.
    pub(super) fn release_persisted(&mut self, id: ConnectionId, session: SessionId, bytes: &[u8]) -> usize {
        if !self.takes_plain_answers(id) {
            return 0;
        }
        let (now, most) = (self.clock.now, self.answers_at_once(id));
        let Some(journal) = &mut self.persistence.journal else { return 0 };
        let Some(number) = journal.number_of(session) else { return 0 };
        let outgoing = self.clients.sessions[session].outgoing_mut();
        let outbox = &mut self.connections[id].outbox;
        let (holds, batch) = (journal.holds(), journal.awaited_batch());
        let (mut count, mut publishers) = (0, Vec::new());
        let mut answers = [[0; AcknowledgementKind::PLAIN_LENGTH]; ANSWERS_AT_ONCE];
        for identifier in plain_acknowledgements(AcknowledgementKind::PubRec, bytes).take(most) {
            let message = outgoing.number_in_flight(identifier);
            if !matches!(outgoing.receive(identifier, false, &mut self.output.sender.spares), Settled::Done) {
                break;
            }
            if let Some(message) = message {
                // Recorded before the message is settled, which would end the delivery.
                let delivery = StoredDelivery { identifier, message, is_released: true };
                journal.record(Record::Delivery(number, delivery), Urgency::Urgent, now);
            }
            outgoing.take_gone(|message| {
                let publisher = journal.settle(message, number, now);
                publishers.extend(publisher.filter(|publisher| publishers.last() != Some(publisher)));
            });
            let answer = AcknowledgementKind::PubRel.plain(identifier);
            answers[count] = answer;
            if !holds {
                outbox.push(&mut self.output.sender.dirty, |bytes| bytes.extend_from_slice(&answer));
                self.output.sender.packets += 1;
            }
            outgoing.released(identifier, now, outbox.end(), batch);
            count += 1;
        }
        if count == 0 {
            return 0;
        }
        note(Shortcut::ReleasePersisted);
        outgoing.progress(now);
        if holds {
            let answers = answers.split_at(count).0.iter();
            let awaited = journal.recorded();
            journal.answers.hold_all(id, awaited, answers.map(|&answer| Answer::Plain(answer)));
        }
        journal.hurry(Urgency::Urgent, now);
        self.retry_later(session);
        for publisher in publishers {
            self.release_answers(publisher);
        }
        count
    }

    /// Answers the plain PUBRELs at the front of `bytes` with PUBCOMPs, as long as their messages are known. A PUBCOMP
    /// leaves as soon as its record is durable if the session is persisted, and never before answers that wait already.
    /// Returns the number of packets.
    pub(super) fn complete_persisted(&mut self, id: ConnectionId, session: SessionId, bytes: &[u8]) -> usize {
        if !self.takes_plain_answers(id) {
            return 0;
        }
        let (now, most) = (self.clock.now, self.answers_at_once(id));
        let Some(journal) = &mut self.persistence.journal else { return 0 };
        let number = journal.number_of(session);
        let must_be_known = self.connections[id].version == ProtocolVersion::V5 || number.is_some();
        let must_wait = journal.holds() && (number.is_some() || journal.answers.are_waiting(id));
        let incoming = &mut self.clients.sessions[session].incoming;
        let outbox = &mut self.connections[id].outbox;
        let mut count = 0;
        for identifier in plain_acknowledgements(AcknowledgementKind::PubRel, bytes).take(most) {
            if !incoming.remove(identifier) && must_be_known {
                break;
            }
            let mut awaited = Awaited::Nothing;
            if let Some(number) = number {
                journal.record(Record::Released(number, identifier), Urgency::Urgent, now);
                awaited = journal.recorded();
            }
            let answer = AcknowledgementKind::PubComp.plain(identifier);
            if must_wait {
                journal.answers.hold(id, awaited, Answer::Plain(answer));
            } else {
                outbox.push(&mut self.output.sender.dirty, |bytes| bytes.extend_from_slice(&answer));
                self.output.sender.packets += 1;
            }
            count += 1;
        }
        if count == 0 {
            return 0;
        }
        note(Shortcut::CompletePersisted);
        if must_wait {
            journal.hurry(Urgency::Urgent, now);
        }
        count
    }
}
