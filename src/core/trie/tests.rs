//! Tests of the trie against the naive matcher, with tables, lists of operations and hostile depths.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::protocol::topic::{LENGTH_MAXIMUM, TopicFilter, TopicName};

fn matching(trie: &Trie<u32>, name: &str) -> Vec<String> {
    let mut found = Vec::new();
    trie.matches(TopicName::trusted(name), &mut found);
    let mut patterns: Vec<_> = found.into_iter().map(|filter| trie.pattern(filter)).collect();
    patterns.sort();
    patterns
}

fn trie_of(patterns: &[&str]) -> Trie<u32> {
    let mut trie = Trie::new();
    for (value, pattern) in (0..).zip(patterns) {
        trie.insert(pattern, value);
        trie.check_invariants();
    }
    trie
}

fn assert_empty(trie: &mut Trie<u32>) {
    let empty = Trie::<u32>::new();
    tighten(trie);
    trie.check_invariants();
    assert_eq!(
        (trie.len(), trie.node_count(), trie.memory()),
        (empty.len(), empty.node_count(), empty.memory())
    );
}

/// A pattern, names that it matches, and names that it does not match.
type Example = (&'static str, &'static [&'static str], &'static [&'static str]);

/// The examples of the standards, and more.
const EXAMPLES: &[Example] = &[
    (
        "sport/tennis/player1/#",
        &["sport/tennis/player1", "sport/tennis/player1/ranking", "sport/tennis/player1/score/wimbledon"],
        &["sport/tennis", "sport/tennis/player10", "sport/tennis/player2/ranking"],
    ),
    ("sport/#", &["sport", "sport/", "sport//", "sport/tennis"], &["sports", "/sport", "Sport"]),
    ("#", &["a", "/", "a/b/c", "//"], &["$SYS", "$SYS/a", "$"]),
    (
        "sport/tennis/+",
        &["sport/tennis/player1", "sport/tennis/player2", "sport/tennis/"],
        &["sport/tennis/player1/ranking", "sport/tennis"],
    ),
    ("sport/+", &["sport/", "sport/tennis"], &["sport", "sport//"]),
    ("+", &["finance", "é"], &["/finance", "finance/", "$SYS", "/"]),
    ("+/+", &["/finance", "finance/", "/"], &["finance", "//", "$SYS/a"]),
    ("/+", &["/finance", "/"], &["finance", "//", "/finance/a"]),
    ("+/tennis/#", &["sport/tennis", "/tennis/a/b"], &["tennis", "$sport/tennis"]),
    ("sport/+/player1", &["sport/tennis/player1", "sport//player1"], &["sport/player1", "sport/a/b/player1"]),
    ("$SYS/#", &["$SYS", "$SYS/", "$SYS/a/b"], &["SYS/a", "$SYSTEM"]),
    ("$SYS/monitor/+", &["$SYS/monitor/Clients"], &["$SYS/monitor", "a/monitor/Clients"]),
    ("+/monitor/Clients", &["a/monitor/Clients"], &["$SYS/monitor/Clients"]),
    ("a/$b/+", &["a/$b/$c"], &["a/b/$c"]),
    ("+/#", &["a", "/", "a/b", "a/b/c"], &["$a", "$a/b"]),
    ("/#", &["/", "/a", "//"], &["a"]),
    ("/", &["/"], &["//", "a"]),
    ("//", &["//"], &["/", "///"]),
    ("+//#", &["a/", "a//", "/", "a//b"], &["a", "a/b"]),
    ("a//#", &["a/", "a//", "a//b"], &["a", "a/b"]),
    ("ACCOUNTS", &["ACCOUNTS"], &["Accounts", "ACCOUNTS/", "ACCOUNT", "ACCOUNTS2"]),
    ("Accounts payable", &["Accounts payable"], &["Accounts"]),
    ("a very long level of more than one node/+/z", &["a very long level of more than one node/y/z"], &["a"]),
];

#[test]
fn matching_follows_the_standard() {
    for &(pattern, matched, others) in EXAMPLES {
        let trie = trie_of(&[pattern]);
        // The same filter, with its label split into many nodes.
        let mut neighbours: Vec<&str> = (1..pattern.len()).filter_map(|at| pattern.get(..at)).collect();
        neighbours.push(pattern);
        let cut = trie_of(&neighbours);
        let reference = TopicFilter::new(pattern).unwrap();
        for (names, expected) in [(matched, true), (others, false)] {
            for &name in names {
                assert_eq!(reference.matches(TopicName::new(name).unwrap()), expected, "{pattern} {name}");
                assert_eq!(matching(&trie, name) == [pattern], expected, "{pattern} {name}");
                assert_eq!(
                    matching(&cut, name).iter().any(|one| one == pattern),
                    expected,
                    "{pattern} {name}"
                );
            }
        }
    }
}

#[test]
fn all_matching_filters_are_found_once() {
    let trie = trie_of(&["#", "+/#", "a/#", "a/b/#", "a/b", "a/+", "+/b", "+/+", "a/b/c", "a/bc", "a/+/#"]);
    let all = ["#", "+/#", "+/+", "+/b", "a/#", "a/+", "a/+/#", "a/b", "a/b/#"];
    assert_eq!(matching(&trie, "a/b"), all);
    assert_eq!(matching(&trie, "a"), ["#", "+/#", "a/#"]);
    assert_eq!(matching(&trie, "$a/b"), [""; 0]);
}

#[test]
fn the_last_value_takes_the_place_of_a_removed_one() {
    let mut trie = Trie::new();
    let filter = trie.insert("a", 1);
    for value in 2..=40 {
        assert_eq!(trie.insert("a", value), filter);
    }
    assert_eq!(trie.values(filter), (1..=40).collect::<Vec<_>>());
    assert_eq!(trie.remove(filter, 1), Some(2));
    assert_eq!(trie.remove(filter, 39), None);
    assert_eq!(trie.values(filter)[..3], [1, 40, 3]);
    trie.values_mut(filter)[1] = 7;
    assert_eq!(trie.values(filter)[..3], [1, 7, 3]);
    assert_eq!(trie.len(), 39);
    while trie.remove(filter, 0).is_some() {
        trie.check_invariants();
    }
    assert_eq!((trie.values(filter), trie.find("a")), (&[][..], None));
    assert_empty(&mut trie);
}

#[test]
fn the_generation_counts_every_change() {
    let mut trie = Trie::new();
    let mut last = trie.generation();
    let mut changed = |trie: &Trie<u32>| std::mem::replace(&mut last, trie.generation()) != trie.generation();
    let filter = trie.insert("a/b", 1);
    assert!(changed(&trie));
    trie.insert("a/b", 2);
    assert!(changed(&trie));
    trie.values_mut(filter)[0] = 3;
    assert!(changed(&trie));
    assert_eq!(trie.remove(filter, 2), None);
    assert!(!changed(&trie));
    assert_eq!(trie.remove(filter, 0), Some(3));
    assert!(changed(&trie));
    assert_eq!((trie.find("a/b"), trie.find("a"), trie.find("a/b/c")), (Some(filter), None, None));
    assert!(!changed(&trie));
}

#[test]
fn a_chain_is_one_node() {
    let mut trie = trie_of(&["site/17/device/004711/temperature"]);
    assert_eq!(trie.node_count(), 2);
    let filter = trie.insert("site/17/device/004811/#", 1);
    assert_eq!(trie.node_count(), 4);
    trie.remove(filter, 0);
    assert_eq!(trie.node_count(), 2);
    trie.check_invariants();
}

#[test]
fn a_node_may_have_a_child_for_every_byte() {
    let mut trie = Trie::new();
    let patterns: Vec<String> = (1..=0x10_FFFF_u32)
        .step_by(257)
        .filter_map(char::from_u32)
        .map(|level| format!("a/{level}"))
        .collect();
    let valid: Vec<&String> = patterns.iter().filter(|one| TopicFilter::new(one).is_ok()).collect();
    let filters: Vec<FilterId> = (0..).zip(&valid).map(|(value, one)| trie.insert(one, value)).collect();
    trie.check_invariants();
    for (filter, pattern) in filters.iter().zip(&valid) {
        assert_eq!(trie.pattern(*filter), ***pattern);
        if !pattern.contains(['+', '#']) {
            assert!(matching(&trie, pattern).contains(pattern));
        }
    }
    for filter in filters {
        assert!(trie.remove(filter, 0).is_some());
    }
    assert_empty(&mut trie);
}

/// Filters of the greatest length, alone and among others that share all but their ends.
#[test]
fn deep_filters_cost_no_stack() {
    let slashes = "/".repeat(LENGTH_MAXIMUM);
    let pluses = "+/".repeat(LENGTH_MAXIMUM / 2) + "+";
    let hash = "+/".repeat(LENGTH_MAXIMUM / 2) + "#";
    let mut trie = trie_of(&[&slashes, &pluses, &hash]);
    let levels = LENGTH_MAXIMUM / 2 + 1;
    for (name, expected) in [
        (&slashes, vec![&hash, &slashes]),
        (&"a/".repeat(levels - 1), vec![&hash, &pluses]),
        (&"/".repeat(levels - 2), vec![&hash]),
        (&"a/".repeat(levels - 3), vec![]),
    ] {
        // Without the texts, which would fill the screen.
        assert!(matching(&trie, name).iter().eq(expected), "{} bytes", name.len());
    }
    // One node for each level, each with a value and a `+` edge.
    for length in (1..500).rev() {
        trie.insert(&"/".repeat(length), 3);
        trie.insert(&("/".repeat(length) + "+"), 4);
    }
    trie.check_invariants();
    assert_eq!(matching(&trie, &"/".repeat(400)).len(), 2);
    let mut filters = Vec::new();
    for length in 1..500 {
        trie.matches(TopicName::trusted(&"/".repeat(length)), &mut filters);
    }
    filters.extend([&slashes, &pluses, &hash].map(|pattern| trie.find(pattern).unwrap()));
    for filter in filters {
        trie.remove(filter, 0);
    }
    trie.check_invariants();
    assert_eq!(trie.len(), 0);
    assert_empty(&mut trie);
}

/// Every combination of `a` and `+` in a dozen levels: each is found once, and the walk has room for all of them.
#[test]
fn many_wildcards_find_each_filter_once() {
    let mut trie = Trie::new();
    for choice in 0..4096_u32 {
        let levels: Vec<&str> = (0..12).map(|bit| if choice >> bit & 1 == 0 { "a" } else { "+" }).collect();
        trie.insert(&levels.join("/"), choice);
    }
    trie.check_invariants();
    let found = matching(&trie, "a/a/a/a/a/a/a/a/a/a/a/a");
    assert_eq!(found.len(), 4096);
    assert!(found.is_sorted_by(|one, next| one < next));
    assert_eq!(matching(&trie, "a/a/a/b/a/a/a/a/a/a/a/a").len(), 2048);
}

/// Releases memory, a little at a time.
fn tighten(trie: &mut Trie<u32>) {
    while trie.is_loose() {
        assert!((1..=6).contains(&trie.tighten(3)));
        trie.check_invariants();
    }
}

#[test]
fn memory_comes_back_although_one_late_filter_stays() {
    let mut trie = Trie::new();
    let filters: Vec<FilterId> =
        (0..2000).map(|value| trie.insert(&format!("level/{value}"), value)).collect();
    let late = trie.insert("a label that is too long for its node", 1);
    let full = trie.memory();
    for filter in filters {
        assert!(trie.remove(filter, 0).is_some());
    }
    trie.check_invariants();
    assert_eq!(trie.node_count(), 2);
    assert_eq!(matching(&trie, "a label that is too long for its node").len(), 1);
    tighten(&mut trie);
    let early = trie.insert("low slots are taken first", 2);
    assert_eq!(trie.remove(late, 0), Some(1));
    tighten(&mut trie);
    assert!(trie.memory() < full / 100, "{} of {full}", trie.memory());
    assert_eq!(trie.remove(early, 0), Some(2));
    assert_empty(&mut trie);
}

#[derive(Clone, Debug)]
enum Operation {
    Insert(String),
    /// Removes the first value of one of the filters.
    Remove(usize),
    Match(String),
}

fn level() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => proptest::sample::select(vec!["", "a", "b", "ab", "aa", "é", "è", "$", "$a"]).prop_map(String::from),
        1 => Just("a label of such a length has".to_owned()),
        1 => Just("a label of such a length has an end".to_owned()),
    ]
}

fn name() -> impl Strategy<Value = String> {
    prop::collection::vec(level(), 1..6)
        .prop_map(|levels| levels.join("/"))
        .prop_filter("a Topic Name is not empty", |name| !name.is_empty())
}

fn pattern() -> impl Strategy<Value = String> {
    let wanted = prop_oneof![3 => level(), 2 => Just("+".to_owned())];
    (prop::collection::vec(wanted, 0..6), prop::bool::weighted(0.3))
        .prop_map(|(mut levels, hash)| {
            if hash {
                levels.push("#".to_owned());
            }
            levels.join("/")
        })
        .prop_filter("a Topic Filter is not empty", |pattern| !pattern.is_empty())
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        4 => pattern().prop_map(Operation::Insert),
        3 => any::<usize>().prop_map(Operation::Remove),
        2 => name().prop_map(Operation::Match),
    ]
}

