//! The thread that makes batches durable while the loop continues.
//!
//! It owns the [`Store`]. The loop hands over one batch at a time and is woken when there is an answer. Batches come
//! first: messages that sessions want from the store are read between batches, a little at a time, so that a commit
//! never waits for more than that. Maintenance of the store is done between batches and, as far as it can be put off
//! until then, when there has been no batch for a while. An idle thread sleeps until there is work, and checks every
//! second whether its file is still there.

#[cfg(test)]
mod tests;
mod times;
mod yielding;

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use log::{info, warn};

use crate::base::time::Time;
use crate::core::broker::StorageFigures;
use crate::core::journal::{Batch, Fetch, Pages, Room};
use crate::storage::store::{BallastState, CACHE_BYTES, Pause, Space, Store, StoreError, Wanted};
use crate::storage::timeline::Clocks;

use times::Times;
use yielding::Yielding;

/// Size of the thread's stack in bytes. SQLite keeps large data on the heap, and most of its work is no deeper than a
/// tree of pages.
const STACK_BYTES: usize = 256 * 1024;

/// Bytes of memory that the thread and its store take, not counting jobs and answers on their way.
pub const MEMORY: usize = STACK_BYTES + CACHE_BYTES;

/// How often to retry on a full disk. Tests do not wait that long.
const FULL_RETRY: Duration = Duration::from_millis(if cfg!(test) { 5 } else { 250 });

/// How often to try to create a missing ballast.
const BALLAST_RETRY: Duration = Duration::from_millis(if cfg!(test) { 5 } else { 1000 });

/// How long to read before checking for a batch.
const READING: Duration = Duration::from_millis(2);

/// How long there must have been no batch before maintenance of the store begins.
const IDLE: Duration = Duration::from_secs(1);

/// How often to check whether the file is still there.
const WATCH: Duration = Duration::from_millis(if cfg!(test) { 5 } else { 1000 });

/// Once the ballast has been given up, this fraction of its size must be left for small records: a quarter.
const LITTLE_SHARE: u64 = 4;

/// Returns how much room the file system of a path has. If that cannot be found out, the next commit will show it.
pub fn room(path: &Path, lacks_ballast: bool) -> Room {
    Space::of(path).map_or(Room::Enough, |space| room_in(space, lacks_ballast))
}

/// Rates the room. While the ballast is missing it is not enough, whatever the system says: the broker's user may
/// have a quota.
const fn room_in(space: Space, lacks_ballast: bool) -> Room {
    match lacks_ballast {
        true if space.available < space.ballast() / LITTLE_SHARE => Room::Gone,
        true => Room::Scarce,
        false if space.available < space.reserve() => Room::Scarce,
        false => Room::Enough,
    }
}

/// An answer to a job.
#[derive(Debug)]
pub enum StorageAnswer {
    /// A batch is durable.
    Durable {
        /// Its number.
        number: u64,
        /// The figures of the store after this batch.
        figures: StorageFigures,
    },
    /// Some of the wanted messages have been read.
    Read(Pages),
    /// The disk has no room for the batch. It is retried until there is room. This is reported only once per batch.
    Full,
    /// Neither the batch nor any other can be made durable, for this reason. The broker has to end, and must
    /// acknowledge nothing more.
    Failed(String),
}

/// A job for the thread.
enum Job {
    /// Make a batch durable.
    Commit(Batch),
    /// Read messages.
    Read { fetches: Vec<Fetch>, now: Time },
}

/// The loop's handle to the thread.
#[derive(Debug)]
pub struct Storage {
    jobs: Sender<Job>,
    answers: Receiver<StorageAnswer>,
    thread: JoinHandle<()>,
    /// Batches handed over and not answered yet.
    outstanding: usize,
    /// Whether the ballast is missing because the disk has no room for it.
    lacks_ballast: Arc<AtomicBool>,
}

