//! The budget of one turn.
//!
//! Bytes do not bound work: a burst of small packets may ask for millions of deliveries. So the core counts steps:
//! nodes of the trie and retained topics visited, subscriptions gathered, deliveries begun, rows taken from the store,
//! entries freed. A step is about a tenth of a microsecond. A turn ends with [`super::Broker::tick`]; it may take
//! [`crate::core::limits::Limits::steps_per_turn`] steps, of which at most half are for new input. Work that is left
//! over [waits](super::waiting) and continues in later turns, one share each in turn, so that no client waits for the
//! work of another.

use crate::base::memory;

/// The largest share, which one client gets before others have their turn, is the budget divided by this.
const SHARES_PER_TURN: usize = 8;
/// The smallest share, where very many wait, is the budget divided by this: work that continues in many small pieces
/// takes longer in all.
const LEAST_SHARES_PER_TURN: usize = 64;
/// If more connections than this have input at once, the shares are smaller, and clients that ask for little come
/// first.
const MANY: usize = 128;
/// The small shares are the budget divided by this.
const SMALL_SHARES_PER_TURN: usize = 1_024;
/// The fewest steps of a share, however small the budget: with fewer, work would not progress.
const SHARE_MINIMUM: usize = 32;

/// The steps of the most common kinds of work.
pub(super) mod steps {
    use crate::protocol::codec::QoS;

    /// A packet, apart from what it asks for.
    pub const PACKET: usize = 1;
    /// The check of a filter, and other work that takes as long.
    pub const CHECK: usize = 1;
    /// A filter that is subscribed to or unsubscribed from: a search in the trie, a change there, and one in the
    /// session.
    pub const SUBSCRIPTION: usize = 8;
    /// A question to the access control.
    pub const QUESTION: usize = 8;
    /// Entries copied in a row per step.
    pub const COPIED_PER_STEP: usize = 32;
    /// Bytes of properties that are examined per step.
    pub const PROPERTY_BYTES_PER_STEP: usize = 16;
    /// Queued messages that are examined and moved per step.
    pub const SORTED_OUT_PER_STEP: usize = 8;
    /// Bytes copied per step.
    pub const BYTES_PER_STEP: usize = 1024;

    /// A copy of a message for one receiver.
    #[inline]
    pub const fn delivery(qos: QoS) -> usize {
        match qos {
            QoS::AtMostOnce => 2,
            QoS::AtLeastOnce | QoS::ExactlyOnce => 4,
        }
    }

    /// Nodes of removed filters whose memory is released per step.
    pub const TIGHTENED_PER_STEP: usize = 4;

    /// Bytes by which memory grows per step.
    pub const BYTES_GROWN_PER_STEP: usize = 512;

    /// Copies of this many bytes for this many receivers.
    pub const fn run(receivers: usize, bytes: usize) -> usize {
        receivers * (1 + bytes / BYTES_PER_STEP)
    }
}

/// The steps that work has taken, and the number of them at which its share ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    taken: usize,
    limit: usize,
}

impl Share {
    /// Counts this many steps, which may be more than are left.
    #[inline]
    pub(super) const fn take(&mut self, steps: usize) {
        self.taken += steps;
    }

    /// Whether it is used up.
    #[inline]
    pub(super) const fn is_over(&self) -> bool {
        self.taken >= self.limit
    }

    /// The steps that are left.
    #[inline]
    pub(super) const fn left(&self) -> usize {
        self.limit.saturating_sub(self.taken)
    }

    /// The steps that were taken.
    #[inline]
    pub(super) const fn taken(&self) -> usize {
        self.taken
    }
}

/// What is left of a turn, and of the share in progress.
#[derive(Debug)]
pub(super) struct Turn {
    /// The steps of a turn.
    budget: usize,
    /// All steps taken in this turn, and the number of them at which the share in progress ends.
    share: Share,
    /// The steps of a share of input.
    input_share: usize,
    /// The most steps that a turn has taken.
    heaviest: usize,
}

impl Turn {
    pub(super) fn new(budget: usize) -> Self {
        let mut turn = Self { budget, share: Share { taken: 0, limit: 0 }, input_share: 0, heaviest: 0 };
        turn.end();
        turn
    }

    /// Sets the budget from now on.
    pub(super) fn set_budget(&mut self, budget: usize) {
        self.budget = budget;
    }

    /// Counts this many steps.
    #[inline]
    pub(super) const fn take(&mut self, steps: usize) {
        self.share.take(steps);
    }

    /// Counts the steps for the bytes by which memory has grown: a buffer that grows is copied, and the system has to
    /// provide new memory.
    #[inline]
    pub(super) fn take_growth(&mut self, before: usize) {
        self.share.taken += memory::held().saturating_sub(before) / steps::BYTES_GROWN_PER_STEP;
    }

    /// Whether the share in progress is used up.
    #[inline]
    pub(super) const fn is_over(&self) -> bool {
        self.share.is_over()
    }

    /// The steps that are left of the share in progress.
    #[inline]
    pub(super) const fn left(&self) -> usize {
        self.share.left()
    }

