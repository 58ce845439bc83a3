//! Messages in the store that members of Shared Subscriptions leave to others. Only their numbers are in memory.
//! The messages are read one page at a time, for one member after the other, and a page goes to other members before
//! the next is read.
//!
//! Until a message has gone to another member, the store counts it as the leaving session's, even if that session is
//! over. So the store remembers such sessions until all that they left has gone, and a crash loses nothing.
//!
//! A message for which no member has room is tried again later: one page of each session at a time, the session's other
//! messages first.

use std::collections::{BTreeMap, VecDeque};

use super::Broker;
use super::clock::Timer;
use super::copies::queued;
use super::ending::Moving;
use super::turn::steps;
use crate::base::memory::{self, Audit, Counted};
use crate::base::time::Duration;
use crate::core::journal::{Fetch, MessageNumber, Page, Record, SessionNumber, Urgency};
use crate::core::message::Message;
use crate::core::session::page_length;
use crate::core::slots::SessionId;
use crate::core::subscription::GroupId;

/// The pause before messages are offered again for which no member had room, or for which there was no memory.
const RETRY: Duration = Duration::from_seconds(1);
/// The number of lists that are tried again at a time: a page of each may be read in vain.
const RETRIED_AT_ONCE: usize = 16;
/// About how many bytes one more entry of a map takes.
const ENTRY_BYTES: usize = 48;

/// The messages that one member leaves in the store.
#[derive(Debug)]
struct Legacy {
    /// The session, unless it ended in an earlier run.
    leaving: Option<SessionId>,
    number: SessionNumber,
    messages: VecDeque<(MessageNumber, GroupId)>,
    /// About how many bytes one message takes.
    average: usize,
    counted: Counted,
}

/// A session of which messages are on their way to other members.
#[derive(Debug, Default)]
struct Leaver {
    /// How many lists of messages it leaves.
    lists: usize,
    /// Whether it is over and the store remembers it.
    is_former: bool,
}

/// The messages that all members leave.
#[derive(Debug, Default)]
pub(super) struct Legacies {
    /// The messages of the first one are being read.
    waiting: VecDeque<Legacy>,
    /// Messages for which no member had room, of sessions that are over.
    refused: VecDeque<Legacy>,
    /// Whether the timer for the next try is armed.
    is_retried: bool,
    /// How many messages of the first legacy are being read.
    underway: usize,
    /// How many lists that were read from the store are on their way to other members.
    moving: usize,
    leavers: BTreeMap<SessionNumber, Leaver>,
    /// What sessions that ended in an earlier run left, during a restore.
    restored: BTreeMap<SessionNumber, Legacy>,
}

impl Legacy {
    fn new(leaving: Option<SessionId>, number: SessionNumber) -> Self {
        Self { leaving, number, messages: VecDeque::new(), average: 1, counted: Counted::default() }
    }

    fn count(&mut self) {
        self.counted
            .set(memory::allocation(self.messages.capacity() * size_of::<(MessageNumber, GroupId)>()));
    }
}

impl Legacies {
    /// Notes that one more list of messages of a session goes to other members.
    pub(super) fn begin(&mut self, number: SessionNumber) {
        self.leavers.entry(number).or_default().lists += 1;
    }

    /// Notes that a session is over, and that the store remembers it until all that it leaves has gone.
    fn end(&mut self, number: SessionNumber) {
        self.leavers.entry(number).or_default().is_former = true;
    }

    /// Whether messages of a session are on their way to other members.
    fn is_leaving(&self, number: SessionNumber) -> bool {
        self.leavers.contains_key(&number)
    }

    /// Notes that a list of messages has gone. Returns whether it was the last one of a session that the store
    /// remembers.
    fn finish(&mut self, number: SessionNumber) -> bool {
        let Some(leaver) = self.leavers.get_mut(&number) else { return false };
        leaver.lists -= 1;
        let (is_last, is_former) = (leaver.lists == 0, leaver.is_former);
        if is_last {
            self.leavers.remove(&number);
        }
        is_last && is_former
    }

    /// Returns the last list of messages for which no member had room if it is this session's, else a new one.
    fn refused_of(&mut self, number: SessionNumber) -> &mut Legacy {
        if self.refused.back().is_none_or(|last| last.number != number) {
            self.begin(number);
            self.refused.push_back(Legacy::new(None, number));
        }
        let last = self.refused.len() - 1;
        &mut self.refused[last]
    }

    const fn is_busy(&self) -> bool {
        self.underway > 0 || self.moving > 0
    }

    /// Whether the next page to read belongs to this session's legacy.
    pub(super) fn is_due(&self, number: SessionNumber) -> bool {
        !self.is_busy() && self.waiting.front().is_some_and(|first| first.number == number)
    }

