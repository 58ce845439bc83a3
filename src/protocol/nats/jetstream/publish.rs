//! Messages for a stream: under which conditions they are stored, and how that is acknowledged.

use super::{ApiFault, answer, number};
use crate::base::time::Duration;
use crate::protocol::nats::{HeaderBlock, Invalid, Subject};

/// What has to be true for a message to be stored, and what becomes of it then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conditions<'a> {
    /// The sequence that the last message of the subject must have; zero if there must be none.
    pub last_of_subject: Option<u64>,
    /// Another subject for that condition.
    pub subject: Option<Subject<'a>>,
    /// The sequence that the last message of the stream must have.
    pub last: Option<u64>,
    /// An identifier. A message with one that the stream remembers is not stored again.
    pub identifier: Option<&'a str>,
    /// How long the message is kept, which is rounded up to whole seconds.
    pub time_to_live: Option<Duration>,
    /// Whether it replaces all earlier messages of its subject.
    pub is_rollup: bool,
}

impl Conditions<'_> {
    /// Adds them to headers.
    ///
    /// # Errors
    ///
    /// The identifier or the subject cannot be in a header.
    pub fn add_to(&self, headers: &mut HeaderBlock) -> Result<(), Invalid> {
        if let Some(sequence) = self.last_of_subject {
            headers.add("Nats-Expected-Last-Subject-Sequence", &sequence.to_string())?;
        }
        if let Some(subject) = self.subject {
            headers.add("Nats-Expected-Last-Subject-Sequence-Subject", subject.as_str())?;
        }
        if let Some(sequence) = self.last {
            headers.add("Nats-Expected-Last-Sequence", &sequence.to_string())?;
        }
        if let Some(identifier) = self.identifier {
            headers.add("Nats-Msg-Id", identifier)?;
        }
        if let Some(duration) = self.time_to_live {
            let seconds = duration.milliseconds().div_ceil(1_000).max(1);
            headers.add("Nats-TTL", &format!("{seconds}s"))?;
        }
        if self.is_rollup {
            headers.add("Nats-Rollup", "sub")?;
        }
        Ok(())
    }
}

/// The acknowledgement of a stream: it has stored a message, or a batch of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PubAck {
    /// The sequence of the message in the stream, or of the last one of a batch.
    pub sequence: u64,
    /// Whether its identifier was remembered, so that it was not stored again.
    pub is_duplicate: bool,
    /// How many messages of a batch were taken.
    pub count: Option<u64>,
}

impl PubAck {
    /// Parses an acknowledgement.
    ///
    /// # Errors
    ///
    /// The message was not stored, or the answer is malformed.
    pub fn parse(payload: &[u8]) -> Result<Self, ApiFault> {
        let value = answer(payload)?;
        Ok(Self {
            sequence: number(&value, "seq")?,
            is_duplicate: value["duplicate"] == true,
            count: value["count"].as_u64(),
        })
    }
}
