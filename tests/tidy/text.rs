//! Things that no text of the repository may contain.

use std::collections::{BTreeMap, BTreeSet};

use crate::words::{has_word, without_comments};

/// The longest file, in lines.
const LINES_MAXIMUM: usize = 800;

/// Returns what is wrong in a text, whatever its language.
pub fn check_text(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let count = text.lines().count();
    if count > LINES_MAXIMUM {
        wrong.push(format!("{count} lines, more than {LINES_MAXIMUM}"));
    }
    for (index, line) in text.lines().enumerate() {
        let mut note = |what: &str| wrong.push(format!("line {}: {what}", index + 1));
        if line.contains('\t') {
            note("a tab");
        }
        if line.trim_end() != line {
            note("white space at the end");
        }
        for word in LEFTOVER_WORDS.iter().filter(|word| has_word(line, word)) {
            note(&format!("a leftover note, {word}"));
        }
        for home in HOMES.iter().filter(|home| line.contains(**home)) {
            note(&format!("a path of a private machine, {home}"));
        }
    }
    wrong
}

/// What no comment may contain: words that make a reader look for who or what is meant. Code in backticks is let off.
pub fn check_comments(text: &str) -> Vec<String> {
    let comments = text.lines().enumerate().filter(|(_, line)| line.trim_start().starts_with("//"));
    comments.flat_map(|(index, line)| check_english(index, line)).collect()
}

/// The same for a document, without its examples.
pub fn check_prose(text: &str) -> Vec<String> {
    prose(text).flat_map(|(index, line)| check_english(index, line)).collect()
}

fn check_english(index: usize, line: &str) -> Vec<String> {
    let words = line.split('`').step_by(2).collect::<Vec<_>>().join(" ").to_lowercase();
    let found = VAGUE_WORDS.iter().filter(|word| has_word(&words, word));
    found.map(|word| format!("line {}: \"{word}\"; name what is meant", index + 1)).collect()
}

/// Returns what is wrong in a Rust source; one file may have lines that the compiler does not check.
pub fn check_rust(text: &str, may_be_unchecked: bool) -> Vec<String> {
    let mut wrong = Vec::new();
    for (index, line) in without_comments(text).lines().enumerate() {
        let mut note = |what: &str| wrong.push(format!("line {}: {what}", index + 1));
        for mark in LEFTOVER_MACROS.iter().filter(|mark| line.contains(**mark)) {
            note(&format!("a leftover {mark}"));
        }
        let is_let_off = line.contains(UNSAFE_LINT) && !line.contains("forbid");
        if !may_be_unchecked && (has_word(line, UNSAFE) || is_let_off) {
            note("code that the compiler does not check");
        }
        if line.contains(GETTER) {
            note("a name that says it gets; say what");
        }
    }
    wrong
}

/// Checks the lines of that file which the compiler does not check: no more than the linker needs.
pub fn check_unchecked(text: &str) -> Vec<String> {
    let code = without_comments(text);
    let found: Vec<&str> = code.lines().filter(|line| line.contains(UNSAFE)).map(str::trim).collect();
    if found == UNCHECKED { vec![] } else { vec![format!("what the compiler does not check: {found:?}")] }
}

/// Every source begins with its documentation.
pub fn check_documentation(text: &str) -> Vec<String> {
    if text.starts_with("//! ") { vec![] } else { vec!["begins with no `//!` documentation".to_owned()] }
}

const VAGUE_WORDS: [&str; 9] =
    ["nobody", "whoever", "in hand", "of ours", "can not", "he", "she", "his", "him"];
