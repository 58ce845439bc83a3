//! Keeps the house in order by reading its sources: rooms know only what the table in `src/lib.rs` lets them
//! know, only the upper floors name the outside world, and nothing is left lying about.
//!
//! Every check is a function over text that returns what it found wrong, and has a test which shows that it
//! bites. Reading is by words, not by grammar: it is meant to catch slips, not somebody who wants to deceive it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The first floor that may name the outside world.
const FIRST_FLOOR_OF_THE_WORLD: u32 = 4;

/// The longest file, in lines.
const LINES_MAXIMUM: usize = 800;

/// Stands in the table for all rooms of lower floors.
const BELOW: &str = "below";

/// Marks a room of the table that has no file yet.
const TO_COME: &str = "(to come)";

/// One row of the table of rooms.
#[derive(Debug, PartialEq, Eq)]
struct Room {
    /// A number and perhaps a letter; both sort as text while there are fewer than ten floors.
    floor: String,
    name: String,
    to_come: bool,
    /// Whether it may know the rooms of all lower floors.
    knows_below: bool,
    /// Which rooms it may know by name.
    knows: Vec<String>,
}

impl Room {
    fn may_know(&self, other: &Self) -> bool {
        self.name == other.name
            || self.knows.contains(&other.name)
            || (self.knows_below && other.floor < self.floor)
    }

    fn may_name_the_world(&self) -> bool {
        self.floor.trim_end_matches(char::is_alphabetic).parse::<u32>().expect("a floor has a number")
            >= FIRST_FLOOR_OF_THE_WORLD
    }
}

/// The rows of the table in the documentation of `src/lib.rs`.
fn parse_rooms(library: &str) -> Vec<Room> {
    let lines = library.lines().filter_map(|line| line.strip_prefix("//! | ")).skip(1);
    lines.map(parse_room).collect()
}

fn parse_room(row: &str) -> Room {
    let cells: Vec<&str> = row.trim_end_matches('|').split('|').map(str::trim).collect();
    let [floor, name, _owns, may_know] = cells[..] else {
        panic!("a row of the table has four cells: {row}");
    };
    let known: Vec<&str> = may_know.split(", ").filter(|word| !word.is_empty()).collect();
    Room {
        floor: floor.to_owned(),
        name: unquote(name.trim_end_matches(TO_COME).trim_end()),
        to_come: name.ends_with(TO_COME),
        knows_below: known.contains(&BELOW),
        knows: known.into_iter().filter(|word| *word != BELOW).map(unquote).collect(),
    }
}

fn unquote(cell: &str) -> String {
    let name = cell.strip_prefix('`').and_then(|rest| rest.strip_suffix('`'));
    name.unwrap_or_else(|| panic!("a room is written in backticks: {cell}")).to_owned()
}

/// What is wrong with the table itself. Floors rise from row to row, and whom a row names stands above it on the
/// page; so what rooms know has no circle.
fn check_table(rooms: &[Room]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (row, room) in rooms.iter().enumerate() {
        let earlier = &rooms[..row];
        if earlier.last().is_some_and(|previous| previous.floor > room.floor) {
            wrong.push(format!("`{}` stands under a row of a higher floor", room.name));
        }
        if earlier.iter().any(|other| other.name == room.name) {
            wrong.push(format!("`{}` has two rows", room.name));
        }
        for known in room.knows.iter().filter(|known| earlier.iter().all(|other| other.name != **known)) {
            wrong.push(format!("`{}` names `{known}`, which no row above it is about", room.name));
        }
    }
    wrong
}

/// Files without a row, and rows whose mark does not fit the files. `found` holds the rooms that have files.
fn check_rows(rooms: &[Room], found: &BTreeSet<String>) -> Vec<String> {
    let mut wrong = Vec::new();
    for name in found.iter().filter(|name| rooms.iter().all(|room| room.name != **name)) {
        wrong.push(format!("the room `{name}` has no row in the table of src/lib.rs"));
    }
    for room in rooms {
        match (found.contains(&room.name), room.to_come) {
            (false, false) => wrong.push(format!("the room `{}` of the table has no file", room.name)),
            (true, true) => wrong.push(format!("the room `{}` has come: take its mark away", room.name)),
            _ => {}
        }
    }
    wrong
}

