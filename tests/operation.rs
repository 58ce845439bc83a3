//! The binary from the operator's view: its log, the user that it runs as, and what a service manager is told.

#![expect(clippy::disallowed_methods, reason = "processes take time, and leave files")]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
#[cfg(feature = "system")]
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
#[cfg(feature = "system")]
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A broker with a directory of its own, where its log is.
struct Broker {
    process: Child,
    directory: PathBuf,
}

impl Broker {
    /// The directory of the broker with this name.
    fn directory(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("brooklet-operation-{name}-{}", std::process::id()))
    }

    fn start(name: &str, configuration: &str, change: impl FnOnce(&mut Command)) -> Self {
        let directory = Self::directory(name);
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).expect("a directory can be made");
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).expect("it is ours");
        let file = directory.join("brooklet.conf");
        let place = directory.display().to_string();
        let text =
            format!("listener 0 127.0.0.1\nallow_anonymous true\n{}", configuration.replace("@", &place));
        fs::write(&file, text).expect("a file can be written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_brooklet"));
        command.arg("-c").arg(&file).stderr(Stdio::piped());
        change(&mut command);
        Self { process: command.spawn().expect("the binary can be started"), directory }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// Waits until `check` returns something.
    fn wait<T>(&self, what: &str, mut check: impl FnMut() -> Option<T>) -> T {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(found) = check() {
                return found;
            }
            let is_late = Instant::now() > end;
            assert!(!is_late, "{what} does not come; the log: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn wait_for(&self, part: &str) -> String {
        self.wait(part, || self.log().lines().find(|line| line.contains(part)).map(str::to_owned))
    }

    /// Waits for the broker's end.
    fn wait_for_end(&mut self) -> ExitStatus {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(status) = self.process.try_wait().expect("it is ours") {
                return status;
            }
            assert!(Instant::now() < end, "it does not end; the log: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn connect(&self, client_identifier: &str) -> TcpStream {
        self.connect_with(client_identifier, 0)
    }

    /// Connects a client with a Keep Alive of this many seconds.
    fn connect_with(&self, client_identifier: &str, keep_alive: u8) -> TcpStream {
        let _ = self.wait_for(" running");
        let line = self.wait_for("Opening ipv4 listen socket on port");
        let digits: String =
            line.chars().rev().skip_while(|c| *c == '.').take_while(char::is_ascii_digit).collect();
        let port = digits.chars().rev().collect::<String>().parse().expect("a port");
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the broker listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout can be set");
        let length = u8::try_from(client_identifier.len()).expect("a short name");
        let mut packet =
            vec![0x10, 12 + length, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, keep_alive, 0, length];
        packet.extend(client_identifier.bytes());
        stream.write_all(&packet).expect("it takes bytes");
        assert_eq!(read(&mut stream, 4), [0x20, 2, 0, 0]);
        stream
    }

    #[cfg(feature = "system")]
    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.process.id().to_string()]).status();
        assert!(status.expect("there is kill").success());
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn read(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).expect("the broker answers");
    bytes
}

#[test]
fn a_refused_subscription_is_logged_with_the_rule() {
    let rules = std::env::temp_dir().join(format!("brooklet-operation-rules-{}", std::process::id()));
    fs::write(&rules, "topic read a/#\ntopic deny a/secret\n").expect("a file can be written");
    let place = rules.display();
    let broker =
        Broker::start("denied", &format!("user root\nlog_dest file @/log\nacl_file {place}\n"), |_| {});
    let mut stream = broker.connect("watcher");
    // Of two filters, the second is refused.
    stream
        .write_all(&[
            0x82, 19, 0, 1, 0, 3, b'a', b'/', b'b', 0, 0, 8, b'a', b'/', b's', b'e', b'c', b'r', b'e', b't',
            0,
        ])
        .expect("it takes bytes");
    assert_eq!(read(&mut stream, 6), [0x90, 4, 0, 1, 0, 0x80]);
    let line = broker.wait_for("Denied SUBSCRIBE");
    let name = rules.file_name().expect("it has a name").display();
    let expected = format!("Denied SUBSCRIBE from watcher to 'a/secret': denied by {name}:2.");
    assert!(line.ends_with(&expected), "{line}");
    let _ = fs::remove_file(&rules);
}

