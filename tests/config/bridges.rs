//! Bridges: what each keyword sets, and what is reported.

use brooklet::config::file::{self, CommandLine, Finding, Step};
use brooklet::protocol::codec::QoS;
use brooklet::settings::{Bridge, BridgeTopic, Direction, RemoteAddress};

use crate::settle::settle;

/// The start of a valid bridge.
const START: &str = "connection NAME\naddress a.example\ntopic #\n";

/// The findings as text.
fn told(text: &str) -> Vec<String> {
    let kind = |finding: &Finding| if finding.is_error { "error" } else { "warning" };
    let line = |finding: &Finding| {
        format!("{} {}:{}: {}", kind(finding), finding.place.line, finding.place.column, finding.text)
    };
    settle(text).1.iter().map(line).collect()
}

/// The only bridge, with these lines after the others; `None` if there is an error.
pub fn bridge(lines: &str) -> Option<Bridge> {
    let (settings, findings) = settle(&format!("{START}{lines}\n"));
    let [bridge] = &settings.bridges[..] else { panic!("there is one bridge") };
    (!findings.iter().any(|finding| finding.is_error)).then(|| bridge.clone())
}

/// Which fields of a bridge differ with these lines.
fn effect(old: &str, lines: &str) -> String {
    let fields = |lines: &str| match bridge(lines) {
        Some(bridge) => format!("{bridge:?}"),
        None => panic!("{:?}", told(&format!("{START}{lines}\n"))),
    };
    let (old, new) = (fields(old), fields(lines));
    let mut old: Vec<&str> = old.split(", ").collect();
    let mut changed = Vec::new();
    for field in new.split(", ") {
        match old.iter().position(|other| *other == field) {
            Some(at) => drop(old.remove(at)),
            None => changed.push(field),
        }
    }
    changed.join(", ")
}

/// Each keyword with a value that is not the default, and the fields that it changes.
const EFFECTS: &[(&str, &str)] = &[
    ("try_private false", "tries_private: false"),
    ("bridge_protocol_version mqttv31", "version: V31"),
    ("bridge_protocol_version mqttv50", "version: V5"),
    ("bridge_outgoing_retain false", "forwards_retain: false"),
    ("bridge_max_packet_size 100", "packet_size: Some(100)"),
    ("bridge_max_packet_size 0", ""),
    ("bridge_max_topic_alias 0", "topic_alias_maximum: 0"),
    ("bridge_receive_maximum 5", "receive_maximum: 5"),
    ("max_inflight_messages 30", "receive_maximum: 30"),
    ("bridge_session_expiry_interval 60", "session_expiry: 60"),
    ("bridge_session_expiry_interval 0xFFFFFFFF", ""),
    ("bridge_tcp_keepalive 60 10 3", "tcp_keepalive: Some([60, 10, 3])"),
    ("bridge_tcp_user_timeout 1500", "tcp_user_timeout: Some(Duration(1500))"),
    ("bridge_tcp_user_timeout 0", "tcp_user_timeout: None"),
    ("bridge_bind_address ::1", "from: Some(::1)"),
    ("notifications false", "notifications: None"),
    ("notifications_local_only true", "is_local_only: true })"),
    ("notification_topic t", "notifications: Some(Notifications { topic: \"t\""),
    ("cleansession true", "is_clean: true, session_expiry: 0, is_clean: true }"),
    ("cleansession true\nlocal_cleansession false", "is_clean: true, session_expiry: 0"),
    ("local_cleansession true", "is_clean: true }"),
    ("start_type once", "start: Once"),
    ("start_type lazy", "start: Lazy { threshold: 10, idle: Duration(60000) }"),
    ("start_type lazy\nthreshold 3", "start: Lazy { threshold: 3, idle: Duration(60000) }"),
    ("start_type lazy\nidle_timeout 7", "start: Lazy { threshold: 10, idle: Duration(7000) }"),
    ("keepalive_interval 20", "keep_alive: 20, tcp_user_timeout: Some(Duration(20000))"),
    ("restart_timeout 20", "restart: Restart { least: Duration(20000), most: Duration(20000)"),
    ("restart_timeout 10 60", "restart: Restart { least: Duration(10000), most: Duration(60000)"),
    ("restart_timeout 5 30 9", "stable: Duration(9000) }"),
    ("round_robin true", "is_round_robin: true"),
    ("bridge_reload_type immediate", "reload: Immediate"),
    ("bridge_attempt_unsubscribe false", "unsubscribes: false }"),
    (
        "remote_clientid r",
        "remote: Remote { client_identifier: \"r\", local: Local { client_identifier: \"local.r\", notifications: \
         Some(Notifications { topic: \"$SYS/broker/connection/r/state\"",
    ),
    (
        "clientid r\nlocal_clientid l\nnotifications false",
        "remote: Remote { client_identifier: \"r\", local: Local { client_identifier: \"l\", notifications: None",
    ),
    ("local_clientid l", "local: Local { client_identifier: \"l\""),
    ("remote_username u", "user_name: Some(\"u\")"),
    ("username u", "user_name: Some(\"u\")"),
    ("username u\nremote_password p q # r", "user_name: Some(\"u\"), password: Some(\"p q # r\")"),
    ("username u\npassword p", "user_name: Some(\"u\"), password: Some(\"p\")"),
    ("local_username u", "user_name: Some(\"u\")"),
    ("local_username u\nlocal_password p", "user_name: Some(\"u\"), password: Some(\"p\")"),
    ("bridge_max_queued_messages 9", "queue: BridgeQueue { length: Some(9)"),
    ("bridge_max_queued_messages 0", "queue: BridgeQueue { length: Some(18446744073709551615)"),
    ("bridge_queue_drop oldest", "drops: Oldest"),
    ("bridge_max_age 3", "age: Some(Duration(3000))"),
    ("bridge_max_age 0", ""),
    ("bridge_drain_rate 4", "rate: Some(4)"),
    ("bridge_drain_rate 0", ""),
    ("bridge_max_retained_changes 0", "retained_changes: 0 } }"),
    ("bridge_require_ocsp false", ""),
    ("bridge_insecure false", ""),
];

