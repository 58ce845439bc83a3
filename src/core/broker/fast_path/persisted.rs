//! The fast path of a broker with a store. Several packets make their records one after another, and each answer waits
//! for what it promises, as if its packet had come alone.

use super::acknowledgements::settle;
use super::{ANSWERS_AT_ONCE, Broker, Relayed, Route, Shortcut, note};
use crate::core::journal::{Answer, Awaited, Record, StoredDelivery, Urgency};
use crate::core::session::Settled;
use crate::core::slots::{ConnectionId, SessionId};
use crate::protocol::codec::{
    AcknowledgementKind, Delivery, PlainPublish, ProtocolVersion, ReasonCode, plain_acknowledgements,
};

/// The most bytes of a Subscription Identifier in a PUBLISH.
const IDENTIFIER_BYTES: usize = 5;

impl Broker {
    /// Forwards messages one after another, and answers each as soon as what the answer promises is durable. It stops
    /// before a message that may have to wait because too much is waiting for the store.
    #[inline(always)]
    pub(super) fn relay_each_persisted<'a>(
        &mut self,
        publishes: impl Iterator<Item = PlainPublish<'a>>,
        route: &Route<'_>,
    ) -> Relayed {
        let mut relayed = Relayed::default();
        for publish in publishes {
            let Some(answer) = self.answer_if_forwarded(route, &publish, relayed.count) else { break };
            if !self.begin_next(route, relayed.count) || !self.relay_one(&publish, route, &mut relayed) {
                break;
            }
            self.answer_as_promised(route.publisher, publish.delivery, answer);
        }
        relayed
    }

    /// Makes the message that follows `before` others the current one. Returns false if it may have to wait because too
    /// much is waiting for the store.
    fn begin_next(&mut self, route: &Route<'_>, before: usize) -> bool {
        let Some(journal) = &mut self.persistence.journal else { return true };
        if before > 0 && journal.is_full() {
            return false;
        }
        journal.begin_message(Some(route.publisher.0));
        true
    }

    /// Answers an accepted message: at once, or as soon as what the answer promises is durable.
    fn answer_as_promised(
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
        let now = self.now();
        if let Some(journal) = &mut self.persistence.journal {
            journal.answers.hold(id, awaited, Answer::Plain(answer));
            journal.hurry(Urgency::Urgent, now);
        }
    }

    /// Processes the plain acknowledgements of a kind at the front of `bytes`, while there is a store. Returns the number
    /// of packets.
    #[inline(never)]
    pub(super) fn handle_plain_with_store(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        kind: AcknowledgementKind,
        bytes: &[u8],
    ) -> usize {
        let is_persisted = self.persistence.is_persisted(session);
        match kind {
            AcknowledgementKind::PubAck | AcknowledgementKind::PubComp if is_persisted => {
                self.settle_persisted((id, session), kind, bytes)
            }
            AcknowledgementKind::PubRec if is_persisted => self.release_persisted(id, session, bytes),
            AcknowledgementKind::PubRel
                if is_persisted || self.persistence.must_wait(id, Awaited::Nothing) =>
            {
                self.complete_persisted(id, session, bytes)
            }
            _ => self.handle_plain_together(id, session, kind, bytes),
        }
    }

    /// Processes the plain PUBACKs or PUBCOMPs at the front of `bytes`, as long as each of them ends a delivery. Queued
    /// messages are sent after the last one; none of the packets can answer those. Returns the number of packets.
    fn settle_persisted(
        &mut self,
        (id, session): (ConnectionId, SessionId),
        kind: AcknowledgementKind,
        bytes: &[u8],
    ) -> usize {
        let (now, most) = (self.now(), self.settled_at_once(id, session));
        let Some(journal) = &mut self.persistence.journal else { return 0 };
        let Some(number) = journal.number_of(session) else { return 0 };
        let outgoing = self.clients.sessions[session].outgoing_mut();
        let mut count = 0;
        for identifier in plain_acknowledgements(kind, bytes).take(most) {
            let settled = settle(outgoing, kind, identifier, &mut self.output.sender.spares);
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

    /// The number of PUBACKs or PUBCOMPs that may be processed before a queued message is sent: as many as if messages
    /// were sent after each of them. One by one, no later one is read while too much waits to be sent, a delivery that
    /// others overtake is set aside, and the client's own messages are answered in between.
    fn settled_at_once(&self, id: ConnectionId, session: SessionId) -> usize {
        let Some(journal) = &self.persistence.journal else { return 1 };
        let Some(outgoing) = &self.clients.sessions[session].outgoing else { return 1 };
        if journal.answers.wait_for_recipients(id) {
            return 1;
        }
        if outgoing.is_at_rest() {
            return usize::MAX;
        }
        match outgoing.waiting_to_be_sent(self.persistence.durable_batch()) {
            Some(waiting) if !self.may_hold_up(id, waiting) => outgoing.free_places().max(1),
            _ => 1,
        }
    }

    /// Whether the broker may stop reading from a client once it has sent it some of its messages, which have this many
    /// bytes together. The last one may begin just before the outbox is full enough, and is longer by its Subscription
    /// Identifiers.
    fn may_hold_up(&self, id: ConnectionId, waiting: usize) -> bool {
        let limits = &self.options.limits;
        let identifiers = limits.matches_per_session.saturating_mul(IDENTIFIER_BYTES);
        let before = self.connections[id].outbox.len().max(limits.outbox_refill_bytes);
        before.saturating_add(waiting).saturating_add(identifiers) > self.answers_allowance()
    }

    /// Answers the plain PUBRECs at the front of `bytes` with PUBRELs, as long as each is the first answer to a
    /// delivery in its place. A PUBREL leaves as soon as the release is durable, because the message must not be sent
    /// again after a crash. Returns the number of packets.
    fn release_persisted(&mut self, id: ConnectionId, session: SessionId, bytes: &[u8]) -> usize {
        if !self.takes_plain_answers(id) {
            return 0;
        }
        let (now, most) = (self.now(), self.answers_at_once(id));
        let mut ends_at = self.end_of_outbox(id);
        let Some(journal) = &mut self.persistence.journal else { return 0 };
        let Some(number) = journal.number_of(session) else { return 0 };
        let outgoing = self.clients.sessions[session].outgoing_mut();
        let (holds, batch) = (journal.holds(), journal.awaited_batch());
        let (mut count, mut publishers) = (0, Vec::new());
        let mut answers = [[0; AcknowledgementKind::PLAIN_LENGTH]; ANSWERS_AT_ONCE];
        let identifiers = plain_acknowledgements(AcknowledgementKind::PubRec, bytes).take(most);
        for (identifier, answer) in identifiers.zip(&mut answers) {
            let end = ends_at + if holds { 0 } else { answer.len() as u64 };
            let Some(queued) = outgoing.release(identifier, now, end, batch) else { break };
            if let Some(message) = queued.number {
                // Recorded before the message is settled, which would end the delivery.
                let delivery = StoredDelivery { identifier, message, is_released: true };
                journal.record(Record::Delivery(number, delivery), Urgency::Urgent, now);
                let publisher = journal.settle(message, number, now, &mut self.output.sender.spares);
                publishers.extend(publisher.filter(|publisher| publishers.last() != Some(publisher)));
            }
            self.output.sender.spares.keep(queued.message);
            *answer = AcknowledgementKind::PubRel.plain(identifier);
            (count, ends_at) = (count + 1, end);
        }
        if count == 0 {
            return 0;
        }
        note(Shortcut::ReleasePersisted);
        outgoing.progress(now);
        let awaited = journal.recorded();
        self.answer_together(id, holds.then_some(awaited), answers.split_at(count).0);
        self.retry_later(session);
        self.settle_gone(session);
        for publisher in publishers {
            self.release_answers(publisher);
        }
        count
    }

    /// Answers the plain PUBRELs at the front of `bytes` with PUBCOMPs, as long as their messages are known. A PUBCOMP
    /// leaves as soon as its record is durable if the session is persisted, and never before answers that wait already.
    /// Returns the number of packets.
    fn complete_persisted(&mut self, id: ConnectionId, session: SessionId, bytes: &[u8]) -> usize {
        if !self.takes_plain_answers(id) {
            return 0;
        }
        let (now, most) = (self.now(), self.answers_at_once(id));
        let Some(journal) = &mut self.persistence.journal else { return 0 };
        let number = journal.number_of(session);
        let must_be_known = self.connections[id].version == ProtocolVersion::V5 || number.is_some();
        let must_wait = journal.holds() && (number.is_some() || journal.answers.are_waiting(id));
        let incoming = &mut self.clients.sessions[session].incoming;
        let mut count = 0;
        let mut answers = [[0; AcknowledgementKind::PLAIN_LENGTH]; ANSWERS_AT_ONCE];
        let identifiers = plain_acknowledgements(AcknowledgementKind::PubRel, bytes).take(most);
        for (identifier, answer) in identifiers.zip(&mut answers) {
            if !incoming.remove(identifier) && must_be_known {
                break;
            }
            if let Some(number) = number {
                journal.record(Record::Released(number, identifier), Urgency::Urgent, now);
            }
            *answer = AcknowledgementKind::PubComp.plain(identifier);
            count += 1;
        }
        if count == 0 {
            return 0;
        }
        note(Shortcut::CompletePersisted);
        let awaited = self.persistence.recorded(session);
        self.answer_together(id, must_wait.then_some(awaited), answers.split_at(count).0);
        count
    }

    /// Queues plain answers: at once, or as soon as `awaited` is durable.
    fn answer_together(
        &mut self,
        id: ConnectionId,
        awaited: Option<Awaited>,
        answers: &[[u8; AcknowledgementKind::PLAIN_LENGTH]],
    ) {
        let now = self.now();
        match (awaited, &mut self.persistence.journal) {
            (Some(awaited), Some(journal)) => {
                journal.answers.hold_all(id, awaited, answers.iter().map(|&answer| Answer::Plain(answer)));
                journal.hurry(Urgency::Urgent, now);
            }
            _ => self.acknowledge_together(id, answers),
        }
    }
}
