//! Which room may know which, by the list of wings and the table of rooms in `src/lib.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::words::{has_word, names_after, without_comments, without_tests};

/// The first floor that may name the outside world.
const FIRST_FLOOR_OF_THE_WORLD: u32 = 4;

/// Files and directories in `src`, at most.
const ENTRIES_MAXIMUM: usize = 15;

/// In the table, stands for all rooms of lower floors.
const BELOW: &str = "below";

/// Marks a wing or a room that has no file yet.
const TO_COME: &str = "(to come)";

/// The entries of `src` that are not wings.
const NO_WINGS: [&str; 2] = ["lib", "main"];

/// The house as `src/lib.rs` describes it.
#[derive(Debug)]
pub struct House {
    /// From the bottom up, without future ones.
    pub wings: Vec<String>,
    pub rooms: Vec<Room>,
}

/// One row of the table of rooms.
#[derive(Debug, PartialEq, Eq)]
pub struct Room {
    /// A number and perhaps a letter; both sort as text while there are fewer than ten floors.
    floor: String,
    /// `wing::room`, or the wing alone if it is one room.
    pub name: String,
    to_come: bool,
    /// Whether it may know the rooms of all lower floors.
    knows_below: bool,
    /// The rooms that it may know by name.
    knows: Vec<String>,
}

impl Room {
    fn wing(&self) -> &str {
        wing_of(&self.name)
    }

    pub fn may_name_the_world(&self) -> bool {
        self.floor.trim_end_matches(char::is_alphabetic).parse::<u32>().expect("a floor has a number")
            >= FIRST_FLOOR_OF_THE_WORLD
    }
}

fn wing_of(room: &str) -> &str {
    room.split("::").next().unwrap_or_default()
}

impl House {
    /// Reads the documentation of `src/lib.rs`.
    pub fn parse(library: &str) -> Self {
        let rows = library.lines().filter_map(|line| line.strip_prefix("//! | ")).skip(1);
        let listed = library.lines().filter_map(|line| line.strip_prefix("//! - `"));
        let present = listed.filter(|line| !line.contains(TO_COME));
        let wings = present.map(|line| line.split('`').next().unwrap_or_default().to_owned());
        Self { wings: wings.collect(), rooms: rows.map(parse_room).collect() }
    }

    /// The row of a room.
    pub fn room(&self, name: &str) -> Option<&Room> {
        self.rooms.iter().find(|room| room.name == name)
    }

    /// The name of the room that a file belongs to, by its path in `src`; `None` for the `mod.rs` of a wing.
    pub fn room_of(&self, path: &Path) -> Option<String> {
        let stem =
            |part: &Path| part.file_stem().expect("a part has a stem").to_str().expect("text").to_owned();
        let parts: Vec<String> = path.iter().map(|part| stem(Path::new(part))).collect();
        if self.room(&parts[0]).is_some() || parts.len() == 1 {
            return Some(parts[0].clone());
        }
        (parts[1] != "mod").then(|| format!("{}::{}", parts[0], parts[1]))
    }

    fn rank(&self, wing: &str) -> usize {
        self.wings.iter().position(|other| other == wing).unwrap_or(self.wings.len())
    }

    /// Floors decide, and so does the order of the wings: one wing may know another in one direction only.
    fn may_know(&self, room: &Room, other: &Room) -> bool {
        let is_named = room.name == other.name || room.knows.contains(&other.name);
        let is_below = room.knows_below && other.floor < room.floor;
        (is_named || is_below) && self.rank(other.wing()) <= self.rank(room.wing())
    }

