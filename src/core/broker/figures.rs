//! The table of everything that the broker counts and measures about itself. `$SYS` is published from it, and anything
//! else that shows figures must use it, too: see [`Broker::figures`].

use super::Broker;
use super::output::Statistics;
use super::persistence::StorageFigures;
use crate::base::memory::{self, Stored};
use crate::core::outbox::Left;

/// Something that is counted or measured, with its current value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figure {
    /// Its name below `$SYS/broker/`. Unique.
    pub name: &'static str,
    /// How it changes.
    pub kind: Kind,
    /// What it counts.
    pub unit: Unit,
    /// What it means, in one sentence.
    pub help: &'static str,
    /// The name of its averages per minute below `$SYS/broker/load/`, if there are any.
    pub rate: Option<&'static str>,
    /// The current value.
    pub value: u64,
}

/// How a figure changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It starts at zero with the broker and only grows.
    Counter,
    /// It grows and shrinks.
    Gauge,
}

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// What its name says.
    Count,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
    /// Microseconds.
    Microseconds,
}

/// Where a figure is published under `$SYS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// By its name.
    Always,
    /// By its name, where there is a store.
    WithStore,
    /// Only by its averages.
    AsRate,
}

/// The highest values so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Highest {
    clients: u64,
    memory: u64,
}

/// The sources of the values.
struct Reading<'a> {
    broker: &'a Broker,
    statistics: &'a Statistics,
    storage: &'a StorageFigures,
    clients: u64,
    connected: u64,
    sent: u64,
    stored: Stored,
    left: Left,
    held: u64,
    highest: Highest,
}

/// Each row has the kind, unit and name, where it is shown, the name of its rate, help, and how its value is read. What
/// only a page with help needs is separate, so that a program without such a page does not contain it.
macro_rules! table {
    (
        $of:ident:
        $($kind:ident $unit:ident $name:literal $shown:ident $(rate $rate:literal)? $help:literal $read:expr;)*
    ) => {
        /// The number of figures.
        pub(super) const COUNT: usize = [$($name),*].len();
        /// Their names, one line each.
        pub(super) const NAMES: &str = concat!($($name, "\n"),*);
        /// The names of their rates, one line each; empty for a figure without a rate.
        pub(super) const RATES: &str = concat!($($($rate,)? "\n"),*);
        /// The number of rates.
        pub(super) const RATE_COUNT: usize = [$($($rate,)?)*].len();
        pub(super) const UNITS: [Unit; COUNT] = [$(Unit::$unit),*];
        pub(super) const SHOWN: [Shown; COUNT] = [$(Shown::$shown),*];

        const ALL: [Figure; COUNT] = [$(Figure {
            name: $name,
            kind: Kind::$kind,
            unit: Unit::$unit,
            help: $help,
            rate: unless_empty(concat!($($rate)?)),
            value: 0,
        }),*];

        fn read($of: &Reading<'_>) -> [u64; COUNT] {
            [$($read),*]
        }
    };
}

const fn unless_empty(text: &str) -> Option<&str> {
    if text.is_empty() { None } else { Some(text) }
}

