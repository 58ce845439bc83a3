//! A disk that is full to the last byte: what needs no space goes on, what cannot be stored is refused, and nothing
//! that was acknowledged is lost.
//!
//! The disk is a small file system in memory, mounted in a namespace of its own, which needs no privileges where users
//! may create namespaces. Elsewhere the tests are skipped, and say so.

use std::collections::{BTreeSet, VecDeque};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::broker::Place;
use crate::link::Link;
use crate::peer::Peer;
use crate::server::Server;
use crate::wire::{Connect, PINGREQ, PINGRESP, Publish, V5, acknowledge, received, unsubscribe};

/// How long the broker may take to notice that there is no space, or space again.
const NOTICED_WITHIN: Duration = Duration::from_secs(10);
/// Accepted, and no client subscribes to it.
const NO_MATCHING_SUBSCRIBERS: u8 = 0x10;
/// Refused for lack of space.
const QUOTA_EXCEEDED: u8 = 0x97;
/// The length of every payload in these tests.
const LENGTH: usize = 2_000;

/// A process that holds a namespace in which a directory is a small disk.
pub struct SmallDisk {
    holder: Child,
    directory: String,
    /// Whether it has a user namespace as well.
    is_of_user: bool,
}

impl SmallDisk {
    /// Returns `None` where nothing may be mounted.
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

    /// The number of free bytes.
    fn free(&self) -> u64 {
        let numbers = self.shell("stat -f -c '%a %S' \"$0\"");
        numbers.split_whitespace().map(|number| number.parse::<u64>().expect("a number")).product()
    }

    /// Makes another process take all but this many bytes.
    pub fn leave(&self, bytes: u64) {
        let taken = self.free().saturating_sub(bytes);
        self.shell(&format!("head -c {taken} /dev/zero > \"$0/filler\""));
    }

    /// Makes another process take every free byte.
    pub fn fill(&self) {
        self.shell("cat /dev/zero >> \"$0/rest\"; test -e \"$0/rest\"");
    }

