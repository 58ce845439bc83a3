//! What went wrong once between the broker and its store: batches that come late, a disk without room, a crash.

use std::num::NonZeroU64;

use brooklet::journal::{Batch, MessageNumber, NextNumbers, Pace, SessionNumber};
use brooklet::limits::Limits;
use brooklet::message::Message;
use brooklet::time::{Duration, Time};

use crate::chance::Chance;
use crate::store::{Epoch, Store};
use crate::wire::*;
use crate::world::World;

const PACE: Pace = Pace { holds: true, urgent: Duration::ZERO, lazy: Duration::from_seconds(1) };

/// A broker whose batches become durable when the test says so.
struct Kept {
    world: World,
    store: Store,
    /// With the store, and not durable.
    closed: Option<Batch>,
}

impl Kept {
    fn with(limits: Limits) -> Self {
        let mut world = World::with(limits, brooklet::access::AllowAll);
        let (session, message) = (SessionNumber(NonZeroU64::MIN), MessageNumber(NonZeroU64::MIN));
        world.broker.begin_journal(NextNumbers { session, message }, PACE);
        Self { world, store: Store::default(), closed: None }
    }

    fn new() -> Self {
        Self::with(Limits::default())
    }

    /// The batch that gathers goes to the store.
    fn close(&mut self) {
        assert!(self.closed.is_none(), "one at a time");
        self.closed = self.world.broker.take_batch(self.world.now());
        self.world.settle();
    }

    /// It is durable.
    fn finish(&mut self) {
        let Some(batch) = self.closed.take() else { return };
        let now = self.world.now();
        self.store.write(&batch, now);
        self.world.broker.durable(batch.number, now);
        let epoch = Epoch::new(Time::ZERO, Time::ZERO);
        for fetch in &batch.fetches {
            self.world.broker.page(&self.store.fetch(fetch, epoch), now);
        }
        self.world.settle();
    }

    fn commit(&mut self) {
        self.close();
        self.finish();
    }

    /// Another broker begins with what is durable.
    fn crash(self) -> Self {
        self.crash_into(Limits::default())
    }

    fn crash_into(self, limits: Limits) -> Self {
        let Self { mut store, world, .. } = self;
        drop(world);
        let mut kept = Self::with(limits);
        let now = kept.world.now();
        let (next, restored) = store.restore(Epoch::new(now, now), now, &mut Chance::new(1));
        kept.world.broker.begin_journal(next, PACE);
        restored.into_iter().for_each(|restored| kept.world.broker.restore(restored, now));
        kept.world.broker.finish_restore(now);
        Self { store, ..kept }
    }

    fn has_room(&mut self, has_room: bool) {
        self.world.broker.set_storage_room(has_room, self.world.now());
        self.world.settle();
    }

    /// The payloads of what a new client finds retained.
    fn retained(&mut self) -> Vec<Vec<u8>> {
        let peer = self.world.connect(Connect::new(V5, "looks").bytes());
        self.world.send(peer, subscribe(V5, 1, &[], &[("#", 0)]));
        let packets = self.world.take(peer).into_iter().filter(|packet| packet[0] >> 4 == 3);
        packets.map(|packet| received(V5, &packet).payload).collect()
    }

    /// A session with a subscription of QoS 2 that is away.
    fn leave_sleeper(&mut self) {
        let peer = self.world.open();
        self.world.send(peer, Connect::new(V5, "sleeper").resume().expiry(1_000).bytes());
        self.world.send(peer, subscribe(V5, 1, &[], &[("t", 2)]));
        self.commit();
        assert_eq!(self.world.take(peer).len(), 2, "CONNACK and SUBACK");
        self.world.cut(peer);
        self.commit();
    }
}

