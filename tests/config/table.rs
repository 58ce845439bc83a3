//! Checks the files against the table.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use brooklet::config::file::{self, CommandLine};

use crate::binary::ROOT;
use crate::digest::digest;

/// The command line of this test, on a machine with a fixed name.
fn given() -> CommandLine {
    CommandLine { host_name: Some("host".to_owned()), ..CommandLine::default() }
}

/// The report about a file: its settings, and what is wrong with it. Paths are relative, so that it is the same everywhere.
fn report(path: &str) -> String {
    let outcome = file::load(Some(path), &given());
    let mut lines = outcome.settings.map(|settings| digest(&settings)).unwrap_or_default();
    lines.extend(outcome.errors.iter().map(|error| format!("error {error}")));
    lines.extend(outcome.warnings.iter().map(|warning| format!("warning {warning}")));
    lines.extend(outcome.differences.iter().map(|difference| format!("note {difference}")));
    lines.join("\n").replace(&format!("{ROOT}/"), "").replace(ROOT, ".")
}

/// The files of a directory of this test, without those that others include, by their paths.
fn files(directory: &str) -> Vec<String> {
    let path = Path::new("tests/config").join(directory);
    let entries = fs::read_dir(path).expect("the directory is there");
    let paths = entries.map(|entry| entry.expect("an entry can be read").path());
    let mut files: Vec<String> = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "conf"))
        .map(|path| path.to_str().expect("names are text").to_owned())
        .collect();
    files.sort();
    files
}

/// The table: a section for each file, under its path.
fn expected() -> BTreeMap<String, String> {
    let text = fs::read_to_string("tests/config/expected.txt").expect("the table is there");
    let sections = text.split("\n\n").filter_map(|section| section.trim().split_once('\n'));
    sections.map(|(path, rest)| (path.trim_start_matches("== ").to_owned(), rest.to_owned())).collect()
}

#[test]
fn every_file_has_the_result_in_the_table() {
    let mut expected = expected();
    let mut wrong = String::new();
    for path in files("good").into_iter().chain(files("broken")) {
        let report = report(&path);
        if expected.remove(&path).as_deref() != Some(&report) {
            wrong += &format!("== {path}\n{report}\n\n");
        }
    }
    assert!(expected.is_empty(), "there are no files for these: {:?}", expected.keys());
    assert!(wrong.is_empty(), "the table should say:\n\n{wrong}");
}

#[test]
fn good_files_are_good_and_broken_ones_are_not() {
    assert!(files("good").len() >= 85 && files("broken").len() >= 38);
    for path in files("good") {
        assert!(file::load(Some(&path), &given()).settings.is_some(), "{path}");
    }
    for path in files("broken") {
        let outcome = file::load(Some(&path), &given());
        assert!(outcome.settings.is_none() && !outcome.errors.is_empty(), "{path}");
    }
}
