//! The broker's output, checked against what it owes and against the client's side of the standards.

use std::collections::BTreeSet;

use brooklet::base::time::Duration;
use brooklet::core::slots::ConnectionId;
use brooklet::protocol::codec::{
    Acknowledgement, Packet, PacketIdentifier, Property, ProtocolVersion, Publish, QoS, Status, decode, frame,
};

use super::Oracle;
use super::durable::Sent;
use super::routing::split;
use super::state::{Answer, Copy, Debt, Flight, Line, Progress, Publication, Source, Subject};

/// A PUBLISH as its receiver understands it.
pub(super) struct Received<'a> {
    dup: bool,
    pub(super) qos: QoS,
    retain: bool,
    pub(super) topic: String,
    payload: &'a [u8],
    properties: Vec<u8>,
    interval: Option<u32>,
    /// Sorted.
    identifiers: Vec<u32>,
}

impl Received<'_> {
    fn carries(&self, publication: &Publication, version: ProtocolVersion) -> bool {
        let is_v5 = version == ProtocolVersion::V5;
        self.topic == publication.topic
            && self.payload == publication.payload
            && (!is_v5 || self.properties == publication.properties)
            && (!is_v5 || self.interval.is_some() == publication.interval.is_some())
    }

    pub(super) fn is(&self, copy: &Copy, version: ProtocolVersion) -> bool {
        if copy.is_loose {
            let is_possible = self.qos <= copy.publication.qos && self.retain <= copy.publication.retain;
            return is_possible && self.carries(&copy.publication, version);
        }
        self.qos == copy.qos
            && self.retain == copy.retain
            && (version != ProtocolVersion::V5
                || self.identifiers == copy.identifiers
                || copy.unseen_identifiers.contains(&self.identifiers))
            && self.carries(&copy.publication, version)
    }
}

impl Oracle {
    /// Handles bytes that have left the core for this connection.
    pub fn written(&mut self, id: ConnectionId, bytes: &[u8]) {
        let line = self.lines.get_mut(&id).expect("only open connections are written");
        line.tap.extend_from_slice(bytes);
        let tap = std::mem::take(&mut line.tap);
        let mut rest = tap.as_slice();
        loop {
            let line = &self.lines[&id];
            match frame(rest, usize::MAX).expect("the broker sends whole packets") {
                Status::Incomplete { .. } => break,
                Status::Complete(frame) => {
                    let most = line.maximum_packet_size;
                    assert!(
                        frame.length <= most,
                        "{} bytes for {:?}, who takes {most}",
                        frame.length,
                        line.client
                    );
                    let packet = decode(&frame, line.version).expect("the broker sends good packets");
                    self.tell(id, "to", &packet);
                    self.check(id, &packet);
                    rest = rest.split_at(frame.length).1;
                }
            }
        }
        self.lines.get_mut(&id).expect("it is there").tap = rest.to_vec();
    }

    fn check(&mut self, id: ConnectionId, packet: &Packet<'_>) {
        let line = self.lines.get_mut(&id).expect("it is there");
        assert!(!line.is_finished, "{} after DISCONNECT", packet.name());
        let is_greeted = !line.answers.iter().any(|debt| matches!(debt.answer, Answer::ConnAck { .. }));
        assert!(is_greeted || matches!(packet, Packet::ConnAck(_)), "{} before CONNACK", packet.name());
        match packet {
            Packet::Publish(publish) => self.check_publish(id, publish),
            Packet::PubRel(pubrel) => self.check_pubrel(id, pubrel),
            Packet::Disconnect(disconnect) => {
                assert_eq!(line.progress, Progress::Ending(Some(disconnect.reason_code)), "DISCONNECT");
                line.is_finished = true;
            }
            _ => self.check_answer(id, packet),
        }
    }

