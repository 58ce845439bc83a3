//! What a bridge requests from the other broker before it forwards anything: it reports its state, subscribes and
//! unsubscribes.

use std::rc::Rc;

use super::connect::remote_state_topic;
use super::limits::Limits;
use crate::bridge::topics::Topics;
use crate::protocol::codec::PacketIdentifier;
use crate::settings::Bridge;

/// How many requests wait for their answers, each with a Packet Identifier of its own, unless fewer identifiers are free.
pub const WINDOW: usize = 64;

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// The state.
    State,
    /// The filter with this index of [`Topics::wanted_there`].
    Subscribe(usize),
    /// The filter with this index of [`Topics::unwanted_there`].
    Unsubscribe(usize),
}

/// All requests, in their order, and which of them were answered.
#[derive(Debug)]
pub struct Setup {
    requests: Vec<(Request, Progress)>,
    /// The Packet Identifiers of the requests, which take turns.
    identifiers: Rc<[PacketIdentifier]>,
    /// The index of the first one that was not answered.
    first: usize,
    /// The index of the first one that was not sent.
    next: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Open,
    Answered,
}

impl Setup {
    /// The requests of a bridge to a broker with these limits. Filters that the broker would refuse are left out.
    /// At most as many wait for their answers as there are identifiers, at least one.
    pub fn new(
        settings: &Bridge,
        topics: &Topics,
        limits: &Limits,
        identifiers: Rc<[PacketIdentifier]>,
    ) -> Self {
        let state = remote_state_topic(settings).map(|_| Request::State);
        let is_accepted =
            |index: &usize| limits.refusal(topics.wanted_there()[*index].topic_filter()).is_none();
        let wanted = (0..topics.wanted_there().len()).filter(is_accepted).map(Request::Subscribe);
        let unwanted = if settings.remote.unsubscribes { topics.unwanted_there().len() } else { 0 };
        let all = state.into_iter().chain(wanted).chain((0..unwanted).map(Request::Unsubscribe));
        let requests = all.map(|request| (request, Progress::Open)).collect();
        Self { requests, identifiers, first: 0, next: 0 }
    }

    /// The next request to send; `None` if all were sent, or too many wait for their answers.
    pub fn next(&mut self) -> Option<(PacketIdentifier, Request)> {
        let index = self.next;
        if index - self.first >= self.identifiers.len() {
            return None;
        }
        let &(request, _) = self.requests.get(index)?;
        self.next += 1;
        Some((self.identifier(index), request))
    }

    /// An answer has come. Returns the request that it belongs to; `None` if there is none that waits.
    pub fn answer(&mut self, of: PacketIdentifier) -> Option<Request> {
        let is_it =
            |index: &usize| self.identifier(*index) == of && self.requests[*index].1 == Progress::Open;
        let index = (self.first..self.next).find(is_it)?;
        let (request, progress) = &mut self.requests[index];
        *progress = Progress::Answered;
        let request = *request;
        let is_answered = |index: &usize| self.requests[*index].1 == Progress::Answered;
        self.first = (self.first..self.next).find(|index| !is_answered(index)).unwrap_or(self.next);
        Some(request)
    }

    /// Whether this is the Packet Identifier of the state, and its answer has not come.
    pub fn is_state(&self, of: PacketIdentifier) -> bool {
        let awaited = self.requests.first().filter(|_| self.next > 0 && of == self.identifier(0));
        awaited == Some(&(Request::State, Progress::Open))
    }

    /// Whether all requests were answered.
    pub const fn is_done(&self) -> bool {
        self.first == self.requests.len()
    }

    /// The Packet Identifier of a request. Those that wait at the same time have different ones.
    fn identifier(&self, index: usize) -> PacketIdentifier {
        self.identifiers[index % self.identifiers.len()]
    }
}

/// The identifiers of the requests of a bridge that has no deliveries in flight.
pub fn highest_identifiers() -> Rc<[PacketIdentifier]> {
    (1..=u16::MAX).rev().filter_map(PacketIdentifier::new).take(WINDOW).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_may_come_in_any_order() {
        let requests = (0..200).map(|index| (Request::Subscribe(index), Progress::Open)).collect();
        let mut setup = Setup { requests, identifiers: highest_identifiers(), first: 0, next: 0 };
        let sent: Vec<_> = std::iter::from_fn(|| setup.next()).collect();
        assert_eq!((sent.len(), sent[0].0.value(), sent[63].0.value()), (WINDOW, 65_535, 65_472));
        for &(identifier, request) in sent.iter().skip(1).rev() {
            assert_eq!(setup.answer(identifier), Some(request));
            assert_eq!(setup.answer(identifier), None, "it was answered");
            assert_eq!(setup.next(), None, "the first was not answered");
        }
        assert_eq!(setup.answer(sent[0].0), Some(Request::Subscribe(0)));
        let mut count = WINDOW;
        while let Some((identifier, request)) = setup.next() {
            assert_eq!(request, Request::Subscribe(count));
            assert_eq!(setup.answer(identifier), Some(request));
            count += 1;
        }
        assert!(count == 200 && setup.is_done());
    }
}
