//! The brokers that are compared: how they are started, and what the system says of their processes.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::packets::Fault;

/// How long a broker may take to start.
const START_PATIENCE: Duration = Duration::from_secs(10);
/// Where what is made for a run goes.
const SCRATCH: &str = env!("CARGO_TARGET_TMPDIR");

const MOSQUITTO: Configuration = Configuration {
    text: "\
listener {port} 127.0.0.1
allow_anonymous true
persistence false
log_type error
",
    without_limits: "\
max_queued_messages 0
max_inflight_messages 0
",
};

const RUMQTTD: Configuration = Configuration {
    text: "\
id = 0
[router]
id = 0
max_connections = 20000
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10
[v4.1]
name = \"v4-1\"
listen = \"127.0.0.1:{port}\"
next_connection_delay_ms = 0
[v4.1.connections]
connection_timeout_ms = 60000
max_payload_size = 1048576
max_inflight_count = 500
dynamic_filters = true
",
    without_limits: "",
};

/// The text of a configuration file, where `{port}` is the port.
#[derive(Clone, Copy, Debug)]
pub struct Configuration {
    pub text: &'static str,
    /// What is added where the broker's own limits are not what is measured, so that they do not make it drop
    /// what the others deliver.
    pub without_limits: &'static str,
}

/// Whether a broker keeps the limits that it has by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnLimits {
    Kept,
    Lifted,
}

/// What a broker can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ability {
    /// Relays QoS 0 and 1 on exact topics.
    Relay,
    /// MQTT 3.1.1.
    V311,
    /// MQTT 5.0, too.
    V5,
}

/// A broker that can be started.
#[derive(Clone, Debug)]
pub struct Broker {
    pub name: String,
    /// For the shell; `{port}` and `{configuration}` stand for what they say.
    pub command: String,
    pub configuration: Option<Configuration>,
    pub ability: Ability,
}

impl Broker {
    /// The broker that `entry` stands for: a name that is known here, or `NAME=COMMAND`.
    pub fn parse(entry: &str) -> Result<Self, Fault> {
        match entry.split_once('=') {
            Some((name, command)) if command.contains("{port}") => Ok(Self {
                name: name.trim().to_owned(),
                command: command.trim().to_owned(),
                configuration: None,
                ability: Ability::V5,
            }),
            Some((name, _)) => Err(format!("the command of {name} does not say {{port}}")),
            None => Self::known(entry.trim())?.ok_or_else(|| format!("{entry} is not installed")),
        }
    }

    /// All brokers known here that are installed.
    pub fn installed() -> Result<Vec<Self>, Fault> {
        let names = ["brooklet", "floor", "mosquitto", "rumqttd"];
        let mut brokers = Vec::new();
        for name in names {
            brokers.extend(Self::known(name)?);
        }
        Ok(brokers)
    }

    /// `None` if it is not installed.
    fn known(name: &str) -> Result<Option<Self>, Fault> {
        let (command, configuration, ability) = match name {
            "brooklet" => (format!("{} -q -p {{port}}", env!("CARGO_BIN_EXE_brooklet")), None, Ability::V5),
            "floor" => match build_floor()? {
                Some(path) => (format!("{path} {{port}}"), None, Ability::Relay),
                None => return Ok(None),
            },
            "mosquitto" => match find_program("mosquitto") {
                Some(path) => (format!("{path} -c {{configuration}}"), Some(MOSQUITTO), Ability::V5),
                None => return Ok(None),
            },
            "rumqttd" => match find_program("rumqttd") {
                Some(path) => (format!("{path} -q -c {{configuration}}"), Some(RUMQTTD), Ability::V311),
                None => return Ok(None),
            },
            _ => {
                return Err(format!("{name} is not known; write {name}=COMMAND, with {{port}} for the port"));
            }
        };
        Ok(Some(Self { name: name.to_owned(), command, configuration, ability }))
    }

    /// Starts it on a free port and waits until it takes connections. It runs on the given processor, if any.
    pub fn start(&self, processor: Option<usize>, own_limits: OwnLimits) -> Result<Process, Fault> {
        let port = free_port()?;
        let command = self.command_for(port, own_limits)?;
        let pin = processor.map_or(String::new(), |processor| format!("taskset -c {processor} "));
        self.spawn(Command::new("sh").args(["-c", &format!("exec {pin}{command}")]), port)
    }

    /// Starts it without a shell in between, so that the time until it takes connections is its own.
    pub fn start_alone(&self) -> Result<Process, Fault> {
        let port = free_port()?;
        let command = self.command_for(port, OwnLimits::Kept)?;
        let mut words = command.split_whitespace();
        let program = words.next().ok_or_else(|| format!("{} has no command", self.name))?;
        self.spawn(Command::new(program).args(words), port)
    }

