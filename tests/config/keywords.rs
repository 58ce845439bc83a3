//! The page "Coming from mosquitto" in the README, held against the table of keywords; and the defaults that both tell,
//! against what the settings are where nothing is said.

use std::collections::BTreeMap;
use std::fs;

use brooklet::config::file::keywords::{Standing, keywords};

/// What the README says of a keyword: its default, where it stands and what is to be said of it.
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
fn the_readme_says_of_every_keyword_its_default_and_where_it_stands() {
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

/// Some keywords have a meaning only beside others: they are looked at with those said.
#[cfg(feature = "system")]
#[test]
fn what_is_not_said_is_as_the_table_tells() {
    use brooklet::config::file::{self, CommandLine, Step};
    use brooklet::settings::Settings;

    let settings = |text: &str| -> Settings {
        let (statements, _) = file::parse(text.as_bytes(), "a.conf");
        let steps: Vec<Step> = statements.into_iter().map(Step::Say).collect();
        file::settle(&steps, &CommandLine::default()).0
    };
    let said = ["persistence", "protocol", "certfile", "keyfile"];
    let plain = settings("listener 1\n");
    let rich = settings("persistence true\nlistener 1\nprotocol websockets\ncertfile a\nkeyfile b\n");
    let mut defaults = BTreeMap::new();
    for keyword in keywords() {
        let Some(default) = keyword.default() else { continue };
        defaults.insert(keyword.name, default);
        let settings = if said.contains(&keyword.name) { &plain } else { &rich };
        if let Some(value) = keyword.value(settings, &settings.listeners[0]) {
            assert_eq!(value, default, "{}", keyword.name);
        }
    }
    for keyword in keywords() {
        if let Some(other) = keyword.told_by() {
            assert_eq!(keyword.default(), defaults.get(other).copied(), "{}", keyword.name);
        }
    }
}
