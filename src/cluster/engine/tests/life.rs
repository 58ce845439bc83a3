//! How a connection begins and ends.

use super::rig::{INFO, Rig, settings};
use super::*;

#[test]
fn a_silent_server_is_asked_and_then_left() {
    let mut rig = Rig::ready();
    rig.pass(999);
    assert_eq!(rig.sent(), "");
    rig.pass(1);
    assert_eq!(rig.sent(), "PING\r\n");
    rig.receive("PONG\r\n");
    rig.pass(1_000);
    assert_eq!(rig.sent(), "PING\r\n", "it was heard");
    rig.pass(999);
    assert!(rig.machine.is_ready() && rig.actions().is_empty());
    rig.pass(1);
    assert!(!rig.machine.is_ready());
    assert_eq!(rig.notices(), [Notice::Lost("the server is silent".into())]);
    rig.pass(200);
    assert!(matches!(&rig.actions()[..], [Action::HangUp, Action::Dial(_)]));
}

#[test]
fn a_part_of_a_message_is_heard_once() {
    let mut rig = Rig::ready();
    rig.pass(900);
    assert_eq!(rig.receive("MSG a 2 100\r\nab"), [""; 0]);
    rig.pass(900);
    assert_eq!((rig.sent().as_str(), rig.receive("")), ("", vec![]));
    rig.pass(1_100);
    assert!(!rig.machine.is_ready(), "it was not heard again without more bytes");
}

#[test]
fn a_server_that_takes_no_bytes_is_left() {
    let mut rig = Rig::ready();
    rig.sent();
    rig.publish("b", b"x").unwrap();
    rig.machine.sent(0, rig.now);
    for _ in 0..3 {
        rig.pass(600);
        rig.receive("PING\r\n");
        assert!(rig.machine.is_ready(), "it is not silent");
    }
    // One byte that it takes is enough.
    rig.machine.sent(1, rig.now);
    for _ in 0..3 {
        rig.pass(600);
        rig.receive("PING\r\n");
    }
    rig.pass(199);
    assert!(rig.machine.is_ready());
    rig.pass(1);
    assert_eq!(rig.notices(), [Notice::Lost("the server takes no bytes".into())]);
    rig.pass(200);
    assert!(matches!(&rig.actions()[..], [Action::HangUp, Action::Dial(_)]));
}

#[test]
fn a_server_has_its_time_from_the_first_byte_for_it() {
    let mut rig = Rig::ready();
    rig.sent();
    for _ in 0..10 {
        rig.pass(900);
        rig.receive("+OK\r\n");
        assert_eq!(rig.sent(), "", "nothing is to be sent");
    }
    rig.publish("b", b"x").unwrap();
    rig.machine.tick(rig.now);
    for _ in 0..2 {
        rig.pass(900);
        rig.receive("+OK\r\n");
    }
    assert!(rig.machine.is_ready());
    assert_eq!(rig.sent(), "PUB b 1\r\nx\r\n");
    rig.pass(900);
    rig.receive("+OK\r\n");
    rig.pass(900);
    assert!(rig.machine.is_ready(), "it has taken all");
}

#[test]
fn each_step_has_a_time_limit() {
    let mut rig = Rig::new(settings());
    rig.pass(5_000);
    rig.pass(200);
    assert!(
        matches!(&rig.actions()[..], [Action::Dial(first), Action::HangUp, Action::Dial(second)] if first != second)
    );
    rig.machine.connected(rig.now);
    rig.pass(5_000);
    assert_eq!(rig.actions(), [Action::HangUp]);
    rig.pass(2_000);
    assert!(matches!(&rig.actions()[..], [Action::Dial(_)]));
    rig.machine.connected(rig.now);
    rig.receive(&format!("{INFO}\r\n"));
    rig.pass(5_000);
    assert_eq!(rig.actions(), [Action::HangUp]);
    let said: Vec<String> = rig.lines().into_iter().map(|(_, line)| line).collect();
    assert!(
        said[0].contains("too long to connect") && said[1].contains("INFO") && said[2].contains("PONG"),
        "{said:?}"
    );
}

