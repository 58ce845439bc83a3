//! Converts statements to pending settings: determines what each applies to, and checks its value.

#[cfg(feature = "bridge")]
use super::bridge_values;
use super::keywords::{Form, Keyword, Meaning, Scope, Setting, Special};
use super::outcome::{Finding, Place};
#[cfg(feature = "bridge")]
use super::pending::PendingBridge;
use super::pending::{Pending, PendingListener, Target};
use super::text::Statement;
use super::values::{comment_starts, is_blank};

/// A step through the files of a configuration.
#[derive(Clone, Debug)]
pub enum Step {
    /// A statement.
    Statement(Statement),
    /// The start of an included file. It has no current listener and no current bridge.
    Enter,
    /// The end of an included file.
    Leave,
}

/// Returns the pending settings, and the findings about single statements.
pub(super) fn pending(steps: &[Step]) -> (Pending, Vec<Finding>) {
    let mut settler = Settler {
        pending: Pending::new(),
        per_listener: None,
        findings: Vec::new(),
        open: Open::default(),
        outer: None,
        #[cfg(feature = "bridge")]
        no_bridge: PendingBridge::new("", Place { file: "".into(), line: 0, column: 0 }),
    };
    for step in steps {
        match step {
            Step::Statement(statement) => settler.process(statement),
            Step::Enter => settler.outer = Some(std::mem::take(&mut settler.open)),
            Step::Leave => settler.open = settler.outer.take().unwrap_or_default(),
        }
    }
    (settler.pending, settler.findings)
}

/// The state that does not extend beyond a file.
#[derive(Debug, Default)]
struct Open {
    /// The current listener, to which options apply; the unnamed one, if none.
    listener: Option<usize>,
    /// The current bridge, to which its options apply, even after a `listener`.
    #[cfg(feature = "bridge")]
    bridge: Option<usize>,
    /// The refused keywords, to which others belong.
    heads: Vec<&'static str>,
}

/// The state while statements are processed.
struct Settler {
    pending: Pending,
    /// The place of `per_listener_settings true`, if it was given.
    per_listener: Option<Place>,
    findings: Vec<Finding>,
    open: Open,
    /// The state of the file that includes the current one.
    outer: Option<Open>,
    /// Stands in for the current bridge while there is none. It remains unchanged.
    #[cfg(feature = "bridge")]
    no_bridge: PendingBridge,
}

impl Settler {
    fn process(&mut self, statement: &Statement) {
        let Keyword { name, meaning, note, .. } = statement.keyword;
        let place = &statement.place;
        match meaning {
            Meaning::Sets(setting) => self.set(setting, statement),
            Meaning::Special(special) => self.process_special(*special, statement),
            Meaning::Ignored => self.report_ignored(statement),
            Meaning::IgnoredOption => {
                self.report_ignored(statement);
                let Pending { unnamed, listeners, .. } = &mut self.pending;
                let listener = self.open.listener.map_or(unnamed, |index| &mut listeners[index]);
                listener.options.has_ignored = true;
                listener.options.places.insert(name, place.clone());
            }
            Meaning::Refused => {
                self.findings.push(Finding::error(place, format!("'{name}': {note}")));
                self.open.heads.push(name);
            }
            Meaning::PartOf(head) => self.report_part(&[head], statement),
            Meaning::Family(heads) => self.report_part(heads, statement),
        }
    }

    fn report_ignored(&mut self, statement: &Statement) {
        let Keyword { name, note, .. } = statement.keyword;
        self.findings.push(Finding::warning(&statement.place, format!("'{name}' is ignored: {note}")));
    }

