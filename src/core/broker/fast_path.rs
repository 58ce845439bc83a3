//! The fast path: short ways for the most common packets. Each has the same result as the full path, to the byte, with
//! less work: it decodes, asks and encodes nothing whose result is known.
//!
//! There is one way in, [`Broker::try_batch`], and one guard, [`Broker::open_way`]. No other file needs this one.
//! Without it, all packets are processed in full; the feature `without-fast-path` builds and tests that.

mod acknowledgements;
mod from_node;
mod persisted;
mod shortcut;

use std::rc::Rc;

use super::deliver::{DeliveryOptions, Routed};
use super::lookup::Matched;
use super::receive::Batch;
use super::send::takes_as_it_is;
use super::turn::steps;
use super::{Broker, Fault, Step};
use crate::core::access::{Answer, Question, Verdict};
use crate::core::limits::COPIED_PAYLOAD_MAXIMUM;
use crate::core::message::Outbound;
use crate::core::slots::{ConnectionId, SessionId};
use crate::core::subscription::{Subscriber, Target};
use crate::protocol::codec::{
    AcknowledgementKind, Delivery, PacketIdentifier, PlainPublish, PlainPublishes, PlainRun, ProtocolVersion,
    QoS, ReasonCode, plain_acknowledgement, unchecked_publish,
};

#[cfg(any(test, feature = "fuzzing"))]
pub(super) use shortcut::taken;
use shortcut::{Shortcut, note};

/// The most packets that are answered together.
const ANSWERS_AT_ONCE: usize = 64;

/// The approximate length of messages that are forwarded together, in bytes.
const RUN_BYTES: usize = 16 * 1024;

