//! The table of keywords: what each is about, what it may be given, and what becomes of it. The page "Coming from
//! mosquitto" in the README is checked against it.

use super::drafts::{Globals, ListenerDraft, SecurityDraft};
use super::values;
use crate::base::time::Duration;
use crate::core::limits::OUTBOUND_TOPIC_ALIAS_MAXIMUM;

/// One keyword.
#[derive(Debug)]
pub struct Keyword {
    /// As it is written; the beginning of a family of keywords.
    pub name: &'static str,
    /// What becomes of it.
    pub(super) meaning: Meaning,
    /// How it differs from mosquitto, why it may be ignored, or what is refused and was expected; empty where there
    /// is nothing to say.
    pub note: &'static str,
}

/// What a keyword's standing is, in the eyes of somebody who comes from mosquitto.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It does what it does there.
    Works,
    /// It does so with a difference, which the note tells.
    Differs,
    /// It is read and has no effect; the note tells why that does no harm.
    Ignored,
    /// It is an error: to go on without would weaken security or lose messages.
    NotYet,
}

impl Keyword {
    /// Where it stands.
    pub const fn standing(&self) -> Standing {
        match self.meaning {
            Meaning::Ignored => Standing::Ignored,
            Meaning::Refused | Meaning::PartOf(_) | Meaning::Family(_) => Standing::NotYet,
            _ if self.note.is_empty() => Standing::Works,
            _ => Standing::Differs,
        }
    }
}

/// What becomes of a keyword.
#[derive(Debug)]
pub(super) enum Meaning {
    /// It is said of the whole broker.
    Global(Value<Globals>),
    /// It is said of the listener in front of it.
    Listener(Value<ListenerDraft>),
    /// It is said of the whole broker, or of the listener in front of it with `per_listener_settings`.
    Security(Value<SecurityDraft>),
    /// It changes what the others are about.
    Special(Special),
    /// It is named in a warning.
    Ignored,
    /// It is an error.
    Refused,
    /// It belongs to another keyword, which is an error already.
    PartOf(&'static str),
    /// The beginning of names that somebody else has chosen; they belong to one of these keywords.
    Family(&'static [&'static str]),
}

/// Keywords that change what the others are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Special {
    Listener,
    Port,
    BindAddress,
    IncludeDirectory,
    PerListenerSettings,
}

