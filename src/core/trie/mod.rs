//! The compressed trie of subscriptions: which Topic Filters match a Topic Name.
//!
//! It is a radix tree over the bytes of the filters' patterns: a chain of single children is one node, and a node's
//! label may hold any bytes, wildcards included, because `+` and `#` never stand for themselves. All nodes are in one
//! arena and know their parents. The values of a filter are opaque to the trie.
//!
//! It may know `topic`, `memory` and `std` only.

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod listing;
mod matching;
mod node;
mod pool;
#[cfg(test)]
mod tests;

use node::{Body, Child, INLINE_MAXIMUM, Label, Node};
use pool::Pool;

pub use matching::Search;

/// The root has an empty label and no values, and is its own parent.
const ROOT: u32 = 0;

/// The node of one filter. It names the filter as long as that has values; after that, the number is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilterId(u32);

/// Filters and their values, found by Topic Name. Every operation is a loop: the depth of a filter costs no stack.
pub struct Trie<T> {
    nodes: Pool<Node<T>>,
    long_labels: Pool<Box<[u8]>>,
    /// The bytes in the blocks that nodes and long labels own.
    blocks: usize,
    values: usize,
    generation: u64,
}

impl<T> Default for Trie<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Trie<T> {
    /// Makes a trie without filters.
    pub fn new() -> Self {
        let mut trie =
            Self { nodes: Pool::new(), long_labels: Pool::new(), blocks: 0, values: 0, generation: 0 };
        let label = trie.new_label(&[]);
        trie.nodes.insert(Node { parent: ROOT, label, body: Body::Fork(Vec::new()) });
        trie
    }

    /// Appends `value` to the values of the filter `pattern`, which is a
    /// [`crate::protocol::topic::TopicFilter::pattern`] and so never empty.
    pub fn insert(&mut self, pattern: &str, value: T) -> FilterId {
        assert!(!pattern.is_empty(), "a filter has at least one character [MQTT-4.7.3-1]");
        self.values += 1;
        self.generation += 1;
        let mut at = ROOT;
        let mut rest = pattern.as_bytes();
        while let Some(&key) = rest.first() {
            let Some(child) = self.nodes[at].body.child(key) else {
                let label = self.new_label(rest);
                let leaf = self.nodes.insert(Node { parent: at, label, body: Body::Leaf(value) });
                self.change(at, |body| body.add_child(Child::new(key, leaf)));
                return FilterId(leaf);
            };
            let label = self.label(child);
            let common = label.iter().zip(rest).take_while(|(one, other)| one == other).count();
            at = if common < label.len() { self.split(child, common) } else { child };
            rest = rest.get(common..).unwrap_or_default();
        }
        self.change(at, |body| body.add_value(value));
        FilterId(at)
    }

    /// Returns the filter `pattern`, if it has values.
    pub fn find(&self, pattern: &str) -> Option<FilterId> {
        let mut at = ROOT;
        let mut rest = pattern.as_bytes();
        while let Some(&key) = rest.first() {
            at = self.nodes[at].body.child(key)?;
            rest = rest.strip_prefix(self.label(at))?;
        }
        self.nodes[at].body.has_values().then_some(FilterId(at))
    }

    /// Returns the values of `filter`, a new one after the others; empty when the last one has been removed.
    pub fn values(&self, filter: FilterId) -> &[T] {
        self.nodes.find(filter.0).map_or(&[], |node| node.body.values())
    }

    /// Returns the values of `filter`, to be replaced in place; the generation changes.
    pub fn values_mut(&mut self, filter: FilterId) -> &mut [T] {
        self.generation += 1;
        self.nodes.find_mut(filter.0).map_or(&mut [], |node| node.body.values_mut())
    }

    /// Removes and returns the value at `position` among those of `filter`. The last value takes its place, so the cost
    /// does not depend on their number. Without values the filter is removed.
    pub fn remove(&mut self, filter: FilterId, position: usize) -> Option<T> {
        self.nodes.find(filter.0)?;
        let value = self.change(filter.0, |body| body.take_value(position))?;
        self.values -= 1;
        self.generation += 1;
        self.tidy(filter.0);
        Some(value)
    }

    /// Returns the text of `filter`, which must have values.
    pub fn pattern(&self, filter: FilterId) -> String {
        String::from_utf8(self.path(filter.0)).expect("a filter with values was inserted as text")
    }

    /// Returns the text from the root to a node, including its label.
    fn path(&self, mut at: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        while at != ROOT {
            bytes.extend(self.label(at).iter().rev());
            at = self.nodes[at].parent;
        }
        bytes.reverse();
        bytes
    }

    /// A number that changes whenever a result of [`Self::matches`] or [`Self::values`] may have changed.
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// The number of values of all filters.
    pub const fn len(&self) -> usize {
        self.values
    }

    /// Whether there is no filter.
    pub const fn is_empty(&self) -> bool {
        self.values == 0
    }

    /// The number of nodes, including the root.
    pub const fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// The bytes held, without what the allocator adds to each block. In constant time.
    pub const fn memory(&self) -> usize {
        size_of::<Self>() + self.nodes.memory() + self.long_labels.memory() + self.blocks
    }

    /// Whether many filters were removed and [`Self::tighten`] can release memory.
    pub fn is_loose(&self) -> bool {
        self.nodes.is_loose() || self.long_labels.is_loose()
    }

