//! The retained messages, ordered by topic. A walk for a filter skips topics: after one that does not match, it seeks
//! the first one that could. A walk remembers only the last topic that it visited, so it can pause and continue while
//! the messages change.
//!
//! An ordered set with the topic inside each message as the key costs one pointer pair per topic; a tree of levels
//! would store every topic twice.

mod changes;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::Bound;

use crate::base::memory::{self, Audit};
use crate::base::time::Time;
use crate::core::limits::Limits;
use crate::core::message::Message;
use crate::protocol::topic::{TopicFilter, TopicName};

pub use changes::{ALL, Changes};

/// When a message was retained. It rises with each message; messages from an earlier run are the oldest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(u64);

/// A message, found by its topic.
#[derive(Debug)]
struct ByTopic {
    message: Message,
    stamp: Stamp,
}

impl Borrow<[u8]> for ByTopic {
    fn borrow(&self) -> &[u8] {
        self.message.topic_bytes()
    }
}

impl PartialEq for ByTopic {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for ByTopic {}

impl PartialOrd for ByTopic {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByTopic {
    fn cmp(&self, other: &Self) -> Ordering {
        self.message.topic_bytes().cmp(other.message.topic_bytes())
    }
}

/// Where a walk continues. The default is before every topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position(Bound<Box<[u8]>>);

impl Default for Position {
    fn default() -> Self {
        Self(Bound::Unbounded)
    }
}

impl Position {
    /// Returns the position from which a walk continues with this message's topic.
    pub fn at(message: &Message) -> Self {
        Self(Bound::Included(message.topic_bytes().into()))
    }

    /// The bytes that it takes.
    pub fn memory(&self) -> usize {
        match &self.0 {
            Bound::Included(bytes) | Bound::Excluded(bytes) => memory::allocation(bytes.len()),
            Bound::Unbounded => 0,
        }
    }

    fn as_bound(&self) -> Bound<&[u8]> {
        match &self.0 {
            Bound::Included(bytes) => Bound::Included(bytes),
            Bound::Excluded(bytes) => Bound::Excluded(bytes),
            Bound::Unbounded => Bound::Unbounded,
        }
    }
}

/// What was done with a message that a walk has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It was taken, and the next one may be, too.
    Yes,
    /// It was taken; the walk continues after it later.
    YesAndStop,
    /// It was not taken; the walk continues with it later.
    No,
}

/// Why a walk stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walk {
    /// Every topic was visited.
    Over,
    /// The budget is used up, or the last message was not taken; the position tells where to continue.
    Paused,
}

/// The memory of one entry of the set: three words in nodes two thirds full.
const SET_ENTRY_BYTES: usize = 39;

/// The retained messages of all topics.
#[derive(Debug, Default)]
pub struct Retained {
    messages: BTreeSet<ByTopic>,
    latest: Stamp,
    bytes: usize,
    /// How many messages expire.
    expiring: usize,
    /// How many messages are the broker's own, and their bytes; limits do not count them.
    own: usize,
    own_bytes: usize,
}

impl Retained {
    /// The number of retained messages.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether no message is retained.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The bytes of all retained messages.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The bytes of the set besides the messages: nodes two thirds full.
    pub fn overhead(&self) -> usize {
        self.messages.len() * SET_ENTRY_BYTES
    }

    /// The stamp of the latest message.
    pub const fn latest(&self) -> Stamp {
        self.latest
    }

    /// Whether any message expires.
    pub const fn has_expiring(&self) -> bool {
        self.expiring > 0
    }

    /// Returns the message retained for `topic`.
    pub fn find(&self, topic: TopicName<'_>) -> Option<&Message> {
        self.messages.get(topic.as_str().as_bytes()).map(|by_topic| &by_topic.message)
    }

    /// Whether a message of `bytes` bytes for `topic` fits. One that replaces another always fits by count, and the
    /// broker's own messages always fit.
    pub fn has_room(&self, topic: TopicName<'_>, bytes: usize, limits: &Limits) -> bool {
        if topic.is_about_the_broker() {
            return true;
        }
        let replaced = self.find(topic);
        let count = self.messages.len() - self.own + usize::from(replaced.is_none());
        let total = self.bytes - self.own_bytes - replaced.map_or(0, Message::memory) + bytes;
        count <= limits.retained_count && total <= limits.retained_bytes
    }

    /// Retains `message` for its topic and replaces the former one [MQTT-3.3.1-5].
    pub fn set(&mut self, message: Message) {
        self.latest.0 += 1;
        self.restore(message);
    }

