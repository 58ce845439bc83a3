//! The `brooklet` binary: flags, log, wiring and exit codes.

use std::fs;
use std::io::{self, Write};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{self, ExitCode, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use brooklet::access::AllowAll;
use brooklet::config::{self, Checked, CommandLine, Outcome};
use brooklet::escape::Escaped;
use brooklet::options::{self, Command, Finished};
use brooklet::server::Server;
use brooklet::settings::{self, Address, Complaint, LogKinds, Settings};
use env_logger::Target;
use log::{Level, LevelFilter, Log, Metadata, Record, error, info, warn};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Tells a broker that it is in the background already.
const IN_BACKGROUND: &str = "BROOKLET_IN_BACKGROUND";

/// The system did not give what the broker needs to run.
const EXIT_FAILURE: u8 = 1;
/// An option or a configuration is invalid.
const EXIT_INVALID: u8 = 3;

/// Bytes of a log line; what is beyond is cut off.
const LINE_MAXIMUM: usize = 1000;
/// Bytes of lines that wait for the end of a turn.
const WAITING_MAXIMUM: usize = 64 * 1024;
/// Lines about clients that may come at once, and a second in the long run; more are left out.
const LINES_AT_ONCE: u64 = 1000;
const LINES_PER_SECOND: u64 = 20;

fn main() -> ExitCode {
    let arguments: Vec<String> =
        std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()).collect();
    if let Some(finished) = options::subcommand(&arguments) {
        return finish(&finished);
    }
    match options::parse(&arguments) {
        Ok(Command::Print(text)) => {
            // Whoever closes the pipe early has read enough.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Ok(Command::Test { file, given }) => test(file.as_deref(), &with_environment(given)),
        Ok(Command::Run { file, given }) => start(file, with_environment(given)),
        Err(message) => {
            complain(&message);
            ExitCode::from(EXIT_INVALID)
        }
    }
}

/// For the operator, before there is a log. As above, there is nobody else to tell.
fn complain(message: &str) {
    let _ = writeln!(std::io::stderr(), "Error: {message}");
}

/// Says what a subcommand has come to.
fn finish(finished: &Finished) -> ExitCode {
    let _ = std::io::stdout().write_all(finished.output.as_bytes());
    if !finished.complaint.is_empty() {
        complain(&finished.complaint);
    }
    ExitCode::from(finished.code)
}

fn with_environment(mut given: CommandLine) -> CommandLine {
    given.persistence_location =
        std::env::var("MOSQUITTO_PERSISTENCE_LOCATION").ok().filter(|path| !path.is_empty());
    given
}

/// Reads the configuration and everything that it names.
fn read(file: Option<&str>, given: &CommandLine) -> (Result<Settings, Vec<Complaint>>, Vec<Complaint>) {
    let Outcome { settings, errors, warnings } = config::load(file, given);
    let Some(settings) = settings else { return (Err(errors), warnings) };
    let Checked { errors, warnings: others } = config::check(&settings);
    (if errors.is_empty() { Ok(settings) } else { Err(errors) }, [warnings, others].concat())
}

fn test(file: Option<&str>, given: &CommandLine) -> ExitCode {
    let (settings, warnings) = read(file, given);
    for warning in warnings {
        let _ = writeln!(std::io::stderr(), "Warning: {warning}");
    }
    match settings {
        Ok(_) => {
            let _ = writeln!(std::io::stdout(), "The configuration is good.");
            ExitCode::SUCCESS
        }
        Err(errors) => {
            errors.iter().for_each(|error| complain(&error.to_string()));
            ExitCode::from(EXIT_INVALID)
        }
    }
}

fn start(file: Option<String>, given: CommandLine) -> ExitCode {
    let (settings, warnings) = read(file.as_deref(), &given);
    let settings = match settings {
        Ok(settings) => settings,
        Err(errors) => {
            errors.iter().for_each(|error| complain(&error.to_string()));
            return ExitCode::from(EXIT_INVALID);
        }
    };
    if settings.process.is_daemon && std::env::var_os(IN_BACKGROUND).is_none() {
        return go_into_background();
    }
    start_log(&settings.log);
    info!("brooklet version {VERSION} starting");
    match &file {
        Some(file) => info!("Config loaded from {}.", Escaped(file)),
        None => info!("Using default config."),
    }
    for warning in warnings {
        warn!("Warning: {warning}");
    }
    let code = run(settings, file, given);
    log::logger().flush();
    code
}

/// Starts the same once more, without a terminal. What can be wrong has been checked; what the system refuses
/// afterwards is in the log.
fn go_into_background() -> ExitCode {
    let started = std::env::current_exe().and_then(|program| {
        process::Command::new(program)
            .args(std::env::args_os().skip(1))
            .env(IN_BACKGROUND, "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
    });
    match started {
        Ok(_) => ExitCode::SUCCESS,
        Err(why) => {
            complain(&format!("unable to go into the background: {why}."));
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

fn run(settings: Settings, file: Option<String>, given: CommandLine) -> ExitCode {
    let mut server = match Server::new(settings.limits.clone(), Box::new(AllowAll)) {
        Ok(server) => server,
        Err(why) => {
            error!("Error: unable to start: {why}.");
            return ExitCode::from(EXIT_FAILURE);
        }
    };
    if settings.listeners.iter().any(|listener| matches!(listener.address, Address::Loopback { .. })) {
        info!(
            "Starting in local only mode. Connections will only be possible from clients running on this machine."
        );
    }
    server.tell_of_itself(settings.system_interval);
    for listener in &settings.listeners {
        if let Err(complaints) = server.open(listener) {
            complaints.iter().for_each(|complaint| error!("Error: {complaint}"));
            return ExitCode::from(EXIT_FAILURE);
        }
    }
    if let Err(complaints) = server.enforce() {
        complaints.iter().for_each(|complaint| error!("Error: {complaint}"));
        return ExitCode::from(EXIT_FAILURE);
    }
    let pid_file = settings.process.pid_file.clone();
    if let Err(why) = pid_file.as_deref().map_or(Ok(()), leave_number) {
        error!("Error: unable to write the pid file: {why}.");
        return ExitCode::from(EXIT_FAILURE);
    }
    server.reload_by(settings, Box::new(move || read_anew(file.as_deref(), &given)));
    info!("brooklet version {VERSION} running");
    let outcome = server.run();
    if let Some(path) = pid_file {
        // Who has dropped his rights may not be able to; the number is of no use to anybody any more.
        let _ = fs::remove_file(path);
    }
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            error!("Error: the poller failed: {why}.");
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

/// Leaves the number of the process where somebody looks for it, now that it can be signalled.
#[expect(clippy::disallowed_methods, reason = "a supervisor reads the number from a file")]
fn leave_number(path: &Path) -> io::Result<()> {
    fs::write(path, format!("{}\n", process::id()))
}

/// The configuration as it is now, for a broker that runs.
fn read_anew(file: Option<&str>, given: &CommandLine) -> Option<Settings> {
    let (settings, warnings) = read(file, given);
    for warning in warnings {
        warn!("Warning: {warning}");
    }
    settings.inspect_err(|errors| errors.iter().for_each(|error| error!("Error: {error}"))).ok()
}

/// Log lines go to standard error as `EPOCH: TEXT`, as log watchers for mosquitto expect them.
fn start_log(settings: &settings::Log) {
    let level = match settings.kinds {
        LogKinds { debug: true, .. } => LevelFilter::Debug,
        LogKinds { information: true, .. } | LogKinds { notice: true, .. } => LevelFilter::Info,
        LogKinds { warning: true, .. } => LevelFilter::Warn,
        LogKinds { error: true, .. } => LevelFilter::Error,
        _ => LevelFilter::Off,
    };
    let waiting = Waiting::default();
    let lines = env_logger::Builder::new()
        .filter_level(level)
        .target(Target::Pipe(Box::new(waiting.clone())))
        .format(|buffer, record| {
            let mut line = format!("{}: {}", epoch(), record.args());
            if line.len() > LINE_MAXIMUM {
                let end = (0..=LINE_MAXIMUM).rev().find(|&end| line.is_char_boundary(end)).unwrap_or(0);
                line.truncate(end);
            }
            writeln!(buffer, "{line}")
        })
        .build();
    // Who asks for every packet gets every line.
    let flood = (level == LevelFilter::Info).then(Mutex::default);
    log::set_boxed_logger(Box::new(Lines { lines, waiting, flood })).expect("there is no other logger");
    log::set_max_level(level);
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        log::logger().flush();
        usual(panic);
    }));
}

/// The log. What is written down in one turn of the loop leaves with one system call at its end; a warning or an
/// error leaves at once, and all that came before it.
///
/// Standard error is written as it is given: if its reader stalls and the pipe is full, the broker waits for it.
struct Lines {
    /// Formats, into `waiting`.
    lines: env_logger::Logger,
    waiting: Waiting,
    /// Guards against too many lines about clients.
    flood: Option<Mutex<Flood>>,
}

impl Lines {
    /// Whether a line is to be written; if so, and others were left out before it, those are counted first.
    fn admit(&self, record: &Record<'_>) -> bool {
        let Some(flood) = self.flood.as_ref().filter(|_| record.level() == Level::Info) else { return true };
        let admitted = flood.lock().unwrap_or_else(PoisonError::into_inner).admit(epoch());
        if let Some(count @ 1..) = admitted {
            let mut left_out = Record::builder();
            left_out.level(Level::Info).target(record.target());
            self.lines.log(&left_out.args(format_args!("{count} lines were left out in between.")).build());
        }
        admitted.is_some()
    }
}

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.lines.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) && self.admit(record) {
            self.lines.log(record);
            if record.level() <= Level::Warn || self.waiting.lock().len() > WAITING_MAXIMUM {
                self.flush();
            }
        }
    }

    fn flush(&self) {
        let mut waiting = self.waiting.lock();
        if !waiting.is_empty() {
            // Nobody is left to hear that it failed.
            let _ = std::io::stderr().write_all(&waiting);
            waiting.clear();
        }
    }
}

