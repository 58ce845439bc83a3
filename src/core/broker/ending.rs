//! Sessions that are over, and what they leave. A session that is over is no longer found by its Client Identifier and
//! gets nothing more. To free it may take longer than a turn: it may have had a million subscriptions and messages.
//!
//! Messages for which a Shared Subscription had chosen it go to other members. At the end of the session these are the
//! messages that wait and those of QoS 1 that were sent and not acknowledged. At the end of its connection these are
//! the messages that wait, if another member is connected.
//!
//! What no other member has room for stays: with the session, if that is not over; else in the store, until a member
//! has room. Only what is not in the store, of a session that is over, is dropped then.

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
use crate::core::session::{Presence, Queued, Session};
use crate::core::shared_subscription::{Choice, Group, LOOKS_MAXIMUM, Member, Moved, Search};
use crate::core::slots::{SessionId, SessionMark, Slots};
use crate::core::subscription::{GroupId, Held, Target, position};
use crate::core::trie::FilterId;

/// A session that is over and not yet freed.
#[derive(Debug)]
pub(super) struct Ending {
    session: SessionId,
    /// Under which the store knows it.
    number: Option<SessionNumber>,
    /// It leaves messages to other members of Shared Subscriptions. The store remembers it until they have gone there.
    leaves_shared: bool,
}

/// Messages that wait for members of Shared Subscriptions in place of one that has lost its connection.
#[derive(Debug)]
pub(super) struct Moving {
    /// The session, unless it has ended in an earlier run.
    leaving: Option<SessionId>,
    /// Under which the store knows it.
    number: Option<SessionNumber>,
    messages: VecDeque<Queued>,
    /// How far the search for a member has come that the first one is to go to.
    search: Search,
    /// The group of which no other member had room for the last one. The others of this group stay, too.
    full: Option<GroupId>,
    /// They were read from the store to go to other members.
    was_read: bool,
    /// What the list takes; the messages count themselves.
    counted: Counted,
}

/// What becomes of a message that is to go from a member of a group to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Redirected {
    /// Another member has it, or it is needed no longer.
    Gone,
    /// No other member has room for it.
    Stays,
    /// The search for a member goes on in a later turn.
    Later,
}

/// Groups that are told before it is asked whether the share in progress is used up.
const GROUPS_AT_ONCE: usize = 16;

/// A session whose groups are to be told whether its client is connected, and the last one that was told.
#[derive(Debug)]
pub(super) struct Telling {
    session: SessionId,
    told: Option<GroupId>,
}

impl Moving {
    fn new(leaving: Option<SessionId>, number: Option<SessionNumber>, messages: VecDeque<Queued>) -> Self {
        let (search, counted) = (Search::default(), Counted::default());
        let mut moving = Self { leaving, number, messages, search, full: None, was_read: false, counted };
        moving.count();
        moving
    }

    /// Messages that were read from the store, for which [`Legacies::begin`](super::legacies::Legacies::begin) was
    /// called.
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

    /// Adds what it takes to an audit, beside its place.
    pub(super) fn audit(&self, audit: &mut Audit) {
        audit.add(self.counted.bytes());
        for queued in &self.messages {
            queued.message.audit(audit);
            queued.identifiers.audit(audit);
        }
    }
}

impl Broker {
    /// Forgets a session; its Will, if it is still to come, is due now [MQTT-4.1.0-2].
    pub(super) fn end_session(&mut self, id: SessionId) {
        self.disarm_session(id);
        let session = &mut self.clients.sessions[id];
        session.presence = Presence::Over;
        self.clients.directory.remove(&session.client_identifier, id);
        let number = self.persistence.journal.as_ref().and_then(|journal| journal.number_of(id));
        let leaves_shared = number.is_some_and(|number| self.leaves_shared(id, number));
        if let Some(number) = number.filter(|_| leaves_shared) {
            self.leave_stored(id, number, Group::has_other);
        }
        let outgoing = self.clients.sessions[id].outgoing.as_mut();
        let backlog = outgoing.and_then(|outgoing| outgoing.backlog.take());
        if let Some(journal) = &mut self.persistence.journal {
            let waiting = backlog.map(|backlog| backlog.into_numbers()).unwrap_or_default();
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

    /// Wills that had to wait are tried again.
    pub(super) fn endings_are_due(&mut self) {
        self.waiting.endings.append(&mut self.waiting.endings_waiting);
    }

    /// Goes on with one of the sessions that are over.
    pub(super) fn go_on_ending(&mut self) {
        let Some(ending) = self.waiting.endings.pop_front() else { return };
        self.turn.begin_share(self.waiting.endings.len());
        self.turn.take(steps::PACKET);
        self.go_on_with_ending(ending);
    }

    /// Frees what a session has, as much as the share in progress allows for; tells whether nothing is left.
    fn free(&mut self, &Ending { session: id, number, leaves_shared }: &Ending) -> bool {
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
                numbers.extend(std::iter::from_fn(|| outgoing.pop_gone()));
                self.clients.sessions[id].outgoing = None;
                break;
            };
            let Some(queued) = leftover.queued else { continue };
            match queued.group.filter(|&group| leftover.may_move && self.has_other(id, group)) {
                Some(group) => self.redirect_or_list((id, number), group, queued),
                None => numbers.extend(queued.number),
            }
        }
        if let (Some(journal), Some(number)) = (&mut self.persistence.journal, number) {
            journal.leave(number, numbers, self.clock.now);
        }
        is_done
    }

