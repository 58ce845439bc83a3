//! Shared Subscriptions with very many members.

use std::collections::BTreeSet;

use crate::bystander::Bystander;
use crate::clients::{burst, clean, lasting, numbers, publisher};
use crate::server::{Peer, Server};
use crate::wire::{DISCONNECT, Received, V5, received, subscribe};

const FILTER: &str = "$share/g/t";

/// How a member with much to do leaves a group.
enum Departure {
    /// Its connection ends; the session stays.
    Connection,
    /// Its session ends as well.
    Session,
    /// It unsubscribes and ends its session.
    Unsubscribed,
}

fn member(connect: Vec<u8>) -> Vec<u8> {
    [connect, subscribe(V5, 1, &[], &[(FILTER, 1)])].concat()
}

/// The messages among the packets that a peer has received.
fn messages(server: &mut Server, peer: Peer) -> Vec<Received> {
    let packets = server.take(peer).into_iter().filter(|packet| packet[0] >> 4 == 3);
    packets.map(|packet| received(V5, &packet)).collect()
}

/// One member has very many messages queued when the others arrive, and leaves.
fn depart(departure: &Departure) {
    const QUEUED: u16 = 8_000;
    let mut server = Server::with_limits(|limits| limits.burst_bytes = usize::MAX);
    let connect = match departure {
        Departure::Connection => lasting("first"),
        Departure::Session | Departure::Unsubscribed => clean("first"),
    };
    let first = server.connect(member(connect));
    let publisher = publisher(&mut server);
    server.send(publisher, burst(&["t"], 1, QUEUED));
    server.settle();
    let in_flight = server.take(first).len();
    assert_eq!(in_flight, 512, "it acknowledges nothing");
    let others = server.connect_all((0..3_000).map(|number| member(clean(&format!("m{number}")))));
    let mut bystander = Bystander::new(&mut server);
    match departure {
        Departure::Connection | Departure::Session => server.cut(first),
        Departure::Unsubscribed => {
            server.send(first, crate::wire::unsubscribe(V5, 2, &[FILTER]));
            server.send(first, DISCONNECT);
        }
    }
    server.settle_beside(&mut bystander);
    bystander.assert_answered(if matches!(departure, Departure::Unsubscribed) { 1 } else { 5 });
    let mut got = BTreeSet::new();
    for other in others {
        for message in messages(&mut server, other) {
            let text = String::from_utf8(message.payload).expect("text");
            assert!(got.insert(text.parse::<u16>().expect("a number")), "{text} comes twice");
        }
    }
    let moved_from = match departure {
        Departure::Connection => 513,
        Departure::Session | Departure::Unsubscribed => 1,
    };
    assert!(got.into_iter().eq(moved_from..=QUEUED), "each goes to another member");
    if matches!(departure, Departure::Connection) {
        let first = server.open(lasting("first"));
        server.settle();
        let texts = messages(&mut server, first).into_iter().map(|message| message.payload);
        let texts: Vec<String> = texts.map(|text| String::from_utf8(text).expect("text")).collect();
        assert_eq!(texts, numbers(512), "what it had got is its own");
    }
    server.broker.check_invariants();
}

#[test]
fn a_member_of_very_many_loses_its_connection() {
    depart(&Departure::Connection);
}

#[test]
fn a_member_of_very_many_ends_its_session() {
    depart(&Departure::Session);
}

#[test]
fn a_member_of_very_many_unsubscribes_and_leaves() {
    depart(&Departure::Unsubscribed);
}

/// If no member has room, all of them are examined for each message. The budget is small, so that fewer are needed.
#[test]
fn none_of_very_many_members_has_room() {
    let mut server = Server::with_limits(|limits| {
        limits.steps_per_turn = 2_048;
        limits.queue_length = 1;
    });
    let members = server.connect_all((0..3_000).map(|number| member(lasting(&format!("m{number}")))));
    for &peer in &members {
        server.cut(peer);
    }
    server.settle();
    let mut bystander = Bystander::new(&mut server);
    let publisher = publisher(&mut server);
    server.send(publisher, burst(&["t"], 1, 3_010));
    server.settle_beside(&mut bystander);
    let codes = server.take(publisher).into_iter().map(|packet| packet.get(4).copied().unwrap_or(0));
    let refused = codes.filter(|&code| code == 0x97).count();
    assert_eq!(refused, 10, "each has room for one");
    server.broker.check_invariants();
}

/// All members leave at once, each with a few messages.
#[test]
fn all_members_leave_one_after_the_other() {
    let mut server = Server::with_limits(|limits| limits.in_flight = 4);
    let mut members = server.connect_all((0..400).map(|number| member(clean(&format!("m{number}")))));
    let last = members.pop().expect("one");
    server.acknowledge_all(&[last]);
    let publisher = publisher(&mut server);
    server.send(publisher, burst(&["t"], 1, 2_000));
    server.settle();
    let mut bystander = Bystander::new(&mut server);
    for peer in members {
        server.cut(peer);
    }
    server.settle_beside(&mut bystander);
    let texts = messages(&mut server, last).into_iter().map(|message| message.payload);
    let number = |text: Vec<u8>| String::from_utf8(text).expect("text").parse::<u16>().expect("a number");
    let mut got: Vec<u16> = texts.map(number).collect();
    got.sort_unstable();
    assert!(got.into_iter().eq(1..=2_000), "the last one gets what all the others leave");
    server.broker.check_invariants();
}

/// Members with many messages in their queues lose their connections at the same time.
#[test]
fn members_with_long_queues_leave_at_once() {
    const MESSAGES: u16 = 24_000;
    let mut server = Server::with_limits(|limits| {
        limits.in_flight = 4;
        limits.steps_per_turn = 2_048;
        limits.queue_length = usize::MAX;
    });
    let members = server.connect_all((0..12).map(|number| member(lasting(&format!("m{number}")))));
    let publisher = publisher(&mut server);
    server.send(publisher, burst(&["t"], 1, MESSAGES));
    server.settle();
    let last = server.connect(member(clean("last")));
    server.acknowledge_all(&[last]);
    let mut bystander = Bystander::patient(&mut server, 3);
    let had: usize = members.iter().map(|&peer| messages(&mut server, peer).len()).sum();
    assert_eq!(had, 12 * 4, "the others are in the queues");
    for peer in members {
        server.cut(peer);
    }
    server.settle_beside(&mut bystander);
    bystander.assert_answered(20);
    let mut got: Vec<Vec<u8>> =
        messages(&mut server, last).into_iter().map(|message| message.payload).collect();
    let count = got.len();
    got.sort_unstable();
    got.dedup();
    assert_eq!((got.len(), count), (usize::from(MESSAGES) - had, usize::from(MESSAGES) - had));
    server.broker.check_invariants();
}
