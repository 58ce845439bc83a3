//! A disk that is nearly full: packets that need room are refused or wait, packets that free room are accepted, and
//! clients that need none are not affected. [`Record::need`](crate::core::journal::Record::need) tells what needs how
//! much.

use log::{info, warn};

use super::connect::is_of_moment;
use super::listener_options::{Claim, Refusal};
use super::shortage::LITTLE_ROOM;
use super::{Broker, Effect};
use crate::base::time::Time;
use crate::core::journal::{Need, Room, Urgency};
use crate::core::message::Publication;
use crate::core::session::Session;
use crate::core::slots::{ConnectionId, SessionId};
use crate::protocol::codec::{Connect, QoS, ReasonCode};

/// The persisted session that an accepted client had before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Former {
    /// No persisted session.
    Nothing,
    /// A persisted session that ends, or whose stored row changes.
    Other,
    /// A persisted session that goes on unchanged.
    Same,
}

impl Broker {
    /// Sets how much room the store has from now on. Clients whose messages were left unanswered while it accepted no
    /// new ones have to send them again, which they do on a new connection.
    pub fn set_storage_room(&mut self, room: Room, now: Time) {
        let _entered = self.account.enter();
        self.advance(now);
        let Some(journal) = &mut self.persistence.journal else { return };
        let before = journal.set_room(room);
        if before == room {
            return;
        }
        if before == Room::Enough {
            warn!("There is no room for new messages on disk: they are refused until there is room again.");
            // Packets that waited for their turn to be persisted are now refused, or need no room.
            self.effects.extend(journal.take_paused().into_iter().map(Effect::Resume));
        }
        match room {
            Room::Gone => {
                warn!("There is no room at all on disk: writes wait until there is room again.");
                self.release_withheld();
            }
            Room::Scarce => {}
            Room::Enough => self.go_on_with_room(),
        }
    }

    fn go_on_with_room(&mut self) {
        info!(target: "notice", "There is room on disk again.");
        let Some(journal) = &mut self.persistence.journal else { return };
        journal.hurry(Urgency::Lazy, self.clock.now);
        let (unanswered, roomless) = (journal.take_unanswered(), journal.take_roomless());
        for id in unanswered {
            if self.connections.find(id).is_some() {
                self.end(id, ReasonCode::ServerBusy, "its messages have to be sent again");
            }
        }
        for session in roomless {
            self.list_if_known(session);
        }
    }

    /// Whether a message of QoS 1 or 2 from the client of a session needs more room than the store has.
    pub(super) fn lacks_room(&mut self, session: SessionId, publication: &Publication<'_>) -> bool {
        if self.persistence.has_storage_room()
            || self.persistence.has_log()
            || publication.qos == QoS::AtMostOnce
            || self.clears(publication)
        {
            return false;
        }
        let is_exactly_once = publication.qos == QoS::ExactlyOnce && self.persistence.is_persisted(session);
        is_exactly_once || self.is_to_last(publication)
    }

    /// The same for a Will, which has no Packet Identifier to remember.
    pub(super) fn lacks_room_for_will(&mut self, publication: &Publication<'_>) -> bool {
        !self.persistence.has_storage_room()
            && !self.persistence.has_log()
            && publication.qos != QoS::AtMostOnce
            && !self.clears(publication)
            && self.is_to_last(publication)
    }

    /// Whether a Will has to wait because the journal is full, like packets that would add to it.
    pub(super) fn is_crowded_for_will(&mut self, publication: &Publication<'_>) -> bool {
        let is_full =
            self.persistence.journal.as_ref().is_some_and(|journal| journal.has_room() && journal.is_full());
        is_full && publication.qos != QoS::AtMostOnce && self.is_to_last(publication)
    }

    /// Whether a message is retained, or stored for a persisted session.
    fn is_to_last(&mut self, publication: &Publication<'_>) -> bool {
        let is_stored = publication.retain && !publication.topic.is_about_the_broker();
        is_stored || self.reaches_persisted(publication.topic)
    }

    /// Whether a message clears a topic: it frees about as much room as it and its copies take.
    fn clears(&self, publication: &Publication<'_>) -> bool {
        let clears = publication.retain && publication.payload.is_empty();
        clears && self.retention.retained.find(publication.topic).is_some()
    }

