//! The topics for which a bridge still has to send the retained message to the other broker: it changed while the bridge
//! was away, or was dropped from its queue. What is retained is looked up when it is sent.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::base::memory::{self, Counted};

/// The most bytes of topics. Beyond, all retained messages are owed, as beyond the most topics.
const BYTES_MAXIMUM: usize = 4 * 1024 * 1024;
/// The memory of an entry of the map, in nodes two thirds full, without its topic.
const ENTRY_BYTES: usize = 32;
/// Stands for all topics. No Topic Name is empty [MQTT-4.7.3-1].
pub const ALL: &str = "";

/// The retained messages that one bridge is owed.
#[derive(Debug, Default)]
pub struct Changes {
    /// Each topic, and whether its message was sent on a connection that is still being set up: it counts as sent once
    /// messages are forwarded.
    topics: BTreeMap<Box<str>, bool>,
    bytes: usize,
    counted: Counted,
}

impl Changes {
    /// Whether nothing is owed.
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// The number of topics; `None` if all retained messages are owed.
    pub fn len(&self) -> Option<usize> {
        (!self.has_all()).then_some(self.topics.len())
    }

    /// Whether all retained messages are owed.
    pub fn has_all(&self) -> bool {
        self.topics.contains_key(ALL)
    }

    /// Whether one more topic exceeds this number of them, or the limit in bytes.
    pub fn is_full(&self, topic: &str, most: usize) -> bool {
        let count = self.topics.len() - usize::from(self.has_all());
        count >= most || self.bytes + memory::allocation(topic.len()) > BYTES_MAXIMUM
    }

    /// Whether the message of this topic is owed.
    pub fn contains(&self, topic: &str) -> bool {
        self.topics.contains_key(topic)
    }

    /// Adds a topic. Returns whether it is new.
    pub fn insert(&mut self, topic: &str, is_sent: bool) -> bool {
        let is_new = self.topics.insert(topic.into(), is_sent).is_none();
        if is_new {
            self.bytes += memory::allocation(topic.len());
            self.count();
        }
        is_new
    }

    /// Removes a topic. Returns whether it was there.
    pub fn remove(&mut self, topic: &str) -> bool {
        let was_there = self.topics.remove(topic).is_some();
        if was_there {
            self.bytes -= memory::allocation(topic.len());
            self.count();
        }
        was_there
    }

    /// Removes all topics.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Returns the first topic after this one.
    pub fn after(&self, topic: &str) -> Option<&str> {
        let after = (Bound::Excluded(topic), Bound::Unbounded);
        self.topics.range::<str, _>(after).next().map(|(topic, _)| &**topic)
    }

    /// Returns the topics that are not wanted any longer.
    pub fn unwanted(&self, is_wanted: impl Fn(&str) -> bool) -> Vec<Box<str>> {
        self.topics.keys().filter(|topic| !topic.is_empty() && !is_wanted(topic)).cloned().collect()
    }

    /// Returns the topics whose messages were sent while the connection was being set up.
    pub fn sent(&self) -> Vec<Box<str>> {
        self.topics.iter().filter(|(_, is_sent)| **is_sent).map(|(topic, _)| topic.clone()).collect()
    }

    /// Notes that the connection is over on which messages were sent while it was being set up.
    pub fn were_lost(&mut self) {
        self.topics.values_mut().for_each(|is_sent| *is_sent = false);
    }

    /// The bytes that it takes.
    pub const fn memory(&self) -> usize {
        self.counted.bytes()
    }

    fn count(&mut self) {
        self.counted.set(self.bytes + self.topics.len() * ENTRY_BYTES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_limited_in_number_and_in_bytes() {
        let mut changes = Changes::default();
        assert!(changes.insert("a", false) && !changes.insert("a", true) && changes.insert("b", true));
        assert!(changes.is_full("c", 2) && !changes.is_full("c", 3) && changes.is_full("c", 0));
        assert_eq!(changes.sent(), ["a".into(), "b".into()]);
        changes.were_lost();
        assert!(changes.sent().is_empty());
        assert!(changes.insert(ALL, false) && changes.has_all());
        assert!(!changes.is_full("c", 3), "all topics are not one more");
        assert_eq!(
            (changes.after(ALL), changes.after("a"), changes.after("b")),
            (Some("a"), Some("b"), None)
        );
        assert_eq!(changes.unwanted(|topic| topic == "a"), ["b".into()]);
        assert!(changes.remove("a") && !changes.remove("a") && changes.contains("b"));
        let long = "x".repeat(60_000);
        for number in 0..BYTES_MAXIMUM / 60_100 {
            assert!(!changes.is_full(&long, 1_000));
            changes.insert(&format!("{long}{number}"), false);
        }
        assert!(changes.is_full(&long, 1_000));
        changes.clear();
        assert!(changes.is_empty() && changes.memory() == 0);
    }
}
