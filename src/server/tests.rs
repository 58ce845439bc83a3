//! Servers with sockets, certificates and frames, and clients at the other end.

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

use super::Server;
use super::plan::Plan;
use super::tls::testing::{Authority, Directory, Files, listener};
use crate::access::{AccessControl, Answer, Client, Question, Verdict};
use crate::codec::ReasonCode;
use crate::limits::Limits;
use crate::settings::{Address, Listener, Network, Protocol, Proxy, Rules, UserNameSource};
use crate::slots::ConnectionId;
use crate::time::Duration;
use crate::websocket::testing::{BINARY, CLOSE, PING, PONG, REQUEST, TEXT, frame};

/// Lets in whom this name in a certificate stands for, or everybody.
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

/// A server in a thread of its own. It ends when this is dropped.
struct Running {
    port: u16,
    orders: Sender<Order>,
    is_ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// With one listener, on a loopback port unless `make` says otherwise.
    fn start(name: Option<&'static str>, make: impl FnOnce() -> Listener + Send + 'static) -> Self {
        Self::start_within(30, name, make)
    }

    /// One that waits so many seconds for a CONNECT.
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
                Server::new(&limits, Box::new(Doorman(name)), super::Signals::begin().unwrap()).unwrap();
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

    /// Does something with the server between two turns and waits for what comes of it.
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
            // What it has to say it has said.
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

/// A listener with TLS, which `change` makes into something else.
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
    listener.rules = Rc::new(Rules { user_name: UserNameSource::CommonName, ..(*listener.rules).clone() });
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

/// Connects, and has a message of its own come back that is larger than any buffer on its way.
fn greet(stream: &mut (impl Read + Write), name: &str) {
    stream.write_all(&connect_packet(name)).unwrap();
    expect(stream, &CONNACK);
    stream.write_all(&SUBSCRIBE_TO_ALL).unwrap();
    expect(stream, &SUBACK);
    let message = publish(&[7; 400_000]);
    stream.write_all(&message).unwrap();
    expect(stream, &message);
}

/// The client's side of WebSocket: each write is one frame, reading is of what the frames hold.
struct Framed<S> {
    stream: S,
    payload: Vec<u8>,
    /// Frames that were not of data.
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
        // Now and then a frame ends in the middle of a packet.
        let count = bytes.len().min(100_001);
        self.stream.write_all(&frame(BINARY, true, &bytes[..count]))?;
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

/// Decides about nobody, and tells of those whose decision is of no more use.
struct Undecided(Sender<()>);

impl AccessControl for Undecided {
    fn ask(&mut self, _: &Client<'_>, _: Question<'_>) -> Answer {
        Answer::Later
    }

