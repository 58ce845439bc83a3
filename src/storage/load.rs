//! What is read when the broker starts: everything.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row, Rows, TransactionBehavior};

use super::StoreError;
use super::rows::{
    self, Outcome, Recipients, Translation, key, message_number, packet_identifier, publication,
    publication_columns, session_number,
};
use super::write::{Marks, forget};
use crate::codec::{PacketIdentifier, QoS};
use crate::journal::{
    MessageNumber, Recipient, Restored, SessionNumber, StoredCopy, StoredDelivery, StoredPresence,
};
use crate::message::Portable;

/// A session's copy of a message, if the message is there and the session is one of its recipients.
fn copy(
    connection: &Connection,
    message: MessageNumber,
    session: SessionNumber,
    translation: Translation<'_>,
) -> Outcome<Option<StoredCopy>> {
    let text = concat!("SELECT recipients, lifetime, ", publication_columns!(), " FROM msg WHERE id = ?");
    let mut statement = connection.prepare_cached(text)?;
    let mut rows = statement.query([key(message.0)])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    for recipient in Recipients::new(row.get_ref(0)?.as_blob()?) {
        let recipient = recipient?;
        if recipient.session == session {
            let expires = translation.present.expires(row, 1)?;
            let form = recipient.form;
            let found = publication(row, 2, expires, translation.listeners)?;
            return Ok(found.map(|publication| StoredCopy { number: message, message: publication, form }));
        }
    }
    Ok(None)
}

/// Reads everything, and forgets what nobody needs any more; nothing more, once `each` breaks off.
pub(super) fn load(
    connection: &mut Connection,
    translation: Translation<'_>,
    marks: Marks,
    each: impl FnMut(Restored) -> ControlFlow<()>,
) -> Outcome<()> {
    let mut loading = Loading {
        connection,
        translation,
        marks,
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
    loading.retained()?;
    let needless = loading.needless;
    match needless.forget(connection) {
        // It can be forgotten some other time.
        Err(StoreError::Full | StoreError::Unwritten(_)) => Ok(()),
        outcome => outcome,
    }
}

/// What is being read.
struct Loading<'a, Each> {
    connection: &'a Connection,
    translation: Translation<'a>,
    /// No number may be beyond these.
    marks: Marks,
    each: Each,
    /// All that there are, in order.
    sessions: Vec<SessionNumber>,
    /// Those that have ended and have left something to other members of Shared Subscriptions.
    former: BTreeSet<SessionNumber>,
    /// Messages that are handed out with a delivery, and the sessions; and those that former sessions had begun, which are
    /// nobody else's.
    in_delivery: BTreeSet<(MessageNumber, SessionNumber)>,
    needless: Needless,
}

