//! Checks the sources: rooms know only what the table in `src/lib.rs` allows, only the upper floors name the outside
//! world, nothing is too large to read, and nothing is left over.
//!
//! Every check is a function that takes text and returns what is wrong in it, and has a test which shows that it
//! works.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use calls::{check_calls, check_statics};
use derived::check_derived;
use parts::{check_parts, parts_of};
use plural::check_plurals;
use rooms::{House, Neighbours, check_hidden_paths, check_page, check_world};
use sentences::check_sentences;
use shape::too_large;
use text::{
    UNCHECKED_FILE, check_comments, check_documentation, check_links, check_prose, check_rust, check_text,
    check_unchecked, check_walk, walk_of,
};

#[path = "tidy/calls.rs"]
mod calls;
#[path = "tidy/derived.rs"]
mod derived;
#[path = "tidy/parts.rs"]
mod parts;
#[path = "tidy/plural.rs"]
mod plural;
#[path = "tidy/rooms.rs"]
mod rooms;
#[path = "tidy/sentences.rs"]
mod sentences;
#[path = "tidy/shape.rs"]
mod shape;
#[path = "tidy/text.rs"]
mod text;
#[path = "tidy/words.rs"]
mod words;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The texts in a directory of the repository, with their paths relative to it, in order. Generated and downloaded
/// files are not checked.
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
                let entries = fs::read_dir(&path).expect("the directory can be read");
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

/// Whether a file consists of tests only: a module behind `#[cfg(test)]` in its parent.
fn is_all_tests(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs")
}