impl Storage {
    /// Starts the thread. It reads the clocks itself and calls `wake` after each answer.
    ///
    /// # Errors
    ///
    /// If the system refuses to start a thread.
    pub fn start(
        store: Store,
        clocks: impl Fn() -> Clocks + Send + 'static,
        wake: impl Fn() + Send + 'static,
    ) -> io::Result<Self> {
        let (jobs, waiting) = channel();
        let (answering, answers) = channel();
        let lacks_ballast = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&lacks_ballast);
        let thread =
            thread::Builder::new().name("storage".to_owned()).stack_size(STACK_BYTES).spawn(move || {
                let answer = |answer| {
                    // The loop may have ended and dropped the receiver. Then the answer is of no use.
                    let _ = answering.send(answer);
                    wake();
                };
                StorageThread::new(store, waiting, clocks, answer, told).run();
            })?;
        Ok(Self { jobs, answers, thread, outstanding: 0, lacks_ballast })
    }

    /// Whether the ballast is missing, because the disk became full or was full from the start. If so, room is
    /// scarce.
    pub fn lacks_ballast(&self) -> bool {
        self.lacks_ballast.load(Ordering::Acquire)
    }

    /// Whether every batch has been answered, so that the next one may be handed over.
    pub const fn is_idle(&self) -> bool {
        self.outstanding == 0
    }

    /// Hands over a batch to be made durable.
    pub fn submit(&mut self, batch: Batch) {
        self.outstanding += 1;
        // Fails only if the thread has ended, and a thread that fails answers so first.
        let _ = self.jobs.send(Job::Commit(batch));
    }

    /// Hands over requests for messages. The messages come in the order of each request, spread over several answers.
    pub fn read(&self, fetches: Vec<Fetch>, now: Time) {
        let _ = self.jobs.send(Job::Read { fetches, now });
    }

    /// Returns the next answer, if there is one. When the thread has woken the loop, call this until it returns
    /// `None`.
    pub fn next_answer(&mut self) -> Option<StorageAnswer> {
        match self.answers.try_recv() {
            Ok(answer) => Some(self.note(answer)),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) if self.outstanding > 0 => {
                Some(self.note(StorageAnswer::Failed("the thread of the storage has ended".to_owned())))
            }
            Err(TryRecvError::Disconnected) => None,
        }
    }

    fn note(&mut self, answer: StorageAnswer) -> StorageAnswer {
        self.outstanding = match answer {
            StorageAnswer::Durable { .. } => self.outstanding.saturating_sub(1),
            StorageAnswer::Full | StorageAnswer::Read(_) => self.outstanding,
            StorageAnswer::Failed(_) => 0,
        };
        answer
    }

    /// Waits until every batch handed over is durable or has failed, and closes the store. Batches for which the disk
    /// has no room fail, and no more messages are read. Returns the remaining answers.
    pub fn finish(self) -> Vec<StorageAnswer> {
        drop(self.jobs);
        let answers = self.answers.iter().collect();
        // If it has panicked, the panic message has been printed.
        let _ = self.thread.join();
        answers
    }
}

/// The state of the thread.
struct StorageThread<Read, Answer> {
    store: Store,
    jobs: Receiver<Job>,
    /// Whether the loop has ended, so that no more jobs will come.
    is_over: bool,
    /// Batches still to be committed.
    batches: VecDeque<Batch>,
    /// Messages still to be read.
    wanted: Wanted,
    /// The loop's time at the latest request.
    asked: Time,
    clocks: Read,
    answer: Answer,
    times: Times,
    lacks_ballast: Arc<AtomicBool>,
    /// Whether the ballast is being written slice by slice.
    is_growing: bool,
    /// Whether it has been reported that the ballast cannot be created.
    has_reported: bool,
    /// When the thread last tried to create the ballast.
    tried: Instant,
    /// When the thread last checked whether the file is still there.
    watched: Instant,
    /// Whether the file has been reopened after damage was found, to see whether the damage is really in the file.
    has_looked_again: bool,
}

