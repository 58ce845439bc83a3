//! Sessions that are over, and the messages that they leave to others. A session that is over is no longer found by its
//! Client Identifier and receives nothing. It may have had a million subscriptions and messages, so freeing it may take
//! more than one turn.
//!
//! Messages for which a Shared Subscription had chosen the session go to other members. At the end of the session these
//! are the queued messages, and those of QoS 1 that were sent and not acknowledged. At the end of only the connection
//! these are the queued messages, if another member is connected.
//!
//! A message for which no other member has room stays: with its session if that is not over, otherwise in the store
//! until a member has room. It is dropped only if its session is over and it is not in the store.

use std::collections::VecDeque;

use super::Broker;
use super::budget::Pressure;
use super::clock::Timer;
use super::disconnect::WILL_RETRY;
use super::members::Leaving;
use super::turn::steps;
use crate::base::memory::{self, Audit, Counted};
use crate::core::journal::{MessageNumber, SessionNumber};
use crate::core::message::Outbound;
use crate::core::nodes::FilterChange;
use crate::core::session::{Presence, Queued, Session};
use crate::core::shared_subscription::{Choice, Group, LOOKS_MAXIMUM, Member, Moved, Search};
use crate::core::slots::{SessionId, SessionMark, Slots};
use crate::core::subscription::{GroupId, Held, Target, position};
use crate::core::trie::FilterId;

/// A session that is over and not yet freed.
#[derive(Debug)]
pub(super) struct Ending {
    session: SessionId,
    /// The session's number in the store.
    number: Option<SessionNumber>,
    /// Whether it leaves messages to other members of Shared Subscriptions. The store remembers the session until they
    /// have gone there.
    leaves_shared: bool,
}

/// Messages that go to other members of Shared Subscriptions, because their member has lost its connection.
#[derive(Debug)]
pub(super) struct Moving {
    /// The session that they leave, unless it ended in an earlier run.
    leaving: Option<SessionId>,
    /// The session's number in the store.
    number: Option<SessionNumber>,
    messages: VecDeque<Queued>,
    /// How far the search for a member that can have the first message has come.
    search: Search,
    /// The group in which no other member had room for the last message. The other messages of this group stay as well.
    full: Option<GroupId>,
    /// Whether they were read from the store in order to go to other members.
    was_read: bool,
    /// The memory of the list; the messages count themselves.
    counted: Counted,
}

/// The outcome of an attempt to give a message of one member of a group to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Redirected {
    /// Another member has the message, or it is no longer needed.
    Gone,
    /// No other member has room for the message.
    Stays,
    /// The search for a member continues in a later turn.
    Later,
}

/// The number of groups that are notified between two checks whether the share in progress is used up.
const GROUPS_AT_ONCE: usize = 16;

/// A session whose groups are being notified whether its client is connected, and the last group that was notified.
#[derive(Debug)]
pub(super) struct Notifying {
    session: SessionId,
    notified: Option<GroupId>,
}

impl Moving {
    fn new(leaving: Option<SessionId>, number: Option<SessionNumber>, messages: VecDeque<Queued>) -> Self {
        let (search, counted) = (Search::default(), Counted::default());
        let mut moving = Self { leaving, number, messages, search, full: None, was_read: false, counted };
        moving.count();
        moving
    }

    /// Makes a list of messages that were read from the store, for which
    /// [`Legacies::begin`](super::legacies::Legacies::begin) was called.
    pub(super) fn of_page(
        leaving: Option<SessionId>,
        number: SessionNumber,
        messages: VecDeque<Queued>,
    ) -> Self {
        Self { was_read: true, ..Self::new(leaving, Some(number), messages) }
    }

    fn count(&mut self) {
        self.counted.set(memory::allocation(self.messages.capacity() * size_of::<Queued>()));
    }

    /// Adds the memory that it holds to an audit, apart from the place of the value itself.
    pub(super) fn audit(&self, audit: &mut Audit) {
        audit.add(self.counted.bytes());
        for queued in &self.messages {
            queued.message.audit(audit);
            queued.identifiers.audit(audit);
        }
    }
}

