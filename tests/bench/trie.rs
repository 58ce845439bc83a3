//! The cost of a subscription in the trie, in bytes and in nanoseconds, from a thousand to a million of them.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::fs;
use std::hint::black_box;
use std::time::Instant;

use brooklet::core::trie::{FilterId, Trie};
use brooklet::protocol::topic::TopicName;

/// As large as the broker's entry for a subscriber.
type Subscriber = [u32; 3];

const KINDS: [&str; 5] = ["temperature", "humidity", "pressure", "battery/voltage", "state"];
const NAMES: usize = 10_000;
const ROUNDS: usize = 101;
/// Names that are timed together: so few that other processes seldom interrupt them.
const STRETCH: usize = 100;

/// A generator with a fixed seed, so that each run builds the same trie.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap_or(0) % limit
    }
}

/// Four of five filters are exact, the others have `+` or `#`.
fn filter(random: &mut Random, number: usize, count: usize) -> String {
    let (site, kind) = (random.below(count / 500 + 1), KINDS[random.below(KINDS.len())]);
    let device = number / 2;
    match random.below(100) {
        0..80 => format!("site/{site}/device/{device:06}/{kind}"),
        80..95 if number.is_multiple_of(2) => format!("site/{site}/device/{device:06}/+"),
        80..95 => format!("site/+/device/{device:06}/{kind}"),
        _ => format!("site/{site}/device/{device:06}/#"),
    }
}

/// A name that `filter` matches.
fn name(filter: &str) -> String {
    filter.replace('+', "7").replace('#', "signal")
}

/// Nanoseconds that `work` takes, divided by `count`.
fn time(count: usize, work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64() * 1e9 / count as f64
}

/// Resident memory of this process in bytes.
fn resident() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: usize = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * 4096
}

fn match_time(trie: &Trie<Subscriber>, names: &[String]) -> (f64, f64) {
    let names: Vec<_> = names.iter().filter_map(|name| TopicName::new(name).ok()).collect();
    let mut found = Vec::new();
    let mut matches = 0;
    let mut least = vec![f64::INFINITY; names.len().div_ceil(STRETCH)];
    for _ in 0..ROUNDS {
        matches = 0;
        for (least, names) in least.iter_mut().zip(names.chunks(STRETCH)) {
            *least = least.min(time(names.len(), || {
                for &name in names {
                    found.clear();
                    trie.matches(black_box(name), &mut found);
                    matches += black_box(&found).len();
                }
            }));
        }
    }
    let time = least.iter().sum::<f64>() / least.len() as f64;
    (time, matches as f64 / names.len() as f64)
}

fn run(count: usize) {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let filters: Vec<String> = (0..count).map(|number| filter(&mut random, number, count)).collect();
    let mut entries: Vec<(FilterId, Subscriber)> = Vec::with_capacity(count);
    // Touched before, so that only the trie adds to the resident memory.
    entries.resize_with(count, || (Trie::new().insert("a", ()), [1; 3]));
    entries.clear();
    let mut order: Vec<usize> = (0..count).collect();
    for at in (1..count).rev() {
        order.swap(at, random.below(at + 1));
    }

    let before = resident();
    let mut trie = Trie::new();
    let insert = time(count, || {
        for &number in &order {
            let subscriber = [u32::try_from(number).unwrap_or(0), 0, 0];
            entries.push((trie.insert(&filters[number], subscriber), subscriber));
        }
    });
    let grown = resident().saturating_sub(before) as f64 / count as f64;
    let held = trie.memory() as f64 / count as f64;
    let nodes = trie.node_count() as f64 / count as f64;

    let all: Vec<String> = (0..NAMES).map(|_| name(&filters[random.below(count)])).collect();
    let (five, _) = match_time(&trie, &all[..100]);
    let (spread, matches) = match_time(&trie, &all);

    let short: Vec<String> = (0..100).map(|number| format!("pump/{number}/state")).collect();
    let extra: Vec<FilterId> = short.iter().map(|name| trie.insert(name, [0; 3])).collect();
    let (three, _) = match_time(&trie, &short);
    for filter in extra {
        trie.remove(filter, 0);
    }

    let remove = time(count, || {
        for &(filter, _) in &entries {
            black_box(trie.remove(filter, 0));
        }
    });
    assert_eq!(trie.len(), 0);
    println!(
        "{count:>13} {held:>10.1} {grown:>10.1} {nodes:>10.2} {three:>10.0} {five:>10.0} {spread:>10.0} {matches:>10.2} \
         {insert:>10.0} {remove:>10.0}"
    );
}

fn main() {
    println!(
        "Columns 2 to 4 are for each subscription; times are in nanoseconds, those of matching the least."
    );
    println!(
        "Names: 100 of three levels, 100 of five levels, and 10,000 of five levels, which leave the caches.\n"
    );
    println!(
        "{:>13} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}",
        "subscriptions",
        "memory()",
        "resident",
        "nodes",
        "3 levels",
        "5 levels",
        "10k names",
        "matches",
        "insert",
        "remove"
    );
    for count in [1_000, 10_000, 100_000, 200_000, 1_000_000] {
        run(count);
    }
}
