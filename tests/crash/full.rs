//! A disk that is full to the last byte: what needs none goes on, what can not be stored is refused, and nothing that
//! was acknowledged is lost.
//!
//! The disk is a small file system in memory, mounted in a name space of its own, for which no rights are needed where
//! users may make name spaces. Elsewhere this is skipped, and says so.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::broker::Place;
use crate::link::Link;
use crate::peer::Peer;
use crate::server::Server;
use crate::wire::{Connect, Publish, V5, V311, acknowledge, received};

/// How long the broker may take to see that there is no room, or room again.
const NOTICED_WITHIN: Duration = Duration::from_secs(10);
/// Refused for want of room.
const QUOTA_EXCEEDED: u8 = 0x97;
/// The payload of every message here.
const LENGTH: usize = 2_000;

/// A process that holds a name space in which a directory is a small disk.
struct SmallDisk {
    holder: Child,
    directory: String,
    /// With a name space of users, too.
    is_of_user: bool,
}

impl SmallDisk {
    /// None where nothing may be mounted.
    fn mount(directory: &str) -> Option<Self> {
        [true, false].into_iter().find_map(|is_of_user| Self::try_mount(directory, is_of_user))
    }

    fn try_mount(directory: &str, is_of_user: bool) -> Option<Self> {
        let mut command = Command::new("unshare");
        if is_of_user {
            command.args(["--user", "--map-root-user"]);
        }
        let script = "mount -t tmpfs -o size=64m none \"$0\" && echo mounted && exec sleep 600";
        command.args(["--mount", "sh", "-c", script, directory]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut holder = command.spawn().ok()?;
        let mut line = String::new();
        let output = holder.stdout.take().expect("it is a pipe");
        let is_mounted = BufReader::new(output).read_line(&mut line).is_ok() && line == "mounted\n";
        let disk = Self { holder, directory: directory.to_owned(), is_of_user };
        is_mounted.then_some(disk)
    }

    /// A command that sees the disk.
    fn inside(&self, program: &Command) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.holder.id().to_string(), "--mount"]);
        if self.is_of_user {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.arg("--").arg(program.get_program()).args(program.get_args());
        command.stdin(Stdio::null()).env_remove("RUST_LOG");
        command
    }

    fn shell(&self, script: &str) {
        let mut shell = Command::new("sh");
        shell.args(["-c", script, &self.directory]);
        let status = self.inside(&shell).stderr(Stdio::null()).status();
        assert!(status.expect("there is a shell").success(), "{script}");
    }

    /// Leaves not one byte.
    fn fill(&self) {
        self.shell("cat /dev/zero > \"$0/filler\"; test -s \"$0/filler\"");
    }

    fn empty(&self) {
        self.shell("rm \"$0/filler\"");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Publishes numbered messages at QoS 1.
struct Publisher {
    link: Link,
    level: u8,
    next: u16,
    /// What has come and was not looked at.
    packets: VecDeque<Vec<u8>>,
}

impl Publisher {
    fn connect(server: &Server, level: u8, name: &str) -> Self {
        let mut link = Link::open(server.port());
        link.send(&Connect::new(level, name).bytes());
        let mut publisher = Self { link, level, next: 1, packets: VecDeque::new() };
        let connack = publisher.packet(NOTICED_WITHIN).expect("a CONNACK comes");
        assert_eq!((connack[0], connack[3]), (0x20, 0), "{name} is let in");
        publisher
    }

    /// Publishes; the Packet Identifier is in the payload, too.
    fn publish(&mut self) {
        let number = self.next;
        self.next += 1;
        let mut payload = format!("{}-{number} ", self.level).into_bytes();
        payload.resize(LENGTH, b'.');
        self.link.send(&Publish::new(self.level, "full/x", &payload).qos(1, number).bytes());
    }

    #[expect(clippy::disallowed_methods, reason = "the broker lives in real time")]
    fn packet(&mut self, within: Duration) -> Option<Vec<u8>> {
        let end = Instant::now() + within;
        while self.packets.is_empty() && Instant::now() < end {
            self.packets.extend(self.link.packets());
            std::thread::sleep(Duration::from_millis(1));
        }
        self.packets.pop_front()
    }

    /// The next PUBACK within this time: the Packet Identifier and the Reason Code.
    fn answer(&mut self, within: Duration) -> Option<(u16, u8)> {
        let packet = self.packet(within)?;
        assert_eq!(packet[0], 0x40, "a PUBACK is expected, not {packet:02x?}");
        Some((u16::from_be_bytes([packet[2], packet[3]]), packet.get(4).copied().unwrap_or(0)))
    }
}

/// Publishes until one of the answers is this one; notes which messages were acknowledged.
#[expect(clippy::disallowed_methods, reason = "the broker lives in real time")]
fn publish_until(publisher: &mut Publisher, code: u8, acknowledged: &mut Vec<String>) {
    let end = Instant::now() + NOTICED_WITHIN;
    loop {
        assert!(Instant::now() < end, "the answer {code:#x} does not come");
        publisher.publish();
        if let Some((number, answer)) = publisher.answer(Duration::from_millis(200)) {
            if answer < 0x80 {
                acknowledged.push(format!("{}-{number}", publisher.level));
            }
            if answer == code {
                return;
            }
        }
    }
}

#[test]
fn a_full_disk_refuses_what_it_can_not_store_and_loses_nothing() {
    let mut place = Place::new("full", "max_queued_messages 0\n");
    let directory = place.data().display().to_string();
    let Some(disk) = SmallDisk::mount(&directory) else {
        println!("SKIPPED, for want of a small disk: nothing may be mounted here, not even in a name space");
        return;
    };
    let server = Server::follow(disk.inside(&place.command()));
    let mut sleeper = Connect::new(V311, "sleeper").resume();
    sleeper.level = V311;
    let mut peer = Peer::connect_as(server.address(), &sleeper);
    assert_eq!(peer.subscribe("full/#", 1), 1);
    peer.disconnect();
    let mut acknowledged = Vec::new();
    let mut publisher = Publisher::connect(&server, V5, "publisher");
    for _ in 0..50 {
        publish_until(&mut publisher, 0, &mut acknowledged);
    }

    disk.fill();
    publish_until(&mut publisher, QUOTA_EXCEEDED, &mut acknowledged);
    let mut elder = Publisher::connect(&server, V311, "elder");
    elder.publish();
    assert_eq!(elder.answer(Duration::from_millis(500)), None, "what can not be stored is not acknowledged");
    qos_0_goes_on(&server);

    disk.empty();
    publish_until(&mut publisher, 0, &mut acknowledged);
    qos_0_goes_on(&server);
    server.signal("KILL");
    place.keep_log(&server.wait_for_end().1);

    let server = Server::follow(disk.inside(&place.command()));
    let mut peer = Peer::connect_as(server.address(), &sleeper);
    while !acknowledged.is_empty() {
        let packet = peer.packet();
        let message = received(V311, &packet);
        let name = String::from_utf8_lossy(&message.payload);
        let name = name.split(' ').next().unwrap_or_default();
        acknowledged.retain(|acknowledged| acknowledged != name);
        peer.send(&acknowledge(0x40, message.packet_identifier.expect("it is of QoS 1")));
    }
}

/// The system says at some writes that the user has no more room. These are tried again, four times a second.
#[test]
fn a_quota_that_is_used_up_is_waited_for() {
    if !crate::has_strace() {
        return;
    }
    let mut place = Place::new("quota", "max_queued_messages 0\n");
    let broker = place.command();
    let mut command = Command::new("strace");
    command.args(["-D", "-f", "-o", "/dev/null", "-e", "trace=pwrite64", "-e"]);
    command.arg("inject=pwrite64:error=EDQUOT:when=200..205");
    for name in ["brooklet.db-wal", "brooklet.db.probe"] {
        command.arg("-P").arg(place.data().join(name));
    }
    command.arg(broker.get_program()).args(broker.get_args()).stdin(Stdio::null()).env_remove("RUST_LOG");
    let server = Server::follow(command);
    let mut peer = Peer::connect_as(server.address(), &Connect::new(V5, "sleeper").resume().expiry(1_000));
    assert_eq!(peer.subscribe("full/#", 1), 1);
    peer.disconnect();
    let mut publisher = Publisher::connect(&server, V5, "publisher");
    for number in 1..=60 {
        publisher.publish();
        assert_eq!(publisher.answer(NOTICED_WITHIN), Some((number, 0)));
    }
    server.signal("TERM");
    let (status, log) = server.wait_for_end();
    assert!(status == Some(0) && log.iter().any(|line| line.contains("There is no room")), "{log:?}");
}

fn qos_0_goes_on(server: &Server) {
    let mut peer = Peer::connect(server.address(), "lively");
    assert_eq!(peer.subscribe("lively", 0), 0);
    peer.send(&Publish::new(V5, "lively", b"still here").bytes());
    assert_eq!(peer.payload(), b"still here");
    peer.disconnect();
}
