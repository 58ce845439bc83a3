//! One memory budget for the whole broker, and the order in which it sheds load as the budget runs out:
//!
//! 1. From three quarters of the budget on, QoS 0 messages for the slowest clients: the fill up to which an outbox
//!    takes another QoS 0 message shrinks, so the fullest outboxes drop messages first. Links with TLS encrypt 4 KiB at
//!    a time, no more Topic Aliases are bound for clients, and a peer that does not read its answers is not read from.
//! 2. From nine tenths on, everything that would stay longer: new retained messages, messages for queues, and
//!    subscriptions. Their senders get 0x97 if their version has Reason Codes.
//! 3. From nineteen twentieths on, new connections, with 0x97 or return code 3, and connections whose handshake of TLS
//!    or WebSocket or whose CONNECT keeps growing. The rest of the budget is for clients.
//! 4. At the budget, a client whose packet in progress keeps growing, or that binds a Topic Alias or begins another
//!    QoS 2 message while many are in progress, with 0x97; new deliveries of QoS 1 and 2; and large QoS 0 messages.
//!
//! An acknowledged message is never dropped, and the broker never aborts.

use log::{info, warn};

use super::Broker;
use super::clock::Timer;
use super::match_cache::MatchCache;
use crate::base::memory::{self, Audit, Counted};
use crate::base::time::Duration;
use crate::core::limits::{COPIED_AHEAD_MAXIMUM, COPIED_AHEAD_MINIMUM};
use crate::core::message::Spares;
use crate::core::subscription::LatestIdentifiers;

/// The bytes of answers that may be queued for a peer that does not read, once memory runs short.
const ANSWERS_UNDER_PRESSURE: usize = 4 * 1024;
/// The length of a QoS 0 message that may still exceed the budget. All such messages together exceed it by little.
const SMALL: usize = 256;
const SHARE_FOR_SMALL: usize = 64;
/// Bytes. Less than this is no peak: it is about as much as the broker caches for speed alone.
const PEAK_MINIMUM: usize = 2 * 1024 * 1024;
/// How long after a peak its caches are freed, so that this does not happen during the work that ends the peak.
const PEAK_REMEMBERED: Duration = Duration::from_seconds(10);

/// The memory that is counted in addition to structures that count themselves.
#[derive(Debug, Default)]
pub(super) struct Budget {
    /// The memory of structures that do not count themselves.
    pub(super) counted: Counted,
    pub(super) peak: Peak,
    /// Whether it was logged that memory is short.
    is_short: bool,
}

/// The most memory that was held since the caches of the last peak were freed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Peak {
    highest: usize,
    /// More than half of it has been freed, and a timer is armed to free the caches.
    is_over: bool,
}

/// How far the budget is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Pressure {
    /// There is room for everything, though QoS 0 messages to slow clients may be dropped already.
    None,
    /// Nothing that would stay longer is accepted.
    Keep,
    /// No more clients are accepted.
    Enter,
    /// The budget is used up.
    Full,
}

impl Broker {
    /// The bytes that are held. Only a call that has entered the account may ask.
    #[inline]
    pub(super) fn in_use(&self) -> usize {
        debug_assert!(self.account.is_entered(), "a call counts on its broker's account");
        memory::held()
    }

    /// The budget, if there is one.
    #[inline]
    fn memory_limit(&self) -> Option<usize> {
        debug_assert!(self.account.is_entered(), "a call counts on its broker's account");
        self.options.limits.memory
    }

    /// How far the budget would be used up with `more` bytes held.
    pub(super) fn pressure(&self, more: usize) -> Pressure {
        let Some(limit) = self.memory_limit() else { return Pressure::None };
        let held = self.in_use().saturating_add(more);
        match () {
            () if held >= limit => Pressure::Full,
            () if held >= limit - limit / 20 => Pressure::Enter,
            () if held >= limit - limit / 10 => Pressure::Keep,
            () => Pressure::None,
        }
    }

    /// Whether so much of the budget is used that load is shed.
    pub fn is_under_pressure(&self) -> bool {
        let _entered = self.account.enter();
        !self.has_memory_for(0)
    }

    /// Whether so little of the budget would be used with `more` bytes held that nothing at all is shed.
    #[inline]
    pub(super) fn has_memory_for(&self, more: usize) -> bool {
        self.memory_limit().is_none_or(|limit| self.in_use().saturating_add(more) < limit - limit / 4)
    }

    /// Whether there is room to send a QoS 0 message of this length. Clients fill the budget for moments only, until
    /// they are refused. Clients that send little and read what they receive must not notice.
    pub(super) fn has_room_at_most_once(&self, length: usize) -> bool {
        let Some(limit) = self.memory_limit() else { return true };
        let more = if length <= SMALL { limit / SHARE_FOR_SMALL } else { 0 };
        self.in_use().saturating_add(length) < limit + more
    }

    /// The fill of an outbox up to which it takes another QoS 0 message: its limit, shrinking to nothing between
    /// three quarters and nine tenths of the budget.
    pub(super) fn outbox_allowance(&self) -> usize {
        let most = self.options.limits.outbox_bytes;
        let Some(limit) = self.memory_limit() else { return most };
        let (from, to) = (limit - limit / 4, limit - limit / 10);
        let left = to.saturating_sub(self.in_use()).min(to - from);
        // In 64 KiB steps of the allowance, which keeps the product small.
        let allowed = most / 65_536 * left / (to - from).max(1) * 65_536;
        if left == to - from { most } else { allowed }
    }

