//! Passwords that wait to be verified, bounded by memory and by the time that verifying them will take, with an equal
//! share for each place of origin. The same password of the same user is verified once for all clients that wait for
//! it, and not at all once they have all gone.
//!
//! The queue only keeps order: the time is passed in, and the verifying is done elsewhere.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use super::guesses::Claimant;
use super::place::Place;
use crate::auth::passwords::{Cost, Digest, Trial};
use crate::base::memory;
use crate::core::slots::ConnectionId;

/// Microseconds that all queued jobs may take together. Less than [`crate::core::limits::Limits::admission_wait`], so
/// that no client waits in vain. Beyond: the server is busy.
const TIME_MAXIMUM: u64 = 50_000_000;
/// Bytes that all queued jobs may occupy together; the jobs under way may occupy as much again. Beyond: the server is
/// busy.
const BYTES_MAXIMUM: usize = 1024 * 1024;
/// Microseconds of work to hand over in advance, so that the thread does not run dry between two turns of the loop.
const AHEAD: u64 = 10_000;
/// Maximum number of jobs handed over in advance.
const AHEAD_MAXIMUM: usize = 16;
/// Maximum number of costs whose measured time is remembered. Beyond: the time of further costs is estimated.
const TIMES_MAXIMUM: usize = 64;

/// The load of a full queue.
const WHOLE: u64 = 1_000_000;

/// Approximate bytes per waiting client and per job without its password, including their part of trees and tables.
const WAITER_BYTES: usize = size_of::<Waiter>() + 64;
const JOB_BYTES: usize = size_of::<Job>() + 256;

/// The queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Busy;

/// A client that waits for a password to be verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiter {
    pub(super) claimant: Claimant,
    /// Whether the client has left while its password was being verified, so that it needs no answer.
    pub(super) is_gone: bool,
}

/// A password that is overwritten with zeros when dropped.
pub struct Password(Box<[u8]>);

impl Password {
    pub(super) fn new(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// Returns its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Password {
    /// Reveals nothing of the password.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Password")
    }
}

impl Drop for Password {
    fn drop(&mut self) {
        self.0.fill(0);
        // Keeps the compiler from removing the overwrite as useless.
        std::hint::black_box(&self.0);
    }
}

/// A password to be verified.
pub(super) struct Job {
    pub(super) trial: Trial,
    /// Shared with the thread once the job is handed over.
    pub(super) password: Arc<Password>,
    pub(super) waiters: BTreeMap<ConnectionId, Waiter>,
    place: Place,
    /// Its position in its lane. Zero until it is first queued.
    number: u64,
    /// Estimated time to verify it, in microseconds.
    time: u64,
}

impl Job {
    fn bytes(&self) -> usize {
        JOB_BYTES + memory::allocation(self.password.bytes().len()) + self.waiters.len() * WAITER_BYTES
    }
}

/// The queued jobs of one place.
#[derive(Debug, Default)]
struct Lane {
    /// In order of arrival.
    jobs: BTreeMap<u64, Digest>,
    /// Estimated time of all of them, in microseconds.
    time: u64,
    /// Bytes that they occupy.
    bytes: usize,
    /// Virtual time of this lane, on a scale that all lanes share. The lane with the smallest value is served next.
    turn: u64,
}

/// All queued jobs, and those being verified.
#[derive(Default)]
pub(super) struct Queue {
    waiting: HashMap<Digest, Job>,
    lanes: BTreeMap<Place, Lane>,
    /// The password that each connection waits for.
    wanted: HashMap<ConnectionId, Digest>,
    /// Jobs handed over and not yet taken back.
    given: HashMap<Digest, Job>,
    /// Estimated microseconds of all queued jobs, and the bytes they occupy.
    time: u64,
    bytes: usize,
    /// The same for the jobs handed over.
    given_time: u64,
    given_bytes: usize,
    /// Virtual time of the lane that was served last.
    turn: u64,
    numbers: u64,
    /// Recent time of a hash by its cost, in microseconds.
    times: BTreeMap<Cost, u64>,
}

