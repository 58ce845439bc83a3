//! Checks the page docs/mosquitto.md against the table of keywords, and the defaults that both state against the settings
//! of an empty file.

use std::collections::BTreeMap;
#[cfg(feature = "bridge")]
use std::fs;

#[cfg(feature = "system")]
use brooklet::config::file::keywords::Keyword;
#[cfg(feature = "bridge")]
use brooklet::config::file::keywords::Standing;
use brooklet::config::file::keywords::keywords;
#[cfg(feature = "system")]
use brooklet::settings::Settings;

#[cfg(feature = "system")]
use crate::settle::settle;

/// What the page states about a keyword: its default, its standing and its note.
#[cfg(feature = "bridge")]
type Row = [String; 3];

/// The rows of the table in the page.
#[cfg(feature = "bridge")]
fn rows() -> BTreeMap<String, Row> {
    let page = fs::read_to_string("docs/mosquitto.md").expect("the page can be read");
    let mut rows = BTreeMap::new();
    for line in page.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [names, default, standing, note] = cells[..] else { panic!("a row has four cells: {line}") };
        for name in names.split(", ") {
            let name = name.trim_matches('`').to_owned();
            let row = [default, standing, note].map(str::to_owned);
            assert_eq!(rows.insert(name, row), None, "{line}");
        }
    }
    rows
}

/// Without the feature `bridge`, the keywords of bridges are refused.
#[cfg(feature = "bridge")]
#[test]
fn the_page_lists_every_keyword_with_its_default_and_place() {
    let mut rows = rows();
    // Without the feature `cluster`, those of a node are refused.
    let is_told = |name: &str| cfg!(feature = "cluster") || !name.starts_with("cluster");
    rows.retain(|name, _| is_told(name));
    let mut wrong = Vec::new();
    for keyword in keywords().filter(|keyword| is_told(keyword.name)) {
        let standing = match keyword.standing() {
            Standing::Works => "works",
            Standing::Differs => "differs",
            Standing::Ignored => "ignored",
            Standing::NotYet => "not yet",
        };
        let expected = [keyword.default().unwrap_or_default(), standing, keyword.note];
        let said = rows.remove(keyword.name);
        if said.is_none_or(|said| said != expected) {
            let [default, standing, note] = expected;
            wrong.push(format!("| `{}` | {default} | {standing} | {note} |", keyword.name));
        }
    }
    assert!(rows.is_empty(), "these are no keywords: {:?}", rows.keys());
    assert!(wrong.is_empty(), "docs/mosquitto.md should say:\n{}", wrong.join("\n"));
}

/// The values that these settings report for each keyword.
#[cfg(feature = "system")]
fn values(settings: &Settings) -> BTreeMap<&'static str, String> {
    let value = |keyword: &Keyword| {
        let value = keyword.value(settings, &settings.listeners[0]);
        #[cfg(feature = "bridge")]
        let value = value.or_else(|| keyword.value_of_bridge(settings.bridges.first()?));
        value
    };
    keywords().filter_map(|keyword| Some((keyword.name, value(keyword)?))).collect()
}

/// Some keywords have a meaning only together with others: they are tested with those set.
#[cfg(feature = "system")]
const RICH: &str = "persistence true\nlistener 1\nprotocol websockets\ncertfile a\nkeyfile b\n\
                    connection NAME\naddress a\ntopic #\nstart_type lazy\nbridge_cafile a\nbridge_certfile a\n\
                    bridge_keyfile b\nlocal_clientid l\nnotification_topic t\nlocal_cleansession false\n\
                    bridge_session_expiry_interval 1\nbridge_tcp_user_timeout 1\nbridge_receive_maximum 1\n\
                    cluster tls://a\ncluster_name NAME\ncluster_cafile a\ncluster_certfile a\ncluster_keyfile b\n";

/// The least with a listener and a bridge.
#[cfg(feature = "system")]
const PLAIN: &str = "listener 1\nconnection NAME\naddress a\ntopic #\n";

#[cfg(feature = "system")]
#[test]
fn absent_keywords_have_the_defaults_of_the_table() {
    let (plain, rich) = (values(&settle(PLAIN).0), values(&settle(RICH).0));
    let defaults: BTreeMap<_, _> =
        keywords().filter_map(|keyword| Some((keyword.name, keyword.default()?))).collect();
    for (name, default) in &defaults {
        if ["address", "topic"].contains(name) {
            continue;
        }
        let is_said = RICH.lines().any(|line| line.starts_with(&format!("{name} ")));
        if let Some(value) = if is_said { &plain } else { &rich }.get(name) {
            assert_eq!(value, default, "{name}");
        }
    }
    for (keyword, other) in keywords().filter_map(|keyword| Some((keyword, keyword.alias_of()?))) {
        assert_eq!(keyword.default(), defaults.get(other).copied(), "{}", keyword.name);
    }
}

/// Setting a keyword changes the reported value of that keyword and of no other.
#[cfg(feature = "system")]
#[test]
fn a_keyword_that_is_set_is_reported_by_its_name() {
    const SAMPLES: [&str; 27] = [
        "refuse",
        "true",
        "false",
        "1",
        "0",
        "2",
        "7",
        "300",
        "3",
        "8M",
        "2d",
        "x",
        "10.0.0.1",
        "debug",
        "stdout",
        "everysec",
        "set_aside",
        "tlsv1.3",
        "mqtt",
        "mqttv50",
        "60 10 3",
        "once",
        "immediate",
        "oldest",
        "4294967295",
        "5000",
        "tls://b",
    ];
    // They are part of the values of others, or are not reported.
    const NOT_TOLD: [&str; 6] = [
        "bind_interface",
        "bridge_require_ocsp",
        "log_facility",
        "log_timestamp_format",
        "socket_domain",
        "tls_keyform",
    ];
    let base = format!("{RICH}enable_proxy_protocol 2\n");
    let before = values(&settle(&base).0);
    let changed = |line: &str| -> Vec<&'static str> {
        let after = values(&settle(&format!("{base}{line}\n")).0);
        let differs = |name: &&str| after.get(*name).is_some_and(|value| *value != before[*name]);
        before.keys().copied().filter(differs).collect()
    };
    assert_eq!(changed("protocol mqtt"), ["protocol", "websockets_headers_size"], "without headers of HTTP");
    for keyword in keywords().filter(|keyword| keyword.default().is_some()) {
        let told = keyword.alias_of().unwrap_or(keyword.name);
        let is_told = SAMPLES.iter().any(|value| changed(&format!("{} {value}", keyword.name)) == [told]);
        let is_expected = !NOT_TOLD.contains(&told) && !["protocol", "per_listener_settings"].contains(&told);
        assert_eq!(is_told, is_expected, "{}", keyword.name);
    }
}
