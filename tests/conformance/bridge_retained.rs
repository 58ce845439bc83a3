//! Which retained messages a bridge is sent when it is back: all if the other broker has no session, otherwise those
//! that have changed and of which no queued copy tells, deletions among them.

use std::collections::BTreeMap;

use brooklet::base::time::Duration;
use brooklet::core::access::AllowAll;
use brooklet::core::broker::LocalSide;
use brooklet::core::journal::{MessageNumber, NextNumbers, Pace, SessionNumber};
use brooklet::core::limits::Limits;
use brooklet::core::listener::{ListenerId, ListenerOptions, QueueOptions};
use proptest::prelude::*;

use crate::chance::Chance;
use crate::durability::DurableWorld;
use crate::store::{Epoch, Store};
use crate::wire::*;
use crate::world::{Peer, World};

const BRIDGE: ListenerId = ListenerId(1);
const LOCAL: &str = "local.far.host";
const PACE: Pace = Pace { holds: true, urgent: Duration::ZERO, lazy: Duration::from_seconds(1) };

/// A bridge that forwards `a/#`.
#[derive(Clone, Copy, Debug)]
struct Settings {
    qos: u8,
    /// `local_cleansession`.
    is_clean: bool,
    queue: QueueOptions,
    changes: usize,
}

const USUAL: Settings = Settings {
    qos: 1,
    is_clean: false,
    queue: QueueOptions { length: None, drops_oldest: false, age: None },
    changes: 100,
};

/// A broker, its bridge, and what the other broker knows.
struct Rig {
    durable: DurableWorld,
    settings: Settings,
    filters: Vec<Box<str>>,
    bridge: Option<Peer>,
    /// What the other broker retains.
    remote: BTreeMap<String, Vec<u8>>,
    /// What this one retains.
    here: BTreeMap<String, Vec<u8>>,
    publisher: Peer,
    number: u16,
}

fn begin(settings: Settings, store: Store) -> DurableWorld {
    let limits = Limits { in_flight: 4, burst_bytes: 20_000, ..Limits::default() };
    let mut durable = DurableWorld { world: World::with(limits, AllowAll), store, closed: None };
    let options =
        ListenerOptions { queue: Some(settings.queue), ..ListenerOptions::within(&Limits::default()) };
    durable.world.broker.set_listener_options(BRIDGE, options.into());
    durable
}

impl Rig {
    /// A broker whose bridge has connected for the first time, to a broker that has no session of it.
    fn new(settings: Settings) -> Self {
        let mut durable = begin(settings, Store::default());
        let (session, message) =
            (SessionNumber(std::num::NonZeroU64::MIN), MessageNumber(std::num::NonZeroU64::MIN));
        durable.world.broker.begin_journal(NextNumbers { session, message }, PACE);
        let publisher = durable.world.connect(Connect::new(V5, "publisher").bytes());
        let mut rig = Self {
            durable,
            settings,
            filters: vec!["a/#".into()],
            bridge: None,
            remote: BTreeMap::new(),
            here: BTreeMap::new(),
            publisher,
            number: 0,
        };
        rig.set_bridges();
        rig.prepare();
        rig
    }

    /// A bridge that has connected once.
    fn connected(settings: Settings) -> Self {
        let mut rig = Self::new(settings);
        assert_eq!(rig.connect(false), [""; 0]);
        rig
    }

    /// Lets the broker know its bridge.
    fn set_bridges(&mut self) {
        let side = LocalSide {
            client_identifier: LOCAL.into(),
            listener: BRIDGE,
            filters: self.filters.clone(),
            changes_maximum: self.settings.changes,
        };
        let now = self.durable.world.now();
        self.durable.world.broker.set_bridges(vec![side], &[BRIDGE], now);
    }

    /// Opens a connection to the session, as a bridge does.
    fn open(&mut self) -> Peer {
        let peer = self.durable.world.open_at(BRIDGE);
        let connect = Connect::new(V5, LOCAL);
        let connect = if self.settings.is_clean { connect } else { connect.resume().expiry(u32::MAX) };
        self.durable.world.send(peer, connect.bytes());
        peer
    }