/// The next task of the thread.
enum Work {
    Commit(Batch),
    Read,
}

/// Why the thread ends.
enum End {
    /// No more jobs will come.
    NothingLeft,
    /// Nothing can be made durable any longer.
    Failed(String),
}

impl<Read: Fn() -> Clocks, Answer: Fn(StorageAnswer)> StorageThread<Read, Answer> {
    fn new(
        store: Store,
        jobs: Receiver<Job>,
        clocks: Read,
        answer: Answer,
        lacks_ballast: Arc<AtomicBool>,
    ) -> Self {
        Self {
            store,
            jobs,
            is_over: false,
            batches: VecDeque::new(),
            wanted: Wanted::default(),
            asked: Time::ZERO,
            clocks,
            answer,
            times: Times::new(),
            lacks_ballast,
            is_growing: false,
            has_reported: false,
            tried: clock(),
            watched: clock(),
            has_looked_again: false,
        }
    }

    fn run(mut self) {
        self.restore_ballast();
        loop {
            let outcome = self.next().and_then(|work| match work {
                Work::Commit(batch) => {
                    self.commit(&batch)?;
                    self.restore_ballast_in_time();
                    self.put_into_shape(Pause::BetweenBatches).map(|_| ())
                }
                Work::Read => self.read(),
            });
            match outcome {
                Ok(()) => {}
                Err(End::NothingLeft) => return self.finish(),
                Err(End::Failed(why)) => return (self.answer)(StorageAnswer::Failed(why)),
            }
        }
    }

    /// Waits for the next task: a batch, or if there is none, messages to read. While there is neither, this does
    /// maintenance, then persists the clocks now and then.
    fn next(&mut self) -> Result<Work, End> {
        let mut has_more = true;
        loop {
            self.watch()?;
            self.take_jobs();
            if let Some(batch) = self.batches.pop_front() {
                return Ok(Work::Commit(batch));
            }
            if self.is_over {
                return Err(End::NothingLeft);
            }
            if !self.wanted.is_empty() {
                return Ok(Work::Read);
            }
            if self.is_growing {
                self.restore_ballast();
            } else if !has_more && self.lacks_ballast.load(Ordering::Relaxed) {
                if !self.wait_for_job(BALLAST_RETRY) {
                    self.restore_ballast_in_time();
                    has_more = self.keep_time()?;
                }
            } else if !has_more {
                has_more = !self.wait_for_job(WATCH) && self.keep_time()?;
            } else if !self.wait_for_job(if self.is_scarce() { Duration::ZERO } else { IDLE }) {
                has_more = self.put_into_shape(Pause::Idle)?;
            }
        }
    }

    /// Checks now and then whether the file is still there. Writing to a removed file does not fail, but what is
    /// written is lost when the process ends.
    fn watch(&mut self) -> Result<(), End> {
        if self.watched.elapsed() < WATCH {
            return Ok(());
        }
        self.watched = clock();
        self.store.check_place().map_err(|error| End::Failed(self.store.in_words(error)))
    }

    /// Takes all jobs that have arrived.
    fn take_jobs(&mut self) {
        loop {
            match self.jobs.try_recv() {
                Ok(job) => self.take(job),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => return self.is_over = true,
            }
        }
    }

    /// Waits up to `most` for a job. Returns whether one has arrived or none will come any longer.
    fn wait_for_job(&mut self, most: Duration) -> bool {
        match self.jobs.recv_timeout(most) {
            Ok(job) => self.take(job),
            Err(RecvTimeoutError::Disconnected) => self.is_over = true,
            Err(RecvTimeoutError::Timeout) => return false,
        }
        true
    }

    fn take(&mut self, job: Job) {
        match job {
            Job::Commit(batch) => self.batches.push_back(batch),
            Job::Read { fetches, now } => {
                self.asked = now;
                fetches.into_iter().for_each(|fetch| self.wanted.add(fetch));
            }
        }
    }

