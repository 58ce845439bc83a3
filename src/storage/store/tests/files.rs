//! Files with wrong permissions, owners, versions or contents.

#![expect(clippy::disallowed_methods, reason = "tests look at files")]

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;

use super::records::{message, portable, session, session_number, subscription};
use super::{CLOCKS, Directory, batch, open, opening};
use crate::base::time::{Duration, Time};
use crate::core::journal::{Owed, Record, Restored, StoredDelivery, StoredWill};
use crate::protocol::codec::PacketIdentifier;
use crate::settings::OnDamage;
use crate::storage::store::tables::{self, Table};
use crate::storage::store::{OpenError, Store, StoreError};
use crate::storage::timeline::Clocks;

fn mode(path: &std::path::Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}

#[test]
fn only_the_broker_may_read_messages() {
    let directory = Directory::new();
    let mut store = directory.store();
    store.commit(&batch(vec![Record::Session(Box::new(session(1)))]), CLOCKS).expect("there is room");
    let journal = directory.0.join("store.db-wal");
    assert_eq!((mode(&directory.file()), mode(&journal)), (0o600, 0o600));
    drop(store);
    fs::set_permissions(directory.file(), fs::Permissions::from_mode(0o664)).expect("changed");
    drop(directory.store());
    assert_eq!(mode(&directory.file()), 0o660, "the group is the operator's decision");
}

#[test]
fn a_second_broker_is_refused() {
    let directory = Directory::new();
    let store = directory.store();
    let error = open(&directory.file()).expect_err("it is locked");
    assert!(matches!(error, OpenError::Locked(_)), "{error}");
    assert!(error.to_string().contains("is another broker running on it?"), "{error}");
    drop(store);
    drop(directory.store());
}

/// Passes the path of the file to the other process.
const FILE: &str = "BROOKLET_TEST_FILE";

#[test]
fn another_process_is_refused() {
    if let Some(path) = std::env::var_os(FILE) {
        let error = open(path.as_ref()).expect_err("it is locked");
        return assert!(matches!(error, OpenError::Locked(_)), "{error}");
    }
    let directory = Directory::new();
    let store = directory.store();
    let mut other = std::process::Command::new(std::env::current_exe().expect("it has a name"));
    let (_crate, module) = module_path!().split_once("::").expect("it is inside of the crate");
    other.args(["--exact", &format!("{module}::another_process_is_refused")]);
    let output = other.env(FILE, directory.file()).output().expect("it runs");
    let output = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.contains("1 passed"), "{output}");
    drop(store);
}

#[test]
fn an_unusable_directory_is_named() {
    let directory = Directory::new();
    let missing = directory.0.join("missing").join("store.db");
    let error = open(&missing).expect_err("there is no directory").to_string();
    assert!(error.contains("/missing: No such file or directory"), "{error}");
    assert!(error.contains("persistence_location"), "{error}");
    fs::write(directory.0.join("file"), "").expect("written");
    let error = open(&directory.0.join("file").join("store.db")).expect_err("it is no directory").to_string();
    assert!(error.contains("not a directory"), "{error}");
    fs::create_dir(directory.file()).expect("made");
    let error = open(&directory.file()).expect_err("it is a directory").to_string();
    assert!(error.contains("it is not a file"), "{error}");
}

#[test]
fn a_file_of_a_later_version_is_refused() {
    let directory = Directory::new();
    drop(directory.store());
    let connection = rusqlite::Connection::open(directory.file()).expect("opened");
    connection.pragma_update(None, "user_version", 99).expect("written");
    drop(connection);
    let before = fs::read(directory.file()).expect("read");
    let error = open(&directory.file()).expect_err("it is newer");
    assert!(matches!(error, OpenError::Newer { versions: (99, 3), .. }), "{error}");
    assert_eq!(fs::read(directory.file()).expect("read"), before);
}

#[test]
fn a_file_of_version_2_gets_the_table_that_it_lacks() {
    let directory = Directory::new();
    let retained = Record::Retained(portable("t", b"x", Time::NEVER));
    directory.store().commit(&batch(vec![retained]), CLOCKS).expect("there is room");
    let connection = rusqlite::Connection::open(directory.file()).expect("opened");
    connection.execute_batch("DROP TABLE owed; PRAGMA user_version = 2").expect("written");
    drop(connection);
    let owed = Owed { client_identifier: "local.b".to_owned(), topic: "t".to_owned() };
    directory.store().commit(&batch(vec![Record::Owed(owed)]), CLOCKS).expect("there is room");
    let mut kinds = Vec::new();
    let mut store = directory.store();
    store.load(Time::ZERO, |restored| kinds.push(format!("{restored:?}"))).expect("it can be read");
    assert!(
        kinds.len() == 2 && kinds[0].starts_with("Owed") && kinds[1].starts_with("Retained"),
        "{kinds:?}"
    );
}

