//! Standard streams and files. Writing to a pipe or a terminal may block. So each of them has a thread that writes to
//! it, and all other threads put lines into its queue. A file on disk is written by the loop at the end of a turn: with
//! a second thread, every allocation of the loop would be slower.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt as _, fchown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::lock;
use crate::base::escape::Escaped;
use crate::base::files;
use crate::base::plural::{Count, was};
use crate::settings::{ConfigError, Given};

/// The maximum bytes of lines that are queued for one stream, in addition to as many that are being written. Further
/// lines are lost and counted.
const WAITING_MAXIMUM: usize = 256 * 1024;
/// The bytes of queued lines above which they are written before the end of the turn.
const ENOUGH: usize = 64 * 1024;
/// The capacity in bytes that an empty queue keeps at most.
const ROOM_KEPT: usize = 4096;
/// The mode of a log file: its group may read it.
const MODE: u32 = 0o640;
/// The stack of the thread, which has no deep calls.
const STACK_BYTES: usize = 64 * 1024;
/// How long the thread sleeps if a non-blocking stream accepts no bytes.
const RETRY: Duration = Duration::from_millis(50);

/// Where lines are written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    StandardError,
    StandardOutput,
    File(PathBuf),
}

impl Place {
    /// Opens it with a new descriptor.
    fn open(&self) -> io::Result<File> {
        match self {
            Self::StandardError => io::stderr().as_fd().try_clone_to_owned().map(File::from),
            Self::StandardOutput => io::stdout().as_fd().try_clone_to_owned().map(File::from),
            Self::File(path) => files::append_to_any(path, MODE),
        }
    }
}

fn open_or_report(place: &Given<Place>) -> Result<File, ConfigError> {
    place.value.open().map_err(|why| match &place.value {
        Place::StandardError => {
            place.error("log_dest stderr", format_args!("unable to open the log to standard error: {why}"))
        }
        Place::StandardOutput => {
            place.error("log_dest stdout", format_args!("unable to open the log to standard output: {why}"))
        }
        Place::File(path) => {
            let what = format!("unable to open the log file: {why}");
            place.map(|_| path.clone()).error_in(what)
        }
    })
}

fn shown(path: &Path) -> String {
    Escaped(&path.display().to_string()).to_string()
}

/// A stream that lines are written to. When it is dropped, its thread still writes the queued lines.
#[derive(Debug)]
pub(super) struct Stream {
    place: Given<Place>,
    queue: Arc<Queue>,
}

/// The state shared between the threads that log and the thread that writes.
#[derive(Debug)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    file: Arc<File>,
    /// The lines that have not been taken to be written yet.
    waiting: Vec<u8>,
    /// The empty buffer of the lines written before, to be reused.
    spare: Vec<u8>,
    /// The number of lines lost since lines were last taken.
    lost: u64,
    is_writing: bool,
    /// Whether a thread writes the lines. It continues to do so when the stream is reopened as a file on disk.
    has_thread: bool,
    /// Whether the stream was dropped, so no more lines follow.
    is_over: bool,
    /// Whether a failure to write has been reported.
    has_failed: bool,
}

impl State {
    const fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.lost == 0
    }
}

impl Stream {
    /// Opens the place and, if writing to it may block, starts a thread.
    pub(super) fn open(place: Given<Place>) -> Result<Self, ConfigError> {
        let file = Arc::new(open_or_report(&place)?);
        let may_block = may_block(&file);
        let state = State {
            file,
            waiting: Vec::new(),
            spare: Vec::new(),
            lost: 0,
            is_writing: false,
            has_thread: false,
            is_over: false,
            has_failed: false,
        };
        let queue = Arc::new(Queue { state: Mutex::new(state), changed: Condvar::new() });
        let stream = Self { place, queue };
        if may_block {
            stream.start_thread(&mut lock(&stream.queue.state))?;
        }
        Ok(stream)
    }

    fn start_thread(&self, state: &mut State) -> Result<(), ConfigError> {
        let (writer, place) = (Arc::clone(&self.queue), self.place.value.clone());
        thread::Builder::new()
            .name("log".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || writer.write_all(&place))
            .map_err(|why| {
                self.place.error("log_dest", format_args!("unable to start the log thread: {why}"))
            })?;
        state.has_thread = true;
        Ok(())
    }

    /// Where the lines are written to.
    pub(super) const fn place(&self) -> &Given<Place> {
        &self.place
    }

