//! One rule: a filter, level by level, and what it grants. A client's name is substituted as one level and never as
//! text, so that no name can widen a filter.

use crate::protocol::codec::QoS;
use crate::protocol::topic::TopicName;

use super::{Access, Name, Subject};

/// The characters with which a name in a pattern would be more than one level, or more than one topic.
pub(super) const WIDENING: [char; 3] = ['/', '+', '#'];

/// What a rule grants on the topics that it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grant {
    /// Nothing is allowed.
    Deny,
    /// Reading, writing or both are allowed, up to a QoS.
    Allow { read: bool, write: bool, maximum: QoS },
}

impl Grant {
    pub(super) const fn covers(self, access: Access) -> bool {
        match (self, access) {
            (Self::Deny, _) => false,
            (Self::Allow { read, .. }, Access::Read) => read,
            (Self::Allow { write, .. }, Access::Write) => write,
        }
    }
}

/// One level of a rule's filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Text(Box<str>),
    Plus,
    Hash,
    /// `%c`
    ClientIdentifier,
    /// `%u`
    UserName,
}

/// One level of a filter, after the names of a client have been substituted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    Text(&'a str),
    Plus,
    Hash,
}

impl<'a> Part<'a> {
    pub(super) fn of_pattern(pattern: &'a str) -> Vec<Self> {
        let part = |level| match level {
            "+" => Self::Plus,
            "#" => Self::Hash,
            text => Self::Text(text),
        };
        pattern.split('/').map(part).collect()
    }

    const fn is_wildcard(self) -> bool {
        matches!(self, Self::Plus | Self::Hash)
    }

    /// Whether a filter that begins with this level matches only topics that begin with `$`.
    fn is_reserved(self) -> bool {
        matches!(self, Self::Text(text) if text.starts_with('$'))
    }
}

/// One rule.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) levels: Box<[Level]>,
    pub(super) grant: Grant,
    /// Its line in the file, counted from 1.
    pub(super) line: u32,
}

impl Rule {
    /// Returns one level for a client, or `None` if the rule cannot apply to this client.
    fn part<'a>(&'a self, place: usize, subject: &Subject<'a>) -> Option<Part<'a>> {
        let name = match self.levels.get(place)? {
            Level::Text(text) => return Some(Part::Text(text)),
            Level::Plus => return Some(Part::Plus),
            Level::Hash => return Some(Part::Hash),
            Level::ClientIdentifier => subject.client_identifier,
            Level::UserName => subject.user_name?,
        };
        // A name is always exactly one level, and never leads to topics that begin with `$`.
        let is_wide = name.contains(WIDENING) || (place == 0 && name.starts_with('$'));
        (!is_wide).then_some(Part::Text(name))
    }

    /// Returns all levels for a client, or `None` if the rule cannot apply to this client.
    pub(super) fn parts<'a>(&'a self, subject: &Subject<'a>) -> Option<Vec<Part<'a>>> {
        (0..self.levels.len()).map(|place| self.part(place, subject)).collect()
    }

    /// Returns the levels for a client that the rule does not apply to because of the characters of a name, and which
    /// name that is. Levels of the name with a wildcard stand for any.
    pub(super) fn parts_in_spite_of<'a>(&'a self, subject: &Subject<'a>) -> Option<(Vec<Part<'a>>, Name)> {
        let mut reason = subject.name_with_wildcard();
        let mut parts = Vec::new();
        for (place, level) in self.levels.iter().enumerate() {
            let (text, name) = match level {
                Level::ClientIdentifier => (subject.client_identifier, Name::ClientIdentifier),
                Level::UserName => (subject.user_name?, Name::UserName),
                _ => {
                    parts.extend(self.part(place, subject));
                    continue;
                }
            };
            if place == 0 && text.starts_with('$') {
                return None;
            }
            if text.contains(WIDENING) {
                reason = Some(name);
            }
            let part =
                |level: &'a str| if level.contains(['+', '#']) { Part::Plus } else { Part::Text(level) };
            parts.extend(text.split('/').map(part));
        }
        Some((parts, reason?))
    }

    /// Whether the rule's filter matches this topic. A filter that does not begin with `$` matches no topic that
    /// does.
    pub(super) fn matches(&self, subject: &Subject<'_>, topic: TopicName<'_>) -> bool {
        if topic.is_reserved() && !matches!(self.levels.first(), Some(Level::Text(_))) {
            return false;
        }
        let mut names = topic.as_str().split('/');
        for place in 0..self.levels.len() {
            match self.part(place, subject) {
                Some(Part::Hash) => return true,
                Some(Part::Plus) if names.next().is_some() => {}
                Some(Part::Text(text)) if names.next() == Some(text) => {}
                _ => return false,
            }
        }
        names.next().is_none()
    }
}

/// Returns the filter for the topics that both filters match, or `None` if there are none.
pub(super) fn meet<'a>(one: &[Part<'a>], other: &[Part<'a>]) -> Option<Vec<Part<'a>>> {
    let (first, second) = (*one.first()?, *other.first()?);
    if (first.is_reserved() && second.is_wildcard()) || (first.is_wildcard() && second.is_reserved()) {
        return None;
    }
    let mut common = Vec::new();
    for place in 0.. {
        match (one.get(place), other.get(place)) {
            // A `#` also matches its parent level.
            (None, None) | (Some(Part::Hash), None) | (None, Some(Part::Hash)) => break,
            (Some(Part::Hash), Some(_)) => {
                common.extend(other.iter().skip(place));
                break;
            }
            (Some(_), Some(Part::Hash)) => {
                common.extend(one.iter().skip(place));
                break;
            }
            (Some(Part::Plus), Some(&part)) | (Some(&part), Some(Part::Plus)) => common.push(part),
            (Some(&part), Some(same)) if part == *same => common.push(part),
            _ => return None,
        }
    }
    Some(common)
}

/// Whether every topic that `inner` matches is matched by `outer`.
pub(super) fn covers(outer: &[Part<'_>], inner: &[Part<'_>]) -> bool {
    let is_reserved = inner.first().is_some_and(|part| part.is_reserved());
    if is_reserved && outer.first().is_none_or(|part| part.is_wildcard()) {
        return false;
    }
    for place in 0.. {
        match (outer.get(place), inner.get(place)) {
            (Some(Part::Hash), _) | (None, None) => return true,
            (_, Some(Part::Hash)) | (None, _) | (_, None) => return false,
            (Some(Part::Plus), _) => {}
            (Some(part), Some(same)) if part == same => {}
            _ => return false,
        }
    }
    unreachable!("both slices end")
}
