//! Signals, as events of the poller.

use std::io;

use mio::{Interest, Registry, Token};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook_mio::v1_0::Signals as Source;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// End (SIGTERM, SIGINT).
    End,
    /// Read the configuration anew (SIGHUP).
    Reload,
    /// Write down what is kept (SIGUSR1).
    Save,
    /// Write the subscriptions to the log (SIGUSR2).
    ListSubscriptions,
    /// Open the log files again (SIGRTMIN).
    ReopenLogs,
}

/// The signals that the broker knows.
pub(super) struct Signals(Source);

impl Signals {
    pub(super) fn register(registry: &Registry, token: Token) -> io::Result<Self> {
        let mut source = Source::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, libc::SIGRTMIN()])?;
        registry.register(&mut source, token, Interest::READABLE)?;
        Ok(Self(source))
    }

    /// What came since the last time. A signal that came twice may count once.
    pub(super) fn take(&mut self) -> Vec<Signal> {
        self.0
            .pending()
            .map(|number| match number {
                SIGHUP => Signal::Reload,
                SIGUSR1 => Signal::Save,
                SIGUSR2 => Signal::ListSubscriptions,
                SIGTERM | SIGINT => Signal::End,
                _ => Signal::ReopenLogs,
            })
            .collect()
    }
}
