//! What is read from the store when the broker starts: everything.

use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::ops::ControlFlow;

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, Rows};

use super::StoreError;
use super::damage::{self, Damage};
use super::error::Outcome;
use super::needless::Needless;
use super::rows::{
    self, Recipients, Translation, key, message_number, packet_identifier, publication, session_number,
};
use super::tables::{DONE, FORMER, IN2, MSG, OUT2, RETAINED, SESSION, SUB, Table};
use super::write::Marks;
use super::{arrivals, owed, pages};
use crate::core::journal::{
    CopyForm, MessageNumber, Recipient, Restored, SessionNumber, StoredCopy, StoredDelivery, StoredPresence,
};
use crate::core::message::Portable;
use crate::protocol::codec::{PacketIdentifier, QoS};

/// The column of [`MSG`] with the topic.
const TOPIC: usize = 6;

/// Returns a session's copy of a message, if the message exists and the session is one of its recipients.
fn copy(
    connection: &Connection,
    message: MessageNumber,
    session: SessionNumber,
    translation: Translation<'_>,
) -> Outcome<Option<StoredCopy>> {
    let (found, forms) = pages::message(connection, message, &[session], translation)?;
    let form = forms.into_iter().next().flatten();
    Ok(found.zip(form).map(|(message_found, form)| StoredCopy {
        number: message,
        message: message_found,
        form,
    }))
}

/// Reads everything, then removes what is no longer needed and what is damaged. Stops as soon as `each` does.
pub(super) fn load(
    connection: &mut Connection,
    translation: Translation<'_>,
    (marks, damage): (Marks, &mut Damage),
    each: &mut dyn FnMut(Restored) -> ControlFlow<()>,
) -> Outcome<()> {
    let mut loading = Loading {
        connection,
        translation,
        marks,
        damage,
        each,
        sessions: Vec::new(),
        former: BTreeSet::new(),
        in_delivery: BTreeSet::new(),
        needless: Needless::default(),
    };
    loading.sessions()?;
    loading.former()?;
    loading.subscriptions()?;
    loading.received()?;
    loading.deliveries()?;
    loading.messages()?;
    loading.of_bridges()?;
    loading.retained()?;
    let mut needless = loading.needless;
    needless.rows.append(&mut damage.removals);
    if damage.lacks_rows {
        needless.messages.clear();
    }
    let mut outcome = needless.forget(connection);
    if let Err(StoreError::Damaged(_)) = outcome {
        needless.spare_unreadable(connection)?;
        outcome = needless.forget(connection);
    }
    match outcome {
        // It can be removed at another time.
        Err(StoreError::Full | StoreError::Unwritten(_) | StoreError::Damaged(_)) => Ok(()),
        outcome => outcome,
    }
}

/// The state while everything is read.
struct Loading<'a> {
    connection: &'a Connection,
    translation: Translation<'a>,
    /// The numbers given so far are below these. Any other number is damage.
    marks: Marks,
    damage: &'a mut Damage,
    /// Called through a pointer: the code that reads is large and would be compiled once for each caller.
    each: &'a mut dyn FnMut(Restored) -> ControlFlow<()>,
    /// All sessions, sorted.
    sessions: Vec<SessionNumber>,
    /// Sessions that have ended and have left messages to other members of Shared Subscriptions.
    former: BTreeSet<SessionNumber>,
    /// Messages and sessions of deliveries in progress. Of existing sessions these are the copies handed out with a
    /// delivery; of former sessions, the messages that go to no other member because their delivery has begun.
    in_delivery: BTreeSet<(MessageNumber, SessionNumber)>,
    needless: Needless,
}

