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
        let pressure = self.pressure(0);
        // A copy that a member had in memory takes room on disk if it goes to a persisted session. For new messages,
        // the room has been checked already.
        let takes_room =
            leaving.is_some_and(|leaving| !leaving.is_stored) && !self.persistence.has_storage_room();
        // No member may have this message: one that leaves a member is dropped, a new one is refused.
        let barred = if leaving.is_some() { Readiness::Gone } else { Readiness::Full };
        let leaving = leaving.and_then(|leaving| leaving.session);
        // Where the message can stay, a disconnected member is no better than the one that it leaves.
        let may_stay = leaving.is_some_and(|leaving| self.clients.is_there(leaving));
        let is_kept = |session| {
            self.persistence.journal.as_ref().is_some_and(|journal| journal.number_of(session).is_some())
        };
        let Some(group) = self.routing.groups.find_mut(id) else { return Choice::Gone };
        let (choice, looks) = group.choose(search, most, |member| {
            let session = &self.clients.sessions[member.session];
            let outgoing = session.outgoing.as_deref();
            if session.presence == Presence::Over || leaving == Some(member.session) {
                return Readiness::Gone;
            }
            if takes_room && is_kept(member.session) || may_stay && session.connection().is_none() {
                return Readiness::Full;
            }
            if session.reading != Reading::Free
                && may_receive(&mut *self.permission.access, session, publication.topic).is_none()
            {
                return barred;
            }
            let keeps_up = |connection: ConnectionId| {
                self.connections[connection].outbox.len() < self.options.limits.outbox_bytes
            };
            if session.connection().is_some_and(keeps_up) && outgoing.is_none_or(Outgoing::may_begin) {
                return Readiness::Ready;
            }
            let memory = Message::memory_of(publication);
            let is_connected = session.connection().is_some();
            let has_room = pressure < Pressure::Keep
                && outgoing
                    .is_none_or(|outgoing| outgoing.has_room(memory, &self.options.limits, is_connected));
            if has_room { Readiness::Waiting } else { Readiness::Full }
        });
        self.turn.take(looks);
        choice
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
            dup: false,
        };
        self.deliver(member.session, outbound, options)
    }
}
