//! New subscriptions whose retained messages have not all been sent.

use crate::base::memory::{self, Counted};
use crate::base::ordered_map::OrderedMap;
use crate::core::retained::{Position, Stamp};
use crate::core::subscription::Terms;
use crate::core::trie::FilterId;
use crate::protocol::codec::QoS;

/// The memory of one waiting subscription in both maps. Turns rise, and so do most filters, which leaves blocks full.
const WAITING_BYTES: usize = size_of::<(u64, Waiting)>() + size_of::<(FilterId, u64)>();
/// The position of a SUBACK that is not known yet.
const UNANSWERED: u64 = u64::MAX;
/// The turn of a bridge that is being told which retained messages have changed: after all subscriptions. What stands
/// there has no filter.
const CATCHING_UP: u64 = u64::MAX;
/// The most former subscriptions of a session whose retained messages wait for their turn, and the most bytes of their
/// filters. A subscription that ends beyond these limits gets no more retained messages.
const FORMER_MAXIMUM: usize = 64;
const FORMER_BYTES_MAXIMUM: usize = 16 * 1024;

/// Whose retained messages are sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Source {
    /// Those of a subscription, by its filter.
    Subscription(FilterId),
    /// Those of a subscription that has ended or was made again before its turn came.
    Former(Box<str>),
}

impl Source {
    fn is(&self, filter: FilterId) -> bool {
        *self == Self::Subscription(filter)
    }

    const fn is_former(&self) -> bool {
        matches!(self, Self::Former(_))
    }

    fn memory(&self) -> usize {
        match self {
            Self::Subscription(_) => 0,
            Self::Former(pattern) => memory::allocation(pattern.len()),
        }
    }
}

/// A subscription whose retained messages are being sent.
#[derive(Debug)]
pub struct RetainedSend {
    /// Whose messages they are.
    pub source: Source,
    /// The subscription's terms.
    pub terms: Terms,
    /// The latest retained message when the subscription began.
    pub began: Stamp,
    /// The latest retained message when the client last connected, which may be earlier.
    pub connected: Stamp,
    /// How far the walk has come.
    pub position: Position,
}

/// The subscriptions of one session that still get retained messages: one in progress, the others waiting in the order
/// in which they were made. There may be as many as filters fit into packets, so each is found without a search among
/// the others.
#[derive(Debug, Default)]
pub struct RetainedSends {
    current: Option<RetainedSend>,
    waiting: OrderedMap<u64, Waiting>,
    /// The turn of each filter, its key in `waiting`.
    turns: OrderedMap<FilterId, u64>,
    next_turn: u64,
    /// The bytes of the filters of former subscriptions in `waiting`.
    former_bytes: usize,
    /// The latest retained message when the client last connected.
    connected: Stamp,
    counted: Counted,
}

/// A subscription whose retained messages have not begun.
#[derive(Debug)]
struct Waiting {
    source: Source,
    terms: Terms,
    began: Stamp,
    /// The position of its SUBACK among the answers of the connection. No retained message leaves before it.
    answer: u64,
}

impl RetainedSends {
    /// Begins a new connection, while `latest` is the latest retained message. Subscriptions of an earlier connection
    /// wait for no SUBACK, and those that have ended on it get nothing more.
    pub fn resume(&mut self, latest: Stamp) {
        self.connected = latest;
        self.current.take_if(|current| current.source.is_former());
        self.current.iter_mut().for_each(|current| current.connected = latest);
        self.waiting.retain(|_, waiting| !waiting.source.is_former());
        self.waiting.values_mut().for_each(|waiting| waiting.answer = 0);
        self.former_bytes = 0;
        self.count();
    }

    /// Sets the position, among the answers of the connection, of the SUBACK for the latest ones; zero if it has left.
    pub fn are_answered(&mut self, position: u64) {
        let catching_up = usize::from(self.catches_up());
        let subscriptions = self.waiting.values_mut().rev().skip(catching_up);
        let latest = subscriptions.take_while(|waiting| waiting.answer == UNANSWERED);
        latest.for_each(|waiting| waiting.answer = position);
    }

    /// Whether all retained messages have been sent.
    pub fn is_empty(&self) -> bool {
        self.current.is_none() && self.waiting.is_empty()
    }

    /// Whether some subscription has not got all its retained messages.
    pub fn has_subscriptions(&self) -> bool {
        self.current.is_some() || self.first_turn().is_some()
    }

    /// The first subscription that waits.
    fn first_turn(&self) -> Option<&Waiting> {
        let (turn, waiting) = self.waiting.iter().next()?;
        (*turn != CATCHING_UP).then_some(waiting)
    }

    /// Whether the client is a bridge that is being told which retained messages have changed.
    pub fn catches_up(&self) -> bool {
        self.waiting.contains_key(&CATCHING_UP)
    }

