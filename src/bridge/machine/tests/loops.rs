//! Messages that come back.

use super::rig::{Rig, encode, settings};
use super::*;

/// The hop that a bridge has appended.
fn hop(shown: &str) -> String {
    shown.rsplit_once("user=").map(|(_, hop)| hop.to_owned()).unwrap()
}

#[test]
fn a_message_does_not_pass_the_same_bridge_twice() {
    let mut rig = Rig::running(settings(V5));
    rig.local("PUBLISH q0 here/out/a x");
    rig.remote("PUBLISH q0 there/in/a x");
    let (out, back) = (hop(&rig.sent_there_whole()[0]), hop(&rig.sent_here_whole()[0]));
    assert!(out == back && out.starts_with("brooklet-hop:hall.gateway/"), "{out}");
    rig.local(&format!("PUBLISH q1 3 here/both/a x user={out}"));
    rig.remote(&format!("PUBLISH q1 4 there/both/a x user={out}"));
    assert_eq!((rig.sent_here(), rig.sent_there()), (vec!["PUBACK 3".into()], vec!["PUBACK 4".into()]));
    let lines: Vec<_> = std::iter::from_fn(|| rig.machine.next_line()).collect();
    assert_eq!(lines.iter().map(|(level, _)| *level).collect::<Vec<_>>(), [Level::Warn, Level::Debug]);
    assert!(lines[0].1.contains("it has come over this bridge before; topic here/both/a"));
    rig.local("PUBLISH q0 here/out/a x user=brooklet-hop:another");
    assert_eq!(rig.sent_there(), ["PUBLISH q0 there/out/a x user=brooklet-hop:another"]);
}

#[test]
fn a_journey_over_too_many_bridges_ends() {
    let mut rig = Rig::running(settings(V5));
    let passed = |count: usize| (0..count).map(|hop| format!(" user=brooklet-hop:{hop}")).collect::<String>();
    rig.local(&format!("PUBLISH q0 here/out/a x{}", passed(15)));
    assert_eq!(rig.sent_there().len(), 1);
    rig.local(&format!("PUBLISH q0 here/out/a x{}", passed(16)));
    assert_eq!(rig.sent_there().len(), 0);
}

#[test]
fn an_echo_of_a_broker_that_knows_no_bridges_is_dropped() {
    for is_private in [false, true] {
        let mut settings = settings(V311);
        settings.remote.tries_private = is_private;
        let mut rig = Rig::running(settings);
        rig.local("PUBLISH q0 here/both/a x");
        rig.local("PUBLISH q0 here/out/a x");
        rig.sent_there();
        let echo = encode("PUBLISH q1 9 there/both/a x", V311);
        rig.machine.remote_received(&[&echo[..], &echo].concat(), rig.now);
        let expected = if is_private { 2 } else { 1 };
        assert_eq!(rig.sent_here().len(), expected, "the second is a message of another client");
        assert_eq!(rig.sent_there().len(), 2 - expected, "the echo is acknowledged");
        assert_eq!((rig.lines().len(), rig.machine.status().dropped), (2 - expected, 0));
    }
}
