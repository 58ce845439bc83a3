//! When messages for bridges have come: rows of `meta` with a moment, each for the messages from one number on.

use std::num::NonZeroU64;

use rusqlite::{Connection, Row, params};

use super::StoreError;
use super::damage::Damage;
use super::error::Outcome;
use super::rows::Present;
use super::statements::Statements;
use super::tables::META;
use crate::core::journal::{MessageNumber, NextNumbers, Restored};

/// The beginning of the names of the rows.
const BEGINNING: &str = "arrived ";

/// The name of the row for messages from this number on. The order of the names is that of the numbers.
fn name(MessageNumber(number): MessageNumber) -> String {
    format!("{BEGINNING}{number:016x}")
}

/// Writes that messages from this number on have come at this moment, and removes what is about messages before the row
/// that `oldest` belongs to.
pub(super) fn write(
    message: MessageNumber,
    moment: i64,
    oldest: MessageNumber,
    statements: &mut Statements<'_>,
) -> Result<(), StoreError> {
    META.put_among(statements, params![name(message), moment])?;
    let text = "DELETE FROM meta WHERE name GLOB 'arrived *' AND name < \
                (SELECT max(name) FROM meta WHERE name GLOB 'arrived *' AND name <= ?)";
    statements.of(text)?.execute([name(oldest)])?;
    Ok(())
}

/// Reads how long ago messages have come, in rising order. If one row is damaged, none is used: messages would seem to be
/// as old as those before them, and be dropped. No message has one of the `next` numbers.
pub(super) fn read(
    connection: &Connection,
    present: Present,
    next: NextNumbers,
    damage: &mut Damage,
) -> Outcome<Vec<Restored>> {
    let mut statement = connection.prepare(&META.select("", "WHERE name GLOB 'arrived *' ORDER BY name"))?;
    let mut rows = statement.query(())?;
    let mut arrivals = Vec::new();
    while let Some(row) = rows.next()? {
        match META.read(row, || parse(row, present, next.message)) {
            Ok(arrival) => arrivals.push(arrival),
            Err(error) => {
                let what = || "it is not known when messages for bridges have come".to_owned();
                damage.lose_row(error, (&META, row, &[0]), what)?;
                return Ok(Vec::new());
            }
        }
    }
    Ok(arrivals)
}

fn parse(row: &Row<'_>, present: Present, next: MessageNumber) -> Outcome<Restored> {
    let name = row.get_ref(0)?.as_str()?.strip_prefix(BEGINNING).unwrap_or_default();
    let number = u64::from_str_radix(name, 16).ok().and_then(NonZeroU64::new).map(MessageNumber);
    let number = number.filter(|number| *number < next);
    let number = number.ok_or_else(|| StoreError::nonsense("the number of a message"))?;
    Ok(Restored::Arrived(number, present.age(row.get(1)?)))
}
