//! QoS 2 messages that mosquitto holds until their senders release them. It passes them on to subscribers only then.
//! Brooklet passes a message on when it arrives, so these are passed on by the import.

use std::collections::{BTreeMap, BTreeSet};

use super::tables::{Body, Incoming, Subscribed, Tables};
use crate::core::subscription::Identifiers;
use crate::core::trie::Trie;
use crate::protocol::codec::QoS;

/// The subscriptions of a database, for matching.
pub(super) struct Release<'t, 'a> {
    tables: &'t Tables<'a>,
    /// Values are indexes into [`Tables::subscriptions`].
    trie: Trie<usize>,
}

/// The copy of a message for one session.
pub(super) struct Share {
    pub(super) session: usize,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) identifiers: Identifiers,
}

impl<'t, 'a> Release<'t, 'a> {
    pub(super) fn new(tables: &'t Tables<'a>) -> Self {
        let mut trie = Trie::new();
        if !tables.incoming.is_empty() {
            for (place, subscription) in tables.subscriptions.iter().enumerate() {
                trie.insert(subscription.filter.pattern(), place);
            }
        }
        Self { tables, trie }
    }

    /// Returns the copies of a message from a session, for all sessions that receive it.
    pub(super) fn shares(&self, incoming: &Incoming, body: &Body<'_>) -> Vec<Share> {
        let mut filters = Vec::new();
        self.trie.matches(body.topic, &mut filters);
        let mut places: Vec<usize> =
            filters.iter().flat_map(|&filter| self.trie.values(filter)).copied().collect();
        places.sort_unstable();
        let mut groups = BTreeSet::new();
        let mut subscriptions: BTreeMap<usize, Vec<&Subscribed<'_>>> = BTreeMap::new();
        for place in places {
            let subscription = &self.tables.subscriptions[place];
            // One member of each Shared Subscription receives it [MQTT-4.8.2-4].
            let is_first = subscription.filter.share_name().is_none() || groups.insert(subscription.filter);
            // [MQTT-3.8.3-3]
            let is_own = subscription.no_local && subscription.session == incoming.session;
            // QoS 0 messages are not queued for clients that are not connected.
            if is_first && !is_own && subscription.qos > QoS::AtMostOnce {
                subscriptions.entry(subscription.session).or_default().push(subscription);
            }
        }
        subscriptions.into_iter().map(|(session, of_it)| share(session, &of_it, body)).collect()
    }
}

/// One copy for all matching subscriptions of a session, with the highest QoS [MQTT-3.3.4-2] and all identifiers
/// [MQTT-3.3.4-4].
fn share(session: usize, subscriptions: &[&Subscribed<'_>], body: &Body<'_>) -> Share {
    let qos = subscriptions.iter().map(|subscription| subscription.qos).max().unwrap_or(QoS::AtMostOnce);
    let retain =
        body.is_retained && subscriptions.iter().any(|subscription| subscription.retain_as_published);
    let identifiers: Vec<u32> = subscriptions
        .iter()
        .map(|subscription| subscription.identifier)
        .filter(|&identifier| identifier != 0)
        .collect();
    Share { session, qos: qos.min(body.qos), retain, identifiers: Identifiers::new(&identifiers) }
}
