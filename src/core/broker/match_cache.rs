//! The subscribers of topics: the results of walks through the trie, cached while they are valid, because publishers
//! repeat topics.
//!
//! A topic is looked up by its bytes as they came. Only checked Topic Names are entered, so bytes that are found need
//! not be checked again.

use std::rc::Rc;

use super::lookup::{Lookup, Matched, Select, Selection};
use super::turn::Share;
use super::verdicts::{TopicNumber, Verdicts};
use crate::base::memory;
use crate::core::limits::MATCHES_MEMORY_MAXIMUM;
use crate::core::subscription::Subscriber;
use crate::core::trie::{FilterId, Trie};
use crate::protocol::topic::TopicName;

/// The number of neighbouring places that a topic may take.
const PLACES: usize = 4;
/// The number of beginnings, the first places of topics, in the smallest table.
const BEGINNINGS_MINIMUM: usize = 16;
/// The most beginnings; a power of two, like all their numbers.
const BEGINNINGS_MAXIMUM: usize = 4096;

/// A topic with more subscribers is not cached: delivering to them takes far longer than finding them.
const SUBSCRIBERS_REMEMBERED: usize = 8 * 1024;
/// Up to this many subscriptions are sorted in one go.
const SORTED_AT_ONCE: usize = 1024;

#[derive(Debug, Default)]
struct Place {
    hash: u64,
    matched: Option<Rc<Matched>>,
}

/// Recent topics, found by a hash of their bytes. Contrived topics with equal hashes cause nothing but walks through
/// the trie.
#[derive(Debug, Default)]
pub(super) struct MatchCache {
    /// One place for each beginning, and the further ones that the last beginning reaches.
    places: Vec<Place>,
    /// Which of several topics is replaced: they take turns.
    turn: usize,
    /// Which topic is dropped next when memory is at its limit.
    next_to_go: usize,
    /// Bytes of everything but the places.
    memory: usize,
    filters: Vec<FilterId>,
    /// The number of the topic that was remembered last.
    latest: u64,
    /// What the access control has said of messages on the topics.
    pub(super) verdicts: Verdicts,
}

impl MatchCache {
    /// Returns the subscribers of the topic with these bytes, if they are cached.
    #[inline]
    pub(super) fn find(&self, trie: &Trie<Subscriber>, topic: &[u8]) -> Option<Rc<Matched>> {
        let hash = hash(topic);
        let beginning = self.beginning(hash);
        for place in self.places.get(beginning..beginning + PLACES)? {
            if place.hash == hash
                && let Some(matched) = &place.matched
                && matched.topic.as_bytes() == topic
                && matched.generation == trie.generation()
            {
                return Some(matched.clone());
            }
        }
        None
    }

    /// Returns the subscribers of `topic`, which are not cached, or an unfinished look-up if the share was too small
    /// for it.
    pub(super) fn look_up(
        &mut self,
        trie: &Trie<Subscriber>,
        topic: TopicName<'_>,
        share: &mut Share,
        mut selection: Selection<'_>,
    ) -> Result<Rc<Matched>, Box<Lookup>> {
        let before = share.left().max(1);
        let mut left = before;
        self.filters.clear();
        let rest = trie.search(topic, None, &mut left, &mut self.filters);
        share.take(before - left + 1);
        let count: usize = self.filters.iter().map(|&filter| trie.values(filter).len()).sum();
        let taken = count * (1 + selection.select.steps());
        let most = SORTED_AT_ONCE.min(selection.matches_per_session);
        if rest.is_none() && count <= most && taken <= share.left() {
            share.take(taken);
            return Ok(self.remember_few(trie, topic, selection.select));
        }
        let mut lookup = Box::new(Lookup::new(topic));
        lookup.gather(trie, &self.filters, rest, share);
        if !lookup.go_on(trie, &mut self.filters, share, &mut selection) {
            return Err(lookup);
        }
        let number = self.next_number();
        let matched = lookup.finish(trie.generation(), Some(number));
        if matched.subscribers.len() <= SUBSCRIBERS_REMEMBERED {
            self.remember(matched.clone());
        }
        Ok(matched)
    }

    /// Continues a look-up; returns it while it is not finished.
    pub(super) fn go_on(
        &mut self,
        mut lookup: Box<Lookup>,
        trie: &Trie<Subscriber>,
        share: &mut Share,
        mut selection: Selection<'_>,
    ) -> Result<Rc<Matched>, Box<Lookup>> {
        // The result is not cached, because the trie may have changed since the look-up began.
        match lookup.go_on(trie, &mut self.filters, share, &mut selection) {
            true => Ok(lookup.finish(trie.generation(), None)),
            false => Err(lookup),
        }
    }

    /// The bytes that the places and the verdicts take.
    pub(super) const fn memory(&self) -> usize {
        memory::allocation(self.places.capacity() * size_of::<Place>()) + self.verdicts.memory()
    }

    /// Returns everything that is cached.
    pub(super) fn remembered(&self) -> impl Iterator<Item = &Rc<Matched>> {
        self.places.iter().filter_map(|place| place.matched.as_ref())
    }

