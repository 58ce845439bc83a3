//! Listeners that change places, by a reload or between two runs: sessions and messages belong to a listener's name.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};

use crate::place::{Place, end};
use crate::server::PATIENCE;

/// Writes rules that allow everything, and returns the configuration line with their path.
#[expect(clippy::disallowed_methods, reason = "a test may write files")]
fn acl_file(place: &Place) -> String {
    let path = place.0.join("rules");
    fs::write(&path, "topic readwrite #\n").expect("a file can be written");
    format!("acl_file {}\n", path.display())
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the system has a port");
    listener.local_addr().expect("it has an address").port()
}

/// A client of 3.1.1 without Clean Session.
struct Client(TcpStream);

impl Client {
    /// Returns the return code and whether the session was present as well.
    fn connect(port: u16, name: &str) -> (Self, u8, bool) {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the broker listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("the socket has timeouts");
        let mut body = b"\0\x04MQTT\x04\0\0\x3c\0".to_vec();
        body.push(u8::try_from(name.len()).expect("it is short"));
        body.extend(name.as_bytes());
        let length = u8::try_from(body.len()).expect("it is short");
        stream.write_all(&[&[0x10, length], &body[..]].concat()).expect("the broker reads");
        let mut client = Self(stream);
        let connack = client.packet();
        (client, connack[3], connack[2] == 1)
    }

    fn admitted(port: u16, name: &str) -> Self {
        let (client, code, _) = Self::connect(port, name);
        assert_eq!(code, 0);
        client
    }

    fn send(&mut self, packet: &[u8]) {
        self.0.write_all(packet).expect("the broker reads");
    }

    fn ask(&mut self, packet: &[u8]) -> Vec<u8> {
        self.send(packet);
        self.packet()
    }

    /// Reads one packet of less than 128 bytes.
    fn packet(&mut self) -> Vec<u8> {
        let mut packet = vec![0; 2];
        self.0.read_exact(&mut packet).expect("the broker answers");
        packet.resize(2 + usize::from(packet[1]), 0);
        self.0.read_exact(&mut packet[2..]).expect("the broker answers");
        packet
    }

    /// Asserts that the next messages have these payloads.
    fn expect(&mut self, payloads: &[&str]) {
        for payload in payloads {
            let packet = self.packet();
            assert_eq!(String::from_utf8_lossy(&packet[7..]), *payload, "{packet:02x?}");
        }
    }
}

const SUBSCRIBE: &[u8] = b"\x82\x06\0\x01\0\x01t\x01";

fn publish(client: &mut Client, payload: &str, is_retained: bool) {
    let length = u8::try_from(5 + payload.len()).expect("it is short");
    let head = [0x32 | u8::from(is_retained), length, 0, 1, b't', 0, 7];
    assert_eq!(client.ask(&[&head, payload.as_bytes()].concat()), [0x40, 2, 0, 7]);
}

/// Leaves a session with a subscription, which waits for a message.
fn leave_session(port: u16) {
    let mut client = Client::admitted(port, "away");
    assert_eq!(client.ask(SUBSCRIBE), [0x90, 3, 0, 1, 1]);
    client.send(b"\xe0\0");
    // The client is gone once the broker has closed its end.
    assert_eq!(client.0.read(&mut [0]).expect("the broker closes in good order"), 0);
}

#[test]
fn a_session_of_a_listener_that_is_gone_continues() {
    let place = Place::new("gone");
    let (one, other) = (free_port(), free_port());
    for rules in [String::new(), acl_file(&place)] {
        place.configure(&format!("{rules}listener {one} 127.0.0.1\nlistener {other} 127.0.0.1\n"));
        let server = place.serve();
        leave_session(other);
        publish(&mut Client::admitted(one, "p"), "before", false);
        end(server);
        place.configure(&format!("{rules}listener {one} 127.0.0.1\n"));
        let server = place.serve();
        server.signal("HUP");
        server.wait_for_line("The files were read again");
        publish(&mut Client::admitted(one, "p"), "after", false);
        let (mut client, code, is_present) = Client::connect(one, "away");
        assert_eq!((code, is_present), (0, true), "{rules}");
        client.expect(&["before", "after"]);
        client.send(b"\x40\x02\0\x01");
        end(server);
        fs::remove_file(place.0.join("brooklet.db")).expect("the store is there");
    }
}

#[test]
fn a_listener_that_a_reload_has_added_is_known_after_a_restart() {
    let place = Place::new("added");
    let (one, other) = (free_port(), free_port());
    let rules = acl_file(&place);
    place.configure(&format!("{rules}listener {one} 127.0.0.1\n"));
    let server = place.serve();
    place.configure(&format!("{rules}listener {other} 127.0.0.1\n"));
    server.signal("HUP");
    server.wait_for_line("The files were read again");
    leave_session(other);
    let mut publisher = Client::admitted(other, "p");
    publish(&mut publisher, "before", true);
    end(server);
    let server = place.serve();
    publish(&mut Client::admitted(other, "p"), "after", false);
    let (mut client, code, is_present) = Client::connect(other, "away");
    assert_eq!((code, is_present), (0, true));
    client.expect(&["before", "after"]);
    let mut fresh = Client::admitted(other, "fresh");
    assert_eq!(fresh.ask(SUBSCRIBE), [0x90, 3, 0, 1, 1]);
    fresh.expect(&["before"]);
    end(server);
}

#[test]
fn a_changed_mount_point_does_not_affect_connected_clients() {
    let place = Place::new("mounted");
    let port = free_port();
    place.configure(&format!("listener {port} 127.0.0.1\nmount_point one/\n"));
    let server = place.serve();
    let (mut first, mut publisher) = (Client::admitted(port, "first"), Client::admitted(port, "p"));
    assert_eq!(first.ask(SUBSCRIBE), [0x90, 3, 0, 1, 1]);
    place.configure(&format!("listener {port} 127.0.0.1\nmount_point two/\n"));
    server.signal("HUP");
    server.wait_for_line("The files were read again");
    let (mut second, mut other) = (Client::admitted(port, "second"), Client::admitted(port, "o"));
    assert_eq!(second.ask(SUBSCRIBE), [0x90, 3, 0, 1, 1]);
    publish(&mut publisher, "one", false);
    publish(&mut other, "two", false);
    first.expect(&["one"]);
    second.expect(&["two"]);
    end(server);
}

#[test]
fn a_moved_listener_still_has_its_mount_point_when_earlier_clients_have_left() {
    let place = Place::new("moved");
    let (one, other) = (free_port(), free_port());
    let listener = |port| format!("listener {port} 127.0.0.1\nlistener_name l\nmount_point m/\n");
    place.configure(&listener(one));
    let server = place.serve();
    let mut early = Client::admitted(one, "early");
    place.configure(&listener(other));
    server.signal("HUP");
    server.wait_for_line("The files were read again");
    let (mut late, mut publisher) = (Client::admitted(other, "late"), Client::admitted(other, "p"));
    assert_eq!(late.ask(SUBSCRIBE), [0x90, 3, 0, 1, 1]);
    early.send(b"\xe0\0");
    assert_eq!(early.0.read(&mut [0]).expect("the broker closes in good order"), 0);
    publish(&mut publisher, "mounted", false);
    late.expect(&["mounted"]);
    end(server);
}
