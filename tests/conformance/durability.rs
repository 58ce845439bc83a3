//! Past faults between the broker and its store: batches that come late, a full disk, a crash.

use std::num::NonZeroU64;

use brooklet::base::time::{Duration, Time};
use brooklet::core::journal::{
    Batch, Fetch, MessageNumber, Need, NextNumbers, Pace, Recipient, Record, Restored, Room, SessionNumber,
    StoredMessage, StoredPresence, StoredSession,
};
use brooklet::core::limits::Limits;
use brooklet::core::listener::ListenerId;
use brooklet::core::message::{Message, Portable, Publication};
use brooklet::core::subscription::Identifiers;
use brooklet::protocol::codec::{Properties, QoS};
use brooklet::protocol::topic::TopicName;

use crate::chance::Chance;
use crate::store::{Epoch, Store};
use crate::wire::*;
use crate::world::{Peer, World};

const PACE: Pace = Pace { holds: true, urgent: Duration::ZERO, lazy: Duration::from_seconds(1) };

/// A broker whose batches become durable when the test says so.
pub struct DurableWorld {
    pub world: World,
    pub store: Store,
    /// The batch that the store has and that is not durable yet.
    pub closed: Option<Batch>,
}

impl DurableWorld {
    pub fn with(limits: Limits) -> Self {
        let mut world = World::with(limits, brooklet::core::access::AllowAll);
        let (session, message) = (SessionNumber(NonZeroU64::MIN), MessageNumber(NonZeroU64::MIN));
        world.broker.begin_journal(NextNumbers { session, message }, PACE);
        Self { world, store: Store::default(), closed: None }
    }

    pub fn new() -> Self {
        Self::with(Limits::default())
    }

    /// Closes the current batch, which goes to the store.
    pub fn close(&mut self) {
        assert!(self.closed.is_none(), "one at a time");
        self.closed = self.world.broker.take_batch(self.world.now());
        self.world.settle();
    }

    /// Makes it durable.
    pub fn finish(&mut self) {
        let Some(batch) = self.closed.take() else { return };
        let now = self.world.now();
        self.store.write(&batch, now);
        self.world.broker.durable(batch.number, now);
        self.world.settle();
        self.read();
    }

    /// Commits, and returns the records that need space and do not replace existing ones.
    pub fn commit_and_weigh(&mut self) -> Vec<Record> {
        self.close();
        let records = self.closed.iter().flat_map(|batch| &batch.records);
        let weighty = records.filter(|record| match record {
            Record::Session(session) => {
                let will = session.will.as_ref().map_or(0, |will| will.message.publication().payload.len());
                let names = session.user_name.as_ref().map_or(0, String::len);
                let is_known = self.store.sessions.contains_key(&session.number);
                !is_known || will + names > Need::LITTLE_BYTES
            }
            Record::Subscribed(session, subscription) => {
                !self.store.subscriptions.contains_key(&(*session, subscription.filter.clone()))
            }
            record => record.need() == Need::Room,
        });
        let weighty = weighty.cloned().collect();
        self.finish();
        weighty
    }

    /// Reads what clients ask for.
    pub fn read(&mut self) {
        while self.world.broker.wants_pages() {
            let fetches = self.world.broker.take_fetches(self.world.now());
            self.answer(&fetches);
        }
    }

    pub fn answer(&mut self, fetches: &[Fetch]) {
        let pages = self.store.read(fetches, Epoch::new(Time::ZERO, Time::ZERO));
        self.world.broker.pages(&pages, self.world.now());
        self.world.settle();
    }

    pub fn commit(&mut self) {
        self.close();
        self.finish();
    }

    /// Starts another broker with the durable state.
    pub fn crash(self) -> Self {
        self.crash_into(Limits::default())
    }

    pub fn crash_into(self, limits: Limits) -> Self {
        let Self { mut store, world, .. } = self;
        drop(world);
        let mut durable = Self::with(limits);
        let now = durable.world.now();
        let (next, restored) = store.restore(Epoch::new(now, now), now, &mut Chance::new(1));
        durable.world.broker.begin_journal(next, PACE);
        restored.into_iter().for_each(|restored| durable.world.broker.restore(restored, now));
        durable.world.broker.finish_restore(now);
        Self { store, ..durable }
    }

