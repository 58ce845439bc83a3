//! Nodes that are killed, stand still or are left behind, and servers without room.

use rumqttc::QoS;

use crate::log::expect;
use crate::mqtt::{Client, Options, Version, run};
use crate::nodes::Nodes;
use crate::servers::Servers;

/// What a publisher knows of its messages, which are numbers.
struct Publisher {
    next: usize,
    /// Those that were acknowledged.
    acknowledged: Vec<usize>,
}

impl Publisher {
    /// Publishes one after the other until the connection ends.
    async fn publish_until_the_end(&mut self, client: Client, topic: &str, qos: QoS) {
        let mut client = client;
        loop {
            let number = self.next;
            self.next += 1;
            match client.try_to_publish(topic, qos, number.to_string()).await {
                Ok(()) => self.acknowledged.push(number),
                Err(_) => return,
            }
        }
    }
}

/// A node dies while a client publishes there. The client goes on at another node.
#[test]
fn no_acknowledged_message_is_lost_with_a_node() {
    let servers = Servers::start("faults-node", 3);
    let mut nodes = Nodes::start("faults-node", &servers, 3);
    run(async {
        let mut reader = nodes.client(2, Version::V5, "reader").await;
        reader.subscribe("a/#", QoS::ExactlyOnce).await;
        let mut publisher = Publisher { next: 0, acknowledged: Vec::new() };
        for round in 0..4 {
            let node = round % 2;
            let qos = if round < 2 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
            let client = nodes.client(node, Version::V5, "writer").await;
            let before = publisher.next;
            let publishing = publisher.publish_until_the_end(client, "a/b", qos);
            let killing = async {
                tokio::time::sleep(std::time::Duration::from_millis(300)).await;
                nodes.kill(node);
            };
            tokio::join!(publishing, killing);
            assert!(publisher.next > before + 1, "it has published something");
            nodes.restart(node);
        }
        let mut writer = nodes.client(0, Version::V5, "last").await;
        writer.publish("a/end", QoS::AtLeastOnce, false, "").await;
        let messages = reader.receive_until("a/end").await;
        let numbers: Vec<usize> = messages
            .iter()
            .map(|message| std::str::from_utf8(&message.payload).expect("text").parse().expect("a number"))
            .collect();
        assert!(numbers.is_sorted(), "{numbers:?}");
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "each once: {numbers:?}");
        for number in publisher.acknowledged {
            assert!(numbers.binary_search(&number).is_ok(), "{number} was acknowledged and is lost");
        }
    });
}

/// A node stands still while others publish. NATS drops it, since it takes nothing. It goes on where it was.
#[test]
fn a_node_that_stood_still_misses_nothing() {
    const COUNT: usize = 1_500;
    let servers = Servers::start("faults-still", 3);
    let nodes = Nodes::start("faults-still", &servers, 2);
    run(async {
        let mut reader = nodes.client(1, Version::V5, "reader").await;
        reader.subscribe("a", QoS::AtLeastOnce).await;
        nodes.node(1).signal("STOP");
        let mut writer = nodes.client(0, Version::V311, "writer").await;
        let filling = "x".repeat(20_000);
        for number in 0..COUNT {
            writer.publish_one("a", format!("{number} {filling}")).await;
        }
        nodes.node(1).signal("CONT");
        for number in 0..COUNT {
            let message = reader.receive().await;
            let text = String::from_utf8(message.payload).expect("text");
            assert_eq!(text.split(' ').next(), Some(&*number.to_string()));
        }
    });
}