    /// No Local, Retain As Published, and no retained messages.
    fn subscribe(&mut self, peer: Peer) {
        let options = self.settings.qos | 0x04 | 0x08 | 0x20;
        let filters: Vec<(&str, u8)> = self.filters.iter().map(|filter| (&**filter, options)).collect();
        self.durable.world.send(peer, subscribe(V5, 1, &[], &filters));
    }

    /// Gives the session its subscriptions, as a bridge does at the start.
    fn prepare(&mut self) {
        let peer = self.open();
        if !self.settings.is_clean {
            self.subscribe(peer);
        }
        self.durable.commit();
        self.durable.world.send(peer, DISCONNECT);
        self.durable.commit();
    }

    /// Connects both sides. Returns what the other broker gets.
    fn connect(&mut self, has_session: bool) -> Vec<String> {
        self.connect_halfway(has_session);
        self.finish_connecting()
    }

    /// Begins to set up the connection: this broker has accepted it.
    fn connect_halfway(&mut self, has_session: bool) {
        let now = self.durable.world.now();
        if !has_session {
            self.durable.world.broker.owe_all_retained(LOCAL, now);
        }
        self.bridge = Some(self.open());
        self.durable.commit();
    }

    fn finish_connecting(&mut self) -> Vec<String> {
        let peer = self.bridge.expect("it is connected");
        self.subscribe(peer);
        let now = self.durable.world.now();
        self.durable.world.broker.catch_up(LOCAL, now);
        self.take()
    }

    /// What the other broker gets, which acknowledges all of it.
    fn take(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        for _ in 0..100 {
            let packets = self.packets();
            all.extend(self.forward(packets));
        }
        all
    }

    /// The messages for the other broker that can be sent now.
    fn packets(&mut self) -> Vec<Vec<u8>> {
        let Some(peer) = self.bridge else { return Vec::new() };
        self.durable.world.take(peer).into_iter().filter(|packet| packet[0] >> 4 == 3).collect()
    }

    /// The other broker gets these messages, and acknowledges them.
    fn forward(&mut self, packets: Vec<Vec<u8>>) -> Vec<String> {
        let Some(peer) = self.bridge else { return Vec::new() };
        let mut all = Vec::new();
        for packet in packets {
            let Received { qos, retain, topic, packet_identifier, payload, .. } = received(V5, &packet);
            all.push(format!("{topic}={}", String::from_utf8_lossy(&payload)));
            if retain && payload.is_empty() {
                self.remote.remove(&topic);
            } else if retain {
                self.remote.insert(topic, payload);
            }
            if let Some(identifier) = packet_identifier {
                let kinds: &[u8] = if qos == 1 { &[0x40] } else { &[0x50, 0x70] };
                kinds.iter().for_each(|kind| self.durable.world.send(peer, acknowledge(*kind, identifier)));
            }
        }
        self.durable.commit();
        self.durable.read();
        all
    }

    /// The messages that are on the link are lost. None of them has QoS 0.
    fn drop_unacknowledged(&mut self) {
        loop {
            let packets = self.packets();
            if packets.iter().all(|packet| packet[0] & 6 != 0) {
                return;
            }
            self.forward(packets);
        }
    }

    /// The link is lost.
    fn lose(&mut self) {
        if let Some(peer) = self.bridge.take() {
            self.durable.world.cut(peer);
        }
        self.durable.commit();
    }

    fn publish(&mut self, topic: &str, payload: &str, qos: u8) {
        self.publish_with(Publish::new(V5, topic, payload.as_bytes()).retain(), qos);
        match payload {
            "" => self.here.remove(topic),
            payload => self.here.insert(topic.to_owned(), payload.into()),
        };
    }

    fn publish_with(&mut self, publish: Publish, qos: u8) {
        self.number = self.number % 60_000 + 1;
        let publish = if qos > 0 { publish.qos(qos, self.number) } else { publish };
        self.durable.world.send(self.publisher, publish.bytes());
        self.durable.commit();
        if qos == 2 {
            self.durable.world.send(self.publisher, acknowledge(0x62, self.number));
            self.durable.commit();
        }
    }

