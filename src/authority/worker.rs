//! The thread that verifies passwords, one after the other: a hash may take a tenth of a second and many megabytes,
//! which neither the loop nor a small machine can spare more than once at a time.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, channel, sync_channel};
use std::thread;

use super::{Busy, Candidate};
use crate::passwords::Trial;

/// Passwords that may wait. Who comes beyond is told that the server is busy.
const JOBS_MAXIMUM: usize = 256;
/// Bytes of all passwords that may wait.
const BYTES_MAXIMUM: usize = 1024 * 1024;

struct Job {
    candidate: Candidate,
    trial: Trial,
    password: Vec<u8>,
}

struct Answer {
    candidate: Candidate,
    passes: bool,
    /// Of the password.
    bytes: usize,
}

/// The loop's side of the thread, which ends when this is dropped.
#[derive(Debug)]
pub(super) struct Worker {
    jobs: SyncSender<Job>,
    answers: Receiver<Answer>,
    /// Of passwords that wait.
    bytes: usize,
}

impl Worker {
    /// Starts the thread. It calls `wake` after every answer.
    pub(super) fn start(wake: impl Fn() + Send + 'static) -> io::Result<Self> {
        let (jobs, waiting) = sync_channel::<Job>(JOBS_MAXIMUM);
        let (answering, answers) = channel();
        thread::Builder::new().name("passwords".to_owned()).spawn(move || {
            for mut job in waiting {
                let passes = job.trial.passes(&job.password);
                let bytes = job.password.len();
                job.password.fill(0);
                // Kept from being left out as of no use.
                std::hint::black_box(&job.password);
                if answering.send(Answer { candidate: job.candidate, passes, bytes }).is_err() {
                    return;
                }
                wake();
            }
        })?;
        Ok(Self { jobs, answers, bytes: 0 })
    }

    /// Has a password verified.
    pub(super) fn submit(&mut self, candidate: Candidate, trial: Trial, password: &[u8]) -> Result<(), Busy> {
        if self.bytes + password.len() > BYTES_MAXIMUM {
            return Err(Busy);
        }
        match self.jobs.try_send(Job { candidate, trial, password: password.to_vec() }) {
            Ok(()) => {
                self.bytes += password.len();
                Ok(())
            }
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Err(Busy),
        }
    }

    /// The next answer: whose password it was, and whether it was right.
    pub(super) fn next_answer(&mut self) -> Option<(Candidate, bool)> {
        let Answer { candidate, passes, bytes } = self.answers.try_recv().ok()?;
        self.bytes -= bytes;
        Some((candidate, passes))
    }
}
