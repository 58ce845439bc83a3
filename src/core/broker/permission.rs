//! The access control, and what it grants to all clients.

use crate::core::access::AccessControl;
use crate::core::session::Reading;

pub(super) struct Permission {
    pub(super) access: Box<dyn AccessControl>,
    /// How often it was replaced.
    pub(super) replaced: u64,
    /// Whether all messages are granted, so the access control need not be asked about them.
    pub(super) is_open: bool,
    /// Whether an answer about a published message stands until it is replaced or the client re-authenticates.
    pub(super) answers_stand: bool,
    /// Whether every CONNECT is granted, too, so that no client has a proved User Name.
    pub(super) grants_everything: bool,
}

impl Permission {
    pub(super) fn new(access: Box<dyn AccessControl>) -> Self {
        Self {
            is_open: access.grants_every_act(),
            answers_stand: access.answers_stand(),
            grants_everything: access.grants_everything(),
            access,
            replaced: 0,
        }
    }

    /// What is known of the right of a client to receive messages before the access control is asked.
    pub(super) const fn first_reading(&self) -> Reading {
        if self.is_open { Reading::Free } else { Reading::Unknown }
    }

    /// Replaces the access control from now on.
    pub(super) fn replace(&mut self, access: Box<dyn AccessControl>) {
        *self = Self { replaced: self.replaced + 1, ..Self::new(access) };
    }
}
