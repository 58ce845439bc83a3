//! A cache of the answers of the access control about messages that clients publish, used if these answers stand.
//!
//! A verdict is about a connection, a cached topic and a QoS. It is dropped with the topic: when subscriptions change,
//! when the access control is replaced, when a client reconnects as another user, and when memory runs short. The
//! verdicts of a connection are dropped when its client authenticates again. A client that reconnects or takes its
//! session over does so on a new connection, which has no verdicts yet.

use std::num::NonZeroU64;

use crate::base::memory;
use crate::core::slots::ConnectionId;
use crate::protocol::codec::QoS;

/// The number of neighbouring places in which the verdict of a connection and a topic may be.
const PLACES: usize = 4;
/// The number of places at which a search may begin, when the first verdict comes.
const BEGINNINGS_MINIMUM: usize = 16;
/// The maximum of that number; a power of two, as is each of its values. All places take about 200 KB. Beyond that, a
/// new verdict replaces another.
const BEGINNINGS_MAXIMUM: usize = 8192;

/// Identifies a topic while it is cached.
pub(super) type TopicNumber = NonZeroU64;

#[derive(Clone, Copy, Debug)]
struct Place {
    client: ConnectionId,
    /// `None` if the place is free.
    topic: Option<TopicNumber>,
    /// Whether the client may publish, by QoS, as far as that is known.
    granted: [Option<bool>; 3],
}

const FREE: Place = Place { client: ConnectionId::of(0, 0), topic: None, granted: [None; 3] };

impl Place {
    #[inline]
    fn is_of(&self, client: ConnectionId, topic: TopicNumber) -> bool {
        self.topic == Some(topic) && self.client == client
    }
}

/// The cached verdicts.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    /// One place for each beginning of a search, and those that the last search reaches.
    places: Vec<Place>,
    /// Chooses in turn which of several verdicts to replace.
    turn: usize,
    /// The generation of the trie in which the topics got their numbers.
    generation: u64,
}

impl Verdicts {
    /// Whether a client may publish to a topic at a QoS, if that is cached.
    #[inline]
    pub(super) fn find(&self, client: ConnectionId, topic: TopicNumber, qos: QoS) -> Option<bool> {
        let beginning = self.beginning(client, topic);
        let places = self.places.get(beginning..beginning + PLACES)?;
        let place = places.iter().find(|place| place.is_of(client, topic))?;
        place.granted[usize::from(qos.level())]
    }

    /// Caches a verdict about a topic that got its number in this generation of the trie.
    pub(super) fn remember(
        &mut self,
        (client, topic): (ConnectionId, TopicNumber),
        generation: u64,
        qos: QoS,
        is_granted: bool,
    ) {
        if self.generation != generation {
            // Topics of earlier generations are never found again.
            *self = Self { generation, ..Self::default() };
        }
        let at = self.place_of(client, topic);
        let place = &mut self.places[at];
        if !place.is_of(client, topic) {
            *place = Place { client, topic: Some(topic), ..FREE };
        }
        place.granted[usize::from(qos.level())] = Some(is_granted);
    }

    /// Drops the verdicts of a connection. Returns the number of places that it looked at.
    pub(super) fn forget(&mut self, client: ConnectionId) -> usize {
        for place in self.places.iter_mut().filter(|place| place.client == client) {
            *place = FREE;
        }
        self.places.len()
    }

    /// The bytes that the cache uses.
    pub(super) const fn memory(&self) -> usize {
        memory::allocation(self.places.capacity() * size_of::<Place>())
    }

    /// Returns the place of a client and a topic: their own, or a free one. If there is none, the cache grows up to its
    /// limit; at the limit another verdict is replaced.
    fn place_of(&mut self, client: ConnectionId, topic: TopicNumber) -> usize {
        loop {
            let beginning = self.beginning(client, topic);
            let places = self.places.get(beginning..beginning + PLACES).unwrap_or_default();
            let own = places.iter().position(|place| place.is_of(client, topic));
            let free = || places.iter().position(|place| place.topic.is_none());
            if let Some(at) = own.or_else(free) {
                return beginning + at;
            }
            let beginnings = self.places.len().saturating_sub(PLACES - 1);
            if beginnings == BEGINNINGS_MAXIMUM {
                self.turn = (self.turn + 1) % PLACES;
                return beginning + self.turn;
            }
            self.grow((2 * beginnings).max(BEGINNINGS_MINIMUM));
        }
    }

