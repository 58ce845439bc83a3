//! The command line.

mod acl;
mod finished;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
#[cfg(feature = "persistence")]
mod import;
#[cfg(feature = "persistence")]
mod migrate;
#[cfg(feature = "passwords")]
mod passwd;
mod subcommand;

use std::path::Path;

use getopts::Options as Parser;

use crate::base::escape::Escaped;
use crate::base::files;
use crate::config::file::{CommandLine, MEMORY_LIMIT_MINIMUM, Verbosity, bytes};

pub use finished::Finished;
#[cfg(feature = "persistence")]
pub use import::import_at_first_start;
pub use subcommand::subcommand;
use subcommand::{SUBCOMMANDS, Subcommand};

/// The maximum number of ports, as in mosquitto.
const PORTS_MAXIMUM: usize = 10;

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Run the broker.
    Run {
        /// The configuration file.
        file: Option<String>,
        /// The other options.
        given: CommandLine,
    },
    /// Check the configuration and exit.
    Test {
        /// The configuration file.
        file: Option<String>,
        /// The other options.
        given: CommandLine,
        /// Whether to fail if a start would fail now (`--test-start`).
        is_strict: bool,
    },
    /// Print this text and exit.
    Print(String),
}

/// The options. Those that this binary does not support are recognised to be refused, but the help has only the others.
fn parser(is_for_help: bool) -> Parser {
    let mut parser = Parser::new();
    let is_shown = |is_supported: bool| is_supported || !is_for_help;
    parser.optopt("c", "config-file", "read this file, which has the format of mosquitto.conf", "FILE");
    if is_shown(cfg!(feature = "system")) {
        parser.optflag(
            "d",
            "daemon",
            "run in the background; the command waits until the broker runs or has failed",
        );
    }
    parser.optmulti(
        "p",
        "port",
        "listen on this port of the loopback addresses; may be given ten times (default 1883; 0 lets the system choose); \
         ignored if the file has listeners",
        "PORT",
    );
    parser.optopt(
        "",
        "memory-limit",
        "limit of the memory for clients and messages, in bytes or with the unit K, M or G (default none); \
         docs/limits.md says what happens when it is reached",
        "BYTES",
    );
    parser.optflag("v", "verbose", "log every packet, overriding the file");
    parser.optflag("q", "quiet", "log only errors, overriding the file");
    if is_shown(cfg!(feature = "tls")) {
        parser.optopt(
            "",
            "tls-keylog",
            "write the keys of all TLS connections to this file, for network analysers; anyone who can read it can \
             decrypt everything",
            "FILE",
        );
    }
    parser.optflag(
        "",
        "test-config",
        "check the file and everything it refers to without changing anything, exit with 0 or 3",
    );
    parser.optflag(
        "",
        "test-start",
        "like test-config, but exit with 1 if a start would fail now, such as for a port in use",
    );
    parser.optflag("V", "version", "print the version and exit");
    parser.optflag("h", "help", "print this help and exit");
    parser
}

/// Parses the arguments after the name of the program.
///
/// # Errors
///
/// One line with what is wrong and what was expected.
pub fn parse(arguments: &[String]) -> Result<Command, String> {
    command(arguments).map_err(|error| Escaped(&error).to_string())
}

