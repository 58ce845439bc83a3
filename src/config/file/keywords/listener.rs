//! The keywords for a listener, and those for the security of one or all listeners.

use std::net::IpAddr;

use crate::config::file::values::{self, bound, u16_of};
use crate::core::limits::OUTBOUND_TOPIC_ALIAS_MAXIMUM;
#[cfg(feature = "system")]
use crate::core::listener::UserNameSource;
#[cfg(feature = "system")]
use crate::protocol::proxy::Proxy;
#[cfg(feature = "system")]
use crate::settings::{Listener, Protocol, Tls};

use super::row::{
    ANY, ANY_MORE, Form::*, Keyword, Meaning, Named, Scope, Setting, Special, U16_MAXIMUM, Use, row, setting,
};
#[cfg(feature = "system")]
use super::{
    row::Shown::*,
    shown::{self, Value, number, path, switch, text, word, words},
};

pub(super) static ROWS: &[Keyword] = &[
    setting!(
        "acl_file",
        Security,
        "none",
        Path(Named::File, |to, path| to.security.access = Some(path)),
        ForAll(|of| path(of.security.access.as_deref())),
        "filters are checked when a client subscribes, not only when messages are delivered"
    ),
    setting!(
        "allow_anonymous",
        Security,
        "false",
        Switch(|to, is_on| to.security.allows_anonymous = Some(is_on)),
        ForAll(|of| switch(of.security.allows_anonymous)),
        "applies without a `listener` as well, where mosquitto accepts anonymous clients even with \
         `false`; the default is true there unless there is a `password_file`"
    )
    .when(|it| !it.has_listener && !it.is_on()),
    setting!(
        "allow_zero_length_clientid",
        Security,
        "true",
        Switch(|to, is_on| to.security.allows_empty_client_identifier = Some(is_on)),
        ForNewcomers(|of| switch(of.options.allows_empty_client_identifier)),
        ""
    ),
    setting!(
        "auto_id_prefix",
        Security,
        "auto-",
        Text("at most 50 bytes", |to, text| {
            to.security.auto_id_prefix = Some(values::auto_id_prefix(text)?);
            Ok(())
        }),
        ForNewcomers(|of| word(&of.options.auto_id_prefix)),
        ""
    ),
    setting!(
        "password_file",
        Security,
        "none",
        Path(Named::File, |to, path| to.security.passwords = Some(path)),
        ForAll(|of| path(of.security.passwords.as_deref())),
        "without a `listener` and without `allow_anonymous`, anonymous clients are refused as well; \
         mosquitto accepts them"
    )
    .when(|it| !it.has_listener && !it.has_allow_anonymous),
    setting!(
        "listener_allow_anonymous",
        Listener,
        "false",
        Switch(|to, is_on| to.options.own_anonymous = Some(is_on)),
        By("allow_anonymous"),
        ""
    ),
    setting!(
        "listener_auto_id_prefix",
        Listener,
        "auto-",
        Text("at most 50 bytes", |to, text| {
            to.options.own_auto_id_prefix = Some(values::auto_id_prefix(text)?);
            Ok(())
        }),
        By("auto_id_prefix"),
        ""
    ),
    row(
        "listener",
        Meaning::Special(Special::Listener),
        "`listener 0 ADDRESS` lets the system choose a port; mosquitto makes a socket with that name",
    )
    .when(is_any_port_of_an_address),
    row("port", Meaning::Special(Special::Port), ""),
    row("bind_address", Meaning::Special(Special::BindAddress), ""),
    row("include_dir", Meaning::Special(Special::IncludeDirectory), ""),
    row("per_listener_settings", Meaning::Special(Special::PerListenerSettings), ""),
    setting!(
        "accept_protocol_versions",
        Listener,
        "3 4 5",
        Text(values::VERSIONS, |to, text| {
            to.options.listener.versions = values::versions(text)?;
            Ok(())
        }),
        ForNewcomers(versions),
        ""
    ),
    setting!(
        "bind_interface",
        Listener,
        "none",
        Text("the name of a network interface", |to, text| {
            to.options.interface = Some(text.to_owned());
            Ok(())
        }),
        Never,
        ""
    ),
    setting!(
        "listener_name",
        Listener,
        "none",
        Text("a name of at most 255 bytes", |to, text| {
            to.options.name = Some(values::listener_name(text)?);
            Ok(())
        }),
        ForNewcomers(|of| text(of.name.as_deref())),
        "Brooklet's own: identifies the listener in stored sessions and messages, in place of its address"
    ),
    setting!(
        "socket_domain",
        Listener,
        "none",
        Word(values::FAMILIES, |to, text| {
            to.options.family = values::family(text)?;
            Ok(())
        }),
        Never,
        ""
    ),
    setting!(
        "socket_group",
        Listener,
        "none",
        Word("the name or number of a group", |to, text| {
            to.options.socket_file.group = Some(to.given(text));
            Ok(())
        }),
        ForAll(|of| text(of.socket_file.group.as_deref())),
        "Brooklet's own: the group of the file of a Unix socket, by name or number; by default that of the broker's user"
    ),
    setting!(
        "socket_mode",
        Listener,
        "0770",
        Word(values::SOCKET_MODE, |to, text| {
            to.options.socket_file.mode = values::socket_mode(text)?;
            Ok(())
        }),
        ForAll(|of| Value::Words(format!("{:04o}", of.socket_file.mode))),
        "Brooklet's own: the permissions of the file of a Unix socket, in octal; to connect, a user needs the permission to \
         write"
    ),
    setting!(
        "protocol",
        Listener,
        "mqtt",
        Word(values::PROTOCOLS, |to, text| {
            to.options.is_websocket = values::is_websocket(text)?;
            Ok(())
        }),
        ForNewcomers(protocol),
        "`http_api` is not supported"
    )
    .never(),
    setting!(
        "max_connections",
        Listener,
        "none",
        Number(ANY, ANY_MORE, |to, number| {
            to.options.connections = (number >= 0).then_some(bound(number));
        }),
        ForAll(|of| shown::bound(of.connections)),
        ""
    ),
    setting!(
        "max_qos",
        Listener,
        "2",
        Number(0, 2, |to, number| to.options.listener.maximum_qos = values::qos(number)),
        ForNewcomers(|of| number(of.options.maximum_qos.level())),
        ""
    ),
    setting!(
        "maximum_qos",
        Listener,
        "2",
        Number(0, 2, |to, number| to.options.listener.maximum_qos = values::qos(number)),
        By("max_qos"),
        ""
    ),
    setting!(
        "max_topic_alias",
        Listener,
        "10",
        Number(0, U16_MAXIMUM, |to, number| to.options.listener.topic_alias_maximum = u16_of(number)),
        ForNewcomers(|of| number(of.options.topic_alias_maximum)),
        ""
    ),
    setting!(
        "max_topic_alias_broker",
        Listener,
        "32",
        Number(0, U16_MAXIMUM, |to, number| {
            to.options.listener.outbound_topic_alias_maximum =
                u16_of(number).min(OUTBOUND_TOPIC_ALIAS_MAXIMUM);
        }),
        ForNewcomers(|of| number(of.options.outbound_topic_alias_maximum)),
        "default 32, which is also the maximum"
    )
    .when(|it| it.number().is_some_and(|number| number > i64::from(OUTBOUND_TOPIC_ALIAS_MAXIMUM))),
    setting!(
        "mount_point",
        Listener,
        "none",
        Text(values::MOUNT_POINT, |to, text| {
            to.options.listener.mount_point = Some(values::mount_point(text)?);
            Ok(())
        }),
        ForNewcomers(|of| text(of.options.mount_point.as_deref())),
        ""
    ),
    setting!(
        "use_username_as_clientid",
        Listener,
        "false",
        Switch(|to, is_on| to.options.listener.user_name_is_client_identifier = is_on),
        ForNewcomers(|of| switch(of.options.user_name_is_client_identifier)),
        ""
    ),
    setting!(
        "websockets_origin",
        Listener,
        "none",
        List("the origin of a page, as in https://example.org", |to, text| {
            to.options.origins.push(text.to_owned());
            Ok(())
        }),
        ForNewcomers(origins),
        ""
    ),
    setting!(
        "enable_proxy_protocol",
        Listener,
        "none",
        Number(1, 2, |to, number| to.options.proxy = Some(values::proxy(number))),
        ForNewcomers(proxy),
        ""
    ),
    setting!(
        "proxy_protocol_v2_require_tls",
        Listener,
        "false",
        Switch(|to, is_on| to.options.proxy_requires_tls = is_on),
        ForNewcomers(|of| switch(matches!(of.proxy, Some(Proxy::V2 { requires_tls: true, .. })))),
        ""
    ),
    setting!(
        "proxy_trusted_source",
        Listener,
        "none",
        WordList(values::SOURCE, |to, text| {
            to.options.proxies.push(values::trusted_source(text)?);
            Ok(())
        }),
        ForNewcomers(|of| words(of.proxies.iter().map(ToString::to_string))),
        "Brooklet's own: the addresses of trusted proxies; if not set, all are trusted, which is an error with \
         `require_certificate`, `use_identity_as_username`, `use_subject_as_username` or `proxy_protocol_v2_require_tls`"
    ),
    setting!(
        "certfile",
        Listener,
        "none",
        Path(Named::File, |to, path| to.options.certificate = Some(path)),
        ForNewcomers(|of| path(of.tls.as_ref().map(|tls| &*tls.certificate))),
        ""
    ),
    setting!(
        "keyfile",
        Listener,
        "none",
        Path(Named::File, |to, path| to.options.key = Some(path)),
        ForNewcomers(|of| path(of.tls.as_ref().map(|tls| &*tls.key))),
        ""
    ),
    setting!(
        "cafile",
        Listener,
        "none",
        Path(Named::File, |to, path| to.options.tls.authorities = Some(path)),
        ForNewcomers(|of| path(of.tls.as_ref().and_then(|tls| tls.authorities.as_deref()))),
        ""
    ),
    setting!(
        "crlfile",
        Listener,
        "none",
        Path(Named::File, |to, path| to.options.tls.revoked = Some(path)),
        ForNewcomers(|of| path(of.tls.as_ref().and_then(|tls| tls.revoked.as_deref()))),
        ""
    ),
    setting!(
        "capath",
        Listener,
        "none",
        Path(Named::Directory, |to, path| to.options.tls.authorities_directory = Some(path)),
        ForNewcomers(|of| path(of.tls.as_ref().and_then(|tls| tls.authorities_directory.as_deref()))),
        ""
    ),
    setting!(
        "require_certificate",
        Listener,
        "false",
        Switch(|to, is_on| to.options.tls.requires_certificate = is_on),
        ForNewcomers(requires_certificate),
        ""
    ),
    setting!(
        "use_identity_as_username",
        Listener,
        "false",
        Switch(|to, is_on| to.options.identity_is_user_name = is_on),
        ForNewcomers(|of| switch(of.options.user_name == UserNameSource::CommonName)),
        ""
    ),
    setting!(
        "use_subject_as_username",
        Listener,
        "false",
        Switch(|to, is_on| to.options.subject_is_user_name = is_on),
        ForNewcomers(|of| switch(of.options.user_name == UserNameSource::Subject)),
        ""
    ),
    setting!(
        "tls_record_size",
        Listener,
        "16384",
        Number(512, 16_384, |to, number| to.options.tls.record_size = Some(u16_of(number))),
        ForNewcomers(record_size),
        "Brooklet's own: the most bytes of content in a TLS record that is sent, from 512 to 16384, for clients with small \
         buffers; a certificate may then take several records"
    ),
    setting!(
        "tls_version",
        Listener,
        "tlsv1.2",
        Word("tlsv1.2 or tlsv1.3", |to, text| {
            to.options.tls.is_1_3_only = values::is_1_3_only(text)?;
            Ok(())
        }),
        ForNewcomers(tls_version),
        "only TLS 1.2 and 1.3 are supported, even if older versions are allowed"
    )
    .when(|it| matches!(it.first_word(), "tlsv1.1" | "tlsv1")),
    setting!(
        "tls_keyform",
        Listener,
        "pem",
        Word("pem", |_, text| values::expect_pem(text)),
        Never,
        "only `pem`"
    )
    .never(),
];

