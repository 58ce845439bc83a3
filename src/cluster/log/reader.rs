//! A consumer that reads a stream in order.
//!
//! The engine numbers what it sends. A number that is missing, or silence, means that something was lost on the way; then
//! the reader is given up, and another one begins after the last entry that was read.

use crate::base::time::{Duration, Time};
use crate::cluster::engine::{Answers, Machine, NotSent, RequestId, SubscriptionId};
use crate::protocol::nats::jetstream::{
    Consumer, ConsumerInfo, ConsumerSignal, Delivered, Name, Start, consumer_create,
};
use crate::protocol::nats::{Message, Publication, Subject, SubjectPattern};

/// How long the engine is silent at most when there is nothing to read.
const HEARTBEAT: Duration = Duration::from_seconds(1);
/// The same while a node that has not joined waits to be told that there is nothing.
const HEARTBEAT_OF_LOADING: Duration = Duration::from_milliseconds(100);
/// After how long without anything a reader is given up.
const SILENCE: Duration = Duration::from_seconds(4);
/// How long the engine keeps a consumer that is not read.
const LIFETIME: Duration = Duration::from_seconds(15);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_seconds(2);

/// What a reader has received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read<'a> {
    /// The next entry.
    Entry {
        /// Its sequence in the stream.
        sequence: u64,
        /// When it was stored, in nanoseconds since 1970.
        stored: u64,
        message: Message<'a>,
    },
    /// Nothing that concerns others.
    Nothing,
    /// Something was lost. The reader is to be given up.
    Gap,
}

/// A consumer, and the subscription to which it sends.
#[derive(Debug)]
pub struct Reader {
    deliver: String,
    subscription: SubscriptionId,
    /// The request to make it, until that is answered.
    creation: Option<RequestId>,
    /// The number of the last delivery.
    delivered: u64,
    /// How many entries are left, as far as is known.
    left: Option<u64>,
    /// The last entry that the engine has looked at.
    looked_at: u64,
    heard: Time,
}

impl Reader {
    /// Makes a consumer of a stream with a name that was not used before. It begins with the entry of this sequence, and
    /// passes over subjects that are not in the filter.
    pub fn open(
        engine: &mut Machine,
        (stream, name): (Name<'_>, &str),
        (start, filter): (u64, Option<&str>),
        now: Time,
    ) -> Result<Self, NotSent> {
        let deliver = format!("{}read.{name}", engine.inbox());
        let pattern = SubjectPattern::new(&deliver).expect("the inbox and a name are a subject");
        let subscription = engine.subscribe(pattern, None)?;
        let consumer = Consumer::Ordered {
            deliver: Subject::new(&deliver).expect("it has no wildcards"),
            start: Start::Sequence(start),
            filter: filter.map(|filter| SubjectPattern::new(filter).expect("a pattern of this cluster")),
            heartbeat: if filter.is_some() { HEARTBEAT_OF_LOADING } else { HEARTBEAT },
            lifetime: LIFETIME,
        };
        let request = consumer_create(stream, Name::new(name).expect("the names are made here"), &consumer);
        let sent = engine.request(
            request.subject(),
            None,
            &[request.body.as_bytes()],
            (Answers::One, PATIENCE),
            now,
        );
        match sent {
            Ok(creation) => Ok(Self {
                deliver,
                subscription,
                creation: Some(creation),
                delivered: 0,
                left: None,
                looked_at: 0,
                heard: now,
            }),
            Err(why) => {
                engine.unsubscribe(subscription);
                Err(why)
            }
        }
    }

    /// Ends it. The engine removes the consumer some time later.
    pub fn close(self, engine: &mut Machine) {
        engine.unsubscribe(self.subscription);
        self.creation.into_iter().for_each(|request| engine.end_request(request));
    }

    /// Whether a message is for it.
    pub fn is_for(&self, subscription: SubscriptionId) -> bool {
        self.subscription == subscription
    }

    /// Whether this is the request to make it.
    pub fn is_creation(&self, request: RequestId) -> bool {
        self.creation == Some(request)
    }

    /// The engine has made it, or has refused to. Returns what it says then.
    pub fn created(&mut self, answer: &[u8], now: Time) -> Result<(), String> {
        self.creation = None;
        self.heard = now;
        let info = ConsumerInfo::parse(answer).map_err(|why| why.to_string())?;
        if self.delivered == 0 {
            self.left = Some(info.pending);
        }
        Ok(())
    }

    /// Whether it has read all that the server had from which it reads. That may know less than others.
    pub fn is_at_end(&self) -> bool {
        self.left == Some(0)
    }

    /// Whether it has read everything up to an entry.
    pub const fn is_beyond(&self, sequence: u64) -> bool {
        self.looked_at >= sequence
    }

    /// When it is given up if nothing is received.
    pub fn deadline(&self) -> Time {
        self.heard + SILENCE
    }

    /// Takes a message that was sent to it.
    pub fn take<'a>(&mut self, message: Message<'a>, engine: &mut Machine, now: Time) -> Read<'a> {
        self.heard = now;
        let deliver = Subject::new(&self.deliver).expect("it was checked when it was opened");
        match ConsumerSignal::parse(&message, deliver) {
            Some(ConsumerSignal::Heartbeat { consumer_sequence, stream_sequence, stalled }) => {
                answer(stalled, engine);
                if consumer_sequence.is_some_and(|sequence| sequence > self.delivered) {
                    return Read::Gap;
                }
                self.looked_at = self.looked_at.max(stream_sequence.unwrap_or_default());
                Read::Nothing
            }
            Some(ConsumerSignal::FlowControl(reply)) => {
                answer(Some(reply), engine);
                Read::Nothing
            }
            Some(ConsumerSignal::Ended(_)) => Read::Gap,
            None => self.take_entry(message),
        }
    }

    fn take_entry<'a>(&mut self, message: Message<'a>) -> Read<'a> {
        let Some(delivered) = message.reply.and_then(Delivered::parse) else { return Read::Nothing };
        if delivered.consumer_sequence <= self.delivered {
            return Read::Nothing;
        }
        if delivered.consumer_sequence != self.delivered + 1 {
            return Read::Gap;
        }
        self.delivered = delivered.consumer_sequence;
        self.left = Some(delivered.pending);
        self.looked_at = delivered.stream_sequence;
        Read::Entry { sequence: delivered.stream_sequence, stored: delivered.stored, message }
    }
}

/// Tells the engine that everything before was received.
fn answer(reply: Option<&[u8]>, engine: &mut Machine) {
    let subject = reply.and_then(|reply| std::str::from_utf8(reply).ok()).and_then(Subject::new);
    if let Some(subject) = subject {
        // If there is no room, the engine asks again.
        let _ = engine.publish(&Publication { subject, reply: None, headers: None, payload: &[] });
    }
}
