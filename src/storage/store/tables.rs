//! The tables. All statements on a table are made from one list of its columns, and every row has a checksum by which
//! damage is detected. A new column needs its place in one of these lists and in the layout.
//!
//! A checksum has 32 bits. It detects all damage of up to three bits in a row of 11 KiB and all damage within four
//! bytes, and misses other damage with a probability of one in four thousand million. It protects against failing
//! disks and memory, not against an attacker, who could write a matching checksum.

use std::sync::LazyLock;

use crc32fast::Hasher;
use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, Row, Statement, ToSql, params_from_iter};

use super::StoreError;
use super::error::Outcome;
use super::statements::Statements;

/// A table.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: &'static str,
    /// The columns that the checksum covers, in the order in which they are read and written.
    pub(super) columns: &'static [&'static str],
    /// Columns with a checksum of their own, which are read only when needed.
    pub(super) apart: &'static [&'static str],
    /// The columns of the primary key.
    key: &'static [&'static str],
    /// The statement that inserts or replaces a row.
    write: String,
}

/// Marks that numbers already given lie below.
pub(super) static META: LazyLock<Table> = LazyLock::new(|| Table::new("meta", &["name"], &["name", "value"]));

pub(super) static LISTENER: LazyLock<Table> =
    LazyLock::new(|| Table::new("listener", &["id"], &["id", "name"]));

/// The anchor: what the clocks showed at one moment.
pub(super) static TIMELINE: LazyLock<Table> =
    LazyLock::new(|| Table::new("timeline", &["id"], &["id", "moment", "wall", "boot", "uptime"]));

/// Sessions that have ended and whose messages must still go to other members of Shared Subscriptions.
pub(super) static FORMER: LazyLock<Table> =
    LazyLock::new(|| Table::new("former", &["session"], &["session"]));

pub(super) static SESSION: LazyLock<Table> = LazyLock::new(|| {
    let columns = &[
        "id",
        "client_identifier",
        "user_name",
        "listener",
        "expiry_interval",
        "is_away",
        "ends",
        "sent_until",
        "will_delay",
        "will_due",
        "expires",
        "flags",
        "topic",
        "publisher",
        "properties",
        "payload",
        "is_proved",
    ];
    Table::new("session", &["id"], columns)
});

pub(super) static SUB: LazyLock<Table> = LazyLock::new(|| {
    Table::new("sub", &["session", "filter"], &["session", "filter", "flags", "identifier"])
});

/// The row's checksum covers the checksum of the payload instead of the payload, so that large payloads need not be
/// read when the broker starts.
pub(super) static MSG: LazyLock<Table> = LazyLock::new(|| {
    let columns = &[
        "id",
        "recipients",
        PAYLOAD_SUM,
        "lifetime",
        "expires",
        "flags",
        "topic",
        "publisher",
        "properties",
    ];
    Table::new("msg", &["id"], columns).with_apart(&["payload"])
});

pub(super) static DONE: LazyLock<Table> =
    LazyLock::new(|| Table::new("done", &["msg", "session"], &["msg", "session", "identifier"]));

pub(super) static IN2: LazyLock<Table> =
    LazyLock::new(|| Table::new("in2", &["session", "identifier"], &["session", "identifier"]));

pub(super) static OUT2: LazyLock<Table> = LazyLock::new(|| {
    Table::new("out2", &["session", "identifier"], &["session", "identifier", "msg", "is_released"])
});

/// The topics whose retained messages bridges are owed.
pub(super) static OWED: LazyLock<Table> = LazyLock::new(|| {
    let columns = &["client_identifier", "topic"];
    Table::new("owed", columns, columns)
});

/// The checksum does not cover `id`, which has no meaning: a row is identified by its topic.
pub(super) static RETAINED: LazyLock<Table> = LazyLock::new(|| {
    let columns = &["lifetime", "expires", "flags", "topic", "publisher", "properties", "payload"];
    Table::new("retained", &["id"], columns).in_place_by("topic")
});

/// All tables of [version 1](super::schema) of the layout.
pub(super) fn of_version_1() -> [&'static Table; 8] {
    [&META, &SESSION, &SUB, &MSG, &DONE, &IN2, &OUT2, &RETAINED]
}

/// The column with the checksum of the payload.
pub(super) const PAYLOAD_SUM: &str = "payload_sum";

