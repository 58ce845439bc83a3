//! Damaged rows. Each one is counted, and reported once with what can still be read of it.

use std::collections::BTreeSet;
use std::path::Path;

use log::warn;
use rusqlite::types::Value;
use rusqlite::{Connection, Row};

use super::error::Outcome;
use super::rows::{Recipients, key};
use super::tables::Table;
use super::{Severed, StoreError};
use crate::base::escape::Escaped;
use crate::core::journal::{MessageNumber, SessionNumber};

/// Reports to make one by one. Further ones are only counted.
const LINES_MAXIMUM: u64 = 1000;

/// Largest file whose structure is checked at the start, in pages: 64 MiB, which takes a moment.
const CHECKED_PAGES_MAXIMUM: i64 = 16_384;

/// Clients of a lost message that are named in its report.
const NAMES_MAXIMUM: usize = 3;

/// Messages remembered as reported, in case another client asks for them.
const REMEMBERED_MAXIMUM: usize = 1024;

/// Damaged rows removed at one start. Further ones are found again at the next start.
const REMOVALS_MAXIMUM: usize = 65_536;

/// The damage found since the store was opened.
#[derive(Debug, Default)]
pub(super) struct Damage {
    /// Damaged rows, and indexes that disagree with their tables.
    pub(super) count: u64,
    /// Messages already reported.
    messages: BTreeSet<MessageNumber>,
    /// Rows still to be removed, each with its key and its checksum, which is null if unknown.
    pub(super) removals: Vec<(&'static Table, Vec<Value>)>,
    /// Whether rows may be missing, so that rows that seem to be unused may still be needed.
    pub(super) lacks_rows: bool,
    /// What would otherwise be logged.
    noted: Option<Vec<String>>,
}

impl Damage {
    /// Collects what is found instead of logging it.
    pub(super) fn noting() -> Self {
        Self { noted: Some(Vec::new()), ..Self::default() }
    }

    /// Returns what was collected, each as what may follow "the store is".
    pub(super) fn into_notes(self) -> Vec<String> {
        self.noted.unwrap_or_default()
    }

