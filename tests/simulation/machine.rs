//! The machine below the broker: it may be restarted, and its wall clock may show anything. The real timeline
//! determines how time continues for the core after a crash, and is compared with a simple model.

use brooklet::base::time::{Duration, Time};
use brooklet::storage::timeline::{Anchor, Boot, Clocks, DOWNTIME_MAXIMUM, RELEASED, Timeline};

use crate::chance::Chance;

/// The initial value of the wall clock, which may be right.
const WALL: u64 = RELEASED + 100_000_000;

/// Milliseconds of a day.
const DAY: u64 = 24 * 60 * 60 * 1000;

/// The clocks of a machine, as far as they differ from the world's.
pub struct Machine {
    boot: u128,
    /// When the machine was started.
    started: Time,
    /// A value of the wall clock, and when it was shown.
    wall: (u64, Time),
    /// The timeline of the running broker.
    timeline: Timeline,
    /// The anchor in the store, and when it was stored.
    anchor: Anchor,
    anchored: Time,
    /// The moment of the timeline at the start of the world.
    origin: u64,
}

impl Machine {
    /// The machine at the start of the world.
    pub fn new() -> Self {
        let clocks = Clocks { now: Time::ZERO, boot: None, wall: WALL };
        let anchor = Anchor::first(clocks);
        Self {
            boot: 1,
            started: Time::ZERO,
            wall: (WALL, Time::ZERO),
            timeline: Timeline::resume(anchor, clocks),
            anchor,
            anchored: Time::ZERO,
            origin: WALL,
        }
    }

    fn wall(&self, now: Time) -> u64 {
        let (wall, since) = self.wall;
        wall.saturating_add(now.since(since).milliseconds())
    }

    /// The values of the clocks, with that of the broker's clock.
    fn clocks(&self, clock: Time, now: Time) -> Clocks {
        let uptime = Time::ZERO + now.since(self.started);
        Clocks { now: clock, boot: Some(Boot { id: self.boot, uptime }), wall: self.wall(now) }
    }

    /// The time of the store at a time of the broker.
    pub fn line(&self, clock: Time) -> Time {
        Time::from_milliseconds(self.timeline.at(clock) - self.origin)
    }

    /// Stores the values of the clocks, if that is due, after something has become durable.
    pub fn committed(&mut self, clock: Time, now: Time) {
        let clocks = self.clocks(clock, now);
        if let Some(anchor) = self.timeline.due(clocks) {
            self.anchor(anchor, clock, now);
        }
    }

    fn anchor(&mut self, anchor: Anchor, clock: Time, now: Time) {
        self.timeline.anchored(anchor, clock);
        (self.anchor, self.anchored) = (anchor, now);
    }

    /// Sets the wall clock to any value.
    pub fn set_clock(&mut self, now: Time, chance: &mut Chance) {
        let shown = self.wall(now);
        let wall = match chance.below(5) {
            0 => chance.between(0, DAY),
            1 => shown.saturating_sub(chance.between(1, DAY)),
            2 => shown.saturating_add(chance.between(1, 20_000)),
            3 => shown.saturating_add(chance.between(DAY, 1_000 * DAY)),
            _ => WALL + now.milliseconds(),
        };
        self.wall = (wall, now);
    }

    /// Starts another broker after a downtime, on a machine that may have been restarted and whose clock may have been
    /// set in the meantime. Returns the time for stored data.
    pub fn restart(&mut self, clock: Time, now: Time, down: Duration, chance: &mut Chance) -> Time {
        let is_started_again = chance.percent(50);
        if !is_started_again {
            if chance.percent(50) {
                self.set_clock(now, chance);
            }
            return now + down;
        }
        // Going back in time is left to the tests of the store: nothing is undone here.
        let clocks = self.clocks(clock, now);
        self.anchor(self.timeline.anchor_by(clocks), clock, now);
        if chance.percent(60) {
            self.set_clock(now, chance);
        }
        let wall = self.wall(now + down);
        let is_credible =
            wall >= RELEASED && wall >= self.anchor.wall && wall - self.anchor.wall <= DOWNTIME_MAXIMUM;
        let passed = if is_credible { wall - self.anchor.wall } else { 0 };
        let then = now + Duration::from_milliseconds(passed);
        (self.boot, self.started, self.wall) = (self.boot + 1, then, (wall, then));
        then
    }

    /// Continues with the stored state in another broker, whose own clock shows `clock`.
    pub fn resume(&mut self, clock: Time, now: Time) {
        let clocks = self.clocks(clock, now);
        self.timeline = Timeline::resume(self.anchor, clocks);
        assert_eq!(self.line(clock), now, "{:?} {clocks:?}", self.anchor);
        self.committed(clock, now);
    }
}
