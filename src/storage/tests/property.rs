//! Any records in any batches: what comes back is what the model holds, after a kill and after a power cut, too.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::model::{Model, in_words_of_all};
use super::records::{
    identifier, message_number, portable, recipient, session, session_number, subscription,
};
use super::{Directory, WALL, open};
use crate::codec::QoS;
use crate::journal::{Batch, Record, Restored, StoredDelivery, StoredMessage, StoredPresence, StoredWill};
use crate::storage::Store;
use crate::time::{Duration, Time};

/// What a record is made of; what it must fit is left to [`Maker`].
#[derive(Clone, Debug)]
struct Draft {
    kind: u8,
    session: u64,
    choice: u16,
    length: usize,
    /// Milliseconds from now; none for never.
    moment: Option<i64>,
    flag: bool,
}

fn draft() -> impl Strategy<Value = Draft> {
    let moment = prop_oneof![Just(None), (-5_000i64..50_000).prop_map(Some)];
    let length = prop_oneof![9 => 0usize..40, 1 => 3_000usize..9_000];
    (0u8..16, 1u64..6, 0u16..1000, length, moment, any::<bool>()).prop_map(
        |(kind, session, choice, length, moment, flag)| Draft { kind, session, choice, length, moment, flag },
    )
}

/// Makes records that a broker could write.
#[derive(Default)]
struct Maker {
    model: Model,
    /// The last number of a message.
    number: u64,
}

impl Maker {
    fn record(&mut self, draft: &Draft, now: u64) -> Option<Record> {
        let session = session_number(draft.session);
        let at = draft
            .moment
            .map_or(Time::NEVER, |moment| Time::from_milliseconds(now.saturating_add_signed(moment)));
        let payload = vec![b'x'; draft.length];
        let packet = identifier(draft.choice % 5 + 1);
        let topic = format!("t/{}", draft.choice % 7);
        Some(match draft.kind {
            0 | 1 => self.session(draft, at, &payload),
            2 if draft.flag => Record::SessionEnded(session),
            2 | 3 => {
                let qos = QoS::from_u8(u8::try_from(draft.choice % 3).ok()?)?;
                let identifier = draft.length.try_into().ok()?;
                let flags = (draft.flag, !draft.flag, draft.choice.is_multiple_of(2));
                let mut made = subscription(&topic);
                (made.qos, made.identifier) = (qos, identifier);
                (made.no_local, made.retain_as_published, made.owes_retained) = flags;
                Record::Subscribed(session, made)
            }
            4 => Record::Unsubscribed(session, topic),
            5..8 => {
                self.number += 1 + u64::from(draft.choice % 3);
                let others = (1..6).filter(|other| *other != draft.session && draft.choice >> other & 1 == 1);
                let identifiers: Vec<u32> =
                    (0..u32::from(draft.choice % 3)).map(|n| 1 + n * 100_000).collect();
                let recipients = std::iter::once(draft.session)
                    .chain(others)
                    .map(|session| recipient(session, &identifiers))
                    .collect();
                let message = portable(&topic, &payload, at);
                Record::Message(StoredMessage { number: message_number(self.number), message, recipients })
            }
            8..11 => self.settled(draft)?,
            11 if draft.flag => Record::Received(session, packet),
            11 => Record::Released(session, packet),
            12 | 13 => {
                let count = self.model.messages.len().max(1);
                let (message, _) = self.model.messages.iter().nth(usize::from(draft.choice) % count)?;
                let message = message_number(*message);
                let is_released = draft.flag && draft.length.is_multiple_of(2);
                Record::Delivery(session, StoredDelivery { identifier: packet, message, is_released })
            }
            14 if draft.flag => Record::Completed(session, packet),
            14 => Record::Cleared(topic),
            _ => Record::Retained(portable(&topic, &payload, at)),
        })
    }

