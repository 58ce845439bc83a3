//! The timer wheel, which holds all timers. Arming, moving and cancelling take the same few steps however many timers
//! there are, because most timers are moved or cancelled and never fire.
//!
//! It owns the timers and their order. It knows [`Time`], but not what a timer is for; that is the caller's key.
//!
//! # The arithmetic
//!
//! Write a moment in base 64, so that each digit is six bits. A `u64` of milliseconds has eleven digits, and the
//! wheel has one level for each: level 0 for the last digit, level 10 for the first. A level has 64 slots, one
//! for each value of its digit, and one 64-bit word that says which of them hold timers.
//!
//! The wheel stands at a moment of its own, the cursor. A timer belongs to the level of the highest digit in
//! which its deadline differs from the cursor, and there to the slot that the deadline's digit names. So a slot
//! of level 0 holds timers of one millisecond, one of level 1 of 64 ms, of level 2 of about 4 s, of level 3 of
//! four and a half minutes, and so on up: the further away a deadline is, the coarser it is filed.
//!
//! Three things follow:
//!
//! - All digits above its level are the cursor's own, and the digit of its level is greater than the cursor's
//!   (or equal, on level 0). Therefore the first occupied slot of the lowest occupied level holds the earliest
//!   timers. Finding it is counting the zeros of one word. Nothing wraps around.
//! - While the cursor stays before a slot, its timers stay in the right place. Once the cursor arrives at the
//!   slot's first moment, their digit equals the cursor's and they belong further down: the slot cascades. A
//!   timer cascades at most once a level, ten times between two moves. A slot cascades whole, in one call: the
//!   longer a wait, the more timers share a slot, but a wait of a minute is one of fifteen slots of 4 s.
//! - The cursor moves from one occupied slot to the next and never through the empty time between them, so a jump
//!   of an hour or of a million years costs no more than a jump of a millisecond.
//!
//! Since the levels cover every deadline that can be written, none is ever too far for the wheel.
//!
//! # Order
//!
//! Timers fire in the order of their deadlines, and timers with the same deadline in the order in which they were armed
//! or moved: slots are queues, and a slot has cascaded before anything can be filed below it. A deadline that the
//! cursor has passed counts as the cursor itself: it fires next, after those that were there before it.

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;

use std::num::NonZeroU32;

use slab::Slab;

use crate::base::memory::{self, Shrinking};
use crate::base::time::Time;

/// Bits of one digit.
const DIGIT_BITS: u32 = 6;
/// Slots of a level: the values of one digit.
const SLOTS: usize = 1 << DIGIT_BITS;
/// Cuts the last digit out of a moment.
const DIGIT_MASK: u64 = SLOTS as u64 - 1;
/// Levels of the wheel: digits of a moment.
const LEVELS: usize = u64::BITS.div_ceil(DIGIT_BITS) as usize;

/// Places that are added at least when all are taken.
const TIMERS_STEP: usize = 16;

/// The name of an armed timer: four bytes, also inside an `Option`. It is valid until the timer fires or is cancelled.
/// A later timer may then have the same name, so its owner must drop it at that moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerId(NonZeroU32);

impl TimerId {
    /// Names the timer at `index` of the slab. Zero is reserved for `None`.
    fn from_index(index: usize) -> Self {
        let number = u32::try_from(index + 1).ok().and_then(NonZeroU32::new);
        Self(number.expect("fewer than 2^32 timers"))
    }

    /// The index in the slab.
    fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// One timer, a member of its slot's ring.
#[derive(Debug)]
struct Timer<K> {
    deadline: u64,
    key: K,
    previous: TimerId,
    next: TimerId,
}

// There may be several timers for each of a hundred thousand connections: two words and the ring's links each. The
// links are never zero, so the slab can store its own mark there and needs no extra space.
const _: () = assert!(size_of::<Timer<u64>>() <= 24);
const _: () = assert!(size_of::<Option<TimerId>>() == 4);

/// The place where a timer is filed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    level: usize,
    slot: usize,
}

