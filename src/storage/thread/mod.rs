//! The thread that makes batches durable while the loop goes on.
//!
//! It owns the [`Store`]. The loop hands over one batch at a time and is woken when there is an answer. Batches come
//! first: what sessions want to have read is read between them, a little at a time, so that a commit waits for no more
//! than that. What the store wants done where nothing waits is done between batches and, as far as it can be put off
//! until then, when there was none for a while. A thread that has nothing to do sleeps until there is something, and
//! checks every second whether its file is still there.

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
use crate::core::journal::{Batch, Fetch, Pages, Room};
use crate::storage::store::{BallastState, CACHE_BYTES, Pause, Space, Store, StoreError, Wanted};
use crate::storage::timeline::Clocks;

use times::Times;
use yielding::Yielding;

/// The engine keeps what is large on its heap, and most of its work is no deeper than a tree of pages.
const STACK_BYTES: usize = 256 * 1024;

/// Bytes of memory that the thread and its store take, beside what is on its way to them and back.
pub const MEMORY: usize = STACK_BYTES + CACHE_BYTES;

/// How often a full disk is tried again; tests do not wait that long.
const FULL_RETRY: Duration = Duration::from_millis(if cfg!(test) { 5 } else { 250 });

/// How often the broker tries to make a missing ballast.
const BALLAST_RETRY: Duration = Duration::from_millis(if cfg!(test) { 5 } else { 1000 });

/// How long is read before it is looked for a batch.
const READING: Duration = Duration::from_millis(2);

/// How long there must have been no batch before the store is put into shape.
const IDLE: Duration = Duration::from_secs(1);

/// How often the thread checks whether the file is still there.
const WATCH: Duration = Duration::from_millis(if cfg!(test) { 5 } else { 1000 });

/// The share of the ballast's room that must be left for small things once the ballast was given up.
const LITTLE_SHARE: u64 = 4;

/// How much room there is on the file system of a path. Where that cannot be told, the next commit shows it.
pub fn room(path: &Path, lacks_ballast: bool) -> Room {
    Space::of(path).map_or(Room::Enough, |space| room_in(space, lacks_ballast))
}

/// How much room that is. Without the ballast it is not enough, whatever the system says: the broker's user may be
/// allowed less.
const fn room_in(space: Space, lacks_ballast: bool) -> Room {
    match lacks_ballast {
        true if space.available < space.ballast() / LITTLE_SHARE => Room::Gone,
        true => Room::Scarce,
        false if space.available < space.reserve() => Room::Scarce,
        false => Room::Enough,
    }
}

/// What has become of what was handed over.
#[derive(Debug)]
pub enum StorageAnswer {
    /// A batch is durable.
    Durable {
        /// Its number.
        number: u64,
        /// How things are by now.
        statistics: Statistics,
    },
    /// Some of what was wanted has been read.
    Read(Pages),
    /// There is no room for the batch. It is tried again until there is, and this is told once.
    Full,
    /// The batch can not be made durable, nor can any other: why. The broker has to end, and may promise nothing more.
    Failed(String),
}

/// What the store has written, and how long that took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Bytes since the start, see [`Written::bytes`](crate::storage::store::Written::bytes).
    pub bytes: u64,
    /// Transactions since the start.
    pub commits: u64,
    /// How long half of the commits took at most, in microseconds; of some thousand commits of late.
    pub median: u64,
    /// How long 99 of 100 took.
    pub percentile_99: u64,
    /// How long the longest of all took.
    pub longest: u64,
    /// Rows that were found to be damaged, see [`Store::damaged`].
    pub damaged: u64,
    /// Commits that were lost with the journal, see [`Store::severed`].
    pub severed: u64,
}

/// Something on its way to the thread.
enum Job {
    /// A batch to be made durable.
    Keep(Batch),
    /// Messages to be read.
    Read { fetches: Vec<Fetch>, now: Time },
}

/// The loop's side of the thread.
#[derive(Debug)]
pub struct Storage {
    jobs: Sender<Job>,
    answers: Receiver<StorageAnswer>,
    thread: JoinHandle<()>,
    /// Batches that were handed over and are not answered.
    outstanding: usize,
    /// The ballast is not there, for want of room.
    lacks_ballast: Arc<AtomicBool>,
}

