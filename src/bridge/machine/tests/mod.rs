//! Packet exchanges with both brokers.

mod life;
mod limits;
mod loops;
pub mod rig;

use rig::{Rig, both, settings};

use super::*;
use crate::protocol::codec::{ProtocolVersion, QoS};
use crate::settings::Direction;

const V311: ProtocolVersion = ProtocolVersion::V311;
const V5: ProtocolVersion = ProtocolVersion::V5;

#[test]
fn a_bridge_prepares_its_session_and_connects() {
    let mut rig = Rig::new(settings(V311));
    assert_eq!(rig.actions(), [Action::OpenLocal]);
    assert_eq!(
        rig.sent_here(),
        [
            "CONNECT V5 local.hall.gateway expiry=4294967295 receive_maximum=1",
            "PUBLISH q0 retain state 0",
            "SUBSCRIBE 65535 here/out/# q1 no_local as_published handling=2, here/both/# q2 no_local as_published handling=2",
        ]
    );
    assert_eq!(rig.machine.status().condition, Condition::Preparing);
    rig.local("CONNACK");
    assert_eq!(rig.sent_here(), [""; 0]);
    rig.local("SUBACK 65535 1 2");
    assert_eq!(rig.sent_here(), ["DISCONNECT 0"]);
    assert_eq!(rig.actions(), [Action::CloseLocal, Action::Dial(0)]);
    rig.machine.connected(rig.now);
    assert_eq!(
        rig.sent_there(),
        ["CONNECT V311 private hall.gateway keep_alive=60 will=q1 retain state 0 user=bob password=secret"]
    );
    rig.remote("CONNACK");
    assert_eq!(rig.actions(), [Action::ForgetReceived, Action::OpenLocal]);
    assert_eq!(rig.sent_there(), [""; 0], "what belonged to another session may not be forgotten durably");
    rig.local("CONNACK present");
    assert_eq!(
        rig.sent_there(),
        [
            "PUBLISH q1 65535 retain state 1",
            "SUBSCRIBE 65534 there/in/# q1",
            "SUBSCRIBE 65533 there/both/# q2",
            "UNSUBSCRIBE 65532 there/out/#",
        ]
    );
    assert_eq!(rig.sent_here(), ["CONNECT V5 local.hall.gateway expiry=4294967295 receive_maximum=20"]);
    rig.remote("PUBACK 65535");
    rig.remote("SUBACK 65534 1");
    rig.remote("UNSUBACK 65532");
    assert_eq!(rig.sent_here(), [""; 0]);
    assert_eq!(rig.machine.status().condition, Condition::Connecting);
    rig.remote("SUBACK 65533 2");
    assert_eq!(rig.machine.status().condition, Condition::Connected);
    assert_eq!(
        rig.sent_here(),
        [
            "SUBSCRIBE 65535 here/out/# q1 no_local as_published handling=2, here/both/# q2 no_local as_published handling=2",
            "PUBLISH q0 retain state 1",
        ],
        "whatever a client publishes once it has seen the state is forwarded"
    );
    assert_eq!(rig.actions(), []);
    rig.local("SUBACK 65535 1 2");
    assert_eq!(rig.actions(), [Action::CatchUp]);
    assert!(rig.lines().last().unwrap().contains("Connected to other:1883 with MQTT 3.1.1 as a bridge"));
}

#[test]
fn its_requests_have_the_identifiers_that_it_is_told() {
    let mut rig = Rig::new(settings(V311));
    rig.prepare();
    let identifiers = [500, 7, 60_000].into_iter().filter_map(PacketIdentifier::new);
    rig.machine.set_identifiers(identifiers.collect());
    rig.machine.connected(rig.now);
    rig.sent_there();
    rig.remote("CONNACK");
    rig.local("CONNACK present");
    assert_eq!(
        rig.sent_there(),
        ["PUBLISH q1 500 retain state 1", "SUBSCRIBE 7 there/in/# q1", "SUBSCRIBE 60000 there/both/# q2"]
    );
    rig.remote("SUBACK 7 1");
    assert_eq!(rig.sent_there(), [""; 0], "its place is after that of the first");
    rig.remote("PUBACK 500");
    assert_eq!(rig.sent_there(), ["UNSUBSCRIBE 500 there/out/#"]);
}

