//! A message on its way from node to node: what the body of a message of NATS consists of.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | the version of this layout |
//! | 1 | the QoS, 0 to 2, in the lower two bits; the others are zero and ignored |
//! | 8 | the incarnation of the node: a number that it draws when it starts |
//! | 8 | the number of the message among those of this incarnation |
//! | 5 and more, for each field | its tag, four bytes of its length, its value |
//! | 1 | 0, the end of the fields |
//! | the rest | the Application Message |
//!
//! All numbers are big-endian. A node reads the layouts of its own version, the one before and the one after it, so that
//! the nodes of a cluster can be upgraded one by one. A new version may only add fields: a reader skips those that it
//! does not know.
//!
//! A message carries for how long it is still valid, not until when: clocks of small machines are wrong, and a wrong one
//! would let messages expire at once or never. The time on the way to other nodes is not counted; for that in the log,
//! see the timestamps of the engine.
//!
//! Another node may be faulty, and others may have access to the engine. So what arrives is checked like the packet of a
//! client.

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod layout;
#[cfg(test)]
mod tests;

use std::fmt;

use crate::base::time::Duration;
use crate::cluster::subjects::{Form, Parsed, Purpose, SubjectError, Subjects};
use crate::protocol::codec::{DecodeError, Properties, QoS};
use crate::protocol::topic::{TopicError, TopicName};

pub use layout::{BODY_LENGTH_MAXIMUM, VERSION};

/// The content of a message of NATS. It has the topic only where the subject does not tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Body<'a> {
    /// Where the message comes from.
    pub origin: Origin,
    /// The topic, if it is not in the subject.
    pub topic: Option<TopicName<'a>>,
    /// Who published it, where that is known and needed.
    pub publisher: Option<NamedPublisher<'a>>,
    /// The QoS with which it was published.
    pub qos: QoS,
    /// The properties that receivers get unchanged.
    pub properties: Properties<'a>,
    /// The rest of the Message Expiry Interval; `None` without one.
    pub lifetime: Option<Duration>,
    /// The Application Message.
    pub payload: &'a [u8],
}

/// The node that a message comes from, and its place among the messages of that node. A node that gets a message twice,
/// since two of its subscriptions match, knows it by this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// A number that the node has drawn when it started.
    pub incarnation: u64,
    /// The number of the message among those of this incarnation, in the order in which they were sent.
    pub counter: u64,
}

/// A publisher in another node. Listeners have numbers that differ from node to node, so it has the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedPublisher<'a> {
    /// The name of the listener at which it connected.
    pub listener: &'a str,
    /// The Client Identifier.
    pub client_identifier: &'a str,
    /// The User Name.
    pub user_name: Option<&'a str>,
}

/// A message from another node, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received<'a> {
    /// What it was sent for. If that is to be retained, it has the RETAIN flag, otherwise it has not.
    pub purpose: Purpose,
    /// The topic, from the subject or from the body.
    pub topic: TopicName<'a>,
    /// Everything else.
    pub body: Body<'a>,
}

/// Why a message from another node is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageError {
    /// The subject is not one that a node writes.
    Subject(SubjectError),
    /// The layout has a version that this node cannot read.
    Version(u8),
    /// The bytes do not follow the layout.
    Malformed(&'static str),
    /// It is longer than a packet to a client may be.
    TooLong,
    /// The topic in the body is not valid.
    Topic(TopicError),
    /// The properties are not valid, or are not forwarded.
    Properties(DecodeError),
    /// The topic in the body is missing, is not that of the subject, or is there though the subject tells it.
    OtherTopic,
}

impl fmt::Display for MessageError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subject(why) => why.fmt(formatter),
            Self::Version(version) => {
                write!(
                    formatter,
                    "a message in version {version} of the layout; this node reads up to {}",
                    VERSION + 1
                )
            }
            Self::Malformed(what) => write!(formatter, "malformed message: {what}"),
            Self::TooLong => formatter.write_str("a message longer than a packet"),
            Self::Topic(why) => write!(formatter, "{why} in a message"),
            Self::Properties(why) => write!(formatter, "properties of a message: {why}"),
            Self::OtherTopic => formatter.write_str("a message whose topic is not that of its subject"),
        }
    }
}

impl std::error::Error for MessageError {}

/// Appends the subject and the body of a message. The body gets the topic where the subject does not tell it. Returns
/// `None`, and appends nothing, if messages with this topic stay at this broker.
pub fn write(
    (subjects, purpose): (&Subjects, Purpose),
    topic: TopicName<'_>,
    body: &Body<'_>,
    (subject, into): (&mut String, &mut Vec<u8>),
) -> Option<()> {
    let form = subjects.push_topic(purpose, topic, subject)?;
    let topic = Some(topic).filter(|_| form == Form::Shortened);
    Body { topic, ..*body }.write(into);
    Some(())
}

/// Reads a message that came with a subject. A topic that is in the subject is written into `topic`.
///
/// # Errors
///
/// No node of this cluster sends this.
pub fn read<'a>(
    subjects: &Subjects,
    subject: &str,
    body: &'a [u8],
    topic: &'a mut String,
) -> Result<Received<'a>, MessageError> {
    topic.clear();
    let Parsed { purpose, form } = subjects.parse(subject, topic).map_err(MessageError::Subject)?;
    let body = Body::read(body)?;
    let topic = match (form, body.topic) {
        (Form::Whole, None) => TopicName::trusted(topic),
        (Form::Shortened, Some(name)) => {
            let form = subjects.push_topic(purpose, name, topic);
            if form != Some(Form::Shortened) || topic != subject {
                return Err(MessageError::OtherTopic);
            }
            name
        }
        _ => return Err(MessageError::OtherTopic),
    };
    Ok(Received { purpose, topic, body })
}
