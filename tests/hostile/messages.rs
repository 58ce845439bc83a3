//! Floods of messages, and receivers and senders that break the protocol.

use crate::peer::{Peer, promise, pubrel, user_property};
use crate::target::{KIB, MIB, SLACK, Target};
use crate::wire::{Connect, PINGREQ, PINGRESP, Publish, V5, V311, field, packet, received};

/// The default limits, which a bound may be based on.
const OUTBOX: usize = 4 * MIB;
const QUEUED: usize = 1_000;
const IN_FLIGHT: usize = 512;

const CLIENTS_WITH_ALIASES: usize = 10;

#[test]
fn a_stalled_subscriber_loses_messages_of_qos_0() {
    let mut target = Target::start(&[]);
    target.attacked_twice(flood_at_most_once, SLACK);
    target.logged_at_most(2 * 3 + 1, "two clients that came, connected and went, and one loss that began");
}

fn flood_at_most_once(target: &mut Target) {
    let mut stalled = Peer::connect(target.address(), "stalled");
    stalled.subscribe("flood/#", 0);
    let mut flooder = Peer::connect(target.address(), "flooder");
    let burst = Publish::new(V5, "flood/a", &[b'f'; 1_000]).bytes().repeat(1_000);
    for _ in 0..30 {
        flooder.send(&burst);
        target.serves();
    }
    target.holds_at_most(OUTBOX + SLACK, "one outbox");
    // The messages that were kept arrive complete and intact.
    for _ in 0..1_000 {
        assert_eq!(stalled.payload().len(), 1_000);
    }
    drop((stalled, flooder));
}

#[test]
fn a_stalled_subscriber_has_a_bounded_queue_of_qos_1() {
    let mut target = Target::start(&[]);
    target.attacked_twice(flood_at_least_once, SLACK);
    target.logged_at_most(2 * 3 + 1, "two clients that came, connected and went, and one loss that began");
}

fn flood_at_least_once(target: &mut Target) {
    let mut stalled = Peer::connect(target.address(), "stalled");
    stalled.subscribe("flood/#", 1);
    let mut flooder = Peer::connect(target.address(), "flooder");
    let payload = [b'f'; 10_000];
    let (mut taken, mut refused) = (0, 0);
    for number in 0..2_000 {
        match flooder.publish(Publish::new(V5, "flood/a", &payload)) {
            0 => taken += 1,
            code => {
                assert_eq!(code, 0x97, "Quota exceeded is what the publisher is told");
                refused += 1;
            }
        }
        if number % 200 == 0 {
            target.serves();
        }
    }
    eprintln!("{taken} taken, {refused} refused");
    assert!(taken <= QUEUED + IN_FLIGHT && refused > 0, "the queue has an end");
    target.holds_at_most((QUEUED + IN_FLIGHT) * 10_200 + SLACK, "what is queued and in flight, kept once");
    for _ in 0..taken {
        let bytes = stalled.packet();
        let message = received(V5, &bytes);
        assert_eq!(message.payload, payload);
        let identifier = message.packet_identifier.expect("QoS 1");
        stalled.send(&packet(0x40, &identifier.to_be_bytes()));
    }
    drop((stalled, flooder));
}

#[test]
fn packet_identifiers_that_are_never_released_cost_two_bytes() {
    let mut target = Target::start(&[]);
    let mut sender = Peer::connect_as(target.address(), &Connect::new(V311, "sender"));
    let mut receiver = Peer::connect_as(target.address(), &Connect::new(V311, "receiver"));
    receiver.subscribe("q", 0);
    for chunk in 0..=65 {
        let identifiers = (chunk * 1_000).max(1)..=(chunk * 1_000_u16).saturating_add(999);
        let count = identifiers.clone().count();
        let mut bytes = Vec::new();
        for identifier in identifiers.clone() {
            bytes.extend(Publish::new(V311, "q", b"").qos(2, identifier).bytes());
        }
        // A repeat must not be delivered again.
        let repeated = *identifiers.start();
        bytes.extend(Publish::new(V311, "q", b"").qos(2, repeated).dup().bytes());
        sender.send(&bytes);
        for identifier in identifiers.chain([repeated]) {
            assert_eq!(sender.packet(), packet(0x50, &identifier.to_be_bytes()));
        }
        for _ in 0..count {
            assert_eq!(receiver.packet(), Publish::new(V311, "q", b"").bytes());
        }
    }
    receiver.send(&PINGREQ);
    assert_eq!(receiver.packet(), PINGRESP, "every message came once");
    target.serves();
    target.holds_at_most(4 * 65_535 + SLACK, "a set of numbers of 16 bits, grown by doubling");
    for identifier in [1, 65_535] {
        sender.send(&pubrel(identifier));
        assert_eq!(sender.packet(), packet(0x70, &identifier.to_be_bytes()));
    }
    drop((sender, receiver));
    target.gives_back(SLACK);
    target.logged_at_most(2 * 3, "two clients that came, connected and went");
}

#[test]
fn a_client_of_5_is_held_to_the_receive_maximum() {
    let mut target = Target::start(&[]);
    let mut sender = Peer::connect(target.address(), "sender");
    for identifier in 1..=1_025 {
        // The broker may have closed the connection after the last one.
        let _ = sender.try_send(&Publish::new(V5, "q", b"").qos(2, identifier).bytes());
    }
    let mut last = Vec::new();
    while let Ok(bytes) = sender.try_packet() {
        last = bytes;
    }
    assert_eq!((last[0], last[2]), (0xE0, 0x93), "Receive Maximum exceeded");
    drop(sender);
    target.gives_back(SLACK);
    target.logged_at_most(3, "one client that came, connected and went");
}