/// A node stands still for so long that the log no longer has what it has missed.
#[test]
fn a_node_that_is_left_behind_says_so() {
    let servers = Servers::start("faults-behind", 1);
    let nodes = Nodes::start_with("faults-behind", &servers, 2, "cluster_keep_bytes 2M\n");
    run(async {
        let mut reader = nodes.client(1, Version::V5, "reader").await;
        reader.subscribe("a/#", QoS::AtLeastOnce).await;
        let mut writer = nodes.client(0, Version::V5, "writer").await;
        writer.publish("a/kept", QoS::AtLeastOnce, true, "first").await;
        expect_kept(&mut reader, "first").await;
        nodes.node(1).signal("STOP");
        writer.publish("a/kept", QoS::AtLeastOnce, true, "last").await;
        let filling = "x".repeat(20_000);
        for _ in 0..1_500 {
            writer.publish_one("a/much", filling.clone()).await;
        }
        nodes.node(1).signal("CONT");
        nodes.node(1).wait_for_line("was cut off");
        // What is retained is not lost.
        let mut other = nodes.client(1, Version::V5, "other").await;
        other.subscribe("a/kept", QoS::AtLeastOnce).await;
        expect_kept(&mut other, "last").await;
        // And the reader is served again.
        writer.publish("a/end", QoS::AtLeastOnce, false, "").await;
        reader.receive_until("a/end").await;
    });
}

async fn expect_kept(reader: &mut Client, payload: &str) {
    let message = reader.receive().await;
    assert_eq!((&*message.topic, &*message.payload), ("a/kept", payload.as_bytes()));
}

/// All servers end at once and come back. Nothing that was acknowledged is lost.
#[test]
fn no_acknowledged_message_is_lost_when_all_servers_end() {
    let mut servers = Servers::start("faults-all", 3);
    let nodes = Nodes::start_with("faults-all", &servers, 2, "cluster_patience 60\n");
    run(async {
        let mut reader = nodes.client(1, Version::V5, "reader").await;
        reader.subscribe("a", QoS::AtLeastOnce).await;
        let mut writer = nodes.client(0, Version::V5, "writer").await;
        writer.publish_numbers("a", 0..500).await;
        (0..3).for_each(|number| servers.kill(number));
        (0..3).for_each(|number| servers.start_again(number));
        writer.publish_numbers("a", 500..1_000).await;
        expect(&mut reader, 0..1_000).await;
    });
}

/// A message that is too long for the servers ends the connection of its publisher alone.
#[test]
fn a_message_that_is_too_long_for_the_servers_is_refused() {
    let servers = Servers::start("faults-long", 1);
    let nodes = Nodes::start("faults-long", &servers, 1);
    run(async {
        let mut reader = nodes.client(0, Version::V5, "reader").await;
        reader.subscribe("a", QoS::AtLeastOnce).await;
        for (version, expected) in [(Version::V5, "PacketTooLarge"), (Version::V311, "")] {
            let client = nodes.client(0, version, "writer").await;
            let why = client.publish_in_vain("a", &"x".repeat(1_500_000)).await;
            assert!(why.contains(expected), "{why}");
        }
        nodes.node(0).wait_for_line("and the servers of the cluster take 1048");
        let mut writer = Options::new(nodes.node(0), Version::V5, "writer").connect().await;
        writer.publish("a", QoS::AtLeastOnce, false, "x".repeat(1_000_000)).await;
        assert_eq!(reader.receive().await.payload.len(), 1_000_000);
    });
}

/// The nodes do not accept packets of the same length. Each reads what the others have appended.
#[test]
fn a_node_with_a_small_packet_size_reads_what_others_append() {
    let servers = Servers::start("faults-small", 1);
    let mut nodes = Nodes::start("faults-small", &servers, 2);
    nodes.kill(1);
    nodes.add_line(1, "max_packet_size 500\n");
    nodes.restart(1);
    run(async {
        let mut reader = nodes.client(1, Version::V5, "reader").await;
        reader.subscribe("a", QoS::AtLeastOnce).await;
        let mut writer = nodes.client(0, Version::V5, "writer").await;
        for length in [10, 100_000, 1_000_000] {
            writer.publish_one("a", "x".repeat(length)).await;
            assert_eq!(reader.receive().await.payload.len(), length);
        }
    });
}
