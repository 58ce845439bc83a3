//! Who gets a message: the results of walks through the trie, kept while they are true, because publishers repeat
//! themselves.
//!
//! A topic is looked for by its bytes as they came. Only checked Topic Names get in here, so that bytes which are
//! found need not be checked again.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::turn::{Turn, steps};
use crate::base::memory::{self, Audit, Counted};
use crate::base::planted::{Fault, is_planted};
use crate::core::limits::MATCHES_MEMORY_MAXIMUM;
use crate::core::subscription::{Subscriber, Target, Terms};
use crate::core::trie::{FilterId, Search, Trie};
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

/// The subscribers of one topic, those of one session next to each other.
#[derive(Debug, Default)]
pub(super) struct Matched {
    topic: String,
    /// That of the trie when it was asked.
    generation: u64,
    subscribers: Vec<Subscriber>,
    /// Some session is there more than once.
    has_runs: bool,
    /// Some of them are Shared Subscriptions.
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
    pub(super) const fn has_runs(&self) -> bool {
        self.has_runs
    }

    #[inline]
    pub(super) const fn has_groups(&self) -> bool {
        self.has_groups
    }

    /// What it takes. It counts itself, because it may be used longer than it is remembered.
    pub(super) const fn memory(&self) -> usize {
        self.counted.bytes()
    }

    /// Adds what it takes to an audit.
    pub(super) fn audit(self: &Rc<Self>, audit: &mut Audit) {
        audit.add_shared(Rc::as_ptr(self).addr(), self.counted.bytes());
    }

    fn count(&mut self) {
        self.counted.set(
            memory::allocation(size_of::<Self>() + 2 * size_of::<usize>())
                + memory::allocation(self.topic.capacity())
                + memory::allocation(self.subscribers.capacity() * size_of::<Subscriber>()),
        );
    }
}

/// What decides about those who are found.
pub(super) trait Select {
    /// Steps that each of them takes; none, if all are admitted.
    fn steps(&self) -> usize;

    /// Whether this one gets messages of the topic; it may lower the QoS.
    fn admits(&mut self, topic: TopicName<'_>, subscriber: &mut Subscriber) -> bool;
}

/// Who is admitted, and how many subscriptions of one session count.
pub(super) struct Selection<'a> {
    pub(super) select: &'a mut dyn Select,
    /// Subscriptions of one session that count for a message. Beyond: the session gets the message at the highest QoS
    /// among them all, without the identifiers of the others.
    pub(super) matches_per_session: usize,
    /// How many were beyond.
    pub(super) surplus: &'a mut u64,
}

/// A search for subscribers that takes more than one turn, because there are very many.
#[derive(Debug)]
pub(super) struct Lookup {
    topic: String,
    stage: Stage,
    /// Those who were found; in the end those who are admitted, in order.
    found: Vec<Subscriber>,
    /// How many filters matched.
    filters: usize,
    counted: Counted,
}

#[derive(Debug)]
enum Stage {
    /// The trie is searched.
    Search(Option<Search>),
    /// All were found and are put in order. More than a few are sorted by this map, since that can be interrupted; the
    /// number tells the subscriptions of one session apart.
    Sort(BTreeMap<(Target, usize), Terms>),
    /// They are in this order again.
    Collect(BTreeMap<(Target, usize), Terms>),
    /// So many have been judged, and so many of them were admitted.
    Select { judged: usize, admitted: usize, run: usize },
}

/// What an entry of the sorting map takes, in nodes two thirds full.
const SORT_ENTRY_BYTES: usize = (size_of::<(Target, usize)>() + size_of::<Terms>()) * 3 / 2;

impl Lookup {
    /// One that has not begun.
    pub(super) fn new(topic: TopicName<'_>) -> Self {
        Self {
            topic: topic.as_str().to_owned(),
            stage: Stage::Search(None),
            found: Vec::new(),
            filters: 0,
            counted: Counted::default(),
        }
    }

    /// These filters match; `rest` is still to be searched. Their values are taken at once, because their numbers are
    /// good only until the trie changes.
    fn gather(
        &mut self,
        trie: &Trie<Subscriber>,
        filters: &[FilterId],
        rest: Option<Search>,
        turn: &mut Turn,
    ) {
        for &filter in filters {
            let values = trie.values(filter);
            self.found.extend_from_slice(values);
            turn.take(values.len() / steps::COPIED_PER_STEP);
        }
        self.filters += filters.len();
        self.stage = match rest {
            Some(rest) => Stage::Search(Some(rest)),
            None if self.filters > 1 => Stage::Sort(BTreeMap::new()),
            // A session is at most once in a filter; only several filters can bring it up twice.
            None => Stage::Select { judged: 0, admitted: 0, run: 0 },
        };
    }

    /// Bytes that it takes.
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

