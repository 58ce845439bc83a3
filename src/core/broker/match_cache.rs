//! Who gets a message: the results of walks through the trie, kept while they are true, because publishers repeat
//! themselves.
//!
//! A topic is looked for by its bytes as they came. Only checked Topic Names get in here, so that bytes which are
//! found need not be checked again.

use std::rc::Rc;

use super::lookup::{Lookup, Matched, Select, Selection};
use super::turn::Turn;
use crate::base::memory;
use crate::base::planted::{Fault, is_planted};
use crate::core::limits::MATCHES_MEMORY_MAXIMUM;
use crate::core::subscription::Subscriber;
use crate::core::trie::{FilterId, Trie};
use crate::protocol::topic::TopicName;

/// Neighbouring places that a topic may take.
const PLACES: usize = 4;
/// Where a topic may begin to look for its place, when the first one comes.
const BEGINNINGS_MINIMUM: usize = 16;
/// The most such beginnings; a power of two, as all their numbers.
const BEGINNINGS_MAXIMUM: usize = 4096;

/// A topic with more subscribers is not remembered: to deliver to them takes far longer than to find them.
const SUBSCRIBERS_REMEMBERED: usize = 8 * 1024;
/// Up to so many subscriptions are put in order at once.
const SORTED_AT_ONCE: usize = 1024;

#[derive(Debug, Default)]
struct Place {
    hash: u64,
    matched: Option<Rc<Matched>>,
}

/// The topics of late, found by a hash of their bytes. Whoever contrives topics with equal hashes gets nothing but
/// walks through the trie.
#[derive(Debug, Default)]
pub(super) struct MatchCache {
    /// One for each beginning, and those that the last of them reaches.
    places: Vec<Place>,
    /// Which of several topics has to go: they take turns.
    turn: usize,
    /// Which topic has to go next, where memory is at its limit.
    next_to_go: usize,
    /// Bytes of everything but the places.
    memory: usize,
    filters: Vec<FilterId>,
}

impl MatchCache {
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

    /// The subscribers of `topic`, or a search for them that the share in progress was too small for.
    pub(super) fn look_up(
        &mut self,
        trie: &Trie<Subscriber>,
        topic: TopicName<'_>,
        turn: &mut Turn,
        mut selection: Selection<'_>,
    ) -> Result<Rc<Matched>, Box<Lookup>> {
        if let Some(known) = self.find(trie, topic.as_str().as_bytes()) {
            return Ok(known);
        }
        let before = turn.left().max(1);
        let mut left = before;
        self.filters.clear();
        let rest = trie.search(topic, None, &mut left, &mut self.filters);
        turn.take(before - left + 1);
        let count: usize = self.filters.iter().map(|&filter| trie.values(filter).len()).sum();
        let taken = count * (1 + selection.select.steps());
        let most = SORTED_AT_ONCE.min(selection.matches_per_session);
        if rest.is_none() && count <= most && taken <= turn.left() {
            turn.take(taken);
            return Ok(self.remember_few(trie, topic, selection.select));
        }
        let mut lookup = Box::new(Lookup::new(topic));
        lookup.gather(trie, &self.filters, rest, turn);
        if !lookup.go_on(trie, &mut self.filters, turn, &mut selection) {
            return Err(lookup);
        }
        let matched = lookup.finish(trie.generation());
        if matched.subscribers.len() <= SUBSCRIBERS_REMEMBERED {
            self.remember(matched.clone());
        }
        Ok(matched)
    }

    /// Goes on with a search; gives it back while it is not over.
    pub(super) fn go_on(
        &mut self,
        mut lookup: Box<Lookup>,
        trie: &Trie<Subscriber>,
        turn: &mut Turn,
        mut selection: Selection<'_>,
    ) -> Result<Rc<Matched>, Box<Lookup>> {
        // What it has found is not remembered, because the trie may have changed since it began.
        match lookup.go_on(trie, &mut self.filters, turn, &mut selection) {
            true => Ok(lookup.finish(trie.generation())),
            false => Err(lookup),
        }
    }

    /// Bytes that the places take.
    pub(super) const fn memory(&self) -> usize {
        memory::allocation(self.places.capacity() * size_of::<Place>())
    }

