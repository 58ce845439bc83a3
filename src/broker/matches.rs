//! Who gets a message: the result of the last walk through the trie, kept while it is true, because publishers
//! repeat themselves.

use crate::planted::{Fault, is_planted};
use crate::subscription::Subscriber;
use crate::topic::TopicName;
use crate::trie::{FilterId, Trie};

/// The subscribers of one topic, those of one session next to each other.
#[derive(Debug, Default)]
pub(super) struct Matches {
    topic: String,
    generation: u64,
    filters: Vec<FilterId>,
    subscribers: Vec<Subscriber>,
}

impl Matches {
    /// Takes the subscribers of `topic`; they are to be given back by [`Matches::put_back`].
    pub(super) fn take(&mut self, trie: &Trie<Subscriber>, topic: TopicName<'_>) -> Vec<Subscriber> {
        let is_known = self.topic == topic.as_str()
            && (self.generation == trie.generation() || is_planted(Fault::StaleMatches));
        let mut subscribers = std::mem::take(&mut self.subscribers);
        if !is_known {
            self.walk(trie, topic, &mut subscribers);
        }
        subscribers
    }

    /// Gives back what [`Matches::take`] lent.
    pub(super) fn put_back(&mut self, subscribers: Vec<Subscriber>) {
        self.subscribers = subscribers;
    }

    fn walk(&mut self, trie: &Trie<Subscriber>, topic: TopicName<'_>, subscribers: &mut Vec<Subscriber>) {
        self.topic.clear();
        self.topic.push_str(topic.as_str());
        self.generation = trie.generation();
        self.filters.clear();
        trie.matches(topic, &mut self.filters);
        subscribers.clear();
        for &filter in &self.filters {
            subscribers.extend_from_slice(trie.values(filter));
        }
        if self.filters.len() > 1 {
            // A session is at most once in a filter; only several filters can bring it up twice.
            subscribers.sort_by_key(|subscriber| subscriber.target);
        }
    }
}