impl Queue {
    /// Queues a password for a client. Returns the connections of other clients that were displaced to make room for
    /// it.
    pub(super) fn push(
        &mut self,
        (connection, waiter): (ConnectionId, Waiter),
        digest: Digest,
        trial: Trial,
        password: &[u8],
    ) -> Result<Vec<ConnectionId>, Busy> {
        self.forget(connection);
        let place = waiter.claimant.place();
        if let Some(job) = self.given.get_mut(&digest) {
            if self.given_bytes + WAITER_BYTES > BYTES_MAXIMUM {
                return Err(Busy);
            }
            let is_new = job.waiters.insert(connection, waiter).is_none();
            self.given_bytes += if is_new { WAITER_BYTES } else { 0 };
            self.wanted.insert(connection, digest);
            return Ok(Vec::new());
        }
        let mut job = self.take_out(&digest).unwrap_or_else(|| Job {
            time: self.estimate(trial.cost()),
            trial,
            password: Arc::new(Password::new(password)),
            waiters: BTreeMap::new(),
            place,
            number: 0,
        });
        let is_new = job.waiters.is_empty();
        job.waiters.insert(connection, waiter);
        if self.load(place) < self.load(job.place) {
            // The job moves to the place with the lower load, where it is served sooner.
            job.place = place;
            job.number = 0;
        }
        match self.make_room(&job) {
            Ok(displaced) => {
                self.wanted.insert(connection, digest);
                self.put_in(digest, job);
                Ok(displaced)
            }
            Err(Busy) if !is_new => {
                job.waiters.remove(&connection);
                self.put_in(digest, job);
                Err(Busy)
            }
            Err(Busy) => Err(Busy),
        }
    }

    /// Drops a client from the queue. A job under way is verified to its end all the same.
    pub(super) fn forget(&mut self, connection: ConnectionId) {
        let Some(digest) = self.wanted.remove(&connection) else { return };
        if let Some(waiter) = self.given.get_mut(&digest).and_then(|job| job.waiters.get_mut(&connection)) {
            waiter.is_gone = true;
            return;
        }
        let Some(mut job) = self.take_out(&digest) else { return };
        job.waiters.remove(&connection);
        if !job.waiters.is_empty() {
            self.put_in(digest, job);
        }
    }

    /// Whether another job should be handed over.
    pub(super) fn has_next(&self) -> bool {
        let is_enough = self.given_time >= AHEAD || self.given.len() >= AHEAD_MAXIMUM;
        !self.waiting.is_empty() && (self.given.is_empty() || !is_enough)
    }

    /// Takes the next job from the queue. The caller passes it to [`Queue::give`] or drops it.
    pub(super) fn next(&mut self) -> Option<(Digest, Job)> {
        let lane = self.lanes.values_mut().min_by_key(|lane| lane.turn)?;
        self.turn = lane.turn;
        let digest = *lane.jobs.first_key_value()?.1;
        let job = self.take_out(&digest)?;
        if let Some(lane) = self.lanes.get_mut(&job.place) {
            lane.turn += job.time.max(1);
        }
        for connection in job.waiters.keys() {
            self.wanted.remove(connection);
        }
        Some((digest, job))
    }

    /// Records that a job was handed over. After a long job no other is handed over until it is back, so that the
    /// next one is chosen as late as possible.
    pub(super) fn give(&mut self, digest: Digest, job: Job) {
        self.given_bytes += job.bytes();
        self.given_time += job.time;
        self.wanted
            .extend(job.waiters.iter().filter(|(_, waiter)| !waiter.is_gone).map(|(&id, _)| (id, digest)));
        self.given.insert(digest, job);
    }

    /// Records that a job is done and how many microseconds it has taken.
    pub(super) fn take_back(&mut self, digest: &Digest, taken: u64) -> Option<Job> {
        let job = self.given.remove(digest)?;
        self.given_bytes -= job.bytes();
        self.given_time -= job.time;
        for connection in job.waiters.keys() {
            if self.wanted.get(connection) == Some(digest) {
                self.wanted.remove(connection);
            }
        }
        self.learn(job.trial.cost(), taken);
        Some(job)
    }

    /// Bytes of memory used.
    pub(super) const fn memory(&self) -> usize {
        self.bytes + self.given_bytes
    }

    /// Estimated microseconds of a hash: measured if there was one of this cost, otherwise the figure for a typical
    /// machine.
    fn estimate(&self, cost: Cost) -> u64 {
        self.times.get(&cost).copied().unwrap_or_else(|| cost.microseconds())
    }

