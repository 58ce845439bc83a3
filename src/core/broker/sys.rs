//! `$SYS`: what the broker tells of itself, by the names that mosquitto gave. All of it is retained and published
//! only when it has changed, at moments that a wall clock shows as whole intervals; nothing is put into words for
//! what has not. Who may read it is asked about like any other topic, and no client may publish there, but for bridges
//! of mosquitto, which say there whether they are connected.
//!
//! What it takes in memory is bounded by the number of names, so limits of retained messages do not count it.

use super::Broker;
use super::clock::Timer;
use super::persistence::StorageFigures;
use crate::base::memory;
use crate::base::time::{Duration, Time};
use crate::core::message::{Outbound, Publication};
use crate::core::outbox::Left;
use crate::core::wheel::TimerId;
use crate::protocol::codec::{Properties, QoS};
use crate::protocol::topic::TopicName;

use std::fmt::Write as _;

/// How many numbers are told as they are, and of how many a rate.
const FIGURES: usize = 29;
/// Those that are told where there is a store.
const STORAGE_FIGURES: usize = 9;
const RATES: usize = 9;

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
    told: [Option<u64>; FIGURES + STORAGE_FIGURES],
    uptime: Option<u64>,
    rates: [Rate; RATES],
    most_clients: u64,
    most_memory: u64,
}

