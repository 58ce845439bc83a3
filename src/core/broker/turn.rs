//! What one turn may cost.
//!
//! Bytes do not bound work: a burst of small packets may ask for millions of deliveries. So the core counts steps:
//! nodes of the trie and retained topics looked at, subscriptions gathered, deliveries begun, rows taken from the
//! store, entries freed. A step is about a tenth of a microsecond. A turn ends with [`super::Broker::tick`]; it may
//! take [`crate::core::limits::Limits::steps_per_turn`] steps, of which at most half are for what has just come. What
//! is left over [waits](super::waiting) and goes on in later turns, one share each in turn, so that no client waits for
//! the work of another.

use crate::base::memory;

/// The most steps that one client gets before others have their turn, as a part of the budget.
const SHARES_PER_TURN: usize = 8;
/// The fewest steps of a share, where very many wait, as a part of the budget: what goes on in many small pieces takes
/// longer in all.
const LEAST_SHARES_PER_TURN: usize = 64;
/// If more connections than this have something to say at once, each is served less before all others have had their
/// turn, and those that ask for little come first.
const MANY: usize = 128;
/// The shares of those, as parts of the budget.
const SMALL_SHARES_PER_TURN: usize = 1_024;
/// The steps of a share with a budget however small: with fewer, nothing would go on.
const SHARE_MINIMUM: usize = 32;

/// Steps of the commonest kinds of work.
pub(super) mod steps {
    use crate::protocol::codec::QoS;

    /// A packet, beside what it asks for.
    pub const PACKET: usize = 1;
    /// A filter that is checked, and what else takes as long.
    pub const CHECK: usize = 1;
    /// A filter that is subscribed to or left: a search in the trie, a change there, and one in the session.
    pub const SUBSCRIPTION: usize = 8;
    /// A question to the access control.
    pub const QUESTION: usize = 8;
    /// What is cheap enough to be counted by the dozen: entries copied in a row.
    pub const COPIED_PER_STEP: usize = 32;
    /// Bytes of properties that are looked at in one step.
    pub const PROPERTY_BYTES_PER_STEP: usize = 16;
    /// Messages of a queue that are looked at and moved.
    pub const SORTED_OUT_PER_STEP: usize = 8;
    /// Bytes copied in one step.
    pub const BYTES_PER_STEP: usize = 1024;

    /// A copy of a message for one receiver.
    #[inline]
    pub const fn delivery(qos: QoS) -> usize {
        match qos {
            QoS::AtMostOnce => 2,
            QoS::AtLeastOnce | QoS::ExactlyOnce => 4,
        }
    }

    /// Nodes of filters that have gone whose memory is given back in one step.
    pub const TIGHTENED_PER_STEP: usize = 4;

    /// Bytes by which memory grows in one step.
    pub const BYTES_GROWN_PER_STEP: usize = 512;

    /// Copies of so many bytes for so many receivers.
    pub const fn run(receivers: usize, bytes: usize) -> usize {
        receivers * (1 + bytes / BYTES_PER_STEP)
    }
}

/// What is left of a turn, and of the share in progress.
#[derive(Debug)]
pub(super) struct Turn {
    /// Steps of a turn.
    budget: usize,
    /// Steps taken in this turn.
    taken: usize,
    /// Where the share in progress ends.
    limit: usize,
    /// The steps of a share of input.
    input_share: usize,
    /// The most steps that a turn has taken.
    heaviest: usize,
}

impl Turn {
    pub(super) fn new(budget: usize) -> Self {
        let mut turn = Self { budget, taken: 0, limit: 0, input_share: 0, heaviest: 0 };
        turn.end();
        turn
    }

    /// Another budget from now on.
    pub(super) fn set_budget(&mut self, budget: usize) {
        self.budget = budget;
    }

    /// So many steps have been taken.
    #[inline]
    pub(super) const fn take(&mut self, steps: usize) {
        self.taken += steps;
    }

