//! The changes of a reload, found by comparing two configurations.

use brooklet::config::file;
use brooklet::server::plan::{Changes, plan};
use brooklet::settings::Settings;

fn settings(text: &str) -> Settings {
    let (settings, findings) = crate::settle::settle(text);
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
    assert_eq!(plan.staying, [(1, 0), (0, 1)]);
    assert_eq!((plan.added, plan.removed), (vec![], vec![]));
}

#[test]
fn listeners_come_and_go_by_their_sockets() {
    let old = settings("listener 1883\nlistener 1884\n");
    let new = settings("listener 0 /run/a\nlistener 1884\nlistener 1883 ::1\n");
    let plan = plan(&old.listeners, &new.listeners);
    assert_eq!(plan.staying, [(1, 1)]);
    assert_eq!((plan.added, plan.removed), (vec![0, 2], vec![0]));
    let expected = [
        "Listener at socket /run/a added.",
        "Listener at port 1883 of ::1 added.",
        "Listener at port 1883 removed.",
    ];
    let changes = file::changes(&old, &new);
    assert_eq!(changes.applied, expected);
    assert!(changes.waiting.is_empty());
}

/// The old text, the new one, the reported changes that are in force, and those that wait for a restart.
const TOLD: &[(&str, &str, &str, &str)] = &[
    ("", "max_queued_messages 5", "max_queued_messages changed from 1000 after 4194304 bytes to 5.", ""),
    ("", "retry_interval 5", "retry_interval changed from 20 to 5.", ""),
    ("message_size_limit 10", "message_size_limit 0", "message_size_limit changed from 10 to none.", ""),
    ("max_packet_size 500", "max_packet_size 400", "max_packet_size changed from 500 to 400.", ""),
    ("", "max_inflight_messages 512", "max_inflight_messages changed from 512 out and 1024 in to 512.", ""),
    (
        "max_inflight_messages 20",
        "max_inflight_messages 20000",
        "max_inflight_messages changed from 20 to 16384 out and 20000 in.",
        "",
    ),
    ("", "persistent_client_expiration 1d", "expiration changed from none to 86400s.", ""),
    ("memory_limit 8M", "", "memory_limit changed from 8388608 to none.", ""),
    ("log_type error", "log_type debug", "log_type changed from error to debug.", ""),
    ("", "log_dest file /a", "log_dest changed from stderr to file /a.", ""),
    ("", "sys_interval 0", "sys_interval changed from 10 to 0.", ""),
    (
        "",
        "persistence true",
        "",
        "persistence changed from false to true, which takes effect after a restart.",
    ),
    ("user a", "user b", "", "user changed from a to b, which takes effect after a restart."),
    (
        "persistence true",
        "persistence true\ndurability everysec",
        "",
        "durability changed from always to everysec",
    ),
    ("", "pid_file /a", "", "pid_file changed from none to /a, which takes effect after a restart."),
    ("listener 1", "listener 1\nallow_anonymous true", "allow_anonymous changed from false to true.", ""),
    (
        "listener 1",
        "listener 1\nmount_point a/",
        "mount_point changed from none to a/, for new connections",
        "",
    ),
    ("listener 1", "listener 1\nenable_proxy_protocol 1", "enable_proxy_protocol changed from none to 1", ""),
    ("listener 1", "listener 1\nmax_topic_alias_broker 9", "max_topic_alias_broker changed from 32 to 9", ""),
    ("listener 1", "listener 1\nmax_connections 3", "max_connections changed from none to 3.", ""),
    (
        "listener 1",
        "listener 1\nmax_password_attempts 0",
        "max_password_attempts changed from 10 to none.",
        "",
    ),
];

#[test]
fn applied_and_waiting_changes_are_reported() {
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
    for part in [
        "protocol changed from mqtt to websockets",
        "certfile changed from none to /c",
        "keyfile changed from none to /k",
    ] {
        let naming = changes.applied.iter().filter(|line| line.contains(part));
        assert_eq!(naming.count(), 1, "{part}: {changes:?}");
    }
    assert!(changes.applied.iter().all(|line| line.starts_with("Listener at port 1: ")), "{changes:?}");
}

#[cfg(feature = "bridge")]
#[test]
fn bridges_come_go_and_change_by_their_names() {
    const ONE: &str = "connection one\naddress a\ntopic #\n";
    const TWO: &str = "connection two\naddress a\ntopic #\n";
    let told = |old: &str, new: &str| {
        let changes = changes(old, new);
        assert!(changes.waiting.is_empty());
        changes.applied
    };
    assert!(told(&format!("{ONE}{TWO}"), &format!("\n{TWO}{ONE}")).is_empty(), "they moved within the file");
    assert_eq!(told(ONE, TWO), ["Bridge two added.", "Bridge one removed."]);
    let lazily = |line: &str| told(ONE, &format!("{ONE}{line}\n"));
    let end = "from its next connection on.";
    assert_eq!(
        lazily("keepalive_interval 7\nbridge_tcp_user_timeout 60000"),
        [format!("Bridge one: keepalive_interval changed from 60 to 7, {end}")]
    );
    assert_eq!(
        lazily("topic \"a b\" in 1 \"\" r/"),
        [format!("Bridge one: topic changed from # out 0 to # out 0, \"a b\" in 1 \"\" r/, {end}")]
    );
    assert_eq!(
        told(ONE, "connection one\naddress a [::1]:7\ntopic #\nbridge_reload_type immediate"),
        [
            "Bridge one: address changed from a:1883 to a:1883 [::1]:7.",
            "Bridge one: bridge_reload_type changed from lazy to immediate.",
        ]
    );
    assert_eq!(
        lazily("restart_timeout 5 30 60"),
        [format!("Bridge one: restart_timeout changed from 5 30 to 5 30 60, {end}")]
    );
    assert_eq!(
        lazily("restart_timeout 9"),
        [format!("Bridge one: restart_timeout changed from 5 30 to 9, {end}")]
    );
    assert_eq!(
        lazily("start_type lazy"),
        [format!("Bridge one: start_type changed from automatic to lazy, {end}")]
    );
}

/// That a password changed is reported, but not the password.
#[cfg(feature = "bridge")]
#[test]
fn changed_passwords_are_not_shown() {
    for which in ["remote", "local"] {
        let with = |password: &str| {
            let user = format!("{which}_username u\n");
            let line =
                if password.is_empty() { String::new() } else { format!("{which}_password {password}\n") };
            format!("connection one\naddress a\ntopic #\nbridge_reload_type immediate\n{user}{line}")
        };
        let line = |end: &str| [format!("Bridge one: {which}_password changed{end}.")];
        assert_eq!(changes(&with("first"), &with("second")).applied, line(""));
        assert_eq!(changes(&with(""), &with("second")).applied, line(" from none to a secret"));
        assert_eq!(changes(&with("first"), &with("")).applied, line(" from a secret to none"));
        assert!(changes(&with("first"), &with("first")).is_empty());
    }
}
