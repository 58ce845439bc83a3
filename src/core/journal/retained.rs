//! Topics whose retained message is other than the store has it.

use super::topics::Topics;
use super::{BATCH_BYTES, Urgency};
use crate::base::planted::{Fault, is_planted};
use crate::protocol::topic::TopicName;

/// Such topics.
#[derive(Debug, Default)]
pub(super) struct Retained {
    /// Those that are promised, and those that free room.
    promised: Topics,
    /// The others: they can wait until there is room. No topic is in both.
    unpromised: Topics,
    /// The current message is retained, which its publisher is promised.
    is_current: bool,
}

impl Retained {
    /// The retained message of a topic has so many bytes now; zero if there is none any more. Tells whether that is to
    /// be persisted.
    pub(super) fn insert(&mut self, topic: TopicName<'_>, bytes: usize, urgency: Urgency) -> bool {
        if topic.is_about_the_broker() || is_planted(Fault::RetainedNotKept) {
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

    /// Another message is the current one.
    #[inline]
    pub(super) const fn begin(&mut self) {
        self.is_current = false;
    }

    /// Whether the current message is retained and that is promised. There is no current message any more.
    pub(super) const fn take_current(&mut self) -> bool {
        std::mem::replace(&mut self.is_current, false)
    }

    /// Takes those that can be persisted: all that are promised, and of the others what a batch has room for.
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

    /// Bytes that persisting them takes, about. What waits for room on disk goes nowhere by waiting for it.
    pub(super) fn pending_bytes(&self, has_room: bool) -> usize {
        self.promised.pending_bytes() + if has_room { self.unpromised.pending_bytes() } else { 0 }
    }

    /// Bytes that they take here.
    pub(super) fn memory(&self) -> usize {
        self.promised.memory() + self.unpromised.memory()
    }
}
