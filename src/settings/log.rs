//! What an operator can say of the log.

use std::path::PathBuf;

/// What is logged, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Where the lines go (`log_dest`), each to all of these; nowhere, if there are none.
    pub destinations: Vec<LogDestination>,
    /// Which kinds of lines are written (`log_type`).
    pub kinds: LogKinds,
    /// How the time is written in front of a line (`log_timestamp`, `log_timestamp_format`).
    pub time: LogTime,
    /// Whether clients that come and go are lines of the log (`connection_messages`).
    pub has_connections: bool,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            destinations: vec![LogDestination::StandardError],
            kinds: LogKinds { error: true, warning: true, notice: true, information: true, ..LogKinds::NONE },
            time: LogTime::Epoch,
            has_connections: true,
        }
    }
}

/// Where lines of the log go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogDestination {
    /// Standard error.
    StandardError,
    /// Standard output.
    StandardOutput,
    /// A file, which is opened again on SIGHUP.
    File(PathBuf),
    /// The system's log, with this facility (`log_facility`, 0 to 7 for local0 to local7; `None` for daemon).
    Syslog(Option<u8>),
    /// The topics below `$SYS/broker/log`.
    Topic,
}

/// Kinds of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is one word of the configuration")]
pub struct LogKinds {
    /// What could not be done.
    pub error: bool,
    /// What an operator should look at.
    pub warning: bool,
    /// What an operator wants to know.
    pub notice: bool,
    /// What is of interest now and then.
    pub information: bool,
    /// Every packet.
    pub debug: bool,
    /// Subscriptions that come.
    pub subscribe: bool,
    /// Subscriptions that go.
    pub unsubscribe: bool,
    /// What WebSocket connections say.
    pub websockets: bool,
    /// Whatever has no kind of its own.
    pub internal: bool,
}

impl LogKinds {
    /// None of them.
    pub const NONE: Self = Self::all(false);
    /// All of them.
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

/// How the time is written in front of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTime {
    /// Not at all.
    None,
    /// Seconds since 1970.
    Epoch,
    /// As `strftime` would.
    Format(String),
}
