//! Clients and packets in large numbers.

use crate::server::{Peer, Server};
use crate::wire::{Connect, DISCONNECT, Publish, V5, subscribe};

/// The CONNECT of a 5.0 client whose session ends with its connection.
pub fn clean(name: &str) -> Vec<u8> {
    Connect::new(V5, name).bytes()
}

/// The CONNECT of a 5.0 client whose session outlives its connection.
pub fn lasting(name: &str) -> Vec<u8> {
    Connect::new(V5, name).resume().expiry(3_600).bytes()
}

/// Connects `count` clients, each of which subscribes to this filter at this QoS.
pub fn subscribers(server: &mut Server, count: usize, filter: &str, qos: u8) -> Vec<Peer> {
    let subscribe = subscribe(V5, 1, &[], &[(filter, qos)]);
    server.connect_all((0..count).map(|number| [clean(&format!("s{number}")), subscribe.clone()].concat()))
}

/// The same with sessions that outlive their connections.
pub fn lasting_subscribers(server: &mut Server, count: usize, filter: &str, qos: u8) -> Vec<Peer> {
    let subscribe = subscribe(V5, 1, &[], &[(filter, qos)]);
    server.connect_all((0..count).map(|number| [lasting(&format!("s{number}")), subscribe.clone()].concat()))
}

/// A client that only publishes.
pub fn publisher(server: &mut Server) -> Peer {
    server.connect(clean("publisher"))
}

/// Messages for these topics in turn, with their numbers from one on as payloads and, above QoS 0, as Packet
/// Identifiers.
pub fn burst(topics: &[&str], qos: u8, count: u16) -> Vec<u8> {
    let topics = topics.iter().cycle();
    let publish = |(number, topic): (u16, &&str)| {
        let publish = Publish::new(V5, topic, number.to_string().as_bytes());
        if qos == 0 { publish.bytes() } else { publish.qos(qos, number).bytes() }
    };
    (1..=count).zip(topics).flat_map(publish).collect()
}

/// One SUBSCRIBE at this QoS to these filters.
pub fn subscribe_all(packet_identifier: u16, filters: &[String], qos: u8) -> Vec<u8> {
    let filters: Vec<(&str, u8)> = filters.iter().map(|filter| (filter.as_str(), qos)).collect();
    subscribe(V5, packet_identifier, &[], &filters)
}

/// The numbers from one on, as text.
pub fn numbers(count: usize) -> Vec<String> {
    (1..=count).map(|number| number.to_string()).collect()
}

/// Retains a message for each topic, at QoS 1 and with the topic itself as payload.
pub fn retain(server: &mut Server, topics: &[String]) {
    let publisher = server.connect(clean("source"));
    for chunk in topics.chunks(1_000) {
        let publish = |topic: &String| Publish::new(V5, topic, topic.as_bytes()).qos(1, 1).retain().bytes();
        server.send(publisher, chunk.iter().flat_map(publish).collect::<Vec<u8>>());
        server.settle();
    }
    assert_eq!(server.broker.census().retained, topics.len());
    server.send(publisher, DISCONNECT);
    server.settle();
}

/// Asserts that a SUBACK or UNSUBACK of 5.0 has this many codes, and that all of them are this one.
pub fn assert_codes(packet: &[u8], first_byte: u8, count: usize, code: u8) {
    assert_eq!(packet[0], first_byte, "{:02x?}", &packet[..packet.len().min(16)]);
    // The length of the packet, the Packet Identifier and an empty property block come first.
    let codes = &packet[packet.len() - count..];
    assert!(codes.iter().all(|&found| found == code), "one of the codes is different");
    let (length, body) = crate::wire::cut_variable_byte_integer(&packet[1..]);
    assert_eq!((length, body.len()), (count + 3, count + 3));
}
