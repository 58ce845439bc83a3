//! The local sides of bridges. To the core a bridge is a client in memory, at a listener of its own, whose session is
//! queued and persisted like any other. What differs: no other client may use its Client Identifier, its session does
//! not expire, and it is accepted when there are too many clients, which could keep it away otherwise.

use super::Broker;
use super::turn::steps;
use crate::base::time::Time;
use crate::core::journal::{Record, Urgency};
use crate::core::listener::ListenerId;
use crate::core::session::Session;
use crate::core::slots::SessionId;
use crate::core::subscription::Held;
use crate::protocol::codec::{PacketIdentifier, ReasonCode};
use crate::protocol::topic::{TopicFilter, TopicName};

/// The local side of a bridge of this broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalSide {
    /// Its Client Identifier, which no other client may use.
    pub client_identifier: Box<str>,
    /// The listener at which it connects.
    pub listener: ListenerId,
    /// The Topic Filters of the messages that it forwards with RETAIN, without Shared Subscriptions.
    pub filters: Vec<Box<str>>,
    /// The most topics of which it remembers that their retained message has changed.
    pub changes_maximum: usize,
}

impl LocalSide {
    /// Whether it forwards the retained messages of a topic.
    pub(super) fn forwards(&self, topic: TopicName<'_>) -> bool {
        self.filters.iter().any(|filter| TopicFilter::trusted_pattern(filter).matches(topic))
    }
}

/// A session that was dropped because its bridge no longer exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DroppedSession {
    /// Its Client Identifier.
    pub client_identifier: Box<str>,
    /// How many messages waited in it.
    pub messages: usize,
}

impl Broker {
    /// Sets which bridges this broker has from now on. A client that uses one of their Client Identifiers is
    /// disconnected and loses its session, since it would get what is meant for the bridge. A session whose listener is
    /// unknown is taken to be the bridge's own, as after an import. `listeners` are those of present and former
    /// bridges: their sessions that belong to no bridge any longer are dropped as well. Returns what was dropped. Takes
    /// a look at each session. To be called before a restore, too: what bridges are owed is restored only for them.
    pub fn set_bridges(
        &mut self,
        bridges: Vec<LocalSide>,
        listeners: &[ListenerId],
        now: Time,
    ) -> Vec<DroppedSession> {
        let _entered = self.account.enter();
        self.advance(now);
        self.clients.bridge_queues.set(&bridges);
        let former = std::mem::replace(&mut self.options.bridges, bridges);
        self.keep_changes(&former);
        let is_surplus = |session: &Session| {
            session.listener != ListenerId::UNKNOWN
                && self.options.is_bridge(&session.client_identifier) != listeners.contains(&session.listener)
        };
        let sessions = self.clients.sessions.iter();
        let surplus: Vec<SessionId> =
            sessions.filter(|(_, session)| is_surplus(session)).map(|(id, _)| id).collect();
        surplus.into_iter().filter_map(|id| self.drop_session(id)).collect()
    }

    fn drop_session(&mut self, id: SessionId) -> Option<DroppedSession> {
        let session = self.clients.sessions.find(id)?;
        let client_identifier = session.client_identifier.as_ref().into();
        let dropped = DroppedSession { client_identifier, messages: waiting_in(session) };
        if let Some(connection) = session.connection() {
            self.end(connection, ReasonCode::AdministrativeAction, "a bridge was added or removed");
        }
        if self.clients.sessions.find(id).is_some() {
            self.end_session(id);
        }
        Some(dropped)
    }

    /// Forgets which QoS 2 messages this client has sent and not released. To be called for a bridge whose other broker
    /// has begun a new session, since its Packet Identifiers then stand for other messages.
    pub fn forget_received(&mut self, client_identifier: &str) {
        let _entered = self.account.enter();
        let Some(session) = self.clients.find(client_identifier) else { return };
        let forgotten = self.clients.sessions[session].incoming.take_all();
        self.turn.take(forgotten.len() * steps::PACKET);
        for identifier in forgotten {
            self.record(session, Urgency::Urgent, |number| Record::Released(number, identifier));
        }
    }

    /// Returns so many Packet Identifiers that no delivery to this Client Identifier has, while it is not connected: it may
    /// use them for its own requests where it passes those of deliveries on.
    pub fn spare_identifiers(&self, client_identifier: &str, count: usize) -> Vec<PacketIdentifier> {
        let session = self.clients.find(client_identifier);
        let outgoing = session.and_then(|id| self.clients.sessions[id].outgoing.as_ref());
        match outgoing {
            Some(outgoing) => outgoing.spare_identifiers(count),
            None => (1..=u16::MAX).rev().filter_map(PacketIdentifier::new).take(count).collect(),
        }
    }

    /// How many messages wait in the session of this Client Identifier, or are in flight.
    pub fn waiting_messages(&self, client_identifier: &str) -> usize {
        self.clients.find(client_identifier).map_or(0, |id| waiting_in(&self.clients.sessions[id]))
    }

    /// Ends the subscriptions of this Client Identifier except those with these filters: the configuration of its bridge
    /// may have changed while the broker did not run. Messages that are queued stay.
    pub fn end_other_subscriptions(&mut self, client_identifier: &str, filters: &[String], now: Time) {
        let _entered = self.account.enter();
        self.advance(now);
        let Some(id) = self.clients.find(client_identifier) else { return };
        let held = self.clients.sessions[id].subscriptions.iter().map(|(held, _)| self.filter_of(held));
        let others: Vec<String> = held.flatten().filter(|filter| !filters.contains(filter)).collect();
        for filter in others {
            self.turn.take(steps::SUBSCRIPTION);
            if let Ok(filter) = TopicFilter::new(&filter) {
                self.unsubscribe(id, filter);
            }
        }
    }

    /// The Topic Filter of a subscription.
    fn filter_of(&self, held: Held) -> Option<String> {
        Some(match held {
            Held::Filter(filter) => self.routing.trie.pattern(filter),
            Held::Group(group) => {
                let group = self.routing.groups.find(group)?;
                format!("$share/{}/{}", group.share_name, self.routing.trie.pattern(group.filter))
            }
        })
    }
}

/// How many messages wait in a session or are in flight.
fn waiting_in(session: &Session) -> usize {
    session.outgoing.as_ref().map_or(0, |outgoing| outgoing.queue_length() + outgoing.in_flight().len())
}