    /// Reads some of the wanted messages. If one is damaged, the file is reopened once per run and the message read
    /// again. A message that is still damaged is skipped.
    fn read(&mut self) -> Result<(), End> {
        let mut outcome = self.read_for_a_while();
        if let Err(error) = &outcome
            && !(self.has_looked_again && matches!(error, StoreError::Damaged(_)))
        {
            self.has_looked_again |= matches!(error, StoreError::Damaged(_));
            self.reopen(&error.clone())?;
            outcome = self.read_for_a_while();
        }
        let pages = match outcome {
            Err(StoreError::Damaged(why)) => self.store.give_up(&mut self.wanted, &why),
            outcome => outcome.map_err(|error| End::Failed(self.store.in_words(error)))?,
        };
        (self.answer)(StorageAnswer::Read(pages));
        Ok(())
    }

    fn read_for_a_while(&mut self) -> Result<Pages, StoreError> {
        let begin = clock();
        self.store.read(&mut self.wanted, self.asked, || begin.elapsed() >= READING)
    }

    /// Does maintenance of the store. Returns whether there is more to do.
    fn put_into_shape(&mut self, pause: Pause) -> Result<bool, End> {
        let outcome = if self.is_scarce() { self.make_room() } else { self.shape(pause) };
        match outcome {
            Ok(has_more) => Ok(has_more),
            Err(StoreError::Full) if self.give_up_ballast() => Ok(true),
            Err(StoreError::Full) => Ok(false),
            Err(error) => self.reopen(&error).map(|()| false),
        }
    }

    /// Has the store persist the clocks if this is due. Returns whether it was, so that maintenance may be due.
    fn keep_time(&mut self) -> Result<bool, End> {
        match self.store.keep_time((self.clocks)()) {
            Ok(was_written) => Ok(was_written),
            // It will soon be retried.
            Err(StoreError::Full) => Ok(false),
            Err(error) => self.reopen(&error).map(|()| false),
        }
    }

    /// Ends the run when no more jobs will come.
    fn finish(mut self) {
        if let Err(error) = self.store.finish((self.clocks)()) {
            warn!("Warning: the storage could not record when the broker ended: {error}.");
        }
    }

    fn shape(&mut self, pause: Pause) -> Result<bool, StoreError> {
        self.store.checkpoint(pause)?;
        if pause == Pause::Idle { self.store.vacuum_slice(pause) } else { Ok(false) }
    }

    /// Whether the disk has too little room for new messages.
    fn is_scarce(&self) -> bool {
        room(self.store.path(), self.lacks_ballast.load(Ordering::Relaxed)) != Room::Enough
    }

    /// Returns unused pages of the store to the disk. This does not wait until the store is idle, because messages
    /// are refused until there is room.
    fn make_room(&mut self) -> Result<bool, StoreError> {
        let has_more = self.store.vacuum_slice(Pause::Full)?;
        self.store.checkpoint(Pause::Full)?;
        Ok(has_more)
    }

    /// Makes a batch durable, however long it takes until the disk has room.
    fn commit(&mut self, batch: &Batch) -> Result<(), End> {
        let (mut is_full, mut was_reopened) = (false, false);
        loop {
            match self.attempt(batch) {
                Ok(()) => {
                    let figures = self.figures();
                    (self.answer)(StorageAnswer::Durable { number: batch.number, figures });
                    return Ok(());
                }
                Err(StoreError::Full) if self.give_up_ballast() => self.shorten_journal(),
                Err(StoreError::Full) => {
                    if !is_full {
                        (self.answer)(StorageAnswer::Full);
                    }
                    is_full = true;
                    self.wait_for_room()?;
                    self.shorten_journal();
                }
                Err(error) if was_reopened => return Err(End::Failed(self.store.in_words(error))),
                Err(error) => {
                    self.reopen(&error)?;
                    was_reopened = true;
                }
            }
        }
    }

