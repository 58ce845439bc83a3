//! Passwords that wait to be verified: bounded in memory and in the time that they will take, one share for each place
//! that they come from. The same password of the same user is verified once for all clients that wait for it, and not
//! at all once they have all gone.
//!
//! Knows the time only as it is told, and does no work of its own.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use super::guesses::Claimant;
use super::place::Place;
use crate::auth::passwords::{Cost, Digest, Trial};
use crate::base::memory;
use crate::core::slots::ConnectionId;

/// Microseconds that all that wait may take. Less than [`crate::core::limits::Limits::admission_wait`], so that clients
/// do not wait in vain. Beyond: the server is busy.
const TIME_MAXIMUM: u64 = 50_000_000;
/// Bytes that all that wait may take, and as many for those that wait for what is being verified. Beyond: the server is
/// busy.
const BYTES_MAXIMUM: usize = 1024 * 1024;
/// Microseconds of work that are handed over ahead, so that the thread has some between two turns of the loop.
const AHEAD: u64 = 10_000;
/// Jobs that are handed over ahead.
const AHEAD_MAXIMUM: usize = 16;
/// Costs whose time is remembered. Beyond: those of further ones are guessed.
const TIMES_MAXIMUM: usize = 64;

/// All that may wait, as a load.
const WHOLE: u64 = 1_000_000;

/// Bytes that one who waits takes, and a job without its password, in trees and tables, about.
const WAITER_BYTES: usize = size_of::<Waiter>() + 64;
const JOB_BYTES: usize = size_of::<Job>() + 256;

/// So many wait that no more may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Busy;

/// Who waits for a password to be verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiter {
    pub(super) claimant: Claimant,
    /// Whether it has left while the password was being verified, so that the answer is of no use.
    pub(super) is_gone: bool,
}

/// A password, of which nothing is left where it was.
pub struct Password(Box<[u8]>);

impl Password {
    pub(super) fn new(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Password {
    /// Tells nothing of it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Password")
    }
}

impl Drop for Password {
    fn drop(&mut self) {
        self.0.fill(0);
        // Kept from being left out as of no use.
        std::hint::black_box(&self.0);
    }
}

/// A password to be verified.
pub(super) struct Job {
    pub(super) trial: Trial,
    /// Shared with the thread, once it is handed over.
    pub(super) password: Arc<Password>,
    pub(super) waiters: BTreeMap<ConnectionId, Waiter>,
    place: Place,
    /// Its turn among those of its place.
    number: u64,
    /// Microseconds that it will take, about.
    time: u64,
}

impl Job {
    fn bytes(&self) -> usize {
        JOB_BYTES + memory::allocation(self.password.bytes().len()) + self.waiters.len() * WAITER_BYTES
    }
}

/// The jobs of one place.
#[derive(Debug, Default)]
struct Lane {
    /// In their order.
    jobs: BTreeMap<u64, Digest>,
    /// Microseconds that they will take.
    time: u64,
    /// Bytes that they take.
    bytes: usize,
    /// How far it has come in a time that is the same for all lanes: the one that is furthest back is next.
    turn: u64,
}

/// All that waits.
#[derive(Default)]
pub(super) struct Queue {
    waiting: HashMap<Digest, Job>,
    lanes: BTreeMap<Place, Lane>,
    /// What those wait for who do.
    wanted: HashMap<ConnectionId, Digest>,
    /// Jobs that were handed over and have not come back.
    given: HashMap<Digest, Job>,
    /// Microseconds that the jobs will take that wait, and their bytes.
    time: u64,
    bytes: usize,
    /// The same of those that were handed over.
    given_time: u64,
    given_bytes: usize,
    /// How far the lane had come whose turn it was last.
    turn: u64,
    numbers: u64,
    /// Microseconds that hashes have taken of late.
    times: BTreeMap<Cost, u64>,
}

impl Queue {
    /// A client waits for this password from now on. Tells which others wait no longer, to make room for it.
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
            // The place that has less in the queue is served sooner.
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

    /// A client waits no longer. What is being verified already is verified to its end.
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

    /// Whether more is to be handed over.
    pub(super) fn has_next(&self) -> bool {
        let is_enough = self.given_time >= AHEAD || self.given.len() >= AHEAD_MAXIMUM;
        !self.waiting.is_empty() && (self.given.is_empty() || !is_enough)
    }

    /// The next job, to be handed over by [`Queue::give`] or to be dropped.
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

