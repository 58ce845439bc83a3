//! When a bridge connects, how, and when it gives up.

use super::rig::{Rig, settings};
use super::*;
use crate::base::time::Duration;
use crate::settings::RemoteAddress;

/// Answers the CONNECT of the bridge, which is returned.
fn greet(rig: &mut Rig, answer: &str) -> String {
    rig.machine.connected(rig.now);
    let connect = rig.sent_there().remove(0);
    rig.remote(answer);
    connect
}

fn two_addresses(is_round_robin: bool) -> Bridge {
    let mut settings = settings(V311);
    settings.is_round_robin = is_round_robin;
    settings.addresses.push(RemoteAddress { host: "second".to_owned(), port: 1884 });
    settings
}

#[test]
fn a_broker_that_knows_no_bridges_is_asked_as_a_client() {
    let mut rig = Rig::new(settings(V311));
    rig.prepare();
    assert!(greet(&mut rig, "CONNACK code=1").contains("V311 private"));
    assert_eq!(rig.actions(), [Action::HangUp, Action::Dial(0)], "at once");
    assert!(rig.lines().last().unwrap().contains("does not accept MQTT 3.1.1 as a bridge"));
    assert!(greet(&mut rig, "CONNACK present").starts_with("CONNECT V311 hall.gateway"));
    rig.actions();
    rig.set_up();
    rig.sent_here();
    rig.machine.remote_closed("gone", rig.now);
    rig.sent_here();
    rig.pass_to_deadline();
    assert!(greet(&mut rig, "CONNACK").starts_with("CONNECT V311 hall.gateway"), "it is remembered");
}

#[test]
fn a_broker_without_5_is_asked_with_3() {
    let mut rig = Rig::new(settings(V5));
    rig.prepare();
    rig.machine.connected(rig.now);
    assert!(rig.sent_there()[0].starts_with("CONNECT V5"));
    rig.machine.remote_received(&[0x20, 2, 0, 1], rig.now);
    assert_eq!(rig.actions(), [Action::HangUp, Action::Dial(0)]);
    rig.machine.connected(rig.now);
    assert!(rig.sent_there()[0].starts_with("CONNECT V311 private"));
    rig.machine.remote_closed("gone", rig.now);
    assert_eq!(rig.actions(), [Action::Dial(0)], "some brokers just close");
    rig.machine.connected(rig.now);
    assert!(rig.sent_there()[0].starts_with("CONNECT V311 hall"));
    rig.machine.remote_closed("gone", rig.now);
    assert_eq!(rig.actions(), [], "everything was tried");
    rig.pass_to_deadline();
    rig.machine.connected(rig.now);
    assert!(rig.sent_there()[0].starts_with("CONNECT V311 private"), "5.0 was refused, the others were not");
    rig.machine.remote_received(&[0x20, 2, 0, 1], rig.now);
    rig.actions();
    assert!(greet(&mut rig, "CONNACK").starts_with("CONNECT V311 hall"));
}

#[test]
fn a_broker_that_closes_for_another_reason_is_not_taken_for_an_old_one() {
    let mut rig = Rig::new(settings(V311));
    rig.prepare();
    rig.machine.connected(rig.now);
    rig.sent_there();
    rig.machine.remote_closed("gone", rig.now);
    assert!(greet(&mut rig, "CONNACK").starts_with("CONNECT V311 hall"));
    rig.set_up();
    rig.sent_here();
    rig.machine.remote_closed("gone", rig.now);
    rig.sent_here();
    rig.pass_to_deadline();
    assert!(greet(&mut rig, "CONNACK").starts_with("CONNECT V311 private"));
}

#[test]
fn a_bridge_that_ends_ignores_what_is_said_to_it() {
    let mut rig = Rig::running(settings(V311));
    rig.machine.shut_down(rig.now);
    rig.machine.remote_received(&[0xFF; 9], rig.now);
    rig.local_bytes(&[0xFF; 9]);
    rig.sent_there();
    rig.sent_here();
    rig.pass(Duration::from_seconds(100));
    assert!(rig.machine.is_over() && !rig.actions().contains(&Action::Dial(0)));
}

#[test]
fn a_version_that_was_accepted_is_not_doubted_when_the_connection_breaks() {
    let mut rig = Rig::running(settings(V5));
    rig.machine.remote_closed("gone", rig.now);
    rig.sent_here();
    rig.pass_to_deadline();
    rig.machine.connected(rig.now);
    rig.machine.remote_closed("gone", rig.now);
    assert_eq!(rig.actions(), [Action::CloseLocal, Action::Dial(0)]);
    rig.pass_to_deadline();
    assert!(greet(&mut rig, "CONNACK").starts_with("CONNECT V5"));
}

