//! The Packet Identifiers of QoS 2 messages that were received and not yet released.

use std::collections::VecDeque;

use crate::base::memory::{self, Counted};
use crate::protocol::codec::PacketIdentifier;

/// The QoS 2 messages that were received and not yet released: until the PUBREL a repeat is answered and not delivered
/// again [MQTT-4.3.3-10]. The identifiers are sorted; clients count upwards and release in order, so both ends are
/// cheap. There are never more than 65,535.
#[derive(Debug, Default)]
pub struct Incoming(Option<Box<Identifiers>>);

/// Takes one word in the session while there are none.
#[derive(Debug, Default)]
struct Identifiers {
    sorted: VecDeque<u16>,
    /// How many there were when the client connected.
    carried: usize,
    counted: Counted,
}

impl Incoming {
    /// Adds an identifier. Returns whether it is new.
    pub fn insert(&mut self, identifier: PacketIdentifier) -> bool {
        let Identifiers { sorted, counted, .. } = &mut **self.0.get_or_insert_default();
        let (identifier, capacity) = (identifier.value(), sorted.capacity());
        if sorted.back().is_none_or(|&last| last < identifier) {
            sorted.push_back(identifier);
        } else {
            let Err(position) = sorted.binary_search(&identifier) else { return false };
            sorted.insert(position, identifier);
        }
        if sorted.capacity() != capacity {
            counted.set(
                memory::allocation(size_of::<Identifiers>())
                    + memory::allocation(sorted.capacity() * size_of::<u16>()),
            );
        }
        true
    }

    /// Whether the identifier was received and not released.
    pub fn contains(&self, identifier: PacketIdentifier) -> bool {
        let Some(Identifiers { sorted, .. }) = self.0.as_deref() else { return false };
        let identifier = identifier.value();
        sorted.back().is_some_and(|&last| identifier <= last) && sorted.binary_search(&identifier).is_ok()
    }

    /// Releases an identifier. Returns whether it was there.
    pub fn remove(&mut self, identifier: PacketIdentifier) -> bool {
        let Some(identifiers) = &mut self.0 else { return false };
        if identifiers.sorted.front() == Some(&identifier.value()) {
            identifiers.sorted.pop_front();
            return true;
        }
        let Ok(position) = identifiers.sorted.binary_search(&identifier.value()) else { return false };
        identifiers.sorted.remove(position);
        true
    }

    /// Removes all identifiers, and returns them in order.
    pub fn take_all(&mut self) -> Vec<PacketIdentifier> {
        let taken = self.0.take().map(|identifiers| identifiers.sorted).unwrap_or_default();
        taken.into_iter().filter_map(PacketIdentifier::new).collect()
    }

    /// The client has connected again.
    pub fn resume(&mut self) {
        if let Some(identifiers) = &mut self.0 {
            identifiers.carried = identifiers.sorted.len();
        }
    }

    /// How many were unreleased when the client connected.
    pub fn carried(&self) -> usize {
        self.0.as_ref().map_or(0, |identifiers| identifiers.carried)
    }

    /// The number of unreleased identifiers.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |identifiers| identifiers.sorted.len())
    }

    /// Whether all are released.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes that they take.
    pub fn memory(&self) -> usize {
        self.0.as_ref().map_or(0, |identifiers| identifiers.counted.bytes())
    }

    /// Releases the memory of an idle session.
    pub fn shrink(&mut self) {
        if self.is_empty() {
            self.0 = None;
        }
    }

    /// Asserts the order.
    pub fn check_invariants(&self) {
        if let Some(identifiers) = &self.0 {
            assert!(identifiers.sorted.iter().is_sorted(), "identifiers are sorted");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_is_new_until_it_is_released() {
        let mut incoming = Incoming::default();
        let [first, second] = [9, 3].map(|value| PacketIdentifier::new(value).unwrap());
        assert!(incoming.insert(first) && incoming.insert(second));
        assert!(!incoming.insert(first));
        assert!(incoming.contains(second));
        assert!(incoming.remove(first));
        assert!(!incoming.remove(first));
        assert!(incoming.insert(first));
        incoming.check_invariants();
        assert_eq!(incoming.len(), 2);
    }
}
