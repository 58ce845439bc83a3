//! Statements to settings: which draft each is about, and what holds between them.

use super::drafts::{CommandLine, Globals, ListenerDraft, Said, SecurityDraft};
use super::keywords::{Keyword, Meaning, Special, Value};
use super::text::Statement;
use super::{Finding, Place, build};
use crate::settings::Settings;

/// One step through the files of a configuration.
#[derive(Clone, Debug)]
pub enum Step {
    /// A statement.
    Say(Statement),
    /// A file begins that another has included: no listener and no bridge is open in it.
    Enter,
    /// It ends.
    Leave,
}

/// Makes settings of statements. Worth something only if no finding is an error.
pub fn settle(steps: &[Step], given: &CommandLine) -> (Settings, Vec<Finding>) {
    let mut settler = Settler::default();
    for step in steps {
        match step {
            Step::Say(statement) => settler.say(statement),
            Step::Enter => settler.outer = Some(std::mem::take(&mut settler.scope)),
            Step::Leave => settler.scope = settler.outer.take().unwrap_or_default(),
        }
    }
    build::settings(settler, given)
}

/// What is open in a file.
#[derive(Debug, Default)]
struct Scope {
    /// The listener that options are about; the one that nobody has named, if none.
    listener: Option<usize>,
    /// Keywords that were errors and to which others belong.
    heads: Vec<&'static str>,
}

/// Everything that has been said so far.
#[derive(Debug)]
pub(super) struct Settler {
    pub globals: Globals,
    pub security: SecurityDraft,
    /// The listener that nobody has named: the old `port` and `bind_address`, and options before any `listener`.
    pub unnamed: ListenerDraft,
    pub listeners: Vec<ListenerDraft>,
    /// Where `per_listener_settings true` stands.
    pub per_listener: Option<Place>,
    pub findings: Vec<Finding>,
    scope: Scope,
    /// What was open where another file was included.
    outer: Option<Scope>,
}

impl Default for Settler {
    fn default() -> Self {
        Self {
            globals: Globals::default(),
            security: SecurityDraft::default(),
            unnamed: ListenerDraft::new(None),
            listeners: Vec::new(),
            per_listener: None,
            findings: Vec::new(),
            scope: Scope::default(),
            outer: None,
        }
    }
}

impl Settler {
    fn say(&mut self, statement: &Statement) {
        let Keyword { name, meaning, note } = statement.keyword;
        let place = &statement.place;
        match meaning {
            Meaning::Global(value) => give(&mut self.globals, value, statement, &mut self.findings),
            Meaning::Listener(value) => {
                let listener = match self.scope.listener {
                    Some(index) => &mut self.listeners[index],
                    None => &mut self.unnamed,
                };
                give(listener, value, statement, &mut self.findings);
            }
            Meaning::Security(value) => self.say_security(value, statement),
            Meaning::Special(special) => self.say_special(*special, statement),
            Meaning::Ignored => {
                self.findings.push(Finding::warning(place, format!("'{name}' is ignored: {note}")));
            }
            Meaning::Refused => {
                self.findings.push(Finding::error(place, format!("'{name}': {note}")));
                self.scope.heads.push(name);
            }
            Meaning::PartOf(head) => self.say_part(&[head], statement),
            Meaning::Family(heads) => self.say_part(heads, statement),
        }
    }

    fn say_security(&mut self, value: &'static Value<SecurityDraft>, statement: &Statement) {
        let draft = match (&self.per_listener, self.scope.listener) {
            (None, _) => &mut self.security,
            (Some(_), Some(index)) => &mut self.listeners[index].security,
            (Some(_), None) if self.unnamed.place.is_some() => &mut self.unnamed.security,
            (Some(whose), None) => {
                let text = format!(
                    "'{}' is about no listener, expected it behind one, as 'per_listener_settings' is true ({})",
                    statement.written,
                    whose.line_for(&statement.place)
                );
                self.findings.push(Finding::error(&statement.place, text));
                return;
            }
        };
        give(draft, value, statement, &mut self.findings);
    }

    /// What belongs to a keyword that was an error needs no error of its own.
    fn say_part(&mut self, heads: &[&str], statement: &Statement) {
        if self.scope.heads.iter().any(|head| heads.contains(head)) {
            return;
        }
        let text =
            format!("'{}' belongs to '{}', expected one before it", statement.written, heads.join("' or '"));
        self.findings.push(Finding::error(&statement.place, text));
    }

