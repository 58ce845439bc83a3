//! The statements of one transaction. Looking one up takes longer than running it for a small row, so each is looked up
//! once and used for all rows.

use rusqlite::{CachedStatement, Connection};

/// The statements in use.
pub(super) struct Statements<'c> {
    connection: &'c Connection,
    taken: Vec<(&'static str, CachedStatement<'c>)>,
}

impl<'c> Statements<'c> {
    /// Creates an empty set of statements.
    pub(super) const fn new(connection: &'c Connection) -> Self {
        Self { connection, taken: Vec::new() }
    }

    /// Returns the statement with this text. There are few of them, so they are compared one by one.
    pub(super) fn of(&mut self, text: &'static str) -> rusqlite::Result<&mut CachedStatement<'c>> {
        let known = self.taken.iter().position(|(known, _)| *known == text);
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
