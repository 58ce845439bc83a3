//! The log: which lines are written, what precedes them, and where they are written to. The lines and their kinds are
//! those that tools for watching mosquitto's log expect.
//!
//! The kind of a line is determined by its level, unless its target is one of the words in `Kind::of`, which other
//! rooms use to set the kind. Lines of other crates are of the kind `internal`.
//!
//! The lines of one turn of the loop are written together at its end. A warning or an error is written at once, with
//! all lines before it. A reader or a terminal that stalls does not stall the broker: each of them has a thread that
//! waits for it, and a limited queue. Lines that exceed the limit are lost and counted. Files on disk are written by
//! the loop.

mod flood;
mod stamp;
mod stream;
mod syslog;

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use env_logger::Target;
use log::{Level, LevelFilter, Metadata, Record};

use crate::base::plural::{Count, was};
use crate::settings::{ConfigError, Given, Log, LogDestination, LogKinds};

use flood::Flood;
use stamp::Stamp;
use stream::{Place, Stream};
use syslog::Syslog;

pub use stamp::in_utc;

/// The maximum length of a log line in bytes. Longer lines are truncated.
const LINE_MAXIMUM: usize = 1000;
/// How long the broker waits for the log to be read when it exits.
const PATIENCE: Duration = Duration::from_secs(2);
/// The maximum number of lines that are queued to be published. Further lines are lost.
const TOPIC_LINES_MAXIMUM: usize = 100;

/// The kinds of lines, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
enum Kind {
    Error = 1,
    Warning = 1 << 1,
    Notice = 1 << 2,
    Information = 1 << 3,
    Debug = 1 << 4,
    Subscribe = 1 << 5,
    Unsubscribe = 1 << 6,
    Websockets = 1 << 7,
    Internal = 1 << 8,
    /// A notice that a client has connected or disconnected.
    Connection = 1 << 9,
}

impl Kind {
    fn of(metadata: &Metadata<'_>) -> Self {
        match (metadata.target(), metadata.level()) {
            ("connection", _) => Self::Connection,
            ("notice", _) => Self::Notice,
            ("subscribe", _) => Self::Subscribe,
            ("unsubscribe", _) => Self::Unsubscribe,
            ("websockets", _) => Self::Websockets,
            (target, _) if !target.starts_with(env!("CARGO_CRATE_NAME")) => Self::Internal,
            (_, Level::Error) => Self::Error,
            (_, Level::Warn) => Self::Warning,
            (_, Level::Info) => Self::Information,
            (_, Level::Debug) => Self::Debug,
            (_, Level::Trace) => Self::Internal,
        }
    }

    /// The topic to publish lines of this kind to; `None` if they are never published.
    const fn topic(self) -> Option<&'static str> {
        match self {
            Self::Error => Some("$SYS/broker/log/E"),
            Self::Warning => Some("$SYS/broker/log/W"),
            Self::Notice | Self::Connection => Some("$SYS/broker/log/N"),
            Self::Information => Some("$SYS/broker/log/I"),
            Self::Subscribe => Some("$SYS/broker/log/M/subscribe"),
            Self::Unsubscribe => Some("$SYS/broker/log/M/unsubscribe"),
            Self::Websockets => Some("$SYS/broker/log/WS"),
            Self::Debug | Self::Internal => None,
        }
    }

    /// The severity for syslog.
    const fn severity(self) -> u8 {
        match self {
            Self::Error => 3,
            Self::Warning => 4,
            Self::Notice | Self::Connection | Self::Subscribe | Self::Unsubscribe => 5,
            Self::Information => 6,
            Self::Debug | Self::Websockets | Self::Internal => 7,
        }
    }
}

fn bits(log: &Log) -> u16 {
    let LogKinds { error, warning, notice, information, debug, subscribe, unsubscribe, websockets, internal } =
        log.kinds;
    [
        (error, Kind::Error),
        (warning, Kind::Warning),
        (notice, Kind::Notice),
        (information, Kind::Information),
        (debug, Kind::Debug),
        (subscribe, Kind::Subscribe),
        (unsubscribe, Kind::Unsubscribe),
        (websockets, Kind::Websockets),
        (internal, Kind::Internal),
        (notice && log.has_connections, Kind::Connection),
    ]
    .into_iter()
    .filter(|_| !log.destinations.is_empty())
    .fold(0, |bits, (is_on, kind)| if is_on { bits | kind as u16 } else { bits })
}