#[test]
fn a_reason_is_said_once_until_there_is_a_connection() {
    let mut rig = Rig::new(settings());
    for round in 0..20 {
        assert!(matches!(rig.machine.next_action(), Some(Action::Dial(_))));
        rig.machine.connected(rig.now);
        rig.receive(&format!("{INFO}\r\n"));
        rig.receive("-ERR 'Authorization Violation'\r\n");
        assert_eq!(rig.actions(), [Action::HangUp]);
        let lines = rig.lines();
        let level = if round == 0 { Level::Warn } else { Level::Debug };
        assert!(
            lines.len() == 1 && lines[0].0 == level && lines[0].1.contains("'Authorization Violation'"),
            "{lines:?}"
        );
        rig.sent();
        rig.pass(2_000);
    }
    rig.become_ready();
    rig.machine.closed("closed", rig.now);
    assert_eq!(rig.lines()[0].0, Level::Warn);
    rig.pass(2_000);
    rig.machine.next_action();
    rig.machine.dial_failed("refused", rig.now);
    assert_eq!(rig.lines()[0].0, Level::Warn);
}

#[test]
fn tls_is_not_left_out() {
    let with = |offer: &str| format!("{},{offer}}}\r\n", INFO.trim_end_matches('}'));
    let open = |uses_tls, info: &str| {
        let mut rig = Rig::new(Settings { uses_tls, ..settings() });
        rig.actions();
        rig.machine.connected(rig.now);
        rig.receive(info);
        rig
    };
    let mut rig = open(true, &with("\"tls_required\":true,\"connect_urls\":[\"evil:1\"]"));
    assert_eq!((rig.actions(), rig.sent().as_str()), (vec![Action::StartTls], ""));
    rig.machine.secured(rig.now);
    assert!(rig.sent().contains("\"tls_required\":true"));
    rig.receive("PONG\r\n");
    assert!(rig.machine.is_ready());
    assert!(!format!("{:?}", rig.machine.servers).contains("evil"), "it was named without encryption");
    rig.receive(&with("\"tls_required\":true,\"connect_urls\":[\"good:1\"]"));
    assert!(format!("{:?}", rig.machine.servers).contains("good"));

    let mut injected = open(true, &(with("\"tls_required\":true") + "PONG\r\n"));
    assert_eq!((injected.actions(), injected.sent().as_str()), (vec![Action::StartTls, Action::HangUp], ""));
    let mut none = open(true, &with("\"tls_required\":false"));
    assert_eq!((none.actions(), none.sent().as_str()), (vec![Action::HangUp], ""));
    assert!(none.lines()[0].1.contains("does not encrypt connections"));
}

#[test]
fn a_server_that_requires_tls_gets_it() {
    let with = |offer: &str| format!("{},{offer}}}\r\n", INFO.trim_end_matches('}'));
    let mut rig = Rig::new(settings());
    rig.actions();
    rig.machine.connected(rig.now);
    rig.receive(&with("\"tls_required\":true,\"connect_urls\":[\"evil:1\"]"));
    assert_eq!((rig.actions(), rig.sent().as_str()), (vec![Action::StartTls], ""));
    assert!(!format!("{:?}", rig.machine.servers).contains("evil"), "it was named without encryption");
    rig.machine.secured(rig.now);
    assert!(rig.sent().contains("\"tls_required\":true"));
    rig.machine.closed("closed", rig.now);

    // The next one is plain again.
    rig.pass(200);
    rig.actions();
    rig.machine.connected(rig.now);
    rig.receive(&with("\"tls_available\":true"));
    assert!(rig.actions().is_empty() && rig.sent().contains("\"tls_required\":false"));
}

#[test]
fn a_handshake_that_fails_or_lasts_too_long_is_left() {
    let info = format!("{},\"tls_required\":true}}\r\n", INFO.trim_end_matches('}'));
    let mut rig = Rig::new(settings());
    for is_slow in [false, true] {
        rig.pass(200);
        rig.actions();
        rig.machine.connected(rig.now);
        rig.receive(&info);
        assert_eq!(rig.actions(), [Action::StartTls]);
        if is_slow {
            rig.pass(4_999);
            assert!(rig.actions().is_empty());
            rig.pass(1);
            assert_eq!(rig.actions(), [Action::HangUp]);
        } else {
            rig.machine.closed("an unknown authority", rig.now);
        }
        let lines = rig.lines();
        let why = if is_slow { "the handshake of TLS takes too long." } else { "an unknown authority." };
        assert!(lines.len() == 1 && lines[0].1.ends_with(why), "{lines:?}");
        rig.machine.secured(rig.now);
        assert_eq!(rig.sent(), "", "it comes too late");
    }
}

#[test]
fn a_password_is_sent_and_never_shown() {
    let authentication = Authentication::Password { user: "ann".into(), password: Secret::new("pencil") };
    let mut rig = Rig::new(Settings { authentication, ..settings() });
    rig.actions();
    rig.machine.connected(rig.now);
    rig.receive(&format!("{INFO}\r\n"));
    assert!(!format!("{:?}", rig.machine.settings).contains("pencil"));
    assert!(rig.sent().contains("\"pass\":\"pencil\""));
}

