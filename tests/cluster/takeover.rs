//! A Client Identifier is connected at one node at a time: the later CONNECT wins.

use std::time::Duration;

use rumqttc::QoS;

use crate::mqtt::{Client, Options, Version, in_both_versions, run};
use crate::nodes::{Nodes, receive_soon, wait_until_heard};
use crate::servers::Servers;

/// Longer than a server of NATS may be silent.
const FROZEN: Duration = Duration::from_secs(4);

/// Waits for longer than the clocks of the nodes differ, so that the next CONNECT is the later one.
async fn wait_until_later() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

/// Waits until a client is told that it has connected elsewhere.
async fn wait_until_taken_over(client: Client, version: Version) {
    let (_, why) = client.wait_for_end().await;
    assert!(version == Version::V311 || why.contains("SessionTakenOver"), "{why}");
}

/// Whether a client is connected: it gets what it publishes itself.
async fn check_connected(client: &mut Client) {
    client.subscribe("echo", QoS::AtMostOnce).await;
    client.publish("echo", QoS::AtMostOnce, false, "here").await;
    while client.receive().await.payload != b"here" {}
}

#[test]
fn the_later_connect_wins_and_the_will_of_the_earlier_is_published() {
    let servers = Servers::start("takeover-two", 3);
    let nodes = Nodes::start("takeover", &servers, 3);
    in_both_versions(async |version| {
        let mut observer = nodes.client(0, version, "observer").await;
        observer.subscribe("wills/#", QoS::AtMostOnce).await;
        let options = |node: usize| Options {
            will: Some(("wills/one", "gone", QoS::AtMostOnce, false)),
            ..Options::new(nodes.node(node), version, "one")
        };
        let mut former = options(0).connect().await;
        for node in [1, 2, 1, 0, 2] {
            wait_until_later().await;
            let next = options(node).connect().await;
            wait_until_taken_over(former, version).await;
            former = next;
        }
        check_connected(&mut former).await;
        former.disconnect().await;
        // Those of the nodes 1 and 2 may be on their way before the observer's node is known to all servers.
        assert_eq!(observer.receive().await.payload, b"gone");
        while receive_soon(&mut observer).await.is_some() {}
        observer.disconnect().await;
    });
}

/// A session that outlives its connection ends, too, and so is not there when the client comes back.
#[test]
fn the_session_of_the_earlier_connection_ends() {
    let servers = Servers::start("takeover-session", 1);
    let nodes = Nodes::start("session", &servers, 2);
    run(async {
        let options = |node: usize| Options::persistent(nodes.node(node), Version::V5, "one");
        let first = options(0).connect().await;
        wait_until_later().await;
        let second = options(1).connect().await;
        wait_until_taken_over(first, Version::V5).await;
        wait_until_later().await;
        let third = options(0).connect().await;
        assert!(!third.session_present);
        wait_until_taken_over(second, Version::V5).await;
    });
}

#[test]
fn of_three_at_once_one_stays() {
    let servers = Servers::start("takeover-three", 3);
    let nodes = Nodes::start("at-once", &servers, 3);
    in_both_versions(async |version| {
        for round in 0..10 {
            let name = format!("one {round}");
            let (first, second, third) = tokio::join!(
                nodes.client(0, version, &name),
                nodes.client(1, version, &name),
                nodes.client(2, version, &name)
            );
            let (sender, mut ended) = tokio::sync::mpsc::unbounded_channel();
            let waiting: Vec<_> = [first, second, third]
                .into_iter()
                .map(|client| {
                    let sender = sender.clone();
                    tokio::spawn(async move {
                        client.wait_for_end().await;
                        let _ = sender.send(());
                    })
                })
                .collect();
            for _ in 0..2 {
                ended.recv().await.expect("a client has ended");
            }
            let third = tokio::time::timeout(Duration::from_millis(200), ended.recv()).await;
            assert!(third.is_err(), "one stays");
            waiting.iter().for_each(tokio::task::JoinHandle::abort);
        }
    });
}

