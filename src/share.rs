//! Shared Subscriptions: their members, and whose turn it is.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::rc::Rc;

use crate::memory::{self, Counted};
use crate::slots::SessionId;
use crate::subscription::{GroupId, Terms};
use crate::trie::FilterId;

/// What the way from filter and Share Name to a group takes, in nodes two thirds full.
const KNOWN_BYTES: usize = 48;

/// One session's membership.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// The session.
    pub session: SessionId,
    /// The terms it asked for.
    pub terms: Terms,
}

/// How well a member could take a message now; the greater the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Readiness {
    /// Can not even queue it.
    Full,
    /// Not connected; it would wait in the session.
    Away,
    /// Connected, but it would wait in the session's queue.
    Busy,
    /// Connected with room to send at once.
    Ready,
}

/// One Share Name with one Topic Filter.
#[derive(Debug)]
pub struct Group {
    /// The Share Name.
    pub share_name: Rc<str>,
    /// The node of the Topic Filter.
    pub filter: FilterId,
    /// Where the group stands among those who subscribed to it.
    pub position: u32,
    members: Vec<Member>,
    next: usize,
    counted: Counted,
}

impl Group {
    /// Bytes that the group takes.
    pub const fn memory(&self) -> usize {
        self.counted.bytes()
    }

    /// All members, in the order of their turns.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Adds a member; tells where it stands.
    pub fn join(&mut self, member: Member) -> usize {
        self.members.push(member);
        self.counted.set(
            size_of::<(GroupId, Self)>()
                + KNOWN_BYTES
                + memory::allocation(self.share_name.len() + 2 * size_of::<usize>())
                + memory::allocation(self.members.capacity() * size_of::<Member>()),
        );
        self.members.len() - 1
    }

    /// Replaces the terms of the member that stands there.
    pub fn replace(&mut self, position: usize, member: Member) {
        self.members[position] = member;
    }

    /// Takes the member out that stands there. Others may have come to stand at the places that are returned, so that
    /// nobody else is touched and nobody loses his turn.
    pub fn leave(&mut self, position: usize) -> [usize; 2] {
        let mut gap = position;
        if position < self.next {
            // The last one has not had its turn, so it may not come among those who have.
            self.next -= 1;
            gap = self.next;
            self.members.swap(position, gap);
        }
        self.members.swap_remove(gap);
        [position, gap]
    }

    /// The member whose turn it is: the next in turn of those that are readiest. A group of stalled members
    /// costs one look at each.
    pub fn choose(&mut self, mut readiness: impl FnMut(&Member) -> Readiness) -> Option<Member> {
        let count = self.members.len();
        let mut best = None;
        for position in (self.next..count).chain(0..self.next) {
            let member = self.members[position];
            let ready = readiness(&member);
            if best.is_none_or(|(known, _)| ready > known) {
                best = Some((ready, position));
            }
            if ready == Readiness::Ready {
                break;
            }
        }
        let (readiness, position) = best?;
        if readiness == Readiness::Full {
            return None;
        }
        self.next = if position + 1 == count { 0 } else { position + 1 };
        Some(self.members[position])
    }
}

/// All Shared Subscriptions.
#[derive(Debug)]
pub struct Groups {
    groups: BTreeMap<GroupId, Group>,
    /// One filter may have as many groups as there are names, so each is found by both.
    known: BTreeMap<(FilterId, Rc<str>), GroupId>,
    next: NonZeroU32,
}

impl Default for Groups {
    fn default() -> Self {
        Self { groups: BTreeMap::new(), known: BTreeMap::new(), next: NonZeroU32::MIN }
    }
}