    /// Checks the structure of the file. A page can be valid in itself and lack rows, which no checksum reveals.
    pub(super) fn check_structure(&mut self, connection: &Connection) -> Outcome<()> {
        if connection.query_row("PRAGMA page_count", (), |row| row.get::<_, i64>(0))? > CHECKED_PAGES_MAXIMUM
        {
            return Ok(());
        }
        let found = connection.query_row("PRAGMA quick_check(1)", (), |row| row.get::<_, String>(0));
        match found.map_err(StoreError::from) {
            Ok(found) if found == "ok" => Ok(()),
            Ok(why) | Err(StoreError::Damaged(why)) => {
                self.lacks_rows = true;
                let what = "more may be missing than is reported. Put a copy from a backup in its place";
                self.tell(|| what.to_owned(), &why);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Counts one damage and reports it with its reason. `what` is only called for damage that is still reported.
    pub(super) fn tell(&mut self, what: impl FnOnce() -> String, why: &str) {
        self.count += 1;
        let text = match self.count {
            ..LINES_MAXIMUM => format!("damaged: {} ({})", what(), Escaped(why.trim())),
            LINES_MAXIMUM => format!("damaged in {LINES_MAXIMUM} places; the rest is counted"),
            _ => return,
        };
        match &mut self.noted {
            Some(noted) => noted.push(text),
            None => warn!("Warning: the store is {text}."),
        }
    }

    /// Reports a row as lost and has it removed later. `keys` are the columns by which it is found then. Any error
    /// other than damage is returned.
    pub(super) fn lose_row(
        &mut self,
        error: StoreError,
        (table, row, keys): (&'static Table, &Row<'_>, &[usize]),
        what: impl FnOnce() -> String,
    ) -> Outcome<()> {
        let StoreError::Damaged(why) = error else { return Err(error) };
        self.tell(what, &why);
        let sum = row.as_ref().column_count() - 1;
        let key = keys.iter().chain([&sum]).map(|&column| row.get(column)).collect::<Result<_, _>>()?;
        self.remove_later(table, key);
        Ok(())
    }

    /// Has the row with this key removed later.
    pub(super) fn remove_later(&mut self, table: &'static Table, key: Vec<Value>) {
        if self.removals.len() < REMOVALS_MAXIMUM {
            self.removals.push((table, key));
        }
    }

    /// Reports a message as lost for all clients.
    pub(super) fn lose_message(&mut self, connection: &Connection, number: MessageNumber, why: &str) {
        if self.messages.contains(&number) {
            return;
        }
        if self.messages.len() < REMEMBERED_MAXIMUM {
            self.messages.insert(number);
        }
        let found = |column: &str| -> Option<Vec<u8>> {
            let text = format!("SELECT CAST({column} AS BLOB) FROM msg WHERE id = ?");
            connection.query_row(&text, [key(number.0)], |row| row.get(0)).ok()
        };
        self.tell(|| describe(connection, key(number.0), [found("topic"), found("recipients")]), why);
    }

    /// Whether a message has been reported as lost.
    pub(super) fn has_lost(&self, number: MessageNumber) -> bool {
        self.messages.contains(&number)
    }
}

/// Describes a lost message by its number, its topic and its clients, as far as these can be read.
pub(super) fn describe(connection: &Connection, number: i64, content: [Option<Vec<u8>>; 2]) -> String {
    let [topic, recipients] = content;
    let topic = topic.map_or_else(|| "an unknown topic".to_owned(), |topic| quoted(&topic));
    let recipients = recipients.unwrap_or_default();
    let sessions = Recipients::new(&recipients).map_while(Result::ok).map(|recipient| recipient.session);
    let names: Vec<String> =
        sessions.filter_map(|session| client(connection, session)).take(NAMES_MAXIMUM + 1).collect();
    let names = match names.len() {
        0 => "unknown clients".to_owned(),
        1..=NAMES_MAXIMUM => names.join(", "),
        _ => format!("{} and others", names[..NAMES_MAXIMUM].join(", ")),
    };
    format!("message {number} to {topic} for {names} is lost")
}

/// Reports the commits that are lost after a damaged place in the journal.
pub(super) fn report_severed(severed: Severed, journal: &Path) {
    warn!("Warning: {} is {}.", Escaped(&journal.display().to_string()), severed_in_words(severed));
}

/// What may follow "the journal is" if it is damaged.
pub(super) fn severed_in_words(Severed { commits, frames }: Severed) -> String {
    format!(
        "damaged: commits that were written to disk after that place are lost (commits: at least {commits}, pages: \
         {frames}). Their content may have been acknowledged. Put a copy from a backup in the place of the store if \
         that matters more than everything since the backup"
    )
}

/// Returns the bytes of a column that holds text or a blob.
pub(super) fn bytes(row: &Row<'_>, column: usize) -> Option<Vec<u8>> {
    row.get_ref(column).ok()?.as_bytes_or_null().ok()?.map(<[u8]>::to_vec)
}

/// Returns the text of a column, quoted for the log.
pub(super) fn text(row: &Row<'_>, column: usize) -> String {
    bytes(row, column).map_or_else(|| "something unknown".to_owned(), |bytes| quoted(&bytes))
}

fn quoted(bytes: &[u8]) -> String {
    format!("'{}'", Escaped(&String::from_utf8_lossy(bytes)))
}

/// Returns the name of the client whose session a column refers to, quoted for the log.
pub(super) fn client_of(connection: &Connection, row: &Row<'_>, column: usize) -> String {
    let session = super::rows::session_number(row, column).ok();
    let name = session.and_then(|session| client(connection, session));
    name.unwrap_or_else(|| "an unknown client".to_owned())
}

fn client(connection: &Connection, session: SessionNumber) -> Option<String> {
    let text = "SELECT client_identifier FROM session WHERE id = ?";
    let name: String = connection.query_row(text, [key(session.0)], |row| row.get(0)).ok()?;
    Some(quoted(name.as_bytes()))
}