#[test]
fn a_will_that_is_refused_is_lowered() {
    let mut rig = Rig::new(settings(V5));
    rig.prepare();
    assert!(greet(&mut rig, "CONNACK code=154").contains("will=q1 retain"));
    assert!(greet(&mut rig, "CONNACK code=155").contains("will=q1 state"));
    assert!(greet(&mut rig, "CONNACK code=155").contains("will=q0 state"));
    assert_eq!(rig.machine.status().condition, Condition::Waiting, "there is nothing left to lower");
}

#[test]
fn the_next_address_is_tried_after_a_failure_and_the_first_one_is_preferred() {
    let mut rig = Rig::new(two_addresses(false));
    rig.prepare();
    rig.machine.dial_failed("refused", rig.now);
    assert!(rig.lines().last().unwrap().contains("other:1883 has ended: refused"));
    rig.pass_to_deadline();
    assert_eq!(rig.actions(), [Action::Dial(1)]);
    greet(&mut rig, "CONNACK");
    rig.set_up();
    rig.actions();
    rig.pass(Duration::from_seconds(5));
    assert_eq!(rig.actions(), [Action::Probe(0)]);
    rig.pass(Duration::from_seconds(20));
    assert_eq!(rig.actions(), [], "one at a time");
    rig.machine.probed(false, rig.now);
    rig.pass(Duration::from_seconds(5));
    assert_eq!(rig.actions(), [Action::Probe(0)]);
    rig.sent_here();
    rig.machine.probed(true, rig.now);
    assert_eq!(rig.sent_there(), ["PUBLISH q0 retain state 0", "DISCONNECT 0"]);
    assert_eq!(rig.sent_here(), ["PUBLISH q0 retain state 0", "DISCONNECT 0"]);
    assert_eq!(rig.actions(), [Action::HangUp, Action::CloseLocal, Action::Dial(0)]);
}

#[test]
fn a_good_second_address_is_left_only_for_the_first_unless_they_take_turns() {
    for (is_round_robin, next) in [(false, Action::Dial(0)), (true, Action::Dial(1))] {
        let mut rig = Rig::new(two_addresses(is_round_robin));
        rig.prepare();
        rig.machine.dial_failed("refused", rig.now);
        rig.pass_to_deadline();
        greet(&mut rig, "CONNACK");
        rig.set_up();
        rig.sent_here();
        rig.machine.remote_closed("gone", rig.now);
        rig.sent_here();
        rig.actions();
        rig.pass_to_deadline();
        assert_eq!(rig.actions(), [next]);
    }
}

#[test]
fn a_lazy_bridge_connects_for_messages_and_ends_when_there_are_none() {
    let mut settings = settings(V311);
    settings.start = Start::Lazy { threshold: 3, idle: Duration::from_seconds(20) };
    let mut rig = Rig::new(settings);
    rig.sent_here();
    rig.local("CONNACK");
    rig.local("SUBACK 65535 1 2");
    rig.sent_here();
    assert_eq!(rig.actions(), [Action::OpenLocal, Action::CloseLocal]);
    assert_eq!((rig.machine.status().condition, rig.machine.next_deadline()), (Condition::Idle, None));
    rig.machine.queued(2, rig.now);
    assert_eq!(rig.actions(), []);
    rig.machine.queued(3, rig.now);
    assert_eq!(rig.actions(), [Action::Dial(0)]);
    greet(&mut rig, "CONNACK");
    rig.set_up();
    rig.sent_here();
    rig.actions();
    rig.pass(Duration::from_seconds(15));
    rig.local("PUBLISH q1 1 here/out/a x");
    rig.sent_there();
    rig.pass(Duration::from_seconds(19));
    rig.remote("PUBACK 1");
    assert_eq!(rig.machine.status().condition, Condition::Connected);
    rig.sent_here();
    rig.pass(Duration::from_seconds(1));
    assert_eq!(rig.sent_there(), ["PUBLISH q0 retain state 0", "DISCONNECT 0"]);
    rig.sent_here();
    assert_eq!(rig.actions(), [Action::HangUp, Action::CloseLocal]);
    assert_eq!(rig.machine.status().condition, Condition::Idle);
}

