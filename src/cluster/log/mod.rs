//! The log of the cluster in JetStream: what a node does with it, as a state machine beside the connection.
//!
//! A node joins in steps. It finds the two streams of the cluster, or makes them. It loads what is retained: the stream
//! `retained` has the last entry of each topic up to some place of the log, and the log itself the later ones. From the end
//! that the log had at the beginning, it reads everything, in order, for as long as it runs. Then it takes clients.
//!
//! When the connection is lost, it goes on after the last entry that it has read. If that is no longer there because the
//! log was cut off ([`Keeping`]), it says so, and loads what is retained again.

mod access;
mod append;
mod reader;
mod streams;

use std::collections::VecDeque;

use log::Level;

use access::Judge;
use append::Appender;
use reader::{Read, Reader};
use streams::{Stream, Streams};

use crate::base::escape::Escaped;
use crate::base::time::{Duration, Time};
use crate::cluster::engine::{Answers, Machine, RequestId, SubscriptionId, Unanswered};
use crate::cluster::entry::Entry;
use crate::cluster::subjects::Subjects;
use crate::core::journal::Batch;
use crate::protocol::nats::Message;
use crate::protocol::nats::jetstream::{
    ApiError, ApiFault, ApiRequest, StreamInfo, source_sequence, stream_create, stream_info,
};
use crate::settings::ClusterName;

pub use access::Access;
pub use streams::Keeping;

/// How long an answer may take. To make a stream takes longer than other requests.
const PATIENCE: Duration = Duration::from_seconds(5);
/// How long to wait before something is tried again.
const PAUSE: Duration = Duration::from_milliseconds(500);
/// The most log lines that wait.
const LINES_MAXIMUM: usize = 64;

/// How a node uses the log.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How the log is kept.
    pub keeping: Keeping,
    /// For how long clients wait for an engine that is away.
    pub patience: Duration,
}

/// How far the node has come.
#[derive(Debug)]
enum Stage {
    /// There is no connection, or an attempt has failed and is made again at this time.
    Waiting { until: Time },
    /// A stream was asked for, or is being made. The log had this end before, if it was asked for.
    Preparing { stream: Stream, request: RequestId, is_made: bool, end: u64 },
    /// What is retained is read from this stream. The log had this end before.
    Loading { stream: Stream, reader: Reader, end: u64 },
    /// The log is read.
    Reading { reader: Reader },
}

/// An entry for the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery<'a> {
    /// Its messages.
    pub records: &'a [u8],
    /// For how long it has been stored.
    pub age: Duration,
    /// Whether this node has appended it since its start.
    pub is_own: bool,
}

/// The log.
#[derive(Debug)]
pub struct Log {
    streams: Streams,
    subjects: Subjects,
    stage: Stage,
    appender: Appender,
    /// The last entry of the log that was read.
    position: Option<u64>,
    /// The last one of which the core has taken all messages.
    taken: u64,
    /// The last entry of the log whose retained messages are loaded.
    loaded: u64,
    /// How many readers there were.
    readers: u64,
    /// A time of the engine, in nanoseconds since 1970, and when it was that.
    clock: Option<(u64, Time)>,
    /// The question for the end of the log, and the answer.
    end: End,
    judge: Judge,
    lines: VecDeque<(Level, String)>,
    /// The last fault, which is said once.
    fault: String,
}

/// Whether packets wait until the log is read up to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// None do.
    Unknown,
    /// The end is to be asked for.
    Wanted,
    Asked(RequestId),
    /// They wait until this entry is read.
    At(u64),
}

impl Log {
    /// A node that has not joined. `incarnation` is a number that it has drawn.
    pub fn new(name: &ClusterName, subjects: &Subjects, settings: Settings, incarnation: u64) -> Self {
        Self {
            streams: Streams::new(name, subjects, settings.keeping),
            subjects: subjects.clone(),
            stage: Stage::Waiting { until: Time::ZERO },
            appender: Appender::new(incarnation),
            position: None,
            taken: 0,
            loaded: 0,
            readers: 0,
            clock: None,
            end: End::Unknown,
            judge: Judge::new(settings.patience),
            lines: VecDeque::new(),
            fault: String::new(),
        }
    }

