//! The body of the fuzz target for topics. It is in the library so that ordinary tests can run it as well. It takes any
//! text as a Topic Name and as a Topic Filter, and panics if checking or matching them differs from a second,
//! independent implementation.

use super::{LENGTH_MAXIMUM, SEPARATORS_MAXIMUM, TopicFilter, TopicName};
use crate::base::fuzzing::{Input, is_allowed_in_a_string};

/// The first byte determines whether the rest is text or selects pieces of text.
pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let (name, filter) = if input.once_in(4) {
        let length = input.below(256);
        let name = String::from_utf8_lossy(input.bytes(length)).into_owned();
        (name, String::from_utf8_lossy(input.bytes(usize::MAX)).into_owned())
    } else {
        let (name, filter) = (input.topic(), input.topic());
        (name + &rare(&mut input), filter + &rare(&mut input))
    };
    for text in [&name, &filter] {
        assert_eq!(TopicName::new(text).is_ok(), is_name(text), "{text:?} as a name");
        assert_eq!(TopicFilter::new(text).is_ok(), is_filter(text), "{text:?} as a filter");
    }
    let Ok(filter) = TopicFilter::new(&filter) else { return };
    check_parts(filter);
    if let Ok(name) = TopicName::new(&name) {
        assert_eq!(filter.matches(name), is_match(filter.pattern(), name.as_str()), "{filter} {name}");
    }
}

/// Returns text that [`Input::topic`] does not produce: very many levels and unusual characters.
fn rare(input: &mut Input<'_>) -> String {
    match input.below(8) {
        5 => "/".repeat(192 + input.below(16)),
        6 => input.pick(&["\u{1F}", "\u{7F}", "\u{9F}", "\u{FDEF}", "\u{FFFD}", "\u{10FFFE}"]).to_owned(),
        7 => char::from_u32(u32::from(input.byte()) << 8 | u32::from(input.byte()))
            .unwrap_or_default()
            .to_string(),
        _ => String::new(),
    }
}

fn is_topic(text: &str) -> bool {
    let levels = text.split('/').count();
    let has_length = !text.is_empty() && text.len() <= LENGTH_MAXIMUM && levels <= SEPARATORS_MAXIMUM + 1;
    has_length && text.chars().all(is_allowed_in_a_string)
}

fn is_name(text: &str) -> bool {
    is_topic(text) && !text.contains(['+', '#'])
}

fn is_filter(text: &str) -> bool {
    let levels: Vec<&str> = text.split('/').collect();
    let pattern = match levels.as_slice() {
        ["$share", share_name, pattern @ ..] => {
            let is_whole = pattern.iter().map(|level| level.len() + 1).sum::<usize>() > 1;
            if share_name.is_empty() || share_name.contains(['+', '#']) || !is_whole {
                return false;
            }
            pattern
        }
        pattern => pattern,
    };
    let last = pattern.len().saturating_sub(1);
    let is_level = |(index, level): (usize, &&str)| match *level {
        "+" => true,
        "#" => index == last,
        level => !level.contains(['+', '#']),
    };
    is_topic(text) && pattern.iter().enumerate().all(is_level)
}

fn check_parts(filter: TopicFilter<'_>) {
    let whole = match filter.share_name() {
        Some(share_name) => format!("$share/{share_name}/{}", filter.pattern()),
        None => filter.pattern().to_owned(),
    };
    assert_eq!(whole, filter.as_str(), "a filter is the sum of its parts");
    let pattern = TopicFilter::new(filter.pattern());
    assert!(pattern.is_ok() || filter.pattern().starts_with("$share/"), "{filter}: its pattern is a filter");
    let is_exact = TopicName::new(filter.pattern()).is_ok();
    assert_eq!(filter.has_wildcard(), !is_exact, "{filter}: without wildcards it is a name");
}

/// Compares the complete lists of levels.
fn is_match(pattern: &str, name: &str) -> bool {
    if name.starts_with('$') && pattern.starts_with(['+', '#']) {
        return false;
    }
    let wanted: Vec<&str> = pattern.split('/').collect();
    let levels: Vec<&str> = name.split('/').collect();
    let (wanted, has_length) = match wanted.split_last() {
        Some((&"#", parents)) => (parents, levels.len() >= parents.len()),
        _ => (wanted.as_slice(), levels.len() == wanted.len()),
    };
    has_length && wanted.iter().zip(&levels).all(|(wanted, level)| *wanted == "+" || wanted == level)
}

#[cfg(test)]
mod tests {
    #[test]
    fn any_text_is_checked_and_matched_according_to_the_standard() {
        crate::base::fuzzing::try_out("topic", 2_000, super::check);
    }
}