    pub fn set_room(&mut self, room: Room) {
        self.world.broker.set_storage_room(room, self.world.now());
        self.world.settle();
    }

    /// The payloads of the retained messages that a new client gets.
    pub fn retained(&mut self) -> Vec<Vec<u8>> {
        let peer = self.world.connect(Connect::new(V5, "looks").bytes());
        self.world.send(peer, subscribe(V5, 1, &[], &[("#", 0)]));
        let packets = self.world.take(peer).into_iter().filter(|packet| packet[0] >> 4 == 3);
        packets.map(|packet| received(V5, &packet).payload).collect()
    }

    /// Leaves a session with a subscription of QoS 2.
    pub fn leave_sleeper(&mut self) {
        self.leave("sleeper");
    }

    /// Leaves a session of this client.
    pub fn leave(&mut self, client: &str) {
        let peer = self.world.open();
        self.world.send(peer, Connect::new(V5, client).resume().expiry(1_000).bytes());
        self.world.send(peer, subscribe(V5, 1, &[], &[("t", 2)]));
        self.commit();
        assert_eq!(self.world.take(peer).len(), 2, "CONNACK and SUBACK");
        self.world.cut(peer);
        self.commit();
    }

    /// Resumes the session of a client; its socket may take nothing more than the CONNACK.
    pub fn come_back(&mut self, client: &str, is_stalled: bool) -> Peer {
        let peer = self.world.open();
        self.world.send(peer, Connect::new(V5, client).resume().expiry(1_000).bytes());
        self.close();
        let batch = self.closed.take().expect("it is connected");
        self.store.write(&batch, self.world.now());
        self.world.broker.durable(batch.number, self.world.now());
        self.world.settle();
        self.world.stall(peer, is_stalled);
        peer
    }

    /// Publishes messages of QoS 1 one by one, which become durable.
    pub fn publish(&mut self, payloads: &[&[u8]]) {
        let peer = self.world.connect(Connect::new(V5, "p").bytes());
        for payload in payloads {
            self.world.send(peer, Publish::new(V5, "t", payload).qos(1, 1).bytes());
            self.commit();
            assert_eq!(self.world.take_one(peer).len(), 4, "a PUBACK");
        }
        self.world.cut(peer);
    }

    /// The payloads of the messages that a client was sent.
    pub fn payloads(&mut self, peer: Peer) -> Vec<Vec<u8>> {
        let packets = self.world.take(peer).into_iter().filter(|packet| packet[0] >> 4 == 3);
        packets.map(|packet| received(V5, &packet).payload).collect()
    }
}

#[test]
fn a_crash_between_two_turns_loses_nothing_that_goes_from_one_member_to_another() {
    let mut durable = DurableWorld::with(Limits { steps_per_turn: 64, ..Limits::default() });
    let members = ["a", "b"].map(|name| {
        let member = durable.world.open();
        let connect = Connect::new(V5, name).expiry(100).property(&[0x21, 0, 1]);
        durable.world.send(member, connect.bytes());
        durable.world.send(member, subscribe(V5, 1, &[], &[("$share/g/t", 1)]));
        durable.commit();
        member
    });
    let publisher = durable.world.connect(Connect::new(V311, "publisher").bytes());
    for number in 1..=60 {
        durable.world.send(publisher, Publish::new(V311, "t", &[number]).qos(1, number.into()).bytes());
    }
    durable.commit();
    assert_eq!(durable.world.take(publisher).len(), 60, "all are promised");
    durable.world.broker.closed(members[0], "cut", durable.world.now());
    assert!(durable.world.broker.has_work(), "it takes several turns");
    let batch = durable.world.broker.take_batch(durable.world.now()).expect("something has changed");
    durable.store.write(&batch, durable.world.now());
    assert_eq!(durable.store.messages.len(), 60, "each has a recipient");
}