    /// Whether a session ended in an earlier run and its legacy is being restored.
    pub(super) fn is_restored(&self, number: SessionNumber) -> bool {
        self.restored.contains_key(&number)
    }

    /// Whether there are messages for which no member had room.
    pub(super) fn has_refused(&self) -> bool {
        !self.refused.is_empty()
    }

    /// The bytes that the lists take, without what counts itself.
    pub(super) fn memory(&self) -> usize {
        memory::allocation(self.waiting.capacity() * size_of::<Legacy>())
            + memory::allocation(self.refused.capacity() * size_of::<Legacy>())
            + self.leavers.len() * ENTRY_BYTES
            + self.restored.len() * (ENTRY_BYTES + size_of::<Legacy>())
    }

    /// Adds what counts itself to an audit.
    pub(super) fn audit(&self, audit: &mut Audit) {
        let all = self.waiting.iter().chain(&self.refused).chain(self.restored.values());
        all.for_each(|legacy| audit.add(legacy.counted.bytes()));
    }
}

impl Broker {
    /// Whether a persisted session that ends leaves messages to other members. If so, the store must remember it, and
    /// [`Broker::finish_list`] must be called when the session is freed.
    pub(super) fn leaves_shared(&mut self, session: SessionId, number: SessionNumber) -> bool {
        let outgoing = self.clients.sessions[session].outgoing.as_deref();
        let looked_at = outgoing.map_or(0, |outgoing| outgoing.waiting_here().0 + outgoing.in_flight().len());
        self.turn.take(looked_at / steps::SORTED_OUT_PER_STEP);
        let leaves = self.waiting.legacies.is_leaving(number)
            || outgoing.is_some_and(|outgoing| outgoing.has_shared());
        if leaves {
            self.waiting.legacies.begin(number);
            self.waiting.legacies.end(number);
        }
        leaves
    }

    /// Sends these messages in the store, of about `average` bytes each, from a member to others.
    pub(super) fn begin_legacy(
        &mut self,
        leaving: SessionId,
        number: SessionNumber,
        messages: VecDeque<(MessageNumber, GroupId)>,
        average: usize,
    ) {
        if messages.is_empty() {
            return;
        }
        let mut legacy = Legacy { messages, average, ..Legacy::new(Some(leaving), number) };
        legacy.count();
        self.waiting.legacies.begin(number);
        self.waiting.legacies.waiting.push_back(legacy);
        self.ask_for_legacy();
    }

    /// Asks for the next messages, unless some that were read are still on their way.
    pub(super) fn ask_for_legacy(&mut self) {
        if let (Some(journal), Some(first)) =
            (&mut self.persistence.journal, self.waiting.legacies.waiting.front())
            && !self.waiting.legacies.is_busy()
        {
            journal.fetches.ask(first.number);
        }
    }

    /// Returns what to read for the [first](Legacies::is_due) legacy: at most `most` messages. Returns `None` if its
    /// first message is not in the store yet; this is called again when it is.
    pub(super) fn read_legacy(&mut self, most: usize) -> Option<Fetch> {
        let journal = self.persistence.journal.as_mut()?;
        let first = self.waiting.legacies.waiting.front()?;
        if !journal.is_stored_soon(first.messages.front()?.0, self.clock.now) {
            return None;
        }
        let (end, _) = journal.messages.first_pending();
        let most = most.min(page_length(first.average));
        let messages = first.messages.iter().map(|&(message, _)| message);
        let messages: Vec<MessageNumber> = messages.take(most).take_while(|message| *message < end).collect();
        self.waiting.legacies.underway = messages.len();
        journal.fetches.begin(first.number, messages.len(), first.average * messages.len());
        journal.count();
        Some(Fetch { session: first.number, messages })
    }

    /// Sends messages that have been read to other members. Returns false if they were read for another session.
    pub(super) fn take_legacy(&mut self, page: &Page, messages: &[Message]) -> bool {
        let legacies = &mut self.waiting.legacies;
        let count = page.copies.len();
        let Some(first) = legacies.waiting.front_mut().filter(|first| first.number == page.session) else {
            return false;
        };
        let expected = first.messages.iter().map(|&(message, _)| message).take(count);
        if count > legacies.underway || !expected.eq(page.copies.iter().map(|copy| copy.number)) {
            return false;
        }
        legacies.underway -= count;
        let (mut found, mut lost) = (VecDeque::new(), VecDeque::new());
        for (copy, (_, group)) in page.copies.iter().zip(first.messages.drain(..count)) {
            let Some((place, form)) = &copy.found else {
                lost.push_back(copy.number);
                continue;
            };
            found.push_back(queued(copy.number, messages[*place].clone(), form, Some(group)));
        }
        first.messages.shrink_to(2 * first.messages.len());
        first.count();
        let leaving = first.leaving;
        legacies.moving += 1;
        legacies.begin(page.session);
        self.turn.take(count * steps::PACKET);
        if !lost.is_empty() {
            self.miss(leaving, page.session, lost);
        }
        self.begin_moving(Moving::of_page(leaving, page.session, found));
        true
    }

