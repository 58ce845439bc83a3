//! Shared Subscriptions with a store: messages queued for a member whose session ends go to the others, wherever they
//! are.

use brooklet::core::limits::Limits;

use crate::durability::DurableWorld;
use crate::wire::*;
use crate::world::{Peer, World};

const FILTER: &str = "$share/g/t";

/// A member whose session outlives its connection by this many seconds.
fn join(durable: &mut DurableWorld, name: &str, qos: u8, expiry: u32) -> Peer {
    let peer = durable.world.open();
    durable.world.send(peer, Connect::new(V5, name).resume().expiry(expiry).bytes());
    durable.world.send(peer, subscribe(V5, 1, &[], &[(FILTER, qos)]));
    durable.commit();
    assert_eq!(durable.world.take(peer).len(), 2, "CONNACK and SUBACK");
    peer
}

/// The same, but the member disconnects.
fn leave(durable: &mut DurableWorld, name: &str, qos: u8, expiry: u32) {
    let peer = join(durable, name, qos, expiry);
    durable.world.cut(peer);
    durable.commit();
}

/// A client connects with Clean Start, so its former session ends.
fn begin_anew(durable: &mut DurableWorld, name: &str) {
    let peer = durable.world.open();
    durable.world.send(peer, Connect::new(V5, name).bytes());
}

/// The payloads that a client gets when it returns.
fn found(durable: &mut DurableWorld, name: &str) -> Vec<Vec<u8>> {
    let peer = durable.come_back(name, false);
    durable.read();
    durable.commit();
    let packets = durable.world.take(peer).into_iter().filter(|packet| packet[0] >> 4 == 3);
    let mut payloads: Vec<Vec<u8>> = packets.map(|packet| received(V5, &packet).payload).collect();
    payloads.sort();
    payloads
}

/// Another member `b` joins and disconnects, the session of `a` ends, and the broker crashes this many batches later.
/// Returns what `b` gets once the next broker has had time to pass on what is left.
fn found_after_crash(mut durable: DurableWorld, qos: u8, batches: usize) -> Vec<Vec<u8>> {
    leave(&mut durable, "b", qos, 1_000);
    begin_anew(&mut durable, "a");
    (0..batches).for_each(|_| durable.commit());
    let mut durable = durable.crash();
    for _ in 0..4 {
        durable.read();
        durable.world.pass_seconds(1);
        durable.commit();
    }
    assert!(durable.store.former.is_empty(), "nothing is left to pass on");
    found(&mut durable, "b")
}

#[test]
fn stored_messages_of_a_member_go_to_another_when_its_session_ends() {
    let mut durable = DurableWorld::new();
    leave(&mut durable, "a", 1, 1_000);
    durable.publish(&[b"1", b"2", b"3"]);
    leave(&mut durable, "b", 1, 1_000);
    begin_anew(&mut durable, "a");
    (0..3).for_each(|_| durable.commit());
    assert_eq!(durable.store.messages.len(), 3, "each is kept for one");
    assert_eq!(found(&mut durable, "b"), [b"1", b"2", b"3"]);
}

#[test]
fn more_than_one_page_goes_to_another() {
    let mut durable = DurableWorld::with(Limits { steps_per_turn: 64, ..Limits::default() });
    leave(&mut durable, "a", 1, 1_000);
    let payloads: Vec<Vec<u8>> = (0..200_u8).map(|number| vec![number]).collect();
    durable.publish(&payloads.iter().map(|payload| &**payload).collect::<Vec<_>>());
    leave(&mut durable, "b", 1, 1_000);
    begin_anew(&mut durable, "a");
    (0..20).for_each(|_| durable.commit());
    assert!(durable.store.former.is_empty() && durable.store.messages.len() == 200);
    assert_eq!(found(&mut durable, "b"), payloads);
}

