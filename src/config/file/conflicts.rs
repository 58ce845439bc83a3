//! Listeners that can not be side by side.

use std::net::IpAddr;

use crate::base::escape::Escaped;
use crate::settings::Family;

use super::drafts::{DEFAULT_PORT, ListenerDraft};
use super::outcome::Finding;

/// Options before any `listener` are about a listener of their own; beside other listeners that is surely a slip.
pub(super) fn check_unnamed(unnamed: &ListenerDraft, findings: &mut Vec<Finding>) {
    if unnamed.place.is_some() {
        return;
    }
    for (keyword, place) in unnamed.options.said.iter() {
        let text = if unnamed.says_nothing() {
            format!("'{keyword}' before every 'listener' is about none of them, expected it behind one")
        } else {
            format!("'{keyword}' before every 'listener' makes another one at port {DEFAULT_PORT}")
        };
        findings.push(Finding::warning(place, text));
    }
}

/// Finds pairs that can not be bound side by side.
pub(super) fn check_ports(drafts: &[&ListenerDraft], findings: &mut Vec<Finding>) {
    for (index, draft) in drafts.iter().enumerate() {
        let Some(other) = drafts[..index].iter().find(|other| collide(other, draft)) else { continue };
        let (earlier, draft) = in_order(other, draft);
        let what = match &draft.path {
            Some(path) => format!("socket '{path}'"),
            None => format!("port {}", draft.port.unwrap_or(DEFAULT_PORT)),
        };
        let Some(place) = &draft.place else { continue };
        let text = match (&earlier.place, earlier.options.said.first()) {
            (Some(other), _) => {
                format!("{what} is given twice, expected once (it was in {})", other.line_for(place))
            }
            (None, Some((keyword, other))) => format!(
                "{what} is given twice: '{keyword}' in {} stands before every 'listener' and so makes one at port \
                 {DEFAULT_PORT} of its own, expected behind its listener",
                other.line_for(place)
            ),
            (None, None) => format!("{what} is given twice, expected once"),
        };
        findings.push(Finding::error(place, text));
    }
}

/// The one that stands first in the file, and the other; the unnamed one has its place in front of the named.
fn in_order<'a>(one: &'a ListenerDraft, other: &'a ListenerDraft) -> (&'a ListenerDraft, &'a ListenerDraft) {
    match (&one.place, &other.place) {
        (Some(first), Some(second)) if first.file == second.file && first.line > second.line => (other, one),
        _ => (one, other),
    }
}

/// A name stands for one listener.
pub(super) fn check_names(drafts: &[&ListenerDraft], findings: &mut Vec<Finding>) {
    for (count, draft) in drafts.iter().enumerate() {
        let Some(name) = &draft.options.name else { continue };
        let is_taken = drafts[..count].iter().any(|other| other.options.name.as_ref() == Some(name));
        if is_taken && let Some(place) = draft.options.said.place("listener_name") {
            let text = format!("listener_name '{}' is given twice, expected once", Escaped(name));
            findings.push(Finding::error(place, text));
        }
    }
}

fn collide(one: &ListenerDraft, other: &ListenerDraft) -> bool {
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

fn hosts_overlap(one: &ListenerDraft, other: &ListenerDraft) -> bool {
    let (Some(first), Some(second)) = (family(one), family(other)) else {
        return one.host.is_none() || other.host.is_none() || one.host == other.host;
    };
    if first != second {
        return false;
    }
    let is_any = |draft: &ListenerDraft| {
        draft
            .host
            .as_ref()
            .is_none_or(|host| host.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified()))
    };
    is_any(one) || is_any(other) || one.host == other.host
}

/// The one family of addresses that a listener is bound to, if it is one.
fn family(draft: &ListenerDraft) -> Option<Family> {
    match draft.host.as_ref().and_then(|host| host.parse::<IpAddr>().ok()) {
        Some(IpAddr::V4(_)) => Some(Family::V4),
        Some(IpAddr::V6(_)) => Some(Family::V6),
        None => Some(draft.options.family).filter(|&family| family != Family::Both),
    }
}
