//! A set of topics whose retained messages differ from those in the store.

use std::collections::BTreeMap;

use super::ENTRY_BYTES;
use crate::base::memory;

/// Topics and the approximate size of the message of each; zero if it is gone.
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

    /// Notes that the message of a topic now has this many bytes.
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

    /// Takes topics until their names and messages have this many bytes. The last one may exceed it.
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

    /// Approximate bytes to be persisted.
    pub(super) fn pending_bytes(&self) -> usize {
        self.memory() + self.message_bytes
    }

    /// Bytes of memory used.
    pub(super) fn memory(&self) -> usize {
        self.name_bytes + self.messages.len() * ENTRY_BYTES
    }
}
