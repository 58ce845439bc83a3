//! The keywords for a bridge. Without the feature `bridge`, they are refused.

use super::row::{Keyword, Meaning, row};
#[cfg(all(feature = "bridge", feature = "system"))]
use super::{
    bridge_shown::{
        addresses, identity, lazy, limit, queue_drop, queue_length, reload, restart, secret, start_type,
        tls_version, topics, version,
    },
    row::Shown::*,
    shown::{Value, number, path, size, switch, text, word, words},
};
#[cfg(feature = "bridge")]
use {
    super::row::{ANY, ANY_MORE, Form::*, Named, Scope, Setting, Special, U16_MAXIMUM, setting},
    crate::config::file::bridge_values as values,
    crate::config::file::pending::Target,
    crate::config::file::values::{bound, is_1_3_only, seconds, u16_of},
};

/// Creates the row of a keyword that sets a value of a bridge.
#[cfg(feature = "bridge")]
macro_rules! of_bridge {
    ($name:literal is $other:literal, $default:expr, $form:expr, $shown:expr, $note:expr $(,)?) => {
        setting!($name is $other, Bridge, $default, $form, $shown, $note)
    };
    ($name:literal, $default:expr, $form:expr, $shown:expr, $note:expr $(,)?) => {
        setting!($name, Bridge, $default, $form, OfBridge($shown), $note)
    };
}

#[cfg(not(feature = "bridge"))]
macro_rules! of_bridge {
    ($name:literal $($rest:tt)*) => {
        row($name, Meaning::PartOf("connection"), "")
    };
}

#[cfg(feature = "bridge")]
const CONNECTION: Keyword =
    row("connection", Meaning::Special(Special::Connection), "a name with `+` or `#` is an error").never();
#[cfg(not(feature = "bridge"))]
const CONNECTION: Keyword =
    row("connection", Meaning::Refused, "this binary was built without bridges (feature bridge)");

