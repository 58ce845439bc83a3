//! The limits of the other broker are obeyed.

use super::rig::{self, Rig, settings};
use super::*;
use crate::base::time::Duration;

/// A bridge that forwards messages to a broker whose CONNACK was this.
fn running(connack: &str) -> Rig {
    let mut rig = Rig::new(settings(V5));
    rig.prepare();
    rig.machine.connected(rig.now);
    rig.sent_there();
    rig.remote(connack);
    rig
}

#[test]
fn a_higher_qos_is_lowered_to_1_and_answered_as_2() {
    let mut rig = running("CONNACK qos=1");
    rig.local("CONNACK present");
    assert_eq!(
        rig.sent_there()[..3],
        [
            "PUBLISH q1 65535 retain state 1",
            "SUBSCRIBE 65534 there/in/# q1 no_local as_published handling=1",
            "SUBSCRIBE 65533 there/both/# q1 no_local as_published handling=1",
        ]
    );
    for answer in ["PUBACK 65535", "SUBACK 65534 1", "SUBACK 65533 1", "UNSUBACK 65532"] {
        rig.remote(answer);
    }
    rig.sent_here();
    rig.local("PUBLISH q2 5 here/both/a x");
    rig.local("PUBLISH q1 6 here/both/a x");
    assert_eq!(rig.sent_there(), ["PUBLISH q1 5 there/both/a x", "PUBLISH q1 6 there/both/a x"]);
    rig.remote("PUBACK 5");
    rig.remote("PUBACK 6");
    assert_eq!(rig.sent_here(), ["PUBREC 5", "PUBACK 6"]);
    rig.local("PUBREL 5");
    assert_eq!((rig.sent_here(), rig.sent_there()), (vec!["PUBCOMP 5".into()], vec![]));
    rig.local("PUBLISH q1 5 here/both/a x");
    rig.sent_there();
    rig.remote("PUBACK 5");
    assert_eq!(rig.sent_here(), ["PUBACK 5"], "the identifier is used again");
}

#[test]
fn messages_wait_at_the_qos_of_their_rule_whatever_the_other_broker_supports() {
    for qos in [0, 1] {
        let mut rig = running(&format!("CONNACK qos={qos}"));
        rig.local("CONNACK present");
        rig.finish_setup();
        let sent = rig.sent_here();
        assert!(
            sent.iter().any(|packet| packet.contains("here/out/# q1 ") && packet.contains("here/both/# q2 "))
        );
    }
}

#[test]
fn what_is_lowered_to_0_is_answered_at_once() {
    let mut rig = running("CONNACK qos=0");
    rig.local("CONNACK present");
    assert_eq!(rig.sent_there()[0], "PUBLISH q0 retain state 1");
    for answer in ["SUBACK 65534 0", "SUBACK 65533 0", "UNSUBACK 65532"] {
        rig.remote(answer);
    }
    rig.sent_here();
    rig.local("PUBLISH q1 5 dup here/both/a x");
    rig.local("PUBLISH q2 6 here/both/a x");
    assert_eq!(rig.sent_there(), ["PUBLISH q0 there/both/a x", "PUBLISH q0 there/both/a x"]);
    assert_eq!(rig.sent_here(), ["PUBACK 5", "PUBREC 6"]);
    rig.local("PUBREL 6");
    assert_eq!((rig.sent_here(), rig.sent_there()), (vec!["PUBCOMP 6".into()], vec![]));
    assert!(rig.machine.remote.pulse.is_calm(), "no acknowledgement is awaited");
}

#[test]
fn retain_is_cleared_where_it_is_not_supported_or_not_wanted() {
    let mut rig = running("CONNACK retain=0");
    rig.local("CONNACK");
    assert_eq!(rig.sent_there()[0], "PUBLISH q1 65535 state 1");
    let mut unwanted = settings(V5);
    unwanted.remote.forwards_retain = false;
    let mut rig = Rig::running(unwanted);
    rig.local("PUBLISH q0 retain here/out/a x");
    rig.remote("PUBLISH q0 retain there/in/a x");
    assert_eq!(rig.sent_there(), ["PUBLISH q0 there/out/a x"]);
    assert_eq!(rig.sent_here(), ["PUBLISH q0 retain here/in/a x"]);
}

