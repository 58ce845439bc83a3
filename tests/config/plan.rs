//! What a reload changes, told from two configurations.

use brooklet::config::file::{self, CommandLine, Step};
use brooklet::server::plan::{Changes, plan};
use brooklet::settings::Settings;

fn settings(text: &str) -> Settings {
    let (statements, findings) = file::parse(text.as_bytes(), "a.conf");
    assert!(findings.is_empty(), "{findings:?}");
    let steps: Vec<Step> = statements.into_iter().map(Step::Say).collect();
    let (settings, findings) = file::settle(&steps, &CommandLine::default());
    assert!(findings.iter().all(|finding| !finding.is_error), "{findings:?}");
    settings
}

fn changes(old: &str, new: &str) -> Changes {
    file::changes(&settings(old), &settings(new))
}

#[test]
fn the_same_settings_change_nothing_wherever_they_are_written() {
    let (old, new) = (
        settings("listener 1883\nlistener 8883\nmax_qos 1\n"),
        settings("# moved\n\nlistener 8883\nmax_qos 1\nlistener 1883\n"),
    );
    let changes = file::changes(&old, &new);
    assert!(changes.is_empty(), "{changes:?}");
    let plan = plan(&old.listeners, &new.listeners);
    assert_eq!(plan.kept, [(1, 0), (0, 1)]);
    assert_eq!((plan.added, plan.removed), (vec![], vec![]));
}

#[test]
fn listeners_come_and_go_by_their_sockets() {
    let old = settings("listener 1883\nlistener 1884\n");
    let new = settings("listener 0 /run/a\nlistener 1884\nlistener 1883 ::1\n");
    let plan = plan(&old.listeners, &new.listeners);
    assert_eq!(plan.kept, [(1, 1)]);
    assert_eq!((plan.added, plan.removed), (vec![0, 2], vec![0]));
    let expected = [
        "Listener at socket /run/a is new.",
        "Listener at port 1883 of ::1 is new.",
        "Listener at port 1883 is gone.",
    ];
    let changes = file::changes(&old, &new);
    assert_eq!(changes.applied, expected);
    assert!(changes.waiting.is_empty());
}

/// The old text, the new one, what is told to be in force, and what to wait for a restart.
const TOLD: &[(&str, &str, &str, &str)] = &[
    ("", "max_queued_messages 5", "max_queued_messages was 1000 behind 4194304 bytes and is 5 now.", ""),
    ("", "retry_interval 5", "retry_interval was 20 and is 5 now.", ""),
    ("max_packet_size 500", "max_packet_size 400", "max_packet_size was 500 and is 400 now.", ""),
    ("", "max_inflight_messages 512", "max_inflight_messages was 512 out and 1024 in and is 512 now.", ""),
    (
        "max_inflight_messages 20",
        "max_inflight_messages 20000",
        "max_inflight_messages was 20 and is 16384 out and 20000 in now.",
        "",
    ),
    ("", "persistent_client_expiration 1d", "expiration was none and is 86400s now.", ""),
    ("memory_limit 8M", "", "memory_limit was 8388608 and is none now.", ""),
    ("log_type error", "log_type debug", "log_type was error and is debug now.", ""),
    ("", "log_dest file /a", "log_dest was stderr and is file /a now.", ""),
    ("", "sys_interval 0", "sys_interval was 10 and is 0 now.", ""),
    (
        "",
        "persistence true",
        "",
        "persistence was false and is true now, which takes effect after a restart.",
    ),
    ("user a", "user b", "", "user was a and is b now, which takes effect after a restart."),
    (
        "persistence true",
        "persistence true\ndurability everysec",
        "",
        "durability was always and is everysec now",
    ),
    ("", "pid_file /a", "", "pid_file was none and is /a now, which takes effect after a restart."),
    ("listener 1", "listener 1\nallow_anonymous true", "allow_anonymous was false and is true now.", ""),
    ("listener 1", "listener 1\nmount_point a/", "mount_point was none and is a/ now, for those who", ""),
    ("listener 1", "listener 1\nenable_proxy_protocol 1", "enable_proxy_protocol was none and is 1 now", ""),
    ("listener 1", "listener 1\nmax_topic_alias_broker 9", "max_topic_alias_broker was 32 and is 9 now", ""),
    ("listener 1", "listener 1\nmax_connections 3", "max_connections was none and is 3 now.", ""),
    (
        "listener 1",
        "listener 1\nmax_password_attempts 0",
        "max_password_attempts was 10 and is none now.",
        "",
    ),
];

#[test]
fn what_is_applied_and_what_waits_is_told() {
    for &(old, new, applied, waiting) in TOLD {
        let changes = changes(old, new);
        for (lines, expected) in [(&changes.applied, applied), (&changes.waiting, waiting)] {
            assert_eq!(lines.len(), usize::from(!expected.is_empty()), "{new}: {changes:?}");
            assert!(lines.iter().all(|line| line.contains(expected)), "{new}: {changes:?}");
        }
        assert!(!changes.is_empty());
    }
}

#[test]
fn every_keyword_of_a_listener_is_named() {
    let changes = changes("listener 1", "listener 1\nprotocol websockets\ncertfile /c\nkeyfile /k");
    for part in
        ["protocol was mqtt and is websockets", "certfile was none and is /c", "keyfile was none and is /k"]
    {
        let naming = changes.applied.iter().filter(|line| line.contains(part));
        assert_eq!(naming.count(), 1, "{part}: {changes:?}");
    }
    assert!(changes.applied.iter().all(|line| line.starts_with("Listener at port 1: ")), "{changes:?}");
}
