//! Retained messages for new subscriptions: for very many clients, and by filters that match few of very many topics.

use crate::bystander::Bystander;
use crate::clients::{clean, retain, subscribe_all};
use crate::server::{Peer, Server};
use crate::wire::{Publish, V5, acknowledge, received, subscribe};

/// Topics of four levels, in order, of which one in 32 ends in `m`.
fn sparse_topics(count: usize) -> Vec<String> {
    let last = |number: usize| if number.is_multiple_of(32) { 'm' } else { 'n' };
    (0..count).map(|number| format!("a/{:03}/{number:06}/{}", number / 100, last(number))).collect()
}

/// The topics that `a/+/+/m` matches.
fn sparse_matches(topics: &[String]) -> Vec<String> {
    topics.iter().filter(|topic| topic.ends_with('m')).cloned().collect()
}

const SPARSE: &str = "a/+/+/m";

/// The topics of all PUBLISH packets that a peer has received since the last call, and the other packets.
fn take_topics(server: &mut Server, peer: Peer) -> (Vec<String>, Vec<Vec<u8>>) {
    let (messages, others): (Vec<_>, Vec<_>) =
        server.take(peer).into_iter().partition(|packet| packet[0] >> 4 == 3);
    let topic = |packet: &Vec<u8>| {
        let message = received(V5, packet);
        assert!(message.retain && message.payload == message.topic.as_bytes());
        message.topic
    };
    (messages.iter().map(topic).collect(), others)
}

#[test]
fn very_many_subscribe_to_many_retained_messages() {
    let topics: Vec<String> = (0..60).map(|number| format!("r/{number:02}")).collect();
    let mut server = Server::new();
    retain(&mut server, &topics);
    let clients = server.connect_all((0..1_000).map(|number| clean(&format!("c{number}"))));
    let mut bystander = Bystander::patient(&mut server, 3);
    for chunk in clients.chunks(40) {
        for &client in chunk {
            server.send(client, subscribe(V5, 1, &[], &[("r/#", 1)]));
        }
        bystander.beside_a_turn(&mut server);
    }
    server.settle_beside(&mut bystander);
    bystander.assert_answered(20);
    for client in clients {
        let (found, others) = take_topics(&mut server, client);
        assert_eq!(found, topics);
        assert_eq!(others.len(), 1, "a SUBACK");
    }
    server.broker.check_invariants();
}

/// The messages for a few of them are far more than a turn's work.
#[test]
fn a_few_subscribe_to_very_many_retained_messages() {
    let topics: Vec<String> = (0..10_000).map(|number| format!("r/{number:05}")).collect();
    let mut server = Server::new();
    retain(&mut server, &topics);
    let mut bystander = Bystander::new(&mut server);
    let clients = server.connect_all((0..6).map(|number| clean(&format!("c{number}"))));
    server.acknowledge_all(&clients);
    for (number, &client) in clients.iter().enumerate() {
        server.send(client, subscribe(V5, 1, &[], &[("r/#", u8::from(number % 2 == 0))]));
    }
    server.settle_beside(&mut bystander);
    bystander.assert_answered(20);
    for client in clients {
        assert_eq!(take_topics(&mut server, client).0, topics);
    }
    server.broker.check_invariants();
}

/// Clients acknowledge everything they have received in one write each, and so on until they have received all.
fn replay_acknowledged(clients: usize, topics: usize, turns_allowed: usize) {
    let topics = sparse_topics(topics);
    let matches = sparse_matches(&topics);
    let mut server = Server::with_limits(|limits| limits.in_flight = 64);
    retain(&mut server, &topics);
    let mut bystander = Bystander::new(&mut server);
    let clients = server.connect_all((0..clients).map(|number| clean(&format!("c{number}"))));
    for &client in &clients {
        server.send(client, subscribe(V5, 1, &[], &[(SPARSE, 1)]));
    }
    let before = server.turns;
    let mut found = vec![Vec::new(); clients.len()];
    while found.iter().any(|found| found.len() < matches.len()) {
        server.settle_beside(&mut bystander);
        for (found, &client) in found.iter_mut().zip(&clients) {
            let messages: Vec<Vec<u8>> =
                server.take(client).into_iter().filter(|packet| packet[0] >> 4 == 3).collect();
            assert!(!messages.is_empty() || found.len() == matches.len(), "it gets on");
            let messages: Vec<_> = messages.iter().map(|packet| received(V5, packet)).collect();
            let identifiers = messages.iter().map(|message| message.packet_identifier.expect("QoS 1"));
            let answers: Vec<u8> = identifiers.flat_map(|number| acknowledge(0x40, number)).collect();
            found.extend(messages.into_iter().map(|message| message.topic));
            if !answers.is_empty() {
                server.send(client, answers);
            }
        }
    }
    server.settle();
    for found in found {
        assert_eq!(found, matches, "each once and in order");
    }
    let turns = server.turns - before;
    assert!(turns <= turns_allowed, "{turns} turns: the walks start from the beginning");
    server.broker.check_invariants();
}

