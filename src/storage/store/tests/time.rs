//! Times continue through restarts, whatever the clocks show.

#![expect(clippy::disallowed_methods, reason = "files are what is tested")]

use std::fs;

use super::records::{message, portable, session};
use super::{CLOCKS, Directory, WALL, batch, opening};
use crate::base::time::{Duration, Time};
use crate::core::journal::{Batch, Record, Restored, StoredPresence, StoredWill};
use crate::settings::OnDamage;
use crate::storage::store::{OpenError, Store, StoreError};
use crate::storage::timeline::{Boot, Clocks, Doubt};

const HOUR: u64 = 60 * 60 * 1000;

/// The clocks of a machine that has been restarted.
fn started(boot: u128, wall: u64) -> Clocks {
    let boot = Some(Boot { id: boot, uptime: Time::from_milliseconds(20) });
    Clocks { now: Time::ZERO, boot, wall }
}

/// The clocks of the same machine, after this time.
fn later(clocks: Clocks, time: u64) -> Clocks {
    let time = Duration::from_milliseconds(time);
    let boot = clocks.boot.map(|boot| Boot { uptime: boot.uptime + time, ..boot });
    Clocks { now: clocks.now + time, boot, wall: clocks.wall + time.milliseconds() }
}

fn open(directory: &Directory, clocks: Clocks) -> Store {
    Store::open(&directory.file(), opening(OnDamage::Refuse, clocks)).expect("it can be opened")
}

/// A session that ends, a Will that is due, a message and a retained message that expire, all in an hour.
fn records(now: Time) -> Vec<Record> {
    let then = now + Duration::from_milliseconds(HOUR);
    let mut made = session(1);
    made.expiry_interval = 3600;
    made.presence = StoredPresence::Away { ends: then, sent_until: None };
    let will = portable("will", b"w", Time::NEVER);
    made.will = Some(StoredWill { message: will, delay: Duration::from_milliseconds(HOUR), due: then });
    vec![
        Record::Session(Box::new(made)),
        Record::Message(message(1, b"m", then, &[1])),
        Record::Retained(portable("r", b"r", then)),
    ]
}

/// When each of them ends, in the order of the records; `None` if it is missing.
fn ends(store: &mut Store, now: Time) -> [Option<Time>; 4] {
    let mut ends = [None; 4];
    let restore = |restored| match restored {
        Restored::Session(session) => {
            if let StoredPresence::Away { ends: end, .. } = session.presence {
                ends[0] = Some(end);
            }
            ends[1] = session.will.map(|will| will.due);
        }
        Restored::Waiting { expires, .. } => ends[2] = Some(expires),
        Restored::Retained(message) => ends[3] = Some(message.publication().expires),
        other => panic!("{other:?}"),
    };
    store.load(now, restore).expect("it can be read");
    ends
}

/// Milliseconds that are left of an hour in another run.
fn left(then: Clocks, now: Clocks, is_stopped: bool) -> [Option<u64>; 4] {
    let directory = Directory::new();
    let mut store = open(&directory, started(1, WALL));
    store.load(Time::ZERO, |_| panic!("it is new")).expect("it can be read");
    store.commit(&Batch { now: then.now, ..batch(records(then.now)) }, then).expect("there is room");
    if is_stopped {
        store.finish(then).expect("there is room");
    }
    drop(store);
    ends(&mut open(&directory, now), now.now).map(|end| Some(end?.since(now.now).milliseconds()))
}

