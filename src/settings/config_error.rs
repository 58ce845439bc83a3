//! Errors in the configuration, as lines for the operator.

use std::fmt;

/// An error or a warning about the configuration, as one line for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Where the error is: `file:line:column`, or only `file:line` or a file if no more is known.
    pub place: String,
    /// What is wrong, and what was expected. It contains no secrets and no control characters.
    pub text: String,
}

impl ConfigError {
    /// An error at `place`.
    pub fn new(place: impl Into<String>, text: impl Into<String>) -> Self {
        Self { place: place.into(), text: text.into() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.place, self.text)
    }
}

/// The maximum number of errors to report for one file. A file of the wrong kind has one in every line.
pub const CONFIG_ERRORS_MAXIMUM: usize = 100;

/// The first errors in a file, and the number of further ones.
#[derive(Clone, Debug)]
pub struct ConfigErrors<'a> {
    file: &'a str,
    first: Vec<ConfigError>,
    left: usize,
}

impl<'a> ConfigErrors<'a> {
    /// An empty collection of errors in this file.
    pub const fn about(file: &'a str) -> Self {
        Self { file, first: Vec::new(), left: 0 }
    }

    /// Adds an error at `position` in the file, such as `line:column`.
    pub fn push(&mut self, position: impl fmt::Display, text: impl Into<String>) {
        if self.first.len() < CONFIG_ERRORS_MAXIMUM {
            self.first.push(ConfigError::new(format!("{}:{position}", self.file), text));
        } else {
            self.left += 1;
        }
    }

    /// The errors to report.
    pub fn into_list(mut self) -> Vec<ConfigError> {
        if self.left > 0 {
            self.first.push(ConfigError::new(self.file, format!("{} more were omitted", self.left)));
        }
        self.first
    }
}
