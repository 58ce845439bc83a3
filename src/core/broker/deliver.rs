//! The delivery of a message to its subscribers: at once if the client is connected and reads fast enough, otherwise
//! through the queue of its session.

use super::Broker;
use super::budget::Pressure;
use super::lookup::Matched;
use super::turn::steps;
use crate::base::memory;
use crate::core::journal::MessageNumber;
use crate::core::limits::QueueLimits;
use crate::core::message::{Message, Naming, Outbound, Publication, ReceiverCopy};
use crate::core::session::{Presence, Queued};
use crate::core::shared_subscription::LOOKS_MAXIMUM;
use crate::core::slots::{ConnectionId, SessionId};
use crate::core::subscription::{GroupId, LatestIdentifiers, Subscriber, Target};
use crate::protocol::codec::{Delivery, QoS, ReasonCode};
use crate::protocol::topic::TopicName;

/// Deliveries to more receivers than this count the memory by which they grow.
const FEW: usize = 16;

/// One receiver's copy before it has a Packet Identifier.
#[derive(Clone, Copy, Debug)]
pub(super) struct DeliveryOptions<'a> {
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) identifiers: &'a [u32],
    pub(super) group: Option<GroupId>,
    /// The number under which the copy is persisted, if it is already.
    pub(super) number: Option<MessageNumber>,
}

/// The deliveries of one publication.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Routed {
    /// How many subscribers matched.
    matched: usize,
    /// How many of them got it or will get it, or do not because it is too large for them or has expired.
    taken: usize,
    /// Whether it replaced or cleared the retained message of its topic.
    pub(super) is_retained: bool,
}

impl Routed {
    /// Begins with no deliveries of a message that was or was not retained.
    pub(super) fn with(is_retained: bool) -> Self {
        Self { is_retained, ..Self::default() }
    }

    /// The result for a message that went into the log of the cluster: nothing is known about its subscribers.
    pub(super) fn logged() -> Self {
        Self { matched: 1, taken: 1, ..Self::default() }
    }

    /// Counts the result of [`Broker::deliver`] for one subscriber.
    #[inline]
    pub(super) fn count(&mut self, is_taken: Option<bool>) {
        self.matched += usize::from(is_taken.is_some());
        self.taken += usize::from(is_taken == Some(true));
    }

    /// The Reason Code for the publisher of a QoS 1 or 2 message. After an error, the publisher may send it again as a
    /// new message, so an error is reported only if the message has had no effect.
    pub(super) const fn reason_code(self) -> ReasonCode {
        if self.matched > 0 && self.taken == 0 && !self.is_retained {
            ReasonCode::QuotaExceeded
        } else if self.matched == 0 {
            ReasonCode::NoMatchingSubscribers
        } else {
            ReasonCode::Success
        }
    }
}

impl Broker {
    /// Whether all subscribers of a topic can be served at once.
    #[inline]
    pub(super) fn fits_share(&self, matched: &Matched, qos: QoS) -> bool {
        self.turn.is_small(self.steps_for(matched, qos))
    }

    /// The most steps that it takes to serve all subscribers of a topic at once; `usize::MAX` if that is not possible.
    #[inline]
    pub(super) fn steps_for(&self, matched: &Matched, qos: QoS) -> usize {
        let steps = matched.subscribers().len() * steps::delivery(qos);
        if matched.has_groups() { steps.saturating_add(self.steps_of_groups(matched)) } else { steps }
    }

    /// The most steps that it takes to choose members of groups; `usize::MAX` if a group has too many to examine in one
    /// turn.
    #[inline(never)]
    fn steps_of_groups(&self, matched: &Matched) -> usize {
        let members = |subscriber: &Subscriber| match subscriber.target {
            Target::Session(_) => 0,
            Target::Group(id) => {
                match self.routing.groups.find(id).map_or(0, |group| group.members().len()) {
                    few @ 0..=LOOKS_MAXIMUM => few,
                    _ => usize::MAX,
                }
            }
        };
        matched.subscribers().iter().map(members).fold(0, usize::saturating_add)
    }

