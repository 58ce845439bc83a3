//! Deliveries that others overtake for too long: they are set aside, so that their Packet Identifiers are skipped.
//!
//! Deliveries that were set aside come before all others in flight, in order. Each stores its Packet Identifier, since
//! that no longer follows from its place. The place is known by the identifier that would belong to it.
//!
//! While any is aside, no new delivery begins at once: messages wait in the queue, and the identifiers in use are
//! checked when they are taken from it. Only clients that leave messages unanswered for so long pay for that.

use std::collections::VecDeque;

use super::{InFlight, Outgoing, Settled, Stage};
use crate::base::memory;
use crate::base::ordered_map::OrderedMap;
use crate::core::limits::IN_FLIGHT_MAXIMUM;
use crate::protocol::codec::PacketIdentifier;

/// The number of Packet Identifiers.
pub(super) const CIRCLE: usize = u16::MAX as usize;
/// Places in addition to two for each message that may be in flight. So examining all places frees at least half of
/// them.
pub(super) const SPARE_PLACES: usize = 64;
const _: () = assert!(
    2 * IN_FLIGHT_MAXIMUM as usize + SPARE_PLACES < CIRCLE,
    "places for twice the window have different identifiers"
);

/// The memory of an entry of the map, in blocks two thirds full.
const ENTRY_BYTES: usize = 3 * size_of::<(u16, u16)>() / 2;

/// A delivery that was set aside.
#[derive(Clone, Debug)]
pub struct Aside {
    /// Its Packet Identifier.
    pub identifier: PacketIdentifier,
    /// Its stage; never settled.
    pub stage: Stage,
}

/// Which deliveries were set aside.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// From the Packet Identifier of each to the one that its place would have.
    by_identifier: OrderedMap<u16, u16>,
    /// How many may be in flight before Packet Identifiers are checked one by one; none while any is aside.
    pub(super) room: usize,
}

impl Places {
    pub(super) fn is_empty(&self) -> bool {
        self.by_identifier.is_empty()
    }

    /// Forgets all deliveries that were aside. As many may be in flight as before.
    pub(super) fn clear(&mut self) {
        self.by_identifier = OrderedMap::default();
    }

    /// The memory of the map and of the deliveries.
    pub(super) fn memory(&self) -> usize {
        self.by_identifier.len() * (memory::allocation(size_of::<Aside>()) + ENTRY_BYTES)
    }
}

/// Returns the identifier that comes `by` after another one.
pub(super) fn after(identifier: PacketIdentifier, by: usize) -> PacketIdentifier {
    let value = (usize::from(identifier.value()) - 1 + by) % CIRCLE + 1;
    u16::try_from(value).ok().and_then(PacketIdentifier::new).expect("it is one of the circle")
}

/// How many identifiers `to` comes after `from`.
pub(super) fn distance(from: PacketIdentifier, to: PacketIdentifier) -> usize {
    (usize::from(to.value()) + CIRCLE - usize::from(from.value())) % CIRCLE
}

impl Outgoing {
    /// How many deliveries may be in flight, including settled ones in between, before some are set aside.
    fn places(&self) -> usize {
        2 * self.window.size + SPARE_PLACES
    }

    /// Skips the identifiers that the client may know from an earlier run.
    pub(super) fn skip_left_out(&mut self) {
        let (count, length) = (usize::from(std::mem::take(&mut self.left_out)), self.in_flight.len());
        if count == 0 || length == 0 {
            return;
        }
        if length + count < self.places() {
            self.skip_identifiers(count);
        } else {
            self.set_aside(length, after(self.identifier_at(length), count));
        }
    }

    /// Sets how many may be in flight before Packet Identifiers are checked one by one.
    pub(super) fn set_room(&mut self) {
        self.aside.room = if self.aside.is_empty() { self.places() } else { 0 };
    }

    /// How many more deliveries are known to have a place in flight.
    pub fn free_places(&self) -> usize {
        self.aside.room.saturating_sub(self.in_flight.len())
    }

    /// Whether there is a place for the next delivery, and its Packet Identifier is not in use.
    #[inline]
    pub(super) fn has_place(&self) -> bool {
        self.has_room_in_flight() || self.has_place_beside_others()
    }

    /// The same while any is aside, or all places are taken.
    #[cold]
    fn has_place_beside_others(&self) -> bool {
        let next = self.identifier_at(self.in_flight.len()).value();
        self.in_flight.len() < self.places() && !self.aside.by_identifier.contains_key(&next)
    }

    /// Makes a place for the next delivery, with a Packet Identifier that is not in use, if only the place is missing.
    /// Returns how many places and identifiers it examined.
    #[cold]
    pub fn make_place(&mut self) -> usize {
        if self.has_place() || !(self.has_credit() || self.has_window_for_prepared()) {
            return 0;
        }
        let length = self.in_flight.len();
        let next = self.identifier_at(length);
        let skipped = (0..CIRCLE).take_while(|&by| self.is_in_use(after(next, by))).count();
        if length + skipped < self.places() {
            self.skip_identifiers(skipped);
            return skipped;
        }
        if self.window.sent == length {
            self.set_aside(length, after(next, skipped));
        } else {
            self.set_aside(self.window.sent, self.identifier_at(self.window.sent));
            self.skip_identifiers(skipped.min(self.places().saturating_sub(self.in_flight.len())));
        }
        length + skipped
    }

