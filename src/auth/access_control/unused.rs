//! The log lines about clients that a pattern is not used for, because of a character in one of their names: that is
//! hard to find out otherwise.

use log::info;

use crate::auth::acl::{Acl, Ruling};
use crate::base::escape::Escaped;
use crate::base::ordered_map::OrderedMap;
use crate::core::access::Client;
use crate::core::slots::ConnectionId;

/// The maximum number of connections that are remembered; further ones are not reported. Those that have ended make room
/// when their slots are used again.
const CONNECTIONS_MAXIMUM: usize = 1_000;

/// The connections that have been reported, each once.
#[derive(Debug, Default)]
pub(super) struct UnusedPatterns {
    /// The generations of the connections, by their slots.
    reported: OrderedMap<usize, u32>,
}

impl UnusedPatterns {
    /// Logs a ruling of this kind, if it is the first one about its connection.
    pub(super) fn report(&mut self, client: &Client<'_>, acl: &Acl, ruling: Ruling) {
        let (Ruling::Unused { .. }, Some(connection)) = (ruling, client.connection) else { return };
        if self.admit(connection) {
            let client = Escaped(client.client_identifier);
            info!(target: "notice", "Client {client} is denied something: {}.", acl.explain(ruling));
        }
    }

    /// Whether a connection is to be reported, which it is not again.
    fn admit(&mut self, connection: ConnectionId) -> bool {
        let (slot, generation) = (connection.index(), connection.generation());
        let is_full = self.reported.len() >= CONNECTIONS_MAXIMUM;
        match self.reported.find_mut(&slot) {
            Some(known) => std::mem::replace(known, generation) != generation,
            None if is_full => false,
            None => self.reported.insert(slot, generation).is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::slots::Id;

    #[test]
    fn a_connection_is_reported_once_and_not_too_many_are() {
        let mut unused = UnusedPatterns::default();
        let told = |slots: std::ops::Range<u32>, generation, unused: &mut UnusedPatterns| {
            slots.filter(|&slot| unused.admit(Id::of(slot, generation))).count()
        };
        assert_eq!(told(0..2, 1, &mut unused), 2);
        assert_eq!(told(0..2, 1, &mut unused), 0);
        assert_eq!(told(0..1, 2, &mut unused), 1, "another connection in the same slot");
        assert_eq!(told(0..2_000, 2, &mut unused), 999);
        assert_eq!(told(0..2_000, 3, &mut unused), 1_000);
    }
}
