//! How many messages a bridge sends per second, so that a long queue does not flood the other broker.

use crate::base::time::{Duration, Time};

/// A message costs so much credit. A second adds as much for each message that may be sent in it.
const MESSAGE: u64 = 1000;
/// How many milliseconds without messages can be caught up with.
const BURST: u64 = 100;

/// The credit for messages.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Messages per second, at least one; `None` for no limit.
    rate: Option<u64>,
    credit: u64,
    /// When credit was last added.
    since: Time,
}

impl Pace {
    pub fn new(rate: Option<u32>, now: Time) -> Self {
        Self { rate: rate.map(|rate| u64::from(rate.max(1))), credit: MESSAGE, since: now }
    }

    /// Whether a message may be sent.
    #[inline]
    pub const fn is_open(&self) -> bool {
        self.rate.is_none() || self.credit >= MESSAGE
    }

    /// A message was sent.
    #[inline]
    pub const fn sends(&mut self) {
        if self.rate.is_some() {
            self.credit = self.credit.saturating_sub(MESSAGE);
        }
    }

    /// Time has passed.
    pub fn refill(&mut self, now: Time) {
        let Some(rate) = self.rate else { return };
        let more = now.since(self.since).milliseconds().saturating_mul(rate);
        self.credit = self.credit.saturating_add(more).min(MESSAGE.max(rate * BURST));
        self.since = now;
    }

    /// When a message may be sent again, if it may not now.
    pub fn deadline(&self) -> Time {
        match self.rate {
            Some(rate) if !self.is_open() => {
                self.since + Duration::from_milliseconds((MESSAGE - self.credit).div_ceil(rate))
            }
            _ => Time::NEVER,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many messages are sent in so many seconds if there are always more.
    fn sent(rate: Option<u32>, seconds: u64) -> u64 {
        let mut now = Time::ZERO;
        let mut pace = Pace::new(rate, now);
        let mut count = 0;
        while now < Time::ZERO + Duration::from_seconds(seconds) {
            while pace.is_open() && count < 1_000_000 {
                pace.sends();
                count += 1;
            }
            now = pace.deadline();
            pace.refill(now);
            assert!(pace.is_open(), "it was not called in vain");
        }
        count
    }

    #[test]
    fn the_rate_is_kept_and_not_more() {
        for rate in [1, 3, 999, 1000, 1500, 7000] {
            let count = sent(Some(rate), 10);
            let expected = u64::from(rate) * 10;
            assert!((expected - expected / 10..=expected + 1).contains(&count), "{rate}: {count}");
        }
        assert_eq!(sent(None, 1), 1_000_000);
    }

    #[test]
    fn a_pause_is_not_caught_up_with_at_once() {
        let mut pace = Pace::new(Some(100), Time::ZERO);
        pace.refill(Time::ZERO + Duration::from_seconds(100));
        let burst = std::iter::from_fn(|| pace.is_open().then(|| pace.sends())).count();
        assert_eq!(burst, 10);
    }
}
