//! Durable state: the storage thread between the core and the disk. The core decides what is to be persisted and when;
//! it is handed over here, and the results come back.

use std::collections::VecDeque;
use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;

use log::{error, info, warn};
use mio::Events;

use super::Server;
use super::clock::AllClocks;
use crate::base::escape::Escaped;
use crate::base::memory::Counted;
use crate::base::plural::Count;
use crate::base::time::{Duration, Time};
use crate::core::broker::StorageFigures;
use crate::core::journal::{Pace, Pages, Restored, Room};
use crate::settings::{ConfigError, Durability, Persistence};
use crate::storage::store::{Opening, Store};
use crate::storage::thread::{self, Storage, StorageAnswer, room};

/// How long a check of the free disk space stays valid. A message that is accepted although the disk is full delays
/// its own answer and all later ones. A check takes about a microsecond.
const ROOM_KNOWN: Duration = Duration::from_milliseconds(1);
/// How often a full disk is checked again.
const ROOM_AWAITED: Duration = Duration::from_milliseconds(250);
/// How long records that no answer depends on may stay unwritten.
const LAZY: Duration = Duration::from_milliseconds(1000);
/// The same where nothing is promised.
const RELAXED: Duration = Duration::from_seconds(60);
/// How long the broker waits for the disk when it ends.
const PATIENCE: Duration = Duration::from_seconds(10);

/// The connection to the storage thread.
pub(super) struct StorageLink {
    storage: Storage,
    /// The path of the file, which may be a link to another disk.
    path: PathBuf,
    /// When the free disk space was last checked.
    looked: Time,
    room: Room,
    /// Whether a batch has met a full disk, whatever the system reports.
    is_stuck: bool,
    /// Pages that were read and not yet passed to the core: one per turn, since each is work for many clients.
    pages: VecDeque<Pages>,
    /// The memory of the storage is part of the memory budget.
    _counted: Counted,
}

impl Server {
    /// Continues where the last run ended, and persists from now on what must survive. To be called before the first
    /// turn.
    ///
    /// # Errors
    ///
    /// What is wrong with the directory or the file, in words for the operator. Or a signal has asked the broker to
    /// end before everything was restored; see [`Server::is_over`].
    pub fn keep(&mut self, persistence: &Persistence) -> Result<(), ConfigError> {
        self.open_store(persistence).map_err(|why| persistence.path().error("persistence_file", why))
    }

    fn open_store(&mut self, persistence: &Persistence) -> Result<(), String> {
        let path = persistence.path().value;
        let place = Escaped(&path.display().to_string()).to_string();
        let (now, clocks) = (self.clock.now(), AllClocks::of(self.clock));
        let listeners = self.present_names(None).into_iter().chain(self.bridges.names()).collect();
        let opening = Opening { listeners, on_damage: persistence.on_damage, clocks: clocks.read() };
        let mut store = Store::open(&path, opening).map_err(|error| error.to_string())?;
        warn_about(&store, &place);
        self.names = store.listeners().map(str::to_owned).collect();
        self.broker.begin_journal(store.next_numbers(), pace(persistence));
        self.restore(&mut store, &place, now)?;
        self.start_storage(store, path, (now, clocks))
    }

