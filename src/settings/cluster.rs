//! The settings of a node: one of several brokers that act as one.

use std::path::PathBuf;

use super::{ClientTls, Given, RemoteAddress};

/// The cluster that the broker belongs to, and how it reaches the engine (`cluster`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// The name of the cluster (`cluster_name`).
    pub name: ClusterName,
    /// The name of this node (`cluster_node`), by default that of the machine.
    pub node: NodeName,
    /// The servers of NATS; at least one (`cluster`).
    pub servers: Vec<RemoteAddress>,
    /// TLS, if the servers are given as `tls://` (`cluster_cafile`, `cluster_certfile`, `cluster_keyfile`).
    pub tls: Option<ClientTls>,
    /// How the node proves who it is; `None` if the servers let everyone in.
    pub login: Option<ClusterLogin>,
    /// How many levels of a filter decide which messages the other nodes send (`cluster_interest_levels`).
    pub interest_levels: usize,
    /// The log of the cluster.
    pub log: ClusterLog,
}

/// How the log of a cluster is kept, and what becomes of clients while it cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterLog {
    /// On how many servers it is (`cluster_replicas`).
    pub replicas: u64,
    /// For how many seconds a message is kept (`cluster_keep`).
    pub keep: u32,
    /// The most bytes of messages that are kept; zero for any number (`cluster_keep_bytes`).
    pub keep_bytes: usize,
    /// Whether clients are refused as soon as the log cannot be used (`cluster_away`).
    pub refuses: bool,
    /// For how many seconds they wait for it otherwise (`cluster_patience`).
    pub patience: u32,
}

impl Default for ClusterLog {
    fn default() -> Self {
        Self { replicas: 3, keep: 7 * 86_400, keep_bytes: 0, refuses: false, patience: 30 }
    }
}

impl Cluster {
    /// The files that only this broker should be able to read.
    pub fn secret_files(&self) -> impl Iterator<Item = &Given<PathBuf>> {
        let key = self.tls.iter().filter_map(|tls| tls.identity.as_ref()).map(|[_, key]| key);
        let credentials = self.login.iter().filter_map(|login| match login {
            ClusterLogin::Credentials(path) => Some(path),
            ClusterLogin::Password { .. } => None,
        });
        key.chain(credentials)
    }
}

/// How a node proves to the engine who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterLogin {
    /// By a password.
    Password {
        /// The name of the user (`cluster_username`).
        user_name: Box<str>,
        /// The password (`cluster_password`).
        password: Box<str>,
    },
    /// By the key in a credentials file of NATS (`cluster_credentials`).
    Credentials(Given<PathBuf>),
}

/// The name of a cluster (`cluster_name`): 1 to 32 ASCII letters, digits, `-` and `_`. So it can be part of a subject of
/// NATS and of the name of a stream as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterName(Box<str>);

impl ClusterName {
    /// The most characters of a name.
    pub const LENGTH_MAXIMUM: usize = 32;

    /// Returns `None` if `text` is not a name of a cluster.
    pub fn new(text: &str) -> Option<Self> {
        let is_name = (1..=Self::LENGTH_MAXIMUM).contains(&text.len()) && text.bytes().all(is_plain);
        is_name.then(|| Self(text.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of one node in its cluster (`cluster_node`): 1 to 64 ASCII letters, digits, `-`, `_` and `.`, as in the name
/// of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeName(Box<str>);

impl NodeName {
    /// The most characters of a name: those of the name of a host in Linux.
    pub const LENGTH_MAXIMUM: usize = 64;

    /// Returns `None` if `text` is not a name of a node.
    pub fn new(text: &str) -> Option<Self> {
        let is_allowed = |byte| is_plain(byte) || byte == b'.';
        let is_name = (1..=Self::LENGTH_MAXIMUM).contains(&text.len()) && text.bytes().all(is_allowed);
        is_name.then(|| Self(text.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_few_kinds_of_characters() {
        let long = "n".repeat(ClusterName::LENGTH_MAXIMUM);
        for good in ["a", "Prod-1_x", &long] {
            assert_eq!(ClusterName::new(good).map(|name| name.as_str().to_owned()).as_deref(), Some(good));
            assert!(NodeName::new(good).is_some(), "{good}");
        }
        for bad in ["", "a b", "a*", ">", "%", "é", "a/b", "a\0", &format!("{long}n")] {
            assert_eq!(ClusterName::new(bad), None, "{bad}");
        }
        assert_eq!(NodeName::new("n1.example.org").expect("a host").as_str(), "n1.example.org");
        for bad in ["", "a b", ".*", "é", &"n".repeat(NodeName::LENGTH_MAXIMUM + 1)] {
            assert_eq!(NodeName::new(bad), None, "{bad}");
        }
        assert_eq!(ClusterName::new("a.b"), None);
    }
}
