//! Nodes of one cluster.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use rumqttc::QoS;

use crate::mqtt::{Client, Message, Options, Version};
use crate::server::{Server, brooklet};
use crate::servers::Servers;

/// How long to wait for a message before another one is published.
const SOON: Duration = Duration::from_millis(100);

/// Some nodes. They are killed when this is dropped.
pub(crate) struct Nodes {
    directory: PathBuf,
    nodes: Vec<Option<Server>>,
}

impl Nodes {
    /// Starts this many nodes, and waits until all of them have joined.
    pub(crate) fn start(name: &str, servers: &Servers, count: usize) -> Self {
        Self::start_with(name, servers, count, "")
    }

    /// The same for nodes with more lines in their configuration.
    pub(crate) fn start_with(name: &str, servers: &Servers, count: usize, lines: &str) -> Self {
        let (addresses, replicas) = (servers.addresses(), servers.count().min(3));
        let lines = format!("cluster {addresses}\ncluster_replicas {replicas}\n{lines}");
        Self::start_at(name, &lines, count)
    }

    /// The same with these lines about the servers.
    pub(crate) fn start_at(name: &str, lines: &str, count: usize) -> Self {
        let this = Self::begin(name, lines, count);
        (0..count).for_each(|number| this.wait_until_joined(number));
        this
    }

    /// Starts this many nodes, with these lines about the servers.
    pub(crate) fn begin(name: &str, lines: &str, count: usize) -> Self {
        Self::begin_with(name, lines, count, &[])
    }

    /// The same on a system that has only these authorities.
    pub(crate) fn begin_trusting(name: &str, lines: &str, count: usize, authorities: &str) -> Self {
        Self::begin_with(name, lines, count, &[("SSL_CERT_FILE", authorities), ("SSL_CERT_DIR", "")])
    }

    fn begin_with(name: &str, lines: &str, count: usize, variables: &[(&str, &str)]) -> Self {
        let directory = std::env::temp_dir().join(format!("brooklet-nodes-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory can be made");
        let mut this = Self { directory, nodes: Vec::new() };
        for number in 0..count {
            this.configure(number, lines);
            let node = this.follow(number, variables);
            this.nodes.push(Some(node));
        }
        this
    }

    fn path(&self, number: usize) -> PathBuf {
        self.directory.join(format!("node-{number}.conf"))
    }

    /// Writes the configuration of a node.
    #[expect(clippy::disallowed_methods, reason = "the broker reads a file")]
    pub(crate) fn configure(&self, number: usize, lines: &str) {
        let replicas = if lines.contains("cluster_replicas") { "" } else { "cluster_replicas 1\n" };
        let text = format!(
            "listener 0 127.0.0.1\nallow_anonymous true\nuser root\nsys_interval 1\n{lines}{replicas}cluster_name \
             test\ncluster_node n{number}\n"
        );
        fs::write(self.path(number), text).expect("a file can be written");
    }

    fn follow(&self, number: usize, variables: &[(&str, &str)]) -> Server {
        let mut command = brooklet();
        command.arg("-c").arg(self.path(number)).envs(variables.iter().copied());
        Server::follow(command)
    }

    fn wait_until_joined(&self, number: usize) {
        self.node(number).wait_for_line("This node has joined the cluster");
    }

    /// Adds a line to the configuration of a node.
    #[expect(clippy::disallowed_methods, reason = "the broker reads a file")]
    pub(crate) fn add_line(&self, number: usize, line: &str) {
        let text = fs::read_to_string(self.path(number)).expect("it was written here");
        fs::write(self.path(number), text + line).expect("a file can be written");
    }

    /// Kills a node.
    pub(crate) fn kill(&mut self, number: usize) {
        self.nodes[number] = None;
    }

    /// Starts a node again that was killed.
    pub(crate) fn restart(&mut self, number: usize) {
        assert!(self.nodes[number].is_none(), "it does not run");
        self.nodes[number] = Some(self.follow(number, &[]));
        self.wait_until_joined(number);
    }

    /// What a node has logged, if it runs.
    pub(crate) fn lines(&self, number: usize) -> Vec<String> {
        self.nodes[number].as_ref().map_or_else(Vec::new, |node| node.lines_with(""))
    }

    /// A node by its number.
    pub(crate) fn node(&self, number: usize) -> &Server {
        self.nodes[number].as_ref().expect("it runs")
    }

    /// Connects a client to a node.
    pub(crate) async fn client(&self, number: usize, version: Version, name: &str) -> Client {
        Client::connect(self.node(number), version, name).await
    }
}

impl Nodes {
    /// Connects a client that is refused, and returns why.
    pub(crate) async fn refused_client(&self, number: usize, version: Version) -> String {
        Options::new(self.node(number), version, "refused").refused().await
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Publishes until a message arrives at a client of another node. It is reported nowhere that all servers of NATS know a
/// subscription.
pub(crate) async fn wait_until_heard(writer: &mut Client, reader: &mut Client, topic: &str) {
    for _ in 0..200 {
        writer.publish(topic, QoS::AtMostOnce, false, "probe").await;
        if receive_soon(reader).await.is_some() {
            // The others that are on their way come before what is published from now on.
            writer.publish(topic, QoS::AtMostOnce, false, "last probe").await;
            while reader.receive().await.payload != b"last probe" {}
            return;
        }
    }
    panic!("nothing of {topic} arrives");
}

/// The next message, if there is one soon.
pub(crate) async fn receive_soon(reader: &mut Client) -> Option<Message> {
    tokio::time::timeout(SOON, reader.receive()).await.ok()
}
