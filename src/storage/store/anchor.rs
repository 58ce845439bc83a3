//! The row that records what the clocks showed at some moment of the timeline.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::StoreError;
use super::error::Outcome;
use super::rows::span;
use super::tables::TIMELINE;
use crate::base::time::{Duration, Time};
use crate::storage::timeline::{Anchor, Boot};

/// Primary key of the only row.
const ID: i64 = 1;

/// Replaces the stored anchor.
pub(super) fn write(anchor: Anchor, connection: &Connection) -> rusqlite::Result<()> {
    let milliseconds = |value| span(Duration::from_milliseconds(value));
    let row = params![
        ID,
        milliseconds(anchor.moment),
        milliseconds(anchor.wall),
        anchor.boot.map(|boot| boot.id.to_be_bytes()),
        anchor.boot.map(|boot| milliseconds(boot.uptime.milliseconds())),
    ];
    TIMELINE.put(connection, row)
}

/// Reads the stored anchor.
pub(super) fn read(connection: &Connection) -> Outcome<Anchor> {
    let text = TIMELINE.select("", "WHERE id = ?");
    let row = connection.query_row(&text, [ID], |row| Ok(TIMELINE.read(row, || parse(row)))).optional()?;
    row.unwrap_or_else(|| Err(StoreError::nonsense("the timeline")))
}

fn parse(row: &Row<'_>) -> Outcome<Anchor> {
    let boot = match (row.get::<_, Option<[u8; 16]>>(3)?, row.get(4)?) {
        (Some(id), Some(uptime)) => {
            Some(Boot { id: u128::from_be_bytes(id), uptime: Time::from_milliseconds(uptime) })
        }
        _ => None,
    };
    Ok(Anchor { moment: row.get(1)?, wall: row.get(2)?, boot })
}