#[test]
fn a_bridge_that_connects_once_does_not_come_back() {
    let mut settings = settings(V311);
    settings.start = Start::Once;
    let mut rig = Rig::running(settings);
    rig.machine.remote_closed("gone", rig.now);
    rig.sent_here();
    assert_eq!(rig.actions(), [Action::CloseLocal]);
    assert!(rig.machine.is_over() && rig.machine.next_deadline().is_none());
}

#[test]
fn answers_that_do_not_come_end_the_connection() {
    let mut rig = Rig::new(settings(V311));
    rig.prepare();
    rig.machine.connected(rig.now);
    rig.sent_there();
    rig.pass(Duration::from_seconds(10));
    assert_eq!(rig.actions(), [Action::HangUp]);
    assert!(rig.lines().last().unwrap().contains("CONNACK has not come"));
    rig.pass_to_deadline();
    greet(&mut rig, "CONNACK");
    rig.local("CONNACK");
    rig.sent_there();
    rig.pass(Duration::from_seconds(8));
    rig.remote("PUBACK 65535");
    rig.pass(Duration::from_seconds(8));
    assert_eq!(rig.machine.status().condition, Condition::Connecting, "it is slow, but there");
    rig.pass(Duration::from_seconds(2));
    assert_eq!(rig.machine.status().condition, Condition::Waiting);
    assert!(rig.lines().last().unwrap().contains("SUBACK, UNSUBACK or PUBACK has not come"));
}

#[test]
fn a_silent_broker_is_pinged_and_given_up() {
    let mut rig = Rig::running(settings(V311));
    rig.pass(Duration::from_seconds(60));
    assert_eq!(rig.sent_there(), ["PINGREQ"]);
    rig.remote("PINGRESP");
    rig.pass(Duration::from_seconds(59));
    assert_eq!(rig.sent_there(), [""; 0]);
    rig.pass(Duration::from_seconds(1));
    assert_eq!(rig.sent_there(), ["PINGREQ"]);
    rig.pass(Duration::from_seconds(9));
    assert_eq!(rig.machine.status().condition, Condition::Connected);
    rig.pass(Duration::from_seconds(1));
    assert_eq!(rig.machine.status().last_error, Some("PINGRESP has not come"));
    assert_eq!(rig.sent_here(), ["PUBLISH q0 retain state 0", "DISCONNECT 0"]);
    assert_eq!(rig.actions(), [Action::HangUp, Action::CloseLocal]);
}

#[test]
fn a_frozen_broker_is_noticed_though_the_output_is_full() {
    let fill = |rig: &mut Rig| {
        while rig.machine.takes_local() {
            rig.local(&format!("PUBLISH q0 here/out/a {}", "x".repeat(1000)));
        }
    };
    let mut rig = Rig::running(settings(V311));
    fill(&mut rig);
    rig.pass(Duration::from_seconds(69));
    assert_eq!(rig.machine.status().condition, Condition::Connected);
    rig.pass(Duration::from_seconds(1));
    assert_eq!(rig.machine.status().last_error, Some("it takes no more bytes"));

    let mut rig = Rig::running(settings(V311));
    for _ in 0..100 {
        fill(&mut rig);
        rig.machine.remote_sent(1000, rig.now);
        rig.remote("PUBLISH q0 there/in/a x");
        rig.sent_here();
        rig.pass(Duration::from_seconds(9));
    }
    assert_eq!(rig.machine.status().condition, Condition::Connected, "it is slow, but it reads");

    let mut rig = Rig::running(settings(V311));
    rig.pass(Duration::from_seconds(60));
    for _ in 0..5 {
        assert_eq!(rig.machine.status().condition, Condition::Connected);
        rig.local("PUBLISH q0 here/out/a x");
        rig.sent_there();
        rig.pass(Duration::from_seconds(2));
    }
    assert_eq!(
        rig.machine.status().last_error,
        Some("PINGRESP has not come"),
        "its socket takes bytes, but it does not"
    );
}

#[test]
fn a_broker_that_only_sends_is_pinged_since_it_must_be_sent_something() {
    let mut rig = Rig::running(settings(V311));
    for _ in 0..6 {
        rig.pass(Duration::from_seconds(10));
        rig.remote("PUBLISH q0 there/in/a x");
    }
    assert_eq!(rig.sent_there(), ["PINGREQ"]);
}

