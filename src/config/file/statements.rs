//! Statements to pending: which each is about, and what its keyword may be given.

use super::keywords::{Form, Keyword, Meaning, Scope, Setting, Special};
use super::outcome::{Finding, Place};
use super::pending::{Pending, PendingListener, Target};
use super::text::Statement;

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

/// Everything that is said, and what is wrong with it by itself.
pub(super) fn pending(steps: &[Step]) -> (Pending, Vec<Finding>) {
    let mut settler = Settler {
        pending: Pending::new(),
        per_listener: None,
        findings: Vec::new(),
        open: Open::default(),
        outer: None,
    };
    for step in steps {
        match step {
            Step::Say(statement) => settler.say(statement),
            Step::Enter => settler.outer = Some(std::mem::take(&mut settler.open)),
            Step::Leave => settler.open = settler.outer.take().unwrap_or_default(),
        }
    }
    (settler.pending, settler.findings)
}

/// What is open in a file.
#[derive(Debug, Default)]
struct Open {
    /// The listener that options are about; the one that nobody has named, if none.
    listener: Option<usize>,
    /// Keywords that were errors and to which others belong.
    heads: Vec<&'static str>,
}

/// Everything that has been said so far.
struct Settler {
    pending: Pending,
    /// Where `per_listener_settings true` stands.
    per_listener: Option<Place>,
    findings: Vec<Finding>,
    open: Open,
    /// What was open where another file was included.
    outer: Option<Open>,
}

impl Settler {
    fn say(&mut self, statement: &Statement) {
        let Keyword { name, meaning, note } = statement.keyword;
        let place = &statement.place;
        match meaning {
            Meaning::Sets(setting) => self.set(setting, statement),
            Meaning::Special(special) => self.say_special(*special, statement),
            Meaning::Ignored => {
                self.findings.push(Finding::warning(place, format!("'{name}' is ignored: {note}")));
            }
            Meaning::Refused => {
                self.findings.push(Finding::error(place, format!("'{name}': {note}")));
                self.open.heads.push(name);
            }
            Meaning::PartOf(head) => self.say_part(&[head], statement),
            Meaning::Family(heads) => self.say_part(heads, statement),
        }
    }

    /// Checks a value and hands it to the pending that it is for.
    fn set(&mut self, setting: &Setting, statement: &Statement) {
        let Self { pending: Pending { globals, security: common, unnamed, listeners }, findings, .. } = self;
        let is_named = self.open.listener.is_some();
        let listener = self.open.listener.map_or(unnamed, |index| &mut listeners[index]);
        let security = match &self.per_listener {
            None => common,
            Some(whose) if setting.scope == Scope::Security && !is_named && listener.place.is_none() => {
                let text = format!(
                    "'{}' is about no listener, expected it behind one, as 'per_listener_settings' is true ({})",
                    statement.written,
                    whose.line_for(&statement.place)
                );
                findings.push(Finding::error(&statement.place, text));
                return;
            }
            Some(_) => &mut listener.security,
        };
        let mut target = Target { globals, options: &mut listener.options, security };
        if let Err(finding) = give(&mut target, &setting.form, statement, findings) {
            findings.push(finding);
            return;
        }
        let said = match setting.scope {
            Scope::Global => &mut target.globals.said,
            Scope::Listener => &mut target.options.said,
            Scope::Security => &mut target.security.said,
        };
        let earlier = said.insert(statement.keyword.name, statement.place.clone());
        findings.extend(earlier.and_then(|earlier| match setting.form {
            Form::List(..) | Form::WordList(..) => None,
            Form::Text(..) => Some(given_twice(statement, &earlier)),
            _ => Some(said_before(statement, &earlier)),
        }));
    }

    /// What belongs to a keyword that was an error needs no error of its own.
    fn say_part(&mut self, heads: &[&str], statement: &Statement) {
        if self.open.heads.iter().any(|head| heads.contains(head)) {
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
        let mut listener = PendingListener::new(Some(statement.place.clone()));
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
        self.open.listener = Some(self.pending.listeners.len());
        self.pending.listeners.push(listener);
        Ok(())
    }

    fn say_port(&mut self, statement: &Statement) -> Result<(), Finding> {
        let port = number(statement, 1, 65_535, &mut self.findings)?;
        if let Some(earlier) = self.pending.unnamed.options.said.insert("port", statement.place.clone()) {
            self.findings.push(said_before(statement, &earlier));
        }
        self.pending.unnamed.port = u16::try_from(port).ok();
        self.name_unnamed(statement);
        Ok(())
    }

    fn say_bind_address(&mut self, statement: &Statement) -> Result<(), Finding> {
        if statement.value.is_empty() {
            return Err(wrong(statement, "an address"));
        }
        if let Some(earlier) =
            self.pending.unnamed.options.said.insert("bind_address", statement.place.clone())
        {
            return Err(given_twice(statement, &earlier));
        }
        self.pending.unnamed.host = Some(statement.value.clone());
        self.name_unnamed(statement);
        Ok(())
    }

    fn name_unnamed(&mut self, statement: &Statement) {
        self.pending.unnamed.place.get_or_insert_with(|| statement.place.clone());
        self.open.listener = None;
    }

    fn say_per_listener(&mut self, statement: &Statement) -> Result<(), Finding> {
        let is_on = switch(statement, &mut self.findings)?;
        match &self.per_listener {
            Some(earlier) if !is_on => {
                let text = format!("it stays true, as it was said in {}", earlier.line_for(&statement.place));
                self.findings.push(Finding::warning(&statement.place, text));
            }
            None if is_on => {
                if let Some((name, earlier)) = self.pending.security.said.first() {
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

fn give(
    target: &mut Target<'_>,
    form: &Form,
    statement: &Statement,
    findings: &mut Vec<Finding>,
) -> Result<(), Finding> {
    let given = match *form {
        Form::Switch(set) => {
            set(target, switch(statement, findings)?);
            Ok(())
        }
        Form::Number(least, most, set) => {
            set(target, number(statement, least.into(), most.into(), findings)?);
            Ok(())
        }
        Form::Word(expected, set) | Form::WordList(expected, set) => {
            set(target, word(statement, expected, findings)?)
        }
        Form::Text(expected, set) | Form::List(expected, set) => {
            set(target, text(statement, expected, findings)?)
        }
    };
    given.map_err(|expected| wrong(statement, expected))
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
