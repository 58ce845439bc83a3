//! The page "Coming from mosquitto" in the README, held against the table of keywords.

use std::collections::BTreeMap;
use std::fs;

use brooklet::config::file::keywords::{KEYWORDS, Standing};

/// The rows of the table in the README: a keyword, where it stands and what is to be said of it.
fn rows() -> BTreeMap<String, (String, String)> {
    let readme = fs::read_to_string("README.md").expect("README.md can be read");
    let page = readme.split("\n## Coming from mosquitto\n").nth(1).expect("the page is there");
    let page = page.split("\n## ").next().expect("it has an end");
    let mut rows = BTreeMap::new();
    for line in page.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [names, standing, note] = cells[..] else { panic!("a row has three cells: {line}") };
        for name in names.split(", ") {
            let name = name.trim_matches('`').to_owned();
            let earlier = rows.insert(name, (standing.to_owned(), note.to_owned()));
            assert_eq!(earlier, None, "{line}");
        }
    }
    rows
}

#[test]
fn the_readme_says_of_every_keyword_where_it_stands() {
    let mut rows = rows();
    let mut wrong = Vec::new();
    for keyword in KEYWORDS {
        let standing = match keyword.standing() {
            Standing::Works => "works",
            Standing::Differs => "differs",
            Standing::Ignored => "ignored",
            Standing::NotYet => "not yet",
        };
        let row = rows.remove(keyword.name);
        let is_right = row.as_ref().is_some_and(|(said, note)| said == standing && note == keyword.note);
        if !is_right {
            wrong.push(format!("| `{}` | {standing} | {} |", keyword.name, keyword.note));
        }
    }
    assert!(rows.is_empty(), "these are no keywords: {:?}", rows.keys());
    assert!(wrong.is_empty(), "the README should say:\n{}", wrong.join("\n"));
}
