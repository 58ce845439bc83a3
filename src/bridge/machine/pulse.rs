//! Whether the other broker is alive: Keep Alive, and acknowledgements that do not come.

use crate::base::time::{Duration, Time};

/// How long acknowledgements may be missing before the connection is given up.
const ACKNOWLEDGEMENT_PATIENCE: Duration = Duration::from_seconds(30);
/// The least and the most time for a PINGRESP. Between them, it is half of the Keep Alive.
const PING_PATIENCE: [Duration; 2] = [Duration::from_seconds(1), Duration::from_seconds(10)];

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    Nothing,
    /// A PINGREQ.
    Ping,
    /// The connection is dead, for this reason.
    Dead(&'static str),
}

/// The PINGREQ that was not answered.
#[derive(Clone, Copy, Debug)]
enum Ping {
    None,
    /// It is in the output, which has so many bytes up to its end. If none of them is sent until then, it is too late.
    Queued {
        left: usize,
        until: Time,
    },
    /// It was sent. If nothing is received until then, it is too late.
    Sent {
        until: Time,
    },
}

/// The signs of life on one connection.
#[derive(Clone, Copy, Debug)]
pub struct Pulse {
    /// Zero if there is no Keep Alive.
    keep_alive: Duration,
    /// When bytes were last sent.
    sent: Time,
    /// When bytes were last received.
    received: Time,
    ping: Ping,
    /// The number of acknowledgements that the other broker owes.
    owed: u32,
    /// When an acknowledgement last came, or the first one became due.
    acknowledged: Time,
}

impl Pulse {
    pub const fn new(keep_alive: Duration, now: Time) -> Self {
        Self { keep_alive, sent: now, received: now, ping: Ping::None, owed: 0, acknowledged: now }
    }

    pub const fn assign(&mut self, keep_alive: Duration) {
        self.keep_alive = keep_alive;
    }

    /// So many bytes were sent.
    pub fn sends(&mut self, count: usize, now: Time) {
        self.sent = now;
        if let Ping::Queued { left, .. } = self.ping {
            let until = now + self.patience();
            self.ping = match left.saturating_sub(count) {
                0 => Ping::Sent { until },
                left => Ping::Queued { left, until },
            };
        }
    }

    /// A PINGREQ was added to the output, which has so many bytes now.
    pub fn pings(&mut self, left: usize, now: Time) {
        self.ping = Ping::Queued { left, until: now + self.patience() };
    }

    /// Bytes were received. They show that the other broker is alive, so a PINGRESP that has to wait for them is not
    /// late.
    pub fn receives(&mut self, now: Time) {
        self.received = now;
        let until = now + self.patience();
        match &mut self.ping {
            Ping::None => {}
            Ping::Queued { until: late, .. } | Ping::Sent { until: late } => *late = until,
        }
    }

    /// PINGRESP has come.
    pub const fn answers(&mut self) {
        self.ping = Ping::None;
    }

    /// A packet was sent that the other broker acknowledges.
    #[inline]
    pub const fn owes(&mut self, now: Time) {
        if self.owed == 0 {
            self.acknowledged = now;
        }
        self.owed = self.owed.saturating_add(1);
    }

    /// So many acknowledgements have come.
    #[inline]
    pub fn acknowledges(&mut self, count: usize, now: Time) {
        self.owed = self.owed.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
        self.acknowledged = now;
    }

    /// Whether nothing is in flight to the other broker.
    pub const fn is_calm(&self) -> bool {
        self.owed == 0
    }

    /// Nothing is read from the other broker at the moment, so it cannot be late.
    pub fn excuse(&mut self, now: Time) {
        self.acknowledged = now;
        self.receives(now);
    }

    fn patience(&self) -> Duration {
        let [least, most] = PING_PATIENCE;
        Duration::from_milliseconds(self.keep_alive.milliseconds() / 2).clamp(least, most)
    }

    fn ping_due(&self) -> Time {
        if self.keep_alive == Duration::ZERO {
            return Time::NEVER;
        }
        self.sent.min(self.received) + self.keep_alive
    }

    fn acknowledgement_due(&self) -> Time {
        if self.owed == 0 { Time::NEVER } else { self.acknowledged + ACKNOWLEDGEMENT_PATIENCE }
    }

    /// When something is due next.
    pub fn deadline(&self) -> Time {
        let ping = match self.ping {
            Ping::None => self.ping_due(),
            Ping::Queued { until, .. } | Ping::Sent { until } => until,
        };
        ping.min(self.acknowledgement_due())
    }

    /// What is due now.
    pub fn tick(&self, now: Time) -> Beat {
        if self.acknowledgement_due() <= now {
            return Beat::Dead("acknowledgements have not come for 30 seconds");
        }
        match self.ping {
            Ping::None if self.ping_due() <= now => Beat::Ping,
            Ping::Queued { until, .. } if until <= now => Beat::Dead("it takes no more bytes"),
            Ping::Sent { until } if until <= now => Beat::Dead("PINGRESP has not come"),
            _ => Beat::Nothing,
        }
    }
}
