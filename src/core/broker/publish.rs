//! PUBLISH from a client, and PUBREL, the second half of a QoS 2 exchange that the client began.

use log::info;

use super::decisions::Decisions;
use super::distribution::Published;
use super::listener_options::{limit, mounted_name};
use super::shortage::LITTLE_ROOM;
use super::turn::steps;
use super::{Broker, Fault, Step};
use crate::base::escape::Escaped;
use crate::base::time::{Duration, Time};
use crate::core::access::{Question, Verdict};
use crate::core::journal::{Awaited, Record, Urgency};
use crate::core::limits::LITTLE_MEMORY;
use crate::core::message::{Outbound, Publication};
use crate::core::slots::{ConnectionId, SessionId};
use crate::protocol::codec::{
    Acknowledgement, AcknowledgementKind, Delivery, PacketIdentifier, Properties, Property, PropertyBuffer,
    ProtocolVersion, Publish, QoS, ReasonCode,
};
use crate::protocol::topic::TopicName;

/// The most QoS 2 messages that a client may have sent and not released while the memory budget is used up.
const INCOMING_UNDER_PRESSURE: usize = 32;

impl Broker {
    pub(super) fn handle_publish(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        publish: &Publish<'_>,
        decisions: &mut Decisions,
    ) -> Result<Step, Fault> {
        self.turn.take(publish.properties.bytes().len() / steps::PROPERTY_BYTES_PER_STEP);
        // Before anything can refuse the message: the answer to a refusal waits for nothing.
        self.persistence.begin_message(Some(id));
        let mut buffers = std::mem::take(&mut self.output.buffers);
        // Before a repeat is recognized, because a repeated message may bind an alias as well.
        let outcome = self.resolve_topic(id, publish, &mut buffers.aliased_topic).and_then(|topic| {
            let split = self.split_properties(publish.properties, &mut buffers.forwarded)?;
            self.accept_publish((id, session), publish, topic, split, decisions)
        });
        buffers.forwarded.clear();
        self.output.buffers = buffers;
        outcome
    }

    /// Whether a message can be accepted as a new one: it does not repeat a QoS 2 message that was received and not
    /// released, it fits into the Receive Maximum, and there is memory for its Packet Identifier.
    #[inline(always)]
    pub(super) fn is_new(&self, id: ConnectionId, session: SessionId, delivery: Delivery) -> bool {
        let incoming = &self.clients.sessions[session].incoming;
        if delivery == Delivery::AtMostOnce || incoming.is_empty() {
            return true;
        }
        let is_repeat =
            matches!(delivery, Delivery::ExactlyOnce(identifier) if incoming.contains(identifier));
        let is_v5 = self.connections[id].version == ProtocolVersion::V5;
        let has_place = !is_v5
            || incoming.len() < usize::from(self.options.limits.receive_maximum)
            || self.has_other_place(session);
        has_place && !is_repeat && !self.lacks_memory_for(delivery, incoming.len())
    }

    /// Whether a message can be accepted though the unreleased ones fill the Receive Maximum. Those of earlier connections
    /// do not count, since the client counts anew on each connection (MQTT 5.0, 4.9). The other broker of a bridge
    /// decides itself how many messages are in flight, as any client before MQTT 5.0 does.
    #[cold]
    #[inline(never)]
    fn has_other_place(&self, session: SessionId) -> bool {
        let incoming = &self.clients.sessions[session].incoming;
        incoming.len() - usize::from(self.options.limits.receive_maximum) < incoming.carried()
            || self.is_session_of_bridge(session)
    }

    /// Whether a session is that of a bridge.
    #[cold]
    #[inline(never)]
    fn is_session_of_bridge(&self, session: SessionId) -> bool {
        self.options.is_bridge(&self.clients.sessions[session].client_identifier)
    }

    /// Whether there is no memory for one more Packet Identifier of a client that already has this many.
    fn lacks_memory_for(&self, delivery: Delivery, incoming: usize) -> bool {
        matches!(delivery, Delivery::ExactlyOnce(_))
            && incoming >= INCOMING_UNDER_PRESSURE
            && self.is_used_up()
    }

