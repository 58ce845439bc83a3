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
    #[expect(clippy::disallowed_methods, reason = "the broker reads a file")]
    pub(crate) fn start_with(name: &str, servers: &Servers, count: usize, lines: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("brooklet-nodes-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory can be made");
        let replicas = servers.count().min(3);
        for number in 0..count {
            let text = format!(
                "listener 0 127.0.0.1\nallow_anonymous true\nuser root\nsys_interval 1\n\
                 cluster {}\ncluster_name test\ncluster_node n{number}\ncluster_replicas {replicas}\n{lines}",
                servers.addresses()
            );
            fs::write(directory.join(format!("{number}.conf")), text).expect("a file can be written");
        }
        let mut this = Self { directory, nodes: (0..count).map(|_| None).collect() };
        (0..count).for_each(|number| this.begin(number));
        (0..count).for_each(|number| this.wait_until_joined(number));
        this
    }

    fn begin(&mut self, number: usize) {
        let mut command = brooklet();
        command.arg("-c").arg(self.directory.join(format!("{number}.conf")));
        self.nodes[number] = Some(Server::follow(command));
    }

    fn wait_until_joined(&self, number: usize) {
        self.node(number).wait_for_line("This node has joined the cluster");
    }

    /// Kills a node.
    pub(crate) fn kill(&mut self, number: usize) {
        self.nodes[number] = None;
    }

    /// Starts a node again that was killed.
    pub(crate) fn restart(&mut self, number: usize) {
        assert!(self.nodes[number].is_none(), "it does not run");
        self.begin(number);
        self.wait_until_joined(number);
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
