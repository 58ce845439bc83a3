//! Names of the things of a cluster in NATS: Topic Names as subjects and back, Topic Filters as the subjects of
//! subscriptions, and the keys of sessions and nodes.
//!
//! A subject consists of tokens between dots. In a subscription, `*` stands for one token and `>` for all that follow,
//! of which there is at least one. The level of a topic becomes a token; `%` closes the subject, so that `a.>` reaches
//! the parent of `a/#`, too:
//!
//! | MQTT | NATS, in the cluster `c` |
//! |---|---|
//! | topic `a/b` | `bk.c.d.a.b.%` |
//! | topic `a//1.5 V` | `bk.c.d.a.%_.1%2E5%20V.%` |
//! | topic `$x/a` | `bk.c.d$.$x.a.%` |
//! | topic `a/b/` and a very long level | `bk.c.dh.a.b.`, the hash of the whole topic, `.%` |
//! | filter `a/+` | `bk.c.d.a.*.%` and `bk.c.dh.a.>` |
//! | filter `a/#` | `bk.c.d.a.>` and `bk.c.dh.a.>` |
//! | topic `a/b`, in the log | `bk.c.m0.t.a.b.%`, and if it is to be retained `bk.c.m0.r.o.a.b.%` |
//! | topic `$x/a`, to be retained | `bk.c.m0.r.$.$x.a.%` |
//! | several messages at once, in the log | `bk.c.m0.g` |
//!
//! Topics that start with `$` are in a branch of their own, since wildcards at the first level must not reach them
//! [MQTT-4.7.2-1]. So are topics that do not fit into a subject: a filter with wildcards cannot tell where such a topic
//! is cut off, so it takes all of them that begin with its levels before the first wildcard. Messages with such a topic
//! carry it in their body. What is to be retained has the branch as a token of its own, so that one pattern reaches all of
//! it. `$SYS` has no subject: what a broker says about itself stays there.

mod keys;
#[cfg(test)]
mod tests;
mod token;

use std::fmt;

use crate::protocol::topic::{TopicError, TopicFilter, TopicName};
use crate::settings::ClusterName;

pub use keys::SessionKeys;

use token::hash;

/// The most bytes of a subject of a cluster. The engine itself closes a connection whose command is longer than 4,096
/// bytes, including the subject for answers.
pub const SUBJECT_LENGTH_MAXIMUM: usize = 1024;

/// The most levels of a topic that are written as they are.
const LEVELS_MAXIMUM: usize = 64;

/// The most bytes of the levels of a topic in a subject, each with the dot before it.
const LEVELS_LENGTH_MAXIMUM: usize = 960;

/// The same beside a hash and the dot before it.
const LEVELS_LENGTH_WITH_HASH: usize = LEVELS_LENGTH_MAXIMUM - 1 - token::HASH_LENGTH;

/// The longest part before the levels, and the closing token.
const REST_LENGTH_MAXIMUM: usize = "bk.".len() + ClusterName::LENGTH_MAXIMUM + ".m65535.r.$.%".len();

const _: () = assert!(REST_LENGTH_MAXIMUM + LEVELS_LENGTH_MAXIMUM <= SUBJECT_LENGTH_MAXIMUM);

/// The last token of the subject of a topic.
const CLOSING: &str = "%";

/// What a message is sent for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// It goes to the nodes that want it at the moment, and is not stored.
    Direct,
    /// It is appended to this partition of the log.
    Log(u16),
    /// The same, and it is retained.
    Retained(u16),
}

/// The branches of subjects for each purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Branch {
    /// Topics that wildcards at the first level reach.
    Ordinary,
    /// Topics that start with `$`.
    Reserved,
    /// Topics of both kinds that do not fit into a subject.
    Shortened,
}

impl Branch {
    /// Of a topic or a filter that fits.
    fn of(text: &str) -> Self {
        if text.starts_with('$') { Self::Reserved } else { Self::Ordinary }
    }

    const ALL: [Self; 3] = [Self::Ordinary, Self::Reserved, Self::Shortened];

    /// At the end of the token before it.
    const fn suffix(self) -> &'static str {
        match self {
            Self::Ordinary => "",
            Self::Reserved => "$",
            Self::Shortened => "h",
        }
    }

    /// As a token of its own.
    const fn token(self) -> &'static str {
        match self {
            Self::Ordinary => "o",
            Self::Reserved => "$",
            Self::Shortened => "h",
        }
    }
}

/// Whether the subject tells the whole topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The topic can be read from the subject.
    Whole,
    /// The subject has only the beginning and the hash of the topic, which the body of the message must carry.
    Shortened,
}

/// The subjects of one filter. Together they reach every topic that the filter matches, and no other topic that fits into
/// a subject.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilterSubjects {
    /// For topics that fit into a subject, if the filter can match any.
    pub whole: Option<String>,
    /// For those that do not, if the filter can match any.
    pub shortened: Option<String>,
}

