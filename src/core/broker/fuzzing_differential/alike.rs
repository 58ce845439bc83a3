//! Comparisons of outcomes that are not the same to the byte, each as strict as the ways allow.

use std::collections::BTreeMap;

use super::bench::{Heard, Outcome, Way};
use super::{assert_same, without_topics};
use crate::core::broker::{Statistics, Traffic};
use crate::protocol::codec::{Packet, PacketIdentifier, Property, Publish, Status, decode, frame};

/// The places of two of the [kinds](by_kind).
const RETAINED_AT_MOST_ONCE: usize = 1;
const ANSWERS: usize = 3;

/// The upper half of the first byte of DISCONNECT.
const DISCONNECT: u8 = 14;

/// Compares what must be the same if bytes come one by one: everything but how many of them came after the broker had
/// ended the connection.
pub(super) fn assert_same_but_late_bytes(way: Way, short: &Outcome, mut other: Outcome) {
    other.statistics.received.bytes = short.statistics.received.bytes;
    assert_same(way, short, &other);
}

/// An answer, but that a message without subscribers is answered like others: whether a client is still subscribed
/// depends on whose packets come first.
fn answer(packet: &[u8]) -> Vec<u8> {
    const NO_MATCHING_SUBSCRIBERS: u8 = 0x10;
    match *packet {
        [first @ (0x40 | 0x50), 3, high, low, NO_MATCHING_SUBSCRIBERS] => vec![first, 2, high, low],
        _ => packet.to_vec(),
    }
}

/// Compares what [`assert_alike_in_turns`] does, except how many messages expired. One whose Message Expiry Interval is 0
/// expires as soon as its distribution continues in a later turn, so the number depends on where turns end.
///
/// It depends on that also if packets come one by one, but only one of the brokers asks an access control: questions take
/// steps. When time passes, several things may happen at once, and what is left for a later turn differs: the order in
/// which a client gets things, and whether a session that ends finds another member of a group for an expired message.
pub(super) fn assert_alike_but_expired(way: Way, short: &Outcome, mut other: Outcome) {
    other.statistics.expired = short.statistics.expired;
    assert_alike_in_turns(way, short, &other);
}

/// Compares what can be compared if sessions are stored. Messages that were queued in the store are sent when they have
/// been read; until then answers and retained messages of QoS 0 go ahead of them, and queued ones may be retained messages
/// as well. Each of the four kinds keeps its own order, but that of QoS 0 with RETAIN, which may be of both sorts. Different
/// messages may be dropped as well, so the limits must allow that none is. A client whose connection ends may have received
/// less by then, because its queue had not been read or an answer came earlier.
///
/// Nothing is compared if a message went ahead of another one whose Packet Identifier it took, because clients have then
/// answered other messages than they meant to.
pub(super) fn assert_alike_from_store(short: &Outcome, other: &Outcome) {
    let mut heard = short.heard.iter().zip(&other.heard);
    if heard.any(|(one, other)| has_other_identifiers(one, other)) {
        return;
    }
    for (link, (one, other)) in short.heard.iter().zip(&other.heard).enumerate() {
        assert_alike_by_kind((Way::Stored, link), one, other);
        assert_eq!(one.end, other.end, "a store, connection {link}");
    }
    assert_eq!(without_topics(&short.lines), without_topics(&other.lines), "a store");
    let has_ended = short.heard.iter().any(Heard::has_ended);
    let [one, another] = [short, other].map(|outcome| apart_from_store(&outcome.statistics, has_ended));
    assert_eq!(one, another, "a store");
    assert_eq!(short.census, other.census, "a store");
}

/// The statistics without those that depend on where a queue is. A message that expires in the store is dropped when the
/// queue is read; one in memory when it is its turn, which may never come. A Topic Alias makes the second message on a
/// topic shorter, and of two messages of different kinds either may be the second. What was sent on a connection before
/// it ended may be more or less.
fn apart_from_store(statistics: &Statistics, has_ended: bool) -> Statistics {
    if has_ended {
        return Statistics { expired: 0, ..without_traffic(statistics) };
    }
    let sent = Traffic { bytes: 0, ..statistics.sent };
    Statistics { sent, expired: 0, ..statistics.clone() }
}

