//! Changes of sessions, subscriptions and retained messages that must be durable: each is recorded in the journal here.
//! Without a journal, these functions do nothing.

use std::collections::VecDeque;

use super::Broker;
use super::room::Former;
use super::turn::steps;
use crate::core::journal::{
    MessageNumber, Record, SessionNumber, StoredPresence, StoredSession, StoredSubscription, StoredWill,
    Urgency,
};
use crate::core::message::Message;
use crate::core::session::{Presence, Session};
use crate::core::slots::{ConnectionId, SessionId};
use crate::core::subscription::{Target, Terms};
use crate::protocol::codec::QoS;
use crate::protocol::topic::TopicName;

/// About how many bytes the stored row of a session takes.
pub(super) fn stored_bytes(session: &Session) -> usize {
    let will = session.will.as_ref().map_or(0, |will| will.message.memory());
    let user_name = session.user_name.as_deref().map_or(0, str::len);
    size_of::<Record>() + size_of::<StoredSession>() + session.client_identifier.len() + user_name + will
}

impl Broker {
    /// Whether persisted sessions may be among the recipients of a topic. Where very many filters match, this is
    /// assumed.
    pub(super) fn reaches_persisted(&mut self, topic: TopicName<'_>) -> bool {
        self.look_up(topic).map_or(true, |matched| {
            matched.subscribers().iter().any(|subscriber| match subscriber.target {
                Target::Session(receiver) => self.persistence.is_persisted(receiver),
                Target::Group(_) => true,
            })
        })
    }

    /// Notes that a session has changed.
    pub(super) fn persist_session(&mut self, session: SessionId, urgency: Urgency) {
        if let Some(journal) = &mut self.persistence.journal {
            journal.change(session, stored_bytes(&self.clients.sessions[session]), urgency, self.clock.now);
        }
    }

    /// Notes that a client was accepted. Its session is persisted if it is to outlive the connection. CONNACK is held
    /// back until that is durable, or the end of its former session is. Without room on disk, CONNACK leaves at once if
    /// nothing new has to be stored.
    pub(super) fn persist_connected(&mut self, id: ConnectionId, session: SessionId, former: Former) {
        let (now, outlives) = (self.clock.now, self.clients.sessions[session].expiry_interval > 0);
        let bytes = stored_bytes(&self.clients.sessions[session]);
        if self.persistence.has_log() {
            return;
        }
        let Some(journal) = &mut self.persistence.journal else { return };
        if outlives {
            journal.keep(session);
        }
        if outlives || former != Former::Nothing {
            journal.change(session, bytes, Urgency::Urgent, now);
            journal.hurry(Urgency::Urgent, now);
            journal.withhold(id, !outlives || former == Former::Same);
        } else {
            journal.withhold_for_end(id, &self.clients.sessions[session].client_identifier, now);
        }
    }

    /// Notes that a session has lost its connection and outlives it.
    pub(super) fn persist_away(&mut self, session: SessionId) {
        if !self.persistence.is_persisted(session) {
            return;
        }
        self.settle_gone(session);
        let is_bridge = self.is_bridge_set_up(session).is_some();
        if let Some(outgoing) = &mut self.clients.sessions[session].outgoing {
            self.turn.take(outgoing.queue_length() / steps::SORTED_OUT_PER_STEP);
            outgoing.put_away(is_bridge);
        }
        if self.options.is_listener_of_bridge(self.clients.sessions[session].listener) {
            self.clients.bridge_queues.look_again();
        }
        self.persist_session(session, Urgency::Lazy);
    }

    /// Records something about a session, if that is persisted.
    pub(super) fn record(
        &mut self,
        session: SessionId,
        urgency: Urgency,
        record: impl FnOnce(SessionNumber) -> Record,
    ) {
        let now = self.clock.now;
        let Some(journal) = &mut self.persistence.journal else { return };
        if let Some(number) = journal.number_of(session) {
            journal.record(record(number), urgency, now);
        }
    }

    /// Records that a session, which may be over, no longer needs these messages.
    pub(super) fn leave_messages(&mut self, number: SessionNumber, messages: VecDeque<MessageNumber>) {
        if let Some(journal) = &mut self.persistence.journal {
            journal.leave(number, messages, self.clock.now);
        }
    }

    /// Records a subscription that is new or has changed.
    pub(super) fn persist_subscription(
        &mut self,
        session: SessionId,
        filter: &str,
        terms: Terms,
        owes_retained: bool,
        urgency: Urgency,
    ) {
        self.record(session, urgency, |number| {
            let subscription = StoredSubscription {
                filter: filter.to_owned(),
                qos: terms.qos(),
                no_local: terms.no_local(),
                retain_as_published: terms.retain_as_published(),
                identifier: terms.identifier().unwrap_or(0),
                owes_retained,
            };
            Record::Subscribed(number, subscription)
        });
    }

    /// Notes that the retained message of a topic has changed.
    pub(super) fn persist_retained(&mut self, topic: TopicName<'_>, qos: QoS) {
        let now = self.clock.now;
        // What is retained comes from the log.
        let has_store = !self.persistence.has_log();
        if let Some(journal) = self.persistence.journal.as_mut().filter(|_| has_store) {
            let urgency = if qos == QoS::AtMostOnce { Urgency::Lazy } else { Urgency::Urgent };
            let bytes = self.retention.retained.find(topic).map_or(0, Message::memory);
            journal.retain(topic, bytes, urgency, now);
        }
    }

    /// Returns a session as it is stored; `None` if it is not persisted or is over.
    pub(super) fn stored_session(&self, id: SessionId) -> Option<Record> {
        let number = self.persistence.number_of(id)?;
        let session = self.clients.sessions.find(id)?;
        let sent_until = session.outgoing.as_ref().and_then(|outgoing| outgoing.last_sent());
        let presence = match session.presence {
            Presence::Connected(_) => StoredPresence::Connected,
            Presence::Over => return None,
            Presence::Away { ends } => StoredPresence::Away { ends, sent_until },
        };
        let will = session.will.as_ref().map(|will| StoredWill {
            message: will.message.portable(),
            delay: will.delay,
            due: will.due,
        });
        Some(Record::Session(Box::new(StoredSession {
            number,
            client_identifier: (*session.client_identifier).to_owned(),
            user_name: session.user_name.as_deref().map(str::to_owned),
            is_proved: session.is_proved,
            listener: session.listener,
            expiry_interval: session.expiry_interval,
            presence,
            will,
        })))
    }

    /// Returns the record of what is retained for a topic, or of its absence.
    pub(super) fn stored_retained(&self, topic: &str) -> Record {
        match self.retention.retained.find(TopicName::trusted(topic)) {
            Some(message) => Record::Retained(message.portable()),
            None => Record::Cleared(topic.to_owned()),
        }
    }
}
