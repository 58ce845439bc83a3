//! The differences of MQTT 3.1, and redelivery, which differs between the three versions.

use brooklet::base::time::Duration;
use brooklet::core::access::{Client, Question, Verdict};
use brooklet::core::limits::Limits;
use brooklet::protocol::codec::ReasonCode;

use crate::v311::{Rule, assert_closed_silently, assert_quiet, publish, retain};
use crate::wire::*;
use crate::world::{Peer, World};

const LEVELS: [u8; 3] = [V31, V311, V5];

/// A CONNECT with a persistent session.
fn persistent_connect(level: u8, client_identifier: &str) -> Vec<u8> {
    let connect = Connect::new(level, client_identifier).resume();
    if level == V5 { connect.expiry(u32::MAX).bytes() } else { connect.bytes() }
}

/// A client with a persistent session and a subscription of `t` at QoS 2.
fn receiver(world: &mut World, level: u8) -> Peer {
    let peer = world.connect(persistent_connect(level, "receiver"));
    let suback = world.ask(peer, subscribe(level, 1, &[], &[("t", 2)]));
    assert_eq!(suback.last(), Some(&2));
    peer
}

/// The client with the persistent session connects again; returns what comes after its CONNACK.
fn again(world: &mut World, level: u8) -> (Peer, Vec<Vec<u8>>) {
    let peer = world.open();
    world.send(peer, persistent_connect(level, "receiver"));
    let mut packets = world.take(peer);
    let connack = packets.remove(0);
    let is_told = u8::from(level != V31);
    assert_eq!((connack[0], connack[2], connack[3]), (0x20, is_told, 0), "{connack:02x?}");
    (peer, packets)
}

/// A PUBLISH to `t` as the broker sends it for the first time.
fn first(level: u8, payload: &str, qos: u8, identifier: u16) -> Vec<u8> {
    Publish::new(level, "t", payload.as_bytes()).qos(qos, identifier).bytes()
}

/// The same PUBLISH when it is sent again.
fn repeated(level: u8, payload: &str, qos: u8, identifier: u16) -> Vec<u8> {
    Publish::new(level, "t", payload.as_bytes()).qos(qos, identifier).dup().bytes()
}

/// A CONNECT of 3.1 with these flags and fields; returns the answer and whether the connection was closed.
fn connect_of(flags: u8, fields: &[&[u8]]) -> (Vec<u8>, bool) {
    let mut world = World::new();
    let peer = world.open();
    let header = [b"\x00\x06MQIsdp\x03", &[flags, 0, 0][..]].concat();
    world.send(peer, packet(0x10, &[header, fields.concat()].concat()));
    (world.take(peer).concat(), world.is_closed(peer))
}

const ACCEPTED: ([u8; 4], bool) = ([0x20, 2, 0, 0], false);

/// Asserts the answer to a CONNECT of 3.1.
#[track_caller]
fn assert_answer(flags: u8, fields: &[&[u8]], expected: &(impl AsRef<[u8]>, bool)) {
    let (connack, is_closed) = connect_of(flags, fields);
    assert_eq!((&connack[..], is_closed), (expected.0.as_ref(), expected.1), "{flags:08b} {fields:02x?}");
}

#[test]
fn mqtt31_client_identifiers_have_1_to_23_characters() {
    let rejected = ([0x20, 2, 0, 2], true);
    for flags in [0x00, 0x02] {
        assert_answer(flags, &[&field("")], &rejected);
        for length in 1..=23 {
            assert_answer(flags, &[&field("x".repeat(length))], &ACCEPTED);
        }
        // Characters, not bytes.
        assert_answer(flags, &[&field("é".repeat(23))], &ACCEPTED);
        for (character, length) in [("x", 24), ("é", 24), ("x", 1000)] {
            assert_answer(flags, &[&field(character.repeat(length))], &rejected);
        }
        assert_answer(flags, &[], &([], true));
        assert_answer(flags, &[&field(b"\xFF")], &([], true));
    }
}

