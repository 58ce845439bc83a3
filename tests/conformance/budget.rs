//! What the broker still does while the memory budget is used up.

use brooklet::core::limits::Limits;

use crate::v5_peers::*;
use crate::wire::*;
use crate::world::World;

#[test]
fn small_messages_of_qos_0_have_their_way_at_the_budget() {
    let mut world = World::new();
    let peer = subscriber(&mut world, "peer", "t", 0);
    let publisher = client(&mut world, "publisher");
    let message = |length: usize| Publish::new(V5, "t", &vec![b'm'; length]).bytes();
    world.send(publisher, Publish::new(V5, "kept", &[b'k'; 1_000_000]).retain().bytes());
    world.send(publisher, message(200));
    assert_eq!(world.take(peer).len(), 1);
    let held = world.broker.held();
    world.broker.set_limits(Limits { memory: Some(held), ..Limits::default() });
    for (length, is_sent) in [(200, true), (2_000, false), (1, true)] {
        world.send(publisher, message(length));
        assert_eq!(world.take(peer).len(), usize::from(is_sent), "{length} bytes");
    }
    // All small messages share a little room; larger ones get none.
    let held = world.broker.held();
    world.broker.set_limits(Limits { memory: Some(held / 2), ..Limits::default() });
    world.send(publisher, message(1));
    assert_eq!(world.take(peer).len(), 0);
    assert_eq!(world.broker.statistics().dropped, 2);
}

#[test]
fn a_message_longer_than_the_rest_of_the_budget_reaches_a_client_at_rest() {
    for (qos, filter) in [(1, "t"), (2, "t"), (1, "$share/g/t"), (2, "$share/g/t")] {
        let mut world = World::with_limits(|limits| limits.memory = Some(1_000_000));
        let peer = subscriber(&mut world, "peer", filter, qos);
        let publisher = client(&mut world, "publisher");
        world.send(publisher, Publish::new(V5, "kept", &[b'k'; 600_000]).retain().bytes());
        assert!(!world.broker.is_under_pressure());
        // The second one finds the receivers known.
        for number in [1, 2] {
            let message = Publish::new(V5, "t", &[b'm'; 450_000]).qos(qos, number);
            world.send(publisher, message.bytes());
            assert_eq!(world.take_one(publisher)[0] >> 4, 3 + qos, "it is accepted");
            let publish = received(V5, &world.take_one(peer));
            assert_eq!((publish.qos, publish.payload.len()), (qos, 450_000));
            // PUBACK, or PUBREC with Unspecified error, ends the delivery.
            let identifier = publish.packet_identifier.unwrap().to_be_bytes();
            let answer = [&[(3 + qos) << 4, 1 + qos][..], &identifier, &[0x80][..qos as usize - 1]].concat();
            world.send(peer, answer);
            assert!(!world.broker.is_under_pressure());
        }
    }
}

#[test]
fn a_broker_at_its_budget_does_not_press_on_another_of_its_thread() {
    const BUDGET: usize = 400_000;
    let begin = || World::with_limits(|limits| limits.memory = Some(BUDGET));
    let (mut full, mut other) = (begin(), begin());
    for world in [&mut full, &mut other] {
        assert!(!world.broker.is_under_pressure() && world.broker.has_room_for_handshake());
    }
    let publisher = client(&mut full, "publisher");
    let retained = |number: u16| {
        Publish::new(V5, &format!("kept/{number}"), &[b'k'; 10_000]).retain().qos(1, number + 1).bytes()
    };
    (0..40).for_each(|number| full.send(publisher, retained(number)));
    assert!(full.broker.is_under_pressure() && full.broker.held() > BUDGET * 3 / 4);
    assert!(!other.broker.is_under_pressure() && other.broker.held() < BUDGET / 4);
    // It takes what the other has no room for.
    let publisher = client(&mut other, "publisher");
    (0..20).for_each(|number| other.send(publisher, retained(number)));
    assert_eq!((other.broker.census().retained, other.broker.statistics().refused), (20, 0));
    assert!(full.broker.census().retained < 40 && full.broker.statistics().refused > 0);
    let held = full.broker.held();
    drop(other);
    assert_eq!(full.broker.held(), held);
}