#[test]
fn a_message_that_went_on_without_its_connection_is_no_new_one_after_a_crash() {
    let mut durable = DurableWorld::with(Limits { steps_per_turn: 64, ..Limits::default() });
    for number in 0..20 {
        let subscriber = durable.world.connect(Connect::new(V311, &format!("s{number}")).bytes());
        durable.world.ask(subscriber, subscribe(V311, 1, &[], &[("t", 0)]));
    }
    let publisher = durable.world.open();
    durable.world.send(publisher, Connect::new(V311, "p").resume().bytes());
    durable.commit();
    assert_eq!(durable.world.take_one(publisher)[0], 0x20);
    let publish = Publish::new(V311, "t", b"x").qos(2, 7);
    durable.world.broker.received(publisher, &publish.bytes(), durable.world.now());
    assert_eq!(durable.world.broker.unfinished().count(), 1, "it takes several turns");
    durable.world.cut(publisher);
    durable.commit();
    let mut durable = durable.crash();
    let subscriber = durable.world.connect(Connect::new(V311, "s").bytes());
    durable.world.ask(subscriber, subscribe(V311, 1, &[], &[("t", 0)]));
    let publisher = durable.world.open();
    durable.world.send(publisher, Connect::new(V311, "p").resume().bytes());
    durable.commit();
    assert_eq!(durable.world.take_one(publisher), [0x20, 2, 1, 0]);
    durable.world.send(publisher, publish.dup().bytes());
    durable.commit();
    assert_eq!(durable.world.take_one(publisher)[0], 0x50);
    assert_eq!(durable.world.take(subscriber).len(), 0, "those who were there have got it");
}

#[test]
fn a_queue_is_as_long_after_a_crash_as_before() {
    const PAYLOAD: [u8; 100] = [7; 100];
    let limits = Limits { queue_bytes: 3 * Message::memory_of_length(101), ..Limits::default() };
    let mut durable = DurableWorld::with(limits.clone());
    durable.leave_sleeper();
    let publish = |durable: &mut DurableWorld, count: u16| {
        let peer = durable.world.connect(Connect::new(V5, "p").bytes());
        for number in 1..=count {
            durable.world.send(peer, Publish::new(V5, "t", &PAYLOAD).qos(1, number).bytes());
            durable.commit();
        }
        durable.world.take(peer).iter().map(|answer| answer.get(4).copied().unwrap_or(0)).collect::<Vec<u8>>()
    };
    assert_eq!(publish(&mut durable, 2), [0, 0]);
    let mut durable = durable.crash_into(limits);
    assert_eq!(publish(&mut durable, 2), [0, 0x97], "there is room for three");
    assert_eq!(durable.store.messages.len(), 3);
}

#[test]
fn expired_messages_in_the_store_make_room_for_new_ones() {
    let limits = Limits { queue_length: 2, ..Limits::default() };
    for crashes in [false, true] {
        let mut durable = DurableWorld::with(limits.clone());
        durable.leave_sleeper();
        let publish = |durable: &mut DurableWorld, payload: &[u8], expires: bool| {
            let peer = durable.world.connect(Connect::new(V5, "p").bytes());
            let message = Publish::new(V5, "t", payload).qos(1, 1);
            let message = if expires { message.property(&[0x02, 0, 0, 0, 5]) } else { message };
            durable.world.send(peer, message.bytes());
            durable.commit();
            durable.world.take_one(peer).get(4).copied().unwrap_or(0)
        };
        assert_eq!(publish(&mut durable, b"1", true), 0);
        assert_eq!(publish(&mut durable, b"2", false), 0);
        assert_eq!(publish(&mut durable, b"3", false), 0x97, "there is room for two");
        if crashes {
            durable = durable.crash_into(limits.clone());
        }
        durable.world.pass_seconds(6);
        assert_eq!(publish(&mut durable, b"4", false), 0, "the first one is gone");
        assert_eq!(durable.world.broker.statistics().expired, 1);
        durable.world.pass_seconds(2);
        durable.commit();
        assert_eq!(durable.store.messages.len(), 2);
        let sleeper = durable.world.open();
        durable.world.send(sleeper, Connect::new(V5, "sleeper").resume().expiry(1_000).bytes());
        durable.commit();
        durable.commit();
        let packets = durable.world.take(sleeper).into_iter().filter(|packet| packet[0] >> 4 == 3);
        let payloads: Vec<Vec<u8>> = packets.map(|packet| received(V5, &packet).payload).collect();
        assert_eq!(payloads, [b"2", b"4"]);
        assert_eq!(durable.world.broker.statistics().expired, 1, "once");
    }
}

