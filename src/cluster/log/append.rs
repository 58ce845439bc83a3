//! Appending to the log: one batch of the core at a time, in order, each entry once.
//!
//! The entries of a batch are sent together, as an atomic batch of the engine: all of them are stored, or none. Until the
//! engine has answered, the next ones wait, and more gathers meanwhile. Without an answer it is not known whether they are
//! stored, so they are sent again: each entry has an identifier, by which the engine knows one that it has.
//!
//! If the engine says that it has them already, they may still be on their way to the other servers. So they count as
//! stored only when the reader has read them. The same is true at any time: what was read is stored.

use crate::base::time::{Duration, Time};
use crate::cluster::engine::{Answers, Machine, NotSent, RequestId};
use crate::cluster::entry::Writer;
use crate::cluster::origin::Origin;
use crate::cluster::subjects::{Purpose, Subjects};
use crate::core::journal::Batch;
use crate::core::message::{Encoder, Portable};
use crate::protocol::codec::ProtocolVersion;
use crate::protocol::nats::jetstream::{ApiError, ApiFault, AtomicBatch, Commit, Conditions, PubAck};
use crate::protocol::nats::{HeaderBlock, Invalid, Publication, Subject};

/// Messages that are not retained are gathered in one entry, up to so many bytes.
const GATHERED_BYTES: usize = 64 * 1024;
/// The most entries that are sent together, which the engine limits to 1,000.
const TOGETHER: usize = 500;
/// The most bytes that are sent together, unless one entry has more.
const TOGETHER_BYTES: usize = 2 * 1024 * 1024;
/// About how many bytes an entry has besides its subject and its content.
const HEADERS_LENGTH: usize = 256;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_seconds(2);
/// How long to wait before something is sent again that was refused.
const PAUSE: Duration = Duration::from_milliseconds(250);

/// An entry that is to be stored.
#[derive(Debug)]
struct Waiting {
    subject: String,
    counter: u64,
    bytes: Vec<u8>,
}

/// What is known about the entries that are next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// They can be sent at this time.
    Due(Time),
    /// They were sent. The engine answers the first and the last of these requests.
    Sent { first: RequestId, last: RequestId },
    /// The engine has them. They are sent again at this time, unless they were read by then.
    Known(Time),
}

/// What is appended to the log.
#[derive(Debug)]
pub struct Appender {
    incarnation: u64,
    /// The number of the last entry.
    counter: u64,
    /// How often entries were sent.
    attempts: u64,
    /// The number of the batch, if there is one.
    batch: Option<u64>,
    entries: Vec<Waiting>,
    /// How many of them are stored.
    stored: usize,
    /// How many after these were sent together.
    together: usize,
    state: State,
    /// Since when there has been something that was not stored.
    since: Option<Time>,
    encoder: Encoder,
}

impl Appender {
    pub fn new(incarnation: u64) -> Self {
        Self {
            incarnation,
            counter: 0,
            attempts: 0,
            batch: None,
            entries: Vec::new(),
            stored: 0,
            together: 0,
            state: State::Due(Time::ZERO),
            since: None,
            encoder: Encoder::default(),
        }
    }

    /// Whether it takes a batch.
    pub const fn is_idle(&self) -> bool {
        self.batch.is_none()
    }

    /// Since when it waits for the engine to store something.
    pub const fn since(&self) -> Option<Time> {
        self.since
    }

    /// Takes the messages of a batch of the core.
    ///
    /// # Panics
    ///
    /// If it has one.
    pub fn append(&mut self, batch: &Batch, subjects: &Subjects, now: Time) {
        assert!(self.is_idle(), "there is one batch at a time");
        self.batch = Some(batch.number);
        (self.stored, self.together) = (0, 0);
        (self.state, self.since) = (State::Due(now), Some(now));
        let mut gathered = Gathered::default();
        for message in &batch.log {
            self.gather(message, &mut gathered, subjects, now);
        }
        self.finish(&mut gathered, subjects);
    }

