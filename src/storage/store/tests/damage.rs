//! Damage costs one row, or prevents the start. Damaged content is never handed out.

#![expect(clippy::disallowed_methods, reason = "tests look at files")]

use std::fs;
use std::path::Path;

use super::records::{identifier, message, message_number, portable, session, session_number, subscription};
use super::{CLOCKS, Directory, batch, open};
use crate::base::time::{Duration, Time};
use crate::core::journal::{Fetch, Owed, Record, Restored, StoredDelivery, StoredWill};
use crate::storage::store::{OpenError, Store, StoreError, Wanted, tables, wal};

/// Two sessions, and rows in every table.
fn records() -> Vec<Record> {
    let mut willing = session(2);
    let message_of_will = message(9, b"w", Time::NEVER, &[1]).message;
    willing.will = Some(StoredWill { message: message_of_will, delay: Duration::ZERO, due: Time::NEVER });
    let delivery = |packet, number, is_released| StoredDelivery {
        identifier: identifier(packet),
        message: message_number(number),
        is_released,
    };
    vec![
        Record::Session(Box::new(session(1))),
        Record::Session(Box::new(willing)),
        Record::Session(Box::new(session(3))),
        Record::SessionEnded { session: session_number(3), leaves_shared: true },
        Record::Subscribed(session_number(1), subscription("a/#")),
        Record::Subscribed(session_number(2), subscription("b/#")),
        Record::Message(message(1, b"one", Time::NEVER, &[1, 2])),
        Record::Message(message(2, &[7; 9_000], Time::NEVER, &[1])),
        Record::Message(message(3, b"three", Time::NEVER, &[1, 2])),
        Record::Settled { message: message_number(3), session: session_number(2), is_last: false },
        Record::Begun { message: message_number(2), session: session_number(1), identifier: identifier(9) },
        Record::Received(session_number(1), identifier(5)),
        Record::Delivery(session_number(2), delivery(6, 1, false)),
        Record::Delivery(session_number(1), delivery(7, 3, true)),
        Record::Retained(portable("r/1", b"first", Time::NEVER)),
        Record::Retained(portable("r/2", &[8; 9_000], Time::NEVER)),
        Record::Owed(Owed { client_identifier: "local.b".to_owned(), topic: "r/3".to_owned() }),
    ]
}

fn filled() -> Directory {
    let directory = Directory::new();
    directory.store().commit(&batch(records()), CLOCKS).expect("there is room");
    directory
}

/// Changes the file through SQLite.
fn change(path: &Path, text: &str) {
    let connection = rusqlite::Connection::open(path).expect("opened");
    connection.execute_batch(text).expect("written");
}

/// Whether a page is a leaf with messages that have long payloads.
fn holds_messages(page: &[u8]) -> bool {
    page[0] == 13 && page.windows(400).any(|bytes| bytes == [7; 400])
}

/// Returns the position of the first page with such messages.
fn first_page_of_messages(bytes: &[u8]) -> usize {
    bytes.chunks(4096).position(holds_messages).expect("there are messages") * 4096
}

/// Returns all that is handed out, in words and including messages that are read later, and how many rows were
/// damaged. Does not count what the check of the file's structure has reported.
fn all(store: &mut Store) -> Result<(Vec<String>, u64), OpenError> {
    let (mut words, mut wanted, before) = (Vec::new(), Wanted::default(), store.damaged());
    store.load(Time::ZERO, |restored| {
        if let Restored::Waiting { message, sessions, .. } = &restored {
            sessions.iter().for_each(|&session| wanted.add(Fetch { session, messages: vec![*message] }));
        } else {
            words.push(format!("{restored:?}"));
        }
    })?;
    while !wanted.is_empty() {
        let pages = match store.read(&mut wanted, Time::ZERO, || false) {
            Err(StoreError::Damaged(why)) => store.give_up(&mut wanted, &why),
            pages => pages.expect("it can be read"),
        };
        for page in pages.pages {
            for copy in page.copies {
                if let Some((place, form)) = copy.found {
                    words.push(format!(
                        "{:?} {:?} {form:?} {:?}",
                        page.session, copy.number, pages.messages[place]
                    ));
                }
            }
        }
    }
    words.sort();
    Ok((words, store.damaged() - before))
}