    /// All that is remembered.
    pub(super) fn remembered(&self) -> impl Iterator<Item = &Rc<Matched>> {
        self.places.iter().filter_map(|place| place.matched.as_ref())
    }

    /// Remembers the subscribers of `filters`, in the place of a topic that has to go.
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
        let filled = Rc::get_mut(&mut matched).expect("it is held here alone");
        filled.fill(trie, topic, &self.filters);
        if select.steps() > 0 {
            filled.subscribers.retain_mut(|subscriber| select.admits(topic, subscriber));
        }
        filled.count();
        self.memory += matched.memory();
        self.places[at] = Place { hash, matched: Some(matched.clone()) };
        matched
    }

    fn remember(&mut self, matched: Rc<Matched>) {
        let hash = hash(matched.topic.as_bytes());
        let at = self.make_room(hash, matched.generation);
        self.forget(at);
        // Large ones take the room of many small ones.
        while self.memory + matched.memory() > MATCHES_MEMORY_MAXIMUM && self.forget_one().is_some() {}
        self.memory += matched.memory();
        self.places[at] = Place { hash, matched: Some(matched) };
    }

    /// Forgets what is remembered in one place.
    #[inline]
    fn forget(&mut self, at: usize) -> Option<Rc<Matched>> {
        let former = self.places[at].matched.take();
        self.memory -= former.as_ref().map_or(0, |former| former.memory());
        former
    }

    /// Forgets one of the topics: they take turns.
    fn forget_one(&mut self) -> Option<Rc<Matched>> {
        (0..self.places.len()).find_map(|_| {
            self.next_to_go = if self.next_to_go + 1 < self.places.len() { self.next_to_go + 1 } else { 0 };
            self.forget(self.next_to_go)
        })
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
    // A place is named by the lowest bits, and a last byte that differs reaches the highest alone.
    hash ^ hash >> 52
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::slots::{SessionMark, Slots};
    use crate::core::subscription::{Target, Terms};
    use crate::protocol::codec::QoS;

    fn subscriber() -> Subscriber {
        let session = Slots::<SessionMark, ()>::default().insert_with(|_| ());
        Subscriber { target: Target::Session(session), terms: Terms::new(QoS::AtMostOnce, false, false, 0) }
    }

    /// Lets all pass.
    struct All;

    impl Select for All {
        fn steps(&self) -> usize {
            0
        }

        fn admits(&mut self, _topic: TopicName<'_>, _subscriber: &mut Subscriber) -> bool {
            true
        }
    }

    /// Looks a topic up in shares of so many steps; tells also how many it took.
    fn look_up(
        matches: &mut MatchCache,
        trie: &Trie<Subscriber>,
        topic: &str,
        (budget, most): (usize, usize),
    ) -> (Rc<Matched>, usize, u64) {
        let (mut turn, mut surplus, mut shares) = (Turn::new(budget), 0, 1);
        let topic = TopicName::new(topic).unwrap();
        let mut next = {
            let select = &mut All;
            let selection = Selection { select, matches_per_session: most, surplus: &mut surplus };
            matches.look_up(trie, topic, &mut turn, selection)
        };
        while let Err(lookup) = next {
            assert!(shares < 1_000_000, "it ends");
            turn.end();
            shares += 1;
            let select = &mut All;
            let selection = Selection { select, matches_per_session: most, surplus: &mut surplus };
            next = matches.go_on(lookup, trie, &mut turn, selection);
        }
        (next.unwrap(), shares, surplus)
    }

    fn at_once(matches: &mut MatchCache, trie: &Trie<Subscriber>, topic: &str) -> Rc<Matched> {
        let (matched, shares, surplus) = look_up(matches, trie, topic, (1 << 20, 1_000));
        assert_eq!((shares, surplus), (1, 0));
        matched
    }

    /// However small the shares are, those are found who are found at once.
    #[test]
    fn a_lookup_in_shares_finds_what_one_at_once_finds() {
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
    fn what_is_beyond_the_limit_of_a_session_counts_for_its_qos() {
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
    fn a_thousand_topics_are_kept_and_a_hundred_thousand_are_not() {
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
        // The name of ten digits and that of two are in both.
        assert_eq!(hashes.len(), count - 2);
    }
}