    /// Writes a message into an entry.
    fn gather(&mut self, message: &Portable, gathered: &mut Gathered, subjects: &Subjects, now: Time) {
        let publication = message.publication();
        if publication.retain || gathered.writer.as_ref().is_some_and(|writer| writer.len() >= GATHERED_BYTES)
        {
            self.finish(gathered, subjects);
        }
        let origin = Origin { incarnation: self.incarnation, counter: self.counter + 1 };
        let writer = gathered.writer.get_or_insert_with(|| Writer::new(origin));
        self.encoder.begin();
        let (qos, retain) = (publication.qos, publication.retain);
        let encoded = self.encoder.shared(&publication, ProtocolVersion::V5, qos, retain, now);
        let payload = if encoded.payload_by_reference { publication.payload } else { &[] };
        writer.push(publication.publisher, [encoded.bytes, payload]);
        gathered.count += 1;
        if gathered.count == 1 {
            let purpose = if retain { Purpose::Retained(0) } else { Purpose::Log(0) };
            gathered.subject.clear();
            let form = subjects.push_topic(purpose, publication.topic, &mut gathered.subject);
            assert!(form.is_some(), "what a broker says about itself is not for the log");
        }
        if retain {
            self.finish(gathered, subjects);
        }
    }

    /// Ends an entry.
    fn finish(&mut self, gathered: &mut Gathered, subjects: &Subjects) {
        let Gathered { writer, subject, count } = std::mem::take(gathered);
        let Some(writer) = writer else { return };
        self.counter += 1;
        let subject = if count == 1 { subject } else { subjects.gathered(0) };
        self.entries.push(Waiting { subject, counter: self.counter, bytes: writer.into_bytes() });
    }