fn assert_alike_by_kind(whose: (Way, usize), one: &Heard, other: &Heard) {
    let may_be_less = one.has_ended();
    let [mut one, mut other] = [by_kind(one), by_kind(other)];
    for kinds in [&mut one, &mut other] {
        kinds[RETAINED_AT_MOST_ONCE].sort();
        if may_be_less {
            kinds[RETAINED_AT_MOST_ONCE].clear();
            kinds[ANSWERS]
                .retain(|packet| !matches!(packet, Received::Answer(bytes) if bytes[0] >> 4 == DISCONNECT));
        }
    }
    for (one, other) in one.iter().zip(&other) {
        let same = one.iter().zip(other).take_while(|(one, other)| one == other).count();
        let next = |packets: &[Received]| -> Option<String> {
            packets.get(same).map(|packet| format!("{packet:02x?}").chars().take(300).collect())
        };
        let (one, other) = (next(one), next(other));
        let is_alike = one.is_none() && other.is_none() || may_be_less && (one.is_none() || other.is_none());
        assert!(is_alike, "{whose:?}: alike up to packet {same}, then {one:?} and {other:?}");
    }
}

/// A packet that a connection received.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Received {
    Message(Message),
    Answer(Vec<u8>),
}

/// A message without its Topic Alias, which depends on packets of other kinds before it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Message {
    /// The flags are in it.
    first_byte: u8,
    topic: String,
    identifier: Option<u16>,
    /// The other properties, and the payload.
    content: Vec<u8>,
}

impl Message {
    const fn has_retain(&self) -> bool {
        self.first_byte & 1 != 0
    }

    /// The level of the QoS.
    const fn qos(&self) -> u8 {
        self.first_byte >> 1 & 3
    }
}

/// Returns the packets that a connection received.
fn packets(heard: &Heard) -> Vec<Received> {
    let (mut packets, mut aliases, mut rest) = (Vec::new(), BTreeMap::new(), heard.bytes.as_slice());
    while let Ok(Status::Complete(cut)) = frame(rest, usize::MAX) {
        rest = rest.split_at(cut.length).1;
        packets.push(match decode(&cut, heard.version()) {
            Ok(Packet::Publish(publish)) => {
                Received::Message(message(cut.first_byte, &publish, &mut aliases))
            }
            _ => Received::Answer(cut.packet.to_vec()),
        });
    }
    packets
}

/// Returns a message with the topic that its Topic Alias stands for.
fn message(first_byte: u8, publish: &Publish<'_>, aliases: &mut BTreeMap<u16, String>) -> Message {
    let alias = publish.properties.topic_alias().unwrap_or(0);
    if let Some(topic) = publish.topic {
        aliases.insert(alias, topic.as_str().to_owned());
    }
    let properties = publish.properties.encoded();
    let forwarded = properties.filter(|(property, _)| !matches!(property, Property::TopicAlias(_)));
    let mut content: Vec<u8> = forwarded.flat_map(|(_, encoded)| encoded).copied().collect();
    content.extend_from_slice(publish.payload);
    let identifier = publish.delivery.packet_identifier().map(PacketIdentifier::value);
    Message { first_byte, topic: aliases[&alias].clone(), identifier, content }
}

/// Returns the messages without RETAIN, those with it at QoS 0, those with it at QoS 1 or 2, and all other packets.
fn by_kind(heard: &Heard) -> [Vec<Received>; 4] {
    let mut kinds = [const { Vec::new() }; 4];
    for packet in packets(heard) {
        let kind = match &packet {
            Received::Message(message) if !message.has_retain() => 0,
            Received::Message(message) if message.qos() == 0 => RETAINED_AT_MOST_ONCE,
            Received::Message(_) => 2,
            Received::Answer(_) => ANSWERS,
        };
        kinds[kind].push(packet);
    }
    kinds
}