    /// Skips the next Packet Identifiers: their places are settled from the beginning.
    fn skip_identifiers(&mut self, count: usize) {
        let length = self.in_flight.len() + count;
        if self.window.sent == self.in_flight.len() {
            self.window.sent = length;
        }
        self.in_flight.resize_with(length, || InFlight::restored(Stage::Settled));
        self.count();
    }

    /// Sets the first `count` deliveries aside, and removes those of them that are settled. `first_behind` is the
    /// Packet Identifier that the first delivery after them has, or will have.
    pub(super) fn set_aside(&mut self, count: usize, first_behind: PacketIdentifier) {
        let behind = self.in_flight.split_off(count);
        let mut kept = VecDeque::with_capacity(self.in_flight.len().min(self.window.size) + behind.len());
        for (index, entry) in std::mem::take(&mut self.in_flight).into_iter().enumerate() {
            let stage = match entry.stage {
                Stage::Settled => continue,
                Stage::Aside(aside) => Stage::Aside(aside),
                stage => Stage::Aside(Box::new(Aside { identifier: self.identifier_at(index), stage })),
            };
            kept.push_back(InFlight { stage, ..entry });
        }
        self.window.sent = self.window.sent.saturating_sub(count - kept.len());
        self.first = after(first_behind, CIRCLE - kept.len()).value();
        self.in_flight = kept;
        // The deliveries after them keep their places.
        for index in 0..self.in_flight.len() {
            self.note_place(index);
        }
        self.in_flight.extend(behind);
        self.set_room();
        self.count();
    }

    /// Records the place of the delivery at this index, if it is aside.
    pub(super) fn note_place(&mut self, index: usize) {
        let place = self.identifier_at(index).value();
        if let Stage::Aside(aside) = &self.in_flight[index].stage {
            self.aside.by_identifier.insert(aside.identifier.value(), place);
        }
    }

    /// The index of the delivery that was set aside with this Packet Identifier.
    #[cold]
    pub(super) fn find_aside(&self, identifier: PacketIdentifier) -> Option<usize> {
        let place = *self.aside.by_identifier.find(&identifier.value())?;
        Some((usize::from(place) + CIRCLE - usize::from(self.first.max(1))) % CIRCLE)
    }

    /// Applies an answer to a delivery that was set aside and was sent on this connection. If it is not over, it stays
    /// aside.
    #[cold]
    pub(super) fn answer_aside(
        &mut self,
        identifier: PacketIdentifier,
        answer: impl FnOnce(&mut Self, usize) -> Settled,
    ) -> Settled {
        let Some(index) = self.find_aside(identifier).filter(|&index| index < self.window.sent) else {
            return Settled::Unknown;
        };
        let unsettled = self.window.unsettled;
        self.forget_aside(index);
        let settled = answer(self, index);
        if self.window.unsettled == unsettled {
            let entry = &mut self.in_flight[index];
            let stage = std::mem::replace(&mut entry.stage, Stage::Settled);
            entry.stage = Stage::Aside(Box::new(Aside { identifier, stage }));
            self.note_place(index);
        }
        self.set_room();
        self.count();
        settled
    }

    /// Takes the delivery at this index back from aside, because it is about to settle or to be answered.
    pub(super) fn forget_aside(&mut self, index: usize) {
        let entry = &mut self.in_flight[index];
        if !matches!(entry.stage, Stage::Aside(_)) {
            return;
        }
        if let Stage::Aside(aside) = std::mem::replace(&mut entry.stage, Stage::Settled) {
            entry.stage = aside.stage;
            self.aside.by_identifier.remove(&aside.identifier.value());
        }
        self.set_room();
        self.count();
    }

    /// Whether a delivery with this Packet Identifier is in flight, sent on this connection or not.
    pub(super) fn is_in_use(&self, identifier: PacketIdentifier) -> bool {
        let distance = usize::from(identifier.value()) + CIRCLE - usize::from(self.first.max(1));
        let regular = self.in_flight.get(distance % CIRCLE);
        let is_regular =
            regular.is_some_and(|entry| !matches!(entry.stage, Stage::Settled | Stage::Aside(_)));
        is_regular || self.aside.by_identifier.contains_key(&identifier.value())
    }

    /// Returns Packet Identifiers that no delivery has: those that new deliveries will have last.
    pub fn spare_identifiers(&self, count: usize) -> Vec<PacketIdentifier> {
        let farthest = after(self.next_identifier(), CIRCLE / 2);
        let all = (0..CIRCLE).map(|by| after(farthest, by));
        all.filter(|&identifier| !self.is_in_use(identifier)).take(count).collect()
    }

    /// Asserts that all deliveries that are aside are recorded, and nothing else is.
    pub(super) fn check_aside(&self) {
        let mut count = 0;
        for (index, entry) in self.in_flight.iter().enumerate() {
            if let Stage::Aside(aside) = &entry.stage {
                assert_eq!(
                    self.find_aside(aside.identifier),
                    Some(index),
                    "deliveries that are aside are found"
                );
                assert!(!matches!(aside.stage, Stage::Settled | Stage::Aside(_)), "it is not over");
                count += 1;
            }
        }
        assert_eq!(self.aside.by_identifier.len(), count, "nothing else is aside");
        assert!(self.aside.is_empty() || self.aside.room == 0, "identifiers are checked while any is aside");
        assert!(self.in_flight.len() <= CIRCLE, "each place has an identifier");
    }
}
