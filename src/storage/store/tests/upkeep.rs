//! What the store looks after by itself: numbers are not given twice, and the file and the journal keep their size.

use std::fs;

use super::records::{message, message_number, portable, session, session_number};
use super::{CLOCKS, Directory, batch};
use crate::base::time::Time;
use crate::core::journal::Record;
use crate::storage::store::Pause;

#[test]
fn numbers_are_not_given_twice_even_if_their_rows_are_gone() {
    let directory = Directory::new();
    let mut store = directory.store();
    let next = store.next_numbers();
    assert_eq!((next.session.0.get(), next.message.0.get()), (1, 1));
    let settled =
        Record::Settled { message: message_number(10_000), session: session_number(5), is_last: true };
    let records = vec![
        Record::Session(Box::new(session(5))),
        Record::Message(message(10_000, b"", Time::NEVER, &[5])),
        settled,
        Record::SessionEnded { session: session_number(5), leaves_shared: false },
    ];
    store.commit(&batch(records), CLOCKS).expect("there is room");
    drop(store);
    let mut store = directory.store();
    let next = store.next_numbers();
    assert!(next.session > session_number(5) && next.message > message_number(10_000), "{next:?}");
    let loaded = store.load(Time::ZERO, |_| panic!("nothing is left")).expect("it can be read");
    assert_eq!(loaded, next);
}

/// Bytes of the file and of the journal.
fn sizes(directory: &Directory) -> (u64, u64) {
    let size = |path| fs::metadata(path).expect("it is there").len();
    (size(directory.file()), size(directory.0.join("store.db-wal")))
}

#[test]
fn the_journal_does_not_grow_for_ever() {
    let directory = Directory::new();
    let mut store = directory.store();
    for round in 0..40 {
        let retained = |number| portable(&format!("t/{number}"), &[round; 3000], Time::NEVER);
        let records = (0..200).map(|number| Record::Retained(retained(number))).collect();
        store.commit(&batch(records), CLOCKS).expect("there is room");
        store.checkpoint(Pause::BetweenBatches).expect("it can be written");
    }
    let (file, journal) = sizes(&directory);
    assert!(file > 200 * 3000, "it was brought into the file");
    assert!(journal < 2_000 * 4120, "{journal}");
    assert!(store.written().bytes > 40 * 200 * 4096);
}

#[test]
fn what_is_written_is_counted() {
    let directory = Directory::new();
    let mut store = directory.store();
    let mut before = store.written();
    assert_eq!((before.commits, before.bytes), (0, 0));
    for (commits, pages) in (1..).zip([300u64, 600, 1, 200]) {
        let number = |page| commits * 1000 + page;
        let records =
            (0..pages).map(|page| Record::Message(message(number(page), &[7; 3000], Time::NEVER, &[1])));
        store.commit(&batch(records.collect()), CLOCKS).expect("there is room");
        let written = store.written();
        let bytes = written.bytes - before.bytes;
        assert_eq!(written.commits, commits);
        assert!((pages * 4096..(pages + 20) * 4130).contains(&bytes), "{bytes} for {pages}");
        store.checkpoint(Pause::Idle).expect("it can be written");
        before = store.written();
    }
    store.reopen().expect("it can be opened again");
    store.commit(&batch(vec![Record::Session(Box::new(session(1)))]), CLOCKS).expect("there is room");
    let bytes = store.written().bytes - before.bytes;
    assert!((4096..20 * 4130).contains(&bytes), "{bytes}");
}

#[test]
fn unused_pages_are_given_back() {
    let directory = Directory::new();
    let mut store = directory.store();
    let records = (1..1500).map(|number| Record::Message(message(number, &[7; 3000], Time::NEVER, &[1])));
    store.commit(&batch(records.collect()), CLOCKS).expect("there is room");
    assert!(!store.vacuum_slice(Pause::Idle).expect("it can be written"), "all are used");
    let session = session_number(1);
    let settled = |number| Record::Settled { message: message_number(number), session, is_last: true };
    store.commit(&batch((1..1500).map(settled).collect()), CLOCKS).expect("there is room");
    store.checkpoint(Pause::Idle).expect("it can be written");
    let (before, _) = sizes(&directory);
    let mut slices = 1;
    while store.vacuum_slice(Pause::Idle).expect("it can be written") {
        slices += 1;
        assert!(slices < 20, "it comes to an end");
    }
    drop(store);
    let after = fs::metadata(directory.file()).expect("it is there").len();
    assert!(slices > 2, "not all at one time");
    assert!(before > 1400 * 4096 && after < 300 * 4096, "{before} {after}");
}
