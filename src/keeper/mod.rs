//! The thread that makes batches durable while the loop goes on.
//!
//! It owns the [`Store`]. The loop hands over one batch at a time and is woken when there is an answer. What the store
//! wants done where nobody waits is done between batches and, as far as it can be put off until then, when there was
//! none for a while. A thread that has nothing to do sleeps until there is a batch.

#[cfg(test)]
mod tests;
mod times;

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use log::warn;

use crate::journal::{Batch, Page};
use crate::storage::{JOURNAL_BYTES_MAXIMUM, Pause, Store, StoreError};

use times::Times;

/// The engine keeps what is large on its heap, and most of its work is no deeper than a tree of pages.
const STACK_BYTES: usize = 256 * 1024;

/// How often a full disk is tried again; tests do not wait that long.
const FULL_RETRY: Duration = Duration::from_millis(if cfg!(test) { 5 } else { 250 });

/// How long there must have been no batch before the store is put into shape.
const IDLE: Duration = Duration::from_secs(1);

/// Bytes that must be free for new messages to be taken: what it takes to settle those that are there, with a journal
/// that has to be copied before it can begin anew.
const ROOM_BYTES: u64 = 2 * JOURNAL_BYTES_MAXIMUM + 8 * 1024 * 1024;
/// The share of a small disk that is enough.
const ROOM_SHARE: u64 = 8;

/// Whether the file system that a path lies on has so much room that new messages can be taken. Where that can not be
/// told, the next commit will.
#[allow(clippy::useless_conversion, reason = "the numbers are narrower on machines of 32 bits")]
pub fn has_room(path: &Path) -> bool {
    nix::sys::statvfs::statvfs(path).map_or(true, |system| {
        let bytes = |blocks: u64| blocks.saturating_mul(u64::from(system.fragment_size()));
        is_enough(bytes(u64::from(system.blocks_available())), bytes(u64::from(system.blocks())))
    })
}

/// Whether so many bytes of so many are enough.
fn is_enough(available: u64, all: u64) -> bool {
    available >= ROOM_BYTES.min(all / ROOM_SHARE)
}

/// What has become of what was handed over.
#[derive(Debug)]
pub enum Kept {
    /// A batch is durable.
    Durable {
        /// Its number.
        number: u64,
        /// What was to be read behind it.
        pages: Vec<Page>,
        /// How things are by now.
        statistics: Statistics,
    },
    /// There is no room for the batch. It is tried again until there is, and this is told once.
    Full,
    /// The batch can not be made durable, nor can any other: why. The broker has to end, and may promise nothing more.
    Failed(String),
}

/// What the store has written, and how long that took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Bytes since the start, see [`Written::bytes`](crate::storage::Written::bytes).
    pub bytes: u64,
    /// Transactions since the start.
    pub commits: u64,
    /// How long half of the commits took at most, in microseconds; of some thousand commits of late.
    pub median: u64,
    /// How long 99 of 100 took.
    pub percentile_99: u64,
    /// How long the longest of all took.
    pub longest: u64,
}

/// One batch on its way.
struct Job {
    batch: Batch,
    wall: u64,
}

/// The loop's side of the thread.
#[derive(Debug)]
pub struct Storage {
    batches: Sender<Job>,
    answers: Receiver<Kept>,
    thread: JoinHandle<()>,
    /// Batches that were handed over and are not answered.
    outstanding: usize,
}

impl Storage {
    /// Starts the thread. It calls `wake` after every answer.
    ///
    /// # Errors
    ///
    /// The system gives no thread.
    pub fn start(store: Store, wake: impl Fn() + Send + 'static) -> io::Result<Self> {
        let (batches, waiting) = channel();
        let (answering, answers) = channel();
        let thread =
            thread::Builder::new().name("storage".to_owned()).stack_size(STACK_BYTES).spawn(move || {
                let answer = |kept| {
                    // Nobody hears it if the loop has ended; then it does not matter, either.
                    let _ = answering.send(kept);
                    wake();
                };
                Keeper { store, batches: waiting, waiting: VecDeque::new(), answer, times: Times::new() }
                    .run();
            })?;
        Ok(Self { batches, answers, thread, outstanding: 0 })
    }

    /// Whether every batch was answered, so that the next may be handed over.
    pub const fn is_idle(&self) -> bool {
        self.outstanding == 0
    }

    /// Has a batch made durable. `wall` are the milliseconds since 1970 at the moment [`Batch::now`].
    pub fn hand_over(&mut self, batch: Batch, wall: u64) {
        self.outstanding += 1;
        // A thread that has failed has said so.
        let _ = self.batches.send(Job { batch, wall });
    }