#[test]
fn what_was_retained_just_before_the_disk_was_full_is_there_when_it_is_acknowledged() {
    let mut kept = Kept::new();
    let peer = kept.world.connect(Connect::new(V5, "p").bytes());
    kept.world.send(peer, Publish::new(V5, "gone", b"gone").retain().qos(1, 1).bytes());
    kept.commit();
    assert_eq!(kept.world.take(peer).len(), 1);
    // These wait while another batch is with the store, and then there is no more room.
    kept.world.send(peer, Publish::new(V5, "x", b"x").qos(2, 2).retain().bytes());
    kept.close();
    kept.world.send(peer, Publish::new(V5, "new", b"new").retain().qos(1, 3).bytes());
    kept.world.send(peer, Publish::new(V5, "gone", b"").retain().qos(1, 4).bytes());
    kept.world.send(peer, Publish::new(V5, "unpromised", b"0").retain().bytes());
    kept.has_room(false);
    kept.finish();
    kept.commit();
    assert_eq!(kept.world.take(peer).len(), 3, "all are acknowledged");
    assert_eq!(kept.crash().retained(), [b"new", &b"x"[..]], "so this is what a crash has to leave");
}

#[test]
fn what_is_not_retained_any_more_needs_no_room() {
    let mut kept = Kept::new();
    let peer = kept.world.connect(Connect::new(V5, "p").bytes());
    kept.world.send(peer, Publish::new(V5, "a", b"a").retain().bytes());
    kept.commit();
    kept.has_room(false);
    kept.world.send(peer, Publish::new(V5, "a", b"").retain().bytes());
    kept.commit();
    assert!(kept.store.retained.is_empty());
    assert!(kept.world.broker.is_written_down());
}

#[test]
fn an_end_does_not_wait_for_what_there_is_no_room_for() {
    let mut kept = Kept::new();
    let peer = kept.world.connect(Connect::new(V5, "p").bytes());
    kept.has_room(false);
    kept.world.send(peer, Publish::new(V5, "a", b"a").retain().bytes());
    kept.commit();
    assert!(kept.world.broker.is_written_down(), "nothing more can be");
    kept.has_room(true);
    assert!(!kept.world.broker.is_written_down());
    kept.commit();
    assert!(kept.world.broker.is_written_down() && kept.store.retained.contains_key("a"));
}

#[test]
fn messages_of_qos_0_do_not_fill_what_is_left_of_the_disk() {
    let mut kept = Kept::with(Limits { queues_at_most_once: true, ..Limits::default() });
    kept.leave_sleeper();
    let peer = kept.world.connect(Connect::new(V5, "p").bytes());
    kept.has_room(false);
    kept.world.send(peer, Publish::new(V5, "t", b"0").bytes());
    kept.world.pass_seconds(2);
    kept.commit();
    assert!(kept.store.messages.is_empty(), "there is no room for it");
    kept.has_room(true);
    kept.world.send(peer, Publish::new(V5, "t", b"1").bytes());
    kept.commit();
    assert_eq!(kept.store.messages.len(), 1);
}

#[test]
fn a_crash_between_two_turns_loses_nothing_that_goes_from_one_member_to_another() {
    let mut kept = Kept::with(Limits { steps_per_turn: 64, ..Limits::default() });
    let members = ["a", "b"].map(|name| {
        let member = kept.world.open();
        let connect = Connect::new(V5, name).expiry(100).property(&[0x21, 0, 1]);
        kept.world.send(member, connect.bytes());
        kept.world.send(member, subscribe(V5, 1, &[], &[("$share/g/t", 1)]));
        kept.commit();
        member
    });
    let publisher = kept.world.connect(Connect::new(V311, "publisher").bytes());
    for number in 1..=60 {
        kept.world.send(publisher, Publish::new(V311, "t", &[number]).qos(1, number.into()).bytes());
    }
    kept.commit();
    assert_eq!(kept.world.take(publisher).len(), 60, "all are promised");
    kept.world.broker.closed(members[0], "cut", kept.world.now());
    assert!(kept.world.broker.has_work(), "it takes several turns");
    let batch = kept.world.broker.take_batch(kept.world.now()).expect("something has changed");
    kept.store.write(&batch, kept.world.now());
    assert_eq!(kept.store.messages.len(), 60, "each is kept for somebody");
}

