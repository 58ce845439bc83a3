//! Findings in a configuration with their places, and the result of reading it.

use std::fmt;
use std::rc::Rc;

use crate::base::escape::Escaped;
use crate::settings::{CONFIG_ERRORS_MAXIMUM, ConfigError, Settings};

/// A place in a file. Lines and columns are numbered from 1; columns are in characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file, by the name that was given.
    pub file: Rc<str>,
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}:{}", Escaped(&self.file), self.line, self.column)
    }
}

impl Place {
    /// Describes the line, for a message about `other`; with the file, if it is a different one.
    pub(super) fn line_for(&self, other: &Self) -> String {
        if self.file == other.file {
            format!("line {}", self.line)
        } else {
            format!("line {} of {}", self.line, Escaped(&self.file))
        }
    }
}

/// An error or a warning about the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where it is. Line 0 stands for the whole file.
    pub place: Place,
    /// Whether it is an error, so the configuration cannot be used.
    pub is_error: bool,
    /// What is wrong, and what was expected.
    pub text: String,
}

impl Finding {
    pub(super) fn error(place: &Place, text: impl Into<String>) -> Self {
        Self { place: place.clone(), is_error: true, text: text.into() }
    }

    pub(super) fn warning(place: &Place, text: impl Into<String>) -> Self {
        Self { place: place.clone(), is_error: false, text: text.into() }
    }

    fn config_error(&self) -> ConfigError {
        let place = match self.place.line {
            0 => Escaped(&self.place.file).to_string(),
            _ => self.place.to_string(),
        };
        ConfigError::new(place, Escaped(&self.text).to_string())
    }
}

/// The result of reading a configuration.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The settings; `None` if there are errors.
    pub settings: Option<Settings>,
    /// The errors, in the order of the lines.
    pub errors: Vec<ConfigError>,
    /// The warnings, in the order of the lines.
    pub warnings: Vec<ConfigError>,
    /// What differs from mosquitto, in the order of the lines.
    pub differences: Vec<ConfigError>,
}

impl Outcome {
    pub(super) fn new(settings: Settings, findings: &[Finding], differences: &[Finding]) -> Self {
        let mut files: Vec<Rc<str>> = Vec::new();
        for finding in findings.iter().chain(differences) {
            if !files.contains(&finding.place.file) {
                files.push(finding.place.file.clone());
            }
        }
        let errors = config_errors(findings, &files, true);
        Self {
            settings: errors.is_empty().then_some(settings),
            errors,
            warnings: config_errors(findings, &files, false),
            differences: config_errors(differences, &files, false),
        }
    }
}

/// Returns the first errors or the first warnings, in the order of the files and their lines, and how many more there
/// are.
fn config_errors(findings: &[Finding], files: &[Rc<str>], are_errors: bool) -> Vec<ConfigError> {
    let key = |Finding { place, .. }: &Finding| {
        (files.iter().position(|file| *file == place.file), place.line, place.column)
    };
    let mut first: Vec<&Finding> = Vec::new();
    let mut left = 0_usize;
    for finding in findings.iter().filter(|finding| finding.is_error == are_errors) {
        first.insert(first.partition_point(|other| key(other) <= key(finding)), finding);
        if first.len() > CONFIG_ERRORS_MAXIMUM {
            first.pop();
            left += 1;
        }
    }
    let mut errors: Vec<ConfigError> = first.iter().map(|finding| finding.config_error()).collect();
    if let Some(last) = first.last().filter(|_| left > 0) {
        errors.push(ConfigError::new(last.place.file.to_string(), format!("{left} more were omitted")));
    }
    errors
}
