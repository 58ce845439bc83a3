//! The recipients of a message.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use brooklet::base::time::{Duration, Time};
use brooklet::core::listener::ListenerId;
use brooklet::core::message;
use brooklet::protocol::codec::{Properties, Property, Publish, QoS, ReasonCode};
use brooklet::protocol::topic::TopicFilter;

use super::Oracle;
use super::state::{Copy, Publication, Session, Shared, Source, Terms};

pub(super) fn is_match(filter: &str, publication: &Publication) -> bool {
    TopicFilter::new(filter).expect("it was a good filter").matches(publication.name())
}

/// The memory that a message takes. The clients have no User Names, and there is one listener.
fn memory(publication: &Publication) -> usize {
    let publisher = message::Publisher {
        listener: ListenerId::default(),
        client_identifier: &publication.publisher,
        user_name: None,
    };
    let publisher = publication.retain.then(|| publisher.written());
    message::Message::memory_of(&message::Publication {
        topic: publication.name(),
        payload: &publication.payload,
        qos: publication.qos,
        retain: publication.retain,
        publisher: publisher.as_deref(),
        properties: Properties::trusted(&publication.properties),
        expires: publication.expires,
    })
}

/// The properties that are forwarded, and the Message Expiry Interval.
pub(super) fn split(properties: Properties<'_>) -> (Vec<u8>, Option<u32>) {
    let mut forwarded = Vec::new();
    for (property, encoded) in properties.encoded() {
        let is_ours = matches!(
            property,
            Property::MessageExpiryInterval(_)
                | Property::TopicAlias(_)
                | Property::WillDelayInterval(_)
                | Property::SubscriptionIdentifier(_)
        );
        if !is_ours {
            forwarded.extend_from_slice(encoded);
        }
    }
    (forwarded, properties.message_expiry_interval())
}

impl Oracle {
    pub(super) fn publication(&mut self, client: &str, topic: &str, publish: &Publish<'_>) -> Publication {
        let (properties, interval) = split(publish.properties);
        Publication {
            number: self.number(),
            publisher: client.to_owned(),
            topic: topic.to_owned(),
            payload: publish.payload.to_vec(),
            qos: publish.delivery.qos(),
            retain: publish.retain,
            properties,
            interval,
            expires: self.expiry(interval),
            published: self.now,
        }
    }

    pub(super) fn expiry(&self, interval: Option<u32>) -> Time {
        interval.map_or(Time::NEVER, |seconds| self.now + Duration::from_seconds(u64::from(seconds)))
    }

    /// Routes a message to all its recipients; returns the reasons that its publisher may be told. A refused message
    /// has no effect, if the publisher can be told so.
    pub(super) fn publish(
        &mut self,
        publication: Publication,
        is_uncertain: bool,
        can_carry_a_reason: bool,
    ) -> Vec<ReasonCode> {
        let publication = Rc::new(publication);
        let is_retained = publication.retain && self.retain(&publication);
        if publication.retain && !is_retained && can_carry_a_reason {
            return vec![ReasonCode::QuotaExceeded];
        }
        self.begin(&publication);
        let may_be_dropped = self.call.dropped > 0;
        let mut matched = 0;
        let clients: Vec<String> = self.sessions.keys().cloned().collect();
        for client in clients {
            if let Some(mut copy) = copy_for(&client, &self.sessions[&client], &publication) {
                matched += 1;
                copy.is_optional = is_uncertain || (may_be_dropped && self.can_be_full(&client, &copy));
                self.call.plausible += u64::from(copy.is_optional);
                self.expect(&client, copy);
            }
        }
        let groups: Vec<(String, String)> =
            self.groups.keys().filter(|(_, filter)| is_match(filter, &publication)).cloned().collect();
        for key in groups {
            matched += 1;
            self.expect_shared(&key, &publication, is_uncertain);
        }
        match matched {
            0 => vec![ReasonCode::NoMatchingSubscribers],
            _ if may_be_dropped && !is_retained => vec![ReasonCode::Success, ReasonCode::QuotaExceeded],
            _ => vec![ReasonCode::Success],
        }
    }

    fn expect(&mut self, client: &str, copy: Copy) {
        let session = self.sessions.get_mut(client).expect("it was just there");
        if copy.qos > QoS::AtMostOnce {
            session.pending.push_back(copy);
        } else if let Some(id) = session.connection {
            self.lines.get_mut(&id).expect("it is open").at_most_once.push_back(copy);
        } else {
            session.adrift.push_back(Copy { is_optional: true, ..copy });
        }
    }

