//! The restart of a broker from what an earlier run has stored.

use std::collections::BTreeSet;

use log::warn;

use super::Broker;
use super::copies::queued;
use crate::base::escape::Escaped;
use crate::base::memory::Counted;
use crate::base::time::Time;
use crate::core::journal::{
    MessageNumber, Recipient, Restored, SessionNumber, StoredCopy, StoredDelivery, StoredPresence,
    StoredSession, StoredSubscription, Urgency,
};
use crate::core::message::{Message, Portable};
use crate::core::retained::Stamp;
use crate::core::session::{Incoming, Outgoing, Presence, Session, Stage, Subscriptions, Will, end_after};
use crate::core::slots::SessionId;
use crate::core::subscription::{GroupId, Terms};
use crate::protocol::codec::{PacketIdentifier, QoS, ReasonCode};
use crate::protocol::topic::{TopicFilter, TopicName};

impl Broker {
    /// Restores one item of an earlier run. To be called after [`Broker::begin_journal`], in the order that
    /// [`Restored`] gives, before the first connection.
    pub fn restore(&mut self, restored: Restored, now: Time) {
        let _entered = self.account.enter();
        self.advance(now);
        match restored {
            Restored::Session(stored) => self.restore_session(&stored),
            Restored::Subscription(number, stored) => self.restore_subscription(number, &stored),
            Restored::Received(number, identifier) => {
                if let Some(session) = self.restored_session(number) {
                    self.clients.sessions[session].incoming.insert(identifier);
                }
            }
            Restored::Delivery(number, delivery, copy) => {
                self.restore_delivery(number, delivery, copy.as_deref());
            }
            Restored::Waiting {
                message,
                length,
                expires,
                lowest_qos,
                sessions,
                in_flight,
                group,
                retained,
            } => {
                let group = group.and_then(|text| self.group_named(&text));
                let bytes = Message::memory_of_length(length);
                self.restore_needed(message, sessions.iter().chain(&in_flight));
                self.restore_waiting((message, group), (bytes, expires, lowest_qos), &sessions);
                retained.into_iter().for_each(|topic| self.restore_topic(message, &topic, &sessions));
            }
            Restored::Begun { message, content, recipients } => {
                let content = content.message(&mut self.output.sender.spares);
                recipients.into_iter().for_each(|recipient| self.restore_begun(message, &content, recipient));
            }
            Restored::Arrived(message, age) => {
                self.clients.bridge_queues.restore(message, age, self.clock.now)
            }
            Restored::Former(number) => self.restore_former(number),
            Restored::Retained(message) => self.restore_retained(&message),
            Restored::Owed(owed) => self.restore_owed(owed),
        }
    }

    /// Ends a restore: the timers of sessions and Wills are set. Clients that were connected have lost their
    /// connections.
    pub fn finish_restore(&mut self, now: Time) {
        let _entered = self.account.enter();
        self.advance(now);
        let sessions: Vec<SessionId> = self.clients.sessions.iter().map(|(id, _)| id).collect();
        for session in sessions {
            if self.clients.sessions.find(session).is_none() {
                continue;
            }
            if let Some(outgoing) = &mut self.clients.sessions[session].outgoing {
                outgoing.place_restored();
            }
            self.clients.sessions[session].count();
            self.clients.sessions[session].shrink();
            self.wait_for_return(session);
        }
        self.finish_restore_legacies();
        self.sweep_later();
    }

    /// Returns the Shared Subscription with this filter, if it has members.
    fn group_named(&self, filter: &str) -> Option<GroupId> {
        let filter = TopicFilter::new(filter).ok()?;
        self.routing.find_group(filter.share_name()?, filter.pattern())
    }

    /// The session with this number in the store.
    fn restored_session(&self, number: SessionNumber) -> Option<SessionId> {
        self.persistence.journal.as_ref()?.session_of(number)
    }

