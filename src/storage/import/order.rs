//! The order in which messages are imported. In the store a message has one number for all sessions that wait for it,
//! and all of them get their messages in the order of the numbers. In a database of mosquitto each session has a queue
//! of its own, and a message may have different places in them, even after a later one or twice. So the numbers follow
//! the order in which the messages came to mosquitto, and a session that waits for a message in another place gets a
//! copy of its own there.

use std::ops::Range;

use super::tables::{Outgoing, Tables};

/// Where a message stands among all: first by what was the order of mosquitto, then by what has no place in that.
type Place = (usize, usize);

/// What is to be numbered, one after the other.
#[derive(Clone, Debug, Default)]
pub(super) struct Order {
    /// Places in [`Tables::outgoing`], those of one message side by side.
    outgoing: Vec<usize>,
    /// Where in `outgoing` those of each message begin.
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

    /// How many messages there are.
    pub(super) const fn len(&self) -> usize {
        self.starts.len()
    }

    fn range(&self, message: usize) -> Range<usize> {
        let end = self.starts.get(message + 1).copied().unwrap_or(self.outgoing.len());
        self.starts[message]..end
    }

    /// Who waits for the message with this place.
    pub(super) fn of<'t>(
        &'t self,
        message: usize,
        tables: &'t Tables<'_>,
    ) -> impl Iterator<Item = &'t Outgoing> + Clone {
        self.outgoing[self.range(message)].iter().map(|&number| &tables.outgoing[number])
    }
}
