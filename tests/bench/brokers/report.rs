//! The results, as Markdown.

use std::fmt::Write as _;

use crate::agent::IN_FLIGHT_MAXIMUM;
use crate::broker::{Configuration, Storage};
use crate::flow::{OUTSTANDING_BYTES, OUTSTANDING_MESSAGES};
use crate::scenarios::{Figure, Kind, Outcome, grouped};
use crate::settings::Settings;
use crate::tally::Tally;

/// Shown where a broker cannot run a scenario.
const NOTHING: &str = "–";

/// One row of the report.
#[derive(Debug)]
pub struct Row {
    pub name: String,
    pub kind: Kind,
    /// For each broker, the values of every repetition.
    pub runs: Vec<Vec<Vec<f64>>>,
}

impl Row {
    /// The median over the repetitions of each value, where the broker has been measured.
    pub fn medians(&self, broker: usize) -> Option<Vec<f64>> {
        let runs = &self.runs[broker];
        let values = runs.first()?.len();
        Some((0..values).map(|value| median(runs.iter().map(|run| run[value]).collect())).collect())
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len().is_multiple_of(2) {
        f64::midpoint(values[middle - 1], values[middle])
    } else {
        values[middle]
    }
}

/// All results.
#[derive(Debug)]
pub struct Report {
    /// The machine's load average before anything was measured.
    load_before: String,
    pub brokers: Vec<String>,
    pub rows: Vec<Row>,
    /// By scenario and broker.
    tallies: Vec<(String, usize, Tally)>,
    /// By scenario and broker.
    faults: Vec<(String, usize, String)>,
}

impl Report {
    pub fn new(settings: &Settings) -> Self {
        Self {
            load_before: load_average(),
            brokers: settings.brokers.iter().map(|broker| broker.name.clone()).collect(),
            rows: Vec::new(),
            tallies: Vec::new(),
            faults: Vec::new(),
        }
    }

    pub fn add(&mut self, scenario: &str, broker: usize, outcome: Outcome) {
        for Figure { row, kind, values } in outcome.figures {
            let place = self.rows.iter().position(|other| other.name == row && other.kind == kind);
            let place = place.unwrap_or_else(|| {
                self.rows.push(Row { name: row, kind, runs: vec![Vec::new(); self.brokers.len()] });
                self.rows.len() - 1
            });
            self.rows[place].runs[broker].push(values);
        }
        if !outcome.tally.is_clean() {
            let of_both = |(name, of, _): &&mut (String, usize, Tally)| name == scenario && *of == broker;
            match self.tallies.iter_mut().find(of_both) {
                Some((.., tally)) => *tally += outcome.tally,
                None => self.tallies.push((scenario.to_owned(), broker, outcome.tally)),
            }
        }
    }

    pub fn add_fault(&mut self, scenario: &str, broker: usize, fault: String) {
        self.faults.push((scenario.to_owned(), broker, fault));
    }

    /// The whole report.
    pub fn markdown(&self, settings: &Settings) -> String {
        let mut text = String::from("# Brokers compared\n\n");
        text += &self.describe(settings);
        text += "\n## Processor time\n\n";
        text += "The broker's CPU time for each delivered message in µs, and delivered messages a second.\n";
        text +=
            "`generator` is the least CPU time that the load generator spent on each, on its own CPU.\n\n";
        text += &self.processor_table();
        text += "\n## Latency\n\nFrom the moment at which a message was to be sent, in µs.\n\n";
        text += &self.latency_table();
        text += "\n## Memory\n\nWhat was added to the resident memory; in brackets, what of it is private and dirty.\n\n";
        text += &self.memory_table();
        text += "\n## Time\n\n";
        text += &self.time_table();
        text += "\n## Bridges\n\n";
        text += &self.number_table();
        text += "\n## Written\n\nBytes written to the device for each message.\n\n";
        text += &self.written_table();
        text += "\n## Bystander\n\nRound trips of a healthy client beside an attack, in ms; what the longest is longer than without.\n\n";
        text += &self.bystander_table();
        text += "\n## Lost, duplicated, reordered\n\n";
        text += &self.integrity();
        text += "\n## Brokers\n\n";
        text += &commands(settings);
        text
    }

    /// The rows of a kind, if there are any, under a head whose first column is the scenario.
    fn table(&self, head: &[String], rows: impl Iterator<Item = Vec<String>>) -> String {
        let mut rows = rows.peekable();
        if rows.peek().is_none() {
            return "Not measured.\n".to_owned();
        }
        let mut text = format!("| {} |\n|---|{}\n", head.join(" | "), "---:|".repeat(head.len() - 1));
        for row in rows {
            let _ = writeln!(text, "| {} |", row.join(" | "));
        }
        text
    }