    /// Delivers a message to every subscriber, all of whom [fit the share](Broker::fits_share).
    #[inline]
    pub(super) fn route(
        &mut self,
        outbound: &mut Outbound<'_>,
        publisher: Option<SessionId>,
        matched: &Matched,
    ) -> Routed {
        let held = self.begin_route(matched, outbound.publication.qos);
        let mut routed = Routed::default();
        if matched.has_runs() {
            for run in matched.subscribers().chunk_by(|one, other| one.target == other.target) {
                routed.count(self.deliver_run(run, outbound, publisher));
            }
        } else {
            for subscriber in matched.subscribers() {
                routed.count(self.deliver_alone(subscriber, outbound, publisher));
            }
        }
        if let Some(held) = held {
            self.turn.take_growth(held);
        }
        routed
    }

    /// Takes the steps of the deliveries that follow. If there are many, returns the bytes of memory held before them.
    #[inline]
    pub(super) fn begin_route(&mut self, matched: &Matched, qos: QoS) -> Option<usize> {
        self.output.sender.encoder.begin();
        self.turn.take(matched.subscribers().len() * steps::delivery(qos));
        // A few deliveries grow the memory by little.
        (matched.subscribers().len() > FEW).then(memory::held)
    }

    /// Retains a message for its topic, or clears the topic if the payload is empty [MQTT-3.3.1-6]. Returns false if
    /// there is no room, which is logged.
    pub(super) fn retain(&mut self, outbound: &mut Outbound<'_>, publisher: Option<SessionId>) -> bool {
        let publication = outbound.publication;
        if publication.payload.is_empty() {
            // The empty message itself is not stored [MQTT-3.3.1-7].
            if self.retention.retained.clear(publication.topic) {
                self.persist_retained(publication.topic, publication.qos);
                self.note_change(&publication);
            }
            return true;
        }
        if !self.can_retain(&publication) {
            self.log_not_retained(publisher, &publication);
            return false;
        }
        self.retention.retained.set(outbound.message(&mut self.output.sender.spares).clone());
        self.persist_retained(publication.topic, publication.qos);
        self.note_change(&publication);
        self.sweep_later();
        true
    }

    /// Whether a message can be retained, or need not be.
    pub(super) fn can_retain(&self, publication: &Publication<'_>) -> bool {
        if !publication.retain || publication.payload.is_empty() {
            return true;
        }
        let bytes = Message::memory_of(publication);
        // The number of the broker's own topics is limited.
        let is_own = publication.topic.is_about_the_broker();
        self.retention.retained.has_room(publication.topic, bytes, &self.options.limits)
            && (is_own || self.pressure(bytes) < Pressure::Keep)
    }

    /// Delivers for the only matching subscription of a session, or to a group. Returns `None` if No Local excludes the
    /// client's own message [MQTT-3.8.3-3].
    #[inline]
    pub(super) fn deliver_alone(
        &mut self,
        &Subscriber { target, terms }: &Subscriber,
        outbound: &mut Outbound<'_>,
        publisher: Option<SessionId>,
    ) -> Option<bool> {
        let session = match target {
            Target::Session(session) => session,
            Target::Group(group) => return self.deliver_to_group(group, outbound),
        };
        let qos = self.delivered_qos(session, terms.qos(), outbound.publication.qos);
        if terms.no_local() && publisher == Some(session) {
            return None;
        }
        let identifier = terms.identifier();
        let options = DeliveryOptions {
            qos,
            // [MQTT-3.3.1-12] [MQTT-3.3.1-13]
            retain: terms.retain_as_published() && outbound.publication.retain,
            identifiers: identifier.as_slice(),
            group: None,
            number: None,
        };
        self.deliver(session, outbound, options)
    }

