//! Who gets a message: the results of walks through the trie, kept while they are true, because publishers repeat
//! themselves.
//!
//! A topic is looked for by its bytes as they came. Only checked Topic Names get in here, so that bytes which are
//! found need not be checked again.

use std::rc::Rc;

use crate::limits::MATCHES_MEMORY_MAXIMUM;
use crate::memory;
use crate::planted::{Fault, is_planted};
use crate::subscription::Subscriber;
use crate::topic::TopicName;
use crate::trie::{FilterId, Trie};

/// Neighbouring places that a topic may take.
const PLACES: usize = 4;
/// Where a topic may begin to look for its place, when the first one comes.
const BEGINNINGS_MINIMUM: usize = 16;
/// The most such beginnings; a power of two, as all their numbers.
const BEGINNINGS_MAXIMUM: usize = 4096;

/// The subscribers of one topic, those of one session next to each other.
#[derive(Debug, Default)]
pub(super) struct Matched {
    topic: String,
    /// That of the trie when it was asked.
    generation: u64,
    subscribers: Vec<Subscriber>,
    /// Some session is there more than once.
    has_runs: bool,
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
    pub(super) const fn has_runs(&self) -> bool {
        self.has_runs
    }

    fn memory(&self) -> usize {
        memory::allocation(size_of::<Self>() + 2 * size_of::<usize>())
            + memory::allocation(self.topic.capacity())
            + memory::allocation(self.subscribers.capacity() * size_of::<Subscriber>())
    }
}

#[derive(Debug, Default)]
struct Place {
    hash: u64,
    matched: Option<Rc<Matched>>,
}

/// The topics of late, found by a hash of their bytes. Whoever contrives topics with equal hashes gets nothing but
/// walks through the trie.
#[derive(Debug, Default)]
pub(super) struct Matches {
    /// One for each beginning, and those that the last of them reaches.
    places: Vec<Place>,
    /// Which of several topics has to go: they take turns.
    turn: usize,
    /// Bytes of everything but the places.
    memory: usize,
    filters: Vec<FilterId>,
}

impl Matches {
    /// The subscribers of the topic with these bytes, if they are known.
    #[inline]
    pub(super) fn find(&self, trie: &Trie<Subscriber>, topic: &[u8]) -> Option<Rc<Matched>> {
        let hash = hash(topic);
        let beginning = self.beginning(hash);
        for place in self.places.get(beginning..beginning + PLACES)? {
            if place.hash == hash
                && let Some(matched) = &place.matched
                && matched.topic.as_bytes() == topic
                && (matched.generation == trie.generation() || is_planted(Fault::StaleMatches))
            {
                return Some(matched.clone());
            }
        }
        None
    }

    /// The subscribers of `topic`. If they are not known, `select` leaves out those that may not have it.
    pub(super) fn of(
        &mut self,
        trie: &Trie<Subscriber>,
        topic: TopicName<'_>,
        select: impl FnOnce(&mut Vec<Subscriber>),
    ) -> Rc<Matched> {
        self.find(trie, topic.as_str().as_bytes()).unwrap_or_else(|| self.walk(trie, topic, select))
    }

    /// Bytes that all of it takes.
    pub(super) const fn memory(&self) -> usize {
        memory::allocation(self.places.capacity() * size_of::<Place>()) + self.memory
    }

    #[inline(never)]
    fn walk(
        &mut self,
        trie: &Trie<Subscriber>,
        topic: TopicName<'_>,
        select: impl FnOnce(&mut Vec<Subscriber>),
    ) -> Rc<Matched> {
        if self.memory > MATCHES_MEMORY_MAXIMUM {
            *self = Self::default();
        }
        let hash = hash(topic.as_str().as_bytes());
        let at = self.make_room(hash, trie.generation());
        let former = self.places[at].matched.take();
        self.memory -= former.as_ref().map_or(0, |former| former.memory());
        let mut matched = former.filter(|former| Rc::strong_count(former) == 1).unwrap_or_default();
        let filled = Rc::get_mut(&mut matched).expect("nobody else has it");
        self.fill(filled, trie, topic);
        select(&mut filled.subscribers);
        self.memory += matched.memory();
        self.places[at] = Place { hash, matched: Some(matched.clone()) };
        matched
    }

    fn fill(&mut self, matched: &mut Matched, trie: &Trie<Subscriber>, topic: TopicName<'_>) {
        matched.topic.clear();
        matched.topic.push_str(topic.as_str());
        matched.generation = trie.generation();
        self.filters.clear();
        trie.matches(topic, &mut self.filters);
        matched.subscribers.clear();
        for &filter in &self.filters {
            matched.subscribers.extend_from_slice(trie.values(filter));
        }
        if self.filters.len() > 1 {
            // A session is at most once in a filter; only several filters can bring it up twice.
            matched.subscribers.sort_by_key(|subscriber| subscriber.target);
        }
        let pairs = matched.subscribers.windows(2);
        matched.has_runs = pairs.into_iter().any(|pair| pair[0].target == pair[1].target);
    }