/// What the subject of a message tells about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// What the message was sent for.
    pub purpose: Purpose,
    /// Whether the topic was read from the subject.
    pub form: Form,
}

/// Why a subject is not one that a node of this cluster writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubjectError {
    /// It is not for a message of this cluster.
    Foreign,
    /// A token is not the escaped form of a level.
    Token,
    /// It is longer or has more levels than a node writes.
    TooLong,
    /// The topic is in another branch than its own, or in none.
    Branch,
    /// What it says is not a valid Topic Name.
    Topic(TopicError),
}

impl fmt::Display for SubjectError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign => formatter.write_str("not a subject for a message of this cluster"),
            Self::Token => formatter.write_str("not an escaped level in a subject"),
            Self::TooLong => formatter.write_str("a subject longer than the broker writes"),
            Self::Branch => formatter.write_str("a topic in the wrong branch of subjects"),
            Self::Topic(why) => write!(formatter, "{why} in a subject"),
        }
    }
}

impl std::error::Error for SubjectError {}

/// The subjects of one cluster.
#[derive(Clone, Debug)]
pub struct Subjects {
    /// The beginning of all of them, with the last dot.
    base: Box<str>,
}

impl Subjects {
    /// Those of the cluster of this name.
    pub fn new(name: &ClusterName) -> Self {
        Self { base: format!("bk.{}.", name.as_str()).into() }
    }

    /// The beginning of all subjects of the cluster, with a dot at the end.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Everything in a partition of the log, as a subscription.
    pub fn log(&self, partition: u16) -> String {
        format!("{}m{partition}.>", self.base)
    }

    /// All that is to be retained in a partition of the log, as a subscription.
    pub fn retained(&self, partition: u16) -> String {
        format!("{}m{partition}.r.>", self.base)
    }

    /// The subject of an entry of the log with several messages.
    pub fn gathered(&self, partition: u16) -> String {
        format!("{}m{partition}.g", self.base)
    }

    /// Appends the subject for messages with a topic. Returns `None`, and appends nothing, if such messages stay at this
    /// broker.
    pub fn push_topic(&self, purpose: Purpose, topic: TopicName<'_>, into: &mut String) -> Option<Form> {
        let topic = topic.as_str();
        if stays_here(topic) {
            return None;
        }
        let begin = into.len();
        self.push_branch(purpose, Branch::of(topic), into);
        let form = if push_levels(topic.split('/'), LEVELS_LENGTH_MAXIMUM, into) {
            Form::Whole
        } else {
            into.truncate(begin);
            self.push_branch(purpose, Branch::Shortened, into);
            push_levels(topic.split('/'), LEVELS_LENGTH_WITH_HASH, into);
            into.push('.');
            into.push_str(&hash(topic));
            Form::Shortened
        };
        into.push('.');
        into.push_str(CLOSING);
        Some(form)
    }

    /// Returns the subjects to subscribe to for a filter; for that of a Shared Subscription, those of its pattern.
    pub fn filter(&self, purpose: Purpose, filter: TopicFilter<'_>) -> FilterSubjects {
        let pattern = filter.pattern();
        if filter.has_wildcard() && !stays_here(pattern) {
            return FilterSubjects {
                whole: self.whole(purpose, pattern),
                shortened: Some(self.shortened(purpose, pattern)),
            };
        }
        let mut subject = String::new();
        match self.push_topic(purpose, TopicName::trusted(pattern), &mut subject) {
            Some(Form::Whole) => FilterSubjects { whole: Some(subject), shortened: None },
            Some(Form::Shortened) => FilterSubjects { whole: None, shortened: Some(subject) },
            None => FilterSubjects::default(),
        }
    }

    /// The subject for the topics that fit into one, for a pattern with wildcards. A topic is at least as long as the
    /// pattern without `#`, so there is none if that does not fit.
    fn whole(&self, purpose: Purpose, pattern: &str) -> Option<String> {
        let (levels, closing) = match pattern.strip_suffix('#') {
            Some("") => (None, ">"),
            // The filter is valid, so this is the separator before `#`.
            Some(rest) => (rest.get(..rest.len() - 1), ">"),
            None => (Some(pattern), CLOSING),
        };
        let mut subject = String::new();
        self.push_branch(purpose, Branch::of(pattern), &mut subject);
        if !push_levels(
            levels.into_iter().flat_map(|levels| levels.split('/')),
            LEVELS_LENGTH_MAXIMUM,
            &mut subject,
        ) {
            return None;
        }
        subject.push('.');
        subject.push_str(closing);
        Some(subject)
    }

