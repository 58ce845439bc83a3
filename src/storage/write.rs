//! Batches of records on their way into the tables.

use std::borrow::Cow;
use std::num::NonZeroU64;

use rusqlite::{CachedStatement, Connection, Transaction, TransactionBehavior, params};

use super::StoreError;
use super::anchor;
use super::listeners::Listeners;
use super::rows::{Translation, key, publication_flags, span, write_recipients};
use crate::journal::{
    Batch, MessageNumber, NextNumbers, Record, SessionNumber, StoredDelivery, StoredMessage, StoredPresence,
    StoredSession, StoredSubscription,
};
use crate::message::{Portable, Publication};
use crate::time::Time;
use crate::timeline::Anchor;

/// Numbers that are reserved at a time.
const RESERVED: u64 = 4096;
/// Rows that are written in one go. After them another thread may have this processor: where there is but one, the
/// messages that wait for no disk would wait for a whole transaction otherwise. With fewer rows the transaction itself
/// comes too late.
const ROWS_AT_ONCE: usize = 64;

/// All numbers that were ever given are below these. They are written down before they are reached, some thousand at a
/// time, so that a number is not given twice even if nothing is left of what had it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marks {
    session: NonZeroU64,
    message: NonZeroU64,
}

impl Marks {
    /// The marks that are written down.
    pub(super) fn read(connection: &Connection) -> Result<Self, StoreError> {
        let mark = |name: &str| -> Result<NonZeroU64, StoreError> {
            let mut statement = connection.prepare("SELECT value FROM meta WHERE name = ?")?;
            let mut rows = statement.query([name])?;
            let Some(row) = rows.next()? else { return Ok(NonZeroU64::MIN) };
            Ok(super::rows::session_number(row, 0)?.0)
        };
        Ok(Self { session: mark("next_session")?, message: mark("next_message")? })
    }

    /// The marks, raised beyond a number of a session.
    fn beyond_session(self, SessionNumber(number): SessionNumber) -> Self {
        Self { session: raised(self.session, number), ..self }
    }

    /// The same for a message.
    fn beyond_message(self, MessageNumber(number): MessageNumber) -> Self {
        Self { message: raised(self.message, number), ..self }
    }

    /// The marks, raised beyond every number of a record.
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
            Record::Listener(..) | Record::Retained(_) | Record::Cleared(_) => self,
        }
    }

    /// No session can have a number that was not given.
    pub(super) fn check_session(self, SessionNumber(number): SessionNumber) -> Result<(), StoreError> {
        if number < self.session { Ok(()) } else { Err(StoreError::nonsense("the number of a session")) }
    }

    /// The same for a message.
    pub(super) fn check_message(self, MessageNumber(number): MessageNumber) -> Result<(), StoreError> {
        if number < self.message { Ok(()) } else { Err(StoreError::nonsense("the number of a message")) }
    }

    /// What is to be given next.
    pub(super) const fn next(self) -> NextNumbers {
        NextNumbers { session: SessionNumber(self.session), message: MessageNumber(self.message) }
    }

    /// Writes down what is new.
    fn write(self, before: Self, connection: &Connection) -> Result<(), StoreError> {
        for (name, mark, before) in
            [("next_session", self.session, before.session), ("next_message", self.message, before.message)]
        {
            if mark != before {
                let mut statement =
                    connection.prepare_cached("REPLACE INTO meta (name, value) VALUES (?, ?)")?;
                statement.execute(params![name, key(mark)])?;
            }
        }
        Ok(())
    }
}

fn raised(mark: NonZeroU64, number: NonZeroU64) -> NonZeroU64 {
    if number < mark { mark } else { number.saturating_add(RESERVED) }
}

/// What is known when a batch is written, beside it.
#[derive(Clone, Copy)]
pub(super) struct Beside<'a> {
    pub(super) translation: Translation<'a>,
    /// The marks that are written down.
    pub(super) marks: Marks,
    /// The anchor of the timeline, if it is due.
    pub(super) anchor: Option<Anchor>,
}

/// Makes a batch durable. Returns the marks that are written down then, and the listeners if some of them are new.
pub(super) fn commit(
    connection: &mut Connection,
    batch: &Batch,
    beside: Beside<'_>,
    let_others_run: &mut dyn FnMut(),
) -> Result<(Marks, Option<Listeners>), StoreError> {
    let Beside { translation, marks: before, anchor } = beside;
    let marks = batch.records.iter().fold(before, Marks::beyond);
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let new = batch.records.iter().filter_map(|record| match record {
        Record::Listener(id, name) => Some((*id, &**name)),
        _ => None,
    });
    // Other rows speak of them.
    let listeners = translation.listeners.written(new, &transaction)?;
    let mut writing = Writing {
        transaction: &transaction,
        translation: Translation {
            listeners: listeners.as_ref().unwrap_or(translation.listeners),
            ..translation
        },
        rows: 0,
        let_others_run,
        settled: Vec::new(),
        recipients: Vec::new(),
    };
    for record in &batch.records {
        writing.write(record)?;
    }
    writing.settle()?;
    marks.write(before, &transaction)?;
    if let Some(anchor) = anchor {
        anchor::write(anchor, &transaction)?;
    }
    transaction.commit()?;
    Ok((marks, listeners))
}

