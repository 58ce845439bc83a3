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
pub struct Kept {
    pub world: World,
    pub store: Store,
    /// The batch that the store has and that is not durable yet.
    pub closed: Option<Batch>,
}

impl Kept {
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
        let mut kept = Self::with(limits);
        let now = kept.world.now();
        let (next, restored) = store.restore(Epoch::new(now, now), now, &mut Chance::new(1));
        kept.world.broker.begin_journal(next, PACE);
        restored.into_iter().for_each(|restored| kept.world.broker.restore(restored, now));
        kept.world.broker.finish_restore(now);
        Self { store, ..kept }
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
    assert_eq!(kept.store.messages.len(), 60, "each has a recipient");
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
fn expired_messages_in_the_store_make_room_for_new_ones() {
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

#[test]
fn no_session_waits_for_the_pages_of_another() {
    let mut kept = Kept::new();
    kept.leave_sleeper();
    kept.publish(&[b"1", b"2", b"3"]);
    let sleeper = kept.come_back("sleeper", false);
    let fetches = kept.world.broker.take_fetches(kept.world.now());
    assert_eq!(fetches.iter().map(|fetch| fetch.messages.len()).collect::<Vec<_>>(), [3]);
    // While that is being read, others are answered, and the session asks for nothing more.
    kept.publish(&[b"4"]);
    assert!(!kept.world.broker.wants_pages() && kept.payloads(sleeper).is_empty());
    // The answer comes in parts.
    for (part, payload) in fetches[0].messages.iter().zip([b"1", b"2", b"3"]) {
        kept.answer(&[Fetch { session: fetches[0].session, messages: vec![*part] }]);
        assert_eq!(kept.payloads(sleeper), [payload]);
    }
    kept.read();
    assert_eq!(kept.payloads(sleeper), [b"4"]);
}

#[test]
fn a_message_that_is_missing_in_the_store_is_missing_once() {
    let mut kept = Kept::new();
    kept.leave_sleeper();
    kept.publish(&[b"1", b"2", b"3"]);
    let number = *kept.store.messages.keys().nth(1).expect("there are three");
    let missing = kept.store.messages.remove(&number).expect("it is the second one");
    let sleeper = kept.come_back("sleeper", false);
    kept.read();
    assert_eq!(
        (kept.payloads(sleeper), kept.world.broker.statistics().missing),
        (vec![b"1".into(), b"3".into()], 1)
    );
    kept.store.messages.insert(number, missing);
    kept.commit();
    assert!(!kept.store.messages.contains_key(&number), "its client needs it no longer");
}

#[test]
fn messages_read_for_a_client_that_has_left_are_read_again() {
    let mut kept = Kept::new();
    kept.leave_sleeper();
    kept.publish(&[b"1", b"2", b"3"]);
    let sleeper = kept.come_back("sleeper", false);
    let fetches = kept.world.broker.take_fetches(kept.world.now());
    let part = |count: std::ops::Range<usize>| {
        [Fetch { session: fetches[0].session, messages: fetches[0].messages[count].to_vec() }]
    };
    kept.answer(&part(0..1));
    kept.world.cut(sleeper);
    kept.commit();
    let sleeper = kept.come_back("sleeper", false);
    assert_eq!(kept.payloads(sleeper), [b"1"], "it is in flight");
    assert!(!kept.world.broker.wants_pages(), "the other page is still being read");
    kept.answer(&part(1..2));
    assert!(kept.payloads(sleeper).is_empty());
    kept.answer(&part(2..3));
    kept.read();
    assert_eq!(kept.payloads(sleeper), [b"2", b"3"]);
}

#[test]
fn messages_a_client_returns_for_are_persisted_at_once_and_then_read() {
    let mut kept = Kept::new();
    let (session, message) = (SessionNumber(NonZeroU64::MIN), MessageNumber(NonZeroU64::MIN));
    let minute = Duration::from_seconds(60);
    let pace = Pace { holds: false, urgent: minute, lazy: minute };
    kept.world.broker.begin_journal(NextNumbers { session, message }, pace);
    kept.leave_sleeper();
    let publisher = kept.world.connect(Connect::new(V5, "p").bytes());
    for is_closed in [false, true] {
        assert_eq!(kept.world.ask(publisher, Publish::new(V5, "t", b"new").qos(1, 1).bytes())[0], 0x40);
        if is_closed {
            kept.close();
        }
        let sleeper = kept.world.open();
        kept.world.send(sleeper, Connect::new(V5, "sleeper").resume().expiry(1_000).bytes());
        assert!(kept.world.broker.take_fetches(kept.world.now()).is_empty(), "it is not in the store yet");
        if !is_closed {
            assert_eq!(kept.world.broker.batch_due(), Some(kept.world.now()));
            kept.close();
        }
        kept.finish();
        let packets = kept.world.take(sleeper);
        assert_eq!(packets.iter().map(|packet| packet[0] >> 4).collect::<Vec<_>>(), [2, 3]);
        let identifier = received(V5, &packets[1]).packet_identifier.expect("it has one");
        kept.world.send(sleeper, acknowledge(0x40, identifier));
        kept.world.cut(sleeper);
        kept.commit();
    }
}

#[test]
fn a_message_that_many_return_for_is_held_once() {
    const CLIENTS: usize = 20;
    let mut kept = Kept::new();
    let names: Vec<String> = (0..CLIENTS).map(|count| format!("sleeper{count}")).collect();
    names.iter().for_each(|name| kept.leave(name));
    kept.publish(&[&[7; 100_000]]);
    let peers: Vec<Peer> = names.iter().map(|name| kept.come_back(name, true)).collect();
    let before = kept.world.broker.held();
    kept.read();
    let more = kept.world.broker.held() - before;
    assert!((100_000..200_000).contains(&more), "all of them hold {more} bytes");
    peers.iter().for_each(|&peer| kept.world.stall(peer, false));
    assert!(peers.into_iter().all(|peer| kept.payloads(peer) == [vec![7; 100_000]]));
}

#[test]
fn reads_stay_within_the_available_memory() {
    const CLIENTS: usize = 40;
    const LIMIT: usize = 8 * 1024 * 1024;
    let mut kept = Kept::with(Limits { memory: Some(LIMIT), ..Limits::default() });
    let names: Vec<String> = (0..CLIENTS).map(|count| format!("sleeper{count}")).collect();
    names.iter().for_each(|name| kept.leave(name));
    let payloads: Vec<Vec<u8>> = (0..12).map(|count| vec![count; 60_000]).collect();
    kept.publish(&payloads.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let peers: Vec<Peer> = names.iter().map(|name| kept.come_back(name, true)).collect();
    let mut most = 0;
    let mut read = |kept: &mut Kept| {
        while kept.world.broker.wants_pages() {
            let fetches = kept.world.broker.take_fetches(kept.world.now());
            let bytes: usize = fetches.iter().map(|fetch| fetch.messages.len() * 60_000).sum();
            assert!(bytes <= LIMIT / 64 + 256 * 1024, "{bytes} bytes at a time");
            // As if there was never anything to share.
            fetches.into_iter().for_each(|fetch| kept.answer(&[fetch]));
            most = most.max(kept.world.broker.held());
        }
    };
    read(&mut kept);
    let mut got = vec![Vec::new(); CLIENTS];
    // A client that takes nothing holds what it was sent, so all clients have to take it.
    for _ in 0..payloads.len() {
        for (&peer, got) in peers.iter().zip(&mut got) {
            kept.world.stall(peer, false);
            let packets = kept.world.take(peer).into_iter().filter(|packet| packet[0] >> 4 == 3);
            for packet in packets {
                let Received { payload, packet_identifier, .. } = received(V5, &packet);
                got.push(payload);
                kept.world.send(peer, acknowledge(0x40, packet_identifier.expect("it has one")));
            }
            read(&mut kept);
        }
    }
    assert!(got.iter().all(|got| *got == payloads), "each gets all of them");
    assert!((LIMIT / 2..LIMIT).contains(&most), "{most} bytes were held");
}

/// A broker whose only session is owed messages of an earlier run.
fn owed(messages: impl Iterator<Item = (u64, Time)>) -> Kept {
    let mut kept = Kept::new();
    let (session, now) = (SessionNumber(NonZeroU64::MIN), kept.world.now());
    let message = |number| MessageNumber(NonZeroU64::new(number).expect("not zero"));
    kept.world
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
    kept.world.broker.restore(Restored::Session(stored), now);
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
        let waiting =
            Restored::Waiting { message: number, length, expires, lowest_qos, sessions, in_flight, group };
        kept.world.broker.restore(waiting, now);
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
    kept.store.write(&Batch { number: 0, now, records }, now);
    kept.world.broker.finish_restore(now);
    kept
}

#[test]
fn expired_messages_are_not_read_and_do_not_delay_fresh_ones() {
    const EXPIRED: u64 = 50_000;
    let expires = Time::ZERO + Duration::from_seconds(10);
    let messages = (1..=EXPIRED).map(|number| (number, expires));
    let mut kept = owed(messages.chain([(EXPIRED + 1, Time::NEVER)]));
    kept.world.pass_seconds(20);
    let sleeper = kept.come_back("sleeper", false);
    let mut turns = 0;
    let fetches = loop {
        let fetches = kept.world.broker.take_fetches(kept.world.now());
        turns += 1;
        if !fetches.is_empty() {
            break fetches;
        }
        assert!(kept.world.broker.wants_pages(), "it goes on at the next turn");
    };
    assert!((20..60).contains(&turns), "a bounded part of it each turn: {turns}");
    assert_eq!(fetches.iter().map(|fetch| fetch.messages.len()).sum::<usize>(), 1);
    kept.answer(&fetches);
    assert_eq!(kept.payloads(sleeper), [b"owed"]);
    assert_eq!(kept.world.broker.statistics().expired, EXPIRED);
    // Expired messages are settled afterwards, some in each batch.
    let mut batches = 0;
    while !kept.world.broker.is_durable() {
        kept.world.pass_seconds(1);
        kept.close();
        assert!(kept.closed.as_ref().is_none_or(|batch| batch.records.len() <= 5_000));
        kept.finish();
        batches += 1;
        assert!(batches < 30, "it comes to an end");
    }
    assert_eq!(kept.store.messages.len(), 1);
}

#[test]
fn messages_that_have_expired_for_many_are_skipped_in_several_turns() {
    const CLIENTS: usize = 30;
    const EACH: usize = 100;
    let mut kept = Kept::new();
    let names: Vec<String> = (0..CLIENTS).map(|count| format!("sleeper{count}")).collect();
    names.iter().for_each(|name| kept.leave(name));
    let publisher = kept.world.connect(Connect::new(V5, "p").bytes());
    for _ in 0..EACH {
        let publish = Publish::new(V5, "t", b"").qos(1, 1).property(&[0x02, 0, 0, 0, 5]);
        kept.world.send(publisher, publish.bytes());
        kept.commit();
    }
    kept.world.pass_seconds(10);
    let peers: Vec<Peer> = names.iter().map(|name| kept.come_back(name, false)).collect();
    let mut most = 0;
    while kept.world.broker.wants_pages() {
        let before = kept.world.broker.statistics().expired;
        assert!(kept.world.broker.take_fetches(kept.world.now()).is_empty(), "none of it is read");
        most = most.max(kept.world.broker.statistics().expired - before);
    }
    assert_eq!(kept.world.broker.statistics().expired, (CLIENTS * EACH) as u64);
    assert!((1_000..=1_024).contains(&most), "{most} in one turn");
    assert!(peers.into_iter().all(|peer| kept.payloads(peer).is_empty()));
}

/// A subscription that had not received all retained messages yet gets those that are retained when the broker starts
/// again, and later ones once.
#[test]
fn retained_messages_owed_after_a_crash_are_those_present_then() {
    let mut kept = Kept::new();
    let publisher = kept.world.connect(Connect::new(V5, "p").bytes());
    let retain = |topic: &str, payload: &[u8]| Publish::new(V5, topic, payload).qos(1, 1).retain().bytes();
    for topic in ["a", "b", "c"] {
        kept.world.send(publisher, retain(topic, b"old"));
    }
    let sleeper = Connect::new(V5, "sleeper").resume().expiry(1_000).property(&[0x21, 0, 1]).bytes();
    let peer = kept.world.open();
    kept.world.send(peer, &sleeper);
    kept.world.send(peer, subscribe(V5, 1, &[], &[("#", 1)]));
    kept.commit();
    kept.commit();
    kept.world.cut(peer);
    kept.commit();
    let mut kept = kept.crash();
    let publisher = kept.world.connect(Connect::new(V5, "p").bytes());
    kept.world.send(publisher, retain("b", b"new"));
    kept.commit();
    let peer = kept.world.open();
    kept.world.send(peer, &sleeper);
    let mut found = Vec::new();
    for _ in 0..20 {
        kept.commit();
        for packet in kept.world.take(peer).into_iter().filter(|packet| packet[0] >> 4 == 3) {
            let message = received(V5, &packet);
            kept.world.send(peer, acknowledge(0x40, message.packet_identifier.expect("QoS 1")));
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