    /// The next line for the log of the broker.
    pub fn next_line(&mut self) -> Option<(Level, String)> {
        self.lines.pop_front()
    }

    /// Whether clients can use the log.
    pub const fn access(&self) -> Access {
        self.judge.access()
    }

    /// Whether it takes a batch of the core.
    pub const fn takes_batch(&self) -> bool {
        self.appender.is_idle()
    }

    /// Appends the messages of a batch.
    ///
    /// # Panics
    ///
    /// If the batch before is not durable.
    pub fn append(&mut self, batch: &Batch, now: Time) {
        self.appender.append(batch, &self.subjects, now);
    }

    /// The number of a batch that is durable.
    pub fn next_durable(&mut self) -> Option<u64> {
        self.appender.next_durable()
    }

    /// Packets wait until the log is read up to the end that it has now.
    pub fn read_to_the_end(&mut self) {
        self.end = End::Wanted;
    }

    /// Whether the log was read up to the end that was asked for.
    pub fn is_read_to_the_end(&mut self) -> bool {
        let is_read = matches!(self.end, End::At(end) if self.taken >= end);
        if is_read {
            self.end = End::Unknown;
        }
        is_read
    }

    /// When [`Log::tick`] is to be called at the latest.
    pub fn next_deadline(&self, engine: &Machine) -> Time {
        let judged = self.judge.next_deadline(self.appender.since());
        let stage = match &self.stage {
            _ if !engine.is_ready() => Time::NEVER,
            Stage::Waiting { until } => *until,
            Stage::Preparing { .. } => Time::NEVER,
            Stage::Loading { reader, .. } | Stage::Reading { reader } => {
                reader.deadline().min(self.appender.deadline())
            }
        };
        judged.min(stage)
    }

    /// Does what can be done now.
    pub fn tick(&mut self, engine: &mut Machine, now: Time) {
        if engine.is_ready() {
            match &self.stage {
                Stage::Waiting { until } if *until <= now => self.ask_for(Stream::Log, 0, engine, now),
                Stage::Loading { reader, .. } | Stage::Reading { reader } if reader.deadline() <= now => {
                    self.fail("the engine is silent", engine, now);
                }
                _ => {}
            }
            if matches!(self.stage, Stage::Reading { .. }) {
                if let Some(why) = self.appender.send(engine, now) {
                    self.take_refusal(why.to_owned());
                }
                self.ask_for_end(engine, now);
            }
        }
        self.judge(engine, now);
    }

    /// Finds out whether the engine is away, and whether clients still wait for it.
    fn judge(&mut self, engine: &Machine, now: Time) {
        let is_here = engine.is_ready() && matches!(self.stage, Stage::Reading { .. });
        if let Some((level, line)) = self.judge.judge(is_here, self.appender.since(), now) {
            self.say(level, line);
        }
    }

    fn say(&mut self, level: Level, line: String) {
        if self.lines.len() < LINES_MAXIMUM {
            self.lines.push_back((level, line));
        }
    }

    /// Asks for the end of the log, if packets wait for it.
    fn ask_for_end(&mut self, engine: &mut Machine, now: Time) {
        if self.end == End::Wanted
            && let Some(request) = ask(&stream_info(self.streams.name(Stream::Log)), engine, now)
        {
            self.end = End::Asked(request);
        }
    }

    fn ask_for(&mut self, stream: Stream, end: u64, engine: &mut Machine, now: Time) {
        self.stage = match ask(&stream_info(self.streams.name(stream)), engine, now) {
            Some(request) => Stage::Preparing { stream, request, is_made: false, end },
            None => Stage::Waiting { until: now + PAUSE },
        };
    }

