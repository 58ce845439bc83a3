//! Full batches, and what waits for them.

use brooklet::core::access::Verdict;
use brooklet::core::journal::Room;
use brooklet::core::limits::Limits;

use crate::admission::{Thinker, with_method};
use crate::durability::DurableWorld;
use crate::wire::*;
use crate::world::Peer;

/// Resumes a client's session, and has a message of QoS 2 sent once that is prepared.
fn come_back_for_message(durable: &mut DurableWorld, client: &str) -> (Peer, Received) {
    let peer = durable.come_back(client, false);
    durable.read();
    durable.commit();
    let packets = durable.world.take(peer);
    (peer, received(V5, packets.last().expect("the message is sent")))
}

#[test]
fn a_full_journal_delays_only_clients_that_would_fill_it() {
    let mut durable = DurableWorld::with(Limits { queue_bytes: usize::MAX, ..Limits::default() });
    durable.leave_sleeper();
    let connect = |durable: &mut DurableWorld, name: &str| {
        let peer = durable.world.open();
        durable.world.send(peer, Connect::new(V5, name).resume().expiry(1_000).bytes());
        durable.commit();
        assert_eq!(durable.world.take_one(peer)[0], 0x20);
        peer
    };
    let [absent, publisher] = ["keeper", "publisher"].map(|name| connect(&mut durable, name));
    let bystander = durable.world.connect(Connect::new(V5, "bystander").bytes());
    let listener = durable.world.connect(Connect::new(V311, "listener").bytes());
    assert_eq!(durable.world.ask(listener, subscribe(V311, 1, &[], &[("q", 1)]))[0], 0x90);
    durable.world.send(publisher, Publish::new(V5, "k", b"").qos(2, 100).bytes());
    durable.commit();
    assert_eq!(durable.world.take_one(publisher)[0], 0x50);
    // The store is slow, and too much data is queued.
    durable.close();
    let large = [7; 1_000_000];
    for number in 1..=20 {
        durable.world.send(publisher, Publish::new(V5, "t", &large).qos(1, number).bytes());
    }
    assert!(durable.world.broker.held() > 16 * large.len());
    // An acknowledgement after waiting packets is not read; that of any other client is.
    let ping = |durable: &mut DurableWorld, peer| durable.world.ask(peer, PINGREQ) == PINGRESP;
    assert!(ping(&mut durable, bystander) && ping(&mut durable, absent));
    for (qos, topic) in [(0, "q"), (1, "q")] {
        let publish = Publish::new(V5, topic, b"relayed");
        let publish = if qos > 0 { publish.qos(qos, 7) } else { publish };
        durable.world.send(bystander, publish.bytes());
        assert_eq!(received(V311, &durable.world.take_one(listener)).payload, b"relayed");
        durable.world.send(listener, acknowledge(0x40, 1));
    }
    assert_eq!(durable.world.take_one(bystander)[0], 0x40);
    assert_eq!(durable.world.ask(bystander, subscribe(V5, 2, &[], &[("s", 2)]))[0], 0x90);
    assert_eq!(durable.world.ask(bystander, unsubscribe(V5, 3, &["s"]))[0], 0xB0);
    let newcomer = durable.world.connect(Connect::new(V5, "newcomer").bytes());
    assert!(ping(&mut durable, newcomer));
    // Packets that would add to the journal wait, each kind on a connection of its own.
    let retains = durable.world.connect(Connect::new(V5, "retains").bytes());
    durable.world.send(retains, Publish::new(V5, "r", b"").retain().bytes());
    durable.world.send(absent, subscribe(V5, 4, &[], &[("s", 0)]));
    let sends = durable.world.connect(Connect::new(V5, "sends").bytes());
    durable.world.send(sends, Publish::new(V5, "t", b"more").qos(1, 5).bytes());
    let stays = durable.world.open();
    durable.world.send(stays, Connect::new(V5, "stays").resume().expiry(1_000).bytes());
    for waits in [retains, absent, sends, stays] {
        if waits != stays {
            durable.world.send(waits, PINGREQ);
        }
        assert!(durable.world.take(waits).is_empty(), "what waits is not overtaken");
    }
    durable.world.pass_seconds(50);
    assert!(!durable.world.is_closed(stays), "its time for the CONNECT stands still");
    durable.finish();
    (0..5).for_each(|_| durable.commit());
    let answers = [(retains, 1), (absent, 2), (sends, 2), (stays, 1), (publisher, 20)];
    for (peer, count) in answers {
        assert_eq!(durable.world.take(peer).len(), count);
    }
}