    /// Returns what is wrong with the list and the table themselves. Floors rise from row to row, and a row names only
    /// rooms above it in the table, so dependencies have no circle.
    pub fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (row, room) in self.rooms.iter().enumerate() {
            let earlier = &self.rooms[..row];
            if earlier.last().is_some_and(|previous| previous.floor > room.floor) {
                wrong.push(format!("`{}` stands under a row of a higher floor", room.name));
            }
            if earlier.iter().any(|other| other.name == room.name) {
                wrong.push(format!("`{}` has two rows", room.name));
            }
            for known in room.knows.iter().filter(|known| earlier.iter().all(|other| other.name != **known)) {
                wrong.push(format!("`{}` names `{known}`, which no row above it is about", room.name));
            }
            let is_listed = self.wings.iter().any(|wing| wing == room.wing());
            if !is_listed && !room.to_come && !NO_WINGS.contains(&room.wing()) {
                wrong.push(format!("`{}` is in no wing of the list", room.name));
            }
        }
        wrong
    }

    /// Returns entries of `src` that are not in the list of wings, and wings without an entry.
    pub fn check_entries(&self, entries: &BTreeSet<String>) -> Vec<String> {
        let mut wrong = Vec::new();
        if entries.len() > ENTRIES_MAXIMUM {
            wrong.push(format!("src has {} entries, more than {ENTRIES_MAXIMUM}", entries.len()));
        }
        let is_known = |entry: &str| NO_WINGS.contains(&entry) || self.wings.iter().any(|wing| wing == entry);
        for entry in entries.iter().filter(|entry| !is_known(entry)) {
            wrong.push(format!("`{entry}` is no wing of the list in src/lib.rs"));
        }
        for wing in self.wings.iter().filter(|wing| !entries.contains(*wing)) {
            wrong.push(format!("the wing `{wing}` has no directory and no file"));
        }
        wrong
    }

    /// Returns files without a row, and rows whose mark does not fit the files. `found` holds the rooms that have
    /// files.
    pub fn check_rows(&self, found: &BTreeSet<String>) -> Vec<String> {
        let mut wrong = Vec::new();
        for name in found.iter().filter(|name| self.room(name).is_none()) {
            wrong.push(format!("the room `{name}` has no row in the table of src/lib.rs"));
        }
        for room in &self.rooms {
            match (found.contains(&room.name), room.to_come) {
                (false, false) => wrong.push(format!("the room `{}` of the table has no file", room.name)),
                (true, true) => wrong.push(format!("the room `{}` has come: take its mark away", room.name)),
                _ => {}
            }
        }
        wrong
    }

    /// Returns the rooms that a file of `room` knows and may not know.
    pub fn check_floors(&self, room: &Room, text: &str) -> Vec<String> {
        let code = without_comments(text);
        let mut wrong = Vec::new();
        for head in ["crate", env!("CARGO_PKG_NAME")] {
            if code.contains(&format!("{head}::{{")) {
                wrong.push(format!("write a `use` for each room instead of `{head}::{{`"));
            }
            for name in self.names_known(&code, head) {
                match self.room(&name) {
                    None => {
                        wrong.push(format!("`{name}` is no room; name things by the room that owns them"))
                    }
                    Some(other) if self.may_know(room, other) => {}
                    Some(other) => wrong.push(format!("`{}` may not know `{}`", room.name, other.name)),
                }
            }
        }
        wrong
    }

    /// The rooms named after `head::`.
    fn names_known(&self, code: &str, head: &str) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for first in names_after(code, head) {
            let inside = names_after(code, &format!("{head}::{first}"));
            if self.room(&first).is_some() || inside.is_empty() {
                names.insert(first);
            } else {
                names.extend(inside.into_iter().map(|second| format!("{first}::{second}")));
            }
        }
        names
    }
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

/// The `mod.rs` of a wing documents it and declares its rooms; it has no code of its own.
pub fn check_page(text: &str) -> Vec<String> {
    let code = without_comments(text);
    let is_plain =
        |line: &&str| line.is_empty() || line.starts_with("pub mod ") || line.starts_with("#[cfg(");
    let other = code.lines().filter(|line| !is_plain(line));
    other.map(|line| format!("the page of a wing holds no code: {line}")).collect()
}

/// Whether a file is the front of its room, which other rooms see.
fn is_front(path: &Path, depth: usize) -> bool {
    path.components().count() == depth || (path.components().count() == depth + 1 && path.ends_with("mod.rs"))
}

/// Finds paths that reach another room without naming `crate`, which would hide the floor. The depth of `room` is
/// where `super` leaves it.
pub fn check_hidden_paths(room: &Room, path: &Path, text: &str) -> Vec<String> {
    let code = without_comments(text);
    let depth = room.name.split("::").count();
    let reach = if is_front(path, depth) { "super::" } else { "super::super::" };
    let hidden = without_tests(&code).contains(reach) || code.contains("super::super::");
    if hidden {
        vec![format!("write `crate::` for `{reach}`, so that the floor can be read")]
    } else {
        vec![]
    }
}

/// Which files of one directory know which others of it, apart from the directory's `mod.rs`.
#[derive(Debug, Default)]
pub struct Neighbours(BTreeMap<String, BTreeSet<String>>);

