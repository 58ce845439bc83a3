//! The subscribers of a topic: the result of a look-up in the trie, and a look-up that may take more than one turn.

use std::rc::Rc;

use super::turn::{Share, steps};
use super::verdicts::TopicNumber;
use crate::base::memory::{self, Audit, Counted};
use crate::base::ordered_map::OrderedMap;
use crate::core::subscription::{Subscriber, Target, Terms};
use crate::core::trie::{FilterId, Search, Trie};
use crate::protocol::topic::TopicName;

/// The subscribers of one topic. Those of one session are next to each other.
#[derive(Debug, Default)]
pub(super) struct Matched {
    pub(super) topic: String,
    /// The generation of the trie in which they were found.
    pub(super) generation: u64,
    pub(super) subscribers: Vec<Subscriber>,
    /// The number of the topic in the cache, which no other topic has; `None` if it is not cached.
    number: Option<TopicNumber>,
    /// Whether a session may be among them more than once.
    has_runs: bool,
    /// Whether some of them are Shared Subscriptions.
    has_groups: bool,
    counted: Counted,
}

impl Matched {
    #[inline]
    pub(super) fn topic(&self) -> TopicName<'_> {
        TopicName::trusted(&self.topic)
    }

    #[inline]
    pub(super) fn subscribers(&self) -> &[Subscriber] {
        &self.subscribers
    }

    #[inline]
    pub(super) const fn number(&self) -> Option<TopicNumber> {
        self.number
    }

    #[inline]
    pub(super) const fn has_runs(&self) -> bool {
        self.has_runs
    }

    #[inline]
    pub(super) const fn has_groups(&self) -> bool {
        self.has_groups
    }

    /// The bytes that it takes. It counts itself, because it may be used longer than it is cached.
    pub(super) const fn memory(&self) -> usize {
        self.counted.bytes()
    }

    /// Adds the memory that it takes to an audit.
    pub(super) fn audit(self: &Rc<Self>, audit: &mut Audit) {
        audit.add_shared(Rc::as_ptr(self).addr(), self.counted.bytes());
    }

    /// Replaces the content with the subscribers of this topic, which are those of the filters that match it.
    pub(super) fn fill(
        &mut self,
        trie: &Trie<Subscriber>,
        (topic, number): (TopicName<'_>, TopicNumber),
        filters: &[FilterId],
    ) {
        self.number = Some(number);
        self.topic.clear();
        self.topic.push_str(topic.as_str());
        self.generation = trie.generation();
        self.subscribers.clear();
        for &filter in filters {
            self.subscribers.extend_from_slice(trie.values(filter));
        }
        if filters.len() > 1 {
            // A session subscribes to a filter at most once, so only several filters can name it twice.
            self.subscribers.sort_by_key(|subscriber| subscriber.target);
        }
        let pairs = self.subscribers.windows(2);
        self.has_runs = pairs.into_iter().any(|pair| pair[0].target == pair[1].target);
        self.has_groups = has_groups(&self.subscribers);
    }

    pub(super) fn count(&mut self) {
        self.counted.set(
            memory::allocation(size_of::<Self>() + 2 * size_of::<usize>())
                + memory::allocation(self.topic.capacity())
                + memory::allocation(self.subscribers.capacity() * size_of::<Subscriber>()),
        );
    }
}

/// Decides which of the subscribers that were found get messages of a topic.
pub(super) trait Select {
    /// The steps that a decision about one subscriber takes; 0 if all are admitted.
    fn steps(&self) -> usize;

    /// Whether this subscriber gets messages of the topic. May lower the QoS of its subscription.
    fn admits(&mut self, topic: TopicName<'_>, subscriber: &mut Subscriber) -> bool;
}

/// Which subscribers are admitted, and how many subscriptions of one session count.
pub(super) struct Selection<'a> {
    pub(super) select: &'a mut dyn Select,
    /// The most subscriptions of one session that count for a message. If more match, the session gets the message at
    /// the highest QoS among all of them, but without the Subscription Identifiers of those beyond this number.
    pub(super) matches_per_session: usize,
    /// The number of subscriptions beyond it.
    pub(super) surplus: &'a mut u64,
}

/// A look-up of subscribers that may take more than one turn, because there are very many.
#[derive(Debug)]
pub(super) struct Lookup {
    topic: String,
    stage: Stage,
    /// The subscribers that were found; in the end those that are admitted, in order.
    found: Vec<Subscriber>,
    /// The number of filters that matched.
    filters: usize,
    counted: Counted,
}

#[derive(Debug)]
enum Stage {
    /// The trie is searched. `None` if the search has not begun.
    Search(Option<Search>),
    /// All subscribers were found and go from the list to this map, which sorts them. Unlike a sort of the list, this
    /// can be interrupted. The number distinguishes the subscriptions of one session.
    Sort(OrderedMap<(Target, usize), Terms>),
    /// The subscribers go from the map back to the list, in order.
    Collect(OrderedMap<(Target, usize), Terms>),
    /// This many subscribers have been judged and this many of them admitted, the last `run` of them for the same
    /// session.
    Select { judged: usize, admitted: usize, run: usize },
}

/// The bytes of an entry of the sorting map, in blocks two thirds full.
const SORT_ENTRY_BYTES: usize = (size_of::<(Target, usize)>() + size_of::<Terms>()) * 3 / 2;

