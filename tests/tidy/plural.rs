//! Finds messages that say `1 sessions`.

/// What is counted in messages, in the plural.
const NOUNS: [&str; 14] = [
    "bytes",
    "clients",
    "commits",
    "connections",
    "errors",
    "files",
    "filters",
    "lines",
    "messages",
    "records",
    "sessions",
    "subscriptions",
    "topics",
    "users",
];

/// Returns the lines of code in which a noun in the plural follows a number that is filled in. Such a number is one now
/// and then. A constant is not, and `(1 bytes)` in parentheses is mosquitto's form. Assertions are for developers.
pub fn check_plurals(code: &str) -> Vec<String> {
    code.lines()
        .zip(1_usize..)
        .filter(|(line, _)| is_wrong(line) && !line.contains("assert"))
        .map(|(line, number)| format!("{number}: a number that may be 1, before a plural: {}", line.trim()))
        .collect()
}

fn is_wrong(line: &str) -> bool {
    line.match_indices("} ").any(|(end, _)| {
        let (before, rest) = line.split_at(end);
        let inside = before.rsplit('{').next().unwrap_or_default();
        let is_constant =
            inside.len() > 1 && inside.chars().all(|one| one.is_ascii_uppercase() || one == '_');
        let mut words = rest[2..].split(|one: char| !one.is_alphabetic()).take(2);
        let noun = words.find(|word| NOUNS.contains(word));
        let is_of_mosquitto = noun.is_some_and(|noun| rest[2..].starts_with(&format!("{noun}))")));
        !is_constant && !is_of_mosquitto && noun.is_some()
    })
}

#[test]
fn a_plural_after_a_number_is_found() {
    for (line, is_wrong) in [
        (r#"info!("Restored {} sessions.", count);"#, true),
        (r#"info!("{count} retained messages from {place}.");"#, true),
        (r#"info!("{} of {} bytes", name, length);"#, true),
        (r#"info!("Restored {}.", Count(sessions, "session"));"#, false),
        (r#"info!("at most {LINE_MAXIMUM} bytes");"#, false),
        (r#"info!("('{topic}', ... ({length} bytes)).");"#, false),
        (r#"info!("{client} has too many subscriptions");"#, false),
    ] {
        assert_eq!(!check_plurals(line).is_empty(), is_wrong, "{line}");
    }
}