    fn forget(&mut self, _: ConnectionId) {
        self.0.send(()).unwrap();
    }
}

#[test]
fn a_client_that_leaves_while_it_is_decided_about_is_noticed() {
    let authority = Authority::new();
    let files = authority.issue("server", "/CN=localhost");
    // With so few steps a turn what comes has to wait for the next one.
    for steps_per_turn in [24, Limits::default().steps_per_turn] {
        for is_plain in [true, false] {
            let running = Running::start(
                None,
                make(&files, move |listener| {
                    with_websocket(listener);
                    if is_plain {
                        (listener.protocol, listener.tls) = (Protocol::Mqtt, None);
                    }
                }),
            );
            let (tell, told) = channel();
            running.order(move |server| {
                server.replace_access(Box::new(Undecided(tell)));
                server.broker.set_limits(Limits { steps_per_turn, ..Limits::default() });
            });
            for is_half_open in [true, false] {
                let mut stream = running.connect();
                let mut framed = (!is_plain)
                    .then(|| Framed::open(tls(authority.client(None), stream.try_clone().unwrap())));
                // The server finds all of it at once.
                let (go, gone) = channel();
                running.orders.send(Box::new(move |_| gone.recv().unwrap())).unwrap();
                let bytes = connect_packet("a");
                match &mut framed {
                    None => stream.write_all(&bytes).unwrap(),
                    Some(framed) => framed.write_all(&bytes).and_then(|()| framed.flush()).unwrap(),
                }
                if is_half_open {
                    stream.shutdown(std::net::Shutdown::Write).unwrap();
                } else {
                    drop((stream, framed.take()));
                }
                go.send(()).unwrap();
                let is_noticed = told.recv_timeout(std::time::Duration::from_secs(30)).is_ok();
                assert!(is_noticed, "{steps_per_turn} {is_plain} {is_half_open}");
            }
            // What it says beside its CONNECT counts, if it is let in.
            if is_plain {
                let mut stream = running.connect();
                stream.write_all(&[&connect_packet("a")[..], &PINGREQ].concat()).unwrap();
                stream.shutdown(std::net::Shutdown::Write).unwrap();
                running.order(|server| server.replace_access(Box::new(Doorman(None))));
                expect(&mut stream, &[&CONNACK[..], &PINGRESP].concat());
            }
        }
    }
}

#[test]
fn a_broker_speaks_through_every_layer() {
    let authority = Authority::new();
    let files = authority.issue("server", "/CN=localhost");
    let plain = Running::start(None, make(&files, |listener| listener.tls = None));
    greet(&mut plain.connect(), "plain");
    let framed = Running::start(
        None,
        make(&files, |listener| {
            listener.tls = None;
            with_websocket(listener);
        }),
    );
    greet(&mut Framed::open(framed.connect()), "framed");
    let secure = Running::start(None, make(&files, |_| ()));
    greet(&mut tls(authority.client(None), secure.connect()), "secure");
    let both = Running::start(None, make(&files, with_websocket));
    greet(&mut Framed::open(tls(authority.client(None), both.connect())), "both");
}

#[test]
fn those_who_ask_for_little_are_heard_before_a_crowd() {
    const CROWD: usize = 200;
    let files = Authority::new().issue("server", "/CN=localhost");
    let running = Running::start(None, make(&files, |listener| listener.tls = None));
    let mut crowd: Vec<TcpStream> = (0..CROWD).map(|_| running.connect()).collect();
    let mut modest = running.connect();
    for client in crowd.iter_mut().chain([&mut modest]) {
        client.write_all(&connect_packet("")).unwrap();
        expect(client, &CONNACK);
    }
    for _ in 0..2 {
        modest.write_all(&PINGREQ).unwrap();
        expect(&mut modest, &PINGRESP);
    }
    let heard = running.order(move |server| {
        for client in crowd.iter_mut().chain([&mut modest]) {
            client.write_all(&PINGREQ).unwrap();
        }
        let mut events = Events::with_capacity(2 * crowd.len());
        server.poll.poll(&mut events, Some(std::time::Duration::ZERO)).unwrap();
        server.share_turn(events.iter().count());
        server.hear(&events, server.clock.now());
        server.answered.iter().map(|id| id.index()).collect::<Vec<_>>()
    });
    assert_eq!(heard, [CROWD].into_iter().chain(0..CROWD).collect::<Vec<_>>());
}

#[test]
fn a_slow_reader_gets_everything_through_every_layer() {
    let authority = Authority::new();
    let files = authority.issue("server", "/CN=localhost");
    let running = Running::start(None, make(&files, with_websocket));
    let mut reader = Framed::open(tls(authority.client(None), running.connect()));
    reader.write_all(&connect_packet("reader")).unwrap();
    expect(&mut reader, &CONNACK);
    reader.write_all(&SUBSCRIBE_TO_ALL).unwrap();
    expect(&mut reader, &SUBACK);
    let mut writer = Framed::open(tls(authority.client(None), running.connect()));
    writer.write_all(&connect_packet("writer")).unwrap();
    expect(&mut writer, &CONNACK);
    let messages: Vec<Vec<u8>> = (0..30).map(|number| publish(&[number; 100_000])).collect();
    messages.iter().for_each(|message| writer.write_all(message).unwrap());
    writer.write_all(&[0xc0, 0]).unwrap();
    expect(&mut writer, &[0xd0, 0]);
    reader.stream.write_all(&frame(PING, true, b"still there?")).unwrap();
    messages.iter().for_each(|message| expect(&mut reader, message));
    while reader.controls.is_empty() {
        reader.read_frame().unwrap();
    }
    assert_eq!(reader.controls, [(PONG, b"still there?".to_vec())]);
}

#[test]
fn who_breaks_the_rules_of_websocket_is_told_and_closed() {
    let files = Authority::new().issue("server", "/CN=localhost");
    let running = Running::start(
        None,
        make(&files, |listener| {
            listener.tls = None;
            with_websocket(listener);
        }),
    );
    let mut client = Framed::open(running.connect());
    client.write_all(&connect_packet("text")).unwrap();
    expect(&mut client, &CONNACK);
    client.stream.write_all(&frame(TEXT, true, &[0xc0, 0])).unwrap();
    while client.read_frame().is_ok() {}
    assert_eq!(client.controls, [(CLOSE, 1003_u16.to_be_bytes().to_vec())]);
    assert!(client.payload.is_empty(), "the text was not read as a packet");
    let mut visitor = running.connect();
    visitor.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut answer = String::new();
    visitor.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 426 ") && answer.contains("MQTT over WebSocket"), "{answer}");
    let mut leaver = Framed::open(running.connect());
    leaver.stream.write_all(&frame(CLOSE, true, &1001_u16.to_be_bytes())).unwrap();
    while leaver.read_frame().is_ok() {}
    assert_eq!(leaver.controls, [(CLOSE, 1001_u16.to_be_bytes().to_vec())]);
}

#[test]
fn a_certificate_names_its_client() {
    let authority = Authority::new();
    let files = authority.issue("server", "/CN=localhost");
    let (known, other) = (authority.issue("known", "/CN=sensor"), authority.issue("other", "/CN=other"));
    let running = Running::start(
        Some("sensor"),
        make(&files, |listener| {
            with_names(listener);
            let tls = listener.tls.as_mut().unwrap();
            tls.authorities = Some(tls.certificate.with_file_name("authority.crt"));
            tls.requires_certificate = true;
        }),
    );
    greet(&mut tls(authority.client(Some(&known)), running.connect()), "known");
    let mut other = tls(authority.client(Some(&other)), running.connect());
    other.write_all(&connect_packet("other")).unwrap();
    expect(&mut other, &[0x20, 2, 0, 5]);
    let mut nobody = tls(authority.client(None), running.connect());
    let error = nobody.write_all(&connect_packet("nobody")).and_then(|()| nobody.read_exact(&mut [0]));
    assert!(error.unwrap_err().to_string().contains("CertificateRequired"), "the client is told why");
    greet(&mut tls(authority.client(Some(&known)), running.connect()), "known");
}

#[test]
fn a_proxy_names_its_clients() {
    const NAMED: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x1d\xc0\0\x02\x01\xc0\0\x02\x02\x12\x34\x07\x5b\
        \x20\x00\x0e\x07\0\0\0\0\x22\x00\x06sensor";
    let files = Authority::new().issue("server", "/CN=localhost");
    let running = Running::start(
        Some("sensor"),
        make(&files, |listener| {
            listener.tls = None;
            listener.proxy = Some(Proxy::V2 { requires_tls: true });
            with_names(listener);
        }),
    );
    let mut known = running.connect();
    known.write_all(&[NAMED, &connect_packet("known")].concat()).unwrap();
    expect(&mut known, &CONNACK);
    let layers = running.order(|server| server.layers.iter().flatten().count());
    assert_eq!(layers, 0, "what is plain from here on has no layers");
    let mut direct = running.connect();
    direct.write_all(&connect_packet("direct")).unwrap();
    let mut answer = Vec::new();
    direct.read_to_end(&mut answer).unwrap();
    assert!(answer.is_empty());
}

#[test]
fn proxies_elsewhere_are_not_listened_to() {
    let files = Authority::new().issue("server", "/CN=localhost");
    for (network, is_trusted) in [("10.0.0.0/8", false), ("127.0.0.0/8", true)] {
        let running = Running::start(
            None,
            make(&files, move |listener| {
                listener.tls = None;
                listener.proxy = Some(Proxy::V1);
                listener.proxies =
                    vec![Network::parse("192.0.2.1").unwrap(), Network::parse(network).unwrap()];
            }),
        );
        let mut proxy = running.connect();
        // What is written to a connection that was closed may fail or not.
        let greeting = [b"PROXY UNKNOWN\r\n", &connect_packet("a")[..]].concat();
        let _ = proxy.write_all(&greeting);
        let mut answer = [0; 4];
        let is_answered = proxy.read_exact(&mut answer).is_ok();
        assert_eq!((is_answered, answer == CONNACK), (is_trusted, is_trusted), "{network}");
    }
}

#[test]
fn a_socket_in_the_file_system_is_served() {
    let directory = Directory::new();
    let path = directory.path("mqtt.sock");
    let files = Authority::new().issue("server", "/CN=localhost");
    let address = Address::Unix { path: path.clone() };
    let running = Running::start(
        None,
        make(&files, |listener| {
            listener.tls = None;
            listener.address = address;
        }),
    );
    greet(&mut UnixStream::connect(&path).unwrap(), "local");
    drop(running);
    assert!(!path.exists());
}

#[test]
fn so_many_come_in_by_a_listener_and_no_more() {
    let files = Authority::new().issue("server", "/CN=localhost");
    let running = Running::start(
        None,
        make(&files, |listener| {
            listener.tls = None;
            listener.connections = 2;
        }),
    );
    let mut clients: Vec<TcpStream> = (0..2).map(|_| running.connect()).collect();
    for (client, name) in clients.iter_mut().zip(["a", "b"]) {
        client.write_all(&connect_packet(name)).unwrap();
        expect(client, &CONNACK);
    }
    assert_eq!(running.connect().read(&mut [0]).unwrap_or(0), 0);
    let mut leaver = clients.pop().unwrap();
    leaver.write_all(&[0xe0, 0]).unwrap();
    assert_eq!(leaver.read(&mut [0]).unwrap(), 0);
    let mut next = running.connect();
    next.write_all(&connect_packet("c")).unwrap();
    expect(&mut next, &CONNACK);
}

#[test]
fn a_reload_changes_listeners_and_lets_connections_be() {
    let (old, new) = (Authority::new(), Authority::new());
    let (first, second) = (old.issue("server", "/CN=localhost"), new.issue("server", "/CN=localhost"));
    let running = Running::start(None, make(&first, |_| ()));
    let mut before = tls(old.client(None), running.connect());
    before.write_all(&connect_packet("before")).unwrap();
    expect(&mut before, &CONNACK);
    let broken = make(&second, |listener| {
        listener.tls.as_mut().unwrap().key = listener.tls.as_ref().unwrap().key.with_extension("absent");
    });
    let keep = || Plan { kept: vec![(0, 0)], ..Plan::default() };
    let told = running.order(move |server| server.reload_listeners(&keep(), &[broken()]).unwrap_err());
    assert!(told.len() == 1 && told[0].to_string().contains("server.absent: it can not be read"), "{told:?}");
    greet(&mut tls(old.client(None), running.connect()), "as it was");
    let (changed, added) = (make(&second, |_| ()), make(&second, |listener| listener.tls = None));
    let port = running.order(move |server| {
        let plan = Plan { kept: vec![(0, 1)], added: vec![0], ..Plan::default() };
        server.reload_listeners(&plan, &[added(), changed()]).unwrap();
        assert_eq!(server.opened, [1, 0]);
        port_of(server, 1)
    });
    greet(&mut tls(new.client(None), running.connect()), "changed");
    greet(&mut TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap(), "added");
    let last = make(&second, |listener| listener.tls = None);
    running.order(move |server| {
        let plan = Plan { kept: vec![(0, 0)], removed: vec![1], ..Plan::default() };
        server.reload_listeners(&plan, &[last()]).unwrap();
        assert_eq!(server.listener_ids().len(), 1);
    });
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, running.port)).is_err(), "it is closed");
    before.write_all(&[0xc0, 0]).unwrap();
    expect(&mut before, &[0xd0, 0]);
}