    /// Sets whether it is. This ends with the connection.
    pub fn catch_up(&mut self, catches_up: bool) {
        if catches_up {
            let (source, terms) =
                (Source::Former(Box::default()), Terms::new(QoS::AtMostOnce, false, false, 0));
            let changes = Waiting { source, terms, began: Stamp::default(), answer: 0 };
            self.waiting.insert(CATCHING_UP, changes);
        } else {
            self.waiting.remove(&CATCHING_UP);
        }
        self.count();
    }

    /// Begins a subscription that was made while `latest` was the latest retained message. An earlier subscription with
    /// this filter gets no more retained messages, unless [`RetainedSends::detach`] was called for it.
    pub fn begin(&mut self, filter: FilterId, terms: Terms, latest: Stamp) {
        self.forget(filter);
        let source = Source::Subscription(filter);
        self.turns.insert(filter, self.next_turn);
        self.waiting.insert(self.next_turn, Waiting { source, terms, began: latest, answer: UNANSWERED });
        self.next_turn += 1;
        self.count();
    }

    /// The QoS of the messages that the client has to take before a subscription can get the rest of its retained
    /// messages; `None` if there is no rest.
    pub fn owed(&self, filter: FilterId) -> Option<QoS> {
        let current = self.current.as_ref().map(|current| current.terms.qos());
        match self.turns.find(&filter).and_then(|turn| self.waiting.find(turn)) {
            Some(waiting) => Some(waiting.terms.qos().max(current.unwrap_or(QoS::AtMostOnce))),
            None => {
                current.filter(|_| self.current.as_ref().is_some_and(|current| current.source.is(filter)))
            }
        }
    }

    /// Keeps a subscription that ends or is renewed. It still gets its retained messages when its turn comes, as many
    /// as the client takes then; `pattern` is what it has subscribed to.
    pub fn detach(&mut self, filter: FilterId, pattern: &str) {
        let former = self.waiting.len() - self.turns.len();
        let bytes = memory::allocation(pattern.len());
        if former >= FORMER_MAXIMUM || self.former_bytes + bytes > FORMER_BYTES_MAXIMUM {
            self.forget(filter);
            return;
        }
        if let Some(current) = self.current.as_mut().filter(|current| current.source.is(filter)) {
            current.source = Source::Former(pattern.into());
        }
        if let Some(turn) = self.turns.remove(&filter)
            && let Some(waiting) = self.waiting.find_mut(&turn)
        {
            waiting.source = Source::Former(pattern.into());
            self.former_bytes += bytes;
        }
        self.count();
    }

    /// Drops a subscription that gets nothing more.
    pub fn forget(&mut self, filter: FilterId) {
        self.current.take_if(|current| current.source.is(filter));
        if let Some(turn) = self.turns.remove(&filter) {
            self.waiting.remove(&turn);
        }
        self.count();
    }

    /// Takes the next one, if its SUBACK has left: `has_left` reports this for a position among the answers.
    pub fn take_next(&mut self, has_left: impl FnOnce(u64) -> bool) -> Option<RetainedSend> {
        if self.current.is_none() {
            let Waiting { answer, .. } = self.first_turn()?;
            let answer = *answer;
            if answer == UNANSWERED || answer > 0 && !has_left(answer) {
                return None;
            }
            self.current = self.take_waiting();
        }
        let next = self.current.take();
        self.count();
        next
    }

    /// Takes the first one whose retained messages have not begun.
    fn take_waiting(&mut self) -> Option<RetainedSend> {
        let (_, Waiting { source, terms, began, .. }) = self.waiting.pop_first()?;
        match &source {
            Source::Subscription(filter) => {
                self.turns.remove(filter);
            }
            former @ Source::Former(_) => self.former_bytes -= former.memory(),
        }
        Some(RetainedSend { source, terms, began, connected: self.connected, position: Position::default() })
    }

    /// Takes any one, of a session that is over or gets all of them anew.
    pub fn take_any(&mut self) -> Option<RetainedSend> {
        let taken = self.current.take().or_else(|| self.take_waiting());
        self.count();
        taken
    }

    /// Puts back what [`RetainedSends::take_next`] returned and is not finished.
    pub fn put_back(&mut self, retained_send: RetainedSend) {
        self.current = Some(retained_send);
        self.count();
    }

    /// The bytes that they take.
    pub const fn memory(&self) -> usize {
        self.counted.bytes()
    }

