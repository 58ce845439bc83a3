//! Timers: what the broker does when time has passed.
//!
//! A peer is not blamed for input that the broker has not read:
//!
//! - Before a connection ends because its peer was silent (no CONNECT, no packet within one and a half times the Keep
//!   Alive, no end after the broker's last packet), what the peer has sent is read: [`Effect::Listen`] asks for that,
//!   and [`Broker::heard_out`] is the answer. However much is unread, and however late this turn is, the peer's packets
//!   count before its silence does.
//! - When the broker was held up (its process was stopped, the machine slept, a disk stalled), all timers stand still
//!   for as long as that took, but at most for [`RESPITE`]: peers that waited for an answer can go on, and clients that
//!   wait to be accepted find their sessions and Wills unchanged. What is really due fires after that.

use super::clock::{Respite, Timer};
use super::turn::steps;
use super::waiting::Kind;
use super::watch::Part;
use super::{Broker, Effect};
use crate::base::time::{Duration, Time};
use crate::core::connection::State;
use crate::core::session::Presence;
use crate::core::slots::{ConnectionId, SessionId};
use crate::protocol::codec::ReasonCode;

/// The interval at which the progress of an incomplete packet is checked.
const PROGRESS_INTERVAL: Duration = Duration::from_seconds(1);

/// The longest time that timers stand still after the broker was held up.
const RESPITE: Duration = Duration::from_seconds(5);
/// How often that time is extended because the broker was held up again. A machine that is always too slow must end
/// connections at last.
const PROLONGED_MAXIMUM: u8 = 8;

impl Broker {
    /// Lets time pass and ends a turn. Fires at most `budget` timers that are due; [`Broker::next_deadline`] tells
    /// whether more are. Then continues with work that earlier turns have left; [`Broker::has_work`] tells whether more
    /// is left.
    pub fn tick(&mut self, now: Time, budget: usize) {
        let _entered = self.account.enter();
        self.tick_in_parts(now, budget, |_, _| ());
    }

    /// Like [`Broker::tick`], and calls `watch` after each part of the turn.
    pub fn tick_in_parts(&mut self, now: Time, budget: usize, mut watch: impl FnMut(&mut Self, Part)) {
        let _entered = self.account.enter();
        self.advance(now);
        self.count();
        self.watch_peak();
        self.watch_memory();
        self.drop_outdated_if_due();
        self.take_timers(budget);
        watch(self, Part::Timers);
        while self.has_more() && self.turn.may_go_on() {
            let part = self.go_on_next();
            watch(self, part);
        }
        self.turn.end();
    }

    /// Continues with the next kind of work, if there is any of it. Returns which part of the turn it was.
    fn go_on_next(&mut self) -> Part {
        let next = self.waiting.connections.front().copied();
        let kind = self.waiting.next_kind();
        match kind {
            Kind::Connection => self.go_on_connection(),
            Kind::Answers => self.go_on_answers(),
            Kind::Session => self.go_on_session(),
            Kind::Unlinked => self.go_on_unlinked(),
            Kind::Ending => self.go_on_ending(),
            Kind::Moving => self.go_on_moving(),
            Kind::Notifying => self.go_on_notifying(),
            Kind::Tightening => self.go_on_tightening(),
        }
        match next.filter(|_| kind == Kind::Connection) {
            Some(id) => Part::Connection(id),
            None => Part::Rest,
        }
    }

    /// Whether any work waits for a later turn.
    pub(super) fn has_more(&self) -> bool {
        self.waiting.is_waiting() || self.routing.trie.is_loose()
    }

    /// Releases memory of removed subscriptions.
    fn go_on_tightening(&mut self) {
        self.turn.begin_share(1);
        let tightened = self.routing.trie.tighten(self.turn.left() * steps::TIGHTENED_PER_STEP);
        self.turn.take(tightened / steps::TIGHTENED_PER_STEP);
        // The next turn may be far off.
        self.count();
    }

    /// Reports that the caller was held up: for this much of the time before `now`, it has read no bytes and accepted
    /// no connections.
    pub fn held_up(&mut self, time: Duration, now: Time) {
        let _entered = self.account.enter();
        let was_over = self.clock.respite.ends <= self.clock.now;
        self.advance(now);
        let Respite { prolonged, .. } = self.clock.respite;
        if was_over || prolonged < PROLONGED_MAXIMUM {
            let prolonged = if was_over { 0 } else { prolonged + 1 };
            self.clock.respite =
                Respite { began: self.clock.now, ends: self.clock.now + time.min(RESPITE), prolonged };
        }
    }

