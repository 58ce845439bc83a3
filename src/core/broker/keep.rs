//! What is kept: every change that must survive is handed to the journal here, and what waits for the store goes on.
//! Without a journal all of it does nothing.

use log::{Level, debug, log_enabled};

use super::deliver::Share;
use super::room::Former;
use super::trace::Described;
use super::turn::steps;
use super::{Broker, Effect, Fault, too_large};
use crate::base::planted::{self, is_planted};
use crate::base::time::Time;
use crate::core::connection::State;
use crate::core::journal::{
    Answer, Awaited, Batch, CopyForm, Journal, MessageNumber, NextNumbers, Pace, Recipient, Record,
    SessionNumber, StoredDelivery, StoredPresence, StoredSession, StoredSubscription, StoredWill, Urgency,
};
use crate::core::listener::ListenerId;
use crate::core::message::{Keepable, Message};
use crate::core::session::{Presence, Queued, Session};
use crate::core::slots::{ConnectionId, SessionId};
use crate::core::subscription::{GroupId, Target, Terms};
use crate::protocol::codec::{
    Acknowledgement, AcknowledgementKind, Packet, PacketIdentifier, QoS, ReasonCode,
};
use crate::protocol::topic::TopicName;

impl Broker {
    /// From now on, sessions that outlive their connections are kept. To be called before the first connection.
    pub fn begin_journal(&mut self, next: NextNumbers, pace: Pace) {
        self.persistence.journal = Journal::begin(next, pace);
    }

    /// When [`Broker::take_batch`] is to be called. `None` while there is nothing to be written down, or a batch is
    /// with the store.
    pub fn batch_due(&self) -> Option<Time> {
        self.persistence.journal.as_ref()?.batch_due()
    }

    /// Whether everything is durable that is to be written down and that there is room for.
    pub fn is_written_down(&self) -> bool {
        self.persistence.journal.as_ref().is_none_or(|journal| journal.is_empty())
    }

    /// What there is to be written down is due now, however long it could wait.
    pub fn write_down(&mut self, now: Time) {
        if let Some(journal) = &mut self.persistence.journal {
            journal.write_down(now);
        }
    }

    /// Closes the batch that has gathered, which is to become durable as a whole. `None` if there is none, or one is
    /// with the store.
    pub fn take_batch(&mut self, now: Time) -> Option<Batch> {
        self.advance(now);
        let journal = self.persistence.journal.as_mut().filter(|journal| !journal.is_closed())?;
        let changed = journal.take_changed();
        let retained = journal.take_retained();
        let sessions = changed.iter().filter_map(|&session| self.stored_session(session)).collect();
        let retained = retained.iter().map(|topic| self.stored_retained(topic)).collect();
        let now = self.clock.now;
        let batch = self.persistence.journal.as_mut()?.close(sessions, retained, now);
        match &batch {
            None => self.go_on(),
            Some(_) => {
                // It was copied for another thread.
                let bytes = self.persistence.journal.as_ref().map_or(0, |journal| journal.closed_bytes());
                self.turn.take(bytes / steps::BYTES_GROWN_PER_STEP);
                self.resume_paused();
            }
        }
        batch
    }

    /// The batch with this number is durable.
    pub fn durable(&mut self, number: u64, now: Time) {
        self.advance(now);
        let Some(journal) = &mut self.persistence.journal else { return };
        journal.is_durable(number);
        self.go_on();
    }

    /// Lets everything go on that has waited for what is durable now.
    fn go_on(&mut self) {
        self.uncork();
        let Some(journal) = &mut self.persistence.journal else { return };
        let answering = journal.answers.connections();
        self.turn.take(answering.len() / steps::COPIED_PER_STEP);
        self.waiting.answer(answering);
        while let Some(id) = self.waiting.first_to_answer(&self.turn) {
            self.turn.take(steps::PACKET);
            self.release_answers(id);
        }
        while let Some(session) =
            self.persistence.journal.as_mut().and_then(|journal| journal.next_to_go_on())
        {
            self.turn.take(steps::PACKET);
            if self.clients.sessions.find(session).is_some() {
                self.list(session);
            }
        }
        self.ask_for_legacy();
        self.resume_paused();
    }

