//! Timeouts of peers whose input is unread, because the broker has not looked: the input counts before the silence
//! does, however many peers there are and however little of a turn is left for them.

use brooklet::base::time::Duration;
use brooklet::core::access::{AccessControl, Answer, Client, Question, Verdict};
use brooklet::core::limits::Limits;

use crate::clients::{clean, lasting, subscribers};
use crate::server::{Peer, Server};
use crate::wire::{Connect, PINGREQ, PINGRESP, Publish, V5, received, subscribe};

const MANY: usize = 3_000;
/// More turns than it takes to read so many peers.
const TURNS: usize = 400;

/// A client that may be silent for six seconds.
fn with_keep_alive(name: &str) -> Vec<u8> {
    Connect::new(V5, name).keep_alive(4).bytes()
}

fn connect_many(server: &mut Server) -> Vec<Peer> {
    server.connect_all((0..MANY).map(|number| with_keep_alive(&format!("c{number}"))))
}

fn take_turns(server: &mut Server, count: usize) {
    (0..count).for_each(|_| server.turn());
}

/// Asserts that peers that have sent something are answered, and that the others are closed.
fn assert_heard(server: &mut Server, spoken: &[Peer], silent: &[Peer]) {
    take_turns(server, TURNS);
    server.settle();
    for &peer in spoken {
        assert!(!server.is_closed(peer), "one that has sent a PINGREQ is not silent");
        assert_eq!(server.take(peer), [PINGRESP]);
    }
    for &peer in silent {
        assert!(server.is_closed(peer), "one that has sent nothing is silent");
    }
    server.broker.check_invariants();
}

/// All timers are due at once, and far more is unread than fits into a turn.
#[test]
fn unread_input_counts_before_the_silence_of_keep_alive() {
    let mut server = Server::new();
    let clients = connect_many(&mut server);
    for &client in &clients[..MANY / 2] {
        server.send(client, PINGREQ);
    }
    server.skip_quietly(Duration::from_seconds(7));
    assert_heard(&mut server, &clients[..MANY / 2], &clients[MANY / 2..]);
}

/// The poller does not report them: it was interrupted.
#[test]
fn input_that_the_poller_has_not_reported_counts() {
    let mut server = Server::new();
    let clients = connect_many(&mut server);
    for &client in &clients {
        server.send_quietly(client, PINGREQ);
    }
    server.skip(Duration::from_seconds(7));
    assert_heard(&mut server, &clients, &[]);
}

/// Others use up the input share of each turn.
#[test]
fn input_that_waits_for_its_turn_counts() {
    let mut server = Server::with_small_budget();
    subscribers(&mut server, 200, "busy", 0);
    let clients = server.connect_all((0..300).map(|number| with_keep_alive(&format!("c{number}"))));
    let publishers = server.connect_all((0..20).map(|number| clean(&format!("p{number}"))));
    let burst = Publish::new(V5, "busy", b"x").bytes().repeat(500);
    for &publisher in &publishers {
        server.send(publisher, &burst);
    }
    take_turns(&mut server, 2);
    for &client in &clients {
        server.send(client, PINGREQ);
    }
    server.skip_quietly(Duration::from_seconds(7));
    assert_heard(&mut server, &clients, &[]);
}

/// The time for a CONNECT, and the time to close after the broker's last packet.
#[test]
fn unread_input_counts_before_other_silence() {
    let mut server = Server::new();
    let limits = Limits::default();
    let greeting: Vec<Peer> = (0..MANY).map(|_| server.open_silently(V5)).collect();
    server.settle();
    for (number, &peer) in greeting.iter().enumerate().take(MANY / 2) {
        server.send_quietly(peer, clean(&format!("c{number}")));
    }
    server.skip(limits.connect_timeout);
    take_turns(&mut server, TURNS);
    server.settle();
    for (number, &peer) in greeting.iter().enumerate() {
        let packets = server.take(peer);
        assert_eq!(packets.first().map(|packet| packet[0]), (number < MANY / 2).then_some(0x20));
        assert_eq!(server.is_closed(peer), number >= MANY / 2);
    }
    server.broker.check_invariants();
}

