//! Full batches, and what waits for them.

use brooklet::core::access::Verdict;
use brooklet::core::journal::Room;
use brooklet::core::limits::Limits;

use crate::admission::{Thinker, with_method};
use crate::durability::Kept;
use crate::wire::*;
use crate::world::Peer;

/// Resumes a client's session, and has a message of QoS 2 sent once that is prepared.
fn come_back_for_message(kept: &mut Kept, client: &str) -> (Peer, Received) {
    let peer = kept.come_back(client, false);
    kept.read();
    kept.commit();
    let packets = kept.world.take(peer);
    (peer, received(V5, packets.last().expect("the message is sent")))
}

#[test]
fn a_full_journal_keeps_only_clients_waiting_that_would_fill_it() {
    let mut kept = Kept::with(Limits { queue_bytes: usize::MAX, ..Limits::default() });
    kept.leave_sleeper();
    let connect = |kept: &mut Kept, name: &str| {
        let peer = kept.world.open();
        kept.world.send(peer, Connect::new(V5, name).resume().expiry(1_000).bytes());
        kept.commit();
        assert_eq!(kept.world.take_one(peer)[0], 0x20);
        peer
    };
    let [keeper, publisher] = ["keeper", "publisher"].map(|name| connect(&mut kept, name));
    let bystander = kept.world.connect(Connect::new(V5, "bystander").bytes());
    let listener = kept.world.connect(Connect::new(V311, "listener").bytes());
    assert_eq!(kept.world.ask(listener, subscribe(V311, 1, &[], &[("q", 1)]))[0], 0x90);
    kept.world.send(publisher, Publish::new(V5, "k", b"").qos(2, 100).bytes());
    kept.commit();
    assert_eq!(kept.world.take_one(publisher)[0], 0x50);
    // The store is slow, and too much data is queued.
    kept.close();
    let large = [7; 1_000_000];
    for number in 1..=20 {
        kept.world.send(publisher, Publish::new(V5, "t", &large).qos(1, number).bytes());
    }
    assert!(kept.world.broker.held() > 16 * large.len());
    // An acknowledgement after waiting packets is not read; that of any other client is.
    let ping = |kept: &mut Kept, peer| kept.world.ask(peer, PINGREQ) == PINGRESP;
    assert!(ping(&mut kept, bystander) && ping(&mut kept, keeper));
    for (qos, topic) in [(0, "q"), (1, "q")] {
        let publish = Publish::new(V5, topic, b"relayed");
        let publish = if qos > 0 { publish.qos(qos, 7) } else { publish };
        kept.world.send(bystander, publish.bytes());
        assert_eq!(received(V311, &kept.world.take_one(listener)).payload, b"relayed");
        kept.world.send(listener, acknowledge(0x40, 1));
    }
    assert_eq!(kept.world.take_one(bystander)[0], 0x40);
    assert_eq!(kept.world.ask(bystander, subscribe(V5, 2, &[], &[("s", 2)]))[0], 0x90);
    assert_eq!(kept.world.ask(bystander, unsubscribe(V5, 3, &["s"]))[0], 0xB0);
    let newcomer = kept.world.connect(Connect::new(V5, "newcomer").bytes());
    assert!(ping(&mut kept, newcomer));
    // Packets that would add to the journal wait, each kind on a connection of its own.
    let retains = kept.world.connect(Connect::new(V5, "retains").bytes());
    kept.world.send(retains, Publish::new(V5, "r", b"").retain().bytes());
    kept.world.send(keeper, subscribe(V5, 4, &[], &[("s", 0)]));
    let sends = kept.world.connect(Connect::new(V5, "sends").bytes());
    kept.world.send(sends, Publish::new(V5, "t", b"more").qos(1, 5).bytes());
    let stays = kept.world.open();
    kept.world.send(stays, Connect::new(V5, "stays").resume().expiry(1_000).bytes());
    for waits in [retains, keeper, sends, stays] {
        if waits != stays {
            kept.world.send(waits, PINGREQ);
        }
        assert!(kept.world.take(waits).is_empty(), "what waits is not overtaken");
    }
    kept.world.pass_seconds(50);
    assert!(!kept.world.is_closed(stays), "its time for the CONNECT stands still");
    kept.finish();
    (0..5).for_each(|_| kept.commit());
    let answers = [(retains, 1), (keeper, 2), (sends, 2), (stays, 1), (publisher, 20)];
    for (peer, count) in answers {
        assert_eq!(kept.world.take(peer).len(), count);
    }
}

