//! How durable state is written and read: one SQLite database, owned by one [`Store`]. No other room knows that it is
//! SQLite. In this room, *the journal* is SQLite's write-ahead log.
//!
//! A batch of records is one transaction. A message is one row, however many recipients it has: the row lists them,
//! and a recipient that no longer needs the message is noted in the table `done`, until none needs it. Sessions
//! settle messages in any order, so each of them is noted on its own. One mark per session, up to which everything is
//! settled, would save few rows and is left out.
//!
//! There is no clock here, and no thread but the caller's, which may let other threads run between the rows of a long
//! transaction. Clock readings are passed in. Times are stored on a [`timeline`](crate::storage::timeline), because
//! the broker's own clock means nothing after a restart, and a wall clock means nothing if it is wrong.

mod anchor;
mod arrivals;
mod ballast;
mod beginning;
mod damage;
mod error;
mod file;
mod listeners;
mod load;
mod needless;
mod owed;
mod pages;
mod rows;
mod schema;
mod statements;
mod survey;
mod tables;
#[cfg(test)]
mod tests;
mod upkeep;
mod wal;
mod write;

use std::collections::BTreeSet;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::base::time::Time;
use crate::core::journal::{Batch, MessageNumber, NextNumbers, Pages, Restored};
use crate::settings::{ListenerName, OnDamage};
use crate::storage::timeline::{Anchor, Clocks, Doubt, Timeline};

pub use ballast::{BallastState, Space};
pub use beginning::Beginning;
pub use error::{OpenError, StoreError};
pub use file::{is_database_of_mosquitto, replace};
pub use pages::Wanted;
pub use survey::{StoredQueue, holds_nothing, inspect, survey};
pub use upkeep::{JOURNAL_BYTES_MAXIMUM, Pause, Written};
pub use wal::Severed;

use ballast::Ballast;
use damage::Damage;
use file::Place;
use listeners::Listeners;
use rows::{Present, Translation};
use write::{Beside, Marks};

/// Statements that SQLite keeps prepared: more than there are.
const STATEMENTS_MAXIMUM: usize = 48;

/// Size of SQLite's page cache in bytes.
pub const CACHE_BYTES: usize = 1024 * schema::CACHE_KIB as usize;

/// The options with which a store is opened.
#[derive(Clone, Debug)]
pub struct Opening {
    /// The listeners of the settings, in their order.
    pub listeners: Vec<ListenerName>,
    /// What to do with a damaged file.
    pub on_damage: OnDamage,
    /// The current clock readings. They give the moment on the timeline, and the name of a file that is set aside.
    pub clocks: Clocks,
}

/// The durable state of a broker, on disk.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    ballast: Ballast,
    connection: Connection,
    /// The listeners of the settings, and all others that the store knows.
    listeners: Listeners,
    /// The highest numbers that may have been given so far.
    marks: Marks,
    timeline: Timeline,
    written: Written,
    damage: Damage,
    /// What the journal held after a damaged place when the file was opened.
    severed: Severed,
    /// The identity of the open files.
    place: Place,
    /// Messages whose rows cannot be removed.
    spared: BTreeSet<MessageNumber>,
    /// Whether unused pages are returned to the system.
    gives_back: bool,
    /// Where a damaged file was moved when the store was opened.
    set_aside: Option<PathBuf>,
    /// Errors for the next commits.
    #[cfg(test)]
    pub(crate) faults: std::collections::VecDeque<StoreError>,
    /// Errors for the next reads.
    #[cfg(test)]
    pub(crate) read_faults: std::cell::RefCell<std::collections::VecDeque<StoreError>>,
}

impl Store {
    /// Opens the store at a path and creates the file if there is none. No other process can use it until this is
    /// dropped.
    ///
    /// If a damaged file is to be set aside, all of it is read here. Later would be too late: half of its content
    /// might have been handed out by then.
    ///
    /// # Errors
    ///
    /// What is wrong with the directory or the file, in words for the operator.
    pub fn open(path: &Path, opening: Opening) -> Result<Self, OpenError> {
        if opening.on_damage == OnDamage::Refuse {
            return Self::open_as_it_is(path, &opening.listeners, opening.clocks);
        }
        let Opening { listeners: present, clocks, .. } = opening;
        let read = |mut store: Self| store.load(clocks.now, |_| {}).map(|_| store);
        match Self::open_as_it_is(path, &present, clocks).and_then(read) {
            Err(OpenError::Damaged { path: real, .. }) => {
                let set_aside = file::set_aside(&real, clocks.wall)?;
                let store = Self::open_as_it_is(&real, &present, clocks)?;
                Ok(Self { set_aside: Some(set_aside), ..store })
            }
            other => other,
        }
    }