// These words are concatenated here so that this file does not contain what it looks for.
const LEFTOVER_WORDS: [&str; 4] =
    [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX"), concat!("HA", "CK")];
const LEFTOVER_MACROS: [&str; 3] = [concat!("dbg", "!"), concat!("todo", "!"), concat!("unimplemented", "!")];
const UNSAFE: &str = concat!("un", "safe");
const UNSAFE_LINT: &str = concat!("un", "safe_code");
/// The one file that may have lines which the compiler does not check, by its path in `src`, and these lines.
pub const UNCHECKED_FILE: &str = "base/foreign.rs";
const UNCHECKED: [&str; 3] = [
    concat!("#![allow(un", "safe_code)]"),
    concat!("un", "safe extern \"C\" {"),
    concat!("#[un", "safe(no_mangle)]"),
];
const GETTER: &str = concat!("fn ", "get_");
const HOMES: [&str; 3] = [concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/Us", "ers/")];

/// The lines of a document outside of its examples.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut is_example = false;
    text.lines().enumerate().filter(move |(_, line)| {
        let is_fence = line.trim_start().starts_with("```");
        is_example ^= is_fence;
        !is_example && !is_fence
    })
}

/// The anchors of a document: what a link to one of its headings has after the `#`.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).filter_map(|(_, line)| line.strip_prefix('#'));
    let anchor = |heading: &str| -> String {
        let words = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        words.chars().filter(|&sign| sign.is_alphanumeric() || "-_".contains(sign)).collect()
    };
    headings.map(anchor).collect()
}

/// The path of what a link in a document leads to, without the directories that `..` leaves again.
fn target_of(page: &str, place: &str) -> String {
    let mut steps: Vec<&str> = page.split('/').collect();
    steps.pop();
    for step in place.split('/') {
        if step == ".." {
            steps.pop();
        } else {
            steps.push(step);
        }
    }
    steps.join("/")
}

/// Finds links in one of these documents to headings and files that do not exist.
pub fn check_links(
    page: &str,
    pages: &BTreeMap<String, String>,
    is_there: impl Fn(&str) -> bool,
) -> Vec<String> {
    let links = pages[page].split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link);
    let wrong = |link: &str| {
        let (place, anchor) = link.split_once('#').unwrap_or((link, ""));
        let target = if place.is_empty() { page.to_owned() } else { target_of(page, place) };
        if !is_there(&target) {
            return Some(format!("{page}: a link to {link}, which is not there"));
        }
        let is_heading = pages.get(&target).is_some_and(|text| anchors(text).contains(anchor));
        (!anchor.is_empty() && !is_heading)
            .then(|| format!("{page}: a link to {link}, of which there is no heading"))
    };
    links.filter(|link| !link.contains("://")).filter_map(wrong).collect()
}

/// The rows of the walk of a PUBLISH: a file of `src`, and the first function that the row names.
pub fn walk_of(text: &str) -> Vec<(&str, &str)> {
    let rows = text.lines().skip_while(|line| !line.starts_with("| file | function |")).skip(2);
    let cells = rows.map_while(|row| row.strip_prefix("| `")?.split_once("` | `"));
    cells.filter_map(|(file, rest)| Some((file, rest.split_once('`')?.0))).collect()
}

/// Finds steps of the walk that name a function which is not in its file.
pub fn check_walk(walk: &[(&str, &str)], source: impl Fn(&str) -> String) -> Vec<String> {
    let is_there = |file: &str, function: &str| {
        let code = source(file);
        code.match_indices(&format!("fn {function}"))
            .any(|(at, name)| code[at + name.len()..].starts_with(['(', '<']))
    };
    let missing = walk.iter().filter(|(file, function)| !is_there(file, function));
    missing.map(|(file, function)| format!("the walk names `{function}`, which is not in {file}")).collect()
}

#[test]
fn vague_words_are_found_in_comments_and_prose_alone() {
    let lines = |wrong: Vec<String>| wrong.iter().map(|what| what[..6].to_owned()).collect::<Vec<_>>();
    let text = "/// Nobody reads.\nlet nobody = 1;\n    // `nobody` is a user.\n// As he says, it can not.\n";
    assert_eq!(lines(check_comments(text)), ["line 1", "line 4", "line 4"]);
    let text = "This is his.\n```\nhis\n```\nHistory is not.\n";
    assert_eq!(lines(check_prose(text)), ["line 1"]);
}

