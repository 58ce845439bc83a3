//! Counts the broker's instructions per delivered message with callgrind, and compares those of a plain broker with
//! the table in `tests/bench/instructions.txt`.
//!
//! The count of a short run is subtracted from that of a long one, so the start, the connections and the end are not
//! included. `make instructions` runs it. `SCENARIOS` in the environment has parts of scenario names, separated by
//! `;`, `QUICK=1` leaves out everything but the plain broker, and `BROKER` is the path of another binary to count.

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

use broker::{Broker, Counts};
use clients::Clients;
use packets::Fault;
use scenarios::{ALL, Pattern, Scenario};
use setup::Setup;

const BASELINE: &str = include_str!("../instructions.txt");
/// The columns that are compared with the baseline.
const HELD: [&str; 2] = ["plain", "persistence"];
/// How much more than in the baseline a message may take there, in percent.
const MORE_MAXIMUM: f64 = 2.0;
/// How many times as much as a plain message one may take that access rules allow: on a topic that is repeated, and on
/// one of too many to be remembered.
const TIMES_REPEATED: f64 = 1.3;
const TIMES_OF_MANY: f64 = 2.0;

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
    let setups = chosen_setups()?;
    let scenarios = chosen(variable("SCENARIOS").as_deref())?;
    let columns: Vec<&str> = setups.iter().flat_map(|setup| setup.columns()).copied().collect();
    println!("| scenario | {} | against the baseline |", columns.join(" | "));
    println!("|---|{}---|", "---:|".repeat(columns.len()));
    let mut wrong = Vec::new();
    for scenario in &scenarios {
        let mut counts = Vec::new();
        for &setup in &setups {
            let all = instructions_per_message(&program, scenario, setup)?;
            counts.extend(setup.columns().iter().zip(all));
        }
        let cells: Vec<String> = counts.iter().map(|(_, count)| format!("{count:.2}")).collect();
        let changes: Vec<(&str, f64)> = counts
            .iter()
            .filter(|(column, _)| HELD.contains(column))
            .map(|(column, count)| (**column, change(scenario.name, column, *count)))
            .collect();
        let told: Vec<String> =
            changes.iter().map(|(column, change)| format!("{column} {change:+.2} %")).collect();
        println!("| {} | {} | {} |", scenario.name, cells.join(" | "), told.join(", "));
        wrong.extend(too_much_for_rules(scenario, &counts));
        wrong.extend(
            changes
                .into_iter()
                .filter(|(_, change)| *change > MORE_MAXIMUM)
                .map(|(column, _)| format!("{}, {column}", scenario.name)),
        );
    }
    if wrong.is_empty() {
        return Ok(());
    }
    Err(format!(
        "more than {MORE_MAXIMUM} % above the baseline, not in it, or slow by rules: {}",
        wrong.join("; ")
    ))
}

/// What is wrong if access rules make messages too expensive.
fn too_much_for_rules(scenario: &Scenario, counts: &[(&&str, f64)]) -> Option<String> {
    let of = |name| counts.iter().find(|(column, _)| **column == name).map(|(_, count)| *count);
    let most = match scenario.pattern {
        Pattern::Topics(_) => TIMES_OF_MANY,
        Pattern::OneTopic | Pattern::Pairs => TIMES_REPEATED,
    };
    let times = of("acl_file")? / of("plain")?;
    (times > most).then(|| format!("{}, acl_file, {times:.2} times plain", scenario.name))
}

/// By how many percent a count differs from the baseline; infinite if that has none.
fn change(scenario: &str, column: &str, count: f64) -> f64 {
    baseline(scenario, column).map_or(f64::INFINITY, |baseline| 100.0 * (count / baseline - 1.0))
}

/// The named setups; all, if none is named.
fn chosen_setups() -> Result<Vec<Setup>, Fault> {
    let is_quick = variable("QUICK").is_some_and(|value| value != "0");
    let Some(names) = variable("SETUPS") else {
        return Ok(if is_quick { vec![Setup::Plain] } else { Setup::ALL.to_vec() });
    };
    let of_name = |name: &str| Setup::ALL.into_iter().find(|setup| setup.name() == name);
    names
        .split(';')
        .map(|name| of_name(name.trim()).ok_or_else(|| format!("no setup is named '{name}'")))
        .collect()
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// The scenarios whose names contain one of the given parts; all, without any.
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

/// The count of a message in the baseline.
fn baseline(scenario: &str, column: &str) -> Option<f64> {
    let mut rows = BASELINE.lines().filter(|line| line.starts_with('|'));
    let cells = |line: &'static str| line.split('|').map(str::trim).collect::<Vec<_>>();
    let place = cells(rows.next()?).iter().position(|name| *name == column)?;
    let row = rows.map(cells).find(|row| row.get(1) == Some(&scenario))?;
    row.get(place)?.parse().ok()
}

/// The instructions of the loop for each message, and those of the other threads.
fn instructions_per_message(program: &str, scenario: &Scenario, setup: Setup) -> Result<[f64; 2], Fault> {
    let count = |rounds| {
        count_instructions(program, scenario, setup, rounds)
            .map_err(|fault| format!("{}, {}: {fault}", scenario.name, setup.name()))
    };
    let (short, long) = (count(scenario.warm_up)?, count(scenario.warm_up + scenario.rounds)?);
    let each = |short: u64, long: u64| {
        (long as f64 - short as f64) / (scenario.rounds * scenario.delivered()) as f64
    };
    Ok([each(short.serving, long.serving), each(short.others, long.others)])
}

/// All instructions of a broker from its start until its end, with this many rounds of the load in between.
fn count_instructions(
    program: &str,
    scenario: &Scenario,
    setup: Setup,
    rounds: usize,
) -> Result<Counts, Fault> {
    let broker = Broker::start(program, setup)?;
    let mut clients = Clients::prepare(&broker, scenario, setup)?;
    for _ in 0..rounds {
        clients.run_round()?;
    }
    clients.close()?;
    broker.end()
}
