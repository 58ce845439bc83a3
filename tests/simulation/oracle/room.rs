//! A full disk: what cannot be persisted is refused, and the client is told if its version allows that.

use brooklet::base::time::Duration;
use brooklet::core::journal::{Need, Room};
use brooklet::core::slots::ConnectionId;
use brooklet::protocol::codec::{Connect, ProtocolVersion, QoS, ReasonCode};

use super::Oracle;
use super::routing::is_match;
use super::state::{Omission, Publication, Replay, Session, Will};

/// How soon a Will that has waited for space is published.
pub(super) const WILL_RETRY: Duration = Duration::from_milliseconds(1_000);

/// The fate of a message for which there may be no space.
pub(super) enum Admission {
    Taken,
    /// Refused for this reason.
    Refused(ReasonCode),
    /// A refusal cannot be expressed, so there is no answer.
    Unanswered,
    /// Accepted, unless an earlier message on the connection was left without an answer.
    PerhapsTaken,
}

impl Oracle {
    /// Sets how much space there is on disk.
    pub fn set_storage_room(&mut self, room: Room) {
        self.room = room;
        if room == Room::Gone {
            self.lines.values_mut().for_each(|line| line.is_loose |= line.needs_no_room);
        }
        if room == Room::Enough {
            self.respite = self.respite.max(self.now + WILL_RETRY);
        }
    }

    pub(super) const fn has_room(&self) -> bool {
        self.room.allows(Need::Room)
    }

    /// Whether there is space for what a CONNECT asks for.
    pub(super) fn has_room_for(
        &self,
        client: &str,
        connect: &Connect<'_>,
        expiry: u32,
        will: Option<&Will>,
    ) -> bool {
        let known = self.sessions.get(client).filter(|session| session.is_persistent);
        let bytes = will.map_or(0, Will::bytes);
        let is_written = expiry > 0 || known.is_some() && !connect.clean_start;
        let need = match known {
            None if expiry > 0 => Need::Room,
            Some(known) if is_written => Need::of_row(bytes, known.will.as_ref().map_or(0, Will::bytes)),
            _ => match will.map(|will| &will.publication) {
                Some(will)
                    if will.qos > QoS::AtMostOnce && bytes > Need::LITTLE_BYTES && self.is_to_last(will) =>
                {
                    Need::Room
                }
                _ => Need::Nothing,
            },
        };
        self.room.allows(need)
    }

    /// Whether what a client is told at its CONNECT stays true whatever happens to the disk.
    pub(super) fn needs_no_room(&self, client: &str, connect: &Connect<'_>, expiry: u32) -> bool {
        let known = self.sessions.get(client).filter(|session| session.is_persistent && !connect.clean_start);
        let is_same =
            |known: &Session| connect.will.is_none() && known.will.is_none() && known.expiry == expiry;
        expiry == 0 || known.is_some_and(is_same)
    }

    /// Whether a Will that is due has to wait for space.
    pub(super) fn lacks_room_for_will(&self, will: &Publication) -> bool {
        !self.has_room() && will.qos > QoS::AtMostOnce && !self.clears(will) && self.is_to_last(will)
    }

    /// Whether a message from this connection can be persisted, if it has to be. An uncertain one may be a repeat.
    pub(super) fn admit(
        &mut self,
        id: ConnectionId,
        publication: &Publication,
        is_uncertain: bool,
    ) -> Admission {
        let lacks_room = self.lacks_room(publication);
        let has_storage_room = self.has_room();
        let line = self.lines.get_mut(&id).expect("it is there");
        if line.omission == Omission::Perhaps && has_storage_room {
            // Otherwise the connection would have been closed when there was space again.
            line.omission = Omission::Never;
        }
        if publication.qos == QoS::AtMostOnce || !(lacks_room || line.omission != Omission::Never) {
            return Admission::Taken;
        }
        if line.version == ProtocolVersion::V5 {
            return Admission::Refused(ReasonCode::QuotaExceeded);
        }
        if line.omission == Omission::Perhaps && !lacks_room {
            return Admission::PerhapsTaken;
        }
        let omission = if is_uncertain { Omission::Perhaps } else { Omission::Certain };
        line.omission = line.omission.max(omission);
        Admission::Unanswered
    }

    fn lacks_room(&self, publication: &Publication) -> bool {
        let is_remembered =
            publication.qos == QoS::ExactlyOnce && self.sessions[&publication.publisher].is_persistent;
        !self.has_room() && !self.clears(publication) && (is_remembered || self.is_to_last(publication))
    }

    /// Clearing a topic frees space.
    fn clears(&self, publication: &Publication) -> bool {
        publication.retain && publication.payload.is_empty() && self.retained.contains_key(&publication.topic)
    }

    /// Whether a message is retained, or stored for a persisted session.
    fn is_to_last(&self, publication: &Publication) -> bool {
        let wants = |session: &Session| {
            session.is_persistent && session.subscriptions.keys().any(|filter| is_match(filter, publication))
        };
        publication.retain
            || self.sessions.values().any(wants)
            || self.groups.keys().any(|(_, filter)| is_match(filter, publication))
    }
}

impl Will {
    /// The bytes that it takes in the row of its session, in addition to those of every row.
    fn bytes(&self) -> usize {
        let Publication { topic, payload, properties, .. } = &self.publication;
        topic.len() + payload.len() + properties.len()
    }
}

impl Replay {
    /// Whether some of it would be persisted for its session.
    pub(super) fn has_weighty(&self) -> bool {
        let publications = self.owed.values().flat_map(|owed| &owed.acceptable);
        publications.flat_map(|publication| self.copies(publication)).any(|copy| copy.qos > QoS::AtMostOnce)
    }
}