    /// Releases what was held back for connections that have waited long enough.
    pub(super) fn uncork(&mut self) {
        let Some(journal) = &mut self.persistence.journal else { return };
        for id in journal.take_uncorked() {
            self.turn.take(steps::PACKET);
            if let Some(connection) = self.connections.find_mut(id) {
                connection.outbox.wake(&mut self.output.sender.dirty);
            }
        }
    }

    /// Lets those go on that have waited for room in the open batch.
    pub(super) fn resume_paused(&mut self) {
        if let Some(journal) = self.persistence.journal.as_mut().filter(|journal| !journal.is_full()) {
            self.effects.extend(journal.take_paused().into_iter().map(Effect::Resume));
        }
    }

    /// A listener has come that was not there when the journal was begun, with this name.
    pub fn name_listener(&mut self, listener: ListenerId, name: &str, now: Time) {
        if let Some(journal) = &mut self.persistence.journal {
            journal.record(Record::Listener(listener, name.to_owned()), Urgency::Lazy, now);
        }
    }

    /// Whether kept sessions may be among those who get the messages on a topic. Where very many match, some are.
    pub(super) fn is_for_kept(&mut self, topic: TopicName<'_>) -> bool {
        self.look_up(topic).map_or(true, |matched| {
            matched.subscribers().iter().any(|subscriber| match subscriber.target {
                Target::Session(receiver) => self.is_kept(receiver),
                Target::Group(_) => true,
            })
        })
    }

    /// Whether a session is kept.
    #[inline]
    pub(super) fn is_kept(&self, session: SessionId) -> bool {
        self.persistence.journal.as_ref().is_some_and(|journal| journal.number_of(session).is_some())
    }

    /// Whether anything is said to a client before what it says is durable.
    fn holds(&self) -> bool {
        self.persistence.journal.as_ref().is_some_and(|journal| journal.holds())
    }

    /// A session is other than before.
    pub(super) fn keep_session(&mut self, session: SessionId, urgency: Urgency) {
        if let Some(journal) = &mut self.persistence.journal {
            journal.change(session, stored_bytes(&self.clients.sessions[session]), urgency, self.clock.now);
        }
    }

    /// A client was accepted: its session is kept, if it is to outlive the connection; the client is not told before
    /// that is durable, or that its former session is gone. Where there is no room, the client is told at once if
    /// nothing new has to be stored.
    pub(super) fn keep_connected(&mut self, id: ConnectionId, session: SessionId, former: Former) {
        let (now, outlives) = (self.clock.now, self.clients.sessions[session].expiry_interval > 0);
        let bytes = stored_bytes(&self.clients.sessions[session]);
        let Some(journal) = &mut self.persistence.journal else { return };
        if outlives {
            journal.keep(session);
        }
        if outlives || former != Former::Nothing {
            journal.change(session, bytes, Urgency::Urgent, now);
            journal.hurry(Urgency::Urgent, now);
            journal.cork(id, !outlives || former == Former::Same);
        } else {
            journal.cork_for_end(id, &self.clients.sessions[session].client_identifier, now);
        }
    }

    /// A session has lost its connection, and outlives it.
    pub(super) fn keep_away(&mut self, session: SessionId) {
        if !self.is_kept(session) {
            return;
        }
        self.settle_gone(session);
        if let Some(outgoing) = &mut self.clients.sessions[session].outgoing {
            self.turn.take(outgoing.queue_length() / steps::SORTED_OUT_PER_STEP);
            outgoing.put_away();
        }
        self.keep_session(session, Urgency::Lazy);
    }

    /// Writes something down about a session, if it is kept.
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

