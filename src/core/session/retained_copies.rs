//! The topics of copies with RETAIN among the messages that wait in the store. They are remembered for bridges: if such a
//! copy is dropped, the other broker is owed what is retained for its topic.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::base::memory;
use crate::core::journal::MessageNumber;
use crate::core::message::Message;

/// The memory of an entry in each of the two maps, in nodes two thirds full, and of the counts of a shared topic.
const ENTRY_BYTES: usize = 24 + 36 + 16;

/// A copy with RETAIN that was dropped before it was sent.
#[derive(Debug)]
pub enum LostCopy {
    /// It was queued in memory.
    Queued(Message),
    /// It was the last one with this topic in the store.
    Stored(Rc<str>),
}

/// The topics of copies with RETAIN.
#[derive(Debug, Default)]
pub(super) struct RetainedCopies {
    topics: BTreeMap<MessageNumber, Rc<str>>,
    /// The last copy of each topic.
    latest: BTreeMap<Rc<str>, MessageNumber>,
    bytes: usize,
}

impl RetainedCopies {
    /// Adds the topic of a copy.
    pub(super) fn insert(&mut self, number: MessageNumber, topic: &str) {
        let topic = match self.latest.get_key_value(topic) {
            Some((known, _)) => Rc::clone(known),
            None => Rc::from(topic),
        };
        let latest = self.latest.entry(Rc::clone(&topic)).or_insert_with(|| {
            self.bytes += memory::allocation(topic.len());
            number
        });
        *latest = number.max(*latest);
        self.topics.insert(number, topic);
    }

    /// Removes the topic of a copy that is no longer in the store. Returns it if no later copy has it.
    pub(super) fn remove(&mut self, number: MessageNumber) -> Option<Rc<str>> {
        let topic = self.topics.remove(&number)?;
        if self.latest.get(&topic) != Some(&number) {
            return None;
        }
        self.latest.remove(&topic);
        self.bytes -= memory::allocation(topic.len());
        Some(topic)
    }

    /// The topics, each once.
    pub(super) fn topics(&self) -> impl Iterator<Item = &Rc<str>> {
        self.latest.keys()
    }

    /// The bytes that they take.
    pub(super) fn memory(&self) -> usize {
        self.topics.len() * ENTRY_BYTES + self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    fn number(value: u64) -> MessageNumber {
        MessageNumber(NonZeroU64::new(value).unwrap())
    }

    #[test]
    fn only_the_last_copy_of_a_topic_is_missed() {
        let mut copies = RetainedCopies::default();
        for (value, topic) in [(1, "a"), (3, "a"), (2, "a"), (4, "b")] {
            copies.insert(number(value), topic);
        }
        assert_eq!(copies.topics().map(|topic| &**topic).collect::<Vec<_>>(), ["a", "b"]);
        for (value, topic) in [(1, None), (2, None), (3, Some("a")), (4, Some("b")), (4, None)] {
            assert_eq!(copies.remove(number(value)).as_deref(), topic, "{value}");
        }
        assert_eq!(copies.memory(), 0);
    }
}
