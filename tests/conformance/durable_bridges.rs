//! The queues of bridges in the store: messages grow older there as well.

use brooklet::base::time::{Duration, Time};
use brooklet::core::journal::Pace;

use crate::bridge_queues::{LOCAL, come_back, queue_of, set_age};
use crate::chance::Chance;
use crate::durability::DurableWorld;
use crate::store::Epoch;
use crate::wire::*;

/// A bridge that is away, with messages of these payloads in the store, one each second.
fn durable_bridge(published: &[&[u8]]) -> DurableWorld {
    let mut durable = DurableWorld::new();
    set_age(&mut durable.world, Some(100));
    let bridge = come_back(&mut durable.world, 10);
    durable.world.send(bridge, subscribe(V5, 1, &[], &[("t", 2)]));
    durable.commit();
    durable.world.cut(bridge);
    for payload in published {
        durable.publish(&[payload]);
        durable.world.pass_seconds(1);
    }
    durable
}

/// Starts another broker with the durable state after this many seconds. Its clock begins with zero.
fn restart_after(durable: DurableWorld, seconds: u64) -> DurableWorld {
    let DurableWorld { mut store, world, .. } = durable;
    let there = world.now() + Duration::from_seconds(seconds);
    let mut durable = DurableWorld::new();
    let (next, restored) = store.restore(Epoch::new(Time::ZERO, there), there, &mut Chance::new(1));
    let pace = Pace { holds: true, urgent: Duration::ZERO, lazy: Duration::from_seconds(1) };
    durable.world.broker.begin_journal(next, pace);
    restored.into_iter().for_each(|restored| durable.world.broker.restore(restored, Time::ZERO));
    durable.world.broker.finish_restore(Time::ZERO);
    DurableWorld { store, ..durable }
}

#[test]
fn messages_grow_older_while_the_broker_does_not_run() {
    let durable = durable_bridge(&[b"a", b"b", b"c"]);
    assert_eq!(durable.store.arrivals.len(), 3);
    let mut durable = restart_after(durable, 96);
    set_age(&mut durable.world, Some(100));
    durable.world.pass(0);
    assert_eq!(queue_of(&mut durable.world), (99, 0));
    // What was stored in the same second counts as having come at its end.
    durable.world.pass(3001);
    assert_eq!(queue_of(&mut durable.world), (100, 2));
    durable.commit();
    let bridge = come_back(&mut durable.world, 10);
    durable.commit();
    assert_eq!(durable.payloads(bridge), [b"c"]);
    assert_eq!(durable.store.messages.len(), 1, "the others are gone from the store");
}

#[test]
fn a_message_of_which_nothing_is_known_begins_to_wait_at_the_start() {
    let mut durable = durable_bridge(&[b"a"]);
    durable.store.arrivals.clear();
    let mut durable = restart_after(durable, 500);
    set_age(&mut durable.world, Some(100));
    durable.world.pass_seconds(100);
    assert_eq!(queue_of(&mut durable.world), (100, 0));
    durable.commit();
    assert_eq!(durable.store.arrivals.len(), 1, "and that is known after another restart");
    durable.world.pass(1);
    assert_eq!(queue_of(&mut durable.world), (0, 1));
}

#[test]
fn messages_that_are_being_read_from_the_store_are_dropped_as_well() {
    let mut durable = durable_bridge(&[b"a", b"b", b"c"]);
    durable.world.pass_seconds(97);
    let bridge = come_back(&mut durable.world, 10);
    durable.close();
    let batch = durable.closed.take().expect("it is connected");
    durable.store.write(&batch, durable.world.now());
    durable.world.broker.durable(batch.number, durable.world.now());
    durable.world.settle();
    let fetches = durable.world.broker.take_fetches(durable.world.now());
    durable.world.pass(1500);
    assert_eq!(queue_of(&mut durable.world).1, 2);
    durable.answer(&fetches);
    durable.read();
    assert_eq!(durable.payloads(bridge), [b"c"]);
}

#[test]
fn a_delivery_that_waits_for_the_store_is_dropped_if_it_never_began() {
    let mut durable = DurableWorld::new();
    set_age(&mut durable.world, Some(100));
    let bridge = come_back(&mut durable.world, 10);
    durable.world.send(bridge, subscribe(V5, 1, &[], &[("t", 2)]));
    durable.commit();
    let publisher = durable.world.connect(Connect::new(V5, "p").bytes());
    durable.world.send(publisher, Publish::new(V5, "t", b"a").qos(2, 1).bytes());
    durable.world.cut(bridge);
    durable.commit();
    assert_eq!(durable.world.broker.waiting_messages(LOCAL), 1);
    durable.world.pass_seconds(100);
    assert_eq!(queue_of(&mut durable.world).1, 0);
    durable.world.pass(1);
    assert_eq!(queue_of(&mut durable.world).1, 1);
    let bridge = come_back(&mut durable.world, 10);
    durable.commit();
    assert!(durable.payloads(bridge).is_empty());
    assert!(durable.store.messages.is_empty() && durable.store.deliveries.is_empty());
}

#[test]
fn what_is_known_of_old_messages_is_forgotten() {
    let mut durable = durable_bridge(&[]);
    for number in 0..50 {
        durable.publish(&[&[number]]);
        durable.world.pass_seconds(10);
    }
    durable.commit();
    assert_eq!(durable.store.messages.len(), 10);
    assert!(durable.store.arrivals.len() <= 11, "{}", durable.store.arrivals.len());
}
