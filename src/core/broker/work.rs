//! What one turn may cost, and what goes on in the next one.
//!
//! Bytes do not bound work: a burst of small packets may ask for millions of deliveries. So the core counts steps:
//! nodes of the trie and retained topics looked at, subscriptions gathered, deliveries begun, rows taken from the
//! store, entries freed. A step is about a tenth of a microsecond. A turn ends with [`super::Broker::tick`]; it may
//! take [`crate::core::limits::Limits::steps_per_turn`] steps, of which at most half are for what has just come. What
//! is left over waits in the lists here and goes on in later turns, one share each in turn, so that no client waits for
//! the work of another.

use std::collections::{BTreeMap, VecDeque};

use super::distribution::{Chain, Distribution};
use super::ending::{Ending, Moving, Telling};
use super::legacies::Legacies;
use super::operation::Operation;
use crate::base::memory::{self, Audit};
use crate::core::slots::{ConnectionId, SessionId};

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
/// Messages of closed connections, Wills and the broker's own that may wait. Beyond: see
/// [`Work::has_room_for_unlinked`].
const UNLINKED_MAXIMUM: usize = 1024;

/// Connections that get their answers as soon as these may leave; the others do in their turn.
const ANSWERED_AT_ONCE: usize = 128;

/// What an entry of a map takes in nodes two thirds full, and the message on its way that it may hold.
const OPERATION_BYTES: usize =
    size_of::<(ConnectionId, Operation)>() * 3 / 2 + memory::allocation(size_of::<Distribution>());

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

/// What can wait for a later turn, by its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Connection,
    Answers,
    Session,
    Unlinked,
    Ending,
    Moving,
    Telling,
    Tightening,
}

impl Kind {
    pub(super) const ALL: [Self; 8] = [
        Self::Connection,
        Self::Answers,
        Self::Session,
        Self::Unlinked,
        Self::Ending,
        Self::Moving,
        Self::Telling,
        Self::Tightening,
    ];
}

/// The budget of a turn, and what waits for the next ones.
#[derive(Debug)]
pub(super) struct Work {
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
    /// Which kind is next, as an index. It goes on from turn to turn, so that none of them starves.
    kind: usize,
    /// Connections whose packet or bytes wait for a later turn.
    pub(super) connections: VecDeque<ConnectionId>,
    /// What the packet of a connection has begun and not finished.
    pub(super) operations: BTreeMap<ConnectionId, Operation>,
    /// Connections whose answers may wait for nothing any more.
    answering: VecDeque<ConnectionId>,
    last_answered: Option<ConnectionId>,
    /// The first of them, which have got their answers.
    answered: VecDeque<ConnectionId>,
    /// Sessions to which more could be sent.
    pub(super) sessions: VecDeque<SessionId>,
    /// Messages that no connection waits for, by their publishers, and how many there are.
    pub(super) unlinked: VecDeque<Chain>,
    pub(super) unlinked_count: usize,
    /// Sessions that are over and not yet freed.
    pub(super) endings: VecDeque<Ending>,
    /// Those of them whose Wills wait for a timer.
    pub(super) endings_waiting: VecDeque<Ending>,
    /// Messages that go from one member of a Shared Subscription to others.
    pub(super) moving: VecDeque<Moving>,
    /// The same where they are in the store.
    pub(super) legacies: Legacies,
    /// Sessions whose groups are not all told whether their clients are connected.
    pub(super) telling: VecDeque<Telling>,
}

