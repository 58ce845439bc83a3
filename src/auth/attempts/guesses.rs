//! Wrong passwords, counted by where they come from: once there were too many within a minute, no more are looked at
//! before it is over. One user's device with an old password must not keep its neighbours out, nor must a guesser
//! who tries many names; so only different ones count, and there are two limits, for a user at an address and for the
//! address.
//!
//! A password that is remembered as right can be recognised without a check. But a client that may have guesses
//! compared with it without end will find it, so the limit of the address holds for that, too. Beyond it, only devices
//! pass that have proved the password from there before, known by their Client Identifiers. Each of them has a limit of
//! its own, so that its name is of little use to others.
//!
//! Knows the time only as it is told. What is remembered is a few bytes for each of a bounded number.

use core::net::IpAddr;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher as _};

use super::place::Place;
use super::remembered::Remembered;
use crate::base::memory;
use crate::base::time::{Duration, Time};

/// An address may have so many times the wrong passwords that a user may have there.
const USERS_OF_ADDRESS: usize = 10;
/// From the first wrong password on.
const SPAN: Duration = Duration::from_seconds(60);
/// Users, addresses and devices whose wrong passwords are remembered. Beyond: the oldest is forgotten.
const WRONG_MAXIMUM: usize = 2_048;
/// Wrong passwords that are remembered of all of them. Beyond: the oldest are forgotten.
const GUESSES_MAXIMUM: usize = 16_384;

/// A client that wants to be accepted, known by numbers that cannot be predicted from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claimant {
    /// Without one it is on this machine, where it may always try.
    pub(super) address: Option<IpAddr>,
    /// The user at the place.
    user: u64,
    place: u64,
    /// The user's device at the place, by its Client Identifier.
    device: u64,
    /// How many different wrong passwords of a user are looked at; zero for any number.
    most: usize,
}

impl Claimant {
    /// Where it comes from, as far as fairness goes.
    pub(super) fn place(&self) -> Place {
        Place::of(self.address)
    }

    const fn is_limited(&self) -> bool {
        self.most > 0 && self.address.is_some()
    }
}

/// What may be done about a password now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may be looked at.
    Open,
    /// It may pass if it is remembered as right, without a look.
    Remembered,
    /// Nothing.
    Closed,
}

/// What has now been wrong so often that no more is looked at for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    User,
    Address,
}

/// Who has guessed wrongly of late, and who has not.
#[derive(Debug)]
pub(super) struct Guesses {
    wrong: HashMap<u64, Wrong>,
    /// How many wrong passwords are remembered.
    count: usize,
    /// Devices that have proved a password.
    devices: Remembered<u64>,
    /// What names are hashed with.
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
    /// None yet. Without the random `key` it cannot be told which names have the same number.
    pub(super) fn new(key: [u8; 32]) -> Self {
        Self { wrong: HashMap::new(), count: 0, devices: Remembered::default(), key }
    }

    fn number_of(&self, name: impl Hash) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.key, name).hash(&mut hasher);
        hasher.finish()
    }

    /// A client with this Client Identifier and address that claims to be this user. So many different wrong passwords
    /// of a user are checked; zero is for any number.
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

    /// What may be done about a password now.
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

    /// Whether this password of the user was wrong just now.
    pub(super) fn was_wrong(&self, claimant: &Claimant, guess: u64, now: Time) -> bool {
        self.guesses(claimant.user, now).contains(&guess)
    }

    /// A password was wrong. Tells which limit is reached by it, if one is.
    pub(super) fn note_wrong(&mut self, claimant: &Claimant, guess: u64, now: Time) -> Option<Limit> {
        let &Claimant { user, most, .. } = claimant;
        if !claimant.is_limited() {
            return None;
        }
        let is_user_over = self.add(user, guess, most, now);
        let limit = self.note_unknown(claimant, guess, now);
        limit.or(is_user_over.then_some(Limit::User))
    }

    /// A password was not checked, and is not remembered as right. That it is not remembered is a hint for a guesser,
    /// so it counts like a wrong one, but not as one that is known to be wrong.
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

    /// A password was right.
    pub(super) fn note_right(&mut self, claimant: &Claimant) {
        if claimant.is_limited() {
            self.devices.note(claimant.device);
        }
    }

    /// Bytes of memory that it takes, at most. A list has room for four at least, and for twice as many as it holds at
    /// most.
    pub(super) fn memory(&self) -> usize {
        memory::allocation(self.wrong.capacity() * (size_of::<(u64, Wrong)>() + 1) * 8 / 7)
            + self.wrong.len() * memory::allocation(4 * size_of::<u64>())
            + self.count * 2 * size_of::<u64>()
            + self.devices.memory()
    }

    fn guesses(&self, key: u64, now: Time) -> &[u64] {
        self.wrong.get(&key).map_or(&[], |wrong| wrong.guesses(now))
    }

    /// Adds one of at most so many different guesses; tells whether it is the last of them.
    fn add(&mut self, key: u64, guess: u64, most: usize, now: Time) -> bool {
        let known = self.guesses(key, now);
        if known.len() >= most || known.contains(&guess) {
            return false;
        }
        if known.is_empty() {
            // It is over, or was not there.
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

    /// Forgets what is over, and the oldest if nothing is.
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

    /// A guesser shares the address of devices that have proved the password.
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
