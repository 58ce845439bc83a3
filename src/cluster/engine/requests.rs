//! Requests that wait for answers. Each has a number, which is the last token of the subject for its answers.

use crate::base::ordered_map::OrderedMap;
use crate::base::time::Time;

/// The number of a request. It is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(u64);

/// How many answers a request has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// One, with which it ends.
    One,
    /// Any number, until it is ended.
    Many,
}

/// Why a request has ended without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// Nothing receives such requests at the moment.
    NoResponders,
    /// No answer has come in time. The request may have been carried out.
    TimedOut,
    /// The connection was lost. The request may have been carried out.
    Lost,
}

/// The requests of one client.
#[derive(Debug, Default)]
pub struct Requests {
    waiting: OrderedMap<RequestId, (Time, Answers)>,
    deadlines: OrderedMap<(Time, RequestId), ()>,
    last: u64,
}

impl Requests {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Adds a request that waits until the deadline.
    pub fn add(&mut self, answers: Answers, deadline: Time) -> RequestId {
        self.last += 1;
        let request = RequestId(self.last);
        self.waiting.insert(request, (deadline, answers));
        self.deadlines.insert((deadline, request), ());
        request
    }

    /// The request whose answers have this token, if it still waits. It ends if this is its only answer.
    pub fn answered(&mut self, token: &[u8]) -> Option<RequestId> {
        let number = std::str::from_utf8(token).ok()?.parse().ok()?;
        let request = RequestId(number);
        let (_, answers) = *self.waiting.find(&request)?;
        if answers == Answers::One {
            self.end(request);
        }
        Some(request)
    }

    /// Ends a request. Further answers are ignored.
    pub fn end(&mut self, request: RequestId) {
        if let Some((deadline, _)) = self.waiting.remove(&request) {
            self.deadlines.remove(&(deadline, request));
        }
    }

    /// Ends and returns a request whose deadline has passed.
    pub fn expired(&mut self, now: Time) -> Option<RequestId> {
        let ((_, request), ()) = self.deadlines.first().filter(|((deadline, _), ())| *deadline <= now)?;
        let request = *request;
        self.end(request);
        Some(request)
    }

    /// Ends all, and returns them in the order in which they were made.
    pub fn take_all(&mut self) -> impl Iterator<Item = RequestId> + use<> {
        self.deadlines = OrderedMap::default();
        let mut waiting = std::mem::take(&mut self.waiting);
        std::iter::from_fn(move || waiting.pop_first().map(|(request, _)| request))
    }

    /// When the next one expires.
    pub fn deadline(&self) -> Time {
        self.deadlines.first().map_or(Time::NEVER, |((deadline, _), ())| *deadline)
    }
}

impl RequestId {
    /// The token of its answers.
    pub const fn token(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_end_with_an_answer_or_their_deadline() {
        let mut requests = Requests::default();
        let at = Time::from_milliseconds;
        let (one, many, late) = (
            requests.add(Answers::One, at(20)),
            requests.add(Answers::Many, at(10)),
            requests.add(Answers::One, at(30)),
        );
        assert_eq!((requests.len(), requests.deadline()), (3, at(10)));
        assert_eq!((requests.answered(b"1"), requests.answered(b"1")), (Some(one), None));
        assert_eq!((requests.answered(b"2"), requests.answered(b"2")), (Some(many), Some(many)));
        assert_eq!([&b"4"[..], b"", b"x", b"\xff", b"-1"].map(|token| requests.answered(token)), [None; 5]);
        assert_eq!(
            (requests.expired(at(9)), requests.expired(at(10)), requests.expired(at(10))),
            (None, Some(many), None)
        );
        assert_eq!(requests.take_all().collect::<Vec<_>>(), [late]);
        assert_eq!((requests.len(), requests.deadline(), requests.expired(at(99))), (0, Time::NEVER, None));
    }
}
