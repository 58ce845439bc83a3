//! The body of the fuzz target for the configuration. It takes any bytes as the text, and panics if places are outside
//! of the text, if parsing twice gives different results, if an error has more than one line, or if accepted settings
//! are invalid.

use crate::base::fuzzing::Input;
use crate::settings::Address;

use super::keywords::keywords;
use super::{CommandLine, Finding, Outcome, Place, Statement, Step, parse, settle};

/// The approximate maximum size of a composed text in bytes: enough for several keywords, and small enough to be fast.
const COMPOSED_MAXIMUM: usize = 512;

/// Uses the bytes as a configuration without other files, and as choices of keywords and values.
pub fn check(data: &[u8]) {
    read(data);
    read(composed(data).as_bytes());
}

/// Composes a text that is more likely to be a valid configuration than random bytes.
fn composed(data: &[u8]) -> String {
    const VALUES: [&str; 24] = [
        "",
        "true",
        "false",
        "0",
        "1",
        "2",
        "20",
        "1883",
        "8883",
        "1883 ::1",
        "0 /s",
        "0 ::",
        "-1",
        "65535",
        "4M",
        "all",
        "none",
        "file /f",
        "ipv4",
        "websockets",
        "tlsv1.3",
        "3 4",
        "1d",
        "a # b",
    ];
    let mut input = Input::new(data);
    let keywords: Vec<_> = keywords().collect();
    let mut text = String::new();
    while !input.is_empty() && text.len() < COMPOSED_MAXIMUM {
        let keyword = keywords[input.below(keywords.len())];
        // Families of keywords have a suffix.
        let end = if keyword.name.ends_with('_') { "x" } else { "" };
        text.push_str(&format!("{}{end} {}\n", keyword.name, input.pick(&VALUES)));
    }
    text
}

fn read(data: &[u8]) {
    let (statements, mut findings) = parse(data, "fuzzed.conf");
    let (again, findings_again) = parse(data, "fuzzed.conf");
    assert_eq!(findings, findings_again);
    assert!(statements.iter().map(parts).eq(again.iter().map(parts)));
    let steps: Vec<Step> = statements.into_iter().map(Step::Statement).collect();
    let given = CommandLine { ports: vec![1, 2], ..CommandLine::default() };
    let (settings, more) = settle(&steps, &given);
    findings.extend(more);
    check_places(data, &findings);
    let outcome = Outcome::new(settings, &findings);
    for error in outcome.errors.iter().chain(&outcome.warnings) {
        let is_line = error.to_string().bytes().all(|byte| !matches!(byte, b'\n' | b'\r' | 0));
        assert!(is_line, "{error:?}");
    }
    assert_eq!(outcome.settings.is_none(), findings.iter().any(|finding| finding.is_error));
    let Some(settings) = outcome.settings else { return };
    assert!(!settings.listeners.is_empty(), "there is a listener");
    for listener in &settings.listeners {
        assert!(listener.options.versions.contains(&true), "a version is allowed");
        assert!(listener.options.packet_size <= settings.limits.packet_size);
        let is_local = matches!(listener.address, Address::Loopback { .. });
        let is_set = String::from_utf8_lossy(data).contains("allow_anonymous");
        assert!(
            is_local || is_set || !listener.security.allows_anonymous,
            "anonymous clients are not allowed by accident"
        );
    }
}

fn parts(statement: &Statement) -> (&str, &Place, &str, &Place) {
    (&statement.written, &statement.place, &statement.value, &statement.value_place)
}

fn check_places(data: &[u8], findings: &[Finding]) {
    let lines: Vec<&[u8]> = data.split(|&byte| byte == b'\n').collect();
    for Finding { place, .. } in findings.iter().filter(|finding| finding.place.line > 0) {
        let line = lines[place.line - 1];
        assert!((1..=line.len() + 1).contains(&place.column), "{place} in {line:?}");
    }
}

#[cfg(test)]
mod tests {
    use crate::base::fuzzing::try_out;

    #[test]
    fn any_bytes_are_accepted_or_reported() {
        try_out("config", 400, super::check);
    }
}
