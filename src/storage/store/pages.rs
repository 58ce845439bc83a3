//! Messages that are read while the broker runs. All sessions that ask for a message at about the same time share one
//! read and one decoding of its recipients.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use rusqlite::{Connection, Row};

use super::StoreError;
use super::error::Outcome;
use super::rows::{Recipients, Translation, key, publication};
use super::tables::{MSG, payload_sum};
use crate::core::journal::{CopyForm, Fetch, MessageNumber, Page, PageCopy, Pages, SessionNumber};
use crate::core::message::Portable;

/// Bytes of messages to read at a time. The last message may exceed it.
const BYTES_AT_ONCE: usize = 256 * 1024;
/// Copies to hand out at a time.
const COPIES_AT_ONCE: usize = 4096;

/// Messages that sessions have asked for.
#[derive(Debug, Default)]
pub struct Wanted {
    /// The current round: messages and the sessions that want them, read in order.
    now: BTreeMap<MessageNumber, Vec<SessionNumber>>,
    /// Requests made since this round began. They wait for the next round. Otherwise messages that come early in the
    /// order could delay the later ones for ever.
    next: BTreeMap<MessageNumber, Vec<SessionNumber>>,
}

impl Wanted {
    /// Adds the messages that a session asks for.
    pub fn add(&mut self, fetch: Fetch) {
        for message in fetch.messages {
            self.next.entry(message).or_default().push(fetch.session);
        }
    }

    /// Whether no message is wanted.
    pub fn is_empty(&self) -> bool {
        self.now.is_empty() && self.next.is_empty()
    }

    /// Returns the next message and at most `most` of the sessions that want it, sorted.
    fn first(&mut self, most: usize) -> Option<(MessageNumber, &[SessionNumber])> {
        if self.now.is_empty() {
            std::mem::swap(&mut self.now, &mut self.next);
            self.now.values_mut().for_each(|sessions| sessions.sort_unstable());
        }
        let (&message, sessions) = self.now.first_key_value()?;
        Some((message, &sessions[sessions.len() - most.min(sessions.len())..]))
    }

    /// Records that this many sessions have received the next message.
    fn pass(&mut self, count: usize) {
        let Some(mut first) = self.now.first_entry() else { return };
        let sessions = first.get_mut();
        sessions.truncate(sessions.len() - count.min(sessions.len()));
        if sessions.is_empty() {
            first.remove();
        }
    }
}

/// Reads some of the wanted messages.
pub(super) fn read(
    connection: &Connection,
    wanted: &mut Wanted,
    translation: Translation<'_>,
    mut is_time_up: impl FnMut() -> bool,
) -> Outcome<Pages> {
    let (mut messages, mut pages) = (Vec::new(), BTreeMap::<SessionNumber, Vec<PageCopy>>::new());
    let (mut bytes, mut copies) = (0, 0);
    while bytes < BYTES_AT_ONCE
        && copies < COPIES_AT_ONCE
        && (copies == 0 || !is_time_up())
        && let Some((number, sessions)) = wanted.first(COPIES_AT_ONCE - copies)
    {
        let (message, forms) = match message(connection, number, sessions, translation) {
            // First hand out what has been read.
            Err(_) if copies > 0 => break,
            outcome => outcome?,
        };
        for (&session, form) in sessions.iter().zip(forms) {
            let found = form.map(|form| (messages.len(), form));
            pages.entry(session).or_default().push(PageCopy { number, found });
        }
        let count = sessions.len();
        bytes += message.as_ref().map_or(0, Portable::memory);
        messages.extend(message);
        copies += count;
        wanted.pass(count);
    }
    let pages = pages.into_iter().map(|(session, copies)| Page { session, copies }).collect();
    Ok(Pages { messages, pages })
}

/// Skips the next message, which cannot be read. Returns pages that tell the sessions that they do not get it.
pub(super) fn give_up(wanted: &mut Wanted) -> Option<(MessageNumber, Pages)> {
    let (number, sessions) = wanted.first(COPIES_AT_ONCE)?;
    let page = |&session: &SessionNumber| Page { session, copies: vec![PageCopy { number, found: None }] };
    let pages: Vec<Page> = sessions.iter().map(page).collect();
    wanted.pass(pages.len());
    Some((number, Pages { messages: Vec::new(), pages }))
}

/// The statement that reads one message by its number.
static TEXT: LazyLock<String> = LazyLock::new(|| MSG.select(", payload", "WHERE id = ?"));

/// Columns: the recipients, the checksum of the payload, the remaining lifetime, and the first column of the
/// publication.
const RECIPIENTS: usize = 1;
const SUM_OF_PAYLOAD: usize = 2;
const LIFETIME: usize = 3;
const PUBLICATION: usize = 4;

/// Reads a message and the form in which each of these sessions gets it. `sessions` must be sorted. The message is
/// left out if none of them gets it.
pub(super) fn message(
    connection: &Connection,
    number: MessageNumber,
    sessions: &[SessionNumber],
    translation: Translation<'_>,
) -> Outcome<(Option<Portable>, Vec<Option<CopyForm>>)> {
    let mut statement = connection.prepare_cached(&TEXT)?;
    let mut rows = statement.query([key(number.0)])?;
    let Some(row) = rows.next()? else { return Ok((None, vec![None; sessions.len()])) };
    MSG.read(row, || copies(row, sessions, translation))
}

/// Like [`message`], from the row of the message.
fn copies(
    row: &Row<'_>,
    sessions: &[SessionNumber],
    translation: Translation<'_>,
) -> Outcome<(Option<Portable>, Vec<Option<CopyForm>>)> {
    let mut forms = vec![None; sessions.len()];
    let payload = row.get_ref(MSG.columns.len())?.as_blob()?;
    if row.get::<_, i32>(SUM_OF_PAYLOAD)? != payload_sum(payload) {
        return Err(StoreError::Damaged("the checksum of a payload does not match".to_owned()));
    }
    let mut missing = sessions.len();
    for recipient in Recipients::new(row.get_ref(RECIPIENTS)?.as_blob()?) {
        let recipient = recipient?;
        if let Ok(place) = sessions.binary_search(&recipient.session)
            && forms[place].replace(recipient.form).is_none()
        {
            missing -= 1;
            if missing == 0 {
                break;
            }
        }
    }
    if missing == sessions.len() {
        return Ok((None, forms));
    }
    let expires = translation.present.expires(row, LIFETIME)?;
    match publication(row, PUBLICATION, expires, translation.listeners)? {
        None => Ok((None, vec![None; sessions.len()])),
        found => Ok((found, forms)),
    }
}