#[test]
fn mqtt31_name_and_level_belong_together() {
    for (name, level) in
        [("MQIsdp", 4), ("MQIsdp", 5), ("MQIsdp", 2), ("MQTT", 3), ("mqisdp", 3), ("MQIsdp", 0x84)]
    {
        let mut world = World::new();
        let peer = world.open();
        world.send(peer, Connect { name, level, ..Connect::new(V311, "a") }.bytes());
        assert_eq!(
            (world.take_one(peer), world.is_closed(peer)),
            (vec![0x20, 2, 0, 1], true),
            "{name} {level}"
        );
    }
}

/// The first byte of its CONNACK is not used: a session is not reported.
#[test]
fn mqtt31_connack_has_no_session_present() {
    let mut world = World::new();
    for _ in 0..3 {
        let peer = world.open();
        world.send(peer, persistent_connect(V31, "peer"));
        assert_eq!(world.take_one(peer), [0x20, 2, 0, 0]);
        world.cut(peer);
    }
    // It exists, though, as other versions show.
    let peer = world.open();
    world.send(peer, persistent_connect(V311, "peer"));
    assert_eq!(world.take_one(peer), [0x20, 2, 1, 0]);
}

/// 3.1 does not forbid flags that it does not use.
#[test]
fn mqtt31_unused_connect_flags_are_ignored() {
    for flags in [0x03, 0x0A, 0x12, 0x1A, 0x22, 0x3B] {
        assert_answer(flags, &[&field("c")], &ACCEPTED);
    }
    let mut world = World::new();
    for first_byte in 0x10..=0x1F {
        let connect = Connect::new(V31, "peer").bytes();
        let peer = world.connect([&[first_byte], &connect[1..]].concat());
        world.send(peer, DISCONNECT);
    }
}

/// User Name and Password may be announced and left out at the end of the packet.
#[test]
fn mqtt31_credentials_may_be_left_out() {
    let (id, user, password): (&[u8], &[u8], &[u8]) = (&field("c"), &field("u"), &field("p"));
    for fields in [&[id][..], &[id, user], &[id, user, password]] {
        assert_answer(0xC2, fields, &ACCEPTED);
    }
    assert_answer(0x82, &[id], &ACCEPTED);
    for (flags, fields) in [
        (0x42, &[id, password][..]),
        (0x82, &[id, user, password]),
        (0x02, &[id, user]),
        (0xC2, &[id, &[0]]),
        (0xC2, &[id, user, &[0, 2, b'p']]),
        (0x06, &[id]),
        (0x06, &[id, &field("w")]),
        (0x1E, &[id, &field("w"), &field("m")]),
    ] {
        assert_answer(flags, fields, &([], true));
    }
}

#[test]
fn mqtt31_refusals_have_the_return_codes_of_3_1_1() {
    for (reason, code) in [
        (ReasonCode::ClientIdentifierNotValid, 2),
        (ReasonCode::ServerUnavailable, 3),
        (ReasonCode::BadUserNameOrPassword, 4),
        (ReasonCode::NotAuthorized, 5),
    ] {
        let rule = move |_: &Client<'_>, _: Question<'_>| Verdict::Refused(reason);
        let mut world = World::with(Limits::default(), Rule(rule));
        let peer = world.open();
        world.send(peer, Connect::new(V31, "a").bytes());
        assert_eq!((world.take_one(peer), world.is_closed(peer)), (vec![0x20, 2, 0, code], true));
    }
}

/// An unanswered request is sent again with DUP, and answered then.
#[test]
fn mqtt31_dup_is_allowed_on_subscribe_unsubscribe_and_pubrel() {
    let mut world = World::new();
    let peer = world.connect(Connect::new(V31, "peer").bytes());
    let with_dup = |bytes: Vec<u8>| [&[bytes[0] | 0x08], &bytes[1..]].concat();
    for change in [|bytes: Vec<u8>| bytes, with_dup] {
        let request = change(subscribe(V31, 7, &[], &[("a", 2), ("b", 1)]));
        assert_eq!(world.ask(peer, request), [0x90, 4, 0, 7, 2, 1]);
        assert_eq!(world.broker.census().subscriptions, 2);
    }
    world.ask(peer, Publish::new(V31, "c", b"x").qos(2, 8).bytes());
    for change in [|bytes: Vec<u8>| bytes, with_dup] {
        assert_eq!(world.ask(peer, change(acknowledge(0x62, 8))), acknowledge(0x70, 8));
    }
    for change in [|bytes: Vec<u8>| bytes, with_dup] {
        assert_eq!(world.ask(peer, change(unsubscribe(V31, 7, &["a"]))), acknowledge(0xB0, 7));
        assert_eq!(world.broker.census().subscriptions, 1);
    }
}