/// A client that waits because the journal is full is not late. When the broker waits for the client again, the client
/// has the rest of its time.
#[test]
fn the_time_for_a_connect_stands_still_while_it_waits_for_the_disk() {
    let mut kept = Kept::with(Limits { queue_bytes: usize::MAX, ..Limits::default() });
    kept.leave_sleeper();
    let publisher = kept.world.connect(Connect::new(V5, "publisher").bytes());
    let thinker = Thinker::default();
    thinker.at_once.set(Some(Verdict::Granted));
    let now = kept.world.now();
    kept.world.broker.replace_access(Box::new(thinker), now);
    kept.close();
    let large = [7; 1_000_000];
    for number in 1..=20 {
        kept.world.send(publisher, Publish::new(V5, "t", &large).qos(1, number).bytes());
    }
    let peers = ["early", "late"].map(|name| {
        let peer = kept.world.open();
        kept.world.pass_seconds(8);
        kept.world.send(peer, with_method(name).resume().expiry(1_000).bytes());
        assert!(kept.world.take(peer).is_empty());
        peer
    });
    kept.world.pass_seconds(52);
    let connack = kept.world.take_one(peers[0]);
    assert_eq!((connack[0], connack[3]), (0x20, 0x89), "a minute is over");
    assert!(!kept.world.is_closed(peers[1]));
    kept.finish();
    (0..5).for_each(|_| kept.commit());
    assert_eq!(kept.world.take_one(peers[1])[0], 0xF0);
    kept.world.pass_seconds(1);
    assert!(!kept.world.is_closed(peers[1]));
    kept.world.pass_seconds(1);
    assert!(kept.world.is_closed(peers[1]), "two of ten seconds were left");
}

#[test]
fn acknowledgements_are_taken_however_full_the_journal_is() {
    let mut kept = Kept::with(Limits { queue_bytes: usize::MAX, ..Limits::default() });
    kept.leave_sleeper();
    let publisher = kept.world.connect(Connect::new(V5, "publisher").bytes());
    let sleeper = kept.come_back("sleeper", false);
    assert_eq!(kept.world.take_one(sleeper)[0], 0x20);
    kept.world.send(publisher, Publish::new(V5, "t", b"first").qos(1, 1).bytes());
    let packet = kept.world.take_one(sleeper);
    kept.commit();
    kept.close();
    for number in 2..=20 {
        kept.world.send(publisher, Publish::new(V5, "t", &[7; 1_000_000]).qos(1, number).bytes());
    }
    let identifier = received(V5, &packet).packet_identifier.expect("it has one");
    kept.world.send(sleeper, acknowledge(0x40, identifier));
    kept.world.send(sleeper, PINGREQ);
    assert!(kept.world.take(sleeper).iter().any(|packet| *packet == PINGRESP), "what comes after it is read");
    kept.finish();
    kept.commit();
    kept.commit();
    let payloads = kept.store.messages.values().map(|kept| kept.message.publication().payload.len());
    assert!(payloads.into_iter().all(|length| length == 1_000_000), "the first one is settled");
}

#[test]
fn subscriptions_again_and_again_take_no_more_room() {
    let mut kept = Kept::new();
    let peer = kept.world.open();
    kept.world.send(peer, Connect::new(V5, "a").resume().expiry(1_000).bytes());
    kept.commit();
    let filters: Vec<String> = (0..20).map(|count| format!("{count:02}{}", "x".repeat(60_000))).collect();
    let wanted: Vec<(&str, u8)> = filters.iter().map(|filter| (filter.as_str(), 1)).collect();
    kept.close();
    (1..3).for_each(|number| kept.world.send(peer, subscribe(V5, number, &[], &wanted)));
    kept.world.broker.check_memory();
    let once = kept.world.broker.held();
    (3..50).for_each(|number| kept.world.send(peer, subscribe(V5, number, &[], &wanted)));
    kept.world.broker.check_memory();
    let more = kept.world.broker.held() - once;
    assert!(more < 100_000, "{more} bytes more");
    kept.finish();
    kept.close();
    assert_eq!(kept.closed.as_ref().map(|batch| batch.records.len()), Some(20));
}

