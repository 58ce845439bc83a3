//! What users may do: the access rules of an `acl_file`, as mosquitto understands them, and the line that decided.
//!
//! A rule is a filter with what is allowed on it. Rules before the first `user` are for clients without a User Name,
//! those behind one for that user, and patterns, in which `%c` stands for the Client Identifier and `%u` for the User
//! Name, for everybody. A user's own rules come first, then the patterns; in each, the rules that deny come first;
//! the first that says something about a topic and the kind of access decides. What no rule allows is denied.
//!
//! Opens no file: it is handed bytes.

mod parse;
mod rule;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use crate::base::escape::Escaped;
use crate::protocol::codec::QoS;
use crate::protocol::topic::{TopicFilter, TopicName};
use crate::settings::ConfigError;

use rule::{Grant, Level, Part, Rule};

/// Who wants something.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The Client Identifier.
    pub client_identifier: &'a str,
    /// The User Name; `None` for a client without one.
    pub user_name: Option<&'a str>,
}

/// What a client wants with a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To be given its messages.
    Read,
    /// To publish to it.
    Write,
}

/// What the rules say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// It is allowed, by the rule in this line.
    Allowed {
        /// The highest QoS that it is allowed at.
        maximum: QoS,
        /// Counted from 1.
        line: u32,
    },
    /// Some of what the filter matches is allowed, so that each message has to be judged.
    InPart {
        /// The highest QoS that any of it is allowed at.
        maximum: QoS,
    },
    /// It is denied, by the rule in a line or for want of one that allows it.
    Denied {
        /// Counted from 1.
        line: Option<u32>,
    },
}

/// One user's rules, or the patterns.
#[derive(Debug, Default)]
struct Rules {
    denials: Vec<Rule>,
    others: Vec<Rule>,
}

impl Rules {
    fn push(&mut self, rule: Rule) {
        match rule.grant {
            Grant::Deny => self.denials.push(rule),
            Grant::Allow { .. } => self.others.push(rule),
        }
    }

    /// In the order in which they are asked: of those that deny, the last one written is the first.
    fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.denials.iter().rev().chain(&self.others)
    }

    fn is_empty(&self) -> bool {
        self.denials.is_empty() && self.others.is_empty()
    }
}

/// All rules of one file.
#[derive(Debug)]
pub struct Acl {
    file: Box<str>,
    anonymous: Rules,
    users: BTreeMap<Box<str>, Rules>,
    patterns: Rules,
    warnings: Vec<ConfigError>,
}

impl Acl {
    /// What the operator should know of the file, though it can be used.
    pub fn warnings(&self) -> &[ConfigError] {
        &self.warnings
    }

    /// Whether any rule gives somebody rights by his User Name.
    pub fn is_about_users(&self) -> bool {
        let is_named = |rule: &Rule| rule.levels.iter().any(|level| matches!(level, Level::UserName));
        !self.users.is_empty() || self.patterns.iter().any(is_named)
    }

    /// Decides about one topic; never [`Ruling::InPart`].
    pub fn decide(&self, subject: &Subject<'_>, access: Access, topic: TopicName<'_>) -> Ruling {
        for rule in self.rules_for(subject) {
            if !rule.matches(subject, topic) {
                continue;
            }
            match rule.grant {
                Grant::Deny => return Ruling::Denied { line: Some(rule.line) },
                Grant::Allow { maximum, .. } if rule.grant.covers(access) => {
                    return Ruling::Allowed { maximum, line: rule.line };
                }
                Grant::Allow { .. } => {}
            }
        }
        Ruling::Denied { line: None }
    }

    /// Decides about reading all that a filter matches. It is denied if there is no message at all that could be
    /// delivered.
    pub fn decide_filter(&self, subject: &Subject<'_>, filter: TopicFilter<'_>) -> Ruling {
        let wanted = Part::of_pattern(filter.pattern());
        let mut denials: Vec<(Vec<Part<'_>>, u32)> = Vec::new();
        let mut highest: Option<QoS> = None;
        let mut is_uniform = true;
        for rule in self.rules_for(subject) {
            let Some(parts) = rule.parts(subject) else { continue };
            let Some(common) = rule::meet(&wanted, &parts) else { continue };
            let Grant::Allow { maximum, .. } = rule.grant else {
                denials.push((parts, rule.line));
                continue;
            };
            let is_denied = denials.iter().any(|(denied, _)| rule::covers(denied, &common));
            if !rule.grant.covers(Access::Read) || is_denied {
                continue;
            }
            is_uniform &= highest.is_none_or(|highest| highest == maximum);
            highest = highest.max(Some(maximum));
            if is_uniform && denials.is_empty() && rule::covers(&parts, &wanted) {
                return Ruling::Allowed { maximum, line: rule.line };
            }
        }
        match (highest, denials.first()) {
            (Some(maximum), _) => Ruling::InPart { maximum },
            (None, Some(&(_, line))) => Ruling::Denied { line: Some(line) },
            (None, None) => Ruling::Denied { line: None },
        }
    }

    /// The rules that are about a client, in the order in which they are asked.
    fn rules_for(&self, subject: &Subject<'_>) -> impl Iterator<Item = &Rule> {
        let own = match subject.user_name {
            Some(user) => self.users.get(user),
            None => Some(&self.anonymous),
        };
        // Who carries a wildcard in his name is not for patterns at all, whether they name him or not.
        let has_wildcard = |name: &str| name.contains(['+', '#']);
        let is_suspect =
            has_wildcard(subject.client_identifier) || subject.user_name.is_some_and(has_wildcard);
        let patterns = (!is_suspect).then_some(&self.patterns);
        [own, patterns].into_iter().flatten().flat_map(Rules::iter)
    }

    /// A ruling in words, with file and line: `denied by FILE:LINE`.
    pub fn explain(&self, ruling: Ruling) -> Explained<'_> {
        Explained { file: &self.file, ruling }
    }
}

/// A ruling in words.
#[derive(Clone, Copy, Debug)]
pub struct Explained<'a> {
    file: &'a str,
    ruling: Ruling,
}

impl fmt::Display for Explained<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = Escaped(self.file);
        match self.ruling {
            Ruling::Allowed { maximum: QoS::ExactlyOnce, line } => {
                write!(formatter, "allowed by {file}:{line}")
            }
            Ruling::Allowed { maximum, line } => {
                write!(formatter, "allowed at QoS {} and less by {file}:{line}", maximum.level())
            }
            Ruling::InPart { .. } => write!(formatter, "allowed in part by {file}"),
            Ruling::Denied { line: Some(line) } => write!(formatter, "denied by {file}:{line}"),
            Ruling::Denied { line: None } => write!(formatter, "no rule of {file} allows it"),
        }
    }
}