/// The expected content of the trie: each filter with its number and values.
type Model = BTreeMap<String, (FilterId, Vec<u32>)>;

fn apply(operation: Operation, value: u32, trie: &mut Trie<u32>, model: &mut Model) {
    match operation {
        Operation::Insert(pattern) => {
            let filter = trie.insert(&pattern, value);
            let entry = model.entry(pattern).or_insert((filter, Vec::new()));
            assert_eq!(entry.0, filter, "a filter with values keeps its number");
            entry.1.push(value);
        }
        Operation::Remove(which) => {
            let Some(pattern) = model.keys().nth(which % model.len().max(1)).cloned() else {
                return;
            };
            let (filter, values) = model.get_mut(&pattern).unwrap();
            let position = which % values.len();
            let value = values.swap_remove(position);
            assert_eq!(trie.remove(*filter, position), Some(value));
            if values.is_empty() {
                assert_eq!(trie.find(&pattern), None);
                model.remove(&pattern);
            }
        }
        Operation::Match(name) => {
            let name = TopicName::new(&name).unwrap();
            let expected: Vec<String> =
                model.keys().filter(|one| TopicFilter::new(one).unwrap().matches(name)).cloned().collect();
            assert_eq!(matching(trie, name.as_str()), expected, "{name}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_agrees_with_a_list_of_filters(
        operations in prop::collection::vec(operation(), 1..120),
        names in prop::collection::vec(name(), 1..20),
    ) {
        let mut trie = Trie::new();
        let mut model = Model::new();
        for (value, operation) in (0..).zip(operations) {
            apply(operation, value, &mut trie, &mut model);
            trie.check_invariants();
            assert_eq!(trie.len(), model.values().map(|(_, values)| values.len()).sum::<usize>());
        }
        for (pattern, (filter, values)) in &model {
            assert_eq!((trie.pattern(*filter), trie.find(pattern)), (pattern.clone(), Some(*filter)));
            assert_eq!(trie.values(*filter), values);
        }
        for name in names {
            apply(Operation::Match(name), 0, &mut trie, &mut model);
        }
        while !model.is_empty() {
            apply(Operation::Remove(trie.memory()), 0, &mut trie, &mut model);
            trie.check_invariants();
        }
        assert_empty(&mut trie);
    }

    /// Filters that exist from the first step of a search to its last are found once, whatever comes and goes in
    /// between; others are found at most once.
    #[test]
    fn a_search_in_steps_finds_filters_that_stay(
        before in prop::collection::vec(pattern(), 1..60),
        name in name(),
        budget in 1_usize..4,
        between in prop::collection::vec(prop::collection::vec(operation(), 0..6), 0..40),
    ) {
        let mut trie = Trie::new();
        let mut model = Model::new();
        for (value, pattern) in (0..).zip(before) {
            apply(Operation::Insert(pattern), value, &mut trie, &mut model);
        }
        let name = TopicName::new(&name).unwrap();
        let matches = |pattern: &String| TopicFilter::new(pattern).unwrap().matches(name);
        let mut staying: Vec<String> = model.keys().filter(|&one| matches(one)).cloned().collect();
        let (mut found, mut rest, mut between) = (Vec::new(), None, between.into_iter());
        for _ in 0..10_000 {
            let mut filters = Vec::new();
            rest = trie.search(name, rest, &mut { budget }, &mut filters);
            // Their numbers are valid until the trie changes.
            found.extend(filters.into_iter().map(|filter| trie.pattern(filter)));
            if rest.is_none() {
                break;
            }
            for operation in between.next().unwrap_or_default() {
                apply(operation, 7, &mut trie, &mut model);
                staying.retain(|pattern| model.contains_key(pattern));
            }
        }
        prop_assert!(rest.is_none(), "it ends");
        let count = found.len();
        found.sort();
        found.dedup();
        prop_assert_eq!(found.len(), count, "each is found once");
        prop_assert!(found.iter().all(matches));
        prop_assert!(staying.iter().all(|pattern| found.contains(pattern)), "{:?} of {:?}", found, staying);
    }
}
