//! The statements of one transaction. To look one up takes longer than to run it for a small row, so each is looked up
//! once and used for all rows.

use rusqlite::{CachedStatement, Connection};

/// Statements that are in use.
pub(super) struct Statements<'c> {
    connection: &'c Connection,
    taken: Vec<(&'static str, CachedStatement<'c>)>,
}

impl<'c> Statements<'c> {
    /// None yet.
    pub(super) const fn new(connection: &'c Connection) -> Self {
        Self { connection, taken: Vec::new() }
    }

    /// The statement with this text. There are few of them, and the same text lies at the same place.
    pub(super) fn of(&mut self, text: &'static str) -> rusqlite::Result<&mut CachedStatement<'c>> {
        let known = self.taken.iter().position(|(known, _)| std::ptr::eq(*known, text));
        let index = match known {
            Some(index) => index,
            None => {
                self.taken.push((text, self.connection.prepare_cached(text)?));
                self.taken.len() - 1
            }
        };
        Ok(&mut self.taken[index].1)
    }
}
