//! Imports databases of mosquitto into a store, with which a broker continues, and the clients return. `write.py` has
//! written the databases.

#![cfg(feature = "persistence")]
#![expect(clippy::disallowed_methods, reason = "a test may read files")]

use std::convert::Infallible;
use std::path::{Path, PathBuf};

use brooklet::base::peer::Peer;
use brooklet::base::time::{Duration, Time};
use brooklet::core::access::AllowAll;
use brooklet::core::broker::{Broker, Effect};
use brooklet::core::journal::{Batch, Pace};
use brooklet::core::limits::Limits;
use brooklet::core::listener::ListenerId;
use brooklet::core::slots::ConnectionId;
use brooklet::protocol::codec::{
    Acknowledgement, Connect, Delivery, Packet, PacketIdentifier, Properties, Property, PropertyBuffer,
    ProtocolVersion, Publish, ReasonCode, Status, decode, frame,
};
use brooklet::protocol::topic::TopicName;
use brooklet::settings::OnDamage;
use brooklet::storage::import::{Entrance, Import};
use brooklet::storage::store::{Opening, Store, Wanted};
use brooklet::storage::timeline::Clocks;

/// Some minutes after the databases were written, in milliseconds since 1970.
const WALL: u64 = 1_795_428_200_000;

/// The clocks of the import, which count time as the databases do.
const CLOCKS: Clocks = Clocks { now: Time::from_milliseconds(WALL), boot: None, wall: WALL };
/// The same moment for the broker, whose clock starts at zero.
const BROKER: Clocks = Clocks { now: Time::ZERO, ..CLOCKS };

/// A broker with a store; its clock starts at the time of the import.
struct World {
    broker: Broker,
    store: Store,
    directory: PathBuf,
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

impl World {
    fn of(database: &str) -> Self {
        let name = format!("brooklet-{database}-{}-{:?}", std::process::id(), std::thread::current().id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).expect("a directory");
        let bytes = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import").join(database))
            .expect("a database");
        let opening = Opening { listeners: Vec::new(), on_damage: OnDamage::Refuse, clocks: CLOCKS };
        let mut store = Store::open(&directory.join("store"), opening).expect("a store");
        let now = CLOCKS.now;
        let next = store.load(now, |_| panic!("it is new")).expect("nothing");
        let entrance = |port| Entrance { listener: ListenerId(port), proves_names: false };
        let mut records = Vec::new();
        let Ok(()) = Import::read(&bytes, WALL).expect("it is whole").records(next, &entrance, |record| {
            records.push(record);
            Ok::<(), Infallible>(())
        });
        store.commit(&Batch { number: 1, now, records, log: Vec::new() }, CLOCKS).expect("there is room");

        // The clock of a broker starts at zero.
        let mut broker = Broker::new(Limits::default(), Box::new(AllowAll), 1, Time::ZERO);
        let mut all = Vec::new();
        drop(store);
        let opening = Opening { listeners: Vec::new(), on_damage: OnDamage::Refuse, clocks: BROKER };
        let mut store = Store::open(&directory.join("store"), opening).expect("a store");
        let next = store.load(Time::ZERO, |restored| all.push(restored)).expect("it is whole");
        let at_once = Duration::ZERO;
        broker.begin_journal(next, Pace { holds: true, urgent: at_once, lazy: at_once });
        all.into_iter().for_each(|restored| broker.restore(restored, Time::ZERO));
        broker.finish_restore(Time::ZERO);
        Self { broker, store, directory }
    }

    fn settle(&mut self) -> Vec<u8> {
        let mut output = Vec::new();
        loop {
            while self.broker.has_work() {
                for peer in self.broker.take_dirty(Vec::new()) {
                    self.broker.write_to(peer, &mut output, Time::ZERO).expect("a vector takes all");
                }
                while let Some(effect) = self.broker.next_effect() {
                    assert!(matches!(effect, Effect::Resume(_)), "{effect:?}");
                }
                self.broker.tick(Time::ZERO, 1000);
                self.broker.check_invariants();
            }
            let mut wanted = Wanted::default();
            self.broker.take_fetches(Time::ZERO).into_iter().for_each(|fetch| wanted.add(fetch));
            while !wanted.is_empty() {
                let pages = self.store.read(&mut wanted, Time::ZERO, || false).expect("it can be read");
                self.broker.pages(&pages, Time::ZERO);
            }
            let batch = self.broker.take_batch(Time::ZERO);
            if let Some(batch) = batch {
                self.store.commit(&batch, BROKER).expect("there is room");
                self.broker.durable(batch.number, Time::ZERO);
            } else if !self.broker.wants_pages() {
                return output;
            }
        }
    }

    /// Resumes a client's session; returns the packets that it receives.
    fn resume(&mut self, client_identifier: &str, version: ProtocolVersion) -> (ConnectionId, Vec<String>) {
        let address = Peer::Internet(([127, 0, 0, 1], 50_000).into());
        let peer = self.broker.accept(address, ListenerId(18_830), Time::ZERO).expect("there is room");
        let mut properties = PropertyBuffer::default();
        if version == ProtocolVersion::V5 {
            properties.push(Property::SessionExpiryInterval(3600));
        }
        let connect = Connect {
            version,
            is_bridge: false,
            clean_start: false,
            keep_alive: 0,
            properties: properties.properties(),
            client_identifier,
            will: None,
            user_name: Some("ann"),
            password: None,
        };
        let received = self.exchange(peer, version, &Packet::Connect(connect));
        (peer, received)
    }