#[test]
fn every_column_is_covered_by_the_checksum_of_its_row() {
    let (columns, sound) = (columns(), all(&mut filled().store()).expect("it is sound"));
    assert_eq!((columns.len(), sound.1), (71, 0), "{columns:?}");
    for (table, column) in columns {
        // Values of another type, and other values of the same type.
        for value in [
            format!("CAST({column} || 'x' AS BLOB)"),
            format!("substr({column}, 2)"),
            format!("ifnull({column}, 0) + 1"),
        ] {
            let directory = filled();
            let text = format!("UPDATE {table} SET {column} = {value} WHERE rowid_or_key");
            let key = if matches!(table, "msg" | "session" | "retained") { "id = 1" } else { "1" };
            let connection = rusqlite::Connection::open(directory.file()).expect("opened");
            // SQLite refuses values that the column does not allow.
            let text = text.replace("rowid_or_key", key);
            let is_changed = connection.execute_batch(&text).is_ok();
            drop(connection);
            if !is_changed || is_same(&directory, table) {
                continue;
            }
            let outcome = open(&directory.file()).and_then(|mut store| all(&mut store));
            let is_strict = matches!(table, "meta" | "listener" | "timeline" | "former" | "session" | "sub");
            match outcome {
                Err(OpenError::Damaged { .. }) => assert!(is_strict, "{text}"),
                Err(error) => panic!("{text}: {error}"),
                Ok((words, damaged)) => {
                    assert!(!is_strict && damaged > 0, "{text}: {damaged}");
                    let foreign: Vec<_> = words.iter().filter(|word| !sound.0.contains(word)).collect();
                    // A message that was settled or in flight may come again as a whole.
                    let is_note = matches!(table, "done" | "out2");
                    assert!(
                        foreign.iter().all(|word| is_note && word.contains("Portable")),
                        "{text}: {foreign:?}"
                    );
                    // Reported rows have been removed.
                    let again = all(&mut directory.store()).expect("it can be read");
                    assert_eq!(again, (words, 0), "{text}");
                }
            }
        }
    }
}

/// Every column of every table, except checksums and a column without meaning.
fn columns() -> Vec<(&'static str, String)> {
    let directory = filled();
    let connection = rusqlite::Connection::open(directory.file()).expect("opened");
    let mut all = Vec::new();
    for table in tables::of_version_1().into_iter().chain([
        &*tables::LISTENER,
        &*tables::TIMELINE,
        &*tables::FORMER,
        &*tables::OWED,
    ]) {
        let mut statement =
            connection.prepare(&format!("PRAGMA table_info({})", table.name)).expect("a statement");
        let names: Vec<String> =
            statement.query_map((), |row| row.get(1)).expect("rows").map(Result::unwrap).collect();
        let known: Vec<&str> = [table.columns, table.apart, &["sum"]].concat();
        let unknown = |name: &&String| {
            !known.contains(&name.as_str()) && (table.name, name.as_str()) != ("retained", "id")
        };
        assert_eq!(names.iter().find(unknown), None, "a column of {} that is in no sum", table.name);
        all.extend(
            names.into_iter().filter(|name| known.contains(&name.as_str())).map(|name| (table.name, name)),
        );
    }
    all
}