    /// Delivers once for several subscriptions of one session: at the highest QoS among them [MQTT-3.3.4-2], with all
    /// their identifiers [MQTT-3.3.4-4]. Returns `None` if No Local excludes all of them [MQTT-3.8.3-3].
    pub(super) fn deliver_run(
        &mut self,
        run: &[Subscriber],
        outbound: &mut Outbound<'_>,
        publisher: Option<SessionId>,
    ) -> Option<bool> {
        let [Subscriber { target: Target::Session(session), .. }, _, ..] = *run else {
            return self.deliver_alone(run.first()?, outbound, publisher);
        };
        let is_own = publisher == Some(session);
        let mut wanted = run.iter().map(|entry| entry.terms).filter(|terms| !(is_own && terms.no_local()));
        let first = wanted.next()?;
        let (mut qos, mut as_published) = (first.qos(), first.retain_as_published());
        let mut identifiers: Vec<u32> = first.identifier().into_iter().collect();
        for terms in wanted {
            qos = qos.max(terms.qos());
            as_published |= terms.retain_as_published();
            identifiers.extend(terms.identifier());
        }
        let options = DeliveryOptions {
            qos: self.delivered_qos(session, qos, outbound.publication.qos),
            // [MQTT-3.3.1-12] [MQTT-3.3.1-13]
            retain: as_published && outbound.publication.retain,
            identifiers: &identifiers,
            group: None,
            number: None,
        };
        self.deliver(session, outbound, options)
    }

    /// Delivers one copy. Returns false if there was no room for it, and `None` if the session is over.
    pub(super) fn deliver(
        &mut self,
        session: SessionId,
        outbound: &mut Outbound<'_>,
        options: DeliveryOptions<'_>,
    ) -> Option<bool> {
        if options.qos == QoS::AtMostOnce {
            return self.deliver_at_most_once(session, outbound, options);
        }
        let length = outbound.publication.length();
        let is_affordable = self.has_memory_for(length) || self.pressure(length) < Pressure::Full;
        match is_affordable && self.begin_at_once(session, outbound, options) {
            true => Some(true),
            false => self.queue(session, outbound, options),
        }
    }

    /// Queues a copy in the session. Returns false if there is no room for it, and `None` if the session is over.
    #[inline(never)]
    pub(super) fn queue(
        &mut self,
        session: SessionId,
        outbound: &mut Outbound<'_>,
        options: DeliveryOptions<'_>,
    ) -> Option<bool> {
        let is_short = self.has_little_room_for_queued(session, options.qos);
        let exceeds_budget = self.pressure(outbound.publication.length()) == Pressure::Full;
        let state = &mut self.clients.sessions[session];
        if state.presence == Presence::Over {
            return None;
        }
        if is_short {
            return Some(self.lose_copy(session, outbound, options));
        }
        let message = outbound.message(&mut self.output.sender.spares).clone();
        let bytes = message.memory();
        let is_connected = state.connection().is_some();
        let limits = self.options.room_at_once(state.listener);
        let has_room = state.outgoing_mut().has_room(bytes, limits, is_connected);
        if !has_room && !self.make_room(session, bytes) {
            return Some(self.lose_copy(session, outbound, options));
        }
        let outgoing = self.clients.sessions[session].outgoing_mut();
        let waits_in_store = !is_connected || outgoing.backlog.is_some();
        let number = match self.persistence.journal {
            Some(_) => self.persist_copy(session, &message, options, None),
            None => None,
        };
        let outgoing = self.clients.sessions[session].outgoing_mut();
        match number {
            Some(number) if waits_in_store => {
                let waiting = (bytes, outbound.publication.expires);
                outgoing.push_stored(number, waiting, options.qos, options.group);
                if options.retain {
                    self.note_stored_copy(session, number, outbound.publication.topic);
                }
            }
            _ => outgoing.push(
                DeliveryOptions { number, ..options }.queued(message, &mut self.output.sender.identifiers),
            ),
        }
        // Nothing is sent here: the next queued message would be encoded in the place of the current one.
        self.settle_gone(session);
        if exceeds_budget {
            // It was not begun, but the client may be at rest, so that nothing it does would send the copy.
            self.list(session);
        }
        Some(true)
    }