    fn learn(&mut self, cost: Cost, taken: u64) {
        let before = self.estimate(cost);
        let now = if self.times.contains_key(&cost) { (3 * before + taken) / 4 } else { taken }.max(1);
        if self.times.len() < TIMES_MAXIMUM || self.times.contains_key(&cost) {
            self.times.insert(cost, now);
        }
        if now.abs_diff(before) > before / 4 {
            self.estimate_anew(cost, now);
        }
    }

    fn estimate_anew(&mut self, cost: Cost, time: u64) {
        let Self { waiting, lanes, time: all, .. } = self;
        for job in waiting.values_mut().filter(|job| job.trial.cost() == cost) {
            if let Some(lane) = lanes.get_mut(&job.place) {
                lane.time = lane.time - job.time + time;
            }
            *all = *all - job.time + time;
            job.time = time;
        }
    }

    /// The load that the queued jobs of a place amount to.
    fn load(&self, place: Place) -> u64 {
        self.lanes.get(&place).map_or(0, Lane::load)
    }

    /// Makes room for a job that is not in the queue. If the queue is full, the job's place is entitled to an equal
    /// share, and the places with the highest load lose their latest jobs for it.
    fn make_room(&mut self, job: &Job) -> Result<Vec<ConnectionId>, Busy> {
        let mut displaced = Vec::new();
        if self.has_room_for(job) {
            return Ok(displaced);
        }
        let places = self.lanes.len() + usize::from(!self.lanes.contains_key(&job.place));
        let share = WHOLE / places as u64;
        if self.load(job.place) + load_of(job.time, job.bytes()) > share {
            return Err(Busy);
        }
        while !self.has_room_for(job) {
            let heaviest = self.lanes.values().max_by_key(|lane| lane.load());
            let Some((_, &last)) = heaviest.and_then(|lane| lane.jobs.last_key_value()) else { break };
            let Some(job) = self.take_out(&last) else { break };
            displaced.extend(job.waiters.keys());
            for connection in job.waiters.keys() {
                self.wanted.remove(connection);
            }
        }
        Ok(displaced)
    }

    /// An empty queue takes any job, however long it may take.
    fn has_room_for(&self, job: &Job) -> bool {
        let has_time = self.waiting.is_empty() || self.time + job.time <= TIME_MAXIMUM;
        has_time && self.bytes + job.bytes() <= BYTES_MAXIMUM
    }

    fn put_in(&mut self, digest: Digest, mut job: Job) {
        if job.number == 0 {
            self.numbers += 1;
            job.number = self.numbers;
        }
        let turn = self.turn;
        let lane = self.lanes.entry(job.place).or_insert_with(|| Lane { turn, ..Lane::default() });
        lane.jobs.insert(job.number, digest);
        lane.time += job.time;
        lane.bytes += job.bytes();
        self.time += job.time;
        self.bytes += job.bytes();
        self.waiting.insert(digest, job);
    }

    fn take_out(&mut self, digest: &Digest) -> Option<Job> {
        let job = self.waiting.remove(digest)?;
        self.time -= job.time;
        self.bytes -= job.bytes();
        if let Some(lane) = self.lanes.get_mut(&job.place) {
            lane.jobs.remove(&job.number);
            lane.time -= job.time;
            lane.bytes -= job.bytes();
            if lane.jobs.is_empty() {
                self.lanes.remove(&job.place);
            }
        }
        Some(job)
    }
}

impl Lane {
    fn load(&self) -> u64 {
        load_of(self.time, self.bytes)
    }
}

/// The load of this time and these bytes: the larger of the two fractions of what the queue may hold.
fn load_of(time: u64, bytes: usize) -> u64 {
    let of_bytes = bytes as u64 * WHOLE / BYTES_MAXIMUM as u64;
    of_bytes.max(time * WHOLE / TIME_MAXIMUM)
}