/// Examining a topic takes two steps: 20,000 topics take three turns. Walks that start from the beginning at each of
/// the 625 acknowledgements take 700.
#[test]
fn an_acknowledged_replay_goes_on_where_it_was() {
    replay_acknowledged(1, 20_000, 40);
}

#[test]
fn twenty_acknowledged_replays_go_on_where_they_were() {
    replay_acknowledged(20, 10_000, 120);
}

/// Each SUBSCRIBE to the same filter sends the retained messages from the beginning.
#[test]
fn very_many_subscribes_to_a_sparse_filter() {
    let topics = sparse_topics(5_000);
    let matches = sparse_matches(&topics);
    let mut server = Server::with_small_budget();
    retain(&mut server, &topics);
    let mut bystander = Bystander::new(&mut server);
    let client = server.connect(clean("c"));
    server.acknowledge_all(&[client]);
    let subscribes: Vec<u8> =
        (1..=300).flat_map(|number| subscribe(V5, number, &[], &[(SPARSE, 0)])).collect();
    server.send(client, subscribes);
    server.settle_beside(&mut bystander);
    bystander.assert_answered(5);
    let packets = server.take(client);
    let is_suback = |packet: &&Vec<u8>| packet[0] == 0x90;
    let subacks: Vec<u16> =
        packets.iter().filter(is_suback).map(|packet| u16::from_be_bytes([packet[2], packet[3]])).collect();
    assert_eq!(subacks, (1..=300).collect::<Vec<u16>>());
    let last = packets.iter().rposition(|packet| packet[0] == 0x90).expect("a SUBACK");
    let found: Vec<String> = packets[last + 1..].iter().map(|packet| received(V5, packet).topic).collect();
    assert!(found.ends_with(&matches), "all come after the last one");
    server.broker.check_invariants();
}

/// Clients each of whose filters matches one of very many topics, so that all have to be examined.
#[test]
fn very_many_sparse_filters_of_many_clients() {
    let last =
        |number: usize| if number.is_multiple_of(50) { format!("m{}", number / 50) } else { "n".to_owned() };
    let topics: Vec<String> = (0..500).map(|number| format!("a/{number:03}/{}", last(number))).collect();
    let mut server = Server::new();
    retain(&mut server, &topics);
    let clients = server.connect_all((0..100).map(|number| clean(&format!("c{number}"))));
    let mut bystander = Bystander::patient(&mut server, 3);
    let filters: Vec<String> = (0..10).map(|number| format!("a/+/m{number}")).collect();
    for chunk in clients.chunks(10) {
        for &client in chunk {
            server.send(client, subscribe_all(1, &filters, 0));
        }
        bystander.beside_a_turn(&mut server);
    }
    server.settle_beside(&mut bystander);
    bystander.assert_answered(20);
    let matches: Vec<String> = (0..10).map(|number| format!("a/{:03}/m{number}", number * 50)).collect();
    for client in clients {
        assert_eq!(take_topics(&mut server, client).0, matches);
    }
    server.broker.check_invariants();
}

/// A client that publishes all the time gets its retained messages at the same time.
#[test]
fn retained_messages_do_not_starve_while_their_subscriber_publishes() {
    let topics: Vec<String> = (0..2_000).map(|number| format!("r/{number:05}")).collect();
    let mut server = Server::new();
    retain(&mut server, &topics);
    let client = server.connect(clean("c"));
    let message = Publish::new(V5, "other", b"x").bytes();
    server.send(client, subscribe(V5, 1, &[], &[("r/#", 0)]));
    let mut turns = 0;
    let mut found = Vec::new();
    while found.len() < topics.len() {
        turns += 1;
        assert!(turns < 50, "it has got {} in 50 turns", found.len());
        server.send(client, message.repeat(1_000));
        server.turn();
        found.extend(take_topics(&mut server, client).0);
    }
    assert_eq!(found, topics);
    server.settle();
    server.broker.check_invariants();
}

/// Topics that change during the walk over them: those that stay come once each.
#[test]
fn topics_come_and_go_while_they_are_sent() {
    let topics: Vec<String> = (0..5_000).map(|number| format!("r/{number:05}")).collect();
    let mut server = Server::new();
    retain(&mut server, &topics);
    let client = server.connect(clean("c"));
    let publisher = server.connect(clean("p"));
    server.send(client, subscribe(V5, 1, &[], &[("r/#", 0)]));
    server.turn();
    for topic in topics.iter().step_by(2) {
        server.send(publisher, Publish::new(V5, topic, b"").retain().bytes());
        if topic.ends_with("00") {
            server.turn();
        }
    }
    server.settle();
    let messages = server.take(client).into_iter().filter(|packet| packet[0] >> 4 == 3);
    let messages = messages.map(|packet| received(V5, &packet)).filter(|message| message.retain);
    let found: Vec<String> = messages.map(|message| message.topic).collect();
    assert!(found.is_sorted_by(|one, other| one < other), "in order, none twice");
    for topic in topics.iter().skip(1).step_by(2) {
        assert!(found.contains(topic), "{topic} stayed all the time");
    }
    server.broker.check_invariants();
}
