//! The end of connections by either side, the end of sessions, and the Wills that follow.

use log::info;

use super::authorize::allowed;
use super::{Broker, Effect, Fault, Grounds, Step};
use crate::base::escape::Escaped;
use crate::base::time::{Duration, Time};
use crate::core::access::Question;
use crate::core::connection::State;
use crate::core::journal::Urgency;
use crate::core::message::{Outbound, Publication};
use crate::core::session::{Presence, end_after};
use crate::core::slots::{ConnectionId, SessionId};
use crate::protocol::codec::{
    Disconnect, Packet, Properties, Property, PropertyBuffer, ProtocolVersion, QoS, ReasonCode,
};

use super::clock::Timer;

/// The pause before a Will is tried again if there was no room for it, in memory or on disk.
pub(super) const WILL_RETRY: Duration = Duration::from_milliseconds(100);
const WILL_RETRY_ON_DISK: Duration = Duration::from_milliseconds(1_000);

impl Broker {
    pub(super) fn handle_disconnect(
        &mut self,
        id: ConnectionId,
        session_id: SessionId,
        disconnect: &Disconnect<'_>,
    ) -> Result<Step, Fault> {
        if let Some(interval) = disconnect.properties.session_expiry_interval() {
            let is_fixed =
                self.connections[id].extension.as_ref().is_some_and(|extension| extension.expiry_is_fixed);
            if is_fixed && interval > 0 {
                return Err(Fault::protocol_error(
                    "a Session Expiry Interval after one of zero in the CONNECT",
                ));
            }
            self.clients.sessions[session_id].expiry_interval =
                interval.min(self.options.limits.session_expiry_maximum);
        }
        // Only 0x00 discards the Will [MQTT-3.14.4-3].
        let is_normal = disconnect.reason_code == ReasonCode::Success;
        let why = (!is_normal).then(|| format!("by the client, {}", disconnect.reason_code));
        self.detach(id, session_id, why.as_deref());
        self.begin_ending(id);
        self.effects.push_back(Effect::Drop(id));
        Ok(Step::Ended)
    }

    /// Ends a connection whose peer broke a rule. The peer is told why as far as its version allows [MQTT-4.13.1-1].
    pub(super) fn fail(&mut self, id: ConnectionId, fault: &Fault) {
        let Grounds { reason, what, detail } = &*fault.0;
        match detail.is_empty() {
            true => self.end(id, *reason, what),
            false => self.end_for(id, *reason, what, &format!("{what}, {detail}")),
        }
    }

    /// Ends a connection that the server cannot serve any longer, because its transport has failed. The peer is told as
    /// much as can still be sent; the connection ends by [`Effect::Close`].
    pub fn abandon(&mut self, id: ConnectionId, why: &str, now: Time) {
        let _entered = self.account.enter();
        self.advance(now);
        if self.connections.find(id).is_some() {
            self.end(id, ReasonCode::ProtocolError, why);
        }
    }

    /// Ends a connection from the server's side, with DISCONNECT and its reason where 5.0 allows it [MQTT-3.14.0-1].
    pub(super) fn end(&mut self, id: ConnectionId, reason: ReasonCode, what: &str) {
        self.end_for(id, reason, what, what);
    }

    /// Like [`Broker::end`], with another text for the log than the one that the client is told.
    fn end_for(&mut self, id: ConnectionId, reason: ReasonCode, what: &str, logged: &str) {
        // A client whose authentication has begun has said who it is.
        let is_known = self.connections[id].authentication().is_some();
        let who = is_known.then(|| self.waiting_applicant(id)).flatten().unwrap_or_default();
        let connection = &mut self.connections[id];
        if connection.state != State::Ending && reason == ReasonCode::QuotaExceeded {
            self.output.statistics.refused += 1;
        }
        match connection.state {
            State::Ending => return,
            State::Greeting => {
                info!(target: "connection", "Client {} disconnected: {}.{who}", connection.peer(), Escaped(logged))
            }
            State::Serving(session) => {
                if connection.version == ProtocolVersion::V5 {
                    self.send_disconnect(id, reason, what);
                }
                self.detach(id, session, Some(logged));
            }
        }
        self.end_output(id);
    }

    /// Ends a connection after its last packet: the outbox is still written, and the peer has a while to close.
    pub(super) fn end_output(&mut self, id: ConnectionId) {
        self.begin_ending(id);
        self.arm_connection(id, Some(self.options.limits.linger));
        self.effects.push_back(Effect::Close(id));
    }

    fn send_disconnect(&mut self, id: ConnectionId, reason: ReasonCode, what: &str) {
        let mut properties = PropertyBuffer::default();
        properties.push(Property::ReasonString(what));
        for properties in [properties.properties(), Properties::default()] {
            let disconnect = Packet::Disconnect(Disconnect { reason_code: reason, properties });
            // The reason is left out rather than exceed the client's limit [MQTT-3.14.2-3].
            if self.output.sender.packet(&mut self.connections[id], "client", &disconnect).is_ok() {
                return;
            }
        }
    }

