//! Servers with sockets, certificates and frames, and clients at the other end.

mod dialling;
mod layers;
mod listeners;
mod turns;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use mio::Events;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::base::time::Duration;
use crate::core::access::{AccessControl, Answer, Client, Question, Verdict};
use crate::core::limits::Limits;
use crate::core::listener::{ListenerOptions, UserNameSource};
use crate::core::slots::ConnectionId;
use crate::protocol::codec::ReasonCode;
use crate::protocol::proxy::Proxy;
use crate::protocol::websocket::testing::{BINARY, CLOSE, PING, PONG, REQUEST, TEXT, frame};
use crate::server::plan::Plan;
use crate::server::tls::testing::{Authority, Directory, Files, listener};
use crate::server::{Server, Signals};
use crate::settings::{Address, Listener, Network, Protocol};

/// Accepts only the clients with this name in their certificates, or all clients.
struct Doorman(Option<&'static str>);

impl AccessControl for Doorman {
    fn ask(&mut self, client: &Client<'_>, question: Question<'_>) -> Answer {
        let is_let_in = match question {
            Question::Connect { .. } => self.0.is_none() || client.certificate == self.0,
            _ => true,
        };
        Answer::Now(if is_let_in { Verdict::Granted } else { Verdict::Refused(ReasonCode::NotAuthorized) })
    }
}

type Order = Box<dyn FnOnce(&mut Server) + Send>;

/// A server on a thread of its own. It ends when this is dropped.
struct Running {
    port: u16,
    orders: Sender<Order>,
    is_ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// Starts a server with one listener, on a loopback port unless `make` demands another.
    fn start(name: Option<&'static str>, make: impl FnOnce() -> Listener + Send + 'static) -> Self {
        Self::start_within(30, name, make)
    }

    /// Starts a server that waits this many seconds for a CONNECT.
    fn start_within(
        seconds: u64,
        name: Option<&'static str>,
        make: impl FnOnce() -> Listener + Send + 'static,
    ) -> Self {
        let (orders, received) = channel();
        let (tell, told) = channel();
        let is_ended = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&is_ended);
        let serve = move || {
            let limits = Limits { connect_timeout: Duration::from_seconds(seconds), ..Limits::default() };
            let mut server =
                Server::new(&limits, Box::new(Doorman(name)), Signals::begin().unwrap()).unwrap();
            server.open(&make()).unwrap();
            tell.send(port_of(&server, 0)).unwrap();
            serve(&mut server, &received, &ended);
        };
        #[expect(clippy::disallowed_methods, reason = "the clients are in this one")]
        let thread = std::thread::spawn(serve);
        Self { port: told.recv().unwrap(), orders, is_ended, thread: Some(thread) }
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap()
    }

    /// Runs `order` on the server between two turns and returns its result.
    fn order<R: Send + 'static>(&self, order: impl FnOnce(&mut Server) -> R + Send + 'static) -> R {
        let (tell, told) = channel();
        self.orders.send(Box::new(move |server| tell.send(order(server)).unwrap())).unwrap();
        told.recv().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.is_ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed already.
            let _ = thread.join();
        }
    }
}

fn serve(server: &mut Server, orders: &Receiver<Order>, is_ended: &AtomicBool) {
    let mut events = Events::with_capacity(64);
    while !is_ended.load(Ordering::Relaxed) {
        let latest = server.clock.now() + Duration::from_milliseconds(5);
        server.turn(&mut events, Some(latest)).unwrap();
        orders.try_iter().for_each(|order| order(server));
    }
}

fn port_of(server: &Server, number: usize) -> u16 {
    let listener = server.listeners[number].as_ref().unwrap();
    listener.sockets[0].place().port().unwrap_or_default()
}

/// Makes a listener with TLS, changed by `change`.
fn make<F>(files: &Files, change: F) -> impl FnOnce() -> Listener + Send + use<F>
where
    F: FnOnce(&mut Listener) + Send + 'static,
{
    let files = files.clone();
    move || {
        let mut listener = listener(&files);
        change(&mut listener);
        listener
    }
}