#[test]
fn a_message_that_is_too_large_is_dropped_and_named_once() {
    let mut rig = running("CONNACK size=200");
    rig.set_up();
    rig.sent_here();
    rig.lines();
    for number in 1..=3 {
        rig.local(&format!("PUBLISH q1 {number} here/out/a {}", "x".repeat(190)));
    }
    rig.local(&format!("PUBLISH q1 4 here/out/a {}", "x".repeat(70)));
    assert_eq!(
        (rig.sent_here(), rig.sent_there().len()),
        (vec!["PUBACK 1".into(), "PUBACK 2".into(), "PUBACK 3".into()], 1)
    );
    let lines: Vec<_> = std::iter::from_fn(|| rig.machine.next_line()).collect();
    assert_eq!(lines.iter().filter(|(level, _)| *level == Level::Warn).count(), 1, "{lines:?}");
    assert!(lines[0].1.contains("larger than the receiver accepts; topic here/out/a"));
    assert_eq!(rig.machine.status().dropped, 3);
}

#[test]
fn the_lower_limit_of_the_operator_and_the_other_broker_counts_for_what_is_sent_only() {
    for (version, connack, own, expected) in [
        (V311, "CONNACK", None, usize::MAX),
        (V311, "CONNACK", Some(200), 200),
        (V5, "CONNACK", Some(200), 200),
        (V5, "CONNACK size=300", Some(200), 200),
        (V5, "CONNACK size=200", Some(300), 200),
    ] {
        let mut limited = settings(version);
        limited.remote.packet_size = own;
        let mut rig = Rig::new(limited);
        rig.prepare();
        rig.machine.connected(rig.now);
        let connect = rig.sent_there().concat();
        // What the bridge accepts does not depend on it.
        assert_eq!(connect.contains(" size=100000"), version == V5, "{connect}");
        rig.remote(connack);
        rig.set_up();
        for payload in [100, 190, 250].map(|length| "x".repeat(length)) {
            rig.sent_here();
            rig.local(&format!("PUBLISH q1 1 here/out/a {payload}"));
            let length = rig.machine.remote_output().len();
            let acknowledged = rig.sent_here();
            match rig.sent_there().len() {
                0 => assert!(payload.len() > 150 && expected == 200 && acknowledged == ["PUBACK 1"]),
                _ => assert!(length <= expected && acknowledged.is_empty(), "{length}"),
            }
        }
        rig.remote(&format!("PUBLISH q1 1 there/in/a {}", "x".repeat(50_000)));
        assert_eq!(rig.sent_here().len(), 1, "what comes in may be larger");
    }
}

#[test]
fn a_limit_that_has_changed_applies_to_the_next_connection() {
    let mut rig = Rig::running(settings(V5));
    rig.machine.set_packet_size(200);
    let large = format!("PUBLISH q1 1 there/in/a {}", "x".repeat(300));
    rig.remote(&large);
    assert_eq!((rig.sent_here().len(), rig.machine.status().condition), (1, Condition::Connected));
    rig.machine.remote_closed("", rig.now);
    rig.sent_here();
    rig.pass_to_deadline();
    rig.machine.connected(rig.now);
    assert!(rig.sent_there()[0].contains(" size=200"));
    rig.remote("CONNACK present");
    rig.set_up();
    rig.remote(&large);
    let expected =
        "packet too large: PUBLISH of 318 bytes, the limit is 200 (max_packet_size), topic 'there/in/a'";
    assert_eq!(rig.machine.status().last_error, Some(expected));
}

#[test]
fn a_message_that_is_too_large_for_this_broker_does_not_come_again() {
    let mut longer = settings(V311);
    longer.topics[1].local_prefix = "here/longer/".into();
    let mut rig = Rig::running(longer);
    let mut payload = "x".repeat(99_900);
    rig.remote(&format!("PUBLISH q1 1 there/in/a {payload}"));
    assert_eq!(rig.sent_here().len(), 1);
    payload.push_str(&"x".repeat(80));
    // It fits as it is, but not with the longer name.
    rig.remote(&format!("PUBLISH q1 2 there/in/a {payload}"));
    assert_eq!((rig.sent_here(), rig.sent_there()), (vec![], vec!["PUBACK 2".into()]));
}

#[test]
fn a_packet_that_is_too_large_is_skipped_before_5_and_ends_the_connection_in_5() {
    let mut rig = Rig::running(settings(V311));
    let payload = "x".repeat(150_000);
    let large = [
        rig::encode(&format!("PUBLISH q1 1 there/in/a {payload}"), V311),
        rig::encode(&format!("PUBLISH q2 2 there/in/a {payload}"), V311),
        rig::encode("PUBLISH q1 3 there/in/a x", V311),
    ]
    .concat();
    for piece in large.chunks(10).take(200).chain([&large[2000..]]) {
        rig.machine.remote_received(piece, rig.now);
    }
    assert_eq!(rig.sent_there(), ["PUBACK 1", "PUBREC 2"]);
    assert_eq!(rig.sent_here(), ["PUBLISH q1 3 here/in/a x"]);
    assert!(rig.lines()[0].contains("larger than the receiver accepts; topic there/in/a"));
    let mut rig = Rig::running(settings(V5));
    rig.remote(&format!("PUBLISH q1 1 there/in/a {payload}"));
    let expected = "packet too large: PUBLISH of 150019 bytes, the limit is 100000 (max_packet_size), topic 'there/in/a'";
    assert_eq!(rig.machine.status().last_error, Some(expected));
    let mut rig = Rig::running(settings(V311));
    rig.machine.remote_received(&[0x36, 0x80, 0x80, 0x80, 1, 0, 0], rig.now);
    assert_eq!(rig.machine.status().condition, Condition::Connected, "the rest of its head may come");
    rig.machine.remote_received(&[0; 65_540], rig.now);
    assert_eq!(rig.machine.status().condition, Condition::Waiting, "QoS 3");
}

