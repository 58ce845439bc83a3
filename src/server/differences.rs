//! What differs between two settings, keyword by keyword, in words for the log. Each kind of settings is taken apart
//! completely, so that nothing that is new can be forgotten here.

use std::path::Path;

use crate::base::escape::Escaped;
use crate::core::limits::Limits;
use crate::core::listener::{ListenerOptions, UserNameSource};
use crate::core::switches::Switches;
use crate::protocol::proxy::Proxy;
use crate::settings::{
    Durability, Listener, Log, LogDestination, LogKinds, LogTime, OnDamage, Persistence, Process, Protocol,
    Security, Settings, Tls,
};

/// Keywords and what was said of each.
type Said = Vec<(&'static str, String)>;

const NONE: &str = "none";

/// A line for each keyword of which something else is said now. Both are said of the same keywords.
pub(super) fn differences<T>(old: &T, new: &T, said: fn(&T) -> Said) -> Vec<String> {
    let pairs = said(old).into_iter().zip(said(new));
    let changed = pairs.filter(|((_, old), (_, new))| old != new);
    changed.map(|((keyword, old), (_, new))| format!("{keyword} was {old} and is {new} now")).collect()
}

fn or_none(text: Option<impl ToString>) -> String {
    text.map_or_else(|| NONE.to_owned(), |text| text.to_string())
}

fn path(path: Option<&Path>) -> String {
    or_none(path.map(|path| Escaped(&path.display().to_string()).to_string()))
}

/// The greatest number stands for as much as there can be.
fn bound(number: usize) -> String {
    or_none(Some(number).filter(|&number| number < usize::MAX))
}

fn list(words: impl IntoIterator<Item = impl ToString>) -> String {
    let words: Vec<String> = words.into_iter().map(|word| Escaped(&word.to_string()).to_string()).collect();
    if words.is_empty() { NONE.to_owned() } else { words.join(" ") }
}

/// Said of the whole broker, and at once in force. Limits that no keyword is about are left out, and so are those that
/// follow from others.
pub(super) fn of_limits(limits: &Limits) -> Said {
    let &Limits {
        steps_per_turn: _,
        memory,
        connect_packet_size: _,
        packet_size,
        payload_size,
        connections,
        sessions,
        outbox_bytes: _,
        outbox_answer_bytes: _,
        outbox_refill_bytes: _,
        queue_length,
        burst_bytes,
        queue_bytes,
        in_flight,
        receive_maximum,
        topic_alias_maximum: _,
        subscriptions_per_session,
        matches_per_session,
        subscriptions: _,
        retained_count: _,
        retained_bytes: _,
        session_expiry_maximum,
        keep_alive_maximum,
        connect_timeout: _,
        admission_wait: _,
        linger: _,
        retry_interval,
    } = limits;
    let queue_length = match burst_bytes {
        0 => bound(queue_length),
        _ => format!("{} behind {burst_bytes} bytes", bound(queue_length)),
    };
    let in_flight = match receive_maximum {
        _ if receive_maximum == in_flight => in_flight.to_string(),
        _ => format!("{in_flight} out and {receive_maximum} in"),
    };
    let expiry = Some(session_expiry_maximum).filter(|&seconds| seconds < u32::MAX);
    vec![
        ("memory_limit", or_none(memory)),
        ("max_packet_size", packet_size.to_string()),
        ("message_size_limit", bound(payload_size)),
        ("global_max_connections", bound(connections)),
        ("global_max_clients", bound(sessions)),
        ("max_queued_messages", queue_length),
        ("max_queued_bytes", bound(queue_bytes)),
        ("max_inflight_messages", in_flight),
        ("max_subscriptions", bound(subscriptions_per_session)),
        ("max_matching_subscriptions", bound(matches_per_session)),
        ("persistent_client_expiration", or_none(expiry.map(|seconds| format!("{seconds}s")))),
        ("max_keepalive", keep_alive_maximum.to_string()),
        ("retry_interval", retry_interval.seconds().to_string()),
    ]
}

/// What the whole broker does or leaves, at once as well.
pub(super) fn of_switches(switches: &Switches) -> Said {
    let &Switches { retain_available, queues_at_most_once, raises_qos } = switches;
    vec![
        ("retain_available", retain_available.to_string()),
        ("queue_qos0_messages", queues_at_most_once.to_string()),
        ("upgrade_outgoing_qos", raises_qos.to_string()),
    ]
}

/// Of all settings those that belong to nothing else.
pub(super) fn of_interval(settings: &Settings) -> Said {
    vec![("sys_interval", settings.system_interval.map_or(0, |interval| interval.seconds()).to_string())]
}

/// How the broker's log is written, at once.
pub(super) fn of_log(log: &Log) -> Said {
    let Log { destinations, kinds, time, has_connections } = log;
    let destination = |destination: &LogDestination| match destination {
        LogDestination::StandardError => "stderr".to_owned(),
        LogDestination::StandardOutput => "stdout".to_owned(),
        LogDestination::File(file) => format!("file {}", path(Some(file))),
        LogDestination::Syslog(None) => "syslog".to_owned(),
        LogDestination::Syslog(Some(facility)) => format!("syslog at local{facility}"),
        LogDestination::Topic => "topic".to_owned(),
    };
    let destinations: Vec<String> = destinations.iter().map(destination).collect();
    let time = match time {
        LogTime::None => NONE.to_owned(),
        LogTime::Epoch => "seconds since 1970".to_owned(),
        LogTime::Format(format) => Escaped(format).to_string(),
    };
    vec![
        ("log_dest", or_none(Some(destinations.join(", ")).filter(|text| !text.is_empty()))),
        ("log_type", of_kinds(*kinds)),
        ("log_timestamp", time),
        ("connection_messages", has_connections.to_string()),
    ]
}

fn of_kinds(kinds: LogKinds) -> String {
    let LogKinds { error, warning, notice, information, debug, subscribe, unsubscribe, websockets, internal } =
        kinds;
    let kinds = [
        (error, "error"),
        (warning, "warning"),
        (notice, "notice"),
        (information, "information"),
        (debug, "debug"),
        (subscribe, "subscribe"),
        (unsubscribe, "unsubscribe"),
        (websockets, "websockets"),
        (internal, "internal"),
    ];
    list(kinds.into_iter().filter(|(is_on, _)| *is_on).map(|(_, name)| name))
}

/// What waits for a restart.
pub(super) fn of_persistence(persistence: &Option<Persistence>) -> Said {
    let mut said = vec![("persistence", persistence.is_some().to_string())];
    let Some(Persistence { directory, file, durability, commit_delay, on_damage }) = persistence else {
        return said;
    };
    let durability = match durability {
        Durability::Always => "always",
        Durability::EverySecond => "every_second",
        Durability::None => NONE,
    };
    let on_damage = match on_damage {
        OnDamage::Refuse => "refuse",
        OnDamage::SetAside => "set_aside",
    };
    said.extend([
        ("persistence_location", path(Some(directory))),
        ("persistence_file", Escaped(file).to_string()),
        ("durability", durability.to_owned()),
        ("commit_delay", commit_delay.milliseconds().to_string()),
        ("persistence_damaged", on_damage.to_owned()),
    ]);
    said
}

/// What waits for a restart, too. The rest is the command line's and the environment's.
pub(super) fn of_process(process: &Process) -> Said {
    let Process { user, user_number: _, group_number: _, file_mask: _, pid_file, is_daemon: _ } = process;
    vec![("user", or_none(user.as_deref().map(Escaped))), ("pid_file", path(pid_file.as_deref()))]
}

/// What of a listener is in force for all who came in by it.
pub(super) fn of_rights(listener: &Listener) -> Said {
    let Security { allows_anonymous, passwords, access, checks_retain_source, password_attempts } =
        &*listener.security;
    let attempts = Some(*password_attempts).filter(|&attempts| attempts > 0);
    vec![
        ("allow_anonymous", allows_anonymous.to_string()),
        ("password_file", path(passwords.as_deref())),
        ("acl_file", path(access.as_deref())),
        ("check_retain_source", checks_retain_source.to_string()),
        ("max_password_attempts", or_none(attempts)),
        ("max_connections", bound(listener.connections)),
    ]
}

/// What of a listener is asked of those who come.
pub(super) fn of_entrance(listener: &Listener) -> Said {
    let Listener {
        place: _,
        name,
        address: _,
        interface: _,
        protocol,
        tls,
        proxy,
        proxies,
        connections: _,
        rules,
        security: _,
    } = listener;
    let (protocol_name, origins, headers) = match protocol {
        Protocol::Mqtt => ("mqtt", NONE.to_owned(), NONE.to_owned()),
        Protocol::WebSocket { origins, headers } => ("websockets", list(origins), headers.to_string()),
    };
    let (header, requires_tls) = match proxy {
        None => (NONE, false),
        Some(Proxy::V1) => ("1", false),
        Some(Proxy::V2 { requires_tls }) => ("2", *requires_tls),
    };
    let mut said = vec![
        ("listener_name", or_none(name.as_deref().map(Escaped))),
        ("protocol", protocol_name.to_owned()),
        ("websockets_origin", origins),
        ("websockets_headers_size", headers),
        ("enable_proxy_protocol", header.to_owned()),
        ("proxy_protocol_v2_require_tls", requires_tls.to_string()),
        ("proxy_trusted_source", list(proxies)),
    ];
    said.extend(of_tls(tls.as_ref()));
    said.extend(of_rules(rules));
    said
}

fn of_tls(tls: Option<&Tls>) -> Said {
    let versions = match tls {
        None => NONE,
        Some(Tls { is_1_3_only: true, .. }) => "tlsv1.3",
        Some(Tls { is_1_3_only: false, .. }) => "tlsv1.2",
    };
    vec![
        ("certfile", path(tls.map(|tls| &*tls.certificate))),
        ("keyfile", path(tls.map(|tls| &*tls.key))),
        ("cafile", path(tls.and_then(|tls| tls.authorities.as_deref()))),
        ("capath", path(tls.and_then(|tls| tls.authorities_directory.as_deref()))),
        ("crlfile", path(tls.and_then(|tls| tls.revoked.as_deref()))),
        ("require_certificate", tls.is_some_and(|tls| tls.requires_certificate).to_string()),
        ("tls_version", versions.to_owned()),
    ]
}

/// Of those that follow from limits, the limits are told.
fn of_rules(rules: &ListenerOptions) -> Said {
    let ListenerOptions {
        versions,
        maximum_qos,
        packet_size: _,
        keep_alive_maximum: _,
        topic_alias_maximum,
        outbound_topic_alias_maximum,
        mount_point,
        allows_empty_client_identifier,
        drawn_prefix,
        user_name_is_client_identifier,
        client_identifier_prefixes,
        user_name,
    } = rules;
    let spoken = versions.iter().zip(["3", "4", "5"]).filter(|(is_spoken, _)| **is_spoken);
    vec![
        ("accept_protocol_versions", list(spoken.map(|(_, name)| name))),
        ("max_qos", maximum_qos.level().to_string()),
        ("max_topic_alias", topic_alias_maximum.to_string()),
        ("max_topic_alias_broker", outbound_topic_alias_maximum.to_string()),
        ("mount_point", or_none(mount_point.as_deref().map(Escaped))),
        ("allow_zero_length_clientid", allows_empty_client_identifier.to_string()),
        ("auto_id_prefix", Escaped(drawn_prefix).to_string()),
        ("use_username_as_clientid", user_name_is_client_identifier.to_string()),
        ("clientid_prefixes", list(client_identifier_prefixes)),
        ("use_identity_as_username", (*user_name == UserNameSource::CommonName).to_string()),
        ("use_subject_as_username", (*user_name == UserNameSource::Subject).to_string()),
    ]
}
