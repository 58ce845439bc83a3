//! Compares MQTT brokers: the processor time they need per message, the messages they deliver in a second, the latency
//! of these, the memory for stored state, and whether all messages arrive once and in order.
//!
//! Each broker runs on one processor and the load generator on another, one thread that sends packets built in advance
//! and reads whatever comes. The brokers take turns within each scenario, and each is started anew for each run, so
//! that other work of the machine affects all of them alike. The figure to compare is processor time, which is the
//! same on a busy machine; `floor`, which only relays bytes, shows which part of it is the kernel's.
//!
//! `make bench` runs it; `--help` lists the options, and every flag with a value may be set in the environment
//! instead: `make bench SCENARIOS="1:1;fan-out" REPEAT=5`.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock and files")]

mod agent;
mod attack;
mod bridge;
mod broker;
mod bystander;
mod chart;
mod churn;
mod crowd;
mod durable;
mod flow;
mod held;
mod memory;
mod network;
mod packets;
mod report;
mod scenarios;
mod settings;
mod tally;

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::ExitCode;

use packets::Fault;
use report::Report;
use scenarios::{Kind, Outcome, Scenario};
use settings::{Command, Settings};

/// Marks a process that was started by this program itself, with its processors; empty without any.
const PINNED: &str = "BROKERS_BENCH_PROCESSORS";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match std::env::var(PINNED) {
        Err(_) => start_again(settings::with_environment(arguments)),
        Ok(processors) => start(&arguments, &processors),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("Error: {fault}");
            ExitCode::FAILURE
        }
    }
}

/// Replaces this process by one with the maximum number of descriptors, on a processor of its own.
fn start_again(arguments: Vec<String>) -> Result<(), Fault> {
    let own_path = std::env::current_exe().map_err(|error| format!("where am I: {error}"))?;
    let allowed = processors();
    let (pin, pinned) = match (&allowed[..], broker::find_program("taskset")) {
        ([broker, generator, ..], Some(_)) => {
            (format!("taskset -c {generator} "), format!("{broker},{generator}"))
        }
        _ => (String::new(), String::new()),
    };
    let script = format!("ulimit -n \"$(ulimit -H -n)\" 2>/dev/null; exec {pin}\"$0\" \"$@\"");
    let error = std::process::Command::new("sh")
        .args(["-c", &script])
        .arg(own_path)
        .args(arguments)
        .env(PINNED, pinned)
        .exec();
    Err(format!("cannot start again: {error}"))
}

/// The processors that this process may use.
fn processors() -> Vec<usize> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or_default();
    let ranges = list.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?)
    });
    ranges.flatten().collect()
}

fn start(arguments: &[String], processors: &str) -> Result<(), Fault> {
    let processors = processors.split_once(',').and_then(|(broker, generator)| {
        Some((broker.parse::<usize>().ok()?, generator.parse::<usize>().ok()?))
    });
    let text = match settings::parse(arguments, processors)? {
        Command::Print(text) => text,
        Command::Run(settings) => run(&settings)?,
    };
    // A reader that closes the pipe early has read enough.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}

/// Runs everything, writes the chart and returns the report.
fn run(settings: &Settings) -> Result<String, Fault> {
    let mut report = Report::new(settings);
    for scenario in &settings.scenarios {
        run_scenario(settings, scenario, &mut report);
    }
    std::fs::write(&settings.svg, chart::svg(&report))
        .map_err(|error| format!("cannot write {}: {error}", settings.svg))?;
    Ok(report.markdown(settings))
}

fn run_scenario(settings: &Settings, scenario: &Scenario, report: &mut Report) {
    let mut failed = vec![false; settings.brokers.len()];
    for _ in 0..settings.repetitions {
        for (number, broker) in settings.brokers.iter().enumerate() {
            if failed[number] || !scenario.is_for(broker) {
                continue;
            }
            let processor = settings.processors.map(|(of_broker, _)| of_broker);
            let start = || match scenario.is_about_the_start() {
                true => broker.start_alone(),
                false => broker.start(processor, scenario.own_limits(), scenario.storage(), scenario.lines()),
            };
            let outcome = match scenario.bridge() {
                Some(bridge) => bridge.run(broker, processor, settings.effort),
                None => start().and_then(|mut process| scenario.run(&mut process, settings.effort)),
            };
            match outcome {
                Ok(outcome) => {
                    tell(scenario, &broker.name, &outcome);
                    report.add(scenario.name, number, outcome);
                }
                Err(fault) => {
                    eprintln!("{} | {} | {fault}", scenario.name, broker.name);
                    failed[number] = true;
                    report.add_fault(scenario.name, number, fault);
                }
            }
        }
    }
}

/// Shows the progress.
fn tell(scenario: &Scenario, broker: &str, outcome: &Outcome) {
    let figures: Vec<String> = outcome
        .figures
        .iter()
        .map(|figure| {
            let values: Vec<String> = figure.values.iter().map(|value| report::digits(*value)).collect();
            let unit = match figure.kind {
                Kind::Processor => "CPU µs, messages a second, generator's CPU µs",
                Kind::Latency => "µs at p50, p99, p99.9, max",
                Kind::Bytes => "bytes resident, dirty",
                Kind::Kibibytes => "KiB resident, dirty",
                Kind::Milliseconds => "ms",
                Kind::Number => "",
                Kind::Written => "bytes written",
                Kind::Bystander => "ms at the longest and at p99.9, the same without the attack, the attack",
            };
            format!("{} ({unit})", values.join(", "))
        })
        .collect();
    eprintln!("{} | {broker} | {}", scenario.name, figures.join(" | "));
}
