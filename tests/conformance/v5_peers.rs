//! Shared by the tests of 5.0.

use crate::wire::*;
use crate::world::{Peer, World};

/// A connected client with this Client Identifier, Clean Start and nothing else.
pub fn client(world: &mut World, client_identifier: &str) -> Peer {
    world.connect(Connect::new(V5, client_identifier).bytes())
}

/// A connected client that has subscribed.
pub fn subscriber(world: &mut World, client_identifier: &str, filter: &str, options: u8) -> Peer {
    let peer = client(world, client_identifier);
    subscribe_to(world, peer, filter, options);
    peer
}

/// Subscribes to a filter with an options byte; asserts that its QoS is granted and that nothing else comes.
pub fn subscribe_to(world: &mut World, peer: Peer, filter: &str, options: u8) {
    let suback = world.ask(peer, subscribe(V5, 9, &[], &[(filter, options)]));
    assert_eq!(suback, [0x90, 4, 0, 9, 0, options & 3]);
}

/// The parts of a CONNACK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnAck {
    pub session_present: bool,
    pub code: u8,
    pub properties: Vec<(u8, Vec<u8>)>,
}

impl ConnAck {
    pub fn new(packet: &[u8]) -> Self {
        assert_eq!(packet[0], 0x20, "a CONNACK is expected, not {packet:02x?}");
        let (length, body) = cut_variable_byte_integer(&packet[1..]);
        assert_eq!(length, body.len());
        assert!(body[0] <= 1, "acknowledge flags {:02x}", body[0]);
        let (length, block) = cut_variable_byte_integer(&body[2..]);
        assert_eq!(length, block.len());
        Self { session_present: body[0] == 1, code: body[1], properties: property_list(block) }
    }

    /// The value of a property as on the wire.
    pub fn property(&self, identifier: u8) -> Option<&[u8]> {
        self.properties.iter().find(|(other, _)| *other == identifier).map(|(_, value)| &**value)
    }
}

/// Opens a connection and sends `connect`; returns the CONNACK.
pub fn greet(world: &mut World, connect: &Connect) -> (Peer, ConnAck) {
    let peer = world.open();
    let connack = ConnAck::new(&world.ask(peer, connect.bytes()));
    (peer, connack)
}

/// Asserts that `connect` on a new connection is answered by a CONNACK with this code, and the connection closed.
pub fn assert_refused(world: &mut World, connect: impl AsRef<[u8]>, code: u8) {
    let connect = connect.as_ref();
    let peer = world.open();
    world.send(peer, connect);
    let packets = world.take(peer);
    assert_eq!(packets.len(), 1, "{connect:02x?} is answered by {packets:02x?}");
    let connack = ConnAck::new(&packets[0]);
    assert_eq!((connack.session_present, connack.code), (false, code), "{connect:02x?}");
    assert!(world.is_closed(peer), "{connect:02x?}");
}

/// Asserts that bytes end the connection with a DISCONNECT of this Reason Code, the only packet that comes.
pub fn assert_broken(world: &mut World, peer: Peer, bytes: impl AsRef<[u8]>, code: u8) -> Vec<u8> {
    let bytes = bytes.as_ref();
    world.send(peer, bytes);
    assert_disconnected(world, peer, code, &format!("{bytes:02x?}"))
}

/// Asserts that a DISCONNECT of this Reason Code has come, nothing else, and the connection is closed.
pub fn assert_disconnected(world: &mut World, peer: Peer, code: u8, why: &str) -> Vec<u8> {
    let mut packets = world.take(peer);
    assert_eq!(packets.len(), 1, "{why}: one DISCONNECT is expected, not {packets:02x?}");
    assert_eq!((packets[0][0], packets[0][2]), (0xE0, code), "{why}: {:02x?}", packets[0]);
    assert!(world.is_closed(peer), "{why}");
    packets.remove(0)
}

/// The one PUBLISH that has come.
pub fn take_publish(world: &mut World, peer: Peer) -> Received {
    received(V5, &world.take_one(peer))
}

/// The payloads of everything that has come, which must be PUBLISH packets.
pub fn take_payloads(world: &mut World, peer: Peer) -> Vec<Vec<u8>> {
    world.take(peer).iter().map(|packet| received(V5, packet).payload).collect()
}

/// The properties of a block, each with its value as on the wire.
pub fn property_list(mut block: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut list = Vec::new();
    while let Some((&identifier, rest)) = block.split_first() {
        let string = |at: usize| 2 + usize::from(u16::from_be_bytes([rest[at], rest[at + 1]]));
        let length = match identifier {
            0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28..=0x2A => 1,
            0x13 | 0x21..=0x23 => 2,
            0x02 | 0x11 | 0x18 | 0x27 => 4,
            0x0B => rest.len() - cut_variable_byte_integer(rest).1.len(),
            0x26 => string(0) + string(string(0)),
            _ => string(0),
        };
        let (value, behind) = rest.split_at(length);
        list.push((identifier, value.to_vec()));
        block = behind;
    }
    list
}

/// A property whose value is a string or binary data.
pub fn text_property(identifier: u8, text: impl AsRef<[u8]>) -> Vec<u8> {
    [vec![identifier], field(text)].concat()
}

/// A property whose value takes four bytes.
pub fn u32_property(identifier: u8, value: u32) -> Vec<u8> {
    [&[identifier][..], &value.to_be_bytes()].concat()
}

/// A property whose value takes two bytes.
pub fn u16_property(identifier: u8, value: u16) -> Vec<u8> {
    [&[identifier][..], &value.to_be_bytes()].concat()
}

pub fn user_property(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Vec<u8> {
    [vec![0x26], field(name), field(value)].concat()
}