    /// Takes the next steps; tells whether they were the last.
    fn go_on(
        &mut self,
        trie: &Trie<Subscriber>,
        filters: &mut Vec<FilterId>,
        turn: &mut Turn,
        selection: &mut Selection<'_>,
    ) -> bool {
        loop {
            match &mut self.stage {
                Stage::Search(rest) => {
                    let rest = rest.take();
                    let before = turn.left().max(1);
                    let mut left = before;
                    filters.clear();
                    let rest = trie.search(TopicName::trusted(&self.topic), rest, &mut left, filters);
                    turn.take(before - left + 1);
                    self.gather(trie, filters, rest, turn);
                }
                Stage::Sort(map) => {
                    while !turn.is_over()
                        && let Some(Subscriber { target, terms }) = self.found.pop()
                    {
                        map.insert((target, self.found.len()), terms);
                        turn.take(1);
                    }
                    if self.found.is_empty() {
                        self.stage = Stage::Collect(std::mem::take(map));
                    }
                }
                Stage::Collect(map) => {
                    while !turn.is_over()
                        && let Some(((target, _), terms)) = map.pop_first()
                    {
                        self.found.push(Subscriber { target, terms });
                        turn.take(1);
                    }
                    if map.is_empty() {
                        self.stage = Stage::Select { judged: 0, admitted: 0, run: 0 };
                    }
                }
                Stage::Select { .. } => {
                    let is_done = self.select(turn, selection);
                    self.count();
                    return is_done;
                }
            }
            if turn.is_over() {
                self.count();
                return false;
            }
        }
    }

    /// What was found.
    fn finish(self, generation: u64) -> Rc<Matched> {
        let Self { topic, found, filters, .. } = self;
        let has_runs = filters > 1;
        let has_groups = has_groups(&found);
        let counted = Counted::default();
        let mut matched = Matched { topic, generation, subscribers: found, has_runs, has_groups, counted };
        matched.count();
        Rc::new(matched)
    }

    /// Judges those who are left.
    fn select(&mut self, turn: &mut Turn, selection: &mut Selection<'_>) -> bool {
        let Stage::Select { judged, admitted, run } = &mut self.stage else { return false };
        let topic = TopicName::trusted(&self.topic);
        while let Some(&subscriber) = self.found.get(*judged) {
            if turn.is_over() {
                return false;
            }
            let mut one = subscriber;
            *judged += 1;
            let steps = selection.select.steps();
            turn.take(steps + usize::from(*judged % steps::COPIED_PER_STEP == 0));
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

/// Whether some of these are Shared Subscriptions.
fn has_groups(subscribers: &[Subscriber]) -> bool {
    subscribers.iter().any(|subscriber| matches!(subscriber.target, Target::Group(_)))
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
    /// Which topic has to go next, where memory is at its limit.
    next_to_go: usize,
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
        self.fill(filled, trie, topic);
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

    fn fill(&mut self, matched: &mut Matched, trie: &Trie<Subscriber>, topic: TopicName<'_>) {
        matched.topic.clear();
        matched.topic.push_str(topic.as_str());
        matched.generation = trie.generation();
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
        matched.has_groups = has_groups(&matched.subscribers);
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
        matches: &mut Matches,
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

    fn at_once(matches: &mut Matches, trie: &Trie<Subscriber>, topic: &str) -> Rc<Matched> {
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
        let all = at_once(&mut Matches::default(), &trie, "a/b/c");
        let (few, shares, _) = look_up(&mut Matches::default(), &trie, "a/b/c", (1, 1_000));
        assert_eq!((few.subscribers(), few.has_runs()), (all.subscribers(), true));
        assert!(shares > 3, "{shares}");
        let (bounded, _, surplus) = look_up(&mut Matches::default(), &trie, "a/b/c", (1, 2));
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
        let (matched, _, surplus) = look_up(&mut Matches::default(), &trie, "a", (1 << 20, 1));
        let terms = Terms::new(QoS::ExactlyOnce, false, false, 7);
        assert_eq!((matched.subscribers(), surplus), (&[Subscriber { terms, ..subscriber }][..], 2));
    }

    fn sum(matches: &Matches) -> usize {
        matches.places.iter().flat_map(|place| &place.matched).map(|matched| matched.memory()).sum()
    }

    #[test]
    fn a_topic_is_known_until_the_subscriptions_change() {
        let (mut trie, mut matches) = (Trie::new(), Matches::default());
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
        let (mut trie, mut matches) = (Trie::new(), Matches::default());
        trie.insert("#", subscriber());
        let names: Vec<String> = (0..100_000).map(|number| format!("device/{number}/state")).collect();
        let (few, many) = names.split_at(1_000);
        let known = |matches: &Matches, names: &[String]| {
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
            let (mut trie, mut matches) = (Trie::new(), Matches::default());
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
