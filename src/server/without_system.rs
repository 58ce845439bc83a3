//! A server that handles no signals: each has its default effect, and most end the process at once. So the
//! configuration is never read again.

use std::io;

use mio::{Registry, Token};

use super::Server;

/// Receives nothing.
pub struct Signals;

impl Signals {
    /// Remembers nothing.
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

    /// Always false.
    pub const fn is_over(&self) -> bool {
        false
    }
}

impl Server {
    #[expect(clippy::unused_self, clippy::needless_pass_by_ref_mut, reason = "signals are a feature")]
    pub(super) const fn handle_signals(&mut self) -> bool {
        false
    }
}