#[test]
fn a_changed_login_is_used_at_once() {
    let ann = || Authentication::Password { user: "ann".into(), password: Secret::new("pencil") };
    let mut ready = Rig::ready();
    ready.request(Answers::One).unwrap();
    ready.machine.set_authentication(ann());
    assert!(ready.machine.is_ready() && ready.actions().is_empty(), "a connection stays");
    let server = ready.machine.address().clone();
    ready.machine.log_in_again(ready.now);
    assert_eq!(ready.actions(), [Action::HangUp, Action::Dial(server)]);
    assert!(matches!(&ready.notices()[..], [Notice::Unanswered(..), Notice::Lost(_)]));
    assert_eq!(ready.sent(), "");

    let mut introducing = Rig::new(settings());
    introducing.actions();
    introducing.machine.connected(introducing.now);
    introducing.receive(&format!("{INFO}\r\n"));
    introducing.machine.set_authentication(ann());
    introducing.machine.log_in_again(introducing.now);
    assert!(matches!(&introducing.actions()[..], [Action::HangUp, Action::Dial(_)]));

    let mut waiting = Rig::new(settings());
    waiting.actions();
    waiting.machine.dial_failed("refused", waiting.now);
    waiting.machine.set_authentication(ann());
    waiting.machine.log_in_again(waiting.now);
    assert!(matches!(&waiting.actions()[..], [Action::Dial(_)]));

    for rig in [&mut ready, &mut introducing, &mut waiting] {
        rig.machine.log_in_again(rig.now);
        assert_eq!(rig.actions(), [], "it connects already");
        rig.machine.connected(rig.now);
        rig.receive(&format!("{INFO}\r\n"));
        assert!(rig.sent().contains("\"pass\":\"pencil\""));
    }
    waiting.machine.drain(waiting.now);
    waiting.actions();
    waiting.machine.log_in_again(waiting.now);
    assert!(waiting.machine.is_over() && waiting.actions().is_empty());
}

#[test]
fn what_does_not_follow_the_protocol_ends_the_connection() {
    for text in
        ["HELLO\r\n", "PONG\r\n", "INFO {}\r\n", "INFO nonsense\r\n", "-ERR 'x'\r\n", "MSG a 1 0\r\n\r\n"]
    {
        let mut rig = Rig::new(settings());
        rig.actions();
        rig.machine.connected(rig.now);
        assert_eq!(rig.receive(text), [""; 0]);
        assert_eq!((rig.actions(), rig.sent().as_str()), (vec![Action::HangUp], ""), "{text}");
    }
    for text in ["MSG a 1 0\r\n\r\n", "MSG a 1 9999\r\n", "nonsense\r\n"] {
        let mut rig = Rig::new(settings());
        rig.actions();
        rig.machine.connected(rig.now);
        rig.receive(&format!("{INFO}\r\n{text}PONG\r\n"));
        assert_eq!((rig.actions(), rig.machine.is_ready()), (vec![Action::HangUp], false), "{text}");
    }
}

#[test]
fn a_drained_machine_passes_on_what_is_on_its_way() {
    let mut rig = Rig::ready();
    let subscription = rig.subscribe("a").unwrap();
    assert_eq!(subscription, SubscriptionId(2));
    rig.publish("b", b"x").unwrap();
    rig.machine.drain(rig.now);
    assert_eq!(rig.sent(), "SUB a 2\r\nPUB b 1\r\nx\r\nUNSUB 1\r\nUNSUB 2\r\nPING\r\n");
    assert_eq!(rig.publish("b", b"x"), Err(NotSent::NotReady));
    assert_eq!(rig.receive("MSG a 2 1\r\ny\r\nPONG\r\n"), ["2 a y"]);
    assert!(rig.machine.is_over() && rig.machine.next_deadline().is_none());
    assert_eq!(rig.actions(), [Action::HangUp]);

    let mut silent = Rig::ready();
    silent.machine.drain(silent.now);
    silent.pass(5_000);
    assert!(silent.machine.is_over());
    let mut waiting = Rig::new(settings());
    waiting.machine.drain(waiting.now);
    assert!(waiting.machine.is_over());
}

#[test]
fn a_server_that_is_about_to_end_is_noted() {
    let mut rig = Rig::ready();
    let info = format!("{},\"ldm\":true}}\r\n", INFO.trim_end_matches('}'));
    rig.receive(&info);
    rig.receive(&info);
    assert!(rig.machine.server().is_lame_duck && rig.machine.is_ready());
    assert_eq!(rig.lines().len(), 1);
}
