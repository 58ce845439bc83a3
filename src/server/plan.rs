//! What a reload does with the listeners: two configurations side by side.

use crate::settings::{Address, Listener};

/// What is to be done to come from one configuration to another while clients stay connected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Listeners of the old settings that stay, and which of the new ones takes the place of each.
    pub kept: Vec<(usize, usize)>,
    /// Listeners of the new settings to be bound.
    pub added: Vec<usize>,
    /// Listeners of the old settings to be closed. Who came in there stays.
    pub removed: Vec<usize>,
}

/// What is told of a reload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// What is applied, a line each.
    pub applied: Vec<String>,
    /// What waits for a restart, a line each.
    pub waiting: Vec<String>,
}

impl Changes {
    /// Whether nothing differs.
    pub const fn is_empty(&self) -> bool {
        self.applied.is_empty() && self.waiting.is_empty()
    }
}

/// Finds the listeners whose sockets stay.
pub fn plan(old: &[Listener], new: &[Listener]) -> Plan {
    let mut plan = Plan { removed: (0..old.len()).collect(), ..Plan::default() };
    for (index, listener) in new.iter().enumerate() {
        match plan.removed.iter().position(|&other| is_same_socket(&old[other], listener)) {
            Some(position) => plan.kept.push((plan.removed.remove(position), index)),
            None => plan.added.push(index),
        }
    }
    plan
}

/// Whether the socket that is bound for one serves the other.
fn is_same_socket(one: &Listener, other: &Listener) -> bool {
    let is_unix = matches!(one.address, Address::Unix { .. });
    one.address == other.address && (is_unix || one.interface == other.interface)
}
