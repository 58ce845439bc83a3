//! What the store must hold when everything is durable: what the devices were promised, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use brooklet::base::time::Time;
use brooklet::core::journal::{SessionNumber, StoredPresence, StoredSession, StoredSubscription};
use brooklet::core::message::Portable;

use super::Oracle;
use super::state::{Copy, Key, Publication, Session, Terms};
use crate::store::Store;

impl Oracle {
    /// Compares the store with what is owed, once everything is durable.
    pub fn check_store(&self, store: &Store) {
        let persistent = self.sessions.iter().filter(|(_, session)| session.is_persistent);
        let owed: BTreeSet<&str> = persistent.map(|(client, _)| client.as_str()).collect();
        let sessions = store.sessions.values();
        let stored: BTreeSet<&str> = sessions.map(|session| session.client_identifier.as_str()).collect();
        assert_eq!(stored, owed, "sessions in the store");
        assert_eq!(store.sessions.len(), owed.len(), "no client has two sessions");
        for (&number, stored) in &store.sessions {
            let client = &stored.client_identifier;
            let session = &self.sessions[client];
            check_session(stored, session);
            self.check_subscriptions(client, &subscriptions_of(store, number));
            check_identifiers(store, number, session);
            check_begun(store, number, session);
            self.check_messages(store, number, client);
        }
        for (message, unsettled) in &store.messages {
            let is_there = |session| store.sessions.contains_key(session) || store.former.contains(session);
            let lost = unsettled.open.iter().find(|open| !is_there(&open.session));
            assert!(lost.is_none(), "{message:?} is stored without a recipient: {lost:?}");
        }
        if self.has_room() {
            self.check_retained(&store.retained);
        }
    }

    fn check_subscriptions(&self, client: &str, stored: &BTreeMap<Key, &StoredSubscription>) {
        let own = self.sessions[client].subscriptions.iter();
        let own = own.map(|(filter, terms)| ((None, filter.clone()), terms.clone()));
        let groups = self.groups.iter().filter_map(|((share_name, filter), group)| {
            Some(((Some(share_name.clone()), filter.clone()), group.members.get(client)?.clone()))
        });
        let owed: BTreeMap<Key, Terms> = own.chain(groups).collect();
        let terms = |(key, stored): (&Key, &&StoredSubscription)| {
            let terms = Terms {
                qos: stored.qos,
                no_local: stored.no_local,
                as_published: stored.retain_as_published,
                identifier: Some(stored.identifier).filter(|&identifier| identifier > 0),
            };
            (key.clone(), terms)
        };
        let found: BTreeMap<Key, Terms> = stored.iter().map(terms).collect();
        assert_eq!(found, owed, "subscriptions of {client} in the store");
        for ((_, filter), subscription) in stored {
            let is_owed = self.sessions[client].replays.iter().any(|replay| replay.filter == *filter);
            assert!(is_owed || !subscription.owes_retained, "{client} has all that is retained for {filter}");
        }
    }

    fn check_messages(&self, store: &Store, number: SessionNumber, client: &str) {
        let session = &self.sessions[client];
        let flights = session.in_flight.values().filter(|flight| flight.released_at.is_none());
        let is_owed =
            |copy: &Copy| !copy.is_optional && copy.publication.expires > self.now && session.fits(copy);
        let mut copies: Vec<&Copy> =
            session.pending.iter().chain(flights.map(|flight| &flight.copy)).collect();
        let waits = |unsettled: &&crate::store::UnsettledMessage| {
            unsettled.open.iter().any(|open| open.session == number)
        };
        let mut stored: Vec<&Portable> =
            store.messages.values().filter(waits).map(|unsettled| &unsettled.message).collect();
        // Copies that may be missing come last: they may look like those that may not.
        copies.sort_by_key(|copy| !is_owed(copy));
        for copy in copies {
            let index = stored.iter().position(|message| is_same(message, &copy.publication));
            let is_there = index.map(|index| stored.remove(index)).is_some();
            assert!(is_there || !is_owed(copy), "the store has lost, for {client}, {copy:?}");
        }
        for message in stored {
            let replays = session.replays.iter().flat_map(|replay| replay.owed.values());
            let mut retained = replays.flat_map(|owed| &owed.acceptable);
            let mut shared =
                self.shared.iter().filter(|entry| !entry.is_settled && entry.candidates.contains_key(client));
            let is_of_somebody = retained.any(|publication| is_same(message, publication))
                || shared.any(|entry| is_same(message, &entry.publication));
            assert!(
                is_of_somebody,
                "the store has messages for {client} that are not owed: {:?}",
                message.publication()
            );
        }
    }

