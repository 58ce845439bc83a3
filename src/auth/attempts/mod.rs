//! Protects passwords from being guessed and their verification from being flooded, across all listeners and all ways
//! to log in. Wrong passwords are counted, right ones are remembered, and all others queue to be verified. This state
//! outlives the access control, which every reload replaces.
//!
//! The time is passed in, and the verifying is done elsewhere.
//!
//! Of a password only a keyed digest is remembered. It covers the user, the password and the line of the password
//! file that the password was compared with. Once that line changes, the digest no longer matches.

mod guesses;
mod place;
mod queue;
mod remembered;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use log::info;

use crate::auth::passwords::{Digest, Trial};
use crate::base::memory::{self, Counted};
use crate::base::peer::Peer;
use crate::base::time::Time;
use crate::core::access::{Answer, Verdict};
use crate::core::slots::ConnectionId;
use crate::protocol::codec::ReasonCode;

pub use guesses::{Claimant, Standing};
use guesses::{Guesses, Limit, USERS_OF_ADDRESS};
pub use queue::Password;
use queue::{Busy, Job, Queue, Waiter};
use remembered::Remembered;

/// The result of verifying a password.
#[derive(Clone, Copy, Debug)]
pub struct Verified {
    /// Identifies the password, its user and the line of the password file.
    pub digest: Digest,
    /// Whether it was right.
    pub passes: bool,
    /// How long verifying it took, in microseconds.
    pub taken: u64,
}

/// Verifies passwords without blocking the broker.
pub trait Verify {
    /// Begins to verify a password. The caller never has more under way than should be verified at once.
    fn submit(&mut self, digest: Digest, trial: Trial, password: Arc<Password>);

    /// Returns the next result, if one is ready.
    fn next_answer(&mut self) -> Option<Verified>;
}

/// The state that all access controls share, from the start to the end of the process.
#[derive(Clone)]
pub struct Attempts(Rc<RefCell<State>>);

struct State {
    /// The key of all digests.
    key: [u8; 32],
    guesses: Guesses,
    /// Passwords that were right.
    proved: Remembered<Digest>,
    queue: Queue,
    verifier: Option<Box<dyn Verify>>,
    /// Decisions not yet returned by [`Attempts::next_decision`].
    decided: VecDeque<(ConnectionId, Verdict)>,
    counted: Counted,
}

impl fmt::Debug for Attempts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Attempts")
    }
}

impl Attempts {
    /// Creates an empty state. `key` must be random and is never revealed to a client.
    pub fn new(key: [u8; 32]) -> Self {
        Self(Rc::new(RefCell::new(State {
            key,
            guesses: Guesses::new(key),
            proved: Remembered::default(),
            queue: Queue::default(),
            verifier: None,
            decided: VecDeque::new(),
            counted: Counted::default(),
        })))
    }

    /// Whether a verifier has been set. Without one, passwords that are not remembered are refused.
    pub fn has_verifier(&self) -> bool {
        self.0.borrow().verifier.is_some()
    }

    /// Sets the verifier for all further passwords.
    pub fn set_verifier(&self, verifier: impl Verify + 'static) {
        self.0.borrow_mut().verifier = Some(Box::new(verifier));
    }

    /// Returns the key, for other values that must be unpredictable.
    pub fn key(&self) -> [u8; 32] {
        self.0.borrow().key
    }

    /// The client with this Client Identifier that claims to be `user`. `most` is how many different wrong passwords
    /// of a user are verified; zero for any number.
    pub fn claimant(&self, peer: Option<Peer>, user: &str, client_identifier: &str, most: usize) -> Claimant {
        let address = peer.and_then(Peer::address);
        self.0.borrow().guesses.claimant(address, user, client_identifier, most)
    }

    /// Decides whether a client may log in with this password, or queues the password to be verified.
    pub fn verify(
        &self,
        (connection, claimant): (ConnectionId, Claimant),
        user: &str,
        (trial, password): (Trial, &[u8]),
        now: Time,
    ) -> Answer {
        let mut state = self.0.borrow_mut();
        let digest = trial.digest(&state.key, user, password);
        let answer = state.verify((connection, claimant), digest, (trial, password), now);
        state.count();
        answer
    }

    /// Drops a connection from the queue.
    pub fn forget(&self, connection: ConnectionId) {
        let mut state = self.0.borrow_mut();
        state.queue.forget(connection);
        state.count();
    }

    /// Returns the next decision, if one is ready.
    pub fn next_decision(&self, now: Time) -> Option<(ConnectionId, Verdict)> {
        let mut state = self.0.borrow_mut();
        while let Some(verified) = state.verifier.as_mut().and_then(|verifier| verifier.next_answer()) {
            state.settle(verified, now);
        }
        state.submit(now);
        let decision = state.decided.pop_front();
        if decision.is_none() {
            // Frees the memory: there may have been very many decisions.
            state.decided = VecDeque::new();
        }
        state.count();
        decision
    }

    /// Returns what may be done with a proof of `claimant` at this moment.
    pub fn standing(&self, claimant: &Claimant, now: Time) -> Standing {
        self.0.borrow().guesses.standing(claimant, now)
    }

    /// Whether a client that has proved its password may log in. If so, this is remembered by `proof`, which is
    /// always the same for one line of the password file.
    pub fn accepts(&self, claimant: &Claimant, proof: Digest, now: Time) -> bool {
        let mut state = self.0.borrow_mut();
        let accepts = state.accepts(claimant, &proof, now);
        if accepts {
            state.note_right(claimant, proof);
        }
        state.count();
        accepts
    }

    /// Counts a wrong proof.
    pub fn note_wrong(&self, claimant: &Claimant, guess: Digest, now: Time) {
        let mut state = self.0.borrow_mut();
        state.note_wrong(claimant, guess, now);
        state.count();
    }
}

