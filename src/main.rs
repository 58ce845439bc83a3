//! The `brooklet` binary: options, log, wiring and exit codes.

use std::fmt::Display;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::{self, ExitCode};

use brooklet::base::escape::Escaped;
use brooklet::base::files;
use brooklet::base::foreign;
use brooklet::config::command_line::{self, Command, Finished, absolute, with_environment};
use brooklet::config::file::{self, Checked, CommandLine, Outcome};
use brooklet::core::access::AllowAll;
use brooklet::logging;
#[cfg(feature = "system")]
use brooklet::server::background::{self, Background};
#[cfg(feature = "system")]
use brooklet::server::plan::Changes;
use brooklet::server::{Server, Signals, privileges};
use brooklet::settings::{Address, ConfigError, Settings};
use log::{error, info, warn};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The system refused something that the broker needs.
const EXIT_FAILURE: u8 = 1;
/// An option or a configuration is invalid.
const EXIT_INVALID: u8 = 3;

fn main() -> ExitCode {
    let arguments: Vec<String> =
        std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()).collect();
    if let Some(finished) = command_line::subcommand(&arguments) {
        return finish(&finished);
    }
    match command_line::parse(&arguments) {
        Ok(Command::Print(text)) => {
            // A reader that closes the pipe early has read enough, so an error is ignored.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Ok(Command::Test { file, given, is_strict }) => {
            test(file.map(absolute).as_deref(), &with_environment(given), is_strict)
        }
        #[cfg(feature = "system")]
        Ok(Command::Run { given, .. }) if given.is_daemon && !background::is_going() => {
            match background::start() {
                Ok(code) => ExitCode::from(code),
                Err(why) => {
                    report(&format!("unable to run in the background: {why}."));
                    ExitCode::from(EXIT_FAILURE)
                }
            }
        }
        Ok(Command::Run { file, given }) => match Signals::begin() {
            Ok(signals) => start(file.map(absolute), with_environment(given), signals),
            Err(why) => {
                report(&format!("unable to handle signals: {why}."));
                ExitCode::from(EXIT_FAILURE)
            }
        },
        Err(message) => {
            report(&message);
            ExitCode::from(EXIT_INVALID)
        }
    }
}

/// Reports an error on standard error, before there is a log. If this fails, it cannot be reported anywhere.
fn report(message: &str) {
    let _ = writeln!(std::io::stderr(), "Error: {message}");
}

/// Prints the result of a subcommand.
fn finish(finished: &Finished) -> ExitCode {
    let _ = std::io::stdout().write_all(finished.output.as_bytes());
    for warning in &finished.warnings {
        let _ = writeln!(std::io::stderr(), "Warning: {warning}");
    }
    if !finished.error.is_empty() {
        report(&finished.error);
    }
    ExitCode::from(finished.code)
}

/// A configuration, with everything that it names.
struct Configuration {
    /// The settings, or the errors.
    settings: Result<Settings, Vec<ConfigError>>,
    warnings: Vec<ConfigError>,
    /// What differs from mosquitto.
    differences: Vec<ConfigError>,
}

fn read(file: Option<&str>, given: &CommandLine) -> Configuration {
    let Outcome { settings, errors, mut warnings, differences } = file::load(file, given);
    let Some(settings) = settings else {
        return Configuration { settings: Err(errors), warnings, differences };
    };
    let Checked { errors, warnings: others } = file::check(&settings);
    warnings.extend(others);
    let settings = if errors.is_empty() { Ok(settings) } else { Err(errors) };
    Configuration { settings, warnings, differences }
}

/// Checks a configuration and what a start would meet now, which is an error if the test `is_strict`.
fn test(file: Option<&str>, given: &CommandLine, is_strict: bool) -> ExitCode {
    let Configuration { settings, warnings, differences } = read(file, given);
    #[cfg(all(feature = "bridge", feature = "persistence"))]
    let warnings = warnings.into_iter().chain(settings.iter().flat_map(file::check_sessions));
    #[cfg(feature = "persistence")]
    let warnings =
        warnings.into_iter().chain(settings.iter().flat_map(|settings| before_start(file, settings)));
    let found = settings.as_ref().map(file::obstacles).unwrap_or_default();
    for warning in warnings.into_iter().chain(found.warnings) {
        let _ = writeln!(std::io::stderr(), "Warning: {warning}");
    }
    let obstacles = found.errors;
    let is_startable = obstacles.is_empty() || !is_strict;
    let noted = if is_strict { differences } else { [differences, obstacles.clone()].concat() };
    for note in noted {
        let _ = writeln!(std::io::stderr(), "Note: {note}");
    }
    match settings {
        Ok(_) if !is_startable => {
            obstacles.iter().for_each(|obstacle| report(&obstacle.to_string()));
            ExitCode::from(EXIT_FAILURE)
        }
        Ok(_) => {
            let _ = writeln!(std::io::stdout(), "The configuration is good.");
            ExitCode::SUCCESS
        }
        Err(errors) => {
            errors.iter().for_each(|error| report(&error.to_string()));
            ExitCode::from(EXIT_INVALID)
        }
    }
}