#[test]
fn mqtt31_dup_at_qos_0_means_nothing() {
    let mut world = World::new();
    let peer = world.connect(Connect::new(V31, "peer").bytes());
    world.ask(peer, subscribe(V31, 1, &[], &[("t", 2)]));
    world.send(peer, Publish::new(V31, "t", b"x").dup().bytes());
    assert_eq!(world.take_one(peer), Publish::new(V31, "t", b"x").bytes());
}

/// Otherwise it is as strict as its successor.
#[test]
fn mqtt31_violations_close_without_a_word() {
    let mut world = World::new();
    let violations: [(&str, Vec<u8>); 11] = [
        ("QoS 3", packet(0x36, b"\0\x01a\0\x01")),
        ("wildcard", Publish::new(V31, "a/#", b"x").bytes()),
        ("no topic", Publish::new(V31, "", b"x").bytes()),
        ("identifier 0", Publish::new(V31, "a", b"x").qos(1, 0).bytes()),
        ("subscription of QoS 3", subscribe(V31, 1, &[], &[("a", 3)])),
        ("no subscription", vec![0x82, 2, 0, 1]),
        ("bad filter", subscribe(V31, 1, &[], &[("a#", 0)])),
        ("not UTF-8", packet(0x30, b"\0\x01\xFF")),
        ("second CONNECT", Connect::new(V31, "peer").bytes()),
        ("packet of a server", vec![0xD0, 0]),
        ("AUTH", vec![0xF0, 0]),
    ];
    for (what, bytes) in violations {
        let peer = world.connect(Connect::new(V31, "peer").bytes());
        world.send(peer, bytes);
        assert_closed_silently(&mut world, peer, what);
    }
}

/// All packets of a client of 3.1, each with its answer.
#[test]
fn mqtt31_exchanges() {
    let mut world = World::new();
    retain(&mut world, "t/r", b"kept", 1);
    let watcher = world.connect(Connect::new(V31, "watcher").bytes());
    world.ask(watcher, subscribe(V31, 1, &[], &[("will", 1)]));
    let connect = Connect::new(V31, "peer").keep_alive(10).user_name("u").password(b"p");
    let peer = world.connect(connect.will("will", b"gone", 1, false, &[]).bytes());
    world.send(peer, subscribe(V31, 1, &[], &[("t/+", 2), ("u", 0)]));
    let retained_message = Publish::new(V31, "t/r", b"kept").qos(1, 1).retain().bytes();
    assert_eq!(world.take(peer), [vec![0x90, 4, 0, 1, 2, 0], retained_message]);
    world.send(peer, acknowledge(0x40, 1));
    world.send(peer, Publish::new(V31, "t/x", b"x").qos(2, 5).bytes());
    assert_eq!(world.take(peer), [acknowledge(0x50, 5), Publish::new(V31, "t/x", b"x").qos(2, 2).bytes()]);
    assert_eq!(world.ask(peer, acknowledge(0x62, 5)), acknowledge(0x70, 5));
    assert_eq!(world.ask(peer, acknowledge(0x50, 2)), acknowledge(0x62, 2));
    world.send(peer, acknowledge(0x70, 2));
    assert_eq!(world.ask(peer, Publish::new(V31, "v", b"x").qos(1, 6).bytes()), acknowledge(0x40, 6));
    assert_eq!(world.ask(peer, unsubscribe(V31, 2, &["t/+"])), acknowledge(0xB0, 2));
    assert_eq!(world.ask(peer, PINGREQ), PINGRESP);
    world.pass_seconds(15);
    assert_closed_silently(&mut world, peer, "one and a half times its Keep Alive");
    assert_eq!(world.take_one(watcher), Publish::new(V31, "will", b"gone").qos(1, 1).bytes());
}

