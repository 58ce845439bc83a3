//! Messages that wait until their delivery may begin: in the queue itself, and after it in the store.

use std::collections::VecDeque;

use super::{InFlight, LostCopy, Outgoing, Queued, Stage};
use crate::base::memory;
use crate::base::time::Time;
use crate::core::journal::MessageNumber;
use crate::core::limits::QueueLimits;
use crate::core::session::Backlog;
use crate::core::subscription::GroupId;
use crate::protocol::codec::QoS;

/// How many messages in the store are examined to make room for another one.
const EXPIRED_AT_ONCE: usize = 1_024;

/// Messages that are queued in memory, in order.
#[derive(Debug, Default)]
pub(super) struct Queue {
    messages: VecDeque<Queued>,
    /// The bytes of the messages.
    bytes: usize,
    /// No message expires before this.
    expires: Time,
}

impl Queue {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    #[inline]
    pub(super) fn front(&self) -> Option<&Queued> {
        self.messages.front()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Queued> {
        self.messages.iter()
    }

    /// Appends a message. Returns whether the list itself has grown.
    fn push(&mut self, queued: Queued) -> bool {
        let capacity = self.messages.capacity();
        let expires = queued.message.expires();
        self.expires = if self.is_empty() { expires } else { self.expires.min(expires) };
        self.bytes += queued.message.memory();
        self.messages.push_back(queued);
        self.messages.capacity() != capacity
    }

    /// Removes the first message.
    pub(super) fn pop(&mut self) -> Option<Queued> {
        let queued = self.messages.pop_front()?;
        self.bytes -= queued.message.memory();
        Some(queued)
    }

    /// Releases the memory of the empty list.
    fn shrink(&mut self) {
        self.messages = VecDeque::new();
    }

    /// Removes the messages that are wanted; the others keep their order.
    pub(super) fn take(&mut self, wanted: impl FnMut(&Queued) -> bool) -> VecDeque<Queued> {
        let (taken, staying): (VecDeque<Queued>, _) =
            std::mem::take(&mut self.messages).into_iter().partition(wanted);
        self.messages = staying;
        self.bytes -= taken.iter().map(|queued| queued.message.memory()).sum::<usize>();
        taken
    }

    /// Drops expired messages and returns how many there were. Adds the numbers of persisted ones to `gone`, and those
    /// with RETAIN to `lost`.
    fn forget_expired(
        &mut self,
        now: Time,
        gone: &mut Vec<MessageNumber>,
        lost: &mut Vec<LostCopy>,
    ) -> usize {
        if self.expires > now {
            return 0;
        }
        let before = self.messages.len();
        self.messages.retain(|queued| {
            let is_alive = queued.message.expires() > now;
            if !is_alive {
                gone.extend(queued.number);
                lost.extend(queued.lost());
            }
            is_alive
        });
        self.expires = Time::NEVER;
        self.bytes = 0;
        for queued in &self.messages {
            self.bytes += queued.message.memory();
            self.expires = self.expires.min(queued.message.expires());
        }
        before - self.messages.len()
    }

    /// The bytes of the list itself.
    pub(super) fn memory(&self) -> usize {
        memory::allocation(self.messages.capacity() * size_of::<Queued>())
    }

    /// Asserts that the sum is right.
    pub(super) fn check_invariants(&self) {
        let bytes: usize = self.iter().map(|queued| queued.message.memory()).sum();
        assert_eq!(bytes, self.bytes, "queued bytes are counted");
    }
}

impl Outgoing {
    /// The number of messages in the queue and after it.
    pub fn queue_length(&self) -> usize {
        self.queue.messages.len() + self.backlog.as_ref().map_or(0, |backlog| backlog.len())
    }

    /// The bytes of the messages in the queue and after it.
    pub fn queue_bytes(&self) -> usize {
        self.queue.bytes + self.backlog.as_ref().map_or(0, |backlog| backlog.bytes())
    }

    /// The number of messages in the queue itself, and their bytes.
    pub fn waiting_here(&self) -> (usize, usize) {
        (self.queue.messages.len(), self.queue.bytes)
    }

    /// The most bytes of messages that can be sent before another one is queued and before another batch than those up to
    /// `durable` is durable. `None` if that is not known, because messages are to be sent again or retained ones are.
    pub fn waiting_to_be_sent(&self, durable: u64) -> Option<usize> {
        let resends = self.in_flight.get(self.window.sent).is_some_and(|entry| entry.awaited <= durable);
        (!resends && self.retained_sends.is_empty()).then_some(self.queue.bytes)
    }

    /// Whether one more message of this many bytes may be queued for a connected or disconnected client.
    pub fn has_room(&self, bytes: usize, limits: QueueLimits, is_connected: bool) -> bool {
        let total = self.queue_bytes() + bytes;
        let is_first = self.queue.is_empty() && self.backlog.is_none();
        (self.queue_length() < limits.length || (is_connected && total <= limits.burst_bytes))
            && (is_first || total <= limits.bytes)
    }

    /// Whether more is queued than [`Outgoing::has_room`] allows, because messages have come back from other members.
    pub fn is_overfull(&self, limits: QueueLimits) -> bool {
        let (count, bytes) = (self.queue_length(), self.queue_bytes());
        count > limits.length && bytes > limits.burst_bytes || count > 1 && bytes > limits.bytes
    }

    /// Drops the oldest queued message, and adds what is owed for it to `lost`. Returns false if there is none that could
    /// be dropped: one that is being read from the store cannot.
    pub fn drop_oldest(&mut self, lost: &mut Vec<LostCopy>) -> bool {
        if let Some(oldest) = self.queue.pop() {
            self.gone.extend(oldest.number);
            lost.extend(oldest.lost());
            self.count();
            return true;
        }
        let Some(backlog) = &mut self.backlog else { return false };
        let Some(number) = backlog.drop_first(lost) else { return false };
        self.gone.push(number);
        self.backlog.take_if(|backlog| backlog.is_empty());
        true
    }

