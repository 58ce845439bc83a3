//! Servers of NATS on this machine.

#![expect(clippy::disallowed_methods, reason = "servers take time, and need files")]

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Client, PATIENCE};

/// Several servers as one cluster, or one alone.
pub struct Servers {
    directory: PathBuf,
    servers: Vec<Server>,
}

struct Server {
    configuration: PathBuf,
    port: u16,
    process: Option<Child>,
}

impl Drop for Servers {
    fn drop(&mut self) {
        (0..self.servers.len()).for_each(|number| self.kill(number));
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Servers {
    /// Starts so many and waits until JetStream answers at each.
    pub fn start(name: &str, count: usize) -> Self {
        let directory = std::env::temp_dir().join(format!("brooklet-cluster-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory can be made");
        let ports = free_ports(2 * count);
        let (ports, routes) = ports.split_at(count);
        let servers = (0..count).map(|number| {
            let configuration = directory.join(format!("{number}.conf"));
            write_configuration(&configuration, number, ports[number], routes);
            Server { configuration, port: ports[number], process: None }
        });
        let servers = servers.collect();
        let mut this = Self { directory, servers };
        (0..count).for_each(|number| this.begin(number));
        (0..count).for_each(|number| this.wait(number));
        this
    }

    /// Starts one with these lines in its configuration, and waits until it greets. JetStream may not answer yet.
    pub fn start_with(name: &str, lines: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("brooklet-cluster-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory can be made");
        let port = free_ports(1)[0];
        let configuration = directory.join("0.conf");
        write_configuration(&configuration, 0, port, &[]);
        let mut this = Self { directory, servers: vec![Server { configuration, port, process: None }] };
        this.configure(lines);
        this.begin(0);
        this.wait_for_greeting();
        this
    }

    /// Appends lines to the configuration of the only server, in place of those before.
    pub fn configure(&self, lines: &str) {
        const MARK: &str = "# the lines of the test\n";
        let path = &self.servers[0].configuration;
        let text = fs::read_to_string(path).expect("it was written");
        let text = text.split(MARK).next().unwrap_or_default();
        fs::write(path, format!("{text}{MARK}{lines}")).expect("a file can be written");
    }

    fn wait_for_greeting(&self) {
        let deadline = Instant::now() + PATIENCE;
        while Client::greeting(self.port(0)).is_none() {
            assert!(Instant::now() < deadline, "{}", self.log(0));
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends the only server, and starts it again with other lines.
    pub fn restart_with(&mut self, lines: &str) {
        self.kill(0);
        self.configure(lines);
        self.begin(0);
        self.wait_for_greeting();
    }

    fn begin(&mut self, number: usize) {
        let server = &mut self.servers[number];
        assert!(server.process.is_none(), "it does not run");
        let log = server.configuration.with_extension("log");
        let log = fs::OpenOptions::new().create(true).append(true).open(log).expect("it can have a log");
        let mut command = Command::new(program());
        command.arg("-c").arg(&server.configuration).stdout(Stdio::null()).stderr(log);
        server.process = Some(command.spawn().expect("the server can be started"));
    }

    /// Waits until JetStream answers.
    fn wait(&self, number: usize) {
        let deadline = Instant::now() + PATIENCE;
        while !self.is_ready(number) {
            assert!(Instant::now() < deadline, "server {number}: {}", self.log(number));
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn is_ready(&self, number: usize) -> bool {
        // JetStream has no leader yet as long as the answer is an error, or none.
        let client = Client::connect_with(self.servers[number].port, Duration::from_secs(1));
        let Some(mut client) = client else { return false };
        client.request("$JS.API.INFO").is_some_and(|answer| !answer.contains("\"error\""))
    }

    fn log(&self, number: usize) -> String {
        fs::read_to_string(self.servers[number].configuration.with_extension("log")).unwrap_or_default()
    }

    /// The port of a server for clients.
    pub fn port(&self, number: usize) -> u16 {
        self.servers[number].port
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.servers.len()
    }

    /// The addresses of all servers, as they stand in the configuration of a node.
    pub fn addresses(&self) -> String {
        let addresses: Vec<String> =
            self.servers.iter().map(|server| format!("nats://127.0.0.1:{}", server.port)).collect();
        addresses.join(" ")
    }

    pub fn client(&self, number: usize) -> Client {
        Client::connect(self.port(number)).expect("the server answers")
    }

    /// Ends a server without a chance to write anything.
    pub fn kill(&mut self, number: usize) {
        if let Some(mut process) = self.servers[number].process.take() {
            process.kill().expect("it is a process of this test");
            process.wait().expect("it has ended");
        }
    }

    /// The same without waiting until it answers, which it may not do alone.
    pub fn start_again(&mut self, number: usize) {
        self.begin(number);
    }

    /// Starts a server again, with what it has on disk.
    pub fn restart(&mut self, number: usize) {
        self.begin(number);
        self.wait(number);
    }

    /// Freezes a server: its connections stay open, and it answers nothing.
    pub fn freeze(&self, number: usize) {
        self.signal(number, "STOP");
    }

    pub fn thaw(&self, number: usize) {
        self.signal(number, "CONT");
    }

    fn signal(&self, number: usize, name: &str) {
        let process = self.servers[number].process.as_ref().expect("it runs");
        let status = Command::new("kill").args(["-s", name, &process.id().to_string()]).status();
        assert!(status.expect("there is kill").success());
    }
}

/// The program. Without one, the tests fail, rather than test nothing.
fn program() -> PathBuf {
    let program = std::env::var_os("NATS_SERVER").unwrap_or_else(|| "nats-server".into());
    let output = Command::new(&program).arg("--version").output();
    let version =
        output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let mut numbers =
        version.trim().trim_start_matches("nats-server: v").split('.').map_while(|text| text.parse().ok());
    let version: (u32, u32) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    assert!(
        version >= (2, 14),
        "these tests need a nats-server of 2.14 or newer: tests/cluster/server prints the path of one"
    );
    program.into()
}

fn write_configuration(path: &Path, number: usize, port: u16, routes: &[u16]) {
    let mut text = format!(
        "server_name: s{number}\nlisten: 127.0.0.1:{port}\njetstream {{\n store_dir: \"{}\"\n max_mem: 64M\n max_file: \
         1G\n}}\n",
        path.with_extension("store").display()
    );
    if routes.len() > 1 {
        let all: Vec<String> = routes.iter().map(|route| format!("nats://127.0.0.1:{route}")).collect();
        text += &format!(
            "cluster {{\n name: test\n listen: 127.0.0.1:{}\n routes: [{}]\n}}\n",
            routes[number],
            all.join(", ")
        );
    }
    fs::write(path, text).expect("a file can be written");
}

fn free_ports(count: usize) -> Vec<u16> {
    let listener = |_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a free port");
    let listeners: Vec<TcpListener> = (0..count).map(listener).collect();
    listeners.iter().map(|listener| listener.local_addr().expect("it has an address").port()).collect()
}

#[test]
fn a_cluster_outlives_one_of_its_servers() {
    let mut servers = Servers::start("outlives", 3);
    let mut receiver = servers.client(1);
    receiver.subscribe("a.*", 1);
    receiver.flush().expect("it is subscribed");
    let mut sender = servers.client(0);
    let exchange = |sender: &mut Client, receiver: &mut Client, text: &str| {
        // The other servers learn later of the subscription.
        let deadline = Instant::now() + PATIENCE;
        loop {
            sender.publish("a.b", text.as_bytes());
            sender.flush().expect("the server runs");
            let messages = receiver.flush().expect("the server runs");
            if messages.iter().any(|message| message.payload == text.as_bytes()) {
                return;
            }
            assert!(Instant::now() < deadline, "{text} does not come");
        }
    };
    exchange(&mut sender, &mut receiver, "all");
    servers.kill(2);
    exchange(&mut sender, &mut receiver, "two");
    assert!(Client::connect(servers.port(2)).is_none(), "it is gone");
    servers.restart(2);
    let mut sender = servers.client(2);
    exchange(&mut sender, &mut receiver, "again");
    servers.freeze(2);
    let mut other = servers.client(0);
    exchange(&mut other, &mut receiver, "frozen");
    servers.thaw(2);
    exchange(&mut sender, &mut receiver, "thawed");
}
