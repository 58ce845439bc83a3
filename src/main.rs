//! The `brooklet` binary: flags, log, wiring and exit codes.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use brooklet::access::AllowAll;
use brooklet::limits::Limits;
use brooklet::options::{self, Command, Verbosity};
use brooklet::server::Server;
use log::{LevelFilter, error, info};

/// The system did not give what the broker needs to run.
const EXIT_FAILURE: u8 = 1;
/// An option or a configuration is invalid.
const EXIT_INVALID: u8 = 3;

/// Bytes of a log line; what is beyond is cut off.
const LINE_MAXIMUM: usize = 1000;

fn main() -> ExitCode {
    let arguments: Vec<String> =
        std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()).collect();
    match options::parse(&arguments) {
        Ok(Command::Print(text)) => {
            // Whoever closes the pipe early has read enough.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Ok(Command::Run { ports, verbosity, memory_limit }) => {
            start_log(verbosity);
            run(&ports, Limits { memory: memory_limit, ..Limits::default() })
        }
        Err(message) => {
            // As above, there is nobody else to tell.
            let _ = writeln!(std::io::stderr(), "Error: {message}");
            ExitCode::from(EXIT_INVALID)
        }
    }
}

fn run(ports: &[u16], limits: Limits) -> ExitCode {
    let version = env!("CARGO_PKG_VERSION");
    info!("brooklet version {version} starting");
    info!(
        "Starting in local only mode. Connections will only be possible from clients running on this machine."
    );
    let mut server = match Server::new(limits, Box::new(AllowAll)) {
        Ok(server) => server,
        Err(why) => {
            error!("Error: unable to start: {why}.");
            return ExitCode::from(EXIT_FAILURE);
        }
    };
    for &port in ports {
        if let Err(why) = server.listen_on_loopback(port) {
            error!("Error: unable to listen on port {port}: {why}.");
            return ExitCode::from(EXIT_FAILURE);
        }
    }
    info!("brooklet version {version} running");
    match server.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            error!("Error: the poller failed: {why}.");
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

/// Log lines go to standard error as `EPOCH: TEXT`, as log watchers for mosquitto expect them.
fn start_log(verbosity: Verbosity) {
    let level = match verbosity {
        Verbosity::Quiet => LevelFilter::Error,
        Verbosity::Normal => LevelFilter::Info,
        Verbosity::Verbose => LevelFilter::Debug,
    };
    env_logger::Builder::new()
        .filter_level(level)
        .format(|buffer, record| {
            let mut line = format!("{}: {}", epoch(), record.args());
            if line.len() > LINE_MAXIMUM {
                let end = (0..=LINE_MAXIMUM).rev().find(|&end| line.is_char_boundary(end)).unwrap_or(0);
                line.truncate(end);
            }
            writeln!(buffer, "{line}")
        })
        .init();
}

#[expect(clippy::disallowed_methods, reason = "a log line says when")]
fn epoch() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
