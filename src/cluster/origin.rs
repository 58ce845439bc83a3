//! Where a message comes from.

/// The node that a message comes from, and its place among the messages of that node. A node that gets a message twice
/// knows it by this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// A number that the node has drawn when it started.
    pub incarnation: u64,
    /// The number of the message among those of this incarnation, in the order in which they were sent.
    pub counter: u64,
}
