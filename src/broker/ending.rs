//! Sessions that are over, and what they leave. A session that is over is found by its Client Identifier no more and gets
//! nothing more, but to free it may take longer than a turn: it may have had a million subscriptions and messages.
//!
//! What Shared Subscriptions had chosen it for goes to other members: at the end of the session what waited and what was
//! sent at QoS 1 and not acknowledged, at the end of its connection what waited, if another member is connected.

use std::collections::VecDeque;

use super::work::steps;
use super::{Broker, subscribe};
use crate::journal::{MessageNumber, SessionNumber};
use crate::memory::{self, Audit, Counted};
use crate::message::Keepable;
use crate::session::{Presence, Queued, Session};
use crate::share::{Member, Moved};
use crate::slots::{SessionId, SessionMark, Slots};
use crate::subscription::{GroupId, Held, Target};
use crate::trie::FilterId;

/// A session that is over and not yet freed.
#[derive(Debug)]
pub(super) struct Ending {
    session: SessionId,
    /// Under which the store knows it.
    number: Option<SessionNumber>,
}

/// Messages that wait for members of Shared Subscriptions in place of one that has lost its connection.
#[derive(Debug)]
pub(super) struct Moving {
    leaving: SessionId,
    /// Under which the store knows it.
    number: Option<SessionNumber>,
    messages: VecDeque<Queued>,
    /// What the list takes; the messages count themselves.
    counted: Counted,
}

impl Moving {
    /// Adds what it takes to an audit, beside its place.
    pub(super) fn audit(&self, audit: &mut Audit) {
        audit.add(self.counted.bytes());
        self.messages.iter().for_each(|queued| queued.message.audit(audit));
    }
}

impl Broker {
    /// Forgets a session; its Will, if it is still to come, is due now [MQTT-4.1.0-2].
    pub(super) fn end_session(&mut self, id: SessionId) {
        self.disarm_session(id);
        let session = &mut self.sessions[id];
        session.presence = Presence::Over;
        self.clients.remove(&session.client_identifier, id);
        let backlog = session.outgoing.as_mut().and_then(|outgoing| outgoing.backlog.take());
        let number = self.journal.as_ref().and_then(|journal| journal.number_of(id));
        if let Some(journal) = &mut self.journal {
            let waiting = backlog.map(|backlog| backlog.into_numbers()).unwrap_or_default();
            journal.end(id, waiting, self.now);
        }
        let ending = Ending { session: id, number };
        if !self.free(&ending) {
            self.work.endings.push_back(ending);
        }
    }

    /// Goes on with one of the sessions that are over; tells whether there was one.
    pub(super) fn go_on_ending(&mut self) -> bool {
        let Some(ending) = self.work.endings.pop_front() else { return false };
        self.work.begin_share(self.work.endings.len());
        self.work.take(steps::PACKET);
        if !self.free(&ending) {
            self.work.endings.push_back(ending);
        }
        true
    }

    /// Frees what a session has, as much as the share in progress allows for; tells whether nothing is left.
    fn free(&mut self, &Ending { session: id, number }: &Ending) -> bool {
        if !self.publish_will(id) || !self.free_messages(id, number) {
            return false;
        }
        while let Some((held, position)) = self.sessions[id].subscriptions.pop_first() {
            self.release_subscription(held, position);
            self.work.take(steps::SUBSCRIPTION);
            if self.work.is_over() {
                self.sessions[id].count();
                return false;
            }
        }
        self.sessions.remove(id);
        true
    }

    fn free_messages(&mut self, id: SessionId, number: Option<SessionNumber>) -> bool {
        let mut numbers: VecDeque<MessageNumber> = VecDeque::new();
        let mut is_done = true;
        while let Some(outgoing) = &mut self.sessions[id].outgoing {
            if self.work.is_over() {
                is_done = false;
                break;
            }
            self.work.take(steps::PACKET);
            let Some(leftover) = outgoing.pop_leftover() else {
                numbers.extend(std::iter::from_fn(|| outgoing.pop_gone()));
                self.sessions[id].outgoing = None;
                break;
            };
            numbers.extend(leftover.queued.as_ref().and_then(|queued| queued.number));
            if let Some(queued) = leftover.queued.filter(|_| leftover.may_move)
                && let Some(group) = queued.group
                && self.groups.find(group).is_some_and(|group| group.members().len() > 1)
            {
                self.redirect(id, group, &queued);
            }
        }
        if let (Some(journal), Some(number)) = (&mut self.journal, number) {
            journal.leave_behind(number, numbers);
        }
        is_done
    }