table! { of:
    Gauge Seconds "uptime" Always
        "Time since the broker began."
        of.broker.clock.now.since(of.broker.clock.began).seconds();
    Gauge Count "clients/total" Always
        "Sessions, whether their clients are connected or not."
        of.clients;
    Gauge Count "clients/connected" Always
        "Clients that are connected."
        of.connected;
    Gauge Count "clients/active" Always
        "Clients that are connected, by an older name."
        of.connected;
    Gauge Count "clients/disconnected" Always
        "Sessions whose clients are disconnected."
        of.clients - of.connected;
    Gauge Count "clients/inactive" Always
        "Sessions whose clients are disconnected, by an older name."
        of.clients - of.connected;
    Gauge Count "clients/maximum" Always
        "The most sessions at one time."
        of.highest.clients;
    Counter Count "clients/expired" Always
        "Sessions that ended because their clients stayed away too long."
        of.statistics.sessions_expired;
    Counter Count "messages/received" Always rate "messages/received"
        "Packets that came from clients."
        of.statistics.packets_received;
    Counter Count "messages/sent" Always rate "messages/sent"
        "Packets that were queued for clients."
        of.sent;
    Gauge Count "messages/stored" Always
        "Messages that are held in memory, by an older name."
        of.stored.count;
    Gauge Count "store/messages/count" Always
        "Messages that are held in memory: retained, queued or in flight."
        of.stored.count;
    Gauge Bytes "store/messages/bytes" Always
        "Bytes of the Application Messages that are held in memory."
        of.stored.bytes;
    Counter Count "publish/messages/received" Always rate "publish/received"
        "PUBLISH packets that came from clients."
        of.statistics.received.publishes;
    Counter Count "publish/messages/sent" Always rate "publish/sent"
        "PUBLISH packets that were queued for clients, including those sent again."
        of.statistics.sent.publishes;
    Counter Count "publish/messages/dropped" Always rate "publish/dropped"
        "Copies of messages that were dropped because an outbox or a queue was full."
        of.statistics.dropped;
    Counter Bytes "publish/bytes/received" Always
        "Bytes of the Application Messages that came from clients."
        of.statistics.received.publish_bytes;
    Counter Bytes "publish/bytes/sent" Always
        "Bytes of the Application Messages that were queued for clients."
        of.statistics.sent.publish_bytes;
    Counter Bytes "bytes/received" Always rate "bytes/received"
        "Bytes that came from clients."
        of.statistics.received.bytes;
    Counter Bytes "bytes/sent" Always rate "bytes/sent"
        "Bytes that sockets have taken for clients."
        of.statistics.sent.bytes;
    Gauge Count "packet/out/count" Always
        "Packets that sockets have not taken yet."
        of.left.packets;
    Gauge Bytes "packet/out/bytes" Always
        "Bytes that sockets have not taken yet."
        of.left.bytes;
    Gauge Count "subscriptions/count" Always
        "Subscriptions that are not shared."
        (of.broker.routing.trie.len() - of.broker.routing.groups.len()) as u64;
    Gauge Count "shared_subscriptions/count" Always
        "Members of Shared Subscriptions."
        of.broker.routing.members as u64;
    Gauge Count "retained messages/count" Always
        "Retained messages."
        of.broker.retention.retained.len() as u64;
    Gauge Count "connections/socket/count" Always
        "Network Connections, including those that are being closed."
        of.broker.connections.len() as u64;
    Counter Count "limits/refused" Always
        "Connections, subscriptions and messages that were refused because of a limit."
        of.statistics.refused;
    Counter Count "limits/surplus" Always
        "Subscriptions that matched a message beyond the limit for one session."
        of.statistics.surplus_matches;
    Gauge Bytes "heap/current" Always
        "Memory that the broker counts."
        of.held;
    Gauge Bytes "heap/maximum" Always
        "The most memory that the broker has counted at one time."
        of.highest.memory;
    Counter Bytes "storage/bytes/written" WithStore
        "Bytes that were written to the store."
        of.storage.bytes;
    Counter Count "storage/commits/count" WithStore
        "Commits of the store."
        of.storage.commits;
    Gauge Microseconds "storage/commits/microseconds/p50" WithStore
        "The longest time that the faster half of the commits took."
        of.storage.median;
    Gauge Microseconds "storage/commits/microseconds/p99" WithStore
        "The longest time that the fastest 99 of 100 commits took."
        of.storage.percentile_99;
    Gauge Microseconds "storage/commits/microseconds/maximum" WithStore
        "The longest time that a commit took."
        of.storage.longest;
    Gauge Count "storage/queue/count" WithStore
        "Messages that are not durable yet."
        of.broker.persistence.journal.as_ref().map_or(0, |journal| journal.depth() as u64);
    Counter Count "storage/damaged/count" WithStore
        "Rows of the store that were found to be damaged."
        of.storage.damaged;
    Counter Count "storage/severed/count" WithStore
        "Commits that were lost with a damaged part of the journal."
        of.storage.severed;
    Counter Count "storage/missing/count" WithStore
        "Copies that were not delivered because they are missing in the store, or damaged."
        of.statistics.missing;
    Counter Count "sockets" AsRate rate "sockets"
        "Network Connections that were accepted."
        of.statistics.accepted;
    Counter Count "connections" AsRate rate "connections"
        "CONNECT packets that came."
        of.statistics.connects;
}

impl Broker {
    /// Returns all figures with their current values; those of the store only if there is one. Visits each connection.
    pub fn figures(&self) -> impl Iterator<Item = Figure> + use<> {
        let highest = self.system.as_ref().map_or_else(Highest::default, |system| system.highest);
        let has_store = self.persistence.journal.is_some();
        let all = ALL.into_iter().zip(SHOWN).zip(self.read_figures(self.highest(highest)));
        let there = all.filter(move |((_, shown), _)| has_store || *shown != Shown::WithStore);
        there.map(|((figure, _), value)| Figure { value, ..figure })
    }

    /// Returns the current values, in the order of the table.
    pub(super) fn read_figures(&self, highest: Highest) -> [u64; COUNT] {
        let _entered = self.account.enter();
        let statistics = &self.output.statistics;
        read(&Reading {
            broker: self,
            statistics,
            storage: &self.persistence.figures,
            clients: self.clients.directory.len() as u64,
            connected: self.clients.connected as u64,
            sent: self.output.sender.packets + statistics.sent.publishes,
            stored: memory::stored(),
            left: self.left(),
            held: self.in_use() as u64,
            highest,
        })
    }

    /// Returns the highest values so far, including the current ones.
    pub(super) fn highest(&self, before: Highest) -> Highest {
        Highest {
            clients: before.clients.max(self.clients.directory.len() as u64),
            memory: before.memory.max(self.held() as u64),
        }
    }

    /// Returns what the sockets of all clients have not taken. Visiting each connection now and then costs less than a
    /// sum that every packet would have to update.
    fn left(&self) -> Left {
        let all = self.connections.iter().map(|(_, connection)| connection.outbox.left());
        all.fold(Left::default(), |sum, left| Left {
            packets: sum.packets + left.packets,
            bytes: sum.bytes + left.bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_each_row_has_a_meaning() {
        let names: BTreeSet<&str> = ALL.iter().map(|figure| figure.name).collect();
        let rates: BTreeSet<&str> = ALL.iter().filter_map(|figure| figure.rate).collect();
        assert_eq!((names.len(), rates.len()), (COUNT, RATE_COUNT));
        for (figure, shown) in ALL.iter().zip(SHOWN) {
            assert!(!figure.name.starts_with('/') && !figure.name.contains(['+', '#', '\n']), "{figure:?}");
            assert!(figure.help.ends_with('.') && !figure.help.contains('\n'), "{figure:?}");
            assert!(shown != Shown::AsRate || figure.rate.is_some(), "{figure:?} is shown nowhere");
            assert!(figure.rate.is_none() || figure.kind == Kind::Counter, "{figure:?} is not what grows");
        }
    }

    #[test]
    fn the_separate_lists_have_the_order_of_the_table() {
        assert!(NAMES.lines().eq(ALL.iter().map(|figure| figure.name)));
        assert!(RATES.lines().eq(ALL.iter().map(|figure| figure.rate.unwrap_or_default())));
        assert!(UNITS.into_iter().eq(ALL.iter().map(|figure| figure.unit)));
    }
}