impl Place {
    /// Returns where `deadline` belongs while the wheel stands at `cursor`.
    fn of(deadline: u64, cursor: u64) -> Self {
        let deadline = deadline.max(cursor);
        let differing = deadline ^ cursor;
        let level = (differing | 1).ilog2() / DIGIT_BITS;
        let digit = (deadline >> (level * DIGIT_BITS)) & DIGIT_MASK;
        Self { level: level as usize, slot: digit as usize }
    }

    /// The first moment of this slot: the cursor's digits above its level, its own digit, then zeros.
    fn start(self, cursor: u64) -> u64 {
        #[expect(clippy::cast_possible_truncation, reason = "there are eleven levels")]
        let shift = self.level as u32 * DIGIT_BITS;
        let above = (cursor >> shift) & !DIGIT_MASK;
        (above | self.slot as u64) << shift
    }
}

/// One level: which slots hold timers, and the first timer of each.
#[derive(Debug)]
struct Level {
    /// Bit n is set while slot n holds a timer.
    occupied: u64,
    /// The first timer of each slot's ring; the one before it is the last.
    first: [Option<TimerId>; SLOTS],
}

/// The wheel. `K` tells what a timer is for; it is copied out when the timer fires.
#[derive(Debug)]
pub struct Wheel<K> {
    timers: Slab<Timer<K>>,
    shrinking: Shrinking,
    /// In an allocation of its own: the levels are most of a broker's size, and the broker is moved until it has its
    /// place.
    levels: Box<[Level; LEVELS]>,
    /// The moment at which the wheel stands. No armed timer belongs before it.
    cursor: u64,
    /// The latest moment that was handed in, at or after the cursor.
    latest: u64,
}

impl<K: Copy> Wheel<K> {
    /// Makes an empty wheel that begins at `now`.
    pub fn new(now: Time) -> Self {
        Self {
            timers: Slab::new(),
            shrinking: Shrinking::default(),
            levels: Box::new(std::array::from_fn(|_| Level { occupied: 0, first: [None; SLOTS] })),
            cursor: now.milliseconds(),
            latest: now.milliseconds(),
        }
    }

    /// Arms a timer for `deadline`. One in the past fires at one of the next calls of [`expire`](Self::expire).
    ///
    /// # Panics
    ///
    /// When 2³² - 1 timers are armed; the limit of connections and sessions is far below.
    pub fn arm(&mut self, deadline: Time, key: K) -> TimerId {
        if self.timers.len() == self.timers.capacity() {
            // Doubling would take a large part of a small memory budget in one step.
            self.timers.reserve_exact((self.timers.len() / 8).max(TIMERS_STEP));
        }
        let vacant = self.timers.vacant_entry();
        let timer = TimerId::from_index(vacant.key());
        vacant.insert(Timer { deadline: deadline.milliseconds(), key, previous: timer, next: timer });
        self.link(timer);
        timer
    }

    /// Cancels an armed timer and returns its key.
    ///
    /// # Panics
    ///
    /// When the timer is not armed.
    pub fn cancel(&mut self, timer: TimerId) -> K {
        self.unlink(timer);
        let key = self.timers.remove(timer.index()).key;
        if self.shrinking.is_due(self.timers.len(), self.timers.capacity()) {
            self.timers.shrink_to_fit();
        }
        key
    }

    /// Gives an armed timer another deadline, earlier or later; it keeps its name.
    ///
    /// # Panics
    ///
    /// When the timer is not armed.
    pub fn move_to(&mut self, timer: TimerId, deadline: Time) {
        self.unlink(timer);
        self.timer_mut(timer).deadline = deadline.milliseconds();
        self.link(timer);
    }

    /// The deadline of an armed timer, as it was given.
    ///
    /// # Panics
    ///
    /// When the timer is not armed.
    pub fn deadline(&self, timer: TimerId) -> Time {
        Time::from_milliseconds(self.timer(timer).deadline)
    }

