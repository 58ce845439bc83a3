//! Messages that go from node to node at once.

use rumqttc::QoS;

use crate::mqtt::{Version, in_both_versions, run};
use crate::nodes::{Nodes, receive_soon, wait_until_heard};
use crate::servers::Servers;

#[test]
fn a_client_receives_what_one_of_another_node_publishes() {
    let servers = Servers::start("nodes-three", 3);
    let nodes = Nodes::start("three", &servers, 3);
    in_both_versions(async |version| {
        let mut writer = nodes.client(0, version, "writer").await;
        let mut readers = Vec::new();
        for node in 0..3 {
            let mut reader = nodes.client(node, version, &format!("reader {node}")).await;
            reader.subscribe("plant/+/heat", QoS::AtMostOnce).await;
            reader.subscribe("plant/#", QoS::AtMostOnce).await;
            wait_until_heard(&mut writer, &mut reader, "plant/1/heat").await;
            readers.push(reader);
        }
        writer.publish("plant/1/heat", QoS::AtMostOnce, false, "begin").await;
        for number in 0..500 {
            writer.publish("plant/1/heat", QoS::AtMostOnce, false, number.to_string()).await;
            writer.publish("hall/1/heat", QoS::AtMostOnce, false, "nobody wants it").await;
        }
        for reader in &mut readers {
            while reader.receive().await.payload != b"begin" {}
            for number in 0..500 {
                let message = reader.receive().await;
                assert_eq!(
                    (&*message.topic, message.payload),
                    ("plant/1/heat", number.to_string().into_bytes())
                );
            }
        }
        for reader in readers {
            reader.disconnect().await;
        }
    });
}

#[test]
fn a_node_whose_server_ends_goes_on_with_another() {
    let mut servers = Servers::start("nodes-lost", 3);
    let nodes = Nodes::start("lost", &servers, 2);
    run(async {
        let mut writer = nodes.client(0, Version::V5, "writer").await;
        let mut reader = nodes.client(1, Version::V5, "reader").await;
        reader.subscribe("a/#", QoS::AtMostOnce).await;
        wait_until_heard(&mut writer, &mut reader, "a/b").await;
        // First one is killed, then one stands still, then one is killed that was not before.
        servers.kill(0);
        wait_until_heard(&mut writer, &mut reader, "a/b").await;
        servers.restart(0);
        servers.freeze(1);
        wait_until_heard(&mut writer, &mut reader, "a/b").await;
        servers.kill(2);
        wait_until_heard(&mut writer, &mut reader, "a/b").await;
    });
}

#[test]
fn without_a_server_clients_of_a_node_are_served() {
    let mut servers = Servers::start("nodes-none", 1);
    let nodes = Nodes::start("none", &servers, 2);
    run(async {
        let mut writer = nodes.client(0, Version::V311, "writer").await;
        let mut here = nodes.client(0, Version::V311, "here").await;
        let mut there = nodes.client(1, Version::V311, "there").await;
        here.subscribe("a", QoS::AtMostOnce).await;
        there.subscribe("a", QoS::AtMostOnce).await;
        wait_until_heard(&mut writer, &mut there, "a").await;
        servers.kill(0);
        for node in 0..2 {
            nodes.node(node).wait_for_line("The connection to the NATS server ");
        }
        writer.publish("a", QoS::AtMostOnce, false, "alone").await;
        while here.receive().await.payload != b"alone" {}
        servers.restart(0);
        wait_until_heard(&mut writer, &mut there, "a").await;
        assert!(receive_soon(&mut there).await.is_none());
    });
}
