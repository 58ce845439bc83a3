//! Which retained messages a bridge still has to send to the other broker, so that both have the same: they are owed.
//!
//! - Most changes reach the other broker as messages in the queue of the bridge. A change that does not is remembered by
//!   its topic: one at QoS 0 while the bridge is away, one whose message is dropped because the queue is full or the
//!   message has expired, and any change for a bridge whose session ends with its connection. Clearing a topic is a
//!   change like any other.
//! - When the bridge forwards messages again, it is sent what is retained for these topics now, or an empty message with
//!   RETAIN, after everything in the queue. Each topic is forgotten in the batch in which its message is stored.
//! - If the other broker has no session, or there are too many topics, all retained messages are owed. Empty messages for
//!   known topics go first. After a crash, this also holds for a bridge whose session was not persisted.
//! - What was sent on a connection and lost with it is sent again at QoS 1 and 2. At QoS 0 it is lost, unless the
//!   connection was still being set up.

use log::warn;

use super::Broker;
use super::bridges::LocalSide;
use super::budget::Pressure;
use super::deliver::DeliveryOptions;
use super::turn::steps;
use crate::base::escape::Escaped;
use crate::base::time::Time;
use crate::core::journal::{MessageNumber, Owed, Record, Urgency};
use crate::core::message::{Message, Outbound, Publication, Publisher};
use crate::core::retained::{ALL, Changes, Stamp};
use crate::core::session::LostCopy;
use crate::core::slots::SessionId;
use crate::core::subscription::Held;
use crate::protocol::codec::{Properties, QoS};
use crate::protocol::topic::{TopicFilter, TopicName};

/// What one bridge is owed.
#[derive(Debug, Default)]
pub(super) struct OwedRetained {
    changes: Changes,
    /// Whether messages are forwarded on its connection. Before, the connection is being set up.
    is_set_up: bool,
    /// Whether all retained messages are on their way, as for new subscriptions.
    is_sending_all: bool,
    /// Whether its session is not persisted, so that a crash would lose the queue. As long as that is so, the store says
    /// that all retained messages are owed.
    is_exposed: bool,
    /// The last topic for which it was sent a message.
    last: Box<str>,
}

impl OwedRetained {
    /// The bytes that it takes.
    pub(super) const fn memory(&self) -> usize {
        self.changes.memory()
    }
}

impl Broker {
    /// The bridge with this Client Identifier forwards messages from now on, so it is sent the retained messages that it
    /// is owed.
    pub fn catch_up(&mut self, client_identifier: &str, now: Time) {
        let _entered = self.account.enter();
        self.advance(now);
        let (Some(place), Some(session)) =
            (self.place_of_bridge(client_identifier), self.clients.find(client_identifier))
        else {
            return;
        };
        let owed = &mut self.retention.owed[place];
        owed.is_set_up = true;
        owed.is_exposed = !self.persistence.is_persisted(session);
        if owed.is_exposed {
            let all = self.named_owed(place, ALL);
            self.record_owed(Record::Owed(all));
        }
        for topic in self.retention.owed[place].changes.sent() {
            self.forget_owed(place, &topic);
        }
        self.begin_to_catch_up(place, session);
        self.list(session);
    }

    /// The other broker of the bridge with this Client Identifier has a new session, so it is owed all retained
    /// messages.
    pub fn owe_all_retained(&mut self, client_identifier: &str, now: Time) {
        let _entered = self.account.enter();
        self.advance(now);
        if let Some(place) = self.place_of_bridge(client_identifier) {
            self.owe_all(place);
        }
    }

    /// How many topics the bridge with this Client Identifier is owed; `None` if all.
    pub fn owed_retained(&self, client_identifier: &str) -> Option<usize> {
        let place = self.place_of_bridge(client_identifier)?;
        self.retention.owed[place].changes.len()
    }

    fn place_of_bridge(&self, client_identifier: &str) -> Option<usize> {
        self.options.bridges().iter().position(|bridge| *bridge.client_identifier == *client_identifier)
    }

    fn place_of_session(&self, session: SessionId) -> Option<usize> {
        // Nearly always there are no bridges.
        if self.options.bridges().is_empty() {
            return None;
        }
        self.place_of_bridge(&self.clients.sessions[session].client_identifier)
    }

