//! The settings of the command line and the environment.

use std::time::Duration;

use getopts::{Matches, Options};

use crate::broker::Broker;
use crate::packets::Fault;
use crate::scenarios::{ALL, Effort, Scenario};

/// The settings of one run of this program.
#[derive(Debug)]
pub struct Settings {
    pub brokers: Vec<Broker>,
    pub scenarios: Vec<Scenario>,
    pub repetitions: usize,
    pub effort: Effort,
    /// The path of the chart.
    pub svg: String,
    /// The broker's processor and that of this program.
    pub processors: Option<(usize, usize)>,
}

/// What to do.
#[derive(Debug)]
pub enum Command {
    Print(String),
    Run(Settings),
}

/// Flags with a value; in capitals, each is an environment variable as well.
const VALUES: [(&str, &str, &str); 5] = [
    (
        "brokers",
        "entries separated by ;, each NAME=COMMAND with {port} or {configuration} in it, or one of brooklet, floor, mosquitto, rumqttd",
        "ENTRIES",
    ),
    ("scenarios", "parts of scenarios' names, separated by ;", "NAMES"),
    ("repeat", "repetitions, of which the median counts (3)", "NUMBER"),
    ("seconds", "how long one load lasts (2)", "NUMBER"),
    ("svg", "where the picture goes (target/bench.svg)", "PATH"),
];

fn options() -> Options {
    let mut options = Options::new();
    for (name, description, hint) in VALUES {
        options.optopt("", name, description, hint);
    }
    options.optflag("", "quick", "all central scenarios in less than a minute, roughly");
    options.optflag("", "list", "print the names of the scenarios");
    options.optflag("h", "help", "print this");
    options.optflag("", "bench", "ignored; the build tool says so to every benchmark");
    options
}

/// The settings from the arguments, without the program's name, and from the environment where they are absent.
pub fn parse(arguments: &[String], processors: Option<(usize, usize)>) -> Result<Command, Fault> {
    let options = options();
    let matches = options.parse(arguments).map_err(|error| error.to_string())?;
    if matches.opt_present("help") {
        return Ok(Command::Print(options.usage("Compares MQTT brokers.")));
    }
    if matches.opt_present("list") {
        let names: Vec<&str> = ALL.iter().map(|scenario| scenario.name).collect();
        return Ok(Command::Print(names.join("\n") + "\n"));
    }
    let is_quick = matches.opt_present("quick")
        || std::env::var("QUICK").is_ok_and(|value| !["", "0"].contains(&&*value));
    let seconds: f64 = number(&matches, "seconds")?.unwrap_or(if is_quick { 0.3 } else { 2.0 });
    if !(0.05..=600.0).contains(&seconds) {
        return Err("a load lasts from 0.05 to 600 seconds".to_owned());
    }
    let repetitions = number(&matches, "repeat")?.unwrap_or(if is_quick { 1 } else { 3 });
    let brokers = match value(&matches, "brokers") {
        Some(entries) => entries.split(';').map(Broker::parse).collect::<Result<_, _>>()?,
        None => Broker::installed()?,
    };
    Ok(Command::Run(Settings {
        brokers,
        scenarios: scenarios(value(&matches, "scenarios").as_deref(), is_quick)?,
        repetitions: repetitions.max(1),
        effort: Effort { time: Duration::from_secs_f64(seconds), is_quick },
        svg: value(&matches, "svg").unwrap_or_else(|| "target/bench.svg".to_owned()),
        processors,
    }))
}

/// The arguments, with those of the environment added, since a shell may change the environment.
pub fn with_environment(mut arguments: Vec<String>) -> Vec<String> {
    for (name, ..) in VALUES {
        let flag = format!("--{name}");
        let is_given = arguments.iter().any(|argument| argument.starts_with(&flag));
        if let (false, Ok(value)) = (is_given, std::env::var(name.to_uppercase())) {
            arguments.extend([flag, value]);
        }
    }
    arguments
}

fn value(matches: &Matches, name: &str) -> Option<String> {
    matches.opt_str(name).filter(|value| !value.is_empty())
}

fn number<T: std::str::FromStr>(matches: &Matches, name: &str) -> Result<Option<T>, Fault> {
    let Some(text) = value(matches, name) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| format!("--{name} is a number, and {text} is none"))
}

/// The scenarios whose names contain one of the given parts; without any, all that belong to this run.
fn scenarios(parts: Option<&str>, is_quick: bool) -> Result<Vec<Scenario>, Fault> {
    let chosen: Vec<Scenario> = match parts {
        None => ALL.into_iter().filter(|scenario| scenario.is_central || !is_quick).collect(),
        Some(parts) => {
            let is_meant = |scenario: &Scenario| {
                parts
                    .split(';')
                    .any(|part| scenario.name.to_lowercase().contains(&part.trim().to_lowercase()))
            };
            ALL.into_iter().filter(is_meant).collect()
        }
    };
    if chosen.is_empty() {
        Err("no scenario has such a name; --list prints them".to_owned())
    } else {
        Ok(chosen)
    }
}
