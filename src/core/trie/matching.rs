//! The walk from a Topic Name to the filters that match it.
//!
//! The path of a node says how much of the name it covers, since `+` covers exactly one level. So a walk visits a node
//! at most once, whatever the filters are, and the ends of levels are determined only once.

use super::node::Body;
use super::{FilterId, ROOT, Trie};
use crate::base::memory;
use crate::protocol::topic::TopicName;

/// Names with more levels make the walk allocate.
const FEW: usize = 16;

impl<T> Trie<T> {
    /// Appends every filter that matches `name`, in no particular order.
    pub fn matches(&self, name: TopicName<'_>, into: &mut Vec<FilterId>) {
        let rest = self.search(name, None, &mut { usize::MAX }, into);
        assert!(rest.is_none(), "a search without a limit finds all");
    }

    /// Appends filters that match `name`, each once, and visits at most `budget` nodes, which are subtracted from
    /// `budget`. Returns what is left to search, if anything is. The search can be continued after the trie has
    /// changed: filters that exist all the time are found, others may or may not be.
    #[inline]
    pub fn search(
        &self,
        name: TopicName<'_>,
        rest: Option<Search>,
        budget: &mut usize,
        into: &mut Vec<FilterId>,
    ) -> Option<Search> {
        let mut walk = Walk {
            trie: self,
            name: name.as_str().as_bytes(),
            pending: Stack::new(),
            level_ends: Stack::new(),
            into,
        };
        let mut at = match rest {
            Some(rest) => {
                walk.restore(&rest);
                None
            }
            // A leading wildcard does not match a name that begins with `$` [MQTT-4.7.2-1].
            None if name.is_reserved() => walk.literal(&self.nodes[ROOT].body, 0),
            None => walk.branch(ROOT, 0),
        };
        while let Some(place) = at.or_else(|| walk.pending.pop()) {
            if *budget == 0 {
                return Some(walk.save(place));
            }
            *budget -= 1;
            at = walk.follow(place);
        }
        None
    }

    /// Finds the text that begins with `path` and continues with `key`. Returns a node and how much of its label comes
    /// before `key`.
    fn locate(&self, path: &[u8], key: u8) -> Option<(u32, u32)> {
        let (mut at, mut rest) = (ROOT, path);
        while let Some(&next) = rest.first() {
            at = self.nodes[at].body.child(next)?;
            let label = self.label(at);
            if let Some(after) = rest.strip_prefix(label) {
                rest = after;
                continue;
            }
            let tail = label.strip_prefix(rest)?;
            let offset = u32::try_from(rest.len()).ok()?;
            return (tail.first() == Some(&key)).then_some((at, offset));
        }
        Some((self.nodes[at].body.child(key)?, 0))
    }
}

/// A node whose label is to be compared next, from an offset on, and how many bytes of the name are covered before
/// that.
#[derive(Clone, Copy, Default)]
struct Place {
    node: u32,
    /// Zero, unless the trie has changed since the place was found.
    offset: u32,
    covered: usize,
}

/// The rest of a search that was stopped.
#[derive(Debug)]
pub struct Search {
    /// The generation of the trie for which `places` are valid.
    generation: u64,
    /// The text above the last place. The texts above the other places are prefixes of it.
    path: Vec<u8>,
    places: Vec<SavedPlace>,
}

#[derive(Clone, Copy, Debug)]
struct SavedPlace {
    node: u32,
    offset: u32,
    covered: usize,
    /// How much of the path is above the place, and the byte that follows.
    above: usize,
    key: u8,
}

impl Search {
    /// The bytes that it takes.
    pub fn memory(&self) -> usize {
        memory::allocation(self.path.capacity())
            + memory::allocation(self.places.capacity() * size_of::<SavedPlace>())
    }
}

struct Walk<'a, T> {
    trie: &'a Trie<T>,
    name: &'a [u8],
    /// The `+` edges not yet taken. Each begins at another level.
    pending: Stack<Place>,
    /// Filled when the first `+` is met.
    level_ends: Stack<usize>,
    into: &'a mut Vec<FilterId>,
}

