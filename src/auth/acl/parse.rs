//! The parser of an `acl_file`.

use std::collections::BTreeMap;

use super::rule::{Grant, Level, Rule};
use super::{Acl, Rules};
use crate::base::byte_order_mark::{MISPLACED, SKIPPED, after_mark};
use crate::base::escape::{Escaped, keyword_in};
use crate::protocol::codec::QoS;
use crate::protocol::topic::TopicFilter;
use crate::settings::{ConfigError, ConfigErrors};

/// The clients that the next `topic` rule is for.
enum Section {
    Anonymous,
    User(Box<str>),
}

/// A fault and its column.
struct Wrong {
    column: usize,
    what: String,
}

/// The name of a file without its directory.
fn name_of(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

impl Acl {
    /// Parses the bytes of the file called `file`.
    ///
    /// # Errors
    ///
    /// Every fault, in the order of the lines.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Self, Vec<ConfigError>> {
        let mut acl = Self {
            file: name_of(file).into(),
            anonymous: Rules::default(),
            users: BTreeMap::new(),
            patterns: Rules::default(),
            warnings: Vec::new(),
        };
        let mut section = Section::Anonymous;
        let (mut wrong, mut warnings) = (ConfigErrors::about(file), ConfigErrors::about(file));
        let text = after_mark(bytes);
        if text.is_some() {
            warnings.push("1:1", SKIPPED);
        }
        for (line, number) in text.unwrap_or(bytes).split(|&byte| byte == b'\n').zip(1_u32..) {
            if let Err(Wrong { column, what }) = acl.take_line(line, number, &mut section, &mut warnings) {
                wrong.push(format_args!("{number}:{column}"), what);
            }
        }
        acl.warnings = warnings.into_list();
        if acl.anonymous.is_empty() && acl.users.is_empty() && acl.patterns.is_empty() {
            acl.warnings.push(ConfigError::new(file, "no rules, so all clients are denied everything"));
        }
        let wrong = wrong.into_list();
        if wrong.is_empty() { Ok(acl) } else { Err(wrong) }
    }

    fn take_line(
        &mut self,
        line: &[u8],
        number: u32,
        section: &mut Section,
        warnings: &mut ConfigErrors<'_>,
    ) -> Result<(), Wrong> {
        if after_mark(line).is_some() {
            return Err(Wrong { column: 1, what: MISPLACED.to_owned() });
        }
        let line = std::str::from_utf8(line)
            .map_err(|error| Wrong { column: error.valid_up_to() + 1, what: "not UTF-8".to_owned() })?;
        let mut words = Words { line: line.trim_end(), at: 0 };
        let (column, keyword) = words.next();
        match keyword {
            "" => Ok(()),
            comment if comment.starts_with('#') => Ok(()),
            "user" => {
                *section = Section::User(user_name(&mut words)?.into());
                Ok(())
            }
            "topic" => {
                let rule = topic_rule(&mut words, number, false)?;
                match section {
                    Section::Anonymous => self.anonymous.push(rule),
                    Section::User(name) => self.users.entry(name.clone()).or_default().push(rule),
                }
                Ok(())
            }
            "pattern" => {
                let rule = topic_rule(&mut words, number, true)?;
                warn_of_pattern(&rule, number, warnings);
                self.patterns.push(rule);
                Ok(())
            }
            other => {
                let what = match keyword_in(other) {
                    "" => "unknown keyword, expected user, topic or pattern".to_owned(),
                    shown => format!("unknown keyword '{shown}', expected user, topic or pattern"),
                };
                Err(Wrong { column, what })
            }
        }
    }
}

fn warn_of_pattern(rule: &Rule, number: u32, warnings: &mut ConfigErrors<'_>) {
    let is_named = |level: &Level| matches!(level, Level::ClientIdentifier | Level::UserName);
    let is_mixed = |level: &Level| matches!(level, Level::Text(text) if text.as_bytes().windows(2).any(|pair| matches!(pair, b"%c" | b"%u")));
    if rule.levels.iter().any(is_mixed) {
        warnings
            .push(number, "%c and %u stand for a name only if they are a whole level; taken as text here");
    } else if !rule.levels.iter().any(is_named) {
        warnings.push(number, "a pattern without %c or %u is the same for all clients");
    }
}

