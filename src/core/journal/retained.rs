//! Topics whose retained messages differ from those in the store.

use super::topics::Topics;
use super::{BATCH_BYTES, Urgency};
use crate::protocol::topic::TopicName;

/// The topics to persist.
#[derive(Debug, Default)]
pub(super) struct Retained {
    /// Topics whose change was promised to a publisher or frees room.
    promised: Topics,
    /// All others, which may wait until there is room. No topic is in both.
    unpromised: Topics,
    /// Whether the current message is retained and this is promised to its publisher.
    is_current: bool,
}

impl Retained {
    /// Notes that the retained message of a topic now has this many bytes, or zero if it is gone. Returns whether
    /// this has to be persisted.
    pub(super) fn insert(&mut self, topic: TopicName<'_>, bytes: usize, urgency: Urgency) -> bool {
        if topic.is_about_the_broker() {
            return false;
        }
        let topic = topic.as_str();
        let is_unpromised = urgency == Urgency::Lazy && bytes > 0 && !self.promised.contains(topic);
        if is_unpromised {
            self.unpromised.insert(topic, bytes);
        } else {
            self.unpromised.remove(topic);
            self.promised.insert(topic, bytes);
        }
        self.is_current |= urgency == Urgency::Urgent;
        true
    }

    /// Begins with another current message.
    #[inline]
    pub(super) const fn begin(&mut self) {
        self.is_current = false;
    }

    /// Returns whether the current message is retained and this is promised. After this there is no current message.
    pub(super) const fn take_current(&mut self) -> bool {
        std::mem::replace(&mut self.is_current, false)
    }

    /// Takes the topics that can be persisted: all that are promised, and as many others as a batch has room for.
    pub(super) fn take(&mut self, has_room: bool) -> Vec<Box<str>> {
        let mut retained = self.promised.take(usize::MAX);
        if has_room {
            retained.extend(self.unpromised.take(BATCH_BYTES));
        }
        retained
    }

    /// Whether there are none that can be persisted.
    pub(super) fn is_empty(&self, has_room: bool) -> bool {
        self.promised.is_empty() && (!has_room || self.unpromised.is_empty())
    }

    /// Approximate bytes to be persisted. What cannot be persisted for lack of room on disk does not count, because
    /// publishers that wait for it would wait in vain.
    pub(super) fn pending_bytes(&self, has_room: bool) -> usize {
        self.promised.pending_bytes() + if has_room { self.unpromised.pending_bytes() } else { 0 }
    }

    /// Bytes of memory used.
    pub(super) fn memory(&self) -> usize {
        self.promised.memory() + self.unpromised.memory()
    }
}