/// What they have sent is unread when the process continues, it is more than a turn handles, and all of them are late.
#[test]
#[cfg(feature = "system")]
fn clients_that_ping_while_the_process_is_stopped_stay() {
    const PINGREQ: [u8; 2] = [0xC0, 0];
    let broker = Broker::start("stopped", "user root\nlog_dest file @/log\n", |_| {});
    let mut clients: Vec<TcpStream> =
        (0..500).map(|number| broker.connect_with(&format!("c{number}"), 3)).collect();
    for client in &mut clients {
        client.write_all(&PINGREQ).expect("it takes bytes");
        assert_eq!(read(client, 2), [0xD0, 0]);
    }
    broker.signal("-STOP");
    std::thread::sleep(Duration::from_secs(5));
    clients.iter_mut().for_each(|client| client.write_all(&PINGREQ.repeat(100)).expect("it takes bytes"));
    broker.signal("-CONT");
    clients.iter_mut().for_each(|client| assert_eq!(read(client, 200), [0xD0, 0].repeat(100)));
}

#[test]
fn a_log_file_has_the_lines_that_watchers_look_for() {
    let broker = Broker::start(
        "lines",
        "log_dest file @/log\nlog_type all\nlog_timestamp_format %Y-%m-%dT%H:%M:%S\nsys_interval 0\n",
        |command| {
            command.env("TZ", "UTC");
        },
    );
    let mut stream = broker.connect("watcher");
    stream.write_all(&[0x82, 8, 0, 1, 0, 3, b'a', b'/', b'b', 1]).expect("it takes bytes");
    assert_eq!(read(&mut stream, 5), [0x90, 3, 0, 1, 1]);
    stream.write_all(&[0xA2, 7, 0, 2, 0, 3, b'a', b'/', b'b']).expect("it takes bytes");
    assert_eq!(read(&mut stream, 4), [0xB0, 2, 0, 2]);
    drop(stream);
    let line = broker.wait_for("Client watcher [127.0.0.1:");
    let shape: String = line.chars().take(21).map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
    assert_eq!(shape, "9999-99-99T99:99:99: ", "{line}");
    for part in [
        "brooklet version ",
        "Config loaded from ",
        "New connection from 127.0.0.1:",
        " as watcher (p4, c1, k0).",
        ": watcher 1 a/b",
        ": watcher a/b",
        "Received SUBSCRIBE from watcher",
        "connection closed by client",
    ] {
        let _ = broker.wait_for(part);
    }
}

#[cfg(feature = "system")]
#[test]
fn a_hang_up_reopens_the_log_even_if_the_configuration_is_wrong() {
    let broker = Broker::start("reopen", "log_dest file @/log\nsys_interval 0\n", |_| {});
    let _ = broker.wait_for(" running");
    for (round, text) in ["listener 0 127.0.0.1\nlog_dest file @/log\n", "nonsense\n"].into_iter().enumerate()
    {
        let file = broker.directory.join("brooklet.conf");
        fs::write(&file, text.replace("@", &broker.directory.display().to_string())).expect("written");
        fs::rename(broker.directory.join("log"), broker.directory.join(format!("log.{round}")))
            .expect("moved");
        broker.signal("-HUP");
        broker.wait("a new log", || (!broker.log().is_empty()).then_some(()));
    }
    let _ = broker.wait_for("The configuration stays as it was.");
    fs::rename(broker.directory.join("log"), broker.directory.join("log.2")).expect("moved");
    broker.signal("-RTMIN");
    broker.wait("a log that was opened alone", || broker.directory.join("log").exists().then_some(()));
    assert_eq!(broker.log(), "", "nothing else was done");
}

/// A listener moves from one address to another of the same port; no two sockets can be bound to both at once.
#[cfg(feature = "system")]
#[test]
fn a_listener_moves_to_another_address_of_its_port_or_stays() {
    let broker = Broker::start("move", "log_dest file @/log\n", |_| {});
    let mut stream = broker.connect("stays");
    let port = stream.peer_addr().expect("it is connected").port();
    let file = broker.directory.join("brooklet.conf");
    let log = format!("allow_anonymous true\nlog_dest file {}/log\n", broker.directory.display());
    // The error occurs after the listener has made way.
    fs::write(&file, format!("listener {port} 0.0.0.0\nlistener 0 192.0.2.1\n{log}")).expect("written");
    broker.signal("-HUP");
    let _ = broker.wait_for("The configuration stays as it was.");
    assert!(
        TcpStream::connect(("127.0.0.1", port)).is_ok() && TcpStream::connect(("127.0.0.2", port)).is_err()
    );
    fs::write(&file, format!("listener {port} 0.0.0.0\n{log}")).expect("written");
    broker.signal("-HUP");
    let _ = broker.wait_for("The files were read again.");
    assert!(TcpStream::connect(("127.0.0.2", port)).is_ok());
    stream.write_all(&[0xC0, 0]).expect("it takes bytes");
    assert_eq!(read(&mut stream, 2), [0xD0, 0]);
}