/// Two programs with the same Client Identifier end each other's connection again and again. That is said once, and hurts
/// no one else.
#[test]
fn clients_that_take_over_in_turn_are_named_once() {
    const LINE: &str = "Client rivals connects here and at other nodes in turn";
    let servers = Servers::start("takeover-rivals", 1);
    let nodes = Nodes::start("rivals", &servers, 2);
    run(async {
        let mut writer = nodes.client(0, Version::V5, "writer").await;
        let mut reader = nodes.client(1, Version::V5, "reader").await;
        reader.subscribe("a", QoS::AtMostOnce).await;
        wait_until_heard(&mut writer, &mut reader, "a").await;
        let mut former = nodes.client(0, Version::V5, "rivals").await;
        for number in 1..=100_usize {
            wait_until_later().await;
            let next = nodes.client(number % 2, Version::V5, "rivals").await;
            wait_until_taken_over(former, Version::V5).await;
            former = next;
            writer.publish("a", QoS::AtMostOnce, false, number.to_string()).await;
        }
        for number in 1..=100 {
            assert_eq!(reader.receive().await.payload, number.to_string().into_bytes());
        }
        for node in 0..2 {
            assert!(nodes.node(node).wait_for_line(LINE).contains("Warning"));
            assert_eq!(nodes.node(node).lines_with(LINE).len(), 1);
        }
    });
}

/// A client that leaves one node and connects to the next is disturbed by nothing that is still said about it.
#[test]
fn a_client_may_go_from_node_to_node() {
    let servers = Servers::start("takeover-going", 3);
    let nodes = Nodes::start("going", &servers, 3);
    in_both_versions(async |version| {
        for number in 0..60 {
            let mut client = nodes.client(number % 3, version, "traveller").await;
            check_connected(&mut client).await;
            client.disconnect().await;
        }
        let mut client = nodes.client(0, version, "traveller").await;
        assert!(receive_soon(&mut client).await.is_none());
        check_connected(&mut client).await;
        client.disconnect().await;
        let expected = nodes.node(0).lines_with("session taken over at another node");
        assert!(expected.is_empty(), "{expected:?}");
    });
}

#[test]
fn while_nodes_do_not_hear_each_other_both_serve_a_client_and_then_one_does() {
    let mut servers = Servers::start("takeover-apart", 1);
    let nodes = Nodes::start("apart", &servers, 2);
    run(async {
        servers.kill(0);
        for node in 0..2 {
            nodes.node(node).wait_for_line("The connection to the NATS server ");
        }
        let mut first = nodes.client(0, Version::V5, "one").await;
        wait_until_later().await;
        let mut second = nodes.client(1, Version::V5, "one").await;
        let mut others = Vec::new();
        for number in 0..40 {
            others.push(nodes.client(number % 2, Version::V5, &format!("other {number}")).await);
        }
        // Subscriptions wait for the cluster.
        assert!(receive_soon(&mut first).await.is_none());
        assert!(receive_soon(&mut second).await.is_none());
        servers.restart(0);
        wait_until_taken_over(first, Version::V5).await;
        check_connected(&mut second).await;
        for other in &mut others {
            check_connected(other).await;
        }
    });
}

/// The client of a frozen node goes to another one. When the node wakes, it finds that out; or the client has come back to
/// it in the meantime, and then it is the other node that ends a connection.
#[test]
fn a_node_that_was_frozen_finds_out() {
    let servers = Servers::start("takeover-frozen", 1);
    let nodes = Nodes::start("frozen", &servers, 2);
    run(async {
        let first = nodes.client(0, Version::V5, "one").await;
        nodes.node(0).signal("STOP");
        wait_until_later().await;
        let mut second = nodes.client(1, Version::V5, "one").await;
        tokio::time::sleep(FROZEN).await;
        nodes.node(0).signal("CONT");
        wait_until_taken_over(first, Version::V5).await;
        check_connected(&mut second).await;

        nodes.node(0).signal("STOP");
        tokio::time::sleep(FROZEN).await;
        let waking = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            nodes.node(0).signal("CONT");
        };
        let (mut third, ()) = tokio::join!(nodes.client(0, Version::V5, "one"), waking);
        wait_until_taken_over(second, Version::V5).await;
        check_connected(&mut third).await;
    });
}
