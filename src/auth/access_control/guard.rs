//! What keeps passwords from being guessed and the thread from being flooded, on all listeners and in all ways to log
//! in. Wrong passwords are counted, right ones are remembered, and the rest waits to be verified. It outlives the
//! access control, which each reload replaces.
//!
//! Of a password only a digest is remembered, with a secret key. It covers the line of the password file that the
//! password was compared with, the user and the password. Once that line changes, the digest is not found any more.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use log::info;

#[cfg(not(feature = "passwords"))]
use super::absent::{Verified, Worker};
use super::attempts::{Attempts, Claimant, Limit, Standing};
use super::queue::{Busy, Job, Queue, Waiter};
use super::remembered::Remembered;
#[cfg(feature = "passwords")]
use super::worker::{Verified, Worker};
use crate::auth::passwords::{Digest, Trial};
use crate::base::memory::{self, Counted};
use crate::base::peer::Peer;
use crate::base::time::Time;
use crate::core::access::{Answer, Verdict};
use crate::core::slots::ConnectionId;
use crate::protocol::codec::ReasonCode;

/// Shared by all that verify, from the start to the end of the process.
#[derive(Clone)]
pub struct Guard(Rc<RefCell<State>>);

struct State {
    /// What digests are made with.
    key: [u8; 32],
    /// Where the time of attempts begins.
    began: Instant,
    attempts: Attempts,
    /// Passwords that were right.
    proved: Remembered<Digest>,
    queue: Queue,
    worker: Option<Worker>,
    /// Decisions that were not passed on yet.
    decided: VecDeque<(ConnectionId, Verdict)>,
    counted: Counted,
}

impl fmt::Debug for Guard {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Guard")
    }
}

impl Guard {
    /// A guard that has seen no client yet. `key` is random and never leaves it.
    #[expect(clippy::disallowed_methods, reason = "attempts are limited in time")]
    pub fn new(key: [u8; 32]) -> Self {
        Self(Rc::new(RefCell::new(State {
            key,
            began: Instant::now(),
            attempts: Attempts::default(),
            proved: Remembered::default(),
            queue: Queue::default(),
            worker: None,
            decided: VecDeque::new(),
            counted: Counted::default(),
        })))
    }

    /// Starts the thread that verifies, if there is none yet. It calls `wake` whenever there is a decision to be taken.
    pub(super) fn start(&self, wake: impl Fn() + Send + 'static) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        if state.worker.is_none() {
            state.worker = Some(Worker::start(wake)?);
        }
        Ok(())
    }

    /// The key, for other values that must not be predictable.
    pub(super) fn key(&self) -> [u8; 32] {
        self.0.borrow().key
    }

    /// The client with this Client Identifier that claims to be `user`. So many different wrong passwords of a user are
    /// checked; zero is for any number.
    pub(super) fn claimant(
        &self,
        peer: Option<Peer>,
        user: &str,
        client_identifier: &str,
        most: usize,
    ) -> Claimant {
        let address = peer.and_then(Peer::address);
        self.0.borrow().attempts.claimant(address, user, client_identifier, most)
    }

    /// Whether a client may come in with this password.
    pub(super) fn verify(
        &self,
        (connection, claimant): (ConnectionId, Claimant),
        user: &str,
        trial: Trial,
        password: &[u8],
    ) -> Answer {
        let mut state = self.0.borrow_mut();
        let digest = trial.digest(&state.key, user, password);
        let answer = state.verify((connection, claimant), digest, trial, password);
        state.count();
        answer
    }

    /// A connection does not wait any more.
    pub(super) fn forget(&self, connection: ConnectionId) {
        let mut state = self.0.borrow_mut();
        state.queue.forget(connection);
        state.count();
    }

    /// The next decision, if there is one by now.
    pub(super) fn next_decision(&self) -> Option<(ConnectionId, Verdict)> {
        let mut state = self.0.borrow_mut();
        while let Some(verified) = state.worker.as_mut().and_then(Worker::next_answer) {
            state.settle(&verified);
        }
        state.hand_over();
        let decision = state.decided.pop_front();
        if decision.is_none() {
            // There may have been very many.
            state.decided = VecDeque::new();
        }
        state.count();
        decision
    }

    /// What may be done about a proof of `claimant` now.
    #[cfg(feature = "passwords")]
    pub(super) fn standing(&self, claimant: &Claimant) -> Standing {
        let state = self.0.borrow();
        state.standing(claimant)
    }

    /// Whether a client that has proved its password by this `proof`, which is always the same for its line of the
    /// password file, may come in. If so, that is remembered.
    #[cfg(feature = "passwords")]
    pub(super) fn accepts(&self, claimant: &Claimant, proof: Digest) -> bool {
        let mut state = self.0.borrow_mut();
        let accepts = state.accepts(claimant, &proof);
        if accepts {
            state.note_right(claimant, proof);
        }
        state.count();
        accepts
    }

    /// A proof was wrong.
    #[cfg(feature = "passwords")]
    pub(super) fn note_wrong(&self, claimant: &Claimant, guess: Digest) {
        let mut state = self.0.borrow_mut();
        state.note_wrong(claimant, guess);
        state.count();
    }
}