impl Work {
    pub(super) fn new(budget: usize) -> Self {
        let mut work = Self {
            budget,
            taken: 0,
            limit: 0,
            input_share: 0,
            heaviest: 0,
            kind: 0,
            connections: VecDeque::new(),
            operations: BTreeMap::new(),
            answering: VecDeque::new(),
            last_answered: None,
            answered: VecDeque::new(),
            sessions: VecDeque::new(),
            unlinked: VecDeque::new(),
            unlinked_count: 0,
            endings: VecDeque::new(),
            endings_waiting: VecDeque::new(),
            moving: VecDeque::new(),
            legacies: Legacies::default(),
            telling: VecDeque::new(),
        };
        work.end_turn();
        work
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

    /// What [`Work::divide_share`] was for is over.
    pub(super) const fn restore_share(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Whether the first packet of a connection has begun and is not finished.
    #[inline]
    pub(super) fn has_begun(&self, id: ConnectionId) -> bool {
        !self.operations.is_empty() && matches!(self.operations.get(&id), Some(Operation::Filters(_)))
    }

    /// The kind whose turn it is.
    pub(super) fn next_kind(&mut self) -> Kind {
        let kind = Kind::ALL[self.kind];
        self.kind = (self.kind + 1) % Kind::ALL.len();
        kind
    }

    /// The turn is over.
    pub(super) fn end_turn(&mut self) {
        self.heaviest = self.heaviest.max(self.taken);
        self.taken = 0;
        self.share_input(1);
        self.begin_input();
    }

    /// The most steps that a turn has taken.
    pub(super) fn heaviest(&self) -> usize {
        self.heaviest.max(self.taken)
    }

    /// All connections that have answers waiting, in order: those after the last one that had its turn come first.
    pub(super) fn answer(&mut self, connections: Vec<ConnectionId>) {
        self.answered.clear();
        self.answering = connections.into();
        let first = self.answering.partition_point(|&id| self.last_answered.is_some_and(|last| id <= last));
        self.answering.rotate_left(first);
    }

    /// The next of them.
    pub(super) fn next_to_answer(&mut self) -> Option<ConnectionId> {
        let next = self.answering.pop_front()?;
        self.last_answered = Some(next);
        Some(next)
    }

    /// The next of the first ones, as long as there is time for them in this turn.
    pub(super) fn first_to_answer(&mut self) -> Option<ConnectionId> {
        if self.answered.len() == ANSWERED_AT_ONCE || !self.may_go_on() {
            return None;
        }
        let next = self.next_to_answer()?;
        self.answered.push_back(next);
        Some(next)
    }

    /// The next of the first ones that have got their answers.
    pub(super) fn next_answered(&mut self) -> Option<ConnectionId> {
        self.answered.pop_front()
    }

    /// Whether anything waits for a later turn.
    pub(super) fn is_waiting(&self) -> bool {
        !(self.connections.is_empty()
            && self.answering.is_empty()
            && self.sessions.is_empty()
            && self.unlinked.is_empty()
            && self.endings.is_empty()
            && self.moving.is_empty()
            && self.telling.is_empty())
    }

    /// Whether one more message that no connection waits for may wait. Beyond the limit a Will waits in its session,
    /// the broker's own messages wait for the next occasion, and the rest of a message whose publisher has left is
    /// dropped and counted.
    pub(super) fn has_room_for_unlinked(&self) -> bool {
        self.unlinked_count < UNLINKED_MAXIMUM
    }

    /// Whether a message of this client goes on without a connection.
    pub(super) fn has_unlinked(&mut self, client: &str) -> bool {
        self.take(self.unlinked.len() / steps::COPIED_PER_STEP);
        self.unlinked.iter().any(|chain| chain.is_of(client))
    }

    /// Bytes that the lists take, beside what counts itself.
    pub(super) fn memory(&self) -> usize {
        memory::allocation(self.connections.capacity() * size_of::<ConnectionId>())
            + memory::allocation(self.answering.capacity() * size_of::<ConnectionId>())
            + memory::allocation(self.answered.capacity() * size_of::<ConnectionId>())
            + memory::allocation(self.sessions.capacity() * size_of::<SessionId>())
            + memory::allocation(self.unlinked.capacity() * size_of::<Chain>())
            + memory::allocation(self.endings.capacity() * size_of::<Ending>())
            + memory::allocation(self.endings_waiting.capacity() * size_of::<Ending>())
            + memory::allocation(self.moving.capacity() * size_of::<Moving>())
            + memory::allocation(self.telling.capacity() * size_of::<Telling>())
            + self.legacies.memory()
            + self.operations.len() * OPERATION_BYTES
    }

    /// Adds what counts itself to an audit.
    pub(super) fn audit(&self, audit: &mut Audit) {
        self.operations.values().for_each(|operation| operation.audit(audit));
        self.unlinked.iter().for_each(|chain| chain.audit(audit));
        self.moving.iter().for_each(|moving| moving.audit(audit));
        self.legacies.audit(audit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_leaves_the_turn_what_is_kept_for_a_step_that_cannot_be_divided() {
        let budget = 16_384;
        let mut work = Work::new(budget);
        work.begin_share(1);
        assert_eq!(work.left(), budget / SHARES_PER_TURN);
        work.take(budget - budget / 8 - 1);
        assert!(work.may_go_on());
        work.begin_share(1);
        assert_eq!(work.left(), budget / 16 + 1);
    }

    #[test]
    fn every_kind_has_its_turn_however_soon_turns_end() {
        let mut work = Work::new(16_384);
        let kinds: Vec<Kind> = (0..Kind::ALL.len())
            .map(|_| {
                work.end_turn();
                work.next_kind()
            })
            .collect();
        assert_eq!(kinds, Kind::ALL);
    }
}
