//! Escaping of untrusted text for log lines.

use std::fmt::{self, Write as _};

/// Displays a text with its control characters escaped, so that the text cannot forge a log line.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            if character.is_control() || matches!(character, '\u{2028}' | '\u{2029}') {
                write!(formatter, "{}", character.escape_unicode())?;
            } else {
                formatter.write_char(character)?;
            }
        }
        Ok(())
    }
}

/// The part of `word` that may be shown in a message where a keyword was expected. The word may be a secret in the
/// wrong file, so this ends before the first character that cannot be part of a keyword.
pub fn keyword_in(word: &str) -> &str {
    const SHOWN_MAXIMUM: usize = 40;
    let is_of_keyword = |letter: u8| letter.is_ascii_alphanumeric() || b"_-.".contains(&letter);
    let end = word.bytes().take(SHOWN_MAXIMUM).take_while(|&letter| is_of_keyword(letter)).count();
    word.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_a_keyword_is_shown_of_a_word() {
        for (word, shown) in
            [("topc", "topc"), ("ann:pencil", "ann"), ("\u{e4}b", ""), ("", ""), ("a.b-c_1", "a.b-c_1")]
        {
            assert_eq!(keyword_in(word), shown);
        }
        assert_eq!(keyword_in(&"x".repeat(100)).len(), 40);
    }

    #[test]
    fn a_line_break_does_not_break_the_line() {
        assert_eq!(Escaped("a\nb\u{1b}[0m ö").to_string(), "a\\u{a}b\\u{1b}[0m ö");
    }
}
