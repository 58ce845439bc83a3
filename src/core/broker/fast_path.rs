//! The short ways of the commonest packets. Each does what the long way does, to the byte, and does it sooner: nothing
//! is decoded, asked or encoded whose result is known.

use super::deliver::DeliveryOptions;
use super::lookup::Matched;
use super::send::takes_as_it_is;
use super::shortcut::{self, Shortcut};
use super::turn::steps;
use super::{Broker, Fault, Step};
use crate::base::planted::{self, is_planted};
use crate::core::journal::Awaited;
use crate::core::limits::COPIED_PAYLOAD_MAXIMUM;
use crate::core::message::Outbound;
use crate::core::session::Settled;
use crate::core::slots::{ConnectionId, SessionId};
use crate::core::subscription::{Subscriber, Target};
use crate::protocol::codec::{
    AcknowledgementKind, Delivery, PacketIdentifier, PlainPublish, PlainPublishes, PlainRun, ProtocolVersion,
    QoS, ReasonCode, plain_acknowledgements,
};

/// Packets that are answered together, at most.
const ANSWERS_AT_ONCE: usize = 64;

/// Bytes of messages that are handed on at once, roughly.
const RUN_BYTES: usize = 16 * 1024;

impl Broker {
    /// Works several messages off at once, if they are of a kind for which that can be done and not only one. Tells how
    /// many bytes need not be tried again, and whether it was done; `None` if it is done in a later turn.
    pub(super) fn process_run(
        &mut self,
        id: ConnectionId,
        bytes: &[u8],
        version: ProtocolVersion,
        limit: usize,
    ) -> Option<(usize, bool)> {
        let is_changed = self.options.listeners.concern_publish() || self.options.switches.raises_qos;
        if !self.permission.is_open || is_changed || !self.options.may_be_short() {
            return Some((0, false));
        }
        let longest = limit.min(COPIED_PAYLOAD_MAXIMUM);
        let mut run = PlainRun::new(bytes, version, longest, RUN_BYTES);
        if run.count < 2 || !is_plain_topic(run.topic) {
            return Some((run.bytes.len(), false));
        }
        let Some(matched) = self.routing.match_cache.find(&self.routing.trie, run.topic) else {
            return Some((run.bytes.len(), false));
        };
        let receivers = matched.subscribers().len();
        let most = self.turn.copied_at_once(receivers);
        if run.bytes.len() > most {
            run = PlainRun::new(bytes, version, longest, most);
        }
        let is_possible = run.count > 1 && self.is_run_for_all(&run, version, &matched);
        if is_possible {
            let taken = steps::run(receivers, run.bytes.len());
            if !self.turn.has_room_for(taken) {
                self.defer(id);
                return None;
            }
            self.turn.take(taken);
            shortcut::note(Shortcut::RelayRun);
            self.relay_run(&run, &matched);
        }
        Some((run.bytes.len(), is_possible))
    }

    /// Whether all who subscribed get several messages just as they came, or are away and get nothing.
    fn is_run_for_all(&self, run: &PlainRun<'_>, version: ProtocolVersion, matched: &Matched) -> bool {
        let subscribers = matched.subscribers();
        // A buffer that grows may become twice as large as what is in it.
        let growth = 2 * subscribers.len() * run.bytes.len();
        !matched.has_runs()
            && self.has_memory_for(growth)
            && subscribers.iter().all(|subscriber| self.takes_run(subscriber, run, version))
    }

    /// Whether a subscriber gets a run of QoS 0 messages as it came, or is away and gets nothing.
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

    /// Forwards several messages at once, which [are for all](Broker::is_run_for_all).
    fn relay_run(&mut self, run: &PlainRun<'_>, matched: &Matched) {
        self.output.statistics.packets_received += run.count as u64;
        self.output.statistics.received.count(run.count, run.payload_bytes);
        for subscriber in matched.subscribers() {
            let Target::Session(session) = subscriber.target else { continue };
            let Some(id) = self.clients.sessions[session].connection() else { continue };
            self.connections[id]
                .outbox
                .push(&mut self.output.sender.dirty, |bytes| bytes.extend_from_slice(run.bytes));
            self.output.statistics.sent.count(run.count, run.payload_bytes);
        }
    }

    /// Whether the answers to several messages may come after the last one. Not so for a client that may be among those
    /// that get them: what it is sent must not depend on how its bytes were cut.
    pub(super) fn may_answer_later(&self, id: ConnectionId, session: SessionId, matched: &Matched) -> bool {
        let is_known_not_to_subscribe = |subscriber: &Subscriber| match subscriber.target {
            Target::Session(other) => other != session,
            Target::Group(_) => self.clients.sessions[session].subscriptions.is_empty(),
        };
        self.may_answer_together(id, session) && matched.subscribers().iter().all(is_known_not_to_subscribe)
    }

