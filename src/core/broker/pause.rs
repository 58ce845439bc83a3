//! Packets that wait while too much waits to be persisted: only those that would add to it.

use std::rc::Rc;

use super::Broker;
use super::listener_options::mounted_name;
use crate::core::connection::State;
use crate::core::slots::{ConnectionId, SessionId};
use crate::protocol::codec::{Connect, Frame, Packet, ProtocolVersion, Publish, QoS, decode};
use crate::protocol::topic::TopicName;

/// The upper half of the first byte of the packets that may lead to records.
const CONNECT: u8 = 1;
const PUBLISH: u8 = 3;
const SUBSCRIBE: u8 = 8;
const UNSUBSCRIBE: u8 = 10;

impl Broker {
    /// Whether the packet of a connection has to wait until more has been persisted. If so, the connection is paused.
    ///
    /// Acknowledgements never have to wait, though they lead to records: they settle what takes more room.
    #[inline]
    pub(super) fn must_pause_for(&mut self, id: ConnectionId, frame: &Frame<'_>) -> bool {
        self.persistence.journal.as_ref().is_some_and(|journal| journal.is_full())
            && self.pauses_for(id, frame)
    }

    #[cold]
    fn pauses_for(&mut self, id: ConnectionId, frame: &Frame<'_>) -> bool {
        let (state, version) = (self.connections[id].state, self.connections[id].version);
        let must_wait = match (frame.first_byte >> 4, state) {
            (SUBSCRIBE | UNSUBSCRIBE, State::Serving(session)) => self.persistence.is_persisted(session),
            // It is refused, unless it is that of a bridge, which has nowhere else to go.
            (PUBLISH, State::Serving(session))
                if self.is_log_closed() && self.is_bridge_set_up(session).is_none() =>
            {
                false
            }
            (PUBLISH, State::Serving(session)) => match decode(frame, version) {
                Ok(Packet::Publish(publish)) => {
                    (self.persistence.has_log() || self.persistence.waits_to_be_persisted(id))
                        && self.is_to_be_persisted(id, session, &publish)
                }
                // An error in it is reported where the packet is processed.
                _ => false,
            },
            (CONNECT, State::Greeting) => match decode(frame, version) {
                Ok(Packet::Connect(connect))
                    if self.persistence.has_storage_room() && self.is_persisted_by(&connect) =>
                {
                    // If it waits in vain, it is answered in the form of its version.
                    let rules = Rc::clone(self.options.listeners.of(self.connections[id].listener));
                    self.negotiate(id, &connect, &rules);
                    true
                }
                _ => false,
            },
            _ => false,
        };
        if must_wait {
            self.connections[id].is_paused = true;
            self.stop_connect_timer(id);
            if let Some(journal) = &mut self.persistence.journal {
                journal.pause(id);
            }
        }
        must_wait
    }

    /// Whether a CONNECT changes what is persisted: its session outlives the connection, or replaces one that does.
    fn is_persisted_by(&self, connect: &Connect<'_>) -> bool {
        if self.persistence.has_log() {
            return false;
        }
        let outlives = match connect.properties.session_expiry_interval() {
            Some(interval) => interval > 0,
            None => !connect.clean_start && connect.version != ProtocolVersion::V5,
        };
        let known = self.clients.directory.find(connect.client_identifier, &self.clients.sessions);
        outlives || known.is_some_and(|known| self.persistence.is_persisted(known))
    }

    /// Whether a PUBLISH changes what is persisted: it goes into the log of the cluster, is retained, or waits for its PUBREL in a persisted session, or
    /// persisted sessions get it.
    fn is_to_be_persisted(&mut self, id: ConnectionId, session: SessionId, publish: &Publish<'_>) -> bool {
        let qos = publish.delivery.qos();
        let is_logged = self.persistence.has_log() && qos != QoS::AtMostOnce;
        if publish.retain || is_logged || qos == QoS::ExactlyOnce && self.persistence.is_persisted(session) {
            return true;
        }
        if qos == QoS::AtMostOnce
            && !self.options.switches.queues_at_most_once
            && !self.options.switches.raises_qos
        {
            return false;
        }
        let connection = &self.connections[id];
        let aliased = publish.properties.topic_alias().and_then(|alias| {
            connection.extension.as_ref().and_then(|extension| extension.inbound_aliases.topic(alias))
        });
        let Some(topic) = publish.topic.or(aliased) else { return false };
        let name = mounted_name(self.options.listeners.of(connection.listener), topic);
        let name = name.unwrap_or_else(|| topic.as_str().to_owned());
        TopicName::new(&name).is_ok_and(|topic| self.reaches_persisted(topic))
    }
}