    fn rows_of(&self, kinds: &'static [Kind]) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |row| kinds.contains(&row.kind))
    }

    /// The brokers with which the first one is compared.
    fn references(&self) -> Vec<usize> {
        let names = ["floor", "mosquitto"];
        (1..self.brokers.len()).filter(|&broker| names.contains(&&*self.brokers[broker])).collect()
    }

    fn head(&self) -> Vec<String> {
        let mut head = vec!["scenario".to_owned()];
        head.extend(self.brokers.iter().cloned());
        let ratios = self.references().into_iter();
        head.extend(ratios.map(|broker| format!("{} / {}", self.brokers[0], self.brokers[broker])));
        head
    }

    fn processor_table(&self) -> String {
        let mut head = self.head();
        head.push("generator".to_owned());
        let rows = self.rows_of(&[Kind::Processor]).map(|row| {
            let mut cells = self.cells(row, |v| format!("{} µs, {}/s", digits(v[0]), thousands(v[1])));
            let medians = (0..self.brokers.len()).filter_map(|broker| row.medians(broker));
            let own = medians.map(|values| values[2]).fold(f64::NAN, f64::min);
            let own = Some(own).filter(|own| own.is_finite());
            cells.push(cell(own.map(digits)));
            cells
        });
        self.table(&head, rows)
    }

    /// The first value of the first broker, divided by that of each reference.
    fn ratios(&self, medians: &[Option<Vec<f64>>]) -> Vec<String> {
        let first = |broker: usize| medians[broker].as_ref().map(|values| values[0]);
        let ratio = |broker| Some(first(0)? / first(broker).filter(|value| *value > 0.0)?);
        self.references()
            .into_iter()
            .map(|broker| {
                cell(ratio(broker).filter(|ratio| *ratio >= 0.0).map(|ratio| format!("{ratio:.2}")))
            })
            .collect()
    }

    fn latency_table(&self) -> String {
        let head = ["scenario", "broker", "p50", "p99", "p99.9", "max"].map(str::to_owned);
        let rows = self.rows_of(&[Kind::Latency]).flat_map(|row| {
            let of_broker = |broker: usize| {
                let values = row.medians(broker)?;
                let mut cells = vec![row.name.clone(), self.brokers[broker].clone()];
                cells.extend(values.iter().map(|value| format!("{value:.0}")));
                Some(cells)
            };
            (0..self.brokers.len()).filter_map(of_broker).collect::<Vec<_>>()
        });
        self.table(&head, rows)
    }

    fn memory_table(&self) -> String {
        let rows = self.rows_of(&[Kind::Bytes, Kind::Kibibytes]);
        self.table(&self.head(), rows.map(|row| self.cells(row, |v| format!("{:.0} ({:.0})", v[0], v[1]))))
    }

    fn time_table(&self) -> String {
        let rows = self.rows_of(&[Kind::Milliseconds]);
        self.table(&self.head(), rows.map(|row| self.cells(row, |v| digits(v[0]))))
    }

    fn number_table(&self) -> String {
        let rows = self.rows_of(&[Kind::Number]);
        self.table(&self.head(), rows.map(|row| self.cells(row, |v| digits(v[0]))))
    }

    fn written_table(&self) -> String {
        let rows = self.rows_of(&[Kind::Written]);
        self.table(&self.head(), rows.map(|row| self.cells(row, |v| format!("{:.0}", v[0]))))
    }

    fn bystander_table(&self) -> String {
        let head = [
            "attack and round trip",
            "broker",
            "longest",
            "p99.9",
            "longest without",
            "p99.9 without",
            "longest, added",
            "attack over after",
        ];
        let rows = self.rows_of(&[Kind::Bystander]).flat_map(|row| {
            let of_broker = |broker: usize| {
                let values = row.medians(broker)?;
                let mut cells = vec![row.name.clone(), self.brokers[broker].clone()];
                cells.extend(values[..4].iter().map(|value| digits(*value)));
                cells.push(format!("{:.1}", values[0] - values[2]));
                cells.push(if values[4].is_finite() { digits(values[4]) } else { NOTHING.to_owned() });
                Some(cells)
            };
            (0..self.brokers.len()).filter_map(of_broker).collect::<Vec<_>>()
        });
        self.table(&head.map(str::to_owned), rows)
    }

