//! Listeners are recognised by their names, whatever their positions.

#![expect(clippy::disallowed_methods, reason = "files are what is tested")]

use std::fs;

use super::records::{portable, session};
use super::{CLOCKS, Directory, batch, named};
use crate::base::time::{Duration, Time};
use crate::core::journal::{Record, Restored, StoredSession, StoredWill};
use crate::core::listener::ListenerId;
use crate::settings::{ListenerName, OnDamage};
use crate::storage::store::{Opening, Store};

fn open(directory: &Directory, names: &[&str]) -> Store {
    let listeners = names.iter().map(|name| named(name)).collect();
    let opening = Opening { listeners, on_damage: OnDamage::Refuse, clocks: CLOCKS };
    Store::open(&directory.file(), opening).expect("it can be opened")
}

/// Records that belong to this listener: a session with a Will, and a retained message.
fn came_by(listener: u16, number: u64) -> Vec<Record> {
    let text = format!("{listener}\0client\0user");
    let message = portable_of(&text);
    let will = StoredWill { message: message.clone(), delay: Duration::ZERO, due: Time::NEVER };
    let session = StoredSession { listener: ListenerId(listener), will: Some(will), ..session(number) };
    vec![Record::Session(Box::new(session)), Record::Retained(message)]
}

fn portable_of(publisher: &str) -> crate::core::message::Portable {
    let other = portable("t", b"six by", Time::NEVER);
    let publication = crate::core::message::Publication { publisher: Some(publisher), ..other.publication() };
    crate::core::message::Portable::new(&publication)
}

/// The names of the listeners of the session, of its Will and of the retained message.
fn found(store: &mut Store) -> [String; 3] {
    let names: Vec<String> = store.listeners().map(str::to_owned).collect();
    let name = |id: ListenerId| names.get(usize::from(id.0)).cloned().unwrap_or_else(|| "unknown".to_owned());
    let publisher = |message: &crate::core::message::Portable| {
        let publication = message.publication();
        let publisher = crate::core::message::Publisher::read(publication.publisher.expect("it has one"));
        let publisher = publisher.expect("it was written");
        assert_eq!((publisher.client_identifier, publisher.user_name), ("client", Some("user")));
        name(publisher.listener)
    };
    let mut found = [const { String::new() }; 3];
    let restore = |restored| match restored {
        Restored::Session(session) => {
            found[0] = name(session.listener);
            found[1] = publisher(&session.will.expect("it has one").message);
        }
        Restored::Retained(message) => found[2] = publisher(&message),
        other => panic!("{other:?}"),
    };
    store.load(Time::ZERO, restore).expect("it can be read");
    found
}

#[test]
fn what_came_in_by_a_listener_stays_with_its_name() {
    let directory = Directory::new();
    let mut store = open(&directory, &["a", "b"]);
    store.commit(&batch(came_by(1, 1)), CLOCKS).expect("written");
    drop(store);
    for names in [&["a", "b"][..], &["b", "a"], &["b"], &["c", "d", "e", "b"], &["a"], &[], &["b"]] {
        let mut store = open(&directory, names);
        assert_eq!(found(&mut store), ["b", "b", "b"].map(str::to_owned), "{names:?}");
        // It is the same after it has been written again.
        let id = store.listeners().position(|name| name == "b").and_then(|place| u16::try_from(place).ok());
        store.commit(&batch(came_by(id.expect("it is known"), 1)), CLOCKS).expect("written");
    }
}

#[test]
fn a_listener_added_while_the_broker_runs_is_known_in_the_next_run() {
    let directory = Directory::new();
    let mut store = open(&directory, &["a"]);
    let mut records = came_by(1, 1);
    records.push(Record::Listener(ListenerId(1), "new".to_owned()));
    store.commit(&batch(records), CLOCKS).expect("written");
    store.reopen().expect("opened");
    assert_eq!(store.listeners().collect::<Vec<_>>(), ["a", "new"]);
    drop(store);
    assert_eq!(found(&mut open(&directory, &["new"])), ["new", "new", "new"].map(str::to_owned));
}