    /// Whether a QoS 2 message was received before and not released. If so, the repeat is answered here and not
    /// delivered again [MQTT-4.3.3-10].
    ///
    /// # Errors
    ///
    /// Returns a fault if the message is new and the unreleased ones fill the Receive Maximum or the memory.
    #[inline]
    pub(super) fn is_repeated(
        &mut self,
        (id, session): (ConnectionId, SessionId),
        delivery: Delivery,
        is_dup: bool,
    ) -> Result<bool, Fault> {
        if self.is_new(id, session, delivery) {
            return Ok(false);
        }
        if let Delivery::ExactlyOnce(identifier) = delivery
            && self.clients.sessions[session].incoming.contains(identifier)
        {
            // What is sent again says so [MQTT-3.3.1-1]. If this does not, the other broker of a bridge has begun a new
            // session without the bridge learning of it, since its CONNACK was lost or this broker has crashed.
            if !is_dup && self.is_session_of_bridge(session) {
                return Ok(false);
            }
            let awaited = self.persistence.received(session);
            self.answer_publish(id, delivery, ReasonCode::Success, awaited)?;
            return Ok(true);
        }
        if self.lacks_memory_for(delivery, self.clients.sessions[session].incoming.len()) {
            return Err(Fault::new(ReasonCode::QuotaExceeded, LITTLE_MEMORY));
        }
        Err(Fault::new(
            ReasonCode::ReceiveMaximumExceeded,
            format!(
                "more QoS 1 and 2 messages at a time than the Receive Maximum, {}",
                limit(self.options.limits.receive_maximum, "max_inflight_messages")
            ),
        ))
    }