/// An incomplete packet makes progress by its unread bytes. Bytes sent before the broker was held up are not measured
/// by the time that this took.
#[test]
fn a_large_packet_gets_on_while_the_broker_is_held_up() {
    let mut server = Server::new();
    let client = server.connect(with_keep_alive("c"));
    let subscriber = server.connect([clean("s"), subscribe(V5, 1, &[], &[("t", 0)])].concat());
    let publish = Publish::new(V5, "t", &vec![b'x'; 200_000]).bytes();
    server.take(subscriber);
    server.send(client, &publish[..1_000]);
    server.settle();
    // No more fits into the buffer of the socket.
    server.send(client, &publish[1_000..60_000]);
    server.hold_up(Duration::from_seconds(600));
    take_turns(&mut server, 4);
    for chunk in publish[60_000..].chunks(3_000) {
        assert!(!server.is_closed(client), "it gets on");
        server.send(client, chunk);
        server.pass(Duration::from_seconds(1));
    }
    server.settle();
    let packets = server.take(subscriber);
    assert_eq!(received(V5, packets.last().expect("the message")).payload.len(), 200_000);
}

/// A peer whose handshake takes several rounds has time for the next one when the broker continues.
#[test]
fn a_peer_that_waits_for_an_answer_has_time_to_go_on_when_the_broker_is_back() {
    let mut server = Server::new();
    let peer = server.open_silently(V5);
    server.settle();
    server.hold_up(Duration::from_seconds(60));
    take_turns(&mut server, 10);
    server.pass(Duration::from_seconds(4));
    assert!(!server.is_closed(peer));
    server.send(peer, clean("c"));
    server.settle();
    assert_eq!(server.take(peer)[0][0], 0x20);
    let other = server.open_silently(V5);
    server.pass(Limits::default().connect_timeout);
    server.settle();
    assert!(server.is_closed(other), "the time for a CONNECT ends nevertheless");
}

/// Decides later.
struct Slow;

impl AccessControl for Slow {
    fn ask(&mut self, _client: &Client<'_>, _question: Question<'_>) -> Answer {
        Answer::Later
    }
}

/// Its time does not run while its CONNECT waits for a decision.
#[test]
fn a_peer_whose_connect_waits_for_the_broker_is_not_silent() {
    let mut server = Server::with(Limits::default(), Slow);
    let peer = server.open(clean("c"));
    server.settle();
    server.pass(Duration::from_seconds(25));
    assert!(!server.is_closed(peer));
    server.broker.decide(peer, Verdict::Granted);
    server.settle();
    assert_eq!(server.take(peer)[0][0], 0x20);
}

/// A client that waits to be accepted finds its session and its Will unchanged.
#[test]
fn a_client_that_waits_to_be_accepted_is_not_too_late() {
    let mut server = Server::new();
    let observer = server.connect([clean("o"), subscribe(V5, 1, &[], &[("w", 0)])].concat());
    server.take(observer);
    let will = |connect: Connect| connect.will("w", b"gone", 0, false, &[0x18, 0, 0, 0, 5]).bytes();
    let client = server.connect(will(Connect::new(V5, "c").resume().expiry(10)));
    server.cut(client);
    server.settle();
    server.hold_up(Duration::from_seconds(60));
    server.turn();
    let back = server.open(lasting("c"));
    server.settle();
    assert_eq!(server.take(back)[0][2], 1, "its session is there");
    server.pass(Duration::from_seconds(20));
    assert!(server.take(observer).is_empty(), "and its Will is not due");
}

/// On a machine that is always too slow, connections are closed eventually.
#[test]
fn timers_do_not_stand_still_for_ever() {
    let mut server = Server::new();
    let client = server.connect(with_keep_alive("c"));
    for _ in 0..20 {
        server.hold_up(Duration::from_seconds(2));
        server.turn();
    }
    server.settle();
    assert!(server.is_closed(client));
}