    /// Retains a message from an earlier run: it is older than all that come.
    pub fn restore(&mut self, message: Message) {
        self.bytes += message.memory();
        self.expiring += usize::from(message.expires() != Time::NEVER);
        if is_own(&message) {
            self.own += 1;
            self.own_bytes += message.memory();
        }
        let stamp = self.latest;
        if let Some(replaced) = self.messages.replace(ByTopic { message, stamp }) {
            self.forget(&replaced.message);
        }
    }

    /// Removes the broker's own messages.
    pub fn clear_own(&mut self) {
        let below = (Bound::Included(OWN), Bound::Excluded(BEHIND_OWN));
        let all = self.messages.range::<[u8], _>(below).map(|by_topic| &by_topic.message);
        let own: Vec<Message> = all.filter(|message| is_own(message)).cloned().collect();
        for message in own {
            self.remove(message.topic_bytes());
        }
    }

    /// Removes the message retained for `topic` [MQTT-3.3.1-6]. Returns whether there was one.
    pub fn clear(&mut self, topic: TopicName<'_>) -> bool {
        self.remove(topic.as_str().as_bytes())
    }

    fn remove(&mut self, topic: &[u8]) -> bool {
        let Some(removed) = self.messages.take(topic) else { return false };
        self.forget(&removed.message);
        true
    }

    fn forget(&mut self, message: &Message) {
        self.bytes -= message.memory();
        self.expiring -= usize::from(message.expires() != Time::NEVER);
        if is_own(message) {
            self.own -= 1;
            self.own_bytes -= message.memory();
        }
    }

    /// Passes the unexpired messages that `filter` matches to `take`, in the order of their topics, until it says to
    /// stop; the next call continues from there. Visits at most `budget` topics, which are subtracted from `budget`.
    pub fn walk(
        &self,
        filter: TopicFilter<'_>,
        position: &mut Position,
        now: Time,
        budget: &mut usize,
        mut take: impl FnMut(&Message, Stamp) -> Taken,
    ) -> Walk {
        let pattern = filter.pattern().as_bytes();
        let mut range = self.messages.range::<[u8], _>((position.as_bound(), Bound::Unbounded));
        let mut last: Option<&[u8]> = None;
        while *budget > 0 {
            *budget -= 1;
            let Some(ByTopic { message, stamp }) = range.next() else { return Walk::Over };
            let topic = message.topic_bytes();
            match seek(pattern, topic) {
                Seek::Match if message.expires() > now => match take(message, *stamp) {
                    Taken::Yes => {}
                    Taken::YesAndStop => {
                        position.0 = Bound::Excluded(topic.into());
                        return Walk::Paused;
                    }
                    Taken::No => {
                        position.0 = Bound::Included(topic.into());
                        return Walk::Paused;
                    }
                },
                Seek::Match | Seek::Next => {}
                Seek::To(next) => {
                    position.0 = Bound::Included(next.into());
                    range = self.messages.range::<[u8], _>((position.as_bound(), Bound::Unbounded));
                    last = None;
                    // Seeking takes longer than visiting the next one.
                    *budget = budget.saturating_sub(1);
                    continue;
                }
                Seek::Over => return Walk::Over,
            }
            last = Some(topic);
        }
        if let Some(topic) = last {
            position.0 = Bound::Excluded(topic.into());
        }
        Walk::Paused
    }

