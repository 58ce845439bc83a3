//! What keeps passwords from being guessed, by whichever way somebody logs in: wrong ones are counted with the clock at
//! hand, and the log is told when there were too many.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Instant;

use log::info;

use super::attempts::{Attempts, Limit};
use crate::time::Time;

/// Shared by all that verify on behalf of one access control.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    attempts: Rc<RefCell<Attempts>>,
    /// Where the time of attempts begins.
    began: Instant,
}

impl Guard {
    #[expect(clippy::disallowed_methods, reason = "attempts are limited in time")]
    pub(super) fn new() -> Self {
        Self { attempts: Rc::default(), began: Instant::now() }
    }

    /// Whether a password of this user from this address may count as right. Who is on this machine without an address
    /// may always try.
    pub(super) fn may_try(&self, address: Option<IpAddr>, user: &str) -> bool {
        address.is_none_or(|address| self.attempts.borrow().may_try(address, user, self.now()))
    }

    /// A password was wrong. One line tells of many that come after it.
    pub(super) fn note_wrong(&self, address: Option<IpAddr>, user: &str) {
        let Some(address) = address else { return };
        let whose = match self.attempts.borrow_mut().note_wrong(address, user, self.now()) {
            Some(Limit::Address) => "all users",
            Some(Limit::User) => "one user",
            None => return,
        };
        // Not which one: people type passwords where their name belongs.
        info!(target: "notice", "Too many wrong passwords from {address}: those of {whose} are refused for up to a minute.");
    }

    fn now(&self) -> Time {
        Time::from_milliseconds(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}
