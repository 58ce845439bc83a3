//! Reading while the broker runs.

use super::records::{message, message_number, session, session_number};
use super::{CLOCKS, Directory, batch};
use crate::base::time::Time;
use crate::core::journal::{Fetch, Pages, Record};
use crate::storage::store::{Store, Wanted};

fn wanted(fetches: &[(u64, std::ops::RangeInclusive<u64>)]) -> Wanted {
    let mut wanted = Wanted::default();
    for (session, messages) in fetches {
        let messages = messages.clone().map(message_number).collect();
        wanted.add(Fetch { session: session_number(*session), messages });
    }
    wanted
}

fn read(store: &Store, wanted: &mut Wanted) -> Pages {
    store.read(wanted, Time::ZERO, || false).expect("it can be read")
}

/// The number of each message, and its position in the answer if it was found.
type Told = Vec<(u64, Option<usize>)>;

/// What each session was told.
fn told(pages: &Pages) -> Vec<(u64, Told)> {
    let place = |found: &Option<(usize, _)>| found.as_ref().map(|(place, _)| *place);
    let page = |page: &crate::core::journal::Page| {
        let copies = page.copies.iter().map(|copy| (copy.number.0.get(), place(&copy.found)));
        (page.session.0.get(), copies.collect())
    };
    pages.pages.iter().map(page).collect()
}

#[test]
fn large_messages_are_read_a_few_at_a_time() {
    let directory = Directory::new();
    let mut store = directory.store();
    let of = |number, length| Record::Message(message(number, &vec![7; length], Time::NEVER, &[1]));
    let mut records = vec![Record::Session(Box::new(session(1)))];
    records.extend((1..=3).map(|number| of(number, 200_000)));
    records.extend((5..=20).map(|number| of(number, 10)));
    store.commit(&batch(records), CLOCKS).expect("there is room");
    let mut wanted = wanted(&[(1, 1..=20)]);
    let pages = read(&store, &mut wanted);
    assert_eq!(
        told(&pages),
        [(1, vec![(1, Some(0)), (2, Some(1))])],
        "the second one is beyond what is good"
    );
    let pages = read(&store, &mut wanted);
    assert_eq!((pages.messages.len(), pages.pages[0].copies.len()), (17, 18), "the fourth one is not there");
    assert!(wanted.is_empty() && pages.pages[0].copies[1].found.is_none());
}

#[test]
fn a_message_is_read_once_for_all_sessions_that_want_it() {
    let directory = Directory::new();
    let mut store = directory.store();
    let mut records: Vec<Record> = (1..=3).map(|number| Record::Session(Box::new(session(number)))).collect();
    records.push(Record::Message(message(1, b"one", Time::NEVER, &[1, 2, 3])));
    records.push(Record::Message(message(2, b"two", Time::NEVER, &[3, 1])));
    store.commit(&batch(records), CLOCKS).expect("there is room");
    let mut wanted = wanted(&[(3, 1..=2), (1, 1..=2), (2, 1..=2)]);
    let pages = read(&store, &mut wanted);
    assert_eq!(pages.messages.len(), 2);
    let both = vec![(1, Some(0)), (2, Some(1))];
    assert_eq!(told(&pages), [(1, both.clone()), (2, vec![(1, Some(0)), (2, None)]), (3, both)]);
}

#[test]
fn later_requests_do_not_overtake_earlier_ones() {
    let directory = Directory::new();
    let mut store = directory.store();
    let mut records = vec![Record::Session(Box::new(session(1))), Record::Session(Box::new(session(2)))];
    records.extend((1..=4).map(|number| Record::Message(message(number, b"m", Time::NEVER, &[1, 2]))));
    store.commit(&batch(records), CLOCKS).expect("there is room");
    let mut wanted = wanted(&[(2, 3..=4)]);
    let at_once = |wanted: &mut Wanted| {
        let pages = store.read(wanted, Time::ZERO, || true).expect("it can be read");
        told(&pages)
    };
    assert_eq!(at_once(&mut wanted), [(2, vec![(3, Some(0))])], "one, however little time there is");
    wanted.add(Fetch { session: session_number(1), messages: vec![message_number(1)] });
    assert_eq!(at_once(&mut wanted), [(2, vec![(4, Some(0))])]);
    assert_eq!(at_once(&mut wanted), [(1, vec![(1, Some(0))])]);
    assert!(wanted.is_empty());
}

#[test]
fn one_message_for_very_many_sessions_comes_in_parts() {
    let directory = Directory::new();
    let mut store = directory.store();
    let sessions: Vec<u64> = (1..=10_000).collect();
    store
        .commit(&batch(vec![Record::Message(message(1, b"m", Time::NEVER, &sessions))]), CLOCKS)
        .expect("room");
    let mut wanted = Wanted::default();
    for &session in &sessions {
        wanted.add(Fetch { session: session_number(session), messages: vec![message_number(1)] });
    }
    let mut counts = Vec::new();
    while !wanted.is_empty() {
        let pages = read(&store, &mut wanted);
        assert!(pages.pages.iter().all(|page| page.copies[0].found.is_some()));
        counts.push(pages.pages.len());
    }
    assert_eq!(counts, [4096, 4096, 1808]);
}