/// A client that waits because the journal is full is not late. When the broker waits for the client again, the client
/// has the rest of its time.
#[test]
fn the_time_for_a_connect_stands_still_while_it_waits_for_the_disk() {
    let mut durable = DurableWorld::with(Limits { queue_bytes: usize::MAX, ..Limits::default() });
    durable.leave_sleeper();
    let publisher = durable.world.connect(Connect::new(V5, "publisher").bytes());
    let thinker = Thinker::default();
    thinker.at_once.set(Some(Verdict::Granted));
    let now = durable.world.now();
    durable.world.broker.replace_access(Box::new(thinker), now);
    durable.close();
    let large = [7; 1_000_000];
    for number in 1..=20 {
        durable.world.send(publisher, Publish::new(V5, "t", &large).qos(1, number).bytes());
    }
    let peers = ["early", "late"].map(|name| {
        let peer = durable.world.open();
        durable.world.pass_seconds(8);
        durable.world.send(peer, with_method(name).resume().expiry(1_000).bytes());
        assert!(durable.world.take(peer).is_empty());
        peer
    });
    durable.world.pass_seconds(52);
    let connack = durable.world.take_one(peers[0]);
    assert_eq!((connack[0], connack[3]), (0x20, 0x89), "a minute is over");
    assert!(!durable.world.is_closed(peers[1]));
    durable.finish();
    (0..5).for_each(|_| durable.commit());
    assert_eq!(durable.world.take_one(peers[1])[0], 0xF0);
    durable.world.pass_seconds(1);
    assert!(!durable.world.is_closed(peers[1]));
    durable.world.pass_seconds(1);
    assert!(durable.world.is_closed(peers[1]), "two of ten seconds were left");
}

#[test]
fn acknowledgements_are_taken_however_full_the_journal_is() {
    let mut durable = DurableWorld::with(Limits { queue_bytes: usize::MAX, ..Limits::default() });
    durable.leave_sleeper();
    let publisher = durable.world.connect(Connect::new(V5, "publisher").bytes());
    let sleeper = durable.come_back("sleeper", false);
    assert_eq!(durable.world.take_one(sleeper)[0], 0x20);
    durable.world.send(publisher, Publish::new(V5, "t", b"first").qos(1, 1).bytes());
    let packet = durable.world.take_one(sleeper);
    durable.commit();
    durable.close();
    for number in 2..=20 {
        durable.world.send(publisher, Publish::new(V5, "t", &[7; 1_000_000]).qos(1, number).bytes());
    }
    let identifier = received(V5, &packet).packet_identifier.expect("it has one");
    durable.world.send(sleeper, acknowledge(0x40, identifier));
    durable.world.send(sleeper, PINGREQ);
    assert!(
        durable.world.take(sleeper).iter().any(|packet| *packet == PINGRESP),
        "what comes after it is read"
    );
    durable.finish();
    durable.commit();
    durable.commit();
    let payloads = durable.store.messages.values().map(|row| row.message.publication().payload.len());
    assert!(payloads.into_iter().all(|length| length == 1_000_000), "the first one is settled");
}

#[test]
fn subscriptions_again_and_again_take_no_more_room() {
    let mut durable = DurableWorld::new();
    let peer = durable.world.open();
    durable.world.send(peer, Connect::new(V5, "a").resume().expiry(1_000).bytes());
    durable.commit();
    let filters: Vec<String> = (0..20).map(|count| format!("{count:02}{}", "x".repeat(60_000))).collect();
    let wanted: Vec<(&str, u8)> = filters.iter().map(|filter| (filter.as_str(), 1)).collect();
    durable.close();
    (1..3).for_each(|number| durable.world.send(peer, subscribe(V5, number, &[], &wanted)));
    durable.world.broker.check_memory();
    let once = durable.world.broker.held();
    (3..50).for_each(|number| durable.world.send(peer, subscribe(V5, number, &[], &wanted)));
    durable.world.broker.check_memory();
    let more = durable.world.broker.held() - once;
    assert!(more < 100_000, "{more} bytes more");
    durable.finish();
    durable.close();
    assert_eq!(durable.closed.as_ref().map(|batch| batch.records.len()), Some(20));
}

