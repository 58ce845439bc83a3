//! A server that no signal reaches: each does what the system does by itself, and most end the process at once. So it
//! never reads its configuration anew.

use std::io;

use mio::{Registry, Token};

use super::Server;

/// Nothing that could come.
pub struct Signals;

impl Signals {
    /// Nothing is remembered.
    ///
    /// # Errors
    ///
    /// None.
    pub const fn begin() -> io::Result<Self> {
        Ok(Self)
    }

    #[expect(clippy::unused_self, clippy::needless_pass_by_ref_mut, reason = "signals are a feature")]
    pub(super) const fn register(&mut self, _registry: &Registry, _token: Token) -> io::Result<()> {
        Ok(())
    }

    /// Never.
    pub const fn is_over(&self) -> bool {
        false
    }
}

impl Server {
    #[expect(clippy::unused_self, clippy::needless_pass_by_ref_mut, reason = "signals are a feature")]
    pub(super) const fn heed_signals(&mut self) -> bool {
        false
    }
}
