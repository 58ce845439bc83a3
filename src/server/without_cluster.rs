//! A server without a cluster: the binary was built without the feature.

use std::io;

use mio::Events;

use super::Server;
#[cfg(feature = "bridge")]
use super::destination::CallId;
#[cfg(feature = "bridge")]
use super::dial::Report;
use crate::base::time::Time;
use crate::settings::{ConfigError, Settings};

/// There is none.
#[derive(Default)]
pub(super) struct Cluster {}

impl Cluster {
    #[expect(clippy::unused_self, reason = "the feature does something here")]
    pub(super) const fn due(&self, _batch_due: Option<Time>) -> Option<Time> {
        None
    }

    #[cfg(feature = "bridge")]
    #[expect(clippy::unused_self, reason = "the feature does something here")]
    pub(super) const fn take_report(&mut self, _id: CallId, report: Report, _now: Time) -> Option<Report> {
        Some(report)
    }
}

/// A node has no files.
#[cfg(feature = "system")]
pub(super) struct Access;

#[expect(clippy::unused_self, clippy::needless_pass_by_ref_mut, reason = "the feature does something here")]
impl Server {
    /// Does nothing: the settings have no cluster.
    ///
    /// # Errors
    ///
    /// Never.
    pub const fn join_cluster(&mut self, _settings: &Settings) -> Result<(), Vec<ConfigError>> {
        Ok(())
    }

    #[cfg(feature = "system")]
    pub(super) const fn load_access(&self, _settings: &Settings) -> Result<Access, Vec<ConfigError>> {
        Ok(Access)
    }

    #[cfg(feature = "system")]
    pub(super) const fn change_access(&mut self, _access: Access, _settings: &Settings, _now: Time) {}

    pub(super) const fn run_cluster(&mut self, _now: Time) {}

    pub(super) const fn leave_cluster(&mut self, _events: &mut Events) -> io::Result<()> {
        Ok(())
    }
}