    fn restore_session(&mut self, stored: &StoredSession) {
        let first = self.clients.draw_packet_identifier();
        if self.clients.find(&stored.client_identifier).is_some() {
            return;
        }
        let presence = self.restored_presence(stored);
        let will = self.restored_will(stored);
        let outgoing = self.restored_outgoing(stored, first);
        let Some(journal) = &mut self.persistence.journal else { return };
        let id = self.clients.sessions.insert_with(|_| Session {
            client_identifier: stored.client_identifier.as_str().into(),
            user_name: stored.user_name.as_deref().map(Into::into),
            is_proved: stored.is_proved,
            listener: stored.listener,
            reading: self.permission.first_reading(),
            presence,
            expiry_interval: stored.expiry_interval,
            subscriptions: Subscriptions::default(),
            outgoing: Some(outgoing),
            next_identifier: Some(first),
            window: 0,
            incoming: Incoming::default(),
            will,
            counted: Counted::default(),
            timer: None,
        });
        self.clients.directory.insert(&stored.client_identifier, id);
        journal.adopt(id, stored.number);
        if stored.presence == StoredPresence::Connected {
            // Or each crash would begin the Session Expiry Interval again.
            self.persist_session(id, Urgency::Lazy);
        }
    }

    /// The presence of a restored session. If its client was connected until the end of the earlier run, its Session
    /// Expiry Interval begins now.
    fn restored_presence(&self, stored: &StoredSession) -> Presence {
        let ends = match stored.presence {
            StoredPresence::Connected => end_after(stored.expiry_interval, self.clock.now),
            StoredPresence::Away { ends, .. } => ends,
        };
        Presence::Away { ends }
    }

    /// The deliveries of a restored session, which begin with this Packet Identifier.
    fn restored_outgoing(&self, stored: &StoredSession, first: PacketIdentifier) -> Box<Outgoing> {
        let (is_connected, sent_until) = match stored.presence {
            StoredPresence::Connected => (true, Some(MessageNumber::LAST)),
            StoredPresence::Away { sent_until, .. } => (false, sent_until),
        };
        // A client that was connected may have been sent messages with Packet Identifiers that were not persisted: they
        // go with the next batch, and nothing waits for that. Such messages, if they are not lost, are sent again with
        // other identifiers. So after the identifiers that are known to be in flight, as many as may have been in use
        // are skipped until the client has answered those in flight. If none is known, the first identifier is random,
        // so that an identifier in use is hit at most by chance.
        let left_out = if is_connected { self.options.limits.in_flight } else { 0 };
        let mut outgoing = Box::new(Outgoing::default());
        outgoing.begin_at(first);
        outgoing.leave_out(left_out);
        if let Some(journal) = &self.persistence.journal {
            outgoing.sent_until = sent_until.min(journal.messages.last());
        }
        outgoing
    }

    /// The Will of a restored session. If its client was connected until the end of the earlier run, its delay begins
    /// now.
    fn restored_will(&mut self, stored: &StoredSession) -> Option<Box<Will>> {
        let will = stored.will.as_ref()?;
        let due = match will.due {
            Time::NEVER => end_after(stored.expiry_interval, self.clock.now).min(self.clock.now + will.delay),
            due => due,
        };
        let message = will.message.message(&mut self.output.sender.spares);
        Some(Box::new(Will { message, delay: will.delay, due }))
    }

    fn restore_subscription(&mut self, number: SessionNumber, stored: &StoredSubscription) {
        let Some(session) = self.restored_session(number) else { return };
        let client = Escaped(&self.clients.sessions[session].client_identifier);
        let Ok(filter) = TopicFilter::new(&stored.filter) else {
            warn!("A subscription of client {client} in the store has an invalid Topic Filter.");
            return;
        };
        let terms = Terms::new(stored.qos, stored.no_local, stored.retain_as_published, stored.identifier);
        let outcome = match filter.share_name() {
            Some(share_name) => self.join(session, share_name, filter, terms).map(|()| None),
            None => self.subscribe_alone(session, filter, terms).map(|(filter, _)| Some(filter)),
        };
        match outcome {
            Ok(Some(filter)) if stored.owes_retained => {
                self.clients.sessions[session].outgoing_mut().retained_sends.begin(
                    filter,
                    terms,
                    Stamp::default(),
                );
            }
            Ok(_) => {}
            Err(reason) => {
                let why = match reason {
                    ReasonCode::QuotaExceeded => self.why_no_subscription(session),
                    other => other.to_string(),
                };
                let client = Escaped(&self.clients.sessions[session].client_identifier);
                warn!("A subscription of client {client} is lost: {why}.");
            }
        }
    }

