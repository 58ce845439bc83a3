//! Outgoing connections of one server to another in the same process.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Barrier;

use super::*;
use crate::protocol::codec::{
    Connect, Disconnect, Packet, PacketIdentifier, Properties, ProtocolVersion, Side, Status, frame as cut,
};
use crate::server::destination::{CallId, Destination};
use crate::server::dial::{Failure, Report};
use crate::server::tls::testing::bridge_tls;
use crate::server::tls::{ClientSetup, load_client};

/// The longest packet, in bytes.
const PACKET_MAXIMUM: usize = 1_000_000;

/// A name that resolves to two addresses; no broker listens at the first.
const NAME: &str = "localhost";
const DEAD: [u8; 4] = [127, 0, 0, 2];
const ALIVE: [u8; 4] = [127, 0, 0, 1];

fn at(address: [u8; 4], port: u16) -> SocketAddr {
    SocketAddr::from((address, port))
}

fn to(port: u16) -> Destination {
    let patience = Duration::from_seconds(30);
    Destination {
        host: NAME.to_owned(),
        port,
        from: None,
        keepalive: None,
        user_timeout: None,
        tls: None,
        websocket: None,
        patience,
    }
}

fn trust(files: &Files) -> ClientSetup {
    load_client(&bridge_tls(files)).unwrap()
}

/// A server that dials, with a resolver that returns these addresses. It needs no listener for that, but has one.
fn dialler(addresses: &'static [[u8; 4]]) -> Running {
    let files = Authority::new().issue("server", "/CN=localhost");
    let running = Running::start(None, make(&files, |listener| listener.tls = None));
    running.order(move |server| {
        server.look_up_by(Box::new(|_| Ok(addresses.iter().map(|&address| at(address, 0)).collect())));
    });
    running
}

/// A caller that has dialled and waits for reports.
struct Caller<'a> {
    running: &'a Running,
    id: CallId,
    received: Vec<u8>,
}

impl<'a> Caller<'a> {
    fn dial(running: &'a Running, destination: Destination) -> Self {
        let id = running.order(|server| server.dial(destination)).unwrap();
        Self { running, id, received: Vec::new() }
    }

    /// Waits for the next report.
    fn report(&self) -> Report {
        loop {
            if let Some((id, report)) = self.running.order(Server::next_report) {
                assert_eq!(id, self.id);
                return report;
            }
        }
    }

    /// Waits for the reasons of a failure.
    fn failures(&self) -> Vec<Failure> {
        match self.report() {
            Report::Failed(failures) => failures,
            other => panic!("{other:?}"),
        }
    }

    fn receive(&mut self) {
        let id = self.id;
        let bytes = self.running.order(move |server| {
            let mut received = Vec::new();
            server.receive(id, |bytes| received.extend_from_slice(bytes));
            received
        });
        self.received.extend(bytes);
    }

