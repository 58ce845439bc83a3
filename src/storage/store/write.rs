//! Writes batches of records to the tables.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::num::NonZeroU64;

use rusqlite::types::{Null, Value};
use rusqlite::{Connection, TransactionBehavior, params};

use super::StoreError;
use super::anchor;
use super::arrivals;
use super::listeners::Listeners;
use super::owed;
use super::rows::{Translation, key, publication_flags, span, write_recipients};
use super::statements::Statements;
use super::tables::{DONE, FORMER, IN2, META, MSG, OUT2, RETAINED, SESSION, SUB, payload_sum};
use crate::base::time::Time;
use crate::core::journal::{
    Batch, MessageNumber, NextNumbers, Record, SessionNumber, StoredDelivery, StoredMessage, StoredPresence,
    StoredSession, StoredSubscription,
};
use crate::core::message::{Portable, Publication};
use crate::storage::timeline::Anchor;

/// How many numbers to reserve at a time.
const RESERVED: u64 = 4096;
/// Rows to write before another thread may have the processor. On a machine with a single one, messages that need no
/// disk would otherwise wait for a whole transaction. With fewer rows the transaction itself would be delayed too
/// much.
const ROWS_AT_ONCE: usize = 64;

/// All numbers ever given are below these. They are persisted before they are reached, some thousand numbers ahead,
/// so that a number is never given twice, even if everything that had it is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marks {
    session: NonZeroU64,
    message: NonZeroU64,
}

impl Marks {
    /// Reads the persisted marks.
    pub(super) fn read(connection: &Connection) -> Result<Self, StoreError> {
        let mark = |name: &str| -> Result<NonZeroU64, StoreError> {
            let mut statement = connection.prepare(&META.select("", "WHERE name = ?"))?;
            let mut rows = statement.query([name])?;
            let Some(row) = rows.next()? else { return Ok(NonZeroU64::MIN) };
            META.read(row, || Ok(super::rows::session_number(row, 1)?.0))
        };
        Ok(Self { session: mark("next_session")?, message: mark("next_message")? })
    }

    /// Returns the marks raised beyond the number of a session.
    fn beyond_session(self, SessionNumber(number): SessionNumber) -> Self {
        Self { session: raised(self.session, number), ..self }
    }

    /// Returns the marks raised beyond the number of a message.
    fn beyond_message(self, MessageNumber(number): MessageNumber) -> Self {
        Self { message: raised(self.message, number), ..self }
    }

    /// Returns the marks raised beyond every number in a record.
    fn beyond(self, record: &Record) -> Self {
        match record {
            Record::Session(session) => match session.presence {
                StoredPresence::Away { sent_until: Some(message), .. } => {
                    self.beyond_session(session.number).beyond_message(message)
                }
                _ => self.beyond_session(session.number),
            },
            Record::Message(message) => message
                .recipients
                .iter()
                .fold(self.beyond_message(message.number), |marks, to| marks.beyond_session(to.session)),
            Record::Arrived { message, .. } => self.beyond_message(*message),
            Record::Settled { message, session, .. } | Record::Begun { message, session, .. } => {
                self.beyond_message(*message).beyond_session(*session)
            }
            Record::Delivery(session, delivery) => {
                self.beyond_session(*session).beyond_message(delivery.message)
            }
            Record::SessionEnded { session, .. }
            | Record::FormerEnded(session)
            | Record::Subscribed(session, _)
            | Record::Unsubscribed(session, _)
            | Record::Received(session, _)
            | Record::Released(session, _)
            | Record::Completed(session, _) => self.beyond_session(*session),
            Record::Listener(..)
            | Record::Retained(_)
            | Record::Cleared(_)
            | Record::Owed(_)
            | Record::Sent(_)
            | Record::NothingOwed(_) => self,
        }
    }

    /// Checks that the number of a session has been given.
    pub(super) fn check_session(self, SessionNumber(number): SessionNumber) -> Result<(), StoreError> {
        if number < self.session { Ok(()) } else { Err(StoreError::nonsense("the number of a session")) }
    }

