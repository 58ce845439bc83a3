//! New subscriptions whose retained messages have not all been handed over.

use std::collections::BTreeMap;

use crate::memory::Counted;
use crate::retained::Position;
use crate::subscription::Terms;
use crate::trie::FilterId;

/// What one that waits takes in the nodes of both maps, two thirds full.
const WAITING_BYTES: usize = 60;
/// The position of a SUBACK that is not known yet.
const UNANSWERED: u64 = u64::MAX;

/// A subscription whose retained messages are being handed over.
#[derive(Debug)]
pub struct Replay {
    /// The Topic Filter.
    pub filter: FilterId,
    /// The subscription's terms.
    pub terms: Terms,
    /// How far it is.
    pub position: Position,
}

/// The subscriptions of one session that still get retained messages: one in progress, the others waiting in the
/// order in which they were made. There may be as many as filters fit into packets, so each is found without looking
/// at the others.
#[derive(Debug, Default)]
pub struct Replays {
    current: Option<Replay>,
    waiting: BTreeMap<u64, Waiting>,
    /// Where in `waiting` a filter stands.
    turns: BTreeMap<FilterId, u64>,
    next_turn: u64,
    counted: Counted,
}

/// One whose retained messages have not begun.
#[derive(Debug)]
struct Waiting {
    filter: FilterId,
    terms: Terms,
    /// The position of its SUBACK among the answers of the connection, before which no retained message leaves.
    answer: u64,
}

impl Replays {
    /// A new connection: those of an earlier one wait for no answer.
    pub fn resume(&mut self) {
        self.waiting.values_mut().for_each(|waiting| waiting.answer = 0);
    }

    /// The SUBACK for the latest ones has this position among the answers of the connection; zero if it has left.
    pub fn are_answered(&mut self, position: u64) {
        let latest = self.waiting.values_mut().rev().take_while(|waiting| waiting.answer == UNANSWERED);
        latest.for_each(|waiting| waiting.answer = position);
    }

    /// Whether nothing is left to be handed over.
    pub fn is_empty(&self) -> bool {
        self.current.is_none() && self.waiting.is_empty()
    }

    /// A subscription was made, or made anew, which begins its retained messages anew.
    pub fn begin(&mut self, filter: FilterId, terms: Terms) {
        self.forget(filter);
        self.turns.insert(filter, self.next_turn);
        self.waiting.insert(self.next_turn, Waiting { filter, terms, answer: UNANSWERED });
        self.next_turn += 1;
        self.count();
    }

    /// Whether retained messages are still to be handed over for a subscription.
    pub fn are_owed(&self, filter: FilterId) -> bool {
        self.turns.contains_key(&filter)
            || self.current.as_ref().is_some_and(|current| current.filter == filter)
    }

    /// A subscription has ended.
    pub fn forget(&mut self, filter: FilterId) {
        self.current.take_if(|current| current.filter == filter);
        if let Some(turn) = self.turns.remove(&filter) {
            self.waiting.remove(&turn);
        }
        self.count();
    }

    /// Takes the one to go on with, if its SUBACK has left: `has_left` tells so of a position among the answers.
    pub fn take_next(&mut self, has_left: impl FnOnce(u64) -> bool) -> Option<Replay> {
        let next = self.current.take().or_else(|| {
            let first = self.waiting.first_entry()?;
            let answer = first.get().answer;
            if answer == UNANSWERED || answer > 0 && !has_left(answer) {
                return None;
            }
            let Waiting { filter, terms, .. } = first.remove();
            self.turns.remove(&filter);
            Some(Replay { filter, terms, position: Position::default() })
        });
        self.count();
        next
    }

    /// Takes one of a session that is over.
    pub fn take_any(&mut self) -> Option<FilterId> {
        let taken = match self.current.take() {
            Some(current) => Some(current.filter),
            None => self.waiting.pop_first().map(|(_, waiting)| waiting.filter),
        };
        if let Some(filter) = taken {
            self.turns.remove(&filter);
        }
        self.count();
        taken
    }

    /// Puts back what [`Replays::take_next`] gave and is not over.
    pub fn put_back(&mut self, replay: Replay) {
        self.current = Some(replay);
        self.count();
    }

    /// Bytes that they take.
    pub const fn memory(&self) -> usize {
        self.counted.bytes()
    }

    fn count(&mut self) {
        let position = self.current.as_ref().map_or(0, |current| current.position.memory());
        self.counted.set(self.waiting.len() * WAITING_BYTES + position);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::QoS;
    use crate::trie::Trie;

    #[test]
    fn one_made_anew_begins_anew_and_one_that_ended_is_gone() {
        let mut trie = Trie::new();
        let [first, second] = ["a", "b"].map(|pattern| trie.insert(pattern, ()));
        let [old, new] = [0, 1].map(|identifier| Terms::new(QoS::AtMostOnce, false, false, identifier));
        let mut replays = Replays::default();
        replays.begin(second, old);
        replays.begin(first, old);
        replays.begin(second, old);
        assert!(replays.take_next(|_| true).is_none(), "there is no SUBACK yet");
        replays.are_answered(7);
        assert!(replays.take_next(|position| position < 7).is_none(), "the SUBACK has not left");
        let replay = replays.take_next(|position| position == 7).unwrap();
        assert_eq!((replay.filter, replay.terms), (first, old));
        replays.put_back(replay);
        replays.begin(first, new);
        replays.are_answered(0);
        let replay = replays.take_next(|_| true).unwrap();
        assert_eq!((replay.filter, replay.terms), (second, old), "what is made anew goes to the end");
        replays.put_back(replay);
        replays.forget(second);
        assert_eq!(
            replays.take_next(|_| true).map(|replay| (replay.filter, replay.terms)),
            Some((first, new))
        );
        assert!(replays.is_empty() && replays.memory() == 0);
    }
}
