//! The fate of messages while the disk is full.

use brooklet::core::journal::Room;
use brooklet::core::limits::Limits;
use brooklet::core::switches::Switches;

use crate::durability::Kept;
use crate::wire::*;
use crate::world::Peer;

#[test]
fn a_message_retained_just_before_the_disk_was_full_is_there_when_it_is_acknowledged() {
    let mut kept = Kept::new();
    let peer = kept.world.connect(Connect::new(V5, "p").bytes());
    kept.world.send(peer, Publish::new(V5, "gone", b"gone").retain().qos(1, 1).bytes());
    kept.commit();
    assert_eq!(kept.world.take(peer).len(), 1);
    // These wait while another batch is with the store, and then the disk is full.
    kept.world.send(peer, Publish::new(V5, "x", b"x").qos(2, 2).retain().bytes());
    kept.close();
    kept.world.send(peer, Publish::new(V5, "new", b"new").retain().qos(1, 3).bytes());
    kept.world.send(peer, Publish::new(V5, "gone", b"").retain().qos(1, 4).bytes());
    kept.world.send(peer, Publish::new(V5, "unpromised", b"0").retain().bytes());
    kept.set_room(Room::Scarce);
    kept.finish();
    kept.commit();
    assert_eq!(kept.world.take(peer).len(), 3, "all are acknowledged");
    assert_eq!(kept.crash().retained(), [b"new", &b"x"[..]], "so this is what a crash has to leave");
}

#[test]
fn a_message_that_is_no_longer_retained_needs_no_space() {
    let mut kept = Kept::new();
    let peer = kept.world.connect(Connect::new(V5, "p").bytes());
    kept.world.send(peer, Publish::new(V5, "a", b"a").retain().bytes());
    kept.commit();
    kept.set_room(Room::Scarce);
    kept.world.send(peer, Publish::new(V5, "a", b"").retain().bytes());
    kept.commit();
    assert!(kept.store.retained.is_empty());
    assert!(kept.world.broker.is_durable());
}

#[test]
fn a_message_that_clears_a_topic_needs_no_space_and_reaches_all_subscribers() {
    for level in [V311, V5] {
        for qos in 1..=2 {
            let mut kept = Kept::new();
            kept.leave_sleeper();
            let peer = kept.world.connect(Connect::new(level, "p").bytes());
            kept.world.send(peer, Publish::new(level, "t", b"old").retain().qos(1, 1).bytes());
            kept.commit();
            kept.set_room(Room::Scarce);
            kept.world.take(peer);
            kept.world.send(peer, Publish::new(level, "t", b"").retain().qos(qos, 2).bytes());
            kept.commit();
            let answer = kept.world.take_one(peer);
            let is_refused = level == V5 && answer.get(4).is_some_and(|&reason| reason >= 0x80);
            assert!(answer[0] >> 4 == 3 + qos && !is_refused, "{level} {qos}: {answer:02x?}");
            assert!(kept.store.retained.is_empty(), "{level} {qos}");
            let sleeper = kept.come_back("sleeper", false);
            kept.read();
            kept.commit();
            assert_eq!(kept.payloads(sleeper), [b"old".to_vec(), Vec::new()], "{level} {qos}");
            // A topic that has nothing to clear is like any other.
            kept.world.send(peer, Publish::new(V5, "t", b"").retain().qos(1, 3).bytes());
            assert!(level != V5 || kept.world.take_one(peer)[4] == 0x97, "{level} {qos}");
        }
    }
}

#[test]
fn the_end_does_not_wait_for_data_without_space() {
    let mut kept = Kept::new();
    let peer = kept.world.connect(Connect::new(V5, "p").bytes());
    kept.set_room(Room::Scarce);
    kept.world.send(peer, Publish::new(V5, "a", b"a").retain().bytes());
    kept.commit();
    assert!(kept.world.broker.is_durable(), "nothing more can be");
    kept.set_room(Room::Enough);
    assert!(!kept.world.broker.is_durable());
    kept.commit();
    assert!(kept.world.broker.is_durable() && kept.store.retained.contains_key("a"));
}

#[test]
fn messages_of_qos_0_do_not_fill_the_rest_of_the_disk() {
    let mut kept = Kept::with(Limits::default());
    kept.world.broker.set_switches(Switches { queues_at_most_once: true, ..Switches::default() });
    kept.leave_sleeper();
    let peer = kept.world.connect(Connect::new(V5, "p").bytes());
    kept.set_room(Room::Scarce);
    kept.world.send(peer, Publish::new(V5, "t", b"0").bytes());
    kept.world.pass_seconds(2);
    kept.commit();
    assert!(kept.store.messages.is_empty(), "there is no room for it");
    kept.set_room(Room::Enough);
    kept.world.send(peer, Publish::new(V5, "t", b"1").bytes());
    kept.commit();
    assert_eq!(kept.store.messages.len(), 1);
}

/// Refused for lack of space: 5.0 has a code for that, older versions have one for a server that is unavailable.
const REFUSED: [(u8, u8); 2] = [(V5, 0x97), (V311, 3)];