    /// Returns the topic of a PUBLISH, which is given by its name or by a Topic Alias. An alias that comes with a name
    /// is bound to the name. `aliased` is the buffer for a topic that is given by an alias.
    fn resolve_topic<'a>(
        &mut self,
        id: ConnectionId,
        publish: &Publish<'a>,
        aliased: &'a mut String,
    ) -> Result<TopicName<'a>, Fault> {
        let Some(alias) = publish.properties.topic_alias() else {
            return publish.topic.ok_or_else(|| Fault::protocol_error("neither topic nor alias"));
        };
        let maximum = self.options.listeners.of(self.connections[id].listener).topic_alias_maximum;
        if alias > maximum {
            // [MQTT-3.3.2-9]
            let what = format!("Topic Alias {alias}, {}", limit(maximum, "max_topic_alias"));
            return Err(Fault::new(ReasonCode::TopicAliasInvalid, what));
        }
        if publish.topic.is_some() && self.is_used_up() {
            return Err(Fault::new(ReasonCode::QuotaExceeded, format!("no Topic Alias, {LITTLE_MEMORY}")));
        }
        let Some(extension) = &mut self.connections[id].extension else {
            return Err(Fault::protocol_error("a Topic Alias before 5.0"));
        };
        if let Some(topic) = publish.topic {
            extension.inbound_aliases.bind(alias, topic);
            return Ok(topic);
        }
        let Some(topic) = extension.inbound_aliases.topic(alias) else {
            return Err(Fault::protocol_error("a Topic Alias that is not bound"));
        };
        aliased.clear();
        aliased.push_str(topic.as_str());
        Ok(TopicName::trusted(aliased))
    }

    /// Accepts a message under the name that its topic has in the broker: below the mount point of the listener if
    /// there is one.
    #[inline]
    fn accept_publish(
        &mut self,
        (id, session): (ConnectionId, SessionId),
        publish: &Publish<'_>,
        topic: TopicName<'_>,
        split: (Properties<'_>, Time),
        decisions: &mut Decisions,
    ) -> Result<Step, Fault> {
        if self.options.listeners.concern_publish() {
            self.check_publish(id, publish)?;
            if publish.payload.len() > self.options.limits.payload_size {
                return self.reject(id, session, publish, topic);
            }
            if let Some(mounted) =
                mounted_name(self.options.listeners.of(self.connections[id].listener), topic)
            {
                let topic = TopicName::new(&mounted).map_err(|_| {
                    Fault::new(
                        ReasonCode::TopicNameInvalid,
                        "the topic is not valid below the mount point (mount_point)",
                    )
                })?;
                return self.accept_named((id, session), publish, topic, split, decisions);
            }
        }
        self.accept_named((id, session), publish, topic, split, decisions)
    }

    /// Answers a message whose payload exceeds the maximum. The message has no other effect.
    fn reject(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        publish: &Publish<'_>,
        topic: TopicName<'_>,
    ) -> Result<Step, Fault> {
        if self.is_repeated((id, session), publish.delivery, publish.dup)? {
            return Ok(Step::Done);
        }
        let client = Escaped(&self.clients.sessions[session].client_identifier);
        let (length, topic) = (publish.payload.len(), Escaped(topic.as_str()));
        let limit = self.options.limits.payload_size;
        info!(
            target: "notice",
            "Dropped too large PUBLISH from {client} ('{topic}', ... ({length} bytes)). The limit is {limit} (message_size_limit)."
        );
        self.output.statistics.refused += 1;
        let before = self.connections[id].outbox.end();
        self.conclude(id, session, publish.delivery, ReasonCode::QuotaExceeded, before)?;
        Ok(Step::Done)
    }

    /// Publishes a message of a client: retains it if RETAIN is set, and delivers it to every subscriber
    /// [MQTT-4.5.0-1].
    fn publish(
        &mut self,
        outbound: &mut Outbound<'_>,
        (id, session): (ConnectionId, SessionId),
    ) -> Published {
        self.persistence.begin_message(Some(id));
        if self.is_for_log(&outbound.publication) {
            return self.log(outbound);
        }
        self.tell_nodes(&outbound.publication);
        let is_retained = outbound.publication.retain && self.retain(outbound, Some(session));
        self.distribute(outbound, Some(session), is_retained)
    }

    /// Checks a message, publishes it and answers it. A repeat has already bound its Topic Alias. `properties` are
    /// forwarded to the receivers, and the message expires at `expires`.
    fn accept_named(
        &mut self,
        (id, session): (ConnectionId, SessionId),
        publish: &Publish<'_>,
        topic: TopicName<'_>,
        (properties, expires): (Properties<'_>, Time),
        decisions: &mut Decisions,
    ) -> Result<Step, Fault> {
        if self.is_repeated((id, session), publish.delivery, publish.dup)? {
            return Ok(Step::Done);
        }
        self.output.statistics.received.count(1, publish.payload.len());
        let Some(verdict) = self.ask_to_publish((id, session), publish, topic, decisions) else {
            return Ok(Step::Parked);
        };
        let before = self.connections[id].outbox.end();
        let reason = match verdict {
            Verdict::Refused(reason) => {
                let why = decisions.denial.take();
                self.trace_denial(session, topic, why.as_deref());
                self.refuse_publish(id, session, publish.delivery, reason, why)?;
                return Ok(Step::Done);
            }
            // Only the broker may publish about itself.
            _ if topic.is_about_the_broker() => ReasonCode::NotAuthorized,
            _ => {
                let publisher = self.publisher_of(session, publish);
                let publication = Publication {
                    topic,
                    payload: publish.payload,
                    qos: publish.delivery.qos(),
                    retain: publish.retain,
                    publisher: publisher.as_deref(),
                    properties,
                    expires,
                };
                let refused = match self.is_for_log(&publication) {
                    true => self.check_for_log((id, session), &publication)?,
                    false => None,
                };
                if let Some(reason) = refused {
                    self.conclude(id, session, publish.delivery, reason, before)?;
                    return Ok(Step::Done);
                }
                match self.publish_if_possible((id, session), publish.delivery, publication) {
                    Some(reason) => reason,
                    None => return Ok(Step::Done),
                }
            }
        };
        self.conclude(id, session, publish.delivery, reason, before)?;
        Ok(Step::Done)
    }

    /// The publisher of a message, where that is needed later: with what is retained, and in the log of the cluster.
    fn publisher_of(&self, session: SessionId, publish: &Publish<'_>) -> Option<String> {
        let is_needed =
            publish.retain || self.persistence.has_log() && publish.delivery != Delivery::AtMostOnce;
        is_needed.then(|| self.clients.sessions[session].publisher().written())
    }

    /// Publishes a message for which the client has the right, unless there is no room for it. Returns the Reason Code
    /// of the answer, or `None` if the message is not answered now.
    #[inline]
    fn publish_if_possible(
        &mut self,
        (id, session): (ConnectionId, SessionId),
        delivery: Delivery,
        publication: Publication<'_>,
    ) -> Option<ReasonCode> {
        if self.persistence.is_unanswered(id, delivery) || self.lacks_room(session, &publication) {
            self.output.statistics.refused += 1;
            self.log_refused_publish(session, &publication, LITTLE_ROOM);
            if !self.can_carry_a_reason(id, delivery) {
                self.persistence.leave_unanswered(id);
                return None;
            }
            return Some(ReasonCode::QuotaExceeded);
        }
        if self.can_carry_a_reason(id, delivery) && !self.can_retain(&publication) {
            // Before the message reaches any subscriber: a client that is refused may send it again as a new message.
            self.output.statistics.refused += 1;
            self.log_refused_publish(session, &publication, &self.why_not_retained(&publication));
            return Some(ReasonCode::QuotaExceeded);
        }
        match self.publish(&mut Outbound::new(publication), (id, session)) {
            Published::Wholly(routed) => Some(routed.reason_code()),
            Published::InPart(rest) => {
                self.suspend_publish(id, session, delivery, rest);
                None
            }
        }
    }

    /// Asks the access control whether a client may publish a message. Returns `None` if it decides later.
    fn ask_to_publish(
        &mut self,
        (id, session): (ConnectionId, SessionId),
        publish: &Publish<'_>,
        topic: TopicName<'_>,
        decisions: &mut Decisions,
    ) -> Option<Verdict> {
        if self.permission.is_open {
            return Some(Verdict::Granted);
        }
        let question = Question::Publish { topic, qos: publish.delivery.qos(), retain: publish.retain };
        self.ask_once(decisions, (id, session), question)
    }

    /// Divides the properties: returns those that receivers get unchanged, and when the message expires. The other
    /// properties are meant for the broker.
    pub(super) fn split_properties<'a>(
        &self,
        properties: Properties<'a>,
        forwarded: &'a mut PropertyBuffer,
    ) -> Result<(Properties<'a>, Time), Fault> {
        let mut expires = Time::NEVER;
        forwarded.clear();
        for (property, encoded) in properties.encoded() {
            match property {
                Property::MessageExpiryInterval(seconds) => {
                    expires = self.clock.now + Duration::from_seconds(u64::from(seconds));
                }
                Property::TopicAlias(_) => {}
                // [MQTT-3.3.4-6]
                Property::SubscriptionIdentifier(_) => {
                    return Err(Fault::protocol_error("a Subscription Identifier from a client"));
                }
                _ => forwarded.push_encoded(encoded),
            }
        }
        Ok((forwarded.properties(), expires))
    }

    /// Answers a message as its QoS requires [MQTT-3.3.4-1]. Before 5.0 an answer cannot carry a refusal, so a refused
    /// message gets the usual answer [MQTT-3.3.5-2]. `before` is where the outbox ended when the message came.
    #[inline]
    pub(super) fn conclude(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        delivery: Delivery,
        reason: ReasonCode,
        before: u64,
    ) -> Result<(), Fault> {
        let awaited = self.persistence.take_awaited();
        self.conclude_with(id, session, delivery, (reason, awaited), before)
    }

    /// Like [`Broker::conclude`], for an answer that waits for `awaited`.
    #[inline]
    pub(super) fn conclude_with(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        delivery: Delivery,
        (reason, awaited): (ReasonCode, Awaited),
        before: u64,
    ) -> Result<(), Fault> {
        let awaited = self.note_incoming((id, session), delivery, reason, awaited);
        let after = self.connections[id].outbox.end();
        self.answer_publish(id, delivery, reason, awaited)?;
        let outbox = &mut self.connections[id].outbox;
        if delivery.qos() == QoS::ExactlyOnce && before < after && after < outbox.end() {
            // The answer goes ahead of the client's own copy. Clients expect this order from brokers that forward a
            // message when it is released.
            outbox.bring_forward(after, before);
        }
        Ok(())
    }

    /// Answers a message that its client may not publish. `why` is the Reason String, if there is one.
    fn refuse_publish(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        delivery: Delivery,
        reason: ReasonCode,
        why: Option<String>,
    ) -> Result<(), Fault> {
        let awaited = self.persistence.take_awaited();
        let awaited = self.note_incoming((id, session), delivery, reason, awaited);
        let (kind, identifier) = match delivery {
            Delivery::AtMostOnce => return Ok(()),
            Delivery::AtLeastOnce(identifier) => (AcknowledgementKind::PubAck, identifier),
            Delivery::ExactlyOnce(identifier) => (AcknowledgementKind::PubRec, identifier),
        };
        self.acknowledge_in_full(id, awaited, kind, Acknowledgement::new(identifier, reason), why)
    }

    /// Records that a QoS 2 message was received, unless it is refused. Returns what the answer to the message waits
    /// for.
    #[inline]
    pub(super) fn note_incoming(
        &mut self,
        (id, session): (ConnectionId, SessionId),
        delivery: Delivery,
        reason: ReasonCode,
        mut awaited: Awaited,
    ) -> Awaited {
        if let Delivery::ExactlyOnce(identifier) = delivery {
            // A refused identifier is free at once [MQTT-4.3.3-9].
            if self.can_carry_a_reason(id, delivery) && reason.is_error() {
                self.clients.sessions[session].incoming.remove(identifier);
            } else {
                self.clients.sessions[session].incoming.insert(identifier);
                if self.persistence.is_persisted(session) {
                    self.record(session, Urgency::Urgent, |number| Record::Received(number, identifier));
                    awaited = self.persistence.recorded(session);
                }
            }
        }
        awaited
    }

    /// Whether the answer to a message can tell the publisher the outcome.
    fn can_carry_a_reason(&self, id: ConnectionId, delivery: Delivery) -> bool {
        delivery != Delivery::AtMostOnce && self.connections[id].version == ProtocolVersion::V5
    }

    /// Sends the acknowledgement of a message as soon as `awaited` is durable.
    #[inline]
    fn answer_publish(
        &mut self,
        id: ConnectionId,
        delivery: Delivery,
        reason_code: ReasonCode,
        awaited: Awaited,
    ) -> Result<(), Fault> {
        match delivery {
            Delivery::AtMostOnce => Ok(()),
            Delivery::AtLeastOnce(identifier) => {
                self.acknowledge_when(id, awaited, AcknowledgementKind::PubAck, identifier, reason_code)
            }
            Delivery::ExactlyOnce(identifier) => {
                self.acknowledge_when(id, awaited, AcknowledgementKind::PubRec, identifier, reason_code)
            }
        }
    }

    /// Handles PUBREL: the exchange ends, and its Packet Identifier is free again [MQTT-4.3.3-11]. An unknown
    /// identifier is answered as well, because an earlier PUBCOMP may have been lost.
    pub(super) fn handle_pubrel(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        identifier: PacketIdentifier,
    ) -> Result<(), Fault> {
        let is_known = self.clients.sessions[session].incoming.remove(identifier);
        if is_known {
            self.record(session, Urgency::Urgent, |number| Record::Released(number, identifier));
        }
        let awaited = self.persistence.recorded(session);
        let is_v5 = self.connections[id].version == ProtocolVersion::V5;
        let reason_code =
            if is_known || !is_v5 { ReasonCode::Success } else { ReasonCode::PacketIdentifierNotFound };
        self.acknowledge_when(id, awaited, AcknowledgementKind::PubComp, identifier, reason_code)
    }
}