impl Table {
    fn new(name: &'static str, key: &'static [&'static str], columns: &'static [&'static str]) -> Self {
        Self { name, columns, apart: &[], key, write: String::new() }.with_apart(&[])
    }

    fn with_apart(self, apart: &'static [&'static str]) -> Self {
        let table = Self { apart, ..self };
        let write = format!("REPLACE INTO {}", table.values());
        Self { write, ..table }
    }

    /// Makes writing update a row that has the same value in this column. The index of the column then stays
    /// unchanged.
    fn in_place_by(self, unique: &str) -> Self {
        let others = self.columns.iter().chain(&["sum"]).filter(|column| **column != unique);
        let assigned: Vec<String> = others.map(|column| format!("{column} = excluded.{column}")).collect();
        let write = format!(
            "INSERT INTO {} ON CONFLICT ({unique}) DO UPDATE SET {}",
            self.values(),
            assigned.join(", ")
        );
        Self { write, ..self }
    }

    fn values(&self) -> String {
        let all = [self.columns, self.apart, &["sum"]].concat();
        format!("{} ({}) VALUES ({})", self.name, all.join(", "), vec!["?"; all.len()].join(", "))
    }

    /// Returns a statement that reads all columns covered by the checksum, then those in `beside`, then the checksum.
    pub(super) fn select(&self, beside: &str, rest: &str) -> String {
        format!("SELECT {}{beside}, sum FROM {} {rest}", self.columns.join(", "), self.name)
    }

    /// Returns a condition for a row by its key and its checksum, which may be null if unknown. The key alone is not
    /// enough: if keys are damaged, two rows may have the same one.
    fn has_key(&self, operator: &str) -> String {
        let keys = self.key.iter().map(|column| format!("{operator}{column} = ? AND "));
        keys.collect::<String>() + "ifnull(?, sum) = sum"
    }

    /// Removes a damaged row by its key and its checksum. If its place in the tree does not match its key, all rows
    /// are searched.
    pub(super) fn remove(&self, connection: &Connection, key: &[Value]) -> Outcome<()> {
        for operator in ["", "+"] {
            let text = format!("DELETE FROM {} WHERE {}", self.name, self.has_key(operator));
            if connection.prepare_cached(&text)?.execute(params_from_iter(key))? > 0 {
                break;
            }
        }
        Ok(())
    }

    /// Whether SQLite can read all of a row. It cannot remove a row that it cannot read, and the attempt would roll
    /// back the transaction.
    pub(super) fn is_readable(&self, connection: &Connection, key: &[Value]) -> bool {
        let text = format!("SELECT * FROM {} WHERE {}", self.name, self.has_key(""));
        let read = || -> Outcome<()> {
            let mut statement = connection.prepare_cached(&text)?;
            let mut rows = statement.query(params_from_iter(key))?;
            while rows.next()?.is_some() {}
            Ok(())
        };
        !matches!(read(), Err(StoreError::Damaged(_)))
    }

    /// Writes a row. `values` are all columns, including those with a checksum of their own.
    pub(super) fn put(&self, connection: &Connection, values: &[&dyn ToSql]) -> rusqlite::Result<()> {
        self.write_row(&mut *connection.prepare_cached(&self.write)?, values)
    }

    /// Writes one of many rows.
    pub(super) fn put_among(
        &'static self,
        statements: &mut Statements<'_>,
        values: &[&dyn ToSql],
    ) -> rusqlite::Result<()> {
        self.write_row(statements.of(&self.write)?, values)
    }

    fn write_row(&self, statement: &mut Statement<'_>, values: &[&dyn ToSql]) -> rusqlite::Result<()> {
        let mut sum = Sum::of(self.name);
        for (place, value) in values.iter().enumerate() {
            let value = value.to_sql()?;
            if place < self.columns.len() {
                sum.add(&value);
            }
            statement.raw_bind_parameter(place + 1, value)?;
        }
        statement.raw_bind_parameter(values.len() + 1, sum.value())?;
        statement.raw_execute().map(|_| ())
    }

    /// Returns the checksum of a row with these values.
    pub(super) fn sum(&self, values: &[&dyn ToSql]) -> rusqlite::Result<i32> {
        let mut sum = Sum::of(self.name);
        for value in values {
            sum.add(&value.to_sql()?);
        }
        Ok(sum.value())
    }

    /// Reads a row that a [statement](Table::select) has found, if its checksum matches.
    pub(super) fn read<T>(&self, row: &Row<'_>, read: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
        let mut sum = Sum::of(self.name);
        for column in 0..self.columns.len() {
            sum.add_ref(row.get_ref(column)?);
        }
        let last = row.as_ref().column_count() - 1;
        match row.get_ref(last)? {
            ValueRef::Integer(written) if written == i64::from(sum.value()) => read(),
            _ => Err(StoreError::Damaged(format!("the checksum of a row of '{}' does not match", self.name))),
        }
    }
}

/// Returns the checksum of a payload.
pub(super) fn payload_sum(payload: &[u8]) -> i32 {
    let mut sum = Sum::of("payload");
    sum.add_ref(ValueRef::Blob(payload));
    sum.value()
}

/// A checksum in progress. Adding a few bytes at a time would take several times as long, so bytes are collected first.
struct Sum {
    hasher: Hasher,
    gathered: [u8; GATHERED],
    /// The number of collected bytes.
    length: usize,
}

/// The most bytes that are collected. A row without its payload is seldom longer.
const GATHERED: usize = 256;

impl Sum {
    fn of(table: &str) -> Self {
        let mut sum = Self { hasher: Hasher::new(), gathered: [0; GATHERED], length: 0 };
        sum.gather(table.as_bytes());
        sum
    }

