//! The tree of what a node wants: by the tokens of subjects after the base.

use super::Change;
use crate::base::ordered_map::OrderedMap;
use crate::base::time::Time;

/// What is wanted at a node of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// The subject that is closed there.
    Exact,
    /// That and everything below it.
    Below,
}

/// Where a subscription belongs.
#[derive(Debug)]
pub(super) struct Place<'a> {
    /// The tokens that lead there.
    pub(super) names: Vec<&'a str>,
    pub(super) kind: Kind,
}

/// Whether a subscription is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Want {
    #[default]
    Unwanted,
    /// By so many filters, at least one.
    Filters(usize),
    /// By none, but it is kept until this time.
    Lingering(Time),
}

impl Want {
    fn is_active(self) -> bool {
        self != Self::Unwanted
    }

    const fn filters(self) -> usize {
        match self {
            Self::Filters(filters) => filters,
            Self::Unwanted | Self::Lingering(_) => 0,
        }
    }
}

#[derive(Debug, Default)]
struct Node {
    exact: Want,
    below: Want,
    /// Whether filters for what is below are counted in `below`. There are no children then, and `below` is active.
    is_joined: bool,
    children: OrderedMap<Box<str>, Node>,
}

impl Node {
    const fn want(&mut self, kind: Kind) -> &mut Want {
        match kind {
            Kind::Exact => &mut self.exact,
            Kind::Below => &mut self.below,
        }
    }

    fn is_empty(&self) -> bool {
        !self.exact.is_active() && !self.below.is_active() && self.children.is_empty()
    }

    /// Appends the subscriptions of this node and those below it.
    fn list(&self, path: &mut String, into: &mut Vec<String>) {
        if self.below.is_active() {
            into.push(subject(path, Kind::Below));
        } else {
            self.list_covered(path, into);
        }
    }

    /// Appends those that one for all below this node covers.
    fn list_covered(&self, path: &mut String, into: &mut Vec<String>) {
        if self.exact.is_active() {
            into.push(subject(path, Kind::Exact));
        }
        for (name, child) in self.children.iter() {
            let length = path.len();
            path.push('.');
            path.push_str(name);
            child.list(path, into);
            path.truncate(length);
        }
    }

    /// Counts the wants of the children and all below them, and their filters.
    fn count_children(&self) -> (usize, usize) {
        self.children.values().fold((0, 0), |(wants, filters), child| {
            let own = usize::from(child.exact.is_active()) + usize::from(child.below.is_active());
            let (below, filters_below) = child.count_children();
            let own_filters = child.exact.filters() + child.below.filters();
            (wants + own + below, filters + own_filters + filters_below)
        })
    }

    /// Whether there is a joined node, here or below.
    fn has_joined(&self) -> bool {
        self.is_joined || self.children.values().any(Self::has_joined)
    }

    /// Appends the nodes of this depth that have fewer wants when they are joined: how many fewer, and the names.
    fn list_gains<'a>(
        &'a self,
        depth: usize,
        names: &mut Vec<&'a str>,
        into: &mut Vec<(usize, Vec<Box<str>>)>,
    ) {
        if depth == 0 {
            let gain = self.count_children().0.saturating_sub(usize::from(!self.below.is_active()));
            if gain > 0 {
                into.push((gain, names.iter().copied().map(Box::from).collect()));
            }
            return;
        }
        for (name, child) in self.children.iter() {
            names.push(name);
            child.list_gains(depth - 1, names, into);
            names.pop();
        }
    }

    fn depth(&self) -> usize {
        self.children.values().map(|child| 1 + child.depth()).max().unwrap_or_default()
    }

    /// Removes the nodes on the way to this place that have become empty.
    fn prune(&mut self, names: &[&str]) {
        let [name, rest @ ..] = names else { return };
        if let Some(child) = self.children.find_mut(*name) {
            child.prune(rest);
            if child.is_empty() {
                self.children.remove(*name);
            }
        }
    }
}

/// The subject of a subscription.
fn subject(path: &str, kind: Kind) -> String {
    match kind {
        Kind::Exact => format!("{path}.%"),
        Kind::Below => format!("{path}.>"),
    }
}

/// All wants of a node of the cluster.
#[derive(Debug)]
pub(super) struct Tree {
    /// The beginning of all subjects, without the last dot.
    base: Box<str>,
    root: Node,
    /// How many wants are active.
    wants: usize,
    /// Those that linger, by the time of their end, each by the names that lead to it.
    lingering: OrderedMap<(Time, Box<str>, Kind), ()>,
}

impl Tree {
    pub(super) fn new(base: &str) -> Self {
        Self { base: base.into(), root: Node::default(), wants: 0, lingering: OrderedMap::default() }
    }

    /// The active wants: at least as many as there are subscriptions.
    pub(super) const fn wants(&self) -> usize {
        self.wants
    }

    pub(super) fn next_expiry(&self) -> Option<Time> {
        self.lingering.first().map(|((time, ..), ())| *time)
    }

    pub(super) fn subscriptions(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.root.list(&mut self.base.to_string(), &mut found);
        found
    }

    /// The filters of all wants, if some were joined.
    pub(super) fn filters_if_joined(&self) -> Option<usize> {
        self.root.has_joined().then(|| self.root.count_children().1)
    }

