//! `$SYS`: what the broker publishes about itself, under the names that mosquitto uses. All of it is retained and published
//! only when it has changed, at moments that a wall clock shows as whole intervals; nothing is put into words for
//! what has not. Who may read it is asked about like any other topic, and no client may publish there, but for bridges
//! of mosquitto, which say there whether they are connected.
//!
//! What it takes in memory is bounded by the number of names, so limits of retained messages do not count it.

use super::Broker;
use super::clock::Timer;
use super::figures::{self, Highest, Shown, Unit};
use super::persistence::StorageFigures;
use crate::base::time::{Duration, Time};
use crate::core::message::{Outbound, Publication};
use crate::core::wheel::TimerId;
use crate::protocol::codec::{Properties, QoS};
use crate::protocol::topic::TopicName;

/// What all names stand below.
const ABOVE: &str = "$SYS/broker/";

/// How long a line of the log waits for those who want it.
const LINE_LIFETIME: Duration = Duration::from_seconds(20);

/// The minutes over which rates are averaged.
const SPANS: [(&str, f64); 3] = [("1min", 1.0), ("5min", 5.0), ("15min", 15.0)];

/// What is remembered from one moment to the next.
#[derive(Debug)]
pub(super) struct System {
    interval: Duration,
    /// What a wall clock showed at the origin of time.
    origin: Duration,
    timer: Option<TimerId>,
    /// When numbers were last taken.
    taken: Time,
    /// The numbers that were last published.
    published: [Option<u64>; figures::COUNT],
    rates: [Rate; figures::RATE_COUNT],
    pub(super) highest: Highest,
}

impl System {
    /// Has everything published again, whether it has changed or not.
    fn forget_published(&mut self) {
        self.published = [None; figures::COUNT];
        for rate in &mut self.rates {
            rate.published = Default::default();
        }
    }
}

/// How fast one number grows, in a minute.
#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    /// The number when it was last taken.
    count: u64,
    /// Exponential averages over each of [`SPANS`].
    averages: [f64; SPANS.len()],
    /// What was last published of them, in hundredths.
    published: [Option<u64>; SPANS.len()],
}

impl Rate {
    /// Takes the number again, `minutes` after the last time.
    fn take(&mut self, count: u64, minutes: f64) {
        if minutes <= 0.0 {
            self.count = count;
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "an average needs no more than 52 bits")]
        let now = count.saturating_sub(self.count) as f64 / minutes;
        self.count = count;
        for (average, (_, span)) in self.averages.iter_mut().zip(SPANS) {
            *average = now + decay(minutes / span) * (*average - now);
        }
    }
}

/// What is left of an average after so many of its spans: e to the power of their negative. The limit that defines
/// it, cut short, is right to one part in a thousand where it matters; the library that knows better takes more
/// memory than everything that the broker has to hold at its start.
fn decay(spans: f64) -> f64 {
    const SQUARINGS: u8 = 10;
    let steps = f64::from(1_u16 << SQUARINGS);
    (0..SQUARINGS).fold(steps / (steps + spans), |left, _| left * left)
}

/// An average in hundredths, as it is published.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate is small and not negative"
)]
fn hundredths(average: f64) -> u64 {
    (average * 100.0).round() as u64
}

impl Broker {
    /// Tells of the broker under `$SYS` at once and then every `interval`, or never again. `wall` is the time since
    /// 1970 that a clock shows at the moment `now`: whole intervals of it are when it is published.
    pub fn publish_sys(&mut self, interval: Option<Duration>, wall: Duration, now: Time) {
        let _entered = self.account.enter();
        self.advance(now);
        let before = self.system.take();
        if let Some(timer) = before.as_ref().and_then(|system| system.timer) {
            self.clock.wheel.cancel(timer);
        }
        let Some(interval) = interval.filter(|&interval| interval > Duration::ZERO) else { return };
        let origin = wall.milliseconds().saturating_sub(self.clock.now.milliseconds());
        let fresh = || {
            Box::new(System {
                interval,
                origin: Duration::ZERO,
                timer: None,
                taken: self.clock.now,
                published: [None; figures::COUNT],
                rates: [Rate::default(); figures::RATE_COUNT],
                highest: Highest::default(),
            })
        };
        let mut system = before.unwrap_or_else(fresh);
        system.interval = interval;
        system.origin = Duration::from_milliseconds(origin);
        system.timer = None;
        self.system = Some(system);
        self.announce_version();
        self.system_is_due();
    }

    fn announce_version(&mut self) {
        self.announce("$SYS/broker/version", concat!("brooklet version ", env!("CARGO_PKG_VERSION")), None);
    }

