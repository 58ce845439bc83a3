//! What a batch gathers, and when it is persisted.

use std::collections::VecDeque;
use std::num::NonZeroU64;

use proptest::prelude::*;

use super::*;
use crate::core::message::{Message, Publication, Spares};
use crate::core::slots::SessionId;
use crate::core::subscription::Identifiers;
use crate::protocol::codec::{PacketIdentifier, Properties, QoS};
use crate::protocol::topic::TopicName;

const PATIENT: Pace =
    Pace { holds: false, urgent: Duration::from_seconds(60), lazy: Duration::from_seconds(60) };

fn session(number: u64) -> SessionNumber {
    SessionNumber(NonZeroU64::new(number).unwrap())
}

fn journal() -> Journal {
    let next = NextNumbers { session: session(1), message: MessageNumber(NonZeroU64::MIN) };
    Journal::new(next, PATIENT)
}

fn message() -> Message {
    let publication = Publication {
        topic: TopicName::new("t").unwrap(),
        payload: b"m",
        qos: QoS::AtLeastOnce,
        retain: false,
        publisher: None,
        properties: Properties::default(),
        expires: Time::NEVER,
    };
    Message::new(&publication, &mut Spares::default())
}

/// Adds a message for these sessions.
fn add(journal: &mut Journal, message: &Message, sessions: impl Iterator<Item = u64>) -> MessageNumber {
    journal.begin_message(None);
    let form =
        CopyForm { qos: QoS::AtLeastOnce, retain: false, identifiers: Identifiers::new(&[]), group: None };
    let mut number = None;
    for to in sessions {
        let recipient = Recipient { session: session(to), form: form.clone(), identifier: None };
        number = Some(journal.messages.add(message, recipient, false));
        journal.hurry(Urgency::Urgent, Time::ZERO);
    }
    number.expect("there is a recipient")
}

/// The messages in a batch and their recipients.
fn written(batch: Option<Batch>) -> Vec<(MessageNumber, Vec<SessionNumber>)> {
    let records = batch.map(|batch| batch.records).unwrap_or_default();
    let messages = records.into_iter().filter_map(|record| match record {
        Record::Message(message) => Some(message),
        _ => None,
    });
    let sessions = |message: &StoredMessage| message.recipients.iter().map(|to| to.session).collect();
    messages.map(|message| (message.number, sessions(&message))).collect()
}

#[test]
fn records_alone_are_enough_to_close_a_batch() {
    let mut journal = journal();
    let received = || Record::Received(session(1), PacketIdentifier::FIRST);
    journal.record(received(), Urgency::Lazy, Time::ZERO);
    assert!(journal.batch_due() > Some(Time::ZERO));
    while !journal.is_full() {
        journal.record(received(), Urgency::Lazy, Time::ZERO);
    }
    assert_eq!(journal.batch_due(), Some(Time::ZERO), "connections that wait now wait for it");
}

#[test]
fn recipients_take_room() {
    let (mut journal, message) = (journal(), message());
    add(&mut journal, &message, 1..=10);
    assert!(!journal.is_full() && journal.batch_due() > Some(Time::ZERO));
    add(&mut journal, &message, 1..=1_000_000);
    assert!(journal.is_full() && journal.batch_due() == Some(Time::ZERO));
    assert_eq!(written(journal.close(Vec::new(), Vec::new(), Time::ZERO)).len(), 2);
    assert!(!journal.is_full(), "the next batch has room");
    journal.is_durable(1);
    assert_eq!(journal.messages.bytes(), 0);
}

#[test]
fn the_connection_that_has_waited_longest_for_room_goes_on_first() {
    let mut journal = journal();
    let mut slots = crate::core::slots::Slots::default();
    let ids: Vec<ConnectionId> = (0..4).map(|_| slots.insert_with(|_| ())).collect();
    for &id in &[ids[2], ids[0], ids[3], ids[1]] {
        journal.pause(id);
    }
    journal.forget(ids[3]);
    assert_eq!(journal.take_paused(), [ids[2], ids[0], ids[1]]);
    assert!(journal.take_paused().is_empty());
}