fn user_name<'a>(words: &mut Words<'a>) -> Result<&'a str, Wrong> {
    let (column, name) = words.rest();
    if name.is_empty() {
        return Err(Wrong { column, what: "no name, expected user NAME".to_owned() });
    }
    Ok(name)
}

/// Parses the rest of a line after `topic` or `pattern`.
fn topic_rule(words: &mut Words<'_>, line: u32, is_pattern: bool) -> Result<Rule, Wrong> {
    let grant = grant(words)?;
    let (column, text) = words.rest();
    if text.is_empty() {
        return Err(Wrong { column, what: "no topic filter, expected [access] FILTER".to_owned() });
    }
    let filter = TopicFilter::new(text).map_err(|error| {
        let what = format!("'{}' is not a topic filter: {error}", Escaped(text));
        Wrong { column, what }
    })?;
    if filter.share_name().is_some() {
        let what = "rules are about topics, expected the filter without $share/NAME/".to_owned();
        return Err(Wrong { column, what });
    }
    let level = |text: &str| match text {
        "+" => Level::Plus,
        "#" => Level::Hash,
        "%c" if is_pattern => Level::ClientIdentifier,
        "%u" if is_pattern => Level::UserName,
        text => Level::Text(text.into()),
    };
    Ok(Rule { levels: filter.pattern().split('/').map(level).collect(), grant, line })
}

/// Parses the access and the QoS limit. A first word with nothing after it is the filter itself.
fn grant(words: &mut Words<'_>) -> Result<Grant, Wrong> {
    let mut ahead = *words;
    let (column, access) = ahead.next();
    if ahead.rest().1.is_empty() {
        return Ok(Grant::Allow { read: true, write: true, maximum: QoS::ExactlyOnce });
    }
    words.next();
    let (read, write) = match access {
        "deny" => return Ok(Grant::Deny),
        "read" => (true, false),
        "write" => (false, true),
        "readwrite" => (true, true),
        other => {
            let what =
                format!("unknown access '{}', expected read, write, readwrite or deny", Escaped(other));
            return Err(Wrong { column, what });
        }
    };
    Ok(Grant::Allow { read, write, maximum: maximum_qos(words)? })
}

fn maximum_qos(words: &mut Words<'_>) -> Result<QoS, Wrong> {
    let mut ahead = *words;
    let ((_, keyword), (column, number)) = (ahead.next(), ahead.next());
    if keyword != "maxqos" || ahead.rest().1.is_empty() {
        return Ok(QoS::ExactlyOnce);
    }
    *words = ahead;
    match number {
        "0" => Ok(QoS::AtMostOnce),
        "1" => Ok(QoS::AtLeastOnce),
        "2" => Ok(QoS::ExactlyOnce),
        other => {
            let what = format!("'{}' is not a QoS, expected maxqos 0, 1 or 2", Escaped(other));
            Err(Wrong { column, what })
        }
    }
}

/// A line, read word by word.
#[derive(Clone, Copy)]
struct Words<'a> {
    line: &'a str,
    /// Offset of the next word or of the white space before it.
    at: usize,
}

impl<'a> Words<'a> {
    /// Returns the rest of the line without leading white space, and its column.
    fn rest(&self) -> (usize, &'a str) {
        let rest = self.line.get(self.at..).unwrap_or_default();
        let text = rest.trim_start();
        (self.line.len() - text.len() + 1, text)
    }

    /// Returns the next word, which is empty at the end of the line, and its column.
    fn next(&mut self) -> (usize, &'a str) {
        let (column, rest) = self.rest();
        let word = rest.split([' ', '\t']).next().unwrap_or_default();
        self.at = column - 1 + word.len();
        (column, word)
    }
}
