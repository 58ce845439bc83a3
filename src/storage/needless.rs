//! What the store need not keep any more, as it is found when everything is read.

use rusqlite::types::Value;
use rusqlite::{Connection, TransactionBehavior};

use super::rows::Outcome;
use super::tables::{MSG, RETAINED, Table};
use super::write::forget;

/// What nobody needs any more.
#[derive(Debug, Default)]
pub(super) struct Needless {
    pub(super) messages: Vec<i64>,
    pub(super) retained: Vec<i64>,
    /// Sessions and Packet Identifiers.
    pub(super) deliveries: Vec<(i64, u16)>,
    /// Rows that are damaged.
    pub(super) rows: Vec<(&'static Table, Vec<Value>)>,
}

impl Needless {
    pub(super) fn forget(&self, connection: &mut Connection) -> Outcome<()> {
        let Self { messages, retained, deliveries, rows } = self;
        if messages.is_empty() && retained.is_empty() && deliveries.is_empty() && rows.is_empty() {
            return Ok(());
        }
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for (table, key) in rows {
            table.remove(&transaction, key)?;
        }
        for &message in messages {
            forget(&transaction, message)?;
        }
        for retained in retained {
            transaction.prepare_cached("DELETE FROM retained WHERE id = ?")?.execute([retained])?;
        }
        for delivery in deliveries {
            let text = "DELETE FROM out2 WHERE session = ? AND identifier = ?";
            transaction.prepare_cached(text)?.execute(*delivery)?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// Leaves where it is what would keep the rest from being forgotten. It was told, or is settled.
    pub(super) fn spare_unreadable(&mut self, connection: &Connection) {
        self.rows.retain(|(table, key)| table.is_readable(connection, key));
        self.messages.retain(|message| MSG.is_readable(connection, &[(*message).into(), Value::Null]));
        self.retained.retain(|retained| RETAINED.is_readable(connection, &[(*retained).into(), Value::Null]));
    }
}
