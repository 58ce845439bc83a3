//! Shared Subscriptions: the choice of the member that gets a message.

use super::Broker;
use super::authorize::may_receive;
use super::budget::Pressure;
use super::deliver::DeliveryOptions;
use crate::core::message::{Message, Outbound, Publication};
use crate::core::session::{Outgoing, Presence, Reading};
use crate::core::shared_subscription::{Choice, Readiness, Search};
use crate::core::slots::{ConnectionId, SessionId};
use crate::core::subscription::GroupId;
use crate::protocol::codec::QoS;

/// A member of a group whose message goes to another member.
#[derive(Clone, Copy)]
pub(super) struct Leaving {
    /// `None` if its session ended in an earlier run.
    pub(super) session: Option<SessionId>,
    /// Whether the store has the message.
    pub(super) is_stored: bool,
}

/// What is wanted of the member of a group that gets a message.
struct Wanted {
    /// The member that the message leaves.
    other_than: Option<SessionId>,
    /// Whether its session must not be persisted: the copy would take room on disk, and there is none.
    is_not_persisted: bool,
    /// Whether its client must be connected.
    is_connected: bool,
    /// How ready a member counts as that may not receive the message.
    barred: Readiness,
    /// The bytes of the message in memory.
    memory: usize,
    /// Whether there is memory for a message that waits.
    may_wait: bool,
}

impl Broker {
    /// Delivers a message to the member of a Shared Subscription whose turn it is, however many have to be considered.
    pub(super) fn deliver_to_group(&mut self, id: GroupId, outbound: &mut Outbound<'_>) -> Option<bool> {
        let mut search = Search::default();
        let choice = self.choose_member(id, &outbound.publication, None, (&mut search, usize::MAX));
        self.deliver_to_chosen(id, choice, outbound)
    }

    /// Chooses the member of a group whose turn it is, other than the one that is `leaving`. Considers at most `most`
    /// members.
    pub(super) fn choose_member(
        &mut self,
        id: GroupId,
        publication: &Publication<'_>,
        leaving: Option<Leaving>,
        (search, most): (&mut Search, usize),
    ) -> Choice {
        let wanted = self.wanted(publication, leaving);
        // The readiness of members does not depend on groups, so the groups can be moved out of the broker.
        let mut groups = std::mem::take(&mut self.routing.groups);
        let found = groups.find_mut(id).map(|group| {
            group.choose(search, most, |member| self.readiness(member.session, publication, &wanted))
        });
        self.routing.groups = groups;
        let Some((choice, looks)) = found else { return Choice::Gone };
        self.turn.take(looks);
        choice
    }

    #[inline]
    fn wanted(&self, publication: &Publication<'_>, leaving: Option<Leaving>) -> Wanted {
        let session = leaving.and_then(|leaving| leaving.session);
        Wanted {
            other_than: session,
            // A copy that a member had in memory takes room on disk if it goes to a persisted session. For new
            // messages, the room has been checked already.
            is_not_persisted: leaving.is_some_and(|leaving| !leaving.is_stored)
                && !self.persistence.has_storage_room(),
            // Where the message can stay, a disconnected member is no better than the one that it leaves.
            is_connected: session.is_some_and(|leaving| self.clients.is_there(leaving)),
            // No member may have this message: one that leaves a member is dropped, a new one is refused.
            barred: if leaving.is_some() { Readiness::Gone } else { Readiness::Full },
            memory: Message::memory_of(publication),
            may_wait: self.pressure(0) < Pressure::Keep,
        }
    }

    /// How ready a member is to take a message.
    #[inline]
    fn readiness(&mut self, id: SessionId, publication: &Publication<'_>, wanted: &Wanted) -> Readiness {
        let session = &self.clients.sessions[id];
        if session.presence == Presence::Over || wanted.other_than == Some(id) {
            return Readiness::Gone;
        }
        let connection = session.connection();
        if wanted.is_not_persisted && self.persistence.is_persisted(id)
            || wanted.is_connected && connection.is_none()
        {
            return Readiness::Full;
        }
        if session.reading != Reading::Free
            && may_receive(&mut *self.permission.access, session, publication.topic).is_none()
        {
            return wanted.barred;
        }
        let outgoing = session.outgoing.as_deref();
        let keeps_up = connection.is_some_and(|connection| self.keeps_up(connection));
        if keeps_up && outgoing.is_none_or(Outgoing::may_begin) {
            return Readiness::Ready;
        }
        let limits = self.options.queue_limits(session.listener);
        let has_room = |outgoing: &Outgoing| outgoing.has_room(wanted.memory, limits, connection.is_some());
        if wanted.may_wait && outgoing.is_none_or(has_room) { Readiness::Waiting } else { Readiness::Full }
    }

    /// Whether the outbox of a client has room for a message.
    #[inline]
    pub(super) fn keeps_up(&self, connection: ConnectionId) -> bool {
        self.connections[connection].outbox.len() < self.options.limits.outbox_bytes
    }

    /// Delivers a message to the chosen member. Returns `None` if the group has no member for it, and `Some(false)` if
    /// it was dropped.
    pub(super) fn deliver_to_chosen(
        &mut self,
        id: GroupId,
        choice: Choice,
        outbound: &mut Outbound<'_>,
    ) -> Option<bool> {
        let member = match choice {
            Choice::Member(member) => member,
            Choice::Gone => return None,
            Choice::Full | Choice::Later => {
                self.output.statistics.dropped += 1;
                return Some(false);
            }
        };
        let mut most = QoS::ExactlyOnce;
        let topic = outbound.publication.topic;
        let identifier = member.terms.identifier();
        if self.clients.sessions[member.session].reading != Reading::Free {
            most = self.may_receive(member.session, topic).unwrap_or(QoS::AtMostOnce);
        }
        let options = DeliveryOptions {
            qos: self.delivered_qos(member.session, member.terms.qos(), outbound.publication.qos).min(most),
            retain: member.terms.retain_as_published() && outbound.publication.retain,
            identifiers: identifier.as_slice(),
            group: Some(id),
            number: None,
        };
        self.deliver(member.session, outbound, options)
    }
}
