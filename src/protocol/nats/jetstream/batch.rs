//! Batches of messages: atomic ones, which are stored as a whole, and fast ones, which are acknowledged together.

use super::{ApiError, ApiFault, PubAck, answer, number};
use crate::protocol::nats::{HeaderBlock, Invalid, Malformed};

/// A message of an atomic batch. The server answers the first one with nothing or an error, and the last one as any
/// message for a stream. It takes at most 1,000 in a batch, and forgets a batch after 10 seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtomicBatch<'a> {
    /// What the messages of the batch have in common, at most 64 characters.
    pub id: &'a str,
    /// The number of the message in the batch, from 1.
    pub sequence: u64,
    /// Whether it is the last one.
    pub commit: Commit,
}

/// Whether a message ends an atomic batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commit {
    /// More follow.
    No,
    /// All are stored, this one included.
    Yes,
    /// All before this one are stored.
    WithoutMessage,
}

impl AtomicBatch<'_> {
    /// Adds it to headers.
    ///
    /// # Errors
    ///
    /// The identifier is too long or cannot be in a header.
    pub fn add_to(&self, headers: &mut HeaderBlock) -> Result<(), Invalid> {
        if !(1..=64).contains(&self.id.len()) {
            return Err(Invalid("the identifier of a batch"));
        }
        headers.add("Nats-Batch-Id", self.id)?;
        headers.add("Nats-Batch-Sequence", &self.sequence.to_string())?;
        match self.commit {
            Commit::No => Ok(()),
            Commit::Yes => headers.add("Nats-Batch-Commit", "1"),
            Commit::WithoutMessage => headers.add("Nats-Batch-Commit", "eob"),
        }
    }
}

/// A fast batch (ADR-50), which ends at the first message that the server misses. The subject for the answer of each
/// message says what the message is; a subscription to all of them, `PREFIX.ID.>`, receives the answers.
///
/// The first answer acknowledges nothing, but says that the stream takes the batch. The server then acknowledges every
/// `flow` messages, or more often if it says so. The last messages before a pause are not acknowledged unless their
/// number fits; a ping only repeats the last acknowledgement, and only an end of the batch acknowledges the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FastBatch {
    /// All of a subject for answers that does not change within the batch.
    prefix: String,
}

/// What a message of a fast batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// The first one, with the number 1.
    Start,
    /// Any further one.
    Append,
    /// The last one.
    Commit,
    /// No message, but the end of the batch. It has a number of its own.
    End,
    /// No message, but a question for the last acknowledgement. It has the number of the last message.
    Ping,
}

impl FastBatch {
    /// A batch with answers below a subject, with an identifier that is one token, and an acknowledgement of every
    /// `flow` messages.
    pub fn new(inbox: &str, id: &str, flow: u16) -> Self {
        Self { prefix: format!("{inbox}.{id}.{flow}.fail.") }
    }

    /// The subject for the answer to the message with this number.
    pub fn reply(&self, sequence: u64, operation: Operation) -> String {
        let operation = match operation {
            Operation::Start => 0,
            Operation::Append => 1,
            Operation::Commit => 2,
            Operation::End => 3,
            Operation::Ping => 4,
        };
        format!("{}{sequence}.{operation}.$FI", self.prefix)
    }
}

/// An answer to a message of a fast batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FastAnswer {
    /// All messages up to this number are stored, and every so many are acknowledged from now on.
    Stored {
        /// The number of the last one; zero for none.
        up_to: u64,
        /// How many there are from one acknowledgement to the next.
        every: u64,
    },
    /// Messages are missing. The batch ends, which another answer says. Neither this nor the next is sure to come.
    Gap {
        /// The number that was expected.
        expected: u64,
        /// The number that has come.
        found: u64,
    },
    /// A message was refused. The batch ends, which another answer says.
    Refused {
        /// Its number.
        sequence: u64,
        /// Why.
        error: ApiError,
    },
    /// The batch has ended. The number of messages up to the last one that was stored is in the acknowledgement. It may
    /// be less than was sent.
    Ended(PubAck),
}

impl FastAnswer {
    /// Parses an answer.
    ///
    /// # Errors
    ///
    /// The batch was refused or is not known, or the answer is malformed.
    pub fn parse(payload: &[u8]) -> Result<Self, ApiFault> {
        // Only an answer of this kind has an error and goes on.
        let value = match answer(payload) {
            Err(ApiFault::Refused(error)) => return refused(payload, error),
            other => other?,
        };
        match value["type"].as_str() {
            Some("ack") => Ok(Self::Stored { up_to: number(&value, "seq")?, every: number(&value, "msgs")? }),
            Some("gap") => {
                Ok(Self::Gap { expected: number(&value, "last_seq")?, found: number(&value, "seq")? })
            }
            None => PubAck::parse(payload).map(Self::Ended),
            Some(_) => Err(ApiFault::Malformed(Malformed("an unknown answer to a batch"))),
        }
    }
}

fn refused(payload: &[u8], error: ApiError) -> Result<FastAnswer, ApiFault> {
    let value = crate::base::json::parse(payload, super::ANSWER_MAXIMUM);
    let value = value.map_err(|_| ApiFault::Malformed(Malformed("an answer to a batch that is not JSON")))?;
    if value["type"] == "err" {
        return Ok(FastAnswer::Refused { sequence: number(&value, "seq")?, error });
    }
    Err(ApiFault::Refused(error))
}
