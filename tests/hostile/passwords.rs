//! Many clients that log in at once, beside some that guess or leave: hashes are slow, and that must not keep clients
//! with the right password out.

use std::net::{SocketAddr, TcpStream};

use crate::directory::Directory;
use crate::peer::{Peer, dial, read_packet};
use crate::secure;
use crate::server::{PATIENCE, brooklet};
use crate::target::Target;
use crate::wire::{Connect, V5, V311};

/// A broker with these users, whose password is `right` and whose hashes have this many rounds, and with `more` in its
/// configuration.
fn broker(directory: &Directory, users: &[(&str, u32)], more: &str) -> Target {
    let passwords = directory.path().join("passwords");
    for (user, rounds) in users {
        let mut command = brooklet();
        command.args(["passwd", "-b", "-I", &rounds.to_string()]);
        if !passwords.exists() {
            command.arg("-c");
        }
        let status = command.arg(&passwords).args([user, "right"]).status();
        assert!(status.expect("the binary can be started").success());
    }
    Target::of(directory.serve(&format!("password_file {}\n{more}", passwords.display())))
}

fn connect(level: u8, device: &str, user: &str, password: &str) -> Vec<u8> {
    Connect::new(level, device).user_name(user).password(password.as_bytes()).bytes()
}

/// Sends bytes; the answer is read later, and may take as long as anything does here.
fn say(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut socket = dial(address);
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    // The broker may have closed it.
    let _ = std::io::Write::write_all(&mut socket, bytes);
    socket
}

/// The code of the CONNACK that comes.
fn code(socket: &mut TcpStream) -> u8 {
    read_packet(socket).expect("a CONNACK comes")[3]
}

fn fleet(address: SocketAddr, users: &[&str]) -> Vec<TcpStream> {
    let connects = (0..400).map(|number| {
        let level = if number % 2 == 0 { V5 } else { V311 };
        connect(level, &format!("d{number}"), users[number % users.len()], "right")
    });
    let mut sockets: Vec<TcpStream> = connects.map(|bytes| say(address, &bytes)).collect();
    let codes: Vec<u8> = sockets.iter_mut().map(code).collect();
    assert_eq!(codes, [0; 400]);
    sockets
}

#[test]
fn a_fleet_gets_in_at_once_and_returns_next_to_a_guesser_and_a_stale_device() {
    let directory = Directory::new("fleet");
    let users = ["ann", "bob", "cay", "dan"];
    let mut target = broker(&directory, &users.map(|user| (user, 50_000)), "");
    let address = target.address();
    // One client of 3.1.1 and one of 5.0 each have an old password, and do not give up.
    for number in 0..100 {
        let (level, expected) = if number % 2 == 0 { (V5, 0x86) } else { (V311, 4) };
        assert_eq!(code(&mut say(address, &connect(level, "stale", "ann", "old"))), expected);
    }
    drop(fleet(address, &users));
    target.serves();
    for number in 0..300 {
        let guess = say(address, &connect(V5, &format!("x{number}"), "ann", &format!("wrong{number}")));
        let expected = if number < 9 { 0x86 } else { 0x9F };
        assert_eq!(code(&mut { guess }), expected, "{number}");
    }
    let returned = fleet(address, &users);
    target.signal("HUP");
    target.wait_for_line("The files were read again");
    drop(returned);
    drop(fleet(address, &users));
    let mut new = say(address, &connect(V5, "new", "ann", "right"));
    assert_eq!(code(&mut new), 0x9F, "what was counted is not forgotten");
}

/// Clients that leave at once, with any closing handshake, ask for more work than there is time for.
#[test]
fn passwords_of_clients_that_have_left_are_not_verified() {
    let directory = Directory::new("left");
    let port = crate::directory::unused_port().port();
    let more = format!("max_password_attempts 0\n{}", directory.tls_listener(port));
    let mut target = broker(&directory, &[("ann", 101), ("slow", 300_000)], &more);
    let (address, tls) = (target.address(), SocketAddr::from(([127, 0, 0, 1], port)));
    let config = secure::config();
    let before = target.processor_time();
    assert_eq!(code(&mut say(address, &connect(V5, "first", "slow", "right"))), 0);
    let one = target.processor_time() - before;
    let handshakes = target.processor_time();
    for _ in 0..30 {
        drop(secure::connect(tls, &config, &connect(V5, "h", "ann", "right")));
    }
    let handshakes = target.processor_time() - handshakes;
    // Verifying this one takes so long that the others have come and gone before it is over.
    let first = say(address, &connect(V5, "blocker", "slow", "wrong"));
    for number in 0..60 {
        let bytes = connect(V5, &format!("x{number}"), "slow", &format!("wrong {number}"));
        match number % 3 {
            0 => drop(say(address, &bytes)),
            1 => {
                let socket = say(address, &bytes);
                socket.shutdown(std::net::Shutdown::Write).expect("it is open");
                assert!(read_packet(&mut { socket }).is_err(), "it is closed without a word");
            }
            _ => {
                let mut stream = secure::connect(tls, &config, &bytes);
                stream.conn.send_close_notify();
                // It may be closed already.
                let _ = std::io::Write::flush(&mut stream);
            }
        }
    }
    target.serves();
    let mut last = say(address, &connect(V5, "last", "slow", "also right"));
    assert_eq!(code(&mut last), 0x86);
    let spent = target.processor_time() - before - handshakes;
    assert!(spent < one * 20, "{spent:?} for sixty that left, where one hash takes {one:?}");
    drop(first);
    target.gives_back(crate::target::SLACK);
}

/// More clients than there is time for, from one address: the rest is refused with a code for that, and others are
/// still accepted.
#[test]
fn passwords_that_would_take_too_long_are_refused_as_busy() {
    let directory = Directory::new("busy");
    let mut target = broker(&directory, &[("ann", 101), ("slow", 1_000_000)], "max_password_attempts 0\n");
    let address = target.address();
    let attack: Vec<TcpStream> = (0..100)
        .map(|number| {
            let level = if number % 2 == 0 { V5 } else { V311 };
            say(address, &connect(level, &format!("x{number}"), "slow", &format!("wrong {number}")))
        })
        .collect();
    for (level, expected) in [(V5, 0x89), (V311, 3)] {
        let mut late = say(address, &connect(level, "late", "slow", "late"));
        assert_eq!(code(&mut late), expected);
    }
    target.wait_for_line("denied: server busy.");
    target.serves();
    let mut other = dial_from([127, 0, 0, 2], address, &connect(V5, "other", "ann", "right"));
    assert_eq!(code(&mut other), 0, "another address has its share");
    drop((attack, other));
    target.gives_back(crate::target::SLACK);
    Peer::connect(address, "anonymous").disconnect();
}

/// A connection from another address of this machine.
fn dial_from(from: [u8; 4], to: SocketAddr, bytes: &[u8]) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((from, 0)).into()).expect("an address of this machine");
    socket.connect(&to.into()).expect("the broker listens");
    let mut socket = TcpStream::from(socket);
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    std::io::Write::write_all(&mut socket, bytes).expect("the broker takes the bytes");
    socket
}