    /// Whether the queue of this client, or for QoS 0 its outbox, may be at its limit: the copies known to be on their
    /// way, and not seen to leave, reach it.
    fn can_be_full(&self, client: &str, copy: &Copy) -> bool {
        if !self.is_tight {
            return false;
        }
        let session = &self.sessions[client];
        if copy.qos == QoS::AtMostOnce {
            return session.connection.is_some();
        }
        let elsewhere = self
            .shared
            .iter()
            .filter(|shared| shared.holder.is_none() && shared.candidates.contains_key(client))
            .map(|shared| &shared.publication);
        // A message delivered before a crash is queued like any other message.
        let replays = session.replays.iter().filter(|replay| replay.may_be_repeat);
        let owed = replays.flat_map(|replay| replay.owed.values()).flat_map(|owed| &owed.acceptable);
        let waiting: Vec<&Rc<Publication>> =
            session.pending.iter().map(|copy| &copy.publication).chain(elsewhere).chain(owed).collect();
        let bytes: usize = waiting.iter().map(|publication| memory(publication)).sum();
        let total = bytes + memory(&copy.publication);
        let is_burst = session.connection.is_some() && total <= self.limits.burst_bytes;
        (waiting.len() >= self.limits.queue_length && !is_burst)
            || (!waiting.is_empty() && total > self.limits.queue_bytes)
    }

    pub(super) fn expect_shared(
        &mut self,
        key: &(String, String),
        publication: &Rc<Publication>,
        is_uncertain: bool,
    ) {
        let number = self.number();
        let group = &self.groups[key];
        let candidates: BTreeMap<String, Vec<Terms>> =
            group.members.iter().map(|(client, terms)| (client.clone(), vec![terms.clone()])).collect();
        let is_weak = publication.qos == QoS::AtMostOnce
            || group.members.values().any(|terms| terms.qos == QoS::AtMostOnce);
        self.shared.push(Shared {
            number,
            publication: publication.clone(),
            group: group.number,
            candidates,
            holder: None,
            is_settled: false,
            is_optional: is_uncertain || is_weak || self.call.dropped > 0 || self.has_small_packets,
        });
        self.call.plausible += u64::from(self.is_tight);
    }

    /// Retains the message; returns false if there is no space.
    fn retain(&mut self, publication: &Rc<Publication>) -> bool {
        let is_cleared = publication.payload.is_empty();
        if is_cleared {
            if self.retained.remove(&publication.topic).is_some() {
                self.note_retained(&publication.topic, None);
            }
        } else {
            let others = self.retained.values().filter(|other| other.topic != publication.topic);
            let (count, bytes) =
                others.fold((0, 0), |(count, bytes), other| (count + 1, bytes + memory(other)));
            if count + 1 > self.limits.retained_count
                || bytes + memory(publication) > self.limits.retained_bytes
            {
                return false;
            }
            self.retained.insert(publication.topic.clone(), publication.clone());
            self.note_retained(&publication.topic, Some(publication.clone()));
        }
        self.change_replays(publication);
        true
    }
}

/// The single copy for all of a client's own subscriptions [MQTT-3.3.4-2] [MQTT-3.3.4-4].
fn copy_for(client: &str, session: &Session, publication: &Rc<Publication>) -> Option<Copy> {
    let is_own = client == publication.publisher;
    let wanted: Vec<&Terms> = session
        .subscriptions
        .iter()
        .filter(|(filter, terms)| is_match(filter, publication) && !(is_own && terms.no_local))
        .map(|(_, terms)| terms)
        .collect();
    let highest = wanted.iter().map(|terms| terms.qos).max()?;
    let mut identifiers: Vec<u32> = wanted.iter().filter_map(|terms| terms.identifier).collect();
    identifiers.sort_unstable();
    Some(Copy {
        publication: publication.clone(),
        qos: highest.min(publication.qos),
        retain: publication.retain && wanted.iter().any(|terms| terms.as_published),
        identifiers,
        unseen_identifiers: BTreeSet::new(),
        is_optional: false,
        is_loose: false,
        may_be_repeat: false,
        is_repeat: false,
        sent_as: None,
        source: Source::Own,
    })
}