/// A broker with everything that could fill a disk: persisted sessions of connected and disconnected clients,
/// subscriptions, group members, retained messages, Wills.
struct Populated {
    kept: Kept,
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
        let mut kept = Kept::with(Limits::default());
        kept.world.broker.set_switches(Switches { raises_qos: true, ..Switches::default() });
        kept.leave_sleeper();
        let peer = kept.world.connect(Connect::new(V5, "p").bytes());
        kept.world.send(peer, Publish::new(V5, "r", b"retained").retain().qos(1, 1).bytes());
        let heir = kept.world.open();
        kept.world.send(heir, Connect::new(V311, "heir").resume().will("t", b"heir", 1, false, &[]).bytes());
        let awake = kept.world.open();
        kept.world.send(awake, Connect::new(V5, "awake").expiry(1_000).bytes());
        kept.world.send(awake, subscribe(V5, 1, &[], &[("t", 2), ("$share/g/s", 1)]));
        kept.world.send(awake, subscribe(V5, 2, &[], &[("r", 0x20 | 2)]));
        let weak = kept.world.open();
        kept.world.send(weak, Connect::new(V5, "weak").property(&[0x21, 0, 1]).bytes());
        kept.world.send(weak, subscribe(V5, 1, &[], &[("$share/g/s", 1)]));
        let mortal = kept.world.open();
        kept.world.send(mortal, Connect::new(V5, "mortal").will("t", &[b'm'; 60_000], 2, true, &[]).bytes());
        kept.commit();
        for peer in [peer, awake, heir, weak, mortal] {
            kept.world.take(peer);
        }
        kept.world.cut(peer);
        Self { kept, awake, heir, weak, mortal }
    }

    /// A client connects without Clean Start. Returns the first code that it gets.
    fn greet(&mut self, connect: &Connect) -> (Peer, u8) {
        let peer = self.kept.world.open();
        self.kept.world.send(peer, connect.bytes());
        (peer, self.kept.world.take(peer).first().map_or(u8::MAX, |connack| connack[3]))
    }

    fn publish(&mut self, publish: &Publish) -> Vec<u8> {
        let peer = self.kept.world.connect(Connect::new(V5, "q").bytes());
        self.kept.world.send(peer, publish.bytes());
        self.kept.world.take(peer).pop().unwrap_or_default()
    }
}

fn kept_session(level: u8, client: &str) -> Connect {
    let connect = Connect::new(level, client).resume();
    if level == V5 { connect.expiry(1_000) } else { connect }
}

fn takes_a_new_session(all: &mut Populated) {
    for (level, code) in REFUSED {
        assert_eq!(all.greet(&kept_session(level, "new")).1, code, "{level}");
        // A session that ends with its connection has no space on disk yet.
        assert_eq!(all.greet(&Connect::new(V5, "brief")).1, 0);
        assert_eq!(all.greet(&kept_session(level, "brief")).1, code, "{level}");
    }
}

fn takes_a_large_row(all: &mut Populated) {
    for (level, code) in REFUSED {
        for client in ["sleeper", "heir"] {
            let large = kept_session(level, client).will("unheard", &[0; 60_000], 0, false, &[]);
            assert_eq!(all.greet(&large).1, code, "{level} {client}");
            let large = kept_session(level, client).user_name(&"n".repeat(60_000));
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
        all.kept.world.cut(peer);
    }
    all.kept.world.cut(all.mortal);
    all.kept.world.cut(all.heir);
    all.kept.world.pass_seconds(3);
}

fn subscribes(all: &mut Populated) {
    let suback = all.kept.world.ask(all.awake, subscribe(V5, 9, &[], &[("new", 0), ("$share/h/x", 0)]));
    assert_eq!(suback[suback.len() - 2..], [0x97, 0x97]);
    // Again, to get the retained messages.
    all.kept.world.send(all.awake, subscribe(V5, 10, &[], &[("r", 2)]));
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
    all.kept.world.send(all.awake, Publish::new(V5, "unheard", b"x").qos(2, 8).bytes());
}

/// Messages in the memory of a session that is not persisted do not go to one that is.
fn leaves_a_group(all: &mut Populated) {
    all.kept.world.cut(all.weak);
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
            let peer = all.kept.world.connect(Connect::new(V5, "p").bytes());
            for number in 1..=4 {
                all.kept.world.send(peer, Publish::new(V5, "s", b"shared").qos(1, number).bytes());
            }
            all.kept.commit();
            all.kept.world.take(all.awake);
            all.kept.set_room(room);
            // A small Will is accepted while there is a little space.
            if what != "Wills" || room == Room::Scarce {
                act(&mut all);
            }
            // What waits for the first batch goes into the second.
            for _ in 0..2 {
                all.kept.world.pass_seconds(2);
                let weighty = all.kept.commit_and_weigh();
                assert!(weighty.is_empty(), "{what}, {room:?}: {weighty:?}");
            }
        }
    }
}

