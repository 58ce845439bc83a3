//! `$SYS`: what the broker publishes about itself, by the names and in the formats that dashboards know from
//! mosquitto.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use brooklet::base::time::Duration;
use brooklet::core::broker::{Figure, StorageFigures, Unit};
use brooklet::core::journal::{MessageNumber, NextNumbers, Pace, SessionNumber};
use brooklet::core::limits::Limits;

use crate::v5_connect::Doorman;
use crate::v5_peers::*;
use crate::wire::*;
use crate::world::{Peer, World};

/// A wall clock that is 3.5 seconds past a multiple of ten.
const WALL: Duration = Duration::from_milliseconds(1_700_000_003_500);

fn report(world: &mut World, seconds: u64) {
    let now = world.now();
    world.broker.publish_sys(Some(Duration::from_seconds(seconds)), WALL, now);
    world.settle();
}

fn reported(seconds: u64) -> World {
    let mut world = World::new();
    report(&mut world, seconds);
    world
}

/// All retained messages below `$SYS/broker`, read by a separate client.
fn read(world: &mut World) -> BTreeMap<String, String> {
    let peer = client(world, "reader");
    world.send(peer, subscribe(V5, 1, &[], &[("$SYS/broker/#", 0)]));
    let packets = world.take(peer);
    world.send(peer, DISCONNECT);
    let all = packets[1..].iter().map(|packet| received(V5, packet));
    all.map(|message| {
        let name = message.topic.strip_prefix("$SYS/broker/").expect("a topic of the broker").to_owned();
        assert!(message.retain);
        (name, String::from_utf8(message.payload).expect("text"))
    })
    .collect()
}

/// A subscriber that has received the retained messages.
fn watch(world: &mut World, filter: &str) -> Peer {
    let peer = client(world, "w");
    world.send(peer, subscribe(V5, 1, &[], &[(filter, 0)]));
    world.take(peer);
    peer
}

/// The messages for a subscriber, by the last part of the topic.
fn news(world: &mut World, peer: Peer) -> BTreeMap<String, String> {
    let packets = world.take(peer);
    let all = packets.iter().map(|packet| received(V5, packet));
    all.map(|message| {
        let name = message.topic.rsplit('/').next().expect("a topic has a level").to_owned();
        (name, String::from_utf8(message.payload).expect("text"))
    })
    .collect()
}

#[test]
fn all_names_are_there_from_the_start() {
    let mut world = reported(10);
    let all = read(&mut world);
    let mut expected: Vec<String> = "version uptime clients/total clients/connected clients/active \
        clients/disconnected clients/inactive clients/maximum clients/expired messages/received messages/sent \
        messages/stored store/messages/count store/messages/bytes publish/messages/received \
        publish/messages/sent publish/messages/dropped publish/bytes/received publish/bytes/sent \
        bytes/received bytes/sent subscriptions/count shared_subscriptions/count connections/socket/count \
        heap/current heap/maximum packet/out/count packet/out/bytes limits/refused limits/surplus"
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    expected.push("retained messages/count".into());
    for rate in
        "messages/received messages/sent publish/dropped publish/received publish/sent bytes/received \
        bytes/sent sockets connections"
            .split_whitespace()
    {
        expected.extend(["1min", "5min", "15min"].map(|span| format!("load/{rate}/{span}")));
    }
    expected.sort();
    assert_eq!(all.keys().cloned().collect::<Vec<_>>(), expected);
    assert_eq!(all["version"], concat!("brooklet version ", env!("CARGO_PKG_VERSION")));
    assert_eq!(
        [&all["uptime"], &all["clients/total"], &all["load/sockets/1min"]],
        ["0 seconds", "0", "0.00"]
    );
}

#[test]
fn all_that_is_published_comes_from_the_table_of_figures() {
    for has_store in [false, true] {
        let mut world = World::new();
        if has_store {
            let (session, message) = (SessionNumber(NonZeroU64::MIN), MessageNumber(NonZeroU64::MIN));
            let pace = Pace { holds: false, urgent: Duration::ZERO, lazy: Duration::ZERO };
            world.broker.begin_journal(NextNumbers { session, message }, pace);
            let figures = StorageFigures { bytes: 1, commits: 2, median: 3, ..StorageFigures::default() };
            world.broker.set_storage_figures(figures);
        }
        let sender = client(&mut world, "sender");
        world.send(sender, Publish::new(V5, "x", b"1234").retain().bytes());
        report(&mut world, 10);
        // What is told takes memory itself, but for the first time only.
        world.pass(6_499);
        let of_broker: Vec<Figure> = world.broker.figures().collect();
        world.pass(1);
        let mut reported = read(&mut world);
        assert!(reported.remove("version").is_some());
        for figure in &of_broker {
            if let Some(rate) = figure.rate {
                let spans =
                    ["1min", "5min", "15min"].map(|span| reported.remove(&format!("load/{rate}/{span}")));
                assert!(spans.iter().all(Option::is_some), "{rate}: {spans:?}");
            }
            // Two are shown by their averages alone. Memory for speed alone may come and go at any time.
            let unit = if figure.unit == Unit::Seconds { " seconds" } else { "" };
            match reported.remove(figure.name) {
                None => assert!(["sockets", "connections"].contains(&figure.name), "{figure:?}"),
                Some(_) if figure.name.starts_with("heap/") => assert!(figure.value > 0),
                Some(text) => assert_eq!(text, format!("{}{unit}", figure.value), "{}", figure.name),
            }
        }
        assert!(reported.is_empty(), "{reported:?} does not come from the table");
        assert_eq!(of_broker.iter().any(|figure| figure.name.starts_with("storage/")), has_store);
    }
}

