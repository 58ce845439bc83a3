//! The content of one node of the trie: its label, its values and its children. Knows nothing of the tree around it.

use super::pool::{Slot, reserve_tightly, shrink_loosely};

/// Longer labels are stored outside the node. With this length, a node for values of 12 bytes has no padding.
pub(super) const INLINE_MAXIMUM: usize = 18;

/// Places added when a vector of children is full: with four, its first block is the smallest of common allocators.
const CHILDREN_STEP: usize = 4;
const VALUES_STEP: usize = 2;

/// Up to this many children, a linear search is faster than a binary one; measured with digits, the most common fork.
const SCANNED_MAXIMUM: usize = 16;

pub(super) struct Node<T> {
    pub(super) parent: u32,
    pub(super) label: Label,
    pub(super) body: Body<T>,
}

const _: () = assert!(size_of::<Slot<Node<[u32; 3]>>>() <= 48);
const _: () = assert!(size_of::<Child>() == 5);

/// The bytes between a node and its parent.
pub(super) enum Label {
    Inline {
        length: u8,
        bytes: [u8; INLINE_MAXIMUM],
    },
    /// The index of the bytes in the pool of long labels.
    Long(u32),
}

/// An edge to a child. It repeats the first byte of the child's label, so that a search visits no child but the right
/// one.
#[derive(Clone, Copy)]
pub(super) struct Child {
    pub(super) key: u8,
    node: [u8; 4],
}

impl Child {
    pub(super) const fn new(key: u8, node: u32) -> Self {
        Self { key, node: node.to_ne_bytes() }
    }

    pub(super) const fn node(self) -> u32 {
        u32::from_ne_bytes(self.node)
    }
}

/// The values and children of a node. Most nodes are leaves with a single value, or forks without any.
pub(super) enum Body<T> {
    /// One value, no children.
    Leaf(T),
    /// Only children; at least two, except in the root and while the trie is being changed.
    Fork(Vec<Child>),
    /// One value or more, and more than a leaf can hold.
    Full(Box<Full<T>>),
}

pub(super) struct Full<T> {
    values: Vec<T>,
    children: Vec<Child>,
}

impl<T> Body<T> {
    pub(super) fn values(&self) -> &[T] {
        match self {
            Self::Leaf(value) => std::slice::from_ref(value),
            Self::Fork(_) => &[],
            Self::Full(full) => &full.values,
        }
    }

    pub(super) fn values_mut(&mut self) -> &mut [T] {
        match self {
            Self::Leaf(value) => std::slice::from_mut(value),
            Self::Fork(_) => &mut [],
            Self::Full(full) => &mut full.values,
        }
    }

    pub(super) const fn has_values(&self) -> bool {
        !matches!(self, Self::Fork(_))
    }

    /// The children in the order of their first bytes.
    pub(super) fn children(&self) -> &[Child] {
        match self {
            Self::Leaf(_) => &[],
            Self::Fork(children) => children,
            Self::Full(full) => &full.children,
        }
    }

    pub(super) fn child(&self, key: u8) -> Option<u32> {
        let children = self.children();
        let at = if children.len() <= SCANNED_MAXIMUM {
            children.iter().position(|child| child.key == key)?
        } else {
            children.binary_search_by_key(&key, |child| child.key).ok()?
        };
        children.get(at).map(|child| child.node())
    }

    pub(super) fn add_value(&mut self, value: T) {
        match self.take() {
            Self::Fork(children) if children.is_empty() => *self = Self::Leaf(value),
            Self::Fork(children) => *self = Self::Full(Box::new(Full { values: vec![value], children })),
            Self::Leaf(first) => {
                *self = Self::Full(Box::new(Full { values: vec![first, value], children: Vec::new() }));
            }
            Self::Full(mut full) => {
                reserve_tightly(&mut full.values, VALUES_STEP);
                full.values.push(value);
                *self = Self::Full(full);
            }
        }
    }

    /// Removes the value at this position; the last one takes its place.
    pub(super) fn take_value(&mut self, position: usize) -> Option<T> {
        self.values().get(position)?;
        match self.take() {
            Self::Leaf(value) => Some(value),
            Self::Fork(_) => unreachable!("a fork has no values"),
            Self::Full(mut full) => {
                let value = full.values.swap_remove(position);
                shrink_loosely(&mut full.values, VALUES_STEP);
                *self = full.into_body();
                Some(value)
            }
        }
    }

    pub(super) fn add_child(&mut self, child: Child) {
        *self = match self.take() {
            Self::Leaf(value) => Self::Full(Box::new(Full { values: vec![value], children: Vec::new() })),
            other => other,
        };
        let children = self.children_mut();
        let at = children.partition_point(|other| other.key < child.key);
        reserve_tightly(children, CHILDREN_STEP);
        children.insert(at, child);
    }

    /// Replaces the child with the same first byte by `child`.
    pub(super) fn replace_child(&mut self, child: Child) {
        let children = self.children_mut();
        let at = children.partition_point(|other| other.key < child.key);
        assert_eq!(children[at].key, child.key, "the replaced child exists");
        children[at] = child;
    }

    pub(super) fn remove_child(&mut self, key: u8) {
        let children = self.children_mut();
        let at = children.partition_point(|other| other.key < key);
        assert_eq!(children[at].key, key, "the removed child exists");
        children.remove(at);
        shrink_loosely(children, CHILDREN_STEP);
        *self = match self.take() {
            Self::Full(full) => full.into_body(),
            other => other,
        };
    }

    /// The bytes outside the node.
    pub(super) fn memory(&self) -> usize {
        match self {
            Self::Leaf(_) => 0,
            Self::Fork(children) => children.capacity() * size_of::<Child>(),
            Self::Full(full) => {
                let inside =
                    full.values.capacity() * size_of::<T>() + full.children.capacity() * size_of::<Child>();
                inside + size_of::<Full<T>>()
            }
        }
    }

    pub(super) fn check_invariants(&self, is_root: bool) {
        match self {
            Self::Leaf(_) => {}
            Self::Fork(children) => assert!(is_root || children.len() >= 2, "a fork has several children"),
            Self::Full(full) => {
                assert!(!full.values.is_empty(), "a node without values is a fork");
                assert!(full.values.len() > 1 || !full.children.is_empty(), "one value alone is a leaf");
            }
        }
        assert!(self.children().is_sorted_by(|one, next| one.key < next.key), "children are ordered");
    }

    fn children_mut(&mut self) -> &mut Vec<Child> {
        match self {
            Self::Leaf(_) => unreachable!("a leaf has no children"),
            Self::Fork(children) => children,
            Self::Full(full) => &mut full.children,
        }
    }

    /// Takes the whole body and leaves an empty fork, which holds no memory.
    const fn take(&mut self) -> Self {
        std::mem::replace(self, Self::Fork(Vec::new()))
    }
}

impl<T> Full<T> {
    /// Returns the body for what is left.
    fn into_body(mut self: Box<Self>) -> Body<T> {
        if self.values.is_empty() {
            return Body::Fork(self.children);
        }
        if self.values.len() > 1 || !self.children.is_empty() {
            return Body::Full(self);
        }
        self.values.pop().map_or(Body::Fork(Vec::new()), Body::Leaf)
    }
}