#[test]
fn expired_messages_that_make_too_little_room_leave_the_store() {
    let limits = Limits { queue_bytes: Message::memory_of_length(1_000), ..Limits::default() };
    let mut durable = DurableWorld::with(limits);
    durable.leave_sleeper();
    let peer = durable.world.connect(Connect::new(V5, "p").bytes());
    let expires = [0x02, 0, 0, 0, 5];
    durable.world.send(peer, Publish::new(V5, "t", b"short").qos(1, 1).property(&expires).bytes());
    durable.world.send(peer, Publish::new(V5, "t", &[b'm'; 600]).qos(1, 2).bytes());
    durable.commit();
    assert_eq!((durable.world.take(peer).len(), durable.store.messages.len()), (2, 2));
    durable.world.pass_seconds(6);
    durable.world.send(peer, Publish::new(V5, "t", &[b'm'; 600]).qos(1, 3).bytes());
    durable.world.pass_seconds(2);
    durable.commit();
    assert_eq!(durable.world.take_one(peer)[4], 0x97, "there is no room");
    assert_eq!(durable.world.broker.statistics().expired, 1);
    assert_eq!(durable.store.messages.len(), 1);
}

#[test]
fn no_session_waits_for_the_pages_of_another() {
    let mut durable = DurableWorld::new();
    durable.leave_sleeper();
    durable.publish(&[b"1", b"2", b"3"]);
    let sleeper = durable.come_back("sleeper", false);
    let fetches = durable.world.broker.take_fetches(durable.world.now());
    assert_eq!(fetches.iter().map(|fetch| fetch.messages.len()).collect::<Vec<_>>(), [3]);
    // While that is being read, others are answered, and the session asks for nothing more.
    durable.publish(&[b"4"]);
    assert!(!durable.world.broker.wants_pages() && durable.payloads(sleeper).is_empty());
    // The answer comes in parts.
    for (part, payload) in fetches[0].messages.iter().zip([b"1", b"2", b"3"]) {
        durable.answer(&[Fetch { session: fetches[0].session, messages: vec![*part] }]);
        assert_eq!(durable.payloads(sleeper), [payload]);
    }
    durable.read();
    assert_eq!(durable.payloads(sleeper), [b"4"]);
}

#[test]
fn a_message_that_is_missing_in_the_store_is_missing_once() {
    let mut durable = DurableWorld::new();
    durable.leave_sleeper();
    durable.publish(&[b"1", b"2", b"3"]);
    let number = *durable.store.messages.keys().nth(1).expect("there are three");
    let missing = durable.store.messages.remove(&number).expect("it is the second one");
    let sleeper = durable.come_back("sleeper", false);
    durable.read();
    assert_eq!(
        (durable.payloads(sleeper), durable.world.broker.statistics().missing),
        (vec![b"1".into(), b"3".into()], 1)
    );
    durable.store.messages.insert(number, missing);
    durable.commit();
    assert!(!durable.store.messages.contains_key(&number), "its client needs it no longer");
}

#[test]
fn messages_read_for_a_client_that_has_left_are_read_again() {
    let mut durable = DurableWorld::new();
    durable.leave_sleeper();
    durable.publish(&[b"1", b"2", b"3"]);
    let sleeper = durable.come_back("sleeper", false);
    let fetches = durable.world.broker.take_fetches(durable.world.now());
    let part = |count: std::ops::Range<usize>| {
        [Fetch { session: fetches[0].session, messages: fetches[0].messages[count].to_vec() }]
    };
    durable.answer(&part(0..1));
    durable.world.cut(sleeper);
    durable.commit();
    let sleeper = durable.come_back("sleeper", false);
    assert_eq!(durable.payloads(sleeper), [b"1"], "it is in flight");
    assert!(!durable.world.broker.wants_pages(), "the other page is still being read");
    durable.answer(&part(1..2));
    assert!(durable.payloads(sleeper).is_empty());
    durable.answer(&part(2..3));
    durable.read();
    assert_eq!(durable.payloads(sleeper), [b"2", b"3"]);
}