/// What a keyword may be given and where it goes. A setter's error says what was expected.
#[derive(Debug)]
pub(super) enum Value<D: 'static> {
    /// The first word: true or false, 1 or 0.
    Switch(fn(&mut D, bool)),
    /// The first word: a number from here to there.
    Number(i64, i64, fn(&mut D, i64)),
    /// The first word; what was expected where there is none.
    Word(&'static str, fn(&mut D, &str) -> Result<(), String>),
    /// The first word, as often as one likes.
    WordList(&'static str, fn(&mut D, &str) -> Result<(), String>),
    /// The rest of the line, once.
    Text(&'static str, fn(&mut D, &str) -> Result<(), String>),
    /// The rest of the line, as often as one likes.
    List(&'static str, fn(&mut D, &str) -> Result<(), String>),
}

/// For numbers of which every one is taken.
const ANY: i64 = -0x8000_0000;
const ANY_MORE: i64 = 0x7FFF_FFFF;
/// The largest Remaining Length, which no payload exceeds; and the packet that has it, with its fixed header.
const REMAINING_LENGTH_MAXIMUM: i64 = 268_435_455;
const PACKET_MAXIMUM: i64 = REMAINING_LENGTH_MAXIMUM + 5;
const U16_MAXIMUM: i64 = 65_535;

const PLUGINS: &[&str] = &["plugin", "global_plugin", "auth_plugin", "plugin_load"];

/// The number, which the table has bounded.
fn u16_of(number: i64) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

/// The same for a number of which zero, or less, stands for as much as there can be.
fn u16_or_all(number: i64) -> u16 {
    if number > 0 { u16_of(number) } else { u16::MAX }
}

/// A row of the table.
const fn row(name: &'static str, meaning: Meaning, note: &'static str) -> Keyword {
    Keyword { name, meaning, note }
}

use Meaning::{Family, Global, Ignored, Listener, PartOf, Refused, Security};
use Value::{List, Number, Switch, Text, Word, WordList};

/// All keywords of mosquitto.conf, and some of our own.
pub static KEYWORDS: &[Keyword] = &[
    row(
        "acl_file",
        Security(Text("the path of a file", |draft, text| {
            draft.access = Some(text.to_owned());
            Ok(())
        })),
        "filters are checked when a client subscribes, not only when messages are delivered",
    ),
    row(
        "allow_anonymous",
        Security(Switch(|draft, is_on| draft.allows_anonymous = Some(is_on))),
        "counts without a listener, too; there, not said, it is false as soon as there is a `password_file`",
    ),
    row(
        "allow_zero_length_clientid",
        Security(Switch(|draft, is_on| draft.allows_empty_client_identifier = Some(is_on))),
        "",
    ),
    row(
        "auto_id_prefix",
        Security(Text("at most 50 bytes", |draft, text| {
            draft.drawn_prefix = Some(values::drawn_prefix(text)?);
            Ok(())
        })),
        "",
    ),
    row(
        "password_file",
        Security(Text("the path of a file", |draft, text| {
            draft.passwords = Some(text.to_owned());
            Ok(())
        })),
        "",
    ),
    row("listener_allow_anonymous", Listener(Switch(|draft, is_on| draft.own_anonymous = Some(is_on))), ""),
    row(
        "listener_auto_id_prefix",
        Listener(Text("at most 50 bytes", |draft, text| {
            draft.own_drawn_prefix = Some(values::drawn_prefix(text)?);
            Ok(())
        })),
        "",
    ),
    row(
        "listener",
        Meaning::Special(Special::Listener),
        "`listener 0 ADDRESS` lets the system choose a port",
    ),
    row("port", Meaning::Special(Special::Port), ""),
    row("bind_address", Meaning::Special(Special::BindAddress), ""),
    row("include_dir", Meaning::Special(Special::IncludeDirectory), ""),
    row("per_listener_settings", Meaning::Special(Special::PerListenerSettings), ""),
    row("accept_protocol_versions", Listener(Text(values::VERSIONS, values::versions)), ""),
    row(
        "bind_interface",
        Listener(Text("the name of a network interface", |draft, text| {
            draft.interface = Some(text.to_owned());
            Ok(())
        })),
        "",
    ),
    row(
        "listener_name",
        Listener(Text("a name of at most 255 bytes", |draft, text| {
            draft.name = Some(values::listener_name(text)?);
            Ok(())
        })),
        "Brooklet's own: what sessions and messages know a listener by, in place of where it listens",
    ),
    row("socket_domain", Listener(Word("ipv4 or ipv6", values::family)), ""),
    row("protocol", Listener(Word("mqtt or websockets", values::protocol)), "`http_api` is not there"),
    row(
        "max_connections",
        Listener(Number(ANY, ANY_MORE, |draft, number| draft.connections = values::bound(number))),
        "",
    ),
    row("max_qos", Listener(Number(0, 2, values::maximum_qos)), ""),
    row("maximum_qos", Listener(Number(0, 2, values::maximum_qos)), ""),
    row(
        "max_topic_alias",
        Listener(Number(0, U16_MAXIMUM, |draft, number| draft.topic_aliases = u16_of(number))),
        "",
    ),
    row(
        "max_topic_alias_broker",
        Listener(Number(0, U16_MAXIMUM, |draft, number| {
            draft.outbound_topic_aliases = u16_of(number).min(OUTBOUND_TOPIC_ALIAS_MAXIMUM);
        })),
        "32 without, and at most",
    ),
    row(
        "mount_point",
        Listener(Text("the beginning of a topic, without wildcards", values::mount_point)),
        "",
    ),
    row(
        "use_username_as_clientid",
        Listener(Switch(|draft, is_on| draft.user_name_is_client_identifier = is_on)),
        "",
    ),
    row(
        "websockets_origin",
        Listener(List("the origin of a page, as in https://example.org", |draft, text| {
            draft.origins.push(text.to_owned());
            Ok(())
        })),
        "",
    ),
    row("enable_proxy_protocol", Listener(Number(1, 2, values::proxy)), ""),
    row(
        "proxy_protocol_v2_require_tls",
        Listener(Switch(|draft, is_on| draft.proxy_requires_tls = is_on)),
        "",
    ),
    row(
        "proxy_trusted_source",
        Listener(WordList("an address, as in 10.0.0.1 or 10.0.0.0/8", values::trusted_source)),
        "Brooklet's own: where PROXY headers may come from; everywhere, without, unless `use_identity_as_username` or \
         `proxy_protocol_v2_require_tls` believes them",
    ),
    row(
        "certfile",
        Listener(Text("the path of a file", |draft, text| {
            draft.certificate = Some(text.to_owned());
            Ok(())
        })),
        "",
    ),
    row(
        "keyfile",
        Listener(Text("the path of a file", |draft, text| {
            draft.key = Some(text.to_owned());
            Ok(())
        })),
        "",
    ),
    row(
        "cafile",
        Listener(Text("the path of a file", |draft, text| {
            draft.authorities = Some(text.to_owned());
            Ok(())
        })),
        "",
    ),
    row(
        "crlfile",
        Listener(Text("the path of a file", |draft, text| {
            draft.revoked = Some(text.to_owned());
            Ok(())
        })),
        "",
    ),
    row(
        "capath",
        Listener(Text("the path of a directory", |draft, text| {
            draft.authorities_directory = Some(text.to_owned());
            Ok(())
        })),
        "",
    ),
    row("require_certificate", Listener(Switch(|draft, is_on| draft.requires_certificate = is_on)), ""),
    row("use_identity_as_username", Listener(Switch(|draft, is_on| draft.identity_is_user_name = is_on)), ""),
    row("use_subject_as_username", Listener(Switch(|draft, is_on| draft.subject_is_user_name = is_on)), ""),
    row(
        "tls_version",
        Listener(Word("tlsv1.2 or tlsv1.3", values::tls_version)),
        "TLS 1.2 and 1.3 alone are spoken, whatever is allowed beyond",
    ),
    row("tls_keyform", Listener(Word("pem", values::key_form)), "`pem` alone"),
    row("check_retain_source", Global(Switch(|draft, is_on| draft.checks_retain_source = is_on)), ""),
    row(
        "clientid_prefixes",
        Global(Text("a prefix", |draft, text| {
            draft.client_identifier_prefix = Some(text.into());
            Ok(())
        })),
        "",
    ),
    row("connection_messages", Global(Switch(|draft, is_on| draft.has_connection_messages = is_on)), ""),
    row(
        "global_max_clients",
        Global(Number(ANY, ANY_MORE, |draft, number| draft.sessions = Some(values::bound(number)))),
        "a million without",
    ),
    row(
        "global_max_connections",
        Global(Number(ANY, ANY_MORE, |draft, number| draft.connections = Some(values::bound(number)))),
        "a million without",
    ),
    row(
        "log_dest",
        Global(List("stdout, stderr, syslog, topic, none or 'file PATH'", values::log_destination)),
        "no `dlt`",
    ),
    row(
        "log_facility",
        Global(Number(0, 7, |draft, number| draft.log_facility = u8::try_from(number).ok())),
        "",
    ),
    row("log_timestamp", Global(Switch(|draft, is_on| draft.has_log_time = is_on)), ""),
    row(
        "log_timestamp_format",
        Global(Text("a format of strftime", |draft, text| {
            draft.log_format = Some(text.to_owned());
            Ok(())
        })),
        "",
    ),
    row("log_type", Global(WordList("a kind of lines", values::log_kind)), ""),
    row(
        "max_inflight_messages",
        Global(Number(ANY, U16_MAXIMUM, |draft, number| draft.in_flight = Some(u16_or_all(number)))),
        "512 without, and a Receive Maximum of 1,024; at most 16,384 are in flight to a client",
    ),
    row(
        "max_keepalive",
        Global(Number(0, U16_MAXIMUM, |draft, number| draft.keep_alive = Some(u16_or_all(number)))),
        "",
    ),
    row(
        "max_packet_size",
        Global(Number(20, PACKET_MAXIMUM, |draft, number| draft.packet_size = usize::try_from(number).ok())),
        "before a CONNECT was accepted 128 KiB at most; at most 268435460, which is the protocol's own limit",
    ),
    row(
        "max_queued_bytes",
        Global(Number(ANY, ANY_MORE, |draft, number| draft.queue_bytes = Some(values::bound(number)))),
        "16 MiB without",
    ),
    row(
        "max_queued_messages",
        Global(Number(ANY, ANY_MORE, |draft, number| draft.queue_length = Some(values::bound(number)))),
        "",
    ),
    row(
        "max_password_attempts",
        Global(Number(0, 1_000, |draft, number| draft.password_attempts = usize::try_from(number).ok())),
        "Brooklet's own: different wrong passwords of a user that are looked at, from one address within a minute, and ten \
         times as many of all its users; 10 without, 0 for any number",
    ),
    row(
        "max_subscriptions",
        Global(Number(ANY, ANY_MORE, |draft, number| draft.subscriptions = Some(values::bound(number)))),
        "Brooklet's own: subscriptions of one session, 10,000 without",
    ),
    row(
        "max_matching_subscriptions",
        Global(Number(1, ANY_MORE, |draft, number| draft.matches = Some(values::bound(number)))),
        "Brooklet's own: subscriptions of one session that count for a message, 1,000 without",
    ),
    row(
        "memory_limit",
        Global(Word("a number of bytes, with K, M or G for units, or 0 for no limit", values::memory_limit)),
        "at least 4M; for all that is resident: the code of the broker, but for a quarter at most, and what clients and \
         messages take; K, M and G are units",
    ),
    row(
        "message_size_limit",
        Global(Number(0, REMAINING_LENGTH_MAXIMUM, |draft, number| {
            draft.message_size = usize::try_from(number).ok().filter(|&size| size > 0)
        })),
        "a 5.0 publisher of QoS 1 or 2 is told 0x97; raises `max_packet_size` where that is not said",
    ),
    row(
        "retry_interval",
        Global(Number(0, ANY_MORE, |draft, number| {
            draft.retry_interval = u64::try_from(number).ok().map(Duration::from_seconds);
        })),
        "for 3.1 and 3.1.1 alone: seconds from the client's latest acknowledgement to the redelivery of its oldest message, \
         20 without, doubling; 0 for none",
    ),
    row(
        "persistence",
        Global(Switch(|draft, is_on| draft.is_persistent = is_on)),
        "what was acknowledged is on disk, in a file of Brooklet's own: see \"What survives\"",
    ),
    row(
        "retained_persistence",
        Global(Switch(|draft, is_on| draft.is_persistent = is_on)),
        "as `persistence`: sessions are kept as well",
    ),
    row(
        "persistence_file",
        Global(Text("the name of a file", |draft, text| {
            draft.persistence_file = Some(text.to_owned());
            Ok(())
        })),
        "`brooklet.db` without",
    ),
    row(
        "persistence_location",
        Global(Text("the path of a directory", |draft, text| {
            draft.persistence_location = Some(text.to_owned());
            Ok(())
        })),
        "",
    ),
    row("persistent_client_expiration", Global(Word("a duration", values::expiration)), ""),
    row(
        "pid_file",
        Global(Text("the path of a file", |draft, text| {
            draft.pid_file = Some(text.to_owned());
            Ok(())
        })),
        "",
    ),
    row("queue_qos0_messages", Global(Switch(|draft, is_on| draft.queues_at_most_once = is_on)), ""),
    row("retain_available", Global(Switch(|draft, is_on| draft.is_retain_available = is_on)), ""),
    row("retain_expiry_interval", Ignored, "retained messages that have expired are looked for all the time"),
    row("set_tcp_nodelay", Ignored, "what is to be sent is sent at once in any case"),
    row(
        "sys_interval",
        Global(Number(0, U16_MAXIMUM, |draft, number| draft.system_interval = u16_of(number))),
        "",
    ),
    row("upgrade_outgoing_qos", Global(Switch(|draft, is_on| draft.raises_qos = is_on)), ""),
    row(
        "user",
        Global(Text("the name of a user", |draft, text| {
            draft.user = Some(text.to_owned());
            Ok(())
        })),
        "without: mosquitto, then brooklet, then nobody",
    ),
    row(
        "websockets_headers_size",
        Global(Number(0, U16_MAXIMUM, |draft, number| {
            draft.websocket_headers = usize::try_from(number).ok().filter(|&size| size > 0)
        })),
        "8 KiB without",
    ),
    row(
        "packet_buffer_size",
        Global(Number(0, U16_MAXIMUM, |draft, number| {
            draft.websocket_headers = usize::try_from(number).ok().filter(|&size| size > 0)
        })),
        "8 KiB without",
    ),
    row(
        "durability",
        Global(Word("always, everysec or none", values::durability)),
        "Brooklet's own: what an acknowledgement means",
    ),
    row(
        "commit_delay",
        Global(Number(0, 20, |draft, number| draft.commit_delay = u8::try_from(number).unwrap_or(0))),
        "Brooklet's own: milliseconds that a commit waits for company",
    ),
    row(
        "persistence_damaged",
        Global(Word("refuse or set_aside", values::on_damage)),
        "Brooklet's own: what becomes of a file that is damaged",
    ),
    row(
        "allow_duplicate_messages",
        Ignored,
        "overlapping subscriptions each get their copy, which is the default of mosquitto",
    ),
    row("autosave_interval", Ignored, "what is kept is kept as it happens, not from time to time"),
    row("autosave_on_changes", Ignored, "what is kept is kept as it happens, not from time to time"),
    row("store_clean_interval", Ignored, "mosquitto has dropped it as well"),
    row("max_inflight_bytes", Ignored, "how much waits for one client is bounded by bytes in any case"),
    row("ciphers", Ignored, "TLS is spoken with strong cipher suites alone"),
    row("ciphers_tls1.3", Ignored, "TLS is spoken with strong cipher suites alone"),
    row("dhparamfile", Ignored, "TLS is spoken with elliptic curves alone"),
    row("disable_client_cert_date_checks", Ignored, "certificates out of date are refused"),
    row("enable_control_api", Ignored, "there is no $CONTROL interface"),
    row("http_dir", Ignored, "there is no web server here, only WebSocket"),
    row("websockets_log_level", Ignored, "log_type says what is logged"),
    row("auth_plugin_deny_special_chars", Ignored, "names that could widen a pattern are never taken"),
    row("psk_file", Refused, "TLS with pre-shared keys is not supported, expected certfile and keyfile"),
    row("psk_hint", Refused, "TLS with pre-shared keys is not supported, expected certfile and keyfile"),
    row("tls_engine", Refused, "keys in engines are not supported, expected a keyfile"),
    row("tls_engine_kpass_sha1", PartOf("tls_engine"), ""),
    row("plugin", Refused, "plugins are not supported, expected password_file and acl_file"),
    row("global_plugin", Refused, "plugins are not supported, expected password_file and acl_file"),
    row("auth_plugin", Refused, "plugins are not supported, expected password_file and acl_file"),
    row("plugin_load", Refused, "plugins are not supported, expected password_file and acl_file"),
    row("plugin_use", PartOf("plugin_load"), ""),
    row("plugin_opt_", Family(PLUGINS), ""),
    row("auth_opt_", Family(PLUGINS), ""),
    row("connection", Refused, "bridges are not there yet, expected a configuration without"),
    row("address", PartOf("connection"), ""),
    row("addresses", PartOf("connection"), ""),
    row("bridge_alpn", PartOf("connection"), ""),
    row("bridge_attempt_unsubscribe", PartOf("connection"), ""),
    row("bridge_bind_address", PartOf("connection"), ""),
    row("bridge_cafile", PartOf("connection"), ""),
    row("bridge_capath", PartOf("connection"), ""),
    row("bridge_certfile", PartOf("connection"), ""),
    row("bridge_ciphers", PartOf("connection"), ""),
    row("bridge_ciphers_tls1.3", PartOf("connection"), ""),
    row("bridge_identity", PartOf("connection"), ""),
    row("bridge_insecure", PartOf("connection"), ""),
    row("bridge_keyfile", PartOf("connection"), ""),
    row("bridge_max_packet_size", PartOf("connection"), ""),
    row("bridge_max_topic_alias", PartOf("connection"), ""),
    row("bridge_outgoing_retain", PartOf("connection"), ""),
    row("bridge_protocol_version", PartOf("connection"), ""),
    row("bridge_psk", PartOf("connection"), ""),
    row("bridge_receive_maximum", PartOf("connection"), ""),
    row("bridge_reload_type", PartOf("connection"), ""),
    row("bridge_require_ocsp", PartOf("connection"), ""),
    row("bridge_session_expiry_interval", PartOf("connection"), ""),
    row("bridge_tcp_keepalive", PartOf("connection"), ""),
    row("bridge_tcp_user_timeout", PartOf("connection"), ""),
    row("bridge_tls_use_os_certs", PartOf("connection"), ""),
    row("bridge_tls_version", PartOf("connection"), ""),
    row("cleansession", PartOf("connection"), ""),
    row("clientid", PartOf("connection"), ""),
    row("idle_timeout", PartOf("connection"), ""),
    row("keepalive_interval", PartOf("connection"), ""),
    row("local_cleansession", PartOf("connection"), ""),
    row("local_clientid", PartOf("connection"), ""),
    row("local_password", PartOf("connection"), ""),
    row("local_username", PartOf("connection"), ""),
    row("notification_topic", PartOf("connection"), ""),
    row("notifications", PartOf("connection"), ""),
    row("notifications_local_only", PartOf("connection"), ""),
    row("password", PartOf("connection"), ""),
    row("remote_clientid", PartOf("connection"), ""),
    row("remote_password", PartOf("connection"), ""),
    row("remote_username", PartOf("connection"), ""),
    row("restart_timeout", PartOf("connection"), ""),
    row("round_robin", PartOf("connection"), ""),
    row("start_type", PartOf("connection"), ""),
    row("threshold", PartOf("connection"), ""),
    row("topic", PartOf("connection"), ""),
    row("try_private", PartOf("connection"), ""),
    row("username", PartOf("connection"), ""),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_packet_may_be_larger_than_the_protocol_knows() {
        assert_eq!(usize::try_from(PACKET_MAXIMUM), Ok(crate::protocol::codec::PACKET_SIZE_MAXIMUM));
    }

    #[test]
    fn a_keyword_has_one_row_and_a_reason_for_what_it_does_not_do() {
        let names: BTreeSet<&str> = KEYWORDS.iter().map(|keyword| keyword.name).collect();
        assert_eq!(names.len(), KEYWORDS.len());
        for keyword in KEYWORDS {
            match keyword.meaning {
                Ignored | Refused => assert!(!keyword.note.is_empty(), "{}", keyword.name),
                PartOf(head) => assert!(names.contains(head), "{}", keyword.name),
                Family(heads) => assert!(heads.iter().all(|head| names.contains(head)), "{}", keyword.name),
                _ => {}
            }
        }
    }
}
