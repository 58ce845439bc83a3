//! Listeners that change while connections stay, and what holds for those who come in by them.

use std::rc::Rc;

use crate::settings::{self, Complaint};

use super::Server;
use super::listener::{Listener, Setup};
use super::plan::Plan;

impl Server {
    /// Brings the listeners from the old settings to the new ones; connections stay.
    ///
    /// # Errors
    ///
    /// Everything that is wrong. All is as it was then.
    pub(super) fn reload_listeners(
        &mut self,
        plan: &Plan,
        new: &[settings::Listener],
    ) -> Result<(), Vec<Complaint>> {
        let mut setups = load_all(new)?;
        let mut setup_of = |index: usize| setups[index].take().expect("each is used once");
        let mut added: Vec<(usize, Listener)> = Vec::new();
        let mut complaints = Vec::new();
        for &index in &plan.added {
            let taken: Vec<usize> = added.iter().map(|(number, _)| *number).collect();
            match self.bind(&new[index], setup_of(index), &taken) {
                Ok(listener) => added.push(listener),
                Err(complaint) => complaints.push(complaint),
            }
        }
        if !complaints.is_empty() {
            return Err(complaints);
        }
        let kept = plan.kept.iter().filter_map(|&(old, index)| {
            let listener = self.listeners[self.opened[old]].as_ref()?;
            Some((listener.id, Rc::clone(&new[index].security)))
        });
        let fresh = added.iter().map(|(_, listener)| (listener.id, Rc::clone(&listener.settings.security)));
        let rights = self.prepare_rights(kept.chain(fresh).collect())?;
        let before = std::mem::replace(&mut self.opened, vec![0; new.len()]);
        for &(old, index) in &plan.kept {
            self.opened[index] = before[old];
            self.change(before[old], &new[index], setup_of(index));
        }
        for &old in &plan.removed {
            self.close(before[old]);
        }
        for (&index, (number, listener)) in plan.added.iter().zip(added) {
            self.opened[index] = number;
            self.put(number, listener);
        }
        self.put_in_force(rights);
        Ok(())
    }

    /// Serves those who come from now on by other settings, with the same sockets.
    fn change(&mut self, number: usize, settings: &settings::Listener, setup: Setup) {
        if let Some(listener) = &mut self.listeners[number] {
            self.broker.set_rules(listener.id, Rc::clone(&settings.rules));
            listener.settings = settings.clone();
            listener.setup = setup;
        }
    }
}

/// Loads what all these listeners need.
fn load_all(listeners: &[settings::Listener]) -> Result<Vec<Option<Setup>>, Vec<Complaint>> {
    let mut complaints = Vec::new();
    let mut setups = Vec::new();
    for settings in listeners {
        match Setup::load(settings) {
            Ok(setup) => setups.push(Some(setup)),
            Err(wrong) => complaints.extend(wrong),
        }
    }
    if complaints.is_empty() { Ok(setups) } else { Err(complaints) }
}