    /// Plain messages of QoS 1 or 2 on such a topic, the first of which [`Broker::is_new`]: what is the same for all is
    /// looked up once, and they are answered together.
    #[inline(never)]
    pub(super) fn relay_answered(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        publishes: PlainPublishes<'_>,
        matched: &Matched,
    ) -> Result<Step, Fault> {
        shortcut::note(Shortcut::RelayAnswered);
        let only = self.only_receiver(publishes.qos(), matched);
        let share = self.steps_for(matched, publishes.qos()).saturating_add(steps::PACKET);
        let most = self.turn.small_steps() / share;
        let mut answers = [[0; AcknowledgementKind::PLAIN_LENGTH]; ANSWERS_AT_ONCE];
        let (mut count, mut length, mut payload_bytes) = (0, 0, 0);
        let (mut last, mut begun) = (None, 0);
        for (publish, answer) in publishes.zip(&mut answers).take(most.clamp(1, self.answers_at_once(id))) {
            *answer = match publish.delivery {
                Delivery::AtMostOnce => break,
                Delivery::AtLeastOnce(identifier) => AcknowledgementKind::PubAck.plain(identifier),
                Delivery::ExactlyOnce(_) if count > 0 && !self.is_new(id, session, publish.delivery) => break,
                Delivery::ExactlyOnce(identifier) => AcknowledgementKind::PubRec.plain(identifier),
            };
            let mut outbound = Outbound::plain(matched.topic(), &publish, !self.output.sender.must_look());
            let is_begun = only.is_some_and(|(receiver, qos)| self.begin_alone(receiver, qos, &mut outbound));
            let reason_code = match is_begun {
                true => {
                    shortcut::note(Shortcut::BeginAlone);
                    begun += 1;
                    ReasonCode::Success
                }
                false => self.route(&mut outbound, Some(session), matched).reason_code(),
            };
            (count, length, payload_bytes) =
                (count + 1, length + publish.packet.len(), payload_bytes + publish.payload.len());
            if reason_code != ReasonCode::Success {
                last = Some((publish.delivery, reason_code));
                break;
            }
            if let Delivery::ExactlyOnce(identifier) = publish.delivery {
                self.clients.sessions[session].incoming.insert(identifier);
            }
        }
        self.turn.take(begun * share);
        self.output.statistics.packets_received += count as u64 - 1;
        self.output.statistics.received.count(count, payload_bytes);
        self.acknowledge_together(id, answers.split_at(count - usize::from(last.is_some())).0);
        if let Some((delivery, reason_code)) = last {
            let before = self.connections[id].outbox.end();
            self.conclude(id, session, delivery, reason_code, before)?;
        }
        Ok(Step::Several(length))
    }

    /// A PUBLISH of the commonest kind, on a topic that it is known who gets it: nothing needs to be looked up or
    /// checked but what is so for each message. Only for topics that [`is_plain_topic`] tells.
    #[inline]
    pub(super) fn relay(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        publish: &PlainPublish<'_>,
        matched: &Matched,
    ) -> Result<Step, Fault> {
        if self.is_repeated(id, session, publish.delivery)? {
            return Ok(Step::Done);
        }
        shortcut::note(Shortcut::Relay);
        self.output.statistics.received.count(1, publish.payload.len());
        let mut outbound = Outbound::plain(matched.topic(), publish, !self.output.sender.must_look());
        self.persistence.begin_message(Some(id));
        let before = self.connections[id].outbox.end();
        let reason_code = self.route(&mut outbound, Some(session), matched).reason_code();
        self.conclude(id, session, publish.delivery, reason_code, before)?;
        Ok(Step::Done)
    }

    /// Queues acknowledgements of success, for a client that [`Broker::may_answer_together`].
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

    /// Who alone gets the messages of this QoS on a topic, and at which QoS, if there is nothing more to say about it
    /// than that it is 1 or 2.
    fn only_receiver(&self, qos: QoS, matched: &Matched) -> Option<(SessionId, QoS)> {
        let [Subscriber { target: Target::Session(session), terms }] = *matched.subscribers() else {
            return None;
        };
        let qos = self.delivered_qos(session, terms.qos(), qos);
        (qos != QoS::AtMostOnce && terms.are_plain()).then_some((session, qos))
    }

    /// Does what [`Broker::route`] does for such a receiver, if the delivery may begin at once. False if it may not, or
    /// that is to be asked more closely.
    #[inline]
    fn begin_alone(&mut self, session: SessionId, qos: QoS, outbound: &mut Outbound<'_>) -> bool {
        self.output.sender.encoder.begin();
        let options =
            DeliveryOptions { qos, retain: false, identifiers: &[], group: None, number: None, dup: false };
        self.has_memory_for(0) && self.begin_at_once(session, outbound, options)
    }

    /// Puts the packet as it came into the outbox of a client that keeps up, if a QoS 0 copy is just that. Whatever
    /// else there may be to do is left to [`Broker::deliver`].
    #[inline]
    pub(super) fn forward(&mut self, session: SessionId, outbound: &Outbound<'_>) -> bool {
        let has_memory_for = self.has_memory_for(0);
        let Some(id) = self.clients.sessions[session].connection() else { return false };
        let connection = &mut self.connections[id];
        let is_sent = has_memory_for
            && connection.outbox.len() < self.options.limits.outbox_bytes
            && self.output.sender.original(connection, outbound, Delivery::AtMostOnce);
        if is_sent {
            shortcut::note(Shortcut::Forward);
            self.output.statistics.sent.count(1, outbound.publication.payload.len());
        }
        is_sent
    }

