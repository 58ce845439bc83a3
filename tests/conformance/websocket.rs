//! Chapter 6: WebSocket as a transport. The frames of a client pass through `protocol::websocket` to the core, as in
//! the server.

use std::rc::Rc;

use brooklet::protocol::websocket::{Demands, Outcome, WebSocket};

use crate::wire::{Connect, Publish, subscribe};
use crate::world::{Peer, World};

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;

const VERSIONS: [u8; 2] = [4, 5];

/// A WebSocket client of the core.
struct Client {
    world: World,
    peer: Peer,
    socket: WebSocket,
}

impl Client {
    fn new() -> Self {
        let mut world = World::new();
        let peer = world.open();
        let demands = Rc::new(Demands { origins: Vec::new(), request_maximum: 4096 });
        Self { world, peer, socket: WebSocket::new(demands, 100_000) }
    }

    /// Performs the handshake with this offer of subprotocols; returns the answer of the server.
    fn shake_hands(&mut self, offer: &str) -> (String, Outcome) {
        let request = format!(
            "GET /mqtt HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n{offer}\r\n"
        );
        let outcome = self.send(&request.into_bytes());
        (String::from_utf8(self.take_head()).expect("the answer is text"), outcome)
    }

    fn open() -> Self {
        let mut client = Self::new();
        let (answer, _) = client.shake_hands("Sec-WebSocket-Protocol: mqtt\r\n");
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        client
    }

    fn send(&mut self, bytes: &[u8]) -> Outcome {
        let mut buffer = bytes.to_vec();
        let received = self.socket.receive(&mut buffer);
        if received.length > 0 {
            self.world.send(self.peer, &buffer[..received.length]);
        }
        received.outcome
    }

    /// What the server sends in addition to packets.
    fn take_head(&mut self) -> Vec<u8> {
        let head = self.socket.frame(0).0.to_vec();
        self.socket.advance(head.len());
        head
    }

    /// The packets that the server has sent; each write must be one frame.
    fn take(&mut self) -> Vec<Vec<u8>> {
        let packets = self.world.take(self.peer);
        for packet in &packets {
            let (head, length) = self.socket.frame(packet.len());
            assert_eq!((head[0], length), (0x80 | BINARY, packet.len()), "a binary frame");
            let head = head.len();
            assert_eq!(self.socket.advance(head + length), length);
        }
        packets
    }
}

/// A frame with a payload of at most 125 bytes, masked with zeros.
fn frame(opcode: u8, is_final: bool, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).expect("it is short");
    assert!(length < 126, "it is short");
    [&[u8::from(is_final) << 7 | opcode, 0x80 | length, 0, 0, 0, 0], payload].concat()
}

fn only_binary_frames_are_taken(level: u8) {
    let mut client = Client::open();
    assert_eq!(client.send(&frame(BINARY, true, &Connect::new(level, "a").bytes())), Outcome::Open);
    assert_eq!(client.take().len(), 1);
    let outcome = client.send(&frame(TEXT, true, &[0xc0, 0]));
    assert!(matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
    assert!(client.take().is_empty(), "the PINGREQ in it is not one");
    client.socket.close();
    assert_eq!(client.take_head(), [0x80 | CLOSE, 2, 0x03, 0xeb], "the connection is closed: 1003");
}

fn packets_do_not_know_of_frames(level: u8) {
    let filters: [(&str, u8); 1] = [("#", 0)];
    let packets = [
        Connect::new(level, "a").bytes(),
        subscribe(level, 1, &[], &filters),
        Publish::new(level, "t", b"1").bytes(),
        Publish::new(level, "t", b"2").bytes(),
    ];
    let stream = packets.concat();
    let one_frame = frame(BINARY, true, &stream);
    let a_frame_for_each_byte: Vec<u8> =
        stream.iter().flat_map(|byte| frame(BINARY, true, &[*byte])).collect();
    let (last, first) = stream.split_last().expect("it is not empty");
    let mut one_message = frame(BINARY, false, &first[..1]);
    one_message.extend(first[1..].iter().flat_map(|byte| frame(0, false, &[*byte])));
    one_message.extend(frame(0, true, &[*last]));
    for frames in [one_frame, a_frame_for_each_byte, one_message] {
        let mut client = Client::open();
        assert_eq!(client.send(&frames), Outcome::Open);
        let kinds: Vec<u8> = client.take().iter().map(|packet| packet[0] & 0xf0).collect();
        assert_eq!(kinds, [0x20, 0x90, 0x30, 0x30]);
    }
}

fn the_subprotocol_must_be_offered() {
    for offer in ["", "Sec-WebSocket-Protocol: stomp\r\n", "Sec-WebSocket-Protocol: MQTT\r\n"] {
        let mut client = Client::new();
        let (answer, outcome) = client.shake_hands(offer);
        assert!(answer.starts_with("HTTP/1.1 400 "), "{offer:?}: {answer}");
        assert!(matches!(outcome, Outcome::Failed(_)), "{offer:?}");
    }
}

fn the_server_selects_mqtt() {
    for offer in ["mqtt", "stomp, mqtt", "mqttv3.1,mqtt"] {
        let mut client = Client::new();
        let (answer, _) = client.shake_hands(&format!("Sec-WebSocket-Protocol: {offer}\r\n"));
        assert!(answer.contains("\r\nSec-WebSocket-Protocol: mqtt\r\n"), "{offer:?}: {answer}");
    }
}

#[test]
fn mqtt311_6_0_0_1() {
    only_binary_frames_are_taken(VERSIONS[0]);
}

#[test]
fn mqtt5_6_0_0_1() {
    only_binary_frames_are_taken(VERSIONS[1]);
}

#[test]
fn mqtt311_6_0_0_2() {
    packets_do_not_know_of_frames(VERSIONS[0]);
}

#[test]
fn mqtt5_6_0_0_2() {
    packets_do_not_know_of_frames(VERSIONS[1]);
}

#[test]
fn mqtt311_6_0_0_3() {
    the_subprotocol_must_be_offered();
}

#[test]
fn mqtt5_6_0_0_3() {
    the_subprotocol_must_be_offered();
}

#[test]
fn mqtt311_6_0_0_4() {
    the_server_selects_mqtt();
}

#[test]
fn mqtt5_6_0_0_4() {
    the_server_selects_mqtt();
}
