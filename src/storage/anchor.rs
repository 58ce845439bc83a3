//! The row that says what the clocks showed at a moment of the timeline.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::StoreError;
use super::rows::{Outcome, span};
use crate::time::{Duration, Time};
use crate::timeline::{Anchor, Boot};

/// Writes the anchor in the place of the one before.
pub(super) fn write(anchor: Anchor, connection: &Connection) -> rusqlite::Result<()> {
    let milliseconds = |value| span(Duration::from_milliseconds(value));
    let mut statement = connection
        .prepare_cached("REPLACE INTO timeline (id, moment, wall, boot, uptime) VALUES (1, ?, ?, ?, ?)")?;
    statement.execute(params![
        milliseconds(anchor.moment),
        milliseconds(anchor.wall),
        anchor.boot.map(|boot| boot.id.to_be_bytes()),
        anchor.boot.map(|boot| milliseconds(boot.uptime.milliseconds())),
    ])?;
    Ok(())
}

/// The anchor that is stored.
pub(super) fn read(connection: &Connection) -> Outcome<Anchor> {
    let text = "SELECT moment, wall, boot, uptime FROM timeline WHERE id = 1";
    let row = connection.query_row(text, (), |row| Ok(parse(row))).optional()?;
    row.unwrap_or_else(|| Err(StoreError::nonsense("the timeline")))
}

fn parse(row: &Row<'_>) -> Outcome<Anchor> {
    let boot = match (row.get::<_, Option<[u8; 16]>>(2)?, row.get(3)?) {
        (Some(id), Some(uptime)) => {
            Some(Boot { id: u128::from_be_bytes(id), uptime: Time::from_milliseconds(uptime) })
        }
        _ => None,
    };
    Ok(Anchor { moment: row.get(0)?, wall: row.get(1)?, boot })
}
