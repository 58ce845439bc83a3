//! The layer of a server against the client of rustls, in memory.

mod to_servers;
mod trust;

use std::io::{self, IoSlice, Read as _, Write};
use std::rc::Rc;
use std::sync::Arc;

use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, HandshakeKind};

use super::testing::{Authority, Files, listener};
use super::{Layer, Outcome, Setup, load};
use crate::core::limits::COPIED_AHEAD_MAXIMUM;
use crate::core::listener::{ListenerOptions, UserNameSource};
use crate::settings::{Listener, Protocol};

/// A socket that takes `room` bytes before it would block.
#[derive(Default)]
struct Socket {
    taken: Vec<u8>,
    room: usize,
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.room);
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.room -= count;
        self.taken.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A client and the layer at the other end.
struct Pair {
    client: ClientConnection,
    layer: Layer,
    socket: Socket,
    /// What the layer has received.
    plaintext: Vec<u8>,
    /// What the client has received.
    received: Vec<u8>,
}

impl Pair {
    fn new(config: &Arc<ClientConfig>, setup: &Setup) -> Self {
        let client = ClientConnection::new(Arc::clone(config), "localhost".try_into().unwrap()).unwrap();
        let socket = Socket { room: usize::MAX, ..Socket::default() };
        Self {
            client,
            layer: Layer::new(setup).unwrap(),
            socket,
            plaintext: Vec::new(),
            received: Vec::new(),
        }
    }