impl Lookup {
    /// Makes a look-up that has not begun.
    pub(super) fn new(topic: TopicName<'_>) -> Self {
        Self {
            topic: topic.as_str().to_owned(),
            stage: Stage::Search(None),
            found: Vec::new(),
            filters: 0,
            counted: Counted::default(),
        }
    }

    /// Takes the subscribers of filters that match; `rest` is the rest of the search. The subscribers are copied at
    /// once, because a filter's number is valid only until the trie changes.
    pub(super) fn gather(
        &mut self,
        trie: &Trie<Subscriber>,
        filters: &[FilterId],
        rest: Option<Search>,
        share: &mut Share,
    ) {
        for &filter in filters {
            let values = trie.values(filter);
            self.found.extend_from_slice(values);
            share.take(values.len() / steps::COPIED_PER_STEP);
        }
        self.filters += filters.len();
        self.stage = match rest {
            Some(rest) => Stage::Search(Some(rest)),
            None if self.filters > 1 => Stage::Sort(OrderedMap::default()),
            // A session subscribes to a filter at most once, so only several filters can name it twice.
            None => Stage::Select { judged: 0, admitted: 0, run: 0 },
        };
    }

    /// The bytes that it takes.
    pub(super) const fn memory(&self) -> usize {
        self.counted.bytes()
    }

    fn count(&mut self) {
        let stage = match &self.stage {
            Stage::Search(rest) => rest.as_ref().map_or(0, Search::memory),
            Stage::Sort(map) | Stage::Collect(map) => map.len() * SORT_ENTRY_BYTES,
            Stage::Select { .. } => 0,
        };
        self.counted.set(
            memory::allocation(size_of::<Self>())
                + memory::allocation(self.topic.capacity())
                + memory::allocation(self.found.capacity() * size_of::<Subscriber>())
                + stage,
        );
    }

    /// Continues as far as the share allows. Returns whether the look-up is finished. `filters` is a buffer to be
    /// reused.
    pub(super) fn go_on(
        &mut self,
        trie: &Trie<Subscriber>,
        filters: &mut Vec<FilterId>,
        share: &mut Share,
        selection: &mut Selection<'_>,
    ) -> bool {
        loop {
            match &mut self.stage {
                Stage::Search(rest) => {
                    let rest = rest.take();
                    let before = share.left().max(1);
                    let mut left = before;
                    filters.clear();
                    let rest = trie.search(TopicName::trusted(&self.topic), rest, &mut left, filters);
                    share.take(before - left + 1);
                    self.gather(trie, filters, rest, share);
                }
                Stage::Sort(map) => {
                    while !share.is_over()
                        && let Some(Subscriber { target, terms }) = self.found.pop()
                    {
                        map.insert((target, self.found.len()), terms);
                        share.take(1);
                    }
                    if self.found.is_empty() {
                        self.stage = Stage::Collect(std::mem::take(map));
                    }
                }
                Stage::Collect(map) => {
                    while !share.is_over()
                        && let Some(((target, _), terms)) = map.pop_first()
                    {
                        self.found.push(Subscriber { target, terms });
                        share.take(1);
                    }
                    if map.is_empty() {
                        self.stage = Stage::Select { judged: 0, admitted: 0, run: 0 };
                    }
                }
                Stage::Select { .. } => {
                    let is_done = self.select(share, selection);
                    self.count();
                    return is_done;
                }
            }
            if share.is_over() {
                self.count();
                return false;
            }
        }
    }

    /// Returns the subscribers when the look-up is finished. `number` is the topic's number if the result is cached.
    pub(super) fn finish(self, generation: u64, number: Option<TopicNumber>) -> Rc<Matched> {
        let Self { topic, found, filters, .. } = self;
        let has_runs = filters > 1;
        let has_groups = has_groups(&found);
        let counted = Counted::default();
        let mut matched =
            Matched { topic, generation, subscribers: found, number, has_runs, has_groups, counted };
        matched.count();
        Rc::new(matched)
    }

    /// Judges more of the subscribers. Returns whether all have been judged.
    fn select(&mut self, share: &mut Share, selection: &mut Selection<'_>) -> bool {
        let Stage::Select { judged, admitted, run } = &mut self.stage else { return false };
        let topic = TopicName::trusted(&self.topic);
        while let Some(&subscriber) = self.found.get(*judged) {
            if share.is_over() {
                return false;
            }
            let mut one = subscriber;
            *judged += 1;
            let steps = selection.select.steps();
            share.take(steps + usize::from(*judged % steps::COPIED_PER_STEP == 0));
            if steps > 0 && !selection.select.admits(topic, &mut one) {
                continue;
            }
            let last = admitted.checked_sub(1).and_then(|last| self.found.get_mut(last));
            match last.filter(|last| last.target == one.target) {
                Some(last) if *run >= selection.matches_per_session => {
                    last.terms = last.terms.joined(one.terms);
                    *selection.surplus += 1;
                }
                other => {
                    *run = if other.is_some() { *run + 1 } else { 1 };
                    self.found[*admitted] = one;
                    *admitted += 1;
                }
            }
        }
        self.found.truncate(*admitted);
        true
    }
}

/// Whether some of these subscribers are Shared Subscriptions.
fn has_groups(subscribers: &[Subscriber]) -> bool {
    subscribers.iter().any(|subscriber| matches!(subscriber.target, Target::Group(_)))
}
