//! The brokers that are compared: how they are started, and what the system reports about their processes.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::packets::Fault;

/// How long a broker may take to start.
const START_PATIENCE: Duration = Duration::from_secs(10);
/// The directory for files of a run.
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
max_queued_bytes 0
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

/// What brooklet needs to be configured beyond its flags.
const BROOKLET: Configuration = Configuration {
    text: "\
listener {port} 127.0.0.1
allow_anonymous true
user root
log_type error
",
    without_limits: BROOKLET_ON_DISK.without_limits,
};

/// The same where it has to persist.
const BROOKLET_ON_DISK: Configuration = Configuration {
    text: "\
listener {port} 127.0.0.1
allow_anonymous true
user root
persistence true
persistence_location {directory}
log_type error
",
    without_limits: "\
max_queued_messages 0
max_queued_bytes 0
",
};

const MOSQUITTO_ON_DISK: Configuration = Configuration {
    text: "\
listener {port} 127.0.0.1
allow_anonymous true
user root
persistence true
persistence_location {directory}/
log_type error
",
    without_limits: MOSQUITTO.without_limits,
};

/// The text of a configuration file, where `{port}` is the port.
#[derive(Clone, Copy, Debug)]
pub struct Configuration {
    pub text: &'static str,
    /// Added where the broker's own limits are not measured, so that they do not make it drop messages that the others
    /// deliver.
    pub without_limits: &'static str,
}

/// Whether a broker keeps its default limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnLimits {
    Default,
    Lifted,
}

/// Where a broker stores its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    Memory,
    /// A directory of its own, empty at first.
    Disk,
}

/// The abilities of a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ability {
    /// Relays QoS 0 and 1 on exact topics.
    Relay,
    /// MQTT 3.1.1.
    V311,
    /// MQTT 5.0 as well.
    V5,
}

/// A broker that can be started.
#[derive(Clone, Debug)]
pub struct Broker {
    pub name: String,
    /// For the shell; `{port}` and `{configuration}` are replaced.
    pub command: String,
    pub configuration: Option<Configuration>,
    /// The same with a configuration in mosquitto's format, if it reads one.
    pub configured: Option<(String, Configuration)>,
    /// The same where it is to persist what it acknowledges, if it can.
    pub on_disk: Option<(String, Configuration)>,
    pub ability: Ability,
}

impl Broker {
    /// The broker that `entry` stands for: a known name, or `NAME=COMMAND`.
    pub fn parse(entry: &str) -> Result<Self, Fault> {
        match entry.split_once('=') {
            Some((name, command)) => Self::of_command(name.trim(), command.trim()),
            None => Self::known(entry.trim())?.ok_or_else(|| format!("{entry} is not installed")),
        }
    }

    /// A broker that is given its port, or a configuration in mosquitto's format.
    fn of_command(name: &str, command: &str) -> Result<Self, Fault> {
        let is_configured = command.contains("{configuration}");
        if !is_configured && !command.contains("{port}") {
            return Err(format!("the command of {name} says neither {{port}} nor {{configuration}}"));
        }
        Ok(Self {
            name: name.to_owned(),
            command: command.to_owned(),
            configuration: is_configured.then_some(MOSQUITTO),
            configured: is_configured.then(|| (command.to_owned(), MOSQUITTO)),
            on_disk: is_configured.then(|| (command.to_owned(), MOSQUITTO_ON_DISK)),
            ability: Ability::V5,
        })
    }

