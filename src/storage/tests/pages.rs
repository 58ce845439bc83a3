//! What is read while the broker runs.

use super::records::{message, message_number, session, session_number};
use super::{Directory, WALL, batch};
use crate::journal::{Fetch, Record};
use crate::time::Time;

#[test]
fn a_page_of_large_messages_is_short() {
    let directory = Directory::new();
    let mut store = directory.store();
    let of = |number, length| Record::Message(message(number, &vec![7; length], Time::NEVER, &[1]));
    let mut records = vec![Record::Session(Box::new(session(1)))];
    records.extend((1..=3).map(|number| of(number, 200_000)));
    records.extend((5..=20).map(|number| of(number, 10)));
    store.commit(&batch(records), WALL).expect("there is room");
    let read = |numbers: std::ops::RangeInclusive<u64>| {
        let messages = numbers.map(message_number).collect();
        let fetch = Fetch { session: session_number(1), messages };
        let page = store.fetch(&fetch, Time::ZERO, WALL).expect("it can be read");
        assert!(fetch.messages.starts_with(&page.fetch.messages));
        (page.fetch.messages.len(), page.copies.len())
    };
    assert_eq!(read(1..=20), (2, 2), "the second one is beyond what is good");
    assert_eq!(read(3..=3), (1, 1));
    assert_eq!(read(4..=20), (17, 16), "the first one is not there");
    assert_eq!(read(4..=4), (1, 0));
}
