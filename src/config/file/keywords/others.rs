//! The keywords that have no effect, those that are refused, and those that belong to refused ones.

use super::row::{
    Keyword,
    Meaning::{Family, Ignored, IgnoredOption, PartOf, Refused},
    row,
};

// What a binary was built without is not expected.
const NO_PRE_SHARED_KEYS: &str = if cfg!(feature = "tls") {
    "TLS with pre-shared keys is not supported, expected certfile and keyfile"
} else {
    "TLS with pre-shared keys is not supported"
};
const NO_ENGINES: &str = if cfg!(feature = "tls") {
    "keys in engines are not supported, expected a keyfile"
} else {
    "keys in engines are not supported"
};
const NO_PLUGINS: &str = if cfg!(feature = "passwords") {
    "plugins are not supported, expected password_file and acl_file"
} else {
    "plugins are not supported, expected acl_file"
};
const PLUGINS: &[&str] = &["plugin", "global_plugin", "auth_plugin", "plugin_load"];

pub(super) static ROWS: &[Keyword] = &[
    row(
        "allow_duplicate_messages",
        Ignored,
        "a client receives one copy of a message, at the highest QoS of its matching subscriptions; \
         mosquitto sends one for each of them with `true`, and always to 5.0 clients",
    ),
    row("retain_expiry_interval", Ignored, "expired retained messages are removed continuously"),
    row("set_tcp_nodelay", Ignored, "data is always sent without delay"),
    row("autosave_interval", Ignored, "changes are persisted as they happen, not periodically"),
    row("autosave_on_changes", Ignored, "changes are persisted as they happen, not periodically"),
    row("store_clean_interval", Ignored, "mosquitto has removed it as well"),
    row("max_inflight_bytes", Ignored, "the queue of a client is always limited in bytes"),
    row("ciphers", IgnoredOption, "TLS uses only strong cipher suites"),
    row("ciphers_tls1.3", IgnoredOption, "TLS uses only strong cipher suites"),
    row("dhparamfile", IgnoredOption, "TLS uses only elliptic curves"),
    row(
        "disable_client_cert_date_checks",
        Ignored,
        "certificates outside their validity period are always refused",
    ),
    row("enable_control_api", Ignored, "the $CONTROL interface is not supported"),
    row("http_dir", Ignored, "there is no web server, only WebSocket"),
    row("websockets_log_level", Ignored, "log_type sets what is logged"),
    row(
        "auth_plugin_deny_special_chars",
        Ignored,
        "names with characters that could widen a pattern are always denied",
    ),
    row("psk_file", Refused, NO_PRE_SHARED_KEYS),
    row("psk_hint", Refused, NO_PRE_SHARED_KEYS),
    row("tls_engine", Refused, NO_ENGINES),
    row("tls_engine_kpass_sha1", PartOf("tls_engine"), ""),
    row("plugin", Refused, NO_PLUGINS),
    row("global_plugin", Refused, NO_PLUGINS),
    row("auth_plugin", Refused, NO_PLUGINS),
    row("plugin_load", Refused, NO_PLUGINS),
    row("plugin_use", PartOf("plugin_load"), ""),
    row("plugin_opt_", Family(PLUGINS), ""),
    row("auth_opt_", Family(PLUGINS), ""),
];
