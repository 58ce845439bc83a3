//! Any records in any batches: after a kill and after a power cut, and whatever the clocks show then, the store holds
//! what the model holds.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::model::{Model, in_words_of_all};
use super::records::{
    identifier, message_number, portable, recipient, session, session_number, subscription,
};
use super::{Directory, WALL, opening};
use crate::base::time::{Duration, Time};
use crate::core::journal::{
    Batch, MessageNumber, Owed, Recipient, Record, Restored, SessionNumber, StoredDelivery, StoredMessage,
    StoredPresence, StoredWill,
};
use crate::protocol::codec::{PacketIdentifier, QoS};
use crate::settings::OnDamage;
use crate::storage::store::Store;
use crate::storage::timeline::{Anchor, Boot, Clocks, DOWNTIME_MAXIMUM, RELEASED};

/// The raw material of a record. [`Maker`] makes it fit the state.
#[derive(Clone, Debug)]
struct Draft {
    kind: u8,
    session: u64,
    choice: u16,
    length: usize,
    /// Milliseconds from now; `None` for never.
    moment: Option<i64>,
    flag: bool,
}

impl Draft {
    fn topic(&self) -> String {
        format!("t/{}", self.choice % 7)
    }

    fn owed(&self) -> Owed {
        Owed { client_identifier: format!("local.{}", self.session % 2), topic: self.topic() }
    }

    fn packet(&self) -> PacketIdentifier {
        identifier(self.choice % 5 + 1)
    }
}

fn draft() -> impl Strategy<Value = Draft> {
    let moment = prop_oneof![Just(None), (-5_000i64..50_000).prop_map(Some)];
    let length = prop_oneof![9 => 0usize..40, 1 => 3_000usize..9_000];
    (0u8..18, 1u64..6, 0u16..1000, length, moment, any::<bool>()).prop_map(
        |(kind, session, choice, length, moment, flag)| Draft { kind, session, choice, length, moment, flag },
    )
}

/// Makes records that a broker could write.
#[derive(Default)]
struct Maker {
    model: Model,
    /// The number of the latest message.
    number: u64,
}

impl Maker {
    /// The records of a batch, which the model has applied.
    fn records(&mut self, drafts: &[Draft], machine: Machine) -> Vec<Record> {
        let mut records = Vec::new();
        for draft in drafts {
            if let Some(record) = self.record(draft, machine.now) {
                self.model.apply(&record, machine.now, machine.line);
                records.push(record);
            }
        }
        records
    }

    fn record(&mut self, draft: &Draft, now: u64) -> Option<Record> {
        let session = session_number(draft.session);
        let at = draft
            .moment
            .map_or(Time::NEVER, |moment| Time::from_milliseconds(now.saturating_add_signed(moment)));
        let payload = vec![b'x'; draft.length];
        Some(match draft.kind {
            0 | 1 => self.session(draft, at, &payload),
            2 if draft.flag && draft.length % 3 == 1 => Record::FormerEnded(session),
            2 if draft.flag => {
                Record::SessionEnded { session, leaves_shared: draft.length.is_multiple_of(3) }
            }
            2 | 3 => self.subscribed(draft)?,
            4 => Record::Unsubscribed(session, draft.topic()),
            5 if draft.flag => Record::Arrived {
                message: message_number(self.number + 1),
                at: Time::from_milliseconds(now.saturating_sub(draft.length as u64)),
                oldest: message_number((self.number + 1).saturating_sub(draft.choice.into()).max(1)),
            },
            5..8 => self.message(draft, at, &payload),
            8..11 => self.settled(draft)?,
            11 if draft.flag => Record::Received(self.present(session)?, draft.packet()),
            11 => Record::Released(session, draft.packet()),
            13 if draft.flag && draft.choice.is_multiple_of(2) => self.begun(draft)?,
            12 | 13 => self.delivery(draft)?,
            14 if draft.flag => Record::Completed(session, draft.packet()),
            14 => Record::Cleared(draft.topic()),
            15 => Record::Retained(portable(&draft.topic(), &payload, at)),
            16 => Record::Owed(draft.owed()),
            _ if draft.choice.is_multiple_of(10) => Record::NothingOwed(draft.owed().client_identifier),
            _ => Record::Sent(draft.owed()),
        })
    }

    fn subscribed(&self, draft: &Draft) -> Option<Record> {
        let mut made = subscription(&draft.topic());
        made.qos = QoS::from_u8(u8::try_from(draft.choice % 3).ok()?)?;
        made.identifier = draft.length.try_into().ok()?;
        made.no_local = draft.flag;
        made.retain_as_published = !draft.flag;
        made.owes_retained = draft.choice.is_multiple_of(2);
        Some(Record::Subscribed(self.present(session_number(draft.session))?, made))
    }

