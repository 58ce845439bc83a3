//! The thread that verifies passwords, one at a time. A hash may take a tenth of a second and many megabytes: the
//! loop cannot spare the time, and a small machine cannot spare the memory twice.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Instant;

use crate::auth::attempts::{Password, Verified, Verify};
use crate::auth::passwords::{Digest, Trial};

struct Task {
    digest: Digest,
    trial: Trial,
    password: Arc<Password>,
}

/// The loop's handle to the thread. The thread ends when this is dropped.
#[derive(Debug)]
pub(super) struct Worker {
    tasks: Sender<Task>,
    answers: Receiver<Verified>,
}

impl Worker {
    /// Starts the thread. It calls `wake` after each answer.
    #[expect(clippy::disallowed_methods, reason = "the time that hashes take bounds the queue")]
    pub(super) fn start(wake: impl Fn() + Send + 'static) -> io::Result<Self> {
        let (tasks, waiting) = channel::<Task>();
        let (answering, answers) = channel();
        thread::Builder::new().name("passwords".to_owned()).spawn(move || {
            for Task { digest, trial, password } in waiting {
                let began = Instant::now();
                let passes = trial.passes(password.bytes());
                let taken = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
                if answering.send(Verified { digest, passes, taken }).is_err() {
                    return;
                }
                wake();
            }
        })?;
        Ok(Self { tasks, answers })
    }
}

impl Verify for Worker {
    fn submit(&mut self, digest: Digest, trial: Trial, password: Arc<Password>) {
        // Cannot fail: the thread lives until this sender is dropped.
        let _ = self.tasks.send(Task { digest, trial, password });
    }

    fn next_answer(&mut self) -> Option<Verified> {
        self.answers.try_recv().ok()
    }
}