#[test]
fn lines_of_the_log_are_published_and_do_not_feed_themselves() {
    let broker = Broker::start("topic", "log_dest file @/log\nlog_dest topic\nsys_interval 0\n", |_| {});
    let mut watcher = broker.connect("watcher");
    let filter = b"$SYS/broker/log/N";
    let mut packet = vec![0x82, 22, 0, 1, 0, 17];
    packet.extend(filter);
    packet.push(0);
    watcher.write_all(&packet).expect("it takes bytes");
    assert_eq!(read(&mut watcher, 5), [0x90, 3, 0, 1, 0]);
    drop(broker.connect("other"));
    let mut heard = Vec::new();
    for part in ["New connection from ", " as other (p4, c1, k0).", "Client other [127.0.0.1:"] {
        let length = usize::from(read(&mut watcher, 2)[1]);
        let publish = String::from_utf8_lossy(&read(&mut watcher, length)).into_owned();
        assert!(publish.contains("$SYS/broker/log/N") && publish.contains(part), "{part}: {publish}");
        heard.push(publish);
    }
    // Being logged to the topic causes no further line.
    watcher.write_all(&[0xC0, 0]).expect("it takes bytes");
    assert_eq!(read(&mut watcher, 2), [0xD0, 0], "after {heard:?}");
}

fn run(program: &str, arguments: &[&std::ffi::OsStr]) -> bool {
    Command::new(program).args(arguments).status().expect("there is such a program").success()
}

/// Standard error goes to the path where the log file of other brokers is.
fn log_by_standard_error(name: &str, command: &mut Command) {
    command.stderr(fs::File::create(Broker::directory(name).join("log")).expect("a file can be made"));
}

/// Nor does it keep the broker from ending.
#[test]
fn a_log_that_is_not_read_blocks_no_client() {
    // Standard streams are pipes that hold some ten thousand bytes and are never read.
    let configuration = "user root\nlog_dest stdout\nlog_dest stderr\nlog_dest file @/log\nlog_type all\n";
    let mut broker = Broker::start("stall", configuration, |command| {
        command.stdout(Stdio::piped());
    });
    let mut stream = broker.connect("talker");
    for _ in 0..100 {
        stream.write_all(&[0xC0, 0].repeat(100)).expect("it takes bytes");
        assert_eq!(read(&mut stream, 200), [0xD0, 0].repeat(100));
    }
    assert!(run("kill", &[broker.process.id().to_string().as_ref()]));
    let _ = broker.wait_for_end();
}

/// A late reader gets the lines for which there was room, and is told about the others.
#[test]
fn a_log_that_is_read_late_reports_how_many_lines_are_missing() {
    let configuration = "user root\nlog_dest stderr\nlog_dest file @/fifo\nlog_type all\n";
    let broker = Broker::start("late", configuration, |command| {
        log_by_standard_error("late", command);
        assert!(run("mkfifo", &[Broker::directory("late").join("fifo").as_os_str()]));
    });
    let mut stream = broker.connect("talker");
    for _ in 0..200 {
        stream.write_all(&[0xC0, 0].repeat(100)).expect("it takes bytes");
        assert_eq!(read(&mut stream, 200), [0xD0, 0].repeat(100));
    }
    let mut fifo = fs::File::open(broker.directory.join("fifo")).expect("it is there");
    let (mut text, mut piece) = (Vec::new(), [0; 4096]);
    while !String::from_utf8_lossy(&text).contains(" lines were lost, because the log was not read.") {
        let count = fifo.read(&mut piece).expect("more comes");
        text.extend_from_slice(&piece[..count]);
    }
}

/// A file that is not the broker's own keeps its owner, and stays where it is.
#[cfg(feature = "system")]
#[test]
fn a_device_is_neither_given_away_nor_removed() {
    if fs::metadata("/proc/self").map_or(1, |own| own.uid()) != 0 {
        println!("skipped: only root can become another user");
        return;
    }
    let device = Broker::directory("device").join("null");
    let configuration = "user nobody\nlog_dest stderr\nlog_dest file @/null\npid_file @/null\n";
    let mut broker = Broker::start("device", configuration, |command| {
        log_by_standard_error("device", command);
        assert!(run("mknod", &[device.as_os_str(), "c".as_ref(), "1".as_ref(), "3".as_ref()]));
        assert!(run("chmod", &["666".as_ref(), device.as_os_str()]));
    });
    let _ = broker.wait_for("Running as user nobody.");
    let owner = |path: &PathBuf| fs::metadata(path).expect("it is there").uid();
    assert_eq!(owner(&device), 0);
    let _ = broker.wait_for(" running");
    broker.signal("-TERM");
    assert!(broker.wait_for_end().success());
    assert_eq!(owner(&device), 0);
}

