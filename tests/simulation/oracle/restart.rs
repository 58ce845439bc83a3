//! A crash, and the state that the broker continues with: the one when the last durable batch was closed, without
//! connections. Whatever was not durable was promised to no one, so it is lost until its client sends it again.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use brooklet::base::time::{Duration, Time};
use brooklet::core::message::Portable;
use brooklet::protocol::codec::QoS;

use super::Oracle;
use super::routing::is_match;
use super::state::{Copy, Flight, Owed, Publication, Reason, Replay, Session, Terms};
use super::stored::is_same;

/// A QoS 1 delivery that the store knows: its Packet Identifier, and the message.
pub type Begun = (u16, Portable);

type Retained = BTreeMap<String, Rc<Publication>>;

impl Oracle {
    /// The broker crashes, and another one starts at this moment with the durable state. The store has these retained
    /// messages, by topic and payload, and these QoS 1 deliveries, by client and with their Packet Identifiers.
    pub fn crash(
        &mut self,
        retained: &BTreeMap<String, Vec<u8>>,
        begun: &BTreeMap<String, Vec<Begun>>,
        now: Time,
    ) {
        self.now = now;
        self.lines.clear();
        let durable = self.durable.take().expect("there is a store");
        let last = durable.last.clone();
        self.sessions = last.sessions;
        self.groups = last.groups;
        self.shared = last.shared;
        self.history = last.history;
        self.promised.clear();
        self.open.clear();
        self.former_groups.clear();
        self.find_groups_by_name();
        self.adopt_retained(retained);
        self.lose_passing_sessions();
        self.durable = Some(durable.begin_anew(self.snapshot()));
        for (client, session) in &mut self.sessions {
            let begun = begun.get(client).map_or(&[][..], Vec::as_slice);
            session.lose_broker(client, now, (&self.retained, begun), &mut self.numbers);
        }
    }

    /// The store identifies groups by name. So messages of an ended group belong to a group of the same name that has
    /// begun since.
    fn find_groups_by_name(&mut self) {
        let Self { shared, groups, group_names, .. } = self;
        for shared in shared {
            let Some(group) = group_names.get(&shared.group).and_then(|name| groups.get(name)) else {
                continue;
            };
            if group.number == shared.group {
                continue;
            }
            shared.group = group.number;
            shared.is_optional = true;
            for (client, terms) in &group.members {
                shared.candidates.entry(client.clone()).or_default().push(terms.clone());
            }
        }
    }

    /// A retained message may be any of those since the topic was last persisted.
    fn adopt_retained(&mut self, retained: &BTreeMap<String, Vec<u8>>) {
        let unknown = retained.keys().find(|topic| !self.history.contains_key(*topic));
        assert!(unknown.is_none(), "the store has {unknown:?} retained");
        self.retained.clear();
        for (topic, history) in &mut self.history {
            let found = history.iter().rposition(|known| match (known, retained.get(topic)) {
                (Some(known), Some(payload)) => known.payload == *payload,
                (Some(known), None) => known.expires <= self.now,
                (None, payload) => payload.is_none(),
            });
            let Some(found) = found else {
                panic!("the store has {:?} retained for {topic}, not one of {history:?}", retained.get(topic))
            };
            let last = history[found].clone().filter(|publication| publication.expires > self.now);
            if let Some(publication) = &last {
                self.retained.insert(topic.clone(), publication.clone());
            }
            *history = vec![last];
        }
    }

    /// Sessions that none of their connections was to leave behind are gone, and their Wills with them.
    fn lose_passing_sessions(&mut self) {
        let passing: BTreeSet<String> = self
            .sessions
            .iter()
            .filter(|(_, session)| !session.is_persistent)
            .map(|(client, _)| client.clone())
            .collect();
        for shared in &mut self.shared {
            // The member that was chosen may be one of them.
            shared.is_optional |= shared.candidates.keys().any(|client| passing.contains(client));
        }
        for client in passing {
            self.session(&client).will = None;
            self.end_session(&client);
        }
    }
}

impl Session {
    /// The client has lost its broker, and the next broker finds the session.
    fn lose_broker(
        &mut self,
        client: &str,
        now: Time,
        (retained, begun): (&Retained, &[Begun]),
        numbers: &mut u64,
    ) {
        if self.connection.take().is_some() {
            let lifetime = Duration::from_seconds(u64::from(self.expiry));
            self.ends = if self.expiry == u32::MAX { Time::NEVER } else { now + lifetime };
            if let Some(will) = &mut self.will {
                will.due = (now + Duration::from_seconds(u64::from(will.delay))).min(self.ends);
            }
            let (version, maximum) = (self.version, self.maximum_packet_size);
            for copy in &mut self.pending {
                copy.may_be_repeat = true;
                copy.is_optional |= copy.length(version) > maximum;
            }
            for flight in self.in_flight.values_mut() {
                // It may have been given up as too large, and the next connection may accept larger ones.
                flight.copy.is_optional |= flight.copy.length(version) > maximum;
            }
        }
        self.last.clear();
        self.adrift.clear();
        self.handle_lost_flights(begun);
        self.begin_replays_anew(client, retained, numbers);
    }