impl Broker {
    /// Ends a session. If its Will has not been published yet, it is due now [MQTT-4.1.0-2].
    pub(super) fn end_session(&mut self, id: SessionId) {
        self.disarm_session(id);
        self.owe_lost_at_end(id);
        let session = &mut self.clients.sessions[id];
        session.presence = Presence::Over;
        self.clients.directory.remove(&session.client_identifier, id);
        let number = self.persistence.number_of(id);
        let leaves_shared = number.is_some_and(|number| self.leaves_shared(id, number));
        if let Some(number) = number.filter(|_| leaves_shared) {
            self.leave_stored(id, number, Group::has_other);
        }
        let outgoing = self.clients.sessions[id].outgoing.as_mut();
        let backlog = outgoing.and_then(|outgoing| outgoing.backlog.take());
        if let Some(journal) = &mut self.persistence.journal {
            let waiting = backlog.map(|mut backlog| backlog.take_numbers()).unwrap_or_default();
            journal.end(
                id,
                &self.clients.sessions[id].client_identifier,
                waiting,
                leaves_shared,
                self.clock.now,
            );
        }
        self.ask_for_legacy();
        self.go_on_with_ending(Ending { session: id, number, leaves_shared });
    }

    /// Publishes the Will of a session that is over, and then frees the session. What cannot be done now waits.
    fn go_on_with_ending(&mut self, ending: Ending) {
        if !self.publish_will(ending.session) {
            if self.waiting.endings_waiting.is_empty() {
                self.clock.arm(WILL_RETRY, Timer::Endings);
            }
            self.waiting.endings_waiting.push_back(ending);
        } else if !self.free(&ending) {
            self.waiting.endings.push_back(ending);
        }
    }

    /// Tries again to publish the Wills that had to wait.
    pub(super) fn endings_are_due(&mut self) {
        self.waiting.endings.append(&mut self.waiting.endings_waiting);
    }

    /// Continues with one of the sessions that are over.
    pub(super) fn go_on_ending(&mut self) {
        let Some(ending) = self.waiting.endings.pop_front() else { return };
        self.turn.begin_share(self.waiting.endings.len());
        self.turn.take(steps::PACKET);
        self.go_on_with_ending(ending);
    }

    /// Frees what a session holds, as far as the share in progress allows. Returns whether nothing is left.
    fn free(&mut self, &Ending { session: id, number, leaves_shared }: &Ending) -> bool {
        let number = self.persistence.noted(number);
        if !self.free_messages(id, number) {
            return false;
        }
        while let Some((held, position)) = self.clients.sessions[id].subscriptions.pop_first() {
            self.release_subscription(held, position);
            self.turn.take(steps::SUBSCRIPTION);
            if self.turn.is_over() {
                self.clients.sessions[id].count();
                return false;
            }
        }
        self.clients.sessions.remove(id);
        if let Some(number) = number.filter(|_| leaves_shared) {
            self.finish_list(number, false);
        }
        true
    }

    /// Frees the messages of a session that is over, as far as the share in progress allows; those that may go to other
    /// members of groups go there. Returns whether none is left.
    fn free_messages(&mut self, id: SessionId, number: Option<SessionNumber>) -> bool {
        let mut numbers: VecDeque<MessageNumber> = VecDeque::new();
        let mut is_done = true;
        while let Some(outgoing) = &mut self.clients.sessions[id].outgoing {
            if self.turn.is_over() {
                is_done = false;
                break;
            }
            self.turn.take(steps::PACKET);
            let Some(leftover) = outgoing.pop_leftover() else {
                outgoing.take_gone(|number| numbers.push_back(number));
                self.clients.sessions[id].outgoing = None;
                break;
            };
            let Some(queued) = leftover.queued else { continue };
            match queued.group.filter(|&group| leftover.may_move && self.has_other(id, group)) {
                Some(group) => self.redirect_or_list((id, number), group, queued),
                None => numbers.extend(queued.number),
            }
        }
        if let Some(number) = number {
            self.leave_messages(number, numbers);
        }
        is_done
    }

    /// Whether a group has a member other than this session. The session may have left the group already.
    fn has_other(&self, session: SessionId, group: GroupId) -> bool {
        let position = self.clients.sessions[session].subscriptions.position(Held::Group(group));
        self.routing.groups.find(group).is_some_and(|group| group.has_other(position))
    }