    /// Exchanges bytes until there are none, those of the client in pieces of `piece` bytes.
    fn exchange(&mut self, piece: usize) -> Outcome {
        loop {
            let mut sent = Vec::new();
            while self.client.wants_write() {
                self.client.write_tls(&mut sent).unwrap();
            }
            for bytes in sent.chunks(piece) {
                let outcome = self.layer.receive(bytes, &mut self.plaintext);
                if outcome != Outcome::Open {
                    self.layer.flush(&mut self.socket).unwrap();
                    return outcome;
                }
            }
            self.layer.flush(&mut self.socket).unwrap();
            let answer = std::mem::take(&mut self.socket.taken);
            if sent.is_empty() && answer.is_empty() {
                return Outcome::Open;
            }
            let mut answer = &answer[..];
            while !answer.is_empty() {
                self.client.read_tls(&mut answer).unwrap();
                if self.client.process_new_packets().is_err() {
                    break;
                }
                // That there is no more for now is no failure.
                let _ = self.client.reader().read_to_end(&mut self.received);
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.layer.write_vectored(&[IoSlice::new(bytes)], COPIED_AHEAD_MAXIMUM, &mut self.socket)
    }
}

fn setup(listener: &Listener) -> Setup {
    load(listener).unwrap().unwrap()
}

fn server(authority: &Authority, change: impl FnOnce(&mut Listener)) -> Setup {
    let files = authority.issue("server", "/CN=localhost");
    let mut listener = listener(&files);
    change(&mut listener);
    setup(&listener)
}

/// Makes a listener demand certificates of the authority of its own certificate, and take the User Name from them as
/// `user_name` says.
fn demand(listener: &mut Listener, files: &Files, user_name: UserNameSource) {
    let tls = listener.tls.as_mut().unwrap();
    tls.requires_certificate = true;
    tls.authorities = Some(files.authority.clone());
    listener.options = Rc::new(ListenerOptions { user_name, ..(*listener.options).clone() });
}

#[test]
fn bytes_arrive_however_the_ciphertext_is_cut() {
    let authority = Authority::new();
    let setup = server(&authority, |_| ());
    let config = Arc::new(authority.client(None));
    for piece in [1, 7, 1000, usize::MAX] {
        let mut pair = Pair::new(&config, &setup);
        assert_eq!(pair.exchange(piece), Outcome::Open);
        assert_eq!(pair.layer.introduce(), None);
        let sent: Vec<u8> = (0..40_000_u32).map(|number| number.to_le_bytes()[0]).collect();
        pair.client.writer().write_all(&sent).unwrap();
        assert_eq!(pair.exchange(piece), Outcome::Open);
        assert!(pair.plaintext == sent);
        assert_eq!(pair.write(&sent).unwrap(), sent.len());
        assert_eq!(pair.exchange(piece), Outcome::Open);
        assert!(pair.received == sent);
    }
}

#[test]
fn keys_are_written_where_the_operator_wants_them() {
    let authority = Authority::new();
    let path = std::env::temp_dir().join(format!("brooklet-tls-keys-{}", std::process::id()));
    let setup = server(&authority, |listener| {
        listener.tls.as_mut().unwrap().key_log = Some(path.clone().into());
    });
    let mut pair = Pair::new(&Arc::new(authority.client(None)), &setup);
    pair.exchange(usize::MAX);
    let keys = std::fs::read_to_string(&path).unwrap();
    assert!(keys.lines().any(|line| line.starts_with("SERVER_TRAFFIC_SECRET_0 ")), "{keys}");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn queued_ciphertext_is_bounded() {
    let authority = Authority::new();
    let mut pair = Pair::new(&Arc::new(authority.client(None)), &server(&authority, |_| ()));
    pair.exchange(usize::MAX);
    let idle = pair.layer.memory();
    pair.socket.room = 10;
    assert_eq!(pair.write(&[7; 100_000]).unwrap(), COPIED_AHEAD_MAXIMUM);
    // Not even a little is queued after it, though a part of it has left: small records take more than their contents.
    for _ in 0..3 {
        pair.socket.room = 10_000;
        assert_eq!(pair.write(b"more").unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
    assert!(pair.layer.has_output());
    let waiting = pair.layer.memory() - idle;
    assert!((COPIED_AHEAD_MAXIMUM - 40_000..COPIED_AHEAD_MAXIMUM - 10_000).contains(&waiting), "{waiting}");
    pair.socket.room = usize::MAX;
    pair.layer.flush(&mut pair.socket).unwrap();
    assert!(!pair.layer.has_output());
    assert_eq!(pair.layer.memory(), idle);
    assert_eq!(pair.write(b"more").unwrap(), 4);
}

#[test]
fn both_sides_say_when_nothing_more_comes() {
    let authority = Authority::new();
    let mut pair = Pair::new(&Arc::new(authority.client(None)), &server(&authority, |_| ()));
    pair.exchange(usize::MAX);
    pair.layer.close();
    assert_eq!(pair.exchange(usize::MAX), Outcome::Open);
    let count = pair.client.reader().read(&mut [0; 10]).unwrap();
    assert_eq!(count, 0, "a clean end, and no missing close_notify");
    pair.client.writer().write_all(b"last").unwrap();
    pair.client.send_close_notify();
    assert_eq!(pair.exchange(usize::MAX), Outcome::Closed);
    assert_eq!(pair.plaintext, b"last");
}

#[test]
fn a_client_is_named_by_its_certificate() {
    let authority = Authority::new();
    let files = authority.issue("client", "/O=Acme/CN=sensor 7");
    let config = Arc::new(authority.client(Some(&files)));
    for (user_name, expected) in [
        (UserNameSource::Connect, None),
        (UserNameSource::CommonName, Some("sensor 7")),
        (UserNameSource::Subject, Some("CN=sensor 7,O=Acme")),
    ] {
        let setup = server(&authority, |listener| demand(listener, &files, user_name));
        let mut pair = Pair::new(&config, &setup);
        assert_eq!(pair.layer.introduce(), None, "no certificate has been presented yet");
        pair.exchange(usize::MAX);
        assert_eq!(pair.layer.introduce().as_deref(), expected);
        assert_eq!(pair.layer.introduce(), None, "it is told once");
    }
}

#[test]
fn a_session_is_resumed_with_its_name_until_the_files_are_loaded_again() {
    let authority = Authority::new();
    let files = authority.issue("client", "/CN=sensor");
    let load = || server(&authority, |listener| demand(listener, &files, UserNameSource::CommonName));
    let config = Arc::new(authority.client(Some(&files)));
    let setup = load();
    let mut kinds = Vec::new();
    for setup in [&setup, &setup, &load()] {
        let mut pair = Pair::new(&config, setup);
        assert_eq!(pair.exchange(usize::MAX), Outcome::Open);
        assert_eq!(pair.layer.introduce().as_deref(), Some("sensor"));
        kinds.push(pair.client.handshake_kind().unwrap());
    }
    assert_eq!(kinds, [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Full]);
}

#[test]
fn a_certificate_is_requested_only_where_it_is_needed() {
    let authority = Authority::new();
    let stranger = Authority::new();
    let files = stranger.issue("client", "/CN=stranger");
    let known = authority.issue("known", "/CN=known");
    let vouched = |listener: &mut Listener| {
        listener.tls.as_mut().unwrap().authorities = Some(known.authority.clone());
    };
    let mut config = authority.client(Some(&files));
    let indifferent = server(&authority, vouched);
    assert_eq!(Pair::new(&Arc::new(config.clone()), &indifferent).exchange(usize::MAX), Outcome::Open);
    let curious = server(&authority, |listener| {
        vouched(listener);
        listener.options =
            Rc::new(ListenerOptions { user_name: UserNameSource::CommonName, ..(*listener.options).clone() });
    });
    let outcome = Pair::new(&Arc::new(config), &curious).exchange(usize::MAX);
    assert!(matches!(outcome, Outcome::Failed(why) if why.contains("not issued by an authority")));
    config = authority.client(None);
    assert_eq!(Pair::new(&Arc::new(config), &curious).exchange(usize::MAX), Outcome::Open);
    let mut pair = Pair::new(&Arc::new(authority.client(Some(&known))), &curious);
    pair.exchange(usize::MAX);
    assert_eq!(pair.layer.introduce().as_deref(), Some("known"));
}

#[test]
fn a_refused_client_gets_an_alert_and_the_log_a_reason() {
    let authority = Authority::new();
    let good = authority.issue("good", "/CN=good");
    let revoked = authority.issue("revoked", "/CN=revoked");
    let list = authority.revoke(&revoked);
    let setup = server(&authority, |listener| {
        demand(listener, &good, UserNameSource::CommonName);
        listener.tls.as_mut().unwrap().revoked = Some(list);
    });
    let stranger = Authority::new().issue("stranger", "/CN=stranger");
    let cases = [
        (Some(&good), None),
        (None, Some("the client presented no certificate")),
        (Some(&revoked), Some("the client's certificate was revoked")),
        (Some(&authority.issue_expired("old", "/CN=old")), Some("the client's certificate has expired")),
        (
            Some(&stranger),
            Some("the client's certificate was not issued by an authority in cafile or capath"),
        ),
        (
            Some(&authority.issue_for_servers("wrong", "/CN=wrong")),
            Some("the client's certificate is not meant for clients"),
        ),
    ];
    for (files, expected) in cases {
        let mut pair = Pair::new(&Arc::new(authority.client(files)), &setup);
        let outcome = pair.exchange(usize::MAX);
        match (&outcome, expected) {
            (Outcome::Failed(why), Some(expected)) => assert!(why.starts_with(expected), "{why}"),
            _ => assert_eq!((&outcome, expected), (&Outcome::Open, None)),
        }
        if outcome != Outcome::Open {
            assert!(!pair.socket.taken.is_empty(), "an alert tells the client");
            assert_eq!(pair.write(b"into the void").unwrap(), 13);
        }
    }
}

#[test]
fn the_name_of_the_protocol_must_fit_if_there_is_one() {
    let authority = Authority::new();
    let mqtt = server(&authority, |_| ());
    let websocket = server(&authority, |listener| {
        listener.protocol = Protocol::WebSocket { origins: Vec::new(), headers: 4096 };
    });
    for (offer, of_mqtt, of_websocket) in [
        (&[][..], true, true),
        (&["mqtt"], true, false),
        (&["x", "mqtt"], true, false),
        (&["http/1.1"], false, true),
    ] {
        let mut config = authority.client(None);
        config.alpn_protocols = offer.iter().map(|name| name.as_bytes().to_vec()).collect();
        let config = Arc::new(config);
        for (setup, is_welcome) in [(&mqtt, of_mqtt), (&websocket, of_websocket)] {
            let outcome = Pair::new(&config, setup).exchange(usize::MAX);
            assert_eq!(outcome == Outcome::Open, is_welcome, "{offer:?}: {outcome:?}");
        }
    }
}

#[test]
fn bytes_that_are_not_tls_are_refused_at_once() {
    let authority = Authority::new();
    let setup = server(&authority, |_| ());
    let mut layer = Layer::new(&setup).unwrap();
    let connect = b"\x10\x0c\0\x04MQTT\x04\x02\0\0\0\0";
    let outcome = layer.receive(connect, &mut Vec::new());
    assert_eq!(outcome, Outcome::Failed("the client does not speak TLS, it is MQTT without TLS at a port with TLS: turn TLS on in the client".to_owned()));
    assert_eq!(layer.receive(connect, &mut Vec::new()), Outcome::Open, "what follows is of no interest");
}

#[test]
fn the_newest_version_can_be_demanded() {
    let authority = Authority::new();
    let config = Arc::new(authority.client_of(&[&TLS12], None));
    assert_eq!(Pair::new(&config, &server(&authority, |_| ())).exchange(usize::MAX), Outcome::Open);
    let strict = server(&authority, |listener| listener.tls.as_mut().unwrap().is_1_3_only = true);
    assert_eq!(
        Pair::new(&config, &strict).exchange(usize::MAX),
        Outcome::Failed("the client offers no version of TLS that is spoken here".to_owned())
    );
}

#[test]
fn certificates_of_the_oldest_version_are_judged_as_far_as_they_can_be() {
    let authority = Authority::new();
    let rsa = authority.issue_v1("rsa", "/CN=old", "rsa");
    let ec = authority.issue_v1("ec", "/CN=old", "ec");
    let setup = server(&authority, |listener| demand(listener, &ec, UserNameSource::CommonName));
    for files in [&rsa, &ec] {
        for version in [&TLS12, &TLS13] {
            let mut pair = Pair::new(&Arc::new(authority.client_of(&[version], Some(files))), &setup);
            assert_eq!(pair.exchange(usize::MAX), Outcome::Open);
            assert_eq!(pair.layer.introduce().as_deref(), Some("old"));
        }
    }
    // A valid certificate with another client's key.
    let mut stolen = ec.clone();
    stolen.key = authority.issue("thief", "/CN=thief").key;
    let forged = authority.impostor().issue_v1("forged", "/CN=old", "ec");
    let unknown = Authority::new().issue_v1("unknown", "/CN=old", "ec");
    for (files, expected) in [
        (&stolen, "the client's certificate was not signed by the issuer that it names"),
        (&forged, "the client's certificate was not signed by the issuer that it names"),
        (&unknown, "the client's certificate was not issued by an authority in cafile or capath"),
    ] {
        for version in [&TLS12, &TLS13] {
            let mut pair = Pair::new(&Arc::new(authority.client_of(&[version], Some(files))), &setup);
            assert_eq!(pair.exchange(usize::MAX), Outcome::Failed(expected.to_owned()));
            assert_eq!(pair.layer.introduce(), None);
        }
    }
    let revoked = authority.issue("revoked", "/CN=revoked");
    let list = authority.revoke(&revoked);
    let strict = server(&authority, |listener| {
        demand(listener, &ec, UserNameSource::CommonName);
        listener.tls.as_mut().unwrap().revoked = Some(list);
    });
    let outcome = Pair::new(&Arc::new(authority.client(Some(&ec))), &strict).exchange(usize::MAX);
    assert!(matches!(outcome, Outcome::Failed(why) if why.contains("not covered by crlfile")));
}
