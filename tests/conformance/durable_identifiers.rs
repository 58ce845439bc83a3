//! Packet Identifiers of QoS 1 with a store: unacknowledged messages are sent again with the same one, and none that a
//! client may hold is given to another message [MQTT-4.4.0-1].

use brooklet::core::limits::Limits;

use crate::durability::Kept;
use crate::wire::*;
use crate::world::Peer;

/// What a client was sent: Packet Identifiers, DUP flags and payloads.
fn sent(kept: &mut Kept, peer: Peer) -> Vec<(u16, bool, Vec<u8>)> {
    let packets = kept.world.take(peer).into_iter().filter(|packet| packet[0] >> 4 == 3);
    let publishes = packets.map(|packet| received(V5, &packet));
    publishes
        .map(|publish| (publish.packet_identifier.expect("QoS 1"), publish.dup, publish.payload))
        .collect()
}

fn connect(kept: &mut Kept, receive_maximum: u8) -> Peer {
    let peer = kept.world.open();
    let connect = Connect::new(V5, "sleeper").resume().expiry(1_000).property(&[0x21, 0, receive_maximum]);
    kept.world.send(peer, connect.bytes());
    kept.world.send(peer, subscribe(V5, 1, &[], &[("t", 1)]));
    kept.commit();
    peer
}

fn again(before: &[(u16, bool, Vec<u8>)]) -> Vec<(u16, bool, Vec<u8>)> {
    before.iter().map(|(identifier, _, payload)| (*identifier, true, payload.clone())).collect()
}

#[test]
fn a_message_sent_at_once_comes_again_with_its_own_identifier() {
    let mut kept = Kept::new();
    let peer = connect(&mut kept, 10);
    kept.publish(&[b"1", b"2", b"3", b"4"]);
    let before = sent(&mut kept, peer);
    assert_eq!(before.len(), 4);
    // Not the first one, so that the messages that come again do not begin with it.
    kept.world.send(peer, acknowledge(0x40, before[1].0));
    kept.commit();
    let mut kept = kept.crash();
    let peer = connect(&mut kept, 10);
    let mut expected = again(&before);
    expected.remove(1);
    assert_eq!(sent(&mut kept, peer), expected);
    kept.publish(&[b"5"]);
    let new = sent(&mut kept, peer);
    let held: Vec<u16> = before.iter().map(|(identifier, ..)| *identifier).collect();
    assert!(new.len() == 1 && !new[0].1 && !held.contains(&new[0].0), "{new:?} beside {held:?}");
}

#[test]
fn a_message_sent_from_the_queue_comes_again_with_its_own_identifier() {
    let mut kept = Kept::new();
    let peer = connect(&mut kept, 1);
    kept.publish(&[b"1", b"2", b"3"]);
    for _ in 0..2 {
        let (identifier, ..) = sent(&mut kept, peer)[0];
        kept.world.send(peer, acknowledge(0x40, identifier));
    }
    let before = sent(&mut kept, peer);
    assert_eq!(before.len(), 1);
    // It is persisted with the next batch.
    kept.publish(&[b"4"]);
    let mut kept = kept.crash();
    let peer = connect(&mut kept, 1);
    assert_eq!(sent(&mut kept, peer), again(&before));
}

#[test]
fn an_identifier_that_was_not_written_down_is_given_to_no_other_message() {
    let mut kept = Kept::new();
    let peer = connect(&mut kept, 10);
    kept.publish(&[b"1"]);
    let publisher = kept.world.connect(Connect::new(V5, "p").bytes());
    for number in 2..6 {
        kept.world.send(publisher, Publish::new(V5, "t", &[number]).qos(1, number.into()).bytes());
    }
    let before = sent(&mut kept, peer);
    assert_eq!(before.len(), 5, "messages are sent although their identifiers are not durable");
    let mut kept = kept.crash();
    let peer = connect(&mut kept, 10);
    assert_eq!(sent(&mut kept, peer), again(&before[..1]));
    kept.publish(&[b"6", b"7", b"8", b"9"]);
    let new = sent(&mut kept, peer);
    assert_eq!(new.len(), 4);
    let is_held = |identifier: u16| before.iter().any(|(held, ..)| *held == identifier);
    assert!(new.iter().all(|(identifier, ..)| !is_held(*identifier)), "{new:?} beside {before:?}");
}

/// No batch is closed for an identifier, and one that is acknowledged before is not persisted at all.
#[test]
fn identifiers_ride_along() {
    let mut kept = Kept::new();
    let peer = connect(&mut kept, 1);
    kept.publish(&[b"1", b"2"]);
    let (first, ..) = sent(&mut kept, peer)[0];
    kept.world.send(peer, acknowledge(0x40, first));
    kept.commit();
    let open = kept.store.messages.values().flat_map(|kept| &kept.open);
    let begun: Vec<_> = open.map(|recipient| recipient.identifier.map(|one| one.value())).collect();
    let (second, ..) = sent(&mut kept, peer)[0];
    assert_eq!(begun, [Some(second)], "the acknowledgement took the next one along");
    assert!(kept.world.broker.is_durable() && kept.world.broker.batch_due().is_none());
}

/// The broker starts again with a configuration that allows fewer messages in flight.
#[test]
fn deliveries_that_have_begun_come_again_whatever_may_be_in_flight_now() {
    let mut kept = Kept::new();
    let peer = connect(&mut kept, 10);
    kept.publish(&[b"1", b"2", b"3", b"4", b"5"]);
    let before = sent(&mut kept, peer);
    assert_eq!(before.len(), 5);
    kept.commit();
    let mut kept = kept.crash_into(Limits { in_flight: 2, ..Limits::default() });
    let peer = connect(&mut kept, 10);
    let mut after = Vec::new();
    while after.len() < before.len() {
        let next = sent(&mut kept, peer);
        assert!((1..=2).contains(&next.len()), "{next:?} within the window");
        for (identifier, ..) in &next {
            kept.world.send(peer, acknowledge(0x40, *identifier));
        }
        after.extend(next);
    }
    assert_eq!(after, again(&before));
}