#[test]
fn messages_pass_both_ways_at_every_qos_with_their_identifiers() {
    for version in [V311, V5] {
        let mut rig = Rig::running(settings(version));
        for (message, renamed) in [
            ("PUBLISH q0 here/out/a x", "PUBLISH q0 there/out/a x"),
            ("PUBLISH q1 7 dup retain here/out/a x", "PUBLISH q1 7 dup retain there/out/a x"),
            ("PUBLISH q2 8 here/both x", "PUBLISH q2 8 there/both x"),
        ] {
            rig.local(message);
            assert_eq!((rig.sent_there(), rig.sent_here()), (vec![renamed.to_owned()], vec![]), "{message}");
        }
        rig.remote("PUBREC 8");
        rig.remote("PUBACK 7");
        assert_eq!(rig.sent_here(), ["PUBREC 8", "PUBACK 7"]);
        rig.local("PUBREL 8");
        assert_eq!(rig.sent_there(), ["PUBREL 8"]);
        rig.remote("PUBCOMP 8");
        assert_eq!(rig.sent_here(), ["PUBCOMP 8"]);
        for (message, renamed) in [
            ("PUBLISH q0 there/in/a x", "PUBLISH q0 here/in/a x"),
            ("PUBLISH q1 7 dup retain there/both/a x", "PUBLISH q1 7 dup retain here/both/a x"),
            ("PUBLISH q2 8 there/in x", "PUBLISH q2 8 here/in x"),
        ] {
            rig.remote(message);
            assert_eq!((rig.sent_here(), rig.sent_there()), (vec![renamed.to_owned()], vec![]), "{message}");
        }
        rig.local("PUBACK 7");
        rig.local("PUBREC 8");
        assert_eq!(rig.sent_there(), ["PUBACK 7", "PUBREC 8"]);
        rig.remote("PUBREL 8");
        rig.local("PUBCOMP 8");
        assert_eq!((rig.sent_here(), rig.sent_there()), (vec!["PUBREL 8".into()], vec!["PUBCOMP 8".into()]));
        let status = rig.machine.status();
        assert_eq!((status.forwarded, status.received, status.dropped), (3, 3, 0));
    }
}

/// A message like the last one takes a short way.
#[test]
fn messages_in_a_series_are_forwarded_like_the_first_one() {
    for version in [V311, V5] {
        let mut rig = Rig::running(settings(version));
        let forward = |rig: &mut Rig, message: &str| {
            rig.local(message);
            let bytes = rig.machine.remote_output().to_vec();
            rig.machine.remote_sent(bytes.len(), rig.now);
            assert!(!bytes.is_empty(), "{message}");
            bytes
        };
        for topic in ["here/out/a", "here/both/b/c", "here/both"] {
            for start in ["q0", "q1 7", "q2 8"] {
                let message = format!("PUBLISH {start} {topic} {}", "x".repeat(200));
                rig.machine.last_topic.forget();
                let first = forward(&mut rig, &message);
                assert_eq!(forward(&mut rig, &message), first, "{version:?} {message}");
                let marked = message.replacen("PUBLISH q1 7", "PUBLISH q1 7 dup retain", 1);
                let other = forward(&mut rig, &marked);
                assert_eq!(other == first, marked == message, "DUP and RETAIN are not left out");
                assert_eq!(forward(&mut rig, &message), first, "{version:?} {message}");
            }
        }
        assert_eq!(rig.machine.status().forwarded, 36);
    }
    let mut rig = Rig::running(settings(V5));
    rig.machine.remote.limits.packet_size = 100;
    rig.machine.remote.qos = QoS::AtLeastOnce;
    for _ in 0..2 {
        rig.local("PUBLISH q1 7 here/out/a x");
        rig.local("PUBLISH q2 8 here/out/a x");
        rig.local(&format!("PUBLISH q1 9 here/out/a {}", "x".repeat(100)));
        assert_eq!(rig.sent_there(), ["PUBLISH q1 7 there/out/a x", "PUBLISH q1 8 there/out/a x"]);
        assert_eq!(rig.sent_here(), ["PUBACK 9"], "it is too large");
    }
}