/// What makes a listener another one.
type Change = fn(&mut Listener);

#[test]
fn who_never_comes_to_the_point_is_closed_in_every_layer() {
    let files = Authority::new().issue("server", "/CN=localhost");
    let changes: [(Change, &[u8]); 4] = [
        (|_| (), b"\x16\x03\x01\x02\x00\x01"),
        (with_websocket, b""),
        (
            |listener| {
                listener.tls = None;
                with_websocket(listener);
            },
            b"GET / HTTP/1.1\r\nX: ",
        ),
        (
            |listener| {
                listener.tls = None;
                listener.proxy = Some(Proxy::V1);
            },
            b"PROXY TCP4 192.0.2.1 ",
        ),
    ];
    for (change, begun) in changes {
        let running = Running::start_within(0, None, make(&files, change));
        let mut client = running.connect();
        // The broker may have closed already.
        let _ = client.write_all(begun);
        let mut told = Vec::new();
        let _ = client.read_to_end(&mut told);
        assert!(!told.starts_with(&CONNACK), "{told:02x?}");
    }
}

/// The loop is held up for so long.
fn hold_up(milliseconds: u64) {
    std::thread::sleep(std::time::Duration::from_millis(milliseconds));
}

/// Far more clients have sent a PINGREQ than the poller tells of in a turn, and all of them are late; with and without
/// a loop that knows that it was held up.
#[test]
fn clients_that_have_spoken_while_the_loop_was_held_up_stay() {
    for knows in [true, false] {
        let files = Authority::new().issue("server", "/CN=localhost");
        let running = Running::start(None, make(&files, |listener| listener.tls = None));
        let mut clients: Vec<TcpStream> = (0..300).map(|_| running.connect()).collect();
        for client in &mut clients {
            let mut connect = connect_packet("");
            // A Keep Alive of one second.
            connect[11] = 1;
            client.write_all(&connect).unwrap();
            expect(client, &CONNACK);
        }
        let mut clients = running.order(move |server| {
            hold_up(1_800);
            clients.iter_mut().for_each(|client| client.write_all(&PINGREQ).unwrap());
            if !knows {
                server.looked = server.clock.now();
            }
            clients
        });
        clients.iter_mut().for_each(|client| expect(client, &PINGRESP));
    }
}

/// A client that has to wait for an answer before it can send its CONNECT has the time for that when the loop goes on.
#[test]
fn a_client_whose_handshake_was_held_up_can_finish_it() {
    let files = Authority::new().issue("server", "/CN=localhost");
    let change: Change = |listener| {
        listener.tls = None;
        with_websocket(listener);
    };
    let running = Running::start_within(1, None, make(&files, change));
    let stream = running.connect();
    // It has been accepted.
    while running.order(|server| server.open == 0) {}
    running.order(|_| hold_up(1_500));
    greet(&mut Framed::open(stream), "late");
}
