//! How durable state is written and read again: one SQLite database, which one [`Store`] owns. No other room
//! knows that it is one.
//!
//! A batch of records is one transaction. A message is one row whatever the number of its recipients: they stand in
//! the row, and recipients that need it no longer are noted beside it until none does. As sessions settle messages in
//! any order, these notes are kept one by one (the table `done`); a mark per session, up to which all is settled, would
//! save few of them and is left out.
//!
//! There is no clock in here, and no thread but the caller's, which may let others run between the rows of a long
//! transaction. What clocks show is handed in. Moments are stored on a [`timeline`](crate::storage::timeline), because
//! the broker's own clock means nothing after a restart, and a wall clock means nothing where it is wrong.

mod anchor;
mod ballast;
mod damage;
mod error;
mod file;
mod listeners;
mod load;
mod needless;
mod pages;
mod rows;
mod schema;
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
pub use error::{OpenError, StoreError};
pub use pages::Wanted;
pub use upkeep::{JOURNAL_BYTES_MAXIMUM, Pause, Written};
pub use wal::Severed;

use ballast::Ballast;
use damage::Damage;
use file::Place;
use listeners::Listeners;
use rows::{Present, Translation};
use write::{Beside, Marks};

/// Statements that stay prepared: more than there are.
const STATEMENTS_MAXIMUM: usize = 48;

/// Bytes of memory that the engine keeps.
pub const CACHE_BYTES: usize = 1024 * schema::CACHE_KIB as usize;

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct Opening {
    /// The listeners of the settings, in their order.
    pub listeners: Vec<ListenerName>,
    /// What becomes of a file that is damaged.
    pub on_damage: OnDamage,
    /// What the clocks show: for the moment on the timeline, and for the ending of the name of a file that is set
    /// aside.
    pub clocks: Clocks,
}

/// The durable state of a broker, on disk.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    ballast: Ballast,
    connection: Connection,
    /// Those of the settings, and all others that the store knows.
    listeners: Listeners,
    /// Numbers that may have been given so far.
    marks: Marks,
    timeline: Timeline,
    written: Written,
    damage: Damage,
    /// What the journal held after a damaged place when the file was opened.
    severed: Severed,
    /// Where the file is.
    place: Place,
    /// Messages that cannot be removed.
    spared: BTreeSet<MessageNumber>,
    /// Whether unused pages are given back to the system.
    gives_back: bool,
    /// Where a damaged file was put that lay in the way.
    set_aside: Option<PathBuf>,
    /// What the next commits fail with.
    #[cfg(test)]
    pub(crate) faults: std::collections::VecDeque<StoreError>,
    /// What the next reads fail with.
    #[cfg(test)]
    pub(crate) read_faults: std::cell::RefCell<std::collections::VecDeque<StoreError>>,
}

impl Store {
    /// Opens the store in a file, which is made if there is none. No other process can use it until this is dropped.
    ///
    /// If a damaged file is to be set aside, all of it is read for that, because it is too late when half of what it
    /// holds was handed out.
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

