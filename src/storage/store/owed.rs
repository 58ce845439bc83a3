//! What bridges are owed.

use std::collections::BTreeSet;

use rusqlite::{Connection, params};

use super::StoreError;
use super::damage::Damage;
use super::error::Outcome;
use super::rows::key;
use super::statements::Statements;
use super::tables::OWED;
use crate::core::journal::{Owed, Record, SessionNumber};

/// Writes a record about what bridges are owed; other records are ignored.
pub(super) fn write(record: &Record, statements: &mut Statements<'_>) -> Result<(), StoreError> {
    match record {
        Record::Owed(owed) => OWED.put_among(statements, params![owed.client_identifier, owed.topic])?,
        Record::Sent(owed) => {
            let text = "DELETE FROM owed WHERE client_identifier = ? AND topic = ?";
            statements.of(text)?.execute([&owed.client_identifier, &owed.topic])?;
        }
        Record::NothingOwed(client_identifier) => {
            let text = "DELETE FROM owed WHERE client_identifier = ?";
            statements.of(text)?.execute([client_identifier])?;
        }
        _ => {}
    }
    Ok(())
}

/// Reads all of it, and adds what is owed for copies with RETAIN that have `expired` in queues.
pub(super) fn read(
    connection: &Connection,
    expired: &BTreeSet<Owed>,
    damage: &mut Damage,
) -> Outcome<BTreeSet<Owed>> {
    let mut all = expired.clone();
    let mut statement = connection.prepare(&OWED.select("", "ORDER BY client_identifier, topic"))?;
    let mut rows = statement.query(())?;
    while let Some(row) = rows.next()? {
        match OWED.read(row, || Ok(Owed { client_identifier: row.get(0)?, topic: row.get(1)? })) {
            Ok(owed) => drop(all.insert(owed)),
            Err(error) => {
                let what = || "a retained message that has changed may not reach a bridge".to_owned();
                damage.lose_row(error, (&OWED, row, &[0, 1]), what)?;
            }
        }
    }
    Ok(all)
}

/// What the client of a session is owed for a copy with RETAIN that has expired.
pub(super) fn expired(connection: &Connection, session: SessionNumber, topic: String) -> Outcome<Owed> {
    let text = "SELECT client_identifier FROM session WHERE id = ?";
    let client_identifier = connection.prepare_cached(text)?.query_row([key(session.0)], |row| row.get(0))?;
    Ok(Owed { client_identifier, topic })
}
