//! What a reload changes: two settings side by side.

use crate::settings::{Address, Listener, Settings};

use super::differences::{
    differences, of_entrance, of_interval, of_limits, of_log, of_persistence, of_process, of_rights,
    of_switches,
};

/// What is to be done to come from one configuration to another while clients stay connected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Listeners of the old settings that stay, and which of the new ones takes the place of each.
    pub kept: Vec<(usize, usize)>,
    /// Listeners of the new settings to be bound.
    pub added: Vec<usize>,
    /// Listeners of the old settings to be closed. Who came in there stays.
    pub removed: Vec<usize>,
    /// What is applied, a line each.
    pub applied: Vec<String>,
    /// What waits for a restart, a line each.
    pub waiting: Vec<String>,
}

impl Plan {
    /// Whether nothing differs.
    pub const fn is_empty(&self) -> bool {
        self.applied.is_empty() && self.waiting.is_empty()
    }
}

/// Compares two settings. Files that they name are read anew in any case, so what stands in them is not looked at.
pub fn changes(old: &Settings, new: &Settings) -> Plan {
    let mut plan = Plan::default();
    compare_listeners(old, new, &mut plan);
    note(differences(&old.limits, &new.limits, of_limits), &mut plan.applied);
    note(differences(&old.switches, &new.switches, of_switches), &mut plan.applied);
    note(differences(&old.log, &new.log, of_log), &mut plan.applied);
    note(differences(old, new, of_interval), &mut plan.applied);
    let kept = differences(&old.persistence, &new.persistence, of_persistence);
    let process = differences(&old.process, &new.process, of_process);
    let waiting = kept.into_iter().chain(process);
    plan.waiting = waiting.map(|line| format!("{line}, which takes effect after a restart.")).collect();
    plan
}

fn note(differences: Vec<String>, lines: &mut Vec<String>) {
    lines.extend(differences.into_iter().map(|line| line + "."));
}

fn compare_listeners(old: &Settings, new: &Settings, plan: &mut Plan) {
    let mut left: Vec<usize> = (0..old.listeners.len()).collect();
    for (index, listener) in new.listeners.iter().enumerate() {
        let same = left.iter().position(|&other| is_same_socket(&old.listeners[other], listener));
        match same {
            Some(position) => {
                let other = left.remove(position);
                plan.kept.push((other, index));
                compare(&old.listeners[other], listener, plan);
            }
            None => {
                plan.added.push(index);
                plan.applied.push(format!("Listener at {} is new.", listener.address));
            }
        }
    }
    for &index in &left {
        plan.applied.push(format!("Listener at {} is gone.", old.listeners[index].address));
    }
    plan.removed = left;
}

/// Whether the socket that is bound for one serves the other.
fn is_same_socket(one: &Listener, other: &Listener) -> bool {
    let is_unix = matches!(one.address, Address::Unix { .. });
    one.address == other.address && (is_unix || one.interface == other.interface)
}

/// What is told to new clients alone, or to all, of a listener that stays.
fn compare(old: &Listener, new: &Listener, plan: &mut Plan) {
    for line in differences(old, new, of_rights) {
        plan.applied.push(format!("Listener at {}: {line}.", new.address));
    }
    for line in differences(old, new, of_entrance) {
        plan.applied.push(format!("Listener at {}: {line}, for those who connect from now on.", new.address));
    }
}
