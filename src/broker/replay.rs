//! Retained messages for new subscriptions, handed over as fast as the client takes them, and the search for
//! those that have expired.

use super::Broker;
use super::deliver::Share;
use super::timers::Timer;
use crate::codec::QoS;
use crate::limits::{RETAINED_EXAMINED_PER_CALL, RETAINED_REPLAY_PER_CALL};
use crate::message::{Keepable, Message};
use crate::retained::{Position, Walk};
use crate::session::Replay;
use crate::slots::SessionId;
use crate::time::Duration;
use crate::topic::TopicFilter;

/// How often expired retained messages are looked for, while there are any that expire.
const SWEEP_INTERVAL: Duration = Duration::from_seconds(10);

impl Broker {
    /// Goes on with retained messages for new subscriptions, as far as the outbox and the window allow.
    pub(super) fn replay(&mut self, session: SessionId) {
        let Some(mut replay) = self.sessions[session].outgoing_mut().replays.pop_front() else { return };
        let found = self.collect(&mut replay);
        let is_over = found.1 == Walk::Over;
        let mut is_stopped = false;
        for message in found.0 {
            if !self.may_replay(session) {
                replay.position = Position::at(&message);
                is_stopped = true;
                break;
            }
            self.replay_one(session, &replay, &message);
        }
        let replays = &mut self.sessions[session].outgoing_mut().replays;
        if is_stopped || !is_over {
            replays.push_front(replay);
        }
        if !replays.is_empty() && !is_stopped {
            self.unfinished.push_back(session);
        }
    }

    /// The next retained messages of a subscription, a limited number of them.
    fn collect(&self, replay: &mut Replay) -> (Vec<Message>, Walk) {
        let mut found = Vec::new();
        let Ok(filter) = TopicFilter::new(&replay.pattern) else { return (found, Walk::Over) };
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

    /// Whether one more can be handed over now; if not, the outbox or an acknowledgement will bring us back.
    fn may_replay(&mut self, session: SessionId) -> bool {
        let Self { sessions, connections, limits, .. } = self;
        let state = &mut sessions[session];
        let Some(id) = state.connection() else { return false };
        connections[id].outbox.len() < limits.outbox_refill_bytes && state.outgoing_mut().may_begin()
    }

    fn replay_one(&mut self, session: SessionId, replay: &Replay, message: &Message) {
        let mut keepable = Keepable::kept(message);
        self.sender.encoder.begin();
        let identifier = replay.terms.identifier();
        let share = Share {
            qos: replay.terms.qos().min(keepable.publication.qos),
            // Retained messages for a new subscription keep the flag [MQTT-3.3.1-8 of 3.1.1].
            retain: true,
            identifiers: identifier.as_slice(),
            group: None,
        };
        if share.qos == QoS::AtMostOnce {
            self.deliver_at_most_once(session, &mut keepable, share);
        } else {
            self.begin(session, &mut keepable, share);
        }
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
        let walk = self.retained.expire(&mut position, self.now, RETAINED_EXAMINED_PER_CALL);
        if walk == Walk::Paused {
            self.sweep = Some(position);
            self.wheel.arm(self.now + Duration::from_milliseconds(1), Timer::Sweep);
        } else {
            self.sweep_later();
        }
    }
}