    /// Sends a packet of a client; returns the packets that it receives.
    fn exchange(&mut self, peer: ConnectionId, version: ProtocolVersion, packet: &Packet<'_>) -> Vec<String> {
        let mut bytes = Vec::new();
        packet.encode(version, &mut bytes);
        self.broker.received(peer, &bytes, Time::ZERO);
        let output = self.settle();
        let mut rest = output.as_slice();
        let mut received = Vec::new();
        while let Ok(Status::Complete(cut)) = frame(rest, usize::MAX) {
            rest = rest.split_at(cut.length).1;
            received.push(description(&decode(&cut, version).expect("the broker knows how to write")));
        }
        received
    }
}

fn description(packet: &Packet<'_>) -> String {
    match packet {
        Packet::ConnAck(connack) => format!("CONNACK {} {}", connack.code, connack.session_present),
        Packet::Publish(publish) => {
            let identifier = publish.delivery.packet_identifier().map_or(0, PacketIdentifier::value);
            let identifiers: Vec<u32> = publish.properties.subscription_identifiers().collect();
            format!(
                "PUBLISH {identifier} {} {:?} q{}{}{} {identifiers:?}",
                publish.topic.map_or("", |topic| topic.as_str()),
                String::from_utf8_lossy(publish.payload),
                publish.delivery.qos().level(),
                if publish.retain { "r" } else { "" },
                if publish.dup { "d" } else { "" },
            )
        }
        Packet::PubRec(of) => format!("PUBREC {}", of.packet_identifier),
        Packet::PubRel(of) => format!("PUBREL {}", of.packet_identifier),
        Packet::PubComp(of) => format!("PUBCOMP {}", of.packet_identifier),
        other => panic!("{other:?}"),
    }
}

fn of(identifier: u16) -> Acknowledgement<'static> {
    Acknowledgement {
        packet_identifier: PacketIdentifier::new(identifier).expect("not zero"),
        reason_code: ReasonCode::Success,
        properties: Properties::default(),
    }
}

#[test]
fn a_session_goes_on_where_it_was() {
    let mut world = World::of("queued.db");
    let version = ProtocolVersion::V5;
    let (five, received) = world.resume("five", version);
    let expected = [
        "CONNACK 0 true",
        "PUBREL 2",
        r#"PUBLISH 3 q/0 "message 0" q1d [9]"#,
        r#"PUBLISH 4 q/2 "message 2" q1d [9]"#,
        r#"PUBLISH 5 q/3 "message 3" q2 [9]"#,
        r#"PUBLISH 6 q/4 "message 4" q1 [9]"#,
        r#"PUBLISH 7 q/twice "twice" q1 [10]"#,
        r#"PUBLISH 8 q/twice "twice" q2 [9]"#,
        r#"PUBLISH 9 q/long "long" q1 [9]"#,
        r#"PUBLISH 10 q/new "new" q2 [9]"#,
    ];
    assert_eq!(received, expected);
    assert!(world.exchange(five, version, &Packet::PubComp(of(2))).is_empty());
    assert_eq!(world.exchange(five, version, &Packet::PubRec(of(5))), ["PUBREL 5"]);
    let (_, received) = world.resume("late", ProtocolVersion::V311);
    let expected =
        ["CONNACK 0 true", r#"PUBLISH 1 q/new "new" q2d []"#, r#"PUBLISH 2 old "retained" q1rd []"#];
    assert_eq!(received, expected);
}

#[test]
fn a_message_of_qos_0_waits_where_it_did() {
    let mut world = World::of("queued.db");
    let (_, received) = world.resume("away", ProtocolVersion::V311);
    assert_eq!(received.len(), 10, "{received:#?}");
    assert_eq!(unnumbered(&received[1]), r#"PUBLISH q/0 "message 0" q1 []"#);
    assert_eq!(received[6], r#"PUBLISH 0 z "of no account" q0 []"#);
    assert_eq!(unnumbered(&received[9]), r#"PUBLISH q/new "new" q1 []"#);
}

/// A packet without its Packet Identifier, which is arbitrary if nothing was in flight.
fn unnumbered(received: &str) -> String {
    let words: Vec<&str> = received.splitn(3, ' ').collect();
    [words[0], words[2]].join(" ")
}

/// Whether the client sends again or releases, no message is delivered twice.
#[test]
fn a_client_that_has_not_released_a_message_can() {
    let mut world = World::of("unreleased.db");
    let version = ProtocolVersion::V5;
    let (sender, received) = world.resume("sender", version);
    assert_eq!(received, ["CONNACK 0 true"]);
    assert_eq!(world.exchange(sender, version, &Packet::PubRel(of(77))), ["PUBCOMP 77"]);
    let again = Packet::Publish(Publish {
        dup: true,
        retain: true,
        delivery: Delivery::ExactlyOnce(of(79).packet_identifier),
        topic: TopicName::new("in/b").ok(),
        properties: Properties::default(),
        payload: b"",
    });
    assert_eq!(world.exchange(sender, version, &again), ["PUBREC 79"]);
    let (_, received) = world.resume("one", version);
    let expected = [r#"PUBLISH in/a "kept" q2 [1, 2]"#, r#"PUBLISH in/b "" q1 [1]"#];
    assert_eq!(received[1..].iter().map(|received| unnumbered(received)).collect::<Vec<_>>(), expected);
}