    /// The same place may be configured in another line now.
    pub(super) fn set_place(&mut self, place: Given<Place>) {
        self.place = place;
    }

    /// Queues a line until the end of the turn, if the limit allows it.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = lock(&self.queue.state);
        // Once a line is lost, all lines are until the number of lost ones is written, so that it is in the right
        // place.
        if state.lost > 0 || state.waiting.len() + line.len() > WAITING_MAXIMUM {
            state.lost += 1;
            return;
        }
        state.waiting.extend_from_slice(line);
        if state.waiting.len() >= ENOUGH {
            self.write_out(state);
        }
    }

    /// Writes the queued lines, or wakes the thread to do so.
    fn write_out(&self, state: MutexGuard<'_, State>) {
        if state.has_thread {
            self.queue.changed.notify_all();
        } else {
            self.queue.write_once(state, &self.place.value);
        }
    }

    /// Writes the queued lines, or wakes the thread to do so. Frees excess capacity.
    pub(super) fn flush(&self) {
        let mut state = lock(&self.queue.state);
        // This is freed here so that the thread does not need an arena of the allocator.
        if state.spare.capacity() > ROOM_KEPT {
            state.spare = Vec::new();
        }
        if !state.is_idle() {
            self.write_out(state);
        }
    }

    /// Waits until everything is written, but not beyond `end`.
    pub(super) fn finish(&self, end: Instant) {
        self.flush();
        let state = lock(&self.queue.state);
        let patience = end.saturating_duration_since(now());
        let is_busy = |state: &mut State| state.is_writing || !state.is_idle();
        // Lines that are not written by then are lost.
        let _ = self.queue.changed.wait_timeout_while(state, patience, is_busy);
    }

    /// Reopens a file, to which queued lines are then written. Does nothing for standard streams.
    pub(super) fn reopen(&self) -> Result<(), ConfigError> {
        if let Place::File(_) = self.place.value {
            let file = Arc::new(open_or_report(&self.place)?);
            let mut state = lock(&self.queue.state);
            if may_block(&file) && !state.has_thread {
                self.start_thread(&mut state)?;
            }
            state.file = file;
            state.has_failed = false;
        }
        Ok(())
    }

    /// Changes the owner of a file. If this fails, reopening the file later reports an error. Devices, links and the
    /// target of a redirected standard stream keep their owners.
    pub(super) fn give_to(&self, user: u32, group: u32) {
        let Place::File(path) = &self.place.value else { return };
        let file = Arc::clone(&lock(&self.queue.state).file);
        if is_that_file(path, &file) {
            let _ = fchown(&file, Some(user), Some(group));
        }
    }
}

/// Whether writing may block, since this is not a file on disk.
fn may_block(file: &File) -> bool {
    file.metadata().map_or(true, |metadata| !metadata.is_file())
}

/// Whether the path itself, not a link, names the opened file.
fn is_that_file(path: &Path, file: &File) -> bool {
    match (path.symlink_metadata(), file.metadata()) {
        (Ok(named), Ok(opened)) => {
            named.is_file() && (named.dev(), named.ino()) == (opened.dev(), opened.ino())
        }
        _ => false,
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        lock(&self.queue.state).is_over = true;
        self.queue.changed.notify_all();
    }
}

impl Queue {
    /// Runs the thread: writes lines until the stream is dropped.
    fn write_all(&self, place: &Place) {
        let mut state = lock(&self.state);
        loop {
            state = self.wait(state);
            if state.is_idle() {
                return;
            }
            self.write_once(state, place);
            state = lock(&self.state);
        }
    }

    /// Writes the lines that are queued now.
    fn write_once(&self, mut state: MutexGuard<'_, State>, place: &Place) {
        let mut lines = std::mem::take(&mut state.spare);
        std::mem::swap(&mut lines, &mut state.waiting);
        if state.lost > 0 {
            let lost = std::mem::take(&mut state.lost);
            let (count, verb) = (Count(lost, "line"), was(lost == 1));
            lines.extend(format!("{count} {verb} lost, because the log was not read.\n").bytes());
        }
        state.is_writing = true;
        let file = Arc::clone(&state.file);
        drop(state);
        let outcome = write(&file, &lines);
        lines.clear();
        let mut state = lock(&self.state);
        state.spare = lines;
        state.is_writing = false;
        self.changed.notify_all();
        if let Err(error) = outcome
            && !std::mem::replace(&mut state.has_failed, true)
        {
            drop(state);
            report_failure(place, &error);
        }
    }