#[test]
fn acknowledged_copies_delay_nothing_and_take_no_more_than_their_room() {
    let mut journal = journal();
    let stored = (1..=1_000_000).map(|number| MessageNumber(NonZeroU64::new(number).unwrap()));
    let mut last = MessageNumber(NonZeroU64::MIN);
    for number in stored {
        if journal.deferred.is_full() {
            break;
        }
        journal.acknowledge(number, session(1), Time::ZERO, &mut Spares::default());
        last = number;
    }
    assert!(!journal.is_full());
    assert!(journal.records.is_empty());
    journal.acknowledge(last.next(), session(1), Time::ZERO, &mut Spares::default());
    assert!(!journal.records.is_empty(), "it is settled with the next batch");
}

const SUBSCRIPTION: StoredSubscription = StoredSubscription {
    filter: String::new(),
    qos: QoS::AtMostOnce,
    no_local: false,
    retain_as_published: false,
    identifier: 0,
    owes_retained: false,
};

/// A new session that is persisted: its slot and its number.
fn keep(journal: &mut Journal) -> (SessionId, SessionNumber) {
    let mut slots: crate::core::slots::Slots<crate::core::slots::SessionMark, ()> = Default::default();
    let mut id = slots.insert_with(|_| ());
    while journal.number_of(id).is_some() {
        id = slots.insert_with(|_| ());
    }
    (id, journal.keep(id))
}

fn close(journal: &mut Journal) -> Vec<Record> {
    let batch = journal.close(Vec::new(), Vec::new(), Time::ZERO);
    batch.map(|batch| batch.records).unwrap_or_default()
}

#[test]
fn a_subscription_that_is_repeated_is_one_record() {
    let mut journal = journal();
    let (first, number) = keep(&mut journal);
    let (second, other) = keep(&mut journal);
    let filter = |name: usize| name.to_string().repeat(60_000);
    let subscribed =
        |name, identifier| StoredSubscription { filter: filter(name), identifier, ..SUBSCRIPTION };
    for count in 1..=1_000 {
        for name in 1..=3 {
            let record = Record::Subscribed(number, subscribed(name, count));
            journal.record(record, Urgency::Urgent, Time::ZERO);
        }
        journal.record(Record::Subscribed(other, subscribed(1, count)), Urgency::Urgent, Time::ZERO);
    }
    journal.record(Record::Unsubscribed(number, filter(2)), Urgency::Urgent, Time::ZERO);
    journal.count();
    assert!((240_000..250_000).contains(&journal.counted.bytes()), "{}", journal.counted.bytes());
    assert!(!journal.is_full() && journal.recorded() == Awaited::Nothing);
    journal.end(second, "second", VecDeque::new(), false, Time::ZERO);
    let records = close(&mut journal);
    let [
        Record::Subscribed(of_one, one),
        Record::Unsubscribed(of_two, two),
        Record::Subscribed(of_three, three),
        Record::SessionEnded { session: ended, leaves_shared: false },
    ] = &records[..]
    else {
        panic!("{} records", records.len());
    };
    assert_eq!((one, two, three), (&subscribed(1, 1_000), &filter(2), &subscribed(3, 1_000)));
    assert_eq!((of_one, of_two, of_three, *ended), (&number, &number, &number, other));
    assert!(journal.number_of(first).is_some());
    journal.is_durable(1);
    journal.count();
    assert!(journal.counted.bytes() < 10_000);
}

