//! The order of messages for very many clients: of each publisher and topic, and of repeated ones.

use crate::bystander::Bystander;
use crate::clients::{clean, lasting, subscribers};
use crate::server::{Peer, Server};
use crate::wire::{PINGREQ, Publish, V5, acknowledge};

/// Messages of one publisher for topics in turn, which show their publisher and their order.
fn numbered(name: &str, topics: &[&str], qos: u8, count: u16) -> Vec<u8> {
    let publish = |number: u16| {
        let topic = topics[usize::from(number) % topics.len()];
        let publish = Publish::new(V5, topic, format!("{name}{number}").as_bytes());
        if qos == 0 { publish.bytes() } else { publish.qos(qos, number).bytes() }
    };
    (1..=count).flat_map(publish).collect()
}

fn texts_of(server: &mut Server, peer: Peer) -> Vec<String> {
    let packets = server.take(peer).into_iter().filter(|packet| packet[0] >> 4 == 3);
    let texts = packets.map(|packet| crate::wire::received(V5, &packet).payload);
    texts.map(|text| String::from_utf8(text).expect("text")).collect()
}

/// Two publishers at once, each for two topics: every subscriber gets the messages of each in order.
fn two_publishers(qos: u8, clients: usize, count: u16) {
    let mut server = Server::new();
    let subscribers = subscribers(&mut server, clients, "t/+", qos);
    server.acknowledge_all(&subscribers);
    let publishers = server.connect_all(["a", "b"].map(clean));
    server.acknowledge_all(&publishers);
    let mut bystander = Bystander::patient(&mut server, 3);
    for (&publisher, name) in publishers.iter().zip(["a", "b"]) {
        let bytes = numbered(name, &["t/1", "t/2"], qos, count);
        // In two pieces, of which the second comes while the first is being processed.
        let (first, second) = bytes.split_at(bytes.len() / 3);
        server.send(publisher, first);
        server.turn();
        server.send(publisher, second);
    }
    server.settle_beside(&mut bystander);
    for peer in subscribers {
        let texts = texts_of(&mut server, peer);
        assert_eq!(texts.len(), 2 * usize::from(count), "each once");
        for name in ["a", "b"] {
            let of_one = texts.iter().filter(|text| text.starts_with(name)).cloned();
            assert!(of_one.eq((1..=count).map(|number| format!("{name}{number}"))), "in order");
        }
    }
    server.broker.check_invariants();
}

#[test]
fn two_publishers_at_qos_0() {
    two_publishers(0, 1_500, 30);
}

#[test]
fn two_publishers_at_qos_1() {
    two_publishers(1, 700, 30);
}

#[test]
fn two_publishers_at_qos_2() {
    two_publishers(2, 500, 20);
}

/// The client returns during its QoS 2 message, again and again, and sends it again each time.
#[test]
fn a_qos_2_publisher_is_taken_over_in_the_middle() {
    let mut server = Server::with_limits(|limits| limits.steps_per_turn = 2_048);
    let subscribers = subscribers(&mut server, 2_000, "t", 1);
    let message = Publish::new(V5, "t", b"one").qos(2, 7);
    let mut publisher = server.connect(lasting("p"));
    server.send(publisher, message.bytes());
    server.turn();
    for _ in 0..3 {
        assert!(server.take(publisher).is_empty(), "it is still on its way");
        publisher = server.open(lasting("p"));
        server.send(publisher, message.clone().dup().bytes());
        server.turn();
        let connack = server.take(publisher);
        assert_eq!((connack.len(), connack[0][0], connack[0][2]), (1, 0x20, 1), "the session is there");
    }
    server.send(publisher, Publish::new(V5, "t", b"two").qos(2, 8).bytes());
    server.send(publisher, PINGREQ);
    server.settle();
    let answers = server.take(publisher);
    assert_eq!(answers, [vec![0x50, 2, 0, 7], vec![0x50, 2, 0, 8], vec![0xD0, 0]]);
    server.send(publisher, [acknowledge(0x62, 7), acknowledge(0x62, 8)].concat());
    server.settle();
    assert_eq!(server.take(publisher), [vec![0x70, 2, 0, 7], vec![0x70, 2, 0, 8]]);
    for peer in subscribers {
        assert_eq!(server.take_texts(peer), ["one", "two"]);
    }
    server.broker.check_invariants();
}

/// A message of one client does not wait for that of another, which has very many recipients.
#[test]
fn a_small_message_passes_a_large_one() {
    let mut server = Server::with_limits(|limits| limits.steps_per_turn = 2_048);
    let subscribers = subscribers(&mut server, 2_000, "t", 1);
    let publisher = server.connect(clean("p"));
    let mut bystander = Bystander::new(&mut server);
    server.send(publisher, Publish::new(V5, "t", b"x").qos(1, 7).bytes());
    server.settle_beside(&mut bystander);
    for peer in subscribers {
        assert_eq!(server.take_texts(peer), ["x"]);
    }
    server.broker.check_invariants();
}