#[test]
fn no_crash_loses_messages_that_move_from_an_ended_session() {
    for batches in 0..5 {
        let mut durable = DurableWorld::new();
        leave(&mut durable, "a", 1, 1_000);
        durable.publish(&[b"1", b"2", b"3"]);
        let mut found = found_after_crash(durable, 1, batches);
        if batches == 0 {
            assert_eq!(found, <[Vec<u8>; 0]>::default(), "the session has not ended");
            continue;
        }
        // Messages that went to another member come at least once.
        found.dedup();
        assert_eq!(found, [b"1", b"2", b"3"], "after {batches} batches");
    }
}

#[test]
fn unacknowledged_messages_go_to_another_member_after_a_restart() {
    let mut durable = DurableWorld::new();
    let a = join(&mut durable, "a", 1, 2);
    durable.publish(&[b"1", b"2"]);
    assert_eq!(durable.payloads(a).len(), 2);
    leave(&mut durable, "b", 1, 1_000);
    let mut durable = durable.crash();
    durable.world.pass_seconds(3);
    for _ in 0..3 {
        durable.commit();
        durable.world.pass_seconds(1);
    }
    assert_eq!(found(&mut durable, "b"), [b"1", b"2"]);
}

/// [MQTT-4.8.2-5]
#[test]
fn a_qos_2_delivery_that_has_begun_is_no_other_members_after_a_crash() {
    for batches in 1..4 {
        let mut durable = DurableWorld::new();
        let a = join(&mut durable, "a", 2, 1_000);
        let publisher = durable.world.connect(Connect::new(V5, "p").bytes());
        durable.world.send(publisher, Publish::new(V5, "t", b"begun").qos(2, 1).bytes());
        durable.commit();
        assert_eq!(durable.payloads(a), [b"begun"]);
        durable.world.cut(a);
        durable.world.send(publisher, Publish::new(V5, "t", b"waits").qos(2, 2).bytes());
        durable.commit();
        assert_eq!(found_after_crash(durable, 2, batches), [b"waits"], "after {batches} batches");
    }
}

#[test]
fn stored_messages_go_to_a_connected_member_when_a_connection_is_lost() {
    let mut durable = DurableWorld::new();
    leave(&mut durable, "a", 1, 1_000);
    let payloads: Vec<Vec<u8>> = (0..200_u8).map(|number| vec![number]).collect();
    durable.publish(&payloads.iter().map(|payload| &**payload).collect::<Vec<_>>());
    // It takes one message at a time, so most of them are not even read.
    let a = durable.world.open();
    let receive_maximum = [0x21, 0, 1];
    let connect = Connect::new(V5, "a").resume().expiry(1_000).property(&receive_maximum);
    durable.world.send(a, connect.bytes());
    durable.commit();
    assert_eq!(durable.payloads(a), payloads[..1]);
    let b = join(&mut durable, "b", 1, 1_000);
    durable.world.cut(a);
    (0..10).for_each(|_| durable.commit());
    let mut found = durable.payloads(b);
    found.sort();
    assert_eq!(found, payloads[1..], "all but the one that was sent and not answered");
}

/// Limits by which the queue of each client holds four messages.
fn small_queues() -> Limits {
    Limits { queue_length: 4, burst_bytes: 0, ..Limits::default() }
}

/// A member that takes one message at a time and answers none: after five it has room for no more.
fn join_slow(durable: &mut DurableWorld, name: &str, expiry: u32) -> Peer {
    let peer = durable.world.open();
    let connect = Connect::new(V5, name).resume().expiry(expiry).property(&[0x21, 0, 1]);
    durable.world.send(peer, connect.bytes());
    durable.world.send(peer, subscribe(V5, 1, &[], &[(FILTER, 1)]));
    durable.commit();
    peer
}

/// Publishes messages of one byte each.
fn publish_numbers(durable: &mut DurableWorld, numbers: std::ops::Range<u8>) {
    let payloads: Vec<[u8; 1]> = numbers.map(|number| [number]).collect();
    durable.publish(&payloads.iter().map(|payload| &payload[..]).collect::<Vec<_>>());
}

