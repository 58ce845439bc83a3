//! Messages for very many clients.

use crate::bystander::Bystander;
use crate::clients::{burst, clean, numbers, publisher, subscribers};
use crate::server::Server;
use crate::wire::{Connect, Publish, V5, subscribe};

#[test]
fn a_burst_of_qos_1_for_very_many() {
    let mut server = Server::new();
    let subscribers = subscribers(&mut server, 2_000, "t", 1);
    let mut bystander = Bystander::new(&mut server);
    let publisher = publisher(&mut server);
    server.send(publisher, burst(&["t"], 1, 40));
    server.settle_beside(&mut bystander);
    bystander.assert_answered(15);
    let answers = server.take(publisher);
    let expected: Vec<Vec<u8>> = (1..=40).map(|number| vec![0x40, 2, 0, number]).collect();
    assert_eq!(answers, expected, "each is answered with success, in order");
    for peer in subscribers {
        assert_eq!(server.take_texts(peer), numbers(40));
    }
    server.broker.check_invariants();
}

/// Each message may be as small as a packet can be: its size does not show how much work it takes.
#[test]
fn a_burst_of_empty_messages_for_very_many() {
    let mut server = Server::new();
    let subscribers = subscribers(&mut server, 2_000, "t", 0);
    let mut bystander = Bystander::new(&mut server);
    let publisher = publisher(&mut server);
    let message = Publish::new(V5, "t", b"").bytes();
    server.send(publisher, message.repeat(200));
    server.settle_beside(&mut bystander);
    for peer in subscribers {
        assert_eq!(server.take_messages(peer).len(), 200);
    }
    server.broker.check_invariants();
}

/// The subscribers answer what they get, so that there is much input as well.
#[test]
fn a_burst_beyond_the_windows_of_very_many() {
    let mut server = Server::with_limits(|limits| limits.in_flight = 8);
    let subscribers = subscribers(&mut server, 300, "t", 2);
    server.acknowledge_all(&subscribers);
    let mut bystander = Bystander::patient(&mut server, 3);
    let publisher = publisher(&mut server);
    server.acknowledge_all(&[publisher]);
    server.send(publisher, burst(&["t"], 2, 60));
    server.settle_beside(&mut bystander);
    bystander.assert_answered(15);
    for peer in subscribers {
        let packets = server.take(peer).into_iter();
        let messages = packets.filter(|packet| packet[0] >> 4 == 3);
        let texts = messages.map(|packet| crate::wire::received(V5, &packet).payload);
        let texts: Vec<String> = texts.map(|text| String::from_utf8(text).expect("text")).collect();
        assert_eq!(texts, numbers(60));
    }
    server.broker.check_invariants();
}

/// More Wills at once than may wait without a connection, each for many clients.
#[test]
fn wills_of_very_many_at_once() {
    const CLIENTS: usize = 1_500;
    let mut server = Server::new();
    let subscribers = subscribers(&mut server, 60, "w/+", 1);
    server.acknowledge_all(&subscribers);
    let with_will = |number: usize| {
        let topic = format!("w/{number}");
        Connect::new(V5, &format!("c{number}")).will(&topic, b"gone", 1, false, &[]).bytes()
    };
    let clients = server.connect_all((0..CLIENTS).map(with_will));
    let mut bystander = Bystander::patient(&mut server, 3);
    for client in clients {
        server.cut(client);
    }
    server.settle_beside(&mut bystander);
    // A Will for which there was no room is tried again.
    server.pass(brooklet::base::time::Duration::from_seconds(1));
    for peer in subscribers {
        let mut topics: Vec<String> =
            server.take_messages(peer).into_iter().map(|message| message.topic).collect();
        topics.sort_unstable();
        let mut expected: Vec<String> = (0..CLIENTS).map(|number| format!("w/{number}")).collect();
        expected.sort_unstable();
        assert_eq!(topics, expected);
    }
    assert_eq!(server.broker.census().sessions, 61);
    server.broker.check_invariants();
}

/// Each Will alone is more than a turn's work.
#[test]
fn wills_for_very_many() {
    let mut server = Server::new();
    let subscribers = subscribers(&mut server, 3_000, "w/+", 1);
    let with_will =
        |number: usize| Connect::new(V5, &format!("c{number}")).will("w/1", b"gone", 1, false, &[]).bytes();
    let clients = server.connect_all((0..20).map(with_will));
    let mut bystander = Bystander::new(&mut server);
    for client in clients {
        server.cut(client);
    }
    server.settle_beside(&mut bystander);
    for peer in subscribers {
        assert_eq!(server.take_messages(peer).len(), 20);
    }
    server.broker.check_invariants();
}

/// Very many clients that all have input at once have to share the turns, but none starves.
#[test]
fn very_many_publish_at_once() {
    let mut server = Server::new();
    let clients = server.connect_all((0..500).map(|number| {
        let own = format!("own/{number}");
        [clean(&format!("c{number}")), subscribe(V5, 1, &[], &[(&own, 1)])].concat()
    }));
    for (number, &client) in clients.iter().enumerate() {
        server.take(client);
        server.send(client, burst(&[&format!("own/{number}")], 1, 40));
    }
    server.settle();
    for client in clients {
        let packets = server.take(client);
        let is_message = |packet: &&Vec<u8>| packet[0] >> 4 == 3;
        let texts = packets.iter().filter(is_message).map(|packet| crate::wire::received(V5, packet).payload);
        let texts: Vec<String> = texts.map(|text| String::from_utf8(text).expect("text")).collect();
        assert_eq!(texts, numbers(40));
        assert_eq!(packets.len(), 80, "each is answered");
    }
    server.broker.check_invariants();
}