/// The room of a file, by its path inside `src`.
fn room_of(path: &Path) -> String {
    let first = path.components().next().expect("a path has a part").as_os_str();
    Path::new(first).file_stem().expect("a part has a stem").to_str().expect("names are text").to_owned()
}

/// What a file of `room` knows and may not know.
fn check_floors(room: &Room, rooms: &[Room], text: &str) -> Vec<String> {
    let code = without_comments(text);
    let mut known = names_after(&code, "crate");
    known.extend(names_after(&code, env!("CARGO_PKG_NAME")));
    let mut wrong = Vec::new();
    for name in known {
        match rooms.iter().find(|other| other.name == name) {
            None => wrong.push(format!("`{name}` is no room; name things by the room that owns them")),
            Some(other) if room.may_know(other) => {}
            Some(other) => wrong.push(format!("`{}` may not know `{}`", room.name, other.name)),
        }
    }
    wrong
}

/// Paths that reach another room without naming `crate`, where no floor could be read from them. From a file
/// that is a room of its own, `super` is the crate.
fn check_hidden_paths(path: &Path, text: &str) -> Vec<String> {
    let code = without_comments(text);
    let is_whole_room = path.components().count() == 1 || path.ends_with("mod.rs");
    let reach = if is_whole_room { "super::" } else { "super::super::" };
    let hidden = without_tests(&code).contains(reach) || code.contains("super::super::");
    if hidden {
        vec![format!("write `crate::` for `{reach}`, so that the floor can be read")]
    } else {
        vec![]
    }
}

/// Names of the outside world: the poller, sockets, files, threads, clocks and randomness. Tests may use them.
fn check_world(text: &str) -> Vec<String> {
    let comments_gone = without_comments(text);
    let code = without_tests(&comments_gone);
    let mut wrong = Vec::new();
    for name in names_after(code, "std").into_iter().filter(|name| ["net", "fs", "thread"].contains(&&**name))
    {
        wrong.push(format!("`std::{name}` belongs to floor {FIRST_FLOOR_OF_THE_WORLD} and above"));
    }
    for name in ["mio", "Instant", "SystemTime", "RandomState"] {
        if has_word(code, name) {
            wrong.push(format!("`{name}` belongs to floor {FIRST_FLOOR_OF_THE_WORLD} and above"));
        }
    }
    wrong
}

/// What no text of the house may contain, whatever its language.
fn check_text(text: &str) -> Vec<String> {
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
            note(&format!("a path of somebody's own machine, {home}"));
        }
    }
    wrong
}

/// What no Rust source of the house may contain.
fn check_rust(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for (index, line) in without_comments(text).lines().enumerate() {
        let mut note = |what: &str| wrong.push(format!("line {}: {what}", index + 1));
        for mark in LEFTOVER_MACROS.iter().filter(|mark| line.contains(**mark)) {
            note(&format!("a leftover {mark}"));
        }
        if has_word(line, UNSAFE) {
            note("code that the compiler does not check");
        }
        if line.contains(GETTER) {
            note("a name that says it gets; say what");
        }
    }
    wrong
}

/// Every source says first what it is about.
fn check_documentation(text: &str) -> Vec<String> {
    if text.starts_with("//! ") { vec![] } else { vec!["begins with no `//!` documentation".to_owned()] }
}

