//! The settings of the log.

use std::path::PathBuf;

use super::Given;

/// What is logged, and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The destinations (`log_dest`). Each line is written to all of them; nothing is logged if there are none.
    pub destinations: Vec<Given<LogDestination>>,
    /// The kinds of lines that are written (`log_type`).
    pub kinds: LogKinds,
    /// The format of the time at the start of a line (`log_timestamp`, `log_timestamp_format`).
    pub time: LogTime,
    /// Whether to log when clients connect and disconnect (`connection_messages`).
    pub has_connections: bool,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            destinations: vec![LogDestination::StandardError.into()],
            kinds: LogKinds { error: true, warning: true, notice: true, information: true, ..LogKinds::NONE },
            time: LogTime::Epoch,
            has_connections: true,
        }
    }
}

/// A destination of log lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogDestination {
    /// Standard error.
    StandardError,
    /// Standard output.
    StandardOutput,
    /// A file, which is opened again on SIGHUP.
    File(PathBuf),
    /// Syslog, with this facility (`log_facility`, 0 to 7 for local0 to local7; `None` for daemon).
    Syslog(Option<u8>),
    /// The topics below `$SYS/broker/log`.
    Topic,
}

/// Kinds of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is one word of the configuration")]
pub struct LogKinds {
    /// Failures.
    pub error: bool,
    /// Problems that an operator should look into.
    pub warning: bool,
    /// Important events.
    pub notice: bool,
    /// Less important events.
    pub information: bool,
    /// Every packet.
    pub debug: bool,
    /// New subscriptions.
    pub subscribe: bool,
    /// Ended subscriptions.
    pub unsubscribe: bool,
    /// Events of WebSocket connections.
    pub websockets: bool,
    /// Everything that has no other kind.
    pub internal: bool,
}

impl LogKinds {
    /// No kinds.
    pub const NONE: Self = Self::all(false);
    /// All kinds.
    pub const ALL: Self = Self::all(true);

    const fn all(is_on: bool) -> Self {
        Self {
            error: is_on,
            warning: is_on,
            notice: is_on,
            information: is_on,
            debug: is_on,
            subscribe: is_on,
            unsubscribe: is_on,
            websockets: is_on,
            internal: is_on,
        }
    }
}

/// The format of the time at the start of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTime {
    /// No time.
    None,
    /// Seconds since 1970.
    Epoch,
    /// A format of `strftime`.
    Format(String),
}
