//! Parses text to statements: lines, keywords, values and their places.

use std::rc::Rc;

use super::keywords::{Keyword, Named, find, keywords};
use super::outcome::{Finding, Place};
use crate::base::byte_order_mark::{MISPLACED, SKIPPED, after_mark};
use crate::base::escape::keyword_in;
use crate::base::plural::Count;
use crate::protocol::utf8::is_sound_character;
use crate::settings::CONFIG_ERRORS_MAXIMUM;

/// The maximum length of a line in bytes; a longer one is an error.
const LINE_MAXIMUM: usize = 16 * 1024;

/// A line with a keyword.
#[derive(Clone, Debug)]
pub struct Statement {
    /// The keyword.
    pub keyword: &'static Keyword,
    /// The keyword as written. For a family of keywords, it is longer than its name.
    pub written: String,
    /// The place of the keyword.
    pub place: Place,
    /// The value, without surrounding white space; may be empty.
    pub value: String,
    /// The place of the value.
    pub value_place: Place,
}

impl Statement {
    /// The path in the value, and what it names.
    pub fn path(&self) -> Option<(Named, &str)> {
        let (named, place) = self.keyword.path_in(&self.value)?;
        Some((named, self.value.get(place)?))
    }

    /// The value with another path.
    pub fn value_with(&self, path: &str) -> String {
        let mut value = self.value.clone();
        if let Some((_, place)) = self.keyword.path_in(&value) {
            value.replace_range(place, path);
        }
        value
    }
}

/// Parses a text to statements. Returns findings about lines that are invalid or unusual.
pub fn parse(bytes: &[u8], name: &str) -> (Vec<Statement>, Vec<Finding>) {
    let file: Rc<str> = name.into();
    let mut statements = Vec::new();
    let mut findings = Vec::new();
    let text = after_mark(bytes);
    if text.is_some() {
        let start = Place { file: file.clone(), line: 1, column: 1 };
        findings.push(Finding::warning(&start, SKIPPED));
    }
    let bytes = text.unwrap_or(bytes);
    for (index, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        let start = Place { file: file.clone(), line: index + 1, column: 1 };
        if let Some(statement) = read_line(line, start, &mut findings) {
            statements.push(statement);
        }
    }
    (statements, findings)
}

fn read_line(line: &[u8], start: Place, findings: &mut Vec<Finding>) -> Option<Statement> {
    // Comments may be in any encoding and of any length.
    if line.first() == Some(&b'#') {
        return None;
    }
    if after_mark(line).is_some() {
        findings.push(Finding::error(&start, MISPLACED));
        return None;
    }
    if line.len() > LINE_MAXIMUM {
        let text = format!("the line has {}, expected at most {LINE_MAXIMUM}", Count(line.len(), "byte"));
        findings.push(Finding::error(&start, text));
        return None;
    }
    let text = match std::str::from_utf8(line) {
        Ok(text) => text.trim_end_matches('\r'),
        Err(error) => {
            let valid = String::from_utf8_lossy(&line[..error.valid_up_to()]).chars().count();
            let place = Place { column: valid + 1, ..start };
            findings.push(Finding::error(&place, "this is not UTF-8, expected text in UTF-8"));
            return None;
        }
    };
    // Values may become part of packets.
    let is_text = |character| character == '\t' || is_sound_character(character);
    if let Some(column) = text.chars().position(|character| !is_text(character)) {
        let place = Place { column: column + 1, ..start };
        findings.push(Finding::error(&place, "a control character or a non-character, expected text"));
        return None;
    }
    let body = text.trim_start_matches(is_space);
    let place = Place { column: text.chars().count() - body.chars().count() + 1, ..start };
    if body.is_empty() {
        return None;
    }
    if body.starts_with('#') {
        let text = "white space before a comment, which mosquitto would refuse, is accepted";
        findings.push(Finding::warning(&place, text));
        return None;
    }
    let (word, rest) = body.split_once(is_space).unwrap_or((body, ""));
    let trimmed = rest.trim_start_matches(is_space);
    let gap = rest.chars().count() - trimmed.chars().count();
    let value_column = place.column + word.chars().count() + 1 + gap;
    let value_place = Place { column: value_column.min(text.chars().count() + 1), ..place.clone() };
    if text.strip_suffix(trimmed).is_some_and(|front| front.contains('\t')) {
        let text = "a tab before the value, which mosquitto would not accept, is treated as a space";
        findings.push(Finding::warning(&place, text));
    }
    let Some(keyword) = find(word) else {
        // Further errors are not shown, and guessing takes time.
        let is_guessed = findings.len() < CONFIG_ERRORS_MAXIMUM;
        findings.push(Finding::error(&place, unknown(word, is_guessed)));
        return None;
    };
    let value = trimmed.trim_end_matches(is_space).to_owned();
    Some(Statement { keyword, written: word.to_owned(), place, value, value_place })
}

fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t')
}

/// The message about an unknown keyword.
fn unknown(word: &str, is_guessed: bool) -> String {
    let shown = keyword_in(word);
    if shown != word && find(shown).is_some() {
        return format!("there is no space after '{shown}', expected one before its value");
    }
    match is_guessed.then(|| nearest(shown)).flatten() {
        Some(name) => format!("unknown keyword '{shown}', did you mean '{name}'?"),
        None if shown.is_empty() => "unknown keyword, expected one of mosquitto.conf".to_owned(),
        None => format!("unknown keyword '{shown}', expected one of mosquitto.conf"),
    }
}

