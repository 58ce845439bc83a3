//! Messages that wait until their delivery may begin: in the queue itself, and after it in the store.

use std::collections::VecDeque;

use super::{Outgoing, Queued};
use crate::base::planted::{Fault, is_planted};
use crate::base::time::Time;
use crate::core::journal::MessageNumber;
use crate::core::limits::Limits;
use crate::core::subscription::GroupId;
use crate::protocol::codec::QoS;

/// Messages in the store that are looked at to make room for another one.
const EXPIRED_AT_ONCE: usize = 1_024;

impl Outgoing {
    /// Messages waiting in the queue and behind it.
    pub fn queue_length(&self) -> usize {
        self.queue.len() + self.backlog.as_ref().map_or(0, |backlog| backlog.len())
    }

    /// Bytes of the messages waiting in the queue and behind it.
    pub fn queue_bytes(&self) -> usize {
        self.queue_bytes + self.backlog.as_ref().map_or(0, |backlog| backlog.bytes())
    }

    /// Whether one more message of so many bytes may wait for a client that is there or away.
    pub fn has_room(&self, bytes: usize, limits: &Limits, is_connected: bool) -> bool {
        let total = self.queue_bytes() + bytes;
        let is_first = self.queue.is_empty() && self.backlog.is_none();
        (self.queue_length() < limits.queue_length || (is_connected && total <= limits.burst_bytes))
            && (is_first || total <= limits.queue_bytes)
    }

    /// Whether more waits than [`Outgoing::has_room`] lets in, because some has come back from elsewhere.
    pub fn is_overfull(&self, limits: &Limits) -> bool {
        let (count, bytes) = (self.queue_length(), self.queue_bytes());
        count > limits.queue_length && bytes > limits.burst_bytes || count > 1 && bytes > limits.queue_bytes
    }

    /// Whether one more message of so many bytes may wait, once expired ones have made room for it.
    pub fn make_room(&mut self, bytes: usize, limits: &Limits, is_connected: bool, now: Time) -> bool {
        if !self.has_room(bytes, limits, is_connected) {
            self.forget_expired(now);
        }
        self.has_room(bytes, limits, is_connected)
    }

    /// Whether messages of QoS 0 may wait. If so, the next one waits after them [MQTT-4.6.0-6].
    pub fn holds_at_most_once(&self) -> bool {
        self.holds_at_most_once && !(self.queue.is_empty() && self.backlog.is_none())
    }

    /// Puts a message behind all others in the queue.
    pub fn push(&mut self, queued: Queued) {
        let expires = queued.message.expires();
        if self.queue.is_empty() {
            self.queue_expires = expires;
            self.holds_at_most_once &= self.backlog.is_some();
        } else {
            self.queue_expires = self.queue_expires.min(expires);
        }
        if queued.qos == QoS::AtMostOnce {
            self.holds_at_most_once = true;
        }
        self.queue_bytes += queued.message.memory();
        if is_planted(Fault::QueueReordered) {
            self.queue.push_front(queued);
        } else {
            self.queue.push_back(queued);
        }
        self.count();
    }

    /// Lets a kept message of this many bytes wait in the store, as a copy of this QoS. It waits in the order of the
    /// numbers there: a new one after all others.
    pub fn push_stored(
        &mut self,
        number: MessageNumber,
        (bytes, expires): (usize, Time),
        qos: QoS,
        group: Option<GroupId>,
    ) {
        self.holds_at_most_once = self.holds_at_most_once() || qos == QoS::AtMostOnce;
        self.backlog.get_or_insert_default().insert(number, bytes, expires, group);
    }

    /// Lets what waits in the queue wait in the store, for a client that is away.
    pub fn put_away(&mut self) {
        let waiting = std::mem::take(&mut self.queue);
        let (kept, staying): (VecDeque<Queued>, _) =
            waiting.into_iter().partition(|queued| queued.number.is_some());
        self.queue = staying;
        for queued in kept.into_iter().rev() {
            let Some(number) = queued.number else { continue };
            self.queue_bytes -= queued.message.memory();
            let Queued { message, group, .. } = queued;
            let (bytes, expires) = (message.memory(), message.expires());
            self.backlog.get_or_insert_default().insert(number, bytes, expires, group);
        }
        if let Some(backlog) = &mut self.backlog {
            backlog.give_up_page();
        }
        self.count();
    }

    /// Takes out what has expired of what waits in the store, looking at no more than `most` messages; tells whether
    /// there may be more.
    pub fn drop_expired(&mut self, now: Time, most: usize) -> (VecDeque<MessageNumber>, bool) {
        let Some(backlog) = &mut self.backlog else { return (VecDeque::new(), false) };
        let taken = backlog.take_expired(now, most);
        self.backlog.take_if(|backlog| backlog.is_empty());
        taken
    }

    /// How many messages wait in the queue itself, and their bytes.
    pub fn waiting_here(&self) -> (usize, usize) {
        (self.queue.len(), self.queue_bytes)
    }

    /// A message is dropped; tells whether it is the first since the queue was last empty.
    pub const fn lose(&mut self) -> bool {
        !std::mem::replace(&mut self.is_losing, true)
    }

    fn forget_expired(&mut self, now: Time) {
        let (expired, _) = self.drop_expired(now, EXPIRED_AT_ONCE);
        self.gone.extend(expired);
        if self.queue_expires > now {
            return;
        }
        let gone = &mut self.gone;
        self.queue.retain(|queued| {
            let is_alive = queued.message.expires() > now;
            if !is_alive {
                gone.extend(queued.number);
            }
            is_alive
        });
        self.queue_expires = Time::NEVER;
        self.queue_bytes = 0;
        for queued in &self.queue {
            self.queue_bytes += queued.message.memory();
            self.queue_expires = self.queue_expires.min(queued.message.expires());
        }
    }
}