/// Whether a table is unchanged.
fn is_same(directory: &Directory, table: &str) -> bool {
    let rows = |directory: &Directory| {
        let connection = rusqlite::Connection::open(directory.file()).expect("opened");
        let mut statement = connection.prepare(&format!("SELECT * FROM {table}")).expect("a statement");
        let count = statement.column_count();
        let row = |row: &rusqlite::Row<'_>| {
            (0..count)
                .map(|column| row.get::<_, rusqlite::types::Value>(column))
                .collect::<Result<Vec<_>, _>>()
        };
        statement.query_map((), row).expect("rows").map(Result::unwrap).collect::<Vec<_>>()
    };
    rows(directory) == rows(&filled())
}

#[test]
fn a_flipped_bit_in_a_payload_costs_one_message() {
    let directory = filled();
    let mut bytes = fs::read(directory.file()).expect("read");
    let place = bytes.windows(3_000).position(|bytes| bytes == [7; 3_000]).expect("it is there");
    bytes[place + 1_000] ^= 4;
    fs::write(directory.file(), bytes).expect("written");
    let sound = all(&mut filled().store()).expect("it is sound").0;
    let mut store = directory.store();
    let (words, damaged) = all(&mut store).expect("it can be read");
    assert_eq!((sound.len() - words.len(), damaged), (1, 1));
    assert!(words.iter().all(|word| sound.contains(word)));
    // Its only client no longer needs it.
    let settled = Record::Settled { message: message_number(2), session: session_number(1), is_last: true };
    store.commit(&batch(vec![settled]), CLOCKS).expect("there is room");
    drop(store);
    assert_eq!(all(&mut directory.store()).expect("it can be read"), (words, 0));
}

#[test]
fn a_message_whose_row_cannot_be_removed_is_lost_once() {
    let directory = filled();
    let mut bytes = fs::read(directory.file()).expect("read");
    // The pointer to the rest of the payload follows its beginning.
    let leaf = first_page_of_messages(&bytes);
    let beginning = bytes[leaf..].windows(400).position(|bytes| bytes == [7; 400]).expect("it is there");
    let length = bytes[leaf + beginning..].iter().take_while(|byte| **byte == 7).count();
    bytes[leaf + beginning + length..][..4].fill(0x7F);
    fs::write(directory.file(), bytes).expect("written");
    let mut store = directory.store();
    let (words, damaged) = all(&mut store).expect("it can be read");
    assert_eq!(damaged, 1);
    let settled = Record::Settled { message: message_number(2), session: session_number(1), is_last: true };
    let other = Record::Message(message(4, b"four", Time::NEVER, &[1]));
    let records = batch(vec![other, settled]);
    store.commit(&records, CLOCKS).expect_err("it cannot be removed");
    store.reopen().expect("opened");
    store.commit(&records, CLOCKS).expect("the rest can be written");
    drop(store);
    for _ in 0..2 {
        let (again, damaged) = all(&mut directory.store()).expect("it can be read");
        assert_eq!((again.len(), damaged), (words.len() + 1, 0), "it is settled");
    }
}

/// The next message retained on its topic would have to replace it and would end the broker, each time.
#[test]
fn a_retained_message_whose_row_cannot_be_removed_prevents_the_start() {
    let directory = filled();
    let mut bytes = fs::read(directory.file()).expect("read");
    let leaf =
        bytes.chunks(4096).position(|page| page[0] == 13 && page.windows(400).any(|bytes| bytes == [8; 400]));
    let leaf = leaf.expect("the row is in a page") * 4096;
    let beginning = bytes[leaf..].windows(400).position(|bytes| bytes == [8; 400]).expect("it is there");
    let length = bytes[leaf + beginning..].iter().take_while(|byte| **byte == 8).count();
    bytes[leaf + beginning + length..][..4].fill(0x7F);
    fs::write(directory.file(), bytes).expect("written");
    for _ in 0..2 {
        let error = all(&mut directory.store()).expect_err("it is damaged").to_string();
        assert!(error.contains("a page of retained messages cannot be read"), "{error}");
    }
}