    /// Caches the subscribers of `filters`, in the place of a topic that is dropped.
    #[inline(never)]
    fn remember_few(
        &mut self,
        trie: &Trie<Subscriber>,
        topic: TopicName<'_>,
        select: &mut dyn Select,
    ) -> Rc<Matched> {
        let hash = hash(topic.as_str().as_bytes());
        let at = self.make_room(hash, trie.generation());
        let former = if self.memory > MATCHES_MEMORY_MAXIMUM { self.forget_one() } else { None };
        let replaced = self.forget(at);
        let mut matched =
            replaced.or(former).filter(|former| Rc::strong_count(former) == 1).unwrap_or_default();
        let number = self.next_number();
        let filled = Rc::get_mut(&mut matched).expect("there is no other reference");
        filled.fill(trie, (topic, number), &self.filters);
        if select.steps() > 0 {
            filled.subscribers.retain_mut(|subscriber| select.admits(topic, subscriber));
        }
        filled.count();
        self.memory += matched.memory();
        self.places[at] = Place { hash, matched: Some(matched.clone()) };
        matched
    }

    /// A number that no topic has had.
    fn next_number(&mut self) -> TopicNumber {
        self.latest += 1;
        TopicNumber::new(self.latest).expect("it begins at one")
    }

    fn remember(&mut self, matched: Rc<Matched>) {
        let hash = hash(matched.topic.as_bytes());
        let at = self.make_room(hash, matched.generation);
        self.forget(at);
        // A large entry takes the room of many small ones.
        while self.memory + matched.memory() > MATCHES_MEMORY_MAXIMUM && self.forget_one().is_some() {}
        self.memory += matched.memory();
        self.places[at] = Place { hash, matched: Some(matched) };
    }

    /// Drops the entry of one place.
    #[inline]
    fn forget(&mut self, at: usize) -> Option<Rc<Matched>> {
        let former = self.places[at].matched.take();
        self.memory -= former.as_ref().map_or(0, |former| former.memory());
        former
    }

    /// Drops one of the topics: they take turns.
    fn forget_one(&mut self) -> Option<Rc<Matched>> {
        (0..self.places.len()).find_map(|_| {
            self.next_to_go = if self.next_to_go + 1 < self.places.len() { self.next_to_go + 1 } else { 0 };
            self.forget(self.next_to_go)
        })
    }

    /// Returns the place for a new topic: a free one or one that is out of date. If there is none, the number of places
    /// grows up to a limit; after that, another topic is replaced.
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

    /// Makes more places. A topic that finds no free place of its own there is dropped.
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

/// Hashes eight bytes at a time; the last eight overlap others if the length is no multiple of eight.
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
    // The lowest bits name a place, and a different last byte alone reaches the highest ones.
    hash ^ hash >> 52
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::broker::turn::Turn;
    use crate::core::slots::{SessionMark, Slots};
    use crate::core::subscription::{Target, Terms};
    use crate::protocol::codec::QoS;

    fn subscriber() -> Subscriber {
        let session = Slots::<SessionMark, ()>::default().insert_with(|_| ());
        Subscriber { target: Target::Session(session), terms: Terms::new(QoS::AtMostOnce, false, false, 0) }
    }

    /// Admits all subscribers.
    struct All;

    impl Select for All {
        fn steps(&self) -> usize {
            0
        }

        fn admits(&mut self, _topic: TopicName<'_>, _subscriber: &mut Subscriber) -> bool {
            true
        }
    }

    /// Looks a topic up in shares of this many steps. Also returns how many shares it took, and the surplus matches.
    fn look_up(
        matches: &mut MatchCache,
        trie: &Trie<Subscriber>,
        topic: &str,
        (budget, most): (usize, usize),
    ) -> (Rc<Matched>, usize, u64) {
        let (turn, mut surplus, mut shares) = (Turn::new(budget), 0, 1);
        let topic = TopicName::new(topic).unwrap();
        let mut next = {
            let select = &mut All;
            let selection = Selection { select, matches_per_session: most, surplus: &mut surplus };
            match matches.find(trie, topic.as_str().as_bytes()) {
                Some(known) => Ok(known),
                None => matches.look_up(trie, topic, &mut turn.share(), selection),
            }
        };
        while let Err(lookup) = next {
            assert!(shares < 1_000_000, "it ends");
            shares += 1;
            let select = &mut All;
            let selection = Selection { select, matches_per_session: most, surplus: &mut surplus };
            next = matches.go_on(lookup, trie, &mut turn.share(), selection);
        }
        (next.unwrap(), shares, surplus)
    }

    fn at_once(matches: &mut MatchCache, trie: &Trie<Subscriber>, topic: &str) -> Rc<Matched> {
        let (matched, shares, surplus) = look_up(matches, trie, topic, (1 << 20, 1_000));
        assert_eq!((shares, surplus), (1, 0));
        matched
    }

