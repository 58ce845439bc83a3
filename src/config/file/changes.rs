//! What a reload changes, as lines for the log, keyword by keyword.

#[cfg(feature = "bridge")]
use crate::base::escape::Escaped;
use crate::server::plan::{Changes, Plan, plan};
#[cfg(feature = "bridge")]
use crate::settings::{Bridge, Reload};
use crate::settings::{Listener, Settings};

use super::keywords::{Meaning, Shown, Value, keywords};

/// Returns a line for each difference between two settings. Files that they name are reread in any case, so their
/// contents are not compared.
pub fn changes(old: &Settings, new: &Settings) -> Changes {
    let mut changes = Changes::default();
    let Plan { staying, removed, .. } = plan(&old.listeners, &new.listeners);
    for (index, listener) in new.listeners.iter().enumerate() {
        match staying.iter().find(|(_, other)| *other == index) {
            Some(&(other, _)) => compare(&old.listeners[other], listener, &mut changes.applied),
            None => changes.applied.push(format!("Listener at {} added.", listener.address)),
        }
    }
    for index in removed {
        changes.applied.push(format!("Listener at {} removed.", old.listeners[index].address));
    }
    #[cfg(feature = "bridge")]
    compare_bridges(&old.bridges, &new.bridges, &mut changes.applied);
    for (name, shown) in shown() {
        match *shown {
            Shown::AtOnce(show) => {
                let line = difference(name, show(old), show(new));
                changes.applied.extend(line.map(|line| line + "."));
            }
            #[cfg(feature = "cluster")]
            Shown::AtNextConnection(show) => {
                let line = difference(name, show(old), show(new));
                changes.applied.extend(line.map(|line| line + ", from the next connection of the node on."));
            }
            Shown::AfterRestart(show) => {
                let line = difference(name, show(old), show(new));
                let line = line.map(|line| line + ", which takes effect after a restart.");
                changes.waiting.extend(line);
            }
            _ => {}
        }
    }
    changes
}

/// Compares a listener that stays: first the options that apply to all clients, then those that apply only to new
/// connections.
fn compare(old: &Listener, new: &Listener, lines: &mut Vec<String>) {
    let mut later = Vec::new();
    for (name, shown) in shown() {
        let (show, end, lines) = match *shown {
            Shown::ForAll(show) => (show, "", &mut *lines),
            Shown::ForNewcomers(show) => (show, ", for new connections", &mut later),
            _ => continue,
        };
        if let Some(line) = difference(name, show(old), show(new)) {
            lines.push(format!("Listener at {}: {line}{end}.", new.address));
        }
    }
    lines.append(&mut later);
}

/// Compares the bridges, which are identified by their names.
#[cfg(feature = "bridge")]
fn compare_bridges(old: &[Bridge], new: &[Bridge], lines: &mut Vec<String>) {
    for bridge in new {
        match old.iter().find(|other| other.name == bridge.name) {
            Some(other) => compare_bridge(other, bridge, lines),
            None => lines.push(format!("Bridge {} added.", Escaped(&bridge.name))),
        }
    }
    for bridge in old.iter().filter(|bridge| new.iter().all(|other| other.name != bridge.name)) {
        lines.push(format!("Bridge {} removed.", Escaped(&bridge.name)));
    }
}

#[cfg(feature = "bridge")]
fn compare_bridge(old: &Bridge, new: &Bridge, lines: &mut Vec<String>) {
    let end = match new.reload {
        Reload::Lazy => ", from its next connection on",
        Reload::Immediate => "",
    };
    for (name, shown) in shown() {
        if let Shown::OfBridge(show) = *shown
            && let Some(line) = difference(name, show(old), show(new))
        {
            lines.push(format!("Bridge {}: {line}{end}.", Escaped(&new.name)));
        }
    }
}

fn shown() -> impl Iterator<Item = (&'static str, &'static Shown)> {
    keywords().filter_map(|keyword| match keyword.meaning {
        Meaning::Sets(setting) => Some((keyword.name, &setting.shown)),
        _ => None,
    })
}

/// Describes a difference; `None` if the values are the same or one of them does not apply.
fn difference(name: &str, old: Value<'_>, new: Value<'_>) -> Option<String> {
    if old == new {
        return None;
    }
    #[cfg(any(feature = "bridge", feature = "cluster"))]
    if let (Value::Secret(_), Value::Secret(_)) = (&old, &new) {
        return Some(format!("{name} changed"));
    }
    Some(format!("{name} changed from {} to {}", old.text()?, new.text()?))
}
