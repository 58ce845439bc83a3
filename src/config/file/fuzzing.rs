//! The body of the fuzz target for the configuration. It takes any bytes as the text, and panics if places are outside
//! of the text, if parsing twice gives different results, if an error has more than one line, or if accepted settings
//! are invalid.

use crate::base::fuzzing::Input;
#[cfg(feature = "bridge")]
use crate::base::time::Duration;
#[cfg(feature = "bridge")]
use crate::protocol::topic::{TopicFilter, TopicName};
use crate::settings::Address;
#[cfg(feature = "bridge")]
use crate::settings::{Bridge, Start};

#[cfg(feature = "bridge")]
use super::keywords::Scope;
use super::keywords::{Form, Keyword, Meaning, keywords};
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
    const VALUES: [&str; 33] = [
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
        "h:8883 [::1]",
        "a/+ both 1 l/ r/",
        "\"\" in 2 l r",
        "lazy",
        "mqttv50",
        "10 60 30",
        "60 10",
        "# out 0 \"\" r",
        "immediate",
    ];
    let mut input = Input::new(data);
    let (mut text, keywords) = beginning(&mut input);
    let most = input.below(256) * COMPOSED_MAXIMUM / 256;
    while !input.is_empty() && text.len() < most {
        let keyword = keywords[input.below(keywords.len())];
        // Families of keywords have a suffix.
        let end = if keyword.name.ends_with('_') { "x" } else { "" };
        let value = match form(keyword).filter(|_| input.below(8) > 0) {
            Some(Form::Switch(_)) => (*input.pick(&["true", "false"])).to_owned(),
            Some(&Form::Number(least, most, _)) => input.pick(&[least, most, 1, 10]).to_string(),
            _ => (*input.pick(&VALUES)).to_owned(),
        };
        text.push_str(&format!("{}{end} {value}\n", keyword.name));
    }
    text
}

/// The form of the value of a keyword, if it sets one.
fn form(keyword: &Keyword) -> Option<&'static Form> {
    match keyword.meaning {
        Meaning::Sets(setting) => Some(&setting.form),
        _ => None,
    }
}

/// The beginning of a file, and the keywords to go on with: all of them, or those of a bridge after the beginning of one.
#[cfg_attr(not(feature = "bridge"), expect(unused_variables, reason = "there are no bridges"))]
fn beginning(input: &mut Input<'_>) -> (String, Vec<&'static Keyword>) {
    #[cfg(feature = "bridge")]
    if input.below(2) == 0 {
        let text = "connection a\naddress h\ntopic #\nremote_username u\n".to_owned();
        return (text, keywords().filter(|keyword| is_of_bridge(keyword)).collect());
    }
    (String::new(), keywords().collect())
}

#[cfg(feature = "bridge")]
fn is_of_bridge(keyword: &Keyword) -> bool {
    matches!(keyword.meaning, Meaning::Sets(setting) if setting.scope == Scope::Bridge)
}

fn read(data: &[u8]) {
    let (statements, mut findings) = parse(data, "fuzzed.conf");
    let (again, findings_again) = parse(data, "fuzzed.conf");
    assert_eq!(findings, findings_again);
    assert!(statements.iter().map(parts).eq(again.iter().map(parts)));
    let steps: Vec<Step> = statements.into_iter().map(Step::Statement).collect();
    let given = CommandLine {
        ports: vec![1, 2],
        #[cfg(any(feature = "bridge", feature = "cluster"))]
        host_name: Some("host".to_owned()),
        ..CommandLine::default()
    };
    let (settings, more) = settle(&steps, &given);
    findings.extend(more);
    check_places(data, &findings);
    let outcome = Outcome::new(settings, &findings, &[]);
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
    #[cfg(feature = "bridge")]
    settings.bridges.iter().enumerate().for_each(|(index, bridge)| {
        check_bridge(bridge, &settings.bridges[..index]);
    });
}

/// Checks what a bridge relies on.
#[cfg(feature = "bridge")]
fn check_bridge(bridge: &Bridge, others: &[Bridge]) {
    assert!(!bridge.addresses.is_empty() && !bridge.topics.is_empty());
    assert!(bridge.addresses.iter().all(|address| !address.host.is_empty() && address.port > 0));
    for topic in &bridge.topics {
        for prefix in [&topic.local_prefix, &topic.remote_prefix] {
            assert!(prefix.is_empty() || TopicName::new(prefix).is_ok());
            let filter = format!("{prefix}{}", topic.pattern);
            assert!(TopicFilter::new(&filter).is_ok_and(|it| it.pattern() == filter), "{filter}");
        }
    }
    assert!(bridge.notifications.iter().all(|it| TopicName::new(&it.topic).is_ok()));
    assert!(bridge.remote.keep_alive >= 5 && bridge.remote.receive_maximum > 0);
    assert!(bridge.remote.password.is_none() || bridge.remote.user_name.is_some());
    assert!(bridge.restart.least <= bridge.restart.most && bridge.restart.least > Duration::ZERO);
    assert!(!matches!(bridge.start, Start::Lazy { threshold: 0, .. }));
    for other in others {
        assert_ne!(bridge.name, other.name);
        assert_ne!(bridge.local.client_identifier, other.local.client_identifier);
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
