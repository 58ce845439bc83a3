//! What stands in the place of `fast_path.rs` in a build without it: no packet takes a short way.

use super::receive::Batch;
use super::{Broker, Fault, Step};
use crate::core::slots::{ConnectionId, SessionId};
use crate::protocol::codec::ProtocolVersion;

impl Broker {
    /// Processes no packet.
    #[expect(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "the fast path may process some, or fail"
    )]
    pub(super) const fn try_batch(
        &mut self,
        _client: (ConnectionId, SessionId),
        _batch: &mut Batch<'_>,
    ) -> Result<Option<Step>, Fault> {
        Ok(None)
    }

    /// Processes no packet of another node.
    #[expect(clippy::unused_self, reason = "the fast path may process some")]
    pub(super) const fn try_batch_of_node(
        &mut self,
        _bytes: &[u8],
        _version: ProtocolVersion,
    ) -> Option<usize> {
        None
    }
}

/// How often each short way was taken.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) const fn taken() -> [u64; 0] {
    []
}