#[test]
fn a_message_that_went_on_without_its_connection_is_no_new_one_after_a_crash() {
    let mut kept = Kept::with(Limits { steps_per_turn: 64, ..Limits::default() });
    for number in 0..20 {
        let subscriber = kept.world.connect(Connect::new(V311, &format!("s{number}")).bytes());
        kept.world.ask(subscriber, subscribe(V311, 1, &[], &[("t", 0)]));
    }
    let publisher = kept.world.open();
    kept.world.send(publisher, Connect::new(V311, "p").resume().bytes());
    kept.commit();
    assert_eq!(kept.world.take_one(publisher)[0], 0x20);
    let publish = Publish::new(V311, "t", b"x").qos(2, 7);
    kept.world.broker.received(publisher, &publish.bytes(), kept.world.now());
    assert_eq!(kept.world.broker.unfinished().count(), 1, "it takes several turns");
    kept.world.cut(publisher);
    kept.commit();
    let mut kept = kept.crash();
    let subscriber = kept.world.connect(Connect::new(V311, "s").bytes());
    kept.world.ask(subscriber, subscribe(V311, 1, &[], &[("t", 0)]));
    let publisher = kept.world.open();
    kept.world.send(publisher, Connect::new(V311, "p").resume().bytes());
    kept.commit();
    assert_eq!(kept.world.take_one(publisher), [0x20, 2, 1, 0]);
    kept.world.send(publisher, publish.dup().bytes());
    kept.commit();
    assert_eq!(kept.world.take_one(publisher)[0], 0x50);
    assert_eq!(kept.world.take(subscriber).len(), 0, "those who were there have got it");
}

#[test]
fn a_queue_is_as_long_after_a_crash_as_before() {
    const PAYLOAD: [u8; 100] = [7; 100];
    let limits = Limits { queue_bytes: 3 * Message::memory_of_length(101), ..Limits::default() };
    let mut kept = Kept::with(limits.clone());
    kept.leave_sleeper();
    let publish = |kept: &mut Kept, count: u16| {
        let peer = kept.world.connect(Connect::new(V5, "p").bytes());
        for number in 1..=count {
            kept.world.send(peer, Publish::new(V5, "t", &PAYLOAD).qos(1, number).bytes());
            kept.commit();
        }
        kept.world.take(peer).iter().map(|answer| answer.get(4).copied().unwrap_or(0)).collect::<Vec<u8>>()
    };
    assert_eq!(publish(&mut kept, 2), [0, 0]);
    let mut kept = kept.crash_into(limits);
    assert_eq!(publish(&mut kept, 2), [0, 0x97], "there is room for three");
    assert_eq!(kept.store.messages.len(), 3);
}

#[test]
fn what_has_expired_in_the_store_makes_room_for_what_comes() {
    let limits = Limits { queue_length: 2, ..Limits::default() };
    for crashes in [false, true] {
        let mut kept = Kept::with(limits.clone());
        kept.leave_sleeper();
        let publish = |kept: &mut Kept, payload: &[u8], expires: bool| {
            let peer = kept.world.connect(Connect::new(V5, "p").bytes());
            let message = Publish::new(V5, "t", payload).qos(1, 1);
            let message = if expires { message.property(&[0x02, 0, 0, 0, 5]) } else { message };
            kept.world.send(peer, message.bytes());
            kept.commit();
            kept.world.take_one(peer).get(4).copied().unwrap_or(0)
        };
        assert_eq!(publish(&mut kept, b"1", true), 0);
        assert_eq!(publish(&mut kept, b"2", false), 0);
        assert_eq!(publish(&mut kept, b"3", false), 0x97, "there is room for two");
        if crashes {
            kept = kept.crash_into(limits.clone());
        }
        kept.world.pass_seconds(6);
        assert_eq!(publish(&mut kept, b"4", false), 0, "the first one is gone");
        kept.world.pass_seconds(2);
        kept.commit();
        assert_eq!(kept.store.messages.len(), 2);
        let sleeper = kept.world.open();
        kept.world.send(sleeper, Connect::new(V5, "sleeper").resume().expiry(1_000).bytes());
        kept.commit();
        kept.commit();
        let packets = kept.world.take(sleeper).into_iter().filter(|packet| packet[0] >> 4 == 3);
        let payloads: Vec<Vec<u8>> = packets.map(|packet| received(V5, &packet).payload).collect();
        assert_eq!(payloads, [b"2", b"4"]);
    }
}
