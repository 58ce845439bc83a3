//! `$SYS`: the figures that the broker publishes about itself, under the names that mosquitto uses. They are retained.
//! A figure is published only when it has changed, at the times that a wall clock shows as whole intervals.
//!
//! The access control is asked about subscriptions to `$SYS` as about any other topic. No client may publish there,
//! except bridges of mosquitto, which publish there whether they are connected.
//!
//! The number of names bounds the memory of these messages, so the limits of retained messages do not count them.

use super::Broker;
use super::clock::Timer;
use super::figures::{self, Highest, Shown, Unit};
use super::persistence::StorageFigures;
use crate::base::time::{Duration, Time};
use crate::core::message::{Outbound, Publication};
use crate::core::wheel::TimerId;
use crate::protocol::codec::{Properties, QoS};
use crate::protocol::topic::TopicName;

/// The topic levels above all names.
const ABOVE: &str = "$SYS/broker/";

/// The Message Expiry Interval of a line of the log.
const LINE_LIFETIME: Duration = Duration::from_seconds(20);

/// The periods over which rates are averaged: the last level of the topic, and the minutes.
const SPANS: [(&str, f64); 3] = [("1min", 1.0), ("5min", 5.0), ("15min", 15.0)];

/// The state from one publication of the figures to the next.
#[derive(Debug)]
pub(super) struct System {
    interval: Duration,
    /// The time since 1970 that a wall clock showed at the origin of [`Time`].
    origin: Duration,
    timer: Option<TimerId>,
    /// When the figures were last read.
    taken: Time,
    /// What was last published about bridges, by topic.
    about_bridges: Vec<(String, String)>,
    /// The values that were last published.
    published: [Option<u64>; figures::COUNT],
    rates: [Rate; figures::RATE_COUNT],
    pub(super) highest: Highest,
}

impl System {
    /// Makes all figures due for publication, whether they have changed or not.
    fn forget_published(&mut self) {
        self.published = [None; figures::COUNT];
        for rate in &mut self.rates {
            rate.published = Default::default();
        }
    }
}

/// The growth of one figure per minute.
#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    /// The value when it was last read.
    count: u64,
    /// Exponential moving averages over each of [`SPANS`].
    averages: [f64; SPANS.len()],
    /// The averages that were last published, in hundredths.
    published: [Option<u64>; SPANS.len()],
}

impl Rate {
    /// Updates the averages with the value that was read `minutes` after the last one.
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

/// The share of an average that is left after this many of its spans: e to the power of `-spans`. It is computed by the
/// limit that defines the exponential function, cut short, which is accurate to one part in a thousand where it
/// matters. The function of the standard library takes more memory than everything that the broker holds at its start.
fn decay(spans: f64) -> f64 {
    const SQUARINGS: u8 = 10;
    let steps = f64::from(1_u16 << SQUARINGS);
    (0..SQUARINGS).fold(steps / (steps + spans), |left, _| left * left)
}

/// Returns an average in hundredths, as it is published.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate is small and not negative"
)]
fn hundredths(average: f64) -> u64 {
    (average * 100.0).round() as u64
}

impl Broker {
    /// Publishes `$SYS` at once and then at every `interval`; with `None` or zero, no longer. `wall` is the time since
    /// 1970 that a clock shows at the moment `now`: `$SYS` is published at whole intervals of that time.
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
                about_bridges: Vec::new(),
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

    /// Publishes everything again, in new memory. After a peak, these messages may be all that still lies above the
    /// memory that has been freed since.
    pub(super) fn publish_all_again(&mut self) {
        let Some(system) = &mut self.system else { return };
        self.retention.retained.clear_own();
        system.forget_published();
        if let Some(timer) = system.timer.take() {
            self.clock.wheel.cancel(timer);
        }
        self.announce_version();
        self.announce_bridges();
        self.system_is_due();
    }

    /// Publishes the figures that have changed, and arms the timer for the next publication.
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

    /// Publishes the values that differ from the `published` ones.
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

    /// Sets the current figures of the store.
    pub fn set_storage_figures(&mut self, figures: StorageFigures) {
        let _entered = self.account.enter();
        self.persistence.figures = figures;
    }

    /// Updates the averages of all rates, and publishes those that have changed.
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

    /// Publishes a value about a bridge, if it differs from the last one, as `what` below its name. An empty value
    /// removes the message. Without `$SYS` it does nothing.
    pub fn publish_about_bridge(&mut self, name: &str, what: &str, value: &str, now: Time) {
        let _entered = self.account.enter();
        self.advance(now);
        self.publish_about(&format!("{ABOVE}bridge/{name}/{what}"), value);
    }

    /// Publishes a value about the cluster in the same way.
    pub fn publish_about_cluster(&mut self, what: &str, value: &str, now: Time) {
        let _entered = self.account.enter();
        self.advance(now);
        self.publish_about(&format!("{ABOVE}cluster/{what}"), value);
    }

    fn publish_about(&mut self, topic: &str, value: &str) {
        let Some(system) = &mut self.system else { return };
        let known = &mut system.about_bridges;
        match known.iter().position(|(other, _)| *other == topic) {
            Some(index) if known[index].1 == value => return,
            Some(index) if value.is_empty() => drop(known.swap_remove(index)),
            Some(index) => value.clone_into(&mut known[index].1),
            None if value.is_empty() => return,
            None => known.push((topic.to_owned(), value.to_owned())),
        }
        self.announce(topic, value, None);
    }

    /// Publishes on behalf of a bridge, which cannot do so any longer, that it has ended.
    pub fn publish_state_of_bridge(&mut self, topic: &str, state: &str, now: Time) {
        let _entered = self.account.enter();
        self.advance(now);
        self.announce(topic, state, None);
    }

    fn announce_bridges(&mut self) {
        let Some(system) = &self.system else { return };
        for (topic, value) in system.about_bridges.clone() {
            self.announce(&topic, &value, None);
        }
    }

    /// Publishes a line of the log, which expires soon.
    pub fn publish_line(&mut self, topic: &str, line: &str, now: Time) {
        let _entered = self.account.enter();
        self.advance(now);
        self.announce(topic, line, Some(LINE_LIFETIME));
    }

    /// Publishes a message of the broker itself, at QoS 2. It is retained unless it has a lifetime.
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
    fn averages_approach_the_current_rate_and_forget_earlier_ones() {
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