    fn gather(&mut self, bytes: &[u8]) {
        if self.length + bytes.len() > GATHERED {
            self.hasher.update(&self.gathered[..self.length]);
            self.length = 0;
        }
        match self.gathered.get_mut(self.length..self.length + bytes.len()) {
            Some(place) => {
                place.copy_from_slice(bytes);
                self.length += bytes.len();
            }
            None => self.hasher.update(bytes),
        }
    }

    fn add(&mut self, value: &ToSqlOutput<'_>) {
        match value {
            ToSqlOutput::Borrowed(value) => self.add_ref(*value),
            ToSqlOutput::Owned(value) => self.add_ref(ValueRef::from(value)),
            _ => unreachable!("the engine is built without other kinds of values"),
        }
    }

    /// Adds the type, the length and the content of a value, so that no two different rows yield the same input.
    fn add_ref(&mut self, value: ValueRef<'_>) {
        let (kind, number, bytes) = match value {
            ValueRef::Null => (0, 0, &[][..]),
            ValueRef::Integer(number) => (1, number.cast_unsigned(), &[][..]),
            ValueRef::Real(number) => (2, number.to_bits(), &[][..]),
            ValueRef::Text(bytes) => (3, bytes.len() as u64, bytes),
            ValueRef::Blob(bytes) => (4, bytes.len() as u64, bytes),
        };
        let mut head = [kind; 9];
        head[1..].copy_from_slice(&number.to_le_bytes());
        self.gather(&head);
        self.gather(bytes);
    }

    /// Returns the checksum with a sign, which takes fewer bytes in a row.
    fn value(mut self) -> i32 {
        self.hasher.update(&self.gathered[..self.length]);
        self.hasher.finalize().cast_signed()
    }
}

/// Copies all rows from a table with the same columns but without checksums, which are computed here.
pub(super) fn copy(connection: &Connection, from: &str, table: &Table) -> rusqlite::Result<()> {
    let of_old =
        |column: &&str| if *column == PAYLOAD_SUM { "payload".to_owned() } else { (*column).to_owned() };
    let all: Vec<&str> = [table.columns, table.apart].concat();
    let old: Vec<String> = all.iter().map(of_old).collect();
    let mut statement = connection.prepare(&format!("SELECT {} FROM {from}", old.join(", ")))?;
    let mut rows = statement.query(())?;
    while let Some(row) = rows.next()? {
        let mut values = Vec::with_capacity(all.len());
        for (place, column) in all.iter().enumerate() {
            let value = row.get_ref(place)?;
            values.push(match value {
                ValueRef::Blob(payload) if *column == PAYLOAD_SUM => {
                    ToSqlOutput::Owned(Value::Integer(i64::from(payload_sum(payload))))
                }
                value => ToSqlOutput::Borrowed(value),
            });
        }
        let values: Vec<&dyn ToSql> = values.iter().map(|value| value as &dyn ToSql).collect();
        table.put(connection, &values)?;
    }
    Ok(())
}