impl<T> Walk<'_, T> {
    /// Saves what is left to be searched: `next`, and what is pending.
    #[cold]
    fn save(&self, next: Place) -> Search {
        let mut path = Vec::new();
        let mut places = Vec::new();
        // The last place is the deepest one, so its path contains those of all others.
        for (number, place) in self.pending.as_slice().iter().chain([&next]).enumerate() {
            let mut text = self.trie.path(self.trie.nodes[place.node].parent);
            let label = self.trie.label(place.node);
            let (before, after) = label.split_at(place.offset as usize);
            text.extend_from_slice(before);
            let is_last = number == self.pending.length;
            places.push(SavedPlace {
                node: place.node,
                offset: place.offset,
                covered: place.covered,
                above: text.len(),
                key: after[0],
            });
            if is_last {
                path = text;
            }
        }
        Search { generation: self.trie.generation, path, places }
    }

    /// Continues where a search was stopped. Places whose filters have all been removed are skipped.
    #[cold]
    fn restore(&mut self, rest: &Search) {
        for place in &rest.places {
            let found = if rest.generation == self.trie.generation {
                Some((place.node, place.offset))
            } else {
                self.trie.locate(&rest.path[..place.above], place.key)
            };
            if let Some((node, offset)) = found {
                self.pending.push(Place { node, offset, covered: place.covered });
            }
        }
    }

    /// Compares the label of a node with the name, and continues with its children.
    fn follow(&mut self, Place { node, offset, mut covered }: Place) -> Option<Place> {
        let mut label = self.trie.label(node);
        if offset > 0 {
            label = label.split_at(offset as usize).1;
        }
        if self.name.get(covered..).is_some_and(|ahead| ahead.starts_with(label)) {
            return self.arrived(node, covered + label.len());
        }
        while let Some((&wanted, rest)) = label.split_first() {
            match self.name.get(covered) {
                Some(&byte) if byte == wanted => covered += 1,
                _ if wanted == b'+' => covered = self.level_end(covered),
                _ if wanted == b'#' => break,
                None if wanted == b'/' => {
                    self.parent_level(node, rest);
                    return None;
                }
                _ => return None,
            }
            label = rest;
        }
        if !label.is_empty() {
            // `#` covers all that is left; it ends its filter [MQTT-4.7.1-1].
            self.found(node);
            return None;
        }
        self.arrived(node, covered)
    }

    /// Continues after the whole label of a node is covered.
    fn arrived(&mut self, node: u32, covered: usize) -> Option<Place> {
        if covered == self.name.len() {
            self.found(node);
        }
        self.branch(node, covered)
    }

    /// Handles a name that has ended before a `/` in the label: only `#` may follow, as it matches its parent level,
    /// too.
    fn parent_level(&mut self, node: u32, rest: &[u8]) {
        match rest {
            b"#" => self.found(node),
            [] => {
                if let Some(child) = self.trie.nodes[node].body.child(b'#') {
                    self.found(child);
                }
            }
            _ => {}
        }
    }

    /// Takes all edges from a node: first the wildcards, which are possible only at the beginning of a level.
    fn branch(&mut self, node: u32, covered: usize) -> Option<Place> {
        let at_level = covered.checked_sub(1).is_none_or(|last| self.name.get(last) == Some(&b'/'));
        let body = &self.trie.nodes[node].body;
        if at_level {
            for child in body.children().iter().take_while(|child| child.key <= b'+') {
                match child.key {
                    b'#' => self.found(child.node()),
                    b'+' => self.pending.push(Place { node: child.node(), offset: 0, covered }),
                    _ => {}
                }
            }
        }
        self.literal(body, covered)
    }

    /// Returns the edge for the next byte of the name; after its end, the edge that may lead to `/#`.
    fn literal(&self, body: &Body<T>, covered: usize) -> Option<Place> {
        let key = self.name.get(covered).copied().unwrap_or(b'/');
        Some(Place { node: body.child(key)?, offset: 0, covered })
    }

    fn found(&mut self, node: u32) {
        if self.trie.nodes[node].body.has_values() {
            self.into.push(FilterId(node));
        }
    }

    /// Returns the end of the level in which `position` lies. Looked up, since many `+` may ask for the same long
    /// level.
    fn level_end(&mut self, position: usize) -> usize {
        if self.level_ends.as_slice().is_empty() {
            for (at, &byte) in self.name.iter().enumerate() {
                if byte == b'/' {
                    self.level_ends.push(at);
                }
            }
            self.level_ends.push(self.name.len());
        }
        let ends = self.level_ends.as_slice();
        let index = ends.partition_point(|&end| end < position);
        ends.get(index).copied().unwrap_or(self.name.len())
    }
}

/// A stack that does not allocate while it holds few items.
struct Stack<E> {
    few: [E; FEW],
    length: usize,
    /// All items if they are more than [`FEW`], otherwise empty.
    many: Vec<E>,
}

impl<E: Copy + Default> Stack<E> {
    fn new() -> Self {
        Self { few: [E::default(); FEW], length: 0, many: Vec::new() }
    }

    fn push(&mut self, item: E) {
        if let Some(place) = self.few.get_mut(self.length) {
            *place = item;
        } else {
            if self.many.is_empty() {
                self.many.extend_from_slice(&self.few);
            }
            self.many.push(item);
        }
        self.length += 1;
    }

    fn pop(&mut self) -> Option<E> {
        let item = *self.as_slice().last()?;
        self.length -= 1;
        self.many.pop();
        if self.length == FEW {
            self.many.clear();
        }
        Some(item)
    }

    fn as_slice(&self) -> &[E] {
        if self.many.is_empty() { self.few.get(..self.length).unwrap_or_default() } else { &self.many }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_agrees_with_a_vector() {
        let mut stack = Stack::new();
        let mut vector = Vec::new();
        // Up and down across the size at which it begins to allocate, and down to nothing.
        for (pushes, pops) in [(FEW, 1), (3, 4), (1, 0), (FEW, 20), (FEW * 3, FEW * 3 - 2), (5, 100), (2, 3)]
        {
            for item in 0..pushes {
                stack.push(item);
                vector.push(item);
                assert_eq!(stack.as_slice(), vector);
            }
            for _ in 0..pops {
                assert_eq!(stack.pop(), vector.pop());
                assert_eq!(stack.as_slice(), vector);
            }
        }
    }
}
