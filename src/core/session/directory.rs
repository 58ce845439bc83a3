//! The way from a Client Identifier to its session: a hash table that holds neither, so that a hundred thousand
//! sessions pay for little more than two words each.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::Session;
use crate::base::memory;
use crate::core::slots::{SessionId, SessionMark, Slots};

/// Marks a place that is free.
const FREE: u32 = u32::MAX;
/// Places of the smallest table.
const PLACES_MINIMUM: usize = 16;

/// Where a session is found, at or behind the place that its hash names.
#[derive(Clone, Copy, Debug)]
struct Place {
    hash: u32,
    /// Of the session's slot.
    index: u32,
}

/// All sessions by their Client Identifiers.
#[derive(Debug)]
pub struct Directory {
    /// Their number is a power of two, and a quarter at least is free.
    places: Vec<Place>,
    length: usize,
    /// Secret, or clients could choose identifiers that all meet in one place.
    seed: u64,
}

impl Directory {
    /// An empty one. `seed` is to be a secret.
    pub const fn new(seed: u64) -> Self {
        Self { places: Vec::new(), length: 0, seed }
    }

    /// How many sessions there are.
    pub const fn len(&self) -> usize {
        self.length
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The session of a Client Identifier.
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

    /// Takes a session out that is there.
    pub fn remove(&mut self, name: &str, id: SessionId) {
        let mut gap = self.home(self.hash(name));
        while self.places[gap].index as usize != id.index() {
            assert!(self.places[gap].index != FREE, "a session is where it was put");
            gap = self.behind(gap);
        }
        // Those behind move up, unless that would put them before their home.
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
        // Well below a half, or coming and going at the border would move all of them again and again.
        if self.length * 8 < self.places.len() && self.places.len() > PLACES_MINIMUM {
            self.resize(self.places.len() / 2);
        }
    }

    /// Bytes that it takes.
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

    /// Puts a place at or behind its home.
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

    /// How far behind `from` the place `to` is, the table being a ring.
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
            prop_assert!(directory.places.len() <= PLACES_MINIMUM, "what is empty is small");
        }
    }
}