fn with_websocket(listener: &mut Listener) {
    listener.protocol = Protocol::WebSocket { origins: Vec::new(), headers: 4096 };
}

fn with_names(listener: &mut Listener) {
    listener.options =
        Rc::new(ListenerOptions { user_name: UserNameSource::CommonName, ..(*listener.options).clone() });
}

fn tls(config: ClientConfig, stream: TcpStream) -> StreamOwned<ClientConnection, TcpStream> {
    let connection = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    StreamOwned::new(connection, stream)
}

fn connect_packet(name: &str) -> Vec<u8> {
    let length = u8::try_from(name.len()).unwrap();
    [&[0x10, 12 + length, 0, 4][..], b"MQTT\x04\x02\0\0\0", &[length], name.as_bytes()].concat()
}

const CONNACK: [u8; 4] = [0x20, 2, 0, 0];
const SUBSCRIBE_TO_ALL: [u8; 8] = [0x82, 6, 0, 1, 0, 1, b'#', 0];
const PINGREQ: [u8; 2] = [0xC0, 0];
const PINGRESP: [u8; 2] = [0xD0, 0];
const SUBACK: [u8; 5] = [0x90, 3, 0, 1, 0];

fn publish(payload: &[u8]) -> Vec<u8> {
    let mut length = payload.len() + 3;
    let mut packet = vec![0x30];
    while length >= 128 {
        packet.push(u8::try_from(length % 128).unwrap() | 128);
        length /= 128;
    }
    packet.push(u8::try_from(length).unwrap());
    [&packet[..], &[0, 1, b't'], payload].concat()
}

fn expect(stream: &mut impl Read, expected: &[u8]) {
    let mut bytes = vec![0; expected.len()];
    stream.read_exact(&mut bytes).unwrap();
    assert!(bytes == expected, "{:02x?}", &bytes[..bytes.len().min(40)]);
}

/// Connects, and receives a message of its own that is larger than any buffer on its way.
fn greet(stream: &mut (impl Read + Write), name: &str) {
    stream.write_all(&connect_packet(name)).unwrap();
    expect(stream, &CONNACK);
    stream.write_all(&SUBSCRIBE_TO_ALL).unwrap();
    expect(stream, &SUBACK);
    let message = publish(&[7; 400_000]);
    stream.write_all(&message).unwrap();
    expect(stream, &message);
}

/// The client's side of WebSocket: each write is one frame, and reads return the payload of frames.
struct Framed<S> {
    stream: S,
    payload: Vec<u8>,
    /// Control frames.
    controls: Vec<(u8, Vec<u8>)>,
}

impl<S: Read + Write> Framed<S> {
    fn open(mut stream: S) -> Self {
        stream.write_all(REQUEST.as_bytes()).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            answer.extend(byte);
        }
        assert!(answer.starts_with(b"HTTP/1.1 101 "));
        Self { stream, payload: Vec::new(), controls: Vec::new() }
    }

    /// Reads one frame.
    fn read_frame(&mut self) -> std::io::Result<()> {
        let mut header = [0; 2];
        self.stream.read_exact(&mut header)?;
        let mut length = u64::from(header[1]);
        let extended = match header[1] {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if extended > 0 {
            let mut bytes = [0; 8];
            self.stream.read_exact(&mut bytes[8 - extended..])?;
            length = u64::from_be_bytes(bytes);
        }
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.stream.read_exact(&mut payload)?;
        match header[0] & 0x0f {
            BINARY => self.payload.extend(payload),
            opcode => self.controls.push((opcode, payload)),
        }
        Ok(())
    }
}

impl<S: Read + Write> Read for Framed<S> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.payload.is_empty() {
            self.read_frame()?;
        }
        let count = buffer.len().min(self.payload.len());
        buffer[..count].copy_from_slice(&self.payload[..count]);
        self.payload.drain(..count);
        Ok(count)
    }
}

impl<S: Read + Write> Write for Framed<S> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        // Now and then, a frame ends in the middle of a packet.
        let count = bytes.len().min(100_001);
        self.stream.write_all(&frame(BINARY, true, &bytes[..count]))?;
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

/// A change to a listener.
type Change = fn(&mut Listener);