    /// The broker crashes and starts again.
    fn restart(self) -> Self {
        self.restart_later(0)
    }

    /// The same, when the clock of its new process has got as far as these seconds.
    fn restart_later(self, seconds: u64) -> Self {
        let Self {
            durable: DurableWorld { mut store, world, .. },
            settings,
            filters,
            remote,
            here,
            number,
            ..
        } = self;
        drop(world);
        let mut durable = begin(settings, Store::default());
        durable.world.pass_seconds(seconds);
        let now = durable.world.now();
        let (next, restored) = store.restore(Epoch::new(now, now), now, &mut Chance::new(1));
        durable.store = store;
        durable.world.broker.begin_journal(next, PACE);
        let publisher = durable.world.connect(Connect::new(V5, "publisher").bytes());
        let mut rig = Self { durable, settings, filters, bridge: None, remote, here, publisher, number };
        rig.set_bridges();
        restored.into_iter().for_each(|restored| rig.durable.world.broker.restore(restored, now));
        rig.durable.world.broker.finish_restore(now);
        rig.set_bridges();
        rig.prepare();
        rig
    }

    fn owed(&self) -> Option<usize> {
        self.durable.world.broker.owed_retained(LOCAL)
    }

    /// The other broker retains what this one does.
    fn check(&self) {
        assert_eq!(self.remote, self.here);
    }
}

/// Each kind of bridge for which what changes while it is away is not queued, or is dropped from the queue.
fn forgetful() -> Vec<Settings> {
    let queue = |length, drops_oldest| QueueOptions { length: Some(length), drops_oldest, age: None };
    vec![
        Settings { qos: 0, ..USUAL },
        Settings { is_clean: true, ..USUAL },
        Settings { is_clean: true, qos: 0, ..USUAL },
        Settings { queue: queue(0, false), ..USUAL },
        Settings { queue: queue(0, true), ..USUAL },
        Settings { queue: queue(1, false), ..USUAL },
        Settings { queue: queue(1, true), ..USUAL },
        Settings { queue: queue(2, false), qos: 2, ..USUAL },
        Settings { queue: queue(2, true), qos: 2, ..USUAL },
    ]
}

#[test]
fn a_bridge_that_is_back_gets_what_has_changed_and_nothing_twice() {
    for settings in forgetful().into_iter().chain([USUAL]) {
        for (qos, restarts) in [(0, false), (1, false), (2, false), (0, true), (1, true), (2, true)] {
            let mut rig = Rig::connected(settings);
            for topic in ["a/1", "a/2", "a/3", "a/4"] {
                rig.publish(topic, "old", 1);
            }
            assert_eq!(rig.take().len(), 4);
            rig.check();
            rig.lose();
            rig.publish("a/2", "new", qos);
            rig.publish("a/3", "", qos);
            rig.publish("a/5", "new", qos);
            rig.publish("b", "other", qos);
            rig.here.remove("b");
            if restarts {
                rig = rig.restart();
            }
            let mut changes = rig.connect(true);
            changes.sort_unstable();
            assert_eq!(changes, ["a/2=new", "a/3=", "a/5=new"], "{settings:?} {qos} {restarts}");
            rig.check();
            assert_eq!(rig.owed(), Some(0));
            // Nothing has changed since, on this connection, on the next one, and after a restart.
            assert_eq!(rig.take(), [""; 0]);
            rig.lose();
            assert_eq!(rig.connect(true), [""; 0], "{settings:?} {qos} {restarts}");
            rig.lose();
            rig = rig.restart();
            assert_eq!(rig.connect(true), [""; 0], "{settings:?} {qos} {restarts}");
        }
    }
}