#[test]
fn a_file_of_another_program_is_left_alone() {
    let directory = Directory::new();
    let setting_aside = opening(OnDamage::SetAside, CLOCKS);
    let of_mosquitto = [b"\x00\xB5\x00mosquitto db".as_slice(), &[0; 5000]].concat();
    fs::write(directory.file(), &of_mosquitto).expect("written");
    let error = Store::open(&directory.file(), setting_aside.clone()).expect_err("it is mosquitto's");
    assert!(matches!(error, OpenError::Foreign(..)), "{error}");
    assert!(error.to_string().contains("brooklet import"), "{error}");
    assert_eq!(fs::read(directory.file()).expect("read"), of_mosquitto);

    fs::remove_file(directory.file()).expect("removed");
    let connection = rusqlite::Connection::open(directory.file()).expect("opened");
    connection.execute_batch("CREATE TABLE theirs (a)").expect("written");
    drop(connection);
    let before = fs::read(directory.file()).expect("read");
    let error = Store::open(&directory.file(), setting_aside).expect_err("it is another program's");
    assert!(matches!(error, OpenError::Foreign(..)), "{error}");
    assert_eq!(fs::read(directory.file()).expect("read"), before);
}

#[test]
fn a_damaged_file_is_refused_or_set_aside() {
    let directory = Directory::new();
    fs::write(directory.file(), [b'x'; 5000]).expect("written");
    let error = open(&directory.file()).expect_err("it is damaged");
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("persistence_damaged set_aside"), "{error}");
    assert_eq!(fs::read(directory.file()).expect("read"), [b'x'; 5000]);

    fs::write(directory.0.join("store.db.damaged-5"), "an older one").expect("written");
    let store = Store::open(&directory.file(), opening(OnDamage::SetAside, Clocks { wall: 5, ..CLOCKS }));
    let store = store.expect("the damaged one is out of the way");
    let aside = directory.0.join("store.db.damaged-5-1");
    assert_eq!(store.was_set_aside(), Some(aside.as_path()));
    assert_eq!(fs::read(aside).expect("read"), [b'x'; 5000]);
    drop(store);
    assert_eq!(directory.store().was_set_aside(), None);
}

#[test]
fn damage_inside_is_found_when_it_is_loaded() {
    let directory = Directory::new();
    let mut store = directory.store();
    let records =
        (1..200).map(|number| Record::Retained(portable(&format!("t/{number}"), &[7; 500], Time::NEVER)));
    store.commit(&batch(records.collect()), CLOCKS).expect("there is room");
    drop(store);
    let mut bytes = fs::read(directory.file()).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle..middle + 8192].fill(0xFF);
    fs::write(directory.file(), &bytes).expect("written");
    let mut store = directory.store();
    let error = store.load(Time::ZERO, |_| {}).expect_err("it is damaged");
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    drop(store);
    let setting_aside = opening(OnDamage::SetAside, CLOCKS);
    let mut store =
        Store::open(&directory.file(), setting_aside.clone()).expect("the damaged one is out of the way");
    assert!(store.was_set_aside().is_some());
    store.load(Time::ZERO, |_| panic!("there is nothing in it")).expect("it is new");
    drop(store);
    let store = Store::open(&directory.file(), setting_aside).expect("nothing is wrong with it");
    assert_eq!(store.was_set_aside(), None);
}

/// Changes one row through SQLite, and its checksum accordingly.
fn change(path: &std::path::Path, table: &Table, change: &str) {
    let connection = rusqlite::Connection::open(path).expect("opened");
    let text = format!("UPDATE {} SET {change}", table.name);
    assert_eq!(connection.execute(&text, ()).expect("written"), 1, "{text}");
    let text = format!("CREATE TEMP TABLE changed AS SELECT * FROM {}", table.name);
    connection.execute_batch(&text).expect("written");
    tables::copy(&connection, "changed", table).expect("written");
}