    /// All known brokers that are installed.
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
        let (configured, on_disk) = match name {
            "brooklet" => {
                let command = format!("{} -c {{configuration}}", env!("CARGO_BIN_EXE_brooklet"));
                let on_disk = cfg!(feature = "persistence").then(|| (command.clone(), BROOKLET_ON_DISK));
                (Some((command, BROOKLET)), on_disk)
            }
            "mosquitto" => (Some((command.clone(), MOSQUITTO)), Some((command.clone(), MOSQUITTO_ON_DISK))),
            _ => (None, None),
        };
        Ok(Some(Self { name: name.to_owned(), command, configuration, configured, on_disk, ability }))
    }

    /// Starts it on a free port and waits until it accepts connections. It runs on the given processor, if any, and is
    /// configured with `lines` in addition to those of every broker of its kind.
    pub fn start(
        &self,
        processor: Option<usize>,
        own_limits: OwnLimits,
        storage: Storage,
        lines: &str,
    ) -> Result<Process, Fault> {
        let port = free_port()?;
        let command = self.command_for(port, own_limits, storage, lines)?;
        let pin = processor.map_or(String::new(), |processor| format!("taskset -c {processor} "));
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("exec {pin}{command}")]);
        self.spawn(shell, port)
    }

    /// Starts it without a shell in between, so that the time until it accepts connections is its own.
    pub fn start_alone(&self) -> Result<Process, Fault> {
        let port = free_port()?;
        let command = self.command_for(port, OwnLimits::Default, Storage::Memory, "")?;
        let mut words = command.split_whitespace();
        let program = words.next().ok_or_else(|| format!("{} has no command", self.name))?;
        let mut command = Command::new(program);
        command.args(words);
        self.spawn(command, port)
    }

    /// The command line for a port; writes its configuration.
    fn command_for(
        &self,
        port: u16,
        own_limits: OwnLimits,
        storage: Storage,
        lines: &str,
    ) -> Result<String, Fault> {
        let told = match storage {
            Storage::Memory if lines.is_empty() => None,
            Storage::Memory => Some(self.configured.as_ref().ok_or("it reads no such configuration")?),
            Storage::Disk => Some(self.on_disk.as_ref().ok_or("it keeps nothing on disk")?),
        };
        let (command, configuration) = match told {
            None => (&self.command, self.configuration),
            Some((command, configuration)) => (command, Some(*configuration)),
        };
        let mut command = command.replace("{port}", &port.to_string());
        if let Some(configuration) = configuration {
            let mut text = configuration.text.replace("{port}", &port.to_string());
            if storage == Storage::Disk {
                text = text.replace("{directory}", &fresh_directory(&self.name)?);
            }
            if own_limits == OwnLimits::Lifted {
                text += configuration.without_limits;
            }
            text += lines;
            let path = format!("{SCRATCH}/{}-{port}.conf", self.name);
            fs::write(&path, text).map_err(|error| format!("cannot write {path}: {error}"))?;
            command = command.replace("{configuration}", &path);
        }
        Ok(command)
    }

    fn spawn(&self, mut command: Command, port: u16) -> Result<Process, Fault> {
        let path = format!("{SCRATCH}/{}.log", self.name);
        let log = File::create(&path)
            .and_then(|file| Ok((file.try_clone()?, file)))
            .map_err(|error| format!("cannot write a log: {error}"))?;
        command.stdin(Stdio::null()).stdout(log.0).stderr(log.1);
        let start = Instant::now();
        let child = command.spawn().map_err(|error| format!("cannot start {}: {error}", self.name))?;
        let mut process = Process { command, child, port, started_in: Duration::ZERO };
        process.wait_until_it_listens(start).map_err(|fault| with_last_line(fault, &path))?;
        Ok(process)
    }
}

/// A fault with the last line of the broker's log, if there is one.
fn with_last_line(fault: Fault, log: &str) -> Fault {
    let text = fs::read_to_string(log).unwrap_or_default();
    match text.lines().last() {
        Some(line) => format!("{fault}, {line}"),
        None => fault,
    }
}

/// A directory for the state of a broker with this name, without the state of an earlier one.
fn fresh_directory(name: &str) -> Result<String, Fault> {
    let path = format!("{SCRATCH}/{name}-data");
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).map_err(|error| format!("cannot make {path}: {error}"))?;
    Ok(path)
}

/// A running broker, which ends when this is dropped.
#[derive(Debug)]
pub struct Process {
    command: Command,
    child: Child,
    pub port: u16,
    /// From its start until it accepted a connection.
    pub started_in: Duration,
}

/// Resident memory of a process, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    pub resident: f64,
    /// The part of it that is dirty and private.
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
        // The broker must be done with this first connection before anything is measured.
        std::thread::sleep(Duration::from_millis(50));
        Ok(())
    }

    /// Asks it to end, and starts it again once it has. Returns the moment of the start.
    pub fn restart(&mut self) -> Result<Instant, Fault> {
        let identifier = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", "TERM", &identifier]).status();
        let ended =
            status.and_then(|_| self.child.wait()).map_err(|error| format!("it does not end: {error}"));
        ended?;
        let start = Instant::now();
        self.child = self.command.spawn().map_err(|error| format!("cannot start it again: {error}"))?;
        self.wait_until_it_listens(start)?;
        Ok(start)
    }

    /// Bytes that it has caused to be written to a device.
    pub fn written(&self) -> Result<f64, Fault> {
        number_in(&format!("/proc/{}/io", self.child.id()), "write_bytes:")
    }

    /// Processor time of all its threads.
    pub fn processor_time(&self) -> Result<Duration, Fault> {
        processor_time(&format!("/proc/{}/task", self.child.id()))
    }

    /// Its memory.
    pub fn memory(&self) -> Result<Memory, Fault> {
        let directory = format!("/proc/{}", self.child.id());
        Ok(Memory {
            resident: number_in(&format!("{directory}/status"), "VmRSS:")? * 1024.0,
            private_dirty: number_in(&format!("{directory}/smaps_rollup"), "Private_Dirty:")? * 1024.0,
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

/// Processor time of all threads of this process.
pub fn own_processor_time() -> Result<Duration, Fault> {
    processor_time("/proc/self/task")
}

/// The kernel counts a thread's time in nanoseconds here, other than in `stat`, where it counts clock ticks.
fn processor_time(tasks: &str) -> Result<Duration, Fault> {
    let threads = fs::read_dir(tasks).map_err(|error| format!("cannot read {tasks}: {error}"))?;
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

fn number_in(path: &str, field: &str) -> Result<f64, Fault> {
    let text = fs::read_to_string(path).map_err(|error| format!("cannot read {path}: {error}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let count = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    count.ok_or_else(|| format!("{path} does not tell {field}"))
}

fn free_port() -> Result<u16, Fault> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let port = listener.and_then(|listener| listener.local_addr()).map(|address| address.port());
    port.map_err(|error| format!("no free port: {error}"))
}

/// The path of a program; some are in directories for administrators only.
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