    /// Whether messages are forwarded on the connection of a bridge; `None` if the session is not that of a bridge.
    pub(super) fn is_bridge_set_up(&self, session: SessionId) -> Option<bool> {
        self.place_of_session(session).map(|place| self.retention.owed[place].is_set_up)
    }

    /// Takes over what the bridges that stay are owed, as far as they still forward it. `former` are the bridges before.
    pub(super) fn keep_changes(&mut self, former: &[LocalSide]) {
        let mut owed = std::mem::take(&mut self.retention.owed);
        self.retention.owed.resize_with(self.options.bridges().len(), OwedRetained::default);
        for (side, owed) in former.iter().zip(&mut owed) {
            match self.place_of_bridge(&side.client_identifier) {
                Some(place) => self.retention.owed[place] = std::mem::take(owed),
                None => self.record_owed(Record::NothingOwed(side.client_identifier.to_string())),
            }
        }
        for place in 0..self.options.bridges().len() {
            let side = &self.options.bridges()[place];
            let changes = &self.retention.owed[place].changes;
            for topic in changes.unwanted(|topic| side.forwards(TopicName::trusted(topic))) {
                self.forget_owed(place, &topic);
            }
        }
    }

    /// Notes that the retained message of a topic has changed. A bridge that gets no copy is owed it; one that gets a
    /// copy is not, unless the copy is dropped.
    #[inline]
    pub(super) fn note_change(&mut self, publication: &Publication<'_>) {
        if !self.options.bridges().is_empty() {
            self.note_change_for_bridges(publication);
        }
    }

    #[cold]
    fn note_change_for_bridges(&mut self, publication: &Publication<'_>) {
        let topic = publication.topic;
        let publisher = publication.publisher.and_then(Publisher::read);
        for place in 0..self.options.bridges().len() {
            let side = &self.options.bridges()[place];
            self.turn.take(side.filters.len() * steps::CHECK);
            if !side.forwards(topic) {
                continue;
            }
            let is_own = publisher
                .as_ref()
                .is_some_and(|publisher| *publisher.client_identifier == *side.client_identifier);
            let session = self.clients.find(&side.client_identifier);
            let held = session.and_then(|session| Some((session, self.bridge_qos(place, session, topic)?)));
            let is_set_up = self.retention.owed[place].is_set_up;
            match held {
                _ if is_own => self.forget_owed(place, topic.as_str()),
                Some((session, granted))
                    if self.delivered_qos(session, granted, publication.qos) == QoS::AtMostOnce
                        && !self.options.switches.queues_at_most_once =>
                {
                    self.note_change_at_most_once(place, session, topic);
                }
                Some(_) => self.forget_owed(place, topic.as_str()),
                // The subscription was refused, or will be made on the next connection.
                None if is_set_up => {}
                None => self.owe(place, topic, false),
            }
        }
    }

    /// Notes a change that a bridge is sent at QoS 0, if at all.
    fn note_change_at_most_once(&mut self, place: usize, session: SessionId, topic: TopicName<'_>) {
        let state = &self.clients.sessions[session];
        let is_connected = state.connection().is_some();
        let has_drained = state.outgoing.as_ref().is_none_or(|outgoing| outgoing.has_drained());
        match self.retention.owed[place].is_set_up {
            // It is noted where it is dropped.
            _ if !is_connected => {}
            // It overtakes what is queued, and an older message of its topic may be among that.
            _ if !has_drained => self.owe_dropped(session, topic),
            false => self.owe(place, topic, true),
            true => self.forget_owed(place, topic.as_str()),
        }
    }

    /// The QoS at which a bridge is subscribed to a topic.
    fn bridge_qos(&self, place: usize, session: SessionId, topic: TopicName<'_>) -> Option<QoS> {
        let filters = self.options.bridges()[place].filters.iter();
        let matching = filters.filter(|filter| TopicFilter::trusted_pattern(filter).matches(topic));
        let subscriptions = &self.clients.sessions[session].subscriptions;
        let granted = matching.filter_map(|filter| {
            let filter = self.routing.trie.find(filter)?;
            let position = subscriptions.position(Held::Filter(filter))?;
            Some(self.routing.trie.values(filter).get(position as usize)?.terms.qos())
        });
        granted.max()
    }