#[test]
fn mqtt31_a_session_is_resumed_or_dropped() {
    for is_clean in [false, true] {
        let mut world = World::new();
        let peer = receiver(&mut world, V31);
        world.send(peer, DISCONNECT);
        publish(&mut world, "t", b"stored", 1);
        if is_clean {
            let clean = world.connect(Connect::new(V31, "receiver").bytes());
            assert_quiet(&mut world, clean, "a clean session");
            world.send(clean, DISCONNECT);
        }
        let peer = world.open();
        world.send(peer, persistent_connect(V31, "receiver"));
        let stored = if is_clean { vec![] } else { vec![first(V31, "stored", 1, 1)] };
        assert_eq!(world.take(peer)[1..], stored);
        publish(&mut world, "t", b"later", 0);
        assert_eq!(world.take(peer).len(), usize::from(!is_clean));
    }
}

/// Everything unacknowledged comes again in order: PUBLISH with DUP, PUBREL where a PUBREC has come; then the messages
/// queued in the meantime.
#[test]
fn mqtt31_redelivery_on_reconnect() {
    for level in LEVELS {
        let mut world = World::new();
        let mut peer = receiver(&mut world, level);
        for (payload, qos) in [("1", 2), ("2", 1), ("3", 2), ("4", 1), ("5", 2), ("6", 2)] {
            publish(&mut world, "t", payload.as_bytes(), qos);
        }
        assert_eq!(world.take(peer).len(), 6);
        for identifier in [3, 5] {
            assert_eq!(world.ask(peer, acknowledge(0x50, identifier)), acknowledge(0x62, identifier));
        }
        world.send(peer, acknowledge(0x70, 5));
        world.send(peer, acknowledge(0x40, 2));
        world.cut(peer);
        publish(&mut world, "t", b"7", 1);
        let mut expected = vec![
            repeated(level, "1", 2, 1),
            acknowledge(0x62, 3),
            repeated(level, "4", 1, 4),
            repeated(level, "6", 2, 6),
            first(level, "7", 1, 7),
        ];
        for _ in 0..3 {
            let packets;
            (peer, packets) = again(&mut world, level);
            assert_eq!(packets, expected, "level {level}");
            expected[4] = repeated(level, "7", 1, 7);
        }
        for identifier in [1, 6] {
            assert_eq!(world.ask(peer, acknowledge(0x50, identifier)), acknowledge(0x62, identifier));
        }
        world.send(peer, [1, 3, 6].map(|identifier| acknowledge(0x70, identifier)).concat());
        world.send(peer, [4, 7].map(|identifier| acknowledge(0x40, identifier)).concat());
        let (_, packets) = again(&mut world, level);
        assert!(packets.is_empty(), "level {level}: {packets:02x?}");
    }
}

/// A session continues in whatever version its client uses next.
#[test]
fn mqtt31_redelivery_across_versions() {
    for older in LEVELS {
        for newer in LEVELS {
            let mut world = World::new();
            let peer = receiver(&mut world, older);
            for (payload, qos) in [("1", 1), ("2", 2), ("3", 2)] {
                publish(&mut world, "t", payload.as_bytes(), qos);
            }
            assert_eq!(world.take(peer).len(), 3);
            assert_eq!(world.ask(peer, acknowledge(0x50, 2)), acknowledge(0x62, 2));
            world.cut(peer);
            let (peer, packets) = again(&mut world, newer);
            let expected = [repeated(newer, "1", 1, 1), acknowledge(0x62, 2), repeated(newer, "3", 2, 3)];
            assert_eq!(packets, expected, "{older} {newer}");
            world.pass_seconds(20);
            let retried = world.take(peer);
            // Only the oldest.
            assert_eq!(retried, if newer == V5 { &[] } else { &expected[..1] }, "{older} {newer}");
        }
    }
}

