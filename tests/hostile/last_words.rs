//! What a client has said counts, however it leaves: with a farewell or without, over TLS or WebSocket, with something
//! unread, and with so much said that it is worked on for many turns.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use rustls::{ClientConnection, StreamOwned};

use crate::directory::{Directory, unused_port, write};
use crate::peer::{Peer, SERVED_WITHIN};
use crate::secure;
use crate::server::{Server, brooklet};
use crate::wire::{
    Connect, DISCONNECT, PINGREQ, PINGRESP, Publish, V5, acknowledge, cut_variable_byte_integer, received,
    subscribe,
};

/// Messages that the last words acknowledge, and messages that they publish.
const MESSAGES: u16 = 60;
/// Levels of their topic. Twice as many filters match for each level, which makes one message the work of a part of
/// a turn.
const LEVELS: usize = 10;

#[derive(Clone, Copy, Debug)]
enum Transport {
    Plain,
    Tls,
    WebSocket,
}

#[derive(Clone, Copy, Debug)]
enum Farewell {
    /// What the transport has for it, with the last words.
    Said,
    /// The socket is closed with something unread, which makes it a reset.
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
        let path = directory.path().display();
        let (tls, websocket) = (unused_port(), unused_port());
        secure::issue(directory.path());
        let text = format!(
            "user root\nallow_anonymous true\npersistence true\npersistence_location {path}/\n\
             listener 0 127.0.0.1\nlistener {} 127.0.0.1\ncertfile {path}/tls.crt\nkeyfile {path}/tls.key\n\
             listener {} 127.0.0.1\nprotocol websockets\n",
            tls.port(),
            websocket.port(),
        );
        write(&directory.path().join("brooklet.conf"), &text);
        let mut command = brooklet();
        command.arg("-c").arg(directory.path().join("brooklet.conf"));
        Self { server: Server::follow(command), tls, websocket, _directory: directory }
    }

    fn connect(&self, transport: Transport, connect: &Connect) -> Client {
        let (link, inbox) = match transport {
            Transport::Plain => (Link::Plain(open(self.server.address())), Vec::new()),
            Transport::Tls => {
                (Link::Tls(Box::new(secure::connect(self.tls, &secure::config(), &[]))), Vec::new())
            }
            Transport::WebSocket => shake_hands(open(self.websocket)),
        };
        let mut client = Client { link, inbox };
        client.send(&connect.bytes());
        assert_eq!(client.packet()[..1], [0x20], "a CONNACK");
        client
    }
}

fn open(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).expect("the broker listens");
    socket.set_read_timeout(Some(SERVED_WITHIN)).expect("a timeout can be set");
    socket
}

fn shake_hands(mut socket: TcpStream) -> (Link, Vec<u8>) {
    let request = "GET /mqtt HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";
    socket.write_all(request.as_bytes()).expect("the broker takes the request");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).expect("an answer");
        answer.extend(byte);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "));
    (Link::WebSocket(socket), Vec::new())
}

enum Link {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    WebSocket(TcpStream),
}

struct Client {
    link: Link,
    /// What was read and is no whole packet yet.
    inbox: Vec<u8>,
}

impl Client {
    fn send(&mut self, bytes: &[u8]) {
        let sent = match &mut self.link {
            Link::Plain(socket) => socket.write_all(bytes),
            Link::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
            Link::WebSocket(socket) => socket.write_all(&frame(2, bytes)),
        };
        sent.expect("the broker takes the bytes");
    }

    /// The next packet.
    fn packet(&mut self) -> Vec<u8> {
        loop {
            if self.inbox.get(1..).is_some_and(|rest| rest.iter().any(|byte| byte & 0x80 == 0)) {
                let (length, behind) = cut_variable_byte_integer(&self.inbox[1..]);
                if behind.len() >= length {
                    let packet = self.inbox.len() - behind.len() + length;
                    return self.inbox.drain(..packet).collect();
                }
            }
            self.read();
        }
    }

    fn read(&mut self) {
        let mut buffer = [0; 4096];
        let read = match &mut self.link {
            Link::Plain(socket) => socket.read(&mut buffer),
            Link::Tls(stream) => stream.read(&mut buffer),
            Link::WebSocket(socket) => read_frame(socket, &mut buffer),
        };
        let count = read.expect("something comes in time");
        assert!(count > 0, "the broker has closed");
        self.inbox.extend_from_slice(&buffer[..count]);
    }

    fn socket(&self) -> &TcpStream {
        match &self.link {
            Link::Plain(socket) | Link::WebSocket(socket) => socket,
            Link::Tls(stream) => &stream.sock,
        }
    }

    /// Says its last words and leaves; something must be unread in its socket.
    fn leave(mut self, words: &[u8], farewell: Farewell) {
        // What is sent is on its way, and a reset does not take it back.
        self.socket().set_nodelay(true).expect("a socket option can be set");
        assert!(self.inbox.is_empty(), "what is unread is in the socket");
        assert!(self.socket().peek(&mut [0]).is_ok_and(|count| count > 0), "something is unread");
        if matches!(farewell, Farewell::Omitted) {
            self.send(words);
            return;
        }
        match &mut self.link {
            Link::Plain(socket) => socket.write_all(words),
            Link::Tls(stream) => {
                stream.conn.writer().write_all(words).expect("there is room");
                stream.conn.send_close_notify();
                stream.conn.write_tls(&mut stream.sock).map(drop)
            }
            Link::WebSocket(socket) => socket.write_all(&[frame(2, words), frame(8, &[])].concat()),
        }
        .expect("the broker takes the words");
        self.socket().shutdown(Shutdown::Write).expect("it is open");
        let mut socket = self.socket();
        let mut buffer = [0; 4096];
        while socket.read(&mut buffer).is_ok_and(|count| count > 0) {}
    }
}

/// One frame of WebSocket, masked with zeros.
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("it is short");
    let mut head = vec![0x80 | opcode, 0x80];
    if length < 126 {
        head[1] |= u8::try_from(length).expect("it is less than 126");
    } else {
        head[1] |= 126;
        head.extend(length.to_be_bytes());
    }
    head.extend([0; 4]);
    [&head[..], payload].concat()
}

fn read_frame(socket: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let mut head = [0; 2];
    socket.read_exact(&mut head)?;
    let mut length = usize::from(head[1]);
    if length == 126 {
        let mut long = [0; 2];
        socket.read_exact(&mut long)?;
        length = usize::from(u16::from_be_bytes(long));
    }
    socket.read_exact(&mut buffer[..length])?;
    Ok(length)
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

#[test]
fn of_a_plain_client_that_leaves_politely() {
    a_client_leaves(Transport::Plain, Farewell::Said);
}

#[test]
fn of_a_plain_client_that_is_gone_at_once() {
    a_client_leaves(Transport::Plain, Farewell::Omitted);
}

#[test]
fn of_a_client_of_tls_that_leaves_politely() {
    a_client_leaves(Transport::Tls, Farewell::Said);
}

#[test]
fn of_a_client_of_tls_that_is_gone_at_once() {
    a_client_leaves(Transport::Tls, Farewell::Omitted);
}

#[test]
fn of_a_client_of_websocket_that_leaves_politely() {
    a_client_leaves(Transport::WebSocket, Farewell::Said);
}

#[test]
fn of_a_client_of_websocket_that_is_gone_at_once() {
    a_client_leaves(Transport::WebSocket, Farewell::Omitted);
}
