//! Messages that are queued in the store for connected clients. They are requested when a client needs them and there
//! is room for them, and queued in memory when they have been read.

use std::collections::VecDeque;

use log::warn;

use super::Broker;
use super::budget::Pressure;
use super::copies::queued;
use super::turn::steps;
use crate::base::escape::Escaped;
use crate::base::time::Time;
use crate::core::journal::{Fetch, MessageNumber, Page, PageCopy, Pages, SessionNumber};
use crate::core::message::Message;
use crate::core::session::LostCopy;
use crate::core::slots::SessionId;

/// A session requests more of its messages in the store when fewer messages than this are queued in memory.
const FETCH_BELOW: usize = 32;
/// And they have fewer bytes than this.
const FETCH_BELOW_BYTES: usize = 256 * 1024;
/// About how many bytes may be requested from the store at a time, for all sessions together. Beyond that, sessions
/// wait in order.
const UNDERWAY_BYTES_MAXIMUM: usize = 16 * 1024 * 1024;
/// One in how many parts of a memory budget they may be, if that is less.
const UNDERWAY_SHARE: usize = 64;
/// One in how many parts of a memory budget must be left to new connections even when a single message is read.
const LAST_SHARE: usize = 40;
/// The bytes of memory that must be free for one more page.
const PAGE_ROOM: usize = 256 * 1024;
/// How many sessions are considered in one call, and how many expired messages are dropped in it. The rest follows with
/// the next call.
const FETCHES_PER_CALL: usize = 1_024;
const EXPIRED_PER_CALL: usize = 1_024;

/// The next step for a session that has requested messages.
enum Due {
    /// It needs nothing, or nothing that could be read now.
    Over,
    /// All its messages in the store have expired.
    Expired(SessionId),
    /// More messages may have expired than could be examined.
    Later,
    /// There is no room for what it has requested.
    NoRoom,
    /// Read these messages for it.
    Read(Fetch),
}

impl Broker {
    /// Requests messages in the store for a client that will need them soon.
    pub(super) fn fetch_more(&mut self, session: SessionId) {
        let Some(journal) = &mut self.persistence.journal else { return };
        let Some(number) = journal.number_of(session) else { return };
        let Some(outgoing) = &self.clients.sessions[session].outgoing else { return };
        let (count, bytes) = outgoing.waiting_here();
        if outgoing.backlog.is_some() && count < FETCH_BELOW && bytes < FETCH_BELOW_BYTES {
            journal.fetches.ask(number);
        }
    }

    /// Whether [`Broker::take_fetches`] would return anything now.
    pub fn wants_pages(&self) -> bool {
        let _entered = self.account.enter();
        let waits = |journal: &crate::core::journal::OpenJournal| journal.fetches.first_waiting().is_some();
        self.persistence.journal.as_ref().is_some_and(waits) && self.page_length() > 0
    }

    /// Returns what to read for clients now, as much as there is room for. To be called once a turn.
    pub fn take_fetches(&mut self, now: Time) -> Vec<Fetch> {
        let _entered = self.account.enter();
        self.advance(now);
        let mut fetches = Vec::new();
        let before = self.output.statistics.expired;
        for _ in 0..FETCHES_PER_CALL {
            self.turn.take(steps::PACKET);
            let expired = usize::try_from(self.output.statistics.expired - before).unwrap_or(usize::MAX);
            let Some(number) =
                self.persistence.journal.as_ref().and_then(|journal| journal.fetches.first_waiting())
            else {
                break;
            };
            match self.next_for(number, EXPIRED_PER_CALL.saturating_sub(expired)) {
                Due::NoRoom => break,
                Due::Read(fetch) => fetches.push(fetch),
                Due::Over => self.withdraw(number, false),
                Due::Expired(session) => {
                    self.withdraw(number, false);
                    self.pump(session);
                }
                Due::Later => {
                    self.withdraw(number, true);
                    break;
                }
            }
        }
        fetches
    }

    /// Takes back the request of a session; if it `asks_again`, puts it after the others.
    fn withdraw(&mut self, number: SessionNumber, asks_again: bool) {
        if let Some(journal) = &mut self.persistence.journal {
            journal.fetches.withdraw(number);
            if asks_again {
                journal.fetches.ask(number);
            }
        }
    }

    /// The most messages that a page may have now: none while memory runs out, or while the journal is full and what
    /// follows from reading could not be persisted. Under memory pressure messages still come one at a time, or the
    /// clients that wait for them might wait for ever.
    fn page_length(&self) -> usize {
        let Some(journal) = &self.persistence.journal else { return 0 };
        let underway = journal.fetches.underway_bytes();
        let limit = self.options.limits.memory.unwrap_or(usize::MAX);
        let most = UNDERWAY_BYTES_MAXIMUM.min(limit / UNDERWAY_SHARE);
        if journal.is_full() || underway >= most {
            return 0;
        }
        match self.pressure(if underway == 0 { 0 } else { PAGE_ROOM }) {
            Pressure::None => usize::MAX,
            _ if underway == 0 && self.pressure(limit / LAST_SHARE) < Pressure::Enter => 1,
            _ => 0,
        }
    }

    /// Returns the next step for a session that has requested messages. Drops at most `most_expired` expired ones.
    fn next_for(&mut self, number: SessionNumber, most_expired: usize) -> Due {
        let length = self.page_length();
        if length == 0 {
            return Due::NoRoom;
        }
        if self.waiting.legacies.is_due(number) {
            if self.pressure(0) >= Pressure::Keep {
                // No member's queue accepts a message.
                self.retry_legacies();
                return Due::Over;
            }
            return self.read_legacy(length).map_or(Due::Over, Due::Read);
        }
        let journal = self.persistence.journal.as_ref();
        let Some(session) = journal.and_then(|journal| journal.session_of(number)) else { return Due::Over };
        if !self.may_read_for(session, length) {
            return Due::Over;
        }
        if self.drop_expired_stored(session, number, most_expired) {
            return Due::Later;
        }
        self.next_page(session, number, length)
    }