    /// Publishes everything again, in new memory. What was published in the midst of a peak may be all that is left
    /// above what has been freed since.
    pub(super) fn publish_all_again(&mut self) {
        let Some(system) = &mut self.system else { return };
        self.retention.retained.clear_own();
        system.forget_published();
        if let Some(timer) = system.timer.take() {
            self.clock.wheel.cancel(timer);
        }
        self.announce_version();
        self.system_is_due();
    }

    /// Publishes what has changed, and waits for the next moment.
    pub(super) fn system_is_due(&mut self) {
        let Some(mut system) = self.system.take() else { return };
        system.highest = self.highest(system.highest);
        let values = self.read_figures(system.highest);
        self.publish_figures(&values, &mut system.published);
        self.publish_rates(&values, &mut system);
        system.taken = self.clock.now;
        let shown = system.origin.milliseconds().saturating_add(self.clock.now.milliseconds());
        let interval = system.interval.milliseconds();
        let left = Duration::from_milliseconds(interval - shown % interval);
        system.timer = Some(self.clock.arm(left, Timer::System));
        self.system = Some(system);
    }

    fn publish_figures(
        &mut self,
        values: &[u64; figures::COUNT],
        published: &mut [Option<u64>; figures::COUNT],
    ) {
        let has_store = self.persistence.journal.is_some();
        let rows = figures::NAMES.lines().zip(figures::UNITS).zip(figures::SHOWN);
        for (((name, unit), shown), (&value, published)) in rows.zip(values.iter().zip(published)) {
            let is_shown = shown == Shown::Always || (shown == Shown::WithStore && has_store);
            if is_shown && published.replace(value) != Some(value) {
                let unit = if unit == Unit::Seconds { " seconds" } else { "" };
                self.announce(&format!("{ABOVE}{name}"), &format!("{value}{unit}"), None);
            }
        }
    }

    /// What the store has written meanwhile.
    pub fn set_storage_figures(&mut self, figures: StorageFigures) {
        let _entered = self.account.enter();
        self.persistence.figures = figures;
    }

    fn publish_rates(&mut self, values: &[u64; figures::COUNT], system: &mut System) {
        #[expect(clippy::cast_precision_loss, reason = "a broker does not wait for 2^52 milliseconds")]
        let minutes = self.clock.now.since(system.taken).milliseconds() as f64 / 60_000.0;
        let counts = figures::RATES.lines().zip(values).filter(|(name, _)| !name.is_empty());
        for ((name, &count), rate) in counts.zip(&mut system.rates) {
            rate.take(count, minutes);
            for ((span, _), (average, published)) in
                SPANS.iter().zip(rate.averages.iter().zip(&mut rate.published))
            {
                let shown = hundredths(*average);
                if published.replace(shown) != Some(shown) {
                    let text = format!("{}.{:02}", shown / 100, shown % 100);
                    self.announce(&format!("{ABOVE}load/{name}/{span}"), &text, None);
                }
            }
        }
    }

    /// Publishes a line of the log. It is of interest for a short while only.
    pub fn publish_line(&mut self, topic: &str, line: &str, now: Time) {
        let _entered = self.account.enter();
        self.advance(now);
        self.announce(topic, line, Some(LINE_LIFETIME));
    }

    /// Publishes what the broker itself has to say, at QoS 2 to whom wants that: retained, unless it has a lifetime.
    fn announce(&mut self, topic: &str, text: &str, lifetime: Option<Duration>) {
        let Ok(topic) = TopicName::new(topic) else { return };
        let publication = Publication {
            topic,
            payload: text.as_bytes(),
            qos: QoS::ExactlyOnce,
            retain: lifetime.is_none(),
            publisher: None,
            properties: Properties::default(),
            expires: lifetime.map_or(Time::NEVER, |lifetime| self.clock.now + lifetime),
        };
        self.publish_unlinked(&mut Outbound::new(publication), None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_near_what_goes_on_and_forget_what_went_before() {
        let mut rate = Rate::default();
        let mut count = 0;
        for _ in 0..360 {
            count += 10;
            rate.take(count, 1.0 / 6.0);
        }
        let shown = rate.averages.map(hundredths);
        assert_eq!(shown[0], 6_000, "ten every ten seconds are sixty in a minute");
        assert!(shown[1] > 5_990 && shown[2] > 5_800 && shown[2] < 5_990, "{shown:?}");
        for _ in 0..6 {
            rate.take(count, 1.0 / 6.0);
        }
        assert_eq!(hundredths(rate.averages[0]), 2_207, "a minute leaves one part in e");
        rate.take(count, 0.0);
        assert_eq!(hundredths(rate.averages[0]), 2_207, "no time, no change");
    }
}