/// QoS 1 messages that a client has acknowledged are settled in portions, one with each batch. A QoS 2 message of
/// another client is settled at once, since it must not come again, whatever a crash leaves of the others
/// [MQTT-4.3.3-4].
#[test]
fn a_message_of_qos_2_is_over_before_thousands_of_qos_1_are_settled() {
    const MANY: usize = 5_000;
    let mut durable = DurableWorld::with(Limits { queue_length: 2 * MANY, ..Limits::default() });
    durable.leave("many");
    let publisher = durable.world.connect(Connect::new(V5, "p").bytes());
    for _ in 0..MANY / 100 {
        let messages =
            (1..=100).flat_map(|identifier| Publish::new(V5, "t", b"m").qos(1, identifier).bytes());
        durable.world.send(publisher, messages.collect::<Vec<u8>>());
        durable.commit();
    }
    durable.leave("one");
    durable.world.send(publisher, Publish::new(V5, "t", b"once").qos(2, 101).bytes());
    durable.commit();
    let (one, message) = come_back_for_message(&mut durable, "one");
    assert_eq!((message.qos, &message.payload[..]), (2, &b"once"[..]));

    let many = durable.come_back("many", false);
    let mut acknowledged = 0;
    while acknowledged < MANY {
        durable.read();
        let packets = durable.world.take(many).into_iter().filter(|packet| packet[0] >> 4 == 3);
        let identifiers = packets.filter_map(|packet| received(V5, &packet).packet_identifier);
        let acknowledgements: Vec<u8> =
            identifiers.flat_map(|identifier| acknowledge(0x40, identifier)).collect();
        assert!(!acknowledgements.is_empty(), "{acknowledged} have come");
        acknowledged += acknowledgements.len() / 4;
        durable.world.send(many, acknowledgements);
    }
    let identifier = message.packet_identifier.expect("it has one");
    durable.world.send(one, acknowledge(0x50, identifier));
    durable.commit();
    assert_eq!(durable.world.take_one(one), acknowledge(0x62, identifier));
    durable.world.send(one, acknowledge(0x70, identifier));
    durable.commit();

    let mut durable = durable.crash();
    let one = durable.come_back("one", false);
    durable.read();
    durable.commit();
    assert_eq!(durable.payloads(one), Vec::<Vec<u8>>::new());
    let many = durable.come_back("many", false);
    durable.read();
    assert!(!durable.payloads(many).is_empty(), "messages that were not settled come again");
}

#[test]
fn clients_that_wait_for_a_batch_are_answered_without_another_turn() {
    let mut durable = DurableWorld::new();
    durable.leave("away");
    let publishers: Vec<Peer> =
        (0..200).map(|count| durable.world.connect(Connect::new(V5, &format!("p{count}")).bytes())).collect();
    for &publisher in &publishers {
        durable.world.send(publisher, Publish::new(V5, "t", b"kept").qos(1, 1).bytes());
    }
    durable.close();
    let batch = durable.closed.take().expect("the messages");
    durable.world.broker.durable(batch.number, durable.world.now());
    let mut answered = Vec::new();
    while let Some(id) = durable.world.broker.next_answered() {
        assert!(durable.world.broker.has_output(id));
        answered.push(id);
    }
    assert_eq!(answered.len(), 128, "the others get their answers in their turn");
    durable.world.settle();
    for publisher in publishers {
        assert_eq!(durable.world.take_one(publisher).len(), 4, "a PUBACK");
    }
}

