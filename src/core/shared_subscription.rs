//! Shared Subscriptions: their members, and whose turn it is.

use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::Arc;

use crate::base::memory::{self, Counted};
use crate::base::ordered_map::OrderedMap;
use crate::core::slots::SessionId;
use crate::core::subscription::{GroupId, Terms};
use crate::core::trie::FilterId;

/// The memory of the map entry from filter and Share Name to a group, in blocks two thirds full.
const KNOWN_BYTES: usize = size_of::<((FilterId, Rc<str>), GroupId)>() * 3 / 2;

/// The membership of one session.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// The session.
    pub session: SessionId,
    /// The terms that it asked for.
    pub terms: Terms,
}

/// How ready a member is to take a message; the greater the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Readiness {
    /// Its session is over.
    Gone,
    /// It cannot even queue the message.
    Full,
    /// The message would wait in the session.
    Waiting,
    /// It is connected and has room to send at once.
    Ready,
}

/// The result of the search for a member.
#[derive(Clone, Copy, Debug)]
pub enum Choice {
    /// This member gets the message.
    Member(Member),
    /// No member has room.
    Full,
    /// There is no member.
    Gone,
    /// None of the members considered so far has room; the search continues later.
    Later,
}

/// How far the search for a member has come. Members that come or go during it may be considered or not.
#[derive(Clone, Copy, Debug, Default)]
pub struct Search {
    /// The number of members that were considered.
    looked: usize,
    /// Whether one of them exists, even without room.
    has_members: bool,
}

/// How many connected members are considered in search of one that is ready, while another one has room.
pub const LOOKS_MAXIMUM: usize = 64;

/// Positions at which other members may be now.
pub type Moved = [usize; 3];

/// One Share Name with one Topic Filter.
#[derive(Debug)]
pub struct Group {
    /// The Share Name.
    pub share_name: Rc<str>,
    /// The node of the Topic Filter.
    pub filter: FilterId,
    /// The position of the group among the subscribers of the filter.
    pub position: u32,
    /// Connected members come first.
    members: Vec<Member>,
    connected: usize,
    /// Whose turn it is among the connected members, and among the others.
    next: usize,
    next_absent: usize,
    /// The whole Topic Filter, set when a message is persisted for a member: all of them share it.
    text: Option<Arc<str>>,
    counted: Counted,
}

impl Group {
    fn new(share_name: Rc<str>, filter: FilterId, position: u32) -> Self {
        Self {
            share_name,
            filter,
            position,
            members: Vec::new(),
            connected: 0,
            next: 0,
            next_absent: 0,
            text: None,
            counted: Counted::default(),
        }
    }

    /// The bytes that the group takes.
    pub const fn memory(&self) -> usize {
        self.counted.bytes()
    }

    /// All members; connected ones come first.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The number of connected members.
    pub const fn connected(&self) -> usize {
        self.connected
    }

    /// Whether a member is connected other than the one at this position, which may still count as connected.
    pub fn has_other_connected(&self, position: Option<u32>) -> bool {
        let is_counted = position.is_some_and(|position| (position as usize) < self.connected);
        self.connected > usize::from(is_counted)
    }

    /// Whether there is a member other than the one at this position.
    pub fn has_other(&self, position: Option<u32>) -> bool {
        self.members.len() > usize::from(position.is_some())
    }

    /// The whole Topic Filter, which ends with this pattern.
    pub fn text(&mut self, pattern: impl FnOnce() -> String) -> Arc<str> {
        if let Some(text) = &self.text {
            return text.clone();
        }
        let text: Arc<str> = format!("$share/{}/{}", self.share_name, pattern()).into();
        self.text = Some(text.clone());
        self.count();
        text
    }

    /// Adds a member that is not connected. Returns its position.
    pub fn join(&mut self, member: Member) -> usize {
        self.members.push(member);
        self.count();
        self.members.len() - 1
    }

    fn count(&mut self) {
        let shared = |text: &str| memory::allocation(text.len() + 2 * size_of::<usize>());
        self.counted.set(
            // Groups are created in rising order, which leaves the blocks of a map full.
            size_of::<(GroupId, Self)>()
                + KNOWN_BYTES
                + shared(&self.share_name)
                + self.text.as_deref().map_or(0, shared)
                + memory::allocation(self.members.capacity() * size_of::<Member>()),
        );
    }

    /// Replaces the terms of the member at this position.
    pub fn replace(&mut self, position: usize, member: Member) {
        self.members[position] = member;
    }

    /// Notes that the member at this position is connected.
    pub fn connect(&mut self, position: usize) -> Moved {
        if position < self.connected {
            return [position; 3];
        }
        let place = self.connected;
        self.members.swap(position, place);
        self.connected += 1;
        [position, place, place]
    }

    /// Notes that the member at this position is disconnected.
    pub fn disconnect(&mut self, position: usize) -> Moved {
        if position >= self.connected {
            return [position; 3];
        }
        let mut gap = position;
        if position < self.next {
            // The last one has not had its turn, so it must not move among those that have.
            self.next -= 1;
            gap = self.next;
            self.members.swap(position, gap);
        }
        self.connected -= 1;
        self.members.swap(gap, self.connected);
        self.next = if self.next >= self.connected { 0 } else { self.next };
        [position, gap, self.connected]
    }