#[cfg(feature = "system")]
#[test]
fn the_pid_file_of_a_later_process_stays() {
    let mut broker = Broker::start("pid", "user root\nlog_dest file @/log\npid_file @/pid\n", |_| {});
    let _ = broker.wait_for(" running");
    let path = broker.directory.join("pid");
    assert_eq!(fs::read_to_string(&path).expect("it is there"), format!("{}\n", broker.process.id()));
    fs::write(&path, "1\n").expect("it is ours");
    broker.signal("-TERM");
    assert!(broker.wait_for_end().success());
    assert_eq!(fs::read_to_string(&path).expect("it is still there"), "1\n");
}

#[cfg(feature = "system")]
#[test]
fn a_service_manager_hears_of_start_reload_and_end() {
    let path = std::env::temp_dir().join(format!("brooklet-manager-{}", std::process::id()));
    let _ = fs::remove_file(&path);
    let manager = UnixDatagram::bind(&path).expect("a socket can be bound");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("it is ours");
    manager.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout can be set");
    let broker = Broker::start("notify", "log_dest file @/log\n", |command| {
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "100000");
    });
    let hear = |wanted: &str| loop {
        let mut bytes = [0; 100];
        let count = manager.recv(&mut bytes).unwrap_or_else(|why| panic!("{wanted}: {why}"));
        if bytes[..count].starts_with(wanted.as_bytes()) {
            return String::from_utf8_lossy(&bytes[wanted.len()..count]).into_owned();
        }
    };
    hear("READY=1");
    hear("WATCHDOG=1");
    hear("WATCHDOG=1");
    broker.signal("-HUP");
    let since = hear("RELOADING=1");
    let since = since.strip_prefix("\nMONOTONIC_USEC=").expect("the moment").parse::<u64>();
    assert!(since.is_ok_and(|since| since > 0));
    hear("READY=1");
    broker.signal("-TERM");
    hear("STOPPING=1");
    let _ = fs::remove_file(&path);
}

#[cfg(feature = "system")]
#[test]
fn root_becomes_another_user_before_it_serves() {
    if fs::metadata("/proc/self").map_or(1, |own| own.uid()) != 0 {
        println!("skipped: only root can become another user");
        return;
    }
    let broker = Broker::start("root", "log_dest file @/log\nuser nobody\npid_file @/pid\n", |_| {});
    let _ = broker.connect("a");
    let _ = broker.wait_for("Running as user nobody.");
    let status = fs::read_to_string(format!("/proc/{}/status", broker.process.id())).expect("it runs");
    let field = |name: &str| status.lines().find(|line| line.starts_with(name)).expect("a field").to_owned();
    for name in ["Uid:", "Gid:", "Groups:"] {
        assert!(field(name).split_whitespace().skip(1).all(|number| number != "0"), "{}", field(name));
    }
    assert_eq!(field("CapEff:"), "CapEff:\t0000000000000000");
    let pid = fs::read_to_string(broker.directory.join("pid")).expect("it was written before");
    assert_eq!(pid.trim(), broker.process.id().to_string());
    fs::rename(broker.directory.join("log"), broker.directory.join("log.1")).expect("moved");
    broker.signal("-HUP");
    broker.wait("a log of its own", || (!broker.log().is_empty()).then_some(()));
    broker.signal("-TERM");
    broker.wait("the end of the pid file", || (!broker.directory.join("pid").exists()).then_some(()));
}

#[cfg(feature = "system")]
#[test]
fn containers_set_the_user_by_number_and_the_file_mask() {
    if fs::metadata("/proc/self").map_or(1, |own| own.uid()) != 0 {
        println!("skipped: only root can become another user");
        return;
    }
    let broker = Broker::start("numbers", "log_dest file @/log\nuser nobody\n", |command| {
        command.envs([("PUID", "41883"), ("PGID", "41884"), ("UMASK_SET", "0077")]);
    });
    let _ = broker.wait_for("Running as user 41883.");
    let log = fs::metadata(broker.directory.join("log")).expect("it is there");
    assert_eq!((log.uid(), log.gid(), log.mode() & 0o777), (41_883, 41_884, 0o600));
    let status = fs::read_to_string(format!("/proc/{}/status", broker.process.id())).expect("it runs");
    for line in ["Uid:\t41883\t41883\t41883", "Gid:\t41884\t41884\t41884", "Umask:\t0077"] {
        assert!(status.contains(line), "{line}: {status}");
    }
}