impl Neighbours {
    /// Reads which other files of a directory the file `name` knows; `directory` is its path in the crate.
    pub fn add(&mut self, directory: &str, name: &str, text: &str) {
        let comments_gone = without_comments(text);
        let code = without_tests(&comments_gone);
        let known = self.0.entry(name.to_owned()).or_default();
        known.extend(names_after(code, "super"));
        known.extend(names_after(code, directory));
    }

    /// Files that know each other, directly or through others: those that are left after repeatedly removing all files
    /// that know none of the rest, and all that none of the rest knows.
    pub fn circle(&self) -> BTreeSet<String> {
        let mut left: BTreeSet<String> = self.0.keys().cloned().collect();
        loop {
            let knows =
                |name: &String| self.0[name].iter().any(|other| other != name && left.contains(other));
            let is_known =
                |name: &String| left.iter().any(|other| other != name && self.0[other].contains(name));
            let stays: BTreeSet<String> =
                left.iter().filter(|name| knows(name) && is_known(name)).cloned().collect();
            if stays.len() == left.len() {
                return stays;
            }
            left = stays;
        }
    }
}

/// Finds names of the outside world: the poller, sockets, files, threads, clocks and randomness. Tests may use them.
pub fn check_world(text: &str) -> Vec<String> {
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

/// Three wings of five rooms, the sample for the tests below.
const SAMPLE: &str = "\
//! - `ground`: a
//! - `hall`: b
//! - `roof`: c
//! - `tower` (to come): d
//!
//! | floor | room | owns | may know |
//! |---|---|---|---|
//! | 0a | `ground::earth` | a | |
//! | 1a | `hall::left` | b | below |
//! | 1a | `hall::right` (to come) | c | below, `hall::left` |
//! | 4 | `ground::well` | d | |
//! | 4 | `roof` | d | below, `ground::well` |
//! | 5 | `hall::attic` | e | below |
";

fn sample() -> House {
    House::parse(SAMPLE)
}

#[test]
fn the_list_and_the_table_are_read() {
    let house = sample();
    assert_eq!(house.wings, ["ground", "hall", "roof"]);
    assert_eq!(house.rooms.len(), 6);
    assert_eq!(
        house.rooms[2],
        Room {
            floor: "1a".to_owned(),
            name: "hall::right".to_owned(),
            to_come: true,
            knows_below: true,
            knows: vec!["hall::left".to_owned()],
        }
    );
    assert_eq!((house.rooms[0].knows_below, house.rooms[0].to_come), (false, false));
    assert_eq!((house.rooms[2].may_name_the_world(), house.rooms[4].may_name_the_world()), (false, true));
}

#[test]
fn a_table_that_contradicts_itself_is_found() {
    assert_eq!(sample().check(), [""; 0]);
    for (row, report) in [
        ("//! | 0b | `ground::late` | x | |\n", "higher floor"),
        ("//! | 5 | `hall::left` | x | |\n", "two rows"),
        ("//! | 5 | `hall::circle` | x | `hall::circle` |\n", "no row above"),
        ("//! | 5 | `cellar::wine` | x | |\n", "no wing"),
    ] {
        let wrong = House::parse(&format!("{SAMPLE}{row}")).check();
        assert!(wrong.len() == 1 && wrong[0].contains(report), "{wrong:?}");
    }
}

#[test]
fn entries_and_wings_that_do_not_fit_are_found() {
    let house = sample();
    let entries = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(house.check_entries(&entries(&["ground", "hall", "lib", "main", "roof"])), [""; 0]);
    assert_eq!(house.check_entries(&entries(&["ground", "hall", "roof", "shed"])).len(), 1);
    assert_eq!(house.check_entries(&entries(&["ground", "hall"])).len(), 1);
    let many: BTreeSet<String> = (0..=ENTRIES_MAXIMUM).map(|number| format!("wing_{number}")).collect();
    assert!(house.check_entries(&many)[0].contains("more than"));
}

#[test]
fn rows_and_files_that_do_not_fit_are_found() {
    let house = sample();
    let present = ["ground::earth", "hall::left", "ground::well", "roof", "hall::attic"];
    let found = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let mut rooms = found(&present);
    assert_eq!(house.check_rows(&rooms), [""; 0]);
    assert!(house.check_rows(&found(&present[1..]))[0].contains("no file"));
    rooms.insert("hall::right".to_owned());
    assert!(house.check_rows(&rooms)[0].contains("has come"));
    rooms.remove("hall::right");
    rooms.insert("hall::cellar".to_owned());
    assert!(house.check_rows(&rooms)[0].contains("no row"));
}

#[test]
fn a_room_is_a_file_or_a_directory_of_its_wing() {
    for (path, room) in [
        ("hall/left.rs", Some("hall::left")),
        ("hall/left/mod.rs", Some("hall::left")),
        ("hall/left/inner/deep.rs", Some("hall::left")),
        ("hall/mod.rs", None),
        ("roof/mod.rs", Some("roof")),
        ("roof/inner.rs", Some("roof")),
        ("roof.rs", Some("roof")),
        ("main.rs", Some("main")),
    ] {
        assert_eq!(sample().room_of(Path::new(path)).as_deref(), room, "{path}");
    }
}

#[test]
fn knowing_the_wrong_room_is_found() {
    let house = sample();
    for (room, code, good) in [
        ("hall::left", "use crate::ground::earth::A;", true),
        ("hall::left", "use crate::ground::{earth::A};", true),
        ("hall::left", "use crate::hall::left::B;", true),
        ("hall::right", "use crate::hall::left::B;", true),
        ("hall::left", "/// See [`crate::roof`].", true),
        ("roof", "use crate::ground::well::W;", true),
        ("hall::left", "use crate::hall::right::C;", false),
        ("hall::left", "use crate::ground::{earth::A, well};", false),
        ("hall::left", "use crate::ground::well;", false),
        ("ground::earth", "use crate::hall::left::B;", false),
        ("hall::left", "fn f() -> crate::roof::D {}", false),
        ("hall::left", "pub(crate) use crate::{\n    ground::{earth::A},\n    hall::left,\n};", false),
        ("hall::left", "use crate::*;", false),
        ("hall::left", "use crate::ground;", false),
        ("hall::left", "use crate::ground::*;", false),
        ("hall::left", "use crate::Exported;", false),
        ("hall::left", "use brooklet::roof::D;", false),
        ("ground::earth", "use mycrate::left;", true),
        // The floor would allow it; the order of the wings does not.
        ("hall::attic", "use crate::roof::D;", false),
    ] {
        let room_of_sample = house.room(room).expect("a room of the sample");
        assert_eq!(house.check_floors(room_of_sample, code).is_empty(), good, "{room}: {code}");
    }
}

#[test]
fn a_wing_with_code_of_its_own_is_found() {
    assert_eq!(check_page("//! A wing.\n\npub mod left;\n#[cfg(test)]\npub mod right;\n"), [""; 0]);
    assert_eq!(check_page("//! A wing.\nuse std::mem;\npub mod left;\n").len(), 1);
    assert_eq!(check_page("//! A wing.\npub fn f() {}\n").len(), 1);
}

#[test]
fn a_path_that_hides_its_floor_is_found() {
    let house = sample();
    for (room, path, code, good) in [
        ("hall::left", "hall/left.rs", "use super::roof;", false),
        ("hall::left", "hall/left/mod.rs", "use super::roof;", false),
        ("hall::left", "hall/left/inner.rs", "use super::Left;", true),
        ("hall::left", "hall/left/inner.rs", "use super::super::roof;", false),
        ("hall::left", "hall/left.rs", "fn f() {}\n#[cfg(test)]\nmod tests {\n    use super::*;\n}", true),
        (
            "hall::left",
            "hall/left.rs",
            "fn f() {}\n#[cfg(test)]\nmod tests {\n    use super::super::roof;\n}",
            false,
        ),
        ("roof", "roof/mod.rs", "use super::hall;", false),
        ("roof", "roof/inner.rs", "use super::Roof;", true),
    ] {
        let room_of_sample = house.room(room).expect("a room of the sample");
        let wrong = check_hidden_paths(room_of_sample, Path::new(path), code);
        assert_eq!(wrong.is_empty(), good, "{path}: {code}");
    }
}

#[test]
fn files_that_know_each_other_are_found() {
    let mut neighbours = Neighbours::default();
    neighbours.add("crate::hall", "a", "use super::b::B;\nuse super::Whole;");
    neighbours.add("crate::hall", "b", "use super::c;\nuse super::a_b;");
    neighbours.add("crate::hall", "c", "fn f() {}\n#[cfg(test)]\nmod tests {\n    use super::a;\n}");
    assert!(neighbours.circle().is_empty());
    neighbours.add("crate::hall", "c", "use crate::hall::d::{D, E};");
    neighbours.add("crate::hall", "d", "use super::b::{self, B};");
    assert_eq!(neighbours.circle().into_iter().collect::<Vec<_>>(), ["b", "c", "d"]);
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