/// The same for keywords of TLS, with the authorities of the system.
#[cfg(feature = "tls")]
const EFFECTS_ON_TLS: &[(&str, &str)] = &[
    (
        "",
        "tls: Some(ClientTls { trust: Trust { place: \"a.conf:4\", authorities: None, authorities_directory: None }, \
         trusts_system: true, identity: None, ignores_name: false, alpn: None, is_1_3_only: false })",
    ),
    (
        "bridge_cafile /c",
        "tls: Some(ClientTls { trust: Trust { place: \"a.conf:5\", authorities: Some(\"/c\")",
    ),
    (
        "bridge_capath /d",
        "tls: Some(ClientTls { trust: Trust { place: \"a.conf:5\", authorities_directory: Some(\"/d\") }",
    ),
    ("bridge_certfile /c\nbridge_keyfile /k", "identity: Some([\"/c\", \"/k\"])"),
    ("bridge_insecure true", "ignores_name: true"),
    ("bridge_alpn mqtt", "alpn: Some(\"mqtt\")"),
    ("bridge_tls_version tlsv1.3", "is_1_3_only: true })"),
    ("bridge_tls_version tlsv1.2", ""),
];

#[test]
fn each_keyword_sets_its_field() {
    for (lines, expected) in EFFECTS {
        assert_eq!(effect("", lines), *expected, "{lines}");
    }
}

#[cfg(feature = "tls")]
#[test]
fn each_keyword_of_tls_sets_its_field() {
    let (first, others) = EFFECTS_ON_TLS.split_first().expect("it is not empty");
    const TLS: &str = "bridge_tls_use_os_certs true\n";
    assert_eq!(effect("", TLS), first.1);
    for (lines, expected) in others {
        assert_eq!(effect(TLS, &format!("{TLS}{lines}")), *expected, "{lines}");
    }
}

