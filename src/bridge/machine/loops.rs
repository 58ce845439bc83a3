//! Messages that come back. A broker that knows bridges, or No Local, does not send a bridge its own messages; this is
//! for all other ways.
//!
//! In MQTT 5.0, each bridge leaves its name in a User Property of the messages that it forwards in either direction. A
//! message that has been over a bridge is not forwarded by it again, whatever way it came back. Before MQTT 5.0, a
//! message that a bridge has just forwarded and that comes back over it is recognized by its topic and payload. Nothing
//! ends the way of a message around a circle with a bridge before MQTT 5.0, but it is noticed.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hasher as _};

use crate::base::memory::{Counted, allocation};
use crate::base::time::{Duration, Time};
use crate::protocol::codec::{Properties, Property, PropertyBuffer};

/// The name of the User Property. Its value is the name of a bridge.
const HOP: &str = "brooklet-hop";
/// The most bridges on the way of a message. Beyond: it is dropped.
const HOPS_MAXIMUM: usize = 16;
/// How long an echo may take. One that comes later is forwarded.
const ECHO_PATIENCE: Duration = Duration::from_seconds(10);
/// The most messages whose echoes are awaited. Beyond: the oldest is forgotten, and its echo is forwarded.
const ECHOES_MAXIMUM: usize = 1024;

/// A message seems to circle if it is forwarded so many times
pub const CIRCLE_TIMES: u32 = 100;
/// within this time,
pub const CIRCLE_TIME: Duration = Duration::from_seconds(10);
/// and at least once in each such time.
const CIRCLE_PAUSE: Duration = Duration::from_seconds(1);
/// How many bytes of a message are compared.
const CIRCLE_BYTES: usize = 64;

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
        self.properties().bytes()
    }

    /// The properties of a message that had none.
    pub fn properties(&self) -> Properties<'_> {
        self.property.properties()
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

/// A message that may circle, since it was forwarded at least once. Only one is watched at a time: what circles is
/// forwarded more often than anything else, so its turn comes soon.
#[derive(Debug, Default)]
pub struct Suspect {
    /// The first bytes of its payload.
    payload: Vec<u8>,
    topic: Vec<u8>,
    /// The length of its payload in bytes.
    length: usize,
    /// How often it was forwarded.
    times: u32,
    since: Time,
    latest: Time,
}

impl Suspect {
    /// Takes note of a message that is forwarded. Returns whether it seems to circle, once for each suspect.
    #[inline]
    pub fn circles(&mut self, topic: &[u8], payload: &[u8], now: Time) -> bool {
        let is_recent = now.since(self.latest) < CIRCLE_PAUSE && now.since(self.since) < CIRCLE_TIME;
        if !is_recent {
            self.replace(topic, payload, now);
            return false;
        }
        if payload.len() != self.length || !payload.starts_with(&self.payload) || topic != self.topic {
            return false;
        }
        self.latest = now;
        self.times += 1;
        self.times == CIRCLE_TIMES
    }

    #[cold]
    #[inline(never)]
    fn replace(&mut self, topic: &[u8], payload: &[u8], now: Time) {
        let length = payload.len();
        self.payload.clear();
        self.payload.extend_from_slice(&payload[..length.min(CIRCLE_BYTES)]);
        self.topic.clear();
        self.topic.extend_from_slice(topic);
        (self.length, self.times, self.since, self.latest) = (length, 1, now, now);
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
    fn what_is_forwarded_often_within_a_while_circles() {
        let times = |suspect: &mut Suspect, payload: &[u8], from: u64, milliseconds: u64| {
            let at = |time| Time::ZERO + Duration::from_milliseconds(from + time * milliseconds);
            (0..250).filter(|&time| suspect.circles(b"a", payload, at(time))).count()
        };
        let mut suspect = Suspect::default();
        assert_eq!(times(&mut suspect, b"x", 20_000, 20), 1, "it is named once");
        assert_eq!(times(&mut suspect, b"x", 40_000, 200), 0, "50 times within 10 s");
        assert_eq!(times(&mut suspect, b"y", 89_900, 0), 0, "another one is watched");
        assert_eq!(times(&mut suspect, b"y", 100_000, 20), 1, "the first one has not come again");
        let long = |last| [&[b'x'; CIRCLE_BYTES][..], last].concat();
        assert_eq!(times(&mut suspect, &long(b""), 120_000, 0), 1);
        assert_eq!(times(&mut suspect, &long(b"y"), 120_100, 0), 0, "it is longer");
        assert!(!suspect.circles(b"b", &long(b""), at(120)), "it has another topic");
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
