//! What is found in a configuration: where it stands, and what comes of it all.

use std::fmt;
use std::rc::Rc;

use crate::base::escape::Escaped;
use crate::settings::{CONFIG_ERRORS_MAXIMUM, ConfigError, Settings};

/// Where something stands: line and column count from 1, columns in characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file, as it was named.
    pub file: Rc<str>,
    /// The line.
    pub line: usize,
    /// The character in it.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}:{}", Escaped(&self.file), self.line, self.column)
    }
}

impl Place {
    /// The line, for a text about what stands at `other`; with its file, if that is another one.
    pub(super) fn line_for(&self, other: &Self) -> String {
        if self.file == other.file {
            format!("line {}", self.line)
        } else {
            format!("line {} of {}", self.line, Escaped(&self.file))
        }
    }
}

/// Something that the operator should know of what he wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where; a whole file has line 0.
    pub place: Place,
    /// Whether nothing may be started from this.
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

/// What came of reading a configuration.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The settings; `None` if there are errors.
    pub settings: Option<Settings>,
    /// What has to be put right first, in the order of the lines.
    pub errors: Vec<ConfigError>,
    /// What the operator should look at, in the order of the lines.
    pub warnings: Vec<ConfigError>,
}

impl Outcome {
    pub(super) fn new(settings: Settings, findings: &[Finding]) -> Self {
        let mut files: Vec<Rc<str>> = Vec::new();
        for finding in findings {
            if !files.contains(&finding.place.file) {
                files.push(finding.place.file.clone());
            }
        }
        let errors = config_errors(findings, &files, true);
        Self {
            settings: errors.is_empty().then_some(settings),
            errors,
            warnings: config_errors(findings, &files, false),
        }
    }
}

/// The first findings of one kind, in the order of the files and their lines, and how many more there are.
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
        errors.push(ConfigError::new(last.place.file.to_string(), format!("{left} more were left out")));
    }
    errors
}
