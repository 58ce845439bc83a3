//! The account of a cluster at its servers, as `docs/cluster.md` prints it and `examples/cluster/account` makes it.

#![expect(clippy::disallowed_methods, reason = "a server takes time, and needs files")]

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rumqttc::QoS;

use crate::client::PATIENCE;
use crate::mqtt::{Client, Version, run};
use crate::nodes::{receive_soon, wait_until_heard};
use crate::server::{Server, brooklet};

/// A server with these accounts.
struct Guarded {
    directory: PathBuf,
    process: Child,
    port: u16,
}

impl Guarded {
    fn start(name: &str, accounts: &[&str]) -> Self {
        let directory = std::env::temp_dir().join(format!("brooklet-account-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory can be made");
        let (configuration, log) = (directory.join("nats.conf"), directory.join("log"));
        let text = format!(
            "listen: \"127.0.0.1:-1\"\njetstream {{\n store_dir: \"{}\"\n max_mem: 64M\n max_file: 1G\n}}\naccounts {{\n{}\n}}\n",
            directory.display(),
            accounts.concat()
        );
        fs::write(&configuration, text).expect("a file can be written");
        let program = std::env::var_os("NATS_SERVER").unwrap_or_else(|| "nats-server".into());
        let mut command = Command::new(program);
        command.arg("-c").arg(&configuration).stdout(Stdio::null());
        let process = command.stderr(fs::File::create(&log).expect("it can have a log")).spawn();
        let mut this = Self { directory, process: process.expect("the server can be started"), port: 0 };
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = fs::read_to_string(&log).expect("it has a log");
            if let Some(port) = port_in(&log) {
                this.port = port;
                return this;
            }
            assert!(Instant::now() < deadline, "{log}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Starts a node of the cluster, which does not wait for the server.
    fn node(&self, name: &str) -> Server {
        let path = self.directory.join(name);
        let text = format!(
            "listener 0 127.0.0.1\nallow_anonymous true\nuser root\ncluster nats://127.0.0.1:{}\ncluster_name home\n\
             cluster_node {name}\ncluster_replicas 1\ncluster_username home\ncluster_password secret\n",
            self.port
        );
        fs::write(&path, text).expect("a file can be written");
        let mut command = brooklet();
        command.arg("-c").arg(path);
        Server::follow(command)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// The port of a server that is ready, by its log.
fn port_in(log: &str) -> Option<u16> {
    let (_, rest) = log.split_once("Listening for client connections on 127.0.0.1:")?;
    rest.contains("Server is ready").then(|| rest.lines().next().and_then(|port| port.parse().ok()))?
}

/// A user who sends what a test says, and reads all that comes.
struct User {
    stream: TcpStream,
    received: String,
}

impl User {
    fn connect(server: &Guarded, name: &str, password: &str) -> Self {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port)).expect("the server answers");
        stream.set_read_timeout(Some(Duration::from_secs(1))).expect("the socket has timeouts");
        let mut user = Self { stream, received: String::new() };
        user.send(&format!(
            "CONNECT {{\"verbose\":false,\"headers\":true,\"no_responders\":true,\"user\":\"{name}\",\"pass\":\"{password}\"}}\r\n"
        ));
        user
    }

    fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).expect("the server reads");
    }

    fn publish(&mut self, subject: &str, reply: &str, body: &str) {
        self.send(&format!("PUB {subject} {reply} {}\r\n{body}\r\n", body.len()));
    }

    /// Reads until one of these comes. Returns all that has come since the last time.
    fn read_until(&mut self, texts: &[&str]) -> String {
        let mut bytes = [0; 65_536];
        let deadline = Instant::now() + PATIENCE;
        while !texts.iter().any(|text| self.received.contains(text)) {
            assert!(Instant::now() < deadline, "none of {texts:?} in {}", self.received);
            let count = self.stream.read(&mut bytes).unwrap_or_default();
            self.received += &String::from_utf8_lossy(&bytes[..count]);
        }
        std::mem::take(&mut self.received)
    }

    /// All that has come up to the answer to a PING.
    fn flush(&mut self) -> String {
        self.send("PING\r\n");
        self.read_until(&["PONG\r\n"])
    }

    /// Does what nodes do with the log and with each other. Returns what the server refuses first.
    fn work(&mut self) -> Result<(), String> {
        self.send("SUB _INBOX.home.1.* 1\r\nSUB bk.home.d.> 2\r\n");
        granted(&self.flush())?;
        self.publish("bk.home.d.a.%", "", "direct");
        granted(&self.read_until(&["direct", REFUSED]))?;
        for (stream, config) in [
            ("bk-home-log0", r#""subjects":["bk.home.m0.>"]"#),
            (
                "bk-home-retained",
                r#""max_msgs_per_subject":1,"sources":[{"name":"bk-home-log0","filter_subject":"bk.home.m0.r.>"}]"#,
            ),
        ] {
            let config = format!(
                r#"{{"name":"{stream}","allow_direct":true,"storage":"file","num_replicas":1,{config}}}"#
            );
            self.ask(&format!("STREAM.CREATE.{stream}"), &config)?;
            self.ask(&format!("STREAM.INFO.{stream}"), "")?;
        }
        self.publish("bk.home.m0.r.a.%", "_INBOX.home.1.stored", "retained");
        granted(&self.read_until(&["\"seq\":1", REFUSED]))?;
        ["bk-home-log0", "bk-home-retained"].into_iter().try_for_each(|stream| self.read(stream))
    }

    /// Sends a request to JetStream, and waits for an answer without an error.
    fn ask(&mut self, request: &str, body: &str) -> Result<(), String> {
        self.publish(&format!("$JS.API.{request}"), "_INBOX.home.1.answer", body);
        let answer = self.read_until(&["\"type\":\"io.nats.jetstream", REFUSED]);
        if answer.contains("\"error\"") { Err(answer) } else { granted(&answer) }
    }

    /// Reads the entry of a stream in both ways.
    fn read(&mut self, stream: &str) -> Result<(), String> {
        // The server sends nothing to a subscription with wildcards, and ignores one with a number that is taken.
        self.send(&format!("SUB _INBOX.home.1.{stream} {}\r\n", stream.len()));
        let body = format!(
            r#"{{"stream_name":"{stream}","action":"create","config":{{"name":"n1","deliver_subject":"_INBOX.home.1.{stream}","ack_policy":"none","deliver_policy":"all","flow_control":true,"idle_heartbeat":1000000000,"max_deliver":1,"mem_storage":true,"num_replicas":1}}}}"#
        );
        self.publish(&format!("$JS.API.CONSUMER.CREATE.{stream}.n1"), "_INBOX.home.1.answer", &body);
        granted(&self.read_until(&["retained\r\n", REFUSED]))?;
        // A stream of sources may have its entry a little later.
        self.publish(&format!("$JS.API.DIRECT.GET.{stream}"), "_INBOX.home.1.entry", r#"{"seq":1}"#);
        granted(&self.read_until(&["retained\r\n", REFUSED]))?;
        self.publish(&format!("$JS.ACK.{stream}.n1.1.1.1.1.0"), "", "");
        self.publish(&format!("$JS.FC.{stream}.n1.x"), "", "");
        granted(&self.flush())
    }
}

/// How the server begins to refuse something.
const REFUSED: &str = "-ERR";

fn granted(answer: &str) -> Result<(), String> {
    let refusal = answer.lines().find(|line| line.starts_with(REFUSED));
    refusal.map_or(Ok(()), |line| Err(line.to_owned()))
}

/// The account on the page.
fn printed() -> String {
    let page = include_str!("../../docs/cluster.md");
    let (_, rest) = page.split_once("`home.conf`:\n\n```\n").expect("the page has the account");
    rest.split_once("```").expect("the block ends").0.to_owned()
}

/// The account that the example makes.
fn made(name: &str, password: &str) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/cluster/account");
    let output = Command::new(script).args([name, password]).output().expect("the script can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("it prints text")
}

/// Whether a line of an account is a subject that is permitted.
fn is_permission(line: &&str) -> bool {
    line.trim().starts_with('"')
}

fn without_line(text: &str, number: usize) -> String {
    let others = text.lines().enumerate().filter(|(other, _)| *other != number);
    others.map(|(_, line)| format!("{line}\n")).collect()
}

fn wait_until_joined(node: &Server) {
    node.wait_for_line("This node has joined the cluster");
}

#[test]
fn the_page_shows_what_the_example_makes() {
    assert_eq!(printed(), made("home", "secret"));
}

#[test]
fn an_account_needs_a_name_and_a_password_that_fit() {
    for (name, password) in [("a.b", "x"), ("", "x"), ("a", ""), ("a", "x\"y"), ("a b", "x")] {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/cluster/account");
        let output = Command::new(script).args([name, password]).output().expect("the script can be run");
        assert!(!output.status.success() && output.stdout.is_empty(), "{name} {password}");
    }
}

#[test]
fn each_permission_is_needed_and_no_other() {
    let account = printed();
    let server = Guarded::start("whole", &[&account]);
    assert_eq!(User::connect(&server, "home", "secret").work(), Ok(()));
    let permissions: Vec<&str> = account.lines().filter(is_permission).collect();
    assert!(permissions.len() > 10, "{permissions:?}");
    for (number, line) in account.lines().enumerate().filter(|(_, line)| is_permission(line)) {
        let server = Guarded::start("less", &[&without_line(&account, number)]);
        let refusal = User::connect(&server, "home", "secret").work().expect_err(line);
        assert!(refusal.contains("Permissions Violation"), "{line}: {refusal}");
    }
}

#[test]
fn nodes_work_with_these_permissions() {
    let server = Guarded::start("nodes", &[&printed()]);
    let nodes = [server.node("one"), server.node("two")];
    nodes.iter().for_each(wait_until_joined);
    run(async {
        let mut writer = Client::connect(&nodes[0], Version::V5, "writer").await;
        let mut reader = Client::connect(&nodes[1], Version::V5, "reader").await;
        for topic in ["a/b", "$x/y"] {
            reader.subscribe(&format!("{topic}/#"), QoS::AtMostOnce).await;
            wait_until_heard(&mut writer, &mut reader, topic).await;
        }
        writer.publish("a/b", QoS::AtLeastOnce, true, "stored").await;
        while reader.receive().await.payload != b"stored" {}
        assert!(receive_soon(&mut reader).await.is_none());
    });
    for node in &nodes {
        assert_eq!(node.lines_with("refuses"), Vec::<String>::new());
    }
}

#[test]
fn a_node_says_which_permission_is_missing() {
    let account = printed();
    // Nodes do not need them for what they do in this test.
    let is_used =
        |line: &str| !["$JS.API.DIRECT.GET.", "$JS.ACK.", "$JS.FC."].iter().any(|name| line.contains(name));
    for (number, line) in account.lines().enumerate().filter(|(_, line)| is_permission(line) && is_used(line))
    {
        let server = Guarded::start("told", &[&without_line(&account, number)]);
        let node = server.node("one");
        let subject = line.trim().trim_matches('"').trim_end_matches(['>', '*']);
        node.wait_for_line(&format!("to \"{subject}"));
        assert!(!node.lines_with("The NATS server refuses: Permissions Violation for ").is_empty(), "{line}");
    }
}

/// A cluster that may make streams can make one of any subjects, or of any other stream, or a reader that sends to any
/// subject, so only an account of its own keeps it away from the others.
#[test]
fn another_cluster_at_the_server_neither_reads_nor_writes() {
    let other = made("other", "secret");
    let server = Guarded::start("other", &[&printed(), &other]);
    let mut home = User::connect(&server, "home", "secret");
    home.work().expect("it may do all of it");
    let mut other = User::connect(&server, "other", "secret");
    other.send("SUB _INBOX.other.> 1\r\nSUB bk.other.> 2\r\n");
    granted(&other.flush()).expect("they are its own");
    other.send("SUB bk.home.> 3\r\nSUB _INBOX.home.> 4\r\nSUB > 5\r\n");
    other.publish("bk.home.d.a.%", "", "foreign");
    other.publish("$JS.API.STREAM.INFO.bk-home-log0", "_INBOX.other.1", "");
    other.publish("$JS.API.STREAM.DELETE.bk-home-log0", "_INBOX.other.1", "");
    other.publish("$JS.API.STREAM.PURGE.bk-home-log0", "_INBOX.other.1", "");
    let answer = other.flush();
    assert_eq!(answer.matches(REFUSED).count(), 7, "{answer}");
    for (stream, config) in [
        ("bk-other-log0", r#""subjects":["bk.home.>","bk.other.>"]"#),
        ("bk-other-retained", r#""sources":[{"name":"bk-home-log0"}]"#),
    ] {
        let config = format!(r#"{{"name":"{stream}","storage":"file","num_replicas":1,{config}}}"#);
        other.publish(&format!("$JS.API.STREAM.CREATE.{stream}"), "_INBOX.other.1", &config);
        other.read_until(&["stream_create_response"]);
    }
    home.publish("bk.home.d.a.%", "", "secret message");
    home.read_until(&["secret message"]);
    home.publish("bk.home.m0.t.a.%", "_INBOX.home.1.stored", "secret message");
    home.read_until(&["\"seq\":2"]);
    // Nothing of it has come to the other cluster, and nothing is in its streams.
    for stream in ["bk-other-log0", "bk-other-retained"] {
        other.publish(&format!("$JS.API.STREAM.INFO.{stream}"), "_INBOX.other.1", "");
        let answer = other.read_until(&["stream_info_response"]);
        assert!(answer.contains("\"messages\":0") || answer.contains("\"error\""), "{answer}");
        assert!(!answer.contains("secret message"), "{answer}");
    }
    // What its stream sends to a subject of the first one stays with it.
    let body = r#"{"stream_name":"bk-other-log0","config":{"name":"n","deliver_subject":"bk.home.d.a.%"}}"#;
    other.publish("$JS.API.CONSUMER.CREATE.bk-other-log0.n", "_INBOX.other.1", body);
    other.read_until(&["consumer_create_response"]);
    other.publish("bk.other.m0.t.a.%", "_INBOX.other.1", "foreign");
    other.read_until(&["\"seq\":1"]);
    let received = home.flush();
    assert!(!received.contains("foreign"), "{received}");
}