    /// A subscription is there, or other than before.
    pub(super) fn keep_subscription(
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

    /// The retained message of a topic is other than before.
    pub(super) fn keep_retained(&mut self, topic: TopicName<'_>, qos: QoS) {
        let now = self.clock.now;
        if let Some(journal) = &mut self.persistence.journal {
            let urgency = if qos == QoS::AtMostOnce { Urgency::Lazy } else { Urgency::Urgent };
            let bytes = self.retention.retained.find(topic).map_or(0, Message::memory);
            journal.retain(topic, bytes, urgency, now);
        }
    }

    /// Another message is in hand, from the client of this connection if it is one's.
    #[inline]
    pub(super) fn begin_message(&mut self, publisher: Option<ConnectionId>) {
        if let Some(journal) = &mut self.persistence.journal {
            journal.begin_message(publisher);
        }
    }

    /// Keeps a session's copy of the message in hand, if the session is kept, and tells its number. A copy that is
    /// kept already has one. If its QoS 1 delivery has begun, that is kept too, with its Packet Identifier.
    pub(super) fn keep_copy(
        &mut self,
        session: SessionId,
        keepable: &mut Keepable<'_>,
        share: Share<'_>,
        begun: Option<PacketIdentifier>,
    ) -> Option<MessageNumber> {
        let journal = self.persistence.journal.as_mut()?;
        let number = journal.number_of(session)?;
        if let Some(message) = share.number {
            begun.into_iter().for_each(|identifier| journal.begin_delivery(message, number, identifier));
            return share.number;
        }
        let form = CopyForm {
            qos: share.qos,
            retain: share.retain,
            identifiers: self.output.sender.identifiers.share(share.identifiers).portable(),
            group: share.group.and_then(|id| self.routing.groups.find_mut(id)).map(|group| {
                let filter = group.filter;
                group.text(|| self.routing.trie.pattern(filter))
            }),
        };
        let recipient = Recipient { session: number, form, identifier: begun };
        let message = journal.messages.add(
            keepable.message(&mut self.output.sender.spares),
            recipient,
            share.group.is_some(),
        );
        let urgency = if share.qos == QoS::AtMostOnce { Urgency::Lazy } else { Urgency::Urgent };
        journal.hurry(urgency, self.clock.now);
        Some(message)
    }

    /// Whether a PUBLISH of this QoS to a session has to wait until its Packet Identifier is durable: after a crash, no
    /// other message may have the identifier that the client may have seen with this one.
    pub(super) fn must_prepare(&self, session: SessionId, qos: QoS) -> bool {
        qos == QoS::ExactlyOnce
            && self.holds()
            && self.is_kept(session)
            && !is_planted(planted::Fault::IdentifierNotDurable)
    }

    /// Gives a QoS 2 copy its Packet Identifier; it is sent when that is durable.
    pub(super) fn prepare(&mut self, session: SessionId, keepable: &mut Keepable<'_>, share: Share<'_>) {
        let Some(message) = self.keep_copy(session, keepable, share, None) else { return };
        let Some(journal) = &mut self.persistence.journal else { return };
        let outgoing = self.clients.sessions[session].outgoing_mut();
        let identifier = outgoing.next_identifier();
        let share = Share { number: Some(message), ..share };
        let queued = share.queued(
            keepable.message(&mut self.output.sender.spares).clone(),
            &mut self.output.sender.identifiers,
        );
        outgoing.prepare(queued, self.clock.now, journal.awaited_batch());
        journal.suspend(session);
        self.record_delivery(session, identifier, message, false);
    }

    /// A QoS 2 delivery to a kept session has its Packet Identifier, or has come to its second half.
    pub(super) fn record_delivery(
        &mut self,
        session: SessionId,
        identifier: PacketIdentifier,
        message: MessageNumber,
        is_released: bool,
    ) {
        let delivery = StoredDelivery { identifier, message, is_released };
        self.record(session, Urgency::Urgent, |number| Record::Delivery(number, delivery));
    }

    /// What a packet waits for before which it may not leave.
    pub(super) fn awaited_batch(&self) -> u64 {
        self.persistence.journal.as_ref().map_or(0, |journal| journal.awaited_batch())
    }

    /// All batches up to this one are durable, as far as it matters.
    pub(super) fn durable_batch(&self) -> u64 {
        match &self.persistence.journal {
            Some(journal) if !is_planted(planted::Fault::EarlyPubrel) => journal.durable(),
            _ => u64::MAX,
        }
    }

    /// What the answer to the message in hand waits for.
    pub(super) fn take_awaited(&mut self) -> Awaited {
        self.persistence.journal.as_mut().map_or(Awaited::Nothing, |journal| journal.take_awaited())
    }

    /// What an answer waits for that promises what was recorded of a session, if that is kept.
    pub(super) fn recorded(&self, session: SessionId) -> Awaited {
        match &self.persistence.journal {
            Some(journal) if journal.number_of(session).is_some() => journal.recorded(),
            _ => Awaited::Nothing,
        }
    }

    /// Settles what a session needs no longer.
    #[inline]
    pub(super) fn settle_gone(&mut self, session: SessionId) {
        if self.persistence.journal.is_some() {
            self.settle_gone_of(session, Journal::settle);
        }
    }

    /// The same for what was acknowledged by PUBACK or is not sent at all: it need not be soon.
    #[inline]
    pub(super) fn settle_acknowledged(&mut self, session: SessionId) {
        if self.persistence.journal.is_some() {
            self.settle_gone_of(session, Journal::acknowledge);
        }
    }

    /// Settles one message that a session needs no longer, which may be over.
    pub(super) fn settle_copy(&mut self, session: SessionNumber, message: MessageNumber) {
        let now = self.clock.now;
        let settled =
            self.persistence.journal.as_mut().and_then(|journal| journal.settle(message, session, now));
        if let Some(publisher) = settled {
            self.release_answers(publisher);
        }
    }

    // Not inlined: without a journal its callers do no more than ask for one.
    #[inline(never)]
    fn settle_gone_of(
        &mut self,
        session: SessionId,
        settle: impl Fn(&mut Journal, MessageNumber, SessionNumber, Time) -> Option<ConnectionId>,
    ) {
        let Some(journal) = &mut self.persistence.journal else { return };
        let Some(number) = journal.number_of(session) else { return };
        let Some(outgoing) = &mut self.clients.sessions[session].outgoing else { return };
        let mut publishers = Vec::new();
        while let Some(message) = outgoing.pop_gone() {
            if !is_planted(planted::Fault::NeverSettled) {
                publishers.extend(settle(journal, message, number, self.clock.now));
            }
        }
        for publisher in publishers {
            self.release_answers(publisher);
        }
    }

    /// Queues the answers of a connection that need not wait any more.
    fn release_answers(&mut self, id: ConnectionId) {
        let Some(journal) = &mut self.persistence.journal else { return };
        let Some(connection) = self.connections.find_mut(id) else { return };
        if connection.state == State::Ending {
            journal.answers.forget(id);
            return;
        }
        while let Some(answer) = journal.next_answer(id) {
            connection
                .outbox
                .push(&mut self.output.sender.dirty, |bytes| bytes.extend_from_slice(answer.bytes()));
            self.output.sender.packets += 1;
            self.turn.take(steps::PACKET);
        }
        if let State::Serving(session) = connection.state
            && self.clients.sessions[session]
                .outgoing
                .as_ref()
                .is_some_and(|outgoing| !outgoing.replays.is_empty())
        {
            self.list(session);
        }
    }

    /// Goes on with the answers of one of the connections that wait for what is durable now.
    pub(super) fn go_on_answers(&mut self) {
        let Some(id) = self.waiting.next_to_answer() else { return };
        self.turn.take(steps::PACKET);
        self.release_answers(id);
    }

    /// Whether an answer has to wait: for what it promises, or for those before it.
    #[inline]
    pub(super) fn must_wait(&self, id: ConnectionId, awaited: Awaited) -> bool {
        self.persistence.journal.as_ref().is_some_and(|journal| {
            journal.holds() && (journal.answers.are_waiting(id) || !journal.is_there(awaited))
        })
    }

    /// Answers as soon as what the answer promises is so.
    pub(super) fn answer_when(
        &mut self,
        id: ConnectionId,
        awaited: Awaited,
        packet: &Packet<'_>,
    ) -> Result<(), Fault> {
        if !self.must_wait(id, awaited) {
            return self.answer(id, packet);
        }
        let connection = &self.connections[id];
        let mut bytes = Vec::new();
        packet.encode(connection.version, &mut bytes);
        if bytes.len() > connection.maximum_packet_size() {
            return Err(too_large(packet.name()));
        }
        self.hold(id, awaited, Answer::Packet(bytes.into()), packet);
        Ok(())
    }

    /// Acknowledges as soon as what that promises is so.
    #[inline]
    pub(super) fn acknowledge_when(
        &mut self,
        id: ConnectionId,
        awaited: Awaited,
        kind: AcknowledgementKind,
        identifier: PacketIdentifier,
        reason_code: ReasonCode,
    ) -> Result<(), Fault> {
        if !self.must_wait(id, awaited) {
            return self.acknowledge(id, kind, identifier, reason_code);
        }
        let is_small_enough = self.connections[id].maximum_packet_size() >= AcknowledgementKind::PLAIN_LENGTH;
        if reason_code == ReasonCode::Success && is_small_enough {
            let packet = kind.packet(Acknowledgement::new(identifier, reason_code));
            self.hold(id, awaited, Answer::Plain(kind.plain(identifier)), &packet);
            return Ok(());
        }
        self.acknowledge_in_full(id, awaited, kind, Acknowledgement::new(identifier, reason_code), None)
    }

    fn hold(&mut self, id: ConnectionId, awaited: Awaited, answer: Answer, packet: &Packet<'_>) {
        if log_enabled!(Level::Debug) {
            let session = self.connections[id].session();
            let client = session.map_or("", |session| &self.clients.sessions[session].client_identifier);
            debug!("Sending {}", Described { packet, direction: "to", client });
        }
        let now = self.clock.now;
        if let Some(journal) = &mut self.persistence.journal {
            journal.answers.hold(id, awaited, answer);
            // What it waits for may have been nobody's until now.
            journal.hurry(Urgency::Urgent, now);
        }
    }

    /// A session as the store keeps it.
    fn stored_session(&self, id: SessionId) -> Option<Record> {
        let number = self.persistence.journal.as_ref()?.number_of(id)?;
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

    /// What is retained for a topic, as the store keeps it.
    fn stored_retained(&self, topic: &str) -> Record {
        match self.retention.retained.find(TopicName::trusted(topic)) {
            Some(message) => Record::Retained(message.portable()),
            None => Record::Cleared(topic.to_owned()),
        }
    }
}

/// A copy in the store, as it waits here.
pub(super) fn queued(
    number: MessageNumber,
    message: Message,
    form: &CopyForm,
    group: Option<GroupId>,
) -> Queued {
    Queued {
        message,
        identifiers: form.identifiers.clone().into(),
        group,
        qos: form.qos,
        retain: form.retain,
        number: Some(number),
    }
}

/// About how many bytes it takes to write a session down.
pub(super) fn stored_bytes(session: &Session) -> usize {
    let will = session.will.as_ref().map_or(0, |will| will.message.memory());
    let user_name = session.user_name.as_deref().map_or(0, str::len);
    size_of::<Record>() + size_of::<StoredSession>() + session.client_identifier.len() + user_name + will
}