    /// Checks a value and stores it in the pending settings.
    fn set(&mut self, setting: &Setting, statement: &Statement) {
        #[cfg(feature = "bridge")]
        if setting.scope == Scope::Bridge && self.open.bridge.is_none() {
            self.report_part(&["connection"], statement);
            return;
        }
        let Self { pending: Pending { globals, security: common, unnamed, listeners, .. }, findings, .. } =
            self;
        let is_named = self.open.listener.is_some();
        let listener = self.open.listener.map_or(unnamed, |index| &mut listeners[index]);
        let security = match &self.per_listener {
            None => common,
            Some(place) if setting.scope == Scope::Security && !is_named && listener.place.is_none() => {
                let text = format!(
                    "'{}' applies to no listener, expected after one, since 'per_listener_settings' is true ({})",
                    statement.written,
                    place.line_for(&statement.place)
                );
                findings.push(Finding::error(&statement.place, text));
                return;
            }
            Some(_) => &mut listener.security,
        };
        let mut target = Target {
            globals,
            options: &mut listener.options,
            security,
            #[cfg(feature = "bridge")]
            bridge: match self.open.bridge {
                Some(index) => &mut self.pending.bridges[index],
                None => &mut self.no_bridge,
            },
            place: &statement.value_place,
        };
        if let Err(finding) = give(&mut target, &setting.form, statement, findings) {
            findings.push(finding);
            // A bridge is not reported to lack what is wrong.
            #[cfg(feature = "bridge")]
            if setting.scope == Scope::Bridge {
                target.bridge.places.insert(setting.name, statement.place.clone());
            }
            return;
        }
        let places = match setting.scope {
            Scope::Global => &mut target.globals.places,
            Scope::Listener => &mut target.options.places,
            Scope::Security => &mut target.security.places,
            #[cfg(feature = "bridge")]
            Scope::Bridge => &mut target.bridge.places,
        };
        let earlier = places.insert(setting.name, statement.place.clone());
        findings.extend(earlier.and_then(|earlier| repeated(&setting.form, statement, &earlier)));
    }

    /// Reports a keyword that belongs to another one, unless the other has already been refused.
    fn report_part(&mut self, heads: &[&str], statement: &Statement) {
        if self.open.heads.iter().any(|head| heads.contains(head)) {
            return;
        }
        let text =
            format!("'{}' belongs to '{}', expected one before it", statement.written, heads.join("' or '"));
        self.findings.push(Finding::error(&statement.place, text));
    }

    fn process_special(&mut self, special: Special, statement: &Statement) {
        let outcome = match special {
            Special::Listener => self.open_listener(statement),
            #[cfg(feature = "bridge")]
            Special::Connection => self.open_bridge(statement),
            Special::Port => self.set_port(statement),
            Special::BindAddress => self.set_bind_address(statement),
            Special::PerListenerSettings => self.set_per_listener(statement),
            // The included files have already been read by the caller, if there are files.
            Special::IncludeDirectory => Ok(()),
        };
        self.findings.extend(outcome.err());
    }