#[test]
fn what_changes_several_times_while_a_bridge_is_away_comes_once_unless_it_is_queued() {
    for settings in forgetful() {
        let mut rig = Rig::connected(settings);
        rig.lose();
        for round in 0..5 {
            for topic in ["a/1", "a/2", "a/3"] {
                rig.publish(topic, &round.to_string(), 1);
            }
        }
        rig.publish("a/2", "", 1);
        let changes = rig.connect(true);
        rig.check();
        let last = |topic: &str| changes.iter().rfind(|change| change.starts_with(topic)).map(String::as_str);
        assert_eq!([last("a/1"), last("a/2"), last("a/3")], [Some("a/1=4"), Some("a/2="), Some("a/3=4")]);
        let queued = settings.queue.length.unwrap_or(0);
        assert!(changes.len() <= 3 + queued, "{settings:?} {changes:?}");
        assert_eq!((rig.take().len(), rig.owed()), (0, Some(0)));
    }
}

#[test]
fn a_broker_without_a_session_gets_all_that_is_retained_and_what_was_cleared() {
    for settings in forgetful().into_iter().chain([USUAL]) {
        let mut rig = Rig::connected(settings);
        for topic in ["a/1", "a/2", "a/3"] {
            rig.publish(topic, "old", 1);
        }
        rig.take();
        rig.lose();
        rig.publish("a/1", "", 0);
        rig.publish("a/2", "new", 0);
        let mut all = rig.connect(false);
        rig.check();
        all.sort_unstable();
        assert_eq!(all, ["a/1=", "a/2=new", "a/3=old"], "{settings:?}");
        assert_eq!((rig.take().len(), rig.owed()), (0, Some(0)));
        // The connection may be lost before all have been sent.
        rig.lose();
        rig.connect_halfway(false);
        rig.lose();
        let mut all = rig.connect(true);
        all.sort_unstable();
        assert_eq!(all, ["a/2=new", "a/3=old"], "{settings:?}");
    }
}

#[test]
fn what_is_retained_comes_after_what_was_queued_before() {
    let queue = QueueOptions { length: Some(6), drops_oldest: false, age: None };
    let mut rig = Rig::connected(Settings { queue, ..USUAL });
    rig.lose();
    // More than are in flight at a time.
    for payload in ["1", "2", "3", "4", "5", "6", "dropped"] {
        rig.publish("a/1", payload, 1);
    }
    // By a reload, the rule has another QoS.
    rig.settings.qos = 0;
    let expected = ["a/1=1", "a/1=2", "a/1=3", "a/1=4", "a/1=5", "a/1=6", "a/1=dropped"];
    assert_eq!(rig.connect(true), expected);
    rig.check();
}

#[test]
fn a_new_rule_forwards_what_was_retained_before() {
    for (qos, restarts) in [(0, false), (0, true), (1, false), (1, true)] {
        let mut rig = Rig::connected(Settings { qos, ..USUAL });
        for topic in ["a/1", "b/1", "b/2"] {
            rig.publish(topic, "old", 1);
        }
        assert_eq!(rig.take(), ["a/1=old"]);
        rig.lose();
        rig.filters.push("b/#".into());
        rig.set_bridges();
        rig.prepare();
        if restarts {
            rig = rig.restart();
        }
        assert_eq!(rig.connect(true), ["b/1=old", "b/2=old"]);
        rig.check();
        rig.lose();
        assert_eq!(rig.connect(true), [""; 0]);
    }
}

#[test]
fn too_many_changes_send_all_once_more() {
    for restarts in [false, true] {
        let mut rig = Rig::connected(Settings { qos: 0, changes: 3, ..USUAL });
        for number in 0..10 {
            rig.publish(&format!("a/{number}"), "old", 1);
        }
        assert_eq!(rig.take().len(), 10);
        rig.lose();
        for number in 0..3 {
            rig.publish(&format!("a/{number}"), "new", 0);
        }
        assert_eq!(rig.owed(), Some(3));
        rig.publish("a/3", "new", 0);
        assert_eq!(rig.owed(), None, "all");
        if restarts {
            rig = rig.restart();
            assert_eq!(rig.owed(), None, "all");
        }
        // What is cleared after that is known again.
        rig.publish("a/9", "", 0);
        let mut all = rig.connect(true);
        rig.check();
        all.sort_unstable();
        let expected = (0..10).map(|number| match number {
            0..4 => format!("a/{number}=new"),
            4..9 => format!("a/{number}=old"),
            _ => "a/9=".to_owned(),
        });
        assert_eq!(all, expected.collect::<Vec<_>>());
        assert_eq!((rig.take().len(), rig.owed()), (0, Some(0)));
        rig.lose();
        assert_eq!(rig.connect(true), [""; 0]);
    }
}