/// The least important level of which lines are written.
const fn level(bits: u16) -> LevelFilter {
    const LATER: u16 = Kind::Error as u16 | Kind::Warning as u16;
    match bits {
        _ if bits & (Kind::Debug as u16 | Kind::Internal as u16) != 0 => LevelFilter::Debug,
        _ if bits & !LATER != 0 => LevelFilter::Info,
        _ if bits & Kind::Warning as u16 != 0 => LevelFilter::Warn,
        0 => LevelFilter::Off,
        _ => LevelFilter::Error,
    }
}

/// The destinations of lines.
#[derive(Debug)]
struct Outputs {
    streams: Vec<Stream>,
    syslog: Option<Syslog>,
    /// The lines to be published, each with its topic; `None` if lines are not published.
    topics: Option<VecDeque<(&'static str, String)>>,
    stamp: Stamp,
    /// The rate limit for lines about clients; `None` if every packet is logged.
    flood: Option<Flood>,
    /// Whether the log is being published. Lines that are logged during this are not published themselves.
    is_publishing: bool,
}

impl Outputs {
    /// Opens all destinations, except streams that are already open.
    fn open(log: &Log, streams: &[Stream]) -> Result<Self, ConfigError> {
        let mut outputs = Self {
            streams: Vec::new(),
            syslog: None,
            topics: None,
            stamp: Stamp::new(log.time.clone()),
            flood: (!log.kinds.debug).then(Flood::default),
            is_publishing: false,
        };
        for destination in &log.destinations {
            match &destination.value {
                LogDestination::Syslog(facility) => outputs.syslog = Some(Syslog::new(*facility)),
                LogDestination::Topic => outputs.topics = Some(VecDeque::new()),
                _ => {}
            }
        }
        for place in places(log).filter(|place| streams.iter().all(|stream| stream.place() != place)) {
            outputs.streams.push(Stream::open(place)?);
        }
        Ok(outputs)
    }

    /// Replaces the current outputs. Streams that are still wanted are moved over. Lines queued in the others are still
    /// written.
    fn replace(mut self, current: &mut Self, log: &Log) {
        current.flush();
        let streams = std::mem::take(&mut current.streams);
        let wanted = |mut stream: Stream| {
            stream.set_place(places(log).find(|place| place == stream.place())?);
            Some(stream)
        };
        self.streams.extend(streams.into_iter().filter_map(wanted));
        *current = self;
    }

    /// Whether to write a line. If lines were omitted before it, first writes a line with their number.
    fn admit(&mut self, kind: Kind, second: u64) -> bool {
        let (Some(flood), Kind::Connection | Kind::Notice) = (&mut self.flood, kind) else { return true };
        let admitted = flood.admit(second);
        if let Some(count @ 1..) = admitted {
            self.write(kind, second, &format!("{} {} omitted.", Count(count, "line"), was(count == 1)));
        }
        admitted.is_some()
    }

    fn write(&mut self, kind: Kind, second: u64, text: &str) {
        let line = [self.stamp.prefix(second), text].concat();
        let mut line = cut(&line).to_owned();
        if let (Some(topics), Some(topic), false) = (&mut self.topics, kind.topic(), self.is_publishing)
            && topics.len() < TOPIC_LINES_MAXIMUM
        {
            topics.push_back((topic, line.clone()));
        }
        if let Some(syslog) = &mut self.syslog {
            // Its lines have their own timestamp.
            syslog.send(kind.severity(), &self.stamp.of_syslog(second), text);
        }
        line.push('\n');
        self.streams.iter().for_each(|stream| stream.push(line.as_bytes()));
        if matches!(kind, Kind::Error | Kind::Warning) {
            self.flush();
        }
    }

    fn flush(&self) {
        self.streams.iter().for_each(Stream::flush);
    }

