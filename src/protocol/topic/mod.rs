//! Topic Names and Topic Filters as checked types. A value of these types complies with chapter 4.7 of the standards,
//! so no other code needs to check it again.
//!
//! The codec, the trie and everything above them use this room.

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;

use std::fmt;

use crate::protocol::utf8;

/// The length in bytes of the longest Topic Name or Topic Filter, set by the two-byte length on the wire
/// [MQTT-4.7.3-3].
pub const LENGTH_MAXIMUM: usize = 65_535;

/// The maximum number of `/` in a Topic Name or Topic Filter. In a Shared Subscription, those of `$share/NAME/` count
/// as well.
pub const SEPARATORS_MAXIMUM: usize = 200;

/// The prefix of the filter of a Shared Subscription.
const SHARE_PREFIX: &str = "$share/";

/// Why a text is not a valid Topic Name or Topic Filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicError {
    /// It is empty [MQTT-4.7.3-1].
    Empty,
    /// It is longer than [`LENGTH_MAXIMUM`] bytes [MQTT-4.7.3-3].
    TooLong,
    /// It contains U+0000 [MQTT-4.7.3-2] or another character that is not allowed in a packet.
    Character,
    /// It has more than [`SEPARATORS_MAXIMUM`] `/`. The protocol allows it, this broker does not.
    TooManyLevels,
    /// A Topic Name contains `+` or `#` [MQTT-4.7.0-1].
    WildcardInName,
    /// `#` is not the whole of the last level [MQTT-4.7.1-1].
    MisplacedHash,
    /// `+` is not the whole of its level [MQTT-4.7.1-2].
    MisplacedPlus,
    /// The Share Name is empty or contains a wildcard, or no filter follows it [MQTT-4.8.2-1] [MQTT-4.8.2-2].
    Share,
}

impl fmt::Display for TopicError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Empty => "empty topic",
            Self::TooLong => "topic longer than 65535 bytes",
            Self::Character => "a control character or a non-character in a topic",
            Self::TooManyLevels => "a topic with too many levels",
            Self::WildcardInName => "wildcard in a topic name",
            Self::MisplacedHash => "# is not the whole of the last level of a topic filter",
            Self::MisplacedPlus => "+ is not the whole of its level of a topic filter",
            Self::Share => "$share without a share name and a topic filter",
        })
    }
}

impl std::error::Error for TopicError {}

/// A Topic Name, to which a message is published. It has no wildcards and is not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName<'a>(&'a str);

impl<'a> TopicName<'a> {
    /// Checks `text` against the rules of a Topic Name.
    pub fn new(text: &'a str) -> Result<Self, TopicError> {
        check_length(text)?;
        // Without an early exit, the compiler can vectorize this.
        let is_suspect = text
            .bytes()
            .fold(false, |suspect, byte| suspect | !utf8::is_plain_byte(byte) | matches!(byte, b'+' | b'#'));
        match is_suspect {
            true if !utf8::is_sound(text) => Err(TopicError::Character),
            true if text.contains(['+', '#']) => Err(TopicError::WildcardInName),
            _ => Ok(Self(text)),
        }
    }

    /// A name whose text was returned by [`TopicName::as_str`], so it has already been checked.
    pub const fn trusted(text: &'a str) -> Self {
        Self(text)
    }

    /// The text that the client sent.
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// Whether only the broker itself may publish to this topic: `$SYS` and everything below it, except the topics
    /// where bridges report the state of their connections.
    pub fn is_about_the_broker(self) -> bool {
        self.0.strip_prefix("$SYS").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            && !self.is_about_a_bridge()
    }

    /// Whether this is `$SYS/broker/connection/NAME/state`, where mosquitto's bridges report whether they are
    /// connected.
    pub fn is_about_a_bridge(self) -> bool {
        let rest = self.0.strip_prefix("$SYS/broker/connection/");
        rest.and_then(|rest| rest.strip_suffix("/state"))
            .is_some_and(|name| !name.is_empty() && !name.contains('/'))
    }

    /// Whether the name starts with `$`, so a leading wildcard does not match it [MQTT-4.7.2-1].
    pub fn is_reserved(self) -> bool {
        self.0.starts_with('$')
    }
}

impl fmt::Display for TopicName<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }
}

/// A Topic Filter of a subscription. Levels may be `+`, the last one may be `#`. For a Shared Subscription, the Share
/// Name is separate from the pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicFilter<'a> {
    whole: &'a str,
    /// The index at which the pattern starts; zero unless the filter is that of a Shared Subscription.
    pattern_at: usize,
}

