//! The files of a configuration: reads them and inserts the included ones.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::build::settle;
use super::differences::differences;
use super::keywords::{Meaning, Special};
#[cfg(feature = "persistence")]
use super::mosquitto;
use super::outcome::{Finding, Outcome, Place};
use super::pending::CommandLine;
use super::statements::Step;
use super::text::{Statement, parse};
use crate::base::files;

/// The maximum size of a file in bytes; a larger one is an error.
const FILE_MAXIMUM: u64 = 1024 * 1024;
/// The maximum number of included files in a directory; more are an error.
const INCLUDED_MAXIMUM: usize = 1000;

/// Reads a configuration: the file, the files that it includes, and the options of the command line.
pub fn load(file: Option<&str>, given: &CommandLine) -> Outcome {
    let mut findings = Vec::new();
    let mut steps = Vec::new();
    if let Some(name) = file {
        for statement in read(&files::absolute(Path::new(name)), &mut findings) {
            let directory = included(&statement).map(|directory| (directory, statement.value_place.clone()));
            steps.push(Step::Statement(statement));
            if let Some((directory, place)) = directory {
                include(&directory, &place, &mut steps, &mut findings);
            }
        }
    }
    let (mut settings, more) = settle(&steps, given);
    findings.extend(more);
    if let Some(persistence) = &mut settings.persistence {
        // No statement has the default.
        persistence.directory.value = files::absolute(&persistence.directory.value);
    }
    #[cfg(feature = "persistence")]
    let settings = mosquitto::spare(settings, &steps, given, &mut findings);
    Outcome::new(settings, &findings, &differences(&steps, &findings))
}

/// The directory that a statement includes, if any.
fn included(statement: &Statement) -> Option<PathBuf> {
    let is_included = matches!(statement.keyword.meaning, Meaning::Special(Special::IncludeDirectory));
    is_included.then(|| PathBuf::from(&statement.value))
}

fn include(directory: &Path, place: &Place, steps: &mut Vec<Step>, findings: &mut Vec<Finding>) {
    let paths = match files_of(directory) {
        Ok(paths) => paths,
        Err(error) => {
            let text = format!("'{}' cannot be read: {error}, expected a directory", directory.display());
            findings.push(Finding::error(place, text));
            return;
        }
    };
    for path in paths {
        steps.push(Step::Enter);
        for statement in read(&path, findings) {
            if included(&statement).is_some() {
                let text = "'include_dir' in an included file, expected only in the main file";
                findings.push(Finding::error(&statement.place, text));
            } else {
                steps.push(Step::Statement(statement));
            }
        }
        steps.push(Step::Leave);
    }
}

/// Returns the configuration files in a directory, in the order in which they are included.
///
/// # Errors
///
/// The directory cannot be read, or has too many.
pub fn files_of(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let is_included = path.extension().is_some_and(|extension| extension == "conf");
        if is_included && !path.is_dir() {
            let place = paths.partition_point(|other| order(other).lt(order(&path)));
            paths.insert(place, path);
        }
        if paths.len() > INCLUDED_MAXIMUM {
            return Err(io::Error::other(format!("more than {INCLUDED_MAXIMUM} files")));
        }
    }
    Ok(paths)
}

/// The sort key of a file: letters are compared ignoring their case first; of two equal letters, the capital comes
/// first.
fn order(path: &Path) -> impl Iterator<Item = (u8, u8)> {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    name.iter().map(|letter| (letter.to_ascii_uppercase(), *letter))
}

fn read(path: &Path, findings: &mut Vec<Finding>) -> Vec<Statement> {
    let name = path.display().to_string();
    match bytes_of(path) {
        Ok(bytes) => {
            let (statements, more) = parse(&bytes, &name);
            findings.extend(more);
            statements.into_iter().map(with_absolute_path).collect()
        }
        Err(error) => {
            let place = Place { file: Rc::from(name), line: 0, column: 0 };
            findings.push(Finding::error(&place, format!("{error}, expected a configuration file")));
            Vec::new()
        }
    }
}

/// A path means the same wherever a message about it is read.
fn with_absolute_path(statement: Statement) -> Statement {
    match statement.path().map(|(_, path)| files::absolute(Path::new(path)).into_os_string().into_string()) {
        Some(Ok(path)) => Statement { value: statement.value_with(&path), ..statement },
        _ => statement,
    }
}

fn bytes_of(path: &Path) -> io::Result<Vec<u8>> {
    let bytes = files::read(path, FILE_MAXIMUM)?;
    bytes.ok_or_else(|| io::Error::other(format!("it has more than {FILE_MAXIMUM} bytes")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capital_comes_just_before_its_small_letter() {
        let mut names = ["b", "a", "B", "A", "10", "9", "aB", "ab", "_"];
        names.sort_by(|one, other| order(Path::new(one)).cmp(order(Path::new(other))));
        assert_eq!(names, ["10", "9", "A", "a", "aB", "ab", "B", "b", "_"]);
    }
}