fn command(arguments: &[String]) -> Result<Command, String> {
    let matches = parser(false).parse(arguments).map_err(|fail| format!("{fail}. Try --help."))?;
    if matches.opt_present("help") {
        return Ok(Command::Print(usage()));
    }
    if matches.opt_present("version") {
        return Ok(Command::Print(format!("brooklet version {}\n", env!("CARGO_PKG_VERSION"))));
    }
    if let Some(unexpected) = matches.free.first() {
        return Err(format!(
            "Unexpected argument '{unexpected}', expected {} as the first one, or options, which start with '-'. Try \
             --help.",
            subcommand::names()
        ));
    }
    let is_daemon = matches.opt_present("daemon");
    for (option, feature, is_supported) in
        [("daemon", "system", cfg!(feature = "system")), ("tls-keylog", "tls", cfg!(feature = "tls"))]
    {
        if matches.opt_present(option) && !is_supported {
            return Err(format!(
                "Option '{option}' is not supported by a binary built without the feature `{feature}`."
            ));
        }
    }
    let verbosity = match (matches.opt_present("quiet"), matches.opt_present("verbose")) {
        (true, true) => return Err("Options 'quiet' and 'verbose' exclude each other.".to_owned()),
        (true, false) => Verbosity::Quiet,
        (false, true) => Verbosity::Verbose,
        (false, false) => Verbosity::Normal,
    };
    let memory_limit = matches.opt_str("memory-limit").map(|text| memory_limit(&text)).transpose()?;
    let given = CommandLine {
        ports: ports(&matches.opt_strs("port"))?,
        verbosity,
        memory_limit,
        is_daemon,
        key_log: matches.opt_str("tls-keylog"),
        ..CommandLine::default()
    };
    let file = matches.opt_str("config-file");
    if file.as_deref() == Some("") {
        return Err("The name for option 'config-file' is empty, expected the name of a file.".to_owned());
    }
    let is_strict = matches.opt_present("test-start");
    Ok(if is_strict || matches.opt_present("test-config") {
        Command::Test { file, given, is_strict }
    } else {
        Command::Run { file, given }
    })
}

/// The help.
fn usage() -> String {
    let mut brief = format!(
        "brooklet {} is an MQTT 3.1, 3.1.1 and 5.0 broker.\n\nUsage: brooklet [options]",
        env!("CARGO_PKG_VERSION")
    );
    for Subcommand { name, what, .. } in SUBCOMMANDS.iter().filter(|command| command.is_there) {
        brief += &format!("\n       {:<22}{what}", format!("brooklet {name} ..."));
    }
    brief += "\n       brooklet help [COMMAND]";
    parser(true).usage(&brief)
}

/// Adds the options from the environment, and the name of this machine. Makes paths absolute.
pub fn with_environment(mut given: CommandLine) -> CommandLine {
    let variable = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
    given.key_log = given.key_log.map(absolute);
    given.persistence_location = variable("MOSQUITTO_PERSISTENCE_LOCATION");
    given.user_number = variable("PUID");
    given.group_number = variable("PGID");
    given.file_mask = variable("UMASK_SET");
    #[cfg(any(feature = "bridge", feature = "cluster"))]
    {
        let name = nix::unistd::gethostname().ok();
        given.host_name = name.map(|name| name.to_string_lossy().into_owned());
    }
    given
}

/// The path of a file as messages name it.
pub fn absolute(path: String) -> String {
    files::absolute(Path::new(&path)).into_os_string().into_string().unwrap_or(path)
}

fn memory_limit(text: &str) -> Result<usize, String> {
    bytes(text).filter(|&bytes| bytes >= MEMORY_LIMIT_MINIMUM).ok_or_else(|| {
        format!("Invalid size '{text}' for option 'memory-limit', expected at least 4M, such as 4194304, 32M or 1G.")
    })
}

