//! Retained messages for new subscriptions, handed over as fast as the client takes them, and the search for
//! those that have expired.

use super::Broker;
use super::deliver::Share;
use super::rules::delivered_qos;
use super::timers::Timer;
use crate::codec::QoS;
use crate::journal::Urgency;
use crate::limits::{RETAINED_EXAMINED_PER_CALL, RETAINED_REPLAY_PER_CALL};
use crate::message::{Keepable, Message, Publisher};
use crate::planted::{Fault, is_planted};
use crate::retained::{Position, Walk};
use crate::session::Replay;
use crate::slots::SessionId;
use crate::subscription::Held;
use crate::time::Duration;
use crate::topic::TopicFilter;

/// How often expired retained messages are looked for, while there are any that expire.
const SWEEP_INTERVAL: Duration = Duration::from_seconds(10);

impl Broker {
    /// Goes on with retained messages for new subscriptions, as far as the outbox and the window allow.
    pub(super) fn replay(&mut self, session: SessionId) {
        if self.are_answers_waiting(session) {
            return;
        }
        let Some(mut replay) = self.sessions[session].outgoing_mut().replays.take_next() else { return };
        let (mut found, walk) = self.collect(&mut replay);
        if is_planted(Fault::RetainedForLastOnly) && !self.sessions[session].outgoing_mut().replays.is_empty()
        {
            found.clear();
        }
        if is_planted(Fault::RetainedTwice) {
            found.extend(found.last().cloned());
        }
        let mut stopped_at = None;
        for message in found {
            if !self.replay_one(session, &replay, &message) {
                stopped_at = Some(Position::at(&message));
                break;
            }
        }
        let is_stopped = stopped_at.is_some();
        if let Some(position) = stopped_at {
            replay.position = position;
        }
        if !is_stopped && walk == Walk::Over {
            self.keep_replayed(session, &replay);
        }
        let replays = &mut self.sessions[session].outgoing_mut().replays;
        if is_stopped || walk == Walk::Paused {
            replays.put_back(replay);
        }
        // What was stopped goes on when the outbox drains or an acknowledgement comes, the rest at the next turn.
        if replays.is_empty() {
            self.sessions[session].shrink();
        } else if !is_stopped && !self.unfinished.contains(&session) {
            self.unfinished.push_back(session);
        }
    }

    /// A subscription has got its retained messages. If that is lost, they come again after a crash.
    fn keep_replayed(&mut self, session: SessionId, replay: &Replay) {
        if !self.is_kept(session) {
            return;
        }
        let pattern = self.trie.pattern(replay.filter);
        // Its terms may have changed since without beginning the retained messages anew.
        let position = self.sessions[session].subscriptions.position(Held::Filter(replay.filter));
        let entry = position.and_then(|position| self.trie.values(replay.filter).get(position as usize));
        let Some(terms) = entry.map(|entry| entry.terms) else { return };
        self.keep_subscription(session, &pattern, terms, false, Urgency::Lazy);
    }

    /// The next retained messages of a subscription, a limited number of them.
    fn collect(&self, replay: &mut Replay) -> (Vec<Message>, Walk) {
        let mut found = Vec::new();
        let pattern = self.trie.pattern(replay.filter);
        let filter = TopicFilter::trusted_pattern(&pattern);
        let walk = self.retained.walk(
            filter,
            &mut replay.position,
            self.now,
            RETAINED_EXAMINED_PER_CALL,
            |message| {
                let has_room = found.len() < RETAINED_REPLAY_PER_CALL;
                if has_room {
                    found.push(message.clone());
                }
                has_room
            },
        );
        (found, walk)
    }

    /// Hands one retained message over; false if it has to wait.
    fn replay_one(&mut self, session: SessionId, replay: &Replay, message: &Message) -> bool {
        let mut keepable = Keepable::kept(message);
        let publication = keepable.publication;
        let publisher = publication.publisher.and_then(Publisher::read);
        let Some(most) = self.may_replay(session, publication.topic, publisher) else { return true };
        let must_prepare = self.must_prepare(session, QoS::ExactlyOnce);
        let Self { sessions, connections, limits, .. } = self;
        let state = &mut sessions[session];
        let Some(id) = state.connection() else { return false };
        let qos = delivered_qos(limits, replay.terms.qos(), publication.qos).min(most);
        // A client's own message is none for it, also when it was retained [MQTT-3.8.3-3].
        let is_own =
            publisher.is_some_and(|publisher| publisher.client_identifier == &*state.client_identifier);
        if replay.terms.no_local() && is_own {
            return true;
        }
        let is_at_most_once = qos == QoS::AtMostOnce;
        let may_begin = is_at_most_once
            || if must_prepare && qos == QoS::ExactlyOnce {
                state.outgoing_mut().may_prepare()
            } else {
                state.outgoing_mut().may_begin()
            };
        if !may_begin || connections[id].outbox.len() >= limits.outbox_refill_bytes {
            return false;
        }
        self.sender.encoder.begin();
        self.begin_message(None);
        let identifier = replay.terms.identifier();
        // A retained message for a new subscription says that it is one, whatever Retain As Published says.
        let share = Share {
            qos,
            retain: true,
            identifiers: identifier.as_slice(),
            group: None,
            number: None,
            dup: false,
        };
        if is_at_most_once {
            self.deliver_at_most_once(session, &mut keepable, share);
        } else {
            self.begin(session, &mut keepable, share);
        }
        true
    }

    /// Makes sure that expired retained messages are looked for, if any can expire.
    pub(super) fn sweep_later(&mut self) {
        if self.sweep.is_none() && self.retained.has_expiring() {
            self.sweep = Some(Position::default());
            self.wheel.arm(self.now + SWEEP_INTERVAL, Timer::Sweep);
        }
    }

    /// Looks through a limited number of retained messages for expired ones.
    pub(super) fn sweep(&mut self) {
        let Some(mut position) = self.sweep.take() else { return };
        let Self { retained, journal, now, .. } = self;
        let walk = retained.expire(&mut position, *now, RETAINED_EXAMINED_PER_CALL, |topic| {
            if let Some(journal) = journal {
                journal.retain(topic, 0, Urgency::Lazy, *now);
            }
        });
        if walk == Walk::Paused {
            self.sweep = Some(position);
            self.wheel.arm(self.now + Duration::from_milliseconds(1), Timer::Sweep);
        } else {
            self.sweep_later();
        }
    }
}