    /// Checks that the number of a message has been given.
    pub(super) fn check_message(self, MessageNumber(number): MessageNumber) -> Result<(), StoreError> {
        if number < self.message { Ok(()) } else { Err(StoreError::nonsense("the number of a message")) }
    }

    /// Returns the number of a session if it has been given.
    pub(super) fn checked_session(self, number: SessionNumber) -> Result<SessionNumber, StoreError> {
        self.check_session(number).map(|()| number)
    }

    /// Returns the number of a message if it has been given.
    pub(super) fn checked_message(self, number: MessageNumber) -> Result<MessageNumber, StoreError> {
        self.check_message(number).map(|()| number)
    }

    /// Returns the next numbers to give.
    pub(super) const fn next(self) -> NextNumbers {
        NextNumbers { session: SessionNumber(self.session), message: MessageNumber(self.message) }
    }

    /// Persists the marks that differ from those before.
    fn write(self, before: Self, connection: &Connection) -> Result<(), StoreError> {
        for (name, mark, before) in
            [("next_session", self.session, before.session), ("next_message", self.message, before.message)]
        {
            if mark != before {
                META.put(connection, params![name, key(mark)])?;
            }
        }
        Ok(())
    }
}

fn raised(mark: NonZeroU64, number: NonZeroU64) -> NonZeroU64 {
    if number < mark { mark } else { number.saturating_add(RESERVED) }
}

/// What a commit needs besides the batch.
#[derive(Clone, Copy)]
pub(super) struct Beside<'a> {
    pub(super) translation: Translation<'a>,
    /// The marks persisted so far.
    pub(super) marks: Marks,
    /// The anchor of the timeline, if it is due.
    pub(super) anchor: Option<Anchor>,
    /// Messages whose rows cannot be removed.
    pub(super) spared: &'a BTreeSet<MessageNumber>,
}

/// Makes a batch durable. Returns the marks persisted with it, and the listeners if some of them are new.
pub(super) fn commit(
    connection: &mut Connection,
    batch: &Batch,
    beside: Beside<'_>,
    let_others_run: &mut dyn FnMut(),
) -> Result<(Marks, Option<Listeners>), StoreError> {
    let Beside { translation, marks: before, anchor, spared } = beside;
    let marks = batch.records.iter().fold(before, Marks::beyond);
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let new = batch.records.iter().filter_map(|record| match record {
        Record::Listener(id, name) => Some((*id, &**name)),
        _ => None,
    });
    // First, because other rows refer to them.
    let listeners = translation.listeners.written(new, &transaction)?;
    let mut writing = Writing {
        statements: Statements::new(&transaction),
        translation: Translation {
            listeners: listeners.as_ref().unwrap_or(translation.listeners),
            ..translation
        },
        spared,
        rows: 0,
        let_others_run,
        settled: Vec::new(),
        recipients: Vec::new(),
    };
    let mut rest = batch.records.as_slice();
    while let Some((record, others)) = rest.split_first() {
        let alike = writing.write(record, others)?;
        rest = others.split_at(alike).1;
    }
    writing.settle()?;
    drop(writing);
    marks.write(before, &transaction)?;
    if let Some(anchor) = anchor {
        anchor::write(anchor, &transaction)?;
    }
    transaction.commit()?;
    Ok((marks, listeners))
}

/// A transaction that records go into.
struct Writing<'a> {
    statements: Statements<'a>,
    translation: Translation<'a>,
    /// Messages whose rows cannot be removed because the file is damaged there. Instead they are noted as settled for
    /// each session.
    spared: &'a BTreeSet<MessageNumber>,
    /// Number of rows written so far.
    rows: usize,
    let_others_run: &'a mut dyn FnMut(),
    /// Copies that have been settled. They are written after everything else, sorted by message, so that each page is
    /// touched once. Order does not matter otherwise: a message is stored once, and before any of its copies is
    /// settled.
    settled: Vec<Settled>,
    /// Buffer for the recipients of a message.
    recipients: Vec<u8>,
}

/// A copy that its session no longer needs. Sorted by message, with the one that allows its removal first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Settled {
    message: MessageNumber,
    stays: bool,
    session: SessionNumber,
}

