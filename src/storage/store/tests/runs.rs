//! Records that are written together leave what they leave one by one.

use std::collections::BTreeSet;

use crc32fast::Hasher;
use rusqlite::Connection;
use rusqlite::types::{ToSqlOutput, Value, ValueRef};

use super::records::{identifier, message, message_number, session, session_number};
use super::{CLOCKS, Directory, batch};
use crate::base::time::Time;
use crate::core::journal::{Record, StoredDelivery};
use crate::storage::store::tables::{self, payload_sum};

/// More than are written in one go.
const COUNT: u16 = 200;

/// Exchanges in both directions of two sessions, and messages to one of them or both.
fn begun() -> Vec<Record> {
    let mut records: Vec<Record> =
        [1, 2].into_iter().map(|number| Record::Session(Box::new(session(number)))).collect();
    for count in 1..=COUNT {
        let sessions: &[u64] = if count.is_multiple_of(3) { &[1, 2] } else { &[1] };
        records.push(Record::Message(message(count.into(), b"payload", Time::NEVER, sessions)));
    }
    for (of, count) in [1, 2].into_iter().flat_map(|of| (1..=COUNT).map(move |count| (of, count))) {
        let delivery = StoredDelivery {
            identifier: identifier(count),
            message: message_number(count.into()),
            is_released: true,
        };
        records.push(Record::Delivery(session_number(of), delivery));
        records.push(Record::Received(session_number(of), identifier(count)));
    }
    records
}

/// Most of it is over: in order, backwards, with gaps, and from one session to the next.
fn ended() -> Vec<Record> {
    let up = (2..=COUNT - 1).filter(|count| *count != 77);
    let mut records = Vec::new();
    records.extend(up.clone().map(|count| Record::Completed(session_number(1), identifier(count))));
    records.extend((78..90).map(|count| Record::Completed(session_number(2), identifier(count))));
    records.extend((78..90).map(|count| Record::Released(session_number(2), identifier(count))));
    records.extend((90..100).rev().map(|count| Record::Released(session_number(2), identifier(count))));
    records.extend(up.clone().map(|count| Record::Released(session_number(1), identifier(count))));
    records.push(Record::Completed(session_number(1), identifier(u16::MAX)));
    for count in up {
        // Of those for both, the second needs some longer, and the first others.
        let of = if count.is_multiple_of(2) { 1 } else { 2 };
        let stays = count.is_multiple_of(15);
        let (message, session) = (message_number(count.into()), session_number(of));
        records.push(Record::Settled { message, session, is_last: !stays });
    }
    records
}

/// All rows of the tables that messages are in.
fn rows(directory: &Directory) -> Vec<String> {
    let connection = Connection::open(directory.file()).expect("opened");
    let mut rows = Vec::new();
    for table in ["msg", "done", "in2", "out2"] {
        let mut statement = connection.prepare(&format!("SELECT * FROM {table}")).expect("a table");
        let columns = statement.column_count();
        let row = |row: &rusqlite::Row<'_>| (0..columns).map(|place| row.get(place)).collect();
        let found = statement.query_map((), row).expect("rows");
        rows.extend(
            found.map(|row: rusqlite::Result<Vec<Value>>| format!("{table} {:?}", row.expect("a row"))),
        );
    }
    rows
}

#[test]
fn what_is_over_goes_in_runs_as_one_by_one() {
    let [together, alone] = [Directory::new(), Directory::new()];
    let mut store = together.store();
    store.commit(&batch(begun()), CLOCKS).expect("written");
    drop(store);
    let all = rows(&together);
    let mut store = together.store();
    store.commit(&batch(ended()), CLOCKS).expect("written");
    drop(store);
    let mut store = alone.store();
    store.commit(&batch(begun()), CLOCKS).expect("written");
    for record in ended() {
        store.commit(&batch(vec![record]), CLOCKS).expect("written");
    }
    drop(store);
    let left = rows(&together);
    assert_eq!(left, rows(&alone));
    let tables: BTreeSet<&str> = left.iter().filter_map(|row| row.split(' ').next()).collect();
    assert_eq!(tables.len(), 4, "something is left in each of them");
    assert!(left.len() < all.len());
}

/// What is summed up in pieces is summed up as a whole.
#[test]
fn the_sum_of_a_payload_is_that_of_its_bytes() {
    for length in [0, 1, 200, 230, 231, 232, 233, 239, 240, 241, 256, 257, 1_000, 70_000] {
        let payload: Vec<u8> = (0..=250).cycle().take(length).collect();
        let mut whole = Hasher::new();
        whole.update(b"payload");
        whole.update(&[4]);
        whole.update(&(length as u64).to_le_bytes());
        whole.update(&payload);
        assert_eq!(payload_sum(&payload), whole.finalize().cast_signed(), "{length}");
        let values =
            [ValueRef::Integer(7), ValueRef::Blob(&payload), ValueRef::Null, ValueRef::Blob(&payload)];
        let mut whole = Hasher::new();
        whole.update(b"msg");
        for value in values {
            let (kind, number, bytes) = match value {
                ValueRef::Integer(number) => (1, number.cast_unsigned(), &[][..]),
                ValueRef::Blob(bytes) => (4, bytes.len() as u64, bytes),
                _ => (0, 0, &[][..]),
            };
            whole.update(&[kind]);
            whole.update(&number.to_le_bytes());
            whole.update(bytes);
        }
        let values = values.map(ToSqlOutput::Borrowed);
        let values: Vec<&dyn rusqlite::ToSql> =
            values.iter().map(|value| value as &dyn rusqlite::ToSql).collect();
        assert_eq!(tables::MSG.sum(&values).expect("a sum"), whole.finalize().cast_signed(), "{length}");
    }
}
