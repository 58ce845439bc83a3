//! Signals, as events of the poller.

use std::io;

use mio::{Interest, Registry, Token};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals as Source;

/// The signals that end the broker.
pub(super) struct Signals(Source);

impl Signals {
    pub(super) fn register(registry: &Registry, token: Token) -> io::Result<Self> {
        let mut source = Source::new([SIGTERM, SIGINT])?;
        registry.register(&mut source, token, Interest::READABLE)?;
        Ok(Self(source))
    }

    /// Whether one came since the last time.
    pub(super) fn take(&mut self) -> bool {
        self.0.pending().count() > 0
    }
}
