//! Text from outside, made safe for a log line.

use std::fmt::{self, Write as _};

/// Shows a text with its control characters escaped, so that nobody can write a log line of his own.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_break_does_not_break_the_line() {
        assert_eq!(Escaped("a\nb\u{1b}[0m ö").to_string(), "a\\u{a}b\\u{1b}[0m ö");
    }
}