impl Storage {
    /// Starts the thread. It reads the clocks itself, and calls `wake` after every answer.
    ///
    /// # Errors
    ///
    /// The system gives no thread.
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
                let answer = |kept| {
                    // Nobody hears it if the loop has ended; then it does not matter, either.
                    let _ = answering.send(kept);
                    wake();
                };
                StorageThread::new(store, waiting, clocks, answer, told).run();
            })?;
        Ok(Self { jobs, answers, thread, outstanding: 0, lacks_ballast })
    }

    /// Whether the ballast is missing, because the disk became full or was full from the start. If so, there is little
    /// room.
    pub fn lacks_ballast(&self) -> bool {
        self.lacks_ballast.load(Ordering::Acquire)
    }

    /// Whether every batch was answered, so that the next may be handed over.
    pub const fn is_idle(&self) -> bool {
        self.outstanding == 0
    }

    /// Has a batch made durable.
    pub fn submit(&mut self, batch: Batch) {
        self.outstanding += 1;
        // A thread that has failed has said so.
        let _ = self.jobs.send(Job::Keep(batch));
    }

    /// Has messages read. They come in the order of each fetch, as parts of several answers.
    pub fn read(&self, fetches: Vec<Fetch>, now: Time) {
        let _ = self.jobs.send(Job::Read { fetches, now });
    }

    /// The next answer, if there is one. To be asked until there is none whenever the thread wakes the loop.
    pub fn next_answer(&mut self) -> Option<StorageAnswer> {
        match self.answers.try_recv() {
            Ok(kept) => Some(self.note(kept)),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) if self.outstanding > 0 => {
                Some(self.note(StorageAnswer::Failed("the thread of the storage has ended".to_owned())))
            }
            Err(TryRecvError::Disconnected) => None,
        }
    }

    fn note(&mut self, kept: StorageAnswer) -> StorageAnswer {
        self.outstanding = match kept {
            StorageAnswer::Durable { .. } => self.outstanding.saturating_sub(1),
            StorageAnswer::Full | StorageAnswer::Read(_) => self.outstanding,
            StorageAnswer::Failed(_) => 0,
        };
        kept
    }

    /// Waits until everything that was handed over is durable or has failed, and closes the store. What a full disk has
    /// no room for has failed then, and nothing more is read. Returns the answers that are left.
    pub fn finish(self) -> Vec<StorageAnswer> {
        drop(self.jobs);
        let answers = self.answers.iter().collect();
        // Whatever it panicked of has been said.
        let _ = self.thread.join();
        answers
    }
}

/// The thread's side.
struct StorageThread<Read, Answer> {
    store: Store,
    jobs: Receiver<Job>,
    /// The loop has ended: nothing more will come.
    is_over: bool,
    /// Batches that wait.
    batches: VecDeque<Batch>,
    /// What is to be read.
    wanted: Wanted,
    /// When something was asked for last.
    asked: Time,
    clocks: Read,
    answer: Answer,
    times: Times,
    lacks_ballast: Arc<AtomicBool>,
    /// The ballast is being written, a little at a time.
    is_growing: bool,
    /// It was said that the ballast can not be made.
    has_reported: bool,
    /// When it was last tried to make the ballast.
    tried: Instant,
    /// When the thread last checked whether the file is still there.
    watched: Instant,
    /// Damage was found, and the file was opened again to see whether the damage is really there.
    has_looked_again: bool,
}

/// What the thread does next.
enum Work {
    Keep(Batch),
    Read,
}

