//! The fate of messages while the disk is full.

use brooklet::core::journal::Room;
use brooklet::core::limits::Limits;
use brooklet::core::switches::Switches;

use crate::durability::DurableWorld;
use crate::wire::*;
use crate::world::Peer;

#[test]
fn a_message_retained_just_before_the_disk_was_full_is_there_when_it_is_acknowledged() {
    let mut durable = DurableWorld::new();
    let peer = durable.world.connect(Connect::new(V5, "p").bytes());
    durable.world.send(peer, Publish::new(V5, "gone", b"gone").retain().qos(1, 1).bytes());
    durable.commit();
    assert_eq!(durable.world.take(peer).len(), 1);
    // These wait while another batch is with the store, and then the disk is full.
    durable.world.send(peer, Publish::new(V5, "x", b"x").qos(2, 2).retain().bytes());
    durable.close();
    durable.world.send(peer, Publish::new(V5, "new", b"new").retain().qos(1, 3).bytes());
    durable.world.send(peer, Publish::new(V5, "gone", b"").retain().qos(1, 4).bytes());
    durable.world.send(peer, Publish::new(V5, "unpromised", b"0").retain().bytes());
    durable.set_room(Room::Scarce);
    durable.finish();
    durable.commit();
    assert_eq!(durable.world.take(peer).len(), 3, "all are acknowledged");
    assert_eq!(durable.crash().retained(), [b"new", &b"x"[..]], "so this is what a crash has to leave");
}

#[test]
fn a_message_that_is_no_longer_retained_needs_no_space() {
    let mut durable = DurableWorld::new();
    let peer = durable.world.connect(Connect::new(V5, "p").bytes());
    durable.world.send(peer, Publish::new(V5, "a", b"a").retain().bytes());
    durable.commit();
    durable.set_room(Room::Scarce);
    durable.world.send(peer, Publish::new(V5, "a", b"").retain().bytes());
    durable.commit();
    assert!(durable.store.retained.is_empty());
    assert!(durable.world.broker.is_durable());
}

#[test]
fn a_message_that_clears_a_topic_needs_no_space_and_reaches_all_subscribers() {
    for level in [V311, V5] {
        for qos in 1..=2 {
            let mut durable = DurableWorld::new();
            durable.leave_sleeper();
            let peer = durable.world.connect(Connect::new(level, "p").bytes());
            durable.world.send(peer, Publish::new(level, "t", b"old").retain().qos(1, 1).bytes());
            durable.commit();
            durable.set_room(Room::Scarce);
            durable.world.take(peer);
            durable.world.send(peer, Publish::new(level, "t", b"").retain().qos(qos, 2).bytes());
            durable.commit();
            let answer = durable.world.take_one(peer);
            let is_refused = level == V5 && answer.get(4).is_some_and(|&reason| reason >= 0x80);
            assert!(answer[0] >> 4 == 3 + qos && !is_refused, "{level} {qos}: {answer:02x?}");
            assert!(durable.store.retained.is_empty(), "{level} {qos}");
            let sleeper = durable.come_back("sleeper", false);
            durable.read();
            durable.commit();
            assert_eq!(durable.payloads(sleeper), [b"old".to_vec(), Vec::new()], "{level} {qos}");
            // A topic that has nothing to clear is like any other.
            durable.world.send(peer, Publish::new(V5, "t", b"").retain().qos(1, 3).bytes());
            assert!(level != V5 || durable.world.take_one(peer)[4] == 0x97, "{level} {qos}");
        }
    }
}

#[test]
fn the_end_does_not_wait_for_data_without_space() {
    let mut durable = DurableWorld::new();
    let peer = durable.world.connect(Connect::new(V5, "p").bytes());
    durable.set_room(Room::Scarce);
    durable.world.send(peer, Publish::new(V5, "a", b"a").retain().bytes());
    durable.commit();
    assert!(durable.world.broker.is_durable(), "nothing more can be");
    durable.set_room(Room::Enough);
    assert!(!durable.world.broker.is_durable());
    durable.commit();
    assert!(durable.world.broker.is_durable() && durable.store.retained.contains_key("a"));
}