    /// Whether a group has a member other than this session. The session may have left the group already.
    fn has_other(&self, session: SessionId, group: GroupId) -> bool {
        let position = self.clients.sessions[session].subscriptions.position(Held::Group(group));
        self.routing.groups.find(group).is_some_and(|group| group.has_other(position))
    }

    /// What waits in the store for a session as a member of Shared Subscriptions goes to other members, if its group
    /// has some that may have it.
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

    /// A client has lost its connection: what waits for it as a member of Shared Subscriptions goes to members that are
    /// connected. Nothing does while nothing more is kept in memory, or while more waits than the client's queue holds,
    /// because some has come back: else it could grow with each connection.
    pub(super) fn move_shared(&mut self, id: SessionId) {
        let is_short = self.pressure(0) >= Pressure::Keep;
        let Session { outgoing, subscriptions, .. } = &mut self.clients.sessions[id];
        let Some(outgoing) =
            outgoing.as_mut().filter(|outgoing| !is_short && !outgoing.is_overfull(&self.options.limits))
        else {
            return;
        };
        self.turn.take(outgoing.queue_length() / steps::SORTED_OUT_PER_STEP);
        let mut last = None;
        let has_other = |id| match last {
            // Those of one group often come one after the other.
            Some((known, has_other)) if known == id => has_other,
            _ => {
                let position = subscriptions.position(Held::Group(id));
                let has_other =
                    self.routing.groups.find(id).is_some_and(|group| group.has_other_connected(position));
                last = Some((id, has_other));
                has_other
            }
        };
        let messages = outgoing.take_shared(has_other);
        let number = self.persistence.journal.as_ref().and_then(|journal| journal.number_of(id));
        if let Some(number) = number {
            // Before any of the others come back, and wait there.
            self.leave_stored(id, number, Group::has_other_connected);
        }
        if !messages.is_empty() {
            number.into_iter().for_each(|number| self.waiting.legacies.begin(number));
            self.begin_moving(Moving::new(Some(id), number, messages));
        }
    }

    /// Messages go from one member to others.
    pub(super) fn begin_moving(&mut self, mut moving: Moving) {
        match self.move_more(&mut moving) {
            true => self.finish_moving(&moving),
            false => self.waiting.moving.push_back(moving),
        }
    }

    fn finish_moving(&mut self, moving: &Moving) {
        let Some(number) = moving.number else { return };
        let is_over = !moving.leaving.is_some_and(|session| self.clients.is_there(session));
        if let Some(group) = moving.full.filter(|_| moving.was_read && is_over) {
            self.postpone_rest(number, group);
        }
        self.finish_list(number, moving.was_read);
    }

    /// Goes on with messages that go from one member to others.
    pub(super) fn go_on_moving(&mut self) {
        let Some(moving) = self.waiting.moving.pop_front() else { return };
        self.turn.begin_share(self.waiting.moving.len());
        self.turn.take(steps::PACKET);
        self.begin_moving(moving);
    }

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

    /// Gives a message of a session that is over to another member of its group; in a later turn, if very many members
    /// have to be looked at.
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