/// The warnings about what lies in the place of the store, which must not be open.
#[cfg(feature = "persistence")]
fn before_start(file: Option<&str>, settings: &Settings) -> Option<ConfigError> {
    file::check_database_of_mosquitto(settings, file.unwrap_or_default())
}

fn start(file: Option<String>, given: CommandLine, signals: Signals) -> ExitCode {
    let Configuration { settings, warnings, .. } = read(file.as_deref(), &given);
    let settings = match settings {
        Ok(settings) => settings,
        Err(errors) => {
            errors.iter().for_each(|error| report(&error.to_string()));
            return ExitCode::from(EXIT_INVALID);
        }
    };
    let mut progress = match Progress::begin(settings.process.is_daemon) {
        Ok(progress) => progress,
        Err(why) => {
            report(&format!("unable to run in the background: {why}."));
            return ExitCode::from(EXIT_FAILURE);
        }
    };
    if let Err(error) = settings.process.file_mask.map_or(Ok(()), privileges::set_file_mask) {
        report(&error.to_string());
        return progress.fail(&error, EXIT_INVALID);
    }
    if let Err(error) = logging::set_up(&settings.log) {
        report(&error.to_string());
        return progress.fail(&error, EXIT_INVALID);
    }
    info!("brooklet version {VERSION} starting");
    match &file {
        Some(file) => info!("Config loaded from {}.", Escaped(file)),
        None => info!("Using default config."),
    }
    #[cfg(feature = "persistence")]
    let warnings = warnings.into_iter().chain(before_start(file.as_deref(), &settings));
    for warning in warnings {
        warn!("Warning: {warning}.");
    }
    let code = run(settings, file, given, (signals, &mut progress));
    logging::finish();
    code
}

/// The start as others see it: its errors go to the log, and those of a broker that goes into the background to the command
/// that waits for it as well.
#[derive(Default)]
struct Progress {
    #[cfg(feature = "system")]
    background: Option<Background>,
}

impl Progress {
    /// Goes into the background, if the broker `is_daemon`.
    #[cfg_attr(
        not(feature = "system"),
        expect(clippy::unnecessary_wraps, reason = "without the feature, there is no background")
    )]
    fn begin(is_daemon: bool) -> io::Result<Self> {
        #[cfg(feature = "system")]
        if is_daemon {
            return Background::enter().map(|background| Self { background: Some(background) });
        }
        let _ = is_daemon;
        Ok(Self::default())
    }

    /// Reports an error with which the start ends, and returns its exit code.
    fn fail(&mut self, error: &dyn Display, code: u8) -> ExitCode {
        self.tell(error);
        self.end(code);
        ExitCode::from(code)
    }

    /// Reports one of several errors.
    fn tell(&mut self, error: &dyn Display) {
        error!("Error: {error}.");
        #[cfg(feature = "system")]
        if let Some(background) = &mut self.background {
            background.report(&error.to_string());
        }
    }

    /// The start has failed, and its errors were reported.
    fn failed(&mut self) -> ExitCode {
        self.end(EXIT_FAILURE);
        ExitCode::from(EXIT_FAILURE)
    }

    /// The broker runs, or the start has ended with this exit code.
    fn end(&mut self, code: u8) {
        #[cfg(feature = "system")]
        if let Some(background) = self.background.take() {
            background.end(code);
        }
        let _ = code;
    }
}

fn run(
    settings: Settings,
    file: Option<String>,
    given: CommandLine,
    (signals, progress): (Signals, &mut Progress),
) -> ExitCode {
    let mut server = match Server::new(&settings.limits, Box::new(AllowAll), signals) {
        Ok(server) => server,
        Err(why) => return progress.fail(&format!("unable to start: {why}"), EXIT_FAILURE),
    };
    let code = open(&mut server, settings, (file, given), progress);
    server.leave();
    code
}