    /// Releases memory of removed filters, of at most `most` nodes and as many labels. Returns how many it was.
    pub fn tighten(&mut self, most: usize) -> usize {
        self.nodes.tighten(most) + self.long_labels.tighten(most)
    }

    /// Asserts that the whole structure is sound. Visits every node: for tests and simulation.
    pub fn check_invariants(&self) {
        self.nodes.check_invariants();
        self.long_labels.check_invariants();
        let (mut nodes, mut values, mut blocks, mut long_labels) = (0, 0, 0, 0);
        let mut pending = vec![ROOT];
        while let Some(at) = pending.pop() {
            let node = &self.nodes[at];
            node.body.check_invariants(at == ROOT);
            nodes += 1;
            values += node.body.values().len();
            blocks += node.body.memory();
            if let Label::Long(long) = node.label {
                long_labels += 1;
                blocks += self.long_labels[long].len();
                assert!(self.long_labels[long].len() > INLINE_MAXIMUM, "a short label is in its node");
            }
            for child in node.body.children() {
                assert_eq!(self.nodes[child.node()].parent, at, "a child knows its parent");
                assert_eq!(
                    self.label(child.node()).first(),
                    Some(&child.key),
                    "an edge knows its first byte"
                );
                pending.push(child.node());
            }
        }
        assert!(self.label(ROOT).is_empty() && !self.nodes[ROOT].body.has_values(), "the root is no filter");
        assert_eq!(nodes, self.nodes.len(), "every node is reached");
        assert_eq!(values, self.values, "values are counted");
        assert_eq!(blocks, self.blocks, "memory is counted");
        assert_eq!(long_labels, self.long_labels.len(), "every long label has its node");
    }

    /// Makes a node for the first `length` bytes of the label of `lower`, which keeps the rest of the label and its
    /// number, because it is the node of its filter. The new node has one child.
    fn split(&mut self, lower: u32, length: usize) -> u32 {
        let label = self.label(lower).to_vec();
        let (upper_label, lower_label) = label.split_at(length);
        let parent = self.nodes[lower].parent;
        let label = self.new_label(upper_label);
        let upper = self.nodes.insert(Node { parent, label, body: Body::Fork(Vec::new()) });
        self.change(parent, |body| body.replace_child(Child::new(upper_label[0], upper)));
        self.change(upper, |body| body.add_child(Child::new(lower_label[0], lower)));
        self.nodes[lower].parent = upper;
        self.set_label(lower, lower_label);
        upper
    }

    /// Removes what is no longer needed after a value at `at` was removed: an empty node, then a fork with a single
    /// child. Nothing above that changes, because a fork had two children or more.
    fn tidy(&mut self, mut at: u32) {
        let node = &self.nodes[at];
        if !node.body.has_values() && node.body.children().is_empty() {
            at = self.detach(at);
        }
        let body = &self.nodes[at].body;
        if let ([child], false) = (body.children(), body.has_values() || at == ROOT) {
            self.merge(at, child.node());
        }
    }

    /// Removes a node without values and children. Returns its parent.
    fn detach(&mut self, at: u32) -> u32 {
        let key = self.label(at)[0];
        let parent = self.discard(at);
        self.change(parent, |body| body.remove_child(key));
        parent
    }

    /// Joins `upper` with its only child `lower`, which keeps its number.
    fn merge(&mut self, upper: u32, lower: u32) {
        let label = [self.label(upper), self.label(lower)].concat();
        let parent = self.discard(upper);
        self.change(parent, |body| body.replace_child(Child::new(label[0], lower)));
        self.nodes[lower].parent = parent;
        self.set_label(lower, &label);
    }

    /// Removes a node from the arena. Returns its parent, whose edge still leads to it.
    fn discard(&mut self, at: u32) -> u32 {
        let node = self.nodes.remove(at);
        self.blocks -= node.body.memory();
        self.drop_label(&node.label);
        node.parent
    }

    fn label(&self, at: u32) -> &[u8] {
        match &self.nodes[at].label {
            Label::Inline { length, bytes } => bytes.split_at(usize::from(*length)).0,
            Label::Long(long) => &self.long_labels[*long],
        }
    }

    fn set_label(&mut self, at: u32, bytes: &[u8]) {
        let label = self.new_label(bytes);
        let former = std::mem::replace(&mut self.nodes[at].label, label);
        self.drop_label(&former);
    }

    fn new_label(&mut self, bytes: &[u8]) -> Label {
        let mut inline = [0; INLINE_MAXIMUM];
        if let (Some(place), Ok(length)) = (inline.get_mut(..bytes.len()), u8::try_from(bytes.len())) {
            place.copy_from_slice(bytes);
            return Label::Inline { length, bytes: inline };
        }
        self.blocks += bytes.len();
        Label::Long(self.long_labels.insert(bytes.into()))
    }

    fn drop_label(&mut self, label: &Label) {
        if let Label::Long(long) = label {
            self.blocks -= self.long_labels.remove(*long).len();
        }
    }

    /// Changes a body and updates the count of its memory.
    fn change<R>(&mut self, at: u32, how: impl FnOnce(&mut Body<T>) -> R) -> R {
        let body = &mut self.nodes[at].body;
        self.blocks -= body.memory();
        let result = how(body);
        self.blocks += body.memory();
        result
    }
}