impl State {
    fn verify(
        &mut self,
        (connection, claimant): (ConnectionId, Claimant),
        digest: Digest,
        trial: Trial,
        password: &[u8],
    ) -> Answer {
        let standing = self.standing(&claimant);
        if standing != Standing::Closed && self.proved.knows(&digest) {
            self.note_right(&claimant, digest);
            return Answer::Now(Verdict::Granted);
        }
        if standing != Standing::Open {
            self.note_unknown(&claimant, digest);
            return refused(ReasonCode::ConnectionRateExceeded);
        }
        if self.attempts.was_wrong(&claimant, short(digest), self.now()) {
            return refused(ReasonCode::BadUserNameOrPassword);
        }
        let waiter = Waiter { claimant, is_gone: false };
        match self.queue.push((connection, waiter), digest, trial, password) {
            Ok(displaced) => {
                let busy = Verdict::Refused(ReasonCode::ServerBusy);
                self.decided.extend(displaced.into_iter().map(|connection| (connection, busy)));
                self.hand_over();
                Answer::Later
            }
            Err(Busy) => refused(ReasonCode::ServerBusy),
        }
    }

    /// Hands jobs to the thread, but for those whose clients have guessed too often meanwhile.
    fn hand_over(&mut self) {
        while self.queue.has_next() {
            let Some((digest, job)) = self.queue.next() else { return };
            let is_wanted = self.is_open(&job);
            match &mut self.worker {
                Some(worker) if is_wanted => {
                    worker.submit(digest, job.trial.clone(), Arc::clone(&job.password));
                    self.queue.give(digest, job);
                }
                _ => self.decide(digest, &job, None),
            }
        }
    }

    fn settle(&mut self, verified: &Verified) {
        let Verified { digest, passes, taken } = *verified;
        if let Some(job) = self.queue.take_back(&digest, taken) {
            self.decide(digest, &job, Some(passes));
        }
    }

    /// Tells the clients that wait for a password what has become of it; `None` if it was not checked. A client that
    /// has guessed too often since is not told, or else a hundred guesses at once would gain more than a hundred in
    /// turn.
    fn decide(&mut self, digest: Digest, job: &Job, passes: Option<bool>) {
        if passes == Some(true) && self.is_open(job) {
            self.proved.note(digest);
        }
        for (&connection, waiter) in &job.waiters {
            let claimant = &waiter.claimant;
            let verdict = match (self.standing(claimant), passes) {
                (Standing::Open, Some(true)) => Verdict::Granted,
                (Standing::Remembered, Some(true) | None) if self.proved.knows(&digest) => Verdict::Granted,
                (Standing::Open, Some(false)) => Verdict::Refused(ReasonCode::BadUserNameOrPassword),
                _ => Verdict::Refused(ReasonCode::ConnectionRateExceeded),
            };
            match (verdict, passes) {
                (Verdict::Granted, _) => self.note_right(claimant, digest),
                (_, Some(false)) => self.note_wrong(claimant, digest),
                _ => self.note_unknown(claimant, digest),
            }
            if !waiter.is_gone {
                self.decided.push_back((connection, verdict));
            }
        }
    }

    /// Whether anybody waits for a job of whom a password may be looked at.
    fn is_open(&self, job: &Job) -> bool {
        job.waiters.values().any(|waiter| self.standing(&waiter.claimant) == Standing::Open)
    }

    /// Whether somebody may come in whose proof is right.
    #[cfg(feature = "passwords")]
    fn accepts(&self, claimant: &Claimant, digest: &Digest) -> bool {
        match self.standing(claimant) {
            Standing::Open => true,
            Standing::Remembered => self.proved.knows(digest),
            Standing::Closed => false,
        }
    }

    fn standing(&self, claimant: &Claimant) -> Standing {
        self.attempts.standing(claimant, self.now())
    }

    fn note_right(&mut self, claimant: &Claimant, digest: Digest) {
        self.proved.note(digest);
        self.attempts.note_right(claimant);
    }

    fn note_wrong(&mut self, claimant: &Claimant, digest: Digest) {
        let limit = self.attempts.note_wrong(claimant, short(digest), self.now());
        tell(claimant, limit);
    }

    fn note_unknown(&mut self, claimant: &Claimant, digest: Digest) {
        let limit = self.attempts.note_unknown(claimant, short(digest), self.now());
        tell(claimant, limit);
    }

    fn now(&self) -> Time {
        Time::from_milliseconds(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn count(&mut self) {
        self.counted.set(
            self.attempts.memory()
                + self.proved.memory()
                + self.queue.memory()
                + memory::allocation(self.decided.capacity() * size_of::<(ConnectionId, Verdict)>()),
        );
    }
}

/// One line tells of many that come after it.
fn tell(claimant: &Claimant, limit: Option<Limit>) {
    let (Some(address), Some(limit)) = (claimant.address, limit) else { return };
    let whose = match limit {
        Limit::Address => "all users",
        Limit::User => "one user",
    };
    // Not which one: people type passwords where their name belongs.
    info!(target: "notice", "Too many wrong passwords from {address}: those of {whose} are refused for up to a minute.");
}

const fn refused(reason: ReasonCode) -> Answer {
    Answer::Now(Verdict::Refused(reason))
}

/// As much of a digest as tells guesses apart.
fn short(digest: Digest) -> u64 {
    u64::from_le_bytes(digest.first_chunk().copied().unwrap_or_default())
}