    /// Looks for room in a queue for one message of this many bytes, which then comes. Returns whether there is any.
    #[cold]
    pub(super) fn make_room(&mut self, session: SessionId, bytes: usize) -> bool {
        let state = &mut self.clients.sessions[session];
        let (is_connected, limits) =
            (state.connection().is_some(), self.options.queue_limits(state.listener));
        let has_room = state.outgoing_mut().has_room(bytes, limits, is_connected)
            || self.drop_for_room(session, bytes, (limits, is_connected));
        if has_room {
            self.note_arrival(session);
        }
        has_room
    }

    /// Drops messages of a full queue until there is room for one of this many bytes: expired ones, then the oldest ones
    /// if the operator wants that. Returns whether there is room.
    fn drop_for_room(
        &mut self,
        session: SessionId,
        bytes: usize,
        (limits, is_connected): (QueueLimits, bool),
    ) -> bool {
        let now = self.now();
        self.note_gaps(session);
        let state = &mut self.clients.sessions[session];
        let drops_oldest = self.options.drops_oldest(state.listener) && limits.length > 0;
        let outgoing = state.outgoing_mut();
        let mut lost = Vec::new();
        self.output.statistics.expired += outgoing.forget_expired(now, &mut lost) as u64;
        let mut has_room = outgoing.has_room(bytes, limits, is_connected);
        while drops_oldest
            && !has_room
            && self.clients.sessions[session].outgoing_mut().drop_oldest(&mut lost)
        {
            self.lose(session, None);
            has_room = self.clients.sessions[session].outgoing_mut().has_room(bytes, limits, is_connected);
        }
        self.owe_lost(session, lost);
        // Nothing is written for the new message that would take them along.
        if !has_room {
            self.settle_gone(session);
        }
        has_room
    }

    /// Whether there is too little room to queue another copy: in memory, or on disk for a copy of QoS 0. The room that
    /// is left on disk is for messages that are acknowledged.
    #[inline]
    fn has_little_room_for_queued(&self, session: SessionId, qos: QoS) -> bool {
        let takes_last_room = qos == QoS::AtMostOnce
            && !self.persistence.has_storage_room()
            && self.persistence.is_persisted(session);
        takes_last_room || self.pressure(0) >= Pressure::Keep
    }

    /// Drops a copy for which there is no room in the session's queue. Returns false.
    #[cold]
    fn lose_copy(
        &mut self,
        session: SessionId,
        outbound: &Outbound<'_>,
        options: DeliveryOptions<'_>,
    ) -> bool {
        if options.retain {
            self.owe_dropped(session, outbound.publication.topic);
        }
        self.lose(session, Some(outbound.publication.topic))
    }

    /// Drops a message for which there is no room in the session's queue. Logs the first one since the queue was last
    /// empty. Returns false.
    #[cold]
    fn lose(&mut self, session: SessionId, topic: Option<TopicName<'_>>) -> bool {
        self.output.statistics.dropped += 1;
        let state = &mut self.clients.sessions[session];
        if state.outgoing.as_mut().is_some_and(|outgoing| outgoing.lose()) {
            self.log_full_queue(session, topic);
        }
        false
    }

    /// Delivers a QoS 0 copy: at once, or after copies that are queued.
    pub(super) fn deliver_at_most_once(
        &mut self,
        session: SessionId,
        outbound: &mut Outbound<'_>,
        options: DeliveryOptions<'_>,
    ) -> Option<bool> {
        let presence = self.clients.sessions[session].presence;
        match presence {
            Presence::Over => None,
            Presence::Connected(id) if self.queues_at_most_once(id, session) => {
                self.queue(session, outbound, options)
            }
            Presence::Connected(id) => Some(self.send_at_most_once(id, session, outbound, options)),
            Presence::Away { .. } if self.options.switches.queues_at_most_once => {
                self.queue(session, outbound, options)
            }
            Presence::Away { .. } => {
                if options.retain {
                    self.owe_dropped(session, outbound.publication.topic);
                }
                Some(true)
            }
        }
    }