#[test]
fn an_index_that_does_not_agree_is_rebuilt() {
    for damage in ["topic = 'r/3'", "topic = 'r/2'"] {
        let directory = filled();
        change(
            &directory.file(),
            "PRAGMA writable_schema = ON; CREATE TABLE other (id INTEGER PRIMARY KEY, topic TEXT UNIQUE); \
             INSERT INTO other SELECT id, topic FROM retained;",
        );
        change(
            &directory.file(),
            &format!("DELETE FROM other WHERE {damage}; INSERT INTO other (topic) VALUES ('r/4')"),
        );
        change(
            &directory.file(),
            "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET rootpage = \
             (SELECT rootpage FROM sqlite_schema WHERE name = 'sqlite_autoindex_other_1') \
             WHERE name = 'sqlite_autoindex_retained_1'; DELETE FROM sqlite_schema WHERE tbl_name = 'other'",
        );
        let sound = all(&mut filled().store()).expect("it is sound").0;
        let mut store = directory.store();
        assert_eq!(all(&mut store).expect("it can be read"), (sound.clone(), 1), "{damage}");
        store.commit(&batch(vec![Record::Cleared("r/2".to_owned())]), CLOCKS).expect("there is room");
        drop(store);
        let (words, damaged) = all(&mut directory.store()).expect("it can be read");
        assert_eq!((words.len(), damaged), (sound.len() - 1, 0), "{damage}");
    }
}

/// A bit flipped within the page has this effect: its rows keep their places.
#[test]
fn a_number_that_another_message_has_costs_one_message() {
    let sound = all(&mut filled().store()).expect("it is sound").0;
    for number in [0, 2, 3] {
        let directory = filled();
        let mut bytes = fs::read(directory.file()).expect("read");
        let leaf = first_page_of_messages(&bytes);
        // The first row: one byte for its length, then its number.
        let row = leaf + usize::from(u16::from_be_bytes([bytes[leaf + 8], bytes[leaf + 9]]));
        assert!(bytes[row] < 0x80 && bytes[row + 1] == 1);
        bytes[row + 1] = number;
        fs::write(directory.file(), bytes).expect("written");
        let (words, damaged) = all(&mut directory.store()).expect("it can be read");
        let lost: Vec<_> = sound.iter().filter(|word| !words.contains(word)).collect();
        assert!(
            lost.iter().all(|word| word.contains("MessageNumber(1)")) && lost.len() == 2,
            "{number}: {lost:?}"
        );
        assert_eq!((words.len() + lost.len(), damaged), (sound.len(), 1), "{number}");
        assert_eq!(all(&mut directory.store()).expect("it can be read"), (words, 0), "{number}");
    }
}

#[test]
fn a_page_that_has_lost_rows_is_reported() {
    let directory = filled();
    let mut bytes = fs::read(directory.file()).expect("read");
    // The number of rows in the page.
    let count = first_page_of_messages(&bytes) + 4;
    bytes[count] -= 1;
    fs::write(directory.file(), bytes).expect("written");
    assert_eq!(directory.store().damaged(), 1);
}

#[test]
fn pages_that_were_swapped_are_damage() {
    let directory = Directory::new();
    let mut store = directory.store();
    let mut records = vec![Record::Session(Box::new(session(1)))];
    records.extend((1..100).map(|number| Record::Message(message(number, &[7; 500], Time::NEVER, &[1]))));
    store.commit(&batch(records), CLOCKS).expect("there is room");
    drop(store);
    let bytes = fs::read(directory.file()).expect("read");
    let pages: Vec<usize> = bytes
        .chunks(4096)
        .enumerate()
        .filter(|(_, page)| holds_messages(page))
        .map(|(place, _)| place)
        .collect();
    assert!(pages.len() > 5);
    let mut swapped = bytes.clone();
    let page = |place: usize| place * 4096..(place + 1) * 4096;
    swapped[page(pages[1])].copy_from_slice(&bytes[page(pages[3])]);
    swapped[page(pages[3])].copy_from_slice(&bytes[page(pages[1])]);
    fs::write(directory.file(), swapped).expect("written");
    let error = directory.store().load(Time::ZERO, |_| {}).expect_err("it is damaged");
    assert!(error.to_string().contains("out of order"), "{error}");
}