    /// Detaches a session from its connection. `why` is `None` if the end is normal: the Will is discarded then
    /// [MQTT-3.1.2-10]. After any other end the Will is due when its delay or the session is over [MQTT-3.1.2-8].
    pub(super) fn detach(&mut self, id: ConnectionId, session_id: SessionId, why: Option<&str>) {
        let peer = self.connections[id].peer();
        self.detach_operation(id, session_id);
        self.disarm_session(session_id);
        let session = &mut self.clients.sessions[session_id];
        let client = Escaped(&session.client_identifier);
        match why {
            None => info!(target: "connection", "Client {client} [{peer}] disconnected."),
            Some(why) => {
                info!(target: "connection", "Client {client} [{peer}] disconnected: {}.", Escaped(why))
            }
        }
        self.output.sender.queue_at_most_once(&mut self.connections[id], false);
        self.clients.connected -= 1;
        self.tell_nodes_of_end(id);
        self.begin_absence(session_id, why);
        self.notify_groups(session_id);
        if self.clients.sessions[session_id].expiry_interval == 0 {
            self.end_session(session_id);
            return;
        }
        self.move_shared(session_id);
        self.persist_away(session_id);
        self.wait_for_return(session_id);
    }

    /// Notes in a session that its client has gone, and when the session ends and its Will is due.
    fn begin_absence(&mut self, session_id: SessionId, why: Option<&str>) {
        let session = &mut self.clients.sessions[session_id];
        let ends = end_after(session.expiry_interval, self.clock.now);
        session.presence = Presence::Away { ends };
        if why.is_none() {
            session.will = None;
        }
        if let Some(will) = &mut session.will {
            will.due = ends.min(self.clock.now + will.delay);
        }
        self.bridge_is_away(session_id);
        self.clients.sessions[session_id].shrink();
    }

    /// Does what is due for a session without a connection, and sets the timer for what is due next.
    pub(super) fn wait_for_return(&mut self, session_id: SessionId) {
        let session = &mut self.clients.sessions[session_id];
        let Presence::Away { ends } = session.presence else { return };
        if ends <= self.clock.now {
            self.expire_session(session_id);
            return;
        }
        let due = session.will.as_ref().map_or(Time::NEVER, |will| will.due);
        let due = match due <= self.clock.now {
            false => due.min(ends),
            true if self.publish_will(session_id) => ends,
            true if self.persistence.has_storage_room() => ends.min(self.clock.now + WILL_RETRY),
            true => ends.min(self.clock.now + WILL_RETRY_ON_DISK),
        };
        if due != Time::NEVER {
            let timer = self.clock.wheel.arm(due, Timer::Session(session_id));
            self.clients.sessions[session_id].timer = Some(timer);
        }
    }

    fn expire_session(&mut self, session_id: SessionId) {
        self.output.statistics.sessions_expired += 1;
        self.end_session(session_id);
    }

    /// Publishes the Will of a session, if there is one and its client may still publish it. Returns false if the Will
    /// has to wait, because too many messages without a connection are being distributed, or because there is no room
    /// on disk for what has to be stored of it. After the end of its session a Will cannot wait for the disk: then it
    /// goes at QoS 0 to connected clients.
    pub(super) fn publish_will(&mut self, session_id: SessionId) -> bool {
        let is_over = self.clients.sessions[session_id].presence == Presence::Over;
        self.publish_will_or_wait(session_id, |broker, publication| {
            if !broker.lacks_room_for_will(publication) {
                return !broker.is_crowded_for_will(publication);
            }
            if is_over {
                broker.log_lowered_will(session_id, publication.topic);
            }
            publication.qos = QoS::AtMostOnce;
            is_over
        })
    }

    /// Publishes a Will in the last turn of the broker. It waits only for the disk, and only if it is in the store.
    pub(super) fn publish_last_will(&mut self, session_id: SessionId) {
        let is_persisted = self.persistence.is_persisted(session_id);
        self.publish_will_or_wait(session_id, |broker, publication| {
            if !broker.lacks_room_for_will(publication) {
                return true;
            }
            if !is_persisted {
                broker.log_lowered_will(session_id, publication.topic);
            }
            publication.qos = QoS::AtMostOnce;
            !is_persisted
        });
    }

    /// Publishes a Will unless `may_go` returns false; `may_go` may lower its QoS.
    fn publish_will_or_wait(
        &mut self,
        session_id: SessionId,
        may_go: impl FnOnce(&mut Self, &mut Publication<'_>) -> bool,
    ) -> bool {
        let Some(will) = self.clients.sessions[session_id].will.take() else { return true };
        let stored = will.message.publication();
        let expires = match stored.expires {
            Time::NEVER => Time::NEVER,
            span => self.clock.now + span.since(Time::ZERO),
        };
        let mut publication = Publication { expires, ..stored };
        let is_done = may_go(self, &mut publication)
            && (!self.may_publish_will(session_id, &publication)
                || self.publish_as_will(session_id, publication));
        if !is_done {
            self.clients.sessions[session_id].will = Some(will);
            return false;
        }
        self.persist_session(session_id, Urgency::Lazy);
        true
    }

    fn publish_as_will(&mut self, session_id: SessionId, publication: Publication<'_>) -> bool {
        if self.is_for_log(&publication) {
            self.log(&mut Outbound::new(publication));
            return true;
        }
        let is_done = self.publish_unlinked(&mut Outbound::new(publication), Some(session_id));
        if is_done {
            self.tell_nodes(&publication);
        }
        is_done
    }

    /// Whether the Will may be published. Asked again, because the client may have lost the right since its CONNECT. A
    /// decision that would come later counts as a refusal.
    fn may_publish_will(&mut self, session_id: SessionId, publication: &Publication<'_>) -> bool {
        let question =
            Question::Publish { topic: publication.topic, qos: publication.qos, retain: publication.retain };
        allowed(self.ask_about(session_id, question)).is_some()
    }

    pub(super) fn disarm_session(&mut self, session_id: SessionId) {
        if let Some(timer) = self.clients.sessions[session_id].timer.take() {
            self.clock.wheel.cancel(timer);
        }
    }
}