// These words are put together here so that this file does not contain what it looks for.
const LEFTOVER_WORDS: [&str; 4] =
    [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX"), concat!("HA", "CK")];
const LEFTOVER_MACROS: [&str; 3] = [concat!("dbg", "!"), concat!("todo", "!"), concat!("unimplemented", "!")];
const UNSAFE: &str = concat!("un", "safe");
const GETTER: &str = concat!("fn ", "get_");
const HOMES: [&str; 3] = [concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/Us", "ers/")];

/// Finds links to headings and files that there are not.
fn check_links(text: &str, is_there: impl Fn(&str) -> bool) -> Vec<String> {
    let anchor = |heading: &str| heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
    let headings: BTreeSet<String> = text.lines().filter(|line| line.starts_with('#')).map(anchor).collect();
    let links = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link);
    let wrong = |link: &str| match link.strip_prefix('#') {
        Some(heading) if !headings.contains(heading) => {
            Some(format!("a link to #{heading}, of which there is no heading"))
        }
        None if !link.contains("://") && !is_there(link) => {
            Some(format!("a link to {link}, which is not there"))
        }
        _ => None,
    };
    links.filter_map(wrong).collect()
}

/// The text with comments blanked; lines keep their numbers. A `//` inside of a literal ends its line too.
fn without_comments(text: &str) -> String {
    text.lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .fold(String::new(), |code, line| code + line + "\n")
}

/// What stands before the module of tests, which is the last thing in a file.
fn without_tests(code: &str) -> &str {
    code.split("#[cfg(test)]\nmod ").next().unwrap_or_default()
}

fn is_of_a_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(start, _)| {
        let (before, rest) = text.split_at(start);
        !before.ends_with(is_of_a_word) && !rest[word.len()..].starts_with(is_of_a_word)
    })
}

/// The names that follow `head::` directly, those of a group in braces included. A star is a name, too.
fn names_after(code: &str, head: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let path = format!("{head}::");
    for (start, _) in code.match_indices(&path) {
        let (before, rest) = code.split_at(start);
        let rest = &rest[path.len()..];
        if before.ends_with(is_of_a_word) || before.ends_with("::") {
            continue;
        }
        match rest.strip_prefix('{') {
            Some(group) => names.extend(names_of_group(group)),
            None => names.extend([leading_name(rest)]),
        }
    }
    names
}

/// The leading names of a group's members, `group` being the text after its opening brace.
fn names_of_group(group: &str) -> Vec<String> {
    let mut depth = 0;
    let mut members = vec![String::new()];
    for character in group.chars() {
        match character {
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            '{' => depth += 1,
            ',' if depth == 0 => members.push(String::new()),
            _ if depth == 0 => members.last_mut().expect("there is a member").push(character),
            _ => {}
        }
    }
    members.iter().map(|member| leading_name(member.trim())).filter(|name| !name.is_empty()).collect()
}

fn leading_name(path: &str) -> String {
    let end = path.find(|character| !is_of_a_word(character)).unwrap_or(path.len());
    if path.starts_with('*') { "*".to_owned() } else { path[..end].to_owned() }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The texts under a directory of the house, with their paths inside of it, in order. What is made or fetched
/// is not ours to check.
fn texts(directory: &str) -> Vec<(PathBuf, String)> {
    const NOT_OURS: [&str; 6] = ["target", "corpus", "artifacts", "coverage", "node_modules", "__pycache__"];
    const KINDS: [&str; 6] = ["rs", "py", "sh", "js", "toml", "md"];
    let top = root().join(directory);
    let mut pending = vec![top.clone()];
    let mut found = Vec::new();
    while let Some(path) = pending.pop() {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            if !name.starts_with('.') && !NOT_OURS.contains(&&*name) {
                let entries = fs::read_dir(&path).expect("a directory of ours can be read");
                pending.extend(entries.map(|entry| entry.expect("an entry can be read").path()));
            }
        } else if path.extension().is_none_or(|kind| KINDS.contains(&&*kind.to_string_lossy())) {
            let text =
                fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            found.push((path.strip_prefix(&top).expect("it is inside").to_owned(), text));
        }
    }
    found.sort();
    found
}

fn is_rust(path: &Path) -> bool {
    path.extension().is_some_and(|kind| kind == "rs")
}

/// A file that is all tests, a module behind `#[cfg(test)]` in the file above it.
fn is_all_tests(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs")
}