/// Its messages would seem to belong to a session that has ended.
#[test]
fn a_missing_session_prevents_the_start() {
    let directory = filled();
    change(&directory.file(), "DELETE FROM session WHERE id = 1");
    let kept = || {
        let connection = rusqlite::Connection::open(directory.file()).expect("opened");
        connection.query_row("SELECT count(*) FROM msg", (), |row| row.get::<_, i64>(0)).expect("read")
    };
    let before = kept();
    for _ in 0..2 {
        let error = all(&mut directory.store()).expect_err("it is damaged").to_string();
        assert!(error.contains("the session of a subscription to 'a/#' is missing"), "{error}");
    }
    assert_eq!(kept(), before, "nothing is forgotten");
    // Without a subscription, only the rows of QoS 2 messages refer to it. They are reported once.
    change(&directory.file(), "DELETE FROM sub WHERE session = 1");
    let (_, damaged) = all(&mut directory.store()).expect("it can be read");
    assert_eq!(damaged, 2, "a message that has arrived, one in flight");
    assert_eq!(all(&mut directory.store()).expect("it can be read").1, 0);
}

#[test]
fn damage_to_the_layout_is_reported_with_advice() {
    for damage in [
        "PRAGMA user_version = 0",
        "PRAGMA user_version = -2",
        "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, 'topic', 'topib') \
         WHERE name = 'msg'",
        "DROP TABLE done",
    ] {
        let directory = filled();
        change(&directory.file(), damage);
        let error = open(&directory.file()).and_then(|mut store| all(&mut store)).expect_err("it is damaged");
        assert!(matches!(error, OpenError::Damaged { .. }), "{damage}: {error}");
    }
}

/// The files of a broker that was killed: a journal of several commits, each of one message.
fn killed() -> Directory {
    let (running, directory) = (Directory::new(), Directory::new());
    let mut store = running.store();
    store.commit(&batch(vec![Record::Session(Box::new(session(1)))]), CLOCKS).expect("there is room");
    store.reopen().expect("opened");
    for number in 1..=5 {
        let records = vec![Record::Message(message(number, &[7; 6_000], Time::NEVER, &[1]))];
        store.commit(&batch(records), CLOCKS).expect("there is room");
    }
    for ending in ["", "-wal"] {
        let name = |directory: &Directory| format!("{}{ending}", directory.file().display());
        fs::copy(name(&running), name(&directory)).expect("it can be copied");
    }
    directory
}

#[test]
fn commits_after_damage_in_the_journal_are_counted_and_a_torn_end_is_no_damage() {
    let journal = |directory: &Directory| directory.0.join("store.db-wal");
    let sound = fs::read(journal(&killed())).expect("read");
    let frames = (sound.len() - 32) / 4120;
    let frame = |place: usize| 32 + place * 4120;
    let commits: Vec<usize> =
        (0..frames).filter(|&place| sound[frame(place) + 4..frame(place) + 8] != [0; 4]).collect();
    assert_eq!(commits.len(), 5);
    // Damage in the last transaction looks like a torn write.
    let torn = commits[3] + 1;
    for place in 0..frames {
        for byte in [2, 10, 20, 1_000] {
            let directory = killed();
            let mut bytes = sound.clone();
            bytes[frame(place) + byte] ^= 16;
            fs::write(journal(&directory), bytes).expect("written");
            let mut store = directory.store();
            let found = store.severed();
            assert_eq!(found.commits > 0, place < torn, "frame {place}, byte {byte}: {found:?}");
            let (words, _) = all(&mut store).expect("it can be read");
            let lost = 5 - u64::try_from(words.len() - 1).expect("a session and messages");
            assert!(found.commits < lost, "frame {place}, byte {byte}: {found:?}");
            drop(store);
            assert_eq!(directory.store().severed().commits, 0, "it is reported once");
        }
    }
    for byte in 0..32 {
        let directory = killed();
        let mut bytes = sound.clone();
        bytes[byte] ^= 16;
        fs::write(journal(&directory), bytes).expect("written");
        // The checkpoint number is covered by the checksum, and the lowest bit of the magic number is not flipped
        // here.
        assert_eq!(directory.store().severed().commits, 4, "byte {byte} of the header");
    }
    for length in (0..sound.len()).step_by(5_000) {
        let directory = killed();
        fs::write(journal(&directory), &sound[..length]).expect("written");
        assert_eq!(directory.store().severed(), Default::default(), "what is cut off is not there: {length}");
    }
}