pub(super) static ROWS: &[Keyword] = &[
    CONNECTION,
    of_bridge!("address", "none", Line(values::ADDRESSES, set_addresses), addresses, ""),
    of_bridge!("addresses" is "address", "none", Line(values::ADDRESSES, set_addresses), By("address"), ""),
    of_bridge!(
        "topic",
        "none",
        Lines(values::TOPIC, |to, text| {
            let topic = values::topic(text)?;
            to.bridge.topics.push((to.place.clone(), topic));
            Ok(())
        }),
        topics,
        "a prefix may be in quotes as well; a pattern with `$share` and words after the remote prefix are \
         errors"
    ).never(),
    of_bridge!(
        "remote_clientid",
        "HOSTNAME.NAME",
        Text("a Client Identifier", set_remote_client_identifier),
        |of| word(&of.remote.client_identifier),
        ""
    ),
    of_bridge!(
        "clientid" is "remote_clientid",
        "HOSTNAME.NAME",
        Text("a Client Identifier", set_remote_client_identifier),
        By("remote_clientid"),
        ""
    ),
    of_bridge!(
        "remote_username",
        "none",
        Text("a user name", set_remote_user_name),
        |of| text(of.remote.user_name.as_deref()),
        ""
    ),
    of_bridge!(
        "username" is "remote_username",
        "none",
        Text("a user name", set_remote_user_name),
        By("remote_username"),
        ""
    ),
    of_bridge!(
        "remote_password",
        "none",
        Text("a password", set_remote_password),
        |of| secret(of.remote.password.as_deref()),
        "an error without `remote_username`"
    ).never(),
    of_bridge!(
        "password" is "remote_password",
        "none",
        Text("a password", set_remote_password),
        By("remote_password"),
        "an error without `remote_username`"
    ).never(),
    of_bridge!(
        "local_clientid",
        "local.HOSTNAME.NAME",
        Text("a Client Identifier", |to, text| {
            to.bridge.local_client_identifier = Some(text.into());
            Ok(())
        }),
        |of| word(&of.local.client_identifier),
        ""
    ),
    of_bridge!(
        "local_username",
        "none",
        Text("a user name", |to, text| {
            to.bridge.settings.local.user_name = Some(text.into());
            Ok(())
        }),
        |of| text(of.local.user_name.as_deref()),
        "without it, access rules do not apply to the bridge, as in mosquitto; if there are any, a \
         warning says so"
    ).never(),
    of_bridge!(
        "local_password",
        "none",
        Text("a password", |to, text| {
            to.bridge.settings.local.password = Some(text.into());
            Ok(())
        }),
        |of| secret(of.local.password.as_deref()),
        ""
    ),
    of_bridge!(
        "try_private",
        "true",
        Switch(|to, is_on| to.bridge.settings.remote.tries_private = is_on),
        |of| switch(of.remote.tries_private),
        ""
    ),
    of_bridge!(
        "bridge_protocol_version",
        "mqttv311",
        Word(values::VERSIONS, |to, text| {
            to.bridge.settings.remote.version = values::version(text)?;
            Ok(())
        }),
        version,
        ""
    ),
    of_bridge!(
        "bridge_outgoing_retain",
        "true",
        Switch(|to, is_on| to.bridge.settings.remote.forwards_retain = is_on),
        |of| switch(of.remote.forwards_retain),
        ""
    ),
    of_bridge!(
        "bridge_max_packet_size",
        "none",
        Number(ANY, ANY_MORE, |to, number| to.bridge.settings.remote.packet_size = positive(number)),
        |of| limit(of.remote.packet_size),
        ""
    ),
    of_bridge!(
        "bridge_max_topic_alias",
        "10",
        Number(0, U16_MAXIMUM, |to, number| {
            to.bridge.settings.remote.topic_alias_maximum = u16_of(number);
        }),
        |of| number(of.remote.topic_alias_maximum),
        ""
    ),
    of_bridge!(
        "bridge_receive_maximum",
        "1024",
        Number(1, U16_MAXIMUM, |to, number| to.bridge.receive_maximum = Some(u16_of(number))),
        |of| number(of.remote.receive_maximum),
        "default `max_inflight_messages`, as in mosquitto, and 1,024 if that is not set"
    ).never(),
    of_bridge!(
        "bridge_session_expiry_interval",
        "4294967295",
        Word(values::SESSION_EXPIRY, |to, text| {
            to.bridge.session_expiry = Some(values::session_expiry(text)?);
            Ok(())
        }),
        |of| number(of.remote.session_expiry),
        "never expires by default, or at once with `cleansession true`; 0 in mosquitto, which loses the session with each \
         connection"
    ).never(),
    of_bridge!(
        "bridge_tcp_keepalive",
        "none",
        Line(values::TCP_KEEPALIVE, |to, text| {
            to.bridge.settings.tcp_keepalive = Some(values::tcp_keepalive(text)?);
            Ok(())
        }),
        |of| words(of.tcp_keepalive.iter().flatten().map(ToString::to_string)),
        ""
    ),
    of_bridge!(
        "bridge_tcp_user_timeout",
        "60000",
        Number(0, ANY_MORE, |to, number| to.bridge.tcp_user_timeout = u32::try_from(number).ok()),
        |of| of.tcp_user_timeout.map_or(Value::Nothing, |timeout| number(timeout.milliseconds())),
        "in milliseconds; default `keepalive_interval`; 0 leaves it to the system"
    ).never(),
    of_bridge!(
        "bridge_bind_address",
        "none",
        Word("an IP address of this machine", |to, text| {
            to.bridge.settings.from = Some(values::bind_address(text)?);
            Ok(())
        }),
        |of| words(of.from.iter().map(ToString::to_string)),
        ""
    ),
    of_bridge!(
        "notifications",
        "true",
        Switch(|to, is_on| to.bridge.has_notifications = is_on),
        |of| switch(of.notifications.is_some()),
        ""
    ),
    of_bridge!(
        "notifications_local_only",
        "false",
        Switch(|to, is_on| to.bridge.notifies_locally_only = is_on),
        |of| of.notifications.as_ref().map_or(Value::NotApplicable, |it| switch(it.is_local_only)),
        ""
    ),
    of_bridge!(
        "notification_topic",
        "$SYS/broker/connection/HOSTNAME.NAME/state",
        Text(values::NOTIFICATION_TOPIC, |to, text| {
            to.bridge.notification_topic = Some(values::notification_topic(text)?);
            Ok(())
        }),
        |of| of.notifications.as_ref().map_or(Value::NotApplicable, |it| word(&it.topic)),
        ""
    ),
    of_bridge!(
        "cleansession",
        "false",
        Switch(|to, is_on| to.bridge.settings.remote.is_clean = is_on),
        |of| switch(of.remote.is_clean),
        ""
    ),
    of_bridge!(
        "local_cleansession",
        "false",
        Switch(|to, is_on| to.bridge.is_clean_locally = Some(is_on)),
        |of| switch(of.local.is_clean),
        ""
    ),
    of_bridge!(
        "start_type",
        "automatic",
        Word(values::START_TYPES, |to, text| {
            to.bridge.start = values::start_type(text)?;
            Ok(())
        }),
        start_type,
        ""
    ),
    of_bridge!(
        "threshold",
        "10",
        Number(ANY, ANY_MORE, |to, number| to.bridge.threshold = number),
        |of| lazy(of, |threshold, _| size(threshold)),
        ""
    ),
    of_bridge!(
        "idle_timeout",
        "60",
        Number(ANY, ANY_MORE, |to, number| to.bridge.idle_timeout = number),
        |of| lazy(of, |_, idle| number(idle)),
        ""
    ),
    of_bridge!(
        "keepalive_interval",
        "60",
        Number(ANY, U16_MAXIMUM, |to, number| to.bridge.keep_alive = number),
        |of| number(of.remote.keep_alive),
        ""
    ),
    of_bridge!(
        "restart_timeout",
        "5 30",
        Line(values::RESTART, |to, text| {
            to.bridge.restart = values::restart(text)?;
            Ok(())
        }),
        restart,
        ""
    ),
    of_bridge!(
        "round_robin",
        "false",
        Switch(|to, is_on| to.bridge.settings.is_round_robin = is_on),
        |of| switch(of.is_round_robin),
        ""
    ),
    of_bridge!(
        "bridge_reload_type",
        "lazy",
        Word(values::RELOADS, |to, text| {
            to.bridge.settings.reload = values::reload(text)?;
            Ok(())
        }),
        reload,
        ""
    ),
    of_bridge!(
        "bridge_attempt_unsubscribe",
        "true",
        Switch(|to, is_on| to.bridge.settings.remote.unsubscribes = is_on),
        |of| switch(of.remote.unsubscribes),
        ""
    ),
    of_bridge!(
        "bridge_cafile",
        "none",
        Path(Named::File, |to, path| to.bridge.tls.trust.authorities = Some(path)),
        |of| path(of.tls.as_ref().and_then(|tls| tls.trust.authorities.as_deref())),
        ""
    ),
    of_bridge!(
        "bridge_capath",
        "none",
        Path(Named::Directory, |to, path| to.bridge.tls.trust.authorities_directory = Some(path)),
        |of| path(of.tls.as_ref().and_then(|tls| tls.trust.authorities_directory.as_deref())),
        ""
    ),
    of_bridge!(
        "bridge_certfile",
        "none",
        Path(Named::File, |to, path| to.bridge.certificate = Some(path)),
        |of| path(identity(of).map(|[certificate, _]| &**certificate)),
        ""
    ),
    of_bridge!(
        "bridge_keyfile",
        "none",
        Path(Named::File, |to, path| to.bridge.key = Some(path)),
        |of| path(identity(of).map(|[_, key]| &**key)),
        ""
    ),
    of_bridge!(
        "bridge_insecure",
        "false",
        Switch(|to, is_on| to.bridge.tls.ignores_name = is_on),
        |of| switch(of.tls.as_ref().is_some_and(|tls| tls.ignores_name)),
        "the certificate may be for another name, but must be from a trusted authority; a warning at each \
         start and reload"
    ).when(|it| it.is_on()),
    of_bridge!(
        "bridge_alpn",
        "none",
        Text("the name of a protocol", |to, text| {
            to.bridge.tls.alpn = Some(values::alpn(text)?);
            Ok(())
        }),
        |of| text(of.tls.as_ref().and_then(|tls| tls.alpn.as_deref())),
        ""
    ),
    of_bridge!(
        "bridge_tls_version",
        "tlsv1.2",
        Word("tlsv1.2 or tlsv1.3", |to, text| {
            to.bridge.tls.is_1_3_only = is_1_3_only(text)?;
            Ok(())
        }),
        tls_version,
        "only TLS 1.2 and 1.3 are supported, even if older versions are allowed"
    ).when(|it| matches!(it.first_word(), "tlsv1.1" | "tlsv1")),
    of_bridge!(
        "bridge_tls_use_os_certs",
        "false",
        Switch(|to, is_on| to.bridge.tls.trusts_system = is_on),
        |of| switch(of.tls.as_ref().is_some_and(|tls| tls.trusts_system)),
        ""
    ),
    of_bridge!(
        "bridge_require_ocsp",
        "false",
        Word(values::NO_OCSP, |_, text| values::expect_no_ocsp(text)),
        |_| switch(false),
        "only `false`; OCSP is not supported"
    ).never(),
    of_bridge!(
        "bridge_max_queued_messages",
        "none",
        Number(0, ANY_MORE, |to, number| {
            to.bridge.settings.queue.length = Some(bound(number));
        }),
        queue_length,
        "Brooklet's own: the maximum number of queued messages, 0 for no limit; default `max_queued_messages`"
    ),
    of_bridge!(
        "bridge_queue_drop",
        "newest",
        Word(values::QUEUE_DROPS, |to, text| {
            to.bridge.settings.queue.drops = values::queue_drop(text)?;
            Ok(())
        }),
        queue_drop,
        "Brooklet's own: which message is dropped when the queue is full, `oldest` or `newest`"
    ),
    of_bridge!(
        "bridge_max_age",
        "none",
        Number(0, ANY_MORE, |to, number| {
            let age = seconds(number);
            to.bridge.settings.queue.age = Some(age).filter(|_| number > 0);
        }),
        |of| of.queue.age.map_or(Value::Nothing, |age| number(age.seconds())),
        "Brooklet's own: how many seconds a message waits at most before it is dropped, whether or not the broker runs; \
         one that was sent is sent again; 0 for any time"
    ),
    of_bridge!(
        "bridge_drain_rate",
        "none",
        Number(0, ANY_MORE, |to, number| to.bridge.settings.queue.rate = positive(number)),
        |of| limit(of.queue.rate),
        "Brooklet's own: the maximum number of messages sent per second; 0 for no limit"
    ),
    of_bridge!(
        "bridge_max_retained_changes",
        "10000",
        Number(0, ANY_MORE, |to, number| {
            to.bridge.settings.queue.retained_changes = usize::try_from(number).unwrap_or_default();
        }),
        |of| size(of.queue.retained_changes),
        "Brooklet's own: for how many topics the broker remembers that their retained message has changed and that no \
         queued message tells the other broker; beyond that, it sends all retained messages once more, and deletions \
         until then are lost; default 10,000"
    ),
    row("bridge_ciphers", Meaning::Ignored, "TLS uses only strong cipher suites"),
    row("bridge_ciphers_tls1.3", Meaning::Ignored, "TLS uses only strong cipher suites"),
    row("bridge_identity", Meaning::Refused, PRE_SHARED),
    row("bridge_psk", Meaning::Refused, PRE_SHARED),
];

