//! The broker's binary as a child process whose log is read continuously.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// Longer than anything here takes; what takes longer has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A running broker. It is killed when this is dropped.
pub(crate) struct Server {
    child: Child,
    port: u16,
    log: Arc<Log>,
}

/// The lines that the broker has written to standard error so far.
#[derive(Default)]
struct Log {
    written: Mutex<Written>,
    changed: Condvar,
}

#[derive(Default)]
struct Written {
    lines: Vec<String>,
    is_over: bool,
}

/// The binary, without environment variables that would change its log. With `BROKER`, it is another one: the words of
/// a command, such as an emulator and a binary for another machine.
pub(crate) fn brooklet() -> Command {
    let other = std::env::var("BROKER").ok();
    let mut words =
        other.as_deref().map_or(vec![env!("CARGO_BIN_EXE_brooklet")], |other| other.split(' ').collect());
    let mut command = Command::new(words.remove(0));
    command.args(words).stdin(Stdio::null()).env_remove("RUST_LOG");
    command
}

impl Server {
    /// Starts the broker on a port that the system chooses, with these further flags.
    pub(crate) fn start(flags: &[&str]) -> Self {
        let mut command = brooklet();
        command.args(["-p", "0"]).args(flags);
        Self::follow(command)
    }

    /// Starts this command, which becomes a broker on a port that the system chooses.
    pub(crate) fn follow(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary can be started");
        let log = Arc::new(Log::default());
        let stderr = child.stderr.take().expect("standard error is a pipe");
        log.clone().follow(stderr);
        let mut server = Self { child, port: 0, log };
        let opened = server.wait_for_line("Opening ipv4 listen socket on port ");
        let number = opened.trim_end_matches('.').rsplit(' ').next();
        server.port = number.and_then(|text| text.parse().ok()).expect("the line ends with the port");
        server.wait_for_line(concat!("brooklet version ", env!("CARGO_PKG_VERSION"), " running"));
        server
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// The process identifier of the broker.
    pub(crate) fn process_identifier(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line that contains this text.
    pub(crate) fn wait_for_line(&self, text: &str) -> String {
        let is_there = |written: &Written| written.lines.iter().any(|line| line.contains(text));
        let lines = self.log.wait_until(|written| is_there(written) || written.is_over);
        let line = lines.iter().find(|line| line.contains(text));
        line.unwrap_or_else(|| panic!("no line with {text:?} in:\n{}", lines.join("\n"))).clone()
    }

    /// Waits until this many lines contain this text.
    pub(crate) fn wait_for_lines(&self, text: &str, count: usize) {
        let so_many = |written: &Written| written.lines.iter().filter(|line| line.contains(text)).count();
        self.log.wait_until(|written| so_many(written) >= count || written.is_over);
    }

    /// The lines so far that contain this text.
    pub(crate) fn lines_with(&self, text: &str) -> Vec<String> {
        let written = self.log.written.lock().expect("the reader has not panicked");
        written.lines.iter().filter(|line| line.contains(text)).cloned().collect()
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.process_identifier().to_string()]).status();
        assert!(status.expect("there is a program `kill`").success());
    }

    /// Waits until the broker has ended; returns its exit code and its whole log.
    pub(crate) fn wait_for_end(mut self) -> (Option<i32>, Vec<String>) {
        let lines = self.log.wait_until(|written| written.is_over);
        let status = self.child.wait().expect("the child can be waited for");
        (status.code(), lines)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Log {
    #[expect(clippy::disallowed_methods, reason = "a pipe that is not emptied would stop the broker")]
    fn follow(self: Arc<Self>, stderr: ChildStderr) {
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                self.written.lock().expect("no test panics with the lock").lines.push(line);
                self.changed.notify_all();
            }
            self.written.lock().expect("no test panics with the lock").is_over = true;
            self.changed.notify_all();
        });
    }

    fn wait_until(&self, condition: impl Fn(&Written) -> bool) -> Vec<String> {
        let written = self.written.lock().expect("the reader has not panicked");
        let waited = self.changed.wait_timeout_while(written, PATIENCE, |written| !condition(written));
        let (written, outcome) = waited.expect("the reader has not panicked");
        assert!(!outcome.timed_out(), "waited in vain; the log is:\n{}", written.lines.join("\n"));
        written.lines.clone()
    }
}