    fn say_special(&mut self, special: Special, statement: &Statement) {
        let outcome = match special {
            Special::Listener => self.open_listener(statement),
            Special::Port => self.say_port(statement),
            Special::BindAddress => self.say_bind_address(statement),
            Special::PerListenerSettings => self.say_per_listener(statement),
            // Whoever reads the files has done it, if there are files.
            Special::IncludeDirectory => Ok(()),
        };
        self.findings.extend(outcome.err());
    }

    fn open_listener(&mut self, statement: &Statement) -> Result<(), Finding> {
        const EXPECTED: &str = "a port and perhaps an address, or '0 PATH'";
        let mut words = words(&statement.value);
        let port = number_of(words.next().unwrap_or_default(), 0, 65_535)
            .and_then(|port| u16::try_from(port).ok())
            .ok_or_else(|| wrong(statement, EXPECTED))?;
        let host = words.next();
        let mut listener = ListenerDraft::new(Some(statement.place.clone()));
        match host {
            None if port == 0 => return Err(wrong(statement, "the path of a socket behind '0'")),
            Some(path) if port == 0 && path.parse::<std::net::IpAddr>().is_err() => {
                listener.path = Some(path.to_owned());
            }
            _ => listener.host = host.map(str::to_owned),
        }
        listener.port = Some(port);
        if let Some(more) = words.next() {
            self.findings.push(more_than_expected(statement, more));
        }
        self.scope.listener = Some(self.listeners.len());
        self.listeners.push(listener);
        Ok(())
    }

    fn say_port(&mut self, statement: &Statement) -> Result<(), Finding> {
        let port = number(statement, 1, 65_535, &mut self.findings)?;
        if let Some(earlier) = self.unnamed.said.insert("port", statement.place.clone()) {
            self.findings.push(said_before(statement, &earlier));
        }
        self.unnamed.port = u16::try_from(port).ok();
        self.name_unnamed(statement);
        Ok(())
    }

    fn say_bind_address(&mut self, statement: &Statement) -> Result<(), Finding> {
        if statement.value.is_empty() {
            return Err(wrong(statement, "an address"));
        }
        if let Some(earlier) = self.unnamed.said.insert("bind_address", statement.place.clone()) {
            return Err(given_twice(statement, &earlier));
        }
        self.unnamed.host = Some(statement.value.clone());
        self.name_unnamed(statement);
        Ok(())
    }

    fn name_unnamed(&mut self, statement: &Statement) {
        self.unnamed.place.get_or_insert_with(|| statement.place.clone());
        self.scope.listener = None;
    }

    fn say_per_listener(&mut self, statement: &Statement) -> Result<(), Finding> {
        let is_on = switch(statement, &mut self.findings)?;
        match &self.per_listener {
            Some(earlier) if !is_on => {
                let text = format!("it stays true, as it was said in {}", earlier.line_for(&statement.place));
                self.findings.push(Finding::warning(&statement.place, text));
            }
            None if is_on => {
                if let Some((name, earlier)) = self.security.said.first() {
                    let earlier = earlier.line_for(&statement.place);
                    let text = format!("expected before '{name}' of {earlier}, which it is about");
                    return Err(Finding::error(&statement.place, text));
                }
                self.per_listener = Some(statement.place.clone());
            }
            _ => {}
        }
        Ok(())
    }
}

/// A draft that knows what was said of it.
trait Draft {
    fn said(&mut self) -> &mut Said;
}

impl Draft for Globals {
    fn said(&mut self) -> &mut Said {
        &mut self.said
    }
}

impl Draft for SecurityDraft {
    fn said(&mut self) -> &mut Said {
        &mut self.said
    }
}

impl Draft for ListenerDraft {
    fn said(&mut self) -> &mut Said {
        &mut self.said
    }
}

/// Checks a value and hands it to the draft.
fn give<D: Draft>(
    draft: &mut D,
    value: &'static Value<D>,
    statement: &Statement,
    findings: &mut Vec<Finding>,
) {
    match set(draft, value, statement, findings) {
        Ok(()) => {
            let is_list = matches!(value, Value::List(..) | Value::WordList(..));
            let is_text = matches!(value, Value::Text(..));
            let earlier = draft.said().insert(statement.keyword.name, statement.place.clone());
            findings.extend(earlier.filter(|_| !is_list).map(|earlier| match is_text {
                true => given_twice(statement, &earlier),
                false => said_before(statement, &earlier),
            }));
        }
        Err(finding) => findings.push(finding),
    }
}