    /// Waits until all lines are written, but at most for [`PATIENCE`].
    fn finish(&self) {
        let end = stream::now() + PATIENCE;
        self.streams.iter().for_each(|stream| stream.finish(end));
    }
}

/// The streams in the settings.
fn places(log: &Log) -> impl Iterator<Item = Given<Place>> {
    log.destinations.iter().filter_map(|destination| {
        let place = match &destination.value {
            LogDestination::StandardError => Place::StandardError,
            LogDestination::StandardOutput => Place::StandardOutput,
            LogDestination::File(path) => Place::File(path.clone()),
            LogDestination::Syslog(_) | LogDestination::Topic => return None,
        };
        Some(destination.map(|_| place))
    })
}

/// Truncates a line.
fn cut(line: &str) -> &str {
    let end = (0..=LINE_MAXIMUM.min(line.len())).rev().find(|&end| line.is_char_boundary(end));
    end.and_then(|end| line.get(..end)).unwrap_or_default()
}

/// The buffer for the text of one record, which `env_logger` formats.
#[derive(Clone, Debug, Default)]
struct Words(Arc<Mutex<Vec<u8>>>);

impl Write for Words {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.0).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The log of this process.
struct Logger {
    formatter: env_logger::Logger,
    words: Words,
    /// The bits of the kinds that are written.
    kinds: AtomicU16,
    outputs: Mutex<Outputs>,
    /// Whether a line was written in this turn. Most turns have none and need not lock the outputs.
    has_lines: AtomicBool,
}

impl log::Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.kinds.load(Ordering::Relaxed) & Kind::of(metadata) as u16 != 0
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let (kind, second) = (Kind::of(record.metadata()), epoch());
        let mut outputs = lock(&self.outputs);
        if outputs.admit(kind, second) {
            log::Log::log(&self.formatter, record);
            let words = std::mem::take(&mut *lock(&self.words.0));
            outputs.write(kind, second, &String::from_utf8_lossy(&words));
            self.has_lines.store(true, Ordering::Relaxed);
        }
    }

    fn flush(&self) {
        if self.has_lines.load(Ordering::Relaxed) {
            self.has_lines.store(false, Ordering::Relaxed);
            lock(&self.outputs).flush();
        }
    }
}

static LOGGER: OnceLock<Logger> = OnceLock::new();

/// Locks, ignoring poison: a panic while a line is written does not leave an inconsistent state.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[expect(clippy::disallowed_methods, reason = "a log line has the time")]
fn epoch() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Starts logging, or changes the settings of the log.
///
/// # Errors
///
/// A file cannot be opened. The log then continues unchanged.
pub fn set_up(log: &Log) -> Result<(), ConfigError> {
    if let Some(logger) = LOGGER.get() {
        let mut current = lock(&logger.outputs);
        Outputs::open(log, &current.streams)?.replace(&mut current, log);
    } else {
        begin(Outputs::open(log, &[])?);
    }
    let kinds = bits(log);
    if let Some(logger) = LOGGER.get() {
        logger.kinds.store(kinds, Ordering::Relaxed);
    }
    log::set_max_level(level(kinds));
    Ok(())
}

fn begin(outputs: Outputs) {
    let words = Words::default();
    let formatter = env_logger::Builder::new()
        .filter_level(LevelFilter::Trace)
        .target(Target::Pipe(Box::new(words.clone())))
        .format(|buffer, record| write!(buffer, "{}", record.args()))
        .build();
    let logger = Logger {
        formatter,
        words,
        kinds: AtomicU16::new(0),
        outputs: Mutex::new(outputs),
        has_lines: AtomicBool::new(false),
    };
    let logger = LOGGER.get_or_init(|| logger);
    log::set_logger(logger).expect("there is no other logger");
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // The panic may have occurred while the log is locked, so this does not wait for the lock.
        if let Some(outputs) = LOGGER.get().and_then(|logger| logger.outputs.try_lock().ok()) {
            outputs.finish();
        }
        usual(panic);
    }));
}

/// Waits until all lines are written, but at most for two seconds. To be called at exit.
pub fn finish() {
    if let Some(logger) = LOGGER.get() {
        lock(&logger.outputs).finish();
    }
}

/// Reopens the log files, because they have been moved. Returns an error for each that cannot be opened; logging to it
/// continues unchanged.
pub fn reopen() -> Vec<ConfigError> {
    let Some(logger) = LOGGER.get() else { return Vec::new() };
    lock(&logger.outputs).streams.iter().filter_map(|stream| stream.reopen().err()).collect()
}

/// Changes the owner of the log files to this user and group. This is done before the broker switches to them, so that
/// it can reopen the files later.
pub fn give_to(user: u32, group: u32) {
    let Some(logger) = LOGGER.get() else { return };
    lock(&logger.outputs).streams.iter().for_each(|stream| stream.give_to(user, group));
}

