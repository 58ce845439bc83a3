//! The access control, and what it says of everybody at once.

use crate::core::access::AccessControl;

pub(super) struct Permission {
    pub(super) access: Box<dyn AccessControl>,
    /// How often it was replaced.
    pub(super) replaced: u64,
    /// All messages are granted, so the access control need not be asked about them.
    pub(super) is_open: bool,
    /// The same for CONNECT, so that no client has a name that was proved.
    pub(super) knows_nobody: bool,
}

impl Permission {
    pub(super) fn new(access: Box<dyn AccessControl>) -> Self {
        Self {
            is_open: access.grants_every_act(),
            knows_nobody: access.grants_everything(),
            access,
            replaced: 0,
        }
    }

    /// Another access control is asked from now on.
    pub(super) fn replace(&mut self, access: Box<dyn AccessControl>) {
        *self = Self { replaced: self.replaced + 1, ..Self::new(access) };
    }
}