#[test]
fn a_name_from_a_failed_commit_is_written_by_the_next_one() {
    let directory = Directory::new();
    let mut store = open(&directory, &["a"]);
    store.bound(20);
    let mut too_much = came_by(0, 1);
    too_much.push(Record::Retained(portable("large", &[7; 1_000_000], Time::NEVER)));
    assert!(store.commit(&batch(too_much), CLOCKS).is_err());
    store.bound(1_000_000);
    store.commit(&batch(came_by(0, 1)), CLOCKS).expect("written");
    drop(store);
    assert_eq!(found(&mut open(&directory, &["b", "a"])), ["a", "a", "a"].map(str::to_owned));
}

#[test]
fn no_name_inherits_what_came_in_by_a_removed_one() {
    let directory = Directory::new();
    let mut store = open(&directory, &["gone 0"]);
    let named = |count| Record::Listener(ListenerId(count), format!("gone {count}"));
    let mut records: Vec<Record> = (1..300).map(named).collect();
    records.extend(came_by(299, 1));
    store.commit(&batch(records), CLOCKS).expect("written");
    drop(store);
    let mut store = open(&directory, &["other"]);
    assert!(store.listeners().count() < 300, "most are forgotten");
    assert_eq!(found(&mut store), ["gone 299", "gone 299", "gone 299"].map(str::to_owned));
}

/// Made by a broker that knew listeners by their positions. At the first listener, `kitchen` came without a name, and
/// `named` as `bob`, which was not verified. At the second, which has users, `phone` came as `bob`. Each has
/// published a retained message.
const VERSION_1: &[u8] = include_bytes!("../../../../tests/clients/stores/version_1.db");

/// For each session its name, its listener and whether its User Name was proved; then topics and listeners of
/// retained messages.
type Migrated = (Vec<(String, ListenerId, bool)>, Vec<(String, u16)>);

fn migrated(listeners: Vec<ListenerName>) -> Migrated {
    let directory = Directory::new();
    fs::write(directory.file(), VERSION_1).expect("written");
    let opening = Opening { listeners, on_damage: OnDamage::Refuse, clocks: CLOCKS };
    let mut store = Store::open(&directory.file(), opening.clone()).expect("it is brought up");
    let (mut sessions, mut retained) = (Vec::new(), Vec::new());
    let mut restore = |restored| match restored {
        Restored::Session(session) => {
            sessions.push((session.client_identifier, session.listener, session.is_proved));
        }
        Restored::Retained(message) => {
            let publication = message.publication();
            let publisher = publication.publisher.and_then(crate::core::message::Publisher::read);
            retained.push((publication.topic.as_str().to_owned(), publisher.expect("known").listener.0));
        }
        _ => {}
    };
    store.load(Time::ZERO, &mut restore).expect("it can be read");
    drop(store);
    // Opening it again changes nothing.
    Store::open(&directory.file(), opening).expect("it is opened again");
    retained.sort();
    (sessions, retained)
}

#[test]
fn an_older_store_takes_the_names_of_the_present_listeners() {
    let unproving = |name: &str| ListenerName { proves_names: false, ..named(name) };
    let expected = |first, second, is_second_proved| {
        let sessions = vec![
            ("kitchen".to_owned(), ListenerId(first), false),
            ("named".to_owned(), ListenerId(first), false),
            ("phone".to_owned(), ListenerId(second), is_second_proved),
        ];
        let retained = vec![("home/kept".to_owned(), first), ("home/proved".to_owned(), second)];
        (sessions, retained)
    };
    assert_eq!(migrated(vec![unproving("a"), named("b")]), expected(0, 1, true));
    assert_eq!(migrated(vec![unproving("a"), unproving("b"), named("c")]), expected(0, 1, false));
    let unknown = ListenerId::UNKNOWN.0;
    assert_eq!(migrated(vec![unproving("a")]), expected(0, unknown, true));
}