#[test]
fn a_crash_that_loses_the_session_of_a_bridge_sends_all_once_more() {
    let mut rig = Rig::connected(Settings { is_clean: true, ..USUAL });
    for topic in ["a/1", "a/2"] {
        rig.publish(topic, "old", 1);
    }
    rig.take();
    rig.lose();
    assert_eq!(rig.connect(true), [""; 0]);
    rig.publish("a/2", "new", 1);
    rig.drop_unacknowledged();
    let mut rig = rig.restart();
    assert_eq!(rig.connect(true), ["a/1=old", "a/2=new"]);
    rig.check();
    // If the connection was lost before, it is known what was lost with it.
    rig.publish("a/1", "new", 1);
    rig.drop_unacknowledged();
    rig.lose();
    let mut rig = rig.restart();
    assert_eq!(rig.connect(true), ["a/1=new"]);
    rig.check();
}

#[test]
fn a_connection_that_is_lost_while_it_is_set_up_loses_no_change() {
    for (qos, published) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let mut rig = Rig::connected(Settings { qos, ..USUAL });
        rig.lose();
        rig.connect_halfway(true);
        rig.publish("a/1", "new", published);
        rig.lose();
        assert_eq!(rig.connect(true), ["a/1=new"]);
        // Otherwise it comes once.
        rig.lose();
        rig.connect_halfway(true);
        rig.publish("a/1", "newer", published);
        assert_eq!(rig.finish_connecting(), ["a/1=newer"]);
        rig.check();
        rig.lose();
        assert_eq!(rig.connect(true), [""; 0]);
    }
}

#[test]
fn messages_that_expire_in_the_queue_are_changes() {
    for restarts in [false, true] {
        let mut rig = Rig::connected(USUAL);
        for topic in ["a/1", "a/2"] {
            rig.publish(topic, "old", 1);
        }
        rig.take();
        rig.lose();
        for topic in ["a/1", "a/2"] {
            let publish = Publish::new(V5, topic, b"brief").retain().property(&[2, 0, 0, 0, 5]);
            rig.publish_with(publish, 1);
        }
        rig.publish("a/2", "new", 1);
        rig.durable.world.pass_seconds(6);
        rig.durable.commit();
        rig.here.remove("a/1");
        if restarts {
            rig = rig.restart_later(6);
        }
        let mut changes = rig.connect(true);
        changes.sort_unstable();
        changes.dedup();
        assert_eq!(changes, ["a/1=", "a/2=new"]);
        rig.check();
    }
}

#[test]
fn a_dropped_change_reaches_a_bridge_that_stays_connected() {
    for drops_oldest in [false, true] {
        let queue = QueueOptions { length: Some(2), drops_oldest, age: None };
        let mut rig = Rig::connected(Settings { queue, ..USUAL });
        let peer = rig.bridge.expect("it is connected");
        rig.durable.world.stall(peer, true);
        let large = "x".repeat(40_000);
        for number in 0..60 {
            rig.publish(&format!("a/{number}"), &large, 1);
        }
        rig.publish("a/3", "", 1);
        assert!(rig.owed().is_some_and(|owed| owed > 0));
        rig.durable.world.stall(peer, false);
        rig.take();
        rig.check();
        assert_eq!(rig.owed(), Some(0));
    }
}