    fn count(&mut self) {
        let current =
            self.current.as_ref().map_or(0, |current| current.position.memory() + current.source.memory());
        self.counted.set(self.waiting.len() * WAITING_BYTES + self.former_bytes + current);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::trie::Trie;

    fn terms(identifier: u32) -> Terms {
        Terms::new(QoS::AtMostOnce, false, false, identifier)
    }

    fn next(retained_sends: &mut RetainedSends) -> Option<(Source, Terms)> {
        retained_sends.take_next(|_| true).map(|retained_send| (retained_send.source, retained_send.terms))
    }

    #[test]
    fn a_renewed_subscription_begins_again_and_an_ended_one_is_gone() {
        let mut trie = Trie::new();
        let [first, second] = ["a", "b"].map(|pattern| trie.insert(pattern, ()));
        let [old, new] = [0, 1].map(terms);
        let mut retained_sends = RetainedSends::default();
        for filter in [second, first, second] {
            retained_sends.begin(filter, old, Stamp::default());
        }
        assert!(retained_sends.take_next(|_| true).is_none(), "there is no SUBACK yet");
        retained_sends.are_answered(7);
        assert!(retained_sends.take_next(|position| position < 7).is_none(), "the SUBACK has not left");
        let retained_send = retained_sends.take_next(|position| position == 7).unwrap();
        assert_eq!((&retained_send.source, retained_send.terms), (&Source::Subscription(first), old));
        retained_sends.put_back(retained_send);
        retained_sends.begin(first, new, Stamp::default());
        retained_sends.are_answered(0);
        let retained_send = retained_sends.take_next(|_| true).unwrap();
        let is_second = retained_send.source == Source::Subscription(second);
        assert!(is_second && retained_send.terms == old, "a renewed subscription goes to the end");
        retained_sends.put_back(retained_send);
        retained_sends.forget(second);
        assert_eq!(next(&mut retained_sends), Some((Source::Subscription(first), new)));
        assert!(retained_sends.is_empty() && retained_sends.memory() == 0);
    }

    #[test]
    fn a_subscription_that_ended_before_its_turn_has_its_turn() {
        let mut trie = Trie::new();
        let filter = trie.insert("a", ());
        let mut retained_sends = RetainedSends::default();
        retained_sends.begin(filter, terms(1), Stamp::default());
        retained_sends.detach(filter, "a");
        assert_eq!(retained_sends.owed(filter), None);
        retained_sends.begin(filter, terms(2), Stamp::default());
        assert_eq!(retained_sends.owed(filter), Some(QoS::AtMostOnce));
        retained_sends.are_answered(0);
        assert_eq!(next(&mut retained_sends), Some((Source::Former("a".into()), terms(1))));
        assert_eq!(next(&mut retained_sends), Some((Source::Subscription(filter), terms(2))));
        assert!(retained_sends.is_empty() && retained_sends.memory() == 0);
    }

    #[test]
    fn a_bridge_catches_up_after_all_subscriptions_and_on_its_connection_only() {
        let mut trie = Trie::new();
        let filter = trie.insert("a", ());
        let mut retained_sends = RetainedSends::default();
        retained_sends.catch_up(true);
        assert!(retained_sends.catches_up() && !retained_sends.is_empty());
        assert!(!retained_sends.has_subscriptions() && next(&mut retained_sends).is_none());
        retained_sends.begin(filter, terms(1), Stamp::default());
        assert!(retained_sends.has_subscriptions() && next(&mut retained_sends).is_none());
        retained_sends.are_answered(0);
        assert_eq!(next(&mut retained_sends), Some((Source::Subscription(filter), terms(1))));
        assert!(retained_sends.catches_up() && next(&mut retained_sends).is_none());
        retained_sends.resume(Stamp::default());
        assert!(retained_sends.is_empty() && retained_sends.memory() == 0);
    }

    #[test]
    fn former_subscriptions_are_bounded_and_end_with_their_connection() {
        let mut trie = Trie::new();
        let filter = trie.insert("a", ());
        let mut retained_sends = RetainedSends::default();
        for _ in 0..=FORMER_MAXIMUM {
            retained_sends.begin(filter, terms(0), Stamp::default());
            retained_sends.detach(filter, "a");
        }
        retained_sends.begin(filter, terms(1), Stamp::default());
        assert_eq!(retained_sends.waiting.len(), FORMER_MAXIMUM + 1);
        retained_sends.resume(Stamp::default());
        assert_eq!(next(&mut retained_sends), Some((Source::Subscription(filter), terms(1))));
        let long = "x".repeat(FORMER_BYTES_MAXIMUM / 2 + 1);
        for _ in 0..2 {
            retained_sends.begin(filter, terms(0), Stamp::default());
            retained_sends.detach(filter, &long);
        }
        assert_eq!(retained_sends.waiting.len(), 1);
        assert!(
            retained_sends.take_any().is_some() && retained_sends.is_empty() && retained_sends.memory() == 0
        );
    }
}
