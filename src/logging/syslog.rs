//! Where lines go: standard streams and files, which may be slow, and the system's log.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, fchown};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use super::cut;
use crate::escape::Escaped;
use crate::settings::Complaint;

/// Bytes of lines that wait for one stream. Beyond: lines are lost and counted.
const WAITING_MAXIMUM: usize = 64 * 1024;
/// What a pipe that has room at all takes without waiting.
const PIECE: usize = 4096;
/// Who may read a log file beside the broker: its group.
const MODE: u32 = 0o640;

#[derive(Debug)]
enum Sink {
    StandardError,
    StandardOutput,
    File { path: PathBuf, file: File },
}

/// A stream, and the lines that it has not taken yet.
#[derive(Debug)]
pub(super) struct Stream {
    sink: Sink,
    waiting: Vec<u8>,
    lost: u64,
    /// That it fails has been said.
    has_failed: bool,
}

impl Stream {
    const fn new(sink: Sink) -> Self {
        Self { sink, waiting: Vec::new(), lost: 0, has_failed: false }
    }

    pub(super) const fn standard_error() -> Self {
        Self::new(Sink::StandardError)
    }

    pub(super) const fn standard_output() -> Self {
        Self::new(Sink::StandardOutput)
    }

    pub(super) fn file(path: &Path) -> Result<Self, Complaint> {
        Ok(Self::new(Sink::File { path: path.to_owned(), file: open(path)? }))
    }

    /// Lets a line wait for the end of the turn.
    pub(super) fn push(&mut self, line: &[u8]) {
        if self.waiting.len() + line.len() > WAITING_MAXIMUM {
            self.flush();
        }
        if self.waiting.len() + line.len() > WAITING_MAXIMUM {
            self.lost += 1;
        } else {
            self.waiting.extend_from_slice(line);
        }
    }

    /// Writes what the stream takes without waiting for its reader.
    pub(super) fn flush(&mut self) {
        let mut written = 0;
        while written < self.waiting.len() {
            match self.sink.write(&self.waiting[written..]) {
                Ok(0) => break,
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    self.fail(&error);
                    written = self.waiting.len();
                }
            }
        }
        self.waiting.drain(..written);
        if self.waiting.is_empty() && self.lost > 0 {
            let lost = std::mem::take(&mut self.lost);
            self.waiting.extend(format!("{lost} lines were lost, because the log was not read.\n").bytes());
        }
        if self.waiting.is_empty() && self.waiting.capacity() > PIECE {
            self.waiting = Vec::new();
        }
    }

    /// Says once that a file can not be written, on standard error, because there is nobody else to tell.
    fn fail(&mut self, error: &io::Error) {
        if let (Sink::File { path, .. }, false) = (&self.sink, self.has_failed) {
            let path = path.display().to_string();
            let _ = writeln!(io::stderr(), "Error: unable to write log file {}: {error}.", Escaped(&path));
        }
        self.has_failed = true;
    }

    /// Opens a file again; without effect on others.
    pub(super) fn reopen(&mut self) -> Result<(), Complaint> {
        self.flush();
        if let Sink::File { path, file } = &mut self.sink {
            *file = open(path)?;
            self.has_failed = false;
        }
        Ok(())
    }

    /// Gives a file to another user. Where that is not allowed, opening it again will say so.
    pub(super) fn give_to(&self, user: u32, group: u32) {
        if let Sink::File { file, .. } = &self.sink {
            let _ = fchown(file, Some(user), Some(group));
        }
    }
}

fn open(path: &Path) -> Result<File, Complaint> {
    let opened = OpenOptions::new().append(true).create(true).mode(MODE).open(path);
    opened.map_err(|why| {
        Complaint::new(
            Escaped(&path.display().to_string()).to_string(),
            format!("unable to open the log file: {why}"),
        )
    })
}

impl Sink {
    /// Writes some of the bytes; none, if it would have to wait.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = &bytes[..bytes.len().min(PIECE)];
        match self {
            Self::StandardError if has_room(&io::stderr()) => io::stderr().write(piece),
            Self::StandardOutput if has_room(&io::stdout()) => {
                let mut stdout = io::stdout();
                stdout.write_all(piece)?;
                stdout.flush()?;
                Ok(piece.len())
            }
            Self::StandardError | Self::StandardOutput => Ok(0),
            Self::File { file, .. } => file.write(bytes),
        }
    }
}

