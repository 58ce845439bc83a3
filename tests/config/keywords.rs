//! Checks the section "Coming from mosquitto" in the README against the table of keywords, and the defaults that both
//! state against the settings of an empty file.

use std::collections::BTreeMap;
use std::fs;

use brooklet::config::file::keywords::{Standing, keywords};
#[cfg(feature = "system")]
use brooklet::config::file::{self, CommandLine, Step, keywords::Keyword};
#[cfg(feature = "system")]
use brooklet::settings::Settings;

/// What the README states about a keyword: its default, its standing and its note.
type Row = [String; 3];

/// The rows of the table in the README.
fn rows() -> BTreeMap<String, Row> {
    let readme = fs::read_to_string("README.md").expect("README.md can be read");
    let page = readme.split("\n## Coming from mosquitto\n").nth(1).expect("the page is there");
    let page = page.split("\n## ").next().expect("it has an end");
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

#[test]
fn the_readme_lists_every_keyword_with_its_default_and_place() {
    let mut rows = rows();
    let mut wrong = Vec::new();
    for keyword in keywords() {
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
    assert!(wrong.is_empty(), "the README should say:\n{}", wrong.join("\n"));
}

#[cfg(feature = "system")]
fn settings(text: &str) -> Settings {
    let (statements, _) = file::parse(text.as_bytes(), "a.conf");
    let steps: Vec<Step> = statements.into_iter().map(Step::Statement).collect();
    file::settle(&steps, &CommandLine::default()).0
}

/// The values that these settings report for each keyword.
#[cfg(feature = "system")]
fn values(settings: &Settings) -> BTreeMap<&'static str, String> {
    let value = |keyword: &Keyword| keyword.value(settings, &settings.listeners[0]);
    keywords().filter_map(|keyword| Some((keyword.name, value(keyword)?))).collect()
}

/// Some keywords have a meaning only together with others: they are tested with those set.
#[cfg(feature = "system")]
const RICH: &str = "persistence true\nlistener 1\nprotocol websockets\ncertfile a\nkeyfile b\n";

#[cfg(feature = "system")]
#[test]
fn absent_keywords_have_the_defaults_of_the_table() {
    let (plain, rich) = (values(&settings("listener 1\n")), values(&settings(RICH)));
    let defaults: BTreeMap<_, _> =
        keywords().filter_map(|keyword| Some((keyword.name, keyword.default()?))).collect();
    for (name, default) in &defaults {
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
    const SAMPLES: [&str; 18] = [
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
    ];
    // They are part of the values of others, or are not reported.
    const NOT_TOLD: [&str; 5] =
        ["bind_interface", "log_facility", "log_timestamp_format", "socket_domain", "tls_keyform"];
    let base = format!("{RICH}enable_proxy_protocol 2\n");
    let before = values(&settings(&base));
    let changed = |line: &str| -> Vec<&'static str> {
        let after = values(&settings(&format!("{base}{line}\n")));
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