/// Whether it is `listener 0 ADDRESS`.
fn is_any_port_of_an_address(it: &Use<'_>) -> bool {
    let mut words = it.value.split_ascii_whitespace();
    words.next() == Some("0") && words.next().is_some_and(|host| host.parse::<IpAddr>().is_ok())
}

#[cfg(feature = "system")]
fn versions(of: &Listener) -> Value<'_> {
    let allowed = of.options.versions.iter().zip(["3", "4", "5"]).filter(|(is_allowed, _)| **is_allowed);
    words(allowed.map(|(_, name)| name))
}

#[cfg(feature = "system")]
const fn protocol(of: &Listener) -> Value<'_> {
    word(match of.protocol {
        Protocol::Mqtt => "mqtt",
        Protocol::WebSocket { .. } => "websockets",
    })
}

#[cfg(feature = "system")]
fn origins(of: &Listener) -> Value<'_> {
    match &of.protocol {
        Protocol::Mqtt => Value::Nothing,
        Protocol::WebSocket { origins, .. } => words(origins),
    }
}

#[cfg(feature = "system")]
fn proxy(of: &Listener) -> Value<'_> {
    match of.proxy {
        None => Value::Nothing,
        Some(Proxy::V1) => number(1_u8),
        Some(Proxy::V2 { .. }) => number(2_u8),
    }
}

#[cfg(feature = "system")]
fn requires_certificate(of: &Listener) -> Value<'_> {
    let is_for_proxy = matches!(of.proxy, Some(Proxy::V2 { requires_certificate: true, .. }));
    switch(is_for_proxy || of.tls.as_ref().is_some_and(|tls| tls.requires_certificate))
}

#[cfg(feature = "system")]
fn record_size(of: &Listener) -> Value<'_> {
    let size = |tls: &Tls| number(tls.record_size.unwrap_or(16_384));
    of.tls.as_ref().map_or(Value::NotApplicable, size)
}

#[cfg(feature = "system")]
const fn tls_version(of: &Listener) -> Value<'_> {
    match of.tls {
        None => Value::Nothing,
        Some(Tls { is_1_3_only: true, .. }) => word("tlsv1.3"),
        Some(Tls { is_1_3_only: false, .. }) => word("tlsv1.2"),
    }
}
