//! Rows found to be no longer needed when everything is read.

use std::collections::BTreeSet;

use rusqlite::types::Value;
use rusqlite::{Connection, TransactionBehavior, params};

use super::StoreError;
use super::error::Outcome;
use super::tables::{MSG, OWED, RETAINED, Table};
use super::write::forget;
use crate::core::journal::Owed;

/// The rows to remove.
#[derive(Debug, Default)]
pub(super) struct Needless {
    pub(super) messages: Vec<i64>,
    pub(super) retained: Vec<i64>,
    /// Sessions and Packet Identifiers of QoS 2 deliveries.
    pub(super) deliveries: Vec<(i64, u16)>,
    /// What takes the place of messages that have expired.
    pub(super) owed: BTreeSet<Owed>,
    /// Damaged rows and their keys.
    pub(super) rows: Vec<(&'static Table, Vec<Value>)>,
}

impl Needless {
    pub(super) fn forget(&self, connection: &mut Connection) -> Outcome<()> {
        let Self { messages, retained, deliveries, owed, rows } = self;
        if messages.is_empty() && retained.is_empty() && deliveries.is_empty() && rows.is_empty() {
            return Ok(());
        }
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for (table, key) in rows {
            table.remove(&transaction, key)?;
        }
        for owed in owed {
            OWED.put(&transaction, params![owed.client_identifier, owed.topic])?;
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

    /// Drops from the list the messages whose removal would fail and prevent all others. They have been reported, or
    /// are settled.
    ///
    /// # Errors
    ///
    /// If the retained message of a topic can be neither read nor replaced: the next message retained there would end
    /// the broker.
    pub(super) fn spare_unreadable(&mut self, connection: &Connection) -> Outcome<()> {
        let is_lost = |table: &Table, key: &[Value]| !table.is_readable(connection, key);
        let retained = self.retained.iter().map(|id| vec![(*id).into(), Value::Null]);
        let of_rows = self.rows.iter().filter(|(table, _)| table.name == RETAINED.name);
        if retained.chain(of_rows.map(|(_, key)| key.clone())).any(|key| is_lost(&RETAINED, &key)) {
            return Err(StoreError::Damaged("a page of retained messages cannot be read".to_owned()));
        }
        self.rows.retain(|(table, key)| !is_lost(table, key));
        self.messages.retain(|message| !is_lost(&MSG, &[(*message).into(), Value::Null]));
        Ok(())
    }
}
