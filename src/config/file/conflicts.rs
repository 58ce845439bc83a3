//! Conflicts between listeners.

use std::net::IpAddr;

use crate::base::escape::Escaped;
use crate::settings::Family;

use super::outcome::Finding;
use super::pending::{DEFAULT_PORT, PendingListener};

/// Warns about options that are not after a `listener`. They apply to another listener, which is probably a mistake.
/// `common` is whether all listeners are to accept anonymous clients.
pub(super) fn check_unnamed(
    unnamed: &PendingListener,
    named: &[PendingListener],
    common: Option<bool>,
    findings: &mut Vec<Finding>,
) {
    if unnamed.place.is_some() {
        return;
    }
    let refuses = match unnamed.options.own_anonymous.or(common) {
        None => "; it refuses anonymous clients without 'allow_anonymous true'",
        Some(_) => "",
    };
    for (keyword, place) in unnamed.options.places.iter() {
        let text = match (unnamed.is_made_by_options(), named) {
            (false, _) => {
                format!("'{keyword}' before the first 'listener' applies to none of them, expected after one")
            }
            (true, []) => {
                format!(
                    "'{keyword}' without a 'listener' adds one at port {DEFAULT_PORT} of all addresses{refuses}"
                )
            }
            (true, _) => {
                format!("'{keyword}' before the first 'listener' adds another one at port {DEFAULT_PORT}")
            }
        };
        findings.push(Finding::warning(place, text));
    }
}

/// Reports pairs of listeners that cannot both be bound.
pub(super) fn check_ports(listeners: &[&PendingListener], findings: &mut Vec<Finding>) {
    for (index, listener) in listeners.iter().enumerate() {
        let Some(other) = listeners[..index].iter().find(|other| collide(other, listener)) else { continue };
        let (earlier, listener) = in_order(other, listener);
        let what = match &listener.path {
            Some(path) => format!("socket '{path}'"),
            None => format!("port {}", listener.port.unwrap_or(DEFAULT_PORT)),
        };
        let Some(place) = &listener.place else { continue };
        let text = match (&earlier.place, earlier.options.places.first()) {
            (Some(other), _) => {
                format!("{what} is given twice, expected once (already in {})", other.line_for(place))
            }
            (None, Some((keyword, other))) => format!(
                "{what} is given twice: '{keyword}' in {} is before the first 'listener', which adds a listener at port \
                 {DEFAULT_PORT}, expected after its listener",
                other.line_for(place)
            ),
            (None, None) => format!("{what} is given twice, expected once"),
        };
        findings.push(Finding::error(place, text));
    }
}

/// Returns the listener that is first in the file, then the other. `one` precedes `other` in the list, in which the
/// unnamed listener is the first.
fn in_order<'a>(
    one: &'a PendingListener,
    other: &'a PendingListener,
) -> (&'a PendingListener, &'a PendingListener) {
    match (&one.place, &other.place) {
        (Some(first), Some(second)) if first.file == second.file && first.line > second.line => (other, one),
        _ => (one, other),
    }
}

/// Reports names that several listeners have.
pub(super) fn check_names(listeners: &[&PendingListener], findings: &mut Vec<Finding>) {
    for (count, listener) in listeners.iter().enumerate() {
        let Some(name) = &listener.options.name else { continue };
        let is_taken = listeners[..count].iter().any(|other| other.options.name.as_ref() == Some(name));
        if is_taken && let Some(place) = listener.options.places.place("listener_name") {
            let text = format!("listener_name '{}' is given twice, expected once", Escaped(name));
            findings.push(Finding::error(place, text));
        }
    }
}

fn collide(one: &PendingListener, other: &PendingListener) -> bool {
    if one.path.is_some() || other.path.is_some() {
        return one.path == other.path;
    }
    let port = one.port.unwrap_or(DEFAULT_PORT);
    port != 0
        && port == other.port.unwrap_or(DEFAULT_PORT)
        && (one.options.interface.is_none()
            || other.options.interface.is_none()
            || one.options.interface == other.options.interface)
        && (hosts_overlap(one, other))
}

fn hosts_overlap(one: &PendingListener, other: &PendingListener) -> bool {
    let (Some(first), Some(second)) = (family(one), family(other)) else {
        return one.host.is_none() || other.host.is_none() || one.host == other.host;
    };
    if first != second {
        return false;
    }
    let is_any = |listener: &PendingListener| {
        listener
            .host
            .as_ref()
            .is_none_or(|host| host.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified()))
    };
    is_any(one) || is_any(other) || one.host == other.host
}

