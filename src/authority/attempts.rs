//! Wrong passwords, counted by where they come from: who has guessed wrongly too often within a minute is not verified
//! again before it is over. One user's device with an old password must not keep its neighbours out, and nor must
//! somebody who tries many names; so there are two limits, for a user at an address and for the address.
//!
//! Knows the time only as it is told. What is remembered is a few bytes for each of a bounded number.

use core::net::IpAddr;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use crate::time::{Duration, Time};

/// Wrong passwords of one user from one address within a [`SPAN`]. Beyond: not verified.
const OF_USER_MAXIMUM: u32 = 10;
/// Wrong passwords from one address within a [`SPAN`], whosever they are. Beyond: not verified.
const OF_ADDRESS_MAXIMUM: u32 = 100;
/// From the first wrong password on.
const SPAN: Duration = Duration::from_seconds(60);
/// Users and addresses that are remembered. Beyond: the oldest is forgotten.
const REMEMBERED_MAXIMUM: usize = 2_048;

/// Who has guessed wrongly of late.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    /// By a number of the address, or of the address and the user, that nobody outside can foresee.
    wrong: HashMap<u64, Wrong>,
    keys: RandomState,
}

#[derive(Clone, Copy, Debug)]
struct Wrong {
    since: Time,
    count: u32,
}

/// What has now been wrong so often that no more is verified for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    User,
    Address,
}

impl Attempts {
    /// Whether a password of this user from this address may be verified now.
    pub(super) fn may_try(&self, address: IpAddr, user: &str, now: Time) -> bool {
        [(Some(user), OF_USER_MAXIMUM), (None, OF_ADDRESS_MAXIMUM)].into_iter().all(|(user, most)| {
            let wrong = self.wrong.get(&self.key(address, user));
            wrong.is_none_or(|wrong| wrong.count < most || now.since(wrong.since) >= SPAN)
        })
    }

    /// A password was wrong. Tells which limit is reached by it, if one is.
    pub(super) fn note_wrong(&mut self, address: IpAddr, user: &str, now: Time) -> Option<Limit> {
        let of_user = self.count(self.key(address, Some(user)), now);
        let of_address = self.count(self.key(address, None), now);
        match () {
            () if of_address == OF_ADDRESS_MAXIMUM => Some(Limit::Address),
            () if of_user == OF_USER_MAXIMUM => Some(Limit::User),
            () => None,
        }
    }

    fn count(&mut self, key: u64, now: Time) -> u32 {
        if self.wrong.len() >= REMEMBERED_MAXIMUM && !self.wrong.contains_key(&key) {
            self.forget(now);
        }
        let wrong = self.wrong.entry(key).or_insert(Wrong { since: now, count: 0 });
        if now.since(wrong.since) >= SPAN {
            *wrong = Wrong { since: now, count: 0 };
        }
        wrong.count += 1;
        wrong.count
    }

    /// Forgets who has waited long enough, and the oldest if nobody has.
    fn forget(&mut self, now: Time) {
        self.wrong.retain(|_, wrong| now.since(wrong.since) < SPAN);
        let oldest = self.wrong.iter().min_by_key(|(_, wrong)| wrong.since).map(|(&key, _)| key);
        if let Some(key) = oldest.filter(|_| self.wrong.len() >= REMEMBERED_MAXIMUM) {
            self.wrong.remove(&key);
        }
    }

    /// Whoever has one address of IPv6 has all that share its first half.
    fn key(&self, address: IpAddr, user: Option<&str>) -> u64 {
        let place = match address {
            IpAddr::V4(address) => (4, u64::from(address.to_bits())),
            IpAddr::V6(address) => (6, u64::try_from(address.to_bits() >> 64).unwrap_or(0)),
        };
        self.keys.hash_one((place, user))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_seconds(seconds)
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_user_who_guesses_waits_and_others_do_not() {
        let mut attempts = Attempts::default();
        let (here, there) = (address("192.0.2.1"), address("192.0.2.2"));
        for number in 1..=OF_USER_MAXIMUM {
            assert!(attempts.may_try(here, "ann", at(5)));
            let reached = attempts.note_wrong(here, "ann", at(5));
            assert_eq!(reached, (number == OF_USER_MAXIMUM).then_some(Limit::User));
        }
        assert!(!attempts.may_try(here, "ann", at(64)));
        assert!(attempts.may_try(here, "bob", at(5)) && attempts.may_try(there, "ann", at(5)));
        assert!(attempts.may_try(here, "ann", at(65)), "the minute is over");
        assert_eq!(attempts.note_wrong(here, "ann", at(65)), None, "and it is counted anew");
    }

    #[test]
    fn an_address_that_tries_many_names_waits() {
        let mut attempts = Attempts::default();
        for number in 1..=OF_ADDRESS_MAXIMUM {
            let from = address(&format!("2001:db8::{number:x}"));
            let reached = attempts.note_wrong(from, &format!("user {number}"), at(0));
            assert_eq!(reached, (number == OF_ADDRESS_MAXIMUM).then_some(Limit::Address));
        }
        assert!(!attempts.may_try(address("2001:db8::ffff"), "new", at(0)));
        assert!(attempts.may_try(address("2001:db8:0:1::1"), "new", at(0)));
    }

    #[test]
    fn only_so_many_are_remembered() {
        let mut attempts = Attempts::default();
        for number in 0..3_000_u32 {
            attempts.note_wrong(
                IpAddr::from(number.to_be_bytes()),
                "u",
                Time::from_milliseconds(number.into()),
            );
        }
        assert_eq!(attempts.wrong.len(), REMEMBERED_MAXIMUM);
        attempts.note_wrong(address("::1"), "u", at(100));
        assert_eq!(attempts.wrong.len(), 2, "what is over goes first");
    }
}
