//! The subscriptions of all clients.

use super::match_cache::MatchCache;
use crate::base::memory::Audit;
use crate::core::shared_subscription::Groups;
use crate::core::subscription::{GroupId, Subscriber};
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

    /// Adds what counts itself to an audit.
    pub(super) fn audit(&self, audit: &mut Audit) {
        self.groups.iter().for_each(|(_, group)| audit.add(group.memory()));
        self.match_cache.remembered().for_each(|matched| matched.audit(audit));
    }
}