    /// This many more bytes are held than before: a buffer that grows is copied, and the system has to provide new
    /// memory.
    #[inline]
    pub(super) fn take_growth(&mut self, before: usize) {
        self.taken += memory::held().saturating_sub(before) / steps::BYTES_GROWN_PER_STEP;
    }

    /// Whether the share in progress is used up.
    #[inline]
    pub(super) const fn is_over(&self) -> bool {
        self.taken >= self.limit
    }

    /// Steps that are left of the share in progress.
    #[inline]
    pub(super) const fn left(&self) -> usize {
        self.limit.saturating_sub(self.taken)
    }

    /// Steps of what is not worth dividing, or is left of the share in progress.
    #[inline]
    pub(super) const fn small_steps(&self) -> usize {
        let left = self.left();
        if left > self.budget / 16 { left } else { self.budget / 16 }
    }

    /// Whether so many steps are not worth dividing, though they may be more than is left of the share in progress.
    #[inline]
    pub(super) const fn is_small(&self, steps: usize) -> bool {
        steps <= self.small_steps()
    }

    /// Whether so many steps that cannot be divided are left of the share in progress, or at least of the turn.
    #[inline]
    pub(super) const fn has_room_for(&self, steps: usize) -> bool {
        self.taken + steps <= self.limit || self.taken + steps <= self.budget - self.budget / 16
    }

    /// How many bytes may be copied for each of so many receivers at once; none, if the receivers are too many.
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

    /// Whether this turn takes more of what comes in.
    #[inline]
    pub(super) const fn takes_input(&self) -> bool {
        self.taken < self.budget / 2
    }

    /// Whether this turn takes more of what comes from those who ask for little, if there are many others.
    #[inline]
    pub(super) const fn takes_little(&self) -> bool {
        self.taken < self.budget / 4
    }

    /// Steps taken in this turn.
    #[inline]
    pub(super) const fn taken(&self) -> usize {
        self.taken
    }

    /// Whether more connections may be closed. They are after the end of a turn, and the next one is for what comes.
    pub(super) const fn takes_ends(&self) -> bool {
        self.taken < self.budget / 8
    }

    /// Whether this turn goes on with what waits. A part of the budget is kept for the step that cannot be divided.
    pub(super) const fn may_go_on(&self) -> bool {
        self.taken < self.budget - self.budget / 8
    }

    /// Whether this turn takes more timers; some of it is left for what waits.
    pub(super) const fn takes_timers(&self) -> bool {
        self.taken < self.budget / 2 + self.budget / 8
    }

    /// So many have something to say in this turn; tells whether they are many.
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

    /// A share begins for what has just come.
    #[inline]
    pub(super) const fn begin_input(&mut self) {
        self.limit = self.taken + self.input_share;
    }

    /// A share begins for one of so many that wait. It does not reach into what is kept for the step that cannot be
    /// divided.
    pub(super) fn begin_share(&mut self, among: usize) {
        let last = (self.budget - self.budget / 16).max(self.taken + SHARE_MINIMUM);
        self.limit = (self.taken + self.share_among(among)).min(last);
    }

    /// Only a small part of the share in progress is for what follows; returns where the whole of it ends.
    pub(super) fn divide_share(&mut self) -> usize {
        let part = self.taken + self.left().div_ceil(8);
        std::mem::replace(&mut self.limit, part)
    }

    /// What [`Turn::divide_share`] was for is over.
    pub(super) const fn restore_share(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// The turn is over.
    pub(super) fn end(&mut self) {
        self.heaviest = self.heaviest.max(self.taken);
        self.taken = 0;
        self.share_input(1);
        self.begin_input();
    }

    /// The most steps that a turn has taken.
    pub(super) fn heaviest(&self) -> usize {
        self.heaviest.max(self.taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_leaves_the_turn_what_is_kept_for_a_step_that_cannot_be_divided() {
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