    /// There is another connection, or none: what was under way begins again.
    pub fn begin_again(&mut self, engine: &mut Machine, now: Time) {
        self.stop(Time::ZERO, engine);
        self.tick(engine, now);
    }

    /// Ends what is under way, to begin again at this time.
    fn stop(&mut self, until: Time, engine: &mut Machine) {
        if let Stage::Loading { reader, .. } | Stage::Reading { reader } =
            std::mem::replace(&mut self.stage, Stage::Waiting { until })
        {
            reader.close(engine);
        }
        if !matches!(self.end, End::Unknown) {
            self.end = End::Wanted;
        }
    }

    /// Something has failed, and is tried again later.
    fn fail(&mut self, why: &str, engine: &mut Machine, now: Time) {
        if self.fault != why {
            why.clone_into(&mut self.fault);
            self.say(Level::Warn, format!("Warning: the log of the cluster: {}", Escaped(why)));
        }
        self.stop(now + PAUSE, engine);
    }

    /// Takes an answer of the engine, if it is for the log.
    pub fn answered(&mut self, request: RequestId, payload: &[u8], engine: &mut Machine, now: Time) {
        if let Some(outcome) = self.appender.answered(request, payload, engine, now) {
            if let Err(why) = outcome {
                self.take_refusal(why);
            }
            return;
        }
        match &mut self.stage {
            Stage::Preparing { stream, request: expected, is_made, end } if *expected == request => {
                let (stream, is_made, end) = (*stream, *is_made, *end);
                self.take_stream((stream, is_made, end), payload, engine, now);
            }
            Stage::Loading { reader, .. } | Stage::Reading { reader } if reader.is_creation(request) => {
                match reader.created(payload, now) {
                    Ok(()) => self.end_loading(engine, now),
                    Err(why) => self.fail(&why, engine, now),
                }
            }
            _ if self.end == End::Asked(request) => self.take_end(payload, now),
            _ => {}
        }
    }

    /// Something was not stored, for this reason, which is said once.
    fn take_refusal(&mut self, why: String) {
        if self.fault != why {
            self.say(
                Level::Warn,
                format!("Warning: the log of the cluster takes nothing: {}", Escaped(&why)),
            );
            self.fault = why;
        }
    }

    /// There is no answer to a request.
    pub fn unanswered(&mut self, request: RequestId, why: Unanswered, engine: &mut Machine, now: Time) {
        if self.appender.unanswered(request, engine, now) {
            return;
        }
        if self.end == End::Asked(request) {
            self.end = End::Wanted;
            return;
        }
        let is_awaited = match &self.stage {
            Stage::Preparing { request: expected, .. } => *expected == request,
            Stage::Loading { reader, .. } | Stage::Reading { reader } => reader.is_creation(request),
            Stage::Waiting { .. } => false,
        };
        if is_awaited {
            let words = match why {
                Unanswered::NoResponders => "JetStream does not answer: it is off, or has no leader",
                Unanswered::TimedOut => "JetStream does not answer in time",
                Unanswered::Lost => "the connection was lost",
            };
            self.fail(words, engine, now);
        }
    }

