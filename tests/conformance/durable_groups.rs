//! Shared Subscriptions with a store: what waits for a member whose session ends goes to the others, wherever it is.

use brooklet::core::limits::Limits;

use crate::durability::Kept;
use crate::wire::*;
use crate::world::Peer;

const FILTER: &str = "$share/g/t";

/// A member whose session outlives its connection by this many seconds.
fn join(kept: &mut Kept, name: &str, qos: u8, expiry: u32) -> Peer {
    let peer = kept.world.open();
    kept.world.send(peer, Connect::new(V5, name).resume().expiry(expiry).bytes());
    kept.world.send(peer, subscribe(V5, 1, &[], &[(FILTER, qos)]));
    kept.commit();
    assert_eq!(kept.world.take(peer).len(), 2, "CONNACK and SUBACK");
    peer
}

/// The same, but it is away.
fn leave(kept: &mut Kept, name: &str, qos: u8, expiry: u32) {
    let peer = join(kept, name, qos, expiry);
    kept.world.cut(peer);
    kept.commit();
}

/// A client connects with Clean Start, and so its former session ends.
fn begin_anew(kept: &mut Kept, name: &str) {
    let peer = kept.world.open();
    kept.world.send(peer, Connect::new(V5, name).bytes());
}

/// The payloads that a client gets when it comes back.
fn found(kept: &mut Kept, name: &str) -> Vec<Vec<u8>> {
    let peer = kept.come_back(name, false);
    kept.read();
    kept.commit();
    let packets = kept.world.take(peer).into_iter().filter(|packet| packet[0] >> 4 == 3);
    let mut payloads: Vec<Vec<u8>> = packets.map(|packet| received(V5, &packet).payload).collect();
    payloads.sort();
    payloads
}

/// Another member `b` joins and goes away, the session of `a` ends, and the broker crashes so many batches later. What
/// `b` gets when the next broker has had time to pass on what is left.
fn found_after_crash(mut kept: Kept, qos: u8, batches: usize) -> Vec<Vec<u8>> {
    leave(&mut kept, "b", qos, 1_000);
    begin_anew(&mut kept, "a");
    (0..batches).for_each(|_| kept.commit());
    let mut kept = kept.crash();
    for _ in 0..4 {
        kept.read();
        kept.world.pass_seconds(1);
        kept.commit();
    }
    assert!(kept.store.former.is_empty(), "nothing is left to pass on");
    found(&mut kept, "b")
}

#[test]
fn what_waits_in_the_store_for_one_goes_to_another_when_its_session_ends() {
    let mut kept = Kept::new();
    leave(&mut kept, "a", 1, 1_000);
    kept.publish(&[b"1", b"2", b"3"]);
    leave(&mut kept, "b", 1, 1_000);
    begin_anew(&mut kept, "a");
    (0..3).for_each(|_| kept.commit());
    assert_eq!(kept.store.messages.len(), 3, "each is kept for one");
    assert_eq!(found(&mut kept, "b"), [b"1", b"2", b"3"]);
}

#[test]
fn more_than_one_page_goes_to_another() {
    let mut kept = Kept::with(Limits { steps_per_turn: 64, ..Limits::default() });
    leave(&mut kept, "a", 1, 1_000);
    let payloads: Vec<Vec<u8>> = (0..200_u8).map(|number| vec![number]).collect();
    kept.publish(&payloads.iter().map(|payload| &**payload).collect::<Vec<_>>());
    leave(&mut kept, "b", 1, 1_000);
    begin_anew(&mut kept, "a");
    (0..20).for_each(|_| kept.commit());
    assert!(kept.store.former.is_empty() && kept.store.messages.len() == 200);
    assert_eq!(found(&mut kept, "b"), payloads);
}

#[test]
fn no_crash_loses_what_goes_from_a_session_that_has_ended_to_another() {
    for batches in 0..5 {
        let mut kept = Kept::new();
        leave(&mut kept, "a", 1, 1_000);
        kept.publish(&[b"1", b"2", b"3"]);
        let mut found = found_after_crash(kept, 1, batches);
        if batches == 0 {
            assert_eq!(found, <[Vec<u8>; 0]>::default(), "the session has not ended");
            continue;
        }
        // What went to another member comes at least once.
        found.dedup();
        assert_eq!(found, [b"1", b"2", b"3"], "after {batches} batches");
    }
}

#[test]
fn what_is_not_acknowledged_goes_to_another_after_a_restart() {
    let mut kept = Kept::new();
    let a = join(&mut kept, "a", 1, 2);
    kept.publish(&[b"1", b"2"]);
    assert_eq!(kept.payloads(a).len(), 2);
    leave(&mut kept, "b", 1, 1_000);
    let mut kept = kept.crash();
    kept.world.pass_seconds(3);
    for _ in 0..3 {
        kept.commit();
        kept.world.pass_seconds(1);
    }
    assert_eq!(found(&mut kept, "b"), [b"1", b"2"]);
}

/// [MQTT-4.8.2-5]
#[test]
fn a_qos_2_delivery_that_has_begun_is_no_other_members_after_a_crash() {
    for batches in 1..4 {
        let mut kept = Kept::new();
        let a = join(&mut kept, "a", 2, 1_000);
        let publisher = kept.world.connect(Connect::new(V5, "p").bytes());
        kept.world.send(publisher, Publish::new(V5, "t", b"begun").qos(2, 1).bytes());
        kept.commit();
        assert_eq!(kept.payloads(a), [b"begun"]);
        kept.world.cut(a);
        kept.world.send(publisher, Publish::new(V5, "t", b"waits").qos(2, 2).bytes());
        kept.commit();
        assert_eq!(found_after_crash(kept, 2, batches), [b"waits"], "after {batches} batches");
    }
}

#[test]
fn what_waits_in_the_store_goes_to_one_that_is_connected_when_a_connection_is_lost() {
    let mut kept = Kept::new();
    leave(&mut kept, "a", 1, 1_000);
    let payloads: Vec<Vec<u8>> = (0..200_u8).map(|number| vec![number]).collect();
    kept.publish(&payloads.iter().map(|payload| &**payload).collect::<Vec<_>>());
    // It takes one message at a time, so most of them are not even read.
    let a = kept.world.open();
    let receive_maximum = [0x21, 0, 1];
    let connect = Connect::new(V5, "a").resume().expiry(1_000).property(&receive_maximum);
    kept.world.send(a, connect.bytes());
    kept.commit();
    assert_eq!(kept.payloads(a), payloads[..1]);
    let b = join(&mut kept, "b", 1, 1_000);
    kept.world.cut(a);
    (0..10).for_each(|_| kept.commit());
    let mut found = kept.payloads(b);
    found.sort();
    assert_eq!(found, payloads[1..], "all but the one that was sent and not answered");
}