    /// Sends the messages that are queued in the store for a session as a member of Shared Subscriptions to other
    /// members, where `may_go` finds that the group has suitable ones.
    fn leave_stored(
        &mut self,
        id: SessionId,
        number: SessionNumber,
        may_go: impl Fn(&Group, Option<u32>) -> bool,
    ) {
        let Session { outgoing, subscriptions, .. } = &mut self.clients.sessions[id];
        let Some(outgoing) = outgoing else { return };
        let Some(backlog) = outgoing.backlog.as_mut().filter(|backlog| backlog.has_shared()) else { return };
        self.turn.take(backlog.len() / steps::SORTED_OUT_PER_STEP);
        let average = backlog.average();
        let messages = backlog.take_shared(|id| {
            let position = subscriptions.position(Held::Group(id));
            self.routing.groups.find(id).is_some_and(|group| may_go(group, position))
        });
        outgoing.backlog.take_if(|backlog| backlog.is_empty());
        self.begin_legacy(id, number, messages, average);
    }

    /// Sends the messages that are queued for a disconnected client as a member of Shared Subscriptions to connected
    /// members. The messages stay while memory is short. They also stay while the client's queue is over its limit
    /// because messages have come back to it: otherwise the queue could grow with each connection.
    pub(super) fn move_shared(&mut self, id: SessionId) {
        let Some(messages) = self.take_shared(id) else { return };
        let number = self.persistence.number_of(id);
        if let Some(number) = number {
            // Before any of the messages in memory come back to this session's queue.
            self.leave_stored(id, number, Group::has_other_connected);
        }
        if !messages.is_empty() {
            number.into_iter().for_each(|number| self.waiting.legacies.begin(number));
            self.begin_moving(Moving::new(Some(id), number, messages));
        }
    }

    /// Takes out of a disconnected client's session the messages in memory for which another member is connected.
    /// Returns `None` if the messages stay.
    fn take_shared(&mut self, id: SessionId) -> Option<VecDeque<Queued>> {
        let is_short = self.pressure(0) >= Pressure::Keep;
        let Session { outgoing, subscriptions, listener, .. } = &mut self.clients.sessions[id];
        let limits = self.options.queue_limits(*listener);
        let outgoing = outgoing.as_mut().filter(|outgoing| !is_short && !outgoing.is_overfull(limits))?;
        self.turn.take(outgoing.queue_length() / steps::SORTED_OUT_PER_STEP);
        let mut last = None;
        let has_other = |id| match last {
            // Messages of the same group are often next to each other.
            Some((known, has_other)) if known == id => has_other,
            _ => {
                let position = subscriptions.position(Held::Group(id));
                let has_other =
                    self.routing.groups.find(id).is_some_and(|group| group.has_other_connected(position));
                last = Some((id, has_other));
                has_other
            }
        };
        Some(outgoing.take_shared(has_other))
    }

    /// Sends messages from one member to others, as far as the share in progress allows.
    pub(super) fn begin_moving(&mut self, mut moving: Moving) {
        match self.move_more(&mut moving) {
            true => self.finish_moving(&moving),
            false => self.waiting.moving.push_back(moving),
        }
    }

    fn finish_moving(&mut self, moving: &Moving) {
        let Some(number) = self.persistence.noted(moving.number) else { return };
        let is_over = !moving.leaving.is_some_and(|session| self.clients.is_there(session));
        if let Some(group) = moving.full.filter(|_| moving.was_read && is_over) {
            self.postpone_rest(number, group);
        }
        self.finish_list(number, moving.was_read);
    }

    /// Continues with messages that go from one member to others.
    pub(super) fn go_on_moving(&mut self) {
        let Some(moving) = self.waiting.moving.pop_front() else { return };
        self.turn.begin_share(self.waiting.moving.len());
        self.turn.take(steps::PACKET);
        self.begin_moving(moving);
    }

    /// Sends more of the messages to other members. Returns whether none is left.
    fn move_more(&mut self, moving: &mut Moving) -> bool {
        while let Some(queued) = moving.messages.pop_front() {
            let redirected = match queued.group {
                Some(group) if moving.full == Some(group) => {
                    self.turn.take(steps::PACKET);
                    Redirected::Stays
                }
                Some(group) => self.redirect(moving.leaving, group, &queued, &mut moving.search),
                None => Redirected::Gone,
            };
            if redirected == Redirected::Later {
                moving.messages.push_front(queued);
                return false;
            }
            moving.search = Search::default();
            moving.full = queued.group.filter(|_| redirected == Redirected::Stays);
            self.conclude_redirect((moving.leaving, moving.number), queued, redirected);
            if self.turn.is_over() {
                return moving.messages.is_empty();
            }
        }
        true
    }