    /// Takes the description of a stream.
    fn take_stream(
        &mut self,
        (stream, is_made, end): (Stream, bool, u64),
        payload: &[u8],
        engine: &mut Machine,
        now: Time,
    ) {
        let expected = self.streams.config(stream);
        let info = match StreamInfo::parse(payload) {
            Ok(info) => info,
            Err(ApiFault::Refused(ApiError { error: ApiError::STREAM_NOT_FOUND, .. })) if !is_made => {
                let request = ask(&stream_create(self.streams.name(stream), &expected), engine, now);
                match request {
                    Some(request) => self.stage = Stage::Preparing { stream, request, is_made: true, end },
                    None => self.fail("the connection is busy", engine, now),
                }
                return;
            }
            // Another node was faster.
            Err(ApiFault::Refused(ApiError { error: ApiError::STREAM_NAME_IN_USE, .. })) if is_made => {
                return self.ask_for(stream, end, engine, now);
            }
            Err(why) => {
                let name = self.streams.name(stream);
                let hint = if is_made { self.streams.hint() } else { String::new() };
                return self.fail(&format!("the stream {name}: {why}{hint}"), engine, now);
            }
        };
        let differences = expected.differences(&info.config);
        if !differences.is_empty() || !info.is_of_our_kind {
            let (name, what) = (self.streams.name(stream), differences.join(", "));
            let why = format!(
                "this node does not join: the stream {name} is configured otherwise than its settings say ({what}); \
                 change one of them"
            );
            return self.fail(&why, engine, now);
        }
        self.note_time(&info, now);
        match stream {
            Stream::Log => self.take_log(&info, engine, now),
            Stream::Retained => self.load(Stream::Retained, end, engine, now),
        }
    }

    fn note_time(&mut self, info: &StreamInfo, now: Time) {
        if let Some(time) = info.time {
            self.clock = Some((time, now));
        }
    }

    /// The log is there: goes on where it was read last, or loads what is retained first.
    fn take_log(&mut self, info: &StreamInfo, engine: &mut Machine, now: Time) {
        match self.position {
            Some(position) if position > info.last_sequence => {
                self.say(
                    Level::Error,
                    "Error: the log of the cluster is another one than before: what was in it is gone"
                        .to_owned(),
                );
                (self.position, self.loaded, self.taken) = (None, 0, 0);
            }
            Some(position) if position + 1 < info.first_sequence => {
                let lost = info.first_sequence - position - 1;
                self.say(
                    Level::Error,
                    format!(
                        "Error: the log of the cluster was cut off: this node has not read {lost} entries, and its clients \
                         do not get them (cluster_keep, cluster_keep_bytes)"
                    ),
                );
                self.position = None;
            }
            Some(position) => return self.read_from(position + 1, engine, now),
            None => {}
        }
        self.ask_for(Stream::Retained, info.last_sequence, engine, now);
    }

    /// Loads what is retained from a stream: first from the one that has the last entry of each topic, then what the log
    /// has since.
    fn load(&mut self, stream: Stream, end: u64, engine: &mut Machine, now: Time) {
        let (start, filter) = match stream {
            Stream::Retained => (1, None),
            Stream::Log => (self.loaded + 1, Some(self.streams.all_retained().to_owned())),
        };
        match self.open(stream, (start, filter.as_deref()), engine, now) {
            Some(reader) => self.stage = Stage::Loading { stream, reader, end },
            None => self.stage = Stage::Waiting { until: now + PAUSE },
        }
    }

    fn open(
        &mut self,
        stream: Stream,
        from: (u64, Option<&str>),
        engine: &mut Machine,
        now: Time,
    ) -> Option<Reader> {
        self.readers += 1;
        let name = format!("{:x}-{}", self.appender.incarnation(), self.readers);
        Reader::open(engine, (self.streams.name(stream), &name), from, now).ok()
    }

    /// Goes on if everything is loaded.
    fn end_loading(&mut self, engine: &mut Machine, now: Time) {
        let Stage::Loading { stream, reader, end } = &self.stage else { return };
        let (stream, end) = (*stream, *end);
        let is_over = match stream {
            Stream::Retained => reader.is_at_end(),
            Stream::Log => reader.is_beyond(end),
        };
        if !is_over {
            return;
        }
        self.stop(now, engine);
        match stream {
            Stream::Retained if self.loaded < end => self.load(Stream::Log, end, engine, now),
            _ => {
                self.taken = end;
                self.read_from(end + 1, engine, now);
            }
        }
    }

