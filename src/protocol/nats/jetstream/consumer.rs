//! Consumers: readers of a stream that the server keeps.

use super::{ApiFault, ApiRequest, Name, answer, nanoseconds, number, text};
use crate::base::json::{Value, object};
use crate::base::time::Duration;
use crate::protocol::nats::{Headers, Message, StatusLine, Subject, SubjectPattern};

/// The payload of an answer to a message: it was processed.
pub const ACKNOWLEDGE: &[u8] = b"+ACK";
/// The payload of an answer to a message: it is to be delivered again.
pub const REDELIVER: &[u8] = b"-NAK";

/// A consumer to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consumer<'a> {
    /// One that sends all messages in order to a subject and expects no answers but those for flow control. It is in
    /// memory, and ends if nothing receives them.
    Ordered {
        /// Where to. There has to be a subscription to exactly this subject: the server does not begin for one with
        /// wildcards.
        deliver: Subject<'a>,
        /// With which message it begins.
        start: Start,
        /// The subjects of its messages; without one, all.
        filter: Option<SubjectPattern<'a>>,
        /// How long the server is silent at most if there is nothing to send.
        heartbeat: Duration,
        /// How long it lives if nothing receives its messages.
        lifetime: Duration,
    },
    /// One that sends messages when it is asked for them, to any node, and expects an answer to each. It lasts.
    Pull {
        /// The subjects of its messages.
        filter: SubjectPattern<'a>,
        /// With which message it begins.
        start: Start,
        /// After how long without an answer a message is delivered again.
        patience: Duration,
        /// The most messages that wait for an answer.
        pending_maximum: u64,
        /// How long it lives if nothing asks for its messages.
        lifetime: Option<Duration>,
    },
}

/// The first message of a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The first one of the stream.
    First,
    /// The next one that is stored.
    Next,
    /// The one with this sequence, or the first one after it.
    Sequence(u64),
}

/// Makes a consumer. It is an error if there is one with this name and another configuration.
pub fn consumer_create(stream: Name<'_>, name: Name<'_>, consumer: &Consumer<'_>) -> ApiRequest {
    let start = match consumer {
        Consumer::Ordered { start, .. } | Consumer::Pull { start, .. } => start,
    };
    let (policy, sequence) = match start {
        Start::First => ("all", Value::Null),
        Start::Next => ("new", Value::Null),
        Start::Sequence(sequence) => ("by_start_sequence", (*sequence).max(1).into()),
    };
    let mut config = match consumer {
        Consumer::Ordered { deliver, filter, heartbeat, lifetime, .. } => object([
            ("ack_policy", "none".into()),
            ("deliver_subject", deliver.as_str().into()),
            ("filter_subject", filter.map_or(Value::Null, |filter| filter.as_str().into())),
            ("flow_control", true.into()),
            ("idle_heartbeat", nanoseconds(*heartbeat)),
            ("inactive_threshold", nanoseconds(*lifetime)),
            ("max_deliver", 1.into()),
            ("mem_storage", true.into()),
            ("num_replicas", 1.into()),
        ]),
        Consumer::Pull { filter, patience, pending_maximum, lifetime, .. } => object([
            ("ack_policy", "explicit".into()),
            ("ack_wait", nanoseconds(*patience)),
            ("durable_name", name.as_str().into()),
            ("filter_subject", filter.as_str().into()),
            ("inactive_threshold", lifetime.map_or(Value::Null, nanoseconds)),
            ("max_ack_pending", (*pending_maximum).into()),
        ]),
    };
    if let Some(config) = config.as_object_mut() {
        config.insert("name".to_owned(), name.as_str().into());
        config.insert("deliver_policy".to_owned(), policy.into());
        config.insert("replay_policy".to_owned(), "instant".into());
        if !sequence.is_null() {
            config.insert("opt_start_seq".to_owned(), sequence);
        }
    }
    let body =
        object([("action", "create".into()), ("config", config), ("stream_name", stream.as_str().into())]);
    ApiRequest::new(format_args!("CONSUMER.CREATE.{stream}.{name}"), body.to_string())
}

/// Removes a consumer.
pub fn consumer_delete(stream: Name<'_>, name: Name<'_>) -> ApiRequest {
    ApiRequest::new(format_args!("CONSUMER.DELETE.{stream}.{name}"), String::new())
}

/// How many messages of a pull consumer are wanted, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PullRequest {
    /// The most messages.
    pub count: u64,
    /// The most bytes.
    pub bytes: Option<u64>,
    /// How long the server waits for them; zero if it only sends what it has.
    pub expiry: Duration,
    /// How long the server is silent at most if there is nothing to send, at most half of the expiry.
    pub heartbeat: Option<Duration>,
}