/// A PUBREL waits until the receipt of the message is durable. If its client returns before that, it is sent on the
/// new connection as soon as that is the case [MQTT-4.4.0-1].
#[test]
fn a_pubrel_that_was_not_durable_goes_to_the_next_connection() {
    for is_gone in [false, true] {
        let mut durable = DurableWorld::new();
        durable.leave("sleeper");
        let publisher = durable.world.connect(Connect::new(V5, "p").bytes());
        durable.world.send(publisher, Publish::new(V5, "t", b"once").qos(2, 1).bytes());
        durable.commit();
        let (peer, message) = come_back_for_message(&mut durable, "sleeper");
        let identifier = message.packet_identifier.expect("it has one");
        durable.world.send(peer, acknowledge(0x50, identifier));
        durable.close();
        durable.world.cut(peer);
        if is_gone {
            durable.set_room(Room::Gone);
        }
        let again = durable.world.open();
        durable.world.send(again, Connect::new(V5, "sleeper").resume().expiry(1_000).bytes());
        let before = durable.world.take(again);
        assert!(before.iter().all(|packet| packet[0] == 0x20), "{before:?}");
        durable.finish();
        if is_gone {
            assert_eq!(durable.world.take(again), [acknowledge(0x62, identifier)]);
        } else {
            durable.commit();
            let after = durable.world.take(again);
            assert_eq!(after.last(), Some(&acknowledge(0x62, identifier)), "{after:?}");
        }
    }
}

/// Two clients: one receives messages on `t` at once; the other has a Will of QoS 1 for that topic, for a disconnected
/// session as well, and disconnects.
fn witness_and_heir(durable: &mut DurableWorld) -> (Peer, Peer) {
    durable.leave_sleeper();
    let witness = durable.world.connect(Connect::new(V5, "witness").bytes());
    durable.world.ask(witness, subscribe(V5, 1, &[], &[("t", 0)]));
    let heir = durable.world.connect(Connect::new(V5, "heir").will("t", b"last", 1, false, &[]).bytes());
    (witness, heir)
}

/// Queues too much data while a batch is with the store.
fn crowd(durable: &mut DurableWorld) {
    let publisher = durable.world.connect(Connect::new(V5, "publisher").bytes());
    durable.world.send(publisher, Publish::new(V5, "t", b"first").qos(1, 1).bytes());
    durable.close();
    for number in 2..8 {
        durable.world.send(publisher, Publish::new(V5, "t", &[7; 1_000_000]).qos(1, number).bytes());
    }
}

#[test]
fn a_will_that_waits_for_the_store_reaches_clients_before_the_broker_ends() {
    let mut durable = DurableWorld::with(Limits { queue_bytes: usize::MAX, ..Limits::default() });
    let (witness, _) = witness_and_heir(&mut durable);
    crowd(&mut durable);
    assert!(!durable.payloads(witness).is_empty());
    durable.world.broker.shut_down(durable.world.now());
    durable.world.settle();
    assert_eq!(durable.payloads(witness), [b"last"]);
}

/// The same where the disk is full. The Will of a persisted session is in the store and comes after the next start.
#[test]
fn a_will_that_has_no_room_on_disk_reaches_clients_before_the_broker_ends() {
    let mut durable = DurableWorld::new();
    let (witness, _) = witness_and_heir(&mut durable);
    let absent = Connect::new(V5, "keeper").expiry(1_000).will("t", b"kept", 1, false, &[]);
    let absent = (durable.world.open(), absent.bytes());
    durable.world.send(absent.0, absent.1);
    durable.commit();
    durable.set_room(Room::Scarce);
    durable.world.broker.shut_down(durable.world.now());
    durable.world.settle();
    assert_eq!(durable.payloads(witness), [b"last"]);
    durable.commit();
    let mut durable = durable.crash();
    durable.world.pass_seconds(1);
    durable.commit();
    let sleeper = durable.come_back("sleeper", false);
    durable.read();
    durable.commit();
    assert_eq!(durable.payloads(sleeper), [b"kept"]);
}