    /// Enlarges the cache. A verdict for which there is no place is dropped.
    fn grow(&mut self, beginnings: usize) {
        let places = vec![FREE; beginnings + PLACES - 1];
        for former in std::mem::replace(&mut self.places, places) {
            let Some(topic) = former.topic else { continue };
            let beginning = self.beginning(former.client, topic);
            let mut window = self.places[beginning..].iter_mut().take(PLACES);
            if let Some(place) = window.find(|place| place.topic.is_none()) {
                *place = former;
            }
        }
    }

    /// Returns the first of the places of a client and a topic.
    #[inline]
    fn beginning(&self, client: ConnectionId, topic: TopicNumber) -> usize {
        let last = self.places.len().saturating_sub(PLACES);
        let mixed =
            (topic.get() ^ (client.index() as u64).rotate_left(32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        usize::try_from((mixed >> 40) & last as u64).expect("no more than a usize")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: ConnectionId = ConnectionId::of(7, 1);

    fn topic(number: u64) -> TopicNumber {
        TopicNumber::new(number).unwrap()
    }

    fn remember(verdicts: &mut Verdicts, client: ConnectionId, number: u64, qos: QoS, is_granted: bool) {
        verdicts.remember((client, topic(number)), 1, qos, is_granted);
    }

    #[test]
    fn a_verdict_is_about_one_connection_one_topic_and_one_qos() {
        let mut verdicts = Verdicts::default();
        assert_eq!(verdicts.find(CLIENT, topic(1), QoS::AtMostOnce), None);
        remember(&mut verdicts, CLIENT, 1, QoS::AtMostOnce, true);
        remember(&mut verdicts, CLIENT, 1, QoS::ExactlyOnce, false);
        assert_eq!(verdicts.find(CLIENT, topic(1), QoS::AtMostOnce), Some(true));
        assert_eq!(verdicts.find(CLIENT, topic(1), QoS::AtLeastOnce), None);
        assert_eq!(verdicts.find(CLIENT, topic(1), QoS::ExactlyOnce), Some(false));
        assert_eq!(verdicts.find(CLIENT, topic(2), QoS::AtMostOnce), None);
        for other in [ConnectionId::of(7, 2), ConnectionId::of(6, 1)] {
            assert_eq!(verdicts.find(other, topic(1), QoS::AtMostOnce), None);
        }
    }

    #[test]
    fn what_is_known_of_a_client_is_forgotten_and_all_when_the_trie_changes() {
        let (mut verdicts, other) = (Verdicts::default(), ConnectionId::of(8, 2));
        for number in 1..=100 {
            remember(&mut verdicts, CLIENT, number, QoS::AtMostOnce, true);
            remember(&mut verdicts, other, number, QoS::AtMostOnce, true);
        }
        verdicts.forget(CLIENT);
        for number in 1..=100 {
            assert_eq!(verdicts.find(CLIENT, topic(number), QoS::AtMostOnce), None);
        }
        assert_eq!(verdicts.find(other, topic(1), QoS::AtMostOnce), Some(true));
        verdicts.remember((CLIENT, topic(1)), 2, QoS::AtMostOnce, true);
        assert_eq!(verdicts.find(other, topic(1), QoS::AtMostOnce), None);
    }

    /// As many topics as are remembered, of as many clients as there may be.
    #[test]
    fn thousands_are_remembered_and_their_memory_is_bounded() {
        let mut verdicts = Verdicts::default();
        let known = |verdicts: &Verdicts, clients: u32, topics: u64| {
            let each = (0..clients).flat_map(|client| (1..=topics).map(move |number| (client, number)));
            let is_known = |&(client, number): &(u32, u64)| {
                verdicts.find(ConnectionId::of(client, 3), topic(number), QoS::AtLeastOnce).is_some()
            };
            each.filter(is_known).count()
        };
        for (clients, topics, most) in [(1, 3_000, 3_000), (100, 30, 3_000), (1_000, 1_000, 8_195)] {
            verdicts = Verdicts { generation: verdicts.generation + 1, ..Verdicts::default() };
            for client in 0..clients {
                for number in 1..=topics {
                    let key = (ConnectionId::of(client, 3), topic(number));
                    verdicts.remember(key, verdicts.generation, QoS::AtLeastOnce, true);
                }
            }
            let known = known(&verdicts, clients, topics);
            assert!((most * 9 / 10..=most).contains(&known), "{known} of {clients} times {topics}");
            assert!(verdicts.memory() <= memory::allocation(8_195 * 24), "{}", verdicts.memory());
        }
    }
}
