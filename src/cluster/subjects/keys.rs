//! The keys of sessions and nodes: subjects of which the engine keeps one message each.

use super::Subjects;
use super::token::{hash, push_token};
use crate::protocol::codec::PacketIdentifier;
use crate::protocol::topic::TopicFilter;
use crate::settings::NodeName;

/// The keys of one session.
#[derive(Clone, Debug)]
pub struct SessionKeys {
    /// The beginning of all of them, without the last dot.
    base: String,
}

impl Subjects {
    /// The keys of the session with a Client Identifier. The record of the session carries the identifier itself.
    pub fn session(&self, client_identifier: &str) -> SessionKeys {
        SessionKeys { base: format!("{}s.{}", self.base, hash(client_identifier)) }
    }

    /// The key of the lease of a node.
    pub fn lease(&self, node: &NodeName) -> String {
        self.of_node("n", node)
    }

    /// The subject at which a node is asked to yield a session.
    pub fn yielding(&self, node: &NodeName) -> String {
        self.of_node("y", node)
    }

    /// The subject at which nodes say which clients are connected to them.
    pub fn clients(&self) -> String {
        format!("{}c", self.base)
    }

    fn of_node(&self, kind: &str, node: &NodeName) -> String {
        let mut subject = format!("{}{kind}.", self.base);
        push_token(node.as_str(), &mut subject);
        subject
    }
}

impl SessionKeys {
    /// All of them, as a subscription.
    pub fn all(&self) -> String {
        format!("{}.>", self.base)
    }

    /// The key of the record with the owner of the session.
    pub fn record(&self) -> String {
        format!("{}.rec", self.base)
    }

    /// The key of the positions in the log up to which all is delivered.
    pub fn positions(&self) -> String {
        format!("{}.pos", self.base)
    }

    /// The key of a subscription, which carries the filter itself.
    pub fn subscription(&self, filter: TopicFilter<'_>) -> String {
        format!("{}.sub.{}", self.base, hash(filter.as_str()))
    }

    /// The key of a message from the client at QoS 2 that is not complete.
    pub fn incoming(&self, identifier: PacketIdentifier) -> String {
        format!("{}.in.{}", self.base, identifier.value())
    }

    /// The key of a message to the client that is not acknowledged.
    pub fn outgoing(&self, identifier: PacketIdentifier) -> String {
        format!("{}.out.{}", self.base, identifier.value())
    }
}