    fn take_timers(&mut self, budget: usize) {
        if self.clock.now < self.clock.respite.ends {
            return;
        }
        for _ in 0..budget {
            if !self.turn.takes_timers() {
                return;
            }
            let Some(timer) = self.clock.wheel.expire(self.clock.now) else { return };
            self.turn.begin_share(1);
            self.turn.take(steps::PACKET);
            match timer {
                Timer::Connection(id) => self.connection_is_due(id),
                Timer::Session(id) => self.session_is_due(id),
                Timer::Sweep => self.sweep(),
                Timer::System => self.system_is_due(),
                Timer::Peak => self.forget_peak(),
                Timer::Endings => self.endings_are_due(),
                Timer::Legacies => self.legacies_are_due(),
            }
        }
    }

    /// Handles the timer of a connection: the peer's time is over, unless it was heard since or the broker does not
    /// read from it.
    fn connection_is_due(&mut self, id: ConnectionId) {
        self.connections[id].timer = None;
        if let Some(session) = self.connections[id].session() {
            // Memory left from a burst is released on this occasion; a busy session allocates it again.
            self.clients.sessions[session].shrink();
        }
        if self.waits_for_admission(id) {
            // Its input need not be read: it is the broker that is late.
            self.connect_is_due(id);
        } else if self.seems_silent(id) {
            self.effects.push_back(Effect::Listen(id));
        }
    }

    /// Answers [`Effect::Listen`]: everything that the peer of this connection has sent was handed over, or as much as
    /// the core takes for now. From here on, its silence counts.
    pub fn heard_out(&mut self, id: ConnectionId, now: Time) {
        let _entered = self.account.enter();
        self.advance(now);
        // With a timer, the peer has got more time, for its packets or because the connection is ending.
        let is_due = self.connections.find(id).is_some_and(|connection| connection.timer.is_none());
        if !is_due || !self.seems_silent(id) {
            return;
        }
        let connection = &mut self.connections[id];
        match connection.state {
            State::Greeting => self.connect_is_due(id),
            State::Ending => self.effects.push_back(Effect::Drop(id)),
            State::Serving(_) => self.judge_silence(id),
        }
    }

    /// Whether the time of a connection's peer is over; if not, the timer is armed again. A peer that is not read from
    /// cannot show that it is alive, so its time begins again.
    fn seems_silent(&mut self, id: ConnectionId) -> bool {
        let connection = &self.connections[id];
        let left = match connection.state {
            State::Ending | State::Greeting => return true,
            State::Serving(_) => {
                let Some(allowed) = connection.silence_allowed() else { return false };
                let deadline = connection.last_heard + allowed;
                match connection.is_paused {
                    true => allowed,
                    false if self.clock.now < deadline => deadline.since(self.clock.now),
                    false => return true,
                }
            }
        };
        self.arm_connection(id, Some(left));
        false
    }

    /// Ends a connection after one and a half times the Keep Alive without a complete packet [MQTT-3.1.2-22], unless an
    /// incomplete one grows by at least 1 KiB a second, not counting time for which the broker was held up.
    fn judge_silence(&mut self, id: ConnectionId) {
        let connection = &mut self.connections[id];
        let heard = connection.last_heard.max(self.clock.respite.began);
        if connection.inbox.has_progressed(heard, self.clock.now) {
            self.arm_connection(id, Some(PROGRESS_INTERVAL));
            return;
        }
        self.end(id, ReasonCode::KeepAliveTimeout, "exceeded timeout");
    }

    fn session_is_due(&mut self, id: SessionId) {
        let session = &mut self.clients.sessions[id];
        session.timer = None;
        match session.presence {
            Presence::Connected(_) if session.outgoing.is_some() => self.retry(id),
            Presence::Connected(_) => {}
            Presence::Away { .. } => self.wait_for_return(id),
            Presence::Over => {}
        }
    }

    /// Prepares the end of the broker: every client is told where its version allows it [MQTT-4.13.2-1]. Before that,
    /// Wills are published while their subscribers are still connected, including delayed ones, unless their sessions
    /// are persisted and so do not end.
    pub fn shut_down(&mut self, now: Time) {
        let _entered = self.account.enter();
        self.advance(now);
        // No later turn comes to which work could be left.
        self.turn.set_budget(usize::MAX / 2);
        // A Will comes after the other messages of its client.
        while !self.waiting.unlinked.is_empty() {
            self.go_on_unlinked();
        }
        self.turn.begin_share(1);
        self.publish_last_wills();
        let connections: Vec<ConnectionId> = self.connections.iter().map(|(id, _)| id).collect();
        for id in connections {
            self.end(id, ReasonCode::ServerShuttingDown, "the server is shutting down");
        }
    }

    fn publish_last_wills(&mut self) {
        let sessions: Vec<SessionId> = self.clients.sessions.iter().map(|(id, _)| id).collect();
        for session in sessions {
            let will = self.clients.sessions[session].will.as_ref();
            let is_delayed = will.is_some_and(|will| will.delay > Duration::ZERO);
            if !(is_delayed && self.persistence.is_persisted(session)) {
                self.publish_last_will(session);
            }
        }
    }
}