    /// A client has lost its connection: what waits for it as a member of Shared Subscriptions goes to members that are
    /// connected.
    pub(super) fn move_shared(&mut self, id: SessionId) {
        let Self { sessions, groups, work, .. } = self;
        let Some(outgoing) = &mut sessions[id].outgoing else { return };
        work.take(outgoing.queue_length() / steps::COPIED_PER_STEP);
        let has_other = |group| groups.find(group).is_some_and(|group| group.connected() > 0);
        let messages = outgoing.take_shared(has_other);
        if messages.is_empty() {
            return;
        }
        let counted = Counted::new(memory::allocation(messages.capacity() * size_of::<Queued>()));
        let number = self.journal.as_ref().and_then(|journal| journal.number_of(id));
        let mut moving = Moving { leaving: id, number, messages, counted };
        if !self.move_more(&mut moving) {
            self.work.moving.push_back(moving);
        }
    }

    /// Goes on with messages that go from one member to others; tells whether there were any.
    pub(super) fn go_on_moving(&mut self) -> bool {
        let Some(mut moving) = self.work.moving.pop_front() else { return false };
        self.work.begin_share(self.work.moving.len());
        self.work.take(steps::PACKET);
        if !self.move_more(&mut moving) {
            self.work.moving.push_back(moving);
        }
        true
    }

    fn move_more(&mut self, moving: &mut Moving) -> bool {
        while let Some(queued) = moving.messages.pop_front() {
            if let Some(group) = queued.group {
                self.redirect(moving.leaving, group, &queued);
            }
            if let (Some(session), Some(message)) = (moving.number, queued.number) {
                // In the same batch as the copy of the other member, or a crash would lose it.
                self.settle_copy(session, message);
            }
            if self.work.is_over() {
                return moving.messages.is_empty();
            }
        }
        true
    }

    /// Gives a message to another member of its group; to the same one again, if there is no other any more.
    fn redirect(&mut self, leaving: SessionId, group: GroupId, queued: &Queued) {
        self.work.take(steps::delivery(queued.qos));
        // [MQTT-3.3.2-5]
        if queued.message.expires() <= self.now {
            self.statistics.expired += 1;
            return;
        }
        let mut keepable = Keepable::kept(&queued.message);
        self.sender.encoder.begin();
        self.begin_message(None);
        if self.deliver_to_group(group, &mut keepable, Some(leaving)).is_none() {
            self.deliver_to_group(group, &mut keepable, None);
        }
    }

    /// Ends one subscription, which stands at this place in the trie or in its group. However many others there are of
    /// the same filter, it costs no more: a client may end many at once.
    pub(super) fn release_subscription(&mut self, held: Held, position: u32) {
        match held {
            Held::Filter(filter) => self.release_entry(filter, position),
            Held::Group(id) => {
                let Self { groups, sessions, shared_subscriptions, .. } = self;
                let Some(group) = groups.find_mut(id) else { return };
                *shared_subscriptions -= 1;
                let places = group.leave(position as usize);
                tell_places(sessions, group.members(), id, places);
                if group.members().is_empty() {
                    let (filter, position) = (group.filter, group.position);
                    self.groups.remove(id);
                    self.release_entry(filter, position);
                }
            }
        }
    }

    /// The client of a session is connected, or is not any more: its groups prefer those who are.
    pub(super) fn tell_groups(&mut self, id: SessionId, is_connected: bool) {
        let held: Vec<GroupId> = self.sessions[id].subscriptions.groups().collect();
        self.work.take(held.len() * steps::SUBSCRIPTION);
        let Self { groups, sessions, .. } = self;
        for id_of_group in held {
            let position = sessions[id].subscriptions.position(Held::Group(id_of_group));
            if let Some(position) = position
                && let Some(group) = groups.find_mut(id_of_group)
            {
                let places = match is_connected {
                    true => group.connect(position as usize),
                    false => group.disconnect(position as usize),
                };
                tell_places(sessions, group.members(), id_of_group, places);
            }
        }
    }

    /// Takes an entry out of the trie, and tells the owner of the one that took its place.
    fn release_entry(&mut self, filter: FilterId, position: u32) {
        let removed = self.trie.remove(filter, position as usize);
        assert!(removed.is_some(), "a subscription that is held exists");
        let Some(moved) = self.trie.values(filter).get(position as usize) else { return };
        match moved.target {
            Target::Session(session) => {
                self.sessions[session].subscriptions.insert(Held::Filter(filter), position);
            }
            Target::Group(group) => {
                if let Some(group) = self.groups.find_mut(group) {
                    group.position = position;
                }
            }
        }
    }
}

/// Tells members of a group where they stand now.
pub(super) fn tell_places(
    sessions: &mut Slots<SessionMark, Session>,
    members: &[Member],
    group: GroupId,
    places: Moved,
) {
    for place in places {
        if let Some(member) = members.get(place) {
            sessions[member.session].subscriptions.insert(Held::Group(group), subscribe::position(place));
        }
    }
}