    /// Removes the member at this position. The others keep their turns.
    pub fn leave(&mut self, position: usize) -> Moved {
        let moved = self.disconnect(position);
        self.members.swap_remove(moved[2]);
        moved
    }

    /// Chooses the member whose turn it is: a ready one, if one is among the next few connected members; otherwise one
    /// with room; otherwise a disconnected one with room. Considers at most `most` members, and returns how many it
    /// did.
    pub fn choose(
        &mut self,
        search: &mut Search,
        most: usize,
        mut readiness: impl FnMut(&Member) -> Readiness,
    ) -> (Choice, usize) {
        let (mut looks, mut waiting) = (0, None);
        while let Some(position) = self.position_in_turn(search.looked) {
            let is_connected = position < self.connected;
            if let Some(waiting) = waiting
                && (!is_connected || looks >= LOOKS_MAXIMUM)
            {
                return (self.turn_of(waiting), looks);
            }
            if looks >= most {
                return (Choice::Later, looks);
            }
            let ready = readiness(&self.members[position]);
            (looks, search.looked) = (looks + 1, search.looked + 1);
            search.has_members |= ready > Readiness::Gone;
            match ready {
                Readiness::Gone | Readiness::Full => {}
                Readiness::Waiting if is_connected => waiting = waiting.or(Some(position)),
                Readiness::Waiting | Readiness::Ready => return (self.turn_of(position), looks),
            }
        }
        let choice = match waiting {
            Some(waiting) => self.turn_of(waiting),
            None if search.has_members => Choice::Full,
            None => Choice::Gone,
        };
        (choice, looks)
    }

    /// The position of the member to consider after `looked` others; `None` if there is none.
    fn position_in_turn(&self, looked: usize) -> Option<usize> {
        if looked < self.connected {
            let position = self.next + looked;
            return Some(if position < self.connected { position } else { position - self.connected });
        }
        let absent = self.members.len() - self.connected;
        let looked = looked - self.connected;
        (looked < absent).then(|| self.connected + (self.next_absent + looked) % absent)
    }

    /// Gives a member its turn.
    fn turn_of(&mut self, position: usize) -> Choice {
        if position < self.connected {
            self.next = if position + 1 == self.connected { 0 } else { position + 1 };
        } else {
            self.next_absent = (position - self.connected + 1) % (self.members.len() - self.connected);
        }
        Choice::Member(self.members[position])
    }
}

/// All Shared Subscriptions.
#[derive(Debug)]
pub struct Groups {
    groups: OrderedMap<GroupId, Group>,
    /// One filter may have as many groups as there are names, so each is found by both.
    known: OrderedMap<(FilterId, Rc<str>), GroupId>,
    next: NonZeroU32,
}

impl Default for Groups {
    fn default() -> Self {
        Self { groups: OrderedMap::default(), known: OrderedMap::default(), next: NonZeroU32::MIN }
    }
}

impl Groups {
    /// Makes a group without members. `insert` puts it into the trie and returns its filter's node and its position
    /// there.
    /// # Panics
    ///
    /// After four billion groups in one run.
    pub fn create(&mut self, share_name: &str, insert: impl FnOnce(GroupId) -> (FilterId, u32)) -> GroupId {
        let id = GroupId::new(self.next);
        self.next = self.next.checked_add(1).expect("four billion groups take longer than a broker lives");
        let share_name: Rc<str> = share_name.into();
        let (filter, position) = insert(id);
        self.known.insert((filter, share_name.clone()), id);
        self.groups.insert(id, Group::new(share_name, filter, position));
        id
    }

    /// The number of groups.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether there is no group.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Returns the group, unless all its members have left.
    pub fn find(&self, id: GroupId) -> Option<&Group> {
        self.groups.find(&id)
    }

    /// Returns the group, unless all its members have left.
    pub fn find_mut(&mut self, id: GroupId) -> Option<&mut Group> {
        self.groups.find_mut(&id)
    }

    /// Returns the group of this Share Name with this filter.
    pub fn known(&self, filter: FilterId, share_name: &str) -> Option<GroupId> {
        self.known.find(&(filter, share_name.into())).copied()
    }

    /// Removes a group.
    pub fn remove(&mut self, id: GroupId) {
        if let Some(group) = self.groups.remove(&id) {
            self.known.remove(&(group.filter, group.share_name));
        }
    }