#[test]
fn messages_that_wait_for_space_come_when_there_is_some() {
    let mut all = Populated::new();
    all.kept.set_room(Room::Scarce);
    all.kept.world.cut(all.heir);
    all.kept.world.send(all.awake, subscribe(V5, 10, &[], &[("r", 1)]));
    all.kept.world.pass_seconds(5);
    all.kept.commit();
    assert!(all.kept.payloads(all.awake).is_empty());
    all.kept.set_room(Room::Enough);
    all.kept.world.pass_seconds(2);
    all.kept.commit();
    assert_eq!(all.kept.payloads(all.awake), [b"retained".to_vec(), b"heir".to_vec()]);
}

#[test]
fn a_qos_is_not_raised_for_a_session_that_is_kept_while_there_is_no_room() {
    let mut all = Populated::new();
    let weak = all.kept.world.connect(Connect::new(V5, "w").bytes());
    all.kept.world.ask(weak, subscribe(V5, 1, &[], &[("t", 1)]));
    for (room, expected) in [(Room::Scarce, 0), (Room::Enough, 2)] {
        all.kept.set_room(room);
        all.publish(&Publish::new(V5, "t", b"x"));
        all.kept.commit();
        for (peer, qos) in [(all.awake, expected), (weak, 1)] {
            let message = received(V5, &all.kept.world.take_one(peer));
            assert_eq!((message.qos, message.payload), (qos, b"x".to_vec()), "{room:?}");
        }
        all.kept.world.send(weak, acknowledge(0x40, 1));
    }
}

/// Session Present, if the CONNACK comes at once.
fn connack(all: &mut Populated, connect: &Connect) -> Option<u8> {
    let peer = all.kept.world.open();
    all.kept.world.send(peer, connect.bytes());
    let packets = all.kept.world.take(peer);
    packets.first().filter(|connack| connack[3] == 0).map(|connack| connack[2])
}

#[test]
fn clients_that_store_nothing_do_not_wait_for_a_full_disk() {
    let mut all = Populated::new();
    // This client already waits for its CONNACK when the space is gone.
    let early = all.kept.world.open();
    all.kept.world.send(early, kept_session(V5, "sleeper").bytes());
    all.kept.close();
    assert!(all.kept.world.take(early).is_empty(), "it is not durable");
    all.kept.set_room(Room::Gone);
    assert_eq!(all.kept.world.take_one(early)[2..4], [1, 0], "nothing new is promised");
    for (number, (connect, expected)) in [
        (kept_session(V5, "sleeper"), Some(1)),
        (Connect::new(V5, "clean"), Some(0)),
        // The answers to these would be about something that has to be written.
        (Connect::new(V5, "sleeper").resume().expiry(5), None),
        (kept_session(V5, "awake").will("x", b"x", 0, false, &[]), None),
        (Connect::new(V311, "sleeper"), Some(0)),
        (Connect::new(V311, "sleeper"), Some(0)),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(connack(&mut all, &connect), expected, "{number}");
    }
    let pinging = all.kept.world.connect(Connect::new(V5, "pinging").bytes());
    assert_eq!(all.kept.world.ask(pinging, PINGREQ), PINGRESP);
}

#[test]
fn a_client_does_not_wait_until_the_end_of_another_is_durable() {
    let mut all = Populated::new();
    all.kept.world.send(all.awake, disconnect(0, &[0x11, 0, 0, 0, 0]));
    assert_eq!(connack(&mut all, &Connect::new(V5, "clean")), Some(0));
    assert_eq!(connack(&mut all, &Connect::new(V5, "awake")), None, "its own session may come back");
}

#[test]
fn packets_that_free_space_need_none() {
    for room in [Room::Scarce, Room::Gone] {
        let mut all = Populated::new();
        let peer = all.kept.world.connect(Connect::new(V5, "p").bytes());
        for number in 1..=3 {
            all.kept.world.send(peer, Publish::new(V5, "t", b"x").qos(2, number).bytes());
        }
        all.kept.world.send(all.awake, Publish::new(V5, "unheard", b"x").qos(2, 1).bytes());
        all.kept.commit();
        all.kept.set_room(room);
        for number in 1..=3 {
            all.kept.world.send(all.awake, acknowledge(0x50, number));
            all.kept.commit();
            all.kept.world.send(all.awake, acknowledge(0x70, number));
        }
        all.kept.world.send(all.awake, acknowledge(0x62, 1));
        all.kept.world.send(all.awake, unsubscribe(V5, 7, &["t", "r", "$share/g/s"]));
        all.publish(&Publish::new(V5, "r", b"").retain().qos(1, 1));
        all.greet(&Connect::new(V311, "sleeper"));
        all.kept.world.pass_seconds(2);
        let weighty = all.kept.commit_and_weigh();
        all.kept.world.pass_seconds(2);
        all.kept.commit();
        assert!(weighty.is_empty(), "{weighty:?}");
        let store = &all.kept.store;
        assert!(store.messages.is_empty() && store.retained.is_empty() && store.subscriptions.is_empty());
        assert!(store.received.is_empty() && store.deliveries.is_empty());
        assert_eq!(store.sessions.len(), 2, "two of them are left");
    }
}