/// A transaction that records go into.
struct Writing<'a> {
    transaction: &'a Transaction<'a>,
    translation: Translation<'a>,
    /// How many rows have been written.
    rows: usize,
    let_others_run: &'a mut dyn FnMut(),
    /// Which sessions need which messages no longer, and whether each was the last. They are applied behind all else,
    /// which changes nothing because a message comes once and before that, and in the order of the messages, which
    /// touches each page once.
    settled: Vec<Settled>,
    /// For the recipients of one message after the other.
    recipients: Vec<u8>,
}

/// What a session has no need of any more. In the order of messages, and those behind which the message goes in front.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Settled {
    message: MessageNumber,
    stays: bool,
    session: SessionNumber,
}

impl Writing<'_> {
    /// To be called before each row.
    fn begin_row(&mut self) {
        self.rows += 1;
        if self.rows.is_multiple_of(ROWS_AT_ONCE) {
            (self.let_others_run)();
        }
    }

    fn write(&mut self, record: &Record) -> Result<(), StoreError> {
        // What is settled is only noted here.
        if !matches!(record, Record::Settled { .. }) {
            self.begin_row();
        }
        match record {
            // They came first.
            Record::Listener(..) => Ok(()),
            Record::Session(session) => self.session(session),
            &Record::SessionEnded { session, leaves_shared } => self.session_ended(session, leaves_shared),
            Record::FormerEnded(session) => {
                self.statement("DELETE FROM former WHERE session = ?")?.execute([key(session.0)])?;
                self.statement("DELETE FROM out2 WHERE session = ?")?.execute([key(session.0)])?;
                Ok(())
            }
            Record::Subscribed(session, subscription) => self.subscribed(*session, subscription),
            Record::Unsubscribed(session, filter) => {
                let mut statement = self.statement("DELETE FROM sub WHERE session = ? AND filter = ?")?;
                statement.execute(params![key(session.0), filter])?;
                Ok(())
            }
            Record::Message(message) => self.message(message),
            &Record::Settled { message, session, is_last } => {
                self.settled.push(Settled { message, stays: !is_last, session });
                Ok(())
            }
            Record::Begun { message, session, identifier } => {
                // Only of a message that is there, since nobody would ever take the note away; and what is done stays so.
                let mut statement = self.statement(
                    "INSERT INTO done (msg, session, identifier) \
                     SELECT ?1, ?2, ?3 WHERE EXISTS (SELECT 1 FROM msg WHERE id = ?1) \
                     ON CONFLICT (msg, session) DO UPDATE SET identifier = excluded.identifier \
                     WHERE identifier IS NOT NULL",
                )?;
                statement.execute(params![key(message.0), key(session.0), identifier.value()])?;
                Ok(())
            }
            Record::Received(session, identifier) => {
                let mut statement = self.statement("REPLACE INTO in2 (session, identifier) VALUES (?, ?)")?;
                statement.execute(params![key(session.0), identifier.value()])?;
                Ok(())
            }
            Record::Released(session, identifier) => {
                let mut statement = self.statement("DELETE FROM in2 WHERE session = ? AND identifier = ?")?;
                statement.execute(params![key(session.0), identifier.value()])?;
                Ok(())
            }
            Record::Delivery(session, delivery) => self.delivery(*session, delivery),
            Record::Completed(session, identifier) => {
                let mut statement =
                    self.statement("DELETE FROM out2 WHERE session = ? AND identifier = ?")?;
                statement.execute(params![key(session.0), identifier.value()])?;
                Ok(())
            }
            Record::Retained(message) => self.retained(message),
            Record::Cleared(topic) => {
                self.statement("DELETE FROM retained WHERE topic = ?")?.execute([topic])?;
                Ok(())
            }
        }
    }

    fn statement(&self, text: &str) -> rusqlite::Result<CachedStatement<'_>> {
        self.transaction.prepare_cached(text)
    }

    fn session(&self, session: &StoredSession) -> Result<(), StoreError> {
        let (is_away, ends, sent_until) = match session.presence {
            StoredPresence::Connected => (false, None, None),
            StoredPresence::Away { ends, sent_until } => {
                (true, self.translation.present.written(ends), sent_until.map(|message| key(message.0)))
            }
        };
        let will = session.will.as_ref();
        let message = will.map(|will| will.message.publication());
        // A span and no moment, since nobody knows yet when it begins.
        let expires =
            message.as_ref().map(|message| message.expires).filter(|expires| *expires != Time::NEVER);
        let mut statement = self.statement(
            "REPLACE INTO session (id, client_identifier, user_name, listener, expiry_interval, is_away, ends, \
             sent_until, will_delay, will_due, expires, flags, topic, publisher, properties, payload, is_proved) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?;
        statement.execute(params![
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
        ])?;
        Ok(())
    }

    /// Who published a message, as it is written.
    fn publisher<'p>(&self, publication: &Publication<'p>) -> Option<Cow<'p, str>> {
        publication.publisher.map(|publisher| self.translation.listeners.publisher_written(publisher))
    }

    fn session_ended(&self, session: SessionNumber, leaves_shared: bool) -> Result<(), StoreError> {
        let last = match leaves_shared {
            true => "REPLACE INTO former (session) VALUES (?)",
            false => "DELETE FROM out2 WHERE session = ?",
        };
        for text in [
            "DELETE FROM session WHERE id = ?",
            "DELETE FROM sub WHERE session = ?",
            "DELETE FROM in2 WHERE session = ?",
            last,
        ] {
            self.statement(text)?.execute([key(session.0)])?;
        }
        Ok(())
    }

    fn subscribed(
        &self,
        session: SessionNumber,
        subscription: &StoredSubscription,
    ) -> Result<(), StoreError> {
        let mut statement =
            self.statement("REPLACE INTO sub (session, filter, flags, identifier) VALUES (?, ?, ?, ?)")?;
        statement.execute(params![
            key(session.0),
            subscription.filter,
            super::rows::subscription_flags(subscription),
            subscription.identifier,
        ])?;
        Ok(())
    }

    fn message(&mut self, stored: &StoredMessage) -> Result<(), StoreError> {
        let mut recipients = std::mem::take(&mut self.recipients);
        write_recipients(&stored.recipients, &mut recipients);
        let message = stored.message.publication();
        let mut statement = self.statement(
            "REPLACE INTO msg (id, recipients, expires, flags, topic, publisher, properties, payload, lifetime) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?;
        statement.execute(params![
            key(stored.number.0),
            recipients,
            self.translation.present.written(message.expires),
            publication_flags(&message),
            message.topic.as_str(),
            self.publisher(&message),
            message.properties.bytes(),
            message.payload,
            self.translation.present.lifetime(message.expires),
        ])?;
        drop(statement);
        self.recipients = recipients;
        Ok(())
    }

    fn delivery(&self, session: SessionNumber, delivery: &StoredDelivery) -> Result<(), StoreError> {
        let mut statement =
            self.statement("REPLACE INTO out2 (session, identifier, msg, is_released) VALUES (?, ?, ?, ?)")?;
        statement.execute(params![
            key(session.0),
            delivery.identifier.value(),
            key(delivery.message.0),
            delivery.is_released,
        ])?;
        Ok(())
    }

    /// In the place of the one before, so that the index of topics stays as it is.
    fn retained(&self, message: &Portable) -> Result<(), StoreError> {
        let message = message.publication();
        let mut statement = self.statement(
            "INSERT INTO retained (expires, flags, topic, publisher, properties, payload, lifetime) \
             VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (topic) DO UPDATE SET expires = excluded.expires, \
             flags = excluded.flags, publisher = excluded.publisher, properties = excluded.properties, \
             payload = excluded.payload, lifetime = excluded.lifetime",
        )?;
        statement.execute(params![
            self.translation.present.written(message.expires),
            publication_flags(&message),
            message.topic.as_str(),
            self.publisher(&message),
            message.properties.bytes(),
            message.payload,
            self.translation.present.lifetime(message.expires),
        ])?;
        Ok(())
    }

    fn settle(&mut self) -> Result<(), StoreError> {
        self.settled.sort_unstable();
        let mut forgotten = None;
        for settled in std::mem::take(&mut self.settled) {
            self.begin_row();
            if !settled.stays {
                forgotten = Some(settled.message);
                forget(self.transaction, key(settled.message.0))?;
            } else if forgotten != Some(settled.message) {
                let mut statement = self.statement(
                    "REPLACE INTO done (msg, session) \
                     SELECT ?1, ?2 WHERE EXISTS (SELECT 1 FROM msg WHERE id = ?1)",
                )?;
                statement.execute(params![key(settled.message.0), key(settled.session.0)])?;
            }
        }
        Ok(())
    }
}

/// Forgets a message and who has needed it no longer.
pub(super) fn forget(connection: &Connection, message: i64) -> Result<(), StoreError> {
    connection.prepare_cached("DELETE FROM msg WHERE id = ?")?.execute([message])?;
    connection.prepare_cached("DELETE FROM done WHERE msg = ?")?.execute([message])?;
    Ok(())
}
