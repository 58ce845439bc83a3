//! The ends of connections and sessions, and their Wills.

use brooklet::base::time::{Duration, Time};
use brooklet::core::broker::Effect;
use brooklet::core::slots::ConnectionId;
use brooklet::protocol::codec::{QoS, ReasonCode};

use super::Oracle;
use super::room::WILL_RETRY;
use super::routing::split;
use super::state::{Answer, Copy, Omission, Progress, Publication, Will};

impl Oracle {
    pub(super) fn will(&mut self, client: &str, will: &brooklet::protocol::codec::Will<'_>) -> Will {
        let (properties, interval) = split(will.properties);
        let publication = Publication {
            number: 0,
            publisher: client.to_owned(),
            topic: will.topic.as_str().to_owned(),
            payload: will.payload.to_vec(),
            qos: will.qos,
            retain: will.retain,
            properties,
            interval,
            expires: Time::NEVER,
            published: self.now,
        };
        let delay = will.properties.will_delay_interval().unwrap_or(0);
        Will { publication, delay, due: Time::NEVER, tried_again: Time::ZERO }
    }

    /// The core ends this connection. If the oracle does not expect that, there must be a reason.
    pub fn ends(&mut self, effect: Effect) {
        let (Effect::Close(id) | Effect::Drop(id)) = effect else { return };
        let has_room = self.has_room();
        let Some(line) = self.lines.get_mut(&id) else { return };
        let silence = self.now.since(line.last_heard).milliseconds();
        let was_heard_out = self.listening == Some(id);
        match line.progress {
            Progress::Ending(_) => {}
            Progress::Greeting => {
                let waited = self.now.since(line.opened);
                line.progress = Progress::Ending(None);
                if matches!(effect, Effect::Drop(_)) {
                    let has_no_time = waited >= self.limits.connect_timeout;
                    assert!(has_no_time && was_heard_out, "{id:?} had still time for its CONNECT");
                    return;
                }
                assert!(waited >= self.limits.admission_wait, "{id:?} could have waited longer");
                line.version = line.wanted_version();
                self.owe(id, Answer::ConnAck { is_present: false, is_refused: true });
            }
            Progress::Serving => {
                let allowed = u64::from(line.keep_alive) * 1500;
                let client = &line.client;
                let is_unanswered = line.omission != Omission::Never && has_room;
                let was_silent = line.keep_alive > 0 && silence >= allowed && !line.is_paused;
                assert!(
                    is_unanswered || was_silent && was_heard_out,
                    "the broker ends {client:?} without a reason"
                );
                let reason =
                    if is_unanswered { ReasonCode::ServerBusy } else { ReasonCode::KeepAliveTimeout };
                self.depart(id, false);
                let line = self.lines.get_mut(&id).expect("it is closed later");
                line.progress = Progress::Ending(Some(reason));
            }
        }
    }

    /// The connection has closed.
    pub fn closed(&mut self, id: ConnectionId) {
        if self.lines.get(&id).is_some_and(|line| line.serves().is_some()) {
            self.depart(id, false);
        }
        self.lines.remove(&id);
    }

    /// Time has passed: Wills become due, then sessions end; first those of the clients in `first`, in this order.
    /// `has_will` returns whether the broker still has a client's session and its Will: then its turn has not come.
    pub fn pass(&mut self, first: &[String], has_will: impl Fn(&str) -> Option<bool>) {
        let clients: Vec<String> = first.iter().chain(self.sessions.keys()).cloned().collect();
        for client in clients {
            let Some(session) = self.sessions.get(&client) else { continue };
            if session.connection.is_some() {
                continue;
            }
            if session.ends <= self.now && has_will(&client).is_none() {
                self.end_session(&client);
            } else if session.will.as_ref().is_some_and(|will| will.due <= self.now)
                && has_will(&client) != Some(true)
            {
                self.publish_will(&client);
            }
        }
    }

    /// Checks that everything due has been done in time.
    pub fn check_passed(&mut self) {
        self.note_waiting_wills();
        if self.now < self.respite {
            return;
        }
        for (client, session) in self.sessions.iter().filter(|(_, session)| session.connection.is_none()) {
            let is_due = |will: &Will| will.due <= self.now && will.tried_again <= self.now;
            assert!(!session.will.as_ref().is_some_and(is_due), "the Will of {client} is late");
            assert!(session.ends > self.now, "the session of {client} is over");
        }
    }