#[cfg(feature = "passwords")]
#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::attempts::guesses::Guesses;
    use crate::auth::passwords::{Kind, Passwords, Secret};
    use crate::base::memory;
    use crate::core::slots::{ConnectionMark, Slots};

    /// A queue and the clients that use it.
    struct Scene {
        queue: Queue,
        guesses: Guesses,
        connections: Slots<ConnectionMark, ()>,
        passwords: Passwords,
    }

    impl Scene {
        /// The user `slow` has a hash of 1,000 rounds, and `fast` one of 10.
        fn new() -> Self {
            let line = |user, rounds| {
                format!("{user}:{}\n", Secret::new(Kind::Pbkdf2 { rounds }, b"right", &[1; 16]).unwrap())
            };
            let file = line("slow", 1_000) + &line("fast", 10);
            let mut scene = Self {
                queue: Queue::default(),
                guesses: Guesses::new([7; 32]),
                connections: Slots::default(),
                passwords: Passwords::parse("file", file.as_bytes()).unwrap(),
            };
            // Here a hash of 1,000 rounds takes a second, and one of 10 rounds takes 10 ms.
            let first = scene.push("192.0.2.99", "slow", "right").unwrap();
            scene.serve(1_000_000);
            scene.push("192.0.2.99", "fast", "right").unwrap();
            scene.serve(10_000);
            assert!(first.1.is_empty() && scene.queue.bytes == 0 && scene.queue.time == 0);
            scene
        }

        fn push(
            &mut self,
            address: &str,
            user: &str,
            password: &str,
        ) -> Result<(ConnectionId, Vec<ConnectionId>), Busy> {
            let claimant = self.guesses.claimant(Some(address.parse().unwrap()), user, "c", 10);
            let connection = self.connections.insert_with(|_| ());
            let trial = self.passwords.trial(user, b"key").unwrap();
            let digest = trial.digest(b"key", user, password.as_bytes());
            let waiter = Waiter { claimant, is_gone: false };
            let pushed = self.queue.push((connection, waiter), digest, trial, password.as_bytes())?;
            self.check();
            Ok((connection, pushed))
        }

        /// Completes the next job in `taken` microseconds and returns the clients that have waited for it.
        fn serve(&mut self, taken: u64) -> Vec<ConnectionId> {
            let (digest, job) = self.queue.next().unwrap();
            self.queue.give(digest, job);
            self.check();
            let job = self.queue.take_back(&digest, taken).unwrap();
            self.check();
            job.waiters.into_iter().filter(|(_, waiter)| !waiter.is_gone).map(|(id, _)| id).collect()
        }

        /// The counts agree with the contents.
        fn check(&self) {
            let Queue { waiting, lanes, given, time, given_time, bytes, given_bytes, wanted, .. } =
                &self.queue;
            let waiting_bytes: usize = waiting.values().map(Job::bytes).sum();
            assert_eq!(*bytes, waiting_bytes);
            assert_eq!(*given_bytes, given.values().map(Job::bytes).sum::<usize>());
            assert_eq!(*time, waiting.values().map(|job| job.time).sum::<u64>());
            assert_eq!(*given_time, given.values().map(|job| job.time).sum::<u64>());
            assert_eq!(*time, lanes.values().map(|lane| lane.time).sum::<u64>());
            assert_eq!(waiting_bytes, lanes.values().map(|lane| lane.bytes).sum::<usize>());
            assert_eq!(waiting.len(), lanes.values().map(|lane| lane.jobs.len()).sum::<usize>());
            assert!(lanes.values().all(|lane| !lane.jobs.is_empty()));
            let all = waiting.values().chain(given.values());
            let waiters = all.flat_map(|job| job.waiters.values()).filter(|waiter| !waiter.is_gone);
            assert_eq!(wanted.len(), waiters.count());
            assert!(*bytes <= BYTES_MAXIMUM && *given_bytes <= BYTES_MAXIMUM);
        }
    }

    #[test]
    fn fifty_seconds_may_wait_by_what_hashes_have_taken() {
        let mut scene = Scene::new();
        let taken = (0..100).take_while(|n| scene.push("192.0.2.1", "slow", &n.to_string()).is_ok());
        assert_eq!(taken.count(), 50);
        assert_eq!(scene.push("192.0.2.1", "fast", "x"), Err(Busy));
        scene.serve(1_000_000);
        assert!(scene.push("192.0.2.1", "fast", "x").is_ok());
        // The machine has slowed down: queued jobs take longer, and the queue stays closed until enough of them are
        // done.
        scene.serve(9_000_000);
        assert!(scene.queue.time > TIME_MAXIMUM);
        for _ in 0..32 {
            assert_eq!(scene.push("192.0.2.1", "fast", "y"), Err(Busy));
            scene.serve(3_000_000);
        }
        assert!(scene.push("192.0.2.1", "fast", "y").is_ok());
    }

    #[test]
    fn a_client_that_asks_for_little_is_served_next_to_one_that_asks_for_much() {
        let mut scene = Scene::new();
        for number in 0..50 {
            scene.push("192.0.2.1", "slow", &number.to_string()).unwrap();
        }
        scene.serve(1_000_000);
        scene.serve(1_000_000);
        // There is room for two more jobs. Beyond that, the other place makes way up to an equal share.
        let mut displaced = Vec::new();
        let fast: Vec<ConnectionId> = (0..3)
            .map(|number| {
                let (id, others) = scene.push("2001:db8::1", "slow", &format!("a{number}")).unwrap();
                displaced.extend(others);
                id
            })
            .collect();
        assert_eq!(displaced.len(), 1);
        let served: Vec<ConnectionId> = (0..6).flat_map(|_| scene.serve(1_000_000)).collect();
        assert!(fast.iter().all(|id| served.contains(id)), "every other one");
        // IPv6 addresses with the same first 64 bits share one quota.
        let all = (0..100).filter(|n| {
            let address = format!("2001:db8::{n:x}");
            scene.push(&address, "slow", &format!("b{n}")).is_ok()
        });
        assert_eq!(all.count(), 25);
    }

    #[test]
    fn many_small_passwords_and_few_large_ones_are_bounded_in_memory() {
        let before = memory::held();
        for size in [0, 100, 65_000] {
            let mut scene = Scene::new();
            let text = "x".repeat(size);
            // A job under way leaves the room for queued jobs unchanged.
            scene.push("192.0.2.1", "slow", &text).unwrap();
            let (digest, job) = scene.queue.next().unwrap();
            scene.queue.give(digest, job);
            let taken = (0..100_000)
                .take_while(|number| scene.push("192.0.2.1", "fast", &format!("{number}{text}")).is_ok());
            assert!((15..5_001).contains(&taken.count()));
            let (_, displaced) = scene.push("192.0.2.2", "fast", &text).unwrap();
            assert!(!displaced.is_empty(), "another place gets its share");
            assert!(!displaced.iter().any(|id| scene.queue.wanted.contains_key(id)));
        }
        let mut scene = Scene::new();
        let same = (0..100_000).take_while(|_| scene.push("192.0.2.1", "slow", "same").is_ok());
        assert!((4_000..12_000).contains(&same.count()), "one password of so many clients");
        assert_eq!(memory::held(), before, "it is counted by the owner of the queue");
    }

    #[test]
    fn the_same_password_is_verified_once_and_not_at_all_if_no_client_waits() {
        let mut scene = Scene::new();
        let slow: Vec<ConnectionId> =
            (0..4).map(|_| scene.push("192.0.2.1", "slow", "same").unwrap().0).collect();
        let other = scene.push("192.0.2.2", "slow", "same").unwrap().0;
        let gone = scene.push("192.0.2.1", "slow", "other").unwrap().0;
        scene.push("192.0.2.1", "fast", "same").unwrap();
        scene.queue.forget(gone);
        scene.queue.forget(slow[0]);
        scene.check();
        let served = scene.serve(1);
        assert_eq!(served, [&slow[1..], &[other]].concat());
        scene.serve(1);
        assert!(!scene.queue.has_next());
        // A client that leaves during verification is not told the result, but still counts as a waiter. A client
        // that comes with the same password waits for the same job.
        let first = scene.push("192.0.2.1", "slow", "more").unwrap().0;
        let (digest, job) = scene.queue.next().unwrap();
        scene.queue.give(digest, job);
        let second = scene.push("192.0.2.3", "slow", "more").unwrap().0;
        scene.queue.forget(first);
        scene.check();
        let job = scene.queue.take_back(&digest, 1).unwrap();
        assert_eq!(job.waiters.len(), 2);
        assert!(job.waiters[&first].is_gone && !job.waiters[&second].is_gone);
        scene.check();
    }

    #[test]
    fn little_is_handed_over_ahead() {
        let mut scene = Scene::new();
        for number in 0..40 {
            scene.push("192.0.2.1", "fast", &number.to_string()).unwrap();
        }
        scene.queue.times.insert(Cost::Rounds(10), 100);
        scene.queue.estimate_anew(Cost::Rounds(10), 100);
        scene.push("192.0.2.1", "slow", "x").unwrap();
        let mut given = Vec::new();
        while scene.queue.has_next() {
            let (digest, job) = scene.queue.next().unwrap();
            scene.queue.give(digest, job);
            given.push(digest);
        }
        assert_eq!(given.len(), AHEAD_MAXIMUM);
        for digest in given {
            scene.queue.take_back(&digest, 100);
        }
        scene.check();
    }
}
