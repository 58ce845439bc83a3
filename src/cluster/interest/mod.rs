//! Which messages a node takes from the others: the subscriptions of NATS that reach everything that its clients have
//! subscribed to, and more. The trie of the core decides what a message matches, so few and wide subscriptions do: each
//! one costs memory and time on every server of the engine.
//!
//! - Filters are cut off after a few levels: with three, `a/b/c/d` and `a/b/c/+/e` become `a/b/c/#`.
//! - What another subscription reaches completely is not subscribed to itself: `a/#` covers `a/b`.
//! - There is an upper limit. When it is reached, filters below one level are replaced by that level and all below it,
//!   the deepest and fullest ones first, until a quarter of the limit is free. So one busy branch does not widen the
//!   others. They stay together until all of them are gone or the interest is [rebuilt](Interest::rebuild).
//! - A subscription outlives its last filter by a while. So clients that come and go change nothing.
//!
//! Subscriptions may overlap, as those of `a/+` and `+/b` do, so a message can arrive more than once.

#[cfg(test)]
mod tests;
mod tree;

use std::collections::BTreeSet;

use crate::base::time::{Duration, Time};
use crate::cluster::subjects::{Purpose, Subjects};
use crate::protocol::topic::TopicFilter;

use tree::{Kind, Place, Tree};

/// The most subscriptions of a node, by default. So many take the engine less than a second.
pub const SUBSCRIPTIONS_MAXIMUM: usize = 10_000;

/// For how long a subscription outlives its last filter.
const LINGER: Duration = Duration::from_seconds(30);

/// What has to change at the engine. Until it has, the node gets what it got before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Subscribe to this subject.
    Subscribe(String),
    /// End the subscription to this subject.
    Unsubscribe(String),
}

/// The subscriptions of one node to messages that are sent directly. All changes must be made in the order in which they
/// are returned: what covers a subscription comes before the end of that one.
#[derive(Debug)]
pub struct Interest {
    subjects: Subjects,
    /// The levels of a filter that count.
    levels: usize,
    /// The most wants.
    maximum: usize,
    tree: Tree,
}

impl Interest {
    /// No interest in anything yet. Filters are cut off after `levels`, and there will be at most `maximum` subscriptions.
    ///
    /// # Panics
    ///
    /// If `maximum` is less than four.
    pub fn new(subjects: Subjects, levels: usize, maximum: usize) -> Self {
        // One for each branch of subjects, and one that is added before others are joined.
        assert!(maximum > 3, "the widest interest has three subscriptions");
        let tree = Tree::new(subjects.base().trim_end_matches('.'));
        Self { subjects, levels, maximum, tree }
    }

    /// Takes note of a filter to which a client has subscribed; for that of a Shared Subscription, its pattern counts. It
    /// may be called for the first subscriber of a filter, or for each of them.
    pub fn add(&mut self, filter: TopicFilter<'_>, changes: &mut Vec<Change>) {
        for subject in self.subjects_of(filter) {
            self.tree.add(&self.place(&subject), changes);
        }
        if self.tree.wants() > self.maximum {
            self.tree.expire(Time::NEVER, changes);
        }
        if self.tree.wants() > self.maximum {
            self.tree.shrink(self.maximum - self.maximum / 4, changes);
        }
    }

    /// Takes note that a filter has been given up, as often as it was added.
    ///
    /// # Panics
    ///
    /// If it was not added so often.
    pub fn remove(&mut self, filter: TopicFilter<'_>, now: Time) {
        for subject in self.subjects_of(filter) {
            self.tree.remove(&self.place(&subject), now + LINGER);
        }
    }

    /// When [`Interest::expire`] has something to do.
    pub fn next_expiry(&self) -> Option<Time> {
        self.tree.next_expiry()
    }

    /// Ends the subscriptions whose last filter has been given up a while ago.
    pub fn expire(&mut self, now: Time, changes: &mut Vec<Change>) {
        self.tree.expire(now, changes);
    }

    /// All subjects that are subscribed to, in order: what a new connection to the engine begins with.
    pub fn subscriptions(&self) -> Vec<String> {
        self.tree.subscriptions()
    }

    /// Whether subscriptions that were joined because of the limit could be finer again. It takes a look at each of them.
    pub fn can_be_finer(&self) -> bool {
        self.tree.filters_if_joined().is_some_and(|filters| filters <= self.maximum / 2)
    }

    /// Begins again with the filters to which clients are subscribed at the moment.
    pub fn rebuild<'a>(
        &mut self,
        filters: impl IntoIterator<Item = TopicFilter<'a>>,
        changes: &mut Vec<Change>,
    ) {
        let mut new = Self::new(self.subjects.clone(), self.levels, self.maximum);
        filters.into_iter().for_each(|filter| new.add(filter, &mut Vec::new()));
        let [before, after] = [&*self, &new].map(|it| BTreeSet::from_iter(it.subscriptions()));
        changes.extend(after.difference(&before).cloned().map(Change::Subscribe));
        changes.extend(before.difference(&after).cloned().map(Change::Unsubscribe));
        *self = new;
    }

    fn subjects_of(&self, filter: TopicFilter<'_>) -> impl Iterator<Item = String> + use<> {
        let subjects = self.subjects.filter(Purpose::Direct, filter);
        [subjects.whole, subjects.shortened].into_iter().flatten()
    }

    /// Returns where in the tree a subject belongs. It has at least a branch and a closing token.
    fn place<'a>(&self, subject: &'a str) -> Place<'a> {
        let rest = subject.strip_prefix(self.subjects.base()).unwrap_or_default();
        let mut names: Vec<&str> = rest.split('.').collect();
        let closing = names.pop();
        // Topics that do not fit into a subject are rare: one subscription for all of them will do.
        let levels = if self.subjects.is_shortened(subject) { 0 } else { self.levels };
        let is_cut_off = names.len() > 1 + levels;
        names.truncate(1 + levels);
        let kind = if is_cut_off || closing == Some(">") { Kind::Below } else { Kind::Exact };
        Place { names, kind }
    }
}