/// A reload reports each difference, but not that a bridge has moved within its file.
#[cfg(all(feature = "system", feature = "tls"))]
#[test]
fn a_reload_reports_each_difference() {
    let of = |lines: &str| settle(&format!("{START}{lines}\n")).0;
    let compare = |old: &str, new: &str| {
        let (old, new) = (of(old), of(new));
        let is_same = new.bridges[0].has_settings_of(&old.bridges[0]);
        assert_eq!(brooklet::config::file::changes(&old, &new).is_empty(), is_same, "{new:?}");
        is_same
    };
    for (lines, expected) in EFFECTS {
        assert_eq!(compare("", lines), expected.is_empty(), "{lines}");
        assert!(compare(lines, &format!("\n{lines}")), "{lines}");
    }
    const TLS: &str = "bridge_tls_use_os_certs true\n";
    for (lines, expected) in EFFECTS_ON_TLS {
        assert_eq!(
            compare(TLS, &format!("{TLS}{lines}")),
            expected.is_empty() || lines.is_empty(),
            "{lines}"
        );
        assert!(compare(&format!("{TLS}{lines}"), &format!("\n{TLS}\n{lines}")), "{lines}");
    }
    for lines in ["topic a", "bridge_tls_use_os_certs true"] {
        assert!(!compare("", lines), "{lines}");
    }
}

/// A keyword that is not in the tables could have no effect.
#[cfg(all(feature = "system", feature = "tls"))]
#[test]
fn the_tables_have_every_keyword_of_a_bridge() {
    use brooklet::config::file::keywords::keywords;

    const ELSEWHERE: [&str; 4] = ["address", "addresses", "bridge_tls_use_os_certs", "topic"];
    let rich = bridge("start_type lazy\nbridge_tls_use_os_certs true").expect("it is valid");
    let of_bridges: Vec<&str> = keywords()
        .filter(|keyword| keyword.value_of_bridge(&rich).is_some())
        .map(|keyword| keyword.name)
        .collect();
    let other_names = keywords().filter(|it| it.alias_of().is_some_and(|it| of_bridges.contains(&it)));
    let names: Vec<&str> =
        of_bridges.iter().copied().chain(other_names.map(|keyword| keyword.name)).collect();
    assert!(names.len() > 40, "{names:?}");
    let lines: Vec<&str> =
        EFFECTS.iter().chain(EFFECTS_ON_TLS).flat_map(|(lines, _)| lines.lines()).collect();
    for name in names.into_iter().filter(|name| !ELSEWHERE.contains(name)) {
        let is_there = lines.iter().any(|line| line.split(' ').next() == Some(name));
        assert!(is_there, "{name}");
    }
}

#[test]
fn a_bridge_has_its_name_its_addresses_and_its_rules() {
    let (settings, findings) = settle(
        "connection first more\naddresses a b:8883\nround_robin true\ntopic # both 1 l/ r/\ntopic a in\n\
         listener 1\nconnection second\naddress [::1]:7 # c\ntopic \"\" out 2 l r\n",
    );
    let told: Vec<&str> = findings.iter().map(|finding| &*finding.text).collect();
    assert_eq!(told, ["'more' after the value of 'connection' is ignored"]);
    let [first, second] = &settings.bridges[..] else { panic!("there are two") };
    assert_eq!((&*first.name, &*first.place, first.is_round_robin), ("first", "a.conf:1", true));
    assert_eq!((&*second.name, &*second.place, second.is_round_robin), ("second", "a.conf:7", false));
    let address = |host: &str, port| RemoteAddress { host: host.to_owned(), port };
    assert_eq!(first.addresses, [address("a", 1883), address("b", 8883)]);
    assert_eq!(second.addresses, [address("::1", 7)]);
    let rule = |pattern: &str, direction, qos, local: &str, remote: &str| BridgeTopic {
        pattern: pattern.into(),
        direction,
        qos,
        local_prefix: local.into(),
        remote_prefix: remote.into(),
    };
    let expected = [
        rule("#", Direction::Both, QoS::AtLeastOnce, "l/", "r/"),
        rule("a", Direction::In, QoS::AtMostOnce, "", ""),
    ];
    assert_eq!(first.topics, expected);
    assert_eq!(second.topics, [rule("", Direction::Out, QoS::ExactlyOnce, "l", "r")]);
}