#[test]
fn messages_of_qos_0_do_not_fill_the_rest_of_the_disk() {
    let mut durable = DurableWorld::with(Limits::default());
    durable.world.broker.set_switches(Switches { queues_at_most_once: true, ..Switches::default() });
    durable.leave_sleeper();
    let peer = durable.world.connect(Connect::new(V5, "p").bytes());
    durable.set_room(Room::Scarce);
    durable.world.send(peer, Publish::new(V5, "t", b"0").bytes());
    durable.world.pass_seconds(2);
    durable.commit();
    assert!(durable.store.messages.is_empty(), "there is no room for it");
    durable.set_room(Room::Enough);
    durable.world.send(peer, Publish::new(V5, "t", b"1").bytes());
    durable.commit();
    assert_eq!(durable.store.messages.len(), 1);
}

/// Refused for lack of space: 5.0 has a code for that, older versions have one for a server that is unavailable.
const REFUSED: [(u8, u8); 2] = [(V5, 0x97), (V311, 3)];

/// A broker with everything that could fill a disk: persisted sessions of connected and disconnected clients,
/// subscriptions, group members, retained messages, Wills.
struct Populated {
    durable: DurableWorld,
    /// A persisted session of a connected client, with subscriptions that retained messages match.
    awake: Peer,
    /// A persisted session with a Will.
    heir: Peer,
    /// A session that is not persisted, and a member of the group of one that is.
    weak: Peer,
    /// A session that is not persisted, with a Will for persisted sessions.
    mortal: Peer,
}

impl Populated {
    fn new() -> Self {
        let mut durable = DurableWorld::with(Limits::default());
        durable.world.broker.set_switches(Switches { raises_qos: true, ..Switches::default() });
        durable.leave_sleeper();
        let peer = durable.world.connect(Connect::new(V5, "p").bytes());
        durable.world.send(peer, Publish::new(V5, "r", b"retained").retain().qos(1, 1).bytes());
        let heir = durable.world.open();
        durable
            .world
            .send(heir, Connect::new(V311, "heir").resume().will("t", b"heir", 1, false, &[]).bytes());
        let awake = durable.world.open();
        durable.world.send(awake, Connect::new(V5, "awake").expiry(1_000).bytes());
        durable.world.send(awake, subscribe(V5, 1, &[], &[("t", 2), ("$share/g/s", 1)]));
        durable.world.send(awake, subscribe(V5, 2, &[], &[("r", 0x20 | 2)]));
        let weak = durable.world.open();
        durable.world.send(weak, Connect::new(V5, "weak").property(&[0x21, 0, 1]).bytes());
        durable.world.send(weak, subscribe(V5, 1, &[], &[("$share/g/s", 1)]));
        let mortal = durable.world.open();
        durable
            .world
            .send(mortal, Connect::new(V5, "mortal").will("t", &[b'm'; 60_000], 2, true, &[]).bytes());
        durable.commit();
        for peer in [peer, awake, heir, weak, mortal] {
            durable.world.take(peer);
        }
        durable.world.cut(peer);
        Self { durable, awake, heir, weak, mortal }
    }

    /// A client connects without Clean Start. Returns the first code that it gets.
    fn greet(&mut self, connect: &Connect) -> (Peer, u8) {
        let peer = self.durable.world.open();
        self.durable.world.send(peer, connect.bytes());
        (peer, self.durable.world.take(peer).first().map_or(u8::MAX, |connack| connack[3]))
    }

    fn publish(&mut self, publish: &Publish) -> Vec<u8> {
        let peer = self.durable.world.connect(Connect::new(V5, "q").bytes());
        self.durable.world.send(peer, publish.bytes());
        self.durable.world.take(peer).pop().unwrap_or_default()
    }
}

fn persistent_session(level: u8, client: &str) -> Connect {
    let connect = Connect::new(level, client).resume();
    if level == V5 { connect.expiry(1_000) } else { connect }
}

fn takes_a_new_session(all: &mut Populated) {
    for (level, code) in REFUSED {
        assert_eq!(all.greet(&persistent_session(level, "new")).1, code, "{level}");
        // A session that ends with its connection has no space on disk yet.
        assert_eq!(all.greet(&Connect::new(V5, "brief")).1, 0);
        assert_eq!(all.greet(&persistent_session(level, "brief")).1, code, "{level}");
    }
}

