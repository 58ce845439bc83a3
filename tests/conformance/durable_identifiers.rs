//! Packet Identifiers of QoS 1 with a store: unacknowledged messages are sent again with the same one, and none that a
//! client may hold is given to another message [MQTT-4.4.0-1].

use brooklet::core::limits::Limits;

use crate::durability::DurableWorld;
use crate::wire::*;
use crate::world::Peer;

/// What a client was sent: Packet Identifiers, DUP flags and payloads.
fn sent(durable: &mut DurableWorld, peer: Peer) -> Vec<(u16, bool, Vec<u8>)> {
    let packets = durable.world.take(peer).into_iter().filter(|packet| packet[0] >> 4 == 3);
    let publishes = packets.map(|packet| received(V5, &packet));
    publishes
        .map(|publish| (publish.packet_identifier.expect("QoS 1"), publish.dup, publish.payload))
        .collect()
}

fn connect(durable: &mut DurableWorld, receive_maximum: u8) -> Peer {
    let peer = durable.world.open();
    let connect = Connect::new(V5, "sleeper").resume().expiry(1_000).property(&[0x21, 0, receive_maximum]);
    durable.world.send(peer, connect.bytes());
    durable.world.send(peer, subscribe(V5, 1, &[], &[("t", 1)]));
    durable.commit();
    peer
}

fn again(before: &[(u16, bool, Vec<u8>)]) -> Vec<(u16, bool, Vec<u8>)> {
    before.iter().map(|(identifier, _, payload)| (*identifier, true, payload.clone())).collect()
}

#[test]
fn a_message_sent_at_once_comes_again_with_its_own_identifier() {
    let mut durable = DurableWorld::new();
    let peer = connect(&mut durable, 10);
    durable.publish(&[b"1", b"2", b"3", b"4"]);
    let before = sent(&mut durable, peer);
    assert_eq!(before.len(), 4);
    // Not the first one, so that the messages that come again do not begin with it.
    durable.world.send(peer, acknowledge(0x40, before[1].0));
    durable.commit();
    let mut durable = durable.crash();
    let peer = connect(&mut durable, 10);
    let mut expected = again(&before);
    expected.remove(1);
    assert_eq!(sent(&mut durable, peer), expected);
    durable.publish(&[b"5"]);
    let new = sent(&mut durable, peer);
    let held: Vec<u16> = before.iter().map(|(identifier, ..)| *identifier).collect();
    assert!(new.len() == 1 && !new[0].1 && !held.contains(&new[0].0), "{new:?} beside {held:?}");
}

#[test]
fn a_message_sent_from_the_queue_comes_again_with_its_own_identifier() {
    let mut durable = DurableWorld::new();
    let peer = connect(&mut durable, 1);
    durable.publish(&[b"1", b"2", b"3"]);
    for _ in 0..2 {
        let (identifier, ..) = sent(&mut durable, peer)[0];
        durable.world.send(peer, acknowledge(0x40, identifier));
    }
    let before = sent(&mut durable, peer);
    assert_eq!(before.len(), 1);
    // It is persisted with the next batch.
    durable.publish(&[b"4"]);
    let mut durable = durable.crash();
    let peer = connect(&mut durable, 1);
    assert_eq!(sent(&mut durable, peer), again(&before));
}

#[test]
fn an_identifier_that_was_not_written_down_is_given_to_no_other_message() {
    let mut durable = DurableWorld::new();
    let peer = connect(&mut durable, 10);
    durable.publish(&[b"1"]);
    let publisher = durable.world.connect(Connect::new(V5, "p").bytes());
    for number in 2..6 {
        durable.world.send(publisher, Publish::new(V5, "t", &[number]).qos(1, number.into()).bytes());
    }
    let before = sent(&mut durable, peer);
    assert_eq!(before.len(), 5, "messages are sent although their identifiers are not durable");
    let mut durable = durable.crash();
    let peer = connect(&mut durable, 10);
    assert_eq!(sent(&mut durable, peer), again(&before[..1]));
    durable.publish(&[b"6", b"7", b"8", b"9"]);
    let new = sent(&mut durable, peer);
    assert_eq!(new.len(), 4);
    let is_held = |identifier: u16| before.iter().any(|(held, ..)| *held == identifier);
    assert!(new.iter().all(|(identifier, ..)| !is_held(*identifier)), "{new:?} beside {before:?}");
}

/// No batch is closed for an identifier, and one that is acknowledged before is not persisted at all.
#[test]
fn identifiers_ride_along() {
    let mut durable = DurableWorld::new();
    let peer = connect(&mut durable, 1);
    durable.publish(&[b"1", b"2"]);
    let (first, ..) = sent(&mut durable, peer)[0];
    durable.world.send(peer, acknowledge(0x40, first));
    durable.commit();
    let open = durable.store.messages.values().flat_map(|durable| &durable.open);
    let begun: Vec<_> = open.map(|recipient| recipient.identifier.map(|one| one.value())).collect();
    let (second, ..) = sent(&mut durable, peer)[0];
    assert_eq!(begun, [Some(second)], "the acknowledgement took the next one along");
    assert!(durable.world.broker.is_durable() && durable.world.broker.batch_due().is_none());
}

/// The broker starts again with a configuration that allows fewer messages in flight.
#[test]
fn deliveries_that_have_begun_come_again_whatever_may_be_in_flight_now() {
    let mut durable = DurableWorld::new();
    let peer = connect(&mut durable, 10);
    durable.publish(&[b"1", b"2", b"3", b"4", b"5"]);
    let before = sent(&mut durable, peer);
    assert_eq!(before.len(), 5);
    durable.commit();
    let mut durable = durable.crash_into(Limits { in_flight: 2, ..Limits::default() });
    let peer = connect(&mut durable, 10);
    let mut after = Vec::new();
    while after.len() < before.len() {
        let next = sent(&mut durable, peer);
        assert!((1..=2).contains(&next.len()), "{next:?} within the window");
        for (identifier, ..) in &next {
            durable.world.send(peer, acknowledge(0x40, *identifier));
        }
        after.extend(next);
    }
    assert_eq!(after, again(&before));
}
