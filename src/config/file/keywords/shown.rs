//! What was set, in words for the log.

use std::path::Path;

use crate::base::escape::Escaped;

const NONE: &str = "none";

/// What a keyword has set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config::file) enum Value<'a> {
    /// Nothing, or as much as there can be.
    Nothing,
    Switch(bool),
    Number(u64),
    /// Text of the operator's.
    Text(&'a str),
    /// Text of our own, or of the operator's made safe.
    Words(String),
    /// It has no meaning for now.
    Unsaid,
}

impl Value<'_> {
    /// The value as it stands in the log; `None` where there is none to be told.
    pub(in crate::config::file) fn text(self) -> Option<String> {
        Some(match self {
            Self::Nothing => NONE.to_owned(),
            Self::Switch(is_on) => is_on.to_string(),
            Self::Number(number) => number.to_string(),
            Self::Text(text) => Escaped(text).to_string(),
            Self::Words(words) => words,
            Self::Unsaid => return None,
        })
    }
}

pub(super) const fn switch<'a>(is_on: bool) -> Value<'a> {
    Value::Switch(is_on)
}

pub(super) fn number<'a>(number: impl Into<u64>) -> Value<'a> {
    Value::Number(number.into())
}

pub(super) fn size<'a>(size: usize) -> Value<'a> {
    Value::Number(u64::try_from(size).unwrap_or(u64::MAX))
}

/// The greatest number stands for as much as there can be.
pub(super) fn bound<'a>(bound: usize) -> Value<'a> {
    if bound == usize::MAX { Value::Nothing } else { size(bound) }
}

pub(super) const fn word<'a>(word: &'a str) -> Value<'a> {
    Value::Text(word)
}

pub(super) fn text(text: Option<&str>) -> Value<'_> {
    text.map_or(Value::Nothing, Value::Text)
}

pub(super) fn path(path: Option<&Path>) -> Value<'_> {
    path.map_or(Value::Nothing, |path| Value::Words(Escaped(&path.display().to_string()).to_string()))
}

pub(super) fn words<'a>(words: impl IntoIterator<Item = impl AsRef<str>>) -> Value<'a> {
    let words: Vec<String> = words.into_iter().map(|word| Escaped(word.as_ref()).to_string()).collect();
    if words.is_empty() { Value::Nothing } else { Value::Words(words.join(" ")) }
}