    /// Gives up the ballast for a write that lacks room. Returns whether there was any.
    fn give_up_ballast(&mut self) -> bool {
        let had_any = self.store.give_up_ballast();
        // Set in any case, because something else may have removed the file.
        self.lacks_ballast.store(true, Ordering::Release);
        self.is_growing = false;
        self.tried = clock();
        if had_any {
            warn!("The disk is full: the file that reserves room for this is given up.");
        }
        had_any
    }

    /// Brings the journal into the file, so that it can start from its beginning instead of growing. If this fails,
    /// the next call reports it.
    fn shorten_journal(&mut self) {
        let _ = self.store.checkpoint(Pause::Full);
    }

    /// Creates the ballast if it is missing, unless this was tried a moment ago.
    fn restore_ballast_in_time(&mut self) {
        let is_time = self.lacks_ballast.load(Ordering::Relaxed) && self.tried.elapsed() >= BALLAST_RETRY;
        if self.is_growing || is_time {
            self.restore_ballast();
        }
    }

    /// Creates the ballast, or a further part of it, if there is room for it.
    fn restore_ballast(&mut self) {
        self.tried = clock();
        let state = match self.store.restore_ballast() {
            Ok(state) => state,
            Err(error) => {
                self.is_growing = false;
                if !std::mem::replace(&mut self.has_reported, true) {
                    warn!("Warning: no file can reserve room for a full disk: {error}.");
                }
                return;
            }
        };
        self.is_growing = state == BallastState::Growing;
        if self.is_growing {
            return;
        }
        let lacked = self.lacks_ballast.swap(state == BallastState::Missing, Ordering::AcqRel);
        if lacked && state == BallastState::Whole {
            info!(target: "notice", "The file that reserves room for a full disk is there again.");
        }
    }

    fn attempt(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let begin = clock();
        let mut yielding = Yielding::new();
        self.store.commit_in_parts(batch, (self.clocks)(), || yielding.let_others_run())?;
        self.times.add(u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX));
        Ok(())
    }

    /// Waits a moment before the next attempt, and takes jobs in the meantime. Messages are still read: this needs no
    /// room, and frees some when the clients have received them. If the loop has ended, the batch has failed.
    fn wait_for_room(&mut self) -> Result<(), End> {
        let begin = clock();
        loop {
            self.watch()?;
            self.take_jobs();
            let left = FULL_RETRY.saturating_sub(begin.elapsed());
            match () {
                () if self.is_over => return Err(End::Failed(StoreError::Full.to_string())),
                () if left.is_zero() => return Ok(()),
                () if !self.wanted.is_empty() => self.read()?,
                () => {
                    self.wait_for_job(left);
                }
            }
        }
    }

    /// Reopens the file, after which a failed operation may succeed. This brings the journal into the file, so it may
    /// have to wait for room.
    fn reopen(&mut self, error: &StoreError) -> Result<(), End> {
        warn!("The storage has failed and is reopened: {error}.");
        let mut is_full = false;
        loop {
            match self.store.reopen() {
                Ok(()) => return Ok(()),
                Err(error) if !error.is_want_of_room() || self.is_over => {
                    return Err(End::Failed(error.to_string()));
                }
                Err(_) if self.give_up_ballast() => {}
                Err(_) => {
                    if !std::mem::replace(&mut is_full, true) {
                        (self.answer)(StorageAnswer::Full);
                    }
                    self.wait_for_job(FULL_RETRY);
                }
            }
        }
    }

    fn figures(&self) -> StorageFigures {
        let written = self.store.written();
        StorageFigures {
            bytes: written.bytes,
            commits: written.commits,
            median: self.times.percentile(50),
            percentile_99: self.times.percentile(99),
            longest: self.times.longest(),
            damaged: self.store.damaged(),
            severed: self.store.severed().commits,
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this floor may read clocks")]
fn clock() -> Instant {
    Instant::now()
}