#[test]
fn messages_a_client_returns_for_are_persisted_at_once_and_then_read() {
    let mut durable = DurableWorld::new();
    let (session, message) = (SessionNumber(NonZeroU64::MIN), MessageNumber(NonZeroU64::MIN));
    let minute = Duration::from_seconds(60);
    let pace = Pace { holds: false, urgent: minute, lazy: minute };
    durable.world.broker.begin_journal(NextNumbers { session, message }, pace);
    durable.leave_sleeper();
    let publisher = durable.world.connect(Connect::new(V5, "p").bytes());
    for is_closed in [false, true] {
        assert_eq!(durable.world.ask(publisher, Publish::new(V5, "t", b"new").qos(1, 1).bytes())[0], 0x40);
        if is_closed {
            durable.close();
        }
        let sleeper = durable.world.open();
        durable.world.send(sleeper, Connect::new(V5, "sleeper").resume().expiry(1_000).bytes());
        assert!(
            durable.world.broker.take_fetches(durable.world.now()).is_empty(),
            "it is not in the store yet"
        );
        if !is_closed {
            assert_eq!(durable.world.broker.batch_due(), Some(durable.world.now()));
            durable.close();
        }
        durable.finish();
        let packets = durable.world.take(sleeper);
        assert_eq!(packets.iter().map(|packet| packet[0] >> 4).collect::<Vec<_>>(), [2, 3]);
        let identifier = received(V5, &packets[1]).packet_identifier.expect("it has one");
        durable.world.send(sleeper, acknowledge(0x40, identifier));
        durable.world.cut(sleeper);
        durable.commit();
    }
}

#[test]
fn a_message_that_many_return_for_is_held_once() {
    const CLIENTS: usize = 20;
    let mut durable = DurableWorld::new();
    let names: Vec<String> = (0..CLIENTS).map(|count| format!("sleeper{count}")).collect();
    names.iter().for_each(|name| durable.leave(name));
    durable.publish(&[&[7; 100_000]]);
    let peers: Vec<Peer> = names.iter().map(|name| durable.come_back(name, true)).collect();
    let before = durable.world.broker.held();
    durable.read();
    let more = durable.world.broker.held() - before;
    assert!((100_000..200_000).contains(&more), "all of them hold {more} bytes");
    peers.iter().for_each(|&peer| durable.world.stall(peer, false));
    assert!(peers.into_iter().all(|peer| durable.payloads(peer) == [vec![7; 100_000]]));
}