#[test]
fn remains_of_earlier_transactions_are_no_damage() {
    let directory = killed();
    let journal = directory.0.join("store.db-wal");
    let sound = fs::read(&journal).expect("read");
    // A torn end, overwritten in part by a shorter transaction, which is torn as well.
    let mut torn = sound.clone();
    let last = sound.len() - 3 * 4120;
    torn[last + 24..last + 600].fill(0);
    fs::write(&journal, &torn).expect("written");
    let mut store = directory.store();
    let records = vec![Record::Received(session_number(1), identifier(1))];
    store.commit(&batch(records), CLOCKS).expect("there is room");
    let mut again = fs::read(&journal).expect("read");
    drop(store);
    assert!(again.len() >= sound.len());
    assert!(wal::severed(&journal).commits == 0, "it is gone");
    again[last + 24..last + 600].fill(0);
    let other = killed();
    fs::write(other.0.join("store.db-wal"), again).expect("written");
    assert_eq!(other.store().severed(), Default::default());
}

#[test]
fn a_file_that_is_removed_or_replaced_is_noticed() {
    for ending in ["", "-wal"] {
        let directory = filled();
        let store = directory.store();
        let path = std::path::PathBuf::from(format!("{}{ending}", directory.file().display()));
        store.check_place().expect("it is there");
        let other = directory.0.join("other");
        fs::copy(&path, &other).expect("copied");
        fs::rename(&path, directory.0.join("away")).expect("renamed");
        assert_eq!(store.check_place(), Err(StoreError::Lost(path.clone())));
        fs::rename(other, &path).expect("renamed");
        assert_eq!(store.check_place(), Err(StoreError::Lost(path.clone())), "it is another one");
        fs::rename(directory.0.join("away"), &path).expect("renamed");
        store.check_place().expect("it is the same");
    }
}

/// SQLite puts its journal next to the target of a link, and so does the store with its own files.
#[test]
fn a_store_opened_through_a_link_is_where_the_link_leads() {
    let (directory, links) = (filled(), Directory::new());
    std::os::unix::fs::symlink(directory.file(), links.file()).expect("a link can be made");
    let mut store = open(&links.file()).expect("it is sound");
    assert_eq!(store.path(), directory.file().canonicalize().expect("it is there"));
    store.restore_ballast().expect("there is room");
    drop(store);
    assert!(directory.0.join("store.db.ballast").exists());
    fs::write(directory.file(), [7; 9_000]).expect("written");
    let opening = super::opening(crate::settings::OnDamage::SetAside, CLOCKS);
    let store = Store::open(&links.file(), opening).expect("it is set aside");
    let aside = store.was_set_aside().expect("it was damaged").to_owned();
    assert!(aside.starts_with(directory.0.canonicalize().expect("it is there")) && links.file().is_symlink());
    drop(store);
    assert!(
        !directory.file().is_symlink()
            && fs::read(directory.file()).is_ok_and(|bytes| bytes[..6] == *b"SQLite")
    );
}
