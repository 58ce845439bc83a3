use super::*;
use crate::topic::TopicName;

fn matching(trie: &Trie<u32>, name: &str) -> Vec<String> {
    let mut found = Vec::new();
    trie.matches(TopicName::new(name).unwrap(), &mut found);
    let mut patterns: Vec<_> = found.into_iter().map(|filter| trie.pattern(filter)).collect();
    patterns.sort();
    patterns
}

#[test]
fn smoke() {
    let mut trie = Trie::new();
    trie.insert("a/b", 1);
    trie.insert("a/+", 2);
    trie.insert("a/b/#", 3);
    trie.check_invariants();
    assert_eq!(matching(&trie, "a/b"), ["a/+", "a/b", "a/b/#"]);
}