/// Calls `publish` for each queued line, with its topic.
pub fn publish(mut publish: impl FnMut(&str, &str)) {
    let Some(logger) = LOGGER.get() else { return };
    let lines = {
        let mut outputs = lock(&logger.outputs);
        match &mut outputs.topics {
            Some(topics) if !topics.is_empty() => {
                let lines = std::mem::take(topics);
                outputs.is_publishing = true;
                lines
            }
            _ => return,
        }
    };
    for (topic, line) in lines {
        publish(topic, &line);
    }
    lock(&logger.outputs).is_publishing = false;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::LogTime;

    fn settings(destinations: Vec<LogDestination>) -> Log {
        let kinds = LogKinds {
            error: true,
            warning: true,
            notice: true,
            information: true,
            debug: false,
            subscribe: false,
            unsubscribe: false,
            websockets: false,
            internal: false,
        };
        let destinations = destinations.into_iter().map(Given::from).collect();
        Log { destinations, kinds, time: LogTime::Epoch, has_connections: true }
    }

    fn kind(target: &str, level: Level) -> Kind {
        Kind::of(&Metadata::builder().target(target).level(level).build())
    }

    #[test]
    fn the_kind_is_determined_by_target_and_level() {
        for (target, level, expected) in [
            ("brooklet::core::broker::disconnect", Level::Info, Kind::Information),
            ("brooklet::core::broker::match_cache", Level::Warn, Kind::Warning),
            ("brooklet", Level::Error, Kind::Error),
            ("brooklet::core::broker", Level::Debug, Kind::Debug),
            ("connection", Level::Info, Kind::Connection),
            ("subscribe", Level::Info, Kind::Subscribe),
            ("other", Level::Error, Kind::Internal),
        ] {
            assert_eq!(kind(target, level), expected, "{target} {level}");
        }
    }

    #[test]
    fn the_level_is_the_least_important_that_is_needed() {
        let mut log = settings(vec![LogDestination::StandardError]);
        assert_eq!(level(bits(&log)), LevelFilter::Info);
        log.has_connections = false;
        assert_eq!(bits(&log) & Kind::Connection as u16, 0);
        log.kinds.debug = true;
        assert_eq!(level(bits(&log)), LevelFilter::Debug);
        log.kinds = LogKinds { error: true, ..none() };
        assert_eq!(level(bits(&log)), LevelFilter::Error);
        log.kinds = LogKinds { subscribe: true, ..none() };
        assert_eq!(level(bits(&log)), LevelFilter::Info);
        log.destinations.clear();
        assert_eq!(level(bits(&log)), LevelFilter::Off);
    }

    const fn none() -> LogKinds {
        LogKinds {
            error: false,
            warning: false,
            notice: false,
            information: false,
            debug: false,
            subscribe: false,
            unsubscribe: false,
            websockets: false,
            internal: false,
        }
    }

    #[test]
    fn lines_are_truncated_counted_and_published_within_limits() {
        let mut outputs =
            Outputs::open(&settings(vec![LogDestination::Topic]), &[]).expect("nothing to open");
        outputs.write(Kind::Warning, 7, &"ö".repeat(1_000));
        let queued = |outputs: &Outputs| outputs.topics.as_ref().map_or(0, VecDeque::len);
        let (topic, line) = outputs.topics.as_mut().and_then(VecDeque::pop_front).expect("a line");
        assert_eq!((topic, line.len(), &line[..5]), ("$SYS/broker/log/W", 999, "7: ö"));
        outputs.write(Kind::Debug, 7, "never");
        assert_eq!(queued(&outputs), 0);
        let written = (0..1_500).filter(|_| outputs.admit(Kind::Connection, 7)).count();
        assert_eq!((written, outputs.admit(Kind::Information, 7)), (1_000, true));
        assert!(outputs.admit(Kind::Connection, 8));
        assert_eq!(outputs.topics.as_ref().expect("on")[0].1, "8: 500 lines were omitted.");
        (0..500).for_each(|_| outputs.write(Kind::Error, 7, "x"));
        assert_eq!(queued(&outputs), TOPIC_LINES_MAXIMUM);
    }

    #[test]
    fn lines_logged_while_publishing_are_not_published() {
        let mut outputs =
            Outputs::open(&settings(vec![LogDestination::Topic]), &[]).expect("nothing to open");
        outputs.is_publishing = true;
        outputs.write(Kind::Error, 7, "x");
        assert!(outputs.topics.expect("on").is_empty());
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_an_error() {
        let log = settings(vec![LogDestination::File("/no/where/log".into())]);
        let error = Outputs::open(&log, &[]).expect_err("there is no such directory").to_string();
        assert!(error.starts_with("/no/where/log: unable to open the log file"), "{error}");
    }

    #[test]
    fn a_stream_that_is_still_wanted_stays_open() {
        let null = |path: &str| LogDestination::File(path.into());
        let before = settings(vec![null("/dev/null"), LogDestination::StandardError]);
        let mut outputs = Outputs::open(&before, &[]).expect("opened");
        let after = settings(vec![LogDestination::StandardError, LogDestination::Topic]);
        let opened = Outputs::open(&after, &outputs.streams).expect("opened");
        assert!(opened.streams.is_empty(), "it is already open");
        opened.replace(&mut outputs, &after);
        assert_eq!(
            outputs.streams.iter().map(Stream::place).collect::<Vec<_>>(),
            [&Place::StandardError.into()]
        );
    }
}