    pub fn empty(&self) {
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

/// A directory on a small disk, for a broker without limits on queues.
pub struct SmallPlace {
    pub disk: SmallDisk,
    place: Place,
}

impl SmallPlace {
    /// Returns `None` where nothing may be mounted, and prints that.
    pub fn mount(name: &str, configuration: &str) -> Option<Self> {
        let configuration = format!("max_queued_messages 0\nmax_queued_bytes 0\n{configuration}");
        let place = Place::new(&format!("full-{name}"), &configuration);
        let disk = SmallDisk::mount(&place.data().display().to_string());
        if disk.is_none() {
            println!(
                "SKIPPED, because there is no small disk: nothing may be mounted here, not even in a namespace"
            );
        }
        Some(Self { disk: disk?, place })
    }

    pub fn serve(&mut self) -> Server {
        Server::follow(self.disk.inside(&self.place.command()))
    }

    /// Ends the broker by a signal.
    pub fn end(&self, server: Server, signal: &str) {
        server.signal(signal);
        self.place.save_log(&server.wait_for_end().1);
    }
}

/// Publishes numbered messages at QoS 1.
struct Publisher {
    link: Link,
    level: u8,
    next: u16,
    /// Packets that have come and were not examined.
    packets: VecDeque<Vec<u8>>,
}

impl Publisher {
    fn connect(server: &Server, level: u8, name: &str) -> Self {
        let mut link = Link::open(server.port());
        link.send(&Connect::new(level, name).bytes());
        let mut publisher = Self { link, level, next: 1, packets: VecDeque::new() };
        let connack = publisher.packet(NOTICED_WITHIN).expect("a CONNACK comes");
        assert_eq!((connack[0], connack[3]), (0x20, 0), "{name} is accepted");
        publisher
    }

    /// Publishes; the Packet Identifier is also in the payload.
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

/// Publishes until one of the answers has this code; records which messages were acknowledged.
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

/// The length of a payload that takes much space.
const LARGE: usize = 60_000;
/// Changes and refusals after which a message must be accepted again, once the queue is drained.
const COMES_BACK_WITHIN: usize = 20_000;
/// More payloads of that size than fit on the disk.
const MOST: u16 = 800;
/// Bytes that another process leaves free: a little more than the broker needs to accept new messages.
pub const LEFT: u64 = 6 * 1024 * 1024;
/// The part of them that the broker must leave free, whatever it accepts: for operations that free space.
const SPARED: u64 = 1024 * 1024;

pub fn owner() -> Connect {
    Connect::new(V5, "owner").resume().expiry(10_000)
}

/// The owner of the queue subscribes and disconnects.
pub fn leave_owner(server: &Server, filter: &str) {
    let mut peer = Peer::connect_as(server.address(), &owner());
    assert_eq!(peer.subscribe(filter, 2), 2);
    peer.disconnect();
}

/// Repeats an action until the broker refuses it for lack of space. The code is that of the broker's answer, if there
/// is one.
fn until_refused(mut act: impl FnMut(u16) -> Option<u8>) {
    let code = (1..=MOST).map(&mut act).find(|code| *code != Some(0));
    assert_eq!(code, Some(Some(QUOTA_EXCEEDED)), "it is refused for lack of space");
}

/// Messages acknowledged to the publisher and not yet delivered to the owner of the queue.
pub type Owed = BTreeSet<String>;

fn large(name: &str) -> Vec<u8> {
    let mut payload = format!("{name} ").into_bytes();
    payload.resize(LARGE, b'.');
    payload
}

/// Publishes until a message is refused.
pub fn publish_all(server: &Server, qos: u8, owed: &mut Owed) {
    let mut peer = Peer::connect(server.address(), "filling");
    until_refused(|number| {
        let name = format!("{qos}-{number}");
        peer.send(&Publish::new(V5, "full/x", &large(&name)).qos(qos, number).bytes());
        let code = peer.packet().get(4).copied().unwrap_or(0);
        if code == 0 {
            owed.insert(name);
            if qos == 2 {
                peer.send(&acknowledge(0x62, number));
                assert_eq!(peer.packet()[0], 0x70, "a PUBCOMP");
            }
        }
        Some(code)
    });
}

fn by_wills(server: &Server, _: &mut Owed) {
    until_refused(|number| {
        let connect = Connect::new(V5, &format!("w{number}"));
        let connect = connect.will("full/will", &[b'w'; LARGE], 1, false, &[]);
        Peer::try_connect(server.address(), &connect).1
    });
}

fn by_sessions(server: &Server, _: &mut Owed) {
    until_refused(|number| {
        let connect = Connect::new(V5, &format!("s{number}")).resume().expiry(10_000);
        let connect = connect.will("unheard", &[b'w'; LARGE], 1, false, &[]);
        let (mut peer, code) = Peer::try_connect(server.address(), &connect);
        if code == Some(0) {
            // The Will stays with its session.
            peer.send(&[0xE0, 0]);
            let (_, code) = Peer::try_connect(server.address(), &connect);
            assert!(matches!(code, Some(0 | QUOTA_EXCEEDED)), "{code:?}");
        }
        code
    });
}

fn by_subscriptions(server: &Server, _: &mut Owed) {
    let mut peer = Peer::connect_as(server.address(), &Connect::new(V5, "greedy").expiry(10_000));
    until_refused(|number| Some(peer.subscribe(&format!("{number}{}", "f".repeat(LARGE)), 0)));
}

fn by_retained(server: &Server, _: &mut Owed) {
    let mut peer = Peer::connect(server.address(), "filling");
    until_refused(|number| {
        let topic = format!("retained/{number}");
        match peer.publish(Publish::new(V5, &topic, &[b'r'; LARGE]).retain()) {
            NO_MATCHING_SUBSCRIBERS => Some(0),
            code => Some(code),
        }
    });
}

/// No answer promises anything for these, so none refuses them.
fn by_raised_qos_0(server: &Server, _: &mut Owed) {
    let mut peer = Peer::connect(server.address(), "filling");
    for _ in 0..MOST {
        peer.send(&Publish::new(V5, "full/x", &[b'0'; LARGE]).bytes());
    }
    ping(&mut peer);
}

/// Fills the disk with stored data of one kind, then another process takes the rest. Shows that clients that need no
/// space are still served, that nothing is lost, and that there is space again when the owner of the queue has drained
/// it.
fn fills(name: &str, filter: &str, act: impl Fn(&Server, &mut Owed)) {
    let raises = format!("upgrade_outgoing_qos {}\n", name == "raised");
    let Some(mut small) = SmallPlace::mount(name, &raises) else { return };
    let server = small.serve();
    leave_owner(&server, filter);
    let mut pinging = Peer::connect(server.address(), "pinging");
    let mut owed: Owed = ["first".to_owned()].into();
    let mut peer = Peer::connect(server.address(), "first");
    assert_eq!(peer.publish(Publish::new(V5, "full/x", b"first ")), 0);
    drop(peer);

    small.disk.leave(LEFT);
    act(&server, &mut owed);
    std::thread::sleep(SETTLED);
    assert!(small.disk.free() >= SPARED, "{name}: the broker has left {} bytes", small.disk.free());
    small.disk.fill();
    std::thread::sleep(SETTLED);
    others_are_served(&server, &mut pinging);
    let mut peer = Peer::connect_as(server.address(), &owner());
    take_all(&mut peer, &mut owed);
    // Messages that were acknowledged are removed from the disk, but their client need not wait for that.
    peer.send(&PINGREQ);
    others_are_served(&server, &mut pinging);
    peer.disconnect();

    small.disk.empty();
    owed.extend(has_room_again(&server));
    small.end(server, "KILL");
    let server = small.serve();
    take_all(&mut Peer::connect_as(server.address(), &owner()), &mut owed);
}

/// Longer than the broker delays writes that no client waits for.
const SETTLED: Duration = Duration::from_millis(1_500);

/// Receives and acknowledges messages until none of these is missing. Others may come as well.
pub fn take_all(peer: &mut Peer, owed: &mut Owed) {
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

fn ping(peer: &mut Peer) {
    peer.send(&PINGREQ);
    assert_eq!(peer.packet(), PINGRESP);
}

/// Asserts that clients that need no space are served.
fn others_are_served(server: &Server, pinging: &mut Peer) {
    ping(pinging);
    qos_0_goes_on(server);
}

/// Waits until the broker accepts a message again. Returns the messages that were acknowledged.
pub fn has_room_again(server: &Server) -> Vec<String> {
    let mut acknowledged = Vec::new();
    publish_until(&mut Publisher::connect(server, V5, "publisher"), 0, &mut acknowledged);
    acknowledged
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
    fills("qos-1", "full/#", |server, owed| publish_all(server, 1, owed));
}

#[test]
fn messages_of_qos_2_fill_no_disk() {
    fills("qos-2", "full/#", |server, owed| publish_all(server, 2, owed));
}

#[test]
fn messages_whose_qos_is_raised_fill_no_disk() {
    fills("raised", "full/#", by_raised_qos_0);
}

#[test]
fn messages_for_groups_fill_no_disk() {
    fills("shared", "$share/g/full/#", |server, owed| publish_all(server, 1, owed));
}

/// The log says that the disk is full, which messages are refused for it, and which Wills are published with QoS 0.
#[test]
fn the_log_says_what_a_full_disk_has_cost() {
    let Some(mut small) = SmallPlace::mount("named", "") else { return };
    let server = small.serve();
    leave_owner(&server, "full/#");
    let doomed = Connect::new(V5, "doomed").will("full/will", b"gone", 1, false, &[]);
    let _doomed = Peer::connect_as(server.address(), &doomed);
    small.disk.leave(LEFT);
    publish_all(&server, 1, &mut Owed::new());
    server.wait_for_line(
        "There is no room for new messages on disk: they are refused until there is room again.",
    );
    server.wait_for_line(
        "Refused PUBLISH from filling ('full/x', ... (60000 bytes)): there is too little room on disk.",
    );
    server.signal("TERM");
    let (status, log) = server.wait_for_end();
    let expected =
        "The Will of client doomed to 'full/will' is published with QoS 0: there is too little room on disk.";
    assert!(status == Some(0) && log.iter().any(|line| line.ends_with(expected)), "{log:?}");
}

/// The space of messages that the owner of a queue has acknowledged goes back to the disk, even while other clients
/// keep the broker writing.
#[test]
fn room_comes_back_when_a_queue_is_drained() {
    let Some(mut small) = SmallPlace::mount("drained", "") else { return };
    let server = small.serve();
    leave_owner(&server, "full/#");
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
    assert!(has_room, "no message is accepted again: {} bytes are free", small.disk.free());
}

/// Another process takes each byte that the broker frees. Nothing more is acknowledged then, but clients that store
/// nothing are still served, and nothing is lost.
#[test]
fn acknowledged_messages_survive_a_disk_that_stays_full() {
    let Some(mut small) = SmallPlace::mount("stuck", "") else { return };
    let server = small.serve();
    leave_owner(&server, "full/#");
    let busy = Connect::new(V5, "busy").resume().expiry(10_000);
    let mut peer = Peer::connect_as(server.address(), &busy);
    let filters: Vec<String> = (0..400).map(|number| format!("{number}{}", "f".repeat(2_000))).collect();
    for filter in &filters {
        assert_eq!(peer.subscribe(filter, 0), 0);
    }
    peer.disconnect();
    // The journal of a new run is empty, so it has to grow with each transaction that is larger than those before.
    small.end(server, "TERM");
    let server = small.serve();
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
        small.disk.fill();
        let some: Vec<&str> = rest.by_ref().take(count).collect();
        busy.send(&unsubscribe(V5, 2, &some));
        busy.try_packet().is_ok()
    });
    assert!(!has_answered, "there is always room for more");
    assert_eq!(peer.publish(Publish::new(V5, "full/x", b"more ")), QUOTA_EXCEEDED);
    others_are_served(&server, &mut pinging);
    // The owner of the queue gets what can be delivered without space.
    let mut returned = Peer::connect_as(server.address(), &owner());
    let first = received(V5, &returned.packet());
    assert_eq!(first.payload, b"first-1 ");
    small.end(server, "KILL");

    // The broker also starts without any space.
    let server = small.serve();
    others_are_served(&server, &mut Peer::connect(server.address(), "pinging"));
    take_all(&mut Peer::connect_as(server.address(), &owner()), &mut owed);
    small.disk.empty();
    has_room_again(&server);
}

/// The system reports at some writes that the user's quota is exhausted. These are tried again, four times a second.
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