#[test]
fn what_is_left_of_an_hour_does_not_depend_on_the_wall_clock() {
    let then = later(started(1, WALL), 30_000);
    for (now, expected) in [
        (later(then, HOUR / 2), HOUR / 2),
        (Clocks { wall: 5, ..later(then, HOUR / 2) }, HOUR / 2),
        (Clocks { wall: WALL + 9 * HOUR, ..later(then, HOUR / 2) }, HOUR / 2),
        (started(2, then.wall + HOUR / 2), HOUR / 2),
        (started(2, 5), HOUR),
        (started(2, then.wall - 1), HOUR),
        (started(2, then.wall * 2), HOUR),
    ] {
        assert_eq!(left(then, now, true), [Some(expected); 4], "{now:?}");
    }
    assert_eq!(left(then, later(then, HOUR), true), [Some(0), Some(0), None, None]);
    assert_eq!(left(then, started(2, then.wall + HOUR), true), [Some(0), Some(0), None, None]);
}

#[test]
fn after_a_crash_nothing_lasts_longer_than_was_asked_for() {
    // The anchor was stored at the start, so the timeline resumes thirty seconds before the commit.
    let then = later(started(1, WALL), 30_000);
    assert_eq!(left(then, started(2, 5), false), [Some(HOUR); 4]);
    assert_eq!(left(then, later(then, HOUR / 2), false), [Some(HOUR / 2); 4]);
}

#[test]
fn a_new_retained_message_does_not_inherit_the_lifetime_of_the_old_one() {
    let directory = Directory::new();
    let mut store = open(&directory, started(1, WALL));
    for time in [10, HOUR, 20, HOUR] {
        let end = Time::from_milliseconds(time);
        store
            .commit(&batch(vec![Record::Retained(portable("r", b"r", end))]), CLOCKS)
            .expect("there is room");
        assert_eq!(ends(&mut store, Time::ZERO)[3], Some(end));
    }
}

#[test]
fn a_wall_clock_that_is_set_right_while_the_broker_runs_changes_nothing() {
    let directory = Directory::new();
    let mut store = open(&directory, started(1, 5));
    let wrong = later(started(1, 5), 10);
    store.commit(&Batch { now: wrong.now, ..batch(records(wrong.now)) }, wrong).expect("there is room");
    let right = Clocks { wall: WALL, ..later(wrong, 20) };
    store.keep_time(right).expect("there is room");
    let end = wrong.now + Duration::from_milliseconds(HOUR);
    assert_eq!(ends(&mut store, right.now), [Some(end); 4]);
    drop(store);
    // After a power cut, the clock is right from the beginning.
    let now = started(2, WALL + 1000);
    assert_eq!(
        ends(&mut open(&directory, now), now.now),
        [Some(Time::from_milliseconds(HOUR - 20 - 1000)); 4]
    );
}

#[test]
fn the_reason_to_doubt_a_clock_is_reported() {
    let directory = Directory::new();
    for (boot, wall, doubt) in [
        (1, WALL, None),
        (2, WALL + 5, None),
        (3, WALL, Some(Doubt::Behind)),
        (4, 7, Some(Doubt::BeforeRelease)),
        (4, 9, None),
        (5, WALL, Some(Doubt::FarAhead)),
        (6, WALL, None),
    ] {
        let mut store = open(&directory, started(boot, wall));
        assert_eq!(store.doubt(), doubt, "{boot}");
        store.load(Time::ZERO, |_| panic!("it is empty")).expect("it can be read");
    }
}

#[test]
fn the_anchor_is_written_with_a_commit_now_and_then() {
    let directory = Directory::new();
    let mut store = open(&directory, CLOCKS);
    store.load(Time::ZERO, |_| panic!("it is new")).expect("it can be read");
    let anchored = store.timeline.anchor();
    assert_eq!(store.written().commits, 1, "at the start");
    let nothing = || batch(vec![Record::Cleared("none".to_owned())]);
    // Together with the names of the listeners.
    store.commit(&nothing(), CLOCKS).expect("there is room");
    let mut bytes = store.written().bytes;
    for (time, is_due) in [(1, false), (59_999, false), (60_000, true), (60_001, false), (120_000, true)] {
        let clocks = later(CLOCKS, time);
        store.commit(&nothing(), clocks).expect("there is room");
        let is_written = store.written().bytes > bytes;
        assert_eq!(is_written, is_due, "{time}: nothing else changes");
        assert_eq!(store.timeline.anchor().moment == anchored.moment + time, is_due);
        bytes = store.written().bytes;
    }
    let commits = store.written().commits;
    store.keep_time(later(CLOCKS, 179_999)).expect("there is room");
    assert_eq!(store.written().commits, commits);
    store.keep_time(later(CLOCKS, 180_000)).expect("there is room");
    assert_eq!(store.written().commits, commits + 1);
}