/// Fails with everything that was found, not only with the first.
fn assert_nothing_wrong(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// The files of `src` with their texts, and the house that `src/lib.rs` describes.
fn house() -> (House, Vec<(PathBuf, String)>) {
    let library = fs::read_to_string(root().join("src/lib.rs")).expect("src/lib.rs can be read");
    (House::parse(&library), texts("src").into_iter().filter(|(path, _)| is_rust(path)).collect())
}

#[test]
fn the_wings_are_those_of_the_list() {
    let (house, sources) = house();
    let first =
        |path: &PathBuf| path.iter().next().map(Path::new).and_then(Path::file_stem).map(OsStr::to_owned);
    let entries = sources.iter().filter_map(|(path, _)| first(path));
    let entries = entries.map(|entry| entry.into_string().expect("names are text")).collect();
    assert_nothing_wrong(&house.check_entries(&entries));
}

/// Fails with what is wrong in the code of the files that are wanted, without comments and tests.
fn check_code<W: std::fmt::Display>(is_wanted: impl Fn(&Path) -> bool, check: impl Fn(&str) -> Vec<W>) {
    let (_, sources) = house();
    let mut wrong = Vec::new();
    for (path, text) in sources.iter().filter(|(path, _)| !is_all_tests(path) && is_wanted(path)) {
        let code = words::without_comments(words::without_tests(text));
        wrong.extend(check(&code).iter().map(|what| format!("{}: {what}", path.display())));
    }
    assert_nothing_wrong(&wrong);
}

#[test]
fn no_message_has_a_plural_for_one() {
    check_code(|_| true, check_plurals);
}

#[test]
fn every_log_line_ends_with_a_period() {
    check_code(|_| true, check_sentences);
}

#[test]
fn no_message_of_the_smallest_binary_has_a_derived_form() {
    let is_in_it = |path: &Path| {
        let shown = path.to_string_lossy();
        !["/fuzzing", "/testing.rs", "server/tls/"].iter().any(|part| shown.contains(part))
    };
    check_code(is_in_it, check_derived);
}

#[test]
fn rooms_know_only_rooms_that_the_table_allows() {
    let (house, sources) = house();
    let found = sources.iter().filter_map(|(path, _)| house.room_of(path)).collect();
    let mut wrong = house.check();
    wrong.extend(house.check_rows(&found));
    for (path, text) in &sources {
        let mut of_file = check_documentation(text);
        match house.room_of(path).map(|name| house.room(&name)) {
            None => of_file.extend(check_page(text)),
            Some(None) => continue,
            Some(Some(room)) => {
                of_file.extend(house.check_floors(room, text));
                of_file.extend(check_hidden_paths(room, path, text));
                if !room.may_name_the_world() && !is_all_tests(path) {
                    of_file.extend(check_world(text));
                }
            }
        }
        wrong.extend(of_file.into_iter().map(|what| format!("src/{}: {what}", path.display())));
    }
    assert_nothing_wrong(&wrong);
}

#[test]
fn files_of_one_room_know_each_other_in_one_direction() {
    let (_, sources) = house();
    let mut directories: BTreeMap<&Path, Neighbours> = BTreeMap::new();
    for (path, text) in sources.iter().filter(|(path, _)| !is_all_tests(path)) {
        // A directory is known by its name, and its dependencies on its neighbours are in its `mod.rs`.
        let place = if path.ends_with("mod.rs") { path.parent().expect("it is inside") } else { path };
        let name = place.file_stem().and_then(OsStr::to_str).expect("names are text");
        let directory = place.parent().expect("it is inside");
        let in_crate =
            directory.iter().fold("crate".to_owned(), |above, part| format!("{above}::{}", part.display()));
        directories.entry(directory).or_default().add(&in_crate, name, text);
    }
    let circles = directories.iter().map(|(directory, neighbours)| (directory, neighbours.circle()));
    let found = circles.filter(|(_, circle)| !circle.is_empty());
    let wrong: Vec<_> =
        found.map(|(at, circle)| format!("src/{}: a circle of {circle:?}", at.display())).collect();
    assert_nothing_wrong(&wrong);
}

#[test]
fn files_functions_and_structs_are_no_larger_than_can_be_read_at_once() {
    let (_, sources) = house();
    let found = sources.iter().flat_map(|(path, text)| too_large(path, text));
    let wrong: Vec<String> = found.map(|(place, what)| format!("src/{place}: {what}")).collect();
    assert_nothing_wrong(&wrong);
}

#[test]
fn brokers_of_one_thread_share_nothing() {
    let (_, sources) = house();
    let below = |path: &Path| ["base", "protocol", "core"].iter().any(|wing| path.starts_with(wing));
    let mut wrong = Vec::new();
    for (path, text) in sources.iter().filter(|(path, _)| below(path) && !is_all_tests(path)) {
        let of_file = check_calls(text).into_iter().chain(check_statics(text));
        wrong.extend(of_file.map(|what| format!("src/{}: {what}", path.display())));
    }
    assert_nothing_wrong(&wrong);
}

#[test]
fn functions_of_the_broker_name_no_more_than_three_of_its_parts() {
    let (_, sources) = house();
    let within = |path: &PathBuf| path.strip_prefix("core/broker").ok().map(Path::to_owned);
    let of_broker = sources.iter().filter_map(|(path, text)| Some((within(path)?, text)));
    let of_broker: BTreeMap<PathBuf, &String> = of_broker.collect();
    let parts = parts_of(of_broker[Path::new("mod.rs")]);
    assert!(parts.len() > 10, "the parts are read: {parts:?}");
    let is_of_fuzzing = |path: &Path| path.iter().any(|part| part.to_string_lossy().starts_with("fuzzing"));
    let mut wrong = Vec::new();
    for (path, text) in of_broker.iter().filter(|(path, _)| !is_all_tests(path) && !is_of_fuzzing(path)) {
        let found = check_parts(&parts, text);
        wrong.extend(found.iter().map(|what| format!("src/core/broker/{}: {what}", path.display())));
    }
    assert_nothing_wrong(&wrong);
}

/// The documents of the repository, by their paths.
fn documents() -> BTreeMap<String, String> {
    let top = ["README.md", "CHANGELOG.md"].map(str::to_owned);
    let pages = texts("docs").into_iter().map(|(path, _)| format!("docs/{}", path.display()));
    let read = |name: String| {
        let text = fs::read_to_string(root().join(&name)).expect("it is there");
        (name, text)
    };
    top.into_iter().chain(pages).map(read).collect()
}

#[test]
fn links_of_documents_lead_somewhere() {
    let documents = documents();
    let is_there = |place: &str| root().join(place).exists();
    let wrong: Vec<String> =
        documents.keys().flat_map(|page| check_links(page, &documents, is_there)).collect();
    assert_nothing_wrong(&wrong);
}

#[test]
fn the_walk_of_a_publish_names_functions_that_there_are() {
    let text = fs::read_to_string(root().join("docs/contributing.md")).expect("there is a page");
    let walk = walk_of(&text);
    assert!(walk.len() > 10, "the walk is in the page: {walk:?}");
    let source = |file: &str| fs::read_to_string(root().join("src").join(file)).unwrap_or_default();
    assert_nothing_wrong(&check_walk(&walk, source));
}

#[test]
fn documents_name_what_they_mean() {
    for (name, text) in documents() {
        assert_nothing_wrong(
            &check_prose(&text).iter().map(|what| format!("{name}: {what}")).collect::<Vec<_>>(),
        );
    }
}

#[test]
fn nothing_is_left_lying_about() {
    let mut wrong = Vec::new();
    for directory in
        ["src", "tests", "fuzz", "docs"].into_iter().filter(|directory| root().join(directory).exists())
    {
        for (path, text) in texts(directory) {
            let mut of_file = check_text(&text);
            if is_rust(&path) {
                let may_be_unchecked = directory == "src" && path == Path::new(UNCHECKED_FILE);
                of_file.extend(check_rust(&text, may_be_unchecked));
                of_file.extend(check_comments(&text));
                if may_be_unchecked {
                    of_file.extend(check_unchecked(&text));
                }
            }
            wrong.extend(of_file.into_iter().map(|what| format!("{directory}/{}: {what}", path.display())));
        }
    }
    assert_nothing_wrong(&wrong);
}