#[test]
fn texts_in_records_take_room() {
    let name = "x".repeat(60_000);
    let topic = |count: usize| format!("{name}{count}");
    let act = |journal: &mut Journal, kind: usize, count: usize| {
        let topic = topic(count);
        match kind {
            0 => journal.record(Record::Unsubscribed(session(1), topic), Urgency::Urgent, Time::ZERO),
            1 => journal.retain(TopicName::trusted(&topic), 0, Urgency::Lazy, Time::ZERO),
            2 => journal.retain(TopicName::trusted(&topic), 9, Urgency::Lazy, Time::ZERO),
            _ => {
                let (id, _) = keep(journal);
                journal.change(id, 60_000, Urgency::Urgent, Time::ZERO);
            }
        }
    };
    for kind in 0..4 {
        let mut journal = journal();
        act(&mut journal, kind, 0);
        assert!(journal.batch_due() > Some(Time::ZERO));
        let count = (1..10_000).find(|&count| {
            act(&mut journal, kind, count);
            journal.is_full()
        });
        assert!(count.is_some_and(|count| (60..80).contains(&count)), "{count:?}");
        assert_eq!(journal.batch_due(), Some(Time::ZERO), "a full journal is persisted at once");
    }
}

#[test]
fn a_batch_that_the_store_is_writing_takes_room() {
    let (mut journal, payload) = (journal(), vec![7; 1_000_000]);
    let publication = message();
    let publication = Publication { payload: &payload, ..publication.publication() };
    let message = Message::new(&publication, &mut Spares::default());
    add(&mut journal, &message, 1..=1);
    journal.count();
    let before = journal.counted.bytes();
    assert!(before < 10_000, "the message counts itself: {before}");
    let batch = journal.close(Vec::new(), Vec::new(), Time::ZERO).expect("there is something");
    assert!(!journal.messages.is_safe(MessageNumber(NonZeroU64::MIN)));
    journal.count();
    assert!(journal.counted.bytes() > 1_000_000, "a copy of it is with the store");
    let audit = |journal: &Journal| {
        let mut audit = Audit::default();
        journal.audit(&mut audit);
        audit.bytes() - journal.counted.bytes()
    };
    assert_eq!(audit(&journal), 0, "it is held there alone");
    drop(batch);
    journal.is_durable(1);
    journal.count();
    assert!(journal.counted.bytes() < 10_000 && journal.messages.is_safe(MessageNumber(NonZeroU64::MIN)));
}

#[test]
fn messages_that_no_session_needs_any_longer_do_not_accumulate() {
    let (mut journal, message) = (journal(), message());
    let count = (1..1_000_000).find(|_| {
        let number = add(&mut journal, &message, 1..=2);
        for to in 1..=2 {
            journal.settle(number, session(to), Time::ZERO, &mut Spares::default());
        }
        journal.batch_due() == Some(Time::ZERO)
    });
    assert!(count.is_some_and(|count| count < 100_000), "each still takes its place: {count:?}");
    assert!(close(&mut journal).is_empty());
    journal.count();
    assert!(journal.counted.bytes() < 200_000, "{}", journal.counted.bytes());
}

#[test]
fn retained_messages_that_are_not_promised_are_persisted_some_at_a_time() {
    let mut journal = journal();
    let topics: Vec<String> = (100..200).map(|count| format!("t{count}")).collect();
    journal.set_room(Room::Scarce);
    for topic in &topics {
        journal.retain(TopicName::trusted(topic), 1_000_000, Urgency::Lazy, Time::ZERO);
        journal.retain(TopicName::trusted(topic), 900_000, Urgency::Lazy, Time::ZERO);
    }
    assert!(journal.take_retained().is_empty() && !journal.is_full(), "they wait for room on disk");
    journal.set_room(Room::Enough);
    assert!(journal.is_full());
    // One is cleared; one becomes promised.
    journal.retain(TopicName::trusted("t100"), 0, Urgency::Lazy, Time::ZERO);
    journal.retain(TopicName::trusted("t105"), 900_000, Urgency::Urgent, Time::ZERO);
    let mut taken = Vec::new();
    for batch in 1.. {
        let retained = journal.take_retained();
        assert!(retained.len() <= 7, "the promised ones and five more");
        taken.extend(retained.iter().map(|topic| topic.to_string()));
        let records = retained.into_iter().map(|topic| Record::Cleared(topic.into())).collect();
        assert!(journal.close(Vec::new(), records, Time::ZERO).is_some());
        journal.is_durable(batch);
        if journal.batch_due().is_none() {
            break;
        }
    }
    taken.sort();
    assert_eq!(taken, topics, "each once");
    assert_eq!(journal.retained.memory(), 0);
}

