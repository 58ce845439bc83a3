//! What a client has sent counts, however it leaves: with a closing handshake or without, over TLS or WebSocket, with
//! unread output, and with so much input that it takes many turns.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use rustls::{ClientConnection, StreamOwned};

use crate::directory::{Directory, unused_port};
use crate::peer::{Peer, dial, read_packet};
use crate::secure;
use crate::server::Server;
use crate::wire::{Connect, DISCONNECT, PINGREQ, PINGRESP, Publish, V5, acknowledge, received, subscribe};

/// Messages that the last packets acknowledge, and messages that they publish.
const MESSAGES: u16 = 60;
/// Levels of their topic. With each level, twice as many filters match, so that one message takes a part of a turn.
const LEVELS: usize = 10;

#[derive(Clone, Copy, Debug)]
enum Transport {
    Plain,
    Tls,
    WebSocket,
}

#[derive(Clone, Copy, Debug)]
enum Farewell {
    /// The transport's closing handshake, after the last packets.
    Said,
    /// The socket is closed with unread output, which makes it a reset.
    Omitted,
}

/// A broker with a store and a listener for each transport.
struct Broker {
    server: Server,
    tls: SocketAddr,
    websocket: SocketAddr,
    _directory: Directory,
}

impl Broker {
    fn start() -> Self {
        let directory = Directory::new("last-words");
        let (tls, websocket) = (unused_port(), unused_port());
        let lines = format!(
            "{}listener {} 127.0.0.1\nprotocol websockets\n",
            directory.tls_listener(tls.port()),
            websocket.port(),
        );
        Self { server: directory.serve(&lines), tls, websocket, _directory: directory }
    }

    fn connect(&self, transport: Transport, connect: &Connect) -> Client {
        let mut client = match transport {
            Transport::Plain => Client::Plain(dial(self.server.address())),
            Transport::Tls => Client::Tls(Box::new(secure::connect(self.tls, &secure::config(), &[]))),
            Transport::WebSocket => Client::WebSocket(Framed::open(dial(self.websocket))),
        };
        client.send(&connect.bytes());
        assert_eq!(client.packet()[0], 0x20, "a CONNACK");
        client
    }
}

enum Client {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    WebSocket(Framed),
}

impl Client {
    fn send(&mut self, bytes: &[u8]) {
        let sent = match self {
            Self::Plain(socket) => socket.write_all(bytes),
            Self::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
            Self::WebSocket(framed) => framed.socket.write_all(&frame(2, bytes)),
        };
        sent.expect("the broker takes the bytes");
    }

    fn packet(&mut self) -> Vec<u8> {
        let packet = match self {
            Self::Plain(socket) => read_packet(socket),
            Self::Tls(stream) => read_packet(stream),
            Self::WebSocket(framed) => read_packet(framed),
        };
        packet.expect("a packet comes in time")
    }

    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) | Self::WebSocket(Framed { socket, .. }) => socket,
            Self::Tls(stream) => &stream.sock,
        }
    }

    /// Sends the last packets and leaves; there must be unread output in its socket.
    fn leave(mut self, words: &[u8], farewell: Farewell) {
        assert!(self.socket().peek(&mut [0]).is_ok_and(|count| count > 0), "something is unread");
        if matches!(farewell, Farewell::Omitted) {
            self.send(words);
            return;
        }
        let said = match &mut self {
            Self::Plain(socket) => socket.write_all(words),
            Self::Tls(stream) => {
                stream.conn.writer().write_all(words).expect("there is room");
                stream.conn.send_close_notify();
                stream.conn.write_tls(&mut stream.sock).map(drop)
            }
            Self::WebSocket(framed) => framed.socket.write_all(&[frame(2, words), frame(8, &[])].concat()),
        };
        said.expect("the broker takes the words");
        let mut socket = self.socket();
        socket.shutdown(Shutdown::Write).expect("it is open");
        // It may be reset.
        let _ = socket.read_to_end(&mut Vec::new());
    }
}

