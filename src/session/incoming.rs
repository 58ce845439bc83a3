//! The Packet Identifiers of QoS 2 messages that were received and not yet released.

use std::collections::VecDeque;

use crate::codec::PacketIdentifier;

/// Received and not yet released QoS 2 messages: until the PUBREL a repeat is answered and not delivered again
/// [MQTT-4.3.3-10]. The identifiers are kept sorted; clients count upwards and release in order, so both ends are
/// cheap. There are never more than 65,535.
#[derive(Debug, Default)]
pub struct Incoming(Option<Box<Identifiers>>);

/// One word in the session while there are none.
type Identifiers = VecDeque<u16>;

impl Incoming {
    /// Remembers an identifier; tells whether it is new.
    pub fn insert(&mut self, identifier: PacketIdentifier) -> bool {
        let identifiers = self.0.get_or_insert_default();
        let identifier = identifier.value();
        match identifiers.binary_search(&identifier) {
            Ok(_) => false,
            Err(position) => {
                identifiers.insert(position, identifier);
                true
            }
        }
    }

    /// Whether the identifier was received and not released.
    pub fn contains(&self, identifier: PacketIdentifier) -> bool {
        self.0.as_ref().is_some_and(|identifiers| identifiers.binary_search(&identifier.value()).is_ok())
    }

    /// Releases an identifier; tells whether it was there.
    pub fn remove(&mut self, identifier: PacketIdentifier) -> bool {
        let Some(identifiers) = &mut self.0 else { return false };
        let Ok(position) = identifiers.binary_search(&identifier.value()) else { return false };
        identifiers.remove(position);
        true
    }

    /// How many are not released.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |identifiers| identifiers.len())
    }

    /// Whether all are released.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Gives the memory of an idle session back.
    pub fn shrink(&mut self) {
        if self.is_empty() {
            self.0 = None;
        }
    }

    /// Asserts the order.
    pub fn check_invariants(&self) {
        if let Some(identifiers) = &self.0 {
            assert!(identifiers.iter().is_sorted(), "identifiers are sorted");
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