#[test]
fn bytes_that_sockets_do_not_take_are_reported_until_they_do() {
    let mut world = reported(10);
    let reader = client(&mut world, "slow");
    subscribe_to(&mut world, reader, "x", 0);
    world.stall(reader, true);
    let sender = client(&mut world, "sender");
    for _ in 0..3 {
        world.send(sender, Publish::new(V5, "x", b"1234").bytes());
    }
    for (is_stalled, expected) in [(true, ["3", "30"]), (false, ["0", "0"])] {
        world.stall(reader, is_stalled);
        world.pass_seconds(10);
        let all = read(&mut world);
        assert_eq!([&all["packet/out/count"], &all["packet/out/bytes"]], expected);
    }
}

#[test]
fn statistics_are_published_when_the_wall_clock_shows_a_whole_interval() {
    let mut world = reported(10);
    let watcher = watch(&mut world, "$SYS/broker/uptime");
    world.pass(6_499);
    assert!(world.take(watcher).is_empty());
    for uptime in ["6 seconds", "16 seconds"] {
        world.pass(1);
        let message = take_publish(&mut world, watcher);
        assert_eq!((message.retain, &message.payload[..]), (false, uptime.as_bytes()));
        world.pass(9_999);
        assert!(world.take(watcher).is_empty());
    }
}

#[test]
fn only_changed_values_are_published() {
    let mut world = reported(1);
    let watcher = watch(&mut world, "$SYS/broker/clients/+");
    world.pass(10_000);
    world.take(watcher);
    world.pass(10_000);
    assert!(world.take(watcher).is_empty());
    let peer = client(&mut world, "a");
    world.pass(1_000);
    let expected = [("total", "2"), ("connected", "2"), ("active", "2"), ("maximum", "2")];
    let expected: BTreeMap<String, String> =
        expected.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    assert_eq!(news(&mut world, watcher), expected);
    world.send(peer, DISCONNECT);
    world.pass(1_000);
    let names: Vec<String> = news(&mut world, watcher).into_keys().collect();
    assert_eq!(names, ["active", "connected", "total"]);
}

#[test]
fn the_numbers_match_the_events() {
    let mut world = reported(1);
    let away = world.connect(Connect::new(V5, "away").expiry(5).bytes());
    subscribe_to(&mut world, away, "t", 1);
    subscribe_to(&mut world, away, "$share/g/t", 0);
    world.send(away, DISCONNECT);
    let peer = client(&mut world, "a");
    subscribe_to(&mut world, peer, "$share/g/t", 0);
    world.ask(peer, Publish::new(V5, "x", b"12345").qos(1, 1).bytes());
    world.send(peer, Publish::new(V5, "t", b"123").qos(1, 2).bytes());
    world.take(peer);
    world.pass(1_000);
    let all = read(&mut world);
    for (name, text) in [
        ("clients/total", "2"),
        ("clients/connected", "1"),
        ("clients/disconnected", "1"),
        ("publish/messages/received", "2"),
        ("publish/bytes/received", "8"),
        ("publish/messages/sent", "1"),
        ("publish/bytes/sent", "3"),
        ("subscriptions/count", "1"),
        ("shared_subscriptions/count", "2"),
        ("connections/socket/count", "1"),
        ("messages/received", "8"),
        ("messages/sent", "8"),
    ] {
        assert_eq!(all[name], text, "{name}");
    }
    let stored: u64 = all["store/messages/count"].parse().unwrap();
    assert_eq!((stored, &all["messages/stored"]), (all.len() as u64 + 1, &all["store/messages/count"]));
    assert_eq!(all["retained messages/count"], all.len().to_string());
    world.pass(10_000);
    assert_eq!(read(&mut world)["clients/expired"], "1");
}

#[test]
fn rates_are_given_in_hundredths_and_fade() {
    let mut world = reported(10);
    world.pass(6_500);
    client(&mut world, "a");
    world.pass(10_000);
    let shown = read(&mut world)["load/connections/1min"].clone();
    assert_eq!(shown, "0.92", "one in ten seconds is six in a minute, and a tenth of it has passed");
    world.pass(3_600_000);
    assert_eq!(read(&mut world)["load/publish/received/1min"], "0.00");
}

