//! Retained messages for new subscriptions, sent as fast as the client takes them, and the search for expired ones.
//!
//! Which messages a subscription gets [MQTT-3.3.1-9]:
//!
//! - It gets the messages that were retained when it began and still are when their turn comes. It gets none for a
//!   topic whose message has been replaced or cleared since: the newer message comes as an ordinary message of the
//!   subscription, or is dropped where a limit says so. So nothing comes twice, and only a number has to be remembered.
//! - At QoS 0 the newer message does not come while the client is disconnected. When it is back, it gets instead what
//!   was retained at that moment.
//! - If the subscription ends or is made again, what waits for the broker (a turn, the store, the outbox) is still sent
//!   [MQTT-3.8.4-4]. What waits for acknowledgements of the client is not, since its delivery has not begun
//!   [MQTT-3.10.4-2].
//! - After a restart, subscriptions that had not got all messages get what is retained then. So messages that came
//!   between the SUBSCRIBE and the end of the earlier run may come twice, if they were queued as well. A subscription
//!   that had ended gets nothing.

use super::Broker;
use super::budget::Pressure;
use super::clock::Timer;
use super::deliver::DeliveryOptions;
use super::owed::OwedRetained;
use super::turn::steps;
use crate::base::time::Duration;
use crate::core::journal::Urgency;
use crate::core::limits::RETAINED_EXAMINED_PER_CALL;
use crate::core::message::{Message, Outbound, Publication, Publisher};
use crate::core::retained::{Position, Retained, Stamp, Taken, Walk};
use crate::core::session::{Outgoing, RetainedSend, Source};
use crate::core::slots::SessionId;
use crate::core::subscription::Held;
use crate::core::trie::FilterId;
use crate::protocol::codec::QoS;
use crate::protocol::topic::TopicFilter;

/// The interval at which expired retained messages are looked for, while there are any that expire.
const SWEEP_INTERVAL: Duration = Duration::from_seconds(10);
/// The pause of the search while too much waits to be persisted.
const SWEEP_PAUSE: Duration = Duration::from_milliseconds(100);

/// The retained messages.
#[derive(Debug, Default)]
pub(super) struct Retention {
    pub(super) retained: Retained,
    /// Where the search for expired messages continues; `None` while it is not needed.
    sweep: Option<Position>,
    /// What each bridge is owed, in the order of the options.
    pub(super) owed: Vec<OwedRetained>,
}

/// Why the sending of retained messages stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stopped {
    /// The client takes no more until it reads or acknowledges.
    NoRoom,
    /// The share of the turn is used up.
    ShareIsOver,
}

impl Broker {
    /// Continues to send retained messages for new subscriptions, as far as the outbox, the window and the share in
    /// progress allow. A walk that stops continues where it was, and none begins before there is room for what it
    /// finds.
    pub(super) fn send_retained(&mut self, session: SessionId) {
        let has_any = |outgoing: &Outgoing| !outgoing.retained_sends.is_empty();
        if !self.clients.sessions[session].outgoing.as_deref().is_some_and(has_any)
            || self.is_bridge_set_up(session) == Some(false)
        {
            return;
        }
        while self.send_retained_of_subscriptions(session) && self.catch_up_more(session) {}
    }

    /// Sends the retained messages of subscriptions. Returns whether none is left.
    fn send_retained_of_subscriptions(&mut self, session: SessionId) -> bool {
        while let Some(mut retained_send) = self.next_retained_send(session) {
            let stopped = self.send_retained_of(session, &mut retained_send);
            let is_former = matches!(retained_send.source, Source::Former(_));
            if stopped.is_some() && is_former && !self.may_begin_retained(session, retained_send.terms.qos())
            {
                continue;
            }
            if let Some(stopped) = stopped {
                self.clients.sessions[session].outgoing_mut().retained_sends.put_back(retained_send);
                if stopped == Stopped::ShareIsOver {
                    self.list(session);
                }
                // Otherwise it continues when the outbox drains or an acknowledgement comes.
                return false;
            }
            self.persist_retained_send(session, &retained_send);
        }
        if let Some(state) = self.clients.sessions.find_mut(session) {
            state.shrink();
            self.look_for_at_most_once(session);
        }
        let outgoing = self.clients.sessions.find(session).and_then(|state| state.outgoing.as_ref());
        outgoing.is_some_and(|outgoing| !outgoing.retained_sends.has_subscriptions())
    }