fn takes_a_large_row(all: &mut Populated) {
    for (level, code) in REFUSED {
        for client in ["sleeper", "heir"] {
            let large = persistent_session(level, client).will("unheard", &[0; 60_000], 0, false, &[]);
            assert_eq!(all.greet(&large).1, code, "{level} {client}");
            let large = persistent_session(level, client).user_name(&"n".repeat(60_000));
            assert_eq!(all.greet(&large).1, code, "{level} {client}");
        }
        let large = Connect::new(level, "w").will("t", &[0; 60_000], 1, false, &[]);
        assert_eq!(all.greet(&large).1, code, "{level}");
    }
}

fn publishes_wills(all: &mut Populated) {
    for (retain, qos) in [(false, 1), (true, 1), (false, 2), (true, 2)] {
        let (peer, code) = all.greet(&Connect::new(V311, "w").will("t", b"gone", qos, retain, &[]));
        assert_eq!(code, 0, "a small one is taken");
        all.durable.world.cut(peer);
    }
    all.durable.world.cut(all.mortal);
    all.durable.world.cut(all.heir);
    all.durable.world.pass_seconds(3);
}

fn subscribes(all: &mut Populated) {
    let suback = all.durable.world.ask(all.awake, subscribe(V5, 9, &[], &[("new", 0), ("$share/h/x", 0)]));
    assert_eq!(suback[suback.len() - 2..], [0x97, 0x97]);
    // Again, to get the retained messages.
    all.durable.world.send(all.awake, subscribe(V5, 10, &[], &[("r", 2)]));
}

fn publishes(all: &mut Populated) {
    for (topic, qos) in [("t", 1), ("t", 2), ("s", 1), ("s", 2)] {
        let answer = all.publish(&Publish::new(V5, topic, b"x").qos(qos, 1));
        assert_eq!(answer.get(4), Some(&0x97), "{topic} {qos}: {}", String::from_utf8_lossy(&answer));
    }
    let answer = all.publish(&Publish::new(V5, "new", b"x").retain().qos(1, 1));
    assert_eq!(answer.get(4), Some(&0x97), "{}", String::from_utf8_lossy(&answer));
    for topic in ["t", "s", "new"] {
        all.publish(&Publish::new(V5, topic, b"raised"));
        all.publish(&Publish::new(V5, topic, b"raised").retain());
    }
    all.durable.world.send(all.awake, Publish::new(V5, "unheard", b"x").qos(2, 8).bytes());
}

/// Messages in the memory of a session that is not persisted do not go to one that is.
fn leaves_a_group(all: &mut Populated) {
    all.durable.world.cut(all.weak);
}

#[test]
fn nothing_that_needs_room_is_written_where_there_is_none() {
    type Act = fn(&mut Populated);
    let acts: [(&str, Act); 6] = [
        ("sessions", takes_a_new_session),
        ("rows", takes_a_large_row),
        ("Wills", publishes_wills),
        ("subscriptions", subscribes),
        ("messages", publishes),
        ("groups", leaves_a_group),
    ];
    for (what, act) in acts {
        for room in [Room::Scarce, Room::Gone] {
            let mut all = Populated::new();
            let peer = all.durable.world.connect(Connect::new(V5, "p").bytes());
            for number in 1..=4 {
                all.durable.world.send(peer, Publish::new(V5, "s", b"shared").qos(1, number).bytes());
            }
            all.durable.commit();
            all.durable.world.take(all.awake);
            all.durable.set_room(room);
            // A small Will is accepted while there is a little space.
            if what != "Wills" || room == Room::Scarce {
                act(&mut all);
            }
            // What waits for the first batch goes into the second.
            for _ in 0..2 {
                all.durable.world.pass_seconds(2);
                let weighty = all.durable.commit_and_weigh();
                assert!(weighty.is_empty(), "{what}, {room:?}: {weighty:?}");
            }
        }
    }
}

#[test]
fn messages_that_wait_for_space_come_when_there_is_some() {
    let mut all = Populated::new();
    all.durable.set_room(Room::Scarce);
    all.durable.world.cut(all.heir);
    all.durable.world.send(all.awake, subscribe(V5, 10, &[], &[("r", 1)]));
    all.durable.world.pass_seconds(5);
    all.durable.commit();
    assert!(all.durable.payloads(all.awake).is_empty());
    all.durable.set_room(Room::Enough);
    all.durable.world.pass_seconds(2);
    all.durable.commit();
    assert_eq!(all.durable.payloads(all.awake), [b"retained".to_vec(), b"heir".to_vec()]);
}