    /// A copy with RETAIN was dropped that had the latest change of its topic.
    #[cold]
    pub(super) fn owe_dropped(&mut self, session: SessionId, topic: TopicName<'_>) {
        let Some(place) = self.place_of_session(session) else { return };
        if !self.options.bridges()[place].forwards(topic) {
            return;
        }
        self.owe(place, topic, false);
        if self.retention.owed[place].is_set_up {
            self.begin_to_catch_up(place, session);
        }
    }

    /// Copies were dropped from the queue of a session. If it is that of a bridge, it is owed what is retained for their
    /// topics, unless a later copy in the queue has that.
    #[cold]
    pub(super) fn owe_lost(&mut self, session: SessionId, lost: Vec<LostCopy>) {
        if lost.is_empty() || self.place_of_session(session).is_none() {
            return;
        }
        for copy in lost {
            self.turn.take(steps::CHECK);
            match copy {
                LostCopy::Stored(topic) => self.owe_dropped(session, TopicName::trusted(&topic)),
                LostCopy::Queued(message) => {
                    let topic = message.publication().topic;
                    let retained = self.retained_now(topic);
                    if retained.is_none_or(|retained| retained.payload() == message.payload()) {
                        self.owe_dropped(session, topic);
                    }
                }
            }
        }
    }

    /// A message could not be delivered to a session that is gone. Bridges without a session are owed it.
    #[cold]
    pub(super) fn owe_without_session(&mut self, topic: TopicName<'_>) {
        for place in 0..self.options.bridges().len() {
            let side = &self.options.bridges()[place];
            if side.forwards(topic) && self.clients.find(&side.client_identifier).is_none() {
                self.owe(place, topic, false);
            }
        }
    }

    /// A session ends with all its messages.
    pub(super) fn owe_lost_at_end(&mut self, session: SessionId) {
        let Some(place) = self.place_of_session(session) else { return };
        self.bridge_is_away(session);
        let outgoing = self.clients.sessions[session].outgoing.as_ref();
        let lost = outgoing.map(|outgoing| outgoing.lost_at_end()).unwrap_or_default();
        self.owe_lost(session, lost);
        let owed = &mut self.retention.owed[place];
        owed.is_sending_all = false;
        if std::mem::take(&mut owed.is_exposed) && !owed.changes.has_all() {
            let all = self.named_owed(place, ALL);
            self.record_owed(Record::Sent(all));
        }
    }

    /// A bridge has lost its connection.
    pub(super) fn bridge_is_away(&mut self, session: SessionId) {
        let Some(place) = self.place_of_session(session) else { return };
        let owed = &mut self.retention.owed[place];
        owed.is_set_up = false;
        owed.changes.were_lost();
        if let Some(outgoing) = &mut self.clients.sessions[session].outgoing {
            outgoing.retained_sends.catch_up(false);
        }
    }

    /// Notes the topic of a copy with RETAIN that waits in the store for a bridge.
    #[cold]
    pub(super) fn note_stored_copy(
        &mut self,
        session: SessionId,
        number: MessageNumber,
        topic: TopicName<'_>,
    ) {
        if self.place_of_session(session).is_some()
            && let Some(outgoing) = &mut self.clients.sessions[session].outgoing
            && let Some(backlog) = &mut outgoing.backlog
        {
            backlog.note_retained(number, topic.as_str());
        }
    }

    /// The message that is retained for a topic now.
    fn retained_now(&self, topic: TopicName<'_>) -> Option<&Message> {
        self.retention.retained.find(topic).filter(|message| message.expires() > self.clock.now)
    }

    /// A bridge is owed what is retained for a topic. `is_sent` says whether it was sent on a connection that is still
    /// being set up.
    fn owe(&mut self, place: usize, topic: TopicName<'_>, is_sent: bool) {
        let owed = &self.retention.owed[place];
        if owed.changes.has_all() && !owed.is_sending_all && self.retained_now(topic).is_some() {
            return;
        }
        if self.is_too_much(place, topic.as_str()) {
            self.overflow(place);
            return;
        }
        self.add_owed(place, topic.as_str(), is_sent);
    }