/// Asks a pull consumer for messages. They arrive with the subjects that they were published to.
pub fn pull(stream: Name<'_>, name: Name<'_>, request: &PullRequest) -> ApiRequest {
    let waits = request.expiry > Duration::ZERO;
    let body = object([
        ("batch", request.count.into()),
        ("expires", if waits { nanoseconds(request.expiry) } else { Value::Null }),
        ("idle_heartbeat", request.heartbeat.map_or(Value::Null, nanoseconds)),
        ("max_bytes", request.bytes.map_or(Value::Null, Value::from)),
        ("no_wait", if waits { Value::Null } else { true.into() }),
    ]);
    ApiRequest::new(format_args!("CONSUMER.MSG.NEXT.{stream}.{name}"), body.to_string())
}

/// A consumer as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerInfo {
    /// Its name.
    pub name: Box<str>,
    /// The sequence in the stream of the last message that was delivered.
    pub delivered: u64,
    /// How many messages are left to be delivered.
    pub pending: u64,
}

impl ConsumerInfo {
    /// Parses the answer to [`consumer_create`].
    ///
    /// # Errors
    ///
    /// The request was refused, or the answer is malformed.
    pub fn parse(payload: &[u8]) -> Result<Self, ApiFault> {
        let value = answer(payload)?;
        Ok(Self {
            name: text(&value, "name")?,
            delivered: number(&value["delivered"], "stream_seq")?,
            pending: number(&value, "num_pending")?,
        })
    }
}

/// What the subject for the answer of a delivered message says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// How often it was delivered, this time included.
    pub times: u64,
    /// Its sequence in the stream.
    pub stream_sequence: u64,
    /// The number of the delivery. A gap says that one was lost.
    pub consumer_sequence: u64,
    /// When it was stored, in nanoseconds since 1970.
    pub stored: u64,
    /// How many messages are left.
    pub pending: u64,
}

impl Delivered {
    /// Parses the subject for the answer. `None` if it is not one of a consumer.
    pub fn parse(reply: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(reply).ok()?.strip_prefix("$JS.ACK.")?;
        let tokens: Vec<&str> = text.split('.').take(11).collect();
        // Stream and consumer, or domain, account, stream and consumer before the numbers, and a random token after them.
        let numbers = match tokens.len() {
            7 => tokens.get(2..)?,
            9.. => tokens.get(4..9)?,
            _ => return None,
        };
        let number = |index: usize| crate::protocol::nats::number(numbers.get(index)?.as_bytes());
        Some(Self {
            times: number(0)?,
            stream_sequence: number(1)?,
            consumer_sequence: number(2)?,
            stored: number(3)?,
            pending: number(4)?,
        })
    }
}

/// What a consumer sends in place of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsumerSignal<'a> {
    /// There is nothing to send.
    Heartbeat {
        /// The number of the last delivery, so that one that was lost is noticed.
        consumer_sequence: Option<u64>,
        /// The sequence in the stream up to which it has looked for messages.
        stream_sequence: Option<u64>,
        /// The subject to answer with nothing, if the consumer has stopped for flow control.
        stalled: Option<&'a [u8]>,
    },
    /// A question that is to be answered with nothing once all messages before it are processed.
    FlowControl(&'a [u8]),
    /// A request for messages has ended.
    Ended(StatusLine<'a>),
}

impl<'a> ConsumerSignal<'a> {
    /// Parses a message. `None` if it is an ordinary one. Signals come to the subject to which the consumer delivers, or
    /// on which its messages were asked for. Messages have the subject to which another client has published them, whose
    /// headers may look like a signal.
    pub fn parse(message: &Message<'a>, deliver: Subject<'_>) -> Option<Self> {
        if message.subject != deliver.as_str().as_bytes() || !message.payload.is_empty() {
            return None;
        }
        let headers = Headers::parse(message.headers?).ok()?;
        let status = headers.status()?;
        if status.code != StatusLine::IDLE_HEARTBEAT {
            return Some(Self::Ended(status));
        }
        Some(match message.reply {
            Some(reply) => Self::FlowControl(reply),
            None => Self::Heartbeat {
                consumer_sequence: headers.number("Nats-Last-Consumer"),
                stream_sequence: headers.number("Nats-Last-Stream"),
                stalled: headers.value("Nats-Consumer-Stalled"),
            },
        })
    }
}