impl Loading<'_> {
    /// Hands out one item.
    fn tell(&mut self, restored: Restored) -> Outcome<()> {
        match (self.each)(restored) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(StoreError::Other("reading was stopped before its end".to_owned())),
        }
    }

    fn has_session(&self, session: SessionNumber) -> bool {
        self.sessions.binary_search(&session).is_ok()
    }

    fn sessions(&mut self) -> Outcome<()> {
        let mut statement = self.connection.prepare(&SESSION.select("", "ORDER BY id"))?;
        let mut rows = statement.query(())?;
        while let Some(row) = rows.next()? {
            let session = SESSION.read(row, || rows::session(row, self.translation))?;
            self.marks.check_session(session.number)?;
            if let StoredPresence::Away { sent_until: Some(message), .. } = session.presence {
                self.marks.check_message(message)?;
            }
            check_order(&SESSION, self.sessions.last() < Some(&session.number))?;
            self.sessions.push(session.number);
            self.tell(Restored::Session(Box::new(session)))?;
        }
        Ok(())
    }

    fn former(&mut self) -> Outcome<()> {
        let mut statement = self.connection.prepare(&FORMER.select("", "ORDER BY session"))?;
        let mut rows = statement.query(())?;
        while let Some(row) = rows.next()? {
            let session = FORMER.read(row, || session_number(row, 0))?;
            self.marks.check_session(session)?;
            check_order(&FORMER, self.former.last() < Some(&session))?;
            self.former.insert(session);
            self.tell(Restored::Former(session))?;
        }
        Ok(())
    }

    fn subscriptions(&mut self) -> Outcome<()> {
        let mut statement = self.connection.prepare(&SUB.select("", "ORDER BY session, filter"))?;
        let mut rows = statement.query(())?;
        let mut last = None;
        while let Some(row) = rows.next()? {
            let read = || Ok((session_number(row, 0)?, rows::subscription(row, 1)?));
            let (session, subscription) = SUB.read(row, read)?;
            self.marks.check_session(session)?;
            let place = Some((session, subscription.filter.clone()));
            check_order(&SUB, last < place)?;
            last = place;
            if !self.has_session(session) {
                // Otherwise the messages of that session would seem to be unused and be removed.
                return Err(StoreError::Damaged(format!(
                    "the session of a subscription to {} is missing",
                    damage::text(row, 1)
                )));
            }
            self.tell(Restored::Subscription(session, subscription))?;
        }
        Ok(())
    }

    fn received(&mut self) -> Outcome<()> {
        let mut statement = self.connection.prepare(&IN2.select("", "ORDER BY session, identifier"))?;
        let mut rows = statement.query(())?;
        while let Some(row) = rows.next()? {
            let marks = self.marks;
            let read = || Ok((marks.checked_session(session_number(row, 0)?)?, packet_identifier(row, 1)?));
            match IN2.read(row, read) {
                Ok((session, identifier)) if self.has_session(session) => {
                    self.tell(Restored::Received(session, identifier))?;
                }
                outcome => {
                    let error = outcome.err().unwrap_or_else(orphan);
                    let connection = self.connection;
                    let what = || {
                        let client = damage::client_of(connection, row, 0);
                        format!(
                            "the record that a QoS 2 message from {client} has arrived is lost; it may arrive twice"
                        )
                    };
                    self.damage.lose_row(error, (&IN2, row, &[0, 1]), what)?;
                }
            }
        }
        Ok(())
    }

    fn deliveries(&mut self) -> Outcome<()> {
        let mut statement = self.connection.prepare(&OUT2.select("", "ORDER BY session, msg"))?;
        let mut rows = statement.query(())?;
        while let Some(row) = rows.next()? {
            match OUT2.read(row, || delivery(row, self.marks)) {
                Ok((session, delivery)) if self.has_session(session) => self.delivery(session, delivery)?,
                Ok((session, delivery)) if self.former.contains(&session) => {
                    if !delivery.is_released {
                        self.in_delivery.insert((delivery.message, session));
                    }
                }
                outcome => {
                    let error = outcome.err().unwrap_or_else(orphan);
                    let connection = self.connection;
                    let what = || {
                        let client = damage::client_of(connection, row, 0);
                        format!(
                            "the record that a QoS 2 message was sent to {client} is lost; it may be delivered twice"
                        )
                    };
                    self.damage.lose_row(error, (&OUT2, row, &[0, 1]), what)?;
                }
            }
        }
        Ok(())
    }

    fn delivery(&mut self, session: SessionNumber, delivery: StoredDelivery) -> Outcome<()> {
        let copy = if delivery.is_released {
            None
        } else {
            match self.copy_in_delivery(session, &delivery) {
                Err(StoreError::Damaged(why)) => {
                    self.lose_message(delivery.message, &why);
                    None
                }
                copy => copy?,
            }
        };
        if delivery.is_released || copy.is_some() {
            return self.tell(Restored::Delivery(session, delivery, copy));
        }
        self.needless.deliveries.push((key(session.0), delivery.identifier.value()));
        Ok(())
    }

    fn lose_message(&mut self, message: MessageNumber, why: &str) {
        if !self.damage.has_lost(message) {
            self.damage.lose_message(self.connection, message, why);
            self.damage.remove_later(&MSG, vec![key(message.0).into(), Value::Null]);
        }
    }

    /// Returns the copy that belongs to a delivery, unless that copy is settled.
    fn copy_in_delivery(
        &mut self,
        session: SessionNumber,
        delivery: &StoredDelivery,
    ) -> Outcome<Option<Box<StoredCopy>>> {
        let settled = self
            .connection
            .prepare_cached("SELECT 1 FROM done WHERE msg = ? AND session = ? AND identifier IS NULL")?
            .query_row([key(delivery.message.0), key(session.0)], |_| Ok(()))
            .optional()?;
        if settled.is_some() {
            return Ok(None);
        }
        let copy = copy(self.connection, delivery.message, session, self.translation)?;
        if copy.is_some() {
            self.in_delivery.insert((delivery.message, session));
        }
        Ok(copy.map(Box::new))
    }

    fn messages(&mut self) -> Outcome<()> {
        let mut statement = self.connection.prepare(&DONE.select("", "ORDER BY msg, session"))?;
        let mut done = Done { rows: statement.query(())?, next: None, last: None, noted: Vec::new() };
        self.advance(&mut done)?;
        let mut after = i64::MIN;
        while let Some(why) = self.messages_after(&mut after, &mut done)? {
            let next = self.next_id(&MSG, after, &why)?;
            match u64::try_from(next).ok().and_then(NonZeroU64::new) {
                Some(number) => self.lose_message(MessageNumber(number), &why),
                None => self.damage.tell(|| "a message is lost".to_owned(), &why),
            }
            after = next;
        }
        Ok(())
    }

    /// Reads the messages after `after`. Returns the reason if SQLite cannot read the next row.
    fn messages_after(&mut self, after: &mut i64, done: &mut Done<'_>) -> Outcome<Option<String>> {
        // SQLite knows the length of a column without its content, so large payloads are not read.
        let text = MSG.select(", octet_length(payload)", "WHERE id > ? ORDER BY id");
        let mut statement = self.connection.prepare_cached(&text)?;
        let mut rows = statement.query([*after])?;
        while let Some(row) = match rows.next().map_err(StoreError::from) {
            Err(StoreError::Damaged(why)) => return Ok(Some(why)),
            row => row?,
        } {
            let marks = self.marks;
            let message = match MSG.read(row, || marks.checked_message(message_number(row, 0)?)) {
                Err(StoreError::Damaged(why)) => {
                    self.lose_found(row, &why)?;
                    continue;
                }
                message => message?,
            };
            check_order(&MSG, *after < key(message.0))?;
            *after = key(message.0);
            self.noted_of(message, done)?;
            if self.damage.has_lost(message) {
                continue;
            }
            if let Err(error) = self.message(message, &done.noted, row) {
                let StoreError::Damaged(why) = error else { return Err(error) };
                self.lose_found(row, &why)?;
            }
        }
        Ok(None)
    }

    /// Reports the row of a message as lost. Its number may be damaged, too, so another row may have the same number.
    fn lose_found(&mut self, row: &Row<'_>, why: &str) -> Outcome<()> {
        let connection = self.connection;
        let what = || {
            let content = [6, 1].map(|column| damage::bytes(row, column));
            damage::describe(connection, row.get(0).unwrap_or(0), content)
        };
        self.damage.lose_row(StoreError::Damaged(why.to_owned()), (&MSG, row, &[0]), what)
    }

    /// Returns the `id` of the next row, the one that SQLite could not read. If even that cannot be read, more than a
    /// single row is damaged.
    fn next_id(&self, table: &Table, after: i64, why: &str) -> Outcome<i64> {
        let text = format!("SELECT id FROM {} WHERE id > ? ORDER BY id LIMIT 1", table.name);
        let next = self.connection.query_row(&text, [after], |row| row.get(0)).optional()?;
        next.filter(|next| *next > after).ok_or_else(|| StoreError::Damaged(why.to_owned()))
    }

    fn message(&mut self, message: MessageNumber, done: &[Noted], row: &Row<'_>) -> Outcome<()> {
        let (mut sessions, mut in_flight, mut begun, mut group) = (Vec::new(), Vec::new(), Vec::new(), None);
        let (mut lowest_qos, mut is_retained, mut expired) = (QoS::ExactlyOnce, false, Vec::new());
        // A message whose delivery has begun is still delivered after it has expired [MQTT-3.3.2-5].
        let expires = self.translation.present.expires(row, 3)?;
        let is_ahead = self.translation.present.is_ahead(expires);
        for recipient in Recipients::new(row.get_ref(1)?.as_blob()?) {
            let Recipient { session, form, identifier } = recipient?;
            self.marks.check_session(session)?;
            let identifier = match done.binary_search_by_key(&session, |noted| noted.session) {
                Err(_) => identifier,
                Ok(place) if done[place].identifier.is_some() => done[place].identifier,
                Ok(_) => continue,
            };
            if identifier.is_some() && self.has_session(session) {
                in_flight.push(session);
                group.clone_from(&form.group);
                begun.push(Recipient { session, form, identifier });
                continue;
            }
            let is_begun = self.in_delivery.contains(&(message, session));
            if self.is_needed(session, &form, is_ahead, is_begun) {
                if is_begun {
                    in_flight.push(session);
                } else {
                    sessions.push(session);
                    lowest_qos = lowest_qos.min(form.qos);
                    is_retained |= form.retain;
                }
                group = form.group;
            } else if form.retain && self.has_session(session) {
                expired.push(session);
            }
        }
        for session in expired {
            self.needless.owed.insert(owed::expired(self.connection, session, row.get(TOPIC)?)?);
        }
        let retained = if is_retained { Some(row.get(TOPIC)?) } else { None };
        if let Some(content) = self.content(message, &begun)? {
            self.tell(Restored::Begun { message, content, recipients: begun })?;
        } else if !begun.is_empty() {
            in_flight.retain(|session| begun.iter().all(|to| to.session != *session));
        }
        if sessions.is_empty() && in_flight.is_empty() {
            self.needless.messages.push(key(message.0));
        } else {
            self.tell(Restored::Waiting {
                message,
                length: length(row)?,
                expires,
                lowest_qos,
                sessions,
                in_flight,
                group,
                retained,
            })?;
        }
        Ok(())
    }

    /// Whether a session, or one that gets what the session has left, still needs a copy. Its message may have
    /// expired, unless it `is_ahead`, and its delivery may have begun.
    fn is_needed(&self, session: SessionNumber, form: &CopyForm, is_ahead: bool, is_begun: bool) -> bool {
        match self.has_session(session) {
            true => is_ahead || is_begun,
            // [MQTT-4.8.2-5]
            false => is_ahead && !is_begun && form.group.is_some() && self.former.contains(&session),
        }
    }

    /// Reads a message if deliveries of it have begun.
    fn content(&self, message: MessageNumber, begun: &[Recipient]) -> Outcome<Option<Portable>> {
        let Some(Recipient { session, .. }) = begun.first() else { return Ok(None) };
        Ok(pages::message(self.connection, message, &[*session], self.translation)?.0)
    }

    fn of_bridges(&mut self) -> Outcome<()> {
        let all = owed::read(self.connection, &self.needless.owed, self.damage)?;
        let (present, next) = (self.translation.present, self.marks.next());
        let arrived = arrivals::read(self.connection, present, next, self.damage)?;
        all.into_iter().map(Restored::Owed).chain(arrived).try_for_each(|one| self.tell(one))
    }

    fn retained(&mut self) -> Outcome<()> {
        let (mut after, mut of_rows) = (i64::MIN, 0);
        while let Some(why) = self.retained_after(&mut after, &mut of_rows)? {
            let next = self.next_id(&RETAINED, after, &why)?;
            self.damage.tell(|| "the retained message of one topic is lost".to_owned(), &why);
            self.damage.remove_later(&RETAINED, vec![next.into(), Value::Null]);
            after = next;
        }
        self.check_topics(of_rows)
    }

    /// Reads the retained messages after `after`, and sums up their topics and the `id`s of their rows. Returns the
    /// reason if SQLite cannot read the next row.
    fn retained_after(&mut self, after: &mut i64, topics: &mut u64) -> Outcome<Option<String>> {
        let text = RETAINED.select(", id", "WHERE id > ? ORDER BY id");
        let mut statement = self.connection.prepare_cached(&text)?;
        let mut rows = statement.query([*after])?;
        while let Some(row) = match rows.next().map_err(StoreError::from) {
            Err(StoreError::Damaged(why)) => return Ok(Some(why)),
            row => row?,
        } {
            let Translation { present, listeners } = self.translation;
            let id: i64 = row.get(RETAINED.columns.len())?;
            *topics = topics.wrapping_add(topic_sum(row.get_ref(3)?.as_bytes().unwrap_or_default(), id)?);
            let read = || {
                let expires = present.expires(row, 0)?;
                if present.is_ahead(expires) { publication(row, 1, expires, listeners) } else { Ok(None) }
            };
            let outcome = RETAINED.read(row, read);
            if outcome.is_ok() {
                check_order(&RETAINED, *after < id)?;
                *after = id;
            }
            match outcome {
                Ok(Some(publication)) => self.tell(Restored::Retained(publication))?,
                Ok(None) => self.needless.retained.push(id),
                Err(error) => {
                    let what = || format!("the retained message of {} is lost", damage::text(row, 3));
                    let place = (&*RETAINED, row, &[RETAINED.columns.len()][..]);
                    self.damage.lose_row(error, place, what)?;
                }
            }
        }
        Ok(None)
    }

    /// Compares the index of topics with the rows read. An index that disagrees would find the wrong row, or none, so
    /// it is rebuilt.
    fn check_topics(&mut self, of_rows: u64) -> Outcome<()> {
        let of_index = || -> Outcome<u64> {
            let text = "SELECT topic, id FROM retained INDEXED BY sqlite_autoindex_retained_1 ORDER BY topic";
            let mut statement = self.connection.prepare(text)?;
            let mut rows = statement.query(())?;
            let (mut sum, mut last) = (0_u64, Vec::new());
            while let Some(row) = rows.next()? {
                let topic = row.get_ref(0)?.as_bytes()?;
                check_order(&RETAINED, last.is_empty() || &*last < topic)?;
                topic.clone_into(&mut last);
                sum = sum.wrapping_add(topic_sum(topic, row.get(1)?)?);
            }
            Ok(sum)
        };
        match of_index() {
            Ok(of_index) if of_index == of_rows => return Ok(()),
            Ok(_) | Err(StoreError::Damaged(_)) => {}
            Err(error) => return Err(error),
        }
        let what = "the index of retained messages is rebuilt";
        self.damage.tell(|| what.to_owned(), "it does not agree with the rows");
        self.connection.execute_batch("REINDEX retained").map_err(|error| match error.sqlite_error_code() {
            Some(ErrorCode::ConstraintViolation) => StoreError::Damaged("a topic is there twice".to_owned()),
            _ => error.into(),
        })
    }

    /// Collects the notes about a message in `done.noted`. Each call must be for a later message than the call
    /// before.
    fn noted_of(&mut self, message: MessageNumber, done: &mut Done<'_>) -> Outcome<()> {
        done.noted.clear();
        while let Some((next, noted)) = done.next.take_if(|(next, _)| *next <= message) {
            if next == message {
                done.noted.push(noted);
            }
            self.advance(done)?;
        }
        Ok(())
    }

    /// Reads the next valid note.
    fn advance(&mut self, done: &mut Done<'_>) -> Outcome<()> {
        done.next = None;
        while let Some(row) = done.rows.next()? {
            match DONE.read(row, || noted(row)) {
                Ok((message, noted)) => {
                    let place = Some((message, noted.session));
                    check_order(&DONE, done.last < place)?;
                    (done.last, done.next) = (place, Some((message, noted)));
                    return Ok(());
                }
                Err(error) => {
                    let connection = self.connection;
                    let what = || {
                        let client = damage::client_of(connection, row, 1);
                        format!(
                            "the record that {client} has received a message is lost; it may be delivered again"
                        )
                    };
                    self.damage.lose_row(error, (&DONE, row, &[0, 1]), what)?;
                }
            }
        }
        Ok(())
    }
}

