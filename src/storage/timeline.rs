//! The age of stored data, on machines whose clocks may be wrong.
//!
//! A machine without a battery starts in 1970 and is set right later, and a clock may be set to any time at any
//! moment. So times are not stored as shown by the wall clock but as milliseconds on a timeline. While the broker
//! runs, the timeline follows the broker's own clock, whatever happens to the wall clock. An [`Anchor`] in the store
//! records what the other clocks showed at one moment of the timeline. From it the next run computes how long the
//! broker was down:
//!
//! | since the anchor | time that has passed |
//! |---|---|
//! | the machine was not restarted | by the clock that counts from its start, including sleep |
//! | it was restarted, and the wall clock may be right | by the wall clock |
//! | it was restarted, and the wall clock cannot be right | none |
//!
//! The wall clock cannot be right if it shows a time before this version was [`RELEASED`], a time before the anchor,
//! or one so far after the anchor that no broker would have been down for so long.
//!
//! No clock is read here: the readings are passed in as [`Clocks`].

use std::fmt;

use crate::base::time::{Duration, Time};

/// When this version was released, in milliseconds since 1970: 2026-11-01. It is set by hand for each version, so
/// that builds from the same sources are identical. A day too early does no harm. If it is a day too late, right
/// clocks count as wrong for that day.
pub const RELEASED: u64 = 20_758 * DAY;

/// Milliseconds of a day.
const DAY: u64 = 24 * 60 * 60 * 1000;

/// The longest plausible downtime of a broker, in milliseconds.
pub const DOWNTIME_MAXIMUM: u64 = 400 * DAY;

/// Maximum age of the stored anchor. After a crash, a wrong wall clock costs no more time than this.
pub const ANCHOR_AGE_MAXIMUM: Duration = Duration::from_seconds(60);

/// How far the wall clock may deviate from the broker's clock before a new anchor is due, in milliseconds.
const STEP: u64 = 1000;

/// Identifies a start of the machine, and how long ago it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boot {
    /// Different after each start.
    pub id: u128,
    /// Time since the start, including sleep.
    pub uptime: Time,
}

/// The readings of all clocks at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// The broker's own clock.
    pub now: Time,
    /// The machine's clock; `None` if the system does not provide it.
    pub boot: Option<Boot>,
    /// The wall clock, in milliseconds since 1970. It may be wrong.
    pub wall: u64,
}

/// A moment of the timeline, and the readings of the clocks at that moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// Milliseconds on the timeline.
    pub moment: u64,
    /// The machine's clock.
    pub boot: Option<Boot>,
    /// The wall clock, in milliseconds since 1970.
    pub wall: u64,
}

impl Anchor {
    /// Begins a timeline at the time of the wall clock, so that times keep their meaning that were stored by the wall
    /// clock before there were timelines. It does not begin before this version was [`RELEASED`], when the wall clock
    /// cannot be right.
    pub const fn first(clocks: Clocks) -> Self {
        let moment = if clocks.wall < RELEASED { RELEASED } else { clocks.wall };
        Self { moment, boot: clocks.boot, wall: clocks.wall }
    }

    /// Returns the milliseconds that have passed since the anchor.
    fn elapsed(self, clocks: Clocks) -> Result<u64, Doubt> {
        match (self.boot, clocks.boot) {
            (Some(then), Some(now)) if then.id == now.id && then.uptime <= now.uptime => {
                Ok(now.uptime.since(then.uptime).milliseconds())
            }
            _ => self.elapsed_on_the_wall(clocks.wall),
        }
    }

    fn elapsed_on_the_wall(self, wall: u64) -> Result<u64, Doubt> {
        if wall < RELEASED {
            return Err(Doubt::BeforeRelease);
        }
        match wall.checked_sub(self.wall) {
            None => Err(Doubt::Behind),
            Some(elapsed) if elapsed > DOWNTIME_MAXIMUM => Err(Doubt::FarAhead),
            Some(elapsed) => Ok(elapsed),
        }
    }
}

/// Why the wall clock is not trusted. The text continues `the clock`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// It shows a time before this version was released.
    BeforeRelease,
    /// It shows a time before that of the anchor.
    Behind,
    /// It shows a time far after that of the anchor.
    FarAhead,
}

impl fmt::Display for Doubt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::BeforeRelease => "shows a time before this version was released",
            Self::Behind => "shows an earlier time than when the broker ran last",
            Self::FarAhead => "shows a time more than 400 days after the broker ran last",
        })
    }
}