/// QoS 1 messages that a client has acknowledged are settled in portions, one with each batch. A QoS 2 message of
/// another client is settled at once, since it must not come again, whatever a crash leaves of the others
/// [MQTT-4.3.3-4].
#[test]
fn a_message_of_qos_2_is_over_before_thousands_of_qos_1_are_settled() {
    const MANY: usize = 5_000;
    let mut kept = Kept::with(Limits { queue_length: 2 * MANY, ..Limits::default() });
    kept.leave("many");
    let publisher = kept.world.connect(Connect::new(V5, "p").bytes());
    for _ in 0..MANY / 100 {
        let messages =
            (1..=100).flat_map(|identifier| Publish::new(V5, "t", b"m").qos(1, identifier).bytes());
        kept.world.send(publisher, messages.collect::<Vec<u8>>());
        kept.commit();
    }
    kept.leave("one");
    kept.world.send(publisher, Publish::new(V5, "t", b"once").qos(2, 101).bytes());
    kept.commit();
    let (one, message) = come_back_for_message(&mut kept, "one");
    assert_eq!((message.qos, &message.payload[..]), (2, &b"once"[..]));

    let many = kept.come_back("many", false);
    let mut acknowledged = 0;
    while acknowledged < MANY {
        kept.read();
        let packets = kept.world.take(many).into_iter().filter(|packet| packet[0] >> 4 == 3);
        let identifiers = packets.filter_map(|packet| received(V5, &packet).packet_identifier);
        let acknowledgements: Vec<u8> =
            identifiers.flat_map(|identifier| acknowledge(0x40, identifier)).collect();
        assert!(!acknowledgements.is_empty(), "{acknowledged} have come");
        acknowledged += acknowledgements.len() / 4;
        kept.world.send(many, acknowledgements);
    }
    let identifier = message.packet_identifier.expect("it has one");
    kept.world.send(one, acknowledge(0x50, identifier));
    kept.commit();
    assert_eq!(kept.world.take_one(one), acknowledge(0x62, identifier));
    kept.world.send(one, acknowledge(0x70, identifier));
    kept.commit();

    let mut kept = kept.crash();
    let one = kept.come_back("one", false);
    kept.read();
    kept.commit();
    assert_eq!(kept.payloads(one), Vec::<Vec<u8>>::new());
    let many = kept.come_back("many", false);
    kept.read();
    assert!(!kept.payloads(many).is_empty(), "messages that were not settled come again");
}

#[test]
fn clients_that_wait_for_a_batch_are_answered_without_another_turn() {
    let mut kept = Kept::new();
    kept.leave("away");
    let publishers: Vec<Peer> =
        (0..200).map(|count| kept.world.connect(Connect::new(V5, &format!("p{count}")).bytes())).collect();
    for &publisher in &publishers {
        kept.world.send(publisher, Publish::new(V5, "t", b"kept").qos(1, 1).bytes());
    }
    kept.close();
    let batch = kept.closed.take().expect("the messages");
    kept.world.broker.durable(batch.number, kept.world.now());
    let mut answered = Vec::new();
    while let Some(id) = kept.world.broker.next_answered() {
        assert!(kept.world.broker.has_output(id));
        answered.push(id);
    }
    assert_eq!(answered.len(), 128, "the others get their answers in their turn");
    kept.world.settle();
    for publisher in publishers {
        assert_eq!(kept.world.take_one(publisher).len(), 4, "a PUBACK");
    }
}