    /// Sends what can be sent now. Returns what is wrong with it.
    pub fn send(&mut self, engine: &mut Machine, now: Time) -> Option<&'static str> {
        let due = match self.state {
            State::Due(due) | State::Known(due) => due,
            State::Sent { .. } => return None,
        };
        let (together, bytes) = self.fitting();
        if self.batch.is_none() || now < due || !engine.has_room_for(bytes) {
            return None;
        }
        self.attempts += 1;
        self.together = together;
        let entries = self.entries[self.stored..].split_at(self.together).0;
        let id = format!("{:x}-{}", self.incarnation, self.attempts);
        let mut ends = [None, None];
        for (number, entry) in entries.iter().enumerate() {
            let (is_first, is_last) = (number == 0, number + 1 == entries.len());
            let mut headers = HeaderBlock::new();
            let identifier = format!("{:x}.{}", self.incarnation, entry.counter);
            let conditions = Conditions { identifier: Some(&identifier), ..Conditions::default() };
            let batch = AtomicBatch {
                id: &id,
                sequence: number as u64 + 1,
                commit: if is_last { Commit::Yes } else { Commit::No },
            };
            let added = conditions.add_to(&mut headers).and_then(|()| match entries.len() {
                1 => Ok(()),
                _ => batch.add_to(&mut headers),
            });
            assert!(added.is_ok(), "they consist of digits");
            let subject = Subject::new(&entry.subject).expect("a topic becomes a subject");
            let payload: &[&[u8]] = &[&entry.bytes];
            let sent = if is_first || is_last {
                engine.request(subject, Some(&headers), payload, (Answers::One, PATIENCE), now).map(Some)
            } else {
                let publication = Publication { subject, reply: None, headers: Some(&headers), payload };
                engine.publish(&publication).map(|()| None)
            };
            match sent {
                Ok(request) if is_first => ends = [request, request],
                Ok(request) => ends[1] = request.or(ends[1]),
                Err(why) => {
                    // The engine forgets a batch that does not end.
                    ends.into_iter().flatten().for_each(|request| engine.end_request(request));
                    self.state = State::Due(now + PAUSE);
                    return match why {
                        NotSent::Invalid(Invalid(what)) => Some(what),
                        NotSent::NotReady | NotSent::Full => None,
                    };
                }
            }
        }
        if let [Some(first), Some(last)] = ends {
            self.state = State::Sent { first, last };
        }
        None
    }

    /// How many entries are sent together, and about how many bytes that takes.
    fn fitting(&self) -> (usize, usize) {
        let rest = &self.entries[self.stored..];
        let (mut count, mut bytes) = (0, 0);
        for entry in rest.iter().take(TOGETHER) {
            let length = entry.bytes.len() + entry.subject.len() + HEADERS_LENGTH;
            if count > 0 && bytes + length > TOGETHER_BYTES {
                break;
            }
            (count, bytes) = (count + 1, bytes + length);
        }
        (count, bytes)
    }

    /// Takes an answer, if it is one to what was sent. Returns what the engine has against it, in its own words.
    pub fn answered(
        &mut self,
        request: RequestId,
        payload: &[u8],
        engine: &mut Machine,
        now: Time,
    ) -> Option<Result<(), String>> {
        let State::Sent { first, last } = self.state else { return None };
        if request != first && request != last {
            return None;
        }
        if request != last && payload.is_empty() {
            // The first one of several is taken.
            return Some(Ok(()));
        }
        let fault = match PubAck::parse(payload) {
            Ok(ack) if ack.is_duplicate => None,
            Ok(_) => {
                self.are_stored(self.together, now);
                return Some(Ok(()));
            }
            Err(ApiFault::Refused(ApiError { error: ApiError::BATCH_KNOWN, .. })) => None,
            Err(why) => Some(why.to_string()),
        };
        [first, last].into_iter().for_each(|request| engine.end_request(request));
        match fault {
            None => {
                self.state = State::Known(now + PATIENCE);
                Some(Ok(()))
            }
            Some(why) => {
                self.state = State::Due(now + PAUSE);
                Some(Err(why))
            }
        }
    }

    /// There is no answer to a request. Returns whether it was one to what was sent.
    pub fn unanswered(&mut self, request: RequestId, engine: &mut Machine, now: Time) -> bool {
        let State::Sent { first, last } = self.state else { return false };
        if request != first && request != last {
            return false;
        }
        [first, last].into_iter().for_each(|request| engine.end_request(request));
        self.state = State::Due(now + PAUSE);
        true
    }

    /// An entry was read from the log.
    pub fn is_read(&mut self, origin: Origin, engine: &mut Machine, now: Time) {
        if origin.incarnation != self.incarnation || self.batch.is_none() {
            return;
        }
        let sent = self.entries[self.stored..].split_at(self.together).0;
        if sent.iter().any(|entry| entry.counter == origin.counter) {
            if let State::Sent { first, last } = self.state {
                [first, last].into_iter().for_each(|request| engine.end_request(request));
            }
            self.are_stored(self.together, now);
        }
    }

    /// So many of the next entries are stored.
    fn are_stored(&mut self, count: usize, now: Time) {
        self.stored += count;
        self.together = 0;
        self.state = State::Due(now);
        self.since = Some(now);
    }

    /// The number of the batch, once all of it is stored. After this it takes another one.
    pub fn next_durable(&mut self) -> Option<u64> {
        if self.stored < self.entries.len() {
            return None;
        }
        let number = self.batch.take()?;
        self.entries = Vec::new();
        self.stored = 0;
        self.since = None;
        Some(number)
    }

    /// When something is to be sent.
    pub const fn deadline(&self) -> Time {
        match self.state {
            State::Due(due) | State::Known(due) if self.batch.is_some() => due,
            _ => Time::NEVER,
        }
    }

    /// The number that the node has drawn.
    pub const fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// Whether this node has appended an entry.
    pub const fn is_own(&self, origin: Origin) -> bool {
        origin.incarnation == self.incarnation
    }
}

/// Messages that go into the same entry.
#[derive(Debug, Default)]
struct Gathered {
    writer: Option<Writer>,
    /// The subject of the entry if it has one message.
    subject: String,
    count: usize,
}