    /// Removes the expired ones among the next `budget` messages, and reports their topics.
    pub fn expire(
        &mut self,
        position: &mut Position,
        now: Time,
        budget: usize,
        mut tell: impl FnMut(TopicName<'_>),
    ) -> Walk {
        let mut expired: Vec<Box<[u8]>> = Vec::new();
        let mut last = None;
        let mut seen = 0;
        for ByTopic { message, .. } in
            self.messages.range::<[u8], _>((position.as_bound(), Bound::Unbounded)).take(budget)
        {
            seen += 1;
            last = Some(message.topic_bytes());
            if message.expires() <= now {
                expired.push(message.topic_bytes().into());
            }
        }
        let walk = if seen == budget { Walk::Paused } else { Walk::Over };
        position.0 = match last {
            Some(topic) if walk == Walk::Paused => Bound::Excluded(topic.into()),
            _ => Bound::Unbounded,
        };
        for topic in expired {
            if let Ok(topic) = std::str::from_utf8(&topic) {
                tell(TopicName::trusted(topic));
            }
            self.remove(&topic);
        }
        walk
    }

    /// Adds the memory of the messages to an audit.
    pub fn audit(&self, audit: &mut Audit) {
        self.messages.iter().for_each(|by_topic| by_topic.message.audit(audit));
    }

    /// Asserts that the sums are right.
    pub fn check_invariants(&self) {
        let bytes: usize = self.messages.iter().map(|by_topic| by_topic.message.memory()).sum();
        assert_eq!(bytes, self.bytes, "retained bytes are counted");
        let expiring =
            self.messages.iter().filter(|by_topic| by_topic.message.expires() != Time::NEVER).count();
        assert_eq!(expiring, self.expiring, "expiring retained messages are counted");
        let own = self.messages.iter().filter(|by_topic| is_own(&by_topic.message)).count();
        assert_eq!(own, self.own, "the broker's own messages are counted");
        let is_past = |by_topic: &ByTopic| by_topic.stamp <= self.latest;
        assert!(self.messages.iter().all(is_past), "no stamp is later than the latest");
    }
}

/// Everything that only the broker publishes lies between these.
const OWN: &[u8] = b"$SYS/";
const BEHIND_OWN: &[u8] = &[b'$', b'S', b'Y', b'S', AFTER_SEPARATOR];

/// Whether only the broker can have published the message.
fn is_own(message: &Message) -> bool {
    message.publication().topic.is_about_the_broker()
}

/// What follows from the comparison with one topic.
enum Seek {
    /// It matches.
    Match,
    /// It does not match; the next one could.
    Next,
    /// It does not match; the first topic that could is this one or a later one.
    To(Vec<u8>),
    /// No later topic can match.
    Over,
}

/// The byte after the level separator: `a0` is the first text after everything that begins with `a/`.
const AFTER_SEPARATOR: u8 = b'/' + 1;

fn seek(pattern: &[u8], topic: &[u8]) -> Seek {
    if topic.first() == Some(&b'$') && matches!(pattern.first(), Some(b'+' | b'#')) {
        return Seek::To(vec![b'$' + 1]);
    }
    let mut levels = pattern.split(|&byte| byte == b'/').peekable();
    let mut level_at = 0;
    while let Some(wanted) = levels.next() {
        if wanted == b"#" {
            return Seek::Match;
        }
        let (before, rest) = topic.split_at(level_at);
        let level_end = level_at + rest.iter().position(|&byte| byte == b'/').unwrap_or(rest.len());
        let level = &topic[level_at..level_end];
        if wanted != b"+" && wanted != level {
            return seek_literal(before, wanted, levels.peek().copied(), topic);
        }
        match (levels.peek(), level_end == topic.len()) {
            (None, true) => return Seek::Match,
            (None, false) => return behind_level(&topic[..level_end]),
            (Some(&next), true) if next == b"#" => return Seek::Match,
            // Between a level and the levels below it, others that begin alike are sorted: `a!` comes before `a/`.
            (Some(_), true) if wanted == b"+" => return Seek::Next,
            (Some(_), true) => return Seek::To([topic, b"/"].concat()),
            (Some(_), false) => level_at = level_end + 1,
        }
    }
    Seek::Match
}

/// Continues after everything below the level that ends `prefix`.
fn behind_level(prefix: &[u8]) -> Seek {
    let mut next = prefix.to_vec();
    next.push(AFTER_SEPARATOR);
    Seek::To(next)
}

/// Where to continue if the level after `before` had to be `wanted` and is not.
fn seek_literal(before: &[u8], wanted: &[u8], following: Option<&[u8]>, topic: &[u8]) -> Seek {
    let itself = [before, wanted].concat();
    let ends_here = following.is_none_or(|level| level == b"#");
    if ends_here && topic < itself.as_slice() {
        return Seek::To(itself);
    }
    let below = [&itself, b"/".as_slice()].concat();
    if following.is_some() && topic < below.as_slice() {
        return Seek::To(below);
    }
    match before.split_last() {
        Some((_, prefix)) => behind_level(prefix),
        None => Seek::Over,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::message::{Publication, Spares};
    use crate::protocol::codec::{Properties, QoS};
    use proptest::prelude::*;

    fn message(topic: &str, expires: Time) -> Message {
        let publication = Publication {
            topic: TopicName::new(topic).unwrap(),
            payload: b"x",
            qos: QoS::AtMostOnce,
            retain: true,
            publisher: None,
            properties: Properties::default(),
            expires,
        };
        Message::new(&publication, &mut Spares::default())
    }

    fn walk(retained: &Retained, filter: &str, budget: usize) -> Vec<String> {
        let filter = TopicFilter::new(filter).unwrap();
        let mut position = Position::default();
        let mut found = Vec::new();
        for _ in 0..10_000 {
            let walk = retained.walk(filter, &mut position, Time::ZERO, &mut { budget }, |message, _| {
                found.push(message.publication().topic.to_string());
                if found.len() % 2 == 0 { Taken::Yes } else { Taken::YesAndStop }
            });
            if walk == Walk::Over {
                return found;
            }
        }
        panic!("the walk of {filter} does not end");
    }

    fn level() -> impl Strategy<Value = String> {
        prop_oneof!["[ab!0$]{0,2}", Just("a".to_owned()), Just("b".to_owned())]
    }

    fn filter_level() -> impl Strategy<Value = String> {
        prop_oneof![3 => level(), 2 => Just("+".to_owned())]
    }

    proptest! {
        #[test]
        fn a_walk_finds_what_the_naive_matcher_finds(
            topics in prop::collection::btree_set(prop::collection::vec(level(), 1..4), 0..40),
            filter in prop::collection::vec(filter_level(), 1..4),
            hash in any::<bool>(),
            budget in 1_usize..5,
        ) {
            let mut filter = filter.join("/");
            if hash { filter.push_str("/#"); }
            prop_assume!(TopicFilter::new(&filter).is_ok());
            let mut retained = Retained::default();
            let mut expected = Vec::new();
            let checked = TopicFilter::new(&filter).unwrap();
            let names: std::collections::BTreeSet<String> =
                topics.iter().map(|levels| levels.join("/")).filter(|name| !name.is_empty()).collect();
            for name in &names {
                retained.set(message(name, Time::NEVER));
                if checked.matches(TopicName::new(name).unwrap()) { expected.push(name.clone()); }
            }
            retained.check_invariants();
            prop_assert_eq!(walk(&retained, &filter, budget), expected);
        }
    }

    #[test]
    fn the_last_message_of_a_topic_is_retained_and_no_messages_cost_nothing() {
        let mut retained = Retained::default();
        retained.set(message("a", Time::NEVER));
        retained.set(message("a", Time::from_milliseconds(5)));
        assert_eq!((retained.len(), retained.has_expiring()), (1, true));
        assert!(retained.clear(TopicName::new("a").unwrap()));
        assert!(!retained.clear(TopicName::new("a").unwrap()));
        assert_eq!((retained.len(), retained.bytes(), retained.has_expiring()), (0, 0, false));
    }

    #[test]
    fn stamps_tell_which_messages_came_after_a_moment() {
        let mut retained = Retained::default();
        retained.restore(message("old", Time::NEVER));
        retained.set(message("a", Time::NEVER));
        retained.set(message("b", Time::NEVER));
        let moment = retained.latest();
        retained.set(message("a", Time::NEVER));
        retained.clear(TopicName::new("b").unwrap());
        retained.set(message("b", Time::NEVER));
        retained.set(message("new", Time::NEVER));
        let mut before = Vec::new();
        let filter = TopicFilter::new("#").unwrap();
        let _ = retained.walk(filter, &mut Position::default(), Time::ZERO, &mut 10, |message, stamp| {
            before.extend((stamp <= moment).then(|| message.publication().topic.to_string()));
            Taken::Yes
        });
        assert_eq!(before, ["old"], "a replaced or repeated message is newer");
        retained.check_invariants();
    }

    #[test]
    fn expired_messages_are_neither_found_nor_retained() {
        let mut retained = Retained::default();
        for (topic, expires) in [("a", 5), ("b", 20), ("c", 5)] {
            retained.set(message(topic, Time::from_milliseconds(expires)));
        }
        let mut found = Vec::new();
        let now = Time::from_milliseconds(5);
        let filter = TopicFilter::new("#").unwrap();
        let _ = retained.walk(filter, &mut Position::default(), now, &mut 10, |message, _| {
            found.push(message.publication().topic.to_string());
            Taken::Yes
        });
        assert_eq!(found, ["b"]);
        let mut position = Position::default();
        assert_eq!(retained.expire(&mut position, now, 2, |_| {}), Walk::Paused);
        assert_eq!(retained.expire(&mut position, now, 2, |_| {}), Walk::Over);
        assert_eq!(retained.len(), 1);
        retained.check_invariants();
    }

    #[test]
    fn a_message_that_is_not_taken_comes_again() {
        let mut retained = Retained::default();
        retained.set(message("a", Time::NEVER));
        let filter = TopicFilter::new("+").unwrap();
        let mut position = Position::default();
        assert_eq!(retained.walk(filter, &mut position, Time::ZERO, &mut 10, |_, _| Taken::No), Walk::Paused);
        let mut found = 0;
        let taken = retained.walk(filter, &mut position, Time::ZERO, &mut 10, |_, _| {
            found += 1;
            Taken::Yes
        });
        assert_eq!((taken, found), (Walk::Over, 1));
    }
}
