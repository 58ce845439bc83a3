//! The filters of a trie, for inspection.

use super::{FilterId, ROOT, Trie};

impl<T> Trie<T> {
    /// Returns the first filters in the order of their bytes, at most `most`.
    pub fn filters(&self, most: usize) -> Vec<FilterId> {
        let mut found = Vec::new();
        let mut pending = vec![ROOT];
        while let Some(at) = pending.pop()
            && found.len() < most
        {
            let body = &self.nodes[at].body;
            if body.has_values() {
                found.push(FilterId(at));
            }
            pending.extend(body.children().iter().rev().map(|child| child.node()));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_listed_in_order_and_at_most_as_many_as_asked_for() {
        let mut trie = Trie::new();
        for pattern in ["b", "a/b", "a", "a/#", "+", "ab"] {
            trie.insert(pattern, ());
        }
        let list =
            |most| trie.filters(most).into_iter().map(|filter| trie.pattern(filter)).collect::<Vec<_>>();
        assert_eq!(list(9), ["+", "a", "a/#", "a/b", "ab", "b"]);
        assert_eq!(list(2), ["+", "a"]);
        assert!(Trie::<()>::new().filters(9).is_empty());
    }
}