    /// The first message that waits, by its number if it is persisted; `None` if none waits.
    pub fn first_waiting(&self) -> Option<Option<MessageNumber>> {
        match (self.queue.front(), &self.backlog) {
            (Some(queued), _) => Some(queued.number),
            (None, Some(backlog)) => Some(backlog.first()),
            (None, None) => None,
        }
    }

    /// The places of the expired messages in the queue itself, in rising order.
    pub fn expired_places(&self, now: Time) -> Vec<usize> {
        let expired = self.queue.iter().enumerate().filter(|(_, queued)| queued.message.expires() <= now);
        expired.map(|(place, _)| place).collect()
    }

    /// Ends the deliveries whose PUBLISH was to be sent before this time and never was. Returns how many, and when the
    /// first of the others was to be sent. Adds what is owed for them to `lost`.
    pub fn drop_prepared(&mut self, before: Time, lost: &mut Vec<LostCopy>) -> (usize, Option<Time>) {
        let (mut count, mut next) = (0, None);
        for index in self.window.sent..self.in_flight.len() {
            let InFlight { stage: Stage::Prepared(queued), queued_at, .. } = &self.in_flight[index] else {
                continue;
            };
            let queued_at = *queued_at;
            if queued_at < before {
                lost.extend(queued.lost());
                self.set_stage(index, Stage::Settled);
                count += 1;
            } else {
                next = next.or(Some(queued_at));
            }
        }
        self.forget_settled();
        (count, next)
    }

    /// Whether messages of QoS 0 may be queued. If so, the next one has to wait after them [MQTT-4.6.0-6].
    pub fn holds_at_most_once(&self) -> bool {
        self.holds_at_most_once && !(self.queue.is_empty() && self.backlog.is_none())
    }

    /// Puts a message after all others in the queue.
    pub fn push(&mut self, queued: Queued) {
        if self.queue.is_empty() {
            self.holds_at_most_once &= self.backlog.is_some();
        }
        if queued.qos == QoS::AtMostOnce {
            self.holds_at_most_once = true;
        }
        if self.queue.push(queued) {
            self.count();
        }
    }

    /// Queues a persisted message of this many bytes in the store, as a copy of this QoS. It is queued by its number: a
    /// new message comes after all others.
    pub fn push_stored(
        &mut self,
        number: MessageNumber,
        (bytes, expires): (usize, Time),
        qos: QoS,
        group: Option<GroupId>,
    ) {
        self.holds_at_most_once = self.holds_at_most_once() || qos == QoS::AtMostOnce;
        self.backlog.get_or_insert_with(Backlog::open).insert(number, bytes, expires, group);
    }

    /// Moves the queue to the store, for a client that has disconnected. For a bridge, the topics of copies with RETAIN
    /// are noted.
    pub fn put_away(&mut self, is_bridge: bool) {
        for queued in self.queue.take(|queued| queued.number.is_some()).into_iter().rev() {
            let Some(number) = queued.number else { continue };
            let Queued { message, group, retain, .. } = queued;
            let (bytes, expires) = (message.memory(), message.expires());
            let backlog = self.backlog.get_or_insert_with(Backlog::open);
            backlog.insert(number, bytes, expires, group);
            if is_bridge && retain {
                backlog.note_retained(number, message.publication().topic.as_str());
            }
        }
        if let Some(backlog) = &mut self.backlog {
            backlog.give_up_page();
        }
        self.count();
    }

    /// Removes expired messages from those in the store, and examines at most `most`. Returns them, and whether there
    /// may be more. Adds what is owed for them to `lost`.
    #[must_use = "each expired copy is counted"]
    pub fn drop_expired(
        &mut self,
        now: Time,
        most: usize,
        lost: &mut Vec<LostCopy>,
    ) -> (VecDeque<MessageNumber>, bool) {
        let Some(backlog) = &mut self.backlog else { return (VecDeque::new(), false) };
        let taken = backlog.take_expired(now, most, lost);
        self.backlog.take_if(|backlog| backlog.is_empty());
        taken
    }

    /// Notes that a message is dropped. Returns whether it is the first since the queue was last empty.
    pub const fn lose(&mut self) -> bool {
        !std::mem::replace(&mut self.is_losing, true)
    }

    /// Drops expired messages to make room for another one, in the store and in the queue. Returns how many, to be
    /// counted. Adds what is owed for them to `lost`.
    #[must_use = "each expired copy is counted"]
    pub fn forget_expired(&mut self, now: Time, lost: &mut Vec<LostCopy>) -> usize {
        let (expired, _) = self.drop_expired(now, EXPIRED_AT_ONCE, lost);
        let in_store = expired.len();
        self.gone.extend(expired);
        in_store + self.queue.forget_expired(now, &mut self.gone, lost)
    }

    pub(super) fn is_at_most_once_next(&self) -> bool {
        // A client that takes no deliveries at all takes none of QoS 0 either.
        self.holds_at_most_once
            && self.window.size > 0
            && self.queue.front().is_some_and(|queued| queued.qos == QoS::AtMostOnce)
    }

    /// Removes the first queued message, if it may be sent now, or prepared.
    pub fn next_to_begin(&mut self, prepares: bool) -> Option<Queued> {
        if !self.may_begin_next(prepares) {
            return None;
        }
        let queued = self.queue.pop()?;
        if self.queue.is_empty() {
            self.queue.shrink();
            self.is_losing = false;
            self.count();
        }
        Some(queued)
    }
}
