//! A hash table from Client Identifiers to sessions that stores neither, so that each of a hundred thousand sessions
//! costs little more than two words.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::Session;
use crate::base::memory;
use crate::core::slots::{SessionId, SessionMark, Slots};

/// Marks a free place.
const FREE: u32 = u32::MAX;
/// The places of the smallest table.
const PLACES_MINIMUM: usize = 16;

/// An entry for a session, at or after the place that its hash names.
#[derive(Clone, Copy, Debug)]
struct Place {
    hash: u32,
    /// The index of the session's slot.
    index: u32,
}

/// All sessions by their Client Identifiers.
#[derive(Debug)]
pub struct Directory {
    /// Their number is a power of two, and at least a quarter of them is free.
    places: Vec<Place>,
    length: usize,
    /// Secret, or clients could choose identifiers that all collide.
    seed: u64,
}

impl Directory {
    /// Makes an empty directory. `seed` must be secret.
    pub const fn new(seed: u64) -> Self {
        Self { places: Vec::new(), length: 0, seed }
    }

    /// The number of sessions.
    pub const fn len(&self) -> usize {
        self.length
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Returns the session of a Client Identifier.
    pub fn find(&self, name: &str, sessions: &Slots<SessionMark, Session>) -> Option<SessionId> {
        let hash = self.hash(name);
        let mut at = self.home(hash);
        loop {
            let place = self.places.get(at).filter(|place| place.index != FREE)?;
            if place.hash == hash
                && let Some(id) = sessions.id_at(place.index)
                && &*sessions[id].client_identifier == name
            {
                return Some(id);
            }
            at = self.behind(at);
        }
    }

    /// Adds a session whose Client Identifier is new.
    pub fn insert(&mut self, name: &str, id: SessionId) {
        if (self.length + 1) * 4 > self.places.len() * 3 {
            self.resize(self.places.len() * 2);
        }
        let index = u32::try_from(id.index()).expect("a slot's index is that small");
        self.put(Place { hash: self.hash(name), index });
        self.length += 1;
    }

    /// Removes a session, which must be there.
    pub fn remove(&mut self, name: &str, id: SessionId) {
        let mut gap = self.home(self.hash(name));
        while self.places[gap].index as usize != id.index() {
            assert!(self.places[gap].index != FREE, "a session is where it was put");
            gap = self.behind(gap);
        }
        // Later entries move up, unless that would put them before their home.
        let mut at = gap;
        loop {
            at = self.behind(at);
            let place = self.places[at];
            if place.index == FREE {
                break;
            }
            if self.distance(self.home(place.hash), at) >= self.distance(gap, at) {
                self.places[gap] = place;
                gap = at;
            }
        }
        self.places[gap].index = FREE;
        self.length -= 1;
        // Well below a half, or adding and removing at the border would move all of them again and again.
        if self.length * 8 < self.places.len() && self.places.len() > PLACES_MINIMUM {
            self.resize(self.places.len() / 2);
        }
    }

    /// The bytes that it takes.
    pub const fn memory(&self) -> usize {
        memory::allocation(self.places.capacity() * size_of::<Place>())
    }

    fn resize(&mut self, count: usize) {
        let places = vec![Place { hash: 0, index: FREE }; count.max(PLACES_MINIMUM)];
        for place in std::mem::replace(&mut self.places, places) {
            if place.index != FREE {
                self.put(place);
            }
        }
    }

    /// Puts an entry at or after its home.
    fn put(&mut self, place: Place) {
        let mut at = self.home(place.hash);
        while self.places[at].index != FREE {
            at = self.behind(at);
        }
        self.places[at] = place;
    }

    fn hash(&self, name: &str) -> u32 {
        let mut hasher = DefaultHasher::new();
        (self.seed, name).hash(&mut hasher);
        #[expect(clippy::cast_possible_truncation, reason = "half of a hash is a hash")]
        let half = hasher.finish() as u32;
        half
    }

    const fn home(&self, hash: u32) -> usize {
        hash as usize & self.places.len().wrapping_sub(1)
    }

    const fn behind(&self, at: usize) -> usize {
        (at + 1) & (self.places.len() - 1)
    }

    /// How far the place `to` is after `from`, the table being a ring.
    const fn distance(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & (self.places.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::memory::Counted;
    use crate::base::time::Time;
    use crate::core::session::{Incoming, Presence, Subscriptions};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn session(name: &str) -> Session {
        Session {
            client_identifier: name.into(),
            user_name: None,
            is_proved: false,
            listener: crate::core::listener::ListenerId::default(),
            reading: crate::core::session::Reading::Free,
            presence: Presence::Away { ends: Time::NEVER },
            expiry_interval: 0,
            subscriptions: Subscriptions::default(),
            outgoing: None,
            next_identifier: None,
            window: 0,
            incoming: Incoming::default(),
            will: None,
            counted: Counted::default(),
            timer: None,
        }
    }

    proptest! {
        #[test]
        fn the_directory_is_a_map(steps in prop::collection::vec((any::<bool>(), 0_u16..300), 1..600)) {
            let mut sessions = Slots::default();
            let mut directory = Directory::new(7);
            let mut model = BTreeMap::new();
            for (is_wanted, number) in steps {
                let name = format!("client-{number}");
                let known = directory.find(&name, &sessions);
                prop_assert_eq!(known, model.get(&name).copied());
                match known {
                    None if is_wanted => {
                        let id = sessions.insert_with(|_| session(&name));
                        directory.insert(&name, id);
                        model.insert(name, id);
                    }
                    Some(id) if !is_wanted => {
                        directory.remove(&name, id);
                        sessions.remove(id);
                        model.remove(&name);
                    }
                    _ => {}
                }
                prop_assert_eq!(directory.len(), model.len());
            }
            for (name, &id) in &model {
                prop_assert_eq!(directory.find(name, &sessions), Some(id));
                directory.remove(name, id);
            }
            prop_assert!(directory.places.len() <= PLACES_MINIMUM, "an empty table is small");
        }
    }
}