/// They are passed on together, and the other broker owes nothing afterwards.
#[test]
fn series_of_acknowledgements_pass_like_single_ones() {
    for version in [V311, V5] {
        let mut rig = Rig::running(settings(version));
        for number in 1..=200 {
            rig.local(&format!("PUBLISH q1 {number} here/out/a x"));
        }
        rig.sent_there();
        let answers: Vec<String> = (1..=200).map(|number| format!("PUBACK {number}")).collect();
        let mut bytes: Vec<u8> = answers.iter().flat_map(|answer| rig::encode(answer, version)).collect();
        // The last one is cut.
        let last = bytes.pop().unwrap();
        rig.machine.remote_received(&bytes, rig.now);
        assert!(!rig.machine.remote.pulse.is_calm());
        rig.machine.remote_received(&[last], rig.now);
        assert!(rig.machine.remote.pulse.is_calm());
        assert_eq!(rig.sent_here(), answers);
        rig.machine.remote_received(&[0x40, 2, 0, 1, 0x40, 2, 0, 0], rig.now);
        assert_eq!(rig.sent_here()[0], "PUBACK 1");
        assert_eq!(rig.actions()[0], Action::HangUp, "zero is no identifier");
    }
}

#[test]
fn a_lost_connection_is_reported_and_comes_back() {
    let mut rig = Rig::running(settings(V311));
    rig.local("PUBLISH q1 7 here/out/a x");
    rig.machine.remote_closed("connection reset", rig.now);
    assert_eq!(rig.sent_here(), ["PUBLISH q0 retain state 0", "DISCONNECT 0"]);
    assert_eq!((rig.sent_there(), rig.actions()), (vec![], vec![Action::CloseLocal]));
    let lines = rig.lines();
    assert_eq!(lines.len(), 1);
    assert!(
        lines[0].contains("The connection to other:1883 has ended: connection reset. The next attempt is in")
    );
    assert_eq!(rig.machine.status().condition, Condition::Waiting);
    assert_eq!(rig.machine.status().last_error, Some("connection reset"));
    rig.pass_to_deadline();
    assert_eq!(rig.actions(), [Action::Dial(0)], "the session has its subscriptions");
    rig.machine.connected(rig.now);
    rig.sent_there();
    rig.remote("CONNACK present");
    assert_eq!(rig.actions(), [Action::OpenLocal], "the identifiers of the session are still valid");
    rig.set_up();
    assert!(
        rig.sent_here().iter().any(|sent| sent.contains("handling=2")),
        "retained messages are known there"
    );
    rig.local("PUBLISH q1 7 dup here/out/a x");
    assert_eq!(rig.sent_there(), ["PUBLISH q1 7 dup there/out/a x"]);
}

#[test]
fn messages_of_this_broker_wait_until_the_other_one_is_set_up() {
    let mut rig = Rig::new(settings(V311));
    rig.prepare();
    rig.machine.connected(rig.now);
    rig.remote("CONNACK present");
    rig.sent_there();
    rig.sent_here();
    assert!(!rig.machine.takes_remote(), "there is no session yet that could take messages");
    rig.remote("PUBLISH q1 9 there/in/early x");
    assert_eq!(rig.sent_here(), [""; 0]);
    let early =
        [rig::encode("CONNACK present", V5), rig::encode("PUBLISH q1 65535 dup here/out/a x", V5)].concat();
    rig.local_bytes(&early);
    assert!(!rig.machine.takes_local() && rig.machine.takes_remote());
    assert_eq!(rig.sent_here(), ["PUBLISH q1 9 here/in/early x"], "the other way is open");
    assert_eq!(rig.sent_there(), [""; 0]);
    for answer in ["PUBACK 65535", "SUBACK 65534 1", "SUBACK 65533 1", "UNSUBACK 65532"] {
        rig.remote(answer);
    }
    assert_eq!(rig.sent_there(), ["PUBLISH q1 65535 dup there/out/a x"]);
}

#[test]
fn a_session_that_is_lost_here_ends_the_connection_there() {
    let mut rig = Rig::running(settings(V5));
    rig.machine.local_closed("taken over", rig.now);
    assert_eq!(rig.sent_there(), ["PUBLISH q0 retain state 0", "DISCONNECT 0"]);
    assert_eq!(rig.actions(), [Action::HangUp]);
    rig.pass_to_deadline();
    assert_eq!(rig.actions(), [Action::OpenLocal], "it is prepared again");
}