#[test]
fn a_session_that_is_over_lets_the_broker_rest_while_its_will_waits() {
    let mut durable = DurableWorld::with(Limits { queue_bytes: usize::MAX, ..Limits::default() });
    let (witness, heir) = witness_and_heir(&mut durable);
    crowd(&mut durable);
    assert!(!durable.payloads(witness).is_empty());
    let now = durable.world.now();
    durable.world.broker.closed(heir, "cut", now);
    (0..10).for_each(|_| durable.world.broker.tick(now, 1_000));
    assert!(!durable.world.broker.has_work(), "there is nothing to do before there is room");
    durable.finish();
    durable.commit();
    assert_eq!(durable.payloads(witness).iter().filter(|payload| *payload == b"last").count(), 0);
    durable.world.pass_seconds(1);
    durable.commit();
    durable.world.pass_seconds(1);
    assert!(durable.payloads(witness).contains(&b"last".to_vec()));
}

/// Sends the acknowledgements of the first two messages, in one piece or in two.
fn acknowledge_two(durable: &mut DurableWorld, peer: Peer, first_byte: u8, are_together: bool) {
    let [one, other] = [1, 2].map(|identifier| acknowledge(first_byte, identifier));
    if are_together {
        durable.world.send(peer, [one, other].concat());
    } else {
        durable.world.send(peer, one);
        durable.world.send(peer, other);
    }
}

/// Connects a client with a persistent session that takes two messages at once.
fn connect_for_two(durable: &mut DurableWorld) -> Peer {
    let peer = durable.world.open();
    let connect = Connect::new(V5, "sleeper").resume().expiry(1_000).property(&[0x21, 0, 2]);
    durable.world.send(peer, connect.bytes());
    durable.world.send(peer, subscribe(V5, 1, &[], &[("t", 2)]));
    durable.commit();
    peer
}

/// While more waits to be sent than a client's outbox should hold, nothing is read from it. An acknowledgement that comes
/// then has no effect, whether or not it came in one piece with the one before it.
#[test]
fn acknowledgements_after_a_large_message_wait_however_they_come() {
    let limits =
        Limits { outbox_bytes: 100, outbox_answer_bytes: 0, outbox_refill_bytes: 50, ..Limits::default() };
    let play = |qos: u8, are_together: bool| {
        let mut durable = DurableWorld::with(limits.clone());
        let peer = connect_for_two(&mut durable);
        let publisher = durable.world.connect(Connect::new(V5, "publisher").bytes());
        for (number, qos, payload) in [(1, qos, &[1; 1][..]), (2, qos, &[2; 1]), (3, 1, &[3; 200])] {
            durable.world.send(publisher, Publish::new(V5, "t", payload).qos(qos, number).bytes());
            durable.commit();
        }
        let mut last = 0x40;
        if qos == 2 {
            acknowledge_two(&mut durable, peer, 0x50, true);
            durable.commit();
            last = 0x70;
        }
        assert!(!durable.world.take(peer).is_empty());
        durable.world.stall(peer, true);
        acknowledge_two(&mut durable, peer, last, are_together);
        durable.world.cut(peer);
        durable.commit();
        let peer = connect_for_two(&mut durable);
        durable.read();
        durable.world.take(peer)
    };
    for (qos, again) in [(1, 0x3A), (2, 0x62)] {
        let apart = play(qos, false);
        let kinds: Vec<u8> = apart.iter().map(|packet| packet[0]).collect();
        assert_eq!(kinds, [0x20, again, 0x3A], "a CONNACK, and what was not acknowledged");
        assert_eq!(play(qos, true), apart, "QoS {qos}");
    }
}

/// An acknowledgement lets the next message be sent, and then lets the client's own message be answered if that is no
/// longer needed.
#[test]
fn messages_and_answers_come_in_one_order_however_acknowledgements_come() {
    let play = |are_together: bool| {
        let mut durable = DurableWorld::new();
        let peer = connect_for_two(&mut durable);
        durable.world.take(peer);
        durable.close();
        for number in 11..=14_u8 {
            let publish = Publish::new(V5, "t", &[number]).qos(1, number.into());
            durable.world.send(peer, publish.bytes());
        }
        assert_eq!(durable.world.take(peer).len(), 2, "no message is durable or answered");
        acknowledge_two(&mut durable, peer, 0x40, are_together);
        durable.world.take(peer)
    };
    let apart = play(false);
    let kinds: Vec<u8> = apart.iter().map(|packet| packet[0] & 0xF0).collect();
    assert_eq!(kinds, [0x30, 0x40, 0x30, 0x40]);
    assert_eq!(play(true), apart);
}