/// Opens everything in the settings, and serves.
fn open(
    server: &mut Server,
    settings: Settings,
    source: (Option<String>, CommandLine),
    progress: &mut Progress,
) -> ExitCode {
    if settings.listeners.iter().any(|listener| matches!(listener.address, Address::Loopback { .. })) {
        info!(
            "Starting in local only mode. Connections will only be possible from clients running on this machine."
        );
    }
    server.set_switches(settings.switches);
    server.trim_with(foreign::trim);
    server.publish_sys(settings.system_interval);
    for listener in &settings.listeners {
        if let Err(errors) = server.open(listener) {
            errors.iter().for_each(|error| progress.tell(error));
            return progress.failed();
        }
    }
    if let Err(errors) = server
        .add_bridges(&settings)
        .and_then(|()| server.join_cluster(&settings))
        .and_then(|()| server.enforce())
    {
        errors.iter().for_each(|error| progress.tell(error));
        return progress.failed();
    }
    let pid_file = settings.process.pid_file.clone();
    if let Some((path, Err(why))) = pid_file.as_ref().map(|path| (path, write_process_id(path))) {
        let error = path.error_in(format_args!("unable to write the pid file: {why}"));
        return progress.fail(&error, EXIT_FAILURE);
    }
    let code = serve(server, settings, source, progress);
    if let Some(path) = pid_file.filter(|path| files::is_file(path) && !is_of_another(path)) {
        // This may fail if the process has dropped its privileges. The file is no longer needed.
        let _ = fs::remove_file(path);
    }
    code
}

/// Drops privileges after everything is bound and opened, then serves.
#[cfg_attr(
    not(feature = "system"),
    expect(unused_variables, clippy::needless_pass_by_value, reason = "only a signal causes a reload")
)]
fn serve(
    server: &mut Server,
    settings: Settings,
    (file, given): (Option<String>, CommandLine),
    progress: &mut Progress,
) -> ExitCode {
    match privileges::drop_rights(&settings.process, |user, group| server.give_sockets_to(user, group)) {
        Ok(None) => {}
        Ok(Some(user)) => info!("Running as user {}.", Escaped(&user)),
        Err(error) => return progress.fail(&error, EXIT_FAILURE),
    }
    #[cfg(feature = "persistence")]
    match command_line::import_at_first_start(&settings) {
        Ok(summary) => summary.iter().flat_map(|summary| summary.lines()).for_each(|line| info!("{line}")),
        Err(error) => return progress.fail(&error, EXIT_FAILURE),
    }
    #[cfg(feature = "persistence")]
    if let Some(Err(error)) = settings.store().map(|persistence| server.keep(persistence)) {
        if server.is_over() {
            info!("brooklet version {VERSION} terminating during startup");
            progress.end(0);
            return ExitCode::SUCCESS;
        }
        return progress.fail(&error, EXIT_FAILURE);
    }
    server.start_bridges();
    #[cfg(feature = "system")]
    let given = with_open_store(given, &settings);
    #[cfg(feature = "system")]
    server.reload_by(settings, Box::new(move |old| reread(old, file.as_deref(), &given)));
    // Reading the configuration and the stored state leaves free memory.
    foreign::trim();
    info!("brooklet version {VERSION} running");
    progress.end(0);
    match server.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            error!("Error: {why}.");
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

/// The options for a reload.
#[cfg(feature = "system")]
fn with_open_store(given: CommandLine, settings: &Settings) -> CommandLine {
    #[cfg(feature = "persistence")]
    let given = CommandLine {
        open_store: settings.persistence.as_ref().map(|persistence| persistence.path().value),
        ..given
    };
    #[cfg(not(feature = "persistence"))]
    let _ = settings;
    given
}

/// Writes the process id to a file, now that the process handles signals.
fn write_process_id(path: &Path) -> io::Result<()> {
    files::write(path, own_process_id().as_bytes())
}

fn own_process_id() -> String {
    format!("{}\n", process::id())
}

/// Whether another process has written its id to the file since then.
fn is_of_another(path: &Path) -> bool {
    let own = own_process_id();
    files::read(path, 1024).is_ok_and(|found| found.as_deref() != Some(own.as_bytes()))
}

/// Reads the configuration again for a reload. Returns the new settings and their differences from the old ones.
#[cfg(feature = "system")]
fn reread(old: &Settings, file: Option<&str>, given: &CommandLine) -> Option<(Settings, Changes)> {
    let Configuration { settings, warnings, .. } = read(file, given);
    for warning in warnings {
        warn!("Warning: {warning}.");
    }
    let new =
        settings.inspect_err(|errors| errors.iter().for_each(|error| error!("Error: {error}."))).ok()?;
    let changes = file::changes(old, &new);
    Some((new, changes))
}