#[test]
fn a_bridge_that_is_shut_down_says_so_on_both_sides() {
    let mut rig = Rig::running(settings(V311));
    rig.machine.shut_down(rig.now);
    assert!(!rig.machine.is_over());
    assert_eq!(rig.sent_there(), ["PUBLISH q0 retain state 0", "DISCONNECT 0"]);
    assert_eq!(rig.sent_here(), ["PUBLISH q0 retain state 0", "DISCONNECT 0"]);
    assert_eq!(rig.actions(), [Action::HangUp, Action::CloseLocal]);
    assert!(rig.machine.is_over() && rig.machine.next_deadline().is_none());

    let mut rig = Rig::new(settings(V311));
    rig.prepare();
    rig.machine.shut_down(rig.now);
    assert_eq!(rig.actions(), [Action::HangUp]);
    assert!(rig.machine.is_over());

    let mut rig = Rig::new(settings(V311));
    rig.machine.shut_down(rig.now);
    rig.sent_here();
    assert_eq!(rig.actions(), [Action::OpenLocal, Action::CloseLocal]);
    assert!(rig.machine.is_over());
}

#[test]
fn a_frozen_peer_does_not_keep_a_bridge_from_ending() {
    let mut rig = Rig::running(settings(V311));
    rig.machine.shut_down(rig.now);
    rig.sent_here();
    assert_eq!(rig.actions(), [Action::CloseLocal]);
    rig.pass_to_deadline();
    assert_eq!(rig.actions(), [Action::HangUp]);
    assert!(rig.machine.is_over());
}

#[test]
fn a_refusal_is_named_in_words() {
    for (version, answer, words) in [
        (V311, "CONNACK code=5", "not authorized"),
        (V5, "CONNACK code=135 reference=b.example", "not authorized, use b.example"),
    ] {
        let mut rig = Rig::new(settings(version));
        rig.prepare();
        rig.machine.connected(rig.now);
        rig.sent_there();
        rig.remote(answer);
        assert_eq!(rig.actions(), [Action::HangUp]);
        assert!(rig.lines()[0].contains(words), "{answer}");
        assert_eq!(rig.machine.status().condition, Condition::Waiting);
    }
}

#[test]
fn nothing_more_is_taken_when_the_other_side_takes_nothing() {
    let mut rig = Rig::running(settings(V311));
    let message = rig::encode(&format!("PUBLISH q0 here/out/a {}", "x".repeat(1000)), V5);
    let mut given = 0;
    while rig.machine.takes_local() {
        rig.local_bytes(&message);
        given += 1;
    }
    let waiting = rig.machine.remote_output().len();
    assert!((96 * 1024..98 * 1024).contains(&waiting), "{waiting}");
    rig.local_bytes(&message);
    assert_eq!(rig.machine.remote_output().len(), waiting, "it is not processed");
    assert_eq!(rig.sent_there().len(), given + 1);
}

#[test]
fn messages_that_are_not_released_keep_nothing_from_their_release() {
    let mut rig = Rig::running(settings(V311));
    for number in 1..=2_000 {
        rig.remote(&format!("PUBLISH q2 {number} there/in/a x"));
        rig.sent_here();
        rig.local(&format!("PUBREC {number}"));
        rig.sent_there();
    }
    rig.remote("PUBREL 1");
    assert_eq!(rig.sent_here(), ["PUBREL 1"]);
}

#[test]
fn many_messages_before_the_answers_of_the_other_broker_do_not_block_the_bridge() {
    let mut rig = Rig::new(settings(V311));
    rig.prepare();
    rig.machine.connected(rig.now);
    rig.sent_there();
    rig.remote("CONNACK present");
    let in_flight = rig::encode("PUBLISH q1 7 dup here/out/a x", V5);
    let answers = [rig::encode("CONNACK present", V5), in_flight].concat();
    rig.local_bytes(&answers);
    // More than the output for this broker holds while it takes nothing.
    let payload = "x".repeat(30_000);
    let messages = (1..=5).map(|number| format!("PUBLISH q1 {number} there/in/a {payload}"));
    let answers =
        ["SUBACK 65534 1", "SUBACK 65533 1", "PUBACK 65535", "UNSUBACK 65532", "PUBACK 7"].map(str::to_owned);
    let bytes: Vec<u8> = messages.chain(answers).flat_map(|packet| rig::encode(&packet, V311)).collect();
    rig.machine.remote_received(&bytes, rig.now);
    assert_eq!(rig.sent_there().last().unwrap(), "PUBLISH q1 7 dup there/out/a x");
    let mut sent = rig.sent_here();
    for number in 1..=5 {
        rig.local(&format!("PUBACK {number}"));
        sent.extend(rig.sent_here());
    }
    assert_eq!(rig.machine.status().condition, Condition::Connected);
    assert_eq!(
        (
            sent.iter().filter(|packet| packet.starts_with("PUBLISH q1")).count(),
            sent.last().unwrap().as_str()
        ),
        (5, "PUBACK 7")
    );
}

