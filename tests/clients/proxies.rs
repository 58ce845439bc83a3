//! Connections through a proxy, as the log has them.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::place::{Place, end};
use crate::server::Server;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// From 192.0.2.1, port 4660, without and with a certificate of `sensor` that the proxy has verified.
const PLAIN: &[u8] = b"\x21\x11\x00\x0c\xc0\0\x02\x01\xc0\0\x02\x02\x12\x34\x07\x5b";
const NAMED: &[u8] = b"\x21\x11\x00\x1d\xc0\0\x02\x01\xc0\0\x02\x02\x12\x34\x07\x5b\
    \x20\x00\x0e\x07\0\0\0\0\x22\x00\x06sensor";
const LOCAL: &[u8] = b"\x20\x00\x00\x00";
const CONNECT: &[u8] = b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01c";

/// Sends these bytes and returns everything that is answered until the broker closes or `count` bytes have come.
fn exchange(server: &Server, parts: &[&[u8]], count: usize) -> Vec<u8> {
    let mut stream = TcpStream::connect(server.address()).expect("the broker listens");
    stream.write_all(&parts.concat()).expect("the broker reads");
    let mut answer = vec![0; count];
    // The connection may be reset.
    let length = stream.read(&mut answer).unwrap_or(0);
    answer.truncate(length);
    answer
}

#[test]
fn only_clients_are_logged_and_by_their_own_address() {
    let place = Place::new("proxy");
    place.configure(
        "listener 0 127.0.0.1\nenable_proxy_protocol 2\nproxy_trusted_source 127.0.0.1\n\
         use_identity_as_username true\nrequire_certificate true\nlog_type all\n",
    );
    let server = place.serve();
    for check in [&[][..], &[SIGNATURE, LOCAL], &[SIGNATURE, NAMED], &[&SIGNATURE[..5]]] {
        for _ in 0..3 {
            let mut stream = TcpStream::connect(server.address()).expect("the broker listens");
            stream.write_all(&check.concat()).expect("the broker reads");
        }
    }
    assert_eq!(exchange(&server, &[SIGNATURE, PLAIN, CONNECT], 4), b"");
    server.wait_for_line(
        "Client 192.0.2.1:4660 disconnected: the client has presented no certificate that the proxy has verified.",
    );
    assert_eq!(exchange(&server, &[SIGNATURE, NAMED, CONNECT], 4), [0x20, 2, 0, 0]);
    server.wait_for_line("New client connected from 192.0.2.1:4660 as c (p4, c1, k0, u'sensor').");
    let started = server.lines_with("New connection from ");
    assert_eq!(started.len(), 1, "{started:?}");
    let expected = format!("New connection from 192.0.2.1:4660 on port {}.", server.port());
    assert!(started[0].ends_with(&expected), "{started:?}");
    let ended = server.lines_with(" disconnected");
    assert!(
        ended.iter().all(|line| !line.contains("closed by client") || line.contains("Client c [")),
        "{ended:?}"
    );
    end(server);
}

#[test]
fn an_untrusted_source_is_nobody() {
    let place = Place::new("proxy-untrusted");
    place.configure(
        "listener 0 127.0.0.1\nenable_proxy_protocol 2\nproxy_trusted_source 192.0.2.7\n\
         use_identity_as_username true\nrequire_certificate true\n",
    );
    let server = place.serve();
    for header in [NAMED, LOCAL] {
        assert_eq!(exchange(&server, &[SIGNATURE, header, CONNECT], 4), b"");
    }
    server.wait_for_lines("denied: PROXY headers are not accepted from this address", 2);
    assert!(server.lines_with("New client connected").is_empty());
    end(server);
}

#[test]
fn a_listener_without_a_proxy_logs_each_connection() {
    let place = Place::new("no-proxy");
    place.configure("listener 0 127.0.0.1\n");
    let server = place.serve();
    drop(TcpStream::connect(server.address()).expect("the broker listens"));
    server.wait_for_line("New connection from 127.0.0.1:");
    end(server);
}