#[test]
fn an_invalid_subscription_identifier_is_damage() {
    let filled = || {
        let directory = Directory::new();
        let mut store = directory.store();
        let records = vec![
            Record::Session(Box::new(session(1))),
            Record::Subscribed(session_number(1), subscription("a/#")),
            Record::Message(message(1, b"m", Time::NEVER, &[1])),
        ];
        store.commit(&batch(records), CLOCKS).expect("there is room");
        store.load(Time::ZERO, |_| {}).expect("nothing is wrong with it");
        directory
    };
    let directory = filled();
    change(&directory.file(), &tables::SUB, "identifier = 268435456");
    let error = directory.store().load(Time::ZERO, |_| {}).expect_err("it is damaged");
    assert!(error.to_string().contains("damaged"), "{error}");
    for damage in ["recipients = x'0109018080808001'", "recipients = x'01090100'"] {
        let directory = filled();
        change(&directory.file(), &tables::MSG, damage);
        let mut store = directory.store();
        let each = |restored| assert!(!matches!(restored, Restored::Waiting { .. }), "{damage}");
        store.load(Time::ZERO, each).expect("the rest can be read");
        assert_eq!(store.damaged(), 1, "{damage}");
    }
}

#[test]
fn a_full_disk_loses_nothing_and_is_over_when_there_is_room() {
    let directory = Directory::new();
    let mut store = directory.store();
    store.bound(40);
    let long = |number| Record::Message(message(number, &[7; 3000], Time::NEVER, &[1]));
    store.commit(&batch(vec![Record::Session(Box::new(session(1)))]), CLOCKS).expect("there is room");
    let mut written = 0;
    let full = loop {
        match store.commit(&batch(vec![long(written + 1), long(written + 2)]), CLOCKS) {
            Ok(()) => written += 2,
            Err(error) => break error,
        }
    };
    assert_eq!(full, StoreError::Full);
    let count = |store: &mut Store| {
        let mut count = 0;
        let each = |restored| count += u64::from(matches!(restored, Restored::Waiting { .. }));
        store.load(Time::ZERO, each).expect("it can be read");
        count
    };
    assert!(written > 10);
    assert_eq!(count(&mut store), written, "nothing of the batch that failed");
    store.bound(1000);
    store.commit(&batch(vec![long(written + 1), long(written + 2)]), CLOCKS).expect("there is room again");
    assert_eq!(count(&mut store), written + 2);
}

#[test]
fn reading_can_be_stopped_at_any_row() {
    let directory = Directory::new();
    let mut store = directory.store();
    let mut records: Vec<Record> = (1..4).map(|number| Record::Session(Box::new(session(number)))).collect();
    records.push(Record::Subscribed(session_number(1), subscription("a/#")));
    records.extend((1..4).map(|number| Record::Message(message(number, b"m", Time::NEVER, &[1]))));
    store.commit(&batch(records), CLOCKS).expect("there is room");
    for most in 1..8 {
        let mut count = 0;
        let outcome = store.load_until(Time::ZERO, |_| {
            count += 1;
            if count < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        assert_eq!((outcome.is_err(), count), (true, most));
    }
    store.load(Time::ZERO, |_| {}).expect("nothing is wrong with it");
}

/// An earlier version may have allowed the topic.
#[test]
fn a_message_whose_topic_is_no_longer_valid_is_left_out_and_removed() {
    let directory = Directory::new();
    let mut store = directory.store();
    let mut gone = session(1);
    gone.will = Some(StoredWill {
        message: message(9, b"w", Time::NEVER, &[1]).message,
        delay: Duration::ZERO,
        due: Time::NEVER,
    });
    let records = vec![
        Record::Session(Box::new(gone)),
        Record::Message(message(1, b"m", Time::NEVER, &[1])),
        Record::Message(message(2, b"n", Time::NEVER, &[1])),
        Record::Retained(message(3, b"r", Time::NEVER, &[1]).message),
        Record::Delivery(
            session_number(1),
            StoredDelivery {
                identifier: PacketIdentifier::FIRST,
                message: message(1, b"", Time::NEVER, &[1]).number,
                is_released: false,
            },
        ),
    ];
    store.commit(&batch(records), CLOCKS).expect("there is room");
    drop(store);
    change(&directory.file(), &tables::MSG, "topic = 'a' || char(1) WHERE id = 1");
    change(&directory.file(), &tables::RETAINED, "topic = 'a' || char(65535)");
    change(&directory.file(), &tables::SESSION, "topic = 'a/' || char(127)");
    let mut store = directory.store();
    for _ in 0..2 {
        let (mut told, mut has_will) = ([0; 4], false);
        let each = |restored| match restored {
            Restored::Session(session) => has_will |= session.will.is_some(),
            Restored::Waiting { .. } => told[0] += 1,
            Restored::Delivery(..) => told[1] += 1,
            Restored::Retained(_) => told[2] += 1,
            _ => told[3] += 1,
        };
        store.load(Time::ZERO, each).expect("the rest can be read");
        assert_eq!((told, has_will), ([2, 0, 0, 0], false));
    }
}
