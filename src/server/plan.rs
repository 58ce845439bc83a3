//! How a reload changes the listeners, found by comparing two configurations.

use crate::settings::{Address, Listener};

/// The steps from one configuration to another while clients stay connected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Listeners of the old settings that stay, each with the new one that replaces it.
    pub staying: Vec<(usize, usize)>,
    /// Listeners of the new settings to be bound.
    pub added: Vec<usize>,
    /// Listeners of the old settings to be closed. Connections that they have accepted stay.
    pub removed: Vec<usize>,
}

/// What a reload reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Changes that take effect, one line each.
    pub applied: Vec<String>,
    /// Changes that need a restart, one line each.
    pub waiting: Vec<String>,
}

impl Changes {
    /// Whether nothing differs.
    pub const fn is_empty(&self) -> bool {
        self.applied.is_empty() && self.waiting.is_empty()
    }
}

/// Finds out which listeners keep their sockets.
pub fn plan(old: &[Listener], new: &[Listener]) -> Plan {
    let mut plan = Plan { removed: (0..old.len()).collect(), ..Plan::default() };
    for (index, listener) in new.iter().enumerate() {
        match plan.removed.iter().position(|&other| is_same_socket(&old[other], listener)) {
            Some(position) => plan.staying.push((plan.removed.remove(position), index)),
            None => plan.added.push(index),
        }
    }
    plan
}

/// Whether the bound socket of one listener can serve the other.
fn is_same_socket(one: &Listener, other: &Listener) -> bool {
    let is_unix = matches!(one.address, Address::Unix { .. });
    one.address == other.address && (is_unix || one.interface == other.interface)
}