    fn check_retained(&self, stored: &BTreeMap<String, Portable>) {
        let is_fresh = |expires: Time| expires > self.now;
        let owed: BTreeMap<&str, &[u8]> = self
            .retained
            .iter()
            .filter(|(_, publication)| is_fresh(publication.expires))
            .map(|(topic, publication)| (topic.as_str(), publication.payload.as_slice()))
            .collect();
        let found: BTreeMap<&str, &[u8]> = stored
            .iter()
            .map(|(topic, message)| (topic.as_str(), message.publication()))
            .filter(|(_, publication)| is_fresh(publication.expires))
            .map(|(topic, publication)| (topic, publication.payload))
            .collect();
        assert_eq!(found, owed, "retained messages in the store");
    }
}

pub(super) fn is_same(message: &Portable, publication: &Publication) -> bool {
    let stored = message.publication();
    // It cannot be observed which of several empty ones has been dropped, and those that were sent look alike.
    let has_same_qos = stored.qos == publication.qos || publication.payload.is_empty();
    stored.topic.as_str() == publication.topic
        && stored.payload == publication.payload
        && has_same_qos
        && stored.properties.bytes() == publication.properties
        && stored.expires == publication.expires
}

fn subscriptions_of(store: &Store, number: SessionNumber) -> BTreeMap<Key, &StoredSubscription> {
    let own = store.subscriptions.iter().filter(|((owner, _), _)| *owner == number);
    own.map(|((_, text), subscription)| (key_of(text), subscription)).collect()
}

fn key_of(text: &str) -> Key {
    match text.strip_prefix("$share/").and_then(|rest| rest.split_once('/')) {
        Some((share_name, filter)) => (Some(share_name.to_owned()), filter.to_owned()),
        None => (None, text.to_owned()),
    }
}

fn check_session(stored: &StoredSession, session: &Session) {
    let client = &stored.client_identifier;
    assert_eq!(stored.expiry_interval, session.expiry, "Session Expiry Interval of {client}");
    match stored.presence {
        StoredPresence::Connected => assert!(session.connection.is_some(), "{client} is away"),
        StoredPresence::Away { ends, .. } => {
            assert!(session.connection.is_none(), "{client} is connected");
            assert_eq!(ends, session.ends, "the session of {client} ends");
        }
    }
    let found = stored.will.as_ref().map(|will| {
        let publication = will.message.publication();
        let (topic, payload) = (publication.topic.as_str().to_owned(), publication.payload.to_vec());
        (topic, payload, will.delay.seconds(), will.due)
    });
    let owed = session.will.as_ref().map(|will| {
        let Publication { topic, payload, .. } = &will.publication;
        (topic.clone(), payload.clone(), u64::from(will.delay), will.due)
    });
    assert_eq!(found, owed, "the Will of {client}");
}

/// Checks the Packet Identifiers of QoS 1 deliveries.
fn check_begun(store: &Store, number: SessionNumber, session: &Session) {
    for (identifier, flight) in &session.in_flight {
        if flight.copy.qos != brooklet::protocol::codec::QoS::AtLeastOnce
            || flight.copy.is_optional
            || !session.fits(&flight.copy)
        {
            continue;
        }
        let same =
            store.messages.values().filter(|unsettled| is_same(&unsettled.message, &flight.copy.publication));
        let of_session = same.flat_map(|unsettled| &unsettled.open).filter(|open| open.session == number);
        let stored: Vec<Option<u16>> =
            of_session.map(|open| open.identifier.map(|identifier| identifier.value())).collect();
        let is_there = stored.is_empty() || stored.contains(&Some(*identifier));
        assert!(is_there, "the store has {stored:?} and not {identifier} of {flight:?}");
    }
}

/// Checks the Packet Identifiers of both directions.
fn check_identifiers(store: &Store, number: SessionNumber, session: &Session) {
    let received = store.received.iter().filter(|(owner, _)| *owner == number);
    let received = received.map(|(_, identifier)| identifier.value());
    let received: BTreeSet<u16> = received.filter(|known| !session.uncertain.contains(known)).collect();
    let owed = session.incoming.iter().copied().filter(|known| !session.uncertain.contains(known));
    assert_eq!(received, owed.collect(), "identifiers of messages received");
    let deliveries = store.deliveries.iter().filter(|((owner, _), _)| *owner == number);
    let deliveries: BTreeMap<u16, bool> =
        deliveries.map(|((_, identifier), delivery)| (identifier.value(), delivery.is_released)).collect();
    for (identifier, flight) in &session.in_flight {
        let is_released = flight.released_at.is_some();
        let is_exact = flight.copy.qos == brooklet::protocol::codec::QoS::ExactlyOnce;
        if !is_released && (flight.copy.is_optional || !session.fits(&flight.copy)) {
            // It may have become too large for its client, and so be done [MQTT-3.1.2-25].
            continue;
        }
        let found = deliveries.get(identifier).copied();
        assert!(!is_exact || found == Some(is_released), "{identifier} is {found:?} and not {flight:?}");
    }
    let known = |identifier: &u16| session.in_flight.contains_key(identifier);
    let old = deliveries.iter().find(|(identifier, is_released)| **is_released && !known(identifier));
    assert!(old.is_none(), "a delivery that is over is still in the store: {old:?}");
}
