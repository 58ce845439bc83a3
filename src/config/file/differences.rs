//! What differs from mosquitto in a configuration: the notes of its keywords that concern how they are used.

use std::collections::BTreeSet;

use super::keywords::{Keyword, Meaning, Special, Standing, Use};
use super::outcome::{Finding, Place};
use super::statements::Step;
use super::text::Statement;

/// Returns a finding for each statement that has not quite the effect that it has in mosquitto. One with an error has no
/// effect.
pub(super) fn differences(steps: &[Step], findings: &[Finding]) -> Vec<Finding> {
    let line = |place: &Place| (place.file.clone(), place.line);
    let mut wrong = BTreeSet::new();
    wrong.extend(findings.iter().filter(|finding| finding.is_error).map(|finding| line(&finding.place)));
    let statements = || {
        steps.iter().filter_map(|step| match step {
            Step::Statement(statement) => Some(statement),
            Step::Enter | Step::Leave => None,
        })
    };
    let has_listener = statements().any(|statement| is_listener(statement.keyword));
    let has_allow_anonymous = statements().any(|statement| statement.keyword.name == "allow_anonymous");
    let concerns = |statement: &&Statement| {
        let Statement { keyword, value, .. } = statement;
        let it = Use { value, has_listener, has_allow_anonymous };
        keyword.standing() == Standing::Differs
            && (keyword.concerns)(&it)
            && !wrong.contains(&line(&statement.place))
    };
    let told = |statement: &Statement| {
        let Keyword { name, note, .. } = statement.keyword;
        Finding::warning(&statement.place, format!("'{name}' differs: {note}"))
    };
    statements().filter(concerns).map(told).collect()
}

const fn is_listener(keyword: &Keyword) -> bool {
    matches!(keyword.meaning, Meaning::Special(Special::Listener | Special::Port | Special::BindAddress))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file::parse;

    /// The keywords that differ in a text.
    fn told(text: &str) -> Vec<String> {
        let (statements, wrong) = parse(text.as_bytes(), "a.conf");
        assert!(wrong.is_empty(), "{wrong:?}");
        let steps: Vec<Step> = statements.into_iter().map(Step::Statement).collect();
        let name = |finding: Finding| finding.text.split('\'').nth(1).unwrap_or_default().to_owned();
        differences(&steps, &[]).into_iter().map(name).collect()
    }

    #[test]
    fn a_statement_with_an_error_does_not_differ() {
        let (statements, _) = parse(b"durability often\ndurability always\n", "a.conf");
        let wrong = Finding::error(&statements[0].value_place, "wrong");
        let steps: Vec<Step> = statements.into_iter().map(Step::Statement).collect();
        let found = differences(&steps, &[wrong]);
        assert_eq!(found.iter().map(|finding| finding.place.line).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn only_uses_that_differ_are_told() {
        for (text, keywords) in [
            ("listener 1883\nallow_anonymous false\npassword_file p\n", &[][..]),
            ("password_file p\n", &["password_file"]),
            ("password_file p\nmax_qos 1\n", &["password_file"]),
            ("password_file p\nallow_anonymous true\n", &[]),
            ("password_file p\nallow_anonymous false\n", &["allow_anonymous"]),
            ("password_file p\nport 1883\n", &[]),
            ("listener 0 127.0.0.1\n", &["listener"]),
            ("listener 0 /run/socket\nlistener 1883 127.0.0.1\n", &[]),
            ("listener 1\ntls_version tlsv1.1\n", &["tls_version"]),
            ("listener 1\ntls_version tlsv1.2\n", &[]),
            ("max_inflight_messages 20\n", &[]),
            ("max_inflight_messages 0\nmax_inflight_messages 20000\n", &["max_inflight_messages"; 2]),
            ("persistence false\nretained_persistence true\n", &["retained_persistence"]),
            ("persistence true\nautosave_interval 5\npersistence_location /var\n", &["persistence"]),
            ("retry_interval 20\nmessage_size_limit 0\n", &["retry_interval"]),
            ("message_size_limit 10\ndurability always\n", &["message_size_limit", "durability"]),
            ("global_max_clients -1\nglobal_max_connections 10\n", &["global_max_clients"]),
            ("max_packet_size 131072\nmax_packet_size 131073\n", &["max_packet_size"]),
        ] {
            assert_eq!(told(text), keywords, "{text}");
        }
    }
}
