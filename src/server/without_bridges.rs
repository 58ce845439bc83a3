//! A server without bridges: the binary was built without the feature.

use std::rc::Rc;

use super::Server;
use super::auth::Securities;
#[cfg(feature = "cluster")]
use super::destination::CallId;
#[cfg(feature = "cluster")]
use super::dial::Report;
use crate::base::time::Time;
#[cfg(feature = "system")]
use crate::core::limits::Limits;
#[cfg(feature = "system")]
use crate::core::listener::ListenerId;
use crate::core::slots::ConnectionId;
#[cfg(feature = "persistence")]
use crate::settings::ListenerName;
use crate::settings::{ConfigError, Security, Settings};

/// There are none.
#[derive(Default)]
pub(super) struct Bridges {}

impl Bridges {
    #[cfg(feature = "persistence")]
    pub(super) fn names(&self) -> impl Iterator<Item = ListenerName> {
        std::iter::empty()
    }

    pub(super) fn securities(&self, _common: Option<&Rc<Security>>) -> Securities {
        Vec::new()
    }

    pub(super) fn due(&self) -> Option<Time> {
        None
    }
}

/// No bridge can be loaded.
#[cfg(feature = "system")]
pub(super) enum Loaded {}

#[cfg(feature = "system")]
impl Loaded {
    pub(super) fn security(&self, _common: Option<&Rc<Security>>) -> (ListenerId, Rc<Security>) {
        match *self {}
    }
}

impl Server {
    /// Does nothing: the settings have no bridges.
    ///
    /// # Errors
    ///
    /// Never.
    pub fn add_bridges(&mut self, _settings: &Settings) -> Result<(), Vec<ConfigError>> {
        Ok(())
    }

    #[cfg(feature = "system")]
    pub(super) fn load_bridges(&mut self, _settings: &Settings) -> Result<Vec<Loaded>, Vec<ConfigError>> {
        Ok(Vec::new())
    }

    /// Does nothing: there are no bridges.
    pub fn start_bridges(&mut self) {}

    #[cfg(feature = "system")]
    pub(super) fn replace_bridges(&mut self, _loaded: Vec<Loaded>, _limits: &Limits, _now: Time) {}

    #[cfg(feature = "cluster")]
    pub(super) fn take_report(&mut self, _id: CallId, _report: Report, _now: Time) {}

    pub(super) fn run_bridges(&mut self, _now: Time) {}

    pub(super) fn write_to_bridge(&mut self, _id: ConnectionId, _now: Time) {}

    pub(super) fn resume_bridge(&mut self, _id: ConnectionId, _now: Time) {}

    pub(super) fn close_local(&mut self, _id: ConnectionId, _now: Time) {}

    pub(super) fn shut_down_bridges(&mut self, _now: Time) {}
}