#[test]
fn an_anchor_that_was_not_written_stays_due() {
    let directory = Directory::new();
    let mut store = open(&directory, CLOCKS);
    store.load(Time::ZERO, |_| panic!("it is new")).expect("it can be read");
    store.bound(20);
    let large = batch(vec![Record::Retained(portable("large", &[7; 1_000_000], Time::NEVER))]);
    let clocks = later(CLOCKS, 70_000);
    assert_eq!(store.commit(&large, clocks), Err(StoreError::Full));
    assert_eq!(store.timeline.anchor().moment, WALL);
    store.commit(&batch(vec![Record::Cleared("none".to_owned())]), clocks).expect("there is room");
    drop(store);
    assert_eq!(open(&directory, started(2, 5)).timeline.anchor().moment, WALL + 70_000);
}

#[test]
fn an_invalid_anchor_is_damage() {
    for damage in [
        "UPDATE timeline SET moment = -1",
        "UPDATE timeline SET boot = x'01', uptime = 5",
        "DELETE FROM timeline",
    ] {
        let directory = Directory::new();
        drop(open(&directory, CLOCKS));
        let connection = rusqlite::Connection::open(directory.file()).expect("opened");
        assert_eq!(connection.execute(damage, ()).expect("written"), 1);
        drop(connection);
        let error =
            Store::open(&directory.file(), opening(OnDamage::Refuse, CLOCKS)).expect_err("it is damaged");
        assert!(matches!(error, OpenError::Damaged { .. }), "{damage}: {error}");
    }
}

#[test]
fn a_damaged_file_is_not_written_to() {
    let directory = Directory::new();
    let mut store = open(&directory, CLOCKS);
    store.commit(&batch(records(Time::ZERO)), CLOCKS).expect("there is room");
    drop(store);
    let connection = rusqlite::Connection::open(directory.file()).expect("opened");
    connection.execute("UPDATE session SET flags = 99", ()).expect("written");
    drop(connection);
    let before = fs::read(directory.file()).expect("read");
    let mut store = open(&directory, later(CLOCKS, 70_000));
    store.load(Time::ZERO, |_| {}).expect_err("it is damaged");
    drop(store);
    // SQLite counts in the file's header how often it was opened.
    assert!(fs::read(directory.file()).expect("read")[100..] == before[100..]);
}

/// See [`listeners`](super::listeners).
const VERSION_1: &[u8] = include_bytes!("../../../../tests/clients/stores/version_1.db");

#[test]
fn times_in_an_older_store_keep_their_meaning() {
    let directory = Directory::new();
    fs::write(directory.file(), VERSION_1).expect("written");
    let connection = rusqlite::Connection::open(directory.file()).expect("opened");
    let insert = "INSERT INTO retained (id, expires, flags, topic, properties, payload) VALUES (9, ?, 0, 'old', x'', x'')";
    connection.execute(insert, [i64::try_from(WALL + HOUR).expect("small")]).expect("written");
    drop(connection);
    let mut found = None;
    let restore = |restored| match restored {
        Restored::Retained(message) if message.publication().topic.as_str() == "old" => {
            found = Some(message.publication().expires);
        }
        _ => {}
    };
    let mut store = open(&directory, CLOCKS);
    store.load(Time::ZERO, restore).expect("it can be read");
    assert_eq!(found, Some(Time::from_milliseconds(HOUR)));
}