    fn restore_delivery(
        &mut self,
        number: SessionNumber,
        delivery: StoredDelivery,
        copy: Option<&StoredCopy>,
    ) {
        let Some(session) = self.restored_session(number) else { return };
        let stage = match copy {
            Some(copy) if !delivery.is_released => {
                let group = copy.form.group.as_ref().and_then(|text| self.group_named(text));
                let message = copy.message.message(&mut self.output.sender.spares);
                Stage::Publish(queued(copy.number, message, &copy.form, group))
            }
            _ => Stage::Release,
        };
        let outgoing = self.clients.sessions[session].outgoing_mut();
        if !outgoing.restore(delivery.identifier, stage) {
            let client = Escaped(&self.clients.sessions[session].client_identifier);
            warn!("A delivery to client {client} in the store has the Packet Identifier of another one.");
        }
    }

    /// Restores the number of sessions that need a stored message. Sessions that were not restored do not count.
    fn restore_needed<'a>(
        &mut self,
        message: MessageNumber,
        needed_by: impl Iterator<Item = &'a SessionNumber>,
    ) {
        let Some(journal) = &mut self.persistence.journal else { return };
        let is_there = |number: &&SessionNumber| {
            journal.session_of(**number).is_some() || self.waiting.legacies.is_restored(**number)
        };
        let count = needed_by.filter(is_there).count();
        journal.messages.restore(message, u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// Restores a QoS 1 delivery that had begun. It continues with its Packet Identifier, however many may be in flight
    /// now [MQTT-4.4.0-1]. Among deliveries with the same identifier, all but the last were acknowledged without this
    /// being persisted. All but the first to be restored are queued.
    fn restore_begun(&mut self, message: MessageNumber, content: &Message, recipient: Recipient) {
        let Recipient { session: number, form, identifier } = recipient;
        let group = form.group.as_ref().and_then(|text| self.group_named(text));
        let (Some(session), Some(identifier)) = (self.restored_session(number), identifier) else { return };
        let outgoing = self.clients.sessions[session].outgoing_mut();
        let qos = form.qos;
        let copy = queued(message, content.clone(), &form, group);
        if !outgoing.restore(identifier, Stage::Publish(copy)) {
            outgoing.push_stored(message, (content.memory(), content.expires()), qos, group);
        }
    }

    fn restore_waiting(
        &mut self,
        (message, group): (MessageNumber, Option<GroupId>),
        (bytes, expires, lowest_qos): (usize, Time, QoS),
        needed_by: &[SessionNumber],
    ) {
        let Some(journal) = &mut self.persistence.journal else { return };
        let mut sessions = BTreeSet::<SessionId>::new();
        sessions.extend(needed_by.iter().filter_map(|&number| journal.session_of(number)));
        let former: Vec<SessionNumber> =
            needed_by.iter().copied().filter(|&number| self.waiting.legacies.is_restored(number)).collect();
        for session in sessions {
            self.clients.sessions[session].outgoing_mut().push_stored(
                message,
                (bytes, expires),
                lowest_qos,
                group,
            );
        }
        former.into_iter().for_each(|number| self.restore_legacy(number, message, bytes, group));
    }

    /// Notes the topic of a copy with RETAIN that waits in the store.
    fn restore_topic(&mut self, message: MessageNumber, topic: &str, needed_by: &[SessionNumber]) {
        for &number in needed_by {
            if let Some(session) = self.restored_session(number) {
                self.note_stored_copy(session, message, TopicName::trusted(topic));
            }
        }
    }

    fn restore_retained(&mut self, message: &Portable) {
        let publication = message.publication();
        if publication.is_expired(self.clock.now) {
            return;
        }
        let message = message.message(&mut self.output.sender.spares);
        self.retention.retained.restore(message);
    }
}