    fn session(&self, draft: &Draft, at: Time, payload: &[u8]) -> Record {
        let mut made = session(draft.session);
        made.expiry_interval = draft.choice.into();
        if draft.flag {
            let sent_until = (self.number > 0).then(|| message_number(self.number));
            made.presence = StoredPresence::Away { ends: at, sent_until };
        }
        if draft.choice.is_multiple_of(2) {
            let span = if draft.flag { Time::NEVER } else { Time::from_milliseconds(draft.choice.into()) };
            made.will = Some(StoredWill {
                message: portable("will", payload, span),
                delay: Duration::from_milliseconds(draft.choice.into()),
                due: at,
            });
        }
        Record::Session(Box::new(made))
    }

    /// One of those who still need it needs a message no longer.
    fn settled(&self, draft: &Draft) -> Option<Record> {
        let count = self.model.messages.len().max(1);
        let (message, (_, recipients)) = self.model.messages.iter().nth(usize::from(draft.choice) % count)?;
        let left: Vec<_> = recipients
            .iter()
            .map(|recipient| recipient.session)
            .filter(|session| !self.model.settled.contains(&(*message, session.0.get())))
            .collect();
        let session = *left.get(draft.length % left.len().max(1))?;
        Some(Record::Settled { message: message_number(*message), session, is_last: left.len() == 1 })
    }
}

fn load(store: &mut Store, now: u64, wall: u64) -> Vec<Restored> {
    let mut all = Vec::new();
    store.load(Time::from_milliseconds(now), wall, |restored| all.push(restored)).expect("it can be read");
    all
}

/// A copy of the files as they are now: what a broker that was killed leaves behind.
fn copy(from: &Path, to: &Path) {
    for ending in ["", "-wal"] {
        let name = |path: &Path| format!("{}{ending}", path.display());
        fs::copy(name(from), name(to)).expect("it can be copied");
    }
}

/// Loads a copy whose journal has lost its end.
#[expect(clippy::disallowed_methods, reason = "tests look at files")]
fn load_cut(from: &Path, cut: usize, now: u64, wall: u64) -> Vec<String> {
    let other = Directory::new();
    copy(from, &other.file());
    let journal = format!("{}-wal", other.file().display());
    let journal = fs::OpenOptions::new().write(true).open(journal).expect("it is there");
    let length = usize::try_from(journal.metadata().expect("it has a length").len()).expect("it is short");
    journal.set_len((length - cut % (length + 1)) as u64).expect("it can be cut");
    let mut store = open(&other.file()).expect("it can be opened");
    in_words_of_all(&load(&mut store, now, wall))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn what_comes_back_is_what_was_written(
        batches in prop::collection::vec((prop::collection::vec(draft(), 1..30), any::<u16>(), 0u8..8), 1..8),
        cut in any::<usize>(),
    ) {
        let directory = Directory::new();
        let mut store = directory.store();
        let mut maker = Maker::default();
        let (mut now, mut wall) = (1_000_000, WALL);
        let mut snapshots = vec![maker.model.clone()];
        for (number, (drafts, pause, fate)) in (1..).zip(&batches) {
            (now, wall) = (now + u64::from(*pause), wall + u64::from(*pause) / 2);
            let mut records = Vec::new();
            for draft in drafts {
                if let Some(record) = maker.record(draft, now) {
                    maker.model.apply(&record, now, wall);
                    records.push(record);
                }
            }
            let batch = Batch { number, now: Time::from_milliseconds(now), records };
            for _ in 0..2 {
                store.commit(&batch, wall).expect("there is room");
            }
            snapshots.push(maker.model.clone());
            match fate {
                0 => {
                    drop(store);
                    store = directory.store();
                    snapshots = vec![maker.model.clone()];
                }
                1 => {
                    store.reopen().expect("it can be opened again");
                    snapshots = vec![maker.model.clone()];
                }
                _ => {}
            }
        }
        let (later, later_wall) = (now / 2, wall + 7_000);
        let uncut = load_cut(&directory.file(), 0, later, later_wall);
        let expected = maker.model.restored(later, later_wall);
        prop_assert_eq!(&uncut, &expected);
        let found = load_cut(&directory.file(), cut, later, later_wall);
        prop_assert!(snapshots.iter().any(|model| model.restored(later, later_wall) == found));
        for _ in 0..2 {
            prop_assert_eq!(in_words_of_all(&load(&mut store, later, later_wall)), expected.clone());
        }
    }
}