    /// Where the disk is full, the room is used that is kept back for that.
    fn open_as_it_is(path: &Path, present: &[ListenerName], clocks: Clocks) -> Result<Self, OpenError> {
        file::prepare(path)?;
        // A link is followed once, here: the engine puts its journal beside what it leads to.
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
        // Before anything is written.
        let severed = wal::severed(&file::journal(path));
        let connection = taken.bring_up(path, present, Anchor::first(clocks))?;
        let in_words = |error: StoreError| error.about(path);
        let listeners = Listeners::read(&connection, present).map_err(in_words)?;
        let marks = Marks::read(&connection).map_err(in_words)?;
        let anchor = anchor::read(&connection).map_err(in_words)?;
        let mut written = upkeep::begin(&connection).map_err(in_words)?;
        if severed != Severed::default() {
            damage::tell_severed(severed, &file::journal(path));
            // Otherwise it is reported again, until the journal has grown beyond that place.
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

    /// Checks that the file and its journal are still where they were.
    ///
    /// # Errors
    ///
    /// One of them was removed or replaced: what is written to it is lost.
    pub fn check_place(&self) -> Result<(), StoreError> {
        self.place.lost().map_or(Ok(()), |lost| Err(StoreError::Lost(lost.to_owned())))
    }

    /// What the journal held after a damaged place when the store was opened, which is lost.
    pub const fn severed(&self) -> Severed {
        self.severed
    }

    /// Where a damaged file was put that lay in the way when the store was opened.
    pub fn was_set_aside(&self) -> Option<&Path> {
        self.set_aside.as_deref()
    }

    /// Why it is not known how long no broker has used the store, so that none of that time counts for what it holds.
    pub const fn doubt(&self) -> Option<Doubt> {
        self.timeline.doubt()
    }

    /// The names of all listeners that there are or were. The first ones are those of the settings, in their order;
    /// what is restored names a listener by its place in this list.
    pub fn listeners(&self) -> impl Iterator<Item = &str> {
        self.listeners.names()
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a batch durable, as a whole or not at all. Doing it twice is no different from doing it once.
    ///
    /// `clocks` are those of now. What they show is written with the batch, if it is time for that.
    ///
    /// # Errors
    ///
    /// Nothing of the batch is durable, or it is and could not be seen to be. It may be tried again, if the disk is
    /// [full](StoreError::Full) with this store, else behind [`Store::reopen`].
    pub fn commit(&mut self, batch: &Batch, clocks: Clocks) -> Result<(), StoreError> {
        self.commit_in_parts(batch, clocks, || ())
    }

    /// The same, where others wait for this processor: now and then, they may have it.
    ///
    /// # Errors
    ///
    /// As [`Store::commit`]'s.
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

    /// Persists what the clocks show, if it is time for that. Tells whether it was. To be called now and then where
    /// nothing else is committed.
    ///
    /// # Errors
    ///
    /// As [`Store::commit`]'s.
    pub fn keep_time(&mut self, clocks: Clocks) -> Result<bool, StoreError> {
        let Some(anchor) = self.timeline.due(clocks) else { return Ok(false) };
        self.anchor(anchor, clocks.now).map(|()| true)
    }

    /// Persists what the clocks show in any case. This is the last call for a store.
    ///
    /// # Errors
    ///
    /// As [`Store::commit`]'s.
    pub fn finish(&mut self, clocks: Clocks) -> Result<(), StoreError> {
        self.anchor(self.timeline.anchor_by(clocks), clocks.now)
    }

    fn anchor(&mut self, anchor: Anchor, now: Time) -> Result<(), StoreError> {
        anchor::write(anchor, &self.connection).map_err(|error| self.judged(error.into()))?;
        self.timeline.anchored(anchor, now);
        upkeep::count(&self.connection, &mut self.written)
    }

    /// Reads some of what is wanted: at least one message, then as many as are good at a time and until it is time for
    /// something else.
    ///
    /// # Errors
    ///
    /// The first message can not be read. It is still wanted.
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

    /// Skips the first message that is wanted, which could not be read for this reason. It is reported and counted as
    /// lost.
    pub fn give_up(&mut self, wanted: &mut Wanted, why: &str) -> Pages {
        let Some((number, pages)) = pages::give_up(wanted) else { return Pages::default() };
        self.damage.lose_message(&self.connection, number, why);
        pages
    }

    /// How many rows were found to be damaged since the store was opened.
    pub const fn damaged(&self) -> u64 {
        self.damage.count
    }

    /// The numbers that are to be given next. What is handed out by [`Store::load`] has none of them.
    pub const fn next_numbers(&self) -> NextNumbers {
        self.marks.next()
    }

    /// Reads everything, in the order that [`Restored`] tells, and removes what is not needed any more: messages that
    /// are settled or whose sessions are gone, messages and retained messages that have expired. It also removes
    /// messages, retained messages and notes that are damaged, and reports each of these in the log. Only after that
    /// are the clocks persisted, since a file that cannot be read is left as it is. Returns the
    /// [numbers](Store::next_numbers) that are to be given next.
    ///
    /// # Errors
    ///
    /// It cannot be read, or more is damaged than messages and notes: why, in words for the operator. What was handed
    /// to `each` before must then not be used.
    pub fn load(&mut self, now: Time, mut each: impl FnMut(Restored)) -> Result<NextNumbers, OpenError> {
        self.load_until(now, |restored| {
            each(restored);
            ControlFlow::Continue(())
        })
    }

    /// The same, unless `each` has enough.
    ///
    /// # Errors
    ///
    /// As [`Store::load`], and if `each` has broken off.
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
            // It can be done with the first commit.
            Ok(_) | Err(StoreError::Full | StoreError::Unwritten(_)) => {}
            Err(error) => return Err(error.about(&self.path)),
        }
        Ok(self.next_numbers())
    }

    /// Opens the file again after an error. What stands in the journal is brought into the file itself, because a
    /// system that failed to write something may hold it to be written ever after.
    ///
    /// # Errors
    ///
    /// As [`Store::open`]'s; the store can only be opened again then, or dropped.
    pub fn reopen(&mut self) -> Result<(), OpenError> {
        // Two connections to one file would be in each other's way.
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

    /// Brings the journal into the file, if it has grown so much that this is due. It takes a while, so it is done
    /// where no answer waits.
    ///
    /// # Errors
    ///
    /// As [`Store::commit`]'s; nothing is lost.
    pub fn checkpoint(&mut self, pause: Pause) -> Result<(), StoreError> {
        let outcome = upkeep::checkpoint(&self.connection, &mut self.written, pause);
        outcome.map_err(|error| self.judged(error))
    }

    /// Gives the room of the [ballast](BallastState) back to the disk. Tells whether there was any.
    pub fn give_up_ballast(&mut self) -> bool {
        self.ballast.give_up()
    }

    /// Makes the ballast, or some of it, if it is not there and there is room for it.
    ///
    /// # Errors
    ///
    /// It cannot be made, for another reason than want of room.
    pub fn restore_ballast(&mut self) -> io::Result<BallastState> {
        self.ballast.restore()
    }

    /// An error of the engine; it can not tell that there is no more room for this user.
    fn judged(&self, error: StoreError) -> StoreError {
        match error {
            StoreError::Unwritten(_) if file::lacks_quota(&self.path) => StoreError::Full,
            error => error,
        }
    }

    /// Gives some unused pages of the file back, or more of them if the disk is full. Tells whether there are more to
    /// give back. The system has them once the journal is in the file.
    ///
    /// # Errors
    ///
    /// As [`Store::checkpoint`]'s.
    pub fn vacuum_slice(&mut self, pause: Pause) -> Result<bool, StoreError> {
        if !self.gives_back {
            return Ok(false);
        }
        match upkeep::vacuum_slice(&self.connection, &mut self.written, pause) {
            Err(StoreError::Damaged(why)) => {
                self.damage.tell(|| "no unused pages are given back any more".to_owned(), &why);
                self.gives_back = false;
                Ok(false)
            }
            outcome => outcome.map_err(|error| self.judged(error)),
        }
    }

    /// Why a store cannot be used any more, in words for the operator.
    pub fn in_words(&self, error: StoreError) -> String {
        match error {
            StoreError::Damaged(_) | StoreError::Lost(_) => error.about(&self.path).to_string(),
            error => error.to_string(),
        }
    }

    /// Bounds the file, in pages.
    #[cfg(test)]
    pub(crate) fn bound(&self, pages: u32) {
        self.connection.query_row(&format!("PRAGMA max_page_count = {pages}"), (), |_| Ok(())).expect("set");
    }

    /// What was written since the store was opened.
    pub fn written(&self) -> Written {
        self.written
    }
}