/// Returns the keyword with the smallest edit distance to `word`, if it is small.
fn nearest(word: &str) -> Option<&'static str> {
    let word: Vec<char> = word.to_ascii_lowercase().replace('-', "_").chars().collect();
    let most = (word.len() / 3).clamp(1, 4);
    keywords()
        .map(|keyword| (edits(&word, keyword.name), keyword.name))
        .filter(|&(edits, _)| edits <= most)
        .min()
        .map(|(_, name)| name)
}

/// The edit distance: the number of letters to insert, delete, replace or swap with their neighbour to turn `word` into
/// `other`.
fn edits(word: &[char], other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=other.len()).collect();
    for (row, &letter) in word.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, &wanted) in other.iter().enumerate() {
            let exchanged = above[column] + usize::from(letter != wanted);
            let mut least = exchanged.min(above[column + 1] + 1).min(current[column] + 1);
            if row > 0 && column > 0 && letter == other[column - 1] && word[row - 1] == wanted {
                least = least.min(before[column - 1] + 1);
            }
            current.push(least);
        }
        before = std::mem::replace(&mut above, current);
    }
    above[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(text: &str) -> Statement {
        let (mut statements, _) = parse(text.as_bytes(), "f");
        assert_eq!(statements.len(), 1, "{text:?}");
        statements.remove(0)
    }

    fn config_error(text: &[u8]) -> String {
        let (statements, findings) = parse(text, "f");
        assert_eq!((statements.len(), findings.len()), (0, 1), "{findings:?}");
        format!("{}: {}", findings[0].place, findings[0].text)
    }

    #[test]
    fn a_statement_is_a_keyword_and_the_rest_of_the_line() {
        let statement = only("# a\n\n  password_file \t  /a b # c  \r\n");
        assert_eq!((statement.keyword.name, &*statement.value), ("password_file", "/a b # c"));
        assert_eq!(statement.place.to_string(), "f:3:3");
        assert_eq!(statement.value_place.to_string(), "f:3:20");
        assert_eq!(only("listener").value, "");
        assert_eq!(only("\u{feff}listener 1").place.column, 1);
        assert_eq!(only("auth_opt_backends x").keyword.name, "auth_opt_");
    }

    #[test]
    fn comments_may_contain_anything() {
        assert!(parse(b"# \xe4\0\n#", "f").1.is_empty());
    }

    #[test]
    fn invalid_lines_are_reported() {
        assert_eq!(
            config_error(b"listner 1883"),
            "f:1:1: unknown keyword 'listner', did you mean 'listener'?"
        );
        assert_eq!(
            config_error(b"Listener 1"),
            "f:1:1: unknown keyword 'Listener', did you mean 'listener'?"
        );
        assert_eq!(
            config_error(b"port=1883"),
            "f:1:1: there is no space after 'port', expected one before its value"
        );
        assert_eq!(config_error(b"\n [broker]"), "f:2:2: unknown keyword, expected one of mosquitto.conf");
        assert_eq!(
            config_error(b"somebody:$7$101$c2VjcmV0"),
            "f:1:1: unknown keyword 'somebody', expected one of mosquitto.conf"
        );
        assert_eq!(config_error(b"user \xc3\xa4\xe4"), "f:1:7: this is not UTF-8, expected text in UTF-8");
        for text in [&b"user a\0"[..], b"user a\xc2\x9f", b"user a\xef\xb7\x90", b"user a\xef\xbf\xbe"] {
            assert_eq!(config_error(text), "f:1:7: a control character or a non-character, expected text");
        }
        assert!(config_error(&[b'a'; 20_000]).contains("20000 bytes"));
    }

    #[test]
    fn a_byte_order_mark_is_skipped_only_at_the_start_of_the_file() {
        let (statements, findings) = parse("\u{feff}# a comment\nuser a".as_bytes(), "f");
        assert_eq!((statements.len(), findings.len()), (1, 1));
        assert!(!findings[0].is_error && findings[0].place.to_string() == "f:1:1", "{findings:?}");
        for text in ["\n\u{feff}user a", "\n\u{feff}# a comment"] {
            assert_eq!(
                config_error(text.as_bytes()),
                "f:2:1: a byte order mark inside the file, expected none"
            );
        }
    }

    #[test]
    fn lines_that_mosquitto_would_read_differently_are_warned_about() {
        for text in ["\tpersistence true", "persistence\ttrue"] {
            assert_eq!(only(text).value, "true");
            let (_, findings) = parse(text.as_bytes(), "f");
            assert!(!findings[0].is_error && findings[0].text.contains("tab"), "{findings:?}");
        }
        let (statements, findings) = parse(b"  # a", "f");
        assert!(statements.is_empty() && !findings[0].is_error);
    }

    #[test]
    fn the_edit_distance_is_computed() {
        let count = |a: &str, b: &str| edits(&a.chars().collect::<Vec<_>>(), b);
        assert_eq!([count("", "ab"), count("ab", ""), count("ab", "ab")], [2, 2, 0]);
        assert_eq!([count("ba", "ab"), count("abc", "ac"), count("axc", "abc")], [1, 1, 1]);
        assert_eq!(count("plugn", "plugin"), 1);
    }
}
