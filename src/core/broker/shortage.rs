//! What the log says about messages that a limit refuses or drops: whose they are, and which limit it is.

use log::info;

use super::Broker;
use super::budget::Pressure;
use super::listener_options::limit;
use crate::base::escape::Escaped;
use crate::base::plural::Count;
use crate::core::limits::LITTLE_MEMORY;
use crate::core::message::{Message, Publication};
use crate::core::slots::{ConnectionId, SessionId};
use crate::protocol::topic::TopicName;

/// Why something that has to be stored is refused.
pub(super) const LITTLE_ROOM: &str = "there is too little room on disk";

impl Broker {
    /// Logs a PUBLISH that has no effect.
    #[cold]
    pub(super) fn log_refused_publish(&self, session: SessionId, publication: &Publication<'_>, why: &str) {
        let client = Escaped(&self.clients.sessions[session].client_identifier);
        let (topic, length) = (Escaped(publication.topic.as_str()), publication.payload.len());
        info!(target: "notice", "Refused PUBLISH from {client} ('{topic}', ... ({length} bytes)): {why}.");
    }

    /// Logs a message that is delivered without being retained, because its publisher cannot be told.
    #[cold]
    pub(super) fn log_not_retained(&self, publisher: Option<SessionId>, publication: &Publication<'_>) {
        let client = publisher.and_then(|session| self.clients.sessions.find(session));
        let client = Escaped(client.map_or("the broker", |session| &session.client_identifier));
        let (topic, why) = (Escaped(publication.topic.as_str()), self.why_not_retained(publication));
        info!(target: "notice", "A message from {client} to '{topic}' is delivered but not retained: {why}.");
    }

    /// Why a message cannot be retained.
    #[cold]
    pub(super) fn why_not_retained(&self, publication: &Publication<'_>) -> String {
        let limits = &self.options.limits;
        let bytes = Message::memory_of(publication);
        if self.retention.retained.has_room(publication.topic, bytes, limits) {
            return LITTLE_MEMORY.to_owned();
        }
        let (count, bytes) = (limit(limits.retained_count, "fixed"), Count(limits.retained_bytes, "byte"));
        format!("there are too many retained messages, {count}, and {bytes} (fixed)")
    }

    /// Logs a Will that is not stored for sessions, because it cannot wait any longer.
    #[cold]
    pub(super) fn log_lowered_will(&self, session: SessionId, topic: TopicName<'_>) {
        let client = Escaped(&self.clients.sessions[session].client_identifier);
        let topic = Escaped(topic.as_str());
        info!(target: "notice", "The Will of client {client} to '{topic}' is published with QoS 0: {LITTLE_ROOM}.");
    }

    /// Logs the first message that is dropped since the queue of a session was last empty.
    #[cold]
    pub(super) fn log_full_queue(&self, session: SessionId, topic: Option<TopicName<'_>>) {
        let state = &self.clients.sessions[session];
        let why = match () {
            () if self.pressure(0) >= Pressure::Keep => LITTLE_MEMORY.to_owned(),
            () if !self.persistence.has_room_for(session) => LITTLE_ROOM.to_owned(),
            () => {
                let is_bridge = self.options.is_bridge(&state.client_identifier);
                let keyword = if is_bridge { "bridge_max_queued_messages" } else { "max_queued_messages" };
                let limits = self.options.queue_limits(state.listener);
                let bytes = Count(limits.bytes, "byte");
                format!("{}, and {bytes} (max_queued_bytes)", limit(limits.length, keyword))
            }
        };
        self.log_dropped(session, topic, &why);
    }

    /// Logs the first QoS 0 message that is dropped since the socket of a client last took everything.
    #[cold]
    pub(super) fn log_slow_reader(
        &mut self,
        (id, session): (ConnectionId, SessionId),
        topic: TopicName<'_>,
        has_memory: bool,
    ) {
        if std::mem::replace(&mut self.connections[id].outbox.is_losing, true) {
            return;
        }
        let bytes = Count(self.options.limits.outbox_bytes, "byte");
        let why = match has_memory {
            true => format!("it reads too slowly, the limit is {bytes} for its socket (fixed)"),
            false => LITTLE_MEMORY.to_owned(),
        };
        self.log_dropped(session, Some(topic), &why);
    }

    fn log_dropped(&self, session: SessionId, topic: Option<TopicName<'_>>, why: &str) {
        let client = Escaped(&self.clients.sessions[session].client_identifier);
        let first =
            topic.map_or_else(String::new, |topic| format!(", first one to '{}'", Escaped(topic.as_str())));
        info!(target: "notice", "Outgoing messages are being dropped for client {client}{first}: {why}.");
    }
}