#[test]
fn bytes_may_be_cut_anywhere() {
    let mut rig = Rig::running(settings(V311));
    for byte in rig::encode("PUBLISH q1 3 there/in/a hello", V311) {
        rig.machine.remote_received(&[byte], rig.now);
    }
    for byte in rig::encode("PUBLISH q1 4 here/out/a hello", V5) {
        rig.local_bytes(&[byte]);
    }
    assert_eq!(rig.sent_here(), ["PUBLISH q1 3 here/in/a hello"]);
    assert_eq!(rig.sent_there(), ["PUBLISH q1 4 there/out/a hello"]);
}

#[test]
fn a_message_that_no_rule_forwards_is_acknowledged_and_dropped() {
    let mut rig = Rig::running(settings(V311));
    rig.local("PUBLISH q1 1 other x");
    rig.local("PUBLISH q2 2 other x");
    assert_eq!((rig.sent_here(), rig.sent_there()), (vec!["PUBACK 1".into(), "PUBREC 2 131".into()], vec![]));
    rig.remote("PUBLISH q2 5 other x");
    assert_eq!((rig.sent_here(), rig.sent_there()), (vec![], vec!["PUBREC 5".into()]));
    assert_eq!(rig.machine.status().dropped, 3);
}

#[test]
fn properties_of_a_message_pass_and_those_of_a_connection_do_not() {
    let mut rig = Rig::running(settings(V5));
    rig.local("PUBLISH q0 here/out/a x user=k:v response=here/both/r subscription=5 expiry=9");
    assert_eq!(rig.sent_there(), ["PUBLISH q0 there/out/a x user=k:v response=there/both/r expiry=9"]);
    rig.remote("PUBLISH q0 there/in/a x alias=3 user=k:v");
    rig.remote("PUBLISH q0 - y alias=3");
    assert_eq!(rig.sent_here(), ["PUBLISH q0 here/in/a x user=k:v", "PUBLISH q0 here/in/a y"]);
    rig.remote("PUBLISH q0 - y alias=4");
    assert_eq!(rig.actions(), [Action::HangUp]);
    let mut old = Rig::running(settings(V311));
    old.local("PUBLISH q0 here/out/a x user=k:v");
    assert_eq!(old.sent_there(), ["PUBLISH q0 there/out/a x"]);
}

#[test]
fn a_clean_local_session_has_no_subscriptions_while_the_bridge_is_away() {
    let mut settings = settings(V311);
    settings.local.is_clean = true;
    let mut rig = Rig::new(settings);
    assert_eq!(
        rig.sent_here(),
        [
            "CONNECT V5 local.hall.gateway clean receive_maximum=1",
            "PUBLISH q0 retain state 0",
            "DISCONNECT 0"
        ]
    );
    assert_eq!(rig.actions(), [Action::OpenLocal, Action::CloseLocal, Action::Dial(0)]);
}

#[test]
fn a_direction_that_has_no_rule_needs_no_packets() {
    let mut settings = settings(V5);
    settings.topics = vec![both("in/#", Direction::In, QoS::AtMostOnce)];
    settings.notifications = None;
    let mut rig = Rig::new(settings);
    assert_eq!(rig.sent_here().len(), 2, "CONNECT and DISCONNECT");
    assert_eq!(rig.actions(), [Action::OpenLocal, Action::CloseLocal, Action::Dial(0)]);
    rig.machine.connected(rig.now);
    rig.sent_there();
    rig.remote("CONNACK");
    rig.local("CONNACK");
    assert_eq!(rig.sent_there(), ["SUBSCRIBE 65535 there/in/# q0 no_local as_published handling=1"]);
    rig.remote("SUBACK 65535 0");
    assert_eq!(rig.machine.status().condition, Condition::Connected);
}