#[test]
fn a_machine_without_a_name_needs_client_identifiers() {
    for (name, line, is_good) in [
        (None, "", false),
        (Some(""), "", false),
        (Some("a\0"), "", false),
        (None, "remote_clientid a", true),
        (Some("a"), "", true),
        (Some("a+b"), "", false),
        (Some("a+b"), "notifications false", true),
    ] {
        let (statements, _) = file::parse(format!("{START}{line}\n").as_bytes(), "a.conf");
        let steps: Vec<Step> = statements.into_iter().map(Step::Statement).collect();
        let given = CommandLine { host_name: name.map(str::to_owned), ..CommandLine::default() };
        let (_, findings) = file::settle(&steps, &given);
        assert_eq!(findings.is_empty(), is_good, "{name:?} {line}: {findings:?}");
    }
}

/// Only with access rules does it matter that they do not apply.
#[test]
fn a_bridge_without_a_user_is_reported_if_there_are_rules() {
    let warning = "warning 1:1: access rules do not apply to bridge 'NAME', which has no 'local_username'";
    assert!(told(START).is_empty());
    assert_eq!(told(&format!("{START}acl_file /a\n")), [warning]);
    assert!(told(&format!("{START}local_username u\nacl_file /a\n")).is_empty());
    assert!(told(&format!("{START}password_file /p\n")).is_empty(), "passwords are no rules");
    let own = "per_listener_settings true\nlistener 1\nlistener 2\nacl_file /a\n";
    assert_eq!(told(&format!("{START}{own}")), [warning]);
}

#[cfg(feature = "tls")]
#[test]
fn a_certificate_for_any_name_is_a_warning() {
    let told = told(&format!("{START}bridge_cafile /c\nbridge_insecure true\n"));
    let [warning] = &told[..] else { panic!("there is one: {told:?}") };
    assert!(
        warning.starts_with("warning 5:1: bridge 'NAME' accepts a certificate for any name"),
        "{warning}"
    );
}

/// Values that are out of range but harmless are replaced, as in mosquitto.
#[test]
fn low_and_high_values_are_replaced() {
    for (line, expected, warnings) in [
        ("keepalive_interval 4", "keep_alive: 5, tcp_user_timeout: Some(Duration(5000))", 1),
        ("keepalive_interval -1", "keep_alive: 5, tcp_user_timeout: Some(Duration(5000))", 1),
        ("start_type lazy\nthreshold 0", "start: Lazy { threshold: 1, idle: Duration(60000) }", 1),
        ("start_type lazy\nidle_timeout 0", "start: Lazy { threshold: 10, idle: Duration(1000) }", 1),
        ("restart_timeout 0", "restart: Restart { least: Duration(1000), most: Duration(1000)", 1),
        ("restart_timeout 4000", "restart: Restart { least: Duration(3600000), most: Duration(3600000)", 1),
        ("restart_timeout 5 8000", "most: Duration(7200000)", 1),
        ("bridge_max_packet_size -1", "", 0),
        ("topic #", "", 1),
    ] {
        assert_eq!(effect("", line), expected, "{line}");
        let told = told(&format!("{START}{line}\n"));
        assert_eq!(told.len(), warnings, "{told:?}");
        assert!(told.iter().all(|line| line.starts_with("warning ")), "{told:?}");
    }
}

/// Whatever is wrong with the lines around it, a password is in no message.
#[test]
fn passwords_are_in_no_message() {
    for keyword in ["remote_password", "password", "local_password", "bridge_psk"] {
        for before in ["", "listener 1\n", START, "connection a\n"] {
            let text = format!("{before}{keyword} s3cret # s3cret\n{keyword} s3cret\n\t{keyword}\ts3cret");
            let told = told(&text);
            assert!(!told.is_empty() && told.iter().all(|line| !line.contains("s3cret")), "{told:?}");
        }
    }
}