    fn read_from(&mut self, start: u64, engine: &mut Machine, now: Time) {
        self.position = Some(start - 1);
        match self.open(Stream::Log, (start, None), engine, now) {
            Some(reader) => {
                self.stage = Stage::Reading { reader };
                self.fault.clear();
                self.tick(engine, now);
            }
            None => self.stage = Stage::Waiting { until: now + PAUSE },
        }
    }

    fn take_end(&mut self, payload: &[u8], now: Time) {
        match StreamInfo::parse(payload) {
            Ok(info) => {
                self.note_time(&info, now);
                self.end = End::At(info.last_sequence);
            }
            Err(_) => self.end = End::Wanted,
        }
    }

    /// Whether messages of a subscription are for the log.
    pub fn is_for(&self, subscription: SubscriptionId) -> bool {
        match &self.stage {
            Stage::Loading { reader, .. } | Stage::Reading { reader } => reader.is_for(subscription),
            Stage::Waiting { .. } | Stage::Preparing { .. } => false,
        }
    }

    /// Takes a message of a subscription that [is for the log](Log::is_for). Returns an entry for the core, which has to
    /// have taken it before [`Log::is_taken`] is called and the next message is taken.
    ///
    /// # Errors
    ///
    /// What is wrong with the entry. It is passed over.
    pub fn take<'a>(
        &mut self,
        message: Message<'a>,
        engine: &mut Machine,
        now: Time,
    ) -> Result<Option<Delivery<'a>>, &'static str> {
        let (Stage::Loading { reader, .. } | Stage::Reading { reader }) = &mut self.stage else {
            return Ok(None);
        };
        let (sequence, stored, message) = match reader.take(message, engine, now) {
            Read::Entry { sequence, stored, message } => (sequence, stored, message),
            Read::Nothing => {
                self.end_loading(engine, now);
                return Ok(None);
            }
            Read::Gap => {
                self.fail("something was lost on the way, which is read again", engine, now);
                self.stop(now, engine);
                return Ok(None);
            }
        };
        let age = self.age(stored, now);
        if !self.follow(sequence, &message) {
            return Ok(None);
        }
        let Entry { origin, records } = Entry::read(message.payload)?;
        self.appender.is_read(origin, engine, now);
        Ok(Some(Delivery { records, age, is_own: self.appender.is_own(origin) }))
    }

    /// Notes the place of an entry. Returns false if it was read before.
    fn follow(&mut self, sequence: u64, message: &Message<'_>) -> bool {
        match &self.stage {
            Stage::Loading { stream: Stream::Retained, .. } => {
                self.loaded = self.loaded.max(source_sequence(message).unwrap_or_default());
                true
            }
            Stage::Loading { .. } => true,
            _ => {
                let last = self.position.unwrap_or_default();
                if sequence > last + 1 {
                    let lost = sequence - last - 1;
                    self.say(
                        Level::Error,
                        format!(
                            "Error: the log of the cluster was cut off: {lost} entries are gone, and the clients of this \
                             node do not get them (cluster_keep, cluster_keep_bytes)"
                        ),
                    );
                }
                self.position = Some(sequence.max(last));
                sequence > last
            }
        }
    }

    /// The core has taken an entry.
    pub fn is_taken(&mut self, engine: &mut Machine, now: Time) {
        self.taken = self.position.unwrap_or_default();
        self.end_loading(engine, now);
    }

    /// For how long an entry has been stored.
    fn age(&self, stored: u64, now: Time) -> Duration {
        let Some((time, at)) = self.clock else { return Duration::ZERO };
        let current = time.saturating_add(now.since(at).milliseconds().saturating_mul(1_000_000));
        Duration::from_milliseconds(current.saturating_sub(stored) / 1_000_000)
    }
}

/// Sends a request to the engine, unless there is no room.
fn ask(request: &ApiRequest, engine: &mut Machine, now: Time) -> Option<RequestId> {
    let payload: &[&[u8]] = &[request.body.as_bytes()];
    engine.request(request.subject(), None, payload, (Answers::One, PATIENCE), now).ok()
}