/// The clients answer everything that they are sent, until nothing has come for some seconds. Returns the payloads.
fn drain(durable: &mut DurableWorld, peers: &[Peer]) -> Vec<u8> {
    let (mut payloads, mut quiet) = (Vec::new(), 0);
    while quiet < 5 {
        let before = payloads.len();
        for &peer in peers {
            for packet in durable.world.take(peer).into_iter().filter(|packet| packet[0] >> 4 == 3) {
                let publish = received(V5, &packet);
                payloads.extend(publish.payload);
                durable.world.send(peer, acknowledge(0x40, publish.packet_identifier.expect("one of QoS 1")));
            }
        }
        quiet = if payloads.len() > before { 0 } else { quiet + 1 };
        durable.world.pass_seconds(1);
        durable.commit();
    }
    payloads.sort_unstable();
    payloads
}

fn numbers(range: std::ops::Range<u8>) -> Vec<u8> {
    range.collect()
}

#[test]
fn messages_without_room_elsewhere_stay_with_a_disconnected_member() {
    let mut durable = DurableWorld::with(small_queues());
    let members = ["a", "b"].map(|name| join_slow(&mut durable, name, 1_000));
    publish_numbers(&mut durable, 0..10);
    durable.world.cut(members[0]);
    durable.commit();
    assert_eq!(durable.store.messages.len(), 10, "each is kept for one");
    let a = durable.come_back("a", false);
    assert_eq!(drain(&mut durable, &[a, members[1]]), numbers(0..10));
    assert_eq!(durable.world.broker.statistics().dropped, 0);
}

/// The same with messages of which only the numbers are in memory.
#[test]
fn messages_read_for_members_without_room_go_back() {
    let mut durable = DurableWorld::with(small_queues());
    let b = join_slow(&mut durable, "b", 1_000);
    publish_numbers(&mut durable, 0..5);
    leave(&mut durable, "a", 1, 1_000);
    publish_numbers(&mut durable, 5..9);
    let a = durable.come_back("a", false);
    durable.world.cut(a);
    (0..3).for_each(|_| durable.commit());
    assert_eq!(durable.store.messages.len(), 9, "each is kept for one");
    let a = durable.come_back("a", false);
    assert_eq!(drain(&mut durable, &[a, b]), numbers(0..9));
    assert_eq!(durable.world.broker.statistics().dropped, 0);
}

/// Without a store, messages are only in memory.
#[test]
fn messages_that_are_not_stored_stay_with_a_disconnected_member_as_well() {
    let mut world = World::with(small_queues(), brooklet::core::access::AllowAll);
    let connect = |name| Connect::new(V5, name).resume().expiry(1_000).property(&[0x21, 0, 1]);
    let members = ["a", "b"].map(|name| {
        let member = world.connect(connect(name).bytes());
        world.ask(member, subscribe(V5, 1, &[], &[(FILTER, 1)]));
        member
    });
    let publisher = world.connect(Connect::new(V5, "p").bytes());
    for number in 0..10 {
        world.ask(publisher, Publish::new(V5, "t", &[number]).qos(1, 1).bytes());
    }
    world.cut(members[0]);
    assert_eq!(world.broker.statistics().dropped, 0);
    let a = world.open();
    world.send(a, Connect::new(V5, "a").resume().expiry(1_000).bytes());
    assert_eq!(world.take(a).len(), 1 + 5, "CONNACK and all that has waited");
}

/// A disconnected member would lose it: messages at QoS 0 are not queued for it.
#[test]
fn queued_messages_do_not_move_between_disconnected_members() {
    let mut durable = DurableWorld::with(small_queues());
    leave(&mut durable, "c", 0, 1_000);
    let members = ["a", "b"].map(|name| join_slow(&mut durable, name, 1_000));
    publish_numbers(&mut durable, 0..10);
    durable.world.cut(members[0]);
    let a = durable.come_back("a", false);
    assert_eq!(drain(&mut durable, &[a, members[1]]), numbers(0..10));
}