    /// Waits for lines, or for the stream to be dropped.
    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let is_idle = |state: &mut State| state.is_idle() && !state.is_over;
        self.changed.wait_while(state, is_idle).unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes all bytes, however long that takes.
fn write(mut file: &File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => bytes = bytes.split_at(count).1,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Another process that shares the stream has made it non-blocking.
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(RETRY),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reports on standard error that a file cannot be written.
fn report_failure(place: &Place, error: &io::Error) {
    if let (Place::File(path), Ok(file)) = (place, Place::StandardError.open()) {
        let line = format!("Error: unable to write log file {}: {error}.\n", shown(path));
        let _ = write(&file, line.as_bytes());
    }
}

#[expect(clippy::disallowed_methods, reason = "waiting at exit is independent of the broker's clock")]
pub(super) fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "tests look at files")]

    use super::*;
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    fn scratch(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("brooklet-log-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).expect("a directory");
        directory
    }

    fn stream(path: &Path) -> Stream {
        Stream::open(Place::File(path.to_owned()).into()).expect("opened")
    }

    fn finish(stream: &Stream) {
        stream.finish(now() + Duration::from_secs(60));
    }

    #[test]
    fn a_file_is_appended_to_and_reopened_after_it_was_moved() {
        let directory = scratch("file");
        let path = directory.join("log");
        fs::write(&path, "old\n").expect("written");
        let stream = stream(&path);
        stream.push(b"one\n");
        finish(&stream);
        fs::rename(&path, directory.join("log.1")).expect("moved");
        stream.push(b"two\n");
        finish(&stream);
        stream.reopen().expect("opened");
        stream.push(b"three\n");
        finish(&stream);
        let read = |name: &str| fs::read_to_string(directory.join(name)).expect("read");
        assert_eq!([read("log.1"), read("log")], ["old\none\ntwo\n", "three\n"]);
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o007, 0, "others cannot read it");
        fs::remove_dir_all(&directory).expect("removed");
    }

    #[test]
    fn a_full_disk_loses_lines_and_nothing_else() {
        let stream = stream(Path::new("/dev/full"));
        for _ in 0..3 {
            (0..100).for_each(|_| stream.push(b"a line\n"));
            finish(&stream);
        }
        let state = lock(&stream.queue.state);
        assert!(state.has_failed && state.is_idle());
    }

    #[test]
    fn a_stalled_reader_does_not_block_and_receives_the_number_of_lost_lines() {
        let directory = scratch("fifo");
        let path = directory.join("log");
        assert!(Command::new("mkfifo").arg(&path).status().expect("started").success());
        let stream = stream(&path);
        let line = [&[b'x'; 999][..], b"\n"].concat();
        let count = 2_000;
        for _ in 0..count {
            stream.push(&line);
            stream.flush();
        }
        stream.finish(now());
        {
            let state = lock(&stream.queue.state);
            assert!(state.lost > 0 && state.waiting.len() <= WAITING_MAXIMUM);
        }
        let mut reader = fs::File::open(&path).expect("opened");
        drop(stream);
        let mut text = String::new();
        let mut piece = [0; 4096];
        // Each line is either there or counted as lost.
        let lines_of =
            |line: &str| line.split_once(" lines were lost").map_or(Ok(1), |(lost, _)| lost.parse());
        let accounted = |text: &str| text.lines().map(|line| lines_of(line).expect("a number")).sum::<u64>();
        while accounted(&text) < count {
            let count = reader.read(&mut piece).expect("read");
            text.push_str(std::str::from_utf8(&piece[..count]).expect("text"));
        }
        assert_eq!(accounted(&text), count);
        assert!(text.contains("because the log was not read."));
        fs::remove_dir_all(&directory).expect("removed");
    }

    #[test]
    fn only_a_file_of_this_name_changes_its_owner() {
        let directory = scratch("owner");
        let path = directory.join("log");
        let link = directory.join("link");
        std::os::unix::fs::symlink(&path, &link).expect("linked");
        let file = stream(&path);
        let same = |path: &Path| is_that_file(path, &lock(&file.queue.state).file);
        assert!(same(&path));
        assert!(!same(&link) && !same(Path::new("/dev/null")) && !same(&directory));
        let device = fs::OpenOptions::new().append(true).open("/dev/null").expect("opened");
        assert!(!is_that_file(Path::new("/dev/null"), &device));
        fs::remove_dir_all(&directory).expect("removed");
    }
}