    fn message(&mut self, draft: &Draft, at: Time, payload: &[u8]) -> Record {
        self.number += 1 + u64::from(draft.choice % 3);
        let others = (1..6).filter(|other| *other != draft.session && draft.choice >> other & 1 == 1);
        let identifiers: Vec<u32> = (0..u32::from(draft.choice % 3)).map(|n| 1 + n * 100_000).collect();
        let mut recipients: Vec<Recipient> = std::iter::once(draft.session)
            .chain(others)
            .map(|session| recipient(session, &identifiers))
            .collect();
        for (place, recipient) in recipients.iter_mut().enumerate() {
            recipient.identifier = Some(draft.packet()).filter(|_| draft.choice >> (place + 5) & 1 == 1);
        }
        if let [only] = &mut recipients[..] {
            only.form.group = Some(format!("$share/g/{}", draft.topic()).into());
        }
        let message = portable(&draft.topic(), payload, at);
        Record::Message(StoredMessage {
            number: message_number(self.number),
            message,
            recipients: recipients.into(),
        })
    }

    fn begun(&self, draft: &Draft) -> Option<Record> {
        let message = self.some_message(draft)?;
        let is_settled = self.model.settled.contains(&(message.0.get(), draft.session));
        let session = session_number(draft.session);
        (!is_settled).then(|| Record::Begun { message, session, identifier: draft.packet() })
    }

    fn delivery(&self, draft: &Draft) -> Option<Record> {
        let message = self.some_message(draft)?;
        let is_released = draft.flag && draft.length.is_multiple_of(2);
        let delivery = StoredDelivery { identifier: draft.packet(), message, is_released };
        Some(Record::Delivery(self.present(session_number(draft.session))?, delivery))
    }

    /// One of the messages in the model.
    fn some_message(&self, draft: &Draft) -> Option<MessageNumber> {
        let count = self.model.messages.len().max(1);
        let (message, _) = self.model.messages.iter().nth(usize::from(draft.choice) % count)?;
        Some(message_number(*message))
    }