#[test]
fn a_step_that_leads_nowhere_is_found() {
    let text = "| file | function | what |\n|---|---|---|\n| `a.rs` | `one` | x |\n| `a.rs` | `tw` | y |\n\n| `b` | `c` | |";
    let walk = walk_of(text);
    assert_eq!(walk, [("a.rs", "one"), ("a.rs", "tw")]);
    let source = |_: &str| "fn one<T>() {}\nfn two() {}".to_owned();
    assert_eq!(check_walk(&walk, source), ["the walk names `tw`, which is not in a.rs"]);
}

#[test]
fn leftovers_in_a_text_are_found() {
    assert_eq!(check_text("a line\nand another\n"), [""; 0]);
    let mut bad: Vec<String> = LEFTOVER_WORDS.iter().map(|word| format!("# {word}: later")).collect();
    bad.extend(HOMES.iter().map(|home| format!("open {home}someone/file")));
    bad.extend(["a\tb".to_owned(), "a ".to_owned(), "a\n".repeat(LINES_MAXIMUM + 1)]);
    for text in bad {
        assert_eq!(check_text(&text).len(), 1, "{text}");
    }
}

#[test]
fn leftovers_in_a_source_are_found() {
    assert_eq!(check_rust("fn target_of() {}\n#![forbid(unsafe_code)]\n// no dbg!(x)", false), [""; 0]);
    let mut bad: Vec<String> = LEFTOVER_MACROS.iter().map(|mark| format!("    {mark}(x);")).collect();
    bad.extend([format!("{UNSAFE} {{ f() }}"), format!("pub {GETTER}name() {{}}")]);
    for text in bad {
        assert_eq!(check_rust(&text, false).len(), 1, "{text}");
    }
}

#[test]
fn one_more_line_that_is_not_checked_is_found() {
    let good = UNCHECKED.join("\n");
    assert_eq!((check_rust(&good, true), check_unchecked(&good)), (vec![], vec![]));
    for more in [format!("{UNSAFE} {{ f() }}"), format!("#[{UNSAFE}(no_mangle)]"), good.clone()] {
        assert_eq!(check_unchecked(&format!("{good}\n{more}")).len(), 1, "{more}");
    }
    assert_eq!(check_unchecked("").len(), 1, "nothing is left to be let off");
    let allowed = concat!("#[allow(un", "safe_code)]");
    assert_eq!(check_rust(allowed, false).len(), 1, "the lint is not to be switched off elsewhere");
}

#[test]
fn a_link_that_leads_nowhere_is_found() {
    let readme = "# A\n## Two, words\n```\n# no heading\n```\n[a](#two-words) [b](#words) [c](docs/b.md#b) [d](gone) \
                  [e](https://a.example/) [f](docs/b.md#c) [g](#no-heading)\n";
    let page = "# B\n[a](../README.md#a) [b](c.md) [c](../docs/b.md) [d](b.md#b)\n";
    let pages = [("README.md", readme), ("docs/b.md", page)];
    let pages = pages.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
    let wrong = |page: &str| check_links(page, &pages, |place| pages.contains_key(place));
    let expected = [
        "README.md: a link to #words, of which there is no heading",
        "README.md: a link to gone, which is not there",
        "README.md: a link to docs/b.md#c, of which there is no heading",
        "README.md: a link to #no-heading, of which there is no heading",
    ];
    assert_eq!(wrong("README.md"), expected);
    assert_eq!(wrong("docs/b.md"), ["docs/b.md: a link to c.md, which is not there"]);
}

#[test]
fn a_source_without_documentation_is_found() {
    assert_eq!(check_documentation("//! A room.\n"), [""; 0]);
    assert_eq!(check_documentation("use std::mem;\n//! A room.\n").len(), 1);
}
