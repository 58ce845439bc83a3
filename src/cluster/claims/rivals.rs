//! Clients that use the same Client Identifier at several nodes: each connects again when the other one has ended its
//! connection.

use std::collections::BTreeMap;

use super::ClientHash;
use crate::base::time::{Duration, Time};

/// A client that is lost so often within [`PERIOD`] has a rival.
const TIMES: u32 = 10;
const PERIOD: Duration = Duration::from_seconds(60);
/// The most clients that are watched at a time.
const WATCHED_MAXIMUM: usize = 256;

/// How often clients were lost.
#[derive(Debug, Default)]
pub(super) struct Rivals(BTreeMap<ClientHash, (Time, u32)>);

impl Rivals {
    /// The bytes of an entry.
    pub(super) const ENTRY: usize = size_of::<(ClientHash, (Time, u32))>();

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// A client was lost. Returns true when that has happened too often, once in the period.
    pub(super) fn lost(&mut self, client: ClientHash, now: Time) -> bool {
        if !self.0.contains_key(&client) && self.0.len() >= WATCHED_MAXIMUM {
            self.0.retain(|_, (since, _)| now.since(*since) < PERIOD);
            if self.0.len() >= WATCHED_MAXIMUM {
                return false;
            }
        }
        let (since, times) = self.0.entry(client).or_insert((now, 0));
        if now.since(*since) >= PERIOD {
            (*since, *times) = (now, 0);
        }
        *times = times.saturating_add(1);
        *times == TIMES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_is_lost_again_and_again_has_a_rival() {
        let mut rivals = Rivals::default();
        let client = ClientHash::of("a", None);
        let mut lost = |second| rivals.lost(client, Time::ZERO + Duration::from_seconds(second));
        assert!((0..TIMES - 1).all(|_| !lost(1)));
        assert!(!lost(61), "a period has passed");
        assert!((0..TIMES - 2).all(|_| !lost(62)));
        assert!(lost(63));
        assert!((0..10 * TIMES).all(|_| !lost(64)), "it is said once");
    }

    #[test]
    fn only_so_many_are_watched() {
        let mut rivals = Rivals::default();
        let client = |number: usize| ClientHash::of(&number.to_string(), None);
        for number in 0..2 * WATCHED_MAXIMUM {
            rivals.lost(client(number), Time::ZERO);
        }
        assert_eq!(rivals.0.len(), WATCHED_MAXIMUM);
        rivals.lost(client(2 * WATCHED_MAXIMUM), Time::ZERO + PERIOD);
        assert_eq!(rivals.0.len(), 1);
    }
}