/// Compares what can be compared if several packets come in one turn, and turns are small. Steps differ between the
/// ways, so turns end elsewhere, and work that waits for a later turn is done after other work. So an answer may come
/// before or after the publisher's own copy, and messages of different topics, at different QoS or of different publishers
/// may come in another order. So may answers of different kinds: what a session sends again has turns of its own. Clients
/// may be disconnected in another order, and one whose connection ends in the meantime may get less.
///
/// All connections end in the same way, with the same lines in the log. Each gets the same answers of each kind in order,
/// and the same messages of each topic and QoS, except retained ones. If it has ended, only its answers are compared, as
/// far as both got any. Nothing is dropped or refused but by both.
///
/// The Packet Identifiers of messages depend on their order. Where they differ, clients have answered other messages than
/// they meant to, and nothing is compared. A message at QoS 1 or 2 that is lost in small turns is therefore not found here,
/// but only where turns are large or calm.
pub(super) fn assert_alike_in_turns(way: Way, short: &Outcome, other: &Outcome) {
    let mut heard = short.heard.iter().zip(&other.heard);
    if heard.any(|(one, other)| identified(one) != identified(other)) {
        return;
    }
    for (link, (one, other)) in short.heard.iter().zip(&other.heard).enumerate() {
        assert_eq!(one.end, other.end, "{way:?}, connection {link}");
        let has_ended = one.has_ended();
        let (one, other) = (Sorted::of(one), Sorted::of(other));
        if has_ended {
            assert!(one.begins_like(&other), "{way:?}, connection {link}: {one:02x?} and {other:02x?}");
        } else {
            assert_eq!(one, other, "{way:?}, connection {link}");
        }
    }
    assert_eq!(sorted(&short.lines), sorted(&other.lines), "{way:?}");
    assert_eq!(short.census, other.census, "{way:?}");
    assert_eq!(without_traffic(&short.statistics), without_traffic(&other.statistics), "{way:?}");
}

/// Whether messages came with other Packet Identifiers: both connections got some that the other one did not get.
fn has_other_identifiers(one: &Heard, other: &Heard) -> bool {
    let (one, other) = (identified(one), identified(other));
    let lacks = |some: &[Message], more: &[Message]| {
        let mut more = more.iter();
        !some.iter().all(|message| more.any(|another| another == message))
    };
    lacks(&one, &other) && lacks(&other, &one)
}

/// The messages that came with a Packet Identifier, sorted.
fn identified(heard: &Heard) -> Vec<Message> {
    let messages = packets(heard).into_iter().filter_map(|packet| match packet {
        Received::Message(message) => message.identifier.is_some().then_some(message),
        Received::Answer(_) => None,
    });
    let mut messages: Vec<Message> = messages.collect();
    messages.sort();
    messages
}

fn sorted(lines: &[String]) -> Vec<&str> {
    let mut lines = without_topics(lines);
    lines.sort();
    lines
}

/// The statistics without those that depend on when connections end, and on what has been sent by then.
fn without_traffic(statistics: &Statistics) -> Statistics {
    let received = Traffic { bytes: 0, ..statistics.received };
    Statistics { received, sent: Traffic::default(), oversized: 0, redelivered: 0, ..statistics.clone() }
}

/// What a connection received, without what depends on the order of packets of different kinds: Packet Identifiers,
/// Topic Aliases and repeats.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sorted {
    /// All packets but messages by the upper half of their first byte, each kind in order [MQTT-4.6.0-2] to
    /// [MQTT-4.6.0-4].
    answers: BTreeMap<u8, Vec<Vec<u8>>>,
    /// The properties and payloads of the messages of each topic and QoS, sorted.
    messages: BTreeMap<(String, u8), Vec<Vec<u8>>>,
}

impl Sorted {
    fn of(heard: &Heard) -> Self {
        let mut sorted = Self::default();
        for packet in packets(heard) {
            match packet {
                Received::Answer(bytes) => {
                    sorted.answers.entry(bytes[0] >> 4).or_default().push(answer(&bytes));
                }
                // It may have been replaced before its turn comes.
                Received::Message(message) if message.has_retain() => {}
                Received::Message(message) => {
                    let kind = (message.topic.clone(), message.qos());
                    sorted.messages.entry(kind).or_default().push(message.content);
                }
            }
        }
        // Those of several publishers, which cannot be told apart, may come in any order.
        sorted.messages.values_mut().for_each(|contents| contents.sort());
        sorted
    }

    /// Whether the answers are the same as far as both received any. Those that wait for the store when a connection
    /// ends are not sent before its DISCONNECT.
    fn begins_like(&self, other: &Self) -> bool {
        self.answers.iter().filter(|&(&kind, _)| kind != DISCONNECT).all(|(kind, answers)| {
            let others = other.answers.get(kind).map_or(&[][..], Vec::as_slice);
            answers.iter().zip(others).all(|(one, other)| one == other)
        })
    }
}