/// A PUBREL waits until the receipt of the message is durable. If its client returns before that, it is sent on the
/// new connection as soon as that is the case [MQTT-4.4.0-1].
#[test]
fn a_pubrel_that_was_not_durable_goes_to_the_next_connection() {
    for is_gone in [false, true] {
        let mut kept = Kept::new();
        kept.leave("sleeper");
        let publisher = kept.world.connect(Connect::new(V5, "p").bytes());
        kept.world.send(publisher, Publish::new(V5, "t", b"once").qos(2, 1).bytes());
        kept.commit();
        let (peer, message) = come_back_for_message(&mut kept, "sleeper");
        let identifier = message.packet_identifier.expect("it has one");
        kept.world.send(peer, acknowledge(0x50, identifier));
        kept.close();
        kept.world.cut(peer);
        if is_gone {
            kept.set_room(Room::Gone);
        }
        let again = kept.world.open();
        kept.world.send(again, Connect::new(V5, "sleeper").resume().expiry(1_000).bytes());
        let before = kept.world.take(again);
        assert!(before.iter().all(|packet| packet[0] == 0x20), "{before:?}");
        kept.finish();
        if is_gone {
            assert_eq!(kept.world.take(again), [acknowledge(0x62, identifier)]);
        } else {
            kept.commit();
            let after = kept.world.take(again);
            assert_eq!(after.last(), Some(&acknowledge(0x62, identifier)), "{after:?}");
        }
    }
}

/// Two clients: one receives messages on `t` at once; the other has a Will of QoS 1 for that topic, for a disconnected
/// session as well, and disconnects.
fn witness_and_heir(kept: &mut Kept) -> (Peer, Peer) {
    kept.leave_sleeper();
    let witness = kept.world.connect(Connect::new(V5, "witness").bytes());
    kept.world.ask(witness, subscribe(V5, 1, &[], &[("t", 0)]));
    let heir = kept.world.connect(Connect::new(V5, "heir").will("t", b"last", 1, false, &[]).bytes());
    (witness, heir)
}

/// Queues too much data while a batch is with the store.
fn crowd(kept: &mut Kept) {
    let publisher = kept.world.connect(Connect::new(V5, "publisher").bytes());
    kept.world.send(publisher, Publish::new(V5, "t", b"first").qos(1, 1).bytes());
    kept.close();
    for number in 2..8 {
        kept.world.send(publisher, Publish::new(V5, "t", &[7; 1_000_000]).qos(1, number).bytes());
    }
}

#[test]
fn a_will_that_waits_for_the_store_reaches_clients_before_the_broker_ends() {
    let mut kept = Kept::with(Limits { queue_bytes: usize::MAX, ..Limits::default() });
    let (witness, _) = witness_and_heir(&mut kept);
    crowd(&mut kept);
    assert!(!kept.payloads(witness).is_empty());
    kept.world.broker.shut_down(kept.world.now());
    kept.world.settle();
    assert_eq!(kept.payloads(witness), [b"last"]);
}

/// The same where the disk is full. The Will of a persisted session is in the store and comes after the next start.
#[test]
fn a_will_that_has_no_room_on_disk_reaches_clients_before_the_broker_ends() {
    let mut kept = Kept::new();
    let (witness, _) = witness_and_heir(&mut kept);
    let keeper = Connect::new(V5, "keeper").expiry(1_000).will("t", b"kept", 1, false, &[]);
    let keeper = (kept.world.open(), keeper.bytes());
    kept.world.send(keeper.0, keeper.1);
    kept.commit();
    kept.set_room(Room::Scarce);
    kept.world.broker.shut_down(kept.world.now());
    kept.world.settle();
    assert_eq!(kept.payloads(witness), [b"last"]);
    kept.commit();
    let mut kept = kept.crash();
    kept.world.pass_seconds(1);
    kept.commit();
    let sleeper = kept.come_back("sleeper", false);
    kept.read();
    kept.commit();
    assert_eq!(kept.payloads(sleeper), [b"kept"]);
}

#[test]
fn a_session_that_is_over_lets_the_broker_rest_while_its_will_waits() {
    let mut kept = Kept::with(Limits { queue_bytes: usize::MAX, ..Limits::default() });
    let (witness, heir) = witness_and_heir(&mut kept);
    crowd(&mut kept);
    assert!(!kept.payloads(witness).is_empty());
    let now = kept.world.now();
    kept.world.broker.closed(heir, "cut", now);
    (0..10).for_each(|_| kept.world.broker.tick(now, 1_000));
    assert!(!kept.world.broker.has_work(), "there is nothing to do before there is room");
    kept.finish();
    kept.commit();
    assert_eq!(kept.payloads(witness).iter().filter(|payload| *payload == b"last").count(), 0);
    kept.world.pass_seconds(1);
    kept.commit();
    kept.world.pass_seconds(1);
    assert!(kept.payloads(witness).contains(&b"last".to_vec()));
}
