//! Messages that come back. A broker that knows bridges, or No Local, does not send a bridge its own messages; this is
//! for all other ways.
//!
//! In MQTT 5.0, each bridge leaves its name in a User Property of the messages that it forwards in either direction. A
//! message that has been over a bridge is not forwarded by it again, whatever way it came back. Before MQTT 5.0, a
//! message that a bridge has just forwarded and that comes back over it is recognized by its topic and payload.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hasher as _};

use crate::base::memory::{Counted, allocation};
use crate::base::time::{Duration, Time};
use crate::protocol::codec::{Property, PropertyBuffer};

/// The name of the User Property. Its value is the name of a bridge.
const HOP: &str = "brooklet-hop";
/// The most bridges on the way of a message. Beyond: it is dropped.
const HOPS_MAXIMUM: usize = 16;
/// How long an echo may take. One that comes later is forwarded.
const ECHO_PATIENCE: Duration = Duration::from_seconds(10);
/// The most messages whose echoes are awaited. Beyond: the oldest is forgotten, and its echo is forwarded.
const ECHOES_MAXIMUM: usize = 1024;

/// The way of one message.
#[derive(Debug, Default)]
pub struct Journey {
    hops: usize,
}

/// Whether a message may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// It may.
    New,
    /// It was here before.
    Seen,
    /// It has been over too many bridges.
    TooMany,
}

/// The name of a bridge on the way of messages.
#[derive(Debug)]
pub struct OwnHop {
    name: Box<str>,
    property: PropertyBuffer,
}

impl OwnHop {
    /// The name of a bridge with this Client Identifier. The seed tells bridges apart that were given the same one in
    /// different brokers.
    pub fn new(client_identifier: &str, seed: u64) -> Self {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(seed);
        let mut name = client_identifier.to_owned();
        // The field is too short for such an identifier with a number; it is unlikely to occur twice.
        if name.len() < usize::from(u16::MAX) - 17 {
            name.push_str(&format!("/{:016x}", hasher.finish()));
        }
        let mut property = PropertyBuffer::default();
        property.push(Property::UserProperty(HOP, &name));
        Self { name: name.into(), property }
    }

    /// The property to append to a message.
    pub fn encoded(&self) -> &[u8] {
        self.property.properties().bytes()
    }

    /// Looks at a User Property of a message, and decides whether the message may go on.
    pub fn pass(&self, journey: &mut Journey, name: &str, value: &str) -> Hop {
        if name != HOP {
            return Hop::New;
        }
        journey.hops += 1;
        match value {
            _ if *value == *self.name => Hop::Seen,
            _ if journey.hops >= HOPS_MAXIMUM => Hop::TooMany,
            _ => Hop::New,
        }
    }
}

/// The fingerprints of messages that were forwarded and may come back.
#[derive(Debug)]
pub struct Echoes {
    /// When the message was forwarded, and its fingerprint; the oldest first.
    awaited: VecDeque<(Time, u64)>,
    seed: u64,
    counted: Counted,
}

impl Echoes {
    pub fn new(seed: u64) -> Self {
        Self { awaited: VecDeque::new(), seed, counted: Counted::default() }
    }

    /// A message was forwarded with this topic.
    pub fn expect(&mut self, topic: &str, payload: &[u8], now: Time) {
        if self.awaited.len() == ECHOES_MAXIMUM {
            self.awaited.pop_front();
        }
        self.awaited.push_back((now, self.fingerprint(topic, payload)));
        self.counted.set(allocation(self.awaited.capacity() * size_of::<(Time, u64)>()));
    }

    /// Whether a message is the echo of one that was forwarded. Each has one echo.
    pub fn is_echo(&mut self, topic: &str, payload: &[u8], now: Time) -> bool {
        while self.awaited.front().is_some_and(|(sent, _)| *sent + ECHO_PATIENCE < now) {
            self.awaited.pop_front();
        }
        if self.awaited.is_empty() {
            return false;
        }
        let fingerprint = self.fingerprint(topic, payload);
        let found = self.awaited.iter().position(|(_, awaited)| *awaited == fingerprint);
        found.is_some_and(|index| self.awaited.remove(index).is_some())
    }

    fn fingerprint(&self, topic: &str, payload: &[u8]) -> u64 {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.seed);
        hasher.write_usize(topic.len());
        hasher.write(topic.as_bytes());
        hasher.write(payload);
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_seconds(seconds)
    }

    #[test]
    fn each_message_has_one_echo_for_a_while() {
        let mut echoes = Echoes::new(1);
        assert!(!echoes.is_echo("a", b"x", at(0)));
        echoes.expect("a", b"x", at(0));
        echoes.expect("a", b"x", at(5));
        assert!(!echoes.is_echo("a", b"y", at(5)) && !echoes.is_echo("ax", b"", at(5)));
        assert!(echoes.is_echo("a", b"x", at(10)) && echoes.is_echo("a", b"x", at(10)));
        assert!(!echoes.is_echo("a", b"x", at(10)), "there were two");
        echoes.expect("a", b"x", at(20));
        assert!(!echoes.is_echo("a", b"x", at(31)), "it is too late");
    }

    #[test]
    fn the_oldest_is_forgotten_when_too_many_are_awaited() {
        let mut echoes = Echoes::new(1);
        for number in 0..=ECHOES_MAXIMUM {
            echoes.expect("a", &number.to_be_bytes(), at(0));
        }
        assert!(!echoes.is_echo("a", &0usize.to_be_bytes(), at(0)));
        assert!((1..=ECHOES_MAXIMUM).all(|number| echoes.is_echo("a", &number.to_be_bytes(), at(0))));
    }

    #[test]
    fn a_journey_ends_where_it_was_before_and_after_too_many_bridges() {
        let (own, other) = (OwnHop::new("a", 1), OwnHop::new("a", 2));
        let mut journey = Journey::default();
        assert_eq!(
            own.pass(&mut journey, HOP, &other.name),
            Hop::New,
            "it has the same name in another broker"
        );
        assert_eq!(own.pass(&mut journey, "other", &own.name), Hop::New);
        assert_eq!(own.pass(&mut journey, HOP, &own.name), Hop::Seen);
        for number in 3..HOPS_MAXIMUM {
            assert_eq!(own.pass(&mut journey, HOP, &number.to_string()), Hop::New);
        }
        assert_eq!(own.pass(&mut journey, HOP, "last"), Hop::TooMany);
        let long = "x".repeat(65_530);
        assert_eq!(*OwnHop::new(&long, 1).name, *long);
    }
}