    /// Whether pages of this length are read for a session now: its client is connected. Where there is room for only
    /// one message at a time, it goes to a client that reads; another client's session requests again when the client
    /// has read something.
    fn may_read_for(&self, session: SessionId, length: usize) -> bool {
        let connection = self.clients.sessions[session].connection();
        connection.is_some_and(|id| length > 1 || self.connections[id].outbox.is_empty())
    }

    /// Drops at most so many expired messages of a session in the store. Returns whether there may be more.
    fn drop_expired_stored(&mut self, session: SessionId, number: SessionNumber, most: usize) -> bool {
        let Some(outgoing) = &mut self.clients.sessions[session].outgoing else { return false };
        let mut lost = Vec::new();
        let (expired, has_more) = outgoing.drop_expired(self.clock.now, most, &mut lost);
        self.output.statistics.expired += expired.len() as u64;
        self.owe_lost(session, lost);
        // Settling them can wait: new records come first, and there may be any number of expired messages.
        self.leave_messages(number, expired);
        has_more
    }

    /// Begins the next page of a session's messages, of at most so many.
    fn next_page(&mut self, session: SessionId, number: SessionNumber, length: usize) -> Due {
        let Some(journal) = &mut self.persistence.journal else { return Due::Over };
        let Some(outgoing) = &mut self.clients.sessions[session].outgoing else { return Due::Over };
        let Some(backlog) = &mut outgoing.backlog else { return Due::Expired(session) };
        let is_stored =
            backlog.first().is_some_and(|first| journal.is_stored(first, session, self.clock.now));
        if !is_stored {
            return Due::Over;
        }
        let (end, _) = journal.messages.first_pending();
        let Some(page) = backlog.next_page(length, end) else { return Due::Over };
        backlog.begin(&page);
        journal.fetches.begin(number, page.messages.len(), page.bytes);
        journal.count();
        Due::Read(Fetch { session: number, messages: page.messages })
    }

    /// Queues messages that have been read from the store.
    pub fn pages(&mut self, pages: &Pages, now: Time) {
        let _entered = self.account.enter();
        self.advance(now);
        self.turn.begin_input();
        let spares = &mut self.output.sender.spares;
        let messages: Vec<Message> = pages.messages.iter().map(|message| message.message(spares)).collect();
        for page in &pages.pages {
            let Some(journal) = &mut self.persistence.journal else { return };
            let is_last = journal.fetches.have_come(page.session, page.copies.len());
            let session = journal.session_of(page.session);
            let is_taken = self.take_legacy(page, &messages)
                || session.is_some_and(|session| self.take_page(session, page, &messages));
            if is_last {
                // It may have had to wait for this page.
                self.ask_for_legacy();
            }
            if let Some(session) = session.filter(|_| is_taken || is_last) {
                self.pump(session);
            }
        }
    }

    /// Queues messages that have been read for a session in memory. Returns false if it no longer waits for them.
    fn take_page(&mut self, session: SessionId, page: &Page, messages: &[Message]) -> bool {
        let Some(outgoing) = self.clients.sessions[session].outgoing.as_deref_mut() else { return false };
        let Some(backlog) = &mut outgoing.backlog else { return false };
        let found = || page.copies.iter().filter_map(|copy| copy.found.as_ref());
        let bytes = found().map(|(place, _)| messages[*place].memory()).sum();
        // Most sessions are in no group.
        let is_missing = |copy: &&PageCopy| copy.found.is_none();
        let missing: Vec<_> = page
            .copies
            .iter()
            .filter(is_missing)
            .filter_map(|copy| backlog.forget_retained(copy.number))
            .map(LostCopy::Stored)
            .collect();
        let groups: Vec<_> = match backlog.has_shared() {
            true => page.copies.iter().map(|copy| backlog.group_of(copy.number)).collect(),
            false => Vec::new(),
        };
        if !backlog.have_come(page.copies.iter().map(|copy| copy.number), bytes) {
            return false;
        }
        outgoing.backlog.take_if(|backlog| backlog.is_empty());
        self.owe_lost(session, missing);
        let lost: VecDeque<MessageNumber> =
            page.copies.iter().filter(is_missing).map(|copy| copy.number).collect();
        if !lost.is_empty() {
            self.miss(Some(session), page.session, lost);
        }
        self.turn.take(page.copies.len() * steps::PACKET);
        for (index, copy) in page.copies.iter().enumerate() {
            let Some((place, form)) = &copy.found else { continue };
            let queued =
                queued(copy.number, messages[*place].clone(), form, groups.get(index).copied().flatten());
            self.clients.sessions[session].outgoing_mut().push(queued);
        }
        true
    }

    /// Reports messages that are missing in the store, or damaged, and that a session waits for or has left to others.
    /// They are settled, so they are reported once.
    pub(super) fn miss(
        &mut self,
        session: Option<SessionId>,
        number: SessionNumber,
        lost: VecDeque<MessageNumber>,
    ) {
        let client = session.and_then(|session| self.clients.sessions.find(session));
        let client = client.map_or("of a session that has ended", |session| &session.client_identifier);
        let client = Escaped(client);
        warn!(
            "Warning: the number of messages for client {client} that are missing in the store, or damaged, is {}.",
            lost.len()
        );
        self.output.statistics.missing += lost.len() as u64;
        self.leave_messages(number, lost);
    }
}