impl<Each: FnMut(Restored) -> ControlFlow<()>> Loading<'_, Each> {
    /// Hands something over.
    fn tell(&mut self, restored: Restored) -> Outcome<()> {
        match (self.each)(restored) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(StoreError::Other("it was not read to its end".to_owned())),
        }
    }

    fn has_session(&self, session: SessionNumber) -> bool {
        self.sessions.binary_search(&session).is_ok()
    }

    fn sessions(&mut self) -> Outcome<()> {
        let mut statement = self.connection.prepare("SELECT * FROM session ORDER BY id")?;
        let mut rows = statement.query(())?;
        while let Some(row) = rows.next()? {
            let session = rows::session(row, self.translation)?;
            self.marks.check_session(session.number)?;
            if let StoredPresence::Away { sent_until: Some(message), .. } = session.presence {
                self.marks.check_message(message)?;
            }
            self.sessions.push(session.number);
            self.tell(Restored::Session(Box::new(session)))?;
        }
        Ok(())
    }

    fn former(&mut self) -> Outcome<()> {
        let mut statement = self.connection.prepare("SELECT session FROM former ORDER BY session")?;
        let mut rows = statement.query(())?;
        while let Some(row) = rows.next()? {
            let session = session_number(row, 0)?;
            self.marks.check_session(session)?;
            self.former.insert(session);
            self.tell(Restored::Former(session))?;
        }
        Ok(())
    }

    fn subscriptions(&mut self) -> Outcome<()> {
        let text = "SELECT session, filter, flags, identifier FROM sub ORDER BY session, filter";
        let mut statement = self.connection.prepare(text)?;
        let mut rows = statement.query(())?;
        while let Some(row) = rows.next()? {
            let session = session_number(row, 0)?;
            self.marks.check_session(session)?;
            if self.has_session(session) {
                self.tell(Restored::Subscription(session, rows::subscription(row, 1)?))?;
            }
        }
        Ok(())
    }

    fn received(&mut self) -> Outcome<()> {
        let text = "SELECT session, identifier FROM in2 ORDER BY session, identifier";
        let mut statement = self.connection.prepare(text)?;
        let mut rows = statement.query(())?;
        while let Some(row) = rows.next()? {
            let session = session_number(row, 0)?;
            self.marks.check_session(session)?;
            if self.has_session(session) {
                self.tell(Restored::Received(session, packet_identifier(row, 1)?))?;
            }
        }
        Ok(())
    }

    fn deliveries(&mut self) -> Outcome<()> {
        let text = "SELECT session, identifier, msg, is_released FROM out2 ORDER BY session, msg";
        let mut statement = self.connection.prepare(text)?;
        let mut rows = statement.query(())?;
        while let Some(row) = rows.next()? {
            let session = session_number(row, 0)?;
            let delivery = StoredDelivery {
                identifier: packet_identifier(row, 1)?,
                message: message_number(row, 2)?,
                is_released: row.get(3)?,
            };
            self.marks.check_session(session)?;
            self.marks.check_message(delivery.message)?;
            if !self.has_session(session) {
                if self.former.contains(&session) && !delivery.is_released {
                    self.in_delivery.insert((delivery.message, session));
                }
                continue;
            }
            let copy = if delivery.is_released { None } else { self.copy_in_delivery(session, &delivery)? };
            if delivery.is_released || copy.is_some() {
                self.tell(Restored::Delivery(session, delivery, copy))?;
            } else {
                self.needless.deliveries.push((key(session.0), delivery.identifier.value()));
            }
        }
        Ok(())
    }

    /// The copy that goes with a delivery, unless it was settled.
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
        // The lengths of columns are known without what is in them, so a large payload is not read.
        let text = "SELECT id, recipients, lifetime, expires, \
            octet_length(topic) + ifnull(octet_length(publisher), 0) + octet_length(properties) \
            + octet_length(payload) FROM msg ORDER BY id";
        let mut statement = self.connection.prepare(text)?;
        let mut rows = statement.query(())?;
        let text = "SELECT msg, session, identifier FROM done ORDER BY msg, session";
        let mut statement = self.connection.prepare(text)?;
        let mut done = Done::new(statement.query(())?)?;
        while let Some(row) = rows.next()? {
            let message = message_number(row, 0)?;
            self.marks.check_message(message)?;
            self.message(message, done.of(message)?, row)?;
        }
        Ok(())
    }

    fn message(&mut self, message: MessageNumber, done: &[Noted], row: &Row<'_>) -> Outcome<()> {
        let (mut sessions, mut in_flight, mut begun, mut group) = (Vec::new(), Vec::new(), Vec::new(), None);
        let mut lowest_qos = QoS::ExactlyOnce;
        // What is on its way already is delivered though it has expired meanwhile [MQTT-3.3.2-5].
        let expires = self.translation.present.expires(row, 2)?;
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
            let is_needed = match self.has_session(session) {
                true => is_ahead || is_begun,
                // [MQTT-4.8.2-5]
                false => is_ahead && !is_begun && form.group.is_some() && self.former.contains(&session),
            };
            if is_needed {
                if is_begun {
                    in_flight.push(session);
                } else {
                    sessions.push(session);
                    lowest_qos = lowest_qos.min(form.qos);
                }
                group = form.group;
            }
        }
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
                length: row.get(4)?,
                expires,
                lowest_qos,
                sessions,
                in_flight,
                group,
            })?;
        }
        Ok(())
    }

    /// A message, if deliveries of it have begun.
    fn content(&self, message: MessageNumber, begun: &[Recipient]) -> Outcome<Option<Portable>> {
        if begun.is_empty() {
            return Ok(None);
        }
        let text = concat!("SELECT lifetime, ", publication_columns!(), " FROM msg WHERE id = ?");
        let mut statement = self.connection.prepare_cached(text)?;
        let mut rows = statement.query([key(message.0)])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let expires = self.translation.present.expires(row, 0)?;
        publication(row, 1, expires, self.translation.listeners)
    }

    fn retained(&mut self) -> Outcome<()> {
        let text = concat!("SELECT id, lifetime, ", publication_columns!(), " FROM retained ORDER BY id");
        let mut statement = self.connection.prepare(text)?;
        let mut rows = statement.query(())?;
        while let Some(row) = rows.next()? {
            let Translation { present, listeners } = self.translation;
            let expires = present.expires(row, 1)?;
            let is_ahead = present.is_ahead(expires);
            match if is_ahead { publication(row, 2, expires, listeners)? } else { None } {
                Some(publication) => self.tell(Restored::Retained(publication))?,
                None => self.needless.retained.push(row.get(0)?),
            }
        }
        Ok(())
    }
}