#[test]
fn missing_acknowledgements_end_the_connection() {
    let mut rig = Rig::running(settings(V311));
    rig.local("PUBLISH q1 1 here/out/a x");
    rig.local("PUBLISH q1 2 here/out/a x");
    rig.sent_there();
    rig.pass(Duration::from_seconds(29));
    rig.remote("PUBACK 1");
    rig.pass(Duration::from_seconds(29));
    assert_eq!(rig.machine.status().condition, Condition::Connected);
    rig.pass(Duration::from_seconds(1));
    assert_eq!(rig.machine.status().last_error, Some("acknowledgements have not come for 30 seconds"));
}

#[test]
fn the_keep_alive_of_the_other_broker_is_used() {
    let mut rig = Rig::new(settings(V5));
    rig.prepare();
    greet(&mut rig, "CONNACK keep_alive=7");
    rig.set_up();
    rig.pass(Duration::from_seconds(7));
    assert_eq!(rig.sent_there(), ["PINGREQ"]);
}

#[test]
fn changed_settings_apply_to_the_next_connection() {
    let mut rig = Rig::running(settings(V311));
    let mut changed = settings(V311);
    changed.topics.remove(0);
    changed.remote.client_identifier = "changed".into();
    rig.machine.reconfigure(Rc::new(changed), rig.now);
    assert_eq!((rig.actions(), rig.sent_there()), (vec![], vec![]));
    rig.machine.remote_closed("gone", rig.now);
    assert_eq!(
        rig.lines().last().unwrap(),
        "Bridge hall: The connection to other:1883 has ended: gone. The changed settings are tried at once."
    );
    rig.sent_here();
    // At once, so that a session with another Client Identifier misses nothing.
    assert_eq!(rig.actions(), [Action::CloseLocal, Action::OpenLocal]);
    assert_eq!(
        rig.sent_here()[2..],
        ["UNSUBSCRIBE 1 here/out/#", "SUBSCRIBE 65535 here/both/# q2 no_local as_published handling=2"]
    );
    rig.local("CONNACK present");
    rig.local("SUBACK 65535 2");
    rig.sent_here();
    assert_eq!(rig.actions(), [Action::CloseLocal, Action::Dial(0)]);
    assert!(greet(&mut rig, "CONNACK").contains("private changed"));
}

#[test]
fn a_bridge_that_connects_once_does_so_again_with_changed_settings() {
    let mut once = settings(V311);
    once.start = Start::Once;
    let mut rig = Rig::running(once.clone());
    once.remote.client_identifier = "changed".into();
    rig.machine.reconfigure(Rc::new(once), rig.now);
    rig.machine.remote_closed("gone", rig.now);
    rig.sent_here();
    assert_eq!(rig.actions(), [Action::CloseLocal, Action::OpenLocal]);
}

#[test]
fn changed_settings_apply_at_once_if_they_say_so() {
    let mut rig = Rig::running(settings(V311));
    let mut changed = settings(V311);
    changed.reload = Reload::Immediate;
    rig.machine.reconfigure(Rc::new(changed), rig.now);
    rig.sent_here();
    rig.sent_there();
    assert_eq!(rig.actions(), [Action::CloseLocal, Action::HangUp, Action::OpenLocal]);
}

#[test]
fn waits_are_short_again_after_a_good_connection() {
    let mut settings = settings(V311);
    settings.restart.least = Duration::from_milliseconds(10);
    let mut rig = Rig::running(settings);
    for _ in 0..60 {
        rig.machine.remote_closed("gone", rig.now);
        rig.sent_here();
        rig.pass_to_deadline();
        rig.machine.connected(rig.now);
    }
    assert!(rig.machine.waits.next(rig.machine.settings.restart) > Duration::from_milliseconds(30));
    rig.sent_there();
    rig.remote("CONNACK");
    rig.set_up();
    rig.machine.remote.state = RemoteState::Running { since: rig.now, probe: Probe::Needless };
    rig.pass(Duration::from_seconds(31));
    rig.machine.remote_closed("gone", rig.now);
    rig.sent_here();
    let wait = rig.machine.next_deadline().unwrap().since(rig.now);
    assert!(wait <= Duration::from_milliseconds(30), "{wait:?}");
}

#[test]
fn changed_settings_wait_for_the_end_of_a_connection_that_is_being_set_up() {
    let mut rig = Rig::new(settings(V311));
    rig.prepare();
    greet(&mut rig, "CONNACK");
    rig.actions();
    rig.machine.reconfigure(Rc::new(settings(V5)), rig.now);
    assert_eq!(rig.actions(), []);
    rig.set_up();
    assert_eq!(rig.machine.status().version, V311);
}