impl Groups {
    /// Makes a group without members; its filter's node, and its place there, are known once it is in the trie.
    ///
    /// # Panics
    ///
    /// After four billion groups in one run.
    pub fn create(&mut self, share_name: &str, insert: impl FnOnce(GroupId) -> (FilterId, u32)) -> GroupId {
        let id = GroupId::new(self.next);
        self.next = self.next.checked_add(1).expect("four billion groups take longer than a broker lives");
        let share_name: Rc<str> = share_name.into();
        let (filter, position) = insert(id);
        self.known.insert((filter, share_name.clone()), id);
        let group =
            Group { share_name, filter, position, members: Vec::new(), next: 0, counted: Counted::default() };
        self.groups.insert(id, group);
        id
    }

    /// How many groups there are.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether there is no group.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The group, unless all its members have left.
    pub fn find(&self, id: GroupId) -> Option<&Group> {
        self.groups.get(&id)
    }

    /// The group, unless all its members have left.
    pub fn find_mut(&mut self, id: GroupId) -> Option<&mut Group> {
        self.groups.get_mut(&id)
    }

    /// The group of this Share Name with this filter.
    pub fn known(&self, filter: FilterId, share_name: &str) -> Option<GroupId> {
        self.known.get(&(filter, share_name.into())).copied()
    }

    /// Forgets a group.
    pub fn remove(&mut self, id: GroupId) {
        if let Some(group) = self.groups.remove(&id) {
            self.known.remove(&(group.filter, group.share_name));
        }
    }

    /// All groups.
    pub fn iter(&self) -> impl Iterator<Item = (GroupId, &Group)> {
        self.groups.iter().map(|(&id, group)| (id, group))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::QoS;
    use crate::slots::{SessionMark, Slots};
    use crate::trie::Trie;

    fn group(count: usize) -> (Group, Vec<SessionId>) {
        let mut sessions: Slots<SessionMark, ()> = Slots::default();
        let ids: Vec<SessionId> = (0..count).map(|_| sessions.insert_with(|_| ())).collect();
        let filter = Trie::new().insert("a", ());
        let mut group = Group {
            share_name: "g".into(),
            filter,
            position: 0,
            members: Vec::new(),
            next: 0,
            counted: Counted::default(),
        };
        for (position, &session) in ids.iter().enumerate() {
            let terms = Terms::new(QoS::AtLeastOnce, false, false, 0);
            assert_eq!(group.join(Member { session, terms }), position);
        }
        (group, ids)
    }

    #[test]
    fn members_take_turns() {
        let (mut group, ids) = group(3);
        let mut chosen = || group.choose(|_| Readiness::Ready).map(|member| member.session);
        assert_eq!([chosen(), chosen(), chosen(), chosen()], [ids[0], ids[1], ids[2], ids[0]].map(Some));
    }

    #[test]
    fn the_readiest_is_preferred_and_nobody_full_is_chosen() {
        let (mut group, ids) = group(3);
        let chosen =
            group.choose(|member| if member.session == ids[2] { Readiness::Busy } else { Readiness::Away });
        assert_eq!(chosen.map(|member| member.session), Some(ids[2]));
        assert!(group.choose(|_| Readiness::Full).is_none());
    }

    /// Whoever leaves, before or behind those whose turn is next, the others get one message each before anybody gets
    /// a second one.
    #[test]
    fn one_who_leaves_does_not_cost_another_his_turn() {
        for chosen in 0..5 {
            for leaver in 0..5 {
                let (mut group, ids) = group(5);
                let mut served: Vec<SessionId> =
                    (0..chosen).filter_map(|_| Some(group.choose(|_| Readiness::Ready)?.session)).collect();
                let before: Vec<SessionId> = group.members().iter().map(|member| member.session).collect();
                let places = group.leave(leaver);
                for (place, member) in group.members().iter().enumerate() {
                    assert!(member.session == before[place] || places.contains(&place), "it was told of");
                }
                served.extend(
                    (0..4 - served.iter().filter(|&&id| id != ids[leaver]).count())
                        .filter_map(|_| Some(group.choose(|_| Readiness::Ready)?.session)),
                );
                served.retain(|&id| id != ids[leaver]);
                served.sort_unstable();
                served.dedup();
                assert_eq!(served.len(), 4, "{chosen} were served when {leaver} left");
            }
        }
    }
}
