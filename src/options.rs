//! The command line.

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;

use getopts::Options as Parser;

use crate::escape::Escaped;

/// Ports that may be given, as in mosquitto.
const PORTS_MAXIMUM: usize = 10;
/// The port of MQTT without TLS.
const DEFAULT_PORT: u16 = 1883;
/// Less would not hold the largest packet and let anybody in.
const MEMORY_LIMIT_MINIMUM: usize = 4 * 1024 * 1024;

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verbosity {
    /// Errors only.
    Quiet,
    /// What an operator wants to know.
    #[default]
    Normal,
    /// Every packet.
    Verbose,
}

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Serve.
    Run {
        /// Ports on the loopback addresses.
        ports: Vec<u16>,
        /// How much is logged.
        verbosity: Verbosity,
        /// Bytes that clients and messages may take in all; `None` for no limit.
        memory_limit: Option<usize>,
    },
    /// Print this text and end.
    Print(String),
}

fn parser() -> Parser {
    let mut parser = Parser::new();
    parser.optmulti(
        "p",
        "port",
        "listen on this port of the loopback addresses, up to ten times (default 1883; 0 lets the system choose)",
        "PORT",
    );
    parser.optopt(
        "",
        "memory-limit",
        "bytes that clients and messages may take in all, with K, M or G for units (default none); what happens as \
         it is reached stands in the README",
        "BYTES",
    );
    parser.optflag("v", "verbose", "log every packet");
    parser.optflag("q", "quiet", "log errors only");
    parser.optflag("", "version", "print the version and end");
    parser.optflag("h", "help", "print this help and end");
    parser
}

/// Parses the arguments behind the program's name.
///
/// # Errors
///
/// One line that says what is wrong and what was expected.
pub fn parse(arguments: &[String]) -> Result<Command, String> {
    command(arguments).map_err(|complaint| Escaped(&complaint).to_string())
}

fn command(arguments: &[String]) -> Result<Command, String> {
    let parser = parser();
    let matches = parser.parse(arguments).map_err(|fail| format!("{fail}. Try --help."))?;
    if matches.opt_present("help") {
        let brief = format!(
            "brooklet {} is an MQTT 3.1, 3.1.1 and 5.0 broker.\n\nUsage: brooklet [options]",
            env!("CARGO_PKG_VERSION")
        );
        return Ok(Command::Print(parser.usage(&brief)));
    }
    if matches.opt_present("version") {
        return Ok(Command::Print(format!("brooklet version {}\n", env!("CARGO_PKG_VERSION"))));
    }
    if let Some(unexpected) = matches.free.first() {
        return Err(format!("Unexpected argument '{unexpected}': options begin with '-'. Try --help."));
    }
    let verbosity = match (matches.opt_present("quiet"), matches.opt_present("verbose")) {
        (true, true) => return Err("Options 'quiet' and 'verbose' exclude each other.".to_owned()),
        (true, false) => Verbosity::Quiet,
        (false, true) => Verbosity::Verbose,
        (false, false) => Verbosity::Normal,
    };
    let memory_limit = matches.opt_str("memory-limit").map(|text| memory_limit(&text)).transpose()?;
    Ok(Command::Run { ports: ports(&matches.opt_strs("port"))?, verbosity, memory_limit })
}

fn memory_limit(text: &str) -> Result<usize, String> {
    let (digits, unit) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (text.len() - 1, 1 << 10),
        Some(b'M' | b'm') => (text.len() - 1, 1 << 20),
        Some(b'G' | b'g') => (text.len() - 1, 1 << 30),
        _ => (text.len(), 1),
    };
    text.get(..digits)
        .and_then(|digits| digits.parse().ok())
        .and_then(|count: usize| count.checked_mul(unit))
        .filter(|&bytes| bytes >= MEMORY_LIMIT_MINIMUM)
        .ok_or_else(|| {
            format!("Invalid size '{text}' for option 'memory-limit': 4M or more, as in 4194304, 32M or 1G.")
        })
}

fn ports(given: &[String]) -> Result<Vec<u16>, String> {
    if given.len() > PORTS_MAXIMUM {
        return Err(format!(
            "Option 'port' given {} times, at most {PORTS_MAXIMUM} are served.",
            given.len()
        ));
    }
    if given.is_empty() {
        return Ok(vec![DEFAULT_PORT]);
    }
    let mut ports: Vec<u16> = Vec::new();
    for text in given {
        let port = text
            .parse()
            .map_err(|_| format!("Invalid port '{text}' for option 'port': a number from 0 to 65535."))?;
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

    #[test]
    fn nothing_given_means_port_1883() {
        let expected = Command::Run { ports: vec![1883], verbosity: Verbosity::Normal, memory_limit: None };
        assert_eq!(parse(""), Ok(expected));
    }

    #[test]
    fn ports_and_verbosity_are_taken() {
        let expected = Command::Run { ports: vec![1, 2], verbosity: Verbosity::Verbose, memory_limit: None };
        assert_eq!(parse("-p 1 --port=2 -v"), Ok(expected));
    }

    #[test]
    fn a_memory_limit_has_units() {
        for (text, bytes) in [("4194304", 4 << 20), ("4096K", 4 << 20), ("32m", 32 << 20), ("2G", 2 << 30)] {
            let taken = parse(&format!("--memory-limit {text}"));
            assert!(
                matches!(taken, Ok(Command::Run { memory_limit: Some(limit), .. }) if limit == bytes),
                "{text}: {taken:?}"
            );
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
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
        assert!(
            matches!(parse("--version"), Ok(Command::Print(text)) if text.starts_with("brooklet version"))
        );
    }
}