    /// Ends the sending of retained messages for a subscription that ends or is renewed. Those that wait for the broker
    /// are still sent.
    pub(super) fn end_retained_send(&mut self, session: SessionId, filter: FilterId, pattern: &str) {
        let Some(outgoing) = &self.clients.sessions[session].outgoing else { return };
        let Some(qos) = outgoing.retained_sends.owed(filter) else { return };
        let waits_for_broker = self.pressure(0) < Pressure::Keep && self.may_begin_retained(session, qos);
        let retained_sends = &mut self.clients.sessions[session].outgoing_mut().retained_sends;
        if waits_for_broker { retained_sends.detach(filter, pattern) } else { retained_sends.forget(filter) }
    }

    /// Returns the next subscription to send retained messages for, if its SUBACK has left.
    fn next_retained_send(&mut self, session: SessionId) -> Option<RetainedSend> {
        let state = self.clients.sessions.find_mut(session)?;
        let id = state.connection()?;
        let has_left = |position| {
            self.persistence.journal.as_ref().is_none_or(|journal| journal.answers.has_left(id, position))
        };
        state.outgoing.as_mut()?.retained_sends.take_next(has_left)
    }

    /// Continues with the retained messages of one subscription. Returns `None` if all have been sent.
    fn send_retained_of(&mut self, session: SessionId, retained_send: &mut RetainedSend) -> Option<Stopped> {
        if !self.has_room_for_retained(session, retained_send.terms.qos()) {
            return Some(Stopped::NoRoom);
        }
        if self.turn.is_over() {
            return Some(Stopped::ShareIsOver);
        }
        let pattern = self.pattern_of(&retained_send.source);
        let filter = TopicFilter::trusted_pattern(&pattern);
        let before = self.turn.left();
        let mut left = before;
        // Nothing of what follows uses the retained messages, so they can be moved out of the broker.
        let retained = std::mem::take(&mut self.retention.retained);
        let mut position = std::mem::take(&mut retained_send.position);
        let mut stopped = Stopped::ShareIsOver;
        let walk = retained.walk(filter, &mut position, self.clock.now, &mut left, |message, stamp| {
            if !self.send_retained_one(session, retained_send, message, stamp) {
                stopped = Stopped::NoRoom;
                return Taken::No;
            }
            if self.turn.is_over() { Taken::YesAndStop } else { Taken::Yes }
        });
        self.retention.retained = retained;
        retained_send.position = position;
        self.turn.take(before - left);
        (walk == Walk::Paused).then_some(stopped)
    }

    /// The pattern of the Topic Filter for whose subscription retained messages are sent.
    fn pattern_of(&self, source: &Source) -> String {
        match source {
            Source::Subscription(filter) => self.routing.trie.pattern(*filter),
            Source::Former(pattern) => pattern.to_string(),
        }
    }

    /// Whether one more retained message may be sent now to a client that would get it at this QoS at most.
    pub(super) fn has_room_for_retained(&mut self, session: SessionId, qos: QoS) -> bool {
        let Some(id) = self.clients.sessions[session].connection() else { return false };
        self.may_begin_retained(session, qos)
            && self.connections[id].outbox.len() < self.options.limits.outbox_refill_bytes
    }

    /// Whether a delivery at this QoS may begin without waiting for an acknowledgement.
    fn may_begin_retained(&mut self, session: SessionId, qos: QoS) -> bool {
        let prepares = self.persistence.must_prepare(session, qos);
        let state = &mut self.clients.sessions[session];
        match qos {
            QoS::AtMostOnce => !state.outgoing_mut().holds_at_most_once(),
            QoS::AtLeastOnce | QoS::ExactlyOnce => {
                let outgoing = state.outgoing_mut();
                if !outgoing.has_room_in_flight() {
                    self.turn.take(outgoing.make_place() / steps::COPIED_PER_STEP);
                }
                outgoing.may_begin_in_place(prepares)
            }
        }
    }

