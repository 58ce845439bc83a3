//! The order in which messages are imported. In the store a message has one number for all sessions that wait for it,
//! and all of them receive their messages in the order of the numbers. In a database of mosquitto each session has a
//! queue of its own. A message may have different positions in these queues, after a later message in one of them, or
//! occur twice. So the numbers follow the order in which mosquitto received the messages, and a session in whose
//! queue a message has another position gets a copy of its own there.

use std::ops::Range;

use super::tables::{Outgoing, Tables};

/// The sort key of a message: its position in mosquitto's order, then a tie-breaker for copies outside that order.
type Place = (usize, usize);

/// The messages to import, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Order {
    /// Indexes into [`Tables::outgoing`]. Those of one message are adjacent.
    outgoing: Vec<usize>,
    /// Index in `outgoing` at which each message begins.
    starts: Vec<usize>,
}

impl Order {
    pub(super) fn new(tables: &Tables<'_>) -> Self {
        let mut lasts: Vec<Option<Place>> = vec![None; tables.sessions.len()];
        let mut placed: Vec<(Place, usize)> = Vec::with_capacity(tables.outgoing.len());
        for (number, outgoing) in tables.outgoing.iter().enumerate() {
            let last = &mut lasts[outgoing.session];
            let common = outgoing.content.map(|content| (content, 0));
            let place = match (common, *last) {
                (Some(common), last) if last.is_none_or(|last| last < common) => common,
                (_, last) => (last.map_or(0, |(content, _)| content), number + 1),
            };
            *last = Some(place);
            placed.push((place, number));
        }
        placed.sort_unstable();
        let mut order = Self::default();
        let mut before = None;
        for (place, number) in placed {
            if before.replace(place) != Some(place) {
                order.starts.push(order.outgoing.len());
            }
            order.outgoing.push(number);
        }
        order
    }

    /// Returns the number of messages.
    pub(super) const fn len(&self) -> usize {
        self.starts.len()
    }

    fn range(&self, message: usize) -> Range<usize> {
        let end = self.starts.get(message + 1).copied().unwrap_or(self.outgoing.len());
        self.starts[message]..end
    }

    /// Returns the entries of all sessions that wait for a message.
    pub(super) fn of<'t>(
        &'t self,
        message: usize,
        tables: &'t Tables<'_>,
    ) -> impl Iterator<Item = &'t Outgoing> + Clone {
        self.outgoing[self.range(message)].iter().map(|&number| &tables.outgoing[number])
    }
}
