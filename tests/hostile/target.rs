//! A broker under attack: its memory before and now, and whether a well-behaved client is served.

use std::fs;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::peer::{Peer, SERVED_WITHIN};
use crate::server::Server;
use crate::wire::{Publish, V5};

pub const KIB: usize = 1024;
pub const MIB: usize = 1024 * KIB;

/// Freed memory that the allocator may keep: pages below a block in use, which differ from run to run.
const ALLOCATOR_SLACK: usize = 3 * MIB;

/// Freed memory that the allocator may keep, and buffers that are kept: one read buffer, a MiB of spare outbox
/// buffers, scratch space, and pages that one small block pins.
pub const SLACK: usize = 3 * MIB;

pub struct Target {
    server: Server,
    healthy: Peer,
    /// Memory, descriptors and log lines before the attack.
    memory: usize,
    descriptors: usize,
    lines: usize,
}

impl Target {
    /// Starts a broker with these flags and one well-behaved client.
    pub fn start(flags: &[&str]) -> Self {
        Self::of(Server::start(flags))
    }

    /// The same with at most this many descriptors.
    pub fn with_descriptors(count: usize) -> Self {
        let mut command = Command::new("sh");
        let script = format!("ulimit -n {count}; exec \"$0\" -p 0");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_brooklet")]);
        command.stdin(Stdio::null()).env_remove("RUST_LOG");
        Self::of(Server::follow(command))
    }

    /// Uses this broker.
    pub fn of(server: Server) -> Self {
        let mut healthy = Peer::connect(server.address(), "healthy");
        assert_eq!(healthy.subscribe("healthy/round", 0), 0);
        let mut target = Self { server, healthy, memory: 0, descriptors: 0, lines: 0 };
        target.serves();
        target.wait_for_line("as healthy (");
        target.begin();
        target
    }

    /// Starts to count what the attack costs.
    pub fn begin(&mut self) {
        self.memory = self.resident();
        self.descriptors = self.descriptors();
        // Any lines that the broker wrote before this answer arrive within that time.
        std::thread::sleep(Duration::from_millis(50));
        self.lines = self.log_lines();
    }

    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Sends a message of the well-behaved client through the broker and back: the broker is neither dead nor stuck.
    /// The bound shows that no client is left waiting, not how fast the machine is.
    pub fn serves(&mut self) {
        let started = now();
        self.healthy.send(&Publish::new(V5, "healthy/round", b"trip").qos(1, 7).bytes());
        let mut kinds = [self.healthy.packet()[0], self.healthy.packet()[0]];
        kinds.sort_unstable();
        assert_eq!(kinds, [0x30, 0x40], "the message and its PUBACK come back");
        self.is_in_time(started);
    }

    /// The same at QoS 0, which works even when nothing may be stored.
    pub fn serves_at_most_once(&mut self) {
        let started = now();
        self.healthy.send(&Publish::new(V5, "healthy/round", b"trip").bytes());
        assert_eq!(self.healthy.payload(), b"trip");
        self.is_in_time(started);
    }

    fn is_in_time(&self, started: Instant) {
        let taken = started.elapsed();
        assert!(taken < SERVED_WITHIN, "a round trip took {taken:?}");
    }

    /// Resident memory, in bytes.
    pub fn resident(&self) -> usize {
        self.status("VmRSS:")
    }

    /// The part of it that belongs to no file, in bytes.
    #[cfg(target_env = "gnu")]
    pub fn anonymous(&self) -> usize {
        self.status("RssAnon:")
    }

    /// A size in `/proc/.../status`, in bytes.
    fn status(&self, name: &str) -> usize {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
        kilobytes.expect("the process lives and has memory") * KIB
    }

    /// The most memory that was ever resident, in bytes.
    #[cfg(all(feature = "persistence", feature = "tls"))]
    pub fn most_resident(&self) -> usize {
        self.status("VmHWM:")
    }

    /// The resident pages of files, in bytes: the code of the binary and its libraries.
    #[cfg(all(feature = "persistence", feature = "tls"))]
    pub fn resident_code(&self) -> usize {
        self.status("RssFile:")
    }

    pub fn growth(&self) -> usize {
        self.resident().saturating_sub(self.memory)
    }

    pub fn descriptors(&self) -> usize {
        let directory = format!("/proc/{}/fd", self.server.process_identifier());
        fs::read_dir(directory).expect("the process lives").count()
    }

    /// The processor time of the process.
    pub fn processor_time(&self) -> Duration {
        let stat = self.proc("stat");
        // The name in parentheses may contain spaces; user and system time are the 12th and 13th field after it.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().expect("a number")).sum();
        Duration::from_millis(ticks * 10)
    }

    fn proc(&self, file: &str) -> String {
        let path = format!("/proc/{}/{file}", self.server.process_identifier());
        fs::read_to_string(path).expect("the process lives")
    }

    pub fn log_lines(&self) -> usize {
        self.server.lines_with("").len()
    }

    pub fn lines_with(&self, text: &str) -> Vec<String> {
        self.server.lines_with(text)
    }

    #[cfg(all(feature = "passwords", feature = "persistence", feature = "system", feature = "tls"))]
    pub fn signal(&self, name: &str) {
        self.server.signal(name);
    }

    pub fn wait_for_line(&self, text: &str) {
        self.server.wait_for_line(text);
    }

    /// Asserts that the attack holds no more memory than this, now.
    pub fn holds_at_most(&self, bytes: usize, why: &str) {
        let growth = self.growth();
        eprintln!("holds {} KiB of {} KiB: {why}", growth / KIB, bytes / KIB);
        assert!(growth <= bytes, "{} KiB are held, at most {} KiB: {why}", growth / KIB, bytes / KIB);
    }

    /// Asserts that the attack has caused no more lines than this.
    pub fn logged_at_most(&self, lines: usize, why: &str) {
        let grown = self.log_lines() - self.lines;
        eprintln!("logged {grown} lines of {lines}: {why}");
        assert!(grown <= lines, "{grown} lines were logged, at most {lines}: {why}");
    }

    /// Runs the same attack twice, and checks that the second has taken no more than the first: the memory is in use
    /// again. For attacks with many small allocations, of which the allocator gives nothing back to the system while a
    /// surviving block lies after them.
    pub fn attacked_twice(&mut self, attack: impl Fn(&mut Self), slack: usize) {
        attack(self);
        self.gives_back(usize::MAX);
        self.begin();
        attack(self);
        self.gives_back(slack);
    }

    /// Asserts that once all attackers are gone, descriptors and memory come back, except for this much, and that the
    /// well-behaved client is still there.
    pub fn gives_back(&mut self, slack: usize) {
        let slack = slack.saturating_add(ALLOCATOR_SLACK);
        let end = now() + SERVED_WITHIN;
        while (self.descriptors() > self.descriptors || self.growth() > slack) && now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        eprintln!("keeps {} KiB", self.growth() / KIB);
        assert_eq!(self.descriptors(), self.descriptors, "all descriptors are given back");
        let growth = self.growth();
        assert!(growth <= slack, "{} KiB are kept, at most {} KiB", growth / KIB, slack / KIB);
        self.serves();
    }
}

#[expect(clippy::disallowed_methods, reason = "the broker under test runs in real time")]
pub fn now() -> Instant {
    Instant::now()
}