    /// The place for a new topic: a free one or one that is not true any more. If there is none, there are more
    /// places from now on, up to a limit; then another topic has to go.
    fn make_room(&mut self, hash: u64, generation: u64) -> usize {
        loop {
            let beginning = self.beginning(hash);
            let places = self.places.iter().skip(beginning).take(PLACES);
            let is_free =
                |place: &Place| place.matched.as_ref().is_none_or(|matched| matched.generation != generation);
            if let Some(at) = places.into_iter().position(is_free) {
                return beginning + at;
            }
            let beginnings = self.places.len().saturating_sub(PLACES - 1);
            if beginnings == BEGINNINGS_MAXIMUM {
                self.turn = (self.turn + 1) % PLACES;
                return beginning + self.turn;
            }
            self.grow((2 * beginnings).max(BEGINNINGS_MINIMUM));
        }
    }

    /// Makes more places. A topic that finds none of its own there is forgotten.
    fn grow(&mut self, beginnings: usize) {
        let mut places: Vec<Place> = Vec::new();
        places.resize_with(beginnings + PLACES - 1, Place::default);
        for former in std::mem::replace(&mut self.places, places) {
            let Some(matched) = former.matched else { continue };
            let beginning = self.beginning(former.hash);
            let mut window = self.places[beginning..].iter_mut().take(PLACES);
            match window.find(|place| place.matched.is_none()) {
                Some(place) => *place = Place { hash: former.hash, matched: Some(matched) },
                None => self.memory -= matched.memory(),
            }
        }
    }

    /// The first of the places that a topic may take.
    #[inline]
    fn beginning(&self, hash: u64) -> usize {
        let last = self.places.len().saturating_sub(PLACES);
        usize::try_from(hash & last as u64).expect("no more than a usize")
    }
}

/// Eight bytes at a time, the last ones looked at twice if they are fewer.
#[inline]
fn hash(topic: &[u8]) -> u64 {
    let mix = |hash: u64, bytes: u64| (hash.rotate_left(23) ^ bytes).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut hash = topic.len() as u64;
    if let Some(last) = topic.last_chunk() {
        for chunk in topic.as_chunks().0 {
            hash = mix(hash, u64::from_le_bytes(*chunk));
        }
        hash = mix(hash, u64::from_le_bytes(*last));
    } else {
        hash = mix(hash, topic.iter().fold(0, |bytes, &byte| bytes << 8 | u64::from(byte)));
    }
    hash ^ hash >> 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::QoS;
    use crate::slots::{SessionMark, Slots};
    use crate::subscription::{Target, Terms};

    fn subscriber() -> Subscriber {
        let session = Slots::<SessionMark, ()>::default().insert_with(|_| ());
        Subscriber { target: Target::Session(session), terms: Terms::new(QoS::AtMostOnce, false, false, 0) }
    }

    fn sum(matches: &Matches) -> usize {
        matches.places.iter().flat_map(|place| &place.matched).map(|matched| matched.memory()).sum()
    }

    #[test]
    fn a_topic_is_known_until_the_subscriptions_change() {
        let (mut trie, mut matches) = (Trie::new(), Matches::default());
        assert!(matches.find(&trie, b"a/b").is_none());
        let topic = TopicName::new("a/b").unwrap();
        assert_eq!(matches.of(&trie, topic, |_| ()).subscribers, []);
        assert!(matches.find(&trie, b"a/b").is_some() && matches.find(&trie, b"a/c").is_none());
        trie.insert("a/+", subscriber());
        assert!(matches.find(&trie, b"a/b").is_none());
        assert_eq!(matches.of(&trie, topic, |_| ()).subscribers, [subscriber()]);
        assert_eq!(sum(&matches), matches.memory);
    }

    #[test]
    fn a_thousand_topics_are_kept_and_a_hundred_thousand_are_not() {
        let (mut trie, mut matches) = (Trie::new(), Matches::default());
        trie.insert("#", subscriber());
        let names: Vec<String> = (0..100_000).map(|number| format!("device/{number}/state")).collect();
        let (few, many) = names.split_at(1_000);
        let known = |matches: &Matches, names: &[String]| {
            names.iter().filter(|name| matches.find(&trie, name.as_bytes()).is_some()).count()
        };
        let mut walk_all = |names: &[String]| {
            for name in names {
                let matched = matches.of(&trie, TopicName::new(name).unwrap(), |_| ());
                assert_eq!((matched.topic.as_str(), matched.subscribers.len()), (name.as_str(), 1));
            }
            assert_eq!(sum(&matches), matches.memory);
            (known(&matches, few), matches.memory())
        };
        walk_all(few);
        assert!(walk_all(few).0 > 950);
        let (left, memory) = walk_all(many);
        assert!(left < 100);
        assert!(memory < 2 * MATCHES_MEMORY_MAXIMUM, "{memory}");
    }

    #[test]
    fn topics_of_all_lengths_differ() {
        let name = "0123456789abcdefghijklmnopqrstuvwxyz";
        let mut hashes: Vec<u64> = (0..=name.len()).map(|length| hash(&name.as_bytes()[..length])).collect();
        hashes
            .extend(["0123456789", "0123456798", "1023456789", "01", "10"].map(|name| hash(name.as_bytes())));
        let count = hashes.len();
        hashes.sort_unstable();
        hashes.dedup();
        // The name of ten digits and that of two are in both.
        assert_eq!(hashes.len(), count - 2);
    }
}
