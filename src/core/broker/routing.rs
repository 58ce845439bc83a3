//! The subscriptions of all clients.

use super::match_cache::MatchCache;
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
}
