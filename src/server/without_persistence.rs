//! Stands in for durable state in a build without it: nothing is persisted, and nothing waits for that.

use std::io;

use mio::Events;

use super::Server;
use crate::base::time::Time;

/// No connection to a storage thread.
pub(super) enum StorageLink {}

#[expect(clippy::unused_self, clippy::needless_pass_by_ref_mut, reason = "the feature does something here")]
impl Server {
    pub(super) fn exchange(&mut self, _now: Time) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn take_pages(&mut self, _now: Time) {}

    pub(super) fn check_storage_room(&mut self, _now: Time) {}

    pub(super) fn persistence_due(&self) -> Option<Time> {
        self.persistence.as_ref().map(|never| match *never {})
    }

    pub(super) fn finish_persistence(&mut self, _events: &mut Events) -> io::Result<()> {
        Ok(())
    }
}
