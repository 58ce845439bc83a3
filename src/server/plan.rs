//! What a reload changes: two settings side by side.

use crate::settings::{Listener, Settings};

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
    let mut note = |is_changed: bool, what: &str| {
        if is_changed {
            plan.applied.push(what.to_owned());
        }
    };
    note(old.limits != new.limits, "Limits changed.");
    note(old.log != new.log, "Log settings changed.");
    note(old.system_interval != new.system_interval, "The interval of $SYS changed.");
    let mut wait = |is_changed: bool, what: &str| {
        if is_changed {
            plan.waiting.push(format!("A change of {what} takes effect after a restart."));
        }
    };
    wait(old.persistence != new.persistence, "persistence");
    wait(old.process.user != new.process.user, "'user'");
    wait(old.process.pid_file != new.process.pid_file, "'pid_file'");
    plan
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
    one.address == other.address && one.interface == other.interface
}

/// What is told to new clients alone, or to all, of a listener that stays.
fn compare(old: &Listener, new: &Listener, plan: &mut Plan) {
    let mut note = |is_changed: bool, what: &str| {
        if is_changed {
            plan.applied.push(format!("Listener at {}: {what}", new.address));
        }
    };
    note(old.security != new.security, "who may come in changed.");
    note(old.rules != new.rules, "what clients may ask for changed, for those that connect from now on.");
    note(old.tls != new.tls, "TLS changed, for those that connect from now on.");
    note(
        (&old.protocol, old.proxy) != (&new.protocol, new.proxy),
        "what is spoken there changed, for those that connect from now on.",
    );
    note(old.connections != new.connections, "how many may be connected changed.");
}
