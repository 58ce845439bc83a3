//! The body of the fuzz target for the trie, in the library so that ordinary tests run it, too: a list of operations on
//! a trie and on a map of filters whose matches are found by trying each. It panics if they differ.

use std::collections::BTreeMap;

use super::{FilterId, Trie};
use crate::base::fuzzing::Input;
use crate::protocol::topic::{TopicFilter, TopicName};

/// The values of each filter, and its name in the trie.
type Model = BTreeMap<String, (FilterId, Vec<u32>)>;

/// Runs the operations in `data`: filters to insert and to remove, and topics to match.
pub fn operate(data: &[u8]) {
    let mut input = Input::new(data);
    let mut trie = Trie::new();
    let mut model = Model::new();
    let mut next_value = 0;
    while !input.is_empty() {
        match input.below(8) {
            0..=2 => insert(&mut input, &mut trie, &mut model, &mut next_value),
            3 | 4 => remove(&mut input, &mut trie, &mut model),
            _ => matches(&mut input, &trie, &model),
        }
        trie.check_invariants();
        assert_eq!(trie.len(), model.values().map(|(_, values)| values.len()).sum::<usize>());
    }
    for (pattern, (filter, values)) in &model {
        assert_eq!((trie.find(pattern), trie.values(*filter)), (Some(*filter), values.as_slice()));
        assert_eq!(&trie.pattern(*filter), pattern);
    }
    for (filter, values) in model.into_values() {
        values.iter().rev().for_each(|value| {
            assert_eq!(trie.remove(filter, trie.values(filter).len() - 1), Some(*value));
        });
    }
    while trie.is_loose() {
        assert_ne!(trie.tighten(2), 0);
        trie.check_invariants();
    }
    trie.check_invariants();
    assert_eq!((trie.len(), trie.node_count()), (0, 1), "a trie without filters is its root");
    assert_eq!(trie.memory(), Trie::<u32>::new().memory(), "and takes no more than a new one");
}

fn insert(input: &mut Input<'_>, trie: &mut Trie<u32>, model: &mut Model, next_value: &mut u32) {
    let text = input.topic();
    let Ok(filter) = TopicFilter::new(&text) else { return };
    let generation = trie.generation();
    let id = trie.insert(filter.pattern(), *next_value);
    assert_ne!(trie.generation(), generation);
    let (known, values) = model.entry(filter.pattern().to_owned()).or_insert((id, Vec::new()));
    assert_eq!(*known, id, "a filter keeps its name while it has values");
    values.push(*next_value);
    *next_value += 1;
}

/// Removes one value of one filter, after trying to remove one that does not exist.
fn remove(input: &mut Input<'_>, trie: &mut Trie<u32>, model: &mut Model) {
    let chosen = input.below(256) % model.len().max(1);
    let Some((pattern, (filter, values))) = model.iter_mut().nth(chosen) else { return };
    let pattern = pattern.clone();
    assert_eq!(trie.remove(*filter, values.len()), None);
    let position = input.below(256) % values.len();
    let value = values.swap_remove(position);
    assert_eq!(trie.remove(*filter, position), Some(value));
    assert_eq!(trie.values(*filter), values.as_slice(), "the last value takes the place of the removed one");
    // Memory may be released between any two operations.
    trie.tighten(position);
    if values.is_empty() {
        model.remove(&pattern);
        assert_eq!(trie.find(&pattern), None);
    }
}

fn matches(input: &mut Input<'_>, trie: &Trie<u32>, model: &Model) {
    let text = input.topic();
    let Ok(name) = TopicName::new(&text) else { return };
    let mut found = Vec::new();
    trie.matches(name, &mut found);
    found.sort();
    // The pattern of a Shared Subscription may look like another kind of filter, so each is parsed as a pattern.
    let is_match = |pattern: &str| {
        TopicFilter::new(&format!("$share/g/{pattern}")).is_ok_and(|filter| filter.matches(name))
    };
    let mut expected: Vec<FilterId> =
        model.iter().filter(|(pattern, _)| is_match(pattern)).map(|(_, (filter, _))| *filter).collect();
    expected.sort();
    assert_eq!(found, expected, "{name}");
}

#[cfg(test)]
mod tests {
    #[test]
    fn any_operations_leave_the_trie_a_map_of_filters() {
        crate::base::fuzzing::try_out("trie", 400, super::operate);
    }
}
