//! Conflicts between listeners.

use std::net::IpAddr;

use crate::base::escape::Escaped;
use crate::settings::Family;

use super::outcome::Finding;
use super::pending::{DEFAULT_PORT, PendingListener};

/// Warns about options before the first `listener`. They apply to another listener, which is probably a mistake.
pub(super) fn check_unnamed(unnamed: &PendingListener, findings: &mut Vec<Finding>) {
    if unnamed.place.is_some() {
        return;
    }
    for (keyword, place) in unnamed.options.places.iter() {
        let text = if unnamed.has_defaults() {
            format!("'{keyword}' before the first 'listener' applies to none of them, expected after one")
        } else {
            format!("'{keyword}' before the first 'listener' adds another one at port {DEFAULT_PORT}")
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