impl State {
    fn verify(
        &mut self,
        (connection, claimant): (ConnectionId, Claimant),
        digest: Digest,
        (trial, password): (Trial, &[u8]),
        now: Time,
    ) -> Answer {
        let standing = self.guesses.standing(&claimant, now);
        if standing != Standing::Closed && self.proved.knows(&digest) {
            self.note_right(&claimant, digest);
            return Answer::Now(Verdict::Granted);
        }
        if standing != Standing::Open {
            self.note_unknown(&claimant, digest, now);
            return refused(ReasonCode::ConnectionRateExceeded);
        }
        if self.guesses.was_wrong(&claimant, short(digest), now) {
            return refused(ReasonCode::BadUserNameOrPassword);
        }
        let waiter = Waiter { claimant, is_gone: false };
        match self.queue.push((connection, waiter), digest, trial, password) {
            Ok(displaced) => {
                let busy = Verdict::Refused(ReasonCode::ServerBusy);
                self.decided.extend(displaced.into_iter().map(|connection| (connection, busy)));
                self.submit(now);
                Answer::Later
            }
            Err(Busy) => refused(ReasonCode::ServerBusy),
        }
    }

    /// Hands jobs to the verifier. Jobs whose clients have reached their limit since are refused instead.
    fn submit(&mut self, now: Time) {
        while self.queue.has_next() {
            let Some((digest, job)) = self.queue.next() else { return };
            let is_wanted = self.is_open(&job, now);
            match &mut self.verifier {
                Some(verifier) if is_wanted => {
                    verifier.submit(digest, job.trial.clone(), Arc::clone(&job.password));
                    self.queue.give(digest, job);
                }
                _ => self.decide(digest, &job, None, now),
            }
        }
    }

    fn settle(&mut self, verified: Verified, now: Time) {
        let Verified { digest, passes, taken } = verified;
        if let Some(job) = self.queue.take_back(&digest, taken) {
            self.decide(digest, &job, Some(passes), now);
        }
    }

    /// Decides for all clients that wait for a password; `passes` is `None` if it was not verified. A client that has
    /// reached its limit since is not told the result. Otherwise a hundred guesses sent at once would gain more than
    /// a hundred sent one after the other.
    fn decide(&mut self, digest: Digest, job: &Job, passes: Option<bool>, now: Time) {
        if passes == Some(true) && self.is_open(job, now) {
            self.proved.note(digest);
        }
        for (&connection, waiter) in &job.waiters {
            let claimant = &waiter.claimant;
            let verdict = match (self.guesses.standing(claimant, now), passes) {
                (Standing::Open, Some(true)) => Verdict::Granted,
                (Standing::Remembered, Some(true) | None) if self.proved.knows(&digest) => Verdict::Granted,
                (Standing::Open, Some(false)) => Verdict::Refused(ReasonCode::BadUserNameOrPassword),
                _ => Verdict::Refused(ReasonCode::ConnectionRateExceeded),
            };
            match (verdict, passes) {
                (Verdict::Granted, _) => self.note_right(claimant, digest),
                (_, Some(false)) => self.note_wrong(claimant, digest, now),
                _ => self.note_unknown(claimant, digest, now),
            }
            if !waiter.is_gone {
                self.decided.push_back((connection, verdict));
            }
        }
    }

    /// Whether the password may still be verified for at least one of the waiting clients.
    fn is_open(&self, job: &Job, now: Time) -> bool {
        job.waiters.values().any(|waiter| self.guesses.standing(&waiter.claimant, now) == Standing::Open)
    }

    /// Whether a client whose proof is right may log in.
    fn accepts(&self, claimant: &Claimant, digest: &Digest, now: Time) -> bool {
        match self.guesses.standing(claimant, now) {
            Standing::Open => true,
            Standing::Remembered => self.proved.knows(digest),
            Standing::Closed => false,
        }
    }

    fn note_right(&mut self, claimant: &Claimant, digest: Digest) {
        self.proved.note(digest);
        self.guesses.note_right(claimant);
    }

    fn note_wrong(&mut self, claimant: &Claimant, digest: Digest, now: Time) {
        let limit = self.guesses.note_wrong(claimant, short(digest), now);
        tell(claimant, limit);
    }

    fn note_unknown(&mut self, claimant: &Claimant, digest: Digest, now: Time) {
        let limit = self.guesses.note_unknown(claimant, short(digest), now);
        tell(claimant, limit);
    }

    fn count(&mut self) {
        self.counted.set(
            self.guesses.memory()
                + self.proved.memory()
                + self.queue.memory()
                + memory::allocation(self.decided.capacity() * size_of::<(ConnectionId, Verdict)>()),
        );
    }
}

/// Logs a limit once, when it is reached, instead of every refusal after it.
fn tell(claimant: &Claimant, limit: Option<Limit>) {
    let (Some(address), Some(limit)) = (claimant.address, limit) else { return };
    let whose = match limit {
        Limit::Address => "all users",
        Limit::User => "one user",
    };
    info!(
        target: "notice",
        "Too many wrong passwords from {address}: those of {whose} are refused for up to a minute; {}.",
        self::limit(claimant.most),
    );
}

/// The limit on different wrong passwords of a user, and what follows for an address, in words for the log.
pub fn limit(most: usize) -> String {
    format!(
        "the limit is {most} for a user, {} for an address (max_password_attempts)",
        most * USERS_OF_ADDRESS
    )
}

const fn refused(reason: ReasonCode) -> Answer {
    Answer::Now(Verdict::Refused(reason))
}

/// Enough of a digest to tell guesses apart.
fn short(digest: Digest) -> u64 {
    u64::from_le_bytes(digest.first_chunk().copied().unwrap_or_default())
}
