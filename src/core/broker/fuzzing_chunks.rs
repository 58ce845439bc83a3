//! The body of the fuzz target for cut input: one stream of bytes, handed to one broker whole and to another in pieces,
//! must be answered the same. It panics if it is not.

use super::fuzzing_packets as packets;
use super::{Broker, Census, Effect};
use crate::base::fuzzing::Input;
use crate::base::peer::Peer;
use crate::base::time::Time;
use crate::core::access::AllowAll;
use crate::core::limits::Limits;
use crate::core::listener::ListenerId;
use crate::core::slots::ConnectionId;
use crate::protocol::codec::ProtocolVersion;

/// The most packets of one stream: so few that no outbox fills up to the point at which the time of a write matters.
const PACKETS_MAXIMUM: usize = 16;

/// The client that gets every message at QoS 2.
const LISTENER: &[u8] = b"\x10\x14\0\x04MQTT\x04\x02\0\0\0\x08listener\x82\x06\0\x01\0\x01#\x02";

/// What a broker did.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    sent: Vec<u8>,
    /// What it sent to another client, which gets every message.
    heard: Vec<u8>,
    is_ended: bool,
    census: Census,
}

/// The first bytes say where the stream is cut, the rest what it is.
pub fn cut(data: &[u8]) {
    let mut input = Input::new(data);
    let cuts = input.bytes(8);
    let stream = stream(&mut input);
    if stream.is_empty() {
        // There is nothing to cut.
        return;
    }
    let whole = outcome(std::iter::once(stream.as_slice()));
    let mut rest = stream.as_slice();
    let mut lengths = cuts.iter().map(|&length| usize::from(length)).cycle();
    let pieces = std::iter::from_fn(|| {
        let (piece, behind) = rest.split_at(lengths.next().unwrap_or(0).max(1).min(rest.len()));
        rest = behind;
        (!piece.is_empty()).then_some(piece)
    });
    let cut = outcome(pieces);
    let length = whole.sent.iter().zip(&cut.sent).take_while(|(one, other)| one == other).count();
    assert!(
        cut == whole,
        "cut by {cuts:?}: {:?}, {:?}; sent alike up to {length}, then {:02x?} and {:02x?}",
        (whole.is_ended, whole.census),
        (cut.is_ended, cut.census),
        whole.sent.iter().skip(length).take(32).collect::<Vec<_>>(),
        cut.sent.iter().skip(length).take(32).collect::<Vec<_>>(),
    );
}

/// Returns a CONNECT and some packets, with faults now and then.
fn stream(input: &mut Input<'_>) -> Vec<u8> {
    let version = input.pick(&[ProtocolVersion::V5, ProtocolVersion::V311, ProtocolVersion::V31]);
    let mut stream = Vec::new();
    if !input.once_in(16) {
        packets::connect(input, version, &mut stream);
    }
    for _ in 0..PACKETS_MAXIMUM {
        if input.is_empty() {
            break;
        }
        let begin = stream.len();
        packets::packet(input, version, &mut stream);
        if input.once_in(16) {
            let at = begin + input.below(256) % (stream.len() - begin).max(1);
            let fault = input.byte();
            stream.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= fault);
        }
    }
    stream
}

fn outcome<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Outcome {
    let now = Time::ZERO;
    // When retained messages are sent depends on the cuts, so there are none.
    let limits = Limits { retained_count: 0, ..Limits::default() };
    let mut broker = Broker::new(limits, Box::new(AllowAll), 1, now);
    let id = broker.accept(Peer::Local, ListenerId::default(), now).expect("there is room");
    let mut outcome =
        Outcome { sent: Vec::new(), heard: Vec::new(), is_ended: false, census: broker.census() };
    let listener = broker.accept(Peer::Local, ListenerId::default(), now).expect("there is room");
    broker.received(listener, LISTENER, now);
    for piece in pieces {
        if outcome.is_ended {
            break;
        }
        broker.received(id, piece, now);
        settle(&mut broker, id, &mut outcome);
        broker.check_invariants();
    }
    outcome.census = broker.census();
    outcome
}