/// The fault of a row whose session does not exist.
fn orphan() -> StoreError {
    StoreError::Damaged("its session is missing".to_owned())
}

/// Parses the row of a QoS 2 delivery.
fn delivery(row: &Row<'_>, marks: Marks) -> Outcome<(SessionNumber, StoredDelivery)> {
    let delivery = StoredDelivery {
        identifier: packet_identifier(row, 1)?,
        message: marks.checked_message(message_number(row, 2)?)?,
        is_released: row.get(3)?,
    };
    Ok((marks.checked_session(session_number(row, 0)?)?, delivery))
}

/// Returns the length of a message in bytes, computed from its row.
fn length(row: &Row<'_>) -> Outcome<usize> {
    let of = |column: usize| -> Outcome<usize> {
        Ok(row.get_ref(column)?.as_bytes_or_null()?.map_or(0, <[u8]>::len))
    };
    let payload: usize = row.get(MSG.columns.len())?;
    Ok(of(6)? + of(7)? + of(8)? + payload)
}

/// Returns a checksum of a topic and the `id` of its row.
fn topic_sum(topic: &[u8], id: i64) -> Outcome<u64> {
    let sum = RETAINED.sum(rusqlite::params![topic, id])?;
    Ok(u64::from(sum.cast_unsigned()))
}

/// Checks that rows come in order. In a tree whose rows are intact but out of order, some can no longer be found, and
/// nothing shows which.
fn check_order(table: &Table, is_kept: bool) -> Outcome<()> {
    if is_kept {
        Ok(())
    } else {
        Err(StoreError::Damaged(format!("the rows of '{}' are out of order", table.name)))
    }
}

/// A note about a session's copy of a message.
struct Noted {
    session: SessionNumber,
    /// The Packet Identifier of a delivery that has begun. `None` if the copy is settled.
    identifier: Option<PacketIdentifier>,
}

/// Parses the row of a note, and the number of its message.
fn noted(row: &Row<'_>) -> Outcome<(MessageNumber, Noted)> {
    let identifier = match row.get_ref(2)? {
        ValueRef::Null => None,
        _ => Some(packet_identifier(row, 2)?),
    };
    Ok((message_number(row, 0)?, Noted { session: session_number(row, 1)?, identifier }))
}

/// All notes, in the order of the messages.
struct Done<'a> {
    rows: Rows<'a>,
    next: Option<(MessageNumber, Noted)>,
    /// The note read last.
    last: Option<(MessageNumber, SessionNumber)>,
    /// The notes of one message, in the order of the sessions.
    noted: Vec<Noted>,
}
