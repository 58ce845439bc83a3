//! The streams of a cluster: their names, and how they are configured.

use crate::base::time::Duration;
use crate::cluster::subjects::Subjects;
use crate::protocol::nats::jetstream::{Name, Source, StreamConfig};
use crate::settings::ClusterName;

/// For how long the engine remembers the identifiers of entries, so that one that is sent again is stored once. The
/// publishers of an entry are given up long before.
const REMEMBERED: Duration = Duration::from_seconds(120);

/// How a node wants the log to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keeping {
    /// On how many servers.
    pub replicas: u64,
    /// For how long.
    pub age: Duration,
    /// The most bytes; the oldest entries go first.
    pub bytes: Option<u64>,
}

/// A stream of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// The log.
    Log,
    /// What is retained: the last entry of each topic.
    Retained,
}

/// What the streams of a cluster are called and consist of.
#[derive(Debug)]
pub struct Streams {
    log: String,
    retained: String,
    /// The subjects of the log, and of what is to be retained in it.
    subjects: [String; 2],
    keeping: Keeping,
}

impl Streams {
    pub fn new(name: &ClusterName, subjects: &Subjects, keeping: Keeping) -> Self {
        let name = name.as_str();
        Self {
            log: format!("bk-{name}-log0"),
            retained: format!("bk-{name}-retained"),
            subjects: [subjects.log(0), subjects.retained(0)],
            keeping,
        }
    }

    /// The name of a stream.
    pub fn name(&self, stream: Stream) -> Name<'_> {
        let name = match stream {
            Stream::Log => &self.log,
            Stream::Retained => &self.retained,
        };
        Name::new(name).expect("the name of a cluster is one of a stream")
    }

    /// What a reader may do about a stream that cannot be made.
    pub fn hint(&self) -> String {
        format!("; this node asks for it on {} of the servers (cluster_replicas)", self.keeping.replicas)
    }

    /// All that is to be retained, as a subscription.
    pub fn all_retained(&self) -> &str {
        &self.subjects[1]
    }

    /// How a stream is configured.
    pub fn config(&self, stream: Stream) -> StreamConfig {
        let Keeping { replicas, age, bytes } = self.keeping;
        let blank = StreamConfig {
            name: self.name(stream).as_str().into(),
            subjects: Vec::new(),
            replicas,
            age_maximum: Duration::ZERO,
            bytes_maximum: None,
            per_subject_maximum: None,
            duplicate_window: REMEMBERED,
            sources: Vec::new(),
            allows_direct: true,
            allows_atomic: false,
            allows_batched: false,
            allows_ttl: false,
            allows_rollup: false,
        };
        match stream {
            Stream::Log => StreamConfig {
                subjects: vec![(*self.subjects[0]).into()],
                age_maximum: age,
                bytes_maximum: bytes,
                allows_atomic: true,
                ..blank
            },
            Stream::Retained => StreamConfig {
                per_subject_maximum: Some(1),
                sources: vec![Source { stream: (*self.log).into(), filter: (*self.subjects[1]).into() }],
                ..blank
            },
        }
    }
}