/// Whether a stream takes bytes without waiting.
#[cfg(feature = "system")]
fn has_room(stream: &impl std::os::fd::AsFd) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut polled = [PollFd::new(stream.as_fd(), PollFlags::POLLOUT)];
    // One that is closed takes bytes by refusing them.
    poll(&mut polled, PollTimeout::ZERO).is_ok_and(|count| count > 0)
}

#[cfg(not(feature = "system"))]
fn has_room(_stream: &impl std::os::fd::AsFd) -> bool {
    true
}

/// Where the system's log listens.
const DEVICE: &str = "/dev/log";

/// The system's log. What it does not take at once is lost.
#[derive(Debug)]
pub(super) struct Syslog {
    facility: u8,
    device: PathBuf,
    socket: Option<UnixDatagram>,
}

impl Syslog {
    /// With a facility from local0 to local7, or that of daemons.
    pub(super) fn new(local: Option<u8>) -> Self {
        Self { facility: local.map_or(3, |local| 16 + local.min(7)), device: DEVICE.into(), socket: None }
    }

    pub(super) fn send(&mut self, severity: u8, stamp: &str, text: &str) {
        let priority = self.facility * 8 + severity;
        // It takes no line of any length either, and would lose it whole.
        let (name, process, text) = (env!("CARGO_PKG_NAME"), std::process::id(), cut(text));
        let line = format!("<{priority}>{stamp} {name}[{process}]: {text}");
        // It may have been started anew since the last line.
        for _ in 0..2 {
            if self.socket.is_none() {
                self.socket = connect(&self.device).ok();
            }
            match self.socket.as_ref().map(|socket| socket.send(line.as_bytes())) {
                Some(Err(error)) if error.kind() != io::ErrorKind::WouldBlock => self.socket = None,
                _ => return,
            }
        }
    }
}

fn connect(device: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(device)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests look at files")]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn scratch(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("brooklet-log-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).expect("a directory");
        directory
    }

    #[test]
    fn a_file_is_appended_to_and_opened_again_where_it_was_moved_away() {
        let directory = scratch("file");
        let path = directory.join("log");
        fs::write(&path, "old\n").expect("written");
        let mut stream = Stream::file(&path).expect("opened");
        stream.push(b"one\n");
        stream.flush();
        fs::rename(&path, directory.join("log.1")).expect("moved");
        stream.push(b"two\n");
        stream.reopen().expect("opened");
        stream.push(b"three\n");
        stream.flush();
        let read = |name: &str| fs::read_to_string(directory.join(name)).expect("read");
        assert_eq!([read("log.1"), read("log")], ["old\none\ntwo\n", "three\n"]);
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o007, 0, "nobody else reads it");
        fs::remove_dir_all(&directory).expect("removed");
    }

    #[test]
    fn a_full_disk_loses_lines_and_nothing_else() {
        let Ok(mut stream) = Stream::file(Path::new("/dev/full")) else { return };
        (0..10_000).for_each(|_| stream.push(b"a line\n"));
        stream.flush();
        assert!(stream.has_failed && stream.waiting.is_empty());
    }

    #[test]
    fn the_system_log_gets_priority_time_name_and_text() {
        let directory = scratch("syslog");
        let device = directory.join("log");
        let mut syslog = Syslog { device: device.clone(), ..Syslog::new(Some(2)) };
        syslog.send(4, "Jan  2 03:04:05", "nobody listens");
        for start in 0..2 {
            let listener = UnixDatagram::bind(&device).expect("bound");
            syslog.send(4, "Jan  2 03:04:05", "text");
            let mut bytes = [0; 200];
            let count = listener.recv(&mut bytes).expect("a line");
            let line = format!("<148>Jan  2 03:04:05 brooklet[{}]: text", std::process::id());
            assert_eq!(&bytes[..count], line.as_bytes(), "start {start}");
            fs::remove_file(&device).expect("removed");
        }
        let listener = UnixDatagram::bind(&device).expect("bound");
        syslog.send(4, "Jan  2 03:04:05", &"ö".repeat(400_000));
        listener.set_nonblocking(true).expect("set");
        assert!(listener.recv(&mut [0; 2_000]).expect("a line") < 1_100);
        fs::remove_dir_all(&directory).expect("removed");
        assert_eq!(Syslog::new(None).facility, 3);
    }
}