    /// On a full disk, the ballast makes room.
    fn open_as_it_is(path: &Path, present: &[ListenerName], clocks: Clocks) -> Result<Self, OpenError> {
        file::prepare(path)?;
        // Links are resolved once, here: SQLite puts its journal next to their target.
        let path = &file::real(path)?;
        match Self::open_real(path, present, clocks) {
            Err(error) if error.is_want_of_room() && Ballast::beside(path).give_up() => {
                Self::open_real(path, present, clocks)
            }
            outcome => outcome,
        }
    }

    fn open_real(path: &Path, present: &[ListenerName], clocks: Clocks) -> Result<Self, OpenError> {
        let taken = schema::take(path)?;
        // Must be read before anything is written.
        let severed = wal::severed(&file::journal(path));
        let connection = taken.bring_up(path, present, Anchor::first(clocks))?;
        let in_words = |error: StoreError| error.about(path);
        let listeners = Listeners::read(&connection, present).map_err(in_words)?;
        let marks = Marks::read(&connection).map_err(in_words)?;
        let anchor = anchor::read(&connection).map_err(in_words)?;
        let mut written = upkeep::begin(&connection).map_err(in_words)?;
        if severed != Severed::default() {
            damage::report_severed(severed, &file::journal(path));
            // Otherwise the damage is reported again, until the journal has grown beyond that place.
            upkeep::empty_journal(&connection, &mut written).map_err(in_words)?;
        }
        let mut damage = Damage::default();
        damage.check_structure(&connection).map_err(in_words)?;
        let place = Self::find(path)?;
        Ok(Self {
            path: path.to_owned(),
            ballast: Ballast::beside(path),
            connection,
            listeners,
            marks,
            timeline: Timeline::resume(anchor, clocks),
            written,
            damage,
            severed,
            place,
            spared: BTreeSet::new(),
            gives_back: true,
            set_aside: None,
            #[cfg(test)]
            faults: Default::default(),
            #[cfg(test)]
            read_faults: Default::default(),
        })
    }

    fn find(path: &Path) -> Result<Place, OpenError> {
        Place::of(path).map_err(|why| OpenError::File { path: path.to_owned(), why })
    }

    /// Checks that the file and its journal have not been removed or replaced.
    ///
    /// # Errors
    ///
    /// If one of them has been: what is written to it is lost.
    pub fn check_place(&self) -> Result<(), StoreError> {
        self.place.lost().map_or(Ok(()), |lost| Err(StoreError::Lost(lost.to_owned())))
    }

    /// Returns what the journal held after a damaged place when the store was opened. These commits are lost.
    pub const fn severed(&self) -> Severed {
        self.severed
    }

    /// Returns where a damaged file was moved when the store was opened.
    pub fn was_set_aside(&self) -> Option<&Path> {
        self.set_aside.as_deref()
    }

    /// Returns why it is unknown how long the store was not in use. If it is unknown, that time counts as zero.
    pub const fn doubt(&self) -> Option<Doubt> {
        self.timeline.doubt()
    }