#[cfg(feature = "system")]
#[test]
fn root_does_not_serve_if_the_user_does_not_exist() {
    if fs::metadata("/proc/self").map_or(1, |own| own.uid()) != 0 {
        println!("skipped: only root can become another user");
        return;
    }
    let mut broker =
        Broker::start("nobody", "log_dest file @/log\nuser no-such-user\npid_file @/pid\n", |_| {});
    let status = broker.process.wait().expect("it ends");
    assert_eq!(status.code(), Some(3));
    let mut told = String::new();
    let _ = broker.process.stderr.take().expect("it was asked for").read_to_string(&mut told);
    assert!(told.contains("there is no user 'no-such-user'"), "{told}");
    assert!(broker.log().is_empty(), "nothing has begun");
    assert!(!broker.directory.join("pid").exists());
}

/// Starts a broker with its signals blocked by the parent process, one of which is already pending, as if it came
/// while the program starts.
#[cfg(feature = "system")]
fn start_with(name: &str, configuration: &str, signal: &str) -> Broker {
    Broker::start(name, configuration, |command| {
        let mut earlier = Command::new("env");
        earlier.arg("--block-signal").args(["sh", "-c", "kill -$0 $$; exec \"$@\"", signal]);
        earlier.arg(command.get_program()).args(command.get_args()).stderr(Stdio::piped());
        *command = earlier;
    })
}

#[cfg(feature = "system")]
#[test]
fn a_signal_during_the_start_is_handled_after_it() {
    for (signal, done) in [
        ("HUP", "Reloading config."),
        ("USR1", "There is nothing to save"),
        ("USR2", "Subscriptions:"),
        ("RTMIN", " running"),
    ] {
        let name = format!("early-{signal}");
        let broker = start_with(&name, "user root\nlog_dest file @/log\nlog_type all\n", signal);
        let _ = broker.wait_for(" running");
        let _ = broker.wait_for(done);
        let mut stream = broker.connect("early");
        stream.write_all(&[0xC0, 0]).expect("it takes bytes");
        assert_eq!(read(&mut stream, 2), [0xD0, 0], "{signal}");
    }
}

#[cfg(feature = "system")]
#[test]
fn a_start_that_is_to_end_ends_well() {
    for signal in ["TERM", "INT"] {
        let name = format!("ended-{signal}");
        let mut broker = start_with(&name, "user root\nlog_dest file @/log\npid_file @/pid\n", signal);
        assert_eq!(broker.wait_for_end().code(), Some(0), "{signal}: {}", broker.log());
        assert!(broker.log().contains("terminating"), "{}", broker.log());
        assert!(!broker.directory.join("pid").exists());
    }
}

#[cfg(all(feature = "persistence", feature = "system"))]
#[test]
fn a_signal_to_end_interrupts_the_restore() {
    let store = Broker::directory("broken-off-store");
    let _ = fs::remove_dir_all(&store);
    fs::create_dir_all(&store).expect("a directory can be made");
    let configuration = format!(
        "user root\nlog_dest file @/log\npersistence true\npersistence_location {}\n",
        store.display()
    );
    let mut broker = Broker::start("broken-off", &configuration, |_| {});
    let mut stream = broker.connect("first");
    stream.write_all(b"\x33\x08\0\x01r\0\x01kep").expect("it takes bytes");
    assert_eq!(read(&mut stream, 4), [0x40, 2, 0, 1]);
    broker.signal("-TERM");
    assert!(broker.wait_for_end().success());
    drop(broker);
    let mut broker = start_with("broken-off", &configuration, "TERM");
    assert_eq!(broker.wait_for_end().code(), Some(0), "{}", broker.log());
    assert!(broker.log().contains("terminating during startup"), "{}", broker.log());
    drop(broker);
    // Nothing is lost by that.
    let broker = Broker::start("broken-off", &configuration, |_| {});
    let _ = broker.wait_for(" and 1 retained message from ");
    drop(broker);
    let _ = fs::remove_dir_all(&store);
}