    /// Whether QoS 0 messages for a client have to wait because others are queued [MQTT-4.6.0-6].
    #[inline]
    fn queues_at_most_once(&mut self, id: ConnectionId, session: SessionId) -> bool {
        self.connections[id].outbox.queues_at_most_once && !self.has_drained(id, session)
    }

    /// Whether no QoS 0 message is queued any longer. If so, the next one may be sent as it came.
    #[cold]
    fn has_drained(&mut self, id: ConnectionId, session: SessionId) -> bool {
        let outgoing = &self.clients.sessions[session].outgoing;
        let has_drained = outgoing.as_ref().is_none_or(|outgoing| !outgoing.holds_at_most_once());
        if has_drained {
            self.output.sender.queue_at_most_once(&mut self.connections[id], false);
        }
        has_drained
    }

    /// Lets the next QoS 0 message be sent at once, because all messages that were queued for the client have been sent.
    #[inline]
    pub(super) fn look_for_at_most_once(&mut self, session: SessionId) {
        if self.output.sender.must_look()
            && let Some(id) = self.clients.sessions[session].connection()
        {
            self.queues_at_most_once(id, session);
        }
    }

    /// Sends a QoS 0 copy to a connected client. Returns false if there is no room for it.
    pub(super) fn send_at_most_once(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        outbound: &mut Outbound<'_>,
        options: DeliveryOptions<'_>,
    ) -> bool {
        let length = outbound.publication.length();
        let (allowance, is_full) = match self.has_memory_for(length) {
            true => (self.options.limits.outbox_bytes, false),
            false => (self.outbox_allowance(), !self.has_room_at_most_once(length)),
        };
        let (now, copy) = (self.now(), options.with(Delivery::AtMostOnce));
        let connection = &mut self.connections[id];
        let is_slow = connection.outbox.len() >= allowance && !connection.outbox.is_empty();
        if is_slow || is_full {
            self.output.statistics.dropped += 1;
            self.log_slow_reader((id, session), outbound.publication.topic, self.has_memory_for(length));
            if options.retain {
                self.owe_dropped(session, outbound.publication.topic);
            }
            return false;
        }
        let client = &self.clients.sessions[session].client_identifier;
        match self.output.sender.publish(connection, client, outbound, copy, now) {
            Ok(()) => self.output.statistics.sent.count(1, outbound.publication.payload.len()),
            Err(_) => self.output.statistics.oversized += 1,
        }
        true
    }
}

impl<'a> DeliveryOptions<'a> {
    /// Returns the options of a copy that was queued.
    #[inline]
    pub(super) fn of(queued: &'a Queued) -> Self {
        Self {
            qos: queued.qos,
            retain: queued.retain,
            identifiers: queued.identifiers.as_slice(),
            group: queued.group,
            number: queued.number,
        }
    }

    /// Returns the copy as it is queued or put in flight.
    #[inline]
    pub(super) fn queued(self, message: Message, latest: &mut LatestIdentifiers) -> Queued {
        Queued {
            message,
            identifiers: latest.share(self.identifiers),
            group: self.group,
            qos: self.qos,
            retain: self.retain,
            number: self.number,
        }
    }

    /// Returns the copy as it is sent for the first time.
    #[inline]
    pub(super) fn with(self, delivery: Delivery) -> ReceiverCopy<'a> {
        ReceiverCopy {
            dup: false,
            retain: self.retain,
            delivery,
            identifiers: self.identifiers,
            naming: Naming::Name,
        }
    }
}