/// After 20 seconds, then 40, 80 and so on, until it is acknowledged.
#[test]
fn mqtt31_redelivery_on_a_live_connection() {
    for level in [V31, V311] {
        for qos in [1, 2] {
            let mut world = World::new();
            let peer = receiver(&mut world, level);
            publish(&mut world, "t", b"x", qos);
            assert_eq!(world.take_one(peer), first(level, "x", qos, 1));
            for pause in [20, 40, 80, 160, 320, 640] {
                world.pass(pause * 1000 - 1);
                assert_quiet(&mut world, peer, "not yet");
                world.pass(1);
                assert_eq!(world.take_one(peer), repeated(level, "x", qos, 1), "{pause}");
            }
            if qos == 2 {
                assert_eq!(world.ask(peer, acknowledge(0x50, 1)), acknowledge(0x62, 1));
                // The PUBREL has pauses of its own.
                for pause in [20, 40, 80, 160] {
                    world.pass(pause * 1000 - 1);
                    assert_quiet(&mut world, peer, "not yet");
                    world.pass(1);
                    assert_eq!(world.take_one(peer), acknowledge(0x62, 1), "{pause}");
                }
            }
            world.send(peer, acknowledge(if qos == 1 { 0x40 } else { 0x70 }, 1));
            world.pass_seconds(1_000_000);
            assert_quiet(&mut world, peer, "acknowledged");
            assert_eq!(world.broker.census().timers, 0);
        }
    }
}

/// Only the oldest comes again, and any answer delays that.
#[test]
fn mqtt31_redelivery_of_the_oldest_after_the_latest_answer() {
    for level in [V31, V311] {
        let mut world = World::new();
        let peer = receiver(&mut world, level);
        for payload in ["1", "2", "3"] {
            publish(&mut world, "t", payload.as_bytes(), 1);
            world.pass_seconds(5);
        }
        publish(&mut world, "t", b"0", 0);
        assert_eq!(world.take(peer).len(), 4);
        world.send(peer, acknowledge(0x40, 2));
        let mut came = Vec::new();
        for second in 16..=200 {
            world.pass_seconds(1);
            came.extend(world.take(peer).into_iter().map(|packet| (second, packet)));
            if second == 80 {
                world.send(peer, acknowledge(0x40, 1));
            }
        }
        let expected = [(35, "1", 1), (75, "1", 1), (100, "3", 3), (140, "3", 3)];
        let expected = expected.map(|(second, payload, id)| (second, repeated(level, payload, 1, id)));
        assert_eq!(came, expected);
    }
}

/// An answer that settles nothing does not: none is missing, and the oldest message may be lost.
#[test]
fn mqtt31_redelivery_is_not_put_off_by_answers_that_settle_nothing() {
    for level in [V31, V311] {
        let vain: [&[_]; 5] = [
            &[acknowledge(0x40, 99)],
            &[acknowledge(0x40, 99), acknowledge(0x40, 98)],
            &[acknowledge(0x50, 2)],
            &[acknowledge(0x50, 99)],
            &[acknowledge(0x70, 99), acknowledge(0x70, 98)],
        ];
        for packets in vain {
            let mut world = World::new();
            let peer = receiver(&mut world, level);
            for payload in [b"1", b"2"] {
                publish(&mut world, "t", payload, 2);
            }
            assert_eq!(world.take(peer).len(), 2);
            assert_eq!(world.ask(peer, acknowledge(0x50, 2)), acknowledge(0x62, 2));
            let mut came = Vec::new();
            for second in 1..=20 {
                world.pass_seconds(1);
                let publishes = world.take(peer).into_iter().filter(|packet| packet[0] >> 4 == 3);
                came.extend(publishes.map(|packet| (second, packet)));
                world.send(peer, packets.concat());
            }
            assert_eq!(came, [(20, repeated(level, "1", 2, 1))], "{packets:?}");
        }
    }
}