/// The timeline while the broker runs.
#[derive(Clone, Copy, Debug)]
pub struct Timeline {
    /// The readings when the timeline was resumed, and the moment of the timeline at that time.
    start: Clocks,
    moment: u64,
    doubt: Option<Doubt>,
    /// The stored anchor, and when this run stored it.
    anchor: Anchor,
    anchored: Option<Time>,
}

impl Timeline {
    /// Continues the timeline from a stored anchor.
    pub fn resume(anchor: Anchor, clocks: Clocks) -> Self {
        let elapsed = anchor.elapsed(clocks);
        let moment = anchor.moment.saturating_add(elapsed.unwrap_or(0));
        Self { start: clocks, moment, doubt: elapsed.err(), anchor, anchored: None }
    }

    /// Returns why the downtime of the broker is unknown and counts as zero, if it is.
    pub const fn doubt(&self) -> Option<Doubt> {
        self.doubt
    }

    /// Returns the readings when the timeline was resumed.
    pub const fn start(&self) -> Clocks {
        self.start
    }

    /// Returns the stored anchor.
    pub const fn anchor(&self) -> Anchor {
        self.anchor
    }

    /// Returns the moment of the timeline at a time of the broker's clock.
    pub fn at(&self, now: Time) -> u64 {
        let since = now.since(self.start.now).milliseconds();
        let before = self.start.now.since(now).milliseconds();
        self.moment.saturating_add(since).saturating_sub(before)
    }

    /// Returns an anchor if one has to be stored now: if this run has stored none, if the stored one is too old, or
    /// if the wall clock has jumped since. The caller stores it and then calls [`Timeline::anchored`].
    pub fn due(&self, clocks: Clocks) -> Option<Anchor> {
        let is_good = self.anchored.is_some_and(|anchored| {
            let elapsed = clocks.now.since(anchored);
            let expected = self.anchor.wall.saturating_add(elapsed.milliseconds());
            elapsed < ANCHOR_AGE_MAXIMUM && clocks.wall.abs_diff(expected) <= STEP
        });
        (!is_good).then(|| self.anchor_by(clocks))
    }

    /// Whether this run has stored an anchor.
    pub const fn is_anchored(&self) -> bool {
        self.anchored.is_some()
    }

    /// Returns the anchor for these readings.
    pub fn anchor_by(&self, clocks: Clocks) -> Anchor {
        Anchor { moment: self.at(clocks.now), boot: clocks.boot, wall: clocks.wall }
    }