/// Why the thread ends.
enum End {
    /// Nothing more will come.
    NothingLeft,
    /// Nothing more can be made durable.
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
                Work::Keep(batch) => {
                    self.keep(&batch)?;
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

    /// What is to be done next: the next batch, if there is one, else some of what is to be read. While there is
    /// neither, maintenance is done; after that, the store notes the clocks now and then.
    fn next(&mut self) -> Result<Work, End> {
        let mut has_more = true;
        loop {
            self.watch()?;
            self.take_jobs();
            if let Some(batch) = self.batches.pop_front() {
                return Ok(Work::Keep(batch));
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

    /// Checks now and then whether the file is still there. What is written to a removed file is lost when the process
    /// ends, and no call fails.
    fn watch(&mut self) -> Result<(), End> {
        if self.watched.elapsed() < WATCH {
            return Ok(());
        }
        self.watched = clock();
        self.store.check_place().map_err(|error| End::Failed(self.store.in_words(error)))
    }

    /// Takes all that has come.
    fn take_jobs(&mut self) {
        loop {
            match self.jobs.try_recv() {
                Ok(job) => self.take(job),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => return self.is_over = true,
            }
        }
    }

    /// Waits so long for something to come; tells whether it has, or nothing ever will.
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
            Job::Keep(batch) => self.batches.push_back(batch),
            Job::Read { fetches, now } => {
                self.asked = now;
                fetches.into_iter().for_each(|fetch| self.wanted.add(fetch));
            }
        }
    }

    /// Reads some of what is wanted. A damaged message is skipped if it is still damaged after the file was opened
    /// again, which is tried once in a run.
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

    /// Does what the store wants done where nobody waits. Tells whether there is more of it.
    fn put_into_shape(&mut self, pause: Pause) -> Result<bool, End> {
        let outcome = if self.is_scarce() { self.make_room() } else { self.shape(pause) };
        match outcome {
            Ok(has_more) => Ok(has_more),
            Err(StoreError::Full) if self.give_up_ballast() => Ok(true),
            Err(StoreError::Full) => Ok(false),
            Err(error) => self.reopen(&error).map(|()| false),
        }
    }

    /// Has the store note what the clocks show, if it is time for that. Tells whether maintenance may be due.
    fn keep_time(&mut self) -> Result<bool, End> {
        match self.store.keep_time((self.clocks)()) {
            Ok(was_written) => Ok(was_written),
            // It is soon tried again.
            Err(StoreError::Full) => Ok(false),
            Err(error) => self.reopen(&error).map(|()| false),
        }
    }

    /// Nothing more will come.
    fn finish(mut self) {
        if let Err(error) = self.store.finish((self.clocks)()) {
            warn!("Warning: the storage could not note when the broker ended: {error}.");
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

    /// Gives unused pages of the store back to the disk. It does so at once, since messages are refused until there is
    /// room.
    fn make_room(&mut self) -> Result<bool, StoreError> {
        let has_more = self.store.vacuum_slice(Pause::Full)?;
        self.store.checkpoint(Pause::Full)?;
        Ok(has_more)
    }

    /// Makes a batch durable, however long that takes while there is no room.
    fn keep(&mut self, batch: &Batch) -> Result<(), End> {
        let (mut is_full, mut was_reopened) = (false, false);
        loop {
            match self.attempt(batch) {
                Ok(()) => {
                    let statistics = self.statistics();
                    (self.answer)(StorageAnswer::Durable { number: batch.number, statistics });
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

    /// Gives up the ballast's room for a write that has none. Tells whether there was any.
    fn give_up_ballast(&mut self) -> bool {
        let had_any = self.store.give_up_ballast();
        // It may have been removed by others, too.
        self.lacks_ballast.store(true, Ordering::Release);
        self.is_growing = false;
        self.tried = clock();
        if had_any {
            warn!("The disk is full: the file that holds room for that is given up.");
        }
        had_any
    }

    /// The journal need not grow while it can start from its beginning. If that fails, the next call reports it.
    fn shorten_journal(&mut self) {
        let _ = self.store.checkpoint(Pause::Full);
    }

    /// Makes the ballast if it is missing, unless that was tried a moment ago.
    fn restore_ballast_in_time(&mut self) {
        let is_time = self.lacks_ballast.load(Ordering::Relaxed) && self.tried.elapsed() >= BALLAST_RETRY;
        if self.is_growing || is_time {
            self.restore_ballast();
        }
    }

    /// Makes the ballast, or some more of it, if there is room for it.
    fn restore_ballast(&mut self) {
        self.tried = clock();
        let state = match self.store.restore_ballast() {
            Ok(state) => state,
            Err(error) => {
                self.is_growing = false;
                if !std::mem::replace(&mut self.has_reported, true) {
                    warn!("Warning: no file can hold room for a full disk: {error}.");
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

    /// Waits a moment, and accepts what comes meanwhile. Reading needs no room, and frees some when the clients have
    /// got the messages. If nothing more will come, nothing waits for room any longer.
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

    /// What has failed may work with a file that was opened anew. That needs room for the journal to go into the file,
    /// so it may have to wait for some.
    fn reopen(&mut self, error: &StoreError) -> Result<(), End> {
        warn!("The storage has failed and is opened again: {error}");
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

    fn statistics(&self) -> Statistics {
        let written = self.store.written();
        Statistics {
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