    /// Gives a message of a session that is over to another member of its group, in a later turn if very many members
    /// have to be considered.
    fn redirect_or_list(
        &mut self,
        (leaving, number): (SessionId, Option<SessionNumber>),
        group: GroupId,
        queued: Queued,
    ) {
        let redirected = self.redirect(Some(leaving), group, &queued, &mut Search::default());
        if redirected != Redirected::Later {
            self.conclude_redirect((Some(leaving), number), queued, redirected);
            return;
        }
        match self
            .waiting
            .moving
            .back_mut()
            .filter(|moving| moving.leaving == Some(leaving) && !moving.was_read)
        {
            Some(moving) => {
                moving.messages.push_back(queued);
                moving.count();
            }
            None => {
                number.into_iter().for_each(|number| self.waiting.legacies.begin(number));
                self.waiting.moving.push_back(Moving::new(Some(leaving), number, [queued].into()));
            }
        }
    }

    /// Does what follows from the outcome for a message and the member that it was to leave, whose session may be over.
    fn conclude_redirect(
        &mut self,
        (leaving, number): (Option<SessionId>, Option<SessionNumber>),
        queued: Queued,
        redirected: Redirected,
    ) {
        let stored = self.persistence.noted(number).zip(queued.number);
        if redirected == Redirected::Gone {
            if let Some((session, message)) = stored {
                // In the same batch as the other member's copy: otherwise a crash could lose the message.
                self.settle_copy(session, message);
            }
        } else if let Some(session) = leaving.filter(|&session| self.clients.is_there(session)) {
            self.give_back(session, queued);
        } else if let (Some((session, message)), Some(group)) = (stored, queued.group) {
            self.postpone(session, (message, group), queued.message.memory());
        } else {
            self.output.statistics.dropped += 1;
        }
    }

    /// Gives a message back to the member that it was to leave. If the message is in the store, its copy there was
    /// never settled, so it still belongs to the session.
    fn give_back(&mut self, session: SessionId, queued: Queued) {
        let outgoing = self.clients.sessions[session].outgoing_mut();
        match queued.number {
            Some(number) => {
                let waiting = (queued.message.memory(), queued.message.expires());
                outgoing.push_stored(number, waiting, queued.qos, queued.group);
            }
            None => outgoing.push(queued),
        }
        if self.clients.sessions[session].connection().is_some() {
            self.list(session);
        }
    }

    /// Gives a message to another member of its group, if one has room.
    fn redirect(
        &mut self,
        leaving: Option<SessionId>,
        group: GroupId,
        queued: &Queued,
        search: &mut Search,
    ) -> Redirected {
        if self.drop_if_expired(queued) {
            return Redirected::Gone;
        }
        let mut outbound = Outbound::stored(&queued.message);
        let former = Leaving { session: leaving, is_stored: queued.number.is_some() };
        let looking = (search, self.turn.left().max(LOOKS_MAXIMUM));
        let choice = self.choose_member(group, &outbound.publication, Some(former), looking);
        self.turn.take(steps::delivery(queued.qos));
        match choice {
            Choice::Later => Redirected::Later,
            Choice::Full => Redirected::Stays,
            // The group may no longer have another member.
            Choice::Gone if leaving.is_some_and(|leaving| self.clients.is_there(leaving)) => {
                Redirected::Stays
            }
            Choice::Gone => Redirected::Gone,
            Choice::Member(_) => self.deliver_redirected(group, choice, &mut outbound),
        }
    }

    /// Drops a message that has expired before it could go to another member [MQTT-3.3.2-5]. Returns whether it has.
    fn drop_if_expired(&mut self, queued: &Queued) -> bool {
        let has_expired = queued.message.expires() <= self.clock.now;
        if has_expired {
            self.turn.take(steps::PACKET);
            self.output.statistics.expired += 1;
        }
        has_expired
    }