    /// A delivery keeps its Packet Identifier [MQTT-4.4.0-1]; one of QoS 1 whose identifier was not persisted starts
    /// again.
    fn handle_lost_flights(&mut self, begun: &[Begun]) {
        let flights = std::mem::take(&mut self.in_flight);
        let is_known = |identifier: u16, copy: &Copy| {
            let mut known = begun.iter().filter(|(known, _)| *known == identifier);
            known.any(|(_, message)| is_same(message, &copy.publication))
        };
        for (identifier, mut flight) in flights {
            flight.line = None;
            if flight.copy.qos == QoS::ExactlyOnce || is_known(identifier, &flight.copy) {
                self.in_flight.insert(identifier, flight);
            } else {
                self.pending.push_back(Copy { may_be_repeat: true, is_repeat: true, ..flight.copy });
            }
        }
        for copy in std::mem::take(&mut self.pending) {
            match copy.sent_as {
                Some((identifier, order)) if is_known(identifier, &copy) => {
                    let flight = Flight { copy, line: None, released_at: None, order };
                    self.in_flight.insert(identifier, flight);
                }
                _ => self.pending.push_back(copy),
            }
        }
        self.pending.make_contiguous().sort_by_key(|copy| copy.publication.number);
    }

    /// A client that was owed retained messages gets all of them, perhaps a second time. The first delivery follows
    /// the terms that the subscription had then. For the second one, the subscription may have been made again in the
    /// meantime, without asking for retained messages, and a retained message may be older than the subscription. What
    /// is owed is owed once: if a message delivered on the former terms was persisted, that one comes.
    fn begin_replays_anew(
        &mut self,
        client: &str,
        retained: &BTreeMap<String, Rc<Publication>>,
        numbers: &mut u64,
    ) {
        let served: BTreeSet<(u64, String)> = self
            .handed_over
            .drain(..)
            .filter_map(|seen| match seen.reason {
                Reason::Replay(number) => Some((number, seen.copy.publication.topic.clone())),
                Reason::Optional => None,
            })
            .collect();
        let mut again = Vec::new();
        for replay in &mut self.replays {
            replay.may_be_repeat = true;
            replay.give_up_weak(self.version, self.maximum_packet_size);
            let mut second = replay.clone();
            replay.owed.values_mut().for_each(|owed| owed.is_due = false);
            *numbers += 1;
            second.number = *numbers;
            second.take_terms(self.subscriptions.get(&replay.filter));
            for (topic, owed) in &mut second.owed {
                let is_there = retained.get(topic).is_some_and(|publication| {
                    owed.acceptable.iter().any(|known| known.number == publication.number)
                        && !(second.terms.no_local && publication.publisher == client)
                });
                owed.is_due &= is_there && !served.contains(&(replay.number, topic.clone()));
            }
            for publication in retained.values().filter(|publication| is_match(&replay.filter, publication)) {
                let owed = second.owed.entry(publication.topic.clone());
                let owed = owed.or_insert_with(|| Owed { acceptable: Vec::new(), is_due: false });
                owed.acceptable.push(publication.clone());
            }
            again.push(second);
        }
        self.replays.extend(again);
    }
}

impl Replay {
    /// Continues with the present terms of the subscription, if there are any.
    fn take_terms(&mut self, terms: Option<&Terms>) {
        let Some(terms) = terms.filter(|terms| **terms != self.terms) else { return };
        self.former_terms.push(std::mem::replace(&mut self.terms, terms.clone()));
    }
}

#[cfg(test)]
mod tests {
    use brooklet::core::broker::Statistics;
    use brooklet::core::limits::Limits;
    use brooklet::core::slots::{ConnectionId, Slots};
    use brooklet::protocol::codec::{
        Acknowledgement, ConnAck, Delivery, Packet, PacketIdentifier, Properties, Property, PropertyBuffer,
        ProtocolVersion, Publish, ReasonCode, RetainHandling, Subscription,
    };
    use brooklet::protocol::topic::{TopicFilter, TopicName};

    use super::*;
    use crate::device::{Device, Greeting};
    use crate::oracle::state::Answer;

    const TOPIC: &str = "b/c";
    const PAYLOAD: &[u8] = b"retained";
    const FIRST: Delivery = Delivery::AtLeastOnce(PacketIdentifier::FIRST);

    fn is_processed(oracle: &mut Oracle, id: ConnectionId, packet: Vec<u8>) {
        let statistics = Statistics::default();
        oracle.sent(id, packet);
        oracle.begin_call(&statistics, &statistics, Time::ZERO);
        oracle.processed(id, 1);
        oracle.end_call();
    }

