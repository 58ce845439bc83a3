//! The body of the fuzz target for the wheel, in the library so that ordinary tests run it, too: a list of operations
//! on a wheel and on a sorted map with the same contract. It panics if they differ.

use std::collections::BTreeMap;

use super::{TimerId, Wheel};
use crate::base::fuzzing::Input;
use crate::base::time::Time;

/// One step of a history. Indices choose among the armed timers; spans are milliseconds from the present.
#[derive(Clone, Debug)]
pub enum Step {
    /// Arms a timer that is due after this time.
    Arm(u64),
    /// Arms a timer that was due this long ago.
    ArmLate(u64),
    /// Cancels a timer.
    Cancel(usize),
    /// Moves a timer, so that it is due after this time.
    Move(usize, u64),
    /// Advances time by the first number, and takes at most the second number of timers.
    Advance(u64, usize),
    /// The clock seems to go back to this moment.
    GoBack(u64),
}

/// Runs the steps in `data`; the first bytes tell when the wheel begins.
pub fn operate(data: &[u8]) {
    let mut input = Input::new(data);
    let begin = input.number();
    follow(begin, std::iter::from_fn(|| (!input.is_empty()).then(|| step(&mut input))));
}

fn step(input: &mut Input<'_>) -> Step {
    match input.below(16) {
        0..=5 => Step::Arm(input.number()),
        6 => Step::ArmLate(input.number()),
        7 | 8 => Step::Cancel(input.below(256)),
        9..=11 => Step::Move(input.below(256), input.number()),
        // Time itself rarely jumps to the far end, or nothing would be left to happen.
        12..=14 => Step::Advance(input.number() >> 24, input.below(5) + 1),
        _ if input.once_in(8) => Step::Advance(input.number(), 1),
        _ => Step::GoBack(input.number()),
    }
}

/// Applies all steps to a wheel that begins at this moment and to the map, and compares them after each.
pub fn follow(begin: u64, steps: impl IntoIterator<Item = Step>) {
    let mut wheel = Wheel::new(at(begin));
    let mut model = Model { waiting: BTreeMap::new(), armed: 0, cursor: begin, now: begin };
    for step in steps {
        compare(&step, &mut wheel, &mut model);
        wheel.check_invariants();
        assert_eq!(wheel.len(), model.waiting.len());
        let earliest = model.waiting.first_key_value().map(|(key, _)| at(key.0));
        let next = wheel.next_deadline();
        assert_eq!(next.is_some(), earliest.is_some());
        assert!(next <= earliest, "waking at the next deadline is never too late");
    }
}

const fn at(milliseconds: u64) -> Time {
    Time::from_milliseconds(milliseconds)
}

/// The contract of the wheel, implemented with a sorted map.
struct Model {
    /// By the moment that counts and the order of arming: the deadline as given, the key, the name.
    waiting: BTreeMap<(u64, u64), (u64, u64, TimerId)>,
    armed: u64,
    cursor: u64,
    now: u64,
}

impl Model {
    fn file(&mut self, deadline: u64, key: u64, timer: TimerId) {
        self.armed += 1;
        self.waiting.insert((deadline.max(self.cursor), self.armed), (deadline, key, timer));
    }

    fn take(&mut self, which: usize) -> Option<(u64, u64, TimerId)> {
        let position = which % self.waiting.len().max(1);
        let entry = *self.waiting.keys().nth(position)?;
        self.waiting.remove(&entry)
    }

    fn expire(&mut self) -> Option<u64> {
        match self.waiting.first_entry() {
            Some(entry) if entry.key().0 <= self.now => {
                self.cursor = entry.key().0;
                Some(entry.remove().1)
            }
            _ => {
                self.cursor = self.now;
                None
            }
        }
    }
}

fn arm(wheel: &mut Wheel<u64>, model: &mut Model, deadline: u64) {
    let key = model.armed;
    let timer = wheel.arm(at(deadline), key);
    model.file(deadline, key, timer);
}

/// Applies one step to both and compares the results.
fn compare(step: &Step, wheel: &mut Wheel<u64>, model: &mut Model) {
    match *step {
        Step::Arm(span) => arm(wheel, model, model.now.saturating_add(span)),
        Step::ArmLate(span) => arm(wheel, model, model.now.saturating_sub(span)),
        Step::Cancel(which) => {
            if let Some((deadline, key, timer)) = model.take(which) {
                assert_eq!(wheel.deadline(timer), at(deadline));
                assert_eq!(wheel.cancel(timer), key);
            }
        }
        Step::Move(which, span) => {
            if let Some((_, key, timer)) = model.take(which) {
                let deadline = model.now.saturating_add(span);
                wheel.move_to(timer, at(deadline));
                model.file(deadline, key, timer);
            }
        }
        Step::Advance(span, count) => {
            model.now = model.now.saturating_add(span);
            for _ in 0..count {
                assert_eq!(wheel.expire(at(model.now)), model.expire());
            }
        }
        Step::GoBack(earlier) => {
            assert_eq!(wheel.expire(at(earlier.min(model.now))), model.expire());
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn any_operations_leave_the_wheel_a_sorted_map() {
        crate::base::fuzzing::try_out("wheel", 400, super::operate);
    }
}
