//! What users may do: the access rules of an `acl_file`, with mosquitto's meaning, and which line has decided.
//!
//! A rule is a filter and what it grants. Rules before the first `user` line are for clients without a User Name, and
//! rules after one are for that user. Patterns are for all clients; in them `%c` stands for the Client Identifier and
//! `%u` for the User Name. A user's own rules are asked first, then the patterns. In each of the two, the rules that
//! deny come first. The first rule that covers the topic and the kind of access decides. What no rule allows is
//! denied.
//!
//! Opens no file: the bytes are passed in.

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

/// The client that a decision is about.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The Client Identifier.
    pub client_identifier: &'a str,
    /// The User Name; `None` for a client without one.
    pub user_name: Option<&'a str>,
}

impl Subject<'_> {
    /// The first of its names that has a wildcard.
    fn name_with_wildcard(&self) -> Option<Name> {
        let has_wildcard = |name: &str| name.contains(['+', '#']);
        if self.user_name.is_some_and(has_wildcard) {
            return Some(Name::UserName);
        }
        has_wildcard(self.client_identifier).then_some(Name::ClientIdentifier)
    }
}

/// What a client wants to do with a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To receive its messages.
    Read,
    /// To publish to it.
    Write,
}

/// A decision, and the rule that led to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// Allowed by the rule in this line.
    Allowed {
        /// The highest QoS that is allowed.
        maximum: QoS,
        /// Counted from 1.
        line: u32,
    },
    /// Only some of the topics that the filter matches are allowed, so each message has to be checked.
    InPart {
        /// The highest QoS that is allowed for any of them.
        maximum: QoS,
    },
    /// Denied by the rule in this line, or because no rule allows it.
    Denied {
        /// Counted from 1.
        line: Option<u32>,
    },
    /// Denied, although the pattern in this line allows it to other clients: a name of this client has characters that
    /// could widen a pattern.
    Unused {
        /// Counted from 1.
        line: u32,
        /// The name with these characters.
        name: Name,
    },
}

/// A name of a client that patterns use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// `%u`
    UserName,
    /// `%c`
    ClientIdentifier,
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

    /// The rules in the order in which they are asked. Among those that deny, the last one in the file comes first.
    fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.denials.iter().rev().chain(&self.others)
    }

    fn is_empty(&self) -> bool {
        self.denials.is_empty() && self.others.is_empty()
    }
}

/// All rules of an ACL file.
#[derive(Debug)]
pub struct Acl {
    /// The name of the file without its directory: clients of MQTT 5.0 are told which rule denies something, and it is
    /// not for them to know where the file is.
    file: Box<str>,
    anonymous: Rules,
    users: BTreeMap<Box<str>, Rules>,
    patterns: Rules,
    warnings: Vec<ConfigError>,
}

impl Acl {
    /// The warnings about a file that is usable all the same.
    pub fn warnings(&self) -> &[ConfigError] {
        &self.warnings
    }

    /// Whether any rule depends on a User Name.
    pub fn is_about_users(&self) -> bool {
        let is_named = |rule: &Rule| rule.levels.iter().any(|level| matches!(level, Level::UserName));
        !self.users.is_empty() || self.patterns.iter().any(is_named)
    }

    /// Decides about one topic. Never returns [`Ruling::InPart`].
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
        self.denied(subject, access, topic.as_str())
    }

    /// The ruling if no rule allows an access: says so, or which pattern would if the names were different.
    fn denied(&self, subject: &Subject<'_>, access: Access, filter: &str) -> Ruling {
        let is_plain = |name: &str| !name.contains(rule::WIDENING);
        if is_plain(subject.client_identifier) && subject.user_name.is_none_or(is_plain) {
            return Ruling::Denied { line: None };
        }
        let wanted = Part::of_pattern(filter);
        for rule in self.patterns.iter() {
            let Some((parts, name)) = rule.parts_in_spite_of(subject) else { continue };
            match rule.grant {
                Grant::Deny if rule::covers(&parts, &wanted) => break,
                Grant::Allow { .. } if rule.grant.covers(access) && rule::meet(&wanted, &parts).is_some() => {
                    return Ruling::Unused { line: rule.line, name };
                }
                _ => {}
            }
        }
        Ruling::Denied { line: None }
    }

    /// Decides about reading all topics that a filter matches. Returns [`Ruling::Denied`] if no message at all could
    /// be delivered.
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
            (None, first) => match self.denied(subject, Access::Read, filter.pattern()) {
                Ruling::Denied { line: None } => Ruling::Denied { line: first.map(|&(_, line)| line) },
                unused => unused,
            },
        }
    }

    /// The rules that apply to a client, in the order in which they are asked.
    fn rules_for(&self, subject: &Subject<'_>) -> impl Iterator<Item = &Rule> {
        let own = match subject.user_name {
            Some(user) => self.users.get(user),
            None => Some(&self.anonymous),
        };
        // A wildcard in either name excludes the client from all patterns, even from those that contain neither name.
        let patterns = subject.name_with_wildcard().is_none().then_some(&self.patterns);
        [own, patterns].into_iter().flatten().flat_map(Rules::iter)
    }

    /// Puts a ruling into words, with file and line: `denied by FILE:LINE`.
    pub fn explain(&self, ruling: Ruling) -> Explained<'_> {
        Explained { file: &self.file, ruling }
    }
}

/// Displays a ruling.
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
            Ruling::Unused { line, name } => {
                let name = match name {
                    Name::UserName => "User Name",
                    Name::ClientIdentifier => "Client Identifier",
                };
                write!(
                    formatter,
                    "no rule of {file} allows it; the pattern {file}:{line} is not used, since the {name} has a '/', '+' \
                     or '#'"
                )
            }
        }
    }
}