#[test]
fn a_qos_is_not_raised_for_a_persistent_session_while_there_is_no_room() {
    let mut all = Populated::new();
    let weak = all.durable.world.connect(Connect::new(V5, "w").bytes());
    all.durable.world.ask(weak, subscribe(V5, 1, &[], &[("t", 1)]));
    for (room, expected) in [(Room::Scarce, 0), (Room::Enough, 2)] {
        all.durable.set_room(room);
        all.publish(&Publish::new(V5, "t", b"x"));
        all.durable.commit();
        for (peer, qos) in [(all.awake, expected), (weak, 1)] {
            let message = received(V5, &all.durable.world.take_one(peer));
            assert_eq!((message.qos, message.payload), (qos, b"x".to_vec()), "{room:?}");
        }
        all.durable.world.send(weak, acknowledge(0x40, 1));
    }
}

/// Session Present, if the CONNACK comes at once.
fn connack(all: &mut Populated, connect: &Connect) -> Option<u8> {
    let peer = all.durable.world.open();
    all.durable.world.send(peer, connect.bytes());
    let packets = all.durable.world.take(peer);
    packets.first().filter(|connack| connack[3] == 0).map(|connack| connack[2])
}

#[test]
fn clients_that_store_nothing_do_not_wait_for_a_full_disk() {
    let mut all = Populated::new();
    // This client already waits for its CONNACK when the space is gone.
    let early = all.durable.world.open();
    all.durable.world.send(early, persistent_session(V5, "sleeper").bytes());
    all.durable.close();
    assert!(all.durable.world.take(early).is_empty(), "it is not durable");
    all.durable.set_room(Room::Gone);
    assert_eq!(all.durable.world.take_one(early)[2..4], [1, 0], "nothing new is promised");
    for (number, (connect, expected)) in [
        (persistent_session(V5, "sleeper"), Some(1)),
        (Connect::new(V5, "clean"), Some(0)),
        // The answers to these would be about something that has to be written.
        (Connect::new(V5, "sleeper").resume().expiry(5), None),
        (persistent_session(V5, "awake").will("x", b"x", 0, false, &[]), None),
        (Connect::new(V311, "sleeper"), Some(0)),
        (Connect::new(V311, "sleeper"), Some(0)),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(connack(&mut all, &connect), expected, "{number}");
    }
    let pinging = all.durable.world.connect(Connect::new(V5, "pinging").bytes());
    assert_eq!(all.durable.world.ask(pinging, PINGREQ), PINGRESP);
}

#[test]
fn a_client_does_not_wait_until_the_end_of_another_is_durable() {
    let mut all = Populated::new();
    all.durable.world.send(all.awake, disconnect(0, &[0x11, 0, 0, 0, 0]));
    assert_eq!(connack(&mut all, &Connect::new(V5, "clean")), Some(0));
    assert_eq!(connack(&mut all, &Connect::new(V5, "awake")), None, "its own session may come back");
}

#[test]
fn packets_that_free_space_need_none() {
    for room in [Room::Scarce, Room::Gone] {
        let mut all = Populated::new();
        let peer = all.durable.world.connect(Connect::new(V5, "p").bytes());
        for number in 1..=3 {
            all.durable.world.send(peer, Publish::new(V5, "t", b"x").qos(2, number).bytes());
        }
        all.durable.world.send(all.awake, Publish::new(V5, "unheard", b"x").qos(2, 1).bytes());
        all.durable.commit();
        all.durable.set_room(room);
        for number in 1..=3 {
            all.durable.world.send(all.awake, acknowledge(0x50, number));
            all.durable.commit();
            all.durable.world.send(all.awake, acknowledge(0x70, number));
        }
        all.durable.world.send(all.awake, acknowledge(0x62, 1));
        all.durable.world.send(all.awake, unsubscribe(V5, 7, &["t", "r", "$share/g/s"]));
        all.publish(&Publish::new(V5, "r", b"").retain().qos(1, 1));
        all.greet(&Connect::new(V311, "sleeper"));
        all.durable.world.pass_seconds(2);
        let weighty = all.durable.commit_and_weigh();
        all.durable.world.pass_seconds(2);
        all.durable.commit();
        assert!(weighty.is_empty(), "{weighty:?}");
        let store = &all.durable.store;
        assert!(store.messages.is_empty() && store.retained.is_empty() && store.subscriptions.is_empty());
        assert!(store.received.is_empty() && store.deliveries.is_empty());
        assert_eq!(store.sessions.len(), 2, "two of them are left");
    }
}