    /// However small the shares are, they find the same subscribers.
    #[test]
    fn a_lookup_in_shares_finds_what_a_lookup_in_one_go_finds() {
        let mut sessions = Slots::<SessionMark, ()>::default();
        let ids = [0; 40].map(|_| sessions.insert_with(|_| ()));
        let mut trie = Trie::new();
        for (number, &id) in ids.iter().enumerate() {
            for filter in
                ["a/b/c", "+/b/c", "a/+/c", "+/+/c", "a/#", "#", "a/b/+", "x"].iter().take(number % 8 + 1)
            {
                let terms = Terms::new(QoS::AtLeastOnce, false, false, u32::try_from(number).unwrap() + 1);
                trie.insert(filter, Subscriber { target: Target::Session(id), terms });
            }
        }
        let all = at_once(&mut MatchCache::default(), &trie, "a/b/c");
        let (few, shares, _) = look_up(&mut MatchCache::default(), &trie, "a/b/c", (1, 1_000));
        assert_eq!((few.subscribers(), few.has_runs()), (all.subscribers(), true));
        assert!(shares > 3, "{shares}");
        let (bounded, _, surplus) = look_up(&mut MatchCache::default(), &trie, "a/b/c", (1, 2));
        assert_eq!(all.subscribers().len() - bounded.subscribers().len(), usize::try_from(surplus).unwrap());
        let runs = bounded.subscribers().chunk_by(|one, other| one.target == other.target);
        assert_eq!(runs.map(<[Subscriber]>::len).max(), Some(2));
    }

    #[test]
    fn matches_beyond_the_limit_of_a_session_count_for_its_qos() {
        let subscriber = subscriber();
        let mut trie = Trie::new();
        for (filter, qos) in [("a", QoS::AtMostOnce), ("+", QoS::AtMostOnce), ("#", QoS::ExactlyOnce)] {
            trie.insert(filter, Subscriber { terms: Terms::new(qos, false, false, 7), ..subscriber });
        }
        let (matched, _, surplus) = look_up(&mut MatchCache::default(), &trie, "a", (1 << 20, 1));
        let terms = Terms::new(QoS::ExactlyOnce, false, false, 7);
        assert_eq!((matched.subscribers(), surplus), (&[Subscriber { terms, ..subscriber }][..], 2));
    }

    fn sum(matches: &MatchCache) -> usize {
        matches.places.iter().flat_map(|place| &place.matched).map(|matched| matched.memory()).sum()
    }

    #[test]
    fn a_topic_is_known_until_the_subscriptions_change() {
        let (mut trie, mut matches) = (Trie::new(), MatchCache::default());
        assert!(matches.find(&trie, b"a/b").is_none());
        assert_eq!(at_once(&mut matches, &trie, "a/b").subscribers, []);
        assert!(matches.find(&trie, b"a/b").is_some() && matches.find(&trie, b"a/c").is_none());
        trie.insert("a/+", subscriber());
        assert!(matches.find(&trie, b"a/b").is_none());
        assert_eq!(at_once(&mut matches, &trie, "a/b").subscribers, [subscriber()]);
        assert_eq!(sum(&matches), matches.memory);
    }

    #[test]
    fn a_thousand_topics_are_cached_and_a_hundred_thousand_are_not() {
        let (mut trie, mut matches) = (Trie::new(), MatchCache::default());
        trie.insert("#", subscriber());
        let names: Vec<String> = (0..100_000).map(|number| format!("device/{number}/state")).collect();
        let (few, many) = names.split_at(1_000);
        let known = |matches: &MatchCache, names: &[String]| {
            names.iter().filter(|name| matches.find(&trie, name.as_bytes()).is_some()).count()
        };
        let mut walk_all = |names: &[String]| {
            for name in names {
                let matched = at_once(&mut matches, &trie, name);
                assert_eq!((matched.topic.as_str(), matched.subscribers.len()), (name.as_str(), 1));
            }
            assert_eq!(sum(&matches), matches.memory);
            (known(&matches, few), matches.memory() + matches.memory)
        };
        walk_all(few);
        assert!(walk_all(few).0 > 950);
        let (left, memory) = walk_all(many);
        assert!(left < 100);
        assert!(memory < 2 * MATCHES_MEMORY_MAXIMUM, "{memory}");
    }

    #[test]
    fn topics_that_differ_in_one_byte_take_different_places() {
        for prefix in ["a/", "bench/pair/", "a rather long name of a house/", "x"] {
            let (mut trie, mut matches) = (Trie::new(), MatchCache::default());
            trie.insert("#", subscriber());
            let names: Vec<String> = (0..50).map(|number| format!("{prefix}{number}")).collect();
            for name in &names {
                at_once(&mut matches, &trie, name);
            }
            let known = names.iter().filter(|name| matches.find(&trie, name.as_bytes()).is_some()).count();
            assert!(known >= 45, "{known} topics like {prefix}0 are known");
        }
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
        // The name of ten digits and that of two are in both lists.
        assert_eq!(hashes.len(), count - 2);
    }
}