    /// Records that an anchor has been stored.
    pub const fn anchored(&mut self, anchor: Anchor, now: Time) {
        (self.anchor, self.anchored) = (anchor, Some(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A wall clock that may be right.
    const WALL: u64 = RELEASED + 100 * DAY;

    fn clocks(now: u64, boot: Option<(u128, u64)>, wall: u64) -> Clocks {
        let boot = boot.map(|(id, uptime)| Boot { id, uptime: Time::from_milliseconds(uptime) });
        Clocks { now: Time::from_milliseconds(now), boot, wall }
    }

    /// An anchor at a million on a timeline that began in 1970.
    fn anchor(boot: Option<(u128, u64)>, wall: u64) -> Anchor {
        Anchor { moment: 1_000_000, ..Anchor::first(clocks(7, boot, wall)) }
    }

    #[test]
    fn the_release_date_is_set_with_the_version_and_is_not_in_the_future() {
        assert_eq!(env!("CARGO_PKG_VERSION"), "0.1.0", "RELEASED is to be set, and then this");
        let since = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("it is later");
        assert!(u128::from(RELEASED) <= since.as_millis());
    }

    #[test]
    fn the_downtime_is_known_or_counts_as_zero() {
        const DAYS_400: u64 = DOWNTIME_MAXIMUM;
        let boot = Some((1, 50_000));
        let other = Some((2, 90_000));
        for (then, now, expected) in [
            // Within one boot the wall clock does not matter.
            ((boot, WALL), (Some((1, 50_000)), WALL), Ok(0)),
            ((boot, WALL), (Some((1, 80_000)), WALL), Ok(30_000)),
            ((boot, 5), (Some((1, 80_000)), WALL), Ok(30_000)),
            ((boot, WALL), (Some((1, 80_000)), 5), Ok(30_000)),
            ((boot, WALL), (Some((1, 80_000)), WALL + DAYS_400 + 1), Ok(30_000)),
            ((boot, WALL), (Some((1, 50_000 + 2 * DAYS_400)), WALL), Ok(2 * DAYS_400)),
            // A clock that has gone back belongs to another machine.
            ((boot, WALL), (Some((1, 49_999)), WALL + 9), Ok(9)),
            ((boot, WALL), (Some((1, 49_999)), WALL - 9), Err(Doubt::Behind)),
            // After a restart of the machine the wall clock counts, if it can be right.
            ((boot, WALL), (other, WALL), Ok(0)),
            ((boot, WALL), (other, WALL + 3), Ok(3)),
            ((boot, WALL), (other, WALL + DAYS_400), Ok(DAYS_400)),
            ((boot, WALL), (other, WALL + DAYS_400 + 1), Err(Doubt::FarAhead)),
            ((boot, WALL), (other, u64::MAX), Err(Doubt::FarAhead)),
            ((boot, WALL), (other, WALL - 1), Err(Doubt::Behind)),
            ((boot, WALL), (other, 5), Err(Doubt::BeforeRelease)),
            // It was wrong before, and either still is or has been set right.
            ((boot, 5), (other, 3), Err(Doubt::BeforeRelease)),
            ((boot, 5), (other, 90), Err(Doubt::BeforeRelease)),
            ((boot, 5), (other, WALL), Err(Doubt::FarAhead)),
            ((boot, RELEASED - 9), (other, RELEASED - 1), Err(Doubt::BeforeRelease)),
            ((boot, RELEASED - 9), (other, RELEASED), Ok(9)),
            // An anchor without a boot may be of any boot.
            ((None, WALL), (None, WALL + 3), Ok(3)),
            ((None, WALL), (Some((1, 80_000)), WALL + 3), Ok(3)),
            ((boot, WALL), (None, WALL + 3), Ok(3)),
            ((None, WALL), (None, 5), Err(Doubt::BeforeRelease)),
        ] {
            let (anchor, clocks) = (anchor(then.0, then.1), clocks(70, now.0, now.1));
            let timeline = Timeline::resume(anchor, clocks);
            let moment = 1_000_000 + expected.unwrap_or(0);
            assert_eq!(
                (timeline.at(clocks.now), timeline.doubt()),
                (moment, expected.err()),
                "{anchor:?} {clocks:?}"
            );
        }
    }

    #[test]
    fn while_the_broker_runs_only_its_own_clock_counts() {
        let timeline = Timeline::resume(anchor(None, WALL), clocks(500, None, WALL + 3));
        for (now, moment) in [(500, 1_000_003), (501, 1_000_004), (499, 1_000_002), (9_500, 1_009_003)] {
            for wall in [0, WALL, u64::MAX] {
                let clocks = clocks(now, Some((9, 1)), wall);
                assert_eq!(timeline.at(clocks.now), moment);
                assert_eq!(timeline.anchor_by(clocks), Anchor { moment, boot: clocks.boot, wall });
            }
        }
    }

    #[test]
    fn an_anchor_is_due_at_the_start_at_a_step_and_once_a_minute() {
        let start = clocks(500, None, WALL);
        let mut timeline = Timeline::resume(anchor(None, WALL), start);
        let due = timeline.due(start).expect("there is none of this run");
        assert_eq!(timeline.due(start), Some(due), "until it is stored");
        timeline.anchored(due, start.now);
        for (passed, shown, is_due) in [
            (0, 0, false),
            (59_999, 59_999, false),
            (60_000, 60_000, true),
            (10_000, 11_000, false),
            (10_000, 11_001, true),
            (10_000, 9_000, false),
            (10_000, 8_999, true),
        ] {
            let found = timeline.due(clocks(500 + passed, None, WALL + shown));
            assert_eq!(found.is_some(), is_due, "{passed} {shown}");
        }
        assert!(timeline.due(clocks(501, None, 0)).is_some());
        // From then on the clock continues from where it was set.
        let stepped = clocks(700, None, 40);
        timeline.anchored(timeline.anchor_by(stepped), stepped.now);
        assert!(timeline.due(clocks(900, None, 240)).is_none());
    }

    #[test]
    fn a_new_timeline_begins_at_the_time_of_the_wall_clock() {
        let clocks = clocks(500, Some((1, 2)), WALL);
        let timeline = Timeline::resume(Anchor::first(clocks), clocks);
        assert_eq!((timeline.at(clocks.now), timeline.doubt()), (WALL, None));
        let timeline = Timeline::resume(Anchor { moment: u64::MAX, ..Anchor::first(clocks) }, clocks);
        assert_eq!(timeline.at(Time::NEVER), u64::MAX, "it does not wrap");
    }
}