    /// When [`expire`](Self::expire) is to be called next; `None` if no timer is armed. Never later than the earliest
    /// deadline, but it may be earlier: then that call only files timers more finely, and the next result is closer. A
    /// deadline is reached after at most ten such calls.
    pub fn next_deadline(&self) -> Option<Time> {
        self.first_place().map(|place| Time::from_milliseconds(place.start(self.cursor)))
    }

    /// Removes the earliest timer whose deadline is `now` or earlier, and returns its key; `None` if there is none. A
    /// `now` before the latest one counts as the latest.
    ///
    /// One timer per call: the caller limits how many it takes in a turn, and must, since a timer that is armed for
    /// `now` while others are handled is due in the same turn.
    pub fn expire(&mut self, now: Time) -> Option<K> {
        self.latest = self.latest.max(now.milliseconds());
        while let Some(place) = self.first_place() {
            let start = place.start(self.cursor);
            if start > self.latest {
                break;
            }
            self.cursor = start;
            let first =
                self.levels[place.level].first[place.slot].expect("an occupied slot has a first timer");
            if place.level == 0 {
                return Some(self.cancel(first));
            }
            self.cascade(place);
        }
        // Nothing begins before `latest`, so every timer keeps its place when the cursor moves there.
        self.cursor = self.latest;
        None
    }

    /// The bytes that the timers take, armed or not.
    pub fn memory(&self) -> usize {
        memory::allocation(size_of::<[Level; LEVELS]>())
            + memory::allocation(self.timers.capacity() * size_of::<Timer<K>>())
    }

    /// The number of armed timers.
    pub fn len(&self) -> usize {
        self.timers.len()
    }

    /// Whether no timer is armed.
    pub fn is_empty(&self) -> bool {
        self.timers.is_empty()
    }

    /// Asserts that every timer is in the one slot where it belongs and that the rings and words agree. Visits the
    /// whole wheel: for tests and simulation.
    pub fn check_invariants(&self) {
        assert!(self.cursor <= self.latest, "the cursor is ahead of time");
        let mut found = 0;
        for (level, row) in self.levels.iter().enumerate() {
            for (slot, first) in row.first.iter().enumerate() {
                let occupied = row.occupied >> slot & 1 == 1;
                assert_eq!(occupied, first.is_some(), "the word of level {level} is wrong at slot {slot}");
                found += first.map_or(0, |first| self.check_ring(Place { level, slot }, first));
            }
        }
        assert_eq!(found, self.timers.len(), "a timer is in no slot");
    }

    /// Asserts that a slot's ring is closed and holds only what belongs there. Returns its length.
    fn check_ring(&self, place: Place, first: TimerId) -> usize {
        let mut length = 0;
        let mut at = first;
        loop {
            let timer = self.timer(at);
            assert_eq!(Place::of(timer.deadline, self.cursor), place, "{at:?} is in a wrong slot");
            assert_eq!(self.timer(timer.next).previous, at, "the links after {at:?} disagree");
            length += 1;
            assert!(length <= self.timers.len(), "the ring of {place:?} does not close");
            at = timer.next;
            if at == first {
                return length;
            }
        }
    }

    /// Returns the slot of the earliest timers.
    fn first_place(&self) -> Option<Place> {
        let level = self.levels.iter().position(|level| level.occupied != 0)?;
        let slot = self.levels[level].occupied.trailing_zeros() as usize;
        Some(Place { level, slot })
    }

    /// Files the timers of a slot again, because the cursor has arrived there. They are filed in order, so timers with
    /// the same deadline keep theirs.
    fn cascade(&mut self, place: Place) {
        let level = &mut self.levels[place.level];
        level.occupied &= !(1 << place.slot);
        let Some(first) = level.first[place.slot].take() else {
            return;
        };
        let mut at = first;
        loop {
            let next = self.timer(at).next;
            self.link(at);
            if next == first {
                return;
            }
            at = next;
        }
    }

    /// Puts a timer that is in no ring, or in one that is being dissolved, at the end of the slot where it belongs.
    fn link(&mut self, timer: TimerId) {
        let place = Place::of(self.timer(timer).deadline, self.cursor);
        let level = &mut self.levels[place.level];
        level.occupied |= 1 << place.slot;
        let first = *level.first[place.slot].get_or_insert(timer);
        if first == timer {
            self.join(timer, timer);
            return;
        }
        let last = self.timer(first).previous;
        self.join(last, timer);
        self.join(timer, first);
    }

