//! The same with a store: what is promised is durable, however many turns it takes.

use std::collections::BTreeSet;

use crate::bystander::Bystander;
use crate::clients::{burst, clean, lasting, lasting_subscribers, numbers, publisher};
use crate::server::Server;
use crate::store::UnsettledMessage;
use crate::wire::{Publish, V5, subscribe};

#[test]
fn a_burst_for_very_many_persistent_subscribers() {
    let mut server = Server::new().persistent();
    let subscribers = lasting_subscribers(&mut server, 4_000, "t", 1);
    let mut bystander = Bystander::new(&mut server);
    let publisher = publisher(&mut server);
    server.send(publisher, burst(&["t"], 1, 4));
    server.settle_beside(&mut bystander);
    let expected: Vec<Vec<u8>> = (1..=4).map(|number| vec![0x40, 2, 0, number]).collect();
    assert_eq!(server.take(publisher), expected);
    for peer in subscribers {
        assert_eq!(server.take_texts(peer), numbers(4));
    }
    server.broker.check_invariants();
}

/// Disconnected clients return for their stored messages, all at once.
#[test]
fn very_many_return_for_stored_messages() {
    let mut server = Server::new().persistent();
    let subscribers = lasting_subscribers(&mut server, 1_000, "t", 1);
    for peer in subscribers {
        server.cut(peer);
    }
    server.settle();
    let publisher = publisher(&mut server);
    server.send(publisher, burst(&["t"], 1, 6));
    server.settle();
    assert_eq!(server.take(publisher).len(), 6);
    let mut bystander = Bystander::patient(&mut server, 3);
    let mut peers = Vec::new();
    for number in 0..1_000 {
        peers.push(server.open(lasting(&format!("s{number}"))));
        if number % 50 == 49 {
            bystander.beside_a_turn(&mut server);
        }
    }
    server.settle_beside(&mut bystander);
    for peer in peers {
        let packets = server.take(peer);
        assert_eq!((packets[0][0], packets[0][2]), (0x20, 1));
        let texts = packets[1..].iter().map(|packet| crate::wire::received(V5, packet).payload);
        let texts: Vec<String> = texts.map(|text| String::from_utf8(text).expect("text")).collect();
        assert_eq!(texts, numbers(6));
    }
    server.broker.check_invariants();
}

/// Recipients that are served at once share a row of their own, and the answer waits for the batch of the last one.
/// The receipt of a QoS 2 message is recorded only then.
#[test]
fn the_answer_waits_until_the_last_recipient_is_durable() {
    const CLIENTS: usize = 1_500;
    let mut server = Server::with_limits(|limits| limits.steps_per_turn = 2_048).persistent();
    let subscribers = lasting_subscribers(&mut server, CLIENTS, "t", 1);
    for peer in subscribers {
        server.cut(peer);
    }
    server.settle();
    let publisher = server.connect([lasting("p"), subscribe(V5, 1, &[], &[("other", 1)])].concat());
    server.take(publisher);
    let other = server.connect(lasting("other"));
    server.send(publisher, Publish::new(V5, "t", b"large").qos(2, 7).bytes());
    server.send(other, Publish::new(V5, "other", b"small").qos(1, 8).bytes());
    while server.take(other).is_empty() {
        server.turn();
    }
    assert!(server.is_busy() && server.store().received.is_empty());
    let mut answers = Vec::new();
    while answers.is_empty() {
        server.turn();
        answers = server.take(publisher);
        answers.retain(|packet| packet[0] == 0x50);
    }
    let store = server.store();
    assert_eq!(store.received.len(), 1, "it is noted before it is answered");
    let is_large = |row: &&UnsettledMessage| row.message.publication().payload == b"large";
    let rows: Vec<_> = store.messages.values().filter(is_large).collect();
    assert!((2..=50).contains(&rows.len()), "{} rows", rows.len());
    let recipients: Vec<_> = rows.iter().flat_map(|row| &row.open).collect();
    let sessions: BTreeSet<_> = recipients.iter().map(|recipient| recipient.session).collect();
    assert_eq!((recipients.len(), sessions.len()), (CLIENTS, CLIENTS));
    server.settle();
    server.broker.check_invariants();
}

/// The recipients served last need nothing to be durable; the answer waits for the first ones all the same.
#[test]
fn the_answer_waits_for_the_first_recipients() {
    let mut server = Server::with_limits(|limits| limits.steps_per_turn = 2_048).persistent();
    let first = lasting_subscribers(&mut server, 300, "t", 1);
    for peer in first {
        server.cut(peer);
    }
    server.settle();
    let subscribe = subscribe(V5, 1, &[], &[("t", 1)]);
    let connect = |number: usize| [clean(&format!("last{number}")), subscribe.clone()].concat();
    let last = server.connect_all((0..300).map(connect));
    let publisher = publisher(&mut server);
    server.send(publisher, burst(&["t"], 1, 1));
    server.stick_store(true);
    for _ in 0..20 {
        server.turn();
    }
    for peer in last {
        assert_eq!(server.take_texts(peer), numbers(1));
    }
    assert!(server.take(publisher).is_empty(), "what it promises is not durable");
    server.stick_store(false);
    server.settle();
    assert_eq!(server.take(publisher), [vec![0x40, 2, 0, 1]]);
    server.broker.check_invariants();
}