    /// Does what follows for a message of a member that leaves, whose session may be over.
    fn conclude_redirect(
        &mut self,
        (leaving, number): (Option<SessionId>, Option<SessionNumber>),
        queued: Queued,
        redirected: Redirected,
    ) {
        let stored = number.zip(queued.number);
        if redirected == Redirected::Gone {
            if let Some((session, message)) = stored {
                // In the same batch as the copy of the other member, or a crash would lose it.
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

    /// A message stays with the member that it was to leave. One in the store is settled by nothing, so it still
    /// belongs to the session there.
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

    /// Gives a message to another member of its group.
    fn redirect(
        &mut self,
        leaving: Option<SessionId>,
        group: GroupId,
        queued: &Queued,
        search: &mut Search,
    ) -> Redirected {
        // [MQTT-3.3.2-5]
        if queued.message.expires() <= self.clock.now {
            self.turn.take(steps::PACKET);
            self.output.statistics.expired += 1;
            return Redirected::Gone;
        }
        let mut outbound = Outbound::stored(&queued.message);
        let former = Leaving { session: leaving, is_stored: queued.number.is_some() };
        let looking = (search, self.turn.left().max(LOOKS_MAXIMUM));
        let choice = self.choose_member(group, &outbound.publication, Some(former), looking);
        self.turn.take(steps::delivery(queued.qos));
        match choice {
            Choice::Later => return Redirected::Later,
            Choice::Full => return Redirected::Stays,
            // There may be no other member any more.
            Choice::Gone if leaving.is_some_and(|leaving| self.clients.is_there(leaving)) => {
                return Redirected::Stays;
            }
            Choice::Gone => return Redirected::Gone,
            Choice::Member(_) => {}
        }
        self.output.sender.encoder.begin();
        self.persistence.begin_message(None);
        let dropped = self.output.statistics.dropped;
        if self.deliver_to_chosen(group, choice, &mut outbound) != Some(false) {
            return Redirected::Gone;
        }
        // It stays, so it is not lost.
        self.output.statistics.dropped = dropped;
        Redirected::Stays
    }

    /// Ends one subscription, which stands at this place in the trie or in its group. However many others there are of
    /// the same filter, it costs no more: a client may end many at once.
    pub(super) fn release_subscription(&mut self, held: Held, position: u32) {
        match held {
            Held::Filter(filter) => self.release_entry(filter, position),
            Held::Group(id) => {
                let Some(group) = self.routing.groups.find_mut(id) else { return };
                self.routing.members -= 1;
                let places = group.leave(position as usize);
                tell_places(&mut self.clients.sessions, group.members(), id, places);
                if group.members().is_empty() {
                    let (filter, position) = (group.filter, group.position);
                    self.routing.groups.remove(id);
                    self.release_entry(filter, position);
                }
            }
        }
    }

    /// The client of a session has connected or disconnected. Its groups prefer members that are connected. If there
    /// are very many groups, some learn of it in later turns.
    pub(super) fn tell_groups(&mut self, session: SessionId) {
        let mut waiting = self.waiting.telling.iter_mut();
        if let Some(telling) = waiting.find(|telling| telling.session == session) {
            telling.told = None;
            return;
        }
        let mut telling = Telling { session, told: None };
        if !self.tell_more(&mut telling) {
            self.waiting.telling.push_back(telling);
        }
    }

    /// Whether some groups of a session are still to be told whether its client is connected.
    pub(super) fn is_told_later(&self, session: SessionId) -> bool {
        self.waiting.telling.iter().any(|telling| telling.session == session)
    }

    /// Goes on with one of those whose groups are to be told.
    pub(super) fn go_on_telling(&mut self) {
        let Some(mut telling) = self.waiting.telling.pop_front() else { return };
        self.turn.begin_share(self.waiting.telling.len());
        self.turn.take(steps::PACKET);
        if !self.tell_more(&mut telling) {
            self.waiting.telling.push_back(telling);
        }
    }

    fn tell_more(&mut self, telling: &mut Telling) -> bool {
        for number in 1_usize.. {
            let Some(session) = self.clients.sessions.find(telling.session) else { return true };
            let is_connected = session.connection().is_some();
            let Some(next) = session.subscriptions.group_after(telling.told) else { return true };
            let position = session.subscriptions.position(Held::Group(next));
            if let Some(position) = position
                && let Some(group) = self.routing.groups.find_mut(next)
            {
                let places = match is_connected {
                    true => group.connect(position as usize),
                    false => group.disconnect(position as usize),
                };
                tell_places(&mut self.clients.sessions, group.members(), next, places);
            }
            telling.told = Some(next);
            self.turn.take(steps::SUBSCRIPTION);
            if number.is_multiple_of(GROUPS_AT_ONCE) && self.turn.is_over() {
                return false;
            }
        }
        true
    }

    /// Takes an entry out of the trie, and tells the owner of the one that took its place.
    fn release_entry(&mut self, filter: FilterId, position: u32) {
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

/// Tells members of a group where they stand now.
pub(super) fn tell_places(
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