#[test]
fn topic_aliases_hold_ten_topics() {
    let mut target = Target::start(&[]);
    target.attacked_twice(bind_aliases, SLACK);
    target.logged_at_most(3 * CLIENTS_WITH_ALIASES, "came, connected, went");
}

fn bind_aliases(target: &mut Target) {
    let alias = |number: u16, topic: &str| {
        let property = [&[0x23][..], &number.to_be_bytes()].concat();
        Publish::new(V5, topic, b"").property(&property).bytes()
    };
    let mut peers = Vec::new();
    for client in 0..CLIENTS_WITH_ALIASES {
        let mut peer = Peer::connect(target.address(), &format!("alias-{client}"));
        for round in 0..5 {
            let topic = ["abcde".split_at(round).1, &"x".repeat(65_000)].concat();
            for number in 1..=10 {
                peer.send(&alias(number, &topic));
            }
        }
        target.serves();
        peers.push(peer);
    }
    target.holds_at_most(CLIENTS_WITH_ALIASES * 10 * 66 * KIB + SLACK, "ten topics of 64 KiB each");
    let mut beyond = peers.pop().expect("there are some");
    beyond.send(&alias(11, "a"));
    assert_eq!(beyond.packet()[2], 0x94, "Topic Alias invalid");
    drop((beyond, peers));
}

#[test]
fn messages_with_property_bombs_are_forwarded_and_forgotten() {
    let mut target = Target::start(&[]);
    target.attacked_twice(bomb, SLACK);
    target.logged_at_most(4 * 3, "four clients that came, connected and went");
}

fn bomb(target: &mut Target) {
    let mut receivers = Vec::new();
    for qos in 0..=2 {
        let mut receiver = Peer::connect(target.address(), &format!("receiver-{qos}"));
        receiver.subscribe("bomb", qos);
        receiver.subscribe("bomb", qos | 0x08);
        receivers.push(receiver);
    }
    let bomb = user_property("name", &"v".repeat(100)).repeat(13_000);
    let mut bomber = Peer::connect(target.address(), "bomber");
    for identifier in 1..=2 {
        bomber.send(&Publish::new(V5, "bomb", b"p").property(&bomb).bytes());
        let publish = Publish::new(V5, "bomb", b"p").property(&bomb).qos(2, identifier);
        bomber.send(&if identifier == 2 { publish.retain() } else { publish }.bytes());
        assert_eq!(bomber.packet()[0], 0x50);
        for receiver in &mut receivers {
            for _ in 0..2 {
                let message = received(V5, &receiver.packet());
                assert!(message.properties.len() >= bomb.len());
            }
        }
        target.serves();
    }
    bomber.send(&Publish::new(V5, "bomb", b"").retain().bytes());
    drop((receivers, bomber));
}

#[test]
fn a_retained_flood_costs_its_bytes() {
    let mut target = Target::start(&[]);
    target.attacked_twice(flood_retained, SLACK);
    target.logged_at_most(2 * 3, "two clients that came, connected and went");
}

fn flood_retained(target: &mut Target) {
    let count = 20_000;
    let mut flooder = Peer::connect(target.address(), "flooder");
    for payload in [&[b'r'; 200][..], b""] {
        for chunk in 0..20 {
            let bytes: Vec<u8> = (0..count / 20)
                .flat_map(|number| {
                    let topic = format!("retained/{chunk}/{number}");
                    Publish::new(V5, &topic, payload).retain().bytes()
                })
                .collect();
            flooder.send(&bytes);
            target.serves();
        }
        if !payload.is_empty() {
            flooder.publish(Publish::new(V5, "last", b""));
            target.holds_at_most(count * 320 + SLACK, "payload, topic, client and counters, and their place");
            // A client that wants them all and reads nothing fills one outbox.
            let mut greedy = Peer::connect(target.address(), "greedy");
            greedy.subscribe("#", 0);
            target.serves();
            target.holds_at_most(count * 320 + 256 * KIB + SLACK, "and what the replay puts into one outbox");
        }
    }
    flooder.publish(Publish::new(V5, "last", b""));
    flooder.disconnect();
}

#[test]
fn topics_of_separators_alone_end_the_connection() {
    let mut target = Target::start(&[]);
    let slashes = "/".repeat(65_535);
    for _ in 0..20 {
        let mut peer = Peer::connect(target.address(), "slashes");
        peer.send(&Publish::new(V5, &slashes, b"").bytes());
        let disconnect = peer.packet();
        assert_eq!((disconnect[0], disconnect[2]), (0xE0, 0x90), "Topic Name invalid");
        let mut peer = Peer::connect_as(target.address(), &Connect::new(V311, "slashes"));
        peer.send(&Publish::new(V311, &slashes, b"").bytes());
        assert!(peer.is_closed());
        let mut peer = Peer::open(target.address());
        peer.send(&promise(0x10, 14 + 2 * 65_535));
        // It is larger than allowed before a CONNECT is accepted.
        let _ = peer.try_send(&field(&slashes));
        assert!(peer.is_closed());
    }
    target.serves();
    target.holds_at_most(SLACK, "nothing is kept");
    target.gives_back(SLACK);
    target.logged_at_most(20 * 8, "three connections, two of which connect");
}