    fn check_answer(&mut self, id: ConnectionId, packet: &Packet<'_>) {
        let limits = self.limits.clone();
        let has_store = self.durable.is_some();
        let line = self.lines.get_mut(&id).expect("it is there");
        let debt = line.take_debt(packet, has_store);
        let expected = debt.as_ref().map(|debt| debt.answer.clone());
        let is_right = match (packet, &expected) {
            (Packet::ConnAck(connack), Some(Answer::ConnAck { is_present, is_refused })) => {
                let is_v5 = line.version == ProtocolVersion::V5;
                if is_v5 && !is_refused {
                    assert_eq!(connack.properties.receive_maximum(), Some(limits.receive_maximum));
                    assert_eq!(connack.properties.topic_alias_maximum(), Some(limits.topic_alias_maximum));
                }
                let is_present = *is_present && line.version != ProtocolVersion::V31;
                (connack.code != 0) == *is_refused && connack.session_present == is_present
            }
            (Packet::PubAck(answer), Some(Answer::PubAck(identifier, reasons))) => {
                answer.packet_identifier.value() == *identifier && reasons.contains(&answer.reason_code)
            }
            (Packet::PubRec(answer), Some(Answer::PubRec(identifier, reasons))) => {
                answer.packet_identifier.value() == *identifier && reasons.contains(&answer.reason_code)
            }
            (Packet::PubComp(answer), Some(Answer::PubComp(identifier, reason))) => {
                answer.packet_identifier.value() == *identifier && answer.reason_code == *reason
            }
            (Packet::SubAck(suback), Some(Answer::SubAck(identifier, codes))) => {
                suback.packet_identifier.value() == *identifier && suback.codes == codes
            }
            (Packet::UnsubAck(unsuback), Some(Answer::UnsubAck(identifier, codes))) => {
                unsuback.packet_identifier.value() == *identifier && unsuback.codes == codes
            }
            (Packet::PingResp, Some(Answer::PingResp)) => true,
            _ => false,
        };
        let line = &self.lines[&id];
        assert!(is_right, "{:?} gets {packet:?}, not {expected:?} of {:?}", line.client, line.answers);
        if let (Packet::PubRec(answer), Some(debt)) = (packet, &debt) {
            self.end_uncertainty(id, answer, debt.batch);
        }
        if let Some(Subject::Publication(number)) = debt.as_ref().map(|debt| &debt.subject) {
            assert!(!self.is_open(*number), "{packet:?} before the message has reached all recipients");
        }
        debt.iter().for_each(|debt| self.check_promise(id, debt));
    }

    /// The client that this connection serves, if messages on it still belong to the client's session. A connection
    /// that is ending may carry messages that will be sent again on the next one.
    fn served(&self, id: ConnectionId) -> Option<String> {
        self.lines[&id].serves().map(ToOwned::to_owned)
    }

    fn repeats_on_live_lines(&self, id: ConnectionId) -> bool {
        self.lines[&id].version != ProtocolVersion::V5 && self.limits.retry_interval > Duration::ZERO
    }

    fn check_pubrel(&mut self, id: ConnectionId, pubrel: &Acknowledgement<'_>) {
        let identifier = pubrel.packet_identifier.value();
        let repeats = self.repeats_on_live_lines(id);
        let served = self.served(id);
        let has_store = self.durable.is_some();
        if let Some(client) = &served {
            self.check_released(client, identifier);
        }
        let line = self.lines.get_mut(&id).expect("it is there");
        let flight = served.and_then(|client| self.sessions.get_mut(&client)?.in_flight.get_mut(&identifier));
        if line.is_answered(&Answer::PubRel(identifier, pubrel.reason_code), has_store) {
            if let Some(flight) = flight {
                flight.line = Some(id);
            }
            return;
        }
        if line.progress != Progress::Serving {
            return;
        }
        let Some(flight) = flight else {
            assert!(repeats && line.settled.contains(&identifier), "PUBREL {identifier} out of the blue");
            return;
        };
        assert!(flight.released_at.is_some(), "PUBREL {identifier} before PUBREC");
        if flight.line != Some(id) {
            assert!(flight.order > line.resent, "PUBREL {identifier} is sent again out of order");
            line.resent = flight.order;
            flight.line = Some(id);
        } else {
            assert!(repeats, "PUBREL {identifier} twice on one connection");
        }
    }

    fn check_publish(&mut self, id: ConnectionId, publish: &Publish<'_>) {
        let received = self.understand(id, publish);
        let Some(client) = self.served(id) else { return };
        match publish.delivery.packet_identifier() {
            None => self.check_at_most_once(id, &client, &received),
            Some(identifier) => self.check_in_flight(id, &client, &received, identifier),
        }
    }

