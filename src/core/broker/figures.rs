//! What the broker counts and measures of itself: one table. `$SYS` is published from it, and whatever else shows
//! figures is to be made from it as well: see [`Broker::figures`].

use super::Broker;
use super::output::Statistics;
use super::persistence::StorageFigures;
use crate::base::memory::{self, Stored};
use crate::core::outbox::Left;

/// Something that is counted or measured, and what it is at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figure {
    /// Its name below `$SYS/broker/`. No two have the same.
    pub name: &'static str,
    /// Whether it only grows.
    pub kind: Kind,
    /// What it counts.
    pub unit: Unit,
    /// What it means, in one sentence.
    pub help: &'static str,
    /// What its averages for a minute are called below `$SYS/broker/load/`, if there are any.
    pub rate: Option<&'static str>,
    /// How many.
    pub value: u64,
}

/// How a figure changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It begins at zero with the broker and only grows.
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
    /// Millionths of seconds.
    Microseconds,
}

/// Where a figure is published under `$SYS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// By its name.
    Always,
    /// By its name, where there is a store.
    WithStore,
    /// Nowhere but in its averages.
    AsRate,
}

/// The most that there was at one time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Highest {
    clients: u64,
    memory: u64,
}

/// What the table is read from.
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

/// Each row: kind, unit, name, where it is shown, the name of its rate, help, and how it is read. What only a page of
/// help needs stands apart from the rest, so that a program without one does not hold it.
macro_rules! table {
    (
        $of:ident:
        $($kind:ident $unit:ident $name:literal $shown:ident $(rate $rate:literal)? $help:literal $read:expr;)*
    ) => {
        /// How many figures there are.
        pub(super) const COUNT: usize = [$($name),*].len();
        /// Their names, a line each.
        pub(super) const NAMES: &str = concat!($($name, "\n"),*);
        /// The names of their rates, a line each, which is empty where there is none.
        pub(super) const RATES: &str = concat!($($($rate,)? "\n"),*);
        /// How many rates there are.
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
        "Sessions whose clients are away."
        of.clients - of.connected;
    Gauge Count "clients/inactive" Always
        "Sessions whose clients are away, by an older name."
        of.clients - of.connected;
    Gauge Count "clients/maximum" Always
        "The most sessions that there were at one time."
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
        "Bytes of their Application Messages."
        of.stored.bytes;
    Counter Count "publish/messages/received" Always rate "publish/received"
        "PUBLISH packets that came from clients."
        of.statistics.received.publishes;
    Counter Count "publish/messages/sent" Always rate "publish/sent"
        "PUBLISH packets that were queued for clients, those sent again included."
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
        "Shared Subscriptions, each member counted."
        of.broker.routing.members as u64;
    Gauge Count "retained messages/count" Always
        "Retained messages."
        of.broker.retention.retained.len() as u64;
    Gauge Count "connections/socket/count" Always
        "Network Connections, those that end included."
        of.broker.connections.len() as u64;
    Counter Count "limits/refused" Always
        "Connections, subscriptions and messages that were refused because of a limit."
        of.statistics.refused;
    Counter Count "limits/surplus" Always
        "Subscriptions that matched a message beyond as many of their session as count."
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
        "What half of the commits have taken at most."
        of.storage.median;
    Gauge Microseconds "storage/commits/microseconds/p99" WithStore
        "What 99 of 100 commits have taken at most."
        of.storage.percentile_99;
    Gauge Microseconds "storage/commits/microseconds/maximum" WithStore
        "What the longest commit has taken."
        of.storage.longest;
    Gauge Count "storage/queue/count" WithStore
        "Messages that are not durable yet."
        of.broker.persistence.journal.as_ref().map_or(0, |journal| journal.depth() as u64);
    Counter Count "storage/damaged/count" WithStore
        "Rows of the store that were found to be damaged."
        of.storage.damaged;
    Counter Count "storage/severed/count" WithStore
        "Commits that were lost with a part of the journal that was damaged."
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
    /// All figures of this moment; those of the store, if there is one. It looks at each connection.
    pub fn figures(&self) -> impl Iterator<Item = Figure> + use<> {
        let highest = self.system.as_ref().map_or_else(Highest::default, |system| system.highest);
        let has_store = self.persistence.journal.is_some();
        let all = ALL.into_iter().zip(SHOWN).zip(self.read_figures(self.highest(highest)));
        let there = all.filter(move |((_, shown), _)| has_store || *shown != Shown::WithStore);
        there.map(|((figure, _), value)| Figure { value, ..figure })
    }

    /// What the figures are at this moment, in the order of their names.
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

    /// The most that there was at one time, this moment included.
    pub(super) fn highest(&self, before: Highest) -> Highest {
        Highest {
            clients: before.clients.max(self.clients.directory.len() as u64),
            memory: before.memory.max(self.held() as u64),
        }
    }

    /// What the sockets of all clients have not taken. A look at each connection now and then is less than a sum that
    /// every packet would have to keep.
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
    fn no_name_stands_twice_and_each_row_says_what_it_means() {
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
    fn the_lists_that_stand_apart_have_the_order_of_the_table() {
        assert!(NAMES.lines().eq(ALL.iter().map(|figure| figure.name)));
        assert!(RATES.lines().eq(ALL.iter().map(|figure| figure.rate.unwrap_or_default())));
        assert!(UNITS.into_iter().eq(ALL.iter().map(|figure| figure.unit)));
    }
}