/// The client's side of WebSocket.
struct Framed {
    socket: TcpStream,
    /// What is left of the frame in progress.
    left: usize,
}

impl Framed {
    fn open(mut socket: TcpStream) -> Self {
        let request = "GET /mqtt HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\
            Sec-WebSocket-Protocol: mqtt\r\n\r\n";
        socket.write_all(request.as_bytes()).expect("the broker takes the request");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte).expect("an answer");
            answer.extend(byte);
        }
        assert!(answer.starts_with(b"HTTP/1.1 101 "));
        Self { socket, left: 0 }
    }
}

impl Read for Framed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            let mut head = [0; 2];
            self.socket.read_exact(&mut head)?;
            self.left = usize::from(head[1]);
            assert!(self.left < 126, "a frame that is short");
        }
        let most = self.left.min(buffer.len());
        let count = self.socket.read(&mut buffer[..most])?;
        self.left -= count;
        Ok(count)
    }
}

/// One frame, masked with zeros.
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("it is short");
    let mut head = vec![0x80 | opcode, 0x80];
    match u8::try_from(length) {
        Ok(short @ ..126) => head[1] |= short,
        _ => {
            head[1] |= 126;
            head.extend(length.to_be_bytes());
        }
    }
    head.extend([0; 4]);
    [&head[..], payload].concat()
}

/// Subscribes to each filter that has `said` or `+` at each level.
fn hear_much(witness: &mut Peer) {
    for number in 0..1_usize << LEVELS {
        let level = |bit: usize| if number >> bit & 1 == 0 { "said" } else { "+" };
        let filter: Vec<&str> = (0..LEVELS).map(level).collect();
        witness.subscribe(&filter.join("/"), 0);
    }
}

fn a_client_leaves(transport: Transport, farewell: Farewell) {
    let broker = Broker::start();
    let mut witness = Peer::connect(broker.server.address(), "witness");
    hear_much(&mut witness);
    witness.subscribe("gone", 0);
    let connect = Connect::new(V5, "leaver").resume().expiry(1000);
    let mut leaver = broker.connect(transport, &connect.clone().will("gone", b"", 0, false, &[]));
    leaver.send(&subscribe(V5, 1, &[], &[("leaver/#", 1)]));
    assert_eq!(leaver.packet()[0], 0x90);

    let mut words = Vec::new();
    let topic = ["said"; LEVELS].join("/");
    for number in 0..MESSAGES {
        witness.publish(Publish::new(V5, "leaver/message", b"m"));
        let message = received(V5, &leaver.packet());
        let identifier = message.packet_identifier.expect("QoS 1");
        let payload = number.to_be_bytes();
        words.extend(Publish::new(V5, &topic, &payload).qos(1, number + 1).bytes());
        words.extend(acknowledge(0x40, identifier));
    }
    words.extend(DISCONNECT);
    witness.send(&Publish::new(V5, "leaver/unread", b"").bytes());
    leaver.leave(&words, farewell);

    for number in 0..MESSAGES {
        let message = received(V5, &witness.packet());
        assert_eq!(
            (message.topic, &message.payload[..]),
            (topic.clone(), &number.to_be_bytes()[..]),
            "said is said"
        );
    }
    broker.server.wait_for_line("Client leaver [");
    witness.send(&PINGREQ);
    assert_eq!(witness.packet(), PINGRESP, "after DISCONNECT there is no Will");
    let mut again = broker.connect(transport, &connect);
    again.send(&PINGREQ);
    assert_eq!(again.packet(), PINGRESP, "what was acknowledged does not come again");
}

fn clients_leave(farewell: Farewell) {
    for transport in [Transport::Plain, Transport::Tls, Transport::WebSocket] {
        eprintln!("{transport:?}");
        a_client_leaves(transport, farewell);
    }
}

#[test]
fn of_clients_that_leave_politely() {
    clients_leave(Farewell::Said);
}

#[test]
fn of_clients_that_are_gone_at_once() {
    clients_leave(Farewell::Omitted);
}