    /// Restores what the store holds, and logs how much that is.
    fn restore(&mut self, store: &mut Store, place: &str, now: Time) -> Result<(), String> {
        let Self { broker, signals, .. } = self;
        let mut retained = 0;
        let restore = |restored| {
            retained += usize::from(matches!(restored, Restored::Retained(_)));
            broker.restore(restored, now);
            if signals.is_over() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        store.load_until(now, restore).map_err(|error| error.to_string())?;
        self.broker.finish_restore(now);
        let figures = StorageFigures {
            damaged: store.damaged(),
            severed: store.severed().commits,
            ..StorageFigures::default()
        };
        self.broker.set_storage_figures(figures);
        let census = self.broker.census();
        info!(
            "Restored {}, {} and {} from {place}.",
            Count(census.sessions, "session"),
            Count(census.subscriptions, "subscription"),
            Count(retained, "retained message"),
        );
        Ok(())
    }

    /// Hands the store over to a thread of its own.
    fn start_storage(
        &mut self,
        store: Store,
        path: PathBuf,
        (now, clocks): (Time, AllClocks),
    ) -> Result<(), String> {
        let waker = self.waker();
        let wake = move || {
            if let Err(why) = waker.wake() {
                error!("Error: the loop cannot be woken: {why}.");
            }
        };
        let storage = Storage::start(store, move || clocks.read(), wake)
            .map_err(|error| format!("unable to start the storage thread: {error}"))?;
        let room = room(&path, storage.lacks_ballast());
        self.broker.set_storage_room(room, now);
        self.persistence = Some(StorageLink {
            storage,
            path,
            looked: now,
            room,
            is_stuck: false,
            pages: VecDeque::new(),
            _counted: Counted::new(thread::MEMORY),
        });
        Ok(())
    }

    /// Takes what has become durable, writes the answers that have waited for it, and hands over the next batch. This
    /// is done several times a turn, because the disk would be idle in between.
    ///
    /// # Errors
    ///
    /// Nothing can be made durable any longer, so nothing may be acknowledged.
    #[inline]
    pub(super) fn exchange(&mut self, now: Time) -> io::Result<()> {
        if self.persistence.is_none() {
            return Ok(());
        }
        self.take_storage_answers(now)?;
        while let Some(id) = self.broker.next_answered() {
            self.write_one(id, now);
        }
        self.submit(now);
        Ok(())
    }

    /// Takes the results from the storage thread.
    fn take_storage_answers(&mut self, now: Time) -> io::Result<()> {
        let Some(persistence) = &mut self.persistence else { return Ok(()) };
        while let Some(answer) = persistence.storage.next_answer() {
            match answer {
                StorageAnswer::Durable { number, figures } => {
                    persistence.is_stuck = false;
                    self.broker.set_storage_figures(figures);
                    self.broker.durable(number, now);
                }
                StorageAnswer::Read(pages) => persistence.pages.push_back(pages),
                StorageAnswer::Full => persistence.is_stuck = true,
                StorageAnswer::Failed(why) => {
                    return Err(io::Error::other(format!("the storage failed: {why}")));
                }
            }
        }
        Ok(())
    }

    /// Passes one page that has been read to the core.
    pub(super) fn take_pages(&mut self, now: Time) {
        if let Some(pages) = self.persistence.as_mut().and_then(|persistence| persistence.pages.pop_front()) {
            self.broker.pages(&pages, now);
        }
    }

    /// Makes sure that the core knows whether there is disk space, before it accepts anything.
    pub(super) fn check_storage_room(&mut self, now: Time) {
        let Some(persistence) = &mut self.persistence else { return };
        if now.since(persistence.looked) >= ROOM_KNOWN {
            persistence.looked = now;
            persistence.room = room(&persistence.path, persistence.storage.lacks_ballast());
        }
        let room = if persistence.is_stuck { Room::Gone } else { persistence.room };
        self.broker.set_storage_room(room, now);
    }

    /// Hands over what is to be persisted now, and what is to be read.
    fn submit(&mut self, now: Time) {
        let Some(persistence) = &mut self.persistence else { return };
        if persistence.storage.is_idle()
            && self.broker.batch_due().is_some_and(|due| due <= now)
            && let Some(batch) = self.broker.take_batch(now)
        {
            persistence.storage.submit(batch);
        }
        if self.broker.wants_pages() {
            let fetches = self.broker.take_fetches(now);
            if !fetches.is_empty() {
                persistence.storage.read(fetches, now);
            }
        }
    }

    /// When durable state next needs work, if nothing happens before.
    pub(super) fn persistence_due(&self) -> Option<Time> {
        let persistence = self.persistence.as_ref()?;
        let looking = (persistence.room != Room::Enough || persistence.is_stuck)
            .then(|| persistence.looked + ROOM_AWAITED);
        let reading = (!persistence.pages.is_empty() || self.broker.wants_pages()).then_some(Time::ZERO);
        [self.broker.batch_due(), looking, reading].into_iter().flatten().min()
    }

    /// Persists everything that is to survive the end, as far as the disk allows it.
    pub(super) fn finish_persistence(&mut self, events: &mut Events) -> io::Result<()> {
        let end = self.clock.now() + PATIENCE;
        while self.persistence.is_some() && !self.broker.is_durable() {
            let now = self.clock.now();
            if now >= end {
                warn!(
                    "Warning: not everything could be written to disk in time; everything acknowledged was."
                );
                break;
            }
            self.broker.persist(now);
            self.turn(events, Some(end))?;
        }
        if let Some(persistence) = self.persistence.take() {
            persistence.storage.finish();
        }
        Ok(())
    }
}

/// Warns the operator that something is lost, or that its age is in doubt.
fn warn_about(store: &Store, place: &str) {
    if let Some(aside) = store.was_set_aside() {
        let aside = Escaped(&aside.display().to_string()).to_string();
        warn!(
            "Warning: {place} was damaged. It was moved to {aside}; the broker begins without what it holds."
        );
    }
    if let Some(doubt) = store.doubt() {
        warn!(
            "Warning: it is not known how long the broker was down, since the machine was started again and the \
             clock {doubt}. Nothing in {place} has become older meanwhile."
        );
    }
}

fn pace(persistence: &Persistence) -> Pace {
    match persistence.durability {
        Durability::Always => Pace { holds: true, urgent: persistence.commit_delay, lazy: LAZY },
        Durability::EverySecond => Pace { holds: false, urgent: LAZY, lazy: LAZY },
        Durability::None => Pace { holds: false, urgent: RELAXED, lazy: RELAXED },
    }
}