    /// Counts one more filter.
    pub(super) fn add(&mut self, place: &Place<'_>, changes: &mut Vec<Change>) {
        let Found { names, kind, is_covered } = self.find(place);
        let node = self.node(names);
        let want = node.want(kind);
        let before = std::mem::replace(want, Want::Filters(want.filters() + 1));
        match before {
            Want::Filters(_) => {}
            Want::Lingering(until) => {
                self.lingering.remove(&(until, names.join(".").into(), kind));
            }
            Want::Unwanted => {
                self.wants += 1;
                if !is_covered {
                    self.begin(names, kind, changes);
                }
            }
        }
    }

    /// Counts one filter less. A want without filters lingers until this time.
    pub(super) fn remove(&mut self, place: &Place<'_>, until: Time) {
        let Found { names, kind, .. } = self.find(place);
        let want = self.node(names).want(kind);
        match want.filters().checked_sub(1).expect("the filter was added") {
            0 => {
                *want = Want::Lingering(until);
                self.lingering.insert((until, names.join(".").into(), kind), ());
            }
            filters => *want = Want::Filters(filters),
        }
    }

    /// Ends all wants that linger until this time at most.
    pub(super) fn expire(&mut self, now: Time, changes: &mut Vec<Change>) {
        while self.lingering.first().is_some_and(|((until, ..), ())| *until <= now) {
            let Some(((_, path, kind), ())) = self.lingering.pop_first() else { return };
            let place = Place { names: path.split('.').collect(), kind };
            let Found { names, kind, is_covered } = self.find(&place);
            let node = self.node(names);
            *node.want(kind) = Want::Unwanted;
            node.is_joined &= kind == Kind::Exact;
            self.wants -= 1;
            if !is_covered {
                self.end(names, kind, changes);
            }
            self.root.prune(names);
        }
    }

    /// Joins wants until there are no more than `target`, which is at least three: those below the deepest nodes first,
    /// and of one depth, those below the node with most of them.
    pub(super) fn shrink(&mut self, target: usize, changes: &mut Vec<Change>) {
        assert!(self.lingering.is_empty(), "what lingers is given up first");
        for depth in (1..=self.root.depth()).rev() {
            let mut gains = Vec::new();
            self.root.list_gains(depth, &mut Vec::new(), &mut gains);
            gains.sort_unstable_by(|(one, names), (other, other_names)| {
                other.cmp(one).then_with(|| names.cmp(other_names))
            });
            for (_, names) in gains {
                if self.wants <= target {
                    return;
                }
                self.join(&names.iter().map(|name| &**name).collect::<Vec<_>>(), changes);
            }
        }
    }

    /// Replaces all wants below a node by one.
    fn join(&mut self, names: &[&str], changes: &mut Vec<Change>) {
        let is_covered = self.find(&Place { names: names.to_vec(), kind: Kind::Below }).is_covered;
        let node = self.node(names);
        let was_active = node.below.is_active();
        let (wants, filters) = node.count_children();
        node.below = Want::Filters(node.below.filters() + filters);
        node.is_joined = true;
        self.wants -= wants;
        if !was_active {
            self.wants += 1;
            if !is_covered {
                self.begin(names, Kind::Below, changes);
            }
        }
        self.node(names).children = OrderedMap::default();
    }

    /// Subscribes to what nothing above a node covers, and ends what that covers.
    fn begin(&mut self, names: &[&str], kind: Kind, changes: &mut Vec<Change>) {
        let path = self.path(names);
        let covered = self.covered(names, kind);
        changes.push(Change::Subscribe(subject(&path, kind)));
        changes.extend(covered.into_iter().map(Change::Unsubscribe));
    }

    /// Ends a subscription, after subscribing to what it covered.
    fn end(&mut self, names: &[&str], kind: Kind, changes: &mut Vec<Change>) {
        let path = self.path(names);
        let covered = self.covered(names, kind);
        changes.extend(covered.into_iter().map(Change::Subscribe));
        changes.push(Change::Unsubscribe(subject(&path, kind)));
    }

    fn path(&self, names: &[&str]) -> String {
        format!("{}.{}", self.base, names.join("."))
    }

    /// The subscriptions that one at this place covers.
    fn covered(&mut self, names: &[&str], kind: Kind) -> Vec<String> {
        let mut path = self.path(names);
        let mut covered = Vec::new();
        if kind == Kind::Below {
            self.node(names).list_covered(&mut path, &mut covered);
        }
        covered
    }

    /// Finds the want that counts the filters of a place.
    fn find<'p>(&self, place: &'p Place<'_>) -> Found<'p> {
        let mut node = &self.root;
        let mut is_covered = false;
        for (depth, name) in place.names.iter().enumerate() {
            if node.is_joined {
                return Found { names: &place.names[..depth], kind: Kind::Below, is_covered };
            }
            is_covered |= node.below.is_active();
            match node.children.find(*name) {
                Some(child) => node = child,
                None => return Found { names: &place.names, kind: place.kind, is_covered },
            }
        }
        let is_covered = is_covered || place.kind == Kind::Exact && node.below.is_active();
        Found { names: &place.names, kind: place.kind, is_covered }
    }

    /// The node at the end of these names, which is made if it is missing.
    fn node(&mut self, names: &[&str]) -> &mut Node {
        names.iter().fold(&mut self.root, |node, name| {
            if !node.children.contains_key(*name) {
                node.children.insert((*name).into(), Node::default());
            }
            node.children.find_mut(*name).expect("it is there")
        })
    }
}

/// The want that counts the filters of a place.
struct Found<'p> {
    /// The names that lead to it.
    names: &'p [&'p str],
    kind: Kind,
    /// Whether a want above it, or for all below the same node, reaches all of it.
    is_covered: bool,
}