    /// The fill of an outbox up to which the broker reads from its peer, to which it sends answers: the allowance of
    /// QoS 0 messages, and some more, which shrinks as well.
    pub(super) fn answers_allowance(&self) -> usize {
        let allowance = self.outbox_allowance();
        let answers = self.options.limits.outbox_answer_bytes;
        if allowance < self.options.limits.outbox_bytes {
            allowance + answers.min(ANSWERS_UNDER_PRESSURE)
        } else {
            allowance + answers
        }
    }

    /// Whether nothing is left of the budget, not even for packets that arrive in pieces.
    pub(super) fn is_used_up(&self) -> bool {
        self.pressure(0) == Pressure::Full
    }

    /// Whether there is memory for another connection, which needs some before its client is known.
    pub fn has_room_for_handshake(&self) -> bool {
        let _entered = self.account.enter();
        self.pressure(0) < Pressure::Enter
    }

    /// The bytes that a link may copy from its outbox before its socket accepts them.
    pub fn copied_ahead(&self) -> usize {
        let _entered = self.account.enter();
        if self.has_memory_for(0) { COPIED_AHEAD_MAXIMUM } else { COPIED_AHEAD_MINIMUM }
    }

    /// Logs that memory has become short, and that it no longer is, which takes a quarter of the budget.
    pub(super) fn watch_memory(&mut self) {
        if !self.budget.is_short && self.pressure(0) >= Pressure::Keep {
            self.budget.is_short = true;
            warn!(
                "There is too little memory (memory_limit): new subscriptions, retained messages, messages for queues \
                 and clients are refused."
            );
        } else if self.budget.is_short && self.has_memory_for(0) {
            self.budget.is_short = false;
            info!(target: "notice", "There is enough memory again.");
        }
    }

    /// Notices that a peak is over.
    #[inline]
    pub(super) fn watch_peak(&mut self) {
        let held = self.in_use();
        let highest = self.budget.peak.highest.max(held);
        self.budget.peak.highest = highest;
        if !self.budget.peak.is_over && highest >= PEAK_MINIMUM && held < highest / 2 {
            self.budget.peak.is_over = true;
            self.clock.arm(PEAK_REMEMBERED, Timer::Peak);
        }
    }

    /// Frees everything that is cached for speed alone. Caches that were allocated during a peak lie above the memory
    /// that has been freed since, and an allocator that returns memory from the top cannot return any of it.
    pub(super) fn forget_peak(&mut self) {
        self.output.sender.spares = Spares::default();
        self.output.sender.identifiers = LatestIdentifiers::default();
        self.output.sender.dirty.forget_spares(0);
        self.routing.match_cache = MatchCache::default();
        self.publish_all_again();
        self.count();
        self.budget.peak = Peak { highest: self.in_use(), is_over: false };
    }

    /// Counts what grows without counting itself: slabs, the wheel, the trie and the sets.
    pub(super) fn count(&mut self) {
        self.output.sender.encoder.forget_huge();
        self.output.sender.binds_aliases = self.has_memory_for(0);
        if let Some(journal) = &mut self.persistence.journal {
            journal.count();
        }
        self.budget.counted.set(self.memory_of_clients() + self.memory_of_messages());
    }

    /// The bytes of the structures that hold connections, sessions and their timers, without what counts itself.
    #[inline]
    fn memory_of_clients(&self) -> usize {
        self.connections.memory() + self.clients.memory() + self.clock.wheel.memory()
    }

    /// The bytes of the structures that say where messages go, or hold them, without what counts itself.
    #[inline]
    fn memory_of_messages(&self) -> usize {
        self.routing.memory() + self.retention.retained.overhead() + self.waiting.memory()
    }

    /// Asserts that the count agrees with the structures.
    pub fn check_memory(&mut self) {
        let _entered = self.account.enter();
        self.count();
        let mut audit = Audit::default();
        audit.add(self.budget.counted.bytes());
        if let Some(journal) = &self.persistence.journal {
            journal.audit(&mut audit);
        }
        self.audit_clients(&mut audit);
        self.audit_messages(&mut audit);
        assert_eq!(audit.bytes(), self.in_use(), "what is counted is what is there");
    }

    /// Adds to an audit what connections, sessions and the sender count themselves.
    fn audit_clients(&self, audit: &mut Audit) {
        self.output.audit(audit);
        self.connections.iter().for_each(|(_, connection)| connection.audit(audit));
        self.clients.sessions.iter().for_each(|(_, session)| session.audit(audit));
        self.clients.bridge_queues.audit(audit);
    }

    /// Adds to an audit what subscriptions, retained messages and waiting work count themselves.
    fn audit_messages(&self, audit: &mut Audit) {
        self.retention.retained.audit(audit);
        self.retention.owed.iter().for_each(|owed| audit.add(owed.memory()));
        self.routing.audit(audit);
        self.waiting.audit(audit);
    }
}
