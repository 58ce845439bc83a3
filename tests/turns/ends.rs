//! The ends of sessions with very many messages.

use crate::bystander::Bystander;
use crate::clients::{burst, lasting, publisher};
use crate::server::Server;
use crate::wire::{Connect, V5, subscribe};

const QUEUED: usize = 60_000;
const STORED: u16 = 20_000;

/// A server on which a disconnected client has very many messages queued.
fn with_queue() -> Server {
    let mut server = Server::with_limits(|limits| {
        limits.queue_length = usize::MAX;
        limits.queue_bytes = usize::MAX;
        limits.steps_per_turn /= 4;
    });
    let client = server.connect([lasting("c"), subscribe(V5, 1, &[], &[("t", 1)])].concat());
    server.cut(client);
    let publisher = publisher(&mut server);
    for _ in 0..3 {
        server.send(publisher, burst(&["t"], 1, 20_000));
        server.settle();
    }
    assert_eq!(server.take(publisher).len(), QUEUED);
    server
}

#[test]
fn a_clean_start_over_very_many_messages() {
    let mut server = with_queue();
    let mut bystander = Bystander::new(&mut server);
    let client = server.open(Connect::new(V5, "c").bytes());
    let before = server.turns;
    server.turn();
    assert_eq!(server.take(client).len(), 1, "the CONNACK does not wait for the end of the former session");
    server.settle_beside(&mut bystander);
    bystander.assert_answered(3);
    assert!(server.turns - before >= 3, "it is the work of several turns");
    assert_eq!(server.broker.census().subscriptions, 1, "that of the bystander");
    server.send(client, subscribe(V5, 1, &[], &[("t", 1)]));
    server.settle();
    assert_eq!(server.take(client).len(), 1, "nothing is left of what was queued");
    server.broker.check_invariants();
}

#[test]
fn a_session_with_very_many_messages_expires() {
    let mut server = with_queue();
    let mut bystander = Bystander::new(&mut server);
    server.skip(brooklet::base::time::Duration::from_seconds(3_601));
    server.settle_beside(&mut bystander);
    bystander.assert_answered(3);
    let census = server.broker.census();
    assert_eq!((census.subscriptions, census.sessions), (1, 2), "the bystander and the publisher are left");
    server.broker.check_invariants();
}

/// All of them come, once and in order, while others are served.
#[test]
fn a_client_comes_back_for_very_many_messages() {
    let mut server = with_queue();
    let mut bystander = Bystander::new(&mut server);
    let client = server.open(lasting("c"));
    server.acknowledge_all(&[client]);
    server.settle_beside(&mut bystander);
    bystander.assert_answered(20);
    let packets = server.take(client);
    assert_eq!(packets.len(), QUEUED + 1);
    let texts = packets[1..].iter().map(|packet| crate::wire::received(V5, packet).payload);
    let expected = (0..3).flat_map(|_| 1..=20_000).map(|number: u16| number.to_string().into_bytes());
    assert!(texts.eq(expected));
    server.broker.check_invariants();
}

/// The same with the messages in a store, which forgets them as well.
#[test]
fn a_clean_start_over_very_many_stored_messages() {
    let mut server = Server::with_limits(|limits| {
        limits.queue_length = usize::MAX;
        limits.queue_bytes = usize::MAX;
    })
    .persistent();
    let client = server.connect([lasting("c"), subscribe(V5, 1, &[], &[("t", 1)])].concat());
    server.cut(client);
    let publisher = publisher(&mut server);
    server.send(publisher, burst(&["t"], 1, STORED));
    server.settle();
    assert_eq!(
        (server.take(publisher).len(), server.store().messages.len()),
        (usize::from(STORED), usize::from(STORED))
    );
    let mut bystander = Bystander::patient(&mut server, 3);
    let client = server.open(Connect::new(V5, "c").bytes());
    server.settle_beside(&mut bystander);
    assert_eq!(server.take(client).len(), 1);
    let store = server.store();
    assert_eq!((store.messages.len(), store.sessions.len()), (0, 0), "nothing is left of it");
    server.broker.check_invariants();
}
