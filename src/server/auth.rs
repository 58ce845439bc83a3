//! Authentication and authorization as the settings demand them: at the start, and after each reload.

use std::rc::Rc;

use crate::auth::access_control::{Authority, Policies};
use crate::core::listener::ListenerId;
use crate::settings::{ConfigError, Security};

use super::Server;

/// What each listener demands of its clients.
pub(super) type Securities = Vec<(ListenerId, Rc<Security>)>;

/// The access control in force.
#[derive(Default)]
pub(super) struct Rights {
    policies: Option<Rc<Policies>>,
}

/// An access control whose files have been read, so that putting it in force cannot fail.
pub(super) struct Prepared {
    rights: Rights,
    authority: Authority,
}

impl Server {
    /// Puts in force what the settings of the open listeners demand. To be called once all of them are open.
    ///
    /// # Errors
    ///
    /// Everything that is wrong in the files that the settings name.
    pub fn enforce(&mut self) -> Result<(), Vec<ConfigError>> {
        let opened = self.opened.iter().filter_map(|&number| self.listeners[number].as_ref());
        let of_listeners: Securities =
            opened.map(|listener| (listener.id, Rc::clone(&listener.settings.security))).collect();
        let of_bridges = self.bridges.securities(of_listeners.first().map(|(_, security)| security));
        let securities = [of_listeners, of_bridges].concat();
        let prepared = self.prepare_rights(&securities)?;
        self.put_in_force(prepared);
        Ok(())
    }

    /// Reads the files that these listeners need.
    pub(super) fn prepare_rights(&self, securities: &Securities) -> Result<Prepared, Vec<ConfigError>> {
        let mut policies = Policies::load(securities)?;
        if let Some(former) = &self.rights.policies {
            policies.follow(former);
        }
        let policies = Rc::new(policies);
        let waker = self.waker();
        // If the poller is gone, so is the loop.
        let wake = move || drop(waker.wake());
        let authority = Authority::new(Rc::clone(&policies), self.attempts.clone(), wake).map_err(|why| {
            vec![ConfigError::new("access", format!("unable to prepare the verification of users: {why}"))]
        })?;
        Ok(Prepared { rights: Rights { policies: Some(policies) }, authority })
    }

    pub(super) fn put_in_force(&mut self, prepared: Prepared) {
        self.rights = prepared.rights;
        self.replace_access(Box::new(prepared.authority));
    }
}