    /// Whether there is no room for one more topic.
    fn is_too_much(&self, place: usize, topic: &str) -> bool {
        let changes = &self.retention.owed[place].changes;
        let most = self.options.bridges()[place].changes_maximum;
        let is_full = changes.is_full(topic, most) || self.pressure(topic.len()) >= Pressure::Keep;
        is_full && topic != ALL && !changes.contains(topic)
    }

    /// The retained messages of too many topics have changed: all are sent.
    #[cold]
    fn overflow(&mut self, place: usize) {
        let side = &self.options.bridges()[place];
        let owed = &mut self.retention.owed[place];
        if !owed.changes.has_all() {
            let client = Escaped(&side.client_identifier);
            warn!(
                "Warning: too many retained messages have changed that client {client} has not been sent: it is sent all of them once more. The limit is {} (bridge_max_retained_changes).",
                side.changes_maximum
            );
        }
        let client_identifier = side.client_identifier.to_string();
        owed.changes.clear();
        self.record_owed(Record::NothingOwed(client_identifier));
        self.owe_all(place);
    }

    fn owe_all(&mut self, place: usize) {
        self.retention.owed[place].is_sending_all = false;
        self.add_owed(place, ALL, false);
    }

    fn add_owed(&mut self, place: usize, topic: &str, is_sent: bool) {
        if self.retention.owed[place].changes.insert(topic, is_sent) {
            let owed = self.named_owed(place, topic);
            self.record_owed(Record::Owed(owed));
        }
    }

    fn forget_owed(&mut self, place: usize, topic: &str) {
        let owed = &mut self.retention.owed[place];
        if owed.changes.remove(topic) && !(topic == ALL && owed.is_exposed) {
            let owed = self.named_owed(place, topic);
            self.record_owed(Record::Sent(owed));
        }
    }

    fn named_owed(&self, place: usize, topic: &str) -> Owed {
        let client_identifier = self.options.bridges()[place].client_identifier.to_string();
        Owed { client_identifier, topic: topic.to_owned() }
    }

    fn record_owed(&mut self, record: Record) {
        if let Some(journal) = &mut self.persistence.journal {
            journal.record(record, Urgency::Lazy, self.clock.now);
        }
    }

    /// Restores what a bridge is owed.
    pub(super) fn restore_owed(&mut self, owed: Owed) {
        match self.place_of_bridge(&owed.client_identifier) {
            Some(place) if self.is_too_much(place, &owed.topic) => self.overflow(place),
            Some(place) => drop(self.retention.owed[place].changes.insert(&owed.topic, false)),
            None => self.record_owed(Record::NothingOwed(owed.client_identifier)),
        }
    }

    /// Begins to send a bridge what it is owed, from the first topic on.
    fn begin_to_catch_up(&mut self, place: usize, session: SessionId) {
        let owed = &mut self.retention.owed[place];
        if !owed.changes.is_empty() {
            owed.last = ALL.into();
            let outgoing = self.clients.sessions[session].outgoing_mut();
            if owed.changes.has_all() && !owed.is_sending_all {
                // What subscriptions are owed is among all of them.
                while outgoing.retained_sends.take_any().is_some() {}
            }
            outgoing.retained_sends.catch_up(true);
        }
    }

