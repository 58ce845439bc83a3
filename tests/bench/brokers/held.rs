//! The memory scenarios, as figures of a report.

use crate::broker::{Memory, Process};
use crate::memory;
use crate::network::Network;
use crate::packets::Fault;
use crate::scenarios::{Effort, Figure, Kind, Outcome, grouped};
use crate::tally::Tally;

/// The state that a broker holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Nothing yet.
    Nothing,
    /// This many idle connections, without and with a subscription.
    Connections(usize),
    Subscriptions(usize),
    Retained(usize),
    Offline(usize),
    /// Messages that a stalled subscriber does not take.
    Stalled,
    /// Large messages that slow readers have still to take.
    MixedSpeed,
}

impl Held {
    /// Measures a broker that has just been started.
    pub fn run(
        self,
        name: &str,
        process: &Process,
        network: &mut Network,
        effort: Effort,
    ) -> Result<Outcome, Fault> {
        let (figures, tally) = match self {
            Self::Nothing => {
                let Memory { resident, private_dirty } = process.memory()?;
                let figures = vec![
                    // Pages of files may be shared and can go at any time, so the rest is what counts.
                    Figure {
                        row: "private and dirty at start (resident in all), KiB".to_owned(),
                        kind: Kind::Kibibytes,
                        values: vec![private_dirty / 1024.0, resident / 1024.0],
                    },
                    milliseconds(
                        "from start to the first connection, ms".to_owned(),
                        process.started_in.as_secs_f64(),
                    ),
                ];
                (figures, Tally::default())
            }
            Self::Connections(count) => {
                let count = effort.count(count).min(memory::connections_maximum());
                let [without, with] = memory::idle(process, network, count)?;
                let row = |kind, memory| {
                    bytes(format!("RSS bytes per idle connection {kind}, of {}", grouped(count)), memory)
                };
                let figures = vec![row("without subscription", without), row("with one subscription", with)];
                (figures, Tally::default())
            }
            Self::Subscriptions(count) => {
                let count = effort.count(count);
                let memory = memory::subscriptions(process, network, count)?;
                (
                    vec![bytes(format!("RSS bytes a subscription of {}", grouped(count)), memory)],
                    Tally::default(),
                )
            }
            Self::Retained(count) => {
                let count = effort.count(count);
                let (memory, tally) = memory::retained(process, network, count)?;
                let row = format!("RSS bytes a retained 64 B message of {}", grouped(count));
                (vec![bytes(row, memory)], tally)
            }
            Self::Offline(count) => {
                let count = effort.count(count);
                let (memory, tally) = memory::offline(process, network, count)?;
                let row = format!("RSS bytes an offline queued 64 B message of {}", grouped(count));
                (vec![bytes(row, memory)], tally)
            }
            Self::Stalled => {
                let (memory, tally) = memory::stalled(process, network)?;
                let row = "memory growth beside one stalled subscriber, 1 KiB QoS 0 flood, KiB".to_owned();
                (vec![kibibytes(row, memory)], tally)
            }
            Self::MixedSpeed => {
                let (memory, time, tally) = memory::mixed_speed(process, network)?;
                let figures = vec![
                    kibibytes(format!("memory growth, {name}, KiB"), memory),
                    milliseconds(format!("time for the quick ones, {name}, ms"), time.as_secs_f64()),
                ];
                (figures, tally)
            }
        };
        Ok(Outcome { figures, tally })
    }
}

fn bytes(row: String, memory: Memory) -> Figure {
    Figure { row, kind: Kind::Bytes, values: vec![memory.resident, memory.private_dirty] }
}

fn kibibytes(row: String, memory: Memory) -> Figure {
    Figure {
        row,
        kind: Kind::Kibibytes,
        values: vec![memory.resident / 1024.0, memory.private_dirty / 1024.0],
    }
}

fn milliseconds(row: String, seconds: f64) -> Figure {
    Figure { row, kind: Kind::Milliseconds, values: vec![seconds * 1e3] }
}