#[test]
fn what_no_rule_forwards_any_longer_and_what_a_former_bridge_was_owed_is_forgotten() {
    let mut rig = Rig::connected(Settings { qos: 0, ..USUAL });
    rig.lose();
    for topic in ["a/1", "a/b/1", "a/b/2"] {
        rig.publish(topic, "new", 0);
    }
    assert_eq!(rig.owed(), Some(3));
    rig.filters = vec!["a/b/#".into()];
    rig.set_bridges();
    assert_eq!(rig.owed(), Some(2));
    rig.durable.commit();
    assert_eq!(rig.durable.store.owed.len(), 2);
    let now = rig.durable.world.now();
    rig.durable.world.broker.set_bridges(Vec::new(), &[BRIDGE], now);
    rig.durable.world.settle();
    rig.durable.world.pass_seconds(2);
    rig.durable.commit();
    assert!(rig.durable.store.owed.is_empty());
    rig.set_bridges();
    assert_eq!(rig.owed(), Some(0));
}

/// What happens to a bridge.
#[derive(Clone, Debug)]
enum Act {
    Publish {
        topic: u8,
        is_empty: bool,
        qos: u8,
    },
    /// Both sides connect; the other broker may have no session.
    Connect {
        has_session: bool,
    },
    /// The connection is lost before it is set up.
    ConnectHalfway,
    /// The connection is lost, after the other broker has got everything or before.
    Lose {
        takes: bool,
    },
    Restart {
        takes: bool,
    },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (0..6_u8, any::<bool>(), 0..3_u8)
            .prop_map(|(topic, is_empty, qos)| Act::Publish { topic, is_empty, qos }),
        2 => prop::bool::weighted(0.8).prop_map(|has_session| Act::Connect { has_session }),
        1 => Just(Act::ConnectHalfway),
        2 => any::<bool>().prop_map(|takes| Act::Lose { takes }),
        1 => any::<bool>().prop_map(|takes| Act::Restart { takes }),
    ]
}

fn any_settings() -> impl Strategy<Value = Settings> {
    let queue = (prop::option::of(0..4_usize), any::<bool>())
        .prop_map(|(length, drops_oldest)| QueueOptions { length, drops_oldest, age: None });
    (0..3_u8, any::<bool>(), queue, prop_oneof![3 => Just(100), 1 => 3..8_usize])
        .prop_map(|(qos, is_clean, queue, changes)| Settings { qos, is_clean, queue, changes })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Once a bridge is connected and nothing waits, the other broker retains what this one does. If changes were
    /// forgotten, it may retain what was cleared as well.
    #[test]
    fn the_other_broker_retains_what_this_one_does(
        settings in any_settings(),
        acts in prop::collection::vec(act(), 1..40),
    ) {
        let mut rig = Rig::connected(settings);
        let (mut value, mut overflowed) = (0, false);
        for act in acts {
            match act {
                Act::Publish { topic, is_empty, qos } => {
                    value += 1;
                    let payload = if is_empty { String::new() } else { value.to_string() };
                    rig.publish(&format!("a/{topic}"), &payload, qos);
                }
                Act::Connect { has_session } if rig.bridge.is_none() => drop(rig.connect(has_session)),
                Act::ConnectHalfway if rig.bridge.is_none() => {
                    rig.connect_halfway(true);
                    rig.lose();
                }
                Act::Lose { takes } | Act::Restart { takes } => {
                    if takes {
                        rig.take();
                    }
                    rig.drop_unacknowledged();
                    if matches!(act, Act::Lose { .. }) {
                        rig.lose();
                    } else {
                        // What the session of the bridge had is not known any longer.
                        overflowed |= settings.is_clean && rig.bridge.is_some();
                        rig = rig.restart();
                    }
                }
                Act::Connect { .. } | Act::ConnectHalfway => {}
            }
            overflowed |= settings.changes < 10 && rig.owed().is_none();
        }
        if rig.bridge.is_none() {
            rig.connect(true);
        }
        rig.take();
        if overflowed {
            let here = rig.here.clone();
            rig.remote.retain(|topic, _| here.contains_key(topic));
        }
        prop_assert_eq!(&rig.remote, &rig.here);
        prop_assert_eq!(rig.owed(), Some(0));
        rig.lose();
        prop_assert_eq!(rig.connect(true), [""; 0]);
    }
}