    /// The subject for the topics that do not fit into one, for a pattern with wildcards. What fits of the levels before
    /// the first wildcard is the beginning of what fits of the topic.
    fn shortened(&self, purpose: Purpose, pattern: &str) -> String {
        let mut subject = String::new();
        self.push_branch(purpose, Branch::Shortened, &mut subject);
        let literal = pattern.split('/').take_while(|level| !matches!(*level, "+" | "#"));
        push_levels(literal, LEVELS_LENGTH_WITH_HASH, &mut subject);
        subject.push_str(".>");
        subject
    }

    /// Reads the subject of a message and appends its topic to `topic`, unless the subject has only a part of it.
    ///
    /// # Errors
    ///
    /// No node of this cluster writes such a subject, whatever the topic. If the topic is in the body, only writing the
    /// subject again shows whether it is the right one.
    pub fn parse(&self, subject: &str, topic: &mut String) -> Result<Parsed, SubjectError> {
        let rest = subject.strip_prefix(&*self.base).ok_or(SubjectError::Foreign)?;
        let (purpose, branch, rest) = parse_branch(rest).ok_or(SubjectError::Foreign)?;
        let tokens = rest.strip_suffix(CLOSING).and_then(|rest| rest.strip_suffix('.'));
        let tokens = tokens.ok_or(SubjectError::Token)?;
        if branch == Branch::Shortened {
            return Ok(Parsed { purpose, form: Form::Shortened });
        }
        if tokens.len() >= LEVELS_LENGTH_MAXIMUM || tokens.split('.').count() > LEVELS_MAXIMUM {
            return Err(SubjectError::TooLong);
        }
        let begin = topic.len();
        for (index, token) in tokens.split('.').enumerate() {
            if index > 0 {
                topic.push('/');
            }
            token::push_level(token, topic).ok_or(SubjectError::Token)?;
        }
        let name = topic.get(begin..).unwrap_or_default();
        TopicName::new(name).map_err(SubjectError::Topic)?;
        if Branch::of(name) != branch || stays_here(name) {
            return Err(SubjectError::Branch);
        }
        Ok(Parsed { purpose, form: Form::Whole })
    }

    /// Whether a subject, or that of a subscription, is for topics that do not fit into one.
    pub fn is_shortened(&self, subject: &str) -> bool {
        let parsed = subject.strip_prefix(&*self.base).and_then(parse_branch);
        parsed.is_some_and(|(_, branch, _)| branch == Branch::Shortened)
    }

    /// Appends everything that precedes the levels.
    fn push_branch(&self, purpose: Purpose, branch: Branch, into: &mut String) {
        into.push_str(&self.base);
        match purpose {
            Purpose::Direct => into.extend(["d", branch.suffix()]),
            Purpose::Log(partition) => into.push_str(&format!("m{partition}.t{}", branch.suffix())),
            Purpose::Retained(partition) => into.push_str(&format!("m{partition}.r.{}", branch.token())),
        }
    }
}

/// Whether messages with a topic stay at this broker: those about the broker itself. For a filter, whether it matches
/// only such topics.
fn stays_here(text: &str) -> bool {
    text.split('/').next() == Some("$SYS")
}

/// Appends the levels, each after a dot, as many as fit into so many bytes. Returns whether all do.
fn push_levels<'a>(levels: impl Iterator<Item = &'a str>, bytes: usize, into: &mut String) -> bool {
    let end = into.len() + bytes;
    for (index, level) in levels.enumerate() {
        let before = into.len();
        // A token is not shorter than its level.
        if index == LEVELS_MAXIMUM || before + 1 + level.len() > end {
            return false;
        }
        into.push('.');
        token::push_token(level, into);
        if into.len() > end {
            into.truncate(before);
            return false;
        }
    }
    true
}

/// Splits what follows the base of a subject into the purpose, the branch, and the rest after a dot.
fn parse_branch(text: &str) -> Option<(Purpose, Branch, &str)> {
    let (first, rest) = text.split_once('.')?;
    let suffixed = |suffix| Branch::ALL.into_iter().find(|branch| branch.suffix() == suffix);
    let (purpose, branch, rest) = match first.strip_prefix('m') {
        None => (Purpose::Direct, suffixed(first.strip_prefix('d')?), rest),
        Some(digits) => {
            let partition = digits.parse().ok().filter(|partition: &u16| partition.to_string() == digits)?;
            let (kind, rest) = rest.split_once('.')?;
            match kind.strip_prefix('t') {
                Some(suffix) => (Purpose::Log(partition), suffixed(suffix), rest),
                None if kind == "r" => {
                    let (token, rest) = rest.split_once('.')?;
                    let branch = Branch::ALL.into_iter().find(|branch| branch.token() == token);
                    (Purpose::Retained(partition), branch, rest)
                }
                None => return None,
            }
        }
    };
    Some((purpose, branch?, rest))
}
