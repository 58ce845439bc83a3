//! Finds log lines that do not end as sentences.

use std::iter;

/// Lines in mosquitto's form, lists, and lines that end with a text that is a sentence itself.
const OTHER_ENDS: [&str; 7] =
    ["starting", "running", "terminating", "terminating during startup", "Subscriptions:", "{line}", "{who}"];
/// The targets of lines in mosquitto's form.
const OTHER_TARGETS: [&str; 2] = ["subscribe", "unsubscribe"];

/// Returns the texts of log lines that do not end with a period, and those of bridges that do: theirs is added. Lines at the
/// level of debugging are in mosquitto's form.
pub fn check_sentences(code: &str) -> Vec<String> {
    let of_log = ["error!(", "warn!(", "info!("].iter().flat_map(|name| texts_after(code, name));
    let unfinished = of_log.filter(|text| !is_sentence(text));
    let of_bridges = texts_after(code, ".say(").filter(|text| text.ends_with('.'));
    unfinished
        .map(|text| format!("a log line without a period: {text}"))
        .chain(of_bridges.map(|text| format!("a line of a bridge with a period of its own: {text}")))
        .collect()
}

fn is_sentence(text: &str) -> bool {
    text.ends_with(['.', '?']) || OTHER_ENDS.iter().any(|end| text.ends_with(end))
}

/// The first text in each call of this name, after its target.
fn texts_after<'a>(code: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    code.match_indices(name).filter_map(|(start, found)| text_of(&code[start + found.len()..]))
}

fn text_of(arguments: &str) -> Option<&str> {
    let (before, rest) = arguments.split_once('"')?;
    // A call without a text of its own, such as the definition of a function.
    if before.contains([';', '{']) {
        return None;
    }
    let end = end_of(rest)?;
    let text = &rest[..end];
    match before.trim_end().ends_with("target:") {
        true if OTHER_TARGETS.contains(&text) => None,
        true => text_of(&rest[end + 1..]),
        false => Some(text),
    }
}

/// Where a text ends.
fn end_of(text: &str) -> Option<usize> {
    let ends = iter::successors(text.find('"'), |last| Some(last + 1 + text[last + 1..].find('"')?));
    ends.into_iter().find(|&end| !text[..end].ends_with('\\'))
}

#[test]
fn a_log_line_without_a_period_is_found() {
    for (line, count) in [
        (r#"info!("Restored {}.", Count(sessions, "session"));"#, 0),
        (r#"info!("Restored {}", Count(sessions, "session"));"#, 1),
        (r#"info!(target: "notice", "There is room on disk again.");"#, 0),
        ("warn!(\n    target: \"notice\",\n    \"There is room on \\\n     disk\"\n);", 1),
        (r#"info!(target: "subscribe", "{client} {qos} {filter}");"#, 0),
        (r#"debug!("Sending {packet}");"#, 0),
        (r#"error!("a \"name\" that is {strange}");"#, 1),
        (r#"self.say(level, format_args!("It has ended"));"#, 0),
        (r#"self.say(level, format_args!("It has ended."));"#, 1),
        ("fn say(level: Level) { \"x\" }", 0),
    ] {
        assert_eq!(check_sentences(line).len(), count, "{line}");
    }
}