    /// The next answer, if there is one. To be asked until there is none whenever the thread wakes the loop.
    pub fn next_answer(&mut self) -> Option<Kept> {
        match self.answers.try_recv() {
            Ok(kept) => Some(self.note(kept)),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) if self.outstanding > 0 => {
                Some(self.note(Kept::Failed("the thread of the storage has ended".to_owned())))
            }
            Err(TryRecvError::Disconnected) => None,
        }
    }

    fn note(&mut self, kept: Kept) -> Kept {
        self.outstanding = match kept {
            Kept::Durable { .. } => self.outstanding.saturating_sub(1),
            Kept::Full => self.outstanding,
            Kept::Failed(_) => 0,
        };
        kept
    }

    /// Waits until everything that was handed over is durable or has failed, and closes the store. What a full disk has
    /// no room for has failed then. Returns the answers that are left.
    pub fn finish(self) -> Vec<Kept> {
        drop(self.batches);
        let answers = self.answers.iter().collect();
        // Whatever it panicked of has been said.
        let _ = self.thread.join();
        answers
    }
}

/// The thread's side.
struct Keeper<Answer> {
    store: Store,
    batches: Receiver<Job>,
    /// Batches that came while the disk was full.
    waiting: VecDeque<Job>,
    answer: Answer,
    times: Times,
}

/// Why the thread ends.
enum End {
    /// Nothing more will come.
    NothingLeft,
    /// Nothing more can be made durable.
    Failed(String),
}

impl<Answer: Fn(Kept)> Keeper<Answer> {
    fn run(mut self) {
        loop {
            let outcome = self.next().and_then(|job| self.keep(&job));
            match outcome.and_then(|()| self.put_into_shape(Pause::BetweenBatches)) {
                Ok(_) => {}
                Err(End::NothingLeft) => return,
                Err(End::Failed(why)) => return (self.answer)(Kept::Failed(why)),
            }
        }
    }

    /// Waits for the next batch. Meanwhile the store is put into shape, until that is done.
    fn next(&mut self) -> Result<Job, End> {
        if let Some(job) = self.waiting.pop_front() {
            return Ok(job);
        }
        let mut has_more = true;
        while has_more {
            match self.batches.recv_timeout(IDLE) {
                Ok(job) => return Ok(job),
                Err(RecvTimeoutError::Disconnected) => return Err(End::NothingLeft),
                Err(RecvTimeoutError::Timeout) => has_more = self.put_into_shape(Pause::Idle)?,
            }
        }
        self.batches.recv().map_err(|_| End::NothingLeft)
    }

    /// Does what the store wants done where nobody waits. Tells whether there is more of it.
    fn put_into_shape(&mut self, pause: Pause) -> Result<bool, End> {
        let outcome = self.store.checkpoint(pause).and_then(|()| match pause {
            Pause::BetweenBatches => Ok(false),
            Pause::Idle => self.store.vacuum_slice(),
        });
        match outcome {
            Ok(has_more) => Ok(has_more),
            Err(StoreError::Full) => Ok(false),
            Err(error) => self.reopen(&error).map(|()| false),
        }
    }

    /// Makes a batch durable, however long that takes while there is no room.
    fn keep(&mut self, job: &Job) -> Result<(), End> {
        let (mut is_full, mut was_reopened) = (false, false);
        loop {
            match self.attempt(job) {
                Ok(pages) => {
                    let statistics = self.statistics();
                    (self.answer)(Kept::Durable { number: job.batch.number, pages, statistics });
                    return Ok(());
                }
                Err(StoreError::Full) => {
                    if !is_full {
                        (self.answer)(Kept::Full);
                    }
                    is_full = true;
                    self.wait_for_room()?;
                }
                Err(error) if was_reopened => return Err(End::Failed(error.to_string())),
                Err(error) => {
                    self.reopen(&error)?;
                    was_reopened = true;
                }
            }
        }
    }

    fn attempt(&mut self, Job { batch, wall }: &Job) -> Result<Vec<Page>, StoreError> {
        if !batch.records.is_empty() {
            #[expect(clippy::disallowed_methods, reason = "this floor may read clocks")]
            let begin = Instant::now();
            self.store.commit(batch, *wall)?;
            self.times.add(u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX));
        }
        batch.fetches.iter().map(|fetch| self.store.fetch(fetch, batch.now, *wall)).collect()
    }

    /// Waits a moment, and takes what comes meanwhile. If nothing will, nobody waits for room any longer.
    fn wait_for_room(&mut self) -> Result<(), End> {
        match self.batches.recv_timeout(FULL_RETRY) {
            Ok(job) => self.waiting.push_back(job),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(End::Failed(StoreError::Full.to_string()));
            }
        }
        Ok(())
    }

    /// What has failed may work with a file that was opened anew.
    fn reopen(&mut self, error: &StoreError) -> Result<(), End> {
        warn!("The storage has failed and is opened again: {error}");
        self.store.reopen().map_err(|error| End::Failed(error.to_string()))
    }

    fn statistics(&self) -> Statistics {
        let written = self.store.written();
        Statistics {
            bytes: written.bytes,
            commits: written.commits,
            median: self.times.percentile(50),
            percentile_99: self.times.percentile(99),
            longest: self.times.longest(),
        }
    }
}