    /// Wills that are due and lack space are tried again a little later, even if there is space sooner.
    fn note_waiting_wills(&mut self) {
        let lacks_room = |will: &Will| will.due <= self.now && self.lacks_room_for_will(&will.publication);
        let waiting: Vec<String> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.connection.is_none())
            .filter(|(_, session)| session.will.as_ref().is_some_and(lacks_room))
            .map(|(client, _)| client.clone())
            .collect();
        let tried_again = self.now + WILL_RETRY;
        for client in waiting {
            if let Some(will) = &mut self.session(&client).will {
                will.tried_again = tried_again;
            }
        }
    }

    /// Ends the connection of a client.
    pub(super) fn depart(&mut self, id: ConnectionId, is_normal: bool) {
        let line = self.lines.get_mut(&id).expect("it is open");
        let client = line.client.clone().expect("it serves a client");
        let (maximum, version) = (line.maximum_packet_size, line.version);
        let weak = std::mem::take(&mut line.at_most_once);
        let weak: Vec<Copy> = weak.into_iter().filter(|copy| self.is_open(copy.publication.number)).collect();
        let now = self.now;
        let session = self.sessions.get_mut(&client).expect("a connected client has a session");
        session.connection = None;
        session.adrift.extend(weak.into_iter().map(|copy| Copy { is_optional: true, ..copy }));
        let lifetime = Duration::from_seconds(u64::from(session.expiry));
        session.ends = if session.expiry == u32::MAX { Time::NEVER } else { now + lifetime };
        for copy in &mut session.pending {
            // The contents of the outbox are lost: they come again, as a repeat. Or the copy was too large and is
            // done.
            copy.may_be_repeat = true;
            copy.is_optional |= copy.length(version) > maximum;
        }
        for replay in &mut session.replays {
            replay.may_be_repeat = true;
            replay.give_up_weak(version, maximum);
        }
        for flight in session.in_flight.values_mut() {
            let is_too_large = flight.line != Some(id) && flight.copy.length(version) > maximum;
            flight.copy.is_optional |= is_too_large;
            flight.line = None;
        }
        if is_normal {
            session.will = None;
        }
        if let Some(will) = &mut session.will {
            let delay = Duration::from_seconds(u64::from(will.delay));
            will.due = (now + delay).min(session.ends);
        }
        let expiry = session.expiry;
        let due = session.will.as_ref().filter(|will| will.due <= now).map(|will| will.publication.clone());
        if expiry == 0 {
            self.end_session(&client);
        } else if due.is_some_and(|will| !self.lacks_room_for_will(&will)) {
            self.publish_will(&client);
        }
    }

    fn publish_will(&mut self, client: &str) {
        let session = self.sessions.get_mut(client).expect("it is there");
        let Some(will) = session.will.take() else { return };
        let number = self.number();
        let expires = self.expiry(will.publication.interval);
        let publication = Publication { number, expires, published: self.now, ..will.publication };
        self.publish(publication, false, false);
    }

    /// Ends the session; its Will is published now, if it has one.
    pub(super) fn end_session(&mut self, client: &str) {
        let session = self.session(client);
        let is_persistent = session.is_persistent;
        if let Some(will) = session.will.as_ref().map(|will| will.publication.clone())
            && self.lacks_room_for_will(&will)
            && let Some(will) = &mut self.session(client).will
        {
            // It cannot wait any longer.
            will.publication.qos = QoS::AtMostOnce;
        }
        self.publish_will(client);
        let memberships: Vec<(String, String)> = self
            .groups
            .iter()
            .filter(|(_, group)| group.members.contains_key(client))
            .map(|(key, _)| key.clone())
            .collect();
        for key in memberships {
            self.leave(client, &key);
        }
        self.sessions.remove(client);
        self.forward(client, is_persistent);
    }

    /// Ends a membership; returns whether there was one.
    pub(super) fn leave(&mut self, client: &str, key: &(String, String)) -> bool {
        let Some(group) = self.groups.get_mut(key) else { return false };
        let was_there = group.members.remove(client).is_some();
        if group.members.is_empty() {
            let number = group.number;
            self.groups.remove(key);
            self.end_group(key, number);
        }
        was_there
    }

    /// Handles the messages of groups after the end of a session that could have them: those that are queued, or not
    /// acknowledged at QoS 1, go to other members; a QoS 2 delivery that has begun goes to no one else [MQTT-4.8.2-5].
    fn forward(&mut self, client: &str, is_persistent: bool) {
        // It is in the memory of a session that is not persisted, and another member may have no room for it.
        let is_droppable = !is_persistent && !self.has_room();
        let Self { shared, groups, .. } = self;
        for shared in shared.iter_mut().filter(|shared| shared.candidates.contains_key(client)) {
            let has_others = groups.values().any(|group| group.number == shared.group);
            let is_exact = shared.publication.qos == QoS::ExactlyOnce
                && shared.candidates[client].iter().any(|terms| terms.qos == QoS::ExactlyOnce);
            match &shared.holder {
                Some((holder, qos)) if holder == client && *qos == QoS::AtLeastOnce && !shared.is_settled => {
                    shared.holder = None;
                    shared.is_optional = true;
                }
                Some(_) => {}
                None => shared.is_optional |= !has_others || is_exact || is_droppable,
            }
            shared.candidates.remove(client);
        }
    }
}
