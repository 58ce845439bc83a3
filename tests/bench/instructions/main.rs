//! Counts the broker's instructions for each delivered message with callgrind, and holds those of a plain broker
//! against the table in `tests/bench/instructions.txt`.
//!
//! The count of a short run is taken from that of a long one, so what the start, the connections and the end need is in
//! neither. `make instructions` runs it. `SCENARIOS` in the environment holds parts of scenarios' names, separated by
//! `;`, `QUICK=1` leaves everything but the plain broker out, and `BROKER` is the path of another binary to count.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock and files")]

mod broker;
mod clients;
#[expect(dead_code, reason = "the comparison of brokers needs more of it")]
#[path = "../brokers/packets.rs"]
mod packets;
mod patience;
mod scenarios;
mod setup;

use std::env;
use std::process::ExitCode;

use broker::Broker;
use clients::Clients;
use packets::Fault;
use scenarios::{ALL, Scenario};
use setup::Setup;

const BASELINE: &str = include_str!("../instructions.txt");
/// How much more than in the baseline a plain message may take, in percent.
const MORE_MAXIMUM: f64 = 2.0;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("Error: {fault}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Fault> {
    let program = variable("BROKER").unwrap_or_else(|| env!("CARGO_BIN_EXE_brooklet").to_owned());
    let is_quick = variable("QUICK").is_some_and(|value| value != "0");
    let setups = if is_quick { &[Setup::Plain][..] } else { &Setup::ALL };
    let scenarios = chosen(variable("SCENARIOS").as_deref())?;
    let names: Vec<&str> = setups.iter().map(|setup| setup.name()).collect();
    println!("| scenario | {} | plain in the baseline | change |", names.join(" | "));
    println!("|---|{}", "---:|".repeat(setups.len() + 2));
    let mut wrong = Vec::new();
    for scenario in &scenarios {
        let counts = setups.iter().map(|&setup| instructions_per_message(&program, scenario, setup));
        let counts = counts.collect::<Result<Vec<f64>, _>>()?;
        let cells: Vec<String> = counts.iter().map(|count| format!("{count:.2}")).collect();
        let change = baseline(scenario.name).map(|baseline| (baseline, 100.0 * (counts[0] / baseline - 1.0)));
        let compared = change
            .map_or("– | –".to_owned(), |(baseline, change)| format!("{baseline:.2} | {change:+.2} %"));
        println!("| {} | {} | {compared} |", scenario.name, cells.join(" | "));
        if change.is_none_or(|(_, change)| change > MORE_MAXIMUM) {
            wrong.push(scenario.name);
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    Err(format!("more than {MORE_MAXIMUM} % above the baseline, or not in it: {}", wrong.join("; ")))
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// The scenarios whose name holds one of the given parts; all, without any.
fn chosen(parts: Option<&str>) -> Result<Vec<Scenario>, Fault> {
    let is_meant = |scenario: &Scenario| {
        let name = scenario.name.to_lowercase();
        parts.is_none_or(|parts| parts.split(';').any(|part| name.contains(&part.trim().to_lowercase())))
    };
    let scenarios: Vec<Scenario> = ALL.into_iter().filter(is_meant).collect();
    if scenarios.is_empty() {
        let names: Vec<&str> = ALL.iter().map(|scenario| scenario.name).collect();
        return Err(format!("no scenario has such a name; they are {}", names.join("; ")));
    }
    Ok(scenarios)
}

/// What a plain message took when the baseline was counted.
fn baseline(name: &str) -> Option<f64> {
    let rows = BASELINE.lines().map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
    rows.into_iter().find_map(|row| match row[..] {
        ["", row_name, plain, ..] if row_name == name => plain.parse().ok(),
        _ => None,
    })
}

fn instructions_per_message(program: &str, scenario: &Scenario, setup: Setup) -> Result<f64, Fault> {
    let count = |rounds| {
        count_instructions(program, scenario, setup, rounds)
            .map_err(|fault| format!("{}, {}: {fault}", scenario.name, setup.name()))
    };
    let (short, long) = (count(scenario.warm_up)?, count(scenario.warm_up + scenario.rounds)?);
    Ok((long as f64 - short as f64) / (scenario.rounds * scenario.delivered()) as f64)
}

/// All that a broker takes from its start until its end, with so many rounds of the load in between.
fn count_instructions(program: &str, scenario: &Scenario, setup: Setup, rounds: usize) -> Result<u64, Fault> {
    let broker = Broker::start(program, setup)?;
    let mut clients = Clients::prepare(&broker, scenario, setup)?;
    for _ in 0..rounds {
        clients.run_round()?;
    }
    clients.close()?;
    broker.end()
}