    fn understand<'a>(&mut self, id: ConnectionId, publish: &Publish<'a>) -> Received<'a> {
        let line = self.lines.get_mut(&id).expect("it is there");
        if let Some(alias) = publish.properties.topic_alias() {
            let most = line.alias_maximum;
            assert!(alias <= most, "Topic Alias {alias} for {:?}, who takes {most}", line.client);
            if let Some(topic) = publish.topic {
                line.outbound.insert(alias, topic.as_str().to_owned());
            }
        }
        let topic = match (publish.topic, publish.properties.topic_alias()) {
            (Some(topic), _) => topic.as_str().to_owned(),
            (None, alias) => {
                let alias = alias.expect("checked by the codec");
                line.outbound
                    .get(&alias)
                    .unwrap_or_else(|| panic!("Topic Alias {alias} is not bound"))
                    .clone()
            }
        };
        let (properties, interval) = split(publish.properties);
        let mut identifiers: Vec<u32> = publish
            .properties
            .iter()
            .filter_map(|property| match property {
                Property::SubscriptionIdentifier(identifier) => Some(identifier),
                _ => None,
            })
            .collect();
        identifiers.sort_unstable();
        Received {
            dup: publish.dup,
            qos: publish.delivery.qos(),
            retain: publish.retain,
            topic,
            payload: publish.payload,
            properties,
            interval,
            identifiers,
        }
    }

    fn check_at_most_once(&mut self, id: ConnectionId, client: &str, received: &Received<'_>) {
        let copy = self.claim(id, client, received);
        self.check_expiry(id, &copy, received, true);
        if copy.has_order() {
            let line = self.lines.get_mut(&id).expect("it is there");
            let key = (copy.publication.publisher.clone(), copy.publication.topic.clone());
            let last = line.last.insert(key, copy.publication.number).unwrap_or(0);
            assert!(last < copy.publication.number, "QoS 0 out of order for {client}: {copy:?}");
        }
    }

    fn check_in_flight(
        &mut self,
        id: ConnectionId,
        client: &str,
        received: &Received<'_>,
        identifier: PacketIdentifier,
    ) {
        let number = identifier.value();
        let version = self.lines[&id].version;
        let repeats = self.repeats_on_live_lines(id);
        let line = self.lines.get_mut(&id).expect("it is there");
        if repeats && received.dup && line.settled.contains(&number) {
            return;
        }
        let session = self.sessions.get_mut(client).expect("a connected client has a session");
        // One that was given up as too large for its client may have left its identifier to another.
        let is_given_up = |flight: &Flight| {
            flight.copy.is_optional && flight.line.is_none() && !received.is(&flight.copy, version)
        };
        if session.in_flight.get(&number).is_some_and(is_given_up) {
            session.in_flight.remove(&number);
        }
        if let Some(flight) = session.in_flight.get_mut(&number) {
            assert!(received.dup, "{identifier} is in flight to {client} and used again: {flight:?}");
            assert!(received.is(&flight.copy, version), "{identifier} has changed: {flight:?}");
            let empty_at = line.empty_at;
            let is_late = repeats && flight.released_at.is_some_and(|released| released >= empty_at);
            assert!(flight.released_at.is_none() || is_late, "{identifier} is sent again after its PUBREL");
            if flight.line == Some(id) {
                assert!(repeats, "{identifier} twice on one connection of {client}");
            } else {
                assert!(flight.order > line.resent, "{identifier} is sent again out of order to {client}");
                line.resent = flight.order;
                flight.line = Some(id);
            }
            if version == ProtocolVersion::V5 {
                flight.copy.show_identifiers(&received.identifiers);
            }
            let copy = flight.copy.clone();
            line.unsettled.insert(number);
            self.check_window(id);
            self.check_expiry(id, &copy, received, false);
            return;
        }
        let copy = self.claim(id, client, received);
        assert!(copy.may_be_repeat || !received.dup, "DUP on the first copy for {client}: {copy:?}");
        assert!(received.dup || !copy.is_repeat, "a repeat for {client} that does not say so: {copy:?}");
        self.check_expiry(id, &copy, received, !received.dup);
        // A copy that is sent again with the same Packet Identifier has its former place in the order.
        let place = self.sessions[client].places.get(&number);
        let own = place.filter(|(publication, _)| *publication == copy.publication.number).copied();
        let order = own.map_or_else(|| self.number(), |(_, order)| order);
        self.note_sent(client, &Sent { identifier: number, copy: &copy, order });
        let session = self.sessions.get_mut(client).expect("a connected client has a session");
        if copy.has_order() {
            let publication = &copy.publication;
            let key = (publication.publisher.clone(), publication.topic.clone(), copy.qos);
            let last = session.last.insert(key, publication.number).unwrap_or(0);
            assert!(last < publication.number, "out of order for {client}: {copy:?}");
        }
        session.in_flight.insert(number, Flight { copy, line: Some(id), released_at: None, order });
        let line = self.lines.get_mut(&id).expect("it is there");
        line.unsettled.insert(number);
        self.check_window(id);
    }

    fn check_window(&self, id: ConnectionId) {
        let line = &self.lines[&id];
        let (count, window) = (line.unsettled.len(), line.window);
        assert!(count <= window, "{count} in flight to {:?}, who takes {window}", line.client);
    }

    /// Checks that an expired copy is not sent for the first time [MQTT-3.3.2-5], and that the remaining interval is
    /// right.
    fn check_expiry(&self, id: ConnectionId, copy: &Copy, received: &Received<'_>, is_first: bool) {
        let publication = &copy.publication;
        let Some(interval) = publication.interval else { return };
        let empty_at = self.lines[&id].empty_at;
        if is_first && publication.published < empty_at {
            assert!(publication.expires > empty_at, "an expired message at {:?}: {copy:?}", self.now);
        }
        if let Some(told) = received.interval {
            let left = publication.expires.since(self.now).milliseconds().div_ceil(1000);
            assert!(told <= interval && u64::from(told) >= left, "{told} s left of {interval}, not {left}");
        }
    }

    /// Finds the expectation that this PUBLISH fulfils, and removes it.
    fn claim(&mut self, id: ConnectionId, client: &str, received: &Received<'_>) -> Copy {
        self.deliveries += 1;
        let version = self.lines[&id].version;
        let mut copy = self
            .claim_own(id, client, received, version, false)
            .or_else(|| {
                let copy = self.claim_own(id, client, received, version, true)?;
                self.note_optional(client, received, version);
                Some(copy)
            })
            .or_else(|| self.claim_replay(client, received, version))
            .or_else(|| self.claim_shared(client, received, version))
            .unwrap_or_else(|| {
                let like = self.shared.iter().filter(|shared| received.carries(&shared.publication, version));
                panic!(
                    "{client} gets what it is not owed: {} at {:?}, dup {}, retain {}, identifiers {:?}, payload {:?}; {:?}",
                    received.topic,
                    received.qos,
                    received.dup,
                    received.retain,
                    received.identifiers,
                    &received.payload[..received.payload.len().min(12)],
                    like.map(|shared| (shared.group, &shared.candidates, &shared.holder)).collect::<Vec<_>>(),
                )
            });
        if version == ProtocolVersion::V5 {
            copy.show_identifiers(&received.identifiers);
        }
        copy
    }

    fn claim_own(
        &mut self,
        id: ConnectionId,
        client: &str,
        received: &Received<'_>,
        version: ProtocolVersion,
        is_optional: bool,
    ) -> Option<Copy> {
        let list = if received.qos == QoS::AtMostOnce {
            &mut self.lines.get_mut(&id)?.at_most_once
        } else {
            &mut self.sessions.get_mut(client)?.pending
        };
        let index =
            list.iter().position(|copy| copy.is_optional == is_optional && received.is(copy, version))?;
        let copy = list.remove(index)?;
        Some(Copy { qos: received.qos, ..copy })
    }

    /// A member of a group receives a message that no other member has. If several entries look alike, one that
    /// another member holds can be the right one, if there is another for that member.
    fn claim_shared(
        &mut self,
        client: &str,
        received: &Received<'_>,
        version: ProtocolVersion,
    ) -> Option<Copy> {
        let fits: Vec<usize> = (0..self.shared.len())
            .filter(|&index| self.fit(index, client, received, version).is_some())
            .collect();
        let free = fits.iter().copied().find(|&index| self.shared[index].holder.is_none());
        let index =
            free.or_else(|| fits.iter().copied().find(|&index| self.make_free(index, client, received)))?;
        let copy = self.fit(index, client, received, version)?;
        self.shared[index].holder = Some((client.to_owned(), copy.qos));
        Some(copy)
    }

    /// Moves the holder of an entry to another one that looks the same to it.
    fn make_free(&mut self, index: usize, client: &str, received: &Received<'_>) -> bool {
        let Some((holder, qos)) = self.shared[index].holder.clone() else { return true };
        if holder == client {
            return false;
        }
        let as_held = Received {
            qos,
            retain: received.retain,
            topic: received.topic.clone(),
            properties: received.properties.clone(),
            identifiers: received.identifiers.clone(),
            ..*received
        };
        let other = (0..self.shared.len()).find(|&other| {
            self.shared[other].holder.is_none()
                && self.fit(other, &holder, &as_held, ProtocolVersion::V311).is_some()
        });
        let Some(other) = other else { return false };
        let (from, to) =
            (Source::Shared(self.shared[index].number), Source::Shared(self.shared[other].number));
        if let Some(session) = self.sessions.get_mut(&holder) {
            let flights = session.in_flight.values_mut().filter(|flight| flight.copy.source == from);
            flights.for_each(|flight| flight.copy.source = to);
        }
        let is_settled = std::mem::take(&mut self.shared[index].is_settled);
        self.shared[other].is_settled = is_settled;
        self.shared[other].holder = self.shared[index].holder.take();
        true
    }

    /// The copy that this client would get of an entry, if it looks like what was received.
    fn fit(
        &self,
        index: usize,
        client: &str,
        received: &Received<'_>,
        version: ProtocolVersion,
    ) -> Option<Copy> {
        let shared = &self.shared[index];
        let mut like = shared.candidates.get(client)?.iter().filter_map(|terms| {
            let copy = Copy {
                publication: shared.publication.clone(),
                qos: terms.qos.min(shared.publication.qos),
                retain: terms.as_published && shared.publication.retain,
                identifiers: terms.identifiers(),
                unseen_identifiers: BTreeSet::new(),
                is_optional: false,
                is_loose: false,
                may_be_repeat: true,
                is_repeat: false,
                sent_as: None,
                source: Source::Shared(shared.number),
            };
            received.is(&copy, version).then_some(copy)
        });
        let mut copy = like.next()?;
        like.for_each(|other| copy.or_like(other));
        Some(copy)
    }

    /// The client has answered a delivery for the last time.
    pub(super) fn settled(&mut self, copy: &Copy) {
        let Source::Shared(number) = copy.source else { return };
        if let Some(shared) = self.shared.iter_mut().find(|shared| shared.number == number) {
            shared.is_settled = true;
        }
    }
}