/// Messages queued for an ended session stay in the store, also the one that was sent and not answered, and no crash
/// loses them.
#[test]
fn messages_of_an_ended_session_wait_until_a_member_has_room() {
    for crashes in [false, true] {
        let mut durable = DurableWorld::with(small_queues());
        let [_, mut b] = ["a", "b"].map(|name| join_slow(&mut durable, name, 1_000));
        publish_numbers(&mut durable, 0..10);
        begin_anew(&mut durable, "a");
        for _ in 0..5 {
            durable.commit();
            durable.world.pass_seconds(1);
        }
        assert_eq!(durable.store.messages.len(), 10, "each is kept for one");
        assert!(!durable.store.former.is_empty(), "the store knows whose they were");
        assert!(!durable.world.broker.has_work(), "it waits, and does not try all the time");
        if crashes {
            durable = durable.crash_into(small_queues());
            b = durable.come_back("b", false);
        }
        let mut found = drain(&mut durable, &[b]);
        // Messages on their way when the broker crashed come at least once.
        found.dedup();
        assert_eq!(found, numbers(0..10), "{crashes}");
        assert!(durable.store.former.is_empty() && durable.store.messages.is_empty(), "{crashes}");
        assert_eq!(durable.world.broker.statistics().dropped, 0);
    }
}

/// However many messages are queued, at most a page of them is read in vain, and nothing while memory runs out.
#[test]
fn messages_without_room_are_not_read_repeatedly() {
    let mut durable = DurableWorld::new();
    leave(&mut durable, "a", 1, 1_000);
    publish_numbers(&mut durable, 0..200);
    durable.world.broker.set_limits(small_queues());
    let b = join_slow(&mut durable, "b", 1_000);
    publish_numbers(&mut durable, 200..205);
    begin_anew(&mut durable, "a");
    (0..3).for_each(|_| durable.commit());
    for _ in 0..5 {
        durable.world.pass_seconds(1);
        let fetches = durable.world.broker.take_fetches(durable.world.now());
        assert!(fetches.len() == 1 && fetches[0].messages.len() <= 64, "one page is tried: {fetches:?}");
        durable.answer(&fetches);
        assert!(!durable.world.broker.wants_pages(), "the next one is tried later");
    }
    // Nine tenths of the budget are used, and a little more.
    let publisher = durable.world.connect(Connect::new(V5, "q").bytes());
    durable.world.send(publisher, Publish::new(V5, "large", &[0; 1_000_000]).retain().bytes());
    durable.commit();
    let budget = durable.world.broker.held() * 11 / 10;
    durable.world.broker.set_limits(Limits { memory: Some(budget), ..small_queues() });
    durable.world.pass_seconds(1);
    let fetches = durable.world.broker.take_fetches(durable.world.now());
    assert!(fetches.is_empty(), "no member would have room for them: {fetches:?}");
    durable.world.broker.set_limits(Limits::default());
    durable.world.pass_seconds(1);
    assert_eq!(drain(&mut durable, &[b]), numbers(0..205));
}

/// However often a client comes and goes, what is queued for it does not exceed its queue and what came back to it.
#[test]
fn messages_that_return_to_a_full_queue_stay_there() {
    let mut durable = DurableWorld::with(Limits { steps_per_turn: 64, ..small_queues() });
    let [mut a, b] = ["a", "b"].map(|name| join_slow(&mut durable, name, 1_000));
    publish_numbers(&mut durable, 0..10);
    let publisher = durable.world.connect(Connect::new(V311, "q").bytes());
    for number in 10..40 {
        // It is accepted before what leaves has come back.
        durable.world.broker.closed(a, "cut", durable.world.now());
        for more in 0..4 {
            let publish = Publish::new(V311, "t", &[number, more]).qos(1, 1);
            durable.world.broker.received(publisher, &publish.bytes(), durable.world.now());
        }
        durable.world.settle();
        (0..3).for_each(|_| durable.commit());
        a = join_slow(&mut durable, "a", 1_000);
    }
    assert!(durable.store.messages.len() <= 2 * 10, "{} wait", durable.store.messages.len());
    let found = drain(&mut durable, &[a, b]);
    assert!(numbers(0..10).iter().all(|number| found.contains(number)), "{found:?}");
}