#[test]
fn the_receive_maximum_of_the_other_broker_is_that_of_the_session() {
    let mut rig = running("CONNACK receive_maximum=7");
    assert_eq!(rig.sent_here()[0], "CONNECT V5 local.hall.gateway expiry=4294967295 receive_maximum=7");
}

#[test]
fn a_broker_that_cannot_say_what_it_takes_gets_few_messages_of_qos_2_at_once() {
    for (version, qos, expected) in [
        (V311, QoS::ExactlyOnce, " receive_maximum=20"),
        (ProtocolVersion::V31, QoS::ExactlyOnce, " receive_maximum=20"),
        (V311, QoS::AtLeastOnce, ""),
        (V5, QoS::ExactlyOnce, ""),
    ] {
        let mut limited = settings(version);
        limited.topics =
            vec![both("out/#", Direction::Out, qos), both("in/#", Direction::In, QoS::ExactlyOnce)];
        let mut rig = Rig::new(limited);
        rig.sent_here();
        rig.local("CONNACK");
        rig.local("SUBACK 65535 2");
        rig.sent_here();
        rig.machine.connected(rig.now);
        rig.sent_there();
        rig.remote("CONNACK");
        let connect = &rig.sent_here()[0];
        assert_eq!(
            *connect,
            format!("CONNECT V5 local.hall.gateway expiry=4294967295{expected}"),
            "{version:?}"
        );
    }
}

#[test]
fn filters_that_the_other_broker_refuses_are_named() {
    let mut rig = running("CONNACK wildcards=0");
    rig.local("CONNACK");
    let lines = rig.lines();
    assert!(lines.iter().any(|line| line.contains("does not forward there/in/#: it has no wildcards")));
    assert_eq!(rig.sent_there().len(), 2, "the state and one UNSUBSCRIBE");
    let mut rig = running("CONNACK");
    rig.local("CONNACK");
    rig.sent_there();
    rig.remote("SUBACK 65534 135");
    assert!(rig.lines()[0].contains("refuses to forward there/in/#: not authorized"));
    rig.remote("SUBACK 65533 0");
    assert!(rig.lines()[0].contains("there/both/# with QoS 0 at most"));
}

#[test]
fn a_session_that_only_the_other_broker_remembers_gets_no_qos_2() {
    let mut rig = running("CONNACK present");
    rig.local("CONNACK");
    rig.finish_setup();
    rig.sent_here();
    rig.local("PUBLISH q2 1 here/both/a x");
    assert_eq!(rig.sent_there(), ["PUBLISH q1 1 there/both/a x"]);
}

#[test]
fn no_more_messages_are_sent_per_second_than_allowed() {
    let mut slow = settings(V311);
    slow.queue.rate = Some(2);
    let mut rig = Rig::running(slow);
    for number in 1..=5 {
        rig.local(&format!("PUBLISH q1 {number} here/out/a x"));
    }
    assert_eq!((rig.sent_there().len(), rig.machine.takes_local()), (1, false));
    for _ in 0..4 {
        rig.pass(Duration::from_milliseconds(500));
        assert_eq!(rig.sent_there().len(), 1);
    }
}

#[test]
fn a_refused_message_is_named_once_and_done() {
    let mut rig = Rig::running(settings(V5));
    for number in 1..=2 {
        rig.local(&format!("PUBLISH q1 {number} here/out/a x"));
        rig.remote(&format!("PUBACK {number} 135"));
    }
    assert_eq!(rig.sent_here(), ["PUBACK 1 135", "PUBACK 2 135"]);
    let lines: Vec<_> = std::iter::from_fn(|| rig.machine.next_line()).collect();
    assert_eq!(lines.iter().map(|(level, _)| *level).collect::<Vec<_>>(), [Level::Warn, Level::Debug]);
    assert!(lines[0].1.contains("The other broker has refused a message: not authorized"));
}
