//! Shared by the tests of MQTT 3.1.1: clients of that version in the state at the start of a test.

use brooklet::core::access::{AccessControl, Answer, Client, Question, Verdict};

use crate::wire::*;
use crate::world::{Peer, World};

/// A way in which a connection ends.
pub type End = fn(&mut World, Peer);

/// A client with CleanSession 1.
pub fn client(world: &mut World, client_identifier: &str) -> Peer {
    world.connect(Connect::new(V311, client_identifier).bytes())
}

/// A client with CleanSession 0 whose session is new.
pub fn persistent_client(world: &mut World, client_identifier: &str) -> Peer {
    let (peer, is_present, packets) = back(world, client_identifier);
    assert!(!is_present && packets.is_empty(), "{packets:02x?}");
    peer
}

/// A client with CleanSession 0 connects; returns whether its session was present and what came after the CONNACK.
pub fn back(world: &mut World, client_identifier: &str) -> (Peer, bool, Vec<Vec<u8>>) {
    let peer = world.open();
    world.send(peer, Connect::new(V311, client_identifier).resume().bytes());
    let mut packets = world.take(peer);
    let connack = packets.remove(0);
    assert!(matches!(*connack, [0x20, 2, 0 | 1, 0]), "CONNACK {connack:02x?}");
    (peer, connack[2] == 1, packets)
}

/// Subscribes and takes the SUBACK, after which nothing may come.
pub fn listen(world: &mut World, peer: Peer, filter: &str, qos: u8) {
    assert_eq!(world.ask(peer, subscribe(V311, 9, &[], &[(filter, qos)])), [0x90, 3, 0, 9, qos]);
}

/// A client with CleanSession 1 and one subscription.
pub fn subscriber(world: &mut World, client_identifier: &str, filter: &str, qos: u8) -> Peer {
    let peer = client(world, client_identifier);
    listen(world, peer, filter, qos);
    peer
}

/// A client with CleanSession 0, a new session and one subscription.
pub fn persistent_subscriber(world: &mut World, client_identifier: &str, filter: &str, qos: u8) -> Peer {
    let peer = persistent_client(world, client_identifier);
    listen(world, peer, filter, qos);
    peer
}

/// Publishes with a client that connects for this message only, and completes the exchange.
pub fn publish(world: &mut World, topic: &str, payload: &[u8], qos: u8) {
    publish_as(world, Publish::new(V311, topic, payload), qos);
}

/// The same with RETAIN.
pub fn retain(world: &mut World, topic: &str, payload: &[u8], qos: u8) {
    publish_as(world, Publish::new(V311, topic, payload).retain(), qos);
}

fn publish_as(world: &mut World, publish: Publish, qos: u8) {
    let peer = client(world, "publisher of one");
    match qos {
        0 => world.send(peer, publish.bytes()),
        1 => assert_eq!(world.ask(peer, publish.qos(1, 1).bytes()), acknowledge(0x40, 1)),
        _ => {
            assert_eq!(world.ask(peer, publish.qos(2, 1).bytes()), acknowledge(0x50, 1));
            assert_eq!(world.ask(peer, acknowledge(0x62, 1)), acknowledge(0x70, 1));
        }
    }
    world.send(peer, DISCONNECT);
    assert!(world.take(peer).is_empty());
}

/// The PUBLISH packets that came, with no other packets among them.
pub fn messages(world: &mut World, peer: Peer) -> Vec<Received> {
    world.take(peer).iter().map(|packet| received(V311, packet)).collect()
}

/// The one PUBLISH that came, with no other packets.
pub fn message(world: &mut World, peer: Peer) -> Received {
    received(V311, &world.take_one(peer))
}

/// The payloads of the PUBLISH packets that came, as text.
pub fn payloads(world: &mut World, peer: Peer) -> Vec<String> {
    let texts = messages(world, peer).into_iter().map(|message| message.payload);
    texts.map(|payload| String::from_utf8(payload).expect("text")).collect()
}

/// Asserts that the broker closed the connection without sending a packet.
#[track_caller]
pub fn assert_closed_silently(world: &mut World, peer: Peer, what: &str) {
    assert!(world.is_closed(peer), "not closed: {what}");
    let packets = world.take(peer);
    assert!(packets.is_empty(), "{packets:02x?} was sent: {what}");
}

/// Asserts that the connection is open and no packet has come.
#[track_caller]
pub fn assert_quiet(world: &mut World, peer: Peer, what: &str) {
    assert!(!world.is_closed(peer), "closed: {what}");
    let packets = world.take(peer);
    assert!(packets.is_empty(), "{packets:02x?} was sent: {what}");
}

/// Access control by a function.
pub struct Rule<F>(pub F);

impl<F: FnMut(&Client<'_>, Question<'_>) -> Verdict> AccessControl for Rule<F> {
    fn ask(&mut self, client: &Client<'_>, question: Question<'_>) -> Answer {
        Answer::Now((self.0)(client, question))
    }
}