    /// What is left of the share in progress, for work that does not know the turn. The turn [counts](Self::take) its
    /// steps afterwards.
    #[inline]
    pub(super) const fn share(&self) -> Share {
        Share { taken: 0, limit: self.left() }
    }

    /// The number of steps up to which work is not worth dividing, or what is left of the share in progress if that is
    /// more.
    #[inline]
    pub(super) const fn small_steps(&self) -> usize {
        let left = self.left();
        if left > self.budget / 16 { left } else { self.budget / 16 }
    }

    /// Whether work of this many steps is not worth dividing, though it may be more than is left of the share.
    #[inline]
    pub(super) const fn is_small(&self, steps: usize) -> bool {
        steps <= self.small_steps()
    }

    /// Whether this many steps that cannot be divided are left of the share in progress, or at least of the turn.
    #[inline]
    pub(super) const fn has_room_for(&self, steps: usize) -> bool {
        self.taken() + steps <= self.share.limit || self.taken() + steps <= self.budget - self.budget / 16
    }

    /// How many bytes may be copied for each of this many receivers at once; 0 if there are too many receivers.
    #[inline]
    pub(super) const fn copied_at_once(&self, receivers: usize) -> usize {
        let receivers = if receivers == 0 { 1 } else { receivers };
        let steps_each = self.budget / 2 / receivers;
        match steps_each {
            0 => 0,
            1 => steps::BYTES_PER_STEP / 2,
            _ => (steps_each - 1) * steps::BYTES_PER_STEP,
        }
    }

    /// Whether this turn takes more input.
    #[inline]
    pub(super) const fn takes_input(&self) -> bool {
        self.taken() < self.budget / 2
    }

    /// Whether this turn takes more input from clients that ask for little, if there are many others.
    #[inline]
    pub(super) const fn takes_little(&self) -> bool {
        self.taken() < self.budget / 4
    }

    /// The steps taken in this turn.
    #[inline]
    pub(super) const fn taken(&self) -> usize {
        self.share.taken()
    }

    /// Whether more connections may be closed. They are closed after the end of a turn, and the next turn is for input.
    pub(super) const fn takes_ends(&self) -> bool {
        self.taken() < self.budget / 8
    }

    /// Whether this turn continues with waiting work. A part of the budget is reserved for a step that cannot be
    /// divided.
    pub(super) const fn may_go_on(&self) -> bool {
        self.taken() < self.budget - self.budget / 8
    }

    /// Whether this turn takes more timers; a part of it is reserved for waiting work.
    pub(super) const fn takes_timers(&self) -> bool {
        self.taken() < self.budget / 2 + self.budget / 8
    }

    /// Sets the shares for this many peers with input in this turn. Returns whether they are many.
    pub(super) fn share_input(&mut self, among: usize) -> bool {
        let are_many = among > MANY;
        let share = if are_many { self.budget / SMALL_SHARES_PER_TURN } else { self.share_among(among) };
        self.input_share = share.max(SHARE_MINIMUM);
        are_many
    }

    fn share_among(&self, count: usize) -> usize {
        let least = (self.budget / LEAST_SHARES_PER_TURN).max(SHARE_MINIMUM);
        let most = (self.budget / SHARES_PER_TURN).max(SHARE_MINIMUM);
        (self.budget / 2 / count.max(1)).clamp(least, most)
    }

    /// Begins a share for new input.
    #[inline]
    pub(super) const fn begin_input(&mut self) {
        self.share.limit = self.taken() + self.input_share;
    }

    /// Begins a share for one of this many waiting pieces of work. It leaves what is reserved for a step that cannot be
    /// divided.
    pub(super) fn begin_share(&mut self, among: usize) {
        let last = (self.budget - self.budget / 16).max(self.taken() + SHARE_MINIMUM);
        self.share.limit = (self.taken() + self.share_among(among)).min(last);
    }

    /// Limits the work that follows to a small part of the share in progress. Returns where the whole share ends.
    pub(super) fn divide_share(&mut self) -> usize {
        let part = self.taken() + self.left().div_ceil(8);
        std::mem::replace(&mut self.share.limit, part)
    }

    /// Restores the share after [`Turn::divide_share`].
    pub(super) const fn restore_share(&mut self, limit: usize) {
        self.share.limit = limit;
    }

    /// Ends the turn.
    pub(super) fn end(&mut self) {
        self.heaviest = self.heaviest.max(self.taken());
        self.share.taken = 0;
        self.share_input(1);
        self.begin_input();
    }

    /// The most steps that a turn has taken, including this one.
    pub(super) fn heaviest(&self) -> usize {
        self.heaviest.max(self.taken())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_leaves_what_is_reserved_for_a_step_that_cannot_be_divided() {
        let budget = 16_384;
        let mut turn = Turn::new(budget);
        turn.begin_share(1);
        assert_eq!(turn.left(), budget / SHARES_PER_TURN);
        turn.take(budget - budget / 8 - 1);
        assert!(turn.may_go_on());
        turn.begin_share(1);
        assert_eq!(turn.left(), budget / 16 + 1);
    }
}