    /// Sends a bridge more of what it is owed, as far as the outbox, the window and the share in progress allow. To be
    /// called when no retained messages are left to send for subscriptions. Returns whether there are now.
    pub(super) fn catch_up_more(&mut self, session: SessionId) -> bool {
        let Some(place) = self.place_of_session(session) else { return false };
        let outgoing = self.clients.sessions[session].outgoing.as_ref();
        if !outgoing.is_some_and(|outgoing| outgoing.retained_sends.catches_up()) {
            return false;
        }
        if std::mem::take(&mut self.retention.owed[place].is_sending_all) {
            self.forget_owed(place, ALL);
        }
        loop {
            if self.turn.is_over() {
                self.list(session);
                return false;
            }
            let owed = &self.retention.owed[place];
            let Some(topic) = owed.changes.after(&owed.last).map(Box::<str>::from) else { break };
            if !self.send_owed(session, place, TopicName::trusted(&topic)) {
                return false;
            }
            self.retention.owed[place].last = topic;
        }
        let owed = &mut self.retention.owed[place];
        owed.is_sending_all = owed.changes.has_all();
        owed.last = ALL.into();
        if owed.is_sending_all {
            self.begin_all_retained(session, self.retention.retained.latest());
            return true;
        }
        self.clients.sessions[session].outgoing_mut().retained_sends.catch_up(false);
        self.clients.sessions[session].shrink();
        false
    }

    /// Begins to send the retained messages for all subscriptions of a bridge, up to the latest one.
    fn begin_all_retained(&mut self, session: SessionId, latest: Stamp) {
        let held: Vec<_> = self.clients.sessions[session].subscriptions.iter().collect();
        for (held, position) in held {
            self.turn.take(steps::SUBSCRIPTION);
            if let Held::Filter(filter) = held
                && let Some(entry) = self.routing.trie.values(filter).get(position as usize)
            {
                let retained_sends = &mut self.clients.sessions[session].outgoing_mut().retained_sends;
                retained_sends.begin(filter, entry.terms, latest);
            }
        }
        self.clients.sessions[session].outgoing_mut().retained_sends.are_answered(0);
    }

    /// Sends a bridge what is retained for a topic, if it is subscribed to it. Returns false if it has to wait.
    fn send_owed(&mut self, session: SessionId, place: usize, topic: TopicName<'_>) -> bool {
        self.turn.take(self.options.bridges()[place].filters.len() * steps::CHECK + steps::PACKET);
        let Some(granted) = self.bridge_qos(place, session, topic) else { return true };
        let message = self.retained_now(topic).cloned();
        let is_sent_with_all = message.is_some() && self.retention.owed[place].changes.has_all();
        let most = self.may_be_owed(session, topic, message.as_ref()).filter(|_| !is_sent_with_all);
        let is_sent = match most {
            Some(most) => self.deliver_owed(session, topic, message.as_ref(), granted.min(most)),
            None => true,
        };
        if is_sent {
            self.forget_owed(place, topic.as_str());
        }
        is_sent
    }

    /// The highest QoS at which a bridge may be sent what is retained for a topic; `None` if it may not be sent that, or
    /// has brought it.
    fn may_be_owed(
        &mut self,
        session: SessionId,
        topic: TopicName<'_>,
        message: Option<&Message>,
    ) -> Option<QoS> {
        let publisher = message.and_then(|message| message.publication().publisher);
        let publisher = publisher.and_then(Publisher::read);
        let most = self.may_send_retained(session, topic, publisher)?;
        let client_identifier = &*self.clients.sessions[session].client_identifier;
        let is_own = publisher.is_some_and(|publisher| publisher.client_identifier == client_identifier);
        (!is_own).then_some(most)
    }

    /// Delivers what is retained for a topic, after everything that is queued. Returns false if it has to wait.
    fn deliver_owed(
        &mut self,
        session: SessionId,
        topic: TopicName<'_>,
        message: Option<&Message>,
        qos: QoS,
    ) -> bool {
        let has_drained = self.clients.sessions[session].outgoing_mut().has_drained();
        if !has_drained || !self.has_room_for_retained(session, qos) || self.must_wait_for_room(session, qos)
        {
            return false;
        }
        self.turn.take(steps::delivery(qos));
        let nothing = Publication {
            topic,
            payload: b"",
            qos,
            retain: true,
            publisher: None,
            properties: Properties::default(),
            expires: Time::NEVER,
        };
        let mut outbound = message.map_or_else(|| Outbound::new(nothing), Outbound::stored);
        let options = DeliveryOptions { qos, retain: true, identifiers: &[], group: None, number: None };
        self.begin_other_message();
        if qos == QoS::AtMostOnce {
            return self.deliver_at_most_once(session, &mut outbound, options) == Some(true);
        }
        self.begin(session, &mut outbound, options);
        true
    }
}
