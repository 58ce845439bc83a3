//! Values with the places where an operator gave them, so that a message about a value can name its line.

use std::fmt;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use crate::base::escape::Escaped;

use super::ConfigError;

/// A value, and where it was given. Two are equal if their values are, wherever they were given.
#[derive(Clone)]
pub struct Given<T> {
    /// The value.
    pub value: T,
    /// `file:line:column`, a variable of the environment, or a flag of the command line, escaped for a message; `None`
    /// for a default.
    place: Option<Box<str>>,
}

impl<T> Given<T> {
    /// A value that was given there.
    pub fn at(place: impl fmt::Display, value: T) -> Self {
        Self { value, place: Some(place.to_string().into()) }
    }

    /// Where it was given; `None` for a default.
    pub fn place(&self) -> Option<&str> {
        self.place.as_deref()
    }

    /// A default takes the place of the setting that it is a part of.
    pub fn or_at(self, place: Option<impl fmt::Display>) -> Self {
        let place = self.place.or_else(|| Some(place?.to_string().into()));
        Self { place, ..self }
    }

    /// The error in this value. A default is called by `keyword`.
    pub fn error(&self, keyword: &str, what: impl fmt::Display) -> ConfigError {
        ConfigError::new(self.place().unwrap_or(keyword), what.to_string())
    }

    /// Another value that follows from this one.
    pub fn map<U>(&self, value: impl FnOnce(&T) -> U) -> Given<U> {
        Given { value: value(&self.value), place: self.place.clone() }
    }
}

impl Given<PathBuf> {
    /// The error in what this path leads to.
    pub fn error_in(&self, what: impl fmt::Display) -> ConfigError {
        let path = self.value.display().to_string();
        let path = Escaped(&path);
        match self.place() {
            Some(place) => ConfigError::new(place, format!("{path}: {what}")),
            None => ConfigError::new(path.to_string(), what.to_string()),
        }
    }
}

/// A default.
impl<T> From<T> for Given<T> {
    fn from(value: T) -> Self {
        Self { value, place: None }
    }
}

/// A default.
impl<P: AsRef<Path> + ?Sized> From<&P> for Given<PathBuf> {
    fn from(path: &P) -> Self {
        Self { value: path.as_ref().to_owned(), place: None }
    }
}

impl AsRef<Path> for Given<PathBuf> {
    fn as_ref(&self) -> &Path {
        &self.value
    }
}

impl<T: Deref> Deref for Given<T> {
    type Target = T::Target;

    fn deref(&self) -> &T::Target {
        &self.value
    }
}

impl<T: PartialEq> PartialEq for Given<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: Eq> Eq for Given<T> {}

impl<T: Default> Default for Given<T> {
    fn default() -> Self {
        T::default().into()
    }
}

impl<T: fmt::Debug> fmt::Debug for Given<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(formatter)
    }
}