    /// Sends a packet, and receives at the same time.
    fn send(&mut self, packet: &Packet<'_>, version: ProtocolVersion) {
        let mut bytes = Vec::new();
        packet.encode(version, &mut bytes);
        let id = self.id;
        loop {
            let (count, rest) = self.running.order(move |server| (server.send(id, &bytes), bytes));
            bytes = rest;
            bytes.drain(..count);
            if bytes.is_empty() {
                return;
            }
            match self.report() {
                Report::Writable => {}
                Report::Readable => self.receive(),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Waits for a packet, and inspects it.
    fn expect<R>(&mut self, version: ProtocolVersion, look: impl FnOnce(Packet<'_>) -> R) -> R {
        loop {
            if let Ok(Status::Complete(packet)) = cut(&self.received, PACKET_MAXIMUM) {
                let length = packet.length;
                let looked = look(Side::Client.decode(&packet, version).unwrap());
                self.received.drain(..length);
                return looked;
            }
            match self.report() {
                Report::Readable => self.receive(),
                Report::Writable => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Speaks MQTT: receives a message of its own that is larger than any buffer on its way.
    fn speak(&mut self, version: ProtocolVersion) {
        let connect = Connect {
            version,
            is_bridge: false,
            clean_start: true,
            keep_alive: 60,
            client_identifier: "caller",
            user_name: None,
            password: None,
            will: None,
            properties: Properties::default(),
        };
        self.send(&Packet::Connect(connect), version);
        self.expect(version, |packet| {
            assert!(matches!(packet, Packet::ConnAck(connack) if connack.code == 0))
        });
        let subscribe: &[u8] = match version {
            ProtocolVersion::V5 => &[0x82, 7, 0, 1, 0, 0, 1, b'#', 1],
            ProtocolVersion::V31 | ProtocolVersion::V311 => &[0x82, 6, 0, 1, 0, 1, b'#', 1],
        };
        let Ok(Status::Complete(subscribe)) = cut(subscribe, 100) else { panic!("it is a packet") };
        self.send(&Side::Server.decode(&subscribe, version).unwrap(), version);
        self.expect(version, |packet| {
            assert!(matches!(packet, Packet::SubAck(suback) if suback.codes == [1]))
        });
        let payload = vec![7; 400_000];
        let publish = crate::protocol::codec::Publish {
            dup: false,
            retain: false,
            delivery: crate::protocol::codec::Delivery::AtLeastOnce(PacketIdentifier::new(2).unwrap()),
            topic: crate::protocol::topic::TopicName::new("t").ok(),
            properties: Properties::default(),
            payload: &payload,
        };
        self.send(&Packet::Publish(publish), version);
        let mut told = [false; 2];
        while told != [true; 2] {
            self.expect(version, |packet| match packet {
                Packet::PubAck(puback) => told[0] = puback.packet_identifier.value() == 2,
                Packet::Publish(publish) => told[1] = publish.payload == payload,
                other => panic!("{}", other.name()),
            });
        }
        self.send(&Packet::PingReq, version);
        self.expect(version, |packet| assert_eq!(packet, Packet::PingResp));
        self.send(&Packet::Disconnect(Disconnect::new(ReasonCode::Success)), version);
        loop {
            match self.report() {
                Report::Closed(why) => return assert_eq!(why, "connection closed by the server"),
                Report::Readable => self.receive(),
                Report::Writable => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn a_broker_is_a_client_of_another_through_every_layer() {
    let authority = Authority::new();
    let files = authority.issue("server", "/CN=localhost");
    let caller = dialler(&[DEAD, ALIVE]);
    for (has_tls, has_websocket) in [(false, false), (true, false), (false, true), (true, true)] {
        let other = Running::start(
            None,
            make(&files, move |listener| {
                if !has_tls {
                    listener.tls = None;
                }
                if has_websocket {
                    with_websocket(listener);
                }
            }),
        );
        for version in [ProtocolVersion::V311, ProtocolVersion::V5] {
            let destination = Destination {
                tls: has_tls.then(|| trust(&files)),
                websocket: has_websocket.then(|| "/mqtt".to_owned()),
                ..to(other.port)
            };
            let mut call = Caller::dial(&caller, destination);
            assert_eq!(call.report(), Report::Connected(at(ALIVE, other.port)), "{has_tls} {has_websocket}");
            call.speak(version);
        }
        assert!(caller.order(|server| server.links.calls.is_empty()));
    }
}

#[test]
fn a_silent_address_is_given_up() {
    let files = Authority::new().issue("server", "/CN=localhost");
    let other = Running::start(
        None,
        make(&files, |listener| {
            listener.tls = None;
            with_websocket(listener);
        }),
    );
    let silent = TcpListener::bind(at(DEAD, other.port)).unwrap();
    let caller = dialler(&[DEAD, ALIVE]);
    let websocket = Some("/".to_owned());
    let patience = Duration::from_milliseconds(200);
    let mut call = Caller::dial(&caller, Destination { websocket, patience, ..to(other.port) });
    assert_eq!(call.report(), Report::Connected(at(ALIVE, other.port)));
    call.speak(ProtocolVersion::V5);
    drop(silent);
}

#[test]
fn every_address_has_its_reason() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let files = authority.issue("server", "/CN=localhost");
    let other = Running::start(None, make(&files, |_| ()));
    let caller = dialler(&[DEAD, ALIVE]);
    let told = |destination: Destination| {
        let failures = Caller::dial(&caller, destination).failures();
        failures.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let foreign = trust(&stranger.issue("server", "/CN=localhost"));
    let (dead, alive) = (at(DEAD, other.port).to_string(), at(ALIVE, other.port).to_string());
    let cases = [
        (
            Destination { tls: Some(foreign), ..to(other.port) },
            "was not issued by an authority in bridge_cafile",
        ),
        (
            Destination { tls: Some(trust(&files)), host: "other.example".to_owned(), ..to(other.port) },
            "is for localhost, 127.0.0.1, not for other.example",
        ),
        (
            Destination { tls: Some(trust(&files)), websocket: Some("/".to_owned()), ..to(other.port) },
            // The server speaks plain MQTT there, in which such a request is no packet.
            "connection closed by the server",
        ),
        (
            Destination { websocket: Some("/ ".to_owned()), ..to(other.port) },
            "the host or the path cannot be part of an HTTP request",
        ),
    ];
    for (destination, expected) in cases {
        let reasons = told(destination);
        assert_eq!(reasons.len(), 2, "{reasons:?}");
        assert!(reasons[0].starts_with(&dead), "{reasons:?}");
        assert!(reasons[1].starts_with(&alive) && reasons[1].contains(expected), "{reasons:?} {expected}");
    }
    let caller = dialler(&[]);
    let failures = Caller::dial(&caller, to(1)).failures();
    assert_eq!(failures, [Failure { address: None, why: "localhost: it has no address".to_owned() }]);
}

#[test]
fn addresses_need_no_name() {
    let files = Authority::new().issue("server", "/CN=localhost");
    let other = Running::start(None, make(&files, |listener| listener.tls = None));
    let caller = dialler(&[]);
    let host = IpAddr::from(ALIVE).to_string();
    let mut call = Caller::dial(&caller, Destination { host, ..to(other.port) });
    assert_eq!(call.report(), Report::Connected(at(ALIVE, other.port)));
    call.speak(ProtocolVersion::V311);
}

#[test]
fn connections_come_from_where_they_should() {
    let listener = TcpListener::bind(at(ALIVE, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let caller = dialler(&[ALIVE]);
    let call = Caller::dial(&caller, Destination { from: Some([127, 0, 0, 3].into()), ..to(port) });
    let (_stream, from) = listener.accept().unwrap();
    assert_eq!(from.ip(), IpAddr::from([127, 0, 0, 3]));
    assert_eq!(call.report(), Report::Connected(at(ALIVE, port)));
    let from: IpAddr = "::1".parse().unwrap();
    let failures = Caller::dial(&caller, Destination { from: Some(from), ..to(port) });
    assert_eq!(call.report(), Report::Readable);
    assert!(failures.failures()[0].why.contains("of another family"));
    caller.order({
        let id = call.id;
        move |server| server.hang_up(id)
    });
    assert!(caller.order(|server| server.links.calls.is_empty()));
}

#[test]
fn the_system_gives_up_a_peer_that_has_vanished_when_it_should() {
    use std::time::Duration as StdDuration;
    let listener = TcpListener::bind(at(ALIVE, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let caller = dialler(&[ALIVE]);
    let milliseconds = Duration::from_milliseconds;
    for (keepalive, timeout, expected) in [
        (None, None, 0),
        (Some([61, 13, 4]), Some(milliseconds(12_345)), 12_345),
        (None, Some(milliseconds(i32::MAX.unsigned_abs().into())), i32::MAX.unsigned_abs().into()),
    ] {
        let call = Caller::dial(&caller, Destination { keepalive, user_timeout: timeout, ..to(port) });
        assert_eq!(call.report(), Report::Connected(at(ALIVE, port)));
        assert_eq!(call.report(), Report::Readable);
        let id = call.id;
        let (probes, set) = caller.order(move |server| {
            let socket = socket2::SockRef::from(server.links.calls.socket(id).unwrap());
            let probes = socket.keepalive().unwrap().then(|| {
                let seconds = [socket.tcp_keepalive_time(), socket.tcp_keepalive_interval()];
                let [idle, interval] = seconds.map(|duration| duration.unwrap().as_secs());
                [idle, interval, socket.tcp_keepalive_retries().unwrap().into()]
            });
            (probes, socket.tcp_user_timeout().unwrap())
        });
        caller.order(move |server| server.hang_up(id));
        assert_eq!(probes, keepalive.map(|numbers| numbers.map(u64::from)));
        assert_eq!(set.unwrap_or_default(), StdDuration::from_millis(expected));
    }
}

/// The server has given a reason for closing, and is gone when more is sent to it.
#[test]
fn the_last_packet_of_a_server_counts_when_it_takes_nothing_more() {
    const FAREWELL: [u8; 3] = [0xE0, 1, 0x8B];
    let listener = TcpListener::bind(at(ALIVE, 0)).unwrap();
    let caller = dialler(&[ALIVE]);
    let mut call = Caller::dial(&caller, to(listener.local_addr().unwrap().port()));
    let (mut stream, _) = listener.accept().unwrap();
    stream.write_all(&FAREWELL).unwrap();
    drop(stream);
    let id = call.id;
    for _ in 0..20 {
        caller.order(move |server| server.send(id, &[0xC0, 0]));
    }
    loop {
        match call.report() {
            Report::Readable => call.receive(),
            Report::Closed(_) => break,
            Report::Connected(_) | Report::Writable => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(call.received, FAREWELL);
}

/// A lookup never returns; everything else goes on, and the server can end.
#[test]
fn a_name_that_hangs_holds_up_nothing() {
    let files = Authority::new().issue("server", "/CN=localhost");
    let running = Running::start(None, make(&files, |listener| listener.tls = None));
    let (is_asked, never) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let (tell, hang) = (Arc::clone(&is_asked), Arc::clone(&never));
    running.order(move |server| {
        server.look_up_by(Box::new(move |_| {
            tell.wait();
            hang.wait();
            Err(io::Error::other("there is none"))
        }));
    });
    let call = Caller::dial(&running, to(1));
    is_asked.wait();
    greet(&mut running.connect(), "while it hangs");
    let id = call.id;
    assert_eq!(running.order(move |server| server.send(id, b"x")), 0, "it is not connected");
    running.order(move |server| server.hang_up(id));
    assert_eq!(running.order(Server::next_report), None);
    drop(running);
    never.wait();
}

#[test]
fn outgoing_connections_are_limited() {
    let caller = dialler(&[DEAD]);
    let outcome = caller.order(|server| (0..=256).map(|_| server.dial(to(1))).collect::<Vec<_>>());
    assert!(outcome[..256].iter().all(Result::is_ok));
    assert!(outcome[256].as_ref().is_err_and(|why| why.contains("256 outgoing connections")));
}
