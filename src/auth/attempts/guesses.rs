//! Counts wrong passwords by their origin. After too many within a minute, no more are verified until the minute is
//! over. A device that keeps sending one old password must not lock out its neighbours, and a guesser that tries many
//! user names must be stopped, too. So only different passwords count, and there are two limits: for one user at an
//! address, and for the whole address.
//!
//! A password that is remembered as right is recognised without verifying it. But a client that could have any number
//! of guesses compared with the remembered ones would find it in the end, so the limit of the address applies here,
//! too. Beyond it, only devices pass that have proved the password from this address before, known by their Client
//! Identifiers. Each device has a limit of its own, so that its Client Identifier is of little use to a guesser.
//!
//! The time is passed in. A few bytes are remembered for each of a bounded number of users, addresses and devices.

use core::net::IpAddr;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher as _};

use super::place::Place;
use super::remembered::Remembered;
use crate::base::memory;
use crate::base::time::{Duration, Time};

/// The limit of an address, as a multiple of the limit of one user at that address.
pub(super) const USERS_OF_ADDRESS: usize = 10;
/// How long wrong passwords count, from the first one on.
const SPAN: Duration = Duration::from_seconds(60);
/// Users, addresses and devices whose wrong passwords are remembered. Beyond: the oldest entry is forgotten.
const WRONG_MAXIMUM: usize = 2_048;
/// Wrong passwords that are remembered in total. Beyond: the oldest entry is forgotten with all of its passwords.
const GUESSES_MAXIMUM: usize = 16_384;

/// A client that wants to log in, identified by hashes that cannot be predicted from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claimant {
    /// `None` for a client on this machine, which is never limited.
    pub(super) address: Option<IpAddr>,
    /// Hash of the user and the place.
    user: u64,
    place: u64,
    /// Hash of the user, the place and the Client Identifier: one device.
    device: u64,
    /// How many different wrong passwords of a user are verified; zero for any number.
    pub(super) most: usize,
}

impl Claimant {
    /// Where the client comes from, as far as fairness is concerned.
    pub(super) fn place(&self) -> Place {
        Place::of(self.address)
    }

    const fn is_limited(&self) -> bool {
        self.most > 0 && self.address.is_some()
    }
}

/// What may be done with a password at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may be verified.
    Open,
    /// It is accepted only if it is remembered as right. It is not verified.
    Remembered,
    /// It is refused.
    Closed,
}

/// The limit that has been reached, so that no more passwords are verified for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    User,
    Address,
}

/// Recent wrong passwords, and the devices that have proved a right one.
#[derive(Debug)]
pub(super) struct Guesses {
    wrong: HashMap<u64, Wrong>,
    /// Number of wrong passwords remembered in total.
    count: usize,
    /// Devices that have proved a password.
    devices: Remembered<u64>,
    /// The key of the hashes of names.
    key: [u8; 32],
}

#[derive(Debug)]
struct Wrong {
    since: Time,
    /// Digests of different wrong passwords.
    guesses: Vec<u64>,
}

impl Wrong {
    fn guesses(&self, now: Time) -> &[u64] {
        if now.since(self.since) < SPAN { &self.guesses } else { &[] }
    }
}

impl Guesses {
    /// Creates an empty count. `key` must be random: it hides from clients which names have the same hash.
    pub(super) fn new(key: [u8; 32]) -> Self {
        Self { wrong: HashMap::new(), count: 0, devices: Remembered::default(), key }
    }