    fn open_listener(&mut self, statement: &Statement) -> Result<(), Finding> {
        const EXPECTED: &str = "a port and optionally an address, or '0 PATH'";
        let mut words = words(&statement.value);
        let port = number_of(words.next().unwrap_or_default(), 0, 65_535)
            .and_then(|port| u16::try_from(port).ok())
            .ok_or_else(|| wrong(statement, EXPECTED))?;
        let host = words.next();
        let mut listener = PendingListener::new(Some(statement.place.clone()));
        match (host, statement.path()) {
            (None, _) if port == 0 => return Err(wrong(statement, "the path of a socket after '0'")),
            (_, Some((_, path))) => listener.path = Some(path.to_owned()),
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

    /// Even if the name is wrong, the following options belong to this bridge.
    #[cfg(feature = "bridge")]
    fn open_bridge(&mut self, statement: &Statement) -> Result<(), Finding> {
        let word = first_word(statement, &mut self.findings);
        let earlier = self.pending.bridges.iter().find(|other| *other.settings.name == *word);
        let earlier = earlier.map(|other| other.place.line_for(&statement.place));
        self.open.bridge = Some(self.pending.bridges.len());
        self.pending.bridges.push(PendingBridge::new(word, statement.place.clone()));
        if word.is_empty() {
            return Err(wrong(statement, "the name of a bridge"));
        }
        bridge_values::check_name(word).map_err(|expected| wrong(statement, expected))?;
        match earlier {
            Some(earlier) => {
                let text = format!("bridge '{word}' is given twice, expected once (already in {earlier})");
                Err(Finding::error(&statement.value_place, text))
            }
            None => Ok(()),
        }
    }

    fn set_port(&mut self, statement: &Statement) -> Result<(), Finding> {
        let port = number(statement, 1, 65_535, &mut self.findings)?;
        if let Some(earlier) = self.pending.unnamed.options.places.insert("port", statement.place.clone()) {
            self.findings.push(given_before(statement, &earlier));
        }
        self.pending.unnamed.port = u16::try_from(port).ok();
        self.name_unnamed(statement);
        Ok(())
    }

    fn set_bind_address(&mut self, statement: &Statement) -> Result<(), Finding> {
        if statement.value.is_empty() {
            return Err(wrong(statement, "an address"));
        }
        if let Some(earlier) =
            self.pending.unnamed.options.places.insert("bind_address", statement.place.clone())
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

    fn set_per_listener(&mut self, statement: &Statement) -> Result<(), Finding> {
        let is_on = switch(statement, &mut self.findings)?;
        match &self.per_listener {
            Some(earlier) if !is_on => {
                let text = format!("it stays true, as set in {}", earlier.line_for(&statement.place));
                self.findings.push(Finding::warning(&statement.place, text));
            }
            None if is_on => {
                if let Some((name, earlier)) = self.pending.security.places.first() {
                    let earlier = earlier.line_for(&statement.place);
                    let text = format!("expected before '{name}' in {earlier}, which it affects");
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
        Form::Text(expected, set) | Form::List(expected, set) | Form::PathAfter(_, expected, set) => {
            set(target, text(statement, expected, findings)?)
        }
        Form::Path(named, set) => {
            let path = target.given(text(statement, named.expected(), findings)?);
            set(target, path);
            Ok(())
        }
        #[cfg(feature = "bridge")]
        Form::Line(expected, set) | Form::Lines(expected, set) => match &*statement.value {
            "" => Err(expected),
            line => set(target, line),
        },
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
        let text = "'#' after a value does not start a comment but is part of the value; put comments on separate lines";
        findings.push(Finding::warning(&statement.value_place, text));
    }
    Ok(&statement.value)
}

/// The words of a value, up to what was probably meant to be a comment.
fn words(value: &str) -> impl Iterator<Item = &str> {
    value.split(is_blank).filter(|word| !word.is_empty()).take_while(|word| !comment_starts(word))
}

/// The first word of a value, empty if there is none. Warns if there are more.
fn first_word<'a>(statement: &'a Statement, findings: &mut Vec<Finding>) -> &'a str {
    let mut words = words(&statement.value);
    let first = words.next().unwrap_or_default();
    if let Some(more) = words.next() {
        findings.push(more_than_expected(statement, more));
    }
    first
}

fn more_than_expected(statement: &Statement, more: &str) -> Finding {
    let text = format!("'{more}' after the value of '{}' is ignored", statement.written);
    Finding::warning(&statement.value_place, text)
}

fn number_of(word: &str, least: i64, most: i64) -> Option<i64> {
    word.parse().ok().filter(|number| (least..=most).contains(number))
}

/// Describes the expected number. Bounds far beyond useful values are mentioned only if they are exceeded.
fn range(word: &str, least: i64, most: i64) -> String {
    let is_digits = |word: &str| !word.is_empty() && word.bytes().all(|letter| letter.is_ascii_digit());
    let (is_below, is_above) = match word.parse::<i64>() {
        Ok(number) => (number < least, number > most),
        Err(_) => (word.strip_prefix('-').is_some_and(is_digits), is_digits(word)),
    };
    match (least < -1 && !is_below, most > 0x7FFF_0000 && !is_above) {
        (true, true) => "a number".to_owned(),
        (false, true) => format!("a number of at least {least}"),
        (true, false) => format!("a number of at most {most}"),
        (false, false) => format!("a number from {least} to {most}"),
    }
}

/// Reports a missing or unexpected value.
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

/// Reports a keyword that was already given, unless it may be repeated.
fn repeated(form: &Form, statement: &Statement, earlier: &Place) -> Option<Finding> {
    match form {
        Form::List(..) | Form::WordList(..) | Form::PathAfter(..) => None,
        Form::Text(..) | Form::Path(..) => Some(given_twice(statement, earlier)),
        #[cfg(feature = "bridge")]
        Form::Lines(..) => None,
        #[cfg(feature = "bridge")]
        Form::Line(..) => Some(given_twice(statement, earlier)),
        _ => Some(given_before(statement, earlier)),
    }
}

fn given_twice(statement: &Statement, earlier: &Place) -> Finding {
    let earlier = earlier.line_for(&statement.place);
    let text = format!("'{}' is given twice, expected once (already in {earlier})", statement.written);
    Finding::error(&statement.place, text)
}

fn given_before(statement: &Statement, earlier: &Place) -> Finding {
    let earlier = earlier.line_for(&statement.place);
    let text = format!("'{}' was already given in {earlier}; the last one is used", statement.written);
    Finding::warning(&statement.place, text)
}
