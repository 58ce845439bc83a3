//! Shared by the tests of 5.0 from the acknowledgements on: clients in the state at the start of a test, and answers.

use brooklet::core::access::{AccessControl, Answer, Client, Question, Verdict};
use brooklet::core::limits::Limits;
use brooklet::protocol::codec::{QoS, ReasonCode};

pub use crate::v5_peers::{
    assert_broken, assert_disconnected, client, subscribe_to, subscriber, take_payloads, take_publish,
};
use crate::wire::*;
use crate::world::{Peer, World};

/// The CONNECT of a client whose session outlives its connections by 1000 seconds.
pub fn persistent(client_identifier: &str) -> Connect {
    Connect::new(V5, client_identifier).resume().expiry(1000)
}

/// Such a client, with a new session and one subscription.
pub fn persistent_subscriber(world: &mut World, client_identifier: &str, filter: &str, options: u8) -> Peer {
    let (peer, is_present, packets) = arrive(world, &persistent(client_identifier));
    assert!(!is_present && packets.is_empty(), "{packets:02x?}");
    subscribe_to(world, peer, filter, options);
    peer
}

/// Such a client returns, and its session is present; returns what comes after the CONNACK.
pub fn back(world: &mut World, client_identifier: &str) -> (Peer, Vec<Vec<u8>>) {
    let (peer, is_present, packets) = arrive(world, &persistent(client_identifier));
    assert!(is_present, "the session is present");
    (peer, packets)
}

/// A client connects; returns whether its session was present and what comes after the CONNACK.
pub fn arrive(world: &mut World, connect: &Connect) -> (Peer, bool, Vec<Vec<u8>>) {
    let peer = world.open();
    world.send(peer, connect.bytes());
    let mut packets = world.take(peer);
    let connack = packets.remove(0);
    assert_eq!((connack[0], connack[3]), (0x20, 0), "CONNACK {connack:02x?}");
    (peer, connack[2] == 1, packets)
}

/// Publishes and completes the exchange of the QoS; there is a subscriber.
pub fn publish(world: &mut World, peer: Peer, topic: &str, payload: &[u8], qos: u8) {
    let packet = Publish::new(V5, topic, payload);
    match qos {
        0 => world.send(peer, packet.bytes()),
        1 => assert_eq!(world.ask(peer, packet.qos(1, 100).bytes()), acknowledge(0x40, 100)),
        _ => {
            assert_eq!(world.ask(peer, packet.qos(2, 100).bytes()), acknowledge(0x50, 100));
            assert_eq!(world.ask(peer, acknowledge(0x62, 100)), acknowledge(0x70, 100));
        }
    }
}

/// The Packet Identifier of a PUBLISH of QoS 1 or 2.
pub fn identifier(packet: &[u8]) -> u16 {
    received(V5, packet).packet_identifier.expect("QoS 1 or 2")
}

/// The payloads of PUBLISH packets.
pub fn payloads(packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
    packets.iter().map(|packet| received(V5, packet).payload).collect()
}

/// Asserts that nothing has come.
pub fn assert_silent(world: &mut World, peer: Peer) {
    assert_eq!(world.take(peer), [[0; 0]; 0]);
}

/// The text of a property block with a Reason String and nothing else.
pub fn lone_reason_string(block: &[u8]) -> &str {
    let (length, property) = cut_variable_byte_integer(block);
    assert_eq!((length, property[0]), (property.len(), 0x1F), "{block:02x?}");
    let text = &property[3..];
    assert_eq!(usize::from(u16::from_be_bytes([property[1], property[2]])), text.len());
    assert!(!text.is_empty());
    std::str::from_utf8(text).expect("a text")
}

/// Runs an exchange that ends with a packet from the broker, with clients of several Maximum Packet Sizes. The packet
/// has a Reason String, and no other property, unless it would be too large with that; then it is `bare`.
pub fn assert_explained_if_it_fits(bare: &[u8], exchange: impl Fn(Connect) -> Vec<u8>) {
    let limited = |size: usize| {
        let size = u32::try_from(size).expect("a small size").to_be_bytes();
        exchange(Connect::new(V5, "limited").property(&[&[0x27][..], &size].concat()))
    };
    let whole = limited(1000);
    assert_eq!(whole[2..bare.len()], bare[2..], "{whole:02x?} explains {bare:02x?}");
    lone_reason_string(&whole[bare.len()..]);
    assert_eq!(limited(whole.len()), whole);
    assert_eq!(limited(whole.len() - 1), bare);
}

/// Refuses topics that begin with `secret` and grants QoS 1 for filters that begin with `limited`.
struct Guard(ReasonCode);

impl AccessControl for Guard {
    fn ask(&mut self, _client: &Client<'_>, question: Question<'_>) -> Answer {
        let topic = match question {
            Question::Connect { .. } | Question::Stay => "",
            Question::Publish { topic, .. } | Question::Receive { topic } | Question::BeSource { topic } => {
                topic.as_str()
            }
            Question::Subscribe { filter, .. } => filter.pattern(),
        };
        Answer::Now(match topic.split('/').next() {
            Some("secret") => Verdict::Refused(self.0),
            Some("limited") => Verdict::GrantedAtMost(QoS::AtLeastOnce),
            _ => Verdict::Granted,
        })
    }
}

/// A world where topics below `secret` are refused and subscriptions below `limited` get at most QoS 1.
pub fn guarded_world() -> World {
    World::with(Limits::default(), Guard(ReasonCode::NotAuthorized))
}