fn ports(given: &[String]) -> Result<Vec<u16>, String> {
    if given.len() > PORTS_MAXIMUM {
        return Err(format!("Option 'port' given {} times, expected at most {PORTS_MAXIMUM}.", given.len()));
    }
    let mut ports: Vec<u16> = Vec::new();
    for text in given {
        let port = text.parse().map_err(|_| {
            format!("Invalid port '{text}' for option 'port', expected a number from 0 to 65535.")
        })?;
        if port != 0 && ports.contains(&port) {
            return Err(format!("Port {port} given twice for option 'port'."));
        }
        ports.push(port);
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Command, String> {
        super::parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    fn run(file: Option<&str>, given: CommandLine) -> Result<Command, String> {
        Ok(Command::Run { file: file.map(str::to_owned), given })
    }

    #[test]
    fn an_empty_command_line_has_no_options() {
        assert_eq!(parse(""), run(None, CommandLine::default()));
    }

    #[test]
    fn ports_and_verbosity_are_accepted() {
        let given =
            CommandLine { ports: vec![1, 2], verbosity: Verbosity::Verbose, ..CommandLine::default() };
        assert_eq!(parse("-p 1 --port=2 -v"), run(None, given));
    }

    #[test]
    fn a_file_is_run_or_tested() {
        assert_eq!(parse("-c a.conf"), run(Some("a.conf"), CommandLine::default()));
        let given = CommandLine { verbosity: Verbosity::Quiet, ..CommandLine::default() };
        assert_eq!(parse("--config-file=a.conf -q"), run(Some("a.conf"), given));
        for (flag, is_strict) in [("--test-config", false), ("--test-start", true)] {
            let (file, given) = (Some("a.conf".to_owned()), CommandLine::default());
            let test = Command::Test { file, given, is_strict };
            assert_eq!(parse(&format!("-c a.conf {flag}")), Ok(test));
        }
    }

    #[test]
    fn running_in_the_background_requires_the_feature() {
        let given = CommandLine { is_daemon: true, ..CommandLine::default() };
        match parse("-d") {
            Ok(command) => assert_eq!((Ok(command), true), (run(None, given), cfg!(feature = "system"))),
            Err(error) => assert!(!cfg!(feature = "system") && error.contains("`system`"), "{error}"),
        }
    }

    #[test]
    fn a_memory_limit_has_units() {
        for (text, bytes) in [("4194304", 4 << 20), ("4096K", 4 << 20), ("32m", 32 << 20), ("2G", 2 << 30)] {
            let given = CommandLine { memory_limit: Some(bytes), ..CommandLine::default() };
            assert_eq!(parse(&format!("--memory-limit {text}")), run(None, given), "{text}");
        }
    }

    #[test]
    fn keys_are_logged_only_on_request() {
        let given = CommandLine { key_log: Some("/k".to_owned()), ..CommandLine::default() };
        match parse("--tls-keylog /k") {
            Ok(command) => assert_eq!((Ok(command), true), (run(None, given), cfg!(feature = "tls"))),
            Err(error) => assert!(!cfg!(feature = "tls") && error.contains("`tls`"), "{error}"),
        }
        // The help has only what the binary has.
        assert_eq!(usage().contains("--tls-keylog"), cfg!(feature = "tls"));
        assert_eq!(usage().contains("--daemon"), cfg!(feature = "system"));
    }

    #[test]
    fn errors_name_what_is_wrong() {
        for (line, word) in [
            ("-p 70000", "70000"),
            ("-p x", "'x'"),
            ("-p 1 -p 1", "twice"),
            ("-p", "Argument"),
            ("--prot 1", "prot"),
            ("1883", "'1883'"),
            ("-v -q", "exclude"),
            ("--memory-limit 4194303", "4M"),
            ("--memory-limit 99999999999G", "99999999999G"),
            ("--memory-limit=M", "'M'"),
            ("--memory-limit=", "''"),
            ("--memory-limit=-5M", "'-5M'"),
            ("--memory-limit=5\u{20ac}", "5"),
            ("--memory-limit 8M --memory-limit 9M", "more than once"),
            ("-c", "Argument"),
            ("-c a -c b", "more than once"),
            ("--config-file=", "'config-file' is empty"),
            ("psswd file", "acl"),
            ("-p1 -p2 -p3 -p4 -p5 -p6 -p7 -p8 -p9 -p10 -p11", "11 times"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(word) && !error.contains('\n'), "{line}: {error}");
        }
    }

    #[test]
    fn help_and_version_print() {
        for line in ["-h", "--help --bogus=no"] {
            let is_help = matches!(parse(line), Ok(Command::Print(text)) if text.contains("--port"));
            assert_eq!(is_help, line == "-h", "{line}");
        }
        assert!(["--version", "-V"].iter().all(|flag| {
            matches!(parse(flag), Ok(Command::Print(text)) if text.starts_with("brooklet version"))
        }));
    }
}
