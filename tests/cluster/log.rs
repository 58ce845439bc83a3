//! Messages that go through the log: acknowledged ones, and those that are retained.

use rumqttc::QoS;

use crate::mqtt::{Client, Version, in_both_versions, run};
use crate::nodes::Nodes;
use crate::servers::Servers;

const QOS: [QoS; 2] = [QoS::AtLeastOnce, QoS::ExactlyOnce];

/// Receives messages with the numbers of a range as their payloads, in order.
pub(crate) async fn expect(reader: &mut Client, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let message = reader.receive().await;
        assert_eq!(String::from_utf8(message.payload).expect("a number"), number.to_string());
    }
}

#[test]
fn messages_reach_the_clients_of_all_nodes_in_order() {
    let servers = Servers::start("log-order", 3);
    let nodes = Nodes::start("log-order", &servers, 3);
    in_both_versions(async |version| {
        let mut readers = Vec::new();
        for node in 0..3 {
            let mut reader = nodes.client(node, version, &format!("reader {node}")).await;
            reader.subscribe("plant/#", QoS::ExactlyOnce).await;
            readers.push(reader);
        }
        let mut writer = nodes.client(0, version, "writer").await;
        for (number, qos) in (0..200).zip(QOS.into_iter().cycle()) {
            writer.publish("plant/1", qos, false, number.to_string()).await;
        }
        writer.publish_numbers("plant/1", 200..2_000).await;
        for reader in &mut readers {
            expect(reader, 0..2_000).await;
        }
        for reader in readers {
            reader.disconnect().await;
        }
        writer.disconnect().await;
    });
}

#[test]
fn what_was_retained_before_is_sent_to_a_subscriber_of_any_node() {
    let servers = Servers::start("log-retained", 3);
    let mut nodes = Nodes::start("log-retained", &servers, 2);
    run(async {
        let mut writer = nodes.client(0, Version::V5, "writer").await;
        for number in 0..50_u32 {
            // The other node may not have read it when its client subscribes.
            writer.publish("state", QoS::AtLeastOnce, true, number.to_string()).await;
            let mut reader = nodes.client(1, Version::V311, "reader").await;
            reader.subscribe("state", QoS::AtLeastOnce).await;
            let message = reader.receive().await;
            assert_eq!((message.retain, message.payload), (true, number.to_string().into_bytes()));
            reader.disconnect().await;
        }
        writer.publish("other", QoS::AtMostOnce, true, "kept").await;
        writer.publish("gone", QoS::AtLeastOnce, true, "for a while").await;
        writer.publish("gone", QoS::AtLeastOnce, true, "").await;
        writer.publish("$own/x", QoS::AtLeastOnce, true, "out of reach of wildcards").await;
        writer.publish(&"long/".repeat(200), QoS::AtLeastOnce, true, "cut off in its subject").await;
    });
    // A node that has just started has the same.
    nodes.kill(1);
    nodes.kill(0);
    nodes.restart(1);
    run(async {
        let mut reader = nodes.client(1, Version::V5, "reader").await;
        for filter in ["#", "$own/#"] {
            reader.subscribe(filter, QoS::AtLeastOnce).await;
        }
        let mut found = Vec::new();
        for _ in 0..4 {
            let message = reader.receive().await;
            assert!(message.retain);
            found.push(String::from_utf8(message.payload).expect("it is text"));
        }
        found.sort_unstable();
        assert_eq!(found, ["49", "cut off in its subject", "kept", "out of reach of wildcards"]);
        reader.disconnect().await;
    });
}

/// Messages go from a client of one node to one of another while something is done to each server in turn.
fn exchange_while(name: &str, act: impl Fn(&mut Servers, usize), undo: impl Fn(&mut Servers, usize)) {
    let mut servers = Servers::start(name, 3);
    let nodes = Nodes::start_with(name, &servers, 2, "cluster_patience 60\n");
    run(async {
        let mut reader = nodes.client(1, Version::V5, "reader").await;
        reader.subscribe("a", QoS::AtLeastOnce).await;
        let mut writer = nodes.client(0, Version::V5, "writer").await;
        let mut next = 0;
        for server in 0..3 {
            for is_done in [true, false] {
                if is_done {
                    act(&mut servers, server)
                } else {
                    undo(&mut servers, server)
                }
                writer.publish_numbers("a", next..next + 500).await;
                expect(&mut reader, next..next + 500).await;
                next += 500;
            }
        }
    });
}

#[test]
fn no_acknowledged_message_is_lost_with_a_server_and_order_is_kept() {
    exchange_while("log-kills", Servers::kill, Servers::restart);
}

#[test]
fn no_acknowledged_message_is_lost_with_a_server_that_stands_still_and_order_is_kept() {
    exchange_while(
        "log-freezes",
        |servers, number| servers.freeze(number),
        |servers, number| servers.thaw(number),
    );
}

/// Most servers are away. Clients are refused after a while, and taken again once there are enough servers.
#[test]
fn clients_are_refused_while_most_servers_are_away() {
    let mut servers = Servers::start("log-away", 3);
    let nodes = Nodes::start_with("log-away", &servers, 1, "cluster_patience 3\n");
    run(async {
        let mut reader = nodes.client(0, Version::V5, "reader").await;
        reader.subscribe("a", QoS::AtMostOnce).await;
        let told = nodes.client(0, Version::V5, "told").await;
        let cut = nodes.client(0, Version::V311, "cut").await;
        servers.kill(1);
        servers.kill(2);
        for (client, expected) in [(told, "ServerBusy"), (cut, "")] {
            let why = client.publish_in_vain("a", "x").await;
            assert!(why.contains(expected), "{why}");
        }
        nodes.node(0).wait_for_line("clients are refused");
        for version in [Version::V311, Version::V5] {
            let why = nodes.refused_client(0, version).await;
            assert!(why.contains("ServerUnavailable") || why.contains("ServiceUnavailable"), "{why}");
        }
        // What needs no log goes on.
        reader.publish("a", QoS::AtMostOnce, false, "at home").await;
        assert_eq!(reader.receive().await.payload, b"at home");
        servers.restart(1);
        nodes.node(0).wait_for_line("The log of the cluster can be used again.");
        let mut writer = nodes.client(0, Version::V5, "writer").await;
        writer.publish("a", QoS::AtLeastOnce, false, "again").await;
        while reader.receive().await.payload != b"again" {}
    });
}