#[test]
fn no_client_publishes_there_and_limits_do_not_count_it() {
    let mut world = World::with_limits(|limits| {
        limits.retained_count = 1;
        limits.retained_bytes = 200;
    });
    report(&mut world, 1);
    let peer = client(&mut world, "a");
    for topic in ["$SYS/broker/version", "$SYS"] {
        let puback = world.ask(peer, Publish::new(V5, topic, b"no").qos(1, 1).retain().bytes());
        assert_eq!(puback[4], 0x87, "{topic}");
    }
    let mut retain = |topic: &str| world.ask(peer, Publish::new(V5, topic, b"x").qos(1, 1).retain().bytes());
    assert_eq!(retain("a")[..2], [0x40, 3], "no matching subscribers");
    assert_eq!(retain("b")[4], 0x97);
    let all = read(&mut world);
    assert_eq!(all["version"], concat!("brooklet version ", env!("CARGO_PKG_VERSION")));
    assert_eq!(all.len(), 58);
}

#[test]
fn bridges_report_there_whether_they_are_connected() {
    let mut world = World::with_limits(|limits| limits.retained_count = 1);
    report(&mut world, 1);
    let watcher = watch(&mut world, "$SYS/broker/connection/+/state");
    let state = "$SYS/broker/connection/hall.gateway/state";
    let bridge = world.connect(Connect::new(V5, "hall.gateway").will(state, b"0", 1, true, &[]).bytes());
    world.take(bridge);
    let puback = world.ask(bridge, Publish::new(V5, state, b"1").qos(1, 1).retain().bytes());
    assert_eq!(puback[..2], [0x40, 2], "it is taken");
    assert_eq!(news(&mut world, watcher)["state"], "1");
    let other = Publish::new(V5, "$SYS/broker/connection/other/state", b"1").qos(1, 2).retain();
    assert_eq!(world.ask(bridge, other.bytes())[4], 0x97, "it counts as whatever clients have retained");
    world.cut(bridge);
    assert_eq!(news(&mut world, watcher)["state"], "0");
}

#[test]
fn reading_it_needs_permission() {
    let mut world = World::with(Limits::default(), Doorman::default());
    report(&mut world, 1);
    let peer = client(&mut world, "a");
    world.send(peer, subscribe(V5, 1, &[], &[("#", 0), ("+/broker/uptime", 0)]));
    world.pass(5_000);
    assert_eq!(world.take(peer).len(), 1, "wildcards do not reach what begins with $");
}

#[test]
fn after_a_peak_everything_is_published_again() {
    let mut world = reported(60);
    let watching = watch(&mut world, "$SYS/broker/+");
    let publisher = client(&mut world, "p");
    for payload in [&[0; 64 * 1024][..], &[]] {
        for number in 0..40 {
            let topic = format!("large/{number}");
            world.send(publisher, Publish::new(V5, &topic, payload).retain().bytes());
        }
        world.pass(1);
    }
    world.pass(9_000);
    assert_eq!(news(&mut world, watching).get("version"), None, "not in the midst of the work that ends it");
    world.pass(2_000);
    assert!(news(&mut world, watching).contains_key("version"));
    assert!(read(&mut world).len() > 30, "nothing is missing");
}

#[test]
fn it_wakes_no_broker_without_an_interval() {
    let mut world = World::new();
    assert_eq!(world.broker.next_deadline(), None);
    report(&mut world, 10);
    report(&mut world, 60);
    assert_eq!(world.broker.census().timers, 1);
    let now = world.now();
    world.broker.publish_sys(None, WALL, now);
    assert_eq!(world.broker.next_deadline(), None);
    assert_eq!(read(&mut world)["uptime"], "0 seconds");
}

#[test]
fn refusals_and_omissions_by_limits_are_counted() {
    let mut world = World::with_limits(|limits| {
        limits.subscriptions_per_session = 3;
        limits.matches_per_session = 2;
        limits.payload_size = 4;
    });
    report(&mut world, 10);
    let a = client(&mut world, "a");
    for (identifier, filter, qos) in [(1, "a/#", 0), (2, "a/+", 0), (3, "a/b", 2)] {
        world.ask(a, subscribe(V5, 1, &[0x0B, identifier], &[(filter, qos)]));
    }
    let suback = world.ask(a, subscribe(V5, 1, &[], &[("a/b/c", 0)]));
    assert_eq!(suback[5..], [0x97], "a fourth one");
    let sender = client(&mut world, "sender");
    let puback = world.ask(sender, Publish::new(V5, "a/b", b"12345").qos(1, 7).bytes());
    assert_eq!(puback[2..5], [0, 7, 0x97], "a payload that is too large");
    world.send(sender, Publish::new(V5, "a/b", b"1234").qos(2, 8).bytes());
    let packets = world.take(a);
    let [copy] = &packets[..] else { panic!("one copy for all three: {packets:02x?}") };
    let copy = received(V5, copy);
    assert_eq!(copy.qos, 2, "the highest of all three");
    assert_eq!(copy.properties.iter().filter(|&&byte| byte == 0x0B).count(), 2, "as many as may match");
    world.pass_seconds(10);
    let all = read(&mut world);
    assert_eq!([&all["limits/refused"], &all["limits/surplus"]], ["2", "1"]);
}