/// A short way, and the packets that take it.
enum Way<'a> {
    /// Plain messages of QoS 0 that each subscriber gets exactly as they came, or not at all.
    Run(PlainRun<'a>, Rc<Matched>),
    /// Plain messages of QoS 1 or 2 that are answered together.
    Answered(PlainPublishes<'a>, Rc<Matched>),
    /// One plain message.
    Relay(PlainPublish<'a>, Rc<Matched>),
    /// Plain acknowledgements, with the first of them.
    Acknowledgements(AcknowledgementKind, PacketIdentifier),
}

/// How several messages of a client are forwarded.
struct Route<'a> {
    publisher: (ConnectionId, SessionId),
    matched: &'a Matched,
    /// The [only receiver](Broker::only_receiver).
    only: Option<(SessionId, QoS)>,
}

/// Messages that were processed together.
#[derive(Default)]
struct Relayed {
    count: usize,
    /// The bytes of their packets.
    length: usize,
    payload_bytes: usize,
    /// How many of them went to the only receiver at once.
    begun: usize,
    /// The last one, if the answer to it is not a success.
    failed: Option<(Delivery, ReasonCode)>,
}

impl Relayed {
    /// How many were forwarded.
    #[inline]
    const fn forwarded(&self) -> usize {
        self.count - self.failed.is_some() as usize
    }
}

impl Broker {
    /// Processes as many packets at the front of a batch as can be processed together, by the short way that is open to
    /// them. Returns `None` if none is. Called only if packets [may take short
    /// ways](super::options::Options::may_be_short).
    #[inline(always)]
    pub(super) fn try_batch(
        &mut self,
        (id, session): (ConnectionId, SessionId),
        batch: &mut Batch<'_>,
    ) -> Result<Option<Step>, Fault> {
        let Some(way) = self.open_way((id, session), batch) else { return Ok(None) };
        let step = match way {
            Way::Run(run, matched) => self.relay_run((id, batch.version), &run, &matched),
            Way::Answered(publishes, matched) => self.relay_answered(id, session, publishes, &matched)?,
            Way::Relay(publish, matched) => self.relay(id, session, &publish, &matched)?,
            Way::Acknowledgements(kind, identifier) => {
                self.handle_plain(id, session, (kind, identifier), batch.bytes)?
            }
        };
        Ok(Some(step))
    }

    /// The guard: returns the short way that is open to the packets at the front of a batch. Packets that are malformed
    /// or of a rarer kind, or that must be asked about, changed or refused, are left to the full path.
    #[inline(always)]
    fn open_way<'a>(
        &mut self,
        (id, session): (ConnectionId, SessionId),
        batch: &mut Batch<'a>,
    ) -> Option<Way<'a>> {
        if self.waiting.has_begun(id) {
            return None;
        }
        if batch.may_begin_run()
            && let Some((run, matched)) = self.find_run((id, session), batch)
        {
            return Some(Way::Run(run, matched));
        }
        let Some(unchecked) = unchecked_publish(&batch.first, batch.version).ok()? else {
            let (kind, identifier) = plain_acknowledgement(&batch.first)?;
            return Some(Way::Acknowledgements(kind, identifier));
        };
        let publish = unchecked.plain(batch.version)?;
        let qos = publish.delivery.qos();
        if qos != QoS::AtMostOnce && self.output.has_nodes() {
            return None;
        }
        let matched = self.known_receivers((id, session), unchecked.topic, qos)?;
        if !self.persistence.takes_all(id) || !self.fits_share(&matched, qos) {
            return None;
        }
        let is_answered_together = qos != QoS::AtMostOnce
            && self.may_answer_later(id, session, &matched)
            && self.is_new(id, session, publish.delivery);
        Some(match is_answered_together {
            true => {
                let alike = PlainPublishes::new(publish, unchecked.topic, batch.bytes, batch.limit);
                Way::Answered(alike, matched)
            }
            false => Way::Relay(publish, matched),
        })
    }

    /// Returns the receivers of a client's plain messages on a topic, if they are known and the client may publish it.
    #[inline(always)]
    fn known_receivers(
        &mut self,
        client: (ConnectionId, SessionId),
        topic: &[u8],
        qos: QoS,
    ) -> Option<Rc<Matched>> {
        if self.options.listeners.concern_publish() || !is_plain_topic(topic) {
            return None;
        }
        let matched = self.routing.match_cache.find(&self.routing.trie, topic)?;
        let is_granted = self.permission.is_open || self.may_publish(client, &matched, qos);
        is_granted.then_some(matched)
    }

    /// Whether a client may publish plain messages of a QoS to a topic, if the answers of the access control stand. A
    /// refused message is left to the full path, which asks for the reason and answers.
    #[inline(never)]
    fn may_publish(&mut self, (id, session): (ConnectionId, SessionId), matched: &Matched, qos: QoS) -> bool {
        // The decision about a packet that had to wait is left to the full path.
        if !self.permission.answers_stand || self.connections[id].parked.is_some() {
            return false;
        }
        let Some(topic) = matched.number() else { return false };
        if let Some(is_granted) = self.routing.match_cache.verdicts.find(id, topic, qos) {
            return is_granted;
        }
        let question = Question::Publish { topic: matched.topic(), qos, retain: false };
        let Answer::Now(verdict) = self.ask_at((id, session), question) else { return false };
        let is_granted = !matches!(verdict, Verdict::Refused(_));
        if self.has_memory_for(2 * self.routing.match_cache.verdicts.memory()) {
            let key = (id, topic);
            self.routing.match_cache.verdicts.remember(key, matched.generation, qos, is_granted);
        }
        is_granted
    }

    /// Returns several messages of QoS 0 at the front of a batch that are [for all](Broker::is_run_for_all), and their
    /// receivers.
    #[inline(always)]
    fn find_run<'a>(
        &mut self,
        client: (ConnectionId, SessionId),
        batch: &mut Batch<'a>,
    ) -> Option<(PlainRun<'a>, Rc<Matched>)> {
        if self.options.switches.raises_qos {
            return None;
        }
        let longest = batch.limit.min(COPIED_PAYLOAD_MAXIMUM);
        let mut run = PlainRun::new(batch.bytes, batch.version, longest, RUN_BYTES);
        batch.skip_runs(run.bytes.len());
        if run.count < 2 {
            return None;
        }
        let matched = self.known_receivers(client, run.topic, QoS::AtMostOnce)?;
        let most = self.turn.copied_at_once(matched.subscribers().len());
        if run.bytes.len() > most {
            run = PlainRun::new(batch.bytes, batch.version, longest, most);
            batch.skip_runs(run.bytes.len());
        }
        (run.count > 1 && self.is_run_for_all(&run, batch.version, &matched)).then_some((run, matched))
    }

    /// Whether each subscriber gets several messages exactly as they came, or is not connected and gets none of them.
    #[inline(always)]
    fn is_run_for_all(&self, run: &PlainRun<'_>, version: ProtocolVersion, matched: &Matched) -> bool {
        let subscribers = matched.subscribers();
        // A growing buffer may become twice as large as its content.
        let growth = 2 * subscribers.len() * run.bytes.len();
        !matched.has_runs()
            && self.has_memory_for(growth)
            && subscribers.iter().all(|subscriber| self.takes_run(subscriber, run, version))
    }

    /// Whether a subscriber gets a run of QoS 0 messages exactly as it came, or is not connected and gets nothing.
    fn takes_run(&self, subscriber: &Subscriber, run: &PlainRun<'_>, version: ProtocolVersion) -> bool {
        let Target::Session(session) = subscriber.target else { return false };
        let Some(id) = self.clients.sessions[session].connection() else {
            return !self.options.switches.queues_at_most_once;
        };
        let connection = &self.connections[id];
        let has_same_form = (connection.version == ProtocolVersion::V5) == (version == ProtocolVersion::V5);
        subscriber.terms.are_plain()
            && has_same_form
            && !self.output.sender.must_look()
            && takes_as_it_is(connection, run.longest)
            && connection.outbox.len() + run.bytes.len() <= self.options.limits.outbox_bytes
    }

    /// Forwards several messages at once, which [are for all](Broker::is_run_for_all), or leaves them to a later turn
    /// if this one has no room for them.
    #[inline]
    fn relay_run(
        &mut self,
        (id, version): (ConnectionId, ProtocolVersion),
        run: &PlainRun<'_>,
        matched: &Matched,
    ) -> Step {
        let taken = steps::run(matched.subscribers().len(), run.bytes.len());
        if !self.turn.has_room_for(taken) {
            self.defer(id);
            return Step::Parked;
        }
        self.turn.take(taken);
        note(Shortcut::RelayRun);
        self.output.statistics.packets_received += run.count as u64 - 1;
        self.output.statistics.received.count(run.count, run.payload_bytes);
        self.repeat_to_nodes(matched.topic(), version, run.bytes);
        self.copy_run(run, matched);
        Step::Several(run.bytes.len())
    }

    /// Copies several messages to all receivers that are connected.
    #[inline]
    fn copy_run(&mut self, run: &PlainRun<'_>, matched: &Matched) {
        for subscriber in matched.subscribers() {
            let Target::Session(session) = subscriber.target else { continue };
            let Some(id) = self.clients.sessions[session].connection() else { continue };
            self.connections[id]
                .outbox
                .push(&mut self.output.sender.dirty, |bytes| bytes.extend_from_slice(run.bytes));
            self.output.statistics.sent.count(run.count, run.payload_bytes);
        }
    }

    /// Whether the answers to several messages may follow the last one. They may not if the client may receive these
    /// messages itself: the bytes that it is sent must not depend on how its input was cut.
    fn may_answer_later(&self, id: ConnectionId, session: SessionId, matched: &Matched) -> bool {
        let is_known_not_to_subscribe = |subscriber: &Subscriber| match subscriber.target {
            Target::Session(other) => other != session,
            Target::Group(_) => self.clients.sessions[session].subscriptions.is_empty(),
        };
        self.takes_plain_answers(id) && matched.subscribers().iter().all(is_known_not_to_subscribe)
    }

    /// Processes plain messages of QoS 1 or 2 on one topic, the first of which [`Broker::is_new`]. What is the same for
    /// all is looked up once, and they are answered together.
    #[inline(never)]
    fn relay_answered(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        publishes: PlainPublishes<'_>,
        matched: &Matched,
    ) -> Result<Step, Fault> {
        note(Shortcut::RelayAnswered);
        let (qos, only) = (publishes.qos(), self.only_receiver(publishes.qos(), matched));
        let share = self.steps_for(matched, qos).saturating_add(steps::PACKET);
        let most = (self.turn.small_steps() / share).clamp(1, self.answers_at_once(id));
        let route = Route { publisher: (id, session), matched, only };
        let relayed = match self.persistence.journal {
            None => self.relay_each(publishes.take(most), &route),
            Some(_) => self.relay_each_persisted(publishes.take(most), &route),
        };
        self.turn.take(relayed.begun * share);
        self.output.statistics.packets_received += relayed.count as u64 - 1;
        self.output.statistics.received.count(relayed.count, relayed.payload_bytes);
        if let Some((delivery, reason_code)) = relayed.failed {
            self.conclude_relayed(&route, delivery, reason_code)?;
        }
        Ok(Step::Several(relayed.length))
    }

    /// Forwards messages one after another without a store, and answers those that were forwarded.
    #[inline(always)]
    fn relay_each<'a>(
        &mut self,
        publishes: impl Iterator<Item = PlainPublish<'a>>,
        route: &Route<'_>,
    ) -> Relayed {
        let (id, session) = route.publisher;
        let mut answers = [[0; AcknowledgementKind::PLAIN_LENGTH]; ANSWERS_AT_ONCE];
        let mut relayed = Relayed::default();
        for (publish, answer) in publishes.zip(&mut answers) {
            let Some(plain) = self.answer_if_forwarded(route, &publish, relayed.count) else { break };
            if !self.relay_one(&publish, route, &mut relayed) {
                break;
            }
            *answer = plain;
            if let Delivery::ExactlyOnce(identifier) = publish.delivery {
                self.clients.sessions[session].incoming.insert(identifier);
            }
        }
        self.acknowledge_together(id, answers.split_at(relayed.forwarded()).0);
        relayed
    }

    /// Returns the answer to a message that is forwarded after `before` others; `None` if it may not be processed together
    /// with those.
    #[inline(always)]
    fn answer_if_forwarded(
        &self,
        route: &Route<'_>,
        publish: &PlainPublish<'_>,
        before: usize,
    ) -> Option<[u8; AcknowledgementKind::PLAIN_LENGTH]> {
        let (id, session) = route.publisher;
        match publish.delivery {
            Delivery::AtMostOnce => None,
            Delivery::AtLeastOnce(identifier) => Some(AcknowledgementKind::PubAck.plain(identifier)),
            Delivery::ExactlyOnce(_) if before > 0 && !self.is_new(id, session, publish.delivery) => None,
            Delivery::ExactlyOnce(identifier) => Some(AcknowledgementKind::PubRec.plain(identifier)),
        }
    }

    /// Forwards one of several messages and counts it. Returns whether the answer to it is a success.
    #[inline(always)]
    fn relay_one(&mut self, publish: &PlainPublish<'_>, route: &Route<'_>, relayed: &mut Relayed) -> bool {
        let matched = route.matched;
        let mut outbound = Outbound::plain(matched.topic(), publish, !self.output.sender.must_look());
        relayed.count += 1;
        relayed.length += publish.packet.len();
        relayed.payload_bytes += publish.payload.len();
        let reason_code = match route.only {
            Some((receiver, qos)) if self.has_memory_for(0) => {
                match self.deliver_to_only(receiver, qos, &mut outbound) {
                    Some(reason_code) => reason_code,
                    None => {
                        note(Shortcut::BeginAlone);
                        relayed.begun += 1;
                        return true;
                    }
                }
            }
            _ => self.route(&mut outbound, Some(route.publisher.1), matched).reason_code(),
        };
        if reason_code != ReasonCode::Success {
            relayed.failed = Some((publish.delivery, reason_code));
        }
        reason_code == ReasonCode::Success
    }

    /// Does what [`Broker::route`] does for the only receiver of a message. Returns `None` if the delivery has begun, and
    /// otherwise takes its steps and returns the Reason Code for the publisher.
    #[inline(always)]
    fn deliver_to_only(
        &mut self,
        session: SessionId,
        qos: QoS,
        outbound: &mut Outbound<'_>,
    ) -> Option<ReasonCode> {
        self.output.sender.encoder.begin();
        let options = DeliveryOptions { qos, retain: false, identifiers: &[], group: None, number: None };
        if self.begin_at_once(session, outbound, options) {
            return None;
        }
        self.turn.take(steps::delivery(outbound.publication.qos));
        let mut routed = Routed::default();
        routed.count(self.queue(session, outbound, options));
        Some(routed.reason_code())
    }

    /// Answers a message that was processed with others and was not forwarded.
    #[cold]
    fn conclude_relayed(
        &mut self,
        route: &Route<'_>,
        delivery: Delivery,
        reason_code: ReasonCode,
    ) -> Result<(), Fault> {
        let (id, session) = route.publisher;
        let before = self.end_of_outbox(id);
        self.conclude(id, session, delivery, reason_code, before)
    }

    /// Processes a plain PUBLISH on a topic whose receivers are known: only what differs from message to message is
    /// looked up or checked. Only for topics that are [plain](is_plain_topic).
    #[inline]
    fn relay(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        publish: &PlainPublish<'_>,
        matched: &Matched,
    ) -> Result<Step, Fault> {
        if self.is_repeated((id, session), publish.delivery, publish.is_dup())? {
            return Ok(Step::Done);
        }
        note(Shortcut::Relay);
        self.output.statistics.received.count(1, publish.payload.len());
        let mut outbound = Outbound::plain(matched.topic(), publish, !self.output.sender.must_look());
        self.persistence.begin_message(Some(id));
        let before = self.end_of_outbox(id);
        let reason_code = match publish.delivery {
            Delivery::AtMostOnce => {
                self.repeat_to_nodes(matched.topic(), publish.version, publish.packet);
                self.route_at_most_once(&mut outbound, Some(session), matched);
                ReasonCode::Success
            }
            _ => self.route(&mut outbound, Some(session), matched).reason_code(),
        };
        self.conclude(id, session, publish.delivery, reason_code, before)?;
        Ok(Step::Done)
    }

    /// Queues acknowledgements of success for a client whose packets [may be answered
    /// together](Broker::may_answer_together).
    #[inline]
    fn acknowledge_together(
        &mut self,
        id: ConnectionId,
        answers: &[[u8; AcknowledgementKind::PLAIN_LENGTH]],
    ) {
        if answers.is_empty() {
            return;
        }
        let bytes = answers.as_flattened();
        self.connections[id]
            .outbox
            .push(&mut self.output.sender.dirty, |outbox| outbox.extend_from_slice(bytes));
        self.output.sender.packets += answers.len() as u64;
    }

    /// Returns the only receiver of plain messages of this QoS on a topic, which is not the publisher, and the QoS at
    /// which it gets them, if that is 1 or 2 and the subscription has no identifier. Its other options change nothing.
    fn only_receiver(&self, qos: QoS, matched: &Matched) -> Option<(SessionId, QoS)> {
        let [Subscriber { target: Target::Session(session), terms }] = *matched.subscribers() else {
            return None;
        };
        let qos = self.delivered_qos(session, terms.qos(), qos);
        (qos != QoS::AtMostOnce && terms.identifier().is_none()).then_some((session, qos))
    }

    /// Does what [`Broker::route`] does for a message of QoS 0.
    #[inline]
    fn route_at_most_once(
        &mut self,
        outbound: &mut Outbound<'_>,
        publisher: Option<SessionId>,
        matched: &Matched,
    ) {
        let held = self.begin_route(matched, QoS::AtMostOnce);
        if matched.has_runs() {
            for run in matched.subscribers().chunk_by(|one, other| one.target == other.target) {
                if !matches!(run, [alone] if self.forward(alone, outbound)) {
                    self.deliver_run(run, outbound, publisher);
                }
            }
        } else {
            for subscriber in matched.subscribers() {
                if !self.forward(subscriber, outbound) {
                    self.deliver_alone(subscriber, outbound, publisher);
                }
            }
        }
        if let Some(held) = held {
            self.turn.take_growth(held);
        }
    }

    /// Puts the packet as it came into the outbox of a client that keeps up, if its QoS 0 copy has the same bytes. All
    /// other cases are left to [`Broker::deliver`].
    #[inline]
    fn forward(&mut self, subscriber: &Subscriber, outbound: &Outbound<'_>) -> bool {
        let Subscriber { target: Target::Session(session), terms } = *subscriber else { return false };
        let qos = self.delivered_qos(session, terms.qos(), QoS::AtMostOnce);
        if qos != QoS::AtMostOnce || !terms.are_plain() || !self.has_memory_for(0) {
            return false;
        }
        let Some(id) = self.clients.sessions[session].connection() else { return false };
        let connection = &mut self.connections[id];
        let is_sent = connection.outbox.len() < self.options.limits.outbox_bytes
            && self.output.sender.original(connection, outbound, Delivery::AtMostOnce);
        if is_sent {
            note(Shortcut::Forward);
            self.output.statistics.sent.count(1, outbound.publication.payload.len());
        }
        is_sent
    }

    /// The position after the last byte that is queued for a client.
    #[inline]
    fn end_of_outbox(&self, id: ConnectionId) -> u64 {
        self.connections[id].outbox.end()
    }

    /// Whether a client accepts packets of the length of a plain answer.
    #[inline]
    fn takes_plain_answers(&self, id: ConnectionId) -> bool {
        self.connections[id].maximum_packet_size() >= AcknowledgementKind::PLAIN_LENGTH
    }

    /// The number of plain answers that may be queued for a client together: no more than if they were queued one by
    /// one until the broker stops reading from it.
    #[inline]
    fn answers_at_once(&self, id: ConnectionId) -> usize {
        let left = self.answers_allowance().saturating_sub(self.connections[id].outbox.len());
        (left / AcknowledgementKind::PLAIN_LENGTH + 1).min(ANSWERS_AT_ONCE)
    }
}

/// Whether a topic that has been checked before is certainly not about the broker.
#[inline]
fn is_plain_topic(topic: &[u8]) -> bool {
    topic.first() != Some(&b'$')
}
