//! Deliveries of an earlier run, which continue with their Packet Identifiers.
//!
//! They come in any order, and their identifiers may be far apart. So each is aside at first and takes only its own
//! memory. When all have come, the latest of them get places of their own.

use std::collections::VecDeque;

use super::aside::{Aside, CIRCLE, SPARE_PLACES, after, distance};
use super::{InFlight, Outgoing, Stage};
use crate::protocol::codec::PacketIdentifier;

impl Outgoing {
    /// Sets the Packet Identifier of the first delivery.
    pub fn begin_at(&mut self, identifier: PacketIdentifier) {
        self.first = identifier.value();
    }

    /// Puts a delivery of an earlier run in flight. After the last one, [`Outgoing::place_restored`] must be called.
    /// Returns false if there already is one with this Packet Identifier.
    pub fn restore(&mut self, identifier: PacketIdentifier, stage: Stage) -> bool {
        if self.is_in_use(identifier) {
            return false;
        }
        let aside = Box::new(Aside { identifier, stage });
        self.in_flight.push_back(InFlight::restored(Stage::Aside(aside)));
        self.note_place(self.in_flight.len() - 1);
        self.set_room();
        self.count();
        true
    }

    /// Sorts the deliveries of an earlier run by their Packet Identifiers. The latest get the places that belong to
    /// these, as long as few places in between are empty; those before them stay aside.
    pub fn place_restored(&mut self) {
        let restored = self.take_restored();
        let Some(newest) = restored.last().map(|aside| aside.identifier) else { return };
        let most = 2 * restored.len() + SPARE_PLACES;
        let count_aside = restored.partition_point(|aside| distance(aside.identifier, newest) >= most);
        let oldest_in_place = restored[count_aside].identifier;
        self.first = after(oldest_in_place, CIRCLE - count_aside).value();
        self.in_flight = VecDeque::with_capacity(count_aside + distance(oldest_in_place, newest) + 1);
        for (index, aside) in restored.into_iter().enumerate() {
            if index < count_aside {
                self.in_flight.push_back(InFlight::restored(Stage::Aside(Box::new(aside))));
                self.note_place(index);
                continue;
            }
            while self.identifier_at(self.in_flight.len()) != aside.identifier {
                self.in_flight.push_back(InFlight::restored(Stage::Settled));
            }
            self.in_flight.push_back(InFlight::restored(aside.stage));
        }
        self.set_room();
        self.count();
    }

    /// Removes them, in the order of their identifiers on the circle. The oldest is the one after the longest stretch
    /// of identifiers that none of them has.
    fn take_restored(&mut self) -> Vec<Aside> {
        self.aside.clear();
        let mut restored: Vec<Aside> = std::mem::take(&mut self.in_flight)
            .into_iter()
            .map(|entry| match entry.stage {
                Stage::Aside(aside) => *aside,
                _ => unreachable!("no delivery begins before all are restored"),
            })
            .collect();
        restored.sort_unstable_by_key(|aside| aside.identifier.value());
        let count = restored.len();
        let stretch = |&index: &usize| {
            let previous = (index + count - 1) % count;
            distance(restored[previous].identifier, restored[index].identifier)
        };
        let oldest = (0..count).max_by_key(stretch).unwrap_or(0);
        restored.rotate_left(oldest);
        restored
    }
}