impl Answer {
    /// Whether this packet could be the answer, regardless of its contents.
    fn is_like(&self, packet: &Packet<'_>) -> bool {
        matches!(
            (self, packet),
            (Self::ConnAck { .. }, Packet::ConnAck(_))
                | (Self::PubAck(..), Packet::PubAck(_))
                | (Self::PubRec(..), Packet::PubRec(_))
                | (Self::PubRel(..), Packet::PubRel(_))
                | (Self::PubComp(..), Packet::PubComp(_))
                | (Self::SubAck(..), Packet::SubAck(_))
                | (Self::UnsubAck(..), Packet::UnsubAck(_))
                | (Self::PingResp, Packet::PingResp)
        )
    }

    /// Whether this packet has the Packet Identifier of this PUBACK or PUBREC.
    fn is_about_message_of(&self, packet: &Packet<'_>) -> bool {
        match (self, packet) {
            (Self::PubAck(identifier, _), Packet::PubAck(answer))
            | (Self::PubRec(identifier, _), Packet::PubRec(answer)) => {
                answer.packet_identifier.value() == *identifier
            }
            _ => false,
        }
    }
}

impl Line {
    /// Removes and returns the answer that this packet is. Where answers wait for a store, an answer may overtake
    /// those of other kinds, but never one of its own [MQTT-4.6.0-2] [MQTT-4.6.0-3].
    fn take_debt(&mut self, packet: &Packet<'_>, has_store: bool) -> Option<Debt> {
        // An answer that was skipped before will not come any longer.
        let is_left_out = |debt: &Debt| debt.is_optional && !debt.answer.is_about_message_of(packet);
        while let Some(index) = self.answers.iter().position(|debt| debt.answer.is_like(packet)) {
            if !is_left_out(&self.answers[index]) {
                return if index > 0 && !has_store { None } else { self.answers.remove(index) };
            }
            self.answers.remove(index);
        }
        None
    }

    /// Removes an answer, if it is the next one of its kind.
    fn is_answered(&mut self, answer: &Answer, has_store: bool) -> bool {
        let is_same_kind =
            |debt: &Debt| std::mem::discriminant(&debt.answer) == std::mem::discriminant(answer);
        let Some(index) = self.answers.iter().position(is_same_kind) else { return false };
        let is_next = (index == 0 || has_store) && self.answers[index].answer == *answer;
        if is_next {
            self.answers.remove(index);
        }
        is_next
    }
}