/// Fails with everything that was found, not with the first only.
fn assert_nothing_wrong(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn rooms_know_only_what_the_table_lets_them_know() {
    let sources: Vec<_> = texts("src").into_iter().filter(|(path, _)| is_rust(path)).collect();
    let library = fs::read_to_string(root().join("src/lib.rs")).expect("src/lib.rs can be read");
    let rooms = parse_rooms(&library);
    let found = sources.iter().map(|(path, _)| room_of(path)).collect();
    let mut wrong = check_table(&rooms);
    wrong.extend(check_rows(&rooms, &found));
    for (path, text) in &sources {
        let Some(room) = rooms.iter().find(|room| room.name == room_of(path)) else {
            continue;
        };
        let mut of_file = check_floors(room, &rooms, text);
        of_file.extend(check_hidden_paths(path, text));
        of_file.extend(check_documentation(text));
        if !room.may_name_the_world() && !is_all_tests(path) {
            of_file.extend(check_world(text));
        }
        wrong.extend(of_file.into_iter().map(|what| format!("src/{}: {what}", path.display())));
    }
    assert_nothing_wrong(&wrong);
}

#[test]
fn links_of_the_readme_lead_somewhere() {
    let text = fs::read_to_string(root().join("README.md")).expect("there is a README");
    let is_there = |place: &str| root().join(place).exists();
    assert_nothing_wrong(&check_links(&text, is_there));
}

#[test]
fn nothing_is_left_lying_about() {
    let mut wrong = Vec::new();
    for directory in ["src", "tests", "fuzz"].into_iter().filter(|directory| root().join(directory).exists())
    {
        for (path, text) in texts(directory) {
            let mut of_file = check_text(&text);
            if is_rust(&path) {
                of_file.extend(check_rust(&text));
            }
            wrong.extend(of_file.into_iter().map(|what| format!("{directory}/{}: {what}", path.display())));
        }
    }
    assert_nothing_wrong(&wrong);
}

/// A table of four rooms, the sample of the tests below.
const SAMPLE: &str = "\
//! | floor | room | owns | may know |
//! |---|---|---|---|
//! | 0a | `ground` | a | |
//! | 1a | `left` | b | below |
//! | 1a | `right` (to come) | c | below, `left` |
//! | 4 | `roof` | d | below |
";

fn sample_room(name: &str) -> Room {
    parse_rooms(SAMPLE).into_iter().find(|room| room.name == name).expect("a room of the sample")
}

#[test]
fn the_table_is_read() {
    let rooms = parse_rooms(SAMPLE);
    assert_eq!(rooms.len(), 4);
    assert_eq!(
        rooms[2],
        Room {
            floor: "1a".to_owned(),
            name: "right".to_owned(),
            to_come: true,
            knows_below: true,
            knows: vec!["left".to_owned()],
        }
    );
    assert_eq!((rooms[0].knows_below, rooms[0].to_come), (false, false));
    assert_eq!((rooms[2].may_name_the_world(), rooms[3].may_name_the_world()), (false, true));
}

#[test]
fn a_table_that_contradicts_itself_is_found() {
    assert_eq!(check_table(&parse_rooms(SAMPLE)), [""; 0]);
    for (row, complaint) in [
        ("//! | 0b | `late` | x | |\n", "higher floor"),
        ("//! | 4 | `left` | x | |\n", "two rows"),
        ("//! | 4 | `circle` | x | `circle` |\n", "no row above"),
    ] {
        let wrong = check_table(&parse_rooms(&format!("{SAMPLE}{row}")));
        assert!(wrong.len() == 1 && wrong[0].contains(complaint), "{wrong:?}");
    }
}

#[test]
fn rows_and_files_that_do_not_fit_are_found() {
    let rooms = parse_rooms(SAMPLE);
    let found = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(check_rows(&rooms, &found(&["ground", "left", "roof"])), [""; 0]);
    for (names, complaint) in [
        (&["ground", "left", "roof", "cellar"][..], "no row"),
        (&["ground", "left"], "no file"),
        (&["ground", "left", "right", "roof"], "has come"),
    ] {
        let wrong = check_rows(&rooms, &found(names));
        assert!(wrong.len() == 1 && wrong[0].contains(complaint), "{wrong:?}");
    }
}

#[test]
fn a_room_is_a_file_or_a_directory() {
    for (path, room) in [("left.rs", "left"), ("left/mod.rs", "left"), ("left/inner/deep.rs", "left")] {
        assert_eq!(room_of(Path::new(path)), room);
    }
}

#[test]
fn knowing_the_wrong_room_is_found() {
    let rooms = parse_rooms(SAMPLE);
    for (room, code, good) in [
        ("left", "use crate::ground::A;", true),
        ("left", "use crate::left::B;", true),
        ("right", "use crate::left::B;", true),
        ("left", "/// See [`crate::roof`].", true),
        ("left", "use crate::right::C;", false),
        ("ground", "use crate::left::B;", false),
        ("left", "fn f() -> crate::roof::D {}", false),
        ("left", "pub(crate) use crate::{\n    ground::{A, B},\n    roof::D,\n};", false),
        ("left", "use crate::*;", false),
        ("left", "use crate::Exported;", false),
        ("left", "use brooklet::roof::D;", false),
        ("ground", "use mycrate::left;", true),
    ] {
        assert_eq!(check_floors(&sample_room(room), &rooms, code).is_empty(), good, "{room}: {code}");
    }
}

#[test]
fn a_path_that_hides_its_floor_is_found() {
    for (path, code, good) in [
        ("left.rs", "use super::roof;", false),
        ("left/mod.rs", "use super::roof;", false),
        ("left/inner.rs", "use super::Left;", true),
        ("left/inner.rs", "use super::super::roof;", false),
        ("left.rs", "fn f() {}\n#[cfg(test)]\nmod tests {\n    use super::*;\n}", true),
        ("left.rs", "fn f() {}\n#[cfg(test)]\nmod tests {\n    use super::super::roof;\n}", false),
    ] {
        assert_eq!(check_hidden_paths(Path::new(path), code).is_empty(), good, "{path}: {code}");
    }
}

#[test]
fn the_outside_world_is_found() {
    for (code, good) in [
        ("use std::collections::BTreeMap;", true),
        ("fn instantly() {}", true),
        ("// reads no std::fs", true),
        ("fn f() {}\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}", true),
        ("use mio::Token;", false),
        ("use std::net::TcpStream;", false),
        ("use std::{fs, mem};", false),
        ("fn f() { std::thread::yield_now() }", false),
        ("use std::time::Instant;", false),
        ("use std::time::{Duration, SystemTime};", false),
        ("use std::collections::hash_map::RandomState;", false),
    ] {
        assert_eq!(check_world(code).is_empty(), good, "{code}");
    }
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
    assert_eq!(check_rust("fn target_of() {}\n#![forbid(unsafe_code)]\n// no dbg!(x)"), [""; 0]);
    let mut bad: Vec<String> = LEFTOVER_MACROS.iter().map(|mark| format!("    {mark}(x);")).collect();
    bad.extend([format!("{UNSAFE} {{ f() }}"), format!("pub {GETTER}name() {{}}")]);
    for text in bad {
        assert_eq!(check_rust(&text).len(), 1, "{text}");
    }
}

#[test]
fn a_link_that_leads_nowhere_is_found() {
    let text =
        "# A\n## Two words\n[a](#two-words) [b](#words) [c](there) [d](gone) [e](https://a.example/)\n";
    let wrong = check_links(text, |place| place == "there");
    assert_eq!(
        wrong,
        ["a link to #words, of which there is no heading", "a link to gone, which is not there"]
    );
}

#[test]
fn a_source_without_documentation_is_found() {
    assert_eq!(check_documentation("//! A room.\n"), [""; 0]);
    assert_eq!(check_documentation("use std::mem;\n//! A room.\n").len(), 1);
}
