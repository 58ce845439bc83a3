//! Copies of messages for persisted sessions: each is recorded in the journal when it is queued or sent, and settled
//! when its session no longer needs it.

use super::Broker;
use super::deliver::DeliveryOptions;
use crate::base::time::Time;
use crate::core::journal::{
    CopyForm, Journal, MessageNumber, Recipient, Record, SessionNumber, StoredDelivery, Urgency,
};
use crate::core::message::{Message, Outbound, Spares};
use crate::core::session::Queued;
use crate::core::slots::{ConnectionId, SessionId};
use crate::core::subscription::GroupId;
use crate::protocol::codec::{PacketIdentifier, QoS};

/// Returns a copy in the store as it is queued in memory.
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

impl Broker {
    /// Whether a PUBLISH of this QoS to a session has to wait until its Packet Identifier is durable.
    #[inline]
    pub(super) fn must_prepare(&self, session: SessionId, qos: QoS) -> bool {
        self.persistence.must_prepare(session, qos)
    }

    /// Persists a session's copy of the current message, if the session is persisted, and returns its number. A copy
    /// that is persisted already has one. If its QoS 1 delivery has begun, that is persisted too, with its Packet
    /// Identifier.
    pub(super) fn persist_copy(
        &mut self,
        session: SessionId,
        message: &Message,
        options: DeliveryOptions<'_>,
        begun: Option<PacketIdentifier>,
    ) -> Option<MessageNumber> {
        let now = self.now();
        let journal = self.persistence.journal.as_mut()?;
        let number = journal.number_of(session)?;
        if let Some(message) = options.number {
            begun.into_iter().for_each(|identifier| journal.begin_delivery(message, number, identifier));
            return options.number;
        }
        let form = CopyForm {
            qos: options.qos,
            retain: options.retain,
            identifiers: self.output.sender.identifiers.share(options.identifiers).portable(),
            group: options.group.and_then(|id| self.routing.groups.find_mut(id)).map(|group| {
                let filter = group.filter;
                group.text(|| self.routing.trie.pattern(filter))
            }),
        };
        let recipient = Recipient { session: number, form, identifier: begun };
        let message = journal.messages.add(message, recipient, options.group.is_some());
        let urgency = if options.qos == QoS::AtMostOnce { Urgency::Lazy } else { Urgency::Urgent };
        journal.hurry(urgency, now);
        Some(message)
    }

    /// Persists the copy whose delivery has begun last, and that it has begun.
    #[inline(never)]
    pub(super) fn persist_begun(
        &mut self,
        session: SessionId,
        message: &Message,
        options: DeliveryOptions<'_>,
    ) {
        let outgoing = self.clients.sessions[session].outgoing_mut();
        let identifier = outgoing.identifier_of(outgoing.in_flight().len() - 1);
        let begun = (options.qos == QoS::AtLeastOnce).then_some(identifier);
        let Some(number) = self.persist_copy(session, message, options, begun) else { return };
        self.clients.sessions[session].outgoing_mut().number_last(number);
        if options.qos == QoS::ExactlyOnce {
            self.record_delivery(session, identifier, number, false);
        }
    }

    /// The same for a copy that was queued.
    #[inline]
    pub(super) fn persist_begun_queued(&mut self, session: SessionId) {
        if self.persistence.journal.is_none() {
            return;
        }
        let last = self.clients.sessions[session].outgoing_mut().in_flight().back();
        if let Some(queued) = last.and_then(|entry| entry.queued()).cloned() {
            self.persist_begun(session, &queued.message, DeliveryOptions::of(&queued));
        }
    }

    /// Gives a QoS 2 copy its Packet Identifier; the copy is sent when that is durable.
    pub(super) fn prepare(
        &mut self,
        session: SessionId,
        outbound: &mut Outbound<'_>,
        options: DeliveryOptions<'_>,
    ) {
        let message = outbound.message(&mut self.output.sender.spares).clone();
        let queued = options.queued(message, &mut self.output.sender.identifiers);
        self.prepare_queued(session, queued);
    }

    /// The same for a copy that was queued.
    pub(super) fn prepare_queued(&mut self, session: SessionId, queued: Queued) {
        let options = DeliveryOptions::of(&queued);
        let Some(message) = self.persist_copy(session, &queued.message, options, None) else { return };
        let now = self.now();
        let Some(journal) = &mut self.persistence.journal else { return };
        let Some(number) = journal.number_of(session) else { return };
        let outgoing = self.clients.sessions[session].outgoing_mut();
        let identifier = outgoing.next_identifier();
        outgoing.prepare(Queued { number: Some(message), ..queued }, now, journal.awaited_batch());
        journal.suspend(session);
        let delivery = StoredDelivery { identifier, message, is_released: false };
        journal.record(Record::Delivery(number, delivery), Urgency::Urgent, now);
    }

    /// Records that a QoS 2 delivery to a persisted session has its Packet Identifier, or has come to its second half.
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

    /// Settles the copies that a session no longer needs.
    #[inline]
    pub(super) fn settle_gone(&mut self, session: SessionId) {
        if self.persistence.journal.is_some() {
            self.settle_gone_of(session, Journal::settle);
        }
    }

    /// The same for copies that were acknowledged by PUBACK or are not sent at all: it need not be durable soon.
    #[inline]
    pub(super) fn settle_acknowledged(&mut self, session: SessionId) {
        if self.persistence.journal.is_some() {
            self.settle_gone_of(session, Journal::acknowledge);
        }
    }

    /// Settles one copy that a session no longer needs, even if the session is over.
    pub(super) fn settle_copy(&mut self, session: SessionNumber, message: MessageNumber) {
        let now = self.now();
        let Some(journal) = &mut self.persistence.journal else { return };
        if let Some(publisher) = journal.settle(message, session, now, &mut self.output.sender.spares) {
            self.release_answers(publisher);
        }
    }

    // Not inlined: without a journal its callers do no more than check for one.
    #[inline(never)]
    pub(super) fn settle_gone_of(
        &mut self,
        session: SessionId,
        settle: impl Fn(&mut Journal, MessageNumber, SessionNumber, Time, &mut Spares) -> Option<ConnectionId>,
    ) {
        let (mut publishers, now) = (Vec::new(), self.now());
        let Some(journal) = &mut self.persistence.journal else { return };
        let Some(number) = journal.number_of(session) else { return };
        let Some(outgoing) = &mut self.clients.sessions[session].outgoing else { return };
        outgoing.take_gone(|message| {
            let publisher = settle(journal, message, number, now, &mut self.output.sender.spares);
            publishers.extend(publisher.filter(|publisher| publishers.last() != Some(publisher)));
        });
        for publisher in publishers {
            self.release_answers(publisher);
        }
    }
}
