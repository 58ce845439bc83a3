//! Escaping of untrusted text for log lines.

use std::fmt::{self, Write as _};

/// Displays a text with its control and invisible characters escaped, so that the text cannot forge a log line, nor look
/// like another text.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|character| write_escaped(character, formatter))
    }
}

/// Displays an untrusted text in quotes, so that it is clear where it ends, and only its beginning if it is very long.
#[derive(Clone, Copy, Debug)]
pub struct Quoted<'a>(pub &'a str);

impl Quoted<'_> {
    /// The most characters that it takes, beside the quotes.
    const SHOWN_MAXIMUM: usize = 200;
}

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = Self::SHOWN_MAXIMUM;
        formatter.write_char('\'')?;
        for character in self.0.chars() {
            let is_mark = matches!(character, '\'' | '\\');
            let width = match is_treacherous(character) {
                true => character.escape_unicode().len(),
                false => 1 + usize::from(is_mark),
            };
            let Some(rest) = left.checked_sub(width) else { return formatter.write_str("...'") };
            left = rest;
            if is_mark {
                formatter.write_char('\\')?;
            }
            write_escaped(character, formatter)?;
        }
        formatter.write_char('\'')
    }
}

/// Whether a character breaks the line, or changes how the rest of it looks, or cannot be seen. The ranges are those of
/// Unicode for control and format characters, white space and what is ignored by default.
fn is_treacherous(character: char) -> bool {
    character.is_control()
        || (character.is_whitespace() && character != ' ')
        || matches!(character,
            '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}'
            | '\u{890}'..='\u{891}' | '\u{8e2}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

fn write_escaped(character: char, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
    if is_treacherous(character) {
        return write!(formatter, "{}", character.escape_unicode());
    }
    formatter.write_char(character)
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

    #[test]
    fn what_cannot_be_seen_is_escaped() {
        // Right-to-left override, zero width, no-break and ideographic spaces, soft hyphen, tags, variation selectors.
        for character in "\u{202e}\u{200b}\u{a0}\u{3000}\u{ad}\u{e0041}\u{fe0f}\u{feff}\u{85}\u{2066}".chars()
        {
            let text = format!("ad{character}min");
            let expected = format!("ad{}min", character.escape_unicode());
            assert_eq!(Escaped(&text).to_string(), expected);
            assert_eq!(Quoted(&text).to_string(), format!("'{expected}'"));
        }
        assert_eq!(
            Escaped("Jürgen \u{4e2d}\u{6587} \u{1f600}").to_string(),
            "Jürgen \u{4e2d}\u{6587} \u{1f600}"
        );
    }

    #[test]
    fn a_quoted_text_ends_at_its_quote() {
        assert_eq!(Quoted("a', user 'root").to_string(), "'a\\', user \\'root'");
        assert_eq!(Quoted("\\u{a}").to_string(), "'\\\\u{a}'");
        assert_eq!(Quoted(&"x".repeat(200)).to_string().len(), 202);
        assert_eq!(Quoted(&"x".repeat(70_000)).to_string(), format!("'{}...'", "x".repeat(200)));
    }
}