    /// Records that a subscription has got its retained messages. If the record is lost in a crash, they are sent
    /// again.
    fn persist_retained_send(&mut self, session: SessionId, retained_send: &RetainedSend) {
        if !self.persistence.is_persisted(session) {
            return;
        }
        let Source::Subscription(filter) = retained_send.source else { return };
        let pattern = self.routing.trie.pattern(filter);
        // Its terms may have changed since, in a way that does not begin the retained messages again.
        let position = self.clients.sessions[session].subscriptions.position(Held::Filter(filter));
        let entry = position.and_then(|position| self.routing.trie.values(filter).get(position as usize));
        let Some(terms) = entry.map(|entry| entry.terms) else { return };
        self.persist_subscription(session, &pattern, terms, false, Urgency::Lazy);
    }

    /// Sends one retained message. Returns false if it has to wait.
    fn send_retained_one(
        &mut self,
        session: SessionId,
        retained_send: &RetainedSend,
        message: &Message,
        stamp: Stamp,
    ) -> bool {
        let mut outbound = Outbound::stored(message);
        let Some(qos) = self.retained_qos(session, retained_send, &outbound.publication, stamp) else {
            return true;
        };
        if !self.has_room_for_retained(session, qos) || self.must_wait_for_room(session, qos) {
            return false;
        }
        self.turn.take(steps::delivery(qos));
        let identifier = retained_send.terms.identifier();
        // A retained message for a new subscription has RETAIN set, whatever Retain As Published says.
        let options = DeliveryOptions {
            qos,
            retain: true,
            identifiers: identifier.as_slice(),
            group: None,
            number: None,
        };
        self.begin_other_message();
        if qos == QoS::AtMostOnce {
            self.deliver_at_most_once(session, &mut outbound, options);
        } else {
            self.begin(session, &mut outbound, options);
        }
        true
    }

    /// Begins with another message, which no client has just published.
    pub(super) fn begin_other_message(&mut self) {
        self.output.sender.encoder.begin();
        self.persistence.begin_message(None);
    }

    /// The QoS at which a subscription gets a retained message; `None` if it does not get the message.
    fn retained_qos(
        &mut self,
        session: SessionId,
        retained_send: &RetainedSend,
        publication: &Publication<'_>,
        stamp: Stamp,
    ) -> Option<QoS> {
        if stamp > retained_send.began.max(retained_send.connected) {
            return None;
        }
        let publisher = publication.publisher.and_then(Publisher::read);
        let most = self.may_send_retained(session, publication.topic, publisher)?;
        let state = &self.clients.sessions[session];
        let qos = self.delivered_qos(session, retained_send.terms.qos(), publication.qos).min(most);
        // A client does not get its own message with No Local, even if it was retained [MQTT-3.8.3-3].
        let is_own =
            publisher.is_some_and(|publisher| publisher.client_identifier == &*state.client_identifier);
        if retained_send.terms.no_local() && is_own {
            return None;
        }
        // A newer message has come as an ordinary message, or is queued as one.
        let is_queued = qos > QoS::AtMostOnce || self.options.switches.queues_at_most_once;
        if stamp > retained_send.began && is_queued {
            return None;
        }
        Some(qos)
    }

    /// Makes sure that expired retained messages are looked for, if any can expire.
    pub(super) fn sweep_later(&mut self) {
        if self.retention.sweep.is_none() && self.retention.retained.has_expiring() {
            self.sweep_on(Position::default(), SWEEP_INTERVAL);
        }
    }

    /// Goes on with the search for expired messages from this position, after a pause.
    fn sweep_on(&mut self, position: Position, after: Duration) {
        self.retention.sweep = Some(position);
        self.clock.arm(after, Timer::Sweep);
    }

    /// Examines a limited number of retained messages and drops expired ones.
    pub(super) fn sweep(&mut self) {
        let Some(mut position) = self.retention.sweep.take() else { return };
        if self.persistence.journal.as_ref().is_some_and(|journal| journal.is_full()) {
            // What it finds would have to be persisted as well.
            self.sweep_on(position, SWEEP_PAUSE);
            return;
        }
        self.turn.take(RETAINED_EXAMINED_PER_CALL);
        match self.drop_expired_retained(&mut position) {
            Walk::Paused => self.sweep_on(position, Duration::from_milliseconds(1)),
            Walk::Over => self.sweep_later(),
        }
    }

    fn drop_expired_retained(&mut self, position: &mut Position) -> Walk {
        let now = self.clock.now;
        self.retention.retained.expire(position, now, RETAINED_EXAMINED_PER_CALL, |topic| {
            if let Some(journal) = &mut self.persistence.journal {
                journal.retain(topic, 0, Urgency::Lazy, now);
            }
        })
    }
}