    /// The names of all present and former listeners. Those of the settings come first, in their order. Restored
    /// state refers to a listener by its position in this list.
    pub fn listeners(&self) -> impl Iterator<Item = &str> {
        self.listeners.names()
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a batch durable, as a whole or not at all. Committing the same batch twice has no further effect.
    ///
    /// `clocks` are the current readings. They are persisted with the batch if this is due.
    ///
    /// # Errors
    ///
    /// If the batch is not durable, or may be but could not be confirmed to be. It may be committed again: with this
    /// store if the disk is [full](StoreError::Full), otherwise after [`Store::reopen`].
    pub fn commit(&mut self, batch: &Batch, clocks: Clocks) -> Result<(), StoreError> {
        self.commit_in_parts(batch, clocks, || ())
    }

    /// Like [`Store::commit`], but calls `let_others_run` now and then, so that other threads get the processor.
    ///
    /// # Errors
    ///
    /// As for [`Store::commit`].
    pub fn commit_in_parts(
        &mut self,
        batch: &Batch,
        clocks: Clocks,
        mut let_others_run: impl FnMut(),
    ) -> Result<(), StoreError> {
        if batch.records.is_empty() {
            return Ok(());
        }
        #[cfg(test)]
        if let Some(fault) = self.faults.pop_front() {
            return Err(fault);
        }
        let (present, anchor) = (Present::new(batch.now, &self.timeline), self.timeline.due(clocks));
        let translation = Translation { present, listeners: &self.listeners };
        let beside = Beside { translation, marks: self.marks, anchor, spared: &self.spared };
        let outcome = write::commit(&mut self.connection, batch, beside, &mut let_others_run);
        if let Err(StoreError::Damaged(_)) = outcome {
            self.spared.append(&mut write::unremovable(&self.connection, batch));
        }
        let (marks, listeners) = outcome.map_err(|error| self.judged(error))?;
        self.marks = marks;
        if let Some(listeners) = listeners {
            self.listeners = listeners;
        }
        if let Some(anchor) = anchor {
            self.timeline.anchored(anchor, clocks.now);
        }
        upkeep::count(&self.connection, &mut self.written)
    }

    /// Persists the clock readings if this is due. Returns whether it was. To be called now and then while nothing
    /// else is committed.
    ///
    /// # Errors
    ///
    /// As for [`Store::commit`].
    pub fn keep_time(&mut self, clocks: Clocks) -> Result<bool, StoreError> {
        let Some(anchor) = self.timeline.due(clocks) else { return Ok(false) };
        self.anchor(anchor, clocks.now).map(|()| true)
    }

    /// Persists the clock readings in any case. This is the last call to a store.
    ///
    /// # Errors
    ///
    /// As for [`Store::commit`].
    pub fn finish(&mut self, clocks: Clocks) -> Result<(), StoreError> {
        self.anchor(self.timeline.anchor_by(clocks), clocks.now)
    }

    fn anchor(&mut self, anchor: Anchor, now: Time) -> Result<(), StoreError> {
        anchor::write(anchor, &self.connection).map_err(|error| self.judged(error.into()))?;
        self.timeline.anchored(anchor, now);
        upkeep::count(&self.connection, &mut self.written)
    }

    /// Reads some of the wanted messages: at least one, then more until one call has read enough or `is_time_up`
    /// returns true.
    ///
    /// # Errors
    ///
    /// If the first message cannot be read. It is still wanted.
    pub fn read(
        &self,
        wanted: &mut Wanted,
        now: Time,
        is_time_up: impl FnMut() -> bool,
    ) -> Result<Pages, StoreError> {
        #[cfg(test)]
        if let Some(fault) = self.read_faults.borrow_mut().pop_front() {
            return Err(fault);
        }
        let translation =
            Translation { present: Present::new(now, &self.timeline), listeners: &self.listeners };
        pages::read(&self.connection, wanted, translation, is_time_up)
    }

    /// Skips the first wanted message after it could not be read for the reason `why`. It is counted and reported as
    /// lost.
    pub fn give_up(&mut self, wanted: &mut Wanted, why: &str) -> Pages {
        let Some((number, pages)) = pages::give_up(wanted) else { return Pages::default() };
        self.damage.lose_message(&self.connection, number, why);
        pages
    }

    /// Returns how many damaged rows have been found since the store was opened.
    pub const fn damaged(&self) -> u64 {
        self.damage.count
    }

    /// Returns the next numbers to give. Nothing that [`Store::load`] hands out has one of them.
    pub const fn next_numbers(&self) -> NextNumbers {
        self.marks.next()
    }

    /// Reads everything, in the order that [`Restored`] specifies, and removes what is no longer needed: messages
    /// that are settled or whose sessions are gone, and messages and retained messages that have expired. Damaged
    /// messages, retained messages and notes are removed, too, and each is reported in the log. The clocks are
    /// persisted only after all this, because a file that cannot be read must stay unchanged. Returns the [next
    /// numbers](Store::next_numbers).
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or more than messages and notes is damaged. The reason is in words for the
    /// operator. What
    /// `each` has been given before must then not be used.
    pub fn load(&mut self, now: Time, mut each: impl FnMut(Restored)) -> Result<NextNumbers, OpenError> {
        self.load_until(now, |restored| {
            each(restored);
            ControlFlow::Continue(())
        })
    }

    /// Like [`Store::load`], but `each` may stop it.
    ///
    /// # Errors
    ///
    /// As for [`Store::load`], and if `each` has stopped it.
    pub fn load_until(
        &mut self,
        now: Time,
        mut each: impl FnMut(Restored) -> ControlFlow<()>,
    ) -> Result<NextNumbers, OpenError> {
        let translation =
            Translation { present: Present::new(now, &self.timeline), listeners: &self.listeners };
        load::load(&mut self.connection, translation, (self.marks, &mut self.damage), &mut each)
            .map_err(|error| error.about(&self.path))?;
        if self.timeline.is_anchored() {
            return Ok(self.next_numbers());
        }
        match self.keep_time(self.timeline.start()) {
            // It will be persisted with the first commit.
            Ok(_) | Err(StoreError::Full | StoreError::Unwritten(_)) => {}
            Err(error) => return Err(error.about(&self.path)),
        }
        Ok(self.next_numbers())
    }

    /// Opens the file again after an error. The journal is brought into the file, because a system that has failed to
    /// write a page may take it for written from then on.
    ///
    /// # Errors
    ///
    /// As for [`Store::open`]. The store can then only be reopened again or dropped.
    pub fn reopen(&mut self) -> Result<(), OpenError> {
        // Two connections to one file would hinder each other.
        let in_words = |error: StoreError| error.about(&self.path);
        self.check_place().map_err(in_words)?;
        self.connection = Connection::open_in_memory().map_err(|error| in_words(error.into()))?;
        let taken = schema::take(&self.path)?;
        if wal::severed(&file::journal(&self.path)) != Severed::default() {
            return Err(in_words(StoreError::Damaged("its journal has changed".to_owned())));
        }
        self.connection = taken.go_on(&self.path)?;
        self.listeners.number(&self.connection).map_err(in_words)?;
        upkeep::empty_journal(&self.connection, &mut self.written).map_err(in_words)?;
        self.place = Self::find(&self.path)?;
        self.marks = Marks::read(&self.connection).map_err(in_words)?;
        Ok(())
    }

    /// Brings the journal into the file if it has grown long enough. This takes a while, so it is done when no answer
    /// waits for a commit.
    ///
    /// # Errors
    ///
    /// As for [`Store::commit`]; nothing is lost.
    pub fn checkpoint(&mut self, pause: Pause) -> Result<(), StoreError> {
        let outcome = upkeep::checkpoint(&self.connection, &mut self.written, pause);
        outcome.map_err(|error| self.judged(error))
    }

    /// Returns the space of the [ballast](BallastState) to the disk. Returns whether there was any.
    pub fn give_up_ballast(&mut self) -> bool {
        self.ballast.give_up()
    }

    /// Creates the ballast, or a further part of it, if it does not exist and there is room for it.
    ///
    /// # Errors
    ///
    /// If the file cannot be created for a reason other than lack of room.
    pub fn restore_ballast(&mut self) -> io::Result<BallastState> {
        self.ballast.restore()
    }

    /// Recognises an exhausted disk quota, which SQLite reports as a failed write.
    fn judged(&self, error: StoreError) -> StoreError {
        match error {
            StoreError::Unwritten(_) if file::lacks_quota(&self.path) => StoreError::Full,
            error => error,
        }
    }

    /// Releases some unused pages of the file, or more of them if the disk is full. Returns whether there are more to
    /// release. The system gets them once the journal is in the file.
    ///
    /// # Errors
    ///
    /// As for [`Store::checkpoint`].
    pub fn vacuum_slice(&mut self, pause: Pause) -> Result<bool, StoreError> {
        if !self.gives_back {
            return Ok(false);
        }
        match upkeep::vacuum_slice(&self.connection, &mut self.written, pause) {
            Err(StoreError::Damaged(why)) => {
                self.damage.tell(|| "unused pages are no longer given back".to_owned(), &why);
                self.gives_back = false;
                Ok(false)
            }
            outcome => outcome.map_err(|error| self.judged(error)),
        }
    }

    /// Explains to the operator why the store can no longer be used.
    pub fn in_words(&self, error: StoreError) -> String {
        match error {
            StoreError::Damaged(_) | StoreError::Lost(_) => error.about(&self.path).to_string(),
            error => error.to_string(),
        }
    }

    /// Limits the size of the file, in pages.
    #[cfg(test)]
    pub(crate) fn bound(&self, pages: u32) {
        self.connection.query_row(&format!("PRAGMA max_page_count = {pages}"), (), |_| Ok(())).expect("set");
    }

    /// Returns what has been written since the store was opened.
    pub fn written(&self) -> Written {
        self.written
    }
}
