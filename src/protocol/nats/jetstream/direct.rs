//! Direct requests, which any replica of a stream answers, even one that knows less than the others.

use super::{ApiRequest, Name};
use crate::base::json::{Value, object};
use crate::protocol::nats::{Headers, Malformed, Message, StatusLine, Subject, SubjectPattern};

/// Which messages of a stream are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectGet<'a> {
    /// The last one of a subject. There is one answer.
    Last(Subject<'a>),
    /// The one with this sequence. There is one answer.
    Sequence(u64),
    /// Those of some subjects from a sequence on. Each is an answer, and a last one says how many are left.
    From {
        /// The lowest sequence.
        sequence: u64,
        /// Their subjects.
        subjects: SubjectPattern<'a>,
        /// The most messages, at least 1.
        count: u64,
        /// The most bytes, unless that is less than one message.
        bytes: Option<u64>,
    },
    /// The last one of each subject. Each is an answer, and a last one says up to which sequence the replica knows the
    /// stream.
    LastOfEach {
        /// The subjects.
        subjects: &'a [SubjectPattern<'a>],
        /// The highest sequence, if this is the continuation of a request whose answers did not fit. The server finds
        /// nothing if it is higher than the last sequence of the stream.
        up_to: Option<u64>,
        /// The lowest sequence.
        from: Option<u64>,
        /// The most messages.
        count: Option<u64>,
    },
}

/// Asks a replica for messages.
pub fn direct_get(stream: Name<'_>, request: &DirectGet<'_>) -> ApiRequest {
    let number = |number: Option<u64>| number.map_or(Value::Null, Value::from);
    let body = match request {
        DirectGet::Last(subject) => object([("last_by_subj", subject.as_str().into())]),
        DirectGet::Sequence(sequence) => object([("seq", (*sequence).into())]),
        DirectGet::From { sequence, subjects, count, bytes } => object([
            ("seq", (*sequence).max(1).into()),
            ("next_by_subj", subjects.as_str().into()),
            ("batch", (*count).into()),
            ("max_bytes", number(*bytes)),
        ]),
        DirectGet::LastOfEach { subjects, up_to, from, count } => {
            let subjects = subjects.iter().map(|subject| subject.as_str().into()).collect();
            object([
                ("multi_last", Value::Array(subjects)),
                ("up_to_seq", number(*up_to)),
                ("seq", number(*from)),
                ("batch", number(*count)),
            ])
        }
    };
    ApiRequest::new(format_args!("DIRECT.GET.{stream}"), body.to_string())
}

/// An answer to a direct request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectAnswer<'a> {
    /// A message.
    Message {
        /// Its subject, which is not checked.
        subject: &'a [u8],
        /// Its sequence.
        sequence: u64,
        /// How many are left, if more than one was asked for.
        pending: Option<u64>,
        /// Its own headers, and those of the answer.
        headers: Headers<'a>,
        /// Its payload.
        payload: &'a [u8],
    },
    /// There was no message, or no further one.
    NotFound,
    /// The end of the answers.
    End {
        /// How many are left.
        pending: u64,
        /// The sequence of the last message among the answers.
        last: u64,
        /// Up to which sequence the replica knows the stream, if the last of each subject was asked for.
        up_to: Option<u64>,
    },
    /// The request was refused.
    Refused(StatusLine<'a>),
}

impl<'a> DirectAnswer<'a> {
    /// Parses an answer.
    ///
    /// # Errors
    ///
    /// It is malformed.
    pub fn parse(message: &Message<'a>) -> Result<Self, Malformed> {
        let block = message.headers.ok_or(Malformed("a direct answer without headers"))?;
        let headers = Headers::parse(block)?;
        let missing = Malformed("a direct answer without a header that it needs");
        match headers.status() {
            None => Ok(Self::Message {
                subject: headers.last_value("Nats-Subject").ok_or(missing)?,
                sequence: headers.last_number("Nats-Sequence").ok_or(missing)?,
                pending: headers.last_number("Nats-Num-Pending"),
                headers,
                payload: message.payload,
            }),
            Some(StatusLine { code: StatusLine::NO_MESSAGES, .. }) => Ok(Self::NotFound),
            Some(StatusLine { code: StatusLine::END_OF_BATCH, .. }) => Ok(Self::End {
                pending: headers.number("Nats-Num-Pending").ok_or(missing)?,
                last: headers.number("Nats-Last-Sequence").ok_or(missing)?,
                up_to: headers.number("Nats-UpTo-Sequence"),
            }),
            Some(status) => Ok(Self::Refused(status)),
        }
    }
}