    /// The name of a row, what `show` makes of each broker's medians, and the ratios.
    fn cells(&self, row: &Row, show: impl Fn(&[f64]) -> String) -> Vec<String> {
        let medians: Vec<_> = (0..self.brokers.len()).map(|broker| row.medians(broker)).collect();
        let mut cells = vec![row.name.clone()];
        cells.extend(medians.iter().map(|values| cell(values.as_deref().map(&show))));
        cells.extend(self.ratios(&medians));
        cells
    }

    fn describe(&self, settings: &Settings) -> String {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpus = read("/proc/cpuinfo");
        let models: Vec<&str> = cpus.lines().filter(|line| line.starts_with("model name")).collect();
        let model = models.first().and_then(|line| line.split_once(": ")).map_or("CPU", |(_, model)| model);
        let pinning = match settings.processors {
            Some((broker, generator)) => {
                format!("The broker ran on CPU {broker}, the load generator on CPU {generator}.")
            }
            None => {
                "Nothing was pinned to a CPU, so the figures are less steady than they could be.".to_owned()
            }
        };
        format!(
            "{} × {model}, Linux {}, load average {} before and {} afterwards. {pinning}\n\
             Median of {} repetitions of {:?} each; the brokers took turns, each started anew for each run.\n\
             Closed loops kept at most {} deliveries and {} KiB of payload outstanding; with QoS 1 and 2 at most\n\
             {IN_FLIGHT_MAXIMUM} messages of a publisher, and no more than the broker's Receive Maximum.\n",
            models.len().max(1),
            read("/proc/sys/kernel/osrelease").trim(),
            self.load_before,
            load_average(),
            settings.repetitions,
            settings.effort.time,
            grouped(OUTSTANDING_MESSAGES),
            OUTSTANDING_BYTES / 1024,
        )
    }

    fn integrity(&self) -> String {
        let mut text = String::new();
        if self.tallies.is_empty() {
            text += "No message was lost, came twice, or came in another order, with any broker in any scenario.\n";
        }
        for (scenario, broker, tally) in &self.tallies {
            let name = &self.brokers[*broker];
            let Tally { lost, duplicated, reordered } = tally;
            let _ = writeln!(
                text,
                "- {scenario}, {name}: {lost} lost, {duplicated} duplicated, {reordered} reordered"
            );
        }
        for (scenario, broker, fault) in &self.faults {
            let _ = writeln!(text, "- {scenario}, {}: not measured, {fault}", self.brokers[*broker]);
        }
        text
    }
}

/// How the brokers were started.
fn commands(settings: &Settings) -> String {
    let mut text = String::new();
    for broker in &settings.brokers {
        let _ = writeln!(text, "- {}: `{}`", broker.name, without_directories(&broker.command));
        text += &broker.configuration.map_or_else(String::new, quoted);
        let is_on_disk = settings.scenarios.iter().any(|scenario| scenario.storage() == Storage::Disk);
        if let Some((command, configuration)) = broker.on_disk.as_ref().filter(|_| is_on_disk) {
            let _ = writeln!(text, "  on disk: `{}`", without_directories(command));
            text += &quoted(*configuration);
        }
    }
    for scenario in settings.scenarios.iter().filter(|scenario| !scenario.lines().is_empty()) {
        let _ = writeln!(
            text,
            "- in {}, beyond that: `{}`",
            scenario.name,
            scenario.lines().trim().replace('\n', "`, `")
        );
    }
    text
}

fn quoted(configuration: Configuration) -> String {
    let mut text = "\n  ```text\n".to_owned();
    text.extend(configuration.text.lines().map(|line| format!("  {line}\n")));
    if !configuration.without_limits.is_empty() {
        text += "  # and wherever the broker's own limits are not what is measured:\n";
        text.extend(configuration.without_limits.lines().map(|line| format!("  {line}\n")));
    }
    text + "  ```\n\n"
}

fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

fn cell(text: Option<String>) -> String {
    text.unwrap_or_else(|| NOTHING.to_owned())
}

/// Formats a number with three significant digits.
pub fn digits(value: f64) -> String {
    match value {
        value if value < 1.0 => format!("{value:.3}"),
        value if value < 10.0 => format!("{value:.2}"),
        value if value < 100.0 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

fn thousands(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{:.2} M", value / 1e6),
        value if value >= 1e3 => format!("{:.1} k", value / 1e3),
        value => format!("{value:.0}"),
    }
}

/// A command without the directories of its files.
fn without_directories(command: &str) -> String {
    let words = command.split(' ').map(|word| word.rsplit('/').next().unwrap_or_default());
    words.collect::<Vec<_>>().join(" ")
}