fn settle(broker: &mut Broker, id: ConnectionId, outcome: &mut Outcome) {
    while broker.has_work() {
        for dirty in broker.take_dirty(Vec::new()) {
            let written = if dirty == id { &mut outcome.sent } else { &mut outcome.heard };
            broker.write_to(dirty, written, Time::ZERO).expect("a vector takes all");
        }
        while let Some(effect) = broker.next_effect() {
            match effect {
                Effect::Close(ended) | Effect::Drop(ended) => outcome.is_ended |= ended == id,
                Effect::Resume(_) => {
                    broker.resume(id, Time::ZERO);
                }
                Effect::Listen(silent) => broker.heard_out(silent, Time::ZERO),
            }
        }
        broker.tick(Time::ZERO, 1000);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn any_stream_is_answered_the_same_however_it_is_cut() {
        crate::base::fuzzing::try_out("chunked", 400, super::cut);
    }

    /// Returns the input of a client that subscribes to t, and these packets.
    fn stream(receive_maximum: u8, qos: u8, packets: &[u8]) -> Vec<u8> {
        let mut stream = b"\x10\x11\0\x04MQTT\x05\x02\0\0\x03\x21\0".to_vec();
        stream.extend_from_slice(&[receive_maximum, 0, 1, b'c']);
        stream.extend_from_slice(b"\x82\x07\0\x01\0\0\x01t");
        stream.push(qos);
        stream.extend_from_slice(packets);
        stream
    }

    fn assert_answered_alike(stream: &[u8], lengths: &[usize]) {
        let whole = super::outcome(std::iter::once(stream));
        assert!(!whole.is_ended && whole.sent.len() >= 400 && whole.heard.len() > 500);
        for &length in lengths {
            assert!(super::outcome(stream.chunks(length)) == whole, "pieces of {length}");
        }
    }

    /// Several messages of one topic, or PUBACKs, are processed at once; but not if one of them releases a packet that
    /// belongs before the answer to the next, or that the next one answers.
    #[test]
    fn runs_are_answered_the_same_however_they_are_cut() {
        for (topic, receive_maximum) in [(b't', 1), (b't', 200), (b'u', 200)] {
            let publishes = (1..=100).flat_map(|identifier| [0x32, 7, 0, 1, topic, 0, identifier, 0, b'x']);
            let pubacks = (1..=50).flat_map(|identifier| [0x40, 2, 0, identifier]);
            let packets: Vec<u8> = publishes.chain(pubacks).collect();
            assert_answered_alike(&stream(receive_maximum, 1, &packets), &[1, 9, 30]);
        }
    }

    /// The same for all packets of QoS 2, with repeats of some and unknown identifiers in between.
    #[test]
    fn runs_of_qos_2_are_answered_the_same_however_they_are_cut() {
        for (topic, receive_maximum) in [(b't', 1), (b't', 200), (b'u', 200)] {
            let identifiers = || (1..=100).flat_map(|number| [number, (number / 10).max(1)]);
            let publishes = identifiers().flat_map(|number| [0x34, 7, 0, 1, topic, 0, number, 0, b'x']);
            let answers = |first: u8| identifiers().flat_map(move |number| [first, 2, 0, number]);
            let packets: Vec<u8> =
                publishes.chain(answers(0x62)).chain(answers(0x50)).chain(answers(0x62)).collect();
            let completes: Vec<u8> = if receive_maximum > 1 { answers(0x70).collect() } else { Vec::new() };
            assert_answered_alike(
                &stream(receive_maximum, 2, &[packets, completes].concat()),
                &[1, 4, 9, 30],
            );
        }
    }

    /// A PUBACK for a message of QoS 2 ends the connection, however many valid ones come before it.
    #[test]
    fn an_answer_out_of_place_ends_a_run() {
        let publishes: Vec<u8> = [(0x32, 1), (0x32, 2), (0x34, 3)]
            .into_iter()
            .flat_map(|(first, identifier)| [first, 7, 0, 1, b't', 0, identifier, 0, b'x'])
            .collect();
        let pubacks: Vec<u8> = (1..=3).flat_map(|number| [0x40, 2, 0, number]).collect();
        let stream = stream(200, 2, &[publishes, pubacks].concat());
        let whole = super::outcome(std::iter::once(&*stream));
        assert!(whole.is_ended && !super::outcome(std::iter::once(&stream[..stream.len() - 4])).is_ended);
        assert!(super::outcome(stream.chunks(4)) == whole);
    }
}