fn set<D>(
    draft: &mut D,
    value: &'static Value<D>,
    statement: &Statement,
    findings: &mut Vec<Finding>,
) -> Result<(), Finding> {
    let taken = match *value {
        Value::Switch(set) => {
            set(draft, switch(statement, findings)?);
            Ok(())
        }
        Value::Number(least, most, take) => {
            take(draft, number(statement, least, most, findings)?);
            Ok(())
        }
        Value::Word(expected, take) | Value::WordList(expected, take) => {
            take(draft, word(statement, expected, findings)?)
        }
        Value::Text(expected, take) | Value::List(expected, take) => {
            take(draft, text(statement, expected, findings)?)
        }
    };
    taken.map_err(|expected| wrong(statement, &expected))
}

fn switch(statement: &Statement, findings: &mut Vec<Finding>) -> Result<bool, Finding> {
    match first_word(statement, findings) {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(wrong(statement, "true or false")),
    }
}

fn number(statement: &Statement, least: i64, most: i64, findings: &mut Vec<Finding>) -> Result<i64, Finding> {
    let word = first_word(statement, findings);
    number_of(word, least, most).ok_or_else(|| wrong(statement, &range(word, least, most)))
}

fn word<'a>(
    statement: &'a Statement,
    expected: &str,
    findings: &mut Vec<Finding>,
) -> Result<&'a str, Finding> {
    match first_word(statement, findings) {
        "" => Err(wrong(statement, expected)),
        word => Ok(word),
    }
}

fn text<'a>(
    statement: &'a Statement,
    expected: &str,
    findings: &mut Vec<Finding>,
) -> Result<&'a str, Finding> {
    if statement.value.is_empty() {
        return Err(wrong(statement, expected));
    }
    if statement.value.as_bytes().windows(2).any(|pair| matches!(pair, b" #" | b"\t#")) {
        let text = "'#' begins no comment behind a value but is part of it; comments have lines of their own";
        findings.push(Finding::warning(&statement.value_place, text));
    }
    Ok(&statement.value)
}

/// The words of a value, up to what was meant for a comment.
fn words(value: &str) -> impl Iterator<Item = &str> {
    value.split([' ', '\t']).filter(|word| !word.is_empty()).take_while(|word| !word.starts_with('#'))
}

/// The word that counts; empty where there is none.
fn first_word<'a>(statement: &'a Statement, findings: &mut Vec<Finding>) -> &'a str {
    let mut words = words(&statement.value);
    let first = words.next().unwrap_or_default();
    if let Some(more) = words.next() {
        findings.push(more_than_expected(statement, more));
    }
    first
}

fn more_than_expected(statement: &Statement, more: &str) -> Finding {
    let text = format!("'{more}' behind the value of '{}' is ignored", statement.written);
    Finding::warning(&statement.value_place, text)
}

fn number_of(word: &str, least: i64, most: i64) -> Option<i64> {
    word.parse().ok().filter(|number| (least..=most).contains(number))
}

/// What a number is expected to be. Bounds that nobody meets by intention are named to those alone who have met them.
fn range(word: &str, least: i64, most: i64) -> String {
    let is_digits = |word: &str| !word.is_empty() && word.bytes().all(|letter| letter.is_ascii_digit());
    let (is_below, is_above) = match word.parse::<i64>() {
        Ok(number) => (number < least, number > most),
        Err(_) => (word.strip_prefix('-').is_some_and(is_digits), is_digits(word)),
    };
    match (least < -1 && !is_below, most > 0x7FFF_0000 && !is_above) {
        (true, true) => "a number".to_owned(),
        (false, true) => format!("a number from {least} on"),
        (true, false) => format!("a number up to {most}"),
        (false, false) => format!("a number from {least} to {most}"),
    }
}

/// A value is missing, or is not what was expected.
fn wrong(statement: &Statement, expected: &str) -> Finding {
    let Statement { written, value, .. } = statement;
    if value.is_empty() {
        return Finding::error(
            &statement.value_place,
            format!("'{written}' has no value, expected {expected}"),
        );
    }
    Finding::error(&statement.value_place, format!("'{written}' is '{value}', expected {expected}"))
}

fn given_twice(statement: &Statement, earlier: &Place) -> Finding {
    let earlier = earlier.line_for(&statement.place);
    let text = format!("'{}' is given twice, expected once (it was in {earlier})", statement.written);
    Finding::error(&statement.place, text)
}

fn said_before(statement: &Statement, earlier: &Place) -> Finding {
    let earlier = earlier.line_for(&statement.place);
    let text = format!("'{}' was given in {earlier} already; this one counts", statement.written);
    Finding::warning(&statement.place, text)
}