    /// Delivers a message to the member that was chosen instead of the one that it leaves.
    fn deliver_redirected(
        &mut self,
        group: GroupId,
        choice: Choice,
        outbound: &mut Outbound<'_>,
    ) -> Redirected {
        self.output.sender.encoder.begin();
        self.persistence.begin_message(None);
        let dropped = self.output.statistics.dropped;
        if self.deliver_to_chosen(group, choice, outbound) != Some(false) {
            return Redirected::Gone;
        }
        // The message stays, so it is not dropped.
        self.output.statistics.dropped = dropped;
        Redirected::Stays
    }

    /// Ends one subscription, which is at this position in the trie or in its group. The cost does not depend on the
    /// number of other subscriptions with the same filter, because a client may end many subscriptions at once.
    pub(super) fn release_subscription(&mut self, held: Held, position: u32) {
        match held {
            Held::Filter(filter) => self.release_entry(filter, position),
            Held::Group(id) => {
                let Some(group) = self.routing.groups.find_mut(id) else { return };
                self.routing.members -= 1;
                let places = group.leave(position as usize);
                set_places(&mut self.clients.sessions, group.members(), id, places);
                if group.members().is_empty() {
                    let (filter, position) = (group.filter, group.position);
                    self.routing.groups.remove(id);
                    self.release_entry(filter, position);
                }
            }
        }
    }

    /// Notifies the groups of a session that its client has connected or disconnected, because they prefer connected
    /// members. If the session has very many groups, some of them are notified in later turns.
    pub(super) fn notify_groups(&mut self, session: SessionId) {
        let mut waiting = self.waiting.notifying.iter_mut();
        if let Some(notifying) = waiting.find(|notifying| notifying.session == session) {
            notifying.notified = None;
            return;
        }
        let mut notifying = Notifying { session, notified: None };
        if !self.notify_more(&mut notifying) {
            self.waiting.notifying.push_back(notifying);
        }
    }

    /// Whether some groups of a session have not been notified yet whether its client is connected.
    pub(super) fn is_notified_later(&self, session: SessionId) -> bool {
        self.waiting.notifying.iter().any(|notifying| notifying.session == session)
    }

    /// Continues with one of the sessions whose groups are to be notified.
    pub(super) fn go_on_notifying(&mut self) {
        let Some(mut notifying) = self.waiting.notifying.pop_front() else { return };
        self.turn.begin_share(self.waiting.notifying.len());
        self.turn.take(steps::PACKET);
        if !self.notify_more(&mut notifying) {
            self.waiting.notifying.push_back(notifying);
        }
    }

    fn notify_more(&mut self, notifying: &mut Notifying) -> bool {
        for number in 1_usize.. {
            let Some(session) = self.clients.sessions.find(notifying.session) else { return true };
            let is_connected = session.connection().is_some();
            let Some(next) = session.subscriptions.group_after(notifying.notified) else { return true };
            let position = session.subscriptions.position(Held::Group(next));
            if let Some(position) = position
                && let Some(group) = self.routing.groups.find_mut(next)
            {
                let places = match is_connected {
                    true => group.connect(position as usize),
                    false => group.disconnect(position as usize),
                };
                set_places(&mut self.clients.sessions, group.members(), next, places);
            }
            notifying.notified = Some(next);
            self.turn.take(steps::SUBSCRIPTION);
            if number.is_multiple_of(GROUPS_AT_ONCE) && self.turn.is_over() {
                return false;
            }
        }
        true
    }

    /// Removes an entry from the trie, and notes the new position of the entry that took its place.
    fn release_entry(&mut self, filter: FilterId, position: u32) {
        self.note_filter(filter, FilterChange::Ended);
        let removed = self.routing.trie.remove(filter, position as usize);
        assert!(removed.is_some(), "a subscription that is held exists");
        let Some(moved) = self.routing.trie.values(filter).get(position as usize) else { return };
        match moved.target {
            Target::Session(session) => {
                self.clients.sessions[session].subscriptions.insert(Held::Filter(filter), position);
            }
            Target::Group(group) => {
                if let Some(group) = self.routing.groups.find_mut(group) {
                    group.position = position;
                }
            }
        }
    }
}

/// Notes the new positions of members of a group in their sessions.
pub(super) fn set_places(
    sessions: &mut Slots<SessionMark, Session>,
    members: &[Member],
    group: GroupId,
    places: Moved,
) {
    for place in places {
        if let Some(member) = members.get(place) {
            sessions[member.session].subscriptions.insert(Held::Group(group), position(place));
        }
    }
}