/// However long a backlog is, a client that answers gets nothing twice.
#[test]
fn mqtt31_redelivery_spares_clients_that_are_slow() {
    for level in [V31, V311] {
        for qos in [1, 2] {
            let mut world = World::new();
            let peer = receiver(&mut world, level);
            for _ in 0..200 {
                publish(&mut world, "t", b"x", qos);
            }
            let identifiers = 1..=200;
            assert_eq!(world.take(peer).len(), 200);
            for identifier in identifiers {
                world.pass(19_999);
                assert_quiet(&mut world, peer, "it is slow");
                if qos == 1 {
                    world.send(peer, acknowledge(0x40, identifier));
                    continue;
                }
                assert_eq!(world.ask(peer, acknowledge(0x50, identifier)), acknowledge(0x62, identifier));
                world.pass(19_999);
                world.send(peer, acknowledge(0x70, identifier));
            }
            assert_eq!(world.broker.statistics().redelivered, 0, "{level} {qos}");
            // The time of the next message counts from when it was sent.
            world.pass(19_000);
            publish(&mut world, "t", b"y", 1);
            world.take(peer);
            world.pass(19_999);
            assert_quiet(&mut world, peer, "not yet");
            world.pass(1);
            assert_eq!(world.take_one(peer), repeated(level, "y", 1, 201));
        }
    }
}

/// A new connection starts again with the first pause.
#[test]
fn mqtt31_redelivery_pauses_begin_anew() {
    for level in [V31, V311] {
        let mut world = World::new();
        let peer = receiver(&mut world, level);
        publish(&mut world, "t", b"x", 1);
        world.pass_seconds(300);
        assert_eq!(world.take(peer).len(), 5);
        let (peer, packets) = again(&mut world, level);
        assert_eq!(packets, [repeated(level, "x", 1, 1)]);
        world.pass(19_999);
        assert_quiet(&mut world, peer, "not yet");
        world.pass(1);
        assert_eq!(world.take_one(peer), repeated(level, "x", 1, 1));
    }
}

/// While the client is disconnected, no redelivery is due, and nothing is sent to it.
#[test]
fn mqtt31_redelivery_needs_a_connection() {
    let mut world = World::new();
    let peer = receiver(&mut world, V31);
    publish(&mut world, "t", b"x", 1);
    world.cut(peer);
    assert_eq!(world.broker.census().timers, 0);
    world.pass_seconds(1000);
    assert_eq!(world.broker.statistics().redelivered, 0);
}

/// A message that has not left for a slow client is not sent to it again.
#[test]
fn mqtt31_redelivery_does_not_flood_a_stalled_client() {
    for level in [V31, V311] {
        let mut world = World::new();
        let peer = receiver(&mut world, level);
        world.stall(peer, true);
        publish(&mut world, "t", b"x", 1);
        world.pass_seconds(1000);
        world.stall(peer, false);
        assert_eq!(world.take(peer), [first(level, "x", 1, 1)]);
        world.pass_seconds(20);
        assert_eq!(world.take_one(peer), repeated(level, "x", 1, 1));
    }
}

#[test]
fn mqtt31_redelivery_can_be_turned_off() {
    let mut world = World::with_limits(|limits| limits.retry_interval = Duration::ZERO);
    let peer = receiver(&mut world, V31);
    publish(&mut world, "t", b"x", 1);
    assert_eq!(world.take(peer).len(), 1);
    world.pass_seconds(1_000_000);
    assert_quiet(&mut world, peer, "turned off");
    let (_, packets) = again(&mut world, V31);
    assert_eq!(packets, [repeated(V31, "x", 1, 1)], "but not on reconnect");
}

/// MQTT 5.0 forbids it on a live connection, at any stage.
#[test]
fn mqtt5_4_4_0_1_never_on_a_live_connection() {
    let mut world = World::new();
    let peer = receiver(&mut world, V5);
    for qos in [1, 2, 2] {
        publish(&mut world, "t", b"x", qos);
    }
    assert_eq!(world.take(peer).len(), 3);
    assert_eq!(world.ask(peer, acknowledge(0x50, 3)), acknowledge(0x62, 3));
    world.pass_seconds(1_000_000);
    assert_quiet(&mut world, peer, "5.0 waits");
    let (peer, packets) = again(&mut world, V5);
    assert_eq!(packets, [repeated(V5, "x", 1, 1), repeated(V5, "x", 2, 2), acknowledge(0x62, 3)]);
    world.pass_seconds(1_000_000);
    assert_quiet(&mut world, peer, "5.0 waits");
}