    /// The session, if it exists. Otherwise it can have no rows.
    fn present(&self, session: SessionNumber) -> Option<SessionNumber> {
        self.model.sessions.contains_key(&session.0.get()).then_some(session)
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

    /// Settles a message for one of the sessions that still need it.
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

/// A machine with its clocks, and the timeline that should result.
#[derive(Clone, Copy)]
struct Machine {
    /// The broker's own clock.
    now: u64,
    boot: u64,
    uptime: u64,
    wall: u64,
    line: u64,
}

/// What happens between two batches.
#[derive(Clone, Copy, Debug)]
enum Fate {
    GoesOn,
    /// The same broker reopens the store.
    Reopened,
    /// The wall clock is set to this.
    Set(u64),
    /// After this downtime another broker starts.
    Restarted(u64, Start),
}

/// How another broker starts.
#[derive(Clone, Copy, Debug)]
enum Start {
    /// On the same boot; the one before was stopped or killed.
    Same { is_stopped: bool },
    /// After a restart of the machine.
    Other { is_stopped: bool },
}

fn fate() -> impl Strategy<Value = Fate> {
    let walls = prop_oneof![
        0u64..100_000,
        RELEASED - 5..RELEASED + 5,
        WALL - 100_000..WALL + 100_000,
        (0u64..10).prop_map(|more| WALL + DOWNTIME_MAXIMUM + more),
    ];
    let start = prop_oneof![
        any::<bool>().prop_map(|is_stopped| Start::Same { is_stopped }),
        any::<bool>().prop_map(|is_stopped| Start::Other { is_stopped }),
    ];
    prop_oneof![
        4 => Just(Fate::GoesOn),
        1 => Just(Fate::Reopened),
        2 => walls.prop_map(Fate::Set),
        2 => (0u64..20_000, start).prop_map(|(down, start)| Fate::Restarted(down, start)),
    ]
}

impl Machine {
    fn begin() -> Self {
        Self { now: 1_000_000, boot: 1, uptime: 2_000_000, wall: WALL, line: WALL }
    }

    fn clocks(self) -> Clocks {
        let uptime = Time::from_milliseconds(self.uptime);
        let boot = Some(Boot { id: self.boot.into(), uptime });
        Clocks { now: Time::from_milliseconds(self.now), boot, wall: self.wall }
    }

    fn pass(&mut self, time: u64) {
        self.now += time;
        self.uptime += time;
        self.wall += time;
        self.line += time;
    }

    fn open(self, path: &Path) -> Store {
        Store::open(path, opening(OnDamage::Refuse, self.clocks())).expect("it can be opened")
    }

    /// Another broker starts, with this anchor in the store.
    fn restart(&mut self, down: u64, start: Start, anchor: Anchor) {
        self.pass(down);
        self.now = down / 2;
        if let Start::Other { .. } = start {
            self.boot += 1;
            self.uptime = 100;
            let may_be_right =
                self.wall >= RELEASED && (anchor.wall..=anchor.wall + DOWNTIME_MAXIMUM).contains(&self.wall);
            self.line = anchor.moment + if may_be_right { self.wall - anchor.wall } else { 0 };
        }
    }
}

fn load(store: &mut Store, now: u64) -> Vec<Restored> {
    let mut all = Vec::new();
    store.load(Time::from_milliseconds(now), |restored| all.push(restored)).expect("it can be read");
    all
}

/// Copies the files as they are now, like those of a broker that was killed.
fn copy(from: &Path, to: &Path) {
    for ending in ["", "-wal"] {
        let name = |path: &Path| format!("{}{ending}", path.display());
        fs::copy(name(from), name(to)).expect("it can be copied");
    }
}

/// Loads a copy whose journal has lost its end.
#[expect(clippy::disallowed_methods, reason = "tests look at files")]
fn load_cut(from: &Path, cut: usize, machine: Machine) -> Vec<String> {
    let other = Directory::new();
    copy(from, &other.file());
    let journal = format!("{}-wal", other.file().display());
    let journal = fs::OpenOptions::new().write(true).open(journal).expect("it is there");
    let length = usize::try_from(journal.metadata().expect("it has a length").len()).expect("it is short");
    journal.set_len((length - cut % (length + 1)) as u64).expect("it can be cut");
    in_words_of_all(&load(&mut machine.open(&other.file()), machine.now))
}

/// Stops the broker and opens its store for another one, which must find what the model holds.
fn restarted(
    mut store: Store,
    machine: &mut Machine,
    path: &Path,
    model: &Model,
    (down, start): (u64, Start),
) -> Result<Store, TestCaseError> {
    let (Start::Same { is_stopped } | Start::Other { is_stopped }) = start;
    if is_stopped {
        store.finish(machine.clocks()).expect("there is room");
        prop_assert_eq!(store.timeline.anchor().moment, machine.line);
    }
    prop_assert!(machine.line - store.timeline.anchor().moment <= 60_000);
    machine.restart(down, start, store.timeline.anchor());
    // From a copy, because loading removes what is no longer needed.
    let found = load_cut(path, 0, *machine);
    prop_assert_eq!(found, model.restored(machine.now, machine.line));
    drop(store);
    store = machine.open(path);
    store.keep_time(machine.clocks()).expect("there is room");
    // Reopening brings the journal into the file, so that what is durable cannot be cut off.
    store.reopen().expect("it can be opened again");
    Ok(store)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn what_comes_back_is_what_was_written(
        batches in prop::collection::vec(
            (prop::collection::vec(draft(), 1..30), any::<u16>(), fate()),
            1..8,
        ),
        cut in any::<usize>(),
    ) {
        let directory = Directory::new();
        let mut machine = Machine::begin();
        let mut store = machine.open(&directory.file());
        let mut maker = Maker::default();
        let mut snapshots = vec![maker.model.clone()];
        for (number, (drafts, pause, fate)) in (1..).zip(&batches) {
            machine.pass((*pause).into());
            let records = maker.records(drafts, machine);
            let batch = Batch { number, now: Time::from_milliseconds(machine.now), records, log: Vec::new() };
            // The batch is committed later than it was closed, and twice.
            for _ in 0..2 {
                machine.pass(50);
                store.commit(&batch, machine.clocks()).expect("there is room");
            }
            // A batch without records writes nothing, so the clocks are persisted as in an idle broker.
            if batch.records.is_empty() {
                store.keep_time(machine.clocks()).expect("there is room");
            }
            snapshots.push(maker.model.clone());
            match *fate {
                Fate::GoesOn => {}
                Fate::Reopened => store.reopen().expect("it can be opened again"),
                Fate::Set(wall) => {
                    machine.wall = wall;
                    store.keep_time(machine.clocks()).expect("there is room");
                }
                Fate::Restarted(down, start) => {
                    let path = directory.file();
                    store = restarted(store, &mut machine, &path, &maker.model, (down, start))?;
                }
            }
            if matches!(fate, Fate::Reopened | Fate::Restarted(..)) {
                snapshots = vec![maker.model.clone()];
            }
        }
        let mut later = machine;
        later.restart(7_000, Start::Same { is_stopped: false }, store.timeline.anchor());
        let uncut = load_cut(&directory.file(), 0, later);
        let expected = maker.model.restored(later.now, later.line);
        prop_assert_eq!(&uncut, &expected);
        let found = load_cut(&directory.file(), cut, later);
        prop_assert!(snapshots.iter().any(|model| model.restored(later.now, later.line) == found));
        drop(store);
        let mut store = later.open(&directory.file());
        for _ in 0..2 {
            prop_assert_eq!(in_words_of_all(&load(&mut store, later.now)), expected.clone());
        }
    }
}
