//! A full disk: what can not be kept is not taken, and its client is told so as far as its version can say it.

use brooklet::codec::{ProtocolVersion, QoS, ReasonCode};
use brooklet::slots::ConnectionId;

use super::Oracle;
use super::routing::is_match;
use super::state::{Omission, Publication, Session};

/// What becomes of a message that there may be no room for.
pub(super) enum Admission {
    Taken,
    /// Refused for this reason.
    Refused(ReasonCode),
    /// There is no word for a refusal, so there is no answer.
    Unanswered,
    /// Taken, unless one before it on the connection was left without an answer.
    PerhapsTaken,
}

impl Oracle {
    /// There is room on disk, or none.
    pub fn set_storage_room(&mut self, has_room: bool) {
        self.has_storage_room = has_room;
    }

    /// Whether a message from this connection can be kept, if it has to be. One that is uncertain may be a repeat.
    pub(super) fn admit(
        &mut self,
        id: ConnectionId,
        publication: &Publication,
        is_uncertain: bool,
    ) -> Admission {
        let lacks_room = self.lacks_room(publication);
        let has_storage_room = self.has_storage_room;
        let line = self.lines.get_mut(&id).expect("it is there");
        if line.omission == Omission::Perhaps && has_storage_room {
            // Otherwise it would have ended when there was room again.
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
        let wants = |session: &Session| {
            session.is_kept && session.subscriptions.keys().any(|filter| is_match(filter, publication))
        };
        let is_remembered =
            publication.qos == QoS::ExactlyOnce && self.sessions[&publication.publisher].is_kept;
        let clears = publication.retain && publication.payload.is_empty();
        // What clears a topic makes room.
        if self.has_storage_room || clears && self.retained.contains_key(&publication.topic) {
            return false;
        }
        publication.retain
            || is_remembered
            || self.sessions.values().any(wants)
            || self.groups.keys().any(|(_, filter)| is_match(filter, publication))
    }
}