    /// The command line for a port; a configuration is written for it.
    fn command_for(&self, port: u16, own_limits: OwnLimits) -> Result<String, Fault> {
        let mut command = self.command.replace("{port}", &port.to_string());
        if let Some(configuration) = self.configuration {
            let mut text = configuration.text.replace("{port}", &port.to_string());
            if own_limits == OwnLimits::Lifted {
                text += configuration.without_limits;
            }
            let path = format!("{SCRATCH}/{}-{port}.conf", self.name);
            fs::write(&path, text).map_err(|error| format!("can not write {path}: {error}"))?;
            command = command.replace("{configuration}", &path);
        }
        Ok(command)
    }

    fn spawn(&self, command: &mut Command, port: u16) -> Result<Process, Fault> {
        let log = File::create(format!("{SCRATCH}/{}.log", self.name))
            .and_then(|file| Ok((file.try_clone()?, file)))
            .map_err(|error| format!("can not write a log: {error}"))?;
        let start = Instant::now();
        let child = command
            .stdin(Stdio::null())
            .stdout(log.0)
            .stderr(log.1)
            .spawn()
            .map_err(|error| format!("can not start {}: {error}", self.name))?;
        let mut process = Process { child, port, started_in: Duration::ZERO };
        process.wait_until_it_listens(start)?;
        Ok(process)
    }
}

/// A broker that runs, until it is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    pub port: u16,
    /// From when it was started until it took a connection.
    pub started_in: Duration,
}

/// Bytes of a process in memory.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    pub resident: f64,
    /// Of these, what is written to and shared with nobody.
    pub private_dirty: f64,
}

impl Process {
    fn wait_until_it_listens(&mut self, start: Instant) -> Result<(), Fault> {
        let end = start + START_PATIENCE;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("it ended at once: {status}"));
            }
            if Instant::now() > end {
                return Err("it does not listen".to_owned());
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        self.started_in = start.elapsed();
        // The broker is to be done with this first connection before anything is measured.
        std::thread::sleep(Duration::from_millis(50));
        Ok(())
    }

    /// Time that all its threads have had a processor.
    pub fn processor_time(&self) -> Result<Duration, Fault> {
        processor_time(&format!("/proc/{}/task", self.child.id()))
    }

    /// What it holds in memory.
    pub fn memory(&self) -> Result<Memory, Fault> {
        let directory = format!("/proc/{}", self.child.id());
        Ok(Memory {
            resident: kibibytes(&format!("{directory}/status"), "VmRSS:")? * 1024.0,
            private_dirty: kibibytes(&format!("{directory}/smaps_rollup"), "Private_Dirty:")? * 1024.0,
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Either fails only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Time that all threads of this process have had a processor.
pub fn own_processor_time() -> Result<Duration, Fault> {
    processor_time("/proc/self/task")
}

/// The kernel counts a thread's time in nanoseconds, other than in `stat`, where it counts clock ticks.
fn processor_time(tasks: &str) -> Result<Duration, Fault> {
    let threads = fs::read_dir(tasks).map_err(|error| format!("can not read {tasks}: {error}"))?;
    let mut sum = 0;
    for thread in threads.flatten() {
        let text = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
        sum += text.split(' ').next().and_then(|count| count.parse::<u64>().ok()).unwrap_or(0);
    }
    if sum == 0 {
        return Err("this system does not count the time of threads in schedstat".to_owned());
    }
    Ok(Duration::from_nanos(sum))
}

fn kibibytes(path: &str, field: &str) -> Result<f64, Fault> {
    let text = fs::read_to_string(path).map_err(|error| format!("can not read {path}: {error}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let count = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    count.ok_or_else(|| format!("{path} does not tell {field}"))
}

fn free_port() -> Result<u16, Fault> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let port = listener.and_then(|listener| listener.local_addr()).map(|address| address.port());
    port.map_err(|error| format!("no free port: {error}"))
}

/// The path of a program; some live where only administrators look.
pub fn find_program(name: &str) -> Option<String> {
    let path = std::env::var("PATH").unwrap_or_default();
    let directories = path.split(':').chain(["/usr/sbin", "/usr/local/sbin"]);
    let mut paths = directories.map(|directory| format!("{directory}/{name}"));
    paths.find(|path| Path::new(path).is_file())
}

/// Compiles the floor; `None` if there is no C compiler.
fn build_floor() -> Result<Option<String>, Fault> {
    if find_program("cc").is_none() {
        return Ok(None);
    }
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/floor/floor.c");
    let path = format!("{SCRATCH}/floor");
    let status = Command::new("cc").args(["-O2", "-o", &path, source]).status();
    match status {
        Ok(status) if status.success() => Ok(Some(path)),
        _ => Err("the floor does not compile".to_owned()),
    }
}