    fn number_of(&self, name: impl Hash) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.key, name).hash(&mut hasher);
        hasher.finish()
    }

    /// The client with this Client Identifier and address that claims to be `user`. `most` is how many different
    /// wrong passwords of a user are verified; zero for any number.
    pub(super) fn claimant(
        &self,
        address: Option<IpAddr>,
        user: &str,
        client_identifier: &str,
        most: usize,
    ) -> Claimant {
        let place = Place::of(address);
        Claimant {
            address,
            user: self.number_of((place, user)),
            place: self.number_of(place),
            device: self.number_of((place, user, client_identifier)),
            most,
        }
    }

    /// Returns what may be done with a password at this moment.
    pub(super) fn standing(&self, claimant: &Claimant, now: Time) -> Standing {
        let &Claimant { user, place, device, most, .. } = claimant;
        let has_too_many = |key, most| self.guesses(key, now).len() >= most;
        if !claimant.is_limited() {
            return Standing::Open;
        }
        let is_known = self.devices.knows(&device) && !has_too_many(device, most);
        match has_too_many(place, most * USERS_OF_ADDRESS) {
            false if !has_too_many(user, most) => Standing::Open,
            true if !is_known => Standing::Closed,
            _ => Standing::Remembered,
        }
    }

    /// Whether this password of the user has been found wrong within the last minute.
    pub(super) fn was_wrong(&self, claimant: &Claimant, guess: u64, now: Time) -> bool {
        self.guesses(claimant.user, now).contains(&guess)
    }

    /// Counts a wrong password. Returns the limit that it reaches, if any.
    pub(super) fn note_wrong(&mut self, claimant: &Claimant, guess: u64, now: Time) -> Option<Limit> {
        let &Claimant { user, most, .. } = claimant;
        if !claimant.is_limited() {
            return None;
        }
        let is_user_over = self.add(user, guess, most, now);
        let limit = self.note_unknown(claimant, guess, now);
        limit.or(is_user_over.then_some(Limit::User))
    }

    /// Counts a password that was not verified and is not remembered as right. To learn that it is not remembered
    /// helps a guesser, so it counts for the address and the device, but the password itself is not taken to be
    /// wrong.
    pub(super) fn note_unknown(&mut self, claimant: &Claimant, guess: u64, now: Time) -> Option<Limit> {
        let &Claimant { place, device, most, .. } = claimant;
        if !claimant.is_limited() {
            return None;
        }
        if self.devices.knows(&device) {
            self.add(device, guess, most, now);
        }
        self.add(place, guess, most * USERS_OF_ADDRESS, now).then_some(Limit::Address)
    }

    /// Remembers the device of a client that has proved a password.
    pub(super) fn note_right(&mut self, claimant: &Claimant) {
        if claimant.is_limited() {
            self.devices.note(claimant.device);
        }
    }

    /// Upper bound of the bytes of memory used. A list allocates room for at least four guesses, and for at most
    /// twice as many as it holds.
    pub(super) fn memory(&self) -> usize {
        memory::allocation(self.wrong.capacity() * (size_of::<(u64, Wrong)>() + 1) * 8 / 7)
            + self.wrong.len() * memory::allocation(4 * size_of::<u64>())
            + self.count * 2 * size_of::<u64>()
            + self.devices.memory()
    }

    fn guesses(&self, key: u64, now: Time) -> &[u64] {
        self.wrong.get(&key).map_or(&[], |wrong| wrong.guesses(now))
    }

    /// Adds a guess unless it is known or there are `most` already. Returns whether this one reaches `most`.
    fn add(&mut self, key: u64, guess: u64, most: usize, now: Time) -> bool {
        let known = self.guesses(key, now);
        if known.len() >= most || known.contains(&guess) {
            return false;
        }
        if known.is_empty() {
            // The entry has expired, or there was none.
            self.forget(key);
        }
        while self.count >= GUESSES_MAXIMUM
            || self.wrong.len() >= WRONG_MAXIMUM && !self.wrong.contains_key(&key)
        {
            self.forget_oldest(now);
        }
        self.count += 1;
        let wrong = self.wrong.entry(key).or_insert_with(|| Wrong { since: now, guesses: Vec::new() });
        wrong.guesses.push(guess);
        wrong.guesses.len() == most
    }

    fn forget(&mut self, key: u64) {
        if let Some(wrong) = self.wrong.remove(&key) {
            self.count -= wrong.guesses.len();
        }
    }

    /// Forgets all expired entries, or the oldest entry if none has expired.
    fn forget_oldest(&mut self, now: Time) {
        let before = self.wrong.len();
        self.wrong.retain(|_, wrong| now.since(wrong.since) < SPAN);
        let oldest = self.wrong.iter().min_by_key(|(_, wrong)| wrong.since).map(|(&key, _)| key);
        if let Some(key) = oldest.filter(|_| self.wrong.len() == before) {
            self.wrong.remove(&key);
        }
        self.count = self.wrong.values().map(|wrong| wrong.guesses.len()).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 10;

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_seconds(seconds)
    }

    fn claimant(attempts: &Guesses, address: &str, user: &str, device: &str) -> Claimant {
        attempts.claimant(Some(address.parse().unwrap()), user, device, MOST)
    }

    #[test]
    fn a_user_who_guesses_waits_and_others_do_not() {
        let mut attempts = Guesses::new([7; 32]);
        let [ann, bob] = ["ann", "bob"].map(|user| claimant(&attempts, "192.0.2.1", user, "c"));
        let elsewhere = claimant(&attempts, "192.0.2.2", "ann", "c");
        for guess in 1..=10 {
            assert_eq!(attempts.standing(&ann, at(5)), Standing::Open);
            let reached = attempts.note_wrong(&ann, guess, at(5));
            assert_eq!(reached, (guess == 10).then_some(Limit::User));
        }
        assert_eq!(attempts.standing(&ann, at(64)), Standing::Remembered);
        for other in [bob, elsewhere, Claimant { most: 0, ..ann }, Claimant { address: None, ..ann }] {
            assert_eq!(attempts.standing(&other, at(5)), Standing::Open);
        }
        assert_eq!(attempts.standing(&ann, at(65)), Standing::Open, "the minute is over");
        assert_eq!(attempts.note_wrong(&ann, 1, at(65)), None, "and it is counted anew");
    }

    #[test]
    fn the_same_wrong_password_counts_once_in_a_minute() {
        let mut attempts = Guesses::new([7; 32]);
        let ann = Claimant { most: 2, ..claimant(&attempts, "192.0.2.1", "ann", "c") };
        for second in 0..59 {
            attempts.note_wrong(&ann, 1, at(second));
            assert!(attempts.was_wrong(&ann, 1, at(second)) && !attempts.was_wrong(&ann, 2, at(second)));
            assert_eq!(attempts.standing(&ann, at(second)), Standing::Open);
        }
        assert_eq!(attempts.note_wrong(&ann, 2, at(59)), Some(Limit::User));
        assert!(!attempts.was_wrong(&ann, 1, at(60)), "then it is looked at again");
    }

    #[test]
    fn an_address_that_tries_many_names_waits() {
        let mut attempts = Guesses::new([7; 32]);
        for guess in 1..=100 {
            let from = format!("2001:db8::{guess:x}");
            let stranger = claimant(&attempts, &from, &format!("user {guess}"), "c");
            let reached = attempts.note_wrong(&stranger, guess, at(0));
            assert_eq!(reached, (guess == 100).then_some(Limit::Address));
        }
        for (address, standing) in [
            ("2001:db8::ffff", Standing::Closed),
            ("2001:db8:0:1::1", Standing::Open),
            ("192.0.2.1", Standing::Open),
        ] {
            assert_eq!(attempts.standing(&claimant(&attempts, address, "new", "c"), at(0)), standing);
        }
    }

    /// A guesser shares the address with devices that have proved the password.
    #[test]
    fn a_known_device_passes_next_to_a_guesser_who_may_not_guess_without_end() {
        let mut attempts = Guesses::new([7; 32]);
        let device = |attempts: &Guesses, name: &str| claimant(attempts, "192.0.2.1", "ann", name);
        let (lamp, fridge) = (device(&attempts, "lamp"), device(&attempts, "fridge"));
        attempts.note_right(&lamp);
        attempts.note_right(&fridge);
        let mut compared = 0;
        for guess in 0..1_000 {
            let stranger = device(&attempts, &format!("x{guess}"));
            match attempts.standing(&stranger, at(1)) {
                Standing::Open => attempts.note_wrong(&stranger, guess, at(1)),
                _ => attempts.note_unknown(&stranger, guess, at(1)),
            };
            compared += usize::from(attempts.standing(&stranger, at(1)) != Standing::Closed);
        }
        assert_eq!(compared, 99, "an unknown password cannot be guessed at any longer");
        assert_eq!(attempts.standing(&lamp, at(1)), Standing::Remembered);
        for guess in 1_000..1_010 {
            assert_eq!(attempts.standing(&fridge, at(1)), Standing::Remembered);
            attempts.note_unknown(&fridge, guess, at(1));
        }
        assert_eq!(attempts.standing(&fridge, at(1)), Standing::Closed, "nor under its name");
        assert_eq!(attempts.standing(&lamp, at(1)), Standing::Remembered);
        assert_eq!(attempts.standing(&fridge, at(61)), Standing::Open);
        assert!(!attempts.was_wrong(&fridge, 1_000, at(1)), "it was not looked at");
    }

    #[test]
    fn only_so_many_are_remembered() {
        let mut attempts = Guesses::new([7; 32]);
        for number in 0..6_000_u32 {
            let from = attempts.claimant(Some(number.to_be_bytes().into()), "u", "c", MOST);
            attempts.note_wrong(&from, number.into(), Time::from_milliseconds(number.into()));
        }
        assert_eq!(attempts.wrong.len(), WRONG_MAXIMUM);
        let patient = ["::1", "0:0:0:1::"].map(|address| claimant(&attempts, address, "u", "c"));
        let patient = patient.map(|claimant| Claimant { most: 1_000, ..claimant });
        for guess in 0..20_000 {
            for claimant in &patient {
                attempts.note_wrong(claimant, guess, at(30));
            }
            assert!(attempts.count <= GUESSES_MAXIMUM);
        }
        let all: usize = attempts.wrong.values().map(|wrong| wrong.guesses.len()).sum();
        assert_eq!(all, attempts.count);
        attempts.forget_oldest(at(100));
        assert_eq!((attempts.wrong.len(), attempts.count), (0, 0), "what is over goes first");
    }
}
