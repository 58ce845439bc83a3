//! What gathers, and when it is written down.

use std::num::NonZeroU64;

use proptest::prelude::*;

use super::*;
use crate::codec::{PacketIdentifier, Properties, QoS};
use crate::message::{Message, Publication, Spares};
use crate::subscription::Identifiers;
use crate::topic::TopicName;

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

/// Another message for these sessions.
fn add(journal: &mut Journal, message: &Message, sessions: impl Iterator<Item = u64>) -> MessageNumber {
    journal.begin_message(None);
    let form = CopyForm { qos: QoS::AtLeastOnce, retain: false, identifiers: Identifiers::new(&[]) };
    let mut number = None;
    for to in sessions {
        number = Some(journal.messages.add(message, session(to), form.clone(), false));
        journal.hurry(Urgency::Urgent, Time::ZERO);
    }
    number.expect("somebody gets it")
}

/// Who gets what in a batch.
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
    assert_eq!(journal.batch_due(), Some(Time::ZERO), "whoever has to wait now waits for it");
}

#[test]
fn who_gets_a_message_takes_room() {
    let (mut journal, message) = (journal(), message());
    add(&mut journal, &message, 1..=10);
    assert!(!journal.is_full() && journal.batch_due() > Some(Time::ZERO));
    add(&mut journal, &message, 1..=1_000_000);
    assert!(journal.is_full() && journal.batch_due() == Some(Time::ZERO));
    assert_eq!(written(journal.close(Vec::new(), Vec::new(), Time::ZERO)).len(), 2);
    assert!(journal.is_full(), "it is still to be written down");
    journal.is_durable(1);
    assert!(!journal.is_full());
    assert_eq!(journal.messages.bytes(), 0);
}

proptest! {
    #[test]
    fn who_needs_a_message_no_longer_is_not_written_down(
        counts in prop::collection::vec(1_u64..6, 1..6),
        settled in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..20),
    ) {
        let (mut journal, message) = (journal(), message());
        let mut owed: Vec<(MessageNumber, Vec<SessionNumber>)> = counts
            .iter()
            .map(|&count| {
                // In no order.
                let number = add(&mut journal, &message, (1..=count).rev());
                (number, (1..=count).rev().map(session).collect())
            })
            .collect();
        for (which, who) in settled {
            let (number, sessions) = &mut owed[which.index(counts.len())];
            if !sessions.is_empty() {
                let session = sessions.remove(who.index(sessions.len()));
                journal.settle(*number, session, Time::ZERO);
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