    /// Whether a retained message has to wait until there is room for the copy of a persisted session. If so, the
    /// session continues when there is.
    pub(super) fn must_wait_for_room(&mut self, session: SessionId, qos: QoS) -> bool {
        let must_wait = qos != QoS::AtMostOnce && !self.persistence.has_room_for(session);
        if must_wait && let Some(journal) = &mut self.persistence.journal {
            journal.wait_for_room(session);
        }
        must_wait
    }

    /// The QoS at which the operator wants a message to be delivered instead of its own. While there is no room on
    /// disk, a QoS 0 message is not raised to a QoS that has to be stored.
    #[cold]
    pub(super) fn raised_qos(&self, session: SessionId, granted: QoS, published: QoS) -> QoS {
        let is_free = published == QoS::AtMostOnce && !self.persistence.has_room_for(session);
        if is_free { published } else { granted }
    }

    /// Checks whether a CONNECT needs more room than there is.
    pub(super) fn check_room(&mut self, claim: &Claim<'_>, connect: &Connect<'_>) -> Result<(), Refusal> {
        let Some(journal) = &self.persistence.journal else { return Ok(()) };
        let room = journal.room();
        if self.persistence.has_log() || room.allows(Need::Room) {
            return Ok(());
        }
        let known =
            self.clients.find(&claim.client_identifier).filter(|&known| self.persistence.is_persisted(known));
        let outlives = self.granted_expiry(&claim.client_identifier, connect) > 0;
        if known.is_none() && outlives {
            return Err((ReasonCode::QuotaExceeded, LITTLE_ROOM.into()));
        }
        let is_written = outlives || known.is_some() && !connect.clean_start;
        let need = match known {
            Some(known) if is_written => {
                Need::of_row(row_bytes(claim, connect), stored_row_bytes(&self.clients.sessions[known]))
            }
            _ => self.need_of_will(connect),
        };
        if room.allows(need) {
            return Ok(());
        }
        Err((ReasonCode::QuotaExceeded, "there is too little room on disk for the Will".into()))
    }

    /// The room that the Will of a session that is not persisted needs when it is due.
    fn need_of_will(&mut self, connect: &Connect<'_>) -> Need {
        let Some(will) = connect.will.filter(|will| will.qos != QoS::AtMostOnce) else {
            return Need::Nothing;
        };
        let is_large = Need::of_row(will_bytes(connect), 0) == Need::Room;
        // A small one is published at QoS 0, if there is still no room.
        if is_large && (will.retain || self.reaches_persisted(will.topic)) {
            Need::Room
        } else {
            Need::Nothing
        }
    }

    /// Returns which persisted session the client of a CONNECT had before.
    pub(super) fn former(&self, claim: &Claim<'_>, connect: &Connect<'_>, id: ConnectionId) -> Former {
        let known =
            self.clients.find(&claim.client_identifier).filter(|&known| self.persistence.is_persisted(known));
        let Some(session) = known.map(|known| &self.clients.sessions[known]) else { return Former::Nothing };
        let is_same = !connect.clean_start
            && connect.will.is_none()
            && session.will.is_none()
            && session.expiry_interval == self.granted_expiry(&claim.client_identifier, connect)
            && session.user_name.as_deref() == claim.user_name
            && session.is_proved == claim.is_proved
            && session.listener == self.connections[id].listener;
        if is_same { Former::Same } else { Former::Other }
    }
}

/// The bytes that a CONNECT adds to the row of its session, beyond what every row has.
fn row_bytes(claim: &Claim<'_>, connect: &Connect<'_>) -> usize {
    claim.user_name.map_or(0, str::len) + will_bytes(connect)
}

fn will_bytes(connect: &Connect<'_>) -> usize {
    let Some(will) = &connect.will else { return 0 };
    let lasting = will.properties.encoded().filter(|(property, _)| !is_of_moment(property));
    let properties: usize = lasting.map(|(_, encoded)| encoded.len()).sum();
    will.topic.as_str().len() + will.payload.len() + properties
}

/// The bytes of this kind that the row has now.
fn stored_row_bytes(session: &Session) -> usize {
    let length = |will: Publication<'_>| {
        will.topic.as_str().len() + will.payload.len() + will.properties.bytes().len()
    };
    let will = session.will.as_ref().map_or(0, |will| length(will.message.publication()));
    session.user_name.as_deref().map_or(0, str::len) + will
}