    fn is_written(oracle: &mut Oracle, id: ConnectionId, packet: &Packet<'_>) {
        oracle.written(id, &encoded(packet));
    }

    fn encoded(packet: &Packet<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        packet.encode(ProtocolVersion::V5, &mut bytes);
        bytes
    }

    fn connects(oracle: &mut Oracle, device: &mut Device, id: ConnectionId) {
        let greeting = Greeting {
            version: ProtocolVersion::V5,
            clean_start: false,
            keep_alive: 0,
            expiry: Some(60),
            receive_maximum: None,
            maximum_packet_size: None,
            alias_maximum: None,
            will: None,
        };
        oracle.opened(id, Time::ZERO);
        is_processed(oracle, id, device.connect(id, &greeting));
    }

    /// A subscription of QoS 1 was owed retained messages, and before any of them was seen, it was made again at QoS 0
    /// without asking for them; all of that was persisted, and then the broker crashed.
    fn crashed() -> (Oracle, ConnectionId) {
        let mut slots = Slots::default();
        let [first, second] = [(), ()].map(|()| slots.insert_with(|_| ()));
        let limits = Limits::default();
        let answer = [
            Property::ReceiveMaximum(limits.receive_maximum),
            Property::TopicAliasMaximum(limits.topic_alias_maximum),
        ];
        let mut oracle = Oracle::new(limits, false, false);
        oracle.begin_durability(true);
        let mut device = Device::new("d".to_owned(), 10);
        connects(&mut oracle, &mut device, first);
        is_processed(&mut oracle, first, encoded(&retained(false, FIRST)));
        let filter = TopicFilter::new(TOPIC).expect("good");
        let asking = Subscription::new(filter, QoS::AtLeastOnce);
        let mut anew = Subscription::new(filter, QoS::AtMostOnce);
        anew.retain_handling = RetainHandling::DoNotSend;
        is_processed(&mut oracle, first, device.subscribe(&[asking, anew], None));
        oracle.batch_is_closed(true);
        oracle.batch_is_durable();
        oracle.crash(&[(TOPIC.to_owned(), PAYLOAD.to_vec())].into(), &BTreeMap::new(), Time::ZERO);
        connects(&mut oracle, &mut device, second);
        oracle.batch_is_closed(true);
        oracle.batch_is_durable();
        let mut properties = PropertyBuffer::default();
        answer.into_iter().for_each(|property| properties.push(property));
        let properties = properties.properties();
        let connack = ConnAck { session_present: true, code: 0, properties };
        is_written(&mut oracle, second, &Packet::ConnAck(connack));
        (oracle, second)
    }

    const fn retained(dup: bool, delivery: Delivery) -> Packet<'static> {
        Packet::Publish(Publish {
            dup,
            retain: true,
            delivery,
            topic: Some(TopicName::trusted(TOPIC)),
            properties: Properties::trusted(&[]),
            payload: PAYLOAD,
        })
    }

    #[test]
    fn retained_messages_owed_after_a_crash_come_on_the_former_or_present_terms() {
        for (dup, delivery) in [(true, FIRST), (false, Delivery::AtMostOnce)] {
            let (mut oracle, id) = crashed();
            is_written(&mut oracle, id, &retained(dup, delivery));
            oracle.check_at_rest(id, false);
        }
    }

    #[test]
    #[should_panic(expected = "the retained message of b/c for d is missing")]
    fn retained_messages_owed_after_a_crash_come() {
        let (mut oracle, id) = crashed();
        oracle.check_at_rest(id, false);
    }

    #[test]
    fn a_pubrec_reports_the_outcome_of_a_message_even_after_a_crash() {
        for (reason_code, counts) in [(ReasonCode::Success, true), (ReasonCode::QuotaExceeded, false)] {
            let (mut oracle, id) = crashed();
            let identifier = PacketIdentifier::FIRST;
            let published = retained(false, Delivery::ExactlyOnce(identifier));
            is_processed(&mut oracle, id, encoded(&published));
            oracle.session("d").uncertain.insert(identifier.value());
            let debt = oracle.lines.get_mut(&id).and_then(|line| line.answers.back_mut());
            debt.expect("a PUBREC is owed").answer = Answer::PubRec(identifier.value(), vec![reason_code]);
            oracle.batch_is_closed(true);
            oracle.batch_is_durable();
            is_written(&mut oracle, id, &Packet::PubRec(Acknowledgement::new(identifier, reason_code)));
            let is_known = |session: &Session| {
                session.uncertain.is_empty() && session.incoming.contains(&identifier.value()) == counts
            };
            assert!(is_known(oracle.session("d")), "{reason_code:?}");
            oracle.crash(&[(TOPIC.to_owned(), PAYLOAD.to_vec())].into(), &BTreeMap::new(), Time::ZERO);
            assert!(is_known(oracle.session("d")), "{reason_code:?} after a crash");
        }
    }
}