    /// A job was handed over. One that takes long is the only one, so that what comes next is chosen as late as can be.
    pub(super) fn give(&mut self, digest: Digest, job: Job) {
        self.given_bytes += job.bytes();
        self.given_time += job.time;
        self.wanted
            .extend(job.waiters.iter().filter(|(_, waiter)| !waiter.is_gone).map(|(&id, _)| (id, digest)));
        self.given.insert(digest, job);
    }

    /// A job has come back, and has taken so many microseconds.
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

    /// Bytes of memory that it takes.
    pub(super) const fn memory(&self) -> usize {
        self.bytes + self.given_bytes
    }

    /// Microseconds that a hash takes, as the latest of its cost have, or as it would on some machine.
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

    /// What a place has in the queue.
    fn load(&self, place: Place) -> u64 {
        self.lanes.get(&place).map_or(0, Lane::load)
    }

    /// Makes room for a job that is not in the queue. If there is none, its place may have an equal share of all, and
    /// places that have more than that lose what came from them last.
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

    /// Something is taken in any case where nothing waits, however long it takes.
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

/// A load of so much time and so many bytes: the larger of the two, as a part of all that may wait.
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

    /// A queue, and those who may come.
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
            // A hash of 1,000 rounds takes a second here, and another one 10 ms.
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

        /// Has the next job done, which takes so long; tells who has waited for it.
        fn serve(&mut self, taken: u64) -> Vec<ConnectionId> {
            let (digest, job) = self.queue.next().unwrap();
            self.queue.give(digest, job);
            self.check();
            let job = self.queue.take_back(&digest, taken).unwrap();
            self.check();
            job.waiters.into_iter().filter(|(_, waiter)| !waiter.is_gone).map(|(id, _)| id).collect()
        }

        /// What is counted is what is there.
        fn check(&self) {
            let Queue { waiting, lanes, given, time, given_time, bytes, given_bytes, wanted, .. } =
                &self.queue;
            let waiting_bytes: usize = waiting.values().map(Job::bytes).sum();
            assert_eq!(*bytes, waiting_bytes);
            assert_eq!(*given_bytes, given.values().map(Job::bytes).sum());
            assert_eq!(*time, waiting.values().map(|job| job.time).sum());
            assert_eq!(*given_time, given.values().map(|job| job.time).sum());
            assert_eq!(*time, lanes.values().map(|lane| lane.time).sum());
            assert_eq!(waiting_bytes, lanes.values().map(|lane| lane.bytes).sum());
            assert_eq!(waiting.len(), lanes.values().map(|lane| lane.jobs.len()).sum());
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
        // The machine has become slower: what waits takes longer, and no more may come for longer.
        scene.serve(9_000_000);
        assert!(scene.queue.time > TIME_MAXIMUM);
        for _ in 0..32 {
            assert_eq!(scene.push("192.0.2.1", "fast", "y"), Err(Busy));
            scene.serve(3_000_000);
        }
        assert!(scene.push("192.0.2.1", "fast", "y").is_ok());
    }

    #[test]
    fn who_asks_for_little_is_served_next_to_one_who_asks_for_much() {
        let mut scene = Scene::new();
        for number in 0..50 {
            scene.push("192.0.2.1", "slow", &number.to_string()).unwrap();
        }
        scene.serve(1_000_000);
        scene.serve(1_000_000);
        // The queue is full but for two: the others make way, as far as an equal share goes.
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
        assert!(fast.iter().all(|id| served.contains(id)), "each second one");
        // Addresses with the same first half of IPv6 have one share together.
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
            // One is being verified, which changes nothing about what may wait.
            scene.push("192.0.2.1", "slow", &text).unwrap();
            let (digest, job) = scene.queue.next().unwrap();
            scene.queue.give(digest, job);
            let taken = (0..100_000)
                .take_while(|number| scene.push("192.0.2.1", "fast", &format!("{number}{text}")).is_ok());
            assert!((15..5_001).contains(&taken.count()));
            let (_, displaced) = scene.push("192.0.2.2", "fast", &text).unwrap();
            assert!(!displaced.is_empty(), "somebody else is taken in");
            assert!(!displaced.iter().any(|id| scene.queue.wanted.contains_key(id)));
        }
        let mut scene = Scene::new();
        let same = (0..100_000).take_while(|_| scene.push("192.0.2.1", "slow", "same").is_ok());
        assert!((4_000..12_000).contains(&same.count()), "one password of so many clients");
        assert_eq!(memory::held(), before, "it is counted by the owner of the queue");
    }

    #[test]
    fn the_same_password_is_verified_once_and_not_at_all_without_anybody() {
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
        // Who leaves while it is verified is not told, but what it was stays known; who asks again waits for the same.
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