impl<'a> TopicFilter<'a> {
    /// Checks `text` against the rules of a Topic Filter; `$share/NAME/FILTER` is a Shared Subscription.
    pub fn new(text: &'a str) -> Result<Self, TopicError> {
        check_length(text)?;
        if !utf8::is_sound(text) {
            return Err(TopicError::Character);
        }
        let pattern_at = pattern_position(text)?;
        let (_, pattern) = text.split_at_checked(pattern_at).ok_or(TopicError::Share)?;
        check_pattern(pattern)?;
        Ok(Self { whole: text, pattern_at })
    }

    /// A filter whose text was returned by [`TopicFilter::pattern`], so it has already been checked. It has no Share
    /// Name, even if it starts with `$share/`.
    pub const fn trusted_pattern(text: &'a str) -> Self {
        Self { whole: text, pattern_at: 0 }
    }

    /// The text that the client sent, including a Share Name.
    pub const fn as_str(self) -> &'a str {
        self.whole
    }

    /// The part that is matched against Topic Names.
    pub fn pattern(self) -> &'a str {
        self.whole.split_at(self.pattern_at).1
    }

    /// The Share Name, if this is the filter of a Shared Subscription.
    pub fn share_name(self) -> Option<&'a str> {
        let prefix = self.whole.split_at(self.pattern_at).0;
        prefix.strip_prefix(SHARE_PREFIX)?.strip_suffix('/')
    }

    /// Whether the pattern contains `+` or `#`.
    pub fn has_wildcard(self) -> bool {
        self.pattern().bytes().any(|byte| byte == b'+' || byte == b'#')
    }

    /// Whether the filter matches `name`, level by level, without normalization [MQTT-4.7.3-4].
    pub fn matches(self, name: TopicName<'_>) -> bool {
        let pattern = self.pattern();
        if name.is_reserved() && !pattern.starts_with('$') {
            return false;
        }
        let mut levels = name.as_str().split('/');
        for wanted in pattern.split('/') {
            if wanted == "#" {
                return true;
            }
            match levels.next() {
                Some(level) if wanted == "+" || wanted == level => {}
                _ => return false,
            }
        }
        levels.next().is_none()
    }
}

impl fmt::Display for TopicFilter<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.whole)
    }
}

fn check_length(text: &str) -> Result<(), TopicError> {
    // A separator is one byte long, so most texts are too short to have too many.
    let separators = || text.bytes().filter(|&byte| byte == b'/').count();
    match text.len() {
        0 => Err(TopicError::Empty),
        1..=SEPARATORS_MAXIMUM => Ok(()),
        length if length > LENGTH_MAXIMUM => Err(TopicError::TooLong),
        _ if separators() > SEPARATORS_MAXIMUM => Err(TopicError::TooManyLevels),
        _ => Ok(()),
    }
}

/// The index at which the pattern of a filter starts.
fn pattern_position(text: &str) -> Result<usize, TopicError> {
    let Some(rest) = text.strip_prefix(SHARE_PREFIX) else {
        return Ok(0);
    };
    let share_name_length = rest.find('/').ok_or(TopicError::Share)?;
    let (share_name, pattern) = rest.split_at(share_name_length);
    if share_name.is_empty() || share_name.contains(['+', '#']) || pattern.len() < 2 {
        return Err(TopicError::Share);
    }
    Ok(SHARE_PREFIX.len() + share_name_length + 1)
}

