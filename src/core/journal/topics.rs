//! Topics whose retained message is other than the store has it.

use std::collections::BTreeMap;

use super::ENTRY_BYTES;
use crate::base::memory;

/// Topics, and about how many bytes the message of each takes; zero where nothing is retained any more.
#[derive(Debug, Default)]
pub(super) struct Topics {
    messages: BTreeMap<Box<str>, usize>,
    name_bytes: usize,
    message_bytes: usize,
}

impl Topics {
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub(super) fn contains(&self, topic: &str) -> bool {
        !self.messages.is_empty() && self.messages.contains_key(topic)
    }

    /// The message of a topic has so many bytes now.
    pub(super) fn insert(&mut self, topic: &str, bytes: usize) {
        self.message_bytes += bytes;
        if let Some(known) = self.messages.get_mut(topic) {
            self.message_bytes -= std::mem::replace(known, bytes);
            return;
        }
        self.name_bytes += memory::allocation(topic.len());
        self.messages.insert(topic.into(), bytes);
    }

    pub(super) fn remove(&mut self, topic: &str) {
        if let Some((topic, bytes)) = self.messages.remove_entry(topic) {
            self.forget(&topic, bytes);
        }
    }

    /// Takes the first topics out, of which the names and messages have so many bytes; the last may be beyond.
    pub(super) fn take(&mut self, most: usize) -> Vec<Box<str>> {
        let (mut taken, mut bytes_taken) = (Vec::new(), 0);
        while bytes_taken < most
            && let Some((topic, bytes)) = self.messages.pop_first()
        {
            self.forget(&topic, bytes);
            bytes_taken += topic.len() + bytes;
            taken.push(topic);
        }
        taken
    }

    fn forget(&mut self, topic: &str, bytes: usize) {
        self.name_bytes -= memory::allocation(topic.len());
        self.message_bytes -= bytes;
    }

    /// Bytes that writing them down takes, about.
    pub(super) fn pending_bytes(&self) -> usize {
        self.memory() + self.message_bytes
    }

    /// Bytes that they take here.
    pub(super) fn memory(&self) -> usize {
        self.name_bytes + self.messages.len() * ENTRY_BYTES
    }
}