const PRE_SHARED: &str = "TLS with pre-shared keys is not supported, expected bridge_cafile, bridge_capath or bridge_tls_use_os_certs";

#[cfg(feature = "bridge")]
fn set_addresses(to: &mut Target<'_>, text: &str) -> Result<(), &'static str> {
    to.bridge.settings.addresses = values::addresses(text)?;
    Ok(())
}

#[cfg(feature = "bridge")]
fn set_remote_client_identifier(to: &mut Target<'_>, text: &str) -> Result<(), &'static str> {
    to.bridge.remote_client_identifier = Some(text.into());
    Ok(())
}

#[cfg(feature = "bridge")]
fn set_remote_user_name(to: &mut Target<'_>, text: &str) -> Result<(), &'static str> {
    to.bridge.settings.remote.user_name = Some(text.into());
    Ok(())
}

/// Accepts any text. An error would show it.
#[cfg(feature = "bridge")]
fn set_remote_password(to: &mut Target<'_>, text: &str) -> Result<(), &'static str> {
    to.bridge.settings.remote.password = Some(text.into());
    Ok(())
}

/// Converts a number to a limit. Zero and negative numbers mean no limit.
#[cfg(feature = "bridge")]
fn positive(number: i64) -> Option<u32> {
    u32::try_from(number).ok().filter(|&number| number > 0)
}
