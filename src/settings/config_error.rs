//! What is wrong with what the operator has said, in lines.

use std::fmt;

/// What is wrong with what the operator has said: one line for him.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Where: `file:line:column` in a file, `file:line` or a file alone where no more is known.
    pub place: String,
    /// What is wrong, and what was expected. Nothing secret, and no control characters.
    pub text: String,
}

impl ConfigError {
    /// An error about what stands at `place`.
    pub fn new(place: impl Into<String>, text: impl Into<String>) -> Self {
        Self { place: place.into(), text: text.into() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.place, self.text)
    }
}

/// ConfigErrors that are told of one file; one that is not of the expected kind has one in every line.
pub const CONFIG_ERRORS_MAXIMUM: usize = 100;

/// The first errors about a file, and how many more there are.
#[derive(Clone, Debug)]
pub struct ConfigErrors<'a> {
    file: &'a str,
    first: Vec<ConfigError>,
    left: usize,
}

impl<'a> ConfigErrors<'a> {
    /// None so far about this file.
    pub const fn about(file: &'a str) -> Self {
        Self { file, first: Vec::new(), left: 0 }
    }

    /// One more, about what stands at `position` of the file, such as `line:column`.
    pub fn push(&mut self, position: impl fmt::Display, text: impl Into<String>) {
        if self.first.len() < CONFIG_ERRORS_MAXIMUM {
            self.first.push(ConfigError::new(format!("{}:{position}", self.file), text));
        } else {
            self.left += 1;
        }
    }

    /// All that are told.
    pub fn told(mut self) -> Vec<ConfigError> {
        if self.left > 0 {
            self.first.push(ConfigError::new(self.file, format!("{} more were left out", self.left)));
        }
        self.first
    }
}
