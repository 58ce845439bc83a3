//! Signals, as events of the poller. They count from the start of the process: a signal that comes before the loop
//! runs is remembered until it does.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mio::{Interest, Registry, Token};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::flag;
use signal_hook_mio::v1_0::Signals as Source;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// End (SIGTERM, SIGINT).
    End,
    /// Read the configuration again (SIGHUP).
    Reload,
    /// Write unsaved state to disk (SIGUSR1).
    Save,
    /// Write the subscriptions to the log (SIGUSR2).
    ListSubscriptions,
    /// Open the log files again (SIGRTMIN).
    ReopenLogs,
}

/// Receives the signals that the broker handles.
pub struct Signals {
    source: Source,
    /// Whether a signal has asked the broker to end.
    is_over: Arc<AtomicBool>,
}

impl Signals {
    /// Remembers signals from now on, including those that the parent process had blocked.
    ///
    /// # Errors
    ///
    /// The system does not let the process receive them.
    pub fn begin() -> io::Result<Self> {
        let source = Source::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, libc::SIGRTMIN()])?;
        let is_over = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT] {
            flag::register(signal, Arc::clone(&is_over))?;
        }
        nix::sys::signal::SigSet::all().thread_unblock()?;
        Ok(Self { source, is_over })
    }

    /// Registers for an event with each signal, including those that have already come.
    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut self.source, token, Interest::READABLE)
    }

    /// Whether a signal has asked the broker to end.
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// The signals that have come since the last call. A signal that came twice may be returned once.
    pub(super) fn take(&mut self) -> Vec<Signal> {
        self.source
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