#[test]
fn reads_stay_within_the_available_memory() {
    const CLIENTS: usize = 40;
    const LIMIT: usize = 8 * 1024 * 1024;
    let mut durable = DurableWorld::with(Limits { memory: Some(LIMIT), ..Limits::default() });
    let names: Vec<String> = (0..CLIENTS).map(|count| format!("sleeper{count}")).collect();
    names.iter().for_each(|name| durable.leave(name));
    let payloads: Vec<Vec<u8>> = (0..12).map(|count| vec![count; 60_000]).collect();
    durable.publish(&payloads.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let peers: Vec<Peer> = names.iter().map(|name| durable.come_back(name, true)).collect();
    let mut most = 0;
    let mut read = |durable: &mut DurableWorld| {
        while durable.world.broker.wants_pages() {
            let fetches = durable.world.broker.take_fetches(durable.world.now());
            let bytes: usize = fetches.iter().map(|fetch| fetch.messages.len() * 60_000).sum();
            assert!(bytes <= LIMIT / 64 + 256 * 1024, "{bytes} bytes at a time");
            // As if there was never anything to share.
            fetches.into_iter().for_each(|fetch| durable.answer(&[fetch]));
            most = most.max(durable.world.broker.held());
        }
    };
    read(&mut durable);
    let mut got = vec![Vec::new(); CLIENTS];
    // A client that takes nothing holds what it was sent, so all clients have to take it.
    for _ in 0..payloads.len() {
        for (&peer, got) in peers.iter().zip(&mut got) {
            durable.world.stall(peer, false);
            let packets = durable.world.take(peer).into_iter().filter(|packet| packet[0] >> 4 == 3);
            for packet in packets {
                let Received { payload, packet_identifier, .. } = received(V5, &packet);
                got.push(payload);
                durable.world.send(peer, acknowledge(0x40, packet_identifier.expect("it has one")));
            }
            read(&mut durable);
        }
    }
    assert!(got.iter().all(|got| *got == payloads), "each gets all of them");
    assert!((LIMIT / 2..LIMIT).contains(&most), "{most} bytes were held");
}

/// A broker whose only session is owed messages of an earlier run.
fn owed(messages: impl Iterator<Item = (u64, Time)>) -> DurableWorld {
    let mut durable = DurableWorld::new();
    let (session, now) = (SessionNumber(NonZeroU64::MIN), durable.world.now());
    let message = |number| MessageNumber(NonZeroU64::new(number).expect("not zero"));
    durable
        .world
        .broker
        .begin_journal(NextNumbers { session: session.next(), message: message(1_000_000) }, PACE);
    let stored = Box::new(StoredSession {
        number: session,
        client_identifier: "sleeper".to_owned(),
        user_name: None,
        is_proved: false,
        listener: ListenerId::default(),
        expiry_interval: 1_000,
        presence: StoredPresence::Away { ends: Time::NEVER, sent_until: None },
        will: None,
    });
    let mut records = vec![Record::Session(stored.clone())];
    durable.world.broker.restore(Restored::Session(stored), now);
    for (number, expires) in messages {
        let publication = Publication {
            topic: TopicName::new("t").expect("a topic"),
            payload: b"owed",
            qos: QoS::AtLeastOnce,
            retain: false,
            publisher: None,
            properties: Properties::default(),
            expires,
        };
        let (number, sessions, length) = (message(number), vec![session], publication.length());
        let (lowest_qos, in_flight, group) = (publication.qos, vec![], None);
        let waiting = Restored::Waiting {
            message: number,
            length,
            expires,
            lowest_qos,
            sessions,
            in_flight,
            group,
            retained: None,
        };
        durable.world.broker.restore(waiting, now);
        let form = brooklet::core::journal::CopyForm {
            qos: QoS::AtLeastOnce,
            retain: false,
            identifiers: Identifiers::default(),
            group: None,
        };
        let recipients = vec![Recipient { session, form, identifier: None }];
        records.push(Record::Message(StoredMessage {
            number,
            message: Portable::new(&publication),
            recipients: recipients.into(),
        }));
    }
    durable.store.write(&Batch { number: 0, now, records, log: Vec::new() }, now);
    durable.world.broker.finish_restore(now);
    durable
}

#[test]
fn expired_messages_are_not_read_and_do_not_delay_fresh_ones() {
    const EXPIRED: u64 = 50_000;
    let expires = Time::ZERO + Duration::from_seconds(10);
    let messages = (1..=EXPIRED).map(|number| (number, expires));
    let mut durable = owed(messages.chain([(EXPIRED + 1, Time::NEVER)]));
    durable.world.pass_seconds(20);
    let sleeper = durable.come_back("sleeper", false);
    let mut turns = 0;
    let fetches = loop {
        let fetches = durable.world.broker.take_fetches(durable.world.now());
        turns += 1;
        if !fetches.is_empty() {
            break fetches;
        }
        assert!(durable.world.broker.wants_pages(), "it goes on at the next turn");
    };
    assert!((20..60).contains(&turns), "a bounded part of it each turn: {turns}");
    assert_eq!(fetches.iter().map(|fetch| fetch.messages.len()).sum::<usize>(), 1);
    durable.answer(&fetches);
    assert_eq!(durable.payloads(sleeper), [b"owed"]);
    assert_eq!(durable.world.broker.statistics().expired, EXPIRED);
    // Expired messages are settled afterwards, some in each batch.
    let mut batches = 0;
    while !durable.world.broker.is_durable() {
        durable.world.pass_seconds(1);
        durable.close();
        assert!(durable.closed.as_ref().is_none_or(|batch| batch.records.len() <= 5_000));
        durable.finish();
        batches += 1;
        assert!(batches < 30, "it comes to an end");
    }
    assert_eq!(durable.store.messages.len(), 1);
}

#[test]
fn messages_that_have_expired_for_many_are_skipped_in_several_turns() {
    const CLIENTS: usize = 30;
    const EACH: usize = 100;
    let mut durable = DurableWorld::new();
    let names: Vec<String> = (0..CLIENTS).map(|count| format!("sleeper{count}")).collect();
    names.iter().for_each(|name| durable.leave(name));
    let publisher = durable.world.connect(Connect::new(V5, "p").bytes());
    for _ in 0..EACH {
        let publish = Publish::new(V5, "t", b"").qos(1, 1).property(&[0x02, 0, 0, 0, 5]);
        durable.world.send(publisher, publish.bytes());
        durable.commit();
    }
    durable.world.pass_seconds(10);
    let peers: Vec<Peer> = names.iter().map(|name| durable.come_back(name, false)).collect();
    let mut most = 0;
    while durable.world.broker.wants_pages() {
        let before = durable.world.broker.statistics().expired;
        assert!(durable.world.broker.take_fetches(durable.world.now()).is_empty(), "none of it is read");
        most = most.max(durable.world.broker.statistics().expired - before);
    }
    assert_eq!(durable.world.broker.statistics().expired, (CLIENTS * EACH) as u64);
    assert!((1_000..=1_024).contains(&most), "{most} in one turn");
    assert!(peers.into_iter().all(|peer| durable.payloads(peer).is_empty()));
}

/// A subscription that had not received all retained messages yet gets those that are retained when the broker starts
/// again, and later ones once.
#[test]
fn retained_messages_owed_after_a_crash_are_those_present_then() {
    let mut durable = DurableWorld::new();
    let publisher = durable.world.connect(Connect::new(V5, "p").bytes());
    let retain = |topic: &str, payload: &[u8]| Publish::new(V5, topic, payload).qos(1, 1).retain().bytes();
    for topic in ["a", "b", "c"] {
        durable.world.send(publisher, retain(topic, b"old"));
    }
    let sleeper = Connect::new(V5, "sleeper").resume().expiry(1_000).property(&[0x21, 0, 1]).bytes();
    let peer = durable.world.open();
    durable.world.send(peer, &sleeper);
    durable.world.send(peer, subscribe(V5, 1, &[], &[("#", 1)]));
    durable.commit();
    durable.commit();
    durable.world.cut(peer);
    durable.commit();
    let mut durable = durable.crash();
    let publisher = durable.world.connect(Connect::new(V5, "p").bytes());
    durable.world.send(publisher, retain("b", b"new"));
    durable.commit();
    let peer = durable.world.open();
    durable.world.send(peer, &sleeper);
    let mut found = Vec::new();
    for _ in 0..20 {
        durable.commit();
        for packet in durable.world.take(peer).into_iter().filter(|packet| packet[0] >> 4 == 3) {
            let message = received(V5, &packet);
            durable.world.send(peer, acknowledge(0x40, message.packet_identifier.expect("QoS 1")));
            found.push((message.topic, message.dup, message.payload, message.retain));
        }
    }
    found.sort();
    let expected = [
        ("a", false, &b"old"[..], true),
        // It was in flight as well.
        ("a", true, b"old", true),
        ("b", false, b"new", false),
        ("c", false, b"old", true),
    ];
    let expected =
        expected.map(|(topic, dup, payload, retain)| (topic.to_owned(), dup, payload.to_vec(), retain));
    assert_eq!(found, expected);
}