impl Writing<'_> {
    /// Counts rows that are about to be written, and lets other threads run now and then.
    fn begin_rows(&mut self, count: usize) {
        let before = self.rows / ROWS_AT_ONCE;
        self.rows += count;
        if self.rows / ROWS_AT_ONCE > before {
            (self.let_others_run)();
        }
    }

    /// Writes a record, and those after it that can be written with it. Returns the number of the latter.
    fn write(&mut self, record: &Record, others: &[Record]) -> Result<usize, StoreError> {
        let alike = count_alike(record, others);
        // Settled copies are only collected here.
        if !matches!(record, Record::Settled { .. }) {
            self.begin_rows(1 + usize::from(alike));
        }
        self.write_with(record, alike)?;
        Ok(alike.into())
    }

    /// Writes a record, and as many after it as are [alike](count_alike).
    fn write_with(&mut self, record: &Record, alike: u16) -> Result<(), StoreError> {
        match record {
            // Listeners were written first.
            Record::Listener(..) => Ok(()),
            Record::Session(session) => self.session(session),
            &Record::SessionEnded { session, leaves_shared } => self.session_ended(session, leaves_shared),
            Record::FormerEnded(session) => {
                self.statements.of("DELETE FROM former WHERE session = ?")?.execute([key(session.0)])?;
                self.statements.of("DELETE FROM out2 WHERE session = ?")?.execute([key(session.0)])?;
                Ok(())
            }
            Record::Subscribed(session, subscription) => self.subscribed(*session, subscription),
            Record::Unsubscribed(session, filter) => {
                let statement = self.statements.of("DELETE FROM sub WHERE session = ? AND filter = ?")?;
                statement.execute(params![key(session.0), filter])?;
                Ok(())
            }
            Record::Message(message) => self.message(message),
            &Record::Arrived { message, at, oldest } => {
                let moment = self.translation.present.written(at).unwrap_or(i64::MAX);
                arrivals::write(message, moment, oldest, &mut self.statements)
            }
            &Record::Settled { message, session, is_last } => {
                self.settled.push(Settled { message, stays: !is_last, session });
                Ok(())
            }
            Record::Begun { message, session, identifier } => {
                self.note_begun(*message, *session, identifier.value())
            }
            Record::Received(session, identifier) => {
                IN2.put_among(&mut self.statements, params![key(session.0), identifier.value()])?;
                Ok(())
            }
            Record::Released(session, first) => {
                let text = "DELETE FROM in2 WHERE session = ? AND identifier BETWEEN ? AND ?";
                let (first, last) = (first.value(), first.value() + alike);
                self.statements.of(text)?.execute(params![key(session.0), first, last])?;
                Ok(())
            }
            Record::Delivery(session, delivery) => self.delivery(*session, delivery),
            Record::Completed(session, first) => {
                let text = "DELETE FROM out2 WHERE session = ? AND identifier BETWEEN ? AND ?";
                let (first, last) = (first.value(), first.value() + alike);
                self.statements.of(text)?.execute(params![key(session.0), first, last])?;
                Ok(())
            }
            Record::Retained(message) => self.retained(message),
            Record::Cleared(topic) => {
                self.statements.of("DELETE FROM retained WHERE topic = ?")?.execute([topic])?;
                Ok(())
            }
            Record::Owed(_) | Record::Sent(_) | Record::NothingOwed(_) => {
                owed::write(record, &mut self.statements)
            }
        }
    }

    fn session(&mut self, session: &StoredSession) -> Result<(), StoreError> {
        let (is_away, ends, sent_until) = match session.presence {
            StoredPresence::Connected => (false, None, None),
            StoredPresence::Away { ends, sent_until } => {
                (true, self.translation.present.written(ends), sent_until.map(|message| key(message.0)))
            }
        };
        let will = session.will.as_ref();
        let message = will.map(|will| will.message.publication());
        // A duration instead of a time, because it is unknown when it will begin.
        let expires =
            message.as_ref().map(|message| message.expires).filter(|expires| *expires != Time::NEVER);
        let row = params![
            key(session.number.0),
            session.client_identifier,
            session.user_name,
            self.translation.listeners.number_of(session.listener),
            session.expiry_interval,
            is_away,
            ends,
            sent_until,
            will.map(|will| span(will.delay)),
            will.and_then(|will| self.translation.present.written(will.due)),
            expires.map(|expires| span(expires.since(Time::ZERO))),
            message.as_ref().map(publication_flags),
            message.as_ref().map(|message| message.topic.as_str()),
            message.as_ref().and_then(|message| self.publisher(message)),
            message.as_ref().map(|message| message.properties.bytes()),
            message.as_ref().map(|message| message.payload),
            session.is_proved,
        ];
        SESSION.put_among(&mut self.statements, row)?;
        Ok(())
    }

    /// Returns the publisher of a message as it is stored.
    fn publisher<'p>(&self, publication: &Publication<'p>) -> Option<Cow<'p, str>> {
        publication.publisher.map(|publisher| self.translation.listeners.publisher_written(publisher))
    }

    fn session_ended(&mut self, session: SessionNumber, leaves_shared: bool) -> Result<(), StoreError> {
        let session = key(session.0);
        for text in [
            "DELETE FROM session WHERE id = ?",
            "DELETE FROM sub WHERE session = ?",
            "DELETE FROM in2 WHERE session = ?",
        ] {
            self.statements.of(text)?.execute([session])?;
        }
        if leaves_shared {
            FORMER.put_among(&mut self.statements, params![session])?;
        } else {
            self.statements.of("DELETE FROM out2 WHERE session = ?")?.execute([session])?;
        }
        Ok(())
    }

    fn subscribed(
        &mut self,
        session: SessionNumber,
        subscription: &StoredSubscription,
    ) -> Result<(), StoreError> {
        let row = params![
            key(session.0),
            subscription.filter,
            super::rows::subscription_flags(subscription),
            subscription.identifier,
        ];
        SUB.put_among(&mut self.statements, row)?;
        Ok(())
    }

    fn message(&mut self, stored: &StoredMessage) -> Result<(), StoreError> {
        let mut recipients = std::mem::take(&mut self.recipients);
        write_recipients(&stored.recipients, &mut recipients);
        let message = stored.message.publication();
        let row = params![
            key(stored.number.0),
            recipients,
            payload_sum(message.payload),
            self.translation.present.lifetime(message.expires),
            self.translation.present.written(message.expires),
            publication_flags(&message),
            message.topic.as_str(),
            self.publisher(&message),
            message.properties.bytes(),
            message.payload,
        ];
        MSG.put_among(&mut self.statements, row)?;
        self.recipients = recipients;
        Ok(())
    }

    fn delivery(&mut self, session: SessionNumber, delivery: &StoredDelivery) -> Result<(), StoreError> {
        let row = params![
            key(session.0),
            delivery.identifier.value(),
            key(delivery.message.0),
            delivery.is_released,
        ];
        OUT2.put_among(&mut self.statements, row)?;
        Ok(())
    }

    /// Replaces the retained message of its topic in place, so that the index of topics does not change.
    fn retained(&mut self, message: &Portable) -> Result<(), StoreError> {
        let message = message.publication();
        let row = params![
            self.translation.present.lifetime(message.expires),
            self.translation.present.written(message.expires),
            publication_flags(&message),
            message.topic.as_str(),
            self.publisher(&message),
            message.properties.bytes(),
            message.payload,
        ];
        RETAINED.put_among(&mut self.statements, row)?;
        Ok(())
    }

    fn settle(&mut self) -> Result<(), StoreError> {
        self.settled.sort_unstable();
        let (mut forgotten, mut run) = (None, None);
        for settled in std::mem::take(&mut self.settled) {
            if settled.stays && forgotten == Some(settled.message) {
                continue;
            }
            if settled.stays || self.spared.contains(&settled.message) {
                self.begin_rows(1);
                self.note_done(settled)?;
            } else {
                self.forget_later(&mut run, settled.message)?;
            }
            if !settled.stays {
                forgotten = Some(settled.message);
            }
        }
        self.forget(run)
    }

    /// Adds a message to a run of messages to remove, or removes the run and begins another.
    fn forget_later(&mut self, run: &mut Option<Run>, message: MessageNumber) -> Result<(), StoreError> {
        let number = key(message.0);
        match run {
            Some(run) if number == run.last + 1 && run.length() < ROWS_AT_ONCE => run.last = number,
            _ => self.forget(run.replace(Run { first: number, last: number }))?,
        }
        Ok(())
    }

    /// Removes messages, and the notes about sessions that no longer need them.
    fn forget(&mut self, run: Option<Run>) -> Result<(), StoreError> {
        let Some(run) = run else { return Ok(()) };
        self.begin_rows(run.length());
        for text in FORGET {
            self.statements.of(text)?.execute([run.first, run.last])?;
        }
        Ok(())
    }

    /// Notes that a session no longer needs a message. Only if the message is there: otherwise the note would never be
    /// removed.
    fn note_done(&mut self, settled: Settled) -> Result<(), StoreError> {
        let (message, session) = (key(settled.message.0), key(settled.session.0));
        let statement = self.statements.of("REPLACE INTO done (msg, session, sum) \
             SELECT ?1, ?2, ?3 WHERE EXISTS (SELECT 1 FROM msg WHERE id = ?1)")?;
        statement.execute(params![message, session, DONE.sum(params![message, session, Null])?])?;
        Ok(())
    }

    /// Notes the Packet Identifier of a delivery that has begun, on the same condition. A copy that is done stays done.
    fn note_begun(
        &mut self,
        message: MessageNumber,
        session: SessionNumber,
        identifier: u16,
    ) -> Result<(), StoreError> {
        let (message, session) = (key(message.0), key(session.0));
        let statement = self.statements.of("INSERT INTO done (msg, session, identifier, sum) \
             SELECT ?1, ?2, ?3, ?4 WHERE EXISTS (SELECT 1 FROM msg WHERE id = ?1) \
             ON CONFLICT (msg, session) DO UPDATE SET identifier = excluded.identifier, sum = excluded.sum \
             WHERE identifier IS NOT NULL")?;
        let sum = DONE.sum(params![message, session, identifier])?;
        statement.execute(params![message, session, identifier, sum])?;
        Ok(())
    }
}