fn check_pattern(pattern: &str) -> Result<(), TopicError> {
    let mut levels = pattern.split('/').peekable();
    while let Some(level) = levels.next() {
        if level.contains('#') && (level.len() > 1 || levels.peek().is_some()) {
            return Err(TopicError::MisplacedHash);
        }
        if level.contains('+') && level.len() > 1 {
            return Err(TopicError::MisplacedPlus);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_of_a_share_name_are_checked_like_those_of_a_pattern() {
        for text in ["$share/g\0/a", "$share/g/a\0", "a\0", "\0", "$share/\u{1}/a", "+/\u{FFFF}", "\u{9F}#"] {
            assert_eq!(TopicFilter::new(text), Err(TopicError::Character), "{text:?}");
        }
    }

    #[test]
    fn the_number_of_levels_is_limited() {
        let most = "/".repeat(SEPARATORS_MAXIMUM);
        assert!(TopicName::new(&most).is_ok() && TopicFilter::new(&most).is_ok());
        for text in
            [format!("{most}/"), format!("a{most}é/#"), "/".repeat(LENGTH_MAXIMUM), format!("$share/g{most}")]
        {
            assert_eq!(TopicFilter::new(&text), Err(TopicError::TooManyLevels), "{text}");
            let name = text.replace('#', "b");
            assert_eq!(TopicName::new(&name), Err(TopicError::TooManyLevels), "{name}");
        }
        let long = "é".repeat(LENGTH_MAXIMUM / 2);
        assert!(TopicName::new(&long).is_ok() && TopicFilter::new(&long).is_ok());
    }

    #[test]
    fn names_are_checked() {
        assert_eq!(TopicName::new("/").map(TopicName::as_str), Ok("/"));
        assert_eq!(TopicName::new(""), Err(TopicError::Empty));
        assert_eq!(TopicName::new("a/+"), Err(TopicError::WildcardInName));
        assert_eq!(TopicName::new("a#"), Err(TopicError::WildcardInName));
        assert_eq!(TopicName::new("é"), Ok(TopicName("é")));
        for text in ["a\0b", "\u{1F}", "é\u{80}", "\u{1FFFE}+"] {
            assert_eq!(TopicName::new(text), Err(TopicError::Character), "{text:?}");
        }
        assert_eq!(TopicName::new(&"x".repeat(65_536)), Err(TopicError::TooLong));
    }

    #[test]
    fn only_sys_and_topics_below_it_are_about_the_broker() {
        for (name, expected) in [
            ("$SYS", true),
            ("$SYS/a", true),
            ("$SYSTEM/a", false),
            ("a/$SYS/a", false),
            ("$SYS/broker/connection/hall.gateway/state", false),
            ("$SYS/broker/connection/a/b/state", true),
            ("$SYS/broker/connection//state", true),
            ("$SYS/broker/connection/state", true),
            ("$SYS/broker/connection/a/other", true),
            ("$SYS/broker/connections/a/state", true),
        ] {
            assert_eq!(TopicName::new(name).unwrap().is_about_the_broker(), expected, "{name}");
        }
    }

    #[test]
    fn filters_are_checked() {
        for good in ["#", "+", "/", "a/#", "+/+/#", "a/+/b", "$share/g/#", "$share/g//", "$SYS/#", "$share"] {
            assert!(TopicFilter::new(good).is_ok(), "{good}");
        }
        for (bad, why) in [
            ("", TopicError::Empty),
            ("a#", TopicError::MisplacedHash),
            ("#/a", TopicError::MisplacedHash),
            ("a/#/", TopicError::MisplacedHash),
            ("a+", TopicError::MisplacedPlus),
            ("a/+b/c", TopicError::MisplacedPlus),
            ("a\0", TopicError::Character),
            ("$share/", TopicError::Share),
            ("$share/g", TopicError::Share),
            ("$share/g/", TopicError::Share),
            ("$share//a", TopicError::Share),
            ("$share/+/a", TopicError::Share),
            ("$share/g/a#", TopicError::MisplacedHash),
        ] {
            assert_eq!(TopicFilter::new(bad), Err(why), "{bad}");
        }
    }

    #[test]
    fn a_share_name_is_separate_from_the_pattern() {
        let filter = TopicFilter::new("$share/group/a/+").unwrap();
        assert_eq!((filter.share_name(), filter.pattern()), (Some("group"), "a/+"));
        let plain = TopicFilter::new("a/+").unwrap();
        assert_eq!((plain.share_name(), plain.pattern()), (None, "a/+"));
    }

    #[test]
    fn matching_follows_the_standard() {
        for (filter, name, expected) in [
            ("sport/#", "sport", true),
            ("sport/#", "sport/", true),
            ("sport/#", "sports", false),
            ("#", "a/b", true),
            ("#", "$SYS/a", false),
            ("+/a", "$SYS/a", false),
            ("$SYS/+", "$SYS/a", true),
            ("+", "/a", false),
            ("+/+", "/a", true),
            ("/+", "/a", true),
            ("a/+", "a", false),
            ("a/+", "a/", true),
            ("a/+/c", "a/b/c", true),
            ("A", "a", false),
            ("$share/g/a", "a", true),
        ] {
            let filter = TopicFilter::new(filter).unwrap();
            assert_eq!(filter.matches(TopicName::new(name).unwrap()), expected, "{filter} {name}");
        }
    }
}
