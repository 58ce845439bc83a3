//! The values of keywords in the form that the log has.

use std::path::Path;

use crate::base::escape::Escaped;

const NONE: &str = "none";

/// The value of a keyword.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config::file) enum Value<'a> {
    /// No value, or no limit.
    Nothing,
    Switch(bool),
    Number(u64),
    /// Text from the operator, not escaped.
    Text(&'a str),
    /// Text of the broker, or escaped text from the operator.
    Words(String),
    /// A password, which is never shown.
    #[cfg(any(feature = "bridge", feature = "cluster"))]
    Secret(&'a str),
    /// The keyword does not apply at present.
    NotApplicable,
}

impl Value<'_> {
    /// The value in the form that the log has; `None` if the keyword does not apply.
    pub(in crate::config::file) fn text(self) -> Option<String> {
        Some(match self {
            Self::Nothing => NONE.to_owned(),
            Self::Switch(is_on) => is_on.to_string(),
            Self::Number(number) => number.to_string(),
            Self::Text(text) => Escaped(text).to_string(),
            Self::Words(words) => words,
            #[cfg(any(feature = "bridge", feature = "cluster"))]
            Self::Secret(_) => "a secret".to_owned(),
            Self::NotApplicable => return None,
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

/// The value of a limit. `usize::MAX` means no limit.
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