    /// Notes that a list of messages has gone to other members. If it was read from the store, reads the next one.
    pub(super) fn finish_list(&mut self, number: SessionNumber, was_read: bool) {
        if self.waiting.legacies.finish(number)
            && let Some(journal) = &mut self.persistence.journal
        {
            journal.record(Record::FormerEnded(number), Urgency::Lazy, self.clock.now);
        }
        if !was_read {
            return;
        }
        let legacies = &mut self.waiting.legacies;
        legacies.moving -= 1;
        if legacies.is_busy() {
            return;
        }
        match legacies.waiting.pop_front() {
            Some(first) if first.messages.is_empty() => self.finish_list(first.number, false),
            Some(first) => legacies.waiting.push_back(first),
            None => {}
        }
        self.ask_for_legacy();
    }

    /// Keeps a message, of about so many bytes, of a session that is over in the store until a member has room for it.
    pub(super) fn postpone(
        &mut self,
        number: SessionNumber,
        message: (MessageNumber, GroupId),
        bytes: usize,
    ) {
        let refused = self.waiting.legacies.refused_of(number);
        refused.messages.push_back(message);
        refused.average = refused.average.max(bytes);
        refused.count();
        self.retry_legacies();
    }

    /// Postpones, in the same way, the messages of this group that are still to be read: reading them now would be in
    /// vain. At the next try they come before those that were read, so that none of them waits for one that never goes.
    pub(super) fn postpone_rest(&mut self, number: SessionNumber, group: GroupId) {
        let legacies = &mut self.waiting.legacies;
        let Some(first) = legacies.waiting.front_mut().filter(|first| first.number == number) else { return };
        let (count, average) = (first.messages.len(), first.average);
        let messages = std::mem::take(&mut first.messages);
        let (mut rest, others): (VecDeque<_>, VecDeque<_>) =
            messages.into_iter().partition(|&(_, other)| other == group);
        first.messages = others;
        first.count();
        self.turn.take(count / steps::SORTED_OUT_PER_STEP);
        if rest.is_empty() {
            return;
        }
        let refused = self.waiting.legacies.refused_of(number);
        rest.append(&mut refused.messages);
        refused.messages = rest;
        refused.average = refused.average.max(average);
        refused.count();
    }

    /// Arms the timer for the next try.
    pub(super) fn retry_legacies(&mut self) {
        let legacies = &mut self.waiting.legacies;
        if !std::mem::replace(&mut legacies.is_retried, true) {
            self.clock.arm(RETRY, Timer::Legacies);
        }
    }

    /// Tries again: members may have room by now, or there may be memory.
    pub(super) fn legacies_are_due(&mut self) {
        let legacies = &mut self.waiting.legacies;
        let count = legacies.refused.len().min(RETRIED_AT_ONCE);
        legacies.waiting.extend(legacies.refused.drain(..count));
        legacies.is_retried = false;
        if !legacies.refused.is_empty() {
            self.retry_legacies();
        }
        self.ask_for_legacy();
    }

    /// Restores a session that ended in an earlier run and leaves messages to other members.
    pub(super) fn restore_former(&mut self, number: SessionNumber) {
        let legacies = &mut self.waiting.legacies;
        legacies.begin(number);
        legacies.end(number);
        legacies.restored.insert(number, Legacy::new(None, number));
    }

    /// Restores a message of such a session, of about so many bytes, that is to go to another member of this group.
    /// Without a group, it is no longer needed.
    pub(super) fn restore_legacy(
        &mut self,
        number: SessionNumber,
        message: MessageNumber,
        bytes: usize,
        group: Option<GroupId>,
    ) {
        if let (Some(legacy), Some(group)) = (self.waiting.legacies.restored.get_mut(&number), group) {
            legacy.messages.push_back((message, group));
            legacy.average = legacy.average.max(bytes);
        } else {
            self.leave_messages(number, [message].into());
        }
    }

    /// Sends on their way the messages that were restored.
    pub(super) fn finish_restore_legacies(&mut self) {
        for (number, mut legacy) in std::mem::take(&mut self.waiting.legacies.restored) {
            if legacy.messages.is_empty() {
                self.finish_list(number, false);
            } else {
                legacy.count();
                self.waiting.legacies.waiting.push_back(legacy);
            }
        }
        self.ask_for_legacy();
    }
}