    /// Returns all groups.
    pub fn iter(&self) -> impl Iterator<Item = (GroupId, &Group)> {
        self.groups.iter().map(|(&id, group)| (id, group))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::slots::{SessionMark, Slots};
    use crate::core::trie::Trie;
    use crate::protocol::codec::QoS;

    fn group(count: usize) -> (Group, Vec<SessionId>) {
        let mut sessions: Slots<SessionMark, ()> = Slots::default();
        let ids: Vec<SessionId> = (0..count).map(|_| sessions.insert_with(|_| ())).collect();
        let mut group = Group::new("g".into(), Trie::new().insert("a", ()), 0);
        for (position, &session) in ids.iter().enumerate() {
            let terms = Terms::new(QoS::AtLeastOnce, false, false, 0);
            assert_eq!(group.join(Member { session, terms }), position);
            group.connect(position);
        }
        (group, ids)
    }

    fn chosen(group: &mut Group, readiness: impl FnMut(&Member) -> Readiness) -> Option<SessionId> {
        match group.choose(&mut Search::default(), usize::MAX, readiness).0 {
            Choice::Member(member) => Some(member.session),
            Choice::Full | Choice::Gone | Choice::Later => None,
        }
    }

    #[test]
    fn members_take_turns() {
        let (mut group, ids) = group(3);
        let mut chosen = || chosen(&mut group, |_| Readiness::Ready);
        assert_eq!([chosen(), chosen(), chosen(), chosen()], [ids[0], ids[1], ids[2], ids[0]].map(Some));
    }

    #[test]
    fn the_readiest_is_preferred_and_a_full_one_is_not_chosen() {
        let (mut group, ids) = group(3);
        let only = |number: usize, ready| {
            let id = ids[number];
            move |member: &Member| if member.session == id { ready } else { Readiness::Full }
        };
        assert_eq!(chosen(&mut group, only(2, Readiness::Waiting)), Some(ids[2]));
        let last = |member: &Member| match member.session == ids[1] {
            true => Readiness::Ready,
            false => Readiness::Waiting,
        };
        assert_eq!(chosen(&mut group, last), Some(ids[1]));
        let mut outcome = |readiness| group.choose(&mut Search::default(), 10, |_| readiness);
        assert!(matches!(outcome(Readiness::Full), (Choice::Full, 3)));
        assert!(matches!(outcome(Readiness::Gone), (Choice::Gone, 3)));
    }

    #[test]
    fn a_connected_member_is_preferred_and_disconnected_ones_take_turns() {
        let (mut group, ids) = group(3);
        for id in [ids[0], ids[1]] {
            let place = group.members().iter().position(|member| member.session == id).unwrap();
            group.disconnect(place);
        }
        assert_eq!((group.connected(), chosen(&mut group, |_| Readiness::Waiting)), (1, Some(ids[2])));
        let absent = |member: &Member| match member.session == ids[2] {
            true => Readiness::Full,
            false => Readiness::Waiting,
        };
        let turns = [0; 3].map(|_| chosen(&mut group, absent).unwrap());
        assert!(turns[0] != turns[1] && turns[0] == turns[2] && !turns.contains(&ids[2]));
    }

    #[test]
    fn a_search_among_very_many_members_stops_where_there_is_room() {
        let (mut group, _) = group(10 * LOOKS_MAXIMUM);
        let looks = group.choose(&mut Search::default(), usize::MAX, |_| Readiness::Waiting).1;
        assert_eq!(looks, LOOKS_MAXIMUM);
    }

    #[test]
    fn a_search_continues_where_it_was() {
        let (mut group, ids) = group(10);
        let last = |member: &Member| match member.session == ids[9] {
            true => Readiness::Waiting,
            false => Readiness::Full,
        };
        let mut search = Search::default();
        for _ in 0..3 {
            assert!(matches!(group.choose(&mut search, 3, last), (Choice::Later, 3)));
        }
        let (Choice::Member(member), 1) = group.choose(&mut search, 3, last) else { panic!("the tenth one") };
        assert_eq!(member.session, ids[9]);
    }

    /// Whichever member leaves or is disconnected, before or after those whose turn is next, the others get one message
    /// each before any gets a second one.
    #[test]
    fn a_member_that_goes_does_not_cost_another_its_turn() {
        for (served_before, goes, leaves) in (0..5)
            .flat_map(|served| (0..5).flat_map(move |goes| [(served, goes, false), (served, goes, true)]))
        {
            let (mut group, ids) = group(5);
            let mut served: Vec<SessionId> =
                (0..served_before).filter_map(|_| chosen(&mut group, |_| Readiness::Ready)).collect();
            let before: Vec<SessionId> = group.members().iter().map(|member| member.session).collect();
            let places = if leaves { group.leave(goes) } else { group.disconnect(goes) };
            assert_eq!((group.connected(), group.members().len()), (4, if leaves { 4 } else { 5 }));
            for (place, member) in group.members().iter().enumerate() {
                assert!(
                    member.session == before[place] || places.contains(&place),
                    "every move was reported"
                );
            }
            let left = 4 - served.iter().filter(|&&id| id != ids[goes]).count();
            served.extend((0..left).filter_map(|_| chosen(&mut group, |_| Readiness::Ready)));
            served.retain(|&id| id != ids[goes]);
            served.sort_unstable();
            served.dedup();
            assert_eq!(served.len(), 4, "{served_before} were served when {goes} went");
        }
    }
}
