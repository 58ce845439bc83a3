//! Subjects as checked types: tokens between dots. A subject that is published to has no wildcards; one that is
//! subscribed to may have them.

use std::fmt;

/// A subject without wildcards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject<'a>(&'a str);

/// A subject to subscribe to: a token may be `*`, which stands for one token, and the last one may be `>`, which stands
/// for one or more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubjectPattern<'a>(&'a str);

impl<'a> Subject<'a> {
    /// Checks a text. `None` if it is not a subject or has wildcards.
    pub fn new(text: &'a str) -> Option<Self> {
        let is_plain = |token: &str| !matches!(token, "*" | ">");
        (is_printable(text) && text.split('.').all(|token| !token.is_empty() && is_plain(token)))
            .then_some(Self(text))
    }

    /// Checks received bytes. The server passes on subjects that are not UTF-8; these are none here.
    pub fn from_bytes(bytes: &'a [u8]) -> Option<Self> {
        std::str::from_utf8(bytes).ok().and_then(Self::new)
    }

    /// Its text.
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// Its tokens. There is at least one, and none is empty.
    pub fn tokens(self) -> impl DoubleEndedIterator<Item = &'a str> {
        self.0.split('.')
    }
}

impl<'a> SubjectPattern<'a> {
    /// Checks a text. `None` if it is not a subject.
    pub fn new(text: &'a str) -> Option<Self> {
        let (before, last) =
            text.rsplit_once('.').map_or((None, text), |(before, last)| (Some(before), last));
        let is_inner = |token: &str| !token.is_empty() && token != ">";
        let is_pattern = is_printable(text)
            && !last.is_empty()
            && before.is_none_or(|before| before.split('.').all(is_inner));
        is_pattern.then_some(Self(text))
    }

    /// Its text.
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// Whether a message to this subject matches.
    pub fn matches(self, subject: Subject<'_>) -> bool {
        let mut tokens = subject.tokens();
        for wanted in self.0.split('.') {
            let Some(token) = tokens.next() else { return false };
            match wanted {
                ">" => return true,
                "*" => {}
                _ if wanted == token => {}
                _ => return false,
            }
        }
        tokens.next().is_none()
    }
}

impl<'a> From<Subject<'a>> for SubjectPattern<'a> {
    fn from(subject: Subject<'a>) -> Self {
        Self(subject.0)
    }
}

impl fmt::Display for Subject<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }
}

impl fmt::Display for SubjectPattern<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }
}

/// Whether a text can be one word of a control line: it has no spaces, line breaks or other control characters.
pub(super) fn is_printable(text: &str) -> bool {
    text.bytes().all(|byte| byte > b' ' && byte != 0x7F)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_has_tokens_and_no_wildcards() {
        for good in ["a", "a.b", "$JS.API.INFO", "a*b.>c", "\u{e9}.\u{1f600}", "_INBOX.x.1"] {
            assert_eq!(Subject::new(good).map(Subject::as_str), Some(good));
            assert!(SubjectPattern::new(good).is_some(), "{good}");
        }
        for bad in ["", ".", "a.", ".a", "a..b", "a b", "a\tb", "a\r\nb", "a\0", "a\u{7f}"] {
            assert_eq!((Subject::new(bad), SubjectPattern::new(bad)), (None, None), "{bad:?}");
        }
        for pattern in ["*", ">", "a.*", "a.>", "*.a", "a.*.b"] {
            assert_eq!(Subject::new(pattern), None);
            assert_eq!(SubjectPattern::new(pattern).map(SubjectPattern::as_str), Some(pattern));
        }
        for bad in [">.a", "a.>.b", "a.>."] {
            assert_eq!(SubjectPattern::new(bad), None, "{bad}");
        }
        assert_eq!(Subject::from_bytes(b"a.\xff"), None);
    }

    #[test]
    fn a_pattern_matches_as_in_the_server() {
        for (pattern, subject, expected) in [
            ("a.b", "a.b", true),
            ("a.b", "a", false),
            ("a", "a.b", false),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.*", "a.b.c", false),
            ("*.b", "a.b", true),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            (">", "a", true),
            ("a*", "ab", false),
        ] {
            let pattern = SubjectPattern::new(pattern).unwrap();
            assert_eq!(pattern.matches(Subject::new(subject).unwrap()), expected, "{pattern} {subject}");
        }
    }
}