    /// Works off a plain acknowledgement, and those of its kind behind it as far as that is the same as one by one.
    #[inline]
    pub(super) fn handle_plain(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        (kind, identifier): (AcknowledgementKind, PacketIdentifier),
        rest: &[u8],
    ) -> Result<Step, Fault> {
        shortcut::note(Shortcut::HandlePlain);
        let count = match kind {
            AcknowledgementKind::PubAck | AcknowledgementKind::PubComp => {
                self.settle_together(kind, session, rest)
            }
            AcknowledgementKind::PubRec => self.release_together(id, session, rest),
            AcknowledgementKind::PubRel => self.complete_together(id, session, rest),
        };
        if count > 0 {
            shortcut::note(Shortcut::of_acknowledgements(kind));
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

    /// Processes the plain PUBACKs or PUBCOMPs at the front of `bytes`, as long as nothing but the deliveries that they
    /// end depends on them. Tells how many.
    #[inline]
    fn settle_together(&mut self, kind: AcknowledgementKind, session: SessionId, bytes: &[u8]) -> usize {
        if self.persistence.is_persisted(session) {
            return 0;
        }
        let outgoing = self.clients.sessions[session].outgoing_mut();
        // What waits may go after the first one already, and the next may answer it.
        if !outgoing.is_at_rest() {
            return 0;
        }
        let (mut count, mut vain) = (0, 0);
        for identifier in plain_acknowledgements(kind, bytes) {
            let settled = match kind {
                AcknowledgementKind::PubAck => {
                    outgoing.acknowledge(identifier, &mut self.output.sender.spares)
                }
                _ => outgoing.complete(identifier),
            };
            match settled {
                Settled::Done => {}
                Settled::Unknown | Settled::Repeated => vain += 1,
                Settled::OutOfPlace => break,
            }
            count += 1;
        }
        if count > vain {
            outgoing.progress(self.clock.now);
        }
        count
    }

    /// Answers the plain PUBRECs at the front of `bytes` with PUBRELs [MQTT-4.3.3-4], as long as each is the first
    /// answer to its message or a repeat of it. Tells how many.
    fn release_together(&mut self, id: ConnectionId, session: SessionId, bytes: &[u8]) -> usize {
        if !self.may_answer_together(id, session) || is_planted(planted::Fault::LostPubrel) {
            return 0;
        }
        let most = self.answers_at_once(id);
        let outgoing = self.clients.sessions[session].outgoing_mut();
        let outbox = &mut self.connections[id].outbox;
        let (mut count, mut repeats, mut ends_at) = (0, 0, outbox.end());
        outbox.push(&mut self.output.sender.dirty, |answers| {
            for identifier in plain_acknowledgements(AcknowledgementKind::PubRec, bytes).take(most) {
                match outgoing.receive(identifier, false, &mut self.output.sender.spares) {
                    Settled::Done => {}
                    Settled::Repeated => repeats += 1,
                    Settled::Unknown | Settled::OutOfPlace => break,
                }
                let answer = AcknowledgementKind::PubRel.plain(identifier);
                answers.extend_from_slice(&answer);
                (count, ends_at) = (count + 1, ends_at + answer.len() as u64);
                outgoing.released(identifier, self.clock.now, ends_at, 0);
            }
        });
        self.output.sender.packets += count as u64;
        if count > repeats {
            outgoing.progress(self.clock.now);
        }
        if count > 0 {
            self.retry_later(session);
        }
        count
    }

    /// Answers the plain PUBRELs at the front of `bytes` with PUBCOMPs [MQTT-4.3.3-11], as far as nothing else is to be
    /// said; tells how many.
    fn complete_together(&mut self, id: ConnectionId, session: SessionId, bytes: &[u8]) -> usize {
        if !self.may_answer_together(id, session) {
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

    /// Whether plain answers to several packets of a client may be queued in one piece: none of them has to wait, and
    /// the client takes packets of their length.
    fn may_answer_together(&self, id: ConnectionId, session: SessionId) -> bool {
        !self.persistence.is_persisted(session)
            && !self.persistence.must_wait(id, Awaited::Nothing)
            && self.connections[id].maximum_packet_size() >= AcknowledgementKind::PLAIN_LENGTH
    }

    /// How many plain answers may be queued for a client in one piece: no more than it would be read for if they were
    /// queued one by one.
    #[inline]
    fn answers_at_once(&self, id: ConnectionId) -> usize {
        let left = self.answers_allowance().saturating_sub(self.connections[id].outbox.len());
        (left / AcknowledgementKind::PLAIN_LENGTH + 1).min(ANSWERS_AT_ONCE)
    }

    /// Queues an acknowledgement of success; false if the client takes no packets of that size.
    #[inline]
    pub(super) fn acknowledge_plainly(
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
}

/// Whether a topic that has been checked before is surely not about the broker.
#[inline]
pub(super) fn is_plain_topic(topic: &[u8]) -> bool {
    topic.first() != Some(&b'$')
}
