//! A broker under callgrind, which counts the instructions of its threads, without those of the kernel.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::packets::Fault;
use crate::patience::Patience;
use crate::setup::Setup;

/// The broker is idle if it has not run for this time.
const IDLE: Duration = Duration::from_millis(1);

/// The number of instructions of a broker's threads.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    /// The thread with the loop.
    pub serving: u64,
    /// The others: the storage thread, if there is one.
    pub others: u64,
}

/// A running broker, which ends when this is dropped.
#[derive(Debug)]
pub struct Broker {
    child: Child,
    pub port: u16,
    /// Where callgrind writes its counts at the end.
    counts: PathBuf,
}

impl Broker {
    /// Starts the program and waits until it accepts connections.
    pub fn start(program: &str, setup: Setup) -> Result<Self, Fault> {
        let port = free_port().map_err(|error| format!("no free port: {error}"))?;
        let directory = setup.directory();
        let configuration = setup.configure(port)?;
        let log =
            File::create(directory.join("log")).map_err(|error| format!("cannot write a log: {error}"))?;
        let counts = directory.join("callgrind.out");
        let child = Command::new("valgrind")
            .args(["--tool=callgrind", "--vgdb=no", "--separate-threads=yes"])
            .arg(format!("--callgrind-out-file={}", counts.display()))
            .args([program, "-c"])
            .arg(configuration)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("cannot start valgrind: {error}"))?;
        let mut broker = Self { child, port, counts };
        let patience = Patience::new("the broker to listen");
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if let Ok(Some(status)) = broker.child.try_wait() {
                return Err(format!(
                    "the broker ended at once, {status}; see {}",
                    directory.join("log").display()
                ));
            }
            patience.pause()?;
        }
        broker.wait_until_idle()?;
        Ok(broker)
    }

    /// Stops it wherever it is, so that it finds everything that is sent until it continues at once.
    pub fn stop(&self) -> Result<(), Fault> {
        self.signal("STOP")?;
        let patience = Patience::new("the broker to stop");
        while !self.threads()?.are_all('T') {
            patience.pause()?;
        }
        Ok(())
    }

    pub fn go_on(&self) -> Result<(), Fault> {
        self.signal("CONT")
    }

    /// Waits until it has done all that it can do by itself.
    pub fn wait_until_idle(&self) -> Result<(), Fault> {
        let patience = Patience::new("the broker to be idle");
        let mut before = self.threads()?;
        loop {
            std::thread::sleep(IDLE);
            let now = self.threads()?;
            if now.are_all('S') && now == before {
                return Ok(());
            }
            before = now;
            patience.pause()?;
        }
    }

    /// Ends it and returns how many instructions its threads took since its start.
    pub fn end(mut self) -> Result<Counts, Fault> {
        self.signal("TERM")?;
        let status = self.child.wait().map_err(|error| format!("the broker does not end: {error}"))?;
        if !status.success() {
            return Err(format!("the broker ended with {status}"));
        }
        let counts = (1..).map_while(|thread| self.count_of(thread));
        let counts = counts.collect::<Result<Vec<u64>, _>>()?;
        let (&serving, others) = counts.split_first().ok_or("callgrind gave no counts")?;
        Ok(Counts { serving, others: others.iter().sum() })
    }

    /// The number of instructions of the thread with this number; the one with the loop is the first. `None` if there
    /// was no such thread.
    fn count_of(&self, thread: usize) -> Option<Result<u64, Fault>> {
        let text = fs::read_to_string(format!("{}-{thread:02}", self.counts.display())).ok()?;
        let count = text.lines().find_map(|line| line.strip_prefix("summary: "));
        Some(
            count
                .and_then(|count| count.trim().parse().ok())
                .ok_or_else(|| "callgrind gave no sum".to_owned()),
        )
    }

    fn signal(&self, name: &str) -> Result<(), Fault> {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        match status {
            Ok(status) if status.success() => Ok(()),
            _ => Err(format!("cannot send {name} to the broker")),
        }
    }

    fn threads(&self) -> Result<Threads, Fault> {
        let tasks = format!("/proc/{}/task", self.child.id());
        let entries = fs::read_dir(&tasks).map_err(|error| format!("cannot read {tasks}: {error}"))?;
        let mut threads = Threads { states: String::new(), ran: String::new() };
        for thread in entries.flatten() {
            let read = |name| fs::read_to_string(thread.path().join(name)).unwrap_or_default();
            // The state follows the name, which is in parentheses and may contain any character.
            threads.states.extend(read("stat").rsplit(") ").next().and_then(|rest| rest.chars().next()));
            threads.ran += &read("schedstat");
        }
        Ok(threads)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Either fails only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the kernel reports about a broker's threads.
#[derive(Debug, PartialEq, Eq)]
struct Threads {
    /// A letter for each: R runs or could, S waits, T is stopped.
    states: String,
    /// How long each of them has run.
    ran: String,
}

impl Threads {
    fn are_all(&self, state: char) -> bool {
        !self.states.is_empty() && self.states.chars().all(|letter| letter == state)
    }
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
