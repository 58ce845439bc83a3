//! The thread, as the loop sees it.

use std::fs;
use std::num::NonZeroU64;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::base::time::Time;
use crate::core::journal::{
    Batch, CopyForm, Fetch, MessageNumber, Recipient, Record, Restored, Room, SessionNumber, StoredMessage,
    StoredPresence, StoredSession,
};
use crate::core::listener::ListenerId;
use crate::core::message::{Portable, Publication};
use crate::core::subscription::Identifiers;
use crate::protocol::codec::{Properties, QoS};
use crate::protocol::topic::TopicName;
use crate::settings::OnDamage;
use crate::storage::store::{Opening, Space, Store, StoreError};
use crate::storage::thread::{Storage, StorageAnswer, room, room_in};
use crate::storage::timeline::{Boot, Clocks};

/// Clocks that stand still.
const CLOCKS: Clocks = Clocks { now: Time::ZERO, boot: None, wall: 0 };

const SESSION: SessionNumber = SessionNumber(NonZeroU64::MIN);

/// A file and its directory, removed with the test.
struct File(PathBuf);

impl File {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("brooklet-keeper-{}-{count}", std::process::id()));
        fs::create_dir(&path).expect("a new directory");
        Self(path)
    }

    fn store(&self) -> Store {
        self.open(CLOCKS)
    }

    fn open(&self, clocks: Clocks) -> Store {
        let opening = Opening { listeners: Vec::new(), on_damage: OnDamage::Refuse, clocks };
        Store::open(&self.0.join("store.db"), opening).expect("it can be opened")
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("store.db.ballast")
    }

    /// The numbers of the messages queued in it.
    fn waiting(&self) -> Vec<u64> {
        let mut numbers = Vec::new();
        let each = |restored| {
            if let Restored::Waiting { message, .. } = restored {
                numbers.push(message.0.get());
            }
        };
        self.store().load(Time::ZERO, each).expect("it can be read");
        numbers
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Starts a storage. Returns it and a receiver that hears each time the loop is woken.
fn start(store: Store) -> (Storage, Receiver<()>) {
    start_with(store, || CLOCKS)
}

fn start_with(store: Store, clocks: impl Fn() -> Clocks + Send + 'static) -> (Storage, Receiver<()>) {
    let (waking, woken) = channel();
    let wake = move || {
        let _ = waking.send(());
    };
    (Storage::start(store, clocks, wake).expect("there is a thread"), woken)
}

fn number(number: u64) -> MessageNumber {
    MessageNumber(NonZeroU64::new(number).expect("not zero"))
}

/// A batch of one message for the only session.
fn batch(count: u64) -> Batch {
    batch_of(count, Time::NEVER)
}

fn batch_of(count: u64, expires: Time) -> Batch {
    let session = StoredSession {
        number: SESSION,
        client_identifier: "client".to_owned(),
        user_name: None,
        is_proved: false,
        listener: ListenerId(0),
        expiry_interval: 60,
        presence: StoredPresence::Connected,
        will: None,
    };
    let message = Portable::new(&Publication {
        topic: TopicName::new("t").expect("a topic"),
        payload: b"payload",
        qos: QoS::AtLeastOnce,
        retain: false,
        publisher: None,
        properties: Properties::default(),
        expires,
    });
    let (qos, identifiers) = (QoS::AtLeastOnce, Identifiers::default());
    let form = CopyForm { qos, retain: false, identifiers, group: None };
    let recipients = vec![Recipient { session: SESSION, form, identifier: None }].into();
    let records = vec![
        Record::Session(Box::new(session)),
        Record::Message(StoredMessage { number: number(count), message, recipients }),
    ];
    Batch { number: count, now: Time::ZERO, records, log: Vec::new() }
}

/// A request of the only session for a message.
fn fetch(count: u64) -> Vec<Fetch> {
    vec![Fetch { session: SESSION, messages: vec![number(count)] }]
}

/// The number of the batch that has become durable.
fn durable(answer: Option<StorageAnswer>) -> u64 {
    match answer {
        Some(StorageAnswer::Durable { number, .. }) => number,
        other => panic!("it is not durable: {other:?}"),
    }
}

/// The numbers of the messages read.
fn found(answer: Option<StorageAnswer>) -> Vec<u64> {
    match answer {
        Some(StorageAnswer::Read(pages)) => {
            let copies = pages.pages.iter().flat_map(|page| &page.copies);
            copies.filter(|copy| copy.found.is_some()).map(|copy| copy.number.0.get()).collect()
        }
        other => panic!("it is not read: {other:?}"),
    }
}

#[test]
fn batches_become_durable_and_the_loop_is_woken() {
    let file = File::new();
    let (mut storage, woken) = start(file.store());
    assert!(storage.is_idle() && storage.next_answer().is_none());
    for count in 1..4 {
        storage.submit(batch(count));
        assert!(!storage.is_idle());
        woken.recv().expect("it wakes");
        let Some(StorageAnswer::Durable { figures, .. }) = &storage.next_answer() else {
            panic!("it is durable")
        };
        assert_eq!(figures.commits, count);
        assert!(figures.bytes >= count * 4096 && figures.longest >= figures.median);
        assert!(storage.is_idle() && storage.next_answer().is_none());
    }
    storage.submit(batch(4));
    let mut left = storage.finish().into_iter();
    assert_eq!(durable(left.next()), 4);
    assert!(left.next().is_none());
    assert_eq!(file.waiting(), [1, 2, 3, 4]);
}

#[test]
fn a_full_disk_is_reported_once_and_retried_until_there_is_room() {
    let file = File::new();
    let mut store = file.store();
    store.faults = vec![StoreError::Full; 3].into();
    let (mut storage, woken) = start(store);
    storage.submit(batch(1));
    woken.recv().expect("it wakes");
    assert!(matches!(storage.next_answer(), Some(StorageAnswer::Full)));
    assert!(!storage.is_idle());
    storage.submit(batch(2));
    for count in 1..3 {
        woken.recv().expect("it wakes");
        assert_eq!(durable(storage.next_answer()), count);
    }
    assert!(storage.is_idle());
}

#[test]
fn a_full_disk_does_not_keep_the_broker_from_ending() {
    let file = File::new();
    let mut store = file.store();
    store.faults = vec![StoreError::Full; 1_000_000].into();
    let (mut storage, _woken) = start(store);
    storage.submit(batch(1));
    let left = storage.finish();
    assert!(
        matches!(&left[..], [StorageAnswer::Full, StorageAnswer::Failed(why)] if why.contains("no space")),
        "{left:?}"
    );
    assert!(file.waiting().is_empty());
}

#[test]
fn a_failed_batch_is_retried_once_with_the_file_reopened() {
    let file = File::new();
    let mut store = file.store();
    let fault = || StoreError::Other("disk I/O error".to_owned());
    // The first failure for lack of room takes the ballast.
    store.faults = vec![fault(), StoreError::Full, StoreError::Full].into();
    let (mut storage, woken) = start(store);
    storage.submit(batch(1));
    woken.recv().expect("it wakes");
    assert!(matches!(storage.next_answer(), Some(StorageAnswer::Full)));
    woken.recv().expect("it wakes");
    assert_eq!(durable(storage.next_answer()), 1);
    storage.finish();

    let mut store = file.store();
    store.faults = vec![fault(), fault()].into();
    let (mut storage, woken) = start(store);
    storage.submit(batch(2));
    woken.recv().expect("it wakes");
    assert!(matches!(storage.next_answer(), Some(StorageAnswer::Failed(why)) if why == "disk I/O error"));
    assert!(storage.is_idle());
    storage.submit(batch(3));
    // The thread has ended, so no further batch becomes durable, and the answer says so.
    let next = std::iter::repeat_with(|| storage.next_answer()).flatten().next();
    assert!(matches!(next, Some(StorageAnswer::Failed(_))));
    drop(storage);
    assert_eq!(file.waiting(), [1]);
}

/// Clocks that the test sets, for a machine that is not restarted.
#[derive(Clone, Default)]
struct Watch(Arc<AtomicU64>);

impl Watch {
    fn read(&self) -> Clocks {
        let now = Time::from_milliseconds(self.0.load(Ordering::SeqCst));
        Clocks { now, boot: Some(Boot { id: 1, uptime: now }), wall: 5 }
    }
}

#[test]
fn the_end_of_the_broker_is_recorded() {
    let file = File::new();
    let watch = Watch::default();
    let clocks = watch.clone();
    let (mut storage, woken) = start_with(file.open(watch.read()), move || clocks.read());
    storage.submit(batch_of(1, Time::from_milliseconds(100_000)));
    woken.recv().expect("it wakes");
    assert_eq!(durable(storage.next_answer()), 1);
    watch.0.store(70_000, Ordering::SeqCst);
    storage.finish();
    // Clocks of another boot with a wrong wall clock.
    let clocks = Clocks { now: Time::ZERO, boot: Some(Boot { id: 2, uptime: Time::ZERO }), wall: 0 };
    let mut left = None;
    let each = |restored| {
        if let Restored::Waiting { expires, .. } = restored {
            left = Some(expires);
        }
    };
    file.open(clocks).load(Time::ZERO, each).expect("it can be read");
    assert_eq!(left, Some(Time::from_milliseconds(30_000)));
}

#[test]
fn the_clocks_are_persisted_while_nothing_is_committed() {
    let file = File::new();
    let watch = Watch::default();
    let (mut store, clocks) = (file.open(watch.read()), watch.clone());
    store.load(Time::ZERO, |_| panic!("it is new")).expect("it can be read");
    assert_eq!(store.written().commits, 1);
    watch.0.store(60_000, Ordering::SeqCst);
    let (asking, asked) = channel();
    let (mut storage, woken) = start_with(store, move || {
        let _ = asking.send(());
        clocks.read()
    });
    for _ in 0..3 {
        // This timeout is only reached if the test fails.
        asked.recv_timeout(Duration::from_secs(60)).expect("it looks at the clocks now and then");
    }
    storage.submit(batch(1));
    woken.recv().expect("it wakes");
    let Some(StorageAnswer::Durable { figures, .. }) = storage.next_answer() else { panic!("it is durable") };
    assert_eq!(figures.commits, 3, "the start, a minute later, and the batch");
}

#[test]
fn a_batch_goes_before_reads() {
    const COUNT: u16 = 10_000;
    let file = File::new();
    let (mut storage, woken) = start(file.store());
    storage.submit(batch(1));
    woken.recv().expect("it wakes");
    assert_eq!(durable(storage.next_answer()), 1);
    // More than can be read in the time that a batch may have to wait.
    let fetches = (1..=COUNT).map(|count| Fetch { session: SESSION, messages: vec![number(count.into())] });
    storage.read(fetches.collect(), Time::ZERO);
    storage.submit(batch(2));
    let (mut before, mut behind) = (0, 0);
    let count = |answer: StorageAnswer, parts: &mut usize| match answer {
        StorageAnswer::Read(pages) => {
            *parts += pages.pages.iter().map(|page| page.copies.len()).sum::<usize>()
        }
        other => panic!("nothing but pages is awaited: {other:?}"),
    };
    while !storage.is_idle() {
        woken.recv().expect("it wakes");
        match storage.next_answer() {
            Some(StorageAnswer::Durable { number, .. }) => assert_eq!(number, 2),
            Some(answer) => count(answer, &mut before),
            None => {}
        }
    }
    assert!(before <= 2 * 4096, "it has waited for one or two parts: {before}");
    while behind + before < usize::from(COUNT) {
        woken.recv().expect("it wakes");
        storage.next_answer().into_iter().for_each(|answer| count(answer, &mut behind));
    }
}

#[test]
fn wanted_messages_are_read_while_the_disk_is_full() {
    let file = File::new();
    let mut store = file.store();
    store.commit(&batch(1), CLOCKS).expect("there is room");
    store.faults = vec![StoreError::Full; 1_000_000].into();
    let (mut storage, woken) = start(store);
    storage.submit(batch(2));
    woken.recv().expect("it wakes");
    assert!(matches!(storage.next_answer(), Some(StorageAnswer::Full)));
    storage.read(fetch(1), Time::ZERO);
    woken.recv().expect("it wakes");
    assert_eq!(found(storage.next_answer()), [1]);
    assert!(!storage.is_idle(), "the batch still waits");
    storage.finish();
}

#[test]
fn a_failed_read_is_retried_once() {
    let file = File::new();
    let mut store = file.store();
    store.commit(&batch(1), CLOCKS).expect("there is room");
    let fault = || StoreError::Other("disk I/O error".to_owned());
    store.read_faults.borrow_mut().push_back(fault());
    let (mut storage, woken) = start(store);
    storage.read(fetch(1), Time::ZERO);
    woken.recv().expect("it wakes");
    assert_eq!(found(storage.next_answer()), [1]);
    storage.finish();

    let store = file.store();
    store.read_faults.borrow_mut().extend([fault(), fault()]);
    let (mut storage, woken) = start(store);
    storage.read(fetch(1), Time::ZERO);
    woken.recv().expect("it wakes");
    assert!(matches!(storage.next_answer(), Some(StorageAnswer::Failed(why)) if why == "disk I/O error"));
}

#[test]
fn room_is_rated_by_space_and_ballast() {
    const MIB: u64 = 1024 * 1024;
    for (available, all, lacks_ballast, expected) in [
        (8 * MIB, 1000 * MIB, false, Room::Enough),
        (8 * MIB - 1, 1000 * MIB, false, Room::Scarce),
        (4 * MIB, 32 * MIB, false, Room::Enough),
        (4 * MIB - 1, 32 * MIB, false, Room::Scarce),
        (0, 32 * MIB, false, Room::Scarce),
        (900 * MIB, 1000 * MIB, true, Room::Scarce),
        (4 * MIB, 1000 * MIB, true, Room::Scarce),
        (4 * MIB - 1, 1000 * MIB, true, Room::Gone),
        (MIB - 1, 32 * MIB, true, Room::Gone),
    ] {
        let space = Space { available, all };
        assert_eq!(room_in(space, lacks_ballast), expected, "{available} of {all}, {lacks_ballast}");
    }
    assert_eq!(room(Path::new("/no/such/place"), false), Room::Enough, "the commit will tell");
}

#[test]
fn a_full_disk_takes_the_ballast_and_gives_it_back() {
    let file = File::new();
    let mut store = file.store();
    store.commit(&batch(1), CLOCKS).expect("there is room");
    store.faults = vec![StoreError::Full].into();
    let (mut storage, woken) = start(store);
    storage.submit(batch(2));
    woken.recv().expect("it wakes");
    let answer = storage.next_answer();
    assert!(
        matches!(answer, Some(StorageAnswer::Durable { number: 2, .. })),
        "it had the ballast's room: {answer:?}"
    );
    while storage.lacks_ballast() {
        std::thread::yield_now();
    }
    storage.finish();
    let ballast = fs::symlink_metadata(file.ballast()).expect("it stays after the end");
    assert!(ballast.is_file() && ballast.blocks() * 512 >= ballast.len() && ballast.len() > 0);
    assert_eq!(ballast.mode() & 0o777, 0o600);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "this is about files")]
fn a_link_with_the_name_of_the_ballast_is_not_followed() {
    let file = File::new();
    let store = file.store();
    let victim = file.0.join("victim");
    fs::write(&victim, "precious").expect("it is written");
    std::os::unix::fs::symlink(&victim, file.ballast()).expect("it is linked");
    start(store).0.finish();
    assert_eq!(fs::read(&victim).expect("it is there"), b"precious");
    let ballast = fs::symlink_metadata(file.ballast()).expect("it is there");
    assert!(ballast.is_file() && ballast.len() > 100_000, "a file of its own");
}

#[test]
fn a_file_that_is_gone_ends_the_thread_even_if_nothing_is_written() {
    for ending in ["", "-wal"] {
        let file = File::new();
        let (mut storage, woken) = start(file.store());
        let path = file.0.join(format!("store.db{ending}"));
        fs::remove_file(&path).expect("it was there");
        woken.recv().expect("it wakes");
        match storage.next_answer() {
            Some(StorageAnswer::Failed(why)) => assert!(why.contains(&path.display().to_string()), "{why}"),
            other => panic!("it has not failed: {other:?}"),
        }
    }
}
