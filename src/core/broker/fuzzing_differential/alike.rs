//! Comparisons of outcomes that are not the same to the byte, each as strict as the ways allow.

use std::collections::BTreeMap;

use super::bench::{Heard, Outcome, Way};
use super::{PUBLISH, assert_same};
use crate::core::broker::{Statistics, Traffic};
use crate::protocol::codec::{Packet, Property, ProtocolVersion, QoS, Status, decode, frame};

/// The flags in the first byte of PUBLISH.
const RETAIN: u8 = 0b0001;
const QOS: u8 = 0b0110;

/// The upper half of the first byte of DISCONNECT.
const DISCONNECT: u8 = 14;

/// Compares what must be the same if bytes come one by one: everything but how many of them came after the broker had
/// ended the connection.
pub(super) fn assert_same_but_late_bytes(way: Way, short: &Outcome, mut other: Outcome) {
    other.statistics.received.bytes = short.statistics.received.bytes;
    assert_same(way, short, &other);
}

/// Compares what can be compared if sessions are stored. Messages that were queued in the store are sent when they have
/// been read; until then answers and retained messages of QoS 0 go ahead of them, and queued ones may be retained messages
/// as well. Each of the four kinds keeps its own order. Different messages may be dropped as well, so the limits must allow
/// that none is.
pub(super) fn assert_alike_from_store(short: &Outcome, other: &Outcome) {
    for (link, (one, other)) in short.heard.iter().zip(&other.heard).enumerate() {
        assert_alike_by_kind((Way::Stored, link), one, other);
        assert_eq!(one.end, other.end, "a store, connection {link}");
    }
    assert_eq!(short.lines, other.lines, "a store");
    assert_eq!(short.statistics, other.statistics, "a store");
    assert_eq!(short.census, other.census, "a store");
}

fn assert_alike_by_kind(whose: (Way, usize), one: &Heard, other: &Heard) {
    for (one, other) in by_kind(&one.bytes).iter().zip(&by_kind(&other.bytes)) {
        let same = one.iter().zip(other).take_while(|(one, other)| one == other).count();
        let next = |packets: &[&[u8]]| -> Option<Vec<u8>> {
            packets.get(same).map(|packet| packet.iter().take(32).copied().collect())
        };
        let (one, other) = (next(one), next(other));
        assert!(
            one.is_none() && other.is_none(),
            "{whose:?}: alike up to packet {same}, then {one:02x?} and {other:02x?}"
        );
    }
}

/// Returns the messages without RETAIN, those with it at QoS 0, those with it at QoS 1 or 2, and all other packets.
fn by_kind(bytes: &[u8]) -> [Vec<&[u8]>; 4] {
    let (mut kinds, mut rest) = ([const { Vec::new() }; 4], bytes);
    while let Ok(Status::Complete(cut)) = frame(rest, usize::MAX) {
        let (has_retain, has_qos) = (cut.first_byte & RETAIN > 0, cut.first_byte & QOS > 0);
        let kind = match (cut.first_byte >> 4, has_retain, has_qos) {
            (PUBLISH, false, _) => 0,
            (PUBLISH, true, false) => 1,
            (PUBLISH, true, true) => 2,
            _ => 3,
        };
        kinds[kind].push(cut.packet);
        rest = rest.split_at(cut.length).1;
    }
    kinds
}

/// Compares what can be compared if several packets come in one turn, and turns are small. Steps differ between the
/// ways, so turns end elsewhere, and work that waits for a later turn is done after other work. So an answer may come
/// before or after the publisher's own copy, and messages of different topics, at different QoS or of different publishers
/// may come in another order. A client whose connection ends in the meantime may get less.
///
/// All connections end in the same way, with the same lines in the log. Each gets the same answers in order, and the
/// same messages of each topic and QoS; if it has ended, only its answers are compared, as far as both got
/// any. Nothing is dropped, sent again or refused but by both.
pub(super) fn assert_alike_in_turns(way: Way, short: &Outcome, other: &Outcome) {
    for (link, (one, other)) in short.heard.iter().zip(&other.heard).enumerate() {
        assert_eq!(one.end, other.end, "{way:?}, connection {link}");
        let has_ended = one.end.is_some() || one.is_closed;
        let (one, other) = (Sorted::of(one), Sorted::of(other));
        if has_ended {
            assert!(one.begins_like(&other), "{way:?}, connection {link}: {one:02x?} and {other:02x?}");
        } else {
            assert_eq!(one, other, "{way:?}, connection {link}");
        }
    }
    assert_eq!(short.lines, other.lines, "{way:?}");
    assert_eq!(short.census, other.census, "{way:?}");
    assert_eq!(without_traffic(&short.statistics), without_traffic(&other.statistics), "{way:?}");
}

/// The statistics without those that depend on when connections end.
fn without_traffic(statistics: &Statistics) -> Statistics {
    let received = Traffic { bytes: 0, ..statistics.received };
    Statistics { received, sent: Traffic::default(), oversized: 0, ..statistics.clone() }
}

/// Whether messages are retained ones, their topic and their QoS.
type Kind = (bool, String, QoS);

/// What a connection received, without what depends on the order of packets of different kinds: Packet Identifiers,
/// Topic Aliases and repeats.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sorted {
    /// All packets but messages, in order.
    answers: Vec<Vec<u8>>,
    /// The properties and payloads of messages, each kind sorted.
    messages: BTreeMap<Kind, Vec<Vec<u8>>>,
}

impl Sorted {
    fn of(heard: &Heard) -> Self {
        let version = heard.version.unwrap_or(ProtocolVersion::V311);
        let (mut sorted, mut aliases, mut rest) = (Self::default(), BTreeMap::new(), heard.bytes.as_slice());
        while let Ok(Status::Complete(cut)) = frame(rest, usize::MAX) {
            rest = rest.split_at(cut.length).1;
            let Ok(Packet::Publish(publish)) = decode(&cut, version) else {
                sorted.answers.push(cut.packet.to_vec());
                continue;
            };
            let alias = publish.properties.topic_alias().unwrap_or(0);
            if let Some(topic) = publish.topic {
                aliases.insert(alias, topic.as_str().to_owned());
            }
            let topic = aliases[&alias].clone();
            let properties = publish.properties.encoded();
            let forwarded = properties.filter(|(property, _)| !matches!(property, Property::TopicAlias(_)));
            let mut content: Vec<u8> = forwarded.flat_map(|(_, encoded)| encoded).copied().collect();
            content.extend_from_slice(publish.payload);
            let kind = (publish.retain, topic, publish.delivery.qos());
            sorted.messages.entry(kind).or_default().push(content);
        }
        // Those of several publishers, which cannot be told apart, may come in any order.
        sorted.messages.values_mut().for_each(|contents| contents.sort());
        sorted
    }

    /// Whether the answers are the same as far as both received any. Those that wait for the store when a connection
    /// ends are not sent before its DISCONNECT.
    fn begins_like(&self, other: &Self) -> bool {
        let is_answer = |packet: &&Vec<u8>| packet.first().is_some_and(|first| first >> 4 != DISCONNECT);
        let [one, another] = [self, other].map(|sorted| sorted.answers.iter().filter(is_answer));
        one.zip(another).all(|(one, other)| one == other)
    }
}
