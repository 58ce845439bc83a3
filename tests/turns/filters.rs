//! Very many filters: overlapping ones of one client, in one packet, and of sessions that end.

use crate::bystander::Bystander;
use crate::clients::{assert_codes, burst, clean, numbers, publisher, subscribe_all};
use crate::server::Server;
use crate::wire::{V5, unsubscribe};

/// All filters of `levels` levels, each of which is a name or a wildcard.
fn overlapping(levels: u32) -> Vec<String> {
    let filter = |bits: u32| {
        let levels = (0..levels).map(|level| if bits >> level & 1 == 1 { "+" } else { "a" });
        levels.collect::<Vec<&str>>().join("/")
    };
    (0..1 << levels).map(filter).collect()
}

/// Subscribes `clients` clients to 8,192 overlapping filters and publishes to two topics in turn.
fn publish_to_overlapping(clients: usize, messages: u16) {
    let filters = overlapping(13);
    let mut server = Server::new();
    let mut bystander = Bystander::new(&mut server);
    let clients = server.connect_all((0..clients).map(|number| clean(&format!("c{number}"))));
    for &client in &clients {
        server.send(client, subscribe_all(1, &filters, 0));
    }
    server.settle_beside(&mut bystander);
    for &client in &clients {
        assert_codes(&server.take(client)[0], 0x90, 8_192, 0);
    }
    let publisher = publisher(&mut server);
    let (first, second) = (["a"; 13].join("/"), [["a"; 12].join("/"), "b".to_owned()].join("/"));
    server.send(publisher, burst(&[&first, &second], 0, messages));
    server.settle_beside(&mut bystander);
    bystander.assert_answered(20);
    for client in clients {
        assert_eq!(server.take_texts(client), numbers(usize::from(messages)), "once and in order");
    }
    server.broker.check_invariants();
}

#[test]
fn overlapping_filters_of_one_client() {
    publish_to_overlapping(1, 20);
}

#[test]
fn overlapping_filters_of_seven_clients() {
    publish_to_overlapping(7, 4);
}

/// The most that a packet can ask for.
#[test]
fn one_subscribe_of_two_megabytes_and_one_unsubscribe() {
    let mut server = Server::with_limits(|limits| limits.subscriptions_per_session = 1_000_000);
    let mut bystander = Bystander::new(&mut server);
    let client = server.connect(clean("c"));
    let filters: Vec<String> = (0..40_000).map(|number| format!("{number:040}/{number:04x}")).collect();
    let packet = subscribe_all(1, &filters, 1);
    assert!(packet.len() > 1_900_000);
    server.send(client, packet);
    server.settle_beside(&mut bystander);
    assert_codes(&server.take(client)[0], 0x90, filters.len(), 1);
    assert_eq!(server.broker.census().subscriptions, filters.len() + 1);
    let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
    server.send(client, unsubscribe(V5, 2, &filters));
    server.settle_beside(&mut bystander);
    bystander.assert_answered(20);
    assert_codes(&server.take(client)[0], 0xB0, filters.len(), 0);
    assert_eq!(server.broker.census().subscriptions, 1);
    server.broker.check_invariants();
}

/// Filters that do not exist have to be searched for all the same.
#[test]
fn one_unsubscribe_of_100_000_unknown_filters() {
    let mut server = Server::new();
    let mut bystander = Bystander::new(&mut server);
    let client = server.connect(clean("c"));
    let filters: Vec<String> = (0..100_000).map(|number| format!("u/{number}")).collect();
    let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
    server.send(client, unsubscribe(V5, 2, &filters));
    server.settle_beside(&mut bystander);
    bystander.assert_answered(20);
    assert_codes(&server.take(client)[0], 0xB0, filters.len(), 0x11);
    server.broker.check_invariants();
}

/// Beyond the limit of a session, filters are refused, however many there are.
#[test]
fn one_subscribe_beyond_the_limit() {
    let mut server = Server::with_limits(|limits| limits.subscriptions_per_session = 10);
    let mut bystander = Bystander::new(&mut server);
    let client = server.connect(clean("c"));
    let filters: Vec<String> = (0..50_000).map(|number| format!("u/{number}")).collect();
    server.send(client, subscribe_all(1, &filters, 1));
    server.settle_beside(&mut bystander);
    let suback = server.take(client).remove(0);
    let (granted, refused) = suback[suback.len() - filters.len()..].split_at(10);
    assert!(granted.iter().all(|&code| code == 1) && refused.iter().all(|&code| code == 0x97));
    server.broker.check_invariants();
}

#[test]
fn the_end_of_a_session_with_very_many_subscriptions() {
    let mut server = Server::with_limits(|limits| {
        limits.subscriptions_per_session = 1_000_000;
        limits.steps_per_turn /= 4;
    });
    let mut bystander = Bystander::new(&mut server);
    let held = server.broker.held();
    let client = server.connect(clean("c"));
    let filters: Vec<String> = (0..60_000).map(|number| format!("{}/{number}", number % 7)).collect();
    for chunk in filters.chunks(20_000) {
        server.send(client, subscribe_all(1, chunk, 1));
        server.settle();
    }
    assert_eq!(server.broker.census().subscriptions, filters.len() + 1);
    assert!(server.broker.held() - held > 4 * 1024 * 1024);
    server.cut(client);
    server.settle_beside(&mut bystander);
    bystander.assert_answered(20);
    let held_after = server.broker.held().saturating_sub(held);
    assert!(held_after < 1024 * 1024, "{held_after} bytes of what has ended are kept");
    assert_eq!((server.broker.census().subscriptions, server.broker.census().sessions), (1, 1));
    server.broker.check_invariants();
}

#[test]
fn the_end_of_many_sessions_with_many_subscriptions() {
    let mut server = Server::new();
    let clients = server.connect_all((0..100).map(|number| clean(&format!("c{number}"))));
    let filters: Vec<String> = (0..800).map(|number| format!("{}/{number}", number % 7)).collect();
    for &client in &clients {
        server.send(client, subscribe_all(1, &filters, 1));
    }
    server.settle();
    let mut bystander = Bystander::new(&mut server);
    assert_eq!(server.broker.census().subscriptions, 80_001);
    for client in clients {
        server.cut(client);
    }
    server.settle_beside(&mut bystander);
    bystander.assert_answered(20);
    assert_eq!((server.broker.census().subscriptions, server.broker.census().sessions), (1, 1));
    server.broker.check_invariants();
}