impl System {
    /// Has everything published again, whether it has changed or not.
    fn forget_told(&mut self) {
        self.told = [None; FIGURES + STORAGE_FIGURES];
        self.uptime = None;
        for rate in &mut self.rates {
            rate.told = Default::default();
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
    told: [Option<u64>; SPANS.len()],
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
    /// 1970 that a clock shows at the moment `now`: whole intervals of it are when it is told.
    pub fn tell_of_itself(&mut self, interval: Option<Duration>, wall: Duration, now: Time) {
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
                told: [None; FIGURES + STORAGE_FIGURES],
                uptime: None,
                rates: [Rate::default(); RATES],
                most_clients: 0,
                most_memory: 0,
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

    /// Tells everything once more, in new memory. What was told in the midst of a peak may be all that is left above
    /// what has been freed since.
    pub(super) fn tell_all_anew(&mut self) {
        let Some(system) = &mut self.system else { return };
        self.retention.retained.clear_own();
        system.forget_told();
        if let Some(timer) = system.timer.take() {
            self.clock.wheel.cancel(timer);
        }
        self.announce_version();
        self.system_is_due();
    }

    /// Publishes what has changed, and waits for the next moment.
    pub(super) fn system_is_due(&mut self) {
        let Some(mut system) = self.system.take() else { return };
        let mut text = String::new();
        self.tell_figures(&mut system, &mut text);
        self.tell_rates(&mut system, &mut text);
        system.taken = self.clock.now;
        let shown = system.origin.milliseconds().saturating_add(self.clock.now.milliseconds());
        let interval = system.interval.milliseconds();
        let left = Duration::from_milliseconds(interval - shown % interval);
        system.timer = Some(self.clock.arm(left, Timer::System));
        self.system = Some(system);
    }

    fn tell_figures(&mut self, system: &mut System, text: &mut String) {
        system.most_clients = system.most_clients.max(self.clients.directory.len() as u64);
        system.most_memory = system.most_memory.max(self.in_use() as u64);
        let figures = self.figures(system);
        let uptime = self.clock.now.since(self.clock.began).seconds();
        if system.uptime.replace(uptime) != Some(uptime) {
            text.clear();
            let _ = write!(text, "{uptime} seconds");
            self.announce("$SYS/broker/uptime", text, None);
        }
        let figures: Vec<(&str, u64)> =
            figures.into_iter().chain(self.storage_figures().into_iter().flatten()).collect();
        for ((topic, figure), told) in figures.into_iter().zip(&mut system.told) {
            if told.replace(figure) != Some(figure) {
                text.clear();
                let _ = write!(text, "{figure}");
                self.announce(topic, text, None);
            }
        }
    }

    /// The numbers that are told as they are.
    fn figures(&self, system: &System) -> [(&'static str, u64); FIGURES] {
        let statistics = &self.output.statistics;
        let clients = self.clients.directory.len() as u64;
        let connected = self.clients.connected as u64;
        let stored = memory::stored();
        let shared = self.routing.members as u64;
        let left = self.left();
        [
            ("$SYS/broker/clients/total", clients),
            ("$SYS/broker/clients/connected", connected),
            ("$SYS/broker/clients/active", connected),
            ("$SYS/broker/clients/disconnected", clients - connected),
            ("$SYS/broker/clients/inactive", clients - connected),
            ("$SYS/broker/clients/maximum", system.most_clients),
            ("$SYS/broker/clients/expired", statistics.sessions_expired),
            ("$SYS/broker/messages/received", statistics.packets_received),
            ("$SYS/broker/messages/sent", self.packets_sent()),
            ("$SYS/broker/messages/stored", stored.count),
            ("$SYS/broker/store/messages/count", stored.count),
            ("$SYS/broker/store/messages/bytes", stored.bytes),
            ("$SYS/broker/publish/messages/received", statistics.received.publishes),
            ("$SYS/broker/publish/messages/sent", statistics.sent.publishes),
            ("$SYS/broker/publish/messages/dropped", statistics.dropped),
            ("$SYS/broker/publish/bytes/received", statistics.received.publish_bytes),
            ("$SYS/broker/publish/bytes/sent", statistics.sent.publish_bytes),
            ("$SYS/broker/bytes/received", statistics.received.bytes),
            ("$SYS/broker/bytes/sent", statistics.sent.bytes),
            ("$SYS/broker/packet/out/count", left.packets),
            ("$SYS/broker/packet/out/bytes", left.bytes),
            ("$SYS/broker/subscriptions/count", (self.routing.trie.len() - self.routing.groups.len()) as u64),
            ("$SYS/broker/shared_subscriptions/count", shared),
            ("$SYS/broker/retained messages/count", self.retention.retained.len() as u64),
            ("$SYS/broker/connections/socket/count", self.connections.len() as u64),
            ("$SYS/broker/limits/refused", statistics.refused),
            ("$SYS/broker/limits/surplus", statistics.surplus_matches),
            ("$SYS/broker/heap/current", self.in_use() as u64),
            ("$SYS/broker/heap/maximum", system.most_memory),
        ]
    }

    /// The numbers that are told where there is a store.
    fn storage_figures(&self) -> Option<[(&'static str, u64); STORAGE_FIGURES]> {
        let (journal, figures) = (self.persistence.journal.as_ref()?, &self.persistence.figures);
        Some([
            ("$SYS/broker/storage/bytes/written", figures.bytes),
            ("$SYS/broker/storage/commits/count", figures.commits),
            ("$SYS/broker/storage/commits/microseconds/p50", figures.median),
            ("$SYS/broker/storage/commits/microseconds/p99", figures.percentile_99),
            ("$SYS/broker/storage/commits/microseconds/maximum", figures.longest),
            ("$SYS/broker/storage/queue/count", journal.depth() as u64),
            ("$SYS/broker/storage/damaged/count", figures.damaged),
            ("$SYS/broker/storage/severed/count", figures.severed),
            ("$SYS/broker/storage/missing/count", self.output.statistics.missing),
        ])
    }

    /// What the store has written meanwhile.
    pub fn set_storage_figures(&mut self, figures: StorageFigures) {
        let _entered = self.account.enter();
        self.persistence.figures = figures;
    }

    /// What the sockets of all clients have not taken. A look at each connection now and then is less than a sum that
    /// every packet would have to keep.
    fn left(&self) -> Left {
        let all = self.connections.iter().map(|(_, connection)| connection.outbox.left());
        all.fold(Left::default(), |sum, left| Left {
            packets: sum.packets + left.packets,
            bytes: sum.bytes + left.bytes,
        })
    }

    /// All packets that were queued for clients.
    fn packets_sent(&self) -> u64 {
        self.output.sender.packets + self.output.statistics.sent.publishes
    }

    fn tell_rates(&mut self, system: &mut System, text: &mut String) {
        #[expect(clippy::cast_precision_loss, reason = "a broker does not wait for 2^52 milliseconds")]
        let minutes = self.clock.now.since(system.taken).milliseconds() as f64 / 60_000.0;
        let statistics = &self.output.statistics;
        let counts = [
            ("messages/received", statistics.packets_received),
            ("messages/sent", self.packets_sent()),
            ("publish/dropped", statistics.dropped),
            ("publish/received", statistics.received.publishes),
            ("publish/sent", statistics.sent.publishes),
            ("bytes/received", statistics.received.bytes),
            ("bytes/sent", statistics.sent.bytes),
            ("sockets", statistics.accepted),
            ("connections", statistics.connects),
        ];
        for ((name, count), rate) in counts.into_iter().zip(&mut system.rates) {
            rate.take(count, minutes);
            for ((span, _), (average, told)) in SPANS.iter().zip(rate.averages.iter().zip(&mut rate.told)) {
                let shown = hundredths(*average);
                if told.replace(shown) != Some(shown) {
                    text.clear();
                    let _ = write!(text, "$SYS/broker/load/{name}/{span}");
                    self.announce(text, &format!("{}.{:02}", shown / 100, shown % 100), None);
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
