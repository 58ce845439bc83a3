//! Work that does not come from the packets just received: timers, resumed connections, and work that waits beside a
//! flood.

use brooklet::base::time::Duration;

use crate::bystander::Bystander;
use crate::clients::{assert_codes, burst, clean, lasting, numbers, publisher, subscribe_all, subscribers};
use crate::server::{Peer, Server};
use crate::wire::{Connect, PINGREQ, Publish, V5, V311, received, subscribe};

fn texts_of(server: &mut Server, peer: Peer) -> Vec<String> {
    let packets = server.take(peer).into_iter().filter(|packet| packet[0] >> 4 == 3);
    let texts = packets.map(|packet| received(V5, &packet).payload);
    texts.map(|text| String::from_utf8(text).expect("text")).collect()
}

/// Messages that very many clients have not acknowledged are due to be sent again at the same time, to each only the
/// oldest.
#[test]
fn very_many_messages_are_sent_again() {
    let mut server = Server::new();
    let subscribe = subscribe(V311, 1, &[], &[("t", 1)]);
    let connect = |number: usize| Connect::new(V311, &format!("s{number}")).bytes();
    let peers = server.connect_all((0..5_000).map(|number| [connect(number), subscribe.clone()].concat()));
    let publisher = publisher(&mut server);
    server.send(publisher, burst(&["t"], 1, 2));
    server.settle();
    for &peer in &peers {
        assert_eq!(server.take(peer).len(), 2);
    }
    let mut bystander = Bystander::new(&mut server);
    server.skip_quietly(Duration::from_seconds(25));
    let (mut most, mut before) = (0, 0);
    bystander.beside_a_turn(&mut server);
    while server.is_busy() {
        let redelivered = server.broker.statistics().redelivered;
        (most, before) = (most.max(redelivered - before), redelivered);
        bystander.beside_a_turn(&mut server);
    }
    assert_eq!(server.broker.statistics().redelivered, 5_000);
    // Each takes five steps.
    assert!(most <= server.budget as u64 / 5, "{most} were sent again in one turn");
    for peer in peers {
        assert_eq!(server.take(peer).len(), 1);
    }
    server.broker.check_invariants();
}

/// A client that is a member of very many groups connects and disconnects: each of them is told.
#[test]
fn a_member_of_very_many_groups_comes_and_goes() {
    let mut server = Server::new();
    let filters: Vec<String> = (0..8_000).map(|number| format!("$share/g/{number}")).collect();
    let client = server.connect(lasting("c"));
    server.send(client, subscribe_all(1, &filters, 1));
    server.settle();
    assert_codes(&server.take(client)[0], 0x90, filters.len(), 1);
    let mut bystander = Bystander::new(&mut server);
    server.cut(client);
    server.settle_beside(&mut bystander);
    server.broker.check_invariants();
    let client = server.open(lasting("c"));
    server.settle_beside(&mut bystander);
    let other = server.connect(clean("other"));
    server.send(other, subscribe_all(1, &["$share/g/7".to_owned()], 1));
    let publisher = publisher(&mut server);
    server.send(publisher, burst(&["7"], 1, 10));
    server.settle_beside(&mut bystander);
    let counts = [client, other].map(|peer| texts_of(&mut server, peer).len());
    assert_eq!(counts, [5, 5], "both are connected and take turns");
    server.broker.check_invariants();
}

/// Very many connections that were not read, because their clients did not read, continue at the same time.
#[test]
fn very_many_go_on_to_be_read() {
    let mut server = Server::new();
    let peers = server.connect_all((0..60).map(|number| clean(&format!("c{number}"))));
    let mut bystander = Bystander::patient(&mut server, 3);
    for &peer in &peers {
        server.stall(peer, true);
        server.send(peer, PINGREQ.repeat(60_000));
    }
    server.settle_beside(&mut bystander);
    for &peer in &peers {
        server.stall(peer, false);
    }
    server.settle_beside(&mut bystander);
    for peer in peers {
        assert_eq!(server.take(peer).len(), 60_000);
    }
    server.broker.check_invariants();
}

/// Packets for very many subscribers that wait for a turn with room for them get one, however much others send.
#[test]
fn a_run_for_very_many_does_not_starve_beside_floods() {
    let mut server = Server::new();
    let subscribers = subscribers(&mut server, 3_000, "t", 0);
    let publisher = publisher(&mut server);
    let floods = server.connect_all((0..10).map(|number| clean(&format!("f{number}"))));
    server.send(publisher, burst(&["t"], 0, 1));
    server.settle();
    let message = Publish::new(V5, "t", b"").bytes();
    server.send(publisher, message.repeat(100));
    let last = *subscribers.last().expect("one");
    server.take(last);
    let mut turns = 0;
    let mut found = 0;
    while found < 100 {
        turns += 1;
        assert!(turns < 400, "it has got {found} in 400 turns");
        for &flood in &floods {
            server.send(flood, Publish::new(V5, "unheard", b"").bytes().repeat(2_000));
        }
        server.turn();
        found += server.take(last).len();
    }
    for peer in floods {
        server.cut(peer);
    }
    server.settle();
    server.broker.check_invariants();
}

/// Statistics that the broker publishes, for very many subscribers.
#[test]
fn very_many_subscribe_to_the_statistics() {
    let mut server = Server::new();
    server.broker.publish_sys(Some(Duration::from_seconds(10)), Duration::ZERO, server.now());
    let listeners = subscribers(&mut server, 1_500, "$SYS/#", 0);
    server.settle();
    for &peer in &listeners {
        server.take(peer);
    }
    let mut bystander = Bystander::new(&mut server);
    server.skip_quietly(Duration::from_seconds(11));
    server.settle_beside(&mut bystander);
    bystander.assert_answered(5);
    let topics = |server: &mut Server, peer| -> Vec<String> {
        server.take_messages(peer).into_iter().map(|message| message.topic).collect()
    };
    let first = topics(&mut server, listeners[0]);
    assert!(first.len() > 10, "there is something to tell");
    for &peer in &listeners[1..] {
        assert_eq!(topics(&mut server, peer), first, "all get the same");
    }
    server.broker.check_invariants();
}

/// Everything in flight to very many clients is sent again when they return.
#[test]
fn very_many_return_for_unacknowledged_messages() {
    let mut server = Server::new();
    let peers = crate::clients::lasting_subscribers(&mut server, 300, "t", 1);
    let publisher = publisher(&mut server);
    server.send(publisher, burst(&["t"], 1, 100));
    server.settle();
    for peer in peers {
        assert_eq!(server.take_texts(peer), numbers(100));
        server.cut(peer);
    }
    server.settle();
    let mut bystander = Bystander::patient(&mut server, 3);
    let mut peers = Vec::new();
    for number in 0..300 {
        peers.push(server.open(lasting(&format!("s{number}"))));
        if number % 50 == 49 {
            bystander.beside_a_turn(&mut server);
        }
    }
    server.settle_beside(&mut bystander);
    for peer in peers {
        assert_eq!(texts_of(&mut server, peer), numbers(100));
    }
    server.broker.check_invariants();
}