/// What is noted of a session's copy.
struct Noted {
    session: SessionNumber,
    /// The Packet Identifier of a delivery that has begun; none if the copy is settled.
    identifier: Option<PacketIdentifier>,
}

/// What is noted of copies, in the order of the messages.
struct Done<'a> {
    rows: Rows<'a>,
    next: Option<(MessageNumber, Noted)>,
    /// Those of one message.
    noted: Vec<Noted>,
}

impl<'a> Done<'a> {
    fn new(rows: Rows<'a>) -> Outcome<Self> {
        let mut done = Self { rows, next: None, noted: Vec::new() };
        done.advance()?;
        Ok(done)
    }

    fn advance(&mut self) -> Outcome<()> {
        self.next = match self.rows.next()? {
            Some(row) => {
                let identifier = match row.get_ref(2)? {
                    ValueRef::Null => None,
                    _ => Some(packet_identifier(row, 2)?),
                };
                Some((message_number(row, 0)?, Noted { session: session_number(row, 1)?, identifier }))
            }
            None => None,
        };
        Ok(())
    }

    /// What is noted of a message, in the order of sessions. It comes behind the one that was asked for before.
    fn of(&mut self, message: MessageNumber) -> Outcome<&[Noted]> {
        self.noted.clear();
        while let Some((next, noted)) = self.next.take_if(|(next, _)| *next <= message) {
            if next == message {
                self.noted.push(noted);
            }
            self.advance()?;
        }
        Ok(&self.noted)
    }
}

/// What nobody needs any more.
#[derive(Debug, Default)]
struct Needless {
    messages: Vec<i64>,
    retained: Vec<i64>,
    /// Sessions and Packet Identifiers.
    deliveries: Vec<(i64, u16)>,
}

impl Needless {
    fn forget(self, connection: &mut Connection) -> Outcome<()> {
        if self.messages.is_empty() && self.retained.is_empty() && self.deliveries.is_empty() {
            return Ok(());
        }
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for message in self.messages {
            forget(&transaction, message)?;
        }
        for retained in self.retained {
            transaction.prepare_cached("DELETE FROM retained WHERE id = ?")?.execute([retained])?;
        }
        for delivery in self.deliveries {
            let text = "DELETE FROM out2 WHERE session = ? AND identifier = ?";
            transaction.prepare_cached(text)?.execute(delivery)?;
        }
        transaction.commit()?;
        Ok(())
    }
}