/// The family of addresses that a listener is bound to, if it is only one.
fn family(listener: &PendingListener) -> Option<Family> {
    match listener.host.as_ref().and_then(|host| host.parse::<IpAddr>().ok()) {
        Some(IpAddr::V4(_)) => Some(Family::V4),
        Some(IpAddr::V6(_)) => Some(Family::V6),
        None => Some(listener.options.family).filter(|&family| family != Family::Both),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::file::keywords::{Form, Keyword, Meaning, Scope, Setting, keywords};
    use crate::config::file::{CommandLine, Step, parse, settle};
    use crate::settings::{Address, Listener};

    /// The listeners of a text, and the warnings about it. Errors about missing statements do not matter here.
    fn listeners(text: &str) -> (Vec<Listener>, Vec<String>) {
        let (statements, wrong) = parse(text.as_bytes(), "a.conf");
        assert!(wrong.is_empty(), "{wrong:?}");
        let steps: Vec<Step> = statements.into_iter().map(Step::Statement).collect();
        let (settings, findings) = settle(&steps, &CommandLine::default());
        let warnings = findings.into_iter().filter(|finding| !finding.is_error);
        (settings.listeners, warnings.map(|finding| finding.text).collect())
    }

    fn is_option(keyword: &Keyword) -> bool {
        match keyword.meaning {
            Meaning::Sets(setting) => setting.scope == Scope::Listener,
            Meaning::IgnoredOption => true,
            _ => false,
        }
    }

    /// A value other than the default.
    fn sample(keyword: &Keyword) -> String {
        if let Meaning::Sets(Setting { form: Form::Number(least, most, _), .. }) = keyword.meaning {
            let least = (*least).max(0).to_string();
            return if keyword.default() == Some(&least) { most.to_string() } else { least };
        }
        let word = match keyword.name {
            "accept_protocol_versions" => "4",
            "proxy_trusted_source" => "192.0.2.1",
            "protocol" => "websockets",
            "socket_domain" => "ipv6",
            "socket_mode" => "0600",
            "tls_version" => "tlsv1.3",
            "tls_keyform" => "pem",
            _ if keyword.default() == Some("false") => "true",
            _ => "x",
        };
        word.to_owned()
    }

    /// These, alone, leave mosquitto on the loopback addresses.
    const NOT_COUNTED: [&str; 3] = ["max_topic_alias", "tls_version", "tls_keyform"];

    #[test]
    fn an_option_without_a_listener_makes_one_as_in_mosquitto() {
        for keyword in keywords().filter(|keyword| is_option(keyword)) {
            let line = format!("{} {}\n", keyword.name, sample(keyword));
            let (found, warnings) = listeners(&line);
            let is_counted = !NOT_COUNTED.contains(&keyword.name);
            let is_everywhere = matches!(found[0].address, Address::Internet { host: None, port: 1883, .. });
            assert_eq!((found.len(), is_everywhere), (1, is_counted), "{line}");
            let told = warnings.iter().filter(|warning| warning.contains("adds one at port 1883")).count();
            assert_eq!(told, usize::from(is_counted), "{line}{warnings:?}");
            let (found, _) = listeners(&format!("{line}listener 1884\n"));
            assert_eq!(found.len(), if is_counted { 2 } else { 1 }, "{line}");
        }
    }

    #[test]
    fn an_option_with_its_default_makes_no_listener() {
        for keyword in keywords().filter(|keyword| is_option(keyword)) {
            let Some(default) = keyword.default().filter(|&default| default != "none") else { continue };
            // Those that others say for all listeners count whenever they are given, and one needs TLS.
            if keyword.name.starts_with("listener_") || keyword.name == "tls_record_size" {
                continue;
            }
            let (found, _) = listeners(&format!("{} {default}\n", keyword.name));
            assert!(matches!(found[0].address, Address::Loopback { .. }), "{}", keyword.name);
        }
        let (found, _) = listeners("max_connections -1\n");
        assert!(matches!(found[0].address, Address::Loopback { .. }));
    }

    #[test]
    fn only_the_right_word_opens_that_listener_to_anonymous_clients() {
        for (text, is_open) in
            [("", false), ("allow_anonymous true\n", true), ("allow_anonymous false\n", false)]
        {
            let (found, warnings) = listeners(&format!("{text}max_qos 1\n"));
            assert_eq!(found[0].security.allows_anonymous, is_open, "{text}");
            let told = warnings.iter().any(|warning| warning.contains("refuses anonymous clients"));
            assert_eq!(told, text.is_empty(), "{warnings:?}");
        }
    }
}