/// Lines that have not been written yet.
#[derive(Clone, Default)]
struct Waiting(Arc<Mutex<Vec<u8>>>);

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for Waiting {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What keeps a flood of lines, which clients can cause by connecting again and again, from filling a disk: lines
/// beyond the first many are written so many a second, and the others counted.
#[derive(Debug)]
struct Flood {
    /// Lines that may be written at once.
    allowed: u64,
    /// When that was last raised.
    second: u64,
    left_out: u64,
}

impl Default for Flood {
    fn default() -> Self {
        Self { allowed: LINES_AT_ONCE, second: 0, left_out: 0 }
    }
}

impl Flood {
    /// Whether one more line may be written in this second: how many were left out before it, or `None`.
    fn admit(&mut self, second: u64) -> Option<u64> {
        let raise = second.saturating_sub(self.second).saturating_mul(LINES_PER_SECOND);
        self.allowed = self.allowed.saturating_add(raise).min(LINES_AT_ONCE);
        self.second = second;
        if self.allowed == 0 {
            self.left_out += 1;
            return None;
        }
        self.allowed -= 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[expect(clippy::disallowed_methods, reason = "a log line says when")]
fn epoch() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_counted() {
        let mut flood = Flood::default();
        let admitted = (0..1_500).filter(|_| flood.admit(7).is_some()).count();
        assert_eq!(admitted, 1_000);
        assert_eq!(flood.admit(6), None, "a clock that is set back raises nothing");
        assert_eq!([flood.admit(8), flood.admit(8)], [Some(501), Some(0)]);
        assert_eq!((0..100).filter(|_| flood.admit(9).is_some()).count(), 58);
    }
}
