//! One rule: a filter, level by level, and what it grants. Names of clients are put into the levels and never into
//! text, so that no name can make a filter wider.

use crate::protocol::codec::QoS;
use crate::protocol::topic::TopicName;

use super::{Access, Subject};

/// What a rule says about the topics that it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grant {
    /// Nothing is allowed.
    Deny,
    /// Something is.
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

/// One level of a filter for one client.
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

    /// Whether only topics that begin with `$` match a filter with this first level.
    fn is_reserved(self) -> bool {
        matches!(self, Self::Text(text) if text.starts_with('$'))
    }
}

/// One rule.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) levels: Box<[Level]>,
    pub(super) grant: Grant,
    /// Where it stands, counted from 1.
    pub(super) line: u32,
}

impl Rule {
    /// The level at a place for one client; `None` if the rule can not be about this client.
    fn part<'a>(&'a self, place: usize, subject: &Subject<'a>) -> Option<Part<'a>> {
        let name = match self.levels.get(place)? {
            Level::Text(text) => return Some(Part::Text(text)),
            Level::Plus => return Some(Part::Plus),
            Level::Hash => return Some(Part::Hash),
            Level::ClientIdentifier => subject.client_identifier,
            Level::UserName => subject.user_name?,
        };
        // A name is never more than one level, and never the way to topics that begin with `$`.
        let is_wide = name.contains(['+', '#', '/']) || (place == 0 && name.starts_with('$'));
        (!is_wide).then_some(Part::Text(name))
    }

    /// All levels for one client; `None` if the rule can not be about this client.
    pub(super) fn parts<'a>(&'a self, subject: &Subject<'a>) -> Option<Vec<Part<'a>>> {
        (0..self.levels.len()).map(|place| self.part(place, subject)).collect()
    }

    /// Whether the rule is about this topic. A filter that does not begin with `$` is about no topic that does.
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

/// The filter of the topics that two filters have in common; `None` if they have none.
pub(super) fn meet<'a>(one: &[Part<'a>], other: &[Part<'a>]) -> Option<Vec<Part<'a>>> {
    let (first, second) = (*one.first()?, *other.first()?);
    if (first.is_reserved() && second.is_wildcard()) || (first.is_wildcard() && second.is_reserved()) {
        return None;
    }
    let mut common = Vec::new();
    for place in 0.. {
        match (one.get(place), other.get(place)) {
            // What stands before a `#` matches as well.
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
    unreachable!("one of the two ends")
}
