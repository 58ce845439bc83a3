//! The subscriptions of all clients.

use super::match_cache::MatchCache;
use crate::base::memory::Audit;
use crate::core::shared_subscription::Groups;
use crate::core::slots::SessionId;
use crate::core::subscription::{GroupId, Held, Subscriber, Target};
use crate::core::trie::Trie;

#[derive(Default)]
pub(super) struct Routing {
    pub(super) trie: Trie<Subscriber>,
    pub(super) groups: Groups,
    /// The number of members of all groups.
    pub(super) members: usize,
    pub(super) match_cache: MatchCache,
}

impl Routing {
    pub(super) fn find_group(&self, share_name: &str, pattern: &str) -> Option<GroupId> {
        self.groups.known(self.trie.find(pattern)?, share_name)
    }

    /// The bytes that its structures take, without what counts itself.
    pub(super) fn memory(&self) -> usize {
        self.trie.memory() + self.match_cache.memory()
    }

    /// Whether a subscription of a session is at this position of its filter or group.
    pub(super) fn holds(&self, session: SessionId, held: Held, position: usize) -> bool {
        match held {
            Held::Filter(filter) => {
                let entry = self.trie.values(filter).get(position);
                entry.is_some_and(|entry| entry.target == Target::Session(session))
            }
            Held::Group(group) => {
                let group = self.groups.find(group);
                let member = group.and_then(|group| group.members().get(position));
                member.is_some_and(|member| member.session == session)
            }
        }
    }

    /// Asserts its invariants. For tests and the simulator: it walks all subscriptions.
    pub(super) fn check_invariants(&self) {
        self.trie.check_invariants();
        let members: usize = self.groups.iter().map(|(_, group)| group.members().len()).sum();
        assert_eq!(members, self.members, "members of groups are counted");
        for (id, group) in self.groups.iter() {
            assert!(!group.members().is_empty(), "a group without members is forgotten");
            let entry = self.trie.values(group.filter).get(group.position as usize);
            assert_eq!(entry.map(|entry| entry.target), Some(Target::Group(id)), "a group is in the trie");
        }
    }

    /// Adds what counts itself to an audit.
    pub(super) fn audit(&self, audit: &mut Audit) {
        self.groups.iter().for_each(|(_, group)| audit.add(group.memory()));
        self.match_cache.remembered().for_each(|matched| matched.audit(audit));
    }
}
