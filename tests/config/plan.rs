//! What a reload changes, told from two configurations.

use brooklet::config::{self, CommandLine, Step};
use brooklet::server::plan::{Plan, changes};
use brooklet::settings::Settings;

fn settings(text: &str) -> Settings {
    let (statements, findings) = config::parse(text.as_bytes(), "a.conf");
    assert!(findings.is_empty(), "{findings:?}");
    let steps: Vec<Step> = statements.into_iter().map(Step::Say).collect();
    let (settings, findings) = config::settle(&steps, &CommandLine::default());
    assert!(findings.iter().all(|finding| !finding.is_error), "{findings:?}");
    settings
}

fn plan(old: &str, new: &str) -> Plan {
    changes(&settings(old), &settings(new))
}

#[test]
fn the_same_settings_change_nothing_wherever_they_are_written() {
    let plan = plan(
        "listener 1883\nlistener 8883\nmax_qos 1\n",
        "# moved\n\nlistener 8883\nmax_qos 1\nlistener 1883\n",
    );
    assert!(plan.is_empty(), "{plan:?}");
    assert_eq!(plan.kept, [(1, 0), (0, 1)]);
    assert_eq!((plan.added, plan.removed), (vec![], vec![]));
}

#[test]
fn listeners_come_and_go_by_their_sockets() {
    let plan =
        plan("listener 1883\nlistener 1884\n", "listener 0 /run/a\nlistener 1884\nlistener 1883 ::1\n");
    assert_eq!(plan.kept, [(1, 1)]);
    assert_eq!((plan.added, plan.removed), (vec![0, 2], vec![0]));
    let expected = [
        "Listener at socket /run/a is new.",
        "Listener at port 1883 of ::1 is new.",
        "Listener at port 1883 is gone.",
    ];
    assert_eq!(plan.applied, expected);
    assert!(plan.waiting.is_empty());
}

#[test]
fn what_is_applied_and_what_waits_is_told() {
    for (old, new, applied, waiting) in [
        ("", "max_queued_messages 5", "Limits changed.", ""),
        ("", "log_type debug", "Log settings changed.", ""),
        ("", "sys_interval 0", "The interval of $SYS changed.", ""),
        ("", "persistence true", "", "A change of persistence takes effect after a restart."),
        ("user a", "user b", "", "A change of 'user' takes effect after a restart."),
        ("", "pid_file /a", "", "A change of 'pid_file' takes effect after a restart."),
        ("listener 1", "listener 1\nallow_anonymous true", "who may come in changed.", ""),
        ("listener 1", "listener 1\nmount_point a/", "what clients may ask for changed", ""),
        ("listener 1", "listener 1\nprotocol websockets", "what is spoken there changed", ""),
        ("listener 1", "listener 1\nenable_proxy_protocol 1", "what is spoken there changed", ""),
        ("listener 1", "listener 1\nmax_connections 3", "how many may be connected changed.", ""),
        ("listener 1", "listener 1\ncertfile /c\nkeyfile /k", "TLS changed", ""),
    ] {
        let plan = plan(old, new);
        for (lines, expected) in [(&plan.applied, applied), (&plan.waiting, waiting)] {
            assert_eq!(lines.len(), usize::from(!expected.is_empty()), "{new}: {plan:?}");
            assert!(lines.iter().all(|line| line.contains(expected)), "{new}: {plan:?}");
        }
        assert!(!plan.is_empty());
    }
}