#[test]
fn sessions_ask_in_their_order_and_once() {
    let mut fetches = Fetches::default();
    [3, 1, 2, 1, 3].into_iter().for_each(|number| fetches.ask(session(number)));
    assert_eq!(fetches.first_waiting(), Some(session(3)));
    fetches.begin(session(3), 10, 1_000);
    fetches.ask(session(3));
    fetches.withdraw(session(1));
    fetches.ask(session(1));
    assert_eq!(fetches.first_waiting(), Some(session(2)), "a new request comes last");
    fetches.begin(session(2), 1, 50);
    assert_eq!(fetches.underway_bytes(), 1_050);
    fetches.withdraw(session(3));
    assert!(!fetches.have_come(session(3), 9) && fetches.underway_bytes() == 1_050, "it is read to its end");
    assert!(fetches.have_come(session(3), 1) && !fetches.have_come(session(3), 1));
    fetches.ask(session(3));
    fetches.begin(session(1), 1, 1);
    assert_eq!(fetches.first_waiting(), Some(session(3)));
    assert!(fetches.have_come(session(1), 1) && fetches.have_come(session(2), 1));
    fetches.withdraw(session(3));
    assert_eq!((fetches.first_waiting(), fetches.memory()), (None, 0));
}

#[test]
fn each_answer_is_known_to_have_left_or_not() {
    let mut slots: crate::core::slots::Slots<crate::core::slots::ConnectionMark, ()> = Default::default();
    let (one, other) = (slots.insert_with(|_| ()), slots.insert_with(|_| ()));
    let mut answers = Answers::default();
    let hold = |answers: &mut Answers, id| {
        answers.hold(id, Awaited::Nothing, Answer::Packet(Box::new([0; 100])));
        answers.position(id)
    };
    assert!(answers.position(one) == 0 && answers.has_left(one, 0));
    let mut last = 0;
    for _ in 0..3 {
        // In between, the list of one connection becomes empty and is dropped.
        let first = hold(&mut answers, one);
        hold(&mut answers, other);
        let second = hold(&mut answers, one);
        assert!(last < first && first < second);
        assert!(answers.has_left(one, last) && !answers.has_left(one, first));
        assert_eq!(answers.release(one, 1, |_| true, |_| ()), 1);
        assert!(answers.has_left(one, first) && !answers.has_left(one, second));
        assert_eq!(answers.release(one, 1, |_| true, |_| ()), 1);
        assert!(answers.has_left(one, second));
        last = second;
    }
    answers.forget(other);
    assert_eq!(answers.memory(), 0);
}

proptest! {
    #[test]
    fn a_session_that_no_longer_needs_a_message_is_not_persisted_as_a_recipient(
        counts in prop::collection::vec(1_u64..6, 1..6),
        settled in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..20),
    ) {
        let (mut journal, message) = (journal(), message());
        let mut owed: Vec<(MessageNumber, Vec<SessionNumber>)> = counts
            .iter()
            .map(|&count| {
                // Recipients in no particular order.
                let number = add(&mut journal, &message, (1..=count).rev());
                (number, (1..=count).rev().map(session).collect())
            })
            .collect();
        for (which, who) in settled {
            let (number, sessions) = &mut owed[which.index(counts.len())];
            if !sessions.is_empty() {
                let session = sessions.remove(who.index(sessions.len()));
                journal.settle(*number, session, Time::ZERO, &mut Spares::default());
            }
        }
        owed.retain(|(_, sessions)| !sessions.is_empty());
        prop_assert_eq!(written(journal.close(Vec::new(), Vec::new(), Time::ZERO)), owed.clone());
        if journal.is_closed() {
            journal.is_durable(1);
        }
        prop_assert_eq!(journal.messages.bytes(), 0);
        for (number, sessions) in owed {
            let last = sessions.len() - 1;
            for (index, session) in sessions.into_iter().enumerate() {
                let settlement = journal.messages.settle(number, session);
                prop_assert_eq!(settlement.to_be_written, Some(index == last));
            }
        }
    }
}