/// Messages with consecutive numbers.
#[derive(Clone, Copy)]
struct Run {
    first: i64,
    last: i64,
}

impl Run {
    fn length(self) -> usize {
        usize::try_from(self.last - self.first + 1).unwrap_or(usize::MAX)
    }
}

/// Returns how many records at the front of `others` end the exchanges with the next Packet Identifiers, one after
/// another, in the session and the direction of `record`; at most as many as are written together.
fn count_alike(record: &Record, others: &[Record]) -> u16 {
    let ended = |record: &Record| match *record {
        Record::Released(session, identifier) => Some((IN2.name, session, identifier.value())),
        Record::Completed(session, identifier) => Some((OUT2.name, session, identifier.value())),
        _ => None,
    };
    let Some((table, session, first)) = ended(record) else { return 0 };
    let next = (first..u16::MAX).take(ROWS_AT_ONCE - 1).map(|before| Some((table, session, before + 1)));
    others.iter().map(ended).zip(next).take_while(|(other, next)| other == next).map(|_| 1).sum()
}

/// The statements that remove the messages from one number to another.
const FORGET: [&str; 2] =
    ["DELETE FROM msg WHERE id BETWEEN ? AND ?", "DELETE FROM done WHERE msg BETWEEN ? AND ?"];

/// Removes a message, and the notes about sessions that no longer need it.
pub(super) fn forget(connection: &Connection, message: i64) -> Result<(), StoreError> {
    for text in FORGET {
        connection.prepare_cached(text)?.execute([message, message])?;
    }
    Ok(())
}

/// Returns the messages that a batch would remove but that cannot be read. SQLite would refuse the whole transaction.
pub(super) fn unremovable(connection: &Connection, batch: &Batch) -> BTreeSet<MessageNumber> {
    let removed = batch.records.iter().filter_map(|record| match record {
        Record::Settled { message, is_last: true, .. } => Some(*message),
        _ => None,
    });
    let mut unreadable = BTreeSet::new();
    unreadable.extend(
        removed.filter(|message| !MSG.is_readable(connection, &[key(message.0).into(), Value::Null])),
    );
    unreadable
}
