//! A disk that is full to the last byte: what needs none goes on, what can not be stored is refused, and nothing that
//! was acknowledged is lost.
//!
//! The disk is a small file system in memory, mounted in a name space of its own, for which no rights are needed where
//! users may make name spaces. Elsewhere this is skipped, and says so.

use std::collections::{BTreeSet, VecDeque};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::broker::Place;
use crate::link::Link;
use crate::peer::Peer;
use crate::server::Server;
use crate::wire::{Connect, PINGREQ, PINGRESP, Publish, V5, acknowledge, received, unsubscribe};

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
        let script = "mount -t tmpfs -o size=40m none \"$0\" && echo mounted && exec sleep 600";
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

    fn shell(&self, script: &str) -> String {
        let mut shell = Command::new("sh");
        shell.args(["-c", script, &self.directory]);
        let output = self.inside(&shell).stderr(Stdio::null()).output().expect("there is a shell");
        assert!(output.status.success(), "{script}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Bytes that are free.
    fn free(&self) -> u64 {
        let numbers = self.shell("stat -f -c '%a %S' \"$0\"");
        numbers.split_whitespace().map(|number| number.parse::<u64>().expect("a number")).product()
    }

    /// Another process takes all but so many bytes.
    fn leave(&self, bytes: u64) {
        let taken = self.free().saturating_sub(bytes);
        self.shell(&format!("head -c {taken} /dev/zero > \"$0/filler\""));
    }

    /// It leaves not one byte.
    fn fill(&self) {
        self.shell("cat /dev/zero >> \"$0/rest\"; test -e \"$0/rest\"");
    }

    fn empty(&self) {
        self.shell("rm -f \"$0/filler\" \"$0/rest\"");
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

/// A payload that takes room.
const LARGE: usize = 60_000;
/// So many changes and refusals at most are between the end of a queue and the next message.
const COMES_BACK_WITHIN: usize = 20_000;
/// More of them than the disk has room for.
const MOST: u16 = 800;
/// What another process leaves of the disk: a little more than the broker wants for new messages.
const LEFT: u64 = 6 * 1024 * 1024;
/// What the broker itself must leave of it, whatever it takes: the reserve is for what makes room.
const SPARED: u64 = 1024 * 1024;

fn owner() -> Connect {
    Connect::new(V5, "owner").resume().expiry(10_000)
}

/// What was acknowledged to the publisher and not yet delivered to the owner of the queue.
type Owed = BTreeSet<String>;

fn large(name: &str) -> Vec<u8> {
    let mut payload = format!("{name} ").into_bytes();
    payload.resize(LARGE, b'.');
    payload
}

/// Publishes until it is refused.
fn publish_all(server: &Server, qos: u8, owed: &mut Owed) {
    let mut peer = Peer::connect(server.address(), "filling");
    for number in 1..=MOST {
        let name = format!("{qos}-{number}");
        peer.send(&Publish::new(V5, "full/x", &large(&name)).qos(qos, number).bytes());
        let answer = peer.packet();
        if answer.get(4).copied().unwrap_or(0) == QUOTA_EXCEEDED {
            return;
        }
        owed.insert(name);
        if qos == 2 {
            peer.send(&acknowledge(0x62, number));
            assert_eq!(peer.packet()[0], 0x70, "a PUBCOMP");
        }
    }
    panic!("nothing was refused");
}

fn by_wills(server: &Server, _: &mut Owed) {
    for number in 0..MOST {
        let connect =
            Connect::new(V5, &format!("w{number}")).will("full/will", &[b'w'; LARGE], 1, false, &[]);
        let (_, code) = Peer::try_connect(server.address(), &connect);
        match code {
            Some(0) => {}
            code => return assert_eq!(code, Some(QUOTA_EXCEEDED), "a large Will is refused"),
        }
    }
    panic!("nothing was refused");
}

fn by_sessions(server: &Server, _: &mut Owed) {
    for number in 0..MOST {
        let connect = Connect::new(V5, &format!("s{number}")).resume().expiry(10_000);
        let connect = connect.will("nobody", &[b'w'; LARGE], 1, false, &[]);
        let (mut peer, code) = Peer::try_connect(server.address(), &connect);
        match code {
            // The Will stays with its session.
            Some(0) => peer.send(&[0xE0, 0]),
            code => return assert_eq!(code, Some(QUOTA_EXCEEDED), "a new session is refused"),
        }
        let (_, code) = Peer::try_connect(server.address(), &connect);
        assert!(matches!(code, Some(0 | QUOTA_EXCEEDED)), "{code:?}");
    }
    panic!("nothing was refused");
}

fn by_subscriptions(server: &Server, _: &mut Owed) {
    let mut peer = Peer::connect_as(server.address(), &Connect::new(V5, "greedy").expiry(10_000));
    for number in 0..MOST {
        match peer.subscribe(&format!("{number}{}", "f".repeat(LARGE)), 0) {
            0 => {}
            code => return assert_eq!(code, QUOTA_EXCEEDED, "a subscription is refused"),
        }
    }
    panic!("nothing was refused");
}

fn by_retained(server: &Server, _: &mut Owed) {
    let mut peer = Peer::connect(server.address(), "filling");
    let mut topics = (0..MOST).map(|number| format!("retained/{number}"));
    let is_refused =
        topics.any(|topic| peer.publish(Publish::new(V5, &topic, &[b'r'; LARGE]).retain()) == QUOTA_EXCEEDED);
    assert!(is_refused, "nothing was refused");
}

fn by_qos_1(server: &Server, owed: &mut Owed) {
    publish_all(server, 1, owed);
}

fn by_qos_2(server: &Server, owed: &mut Owed) {
    publish_all(server, 2, owed);
}

/// Nobody is promised these, so nobody hears of it.
fn by_raised_qos_0(server: &Server, _: &mut Owed) {
    let mut peer = Peer::connect(server.address(), "filling");
    for _ in 0..MOST {
        peer.send(&Publish::new(V5, "full/x", &[b'0'; LARGE]).bytes());
    }
    peer.send(&PINGREQ);
    assert_eq!(peer.packet(), PINGRESP);
}

/// Fills the disk with one kind of what is kept, then another process takes the rest; shows that nobody is shut out by
/// that and nothing lost, and that there is room again when the owner of the queue has drained it.
fn fills(name: &str, filter: &str, act: impl Fn(&Server, &mut Owed)) {
    let configuration =
        format!("max_queued_messages 0\nmax_queued_bytes 0\nupgrade_outgoing_qos {}\n", name == "raised");
    let mut place = Place::new(&format!("full-{name}"), &configuration);
    let Some(disk) = SmallDisk::mount(&place.data().display().to_string()) else {
        println!("SKIPPED, for want of a small disk: nothing may be mounted here, not even in a name space");
        return;
    };
    let server = Server::follow(disk.inside(&place.command()));
    let mut peer = Peer::connect_as(server.address(), &owner());
    assert_eq!(peer.subscribe(filter, 2), 2);
    peer.disconnect();
    let mut pinging = Peer::connect(server.address(), "pinging");
    let mut owed: Owed = ["first".to_owned()].into();
    let mut peer = Peer::connect(server.address(), "first");
    assert_eq!(peer.publish(Publish::new(V5, "full/x", b"first ")), 0);
    drop(peer);

    disk.leave(LEFT);
    act(&server, &mut owed);
    std::thread::sleep(SETTLED);
    assert!(disk.free() >= SPARED, "{name}: the broker has left {} bytes", disk.free());
    disk.fill();
    std::thread::sleep(SETTLED);
    nobody_is_shut_out(&server, &mut pinging);
    let mut peer = Peer::connect_as(server.address(), &owner());
    take_all(&mut peer, &mut owed);
    // What was taken goes from the disk, and the client need not wait for that.
    peer.send(&PINGREQ);
    nobody_is_shut_out(&server, &mut pinging);
    peer.disconnect();

    disk.empty();
    let mut publisher = Publisher::connect(&server, V5, "publisher");
    let mut acknowledged = Vec::new();
    publish_until(&mut publisher, 0, &mut acknowledged);
    owed.extend(acknowledged);
    server.signal("KILL");
    place.keep_log(&server.wait_for_end().1);
    let server = Server::follow(disk.inside(&place.command()));
    take_all(&mut Peer::connect_as(server.address(), &owner()), &mut owed);
}

/// Longer than what nobody waits for stays unwritten.
const SETTLED: Duration = Duration::from_millis(1_500);

/// Takes and acknowledges messages until none of these is missing; others may come, too.
fn take_all(peer: &mut Peer, owed: &mut Owed) {
    while !owed.is_empty() {
        let packet = peer.packet();
        match packet[0] >> 4 {
            3 => {
                let message = received(V5, &packet);
                let name = String::from_utf8_lossy(&message.payload);
                owed.remove(name.split(' ').next().unwrap_or_default());
                let Some(identifier) = message.packet_identifier else { continue };
                peer.send(&acknowledge(if message.qos == 2 { 0x50 } else { 0x40 }, identifier));
            }
            6 => peer.send(&acknowledge(0x70, u16::from_be_bytes([packet[2], packet[3]]))),
            _ => {}
        }
    }
}

fn nobody_is_shut_out(server: &Server, pinging: &mut Peer) {
    pinging.send(&PINGREQ);
    assert_eq!(pinging.packet(), PINGRESP);
    qos_0_goes_on(server);
}

#[test]
fn wills_fill_no_disk() {
    fills("wills", "full/#", by_wills);
}

#[test]
fn sessions_fill_no_disk() {
    fills("sessions", "full/#", by_sessions);
}

#[test]
fn subscriptions_fill_no_disk() {
    fills("subscriptions", "full/#", by_subscriptions);
}

#[test]
fn retained_messages_fill_no_disk() {
    fills("retained", "full/#", by_retained);
}

#[test]
fn messages_of_qos_1_fill_no_disk() {
    fills("qos-1", "full/#", by_qos_1);
}

#[test]
fn messages_of_qos_2_fill_no_disk() {
    fills("qos-2", "full/#", by_qos_2);
}

#[test]
fn messages_whose_qos_is_raised_fill_no_disk() {
    fills("raised", "full/#", by_raised_qos_0);
}

#[test]
fn messages_for_groups_fill_no_disk() {
    fills("shared", "$share/g/full/#", by_qos_1);
}

/// What the owner of a queue has drained goes back to the disk, also beside clients that change something all the time.
#[test]
fn room_comes_back_when_a_queue_is_drained() {
    let mut place = Place::new("full-drained", "max_queued_messages 0\nmax_queued_bytes 0\n");
    let Some(disk) = SmallDisk::mount(&place.data().display().to_string()) else {
        println!("SKIPPED, for want of a small disk: nothing may be mounted here, not even in a name space");
        return;
    };
    let server = Server::follow(disk.inside(&place.command()));
    let mut peer = Peer::connect_as(server.address(), &owner());
    assert_eq!(peer.subscribe("full/#", 2), 2);
    peer.disconnect();
    let mut busy = Peer::connect_as(server.address(), &Connect::new(V5, "busy").expiry(10_000));
    assert_eq!(busy.subscribe("busy", 0), 0);
    let mut owed = Owed::new();
    publish_all(&server, 1, &mut owed);
    let mut drained = Peer::connect_as(server.address(), &owner());
    take_all(&mut drained, &mut owed);
    drained.disconnect();
    let mut peer = Peer::connect(server.address(), "publisher");
    let has_room = (0..COMES_BACK_WITHIN).any(|_| {
        assert_eq!(busy.subscribe("busy", 0), 0);
        peer.publish(Publish::new(V5, "full/x", &large("more"))) == 0
    });
    assert!(has_room, "nothing more is ever taken: {} bytes are free", disk.free());
}

/// Another process takes each byte that the broker gives up: then nothing is acknowledged any more, but nobody who
/// needs nothing kept notices, and nothing is lost.
#[test]
fn a_disk_that_stays_full_keeps_what_was_acknowledged() {
    let mut place = Place::new("full-stuck", "max_queued_messages 0\nmax_queued_bytes 0\n");
    let Some(disk) = SmallDisk::mount(&place.data().display().to_string()) else {
        println!("SKIPPED, for want of a small disk: nothing may be mounted here, not even in a name space");
        return;
    };
    let server = Server::follow(disk.inside(&place.command()));
    let mut peer = Peer::connect_as(server.address(), &owner());
    assert_eq!(peer.subscribe("full/#", 2), 2);
    peer.disconnect();
    let busy = Connect::new(V5, "busy").resume().expiry(10_000);
    let mut peer = Peer::connect_as(server.address(), &busy);
    let filters: Vec<String> = (0..400).map(|number| format!("{number}{}", "f".repeat(2_000))).collect();
    for filter in &filters {
        assert_eq!(peer.subscribe(filter, 0), 0);
    }
    peer.disconnect();
    // A journal that begins with nothing has to grow with each transaction that is larger than those before.
    server.signal("TERM");
    place.keep_log(&server.wait_for_end().1);
    let server = Server::follow(disk.inside(&place.command()));
    let mut busy = Peer::connect_as(server.address(), &busy);
    let mut pinging = Peer::connect(server.address(), "pinging");
    let mut owed = Owed::new();
    let mut peer = Peer::connect(server.address(), "first");
    for number in 1..=5 {
        let name = format!("first-{number}");
        assert_eq!(peer.publish(Publish::new(V5, "full/x", format!("{name} ").as_bytes())), 0);
        owed.insert(name);
    }
    let mut rest = filters.iter().map(String::as_str);
    let has_answered = [1, 4, 20, 100, 200].iter().all(|&count| {
        disk.fill();
        let some: Vec<&str> = rest.by_ref().take(count).collect();
        busy.send(&unsubscribe(V5, 2, &some));
        busy.try_packet().is_ok()
    });
    assert!(!has_answered, "there is always room for more");
    assert_eq!(peer.publish(Publish::new(V5, "full/x", b"more ")), QUOTA_EXCEEDED);
    nobody_is_shut_out(&server, &mut pinging);
    // An owner of a queue gets what it can.
    let mut returned = Peer::connect_as(server.address(), &owner());
    let first = received(V5, &returned.packet());
    assert_eq!(first.payload, b"first-1 ");
    server.signal("KILL");
    place.keep_log(&server.wait_for_end().1);

    // It starts without any room, too.
    let server = Server::follow(disk.inside(&place.command()));
    nobody_is_shut_out(&server, &mut Peer::connect(server.address(), "pinging"));
    take_all(&mut Peer::connect_as(server.address(), &owner()), &mut owed);
    disk.empty();
    let mut publisher = Publisher::connect(&server, V5, "publisher");
    publish_until(&mut publisher, 0, &mut Vec::new());
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
    let mut refused = 0;
    for number in 1..=60 {
        publisher.publish();
        let answer = publisher.answer(NOTICED_WITHIN).expect("an answer comes");
        assert!(matches!(answer.1, 0 | QUOTA_EXCEEDED) && answer.0 == number, "{answer:?}");
        refused += usize::from(answer.1 > 0);
    }
    assert!(refused < 60, "some were stored before");
    publish_until(&mut publisher, 0, &mut Vec::new());
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
