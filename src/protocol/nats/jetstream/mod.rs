//! JetStream: the requests to its streams and consumers, and their answers.
//!
//! A request is a subject and a text of JSON; some are ordinary publications with headers. Durations are in nanoseconds
//! in JSON and in milliseconds here.

mod batch;
mod consumer;
mod direct;
mod publish;
mod stream;
#[cfg(test)]
pub(super) mod tests;

use std::fmt;

use super::{Malformed, Subject};
use crate::base::json::{self, Value};
use crate::base::time::Duration;

pub use batch::{AtomicBatch, Commit, FastAnswer, FastBatch, Operation};
pub use consumer::{
    ACKNOWLEDGE, Consumer, ConsumerInfo, ConsumerSignal, Delivered, PullRequest, REDELIVER, Start,
    consumer_create, consumer_delete, pull,
};
pub use direct::{DirectAnswer, DirectGet, direct_get};
pub use publish::{Conditions, PubAck};
pub use stream::{
    Source, StreamConfig, StreamInfo, source_sequence, stream_create, stream_info, stream_update,
};

/// The longest answer in bytes that is read.
const ANSWER_MAXIMUM: usize = 256 * 1024;
/// The longest name of a stream or a consumer, in bytes. The server makes directories of them.
const NAME_MAXIMUM: usize = 64;

/// The name of a stream or a consumer: letters, digits, `-` and `_`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name<'a>(&'a str);

impl<'a> Name<'a> {
    /// Checks a text.
    pub fn new(text: &'a str) -> Option<Self> {
        let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        ((1..=NAME_MAXIMUM).contains(&text.len()) && text.bytes().all(is_of_name)).then_some(Self(text))
    }

    /// Its text.
    pub const fn as_str(self) -> &'a str {
        self.0
    }
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }
}

/// A request to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiRequest {
    subject: String,
    /// The payload, which may be empty.
    pub body: String,
}

impl ApiRequest {
    /// A request to `$JS.API` with the name of an operation, which ends with names that were checked.
    fn new(operation: impl fmt::Display, body: String) -> Self {
        Self { subject: format!("$JS.API.{operation}"), body }
    }

    /// Where to.
    ///
    /// # Panics
    ///
    /// Never: it consists of checked names.
    pub fn subject(&self) -> Subject<'_> {
        Subject::new(&self.subject).expect("the names in it were checked")
    }
}

/// What the server says instead of doing something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// Like a status of HTTP.
    pub code: u64,
    /// What is wrong, as a number of NATS.
    pub error: u64,
    /// The same in words, which are not to be trusted.
    pub description: Box<str>,
}

impl ApiError {
    /// A sequence is not the expected one.
    pub const WRONG_LAST_SEQUENCE: u64 = 10_071;
    /// The same, of a server that does not name the sequence.
    pub const WRONG_LAST_SEQUENCE_CONSTANT: u64 = 10_164;
    /// There is no consumer with this name.
    pub const CONSUMER_NOT_FOUND: u64 = 10_014;
    /// There is no stream with this name.
    pub const STREAM_NOT_FOUND: u64 = 10_059;
    /// There is a stream with this name, which is configured differently.
    pub const STREAM_NAME_IN_USE: u64 = 10_058;
    /// A message of an atomic batch has an identifier that is known: the batch was stored before, or is about to be.
    pub const BATCH_KNOWN: u64 = 10_201;
    /// A batch of messages is not known, or no longer.
    pub const BATCH_UNKNOWN: u64 = 10_208;

    /// Reads the field `error` of an answer.
    fn of(answer: &Value) -> Option<Self> {
        let error = answer["error"].as_object()?;
        let number = |name: &str| error.get(name).and_then(Value::as_u64).unwrap_or_default();
        let words = error.get("description").and_then(Value::as_str).unwrap_or_default();
        Some(Self { code: number("code"), error: number("err_code"), description: words.into() })
    }

    /// Whether a sequence was not the expected one, so that another writer was faster.
    pub const fn is_wrong_sequence(&self) -> bool {
        matches!(self.error, Self::WRONG_LAST_SEQUENCE | Self::WRONG_LAST_SEQUENCE_CONSTANT)
    }
}

/// Why there is no answer that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiFault {
    /// The server has refused the request.
    Refused(ApiError),
    /// The answer is malformed.
    Malformed(Malformed),
}

impl fmt::Display for ApiFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(ApiError { error, description, .. }) => {
                write!(formatter, "{} (error {error})", crate::base::escape::Quoted(description))
            }
            Self::Malformed(malformed) => malformed.fmt(formatter),
        }
    }
}

const MISSING: ApiFault =
    ApiFault::Malformed(Malformed("an answer of JetStream without a field that it needs"));

/// Parses an answer that is an object and not an error.
fn answer(payload: &[u8]) -> Result<Value, ApiFault> {
    let malformed = |why| ApiFault::Malformed(Malformed(why));
    let value = json::parse(payload, ANSWER_MAXIMUM)
        .map_err(|_| malformed("an answer of JetStream that is not JSON or too large"))?;
    if !value.is_object() {
        return Err(malformed("an answer of JetStream that is not an object"));
    }
    match ApiError::of(&value) {
        Some(error) => Err(ApiFault::Refused(error)),
        None => Ok(value),
    }
}

fn number(value: &Value, name: &str) -> Result<u64, ApiFault> {
    value[name].as_u64().ok_or(MISSING)
}

fn text(value: &Value, name: &str) -> Result<Box<str>, ApiFault> {
    value[name].as_str().map(Into::into).ok_or(MISSING)
}

/// A duration as JetStream writes it.
fn nanoseconds(duration: Duration) -> Value {
    duration.milliseconds().saturating_mul(1_000_000).min(i64::MAX as u64).into()
}

/// A duration as JetStream writes it; zero if it is missing.
fn duration(value: &Value) -> Duration {
    Duration::from_milliseconds(value.as_u64().unwrap_or_default() / 1_000_000)
}