    /// Removes a timer from its slot's ring; its own links are stale after that.
    fn unlink(&mut self, timer: TimerId) {
        let Timer { deadline, previous, next, .. } = *self.timer(timer);
        let place = Place::of(deadline, self.cursor);
        let level = &mut self.levels[place.level];
        if next == timer {
            level.first[place.slot] = None;
            level.occupied &= !(1 << place.slot);
            return;
        }
        if level.first[place.slot] == Some(timer) {
            level.first[place.slot] = Some(next);
        }
        self.join(previous, next);
    }

    /// Makes two timers neighbours.
    fn join(&mut self, previous: TimerId, next: TimerId) {
        self.timer_mut(previous).next = next;
        self.timer_mut(next).previous = previous;
    }

    fn timer(&self, timer: TimerId) -> &Timer<K> {
        self.timers.get(timer.index()).expect("the timer is armed")
    }

    fn timer_mut(&mut self, timer: TimerId) -> &mut Timer<K> {
        self.timers.get_mut(timer.index()).expect("the timer is armed")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::fuzzing::{Step, follow};
    use super::*;

    fn at(milliseconds: u64) -> Time {
        Time::from_milliseconds(milliseconds)
    }

    /// The moments just before, at and after every power of 64, and the ends of the range.
    fn boundaries() -> Vec<u64> {
        let around = |power: u64| [power - 1, power, power + 1, power + power / 2];
        let mut moments: Vec<u64> = (0..11).map(|digits| 1 << (6 * digits)).flat_map(around).collect();
        moments.extend([15 << 60, u64::MAX - 64, u64::MAX - 63, u64::MAX - 1, u64::MAX]);
        moments.sort_unstable();
        moments.dedup();
        moments
    }

    #[test]
    fn the_highest_differing_digit_names_the_place() {
        for (cursor, deadline, level, slot) in [
            (0, 0, 0, 0),
            (0, 1, 0, 1),
            (0, 63, 0, 63),
            (0, 64, 1, 1),
            (63, 64, 1, 1),
            (64, 65, 0, 1),
            (0, 4095, 1, 63),
            (0, 4096, 2, 1),
            (4095, 4096, 2, 1),
            (4096, 4096 + 64, 1, 1),
            (4096 + 65, 4096 + 127, 0, 63),
            (0, 1 << 60, 10, 1),
            (0, u64::MAX, 10, 15),
            ((1 << 60) - 1, 1 << 60, 10, 1),
            (15 << 60, u64::MAX, 9, 63),
            (u64::MAX - 1, u64::MAX, 0, 63),
            (100, 5, 0, 36),
        ] {
            assert_eq!(Place::of(deadline, cursor), Place { level, slot }, "{deadline} from {cursor}");
        }
    }

    #[test]
    fn a_slot_begins_after_the_cursor_and_not_after_its_timers() {
        for cursor in boundaries() {
            for deadline in boundaries().into_iter().filter(|deadline| *deadline >= cursor) {
                let place = Place::of(deadline, cursor);
                let start = place.start(cursor);
                assert!(cursor <= start && start <= deadline, "{deadline} from {cursor}");
                assert!(place.level == 0 || cursor < start, "{deadline} from {cursor}");
                assert!(deadline - start < 1 << (6 * place.level), "{deadline} from {cursor}");
            }
        }
    }

    #[test]
    fn no_timer_fires_before_its_deadline_or_later() {
        for begin in boundaries() {
            for deadline in boundaries() {
                let mut wheel = Wheel::new(at(begin));
                wheel.arm(at(deadline), 7);
                wheel.check_invariants();
                if deadline > begin {
                    assert_eq!(wheel.expire(at(deadline - 1)), None, "{deadline} from {begin}");
                    wheel.check_invariants();
                }
                assert_eq!(wheel.expire(at(deadline)), Some(7), "{deadline} from {begin}");
                assert_eq!((wheel.expire(Time::NEVER), wheel.len()), (None, 0));
            }
        }
    }

    #[test]
    fn waking_only_at_the_next_deadline_reaches_every_timer_in_few_steps() {
        for deadline in boundaries() {
            let mut wheel = Wheel::new(Time::ZERO);
            wheel.arm(at(deadline), ());
            let mut wakes = 0;
            let fired_at = loop {
                let wake = wheel.next_deadline().expect("a timer waits");
                assert!(wake <= at(deadline));
                wakes += 1;
                assert!(wakes <= LEVELS, "{deadline} takes more than {LEVELS}");
                if wheel.expire(wake).is_some() {
                    break wake;
                }
            };
            assert_eq!(fired_at, at(deadline));
        }
    }

    #[test]
    fn a_timer_armed_for_now_while_expiring_is_due_after_the_others() {
        let mut wheel = Wheel::new(Time::ZERO);
        for key in 0..3 {
            wheel.arm(at(100 + key), key);
        }
        let now = at(102);
        let mut fired = Vec::new();
        for _ in 0..8 {
            let key = wheel.expire(now).expect("each one is armed again");
            fired.push(key);
            wheel.arm(now, key);
            wheel.check_invariants();
        }
        assert_eq!(fired, [0, 1, 2, 0, 1, 2, 0, 1]);
        assert_eq!(wheel.len(), 3);
    }

    #[test]
    fn a_deadline_in_the_past_fires_next_and_keeps_its_value() {
        let mut wheel = Wheel::new(at(1_000));
        let timer = wheel.arm(at(3), 'a');
        assert_eq!(wheel.deadline(timer), at(3));
        assert_eq!(wheel.next_deadline(), Some(at(1_000)));
        assert_eq!(wheel.expire(at(0)), Some('a'));
        assert_eq!(wheel.next_deadline(), None);
    }

    #[test]
    #[should_panic(expected = "the timer is armed")]
    fn cancelling_twice_panics() {
        let mut wheel = Wheel::new(Time::ZERO);
        let timer = wheel.arm(at(5), ());
        wheel.cancel(timer);
        wheel.cancel(timer);
    }

    #[test]
    fn names_and_memory_are_used_again() {
        let mut wheel = Wheel::new(Time::ZERO);
        let names: Vec<TimerId> = (0..100).map(|key| wheel.arm(at(key * 1_000), key)).collect();
        let warm = wheel.timers.capacity();
        for round in 1..50 {
            for name in &names {
                wheel.cancel(*name);
            }
            for key in 0..100 {
                wheel.arm(at(round * key), key);
            }
        }
        assert_eq!(wheel.timers.capacity(), warm);
    }

    fn span() -> impl Strategy<Value = u64> {
        prop_oneof![
            4 => 0..3u64,
            8 => 0..200u64,
            6 => 0..100_000u64,
            3 => 0..100_000_000u64,
            2 => proptest::sample::select(boundaries()),
            1 => any::<u64>(),
        ]
    }

    /// Time itself rarely jumps to the far end, or nothing would be left to happen.
    fn advance() -> impl Strategy<Value = u64> {
        prop_oneof![
            10 => 0..200u64,
            10 => 0..100_000u64,
            4 => 0..100_000_000u64,
            1 => 0..1u64 << 59,
        ]
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => span().prop_map(Step::Arm),
        1 => span().prop_map(Step::ArmLate),
            2 => any::<usize>().prop_map(Step::Cancel),
            3 => (any::<usize>(), span()).prop_map(|(which, span)| Step::Move(which, span)),
            5 => (advance(), 1..6usize).prop_map(|(span, count)| Step::Advance(span, count)),
            1 => any::<u64>().prop_map(Step::GoBack),
        ]
    }

    proptest! {
        #[test]
        fn the_wheel_is_a_sorted_map(
            begin in prop_oneof![Just(0), Just(u64::MAX - 5_000), any::<u64>()],
            steps in proptest::collection::vec(step(), 1..120),
        ) {
            follow(begin, steps);
        }
    }
}
